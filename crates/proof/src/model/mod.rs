//! Models: every order of steps, with a crash at any of them; and numbers that are about to wrap.
//!
//! Goals G16 G18 G19 G20.
//!
//! ```text
//! exhaustive  G19   the models in all their settings
//! handshake         from HELLO to the end
//! turns             whose turn a slot is
//! sleeping          who sleeps, who rings, who hears of a death
//! explore           explores a model to its end, and plants faults in it
//! ```

use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role::Play;

pub mod exhaustive;
pub mod explore;
pub mod handshake;
pub mod sleeping;
pub mod turns;

/// The goals of this part.
pub const GOALS: &[Goal] = &[
    Goal {
        id: "G18",
        title: "semaphores: holders and waiters killed",
        limit_s: [60, 60, 60],
        run: |_| Ok(Outcome::not_tried("there is no semaphore yet")),
    },
    Goal {
        id: "G19",
        title: "every order of steps, with a crash at any of them",
        limit_s: [240, 300, 7200],
        run: exhaustive::run,
    },
];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
