//! Histories: sequences of the public API that a seed stands for, run against a plain model.
//!
//! The other goals try what somebody thought of. What is left is in the seams between features, and nobody lists those:
//! here a batch meets a shutdown, a message that was given back a dead sender, an abandoned call another runtime.
//!
//! ```text
//! plan       a history as a value: parties, and what each does, step by step
//! generate   one for each seed
//! additions  what the library has had since session protocol 2, put into half of them
//! run        its parties as threads and processes, a watch over them, the end
//! act        what every party can do; what a director does to others
//! dialect    what a payload is: bytes, a typed one, an encoded one
//! exchange  queue  stream  semaphore  broadcast    the parties of each form, and what must hold
//! stage      words that all parties share, across processes
//! shrink     the smallest history that still fails
//! ```
//!
//! Goal G27.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wigwag_testing::{Link, Process, word};

use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role::{self, Play};
use crate::scale::Trial;

mod act;
mod additions;
mod broadcast;
mod dialect;
mod exchange;
mod generate;
mod plan;
mod queue;
mod run;
mod semaphore;
mod shrink;
mod stage;
mod stream;

use generate::generate;
use plan::{FIRST_FORMS, FIRST_LATER_SEED, Form, History, LATER_FORMS};

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G27",
    name: "histories",
    title: "histories: sequences of calls that nobody thought of",
    limit_s: [300, 900, 86_400],
    run: try_all,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] =
    &[("history-worker", play_worker), ("history-party", run::play_party), ("history-one", play_one)];

/// How long nothing may happen in a history before it hangs.
const HANG: Duration = Duration::from_secs(20);
/// The same while a history is made smaller: one that takes longer is only not the smallest.
const HANG_SHRINKING: Duration = Duration::from_secs(6);
/// The longest that one run of a history may take which is replayed: it hangs, and what it holds does not go.
const ONE_MAX: Duration = Duration::from_secs(90);
/// Processes that run histories at a time.
const WORKERS: u64 = 4;
/// Different findings that are made smaller.
const SHRUNK_MAX: usize = 6;

/// Histories of a round: one of each of the first forms without additions, and one with them; and as many of the later
/// forms together as of two others.
const ROUND: u64 = 2 * FIRST_FORMS.len() as u64 + 2 * LATER_FORMS.len() as u64;

/// The seed of a history: which of the trial's, of which form, and whether it has additions or is a later one.
fn seed_of(trial: u64, index: u64) -> u64 {
    let (first_forms, later_forms) = (FIRST_FORMS.len() as u64, LATER_FORMS.len() as u64);
    let place = index % ROUND;
    let (first, forms) = match place / first_forms {
        0 => (0, first_forms),
        1 => (additions::FIRST_SEED, first_forms),
        _ => (FIRST_LATER_SEED, later_forms),
    };
    first + (word(trial, index) >> 32) * forms + place % forms
}

/// What one worker has to do: every so many-th history from one on.
struct Share {
    trial: u64,
    from: u64,
    end: u64,
    /// When no other one is begun any more.
    until: Instant,
}

/// A finding: of which history, the how-manieth that was, and what it is.
struct Found {
    seed: u64,
    index: u64,
    what: String,
}

fn try_all(trial: &Trial) -> anyhow::Result<Outcome> {
    raise_descriptors();
    let begin = Instant::now();
    if let Some(seed) = trial.history {
        return try_one(trial, seed);
    }
    let each = trial.histories.unwrap_or_else(|| trial.pick(150, 20_000, 2_000_000));
    let all = each * ROUND / 2;
    // An explicit number is taken as it is.
    let budget = Duration::from_secs(if trial.histories.is_some() { 80_000 } else { trial.pick(15, 150, 80_000) });
    let (found, run) = run_all(trial.seed, all, begin + budget);
    let seconds = begin.elapsed().as_secs_f64();
    let mut findings = Vec::new();
    let mut kinds: BTreeMap<String, (u64, Vec<&Found>)> = BTreeMap::new();
    for found in &found {
        let kind = format!("{:?}: {}", Form::of(found.seed), kind_of(&found.what));
        kinds.entry(kind).or_insert_with(|| (found.index, Vec::new())).1.push(found);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (first, _))| *first);
    let shrinking_until = Instant::now() + shrinking_time(trial);
    let shrunk = kinds.len().min(SHRUNK_MAX);
    for (place, (kind, (first, all_of_it))) in kinds.iter().enumerate() {
        let mut text = format!(
            "{} times, first in history {} (number {first}): {}\n",
            all_of_it.len(),
            all_of_it[0].seed,
            all_of_it[0].what
        );
        if place < shrunk {
            let until = share_of(shrinking_until, shrunk - place);
            text += &smallest(all_of_it[0].seed, kind, until).to_string();
        }
        text += &format!("again: cargo xtask prove --only G27 --history {}", all_of_it[0].seed);
        findings.push(text);
    }
    let figure = format!(
        "{run} histories of {all}, {each} of each form, and of queues as many again, in {seconds:.1} s, {} findings of \
         {} kinds; seed {}",
        found.len(),
        kinds.len(),
        trial.seed
    );
    Ok(Outcome::of(figure, findings))
}

/// How long findings are made smaller, all of them together.
fn shrinking_time(trial: &Trial) -> Duration {
    Duration::from_secs(trial.pick(12, 60, 600))
}

/// When the first of several has used up its share of the time until then.
fn share_of(until: Instant, several: usize) -> Instant {
    let now = Instant::now();
    now + until.saturating_duration_since(now) / u32::try_from(several.max(1)).unwrap_or(u32::MAX)
}

/// Many sessions need many descriptors.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A finding without what differs from one history to another.
fn kind_of(what: &str) -> String {
    let after_place = match what.split_once("): ") {
        Some((place, rest)) if place.starts_with("party ") => rest,
        _ => what,
    };
    let text: String = after_place.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    while text.contains("##") {
        text = text.replace("##", "#");
    }
    let end = text.char_indices().nth(60).map_or(text.len(), |(at, _)| at);
    text.truncate(end);
    text
}

/// Runs all histories of a trial, in several processes.
fn run_all(trial: u64, all: u64, until: Instant) -> (Vec<Found>, u64) {
    let (found, run) = (std::sync::Mutex::new(Vec::new()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (found, run) = (&found, &run);
            scope.spawn(move || {
                let part = all / WORKERS;
                let end = if worker + 1 == WORKERS { all } else { (worker + 1) * part };
                let share = Share { trial, from: worker * part, end, until };
                run.fetch_add(run_share(share, found), Ordering::Relaxed);
            });
        }
    });
    (found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner), run.into_inner())
}

/// How many were run. One share, in one process after the other: one that crashes or hangs is a finding, and the next
/// one goes on behind it.
fn run_share(share: Share, found: &std::sync::Mutex<Vec<Found>>) -> u64 {
    let Share { trial, mut from, end, until } = share;
    let begin = from;
    let note = |index: u64, what: String| {
        let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let seed = seed_of(trial, index);
        let kind = |seed: u64, what: &str| (Form::of(seed), kind_of(what));
        if !found.iter().any(|other: &Found| kind(other.seed, &other.what) == kind(seed, &what)) {
            // At once: a proof that is stopped early has it all the same.
            eprintln!("found in history {seed}: {what}");
        }
        found.push(Found { seed, index, what });
    };
    while from < end && Instant::now() < until {
        let left_ms = until.saturating_duration_since(Instant::now()).as_millis().to_string();
        let process = role::start("history-worker", [trial.to_string(), from.to_string(), end.to_string(), left_ms]);
        let mut at = from;
        let mut is_done = false;
        while let Some(line) = process.hear_at_last() {
            match line.split_once(' ') {
                Some(("begin", index)) => at = index.parse().unwrap_or(at),
                Some(("finding", what)) => note(at, what.to_owned()),
                Some(("stuck", _)) => break,
                _ => is_done = line == "done",
            }
            if is_done {
                break;
            }
        }
        from = at + 1;
        if is_done {
            break;
        }
        if let Some(how) = ended(process) {
            note(at, how);
        }
    }
    from - begin
}

/// How a process has ended that nobody has ended: a crash.
fn ended(mut process: Process) -> Option<String> {
    std::thread::sleep(Duration::from_millis(50));
    match process.child.try_wait() {
        Ok(Some(status)) if !status.success() => Some(format!("the process of the history ended: {status}")),
        _ => None,
    }
}

fn play_worker(link: &Link, arguments: &[&str]) {
    let numbers: Vec<u64> = arguments.iter().map(|number| number.parse().expect("a number")).collect();
    let [trial, from, end, left_ms] = numbers[..] else { panic!("{arguments:?}") };
    let begin = Instant::now();
    for index in from..end {
        if begin.elapsed() > Duration::from_millis(left_ms) {
            break;
        }
        link.tell(format!("begin {index}"));
        let told = run::run(&generate(seed_of(trial, index)), HANG);
        told.findings.iter().for_each(|finding| link.tell(format!("finding {finding}")));
        if told.is_stuck {
            link.tell("stuck here");
            std::process::exit(0);
        }
    }
    link.tell("done");
}

/// Runs one history in this process, for who makes it smaller.
fn play_one(link: &Link, arguments: &[&str]) {
    let [json] = arguments else { panic!("{arguments:?}") };
    let history: History = serde_json::from_str(json).expect("a history");
    let told = run::run(&history, HANG_SHRINKING);
    told.findings.iter().for_each(|finding| link.tell(format!("finding {finding}")));
    link.tell("done");
    std::process::exit(0);
}

/// What one run of a history in a process of its own finds until then.
fn findings_of(history: &History, until: Instant) -> Vec<String> {
    let json = serde_json::to_string(history).expect("a history is plain data");
    let process = role::start("history-one", [json]);
    let mut findings = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !process.has_said_something(left).unwrap_or(true) {
            return findings; // the process is killed as it is dropped
        }
        let Some(line) = process.hear_at_last() else { break };
        match line.strip_prefix("finding ") {
            Some(finding) => findings.push(finding.to_owned()),
            None => return findings,
        }
    }
    findings.extend(ended(process));
    findings
}

/// The smallest history found until then in which the same kind of thing goes wrong.
fn smallest(seed: u64, kind: &str, until: Instant) -> History {
    let fails = |history: &History| {
        findings_of(history, until).iter().any(|what| format!("{:?}: {}", history.form, kind_of(what)) == kind)
    };
    shrink::shrink(&generate(seed), until, fails)
}

/// Replays one history.
fn try_one(trial: &Trial, seed: u64) -> anyhow::Result<Outcome> {
    let (times, limit) = (trial.pick(60, 100, 500), Duration::from_secs(trial.pick(8, 60, 600)));
    let history = generate(seed);
    eprintln!("{history}");
    let mut kinds: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let begin = Instant::now();
    for _ in 0..times {
        // One that hangs needs no more tries.
        if !kinds.is_empty() && begin.elapsed() > limit {
            break;
        }
        for what in findings_of(&history, Instant::now() + ONE_MAX) {
            let kind = format!("{:?}: {}", history.form, kind_of(&what));
            if !kinds.contains_key(&kind) {
                eprintln!("found: {what}");
            }
            kinds.entry(kind).or_insert((0, what)).0 += 1;
        }
    }
    let shrinking_until = Instant::now() + shrinking_time(trial);
    let findings = kinds
        .iter()
        .enumerate()
        .map(|(place, (kind, (count, what)))| {
            let until = share_of(shrinking_until, kinds.len() - place);
            format!("{count} times: {what}\n{}", smallest(seed, kind, until))
        })
        .collect();
    Ok(Outcome::of(format!("history {seed}, {times} times:\n{history}"), findings))
}
