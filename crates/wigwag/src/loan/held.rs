//! A slot in the hands of a task: a loan or a reply without a borrow of its client.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::{Loan, Reply};
use crate::client::Client;
use crate::hint;
use crate::layout::INLINE_CAPACITY;
use crate::segment::Line;
use crate::slot;

/// A slot that is the client's (L1), and its payload. Whoever keeps it keeps the client, too, and gives the slot back.
#[derive(Debug)]
pub(crate) struct Held {
    slot: usize,
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is mapped for as long as the client lives (M1), on whichever thread, and the payload is used through this
// value alone (L1).
unsafe impl Send for Held {}
// SAFETY: `&Held` gives out `&[u8]` of bytes that nobody writes to while it lives (L1).
unsafe impl Sync for Held {}

impl Loan<'_> {
    /// Lets go of the borrow. The slot stays out.
    pub(crate) fn into_held(self) -> Held {
        let this = ManuallyDrop::new(self);
        Held { slot: this.slot, data: this.data, len: this.len }
    }
}

impl Reply<'_> {
    /// Lets go of the borrow. The slot stays out.
    pub(crate) fn into_held(self) -> Held {
        let this = ManuallyDrop::new(self);
        Held { slot: this.slot, data: this.data, len: this.len }
    }
}

/// A slot that was passed to the server. Whoever keeps it keeps the client, too.
#[derive(Debug)]
pub(crate) struct Passed(NonNull<Line>);

// SAFETY: the line is mapped for as long as the client lives (M1), and only its atomics are touched.
unsafe impl Send for Passed {}
// SAFETY: as above.
unsafe impl Sync for Passed {}

impl Passed {
    /// One of this client's slots.
    pub fn new(client: &Client, slot: usize) -> Passed {
        Passed(NonNull::from(client.connection.segment().line(slot)))
    }

    /// Whether it has come back.
    #[inline(always)]
    pub fn is_back(&self) -> bool {
        // SAFETY: mapped while the client lives, which whoever has this keeps; only an atomic is touched.
        !slot::load(unsafe { &self.0.as_ref().turn }).is_server()
    }
}

impl Held {
    /// Which slot.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Before it is passed: hints where the payload will be read.
    pub fn written(&self) {
        if self.len > INLINE_CAPACITY {
            hint::written(self);
        }
    }

    /// The same slot for another request of a length that is within the capacity; the bytes stay, up to the shorter length.
    pub fn resize(&mut self, client: &Client, len: usize) {
        let loan = Loan::new(client, self.slot, len).into_held();
        if loan.data != self.data {
            // SAFETY: both are payload parts of our slot (L1) that do not overlap, and the count fits into either.
            unsafe { loan.data.copy_from_nonoverlapping(self.data, len.min(self.len)) };
        }
        *self = loan;
    }
}

impl Deref for Held {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: L1; initialised, because a segment begins as zeros.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Held {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: L1, and `&mut self` is the only way to the bytes here.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}
