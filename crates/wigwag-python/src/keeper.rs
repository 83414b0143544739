//! A keeper of queues: who has the messages of the dead.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::names::name_of;
use crate::turn::Turn;

/// Keeps the messages of queues whose receivers name it (``Receiver(kept_by=...)``) until both sides of a session are
/// dead, and hands on what was not acknowledged to whoever has the queue's name next.
///
/// It has to be in a process of its own, and keeps as long as that lives: one in the process of a sender or a receiver
/// ends with it. ``wigwag queue keep NAME`` is such a process, too. One does for any number of queues. It keeps up to
/// ``max_sessions`` sessions (4096) with ``max_bytes`` bytes together (64 GiB of address space; memory is used as
/// senders write).
///
/// Raises ``NameTakenError``, ``NameInvalidError``, ``DirectoryUnsafeError``.
///
/// >>> import wigwag
/// >>> name = wigwag.testing.name('jobs')
/// >>> with wigwag.Keeper(name) as keeper:
/// ...     receiver = wigwag.Receiver(name, kept_by=name)
/// ...     keeper.stats()['sessions']
/// 0
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Keeper {
    turn: Turn<wigwag::Keeper>,
    path: PathBuf,
}

#[pymethods]
impl Keeper {
    #[new]
    #[pyo3(signature = (name, *, max_sessions=None, max_bytes=None))]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        max_sessions: Option<usize>,
        max_bytes: Option<u64>,
    ) -> PyResult<Keeper> {
        let mut builder = wigwag::Keeper::builder();
        if let Some(sessions) = max_sessions {
            builder = builder.max_sessions(sessions);
        }
        if let Some(bytes) = max_bytes {
            builder = builder.max_bytes(bytes);
        }
        let name = name_of(name)?;
        let keeper = crate::patience::in_thread(py, move || builder.start(name))?;
        Ok(Keeper { path: keeper.path().to_owned(), turn: Turn::new(keeper) })
    }

    /// What it has and has done, as numbers: ``receivers``, ``sessions`` and ``bytes`` now; messages of the dead that
    /// are ``left``; ``kept`` sessions ever, ``refused``; messages ``handed_on``, and ``redelivered`` of these;
    /// ``unreadable``.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.turn.borrow(py, "uses this keeper")?.get().stats();
        let dict = PyDict::new(py);
        dict.set_item("receivers", stats.receivers)?;
        dict.set_item("sessions", stats.sessions)?;
        dict.set_item("bytes", stats.bytes)?;
        dict.set_item("left", stats.left)?;
        dict.set_item("kept", stats.kept)?;
        dict.set_item("refused", stats.refused)?;
        dict.set_item("handed_on", stats.handed_on)?;
        dict.set_item("redelivered", stats.redelivered)?;
        dict.set_item("unreadable", stats.unreadable)?;
        Ok(dict)
    }

    /// Keeps nothing any more, and gives the name back. Closing twice does nothing.
    fn close(&self, py: Python<'_>) {
        let keeper = self.turn.close();
        py.detach(|| drop(keeper));
    }

    /// Whether ``close`` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.turn.is_closed()
    }

    /// Where its socket is.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes it.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let state = match self.turn.peek(wigwag::Keeper::stats) {
            Some(stats) => format!("{} sessions, {} messages left", stats.sessions, stats.left),
            None => "closed".into(),
        };
        format!("<wigwag.Keeper at {}, {state}>", self.path.display())
    }
}
