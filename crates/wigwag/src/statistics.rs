//! A server's statistics: one sealed memory object with everything worth knowing, which outside programs may read while the
//! server works, hangs, or is stopped.
//!
//! The server makes it, maps it writable once, and seals it: from then on nobody can map it writable, write to it, or change
//! its size. Observers ([`crate::observe`]) map it read-only, through the server's descriptor below `/proc`.
//!
//! **Invariant T1.** A mapping of it is as large as [`Shape::size`] says of the shape that is kept in private memory; the shape is
//! the server's own choice, or was checked against the size of the memory object. So every record lies inside and is aligned.
//!
//! **Invariant T2.** All of it is 64-bit words that are only ever accessed as atomics, by everybody. Every value of a word is
//! one that an observer can bear. Whoever wrote through an observer's mapping would be killed by the kernel, and harm nobody else.

#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::sys::memory::{self, Mapping};

mod records;
mod view;

pub use records::*;
pub use view::View;

/// What the memory object is called, for who looks into `/proc`.
pub const MEMORY_NAME: &str = "statistics-of-wigwag";

/// How many records there are of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    threads: usize,
    sessions: usize,
}

/// What is made sure to be there at a time.
const PAGE: usize = 4096;
const STEWARD_OFFSET: usize = 2048;
const ENDED_OFFSET: usize = 2304;
const KEPT_OFFSET: usize = 4096;
const THREADS_OFFSET: usize = KEPT_OFFSET + KEPT_RECORDS * size_of::<KeptRecord>();

impl Shape {
    /// A shape for so many threads and sessions, within what is possible.
    pub fn new(threads: usize, sessions: usize) -> Shape {
        Shape { threads: threads.clamp(1, THREADS_MAX), sessions: sessions.clamp(1, SESSIONS_MAX) }
    }

    /// From numbers that somebody else wrote.
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
    assert!(size_of::<Head>() <= STEWARD_OFFSET && size_of::<SessionRecord>() == 512);
    assert!(STEWARD_OFFSET.is_multiple_of(64) && STEWARD_OFFSET + size_of::<StewardRecord>() <= ENDED_OFFSET);
    assert!(ENDED_OFFSET.is_multiple_of(64) && ENDED_OFFSET + size_of::<EndedRecord>() <= KEPT_OFFSET);
    assert!(size_of::<KeptRecord>() == 16 && size_of::<ThreadRecord>() == 64);
    assert!(THREADS_OFFSET.is_multiple_of(64));
};

/// The records, wherever they lie.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    /// What does not change.
    pub head: &'a Head,
    /// The steward's numbers.
    pub steward: &'a StewardRecord,
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
    // SAFETY: in bounds of the mapping, which stays (M1, T1); all offsets are multiples of the alignments, which the assertions
    // above hold; only atomics inside (T2), for which every value is valid.
    unsafe {
        Tables {
            head: base.cast::<Head>().as_ref(),
            steward: base.add(STEWARD_OFFSET).cast::<StewardRecord>().as_ref(),
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

/// Who begins a session.
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
    pub now_ns: u64,
}

impl Statistics {
    /// Makes the memory. `describe` writes what never changes; then the memory is sealed.
    pub fn new(shape: Shape, describe: impl FnOnce(&Head)) -> Result<Arc<Statistics>> {
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

    /// Whether this is a child process, which does not have the memory.
    pub fn is_forked(&self) -> bool {
        self.mapping.is_forked()
    }

    /// A record for a new session. If there is none left, or no memory for it, the session has one that nobody else sees, and
    /// is counted once it is over.
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
            return SessionEntry { record, index: None, statistics: Arc::clone(self) };
        };
        let record = &tables.sessions[index];
        record.identity.generation.change(|| {
            record.counters.clear();
            record.identity.user.set(u64::from(who.uid) << 32 | u64::from(who.gid));
            record.identity.process.set(u64::from(who.is_trusted) << 32 | u64::from(who.pid as u32));
            record.identity.slots.set(who.slots as u64);
            record.identity.capacity.set(who.capacity as u64);
            record.identity.began_ns.set(who.now_ns);
            record.identity.id.set(who.id.wrapping_add(1));
        });
        free.publish(tables.steward);
        SessionEntry { record: NonNull::from(record), index: Some(index), statistics: Arc::clone(self) }
    }

    /// Whether the memory of a session's record is there: where memory is short, this says so, and a later write would kill.
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
    pub fn keep(self: &Arc<Statistics>, place: Place, since_ns: u64) -> Option<KeptEntry> {
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
            free.publish(tables.steward);
        }
    }

    fn lock(&self) -> MutexGuard<'_, FreeRecords> {
        // Nothing panics while it is held.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn publish(&self, steward: &StewardRecord) {
        steward.depth.set(self.depth as u64);
        steward.records.set(self.in_use);
        steward.records_max.raise(self.in_use);
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
    statistics: Arc<Statistics>,
}

// SAFETY: the record lies in memory that `statistics` keeps mapped (T1), or is this entry's own; it has only atomics in it (T2).
unsafe impl Send for SessionEntry {}
// SAFETY: as above.
unsafe impl Sync for SessionEntry {}

impl SessionEntry {
    /// The numbers.
    #[inline(always)]
    pub fn counters(&self) -> &Counters {
        // SAFETY: as said where it is `Send`.
        unsafe { &self.record.as_ref().counters }
    }

    /// Which slot of this session, as threads say it.
    #[inline(always)]
    pub fn place(&self, slot: usize) -> Place {
        Place { record: self.index.map_or(u32::MAX, |index| index as u32), slot: slot as u32 }
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
