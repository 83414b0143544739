//! What lies in a server's statistics: records of 64-bit words, each written by one side only. docs/layout.md has the
//! bytes.

use crate::sync::{AtomicU64, Ordering};

/// One number. A reader gets a value that was written as a whole; the access orders nothing else.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Word(AtomicU64);

impl Word {
    /// The number.
    #[inline(always)]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes the number.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to a number that nobody else writes: no locked instruction.
    #[inline(always)]
    pub fn add(&self, more: u64) {
        self.set(self.value().wrapping_add(more));
    }

    /// Adds to a number that others write, too.
    pub fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Writes the number if it is larger than what is there; for one writer.
    pub fn raise(&self, value: u64) {
        if value > self.value() {
            self.set(value);
        }
    }

    /// Takes a word that is 0. Whether it was.
    pub fn claim(&self, value: u64) -> bool {
        self.0.compare_exchange(0, value, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Guards numbers that belong together: odd while they are being changed, by one writer at a time.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Generation(AtomicU64);

/// How often numbers that are being changed are read again before they are taken as they are.
const READS: usize = 16;

impl Generation {
    /// Changes what it guards.
    pub fn change<R>(&self, change: impl FnOnce() -> R) -> R {
        let before = self.0.load(Ordering::Relaxed) & !1;
        self.0.store(before.wrapping_add(1), Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::Release); // the mark before the changes; partner: the fence in `read`
        let outcome = change();
        self.0.store(before.wrapping_add(2), Ordering::Release); // the changes before the mark; partner: `read`
        outcome
    }

    /// Reads what it guards, as a whole if the writer lets it: one that was stopped, or killed, in the middle of a
    /// change does not hold up anybody. With the numbers comes whether they belong together.
    pub fn read<R>(&self, mut read: impl FnMut() -> R) -> (R, bool) {
        let mut attempt = 0;
        loop {
            // The observer's mapping may only be read, where no more than a relaxed load is guaranteed to be a plain
            // load.
            let before = self.0.load(Ordering::Relaxed);
            std::sync::atomic::fence(Ordering::Acquire);
            let numbers = read();
            std::sync::atomic::fence(Ordering::Acquire);
            let is_whole = before & 1 == 0 && self.0.load(Ordering::Relaxed) == before;
            attempt += 1;
            if is_whole || attempt == READS {
                return (numbers, is_whole);
            }
            std::hint::spin_loop();
        }
    }
}

/// `magic` of [`StatisticsHeader`].
pub const MAGIC: u64 = u64::from_ne_bytes(*b"WIGWAG\x01\x57");
/// The version of these records. It grows with every change of their shape or meaning.
pub const STATISTICS_VERSION: u64 = 1;
/// The most bytes of a contract's name.
pub const CONTRACT_BYTES: usize = 128;
/// The most bytes of a path; of a longer one the beginning stands here.
pub const PATH_BYTES: usize = 512;
/// How many of the users and of the groups that are let in are listed.
pub const LISTED: usize = 16;
/// The most serving threads with a record of their own.
pub const THREADS_MAX: usize = 256;
/// The most sessions with a record of their own.
pub const SESSIONS_MAX: usize = 1 << 16;
/// Requests that were taken out of their thread's hands and have a record.
pub const KEPT_RECORDS: usize = 1024;
/// Ranges of durations: number *n* counts what took less than 2^n nanoseconds and is in no range before, the last all
/// above.
pub const RANGES: usize = 32;

/// What does not change while the server lives.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct StatisticsHeader {
    pub magic: Word,
    pub version: Word,
    /// Bytes of the whole memory.
    pub size: Word,
    /// Records of threads and of sessions.
    pub threads: Word,
    pub sessions: Word,
    /// The file whose lock the server holds: says that this memory belongs to that name.
    pub lock_device: Word,
    pub lock_inode: Word,
    /// The server's process, in its own namespace.
    pub pid: Word,
    pub uid: Word,
    /// CLOCK_MONOTONIC, when the name was taken.
    pub began_ns: Word,
    pub form: Word,
    pub wait: Word,
    pub contract_version: Word,
    pub contract_size: Word,
    pub contract_align: Word,
    pub contract_len: Word,
    pub contract: [Word; CONTRACT_BYTES / 8],
    pub path_len: Word,
    pub path: [Word; PATH_BYTES / 8],
    pub limits: LimitWords,
    pub everyone: Word,
    pub users_len: Word,
    pub users: [Word; LISTED],
    pub groups_len: Word,
    pub groups: [Word; LISTED],
}

/// What the server gives at most.
#[repr(C)]
#[derive(Debug, Default)]
pub struct LimitWords {
    pub sessions: Word,
    pub sessions_per_user: Word,
    pub sessions_per_other_user: Word,
    pub slots: Word,
    pub capacity: Word,
    pub bytes_per_session: Word,
    pub bytes_total: Word,
    pub handshakes: Word,
    pub handshake_timeout_ns: Word,
}

/// Written by the control thread.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct ControlRecord {
    /// Sessions ever granted.
    pub accepted: Word,
    /// Handshakes refused or failed.
    pub refused: Word,
    /// Sessions ended because the peer broke the protocol.
    pub violations: Word,
    /// Handshakes under way.
    pub handshakes: Word,
    /// Sessions that the control thread watches; streams are watched by their ends.
    pub sessions: Word,
    _reserved: [Word; 3],
    /// All records of sessions in use have a smaller index. Under the lock of the list.
    pub depth: Word,
    /// Records in use, and the most there ever were. Under the lock of the list.
    pub records: Word,
    pub records_max: Word,
}

/// The sums of all sessions that are over. Guarded, so that nobody sees a session counted twice or not at all.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct EndedRecord {
    pub generation: Generation,
    _reserved: [Word; 7],
    pub counters: Counters,
}

/// Written by one serving thread.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct ThreadRecord {
    /// A [`SlotId`] plus one while a request is served; 0 in between.
    pub serving: Word,
    /// When the thread read the clock last: what it serves came then, or a little later.
    pub clock_ns: Word,
    /// Times it slept.
    pub sleeps: Word,
    /// 0: nobody serves; 1: awake; 2: asleep until a doorbell rings.
    pub state: Word,
    /// How long it takes to wake this thread, as it has learned; 0: not known.
    pub wake_latency_ns: Word,
    /// Of a broadcast: the number of the last message. The publisher writes it.
    pub published: Word,
    /// Of a broadcast: subscribers that were cut off.
    pub cut_off: Word,
    _reserved: [Word; 1],
}

/// A request that was taken to be answered later, on whatever thread. Claimed by the thread that takes it, freed by the
/// one that answers.
#[repr(C)]
#[derive(Debug, Default)]
pub struct KeptRecord {
    /// A [`SlotId`] plus one; 0: free.
    pub place: Word,
    pub since_ns: Word,
}

/// Which slot of which session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId {
    /// The session's record.
    pub record: u32,
    /// The slot.
    pub slot: u32,
}

impl SlotId {
    /// As it stands in a word.
    #[inline(always)]
    pub fn pack(self) -> u64 {
        (u64::from(self.record) << 32 | u64::from(self.slot)).wrapping_add(1)
    }

    /// From a word; `None` for 0.
    pub fn parse(word: u64) -> Option<SlotId> {
        let word = word.checked_sub(1)?;
        Some(SlotId { record: (word >> 32) as u32, slot: word as u32 })
    }
}

/// The client of a session. Guarded by `generation`; written under the lock of the list.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Identity {
    pub generation: Generation,
    /// The session's number plus one; 0: the record is free.
    pub id: Word,
    /// The peer's user in the upper half, its group in the lower.
    pub user: Word,
    /// The peer's process in the lower half; the upper is 1 if it is trusted.
    pub process: Word,
    pub slots: Word,
    pub capacity: Word,
    /// CLOCK_MONOTONIC.
    pub began_ns: Word,
    /// Of the session's memory object; 0: not known.
    pub memory_inode: Word,
}

/// What is counted of a session, or of many.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Counters {
    /// Written by the serving thread, of a stream by its reader.
    pub served: Served,
    /// Written by the serving thread, of a stream by its reader, now and then.
    pub pace: Pace,
    /// Added to by the thread that answers a detached request; of a stream, by its writer.
    pub kept: Kept,
    /// Durations of calls from their arrival to the answer: an estimate from those that were timed.
    pub durations: [Word; RANGES],
}

/// After each call.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Served {
    pub calls: Word,
    pub bytes_in: Word,
    pub bytes_out: Word,
    /// The handler returned an error or panicked.
    pub failed: Word,
    /// The peer slept and had to be woken.
    pub rung: Word,
    /// This side slept and was woken.
    pub woken: Word,
    /// The session became hot: it is polled.
    pub heated: Word,
    /// It cooled again: it was polled in vain for as long as the policy allows.
    pub cooled: Word,
}

/// The part of a session's record that is written now and then, not with each call.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Pace {
    /// What this side does: 0 nothing yet, 1 its doorbell is armed, 2 it is looked at, 3 it is polled.
    pub state: Word,
    /// Time in handlers: an estimate from the calls that were timed.
    pub busy_ns: Word,
    /// Calls that the estimates stand for.
    pub estimated: Word,
    /// The longest call that was timed.
    pub longest_ns: Word,
    /// Slots that the client uses, and the most it ever used.
    pub depth: Word,
    pub depth_max: Word,
    /// Bits 0 to 15: the session's protocol version; 0: not known. Bit 16: the peer's clock shows another time. Written
    /// with the session's identity.
    pub agreed: Word,
    _reserved: Word,
}

/// Of requests that were kept.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Kept {
    pub taken: Word,
    pub calls: Word,
    pub bytes_in: Word,
    pub bytes_out: Word,
    pub failed: Word,
    pub rung: Word,
    /// Messages given back unacknowledged.
    pub returned: Word,
    _reserved: Word,
}

/// One session.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct SessionRecord {
    pub identity: Identity,
    pub counters: Counters,
}

/// `state` of a thread: there is none.
pub const THREAD_NONE: u64 = 0;
/// `state` of a thread.
pub const THREAD_AWAKE: u64 = 1;
/// `state` of a thread.
pub const THREAD_ASLEEP: u64 = 2;
/// `state` of a session.
pub const SESSION_ARMED: u64 = 1;
/// `state` of a session.
pub const SESSION_LOOKED_AT: u64 = 2;
/// `state` of a session.
pub const SESSION_POLLED: u64 = 3;

impl Counters {
    /// Every word and whether it is a sum, as opposed to a state or a highest mark.
    fn words(&self) -> impl Iterator<Item = &Word> {
        let Served { calls, bytes_in, bytes_out, failed, rung, woken, heated, cooled } = &self.served;
        let Pace { busy_ns, estimated, .. } = &self.pace;
        let kept = &self.kept;
        [calls, bytes_in, bytes_out, failed, rung, woken, heated, cooled, busy_ns, estimated]
            .into_iter()
            .chain([
                &kept.taken,
                &kept.calls,
                &kept.bytes_in,
                &kept.bytes_out,
                &kept.failed,
                &kept.rung,
                &kept.returned,
            ])
            .chain(&self.durations)
    }

    /// Adds the sums of another one, and takes its highest marks.
    pub fn absorb(&self, other: &Counters) {
        self.words().zip(other.words()).for_each(|(mine, theirs)| mine.add(theirs.value()));
        self.pace.longest_ns.raise(other.pace.longest_ns.value());
        self.pace.depth_max.raise(other.pace.depth_max.value());
    }

    /// Makes everything 0.
    pub fn clear(&self) {
        let Pace { state, longest_ns, depth, depth_max, .. } = &self.pace;
        self.words().chain([state, longest_ns, depth, depth_max]).for_each(|word| word.set(0));
    }

    /// A call that stands for `weight` calls took so long.
    pub fn time(&self, duration_ns: u64, weight: u64) {
        self.pace.busy_ns.add(duration_ns.saturating_mul(weight));
        self.pace.estimated.add(weight);
        self.pace.longest_ns.raise(duration_ns);
        let range = (u64::BITS - duration_ns.leading_zeros()) as usize;
        self.durations[range.min(RANGES - 1)].add(weight);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_word() {
        for place in [
            SlotId { record: 0, slot: 0 },
            SlotId { record: 65_535, slot: 4095 },
            SlotId { record: u32::MAX, slot: u32::MAX - 1 },
        ] {
            assert_eq!(SlotId::parse(place.pack()), Some(place));
        }
        assert_eq!(SlotId::parse(0), None);
    }

    #[test]
    fn durations_fall_into_ranges_that_double() {
        let counters = Counters::default();
        for (duration_ns, range) in
            [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1023, 10), (1024, 11), (u64::MAX, RANGES - 1)]
        {
            let before = counters.durations[range].value();
            counters.time(duration_ns, 3);
            assert_eq!(counters.durations[range].value(), before + 3, "{duration_ns}");
        }
        assert_eq!(counters.pace.estimated.value(), 24);
        assert_eq!(counters.pace.longest_ns.value(), u64::MAX);
    }

    #[test]
    fn what_ended_is_added_up_and_leaves_nothing() {
        let (sum, one) = (Counters::default(), Counters::default());
        one.served.calls.add(2);
        one.kept.rung.add_shared(5);
        one.pace.depth_max.raise(7);
        one.time(100, 2);
        sum.absorb(&one);
        sum.absorb(&one);
        assert_eq!((sum.served.calls.value(), sum.kept.rung.value()), (4, 10));
        assert_eq!((sum.pace.depth_max.value(), sum.pace.busy_ns.value(), sum.durations[7].value()), (7, 400, 4));
        one.clear();
        sum.absorb(&one);
        assert_eq!((sum.served.calls.value(), sum.pace.busy_ns.value(), one.pace.depth_max.value()), (4, 400, 0));
    }

    #[test]
    fn a_writer_that_was_cut_off_holds_up_nobody() {
        let (generation, word) = (Generation::default(), Word::default());
        generation.change(|| word.set(1));
        assert_eq!(generation.read(|| word.value()), (1, true));
        let nested = generation.change(|| generation.read(|| word.value()));
        assert_eq!(nested, (1, false));
        assert_eq!(generation.read(|| word.value()), (1, true));
    }

    #[test]
    fn numbers_that_belong_together_are_read_together() {
        let (generation, words) = (Generation::default(), [Word::default(), Word::default()]);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 0..20_000 {
                    generation.change(|| words.iter().for_each(|word| word.set(number)));
                }
            });
            let mut whole = 0;
            while !writer.is_finished() || whole == 0 {
                let ((one, other), is_whole) = generation.read(|| (words[0].value(), words[1].value()));
                assert!(!is_whole || one == other, "{one} {other}");
                whole += usize::from(is_whole);
            }
        });
    }
}
