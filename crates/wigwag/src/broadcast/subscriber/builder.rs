//! What a subscriber may wish for before it connects.

use std::ffi::OsStr;
use std::time::Duration;

use crate::broadcast::input::Start;
use crate::broadcast::subscriber::Subscriber;
use crate::contract::Contract;
use crate::error::Result;
use crate::form::Form;
use crate::options::ConnectOptions;
use crate::session::connect::{self, Established};
use crate::wait::policy::Wait;

/// Builds a [`Subscriber`] with wishes of its own. What it does not set has the default shown.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let publisher = wigwag::Publisher::bind(name)?;
/// # use std::time::Duration;
/// let subscriber = wigwag::Subscriber::builder()
///     .start(wigwag::Start::Last)                // Next
///     .server_timeout(Duration::from_secs(30))   // none: wait so long for a publisher that is missing
///     .reconnect(Duration::from_secs(30))        // none: and so long for the next one when it has ended
///     .wait(wigwag::Wait::Park)                  // Adaptive
///     .connect(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct SubscriberBuilder {
    options: ConnectOptions,
    start: Start,
}

impl From<ConnectOptions> for SubscriberBuilder {
    fn from(options: ConnectOptions) -> SubscriberBuilder {
        let mut options = options.in_form(Form::Broadcast);
        (options.slots, options.capacity) = (None, None); // both are the publisher's
        SubscriberBuilder { options, start: Start::default() }
    }
}

impl SubscriberBuilder {
    /// All that these options say, in the place of all that was set before but [`start`](SubscriberBuilder::start).
    /// Slots and capacity are the publisher's to say.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().wait(wigwag::Wait::Park);
    /// let builder = wigwag::Subscriber::builder().options(options);
    /// ```
    pub fn options(self, options: ConnectOptions) -> Self {
        SubscriberBuilder { start: self.start, ..SubscriberBuilder::from(options) }
    }

    /// Which message comes first, default [`Start::Next`].
    ///
    /// ```
    /// let builder = wigwag::Subscriber::builder().start(wigwag::Start::Oldest);
    /// ```
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How long to wait for a publisher while there is none, in connecting; default zero: not at all. `Duration::MAX`
    /// is for ever.
    ///
    /// ```
    /// let builder = wigwag::Subscriber::builder().server_timeout(std::time::Duration::from_secs(10));
    /// ```
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.server_timeout(timeout);
        self
    }

    /// How long to look for the next publisher of the name once this one has ended, in each call; default: not at all,
    /// the end is an error. What the former one had published is read first; the first message of the new one is the
    /// oldest that it keeps, and [says so](crate::Message::is_of_new_publisher).
    ///
    /// ```
    /// let builder = wigwag::Subscriber::builder().reconnect(std::time::Duration::from_secs(10));
    /// ```
    pub fn reconnect(mut self, time: Duration) -> Self {
        self.options = self.options.reconnect(time);
        self
    }

    /// How this subscriber waits, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let builder = wigwag::Subscriber::builder().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.options = self.options.wait(wait);
        self
    }

    /// How long each handshake may take, default 5 seconds.
    ///
    /// ```
    /// let builder = wigwag::Subscriber::builder().timeout(std::time::Duration::from_millis(300));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// What the messages are, default plain bytes; a publisher with another contract refuses.
    ///
    /// ```
    /// let builder = wigwag::Subscriber::builder().contract(wigwag::Contract::named("frames", 2));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.options = self.options.contract(contract).in_form(Form::Broadcast);
        self
    }

    /// Expects a publisher of another user. Its messages are copied, and each word of its is checked.
    ///
    /// ```
    /// let builder = wigwag::Subscriber::builder().server_user(1001);
    /// ```
    pub fn server_user(mut self, uid: u32) -> Self {
        self.options = self.options.server_user(uid);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Subscriber::connect`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number
    /// outside of its limits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::Subscriber::builder().connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(self, name: impl AsRef<OsStr>) -> Result<Subscriber> {
        let established = connect::attach(name.as_ref(), &self.checked_options()?)?;
        self.connected(name.as_ref(), established)
    }

    /// What is asked of a publisher.
    pub(crate) fn checked_options(&self) -> Result<ConnectOptions> {
        self.options.check()?;
        Ok(self.options.clone())
    }

    /// The subscriber of a session that was made by these wishes.
    pub(crate) fn connected(self, name: &OsStr, established: Established) -> Result<Subscriber> {
        Subscriber::new(name.to_owned(), self.options, self.start, established)
    }
}
