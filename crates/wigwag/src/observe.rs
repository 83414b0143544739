//! Look at servers, streams' listeners, queues and semaphores from outside: what runs, what is stuck, who holds what.
//!
//! Every server keeps its statistics in a memory object of its own, which an observer maps read-only. So looking asks
//! nothing of the server: it works while a handler hangs and while the process is stopped, and it can neither disturb
//! nor change anything. Observers are of the server's own user, or root with the names of its own; no policy opens the
//! statistics to others.
//!
//! ```
//! # let name = &wigwag_testing::temporary_name("s").path;
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
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::session::name::{Hint, ServiceName};
use crate::statistics::{MEMORY_NAME, View};
use crate::sys::directory::{Directory, PlainFile};
use crate::sys::memory;
use crate::sys::owner_lock::OwnerLock;
use crate::sys::process::{Halt, Process};

use crate::observe::memories::Memories;

mod backlog;
mod counts;
mod memories;
mod permits;
mod service;
mod snapshot;
mod subscription;

pub use crate::observe::backlog::{Backlog, Ring, Rings};
pub use crate::observe::counts::{Counts, Durations};
pub use crate::observe::permits::{Holder, LostSemaphore, PermitSnapshot, PermitState, Waiting};
pub use crate::observe::service::{Limits, Policy, Service};
pub use crate::observe::snapshot::{Kept, Polling, ProcessState, Session, Snapshot, Thread, ThreadState};
pub(crate) use crate::observe::snapshot::{counts_of, server_stats};
pub use crate::observe::subscription::Subscription;

/// A server, a listener or a receiver, held to be looked at as often as one likes. Dropping it leaves nothing behind.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
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
    memories: Memories,
}

impl Observer {
    /// Finds the statistics of the server with this name, or with a path that begins with `/`, `./` or `../`; where
    /// nobody has it, those of a server of this user that had it and lost it (see [`has_name`](Observer::has_name)).
    ///
    /// # Errors
    /// [`NotRunning`](ErrorKind::NotRunning): nobody has the name, or only a dead one's files are there.
    /// [`Io`](ErrorKind::Io): somebody has it and cannot be looked at: it is not of this user, not in this process
    /// namespace, or forbids it. [`VersionMismatch`](ErrorKind::VersionMismatch); [`Violation`](ErrorKind::Violation):
    /// what it shows are no statistics; those of a wrong name or directory.
    ///
    /// ```
    /// let error = wigwag::observe::Observer::open("nobody.has.this").unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// ```
    pub fn open(name: impl AsRef<OsStr>) -> Result<Observer> {
        let place = ServiceName::find(name.as_ref())?;
        let error = match Observer::by_name(&place) {
            Err(error) if error.kind() == ErrorKind::NotRunning => error,
            found => return found,
        };
        Observer::all().into_iter().find(|observer| observer.service.path == place.path()).ok_or(error)
    }

    fn by_name(place: &ServiceName) -> Result<Observer> {
        let directory = place.directory().map_err(|error| match error.kind() {
            ErrorKind::NotRunning => place.not_running("nothing is there"),
            _ => error,
        })?;
        let mut tries = BEGINNING_TRIES;
        loop {
            match find(place, &directory)? {
                Found::Running(observer) => return Ok(*observer),
                Found::Stale => {
                    return Err(place.not_running("a server that is gone left it; the next one replaces it"));
                }
                Found::Hidden(_, Why::Nobody(_)) if tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(BEGINNING_PAUSE);
                }
                Found::Hidden(error, _) => return Err(error),
            }
        }
    }

    /// Looks at each of the receivers that [share](crate::ReceiverBuilder::shared) a name, by their numbers; at none if
    /// nobody does.
    ///
    /// # Errors
    /// As [`open`](Observer::open), of the name. One that ends meanwhile is left out.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # use wigwag::observe::Observer;
    /// let builder = wigwag::Receiver::builder().shared(true);
    /// let receivers = [builder.clone().bind(name)?, builder.bind(name)?];
    /// assert_eq!(Observer::sharing(name)?.len(), 2);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn sharing(name: impl AsRef<OsStr>) -> Result<Vec<Observer>> {
        let place = ServiceName::find(name.as_ref())?;
        let members = place.living_members(rustix::process::geteuid().as_raw());
        Ok(members.iter().filter_map(|number| Observer::open(place.member(number).ok()?.called()).ok()).collect())
    }

    /// All services of this user, found by their processes and not by their names: those, too, whose name was removed,
    /// that are in a directory of another environment, or that another server has taken the name from. It looks through
    /// the descriptors of all processes, which takes some milliseconds.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// use wigwag::observe::Observer;
    /// let server = wigwag::Server::bind(name)?;
    /// for observer in Observer::all().iter().filter(|observer| !observer.has_name()) {
    ///     println!("{} cannot be reached at {}", observer.service().pid, observer.service().path.display());
    /// }
    /// assert!(Observer::all().iter().any(|observer| observer.service().path == *name && observer.has_name()));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn all() -> Vec<Observer> {
        let processes = crate::sys::process::numbers().into_iter().filter_map(|number| Process::open(number).ok()?);
        let mut all = Vec::new();
        for process in processes {
            for fd in process.memories(MEMORY_NAME) {
                let Ok(Some(again)) = Process::open(process.number()) else { break };
                let found = observe(again, fd).ok().and_then(std::result::Result::ok);
                all.extend(found.filter(|observer| !observer.has_ended()));
            }
        }
        all
    }

    /// Whether its name leads to it: the path where it was bound has its socket and the lock file whose lock it holds.
    /// Where it does not, no client can connect. A server notices that itself, and takes its name again if it can.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert!(wigwag::observe::Observer::open(name)?.has_name());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn has_name(&self) -> bool {
        let path = &self.service.path;
        let (Ok(tables), Some(parent), Some(socket)) = (self.view.tables(), path.parent(), path.file_name()) else {
            return false;
        };
        let lock = (tables.head.lock_device.value(), tables.head.lock_inode.value());
        let Ok(directory) = Directory::open(parent, &[rustix::process::geteuid().as_raw()]) else { return false };
        let (replaced, mut added) = (path.with_extension("lock"), socket.to_owned());
        added.push(".lock");
        let is_there = |name: &OsStr| matches!(directory.identity(name), Ok(Some(found)) if found == lock);
        let has_lock = replaced.file_name().into_iter().chain([added.as_os_str()]).any(is_there);
        has_lock && matches!(directory.look(socket), Ok(crate::sys::directory::Found::Socket { .. }))
    }

    /// Whether it gave its name back, as it was shut down; sessions may live on, and its numbers with them.
    fn has_ended(&self) -> bool {
        self.view.tables().map_or(true, |tables| tables.head.lock_inode.value() == 0)
    }

    /// The user as whom it took its name, if its process acts as another one by now. It cannot remove its name when it
    /// ends, nor take it again as the user it is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::observe::Observer::open(name)?.former_user(), None);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn former_user(&self) -> Option<u32> {
        let took = u32::try_from(self.view.tables().ok()?.head.uid.value()).ok()?;
        self.process.user().is_some_and(|user| user != took).then_some(took)
    }

    /// What does not change while the server lives.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// assert_eq!(wigwag::observe::Observer::open(name)?.service().form, wigwag::Form::Stream);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What is true now, or was last when the server ended. It takes some ten microseconds, and as many for each
    /// session, whose memory is read too; the first look at a session takes longer, the more descriptors its client
    /// has.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked) in a child of the process that opened it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// use wigwag::observe::{Observer, ProcessState};
    /// let server = wigwag::Server::bind(name)?;
    /// let snapshot = Observer::open(name)?.snapshot()?;
    /// assert_eq!((snapshot.state, snapshot.counts.calls), (ProcessState::Running, 0));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn snapshot(&self) -> Result<Snapshot> {
        let state = match (self.process.is_alive(), self.process.halt()) {
            (false, _) => ProcessState::Gone,
            (true, Some(Halt::Stopped)) => ProcessState::Stopped,
            (true, Some(Halt::Frozen)) => ProcessState::Frozen,
            (true, None) => ProcessState::Running,
        };
        let mut snapshot = Snapshot::read(&self.view.tables()?, state, || self.service.now_ns());
        self.memories.look(&mut snapshot, &self.service);
        Ok(snapshot)
    }
}

/// How often, and after what pause, a name is looked at again whose lock is held while its file names nobody: the next
/// server has just taken it, and writes there soon. One in another process namespace stays like that.
const BEGINNING_TRIES: u32 = 5;
const BEGINNING_PAUSE: Duration = Duration::from_millis(1);

enum Found {
    Running(Box<Observer>),
    Stale,
    Hidden(Error, Why),
}

/// Why statistics are not to be had, in words that complete a sentence.
enum Why {
    /// The lock file leads to no server: it has ended, or has not begun.
    Nobody(String),
    /// Somebody is there, and cannot be looked at.
    Closed(String),
}

impl Why {
    fn as_str(&self) -> &str {
        match self {
            Why::Nobody(why) | Why::Closed(why) => why,
        }
    }
}

/// Finds the owner of a name by the hint in the lock file, if everything that it leads to is as it must be; else only
/// whether the lock is held.
fn find(place: &ServiceName, directory: &Directory) -> Result<Found> {
    let Some(lock) = PlainFile::open(directory, place.lock())? else {
        return match directory.look(place.socket())? {
            crate::sys::directory::Found::Nothing => Err(place.not_running("nothing is there")),
            _ => {
                let why = Why::Closed("there is no lock file beside it, which every server keeps".into());
                Ok(Found::Hidden(hidden(place, why.as_str()), why))
            }
        };
    };
    let (error, why) = match follow(&lock) {
        Ok(Ok(observer)) => return Ok(Found::Running(Box::new(observer))),
        Ok(Err(why)) => (hidden(place, why.as_str()), why),
        Err(error) => {
            let why = Why::Closed(error.to_string());
            (error, why)
        }
    };
    // Asked last: a server that ended meanwhile is stale.
    match OwnerLock::is_held(directory, place.lock()) {
        Ok(true) => Ok(Found::Hidden(error, why)),
        Ok(false) => Ok(Found::Stale),
        Err(error) if error.kind() == ErrorKind::NotRunning => Ok(Found::Stale),
        Err(error) => Err(error),
    }
}

fn hidden(place: &ServiceName, why: &str) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be looked at: {why}", shown(&place.path())))
}

/// Follows the hint.
fn follow(lock: &PlainFile) -> Result<std::result::Result<Observer, Why>> {
    let (device, inode) = lock.identity()?;
    let mut text = [0; Hint::LEN_MAX + 1];
    let len = memory::read_some(lock, &mut text);
    let Some(hint) = Hint::parse(&text[..len]) else {
        return Ok(Err(Why::Nobody("its lock file does not say where its statistics are".into())));
    };
    let nobody = || format!("process {}, which its lock file names, is not to be seen here", hint.process);
    let process = match Process::open(hint.process) {
        Ok(Some(process)) => process,
        Ok(None) => return Ok(Err(Why::Nobody(nobody()))),
        Err(error) => return Ok(Err(Why::Closed(format!("{}: {error}", nobody())))),
    };
    let observer = match observe(process, hint.fd)? {
        Ok(observer) => observer,
        Err(why) => return Ok(Err(why)),
    };
    let tables = observer.view.tables()?;
    if (tables.head.lock_device.value(), tables.head.lock_inode.value()) != (device, inode) {
        return Ok(Err(Why::Nobody(format!("process {} has statistics of another name there", hint.process))));
    }
    Ok(Ok(observer))
}

/// What a process keeps at that descriptor.
fn observe(process: Process, fd: u32) -> Result<std::result::Result<Observer, Why>> {
    use rustix::io::Errno;
    let number = process.number();
    let ended = || Why::Nobody(format!("process {number} has just ended"));
    let memory = match process.open_memory(fd, MEMORY_NAME) {
        Ok(Some(memory)) => memory,
        // A process that ends has its descriptors no more, and its lock a little longer.
        Ok(None) | Err(Errno::NOENT | Errno::SRCH) if process.is_ending() => return Ok(Err(ended())),
        Ok(None) | Err(Errno::NOENT | Errno::SRCH) => {
            return Ok(Err(Why::Nobody(format!("process {number} has no statistics there"))));
        }
        Err(error) => {
            return Ok(Err(Why::Closed(format!(
                "process {number} does not let this user look at it ({error}); a process that is not dumpable does so"
            ))));
        }
    };
    let view = View::open(&memory, rustix::process::geteuid().as_raw())?;
    // Held since before the descriptor was opened: if it lives, the number meant this process all the while.
    if !process.is_alive() {
        return Ok(Err(ended()));
    }
    let service = Service::read(view.tables()?.head, number)?;
    Ok(Ok(Observer { process, view, service, memories: Memories::default() }))
}
