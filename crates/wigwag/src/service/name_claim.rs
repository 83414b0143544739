//! A name that this process has: the lock, the socket, and what is done when either is taken away.
//!
//! Others remove files: programs that clean up what is old, a log-out, a person. The server's control thread is told by
//! the kernel (see [`crate::sys::inotify`]), looks, and takes the name again, under the lock as the first time. If
//! another server has it by then, that is told, and there are never two in silence.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::faults::{self, Fault};
use crate::options::{Access, InheritedListener};
use crate::session::name::{Hint, ServiceName};
use crate::session::protocol::FromClient;
use crate::sys::directory::{self, Directory, Found, Identity};
use crate::sys::fork::ForkGuard;
use crate::sys::inotify::NameWatch;
use crate::sys::owner_lock::{HeirLock, OwnerLock};
use crate::sys::process;
use crate::sys::socket::{self, Listener};
use crate::trace;

/// A name taken by this process. Dropping it gives the name back and removes its files.
#[derive(Debug)]
pub struct NameClaim {
    place: ServiceName,
    directory: Directory,
    /// The absolute path of the directory, if it could be learned.
    home: Option<PathBuf>,
    socket: Option<OwnedFd>,
    /// Which file the socket is.
    bound: Identity,
    mode: u32,
    /// The user who took the name: a process that cannot act as that user any more cannot remove it either.
    user: u32,
    /// `None`: the directory lets this user have none, and the socket is somebody else's, so that it goes without.
    lock: Option<OwnerLock>,
    watch: Option<NameWatch>,
    /// Whether the socket is somebody else's, and so is neither made again nor removed.
    is_inherited: bool,
    is_given_back: bool,
    /// The server that had the name, until this one is sure to have it.
    predecessor: Option<Predecessor>,
    /// In a takeover by another server: the lock file whose lock was let go.
    released: Option<Identity>,
    fork: ForkGuard,
}

/// The server from which a name was taken over: it has the name back if its heir's lock goes before this does.
#[derive(Debug)]
pub struct Predecessor {
    /// Where it hears that this server serves, or that it will not.
    pub connection: OwnedFd,
    /// Keeps others from taking the name over meanwhile.
    pub heir: HeirLock,
    /// What the socket is called until it gets the name.
    pub temporary: OsString,
    /// Its mode.
    pub mode: u32,
    /// What will watch the name; made before the socket: see [`crate::sys::inotify`].
    pub watch: rustix::io::Result<NameWatch>,
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        socket::hang_up(&self.connection); // a forked child may hold it, too
    }
}

/// What became of a name.
#[derive(Debug)]
pub enum Aftermath {
    /// Nothing.
    Kept,
    /// It was gone, and has been taken again.
    TakenAgain {
        /// Listen to this from now on, if it is another socket.
        listener: Option<OwnedFd>,
    },
}

/// How long a name that seems taken is tried again: an observer that looks for dead servers holds the lock for an
/// instant.
const TIMEOUT_MS: u32 = 10;

impl ServiceName {
    /// Server: takes the name. The socket is bound, has its mode, and does not listen yet.
    pub fn claim(&self, access: &Access) -> Result<NameClaim> {
        NameClaim::take(self, access)
    }

    /// Server: takes the name for a socket that listens at it already.
    pub fn claim_for(&self, listener: &InheritedListener) -> Result<NameClaim> {
        NameClaim::inherit(self, listener)
    }
}

impl NameClaim {
    fn take(place: &ServiceName, access: &Access) -> Result<NameClaim> {
        let directory = place.own_directory()?;
        let lock = take_lock(place, &directory)?;
        let mode = mode_for(access);
        let watch = NameWatch::new(); // before the socket: see there
        let bound = place.check_elsewhere().and_then(|()| bind(place, &directory, &lock, mode));
        let (socket, bound) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                if !lock.is_from_before() {
                    directory.remove(place.lock()); // it is ours, and nobody's any more
                }
                return Err(error);
            }
        };
        let watch = begin(watch, place, &directory);
        let mut claim = NameClaim::of(place, directory, socket, bound, Some(lock));
        (claim.watch, claim.mode) = (watch, mode);
        Ok(claim)
    }

    /// Of a socket that is bound already.
    fn of(
        place: &ServiceName,
        directory: Directory,
        socket: OwnedFd,
        bound: Identity,
        lock: Option<OwnerLock>,
    ) -> NameClaim {
        NameClaim {
            place: place.clone(),
            home: directory.real_path(),
            directory,
            socket: Some(socket),
            bound,
            mode: 0,
            user: own_user(),
            lock,
            watch: None,
            is_inherited: false,
            is_given_back: false,
            predecessor: None,
            released: None,
            fork: ForkGuard::new(),
        }
    }

    /// Of a lock that was another server's, which has the name back unless this one [keeps](Self::keep) it.
    pub fn succeeding(
        place: &ServiceName,
        directory: Directory,
        (socket, bound): (OwnedFd, Identity),
        lock: OwnerLock,
        predecessor: Predecessor,
    ) -> NameClaim {
        let mut claim = NameClaim::of(place, directory, socket, bound, Some(lock));
        claim.mode = predecessor.mode;
        claim.predecessor = Some(predecessor);
        claim
    }

    /// Whether the name was another server's, which has it back unless this one keeps it.
    pub fn is_succeeding(&self) -> bool {
        self.predecessor.is_some()
    }

    /// This process serves from here on. Of a name that was taken over: the socket gets it, and the predecessor is told
    /// that it may end. What fails here leaves the name to that one.
    pub fn keep(&mut self) -> Result<()> {
        let Some(predecessor) = &mut self.predecessor else { return Ok(()) };
        if !self.lock.as_ref().map_or(Ok(false), |lock| lock.has_name(&self.directory))? {
            return Err(self.place.taken(&self.place.path())); // the lock file was removed meanwhile
        }
        match self.directory.look(self.place.socket())? {
            Found::Nothing => {}
            Found::Socket { uid } if uid == own_user() => {}
            Found::Socket { uid } => return Err(self.place.bad_path(&format!("is a socket of user {uid}"))),
            Found::Other => return Err(self.place.bad_path("is there and is not a socket")),
        }
        self.directory.rename(&predecessor.temporary, self.place.socket())?;
        let watch = std::mem::replace(&mut predecessor.watch, Err(Errno::INVAL));
        self.watch = begin(watch, &self.place, &self.directory);
        let _ = socket::send(&predecessor.connection, &FromClient::Ready.encode(), &[]); // it may be dead by now
        self.predecessor = None;
        Ok(())
    }

    /// Whether a server is about to take the name over.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn has_heir(&self) -> Result<bool> {
        OwnerLock::has_heir(&self.directory, self.place.lock())
    }

    /// Lets the lock go, for an heir to take it.
    pub fn release(&mut self) {
        self.released = self.lock.take().map(|lock| lock.identity());
    }

    /// Takes the lock back, unless another server has it: whether it is this one's.
    ///
    /// # Errors
    /// The lock file cannot be had, or was replaced.
    pub fn take_back(&mut self) -> Result<bool> {
        let Some(identity) = self.released else { return Ok(true) };
        match OwnerLock::retake(&self.directory, self.place.lock(), identity) {
            Ok(Some(lock)) => {
                (self.lock, self.released) = (Some(lock), None);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                if error.kind() == ErrorKind::NameTaken {
                    self.released = None; // it is another file by now, and so nobody's heir has it
                }
                Err(error)
            }
        }
    }

    /// Another server has the name: nothing of it is this one's any more, and so nothing is removed.
    pub fn give_up(&mut self) {
        self.released = None;
        self.is_given_back = true;
        if faults::is(Fault::GreedyFormer) {
            self.directory.remove(self.place.socket());
            self.directory.remove(self.place.lock());
        }
    }

    /// Whether another server has taken the lock since it was released.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn is_taken_over(&self) -> Result<bool> {
        Ok(self.released.is_some() && OwnerLock::has_holder(&self.directory, self.place.lock())?)
    }

    /// Whether another process serves under the name, and is no heir any more, which may still fail.
    pub fn is_served_by_another(&self) -> bool {
        if self.has_heir().unwrap_or(true) {
            return false;
        }
        let is_another = self.directory.identity(self.place.socket()).is_ok_and(|there| there != Some(self.bound));
        let address = self.directory.address(self.place.socket());
        is_another && address.and_then(|address| socket::who_listens(&address)).is_ok_and(|it| it == Listener::Somebody)
    }

    /// Whether the lock is this server's, whatever has become of the socket.
    pub fn has_own_lock(&self) -> bool {
        self.has_lock(&self.directory).unwrap_or(false)
    }

    fn inherit(place: &ServiceName, listener: &InheritedListener) -> Result<NameClaim> {
        let unfit = |why: &str| {
            let number = listener.as_fd().as_raw_fd();
            let path = shown(&place.path());
            let sentence =
                format!("the listener that was handed over (descriptor {number}) is not one for {path}: {why}");
            Error::new(ErrorKind::InvalidConfiguration, sentence)
        };
        let path = socket::check_listener(listener).map_err(|why| unfit(&why))?;
        let path = path.ok_or_else(|| unfit("it has no path, where clients look for one"))?;
        let directory = place.own_directory()?;
        let bound = directory.identity(place.socket())?;
        let Some(bound) = bound.filter(|bound| directory::identity_at(&path) == Some(*bound)) else {
            return Err(unfit(&format!("it listens at {}", shown(&path))));
        };
        match directory.look(place.socket())? {
            Found::Socket { uid } if uid == own_user() => {}
            Found::Socket { uid } => {
                return Err(unfit(&format!(
                    "the file belongs to user {uid}, and this server is user {}'s, so that clients would trust \
                     neither; give it to that user, under systemd with SocketUser=",
                    own_user()
                )));
            }
            Found::Nothing | Found::Other => return Err(unfit("what is there now is no socket")),
        }
        place.check_elsewhere()?;
        let lock = match take_lock(place, &directory) {
            Ok(lock) => Some(lock),
            // The socket says who is served, and so a lock says nothing more, but where observers may look.
            Err(error) if matches!(error.os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => {
                trace::unobservable(&place.path(), &error);
                None
            }
            Err(error) => return Err(error),
        };
        let socket = listener.as_fd().try_clone_to_owned();
        let socket = socket.map_err(|error| Error::io("copy the descriptor of a listener", error))?;
        let _ = socket::refuse_descriptors(&socket); // of all who come from now on
        let mut claim = NameClaim::of(place, directory, socket, bound, lock);
        claim.is_inherited = true;
        Ok(claim)
    }

    /// Whether the socket is somebody else's, who may hold it, too.
    pub fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    /// Gives the name back, as dropping does.
    ///
    /// # Errors
    /// Its files could not be removed, which is told to `tracing` besides.
    pub fn give_back(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        if self.fork.is_forked() || std::mem::replace(&mut self.is_given_back, true) {
            return Ok(()); // in a child the name is still the parent's
        }
        if let Some(predecessor) = self.predecessor.take() {
            // In this order: the predecessor has the name back when the lock is free and it is hung up on.
            self.socket.take().iter().for_each(socket::hang_up); // a forked child may hold it
            remove_socket(&self.directory, &predecessor.temporary, self.bound);
            self.lock = None;
            drop(predecessor);
            return Ok(());
        }
        // While another server takes the name over, nothing is removed but under the lock: it may be that one's by now.
        if !self.take_back().unwrap_or(false) {
            return Ok(());
        }
        let Some(error) = self.remove_own().into_iter().next() else { return Ok(()) };
        trace::name_stays(&self.path(), self.former_user(), &error);
        let whose = match self.former_user() {
            Some(user) => format!(" as user {user}, who took the name; give up privileges before it is taken"),
            None => String::new(),
        };
        let path = shown(&self.path());
        let sentence = format!(
            "the server has ended, but its name could not be removed: {error}; remove {path} and its lock file{whose}"
        );
        Err(error.retold(sentence))
    }

    /// Where the name leads.
    pub fn place(&self) -> &ServiceName {
        &self.place
    }

    /// The path of the socket, absolute if it could be learned.
    pub fn path(&self) -> PathBuf {
        let relative = self.place.path();
        match &self.home {
            Some(home) if relative.is_relative() => home.join(self.place.socket()),
            _ => relative,
        }
    }

    /// Device and inode of the lock file: the process that has them and this lock is the same server.
    pub fn lock_identity(&self) -> Identity {
        self.lock.as_ref().map_or((0, 0), OwnerLock::identity)
    }

    /// Writes into the lock file where observers may look: a descriptor of this process. Only a hint, which they check,
    /// and which a server can do without: on a file system that is full there is none.
    pub fn announce(&self, memory: impl AsFd) {
        let Some(number) = process::own_number() else { return }; // without `/proc` nobody could look either
        let hint = Hint { process: number, fd: memory.as_fd().as_raw_fd() as u32 };
        let Some(lock) = &self.lock else { return };
        if let Err(error) = lock.write(&self.directory, &hint.text()) {
            trace::unobservable(&self.path(), &error);
        }
    }

    /// Whether the kernel refuses descriptors from all who will connect, as it was told before any of them could. Who
    /// connected to an inherited listener before may have sent some.
    pub fn refuses_descriptors(&self) -> bool {
        !self.is_inherited && self.socket.as_ref().is_some_and(|socket| socket::refuse_descriptors(socket).is_ok())
    }

    /// Starts to listen, once.
    pub fn listen(&mut self) -> Result<OwnedFd> {
        let socket = self.socket.take().expect("a claim listens once");
        match self.is_inherited {
            true => socket::listen_anew(&socket)?,
            false => socket::start_listening(&socket)?,
        }
        Ok(socket)
    }

    /// What becomes readable when the name may have been taken away; `None` if this user may have no more watches.
    pub fn watch(&self) -> Option<&NameWatch> {
        self.watch.as_ref()
    }

    /// The user who took the name, if this process does not act as that one any more.
    pub fn former_user(&self) -> Option<u32> {
        (own_user() != self.user).then_some(self.user)
    }

    /// Looks whether the name is still there, and takes it again if it is not.
    ///
    /// # Errors
    /// It is gone and cannot be had: another server has it (`NameTaken`), or its directory is not to be had.
    #[cold]
    pub fn look_after(&mut self) -> Result<Aftermath> {
        self.watch.iter().for_each(NameWatch::clear);
        if self.is_inherited || self.is_given_back || self.is_whole()? || faults::is(Fault::ForsakenName) {
            return Ok(Aftermath::Kept);
        }
        self.take_again()
    }

    fn has_left(&self) -> bool {
        self.home.as_ref().is_some_and(|home| self.directory.has_left(home))
    }

    fn is_whole(&self) -> Result<bool> {
        Ok(!self.has_left()
            && self.has_lock(&self.directory)?
            && self.directory.identity(self.place.socket())? == Some(self.bound))
    }

    fn has_lock(&self, directory: &Directory) -> Result<bool> {
        self.lock.as_ref().map_or(Ok(false), |lock| lock.has_name(directory))
    }

    fn take_again(&mut self) -> Result<Aftermath> {
        let moved = if self.has_left() { Some(self.directory_again()?) } else { None };
        let directory = moved.as_ref().unwrap_or(&self.directory);
        let again = if self.has_lock(directory)? { None } else { Some(take_lock(&self.place, directory)?) };
        let lock = again.as_ref().or(self.lock.as_ref());
        let is_bound = directory.identity(self.place.socket())? == Some(self.bound);
        let watch = NameWatch::new(); // before the socket, as at first
        let fresh = match lock {
            Some(lock) if !is_bound => Some(self.bind_again(directory, lock, again.is_some())?),
            _ => None,
        };
        // From here on nothing fails.
        if let Some(directory) = moved {
            self.remove_own(); // in the directory as it is called now, or from the one that is gone
            self.directory = directory;
        }
        if again.is_some() {
            (self.lock, self.released) = (again, None);
        }
        let listener = fresh.map(|(socket, bound)| {
            self.bound = bound;
            socket
        });
        self.watch = begin(watch, &self.place, &self.directory);
        Ok(Aftermath::TakenAgain { listener })
    }

    fn bind_again(&self, directory: &Directory, lock: &OwnerLock, is_new: bool) -> Result<(OwnedFd, Identity)> {
        let bound = bind(&self.place, directory, lock, self.mode).and_then(|(socket, bound)| {
            socket::start_listening(&socket)?;
            Ok((socket, bound))
        });
        if bound.is_err() && is_new {
            directory.remove(self.place.lock());
        }
        bound
    }

    /// The directory at the path where it was.
    fn directory_again(&self) -> Result<Directory> {
        match self.home.as_deref().filter(|_| self.place.is_path()) {
            Some(home) => Directory::open(home, &[own_user()]).map(Directory::in_use),
            None => self.place.own_directory(),
        }
    }

    /// Removes the name, as far as it is ours: under our lock, and this very socket.
    fn remove_own(&self) -> Vec<Error> {
        let mut errors = Vec::new();
        let mut attempt = |result: Result<()>| errors.extend(result.err());
        let has_lock = self.has_lock(&self.directory);
        // The socket first: a process that finds the lock file gone must not find our socket.
        match self.directory.identity(self.place.socket()) {
            Ok(there) if there == Some(self.bound) && !self.is_inherited => {
                attempt(self.directory.try_remove(self.place.socket()))
            }
            Ok(_) => {}
            Err(error) => attempt(Err(error)),
        }
        match has_lock {
            Ok(true) => attempt(self.directory.try_remove(self.place.lock())),
            Ok(false) => {}
            Err(error) => attempt(Err(error)),
        }
        errors
    }
}

impl Drop for NameClaim {
    fn drop(&mut self) {
        let _ = self.remove(); // it was told to `tracing`
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Takes the lock; somebody who sweeps may have it for a moment.
fn take_lock(place: &ServiceName, directory: &Directory) -> Result<OwnerLock> {
    for _ in 0..TIMEOUT_MS {
        if let Some(lock) = OwnerLock::try_take(directory, place.lock())? {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(place.taken(&place.path()))
}

/// Binds the socket; we hold the lock.
fn bind(place: &ServiceName, directory: &Directory, lock: &OwnerLock, mode: u32) -> Result<(OwnedFd, Identity)> {
    let own = own_user();
    match directory.look(place.socket())? {
        Found::Nothing => {}
        Found::Socket { uid } if uid == own => remove_stale(place, directory, lock)?,
        Found::Socket { uid } => {
            return Err(place.bad_path(&format!("is a socket of user {uid}; remove it or take another name")));
        }
        Found::Other => return Err(place.bad_path("is there and is not a socket; remove it or take another name")),
    }
    let _ = clear_heirs_place(place, directory); // of one that was killed; what else is there is no server's affair
    bind_at(place, directory, place.socket(), mode)
}

/// The users whom a socket of that mode lets connect are let in, or told that they are not.
pub fn mode_for(access: &Access) -> u32 {
    if access.admits_other_users() { 0o666 } else { 0o600 }
}

/// Removes what an heir left that was killed; the one that lives has its lock.
///
/// # Errors
/// Something else is there.
pub fn clear_heirs_place(place: &ServiceName, directory: &Directory) -> Result<()> {
    let name = place.heirs_socket();
    let in_the_way = |what: &str| {
        let path = shown(&directory.path_of(&name));
        let sentence = format!("{path} is {what}, and a server that takes a name over needs this place: remove it");
        Err(Error::new(ErrorKind::PathInvalid, sentence))
    };
    match directory.look(&name)? {
        Found::Nothing => Ok(()),
        Found::Socket { uid } if uid == own_user() => match socket::who_listens(&directory.address(&name)?)? {
            Listener::Nobody | Listener::Gone => directory.try_remove(&name),
            Listener::Somebody | Listener::AnotherKind => in_the_way("a socket on which another program listens"),
        },
        Found::Socket { .. } => in_the_way("another user's"),
        Found::Other => in_the_way("there, and no socket"),
    }
}

/// Removes that very socket.
pub fn remove_socket(directory: &Directory, name: &OsStr, bound: Identity) {
    if directory.identity(name).is_ok_and(|there| there == Some(bound)) {
        directory.remove(name);
    }
}

/// Binds a socket where nothing is.
pub fn bind_at(place: &ServiceName, directory: &Directory, name: &OsStr, mode: u32) -> Result<(OwnedFd, Identity)> {
    let socket = socket::new_socket()?;
    // Before it listens: each connection has it from its listener. An older kernel cannot.
    let _ = socket::refuse_descriptors(&socket);
    match socket::bind_to(&socket, &directory.address_for_all(name)?) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => return Err(place.taken(&place.path())),
        Err(error) => {
            return Err(directory.failed(format_args!("bind a socket at {}", shown(&directory.path_of(name))), error));
        }
    }
    // The directory lets nobody else in to race with this; the credentials of each client are checked besides.
    if let Err(error) = directory.set_mode(name, mode) {
        directory.remove(name);
        return Err(error);
    }
    match directory.identity(name)? {
        Some(bound) => Ok((socket, bound)),
        None => Err(place.bad_path("was not made where it should be: its directory was moved just now; try again")),
    }
}

/// We hold the lock, so no server of ours has the socket that is there. Another program may: only what nobody listens
/// on is removed, and what a child holds open of a server that is gone.
fn remove_stale(place: &ServiceName, directory: &Directory, lock: &OwnerLock) -> Result<()> {
    let address = directory.address(place.socket())?;
    let mut listener = socket::who_listens(&address)?;
    if listener == Listener::AnotherKind {
        // One of ours that was killed between making it, under an odd umask, and setting its mode lets not even us in.
        directory.set_mode(place.socket(), 0o600)?;
        listener = socket::who_listens(&address)?;
    }
    match listener {
        Listener::Nobody => directory.remove(place.socket()),
        // That it was a server of ours and no daemon whose parent has gone, its lock file says.
        Listener::Gone if lock.is_from_before() || !place.is_path() => directory.remove(place.socket()),
        Listener::Somebody | Listener::Gone => return Err(place.taken(&place.path())),
        Listener::AnotherKind => {
            return Err(place.bad_path("is a socket that another program listens on; remove it or take another name"));
        }
    }
    Ok(())
}

/// A watch on the name, or none where there cannot be one: then the control thread looks whenever it is awake.
fn begin(watch: rustix::io::Result<NameWatch>, place: &ServiceName, directory: &Directory) -> Option<NameWatch> {
    watch
        .and_then(|watch| watch.begin(directory, &[place.socket(), place.lock()]).map(|()| watch))
        .inspect_err(|error| trace::unwatched(Path::new(&place.path()), *error))
        .ok()
}
