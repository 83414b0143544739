//! A bounce buffer of a payload, for clients that may write behind the server's back.

use std::os::fd::OwnedFd;

use crate::memory::head::Head;
use crate::memory::segment::Segment;
use crate::sys;
use zerocopy::IntoBytes;

/// Bytes aligned as payloads are (16), kept from request to request.
#[derive(Debug, Default)]
pub struct BounceBuffer {
    words: Vec<u128>,
    len: usize,
}

impl BounceBuffer {
    /// Nothing, and no memory used.
    pub const fn new() -> BounceBuffer {
        BounceBuffer { words: Vec::new(), len: 0 }
    }

    /// Makes it `len` bytes long: what was there stays, what is added is zero. `false` when there is no memory for it.
    #[must_use]
    pub fn resize(&mut self, len: usize) -> bool {
        let words = len.div_ceil(size_of::<u128>());
        if words > self.words.len() && self.words.try_reserve_exact(words - self.words.len()).is_err() {
            return false;
        }
        self.words.resize(words, 0);
        let old = std::mem::replace(&mut self.len, len);
        if len > old {
            self.bytes_mut()[old..].fill(0);
        }
        true
    }

    /// Becomes the payload of a slot, each of its bytes read once; `memory` is the segment's, for bodies that may have
    /// no pages yet. Else what could not be done, in words.
    pub fn take(
        &mut self,
        segment: &Segment,
        memory: Option<&OwnedFd>,
        slot: usize,
        head: Head,
    ) -> Result<(), &'static str> {
        if !self.resize(head.len as usize) {
            return Err("has no memory for a copy of");
        }
        match (memory, head.in_body) {
            (Some(memory), true) => {
                let offset = segment.body_offset(slot);
                if !sys::memory::read_exact(memory, offset as u64, self.bytes_mut()) {
                    return Err("could not read");
                }
            }
            (_, in_body) => segment.copy_out(slot, in_body, self.bytes_mut()),
        }
        Ok(())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_adds_zeros_and_keeps_the_rest() {
        let mut copy = BounceBuffer::new();
        assert!(copy.resize(20));
        copy.bytes_mut().fill(7);
        assert!(copy.resize(3) && copy.resize(40));
        assert_eq!(copy.bytes()[..3], [7; 3]);
        assert_eq!(copy.bytes()[3..], [0; 37]);
        assert_eq!(copy.bytes().as_ptr().addr() % 16, 0);
    }

    #[test]
    fn no_memory_is_no_abort() {
        assert!(!BounceBuffer::new().resize(isize::MAX as usize / 2 * 2));
    }
}
