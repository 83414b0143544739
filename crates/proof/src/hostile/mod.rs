//! Hostile peers: memory and messages of arbitrary bytes, in process and from a live attacker.
//!
//! Goals G6 G7 G8 G21.

pub mod client_memory;
mod dice;
mod memory;
pub mod messages;
mod patience;
pub mod server_memory;

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G6",
    title: "hostile memory and messages, in process",
    limit_s: [120, 300, 14_400],
    run: memory::run,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
