//! The subscribing side of a broadcast.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wigwag::{ErrorKind, Start, polled};

use crate::errors::{Failure, of_kind, timed_out};
use crate::memory::{Held, Memory};
use crate::names::{ConnectWishes, raised};
use crate::turn::{Borrowed, Turn, lock};
use crate::wait::{self, Closing, LOOKS_ATTACHED, Limit, Slept, Step, duration};

/// Takes the messages of a publisher: all of them in order, or with the number of those that it was too slow for.
///
/// ``start`` says which message comes first: ``'next'``, the first that is published from now on; ``'oldest'``, the
/// oldest that is kept; ``'last'``, the newest that is there. ``reconnect`` is for how many seconds the next publisher
/// of the name is looked for once this one has ended, in each call; without it the end is an error. The other arguments
/// are those of ``Client``.
///
/// It reads where the publisher wrote, and cannot write there. One that is stopped or killed costs the publisher
/// nothing, unless that one waits for its subscribers.
///
/// ``for message in subscriber`` lets go of each message when it asks for the next, and ends with the broadcast. One
/// thread receives at a time. It may be pickled: then it connects anew, by its name.
///
/// Raises what ``Client`` raises.
///
/// >>> import wigwag
/// >>> publisher = wigwag.Publisher(wigwag.testing.name('prices'), history=2)
/// >>> subscriber = wigwag.Subscriber(publisher.path)
/// >>> for text in [b'1', b'2', b'3', b'4']:
/// ...     number = publisher.send(text)
/// >>> publisher.close()
/// >>> [(bytes(message), message.sequence, message.lost_before) for message in subscriber]
/// [(b'3', 3, 2), (b'4', 4, 0)]
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Subscriber {
    turn: Turn<polled::Subscriber>,
    closing: Closing,
    name: Py<PyAny>,
    wishes: Py<PyDict>,
    /// The message that a `for` loop has in hand.
    in_hand: Mutex<Option<Py<BroadcastMessage>>>,
}

/// A message that was taken, and of whom.
struct Taken {
    held: Held,
    sequence: u64,
    lost_before: u64,
    is_of_new_publisher: bool,
    is_in_place: bool,
    publisher_uid: u32,
}

fn take(subscriber: &mut polled::Subscriber, copies: bool) -> Result<Option<Taken>, wigwag::Error> {
    let taken = if copies {
        let mut bytes = Vec::new();
        subscriber.try_recv_into(&mut bytes)?.map(|receipt| Taken {
            held: Held::Copy(bytes),
            sequence: receipt.sequence,
            lost_before: receipt.lost_before,
            is_of_new_publisher: receipt.is_of_new_publisher,
            is_in_place: false,
            publisher_uid: subscriber.publisher().uid,
        })
    } else {
        subscriber.try_recv()?.map(|message| Taken {
            sequence: message.sequence(),
            lost_before: message.lost_before(),
            is_of_new_publisher: message.is_of_new_publisher(),
            is_in_place: message.is_in_place(),
            publisher_uid: subscriber.publisher().uid,
            held: Held::Broadcast(Box::new(message)),
        })
    };
    Ok(taken)
}

/// What a wait came to.
enum Next {
    Message(Taken),
    Closed,
    TimedOut,
}

const DOING: &str = "receives from this subscriber";

fn closed(py: Python<'_>) -> PyErr {
    of_kind(py, "ServerClosed", "this subscriber has been closed")
}

impl Subscriber {
    fn borrow(&self, py: Python<'_>) -> PyResult<Borrowed<'_, polled::Subscriber>> {
        self.turn.borrow(py, DOING)
    }

    fn next(&self, py: Python<'_>, limit: Limit, copies: bool) -> Result<Next, Failure> {
        let mut borrowed = self.borrow(py)?;
        let subscriber = borrowed.get();
        // A copy takes its time: others run meanwhile.
        if !copies
            && subscriber.glance(LOOKS_ATTACHED)
            && let Some(taken) = take(subscriber, false)?
        {
            return Ok(Next::Message(taken));
        }
        let mut may_spin = !limit.is_over();
        let found = wait::wait(py, || {
            loop {
                if std::mem::take(&mut may_spin) {
                    subscriber.spin()?;
                }
                if let Some(taken) = take(subscriber, copies)? {
                    return Ok(Step::Done(Some(taken)));
                }
                if self.turn.is_closed() {
                    return Ok(Step::Done(None));
                }
                match wait::sleep_unless_closed(subscriber.as_fd(), &self.closing, limit)? {
                    Slept::Rang => {}
                    Slept::TimedOut => return Ok(Step::TimedOut),
                    Slept::Interrupted => return Ok(Step::Interrupted),
                }
            }
        })?;
        Ok(match found {
            Some(Some(taken)) => Next::Message(taken),
            Some(None) => Next::Closed,
            None => Next::TimedOut,
        })
    }

    /// Lets go of the message that a loop had in hand; one with views that are alive, when they are gone.
    fn let_go(&self, py: Python<'_>) {
        let former = lock(&self.in_hand).take();
        if let Some(message) = former {
            message.bind(py).as_super().get().detach();
        }
    }
}

#[pymethods]
impl Subscriber {
    #[new]
    #[pyo3(signature = (name, *, start="next", timeout=None, server_timeout=None, reconnect=None, wait="adaptive",
        server_user=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        start: &str,
        timeout: Option<f64>,
        server_timeout: Option<f64>,
        reconnect: Option<f64>,
        wait: &str,
        server_user: Option<u32>,
    ) -> PyResult<Subscriber> {
        let first = match start {
            "next" => Start::Next,
            "oldest" => Start::Oldest,
            "last" => Start::Last,
            _ => return Err(PyValueError::new_err(format!("start={start:?}: it is 'next', 'oldest' or 'last'"))),
        };
        let wishes = ConnectWishes::new(timeout, server_timeout, wait, server_user);
        let kept = wishes.as_dict(py)?;
        kept.bind(py).set_item("start", start)?;
        kept.bind(py).set_item("reconnect", reconnect)?;
        let reconnect =
            reconnect.map(|time| duration(time, "a time for the next publisher (reconnect)")).transpose()?;
        let subscriber = wishes.connect(py, name, move |options, name| {
            let mut builder = wigwag::SubscriberBuilder::from(options).start(first);
            if let Some(time) = reconnect {
                builder = builder.reconnect(time);
            }
            builder.connect(name)
        })?;
        Ok(Subscriber {
            turn: Turn::new(raised(polled::Subscriber::from_blocking(subscriber))?),
            closing: Closing::new()?,
            name: name.clone().unbind(),
            wishes: kept,
            in_hand: Mutex::new(None),
        })
    }

    /// Waits for the next message, up to ``timeout`` seconds.
    ///
    /// It is read where the publisher wrote it, and held there until it is released, dropped, or its ``with`` block
    /// ends; a subscriber may hold a few (``Publisher(holds=...)``). ``copy=True`` copies it instead: nothing is held,
    /// and the copy is writable.
    ///
    /// Raises ``TimedOut``; ``EndedError`` once the publisher has ended the broadcast and all is read; ``PeerDied``
    /// once its process is gone and all is read; with ``reconnect`` it waits for the next publisher instead, and raises
    /// ``NotRunningError`` if none came. ``RefusedError`` if it was cut off, ``FullError`` if it holds as many as it
    /// may (the message is not lost), ``ForkedError``.
    #[pyo3(signature = (timeout=None, *, copy=false))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>, copy: bool) -> PyResult<Py<BroadcastMessage>> {
        let limit = Limit::after(timeout)?;
        match self.next(py, limit, copy)? {
            Next::Message(taken) => BroadcastMessage::of(py, taken),
            Next::Closed => Err(closed(py)),
            Next::TimedOut => {
                Err(timed_out(py, &format!("no message within {} s", timeout.unwrap_or(f64::INFINITY)), false))
            }
        }
    }

    /// The next message if one is there, else ``None``.
    ///
    /// Raises what ``recv`` raises.
    #[pyo3(signature = (*, copy=false))]
    fn try_recv(&self, py: Python<'_>, copy: bool) -> PyResult<Option<Py<BroadcastMessage>>> {
        let taken = raised(take(self.borrow(py)?.get(), copy))?;
        taken.map(|taken| BroadcastMessage::of(py, taken)).transpose()
    }

    /// How many messages were published and not taken yet.
    #[getter]
    fn lag(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.borrow(py)?.get().lag())
    }

    /// Process id, user id and group id of the publisher.
    #[getter]
    fn publisher(&self, py: Python<'_>) -> PyResult<(i32, u32, u32)> {
        let peer = self.borrow(py)?.get().publisher();
        Ok((peer.pid, peer.uid, peer.gid))
    }

    /// The longest message in bytes.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.borrow(py)?.get().capacity())
    }

    /// How many messages the publisher keeps.
    #[getter]
    fn history(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.borrow(py)?.get().history())
    }

    /// The name that it connected to.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyAny> {
        self.name.clone_ref(py)
    }

    /// What has happened so far, as numbers: ``received``; ``lost``; ``publishers`` after the first; ``may_hold`` and
    /// ``held``, messages in place.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.borrow(py)?.get().stats();
        let dict = PyDict::new(py);
        dict.set_item("received", stats.received)?;
        dict.set_item("lost", stats.lost)?;
        dict.set_item("publishers", stats.publishers)?;
        dict.set_item("may_hold", stats.may_hold)?;
        dict.set_item("held", stats.held)?;
        Ok(dict)
    }

    /// Ends it; a thread that waits raises ``ServerClosedError``. Messages and their views stay until they are gone.
    /// Closing twice does nothing.
    fn close(&self, py: Python<'_>) {
        self.let_go(py);
        let subscriber = self.turn.close();
        self.closing.tell();
        drop(subscriber);
    }

    /// Whether ``close`` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.turn.is_closed()
    }

    fn _fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.borrow(py)?.get().as_fd().as_raw_fd())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Lets go of the message before, and waits for the next; the iteration ends with the broadcast, or ``close()``.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<BroadcastMessage>>> {
        self.let_go(py);
        if self.turn.is_closed() {
            return Ok(None);
        }
        let message = match self.next(py, Limit::Never, false) {
            Ok(Next::Message(taken)) => BroadcastMessage::of(py, taken)?,
            Ok(Next::Closed | Next::TimedOut) => return Ok(None),
            Err(Failure::Library(error)) if error.kind() == ErrorKind::Ended => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        *lock(&self.in_hand) = Some(message.clone_ref(py));
        Ok(Some(message))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the subscriber.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        self.close(py);
    }

    /// Pickled it is its name and its wishes: it connects anew.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        crate::names::reduced(slf.as_any(), &slf.get().name, &slf.get().wishes)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = self.name.bind(py).repr()?;
        let state = match self.turn.peek(polled::Subscriber::stats) {
            Some(stats) => format!("{} received, {} lost", stats.received, stats.lost),
            None if self.turn.is_closed() => "closed".into(),
            None => "receiving".into(),
        };
        Ok(format!("<wigwag.Subscriber to {name}, {state}>"))
    }
}

/// A message of a broadcast, in its publisher's memory: a read-only buffer, see ``Memory``.
///
/// It is held there until it is released, dropped, or its ``with`` block ends: the publisher writes elsewhere
/// meanwhile. One of up to 48 bytes is a copy, as is one that cannot be held (``is_in_place``); one that was asked for
/// with ``copy=True`` is a copy that may be written to. Made by ``Subscriber.recv``.
#[pyclass(frozen, extends = Memory, module = "wigwag")]
pub struct BroadcastMessage {
    sequence: u64,
    lost_before: u64,
    is_of_new_publisher: bool,
    is_in_place: bool,
    publisher_uid: u32,
}

impl BroadcastMessage {
    fn of(py: Python<'_>, taken: Taken) -> PyResult<Py<BroadcastMessage>> {
        let Taken { held, sequence, lost_before, is_of_new_publisher, is_in_place, publisher_uid } = taken;
        let this = BroadcastMessage { sequence, lost_before, is_of_new_publisher, is_in_place, publisher_uid };
        let memory = Memory::new(held, "message");
        Py::new(py, PyClassInitializer::from(memory).add_subclass(this))
    }
}

#[pymethods]
impl BroadcastMessage {
    /// Its number: a publisher's first message has 1, and each has one more than the one before.
    #[getter]
    fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many messages this subscriber has lost between the one before and this one. Of the first of another
    /// publisher: how many that one had published and let go of before.
    #[getter]
    fn lost_before(&self) -> u64 {
        self.lost_before
    }

    /// Whether it is the first of another publisher than the one before (``Subscriber(reconnect=...)``).
    #[getter]
    fn is_of_new_publisher(&self) -> bool {
        self.is_of_new_publisher
    }

    /// Whether it is read where the publisher wrote it, and not a copy.
    #[getter]
    fn is_in_place(&self) -> bool {
        self.is_in_place
    }

    /// The object that ``Publisher.send_object`` sent. Buffers in it (numpy arrays) lie in the message: they are views
    /// of it, and hold it for as long as they are alive.
    ///
    /// Raises ``PermissionError`` without ``allow_pickle=True`` or if the publisher is another user's: unpickling runs
    /// what the pickle says. ``EncodingError`` if it is no object.
    #[pyo3(signature = (*, allow_pickle=false))]
    fn object<'py>(slf: &Bound<'py, Self>, allow_pickle: bool) -> PyResult<Bound<'py, PyAny>> {
        let uid = slf.get().publisher_uid;
        slf.py().import("wigwag._objects")?.call_method1("load", (slf, allow_pickle, uid))
    }
}
