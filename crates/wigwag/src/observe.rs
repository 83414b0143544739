//! Look at servers, streams' listeners, queues and semaphores from outside: what runs, what is stuck, who holds what.
//!
//! Every server keeps its statistics in a memory object of its own, which an observer maps read-only. So looking asks nothing of
//! the server: it works while a handler hangs and while the process is stopped, and it can neither disturb nor change anything.
//! Observers are of the server's own user, or root with the names of its own; no policy opens the statistics to others.
//!
//! ```
//! # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
//! # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
//! # let thread = std::thread::spawn(move || server.serve(|r| r.make_ascii_uppercase()));
//! # let client = wigwag::Client::connect(name)?; client.call(b"hello")?;
//! use wigwag::observe::Observer;
//!
//! let observer = Observer::open(name)?;
//! let snapshot = observer.snapshot()?;
//! for session in &snapshot.sessions {
//!     println!("{:?}: {} calls", session.program(), session.counts.calls);
//! }
//! # assert_eq!(snapshot.sessions.len(), 1); stop.shutdown(); thread.join().unwrap()?;
//! # Ok::<(), wigwag::Error>(())
//! ```
//!
//! Which names there are, [`runtime`](crate::runtime) tells:
//!
//! ```
//! use wigwag::observe::Observer;
//! use wigwag::runtime::{Kind, RuntimeDirectory, State};
//!
//! for entry in RuntimeDirectory::find().entries()? {
//!     if let (Kind::Service, State::Alive) = (entry.kind(), entry.state()) {
//!         match Observer::open(entry.name()) {
//!             Ok(observer) => println!("{}: {:?}", entry.name().display(), observer.snapshot()?.counts.calls),
//!             Err(error) => println!("{}: {error}", entry.name().display()),
//!         }
//!     }
//! }
//! # Ok::<(), wigwag::Error>(())
//! ```
//!
//! What is read was written by another process, which may lie: any number is possible, none does harm.

use std::ffi::OsStr;

use crate::control::rendezvous::{Hint, Place};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::statistics::{MEMORY_NAME, View};
use crate::sys::directory::{Directory, NameLock, PlainFile};
use crate::sys::memory;
use crate::sys::process::Process;

mod counts;
mod permits;
mod service;
mod snapshot;

pub use counts::{Counts, Durations};
pub use permits::{Holder, PermitSnapshot, PermitState, Waiting};
pub use service::{Limits, Policy, Service};
pub use snapshot::{Kept, Polling, ProcessState, Session, Snapshot, Thread, ThreadState};
pub(crate) use snapshot::{counts_of, server_stats};

/// A server, a listener or a receiver, held to be looked at as often as one likes. Dropping it leaves nothing behind.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
/// let server = wigwag::Server::builder().slots(4).bind(name)?;
/// let observer = wigwag::observe::Observer::open(name)?;
/// assert_eq!(observer.service().pid, std::process::id());
/// assert_eq!(observer.service().limits.slots, 4);
/// assert!(observer.snapshot()?.sessions.is_empty());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct Observer {
    process: Process,
    view: View,
    service: Service,
}

impl Observer {
    /// Finds the statistics of whoever has a name, or a path that begins with `/`, `./` or `../`.
    ///
    /// # Errors
    /// [`NotRunning`](ErrorKind::NotRunning): nobody has the name, or only a dead one's files are there.
    /// [`Io`](ErrorKind::Io): somebody has it and cannot be looked at: it is not of this user, not in this process namespace, or
    /// forbids it. [`VersionMismatch`](ErrorKind::VersionMismatch); [`Violation`](ErrorKind::Violation): what it shows are no
    /// statistics; those of a wrong name or directory.
    ///
    /// ```
    /// let error = wigwag::observe::Observer::open("nobody.has.this").unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// ```
    pub fn open(name: impl AsRef<OsStr>) -> Result<Observer> {
        let place = Place::find(name.as_ref())?;
        let directory = place.directory().map_err(|error| match error.kind() {
            ErrorKind::NotRunning => place.not_running("nothing is there"),
            _ => error,
        })?;
        match find(&place, &directory)? {
            Found::Running(observer) => Ok(*observer),
            Found::Stale => Err(place.not_running("a server that is gone left it; the next one replaces it")),
            Found::Hidden(error) => Err(error),
        }
    }

    /// What does not change while the server lives.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// assert_eq!(wigwag::observe::Observer::open(name)?.service().form, wigwag::Form::Stream);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What is true now, or was last when the server ended. It takes some microseconds, and a little for each session.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked) in a child of the process that opened it.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// use wigwag::observe::{Observer, ProcessState};
    /// let server = wigwag::Server::bind(name)?;
    /// let snapshot = Observer::open(name)?.snapshot()?;
    /// assert_eq!((snapshot.state, snapshot.counts.calls), (ProcessState::Running, 0));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn snapshot(&self) -> Result<Snapshot> {
        let state = match (self.process.is_alive(), self.process.is_stopped()) {
            (false, _) => ProcessState::Gone,
            (true, true) => ProcessState::Stopped,
            (true, false) => ProcessState::Running,
        };
        Ok(Snapshot::read(&self.view.tables()?, state))
    }
}

enum Found {
    Running(Box<Observer>),
    Stale,
    Hidden(Error),
}

/// Who has a name: by the hint in the lock file, if all that it leads to is as it must be; else only whether the lock is held.
fn find(place: &Place, directory: &Directory) -> Result<Found> {
    let Some(lock) = PlainFile::open(directory, place.lock())? else {
        return match directory.look(place.socket())? {
            crate::sys::directory::Found::Nothing => Err(place.not_running("nothing is there")),
            _ => Ok(Found::Hidden(hidden(place, "there is no lock file beside it, which every server keeps"))),
        };
    };
    let why = match follow(&lock) {
        Ok(Ok(observer)) => return Ok(Found::Running(Box::new(observer))),
        Ok(Err(why)) => hidden(place, &why),
        Err(error) => error,
    };
    // Asked last: a server that ended meanwhile is stale.
    match NameLock::look(directory, place.lock()) {
        Ok(None) => Ok(Found::Hidden(why)),
        Ok(Some(_)) => Ok(Found::Stale),
        Err(error) if error.kind() == ErrorKind::NotRunning => Ok(Found::Stale),
        Err(error) => Err(error),
    }
}

fn hidden(place: &Place, why: &str) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be looked at: {why}", shown(&place.path())))
}

/// Follows the hint. The inner error is a reason that completes a sentence.
fn follow(lock: &PlainFile) -> Result<std::result::Result<Observer, String>> {
    let (device, inode) = lock.identity()?;
    let mut text = [0; Hint::LEN_MAX + 1];
    let len = memory::read_some(lock, &mut text);
    let Some(hint) = Hint::parse(&text[..len]) else {
        return Ok(Err("its lock file does not say where its statistics are".into()));
    };
    let nobody = || format!("process {}, which its lock file names, is not to be seen here", hint.process);
    let process = match Process::open(hint.process) {
        Ok(Some(process)) => process,
        Ok(None) => return Ok(Err(nobody())),
        Err(error) => return Ok(Err(format!("{}: {error}", nobody()))),
    };
    let memory = match process.open_memory(hint.fd, MEMORY_NAME) {
        Ok(Some(memory)) => memory,
        Ok(None) => return Ok(Err(format!("process {} has no statistics there", hint.process))),
        Err(error) => {
            return Ok(Err(format!(
                "process {} does not let this user look at it ({error}); a process that is not dumpable does so",
                hint.process
            )));
        }
    };
    let view = View::open(&memory, rustix::process::geteuid().as_raw())?;
    let tables = view.tables()?;
    let head = tables.head;
    if (head.lock_device.value(), head.lock_inode.value()) != (device, inode) {
        return Ok(Err(format!("process {} has statistics of another name there", hint.process)));
    }
    // Held since before the descriptor was opened: if it lives, the number meant this process all the while.
    if !process.is_alive() {
        return Ok(Err(nobody()));
    }
    let service = Service::read(head, process.number())?;
    Ok(Ok(Observer { process, view, service }))
}
