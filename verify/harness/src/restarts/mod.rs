//! Restarts: servers are killed, and the calls of clients that follow go on at the next one.
//!
//! ```text
//! killed      G30    servers killed at random moments; each call is answered or told, and none is executed twice
//! follower           the clients, and what became of each of their calls
//! service            the server, which writes what it executes into a file
//! ```

mod follower;
mod killed;
mod service;

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G30",
    name: "restarts",
    title: "servers killed and started again; the calls of clients that follow go on",
    limit_s: [90, 300, 4 * 3600],
    run: killed::run,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[("restarts_service", service::play), ("restarts_follower", follower::play)];
