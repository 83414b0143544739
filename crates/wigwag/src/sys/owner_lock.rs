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
//! come between two servers of which one takes over from the other. In a takeover the heir takes byte 1, the holder
//! lets byte 0 go, the heir takes that and lets byte 1 go. Until the heir has byte 0, the former holder can take it
//! back.

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

/// What keeps the open file description that has a byte.
#[derive(Debug)]
enum Keeper {
    Mapping {
        _mapping: Mapping,
    },
    /// Where a file cannot be mapped. Children inherit it.
    File(OwnedFd, u32),
}

impl Keeper {
    /// Of this file, through which the byte was taken. In this order, the lock is on no descriptor any more before
    /// anything else happens: what is forked from here on does not have it.
    fn of(file: OwnedFd, byte: u32) -> Keeper {
        match Mapping::to_keep(&file) {
            Ok(mapping) => Keeper::Mapping { _mapping: mapping },
            Err(_) => Keeper::File(file, byte),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Keeper::File(file, byte) = self {
            record_lock::give_up(file, *byte as u16); // a child may have the description, too
        }
    }
}

/// The place of the server that is about to take a name over: there is one.
#[derive(Debug)]
pub struct HeirLock {
    name: OsString,
    identity: Identity,
    _keeper: Keeper,
}

impl HeirLock {
    /// Takes the place without waiting; `None` when another has it, or there is no such file by now.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub fn try_take(directory: &Directory, name: &OsStr) -> Result<Option<HeirLock>> {
        let taken = take_byte(directory, name, HEIR)?;
        Ok(taken.map(|(identity, keeper)| HeirLock { name: name.to_owned(), identity, _keeper: keeper }))
    }

    /// Takes the name itself, if its holder has let it go or is dead; `None` while it has it.
    ///
    /// # Errors
    /// The file cannot be opened or locked, or is not the one any more of which this is the heir.
    pub fn try_succeed(&self, directory: &Directory) -> Result<Option<OwnerLock>> {
        OwnerLock::retake(directory, &self.name, self.identity)
    }
}

/// Whether somebody has that byte of the file of that name.
fn is_taken(directory: &Directory, name: &OsStr, byte: u32) -> Result<bool> {
    let file = directory.try_open_for_writing(name)?;
    Ok(file.is_some_and(|file| record_lock::is_taken(file, byte..byte + 1)))
}

/// Takes one byte of the file of that name; `None` if another has it, or there is no such file.
fn take_byte(directory: &Directory, name: &OsStr, byte: u32) -> Result<Option<(Identity, Keeper)>> {
    let Some(file) = directory.try_open_for_writing(name)? else { return Ok(None) };
    match record_lock::take(&file, byte as u16) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err(failed_to_lock(directory, name, error)),
    }
    let identity = identity_of(&file)?;
    let keeper = Keeper::of(file, byte);
    Ok((directory.identity(name)? == Some(identity)).then_some((identity, keeper)))
}

#[cold]
fn replaced(directory: &Directory, name: &OsStr) -> Error {
    let path = shown(&directory.path_of(name));
    Error::new(ErrorKind::NameTaken, format!("the lock file {path} was removed or replaced during a takeover"))
}

#[cold]
fn failed_to_lock(directory: &Directory, name: &OsStr, error: Errno) -> Error {
    directory.failed(
        format_args!(
            "lock the name {} (F_OFD_SETLK, Linux 3.15: may a sandbox, or the file system, lack it?)",
            shown(&directory.path_of(name))
        ),
        error,
    )
}

impl OwnerLock {
    /// Takes the lock without waiting; `None` when somebody else has it.
    ///
    /// The holder removes the file when it leaves, so the file that was locked may not be the one that has the name any
    /// more: then it is tried again.
    pub fn try_take(directory: &Directory, name: &OsStr) -> Result<Option<OwnerLock>> {
        loop {
            let (file, is_new) = directory.make_file(name)?;
            match record_lock::take_all(&file, ALL) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    if is_new {
                        directory.remove(name); // nobody can have locked it here
                    }
                    return Err(failed_to_lock(directory, name, error));
                }
            }
            let identity = identity_of(&file)?;
            if directory.identity(name)? != Some(identity) {
                continue;
            }
            record_lock::give_up(&file, HEIR as u16);
            let keeper = Keeper::of(file, HOLDER);
            return Ok(Some(OwnerLock { name: name.to_owned(), identity, is_new, _keeper: keeper }));
        }
    }

    /// Takes the name of that very lock file, in a takeover: the heir, or the former holder that takes it back. `None`
    /// while another has it.
    ///
    /// # Errors
    /// The file cannot be opened or locked, or the name is another file's by now.
    pub fn retake(directory: &Directory, name: &OsStr, of: Identity) -> Result<Option<OwnerLock>> {
        let Some((identity, keeper)) = take_byte(directory, name, HOLDER)? else {
            return match directory.identity(name)? {
                Some(there) if there == of => Ok(None),
                _ => Err(replaced(directory, name)),
            };
        };
        match identity == of {
            true => Ok(Some(OwnerLock { name: name.to_owned(), identity, is_new: false, _keeper: keeper })),
            false => Err(replaced(directory, name)),
        }
    }

    /// Whether somebody is about to take the name over.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn has_heir(directory: &Directory, name: &OsStr) -> Result<bool> {
        is_taken(directory, name, HEIR)
    }

    /// Whether somebody has the name itself.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn has_holder(directory: &Directory, name: &OsStr) -> Result<bool> {
        is_taken(directory, name, HOLDER)
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
    fn a_name_passes_from_its_holder_to_its_heir_and_back() {
        let _guard = no_process_starts();
        let (ground, directory) = ground();
        let heir_of = || HeirLock::try_take(&directory, OsStr::new("lock")).unwrap();
        assert!(heir_of().is_none(), "nobody has the name");
        let held = take(&directory).unwrap();
        let identity = held.identity();
        let has_heir = || OwnerLock::has_heir(&directory, OsStr::new("lock")).unwrap();
        assert!(!has_heir());
        let heir = heir_of().unwrap();
        assert!(heir_of().is_none() && has_heir(), "there is one heir");
        assert!(heir.try_succeed(&directory).unwrap().is_none(), "the name is still held");
        drop(held);
        assert!(take(&directory).is_none() && is_held(&directory), "a newcomer does not come between them");
        let retake = || OwnerLock::retake(&directory, OsStr::new("lock"), identity).unwrap();
        let back = retake().unwrap();
        assert!(heir.try_succeed(&directory).unwrap().is_none(), "it was taken back");
        drop(back);
        let next = heir.try_succeed(&directory).unwrap().unwrap();
        assert!(retake().is_none() && next.identity() == identity && next.has_name(&directory).unwrap());
        drop(heir);
        assert!(!has_heir() && is_held(&directory) && take(&directory).is_none());
        std::fs::remove_file(ground.path().join("lock")).unwrap();
        std::fs::write(ground.path().join("lock"), "another's").unwrap();
        let error = OwnerLock::retake(&directory, OsStr::new("lock"), identity).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
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
