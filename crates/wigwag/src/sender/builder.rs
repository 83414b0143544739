//! What a sender may wish for before it connects.

use std::ffi::OsStr;
use std::time::Duration;

use super::{Counters, LOOKS_FOR_HALF_MAX, Sender};
use crate::contract::{Contract, Form};
use crate::control::attach::Wishes;
use crate::error::Result;
use crate::outbox::Outbox;
use crate::slot;
use crate::sys::clock;
use crate::wait::Wait;

/// Builds a [`Sender`] with wishes of its own. What it does not set, the receiver states.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
/// # let receiver = wigwag::Receiver::bind(name)?;
/// let sender = wigwag::Sender::builder()
///     .slots(64)                                              // messages under way
///     .capacity(4 << 10)                                      // longest message in bytes
///     .receiver_timeout(std::time::Duration::from_secs(30))   // none: wait so long for a receiver that is missing
///     .wait(wigwag::Wait::Park)                               // never spin
///     .connect(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct SenderBuilder {
    pub(super) wishes: Wishes,
    pub(super) wait: Wait,
    pub(super) receiver_timeout: Duration,
}

impl SenderBuilder {
    pub(super) fn new() -> SenderBuilder {
        let wishes = Wishes {
            slots: None,
            capacity: None,
            contract: Contract::bytes().in_form(Form::Queue),
            server_uid: None,
            timeout: Duration::from_secs(5),
        };
        SenderBuilder { wishes, wait: Wait::default(), receiver_timeout: Duration::ZERO }
    }

    /// How many messages can be under way, sent and not acknowledged; refused above what the receiver allows.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().slots(1024);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.wishes.slots = Some(slots);
        self
    }

    /// The longest message in bytes; refused above what the receiver allows.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().capacity(4096);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.wishes.capacity = Some(bytes);
        self
    }

    /// How long to wait for a receiver while there is none, in connecting and in each later call; default zero: not at all.
    ///
    /// A receiver that is restarted is missing for a moment. Within this time its senders wait for the successor, which then
    /// gets what was not acknowledged; beyond it the call fails with [`NotRunning`](crate::ErrorKind::NotRunning), and what was sent
    /// before is kept for the next call. `Duration::MAX` is for ever.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().receiver_timeout(std::time::Duration::from_secs(10));
    /// ```
    pub fn receiver_timeout(mut self, timeout: Duration) -> Self {
        self.receiver_timeout = timeout;
        self
    }

    /// How this sender waits for room and for acknowledgements, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long each handshake may take, default 5 seconds.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().timeout(std::time::Duration::from_millis(300));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.wishes.timeout = timeout;
        self
    }

    /// What the messages are, default plain bytes; a receiver with another contract refuses.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().contract(wigwag::Contract::named("log lines", 1));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.wishes.contract = contract.in_form(Form::Queue);
        self
    }

    /// Expects a receiver of another user.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().receiver_user(1001);
    /// ```
    pub fn receiver_user(mut self, uid: u32) -> Self {
        self.wishes.server_uid = Some(uid);
        self
    }

    /// Connects, once there is a receiver.
    ///
    /// # Errors
    /// As [`Sender::connect`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of its limits.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::Sender::builder().connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(self, name: impl AsRef<OsStr>) -> Result<Sender> {
        self.wishes.check()?;
        let name = name.as_ref();
        let deadline = clock::deadline_after(self.receiver_timeout);
        let connection = self.find_receiver(name, self.wishes.clone(), deadline)?;
        let slots = connection.geometry().slots;
        Ok(Sender {
            connection,
            outbox: Outbox::new(slots, slot::before_first()),
            name: name.to_owned(),
            builder: self,
            alive_at: clock::tick(),
            looks_for_half: LOOKS_FOR_HALF_MAX,
            counters: Counters::default(),
        })
    }
}
