//! Restarts: servers are killed or replaced, and the calls of clients that follow go on at the next one.
//!
//! ```text
//! killed      G30    servers killed at random moments; each call is answered or told, and none is executed twice
//! replaced           servers replaced, with kills and stops of either side meanwhile; nobody is turned away
//! kept               queues with a keeper: both sides and the keeper killed, nothing lost, all marked
//! steps              an heir or its holder killed at every step of a takeover
//! follower           the clients, and what became of each of their calls
//! newcomer           clients that come, call once and leave
//! service            the server, which writes what it executes into a file
//! company            the clients' processes, and the comparison of what they tell with that file
//! account            what they tell
//! ```

mod account;
mod company;
mod follower;
mod kept;
mod killed;
mod newcomer;
mod replaced;
mod service;
mod steps;

use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role::Play;
use crate::scale::Trial;

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G30",
    name: "restarts",
    title: "servers killed, or replaced, and started again; the calls of clients that follow go on; kept queues",
    limit_s: [90, 300, 4 * 3600],
    run,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    ("restarts_service", service::play),
    ("restarts_follower", follower::play),
    ("restarts_newcomer", newcomer::play),
    ("restarts_victim", steps::play),
    ("restarts_keeper", kept::play_keeper),
    ("restarts_kept_worker", kept::play_worker),
    ("restarts_kept_sender", kept::play_sender),
    ("restarts_mover", kept::play_mover),
];

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let mut findings = Vec::new();
    let killed = killed::run(trial, &mut findings);
    let replaced = replaced::run(trial, &mut findings);
    let kept = kept::run(trial, &mut findings);
    let steps = if findings.is_empty() { steps::run(trial, &mut findings)? } else { "no steps".to_owned() };
    findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    Ok(Outcome::of(format!("{killed}; {replaced}; {kept}; {steps}; seed {}", trial.seed), findings))
}
