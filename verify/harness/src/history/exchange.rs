//! The parties of an exchange, and what must hold of them.
//!
//! ```text
//! model     what a request asks for, what was said of each call, and what that must agree with
//! server    its servers: blocking, typed, for tasks
//! client    its clients: likewise
//! ```

mod client;
mod model;
mod server;

pub use client::guest;
pub use model::judge;
pub use server::host;
