//! What a receiver may state before it binds.

use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::contract::Contract;
use crate::error::Result;
use crate::form::Form;
use crate::options::{Access, Limits, ListenOptions};
use crate::queue::intake::MessageWorker;
use crate::queue::receiver::{Leadership, Received, Receiver};
use crate::service::launch::Launch;
use crate::service::service::Service;
use crate::service::settings::listen_settings;
use crate::service::shared::ServiceShared;
use crate::wait::policy::Wait;

/// Builds a [`Receiver`] with a policy, limits or a contract of its own. What it does not set has the default shown.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
/// let receiver = wigwag::Receiver::builder()
///     .slots(1024)                  // 256: messages of a sender under way
///     .capacity(1 << 20)            // 64 KiB: the longest message
///     .max_sessions(100)            // 4096: senders at a time
///     .wait(wigwag::Wait::Park)     // Adaptive
///     .bind(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it binds"]
pub struct ReceiverBuilder {
    options: ListenOptions,
}

impl From<ListenOptions> for ReceiverBuilder {
    fn from(options: ListenOptions) -> ReceiverBuilder {
        ReceiverBuilder { options: options.in_form(Form::Queue) }
    }
}

impl ReceiverBuilder {
    /// The most messages of one sender that can be under way, sent and not acknowledged, and what a sender gets that
    /// does not ask: 1 to 4096, default 256.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().slots(1024);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.options.limits = self.options.limits.slots(slots);
        self
    }

    /// The longest message in bytes, and what a sender gets that does not ask: 0 to 1 GiB, default 64 KiB.
    ///
    /// Memory is used for what is written, not for what is allowed.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().capacity(1 << 20);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.options.limits = self.options.limits.capacity(bytes);
        self
    }

    /// Whether file descriptors may travel with messages, default no:
    /// [`ListenOptions::descriptors`] says more.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().descriptors(true);
    /// ```
    pub fn descriptors(mut self, may_travel: bool) -> Self {
        self.options = self.options.descriptors(may_travel);
        self
    }

    listen_settings!("wigwag::Receiver::builder()");

    /// Takes the name and starts to accept senders.
    ///
    /// # Errors
    /// As [`Receiver::bind`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of
    /// its limits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::builder().slots(4).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<Receiver> {
        let wait = self.options.wait;
        let launch = Launch::claim(name.as_ref(), self.options)?;
        let shared = ServiceShared::new(&launch)?;
        let worker = Box::new(MessageWorker::new(Arc::clone(&shared), Arc::clone(&shared.mailboxes()[0]), wait)?);
        let service = Service::start(shared, launch)?;
        let leadership = Mutex::new(Leadership { worker: Some(worker), waiting: 0, received: Received::default() });
        Ok(Receiver { service, leadership, returned: Condvar::new(), is_armed: false })
    }
}
