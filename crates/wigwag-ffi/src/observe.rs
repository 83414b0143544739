//! What runs, as others see it.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

use library::Form;
use library::observe::{Observer, ProcessState};

use crate::code::wigwag_code;
use crate::failure::{Failure, Result, guarded, wigwag_error};
use crate::given::{self, User};

/// The form of a service: calls and replies.
pub const WIGWAG_FORM_EXCHANGE: c_int = 1;
/// The form of a service: messages one way.
pub const WIGWAG_FORM_QUEUE: c_int = 2;
/// The form of a service: bytes both ways.
pub const WIGWAG_FORM_STREAM: c_int = 3;
/// The form of a service: messages to all who listen.
pub const WIGWAG_FORM_BROADCAST: c_int = 4;
/// The form of a service: one that this version of the interface does not know.
pub const WIGWAG_FORM_OTHER: c_int = 0;

/// What somebody who is no client sees of a service: see wigwag_inspect(). It costs the service nothing.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_service {
    /// sizeof(wigwag_service).
    pub size: usize,
    /// Process id of the service, for people.
    pub pid: u32,
    /// `WIGWAG_FORM_EXCHANGE`, `_QUEUE`, `_STREAM`, `_BROADCAST` or `_OTHER`.
    pub form: c_int,
    /// 1 while its process runs, also if it is stopped.
    pub is_running: c_int,
    /// 1 if its name leads to it, so that one can connect.
    pub has_name: c_int,
    /// Sessions alive.
    pub sessions: u64,
    /// Calls answered, messages acknowledged, or messages published.
    pub calls: u64,
    /// Calls and messages that wait, and nobody has begun.
    pub waiting: u64,
    /// Calls and messages that the service has in hand.
    pub in_flight: u64,
}

given::plain!(wigwag_service);

fn seen(observer: &Observer) -> Result<wigwag_service> {
    let snapshot = observer.snapshot()?;
    let form = match observer.service().form {
        Form::Exchange => WIGWAG_FORM_EXCHANGE,
        Form::Queue => WIGWAG_FORM_QUEUE,
        Form::Stream => WIGWAG_FORM_STREAM,
        Form::Broadcast => WIGWAG_FORM_BROADCAST,
        #[allow(unreachable_patterns, reason = "a later form is none of these")]
        _ => WIGWAG_FORM_OTHER,
    };
    Ok(wigwag_service {
        size: size_of::<wigwag_service>(),
        pid: observer.service().pid,
        form,
        is_running: (snapshot.state != ProcessState::Gone).into(),
        has_name: observer.has_name().into(),
        sessions: snapshot.sessions.len() as u64,
        calls: if form == WIGWAG_FORM_BROADCAST { snapshot.published } else { snapshot.counts.calls },
        waiting: snapshot.waiting(),
        in_flight: snapshot.in_flight(),
    })
}

/// What a service of this user does at this moment.
///
/// `name`: as it was bound. `service`: a struct whose `size` is set; the rest is filled.
///
/// Fails with `WIGWAG_ERR_NOT_RUNNING`, `WIGWAG_ERR_IO` if it cannot be looked at, and what is wrong with a name.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_inspect(name: *const c_char, service: *mut wigwag_service, error: *mut wigwag_error) -> c_int {
    guarded(error, || given::fill(service, seen(&Observer::open(given::name(name)?)?)?, "service"))
}

/// Called for each service: with the path of its socket, what is seen of it, both valid until it returns, and the
/// pointer that wigwag_list() was given. Returns 0 to go on, anything else to end. It must return.
#[allow(non_camel_case_types)]
pub type wigwag_visitor =
    Option<extern "C" fn(path: *const c_char, service: *const wigwag_service, user: *mut c_void) -> c_int>;

/// Visits all services of this user that run: found by their processes and not by their names, so that one is seen
/// whose name was removed. It takes some milliseconds.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_list(visitor: wigwag_visitor, user: *mut c_void, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        let Some(visitor) = visitor else {
            return Err(Failure::interface(wigwag_code::WIGWAG_ERR_NULL, "the visitor is NULL"));
        };
        let user = User(user);
        for observer in Observer::all() {
            let Ok(service) = seen(&observer) else { continue }; // it has ended meanwhile
            let path = CString::new(observer.service().path.as_os_str().as_bytes()).unwrap_or_default();
            if visitor(path.as_ptr(), &service, user.0) != 0 {
                break;
            }
        }
        Ok(())
    })
}
