//! Arrays as payloads: a header of 64 bytes that says what the elements are and how many, and then the elements.
//!
//! Any call, message or reply may carry one, and either side may be another language: docs/layout.md has the bytes. The
//! elements lie in C order (the last dimension is the nearest), without gaps, in the byte order of the machine. They
//! begin 64 bytes into the payload, and so at an address that is a multiple of 64.
//!
//! ```
//! use wigwag::array::{Element, Header, HEADER_LEN};
//!
//! let header = Header::new(Element::of::<f32>(), &[480, 640])?;
//! let mut payload = vec![0; header.payload_len()];            // or a loan of that length
//! header.write(&mut payload)?;
//!
//! let (header, elements) = Header::split(&payload)?;
//! assert_eq!((header.element(), header.shape()), (Element::of::<f32>(), &[480, 640][..]));
//! assert_eq!(elements.len(), 480 * 640 * 4);
//! # Ok::<(), wigwag::Error>(())
//! ```

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// The bytes of a header.
pub const HEADER_LEN: usize = 64;
/// The most dimensions.
pub const DIMENSIONS_MAX: usize = 8;

const MAGIC: [u8; 4] = *b"WwA1";
const SHAPE_OFFSET: usize = 16;
/// A dimension has 48 bits.
const DIMENSION_LEN: usize = 6;
const DIMENSION_MAX: u64 = (1 << 48) - 1;

const _: () = assert!(SHAPE_OFFSET + DIMENSIONS_MAX * DIMENSION_LEN == HEADER_LEN);

/// What an element is, in the terms of DLPack: a code, its bits, and how many of them are one element.
///
/// ```
/// use wigwag::array::Element;
/// assert_eq!(Element::of::<u8>(), Element { code: Element::UNSIGNED, bits: 8, lanes: 1 });
/// assert_eq!(Element { code: Element::BFLOAT, bits: 16, lanes: 1 }.size(), Some(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// What the bits mean: [`Element::SIGNED`] and those beside it, or any other of DLPack's codes.
    pub code: u8,
    /// Bits of one lane.
    pub bits: u8,
    /// Lanes of one element; 1 unless elements are vectors.
    pub lanes: u16,
}

/// A type of Rust that an array's elements can be.
pub trait Number: sealed::Sealed {
    /// The element that it is.
    const ELEMENT: Element;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($type:ty: $code:ident),*) => { $(
        impl sealed::Sealed for $type {}
        impl Number for $type {
            const ELEMENT: Element = Element { code: Element::$code, bits: 8 * size_of::<$type>() as u8, lanes: 1 };
        }
    )* };
}

numbers!(i8: SIGNED, i16: SIGNED, i32: SIGNED, i64: SIGNED, u8: UNSIGNED, u16: UNSIGNED, u32: UNSIGNED, u64: UNSIGNED,
    f32: FLOAT, f64: FLOAT);

impl Element {
    /// A signed integer (`kDLInt`).
    pub const SIGNED: u8 = 0;
    /// An unsigned integer (`kDLUInt`).
    pub const UNSIGNED: u8 = 1;
    /// A number as IEEE 754 has it (`kDLFloat`).
    pub const FLOAT: u8 = 2;
    /// A brain float (`kDLBfloat`).
    pub const BFLOAT: u8 = 4;
    /// Two floats (`kDLComplex`); the bits are those of both.
    pub const COMPLEX: u8 = 5;
    /// True or false in a byte (`kDLBool`).
    pub const BOOL: u8 = 6;

    /// The element that a type of Rust is.
    ///
    /// ```
    /// use wigwag::array::Element;
    /// assert_eq!(Element::of::<f64>().to_string(), "float64");
    /// ```
    pub fn of<T: Number>() -> Element {
        T::ELEMENT
    }

    /// Its bytes; `None` if its bits are none, or do not fill bytes.
    ///
    /// ```
    /// use wigwag::array::Element;
    /// assert_eq!(Element::of::<f64>().size(), Some(8));
    /// ```
    pub fn size(self) -> Option<usize> {
        let bits = usize::from(self.bits) * usize::from(self.lanes);
        (bits > 0 && bits.is_multiple_of(8)).then_some(bits / 8)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.code {
            Element::SIGNED => "int",
            Element::UNSIGNED => "uint",
            Element::FLOAT => "float",
            Element::BFLOAT => "bfloat",
            Element::COMPLEX => "complex",
            Element::BOOL => "bool",
            other => return write!(out, "DLPack type {other} of {} bits", self.bits),
        };
        write!(out, "{name}{}", self.bits)?;
        if self.lanes == 1 { Ok(()) } else { write!(out, "x{}", self.lanes) }
    }
}

/// What an array is: its elements and its shape.
///
/// ```
/// use wigwag::array::{Element, Header};
/// let scalar = Header::new(Element::of::<i64>(), &[])?;
/// assert_eq!((scalar.elements_len(), scalar.payload_len()), (8, 72));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    element: Element,
    dimensions: usize,
    shape: [u64; DIMENSIONS_MAX],
    elements_len: usize,
}

impl Header {
    /// Of an array of that shape.
    ///
    /// # Errors
    /// [`Encoding`](ErrorKind::Encoding): more than 8 dimensions, one of 2^48 or more, elements that do not fill bytes,
    /// or more bytes than there are addresses.
    ///
    /// ```
    /// use wigwag::array::{Element, Header};
    /// assert!(Header::new(Element::of::<u8>(), &[1; 9]).is_err());
    /// ```
    pub fn new(element: Element, shape: &[u64]) -> Result<Header> {
        let wrong = |why: String| Err(Error::new(ErrorKind::Encoding, why));
        let Some(size) = element.size() else {
            return wrong(format!(
                "elements of {} x {} bits do not fill bytes: pack them into bytes",
                element.lanes, element.bits
            ));
        };
        if shape.len() > DIMENSIONS_MAX {
            return wrong(format!("an array of {} dimensions: {DIMENSIONS_MAX} are the most; reshape it", shape.len()));
        }
        if let Some(dimension) = shape.iter().find(|dimension| **dimension > DIMENSION_MAX) {
            return wrong(format!("a dimension of {dimension}: {DIMENSION_MAX} is the most"));
        }
        // An array with a dimension of length 0 is empty, but its other ones are bounded all the same.
        let fits = |product: usize, dimension: &u64| product.checked_mul(usize::try_from(*dimension).ok()?.max(1));
        let most = shape.iter().try_fold(size, fits).filter(|len| len.checked_add(HEADER_LEN).is_some());
        let Some(most) = most else {
            return wrong(format!("an array of shape {shape:?} has more bytes than there are addresses"));
        };
        let elements_len = if shape.contains(&0) { 0 } else { most };
        let mut all = [0; DIMENSIONS_MAX];
        all[..shape.len()].copy_from_slice(shape);
        Ok(Header { element, dimensions: shape.len(), shape: all, elements_len })
    }

    /// Reads the header at the beginning of a payload, and gives what is behind it: exactly the elements.
    ///
    /// # Errors
    /// [`Encoding`](ErrorKind::Encoding) if it is none, or does not say what [`new`](Header::new) takes, or the payload
    /// has another length than it says.
    ///
    /// ```
    /// use wigwag::array::Header;
    /// let error = Header::split(b"hello").unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::Encoding);
    /// ```
    pub fn split(payload: &[u8]) -> Result<(Header, &[u8])> {
        let wrong = |why: String| Error::new(ErrorKind::Encoding, why);
        let Some((head, elements)) = payload.split_first_chunk::<HEADER_LEN>() else {
            return Err(wrong(format!(
                "a payload of {} bytes is no array: its header alone has {HEADER_LEN}",
                payload.len()
            )));
        };
        let (dimensions, reserved) = (usize::from(head[8]), &head[9..SHAPE_OFFSET]);
        if head[..4] != MAGIC || reserved.iter().any(|byte| *byte != 0) || dimensions > DIMENSIONS_MAX {
            return Err(wrong("the payload is no array: it does not begin with an array's header".into()));
        }
        let element = Element { code: head[4], bits: head[5], lanes: u16::from_le_bytes([head[6], head[7]]) };
        let mut shape = [0; DIMENSIONS_MAX];
        for (dimension, bytes) in shape.iter_mut().zip(head[SHAPE_OFFSET..].chunks_exact(DIMENSION_LEN)) {
            let mut wide = [0; 8];
            wide[..DIMENSION_LEN].copy_from_slice(bytes);
            *dimension = u64::from_le_bytes(wide);
        }
        if shape[dimensions..].iter().any(|dimension| *dimension != 0) {
            return Err(wrong(format!("an array of {dimensions} dimensions has lengths beyond these")));
        }
        let header = Header::new(element, &shape[..dimensions])?;
        if elements.len() != header.elements_len {
            return Err(wrong(format!(
                "an array of shape {:?} of {element} has {} bytes, and {} came",
                header.shape(),
                header.elements_len,
                elements.len()
            )));
        }
        Ok((header, elements))
    }

    /// Writes it to the beginning of a payload, and gives where the elements go.
    ///
    /// # Errors
    /// [`Encoding`](ErrorKind::Encoding) unless the payload has [`payload_len`](Header::payload_len) bytes.
    ///
    /// ```
    /// use wigwag::array::{Element, Header};
    /// let header = Header::new(Element::of::<u8>(), &[2])?;
    /// let mut payload = [0; 66];
    /// header.write(&mut payload)?.copy_from_slice(b"hi");
    /// assert_eq!(Header::split(&payload)?.1, b"hi");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn write<'p>(&self, payload: &'p mut [u8]) -> Result<&'p mut [u8]> {
        if payload.len() != self.payload_len() {
            let why = format!("this array needs a payload of {} bytes, not of {}", self.payload_len(), payload.len());
            return Err(Error::new(ErrorKind::Encoding, why));
        }
        let (head, elements) = payload.split_at_mut(HEADER_LEN);
        head.fill(0);
        head[..4].copy_from_slice(&MAGIC);
        (head[4], head[5]) = (self.element.code, self.element.bits);
        head[6..8].copy_from_slice(&self.element.lanes.to_le_bytes());
        head[8] = self.dimensions as u8;
        for (bytes, dimension) in head[SHAPE_OFFSET..].chunks_exact_mut(DIMENSION_LEN).zip(self.shape()) {
            bytes.copy_from_slice(&dimension.to_le_bytes()[..DIMENSION_LEN]);
        }
        Ok(elements)
    }

    /// What its elements are.
    ///
    /// ```
    /// use wigwag::array::{Element, Header};
    /// assert_eq!(Header::new(Element::of::<u8>(), &[2])?.element(), Element::of::<u8>());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn element(&self) -> Element {
        self.element
    }

    /// How long each dimension is, the outermost first; empty for a scalar.
    ///
    /// ```
    /// use wigwag::array::{Element, Header};
    /// assert_eq!(Header::new(Element::of::<u8>(), &[2, 3])?.shape(), [2, 3]);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shape(&self) -> &[u64] {
        &self.shape[..self.dimensions]
    }

    /// The bytes of all elements.
    ///
    /// ```
    /// use wigwag::array::{Element, Header};
    /// assert_eq!(Header::new(Element::of::<u16>(), &[2, 3])?.elements_len(), 12);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn elements_len(&self) -> usize {
        self.elements_len
    }

    /// The bytes of a payload with this array: what to borrow.
    ///
    /// ```
    /// use wigwag::array::{Element, Header};
    /// assert_eq!(Header::new(Element::of::<u16>(), &[2, 3])?.payload_len(), 64 + 12);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn payload_len(&self) -> usize {
        HEADER_LEN + self.elements_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(header: &Header) -> Vec<u8> {
        let mut payload = vec![0xff; header.payload_len()];
        header.write(&mut payload).unwrap();
        payload
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let payload = written(&Header::new(Element::of::<f32>(), &[2, 3]).unwrap());
        let mut expected = [0; HEADER_LEN];
        expected[..9].copy_from_slice(&[b'W', b'w', b'A', b'1', 2, 32, 1, 0, 2]);
        (expected[16], expected[22]) = (2, 3);
        assert_eq!(payload[..HEADER_LEN], expected);
        let long = written(&Header::new(Element::of::<u8>(), &[0x0102_0304_0506, 0]).unwrap());
        assert_eq!(long[16..22], [6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn what_is_written_is_read() {
        let shapes: &[&[u64]] = &[&[], &[0], &[5], &[2, 0, 3], &[1, 2, 1, 2, 1, 2, 1, 2], &[(1 << 48) - 1, 0]];
        for shape in shapes {
            for element in [Element::of::<i8>(), Element::of::<f64>(), Element { code: 17, bits: 4, lanes: 2 }] {
                let header = Header::new(element, shape).unwrap();
                assert_eq!(Header::split(&written(&header)).unwrap().0, header);
            }
        }
    }

    #[test]
    fn no_byte_of_a_header_can_be_wrong_unnoticed_and_none_panics() {
        let header = Header::new(Element::of::<u16>(), &[3, 2]).unwrap();
        let good = written(&header);
        for at in 0..HEADER_LEN {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // Another type of the same size is as good a type.
                assert!(at == 4 || Header::split(&bad).is_err(), "byte {at}, bit {bit}");
            }
        }
        for len in 0..good.len() {
            assert!(Header::split(&good[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_no_payload_can_have_is_refused() {
        for shape in [&[1u64; 9][..], &[1 << 48], &[1 << 32, 1 << 32], &[(1 << 48) - 1, 1 << 17, 0]] {
            assert_eq!(Header::new(Element::of::<u8>(), shape).unwrap_err().kind(), ErrorKind::Encoding, "{shape:?}");
        }
        for (bits, lanes) in [(4, 1), (0, 1), (8, 0), (1, 7)] {
            assert!(Header::new(Element { code: 0, bits, lanes }, &[8]).is_err());
        }
        assert!(Header::new(Element::of::<u8>(), &[2]).unwrap().write(&mut [0; 65]).is_err());
    }
}
