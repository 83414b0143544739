//! The lock of a server on its name: open-file-description locks on bytes of the lock file, which hang on a mapping
//! that no child inherits (see [`crate::sys::record_lock`]). So the kernel lets it go when the server's process ends,
//! however it ends, although a child that it forked lives on; a `flock` on a descriptor would stay with the child.
//!
//! | byte | who has it |
//! |---|---|
//! | 0 | the server that has the name |
//! | 1 | a server that is about to take it over from that one |
//!
//! A server that takes a name without a takeover takes both bytes in one step, and gives the second one back: it cannot
//! come between two servers of which one takes over from the other.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::sys::directory::{Directory, Identity, identity_of};
use crate::sys::memory::{self, Mapping};
use crate::sys::record_lock;

/// The byte of the server that has the name.
const HOLDER: u32 = 0;
/// The byte of a server that is about to take it over.
const HEIR: u32 = 1;
/// Both.
const ALL: std::ops::Range<u32> = HOLDER..HEIR + 1;

/// The lock on a name, held for as long as this lives and the process does.
#[derive(Debug)]
pub struct OwnerLock {
    name: OsString,
    identity: Identity,
    is_new: bool,
    /// Only kept, never looked into.
    _keeper: Keeper,
}

/// What keeps the open file description that has the lock.
#[derive(Debug)]
enum Keeper {
    Mapping {
        _mapping: Mapping,
    },
    /// Where a file cannot be mapped. Children inherit it.
    File(OwnedFd),
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Keeper::File(file) = self {
            record_lock::give_up(file, HOLDER as u16); // a child may have the description, too
        }
    }
}

impl OwnerLock {
    /// Takes the lock without waiting; `None` when somebody else has it.
    ///
    /// The holder removes the file when it leaves, so the file that was locked may not be the one that has the name any
    /// more: then it is tried again.
    pub fn try_take(directory: &Directory, name: &OsStr) -> Result<Option<OwnerLock>> {
        let failed = |error: Errno| {
            directory.failed(
                format_args!(
                    "lock the name {} (F_OFD_SETLK, Linux 3.15: may a sandbox, or the file system, lack it?)",
                    shown(&directory.path_of(name))
                ),
                error,
            )
        };
        loop {
            let (file, is_new) = directory.make_file(name)?;
            match record_lock::take_all(&file, ALL) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    if is_new {
                        directory.remove(name); // nobody can have locked it here
                    }
                    return Err(failed(error));
                }
            }
            let identity = identity_of(&file)?;
            if directory.identity(name)? != Some(identity) {
                continue;
            }
            // In this order, the lock is on no descriptor any more before anything else happens: what is forked from
            // here on does not have it.
            let mapping = Mapping::to_keep(&file);
            record_lock::give_up(&file, HEIR as u16);
            let keeper = match mapping {
                Ok(mapping) => Keeper::Mapping { _mapping: mapping },
                Err(_) => Keeper::File(file),
            };
            return Ok(Some(OwnerLock { name: name.to_owned(), identity, is_new, _keeper: keeper }));
        }
    }

    /// Whether the lock file was there before: some server had the name, and did not remove it.
    pub fn is_from_before(&self) -> bool {
        !self.is_new
    }

    /// Whether the file that is locked has the name in that directory still.
    ///
    /// # Errors
    /// The directory cannot be looked into.
    pub fn has_name(&self, directory: &Directory) -> Result<bool> {
        Ok(directory.identity(&self.name)? == Some(self.identity))
    }

    /// Device and inode of the file, by which others recognize it.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Replaces the text in the file, which tells others about the holder. The descriptor it takes is of another open
    /// file description, which has no lock.
    pub fn write(&self, directory: &Directory, text: &str) -> Result<()> {
        let file = directory.open_for_writing(&self.name)?;
        if identity_of(&file)? != self.identity {
            return Ok(()); // it is another's by now
        }
        memory::empty_file(&file, 0, 0)?;
        memory::write_exact(&file, text.as_bytes(), 0)
    }

    /// Whether somebody has the lock of that name, or is about to. Nothing is made or locked.
    ///
    /// # Errors
    /// There is no such file (`NotRunning`), or it cannot be opened.
    pub fn is_held(directory: &Directory, name: &OsStr) -> Result<bool> {
        let path = || shown(&directory.path_of(name));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(directory, name, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => Error::new(ErrorKind::NotRunning, format!("there is no {}", path())),
            other => directory.failed(format_args!("open {}", path()), other),
        })?;
        Ok(OwnerLock::is_held_on(&file))
    }

    /// The same for a file that is open.
    pub fn is_held_on(file: impl AsFd) -> bool {
        record_lock::is_taken(file, ALL)
    }
}

#[cfg(test)]
mod tests {
    use wigwag_testing::no_process_starts;

    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn ground() -> (tempfile::TempDir, Directory) {
        let ground = tempfile::tempdir().unwrap();
        std::fs::set_permissions(ground.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let opened = Directory::open(ground.path(), &[rustix::process::geteuid().as_raw()]).unwrap();
        (ground, opened)
    }

    fn take(directory: &Directory) -> Option<OwnerLock> {
        OwnerLock::try_take(directory, OsStr::new("lock")).unwrap()
    }

    fn is_held(directory: &Directory) -> bool {
        OwnerLock::is_held(directory, OsStr::new("lock")).unwrap()
    }

    #[test]
    fn a_lock_is_held_by_one_and_let_go_with_its_holder() {
        let _guard = no_process_starts();
        let (ground, directory) = ground();
        let held = take(&directory).unwrap();
        assert!(!held.is_from_before() && held.has_name(&directory).unwrap());
        assert!(take(&directory).is_none() && is_held(&directory));
        held.write(&directory, "1 2\n").unwrap();
        assert_eq!(std::fs::read_to_string(ground.path().join("lock")).unwrap(), "1 2\n");
        assert!(take(&directory).is_none(), "the descriptor that was written through took no lock with it");
        drop(held);
        assert!(!is_held(&directory));
        assert!(take(&directory).unwrap().is_from_before());
    }

    #[test]
    fn no_descriptor_is_kept() {
        let _guard = no_process_starts();
        let (_ground, directory) = ground();
        let open =
            || std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        let held = take(&directory).unwrap();
        let path = directory.path_of(OsStr::new("lock"));
        assert!(!open().any(|link| link == path), "a child would inherit it");
        drop(held);
    }

    #[test]
    fn a_newcomer_does_not_come_between_two_who_hand_over() {
        let _guard = no_process_starts();
        let (ground, directory) = ground();
        std::fs::write(ground.path().join("lock"), "").unwrap();
        let heir = std::fs::File::options().read(true).write(true).open(ground.path().join("lock")).unwrap();
        assert!(record_lock::take(&heir, HEIR as u16).unwrap());
        assert!(take(&directory).is_none() && is_held(&directory));
        drop(heir);
        assert!(take(&directory).is_some());
    }

    #[test]
    fn a_file_that_was_replaced_is_noticed_and_a_link_is_not_followed() {
        let _guard = no_process_starts();
        let (ground, directory) = ground();
        let path = |name: &str| -> std::path::PathBuf { Path::new(ground.path()).join(name) };
        let held = take(&directory).unwrap();
        std::fs::remove_file(path("lock")).unwrap();
        assert!(!held.has_name(&directory).unwrap());
        std::fs::write(path("lock"), "mine").unwrap();
        assert!(!held.has_name(&directory).unwrap() && !is_held(&directory));
        held.write(&directory, "text").unwrap();
        assert_eq!(std::fs::read_to_string(path("lock")).unwrap(), "mine", "it is another's");
        assert_eq!(OwnerLock::is_held(&directory, OsStr::new("gone")).unwrap_err().kind(), ErrorKind::NotRunning);
        symlink("lock", path("link")).unwrap();
        assert_eq!(OwnerLock::try_take(&directory, OsStr::new("link")).unwrap_err().kind(), ErrorKind::Io);
    }
}
