//! Storms: processes are killed at random under load, and everybody else checks every byte.
//!
//! Goals G1 G2 G10 G22.

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
