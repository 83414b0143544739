//! Crowds and limits: many who connect, who never finish, who hold every descriptor, memory that ends, numbers used again.
//!
//! Goals G11 G12 G13 G14 G17.

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[];
