//! Models: every order of steps, with a crash at any of them; and numbers that are about to wrap.
//!
//! Goals G16 G18 G19 G20.

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
