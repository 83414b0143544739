//! The requests of a storm: each says whose it is and which, and has a pattern to its last byte.
//!
//! ```text
//!  0  row      whose
//!  8  nonce    which
//! 16  seal     follows from both: what has none was made by nobody honest
//! 24  pattern  follows from the seal
//! ```
//!
//! The reply is the inverse of all of it, and sometimes longer.

use wigwag_testing::{fill, word};

/// The shortest parcel.
pub const SHORTEST: usize = 24;
/// A row that is an order: "which life are you?" The reply has the number where the row was.
pub const GREETING: u64 = 1 << 60;

/// What lies in a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// A parcel, whole.
    Parcel {
        /// Whose.
        row: u64,
        /// Which.
        nonce: u64,
    },
    /// Nothing that anybody honest has made.
    Junk,
    /// A parcel that is not as it was sent.
    Broken(String),
}

fn seal(row: u64, nonce: u64) -> u64 {
    word(word(row, 1), nonce)
}

/// Writes a parcel over all of `bytes`.
pub fn write(bytes: &mut [u8], row: u64, nonce: u64) {
    let seal = seal(row, nonce);
    for (index, number) in [row, nonce, seal].into_iter().enumerate() {
        bytes[index * 8..][..8].copy_from_slice(&number.to_le_bytes());
    }
    fill(&mut bytes[SHORTEST..], seal);
}

/// Reads a request, and checks every byte.
pub fn read(bytes: &[u8]) -> Content {
    if bytes.len() < SHORTEST {
        return Content::Junk;
    }
    let number = |index: usize| u64::from_le_bytes(bytes[index * 8..][..8].try_into().expect("eight bytes"));
    let (row, nonce) = (number(0), number(1));
    if number(2) != seal(row, nonce) {
        return Content::Junk;
    }
    match first_difference(&bytes[SHORTEST..], number(2), 0) {
        None => Content::Parcel { row, nonce },
        Some(at) => Content::Broken(format!("request {nonce} of {row}, {} bytes, at {}", bytes.len(), SHORTEST + at)),
    }
}

/// How long the reply to a parcel is.
pub fn reply_len(len: usize, nonce: u64, capacity: usize) -> usize {
    if nonce % 8 == 7 { (2 * len).min(capacity) } else { len }
}

/// Checks every byte of a reply.
pub fn check_reply(reply: &[u8], len: usize, row: u64, nonce: u64, capacity: usize) -> Result<(), String> {
    let expected = reply_len(len, nonce, capacity);
    let what = || format!("the reply to request {nonce} of {row}, {len} bytes");
    if reply.len() != expected {
        return Err(format!("{} is {} bytes long and not {expected}", what(), reply.len()));
    }
    let seal = seal(row, nonce);
    for (index, number) in [row, nonce, seal].into_iter().enumerate() {
        if reply[index * 8..][..8] != (!number).to_le_bytes() {
            return Err(format!("{} is wrong at byte {}", what(), index * 8));
        }
    }
    if let Some(at) = first_difference(&reply[SHORTEST..len], seal, u64::MAX) {
        return Err(format!("{} is wrong at byte {}", what(), SHORTEST + at));
    }
    match reply[len..].iter().position(|byte| *byte != 0xff) {
        Some(at) => Err(format!("{} is wrong at byte {}", what(), len + at)),
        None => Ok(()),
    }
}

/// Where bytes are not the pattern, seen through a mask.
fn first_difference(bytes: &[u8], seed: u64, mask: u64) -> Option<usize> {
    let is_wrong = |(index, chunk): (usize, &[u8])| {
        let expected = (word(seed, index as u64) ^ mask).to_le_bytes();
        (chunk != &expected[..chunk.len()]).then_some(index * 8)
    };
    bytes.chunks(8).enumerate().find_map(is_wrong)
}
