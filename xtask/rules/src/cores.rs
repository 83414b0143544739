//! The core of a form never waits: how one waits is what its faces differ in.
//!
//! A core says what can be done now, how to be told when more can be done, and what came. So that a blocking caller, a
//! task, and an event loop of another language can sit on the same one, no step of it sleeps, spins, or reads a clock
//! to wait by.

use crate::source::{self, Source, report};

/// The files of cores.
const CORES: &[&str] = &[
    "crates/wigwag/src/exchange/caller.rs",
    "crates/wigwag/src/exchange/carrying.rs",
    "crates/wigwag/src/exchange/free_slots.rs",
    "crates/wigwag/src/exchange/lineage.rs",
    "crates/wigwag/src/exchange/owned_loan.rs",
    "crates/wigwag/src/queue/failover.rs",
    "crates/wigwag/src/queue/loan.rs",
    "crates/wigwag/src/queue/outbox.rs",
    "crates/wigwag/src/queue/producer.rs",
    "crates/wigwag/src/stream/endpoint.rs",
    "crates/wigwag/src/stream/endpoint/ending.rs",
    "crates/wigwag/src/stream/endpoint/reactor.rs",
    "crates/wigwag/src/stream/half.rs",
];

/// What only a face may name, and what a core has instead. A point in time that is written for the other side to see is
/// no wait.
const WAITING: &[(&str, &str)] = &[
    ("Deadline", "a core has none: give back `None`, and let the face wait"),
    ("wait::deadline", "a core has none: give back `None`, and let the face wait"),
    ("wait::waiter", "spinning is the face's"),
    ("Instant::now", "hand the point in time in"),
    (".sleep(", "let the face sleep: `arm` tells it whether it may"),
    (".hear(", "`Connection::look` takes in what is there"),
    (".wait(", "look once, and let the face wait"),
    ("wait_patiently", "look once, and let the face wait"),
    ("wait_briefly", "look once, and let the face wait"),
    ("spin_loop", "spinning is the face's"),
    ("thread::sleep", "a core has no thread, and blocks none"),
    ("thread::park", "a core has no thread, and blocks none"),
    ("thread::yield_now", "a core has no thread, and blocks none"),
    ("thread::spawn", "a core has no thread, and blocks none"),
    ("thread::scope", "a core has no thread, and blocks none"),
    ("thread::Builder", "a core has no thread, and blocks none"),
    ("thread::{", "a core has no thread, and blocks none"),
    ("tokio::", "a core knows no runtime"),
    ("async", "a core knows no runtime: `arm`, and let the face await"),
];

/// Where a core names what only a face may, with the name and the cure.
fn waits(source: &Source) -> Vec<(usize, &'static str, &'static str)> {
    let code = &source.product;
    let mut found = Vec::new();
    for &(name, cure) in WAITING {
        let is_word = name.chars().all(source::is_of_a_name);
        for (at, _) in code.match_indices(name) {
            let (before, after) = (code[..at].chars().next_back(), code[at + name.len()..].chars().next());
            let is_longer = |beside: Option<char>| beside.is_some_and(source::is_of_a_name);
            let is_part = (!name.starts_with('.') && is_longer(before)) || (is_word && is_longer(after));
            if !is_part {
                found.push((at, name, cure));
            }
        }
    }
    found
}

#[test]
fn a_core_never_waits() {
    let mut found = Vec::new();
    for path in CORES {
        let Some(text) = source::read(path) else {
            found.push(format!("xtask/rules/src/cores.rs: there is no {path} any more: correct CORES"));
            continue;
        };
        let source = Source::new(*path, text);
        for (at, name, cure) in waits(&source) {
            found.push(format!("{}: `{name}`: {cure}", source.place(at)));
        }
    }
    report("The core of a form never waits; its faces do.", found);
}

#[test]
fn waits_are_found() {
    let found = |code: &str| waits(&Source::new("x.rs", code)).into_iter().map(|(_, name, _)| name).collect::<Vec<_>>();
    assert_eq!(found("use crate::wait::deadline::Deadline;"), ["Deadline", "wait::deadline"]);
    assert_eq!(found("use crate::wait::{deadline::Deadline, policy::Wait};"), ["Deadline"]);
    assert_eq!(found("let until = std::time::Instant::now();"), ["Instant::now"]);
    assert_eq!(found("self.connection.sleep(until)?; std::thread::sleep(pause)"), [".sleep(", "thread::sleep"]);
    assert_eq!(
        found("connection.wait_patiently(line); connection.wait_briefly(line)"),
        ["wait_patiently", "wait_briefly"]
    );
    assert_eq!(found("loop { std::hint::spin_loop() }"), ["spin_loop"]);
    assert_eq!(found("async fn call() {}"), ["async"]);
    // What waits for nothing, what is only for the other side to see, what is in a comment, and what is in a test.
    assert!(found("let unwinds = std::thread::panicking();").is_empty());
    assert!(found("fn pass(deadline: Option<Instant>) {} // Instant::now").is_empty());
    assert!(found("#[cfg(test)]\nmod tests { fn f() { thread::sleep(LIMIT) } }").is_empty());
}
