//! What stands in the runtime directory: whose names live, what killed processes left, and its removal.
//!
//! A name is proven dead by its lock: the kernel lets a lock go when its holder ends, however it ends, so a lock that
//! can be taken has no holder. Besides, nobody may listen on the socket, because a lock file can be removed while its
//! server lives. A semaphore's file is proven dead by the lives in it (see [`crate::permits::file`]).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::error::ErrorKind;
use crate::permits::file::{self, Need};
use crate::session::name::{KEEPER_LOCK, KEEPER_SOCKET};
use crate::sys::directory::{Directory, Found};
use crate::sys::owner_lock::OwnerLock;
use crate::sys::socket::{self, Listener};

/// What kind of thing has a name in the runtime directory.
///
/// ```
/// # use wigwag::runtime::Kind;
/// assert_ne!(Kind::Service, Kind::Semaphore);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A server or a listener: `NAME.sock` and `NAME.lock`.
    Service,
    /// A semaphore: `NAME.semaphore`.
    Semaphore,
    /// A keeper of messages: `NAME.keeper` and `NAME.keeper-lock`.
    Keeper,
}

/// The state of the process that made a name.
///
/// ```
/// # use wigwag::runtime::State;
/// fn may_be_removed(state: State) -> bool {
///     matches!(state, State::Dead)
/// }
/// # assert!(may_be_removed(State::Dead) && !may_be_removed(State::Owed { permits: 1 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It lives: its lock is held. (It may be stopped or hang all the same.)
    Alive,
    /// It lives, and nobody can reach it: its lock is held, and somebody removed its socket. Also for an instant while
    /// it starts or ends.
    Unreachable,
    /// Somebody listens on the socket, and nobody holds its lock: a lock file was removed while its server lives, or
    /// the listener is no server of ours.
    Unguarded,
    /// Its process is gone, and so is everything but the name. The next server removes it.
    Dead,
    /// No process has the semaphore open, and its last holders died: the next one that acquires is told, and until then
    /// the file stays.
    Owed {
        /// How many permits the dead held.
        permits: u32,
    },
    /// What stands there is of another kind, or of another user: it is left alone, and the name cannot be used.
    Foreign,
}

/// A name in the runtime directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundName {
    pub name: OsString,
    pub kind: Kind,
    pub state: State,
}

/// Names looked at in one sweep.
const SWEEP_MAX: usize = 256;

const SEMAPHORE: &str = ".semaphore";

/// The names in a directory, sorted, and what became of them. Nothing is made, changed or removed.
pub fn look(directory: &Directory) -> Vec<FoundName> {
    look_at(directory, usize::MAX)
}

/// Removes what killed processes left in our own runtime directory. Whatever goes wrong here, the next server tries
/// again.
pub fn sweep(directory: &Directory) {
    for entry in look_at(directory, SWEEP_MAX) {
        remove(directory, &entry);
    }
    remove_sockets_of_heirs(directory);
}

/// Removes the sockets of servers that were killed while they took a name over. One that lives has a byte of the lock.
fn remove_sockets_of_heirs(directory: &Directory) {
    let files = directory.names();
    for (file, name) in files.iter().filter_map(|file| Some((file, stem(file, ".sock~")?))).take(SWEEP_MAX) {
        let lock = self::file(&name, ".lock");
        let is_held = match OwnerLock::is_held(directory, &lock) {
            Err(error) => error.kind() != ErrorKind::NotRunning,
            Ok(is_held) => is_held,
        };
        let is_own = matches!(directory.look(file), Ok(Found::Socket { uid }) if uid == own_uid());
        if !is_held && is_own && nobody_listens(directory, file) {
            directory.remove(file);
        }
    }
}

/// Removes a dead name, if under its lock it still is dead. Whether it did.
pub fn remove(directory: &Directory, entry: &FoundName) -> bool {
    match (entry.state, entry.kind) {
        (State::Dead, Kind::Semaphore) => file::remove_stale(directory, &file(&entry.name, SEMAPHORE)),
        (State::Dead, kind) => remove_service(directory, &entry.name, endings(kind)),
        _ => false,
    }
}

fn look_at(directory: &Directory, most: usize) -> Vec<FoundName> {
    let files = directory.names();
    let stems = |ending: &'static str| files.iter().filter_map(move |file| stem(file, ending)).take(most);
    let semaphores: BTreeSet<OsString> = stems(SEMAPHORE).collect();
    let services = |kind| {
        let (socket, lock) = endings(kind);
        let names: BTreeSet<OsString> = stems(socket).chain(stems(lock)).collect();
        names.into_iter().map(move |name| (kind, service(directory, &name, (socket, lock)), name))
    };
    let semaphores = semaphores.into_iter().map(|name| (Kind::Semaphore, semaphore(directory, &name), name));
    let there = services(Kind::Service).chain(semaphores).chain(services(Kind::Keeper));
    there.filter_map(|(kind, state, name)| Some(FoundName { name, kind, state: state? })).collect()
}

/// What stands behind the name in the socket and in the lock file of what has both.
fn endings(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Service | Kind::Semaphore => (".sock", ".lock"),
        Kind::Keeper => (KEEPER_SOCKET, KEEPER_LOCK),
    }
}

/// `None` if it is gone by now.
fn service(directory: &Directory, name: &OsStr, endings: (&str, &str)) -> Option<State> {
    let (socket, lock) = (file(name, endings.0), file(name, endings.1));
    let is_held = || OwnerLock::is_held(directory, &lock);
    let found = directory.look(&socket).ok()?;
    match (is_held(), found) {
        (Ok(true), Found::Nothing) => Some(State::Unreachable),
        (Ok(true), _) => Some(State::Alive),
        (Err(error), Found::Nothing) if error.kind() == ErrorKind::NotRunning => None,
        (Err(error), _) if error.kind() != ErrorKind::NotRunning => Some(State::Foreign),
        (_, Found::Nothing) => Some(State::Dead),
        (_, Found::Socket { uid }) if uid == own_uid() => {
            let is_dead = nobody_listens(directory, &socket);
            // Looking locks nothing: somebody may have taken the name meanwhile.
            match (is_held(), is_dead) {
                (Ok(true), _) => Some(State::Alive),
                (_, true) => Some(State::Dead),
                (_, false) => Some(State::Unguarded),
            }
        }
        _ => Some(State::Foreign),
    }
}

fn semaphore(directory: &Directory, name: &OsStr) -> Option<State> {
    match file::look(directory, &file(name, SEMAPHORE)) {
        Ok(Need::Open) => Some(State::Alive),
        Ok(Need::Owed(permits)) => Some(State::Owed { permits }),
        Ok(Need::Nobody) => Some(State::Dead),
        Err(error) if error.kind() == ErrorKind::NotRunning => None,
        Err(_) => Some(State::Foreign),
    }
}

fn remove_service(directory: &Directory, name: &OsStr, endings: (&str, &str)) -> bool {
    let (socket, lock) = (file(name, endings.0), file(name, endings.1));
    let is_dead = || match directory.look(&socket) {
        Ok(Found::Nothing) => true,
        Ok(Found::Socket { uid }) => uid == own_uid() && nobody_listens(directory, &socket),
        _ => false,
    };
    if !is_dead() {
        return false; // before the lock, whose taking would make its file
    }
    let Ok(Some(_held)) = OwnerLock::try_take(directory, &lock) else { return false };
    if !is_dead() {
        return false;
    }
    // The socket first: a process that finds the lock file gone must not find the socket.
    directory.remove(&socket);
    directory.remove(&lock);
    true
}

fn nobody_listens(directory: &Directory, name: &OsStr) -> bool {
    // A socket that a child holds open of a server that is gone will never be answered.
    let asked = directory.address(name).and_then(|address| socket::who_listens(&address));
    matches!(asked, Ok(Listener::Nobody | Listener::Gone))
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn file(name: &OsStr, ending: &str) -> OsString {
    OsString::from_vec([name.as_bytes(), ending.as_bytes()].concat())
}

fn stem(file: &OsStr, ending: &str) -> Option<OsString> {
    let stem = file.as_bytes().strip_suffix(ending.as_bytes())?;
    Some(OsStr::from_bytes(stem).to_owned())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use wigwag_testing::no_process_starts;

    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn ground() -> (tempfile::TempDir, Directory) {
        let ground = tempfile::tempdir().unwrap();
        std::fs::set_permissions(ground.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let opened = Directory::open(ground.path(), &[own_uid()]).unwrap();
        (ground, opened)
    }

    fn left(ground: &tempfile::TempDir) -> Vec<OsString> {
        let mut left: Vec<_> = std::fs::read_dir(ground.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        left
    }

    #[test]
    fn a_socket_of_an_heir_goes_once_nobody_takes_the_name_over() {
        let _guard = no_process_starts();
        let (ground, directory) = ground();
        for name in ["lone.sock~", "left.sock~", "heir.sock~", "listening.sock~"] {
            let listener = UnixListener::bind(ground.path().join(name)).unwrap();
            if name.starts_with("listening") {
                std::mem::forget(listener);
            }
        }
        std::fs::write(ground.path().join("left.lock"), "").unwrap();
        std::fs::write(ground.path().join("other.sock~"), "no socket").unwrap();
        let held = OwnerLock::try_take(&directory, OsStr::new("heir.lock")).unwrap().unwrap();
        sweep(&directory);
        let stays = ["heir.lock", "heir.sock~", "listening.sock~", "other.sock~"];
        assert_eq!(left(&ground), stays.map(OsString::from));
        drop(held);
        sweep(&directory);
        assert_eq!(left(&ground), ["listening.sock~", "other.sock~"].map(OsString::from));
    }

    #[test]
    fn names_are_told_apart_by_their_locks_and_only_the_dead_are_removed() {
        let _guard = no_process_starts();
        let (ground, directory) = ground();
        let path = |name: &str| ground.path().join(name);
        // Dead: a socket nobody listens on, with a lock that nobody holds, and without one; a lock alone; an empty
        // semaphore.
        for socket in ["dead.sock", "orphan.sock"] {
            drop(UnixListener::bind(path(socket)).unwrap());
        }
        for lock in ["dead.lock", "alone.lock", "left.semaphore"] {
            std::fs::write(path(lock), "").unwrap();
        }
        // Alive, one without its socket. Unguarded: a listener whose lock is free, and one without. Not ours: files, a
        // link.
        let _alive = OwnerLock::try_take(&directory, OsStr::new("alive.lock")).unwrap().unwrap();
        let _listener = UnixListener::bind(path("alive.sock")).unwrap();
        let _hidden = OwnerLock::try_take(&directory, OsStr::new("hidden.lock")).unwrap().unwrap();
        let _unguarded = ["free.sock", "bare.sock"].map(|name| UnixListener::bind(path(name)).unwrap());
        std::fs::write(path("free.lock"), "").unwrap();
        std::fs::write(path("notes.txt"), "").unwrap();
        std::fs::write(path("file.sock"), "").unwrap();
        std::fs::write(path("other.semaphore"), "another program's").unwrap();
        std::os::unix::fs::symlink("notes.txt", path("link.lock")).unwrap();
        let before = left(&ground);
        let found = look(&directory);
        let service = |name: &str, state| FoundName { name: name.into(), kind: Kind::Service, state };
        let semaphore = |name: &str, state| FoundName { name: name.into(), kind: Kind::Semaphore, state };
        let expected = [
            service("alive", State::Alive),
            service("alone", State::Dead),
            service("bare", State::Unguarded),
            service("dead", State::Dead),
            service("file", State::Foreign),
            service("free", State::Unguarded),
            service("hidden", State::Unreachable),
            service("link", State::Foreign),
            service("orphan", State::Dead),
            semaphore("left", State::Dead),
            semaphore("other", State::Foreign),
        ];
        assert_eq!(found, expected);
        assert_eq!(left(&ground), before, "looking changes nothing");
        // Whatever an entry says: what lives by now is spared.
        for lives in ["alive", "hidden", "free", "file"] {
            assert!(!remove(&directory, &service(lives, State::Dead)), "{lives}");
        }
        assert_eq!(left(&ground), before);
        sweep(&directory);
        let spared = [
            "alive.lock",
            "alive.sock",
            "bare.sock",
            "file.sock",
            "free.lock",
            "free.sock",
            "hidden.lock",
            "link.lock",
            "notes.txt",
            "other.semaphore",
        ];
        assert_eq!(left(&ground), spared);
    }

    #[test]
    fn a_semaphore_is_alive_while_it_is_open_and_owes_what_the_dead_held() {
        let _guard = no_process_starts();
        let (ground, directory) = ground();
        let open = crate::Semaphore::builder().permits(2).open(ground.path().join("s.semaphore")).unwrap();
        let state = || look(&directory).into_iter().map(|entry| entry.state).next();
        assert_eq!(state(), Some(State::Alive));
        let permit = open.acquire().unwrap();
        let file = ground.path().join("s.semaphore");
        let as_killed = std::fs::read(&file).unwrap();
        drop(permit);
        drop(open);
        assert_eq!(state(), None, "the last one removed it");
        std::fs::write(&file, as_killed).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(state(), Some(State::Owed { permits: 1 }));
        sweep(&directory);
        assert!(file.exists(), "it has still to tell");
    }
}
