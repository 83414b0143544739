//! What is said before a connect or a bind.

use std::ffi::OsString;
use std::time::Duration;

use pyo3::Borrowed;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};
use wigwag::{ConnectOptions, Error, Limits, ListenOptions, Wait};

use crate::errors::Failure;
use crate::wait::duration;

/// A name: text, bytes, or a path.
pub fn name_of(name: &Bound<'_, PyAny>) -> PyResult<OsString> {
    use std::os::unix::ffi::OsStringExt;
    if let Ok(bytes) = name.extract::<&[u8]>() {
        return Ok(OsString::from_vec(bytes.to_vec()));
    }
    name.extract::<std::path::PathBuf>().map(OsString::from).map_err(|_| {
        let kind = name.get_type().name().map(|kind| kind.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("a name is a str, bytes or a path, not {kind}"))
    })
}

/// How to wait.
pub fn wait_of(wait: &str) -> PyResult<Wait> {
    match wait {
        "adaptive" => Ok(Wait::Adaptive),
        "park" => Ok(Wait::Park),
        "spin" => Ok(Wait::Spin),
        _ => Err(PyValueError::new_err(format!("wait={wait:?}: it is 'adaptive', 'park' or 'spin'"))),
    }
}

/// The keyword arguments of those who connect.
pub struct ConnectWishes<'a> {
    /// Slots, and bytes in each: of the forms that have them.
    slots: Option<(Option<usize>, Option<usize>)>,
    timeout: Option<f64>,
    server_timeout: Option<f64>,
    wait: &'a str,
    server_user: Option<u32>,
    restarts: RestartWishes,
}

/// What becomes of a client whose server has ended: how long the next one is looked for, in seconds.
#[derive(Clone, Copy, Default)]
pub struct RestartWishes {
    pub reconnect: Option<f64>,
    pub follow_restarts: Option<f64>,
}

impl RestartWishes {
    /// Of the two only one may be wished for: the second does all that the first does.
    fn told_to(self, options: ConnectOptions) -> PyResult<ConnectOptions> {
        Ok(match (self.reconnect, self.follow_restarts) {
            (None, None) => options,
            (Some(time), None) => options.reconnect(duration(time, "a time for the next server (reconnect)")?),
            (None, Some(time)) => {
                options.follow_restarts(duration(time, "a time for the next server (follow_restarts)")?)
            }
            (Some(reconnect), Some(follow)) => {
                return Err(PyValueError::new_err(format!(
                    "reconnect={reconnect} and follow_restarts={follow}: give one of them; follow_restarts does all \
                     that reconnect does"
                )));
            }
        })
    }
}

impl<'a> ConnectWishes<'a> {
    /// Those of every form.
    pub fn new(
        timeout: Option<f64>,
        server_timeout: Option<f64>,
        wait: &'a str,
        server_user: Option<u32>,
    ) -> ConnectWishes<'a> {
        let restarts = RestartWishes::default();
        ConnectWishes { slots: None, timeout, server_timeout, wait, server_user, restarts }
    }

    /// Those of a form that has slots, too.
    pub fn slots(self, slots: Option<usize>, capacity: Option<usize>) -> ConnectWishes<'a> {
        ConnectWishes { slots: Some((slots, capacity)), ..self }
    }

    /// Those of a client, too.
    pub fn restarts(self, restarts: RestartWishes) -> ConnectWishes<'a> {
        ConnectWishes { restarts, ..self }
    }

    /// As they were given, for a pickle.
    pub fn as_dict(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let dict = PyDict::new(py);
        if let Some((slots, capacity)) = self.slots {
            dict.set_item("slots", slots)?;
            dict.set_item("capacity", capacity)?;
        }
        dict.set_item("timeout", self.timeout)?;
        dict.set_item("server_timeout", self.server_timeout)?;
        dict.set_item("wait", self.wait)?;
        dict.set_item("server_user", self.server_user)?;
        Ok(dict.unbind())
    }

    /// Connects while other threads run, and Ctrl-C is heard.
    pub fn connect<T: Send + 'static>(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        connect: impl FnOnce(ConnectOptions, OsString) -> Result<T, Error> + Send + 'static,
    ) -> PyResult<T> {
        let name = name_of(name)?;
        let mut options = ConnectOptions::default().wait(wait_of(self.wait)?);
        let (slots, capacity) = self.slots.unwrap_or_default();
        if let Some(slots) = slots {
            options = options.slots(slots);
        }
        if let Some(capacity) = capacity {
            options = options.capacity(capacity);
        }
        if let Some(uid) = self.server_user {
            options = options.server_user(uid);
        }
        let timeout = self.timeout.map(|timeout| duration(timeout, "a timeout")).transpose()?;
        if let Some(timeout) = timeout {
            options = options.timeout(timeout);
        }
        let server_timeout = self.server_timeout.map(|timeout| duration(timeout, "a server_timeout")).transpose()?;
        if let Some(timeout) = server_timeout {
            options = options.server_timeout(timeout);
        }
        let options = self.restarts.told_to(options)?;
        crate::patience::in_thread(py, move || connect(options, name))
    }
}

/// How long a former server is given to let the name go, if one is to be replaced.
#[derive(Clone, Copy)]
pub struct Replace(Option<Duration>);

/// What `True` says.
const REPLACED_WITHIN: Duration = Duration::from_secs(5);

impl<'py> FromPyObject<'_, 'py> for Replace {
    type Error = PyErr;

    /// Seconds, or whether at all: `True` is a number to Python, and would be one second.
    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Replace> {
        if let Ok(whether) = given.cast::<PyBool>() {
            return Ok(Replace(whether.is_true().then_some(REPLACED_WITHIN)));
        }
        let time = duration(given.extract::<f64>()?, "a time for the former server (replace)")?;
        Ok(Replace(Some(time)))
    }
}

/// The keyword arguments of those who bind.
pub struct ListenWishes {
    pub slots: Option<usize>,
    pub capacity: Option<usize>,
    pub max_sessions: Option<usize>,
    pub max_bytes_total: Option<usize>,
    pub wait: Wait,
    pub replace: Option<Replace>,
    pub allow_users: Vec<u32>,
    pub allow_groups: Vec<u32>,
}

impl ListenWishes {
    pub fn options(&self) -> PyResult<ListenOptions> {
        let mut limits = Limits::default();
        if let Some(slots) = self.slots {
            limits = limits.slots(slots);
        }
        if let Some(capacity) = self.capacity {
            limits = limits.capacity(capacity);
        }
        if let Some(sessions) = self.max_sessions {
            limits = limits.max_sessions(sessions);
        }
        if let Some(bytes) = self.max_bytes_total {
            limits = limits.max_bytes_total(bytes);
        }
        let mut options = ListenOptions::default().limits(limits).wait(self.wait);
        if !self.allow_users.is_empty() || !self.allow_groups.is_empty() {
            let mut access = wigwag::Access::default();
            for uid in &self.allow_users {
                access = access.allow_user(*uid);
            }
            for gid in &self.allow_groups {
                access = access.allow_group(*gid);
            }
            options = options.access(access);
        }
        if let Some(time) = self.replace.and_then(|replace| replace.0) {
            options = options.replace(time);
        }
        Ok(options)
    }
}

/// How a handle is pickled: as its class, its name and its wishes.
pub fn reduced<'py>(
    handle: &Bound<'py, PyAny>,
    name: &Py<PyAny>,
    wishes: &Py<PyDict>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = handle.py();
    let again = py.import("wigwag._handles")?.getattr("connect_again")?;
    let arguments =
        PyTuple::new(py, [handle.get_type().into_any(), name.bind(py).clone(), wishes.bind(py).clone().into_any()])?;
    PyTuple::new(py, [again, arguments.into_any()])
}

/// An error of the library as Python's.
pub fn raised<T>(outcome: Result<T, Error>) -> PyResult<T> {
    Ok(outcome.map_err(Failure::from)?)
}
