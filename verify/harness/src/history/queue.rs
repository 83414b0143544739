//! The parties of a queue, and what must hold of them.
//!
//! ```text
//! model       what is known of each message, and what its sender and receivers must be told
//! receiver    its receivers, one after the other or side by side: blocking, for tasks, and one that lies
//! sender      its senders: blocking, for tasks
//! keeper      who has what both leave
//! company     generated: several of them, and what is done to them
//! ```

mod company;
mod keeper;
mod model;
mod receiver;
mod sender;

pub use company::company;
pub use keeper::keeper;
pub use model::judge;
pub use receiver::{collect, host};
pub use sender::guest;
