//! The parties of a queue, and what must hold of them.
//!
//! ```text
//! model       what is known of each message, and what its sender and receivers must be told
//! receiver    its receivers, one after the other: blocking, for tasks, and one that lies
//! sender      its senders: blocking, for tasks
//! ```

mod model;
mod receiver;
mod sender;

pub use model::judge;
pub use receiver::{collect, host};
pub use sender::guest;
