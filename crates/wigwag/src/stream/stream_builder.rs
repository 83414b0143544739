//! What a stream may wish for before it connects.

use std::ffi::OsStr;
use std::time::Duration;

use crate::contract::Contract;
use crate::error::Result;
use crate::form::Form;
use crate::options::ConnectOptions;
use crate::session::connect::{self, Established};
use crate::stream::endpoint::Endpoint;
use crate::stream::stream::Stream;
use crate::wait::policy::Wait;

/// Builds a [`Stream`] with options. What it does not set, the listener decides.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
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
    options: ConnectOptions,
}

impl From<ConnectOptions> for StreamBuilder {
    fn from(options: ConnectOptions) -> StreamBuilder {
        StreamBuilder { options: options.in_form(Form::Stream) }
    }
}

impl StreamBuilder {
    /// All that these options say, in the place of all that was set before.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().wait(wigwag::Wait::Park);
    /// let builder = wigwag::Stream::builder().options(options);
    /// ```
    pub fn options(self, options: ConnectOptions) -> Self {
        options.into()
    }

    /// How many bytes can be under way in each direction: a power of two from 4 KiB to 1 GiB; refused above what the
    /// listener allows.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().ring_bytes(1 << 20);
    /// ```
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.options = self.options.capacity(bytes);
        self
    }

    /// How this end waits, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.options = self.options.wait(wait);
        self
    }

    /// How long the handshake may take, default 5 seconds.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().timeout(std::time::Duration::from_millis(300));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// How long to wait for a listener while there is none, default zero: not at all. `Duration::MAX` is for ever.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().server_timeout(std::time::Duration::from_secs(10));
    /// ```
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.server_timeout(timeout);
        self
    }

    /// What is spoken over the stream, default plain bytes; a listener with another contract refuses.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().contract(wigwag::Contract::named("http", 1));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.options = self.options.contract(contract).in_form(Form::Stream);
        self
    }

    /// Expects a listener of another user. What it writes is then copied before it is lent by `fill_buf`.
    ///
    /// ```
    /// let builder = wigwag::Stream::builder().server_user(1001);
    /// ```
    pub fn server_user(mut self, uid: u32) -> Self {
        self.options = self.options.server_user(uid);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Stream::connect`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of
    /// its limits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// let stream = wigwag::Stream::builder().connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(self, name: impl AsRef<OsStr>) -> Result<Stream> {
        let established = connect::attach(name.as_ref(), &self.checked_options()?)?;
        self.connected(established)
    }

    /// What is asked of a listener.
    pub(crate) fn checked_options(&self) -> Result<ConnectOptions> {
        self.options.check()?;
        Ok(self.options.clone())
    }

    /// The stream of a session that was made by these wishes.
    pub(crate) fn connected(self, established: Established) -> Result<Stream> {
        Ok(Stream::new(Endpoint::connected(established, self.options.wait)?))
    }
}
