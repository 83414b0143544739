//! Entries, holds and the hint line of a broadcast: what a reader believes was written as a whole, what it holds is not
//! written to, and who sleeps is rung.

use super::*;
use wigwag::models::entry::{self, Entry, INLINE_WORDS};
use wigwag::models::hint::{self, HintLine};
use wigwag::models::hold;
use wigwag::models::sync::fence;

const TORN: &str = "torn";

// ---- (e) a copy that is believed is whole ---------------------------------------------------------------------------

/// The steps of a copy: the crate's own, or one of them done wrongly.
#[derive(Clone, Copy)]
struct Copying {
    publish: fn(&Entry, u64, u64, &[u64]),
    look: fn(&Entry) -> u64,
    is_still: fn(&Entry, u64) -> bool,
}

const COPYING: Copying = Copying { publish: entry::publish, look: entry::look, is_still: entry::is_still };

/// One entry gets two messages while a reader copies.
fn copy_while_it_is_replaced(steps: Copying) -> Outcome {
    let shared = Arc::new(Entry::default());
    (steps.publish)(&shared, 1, 10, &[11]);
    let publisher = thread::spawn({
        let shared = Arc::clone(&shared);
        move || (steps.publish)(&shared, 3, 30, &[31])
    });
    let found = (steps.look)(&shared);
    let mut words = [0; INLINE_WORDS];
    let head = entry::head(&shared);
    entry::inline(&shared, 1, &mut words);
    let outcome = match found {
        0 => "being replaced",
        found if (steps.is_still)(&shared, found) => {
            assert_eq!((head, words[0]), (10 * found, 10 * found + 1), "{TORN}");
            if found == 1 { "the first" } else { "the second" }
        }
        _ => "lapped",
    };
    publisher.join().unwrap();
    outcome
}

#[test]
fn a_copy_that_is_believed_is_whole() {
    explore(&["being replaced", "the first", "the second", "lapped"], || copy_while_it_is_replaced(COPYING));
}

#[test]
fn an_entry_that_is_written_in_the_wrong_order_is_found() {
    must_fail("a publish without its fence", TORN, || {
        let publish = |entry: &Entry, sequence: u64, head: u64, inline: &[u64]| {
            entry.sequence.store(0, Ordering::Relaxed);
            entry.inline[0].store(inline[0], Ordering::Relaxed);
            entry.head.store(head, Ordering::Relaxed);
            entry.sequence.swap(sequence, Ordering::SeqCst);
        };
        copy_while_it_is_replaced(Copying { publish, ..COPYING })
    });
    must_fail("the sequence before the fields", TORN, || {
        let publish = |entry: &Entry, sequence: u64, head: u64, inline: &[u64]| {
            entry.sequence.swap(sequence, Ordering::SeqCst);
            entry.inline[0].store(inline[0], Ordering::Relaxed);
            entry.head.store(head, Ordering::Release);
        };
        copy_while_it_is_replaced(Copying { publish, ..COPYING })
    });
    must_fail("an entry that is not emptied first", TORN, || {
        let publish = |entry: &Entry, sequence: u64, head: u64, inline: &[u64]| {
            fence(Ordering::Release);
            entry.inline[0].store(inline[0], Ordering::Relaxed);
            entry.head.store(head, Ordering::Relaxed);
            entry.sequence.swap(sequence, Ordering::SeqCst);
        };
        copy_while_it_is_replaced(Copying { publish, ..COPYING })
    });
}

#[test]
fn a_reader_that_looks_without_its_fences_is_found() {
    must_fail("a first look that does not acquire", TORN, || {
        copy_while_it_is_replaced(Copying { look: |entry| entry.sequence.load(Ordering::Relaxed), ..COPYING })
    });
    must_fail("a second look that does not acquire", TORN, || {
        let is_still = |entry: &Entry, sequence| entry.sequence.load(Ordering::Relaxed) == sequence;
        copy_while_it_is_replaced(Copying { is_still, ..COPYING })
    });
}

// ---- (f) what is held is not written to -----------------------------------------------------------------------------

/// The steps of a hold.
#[derive(Clone, Copy)]
struct Holding {
    /// Holds a body that was found in the entry with that sequence; whether it is held.
    hold: fn(&AtomicU64, &Entry, u64) -> bool,
    release: fn(&AtomicU64),
    begin_scan: fn(),
    held: fn(&AtomicU64) -> u64,
}

fn hold_and_look(word: &AtomicU64, entry: &Entry, sequence: u64) -> bool {
    hold::ask(word, 1);
    let is_held = entry::is_still(entry, sequence);
    if !is_held {
        hold::release(word);
    }
    is_held
}

const HOLDING: Holding =
    Holding { hold: hold_and_look, release: hold::release, begin_scan: hold::begin_scan, held: hold::held };

/// A body, whose every unordered access loom reports, and the words around it.
#[derive(Default)]
struct Board {
    entry: Entry,
    hold: AtomicU64,
    body: UnsafeCell<u64>,
}

impl Board {
    fn write(&self, value: u64) {
        // SAFETY: loom itself checks that no other access is concurrent; that is what is tested.
        self.body.with_mut(|body| unsafe { *body = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: as in `write`.
        self.body.with(|body| unsafe { *body })
    }
}

/// The publisher replaces the message of a body, and writes to the body as soon as it finds no hold.
fn hold_while_it_is_replaced(steps: Holding) -> Outcome {
    let board = Arc::new(Board::default());
    board.write(10);
    entry::publish(&board.entry, 1, 1 << 32, &[]);
    let publisher = thread::spawn({
        let board = Arc::clone(&board);
        move || {
            entry::publish(&board.entry, 3, 2 << 32, &[]); // it lies in another body
            (steps.begin_scan)();
            let is_free = (steps.held)(&board.hold) == 0;
            if is_free {
                board.write(50);
            }
            is_free
        }
    });
    let has_found = entry::look(&board.entry) == 1;
    let is_held = has_found && (steps.hold)(&board.hold, &board.entry, 1);
    if is_held {
        assert_eq!(board.read(), 10, "{TORN}");
        (steps.release)(&board.hold);
    }
    let is_reused = publisher.join().unwrap();
    match (is_held, is_reused) {
        (true, false) => "held, and left alone",
        (true, true) => "held, and reused after that",
        (false, false) => "lapped while it was asked for",
        (false, true) => "lapped",
    }
}

#[test]
fn what_is_held_is_not_written_to() {
    let outcomes = ["held, and left alone", "held, and reused after that", "lapped while it was asked for", "lapped"];
    explore(&outcomes, || hold_while_it_is_replaced(HOLDING));
}

#[test]
fn a_hold_that_comes_too_late_or_without_its_fence_is_found() {
    must_fail("a hold after the second look", RACE, || {
        let hold = |word: &AtomicU64, entry: &Entry, sequence| {
            let is_held = entry::is_still(entry, sequence);
            hold::ask(word, 1);
            is_held
        };
        hold_while_it_is_replaced(Holding { hold, ..HOLDING })
    });
    must_fail("a hold without a fence", RACE, || {
        let hold = |word: &AtomicU64, entry: &Entry, sequence| {
            word.swap(1, Ordering::AcqRel);
            entry::is_still(entry, sequence)
        };
        hold_while_it_is_replaced(Holding { hold, ..HOLDING })
    });
    must_fail("a scan without a fence", RACE, || hold_while_it_is_replaced(Holding { begin_scan: || (), ..HOLDING }));
}

#[test]
fn a_release_that_does_not_release_is_found() {
    must_fail("a release without Release", RACE, || {
        hold_while_it_is_replaced(Holding { release: |word| word.store(0, Ordering::Relaxed), ..HOLDING })
    });
    must_fail("a scan without Acquire", RACE, || {
        hold_while_it_is_replaced(Holding { held: |word| word.load(Ordering::Relaxed), ..HOLDING })
    });
}

// ---- (g) a session that the publisher does not count any more -------------------------------------------------------

/// The publisher takes a session off its list, and reuses the body once that holds nothing; the entry stays as it is,
/// as if it had been replaced before: only the word that says so can tell the subscriber.
fn hold_while_it_is_taken_off_the_list(looks_at_the_list: bool, begin_scan: fn()) -> Outcome {
    let (board, listed) = (Arc::new(Board::default()), Arc::new(AtomicU32::new(1)));
    board.write(10);
    let publisher = thread::spawn({
        let (board, listed) = (Arc::clone(&board), Arc::clone(&listed));
        move || {
            listed.swap(0, Ordering::SeqCst);
            begin_scan();
            let is_free = hold::held(&board.hold) == 0;
            if is_free {
                board.write(50);
            }
        }
    });
    hold::ask(&board.hold, 1);
    let is_held = !looks_at_the_list || listed.load(Ordering::Acquire) == 1;
    if is_held {
        assert_eq!(board.read(), 10, "{TORN}");
    }
    hold::release(&board.hold);
    publisher.join().unwrap();
    if is_held { "held" } else { "copied" }
}

#[test]
fn who_is_not_on_the_list_holds_nothing() {
    explore(&["held", "copied"], || hold_while_it_is_taken_off_the_list(true, hold::begin_scan));
    must_fail("a hold without a look at the list", RACE, || {
        hold_while_it_is_taken_off_the_list(false, hold::begin_scan)
    });
    must_fail("a list that is left without a fence", RACE, || hold_while_it_is_taken_off_the_list(true, || ()));
}

// ---- (h) who sleeps is rung -----------------------------------------------------------------------------------------

/// Two subscribers of one group, and the publisher's hint.
#[derive(Default)]
struct Sleepers {
    entry: Entry,
    hint: HintLine,
    waiting: [AtomicU32; 2],
}

/// The steps of sleeping and waking.
#[derive(Clone, Copy)]
struct Sleeping {
    announce: fn(&AtomicU32, &HintLine),
    /// Which of the two are rung, after a message was published.
    wake: fn(&Sleepers) -> [bool; 2],
}

fn announce(waiting: &AtomicU32, line: &HintLine) {
    Waiting(waiting).announce();
    hint::raise(line, 5);
}

fn wake(sleepers: &Sleepers) -> [bool; 2] {
    if !hint::is_raised(&sleepers.hint) {
        return [false; 2];
    }
    match hint::take(&sleepers.hint).count() {
        0 => [false; 2],
        _ => [0, 1].map(|index| Waiting(&sleepers.waiting[index]).claim()),
    }
}

const SLEEPING: Sleeping = Sleeping { announce, wake };

/// `count` subscribers go to sleep while two messages are published.
fn publish_to_sleepers(steps: Sleeping, count: usize, messages: u64) -> Outcome {
    let sleepers = Arc::new(Sleepers::default());
    let threads: Vec<_> = (0..count)
        .map(|index| {
            let sleepers = Arc::clone(&sleepers);
            thread::spawn(move || {
                (steps.announce)(&sleepers.waiting[index], &sleepers.hint);
                entry::look(&sleepers.entry) == 0 // nothing is there: it sleeps
            })
        })
        .collect();
    let mut rung = [false; 2];
    for sequence in 1..=messages {
        entry::publish(&sleepers.entry, sequence, 0, &[]);
        let woken = (steps.wake)(&sleepers);
        rung = [rung[0] || woken[0], rung[1] || woken[1]];
    }
    let asleep: Vec<bool> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for (index, is_asleep) in asleep.iter().enumerate() {
        assert!(!is_asleep || rung[index], "{LOST}");
    }
    match asleep.iter().filter(|it| **it).count() {
        0 => "nobody slept",
        1 => "one slept and was rung",
        _ => "both slept and were rung",
    }
}

#[test]
fn who_sleeps_is_rung() {
    explore(&["nobody slept", "one slept and was rung"], || publish_to_sleepers(SLEEPING, 1, 1));
    let outcomes = ["nobody slept", "one slept and was rung", "both slept and were rung"];
    explore(&outcomes, || publish_to_sleepers(SLEEPING, 2, 1));
}

#[test]
fn a_hint_that_is_taken_after_the_scan_is_found() {
    must_fail("the hint swapped after the scan", LOST, || {
        let wake = |sleepers: &Sleepers| {
            if !hint::is_raised(&sleepers.hint) {
                return [false; 2];
            }
            let rung = [0, 1].map(|index| Waiting(&sleepers.waiting[index]).claim());
            hint::take(&sleepers.hint);
            rung
        };
        publish_to_sleepers_again(Sleeping { wake, ..SLEEPING })
    });
}

/// One message is there already, which the second sleeper has seen; the next one must find its hint.
fn publish_to_sleepers_again(steps: Sleeping) -> Outcome {
    let sleepers = Arc::new(Sleepers::default());
    let thread = thread::spawn({
        let sleepers = Arc::clone(&sleepers);
        move || {
            let seen = entry::look(&sleepers.entry);
            (steps.announce)(&sleepers.waiting[1], &sleepers.hint);
            let is_asleep = entry::look(&sleepers.entry) == seen;
            (is_asleep, seen)
        }
    });
    // Another one of the group has said that it sleeps, and does not any more.
    hint::raise(&sleepers.hint, 5);
    let mut rung = Vec::new();
    for sequence in 1..=2 {
        entry::publish(&sleepers.entry, sequence, 0, &[]);
        if (steps.wake)(&sleepers)[1] {
            rung.push(sequence);
        }
    }
    let (is_asleep, seen) = thread.join().unwrap();
    assert!(!is_asleep || seen == 2 || !rung.is_empty(), "{LOST}");
    if is_asleep { "slept" } else { "saw a message" }
}

#[test]
fn who_has_read_a_message_and_sleeps_is_rung_for_the_next() {
    explore(&["slept", "saw a message"], || publish_to_sleepers_again(SLEEPING));
}

#[test]
fn a_sleeper_or_a_publisher_without_its_fence_is_found() {
    must_fail("a word that is never written", LOST, || {
        publish_to_sleepers(Sleeping { announce: |_, line| hint::raise(line, 5), ..SLEEPING }, 1, 1)
    });
    must_fail("a publisher without its fence", LOST, || {
        let wake = |sleepers: &Sleepers| {
            // A look that no fence orders: `is_raised` begins with one.
            match hint::take(&sleepers.hint).count() {
                0 => [false; 2],
                _ => [0, 1].map(|index| Waiting(&sleepers.waiting[index]).claim()),
            }
        };
        publish_to_sleepers(Sleeping { wake, ..SLEEPING }, 1, 1)
    });
}

// ---- (i) who is of another user -------------------------------------------------------------------------------------

/// What the publisher and the thread that wakes other users' subscribers have together.
#[derive(Default)]
struct Strangers {
    entry: Entry,
    published: AtomicU64,
    armed: AtomicU32,
    /// How many strangers there are.
    others: AtomicU64,
    /// That of the one who has just come.
    waiting: AtomicU32,
}

/// The newest message, by the publisher's word or by the entry behind it.
fn newest(strangers: &Strangers) -> u64 {
    let published = strangers.published.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    if entry::look(&strangers.entry) == published + 1 { published + 1 } else { published }
}

/// One of them sleeps, and the thread looks whether there is something for it while a message is published.
fn publish_to_a_stranger(look: fn(&Strangers) -> u64) -> Outcome {
    let strangers = Arc::new(Strangers::default());
    let publisher = thread::spawn({
        let strangers = Arc::clone(&strangers);
        move || {
            entry::publish(&strangers.entry, 1, 0, &[]);
            strangers.published.store(1, Ordering::Release);
            Waiting(&strangers.armed).claim()
        }
    });
    let is_found = look(&strangers) == 1;
    let is_rung = publisher.join().unwrap();
    assert!(is_found || is_rung, "{LOST}");
    if is_found { "found" } else { "rung" }
}

#[test]
fn the_thread_that_wakes_strangers_finds_a_message_or_is_rung() {
    explore(&["found", "rung"], || {
        publish_to_a_stranger(|strangers| {
            Waiting(&strangers.armed).announce();
            newest(strangers)
        })
    });
    must_fail("a look before the thread is armed", LOST, || {
        publish_to_a_stranger(|strangers| {
            let newest = newest(strangers);
            Waiting(&strangers.armed).announce();
            newest
        })
    });
}

/// One has come and goes to sleep, while a message is published.
fn publish_to_a_newcomer(count: fn(&AtomicU64) -> bool) -> Outcome {
    let strangers = Arc::new(Strangers::default());
    let publisher = thread::spawn({
        let strangers = Arc::clone(&strangers);
        move || {
            entry::publish(&strangers.entry, 1, 0, &[]);
            count(&strangers.others)
        }
    });
    let control = thread::spawn({
        let strangers = Arc::clone(&strangers);
        move || {
            strangers.others.fetch_add(1, Ordering::SeqCst);
            Waiting(&strangers.waiting).claim()
        }
    });
    Waiting(&strangers.waiting).announce();
    let is_asleep = entry::look(&strangers.entry) == 0;
    let (is_known, is_rung) = (publisher.join().unwrap(), control.join().unwrap());
    assert!(!is_asleep || is_known || is_rung, "{LOST}");
    if is_asleep { "slept" } else { "saw it" }
}

#[test]
fn a_newcomer_that_sleeps_is_known_to_the_publisher_or_rung() {
    explore(&["saw it", "slept"], || {
        publish_to_a_newcomer(|others| {
            fence(Ordering::SeqCst);
            others.load(Ordering::Relaxed) > 0
        })
    });
    must_fail("a publisher without its fence", LOST, || {
        publish_to_a_newcomer(|others| others.load(Ordering::Relaxed) > 0)
    });
}
