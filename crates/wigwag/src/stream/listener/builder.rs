//! What a listener may state before it binds.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::contract::Contract;
use crate::error::Result;
use crate::form::Form;
use crate::options::{Access, Limits, ListenOptions};
use crate::service::accept_queue::AcceptQueue;
use crate::service::launch::Launch;
use crate::service::service::Service;
use crate::service::settings::listen_settings;
use crate::service::shared::ServiceShared;
use crate::stream::listener::StreamListener;
use crate::wait::policy::Wait;

/// Builds a [`StreamListener`] with a policy, limits or a contract of its own. What it does not set has the default
/// shown.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let listener = wigwag::StreamListener::builder()
///     .ring_bytes(64 << 10)         // 2 MiB: under way in each direction
///     .backlog(16)                  // 128: wait to be accepted
///     .max_sessions(100)            // 4096
///     .wait(wigwag::Wait::Park)     // Adaptive
///     .bind(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it binds"]
pub struct StreamListenerBuilder {
    options: ListenOptions,
}

impl From<ListenOptions> for StreamListenerBuilder {
    fn from(options: ListenOptions) -> StreamListenerBuilder {
        StreamListenerBuilder { options: options.in_form(Form::Stream) }
    }
}

impl StreamListenerBuilder {
    /// The most bytes that can be under way in each direction, and what a stream gets that does not ask: a power of two
    /// from 4 KiB to 1 GiB, default 2 MiB. Memory is used as it is written to, so a stream that lives long comes to
    /// have all of it: a program with thousands of streams gives each less.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().ring_bytes(1 << 20);
    /// ```
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.options.limits = self.options.limits.capacity(bytes);
        self
    }

    /// The most streams that wait to be accepted, default 128; the next one is refused.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().backlog(1);
    /// ```
    pub fn backlog(mut self, streams: usize) -> Self {
        self.options = self.options.backlog(streams);
        self
    }

    listen_settings!("wigwag::StreamListener::builder()");

    /// Takes the name and starts to listen.
    ///
    /// # Errors
    /// As [`StreamListener::bind`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number
    /// outside of its limits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::builder().backlog(4).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<StreamListener> {
        let wait = self.options.wait;
        let mut launch = Launch::claim(name.as_ref(), self.options)?;
        let accept_queue = Arc::new(AcceptQueue::new(launch.options.backlog)?);
        launch.accept_queue = Some(Arc::clone(&accept_queue));
        let service = Service::start(ServiceShared::new(&launch)?, launch)?;
        let is_nonblocking = AtomicBool::new(false);
        Ok(StreamListener { service, accept_queue, wait, is_nonblocking })
    }
}
