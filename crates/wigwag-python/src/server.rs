//! The server of an exchange.

use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wigwag::{ErrorKind, ShutdownHandle, StatsHandle, polled};

use crate::buffer::Payload;
use crate::dtypes::ArraySource;
use crate::errors::{Failure, timed_out};
use crate::memory::{Held, Memory};
use crate::names::{ListenWishes, Replace, name_of, raised, wait_of};
use crate::turn::{Borrowed, Turn};
use crate::wait::{self, LOOKS_ATTACHED, Limit, Slept, Step};

/// A server of an exchange: it owns a name, and changes what clients hand it.
///
/// ``name`` becomes a socket in the user's runtime directory; a path that begins with ``/``, ``./`` or ``../`` is taken
/// as it is. A client gets up to ``slots`` calls in flight of up to ``capacity`` bytes each. ``max_sessions`` clients
/// may connect, with ``max_bytes_total`` bytes together. ``wait`` is ``'adaptive'``, ``'park'`` or ``'spin'``.
/// ``replace`` takes the name over from the server that has it, which may take so many seconds to let it go; ``True``
/// is 5.0. What that one has begun it finishes, and clients that follow restarts go on here.
/// ``allow_users`` and ``allow_groups`` are ids of others than this process's own user who may connect; the handler
/// gets copies of their bytes.
///
/// ``serve(handler)`` serves until ``shutdown()``; or take requests one by one, with ``recv()`` or in a ``for`` loop.
///
/// Raises ``NameTakenError``, ``NameInvalidError``, ``DirectoryUnsafeError``.
///
/// >>> import wigwag, threading
/// >>> with wigwag.Server(wigwag.testing.name('one')) as server:
/// ...     pending = wigwag.Client(server.path).send(b'abc')
/// ...     with server.recv(timeout=10) as request:
/// ...         request[:] = b'ABC'
/// ...         request.reply()
/// ...     pending.wait(timeout=10).tobytes()
/// b'ABC'
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Server {
    turn: Turn<polled::Server>,
    shutdown: ShutdownHandle,
    stats: StatsHandle,
    path: PathBuf,
}

impl Server {
    fn borrow(&self, py: Python<'_>) -> PyResult<Borrowed<'_, polled::Server>> {
        self.turn.borrow(py, "receives from this server")
    }
}

/// The next request. `None`: no time is left.
fn next(server: &mut polled::Server, py: Python<'_>, limit: Limit) -> Result<Option<wigwag::Request>, Failure> {
    {
        if let Some(request) = server.glance(LOOKS_ATTACHED)? {
            return Ok(Some(request));
        }
        let is_now = limit.is_over();
        wait::wait(py, || {
            loop {
                if let Some(request) = server.try_recv(!is_now)? {
                    return Ok(Step::Done(request));
                }
                match wait::sleep(server.as_fd(), limit)? {
                    Slept::Rang => server.listen()?,
                    Slept::TimedOut => {
                        server.listen()?;
                        return Ok(Step::TimedOut);
                    }
                    Slept::Interrupted => {
                        server.listen()?;
                        return Ok(Step::Interrupted);
                    }
                }
            }
        })
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (name, *, slots=None, capacity=None, max_sessions=None, max_bytes_total=None, wait="adaptive",
        replace=None, allow_users=vec![], allow_groups=vec![]))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        slots: Option<usize>,
        capacity: Option<usize>,
        max_sessions: Option<usize>,
        max_bytes_total: Option<usize>,
        wait: &str,
        replace: Option<Replace>,
        allow_users: Vec<u32>,
        allow_groups: Vec<u32>,
    ) -> PyResult<Server> {
        let wait = wait_of(wait)?;
        let wishes =
            ListenWishes { slots, capacity, max_sessions, max_bytes_total, wait, replace, allow_users, allow_groups };
        let (options, name) = (wishes.options()?, name_of(name)?);
        let server = crate::patience::in_thread(py, move || wigwag::ServerBuilder::from(options).bind(name))?;
        let server = raised(polled::Server::from_blocking(server))?;
        Ok(Server {
            shutdown: server.shutdown_handle(),
            stats: server.stats_handle(),
            path: server.path().to_owned(),
            turn: Turn::new(server),
        })
    }

    /// Serves until ``shutdown()``, in this thread.
    ///
    /// ``handler(request)`` may change the request in place and return ``None``: what lies there is the reply. If it
    /// returns ``bytes``, a ``bytearray`` or a ``memoryview``, that is the reply; anything else that has a buffer, such
    /// as a numpy array, becomes the reply as an array. If it raises, the caller gets ``HandlerFailedError`` with the
    /// text, and the logger ``wigwag`` the traceback. ``threads`` handlers run at a time, each in a thread of its own
    /// if there are several; each client's calls may then be answered in another order than they came.
    ///
    /// A view of the request that is alive when the handler returns (kept in a global, or in a cycle) would write into
    /// memory that is the client's again. The garbage collector runs then, and if the view is still there that client's
    /// session ends.
    ///
    /// After ``shutdown()`` what clients had passed until then is served, and this returns. ``KeyboardInterrupt`` ends
    /// it, too.
    ///
    /// Raises ``ForkedError``, ``OSError``.
    ///
    /// >>> import threading
    /// >>> server = wigwag.Server(wigwag.testing.name('reverse'))
    /// >>> def reverse(request):
    /// ...     request[:] = bytes(request)[::-1]
    /// >>> thread = threading.Thread(target=server.serve, args=(reverse,))
    /// >>> thread.start()
    /// >>> wigwag.Client(server.path).call(b'abc', timeout=10).tobytes()
    /// b'cba'
    /// >>> server.shutdown(); thread.join()
    #[pyo3(signature = (handler, *, threads=1))]
    fn serve(slf: &Bound<'_, Self>, handler: &Bound<'_, PyAny>, threads: usize) -> PyResult<()> {
        if !handler.is_callable() {
            let kind = handler.get_type().name()?;
            return Err(pyo3::exceptions::PyTypeError::new_err(format!(
                "a handler is called with each request: a {kind} cannot be called"
            )));
        }
        if threads == 0 {
            return Err(PyValueError::new_err("serve needs at least one thread"));
        }
        if threads > 1 {
            slf.py().import("wigwag._serving")?.call_method1("serve_on", (slf, handler, threads))?;
            return Ok(());
        }
        let (py, this) = (slf.py(), slf.get());
        let mut borrowed = this.borrow(py)?;
        loop {
            match next(borrowed.get(), py, Limit::Never) {
                Ok(Some(request)) => {
                    let request = Request::of(py, request)?;
                    answer(request.bind(py), handler)?;
                }
                Ok(None) => {}
                Err(Failure::Library(error)) if matches!(error.kind(), ErrorKind::ServerClosed { .. }) => break,
                Err(failure) => return Err(failure.into()),
            }
        }
        raised(borrowed.get().end())
    }

    /// As ``serve``, for clients that call with ``call_object``: the handler gets the object, and what it returns is
    /// pickled for the caller.
    ///
    /// Objects are taken only with ``allow_pickle=True``, and never from another user: unpickling runs what the pickle
    /// says. Exceptions go to the caller as text.
    ///
    /// Raises ``PermissionError`` without ``allow_pickle=True``, and what ``serve`` raises.
    #[pyo3(signature = (handler, *, allow_pickle=false, threads=1))]
    fn serve_objects(
        slf: &Bound<'_, Self>,
        handler: &Bound<'_, PyAny>,
        allow_pickle: bool,
        threads: usize,
    ) -> PyResult<()> {
        slf.py().import("wigwag._objects")?.call_method1("serve", (slf, handler, allow_pickle, threads))?;
        Ok(())
    }

    /// Waits for the next request, up to ``timeout`` seconds: answer it now or later, in this thread or another.
    ///
    /// Raises ``TimedOut``; ``ServerClosedError`` after ``shutdown()``, once all that was passed until then was given
    /// out; ``ForkedError``.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<Request>> {
        let limit = Limit::after(timeout)?;
        let found = next(self.borrow(py)?.get(), py, limit)?;
        match found {
            Some(request) => Request::of(py, request),
            None => Err(timed_out(py, &format!("no request within {} s", timeout.unwrap_or(f64::INFINITY)), false)),
        }
    }

    /// The next request if one is there, else ``None``.
    ///
    /// Raises what ``recv`` raises.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Py<Request>>> {
        let mut borrowed = self.borrow(py)?;
        let server = borrowed.get();
        raised(server.listen())?;
        let found = raised(server.try_recv(false))?;
        drop(borrowed);
        found.map(|request| Request::of(py, request)).transpose()
    }

    /// Ends the server: ``serve`` serves what was passed until now and returns, as does a ``for`` loop. May be called
    /// from any thread, and from a signal handler.
    fn shutdown(&self) {
        self.shutdown.shutdown();
    }

    /// As ``shutdown``, of a server whose successor is about to start: its clients are told that there is one, and
    /// those that follow restarts (``Client(follow_restarts=...)``) look for it. A server that is replaced does so by
    /// itself. May be called from any thread, and from a signal handler.
    ///
    /// >>> with wigwag.Server(wigwag.testing.name('handed')) as server:
    /// ...     server.hand_over()
    /// ...     server.serve(print) # returns at once
    fn hand_over(&self) {
        self.shutdown.hand_over();
    }

    /// Ends all sessions and gives the name back. Requests that are still held can not be answered any more.
    fn close(&self) {
        self.shutdown.shutdown();
        drop(self.turn.close());
    }

    /// Where the socket is: any client can connect to that, whatever its runtime directory.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// What has happened so far, as numbers: ``sessions``, ``calls``, ``bytes_in``, ``bytes_out`` and others.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.stats.stats();
        let dict = PyDict::new(py);
        dict.set_item("sessions", stats.sessions)?;
        dict.set_item("calls", stats.calls)?;
        dict.set_item("bytes_in", stats.bytes_in)?;
        dict.set_item("bytes_out", stats.bytes_out)?;
        Ok(dict)
    }

    /// Says farewell to all clients, after a shutdown. For `wigwag._serving`.
    fn _end(&self, py: Python<'_>) -> PyResult<()> {
        raised(self.borrow(py)?.get().end())
    }

    /// The descriptor that tells of requests. For `wigwag.aio`.
    fn _fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.borrow(py)?.get().as_fd().as_raw_fd())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The next request; the iteration ends with ``shutdown()``.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<Request>>> {
        let found = next(self.borrow(py)?.get(), py, Limit::Never);
        match found {
            Ok(Some(request)) => Request::of(py, request).map(Some),
            Ok(None) => Ok(None),
            Err(Failure::Library(error)) if matches!(error.kind(), ErrorKind::ServerClosed { .. }) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the server.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        self.close();
    }

    fn __repr__(&self) -> String {
        let stats = self.stats.stats();
        let state = match self.turn.is_closed() {
            true => "closed".to_owned(),
            false => format!("{} sessions, {} calls", stats.sessions, stats.calls),
        };
        format!("<wigwag.Server at {}, {state}>", self.path.display())
    }
}

/// Has a handler answer a request. An error is one that ends the server. For `wigwag._serving`.
#[pyfunction(name = "_answer")]
pub fn answer(request: &Bound<'_, Request>, handler: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = request.py();
    let outcome = handler.call1((request,)).and_then(|value| Request::give(request, &value));
    let error = match outcome {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let is_fatal = !error.is_instance_of::<pyo3::exceptions::PyException>(py);
    let error = error.into_value(py).into_bound(py); // with its traceback
    let serving = py.import("wigwag._serving")?;
    let memory = request.as_super();
    if matches!(*memory.get().lock(), Held::Gone(_)) && !is_fatal {
        // It was answered, and then the handler failed: the caller has its reply.
        serving.call_method1("log_failure", (&error,))?;
        return Ok(());
    }
    let text = serving.call_method1("failed", (&error, is_fatal))?.extract::<String>()?;
    // The traceback has the handler's names, and among them its views.
    if memory.get().exports() > 0 {
        error.setattr("__traceback__", py.None())?;
    }
    if !matches!(*memory.get().lock(), Held::Gone(_)) {
        Request::refuse(request, &text)?;
    }
    if is_fatal { Err(PyErr::from_value(error.into_any())) } else { Ok(()) }
}

/// A client's request, in the client's own memory: a writable buffer, see ``Memory``.
///
/// Change it in place and ``reply()``, or ``reply(data)``, ``reply_array(array)``, ``fail(text)``. One that is dropped
/// without an answer tells the client so (``UnansweredError``). Made by ``Server.recv``, and given to handlers.
#[pyclass(frozen, extends = Memory, module = "wigwag")]
pub struct Request {
    peer: (i32, u32, u32),
    is_other_user: bool,
    deadline: Option<Instant>,
}

/// The user of this process, asked for once: who changes it serves anew.
fn own_user() -> u32 {
    static USER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *USER.get_or_init(|| rustix::process::geteuid().as_raw())
}

impl Request {
    pub fn of(py: Python<'_>, request: wigwag::Request) -> PyResult<Py<Request>> {
        let peer = request.peer();
        let this = Request {
            peer: (peer.pid, peer.uid, peer.gid),
            is_other_user: peer.uid != own_user(),
            deadline: request.deadline(),
        };
        let memory = Memory::new(Held::Request(request), "request");
        Py::new(py, PyClassInitializer::from(memory).add_subclass(this))
    }

    fn take(slf: &Bound<'_, Self>, doing: &str) -> PyResult<wigwag::Request> {
        match Memory::take(slf.as_super(), doing, "was answered")? {
            Held::Request(request) => Ok(request),
            _ => Err(PyValueError::new_err("this is no request")),
        }
    }

    /// Answers with what a handler returned.
    fn give(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let memory = slf.as_super();
        if matches!(*memory.get().lock(), Held::Gone(_)) {
            return Ok(()); // the handler has answered by itself
        }
        if !value.is_none() {
            let is_bytes = value.is_instance_of::<pyo3::types::PyBytes>()
                || value.is_instance_of::<pyo3::types::PyByteArray>()
                || value.is_instance_of::<pyo3::types::PyMemoryView>()
                || value.is_instance_of::<Memory>();
            // Copied out first: it may be a view of this very request.
            if is_bytes {
                let payload = Payload::of(value)?;
                let mut copy = vec![0; payload.len()];
                payload.copy_to(slf.py(), &mut copy)?;
                drop(payload);
                Request::write(memory, copy.len(), |bytes| {
                    bytes.copy_from_slice(&copy);
                    Ok(())
                })?;
            } else {
                let source = ArraySource::of(value)?;
                Request::write_array(slf, &source)?;
            }
        }
        if memory.get().exports() > 0 {
            slf.py().import("gc")?.call_method0("collect")?;
        }
        if memory.get().exports() > 0 {
            return Request::end_session(slf, "a handler has kept a view of the request");
        }
        Request::take(slf, "reply")?.reply();
        Ok(())
    }

    /// Tells the client that the handler failed.
    fn refuse(slf: &Bound<'_, Self>, text: &str) -> PyResult<()> {
        let memory = slf.as_super();
        if memory.get().exports() > 0 {
            slf.py().import("gc")?.call_method0("collect")?;
        }
        if memory.get().exports() > 0 {
            return Request::end_session(slf, &format!("a handler has kept a view of the request, and failed: {text}"));
        }
        Request::take(slf, "fail")?.fail(text);
        Ok(())
    }

    /// The memory stays for as long as the view does, and the client's session ends.
    fn end_session(slf: &Bound<'_, Self>, why: &str) -> PyResult<()> {
        let memory = slf.as_super();
        let error = Memory::views_alive(memory, "pass the request back to the client");
        memory.get().with(|held| {
            if let Held::Request(request) = held {
                request.end_session(why);
            }
            Ok(())
        })?;
        memory.get().detach();
        slf.py().import("wigwag._serving")?.call_method1("log_failure", (error.value(slf.py()),))?;
        Ok(())
    }

    /// Makes it `len` bytes long and has them written. Its own views may see that, and are in the way only if it moves.
    fn write(memory: &Bound<'_, Memory>, len: usize, write: impl FnOnce(&mut [u8]) -> PyResult<()>) -> PyResult<()> {
        let exports = memory.get().exports();
        let is_same = memory.get().with(|held| Ok(matches!(held, Held::Request(request) if request.len() == len)))?;
        if exports > 0 && !is_same {
            memory.py().import("gc")?.call_method0("collect")?;
            if memory.get().exports() > 0 {
                return Err(Memory::views_alive(memory, "reply with another length"));
            }
        }
        memory.get().with(|held| match held {
            Held::Request(request) => {
                if request.len() != len {
                    request.resize(len).map_err(Failure::from)?;
                }
                write(request)
            }
            _ => Ok(()),
        })
    }

    fn write_array(slf: &Bound<'_, Self>, source: &ArraySource) -> PyResult<()> {
        let py = slf.py();
        // Beside the memory: the array may be a view of it, and no code of Python runs while it is locked.
        let mut copy = vec![0; source.header().payload_len()];
        source.write(py, &mut copy)?;
        Request::write(slf.as_super(), copy.len(), |bytes| {
            bytes.copy_from_slice(&copy);
            Ok(())
        })
    }
}

#[pymethods]
impl Request {
    /// Answers: with ``data``, or with what lies in the request.
    ///
    /// Raises ``BufferError`` while views of the request are alive, ``CapacityExceededError``.
    #[pyo3(signature = (data=None))]
    fn reply(slf: &Bound<'_, Self>, data: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if let Some(data) = data {
            let payload = Payload::of(data)?;
            let mut copy = vec![0; payload.len()];
            payload.copy_to(slf.py(), &mut copy)?;
            drop(payload);
            Request::write(slf.as_super(), copy.len(), |bytes| {
                bytes.copy_from_slice(&copy);
                Ok(())
            })?;
        }
        Request::take(slf, "reply")?.reply();
        Ok(())
    }

    /// Answers with an array.
    ///
    /// Raises ``BufferError`` while views of the request are alive, ``CapacityExceededError``, ``TypeError`` for
    /// elements that are no numbers.
    fn reply_array(slf: &Bound<'_, Self>, array: &Bound<'_, PyAny>) -> PyResult<()> {
        let source = ArraySource::of(array)?;
        Request::write_array(slf, &source)?;
        drop(source);
        Request::take(slf, "reply")?.reply();
        Ok(())
    }

    /// Answers with an error: the caller gets ``HandlerFailedError`` with the text, cut at 1,024 bytes.
    ///
    /// Raises ``BufferError`` while views of the request are alive.
    fn fail(slf: &Bound<'_, Self>, text: &str) -> PyResult<()> {
        Request::take(slf, "fail")?.fail(text);
        Ok(())
    }

    /// Makes it longer or shorter, up to the session's capacity; the bytes stay up to the shorter length.
    ///
    /// Raises ``BufferError`` while views are alive, ``CapacityExceededError``.
    fn resize(slf: &Bound<'_, Self>, len: usize) -> PyResult<()> {
        let memory = slf.as_super();
        if memory.get().exports() > 0 {
            return Err(Memory::views_alive(memory, "resize a request"));
        }
        memory.get().with(|held| match held {
            Held::Request(request) => raised(request.resize(len)),
            _ => Ok(()),
        })
    }

    /// Answers with what a handler returned. For `wigwag.aio`.
    fn _give(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        Request::give(slf, value)
    }

    /// Answers with an error, or ends the session if a view is alive. For `wigwag.aio`.
    fn _refuse(slf: &Bound<'_, Self>, text: &str) -> PyResult<()> {
        if matches!(*slf.as_super().get().lock(), Held::Gone(_)) {
            return Ok(());
        }
        Request::refuse(slf, text)
    }

    /// Process id, user id and group id of the client.
    #[getter]
    fn peer(&self) -> (i32, u32, u32) {
        self.peer
    }

    /// Whether the client is another user's: then the bytes are a copy.
    #[getter]
    fn is_from_other_user(&self) -> bool {
        self.is_other_user
    }

    /// Seconds until the client gives up, or ``None`` if it does not say.
    #[getter]
    fn time_left(&self) -> Option<f64> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// Whether nobody waits for the answer any more.
    #[getter]
    fn is_abandoned(slf: &Bound<'_, Self>) -> bool {
        match &*slf.as_super().get().lock() {
            Held::Request(request) => request.is_abandoned(),
            _ => true,
        }
    }
}
