//! What a receiver may state before it binds.

use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::contract::Contract;
use crate::error::Result;
use crate::form::Form;
use crate::options::{Access, Limits, ListenOptions};
use crate::queue::intake::MessageWorker;
use crate::queue::receiver::{Leadership, Received, Receiver};
use crate::service::launch::Launch;
use crate::service::service::Service;
use crate::service::settings::listen_settings;
use crate::service::shared::ServiceShared;
use crate::wait::policy::Wait;

/// Builds a [`Receiver`] with a policy, limits or a contract of its own. What it does not set has the default shown.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
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
    options: ListenOptions,
}

impl From<ListenOptions> for ReceiverBuilder {
    fn from(options: ListenOptions) -> ReceiverBuilder {
        ReceiverBuilder { options: options.in_form(Form::Queue) }
    }
}

impl ReceiverBuilder {
    /// The most messages of one sender that can be under way, sent and not acknowledged, and what a sender gets that
    /// does not ask: 1 to 4096, default 256.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().slots(1024);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.options.limits = self.options.limits.slots(slots);
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
        self.options.limits = self.options.limits.capacity(bytes);
        self
    }

    /// Whether file descriptors may travel with messages, default no:
    /// [`ListenOptions::descriptors`] says more.
    ///
    /// ```
    /// let builder = wigwag::Receiver::builder().descriptors(true);
    /// ```
    pub fn descriptors(mut self, may_travel: bool) -> Self {
        self.options = self.options.descriptors(may_travel);
        self
    }

    /// Has the messages of this queue kept by the [keeper](crate::Keeper) of that name (`wigwag queue keep NAME`), so
    /// that they outlive a sender *and* this process: what was not acknowledged goes to whoever binds the queue's name
    /// next. The keeper's name may be the queue's own, and one keeper does for many queues.
    ///
    /// Each sender is registered there before it is welcomed. Without a keeper `bind` fails with
    /// [`NotRunning`](crate::ErrorKind::NotRunning); while it is gone later, or has no room, new senders are refused as
    /// [`Busy`](crate::ErrorKind::Busy), those that are there go on without, and a keeper that comes has them again.
    /// [`allow_unkept`](ReceiverBuilder::allow_unkept) lets all of this go on without instead.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("jobs").path;
    /// let error = wigwag::Receiver::builder().kept_by(name).bind(name).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// let keeper = wigwag::Keeper::start(name)?;
    /// let receiver = wigwag::Receiver::builder().kept_by(name).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn kept_by(mut self, keeper: impl AsRef<OsStr>) -> Self {
        self.options.keeper = Some(keeper.as_ref().to_owned());
        self
    }

    /// Whether senders are let in whose messages are not kept, default no: while there is no keeper, beyond its limits,
    /// of other users, with descriptors, or of a version that knows of no keeper. That is told to `tracing`, and seen
    /// in `wigwag inspect`. Without [`kept_by`](ReceiverBuilder::kept_by) it says nothing.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("jobs").path;
    /// let receiver = wigwag::Receiver::builder().kept_by(name).allow_unkept(true).bind(name)?; // there is no keeper
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn allow_unkept(mut self, is_allowed: bool) -> Self {
        self.options.allows_unkept = is_allowed;
        self
    }

    /// Whether other receivers, in as many processes, may have the same name, default no: all that say so take turns.
    ///
    /// Each sender of the name has a session with each of these receivers, up to 64, finds those that come later, and
    /// gives a message to the one that has the fewest of its messages that are not acknowledged. So one that is slow
    /// gets fewer, and one that is stopped holds up nobody. [`slots`](Self::slots) says how many a receiver may have
    /// before it has acknowledged them: a few, where a message is much work, so that most of them wait for whoever is
    /// free. If one dies, its senders hand what it had not acknowledged to another: marked as
    /// [redelivered](crate::Delivery::is_redelivered) what it had been handed. If it ends in order, what it has not
    /// begun goes to another without a mark.
    ///
    /// **Order**: a receiver gets the messages of one sender in the order in which they were sent. Among several
    /// receivers there is none, and what a receiver gets in the place of another comes after what it had.
    ///
    /// Each is a receiver named `NAME@1` to `NAME@64`, which is how `wigwag ls` and `wigwag inspect` show them; the
    /// lowest number that is free is taken. All should state the same limits and contract: a sender that was granted
    /// more by another is refused, and goes on without this one.
    ///
    /// # Errors
    /// Of [`bind`](Self::bind): [`NameTaken`](crate::ErrorKind::NameTaken) if a server that does not share has the
    /// name, or 64 do; and in one that does not share, while others do.
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) together with
    /// [`replace`](Self::replace) or [`from_listener`](Self::from_listener).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let first = wigwag::Receiver::builder().shared(true).bind(name)?; // mostly in a process of its own
    /// let second = wigwag::Receiver::builder().shared(true).bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"one")?;
    /// sender.send(b"two")?;
    /// # let soon = std::time::Duration::from_secs(5);
    /// let one = first.recv_timeout(soon)?.expect("they take turns");
    /// let two = second.recv_timeout(soon)?.expect("they take turns");
    /// # drop((one, two));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shared(mut self, is_shared: bool) -> Self {
        self.options.shared = is_shared;
        self
    }

    listen_settings!("wigwag::Receiver::builder()");

    /// Takes the name and starts to accept senders.
    ///
    /// # Errors
    /// As [`Receiver::bind`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of
    /// its limits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::builder().slots(4).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<Receiver> {
        let wait = self.options.wait;
        let launch = Launch::claim(name.as_ref(), self.options)?;
        let shared = ServiceShared::new(&launch)?;
        let worker = Box::new(MessageWorker::new(Arc::clone(&shared), Arc::clone(&shared.mailboxes()[0]), wait)?);
        let service = Service::start(shared, launch)?;
        let leadership = Mutex::new(Leadership { worker: Some(worker), waiting: 0, received: Received::default() });
        Ok(Receiver { service, leadership, returned: Condvar::new(), is_armed: false })
    }
}
