//! Where a history takes place: a directory for its name, and words that all of its parties share, also across
//! processes.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use wigwag::{ServerStats, ShutdownHandle, StatsHandle};
use wigwag_testing::{Ground, Process};

/// Parties that one history can have.
pub const PARTIES_MAX: usize = 24;
/// Words of one party.
const PARTY_WORDS: usize = 16;
const CLOCK: usize = 0;
const PARTIES: usize = 16;
const CELLS: usize = PARTIES + PARTIES_MAX * PARTY_WORDS;
/// Words that the forms use as they like.
const CELLS_MAX: usize = 6144;
const WORDS: usize = CELLS + CELLS_MAX;

/// A word of a party.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Word {
    /// Steps that it has begun.
    Progress,
    /// Not 0: it does nothing more.
    Over,
    /// Not 0: somebody is about to kill it.
    Dying,
    /// When its shutdown began; 0: not yet.
    ShutDownAt,
    /// When it was told that its end has come: from now on it must be given nothing; 0: not yet.
    ToldEndAt,
    /// Not 0: it can be connected to.
    Bound,
    /// Permits that it holds for sure.
    Holding,
    /// Permits that it may hold.
    MayHold,
    /// Bytes that it has written for sure.
    Written,
    /// Bytes that it may have written.
    MayHaveWritten,
    /// Not 0: its writing has ended in good order.
    EndedWell,
    /// Sessions, messages or requests it has begun, to number them.
    Begun,
    /// When it was left by those that it served: dropped or killed; 0: not yet.
    LeftAt,
    /// When another one began to take its name; 0: nobody has.
    ReplacedAt,
    /// The number of the process that it is in.
    Process,
    /// The message that was the newest when its publisher counted it among its subscribers; 0: not yet.
    CountedAt,
}

/// The stage of one history, as each of its processes sees it.
pub struct Stage {
    base: NonNull<AtomicU64>,
    /// The directory of the name.
    pub directory: PathBuf,
    ground: Option<Ground>,
    handles: Mutex<BTreeMap<usize, ShutdownHandle>>,
    statistics: Mutex<BTreeMap<usize, StatsHandle>>,
    /// The processes of the parties that have one.
    pub processes: Mutex<BTreeMap<usize, Arc<Process>>>,
}

// SAFETY: the mapping is touched as atomics only, and lives until the drop.
unsafe impl Send for Stage {}
// SAFETY: as above.
unsafe impl Sync for Stage {}

impl Stage {
    /// A new one.
    pub fn new(is_public: bool) -> Stage {
        let ground = Ground::new();
        let directory = ground.path("names");
        let mode = if is_public { 0o711 } else { 0o700 };
        std::fs::create_dir(&directory).expect("a directory for the name");
        let permissions = |mode| <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
        std::fs::set_permissions(&directory, permissions(mode)).expect("a directory of ours");
        std::fs::set_permissions(ground.path(""), permissions(mode)).expect("a directory of ours");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(ground.path("words"));
        let file = file.expect("a file for words");
        file.set_permissions(permissions(if is_public { 0o666 } else { 0o600 })).expect("a file of ours");
        if is_public {
            let file = OpenOptions::new().append(true).create(true).open(complaints(&directory));
            file.and_then(|file| file.set_permissions(permissions(0o666))).expect("a file for complaints");
        }
        file.set_len(WORDS as u64 * 8).expect("room for words");
        Stage::with(map(file.as_fd()), directory, Some(ground))
    }

    /// The stage of another process.
    pub fn open(directory: &str) -> Stage {
        let directory = PathBuf::from(directory);
        let words = directory.parent().expect("a directory in one").join("words");
        let file = OpenOptions::new().read(true).write(true).open(words).expect("the words are there");
        Stage::with(map(file.as_fd()), directory, None)
    }

    fn with(base: NonNull<AtomicU64>, directory: PathBuf, ground: Option<Ground>) -> Stage {
        let (handles, statistics, processes) = Default::default();
        Stage { base, directory, ground, handles, statistics, processes }
    }

    /// The name that the history is about.
    pub fn name(&self) -> PathBuf {
        self.directory.join("name")
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS);
        // SAFETY: in bounds of the mapping and aligned; shared memory that is only ever touched as atomics.
        unsafe { self.base.add(index).as_ref() }
    }

    /// A party's word.
    pub fn of(&self, party: usize, word: Word) -> &AtomicU64 {
        self.word(PARTIES + party * PARTY_WORDS + word as usize)
    }

    /// What a party's word is.
    pub fn read(&self, party: usize, word: Word) -> u64 {
        self.of(party, word).load(Ordering::SeqCst)
    }

    /// Sets a party's word.
    pub fn set(&self, party: usize, word: Word, to: u64) {
        self.of(party, word).store(to, Ordering::SeqCst);
    }

    /// A word of the form's own.
    pub fn cell(&self, index: usize) -> &AtomicU64 {
        assert!(index < CELLS_MAX);
        self.word(CELLS + index)
    }

    /// A moment: later ones are larger.
    pub fn now(&self) -> u64 {
        self.word(CLOCK).fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Something is not as it must be.
    pub fn complain(&self, what: impl AsRef<str>) {
        write_down(&complaints(&self.directory), what.as_ref());
    }

    /// All that was complained about.
    pub fn findings(&self) -> Vec<String> {
        let text = std::fs::read(complaints(&self.directory)).unwrap_or_default();
        let mut lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
        lines.dedup();
        lines
    }

    /// How a host of this process is shut down.
    pub fn register(&self, party: usize, handle: ShutdownHandle) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).insert(party, handle);
        self.set(party, Word::Bound, 1);
    }

    /// What a host of this process counts.
    pub fn register_statistics(&self, party: usize, handle: Option<StatsHandle>) {
        let mut statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        statistics.extend(handle.map(|handle| (party, handle)));
    }

    /// What a host of this process has counted so far.
    pub fn statistics(&self, party: usize) -> Option<ServerStats> {
        let statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        statistics.get(&party).map(StatsHandle::stats)
    }

    /// The host is no more.
    pub fn unregister(&self, party: usize) {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).remove(&party);
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&party);
    }

    /// Shuts down a host, wherever it is. Whether it could be.
    pub fn shut_down(&self, party: usize) -> bool {
        let handle = self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(&party).cloned();
        if let Some(handle) = handle {
            let _ =
                self.of(party, Word::ShutDownAt).compare_exchange(0, self.now(), Ordering::SeqCst, Ordering::SeqCst);
            handle.shutdown();
            return true;
        }
        match self.process(party) {
            Some(process) => {
                process.tell("shutdown");
                true
            }
            None => false,
        }
    }

    /// The process of a party.
    pub fn process(&self, party: usize) -> Option<Arc<Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).get(&party).cloned()
    }

    /// Waits until something is so; gives up, which is a finding, only when the history is given up.
    pub fn wait_until(&self, mut is_so: impl FnMut() -> bool) -> bool {
        let begin = Instant::now();
        while !is_so() {
            let waited = begin.elapsed();
            if waited > GIVEN_UP {
                return false;
            }
            std::thread::sleep((waited / 8).clamp(Duration::from_micros(20), Duration::from_millis(2)));
        }
        true
    }

    /// Files of the name that are there.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// What leads another process here.
    pub fn place(&self) -> &Path {
        &self.directory
    }
}

/// Longer than any watchdog waits.
const GIVEN_UP: Duration = Duration::from_secs(300);

impl Drop for Stage {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `map`; all references into it borrow `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), WORDS * 8) };
        self.ground.take();
    }
}

fn map(memory: BorrowedFd<'_>) -> NonNull<AtomicU64> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let base = unsafe { mmap(std::ptr::null_mut(), WORDS * 8, protection, MapFlags::SHARED, memory, 0) };
    NonNull::new(base.expect("memory for words").cast()).expect("no mapping lies at 0")
}

fn complaints(directory: &Path) -> PathBuf {
    directory.with_file_name("complaints")
}

/// One write of one line: it is whole or not there, whoever is killed.
pub fn write_down(path: &Path, what: &str) {
    let line = format!("{}\n", what.replace('\n', ": "));
    let file = OpenOptions::new().append(true).create(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

/// Panics of this process become complaints, but for those that a history plans. Set once for the process.
pub fn write_down_panics(directory: &Path) {
    let path = complaints(directory);
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.to_string();
        if !text.contains(PLANNED) {
            write_down(&path, &text);
        }
    }));
}

/// What the text of a panic says that belongs to a history.
pub const PLANNED: &str = "planned";
