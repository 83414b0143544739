//! What a receiver may state before it binds.

use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{Desk, Receiver};
use crate::contract::{Contract, Form};
use crate::control::core::Core;
use crate::control::policy::{Limits, Policy};
use crate::control::rendezvous::Place;
use crate::control::steward::{self, Orders};
use crate::error::Result;
use crate::sys::fork::ForkGuard;
use crate::wait::Wait;
use crate::worker::Worker;

/// Builds a [`Receiver`] with a policy, limits or a contract of its own. What it does not set has the default shown.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
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
    policy: Policy,
    limits: Limits,
    contract: Contract,
    wait: Wait,
}

/// Messages under way for senders that state no wish.
const SLOTS: usize = 256;
/// Bytes of the longest message for senders that state no wish.
const CAPACITY: usize = 64 << 10;

impl ReceiverBuilder {
    pub(super) fn new() -> ReceiverBuilder {
        ReceiverBuilder {
            policy: Policy::default(),
            limits: Limits { slots: SLOTS, capacity: CAPACITY, ..Limits::default() },
            contract: Contract::bytes().in_form(Form::Queue),
            wait: Wait::default(),
        }
    }

    /// The most messages of one sender that can be under way, sent and not acknowledged, and what a sender gets that does not
    /// ask: 1 to 4096, default 256.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().slots(1024);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.limits.slots = slots;
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
        self.limits.capacity = bytes;
        self
    }

    /// How receiving threads wait, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The most senders at a time, default 4096. One that is gone counts until what it sent is received.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().max_sessions(8);
    /// ```
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.limits.sessions = sessions;
        self
    }

    /// The most senders of one user at a time, default 4096 for the receiver's own user and 256 for each other.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().allow_everyone().max_sessions_per_user(4);
    /// ```
    pub fn max_sessions_per_user(mut self, sessions: usize) -> Self {
        self.limits.sessions_per_user = sessions;
        self.limits.sessions_per_stranger = sessions;
        self
    }

    /// The most bytes one sender's segment may have, default 8 GiB. It bounds address space; memory is used as written.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().max_bytes_per_session(64 << 20);
    /// ```
    pub fn max_bytes_per_session(mut self, bytes: usize) -> Self {
        self.limits.bytes_per_session = bytes;
        self
    }

    /// The most bytes all segments may have together, default 64 GiB.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().max_bytes_total(1 << 30);
    /// ```
    pub fn max_bytes_total(mut self, bytes: usize) -> Self {
        self.limits.bytes_total = bytes;
        self
    }

    /// The most handshakes under way at a time, default 256.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().max_handshakes(16);
    /// ```
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.limits.handshakes = handshakes;
        self
    }

    /// How long a sender may take to shake hands, default 1 second.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().handshake_timeout(std::time::Duration::from_millis(200));
    /// ```
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.limits.handshake_timeout = timeout;
        self
    }

    /// Lets another user in. What such a sender sends is copied before it is handed out; see SECURITY.md.
    ///
    /// The runtime directory of a user is closed to all others: bind to an absolute path that they can reach.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().allow_user(1001);
    /// ```
    pub fn allow_user(mut self, uid: u32) -> Self {
        self.policy.users.push(uid);
        self
    }

    /// Lets the members of a group in, as [`allow_user`](ReceiverBuilder::allow_user).
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().allow_group(100);
    /// ```
    pub fn allow_group(mut self, gid: u32) -> Self {
        self.policy.groups.push(gid);
        self
    }

    /// Lets everybody in, as [`allow_user`](ReceiverBuilder::allow_user).
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().allow_everyone();
    /// ```
    pub fn allow_everyone(mut self) -> Self {
        self.policy.everyone = true;
        self
    }

    /// What the messages are, default plain bytes; who speaks another contract is refused.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().contract(wigwag::Contract::named("log lines", 1));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.contract = contract.in_form(Form::Queue);
        self
    }

    /// Takes the name and starts to accept senders.
    ///
    /// # Errors
    /// As [`Receiver::bind`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of its limits.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::builder().slots(4).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<Receiver> {
        self.limits.check()?;
        self.contract.check()?;
        let claim = Place::find(name.as_ref())?.claim(&self.policy)?;
        let path = claim.place().path();
        let Self { policy, limits, contract, wait } = self;
        let orders = Orders { claim, policy, limits, contract, wait, is_counting: true, arrivals: None };
        let core = Core::new(&orders)?;
        let worker = Box::new(Worker::new(Arc::clone(&core), Arc::clone(&core.ports()[0]), wait)?);
        let steward = Some(steward::start(Arc::clone(&core), orders)?);
        let desk = Mutex::new(Desk { worker: Some(worker), waiting: 0, received: 0, redelivered: 0 });
        Ok(Receiver { core, steward, path, desk, returned: Condvar::new(), fork: ForkGuard::new() })
    }
}
