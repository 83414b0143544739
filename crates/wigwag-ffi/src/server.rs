//! The server of an exchange.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use library::{Server, ServerStats};

use crate::code::wigwag_code;
use crate::failure::{Failure, free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, User, opaque};
use crate::options::{listen_options, wigwag_listen_options};
use crate::request::{handled, wigwag_request};
use crate::stop::wigwag_stop;
use crate::time::Patience;

/// A server: it owns a name, and changes what clients hand it.
///
/// One thread at a time may use a server. Its requests are handles of their own: each may be answered by another
/// thread. wigwag_stop ends a server from any thread.
#[allow(non_camel_case_types)]
pub struct wigwag_server([u8; 0]);

opaque! { wigwag_server = ServerState, b"wwServer"; }

/// What is behind it.
pub struct ServerState {
    server: Server,
    path: CString,
    loop_descriptor: Option<OwnedFd>,
}

/// Changes a request in place; what it leaves there is the reply. Returns 0, or anything else for a failure, of which
/// the client is told: with the text of wigwag_request_fail(), if that was called.
///
/// `request` is valid until the handler returns, and is used there by one thread. It must not be given to
/// wigwag_request_reply() or wigwag_request_drop(). The handler must return: no longjmp(), no exception.
#[allow(non_camel_case_types)]
pub type wigwag_handler = Option<extern "C" fn(request: *mut wigwag_request, user: *mut c_void) -> c_int>;

/// Takes a name, and begins to accept sessions.
///
/// `name`: becomes a socket in the user's runtime directory; a path that begins with "/", "./" or "../" is taken as it
/// is. `options`: NULL for all defaults. `server`: where the handle goes; wigwag_server_free() ends it.
///
/// Fails with `WIGWAG_ERR_NAME_TAKEN` while another server has the name, `WIGWAG_ERR_INVALID_CONFIGURATION`,
/// `WIGWAG_ERR_IO`, and what is wrong with a name.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_bind(
    name: *const c_char,
    options: *const wigwag_listen_options,
    server: *mut *mut wigwag_server,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(server, "server")?;
        let name = given::name(name)?;
        let bound = Server::builder().options(listen_options(options)?).bind(name)?;
        let path = CString::new(bound.path().as_os_str().as_bytes()).unwrap_or_default();
        place.put(given::give(ServerState { server: bound, path, loop_descriptor: None }));
        Ok(())
    })
}

/// Ends a server: all its sessions are over, and the name is free. Does nothing with NULL. Answer first what you hold
/// of its requests; those that are answered later reach nobody.
///
/// Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_free(server: *mut wigwag_server) -> c_int {
    free_handle(server)
}

/// Serves on this thread until wigwag_stop_shutdown().
///
/// `handler`: called for each request, with `user`. After a shutdown exactly what clients had passed until then is
/// served, before this returns; the server has ended then.
///
/// Fails with `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`: no client can make it return.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_serve(
    server: *mut wigwag_server,
    handler: wigwag_handler,
    user: *mut c_void,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let handler = handler.ok_or_else(no_handler)?;
        let user = User(user);
        Ok(given::alone(server)?.server.serve(move |request| handled(handler, user, request))?)
    })
}

/// As wigwag_server_serve(), on `threads` threads, of which this one is the first. The handler is called by several of
/// them at a time.
///
/// Fails as that, and with `WIGWAG_ERR_INVALID_CONFIGURATION` for no threads.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_serve_on(
    server: *mut wigwag_server,
    threads: usize,
    handler: wigwag_handler,
    user: *mut c_void,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let handler = handler.ok_or_else(no_handler)?;
        let user = User(user);
        Ok(given::alone(server)?.server.serve_on(threads, move |request| handled(handler, user, request))?)
    })
}

fn no_handler() -> Failure {
    Failure::interface(wigwag_code::WIGWAG_ERR_NULL, "the handler is NULL")
}

/// Waits for the next request for up to `timeout_ns` (`WIGWAG_FOREVER`, or 0 to look whether one is there), to be
/// answered here or by another thread, now or later.
///
/// `request`: where its handle goes; wigwag_request_reply(), wigwag_request_fail() or wigwag_request_drop() ends it.
///
/// Fails with `WIGWAG_ERR_WOULD_BLOCK` (of 0) and `WIGWAG_ERR_TIMED_OUT` if there is none;
/// `WIGWAG_ERR_SERVER_CLOSED` after a shutdown, once everything that had been passed by then was given out;
/// `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_recv(
    server: *mut wigwag_server,
    timeout_ns: i64,
    request: *mut *mut wigwag_request,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(request, "request")?;
        let mut inside = given::alone(server)?;
        let server = &mut inside.server;
        let found = match Patience::of(timeout_ns) {
            Patience::Forever => Some(server.recv()?),
            Patience::Now => server.try_recv()?,
            Patience::For(time) => server.recv_timeout(time)?,
        };
        place.put(crate::request::owned(found.ok_or_else(|| nothing_came(&"no request is there", timeout_ns))?));
        Ok(())
    })
}

/// Why nothing was received.
#[cold]
pub fn nothing_came(what: &'static &'static str, timeout_ns: i64) -> Failure {
    match timeout_ns {
        0 => Failure::WouldBlock(what),
        _ => Failure::interface(wigwag_code::WIGWAG_ERR_TIMED_OUT, format!("{what} within the time allowed")),
    }
}

/// The descriptor that an event loop polls for reading on behalf of this server, or a negative code. It is the
/// server's: do not close it, and do not read from it. From then on the server never spins for ever, because the thread
/// is the loop's.
///
/// Once it is readable, call wigwag_server_process() until that finds nothing more. Call that once before the first
/// poll, too.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_fd(server: *mut wigwag_server, error: *mut wigwag_error) -> c_int {
    let mut fd = -1;
    let code = guarded(error, || {
        let mut inside = given::alone(server)?;
        if inside.loop_descriptor.is_none() {
            inside.loop_descriptor = Some(inside.server.try_clone_descriptor()?);
        }
        fd = inside.loop_descriptor.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        Ok(())
    });
    if code == wigwag_code::WIGWAG_OK as c_int { fd } else { code }
}

/// What an event loop does when the server's descriptor is readable. It never waits.
///
/// `request`: where the handle of the next request goes, or NULL when none is there: from then on the descriptor
/// becomes readable when one is. So call it until it gives NULL.
///
/// Fails with `WIGWAG_ERR_SERVER_CLOSED` after a shutdown, `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_process(
    server: *mut wigwag_server,
    request: *mut *mut wigwag_request,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(request, "request")?;
        let found = given::alone(server)?.server.recv_or_arm()?;
        place.put(found.map_or(std::ptr::null_mut(), crate::request::owned));
        Ok(())
    })
}

/// A handle by which other threads end this server; wigwag_stop_free() frees it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_stop(
    server: *const wigwag_server,
    stop: *mut *mut wigwag_stop,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(stop, "stop")?;
        place.put(given::give(given::alone(server)?.server.shutdown_handle()));
        Ok(())
    })
}

/// Where the server's socket is, valid until the server is freed; NULL of what is no server.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_path(server: *const wigwag_server) -> *const c_char {
    guarded_value(std::ptr::null(), || Ok(given::alone(server)?.path.as_ptr()))
}

/// What a server has counted since it was bound: see wigwag_server_statistics().
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_server_stats {
    /// sizeof(wigwag_server_stats), set by the caller.
    pub size: usize,
    /// Sessions alive.
    pub sessions: u64,
    /// Sessions ever granted.
    pub sessions_accepted: u64,
    /// Handshakes refused or failed.
    pub sessions_refused: u64,
    /// Sessions ended because the client broke the protocol.
    pub violations: u64,
    /// Requests answered.
    pub calls: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Calls that failed, or were dropped unanswered.
    pub failed: u64,
    /// Replies that needed a system call because the client slept.
    pub doorbells_rung: u64,
    /// Times a serving thread slept.
    pub sleeps: u64,
}

given::plain!(wigwag_server_stats);

/// What a server has counted.
///
/// `stats`: a struct whose `size` is set; the rest is filled.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_server_statistics(
    server: *const wigwag_server,
    stats: *mut wigwag_server_stats,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let counted = counted(given::alone(server)?.server.stats());
        given::fill(stats, counted, "stats")
    })
}

fn counted(stats: ServerStats) -> wigwag_server_stats {
    let ServerStats { sessions, sessions_accepted, sessions_refused, violations, calls, .. } = stats;
    let ServerStats { bytes_in, bytes_out, failed, doorbells_rung, sleeps, .. } = stats;
    wigwag_server_stats {
        size: 0,
        sessions,
        sessions_accepted,
        sessions_refused,
        violations,
        calls,
        bytes_in,
        bytes_out,
        failed,
        doorbells_rung,
        sleeps,
    }
}

/// Of use to `request`: what a handler's result means.
pub type Outcome = std::result::Result<(), String>;

/// The result of a handler.
pub fn outcome(result: c_int, text: Option<String>) -> Outcome {
    match (result, text) {
        (_, Some(text)) => Err(text),
        (0, None) => Ok(()),
        (code, None) => Err(format!("the handler returned {code}")),
    }
}
