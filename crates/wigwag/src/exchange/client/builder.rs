//! What a client may wish for before it connects.

use std::ffi::OsStr;
use std::time::Duration;

use crate::contract::Contract;
use crate::error::Result;
use crate::exchange::caller::Caller;
use crate::exchange::client::Client;
use crate::exchange::sessions::Sessions;
use crate::form::Form;
use crate::options::ConnectOptions;
use crate::session::connect::{self, Established};
use crate::wait::policy::Wait;

/// Builds a [`Client`] with options. What it does not set, the server decides.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("b").path;
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
    options: ConnectOptions,
}

impl From<ConnectOptions> for ClientBuilder {
    fn from(options: ConnectOptions) -> ClientBuilder {
        ClientBuilder { options: options.in_form(Form::Exchange) }
    }
}

impl ClientBuilder {
    /// All that these options say, in the place of all that was set before.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().wait(wigwag::Wait::Park);
    /// let builder = wigwag::Client::builder().options(options);
    /// ```
    pub fn options(self, options: ConnectOptions) -> Self {
        options.into()
    }

    /// How values become bytes.
    #[cfg(feature = "serde")]
    pub(crate) fn encoding(&self) -> crate::contract::Encoding {
        self.options.contract.encoding
    }

    /// How many calls can be in flight; refused above what the server allows.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().slots(64);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.options = self.options.slots(slots);
        self
    }

    /// The largest payload in bytes, request or reply; refused above what the server allows.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().capacity(4096);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.options = self.options.capacity(bytes);
        self
    }

    /// How this client waits for replies, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::Client::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.options = self.options.wait(wait);
        self
    }

    /// How long the handshake may take, default 5 seconds.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().timeout(std::time::Duration::from_millis(300));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// How long to wait for a server while there is none, default zero: not at all. `Duration::MAX` is for ever.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().server_timeout(std::time::Duration::from_secs(10));
    /// ```
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.server_timeout(timeout);
        self
    }

    /// What this client speaks, default plain bytes; a server with another contract refuses.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().contract(wigwag::Contract::named("frames", 2));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.options = self.options.contract(contract);
        self
    }

    /// Expects a server of another user. Its memory is then as trustworthy as that user: it may change while you read
    /// it.
    ///
    /// ```
    /// let builder = wigwag::Client::builder().server_user(1001);
    /// ```
    pub fn server_user(mut self, uid: u32) -> Self {
        self.options = self.options.server_user(uid);
        self
    }

    /// Whether file descriptors may travel with requests and replies, default no:
    /// [`ConnectOptions::descriptors`] says more.
    ///
    /// ```
    /// # use std::io::Read;
    /// # let name = &wigwag_testing::temporary_name("d").path;
    /// let mut server = wigwag::Server::builder().descriptors(true).bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve(|request| {
    ///     let mut file = std::fs::File::from(request.take_descriptors().pop().ok_or("a file is missing")?);
    ///     let mut text = Vec::new();
    ///     file.read_to_end(&mut text).map_err(|error| error.to_string())?;
    ///     request.set_reply(&text).map_err(|error| error.to_string())
    /// })
    /// # );
    /// let client = wigwag::Client::builder().descriptors(true).connect(name)?;
    /// let mut loan = client.loan(0)?;
    /// loan.attach(std::fs::File::open("/proc/self/comm").unwrap())?;
    /// assert!(loan.call()?.ends_with(b"\n"));
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn descriptors(mut self, may_travel: bool) -> Self {
        self.options = self.options.descriptors(may_travel);
        self
    }

    /// Outlives its server: the next call makes a new session with a server of the name, which is looked for for up to
    /// so long. Nothing is passed twice: [`ConnectOptions::reconnect`] says more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let name = &wigwag_testing::temporary_name("again").path;
    /// let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().reconnect(Duration::from_secs(5)).connect(name)?;
    /// drop(server);
    /// assert!(client.call(b"hello").is_err());             // it was passed to the server that has gone
    /// # let mut next = wigwag::Server::bind(name)?; let stop = next.shutdown_handle();
    /// # let thread = std::thread::spawn(move || next.serve(|_| ()));
    /// assert_eq!(&client.call(b"hello")?[..], b"hello");   // by the server that is there now
    /// assert_eq!(client.stats().reconnects, 1);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn reconnect(mut self, time: Duration) -> Self {
        self.options = self.options.reconnect(time);
        self
    }

    /// Outlives its server, and calls that were passed and that nobody has begun go on at its successor:
    /// [`ConnectOptions::follow_restarts`] says when.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let name = &wigwag_testing::temporary_name("follows").path;
    /// let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().follow_restarts(Duration::from_secs(5)).connect(name)?;
    /// let pending = client.loan(5)?.send()?;               // nobody serves
    /// drop(server);
    /// # let mut next = wigwag::Server::bind(name)?; let stop = next.shutdown_handle();
    /// # let thread = std::thread::spawn(move || next.serve(|request| request.fill(7)));
    /// assert_eq!(pending.wait()?[..], [7; 5]);             // its successor does
    /// assert_eq!(client.stats().moved, 1);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn follow_restarts(mut self, time: Duration) -> Self {
        self.options = self.options.follow_restarts(time);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Client::connect`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of
    /// its limits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("b").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(self, name: impl AsRef<OsStr>) -> Result<Client> {
        let established = connect::attach(name.as_ref(), &self.checked_options()?)?;
        Ok(self.connected(name.as_ref(), established))
    }

    /// What is asked of a server.
    pub(crate) fn checked_options(&self) -> Result<ConnectOptions> {
        self.options.check()?;
        Ok(self.options.clone())
    }

    /// The client of a session that was made by these wishes.
    pub(crate) fn connected(self, name: &OsStr, established: Established) -> Client {
        let sessions = Sessions::new(self.caller(established), name, &self.options);
        Client { sessions, name: name.to_owned(), builder: self }
    }

    /// What is behind it.
    #[cfg(not(loom))]
    pub(crate) fn as_options(&self) -> &ConnectOptions {
        &self.options
    }

    /// The core of such a client.
    pub(crate) fn caller(&self, established: Established) -> Caller {
        Caller::new(established, self.options.wait)
    }
}
