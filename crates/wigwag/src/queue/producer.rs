//! The sender's core: what can be done now, how to be told when more can be done, and why it cannot.
//!
//! It never waits and knows no runtime. The senders are ways to wait on it: a thread waits in
//! [`Sender`](crate::queue::sender), an event loop by [`event_loop`](crate::queue::event_loop), a task in
//! `tokio::Sender`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::memory::head::{Head, Kind};
use crate::memory::layout::INLINE_CAPACITY;
use crate::memory::segment::Line;
use crate::memory::slot;
use crate::options::ConnectOptions;
use crate::queue::failover;
use crate::queue::loan::MessageLoan;
use crate::queue::outbox::{Outbox, Unacked};
use crate::queue::stand_in::StoodInFor;
use crate::session::close_reason::CloseReason;
use crate::session::connect::Established;
use crate::session::connection::Connection;
use crate::session::protocol::Reason;
use crate::stats::SenderStats;
use crate::sync::Ordering;
use crate::sys::clock;

/// One session with a receiver, what of it is not acknowledged, and what is needed to go on with another receiver.
pub struct Producer {
    /// Acts for it between its calls. `None`: nobody does. It goes before the connection, whose end hangs up and would
    /// be taken for the receiver's.
    pub(super) stand_in: Option<StoodInFor>,
    pub(super) connection: Connection,
    pub(super) outbox: Outbox,
    pub(super) name: OsString,
    pub(super) options: ConnectOptions,
    /// The tick of the clock at which the receiver was last known to live.
    pub(super) alive_at: i64,
    pub(super) counters: Counters,
    /// Which its receiver is of those that share the name; 0: it has the name for itself.
    pub(super) member: usize,
    /// Somebody is to act for it between its calls.
    pub(super) is_stood_in_for: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: u64,
    /// Of these, those whose slots have been freed.
    pub(super) acknowledged: u64,
    pub(super) redelivered: u64,
    refused: u64,
    pub(super) reconnects: u64,
    /// Of former sessions.
    pub(super) doorbells_rung: u64,
    pub(super) sleeps: u64,
}

/// Whether a message can be written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It can.
    There,
    /// When the oldest one is acknowledged.
    Full,
    /// When there is a receiver again.
    Gone,
}

impl Producer {
    /// A session that was made with these options.
    pub fn new(name: &OsStr, options: ConnectOptions, established: Established) -> Producer {
        let mut producer = Producer::of_nobody(name, options, established);
        producer.is_stood_in_for = true;
        producer.be_stood_in_for();
        producer
    }

    /// The same, for which nobody acts between its calls.
    pub(super) fn of_nobody(name: &OsStr, options: ConnectOptions, established: Established) -> Producer {
        let connection = connection(&options, established);
        Producer {
            member: connection.member(),
            outbox: Outbox::new(connection.geometry().slots, slot::before_first()),
            connection,
            name: name.to_owned(),
            options,
            alive_at: clock::tick(),
            counters: Counters::default(),
            is_stood_in_for: false,
            stand_in: None,
        }
    }

    /// The longest message in bytes.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.connection.geometry().capacity
    }

    /// How many messages can be under way.
    pub fn slots(&self) -> usize {
        self.connection.geometry().slots
    }

    /// The name it sends to.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Which its receiver is of those that share the name; 0: it has the name for itself.
    pub fn member(&self) -> usize {
        self.member
    }

    /// The session was made with that one of those who share the name, by its own name.
    pub fn be_member(&mut self, number: usize) {
        self.member = number;
    }

    /// The options it was made with.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// The next search for a receiver lasts so long, where there is none.
    pub fn look_for_receivers_for(&mut self, time: Duration) {
        self.options.server_timeout = time;
    }

    /// Nobody waits for what is not acknowledged when it is dropped.
    pub fn leave(&mut self) {
        self.options.linger = Some(Duration::ZERO);
    }

    /// The session, for a caller that waits at it.
    #[inline(always)]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// An error in a child that inherited the sender.
    #[inline(always)]
    pub fn check_fork(&self) -> Result<()> {
        match self.connection.is_forked() {
            true => Err(Error::forked()),
            false => Ok(()),
        }
    }

    /// Whether a message of `len` bytes can be written at once. What a step costs is at most a look at the descriptors.
    pub fn room(&mut self, len: usize) -> Result<Room> {
        self.check(len)?;
        if self.may_be_gone() && self.is_found_gone()? {
            return Ok(Room::Gone);
        }
        Ok(if self.has_room()? { Room::There } else { Room::Full })
    }

    /// Whether a message of `len` bytes can ever be written here.
    #[inline(always)]
    pub fn check(&self, len: usize) -> Result<()> {
        self.check_fork()?;
        if len > self.capacity() {
            return Err(too_long(len, self.capacity()));
        }
        Ok(())
    }

    /// Whether the receiver is gone, as far as is known, or time has passed since it was last known to live.
    #[inline(always)]
    pub fn may_be_gone(&self) -> bool {
        self.connection.is_over() || clock::tick() != self.alive_at
    }

    /// Looks whether the receiver is gone, after [`Producer::may_be_gone`].
    #[cold]
    pub fn is_found_gone(&mut self) -> Result<bool> {
        self.alive_at = clock::tick();
        if !self.connection.is_over() {
            self.connection.look()?;
        }
        self.settle_descriptors(); // once in a tick of the clock
        Ok(self.connection.is_over())
    }

    /// Takes in what the descriptors tell.
    pub fn look(&mut self) -> Result<()> {
        self.alive_at = clock::tick();
        self.connection.look()
    }

    /// Its descriptors were looked at, and told nothing.
    pub fn found_alive(&mut self) {
        self.alive_at = clock::tick();
        self.settle_descriptors(); // once in a tick of the clock
    }

    /// Whether the next slot is free, or can be freed.
    #[inline(always)]
    pub fn has_room(&mut self) -> Result<bool> {
        Ok(!self.outbox.is_full() || self.free_oldest()?)
    }

    /// How many messages have a slot.
    pub fn under_way(&self) -> usize {
        self.outbox.len()
    }

    /// Whether every slot is in use, as far as is known.
    pub fn is_full(&self) -> bool {
        self.outbox.is_full()
    }

    /// The room that [`Producer::room`] has just found, with nothing awaited since.
    #[inline(always)]
    pub fn draft_in_room(&mut self, len: usize) -> MessageLoan<'_> {
        debug_assert!(!self.outbox.is_full() && len <= self.capacity());
        MessageLoan::new(self, len)
    }

    /// A message into that room.
    #[inline(always)]
    pub fn put(&mut self, message: &[u8]) -> Result<()> {
        let mut draft = self.draft_in_room(message.len());
        draft.copy_from_slice(message);
        draft.commit()
    }

    /// As [`Producer::put`], without waking the receiver: that is due by [`Producer::ring`].
    pub fn put_silently(&mut self, message: &[u8]) {
        let mut draft = self.draft_in_room(message.len());
        draft.copy_from_slice(message);
        draft.pass_silently();
    }

    /// Wakes the receiver, if it sleeps, for what was put silently.
    pub fn ring(&self) {
        if !self.connection.is_forked() {
            self.connection.ring_if_asleep();
        }
    }

    /// The slot of the next message.
    #[inline(always)]
    pub(super) fn next_slot(&self) -> usize {
        self.outbox.next()
    }

    /// The message that was written into the next slot is sent; so many descriptors were, just before.
    #[inline(always)]
    pub(super) fn push(&mut self, len: usize, descriptors: u32, is_redelivered: bool) {
        let record = self.outbox.push(len, is_redelivered, slot::next_sequence);
        let head = Head {
            len: len as u32,
            kind: if is_redelivered { Kind::Redelivered } else { Kind::Message },
            in_body: len > INLINE_CAPACITY,
            has_deadline: false,
            descriptors,
        };
        let segment = self.connection.segment();
        // For observers; the tick was read when room was made. Published by the turn.
        if self.connection.has_same_clock() {
            segment.committed(record.slot).store(self.alive_at as u64, Ordering::Relaxed);
        }
        self.connection.pass_silently(segment.line(record.slot), head, record.sequence);
        self.counters.sent += 1;
    }

    /// Attaches a duplicate to the next message.
    #[cold]
    pub(super) fn attach(&self, descriptor: BorrowedFd<'_>) -> Result<()> {
        self.connection.attach(self.next_slot(), descriptor)
    }

    /// Sends what is attached to the next message, which is passed next. How many there are.
    #[cold]
    pub(super) fn send_descriptors(&self) -> Result<u32> {
        let (slot, sequence) = (self.next_slot(), self.outbox.next_sequence(slot::next_sequence));
        match self.connection.send_descriptors(slot, sequence) {
            // The message is kept for the next receiver, and with it all it has. Nobody takes it without them here: its
            // head says how many there are.
            Err(_) if self.connection.is_over() => {
                Ok(self.connection.travelling().map_or(0, |travelling| travelling.keep(slot, sequence)))
            }
            sent => sent,
        }
    }

    /// The next message is not sent with what is attached to it.
    #[cold]
    pub(super) fn detach(&self) {
        if !self.connection.is_forked() {
            self.connection.settle_descriptors(self.next_slot());
        }
    }

    /// Closes what messages carried that are done with. The sender keeps it until then for the receiver's successor.
    #[cold]
    pub fn settle_descriptors(&self) {
        if self.connection.is_forked() {
            return; // the memory is not there
        }
        let Some(travelling) = self.connection.travelling() else { return };
        travelling
            .settle_all(|slot, sequence| !self.outbox.is_last(slot, sequence) || self.is_acknowledged(slot, sequence));
    }

    /// Whether the receiver has given a slot back as it does when it is done with the message that was passed there.
    pub(super) fn is_acknowledged(&self, slot: usize, sequence: u64) -> bool {
        let line = self.connection.segment().line(slot);
        let turn = slot::load(&line.turn);
        // Relaxed: acquired with the turn. Read once.
        !turn.is_server() && turn.sequence() == sequence && is_acknowledgement(line.head.load(Ordering::Relaxed))
    }

    /// Frees the oldest message's slot if it is acknowledged.
    #[inline(always)]
    pub fn free_oldest(&mut self) -> Result<bool> {
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

    /// Whose turn says when the message at a place, 0 for the oldest, is acknowledged. `None`: there is no such one.
    pub fn line(&self, place: usize) -> Option<&Line> {
        self.outbox.get(place).map(|record| self.connection.segment().line(record.slot))
    }

    /// Asks to be rung for the message at a place, 0 for the oldest. `false`: there is nothing to wait for, it is
    /// acknowledged or the receiver gone.
    pub fn ask_for_ring(&self, place: usize) -> bool {
        let Some(record) = self.outbox.get(place) else { return false };
        !self.connection.is_over() && self.connection.ask_for_wake(record.slot).is_server()
    }

    /// The bell and what tells of the receiver's end, for a reactor.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn descriptors(&self) -> Result<(Option<std::os::fd::OwnedFd>, std::os::fd::OwnedFd)> {
        self.connection.descriptors()
    }

    /// Frees what can be freed. The place of the newest message that is not acknowledged: it is mostly the last, so a
    /// caller that waits for it is woken once. `None`: all are, and their slots free.
    pub fn newest_open(&mut self) -> Result<Option<usize>> {
        self.check_fork()?;
        while self.free_oldest()? {}
        self.settle_descriptors();
        let newest = self.outbox.len().checked_sub(1);
        // If all came back since, there is nothing to wait for at any place, and the next call frees them.
        let open = |newest| (0..=newest).rev().find(|&place| self.is_open(place)).unwrap_or(newest);
        Ok(newest.map(open))
    }

    /// Whether something is under way to a receiver of another process, or to none.
    pub fn has_left_something(&mut self) -> bool {
        matches!(self.newest_open(), Ok(Some(_))) && !self.connection.is_within_this_process()
    }

    /// Whether the receiver is gone, as far as is known.
    pub fn is_receiver_gone(&self) -> bool {
        self.connection.is_over()
    }

    /// Whether the receiver is not done with the message at a place.
    fn is_open(&self, place: usize) -> bool {
        let is_open = |record: Unacked| slot::load(&self.connection.segment().line(record.slot).turn).is_server();
        self.outbox.get(place).is_some_and(is_open)
    }

    /// How many messages the receiver is not done with.
    pub fn unacknowledged(&self) -> usize {
        (0..self.outbox.len()).filter(|&place| self.is_open(place)).count()
    }

    /// A message was not sent.
    #[cold]
    pub fn count_refused(&mut self) {
        self.counters.refused += 1;
    }

    /// Why a message cannot be sent at once.
    #[cold]
    pub fn why_full(&self) -> Error {
        Error::new(
            ErrorKind::Full,
            format!(
                "all {} places of the queue are taken by messages that are not acknowledged; receive and acknowledge \
                 some, or connect with more (SenderBuilder::slots)",
                self.slots()
            ),
        )
    }

    /// Why a message cannot be sent when there is no receiver, for a caller that does not look for one.
    pub fn why_gone(&self) -> Error {
        let error = self.connection.check_alive(false).err();
        error.map_or_else(|| self.why_full(), |error| self.not_found(error))
    }

    /// What has happened so far.
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
            self.stand_in.iter().for_each(|stand_in| stand_in.add_to(&mut stats));
        }
        stats
    }

    /// How values become bytes in this queue.
    #[cfg(feature = "serde")]
    pub fn encoding(&self) -> crate::contract::Encoding {
        self.options.contract.encoding
    }
}

/// The session of an attachment.
pub(super) fn connection(options: &ConnectOptions, established: Established) -> Connection {
    let connection = Connection::new(established, options.wait);
    connection.awaits_no_replies();
    connection
}

/// Whether a head says that a message is done with.
#[inline(always)]
pub(super) fn is_acknowledgement(word: u64) -> bool {
    word == Head { len: 0, kind: Kind::Acknowledged, in_body: false, has_deadline: false, descriptors: 0 }.pack()
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

impl Drop for Producer {
    /// Nobody here passes what is left to another receiver: a keeper may, though this process lives. Of what was passed
    /// elsewhere, or was begun to be, that has been said already.
    fn drop(&mut self) {
        self.inherit_at_the_end();
        failover::note_left(&self.connection);
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Sender")
            .field("name", &self.name)
            .field("slots", &self.slots())
            .field("capacity", &self.capacity())
            .field("stats", &self.stats())
            .finish()
    }
}

#[cfg(all(test, not(loom), not(wigwag_faults)))]
mod tests {
    use wigwag_testing::{Ground, LIMIT, eventually};

    use super::*;
    use crate::memory::doorbell::Waiting;
    use crate::session::connect;
    use crate::{Receiver, Sender};

    fn producer(ground: &Ground, slots: usize) -> Producer {
        let options = Sender::builder().slots(slots).capacity(64).checked_options().unwrap();
        let name = ground.socket();
        let established = connect::attach(name.as_ref(), &options).unwrap();
        Producer::new(name.as_ref(), options, established)
    }

    #[test]
    fn d1_a_full_queue_says_so_and_has_room_once_the_oldest_is_acknowledged() {
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut producer = producer(&ground, 2);
        for message in [b"one", b"two"] {
            assert_eq!(producer.room(3).unwrap(), Room::There);
            producer.put(message).unwrap();
        }
        assert_eq!(producer.room(3).unwrap(), Room::Full);
        assert!(producer.is_full() && !producer.has_room().unwrap());
        assert_eq!(producer.why_full().kind(), ErrorKind::Full);
        let (one, two) = (receiver.recv().unwrap(), receiver.recv().unwrap());
        two.ack();
        assert_eq!(producer.room(3).unwrap(), Room::Full, "the ring is used in order");
        assert_eq!((producer.unacknowledged(), producer.stats().acknowledged), (1, 1));
        one.ack();
        assert_eq!(producer.room(3).unwrap(), Room::There);
        producer.put(b"three").unwrap();
        assert_eq!(&receiver.recv().unwrap()[..], b"three");
        let error = producer.room(65).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CapacityExceeded { len: 65, capacity: 64 });
    }

    #[test]
    fn d1_the_newest_open_message_is_the_one_to_wait_for() {
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut producer = producer(&ground, 4);
        assert_eq!(producer.newest_open().unwrap(), None);
        (0..3).for_each(|_| producer.put(b"").unwrap());
        assert_eq!(producer.newest_open().unwrap(), Some(2));
        let mut deliveries: Vec<_> = (0..3).map(|_| receiver.recv().unwrap()).collect();
        deliveries.pop().unwrap().ack();
        assert_eq!(producer.newest_open().unwrap(), Some(1), "the one behind it came back before");
        deliveries.remove(0).ack();
        assert_eq!(producer.newest_open().unwrap(), Some(0), "the oldest is freed, the next one is the oldest");
        drop(deliveries);
        assert_eq!(producer.newest_open().unwrap(), None);
        assert_eq!((producer.stats().sent, producer.stats().acknowledged), (3, 3));
        assert!(producer.line(0).is_none());
    }

    #[test]
    fn a_message_put_silently_wakes_nobody_until_the_ring() {
        let ground = Ground::new();
        let receiver = Receiver::builder().wait(crate::Wait::Park).bind(ground.socket()).unwrap();
        let mut producer = producer(&ground, 4);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| (0..2).map(|_| receiver.recv().unwrap().to_vec()).collect::<Vec<_>>());
            let waiting =
                |producer: &Producer| Waiting(&producer.connection().segment().server_line().waiting).is_announced();
            eventually("the receiver sleeps", || waiting(&producer));
            producer.put_silently(b"one");
            producer.put_silently(b"two");
            assert_eq!(producer.stats().doorbells_rung, 0);
            producer.ring();
            assert_eq!(producer.stats().doorbells_rung, 1);
            assert_eq!(thread.join().unwrap(), [b"one", b"two"]);
        });
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn w1_whoever_asks_for_a_ring_is_told_whether_one_comes() {
        use rustix::event::{PollFd, PollFlags, poll};
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut producer = producer(&ground, 1);
        let (bell, _) = producer.descriptors().unwrap();
        let bell = bell.expect("the receiver is of the same user");
        assert!(!producer.ask_for_ring(0), "nothing is under way");
        producer.put(b"one").unwrap();
        assert!(producer.ask_for_ring(0) && !producer.ask_for_ring(1));
        std::thread::scope(|scope| {
            scope.spawn(|| receiver.recv().unwrap().ack());
            let timeout = LIMIT.try_into().unwrap();
            assert_eq!(poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&timeout)), Ok(1), "nobody rang");
        });
        assert!(!producer.ask_for_ring(0), "it is acknowledged");
        assert_eq!(producer.room(3).unwrap(), Room::There);
    }

    #[test]
    fn d3_without_a_receiver_there_is_no_room_and_its_successor_gets_what_is_kept() {
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut producer = producer(&ground, 3);
        for message in ["done", "had", "new"] {
            producer.put(message.as_bytes()).unwrap();
        }
        receiver.recv().unwrap().ack();
        std::mem::forget(receiver.recv().unwrap()); // neither acknowledged nor given back
        drop(receiver);
        eventually("the end shows", || producer.room(3).unwrap() == Room::Gone);
        assert!(producer.is_receiver_gone());
        let nobody = producer.search().unwrap().wait(None).unwrap_err();
        let error = producer.not_found(nobody);
        assert_eq!(error.kind(), ErrorKind::NotRunning);
        assert!(error.to_string().contains("2 messages are kept"), "{error}");

        let successor = Receiver::bind(ground.socket()).unwrap();
        let established = producer.search().unwrap().wait(None).unwrap().expect("there is no end to this wait");
        producer.move_to(producer.connection_of(established)).unwrap();
        assert_eq!(producer.room(3).unwrap(), Room::There);
        let deliveries: Vec<_> = (0..2).map(|_| successor.recv().unwrap()).collect();
        assert_eq!((&deliveries[0][..], deliveries[0].is_redelivered()), (&b"had"[..], true));
        assert_eq!((&deliveries[1][..], deliveries[1].is_redelivered()), (&b"new"[..], false));
        drop(deliveries);
        assert_eq!(producer.newest_open().unwrap(), None);
        let stats = producer.stats();
        assert_eq!((stats.sent, stats.acknowledged, stats.redelivered, stats.reconnects), (3, 3, 1, 1));
    }
}
