//! Bytes both ways: two rings, each with one writer and one reader.
//!
//! ```text
//! writer                                         reader
//! room = size - (written - consumed)             ready = produced - read
//! if room == 0 { wait for room }                 if ready == 0 { wait for data }
//! copy into the ring                             lend or copy out of the ring
//! produced += n           one locked add ---->   consumed += n              one locked add
//! if reader.waits_for_data { notify it }         if a quarter is free and writer.waits_for_room { notify it }
//! ```
//!
//! Each side counts in private memory, and believes the other's counter only between what it was and what is possible.
//! Bit 0 of a counter says that its owner has closed, so the last count comes with the mark. An end without a mark is a
//! death: `ConnectionReset`, never an end of file.
//!
//! | part | where |
//! |---|---|
//! | one end, which never waits: memory, what the socket says, how it is over | [`endpoint`] |
//! | what it has for each direction | [`half`] |
//! | how a thread waits there | [`blocking`] |
//! | one direction, without waiting and with it | [`reader`], [`writer`] |
//! | blocking | [`stream`], [`split`], [`listener`] |
//! | tasks | `tokio` |
//!
//! docs/design/stream.md says when each end sleeps and what ends a stream.

mod blocking;
mod endpoint;
mod half;
mod listener;
mod reader;
mod split;
mod stream;
mod stream_builder;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod tokio;
mod writer;

pub use listener::{Incoming, StreamListener, StreamListenerBuilder};
pub use split::{ReadHalf, WriteHalf};
pub use stream::Stream;
pub use stream_builder::StreamBuilder;
