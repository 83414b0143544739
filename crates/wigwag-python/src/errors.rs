//! The library's errors as exceptions: the classes are those of `wigwag._errors`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use wigwag::{Error, ErrorKind};

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What went wrong: in the library, or in Python while its signals were looked at.
#[derive(Debug)]
pub enum Failure {
    Library(Error),
    Python(PyErr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Library(error)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Failure {
        Failure::Python(error)
    }
}

impl From<std::io::Error> for Failure {
    /// A stream's errors have the library's inside.
    fn from(error: std::io::Error) -> Failure {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            if let Some(Ok(inner)) = error.into_inner().map(|inner| inner.downcast::<Error>()) {
                return Failure::Library(*inner);
            }
            return Failure::Python(pyo3::exceptions::PyOSError::new_err("a stream failed"));
        }
        Failure::Python(error.into())
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> PyErr {
        match failure {
            Failure::Library(error) => Python::attach(|py| of_library(py, &error)),
            Failure::Python(error) => error,
        }
    }
}

/// The name of a kind, and whether the request may have been executed.
fn described(kind: ErrorKind) -> (&'static str, bool) {
    match kind {
        ErrorKind::NameInvalid => ("NameInvalid", false),
        ErrorKind::PathInvalid => ("PathInvalid", false),
        ErrorKind::DirectoryUnsafe => ("DirectoryUnsafe", false),
        ErrorKind::NotRunning => ("NotRunning", false),
        ErrorKind::NameTaken => ("NameTaken", false),
        ErrorKind::NameLost => ("NameLost", false),
        ErrorKind::Refused => ("Refused", false),
        ErrorKind::Busy => ("Busy", false),
        ErrorKind::ContractMismatch => ("ContractMismatch", false),
        ErrorKind::VersionMismatch => ("VersionMismatch", false),
        ErrorKind::CapacityExceeded { .. } => ("CapacityExceeded", false),
        ErrorKind::Full => ("Full", false),
        ErrorKind::NotAgreed => ("NotAgreed", false),
        ErrorKind::TimedOut { maybe_executed } => ("TimedOut", maybe_executed),
        ErrorKind::PeerDied { maybe_executed } => ("PeerDied", maybe_executed),
        ErrorKind::ServerClosed { maybe_executed } => ("ServerClosed", maybe_executed),
        ErrorKind::Aborted => ("Aborted", true),
        ErrorKind::HandlerFailed => ("HandlerFailed", true),
        ErrorKind::HandlerPanicked => ("HandlerPanicked", true),
        ErrorKind::Unanswered => ("Unanswered", true),
        ErrorKind::Ended => ("Ended", false),
        ErrorKind::Forked => ("Forked", false),
        ErrorKind::Violation => ("Violation", true),
        ErrorKind::Encoding => ("Encoding", false),
        ErrorKind::InvalidConfiguration => ("InvalidConfiguration", false),
        ErrorKind::Io => ("Io", true),
        _ => ("Other", true),
    }
}

/// The exception that an error of the library becomes.
pub fn of_library(py: Python<'_>, error: &Error) -> PyErr {
    let (kind, maybe_executed) = described(error.kind());
    made(py, kind, &error.to_string(), maybe_executed, error.os_error())
}

/// An exception of a kind.
pub fn of_kind(py: Python<'_>, kind: &str, text: &str) -> PyErr {
    made(py, kind, text, false, None)
}

fn made(py: Python<'_>, kind: &str, text: &str, maybe_executed: bool, errno: Option<i32>) -> PyErr {
    let make = MAKE.get_or_try_init(py, || Ok(py.import("wigwag._errors")?.getattr("make")?.unbind()));
    match make.and_then(|make: &Py<PyAny>| make.bind(py).call1((kind, text, maybe_executed, errno))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// No time is left.
pub fn timed_out(py: Python<'_>, text: &str, maybe_executed: bool) -> PyErr {
    made(py, "TimedOut", text, maybe_executed, None)
}
