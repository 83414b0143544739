//! The parties of a broadcast, and what must hold of them.
//!
//! ```text
//! model       what is known of each message, and the account that a subscriber keeps
//! publisher   its publishers, one after the other, or one that replaces another: blocking, for tasks
//! subscriber  its subscribers: blocking, for tasks
//! generate    generated: their sizes, their steps, and what is done to them
//! ```

mod generate;
mod model;
mod publisher;
mod subscriber;

pub use generate::parties;
pub use publisher::host;
pub use subscriber::guest;
