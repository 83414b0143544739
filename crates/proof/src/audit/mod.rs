//! Audits: what is read twice, what old and foreign peers meet, and whether the tests notice a changed validator.
//!
//! Goals G9 G23 G24.

use crate::goals::Goal;
use crate::role::Play;

pub mod versions;

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G23",
    title: "foreign peers: versions, bytes, a client in C",
    limit_s: [120, 120, 600],
    run: versions::run,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
