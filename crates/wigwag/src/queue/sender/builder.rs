//! What a sender may wish for before it connects.

use std::ffi::OsStr;
use std::time::Duration;

use crate::contract::Contract;
use crate::error::Result;
use crate::form::Form;
use crate::options::ConnectOptions;
use crate::queue::producer::Producer;
use crate::queue::sender::Sender;
use crate::session::connect;
use crate::wait::policy::Wait;

/// Builds a [`Sender`] with wishes of its own. What it does not set, the receiver states.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
/// # let receiver = wigwag::Receiver::bind(name)?;
/// let sender = wigwag::Sender::builder()
///     .slots(64)                                              // messages under way
///     .capacity(4 << 10)                                      // longest message in bytes
///     .server_timeout(std::time::Duration::from_secs(30))   // none: wait so long for a receiver that is missing
///     .wait(wigwag::Wait::Park)                               // never spin
///     .connect(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct SenderBuilder {
    options: ConnectOptions,
}

impl From<ConnectOptions> for SenderBuilder {
    fn from(options: ConnectOptions) -> SenderBuilder {
        SenderBuilder { options: options.in_form(Form::Queue) }
    }
}

impl SenderBuilder {
    /// All that these options say, in the place of all that was set before.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().wait(wigwag::Wait::Park);
    /// let builder = wigwag::Sender::builder().options(options);
    /// ```
    pub fn options(self, options: ConnectOptions) -> Self {
        options.into()
    }

    /// How many messages can be under way, sent and not acknowledged; refused above what the receiver allows.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().slots(1024);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.options = self.options.slots(slots);
        self
    }

    /// The longest message in bytes; refused above what the receiver allows.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().capacity(4096);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.options = self.options.capacity(bytes);
        self
    }

    /// How long to wait for a receiver while there is none, in connecting and in each later call; default zero: not at
    /// all.
    ///
    /// A receiver that is restarted is missing for a moment. Within this time its senders wait for the successor, which
    /// then gets what was not acknowledged; beyond it the call fails with [`NotRunning`](crate::ErrorKind::NotRunning),
    /// and what was sent before is kept for the next call. `Duration::MAX` is for ever.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().server_timeout(std::time::Duration::from_secs(10));
    /// ```
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.server_timeout(timeout);
        self
    }

    /// How this sender waits for room and for acknowledgements, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.options = self.options.wait(wait);
        self
    }

    /// How long each handshake may take, default 5 seconds.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().timeout(std::time::Duration::from_millis(300));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// What the messages are, default plain bytes; a receiver with another contract refuses.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().contract(wigwag::Contract::named("log lines", 1));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.options = self.options.contract(contract).in_form(Form::Queue);
        self
    }

    /// Expects a receiver of another user.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().server_user(1001);
    /// ```
    pub fn server_user(mut self, uid: u32) -> Self {
        self.options = self.options.server_user(uid);
        self
    }

    /// Whether file descriptors may travel with messages, default no:
    /// [`ConnectOptions::descriptors`] says more. Messages that have some go to no successor of the receiver that does
    /// not let them travel: the calls end with [`NotAgreed`](crate::ErrorKind::NotAgreed) while it is there, and all is
    /// kept.
    ///
    /// ```
    /// let builder = wigwag::Sender::builder().descriptors(true);
    /// ```
    pub fn descriptors(mut self, may_travel: bool) -> Self {
        self.options = self.options.descriptors(may_travel);
        self
    }

    /// How long at most dropping the sender waits until everything is acknowledged; zero: not at all. Default: as long
    /// as a receiver lives, and for 5 seconds where there is none. [`ConnectOptions::linger`] says more.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::builder().linger(std::time::Duration::ZERO).connect(name)?;
    /// sender.send(b"whoever is there may have it")?;
    /// drop(sender);                                          // at once
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn linger(mut self, time: Duration) -> Self {
        self.options = self.options.linger(time);
        self
    }

    /// Connects, once there is a receiver.
    ///
    /// # Errors
    /// As [`Sender::connect`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of
    /// its limits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::Sender::builder().connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(self, name: impl AsRef<OsStr>) -> Result<Sender> {
        let options = self.checked_options()?;
        let established = connect::attach(name.as_ref(), &options)?;
        let mut sender = Sender::new(Producer::new(name.as_ref(), options, established))?;
        sender.await_others()?;
        Ok(sender)
    }

    /// What is asked of a receiver, and for how long.
    pub(crate) fn checked_options(self) -> Result<ConnectOptions> {
        self.options.check()?;
        Ok(self.options)
    }
}
