//! G16: numbers that are about to wrap.
//!
//! Every counter that can grow without end, and why its wrap harms nobody:
//!
//! | counter | bits | when it wraps |
//! |---|---|---|
//! | sequence of a slot (`caller.rs` `sequences`, `worker.rs` `Expected`, `session.rs` `answered`) | 56 | goes on at 0 on both sides: compared for equality only, never for order. Tried here, from 2^32 - 16 and from the last 16 of 56 bits; the turn word itself wraps there, too |
//! | idle passes of a serving thread (`worker.rs` `idle_passes`) | 32 | goes on at 0. It begins 64 before that, so every test passes it |
//! | sleeps between two looks at the affinity (`worker.rs` `sleeps`), looks of one who polls (`connection.rs` `polls`) | 32 | go on at 0: only multiples are looked for |
//! | requests until the clock is looked at (`worker.rs` `countdown`) | 32 | never below 0 by more than one: it is set anew there |
//! | spins that failed, calls skipped, quick wakes (`wait.rs`) | 8 | saturate, or are set back at their bound |
//! | counters of `ServerStats` and `ClientStats` | 64 | not within a life: 500 years at a billion a second. Nothing is decided by them |
//! | number of a session (`control_thread.rs` `last_id`), a key of the epoll with two bits more | 62 | not within a life: a million years at 100,000 handshakes a second |
//! | an eventfd that is rung and never read | 64 | a full counter makes the ring fail, which is ignored: an edge-triggered epoll has been told. Not within a life |
//! | generation of a process after forks (`sys/fork.rs`) | 64 | not within a life |
//! | slots out, depth, abandoned (`free_slots.rs`) | 32 | bounded by the number of slots, 4096 |

use std::path::Path;
use std::time::Duration;

use wigwag::models::slot::{self, Expected};
use wigwag::models::sync::AtomicU64;
use wigwag::{Client, ErrorKind, Server, Wait};
use wigwag_testing::{Ground, Link, Process, Raw, check_inverted, fill};

use crate::outcome::Outcome;
use crate::role;
use crate::scale::Trial;

/// Where the sequences begin: 16 before 2^32, and 16 before the wrap of the 56 bits, which is that of the word's 64.
const BEGINNINGS: [u64; 2] = [(1 << 32) - 16, (1 << 56) - 16];
/// A request that begins so takes its time.
const SLOW: u8 = 0xee;
const SLOTS: usize = 4;

/// Tries G16.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let mut findings = Vec::new();
    let steps = words(&mut findings);
    let rounds: u64 = trial.pick(40, 400, 20_000);
    let mut calls = 0;
    for begin in BEGINNINGS {
        for wait in ["adaptive", "park", "spin"] {
            match workload(begin, wait, rounds, trial.seed) {
                Ok(made) => calls += made,
                Err(why) => findings.push(format!("sequences that begin after {begin:#x}, server {wait}: {why}")),
            }
        }
    }
    let figure = format!(
        "{steps} steps of the words across 2^32 and 2^56; {calls} calls of processes across both: in turn, four at a \
         time, \
         given up, killed, by hand; adaptive, parking, spinning"
    );
    Ok(Outcome::of(figure, findings))
}

/// The pure part: both sides' numbers follow each other across the wrap, and nothing else is taken for the next.
fn words(findings: &mut Vec<String>) -> u64 {
    const MASK: u64 = u64::MAX >> 8;
    let mut steps = 0;
    for begin in BEGINNINGS {
        let (mut sequence, mut expected) = (begin, Expected::after(begin));
        let word = AtomicU64::new(begin << 8);
        for step in 1..=64 {
            let turn_before = slot::load(&word);
            sequence = slot::next_sequence(sequence);
            slot::pass_to_server(&word, sequence);
            let turn = slot::load(&word);
            let right = begin.wrapping_add(step) & MASK;
            let stale = [right ^ 1 << 32, right.wrapping_sub(1) & MASK, right.wrapping_add(1) & MASK];
            let takes_stale = stale.iter().any(|&stale| {
                let word = AtomicU64::new(0);
                slot::pass_to_server(&word, stale);
                expected.is(slot::load(&word))
            });
            if sequence != right
                || turn.sequence() != right
                || !expected.is(turn)
                || expected.is(turn_before)
                || takes_stale
            {
                findings.push(format!(
                    "{step} steps after {begin:#x}: {turn:?}, expected {expected:?}, right is {right:#x}"
                ));
                break;
            }
            expected = expected.next();
            if expected.taken() != right || slot::pass_to_client(&word, sequence) != turn {
                findings.push(format!("{step} steps after {begin:#x}: taken is {:#x}", expected.taken()));
            }
            steps += 1;
        }
    }
    steps
}

/// Real processes across a wrap; how many calls were made.
fn workload(begin: u64, wait: &str, rounds: u64, seed: u64) -> Result<u64, String> {
    let ground = Ground::new();
    let path = ground.socket();
    let text = |path: &Path| path.to_str().expect("a path of ours").to_owned();
    let begin_text = begin.to_string();
    let mut server = role::start("wrap-server", [text(&path), begin_text.clone(), wait.to_owned()]);
    server.expect("ready");
    let client = |way: &str| {
        let arguments = [text(&path), begin_text.clone(), way.to_owned(), rounds.to_string(), seed.to_string()];
        role::start("wrap-client", arguments)
    };
    // One that is killed in the midst costs nobody else anything.
    let mut victim = client("adaptive");
    victim.try_hear();
    victim.kill();
    let mut made = 0;
    let clients: Vec<(&str, Process)> =
        ["adaptive", "park", "spin"].map(|way| (way, client(way))).into_iter().collect();
    for (way, client) in clients {
        client.try_hear(); // that it has begun
        match client.try_hear() {
            Some(line) => made += line.parse::<u64>().map_err(|_| format!("a client, {way}: {line}"))?,
            None => return Err(format!("a client, {way}, broke off")),
        }
        client.join();
    }
    made += by_hand(&path, begin)?;
    server.tell("stop");
    server.join();
    Ok(made)
}

/// A client by hand counts for itself: what it passes is taken in the right order, and nothing else is.
fn by_hand(path: &Path, begin: u64) -> Result<u64, String> {
    const MASK: u64 = u64::MAX >> 8;
    let raw = Raw::connect(path);
    for step in 1..=40u64 {
        let sequence = begin.wrapping_add(step) & MASK;
        if raw.call(0, sequence, &[step as u8; 20]) != [!(step as u8); 20] {
            return Err(format!("by hand, call {step}: another answer"));
        }
    }
    // The sequence that 32 bits could not tell from the next one.
    let next = begin.wrapping_add(41) & MASK;
    raw.pass(0, (next ^ 1 << 32) << 8 | wigwag_testing::SERVER, wigwag_testing::REQUEST | 4);
    let (reason, why) = raw.end();
    match reason {
        wigwag_testing::wire::VIOLATION => Ok(40),
        _ => Err(format!("by hand, a sequence 2^32 away: ended for {reason}, {why}")),
    }
}

fn way_of(text: &str) -> Wait {
    match text {
        "park" => Wait::Park,
        "spin" => Wait::Spin,
        _ => Wait::Adaptive,
    }
}

/// The role of the server.
pub fn play_server(parent: &Link, arguments: &[&str]) {
    let [path, begin, wait] = arguments else { panic!("a path, a sequence, a way to wait") };
    slot::begin_after(begin.parse().expect("a sequence"));
    let builder = Server::builder().slots(SLOTS).capacity(8192).wait(way_of(wait));
    let mut server = builder.bind(path).expect("a server");
    let stop = server.shutdown_handle();
    parent.tell("ready");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            parent.hear();
            stop.shutdown();
        });
        let handler = |request: &mut wigwag::Request| {
            if request.first() == Some(&SLOW) {
                std::thread::sleep(Duration::from_millis(3));
            }
            request.iter_mut().for_each(|byte| *byte = !*byte);
        };
        server.serve_on(2, handler).expect("served to the end");
    });
}

/// The role of a client: says that it has begun, and in the end how many calls it made or what went wrong.
pub fn play_client(parent: &Link, arguments: &[&str]) {
    let [path, begin, wait, rounds, seed] = arguments else { panic!("five arguments") };
    slot::begin_after(begin.parse().expect("a sequence"));
    let (rounds, seed) = (rounds.parse().expect("a number"), seed.parse().expect("a seed"));
    let said = match exchange(path, way_of(wait), rounds, seed, || parent.tell("begun")) {
        Ok(calls) => calls.to_string(),
        Err(error) => format!("{error}"),
    };
    parent.tell(said);
}

fn exchange(path: &str, wait: Wait, rounds: u64, seed: u64, begun: impl Fn()) -> wigwag::Result<u64> {
    let client = Client::builder().wait(wait).connect(path)?;
    let mut calls = 0;
    for round in 0..rounds {
        if round == 3 {
            begun();
        }
        let seed = wigwag_testing::word(seed, round);
        // In turn, in the line and in the body.
        for len in [seed % 49, seed % 8000] {
            let mut loan = client.loan(len as usize)?;
            fill(&mut loan, seed);
            if let Some(first) = loan.first_mut().filter(|first| **first == SLOW) {
                *first = 0; // it is quick
                drop(loan);
                continue;
            }
            check_inverted(&loan.call()?, len as usize, seed);
            calls += 1;
        }
        // Four at a time, answered in whatever order they are waited for.
        let mut pending = Vec::new();
        for slot in 0..SLOTS {
            let mut loan = client.loan(16)?;
            loan.fill(slot as u8);
            pending.push((slot, loan.send()?));
        }
        for (slot, reply) in pending.into_iter().rev() {
            assert_eq!(&reply.wait()?[..], [!(slot as u8); 16]);
            calls += 1;
        }
        // Given up: the slot comes back by itself, with its next sequence.
        if round.is_multiple_of(4) {
            match client.call_timeout(&[SLOW; 4], Duration::from_micros(200)) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => {}
                Err(error) => return Err(error),
            }
            calls += 1;
        }
    }
    Ok(calls)
}
