//! Streams: bytes both ways.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use wigwag::{ReadHalf, ShutdownHandle, WriteHalf};

use crate::buffer::{Payload, Writable};
use crate::errors::{Failure, timed_out};
use crate::names::{ConnectWishes, ListenWishes, Replace, name_of, wait_of};
use crate::turn::Turn;
use crate::wait::{self, Limit, Slept, Step};

/// Takes a step that may have to wait, again and again. `None`: no time is left.
fn steps<H: AsFd + Send, T: Send>(
    py: Python<'_>,
    half: &mut H,
    limit: Limit,
    mut attempt: impl FnMut(&mut H) -> io::Result<Option<T>> + Send,
    arm: impl Fn(&mut H) -> io::Result<bool> + Sync,
) -> Result<Option<T>, Failure> {
    wait::wait(py, || {
        loop {
            if let Some(done) = attempt(half)? {
                return Ok(Step::Done(done));
            }
            if !arm(half)? {
                continue;
            }
            match wait::sleep(half.as_fd(), limit)? {
                Slept::Rang => {}
                Slept::TimedOut => return Ok(Step::TimedOut),
                Slept::Interrupted => return Ok(Step::Interrupted),
            }
        }
    })
}

/// A stream of bytes, both ways: shaped like a connected socket, but through memory.
///
/// ``ring_bytes`` is how many bytes can be under way in each direction (a power of two); the other arguments are
/// those of ``Client``. One thread reads and another writes at a time. ``read`` gives ``b''`` at the end: the other
/// side has shut its writing down. If it was killed, all that it had written comes first, and then ``PeerDied``.
///
/// Raises what ``Client`` raises.
///
/// >>> import wigwag
/// >>> with wigwag.StreamListener(wigwag.testing.name('chat')) as listener:
/// ...     near = wigwag.Stream(listener.path)
/// ...     far = listener.accept(timeout=10)
/// ...     near.write_all(b'hello')
/// ...     far.read_exactly(5, timeout=10)
/// b'hello'
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Stream {
    reading: Turn<ReadHalf>,
    writing: Turn<WriteHalf>,
    peer: (i32, u32, u32),
    named: Option<(Py<PyAny>, Py<PyDict>)>,
}

impl Stream {
    fn of(stream: wigwag::Stream, named: Option<(Py<PyAny>, Py<PyDict>)>) -> PyResult<Stream> {
        let peer = stream.peer();
        let (reading, writing) = stream.into_split().map_err(Failure::from)?;
        Ok(Stream {
            reading: Turn::new(reading),
            writing: Turn::new(writing),
            peer: (peer.pid, peer.uid, peer.gid),
            named,
        })
    }

    fn read_some(&self, py: Python<'_>, into: &mut [u8], limit: Limit, timeout: Option<f64>) -> PyResult<usize> {
        let mut borrowed = self.reading.borrow(py, "reads from this stream")?;
        let count = steps(py, borrowed.get(), limit, |half| half.try_read(into), ReadHalf::arm_read)?;
        count.ok_or_else(|| {
            timed_out(py, &format!("nothing to read within {} s", timeout.unwrap_or(f64::INFINITY)), false)
        })
    }
}

#[pymethods]
impl Stream {
    #[new]
    #[pyo3(signature = (name, *, ring_bytes=None, timeout=None, server_timeout=None, wait="adaptive",
        server_user=None))]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        ring_bytes: Option<usize>,
        timeout: Option<f64>,
        server_timeout: Option<f64>,
        wait: &str,
        server_user: Option<u32>,
    ) -> PyResult<Stream> {
        let wishes = ConnectWishes::new(timeout, server_timeout, wait, server_user);
        let kept = wishes.as_dict(py)?;
        kept.bind(py).set_item("ring_bytes", ring_bytes)?;
        let stream = wishes.connect(py, name, move |options, name| {
            let mut builder = wigwag::StreamBuilder::from(options);
            if let Some(bytes) = ring_bytes {
                builder = builder.ring_bytes(bytes);
            }
            builder.connect(name)
        })?;
        Stream::of(stream, Some((name.clone().unbind(), kept)))
    }

    /// Reads up to ``most`` bytes: what is there, or what comes first within ``timeout`` seconds. ``b''`` is the end.
    ///
    /// Raises ``TimedOut``, ``PeerDied``, ``AbortedError``, ``ForkedError``.
    #[pyo3(signature = (most=65536, timeout=None))]
    fn read<'py>(&self, py: Python<'py>, most: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let mut bytes = vec![0; most.min(1 << 24)];
        let count = self.read_some(py, &mut bytes, Limit::after(timeout)?, timeout)?;
        Ok(PyBytes::new(py, &bytes[..count]))
    }

    /// Reads into a writable buffer, such as a bytearray or a numpy array, and gives how many bytes came; 0 is the end.
    ///
    /// Raises what ``read`` raises.
    #[pyo3(signature = (buffer, timeout=None))]
    fn read_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<usize> {
        let mut target = Writable::of(buffer)?;
        if target.is_empty() {
            return Err(PyValueError::new_err("the buffer is empty, and 0 would mean the end"));
        }
        let limit = Limit::after(timeout)?;
        // Beside the buffer: others may look at it while this thread is detached.
        let mut bytes = vec![0; target.len().min(1 << 20)];
        let count = self.read_some(py, &mut bytes, limit, timeout)?;
        target.write(&bytes[..count]);
        Ok(count)
    }

    /// Reads exactly so many bytes.
    ///
    /// Raises ``EOFError`` if the stream ends before, and what ``read`` raises.
    #[pyo3(signature = (count, timeout=None))]
    fn read_exactly<'py>(&self, py: Python<'py>, count: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = Limit::after(timeout)?;
        let mut bytes = vec![0; count];
        let mut done = 0;
        while done < count {
            match self.read_some(py, &mut bytes[done..], limit, timeout)? {
                0 => {
                    let why = format!("the stream ended after {done} of {count} bytes");
                    return Err(pyo3::exceptions::PyEOFError::new_err(why));
                }
                more => done += more,
            }
        }
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes all bytes, as room comes free, within ``timeout`` seconds.
    ///
    /// Raises ``TimedOut`` with how many were written, ``PeerDied``, ``AbortedError``, ``BrokenPipeError``.
    #[pyo3(signature = (data, timeout=None))]
    fn write_all(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let limit = Limit::after(timeout)?;
        let payload = Payload::of(data)?;
        let mut copy = Vec::new();
        let bytes = match payload {
            Payload::Bytes(bytes) => bytes,
            other => {
                copy.resize(other.len(), 0);
                other.copy_to(py, &mut copy)?;
                &copy
            }
        };
        let mut borrowed = self.writing.borrow(py, "writes to this stream")?;
        let mut done = 0;
        let half = borrowed.get();
        let written = steps(
            py,
            half,
            limit,
            |half: &mut WriteHalf| {
                while done < bytes.len() {
                    match half.try_write(&bytes[done..])? {
                        Some(count) => done += count,
                        None => return Ok(None),
                    }
                }
                half.flush().map(Some)
            },
            WriteHalf::arm_write,
        )?;
        written.ok_or_else(|| {
            let (count, seconds) = (bytes.len(), timeout.unwrap_or(f64::INFINITY));
            timed_out(py, &format!("{done} of {count} bytes were written within {seconds} s"), done > 0)
        })
    }

    /// Says that nothing more is written: the other side reads what was, and then the end.
    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        Ok(self.writing.borrow(py, "writes to this stream")?.get().shutdown().map_err(Failure::from)?)
    }

    /// Gives the stream up in both directions, with a reason for the other side (``AbortedError``).
    fn abort(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        Ok(self.writing.borrow(py, "writes to this stream")?.get().abort(reason).map_err(Failure::from)?)
    }

    /// Ends the stream: what was written can still be read by the other side.
    fn close(&self) {
        drop((self.reading.close(), self.writing.close()));
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.writing.is_closed()
    }

    /// Process id, user id and group id of the other side.
    #[getter]
    fn peer(&self) -> (i32, u32, u32) {
        self.peer
    }

    /// Reads what is there; `None`: nothing, and the descriptor tells when there is. For `wigwag.aio`.
    fn _try_read<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut borrowed = self.reading.borrow(py, "reads from this stream")?;
        let half = borrowed.get();
        let mut bytes = vec![0; most.min(1 << 24)];
        loop {
            if let Some(count) = half.try_read(&mut bytes).map_err(Failure::from)? {
                return Ok(Some(PyBytes::new(py, &bytes[..count])));
            }
            if half.arm_read().map_err(Failure::from)? {
                return Ok(None);
            }
        }
    }

    /// Writes what there is room for; 0: nothing, and the descriptor tells when there is. For `wigwag.aio`.
    fn _try_write(&self, py: Python<'_>, data: &[u8], offset: usize) -> PyResult<usize> {
        let mut borrowed = self.writing.borrow(py, "writes to this stream")?;
        let half = borrowed.get();
        let bytes = data.get(offset..).unwrap_or_default();
        loop {
            if let Some(count) = half.try_write(bytes).map_err(Failure::from)? {
                half.flush().map_err(Failure::from)?;
                return Ok(count);
            }
            if half.arm_write().map_err(Failure::from)? {
                return Ok(0);
            }
        }
    }

    /// The descriptors of reading and writing. For `wigwag.aio`.
    fn _filenos(&self, py: Python<'_>) -> PyResult<(i32, i32)> {
        let reading = self.reading.borrow(py, "reads from this stream")?.get().as_fd().as_raw_fd();
        let writing = self.writing.borrow(py, "writes to this stream")?.get().as_fd().as_raw_fd();
        Ok((reading, writing))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the stream; if an exception ends the block, the other side sees an error and no end.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_value, traceback);
        if exc_type.is_some()
            && let Ok(mut borrowed) = self.writing.borrow(py, "writes to this stream")
        {
            let _ = borrowed.get().abort("the other side failed while it used the stream");
        }
        self.close();
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        match &slf.get().named {
            Some((name, wishes)) => crate::names::reduced(slf.as_any(), name, wishes),
            None => Err(pyo3::exceptions::PyTypeError::new_err(
                "an accepted stream cannot be pickled: it has no name to connect to",
            )),
        }
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { ", closed" } else { "" };
        format!("<wigwag.Stream with process {}{state}>", self.peer.0)
    }
}

/// A listener for streams: it owns a name. ``accept()``, or a ``for`` loop.
///
/// The arguments are those of ``Server``.
///
/// Raises what ``Server`` raises.
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct StreamListener {
    turn: Turn<wigwag::StreamListener>,
    shutdown: ShutdownHandle,
    path: PathBuf,
}

impl StreamListener {
    fn next(&self, py: Python<'_>, limit: Limit) -> Result<Option<wigwag::Stream>, Failure> {
        let mut borrowed = self.turn.borrow(py, "accepts from this listener")?;
        steps(
            py,
            borrowed.get(),
            limit,
            |listener: &mut wigwag::StreamListener| match listener.accept() {
                Ok(stream) => Ok(Some(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
            |_| Ok(true),
        )
    }
}

#[pymethods]
impl StreamListener {
    #[new]
    #[pyo3(signature = (name, *, max_sessions=None, max_bytes_total=None, wait="adaptive", replace=None,
        allow_users=vec![], allow_groups=vec![]))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        max_sessions: Option<usize>,
        max_bytes_total: Option<usize>,
        wait: &str,
        replace: Option<Replace>,
        allow_users: Vec<u32>,
        allow_groups: Vec<u32>,
    ) -> PyResult<StreamListener> {
        let wishes = ListenWishes {
            slots: None,
            capacity: None,
            max_sessions,
            max_bytes_total,
            wait: wait_of(wait)?,
            replace,
            allow_users,
            allow_groups,
        };
        let (options, name) = (wishes.options()?, name_of(name)?);
        let listener = crate::patience::in_thread(py, move || wigwag::StreamListenerBuilder::from(options).bind(name))?;
        listener.set_nonblocking(true).map_err(Failure::from)?;
        Ok(StreamListener {
            shutdown: listener.shutdown_handle(),
            path: listener.path().to_owned(),
            turn: Turn::new(listener),
        })
    }

    /// Waits for the next stream, up to ``timeout`` seconds.
    ///
    /// Raises ``TimedOut``, ``ServerClosedError`` after ``shutdown()``, ``ForkedError``.
    #[pyo3(signature = (timeout=None))]
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Stream> {
        match self.next(py, Limit::after(timeout)?)? {
            Some(stream) => Stream::of(stream, None),
            None => Err(timed_out(py, &format!("no stream within {} s", timeout.unwrap_or(f64::INFINITY)), false)),
        }
    }

    /// The next stream, or `None` now. For `wigwag.aio`.
    fn _try_accept(&self, py: Python<'_>) -> PyResult<Option<Stream>> {
        let mut borrowed = self.turn.borrow(py, "accepts from this listener")?;
        match borrowed.get().accept() {
            Ok(stream) => Stream::of(stream, None).map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Failure::from(error).into()),
        }
    }

    fn _fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.turn.borrow(py, "accepts from this listener")?.get().as_raw_fd())
    }

    /// Ends it: ``accept`` raises ``ServerClosedError``, and a ``for`` loop ends. May be called from any thread.
    fn shutdown(&self) {
        self.shutdown.shutdown();
    }

    /// As ``shutdown``, of a listener whose successor is about to start. A listener that is replaced does so by itself.
    /// May be called from any thread.
    fn hand_over(&self) {
        self.shutdown.hand_over();
    }

    /// Gives the name back. Streams that were accepted go on.
    fn close(&self) {
        self.shutdown.shutdown();
        drop(self.turn.close());
    }

    /// Where the socket is.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Stream>> {
        match self.next(py, Limit::Never) {
            Ok(Some(stream)) => Stream::of(stream, None).map(Some),
            Ok(None) => Ok(None),
            Err(Failure::Library(error)) if matches!(error.kind(), wigwag::ErrorKind::ServerClosed { .. }) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the listener.
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
        let state = if self.turn.is_closed() { ", closed" } else { "" };
        format!("<wigwag.StreamListener at {}{state}>", self.path.display())
    }
}
