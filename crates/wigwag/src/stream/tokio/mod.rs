//! Bytes both ways, for tasks.

mod listener;
mod split;
mod stream;
mod watch;

pub use listener::{Incoming, StreamListener};
pub use split::{ReadHalf, WriteHalf};
pub use stream::Stream;
