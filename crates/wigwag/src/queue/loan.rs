//! A message being written where it will be read.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::error::Result;
use crate::memory::layout::INLINE_CAPACITY;
use crate::memory::payload::PayloadBytesMut;
use crate::memory::prefetch;
use crate::queue::producer::Producer;

/// Memory of the queue, to be filled and [committed](MessageLoan::commit). Dropped without, nothing is sent.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
/// # let receiver = wigwag::Receiver::bind(name)?;
/// let mut sender = wigwag::Sender::connect(name)?;
/// let mut draft = sender.loan(4)?;
/// draft.copy_from_slice(b"abcd");
/// draft.commit()?;
/// assert_eq!(&receiver.recv()?[..], b"abcd");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a draft that is not committed is not sent"]
pub struct MessageLoan<'s> {
    producer: &'s mut Producer,
    /// **Invariant D1.** The slot that the sender uses next has the sender's turn, and `payload` is its payload. Nobody
    /// else has it: the producer is borrowed.
    payload: PayloadBytesMut,
}

impl<'s> MessageLoan<'s> {
    /// The producer has found room.
    #[inline(always)]
    pub(super) fn new(producer: &'s mut Producer, len: usize) -> MessageLoan<'s> {
        let (segment, slot) = (producer.connection().segment(), producer.next_slot());
        let payload = PayloadBytesMut::of_slot(segment, slot, len > INLINE_CAPACITY, len);
        MessageLoan { producer, payload }
    }

    /// Sends it. From here on the message is the receiver's to have, whatever happens to this process.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked). That the receiver is gone shows later: the message is kept for its
    /// successor.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.loan(0)?.commit()?;      // a message may be empty
    /// assert!(receiver.recv()?.is_empty());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline(always)]
    pub fn commit(self) -> Result<()> {
        self.producer.check_fork()?;
        if self.payload.len() > INLINE_CAPACITY {
            prefetch::written(&self);
        }
        self.producer.push(self.payload.len());
        self.producer.connection().ring_if_asleep();
        Ok(())
    }

    /// As [`commit`](MessageLoan::commit), in a batch: somebody rings later.
    #[inline(always)]
    pub(super) fn pass_silently(self) {
        if self.payload.len() > INLINE_CAPACITY {
            prefetch::written(&self);
        }
        self.producer.push(self.payload.len());
    }
}

impl Deref for MessageLoan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

impl DerefMut for MessageLoan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.payload
    }
}

impl fmt::Debug for MessageLoan<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MessageLoan").field("len", &self.payload.len()).finish()
    }
}
