//! Where a client and a server find each other: a name becomes a socket in a directory that only its owner can write to.
//!
//! | directory | when |
//! |---|---|
//! | `$XDG_RUNTIME_DIR/wigwag/` | the variable is set to an absolute path |
//! | `/run/user/UID/wigwag/` | it is there and belongs to the user |
//! | `TMPDIR/wigwag-UID/` | otherwise |
//!
//! `NAME.sock` and `NAME.lock` are all that ever exists of a server in the file system, and `NAME.semaphore` of a semaphore. Who holds the lock may replace the socket; the
//! kernel lets a lock go when its holder dies, however it dies, so a stale socket is replaced by the next server and never
//! has to be cleaned up by a person.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::leftovers;
use super::policy::Policy;
use crate::contract::Form;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::sys::directory::{Directory, Found, NameLock};
use crate::sys::fork::ForkGuard;
use crate::sys::{process, socket};

/// Longest name in bytes: with `.sock` behind it and a directory's descriptor before it, it fits into the 107 bytes that
/// the kernel allows a socket's path.
pub const NAME_MAX: usize = 80;

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    directory: PathBuf,
    /// Whether the directory is ours to make.
    own_directory: bool,
    socket: OsString,
    lock: OsString,
    /// What the user called it.
    name: OsString,
    /// What is looked for there: an error says how such a one is started.
    form: Form,
}

impl Place {
    /// Finds the place of a name, or of a path that begins with `/`, `./` or `../`.
    pub fn find(name: &OsStr) -> Result<Place> {
        let bytes = name.as_bytes();
        if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            return Err(invalid(name, format!("contains a NUL byte at position {at}")));
        }
        if ["/", "./", "../"].iter().any(|start| bytes.starts_with(start.as_bytes())) {
            return Place::at_path(Path::new(name));
        }
        if bytes.is_empty() {
            return Err(invalid(name, "is empty".into()));
        }
        if bytes.contains(&b'/') {
            return Err(invalid(name, "contains a slash; if a path is meant, begin it with / or ./".into()));
        }
        if bytes.iter().any(u8::is_ascii_control) {
            return Err(invalid(name, "contains a control character".into()));
        }
        if bytes.len() > NAME_MAX {
            return Err(invalid(name, format!("has {} bytes, and {NAME_MAX} are allowed", bytes.len())));
        }
        if bytes == b"." || bytes == b".." {
            return Err(invalid(name, "stands for a directory".into()));
        }
        let with = |ending: &str| {
            let mut file = name.to_owned();
            file.push(ending);
            file
        };
        Ok(Place {
            directory: runtime_directory().0,
            own_directory: true,
            socket: with(".sock"),
            lock: with(".lock"),
            name: name.to_owned(),
            form: Form::Exchange,
        })
    }

    fn at_path(path: &Path) -> Result<Place> {
        let bad = |why: &str| Error::new(ErrorKind::PathInvalid, format!("the path {} {why}", shown(path)));
        let socket = path.file_name().ok_or_else(|| bad("does not end in a file name"))?.to_owned();
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(bad("ends in a slash; it must name the socket itself"));
        }
        if socket.len() > NAME_MAX {
            return Err(bad(&format!("ends in a name of {} bytes, and {NAME_MAX} are allowed", socket.len())));
        }
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut lock = socket.clone();
        lock.push(".lock");
        let name = path.as_os_str().to_owned();
        Ok(Place { directory, own_directory: false, socket, lock, name, form: Form::Exchange })
    }

    /// The path of the socket.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.socket)
    }

    /// Server: takes the name. The socket is bound, has its mode, and does not listen yet.
    pub fn claim(&self, policy: &Policy) -> Result<Claim> {
        let own_uid = rustix::process::geteuid().as_raw();
        let directory = self.own_directory()?;
        let lock = self.take_lock(&directory)?;
        let socket = match self.bind(&directory, own_uid, policy) {
            Ok(socket) => socket,
            Err(error) => {
                directory.remove(&self.lock); // it is ours, and nobody's any more
                return Err(error);
            }
        };
        Ok(Claim { place: self.clone(), directory, socket: Some(socket), fork: ForkGuard::new(), lock })
    }

    /// Binds the socket; we hold the lock.
    fn bind(&self, directory: &Directory, own_uid: u32, policy: &Policy) -> Result<OwnedFd> {
        match directory.look(&self.socket)? {
            Found::Nothing => {}
            Found::Socket { uid } if uid == own_uid => self.remove_stale(directory)?,
            Found::Socket { uid } => {
                return Err(self.bad_path(&format!("is a socket of user {uid}; remove it or take another name")));
            }
            Found::Other => return Err(self.bad_path("is there and is not a socket; remove it or take another name")),
        }
        let socket = socket::new_socket()?;
        match socket::bind_to(&socket, &directory.address(&self.socket)?) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Err(self.taken()),
            Err(error) => return Err(Error::io(format_args!("bind a socket at {}", shown(&self.path())), error)),
        }
        // The directory lets nobody else in to race with this; the credentials of each client are checked besides.
        directory.set_mode(&self.socket, if policy.admits_strangers() { 0o666 } else { 0o600 })?;
        Ok(socket)
    }

    /// Takes the lock; somebody who sweeps may have it for a moment.
    fn take_lock(&self, directory: &Directory) -> Result<NameLock> {
        for _ in 0..SWEEPER_PATIENCE_MS {
            if let Some(lock) = NameLock::try_take(directory, &self.lock)? {
                return Ok(lock);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(self.taken())
    }

    /// We hold the lock, so no server of ours has the socket that is there. Another program may: only what nobody listens
    /// on is removed.
    fn remove_stale(&self, directory: &Directory) -> Result<()> {
        match socket::connect_to(&socket::new_socket()?, &directory.address(&self.socket)?) {
            Err(Errno::CONNREFUSED) => directory.remove(&self.socket),
            Err(Errno::NOENT) => {}
            Ok(()) | Err(Errno::AGAIN) => return Err(self.taken()), // of our kind, though its lock file is gone
            Err(_) => {
                return Err(
                    self.bad_path("is a socket that another program listens on; remove it or take another name")
                );
            }
        }
        Ok(())
    }

    /// Client: the address to connect to. `server_uid` is whose server is expected.
    pub fn address(&self, server_uid: u32) -> Result<(Directory, SocketAddrUnix)> {
        let own_uid = rustix::process::geteuid().as_raw();
        let directory =
            self.open_directory(own_uid, &[own_uid, server_uid], false).map_err(|error| match error.kind() {
                ErrorKind::NotRunning => self.not_running("nothing is there"),
                _ => error,
            })?;
        match directory.look(&self.socket)? {
            Found::Nothing => Err(self.not_running("nothing is there")),
            Found::Other => Err(self.bad_path("is not a socket")),
            Found::Socket { uid } if uid != server_uid => Err(self.bad_path(&format!(
                "is a socket of user {uid}, where user {server_uid} was expected (ClientBuilder::server_user)"
            ))),
            Found::Socket { .. } => {
                let address = directory.address(&self.socket)?;
                Ok((directory, address))
            }
        }
    }

    /// Observer: the directory, which must be the user's own.
    pub fn directory(&self) -> Result<Directory> {
        let own_uid = rustix::process::geteuid().as_raw();
        self.open_directory(own_uid, &[own_uid], false)
    }

    /// The lock file's name in the directory.
    pub fn lock(&self) -> &OsStr {
        &self.lock
    }

    /// The socket's name in the directory.
    pub fn socket(&self) -> &OsStr {
        &self.socket
    }

    /// The file of that kind behind a name, or the path itself.
    pub fn file(&self, ending: &str) -> OsString {
        if !self.own_directory {
            return self.socket.clone();
        }
        let mut file = self.name.clone();
        file.push(ending);
        file
    }

    /// The directory, for files of this user's processes; the runtime directory is made, and swept, if need be.
    pub fn own_directory(&self) -> Result<Directory> {
        let own_uid = rustix::process::geteuid().as_raw();
        let directory = self.open_directory(own_uid, &[own_uid], true).map_err(|error| match error.kind() {
            ErrorKind::NotRunning => self.bad_path("lies in a directory that does not exist; create it first"),
            _ => error,
        })?;
        if self.own_directory {
            leftovers::sweep(&directory);
        }
        Ok(directory)
    }

    fn open_directory(&self, own_uid: u32, owners: &[u32], create: bool) -> Result<Directory> {
        if !self.own_directory {
            return Directory::open(&self.directory, owners);
        }
        check_parent(&self.directory, owners, create)?;
        if create {
            Directory::open_or_create(&self.directory, own_uid)
        } else {
            Directory::open(&self.directory, owners)
        }
    }

    /// The same, where something of that form is looked for.
    pub fn of_form(self, form: Form) -> Place {
        Place { form, ..self }
    }

    /// The error for a server that is not there.
    pub fn not_running(&self, why: &str) -> Error {
        let name = self.name.to_string_lossy();
        let (name, quoted) = (name.escape_debug(), shell_quoted(&shown(Path::new(&self.name))));
        let cure = match self.form {
            Form::Stream => format!("StreamListener::bind(\"{name}\"), or to try it: `wigwag stream listen {quoted}`"),
            _ => format!("Server::bind(\"{name}\"), or to try it: `wigwag serve {quoted} --do echo`"),
        };
        let path = shown(&self.path());
        Error::new(
            ErrorKind::NotRunning,
            format!("no server listens on `{name}` ({path}: {why}); start one with {cure}"),
        )
    }

    /// The error for a path that is not ours to use.
    pub fn bad_path(&self, why: &str) -> Error {
        Error::new(ErrorKind::PathInvalid, format!("{} {why}", shown(&self.path())))
    }

    fn taken(&self) -> Error {
        let name = self.name.to_string_lossy();
        Error::new(
            ErrorKind::NameTaken,
            format!(
                "another server has the name `{}` ({}): stop it, or take another name",
                name.escape_debug(),
                shown(&self.path())
            ),
        )
    }
}

/// What stands in a lock file: where the holder's statistics are to be found, if it still is that process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Number of the process.
    pub process: u32,
    /// Its descriptor.
    pub fd: u32,
}

impl Hint {
    /// The longest text.
    pub const LEN_MAX: usize = 22;

    fn text(self) -> String {
        format!("{} {}\n", self.process, self.fd)
    }

    /// From a lock file's text; `None` for everything that is not exactly such a hint.
    pub fn parse(text: &[u8]) -> Option<Hint> {
        let (process, fd) = str::from_utf8(text).ok()?.strip_suffix('\n')?.split_once(' ')?;
        let hint = Hint { process: process.parse().ok()?, fd: fd.parse().ok()? };
        (hint.text().as_bytes() == text).then_some(hint)
    }
}

/// How long a name that seems taken is tried again.
const SWEEPER_PATIENCE_MS: u32 = 10;

/// A name as a shell takes it.
fn shell_quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/-@%+=:".contains(c);
    if name.chars().all(is_plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

fn invalid(name: &OsStr, why: String) -> Error {
    let shown: String = name.to_string_lossy().escape_debug().take(60).collect();
    let dots = if name.len() > 60 { "..." } else { "" };
    Error::new(ErrorKind::NameInvalid, format!("the name `{shown}{dots}` {why}"))
}

/// By which rule the runtime directory was found.
///
/// ```
/// # use wigwag::runtime::Rule;
/// fn is_shared_by_a_login(rule: Rule) -> bool {
///     matches!(rule, Rule::Stated | Rule::OfTheUser)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `XDG_RUNTIME_DIR` is set to an absolute path.
    Stated,
    /// `/run/user/UID` is there and belongs to the user.
    OfTheUser,
    /// Neither: under the temporary directory.
    Temporary,
}

/// The directory of names, and the rule that it was found by.
pub fn runtime_directory() -> (PathBuf, Rule) {
    if let Some(base) = xdg_runtime_directory() {
        return (base.join("wigwag"), Rule::Stated);
    }
    let uid = rustix::process::geteuid().as_raw();
    let base = PathBuf::from(format!("/run/user/{uid}"));
    if Directory::open(&base, &[uid]).is_ok() {
        return (base.join("wigwag"), Rule::OfTheUser);
    }
    (std::env::temp_dir().join(format!("wigwag-{uid}")), Rule::Temporary)
}

fn xdg_runtime_directory() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|base| base.is_absolute())
}

/// Opens the runtime directory as a server would, but makes nothing: `None` if a server would make it first.
pub fn open_runtime_directory(path: &Path) -> Result<Option<Directory>> {
    let owners = [rustix::process::geteuid().as_raw()];
    check_parent(path, &owners, true)?;
    match Directory::open(path, &owners) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == ErrorKind::NotRunning => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where ours lies in a runtime directory, that one must be private too, or ours could be swapped for another's. `create`:
/// it must be there.
fn check_parent(directory: &Path, owners: &[u32], create: bool) -> Result<()> {
    let Some(parent) = directory.parent().filter(|parent| is_runtime_directory(parent)) else { return Ok(()) };
    match Directory::open(parent, owners) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotRunning && create => Err(Error::new(
            ErrorKind::DirectoryUnsafe,
            format!("the runtime directory {} does not exist: create it, or unset XDG_RUNTIME_DIR", shown(parent)),
        )),
        Err(error) => Err(error),
    }
}

/// Whether `parent` is a runtime directory, as opposed to the temporary one, which everybody may write to.
fn is_runtime_directory(parent: &Path) -> bool {
    parent.starts_with("/run/user") || xdg_runtime_directory().is_some_and(|base| base == parent)
}

/// A name taken by this process. Dropping it gives the name back and removes its files.
#[derive(Debug)]
pub struct Claim {
    place: Place,
    directory: Directory,
    socket: Option<OwnedFd>,
    fork: ForkGuard,
    lock: NameLock,
}

impl Claim {
    /// Where the name leads.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Device and inode of the lock file: whoever has them and this lock is the same server.
    pub fn lock_identity(&self) -> Result<(u64, u64)> {
        self.lock.identity()
    }

    /// Writes into the lock file where observers may look: a descriptor of this process. Only a hint, which they check.
    pub fn announce(&self, memory: impl AsFd) -> Result<()> {
        match process::own_number() {
            Some(number) => self.lock.write(&Hint { process: number, fd: memory.as_fd().as_raw_fd() as u32 }.text()),
            None => Ok(()), // without `/proc` nobody could look either
        }
    }

    /// Starts to listen, once.
    pub fn listen(&mut self) -> Result<OwnedFd> {
        let socket = self.socket.take().expect("a claim listens once");
        socket::start_listening(&socket)?;
        Ok(socket)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.fork.is_forked() {
            return; // the name is still the parent's
        }
        // The socket first: whoever finds the lock file gone must not find our socket.
        self.directory.remove(&self.place.socket);
        self.directory.remove(&self.place.lock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn kind_of(name: &[u8]) -> (ErrorKind, String) {
        let error = Place::find(OsStr::from_bytes(name)).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn bad_names_are_told_what_is_wrong_with_them() {
        for (name, text) in [
            (&b""[..], "is empty"),
            (b"a/b", "contains a slash"),
            (b"a\0b", "NUL byte at position 1"),
            (b"..", "stands for a directory"),
            (&[b'x'; 200], "has 200 bytes, and 80 are allowed"),
        ] {
            let (kind, sentence) = kind_of(name);
            assert_eq!(kind, ErrorKind::NameInvalid);
            assert!(sentence.contains(text), "{sentence}");
        }
        for path in [&b"/"[..], b"./", b"/tmp/x/", b"/tmp/.."] {
            assert_eq!(kind_of(path).0, ErrorKind::PathInvalid);
        }
    }

    #[test]
    fn a_hint_is_exactly_what_was_written() {
        for hint in [Hint { process: 1, fd: 0 }, Hint { process: u32::MAX, fd: u32::MAX }] {
            assert!(hint.text().len() <= Hint::LEN_MAX);
            assert_eq!(Hint::parse(hint.text().as_bytes()), Some(hint));
        }
        let bad: [&[u8]; 9] =
            [b"", b"1", b"1 2", b"01 2\n", b"+1 2\n", b"1  2\n", b"1 -2\n", b"4294967296 1\n", b"\xff 1\n"];
        for text in bad {
            assert_eq!(Hint::parse(text), None, "{text:?}");
        }
    }

    fn private_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    #[test]
    fn the_longest_name_is_allowed_and_none_longer() {
        let long = "x".repeat(NAME_MAX);
        for good in [long.clone(), format!("/{long}"), "a".into(), "...".into()] {
            Place::find(OsStr::new(&good)).unwrap();
        }
        assert_eq!(kind_of(format!("{long}x").as_bytes()).0, ErrorKind::NameInvalid);
        assert_eq!(kind_of(format!("/{long}x").as_bytes()).0, ErrorKind::PathInvalid);
        assert_eq!(kind_of(b".").0, ErrorKind::NameInvalid);
        assert_eq!(kind_of(b"bell\x07").0, ErrorKind::NameInvalid);
        assert_eq!(Place::find(OsStr::new("/a/b")).unwrap().path(), Path::new("/a/b"));
        assert!(Place::find(OsStr::new("b")).unwrap().path().ends_with("b.sock"));
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_to_each_side_in_its_own_words() {
        let directory = private_directory();
        let place = Place::find(directory.path().join("gone/here").as_os_str()).unwrap();
        let error = place.claim(&Policy::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathInvalid, "{error}");
        assert!(error.to_string().contains("create it first"), "{error}");
        let error = place.address(rustix::process::geteuid().as_raw()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        assert!(error.to_string().contains("no server listens on"), "{error}");
    }

    #[test]
    fn a_socket_of_another_user_is_neither_replaced_nor_connected_to() {
        let own_uid = rustix::process::geteuid().as_raw();
        let directory = private_directory();
        let path = directory.path().join("here");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let place = Place::find(path.as_os_str()).unwrap();
        place.address(own_uid).unwrap();
        let error = place.address(own_uid + 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathInvalid);
        assert!(error.to_string().contains(&format!("where user {} was expected", own_uid + 1)), "{error}");
        if own_uid != 0 {
            return; // only root can make another user's socket
        }
        std::os::unix::fs::chown(&path, Some(60_123), None).unwrap();
        let error = place.claim(&Policy::default()).unwrap_err();
        assert!(error.to_string().contains("is a socket of user 60123"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn a_long_name_is_told_in_part() {
        let told = |len: usize| kind_of(&[&vec![b'x'; len - 1][..], b"/"].concat()).1;
        assert!(told(60).contains("x/` contains") && !told(60).contains("..."));
        assert!(told(61).contains("x...` contains"));
    }

    /// The environment decides, and it cannot be changed within a test: this one starts itself again.
    #[test]
    fn names_lie_in_the_runtime_directory_or_in_the_temporary_one() {
        const EXPECTED: &str = "WIGWAG_TEST_EXPECTED_DIRECTORY";
        if let Some(expected) = std::env::var_os(EXPECTED) {
            let expected = PathBuf::from(expected);
            assert_eq!(Place::find(OsStr::new("n")).unwrap().path(), expected.join("n.sock"));
            let is_stated = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|base| base == "/stated");
            assert_eq!(
                is_runtime_directory(expected.parent().unwrap()),
                is_stated || expected.starts_with("/run/user")
            );
            assert!(!is_runtime_directory(Path::new("/elsewhere")));
            return;
        }
        let uid = rustix::process::geteuid().as_raw();
        let run = PathBuf::from(format!("/run/user/{uid}"));
        let otherwise = match Directory::open(&run, &[uid]) {
            Ok(_) => run.join("wigwag"),
            Err(_) => PathBuf::from(format!("/temporary/wigwag-{uid}")),
        };
        for (stated, expected) in
            [(Some("/stated"), "/stated/wigwag".into()), (Some("relative"), otherwise.clone()), (None, otherwise)]
        {
            let mut again = std::process::Command::new(std::env::current_exe().unwrap());
            let name = "control::rendezvous::tests::names_lie_in_the_runtime_directory_or_in_the_temporary_one";
            again.args(["--exact", name]).env(EXPECTED, &expected).env("TMPDIR", "/temporary");
            again.env_remove("XDG_RUNTIME_DIR").envs(stated.map(|base| ("XDG_RUNTIME_DIR", base)));
            let output = again.output().unwrap();
            assert!(output.status.success(), "{stated:?}: {}", String::from_utf8_lossy(&output.stdout));
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        }
    }

    /// A place in a directory that is ours to make.
    fn own_place(directory: PathBuf) -> Place {
        Place { own_directory: true, directory, ..Place::find(OsStr::new("here")).unwrap() }
    }

    #[test]
    fn our_own_directory_is_made_and_swept_by_a_server_and_by_no_client() {
        let directory = private_directory();
        let own = directory.path().join("wigwag");
        let place = own_place(own.clone());
        let own_uid = rustix::process::geteuid().as_raw();
        assert_eq!(place.address(own_uid).unwrap_err().kind(), ErrorKind::NotRunning);
        assert!(!own.exists());
        drop(place.claim(&Policy::default()).unwrap());
        assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(own.join("dead.lock"), "").unwrap();
        drop(place.claim(&Policy::default()).unwrap());
        assert!(!own.join("dead.lock").exists(), "swept");
    }

    #[test]
    fn a_runtime_directory_that_is_not_there_is_not_made() {
        let place = own_place("/run/user/4294967294/wigwag".into());
        let error = place.claim(&Policy::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DirectoryUnsafe, "{error}");
        assert!(error.to_string().contains("the runtime directory /run/user/4294967294 does not exist"), "{error}");
        assert_eq!(place.address(0).unwrap_err().kind(), ErrorKind::NotRunning);
        assert!(is_runtime_directory(Path::new("/run/user/7")) && !is_runtime_directory(Path::new("/tmp")));
    }

    #[test]
    fn a_name_is_claimed_once_and_leaves_nothing_behind() {
        let directory = private_directory();
        let place = Place::find(directory.path().join("here").as_os_str()).unwrap();
        let mut claim = place.claim(&Policy::default()).unwrap();
        let _listener = claim.listen().unwrap();
        assert_eq!(place.claim(&Policy::default()).unwrap_err().kind(), ErrorKind::NameTaken);
        drop(claim);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        place.claim(&Policy::default()).unwrap();
    }

    #[test]
    fn what_a_killed_server_left_is_replaced() {
        let directory = private_directory();
        let path = directory.path().join("here");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        std::fs::write(directory.path().join("here.lock"), "").unwrap();
        let place = Place::find(path.as_os_str()).unwrap();
        drop(place.claim(&Policy::default()).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_are_quoted_for_the_shell_where_they_must_be() {
        assert_eq!(shell_quoted("camera-1"), "camera-1");
        assert_eq!(shell_quoted("a b"), "'a b'");
        assert_eq!(shell_quoted("it's"), "'it'\\''s'");
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let directory = private_directory();
        let path = directory.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let place = Place::find(path.as_os_str()).unwrap();
        assert_eq!(place.claim(&Policy::default()).unwrap_err().kind(), ErrorKind::PathInvalid);
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(place.address(uid).unwrap_err().kind(), ErrorKind::PathInvalid);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn a_directory_others_may_write_to_is_refused() {
        let directory = private_directory();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let place = Place::find(directory.path().join("here").as_os_str()).unwrap();
        let error = place.claim(&Policy::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DirectoryUnsafe);
        assert!(error.to_string().contains("mode 777"), "{error}");
    }

    #[test]
    fn a_symbolic_link_is_not_a_directory_of_ours() {
        let directory = private_directory();
        let real = directory.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, directory.path().join("link")).unwrap();
        let place = Place::find(directory.path().join("link/here").as_os_str()).unwrap();
        assert_eq!(place.claim(&Policy::default()).unwrap_err().kind(), ErrorKind::DirectoryUnsafe);
    }

    #[test]
    fn a_directory_with_a_very_long_path_works() {
        let directory = private_directory();
        let mut long = directory.path().to_owned();
        for _ in 0..3 {
            long.push("d".repeat(60));
            std::fs::create_dir(&long).unwrap();
            std::fs::set_permissions(&long, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let place = Place::find(long.join("here").as_os_str()).unwrap();
        place.claim(&Policy::default()).unwrap();
    }
}
