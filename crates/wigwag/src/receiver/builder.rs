//! What a receiver may state before it binds.

use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{Desk, Received, Receiver};
use crate::contract::{Contract, Form};
use crate::control::core::Core;
use crate::control::host::Host;
use crate::control::policy::{Limits, Policy};
use crate::control::rendezvous::Place;
use crate::control::settings::host_settings;
use crate::control::steward::Orders;
use crate::error::Result;
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

    host_settings! {
        builder: "wigwag::Receiver::builder()",
        who_waits: "receiving threads wait",
        sessions: "senders",
        session: "sender",
        host: "receiver",
        peer: "sender",
        what_counts: "; one that is gone counts until what it sent is received",
        what_is_copied: "What such a sender sends is copied before it is handed out",
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
        let Self { policy, limits, contract, wait } = self;
        let orders = Orders { claim, policy, limits, contract, wait, is_counting: true, arrivals: None };
        let core = Core::new(&orders)?;
        let worker = Box::new(Worker::new(Arc::clone(&core), Arc::clone(&core.ports()[0]), wait)?);
        let host = Host::start(core, orders)?;
        let desk = Mutex::new(Desk { worker: Some(worker), waiting: 0, received: Received::default() });
        Ok(Receiver { host, desk, returned: Condvar::new() })
    }
}
