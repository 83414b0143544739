//! What a publisher may state before it binds.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use crate::broadcast::output::Output;
use crate::broadcast::pool;
use crate::broadcast::publisher::Publisher;
use crate::contract::Contract;
use crate::error::{Error, ErrorKind, Result};
use crate::form::Form;
use crate::memory::board::{BODIES_MAX, Board, BoardGeometry, HISTORY_MAX, Hints, SEQUENCE_MAX, body_stride};
use crate::memory::layout::{HOLDS_MAX, INLINE_CAPACITY};
use crate::options::{Access, Limits, ListenOptions};
use crate::service::audience::Audience;
use crate::service::launch::Launch;
use crate::service::service::Service;
use crate::service::settings::listen_settings;
use crate::service::shared::ServiceShared;
use crate::sys::{clock, memory};
use crate::wait::policy::Wait;

/// What becomes of the oldest message when the next one needs its place and a subscriber has not read it.
///
/// ```
/// # use std::time::Duration;
/// let patient = wigwag::Overrun::Wait(Duration::from_millis(100));
/// assert_eq!(wigwag::Overrun::default(), wigwag::Overrun::DropOldest);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overrun {
    /// It is replaced; the subscriber loses it, and is told. The publisher never waits.
    #[default]
    DropOldest,
    /// The publisher waits for its own user's subscribers, for each at most so long within as many messages as are
    /// kept; one that exceeds that is cut off and told. A subscriber says at each eighth of the history how far it is.
    /// Zero: it never waits, and its sends are [`Full`](crate::ErrorKind::Full) until there is room.
    Wait(Duration),
}

/// Builds a [`Publisher`] with sizes, a policy, limits or a contract of its own. What it does not set has the default
/// shown.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let publisher = wigwag::Publisher::builder()
///     .history(1000)                            // 64: messages that are kept
///     .capacity(1 << 20)                        // 64 KiB: the longest message
///     .overrun(wigwag::Overrun::DropOldest)     // never waits
///     .max_holds(16)                            // 64: messages that all subscribers together hold in place
///     .holds(2)                                 // 4: those of one of them
///     .max_sessions(100)                        // 4096: subscribers at a time
///     .bind(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it binds"]
pub struct PublisherBuilder {
    options: ListenOptions,
    history: usize,
    overrun: Overrun,
    max_holds: usize,
    retain: Option<usize>,
    /// The number of the first message.
    first: u64,
}

impl From<ListenOptions> for PublisherBuilder {
    fn from(options: ListenOptions) -> PublisherBuilder {
        let options = options.in_form(Form::Broadcast);
        PublisherBuilder { options, history: 64, overrun: Overrun::DropOldest, max_holds: 64, retain: None, first: 1 }
    }
}

impl PublisherBuilder {
    /// How many messages are kept for subscribers that read later: 1 to 65536, default 64. A subscriber that is further
    /// behind loses messages, or is waited for: [`overrun`](PublisherBuilder::overrun).
    ///
    /// ```
    /// let builder = wigwag::Publisher::builder().history(1000);
    /// ```
    pub fn history(mut self, messages: usize) -> Self {
        self.history = messages;
        self
    }

    /// The longest message in bytes: 0 to 1 GiB, default 64 KiB.
    ///
    /// Memory is used for what is written, not for what is allowed; but all of it counts against the limits from the
    /// start, as a subscriber's kernel may make it real by reading.
    ///
    /// ```
    /// let builder = wigwag::Publisher::builder().capacity(1 << 20);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.options.limits = self.options.limits.capacity(bytes);
        self
    }

    /// What becomes of the oldest message when the next one needs its place, default [`Overrun::DropOldest`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = wigwag::Publisher::builder().overrun(wigwag::Overrun::Wait(Duration::from_millis(100)));
    /// ```
    pub fn overrun(mut self, overrun: Overrun) -> Self {
        self.overrun = overrun;
        self
    }

    /// Of the messages that every subscriber has taken, how many are kept for those that come later and
    /// [start](crate::SubscriberBuilder::start) at the oldest or at the last one: 0 to [`history`]; by default as many
    /// as that. Only a publisher that [waits](Overrun::Wait) can keep fewer, because it knows who has taken what.
    ///
    /// The memory of the others is used for the next messages at once, while it lies in the processor's cache. For
    /// large messages that is worth more than anything else: 1 MiB went over two to four times as often. Messages of up
    /// to 48 bytes need no such memory, and stay. While subscribers of other users are there, everything stays.
    ///
    /// [`history`]: PublisherBuilder::history
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let name = &wigwag_testing::temporary_name("frames").path;
    /// use wigwag::{Overrun, Publisher, Start, Subscriber};
    /// let builder = Publisher::builder().capacity(1 << 20).overrun(Overrun::Wait(Duration::from_secs(1)));
    /// let mut publisher = builder.retain(1).bind(name)?;
    /// let mut subscriber = Subscriber::connect(name)?;
    /// for frame in [[1; 4096], [2; 4096], [3; 4096]] {
    ///     publisher.send(&frame)?;
    ///     assert_eq!(subscriber.recv()?[..], frame);
    /// }
    /// let last = Subscriber::builder().start(Start::Last).connect(name)?.recv()?;
    /// assert_eq!(last[0], 3);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn retain(mut self, messages: usize) -> Self {
        self.retain = Some(messages);
        self
    }

    /// How many messages all subscribers together may hold in place, default 64, at most 65536. The pool has that many
    /// bodies more, so that whoever holds one, or is stopped with it, keeps nobody waiting. A subscriber that comes
    /// when all are given away copies.
    ///
    /// ```
    /// let builder = wigwag::Publisher::builder().max_holds(256);
    /// ```
    pub fn max_holds(mut self, messages: usize) -> Self {
        self.max_holds = messages;
        self
    }

    /// How many of them one subscriber gets, default 4, at most 64.
    ///
    /// ```
    /// let builder = wigwag::Publisher::builder().holds(1);
    /// ```
    pub fn holds(mut self, messages: usize) -> Self {
        self.options.limits = self.options.limits.slots(messages);
        self
    }

    /// The number of the first message, default 1. For who publishes again what another publisher has published, so
    /// that a message has the same number here as there.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::builder().first_number(500).bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// publisher.send(b"1.07")?;
    /// let message = subscriber.recv()?;
    /// assert_eq!((message.sequence(), message.lost_before()), (500, 0));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn first_number(mut self, number: u64) -> Self {
        self.first = number;
        self
    }

    listen_settings!("wigwag::Publisher::builder()");

    /// Takes the name and starts to let subscribers in.
    ///
    /// # Errors
    /// As [`Publisher::bind`]; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a number outside of
    /// its limits, and for a pool that is larger than [`max_bytes_total`](PublisherBuilder::max_bytes_total) allows.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::Publisher::builder().history(4).bind(name)?;
    /// assert!(wigwag::Publisher::builder().history(0).bind("other").unwrap_err().to_string().contains("1 to 65536"));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<Publisher> {
        let geometry = self.geometry()?;
        let (holds, holds_each) = (self.max_holds as u32, self.holds_each() as u32);
        let patience = match self.overrun {
            Overrun::DropOldest => None,
            Overrun::Wait(patience) => Some(patience),
        };
        let (wait, retain) = (self.options.wait, self.retain);
        let skipped = self.first - 1;
        let mut launch = Launch::claim(name.as_ref(), self.options)?;
        let epoch = clock::now_ns();
        let header = geometry.header(&launch.options.contract, epoch);
        let (board, memory) = Board::create(geometry, &header)?;
        let board_inode = memory::inode(&memory);
        let (hints, hint_memory) = Hints::create()?;
        let audience = Arc::new(Audience::new(geometry, epoch, (memory, hint_memory), holds, holds_each)?);
        launch.audience = Some(Arc::clone(&audience));
        let shared = ServiceShared::new(&launch)?;
        shared.quota.reserve(audience.size());
        shared.mailboxes()[0].record.board_inode.set(board_inode);
        let mut output = Output::new(board, hints, audience, Arc::clone(&shared), patience, retain)?;
        if skipped > 0 {
            output.skip(skipped); // before anybody has come: nobody has lost them
        }
        Publisher::new(output, Service::start(shared, launch)?, wait)
    }

    fn holds_each(&self) -> usize {
        self.options.limits.slots_in(self.options.contract.form)
    }

    /// What the memory will be, if it may be so.
    fn geometry(&self) -> Result<BoardGeometry> {
        let invalid = |sentence: String| Err(Error::new(ErrorKind::InvalidConfiguration, sentence));
        self.options.check()?;
        if !(1..SEQUENCE_MAX).contains(&self.first) {
            return invalid(format!(
                "{} is no number of a first message: 1 to {} are (PublisherBuilder::first_number)",
                self.first,
                SEQUENCE_MAX - 1
            ));
        }
        let (history, limits) = (self.history, &self.options.limits);
        let capacity = limits.capacity_in(self.options.contract.form);
        if !(1..=HISTORY_MAX).contains(&history) {
            return invalid(format!(
                "a history of {history} messages is outside of 1 to {HISTORY_MAX} (PublisherBuilder::history)"
            ));
        }
        let holds_each = self.holds_each();
        if holds_each > HOLDS_MAX {
            return invalid(format!(
                "{holds_each} holds for one subscriber are more than the most possible, {HOLDS_MAX} \
                 (PublisherBuilder::holds)"
            ));
        }
        if self.max_holds > HISTORY_MAX {
            return invalid(format!(
                "{} holds for all subscribers are more than the most possible, {HISTORY_MAX} \
                 (PublisherBuilder::max_holds)",
                self.max_holds
            ));
        }
        if let Some(retain) = self.retain {
            if self.overrun == Overrun::DropOldest {
                return invalid(format!(
                    "a publisher that drops the oldest cannot retain {retain} messages, as it does not know who has \
                     taken which: let it wait for its subscribers (PublisherBuilder::overrun), or keep fewer \
                     messages (PublisherBuilder::history)"
                ));
            }
            if retain > history {
                return invalid(format!(
                    "{retain} messages are to be retained of a history of {history}: retain fewer \
                     (PublisherBuilder::retain), or keep more (PublisherBuilder::history)"
                ));
            }
        }
        let entries = history + 1;
        // One for each entry, one for the loan, those that may be held, and those that rest between two looks.
        let resting = pool::rest(body_stride(capacity), self.max_holds / holds_each.max(1), self.max_holds);
        let bodies = if capacity > INLINE_CAPACITY { entries + 1 + self.max_holds + resting } else { 0 };
        let Some(geometry) = BoardGeometry::new(entries, bodies, capacity) else {
            return invalid(format!(
                "{bodies} bodies of {capacity} bytes are outside of what is possible: at most {BODIES_MAX}"
            ));
        };
        let size = geometry.size;
        if size > limits.bytes_total {
            return invalid(format!(
                "a pool for {bodies} messages of {capacity} bytes takes {size} bytes, where {} are allowed in total \
                 (PublisherBuilder::max_bytes_total): {FEWER}",
                limits.bytes_total
            ));
        }
        if self.options.access.admits_other_users() && size > limits.bytes_per_session {
            return invalid(format!(
                "a subscriber of another user could make all {size} bytes of the pool real, where a session may have \
                 {} (PublisherBuilder::max_bytes_per_session): {FEWER}",
                limits.bytes_per_session
            ));
        }
        Ok(geometry)
    }
}

/// What makes a pool smaller, or lets it be as it is.
const FEWER: &str = "keep fewer messages (PublisherBuilder::history), shorter ones (PublisherBuilder::capacity), let \
                     fewer be held (PublisherBuilder::max_holds), or raise that";
