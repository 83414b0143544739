//! A message being written where it will be read.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::Sender;
use crate::error::{Error, Result};
use crate::hint;
use crate::layout::INLINE_CAPACITY;

/// Memory of the queue, to be filled and [committed](Draft::commit). Dropped without, nothing is sent.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
/// # let receiver = wigwag::Receiver::bind(name)?;
/// let mut sender = wigwag::Sender::connect(name)?;
/// let mut draft = sender.loan(4)?;
/// draft.copy_from_slice(b"abcd");
/// draft.commit()?;
/// assert_eq!(&receiver.recv()?[..], b"abcd");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a draft that is not committed is not sent"]
pub struct Draft<'s> {
    sender: &'s mut Sender,
    /// **Invariant D1.** The slot that the sender uses next has the sender's turn, and `data` points to `len` bytes of its
    /// payload. Nobody else has them: the sender is borrowed.
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the sender's session, which may move between threads as the sender may, and by D1 nobody else
// uses the same bytes.
unsafe impl Send for Draft<'_> {}

impl<'s> Draft<'s> {
    /// The sender has made room.
    #[inline(always)]
    pub(super) fn new(sender: &'s mut Sender, len: usize) -> Draft<'s> {
        let slot = sender.outbox.next();
        let data = sender.connection.segment().payload(slot, len > INLINE_CAPACITY);
        Draft { sender, data, len }
    }

    /// Sends it. From here on the message is the receiver's to have, whatever happens to this process.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked). That the receiver is gone shows later: the message is kept for its successor.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.loan(0)?.commit()?;      // a message may be empty
    /// assert!(receiver.recv()?.is_empty());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline(always)]
    pub fn commit(self) -> Result<()> {
        if self.sender.connection.is_forked() {
            return Err(Error::forked());
        }
        if self.len > INLINE_CAPACITY {
            hint::written(&self);
        }
        self.sender.push(self.len);
        self.sender.connection.ring_if_asleep();
        Ok(())
    }

    /// As [`commit`](Draft::commit), in a batch: somebody rings later.
    #[inline(always)]
    pub(super) fn pass_silently(self) {
        if self.len > INLINE_CAPACITY {
            hint::written(&self);
        }
        self.sender.push(self.len);
    }
}

impl Deref for Draft<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: D1.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Draft<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: D1, and `&mut self` is the only way to the bytes here.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Draft").field("len", &self.len).finish()
    }
}
