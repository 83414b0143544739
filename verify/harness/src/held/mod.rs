//! What others can make a server hold, and whether those who behave notice.
//!
//! ```text
//! attacks     G29    each attack beside honest clients: its bounds, their times, and what is left afterwards
//! attacker           the processes of other users, those who are let in and those who are not
//! carrier            one that sends descriptors in every state of a connection
//! honest             clients that call and that connect, and how long that takes
//! ```

mod attacker;
mod attacks;
mod carrier;
mod honest;

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G29",
    name: "resource-exhaustion",
    title: "what other users can make a server hold",
    limit_s: [120, 180, 1800],
    run: attacks::held,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[("held-attacker", attacker::play)];
