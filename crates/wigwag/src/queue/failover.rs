//! What becomes of a sender whose receiver is gone: whom to ask for next, and how what was not acknowledged is handed
//! over. The senders wait for the search.

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::memory::head::{Head, Kind};
use crate::memory::layout::INLINE_CAPACITY;
use crate::memory::segment::{Moving, Segment};
use crate::memory::slot;
use crate::options::ConnectOptions;
use crate::queue::outbox::{Outbox, Unacked};
use crate::queue::producer::{self, Producer};
use crate::session::agreement::Protocol;
use crate::session::connect::{ClientHandshake, Established};
use crate::session::connection::Connection;
use crate::sync::Ordering;
use crate::sys::clock;

/// A message that is passed anew: what it was in the old session, and is in the new one.
struct Move {
    from: Unacked,
    to: Unacked,
}

/// What becomes of all messages under way.
struct Moves {
    messages: Vec<Move>,
    /// The new session's.
    outbox: Outbox,
    /// How many need not be passed.
    acknowledged: u64,
}

impl Moves {
    fn new(slots: usize) -> Moves {
        Moves { messages: Vec::new(), outbox: Outbox::new(slots, slot::before_first()), acknowledged: 0 }
    }
}

impl Producer {
    /// The search for the next receiver, not begun; an error if there must not be one.
    pub fn search(&self) -> Result<ClientHandshake> {
        ClientHandshake::begin(&self.name, self.wishes_for_successor()?)
    }

    /// What is asked of the next receiver: all under way shall fit, so the new session is as large as the old one or is
    /// refused. After a violation there is none.
    pub(super) fn wishes_for_successor(&self) -> Result<ConnectOptions> {
        match self.connection.check_alive(false) {
            Err(error) if error.kind() == ErrorKind::Violation => Err(error),
            _ => Ok(ConnectOptions {
                slots: Some(self.slots()),
                capacity: Some(self.capacity()),
                ..self.options.clone()
            }),
        }
    }

    /// The session of a search that ended well.
    pub fn connection_of(&self, established: Established) -> Connection {
        producer::connection(&self.options, established)
    }

    /// Sends what is not acknowledged to the receiver of a new session, and everything from now on.
    ///
    /// # Errors
    /// Descriptors that belong to it cannot travel there: nothing was passed, all is kept, and the new session ends.
    pub fn move_to(&mut self, connection: Connection) -> Result<()> {
        debug_assert!(self.stand_in.is_none(), "two would hand the same messages over");
        let mut moves = Moves::new(connection.geometry().slots);
        self.plan(&mut moves);
        self.send_descriptors_to(&connection, &moves.messages)?;
        self.outbox = moves.outbox;
        let old = std::mem::replace(&mut self.connection, connection);
        self.member = self.connection.member();
        self.alive_at = clock::tick();
        self.counters.acknowledged += moves.acknowledged;
        self.counters.reconnects += 1;
        self.counters.doorbells_rung += old.doorbells_rung();
        self.counters.sleeps += old.sleeps();
        // For whoever keeps the messages of the dead. It is there before the passes below are, which are no weaker than
        // Release.
        note_moving(&old, Moving::Begun);
        let mut bytes = Vec::new();
        for Move { from, to } in moves.messages {
            copy(old.segment(), from, &mut bytes);
            let descriptors = self.take_descriptors_over(&old, from, to);
            self.pass_moved(old.segment(), (from, to), &bytes, descriptors);
        }
        note_moving(&old, Moving::Done);
        self.connection.ring_if_asleep();
        self.be_stood_in_for();
        Ok(())
    }

    /// Passes a message that was in another session of this sender.
    pub(super) fn pass_moved(&mut self, old: &Segment, (from, to): (Unacked, Unacked), bytes: &[u8], descriptors: u32) {
        // for observers, whatever it is; of this process's own clock
        let committed = old.committed(from.slot).load(Ordering::Relaxed);
        self.pass_anew(to, bytes, committed, descriptors);
    }

    /// Passes a message that was in another session, as the outbox has it. Who passes the last one rings.
    fn pass_anew(&mut self, to: Unacked, bytes: &[u8], committed: u64, descriptors: u32) {
        let segment = self.connection.segment();
        let in_body = to.len > INLINE_CAPACITY;
        segment.copy_in(to.slot, in_body, bytes);
        let committed = if self.connection.has_same_clock() { committed } else { 0 };
        segment.committed(to.slot).store(committed, Ordering::Relaxed); // published by the turn
        let kind =
            if to.is_redelivered && !faults::is(Fault::UnmarkedMove) { Kind::Redelivered } else { Kind::Message };
        let head = Head { len: to.len as u32, kind, in_body, has_deadline: false, descriptors };
        self.connection.pass_silently(segment.line(to.slot), head, to.sequence);
        self.counters.redelivered += u64::from(to.is_redelivered);
    }

    /// Passes a message of a sender that is dead, into the room that was found for it.
    pub(super) fn put_of_another(&mut self, message: &[u8], is_redelivered: bool, committed: u64) {
        let to = self.outbox.push(message.len(), is_redelivered, slot::next_sequence);
        self.counters.sent += 1;
        self.pass_anew(to, message, committed, 0);
        self.connection.ring_if_asleep();
    }

    /// Which messages are to be passed anew, and where. It is decided once: a delivery that has outlived its receiver
    /// may be acknowledged meanwhile.
    fn plan(&self, moves: &mut Moves) {
        for from in (0..self.outbox.len()).filter_map(|place| self.outbox.get(place)) {
            if self.is_acknowledged(from.slot, from.sequence) {
                moves.acknowledged += 1;
                continue;
            }
            let is_redelivered = from.is_redelivered || !was_untouched(self.connection.segment(), from.slot);
            let to = moves.outbox.push(from.len, is_redelivered, slot::next_sequence);
            moves.messages.push(Move { from, to });
        }
    }

    /// Sends the descriptors of all these messages, before the first of them is passed: it may fail, and passing does
    /// not.
    fn send_descriptors_to(&self, connection: &Connection, moves: &[Move]) -> Result<()> {
        let Some(old) = self.connection.travelling() else { return Ok(()) };
        let count = |from: &Unacked| old.count(from.slot, from.sequence);
        let carrying = moves.iter().filter(|Move { from, .. }| count(from) > 0).count();
        if carrying == 0 {
            return Ok(());
        }
        let Some(new) = connection.travelling() else { return Err(not_there(carrying)) };
        self.connection.hang_up();
        old.make_room();
        let mut sent =
            moves.iter().map(|Move { from, to }| new.send_again(old, (from.slot, from.sequence), to.slot, to.sequence));
        sent.try_for_each(|sent| sent).map_err(|error| connection.why_not_sent(error))
    }

    /// The descriptors that were sent for a message are the new session's. How many they are.
    fn take_descriptors_over(&self, old: &Connection, from: Unacked, to: Unacked) -> u32 {
        let (Some(old), Some(new)) = (old.travelling(), self.connection.travelling()) else { return 0 };
        new.take_over(old, (from.slot, from.sequence), to.slot, to.sequence);
        new.count(to.slot, to.sequence) as u32 // at most 16
    }

    /// No receiver was found, for now or within the time for that.
    #[cold]
    pub fn not_found(&self, error: Error) -> Error {
        let kept = self.unacknowledged();
        let sentence = format!(
            "the receiver is gone, and no other took its place: {error}; {kept} messages are kept for one, which the \
             next call looks for again (SenderBuilder::server_timeout says for how long)"
        );
        // One that went away while it was asked is as missing as one that was never there.
        let kind = match error.kind() {
            ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. } => ErrorKind::NotRunning,
            kind => kind,
        };
        Error::new(kind, sentence)
    }
}

/// Says in the memory of a session what becomes of what is not acknowledged there.
pub(super) fn note_moving(of: &Connection, moving: Moving) {
    if !of.is_forked() {
        say_moving(of.segment(), of.protocol(), moving);
    }
}

/// Says that its sender is done with a session. What has moved, or has begun to, has been said already.
pub(super) fn note_left(of: &Connection) {
    let moving = || Moving::of(of.segment().client_line().moving.load(Ordering::Relaxed));
    if !of.is_forked() && matches!(moving(), Moving::NotBegun | Moving::Attached) {
        note_moving(of, Moving::Left);
    }
}

/// The same, for who has no more of the session than its memory.
pub(super) fn say_moving(segment: &Segment, protocol: Protocol, moving: Moving) {
    if protocol >= Protocol::V2 {
        segment.say_moving(moving);
    }
}

/// The bytes of a message that was not acknowledged.
pub(super) fn copy(segment: &Segment, from: Unacked, bytes: &mut Vec<u8>) {
    bytes.resize(from.len, 0);
    segment.copy_out(from.slot, from.len > INLINE_CAPACITY, bytes);
}

/// Whether the last receiver cannot have had the message in a slot, which has not been acknowledged: only such a one
/// goes out as new.
pub(super) fn was_untouched(segment: &Segment, slot: usize) -> bool {
    let line = segment.line(slot);
    let word = line.head.load(Ordering::Relaxed); // of a process that is gone; read once
    slot::load(&line.turn).is_server() && matches!(Head::parse(word), Some(Head { kind: Kind::Message, .. }))
}

/// The receiver that took the name does not let descriptors travel.
#[cold]
fn not_there(carrying: usize) -> Error {
    Error::new(
        ErrorKind::NotAgreed,
        format!(
            "{carrying} of the messages have descriptors, which do not travel to the receiver that is there now \
             (ReceiverBuilder::descriptors)"
        ),
    )
}
