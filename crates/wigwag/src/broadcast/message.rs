//! A message that a subscriber has taken.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::broadcast::reception::Reception;
use crate::memory::bounce_buffer::BounceBuffer;
use crate::memory::entry::INLINE_WORDS;
use crate::memory::payload::PayloadBytes;

/// A message of a [`Publisher`](crate::Publisher), with what was lost before it.
///
/// Up to 48 bytes are copied out. A longer one is read where the publisher wrote it, and held there until this is
/// dropped, on any thread: the publisher writes elsewhere meanwhile. What cannot be held is a copy, too: a message of
/// another user's publisher, one of a publisher whose [holds](crate::PublisherBuilder::max_holds) are all given away,
/// and perhaps the first one after a connect.
///
/// A child process does not have the memory: a message that was taken before a `fork` must not be touched there.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut publisher = wigwag::Publisher::bind(name)?;
/// let mut subscriber = wigwag::Subscriber::connect(name)?;
/// publisher.send(b"1.07")?;
/// let message = subscriber.recv()?;
/// assert_eq!((&message[..], message.sequence(), message.lost_before()), (&b"1.07"[..], 1, 0));
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Message {
    sequence: u64,
    lost_before: u64,
    is_of_new_publisher: bool,
    bytes: Bytes,
}

/// Words that lay in an entry, aligned as payloads are.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(16))]
pub struct EntryWords(pub [u64; INLINE_WORDS]);

/// What a message's bytes are.
pub enum Bytes {
    /// Copied out of the entry.
    Inline { words: EntryWords, len: usize },
    /// The hold was confirmed, and stays until this is dropped: nobody writes to the body (H1).
    Held { reception: Arc<Reception>, hold: u32, body: u32, len: usize },
    /// Copied out of the body.
    Copied(BounceBuffer),
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Bytes::Held { reception, hold, .. } = self {
            reception.release(*hold);
        }
    }
}

impl Message {
    pub(super) fn new(sequence: u64, lost_before: u64, is_of_new_publisher: bool, bytes: Bytes) -> Message {
        Message { sequence, lost_before, is_of_new_publisher, bytes }
    }

    /// Its number: a publisher's first message has 1, and each has one more than the one before.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// # let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// publisher.send(b"first")?;
    /// assert_eq!(subscriber.recv()?.sequence(), 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many messages this subscriber has lost between the one that it took before and this one. Of the first one of
    /// another publisher: how many that one had published and let go of before.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::builder().history(2).bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// for number in 0..10_u8 {
    ///     publisher.send(&[number])?;
    /// }
    /// let message = subscriber.recv()?;
    /// assert_eq!((message[0], message.lost_before()), (8, 8));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn lost_before(&self) -> u64 {
        self.lost_before
    }

    /// Whether it is the first one of another publisher than the one before: a subscriber that
    /// [follows](crate::SubscriberBuilder::reconnect) has read all that the former one published, but for what it was
    /// told to have lost.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # use std::time::Duration;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::builder().reconnect(Duration::from_secs(5)).connect(name)?;
    /// publisher.send(b"old")?;
    /// assert!(!subscriber.recv()?.is_of_new_publisher());
    /// drop(publisher);
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// publisher.send(b"new")?;
    /// assert!(subscriber.recv()?.is_of_new_publisher());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_of_new_publisher(&self) -> bool {
        self.is_of_new_publisher
    }

    /// Whether it is read where the publisher wrote it, and not a copy.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// # let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// publisher.send(b"short")?;
    /// assert!(!subscriber.recv()?.is_in_place());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_in_place(&self) -> bool {
        matches!(self.bytes, Bytes::Held { .. })
    }
}

impl Deref for Message {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Inline { words, len } => &words.as_bytes()[..*len],
            Bytes::Held { reception, body, len, .. } => {
                PayloadBytes::of_body(&reception.board, *body as usize, *len).lent_by(self)
            }
            Bytes::Copied(copy) => copy.bytes(),
        }
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Message")
            .field("sequence", &self.sequence)
            .field("len", &self.len())
            .field("lost_before", &self.lost_before)
            .field("is_in_place", &self.is_in_place())
            .finish()
    }
}
