//! A slot in the hands of a task: a loan or a reply without a borrow of its client.

use std::mem::{self, ManuallyDrop};
use std::ops::{Deref, DerefMut};

use crate::exchange::client::Client;
use crate::exchange::loan::{Loan, Reply};
use crate::memory::layout::INLINE_CAPACITY;
use crate::memory::payload::PayloadBytesMut;
use crate::memory::prefetch;
use crate::memory::segment::LineRef;
use crate::memory::slot;

/// A slot that is the client's (L1), and its payload. Whoever keeps it keeps the client, too, and gives the slot back.
#[derive(Debug)]
pub(crate) struct Held {
    slot: usize,
    payload: PayloadBytesMut,
}

impl Loan<'_> {
    /// Lets go of the borrow. The slot stays out.
    pub(crate) fn into_held(self) -> Held {
        let mut this = ManuallyDrop::new(self);
        Held { slot: this.slot, payload: mem::take(&mut this.payload) }
    }
}

impl Reply<'_> {
    /// Lets go of the borrow. The slot stays out.
    pub(crate) fn into_held(self) -> Held {
        let mut this = ManuallyDrop::new(self);
        Held { slot: this.slot, payload: mem::take(&mut this.payload) }
    }
}

/// A slot that was passed to the server. Whoever keeps it keeps the client, too.
#[derive(Debug)]
pub(crate) struct Passed(LineRef);

impl Passed {
    /// One of this client's slots.
    pub fn new(client: &Client, slot: usize) -> Passed {
        Passed(LineRef::of(client.connection.segment().line(slot)))
    }

    /// Whether it has come back.
    #[inline(always)]
    pub fn is_back(&self) -> bool {
        !slot::load(&self.0.get().turn).is_server()
    }
}

impl Held {
    /// Which slot.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Before it is passed: hints where the payload will be read.
    pub fn written(&self) {
        if self.payload.len() > INLINE_CAPACITY {
            prefetch::written(self);
        }
    }

    /// The same slot for another request of a length that is within the capacity; the bytes stay, up to the shorter
    /// length.
    pub fn resize(&mut self, client: &Client, len: usize) {
        let mut held = Loan::new(client, self.slot, len).into_held();
        held.payload.take_over(&self.payload);
        *self = held;
    }
}

impl Deref for Held {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

impl DerefMut for Held {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.payload
    }
}
