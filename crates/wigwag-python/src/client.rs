//! The client of an exchange.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wigwag::ErrorKind;
use wigwag::polled::{self, Readiness, Search};

use crate::buffer::Payload;
use crate::errors::{Failure, of_kind};
use crate::memory::{Held, Memory};
use crate::names::{ConnectWishes, RestartWishes, raised};
use crate::turn::lock;
use crate::wait::{self, LOOKS_ATTACHED, Limit, Slept, Step};

/// What a client's loans and calls need of it.
struct Link {
    client: polled::Client,
    /// Descriptors to sleep on that no thread sleeps on now.
    idle: Mutex<Vec<Readiness>>,
}

/// Threads that keep a descriptor to sleep on.
const IDLE_MAX: usize = 8;

impl Link {
    fn new(client: wigwag::Client) -> PyResult<Link> {
        let client = polled::Client::from_blocking(client).map_err(Failure::from)?;
        Ok(Link { client, idle: Mutex::default() })
    }

    fn readiness(&self) -> Result<Readiness, wigwag::Error> {
        match lock(&self.idle).pop() {
            Some(readiness) => Ok(readiness),
            None => self.client.readiness(),
        }
    }

    /// Takes in what has become of the server.
    fn listen(&self) -> Result<(), wigwag::Error> {
        let mut readiness = self.readiness()?;
        let heard = self.client.watch(&mut readiness).and_then(|()| self.client.listen(&mut readiness));
        self.put_back(Some(readiness));
        heard
    }

    fn put_back(&self, readiness: Option<Readiness>) {
        let mut idle = lock(&self.idle);
        let has_room = idle.len() < IDLE_MAX;
        idle.extend(readiness.filter(|_| has_room));
    }

    /// A loan, waited for if need be. `None`: no time is left.
    fn loan(&self, py: Python<'_>, len: usize, limit: Limit) -> Result<Option<polled::Loan>, Failure> {
        let mut search = Search::default();
        if let Some(loan) = self.client.try_loan_while(len, &mut search)? {
            return Ok(Some(loan));
        }
        let mut readiness = None;
        let found = wait::wait(py, || {
            let readiness = match &mut readiness {
                Some(readiness) => readiness,
                none => none.insert(self.readiness()?),
            };
            loop {
                if let Some(loan) = self.client.try_loan_while(len, &mut search)? {
                    return Ok(Step::Done(loan));
                }
                self.client.watch(readiness)?;
                match wait::sleep(readiness.as_fd(), limit)? {
                    Slept::Rang => self.client.listen(readiness)?,
                    Slept::TimedOut => return Ok(Step::TimedOut),
                    Slept::Interrupted => return Ok(Step::Interrupted),
                }
            }
        });
        self.put_back(readiness);
        found
    }

    /// The reply of a call. `None`: no time is left.
    fn reply(
        &self,
        py: Python<'_>,
        pending: &mut polled::Pending,
        limit: Limit,
    ) -> Result<Option<polled::Loan>, Failure> {
        if pending.glance(LOOKS_ATTACHED)
            && let Some(reply) = pending.try_reply()?
        {
            return Ok(Some(reply));
        }
        let mut readiness = None;
        let mut has_spun = false;
        let found = wait::wait(py, || {
            loop {
                if !has_spun {
                    has_spun = true;
                    pending.spin();
                }
                if let Some(reply) = pending.try_reply()? {
                    return Ok(Step::Done(reply));
                }
                let readiness = match &mut readiness {
                    Some(readiness) => readiness,
                    none => none.insert(self.readiness()?),
                };
                if !pending.arm()? {
                    continue;
                }
                self.client.watch(readiness)?;
                match wait::sleep(readiness.as_fd(), limit)? {
                    Slept::Rang => self.client.listen(readiness)?,
                    Slept::TimedOut => return Ok(Step::TimedOut),
                    Slept::Interrupted => return Ok(Step::Interrupted),
                }
            }
        });
        self.put_back(readiness);
        found
    }
}

fn timed_out(py: Python<'_>, timeout: Option<f64>, maybe_executed: bool) -> PyErr {
    let seconds = timeout.unwrap_or(f64::INFINITY);
    let what = if maybe_executed {
        ("TimedOut", "no reply within", "the server has the request and may still execute it")
    } else {
        ("TimedOut", "no slot came free, or no server was found, within", "the request was not executed")
    };
    crate::errors::timed_out(py, &format!("{} {seconds} s; {}", what.1, what.2), maybe_executed)
}

/// A client of an exchange: calls a server, through memory that only the two have.
///
/// ``name`` is a name, looked for in the user's runtime directory, or a path that begins with ``/``, ``./`` or ``../``.
/// ``slots`` calls can be in flight at a time (16), each with a payload of up to ``capacity`` bytes (1 MiB; memory is
/// taken only when it is written to). ``timeout`` is how long the server may take to answer, in seconds (5.0).
/// ``server_timeout`` is how long a server that is not there yet is waited for, in seconds. ``wait`` says how replies
/// are waited for: ``'adaptive'``, ``'park'`` or ``'spin'``. ``server_user`` is the user id that the server must have
/// (this process's own). ``slots`` and ``capacity`` are limited by the server.
///
/// With ``reconnect`` it outlives its server: whatever ended the session, the next call looks for a server of the name
/// for up to so many seconds, and makes a new session. Nothing is passed twice: calls that were under way end with
/// ``PeerDied`` or ``ServerClosedError``. A loan that was not passed goes to the next server with its bytes.
///
/// With ``follow_restarts`` it does the same, and calls that were passed and that nobody has begun go on at the next
/// server. The server says in the memory that a handler sees a request, before it does, so a call goes on only if it
/// was certainly not executed. Each other one ends with ``PeerDied`` and ``maybe_executed``. A call's own timeout goes
/// on meanwhile. If no server comes in so many seconds, the call ends with the error of the server's end, and
/// ``maybe_executed`` is false. Give one of the two.
///
/// Several threads may use one client. It may be pickled: then it connects anew, by its name. In a forked child it
/// raises ``ForkedError``.
///
/// Raises ``NotRunningError``, ``RefusedError``, ``TimedOut``, ``PeerDied``, ``NameInvalidError`` and others of
/// ``WigwagError``.
///
/// >>> import wigwag, threading
/// >>> server = wigwag.Server(wigwag.testing.name('upper'))
/// >>> thread = threading.Thread(target=server.serve, args=(lambda request: request.tobytes().upper(),))
/// >>> thread.start()
/// >>> with wigwag.Client(server.path) as client:
/// ...     with client.call(b'hello', timeout=10) as reply:
/// ...         bytes(reply)
/// b'HELLO'
/// >>> server.shutdown(); thread.join()
///
/// A server that is restarted under a client:
///
/// >>> server = wigwag.Server(wigwag.testing.name('restarted'))
/// >>> client = wigwag.Client(server.path, follow_restarts=10)
/// >>> pending = client.send(b'passed, and not begun')
/// >>> server.close()
/// >>> with wigwag.Server(server.path) as successor:
/// ...     poll = pending.try_wait() # the call goes on when it is waited for
/// ...     while (request := successor.try_recv()) is None:
/// ...         poll = pending.try_wait()
/// ...     request.reply()
/// ...     pending.wait(timeout=10).tobytes(), client.stats()['moved']
/// (b'passed, and not begun', 1)
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Client {
    link: Mutex<Option<Arc<Link>>>,
    name: Py<PyAny>,
    wishes: Py<PyDict>,
}

impl Client {
    fn link(&self, py: Python<'_>) -> PyResult<Arc<Link>> {
        lock(&self.link).clone().ok_or_else(|| of_kind(py, "ServerClosed", "this client has been closed: connect anew"))
    }

    fn lend(
        &self,
        py: Python<'_>,
        len: usize,
        limit: Limit,
        timeout: Option<f64>,
    ) -> PyResult<(Arc<Link>, polled::Loan)> {
        let link = self.link(py)?;
        match link.loan(py, len, limit)? {
            Some(loan) => Ok((link, loan)),
            None if timeout == Some(0.0) => Err(Failure::from(link.client.full()).into()),
            None => Err(timed_out(py, timeout, false)),
        }
    }

    /// Calls with what `write` writes.
    fn call_with(
        &self,
        py: Python<'_>,
        len: usize,
        timeout: Option<f64>,
        write: impl FnOnce(&mut [u8]) -> PyResult<()>,
    ) -> PyResult<Py<Reply>> {
        let limit = Limit::after(timeout)?;
        let link = self.link(py)?;
        let mut write = Some(write);
        let write_once = |bytes: &mut [u8]| write.take().map_or(Ok(()), |write| write(bytes)).map_err(Failure::from);
        let pending = match link.client.try_send_with(len, limit.at(), write_once)? {
            Some(pending) => pending,
            None => {
                let (_, mut loan) = self.lend(py, len, limit, timeout)?;
                if let Some(write) = write {
                    write(&mut loan)?;
                }
                loan.send(limit.at()).map_err(Failure::from)?
            }
        };
        finish(py, link, pending, limit, timeout)
    }

    fn send_with(
        &self,
        py: Python<'_>,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> PyResult<()>,
    ) -> PyResult<Pending> {
        let (link, mut loan) = self.lend(py, len, Limit::Never, None)?;
        write(&mut loan)?;
        let pending = loan.send(None).map_err(Failure::from)?;
        Ok(Pending { state: Mutex::new(PendingState::With(pending)), link })
    }
}

fn finish(
    py: Python<'_>,
    link: Arc<Link>,
    mut pending: polled::Pending,
    limit: Limit,
    timeout: Option<f64>,
) -> PyResult<Py<Reply>> {
    match link.reply(py, &mut pending, limit)? {
        Some(reply) => Reply::of(py, link, reply),
        None => Err(timed_out(py, timeout, pending.may_be_executed())), // and the call is given up
    }
}

fn connect(options: wigwag::ConnectOptions, name: OsString) -> Result<wigwag::Client, wigwag::Error> {
    wigwag::ClientBuilder::from(options).connect(name)
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (name, *, slots=None, capacity=None, timeout=None, server_timeout=None, reconnect=None,
        follow_restarts=None, wait="adaptive", server_user=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        slots: Option<usize>,
        capacity: Option<usize>,
        timeout: Option<f64>,
        server_timeout: Option<f64>,
        reconnect: Option<f64>,
        follow_restarts: Option<f64>,
        wait: &str,
        server_user: Option<u32>,
    ) -> PyResult<Client> {
        let restarts = RestartWishes { reconnect, follow_restarts };
        let wishes = ConnectWishes::new(timeout, server_timeout, wait, server_user);
        let wishes = wishes.slots(slots, capacity).restarts(restarts);
        let kept = wishes.as_dict(py)?;
        kept.bind(py).set_item("reconnect", reconnect)?;
        kept.bind(py).set_item("follow_restarts", follow_restarts)?;
        let link = Arc::new(Link::new(wishes.connect(py, name, connect)?)?);
        Ok(Client { link: Mutex::new(Some(link)), name: name.clone().unbind(), wishes: kept })
    }

    /// Borrows ``len`` bytes of memory that the server already has: fill it, then ``call()`` or ``send()`` it.
    ///
    /// The bytes are what a former call left there, zero at first. While all slots are out it waits, up to ``timeout``
    /// seconds.
    ///
    /// Raises ``CapacityExceededError``, ``FullError`` (with ``timeout=0``), ``TimedOut``, ``PeerDied``,
    /// ``ServerClosedError``, ``ForkedError``.
    ///
    /// >>> with wigwag.testing.echo() as server, wigwag.Client(server.path) as client:
    /// ...     loan = client.loan(3)
    /// ...     loan[:] = b'abc'
    /// ...     loan.call(timeout=10).tobytes()
    /// b'abc'
    #[pyo3(signature = (len, timeout=None))]
    fn loan(&self, py: Python<'_>, len: usize, timeout: Option<f64>) -> PyResult<Py<Loan>> {
        let (link, loan) = self.lend(py, len, Limit::after(timeout)?, timeout)?;
        Loan::of(py, link, loan)
    }

    /// Borrows memory for an array of that shape and element type: write into ``numpy.asarray(loan.array())``.
    ///
    /// ``dtype`` is a name such as ``'float32'``, ``'uint8'``, ``'bool'``, ``'complex64'`` or ``'bfloat16'``, or a
    /// numpy dtype. The elements are what a former call left there.
    ///
    /// Raises what ``loan`` raises; ``EncodingError`` for more than 8 dimensions.
    ///
    /// >>> with wigwag.testing.echo() as server, wigwag.Client(server.path) as client:
    /// ...     loan = client.loan_array((2, 3), 'float32')
    /// ...     loan.array()
    /// <wigwag.Array of float32 (2, 3), 24 bytes>
    #[pyo3(signature = (shape, dtype, timeout=None))]
    fn loan_array(
        &self,
        py: Python<'_>,
        shape: &Bound<'_, PyAny>,
        dtype: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Py<Loan>> {
        let header = crate::dtypes::header(shape, dtype)?;
        let (link, mut loan) = self.lend(py, header.payload_len(), Limit::after(timeout)?, timeout)?;
        header.write(&mut loan).map_err(Failure::from)?;
        Loan::of(py, link, loan)
    }

    /// Copies a request into shared memory, calls, and gives the reply, where it lies.
    ///
    /// ``data`` is any buffer; an array that is not contiguous is copied in C order. ``timeout`` is in seconds,
    /// ``None`` waits as long as the server lives. Other threads run while it waits, and Ctrl-C ends it: a call that
    /// ends so, or by its timeout, is given up, and the server sees that (``Request.is_abandoned``).
    ///
    /// Raises ``TimedOut``, ``PeerDied``, ``ServerClosedError``, each with ``maybe_executed``; ``HandlerFailedError``
    /// with the handler's text; and what ``loan`` raises.
    ///
    /// >>> with wigwag.testing.echo() as server, wigwag.Client(server.path) as client:
    /// ...     client.call(b'hello', timeout=10).tobytes()
    /// b'hello'
    #[pyo3(signature = (data, timeout=None))]
    fn call(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<Reply>> {
        let payload = Payload::of(data)?;
        self.call_with(py, payload.len(), timeout, |bytes| payload.copy_to(py, bytes))
    }

    /// As ``call``, with an array: the reply's ``array()`` has element type and shape, too, if it is one.
    ///
    /// ``array`` is what has a buffer (numpy) or DLPack (torch); one that is not contiguous is copied in C order. To
    /// write into shared memory without a copy use ``loan_array``.
    ///
    /// Raises what ``call`` raises; ``TypeError`` for elements that are no numbers.
    ///
    /// >>> import array
    /// >>> with wigwag.testing.echo() as server, wigwag.Client(server.path) as client:
    /// ...     memoryview(client.call_array(array.array('d', [1, 2]), timeout=10).array()).tolist()
    /// [1.0, 2.0]
    #[pyo3(signature = (array, timeout=None))]
    fn call_array(&self, py: Python<'_>, array: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<Reply>> {
        let source = crate::dtypes::ArraySource::of(array)?;
        self.call_with(py, source.header().payload_len(), timeout, |bytes| source.write(py, bytes))
    }

    /// As ``call``, with any object that can be pickled: gives the object that the reply is.
    ///
    /// Large buffers in it (numpy arrays) travel out of band: copied once into shared memory, and never through the
    /// pickle. The server must serve objects (``Server.serve_objects``). A reply is unpickled only from a server of
    /// this process's own user: unpickling runs what the pickle says.
    ///
    /// Raises what ``call`` raises; ``EncodingError`` if the reply is no object, ``PermissionError`` if the server is
    /// another user's.
    ///
    /// >>> import threading
    /// >>> server = wigwag.Server(wigwag.testing.name('sum'))
    /// >>> thread = threading.Thread(target=server.serve_objects, args=(sum,), kwargs={'allow_pickle': True})
    /// >>> thread.start()
    /// >>> wigwag.Client(server.path).call_object([1, 2, 3], allow_pickle=True, timeout=10)
    /// 6
    /// >>> server.shutdown(); thread.join()
    #[pyo3(signature = (object, *, allow_pickle=false, timeout=None))]
    fn call_object<'py>(
        slf: &Bound<'py, Self>,
        object: &Bound<'py, PyAny>,
        allow_pickle: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("wigwag._objects")?.call_method1("call", (slf, object, allow_pickle, timeout))
    }

    /// Copies a request in, passes it, and goes on: several calls can be under way, answered in any order.
    ///
    /// Raises what ``loan`` raises.
    ///
    /// >>> with wigwag.testing.echo() as server, wigwag.Client(server.path) as client:
    /// ...     first, second = client.send(b'1'), client.send(b'2')
    /// ...     second.wait(timeout=10).tobytes(), first.wait(timeout=10).tobytes()
    /// (b'2', b'1')
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Pending> {
        let payload = Payload::of(data)?;
        self.send_with(py, payload.len(), |bytes| payload.copy_to(py, bytes))
    }

    /// As ``send``, with an array; see ``call_array``.
    ///
    /// >>> with wigwag.testing.echo() as server, wigwag.Client(server.path) as client:
    /// ...     client.send_array(b'12').wait(timeout=10).array()
    /// <wigwag.Array of uint8 (2,), 2 bytes>
    fn send_array(&self, py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<Pending> {
        let source = crate::dtypes::ArraySource::of(array)?;
        self.send_with(py, source.header().payload_len(), |bytes| source.write(py, bytes))
    }

    /// Ends the session. Loans, replies and their views keep their memory until they are gone; whatever else they do
    /// raises ``ServerClosedError``.
    ///
    /// >>> with wigwag.testing.echo() as server:
    /// ...     client = wigwag.Client(server.path)
    /// ...     client.close()
    /// ...     client.closed
    /// True
    fn close(&self) {
        if let Some(link) = lock(&self.link).take() {
            link.client.close();
        }
    }

    /// Whether ``close`` was called.
    #[getter]
    fn closed(&self) -> bool {
        lock(&self.link).is_none()
    }

    /// The largest payload in bytes.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.link(py)?.client.capacity())
    }

    /// How many calls can be in flight at a time.
    #[getter]
    fn slots(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.link(py)?.client.slots())
    }

    /// The name that it connected to.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyAny> {
        self.name.clone_ref(py)
    }

    /// What has happened so far, as numbers: ``calls``, ``in_flight``, ``sleeps``, ``abandoned`` and others; how often
    /// another server was found (``reconnects``), and how many calls went on there that had been passed before
    /// (``moved``; each is one of ``calls``, once).
    ///
    /// >>> with wigwag.testing.echo() as server, wigwag.Client(server.path) as client:
    /// ...     client.stats()['calls']
    /// 0
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.link(py)?.client.stats();
        let dict = PyDict::new(py);
        dict.set_item("calls", stats.calls)?;
        dict.set_item("in_flight", stats.in_flight)?;
        dict.set_item("sleeps", stats.sleeps)?;
        dict.set_item("abandoned", stats.abandoned)?;
        dict.set_item("doorbells_rung", stats.doorbells_rung)?;
        dict.set_item("reconnects", stats.reconnects)?;
        dict.set_item("moved", stats.moved)?;
        Ok(dict)
    }

    /// The user that the server has. For `wigwag._objects`.
    #[getter]
    fn _server_uid(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        self.wishes.bind(py).get_item("server_user")?.map_or(Ok(None), |uid| uid.extract())
    }

    /// A descriptor for one event loop. For `wigwag.aio`.
    fn _readiness(&self, py: Python<'_>) -> PyResult<Ready> {
        let link = self.link(py)?;
        let readiness = link.client.readiness().map_err(Failure::from)?;
        Ok(Ready { readiness: Mutex::new(readiness), link })
    }

    /// Sends if a slot is free. For `wigwag.aio`.
    fn _try_send(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        is_array: bool,
        wait: &Wait,
    ) -> PyResult<Option<Pending>> {
        let link = self.link(py)?;
        let pending = if is_array {
            let source = crate::dtypes::ArraySource::of(data)?;
            let Some(mut loan) = wait.step(&link, source.header().payload_len())? else { return Ok(None) };
            source.write(py, &mut loan)?;
            loan.send(None)
        } else {
            let payload = Payload::of(data)?;
            let Some(mut loan) = wait.step(&link, payload.len())? else { return Ok(None) };
            payload.copy_to(py, &mut loan)?;
            loan.send(None)
        };
        Ok(Some(Pending { state: Mutex::new(PendingState::With(raised(pending)?)), link }))
    }

    /// A loan, or none now. For `wigwag.aio`.
    fn _try_loan(&self, py: Python<'_>, len: usize, wait: &Wait) -> PyResult<Option<Py<Loan>>> {
        let link = self.link(py)?;
        let loan = wait.step(&link, len)?;
        loan.map(|loan| Loan::of(py, link, loan)).transpose()
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the client.
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

    /// Pickled it is its name and its wishes: it connects anew.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        crate::names::reduced(slf.as_any(), &slf.get().name, &slf.get().wishes)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = self.name.bind(py).repr()?;
        let link = lock(&self.link).clone();
        let Some(client) = link.as_ref().map(|link| &link.client) else {
            return Ok(format!("<wigwag.Client of {name}, closed>"));
        };
        let state = match client.is_over() {
            true => "the session is over".to_owned(),
            false => format!("{} slots of {} bytes", client.slots(), client.capacity()),
        };
        let moved = match client.stats().moved {
            0 => String::new(),
            moved => format!(", {moved} calls moved"),
        };
        Ok(format!("<wigwag.Client of {name}, {state}{moved}>"))
    }
}

/// Memory of the client to be filled, which the server already has: ``call()`` or ``send()`` it.
///
/// It is a writable buffer: see ``Memory``. One that is dropped or released is not sent, and its slot is free again.
/// Made by ``Client.loan`` and ``Client.loan_array``.
#[pyclass(frozen, extends = Memory, module = "wigwag")]
pub struct Loan {
    link: Arc<Link>,
}

impl Loan {
    fn of(py: Python<'_>, link: Arc<Link>, loan: polled::Loan) -> PyResult<Py<Loan>> {
        let memory = Memory::new(Held::Loan(loan), "loan");
        Py::new(py, PyClassInitializer::from(memory).add_subclass(Loan { link }))
    }

    fn pass(slf: &Bound<'_, Self>, limit: Limit) -> PyResult<polled::Pending> {
        match Memory::take(slf.as_super(), "send a loan", "was sent")? {
            Held::Loan(loan) => Ok(loan.send(limit.at()).map_err(Failure::from)?),
            _ => Err(PyValueError::new_err("this is no loan")),
        }
    }
}

#[pymethods]
impl Loan {
    /// Passes the memory to the server and waits for the reply, up to ``timeout`` seconds.
    ///
    /// Raises ``BufferError`` while views of the loan are alive, and what ``Client.call`` raises.
    #[pyo3(signature = (timeout=None))]
    fn call(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<Reply>> {
        let limit = Limit::after(timeout)?;
        let pending = Loan::pass(slf, limit)?;
        finish(slf.py(), Arc::clone(&slf.get().link), pending, limit, timeout)
    }

    /// Passes the memory to the server and goes on.
    ///
    /// Raises ``BufferError`` while views of the loan are alive, ``PeerDied``, ``ServerClosedError``, ``ForkedError``.
    fn send(slf: &Bound<'_, Self>) -> PyResult<Pending> {
        let pending = Loan::pass(slf, Limit::Never)?;
        Ok(Pending { state: Mutex::new(PendingState::With(pending)), link: Arc::clone(&slf.get().link) })
    }

    /// The same slot for another number of bytes, which stay up to the shorter length.
    ///
    /// Raises ``BufferError`` while views are alive, ``CapacityExceededError``.
    fn resize(slf: &Bound<'_, Self>, len: usize) -> PyResult<()> {
        let memory = slf.as_super();
        if memory.get().exports() > 0 {
            return Err(Memory::views_alive(memory, "resize a loan"));
        }
        memory.get().with(|held| match held {
            Held::Loan(loan) => Ok(loan.resize(len).map_err(Failure::from)?),
            _ => Ok(()),
        })
    }
}

/// The memory of a call, back from the server and changed: a buffer, see ``Memory``.
///
/// It stays this side's until it is released or dropped, and with it the slot: ``with client.call(...) as reply``.
#[pyclass(frozen, extends = Memory, module = "wigwag")]
pub struct Reply {
    link: Arc<Link>,
}

impl Reply {
    fn of(py: Python<'_>, link: Arc<Link>, reply: polled::Loan) -> PyResult<Py<Reply>> {
        let memory = Memory::new(Held::Loan(reply), "reply");
        Py::new(py, PyClassInitializer::from(memory).add_subclass(Reply { link }))
    }
}

#[pymethods]
impl Reply {
    /// The same memory as the next request, with what lies in it.
    ///
    /// Raises ``BufferError`` while views of the reply are alive.
    fn loan(slf: &Bound<'_, Self>) -> PyResult<Py<Loan>> {
        match Memory::take(slf.as_super(), "make a reply the next request", "is the next request")? {
            Held::Loan(loan) => Loan::of(slf.py(), Arc::clone(&slf.get().link), loan),
            _ => Err(PyValueError::new_err("this is no reply")),
        }
    }
}

enum PendingState {
    With(polled::Pending),
    /// Another thread waits for it.
    Waiting,
    Over(&'static str),
}

/// A call that is with the server: ``wait()`` for its reply.
///
/// Dropping it, or leaving its ``with`` block, gives the call up. Made by ``Client.send`` and ``Loan.send``.
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Pending {
    state: Mutex<PendingState>,
    link: Arc<Link>,
}

impl Pending {
    fn take(&self) -> PyResult<polled::Pending> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, PendingState::Waiting) {
            PendingState::With(pending) => Ok(pending),
            other => {
                let why = match other {
                    PendingState::Over(why) => why,
                    _ => "another thread waits for this call",
                };
                *state = other;
                Err(PyValueError::new_err(why))
            }
        }
    }

    fn put(&self, state: PendingState) {
        let former = std::mem::replace(&mut *lock(&self.state), state);
        drop(former);
    }
}

const TAKEN: &str = "the reply of this call was taken";

#[pymethods]
impl Pending {
    /// Waits for the reply, up to ``timeout`` seconds; after a timeout it can be waited for again.
    ///
    /// Raises what ``Client.call`` raises; ``ValueError`` when the reply was taken.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<Reply>> {
        let limit = Limit::after(timeout)?;
        let mut pending = self.take()?;
        match self.link.reply(py, &mut pending, limit) {
            Ok(Some(reply)) => {
                self.put(PendingState::Over(TAKEN));
                Reply::of(py, Arc::clone(&self.link), reply)
            }
            Ok(None) => {
                let error = timed_out(py, timeout, pending.may_be_executed());
                self.put(PendingState::With(pending));
                Err(error)
            }
            Err(Failure::Python(error)) => {
                self.put(PendingState::With(pending)); // a signal: the call goes on
                Err(error)
            }
            Err(error) => {
                self.put(PendingState::Over("this call ended with an error"));
                Err(error.into())
            }
        }
    }

    /// The reply if it has come, else ``None``.
    ///
    /// Raises what ``wait`` raises.
    fn try_wait(&self, py: Python<'_>) -> PyResult<Option<Py<Reply>>> {
        self.step(py, false)
    }

    /// Gives the call up: its slot comes back when the server is done with it.
    fn cancel(&self) {
        let mut state = lock(&self.state);
        if matches!(*state, PendingState::With(_)) {
            let former = std::mem::replace(&mut *state, PendingState::Over("this call was given up"));
            drop(state);
            drop(former);
        }
    }

    /// As `try_wait`, and asks to be told by that descriptor. For `wigwag.aio`.
    fn _poll(&self, py: Python<'_>, ready: &Ready) -> PyResult<Option<Py<Reply>>> {
        let found = self.step(py, true)?;
        if found.is_none() {
            ready.watch()?;
        }
        Ok(found)
    }

    /// A descriptor for one event loop that tells of this call. For `wigwag.aio`.
    fn _readiness(&self) -> PyResult<Ready> {
        let readiness = self.link.client.readiness().map_err(Failure::from)?;
        Ok(Ready { readiness: Mutex::new(readiness), link: Arc::clone(&self.link) })
    }

    /// Whether that descriptor tells of it.
    fn _is_told_by(&self, ready: &Ready) -> bool {
        Arc::ptr_eq(&self.link, &ready.link)
    }

    /// Whether a server may have begun it. For `wigwag.aio`.
    fn _may_be_executed(&self) -> bool {
        match &*lock(&self.state) {
            PendingState::With(pending) => pending.may_be_executed(),
            PendingState::Waiting | PendingState::Over(_) => true,
        }
    }

    /// Looks for a microsecond or two. For `wigwag.aio`.
    fn _glance(&self) -> bool {
        matches!(&*lock(&self.state), PendingState::With(pending) if pending.glance(LOOKS_ATTACHED))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        self.cancel();
    }

    fn __repr__(&self) -> String {
        let state = match &*lock(&self.state) {
            PendingState::With(_) => "under way",
            PendingState::Waiting => "under way, and waited for",
            PendingState::Over(why) => why,
        };
        format!("<wigwag.Pending: {state}>")
    }
}

impl Pending {
    fn step(&self, py: Python<'_>, arms: bool) -> PyResult<Option<Py<Reply>>> {
        let mut pending = self.take()?;
        let mut has_listened = false;
        let mut step = || -> Result<Option<polled::Loan>, wigwag::Error> {
            loop {
                if let Some(reply) = pending.try_reply()? {
                    return Ok(Some(reply));
                }
                if !arms && !has_listened {
                    // Who only looks is told by nobody else that the server has ended.
                    has_listened = true;
                    self.link.listen()?;
                }
                if pending.arm()? || !arms {
                    return Ok(None);
                }
            }
        };
        match step() {
            Ok(Some(reply)) => {
                self.put(PendingState::Over(TAKEN));
                Reply::of(py, Arc::clone(&self.link), reply).map(Some)
            }
            Ok(None) => {
                self.put(PendingState::With(pending));
                Ok(None)
            }
            Err(error) => {
                self.put(PendingState::Over("this call ended with an error"));
                Err(Failure::from(error).into())
            }
        }
    }
}

/// A descriptor of one event loop, for `wigwag.aio`.
#[pyclass(frozen, name = "_Readiness", module = "wigwag")]
pub struct Ready {
    readiness: Mutex<Readiness>,
    link: Arc<Link>,
}

#[pymethods]
impl Ready {
    fn fileno(&self) -> i32 {
        lock(&self.readiness).as_raw_fd()
    }

    /// Takes in what rang.
    fn listen(&self) -> PyResult<()> {
        match self.link.client.listen(&mut lock(&self.readiness)) {
            // Whoever waits is told so himself.
            Err(error) if error.kind() != ErrorKind::Forked => Err(Failure::from(error).into()),
            _ => Ok(()),
        }
    }
}

impl Ready {
    /// Before each wait: what is to be waited for may be at another server than before.
    fn watch(&self) -> PyResult<()> {
        raised(self.link.client.watch(&mut lock(&self.readiness)))
    }
}

/// One task's wait for a slot, and for a server if there is none. For `wigwag.aio`.
#[pyclass(frozen, name = "_Wait", module = "wigwag")]
pub struct Wait {
    ready: Py<Ready>,
    search: Mutex<Search>,
}

#[pymethods]
impl Wait {
    #[new]
    fn new(ready: Py<Ready>) -> Wait {
        Wait { ready, search: Mutex::default() }
    }
}

impl Wait {
    fn step(&self, link: &Link, len: usize) -> PyResult<Option<polled::Loan>> {
        let loan = raised(link.client.try_loan_while(len, &mut lock(&self.search)))?;
        if loan.is_none() {
            self.ready.get().watch()?;
        }
        Ok(loan)
    }
}
