//! Hostile peers: memory and messages of arbitrary bytes, in process and from a live attacker.
//!
//! Goals G6 G7 G8 G21.

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
