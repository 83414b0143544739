//! A lock on the whole of a file: a `flock` on its descriptor, which a child that is forked has, too. Semaphores' files
//! are guarded by one; a server's name has another kind (see [`crate::sys::owner_lock`]).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::sys::directory::Directory;

/// A lock on a name, held for as long as this lives; the kernel lets it go when the process ends, however it ends.
#[derive(Debug)]
pub struct NameLock {
    file: OwnedFd,
}

impl NameLock {
    /// Takes the lock without waiting; `None` when somebody else has it.
    ///
    /// The holder removes the file when it leaves, so the file that was locked may not be the one that has the name any
    /// more: then it is tried again.
    pub fn try_take(directory: &Directory, name: &OsStr) -> Result<Option<NameLock>> {
        let failed =
            |error: Errno| directory.failed(format_args!("lock the name {}", shown(&directory.path_of(name))), error);
        loop {
            let (file, _) = directory.make_file(name)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(failed(error)),
            }
            let mine = fstat(&file).map_err(failed)?;
            match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if named.st_ino == mine.st_ino && named.st_dev == mine.st_dev => {
                    return Ok(Some(NameLock { file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Takes the lock on a file that is locked for moments only: tries again for that long.
    pub fn take_within(directory: &Directory, name: &OsStr, timeout: Duration) -> Result<Option<NameLock>> {
        let begin = Instant::now();
        loop {
            if let Some(lock) = NameLock::try_take(directory, name)? {
                return Ok(Some(lock));
            }
            if begin.elapsed() >= timeout {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Checks whether a process has the lock, and makes nothing. `None`: one has. Otherwise the file, which is shared
    /// by all who look and which nobody can lock for as long as it lives: an instant, which a server that takes a name
    /// waits out.
    ///
    /// # Errors
    /// There is no such file (`NotRunning`), or it cannot be opened.
    pub fn look(directory: &Directory, name: &OsStr) -> Result<Option<NameLock>> {
        let path = || shown(&directory.path_of(name));
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(directory, name, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => Error::new(ErrorKind::NotRunning, format!("there is no {}", path())),
            other => Error::io(format_args!("open {}", path()), other),
        })?;
        match crate::sys::retry(|| flock(&file, FlockOperation::NonBlockingLockShared)) {
            Ok(()) => Ok(Some(NameLock { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Error::io(format_args!("look at the lock {}", path()), error)),
        }
    }

    /// Lets the lock go, although a child that was forked meanwhile has the descriptor too, and keeps the file.
    pub fn release(self) -> OwnedFd {
        let _ = flock(&self.file, FlockOperation::Unlock);
        self.file
    }
}

impl AsFd for NameLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use wigwag_testing::no_process_starts;

    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn private_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    #[test]
    fn a_lock_is_held_by_one_and_let_go_with_its_holder() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        let name = OsStr::new("lock");
        let held = NameLock::try_take(&opened, name).unwrap().unwrap();
        assert!(NameLock::try_take(&opened, name).unwrap().is_none());
        let mode = std::fs::metadata(directory.path().join("lock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(held);
        assert!(NameLock::try_take(&opened, name).unwrap().is_some());
        // A look sees it, beside other looks, and makes no file.
        let one = NameLock::look(&opened, name).unwrap();
        assert!(one.is_some() && NameLock::look(&opened, name).unwrap().is_some());
        drop(one);
        let held = NameLock::try_take(&opened, name).unwrap();
        assert!(NameLock::look(&opened, name).unwrap().is_none());
        drop(held);
        assert_eq!(NameLock::look(&opened, OsStr::new("gone")).unwrap_err().kind(), ErrorKind::NotRunning);
        assert!(!directory.path().join("gone").exists());
        // A link is not followed: the lock would be on somebody else's file.
        symlink("lock", directory.path().join("link")).unwrap();
        assert_eq!(NameLock::try_take(&opened, OsStr::new("link")).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(NameLock::look(&opened, OsStr::new("link")).unwrap_err().kind(), ErrorKind::Io);
        for lock in [NameLock::look, NameLock::try_take] {
            let lock = lock(&opened, name).unwrap().unwrap();
            assert_eq!(rustix::io::fcntl_getfd(lock).unwrap(), rustix::io::FdFlags::CLOEXEC);
        }
    }

    #[test]
    fn a_lock_is_waited_for_as_long_as_it_was_said() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        let name = OsStr::new("lock");
        let held = NameLock::try_take(&opened, name).unwrap().unwrap();
        let (begin, timeout) = (Instant::now(), Duration::from_millis(20));
        assert!(NameLock::take_within(&opened, name, timeout).unwrap().is_none());
        assert!(begin.elapsed() >= timeout);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(2));
                drop(held);
            });
            assert!(NameLock::take_within(&opened, name, Duration::from_secs(10)).unwrap().is_some());
        });
    }
}
