//! The parties of an exchange, and what must hold of them.
//!
//! ```text
//! model       what a request asks for, what was said of each call, and what that must agree with
//! cargo       the descriptors that travel with it
//! far_errors  the errors that a server passes on
//! server      its servers: blocking, typed, for tasks
//! client      its clients: likewise
//! version_1   one of the previous protocol, by hand
//! ```

mod cargo;
mod client;
mod far_errors;
mod model;
mod server;
mod version_1;

pub use model::judge;
pub use server::host;

use crate::history::act::Actor;

/// A client.
pub fn guest(actor: &Actor) {
    if actor.party().is_of_version_1 { version_1::guest(actor) } else { client::guest(actor) }
}
