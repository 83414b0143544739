//! The same forms for programs on [tokio]: nothing here blocks a thread, and nothing polls with a timer.
//!
//! Needs the feature `tokio`. Types have the names of the blocking ones and speak the same protocol over the same memory: one
//! side of a session may be blocking and the other asynchronous. What waits is a task: the epoll descriptor in which a
//! blocking caller would sleep is given to tokio's own reactor, so idle costs nothing, and a ring or the other side's death
//! wakes the task. Both runtimes will do, the current-thread and the multi-thread one, if their input and output are
//! enabled (`enable_io`, `enable_all`).
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let listener = wigwag::tokio::StreamListener::bind(name)?;
//! let mut client = wigwag::tokio::Stream::connect(name).await?;
//! let mut server = listener.accept().await?;
//! client.write_all(b"hello").await?;
//! client.shutdown().await?;
//! let mut text = String::new();
//! server.read_to_string(&mut text).await?;
//! assert_eq!(text, "hello");
//! # std::io::Result::Ok(()) })?;
//! # std::io::Result::Ok(())
//! ```
//!
//! [tokio]: https://tokio.rs

mod abstinence;
mod client;
mod loan;
mod server;
mod session;
mod stream;
mod stream_halves;
mod stream_listener;
mod waiting;

pub use client::Client;
pub use loan::{Loan, Pending, Reply};
pub use server::Server;
pub use stream::Stream;
pub use stream_halves::{ReadHalf, WriteHalf};
pub use stream_listener::{Incoming, StreamListener};
