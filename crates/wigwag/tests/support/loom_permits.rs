//! The permits of a semaphore, their line, and their dead, under the model checker. The code under test is the crate's
//! own `permit_table.rs`, on the heap.

use std::collections::BTreeSet;
use std::sync::{Arc as StdArc, Mutex};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use wigwag::models::sync::{AtomicU32, Ordering};
use wigwag::models::table::{CallWatch, Holder, LATE_NS, Permit, PermitTable, Taken, WaitQueue, Waiter, WaiterSlot};

use super::{LOST, Outcome, RACE, explore, must_fail};

/// What a semaphore with one permit has, and something that the permit protects: loom reports its unordered accesses.
#[derive(Default)]
struct Memory {
    wait_queue: WaitQueue,
    spots: [WaiterSlot; 2],
    permits: [Permit; 1],
    protected: UnsafeCell<u64>,
}

impl Memory {
    fn table(&self) -> PermitTable<'_> {
        PermitTable { wait_queue: &self.wait_queue, waiter_slots: &self.spots, permits: &self.permits }
    }

    fn held_by(id: u16) -> Arc<Memory> {
        let memory = Arc::new(Memory::default());
        memory.table().take(holder(id)).unwrap();
        memory
    }

    fn touch(&self) {
        // SAFETY: loom itself checks that no other access is concurrent; that is what is tested.
        self.protected.with_mut(|protected| unsafe { *protected += 1 });
    }
}

fn holder(id: u16) -> Holder {
    Holder::new(id, 1)
}

/// The word of a holder, as `permit_table.rs` documents it.
fn word_of(id: u16) -> u64 {
    1 << 16 | u64::from(id)
}

/// As [`explore`], but with two preemptions at most: these have too many steps for all orders.
#[track_caller]
fn explore_two_preemptions(expected: &[Outcome], run: impl Fn() -> Outcome + Sync + Send + 'static) {
    let seen = StdArc::new(Mutex::new(BTreeSet::new()));
    let record = StdArc::clone(&seen);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let outcome = run();
        record.lock().unwrap().insert(outcome);
    });
    assert_eq!(*seen.lock().unwrap(), expected.iter().copied().collect(), "the outcomes that occurred");
}

const TWICE: &str = "the permit is there twice";

/// The steps: the crate's own, or one of them done wrongly.
#[derive(Clone, Copy)]
struct Steps {
    take: fn(&Memory, u16) -> Option<Taken>,
    /// Whether somebody may wait.
    give_back: fn(&Memory) -> bool,
    announce: fn(&Memory, &Waiter),
    sweep: fn(&Memory, u16),
    leave: fn(&Memory, Waiter),
}

const STEPS: Steps = Steps {
    take: |memory, id| memory.table().try_take(holder(id), 0),
    give_back: |memory| memory.table().give_back(0),
    announce: |memory, waiter| memory.table().announce(waiter),
    sweep: |memory, id| {
        memory.table().sweep(|who| who == holder(id));
    },
    leave: |memory, waiter| memory.table().leave(waiter),
};

// ---- one permit, two who want it ------------------------------------------------------------------------------------

fn two_want_it(steps: Steps) -> Outcome {
    let memory = Arc::new(Memory::default());
    let go_in = move |memory: &Memory, id: u16| {
        let has = (steps.take)(memory, id).is_some();
        if has {
            memory.touch();
            (steps.give_back)(memory);
        }
        has
    };
    let other = thread::spawn({
        let memory = Arc::clone(&memory);
        move || go_in(&memory, 1)
    });
    let (one, other) = (go_in(&memory, 2), other.join().unwrap());
    assert!(one || other, "it was free");
    assert_eq!(memory.table().free(), 1);
    if one && other { "one after the other" } else { "one found it taken" }
}

#[test]
fn a_permit_is_had_by_one_at_a_time_and_carries_what_it_protects() {
    explore(&["one after the other", "one found it taken"], || two_want_it(STEPS));
}

#[test]
fn a_permit_that_is_taken_or_given_wrongly_is_found() {
    must_fail("taken by a look and a store", RACE, || {
        let take = |memory: &Memory, id: u16| {
            let is_free = memory.permits[0].word.load(Ordering::Acquire) == 0;
            is_free.then(|| {
                memory.permits[0].word.store(word_of(id), Ordering::Release);
                Taken { index: 0, recovered: false }
            })
        };
        two_want_it(Steps { take, ..STEPS })
    });
    must_fail("taken without Acquire", RACE, || {
        let take = |memory: &Memory, id: u16| {
            let word = &memory.permits[0].word;
            let taken = word.compare_exchange(0, word_of(id), Ordering::Relaxed, Ordering::Relaxed);
            taken.ok().map(|_| Taken { index: 0, recovered: false })
        };
        two_want_it(Steps { take, ..STEPS })
    });
    must_fail("given back without Release", RACE, || {
        let give_back = |memory: &Memory| {
            memory.permits[0].word.store(0, Ordering::Relaxed);
            false
        };
        two_want_it(Steps { give_back, ..STEPS })
    });
}

// ---- a waiter, and who gives back -----------------------------------------------------------------------------------

/// A release calls a waiter.
fn give_back_and_call(steps: Steps, memory: &Memory) {
    if (steps.give_back)(memory) {
        memory.table().call_next();
    }
}

/// Lines up and looks; the permit, or the waiter that goes to sleep.
fn line_up(steps: Steps, memory: &Memory, id: u16) -> Result<Taken, Waiter> {
    let waiter = memory.table().line_up(holder(id), 1).unwrap();
    (steps.announce)(memory, &waiter);
    match memory.table().is_next(&waiter).then(|| memory.table().take(holder(id))).flatten() {
        Some(taken) => {
            (steps.leave)(memory, waiter);
            memory.table().call_next();
            Ok(taken)
        }
        None => Err(waiter),
    }
}

fn is_called(memory: &Memory, waiter: &Waiter) -> bool {
    let call: &AtomicU32 = memory.table().call_of(waiter);
    call.load(Ordering::Relaxed) != 0
}

fn a_waiter_comes_while_it_is_given_back(steps: Steps) -> Outcome {
    let memory = Memory::held_by(1);
    let other = thread::spawn({
        let memory = Arc::clone(&memory);
        move || {
            memory.touch();
            give_back_and_call(steps, &memory);
        }
    });
    let came = line_up(steps, &memory, 2);
    if came.is_ok() {
        memory.touch();
    }
    other.join().unwrap();
    match came {
        Ok(_) => "it saw that it is free",
        Err(waiter) => {
            assert!(is_called(&memory, &waiter), "{LOST}");
            "it sleeps and was called"
        }
    }
}

#[test]
fn a_waiter_sees_the_permit_or_is_called() {
    explore(&["it saw that it is free", "it sleeps and was called"], || a_waiter_comes_while_it_is_given_back(STEPS));
}

#[test]
fn a_call_that_is_lost_is_found() {
    must_fail("looked for waiters before it was given back", LOST, || {
        let give_back = |memory: &Memory| {
            let somebody_waits = memory.wait_queue.flags.load(Ordering::SeqCst) != 0;
            memory.table().give_back(0);
            somebody_waits
        };
        a_waiter_comes_while_it_is_given_back(Steps { give_back, ..STEPS })
    });
    must_fail("given back without a fence", LOST, || {
        let give_back = |memory: &Memory| {
            memory.permits[0].word.swap(0, Ordering::AcqRel);
            memory.wait_queue.flags.load(Ordering::Acquire) != 0
        };
        a_waiter_comes_while_it_is_given_back(Steps { give_back, ..STEPS })
    });
    must_fail("announced without a fence", LOST, || {
        let announce = |memory: &Memory, _: &Waiter| {
            memory.wait_queue.flags.fetch_or(1, Ordering::AcqRel);
        };
        a_waiter_comes_while_it_is_given_back(Steps { announce, ..STEPS })
    });
}

// ---- the flags are taken back, while somebody comes -----------------------------------------------------------------

fn one_leaves_while_another_comes(steps: Steps) -> Outcome {
    let memory = Arc::new(Memory::default());
    let first = memory.table().line_up(holder(1), 1).unwrap();
    memory.table().announce(&first);
    memory.table().take(holder(1)).unwrap();
    let other = thread::spawn({
        let memory = Arc::clone(&memory);
        move || {
            (steps.leave)(&memory, first);
            give_back_and_call(steps, &memory);
        }
    });
    let came = line_up(steps, &memory, 2);
    other.join().unwrap();
    match came {
        Ok(_) => "it saw that it is free",
        Err(waiter) => {
            assert!(is_called(&memory, &waiter), "{LOST}");
            "it sleeps and was called"
        }
    }
}

#[test]
fn who_comes_while_the_last_one_leaves_is_not_forgotten() {
    explore_two_preemptions(&["it saw that it is free", "it sleeps and was called"], || {
        one_leaves_while_another_comes(STEPS)
    });
}

#[test]
fn flags_that_are_taken_back_without_a_second_look_are_found() {
    must_fail("no second look", LOST, || {
        let leave = |memory: &Memory, _: Waiter| {
            memory.spots[0].ticket.store(0, Ordering::Relaxed);
            memory.spots[0].who.store(0, Ordering::Release);
            if memory.spots[1].ticket.load(Ordering::Acquire) == 0 {
                memory.wait_queue.flags.swap(0, Ordering::SeqCst);
            }
        };
        one_leaves_while_another_comes(Steps { leave, ..STEPS })
    });
}

// ---- the dead -------------------------------------------------------------------------------------------------------

/// Two look after a dead holder at the same time, and want its permit.
fn two_inherit(steps: Steps) -> Outcome {
    let memory = Memory::held_by(9);
    let inherit = move |memory: &Memory, id: u16| {
        (steps.sweep)(memory, 9);
        let taken = (steps.take)(memory, id);
        if let Some(taken) = taken {
            assert!(taken.recovered, "it is told");
        }
        taken.is_some()
    };
    let other = thread::spawn({
        let memory = Arc::clone(&memory);
        move || inherit(&memory, 1)
    });
    let (one, other) = (inherit(&memory, 2), other.join().unwrap());
    assert!(!(one && other), "{TWICE}");
    assert!(one || other, "the permit is lost");
    if one { "one" } else { "the other" }
}

#[test]
fn a_dead_holders_permit_is_had_by_one_who_is_told() {
    explore(&["one", "the other"], || two_inherit(STEPS));
}

#[test]
fn a_sweep_that_does_not_look_whose_it_is_by_now_is_found() {
    must_fail("swept by a look and a store", TWICE, || {
        let sweep = |memory: &Memory, id: u16| {
            if memory.permits[0].word.load(Ordering::Acquire) == word_of(id) {
                memory.permits[0].word.store(1, Ordering::Release);
            }
        };
        two_inherit(Steps { sweep, ..STEPS })
    });
}

/// A waiter is dead, and the one behind it comes while it is cleaned up.
fn a_dead_waiter_is_swept_while_another_comes(steps: Steps) -> Outcome {
    let memory = Memory::held_by(1);
    let dead = memory.table().line_up(holder(9), 1).unwrap();
    memory.table().announce(&dead);
    let other = thread::spawn({
        let memory = Arc::clone(&memory);
        move || {
            (steps.sweep)(&memory, 9);
            give_back_and_call(steps, &memory);
        }
    });
    let came = line_up(steps, &memory, 2);
    other.join().unwrap();
    match came {
        Ok(_) => "it saw that it is free",
        Err(waiter) => {
            assert!(is_called(&memory, &waiter), "{LOST}");
            "it sleeps and was called"
        }
    }
}

#[test]
fn a_dead_waiter_leaves_its_place_and_nobody_is_forgotten() {
    explore_two_preemptions(&["it saw that it is free", "it sleeps and was called"], || {
        a_dead_waiter_is_swept_while_another_comes(STEPS)
    });
}

// ---- one that was called and does not come --------------------------------------------------------------------------

/// The first in line was called and is stopped. One who waits behind it passes it over while it goes on: the one of the
/// two that has the permit gives it back, and then the other one has had it, or is called, or is in nobody's way.
fn one_that_was_called_comes_while_it_is_passed_over() -> Outcome {
    let memory = Arc::new(Memory::default());
    let stopped = memory.table().line_up(holder(1), 1).unwrap();
    memory.table().announce(&stopped);
    assert!(memory.table().call_next().is_some());
    let mut watch = CallWatch::default();
    assert!(!watch.look(&memory.table(), 0));
    let other = thread::spawn({
        let memory = Arc::clone(&memory);
        move || {
            memory.table().announce(&stopped);
            if memory.table().is_next(&stopped)
                && let Some(taken) = memory.table().take(holder(1))
            {
                memory.touch();
                memory.table().leave(stopped);
                memory.table().give_back(taken.index);
            }
        }
    });
    watch.look(&memory.table(), LATE_NS);
    let came = memory.table().take(holder(2));
    if let Some(taken) = came {
        memory.touch();
        memory.table().give_back(taken.index);
    }
    other.join().unwrap();
    assert_eq!(memory.table().free(), 1, "the permit is lost");
    if came.is_some() { "it had it" } else { "the other had it just then" }
}

#[test]
fn one_that_is_passed_over_while_it_comes_neither_loses_nor_doubles_the_permit() {
    explore_two_preemptions(&["it had it", "the other had it just then"], || {
        one_that_was_called_comes_while_it_is_passed_over()
    });
}
