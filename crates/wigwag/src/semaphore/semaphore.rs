//! Semaphores: named, counting, between any processes of one user, and without a server.

use std::ffi::OsStr;
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::faults::{self, Fault};
use crate::permits::file::{PERMITS_MAX, PermitFile};
use crate::permits::table::{CallWatch, LATE_NS, Taken, Waiter};
#[cfg(all(feature = "tokio", not(loom)))]
use crate::permits::table::{Holder, PermitTable};
use crate::session::name::ServiceName;
use crate::sync::{self, AtomicU32, Ordering};
use crate::sys::clock;
use crate::sys::futex;
use crate::wait::runtime_guard;

/// The longest sleep of a waiter before it looks itself. With [`SWEEP_EVERY_WAITING`] it is how soon a death is
/// noticed.
pub(super) const SLICE: Duration = Duration::from_millis(50);
/// The next look of a waiter behind one that was called.
pub(super) const SOON: Duration = Duration::from_nanos(LATE_NS);
/// How often waiters look for the dead, all together: asking costs one system call for each holder.
const SWEEP_EVERY_WAITING: Duration = Duration::from_millis(40);
/// How often those who do not wait do, when they find nothing free.
const SWEEP_EVERY_TRYING: Duration = Duration::from_millis(1);
/// A waiter that has been passed over for this long forbids barging.
pub(super) const FAIR_AFTER: Duration = Duration::from_millis(1);
/// How long to wait, each time, before a name that somebody has under a removed file is opened again: that may pass.
const LOST_PAUSES_MS: [u64; 3] = [2, 20, 100];
/// Looks at the words before a waiter queues: a permit that is held for less than a wake-up takes is not slept for.
const SPINS: u32 = 100;

/// A counting semaphore with a name, between any processes of one user.
///
/// All processes that open the name with the same number of permits share it. There is no server and no daemon, and
/// nothing has to be cleaned up: the file behind it comes with the first opening and goes with the last.
///
/// **When a holder dies,** killed at any instruction, the kernel lets its life go (a lock on an open file, never a
/// process number), and a waiter has its permits within 100 milliseconds. The next holder of such a permit is told by
/// [`Permit::recovered`], so that it can look after what the permit protects. While nobody waits, nobody looks: an idle
/// semaphore costs nothing.
///
/// **A waiter** sleeps, and gets its turn: newcomers may take a free permit first, for the sake of speed, but not from
/// somebody who has waited for more than a millisecond. Waiters are served in the order in which they came.
///
/// With one permit it is a mutex between processes:
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
/// # let name = directory.path().join("report");
/// // In every process that writes the report; `name` could be just "report".
/// let mutex = wigwag::Semaphore::open(&name, 1)?;
///
/// let permit = mutex.acquire()?;
/// if permit.recovered() {
///     // The process that wrote it died in the middle: begin anew.
/// }
/// // ... only this process writes ...
/// drop(permit);
/// # Ok::<(), wigwag::Error>(())
/// ```
///
/// `&Semaphore` can be used by any number of threads. After a `fork` the child has nothing of it: every call is an
/// error there, and what the parent holds stays the parent's.
pub struct Semaphore {
    file: PermitFile,
    /// The permit that this process had last: it is looked at first, its line is still near.
    last: AtomicU32,
    /// Which waiters were called and have not come, as this process has seen it. Only who finds nothing free looks.
    calls: Mutex<CallWatch>,
}

/// How a [`Semaphore`] is opened.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
/// # let name = directory.path().join("builds");
/// let semaphore = wigwag::Semaphore::builder().permits(4).open(&name)?;
/// assert_eq!(semaphore.permits(), 4);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it opens"]
pub struct SemaphoreBuilder {
    permits: usize,
    shared_with_children: bool,
}

impl SemaphoreBuilder {
    /// How many permits there are, 1 to 4096; 1 unless stated otherwise.
    ///
    /// ```
    /// # use wigwag::{ErrorKind, Semaphore};
    /// let error = Semaphore::builder().permits(0).open("nothing").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    /// ```
    pub fn permits(mut self, permits: usize) -> SemaphoreBuilder {
        self.permits = permits;
        self
    }

    /// Whether the permits of this process stay taken, when it is killed, for as long as programs live that it has
    /// started.
    ///
    /// Without this they come back although a child still works on what they protect. With it, a descriptor is
    /// inherited by all that the process starts, and a permit comes back once the last of them has ended too. This is
    /// what `wigwag lock` does, and flock(1). Giving a permit back is not changed by it.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("deploy");
    /// let semaphore = wigwag::Semaphore::builder().shared_with_children(true).open(&name)?;
    /// let _permit = semaphore.acquire()?;
    /// std::process::Command::new("true").status().unwrap(); // has the permit, too
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shared_with_children(mut self, shared: bool) -> SemaphoreBuilder {
        self.shared_with_children = shared;
        self
    }

    /// Opens the semaphore, or makes it. See [`Semaphore::open`].
    ///
    /// ```
    /// # use wigwag::{ErrorKind, Semaphore};
    /// assert_eq!(Semaphore::builder().open("a/b").unwrap_err().kind(), ErrorKind::NameInvalid);
    /// ```
    pub fn open(self, name: impl AsRef<OsStr>) -> Result<Semaphore> {
        let permits = u32::try_from(self.permits).ok().filter(|permits| (1..=PERMITS_MAX).contains(permits));
        let permits = permits.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfiguration,
                format!("a semaphore with {} permits was asked for; 1 to {PERMITS_MAX} are possible", self.permits),
            )
        })?;
        let place = ServiceName::find(name.as_ref())?;
        let mut pauses_ms = LOST_PAUSES_MS.into_iter();
        let file = loop {
            let directory = place.own_directory()?;
            match PermitFile::open(directory, &place.file(".semaphore"), permits, self.shared_with_children) {
                // The process with the removed file may be about to close it, or to notice.
                Err(error) if error.kind() == ErrorKind::NameLost => match pauses_ms.next() {
                    Some(pause_ms) => std::thread::sleep(Duration::from_millis(pause_ms)),
                    None => return Err(error),
                },
                other => break other?,
            }
        };
        let last = AtomicU32::new(u32::from(file.me().id()) % permits); // not all begin with the same
        Ok(Semaphore { file, last, calls: Mutex::default() })
    }
}

impl Semaphore {
    /// Opens the semaphore of that name, or makes it with `permits` permits, 1 to 4096.
    ///
    /// A name leads to a file in the runtime directory of the user; a path that begins with `/`, `./` or `../` is taken
    /// as it is. The directory must be one that nobody else can write to.
    ///
    /// # Errors
    /// `ContractMismatch` if somebody has it open with another number of permits: the sentence has both. If nobody has,
    /// it begins afresh with this number, whatever killed processes left; what they held is told by
    /// [`Permit::recovered`]. `NameInvalid`, `PathInvalid` and `DirectoryUnsafe` as for servers; `TimedOut` if another
    /// process was stopped while it opened or closed it; `NameLost` if somebody has it open whose file was removed by
    /// another program: see [`check_name`](Semaphore::check_name).
    ///
    /// ```
    /// # use wigwag::{ErrorKind, Semaphore};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("connections");
    /// let semaphore = Semaphore::open(&name, 3)?;
    /// let error = Semaphore::open(&name, 4).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::ContractMismatch);
    /// assert!(error.to_string().contains("3 permits") && error.to_string().contains("4 permits"));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn open(name: impl AsRef<OsStr>, permits: usize) -> Result<Semaphore> {
        Semaphore::builder().permits(permits).open(name)
    }

    /// For what is rarely needed; [`open`](Semaphore::open) is the short form.
    ///
    /// ```
    /// let builder = wigwag::Semaphore::builder().permits(2).shared_with_children(true);
    /// # drop(builder);
    /// ```
    pub fn builder() -> SemaphoreBuilder {
        SemaphoreBuilder { permits: 1, shared_with_children: false }
    }

    /// Waits for a permit, however long it takes.
    ///
    /// # Errors
    /// `Forked` in a child that inherited the handle. `NameLost` if the file was removed by another program: see
    /// [`check_name`](Semaphore::check_name).
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("one"), 1)?;
    /// let permit = semaphore.acquire()?;
    /// assert_eq!(semaphore.available(), 0);
    /// drop(permit);
    /// assert_eq!(semaphore.available(), 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>> {
        self.acquire_until(None)
    }

    /// Takes a permit if one is free now. `Full` if none is, or if others wait and have precedence.
    ///
    /// A permit of a dead holder counts as free.
    ///
    /// ```
    /// # use wigwag::ErrorKind;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("one"), 1)?;
    /// let permit = semaphore.try_acquire()?;
    /// assert_eq!(semaphore.try_acquire().unwrap_err().kind(), ErrorKind::Full);
    /// # drop(permit);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>> {
        match self.try_take()? {
            Some(taken) => self.permit(taken),
            None => self.permit(self.try_slow(1)?[0]),
        }
    }

    /// Waits for a permit, but not longer than that: `TimedOut` then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use wigwag::ErrorKind;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("one"), 1)?;
    /// let permit = semaphore.acquire()?;
    /// let error = semaphore.acquire_timeout(Duration::from_millis(5)).unwrap_err();
    /// assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }));
    /// # drop(permit);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>> {
        self.acquire_until(clock::deadline_after(timeout))
    }

    /// Acquires `permits` permits, all or none, so two large requests cannot deadlock. Waiters are served in order: a
    /// later one waits even if enough permits for it are free.
    ///
    /// # Errors
    /// `InvalidConfiguration` if the semaphore does not have that many.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("four"), 4)?;
    /// let three = semaphore.acquire_many(3)?;
    /// assert_eq!((three.len(), semaphore.available()), (3, 1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn acquire_many(&self, permits: usize) -> Result<Permits<'_>> {
        self.acquire_many_until(permits, None)
    }

    /// Takes `permits` permits if they are free now, or none: `Full` then.
    ///
    /// ```
    /// # use wigwag::ErrorKind;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("four"), 4)?;
    /// let three = semaphore.try_acquire_many(3)?;
    /// assert_eq!(semaphore.try_acquire_many(2).unwrap_err().kind(), ErrorKind::Full);
    /// # drop(three);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_acquire_many(&self, permits: usize) -> Result<Permits<'_>> {
        let need = self.check_many(permits)?;
        self.permits_of(self.try_slow(need)?)
    }

    /// Waits for `permits` permits at once, for at most `timeout`: `TimedOut` then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("four"), 4)?;
    /// let all = semaphore.acquire_many_timeout(4, Duration::from_secs(1))?;
    /// # drop(all);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn acquire_many_timeout(&self, permits: usize, timeout: Duration) -> Result<Permits<'_>> {
        self.acquire_many_until(permits, clock::deadline_after(timeout))
    }

    /// How many permits are free now, those of dead holders included. In a forked child none is.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("four");
    /// assert_eq!(wigwag::Semaphore::open(&name, 4)?.available(), 4);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn available(&self) -> usize {
        if self.file.is_forked() {
            return 0;
        }
        self.sweep_if_due(SWEEP_EVERY_TRYING);
        self.file.table().free() as usize
    }

    /// How many permits there are in all.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("four");
    /// assert_eq!(wigwag::Semaphore::open(&name, 4)?.permits(), 4);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn permits(&self) -> usize {
        self.file.permits() as usize
    }

    /// Whether the name still leads to this semaphore. A holder that keeps a permit for long can ask before it does
    /// what cannot be undone. Each call that takes a permit looks as well, once in 50 milliseconds.
    ///
    /// Programs that remove old files (systemd-tmpfiles) are kept away while a semaphore is open. Where another program
    /// removes the file nevertheless, or the directory, a process that opens the name gets an error as long as somebody
    /// has the old file open ([`NameLost`](ErrorKind::NameLost) with the process), so that no permit is there twice;
    /// and a process that has the old file open gets the same error with its next call. Both need `/proc`; where the
    /// other process cannot be seen from here (another PID namespace, or one that is not dumpable), it is an event of
    /// `tracing` here, and this error in the process that has the old file.
    ///
    /// # Errors
    /// `NameLost`: others do not find this semaphore any more. `Forked` in a child that inherited the handle.
    ///
    /// ```
    /// # use wigwag::ErrorKind;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("one"), 1)?;
    /// let permit = semaphore.acquire()?;
    /// semaphore.check_name()?;                         // nobody else can have a permit of this name
    /// std::fs::remove_file(semaphore.path()).unwrap(); // somebody cleans up
    /// assert_eq!(semaphore.check_name().unwrap_err().kind(), ErrorKind::NameLost);
    /// assert_eq!(wigwag::Semaphore::open(semaphore.path(), 1).unwrap_err().kind(), ErrorKind::NameLost);
    /// # drop(permit);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn check_name(&self) -> Result<()> {
        if self.file.is_forked() {
            return Err(Error::forked());
        }
        self.file.check_name()
    }

    /// The file behind it.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("four");
    /// assert_eq!(wigwag::Semaphore::open(&name, 4)?.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> PathBuf {
        self.file.path()
    }

    // ---- for those who wait in another way --------------------------------------------------------------------------

    /// The words.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(super) fn table(&self) -> PermitTable<'_> {
        self.file.table()
    }

    /// Who this opening is in the words.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(super) fn me(&self) -> Holder {
        self.file.me()
    }

    #[cfg(all(feature = "tokio", not(loom)))]
    pub(super) fn is_forked(&self) -> bool {
        self.file.is_forked()
    }

    /// Looks at the name, if that is due.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(super) fn look_at_name(&self) -> Result<()> {
        if self.file.must_look_at_name() { self.file.check_name() } else { Ok(()) }
    }

    // ---- without waiting --------------------------------------------------------------------------------------------

    #[inline(always)]
    pub(super) fn try_take(&self) -> Result<Option<Taken>> {
        if self.file.is_forked() {
            return Err(Error::forked());
        }
        Ok(self.file.table().try_take(self.file.me(), self.last.load(Ordering::Relaxed)))
    }

    /// Nothing was free, or barging is forbidden: looks for dead holders, and tries once more.
    #[cold]
    fn try_slow(&self, need: u32) -> Result<Vec<Taken>> {
        if self.file.is_forked() {
            return Err(Error::forked());
        }
        if self.file.must_look_at_name() {
            self.file.check_name()?;
        }
        let table = self.file.table();
        let mut taken = Vec::with_capacity(need as usize);
        for attempt in 0..2 {
            if !table.is_closed() && table.take_many(self.file.me(), need, &mut taken) {
                return Ok(taken);
            }
            self.call_next(); // what was taken of too few went back
            if attempt == 0 {
                self.pass_over_the_late();
                self.sweep_if_due(SWEEP_EVERY_TRYING);
                table.settle();
            }
        }
        let (free, permits) = (table.free(), self.permits());
        let sentence = if free < need {
            format!("{need} of {permits} permits were asked for, and {free} are free now")
        } else {
            format!("{free} of {permits} permits are free, and others have waited for them longer")
        };
        Err(Error::new(ErrorKind::Full, sentence))
    }

    pub(super) fn check_many(&self, permits: usize) -> Result<u32> {
        let need = u32::try_from(permits).ok().filter(|need| (1..=self.file.permits()).contains(need));
        need.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfiguration,
                format!("{permits} permits at once were asked for; this semaphore has {}", self.permits()),
            )
        })
    }

    // ---- waiting ----------------------------------------------------------------------------------------------------

    #[inline(always)]
    fn acquire_until(&self, deadline: Option<Instant>) -> Result<Permit<'_>> {
        match self.try_take()? {
            Some(taken) => self.permit(taken),
            None => self.acquire_slow(deadline),
        }
    }

    #[cold]
    fn acquire_slow(&self, deadline: Option<Instant>) -> Result<Permit<'_>> {
        for _ in 0..SPINS {
            std::hint::spin_loop();
            if let Some(taken) = self.try_take()? {
                return self.permit(taken);
            }
        }
        let mut taken = None;
        self.wait(1, deadline, &mut || {
            taken = self.file.table().take(self.file.me());
            taken.is_some()
        })?;
        self.permit(taken.expect("what was waited for was taken"))
    }

    fn acquire_many_until(&self, permits: usize, deadline: Option<Instant>) -> Result<Permits<'_>> {
        let need = self.check_many(permits)?;
        let mut taken = Vec::with_capacity(permits);
        if !self.take_many_unless_others_wait(need, &mut taken)? {
            let table = self.file.table();
            self.wait(need, deadline, &mut || table.take_many(self.file.me(), need, &mut taken))?;
        }
        self.permits_of(taken)
    }

    /// No barging past the waiters: a waiter that needs many is passed over by those that need one, and it queues to
    /// prevent that.
    pub(super) fn take_many_unless_others_wait(&self, need: u32, taken: &mut Vec<Taken>) -> Result<bool> {
        if self.file.is_forked() {
            return Err(Error::forked());
        }
        let table = self.file.table();
        Ok(table.is_quiet() && table.take_many(self.file.me(), need, taken))
    }

    /// Waits in the queue until `take` has taken what was needed.
    fn wait(&self, need: u32, deadline: Option<Instant>, take: &mut dyn FnMut() -> bool) -> Result<()> {
        let begin = Instant::now();
        let table = self.file.table();
        let waiter = self.line_up(need, deadline)?;
        self.pass_over_the_late(); // from here on it is known since when a call stands unanswered
        let mut longest = SLICE;
        loop {
            table.announce(&waiter);
            if table.is_next(&waiter) && take() {
                table.leave(waiter);
                self.call_next();
                return Ok(());
            }
            let now = Instant::now();
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(now));
            if left.is_zero() {
                table.leave(waiter);
                self.call_next(); // it may have been called in the last moment
                return Err(self.timed_out(need));
            }
            // The first sleep is no longer than until barging may be forbidden.
            let until_fair = FAIR_AFTER.saturating_sub(now.duration_since(begin));
            if until_fair.is_zero() {
                table.close();
            }
            let slice = if until_fair.is_zero() { longest } else { until_fair };
            runtime_guard::is_about_to_sleep("waiting for a permit");
            if futex::sleep(table.call_of(&waiter), 0, left.min(slice)) {
                if let Err(error) = self.look_after_others() {
                    table.leave(waiter);
                    self.call_next();
                    return Err(error);
                }
                // The one who was called before this one is on its way, or stopped: that shows soon.
                longest = if table.is_behind_called(&waiter) && !table.is_next(&waiter) { SOON } else { SLICE };
            }
        }
    }

    /// What a waiter does between two sleeps: looks after the dead, the name, and those that were called and do not
    /// come.
    pub(super) fn look_after_others(&self) -> Result<()> {
        if !faults::is(Fault::MissingSweep) {
            self.sweep_if_due(SWEEP_EVERY_WAITING);
        }
        self.file.check_name()?;
        self.pass_over_the_late();
        self.call_next(); // whoever should have may have been killed
        Ok(())
    }

    /// Takes a waiter slot. While all are taken nobody is served in order: each slot that becomes free goes to the
    /// first that looks.
    fn line_up(&self, need: u32, deadline: Option<Instant>) -> Result<Waiter> {
        loop {
            if let Some(waiter) = self.line_up_now(need) {
                return Ok(waiter);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(self.timed_out(need));
            }
            std::thread::sleep(Duration::from_millis(1));
            self.sweep_if_due(SWEEP_EVERY_WAITING);
        }
    }

    /// Takes a waiter slot, if one is free.
    pub(super) fn line_up_now(&self, need: u32) -> Option<Waiter> {
        self.file.table().line_up(self.file.me(), need)
    }

    /// Calls whoever is next, and rings it.
    pub(super) fn call_next(&self) {
        if let Some(word) = self.file.table().call_next() {
            futex::ring(word);
        }
    }

    fn sweep_if_due(&self, every: Duration) {
        let table = self.file.table();
        if table.must_sweep(clock::now_ns(), every.as_nanos() as u64)
            && table.sweep(|holder| self.file.is_dead(holder)) > 0
        {
            self.call_next();
        }
    }

    /// Waiters that were called and do not come are passed over, so that what is free is not kept for them.
    pub(super) fn pass_over_the_late(&self) {
        let table = self.file.table();
        if table.is_quiet() {
            return;
        }
        let mut watch = sync::lock(&self.calls);
        if watch.look(&table, clock::now_ns()) {
            drop(watch);
            self.call_next();
        }
    }

    pub(super) fn timed_out(&self, need: u32) -> Error {
        let what = if need == 1 { "no permit".to_owned() } else { format!("no {need} permits at once") };
        Error::new(
            ErrorKind::TimedOut { maybe_executed: false },
            format!("{what} came free within the time allowed; {} has {}", shown(&self.path()), self.permits()),
        )
    }

    // ---- holding ----------------------------------------------------------------------------------------------------

    #[inline(always)]
    pub(super) fn permit(&self, taken: Taken) -> Result<Permit<'_>> {
        self.last.store(taken.index, Ordering::Relaxed);
        self.file.sign(taken.index);
        let permit = Permit { semaphore: self, taken };
        if self.file.must_look_at_name() {
            self.file.check_name()?; // it is given back
        }
        Ok(permit)
    }

    pub(super) fn permits_of(&self, taken: Vec<Taken>) -> Result<Permits<'_>> {
        taken.iter().for_each(|taken| self.file.sign(taken.index));
        let permits = Permits { semaphore: self, taken };
        if self.file.must_look_at_name() {
            self.file.check_name()?; // they are given back
        }
        Ok(permits)
    }

    #[inline(always)]
    pub(super) fn give_back(&self, taken: Taken) {
        if self.file.is_forked() {
            return; // it is the parent's
        }
        if self.file.table().give_back(taken.index) {
            self.call_next_slow();
        }
    }

    #[cold]
    fn call_next_slow(&self) {
        self.call_next();
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Semaphore")
            .field("path", &self.path())
            .field("permits", &self.permits())
            .finish_non_exhaustive()
    }
}

/// One permit of a [`Semaphore`], given back when it is dropped.
///
/// If its process dies, the permit comes back by itself. If it is forgotten (`std::mem::forget`), it comes back when
/// the `Semaphore` is dropped or the process ends.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
/// # let semaphore = wigwag::Semaphore::open(directory.path().join("one"), 1)?;
/// {
///     let _permit = semaphore.acquire()?;
///     // ... only this process is here ...
/// }
/// assert_eq!(semaphore.available(), 1);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a permit that is not kept is given back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    taken: Taken,
}

impl Permit<'_> {
    /// Whether the last holder of this permit died while it held it: what it protects may be half done.
    ///
    /// It is told once, to the next holder; if that one dies too, to the one after it. It is also true if the process
    /// was killed in the very moment between taking the permit and using it: never too seldom, at times too often.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("one"), 1)?;
    /// let permit = semaphore.acquire()?;
    /// assert!(!permit.recovered());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recovered(&self) -> bool {
        self.taken.recovered
    }

    /// Gives nothing back: the caller has what was taken.
    pub(super) fn keep(self) -> Taken {
        ManuallyDrop::new(self).taken
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Permit").field("recovered", &self.recovered()).finish_non_exhaustive()
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.give_back(self.taken);
    }
}

/// Several permits of a [`Semaphore`], taken together and given back together when this is dropped.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
/// # let semaphore = wigwag::Semaphore::open(directory.path().join("four"), 4)?;
/// let two = semaphore.acquire_many(2)?;
/// assert_eq!(two.len(), 2);
/// drop(two);
/// assert_eq!(semaphore.available(), 4);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "permits that are not kept are given back at once"]
pub struct Permits<'a> {
    semaphore: &'a Semaphore,
    taken: Vec<Taken>,
}

#[allow(clippy::len_without_is_empty, reason = "there is always one at least")]
impl Permits<'_> {
    /// How many they are.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("four"), 4)?;
    /// assert_eq!(semaphore.acquire_many(3)?.len(), 3);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// How many of them were held by somebody who died. See [`Permit::recovered`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let semaphore = wigwag::Semaphore::open(directory.path().join("four"), 4)?;
    /// assert_eq!(semaphore.acquire_many(4)?.recovered(), 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recovered(&self) -> usize {
        self.taken.iter().filter(|taken| taken.recovered).count()
    }

    /// Gives nothing back: the caller has what was taken.
    pub(super) fn keep(mut self) -> Vec<Taken> {
        mem::take(&mut self.taken)
    }
}

impl fmt::Debug for Permits<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Permits")
            .field("len", &self.len())
            .field("recovered", &self.recovered())
            .finish_non_exhaustive()
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        for taken in self.taken.drain(..) {
            self.semaphore.give_back(taken);
        }
    }
}
