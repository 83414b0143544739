//! Directories and lock files, looked at by descriptor so that nothing changes between the look and the use.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use crate::error::{Error, ErrorKind, Result, shown};

/// A directory that nobody but its owner can write to.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// What stands under a name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A socket of this user's.
    Socket {
        /// Its owner.
        uid: u32,
    },
    /// Anything else.
    Other,
}

impl Directory {
    /// Opens a directory and checks it: no symbolic link, owned by one of `owners` or by root, writable by its owner only.
    pub fn open(path: &Path, owners: &[u32]) -> Result<Directory> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(|error| open_error(path, error))?;
        let stat =
            fstat(&fd).map_err(|error| Error::io(format_args!("look at the directory {}", shown(path)), error))?;
        let unsafe_because = |why: String| {
            Err(Error::new(
                ErrorKind::DirectoryUnsafe,
                format!(
                    "the directory {} {why}: another user could put a server of his own there; use one of your own with \
                     `chmod 700`",
                    shown(path)
                ),
            ))
        };
        if stat.st_uid != 0 && !owners.contains(&stat.st_uid) {
            return unsafe_because(format!("belongs to user {}", stat.st_uid));
        }
        if stat.st_mode & 0o022 != 0 {
            return unsafe_because(format!("may be written to by others (mode {:03o})", stat.st_mode & 0o7777));
        }
        Ok(Directory { fd, path: path.to_owned() })
    }

    /// Makes the directory, for this user alone, unless it is there; then opens and checks it.
    pub fn open_or_create(path: &Path, owner: u32) -> Result<Directory> {
        match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Directory::open(path, &[owner]),
            Err(error) => Err(Error::io(format_args!("create the directory {}", shown(path)), error)),
        }
    }

    /// What stands under `name`.
    pub fn look(&self, name: &OsStr) -> Result<Found> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
                Ok(Found::Socket { uid: stat.st_uid })
            }
            Ok(_) => Ok(Found::Other),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(Error::io(format_args!("look at {}", shown(&self.path.join(name))), error)),
        }
    }

    /// The names in it; none if they cannot be read.
    pub fn names(&self) -> Vec<OsString> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect()
    }

    /// Removes `name` if it is there.
    pub fn remove(&self, name: &OsStr) {
        let _ = unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Sets the permission bits of `name`.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> Result<()> {
        rustix::fs::chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(|error| Error::io(format_args!("set the mode of {}", shown(&self.path.join(name))), error))
    }

    /// The address of the socket `name` in this very directory, whatever the directory's path is by now and however long.
    pub fn address(&self, name: &OsStr) -> Result<SocketAddrUnix> {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        let path = if by_descriptor.exists() { by_descriptor.join(name) } else { self.path.join(name) };
        SocketAddrUnix::new(&path).map_err(|_| {
            Error::new(
                ErrorKind::PathInvalid,
                format!(
                    "the socket path {} has {} bytes; the kernel allows 107: use a shorter name",
                    shown(&path),
                    path.as_os_str().len()
                ),
            )
        })
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_error(path: &Path, error: Errno) -> Error {
    let path_text = shown(path);
    match error {
        Errno::LOOP | Errno::NOTDIR => Error::new(
            ErrorKind::DirectoryUnsafe,
            format!("{path_text} is not a directory, or a symbolic link to one: give the directory's own path"),
        ),
        Errno::NOENT => Error::new(
            ErrorKind::NotRunning,
            format!("the directory {path_text} does not exist, so no server listens in it"),
        ),
        other => Error::io(format_args!("open the directory {path_text}"), other),
    }
}

/// A lock on a name, held for as long as this lives; the kernel lets it go when the process ends, however it ends.
#[derive(Debug)]
pub struct NameLock {
    _file: OwnedFd,
}

impl NameLock {
    /// Takes the lock without waiting; `None` when somebody else has it.
    ///
    /// The holder removes the file when it leaves, so the file that was locked may not be the one that has the name any
    /// more: then it is tried again.
    pub fn try_take(directory: &Directory, name: &OsStr) -> Result<Option<NameLock>> {
        let failed =
            |error: Errno| Error::io(format_args!("lock the name {}", shown(&directory.path.join(name))), error);
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(failed(error)),
            }
            let mine = fstat(&file).map_err(failed)?;
            match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if named.st_ino == mine.st_ino && named.st_dev == mine.st_dev => {
                    return Ok(Some(NameLock { _file: file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}
