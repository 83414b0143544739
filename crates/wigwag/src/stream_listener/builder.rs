//! What a listener may state before it binds.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::StreamListener;
use crate::contract::{Contract, Form};
use crate::control::arrivals::Arrivals;
use crate::control::core::Core;
use crate::control::policy::{Limits, Policy};
use crate::control::rendezvous::Place;
use crate::control::steward::{self, Orders};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::RINGS;
use crate::stream::check_ring;
use crate::sys::fork::ForkGuard;
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

    /// How the accepted ends wait, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The most streams at a time, accepted ones that live on included, default 4096.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().max_sessions(8);
    /// ```
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.limits.sessions = sessions;
        self
    }

    /// The most streams of one user at a time, default 4096 for the listener's own user and 256 for each other.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().allow_everyone().max_sessions_per_user(4);
    /// ```
    pub fn max_sessions_per_user(mut self, sessions: usize) -> Self {
        self.limits.sessions_per_user = sessions;
        self.limits.sessions_per_stranger = sessions;
        self
    }

    /// The most bytes one stream's segment may have, default 8 GiB. It bounds address space; memory is used as written.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().max_bytes_per_session(64 << 20);
    /// ```
    pub fn max_bytes_per_session(mut self, bytes: usize) -> Self {
        self.limits.bytes_per_session = bytes;
        self
    }

    /// The most bytes all segments may have together, default 64 GiB.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().max_bytes_total(1 << 30);
    /// ```
    pub fn max_bytes_total(mut self, bytes: usize) -> Self {
        self.limits.bytes_total = bytes;
        self
    }

    /// The most handshakes under way at a time, default 256.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().max_handshakes(16);
    /// ```
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.limits.handshakes = handshakes;
        self
    }

    /// How long a client may take to shake hands, default 1 second.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().handshake_timeout(std::time::Duration::from_millis(200));
    /// ```
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.limits.handshake_timeout = timeout;
        self
    }

    /// Lets another user in. What such a peer writes is copied before `fill_buf` lends it; see SECURITY.md.
    ///
    /// The runtime directory of a user is closed to all others: bind to an absolute path that they can reach.
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().allow_user(1001);
    /// ```
    pub fn allow_user(mut self, uid: u32) -> Self {
        self.policy.users.push(uid);
        self
    }

    /// Lets the members of a group in, as [`allow_user`](StreamListenerBuilder::allow_user).
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().allow_group(100);
    /// ```
    pub fn allow_group(mut self, gid: u32) -> Self {
        self.policy.groups.push(gid);
        self
    }

    /// Lets everybody in, as [`allow_user`](StreamListenerBuilder::allow_user).
    ///
    /// ```
    /// let builder = wigwag::StreamListener::builder().allow_everyone();
    /// ```
    pub fn allow_everyone(mut self) -> Self {
        self.policy.everyone = true;
        self
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
        let path = claim.place().path();
        let orders = Orders {
            claim,
            policy: self.policy,
            limits: self.limits,
            contract: self.contract,
            wait: self.wait,
            is_counting: true,
            arrivals: Some(Arc::clone(&arrivals)),
        };
        let core = Core::new(&orders)?;
        let steward = Some(steward::start(Arc::clone(&core), orders)?);
        let is_nonblocking = AtomicBool::new(false);
        Ok(StreamListener { core, arrivals, steward, path, wait: self.wait, is_nonblocking, fork: ForkGuard::new() })
    }
}
