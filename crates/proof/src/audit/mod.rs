//! Audits: what is read twice, what old and foreign peers meet, and whether the tests notice a changed validator.
//!
//! Goals G9 G23 G24.

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
