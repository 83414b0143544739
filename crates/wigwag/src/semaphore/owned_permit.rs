//! Permits that keep their semaphore: for a thread or a task that outlives the function which acquired them.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::permits::table::Taken;
use crate::semaphore::semaphore::{Permit, Permits, Semaphore};

impl Semaphore {
    /// As [`acquire`](Semaphore::acquire), with a permit that keeps the semaphore and can be moved to another thread.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// use std::sync::Arc;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("builds");
    /// let semaphore = Arc::new(wigwag::Semaphore::open(&name, 2)?);
    /// let permit = semaphore.acquire_owned()?;
    /// let thread = std::thread::spawn(move || {
    ///     // ... builds ...
    ///     drop(permit);
    /// });
    /// thread.join().unwrap();
    /// assert_eq!(semaphore.available(), 2);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn acquire_owned(self: &Arc<Self>) -> Result<OwnedPermit> {
        self.acquire().map(|permit| OwnedPermit::of(self, permit))
    }

    /// As [`try_acquire`](Semaphore::try_acquire), with a permit that keeps the semaphore.
    ///
    /// # Errors
    /// As [`try_acquire`](Semaphore::try_acquire).
    ///
    /// ```
    /// # use wigwag::ErrorKind;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("builds");
    /// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 1)?);
    /// let permit = semaphore.try_acquire_owned()?;
    /// assert_eq!(semaphore.try_acquire_owned().unwrap_err().kind(), ErrorKind::Full);
    /// # drop(permit);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_acquire_owned(self: &Arc<Self>) -> Result<OwnedPermit> {
        self.try_acquire().map(|permit| OwnedPermit::of(self, permit))
    }

    /// As [`acquire_timeout`](Semaphore::acquire_timeout), with a permit that keeps the semaphore.
    ///
    /// # Errors
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("builds");
    /// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 1)?);
    /// let permit = semaphore.acquire_owned_timeout(std::time::Duration::from_secs(1))?;
    /// # drop(permit);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn acquire_owned_timeout(self: &Arc<Self>, timeout: Duration) -> Result<OwnedPermit> {
        self.acquire_timeout(timeout).map(|permit| OwnedPermit::of(self, permit))
    }

    /// As [`acquire_many`](Semaphore::acquire_many), with permits that keep the semaphore.
    ///
    /// # Errors
    /// As [`acquire_many`](Semaphore::acquire_many).
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("builds");
    /// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 4)?);
    /// let three = semaphore.acquire_many_owned(3)?;
    /// assert_eq!((three.len(), semaphore.available()), (3, 1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn acquire_many_owned(self: &Arc<Self>, permits: usize) -> Result<OwnedPermits> {
        self.acquire_many(permits).map(|permits| OwnedPermits::of(self, permits))
    }

    /// As [`try_acquire_many`](Semaphore::try_acquire_many), with permits that keep the semaphore.
    ///
    /// # Errors
    /// As [`try_acquire_many`](Semaphore::try_acquire_many).
    ///
    /// ```
    /// # use wigwag::ErrorKind;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("builds");
    /// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 4)?);
    /// let three = semaphore.try_acquire_many_owned(3)?;
    /// assert_eq!(semaphore.try_acquire_many_owned(2).unwrap_err().kind(), ErrorKind::Full);
    /// # drop(three);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_acquire_many_owned(self: &Arc<Self>, permits: usize) -> Result<OwnedPermits> {
        self.try_acquire_many(permits).map(|permits| OwnedPermits::of(self, permits))
    }

    /// As [`acquire_many_timeout`](Semaphore::acquire_many_timeout), with permits that keep the semaphore.
    ///
    /// # Errors
    /// As [`acquire_many_timeout`](Semaphore::acquire_many_timeout).
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("builds");
    /// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 4)?);
    /// let all = semaphore.acquire_many_owned_timeout(4, std::time::Duration::from_secs(1))?;
    /// # drop(all);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn acquire_many_owned_timeout(self: &Arc<Self>, permits: usize, timeout: Duration) -> Result<OwnedPermits> {
        self.acquire_many_timeout(permits, timeout).map(|permits| OwnedPermits::of(self, permits))
    }
}

/// One permit that keeps its [`Semaphore`]: a [`Permit`] that is `Send` and `'static`. It is given back when it is
/// dropped, by whichever thread or task has it then.
///
/// If its process dies, the permit comes back by itself. A thread or a task has no death of its own: as long as the
/// process lives and this is not dropped, the permit is held. The semaphore stays open until the last of them is
/// dropped.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
/// # let name = directory.path().join("one");
/// fn begin(name: &std::path::Path) -> wigwag::Result<wigwag::OwnedPermit> {
///     std::sync::Arc::new(wigwag::Semaphore::open(name, 1)?).acquire_owned() // the permit keeps the semaphore
/// }
///
/// let permit = begin(&name)?;
/// assert_eq!(wigwag::Semaphore::open(&name, 1)?.available(), 0);
/// drop(permit);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a permit that is not kept is given back at once"]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    taken: Taken,
}

impl OwnedPermit {
    /// Makes one of a permit of that semaphore.
    pub(super) fn of(semaphore: &Arc<Semaphore>, permit: Permit<'_>) -> OwnedPermit {
        OwnedPermit { semaphore: Arc::clone(semaphore), taken: permit.keep() }
    }

    /// Whether the last holder of this permit died while it held it. See [`Permit::recovered`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("one");
    /// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 1)?);
    /// assert!(!semaphore.acquire_owned()?.recovered());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recovered(&self) -> bool {
        self.taken.recovered
    }

    /// The semaphore that it is of.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("one");
    /// let permit = std::sync::Arc::new(wigwag::Semaphore::open(&name, 1)?).acquire_owned()?;
    /// permit.semaphore().check_name()?; // nobody else can have a permit of this name
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("OwnedPermit").field("recovered", &self.recovered()).finish_non_exhaustive()
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.semaphore.give_back(self.taken);
    }
}

/// Several permits that keep their [`Semaphore`]: [`Permits`] that are `Send` and `'static`. They are given back
/// together when this is dropped. See [`OwnedPermit`].
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
/// # let name = directory.path().join("four");
/// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 4)?);
/// let two = semaphore.acquire_many_owned(2)?;
/// std::thread::spawn(move || drop(two)).join().unwrap();
/// assert_eq!(semaphore.available(), 4);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "permits that are not kept are given back at once"]
pub struct OwnedPermits {
    semaphore: Arc<Semaphore>,
    taken: Vec<Taken>,
}

#[allow(clippy::len_without_is_empty, reason = "there is always one at least")]
impl OwnedPermits {
    /// Makes these of permits of that semaphore.
    pub(super) fn of(semaphore: &Arc<Semaphore>, permits: Permits<'_>) -> OwnedPermits {
        OwnedPermits { semaphore: Arc::clone(semaphore), taken: permits.keep() }
    }

    /// How many they are.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("four");
    /// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 4)?);
    /// assert_eq!(semaphore.acquire_many_owned(3)?.len(), 3);
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
    /// # let name = directory.path().join("four");
    /// let semaphore = std::sync::Arc::new(wigwag::Semaphore::open(&name, 4)?);
    /// assert_eq!(semaphore.acquire_many_owned(4)?.recovered(), 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recovered(&self) -> usize {
        self.taken.iter().filter(|taken| taken.recovered).count()
    }

    /// The semaphore that they are of.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    /// # let name = directory.path().join("four");
    /// let two = std::sync::Arc::new(wigwag::Semaphore::open(&name, 4)?).acquire_many_owned(2)?;
    /// assert_eq!(two.semaphore().permits(), 4);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }
}

impl fmt::Debug for OwnedPermits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("OwnedPermits")
            .field("len", &self.len())
            .field("recovered", &self.recovered())
            .finish_non_exhaustive()
    }
}

impl Drop for OwnedPermits {
    fn drop(&mut self) {
        for taken in mem::take(&mut self.taken) {
            self.semaphore.give_back(taken);
        }
    }
}
