//! An array in a session's memory, as numpy and DLPack see it.

use std::ffi::{c_int, c_void};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use wigwag::array::{Element, HEADER_LEN, Header};

use crate::buffer;
use crate::memory::Memory;

/// An array that lies in a session's memory: ``numpy.asarray(array)`` and ``torch.from_dlpack(array)`` use it in place.
///
/// It keeps the memory, and is writable where that is. Made by ``Memory.array()``.
#[pyclass(frozen, weakref, module = "wigwag")]
pub struct Array {
    memory: Py<Memory>,
    header: Header,
}

impl Array {
    pub fn new(memory: Py<Memory>, header: Header) -> Array {
        Array { memory, header }
    }
}

#[pymethods]
impl Array {
    /// # Safety
    /// Python's: the view is to be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let owner = slf.clone().into_any();
        // SAFETY: the view is Python's, and this keeps the memory.
        unsafe { Memory::export(this.memory.bind(slf.py()), view, flags, Some(&this.header), owner) }
    }

    /// # Safety
    /// Python's: the view was filled here.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: it was filled by `__getbuffer__`.
        unsafe { buffer::release(view) };
        self.memory.get().unexport();
    }

    /// The length of each dimension, the outermost first; ``()`` for a scalar.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.header.shape())
    }

    /// The garbage collector sees what it keeps, and so does who looks for the views of some memory.
    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.memory)
    }

    /// What an element is, as numpy names it: ``'float32'``, ``'uint8'``, ``'bfloat16'``.
    #[getter]
    fn dtype(&self) -> String {
        match self.header.element() {
            Element { code: Element::BOOL, bits: 8, lanes: 1 } => "bool".into(),
            element => element.to_string(),
        }
    }

    /// Bytes of all elements.
    #[getter]
    fn nbytes(&self) -> usize {
        self.header.elements_len()
    }

    /// Bytes of one element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.header.element().size().unwrap_or(0)
    }

    /// Whether it cannot be written to.
    #[getter]
    fn readonly(&self) -> bool {
        self.memory.get().is_readonly()
    }

    /// The memory that it lies in.
    #[getter]
    fn memory(&self, py: Python<'_>) -> Py<Memory> {
        self.memory.clone_ref(py)
    }

    /// The length of the first dimension.
    fn __len__(&self) -> PyResult<usize> {
        let first = self.header.shape().first();
        first.map(|length| *length as usize).ok_or_else(|| PyValueError::new_err("a scalar has no length"))
    }

    /// Where it is, for DLPack: ``(1, 0)``, the memory of this machine.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (CPU, 0)
    }

    /// A tensor of DLPack over the same memory, which stays this side's until the tensor is gone.
    ///
    /// Of read-only memory it is a copy, unless ``copy=False`` asks for the memory itself: then a consumer that
    /// ignores the read-only flag writes to memory that is the other side's, too. Consumers that know no version
    /// (``max_version`` before 1.0) cannot be told, and get a copy or nothing.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        slf: &Bound<'py, Self>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if stream.is_some() {
            return Err(PyBufferError::new_err("memory of the processor has no streams: leave `stream` out"));
        }
        if let Some(device) = dl_device.filter(|device| *device != (CPU, 0)) {
            return Err(PyBufferError::new_err(format!(
                "this memory is on device (1, 0), the processor, and not on {device:?}: move the tensor after"
            )));
        }
        let this = slf.get();
        let is_versioned = max_version.is_some_and(|(major, _)| major >= 1);
        let is_readonly = this.readonly();
        let copies = match copy {
            Some(true) => true,
            Some(false) if is_readonly && !is_versioned => {
                return Err(PyBufferError::new_err(
                    "this memory is read-only, and the consumer knows no DLPack of version 1, which could tell it: \
                     use copy=True",
                ));
            }
            Some(false) => false,
            None => is_readonly,
        };
        export(slf, is_versioned, copies, is_readonly)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let shape = this.shape(slf.py())?.repr()?;
        let readonly = if this.readonly() { ", read-only" } else { "" };
        Ok(format!("<wigwag.Array of {} {shape}, {} bytes{readonly}>", this.dtype(), this.nbytes()))
    }
}

/// `kDLCPU`.
const CPU: i32 = 1;
const FLAG_READ_ONLY: u64 = 1;
const FLAG_IS_COPIED: u64 = 2;
const NAME: &std::ffi::CStr = c"dltensor";
const NAME_VERSIONED: &std::ffi::CStr = c"dltensor_versioned";

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

// SAFETY: DLPack's: it is called once, with what `export` made.
type Deleter<T> = unsafe extern "C" fn(*mut T);

/// `DLManagedTensor`, of before version 1.
#[repr(C)]
struct Managed {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<Deleter<Managed>>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
struct ManagedVersioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<Deleter<ManagedVersioned>>,
    flags: u64,
    tensor: DlTensor,
}

/// What a tensor keeps.
struct Context {
    /// Of the array in place, pinned; or none, and the copy.
    memory: Option<Py<Memory>>,
    /// 64 bytes more than the elements, so that they can begin where tensors like it.
    _copy: Vec<u8>,
    _shape: Box<[i64]>,
}

impl Drop for Context {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        // SAFETY: asking is allowed at any time.
        if unsafe { ffi::Py_IsInitialized() } == 0 {
            std::mem::forget(memory); // the interpreter has ended: nobody counts any more
            return;
        }
        // A consumer may let go of a tensor on any thread.
        Python::attach(|py| {
            memory.get().unexport();
            drop(memory.into_bound(py));
        });
    }
}

fn export<'py>(
    slf: &Bound<'py, Array>,
    is_versioned: bool,
    copies: bool,
    is_readonly: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let Array { memory, header } = slf.get();
    let (data, len, _) = memory.get().data()?;
    if len != HEADER_LEN + header.elements_len() {
        return Err(PyBufferError::new_err("the memory has been resized since the array was looked at"));
    }
    let data = data.wrapping_add(HEADER_LEN);
    let element = header.element();
    // The lengths, and then the strides.
    let ndim = header.shape().len();
    let mut shape: Vec<i64> = header.shape().iter().map(|length| *length as i64).collect();
    shape.resize(2 * ndim + 1, 1);
    for at in (1..ndim).rev() {
        shape[ndim + at - 1] = shape[ndim + at].saturating_mul(shape[at].max(1));
    }
    let mut copy = Vec::new();
    let data = if copies {
        copy.resize(header.elements_len() + 64, 0);
        let offset = copy.as_ptr().align_offset(64).min(64);
        let target = copy[offset..].as_mut_ptr();
        // SAFETY: the memory has the elements behind its header, as was checked; the copy has room for them.
        unsafe { std::ptr::copy_nonoverlapping(data, target, header.elements_len()) };
        target
    } else {
        memory.get().pin();
        data
    };
    let context =
        Box::new(Context { memory: (!copies).then(|| memory.clone_ref(py)), _copy: copy, _shape: shape.into() });
    let tensor = DlTensor {
        data: data.cast(),
        device_type: CPU,
        device_id: 0,
        ndim: ndim as i32,
        code: element.code,
        bits: element.bits,
        lanes: element.lanes,
        shape: context._shape.as_ptr().cast_mut(),
        strides: context._shape[ndim..].as_ptr().cast_mut(),
        byte_offset: 0,
    };
    let context = Box::into_raw(context).cast::<c_void>();
    let (managed, name) = if is_versioned {
        let flags = if copies { FLAG_IS_COPIED } else { u64::from(is_readonly) * FLAG_READ_ONLY };
        let managed = ManagedVersioned { major: 1, minor: 0, context, deleter: Some(delete_versioned), flags, tensor };
        (Box::into_raw(Box::new(managed)).cast::<c_void>(), NAME_VERSIONED)
    } else {
        let managed = Managed { tensor, context, deleter: Some(delete) };
        (Box::into_raw(Box::new(managed)).cast::<c_void>(), NAME)
    };
    // SAFETY: the pointer is that of the struct that the name stands for; the destructor frees it if nobody took it.
    let capsule = unsafe { ffi::PyCapsule_New(managed, name.as_ptr(), Some(capsule_dropped)) };
    // SAFETY: a new reference, or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

unsafe extern "C" fn delete(managed: *mut Managed) {
    // SAFETY: DLPack's: it is called once, with what `export` made.
    unsafe {
        drop(Box::from_raw((*managed).context.cast::<Context>()));
        drop(Box::from_raw(managed));
    }
}

unsafe extern "C" fn delete_versioned(managed: *mut ManagedVersioned) {
    // SAFETY: as in `delete`.
    unsafe {
        drop(Box::from_raw((*managed).context.cast::<Context>()));
        drop(Box::from_raw(managed));
    }
}

/// A capsule that was taken has another name, and its tensor is the consumer's.
unsafe extern "C" fn capsule_dropped(capsule: *mut ffi::PyObject) {
    // SAFETY: Python's: the capsule is being deallocated, and is one of `export`.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, NAME.as_ptr()) != 0 {
            delete(ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()).cast());
        } else if ffi::PyCapsule_IsValid(capsule, NAME_VERSIONED.as_ptr()) != 0 {
            delete_versioned(ffi::PyCapsule_GetPointer(capsule, NAME_VERSIONED.as_ptr()).cast());
        }
    }
}
