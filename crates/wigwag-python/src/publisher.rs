//! The publishing side of a broadcast.

use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use wigwag::{Overrun, polled};

use crate::buffer::Payload;
use crate::dtypes::ArraySource;
use crate::errors::{Failure, of_kind, timed_out};
use crate::memory::{Held, Memory};
use crate::names::{ListenWishes, Replace, name_of, raised, wait_of};
use crate::turn::{Borrowed, Turn};
use crate::wait::{self, Closing, Limit, Slept, Step, duration};

/// Publishes messages to any number of subscribers, each of which reads them where they lie: it owns a name.
///
/// ``history`` messages are kept (64), each of up to ``capacity`` bytes (64 KiB; memory is taken only when it is
/// written to). ``overrun`` says what becomes of the oldest when the next one needs its place and a subscriber has not
/// read it: ``'drop_oldest'``, the default, replaces it, so that nobody can slow the publisher, and who loses messages
/// is told how many. A number of seconds waits for a slow subscriber that long, within as many messages as are kept,
/// and cuts it off then; with 0 a send raises ``FullError`` until there is room. Such a publisher may ``retain`` fewer
/// messages than its history that all have taken (``retain=0``: none, for large arrays the quickest, as memory that is
/// in the cache is written to again). ``max_holds`` messages can be held in
/// place by all subscribers together (64), ``holds`` by each of them (4). ``max_sessions`` subscribers may connect.
/// The other arguments are those of ``Server``.
///
/// One thread uses it at a time. Closing it ends the broadcast in good order: subscribers read what is there, and then
/// their loops end.
///
/// Raises what ``Server`` raises; ``InvalidConfigurationError`` for numbers out of their limits.
///
/// >>> import wigwag
/// >>> with wigwag.Publisher(wigwag.testing.name('prices')) as publisher:
/// ...     subscriber = wigwag.Subscriber(publisher.path)
/// ...     publisher.send(b'1.07')
/// ...     with subscriber.recv(timeout=10) as message:
/// ...         bytes(message), message.lost_before
/// 1
/// (b'1.07', 0)
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Publisher {
    turn: Turn<polled::Publisher>,
    closing: Closing,
    path: PathBuf,
    capacity: usize,
    history: usize,
}

/// What `overrun` says.
fn overrun_of(overrun: &Bound<'_, PyAny>) -> PyResult<Overrun> {
    if let Ok(named) = overrun.cast::<PyString>() {
        return match named.to_str()? {
            "drop_oldest" => Ok(Overrun::DropOldest),
            other => Err(PyValueError::new_err(format!(
                "overrun={other:?}: it is 'drop_oldest', or a number of seconds to wait for slow subscribers"
            ))),
        };
    }
    let seconds: f64 = overrun.extract().map_err(|_| {
        let kind = overrun.get_type().name().map(|kind| kind.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("overrun is 'drop_oldest' or a number of seconds, not {kind}"))
    })?;
    if seconds == f64::INFINITY {
        return Ok(Overrun::Wait(Duration::MAX));
    }
    Ok(Overrun::Wait(duration(seconds, "a patience (overrun)")?))
}

const DOING: &str = "uses this publisher";

impl Publisher {
    fn borrow(&self, py: Python<'_>) -> PyResult<Borrowed<'_, polled::Publisher>> {
        self.turn.borrow(py, DOING)
    }

    /// Waits for what `is_so` looks for, and arms. `None`: the publisher was closed; `false`: no time is left.
    fn wait_until(
        &self,
        py: Python<'_>,
        publisher: &mut polled::Publisher,
        limit: Limit,
        is_so: impl Fn(&mut polled::Publisher) -> Result<bool, wigwag::Error> + Sync,
    ) -> Result<Option<bool>, Failure> {
        if is_so(publisher)? {
            return Ok(Some(true));
        }
        let found = wait::wait(py, || {
            loop {
                if self.turn.is_closed() {
                    return Ok(Step::Done(false));
                }
                if is_so(publisher)? {
                    return Ok(Step::Done(true));
                }
                let until = limit.or_in(publisher.patience_left());
                match wait::sleep_unless_closed(publisher.as_fd(), &self.closing, until)? {
                    Slept::TimedOut if limit.is_over() => return Ok(Step::TimedOut),
                    Slept::Rang | Slept::TimedOut => {}
                    Slept::Interrupted => return Ok(Step::Interrupted),
                }
            }
        });
        publisher.stop_waiting();
        Ok(match found? {
            Some(true) => Some(true),
            Some(false) => None,
            None => Some(false),
        })
    }

    /// Waits until a message of that length has room.
    fn wait_for_room(
        &self,
        py: Python<'_>,
        publisher: &mut polled::Publisher,
        len: usize,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let limit = Limit::after(timeout)?;
        match self.wait_until(py, publisher, limit, |publisher| publisher.has_room_or_arm(len))? {
            Some(true) => Ok(()),
            None => Err(closed(py)),
            Some(false) if timeout == Some(0.0) => Err(of_kind(py, "Full", NO_ROOM)),
            Some(false) => {
                let seconds = timeout.unwrap_or(f64::INFINITY);
                Err(timed_out(py, &format!("not published within {seconds} s: {NO_ROOM}"), false))
            }
        }
    }

    fn lend(&self, py: Python<'_>, len: usize, timeout: Option<f64>) -> PyResult<polled::Draft> {
        let mut borrowed = self.borrow(py)?;
        let publisher = borrowed.get();
        self.wait_for_room(py, publisher, len, timeout)?;
        raised(publisher.try_loan(len))?.ok_or_else(|| of_kind(py, "Full", NO_ROOM))
    }

    fn publish(&self, py: Python<'_>, draft: polled::Draft) -> PyResult<u64> {
        raised(self.borrow(py)?.get().commit(draft))
    }

    /// Publishes what `write` writes.
    fn send_with(
        &self,
        py: Python<'_>,
        len: usize,
        timeout: Option<f64>,
        write: impl FnOnce(&mut [u8]) -> PyResult<()>,
    ) -> PyResult<u64> {
        let mut draft = self.lend(py, len, timeout)?;
        write(&mut draft)?;
        self.publish(py, draft)
    }
}

const NO_ROOM: &str = "a subscriber has not read what the next message would replace, and this publisher waits for it \
                       (overrun)";

fn closed(py: Python<'_>) -> PyErr {
    of_kind(py, "ServerClosed", "this publisher has been closed")
}

#[pymethods]
impl Publisher {
    #[new]
    #[pyo3(signature = (name, *, history=None, capacity=None, overrun=None, retain=None, max_holds=None,
        holds=None, max_sessions=None, max_bytes_total=None, wait="adaptive", replace=None, allow_users=vec![],
        allow_groups=vec![]))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        history: Option<usize>,
        capacity: Option<usize>,
        overrun: Option<&Bound<'_, PyAny>>,
        retain: Option<usize>,
        max_holds: Option<usize>,
        holds: Option<usize>,
        max_sessions: Option<usize>,
        max_bytes_total: Option<usize>,
        wait: &str,
        replace: Option<Replace>,
        allow_users: Vec<u32>,
        allow_groups: Vec<u32>,
    ) -> PyResult<Publisher> {
        let wait = wait_of(wait)?;
        let wishes = ListenWishes {
            slots: holds,
            capacity,
            max_sessions,
            max_bytes_total,
            wait,
            replace,
            allow_users,
            allow_groups,
        };
        let mut builder = wigwag::PublisherBuilder::from(wishes.options()?);
        if let Some(overrun) = overrun {
            builder = builder.overrun(overrun_of(overrun)?);
        }
        if let Some(messages) = history {
            builder = builder.history(messages);
        }
        if let Some(messages) = retain {
            builder = builder.retain(messages);
        }
        if let Some(messages) = max_holds {
            builder = builder.max_holds(messages);
        }
        let name = name_of(name)?;
        let publisher = crate::patience::in_thread(py, move || builder.bind(name))?;
        let mut publisher = raised(polled::Publisher::from_blocking(publisher))?;
        Ok(Publisher {
            closing: Closing::new()?,
            path: publisher.path().to_owned(),
            capacity: publisher.capacity(),
            history: publisher.history(),
            turn: Turn::new(publisher),
        })
    }

    /// Borrows ``len`` bytes of memory that all subscribers will read: fill it, then ``commit()`` it. A ``with`` block
    /// commits it at its end, and publishes nothing if an exception ends it.
    ///
    /// What lies there at first is anything, such as parts of earlier messages: fill all of it. There is always memory
    /// for one draft; more at a time take of what is there for messages that subscribers hold.
    ///
    /// A publisher that waits for its subscribers (``overrun``) waits here, up to ``timeout`` seconds.
    ///
    /// Raises ``CapacityExceededError``; ``FullError`` with ``timeout=0``, or if drafts have all the memory;
    /// ``TimedOut``; ``ServerClosedError`` if another publisher has taken the name; ``ForkedError``.
    ///
    /// >>> with wigwag.Publisher(wigwag.testing.name('frames')) as publisher:
    /// ...     subscriber = wigwag.Subscriber(publisher.path)
    /// ...     with publisher.loan(3) as draft:
    /// ...         draft[:] = b'abc'
    /// ...     bytes(subscriber.recv(timeout=10))
    /// b'abc'
    #[pyo3(signature = (len, timeout=None))]
    fn loan(slf: &Bound<'_, Self>, len: usize, timeout: Option<f64>) -> PyResult<Py<Draft>> {
        Draft::of(slf, slf.get().lend(slf.py(), len, timeout)?)
    }

    /// Borrows memory for an array of that shape and element type: write into ``numpy.asarray(draft.array())``.
    ///
    /// ``dtype`` is as in ``Client.loan_array``. The elements are anything at first.
    ///
    /// Raises what ``loan`` raises; ``EncodingError`` for more than 8 dimensions.
    ///
    /// >>> with wigwag.Publisher(wigwag.testing.name('frames')) as publisher:
    /// ...     publisher.loan_array((2, 3), 'float32').array()
    /// <wigwag.Array of float32 (2, 3), 24 bytes>
    #[pyo3(signature = (shape, dtype, timeout=None))]
    fn loan_array(
        slf: &Bound<'_, Self>,
        shape: &Bound<'_, PyAny>,
        dtype: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Py<Draft>> {
        let header = crate::dtypes::header(shape, dtype)?;
        let mut draft = slf.get().lend(slf.py(), header.payload_len(), timeout)?;
        header.write(&mut draft).map_err(Failure::from)?;
        Draft::of(slf, draft)
    }

    /// Publishes a copy of the bytes, and gives the message's number: the first is 1, and each has one more than the
    /// one before. ``data`` is any buffer.
    ///
    /// Raises what ``loan`` raises: then nothing was published.
    #[pyo3(signature = (data, timeout=None))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<u64> {
        let payload = Payload::of(data)?;
        self.send_with(py, payload.len(), timeout, |bytes| payload.copy_to(py, bytes))
    }

    /// As ``send``, with an array: the message's ``array()`` has element type and shape.
    ///
    /// >>> import array
    /// >>> with wigwag.Publisher(wigwag.testing.name('arrays')) as publisher:
    /// ...     subscriber = wigwag.Subscriber(publisher.path)
    /// ...     number = publisher.send_array(array.array('d', [1, 2]))
    /// ...     memoryview(subscriber.recv(timeout=10).array()).tolist()
    /// [1.0, 2.0]
    #[pyo3(signature = (array, timeout=None))]
    fn send_array(&self, py: Python<'_>, array: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<u64> {
        let source = ArraySource::of(array)?;
        self.send_with(py, source.header().payload_len(), timeout, |bytes| source.write(py, bytes))
    }

    /// As ``send``, with any object that can be pickled: ``BroadcastMessage.object(allow_pickle=True)`` gives it. Large
    /// buffers in it (numpy arrays) are copied once, and never through the pickle.
    ///
    /// >>> with wigwag.Publisher(wigwag.testing.name('objects')) as publisher:
    /// ...     subscriber = wigwag.Subscriber(publisher.path)
    /// ...     number = publisher.send_object({'step': 7})
    /// ...     subscriber.recv(timeout=10).object(allow_pickle=True)
    /// {'step': 7}
    #[pyo3(signature = (object, timeout=None))]
    fn send_object<'py>(
        slf: &Bound<'py, Self>,
        object: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("wigwag._objects")?.call_method1("publish", (slf, object, timeout))
    }

    /// Waits until at least ``count`` subscribers are there, up to ``timeout`` seconds.
    ///
    /// Raises ``TimedOut``, ``ServerClosedError``, ``ForkedError``.
    #[pyo3(signature = (count=1, timeout=None))]
    fn wait_for_subscribers(&self, py: Python<'_>, count: usize, timeout: Option<f64>) -> PyResult<()> {
        let limit = Limit::after(timeout)?;
        let mut borrowed = self.borrow(py)?;
        let publisher = borrowed.get();
        match self.wait_until(py, publisher, limit, |publisher| publisher.has_subscribers_or_arm(count))? {
            Some(true) => Ok(()),
            None => Err(closed(py)),
            Some(false) => {
                let (there, seconds) = (publisher.stats().subscribers, timeout.unwrap_or(f64::INFINITY));
                Err(timed_out(py, &format!("{there} of {count} subscribers came within {seconds} s"), false))
            }
        }
    }

    /// Who listens, and how far each is: a list of dicts with ``pid``, ``uid``, ``gid``; ``is_same_user``; ``lag``,
    /// messages that it has not taken; ``received``, ``lost``; ``may_hold`` and ``holds``, messages in place;
    /// ``is_asleep``. What a subscriber of another user says of itself may be anything.
    ///
    /// >>> with wigwag.Publisher(wigwag.testing.name('seen')) as publisher:
    /// ...     subscriber = wigwag.Subscriber(publisher.path)
    /// ...     publisher.wait_for_subscribers(1, timeout=10)
    /// ...     number = publisher.send(b'unread')
    /// ...     publisher.subscribers()[0]['lag']
    /// 1
    fn subscribers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let states = self.borrow(py)?.get().subscribers();
        let list = PyList::empty(py);
        for state in states {
            let dict = PyDict::new(py);
            dict.set_item("pid", state.peer.pid)?;
            dict.set_item("uid", state.peer.uid)?;
            dict.set_item("gid", state.peer.gid)?;
            dict.set_item("is_same_user", state.is_same_user)?;
            dict.set_item("lag", state.lag)?;
            dict.set_item("received", state.received)?;
            dict.set_item("lost", state.lost)?;
            dict.set_item("may_hold", state.may_hold)?;
            dict.set_item("holds", state.holds)?;
            dict.set_item("is_asleep", state.is_asleep)?;
            list.append(dict)?;
        }
        Ok(list)
    }

    /// What has happened so far, as numbers: ``published``, ``subscribers``, ``cut_off`` and others.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.borrow(py)?.get().stats();
        let dict = PyDict::new(py);
        dict.set_item("published", stats.published)?;
        dict.set_item("subscribers", stats.subscribers)?;
        dict.set_item("cut_off", stats.cut_off)?;
        dict.set_item("rung", stats.rung)?;
        dict.set_item("handed_over", stats.handed_over)?;
        dict.set_item("scans", stats.scans)?;
        Ok(dict)
    }

    /// Ends the broadcast in good order, and gives the name back: subscribers read what is there, and are told of the
    /// end. A thread that waits raises ``ServerClosedError``. Drafts and their views keep their memory; they are not
    /// published. Closing twice does nothing.
    fn close(&self, py: Python<'_>) {
        let publisher = self.turn.close();
        self.closing.tell();
        // It waits for the thread that lets subscribers in.
        py.detach(|| drop(publisher));
    }

    /// Whether ``close`` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.turn.is_closed()
    }

    /// The longest message in bytes.
    #[getter]
    fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many messages are kept.
    #[getter]
    fn history(&self) -> usize {
        self.history
    }

    /// Where the socket is.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Whether a message has room; asks to be told. For `wigwag.aio`.
    fn _has_room(&self, py: Python<'_>, len: usize) -> PyResult<bool> {
        raised(self.borrow(py)?.get().has_room_or_arm(len))
    }

    fn _has_subscribers(&self, py: Python<'_>, count: usize) -> PyResult<bool> {
        raised(self.borrow(py)?.get().has_subscribers_or_arm(count))
    }

    /// Seconds until the step is to be taken again.
    fn _patience_left(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        Ok(self.borrow(py)?.get().patience_left().map(|left| left.as_secs_f64()))
    }

    fn _stop_waiting(&self) {
        if let Some(mut borrowed) = self.turn.borrow_if_idle() {
            borrowed.get().stop_waiting();
        }
    }

    fn _fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.borrow(py)?.get().as_fd().as_raw_fd())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the publisher.
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

    fn __repr__(&self) -> String {
        let state = match self.turn.peek(polled::Publisher::stats) {
            Some(stats) => format!("{} published, {} subscribers", stats.published, stats.subscribers),
            None if self.turn.is_closed() => "closed".into(),
            None => "in use".into(),
        };
        format!("<wigwag.Publisher at {}, {state}>", self.path.display())
    }
}

/// Memory of a publisher, to be filled and published: a writable buffer, see ``Memory``.
///
/// ``with publisher.loan(n) as draft:`` publishes it when the block ends, and not if an exception ends it. One that is
/// dropped or released is not published. Made by ``Publisher.loan`` and ``Publisher.loan_array``.
#[pyclass(frozen, extends = Memory, module = "wigwag")]
pub struct Draft {
    publisher: Py<Publisher>,
}

impl Draft {
    fn of(publisher: &Bound<'_, Publisher>, draft: polled::Draft) -> PyResult<Py<Draft>> {
        let memory = Memory::new(Held::Draft(draft), "draft");
        let this = Draft { publisher: publisher.clone().unbind() };
        Py::new(publisher.py(), PyClassInitializer::from(memory).add_subclass(this))
    }
}

#[pymethods]
impl Draft {
    /// Publishes it, and gives the message's number: from here on every subscriber may read it, whatever happens to
    /// this process. A publisher that waits for its subscribers may wait here, too, if other messages were published
    /// since the loan.
    ///
    /// Raises ``BufferError`` while views of the draft are alive; ``TimedOut``, ``FullError`` (with ``timeout=0``), and
    /// it can be committed again; ``ServerClosedError``, ``ForkedError``.
    #[pyo3(signature = (timeout=None))]
    fn commit(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<u64> {
        let (py, memory) = (slf.py(), slf.as_super());
        if memory.get().exports() > 0 {
            return Err(Memory::views_alive(memory, "publish a draft"));
        }
        let publisher = slf.get().publisher.get();
        let mut borrowed = publisher.borrow(py)?;
        publisher.wait_for_room(py, borrowed.get(), 0, timeout)?;
        match Memory::take(memory, "publish a draft", "was published")? {
            Held::Draft(draft) => raised(borrowed.get().commit(draft)),
            _ => Err(PyValueError::new_err("this is no draft")),
        }
    }

    /// Publishes it; if an exception ends the block it is not published. Views that are alive raise ``BufferError``,
    /// or with an exception keep the memory until they are gone.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_value, traceback);
        let memory = slf.as_super();
        if exc_type.is_none() && !matches!(*memory.get().lock(), Held::Gone(_)) {
            return Draft::commit(slf, None).map(drop);
        }
        Memory::leave(memory, exc_type.is_some())
    }
}
