//! A semaphore whose waiters are tasks.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::coop;

use crate::error::{Error, Result};
use crate::semaphore::owned_permit::{OwnedPermit, OwnedPermits};
use crate::semaphore::semaphore::{self, SemaphoreBuilder};
use crate::semaphore::tokio::waiters::Waiters;
use crate::sys::async_fd::check_runtime;
use crate::sys::clock;

/// A counting semaphore with a name, whose waiters are tasks. Processes that use the
/// [blocking one](crate::Semaphore) under the same name share it, and all that is said there holds here.
///
/// Its permits keep the semaphore ([`OwnedPermit`], [`OwnedPermits`]): they are `Send` and `'static`, and can be moved
/// into another task. Clones share one opening, which ends with the last clone, permit and future.
///
/// **Cancellation.** Each future here can be dropped whenever it has not returned. It has no permit then, and its task
/// no place in the queue: those behind it go on at once. To wait anew is to wait behind all others.
///
/// **When a holder dies,** a task that waits has its permits within 100 milliseconds, and is told by
/// [`OwnedPermit::recovered`]. A task has no death of its own: a permit that it holds comes back when the permit is
/// dropped, as by a panic of the task or a shutdown of its runtime, or when its process ends.
///
/// **What it costs.** While no task waits, nothing runs. A waiter of a semaphore sleeps in a futex, since there is no
/// server that could ring, and no reactor can watch a futex. So the first task that has to wait begins a thread, one
/// for all tasks of this opening, which sleeps for them as a blocking waiter does, and without a limit once none waits.
/// It ends with the opening: the drop of the last clone waits for that, some microseconds.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("permits").path;
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let semaphore = wigwag::tokio::Semaphore::open(name, 2).await?;
/// let permit = semaphore.acquire().await?;
/// let task = tokio::spawn(async move {
///     // ... works on what two may work on at a time ...
///     drop(permit);
/// });
/// task.await.unwrap();
/// assert_eq!(semaphore.available(), 2);
/// # wigwag::Result::Ok(()) })?;
/// # wigwag::Result::Ok(())
/// ```
///
/// After a `fork` the child has nothing of it: every call is an error there.
#[derive(Clone)]
pub struct Semaphore(Arc<Opening>);

/// What the clones share. The thread of the waiters knows those, and not this: so this is dropped while it runs.
struct Opening(Arc<Waiters>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Semaphore {
    /// Opens the semaphore of that name, or makes it with `permits` permits, 1 to 4096. What an opening waits for, a
    /// process that opens or closes the same name just now, is waited for in a thread of the runtime that may block.
    ///
    /// # Errors
    /// As [`wigwag::Semaphore::open`](crate::Semaphore::open);
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::open(name, 3).await?;
    /// let error = wigwag::tokio::Semaphore::open(name, 4).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::ContractMismatch);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn open(name: impl AsRef<OsStr>, permits: usize) -> Result<Semaphore> {
        Semaphore::builder().permits(permits).open_async(name).await
    }

    /// For what is rarely needed: end with [`open_async`](SemaphoreBuilder::open_async).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::builder().permits(2).open_async(name).await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn builder() -> SemaphoreBuilder {
        semaphore::Semaphore::builder()
    }

    /// Makes one of a blocking semaphore, which can still be used as one.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let blocking = std::sync::Arc::new(wigwag::Semaphore::open(name, 1)?);
    /// let semaphore = wigwag::tokio::Semaphore::from_blocking(std::sync::Arc::clone(&blocking));
    /// let permit = semaphore.acquire().await?;
    /// assert_eq!(blocking.available(), 0);
    /// # drop(permit);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn from_blocking(semaphore: Arc<semaphore::Semaphore>) -> Semaphore {
        Semaphore(Arc::new(Opening(Waiters::new(semaphore))))
    }

    /// Waits for a permit, however long it takes. A future that is dropped has taken none.
    ///
    /// # Errors
    /// As [`wigwag::Semaphore::acquire`](crate::Semaphore::acquire); [`Io`](crate::ErrorKind::Io) if there is no thread
    /// to be had that sleeps for the tasks.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::open(name, 1).await?;
    /// let permit = semaphore.acquire().await?;
    /// tokio::select! {
    ///     _ = semaphore.acquire() => unreachable!("there is one permit"),
    ///     _ = std::future::ready(()) => {} // the future is dropped: nobody waits any more
    /// }
    /// drop(permit);
    /// assert!(semaphore.try_acquire().is_ok());
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn acquire(&self) -> Result<OwnedPermit> {
        coop::consume_budget().await; // others have their turn, too, where permits are always free
        let semaphore = self.blocking();
        let mut taken = semaphore.try_take()?;
        if taken.is_none() {
            let mut take = || {
                taken = semaphore.table().take(semaphore.me());
                taken.is_some()
            };
            self.waiters().wait(1, &mut take).await?;
        }
        let permit = semaphore.permit(taken.expect("what was waited for was taken"))?;
        Ok(OwnedPermit::of(semaphore, permit))
    }

    /// Takes a permit if one is free now: as [`wigwag::Semaphore::try_acquire`](crate::Semaphore::try_acquire), which
    /// says when it is `Full`.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::open(name, 1).await?;
    /// let permit = semaphore.try_acquire()?;
    /// assert_eq!(semaphore.try_acquire().unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # drop(permit);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn try_acquire(&self) -> Result<OwnedPermit> {
        self.blocking().try_acquire_owned()
    }

    /// Waits for a permit, but not longer than that: `TimedOut` then.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled, or outside of a runtime.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::open(name, 1).await?;
    /// let permit = semaphore.acquire().await?;
    /// let error = semaphore.acquire_timeout(std::time::Duration::from_millis(5)).await.unwrap_err();
    /// assert!(matches!(error.kind(), wigwag::ErrorKind::TimedOut { .. }));
    /// # drop(permit);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<OwnedPermit> {
        match clock::deadline_after(timeout) {
            Some(at) => match tokio::time::timeout_at(at.into(), self.acquire()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.blocking().timed_out(1)),
            },
            None => self.acquire().await,
        }
    }

    /// Acquires `permits` permits, all or none; see
    /// [`wigwag::Semaphore::acquire_many`](crate::Semaphore::acquire_many). A future that is dropped has taken none.
    ///
    /// # Errors
    /// As there, and as [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::open(name, 4).await?;
    /// let three = semaphore.acquire_many(3).await?;
    /// assert_eq!((three.len(), semaphore.available()), (3, 1));
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn acquire_many(&self, permits: usize) -> Result<OwnedPermits> {
        coop::consume_budget().await; // as above
        let semaphore = self.blocking();
        let need = semaphore.check_many(permits)?;
        let mut taken = Vec::with_capacity(permits);
        if !semaphore.take_many_unless_others_wait(need, &mut taken)? {
            let mut take = || semaphore.table().take_many(semaphore.me(), need, &mut taken);
            self.waiters().wait(need, &mut take).await?;
        }
        Ok(OwnedPermits::of(semaphore, semaphore.permits_of(taken)?))
    }

    /// Takes `permits` permits if they are free now, or none: `Full` then.
    ///
    /// # Errors
    /// As [`wigwag::Semaphore::try_acquire_many`](crate::Semaphore::try_acquire_many).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::open(name, 4).await?;
    /// let three = semaphore.try_acquire_many(3)?;
    /// assert_eq!(semaphore.try_acquire_many(2).unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # drop(three);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn try_acquire_many(&self, permits: usize) -> Result<OwnedPermits> {
        self.blocking().try_acquire_many_owned(permits)
    }

    /// Waits for `permits` permits at once, for at most `timeout`: `TimedOut` then.
    ///
    /// # Errors
    /// As [`acquire_many`](Semaphore::acquire_many).
    ///
    /// # Panics
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::open(name, 4).await?;
    /// let all = semaphore.acquire_many_timeout(4, std::time::Duration::from_secs(1)).await?;
    /// # drop(all);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn acquire_many_timeout(&self, permits: usize, timeout: Duration) -> Result<OwnedPermits> {
        match clock::deadline_after(timeout) {
            Some(at) => match tokio::time::timeout_at(at.into(), self.acquire_many(permits)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.blocking().timed_out(u32::try_from(permits).unwrap_or(u32::MAX))),
            },
            None => self.acquire_many(permits).await,
        }
    }

    /// How many permits are free now, those of dead holders included. In a forked child none is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Semaphore::open(name, 4).await?.available(), 4);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn available(&self) -> usize {
        self.blocking().available()
    }

    /// How many permits there are in all.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Semaphore::open(name, 4).await?.permits(), 4);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn permits(&self) -> usize {
        self.blocking().permits()
    }

    /// Whether the name still leads to this semaphore: see
    /// [`wigwag::Semaphore::check_name`](crate::Semaphore::check_name). Tasks that wait look, too, and get the error.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::tokio::Semaphore::open(name, 1).await?;
    /// semaphore.check_name()?;
    /// std::fs::remove_file(semaphore.path()).unwrap(); // somebody cleans up
    /// assert_eq!(semaphore.check_name().unwrap_err().kind(), wigwag::ErrorKind::NameLost);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn check_name(&self) -> Result<()> {
        self.blocking().check_name()
    }

    /// The file behind it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Semaphore::open(name, 4).await?.path(), *name);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn path(&self) -> PathBuf {
        self.blocking().path()
    }

    fn waiters(&self) -> &Arc<Waiters> {
        &self.0.0
    }

    fn blocking(&self) -> &Arc<semaphore::Semaphore> {
        self.waiters().semaphore()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.blocking().fmt(out)
    }
}

impl SemaphoreBuilder {
    /// Opens the semaphore for tasks, or makes it: as [`open`](SemaphoreBuilder::open), with a
    /// [`tokio::Semaphore`](Semaphore).
    ///
    /// # Errors
    /// As [`tokio::Semaphore::open`](Semaphore::open).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("permits").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let semaphore = wigwag::Semaphore::builder().permits(4).open_async(name).await?;
    /// assert_eq!(semaphore.permits(), 4);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn open_async(self, name: impl AsRef<OsStr>) -> Result<Semaphore> {
        check_runtime()?;
        let name = name.as_ref().to_owned();
        let opening = tokio::task::spawn_blocking(move || self.open(name));
        // It fails when the runtime shuts down before it has begun, or if the opening panics.
        let opened = opening.await.map_err(|error| Error::io("open a semaphore", io::Error::other(error)))?;
        Ok(Semaphore::from_blocking(Arc::new(opened?)))
    }
}
