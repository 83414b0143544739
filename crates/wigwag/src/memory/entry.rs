//! An entry of a publisher's ring: one line, written by the publisher alone, and read by any number of others, who
//! cannot be asked to wait and cannot write.
//!
//! ```text
//!   publisher                              reader, who expects n
//!   sequence <- 0                          sequence == n ?              (else nothing, or lapped)
//!   fence (release)                        fence (acquire)
//!   fields                                 fields
//!   sequence <- n + entries (exchange)     fence (acquire)
//!                                          sequence == n ?              (else lapped: forget the fields)
//! ```
//!
//! **Invariant E1.** What was read of an entry is message n if the sequence was n before and after it was read: the
//! fields of another message are written only after the sequence was set to 0, and before it is set to that message's.
//! Sequences begin at 1, have 64 bits and never come again. A publisher that is killed at any instruction leaves each
//! entry with a whole message or with the sequence 0. Of those that had a message it is the one that was being written,
//! and those that the publisher [released](release) because nobody who is here needs them.
//!
//! The exchange is also the first half of Dekker's pattern: with the hold of a reader ([`crate::memory::hold`]) and
//! with the word of one that goes to sleep ([`crate::memory::hint`]).

use crate::memory::layout::{INLINE_CAPACITY, LINE_SIZE};
use crate::sync::{AtomicU64, Ordering, fence};

/// How many words of a message lie in its entry.
pub const INLINE_WORDS: usize = INLINE_CAPACITY / 8;

/// An entry.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Entry {
    /// Which message lies here; 0: none, or it is being replaced.
    pub sequence: AtomicU64,
    /// Its length and its body: [`Place`].
    pub head: AtomicU64,
    /// The message, if it has no body.
    pub inline: [AtomicU64; INLINE_WORDS],
}

const _: () = assert!(size_of::<Entry>() == LINE_SIZE || cfg!(loom));

/// Where a message lies, and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its length in bytes.
    pub len: u32,
    /// The body's index plus one; 0: it lies in the entry.
    pub body: u32,
}

impl Place {
    /// Of a number that was lost before the publisher had it: no message, and no body.
    pub const VOID: Place = Place { len: 0, body: u32::MAX };

    /// The word in memory.
    #[inline(always)]
    pub fn pack(self) -> u64 {
        u64::from(self.len) | u64::from(self.body) << 32
    }

    /// A word that was read once.
    #[inline(always)]
    pub fn unpack(word: u64) -> Place {
        Place { len: word as u32, body: (word >> 32) as u32 }
    }
}

/// Publisher: puts message `sequence` into an entry, in the place of what lies there.
#[inline(always)]
pub fn publish(entry: &Entry, sequence: u64, head: u64, inline: &[u64]) {
    entry.sequence.store(0, Ordering::Relaxed); // before the fields, by the fence
    fence(Ordering::Release); // partner: the fence in `is_still`
    for (word, value) in entry.inline.iter().zip(inline) {
        word.store(*value, Ordering::Relaxed);
    }
    entry.head.store(head, Ordering::Relaxed);
    entry.sequence.swap(sequence, Ordering::SeqCst); // releases the message; partner: the fence in `look`
}

/// Publisher: lets go of the message that lies in an entry, before the next one comes. Its body is retired.
#[inline(always)]
pub fn release(entry: &Entry) {
    // Before the body is written to: by the fence in `begin_scan`, which is a partner of that in `is_still`, too.
    entry.sequence.store(0, Ordering::Relaxed);
}

/// Reader: which message lies in an entry. What is read of the entry after this is that message's or a later one's.
#[inline(always)]
pub fn look(entry: &Entry) -> u64 {
    // On a mapping that may only be read no more than a relaxed load is guaranteed to be a plain one.
    let sequence = entry.sequence.load(Ordering::Relaxed);
    fence(Ordering::Acquire); // partner: the exchange in `publish`
    sequence
}

/// Reader: the fields, to be believed once [`is_still`] says so.
#[inline(always)]
pub fn head(entry: &Entry) -> u64 {
    entry.head.load(Ordering::Relaxed)
}

/// Reader: the message's first words, to be believed once [`is_still`] says so.
#[inline(always)]
pub fn inline(entry: &Entry, words: usize, into: &mut [u64; INLINE_WORDS]) {
    for (value, word) in into.iter_mut().zip(&entry.inline).take(words) {
        *value = word.load(Ordering::Relaxed);
    }
}

/// Reader: whether all that was read since [`look`] is of message `sequence`.
#[inline(always)]
pub fn is_still(entry: &Entry, sequence: u64) -> bool {
    fence(Ordering::Acquire); // the fields are read before; partner: the fence in `publish`
    entry.sequence.load(Ordering::Relaxed) == sequence
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_journey() {
        for (len, body) in [(0, 0), (48, 0), (u32::MAX, 1), (0x0102_0304, u32::MAX)] {
            let place = Place { len, body };
            assert_eq!(Place::unpack(place.pack()), place);
        }
    }

    #[test]
    fn a_message_is_there_until_the_next_one() {
        let entry = Entry::default();
        assert_eq!(look(&entry), 0);
        publish(&entry, 3, Place { len: 16, body: 0 }.pack(), &[1, 2]);
        assert_eq!(look(&entry), 3);
        let mut words = [0; INLINE_WORDS];
        inline(&entry, 2, &mut words);
        assert_eq!((words[..2].to_vec(), Place::unpack(head(&entry)).len), (vec![1, 2], 16));
        assert!(is_still(&entry, 3));
        publish(&entry, 5, 0, &[]);
        assert!(!is_still(&entry, 3));
        release(&entry);
        assert!(look(&entry) == 0 && !is_still(&entry, 5));
    }
}
