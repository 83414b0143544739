//! Directories and plain files in them, looked at by descriptor so that nothing changes between the look and the use.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, accessat, chmodat, fchmod, flock, fstat,
    mkdirat, openat, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::faults::{self, Fault};

/// A directory that nobody but its owner can write to.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// Device and inode, by which a file is recognized as long as somebody keeps it.
pub type Identity = (u64, u64);

fn identity_in(stat: &rustix::fs::Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
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
    /// Opens a directory and checks it: no symbolic link, owned by one of `owners` or by root, writable by its owner
    /// only.
    pub fn open(path: &Path, owners: &[u32]) -> Result<Directory> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(|error| open_error(path, error))?;
        let stat =
            fstat(&fd).map_err(|error| Error::io(format_args!("look at the directory {}", shown(path)), error))?;
        let unsafe_because = |why: String| {
            Err(Error::new(
                ErrorKind::DirectoryUnsafe,
                format!(
                    "the directory {} {why}: another user could put a server of his own there; use one of your own \
                     with \
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

    /// Makes the directory, for this user alone, unless it is there; then opens and checks it. The mode is set
    /// afterwards, because the process's umask takes bits away from the one that a directory is made with; a directory
    /// of ours that such an umask made useless, and that gives nothing to others, gets its mode back.
    pub fn open_or_create(path: &Path, owner: u32) -> Result<Directory> {
        match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                let parent = path.parent().unwrap_or(path);
                return Err(failed_in(parent, format_args!("create the directory {}", shown(path)), error));
            }
        }
        let directory = Directory::open(path, &[owner])?;
        let stat = directory.stat()?;
        let is_useless = stat.st_mode & 0o700 != 0o700 && !faults::is(Fault::UmaskedDirectory);
        if stat.st_uid == owner && is_useless && stat.st_mode & 0o077 == 0 {
            let by_descriptor = format!("/proc/self/fd/{}", directory.fd.as_raw_fd());
            chmodat(CWD, by_descriptor, Mode::RWXU, AtFlags::empty())
                .or_else(|_| chmodat(CWD, path, Mode::RWXU, AtFlags::empty()))
                .map_err(|error| Error::io(format_args!("set the mode of {} to 700", shown(path)), error))?;
        }
        Ok(directory)
    }

    /// Keeps programs that remove what is old (systemd-tmpfiles) away from all that is in it, for as long as this
    /// lives: a shared `flock` says that it is in use. It costs no descriptor more. Where it cannot be had, this
    /// changes nothing.
    pub fn in_use(self) -> Directory {
        match self.readable() {
            Ok(readable) if flock(&readable, FlockOperation::NonBlockingLockShared).is_ok() => {
                Directory { fd: readable, path: self.path }
            }
            _ => self,
        }
    }

    /// The directory once more, to be read. `.` is a directory for certain, and no flag says that something is to be
    /// read, so neither stands here.
    fn readable(&self) -> rustix::io::Result<OwnedFd> {
        openat(&self.fd, ".", OFlags::CLOEXEC, Mode::empty())
    }

    fn stat(&self) -> Result<rustix::fs::Stat> {
        fstat(&self.fd).map_err(|error| Error::io(format_args!("look at the directory {}", shown(&self.path)), error))
    }

    /// The absolute path that leads to this very directory now, without symbolic links; `None` if there is none, or the
    /// kernel does not say (without `/proc`) and the path that it was opened by is not absolute.
    pub fn real_path(&self) -> Option<PathBuf> {
        let path = self.link().unwrap_or_else(|| self.path.clone());
        let own = self.stat().ok()?;
        let there = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (path.is_absolute() && identity_in(&there) == identity_in(&own)).then_some(path)
    }

    /// Whether it has been moved or removed since it had that path. "No" where the kernel does not say.
    pub fn has_left(&self, path: &Path) -> bool {
        self.link().is_some_and(|link| link != path)
    }

    /// A path that leads to this very directory in this process, for system calls that take no descriptor.
    pub fn path_now(&self) -> PathBuf {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        if by_descriptor.exists() { by_descriptor } else { self.path.clone() }
    }

    /// Opens the file `name`, which is there, to be read and written.
    pub fn open_for_writing(&self, name: &OsStr) -> Result<OwnedFd> {
        let missing = || self.failed(format_args!("open {}", shown(&self.path_of(name))), Errno::NOENT);
        self.try_open_for_writing(name)?.ok_or_else(missing)
    }

    /// The same; `None` if it is not there.
    pub fn try_open_for_writing(&self, name: &OsStr) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed(format_args!("open {}", shown(&self.path_of(name))), error)),
        }
    }

    fn link(&self) -> Option<PathBuf> {
        let link = readlinkat(CWD, format!("/proc/self/fd/{}", self.fd.as_raw_fd()), Vec::new()).ok()?;
        Some(PathBuf::from(OsString::from_vec(link.into_bytes())))
    }

    /// Which file has that name, whatever its kind; `None` if none has.
    ///
    /// # Errors
    /// The directory cannot be looked into.
    pub fn identity(&self, name: &OsStr) -> Result<Option<Identity>> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(identity_in(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed(format_args!("look at {}", shown(&self.path.join(name))), error)),
        }
    }

    /// Opens the file `name`, or makes it with mode 600 whatever the umask says. Whether it was made.
    pub fn make_file(&self, name: &OsStr) -> Result<(OwnedFd, bool)> {
        let failed = |error| self.failed(format_args!("open or create {}", shown(&self.path.join(name))), error);
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let mut is_repaired = false;
        loop {
            match openat(&self.fd, name, flags | OFlags::CREATE | OFlags::EXCL, mode) {
                Ok(file) => {
                    fchmod(&file, mode).map_err(failed)?;
                    return Ok((file, true));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            match openat(&self.fd, name, flags, Mode::empty()) {
                Ok(file) => return Ok((file, false)),
                Err(Errno::NOENT) => {} // removed meanwhile
                Err(Errno::ACCESS | Errno::PERM) if !is_repaired => {
                    self.repair_mode(name)?;
                    is_repaired = true;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// A file that cannot be opened: of ours, made under an odd umask by an earlier version or a process that was
    /// killed in the middle, it gets its mode; of another user, it is told.
    #[cold]
    fn repair_mode(&self, name: &OsStr) -> Result<()> {
        let path = shown(&self.path.join(name));
        let failed = |error| self.failed(format_args!("look at {path}"), error);
        let stat = match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(failed)?,
        };
        let own_uid = rustix::process::geteuid().as_raw();
        if stat.st_uid != own_uid {
            return Err(Error::new(
                ErrorKind::PathInvalid,
                format!(
                    "{path} belongs to user {}, and this process is of user {own_uid}: a program that was started as \
                     user {} \
                     has it, or left it when it could not remove it any more. End that program, remove {path} as user \
                     {}, and \
                     let the program give up its privileges before it takes the name",
                    stat.st_uid, stat.st_uid, stat.st_uid
                ),
            ));
        }
        let is_ours_alone = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o077 == 0;
        if is_ours_alone {
            chmodat(&self.fd, name, Mode::RUSR | Mode::WUSR, AtFlags::empty()).map_err(failed)?;
        }
        Ok(())
    }

    /// The error of a system call on something in this directory. `doing` completes "could not ...".
    #[cold]
    pub fn failed(&self, doing: impl std::fmt::Display, error: Errno) -> Error {
        failed_in(&self.path, doing, error)
    }

    /// What stands under `name`.
    pub fn look(&self, name: &OsStr) -> Result<Found> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
                Ok(Found::Socket { uid: stat.st_uid })
            }
            Ok(_) => Ok(Found::Other),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(self.failed(format_args!("look at {}", shown(&self.path.join(name))), error)),
        }
    }

    /// The names in it; none if they cannot be read.
    pub fn names(&self) -> Vec<OsString> {
        self.try_names().unwrap_or_default()
    }

    /// The names in it.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn try_names(&self) -> Result<Vec<OsString>> {
        let failed = |error| self.failed(format_args!("read the directory {}", shown(&self.path)), error);
        let entries = self.readable().and_then(Dir::new).map_err(failed)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()).map_err(failed));
        let names = names.filter(|name| !matches!(name.as_deref(), Ok(b"." | b"..")));
        names.map(|name| name.map(OsString::from_vec)).collect()
    }

    /// The path of `name` in it, for sentences.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the file `name` once more, if it still is that very file.
    pub fn reopen(&self, name: &OsStr, file: impl AsFd) -> Result<Option<OwnedFd>> {
        let failed = |error: Errno| Error::io(format_args!("open {}", self.path_of(name).display()), error);
        let again = match openat(&self.fd, name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let (one, other) = (fstat(&again).map_err(failed)?, fstat(file).map_err(failed)?);
        Ok((one.st_ino == other.st_ino && one.st_dev == other.st_dev).then_some(again))
    }

    /// Removes `name` if it is there.
    pub fn remove(&self, name: &OsStr) {
        let _ = unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Removes `name`, unless it is gone already.
    pub fn try_remove(&self, name: &OsStr) -> Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed(format_args!("remove {}", shown(&self.path.join(name))), error)),
        }
    }

    /// Gives a file another name in it, in the place of what has that name: who looks finds one of the two at any time.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> Result<()> {
        renameat(&self.fd, from, &self.fd, to)
            .map_err(|error| self.failed(format_args!("rename {}", shown(&self.path.join(from))), error))
    }

    /// Sets the permission bits of `name`.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> Result<()> {
        chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(|error| Error::io(format_args!("set the mode of {}", shown(&self.path.join(name))), error))
    }

    /// The address of the socket `name` by its absolute path, which then stands in `/proc/net/unix` for people, and for
    /// programs that remove old sockets nobody listens on; where there is no such path, or it is too long, as
    /// [`address`](Self::address).
    pub fn address_for_all(&self, name: &OsStr) -> Result<SocketAddrUnix> {
        let by_path = self.real_path().and_then(|path| SocketAddrUnix::new(path.join(name)).ok());
        by_path.map_or_else(|| self.address(name), Ok)
    }

    /// The address of the socket `name` in this very directory, whatever the directory's path is by now and however
    /// long.
    pub fn address(&self, name: &OsStr) -> Result<SocketAddrUnix> {
        let path = self.path_now().join(name);
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

/// What stands at a path, if anything does; a link is itself.
pub fn identity_at(path: &Path) -> Option<Identity> {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| identity_in(&stat))
}

/// Whether `path` is a directory of that user, or one that this process can make.
pub fn is_to_be_had(path: &Path, uid: u32) -> bool {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_uid == uid,
        Err(Errno::NOENT) => path
            .parent()
            .is_some_and(|parent| accessat(CWD, parent, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()),
        Err(_) => false,
    }
}

/// The error of a system call on something in that directory: with the directory, and the cure where there is one.
#[cold]
fn failed_in(directory: &Path, doing: impl std::fmt::Display, error: Errno) -> Error {
    let directory = shown(directory);
    let why = match error {
        Errno::NOSPC => format!(
            "no space left in {directory}: remove what is not needed on that file system, or make it larger (df -h, df \
             -i)"
        ),
        Errno::DQUOT => format!("this user's quota is used up in {directory}: remove what is not needed there (quota)"),
        Errno::ROFS => {
            format!("the file system of {directory} is mounted for reading only: use a directory on another one")
        }
        Errno::ACCESS | Errno::PERM => format!(
            "user {} may not do so in {directory}: make it a directory of that user's, with `chmod 700`",
            rustix::process::geteuid().as_raw()
        ),
        _ => return Error::io(doing, error),
    };
    Error::io_told(doing, why, error)
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

/// A file as an observer sees it, which neither makes nor locks it.
#[derive(Debug)]
pub struct PlainFile {
    file: OwnedFd,
}

impl PlainFile {
    /// Opens the file; `None` if there is none, or something else has the name.
    pub fn open(directory: &Directory, name: &OsStr) -> Result<Option<PlainFile>> {
        let failed =
            |error: Errno| Error::io(format_args!("open the file {}", shown(&directory.path.join(name))), error);
        // What is no file must not make us wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let is_file = FileType::from_raw_mode(fstat(&file).map_err(failed)?.st_mode) == FileType::RegularFile;
        Ok(is_file.then_some(PlainFile { file }))
    }

    /// Device and inode of the file.
    pub fn identity(&self) -> Result<(u64, u64)> {
        identity_of(&self.file)
    }

    /// The descriptor.
    pub fn into_descriptor(self) -> OwnedFd {
        self.file
    }
}

impl AsFd for PlainFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Device and inode of an open file.
pub fn identity_of(file: impl AsFd) -> Result<Identity> {
    let stat = fstat(file).map_err(|error| Error::io("look at a lock file", error))?;
    Ok(identity_in(&stat))
}

#[cfg(test)]
mod tests {
    use rustix::fs::mknodat;
    use rustix::process::DumpableBehavior;
    use wigwag_testing::no_process_starts;

    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn private_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        set_mode(directory.path(), 0o700);
        directory
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode_of(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn is_closed_on_exec(file: impl AsFd) -> bool {
        rustix::io::fcntl_getfd(file).unwrap() == rustix::io::FdFlags::CLOEXEC
    }

    /// Whether a device, or a file that another program has a lease on, made nobody wait who opened it.
    fn is_opened_without_waiting(file: impl AsFd) -> bool {
        rustix::fs::fcntl_getfl(file).unwrap().contains(OFlags::NONBLOCK)
    }

    /// Who is not above the modes of files: this user, or another one for root.
    fn plain_uid() -> u32 {
        if own_uid() == 0 { 60_123 } else { own_uid() }
    }

    /// Does something as that user. The kernel keeps users by thread, so no other test notices.
    fn as_plain_user(what: impl FnOnce() + Send) {
        let uid = plain_uid();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let user = rustix::thread::Uid::from_raw(uid);
                if uid != own_uid() {
                    rustix::thread::set_thread_res_uid(user, user, user).unwrap();
                    // With the user the kernel takes this away, and from the whole process.
                    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
                }
                what();
            });
        });
    }

    #[test]
    fn what_is_to_be_had_is_a_directory_of_that_user_or_can_be_made() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let own = directory.path();
        assert!(is_to_be_had(own, own_uid()));
        assert!(!is_to_be_had(own, own_uid() + 1), "it is another user's");
        std::fs::write(own.join("file"), "").unwrap();
        symlink(own, own.join("link")).unwrap();
        for what in ["file", "link", "file/below"] {
            assert!(!is_to_be_had(&own.join(what), own_uid()), "{what} is no directory");
        }
        assert!(is_to_be_had(&own.join("missing"), own_uid()), "it can be made");
        assert!(!is_to_be_had(&own.join("missing/below"), own_uid()), "there is nothing to make it in");
        as_plain_user(|| assert!(!is_to_be_had(Path::new("/missing"), plain_uid()), "only root can make it"));
    }

    #[test]
    fn a_file_gets_another_name_in_the_place_of_what_had_it() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        let [one, other] = ["one", "other"].map(OsStr::new);
        std::fs::write(directory.path().join("one"), "1").unwrap();
        std::fs::write(directory.path().join("other"), "2").unwrap();
        opened.rename(one, other).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("other")).unwrap(), "1");
        assert!(opened.try_open_for_writing(one).unwrap().is_none());
        let file = opened.try_open_for_writing(other).unwrap().unwrap();
        rustix::io::write(&file, b"3").unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("other")).unwrap(), "3");
        assert_eq!(opened.rename(one, other).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(identity_at(&directory.path().join("other")), Some(identity_of(&file).unwrap()));
        assert_eq!(identity_at(&directory.path().join("one")), None);
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        assert!(opened.try_open_for_writing(OsStr::new("directory")).is_err(), "it is there, and no file");
    }

    #[test]
    fn only_the_owner_may_write_to_a_directory() {
        let _guard = no_process_starts();
        let directory = private_directory();
        for mode in [0o700, 0o755, 0o500] {
            set_mode(directory.path(), mode);
            Directory::open(directory.path(), &[own_uid()]).unwrap();
        }
        for mode in [0o720, 0o702, 0o722] {
            set_mode(directory.path(), mode);
            let error = Directory::open(directory.path(), &[own_uid()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DirectoryUnsafe, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_is_its_own_path_and_belongs_to_whom_it_should() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let link = directory.path().join("link");
        symlink(directory.path(), &link).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for other in [&link, &file] {
            assert_eq!(Directory::open(other, &[own_uid()]).unwrap_err().kind(), ErrorKind::DirectoryUnsafe);
        }
        let gone = directory.path().join("gone");
        assert_eq!(Directory::open(&gone, &[own_uid()]).unwrap_err().kind(), ErrorKind::NotRunning);
        let long = directory.path().join("x".repeat(300));
        assert_eq!(Directory::open(&long, &[own_uid()]).unwrap_err().kind(), ErrorKind::Io);
        // Root's is anybody's.
        Directory::open(Path::new("/"), &[60_123]).unwrap();
        if own_uid() != 0 {
            let error = Directory::open(directory.path(), &[own_uid() + 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DirectoryUnsafe);
            return;
        }
        chown(directory.path(), Some(60_123), None).unwrap();
        Directory::open(directory.path(), &[0, 60_123]).unwrap();
        let error = Directory::open(directory.path(), &[0]).unwrap_err();
        assert!(error.to_string().contains("belongs to user 60123"), "{error}");
    }

    #[test]
    fn the_descriptor_is_closed_on_exec() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        assert!(rustix::io::fcntl_getfd(&opened).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_directory_is_made_once_for_this_user_alone() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let path = directory.path().join("new");
        for _ in 0..2 {
            Directory::open_or_create(&path, own_uid()).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        }
        let error = Directory::open_or_create(&directory.path().join("a/b"), own_uid()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[test]
    fn a_directory_that_a_umask_made_useless_gets_its_mode_back_and_no_other_does() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let made = |name: &str, mode: u32| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            set_mode(&path, mode);
            path
        };
        for (mode, expected) in [(0o500, 0o700), (0, 0o700), (0o2700, 0o2700), (0o550, 0o550), (0o755, 0o755)] {
            let path = made(&format!("{mode:o}"), mode);
            Directory::open_or_create(&path, own_uid()).unwrap();
            assert_eq!(mode_of(&path), expected, "{mode:o}");
        }
        if own_uid() != 0 {
            return; // only root's directory is anybody's
        }
        let path = made("of root", 0o500);
        Directory::open_or_create(&path, 60_123).unwrap();
        assert_eq!(mode_of(&path), 0o500, "it is another user's");
    }

    #[test]
    fn a_directory_in_use_is_locked_for_as_long_as_it_is_kept() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let open = || Directory::open(directory.path(), &[own_uid()]).unwrap();
        let remover = std::fs::File::open(directory.path()).unwrap();
        let lock = || flock(&remover, FlockOperation::NonBlockingLockExclusive);
        let (one, other) = (open().in_use(), open().in_use());
        assert!(is_closed_on_exec(&one));
        for used in [one, other] {
            assert_eq!(lock(), Err(Errno::WOULDBLOCK));
            drop(used);
        }
        lock().unwrap();
        let opened = open();
        let fd = opened.as_fd().as_raw_fd();
        assert_eq!(opened.in_use().as_fd().as_raw_fd(), fd, "it is being removed: nothing changes");
    }

    #[test]
    fn the_path_of_a_directory_is_known_wherever_it_is_moved_until_it_is_gone() {
        let directory = private_directory();
        let ground = directory.path().canonicalize().unwrap();
        let (before, after) = (ground.join("before"), ground.join("after"));
        std::fs::create_dir(&before).unwrap();
        let opened = Directory::open(&before, &[own_uid()]).unwrap();
        assert_eq!(opened.real_path().as_ref(), Some(&before));
        std::fs::rename(&before, &after).unwrap();
        assert_eq!(opened.real_path().as_ref(), Some(&after));
        std::fs::remove_dir(&after).unwrap();
        assert_eq!(opened.real_path(), None);
        // What the kernel says of a directory that is gone can be the path of another one.
        std::fs::create_dir(ground.join("after (deleted)")).unwrap();
        assert_eq!(opened.real_path(), None);
    }

    #[test]
    fn a_file_of_ours_that_cannot_be_opened_gets_its_mode_and_another_one_does_not() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let path = |name: &str| directory.path().join(name);
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        for (name, mode) in [("useless", 0), ("shared", 0o044), ("foreign", 0o600)] {
            std::fs::write(path(name), "data").unwrap();
            set_mode(&path(name), mode);
        }
        mknodat(&opened, "pipe", FileType::Fifo, Mode::empty(), 0).unwrap();
        for name in [".", "useless", "shared", "pipe"] {
            chown(path(name), Some(plain_uid()), None).unwrap();
        }
        let is_root = own_uid() == 0;
        let make = |name: &str| opened.make_file(OsStr::new(name)).map(|(_, is_new)| is_new);
        as_plain_user(|| {
            assert!(!make("useless").unwrap());
            for name in ["shared", "pipe"] {
                let error = make(name).unwrap_err();
                assert!(error.to_string().contains("may not do so"), "{error}");
            }
            if is_root {
                let error = make("foreign").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PathInvalid);
                assert!(error.to_string().contains("belongs to user 0"), "{error}");
            }
        });
        assert_eq!(["useless", "shared", "pipe", "foreign"].map(|name| mode_of(&path(name))), [0o600, 0o044, 0, 0o600]);
    }

    #[test]
    fn what_the_kernel_refuses_in_a_directory_is_told_with_the_directory_and_the_cure() {
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        let place = shown(directory.path()).to_string();
        for (error, cure) in [
            (Errno::NOSPC, "(df -h, df -i)"),
            (Errno::DQUOT, "(quota)"),
            (Errno::ROFS, "use a directory on another one"),
            (Errno::ACCESS, "`chmod 700`"),
            (Errno::PERM, "`chmod 700`"),
        ] {
            let sentence = opened.failed("make a file", error).to_string();
            assert!(sentence.contains(&place) && sentence.contains(cure), "{sentence}");
        }
        let sentence = opened.failed("make a file", Errno::IO).to_string();
        assert!(!sentence.contains(&place), "nothing is known of it: {sentence}");
    }

    #[test]
    fn a_file_that_is_there_is_opened_to_be_written_and_is_told_by_its_path_otherwise() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        std::fs::write(directory.path().join("file"), "data").unwrap();
        let file = opened.open_for_writing(OsStr::new("file")).unwrap();
        assert!(is_closed_on_exec(&file) && is_opened_without_waiting(&file));
        rustix::io::pwrite(&file, b"D", 0).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("file")).unwrap(), "Data");
        symlink("file", directory.path().join("link")).unwrap();
        for name in ["link", "nothing"] {
            let sentence = opened.open_for_writing(OsStr::new(name)).unwrap_err().to_string();
            assert!(sentence.contains(&shown(&directory.path().join(name)).to_string()), "{sentence}");
        }
        assert!(!directory.path().join("nothing").exists());
    }

    #[test]
    fn a_file_is_opened_again_only_if_it_is_the_same() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let path = directory.path().join("file");
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        let (file, is_new) = opened.make_file(OsStr::new("file")).unwrap();
        assert!(is_new && is_closed_on_exec(&file) && is_opened_without_waiting(&file));
        let reopen = || opened.reopen(OsStr::new("file"), &file);
        let again = reopen().unwrap().expect("it is the same");
        assert!(is_closed_on_exec(&again));
        rustix::io::pwrite(&again, b"data", 0).unwrap();
        let stat = std::fs::metadata(&path).unwrap();
        assert_eq!(identity_of(&again).unwrap(), (stat.dev(), stat.ino()));
        assert_eq!(opened.identity(OsStr::new("file")).unwrap(), Some((stat.dev(), stat.ino())));
        let observed = PlainFile::open(&opened, OsStr::new("file")).unwrap().unwrap();
        assert_eq!(observed.identity().unwrap(), (stat.dev(), stat.ino()));
        std::fs::remove_file(&path).unwrap();
        assert!(reopen().unwrap().is_none(), "it is gone");
        assert_eq!(opened.identity(OsStr::new("file")).unwrap(), None);
        std::fs::write(&path, "").unwrap();
        assert!(reopen().unwrap().is_none(), "another one has the name");
        std::fs::remove_file(&path).unwrap();
        symlink("elsewhere", &path).unwrap();
        assert_eq!(reopen().unwrap_err().kind(), ErrorKind::Io, "a link is not followed");
    }

    #[test]
    fn what_stands_there_is_told() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        let look = |name: &str| opened.look(OsStr::new(name));
        assert_eq!(look("socket").unwrap(), Found::Nothing);
        let _listener = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        assert_eq!(look("socket").unwrap(), Found::Socket { uid: own_uid() });
        symlink("socket", directory.path().join("link")).unwrap();
        assert_eq!(look("link").unwrap(), Found::Other);
        assert_eq!(look(&"x".repeat(300)).unwrap_err().kind(), ErrorKind::Io);
        let mut names = opened.names();
        names.sort();
        assert_eq!(names, ["link", "socket"], "the directory itself and the one above are none");
        opened.set_mode(OsStr::new("socket"), 0o640).unwrap();
        let mode = std::fs::metadata(directory.path().join("socket")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(opened.set_mode(OsStr::new("gone"), 0o600).unwrap_err().kind(), ErrorKind::Io);
        opened.remove(OsStr::new("socket"));
        assert_eq!(look("socket").unwrap(), Found::Nothing);
        for _ in 0..2 {
            opened.try_remove(OsStr::new("link")).unwrap();
            assert_eq!(look("link").unwrap(), Found::Nothing);
        }
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        assert_eq!(opened.try_remove(OsStr::new("directory")).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn a_directory_that_was_moved_has_left() {
        let directory = private_directory();
        let (before, after) = (directory.path().join("before"), directory.path().join("after"));
        std::fs::create_dir(&before).unwrap();
        let opened = Directory::open(&before, &[own_uid()]).unwrap();
        assert!(!opened.has_left(&before) && opened.has_left(&after));
        std::fs::rename(&before, &after).unwrap();
        assert!(opened.has_left(&before) && !opened.has_left(&after));
    }

    #[test]
    fn an_observer_opens_a_file_and_nothing_else() {
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        let open = |name: &str| PlainFile::open(&opened, OsStr::new(name)).unwrap();
        std::fs::write(directory.path().join("file"), "data").unwrap();
        let file = open("file").expect("it is a file");
        assert_eq!(rustix::io::fcntl_getfd(&file).unwrap(), rustix::io::FdFlags::CLOEXEC);
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        symlink("file", directory.path().join("link")).unwrap();
        // To open a pipe that nobody writes to would wait.
        mknodat(&opened, "pipe", FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for name in ["directory", "link", "pipe", "nothing"] {
            assert!(open(name).is_none(), "{name}");
        }
    }

    #[test]
    fn an_address_is_that_of_the_directory_and_not_of_its_path() {
        let _guard = no_process_starts();
        let directory = private_directory();
        let opened = Directory::open(directory.path(), &[own_uid()]).unwrap();
        let by_descriptor = format!("/proc/self/fd/{}/name", opened.as_fd().as_raw_fd());
        assert_eq!(opened.address(OsStr::new("name")).unwrap(), SocketAddrUnix::new(by_descriptor).unwrap());
        let error = opened.address(OsStr::new(&"x".repeat(108))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathInvalid);
    }
}
