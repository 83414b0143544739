//! What a listener may state before it binds.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::StreamListener;
use crate::contract::{Contract, Form};
use crate::control::arrivals::Arrivals;
use crate::control::core::Core;
use crate::control::host::Host;
use crate::control::policy::{Limits, Policy};
use crate::control::rendezvous::Place;
use crate::control::settings::host_settings;
use crate::control::steward::Orders;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::RINGS;
use crate::stream::check_ring;
use crate::wait::Wait;

/// Builds a [`StreamListener`] with a policy, limits or a contract of its own. What it does not set has the default shown.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
    policy: Policy,
    limits: Limits,
    contract: Contract,
    wait: Wait,
    backlog: usize,
}

/// Bytes of a ring for streams that state no wish.
///
/// Larger than a second-level cache on purpose. In a ring that fits there, each line is still in the other processor's cache
/// when it is written again, and fetching it from there is the slowest way: 1.3 to 4 times the time of one that has
/// long gone to the cache that both share (docs/benchmarks.md).
const RING_BYTES: usize = 2 << 20;
/// Streams that may wait to be accepted.
const BACKLOG: usize = 128;

impl StreamListenerBuilder {
    pub(super) fn new() -> StreamListenerBuilder {
        StreamListenerBuilder {
            policy: Policy::default(),
            limits: Limits { slots: RINGS, capacity: RING_BYTES, ..Limits::default() },
            contract: Contract::bytes().in_form(Form::Stream),
            wait: Wait::default(),
            backlog: BACKLOG,
        }
    }

    /// The most bytes that can be under way in each direction, and what a stream gets that does not ask: a power of two from
    /// 4 KiB to 1 GiB, default 2 MiB. Memory is used as it is written to, so a stream that lives long comes to have all
    /// of it: whoever has thousands of streams gives each less.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().ring_bytes(1 << 20);
    /// ```
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.limits.capacity = bytes;
        self
    }

    /// The most streams that wait to be accepted, default 128; the next one is refused.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().backlog(1);
    /// ```
    pub fn backlog(mut self, streams: usize) -> Self {
        self.backlog = streams;
        self
    }

    host_settings! {
        builder: "wigwag::StreamListener::builder()",
        who_waits: "the accepted ends wait",
        sessions: "streams",
        session: "stream",
        host: "listener",
        peer: "client",
        what_counts: ", accepted ones that live on included",
        what_is_copied: "What such a peer writes is copied before `fill_buf` lends it",
    }

    /// What is spoken over the streams, default plain bytes; who speaks another contract is refused.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().contract(wigwag::Contract::named("http", 1));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.contract = contract.in_form(Form::Stream);
        self
    }

    /// Takes the name and starts to listen.
    ///
    /// # Errors
    /// As [`StreamListener::bind`]; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for a number outside of its limits.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// let listener = wigwag::StreamListener::builder().backlog(4).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<StreamListener> {
        check_ring(self.limits.capacity)?;
        if self.backlog == 0 {
            return Err(Error::new(
                ErrorKind::InvalidConfiguration,
                "with a backlog of 0 nobody can connect: 1 is the least",
            ));
        }
        self.contract.check()?;
        let claim = Place::find(name.as_ref())?.claim(&self.policy)?;
        let arrivals = Arc::new(Arrivals::new(self.backlog)?);
        let orders = Orders {
            claim,
            policy: self.policy,
            limits: self.limits,
            contract: self.contract,
            wait: self.wait,
            is_counting: true,
            arrivals: Some(Arc::clone(&arrivals)),
        };
        let host = Host::start(Core::new(&orders)?, orders)?;
        let is_nonblocking = AtomicBool::new(false);
        Ok(StreamListener { host, arrivals, wait: self.wait, is_nonblocking })
    }
}
