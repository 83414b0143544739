//! Messages to everybody, for tasks.

mod publisher;
mod subscriber;

pub use publisher::Publisher;
pub use subscriber::Subscriber;
