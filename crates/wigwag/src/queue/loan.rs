//! A message being written where it will be read.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;

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
    /// Whether descriptors are attached to the slot.
    has_descriptors: bool,
    is_redelivered: bool,
}

impl<'s> MessageLoan<'s> {
    /// The producer has found room.
    #[inline(always)]
    pub(super) fn new(producer: &'s mut Producer, len: usize) -> MessageLoan<'s> {
        let (segment, slot) = (producer.connection().segment(), producer.next_slot());
        let payload = PayloadBytesMut::of_slot(segment, slot, len > INLINE_CAPACITY, len);
        MessageLoan { producer, payload, has_descriptors: false, is_redelivered: false }
    }

    /// Sends it. From here on the message is the receiver's to have, whatever happens to this process.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked). That the receiver is gone shows later: the message is kept for its
    /// successor. One with [descriptors](MessageLoan::attach) is not sent, and ends with
    /// [`Full`](crate::ErrorKind::Full), if the kernel takes no more of this user.
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
        if self.has_descriptors {
            return self.commit_with_descriptors();
        }
        let this = self.pass(0);
        this.producer.connection().ring_if_asleep();
        Ok(())
    }

    /// Marks it as one that may have been received before, so that its receiver sees it as
    /// [redelivered](crate::Delivery::is_redelivered): for a program that passes on what it got elsewhere, such as a
    /// gateway to another machine.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// let mut draft = sender.loan(0)?;
    /// draft.mark_redelivered();
    /// draft.commit()?;
    /// assert!(receiver.recv()?.is_redelivered());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn mark_redelivered(&mut self) {
        self.is_redelivered = true;
    }

    /// As [`commit`](MessageLoan::commit), with descriptors, which are sent first.
    #[cold]
    fn commit_with_descriptors(self) -> Result<()> {
        let descriptors = self.producer.send_descriptors()?;
        let this = self.pass(descriptors);
        this.producer.connection().ring_if_asleep();
        Ok(())
    }

    /// The message is the receiver's from here on, and so is what was sent with it: a drop has nothing to close.
    #[inline(always)]
    fn pass(self, descriptors: u32) -> ManuallyDrop<MessageLoan<'s>> {
        let mut this = ManuallyDrop::new(self);
        let len = this.payload.len();
        if len > INLINE_CAPACITY {
            prefetch::written(&this.payload);
        }
        let is_redelivered = this.is_redelivered;
        this.producer.push(len, descriptors, is_redelivered);
        this
    }

    /// As [`commit`](MessageLoan::commit), in a batch: somebody rings later.
    #[inline(always)]
    pub(super) fn pass_silently(self) {
        self.pass(0);
    }

    /// Attaches a file descriptor: the receiver gets one of its own to the same open file
    /// ([`Delivery::take_descriptors`](crate::Delivery::take_descriptors)), in the order in which they were attached.
    ///
    /// What is attached is a duplicate; yours stays yours. A draft that is not committed sends none. The sender keeps
    /// its duplicates until the message is acknowledged, because a receiver's successor gets them with the message. It
    /// closes them in one of the next calls after that: in [`flush`](crate::Sender::flush),
    /// [`close`](crate::Sender::close) and `attach`, in any other some milliseconds later, or when it is dropped. So
    /// whoever waits for the end of a pipe whose writing end was sent waits for that, too.
    ///
    /// # Errors
    /// [`NotAgreed`](crate::ErrorKind::NotAgreed) unless both sides have [asked](crate::SenderBuilder::descriptors) for
    /// descriptors, as of a receiver that speaks protocol 1. [`Full`](crate::ErrorKind::Full): 16 are attached already;
    /// or 64 of this sender, or a quarter of `ulimit -n` of this process, are attached or in messages that are not
    /// acknowledged. [`Io`](crate::ErrorKind::Io) if it cannot be duplicated, [`Forked`](crate::ErrorKind::Forked). The
    /// draft is as it was, and can be committed.
    ///
    /// ```
    /// # use std::io::Write;
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::builder().descriptors(true).bind(name)?;
    /// let mut sender = wigwag::Sender::builder().descriptors(true).connect(name)?;
    /// let (reading, writing) = std::io::pipe().unwrap();
    /// let mut draft = sender.loan(3)?;
    /// draft.copy_from_slice(b"log");
    /// draft.attach(writing)?;
    /// draft.commit()?;
    ///
    /// let mut message = receiver.recv()?;
    /// for descriptor in message.take_descriptors()? {
    ///     std::fs::File::from(descriptor).write_all(b"from the receiver").unwrap();
    /// }
    /// message.ack();
    /// sender.close()?;
    /// assert_eq!(std::io::read_to_string(reading).unwrap(), "from the receiver");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn attach(&mut self, descriptor: impl AsFd) -> Result<()> {
        if !self.has_descriptors {
            self.producer.settle_descriptors(); // of the slot's last message, and of all that make room
        }
        self.producer.attach(descriptor.as_fd())?;
        self.has_descriptors = true;
        Ok(())
    }
}

impl Drop for MessageLoan<'_> {
    /// Nothing is sent.
    #[inline(always)]
    fn drop(&mut self) {
        if self.has_descriptors {
            self.producer.detach();
        }
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
