//! Queues: senders and receivers are killed at random under load, and killed, stopped and lied to at every step of what
//! they do. What was committed is received, in order, and what comes again is marked.
//!
//! ```text
//! steps    killed, stopped, lied to at each point of each operation, on either side
//! kept     the same with a keeper and kills only: the other side goes, too, and the next receiver gets all
//! storm    receivers, senders, both killed at random
//! workers  receivers that share a name killed at random, and a single one, under senders that make no call
//! ```
//!
//! Goal G25.

use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role::Play;
use crate::scale::Trial;

mod kept;
mod steps;
pub mod storm;
mod workers;

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G25",
    name: "queues",
    title: "queues: either side killed, stopped and lied to",
    limit_s: [150, 500, 86_400],
    run,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    ("queue-victim", steps::play),
    ("queue-receivers", storm::play_receivers),
    ("queue-senders", storm::play_senders),
    ("queue-workers", workers::play_workers),
    ("queue-idle-senders", workers::play_senders),
];

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let mut findings = Vec::new();
    // The walks keep to one processor; the storm shall have all that this process was given.
    let processors = rustix::thread::sched_getaffinity(None)?;
    let mut figures = vec![steps::run(trial, &mut findings)?, kept::run(trial, &mut findings)?];
    rustix::thread::sched_setaffinity(None, &processors)?;
    if findings.is_empty() {
        figures.push(storm::run(trial, &mut findings)?); // it would find the same once more
    }
    if findings.is_empty() {
        figures.push(workers::run(trial, &mut findings)?);
    }
    findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    Ok(Outcome::of(format!("{}; seed {}", figures.join("; "), trial.seed), findings))
}
