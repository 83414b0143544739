//! The queue: messages one way, which the sender keeps until they are acknowledged.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wigwag::{ErrorKind, ShutdownHandle, polled};

use crate::buffer::Payload;
use crate::dtypes::ArraySource;
use crate::errors::{Failure, timed_out};
use crate::memory::{Held, Memory};
use crate::names::{ConnectWishes, ListenWishes, Replace, name_of, raised, wait_of};
use crate::turn::{Borrowed, Turn, lock};
use crate::wait::{self, Limit, Slept, Step, duration};

/// The sending end of a queue: each message is kept until the receiver has acknowledged it, and goes to the next
/// receiver if that one dies.
///
/// ``slots`` messages may be unacknowledged at a time, each of up to ``capacity`` bytes; the other arguments are those
/// of ``Client``. ``server_timeout`` is also how long the next receiver is looked for after one has gone.
///
/// **End it with** ``close()``, **or use it in a** ``with`` **block**: both wait until all is acknowledged. One that is
/// garbage waits in a thread in the background, which ends with the process: for up to ``linger`` seconds, by default
/// as long as a receiver lives, and for 5 seconds where there is none.
///
/// Raises what ``Client`` raises.
///
/// >>> import wigwag
/// >>> with wigwag.Receiver(wigwag.testing.name('jobs')) as receiver:
/// ...     sender = wigwag.Sender(receiver.path)
/// ...     sender.send(b'resize 12.png')
/// ...     with receiver.recv(timeout=10) as message:
/// ...         bytes(message)
/// ...     sender.close()
/// b'resize 12.png'
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Sender {
    turn: Turn<Sending>,
    /// For an event loop, and for a thread that sleeps as one does, so that a signal wakes it.
    descriptor: OwnedFd,
    name: Py<PyAny>,
    wishes: Py<PyDict>,
}

/// A sender that waits for nothing when it is dropped: a finalizer must not.
struct Sending(Option<wigwag::Sender>);

impl Sending {
    fn abandon(mut self) {
        self.0.take().into_iter().for_each(wigwag::Sender::abandon);
    }
}

impl Deref for Sending {
    type Target = wigwag::Sender;

    fn deref(&self) -> &wigwag::Sender {
        self.0.as_ref().expect("its end alone takes it")
    }
}

impl DerefMut for Sending {
    fn deref_mut(&mut self) -> &mut wigwag::Sender {
        self.0.as_mut().expect("its end alone takes it")
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(wigwag::Sender::end_in_background);
    }
}

impl Sender {
    fn send_with(&self, py: Python<'_>, bytes: &[u8], timeout: Option<f64>) -> PyResult<()> {
        let limit = Limit::after(timeout)?;
        let mut borrowed = self.turn.borrow(py, "uses this sender")?;
        let sender = borrowed.get();
        if raised(sender.send_or_arm(bytes))? {
            return Ok(());
        }
        if limit.is_over() {
            return raised(sender.try_send(bytes)); // it says why not
        }
        if self.wait_for(py, sender, limit, |sender| sender.send_or_arm(bytes))? {
            return Ok(());
        }
        let Err(why) = sender.try_send(bytes) else { return Ok(()) };
        let seconds = timeout.unwrap_or(f64::INFINITY);
        Err(timed_out(py, &format!("not sent within {seconds} s: {why}"), false))
    }

    fn flush_within(&self, py: Python<'_>, borrowed: &mut Borrowed<'_, Sending>, timeout: Option<f64>) -> PyResult<()> {
        let limit = Limit::after(timeout)?;
        let sender = borrowed.get();
        if self.wait_for(py, sender, limit, wigwag::Sender::flush_or_arm)? {
            return Ok(());
        }
        let (open, seconds) = (sender.unacknowledged(), timeout.unwrap_or(f64::INFINITY));
        let why = format!("{open} messages were not acknowledged within {seconds} s; they are kept");
        Err(timed_out(py, &why, true))
    }

    /// Whether a step came to its end in time.
    fn wait_for(
        &self,
        py: Python<'_>,
        sender: &mut Sending,
        limit: Limit,
        step: impl Fn(&mut wigwag::Sender) -> Result<bool, wigwag::Error> + Sync,
    ) -> PyResult<bool> {
        let descriptor = self.descriptor.as_fd();
        let found = wait::wait(py, || {
            loop {
                if step(sender)? {
                    return Ok(Step::Done(()));
                }
                match wait::sleep(descriptor, limit)? {
                    Slept::Rang => {}
                    Slept::TimedOut => return Ok(Step::TimedOut),
                    Slept::Interrupted => return Ok(Step::Interrupted),
                }
            }
        })?;
        Ok(found.is_some())
    }
}

#[pymethods]
impl Sender {
    #[new]
    #[pyo3(signature = (name, *, slots=None, capacity=None, timeout=None, server_timeout=None, linger=None,
        wait="adaptive", server_user=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        slots: Option<usize>,
        capacity: Option<usize>,
        timeout: Option<f64>,
        server_timeout: Option<f64>,
        linger: Option<f64>,
        wait: &str,
        server_user: Option<u32>,
    ) -> PyResult<Sender> {
        let wishes = ConnectWishes::new(timeout, server_timeout, wait, server_user).slots(slots, capacity);
        let kept = wishes.as_dict(py)?;
        kept.bind(py).set_item("linger", linger)?;
        let linger = linger.map(|time| duration(time, "a time to linger")).transpose()?;
        let sender = wishes.connect(py, name, move |options, name| {
            let mut builder = wigwag::SenderBuilder::from(options);
            if let Some(time) = linger {
                builder = builder.linger(time);
            }
            builder.connect(name)
        })?;
        let mut sender = Sending(Some(sender));
        let descriptor = raised(sender.try_clone_descriptor())?;
        Ok(Sender { turn: Turn::new(sender), descriptor, name: name.clone().unbind(), wishes: kept })
    }

    /// Sends a message: copies it into shared memory, and returns. While the queue is full, or there is no receiver, it
    /// waits up to ``timeout`` seconds.
    ///
    /// Raises ``FullError`` or ``NotRunningError`` with ``timeout=0``, ``TimedOut``, ``CapacityExceededError``,
    /// ``ForkedError``: then the message was not sent.
    #[pyo3(signature = (data, timeout=None))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        match Payload::of(data)? {
            Payload::Bytes(bytes) => self.send_with(py, bytes, timeout),
            // Beside the buffer, which others may write to while this thread waits for room.
            payload => {
                let mut copy = vec![0; payload.len()];
                payload.copy_to(py, &mut copy)?;
                drop(payload);
                self.send_with(py, &copy, timeout)
            }
        }
    }

    /// As ``send``, with an array: the message's ``array()`` has element type and shape.
    #[pyo3(signature = (array, timeout=None))]
    fn send_array(&self, py: Python<'_>, array: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let source = ArraySource::of(array)?;
        let mut copy = vec![0; source.header().payload_len()];
        source.write(py, &mut copy)?;
        drop(source);
        self.send_with(py, &copy, timeout)
    }

    /// As ``send``, with any object that can be pickled: ``Message.object(allow_pickle=True)`` gives it.
    ///
    /// >>> with wigwag.Receiver(wigwag.testing.name('objects')) as receiver:
    /// ...     sender = wigwag.Sender(receiver.path)
    /// ...     sender.send_object({'file': '12.png', 'width': 640})
    /// ...     with receiver.recv(timeout=10) as message:
    /// ...         message.object(allow_pickle=True)
    /// ...     sender.close()
    /// {'file': '12.png', 'width': 640}
    #[pyo3(signature = (object, timeout=None))]
    fn send_object(slf: &Bound<'_, Self>, object: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        slf.py().import("wigwag._objects")?.call_method1("send", (slf, object, timeout))?;
        Ok(())
    }

    /// Waits until all is acknowledged, up to ``timeout`` seconds.
    ///
    /// Raises ``TimedOut``; ``NotRunningError`` if the receiver has gone and no other came. The messages are kept.
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let mut borrowed = self.turn.borrow(py, "uses this sender")?;
        self.flush_within(py, &mut borrowed, timeout)
    }

    /// Waits until all is acknowledged, up to ``timeout`` seconds, and ends it. If it raises, it is not ended.
    ///
    /// Raises what ``flush`` raises. Closing twice does nothing.
    #[pyo3(signature = (timeout=None))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        if self.turn.is_closed() {
            return Ok(());
        }
        let mut borrowed = self.turn.borrow(py, "uses this sender")?;
        self.flush_within(py, &mut borrowed, timeout)?;
        self.turn.close();
        drop(borrowed);
        Ok(())
    }

    /// Ends it at once: what is not acknowledged is lost, unless the receiver has it.
    fn abandon(&self) {
        if let Some(sender) = self.turn.close() {
            sender.abandon();
        }
    }

    /// How many messages are not acknowledged.
    #[getter]
    fn unacknowledged(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.turn.borrow(py, "uses this sender")?.get().unacknowledged())
    }

    /// The largest message in bytes.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.turn.borrow(py, "uses this sender")?.get().capacity())
    }

    /// How many messages may be unacknowledged at a time.
    #[getter]
    fn slots(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.turn.borrow(py, "uses this sender")?.get().slots())
    }

    /// The name that it connected to.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyAny> {
        self.name.clone_ref(py)
    }

    /// Whether it has ended.
    #[getter]
    fn closed(&self) -> bool {
        self.turn.is_closed()
    }

    /// What has happened so far, as numbers: ``sent``, ``acknowledged``, ``redelivered``, ``refused``.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.turn.borrow(py, "uses this sender")?.get().stats();
        let dict = PyDict::new(py);
        dict.set_item("sent", stats.sent)?;
        dict.set_item("acknowledged", stats.acknowledged)?;
        dict.set_item("redelivered", stats.redelivered)?;
        dict.set_item("refused", stats.refused)?;
        dict.set_item("reconnects", stats.reconnects)?;
        Ok(dict)
    }

    /// Sends if there is room. For `wigwag.aio`.
    fn _try_send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, is_array: bool) -> PyResult<bool> {
        let copy = if is_array {
            let source = ArraySource::of(data)?;
            let mut copy = vec![0; source.header().payload_len()];
            source.write(py, &mut copy)?;
            copy
        } else {
            let payload = Payload::of(data)?;
            let mut copy = vec![0; payload.len()];
            payload.copy_to(py, &mut copy)?;
            copy
        };
        let mut borrowed = self.turn.borrow(py, "uses this sender")?;
        raised(borrowed.get().send_or_arm(&copy))
    }

    fn _try_flush(&self, py: Python<'_>) -> PyResult<bool> {
        raised(self.turn.borrow(py, "uses this sender")?.get().flush_or_arm())
    }

    fn _listen(&self, py: Python<'_>) -> PyResult<()> {
        raised(self.turn.borrow(py, "uses this sender")?.get().take_events())
    }

    fn _fileno(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Waits until all is acknowledged and closes; if an exception ends the block it waits for nothing, as ``abandon``.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_value, traceback);
        if exc_type.is_some() {
            self.abandon();
            return Ok(());
        }
        self.close(py, None)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        crate::names::reduced(slf.as_any(), &slf.get().name, &slf.get().wishes)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = self.name.bind(py).repr()?;
        let state = match self.turn.peek(|sender| sender.unacknowledged()) {
            Some(count) => format!("{count} unacknowledged"),
            None if self.turn.is_closed() => "closed".into(),
            None => "in use".into(),
        };
        Ok(format!("<wigwag.Sender to {name}, {state}>"))
    }
}

/// The receiving end of a queue: it owns a name, and any number of senders connect to it.
///
/// The arguments are those of ``Server``, and ``shared=True``: receivers in up to 64 processes that say so take turns
/// with the messages of one name, and what one leaves that dies goes to another.
///
/// ``kept_by`` names a keeper (``Keeper``, or ``wigwag queue keep NAME``): what neither side could acknowledge before
/// both died is handed on by it. A sender that cannot be kept is refused, unless ``allow_unkept=True``.
///
/// ``for message in receiver`` acknowledges each message when it asks for the next; a ``with message`` block
/// acknowledges when it ends, and gives the message back if an exception ends it. A message that was handed out before
/// is marked (``Message.is_redelivered``).
///
/// Raises what ``Server`` raises.
///
/// >>> import wigwag
/// >>> receiver = wigwag.Receiver(wigwag.testing.name('jobs'))
/// >>> sender = wigwag.Sender(receiver.path)
/// >>> for text in [b'one', b'two']:
/// ...     sender.send(text)
/// >>> receiver.shutdown()
/// >>> [bytes(message) for message in receiver]
/// [b'one', b'two']
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Receiver {
    turn: Turn<polled::Receiver>,
    shutdown: ShutdownHandle,
    path: PathBuf,
    /// The message that a `for` loop has in hand.
    in_hand: Mutex<Option<Py<Message>>>,
}

impl Receiver {
    fn next(&self, py: Python<'_>, limit: Limit) -> Result<Option<wigwag::Delivery>, Failure> {
        let mut borrowed = self.turn.borrow(py, "uses this receiver")?;
        let receiver = borrowed.get();
        if let Some(message) = receiver.try_recv(false)? {
            return Ok(Some(message));
        }
        let is_now = limit.is_over();
        wait::wait(py, || {
            loop {
                if let Some(message) = receiver.try_recv(!is_now)? {
                    return Ok(Step::Done(message));
                }
                let slept = wait::sleep(receiver.as_fd(), limit)?;
                receiver.listen()?;
                match slept {
                    Slept::Rang => {}
                    Slept::TimedOut => return Ok(Step::TimedOut),
                    Slept::Interrupted => return Ok(Step::Interrupted),
                }
            }
        })
    }

    /// Acknowledges the message that a loop had in hand; one with views that are alive, when they are gone.
    fn let_go(&self, py: Python<'_>) {
        let former = lock(&self.in_hand).take();
        if let Some(message) = former {
            message.bind(py).as_super().get().detach();
        }
    }
}

#[pymethods]
impl Receiver {
    #[new]
    #[pyo3(signature = (name, *, slots=None, capacity=None, max_sessions=None, max_bytes_total=None, wait="adaptive",
        replace=None, allow_users=vec![], allow_groups=vec![], shared=false, kept_by=None, allow_unkept=false))]
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
        shared: bool,
        kept_by: Option<&Bound<'_, PyAny>>,
        allow_unkept: bool,
    ) -> PyResult<Receiver> {
        let wait = wait_of(wait)?;
        let wishes =
            ListenWishes { slots, capacity, max_sessions, max_bytes_total, wait, replace, allow_users, allow_groups };
        let (options, name) = (wishes.options()?, name_of(name)?);
        let mut builder = wigwag::ReceiverBuilder::from(options).shared(shared).allow_unkept(allow_unkept);
        if let Some(keeper) = kept_by {
            builder = builder.kept_by(name_of(keeper)?);
        }
        let bind = move || builder.bind(name);
        let receiver = crate::patience::in_thread(py, bind)?;
        let receiver = raised(polled::Receiver::from_blocking(receiver))?;
        Ok(Receiver {
            shutdown: receiver.shutdown_handle(),
            path: receiver.path().to_owned(),
            turn: Turn::new(receiver),
            in_hand: Mutex::new(None),
        })
    }

    /// Waits for the next message, up to ``timeout`` seconds.
    ///
    /// Raises ``TimedOut``; ``ServerClosedError`` after ``shutdown()``, once all that was sent until then was given
    /// out; ``ForkedError``.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<Message>> {
        let limit = Limit::after(timeout)?;
        match self.next(py, limit)? {
            Some(message) => Message::of(py, message),
            None => Err(timed_out(py, &format!("no message within {} s", timeout.unwrap_or(f64::INFINITY)), false)),
        }
    }

    /// The next message if one is there, else ``None``.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Py<Message>>> {
        let mut borrowed = self.turn.borrow(py, "uses this receiver")?;
        let receiver = borrowed.get();
        raised(receiver.listen())?;
        let found = raised(receiver.try_recv(false))?;
        drop(borrowed);
        found.map(|message| Message::of(py, message)).transpose()
    }

    /// Ends it: what was sent until now is still given out, and then a ``for`` loop ends. Any thread may call it.
    fn shutdown(&self) {
        self.shutdown.shutdown();
    }

    /// As ``shutdown``, of a receiver whose successor is about to start: its senders are told that there is one. A
    /// receiver that is replaced does so by itself. Any thread may call it.
    fn hand_over(&self) {
        self.shutdown.hand_over();
    }

    /// Ends all sessions and gives the name back. What was not acknowledged stays with its senders.
    fn close(&self, py: Python<'_>) {
        let in_hand = lock(&self.in_hand).take();
        if let Some(message) = in_hand {
            let _ = Message::nack(message.bind(py));
        }
        self.shutdown.shutdown();
        drop(self.turn.close());
    }

    /// Where the socket is.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// What has happened so far, as numbers: ``received``, ``redelivered``.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.turn.borrow(py, "uses this receiver")?.get().stats();
        let dict = PyDict::new(py);
        dict.set_item("received", stats.received)?;
        dict.set_item("redelivered", stats.redelivered)?;
        Ok(dict)
    }

    fn _fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.turn.borrow(py, "uses this receiver")?.get().as_fd().as_raw_fd())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Acknowledges the message before, and waits for the next.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<Message>>> {
        self.let_go(py);
        let message = match self.next(py, Limit::Never) {
            Ok(Some(message)) => Message::of(py, message)?,
            Ok(None) => return Ok(None),
            Err(Failure::Library(error)) if matches!(error.kind(), ErrorKind::ServerClosed { .. }) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        *lock(&self.in_hand) = Some(message.clone_ref(py));
        Ok(Some(message))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes it; a message that a ``for`` loop had in hand is given back.
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
        let state = match self.turn.peek(polled::Receiver::stats) {
            Some(stats) => format!("{} received", stats.received),
            None if self.turn.is_closed() => "closed".into(),
            None => "receiving".into(),
        };
        format!("<wigwag.Receiver at {}, {state}>", self.path.display())
    }
}

/// A message, in its sender's memory: a read-only buffer, see ``Memory``.
///
/// ``ack()`` tells the sender that it is done, ``nack()`` gives it back, to be received once more. ``with message:``
/// does the first when the block ends, and the second when an exception ends it. One that is dropped with neither is
/// given back. Made by ``Receiver.recv``.
#[pyclass(frozen, extends = Memory, module = "wigwag")]
pub struct Message {
    is_redelivered: bool,
    peer: (i32, u32, u32),
}

impl Message {
    pub fn of(py: Python<'_>, delivery: wigwag::Delivery) -> PyResult<Py<Message>> {
        let peer = delivery.peer();
        let this = Message { is_redelivered: delivery.is_redelivered(), peer: (peer.pid, peer.uid, peer.gid) };
        let memory = Memory::new(Held::Message(delivery), "message");
        Py::new(py, PyClassInitializer::from(memory).add_subclass(this))
    }

    fn take(slf: &Bound<'_, Self>, doing: &str, gone: &'static str) -> PyResult<wigwag::Delivery> {
        match Memory::take(slf.as_super(), doing, gone)? {
            Held::Message(message) => Ok(message),
            _ => Err(PyValueError::new_err("this is no message")),
        }
    }
}

#[pymethods]
impl Message {
    /// Tells the sender that it is done.
    ///
    /// Raises ``BufferError`` while views of it are alive.
    fn ack(slf: &Bound<'_, Self>) -> PyResult<()> {
        Message::take(slf, "acknowledge a message", "was acknowledged")?.ack();
        Ok(())
    }

    /// Gives it back: it is received once more, and marked.
    ///
    /// Raises ``BufferError`` while views of it are alive.
    fn nack(slf: &Bound<'_, Self>) -> PyResult<()> {
        Message::take(slf, "give a message back", "was given back")?.nack();
        Ok(())
    }

    /// Whether it was handed out before, to this receiver or another.
    #[getter]
    fn is_redelivered(&self) -> bool {
        self.is_redelivered
    }

    /// Process id, user id and group id of the sender.
    #[getter]
    fn peer(&self) -> (i32, u32, u32) {
        self.peer
    }

    /// The object that ``Sender.send_object`` sent. Buffers in it (numpy arrays) lie in the message: they are read-only
    /// views, and the message cannot be acknowledged while they are alive.
    ///
    /// Raises ``PermissionError`` without ``allow_pickle=True`` or if the sender is another user's: unpickling runs
    /// what the pickle says. ``EncodingError`` if it is no object.
    #[pyo3(signature = (*, allow_pickle=false))]
    fn object<'py>(slf: &Bound<'py, Self>, allow_pickle: bool) -> PyResult<Bound<'py, PyAny>> {
        let uid = slf.get().peer.1;
        slf.py().import("wigwag._objects")?.call_method1("load", (slf, allow_pickle, uid))
    }

    /// Acknowledges it, or gives it back if an exception ends the block. Views that are alive then raise
    /// ``BufferError``, or with an exception keep the memory until they are gone.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_value, traceback);
        let memory = slf.as_super();
        if matches!(*memory.get().lock(), Held::Gone(_)) {
            return Ok(());
        }
        if exc_type.is_none() {
            return Message::ack(slf);
        }
        if memory.get().exports() == 0 {
            return Message::nack(slf);
        }
        memory.get().give_back_with_the_last_view();
        Ok(())
    }
}
