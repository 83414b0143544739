//! A slot and its payload without a borrow: what a task, a foreign language or a bridge holds of a session.
//!
//! [`Loan`](crate::exchange::loan::Loan) and [`Reply`](crate::exchange::loan::Reply) are this with a borrow of the
//! session beside it, so that the compiler sees that the memory stays and a drop gives the slot back.

use std::mem;
use std::ops::{Deref, DerefMut};

use crate::memory::head::Head;
use crate::memory::layout::INLINE_CAPACITY;
use crate::memory::payload::PayloadBytesMut;
use crate::memory::prefetch;
use crate::memory::segment::{Line, Segment};

/// A slot in the client's hands, to be filled or with the reply in it.
///
/// **Invariant L1.** The slot's turn is the client's, no other `OwnedLoan` of this session has it, and `payload` is its
/// payload. Whoever keeps it keeps the [`Caller`](crate::exchange::caller::Caller) beside it and gives the slot back:
/// dropping it gives nothing back.
#[derive(Debug)]
pub struct OwnedLoan {
    /// The slot, with [`MARK`] if it has descriptors.
    marked_slot: usize,
    payload: PayloadBytesMut,
}

/// Of a slot's number, as it is given back: descriptors are attached to the loan, or have come with the reply, and must
/// not be forgotten. A number with it is beyond all slots, so that giving back costs the others no look at it.
const MARK: usize = 1 << 31;

/// The slot's number without its mark.
#[inline(always)]
pub fn unmarked(marked_slot: usize) -> usize {
    marked_slot & !MARK
}

impl OwnedLoan {
    /// A slot that is the client's, for `len` bytes.
    #[inline(always)]
    pub fn new(segment: &Segment, slot: usize, line: &Line, len: usize) -> OwnedLoan {
        let payload = PayloadBytesMut::of_line(segment, slot, line, len > INLINE_CAPACITY, len);
        OwnedLoan { marked_slot: slot, payload }
    }

    /// A slot that came back with a reply, whose head was checked.
    #[inline(always)]
    pub fn with_reply(segment: &Segment, slot: usize, line: &Line, head: Head) -> OwnedLoan {
        let payload = PayloadBytesMut::of_line(segment, slot, line, head.in_body, head.len as usize);
        if head.in_body {
            prefetch::arrived(&payload);
        }
        OwnedLoan { marked_slot: slot, payload }
    }

    /// Which slot.
    #[inline(always)]
    pub fn slot(&self) -> usize {
        unmarked(self.marked_slot)
    }

    /// As what it is given back.
    #[inline(always)]
    pub fn marked_slot(&self) -> usize {
        self.marked_slot
    }

    /// Whether it has descriptors, or has had some.
    pub fn is_marked(&self) -> bool {
        self.marked_slot != self.slot()
    }

    /// Descriptors are attached to it, or came with it.
    pub fn mark(&mut self) {
        self.marked_slot |= MARK;
    }

    /// How many bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Before it is passed: hints where the payload will be read.
    #[inline(always)]
    pub fn written(&self) {
        if self.payload.len() > INLINE_CAPACITY {
            prefetch::written(&self.payload);
        }
    }

    /// The same slot for another request of a length that is within the capacity; the bytes stay, up to the shorter
    /// length. A mark stays.
    #[inline]
    pub fn resize(&mut self, segment: &Segment, line: &Line, len: usize) {
        let mut resized = OwnedLoan::new(segment, self.slot(), line, len);
        resized.payload.take_over(&self.payload);
        resized.marked_slot = self.marked_slot;
        *self = resized;
    }

    /// Moves it out of something that will not be dropped. What stays behind shows no bytes.
    #[inline(always)]
    pub fn take(&mut self) -> OwnedLoan {
        OwnedLoan { marked_slot: self.marked_slot, payload: mem::take(&mut self.payload) }
    }
}

impl Deref for OwnedLoan {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

impl DerefMut for OwnedLoan {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.payload
    }
}
