//! The sending face of a queue: messages one way, each kept until the receiver has acknowledged it.

use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::options::ConnectOptions;
use crate::queue::event_loop::LoopDescriptor;
use crate::queue::group::Group;
use crate::queue::loan::MessageLoan;
use crate::queue::producer::Producer;
use crate::session::connect::{ClientHandshake, Established};
use crate::stats::SenderStats;
use crate::wait::deadline::Deadline;

mod builder;

pub use crate::queue::sender::builder::SenderBuilder;

/// One sender of a queue: messages go one way, to the [`Receiver`](crate::Receiver) of the name, or to those that
/// [share](crate::ReceiverBuilder::shared) it.
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
/// acknowledged it. If the receiver dies, its successor gets all that was not acknowledged, in order, by a call here or
/// without one; what the dead one had been handed is marked as
/// [redelivered](crate::Delivery::is_redelivered). If this process dies or exits, the receiver keeps the memory
/// until it has received everything that was committed. Only the death of both loses what was not acknowledged.
///
/// **Dropping it waits** until everything is acknowledged: as long as a receiver lives, also for the successor of one
/// that dies meanwhile, and for 5 seconds where there is none; [`SenderBuilder::linger`] sets another time.
/// [`close`](Sender::close) does the same and says what came of it, [`flush`](Sender::flush) goes on to send.
/// A receiver of the same process is not waited for, and neither a panic nor `std::process::exit` waits.
///
/// While no call is made, one thread stands in for all senders of the process: it sleeps until a receiver dies. It does
/// so for a receiver of the same user in another process, without [descriptors](SenderBuilder::descriptors); all else
/// is done by the next call.
///
/// A sender may move to another thread, but two threads cannot share one: [`try_clone`](Sender::try_clone) gives each
/// its own. Messages of one sender arrive in order; those of several have no order among themselves, nor have those at
/// several receivers.
pub struct Sender {
    pub(super) producer: Producer,
    /// For the next receiver, begun by a call that had no time for its end.
    pub(super) search: Option<Box<ClientHandshake>>,
    /// For an event loop, once one has asked for it.
    pub(super) loop_descriptor: Option<LoopDescriptor>,
    /// There if several receivers share the name: the sessions with all but one of them.
    pub(super) group: Option<Box<Group>>,
    /// It is being dropped, and waits only for what a receiver of this very process does not have.
    pub(super) is_lingering: bool,
    looks_for_half: u32,
}

/// How often, at most, a sender whose queue is full looks whether half of it is free: some 20 microseconds.
const LOOKS_FOR_HALF_MAX: u32 = 8;

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
        self.producer.capacity()
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
        self.producer.slots()
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
            if self.producer.is_full() {
                self.producer.ring();
            }
            if let Err(error) = self.make_room(message.len(), Deadline::Never) {
                self.producer.count_refused();
                self.producer.ring();
                return Err(error);
            }
            self.producer.put_silently(message);
            count += 1;
        }
        self.producer.ring();
        Ok(count)
    }

    /// How values become bytes in this queue.
    #[cfg(feature = "serde")]
    pub(crate) fn encoding(&self) -> crate::contract::Encoding {
        self.producer.encoding()
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
        self.loan_within(len, Deadline::Never)
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
        self.loan_within(len, Deadline::Now)
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
        self.loan_within(len, Deadline::after(timeout))
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
    /// Dropping a sender waits as well, within its time to [linger](SenderBuilder::linger), and tells nobody.
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
        let flushed = self.flush_within(Deadline::Never);
        self.producer.leave(); // the caller is told
        flushed
    }

    /// Ends it at once: what is not acknowledged is received if the receiver lives, and lost if it does not.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"hello")?;
    /// sender.abandon();
    /// assert_eq!(&receiver.recv()?[..], b"hello");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn abandon(mut self) {
        self.producer.leave();
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
        SenderBuilder::from(self.producer.options().clone()).connect(self.producer.name())
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
        self.all_stats()
    }

    /// How many messages no receiver has acknowledged; none, in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"hello")?;
    /// assert_eq!(sender.unacknowledged(), 1);
    /// receiver.recv()?.ack();
    /// assert_eq!(sender.unacknowledged(), 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn unacknowledged(&self) -> usize {
        if self.producer.check_fork().is_err() { 0 } else { self.open() }
    }

    /// One that has just been made.
    pub(super) fn new(producer: Producer) -> Result<Sender> {
        let mut sender = Sender {
            producer,
            search: None,
            loop_descriptor: None,
            group: None,
            is_lingering: false,
            looks_for_half: LOOKS_FOR_HALF_MAX,
        };
        sender.join_all()?;
        Ok(sender)
    }

    #[inline(always)]
    fn send_within(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        match self.make_room(message.len(), deadline) {
            Ok(()) => self.producer.put(message),
            Err(error) => {
                self.producer.count_refused();
                Err(error)
            }
        }
    }

    #[inline(always)]
    fn loan_within(&mut self, len: usize, deadline: Deadline) -> Result<MessageLoan<'_>> {
        match self.make_room(len, deadline) {
            Ok(()) => Ok(self.producer.draft_in_room(len)),
            Err(error) => {
                self.producer.count_refused();
                Err(error)
            }
        }
    }

    /// Sees to it that the next slot can be written to, and that somebody receives. There is one way to success, so
    /// that what follows it is not compiled once for each.
    #[inline(always)]
    pub(super) fn make_room(&mut self, len: usize, deadline: Deadline) -> Result<()> {
        self.producer.check(len)?;
        if self.group.is_some() {
            return self.make_room_in_group(deadline);
        }
        if self.producer.may_be_gone() {
            self.look_for_receiver(deadline)?;
        }
        if !self.producer.has_room()? {
            self.wait_for_room(deadline)?;
        }
        Ok(())
    }

    /// The queue is full.
    #[cold]
    fn wait_for_room(&mut self, deadline: Deadline) -> Result<()> {
        if !matches!(deadline, Deadline::Now) && self.wait_for_half() && self.producer.free_oldest()? {
            return Ok(());
        }
        loop {
            if matches!(deadline, Deadline::Now) {
                self.producer.look()?;
                if self.producer.is_receiver_gone() {
                    self.reconnect(deadline)?;
                }
                return if self.producer.has_room()? { Ok(()) } else { Err(self.producer.why_full()) };
            }
            self.wait_for(0, deadline).map_err(|error| self.or_timed_out(error, false))?;
            if self.group.is_some() {
                return self.make_room_in_group(deadline); // the successor shares the name
            }
            if self.producer.has_room()? {
                return Ok(());
            }
        }
    }

    /// Looks for the next receiver if there is none any more.
    #[cold]
    fn look_for_receiver(&mut self, deadline: Deadline) -> Result<()> {
        match self.producer.is_found_gone()? {
            true => self.reconnect(deadline),
            false => self.join_all_in_time(),
        }
    }

    /// Looks for a moment whether half of the places become free, as they do when the receiver works all the time.
    /// Whoever takes each place at the moment it is free stands in the receiver's way: the two pull the same lines to
    /// and fro, and each message takes twice as long. It is only a moment, because the receiver may well hold some
    /// messages and wait for one more.
    fn wait_for_half(&mut self) -> bool {
        let Some(line) = self.producer.line(self.slots() / 2) else { return false };
        let connection = self.producer.connection();
        let has_come = (0..self.looks_for_half).any(|_| connection.wait_briefly(line).is_some());
        // What was in vain is tried for half as long the next time.
        self.looks_for_half =
            if has_come { (2 * self.looks_for_half).min(LOOKS_FOR_HALF_MAX) } else { (self.looks_for_half / 2).max(1) };
        has_come
    }

    /// Waits until the message at a place is acknowledged, or has been sent anew to another receiver.
    fn wait_for(&mut self, place: usize, deadline: Deadline) -> Result<()> {
        let Some(line) = self.producer.line(place) else { return Ok(()) };
        match self.producer.connection().wait(line, deadline) {
            Ok(()) => Ok(()),
            Err(error) if self.producer.is_receiver_gone() && error.kind() != ErrorKind::Violation => {
                self.reconnect(deadline)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn flush_within(&mut self, deadline: Deadline) -> Result<()> {
        if self.group.is_some() {
            self.producer.check_fork()?;
            return self.flush_group(deadline);
        }
        while let Some(place) = self.producer.newest_open()? {
            self.wait_for(place, deadline).map_err(|error| self.or_timed_out(error, true))?;
            if self.is_lingering && !self.has_left_something() {
                return Ok(());
            }
            if self.group.is_some() {
                return self.flush_group(deadline); // the successor shares the name
            }
        }
        Ok(())
    }

    /// The receiver is gone. Finds the next one, and hands it what the last one did not acknowledge. A search that this
    /// call has no more time for is kept, and the next call goes on with it: so one that never waits gets there as
    /// well.
    #[cold]
    fn reconnect(&mut self, deadline: Deadline) -> Result<()> {
        if self.search.as_ref().is_some_and(|search| search.is_stale()) {
            self.search = None;
        }
        let until = if faults::is(Fault::PatientSearch) { None } else { deadline.as_instant() };
        if self.go_on_searching(|search| search.wait(until))? {
            return Ok(());
        }
        let not_yet = self.search.as_mut().map_or_else(|| self.producer.why_gone(), |search| search.not_yet());
        let error = self.producer.not_found(not_yet);
        Err(match (deadline, error.kind()) {
            // Who does not wait has not run out of time.
            (Deadline::Now, ErrorKind::TimedOut { .. }) => Error::new(ErrorKind::NotRunning, error.to_string()),
            _ => error,
        })
    }

    /// Takes a step of the search for the next receiver. Whether that is there, and has what the last one did not
    /// acknowledge. An error ends the search.
    pub(super) fn go_on_searching(
        &mut self,
        step: impl FnOnce(&mut ClientHandshake) -> Result<Option<Established>>,
    ) -> Result<bool> {
        if self.producer.adopt() {
            self.search = None;
            return self.has_moved();
        }
        let mut search = match self.search.take() {
            Some(search) => search,
            None => Box::new(self.producer.search()?),
        };
        self.loop_descriptor.iter_mut().for_each(LoopDescriptor::has_changed);
        match step(&mut search) {
            // The thread was first.
            Ok(Some(_)) if self.producer.act_by_itself() => self.has_moved(),
            Ok(Some(established)) => {
                let moved = self.producer.move_to(self.producer.connection_of(established));
                moved.map_err(|error| self.producer.not_found(error))?;
                self.has_moved()
            }
            Ok(None) => {
                self.search = Some(search);
                Ok(false)
            }
            Err(error) => Err(self.producer.not_found(error)),
        }
    }

    fn has_moved(&mut self) -> Result<bool> {
        self.loop_descriptor.iter_mut().for_each(LoopDescriptor::has_changed);
        self.join_all_in_time()?;
        Ok(true)
    }

    /// `maybe_executed`: whether the call was about messages that had been sent.
    #[cold]
    fn or_timed_out(&self, error: Error, maybe_executed: bool) -> Error {
        if !matches!(error.kind(), ErrorKind::TimedOut { .. }) {
            return error;
        }
        if self.producer.is_receiver_gone() {
            return Error::new(ErrorKind::TimedOut { maybe_executed }, error.to_string());
        }
        let (open, slots) = (self.producer.unacknowledged(), self.slots());
        Error::new(
            ErrorKind::TimedOut { maybe_executed },
            format!("{open} of {slots} places of the queue were not acknowledged within the time allowed"),
        )
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.is_to_linger() {
            self.linger();
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.producer.fmt(out)
    }
}
