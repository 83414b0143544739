//! What runs, seen from outside: for `wigwag.observe`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use wigwag::Form;
use wigwag::observe::{Counts, Observer};
use wigwag::runtime::RuntimeDirectory;

use crate::names::{name_of, raised};

fn counted(dict: &Bound<'_, PyDict>, counts: &Counts) -> PyResult<()> {
    dict.set_item("calls", counts.calls)?;
    dict.set_item("bytes_in", counts.bytes_in)?;
    dict.set_item("bytes_out", counts.bytes_out)?;
    dict.set_item("failed", counts.failed)
}

/// The names in the user's runtime directory, each with its ``kind`` and ``state``.
#[pyfunction]
pub fn list_services(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let entries = raised(py.detach(|| RuntimeDirectory::find().entries()))?;
    let list = PyList::empty(py);
    for entry in entries {
        let dict = PyDict::new(py);
        dict.set_item("name", entry.name())?;
        dict.set_item("kind", format!("{:?}", entry.kind()).to_lowercase())?;
        dict.set_item("state", format!("{:?}", entry.state()).to_lowercase())?;
        list.append(dict)?;
    }
    Ok(list)
}

/// What a server does now: its process, its counts, its sessions.
#[pyfunction]
pub fn snapshot<'py>(py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let name = name_of(name)?;
    let (observer, seen) = raised(py.detach(|| {
        let observer = Observer::open(&name)?;
        let seen = observer.snapshot()?;
        Ok((observer, seen))
    }))?;
    let service = observer.service();
    let dict = PyDict::new(py);
    dict.set_item("path", service.path.as_os_str())?;
    dict.set_item("form", format!("{:?}", service.form).to_lowercase())?;
    dict.set_item("pid", service.pid)?;
    dict.set_item("program", &service.program)?;
    dict.set_item("age", service.age().as_secs_f64())?;
    dict.set_item("state", format!("{:?}", seen.state).to_lowercase())?;
    dict.set_item("waiting", seen.waiting())?;
    dict.set_item("in_flight", seen.in_flight())?;
    dict.set_item("oldest_waiting", seen.oldest_waiting().map(|age| age.as_secs_f64()))?;
    dict.set_item("blocked", seen.blocked())?;
    counted(&dict, &seen.counts)?;
    if service.form == Form::Broadcast {
        dict.set_item("published", seen.published)?;
        dict.set_item("cut_off", seen.cut_off)?;
    }
    if let Some(board) = &seen.board {
        dict.set_item("history", board.history)?;
        dict.set_item("capacity", board.capacity)?;
        dict.set_item("pool_bytes", board.bytes)?;
        dict.set_item("is_lossless", board.is_lossless)?;
    }
    let sessions = PyList::empty(py);
    for session in &seen.sessions {
        let of_session = PyDict::new(py);
        of_session.set_item("id", session.id)?;
        of_session.set_item("pid", session.peer.pid)?;
        of_session.set_item("uid", session.peer.uid)?;
        of_session.set_item("program", session.program())?;
        of_session.set_item("age", session.age.as_secs_f64())?;
        of_session.set_item("slots", session.slots)?;
        of_session.set_item("capacity", session.capacity)?;
        of_session.set_item("in_flight", session.in_flight)?;
        counted(&of_session, &session.counts)?;
        if let Some(subscription) = &session.subscription {
            of_session.set_item("lag", subscription.lag)?;
            of_session.set_item("received", subscription.received)?;
            of_session.set_item("lost", subscription.lost)?;
            of_session.set_item("holds", subscription.holds)?;
            of_session.set_item("outlived_holds", subscription.outlived_holds)?;
            of_session.set_item("is_asleep", subscription.is_asleep)?;
        }
        sessions.append(of_session)?;
    }
    dict.set_item("sessions", sessions)?;
    Ok(dict)
}
