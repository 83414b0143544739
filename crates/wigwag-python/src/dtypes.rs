//! Element types and shapes as Python names them, and arrays of other libraries as sources.

use std::ffi::{CStr, c_void};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wigwag::array::{Element, Header};

use crate::buffer::Source;
use crate::errors::Failure;

/// The element that a name or a numpy dtype is.
fn element_of(dtype: &Bound<'_, PyAny>) -> PyResult<Element> {
    let named: String = match dtype.extract::<String>() {
        Ok(name) => name,
        Err(_) => match dtype.getattr("name") {
            Ok(name) => name.extract()?,
            // numpy.float32 and its like are classes
            Err(_) => dtype.getattr("__name__")?.extract()?,
        },
    };
    let is_swapped = dtype.getattr("isnative").is_ok_and(|native| native.extract::<bool>().is_ok_and(|native| !native));
    let given = named.clone();
    let wrong = || {
        PyTypeError::new_err(format!(
            "dtype {given:?}: it is a number of this machine's byte order, such as 'uint8', 'float32', 'complex64', \
             'bool' or 'bfloat16'"
        ))
    };
    if is_swapped {
        return Err(wrong());
    }
    if named == "bool" {
        return Ok(Element { code: Element::BOOL, bits: 8, lanes: 1 });
    }
    // As numpy abbreviates them: a letter, and bytes.
    let named = match named.split_at_checked(1) {
        Some((letter @ ("i" | "u" | "f" | "c"), bytes)) if bytes.parse::<u8>().is_ok_and(|bytes| bytes <= 16) => {
            let kind = match letter {
                "i" => "int",
                "u" => "uint",
                "f" => "float",
                _ => "complex",
            };
            format!("{kind}{}", 8 * bytes.parse::<u32>().unwrap_or_default())
        }
        _ => named,
    };
    let kinds = [
        ("uint", Element::UNSIGNED),
        ("int", Element::SIGNED),
        ("bfloat", Element::BFLOAT),
        ("float", Element::FLOAT),
        ("complex", Element::COMPLEX),
    ];
    for (kind, code) in kinds {
        if let Some(bits) = named.strip_prefix(kind) {
            let bits: u8 = bits.parse().map_err(|_| wrong())?;
            let element = Element { code, bits, lanes: 1 };
            return if element.size().is_some() { Ok(element) } else { Err(wrong()) };
        }
    }
    Err(wrong())
}

/// The header of an array of that shape.
pub fn header(shape: &Bound<'_, PyAny>, dtype: &Bound<'_, PyAny>) -> PyResult<Header> {
    let element = element_of(dtype)?;
    let shape: Vec<u64> = match shape.extract::<u64>() {
        Ok(length) => vec![length],
        Err(_) => shape.extract().map_err(|_| {
            PyTypeError::new_err("a shape is a length, or a sequence of lengths, each from 0 on: such as (480, 640, 3)")
        })?,
    };
    Ok(Header::new(element, &shape).map_err(Failure::from)?)
}

/// An array of another library.
pub enum ArraySource {
    Buffer(Source, Header),
    Tensor(Tensor, Header),
}

impl ArraySource {
    /// Of what has a buffer or, if it has none, DLPack.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<ArraySource> {
        match Source::of(object) {
            Ok(source) => {
                let header = source.header()?;
                Ok(ArraySource::Buffer(source, header))
            }
            Err(error) if object.hasattr("__dlpack__")? => match Tensor::of(object) {
                Ok((tensor, header)) => Ok(ArraySource::Tensor(tensor, header)),
                Err(why) => {
                    why.set_cause(object.py(), Some(error));
                    Err(why)
                }
            },
            Err(error) => Err(error),
        }
    }

    pub fn header(&self) -> &Header {
        match self {
            ArraySource::Buffer(_, header) | ArraySource::Tensor(_, header) => header,
        }
    }

    /// Writes header and elements.
    pub fn write(&self, py: Python<'_>, payload: &mut [u8]) -> PyResult<()> {
        let elements = self.header().write(payload).map_err(Failure::from)?;
        match self {
            ArraySource::Buffer(source, _) => source.copy_to(py, elements),
            ArraySource::Tensor(tensor, header) => {
                tensor.copy_to(header, elements);
                Ok(())
            }
        }
    }
}

/// A tensor that came by DLPack: the capsule keeps it.
pub struct Tensor {
    _capsule: Py<PyAny>,
    data: *const u8,
    /// In elements; none if they lie in C order without gaps.
    strides: Option<Vec<i64>>,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

const NAME: &CStr = c"dltensor";
const NAME_VERSIONED: &CStr = c"dltensor_versioned";
/// Where the tensor is in a `DLManagedTensorVersioned`: behind two numbers, two pointers and the flags.
const OFFSET_IN_VERSIONED: usize = 32;

impl Tensor {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<(Tensor, Header)> {
        let py = object.py();
        let (device, _): (i32, i32) = object.call_method0("__dlpack_device__")?.extract()?;
        if device != 1 {
            return Err(PyTypeError::new_err(
                "the tensor is not in the memory of the processor: move it there (torch: tensor.cpu())",
            ));
        }
        let options = PyDict::new(py);
        options.set_item("max_version", (1, 0))?;
        let capsule = match object.call_method("__dlpack__", (), Some(&options)) {
            Err(error) if error.is_instance_of::<PyTypeError>(py) => object.call_method0("__dlpack__")?,
            other => other?,
        };
        let pointer = |name: &CStr| {
            // SAFETY: asks a capsule, or whatever object it is, for its pointer, if it has that name.
            unsafe {
                (ffi::PyCapsule_IsValid(capsule.as_ptr(), name.as_ptr()) != 0)
                    .then(|| ffi::PyCapsule_GetPointer(capsule.as_ptr(), name.as_ptr()).cast::<u8>())
            }
        };
        let tensor = match (pointer(NAME), pointer(NAME_VERSIONED)) {
            (Some(managed), _) => managed,
            (None, Some(managed)) => {
                // SAFETY: DLPack: it begins with its version.
                let major = unsafe { managed.cast::<u32>().read() };
                if major != 1 {
                    return Err(PyTypeError::new_err(format!("the tensor has DLPack {major}: 1 is known here")));
                }
                managed.wrapping_add(OFFSET_IN_VERSIONED)
            }
            (None, None) => return Err(PyTypeError::new_err("__dlpack__ gave no tensor")),
        };
        // SAFETY: DLPack: there is a tensor, for as long as the capsule has it.
        let tensor = unsafe { &*tensor.cast::<DlTensor>() };
        let ndim = usize::try_from(tensor.ndim).unwrap_or(0);
        let numbers = |from: *const i64| match from.is_null() {
            true => None,
            // SAFETY: DLPack: as many as it has dimensions.
            false => Some((0..ndim).map(|at| unsafe { from.add(at).read() }).collect::<Vec<i64>>()),
        };
        let shape: Vec<u64> = numbers(tensor.shape).unwrap_or_default().iter().map(|length| *length as u64).collect();
        let element = Element { code: tensor.code, bits: tensor.bits, lanes: tensor.lanes };
        let header = Header::new(element, &shape).map_err(Failure::from)?;
        let strides = numbers(tensor.strides).filter(|strides| !are_in_order(&shape, strides));
        let data = tensor.data.cast_const().cast::<u8>().wrapping_add(tensor.byte_offset as usize);
        if data.is_null() && header.elements_len() > 0 {
            return Err(PyValueError::new_err("the tensor has no data"));
        }
        Ok((Tensor { data, strides, _capsule: capsule.unbind() }, header))
    }

    fn copy_to(&self, header: &Header, target: &mut [u8]) {
        if target.is_empty() {
            return;
        }
        let Some(strides) = &self.strides else {
            // SAFETY: DLPack: the elements lie there, as many as the shape says, while the capsule has them.
            unsafe { std::ptr::copy(self.data, target.as_mut_ptr(), target.len()) };
            return;
        };
        let size = header.element().size().unwrap_or(1);
        let mut index = vec![0u64; header.shape().len()];
        for element in target.chunks_exact_mut(size) {
            let at: i64 = index.iter().zip(strides).map(|(index, stride)| *index as i64 * stride).sum();
            let from = self.data.wrapping_offset(at as isize * size as isize);
            // SAFETY: as above: the index is within the shape.
            unsafe { std::ptr::copy(from, element.as_mut_ptr(), size) };
            for (index, length) in index.iter_mut().zip(header.shape()).rev() {
                *index += 1;
                if *index < *length {
                    break;
                }
                *index = 0;
            }
        }
    }
}

fn are_in_order(shape: &[u64], strides: &[i64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(length, stride)| {
        let is_so = *length == 1 || *stride == expected;
        expected *= *length as i64;
        is_so
    })
}
