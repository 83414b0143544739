//! What a stream may wish for before it connects.

use std::ffi::OsStr;
use std::time::Duration;

use super::Stream;
use crate::contract::{Contract, Form};
use crate::control::attach::{self, Wishes};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CAPACITY_MAX, RING_MIN, RINGS, is_ring};
use crate::link::Link;
use crate::wait::Wait;

/// Builds a [`Stream`] with wishes of its own. What it does not set, the listener states.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
/// # let listener = wigwag::StreamListener::bind(name)?;
/// let stream = wigwag::Stream::builder()
///     .ring_bytes(64 << 10)                          // under way in each direction
///     .wait(wigwag::Wait::Park)                      // never spin
///     .timeout(std::time::Duration::from_secs(1))    // for the handshake; 5 seconds
///     .connect(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct StreamBuilder {
    wishes: Wishes,
    wait: Wait,
}

impl StreamBuilder {
    pub(super) fn new() -> StreamBuilder {
        let wishes = Wishes {
            slots: Some(RINGS),
            capacity: None,
            contract: Contract::bytes().in_form(Form::Stream),
            server_uid: None,
            timeout: Duration::from_secs(5),
        };
        StreamBuilder { wishes, wait: Wait::default() }
    }

    /// How many bytes can be under way in each direction: a power of two from 4 KiB to 1 GiB; refused above what the
    /// listener allows.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().ring_bytes(1 << 20);
    /// ```
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.wishes.capacity = Some(bytes);
        self
    }

    /// How this end waits, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long the handshake may take, default 5 seconds.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().timeout(std::time::Duration::from_millis(300));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.wishes.timeout = timeout;
        self
    }

    /// What is spoken over the stream, default plain bytes; a listener with another contract refuses.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().contract(wigwag::Contract::named("http", 1));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.wishes.contract = contract.in_form(Form::Stream);
        self
    }

    /// Expects a listener of another user. What it writes is then copied before it is lent by `fill_buf`.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().server_user(1001);
    /// ```
    pub fn server_user(mut self, uid: u32) -> Self {
        self.wishes.server_uid = Some(uid);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Stream::connect`]; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for a number outside of its limits.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// let stream = wigwag::Stream::builder().connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(self, name: impl AsRef<OsStr>) -> Result<Stream> {
        if let Some(bytes) = self.wishes.capacity {
            check_ring(bytes)?;
        }
        self.wishes.contract.check()?;
        let attachment = attach::attach(name.as_ref(), &self.wishes)?;
        Ok(Stream::new(Link::connected(attachment, self.wait)?))
    }
}

/// Whether a ring may have that size.
pub fn check_ring(bytes: usize) -> Result<()> {
    if is_ring(bytes) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidConfiguration,
        format!("a ring of {bytes} bytes is not possible: it must be a power of two from {RING_MIN} to {CAPACITY_MAX}"),
    ))
}
