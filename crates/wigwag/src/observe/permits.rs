//! The holders of a semaphore's permits, and its waiters.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::permits::claims;
use crate::permits::file::{self, Seen, SeenPermit};
use crate::session::name::ServiceName;
use crate::sys::process;

/// A semaphore at one moment. There is no server to ask: it is read from the semaphore's file, while its users go on.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let semaphore = wigwag::Semaphore::open(name, 3)?;
/// let permit = semaphore.acquire()?;
/// let snapshot = wigwag::observe::PermitSnapshot::of(name)?;
/// assert_eq!((snapshot.permits.len(), snapshot.free()), (3, 2));
/// let (_, holder) = snapshot.held().next().unwrap();
/// assert_eq!((holder.pid, holder.is_alive), (Some(std::process::id()), true));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermitSnapshot {
    /// Where its file is.
    pub path: PathBuf,
    /// Each permit, and who holds it.
    pub permits: Vec<PermitState>,
    /// The waiters, in no particular order.
    pub waiting: Vec<Waiting>,
}

/// A semaphore that somebody has open, and that its name does not lead to any more: its file, or the directory of it,
/// was removed, replaced or moved by another program. A process that opens the name does not see what is held there; a
/// process that has the old file open learns of it with its next acquisition ([`NameLost`](ErrorKind::NameLost)).
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// use wigwag::observe::LostSemaphore;
/// let semaphore = wigwag::Semaphore::open(name, 1)?;
/// assert_eq!(LostSemaphore::of(name)?, None);
/// std::fs::remove_file(name).unwrap();
/// assert_eq!(LostSemaphore::of(name)?.unwrap().processes, [std::process::id()]);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostSemaphore {
    /// Where its file was, or of one that was moved where it is.
    pub path: PathBuf,
    /// This user's processes that have it open.
    pub processes: Vec<u32>,
}

impl LostSemaphore {
    /// All of this user's, found in the kernel's list of locks and by their processes, which takes some milliseconds.
    ///
    /// ```
    /// for lost in wigwag::observe::LostSemaphore::all() {
    ///     println!("{} is open in {:?}, and nobody finds it", lost.path.display(), lost.processes);
    /// }
    /// ```
    pub fn all() -> Vec<LostSemaphore> {
        claims::lost().into_iter().map(|(path, processes)| LostSemaphore { path, processes }).collect()
    }

    /// The one that had this name.
    ///
    /// # Errors
    /// [`NameInvalid`](ErrorKind::NameInvalid), [`PathInvalid`](ErrorKind::PathInvalid).
    ///
    /// ```
    /// assert_eq!(wigwag::observe::LostSemaphore::of("no.such.name")?, None);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn of(name: impl AsRef<OsStr>) -> Result<Option<LostSemaphore>> {
        let place = ServiceName::find(name.as_ref())?;
        let file = place.file(".semaphore");
        let directory = place.directory().ok().and_then(|directory| directory.real_path());
        // It may be gone, too.
        let Some(directory) = directory.or_else(|| place.path().parent().map(Path::to_owned)) else { return Ok(None) };
        let processes = claims::lost_to(&directory, &file);
        Ok((!processes.is_empty()).then(|| LostSemaphore { path: directory.join(file), processes }))
    }
}

/// A permit.
///
/// ```
/// use wigwag::observe::PermitState;
/// fn word(state: &PermitState) -> &str {
///     match state {
///         PermitState::Held(holder) if holder.is_alive => "held",
///         PermitState::Held(_) => "held by a dead one",
///         PermitState::Free => "free",
///         PermitState::Recovered => "free, and the next holder is told that the last one died",
///         _ => "something new",
///     }
/// }
/// assert_eq!(word(&PermitState::Free), "free");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PermitState {
    /// It is free.
    Free,
    /// It is free, and its last holder died with it.
    Recovered,
    /// A holder has it.
    Held(Holder),
}

/// The holder of a permit.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let semaphore = wigwag::Semaphore::open(name, 1)?;
/// let permit = semaphore.acquire()?;
/// let snapshot = wigwag::observe::PermitSnapshot::of(name)?;
/// println!("held by {:?}", snapshot.held().next().and_then(|(_, holder)| holder.program()));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The number of its process, as it said itself: a hint. `None` for an instant after it took the permit.
    pub pid: Option<u32>,
    /// Whether it lives, by its lock. A dead one's permit comes back as soon as somebody looks for it.
    pub is_alive: bool,
}

impl Holder {
    /// The name of its program, as `/proc` has it now; `None` if that process is not to be seen.
    ///
    /// ```
    /// fn name(holder: &wigwag::observe::Holder) -> String {
    ///     holder.program().unwrap_or_else(|| "not to be seen".into())
    /// }
    /// ```
    pub fn program(&self) -> Option<String> {
        self.pid.filter(|_| self.is_alive).and_then(process::status_of).map(|status| status.name)
    }
}

/// A waiter.
///
/// ```
/// fn wants_several(waiting: &wigwag::observe::Waiting) -> bool {
///     waiting.needs > 1
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// How many permits it needs at once.
    pub needs: u32,
    /// Whether it lives.
    pub is_alive: bool,
}

impl PermitSnapshot {
    /// Looks at the semaphore of that name, or at a path that begins with `/`, `./` or `../`.
    ///
    /// # Errors
    /// [`NotRunning`](ErrorKind::NotRunning): there is no such semaphore. [`PathInvalid`](ErrorKind::PathInvalid):
    /// something else has the name. [`VersionMismatch`](ErrorKind::VersionMismatch); those of a wrong name or
    /// directory.
    ///
    /// ```
    /// let error = wigwag::observe::PermitSnapshot::of("nobody.has.this").unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// ```
    pub fn of(name: impl AsRef<OsStr>) -> Result<PermitSnapshot> {
        let place = ServiceName::find(name.as_ref())?;
        let nothing = |path: PathBuf| {
            let sentence = format!("there is no semaphore {}", crate::error::shown(&path));
            Error::new(ErrorKind::NotRunning, sentence)
        };
        let file = place.file(".semaphore");
        let directory = place.directory().map_err(|error| match error.kind() {
            ErrorKind::NotRunning => nothing(place.path()),
            _ => error,
        })?;
        let path = directory.path_of(&file);
        let Seen { permits, waiting } = file::see(&directory, &file)?.ok_or_else(|| nothing(path.clone()))?;
        let permits = permits.into_iter().map(|permit| match permit {
            SeenPermit::Held { process, is_alive } => PermitState::Held(Holder { pid: process, is_alive }),
            SeenPermit::Free { is_owed: true } => PermitState::Recovered,
            SeenPermit::Free { is_owed: false } => PermitState::Free,
        });
        let waiting = waiting.into_iter().map(|(needs, is_alive)| Waiting { needs, is_alive }).collect();
        Ok(PermitSnapshot { path, permits: permits.collect(), waiting })
    }

    /// How many are free.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let _semaphore = wigwag::Semaphore::open(name, 5)?;
    /// assert_eq!(wigwag::observe::PermitSnapshot::of(name)?.free(), 5);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn free(&self) -> usize {
        self.permits.len() - self.held().count()
    }

    /// The permits that are held, by their numbers, and who holds them.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let _semaphore = wigwag::Semaphore::open(name, 5)?;
    /// assert_eq!(wigwag::observe::PermitSnapshot::of(name)?.held().count(), 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn held(&self) -> impl Iterator<Item = (usize, &Holder)> {
        self.permits.iter().enumerate().filter_map(|(index, state)| match state {
            PermitState::Held(holder) => Some((index, holder)),
            _ => None,
        })
    }
}
