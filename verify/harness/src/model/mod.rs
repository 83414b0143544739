//! Models: every order of steps, with a crash at any of them; and numbers that are about to wrap.
//!
//! Goals G16 G19 G20.
//!
//! ```text
//! counters    G16   numbers that are about to wrap
//! exhaustive  G19   the models in all their settings
//! handshake         from HELLO to the end
//! turns             whose turn a slot is
//! sleeping          who sleeps, who rings, who hears of a death
//! explore           explores a model to its end, and injects faults in it
//! weak_memory G20   the same and more under loom
//! ```

use crate::goals::Goal;
use crate::role::Play;

pub mod counters;
pub mod exhaustive;
pub mod explore;
pub mod handshake;
pub mod sleeping;
pub mod turns;
pub mod weak_memory;

/// The goals of this part.
pub const GOALS: &[Goal] = &[
    Goal {
        id: "G16",
        name: "wrapping-counters",
        title: "numbers that are about to wrap",
        limit_s: [120, 180, 1800],
        run: counters::run,
    },
    Goal {
        id: "G19",
        name: "every-order",
        title: "every order of steps, with a crash at any of them",
        limit_s: [240, 300, 7200],
        run: exhaustive::run,
    },
    Goal {
        id: "G20",
        name: "weak-memory",
        title: "every order that the memory model allows",
        limit_s: [60, 1800, 9000],
        run: weak_memory::run,
    },
];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    ("wrap-server", counters::play_server),
    ("wrap-client", counters::play_client),
    ("weak-memory", weak_memory::play),
];
