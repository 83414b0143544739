//! Words that all processes of a storm share: the progress of each, and the times of events.

use std::fs::OpenOptions;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Clients that are never killed; the row of each in the ledger is below this.
pub const STEADY_MAX: usize = 8;
/// Clients that come back after each server's end.
pub const FAITHFUL_MAX: usize = 8;
/// Victims at a time.
pub const PLACES: usize = 12;
/// Lives of servers that are remembered.
const LIVES_REMEMBERED: usize = 256;

/// What all processes do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// Nothing, and says so.
    Pause = 0,
    /// Its work.
    Run = 1,
    /// Ends.
    End = 2,
}

/// How large the parts of a board are that depend on the storm.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rows of the ledger, one for each client that is counted.
    pub rows: usize,
    /// Requests that each of them can make.
    pub nonces: usize,
    /// Times that can be noted.
    pub samples: usize,
}

/// A steady client's words.
pub struct Steady<'b> {
    /// The request that the server expects of it next.
    pub expected: &'b AtomicU64,
    /// Requests whose replies it has checked.
    pub acked: &'b AtomicU64,
    /// Not 0: it does nothing now.
    pub is_paused: &'b AtomicU64,
    /// Its longest call in nanoseconds.
    pub longest_ns: &'b AtomicU64,
}

/// A faithful client's words.
pub struct Faithful<'b> {
    /// The life of the server that has greeted it last.
    pub life: &'b AtomicU64,
    /// When that was.
    pub greeted_at: &'b AtomicU64,
    /// Not 0: it holds no session now.
    pub is_paused: &'b AtomicU64,
    /// Requests whose replies it has checked.
    pub acked: &'b AtomicU64,
}

/// The words of one life of a server.
pub struct Life<'b> {
    /// When clients could connect; 0: not yet.
    pub ready_at: &'b AtomicU64,
    /// When it was killed; 0: not yet.
    pub killed_at: &'b AtomicU64,
    /// When it was gone, as its parent saw; 0: not yet.
    pub gone_at: &'b AtomicU64,
    /// Not 0: it was told to shut down in good order.
    pub drains: &'b AtomicU64,
}

/// The board.
pub struct Scoreboard {
    base: NonNull<AtomicU64>,
    words: usize,
    extent: Extent,
    /// Where other processes find it, while the one that made it lives.
    path: PathBuf,
    /// Only of who made it.
    _memory: Option<OwnedFd>,
}

// SAFETY: all of the memory is touched as atomics only, and mapped until the drop.
unsafe impl Send for Scoreboard {}
// SAFETY: as above.
unsafe impl Sync for Scoreboard {}

const EXTENT: usize = 0;
const SINGLES: usize = 4;
const STEADY: usize = 32;
const FAITHFUL: usize = STEADY + 4 * STEADY_MAX;
const STAGES: usize = FAITHFUL + 4 * FAITHFUL_MAX;
const LIVES: usize = STAGES + PLACES;
const SAMPLES: usize = LIVES + 4 * LIVES_REMEMBERED;

/// What a time that is noted is of.
#[derive(Clone, Copy)]
pub enum Note {
    /// From a server's death to the error of a call that waited for it.
    Told,
    /// As told, without what the machine has made of it: see `Faithful::failed`.
    ToldOurs,
    /// From a server's start to a client that is back.
    Back,
    /// From a client's death to the end of its session.
    Gone,
    /// From a kill to when the kernel tells of it, to somebody who has nothing to do with Wigwag.
    Kernel,
}

/// Kinds of notes.
pub const NOTES: usize = 5;
const NOTE_SHIFT: u32 = 56;

/// Words that there is one of.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Single {
    /// What everybody does: a [`Phase`].
    Phase,
    /// The server that lives now, counted from 1.
    Life,
    /// How long clients think between two calls, in microseconds.
    ThinkUs,
    /// Requests that nobody honest has made.
    Junk,
    /// Times noted.
    Sampled,
    /// Requests that a server holds and does not answer, ever.
    Held,
    /// Sessions that a watching server has now.
    Seen,
    /// Sessions whose end a watching server has seen.
    Gone,
    /// When it saw the last one.
    GoneAt,
    /// Server's ends that a waiting client was told of.
    Told,
    /// When it was told last.
    ToldAt,
    /// A process that holds a dead client's descriptors.
    Holder,
    /// How many processes run at a realtime priority.
    Urgent,
}

impl Scoreboard {
    /// Makes one, all zero.
    pub fn new(extent: Extent) -> Scoreboard {
        let memory = memfd_create("storm-board", MemfdFlags::CLOEXEC).expect("memory for a board");
        let words = words(&extent);
        ftruncate(&memory, words as u64 * 8).expect("memory for a board");
        let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd()).into();
        let base = map(memory.as_fd(), words);
        let board = Scoreboard { base, words, extent, path, _memory: Some(memory) };
        for (index, number) in [extent.rows, extent.nonces, extent.samples].into_iter().enumerate() {
            board.word(EXTENT + index).store(number as u64, Ordering::Relaxed);
        }
        board
    }

    /// Where other processes find it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The board of another process.
    pub fn open(path: &Path) -> Scoreboard {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("the board");
        let words_there = file.metadata().expect("the board").len() as usize / 8;
        let extent = Extent { rows: 0, nonces: 0, samples: 0 };
        let base = map(file.as_fd(), words_there);
        let mut board = Scoreboard { base, words: words_there, extent, path: path.to_owned(), _memory: None };
        let number = |index| board.word(EXTENT + index).load(Ordering::Relaxed) as usize;
        board.extent = Extent { rows: number(0), nonces: number(1), samples: number(2) };
        assert_eq!(words(&board.extent), words_there);
        board
    }

    /// How large its parts are.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words);
        // SAFETY: in bounds of the mapping and aligned; shared memory that is only ever touched as atomics.
        unsafe { self.base.add(index).as_ref() }
    }

    /// A word that there is one of.
    pub fn single(&self, which: Single) -> &AtomicU64 {
        self.word(SINGLES + which as usize)
    }

    /// What everybody does.
    pub fn phase(&self) -> Phase {
        match self.single(Single::Phase).load(Ordering::Acquire) {
            0 => Phase::Pause,
            1 => Phase::Run,
            _ => Phase::End,
        }
    }

    /// Tells everybody what to do.
    pub fn set_phase(&self, phase: Phase) {
        self.single(Single::Phase).store(phase as u64, Ordering::Release);
    }

    /// A steady client's words.
    pub fn steady(&self, index: usize) -> Steady<'_> {
        let word = |of| self.word(STEADY + index * 4 + of);
        Steady { expected: word(0), acked: word(1), is_paused: word(2), longest_ns: word(3) }
    }

    /// A faithful client's words.
    pub fn faithful(&self, index: usize) -> Faithful<'_> {
        let word = |of| self.word(FAITHFUL + index * 4 + of);
        Faithful { life: word(0), greeted_at: word(1), is_paused: word(2), acked: word(3) }
    }

    /// How far the victim at that place is.
    pub fn stage(&self, place: usize) -> &AtomicU64 {
        self.word(STAGES + place)
    }

    /// The words of a life. Those of lives long ago are used again.
    pub fn life(&self, number: u64) -> Life<'_> {
        let word = |of| self.word(LIVES + number as usize % LIVES_REMEMBERED * 4 + of);
        Life { ready_at: word(0), killed_at: word(1), gone_at: word(2), drains: word(3) }
    }

    /// Notes a time in nanoseconds.
    pub fn note(&self, kind: Note, ns: u64) {
        let index = self.single(Single::Sampled).fetch_add(1, Ordering::Relaxed) as usize;
        if index < self.extent.samples {
            self.word(SAMPLES + index).store((kind as u64) << NOTE_SHIFT | ns, Ordering::Release);
        }
    }

    /// Takes all times that were noted, by kind. Nobody notes any meanwhile.
    pub fn take_notes(&self) -> [Vec<u64>; NOTES] {
        let noted = self.single(Single::Sampled).swap(0, Ordering::AcqRel) as usize;
        let mut notes: [Vec<u64>; NOTES] = Default::default();
        for index in 0..noted.min(self.extent.samples) {
            let word = self.word(SAMPLES + index).load(Ordering::Acquire);
            notes[(word >> NOTE_SHIFT) as usize].push(word & ((1 << NOTE_SHIFT) - 1));
        }
        notes
    }

    pub(crate) fn ledger_start(&self) -> usize {
        SAMPLES + self.extent.samples
    }
}

impl Drop for Scoreboard {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `map`; all references into it borrow `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.words * 8) };
    }
}

fn words(extent: &Extent) -> usize {
    SAMPLES + extent.samples + super::ledger::words(extent)
}

/// Populated at once, so that whoever has it holds the same amount of memory all the time.
fn map(memory: BorrowedFd<'_>, words: usize) -> NonNull<AtomicU64> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let base = unsafe { mmap(std::ptr::null_mut(), words * 8, protection, flags, memory, 0) };
    NonNull::new(base.expect("memory for a board").cast()).expect("no mapping lies at 0")
}

/// Now, in nanoseconds of the clock that all processes share.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
