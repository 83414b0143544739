//! Named permits.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wigwag::{ErrorKind, OwnedPermits};

use crate::errors::{Failure, timed_out};
use crate::names::{name_of, raised};
use crate::patience;
use crate::turn::lock;
use crate::wait::Limit;

/// Permits with a name, for processes that have nothing else in common: a lock, with one permit, or a limit.
///
/// There is no server: the first who opens the name makes it, with so many ``permits``. A process that is killed gives
/// back what it had, and the next holder learns of it (``Permit.recovered``).
///
/// Raises ``NameInvalidError``, ``DirectoryUnsafeError``, ``InvalidConfigurationError`` for another number of permits
/// than it has.
///
/// >>> import wigwag
/// >>> lock = wigwag.Semaphore(wigwag.testing.name('build'), 1)
/// >>> with lock.acquire(timeout=10) as permit:
/// ...     permit.recovered, lock.available
/// (0, 0)
/// >>> lock.available
/// 1
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Semaphore {
    semaphore: Arc<wigwag::Semaphore>,
    name: Py<PyAny>,
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (name, permits=1))]
    fn new(py: Python<'_>, name: &Bound<'_, PyAny>, permits: usize) -> PyResult<Semaphore> {
        let given = name_of(name)?;
        let semaphore = patience::in_thread(py, move || wigwag::Semaphore::open(given, permits))?;
        Ok(Semaphore { semaphore: Arc::new(semaphore), name: name.clone().unbind() })
    }

    /// Waits for ``permits`` permits, all at once, up to ``timeout`` seconds. Give them back with ``release()``, or use
    /// them in a ``with`` block.
    ///
    /// Raises ``TimedOut``, ``FullError`` (with ``timeout=0``), ``NameLostError``, ``ForkedError``.
    #[pyo3(signature = (permits=1, *, timeout=None))]
    fn acquire(&self, py: Python<'_>, permits: usize, timeout: Option<f64>) -> PyResult<Permit> {
        let limit = Limit::after(timeout)?;
        match self.semaphore.try_acquire_many_owned(permits) {
            Ok(permits) => return Ok(Permit::of(permits)),
            Err(error) if error.kind() == ErrorKind::Full && timeout != Some(0.0) => {}
            Err(error) => return Err(Failure::from(error).into()),
        }
        let found = patience::in_slices(py, limit, |slice| self.semaphore.acquire_many_owned_timeout(permits, slice))?;
        match found {
            Some(permits) => Ok(Permit::of(permits)),
            None => {
                let seconds = timeout.unwrap_or(f64::INFINITY);
                Err(timed_out(py, &format!("no permit came free within {seconds} s"), false))
            }
        }
    }

    /// The permits if they are free, else ``None``.
    #[pyo3(signature = (permits=1))]
    fn try_acquire(&self, permits: usize) -> PyResult<Option<Permit>> {
        match self.semaphore.try_acquire_many_owned(permits) {
            Ok(permits) => Ok(Some(Permit::of(permits))),
            Err(error) if error.kind() == ErrorKind::Full => Ok(None),
            Err(error) => raised(Err(error)),
        }
    }

    /// How many are free now.
    #[getter]
    fn available(&self) -> usize {
        self.semaphore.available()
    }

    /// How many there are.
    #[getter]
    fn permits(&self) -> usize {
        self.semaphore.permits()
    }

    /// Where its file is.
    #[getter]
    fn path(&self) -> PathBuf {
        self.semaphore.path()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let wishes = PyDict::new(slf.py());
        wishes.set_item("permits", slf.get().semaphore.permits())?;
        crate::names::reduced(slf.as_any(), &slf.get().name, &wishes.unbind())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = self.name.bind(py).repr()?;
        Ok(format!("<wigwag.Semaphore {name}, {} of {} permits free>", self.available(), self.permits()))
    }
}

/// Permits of a semaphore, until they are released or garbage. Made by ``Semaphore.acquire``.
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Permit {
    permits: Mutex<Option<OwnedPermits>>,
    recovered: usize,
    count: usize,
}

impl Permit {
    fn of(permits: OwnedPermits) -> Permit {
        Permit { recovered: permits.recovered(), count: permits.len(), permits: Mutex::new(Some(permits)) }
    }
}

#[pymethods]
impl Permit {
    /// Gives them back. Releasing twice does nothing.
    fn release(&self) {
        let permits = lock(&self.permits).take();
        drop(permits);
    }

    /// How many of them a process had that was killed: what they protect may be half done.
    #[getter]
    fn recovered(&self) -> usize {
        self.recovered
    }

    /// How many they are.
    #[getter]
    fn count(&self) -> usize {
        self.count
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Gives them back.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        self.release();
    }

    fn __repr__(&self) -> String {
        let state = if lock(&self.permits).is_some() { "held" } else { "released" };
        format!("<wigwag.Permit of {}, {state}>", self.count)
    }
}
