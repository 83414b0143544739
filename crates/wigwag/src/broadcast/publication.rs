//! A message being written where all subscribers will read it.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::broadcast::output::Output;
use crate::error::Result;
use crate::memory::entry::INLINE_WORDS;
use crate::memory::layout::INLINE_CAPACITY;
use crate::memory::payload::PayloadBytesMut;

/// Memory of the publisher, to be filled and [committed](Publication::commit). Dropped without, nothing is published.
///
/// What lies there at first is anything, such as parts of earlier messages: fill all of it.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut publisher = wigwag::Publisher::bind(name)?;
/// let mut subscriber = wigwag::Subscriber::connect(name)?;
/// let mut draft = publisher.loan(4)?;
/// draft.copy_from_slice(b"abcd");
/// draft.commit()?;
/// assert_eq!(&subscriber.recv()?[..], b"abcd");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a draft that is not committed is not published"]
pub struct Publication<'p> {
    output: &'p mut Output,
    bytes: Draft,
}

/// Words of a message that lies in its entry, aligned as payloads are.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(16))]
pub struct InlineWords(pub [u64; INLINE_WORDS]);

enum Draft {
    /// Short enough for an entry: written there when it is published.
    Inline { words: InlineWords, len: usize },
    /// The body was free, and is nobody's but this loan's (H1): the publisher is borrowed.
    Body { body: u32, payload: PayloadBytesMut },
}

impl<'p> Publication<'p> {
    /// The length was checked, and there is room.
    #[inline(always)]
    pub(super) fn new(output: &'p mut Output, len: usize) -> Result<Publication<'p>> {
        let bytes = if len <= INLINE_CAPACITY {
            Draft::Inline { words: InlineWords::default(), len }
        } else {
            let body = output.take_body()?;
            let payload = PayloadBytesMut::of_body(output.board(), body as usize, len);
            Draft::Body { body, payload }
        };
        Ok(Publication { output, bytes })
    }

    /// Publishes it: from here on every subscriber may read it, whatever happens to this process. Returns its number;
    /// the first message of a publisher has 1, and each has one more than the one before.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked); [`ServerClosed`](crate::ErrorKind::ServerClosed) if the publisher was shut
    /// down, or another one has taken the name meanwhile.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// assert_eq!(publisher.loan(0)?.commit()?, 1); // a message may be empty
    /// assert_eq!(publisher.loan(0)?.commit()?, 2);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline(always)]
    pub fn commit(self) -> Result<u64> {
        self.output.check(0)?;
        let mut this = ManuallyDrop::new(self); // its body is in an entry from here on
        let this = &mut *this;
        Ok(match &this.bytes {
            Draft::Inline { words, len } => this.output.publish_inline(&words.0, *len),
            Draft::Body { body, payload } => this.output.publish_body(*body, payload.len()),
        })
    }
}

impl Deref for Publication<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Draft::Inline { words, len } => &words.as_bytes()[..*len],
            Draft::Body { payload, .. } => payload,
        }
    }
}

impl DerefMut for Publication<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Draft::Inline { words, len } => &mut words.as_mut_bytes()[..*len],
            Draft::Body { payload, .. } => payload,
        }
    }
}

impl Drop for Publication<'_> {
    fn drop(&mut self) {
        if let Draft::Body { body, .. } = self.bytes {
            self.output.give_back(body);
        }
    }
}

impl fmt::Debug for Publication<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Publication").field("sequence", &self.output.next()).field("len", &self.len()).finish()
    }
}
