//! Broadcasts: publishers and subscribers killed and stopped at random moments under load. Nothing is torn, nothing is
//! lost in silence, and nobody keeps a publisher waiting.
//!
//! ```text
//! readers     subscribers killed and stopped, that read in place and by copies; who lives is told of everything
//! writers     publishers killed; who follows has read all that was published, or was told of it
//! crowd       a thousand subscribers in several processes, all but one of them stopped, holding messages
//! reader      what a subscriber's process does; a message is known by its number to the last byte
//! ```
//!
//! Goal G31.

use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role::Play;
use crate::scale::Trial;

mod crowd;
mod reader;
mod readers;
mod writers;

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G31",
    name: "broadcasts",
    title: "broadcasts: publishers and subscribers killed and stopped; a thousand subscribers, all but one stopped",
    limit_s: [120, 400, 4 * 3600],
    run,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    ("broadcast-reader", reader::play),
    ("broadcast-writer", writers::play_writer),
    ("broadcast-follower", writers::play_follower),
    ("broadcast-crowd", crowd::play),
];

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let mut findings = Vec::new();
    let figures =
        [readers::run(trial, &mut findings)?, writers::run(trial, &mut findings)?, crowd::run(trial, &mut findings)?];
    findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    Ok(Outcome::of(format!("{}; seed {}", figures.join("; "), trial.seed), findings))
}
