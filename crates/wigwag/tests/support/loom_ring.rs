//! One direction of a stream under the model checker: bytes, room, sleep, and the end. The code under test is the
//! crate's own `ring.rs`, on the heap.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use wigwag::models::doorbell::Waiting;
use wigwag::models::ring::{Consumer, Producer, Words, close_reading, close_writing};
use wigwag::models::sync::{AtomicU32, AtomicU64, Ordering};

use super::{LOST, Outcome, RACE, explore, must_fail};

/// Bytes of the ring.
const CAPACITY: usize = 2;

/// The words of a ring and its bytes, whose every unordered access loom reports.
#[derive(Default)]
struct Ring {
    produced: AtomicU64,
    consumed: AtomicU64,
    waits_for_data: AtomicU32,
    waits_for_room: AtomicU32,
    bytes: [UnsafeCell<u64>; CAPACITY],
}

impl Ring {
    fn words(&self) -> Words<'_> {
        Words {
            produced: &self.produced,
            consumed: &self.consumed,
            waits_for_data: &self.waits_for_data,
            waits_for_room: &self.waits_for_room,
        }
    }

    fn write(&self, at: usize, value: u64) {
        // SAFETY: loom itself checks that no other access is concurrent; that is what is tested.
        self.bytes[at].with_mut(|byte| unsafe { *byte = value });
    }

    fn read(&self, at: usize) -> u64 {
        // SAFETY: as in `write`.
        self.bytes[at].with(|byte| unsafe { *byte })
    }
}

/// The steps: the crate's own, or one of them done wrongly.
#[derive(Clone, Copy)]
struct Steps {
    /// Whether the other side must be rung for.
    publish: fn(&mut Producer, &Ring) -> bool,
    release: fn(&mut Consumer, &Ring) -> bool,
    close_writing: fn(&Ring) -> bool,
    close_reading: fn(&Ring) -> bool,
    announce: fn(&AtomicU32),
}

const STEPS: Steps = Steps {
    publish: |producer, ring| producer.publish(&ring.words(), 1),
    release: |consumer, ring| consumer.release(&ring.words(), 1),
    close_writing: |ring| close_writing(&ring.words()),
    close_reading: |ring| close_reading(&ring.words()),
    announce: |waiting| Waiting(waiting).announce(),
};

/// How one who looked, announced its sleep and looked again came to what it waited for.
const HOW: &[&str] = &["there at once", "there at the last look", "slept and rung"];

fn how(at_once: bool, seen: bool, has_rung: bool) -> Outcome {
    assert!(seen || has_rung, "{LOST}");
    match (at_once, seen) {
        (true, _) => HOW[0],
        (_, true) => HOW[1],
        _ => HOW[2],
    }
}

// ---- data, and a reader that goes to sleep --------------------------------------------------------------------------

/// A reader looks, announces, looks again, and sleeps; a byte comes meanwhile.
fn a_byte_comes(steps: Steps) -> Outcome {
    let ring = Arc::new(Ring::default());
    let writer = thread::spawn({
        let ring = Arc::clone(&ring);
        move || {
            let mut producer = Producer::new(CAPACITY);
            ring.write(producer.position(), 7);
            (steps.publish)(&mut producer, &ring)
        }
    });
    let mut consumer = Consumer::new(CAPACITY);
    let mut look = || consumer.look(&ring.words()).unwrap() == 1;
    let at_once = look();
    let seen = at_once || {
        (steps.announce)(&ring.waits_for_data);
        look()
    };
    if seen {
        assert_eq!(ring.read(consumer.position()), 7);
    }
    let has_rung = writer.join().unwrap();
    how(at_once, seen, has_rung)
}

#[test]
fn a_reader_sees_each_byte_whole_or_is_rung() {
    explore(HOW, || a_byte_comes(STEPS));
}

#[test]
fn bytes_that_are_published_wrongly_are_found() {
    must_fail("published without Release", RACE, || {
        let publish = |_: &mut Producer, ring: &Ring| {
            ring.produced.fetch_add(2, Ordering::Relaxed);
            true
        };
        a_byte_comes(Steps { publish, ..STEPS })
    });
    must_fail("a look for sleepers before the bytes are published", LOST, || {
        let publish = |producer: &mut Producer, ring: &Ring| {
            let must_ring = Waiting(&ring.waits_for_data).claim();
            producer.publish(&ring.words(), 1);
            must_ring
        };
        a_byte_comes(Steps { publish, ..STEPS })
    });
    must_fail("an announcement without its fence", LOST, || {
        a_byte_comes(Steps { announce: |waiting| waiting.store(1, Ordering::Relaxed), ..STEPS })
    });
}

// ---- room, and a writer that goes to sleep --------------------------------------------------------------------------

/// The ring is full. The reader takes a byte and gives its place back; the writer wants to use it, or goes to sleep.
fn room_comes(steps: Steps) -> Outcome {
    let ring = Arc::new(Ring::default());
    let mut producer = Producer::new(CAPACITY);
    for value in [1, 2] {
        ring.write(producer.position(), value);
        producer.publish(&ring.words(), 1);
    }
    let reader = thread::spawn({
        let ring = Arc::clone(&ring);
        move || {
            let mut consumer = Consumer::new(CAPACITY);
            assert_eq!(consumer.look(&ring.words()), Ok(CAPACITY));
            assert_eq!(ring.read(consumer.position()), 1);
            (steps.release)(&mut consumer, &ring)
        }
    });
    let mut look = || producer.look(&ring.words()).unwrap() > 0;
    let at_once = look();
    let seen = at_once || {
        (steps.announce)(&ring.waits_for_room);
        look()
    };
    if seen {
        ring.write(producer.position(), 3);
    }
    let has_rung = reader.join().unwrap();
    how(at_once, seen, has_rung)
}

#[test]
fn a_writer_gets_the_room_that_was_read_or_is_rung() {
    explore(HOW, || room_comes(STEPS));
}

#[test]
fn room_that_is_given_back_wrongly_is_found() {
    must_fail("given back without Release", RACE, || {
        let release = |_: &mut Consumer, ring: &Ring| {
            ring.consumed.fetch_add(2, Ordering::Relaxed);
            true
        };
        room_comes(Steps { release, ..STEPS })
    });
    must_fail("given back without a look for sleepers", LOST, || {
        let release = |consumer: &mut Consumer, ring: &Ring| {
            consumer.release(&ring.words(), 1);
            false
        };
        room_comes(Steps { release, ..STEPS })
    });
    must_fail("an announcement without its fence", LOST, || {
        room_comes(Steps { announce: |waiting| waiting.store(1, Ordering::Relaxed), ..STEPS })
    });
}

// ---- the end --------------------------------------------------------------------------------------------------------

/// A writer writes its last byte and closes; the reader must see the byte before the end, and be told of the end.
fn the_end_comes(steps: Steps) -> Outcome {
    let ring = Arc::new(Ring::default());
    let writer = thread::spawn({
        let ring = Arc::clone(&ring);
        move || {
            let mut producer = Producer::new(CAPACITY);
            ring.write(producer.position(), 7);
            let rang = (steps.publish)(&mut producer, &ring);
            rang | (steps.close_writing)(&ring)
        }
    });
    let mut consumer = Consumer::new(CAPACITY);
    let mut has_read = false;
    let mut look = |has_read: &mut bool| {
        if consumer.look(&ring.words()).unwrap() == 1 {
            assert_eq!(ring.read(consumer.position()), 7);
            consumer.release(&ring.words(), 1);
            *has_read = true;
            consumer.look(&ring.words()).unwrap();
        }
        let is_at_end = consumer.is_at_end();
        assert!(!is_at_end || *has_read, "the end came before the last byte");
        is_at_end
    };
    let at_once = look(&mut has_read);
    let seen = at_once || {
        (steps.announce)(&ring.waits_for_data);
        look(&mut has_read)
    };
    let has_rung = writer.join().unwrap();
    assert!(seen || has_rung, "{LOST}");
    match seen {
        true => "saw the end",
        false => "slept and rung",
    }
}

#[test]
fn the_end_is_seen_after_the_last_byte_or_rung_for() {
    explore(&["saw the end", "slept and rung"], || the_end_comes(STEPS));
}

#[test]
fn an_end_that_is_told_wrongly_is_found() {
    must_fail("closed before the last byte is published", "before the last byte", || {
        let publish = |_: &mut Producer, ring: &Ring| close_writing(&ring.words());
        let close_writing = |ring: &Ring| Producer::new(CAPACITY).publish(&ring.words(), 1);
        the_end_comes(Steps { publish, close_writing, ..STEPS })
    });
    must_fail("closed without a look for sleepers", LOST, || {
        let close_writing = |ring: &Ring| {
            close_writing(&ring.words());
            false
        };
        the_end_comes(Steps { close_writing, ..STEPS })
    });
}

/// The ring is full; the reader reads no more. The writer must learn of it, awake or asleep.
fn nobody_reads(steps: Steps) -> Outcome {
    let ring = Arc::new(Ring::default());
    let mut producer = Producer::new(CAPACITY);
    (0..CAPACITY).for_each(|_| _ = producer.publish(&ring.words(), 1));
    let reader = thread::spawn({
        let ring = Arc::clone(&ring);
        move || (steps.close_reading)(&ring)
    });
    let mut look = || {
        producer.look(&ring.words()).unwrap();
        producer.is_reader_gone()
    };
    let seen = look() || {
        (steps.announce)(&ring.waits_for_room);
        look()
    };
    let has_rung = reader.join().unwrap();
    assert!(seen || has_rung, "{LOST}");
    assert!(Waiting(&ring.waits_for_data).claim(), "who writes on is not told");
    match seen {
        true => "saw that nobody reads",
        false => "slept and rung",
    }
}

#[test]
fn a_writer_learns_that_nobody_reads_or_is_rung() {
    explore(&["saw that nobody reads", "slept and rung"], || nobody_reads(STEPS));
}

#[test]
fn a_reader_that_leaves_without_a_word_is_found() {
    must_fail("closed without a look for sleepers", LOST, || {
        let close_reading = |ring: &Ring| {
            close_reading(&ring.words());
            false
        };
        nobody_reads(Steps { close_reading, ..STEPS })
    });
    must_fail("closed without a word to who writes on", "is not told", || {
        let close_reading = |ring: &Ring| {
            ring.consumed.fetch_or(1, Ordering::SeqCst);
            Waiting(&ring.waits_for_room).claim()
        };
        nobody_reads(Steps { close_reading, ..STEPS })
    });
}
