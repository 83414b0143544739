//! At every step: an operation is walked instruction by instruction, and at each point where shared memory changes or a
//! system call begins or ends, something terrible happens.
//!
//! Goals G3 G4 G5 G15.

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
