//! Hostile peers: memory and messages of arbitrary bytes, in process and from a live attacker.
//!
//! Goals G6 G7 G8 G21.

pub mod client_memory;
pub mod dice;
mod fuzz;
pub mod fuzzed;
mod kept;
mod live;
mod memory;
pub mod messages;
mod polling;
pub mod server_memory;
mod simulation;

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[
    Goal {
        id: "G6",
        name: "hostile-memory",
        title: "hostile memory and messages, in process",
        limit_s: [120, 300, 14_400],
        run: memory::run,
    },
    Goal {
        id: "G7",
        name: "live-attackers",
        title: "live attackers beside honest clients",
        limit_s: [120, 300, 40_000],
        run: live::run,
    },
    Goal {
        id: "G8",
        name: "fuzzing",
        title: "coverage-guided fuzzing with ASan",
        limit_s: [120, 1200, 2400],
        run: fuzz::run,
    },
    Goal {
        id: "G21",
        name: "simulation",
        title: "seeded simulation against a model",
        limit_s: [120, 300, 30_000],
        run: simulation::run,
    },
];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = live::ROLES;
