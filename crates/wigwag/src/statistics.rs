//! A server's statistics: one sealed memory object with everything worth knowing, which outside programs may read while
//! the server works, hangs, or is stopped.
//!
//! The server makes it, maps it writable once, and seals it: from then on nobody can map it writable, write to it, or
//! change its size. Observers ([`crate::observe`]) map it read-only, through the server's descriptor below `/proc`.
//!
//! **Invariant T1.** A mapping of it is as large as [`Shape::size`] says of the shape that is kept in private memory;
//! the shape is the server's own choice, or was checked against the size of the memory object. So every record lies
//! inside and is aligned.
//!
//! **Invariant T2.** All of it is 64-bit words that are only ever accessed as atomics, by everybody. Every value of a
//! word is one that an observer can bear. A process that wrote through an observer's mapping would be killed by the
//! kernel, and harm nobody else.

#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::Result;
use crate::sync;
use crate::sys::memory::{self, Mapping};

mod records;
mod view;

pub use crate::statistics::records::*;
pub use crate::statistics::view::View;

/// The name of the memory object, as `/proc` shows it.
pub const MEMORY_NAME: &str = "statistics-of-wigwag";

/// How many records there are of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    threads: usize,
    sessions: usize,
}

/// What is made sure to be there at a time.
const PAGE: usize = 4096;
const CONTROL_OFFSET: usize = 2048;
const ENDED_OFFSET: usize = 2304;
const KEPT_OFFSET: usize = 4096;
const THREADS_OFFSET: usize = KEPT_OFFSET + KEPT_RECORDS * size_of::<KeptRecord>();

impl Shape {
    /// A shape for this many threads and sessions, within what is possible.
    pub fn new(threads: usize, sessions: usize) -> Shape {
        Shape { threads: threads.clamp(1, THREADS_MAX), sessions: sessions.clamp(1, SESSIONS_MAX) }
    }

    /// From numbers that another process wrote.
    pub fn parse(threads: u64, sessions: u64, size: u64) -> Option<Shape> {
        let shape = Shape { threads: usize::try_from(threads).ok()?, sessions: usize::try_from(sessions).ok()? };
        let is_possible = (1..=THREADS_MAX).contains(&shape.threads) && (1..=SESSIONS_MAX).contains(&shape.sessions);
        (is_possible && shape.size() as u64 == size).then_some(shape)
    }

    const fn sessions_offset(self) -> usize {
        (THREADS_OFFSET + self.threads * size_of::<ThreadRecord>()).next_multiple_of(PAGE)
    }

    /// Bytes of the whole.
    pub const fn size(self) -> usize {
        (self.sessions_offset() + self.sessions * size_of::<SessionRecord>()).next_multiple_of(PAGE)
    }
}

/// The largest memory object that can be one.
pub const SIZE_MAX: usize = Shape { threads: THREADS_MAX, sessions: SESSIONS_MAX }.size();

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<StatisticsHeader>() <= CONTROL_OFFSET && size_of::<SessionRecord>() == 512);
    assert!(CONTROL_OFFSET.is_multiple_of(64) && CONTROL_OFFSET + size_of::<ControlRecord>() <= ENDED_OFFSET);
    assert!(ENDED_OFFSET.is_multiple_of(64) && ENDED_OFFSET + size_of::<EndedRecord>() <= KEPT_OFFSET);
    assert!(size_of::<KeptRecord>() == 16 && size_of::<ThreadRecord>() == 64);
    assert!(THREADS_OFFSET.is_multiple_of(64));
};

/// The records, wherever they lie.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    /// What does not change.
    pub head: &'a StatisticsHeader,
    /// the control thread's numbers.
    pub control: &'a ControlRecord,
    /// The sums of what is over.
    pub ended: &'a EndedRecord,
    /// Requests that were kept.
    pub kept: &'a [KeptRecord],
    /// The serving threads.
    pub threads: &'a [ThreadRecord],
    /// The sessions.
    pub sessions: &'a [SessionRecord],
}

fn tables(mapping: &Mapping, shape: Shape) -> Tables<'_> {
    assert!(mapping.size() >= shape.size());
    let base = mapping.base();
    // SAFETY: in bounds of the mapping, which stays (M1, T1); all offsets are multiples of the alignments, which the
    // assertions above hold; only atomics inside (T2), for which every value is valid.
    unsafe {
        Tables {
            head: base.cast::<StatisticsHeader>().as_ref(),
            control: base.add(CONTROL_OFFSET).cast::<ControlRecord>().as_ref(),
            ended: base.add(ENDED_OFFSET).cast::<EndedRecord>().as_ref(),
            kept: std::slice::from_raw_parts(base.add(KEPT_OFFSET).cast::<KeptRecord>().as_ptr(), KEPT_RECORDS),
            threads: std::slice::from_raw_parts(
                base.add(THREADS_OFFSET).cast::<ThreadRecord>().as_ptr(),
                shape.threads,
            ),
            sessions: std::slice::from_raw_parts(
                base.add(shape.sessions_offset()).cast::<SessionRecord>().as_ptr(),
                shape.sessions,
            ),
        }
    }
}

/// A server's own statistics.
pub struct Statistics {
    memory: OwnedFd,
    mapping: Mapping,
    shape: Shape,
    free: Mutex<FreeRecords>,
}

/// Which records of sessions are free: those below `depth` that are listed, and all from there on.
#[derive(Debug, Default)]
struct FreeRecords {
    listed: Vec<usize>,
    depth: usize,
    in_use: u64,
}

/// The identity of a session that begins.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// The session's number.
    pub id: u64,
    /// The peer's user, group and process.
    pub uid: u32,
    pub gid: u32,
    pub pid: i32,
    /// Whether it is of the server's own user.
    pub is_trusted: bool,
    pub slots: usize,
    pub capacity: usize,
    /// By which observers know the session's memory object; 0: not known.
    pub memory_inode: u64,
    pub now_ns: u64,
    /// The version of the session.
    pub protocol: u16,
    /// Whether the peer's clock shows the same as the server's.
    pub has_same_clock: bool,
    /// Whether what it sends is kept.
    pub keeping: KeepingState,
}

/// What becomes of a sender's messages when both it and its receiver die.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepingState {
    /// The receiver has not asked for a keeper.
    #[default]
    NotWanted,
    /// A keeper has them.
    Kept,
    /// They are lost: there is no keeper, or it does not have them.
    Unkept,
}

impl KeepingState {
    /// Its bits in the word that says what was agreed on.
    const BITS: u64 = 3 << 17;

    /// As it stands in that word.
    fn word(self) -> u64 {
        (self as u64) << 17
    }

    /// From that word.
    pub fn of_word(word: u64) -> KeepingState {
        match (word & KeepingState::BITS) >> 17 {
            1 => KeepingState::Kept,
            2 => KeepingState::Unkept,
            _ => KeepingState::NotWanted,
        }
    }
}

impl Statistics {
    /// Makes the memory. `describe` writes what never changes; then the memory is sealed.
    pub fn new(shape: Shape, describe: impl FnOnce(&StatisticsHeader)) -> Result<Arc<Statistics>> {
        let memory = memory::create_sealed(MEMORY_NAME, shape.size())?;
        let mapping = Mapping::new(&memory, shape.size(), shape.sessions_offset())?;
        let head = tables(&mapping, shape).head;
        head.magic.set(MAGIC);
        head.version.set(STATISTICS_VERSION);
        head.size.set(shape.size() as u64);
        head.threads.set(shape.threads as u64);
        head.sessions.set(shape.sessions as u64);
        describe(head);
        memory::seal_finally(&memory)?;
        Ok(Arc::new(Statistics { memory, mapping, shape, free: Mutex::default() }))
    }

    /// The memory object, by whose descriptor observers find it.
    pub fn memory(&self) -> &OwnedFd {
        &self.memory
    }

    /// The records.
    pub fn tables(&self) -> Tables<'_> {
        tables(&self.mapping, self.shape)
    }

    /// The same while no session begins or ends, for this process itself: it waits for one that is being counted,
    /// however long the thread that counts it is kept from its processor. Observers cannot wait so.
    pub fn settled<R>(&self, read: impl FnOnce(&Tables<'_>) -> R) -> R {
        let _free = self.lock();
        read(&self.tables())
    }

    /// Whether this is a child process, which does not have the memory.
    pub fn is_forked(&self) -> bool {
        self.mapping.is_forked()
    }

    /// A record for a new session. If there is none left, or no memory for it, the session has one that nobody else
    /// sees, and is counted once it is over.
    pub fn begin_session(self: &Arc<Statistics>, who: &Newcomer) -> SessionEntry {
        let tables = self.tables();
        let mut free = self.lock();
        let index = free.take(self.shape.sessions).filter(|&index| {
            let is_there = self.is_there(index);
            if !is_there {
                free.give_back(index); // the next one to try
            }
            is_there
        });
        let Some(index) = index else {
            let record = NonNull::from(Box::leak(Box::<SessionRecord>::default()));
            return SessionEntry::new(record, None, self);
        };
        let record = &tables.sessions[index];
        record.identity.generation.change(|| {
            record.counters.clear();
            let agreed = u64::from(who.protocol) | u64::from(!who.has_same_clock) << 16;
            record.counters.pace.agreed.set(agreed | who.keeping.word());
            record.identity.user.set(u64::from(who.uid) << 32 | u64::from(who.gid));
            record.identity.process.set(u64::from(who.is_trusted) << 32 | u64::from(who.pid as u32));
            record.identity.slots.set(who.slots as u64);
            record.identity.capacity.set(who.capacity as u64);
            record.identity.began_ns.set(who.now_ns);
            record.identity.memory_inode.set(who.memory_inode);
            record.identity.id.set(who.id.wrapping_add(1));
        });
        free.publish(tables.control);
        SessionEntry::new(NonNull::from(record), Some(index), self)
    }

    /// Whether the memory of a session's record is there: where memory is short, this says so, and a later write would
    /// kill.
    fn is_there(&self, index: usize) -> bool {
        let offset = self.shape.sessions_offset() + index * size_of::<SessionRecord>();
        !offset.is_multiple_of(PAGE) || self.mapping.touch(offset..offset + PAGE).is_ok()
    }

    /// The record of a serving thread; those beyond the last one share it.
    pub fn thread(self: &Arc<Statistics>, index: usize) -> ThreadEntry {
        let threads = self.tables().threads;
        let record = &threads[index.min(threads.len() - 1)];
        ThreadEntry { record: NonNull::from(record), _statistics: Arc::clone(self) }
    }

    /// A record for a request that is taken out of its thread's hands; none if all that were looked at are in use.
    pub fn keep(self: &Arc<Statistics>, place: SlotId, since_ns: u64) -> Option<KeptEntry> {
        /// Records that are looked at: for a thousand requests at a time nobody searches a thousand records.
        const PROBES: usize = 8;
        let kept = self.tables().kept;
        let first = place.record as usize * 16 + place.slot as usize;
        let index = (first..first + PROBES).map(|index| index % KEPT_RECORDS).find(|&index| {
            let record = &kept[index];
            record.place.claim(place.pack())
        })?;
        kept[index].since_ns.set(since_ns);
        Some(KeptEntry { index, statistics: Arc::clone(self) })
    }

    fn end_session(&self, record: &SessionRecord, index: Option<usize>) {
        let tables = self.tables();
        let mut free = self.lock();
        tables.ended.generation.change(|| {
            tables.ended.counters.absorb(&record.counters);
            record.identity.generation.change(|| {
                record.identity.id.set(0);
                record.counters.clear();
            });
        });
        if let Some(index) = index {
            free.give_back(index);
            free.publish(tables.control);
        }
    }

    fn lock(&self) -> MutexGuard<'_, FreeRecords> {
        // Nothing panics while it is held.
        sync::lock(&self.free)
    }
}

impl FreeRecords {
    fn take(&mut self, most: usize) -> Option<usize> {
        let index = match self.listed.pop() {
            Some(index) => index,
            None if self.depth == most => return None,
            None => {
                self.depth += 1;
                self.depth - 1
            }
        };
        self.in_use += 1;
        Some(index)
    }

    fn give_back(&mut self, index: usize) {
        self.in_use -= 1;
        self.listed.push(index);
    }

    fn publish(&self, control: &ControlRecord) {
        control.depth.set(self.depth as u64);
        control.records.set(self.in_use);
        control.records_max.raise(self.in_use);
    }
}

impl fmt::Debug for Statistics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Statistics").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// A session's record. Dropping it adds the numbers to those of what is over, and frees the record.
#[derive(Debug)]
pub struct SessionEntry {
    record: NonNull<SessionRecord>,
    /// `None`: the record is no part of the memory, and this is its only owner.
    index: Option<usize>,
    /// The word for its slot 0.
    first_place: u64,
    statistics: Arc<Statistics>,
}

// SAFETY: the record lies in memory that `statistics` keeps mapped (T1), or is this entry's own; it has only atomics in
// it (T2).
unsafe impl Send for SessionEntry {}
// SAFETY: as above.
unsafe impl Sync for SessionEntry {}

impl SessionEntry {
    fn new(record: NonNull<SessionRecord>, index: Option<usize>, statistics: &Arc<Statistics>) -> SessionEntry {
        let mut entry = SessionEntry { record, index, first_place: 0, statistics: Arc::clone(statistics) };
        entry.first_place = entry.place(0).pack();
        entry
    }

    /// The numbers.
    #[inline(always)]
    pub fn counters(&self) -> &Counters {
        // SAFETY: as said where it is `Send`.
        unsafe { &self.record.as_ref().counters }
    }

    /// Whether the session is kept has changed: for the thread that watches it.
    pub fn note_keeping(&self, keeping: KeepingState) {
        let agreed = &self.counters().pace.agreed;
        agreed.set(agreed.value() & !KeepingState::BITS | keeping.word());
    }

    /// Which slot of this session.
    pub fn place(&self, slot: usize) -> SlotId {
        SlotId { record: self.index.map_or(u32::MAX, |index| index as u32), slot: slot as u32 }
    }

    /// The same, as threads write it.
    #[inline(always)]
    pub fn place_word(&self, slot: usize) -> u64 {
        self.first_place + slot as u64
    }

    /// A record for a request of this session that is kept.
    pub fn keep(&self, slot: usize, since_ns: u64) -> Option<KeptEntry> {
        self.statistics.keep(self.place(slot), since_ns)
    }
}

impl Drop for SessionEntry {
    fn drop(&mut self) {
        if self.statistics.is_forked() {
            return;
        }
        // SAFETY: as said where it is `Send`.
        self.statistics.end_session(unsafe { self.record.as_ref() }, self.index);
        if self.index.is_none() {
            // SAFETY: made by `Box::leak` for this entry alone, which ends here.
            drop(unsafe { Box::from_raw(self.record.as_ptr()) });
        }
    }
}

/// A serving thread's record.
#[derive(Debug)]
pub struct ThreadEntry {
    record: NonNull<ThreadRecord>,
    _statistics: Arc<Statistics>,
}

// SAFETY: as that of a session.
unsafe impl Send for ThreadEntry {}
// SAFETY: as that of a session.
unsafe impl Sync for ThreadEntry {}

impl std::ops::Deref for ThreadEntry {
    type Target = ThreadRecord;

    #[inline(always)]
    fn deref(&self) -> &ThreadRecord {
        // SAFETY: the record lies in memory that the entry keeps mapped (T1), and has only atomics in it (T2).
        unsafe { self.record.as_ref() }
    }
}

/// The record of a request that was kept. Dropping it frees the record.
#[derive(Debug)]
pub struct KeptEntry {
    index: usize,
    statistics: Arc<Statistics>,
}

impl Drop for KeptEntry {
    fn drop(&mut self) {
        if !self.statistics.is_forked() {
            self.statistics.tables().kept[self.index].place.set(0);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::mem::offset_of;

    fn newcomer(id: u64) -> Newcomer {
        let (protocol, has_same_clock) = (2, true);
        let (slots, capacity, memory_inode, now_ns) = (4, 5, 7, 6);
        let is_trusted = true;
        Newcomer {
            id,
            uid: 1,
            gid: 2,
            pid: 3,
            is_trusted,
            slots,
            capacity,
            memory_inode,
            now_ns,
            protocol,
            has_same_clock,
            keeping: KeepingState::default(),
        }
    }

    fn ids(statistics: &Statistics) -> Vec<u64> {
        statistics.tables().sessions.iter().map(|record| record.identity.id.value()).collect()
    }

    #[test]
    fn the_layout_is_that_of_the_document() {
        let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/layout.md"))
            .split("## A server's statistics")
            .nth(1)
            .unwrap();
        let section = |title: &str| document.split(&format!("### {title}\n")).nth(1).unwrap();
        let has = |title: &str, fields: &[(&str, usize)]| {
            for (name, offset) in fields {
                let is_it =
                    |line: &str| line.starts_with(&format!("| {offset} |")) && line.contains(&format!("| `{name}` |"));
                assert!(section(title).lines().any(is_it), "{title}: `{name}` lies at {offset}");
            }
        };
        macro_rules! fields {
            ($record:ty: $($field:ident)*) => { &[$((stringify!($field), offset_of!($record, $field))),*] };
        }
        has(
            "Statistics header",
            fields!(StatisticsHeader: magic version size threads sessions lock_device lock_inode pid uid),
        );
        has(
            "Statistics header",
            fields!(StatisticsHeader: began_ns form wait contract_version contract_size contract_align),
        );
        has("Statistics header", fields!(StatisticsHeader: contract_len contract path_len path));
        has("Statistics header", fields!(StatisticsHeader: limits everyone users_len users groups_len groups));
        has(
            "Control thread's record",
            fields!(ControlRecord: accepted refused violations handshakes sessions depth records records_max),
        );
        has("Kept request", fields!(KeptRecord: place since_ns));
        has("Thread", fields!(ThreadRecord: serving clock_ns sleeps state wake_latency_ns published cut_off));
        has("Session", fields!(Identity: generation id user process slots capacity began_ns memory_inode));
        has("Counters", fields!(Counters: served pace kept durations));
        for (offset, what) in [
            (CONTROL_OFFSET, "control thread's record"),
            (ENDED_OFFSET, "ended"),
            (KEPT_OFFSET, "kept requests"),
            (THREADS_OFFSET, "threads"),
        ] {
            let lines: Vec<&str> = document.lines().map(str::trim_start).collect();
            let is_it = |two: &[&str]| two[0].starts_with(&format!("{offset} +")) && two[1].contains(what);
            assert!(lines.windows(2).any(is_it), "{what} at {offset}");
        }
        assert!(document.contains(&format!("{STATISTICS_VERSION}.\n")) && document.contains(MEMORY_NAME));
    }

    #[test]
    fn a_shape_is_parsed_only_with_its_own_size() {
        let shape = Shape::new(3, 7);
        let size = shape.size() as u64;
        assert_eq!(Shape::parse(3, 7, size), Some(shape));
        for (threads, sessions, size) in [
            (3, 7, size + 4096),
            (0, 7, size),
            (3, 0, size),
            (257, 7, size),
            (3, 65_537, size),
            (u64::MAX, u64::MAX, size),
        ] {
            assert_eq!(Shape::parse(threads, sessions, size), None, "{threads} {sessions}");
        }
        assert_eq!(Shape::new(usize::MAX, usize::MAX).size(), SIZE_MAX);
    }

    #[test]
    fn records_are_used_again_and_what_ended_is_kept_in_the_sums() {
        let statistics = Statistics::new(Shape::new(1, 3), |_| {}).unwrap();
        let first = statistics.begin_session(&newcomer(10));
        let second = statistics.begin_session(&newcomer(11));
        first.counters().served.calls.add(5);
        assert_eq!(ids(&statistics), [11, 12, 0]);
        drop(first);
        assert_eq!(ids(&statistics), [0, 12, 0]);
        assert_eq!(statistics.tables().ended.counters.served.calls.value(), 5);
        let third = statistics.begin_session(&newcomer(12));
        assert_eq!((ids(&statistics), third.counters().served.calls.value()), (vec![13, 12, 0], 0));
        let control = statistics.tables().control;
        assert_eq!((control.depth.value(), control.records.value(), control.records_max.value()), (2, 2, 2));
        drop((second, third));
    }

    #[test]
    fn a_session_beyond_the_last_record_is_counted_all_the_same() {
        let statistics = Statistics::new(Shape::new(1, 1), |_| {}).unwrap();
        let listed = statistics.begin_session(&newcomer(1));
        let unlisted = statistics.begin_session(&newcomer(2));
        unlisted.counters().served.calls.add(3);
        assert_eq!((ids(&statistics), unlisted.place(4).record), (vec![2], u32::MAX));
        drop(unlisted);
        assert_eq!((ids(&statistics), statistics.tables().ended.counters.served.calls.value()), (vec![2], 3));
        drop(listed);
        assert_eq!(ids(&statistics), [0]);
    }

    #[test]
    fn what_is_kept_is_freed_by_who_answers() {
        let statistics = Statistics::new(Shape::new(1, 1), |_| {}).unwrap();
        let place = SlotId { record: 0, slot: 3 };
        let mut entries: Vec<_> = (0..20).filter_map(|_| statistics.keep(place, 9)).collect();
        assert_eq!(entries.len(), 8, "no more places than are looked at");
        let kept = || statistics.tables().kept.iter().filter(|record| record.place.value() == place.pack()).count();
        assert_eq!(kept(), 8);
        entries.pop();
        assert_eq!(kept(), 7);
        entries.push(statistics.keep(place, 9).unwrap());
        drop(entries);
        assert_eq!(kept(), 0);
    }
}
