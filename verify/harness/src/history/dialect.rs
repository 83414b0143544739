//! What a payload is to both sides of a history: bytes, a type that is plain memory, or a value that is encoded.
//!
//! The model knows bytes only. A typed history has all of them in one type's size, an encoded one wraps them into a
//! [`Parcel`].

use serde::{Deserialize, Serialize};
use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{Contract, Encoding, Payload};

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// Bytes.
    Bytes,
    /// A [`Block`] of so many bytes. Blocking parties use the typed face, tasks use bytes under the type's contract.
    Typed(usize),
    /// A [`Parcel`], encoded with its names.
    Named,
    /// A [`Parcel`], encoded without names.
    Positional,
}

/// The sizes that a [`Block`] can have.
pub const BLOCKS: [usize; 3] = [8, 48, 300];

/// A payload that is plain memory.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(transparent)]
pub struct Block<const N: usize> {
    /// All of it.
    pub bytes: [u8; N],
}

impl<const N: usize> Payload for Block<N> {
    const NAME: &'static str = "Block";
}

/// A payload that has to be encoded.
#[derive(Debug, Serialize, Deserialize)]
pub enum Parcel {
    /// No bytes.
    Empty,
    /// Bytes, and something that is there or not.
    Full {
        /// What the model knows.
        body: Vec<u8>,
        /// The first byte, if it is odd.
        mark: Option<u8>,
    },
}

impl Parcel {
    /// Wraps bytes.
    pub fn of(bytes: &[u8]) -> Parcel {
        match bytes {
            [] => Parcel::Empty,
            [first, ..] => Parcel::Full { body: bytes.to_vec(), mark: Some(*first).filter(|first| first % 2 == 1) },
        }
    }

    /// The bytes; others, if the rest does not go with them.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Parcel::Empty => Vec::new(),
            Parcel::Full { body, mark } if mark == body.first().copied().filter(|first| first % 2 == 1) => body,
            Parcel::Full { body, mark } => [&body[..], &[mark.unwrap_or(0)]].concat(),
        }
    }
}

impl Dialect {
    /// Whether payloads are encoded.
    pub fn is_encoded(self) -> bool {
        matches!(self, Dialect::Named | Dialect::Positional)
    }

    /// The only length that typed payloads have.
    pub fn block(self) -> Option<usize> {
        if let Dialect::Typed(len) = self { Some(len) } else { None }
    }

    /// What both sides agree on.
    pub fn contract(self) -> Contract {
        match self {
            Dialect::Bytes => Contract::bytes(),
            Dialect::Typed(8) => Contract::of::<Block<8>>(),
            Dialect::Typed(48) => Contract::of::<Block<48>>(),
            Dialect::Typed(_) => Contract::of::<Block<300>>(),
            Dialect::Named => Contract::bytes().in_encoding(Encoding::MessagePack),
            Dialect::Positional => Contract::bytes().in_encoding(Encoding::Postcard),
        }
    }

    /// Whether a payload of so many bytes may not fit into a capacity. Encoded ones take up to twice their length, and
    /// a few names.
    pub fn may_exceed(self, len: usize, capacity: usize) -> bool {
        if self.is_encoded() { 2 * len + 32 > capacity } else { len > capacity }
    }
}
