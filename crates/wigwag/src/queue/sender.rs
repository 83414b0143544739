//! The sending face of a queue: messages one way, each kept until the receiver has acknowledged it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::memory::layout::{Descriptor, INLINE_CAPACITY, Kind};
use crate::memory::slot;
use crate::options::ConnectOptions;
use crate::queue::outbox::{Outbox, Unacked};
use crate::session::close_reason::CloseReason;
use crate::session::connect::ClientHandshake;
use crate::session::connection::Connection;
use crate::session::protocol::Reason;
use crate::stats::SenderStats;
use crate::sync::Ordering;
use crate::sys::clock;
use crate::wait::deadline::Deadline;

mod builder;
mod failover;
mod loan;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod producer;

pub use crate::queue::sender::builder::SenderBuilder;
pub use crate::queue::sender::loan::MessageLoan;

/// One sender of a queue: messages go one way, to the one [`Receiver`](crate::Receiver) of the name.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("jobs").path;
/// let receiver = wigwag::Receiver::bind(name)?;
/// let mut sender = wigwag::Sender::connect(name)?;
/// sender.send(b"first")?;
/// sender.send(b"second")?;
/// assert_eq!(&receiver.recv()?[..], b"first");   // dropped: acknowledged
/// assert_eq!(&receiver.recv()?[..], b"second");
/// sender.close()?;                               // returns once all is acknowledged
/// # Ok::<(), wigwag::Error>(())
/// ```
///
/// **What was sent is not lost by a death.** A message stays in this sender's memory until the receiver has
/// acknowledged it. If the receiver dies, the next call here finds its successor and gives it all that was not
/// acknowledged, in order; what the dead one had been handed is marked as
/// [redelivered](crate::Delivery::is_redelivered). If this process dies, is dropped or exits, the receiver keeps the
/// memory until it has received everything that was committed. Only the death of both loses what was not acknowledged;
/// [`flush`](Sender::flush) and [`close`](Sender::close) wait until nothing is left to lose.
///
/// It has no thread of its own: a receiver's death is noticed, and its successor found, by the calls that are made. It
/// may move to another thread, but two threads cannot share one: [`try_clone`](Sender::try_clone) gives each its own.
/// Messages of one sender arrive in order; those of several have no order among themselves.
pub struct Sender {
    connection: Connection,
    outbox: Outbox,
    name: OsString,
    builder: SenderBuilder,
    /// For the next receiver, begun by a call that had no time for its end.
    search: Option<Box<ClientHandshake>>,
    /// The tick of the clock at which the receiver was last known to live.
    alive_at: i64,
    looks_for_half: u32,
    counters: Counters,
}

/// How often, at most, a sender whose queue is full looks whether half of it is free: some 20 microseconds.
const LOOKS_FOR_HALF_MAX: u32 = 8;

#[derive(Debug, Default)]
struct Counters {
    sent: u64,
    /// Of these, those whose slots have been freed.
    acknowledged: u64,
    redelivered: u64,
    refused: u64,
    reconnects: u64,
    /// Of former sessions.
    doorbells_rung: u64,
    sleeps: u64,
}

impl Sender {
    /// Connects to the receiver of a name, of the same user.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect). [`ContractMismatch`](ErrorKind::ContractMismatch) if the name is
    /// not a queue's.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let error = wigwag::Sender::connect(name).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<Sender> {
        Sender::builder().connect(name)
    }

    /// A sender with wishes of its own.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::Sender::builder().slots(32).capacity(4096).connect(name)?;
    /// assert_eq!((sender.slots(), sender.capacity()), (32, 4096));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> SenderBuilder {
        ConnectOptions::default().into()
    }

    /// The longest message in bytes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// assert_eq!(wigwag::Sender::connect(name)?.capacity(), 64 << 10);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.connection.geometry().capacity
    }

    /// How many messages can be under way: sent and not acknowledged.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// assert_eq!(wigwag::Sender::connect(name)?.slots(), 256);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn slots(&self) -> usize {
        self.connection.geometry().slots
    }

    /// Sends a message, a copy of `message`. While the queue is full it waits.
    ///
    /// It does not end by itself while the receiver lives and receives nothing: [`send_timeout`](Sender::send_timeout)
    /// does.
    ///
    /// # Errors
    /// Each says that this message was not sent; what was sent before is kept.
    /// [`CapacityExceeded`](ErrorKind::CapacityExceeded); [`NotRunning`](ErrorKind::NotRunning) when the receiver is
    /// gone and no other took its place within the [time for that](SenderBuilder::server_timeout): the next call
    /// looks again; [`Refused`](ErrorKind::Refused), [`ContractMismatch`](ErrorKind::ContractMismatch) by its
    /// successor; [`Violation`](ErrorKind::Violation), for good; [`Forked`](ErrorKind::Forked), [`Io`](ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"hello")?;
    /// # assert_eq!(&receiver.recv()?[..], b"hello");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.send_within(message, Deadline::Never)
    }

    /// As [`send`](Sender::send), but never waits, neither for room nor for a receiver.
    ///
    /// # Errors
    /// As [`send`](Sender::send); [`Full`](ErrorKind::Full). If the receiver is gone, its successor is asked for a
    /// session, and [`NotRunning`](ErrorKind::NotRunning) returned until one of the next calls finds its answer.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::builder().slots(1).connect(name)?;
    /// sender.try_send(b"one")?;
    /// assert_eq!(sender.try_send(b"two").unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<()> {
        self.send_within(message, Deadline::Now)
    }

    /// As [`send`](Sender::send), but waits no longer than `timeout`, for room or for a receiver.
    ///
    /// # Errors
    /// As [`send`](Sender::send); [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::builder().slots(1).connect(name)?;
    /// sender.send(b"one")?;
    /// let error = sender.send_timeout(b"two", std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: false });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        self.send_within(message, Deadline::after(timeout))
    }

    /// Sends many messages, and rings for all of them at once if the receiver sleeps. Returns how many they were.
    ///
    /// # Errors
    /// As [`send`](Sender::send). Those before the one that failed are sent: [`stats`](Sender::stats) counts them.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// assert_eq!(sender.send_batch(["one", "two", "three"])?, 3);
    /// assert_eq!(receiver.recv_batch(10)?.len(), 3);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_batch<M: AsRef<[u8]>>(&mut self, messages: impl IntoIterator<Item = M>) -> Result<usize> {
        let mut count = 0;
        for message in messages {
            let message = message.as_ref();
            // Who waits for room waits for a receiver that must have been woken.
            if self.outbox.is_full() {
                self.ring_for_batch();
            }
            let mut draft = match self.draft(message.len(), Deadline::Never) {
                Ok(draft) => draft,
                Err(error) => {
                    self.ring_for_batch();
                    return Err(error);
                }
            };
            draft.copy_from_slice(message);
            draft.pass_silently();
            count += 1;
        }
        self.ring_for_batch();
        Ok(count)
    }

    /// How values become bytes in this queue.
    #[cfg(feature = "serde")]
    pub(crate) fn encoding(&self) -> crate::contract::Encoding {
        self.builder.options.contract.encoding
    }

    fn ring_for_batch(&self) {
        if !self.connection.is_forked() {
            self.connection.ring_if_asleep();
        }
    }

    /// Borrows `len` bytes of the queue's own memory, to write a message where it will be read: no copy. While the
    /// queue is full it waits.
    ///
    /// The bytes are what a former message left there, zero at first. Up to 48 bytes lie in one cache line, aligned to
    /// 16; more are aligned to 4,096.
    ///
    /// # Errors
    /// As [`send`](Sender::send).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// let mut draft = sender.loan(1000)?;
    /// draft.fill(7);
    /// draft.commit()?;                // dropped without, nothing is sent
    /// assert_eq!(receiver.recv()?[..], [7; 1000]);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<MessageLoan<'_>> {
        self.draft(len, Deadline::Never)
    }

    /// As [`loan`](Sender::loan), but never waits for room.
    ///
    /// # Errors
    /// As [`try_send`](Sender::try_send).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::builder().slots(1).connect(name)?;
    /// sender.try_loan(8)?.commit()?;
    /// assert_eq!(sender.try_loan(8).unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_loan(&mut self, len: usize) -> Result<MessageLoan<'_>> {
        self.draft(len, Deadline::Now)
    }

    /// As [`loan`](Sender::loan), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As [`send_timeout`](Sender::send_timeout).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.loan_timeout(8, std::time::Duration::from_millis(100))?.commit()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn loan_timeout(&mut self, len: usize, timeout: Duration) -> Result<MessageLoan<'_>> {
        self.draft(len, Deadline::after(timeout))
    }

    /// Waits until everything that was sent is acknowledged, for up to `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut) says how many are not; otherwise as [`send`](Sender::send). They are kept all
    /// the same.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"hello")?;
    /// let error = sender.flush(std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// receiver.recv()?.ack();
    /// sender.flush(std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn flush(&mut self, timeout: Duration) -> Result<()> {
        self.flush_within(Deadline::after(timeout))
    }

    /// Waits until everything that was sent is acknowledged, and ends.
    ///
    /// Dropping a sender does not wait: what was sent is received all the same, unless the receiver dies, too.
    ///
    /// # Errors
    /// As [`send`](Sender::send). What was not acknowledged is then received if the receiver lives, and lost if it does
    /// not.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// # let thread = std::thread::spawn(move || receiver.recv().map(|message| message.to_vec()));
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"hello")?;
    /// sender.close()?;
    /// # assert_eq!(thread.join().unwrap()?, b"hello");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn close(mut self) -> Result<()> {
        self.flush_within(Deadline::Never)
    }

    /// Another sender to the same queue, with the same wishes: for another thread.
    ///
    /// # Errors
    /// As [`connect`](Sender::connect).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::Sender::connect(name)?;
    /// let mut other = sender.try_clone()?;
    /// std::thread::spawn(move || other.send(b"from there")).join().unwrap()?;
    /// # assert_eq!(&receiver.recv()?[..], b"from there");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<Sender> {
        self.builder.clone().connect(&self.name)
    }

    /// What has happened so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"hello")?;
    /// assert_eq!((sender.stats().sent, sender.stats().acknowledged), (1, 0));
    /// receiver.recv()?.ack();
    /// assert_eq!(sender.stats().acknowledged, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> SenderStats {
        let mut stats = SenderStats {
            sent: self.counters.sent,
            acknowledged: self.counters.acknowledged,
            redelivered: self.counters.redelivered,
            refused: self.counters.refused,
            reconnects: self.counters.reconnects,
            doorbells_rung: self.counters.doorbells_rung + self.connection.doorbells_rung(),
            sleeps: self.counters.sleeps + self.connection.sleeps(),
        };
        if !self.connection.is_forked() {
            // Acknowledged in whatever order, and not yet freed.
            stats.acknowledged += (self.outbox.len() - self.unacknowledged()) as u64;
        }
        stats
    }

    #[inline(always)]
    fn send_within(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        let mut draft = self.draft(message.len(), deadline)?;
        draft.copy_from_slice(message);
        draft.commit()
    }

    #[inline(always)]
    fn draft(&mut self, len: usize, deadline: Deadline) -> Result<MessageLoan<'_>> {
        match self.make_room(len, deadline) {
            Ok(()) => Ok(MessageLoan::new(self, len)),
            Err(error) => {
                self.counters.refused += 1;
                Err(error)
            }
        }
    }

    /// Sees to it that the next slot can be written to, and that somebody receives.
    #[inline(always)]
    fn make_room(&mut self, len: usize, deadline: Deadline) -> Result<()> {
        if self.connection.is_forked() {
            return Err(Error::forked());
        }
        if len > self.capacity() {
            return Err(too_long(len, self.capacity()));
        }
        if self.connection.is_over() || clock::tick() != self.alive_at {
            self.look_for_receiver(deadline)?;
        }
        if self.outbox.is_full() && !self.free_oldest()? {
            self.wait_for_room(deadline)?;
        }
        Ok(())
    }

    /// The message that was written into the next slot is sent.
    #[inline(always)]
    fn push(&mut self, len: usize) {
        let record = self.outbox.push(len, false, slot::next_sequence);
        let head =
            Descriptor { len: len as u32, kind: Kind::Message, in_body: len > INLINE_CAPACITY, has_deadline: false };
        let segment = self.connection.segment();
        // For observers; the tick was read when room was made. Published by the turn.
        segment.committed(record.slot).store(self.alive_at as u64, Ordering::Relaxed);
        self.connection.pass_silently(segment.line(record.slot), head, record.sequence);
        self.counters.sent += 1;
    }

    /// Whether the receiver is done with a message.
    fn is_acknowledged(&self, record: &Unacked) -> bool {
        !slot::load(&self.connection.segment().line(record.slot).turn).is_server()
    }

    /// Frees the oldest message's slot if it is acknowledged.
    #[inline(always)]
    fn free_oldest(&mut self) -> Result<bool> {
        let Some(record) = self.outbox.get(0) else { return Ok(false) };
        let line = self.connection.segment().line(record.slot);
        let turn = slot::load(&line.turn);
        if turn.is_server() {
            return Ok(false);
        }
        // Relaxed: acquired with the turn. Read once.
        let word = line.head.load(Ordering::Relaxed);
        if turn.sequence() != record.sequence || !is_acknowledgement(word) {
            return Err(self.violation(record.slot, turn, word));
        }
        self.connection.found_awake();
        self.outbox.pop();
        self.counters.acknowledged += 1;
        Ok(true)
    }

    #[cold]
    fn violation(&self, slot: usize, turn: slot::Turn, head: u64) -> Error {
        let why = format!("slot {slot} came back with {turn:?} and head {head:#x}, which acknowledges nothing");
        self.connection.end(CloseReason::Farewell(Reason::Violation, why.clone()));
        Error::new(ErrorKind::Violation, format!("the receiver broke the protocol: {why}"))
    }

    /// The queue is full.
    #[cold]
    fn wait_for_room(&mut self, deadline: Deadline) -> Result<()> {
        if !matches!(deadline, Deadline::Now) && self.wait_for_half() && self.free_oldest()? {
            return Ok(());
        }
        loop {
            if matches!(deadline, Deadline::Now) {
                self.connection.hear(Deadline::Now)?;
                if self.connection.is_over() {
                    self.reconnect(deadline)?;
                }
                return match !self.outbox.is_full() || self.free_oldest()? {
                    true => Ok(()),
                    false => Err(self.full()),
                };
            }
            self.wait_for(0, deadline).map_err(|error| self.or_timed_out(error, false))?;
            if !self.outbox.is_full() || self.free_oldest()? {
                return Ok(());
            }
        }
    }

    /// Looks for a moment whether half of the places become free, as they do when the receiver works all the time.
    /// Whoever takes each place at the moment it is free stands in the receiver's way: the two pull the same lines to
    /// and fro, and each message takes twice as long. It is only a moment, because the receiver may well hold some
    /// messages and wait for one more.
    fn wait_for_half(&mut self) -> bool {
        let Some(record) = self.outbox.get(self.slots() / 2) else { return false };
        let line = self.connection.segment().line(record.slot);
        let has_come = (0..self.looks_for_half).any(|_| self.connection.wait_briefly(line).is_some());
        // What was in vain is tried for half as long the next time.
        self.looks_for_half =
            if has_come { (2 * self.looks_for_half).min(LOOKS_FOR_HALF_MAX) } else { (self.looks_for_half / 2).max(1) };
        has_come
    }

    /// Waits until the message at a place is acknowledged, or has been sent anew to another receiver.
    fn wait_for(&mut self, place: usize, deadline: Deadline) -> Result<()> {
        let Some(record) = self.outbox.get(place) else { return Ok(()) };
        match self.connection.wait(self.connection.segment().line(record.slot), deadline) {
            Ok(()) => Ok(()),
            Err(error) if self.connection.is_over() && error.kind() != ErrorKind::Violation => self.reconnect(deadline),
            Err(error) => Err(error),
        }
    }

    fn flush_within(&mut self, deadline: Deadline) -> Result<()> {
        if self.connection.is_forked() {
            return Err(Error::forked());
        }
        loop {
            while self.free_oldest()? {}
            // The newest is mostly the last to be acknowledged: who waits for it is woken once.
            match self.outbox.len() {
                0 => return Ok(()),
                _ => {
                    if let Some(place) = self.newest_unacknowledged() {
                        self.wait_for(place, deadline).map_err(|error| self.or_timed_out(error, true))?;
                    }
                }
            }
        }
    }

    /// Time has passed since the receiver was last known to live.
    #[cold]
    fn look_for_receiver(&mut self, deadline: Deadline) -> Result<()> {
        self.alive_at = clock::tick();
        if !self.connection.is_over() {
            self.connection.hear(Deadline::Now)?;
        }
        match self.connection.is_over() {
            true => self.reconnect(deadline),
            false => Ok(()),
        }
    }

    /// Its place, 0 for the oldest.
    fn newest_unacknowledged(&self) -> Option<usize> {
        (0..self.outbox.len())
            .rev()
            .find(|&place| self.outbox.get(place).is_some_and(|record| !self.is_acknowledged(&record)))
    }

    fn unacknowledged(&self) -> usize {
        let under_way = (0..self.outbox.len()).filter_map(|place| self.outbox.get(place));
        under_way.filter(|record| !self.is_acknowledged(record)).count()
    }

    #[cold]
    fn full(&self) -> Error {
        Error::new(
            ErrorKind::Full,
            format!(
                "all {} places of the queue are taken by messages that are not acknowledged; receive and acknowledge \
                 some, or \
                 connect with more (SenderBuilder::slots)",
                self.slots()
            ),
        )
    }

    /// `maybe_executed`: whether the call was about messages that had been sent.
    #[cold]
    fn or_timed_out(&self, error: Error, maybe_executed: bool) -> Error {
        if !matches!(error.kind(), ErrorKind::TimedOut { .. }) {
            return error;
        }
        if self.connection.is_over() {
            return Error::new(ErrorKind::TimedOut { maybe_executed }, error.to_string());
        }
        let open = self.unacknowledged();
        Error::new(
            ErrorKind::TimedOut { maybe_executed },
            format!("{open} of {} places of the queue were not acknowledged within the time allowed", self.slots()),
        )
    }
}

/// Whether a head says that a message is done with.
#[inline(always)]
fn is_acknowledgement(word: u64) -> bool {
    word == Descriptor { len: 0, kind: Kind::Acknowledged, in_body: false, has_deadline: false }.pack()
}

#[cold]
fn too_long(len: usize, capacity: usize) -> Error {
    Error::new(
        ErrorKind::CapacityExceeded { len, capacity },
        format!(
            "a message of {len} bytes does not fit: the queue's capacity is {capacity} bytes; ask for more with \
             SenderBuilder::capacity, within what the receiver allows (ReceiverBuilder::capacity)"
        ),
    )
}

impl fmt::Debug for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Sender")
            .field("name", &self.name)
            .field("slots", &self.slots())
            .field("capacity", &self.capacity())
            .field("stats", &self.stats())
            .finish()
    }
}
