//! What a client may wish for before it connects.

use std::cell::Cell;
use std::ffi::OsStr;
use std::time::Duration;

use super::{Client, Counters};
use crate::connection::Connection;
use crate::contract::Contract;
use crate::control::attach::{self, Wishes};
use crate::error::Result;
use crate::free_slots::FreeSlots;
use crate::slot;
use crate::wait::Wait;

/// Builds a [`Client`] with wishes of its own. What it does not set, the server states.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("b"); let name = &name;
/// # let server = wigwag::Server::bind(name)?;
/// let client = wigwag::Client::builder()
///     .slots(4)                                      // calls in flight
///     .capacity(64 << 10)                            // largest payload in bytes
///     .wait(wigwag::Wait::Park)                      // never spin
///     .timeout(std::time::Duration::from_secs(1))    // for the handshake; 5 seconds
///     .connect(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    wishes: Wishes,
    wait: Wait,
}

impl ClientBuilder {
    pub(super) fn new() -> ClientBuilder {
        let wishes = Wishes {
            slots: None,
            capacity: None,
            contract: Contract::bytes(),
            server_uid: None,
            timeout: Duration::from_secs(5),
        };
        ClientBuilder { wishes, wait: Wait::default() }
    }

    /// How many calls can be in flight; refused above what the server allows.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().slots(64);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.wishes.slots = Some(slots);
        self
    }

    /// The largest payload in bytes, request or reply; refused above what the server allows.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().capacity(4096);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.wishes.capacity = Some(bytes);
        self
    }

    /// How this client waits for replies, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::Client::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long the handshake may take, default 5 seconds.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().timeout(std::time::Duration::from_millis(300));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.wishes.timeout = timeout;
        self
    }

    /// What this client speaks, default plain bytes; a server with another contract refuses.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().contract(wigwag::Contract::named("frames", 2));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.wishes.contract = contract;
        self
    }

    /// Expects a server of another user. Its memory is then as trustworthy as that user: it may change while you read it.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().server_user(1001);
    /// ```
    pub fn server_user(mut self, uid: u32) -> Self {
        self.wishes.server_uid = Some(uid);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Client::connect`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of its limits.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("b"); let name = &name;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(self, name: impl AsRef<OsStr>) -> Result<Client> {
        self.wishes.check()?;
        let name = name.as_ref();
        let attachment = attach::attach(name, &self.wishes)?;
        let slots = attachment.segment.geometry().slots;
        let client = Client {
            connection: Connection::new(attachment, self.wait),
            free: FreeSlots::new(slots),
            sequences: (0..slots).map(|_| Cell::new(slot::before_first())).collect(),
            counters: Counters::default(),
            name: name.to_owned(),
            builder: self,
        };
        client.publish_depth();
        Ok(client)
    }
}
