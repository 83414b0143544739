//! The file of a semaphore: where its words live, who has it open, and how it comes and goes.
//!
//! docs/layout.md has the bytes. The first process that opens the semaphore makes the file, and the last one that
//! closes it removes it. A process that makes, opens, closes or removes it holds the **gate** meanwhile, a `flock` on
//! the file itself, for some microseconds. Everybody who has it open has a **life**, a lock on one byte of it (see
//! [`crate::sys::record_lock`]), that is taken and looked at under the gate.
//!
//! **Invariant F1.** While anybody's life is taken, the file is neither resized nor rebuilt nor removed. So a file that
//! somebody has mapped keeps its size, and nobody waits on words that others do not have any more.
//!
//! **Invariant F2.** The mapping is as large as [`size_of_file`] says of the number of permits that was checked when
//! the file was opened; that number is kept in private memory and never read from the file again. So every word lies
//! inside.
//!
//! **Invariant F3.** What lies in the mapping is accessed as atomics only, by everybody.
//!
//! # A file that loses its name
//!
//! Another program may remove the file, or its directory, while somebody has it open: somebody cleans up, a log-out
//! takes the runtime directory away. A process that opens the name then would make another file, with all permits free,
//! beside those that are held.
//!
//! - *Who removes what is old* is kept away by a shared `flock` on the directory, held as long as a semaphore in it is
//!   open.
//! - *A process that makes the file* must know of those who have another file of that name. Each life is therefore
//!   locked a second time, at an offset that follows from user, path and name (see [`crate::permits::claims`]), and the
//!   kernel lists all locks, on files without a name as well. A process that finds a name without any life looks there,
//!   and does not open while somebody has one.
//! - *Who has the file* looks whether the name still leads to it: a waiter each time that it looks after the dead, and
//!   everybody else with the first acquisition after each 50 ms.
//!
//! **Invariant F4.** A process that opens a name has taken its life and its claim *before* it sees, for the last time,
//! that the name leads to its file; and a process that makes the words of a file has made the name *before* it looks
//! for claims. So of two who have different files of one name, the later one has seen the claim of the earlier one,
//! where the kernel shows locks and processes.
//!
//! A rebuild is one word first (`state`: under construction, and how many permits the dead held), so that one that is
//! cut off by a kill is done again by the next who opens it, and what the dead held is still told.

#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FileType, FlockOperation, flock, fstat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::permits::claims::{self, Claims};
use crate::permits::table::{Holder, Permit, PermitTable, WaitQueue, WaiterSlot, is_owed};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::directory::{Directory, Identity, PlainFile, identity_of};
use crate::sys::memory::{Mapping, empty_file, read_exact, reserve, write_exact};
use crate::sys::name_lock::NameLock;
use crate::sys::record_lock::{self, LIVES};
use crate::sys::{clock, process};
use crate::trace;

/// The version of what lies in the file.
pub const SEMAPHORE_VERSION: u32 = 2;
/// The most permits that a semaphore can have.
pub const PERMITS_MAX: u32 = 4096;
/// The number of waiter slots.
pub const WAITER_SLOTS: usize = 1024;

const MAGIC: u64 = u64::from_ne_bytes(*b"WIGWAG\x01\x5e");
/// `state`: the words are there.
const READY: u64 = 1 << 63;

pub const WAIT_QUEUE_OFFSET: usize = 64;
pub const WAITER_SLOTS_OFFSET: usize = 4096;
pub const PERMITS_OFFSET: usize = WAITER_SLOTS_OFFSET + WAITER_SLOTS * size_of::<WaiterSlot>();

/// How long the gate is tried when a semaphore is opened, and when it is closed.
const GATE_TIMEOUT: Duration = Duration::from_secs(5);
const GATE_TIMEOUT_AT_THE_END: Duration = Duration::from_millis(20);

/// What stands at the beginning of the file. Changed under the gate only.
#[repr(C)]
#[derive(Debug, Default)]
pub struct FileHeader {
    pub magic: AtomicU64,
    pub version: AtomicU32,
    pub permits: AtomicU32,
    /// [`READY`], or how many permits the dead held when the rebuild began.
    pub state: AtomicU64,
    /// The last generation given.
    pub generation: AtomicU64,
    /// The id to try first for the next who opens it.
    pub next_id: AtomicU32,
}

const HEADER_SIZE: usize = size_of::<FileHeader>();

/// How often a file is opened anew that is removed while it is opened.
const ATTEMPTS: usize = 1000;
/// The time between two checks that the name still leads to the file, for callers that do not wait.
const NAME_LOOK_NS: u64 = 50_000_000;

/// The size of a file with `permits` permits.
pub const fn size_of_file(permits: u32) -> usize {
    (PERMITS_OFFSET + permits as usize * size_of::<Permit>()).next_multiple_of(4096)
}

/// The header as it was read from the file.
struct Found {
    version: u32,
    permits: u32,
    state: u64,
    generation: u64,
}

/// An open semaphore's file.
#[derive(Debug)]
pub struct PermitFile {
    directory: Directory,
    name: OsString,
    permits: u32,
    me: Holder,
    /// Our process's number, for people who look.
    process: u32,
    /// `None` once it is being closed.
    mapping: Option<Mapping>,
    /// Another open file description than the one whose lock is our life: through it the lives of all can be seen.
    watch: OwnedFd,
    /// The one that our life hangs on, if programs that this process starts shall have it too.
    shared_life: Option<OwnedFd>,
    /// By which the file is recognized under its name.
    identity: Identity,
    /// Where the directory was when the file was opened, without links.
    real_path: Option<PathBuf>,
    /// When the name was looked at last, by [`clock::tick`].
    looked_at: AtomicU64,
}

impl PermitFile {
    /// Opens the file of a semaphore, or makes it. `share_life`: children keep what this process holds.
    ///
    /// # Errors
    /// `NameLost`: somebody has a file of that name which was removed.
    pub fn open(directory: Directory, name: &OsStr, permits: u32, share_life: bool) -> Result<PermitFile> {
        let mut directory = directory.in_use();
        for _ in 0..ATTEMPTS {
            match PermitFile::try_open(directory, name, permits, share_life)? {
                Ok(file) => return Ok(file),
                Err(again) => directory = again,
            }
        }
        let path = directory.path_of(name);
        Err(Error::new(
            ErrorKind::NameLost,
            format!("{} was removed by another program {ATTEMPTS} times while it was opened", shown(&path)),
        ))
    }

    /// As [`open`](PermitFile::open); gives the directory back if the name did not lead to the file any more once it
    /// was open.
    #[allow(clippy::result_large_err, reason = "what is given back is what came in")]
    fn try_open(
        directory: Directory,
        name: &OsStr,
        permits: u32,
        share_life: bool,
    ) -> Result<std::result::Result<PermitFile, Directory>> {
        let gate = NameLock::take_within(&directory, name, GATE_TIMEOUT)?;
        let gate = gate.ok_or_else(|| is_busy(&directory, name))?;
        let watch = match directory.reopen(name, &gate) {
            Ok(Some(watch)) => watch,
            Ok(None) => return Ok(Err(directory)),
            Err(error) => {
                remove_if_empty(&directory, name, &gate); // without a descriptor nothing more can be seen of it
                return Err(error);
            }
        };
        if let Err(error) = record_lock::can_be_seen(&watch) {
            return Err(without_locks(&directory, name, &watch, error));
        }
        let identity = identity_of(&watch)?;
        let real_path = directory.real_path();
        let claims = real_path.as_deref().map(|path| Claims::of(rustix::process::geteuid().as_raw(), path, name));
        let mapping = match prepare(&directory, name, (&gate, &watch), permits, claims.as_ref()) {
            Ok(mapping) => mapping,
            Err(error) => {
                // Nothing is left of a file that we made and that could not be filled.
                remove_if_nobody_needs_it(&directory, name, &watch);
                return Err(error);
            }
        };
        let header = header(&mapping);
        let generation = header.generation.load(Ordering::Relaxed) + 1;
        header.generation.store(generation, Ordering::Relaxed);
        let table = table(&mapping, permits);
        let locked = |error| Error::io(format_args!("lock a byte of {}", shown(&directory.path_of(name))), error);
        let id = take_life(&gate, &watch, header, &table).map_err(locked)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Refused,
                format!(
                    "the semaphore {} is open {LIVES} times, which is the most: close some",
                    shown(&directory.path_of(name))
                ),
            )
        })?;
        if let Some(claims) = &claims {
            record_lock::take_claim(&gate, claims.byte_of(id)).map_err(locked)?;
        }
        // F4: the last look at the name, after the claim.
        if directory.identity(name)? != Some(identity) {
            return Ok(Err(directory));
        }
        let me = Holder::new(id, generation);
        let process = process::own_number().unwrap_or(0);
        let file = gate.release();
        if share_life {
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())
                .map_err(|error| Error::io("let children inherit the semaphore's file", error))?;
        }
        // From here on the mapping is the only reference to the description that has our life, unless it is shared.
        let shared_life = share_life.then_some(file);
        Ok(Ok(PermitFile {
            directory,
            name: name.to_owned(),
            permits,
            me,
            process,
            mapping: Some(mapping),
            watch,
            shared_life,
            identity,
            real_path,
            looked_at: AtomicU64::new(clock::tick() as u64),
        }))
    }

    /// Whether it is time to check the name, for a caller that does not wait: reading that clock costs almost nothing.
    #[inline(always)]
    pub fn must_look_at_name(&self) -> bool {
        // Relaxed: a look too many or too few.
        (clock::tick() as u64).wrapping_sub(self.looked_at.load(Ordering::Relaxed)) >= NAME_LOOK_NS
    }

    /// Looks whether the name still leads to this file.
    ///
    /// # Errors
    /// `NameLost` if it does not. Where the system does not say, it is believed to.
    #[cold]
    pub fn check_name(&self) -> Result<()> {
        let found = self.directory.identity(&self.name);
        let has_left = self.real_path.as_deref().is_some_and(|path| self.directory.has_left(path));
        if !has_left && !matches!(found, Ok(found) if found != Some(self.identity)) {
            self.looked_at.store(clock::tick() as u64, Ordering::Relaxed);
            return Ok(());
        }
        // The next acquisition looks again, whenever it comes.
        self.looked_at.store((clock::tick() as u64).wrapping_sub(NAME_LOOK_NS), Ordering::Relaxed);
        let path = shown(&self.path());
        let what = match found {
            Ok(Some(_)) if !has_left => "was replaced",
            _ => "was removed or moved",
        };
        let error = Error::new(
            ErrorKind::NameLost,
            format!(
                "the file {path} of this semaphore {what} by another program, so that others do not find it any more: \
                 close it \
                 in all programs that have it open, and open it anew"
            ),
        );
        trace::semaphore_lost(&self.path(), &error);
        Err(error)
    }

    /// The words.
    #[inline(always)]
    pub fn table(&self) -> PermitTable<'_> {
        table(self.mapping(), self.permits)
    }

    #[inline(always)]
    fn mapping(&self) -> &Mapping {
        self.mapping.as_ref().expect("it is there until the drop")
    }

    /// This opening's name as a holder.
    #[inline(always)]
    pub fn me(&self) -> Holder {
        self.me
    }

    /// Says whose process has a permit that was taken. Only for people: a kill before it leaves the last one's number,
    /// which does not go with this holder's name.
    #[inline(always)]
    pub fn sign(&self, index: u32) {
        self.table().permits[index as usize].process.store(self.me.sign(self.process), Ordering::Relaxed);
    }

    /// How many permits there are.
    pub fn permits(&self) -> u32 {
        self.permits
    }

    /// Whether this is a child that inherited the handle.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.mapping.as_ref().is_none_or(Mapping::is_forked)
    }

    /// Whether a holder that was read from a word is dead.
    pub fn is_dead(&self, holder: Holder) -> bool {
        holder != self.me && !record_lock::is_taken(&self.watch, u32::from(holder.id())..u32::from(holder.id()) + 1)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.path_of(&self.name)
    }
}

impl Drop for PermitFile {
    fn drop(&mut self) {
        if self.is_forked() {
            return; // it is still the parent's
        }
        let gate = NameLock::take_within(&self.directory, &self.name, GATE_TIMEOUT_AT_THE_END);
        if let Some(shared) = &self.shared_life {
            record_lock::give_up_all(shared); // children have this description too
        }
        drop(self.mapping.take());
        match gate {
            Ok(Some(gate)) if self.has_name() => {
                remove_if_nobody_needs_it(&self.directory, &self.name, &self.watch);
                drop(gate.release());
            }
            Ok(Some(gate)) => {
                // Made just now, in the place of ours: others may have opened it, or it is empty.
                remove_if_empty(&self.directory, &self.name, &gate);
                drop(gate.release());
            }
            Ok(None) => {}
            Err(_) => self.remove_without_descriptor(),
        }
    }
}

impl PermitFile {
    /// Whether the name leads to our file.
    fn has_name(&self) -> bool {
        matches!(self.directory.identity(&self.name), Ok(found) if found == Some(self.identity))
    }

    /// As at every end, where there is no descriptor for a gate of its own: the one that watches the lives is locked in
    /// its place. A child may have it, too, and keep that lock should we be killed within the next microseconds, so
    /// this is not the usual way.
    #[cold]
    fn remove_without_descriptor(&self) {
        if flock(&self.watch, FlockOperation::NonBlockingLockExclusive).is_err() {
            return; // whoever has the gate now opens it, or closes it and removes the file
        }
        if self.has_name() {
            remove_if_nobody_needs_it(&self.directory, &self.name, &self.watch);
        }
        let _ = flock(&self.watch, FlockOperation::Unlock);
    }
}

/// Whether anybody needs a semaphore's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A process has it open.
    Open,
    /// No process has it open, and the next one that opens it is told that a holder died with this many permits.
    Owed(u32),
    /// No process needs it: killed ones left it.
    Nobody,
}

/// What a semaphore's words say, for an observer that does not take part.
#[derive(Debug, Default)]
pub struct Seen {
    /// Each permit.
    pub permits: Vec<SeenPermit>,
    /// Of each waiter: what it needs, and whether it lives.
    pub waiting: Vec<(u32, bool)>,
}

/// What a permit's word says.
#[derive(Debug)]
pub enum SeenPermit {
    /// It is free; whether the last holder died with it.
    Free { is_owed: bool },
    /// A holder has it: its process, as far as it is known, and whether it lives.
    Held { process: Option<u32>, is_alive: bool },
}

/// Reads a semaphore's file without taking part, and changes nothing; `None` if there is none. Those who use it go on
/// meanwhile, so each word is of its own moment.
pub fn see(directory: &Directory, name: &OsStr) -> Result<Option<Seen>> {
    let Some(file) = PlainFile::open(directory, name)? else { return Ok(None) };
    let file = file.into_descriptor();
    check_file(directory, name, &file)?;
    let Some(found) = read_header(directory, name, &file)? else { return Ok(Some(Seen::default())) }; // being made
    check_version(directory, name, &found)?;
    let permits = found.permits.min(PERMITS_MAX);
    let mut bytes = vec![0; size_of_file(permits)];
    if found.state != READY || !read_exact(&file, 0, &mut bytes) {
        return Ok(Some(Seen::default())); // being rebuilt
    }
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("a word has eight bytes"));
    let lives = |holder: Holder| record_lock::is_taken(&file, u32::from(holder.id())..u32::from(holder.id()) + 1);
    let permit = |index: u32| {
        let at = PERMITS_OFFSET + index as usize * size_of::<Permit>();
        let (name, process) = (word(at), word(at + offset_of!(Permit, process)));
        match Holder::named_by(name) {
            Some(holder) => SeenPermit::Held { process: holder.process_of(process), is_alive: lives(holder) },
            None => SeenPermit::Free { is_owed: is_owed(name) },
        }
    };
    let waiter_slot = |index: usize| {
        let at = WAITER_SLOTS_OFFSET + index * size_of::<WaiterSlot>();
        let holder = Holder::named_by(word(at))?;
        let call_and_need = word(at + offset_of!(WaiterSlot, call)).to_ne_bytes();
        let need = u32::from_ne_bytes(call_and_need[4..].try_into().expect("four bytes"));
        (word(at + offset_of!(WaiterSlot, ticket)) != 0).then(|| (need, lives(holder)))
    };
    Ok(Some(Seen {
        permits: (0..permits).map(permit).collect(),
        waiting: (0..WAITER_SLOTS).filter_map(waiter_slot).collect(),
    }))
}

/// Whether anybody needs a semaphore's file; makes and changes nothing.
///
/// # Errors
/// There is no such file (`NotRunning`), or it is no semaphore of this user's.
pub fn look(directory: &Directory, name: &OsStr) -> Result<Need> {
    match NameLock::look(directory, name)? {
        Some(gate) => need(directory, name, &reopen(directory, name, &gate)?),
        None => Ok(Need::Open), // being opened or closed
    }
}

/// We have the gate, and the file open once more.
fn need(directory: &Directory, name: &OsStr, watch: &OwnedFd) -> Result<Need> {
    check_file(directory, name, watch)?;
    if record_lock::is_taken(watch, 0..LIVES) {
        return Ok(Need::Open);
    }
    Ok(match owed(directory, name, watch)? {
        0 => Need::Nobody,
        owed => Need::Owed(owed),
    })
}

/// Removes a semaphore's file that killed processes left, if nobody has it open and it has nothing to tell. Whether it
/// did.
pub fn remove_stale(directory: &Directory, name: &OsStr) -> bool {
    let Ok(Some(gate)) = NameLock::try_take(directory, name) else { return false };
    let watch = reopen(directory, name, &gate);
    let is_gone = watch.is_ok_and(|watch| remove_if_nobody_needs_it(directory, name, &watch));
    drop(gate.release());
    is_gone
}

/// We have the gate. A file that says that a holder died with a permit stays until a process has been told.
fn remove_if_nobody_needs_it(directory: &Directory, name: &OsStr, watch: &OwnedFd) -> bool {
    let is_stale = matches!(need(directory, name, watch), Ok(Need::Nobody));
    if is_stale {
        directory.remove(name);
    }
    is_stale
}

/// We have the gate: nobody can have a file open in which nothing stands.
#[cold]
fn remove_if_empty(directory: &Directory, name: &OsStr, file: impl AsFd) {
    if fstat(file).is_ok_and(|stat| stat.st_size == 0) {
        directory.remove(name);
    }
}

/// We have the gate, and the kernel has no locks for lives.
#[cold]
fn without_locks(directory: &Directory, name: &OsStr, file: &OwnedFd, error: Errno) -> Error {
    remove_if_empty(directory, name, file);
    let path = shown(&directory.path_of(name));
    Error::io(
        format_args!(
            "lock the semaphore {path} (F_OFD_SETLK, Linux 3.15): use a kernel, a file system and a sandbox that have \
             such locks"
        ),
        error,
    )
}

/// We have the gate. The words are made if nobody has the file open, and mapped.
fn prepare(
    directory: &Directory,
    name: &OsStr,
    (gate, watch): (&NameLock, &OwnedFd),
    permits: u32,
    claims: Option<&Claims>,
) -> Result<Mapping> {
    check_file(directory, name, watch)?;
    let size = size_of_file(permits);
    if record_lock::is_taken(watch, 0..LIVES) {
        check_count(directory, name, watch, permits)?;
    } else {
        claims::check(directory, name, claims)?;
        build(directory, name, watch, permits).map_err(|error| full(directory, name, size, error))?;
    }
    Mapping::new(gate, size, size)
}

#[cold]
fn is_busy(directory: &Directory, name: &OsStr) -> Error {
    Error::new(
        ErrorKind::TimedOut { maybe_executed: false },
        format!(
            "the semaphore {} is being opened or closed by another process, which has not finished within \
             {GATE_TIMEOUT:?}: is it stopped?",
            shown(&directory.path_of(name))
        ),
    )
}

/// The file could not be filled: with the directory, if that is why.
#[cold]
fn full(directory: &Directory, name: &OsStr, size: usize, error: Error) -> Error {
    let errno = error.os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::ROFS)) => directory
            .failed(format_args!("reserve {size} bytes for the semaphore {}", shown(&directory.path_of(name))), errno),
        _ => error,
    }
}

fn reopen(directory: &Directory, name: &OsStr, gate: &NameLock) -> Result<OwnedFd> {
    directory.reopen(name, gate)?.ok_or_else(|| {
        let path = directory.path_of(name);
        Error::new(
            ErrorKind::PathInvalid,
            format!("{} was removed by another program while it was opened: try again", path.display()),
        )
    })
}

fn bad_file(directory: &Directory, name: &OsStr, why: &str) -> Error {
    Error::new(ErrorKind::PathInvalid, format!("{} {why}", directory.path_of(name).display()))
}

/// A plain file of our own that nobody else may write to: a name that leads elsewhere is not touched.
fn check_file(directory: &Directory, name: &OsStr, file: &OwnedFd) -> Result<()> {
    let bad = |why: String| Err(bad_file(directory, name, &why));
    let stat = fstat(file).map_err(|error| Error::io("look at the semaphore's file", error))?;
    let own_uid = rustix::process::geteuid().as_raw();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return bad("is there and is not a file; remove it or take another name".into());
    }
    if stat.st_uid != own_uid {
        return bad(format!(
            "belongs to user {}, and semaphores are for processes of one user ({own_uid})",
            stat.st_uid
        ));
    }
    if stat.st_mode & 0o022 != 0 {
        return bad(format!(
            "may be written to by others (mode {:03o}); make it private with `chmod 600`",
            stat.st_mode & 0o7777
        ));
    }
    Ok(())
}

/// Reads the header; `None` if the file is empty.
fn read_header(directory: &Directory, name: &OsStr, file: &OwnedFd) -> Result<Option<Found>> {
    let stat = fstat(file).map_err(|error| Error::io("look at the semaphore's file", error))?;
    if stat.st_size == 0 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_SIZE];
    let mut words = [0; HEADER_SIZE / 8];
    if read_exact(file, 0, &mut bytes) {
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
    }
    if words[0] != MAGIC {
        return Err(bad_file(directory, name, "is there and is not a semaphore; take another name"));
    }
    let half = |offset: usize| u32::from_ne_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"));
    Ok(Some(Found {
        version: half(offset_of!(FileHeader, version)),
        permits: half(offset_of!(FileHeader, permits)),
        state: words[offset_of!(FileHeader, state) / 8],
        generation: words[offset_of!(FileHeader, generation) / 8],
    }))
}

/// Somebody has it open: it must have the number of permits that we expect.
fn check_count(directory: &Directory, name: &OsStr, file: &OwnedFd, permits: u32) -> Result<()> {
    let Some(found) = read_header(directory, name, file)? else {
        return Err(bad_file(directory, name, "was emptied by another program; remove it"));
    };
    check_version(directory, name, &found)?;
    if found.permits != permits {
        return Err(Error::new(
            ErrorKind::ContractMismatch,
            format!(
                "the semaphore {} is open with {}, and was opened with {} here: use the same number, or wait until \
                 nobody has it open",
                directory.path_of(name).display(),
                in_words(found.permits),
                in_words(permits)
            ),
        ));
    }
    let size = fstat(file).map(|stat| stat.st_size).unwrap_or_default();
    if found.state != READY || size as u64 != size_of_file(permits) as u64 {
        return Err(bad_file(directory, name, "was changed by another program; remove it"));
    }
    Ok(())
}

fn check_version(directory: &Directory, name: &OsStr, found: &Found) -> Result<()> {
    if found.version == SEMAPHORE_VERSION {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::VersionMismatch,
        format!(
            "the semaphore {} is open in a program with version {} of its layout, this one has {SEMAPHORE_VERSION}: \
             build \
             both with the same version of wigwag",
            directory.path_of(name).display(),
            found.version
        ),
    ))
}

fn in_words(permits: u32) -> String {
    format!("{permits} {}", if permits == 1 { "permit" } else { "permits" })
}

/// How many permits the dead held, of a file that nobody has open.
fn owed(directory: &Directory, name: &OsStr, file: &OwnedFd) -> Result<u32> {
    let Some(found) = read_header(directory, name, file)? else { return Ok(0) };
    if found.version != SEMAPHORE_VERSION {
        return Ok(0);
    }
    if found.state != READY {
        return Ok(found.state.min(PERMITS_MAX.into()) as u32);
    }
    let mut words = vec![0; found.permits.min(PERMITS_MAX) as usize * size_of::<Permit>()];
    if !read_exact(file, PERMITS_OFFSET as u64, &mut words) {
        return Ok(0); // it was cut off by somebody
    }
    let word = |permit: &[u8]| u64::from_ne_bytes(permit[..8].try_into().expect("a line has eight bytes"));
    Ok(words.chunks_exact(size_of::<Permit>()).filter(|permit| is_owed(word(permit))).count() as u32)
}

/// Makes all words anew, while no process has the file open. See the module's documentation for a kill in the middle.
fn build(directory: &Directory, name: &OsStr, file: &OwnedFd, permits: u32) -> Result<()> {
    let owed = owed(directory, name, file)?;
    let generation = read_header(directory, name, file)?.map_or(0, |found| found.generation);
    let mut header = [0; HEADER_SIZE / 8];
    header[0] = MAGIC;
    let numbers = [SEMAPHORE_VERSION.to_ne_bytes(), permits.to_ne_bytes()].concat();
    header[1] = u64::from_ne_bytes(numbers.try_into().expect("two times four bytes"));
    header[2] = owed.into();
    header[3] = generation;
    write_exact(file, &bytes_of(&header), 0)?;
    empty_file(file, HEADER_SIZE, size_of_file(permits))?;
    // Before anybody maps it: what is missing then raises no error, but SIGBUS.
    reserve(file, size_of_file(permits))?;
    for index in 0..owed.min(permits) as usize {
        write_exact(file, &1u64.to_ne_bytes(), (PERMITS_OFFSET + index * size_of::<Permit>()) as u64)?;
    }
    write_exact(file, &READY.to_ne_bytes(), offset_of!(FileHeader, state) as u64)
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Takes a life that nobody has; `None` if all are taken. We have the gate, so nobody else does the same.
fn take_life(
    gate: &NameLock,
    watch: &OwnedFd,
    header: &FileHeader,
    table: &PermitTable<'_>,
) -> rustix::io::Result<Option<u16>> {
    let first = header.next_id.load(Ordering::Relaxed);
    for step in 0..LIVES {
        let id = (first.wrapping_add(step) % LIVES) as u16;
        if record_lock::is_taken(watch, u32::from(id)..u32::from(id) + 1) {
            continue;
        }
        // Before the life is taken: after that, the former holder of this byte would look alive.
        table.sweep(|holder| holder.id() == id);
        if record_lock::take(gate, id)? {
            header.next_id.store(u32::from(id) + 1, Ordering::Relaxed);
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn header(mapping: &Mapping) -> &FileHeader {
    debug_assert!(mapping.size() >= PERMITS_OFFSET);
    // SAFETY: at the page-aligned beginning of a mapping (M1) that is larger than that (F2); only atomics inside (F3).
    unsafe { mapping.base().cast::<FileHeader>().as_ref() }
}

#[inline(always)]
fn table(mapping: &Mapping, permits: u32) -> PermitTable<'_> {
    debug_assert!(mapping.size() >= size_of_file(permits));
    let base = mapping.base();
    // SAFETY: in bounds of the mapping, which stays (M1, F2); the offsets are multiples of the alignments, which the
    // assertions below hold; only atomics inside (F3), for which every value is valid.
    unsafe {
        PermitTable {
            wait_queue: base.add(WAIT_QUEUE_OFFSET).cast::<WaitQueue>().as_ref(),
            waiter_slots: std::slice::from_raw_parts(
                base.add(WAITER_SLOTS_OFFSET).cast::<WaiterSlot>().as_ptr(),
                WAITER_SLOTS,
            ),
            permits: std::slice::from_raw_parts(base.add(PERMITS_OFFSET).cast::<Permit>().as_ptr(), permits as usize),
        }
    }
}

#[cfg(not(loom))]
const _: () = {
    assert!(HEADER_SIZE <= WAIT_QUEUE_OFFSET && HEADER_SIZE.is_multiple_of(8));
    assert!(
        WAIT_QUEUE_OFFSET.is_multiple_of(align_of::<WaitQueue>())
            && WAIT_QUEUE_OFFSET + size_of::<WaitQueue>() <= WAITER_SLOTS_OFFSET
    );
    assert!(size_of::<WaiterSlot>() == 32 && WAITER_SLOTS_OFFSET.is_multiple_of(align_of::<WaiterSlot>()));
    assert!(size_of::<Permit>() == 64 && PERMITS_OFFSET.is_multiple_of(align_of::<Permit>()));
};

#[cfg(all(test, not(loom)))]
mod tests {
    use wigwag_testing::no_process_starts;

    use super::*;
    use std::os::unix::fs::{FileExt, PermissionsExt};
    use std::path::Path;

    fn ground() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    fn open(path: &Path, permits: u32) -> Result<PermitFile> {
        let directory = Directory::open(path, &[rustix::process::geteuid().as_raw()])?;
        PermitFile::open(directory, OsStr::new("x"), permits, false)
    }

    fn recovered(file: &PermitFile) -> usize {
        file.table().permits.iter().filter(|permit| is_owed(permit.word.load(Ordering::Relaxed))).count()
    }

    #[test]
    fn the_layout_is_that_of_the_document() {
        let _guard = no_process_starts();
        let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/layout.md"));
        let rows: [(&str, usize); 6] = [
            ("SEMAPHORE_VERSION", SEMAPHORE_VERSION as usize),
            ("PERMITS_MAX", PERMITS_MAX as usize),
            ("WAITER_SLOTS", WAITER_SLOTS),
            ("WAIT_QUEUE_OFFSET", WAIT_QUEUE_OFFSET),
            ("WAITER_SLOTS_OFFSET", WAITER_SLOTS_OFFSET),
            ("PERMITS_OFFSET", PERMITS_OFFSET),
        ];
        for (name, value) in rows {
            assert!(document.contains(&format!("| `{name}` | {value} |")), "{name} is {value}");
        }
        let fields = [
            ("magic", offset_of!(FileHeader, magic)),
            ("version", offset_of!(FileHeader, version)),
            ("permits", offset_of!(FileHeader, permits)),
            ("state", offset_of!(FileHeader, state)),
            ("generation", offset_of!(FileHeader, generation)),
            ("next_id", offset_of!(FileHeader, next_id)),
            ("flags", offset_of!(WaitQueue, flags)),
            ("depth", offset_of!(WaitQueue, depth)),
            ("tickets", offset_of!(WaitQueue, tickets)),
            ("swept_ns", offset_of!(WaitQueue, swept_ns)),
            ("calls", offset_of!(WaitQueue, calls)),
            ("who", offset_of!(WaiterSlot, who)),
            ("ticket", offset_of!(WaiterSlot, ticket)),
            ("call", offset_of!(WaiterSlot, call)),
            ("need", offset_of!(WaiterSlot, need)),
            ("process", offset_of!(Permit, process)),
        ];
        let section = document.split("### File header").nth(1).unwrap();
        for (name, offset) in fields {
            let is_it =
                |line: &str| line.starts_with(&format!("| {offset} |")) && line.contains(&format!("| `{name}` |"));
            assert!(section.lines().any(is_it), "`{name}` lies at {offset}");
        }
        assert_eq!(size_of_file(1), 40_960);
    }

    #[test]
    fn a_rebuild_that_was_cut_off_is_done_again_and_what_the_dead_held_is_told() {
        let _guard = no_process_starts();
        let ground = ground();
        let place = ground.path().join("x");
        // As a process leaves it that is killed after each of the steps.
        let begun = |state: u64, size: u64| {
            let mut header = [0; HEADER_SIZE / 8];
            header[0] = MAGIC;
            header[1] = u64::from(SEMAPHORE_VERSION) | 7 << 32;
            header[2] = state;
            header[3] = 41;
            std::fs::write(&place, bytes_of(&header)).unwrap();
            std::fs::File::options().write(true).open(&place).unwrap().set_len(size).unwrap();
        };
        for (state, size, told) in
            [(0, HEADER_SIZE as u64, 0), (2, HEADER_SIZE as u64, 2), (2, 40_960, 2), (9, 40_960, 3)]
        {
            begun(state, size);
            let file = open(ground.path(), 3).unwrap();
            assert_eq!((recovered(&file), file.table().free()), (told, 3), "{state} {size}");
            assert_eq!(file.me(), Holder::new(0, 42), "no name is given twice");
            drop(file);
            assert_eq!(place.exists(), told > 0, "what has still to be told stays");
        }
        std::fs::write(&place, "").unwrap();
        assert_eq!(recovered(&open(ground.path(), 3).unwrap()), 0);
    }

    #[test]
    fn what_others_changed_is_an_error() {
        let _guard = no_process_starts();
        let ground = ground();
        let file = open(ground.path(), 3).unwrap();
        let raw = std::fs::File::options().read(true).write(true).open(ground.path().join("x")).unwrap();
        let good = |offset: u64| {
            let mut bytes = [0; 8];
            raw.read_exact_at(&mut bytes, offset).unwrap();
            bytes
        };
        for (offset, kind) in [
            (0, ErrorKind::PathInvalid),
            (8, ErrorKind::VersionMismatch),
            (12, ErrorKind::ContractMismatch),
            (16, ErrorKind::PathInvalid),
        ] {
            let before = good(offset);
            let mut bad = before;
            bad[0] ^= 1;
            raw.write_all_at(&bad, offset).unwrap();
            assert_eq!(open(ground.path(), 3).unwrap_err().kind(), kind, "{offset}");
            raw.write_all_at(&before, offset).unwrap();
        }
        open(ground.path(), 3).unwrap();
        assert_ne!(open(ground.path(), 3).unwrap().me(), file.me());
    }
}
