//! Buffers of Python objects: what is sent is read from one, and what has come is shown as one.

use std::ffi::{CStr, CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::array::{Element, Header};

/// The bytes of an object, held for as long as this lives.
///
/// **Invariant B.** `view` was filled by `PyObject_GetBuffer`, and is released once, by the drop.
pub struct Source(Box<ffi::Py_buffer>);

impl Source {
    /// # Errors
    /// TypeError for what has no buffer.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Source> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::uninit());
        // SAFETY: the object is alive, and there is room for the view.
        let code = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_FULL_RO) };
        if code != 0 {
            let error = PyErr::fetch(object.py());
            if !error.is_instance_of::<PyTypeError>(object.py()) {
                return Err(error);
            }
            let kind = object.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "a {kind} has no bytes to send: give bytes, a bytearray, a memoryview or an array; send_object and \
                 call_object send any object, by pickle"
            )));
        }
        // SAFETY: it was filled, as the code says (B).
        Ok(Source(unsafe { Box::from_raw(Box::into_raw(view).cast()) }))
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    fn is_contiguous(&self) -> bool {
        // SAFETY: B.
        unsafe { ffi::PyBuffer_IsContiguous(&*self.0, b'C' as std::ffi::c_char) != 0 }
    }

    /// Copies all bytes, in C order, into as many.
    pub fn copy_to(&self, py: Python<'_>, target: &mut [u8]) -> PyResult<()> {
        if target.len() != self.len() {
            return Err(PyValueError::new_err("the object has changed its length meanwhile"));
        }
        if self.is_contiguous() {
            if !target.is_empty() {
                // SAFETY: B: there are that many bytes. They may be those of a view of the very memory that is written
                // to, which `copy` allows.
                unsafe { ptr::copy(self.0.buf.cast::<u8>(), target.as_mut_ptr(), target.len()) };
            }
            return Ok(());
        }
        // SAFETY: B, and the target has that many bytes.
        let code = unsafe {
            ffi::PyBuffer_ToContiguous(
                target.as_mut_ptr().cast::<c_void>(),
                (&raw const *self.0).cast_mut(),
                self.0.len,
                b'C' as std::ffi::c_char,
            )
        };
        if code == 0 { Ok(()) } else { Err(PyErr::fetch(py)) }
    }

    /// The header of the array that it is.
    ///
    /// # Errors
    /// TypeError for elements that no array can have here.
    pub fn header(&self) -> PyResult<Header> {
        let format = if self.0.format.is_null() {
            c"B"
        } else {
            // SAFETY: B: a format is a C string.
            unsafe { CStr::from_ptr(self.0.format) }
        };
        let size = usize::try_from(self.0.itemsize).unwrap_or(0);
        let element = element_of(format, size)?;
        let dimensions = usize::try_from(self.0.ndim).unwrap_or(0);
        let shape: Vec<u64> = if dimensions == 0 {
            Vec::new()
        } else if self.0.shape.is_null() {
            vec![(self.len() / size.max(1)) as u64]
        } else {
            // SAFETY: B: it has a length for each dimension.
            unsafe { std::slice::from_raw_parts(self.0.shape, dimensions) }
                .iter()
                .map(|length| *length as u64)
                .collect()
        };
        let header = Header::new(element, &shape).map_err(crate::errors::Failure::from)?;
        if header.elements_len() != self.len() {
            return Err(PyValueError::new_err(format!(
                "the buffer has {} bytes, and its shape {shape:?} says {}",
                self.len(),
                header.elements_len()
            )));
        }
        Ok(header)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: B. It is dropped by who is attached: no source is kept while detached.
        unsafe { ffi::PyBuffer_Release(&mut *self.0) };
    }
}

/// What is sent: most often `bytes`, which need no buffer to be taken.
pub enum Payload<'a, 'py> {
    Bytes(&'a [u8]),
    Buffer(Source),
    #[allow(dead_code, reason = "keeps the lifetime of the interpreter in the type")]
    Never(&'a Bound<'py, PyAny>),
}

impl<'a, 'py> Payload<'a, 'py> {
    /// # Errors
    /// TypeError for what has no bytes.
    pub fn of(object: &'a Bound<'py, PyAny>) -> PyResult<Payload<'a, 'py>> {
        match object.cast_exact::<PyBytes>() {
            Ok(bytes) => Ok(Payload::Bytes(bytes.as_bytes())),
            Err(_) => Source::of(object).map(Payload::Buffer),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Buffer(source) => source.len(),
            Payload::Never(_) => 0,
        }
    }

    pub fn copy_to(&self, py: Python<'_>, target: &mut [u8]) -> PyResult<()> {
        match self {
            Payload::Bytes(bytes) => target.copy_from_slice(bytes),
            Payload::Buffer(source) => source.copy_to(py, target)?,
            Payload::Never(_) => {}
        }
        Ok(())
    }
}

/// What the elements of a buffer are, by its format (the module `struct` has the letters).
fn element_of(format: &CStr, size: usize) -> PyResult<Element> {
    let text = format.to_string_lossy();
    let (order, letters) = match text.chars().next() {
        Some(order @ ('@' | '=' | '<' | '>' | '!')) => (order, &text[1..]),
        _ => ('@', &text[..]),
    };
    let is_swapped = matches!(order, '>' | '!') == cfg!(target_endian = "little") && size > 1 && order != '@';
    let is_foreign = is_swapped && order != '=' && (order != '<' || cfg!(target_endian = "big"));
    let code = match letters {
        "b" | "h" | "i" | "l" | "q" | "n" => Element::SIGNED,
        "c" | "B" | "H" | "I" | "L" | "Q" | "N" => Element::UNSIGNED,
        "e" | "f" | "d" | "g" => Element::FLOAT,
        "Zf" | "Zd" | "Zg" => Element::COMPLEX,
        "?" => Element::BOOL,
        _ => {
            return Err(PyTypeError::new_err(format!(
                "elements of format '{text}' cannot travel as an array: use numbers (numpy: array.astype), or a view \
                 of the bytes (numpy: array.view('u1'))"
            )));
        }
    };
    if is_foreign {
        return Err(PyTypeError::new_err(format!(
            "elements of format '{text}' have another byte order than this machine: convert them \
             (numpy: array.astype(array.dtype.newbyteorder('=')))"
        )));
    }
    let bits = u8::try_from(8 * size).map_err(|_| PyTypeError::new_err(format!("elements of {size} bytes")))?;
    Ok(Element { code, bits, lanes: 1 })
}

/// The format of an element, if buffers have one.
pub fn format_of(element: Element) -> Option<&'static CStr> {
    if element.lanes != 1 {
        return None;
    }
    Some(match (element.code, element.bits) {
        (Element::SIGNED, 8) => c"b",
        (Element::SIGNED, 16) => c"h",
        (Element::SIGNED, 32) => c"i",
        (Element::SIGNED, 64) => c"q",
        (Element::UNSIGNED, 8) => c"B",
        (Element::UNSIGNED, 16) => c"H",
        (Element::UNSIGNED, 32) => c"I",
        (Element::UNSIGNED, 64) => c"Q",
        (Element::FLOAT, 16) => c"e",
        (Element::FLOAT, 32) => c"f",
        (Element::FLOAT, 64) => c"d",
        (Element::FLOAT, 128) => c"g",
        (Element::COMPLEX, 64) => c"Zf",
        (Element::COMPLEX, 128) => c"Zd",
        (Element::BOOL, 8) => c"?",
        _ => return None,
    })
}

/// What is shown of some memory.
pub struct Shown<'a> {
    pub data: *mut u8,
    pub len: usize,
    pub is_readonly: bool,
    pub element: &'a CStr,
    pub item_len: usize,
    /// Lengths of the dimensions.
    pub shape: &'a [isize],
}

/// What a view needs for as long as it lives, beside the memory.
struct Kept {
    /// Lengths, then strides.
    numbers: Box<[isize]>,
    _format: CString,
}

/// Fills a view. The caller keeps the memory and `owner` until the view is released.
///
/// # Errors
/// BufferError for what the flags ask for and the memory does not have.
///
/// # Safety
/// `view` is a view to be filled. `shown` describes memory that stays for as long as `owner` lives.
pub unsafe fn fill(
    view: *mut ffi::Py_buffer,
    flags: c_int,
    shown: &Shown<'_>,
    owner: Bound<'_, PyAny>,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("there is no view to be filled"));
    }
    if shown.is_readonly && flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
        // SAFETY: the caller's.
        unsafe { (*view).obj = ptr::null_mut() };
        return Err(PyBufferError::new_err("this memory is read-only: copy it, as with bytes() or numpy's copy()"));
    }
    let dimensions = shown.shape.len();
    let mut numbers: Vec<isize> = shown.shape.to_vec();
    let mut stride = shown.item_len as isize;
    numbers.resize(2 * dimensions, 0);
    for at in (0..dimensions).rev() {
        numbers[dimensions + at] = stride;
        stride = stride.saturating_mul(shown.shape[at].max(1));
    }
    let mut kept = Box::new(Kept { numbers: numbers.into(), _format: shown.element.to_owned() });
    let has = |flag: c_int| flags & flag == flag;
    // SAFETY: the caller's; what is pointed to is in `kept`, which `release` frees, or in the memory.
    unsafe {
        (*view).buf = shown.data.cast();
        (*view).len = shown.len as isize;
        (*view).readonly = c_int::from(shown.is_readonly);
        (*view).itemsize = shown.item_len as isize;
        (*view).format = if has(ffi::PyBUF_FORMAT) { kept._format.as_ptr().cast_mut() } else { ptr::null_mut() };
        (*view).ndim = dimensions as c_int;
        let numbers = kept.numbers.as_mut_ptr();
        (*view).shape = if has(ffi::PyBUF_ND) { numbers } else { ptr::null_mut() };
        (*view).strides = if has(ffi::PyBUF_STRIDES) { numbers.add(dimensions) } else { ptr::null_mut() };
        if !has(ffi::PyBUF_ND) {
            (*view).ndim = 1;
        }
        (*view).suboffsets = ptr::null_mut();
        (*view).internal = Box::into_raw(kept).cast();
        (*view).obj = owner.into_ptr();
    }
    Ok(())
}

/// Frees what a view kept.
///
/// # Safety
/// `view` was filled by [`fill`], and is released now.
pub unsafe fn release(view: *mut ffi::Py_buffer) {
    // SAFETY: the caller's: it is the box that `fill` left there, once.
    unsafe {
        drop(Box::from_raw((*view).internal.cast::<Kept>()));
        (*view).internal = ptr::null_mut();
    }
}

/// A buffer that is written to, C-contiguous.
///
/// **Invariant B** holds for it, too.
pub struct Writable(Box<ffi::Py_buffer>);

impl Writable {
    /// # Errors
    /// TypeError or BufferError for what has none.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Writable> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::uninit());
        // SAFETY: the object is alive, and there is room for the view.
        let code = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_CONTIG) };
        if code != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: it was filled, as the code says (B).
        Ok(Writable(unsafe { Box::from_raw(Box::into_raw(view).cast()) }))
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes to its beginning, as much as it has room for.
    pub fn write(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(self.len());
        // SAFETY: B: it is contiguous, writable, and has that many bytes.
        unsafe { ptr::copy(bytes.as_ptr(), self.0.buf.cast::<u8>(), len) };
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        // SAFETY: as in `Source`.
        unsafe { ffi::PyBuffer_Release(&mut *self.0) };
    }
}
