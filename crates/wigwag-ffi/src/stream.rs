//! Byte streams, and the listener that accepts them.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{BufRead, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use library::{Stream, StreamListener};

use crate::code::wigwag_code;
use crate::failure::{Failure, Result, free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, opaque};
use crate::options::{connect_options, listen_options, wigwag_connect_options, wigwag_listen_options};
use crate::peer::wigwag_peer;
use crate::stop::wigwag_stop;
use crate::time;

/// One end of a byte stream between two processes: bytes both ways, in order, without their borders, as through a
/// socket.
///
/// One thread may read while another one writes. Whoever uses wigwag_stream_peek(), wigwag_stream_consume(),
/// wigwag_stream_reserve() or wigwag_stream_commit() is alone with it meanwhile.
#[allow(non_camel_case_types)]
pub struct wigwag_stream([u8; 0]);

/// Takes a name and accepts streams. Any number of threads may use a listener.
#[allow(non_camel_case_types)]
pub struct wigwag_listener([u8; 0]);

opaque! {
    wigwag_stream = StreamState, b"wwStream";
    wigwag_listener = ListenerState, b"wwListen";
}

/// What is behind a stream.
pub struct StreamState {
    stream: Stream,
    is_nonblocking: AtomicBool,
    /// How much room is lent, until something is written.
    lent: AtomicUsize,
}

/// What is behind a listener.
pub struct ListenerState {
    listener: StreamListener,
    path: CString,
}

/// For wigwag_stream_shutdown(): no more reading.
pub const WIGWAG_SHUTDOWN_READ: c_int = 1;
/// For wigwag_stream_shutdown(): no more writing, and the other end reads to its end.
pub const WIGWAG_SHUTDOWN_WRITE: c_int = 2;
/// For wigwag_stream_shutdown(): both.
pub const WIGWAG_SHUTDOWN_BOTH: c_int = 3;

fn handle(stream: Stream) -> *mut wigwag_stream {
    given::give(StreamState { stream, is_nonblocking: AtomicBool::new(false), lent: AtomicUsize::new(0) })
}

/// Connects to a listener of this user. It need not have accepted yet.
///
/// `stream`: where the handle goes; wigwag_stream_free() ends it. The rest is as wigwag_client_connect() has it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_connect(
    name: *const c_char,
    options: *const wigwag_connect_options,
    stream: *mut *mut wigwag_stream,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(stream, "stream")?;
        let builder = Stream::builder().options(connect_options(options)?);
        place.put(handle(builder.connect(given::name(name)?)?));
        Ok(())
    })
}

/// Ends a stream, or does nothing with NULL. The other end reads what was written, and then its end.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_free(stream: *mut wigwag_stream) -> c_int {
    free_handle(stream)
}

/// Reads up to `len` bytes into `into`; waits until there is one.
///
/// `got`: where the number of bytes goes; 0 is the end: the other end has shut its writing, or was ended, and all that
/// it wrote was read.
///
/// Fails with `WIGWAG_ERR_WOULD_BLOCK` in non-blocking mode, `WIGWAG_ERR_TIMED_OUT`; after the bytes that were written
/// before with `WIGWAG_ERR_PEER_DIED` or `WIGWAG_ERR_ABORTED`, which are no good ends; `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_read(
    stream: *mut wigwag_stream,
    into: *mut c_void,
    len: usize,
    got: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(got, "got")?;
        let into = given::bytes_mut(into, len)?;
        place.put((&given::shared(stream)?.stream).read(into)?);
        Ok(())
    })
}

/// Writes up to `len` bytes of `from`; waits until there is room for one.
///
/// `put`: where the number of bytes goes that were written.
///
/// Fails with `WIGWAG_ERR_WOULD_BLOCK` in non-blocking mode, `WIGWAG_ERR_TIMED_OUT`; `WIGWAG_ERR_SERVER_CLOSED`,
/// `WIGWAG_ERR_PEER_DIED` or `WIGWAG_ERR_ABORTED` once the other end does not read any more, which is noticed when
/// there is no room, and otherwise within 64 writes; `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_write(
    stream: *mut wigwag_stream,
    from: *const c_void,
    len: usize,
    put: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(put, "put")?;
        let from = given::bytes(from, len)?;
        let inside = given::shared(stream)?;
        inside.lent.store(0, Ordering::Relaxed);
        place.put((&inside.stream).write(from)?);
        Ok(())
    })
}

/// Writes all of `len` bytes. Fails as wigwag_stream_write(); it is not said then how many were written.
///
/// In non-blocking mode it fails with `WIGWAG_ERR_INVALID_ARGUMENT`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_write_all(
    stream: *mut wigwag_stream,
    from: *const c_void,
    len: usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let from = given::bytes(from, len)?;
        let inside = given::shared(stream)?;
        check_blocking(&inside.is_nonblocking)?;
        inside.lent.store(0, Ordering::Relaxed);
        Ok((&inside.stream).write_all(from)?)
    })
}

/// Reads exactly `len` bytes. Fails as wigwag_stream_read(), and with `WIGWAG_ERR_IO` if the stream ends before.
///
/// In non-blocking mode it fails with `WIGWAG_ERR_INVALID_ARGUMENT`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_read_exact(
    stream: *mut wigwag_stream,
    into: *mut c_void,
    len: usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let into = given::bytes_mut(into, len)?;
        let inside = given::shared(stream)?;
        check_blocking(&inside.is_nonblocking)?;
        Ok((&inside.stream).read_exact(into)?)
    })
}

fn check_blocking(is_nonblocking: &AtomicBool) -> Result<()> {
    if is_nonblocking.load(Ordering::Relaxed) {
        let text = "a stream in non-blocking mode reads and writes what it can: use wigwag_stream_read() and _write()";
        return Err(Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text));
    }
    Ok(())
}

/// Lends the bytes that there are to be read, where they lie; waits until there is one.
///
/// `data`, `len`: where they are and how many; 0 is the end. They are valid until wigwag_stream_consume().
///
/// Fails as wigwag_stream_read().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_peek(
    stream: *mut wigwag_stream,
    data: *mut *const c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let data = given::place(data, "data")?;
        let len = given::place(len, "len")?;
        let mut inside = given::alone(stream)?;
        let bytes = inside.stream.fill_buf()?;
        data.put(bytes.as_ptr().cast());
        len.put(bytes.len());
        Ok(())
    })
}

/// The first `len` bytes of what wigwag_stream_peek() lent are read, and their room is the other end's; all of them, if
/// there are fewer.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_consume(stream: *mut wigwag_stream, len: usize, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        given::alone(stream)?.stream.consume(len);
        Ok(())
    })
}

/// Lends the room that there is for bytes to be written, where they will lie; waits until there is some.
///
/// `data`, `len`: where it is and how much. It is valid until wigwag_stream_commit().
///
/// Fails as wigwag_stream_write().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_reserve(
    stream: *mut wigwag_stream,
    data: *mut *mut c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let data = given::place(data, "data")?;
        let len = given::place(len, "len")?;
        let mut inside = given::alone(stream)?;
        let room = inside.stream.write_buf()?;
        let (start, size) = (room.as_mut_ptr(), room.len());
        inside.lent.store(size, Ordering::Relaxed);
        data.put(start.cast());
        len.put(size);
        Ok(())
    })
}

/// Hands over the first `len` bytes of what wigwag_stream_reserve() lent.
///
/// Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if less is lent, or something was written in between.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_commit(stream: *mut wigwag_stream, len: usize, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        let mut inside = given::alone(stream)?;
        let lent = inside.lent.swap(0, Ordering::Relaxed);
        if len > lent {
            let text = format!("a commit of {len} bytes, where {lent} are lent: wigwag_stream_reserve() lends some");
            return Err(Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text));
        }
        inside.stream.commit(len);
        Ok(())
    })
}

/// Shuts one direction or both, any number of times: `how` is `WIGWAG_SHUTDOWN_READ`, `_WRITE` or `_BOTH`. It never
/// waits. Threads of this end that wait return.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_shutdown(stream: *mut wigwag_stream, how: c_int, error: *mut wigwag_error) -> c_int {
    guarded(error, || {
        let how = match how {
            WIGWAG_SHUTDOWN_READ => Shutdown::Read,
            WIGWAG_SHUTDOWN_WRITE => Shutdown::Write,
            WIGWAG_SHUTDOWN_BOTH => Shutdown::Both,
            _ => {
                let text = format!("`how` is {how}, and should be one of WIGWAG_SHUTDOWN_READ, _WRITE and _BOTH");
                return Err(Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text));
            }
        };
        Ok(given::shared(stream)?.stream.shutdown(how)?)
    })
}

/// Gives the stream up in both directions: the other end gets `WIGWAG_ERR_ABORTED` with this reason, after what was
/// written before. A direction that was shut keeps its good end.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_abort(
    stream: *mut wigwag_stream,
    reason: *const c_char,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let reason = given::words(reason, "reason")?;
        Ok(given::shared(stream)?.stream.abort(&reason)?)
    })
}

/// How long a read and a write may wait, in nanoseconds; 0 for as long as it takes.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_set_timeouts(
    stream: *mut wigwag_stream,
    read_ns: i64,
    write_ns: i64,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let inside = given::shared(stream)?;
        let stream = &inside.stream;
        stream.set_read_timeout(time::optional(read_ns))?;
        Ok(stream.set_write_timeout(time::optional(write_ns))?)
    })
}

/// Whether reads and writes return `WIGWAG_ERR_WOULD_BLOCK` instead of waiting: 1 or 0.
///
/// After that code the stream's descriptor becomes readable once it is worth to try again, in whichever direction that
/// was: poll it for reading, then try everything that would have blocked, until it does again.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_set_nonblocking(
    stream: *mut wigwag_stream,
    is_nonblocking: c_int,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let inside = given::shared(stream)?;
        inside.stream.set_nonblocking(is_nonblocking != 0)?;
        inside.is_nonblocking.store(is_nonblocking != 0, Ordering::Relaxed);
        Ok(())
    })
}

/// The descriptor that an event loop polls for reading on behalf of this stream, for both directions, or a negative
/// code. It is the stream's: do not close it, and do not read from it. See wigwag_stream_set_nonblocking().
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_fd(stream: *mut wigwag_stream, error: *mut wigwag_error) -> c_int {
    let mut fd = -1;
    let code = guarded(error, || {
        fd = given::shared(stream)?.stream.as_raw_fd();
        Ok(())
    });
    if code == wigwag_code::WIGWAG_OK as c_int { fd } else { code }
}

/// Who is at the other end.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stream_peer(
    stream: *const wigwag_stream,
    peer: *mut wigwag_peer,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        given::place(peer, "peer")?.put(given::shared(stream)?.stream.peer().into());
        Ok(())
    })
}

/// Takes a name, and begins to accept streams. A thread of its own shakes hands, so connecting does not wait for
/// wigwag_listener_accept().
///
/// `listener`: where the handle goes; wigwag_listener_free() ends it. The rest is as wigwag_server_bind() has it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_listener_bind(
    name: *const c_char,
    options: *const wigwag_listen_options,
    listener: *mut *mut wigwag_listener,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(listener, "listener")?;
        let name = given::name(name)?;
        let bound = StreamListener::builder().options(listen_options(options)?).bind(name)?;
        let path = CString::new(bound.path().as_os_str().as_bytes()).unwrap_or_default();
        place.put(given::give(ListenerState { listener: bound, path }));
        Ok(())
    })
}

/// Ends a listener, or does nothing with NULL: the name is free, and those who wait to be accepted are turned away.
/// What was accepted lives on.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_listener_free(listener: *mut wigwag_listener) -> c_int {
    free_handle(listener)
}

/// Waits for the next stream.
///
/// `stream`: where its handle goes; wigwag_stream_free() ends it.
///
/// Fails with `WIGWAG_ERR_WOULD_BLOCK` in non-blocking mode, when nobody is there; `WIGWAG_ERR_SERVER_CLOSED` after a
/// shutdown, once nobody is left; `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_listener_accept(
    listener: *mut wigwag_listener,
    stream: *mut *mut wigwag_stream,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(stream, "stream")?;
        place.put(handle(given::shared(listener)?.listener.accept()?));
        Ok(())
    })
}

/// Whether wigwag_listener_accept() returns `WIGWAG_ERR_WOULD_BLOCK` instead of waiting: 1 or 0.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_listener_set_nonblocking(
    listener: *mut wigwag_listener,
    is_nonblocking: c_int,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || Ok(given::shared(listener)?.listener.set_nonblocking(is_nonblocking != 0)?))
}

/// The descriptor of a listener, or a negative code: it is readable while somebody waits to be accepted. It is the
/// listener's: do not close it, and do not read from it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_listener_fd(listener: *mut wigwag_listener, error: *mut wigwag_error) -> c_int {
    let mut fd = -1;
    let code = guarded(error, || {
        fd = given::shared(listener)?.listener.as_raw_fd();
        Ok(())
    });
    if code == wigwag_code::WIGWAG_OK as c_int { fd } else { code }
}

/// A handle by which other threads end this listener; wigwag_stop_free() frees it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_listener_stop(
    listener: *const wigwag_listener,
    stop: *mut *mut wigwag_stop,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(stop, "stop")?;
        place.put(given::give(given::shared(listener)?.listener.shutdown_handle()));
        Ok(())
    })
}

/// Where the listener's socket is, valid until the listener is freed; NULL of what is no listener.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_listener_path(listener: *const wigwag_listener) -> *const c_char {
    guarded_value(std::ptr::null(), || Ok(given::shared(listener)?.path.as_ptr()))
}
