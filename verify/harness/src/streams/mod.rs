//! Streams: an end is killed or stopped at every step of what it does, lied to after every instruction, handed a ring
//! full of lies, and killed at random under load. Whatever was received is exact, and nothing that was cut off looks
//! whole.
//!
//! ```text
//! storm    ends killed at random: writers, readers, those that connected and those that accepted
//! lies     arbitrary words in a ring, against a plain model of what may be made of them
//! steps    killed, stopped, lied to at each point of each operation, on either side
//! pattern  bytes that say where in which stream they belong
//! ```
//!
//! Goal G26.

use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role::Play;
use crate::scale::Trial;

mod lies;
mod pattern;
mod steps;
mod storm;

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G26",
    name: "streams",
    title: "streams: ends killed, stopped and lied to",
    limit_s: [150, 400, 86_400],
    run,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] =
    &[("stream-victim", steps::play), ("stream-keeper", storm::play_keeper), ("stream-killer", storm::play_killer)];

/// Tries something, adds what it finds, and says in a line what was done.
type Part = fn(&Trial, &mut Vec<String>) -> anyhow::Result<String>;

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let (mut figures, mut findings) = (Vec::new(), Vec::new());
    // The walks come last: they keep to one processor from then on.
    let parts: [Part; 3] = [storm::run, lies::run, steps::run];
    for part in parts {
        figures.push(part(trial, &mut findings)?);
        if !findings.is_empty() {
            break; // what follows would find the same once more
        }
    }
    findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    Ok(Outcome::of(format!("{}; seed {}", figures.join("; "), trial.seed), findings))
}
