//! Where a client and a server find each other: a name becomes a socket in a directory that only its owner can write
//! to.
//!
//! Which directory that is, [`crate::session::runtime_directory`] says; what having a name means,
//! [`crate::service::name_claim`]. `NAME.sock` and `NAME.lock` are all that exists of a server in the file system, but
//! for `NAME.sock~` while one takes the name over from another, `NAME.keeper` and `NAME.keeper-lock` of a keeper, and
//! `NAME.semaphore` of a semaphore. The holder of the
//! lock may replace the socket; the kernel lets a lock go when its holder dies, however it dies, so a stale socket is
//! replaced by the next server and never has to be cleaned up by a person.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::escape::{escaped, shell_word};
use crate::form::{Form, Starting};
use crate::session::cleanup;
use crate::session::runtime_directory::{DirectoryChoice, Rule};
use crate::sys::directory::{Directory, Found};
use crate::sys::owner_lock::OwnerLock;

/// Longest name in bytes: with `.sock` behind it and a directory's descriptor before it, it fits into the 107 bytes
/// that the kernel allows a socket's path.
pub const NAME_MAX: usize = 80;

/// What stands behind a name in the socket of its keeper, and in that one's lock file.
pub const KEEPER_SOCKET: &str = ".keeper";
/// As above.
pub const KEEPER_LOCK: &str = ".keeper-lock";

/// What stands before the cure in the sentence about a server that is not there.
pub const CURE: &str = "; start one with ";

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    directory: PathBuf,
    /// The directory of names, which is ours to make, if it is a name and no path.
    choice: Option<DirectoryChoice>,
    socket: OsString,
    lock: OsString,
    /// What the user called it.
    name: OsString,
    /// What is looked for there: an error says how such a one is started.
    form: Form,
    /// Which it is of those who share a name (`session::members`); 0: none of them.
    pub(super) member: usize,
}

impl ServiceName {
    /// Finds the place of a name, or of a path that begins with `/`, `./` or `../`.
    pub fn find(name: &OsStr) -> Result<ServiceName> {
        let bytes = name.as_bytes();
        if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            return Err(invalid(name, format!("contains a NUL byte at position {at}")));
        }
        if ["/", "./", "../"].iter().any(|start| bytes.starts_with(start.as_bytes())) {
            return ServiceName::at_path(Path::new(name));
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
        let choice = DirectoryChoice::find();
        Ok(ServiceName {
            directory: choice.path.clone(),
            choice: Some(choice),
            socket: with(".sock"),
            lock: with(".lock"),
            name: name.to_owned(),
            form: Form::default(),
            member: 0,
        })
    }

    /// The place of a keeper of that name, beside whoever has the name itself.
    pub fn keeper_of(name: &OsStr) -> Result<ServiceName> {
        let place = ServiceName::find(name)?;
        let with = |ending| {
            let mut file = place.file("");
            file.push(ending);
            file
        };
        Ok(ServiceName { socket: with(KEEPER_SOCKET), lock: with(KEEPER_LOCK), ..place })
    }

    fn at_path(path: &Path) -> Result<ServiceName> {
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
        Ok(ServiceName { directory, choice: None, socket, lock, name, form: Form::default(), member: 0 })
    }

    /// Whether a path was given, and no name.
    pub fn is_path(&self) -> bool {
        self.choice.is_none()
    }

    /// The path of the socket.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.socket)
    }

    /// Server: that no server of this user's has the name in another place.
    pub fn check_elsewhere(&self) -> Result<()> {
        let others = self.choice.iter().flat_map(|choice| &choice.others);
        match others.map(|other| other.join(&self.socket)).find(|path| self.lives_at(path)) {
            Some(path) => Err(self.taken(&path)),
            None => Ok(()),
        }
    }

    /// Whether a server has the name in the directory of that socket.
    fn lives_at(&self, socket: &Path) -> bool {
        let own_uid = rustix::process::geteuid().as_raw();
        let directory = socket.parent().map(|directory| Directory::open(directory, &[own_uid]));
        directory.is_some_and(|opened| opened.is_ok_and(|it| OwnerLock::is_held(&it, &self.lock).unwrap_or(false)))
    }

    /// Client: the same name in the place where its server is, if that is another one of this user's.
    fn settled(&self) -> Option<ServiceName> {
        let choice = self.choice.as_ref().filter(|choice| !choice.others.is_empty())?;
        if self.lives_at(&self.path()) {
            return None;
        }
        let path = choice.others.iter().find(|other| self.lives_at(&other.join(&self.socket)))?;
        let rule = if path.starts_with("/run/user") { Rule::OfTheUser } else { Rule::Elsewhere };
        let choice = DirectoryChoice { path: path.clone(), rule, others: Vec::new() };
        Some(ServiceName { directory: path.clone(), choice: Some(choice), ..self.clone() })
    }

    /// Client: the address to connect to. `server_uid` is whose server is expected.
    pub fn address(&self, server_uid: u32) -> Result<(Directory, SocketAddrUnix)> {
        let own_uid = rustix::process::geteuid().as_raw();
        if let Some(place) = self.settled() {
            return place.address(server_uid);
        }
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

    /// What the user called it.
    pub fn called(&self) -> &OsStr {
        &self.name
    }

    /// Which it is of those who share a name; 0: none of them.
    pub fn member_number(&self) -> usize {
        self.member
    }

    /// What is looked for there.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Each directory in which it may be, once: first that in which a server makes it.
    pub fn places(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.directory_path()).chain(self.others())
    }

    /// Observer: the directory, which must be the user's own.
    pub fn directory(&self) -> Result<Directory> {
        let own_uid = rustix::process::geteuid().as_raw();
        self.open_directory(own_uid, &[own_uid], false)
    }

    /// Where its files are.
    pub fn directory_path(&self) -> &Path {
        &self.directory
    }

    /// Where else a server of this user's may have it.
    pub fn others(&self) -> impl Iterator<Item = &Path> {
        self.choice.iter().flat_map(|choice| &choice.others).map(PathBuf::as_path)
    }

    /// Client: whether nobody has it for certain, although its files are there: whoever takes it next makes the socket
    /// anew.
    pub fn is_left_over(&self, server_uid: u32) -> bool {
        let own_uid = rustix::process::geteuid().as_raw();
        let directory = self.open_directory(own_uid, &[own_uid, server_uid], false);
        directory.is_ok_and(|directory| OwnerLock::is_held(&directory, &self.lock).is_ok_and(|is_held| !is_held))
    }

    /// The lock file's name in the directory.
    pub fn lock(&self) -> &OsStr {
        &self.lock
    }

    /// The name of the socket of an heir, until it takes the name over.
    pub fn heirs_socket(&self) -> OsString {
        let mut name = self.socket.clone();
        name.push("~");
        name
    }

    /// The socket's name in the directory.
    pub fn socket(&self) -> &OsStr {
        &self.socket
    }

    /// The file of that kind behind a name, or the path itself.
    pub fn file(&self, ending: &str) -> OsString {
        if self.is_path() {
            return self.socket.clone();
        }
        let mut file = self.name.clone();
        file.push(ending);
        file
    }

    /// The directory, for files of this user's processes; the runtime directory is made, and swept, if need be. It is
    /// marked as in use for as long as it is kept.
    pub fn own_directory(&self) -> Result<Directory> {
        let own_uid = rustix::process::geteuid().as_raw();
        let directory = self.open_directory(own_uid, &[own_uid], true).map_err(|error| match error.kind() {
            ErrorKind::NotRunning => self.bad_path("lies in a directory that does not exist; create it first"),
            _ => error,
        })?;
        if !self.is_path() {
            cleanup::sweep(&directory);
        }
        Ok(directory.in_use())
    }

    fn open_directory(&self, own_uid: u32, owners: &[u32], create: bool) -> Result<Directory> {
        match &self.choice {
            Some(choice) => choice.open(own_uid, owners, create),
            None => Directory::open(&self.directory, owners),
        }
    }

    /// The same, where something of that form is looked for.
    pub fn of_form(self, form: Form) -> ServiceName {
        ServiceName { form, ..self }
    }

    /// The error for a server that is not there.
    pub fn not_running(&self, why: &str) -> Error {
        let name = escaped(&self.name);
        let Starting { type_name, command, flags } = self.form.starting();
        let tried = match shell_word(&self.name) {
            // Behind what ends the options there can be none.
            word if word.starts_with('-') => format!("wigwag {command}{flags} -- {word}"),
            word => format!("wigwag {command} {word}{flags}"),
        };
        let cure = format!("{type_name}::bind(\"{name}\"), or to try it: `{tried}`");
        let path = shown(&self.path());
        let sentence = match self.lives_elsewhere() {
            Some(other) => format!(
                "no server listens on `{name}` in this program's place for names ({path}: {why}), but one does in {}: \
                 this \
                 program's XDG_RUNTIME_DIR or WIGWAG_DIRECTORY leads elsewhere; unset them, or set WIGWAG_DIRECTORY={}",
                shown(&other),
                shell_word(&other)
            ),
            None => format!("no server listens on `{name}` ({path}: {why}){CURE}{cure}"),
        };
        Error::new(ErrorKind::NotRunning, sentence)
    }

    /// Where this user's programs with another environment have a server of that name.
    fn lives_elsewhere(&self) -> Option<PathBuf> {
        let places = self.choice.as_ref()?.elsewhere();
        places.into_iter().find(|place| self.lives_at(&place.join(&self.socket)))
    }

    /// The error for a path that is not ours to use.
    pub fn bad_path(&self, why: &str) -> Error {
        Error::new(ErrorKind::PathInvalid, format!("{} {why}", shown(&self.path())))
    }

    /// The error for a name that another server has, at that path.
    pub fn taken(&self, path: &Path) -> Error {
        Error::new(
            ErrorKind::NameTaken,
            format!(
                "another server has the name `{}` ({}): stop it, or take another name",
                escaped(&self.name),
                shown(path)
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

    /// As it is written.
    pub fn text(self) -> String {
        format!("{} {}\n", self.process, self.fd)
    }

    /// From a lock file's text; `None` for everything that is not exactly such a hint.
    pub fn parse(text: &[u8]) -> Option<Hint> {
        let (process, fd) = str::from_utf8(text).ok()?.strip_suffix('\n')?.split_once(' ')?;
        let hint = Hint { process: process.parse().ok()?, fd: fd.parse().ok()? };
        (hint.text().as_bytes() == text).then_some(hint)
    }
}

fn invalid(name: &OsStr, why: String) -> Error {
    let shown: String = escaped(name).chars().take(60).collect();
    let dots = if name.len() > 60 { "..." } else { "" };
    Error::new(ErrorKind::NameInvalid, format!("the name `{shown}{dots}` {why}"))
}

/// Opens the runtime directory as a server would, but makes nothing: `None` if a server would make it first.
pub fn open_runtime_directory(choice: &DirectoryChoice) -> Result<Option<Directory>> {
    let owners = [rustix::process::geteuid().as_raw()];
    choice.check(&owners, true)?;
    match Directory::open(&choice.path, &owners) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == ErrorKind::NotRunning => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Access;
    use std::os::unix::fs::PermissionsExt;

    fn kind_of(name: &[u8]) -> (ErrorKind, String) {
        let error = ServiceName::find(OsStr::from_bytes(name)).unwrap_err();
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
            ServiceName::find(OsStr::new(&good)).unwrap();
        }
        assert_eq!(kind_of(format!("{long}x").as_bytes()).0, ErrorKind::NameInvalid);
        assert_eq!(kind_of(format!("/{long}x").as_bytes()).0, ErrorKind::PathInvalid);
        assert_eq!(kind_of(b".").0, ErrorKind::NameInvalid);
        assert_eq!(kind_of(b"bell\x07").0, ErrorKind::NameInvalid);
        assert_eq!(ServiceName::find(OsStr::new("/a/b")).unwrap().path(), Path::new("/a/b"));
        assert!(ServiceName::find(OsStr::new("b")).unwrap().path().ends_with("b.sock"));
    }

    #[test]
    fn the_cure_for_a_server_that_is_not_there_can_be_typed() {
        for (name, cure) in [("here", "`wigwag serve here --do echo`"), ("-h", "`wigwag serve --do echo -- -h`")] {
            let sentence = ServiceName::find(OsStr::new(name)).unwrap().not_running("nothing is there").to_string();
            assert!(sentence.contains(cure), "{sentence}");
        }
        let of_a_queue = ServiceName::find(OsStr::new("here")).unwrap().of_form(Form::Queue);
        let sentence = of_a_queue.not_running("nothing is there").to_string();
        assert!(sentence.contains("Receiver::bind(\"here\")"), "what is looked for says what to start: {sentence}");
    }

    #[test]
    fn a_file_of_a_name_has_an_ending_and_a_path_is_the_file_itself() {
        let file = |name: &str| ServiceName::find(OsStr::new(name)).unwrap().file(".semaphore");
        assert_eq!(file("here"), "here.semaphore");
        assert_eq!(file("/tmp/here"), "here");
    }

    #[test]
    fn an_heir_has_a_socket_beside_that_of_the_name() {
        let of_heirs = |name: &str| ServiceName::find(OsStr::new(name)).unwrap().heirs_socket();
        assert_eq!(of_heirs("here"), "here.sock~");
        assert_eq!(of_heirs("/tmp/here"), "here~");
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_to_each_side_in_its_own_words() {
        let directory = private_directory();
        let place = ServiceName::find(directory.path().join("gone/here").as_os_str()).unwrap();
        let error = place.claim(&Access::default()).unwrap_err();
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
        let place = ServiceName::find(path.as_os_str()).unwrap();
        place.address(own_uid).unwrap();
        let error = place.address(own_uid + 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PathInvalid);
        assert!(error.to_string().contains(&format!("where user {} was expected", own_uid + 1)), "{error}");
        if own_uid != 0 {
            return; // only root can make another user's socket
        }
        std::os::unix::fs::chown(&path, Some(60_123), None).unwrap();
        let error = place.claim(&Access::default()).unwrap_err();
        assert!(error.to_string().contains("is a socket of user 60123"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn a_long_name_is_told_in_part() {
        let told = |len: usize| kind_of(&[&vec![b'x'; len - 1][..], b"/"].concat()).1;
        assert!(told(60).contains("x/` contains") && !told(60).contains("..."));
        assert!(told(61).contains("x...` contains"));
    }

    fn own_choice(path: PathBuf) -> DirectoryChoice {
        DirectoryChoice { path, rule: Rule::Temporary, others: Vec::new() }
    }

    /// A place in a directory that is ours to make.
    fn own_place(directory: PathBuf) -> ServiceName {
        let choice = Some(own_choice(directory.clone()));
        ServiceName { choice, directory, ..ServiceName::find(OsStr::new("here")).unwrap() }
    }

    #[test]
    fn an_observer_makes_no_directory_and_looks_into_none_that_is_not_safe() {
        let directory = private_directory();
        let choice = own_choice(directory.path().join("wigwag"));
        assert!(open_runtime_directory(&choice).unwrap().is_none());
        std::fs::create_dir(&choice.path).expect("nothing was made");
        std::fs::set_permissions(&choice.path, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(open_runtime_directory(&choice).unwrap().is_some());
        std::fs::set_permissions(&choice.path, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(open_runtime_directory(&choice).unwrap_err().kind(), ErrorKind::DirectoryUnsafe);
    }

    #[test]
    fn our_own_directory_is_made_and_swept_by_a_server_and_by_no_client() {
        let directory = private_directory();
        let own = directory.path().join("wigwag");
        let place = own_place(own.clone());
        let own_uid = rustix::process::geteuid().as_raw();
        assert_eq!(place.address(own_uid).unwrap_err().kind(), ErrorKind::NotRunning);
        assert!(!own.exists());
        drop(place.claim(&Access::default()).unwrap());
        assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(own.join("dead.lock"), "").unwrap();
        drop(place.claim(&Access::default()).unwrap());
        assert!(!own.join("dead.lock").exists(), "swept");
    }

    #[test]
    fn a_name_that_lives_in_another_place_of_this_user_is_taken() {
        let _guard = wigwag_testing::no_process_starts(); // a child would have the lock for a moment
        let (here, there) = (private_directory(), private_directory());
        let mut place = own_place(here.path().to_owned());
        place.choice.as_mut().expect("it is a name").others.push(there.path().to_owned());
        place.check_elsewhere().unwrap();
        let claim = own_place(there.path().to_owned()).claim(&Access::default()).unwrap();
        assert_eq!(place.check_elsewhere().unwrap_err().kind(), ErrorKind::NameTaken);
        drop(claim);
        place.check_elsewhere().unwrap();
    }

    #[test]
    fn a_client_goes_where_its_server_is_and_to_its_own_place_first() {
        let _guard = wigwag_testing::no_process_starts(); // a child would have the lock for a moment
        let own_uid = rustix::process::geteuid().as_raw();
        let (here, there) = (private_directory(), private_directory());
        let mut place = own_place(here.path().to_owned());
        place.choice.as_mut().expect("it is a name").others.push(there.path().to_owned());
        let led_to = || place.address(own_uid).map(|(directory, _)| directory.real_path().unwrap());
        let of = |directory: &tempfile::TempDir| directory.path().canonicalize().unwrap();
        let mut claim = own_place(there.path().to_owned()).claim(&Access::default()).unwrap();
        let _listener = claim.listen().unwrap();
        assert_eq!(led_to().unwrap(), of(&there));
        let sentence = place.address(own_uid + 1).unwrap_err().to_string();
        let socket = shown(&there.path().join("here.sock")).to_string();
        assert!(sentence.contains(&socket), "what is told is of the socket that was found: {sentence}");
        let mut own_claim = own_place(here.path().to_owned()).claim(&Access::default()).unwrap();
        let _own_listener = own_claim.listen().unwrap();
        assert_eq!(led_to().unwrap(), of(&here));
        drop((claim, own_claim));
        assert_eq!(led_to().unwrap_err().kind(), ErrorKind::NotRunning);
    }

    /// The environment decides, and it cannot be changed within a test: this one starts itself again.
    #[test]
    fn a_server_in_the_place_of_another_environment_is_told_of() {
        const GROUND: &str = "WIGWAG_TEST_PLACES";
        if let Some(ground) = std::env::var_os(GROUND).map(PathBuf::from) {
            let name = format!("test-{}", std::process::id());
            let place = ServiceName::find(OsStr::new(&name)).unwrap();
            let told = || place.not_running("nothing is there").to_string();
            assert!(told().contains("start one with"), "{}", told());
            let elsewhere = own_place(ground.join("stated/wigwag"));
            let lock = OsString::from(format!("{name}.lock"));
            let _claim = ServiceName { lock, ..elsewhere }.claim(&Access::default()).unwrap();
            let other = shown(&ground.join("stated/wigwag")).to_string();
            assert!(told().contains(&format!("but one does in {other}")), "{}", told());
            return;
        }
        let ground = private_directory();
        std::fs::create_dir(ground.path().join("stated")).unwrap();
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let test = "session::name::tests::a_server_in_the_place_of_another_environment_is_told_of";
        again.args(["--exact", test]).env(GROUND, ground.path());
        again.env("WIGWAG_DIRECTORY", ground.path().join("named")).env("XDG_RUNTIME_DIR", ground.path().join("stated"));
        let _guard = wigwag_testing::process_starts();
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }

    #[test]
    fn a_name_is_claimed_once_and_leaves_nothing_behind() {
        let directory = private_directory();
        let place = ServiceName::find(directory.path().join("here").as_os_str()).unwrap();
        let mut claim = place.claim(&Access::default()).unwrap();
        let _listener = claim.listen().unwrap();
        assert_eq!(place.claim(&Access::default()).unwrap_err().kind(), ErrorKind::NameTaken);
        drop(claim);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        place.claim(&Access::default()).unwrap();
    }

    #[test]
    fn what_a_killed_server_left_is_replaced() {
        let directory = private_directory();
        let path = directory.path().join("here");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        std::fs::write(directory.path().join("here.lock"), "").unwrap();
        let place = ServiceName::find(path.as_os_str()).unwrap();
        drop(place.claim(&Access::default()).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let directory = private_directory();
        let path = directory.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let place = ServiceName::find(path.as_os_str()).unwrap();
        assert_eq!(place.claim(&Access::default()).unwrap_err().kind(), ErrorKind::PathInvalid);
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(place.address(uid).unwrap_err().kind(), ErrorKind::PathInvalid);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn a_directory_others_may_write_to_is_refused() {
        let directory = private_directory();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let place = ServiceName::find(directory.path().join("here").as_os_str()).unwrap();
        let error = place.claim(&Access::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DirectoryUnsafe);
        assert!(error.to_string().contains("mode 777"), "{error}");
    }

    #[test]
    fn a_symbolic_link_is_not_a_directory_of_ours() {
        let directory = private_directory();
        let real = directory.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, directory.path().join("link")).unwrap();
        let place = ServiceName::find(directory.path().join("link/here").as_os_str()).unwrap();
        assert_eq!(place.claim(&Access::default()).unwrap_err().kind(), ErrorKind::DirectoryUnsafe);
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
        let place = ServiceName::find(long.join("here").as_os_str()).unwrap();
        place.claim(&Access::default()).unwrap();
    }
}
