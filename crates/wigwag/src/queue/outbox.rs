//! What a sender knows of its messages that are not acknowledged: a ring of slots, used and freed in order.
//!
//! Private memory: what the receiver writes never decides how long a message is, where it lies, or which slot is next.

use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// One message under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacked {
    /// Where it lies.
    pub slot: usize,
    /// The sequence it was passed with.
    pub sequence: u64,
    /// Its length in bytes.
    pub len: usize,
    /// Whether a receiver before this one has had it.
    pub is_redelivered: bool,
}

/// What was passed in a slot last. One thread writes it, before the turn; another may read it, after the turn: see
/// [`crate::queue::stand_in`].
#[derive(Debug)]
struct Record {
    sequence: AtomicU64,
    /// The length, whether it was redelivered, and whether there is one at all.
    about: AtomicU64,
}

/// Bits of [`Record::about`], beside the length.
const IS_THERE: u64 = 1 << 63;
const IS_REDELIVERED: u64 = 1 << 62;

/// The records of one session, for another thread.
#[derive(Clone, Debug)]
pub struct Records(Arc<[Record]>);

impl Records {
    /// What was passed there last, as of the last turn that was seen there.
    #[inline(always)]
    pub fn get(&self, slot: usize) -> Option<Unacked> {
        // Relaxed: published by the turn, if by another thread.
        let (sequence, about) =
            (self.0[slot].sequence.load(Ordering::Relaxed), self.0[slot].about.load(Ordering::Relaxed));
        let record = Unacked {
            slot,
            sequence,
            len: (about & !(IS_THERE | IS_REDELIVERED)) as usize,
            is_redelivered: about & IS_REDELIVERED != 0,
        };
        (about & IS_THERE != 0).then_some(record)
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.0.len()
    }
}

/// The messages of one session, oldest first.
#[derive(Debug)]
pub struct Outbox {
    /// By slot: what was passed there last.
    records: Records,
    /// The slot that is used next.
    next: usize,
    /// How many are under way: those in the slots before `next`.
    count: usize,
}

impl Outbox {
    /// None under way; the sequences go on after `sequence`.
    pub fn new(slots: usize, sequence: u64) -> Outbox {
        let record = |_| Record { sequence: AtomicU64::new(sequence), about: AtomicU64::new(0) };
        Outbox { records: Records((0..slots).map(record).collect()), next: 0, count: 0 }
    }

    /// The records, for another thread.
    pub fn records(&self) -> Records {
        self.records.clone()
    }

    /// How many are under way.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no room for one more.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.count == self.records.0.len()
    }

    /// The slot for one more message; meaningless if it is full.
    #[inline(always)]
    pub fn next(&self) -> usize {
        self.next
    }

    /// The sequence that the next message will have: `following` makes it out of the slot's last.
    pub fn next_sequence(&self, following: impl Fn(u64) -> u64) -> u64 {
        following(self.last_sequence(self.next))
    }

    /// Whether a message that was passed in a slot is the last one there: one that came after it shows that it is done
    /// with.
    pub fn is_last(&self, slot: usize, sequence: u64) -> bool {
        self.last_sequence(slot) == sequence
    }

    #[inline(always)]
    fn last_sequence(&self, slot: usize) -> u64 {
        self.records.0[slot].sequence.load(Ordering::Relaxed) // this thread's own
    }

    /// A message was written into the slot that is next. `following` makes its sequence out of the slot's last.
    #[inline(always)]
    pub fn push(&mut self, len: usize, is_redelivered: bool, following: impl Fn(u64) -> u64) -> Unacked {
        let slot = self.next;
        let sequence = following(self.last_sequence(slot));
        let record = &self.records.0[slot];
        // Relaxed: published by the turn.
        record.sequence.store(sequence, Ordering::Relaxed);
        let redelivered = if is_redelivered { IS_REDELIVERED } else { 0 };
        record.about.store(len as u64 | redelivered | IS_THERE, Ordering::Relaxed);
        self.next = if slot + 1 == self.records.0.len() { 0 } else { slot + 1 };
        self.count += 1;
        Unacked { slot, sequence, len, is_redelivered }
    }

    /// The message at a place, 0 for the oldest.
    #[inline(always)]
    pub fn get(&self, place: usize) -> Option<Unacked> {
        if place >= self.count {
            return None;
        }
        let slots = self.records.0.len();
        let slot = self.next + slots - self.count + place;
        self.records.get(if slot >= slots { slot - slots } else { slot })
    }

    /// The oldest one is done with.
    #[inline(always)]
    pub fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(outbox: &Outbox) -> Vec<usize> {
        (0..outbox.len()).map(|place| outbox.get(place).unwrap().slot).collect()
    }

    #[test]
    fn slots_are_used_and_freed_in_the_order_of_the_ring() {
        let mut outbox = Outbox::new(3, 7);
        for round in 0..5 {
            for len in 0..3 {
                assert!(!outbox.is_full());
                assert_eq!(outbox.push(len, false, |last| last + 1).sequence, 8 + round);
            }
            assert!(outbox.is_full() && outbox.get(3).is_none());
            assert_eq!(slots(&outbox), [0, 1, 2]);
            (0..3).for_each(|_| outbox.pop());
        }
        outbox.push(1, false, |last| last + 1);
        outbox.push(2, true, |last| last + 1);
        outbox.pop();
        outbox.push(3, false, |last| last + 1);
        outbox.push(4, false, |last| last + 1);
        assert_eq!(slots(&outbox), [1, 2, 0]);
        assert_eq!(outbox.get(0), Some(Unacked { slot: 1, sequence: 13, len: 2, is_redelivered: true }));
        assert_eq!(outbox.get(2).unwrap().sequence, 14);
    }
}
