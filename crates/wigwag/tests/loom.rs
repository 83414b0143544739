//! The turn and the doorbell under the model checker loom, which tries every interleaving and every reordering that the
//! C11 memory model allows. The code under test is the crate's own: `slot.rs`, `doorbell.rs`, `wake_flag.rs` and,
//! in `support/`, `permit_table.rs` and `ring.rs`, on the heap.
//!
//! Run by
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p wigwag --release --test loom
//! ```
//!
//! Nothing in a plain `cargo test` runs this; `.ci/run` does.
//!
//! A model that cannot fail proves nothing. Each is therefore run again with one step done wrongly (a fence left out,
//! the second look forgotten, an exchange torn into a load and a store), and loom must find that; and each checks that
//! every outcome it speaks of has occurred. The latter is no formality: loom remembers only the last access to a word,
//! so that a load of thread B hides the load of thread A before it, and the order in which B's store comes first may
//! never be tried.

#![cfg(loom)]

#[path = "support/loom_broadcast.rs"]
mod broadcast;
#[path = "support/loom_permits.rs"]
mod permits;
#[path = "support/loom_ring.rs"]
mod ring;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc as StdArc, Mutex};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use wigwag::models::doorbell::Waiting;
use wigwag::models::slot::{self, Turn};
use wigwag::models::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use wigwag::models::wake_flag::WakeFlag;

/// What a run came to, in words.
type Outcome = &'static str;

/// Runs a model in all its interleavings; every outcome named must occur, and no other.
#[track_caller]
fn explore(expected: &[Outcome], run: impl Fn() -> Outcome + Sync + Send + 'static) {
    let seen = StdArc::new(Mutex::new(BTreeSet::new()));
    let record = StdArc::clone(&seen);
    loom::model(move || {
        let outcome = run();
        record.lock().unwrap().insert(outcome);
    });
    assert_eq!(*seen.lock().unwrap(), expected.iter().copied().collect(), "the outcomes that occurred");
}

/// Runs a model that must fail in some interleaving, and for the reason expected.
#[track_caller]
fn must_fail(what: &str, why: &str, run: impl Fn() -> Outcome + Sync + Send + 'static) {
    let model = move || {
        run();
    };
    let panic = catch_unwind(AssertUnwindSafe(|| loom::model(model)));
    let panic = panic.err().unwrap_or_else(|| panic!("loom did not find this: {what}"));
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    assert!(said.is_some_and(|said| said.contains(why)), "{what} failed, but not because \"{why}\": {said:?}");
}

/// What loom says of two accesses that nothing orders.
const RACE: &str = "Causality violation";
const LOST: &str = "the wake-up is lost";

/// A slot: its turn, and a payload whose every unordered access loom reports.
#[derive(Default)]
struct Slot {
    turn: AtomicU64,
    payload: UnsafeCell<u64>,
}

impl Slot {
    fn write(&self, value: u64) {
        // SAFETY: loom itself checks that no other access is concurrent; that is what is tested.
        self.payload.with_mut(|payload| unsafe { *payload = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: as in `write`.
        self.payload.with(|payload| unsafe { *payload })
    }
}

/// The steps of the protocol: the crate's own, or one of them done wrongly.
#[derive(Clone, Copy)]
struct Steps {
    load: fn(&AtomicU64) -> Turn,
    pass_to_server: fn(&AtomicU64, u64),
    /// Whether the client asked to be woken.
    pass_to_client: fn(&AtomicU64, u64) -> bool,
    /// Whether the reply had not come.
    ask_for_wake: fn(&AtomicU64) -> bool,
    announce: fn(&AtomicU32),
    claim: fn(&AtomicU32) -> bool,
}

const STEPS: Steps = Steps {
    load: slot::load,
    pass_to_server: slot::pass_to_server,
    pass_to_client: |turn, sequence| slot::pass_to_client(turn, sequence).wants_wake(),
    ask_for_wake: |turn| slot::ask_for_wake(turn).is_server(),
    announce: |waiting| Waiting(waiting).announce(),
    claim: |waiting| Waiting(waiting).claim(),
};

/// The word of a request, and its flags, as `slot.rs` documents them.
const SERVER: u64 = 1;
const WAKE: u64 = 2;

fn request(sequence: u64) -> u64 {
    sequence << 8 | SERVER
}

/// A load that orders nothing. [`Turn`] can only be had from a word, so this is a copy in a word of its own.
fn relaxed_load(turn: &AtomicU64) -> Turn {
    slot::load(&AtomicU64::new(turn.load(Ordering::Relaxed)))
}

// ---- (a) a pass carries the payload ---------------------------------------------------------------------------------

/// Two exchanges in the same slot, each side waiting for its turn.
fn exchange(steps: Steps) -> Outcome {
    let slot = Arc::new(Slot::default());
    let wait = move |slot: &Slot, for_server: bool| loop {
        let turn = (steps.load)(&slot.turn);
        if turn.is_server() == for_server {
            return turn.sequence();
        }
        thread::yield_now();
    };
    let server = thread::spawn({
        let slot = Arc::clone(&slot);
        move || {
            for sequence in 1..=2 {
                assert_eq!(wait(&slot, true), sequence);
                assert_eq!(slot.read(), 10 * sequence);
                slot.write(10 * sequence + 1);
                (steps.pass_to_client)(&slot.turn, sequence);
            }
        }
    });
    for sequence in 1..=2 {
        slot.write(10 * sequence);
        (steps.pass_to_server)(&slot.turn, sequence);
        assert_eq!(wait(&slot, false), sequence);
        assert_eq!(slot.read(), 10 * sequence + 1);
    }
    server.join().unwrap();
    "answered"
}

#[test]
fn a_pass_carries_the_payload_both_ways() {
    explore(&["answered"], || exchange(STEPS));
}

#[test]
fn a_pass_that_does_not_release_is_found() {
    must_fail("a request passed without Release", RACE, || {
        exchange(Steps { pass_to_server: |turn, sequence| turn.store(request(sequence), Ordering::Relaxed), ..STEPS })
    });
    must_fail("a reply passed without Release", RACE, || {
        let pass_to_client = |turn: &AtomicU64, sequence: u64| {
            turn.swap(sequence << 8, Ordering::Relaxed);
            false
        };
        exchange(Steps { pass_to_client, ..STEPS })
    });
}

#[test]
fn a_look_that_does_not_acquire_is_found() {
    must_fail("a look without Acquire", RACE, || exchange(Steps { load: relaxed_load, ..STEPS }));
}

// ---- (b) the client sleeps ------------------------------------------------------------------------------------------

/// The client goes to sleep while the server answers: it is rung if and only if it sleeps.
fn reply_to_a_sleeper(steps: Steps) -> Outcome {
    let slot = Arc::new(Slot::default());
    slot.write(10);
    (steps.pass_to_server)(&slot.turn, 1);
    let server = thread::spawn({
        let slot = Arc::clone(&slot);
        move || {
            assert_eq!(slot.read(), 10);
            slot.write(20);
            (steps.pass_to_client)(&slot.turn, 1)
        }
    });
    let sleeps = (steps.ask_for_wake)(&slot.turn);
    if !sleeps {
        assert_eq!(slot.read(), 20);
    }
    let rang = server.join().unwrap();
    assert_eq!(sleeps, rang, "who sleeps is rung, and nobody else");
    let turn = slot::load(&slot.turn);
    assert!(!turn.is_server() && turn.sequence() == 1, "the reply stays: {turn:?}");
    // A flag that came too late is gone with the next pass.
    slot::pass_to_server(&slot.turn, 2);
    assert!(!slot::load(&slot.turn).wants_wake());
    if sleeps { "slept and rung" } else { "saw the reply" }
}

#[test]
fn a_client_that_sleeps_is_rung() {
    explore(&["slept and rung", "saw the reply"], || reply_to_a_sleeper(STEPS));
}

/// The client sleeps on a timer, is awake before the reply, and goes to sleep after all: what it withdrew is not rung
/// for unless the reply came first, and what it asked for again is.
fn reply_to_a_napper(withdraw_wake: fn(&AtomicU64) -> bool) -> Outcome {
    let slot = Arc::new(Slot::default());
    slot.write(10);
    slot::pass_to_server(&slot.turn, 1);
    let server = thread::spawn({
        let slot = Arc::clone(&slot);
        move || {
            slot.write(20);
            slot::pass_to_client(&slot.turn, 1).wants_wake()
        }
    });
    let naps = slot::ask_for_wake(&slot.turn).is_server();
    let is_early = naps && withdraw_wake(&slot.turn);
    let sleeps = is_early && slot::ask_for_wake(&slot.turn).is_server();
    if !sleeps {
        assert_eq!(slot.read(), 20, "the reply is there");
    }
    let rang = server.join().unwrap();
    let must_ring = sleeps || naps && !is_early;
    assert_eq!(must_ring, rang, "who sleeps is rung, and who withdrew is not");
    assert!(!slot::load(&slot.turn).is_server(), "the reply stays");
    match (naps, is_early, sleeps) {
        (false, ..) => "saw the reply",
        (_, false, _) => "rung in its nap",
        (.., false) => "saw the reply after its nap",
        _ => "slept and rung",
    }
}

fn withdraw_wake(turn: &AtomicU64) -> bool {
    slot::withdraw_wake(turn).is_server()
}

#[test]
fn a_client_that_wakes_by_a_timer_is_rung_if_it_sleeps_again() {
    let outcomes = ["slept and rung", "saw the reply", "rung in its nap", "saw the reply after its nap"];
    explore(&outcomes, || reply_to_a_napper(withdraw_wake));
}

#[test]
fn a_wake_up_withdrawn_in_two_steps_is_found() {
    must_fail("WAKE cleared by load and store", "who withdrew", || {
        reply_to_a_napper(|turn| {
            let word = turn.load(Ordering::SeqCst);
            turn.store(word & !WAKE, Ordering::SeqCst);
            word & SERVER != 0
        })
    });
}

#[test]
fn a_wake_up_asked_for_in_two_steps_is_found() {
    must_fail("WAKE by load and store", "who sleeps is rung", || {
        let ask_for_wake = |turn: &AtomicU64| {
            let word = turn.load(Ordering::SeqCst);
            turn.store(word | WAKE, Ordering::SeqCst);
            word & SERVER != 0
        };
        reply_to_a_sleeper(Steps { ask_for_wake, ..STEPS })
    });
}

#[test]
fn a_reply_passed_in_two_steps_is_found() {
    must_fail("a reply by load and store", "who sleeps is rung", || {
        let pass_to_client = |turn: &AtomicU64, sequence: u64| {
            let word = turn.load(Ordering::SeqCst);
            turn.store(sequence << 8, Ordering::SeqCst);
            word & WAKE != 0
        };
        reply_to_a_sleeper(Steps { pass_to_client, ..STEPS })
    });
}

#[test]
fn a_wake_up_that_does_not_acquire_is_found() {
    must_fail("WAKE without Acquire", RACE, || {
        let ask_for_wake = |turn: &AtomicU64| turn.fetch_or(WAKE, Ordering::Release) & SERVER != 0;
        reply_to_a_sleeper(Steps { ask_for_wake, ..STEPS })
    });
}

// ---- (c) the server sleeps ------------------------------------------------------------------------------------------

/// A session as both sides see it: two slots, how many of them to look at, and whether the server sleeps.
#[derive(Default)]
struct Session {
    slots: [Slot; 2],
    depth: AtomicU32,
    waiting: AtomicU32,
}

impl Session {
    /// The server's second look: the first request that has not been taken, with its payload checked.
    fn look(&self, steps: Steps, depth: usize, taken: &[bool; 2]) -> Option<usize> {
        let found = (0..depth).find(|&slot| !taken[slot] && (steps.load)(&self.slots[slot].turn).is_server())?;
        assert_eq!(self.slots[found].read(), 10 + found as u64);
        Some(found)
    }

    /// The client: passes a request, and rings if it must.
    fn call(&self, steps: Steps, slot: usize) -> u32 {
        self.slots[slot].write(10 + slot as u64);
        (steps.pass_to_server)(&self.slots[slot].turn, 1);
        u32::from((steps.claim)(&self.waiting))
    }
}

/// The server goes to sleep while one request comes.
fn request_to_a_sleeper(steps: Steps, looks_again: bool) -> Outcome {
    let session = Arc::new(Session::default());
    let server = thread::spawn({
        let session = Arc::clone(&session);
        move || {
            (steps.announce)(&session.waiting);
            !looks_again || session.look(steps, 1, &[false; 2]).is_none()
        }
    });
    let rings = session.call(steps, 0);
    let sleeps = server.join().unwrap();
    assert!(!sleeps || rings == 1, "the wake-up is lost");
    match (sleeps, rings) {
        (true, _) => "slept and rung",
        (false, 1) => "seen, and rung for nothing",
        _ => "seen",
    }
}

#[test]
fn a_server_that_sleeps_is_rung() {
    explore(&["slept and rung", "seen, and rung for nothing", "seen"], || request_to_a_sleeper(STEPS, true));
}

#[test]
fn a_fence_left_out_is_found() {
    must_fail("the sleeper's fence left out", LOST, || {
        let announce = |waiting: &AtomicU32| _ = waiting.swap(1, Ordering::SeqCst);
        request_to_a_sleeper(Steps { announce, ..STEPS }, true)
    });
    must_fail("the waker's fence left out", LOST, || {
        let claim =
            |waiting: &AtomicU32| waiting.load(Ordering::Relaxed) != 0 && waiting.swap(0, Ordering::AcqRel) != 0;
        request_to_a_sleeper(Steps { claim, ..STEPS }, true)
    });
}

#[test]
fn a_second_look_forgotten_is_found() {
    must_fail("no second look", LOST, || request_to_a_sleeper(STEPS, false));
}

#[test]
fn a_look_before_the_announcement_is_found() {
    must_fail("looked first, announced after", LOST, || {
        let session = Arc::new(Session::default());
        let server = thread::spawn({
            let session = Arc::clone(&session);
            move || {
                let sleeps = session.look(STEPS, 1, &[false; 2]).is_none();
                (STEPS.announce)(&session.waiting);
                sleeps
            }
        });
        let rings = session.call(STEPS, 0);
        assert!(!server.join().unwrap() || rings == 1, "the wake-up is lost");
        ""
    });
}

/// A burst of two requests by one client: one ring at most, and exactly one for a server that sleeps.
fn burst_to_a_sleeper(steps: Steps) -> Outcome {
    let session = Arc::new(Session::default());
    let server = thread::spawn({
        let session = Arc::clone(&session);
        move || {
            (steps.announce)(&session.waiting);
            session.look(steps, 2, &[false; 2]).is_none()
        }
    });
    let rings = session.call(steps, 0) + session.call(steps, 1);
    let sleeps = server.join().unwrap();
    assert!(rings <= 1, "one announcement is answered by one ring at most");
    assert!(!sleeps || rings == 1, "the wake-up is lost");
    if sleeps { "slept and rung" } else { "seen" }
}

#[test]
fn a_burst_rings_once() {
    explore(&["slept and rung", "seen"], || burst_to_a_sleeper(STEPS));
}

#[test]
fn a_claim_that_leaves_the_flag_is_found() {
    must_fail("a claim that does not clear the word", "one ring at most", || {
        let claim = |waiting: &AtomicU32| {
            loom::sync::atomic::fence(Ordering::SeqCst);
            waiting.load(Ordering::Relaxed) != 0
        };
        burst_to_a_sleeper(Steps { claim, ..STEPS })
    });
}

/// Two threads wake the same sleeper: only one of them rings.
fn two_wakers(steps: Steps) -> Outcome {
    let session = Arc::new(Session::default());
    (steps.announce)(&session.waiting);
    let other = thread::spawn({
        let session = Arc::clone(&session);
        move || session.call(steps, 1)
    });
    let rings = session.call(steps, 0) + other.join().unwrap();
    assert_eq!(rings, 1, "one of them rings");
    "rung once"
}

#[test]
fn two_wakers_agree_who_rings() {
    explore(&["rung once"], || two_wakers(STEPS));
}

#[test]
fn a_claim_in_two_steps_is_found() {
    must_fail("a claim by load and store", "one of them rings", || {
        let claim = |waiting: &AtomicU32| {
            loom::sync::atomic::fence(Ordering::SeqCst);
            let was = waiting.load(Ordering::SeqCst);
            waiting.store(0, Ordering::SeqCst);
            was != 0
        };
        two_wakers(Steps { claim, ..STEPS })
    });
}

/// The server finds a request in its second look, withdraws, serves, and goes to sleep again while the next one comes.
fn withdraw_and_sleep_again(steps: Steps, withdraw: fn(&AtomicU32)) -> Outcome {
    let session = Arc::new(Session::default());
    let server = thread::spawn({
        let session = Arc::clone(&session);
        move || {
            let mut taken = [false; 2];
            for _ in 0..3 {
                (steps.announce)(&session.waiting);
                let Some(found) = session.look(steps, 2, &taken) else { break };
                taken[found] = true;
                withdraw(&session.waiting);
            }
            taken
        }
    });
    let rings = session.call(steps, 0) + session.call(steps, 1);
    let taken = server.join().unwrap();
    assert!(taken == [true; 2] || rings > 0, "asleep with a request there, and nobody rang");
    match taken {
        [true, true] => "both taken",
        [false, false] => "slept through both",
        _ => "slept through one",
    }
}

#[test]
fn a_server_that_withdraws_can_sleep_again() {
    let withdraw = |waiting: &AtomicU32| Waiting(waiting).withdraw();
    explore(&["both taken", "slept through both", "slept through one"], move || {
        withdraw_and_sleep_again(STEPS, withdraw)
    });
}

// ---- (d) the depth --------------------------------------------------------------------------------------------------

/// The client uses its second slot for the first time while the server goes to sleep.
fn deeper_request_to_a_sleeper(steps: Steps, raises_first: bool) -> Outcome {
    let session = Arc::new(Session::default());
    session.depth.store(1, Ordering::Relaxed);
    let server = thread::spawn({
        let session = Arc::clone(&session);
        move || {
            (steps.announce)(&session.waiting);
            let depth = session.depth.load(Ordering::Relaxed) as usize;
            session.look(steps, depth, &[false; 2]).is_none()
        }
    });
    if raises_first {
        session.depth.store(2, Ordering::Relaxed);
    }
    let rings = session.call(steps, 1);
    if !raises_first {
        session.depth.store(2, Ordering::Relaxed);
    }
    let sleeps = server.join().unwrap();
    assert!(!sleeps || rings == 1, "the wake-up is lost");
    if sleeps { "slept and rung" } else { "seen" }
}

#[test]
fn a_depth_raised_before_the_pass_is_seen_by_the_second_look() {
    explore(&["slept and rung", "seen"], || deeper_request_to_a_sleeper(STEPS, true));
}

#[test]
fn a_depth_raised_after_the_pass_is_found() {
    must_fail("the depth raised too late", LOST, || deeper_request_to_a_sleeper(STEPS, false));
}

#[test]
fn a_depth_without_fences_is_found() {
    must_fail("the depth, and no fence at the sleeper", LOST, || {
        let announce = |waiting: &AtomicU32| _ = waiting.swap(1, Ordering::SeqCst);
        deeper_request_to_a_sleeper(Steps { announce, ..STEPS }, true)
    });
}

// ---- (e) giving up --------------------------------------------------------------------------------------------------

/// The client gives up while the server works, and uses the slot again as soon as it may.
fn give_up_and_reuse(may_reuse: fn(abandoned: Turn, later: Turn) -> bool) -> Outcome {
    let slot = Arc::new(Slot::default());
    slot.write(10);
    slot::pass_to_server(&slot.turn, 1);
    let server = thread::spawn({
        let slot = Arc::clone(&slot);
        move || {
            assert_eq!(slot.read(), 10);
            let is_abandoned = slot::load(&slot.turn).is_abandoned();
            slot.write(20);
            let replaced = slot::pass_to_client(&slot.turn, 1);
            assert!(replaced.is_abandoned() >= is_abandoned, "once given up, for ever");
            assert!(replaced.is_server() && replaced.sequence() == 1, "a flag is no harm to the turn: {replaced:?}");
            replaced.is_abandoned()
        }
    });
    let abandoned = slot::abandon(&slot.turn);
    let later = slot::load(&slot.turn);
    let reused = may_reuse(abandoned, later);
    if reused {
        slot.write(30); // loom reports it if the server may still be at work
        slot::pass_to_server(&slot.turn, 2);
        let turn = slot::load(&slot.turn);
        assert!(turn.is_server() && turn.sequence() == 2 && !turn.is_abandoned() && !turn.wants_wake(), "{turn:?}");
    }
    let was_told = server.join().unwrap();
    assert_eq!(was_told, abandoned.is_server(), "the server is told if and only if it had the slot");
    match (was_told, reused) {
        (true, true) => "told, and reused after it was done",
        (true, false) => "told",
        (false, _) => "too late, and reused",
    }
}

#[test]
fn a_slot_given_up_is_used_again_only_when_the_server_is_done() {
    explore(&["told, and reused after it was done", "told", "too late, and reused"], || {
        give_up_and_reuse(|abandoned, later| !abandoned.is_server() || !later.is_server())
    });
}

#[test]
fn a_slot_used_again_at_once_is_found() {
    must_fail("reuse without a look", RACE, || give_up_and_reuse(|_, _| true));
}

/// The client has given up and sleeps for the slot to come back.
fn sleep_for_an_abandoned_slot(steps: Steps) -> Outcome {
    let slot = Arc::new(Slot::default());
    slot::pass_to_server(&slot.turn, 1);
    let server = thread::spawn({
        let slot = Arc::clone(&slot);
        move || (steps.pass_to_client)(&slot.turn, 1)
    });
    slot::abandon(&slot.turn);
    let sleeps = (steps.ask_for_wake)(&slot.turn);
    let rang = server.join().unwrap();
    assert_eq!(sleeps, rang);
    if sleeps { "slept and rung" } else { "saw that it is back" }
}

#[test]
fn a_client_that_sleeps_for_an_abandoned_slot_is_rung() {
    explore(&["slept and rung", "saw that it is back"], || sleep_for_an_abandoned_slot(STEPS));
}

// ---- (f) answered on another thread ---------------------------------------------------------------------------------

/// A request is answered by one thread while another looks for the next: an honest client is never taken for one that
/// passes a slot twice.
fn answered_elsewhere(notes_first: bool) -> Outcome {
    let slot = Arc::new(Slot::default());
    let answered = Arc::new(AtomicU64::new(0));
    slot::pass_to_server(&slot.turn, 1);
    let answerer = thread::spawn({
        let (slot, answered) = (Arc::clone(&slot), Arc::clone(&answered));
        move || {
            slot.write(20);
            if notes_first {
                answered.store(1, Ordering::Release); // `Session::set_answered`
            }
            slot::pass_to_client(&slot.turn, 1);
            if !notes_first {
                answered.store(1, Ordering::Release);
            }
        }
    });
    let client = thread::spawn({
        let slot = Arc::clone(&slot);
        move || {
            if !slot::load(&slot.turn).is_server() {
                slot.write(30);
                slot::pass_to_server(&slot.turn, 2);
            }
        }
    });
    let turn = slot::load(&slot.turn);
    let is_next = turn.is_server() && turn.sequence() == 2;
    if is_next {
        assert_eq!(answered.load(Ordering::Acquire), 1, "an honest client taken for a violator");
        assert_eq!(slot.read(), 30);
    }
    answerer.join().unwrap();
    client.join().unwrap();
    if is_next { "taken" } else { "not there yet" }
}

#[test]
fn a_request_answered_on_another_thread_frees_its_slot_in_time() {
    explore(&["taken", "not there yet"], || answered_elsewhere(true));
}

#[test]
fn an_answer_noted_after_the_pass_is_found() {
    must_fail("noted after the pass", "an honest client", || answered_elsewhere(false));
}

// ---- (g) letters ----------------------------------------------------------------------------------------------------

/// A serving thread's mailbox, and the bell in its epoll: the kernel's own lock orders the ring and the thread that
/// hears it.
struct LetterBox {
    letters: loom::sync::Mutex<Vec<u64>>,
    wake_flag: WakeFlag,
    bell: loom::sync::Mutex<bool>,
    /// What `shut_down` sets before it calls.
    shutdown: AtomicU32,
}

impl LetterBox {
    fn new() -> Arc<LetterBox> {
        Arc::new(LetterBox {
            letters: loom::sync::Mutex::new(Vec::new()),
            wake_flag: WakeFlag::lowered(),
            bell: loom::sync::Mutex::new(false),
            shutdown: AtomicU32::new(0),
        })
    }

    /// `Port::post`.
    fn post(&self, letter: u64, rings: bool) {
        self.letters.lock().unwrap().push(letter);
        self.call(rings);
    }

    /// `Port::call_attention`.
    fn call(&self, rings: bool) {
        self.wake_flag.raise();
        if rings {
            *self.bell.lock().unwrap() = true;
        }
    }

    /// `Port::take_letters`.
    fn take(&self, answers: fn(&WakeFlag)) -> Vec<u64> {
        answers(&self.wake_flag);
        std::mem::take(&mut *self.letters.lock().unwrap())
    }

    /// A look at the epoll takes the edge away.
    fn hear(&self) -> bool {
        std::mem::take(&mut *self.bell.lock().unwrap())
    }
}

/// A serving thread looks for letters, looks at its bells without sleeping, and goes to sleep, while a letter comes.
fn letter_to_a_busy_thread(may_sleep: fn(&WakeFlag) -> bool, rings: bool) -> Outcome {
    let letter_box = LetterBox::new();
    let control_thread = thread::spawn({
        let letter_box = Arc::clone(&letter_box);
        move || letter_box.post(7, rings)
    });
    let mut read = Vec::new();
    if letter_box.wake_flag.is_raised() {
        read.extend(letter_box.take(WakeFlag::clear));
    }
    letter_box.hear(); // `checkup`
    let sleeps = may_sleep(&letter_box.wake_flag);
    control_thread.join().unwrap();
    let is_woken = letter_box.hear();
    assert!(!sleeps || is_woken || !read.is_empty(), "asleep on an unread letter");
    match (sleeps, read.is_empty()) {
        (_, false) => "read at once",
        (true, true) => "slept and rung",
        (false, true) => "called before it slept",
    }
}

#[test]
fn a_thread_never_sleeps_on_an_unread_letter() {
    explore(&["read at once", "slept and rung", "called before it slept"], || {
        letter_to_a_busy_thread(WakeFlag::may_sleep, true)
    });
}

#[test]
fn a_sleep_on_an_unread_letter_is_found() {
    must_fail("no look before the sleep", "asleep on an unread letter", || letter_to_a_busy_thread(|_| true, true));
}

#[test]
fn a_letter_without_a_ring_is_found() {
    must_fail("no ring", "asleep on an unread letter", || letter_to_a_busy_thread(WakeFlag::may_sleep, false));
}

/// Two letters from two threads while the box is emptied: none is left behind uncalled.
fn two_letters(answers_first: bool) -> Outcome {
    let letter_box = LetterBox::new();
    let other = thread::spawn({
        let letter_box = Arc::clone(&letter_box);
        move || letter_box.post(2, true)
    });
    letter_box.post(1, true);
    let read = if answers_first {
        letter_box.take(WakeFlag::clear)
    } else {
        let read = letter_box.take(|_| {});
        letter_box.wake_flag.clear();
        read
    };
    other.join().unwrap();
    let is_left = !letter_box.letters.lock().unwrap().is_empty();
    assert!(!is_left || letter_box.wake_flag.is_raised(), "a letter lies there and nobody is called");
    if read.len() == 2 { "both at once" } else { "one, and called again" }
}

#[test]
fn a_letter_that_comes_while_the_box_is_emptied_calls_again() {
    explore(&["both at once", "one, and called again"], || two_letters(true));
}

#[test]
fn a_call_answered_after_the_letters_were_taken_is_found() {
    must_fail("answered last", "nobody is called", || two_letters(false));
}

/// `Core::shut_down`, and a thread that reads its letters and then looks whether the end has begun.
fn shutdown_is_seen(answers: fn(&LetterBox)) -> Outcome {
    let letter_box = LetterBox::new();
    let other = thread::spawn({
        let letter_box = Arc::clone(&letter_box);
        move || {
            letter_box.shutdown.store(1, Ordering::Relaxed); // the call publishes it
            letter_box.call(true);
        }
    });
    let mut seen = false;
    if letter_box.wake_flag.is_raised() {
        answers(&letter_box);
        seen = letter_box.shutdown.load(Ordering::Relaxed) == 1;
        assert!(seen, "the call was answered, and what it was for is not seen");
    }
    other.join().unwrap();
    if seen { "seen" } else { "not called yet" }
}

#[test]
fn what_was_done_before_a_call_is_seen_by_who_answers_it() {
    explore(&["seen", "not called yet"], || shutdown_is_seen(|letter_box| letter_box.wake_flag.clear()));
}

#[test]
fn a_call_that_is_not_answered_publishes_nothing() {
    must_fail("a look without Acquire", "is not seen", || shutdown_is_seen(|_| {}));
}

// ---- (h) one end ----------------------------------------------------------------------------------------------------

/// Two threads find a session guilty at the same time: the control thread is asked once (`Session::end`).
fn ended_by_two(claim: fn(&AtomicBool) -> bool) -> Outcome {
    let is_ending = Arc::new(AtomicBool::new(false));
    let other = thread::spawn({
        let is_ending = Arc::clone(&is_ending);
        move || u32::from(claim(&is_ending))
    });
    let commands = u32::from(claim(&is_ending)) + other.join().unwrap();
    assert_eq!(commands, 1, "the control thread is asked once");
    "asked once"
}

#[test]
fn a_session_is_condemned_once() {
    explore(&["asked once"], || ended_by_two(|is_ending| !is_ending.swap(true, Ordering::Relaxed)));
}

#[test]
fn an_end_claimed_in_two_steps_is_found() {
    must_fail("a claim by load and store", "the control thread is asked once", || {
        ended_by_two(|is_ending| {
            let was = is_ending.load(Ordering::SeqCst);
            is_ending.store(true, Ordering::SeqCst);
            !was
        })
    });
}
