//! Memory of a session in Python's hands: who has the bytes, and which views of them are alive.
//!
//! A view keeps its `Memory` alive, as each exporter of a buffer is kept by its views, and that keeps the session and
//! its mapping. So a view never dangles, whatever ends meanwhile. What a view must not see is that the bytes become the
//! other side's: as long as one lives, the turn is not passed.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyBufferError, PyIndexError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::array::{HEADER_LEN, Header};
use wigwag::{Delivery, Request, polled};

use crate::array::Array;
use crate::buffer::{self, Shown};
use crate::errors::Failure;

/// Who has the bytes.
pub enum Held {
    Loan(polled::Loan),
    Request(Request),
    Message(Delivery),
    Draft(polled::Draft),
    /// Boxed, so that short bytes, which it has within itself, stay where they are.
    Broadcast(Box<wigwag::Message>),
    /// A copy of this process's own.
    Copy(Vec<u8>),
    /// They were given away or given back: how.
    Gone(&'static str),
}

/// Where an index of Python is.
fn place(at: isize, len: usize) -> PyResult<usize> {
    let counted = if at < 0 { at.checked_add_unsigned(len) } else { Some(at) };
    let place = counted.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < len);
    place.ok_or_else(|| PyIndexError::new_err(format!("byte {at} of {len}")))
}

impl Held {
    fn shown(&self) -> &[u8] {
        match self {
            Held::Loan(loan) => loan,
            Held::Request(request) => request,
            Held::Message(message) => message,
            Held::Draft(draft) => draft,
            Held::Broadcast(message) => message,
            Held::Copy(bytes) => bytes,
            Held::Gone(_) => &[],
        }
    }

    fn bytes(&mut self) -> (*mut u8, usize, bool) {
        match self {
            Held::Loan(loan) => (loan.as_mut_ptr(), loan.len(), false),
            Held::Request(request) => (request.as_mut_ptr(), request.len(), false),
            Held::Message(message) => (message.as_ptr().cast_mut(), message.len(), true),
            Held::Draft(draft) => (draft.as_mut_ptr(), draft.len(), false),
            Held::Broadcast(message) => (message.as_ptr().cast_mut(), message.len(), true),
            Held::Copy(bytes) => (bytes.as_mut_ptr(), bytes.len(), false),
            Held::Gone(_) => (std::ptr::NonNull::dangling().as_ptr(), 0, true),
        }
    }
}

/// Memory that both sides of a session have, while it is this side's turn: what ``Loan``, ``Reply``, ``Request``,
/// ``Message``, ``Draft`` and ``BroadcastMessage`` have in common.
///
/// It is a buffer of bytes: ``memoryview(x)``, ``bytes(x)``, ``numpy.frombuffer(x, dtype)`` and ``numpy.asarray(x)``
/// see the bytes where they lie, without a copy. ``x[i]`` and ``x[i:j]`` read, ``x[i:j] = data`` writes where it is
/// writable. A payload that is an array is seen with its shape through ``x.array()``.
///
/// As long as a view of it is alive (a memoryview, a numpy array), the memory is not passed to the other side:
/// ``BufferError`` says how many there are.
#[pyclass(subclass, weakref, frozen, module = "wigwag")]
pub struct Memory {
    held: Mutex<Held>,
    /// Views that are alive.
    exports: AtomicUsize,
    /// What the memory is, for sentences.
    what: &'static str,
    /// What becomes of the bytes with the last view: a `WITH_LAST_VIEW`.
    with_last_view: AtomicU8,
}

/// With the last view the bytes stay.
const STAY: u8 = 0;
/// With the last view the bytes go, and a message is acknowledged.
const ACCEPT: u8 = 1;
/// With the last view the bytes go, and a message is given back.
const REFUSE: u8 = 2;

/// Lets bytes go.
fn end(held: Held, accepts: bool) {
    match held {
        Held::Message(message) if accepts => message.ack(),
        Held::Message(message) => message.nack(),
        other => drop(other),
    }
}

impl Drop for Memory {
    /// A message that nobody has acknowledged is given back: whoever had it may have failed.
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        end(std::mem::replace(held, Held::Gone("is gone")), false);
    }
}

impl Memory {
    pub fn new(held: Held, what: &'static str) -> Memory {
        Memory { held: Mutex::new(held), exports: AtomicUsize::new(0), what, with_last_view: AtomicU8::new(STAY) }
    }

    /// Held for some instructions, by a thread that is attached, and never while anything of Python runs.
    pub fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn exports(&self) -> usize {
        self.exports.load(Ordering::Relaxed)
    }

    fn gone(&self, how: &str) -> PyErr {
        PyValueError::new_err(format!("this {} {how}: its memory is not this side's any more", self.what))
    }

    /// Takes the bytes, to pass or give them back.
    ///
    /// # Errors
    /// BufferError while views are alive, ValueError when they are gone.
    pub fn take(slf: &Bound<'_, Memory>, doing: &str, gone: &'static str) -> PyResult<Held> {
        let this = slf.get();
        let exports = this.exports();
        if exports > 0 && !matches!(*this.lock(), Held::Gone(_)) {
            return Err(Memory::views_alive(slf, doing));
        }
        let mut held = this.lock();
        match std::mem::replace(&mut *held, Held::Gone(gone)) {
            Held::Gone(how) => {
                *held = Held::Gone(how);
                drop(held);
                Err(this.gone(how))
            }
            taken => Ok(taken),
        }
    }

    /// The error that names what is alive.
    pub fn views_alive(slf: &Bound<'_, Memory>, doing: &str) -> PyErr {
        let py = slf.py();
        let (what, count) = (slf.get().what, slf.get().exports());
        let named = py
            .import("wigwag._views")
            .and_then(|module| module.getattr("named"))
            .and_then(|named| named.call1((slf,)))
            .and_then(|text| text.extract::<String>())
            .unwrap_or_default();
        PyBufferError::new_err(format!(
            "cannot {doing} while {count} {} alive{named}: delete {} (del, memoryview.release), or copy what is still \
             needed",
            if count == 1 { format!("view of this {what} is") } else { format!("views of this {what} are") },
            if count == 1 { "it" } else { "them" },
        ))
    }

    /// Lets the bytes go, now or with the last view: a message is acknowledged.
    pub fn detach(&self) {
        self.let_go(ACCEPT);
    }

    /// The same, and a message is given back.
    pub fn give_back_with_the_last_view(&self) {
        self.let_go(REFUSE);
    }

    fn let_go(&self, how: u8) {
        self.with_last_view.store(how, Ordering::Relaxed);
        if self.exports() == 0 {
            let held = std::mem::replace(&mut *self.lock(), Held::Gone("was released"));
            end(held, how == ACCEPT);
        }
    }

    /// Uses the bytes.
    pub fn with<R>(&self, using: impl FnOnce(&mut Held) -> PyResult<R>) -> PyResult<R> {
        let mut held = self.lock();
        match &mut *held {
            Held::Gone(how) => {
                let how = *how;
                drop(held);
                Err(self.gone(how))
            }
            there => using(there),
        }
    }

    /// Fills a view, and counts it.
    ///
    /// # Safety
    /// As `buffer::fill`; `owner` keeps `slf` alive.
    pub unsafe fn export(
        slf: &Bound<'_, Memory>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
        header: Option<&Header>,
        owner: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = slf.get();
        let (data, len, is_readonly) = this
            .with(|held| Ok(held.bytes()))
            .inspect_err(|_| {
                if !view.is_null() {
                    // SAFETY: the caller's.
                    unsafe { (*view).obj = std::ptr::null_mut() };
                }
            })
            .map_err(|error| PyBufferError::new_err(error.value(slf.py()).to_string()))?;
        let flat = [len as isize];
        let shape: Vec<isize>;
        let mut shown = Shown { data, len, is_readonly, element: c"B", item_len: 1, shape: &flat };
        if let Some(header) = header {
            let element = header.element();
            let Some(format) = buffer::format_of(element) else {
                // SAFETY: the caller's.
                unsafe { (*view).obj = std::ptr::null_mut() };
                return Err(PyBufferError::new_err(format!(
                    "buffers have no elements of {element}: use DLPack (torch.from_dlpack), or the bytes \
                     (numpy.frombuffer(memory, 'u1', offset=64))"
                )));
            };
            if HEADER_LEN + header.elements_len() != len {
                // SAFETY: the caller's.
                unsafe { (*view).obj = std::ptr::null_mut() };
                return Err(PyBufferError::new_err("the memory has been resized since the array was looked at"));
            }
            shape = header.shape().iter().map(|length| *length as isize).collect();
            shown = Shown {
                // The header lies before it, within the same bytes.
                data: data.wrapping_add(HEADER_LEN),
                len: header.elements_len(),
                is_readonly,
                element: format,
                item_len: element.size().unwrap_or(1),
                shape: &shape,
            };
        }
        // SAFETY: the caller's: `owner` keeps this memory, whose bytes stay while a view is counted.
        unsafe { buffer::fill(view, flags, &shown, owner)? };
        this.exports.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A view is released.
    pub fn unexport(&self) {
        let how = self.with_last_view.load(Ordering::Relaxed);
        if self.exports.fetch_sub(1, Ordering::Relaxed) == 1 && how != STAY {
            self.let_go(how);
        }
    }

    /// A use that is no buffer of Python's, such as a tensor's, begins.
    pub fn pin(&self) {
        self.exports.fetch_add(1, Ordering::Relaxed);
    }

    /// A pointer to the bytes, for who has [pinned](Memory::pin) them.
    pub fn data(&self) -> PyResult<(*mut u8, usize, bool)> {
        self.with(|held| Ok(held.bytes()))
    }

    /// Whether the bytes are read-only.
    pub fn is_readonly(&self) -> bool {
        self.lock().bytes().2
    }

    /// How `with` ends: what is alive keeps the bytes if an exception is on its way.
    pub fn leave(slf: &Bound<'_, Memory>, is_failing: bool) -> PyResult<()> {
        if matches!(*slf.get().lock(), Held::Gone(_)) {
            return Ok(());
        }
        if slf.get().exports() > 0 && !is_failing {
            return Err(Memory::views_alive(slf, "end the `with` block"));
        }
        slf.get().detach();
        Ok(())
    }

    fn described(&self) -> String {
        let mut held = self.lock();
        let (_, len, is_readonly) = held.bytes();
        let state = match &*held {
            Held::Gone(how) => format!(", {how}"),
            _ if is_readonly => ", read-only".into(),
            _ => String::new(),
        };
        drop(held);
        match self.exports() {
            0 => format!("{len} bytes{state}"),
            1 => format!("{len} bytes{state}, 1 view alive"),
            count => format!("{len} bytes{state}, {count} views alive"),
        }
    }
}

#[pymethods]
impl Memory {
    /// # Safety
    /// Python's: the view is to be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let owner = slf.clone().into_any();
        // SAFETY: the view is Python's, and the owner is this memory.
        unsafe { Memory::export(&slf, view, flags, None, owner) }
    }

    /// # Safety
    /// Python's: the view was filled here.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: it was filled by `__getbuffer__`.
        unsafe { buffer::release(view) };
        self.unexport();
    }

    /// How many bytes; 0 once they are not this side's any more.
    fn __len__(&self) -> usize {
        self.lock().bytes().1
    }

    /// Reads one byte, or copies a slice of bytes.
    fn __getitem__<'py>(slf: &Bound<'py, Self>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(at) = index.extract::<isize>() {
            let byte = slf.get().with(|held| {
                let bytes = held.shown();
                let at = place(at, bytes.len())?;
                Ok(bytes[at])
            })?;
            return Ok(byte.into_pyobject(slf.py())?.into_any());
        }
        let view = pyo3::types::PyMemoryView::from(slf.as_any())?;
        let item = view.get_item(index)?;
        let outcome = if item.is_instance_of::<pyo3::types::PyMemoryView>() {
            let copied = PyBytes::new(slf.py(), &[]).into_any();
            let bytes = item.call_method0("tobytes").unwrap_or(copied);
            item.call_method0("release")?;
            Ok(bytes)
        } else {
            Ok(item)
        };
        view.call_method0("release")?;
        outcome
    }

    /// Writes one byte, or as many bytes as the slice has.
    fn __setitem__(slf: &Bound<'_, Self>, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let (Ok(at), Ok(byte)) = (index.extract::<isize>(), value.extract::<u8>()) {
            return slf.get().with(|held| {
                let len = held.shown().len();
                let at = place(at, len)?;
                match held {
                    Held::Loan(loan) => loan[at] = byte,
                    Held::Request(request) => request[at] = byte,
                    Held::Draft(draft) => draft[at] = byte,
                    Held::Copy(bytes) => bytes[at] = byte,
                    _ => return Err(PyTypeError::new_err("this memory is read-only: copy it, as with bytearray()")),
                }
                Ok(())
            });
        }
        let view = pyo3::types::PyMemoryView::from(slf.as_any())?;
        let outcome = view.set_item(index, value);
        view.call_method0("release")?;
        outcome
    }

    /// A copy of the bytes.
    fn tobytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(|held| Ok(PyBytes::new(py, held.shown())))
    }

    /// The array that the payload is, where it lies, with element type and shape: ``numpy.asarray(x.array())``.
    ///
    /// Raises ``EncodingError`` if the payload is no array, as ``call_array``, ``loan_array`` and ``send_array`` make
    /// them.
    fn array(slf: &Bound<'_, Self>) -> PyResult<Array> {
        let header = slf.get().with(|held| Ok(Header::split(held.shown()).map_err(Failure::from)?.0))?;
        Ok(Array::new(slf.clone().unbind(), header))
    }

    /// How many views of it are alive: memoryviews, numpy arrays, tensors.
    #[getter]
    fn views(&self) -> usize {
        self.exports()
    }

    /// Whether it cannot be written to: a message is its sender's, or its publisher's.
    #[getter]
    fn readonly(&self) -> bool {
        self.is_readonly()
    }

    /// Gives the memory back. A loan is not sent, a draft is not published, a request stays unanswered, a message is
    /// acknowledged, a message of a broadcast is held no more.
    ///
    /// Raises ``BufferError`` while views of it are alive. Releasing twice does nothing.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        if matches!(*slf.get().lock(), Held::Gone(_)) {
            return Ok(());
        }
        end(Memory::take(slf, "release the memory", "was released")?, true);
        Ok(())
    }

    /// Lets the memory go, now or with the last view; a message is acknowledged. For `wigwag.aio`.
    fn _let_go(&self) {
        self.detach();
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Releases the memory; while views are alive it raises ``BufferError``, but if an exception ends the block the
    /// memory goes back with the last of them.
    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_value, traceback);
        Memory::leave(slf, exc_type.is_some())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("<wigwag.{} of {}>", slf.get_type().name()?, slf.get().described()))
    }
}
