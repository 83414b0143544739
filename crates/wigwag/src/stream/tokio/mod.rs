//! Bytes both ways, for tasks.

#[cfg(feature = "axum")]
mod axum;
mod listener;
mod split;
mod stream;
#[cfg(feature = "tonic")]
mod tonic;
mod watch;

#[cfg(feature = "axum")]
pub use axum::StreamAddress;
pub use listener::{Incoming, StreamListener};
pub use split::{ReadHalf, ReuniteError, WriteHalf};
pub use stream::Stream;
