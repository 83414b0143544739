//! The byte ring: one producer, one consumer, two counters, and nobody asks the kernel while both are awake.
//!
//! ```text
//!   producer                                         consumer
//!   room?   own count against `consumed`             bytes?  `produced` against own count
//!   writes the bytes                                 reads the bytes
//!   produced += n    (fetch_add, SeqCst)             consumed += n    (fetch_add, SeqCst)
//!   fence                                            fence
//!   waits the consumer for data? ring                waits the producer for room, and is it worth a wake-up? ring
//! ```
//!
//! A counter is published in its upper 63 bits and wraps there; the lowest bit says that its owner has closed its side:
//!
//! | word | upper 63 bits | bit 0 | who writes it |
//! |---|---|---|---|
//! | `produced` | bytes ever written | no more will come | producer |
//! | `consumed` | bytes ever read | no more will be read | consumer |
//!
//! **Invariant B1.** Each side counts in private memory. The other side's word is read once into a local and believed
//! only if it lies between what was last believed and what is possible: `consumed <= produced <= consumed + capacity`,
//! and never backwards. So the bytes from `consumed` to `produced` are the consumer's alone, all others are the
//! producer's alone, and a peer that lies can change what is read, never where. Killed at any instruction, a side has
//! published whole steps or none: what was published is there to be read.
//!
//! Each side keeps the other's count and looks at its line again only when that does not suffice: the rule of `rtrb`
//! (M. Geier) and of the FastForward queues. The pattern of the fences is that of [`crate::memory::doorbell`], once in
//! each direction.

use crate::faults::{self, Fault};
use crate::memory::doorbell::Waiting;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Bit 0 of a word: its owner has closed its side.
const CLOSED: u64 = 1;
/// The counters have 63 bits.
const COUNT_MASK: u64 = u64::MAX >> 1;
/// A sleeping producer is woken when this fraction of the ring is free, not for each byte.
const ROOM_WORTH_A_WAKE: u64 = 4;

/// The words of one direction, in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// The producer's.
    pub produced: &'a AtomicU64,
    /// The consumer's.
    pub consumed: &'a AtomicU64,
    /// The consumer sleeps until there is data; see [`Waiting`].
    pub waits_for_data: &'a AtomicU32,
    /// The producer sleeps until there is room.
    pub waits_for_room: &'a AtomicU32,
}

/// The other side's counter is impossible: what it was, and what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImpossibleCount {
    /// The count that was read.
    pub count: u64,
    /// The least it can be.
    pub least: u64,
    /// How much more it can be.
    pub most_more: u64,
}

/// How many bytes lie between two counts.
#[inline(always)]
fn distance(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & COUNT_MASK
}

/// Checks the other side's count: at least what it was, and at most so much more.
#[inline(always)]
fn check(count: u64, least: u64, most_more: u64) -> Result<u64, ImpossibleCount> {
    if distance(least, count) > most_more && !faults::is(Fault::UncheckedCount) {
        return Err(ImpossibleCount { count, least, most_more });
    }
    Ok(count)
}

/// The writing side's private knowledge.
#[derive(Debug)]
pub struct Producer {
    capacity: u64,
    produced: u64,
    /// What was last believed of the consumer.
    consumed: u64,
    is_reader_gone: bool,
}

impl Producer {
    /// For a ring of `capacity` bytes, a power of two, of which nothing was used yet.
    pub fn new(capacity: usize) -> Producer {
        Producer::at(capacity, 0)
    }

    /// As [`new`](Producer::new), from another count on.
    pub fn at(capacity: usize, count: u64) -> Producer {
        debug_assert!(capacity.is_power_of_two());
        Producer { capacity: capacity as u64, produced: count, consumed: count, is_reader_gone: false }
    }

    /// Where the next byte goes.
    #[inline(always)]
    pub fn position(&self) -> usize {
        (self.produced & (self.capacity - 1)) as usize
    }

    /// Bytes that can be written; looks at the consumer's word only if fewer than `wanted` are known to be free, or the
    /// consumer waits, which may mean that it has closed.
    #[inline(always)]
    pub fn room(&mut self, words: &Words<'_>, wanted: usize) -> Result<usize, ImpossibleCount> {
        let known = self.capacity - distance(self.consumed, self.produced);
        // Relaxed: a stale value costs one more load. A side that must not miss a closing loads again before it sleeps.
        if known >= (wanted as u64).min(self.capacity) && words.waits_for_data.load(Ordering::Relaxed) == 0 {
            return Ok(known as usize);
        }
        self.look(words)
    }

    /// Bytes that can be written, by the consumer's word of just now.
    #[inline]
    pub fn look(&mut self, words: &Words<'_>) -> Result<usize, ImpossibleCount> {
        let word = words.consumed.load(Ordering::Acquire); // partner: `Consumer::give_back`
        self.consumed = check(word >> 1, self.consumed, distance(self.consumed, self.produced))?;
        self.is_reader_gone |= word & CLOSED != 0;
        Ok((self.capacity - distance(self.consumed, self.produced).min(self.capacity)) as usize)
    }

    /// Whether the consumer has said that it reads no more, as far as was looked.
    #[inline(always)]
    pub fn is_reader_gone(&self) -> bool {
        self.is_reader_gone
    }

    /// Whether the consumer was behind when it was last looked at.
    #[inline(always)]
    pub fn has_unread(&self) -> bool {
        self.consumed != self.produced
    }

    /// Where the byte goes that comes after `count` more, which are not handed over yet.
    #[inline(always)]
    pub fn position_after(&self, count: usize) -> usize {
        (self.produced.wrapping_add(count as u64) & (self.capacity - 1)) as usize
    }

    /// Hands `count` bytes over, at most as many as there is room for. Whether the consumer must be rung for.
    #[inline(always)]
    pub fn publish(&mut self, words: &Words<'_>, count: usize) -> bool {
        self.append(words, count);
        Waiting(words.waits_for_data).claim()
    }

    /// As [`publish`](Producer::publish), and a consumer that sleeps is left asleep: a `publish` must follow.
    #[inline(always)]
    pub fn append(&mut self, words: &Words<'_>, count: usize) {
        self.produced = self.produced.wrapping_add(count as u64) & COUNT_MASK;
        words.produced.fetch_add((count as u64) << 1, Ordering::SeqCst); // first half of Dekker's pattern
    }
}

/// The reading side's private knowledge.
#[derive(Debug)]
pub struct Consumer {
    capacity: u64,
    consumed: u64,
    /// What was last believed of the producer.
    produced: u64,
    is_at_end: bool,
}

impl Consumer {
    /// For a ring of `capacity` bytes, a power of two, of which nothing was used yet.
    pub fn new(capacity: usize) -> Consumer {
        Consumer::at(capacity, 0)
    }

    /// As [`new`](Consumer::new), from another count on.
    pub fn at(capacity: usize, count: u64) -> Consumer {
        debug_assert!(capacity.is_power_of_two());
        Consumer { capacity: capacity as u64, consumed: count, produced: count, is_at_end: false }
    }

    /// Where the next byte lies.
    #[inline(always)]
    pub fn position(&self) -> usize {
        (self.consumed & (self.capacity - 1)) as usize
    }

    /// Bytes that can be read; looks at the producer's word only if none is known.
    #[inline(always)]
    pub fn available(&mut self, words: &Words<'_>) -> Result<usize, ImpossibleCount> {
        let known = distance(self.consumed, self.produced);
        if known > 0 {
            return Ok(known as usize);
        }
        self.look(words)
    }

    /// Bytes that can be read, as far as is known without a look.
    #[inline(always)]
    pub fn known(&self) -> usize {
        distance(self.consumed, self.produced) as usize
    }

    /// Bytes that can be read, by the producer's word of just now.
    #[inline(always)]
    pub fn look(&mut self, words: &Words<'_>) -> Result<usize, ImpossibleCount> {
        if self.is_at_end {
            return Ok(0);
        }
        let word = words.produced.load(Ordering::Acquire); // partner: `Producer::append`
        let most_more = self.capacity - distance(self.consumed, self.produced);
        self.produced = check(word >> 1, self.produced, most_more)?;
        let available = distance(self.consumed, self.produced);
        // Count and flag are one word: an end that closed had written all of its bytes.
        self.is_at_end = word & CLOSED != 0 && available == 0;
        Ok(available as usize)
    }

    /// Whether the producer has closed and everything was read, as far as was looked.
    #[inline(always)]
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Gives `count` bytes back, at most as many as are available. Whether the producer must be rung for.
    #[inline(always)]
    pub fn release(&mut self, words: &Words<'_>, count: usize) -> bool {
        self.give_back(words, count);
        // A producer sleeps only when nothing was free. What it wrote before that may be more than is known here: then
        // this is an overestimate, and it is woken early.
        let free = self.capacity - distance(self.consumed, self.produced).min(self.capacity);
        if faults::is(Fault::UnrungWriter) {
            return false;
        }
        free >= self.capacity / ROOM_WORTH_A_WAKE && Waiting(words.waits_for_room).claim()
    }

    /// As [`release`](Consumer::release), and a producer that sleeps is left asleep: a `release` must follow.
    #[inline(always)]
    pub fn give_back(&mut self, words: &Words<'_>, count: usize) {
        self.consumed = self.consumed.wrapping_add(count as u64) & COUNT_MASK;
        words.consumed.fetch_add((count as u64) << 1, Ordering::SeqCst); // first half of Dekker's pattern
    }
}

/// The producer writes no more. Whether the consumer must be rung for. Any thread, any number of times.
pub fn close_writing(words: &Words<'_>) -> bool {
    words.produced.fetch_or(CLOSED, Ordering::SeqCst);
    Waiting(words.waits_for_data).claim()
}

/// The consumer reads no more. Whether the producer must be rung for. Any thread, any number of times.
///
/// It says that it waits for data, and never takes that back: so the producer, which looks at that word with each step
/// and at `consumed` seldom, learns of it soon.
pub fn close_reading(words: &Words<'_>) -> bool {
    words.consumed.fetch_or(CLOSED, Ordering::SeqCst);
    let must_ring = Waiting(words.waits_for_room).claim();
    words.waits_for_data.store(1, Ordering::Release); // partner: `Producer::room` and the claim in `publish`
    must_ring
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// The words of a ring on the heap.
    #[derive(Default)]
    struct Heap {
        produced: AtomicU64,
        consumed: AtomicU64,
        waits_for_data: AtomicU32,
        waits_for_room: AtomicU32,
    }

    impl Heap {
        fn at(count: u64) -> Heap {
            let heap = Heap::default();
            heap.produced.store(count << 1, Ordering::Relaxed);
            heap.consumed.store(count << 1, Ordering::Relaxed);
            heap
        }

        fn words(&self) -> Words<'_> {
            Words {
                produced: &self.produced,
                consumed: &self.consumed,
                waits_for_data: &self.waits_for_data,
                waits_for_room: &self.waits_for_room,
            }
        }
    }

    /// Numbers that look random and are the same each time (G. Marsaglia's xorshift).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, most: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % most as u64) as usize
        }
    }

    #[test]
    fn a_ring_behaves_as_a_queue_of_bytes_wherever_its_counters_begin() {
        for begin in [0, 5, COUNT_MASK - 40, COUNT_MASK, (1 << 32) - 7] {
            for seed in 1..50 {
                let (heap, mut dice) = (Heap::at(begin), Dice(seed));
                let words = heap.words();
                let (mut producer, mut consumer) = (Producer::at(16, begin), Consumer::at(16, begin));
                let (mut memory, mut model) = ([0u8; 16], VecDeque::new());
                for step in 0..2_000_u32 {
                    let wish = dice.below(20);
                    if dice.below(2) == 0 {
                        let room = producer.room(&words, wish).unwrap();
                        assert!(room <= 16 - model.len(), "{room} are free beside {} in use", model.len());
                        for index in 0..wish.min(room) {
                            memory[(producer.position() + index) % 16] = step as u8;
                            model.push_back(step as u8);
                        }
                        producer.publish(&words, wish.min(room));
                        assert_eq!(producer.look(&words).unwrap(), 16 - model.len());
                    } else {
                        let available = consumer.available(&words).unwrap();
                        assert!(available <= model.len());
                        assert_eq!(available == 0, model.is_empty());
                        for index in 0..wish.min(available) {
                            let byte = memory[(consumer.position() + index) % 16];
                            assert_eq!(Some(byte), model.pop_front());
                        }
                        consumer.release(&words, wish.min(available));
                    }
                }
                close_writing(&words);
                while consumer.look(&words).unwrap() > 0 {
                    assert!(!consumer.is_at_end(), "the end comes after the last byte");
                    consumer.release(&words, 1);
                    model.pop_front();
                }
                assert!(consumer.is_at_end() && model.is_empty());
            }
        }
    }

    #[test]
    fn a_counter_that_is_impossible_is_a_lie_and_every_possible_one_is_believed() {
        for begin in [0, 100, COUNT_MASK - 2] {
            let heap = Heap::at(begin);
            let words = heap.words();
            let mut producer = Producer::at(8, begin);
            producer.publish(&words, 5);
            let mut consumer = Consumer::at(8, begin);
            assert_eq!(consumer.look(&words), Ok(5));
            consumer.release(&words, 2);
            let claim = |word: &AtomicU64, count: u64| {
                word.store((begin.wrapping_add(count) & COUNT_MASK) << 1, Ordering::Relaxed)
            };
            // Of the producer: 5 to 10 are possible, with 2 consumed of 8.
            for count in [0, 1, 4, 11, 12, 1 << 20, COUNT_MASK] {
                claim(&heap.produced, count);
                assert!(dup(&consumer).look(&words).is_err(), "{count}");
            }
            for count in 5..=10 {
                claim(&heap.produced, count);
                assert_eq!(dup(&consumer).look(&words), Ok(count as usize - 2));
            }
            // Of the consumer: 2 to 5, once 2 was seen.
            assert_eq!(producer.look(&words), Ok(5));
            for count in [0, 1, 6, 7, 1 << 40, COUNT_MASK] {
                claim(&heap.consumed, count);
                assert!(producer.look(&words).is_err(), "{count}");
            }
            claim(&heap.consumed, 5);
            assert_eq!(producer.look(&words), Ok(8));
        }
    }

    fn dup(consumer: &Consumer) -> Box<Consumer> {
        Box::new(Consumer { ..*consumer })
    }

    #[test]
    fn a_sleeper_is_rung_once_and_a_producer_only_when_it_is_worth_it() {
        let heap = Heap::default();
        let words = heap.words();
        let (mut producer, mut consumer) = (Producer::new(16), Consumer::new(16));
        assert!(!producer.publish(&words, 1));
        Waiting(words.waits_for_data).announce();
        assert!(producer.publish(&words, 1));
        assert!(!producer.publish(&words, 14));
        Waiting(words.waits_for_room).announce();
        assert_eq!(consumer.look(&words), Ok(16));
        assert!(!consumer.release(&words, 3), "less than a quarter is free");
        assert!(consumer.release(&words, 1));
        assert!(!consumer.release(&words, 1));
    }

    #[test]
    fn closing_is_told_to_sleepers_and_kept_by_later_steps() {
        let heap = Heap::default();
        let words = heap.words();
        let (mut producer, mut consumer) = (Producer::new(8), Consumer::new(8));
        Waiting(words.waits_for_room).announce();
        assert!(close_reading(&words));
        assert!(!close_reading(&words));
        producer.publish(&words, 3);
        assert_eq!(producer.look(&words), Ok(5));
        assert!(producer.is_reader_gone());
        Waiting(words.waits_for_data).announce();
        assert!(close_writing(&words));
        assert_eq!(consumer.look(&words), Ok(3));
        assert!(!consumer.is_at_end());
        consumer.release(&words, 3);
        assert_eq!((consumer.look(&words), consumer.is_at_end()), (Ok(0), true));
        assert_eq!(producer.look(&words), Ok(8));
        assert!(producer.is_reader_gone(), "a release keeps the mark");
    }
}
