//! Claims: they tell which processes have a semaphore's file open to which its name does not lead any more.
//!
//! The file may be removed by another program while permits are held in it; a process that opens the name then must
//! learn of it. So each life is locked a second time, at an offset that follows from user, path and name, and the
//! kernel lists all locks, those on files without a name as well ([`crate::sys::proc_locks`]). `permit_file.rs` says
//! when claims are taken and looked at (invariant F4).

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::sys::directory::Directory;
use crate::sys::proc_locks;
use crate::sys::record_lock::LIVES;
use crate::trace;

/// Where the lives of everybody who has a file of one name open are locked a second time: 2^16 bytes, the place of
/// which follows from user, path and name. Two names that share one by chance, one in 2^45, would only be told of each
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims(Range<u64>);

impl Claims {
    /// The first byte that can be a claim: beyond all lives, and beyond what others lock.
    const FIRST: u64 = 1 << 61;

    /// Those of a user's name in a directory, whose path has no links.
    pub fn of(uid: u32, directory: &Path, name: &OsStr) -> Claims {
        // FNV-1a: it has to be the same in every program, and need not withstand anybody: see [`check`].
        let bytes = uid.to_le_bytes().into_iter().chain(directory.as_os_str().as_bytes().iter().copied());
        let bytes = bytes.chain([b'/']).chain(name.as_bytes().iter().copied());
        let hash = bytes
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let first = Claims::FIRST + (hash >> 19) * u64::from(LIVES);
        Claims(first..first + u64::from(LIVES))
    }

    /// The byte of the life with this number.
    pub fn byte_of(&self, id: u16) -> u64 {
        self.0.start + u64::from(id)
    }
}

/// No process has this file open. A process may have another one that had this name, and hold permits that would not be
/// seen here.
///
/// What another user locks to look like that is not believed: one of this user's processes must have the file. If none
/// can be seen, because it is in another PID namespace or not dumpable, it is told and nothing more.
pub fn check(directory: &Directory, name: &OsStr, claims: Option<&Claims>) -> Result<()> {
    let Some(claims) = claims else { return Ok(()) };
    let files = proc_locks::files_locked_at(&claims.0);
    if files.is_empty() {
        if !proc_locks::are_listed() {
            trace::semaphore_unchecked(&directory.path_of(name));
        }
        return Ok(());
    }
    let path = shown(&directory.path_of(name));
    let mut processes: Vec<u32> = files.iter().flat_map(proc_locks::users_of).collect();
    processes.sort_unstable();
    processes.dedup();
    let who = match &processes[..] {
        [] => "a process that cannot be seen from here has".to_owned(),
        [one] => format!("process {one} has"),
        [first, .., last] => format!("{} processes ({first} to {last}) have", processes.len()),
    };
    let error = Error::new(
        ErrorKind::NameLost,
        format!(
            "{who} the semaphore {path} open, and its file was removed by another program: what is held there would \
             not be \
             seen here. Let that program close it, or end it, and open it again"
        ),
    );
    if processes.is_empty() {
        trace::semaphore_lost(&directory.path_of(name), &error);
        return Ok(());
    }
    Err(error)
}

/// Semaphores of this user that somebody has open and whose files were removed, replaced or moved: a process that opens
/// the name does not see what is held there. Returns the path that each had, and the processes.
pub fn lost() -> Vec<(PathBuf, Vec<u32>)> {
    let uid = rustix::process::geteuid().as_raw();
    let mut all: Vec<(PathBuf, Vec<u32>)> = Vec::new();
    for file in proc_locks::files_locked_at(&(Claims::FIRST..2 * Claims::FIRST)) {
        let processes = proc_locks::users_of(&file);
        let Some((path, is_taken)) = processes.iter().find_map(|process| proc_locks::path_of(*process, &file)) else {
            continue;
        };
        // One that was moved has another path than its claims say.
        let is_claimed = || {
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
            proc_locks::files_locked_at(&Claims::of(uid, directory, name).0).contains(&file)
        };
        if !is_taken && is_claimed() {
            continue;
        }
        match all.iter_mut().find(|(known, _)| *known == path) {
            Some((_, known)) => known.extend(processes),
            None => all.push((path, processes)),
        }
    }
    all
}

/// The processes that have a semaphore open that had this name, where the name does not lead to it any more.
pub fn lost_to(directory: &Path, name: &OsStr) -> Vec<u32> {
    let path = directory.join(name);
    let files = proc_locks::files_locked_at(&Claims::of(rustix::process::geteuid().as_raw(), directory, name).0);
    let has_name = |process: &u32, file| proc_locks::path_of(*process, file) == Some((path.clone(), false));
    let lost = files.iter().map(|file| (file, proc_locks::users_of(file)));
    lost.filter(|(file, users)| !users.iter().any(|user| has_name(user, file))).flat_map(|(_, users)| users).collect()
}
