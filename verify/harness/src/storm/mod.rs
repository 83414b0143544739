//! Storms: processes are killed at random under load, and everybody else checks every byte.
//!
//! ```text
//! clients_killed   G1    clients die; four steady ones and the server must not notice
//! servers_killed   G2    servers die; eight clients must learn of it, and come back
//! deaths_noticed   G10   how long it takes until the other side knows
//! permits_killed   G18   holders and waiters of semaphores die; no permit is lost or had twice
//! soak             G22   all of it together, for as long as there is time: nothing grows
//!
//! killer  victim   raises processes and kills them; what they do until then
//! lives  faithful  one server after another at the same name; the clients that come back
//! service  steady  the server that checks each request; the clients that check each reply
//! world            where a storm takes place: a directory and a board
//! board  ledger    words that all its processes share; which request was executed, which acknowledged
//! parcel           requests that tell whose they are, with a pattern to the last byte
//! watch            what a process holds, and that it holds no more in the end
//! family  dice  figures
//! ```

mod clients_killed;
mod deaths_noticed;
pub mod dice;
mod faithful;
pub mod family;
pub mod figures;
mod killer;
pub mod ledger;
mod lives;
pub mod parcel;
pub mod permits_killed;
pub mod scoreboard;
mod servers_killed;
mod service;
pub mod soak;
mod steady;
mod victim;
pub mod watch;
pub mod world;

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] =
    &[clients_killed::GOAL, servers_killed::GOAL, deaths_noticed::GOAL, permits_killed::GOAL, soak::GOAL];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    ("storm_server", service::play),
    ("storm_steady", steady::play),
    ("storm_killer", killer::play),
    ("storm_victim", victim::play),
    ("storm_lives", lives::play),
    ("storm_faithful", faithful::play),
    ("storm_deaths", deaths_noticed::play_deaths),
    ("storm_watch", deaths_noticed::play_watch),
    ("storm_permits", permits_killed::play_killer),
    ("storm_patient", permits_killed::play_patient),
    ("storm_waiting", deaths_noticed::play_waiting),
];
