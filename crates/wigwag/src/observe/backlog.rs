//! The work that waits in a session: read from the session's own memory, which the client writes, and not from the
//! statistics, which a server that is stopped does not.
//!
//! Both sides write there while it is read, and either may lie. Numbers are bounded by the slots, the ring and the
//! clock.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::form::Form;
use crate::memory::head::{Head, Kind};
use crate::memory::layout::{
    CLIENT_LINE_OFFSET, Geometry, LINE_SIZE, LINES_OFFSET, RING_WORD_STRIDE, RING_WORDS_OFFSET, SERVER_LINE_OFFSET,
    SLEEPS_OFFSET, SLEEPS_SLOTS,
};
use crate::memory::slot::Turn;
use crate::observe::Session;
use crate::observe::memories::words;

/// A slot whose call was begun, and how long ago at most.
pub type Begun = (u32, Duration);

/// The work that waits in a session of an exchange or a queue.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
/// let receiver = wigwag::Receiver::bind(name)?;
/// let mut sender = wigwag::Sender::connect(name)?;
/// sender.send_batch(["one", "two", "three"])?;
/// let observer = wigwag::observe::Observer::open(name)?;
/// # while observer.snapshot()?.sessions.is_empty() {} // the session is listed a moment after the connect
/// let backlog = observer.snapshot()?.sessions[0].backlog.clone().expect("its sender is this very process");
/// assert_eq!((backlog.waiting, backlog.is_full, backlog.is_blocked), (3, false, false));
/// println!("the oldest was sent {:?} ago", backlog.oldest_waiting.unwrap());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Calls passed to the server that nobody has begun; messages committed that nobody has received.
    pub waiting: u64,
    /// Of all calls that have not been answered, those whose callers gave up.
    pub abandoned: u64,
    /// How long the oldest of `waiting` has waited. A message: since it was committed, to a tick of the kernel's clock,
    /// which is a few milliseconds. A call: *at least* so long, because it counts from when its caller fell asleep over
    /// it; `None` if none did, as a caller that spins, or that does something else meanwhile.
    pub oldest_waiting: Option<Duration>,
    /// How long ago the oldest call came that was begun and is not answered, at most; how long ago the oldest message
    /// was committed that was received and is not acknowledged.
    pub oldest_in_flight: Option<Duration>,
    /// Whether all slots are under way, so that a sender has no room.
    pub is_full: bool,
    /// Whether the client waits for this server: asleep for a reply, or for room in a full queue. One whose time to
    /// wait ended counts as waiting for room until there was some.
    pub is_blocked: bool,
    /// For how long it has, if that is known.
    pub blocked_for: Option<Duration>,
}

/// What a slot line and the words beside it say.
struct Slot {
    turn: Turn,
    kind: Option<Kind>,
    /// Since when the client has slept for it.
    slept_ns: Option<u64>,
}

impl Backlog {
    /// Reads the memory of a session, of which `begun` are the slots whose calls were begun.
    pub(super) fn read(
        memory: &OwnedFd,
        geometry: &Geometry,
        form: Form,
        session: &Session,
        begun: &[Begun],
        now_ns: u64,
    ) -> Option<Backlog> {
        const LINE_WORDS: usize = LINE_SIZE / 8;
        let sleeps = words(memory, SLEEPS_OFFSET, geometry.slots.min(SLEEPS_SLOTS))?;
        let lines = words(memory, LINES_OFFSET, geometry.slots * LINE_WORDS)?;
        let slots = lines.chunks_exact(LINE_WORDS).enumerate().map(|(index, line)| {
            let turn = Turn::of(line[0]);
            // Without WAKE the word is of a former call.
            let slept_ns = sleeps.get(index).copied().filter(|since| turn.wants_wake() && *since != 0);
            Slot { turn, kind: Head::parse(line[1]).map(|head| head.kind), slept_ns }
        });
        let slots: Vec<Slot> = slots.collect();
        if form.has_commit_times() {
            let committed = words(memory, geometry.deadlines_offset, geometry.slots)?;
            return Some(Backlog::of_queue(&slots, &committed, session.in_flight, now_ns));
        }
        Some(Backlog::of_exchange(&slots, session, begun, now_ns))
    }

    fn of_exchange(slots: &[Slot], session: &Session, begun: &[Begun], now_ns: u64) -> Backlog {
        let is_begun = |index: usize| begun.iter().any(|(slot, _)| *slot as usize == index);
        let passed = || slots.iter().enumerate().filter(|(_, slot)| slot.turn.is_server());
        let not_begun = || passed().filter(|(index, _)| !is_begun(*index));
        // No call can be older than its session.
        let age = |slot: &Slot| Some(age(slot.slept_ns?, now_ns)?.min(age(session.began_ns, now_ns)?));
        let asleep = || passed().filter(|(_, slot)| slot.turn.wants_wake() && !slot.turn.is_abandoned());
        let total = passed().count() as u64;
        // Of very many calls that are kept not all are listed, so their number counts as well.
        let waiting = (not_begun().count() as u64).min(total.saturating_sub(session.in_flight));
        Backlog {
            waiting,
            abandoned: passed().filter(|(_, slot)| slot.turn.is_abandoned()).count() as u64,
            oldest_waiting: not_begun().filter_map(|(_, slot)| age(slot)).max().filter(|_| waiting > 0),
            oldest_in_flight: begun.iter().map(|(_, at_most)| *at_most).max(),
            is_full: total == slots.len() as u64,
            is_blocked: asleep().next().is_some(),
            blocked_for: asleep().filter_map(|(_, slot)| age(slot)).max(),
        }
    }

    fn of_queue(slots: &[Slot], committed: &[u64], in_flight: u64, now_ns: u64) -> Backlog {
        let open = || slots.iter().zip(committed).filter(|(slot, _)| slot.turn.is_server());
        let oldest = |of_kind: &dyn Fn(Option<Kind>) -> bool| {
            let ages = open().filter(|(slot, _)| of_kind(slot.kind)).filter_map(|(_, since)| age(*since, now_ns));
            ages.max()
        };
        let total = open().count() as u64;
        let waiting = total.saturating_sub(in_flight);
        let is_delivered = |kind| kind == Some(Kind::Delivered);
        let new = oldest(&|kind| !is_delivered(kind));
        let delivered = oldest(&is_delivered);
        let is_full = total == slots.len() as u64;
        let asleep = || open().map(|(slot, _)| slot).filter(|slot| is_full && slot.turn.wants_wake());
        Backlog {
            waiting,
            abandoned: 0,
            // One that was given back waits again, and its head does not tell.
            oldest_waiting: new.or(delivered).filter(|_| waiting > 0),
            oldest_in_flight: delivered.filter(|_| in_flight > 0),
            is_full,
            is_blocked: asleep().next().is_some(),
            blocked_for: asleep().filter_map(|slot| age(slot.slept_ns?, now_ns)).max(),
        }
    }
}

/// How long ago a time was that somebody else wrote; none for 0 and for one that is still to come.
fn age(since_ns: u64, now_ns: u64) -> Option<Duration> {
    (since_ns != 0).then(|| now_ns.checked_sub(since_ns)).flatten().map(Duration::from_nanos)
}

/// The two directions of a stream.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// use std::io::Write as _;
/// let listener = wigwag::StreamListener::bind(name)?;
/// let mut client = wigwag::Stream::connect(name)?;
/// client.write_all(b"hello").unwrap();
/// let observer = wigwag::observe::Observer::open(name)?;
/// # while observer.snapshot()?.sessions.is_empty() {} // the session is listed a moment after the connect
/// let rings = observer.snapshot()?.sessions[0].rings.clone().unwrap();
/// assert_eq!((rings.incoming.written, rings.incoming.unread, rings.outgoing.written), (5, 5, 0));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rings {
    /// To the process that accepts.
    pub incoming: Ring,
    /// From the process that accepts.
    pub outgoing: Ring,
}

/// One direction of a stream.
///
/// ```
/// assert_eq!(wigwag::observe::Ring::default().unread, 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ring {
    /// Bytes that it holds.
    pub size: u64,
    /// Bytes ever written.
    pub written: u64,
    /// Bytes that were written and not read.
    pub unread: u64,
    /// Whether the reader sleeps until something is written.
    pub is_reader_waiting: bool,
    /// Whether the writer sleeps until there is room.
    pub is_writer_waiting: bool,
    /// Whether the writer has ended it in good order.
    pub is_ended: bool,
}

impl Rings {
    pub(super) fn read(memory: &OwnedFd, geometry: &Geometry) -> Option<Rings> {
        const STRIDE: usize = RING_WORD_STRIDE / 8;
        // `waits_for_data` and `waits_for_room` are the first two words of 32 bits.
        let waits = |offset| words(memory, offset, 1).map(|words| words[0].to_ne_bytes());
        let halves = |bytes: [u8; 8]| {
            let half = |at: usize| bytes[at..at + 4] != [0; 4];
            (half(0), half(4))
        };
        let (connecting, accepting) = (halves(waits(CLIENT_LINE_OFFSET)?), halves(waits(SERVER_LINE_OFFSET)?));
        let counters = words(memory, RING_WORDS_OFFSET, 3 * STRIDE + 1)?;
        let ring = |first: usize, reader: (bool, bool), writer: (bool, bool)| {
            let (produced, consumed) = (counters[first], counters[first + STRIDE]);
            let size = geometry.capacity as u64;
            // Counters of 63 bits; more than a ring is no number that there can be, and less than nothing neither.
            let unread = (produced >> 1).wrapping_sub(consumed >> 1) & (u64::MAX >> 1);
            let unread = if unread > size { 0 } else { unread };
            Ring {
                size,
                written: produced >> 1,
                unread,
                // The mark is also set on an end that reads no more, and a reader with unread bytes does not wait.
                is_reader_waiting: reader.0 && unread == 0 && (produced | consumed) & 1 == 0,
                is_writer_waiting: writer.1 && unread > 0,
                is_ended: produced & 1 != 0,
            }
        };
        Some(Rings { incoming: ring(0, accepting, connecting), outgoing: ring(2 * STRIDE, connecting, accepting) })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SERVER: u64 = 1;
    const WAKE: u64 = 2;
    const ABANDONED: u64 = 4;

    fn slot(word: u64, kind: Option<Kind>, slept_ns: u64) -> Slot {
        Slot { turn: Turn::of(1 << 8 | word), kind, slept_ns: Some(slept_ns).filter(|_| word & WAKE != 0) }
    }

    fn ns(ns: u64) -> Option<Duration> {
        Some(Duration::from_nanos(ns))
    }

    #[test]
    fn messages_wait_until_they_are_received_and_those_given_back_wait_again() {
        let slots = [
            slot(SERVER, Some(Kind::Delivered), 0),
            slot(0, Some(Kind::Acknowledged), 0),
            slot(SERVER | WAKE, Some(Kind::Redelivered), 90),
            slot(SERVER, Some(Kind::Message), 0),
        ];
        let committed = [10, 5, 30, 40];
        let backlog = Backlog::of_queue(&slots, &committed, 1, 100);
        assert_eq!((backlog.waiting, backlog.oldest_waiting, backlog.oldest_in_flight), (2, ns(70), ns(90)));
        assert!(!backlog.is_full && !backlog.is_blocked, "who flushes is not blocked");
        let backlog = Backlog::of_queue(&slots[..1], &committed[..1], 0, 100);
        assert_eq!((backlog.waiting, backlog.oldest_waiting, backlog.oldest_in_flight), (1, ns(90), None));
        let backlog = Backlog::of_queue(&slots[2..], &committed[2..], 0, 100);
        assert!(backlog.is_full && backlog.is_blocked && backlog.blocked_for == ns(10));
    }

    #[test]
    fn times_that_cannot_be_are_none() {
        assert_eq!([age(0, 100), age(101, 100), age(u64::MAX, 100)], [None; 3]);
        assert_eq!(age(1, 100), ns(99));
        let junk: Vec<Slot> =
            (0..64).map(|_| Slot { turn: Turn::of(u64::MAX), kind: None, slept_ns: Some(u64::MAX) }).collect();
        let backlog = Backlog::of_queue(&junk, &[u64::MAX; 64], u64::MAX, 100);
        assert_eq!((backlog.waiting, backlog.oldest_waiting, backlog.blocked_for), (0, None, None));
        assert_eq!(Backlog::of_queue(&junk, &[u64::MAX; 64], 0, 100).waiting, 64);
    }

    #[test]
    fn abandoned_calls_wait_and_their_callers_do_not() {
        let turn = Turn::of(1 << 8 | SERVER | WAKE | ABANDONED);
        assert!(turn.is_abandoned() && turn.wants_wake());
        let memory = crate::sys::memory::create_sealed("wigwag", 16384).unwrap();
        let geometry = Geometry::new(2, 8).unwrap();
        let put = |offset: usize, word: u64| {
            rustix::io::pwrite(&memory, &word.to_ne_bytes(), offset as u64).unwrap();
        };
        put(LINES_OFFSET, 1 << 8 | SERVER | WAKE | ABANDONED);
        put(LINES_OFFSET + 64, 1 << 8 | SERVER);
        put(SLEEPS_OFFSET, 30);
        let session = super::super::snapshot::tests::session(20);
        let backlog = Backlog::read(&memory, &geometry, Form::Exchange, &session, &[], 100).unwrap();
        assert_eq!((backlog.waiting, backlog.abandoned, backlog.oldest_waiting), (2, 1, ns(70)));
        assert!(backlog.is_full && !backlog.is_blocked);
        put(LINES_OFFSET + 64, 1 << 8 | SERVER | WAKE);
        put(SLEEPS_OFFSET + 8, 1); // before the session began
        let begun = [(0, Duration::from_nanos(75))];
        let backlog = Backlog::read(&memory, &geometry, Form::Exchange, &session, &begun, 100).unwrap();
        assert_eq!((backlog.waiting, backlog.oldest_waiting, backlog.oldest_in_flight), (1, ns(80), ns(75)));
        assert!(backlog.is_blocked && backlog.blocked_for == ns(80));
    }

    #[test]
    fn rings_are_never_fuller_than_they_can_be() {
        let geometry = Geometry::new(2, 4096).unwrap();
        let memory = crate::sys::memory::create_sealed("wigwag", geometry.segment_size).unwrap();
        let put = |offset: usize, word: u64| {
            rustix::io::pwrite(&memory, &word.to_ne_bytes(), offset as u64).unwrap();
        };
        put(RING_WORDS_OFFSET, 20 << 1);
        put(RING_WORDS_OFFSET + 128, 5 << 1);
        put(RING_WORDS_OFFSET + 256, 7 << 1 | 1);
        put(RING_WORDS_OFFSET + 384, 7 << 1);
        put(CLIENT_LINE_OFFSET, u64::from_ne_bytes([1, 0, 0, 0, 1, 0, 0, 0]));
        let rings = Rings::read(&memory, &geometry).unwrap();
        assert_eq!((rings.incoming.written, rings.incoming.unread, rings.outgoing.written), (20, 15, 7));
        assert!(rings.incoming.is_writer_waiting && !rings.incoming.is_reader_waiting && !rings.incoming.is_ended);
        assert!(
            rings.outgoing.is_ended && !rings.outgoing.is_reader_waiting,
            "there is nothing to wait for after the end"
        );
        put(RING_WORDS_OFFSET + 128, 21 << 1);
        assert_eq!(Rings::read(&memory, &geometry).unwrap().incoming.unread, 0, "read more than was written");
        put(RING_WORDS_OFFSET, u64::MAX);
        put(RING_WORDS_OFFSET + 128, 0);
        assert_eq!(Rings::read(&memory, &geometry).unwrap().incoming.unread, 0, "written more than a ring");
    }
}
