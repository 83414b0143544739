//! A request in a server's hands.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use library::Request;

use crate::code::wigwag_code;
use crate::descriptors::hand_out;
use crate::failure::{Failure, Result, guarded, guarded_value, wigwag_error};
use crate::given::{self, Object, Opaque, User, opaque};
use crate::peer::wigwag_peer;
use crate::server::{Outcome, outcome};
use crate::time::Patience;

/// A request: the client's bytes where they lie. What is there when it is answered is the reply.
///
/// One thread at a time may use a request; it may be another one than the server's.
#[allow(non_camel_case_types)]
pub struct wigwag_request([u8; 0]);

opaque! { wigwag_request = RequestState, b"wwReques"; }

/// What is behind it.
pub enum RequestState {
    /// Received: whoever has it answers it.
    Own(Request),
    /// In a handler, whose return answers it; with the text of a failure, if there is one.
    Lent(NonNull<Request>, Option<String>),
}

impl RequestState {
    fn get(&self) -> &Request {
        match self {
            RequestState::Own(request) => request,
            RequestState::Lent(request, _) => given::lent_by_handler(*request),
        }
    }

    fn get_mut(&mut self) -> &mut Request {
        match self {
            RequestState::Own(request) => request,
            RequestState::Lent(request, _) => given::lent_by_handler(*request),
        }
    }
}

/// A handle of a request that was received.
pub fn owned(request: Request) -> *mut wigwag_request {
    given::give(RequestState::Own(request))
}

/// Has C's handler change a request.
pub fn handled(
    handler: extern "C" fn(*mut wigwag_request, *mut c_void) -> c_int,
    user: User,
    request: &mut Request,
) -> Outcome {
    let state = RequestState::Lent(NonNull::from(request), None);
    let object = Object::new(wigwag_request::MAGIC, state);
    let handle = std::ptr::from_ref(&object).cast_mut().cast();
    let result = handler(handle, user.0);
    object.retire(); // a handle that somebody kept is none
    let text = match object.enter() {
        Ok(mut inside) => match &mut *inside {
            RequestState::Lent(_, text) => text.take(),
            RequestState::Own(_) => None,
        },
        // It left this thread for another one, which is in it: nothing that is done now is sound.
        Err(_) => std::process::abort(),
    };
    outcome(result, text)
}

/// Takes a request that is to be answered.
fn take(request: *mut wigwag_request) -> Result<Request> {
    if matches!(&*given::alone(request)?, RequestState::Lent(..)) {
        let text = "this request is answered by the handler's return: use wigwag_server_recv() to answer later";
        return Err(Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text));
    }
    match given::take(request)? {
        RequestState::Own(request) => Ok(request),
        RequestState::Lent(..) => Err(Failure::interface(wigwag_code::WIGWAG_ERR_IN_USE, "the handler has it")),
    }
}

/// Where the bytes of a request are, and how many: to be read and changed. They are valid until the request is
/// answered, dropped or resized, or its handler returns.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_data(
    request: *mut wigwag_request,
    data: *mut *mut c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let data = given::place(data, "data")?;
        let len = given::place(len, "len")?;
        let mut inside = given::alone(request)?;
        let bytes = inside.get_mut();
        data.put(bytes.as_mut_ptr().cast());
        len.put(bytes.len());
        Ok(())
    })
}

/// The largest reply in bytes; 0 of what is no request.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_capacity(request: *const wigwag_request) -> usize {
    guarded_value(0, || Ok(given::alone(request)?.get().capacity()))
}

/// Makes the payload `len` bytes long; what is in it stays, up to the shorter length. What wigwag_request_data() gave
/// is not valid any more.
///
/// Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`: nothing has changed then.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_resize(request: *mut wigwag_request, len: usize, error: *mut wigwag_error) -> c_int {
    guarded(error, || Ok(given::alone(request)?.get_mut().resize(len)?))
}

/// Replaces the payload by a copy of these bytes, which lie elsewhere.
///
/// Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`: nothing has changed then.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_set_reply(
    request: *mut wigwag_request,
    data: *const c_void,
    len: usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let bytes = given::bytes(data, len)?;
        Ok(given::alone(request)?.get_mut().set_reply(bytes)?)
    })
}

/// Answers: the payload as it is now is the reply. The request is one no more.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_reply(request: *mut wigwag_request, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        take(request)?.reply();
        Ok(())
    })
}

/// Answers with an error: the client gets `WIGWAG_ERR_HANDLER_FAILED` with this text, cut at 1,024 bytes. The request
/// is one no more. In a handler it only notes the text, and the handler's return answers.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_fail(
    request: *mut wigwag_request,
    text: *const c_char,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let words = given::words(text, "text")?;
        if let RequestState::Lent(_, noted) = &mut *given::alone(request)? {
            *noted = Some(words.into_owned());
            return Ok(());
        }
        take(request)?.fail(words);
        Ok(())
    })
}

/// Drops a request unanswered, of which the client is told; does nothing with NULL.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_drop(request: *mut wigwag_request) -> c_int {
    if request.is_null() {
        return wigwag_code::WIGWAG_OK as c_int;
    }
    guarded(std::ptr::null_mut(), || take(request).map(drop))
}

/// How many nanoseconds the client still waits: 0 if that is over, `WIGWAG_FOREVER` if it has set no time.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_time_left_ns(request: *const wigwag_request) -> i64 {
    guarded_value(crate::time::WIGWAG_FOREVER, || {
        let deadline = given::alone(request)?.get().deadline();
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()).as_nanos());
        Ok(left.map_or(crate::time::WIGWAG_FOREVER, |left| i64::try_from(left).unwrap_or(i64::MAX)))
    })
}

/// 1 if the client has given the call up, or is gone: nobody reads the reply. 0 if not.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_is_abandoned(request: *const wigwag_request) -> c_int {
    guarded_value(0, || Ok(given::alone(request)?.get().is_abandoned().into()))
}

/// Waits until the client has given the call up, or is gone, for up to `timeout_ns`: for a thread that watches while
/// others work on the bytes. Until it returns no other function takes this request.
///
/// Fails with `WIGWAG_ERR_TIMED_OUT` if it has not.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_wait_abandoned(
    request: *const wigwag_request,
    timeout_ns: i64,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let time = match Patience::of(timeout_ns) {
            Patience::Forever => Duration::MAX,
            Patience::Now => Duration::ZERO,
            Patience::For(time) => time,
        };
        match given::shared(request)?.get().wait_abandoned(time) {
            true => Ok(()),
            false => Err(Failure::interface(wigwag_code::WIGWAG_ERR_TIMED_OUT, "the client still waits")),
        }
    })
}

/// Who sent it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_peer(
    request: *const wigwag_request,
    peer: *mut wigwag_peer,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        given::place(peer, "peer")?.put(given::alone(request)?.get().peer().into());
        Ok(())
    })
}

/// Attaches a duplicate of a file descriptor to the reply; yours stays yours.
///
/// Fails with `WIGWAG_ERR_NOT_AGREED` unless both sides have asked for descriptors, `WIGWAG_ERR_FULL`, `WIGWAG_ERR_IO`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_attach(request: *mut wigwag_request, fd: c_int, error: *mut wigwag_error) -> c_int {
    guarded(error, || Ok(given::alone(request)?.get_mut().attach(given::descriptor(fd)?)?))
}

/// Takes the file descriptors that came with a request, once: they are yours to close.
///
/// `fds`: room for `capacity` of them, at least `WIGWAG_DESCRIPTORS_MAX`. `count`: where their number goes.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_request_take_descriptors(
    request: *mut wigwag_request,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let mut inside = given::alone(request)?;
        hand_out(fds, capacity, count, || Ok(inside.get_mut().take_descriptors()))
    })
}
