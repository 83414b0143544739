//! The same forms for programs on [tokio]: nothing here blocks a thread, and nothing polls with a timer.
//!
//! Needs the feature `tokio`. Types have the names of the blocking ones and speak the same protocol over the same
//! memory: one side of a session may be blocking and the other asynchronous. What waits is a task: the epoll descriptor
//! in which a blocking caller would sleep is given to tokio's own reactor, so idle costs nothing, and a ring or the
//! other side's death wakes the task. The one exception is [`Semaphore`]: a futex can be watched by no reactor, so a
//! thread sleeps for its tasks while any waits. Both runtimes will do, the current-thread and the multi-thread one, if
//! their input and output are enabled (`enable_io`, `enable_all`).
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # let name = &wigwag_testing::temporary_name("s").path;
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
//! # A blocking call in a task
//! The blocking types put the thread to sleep that calls them, and with it all tasks that the thread would run. A call
//! that is answered within the spin of some microseconds does no harm; one that sleeps does. So a blocking call that is
//! about to sleep on a thread that runs a task is said in a warning through `tracing` (the first, the second, the
//! fourth time, and so on). It goes on all the same. Leave such calls to
//! [`spawn_blocking`](::tokio::task::spawn_blocking), where nothing is said.
//!
//! # Waiting
//! For a reply that may be nearer than a wake-up, and for the next request of a quick client, the task's thread spins
//! for up to some 50 microseconds, like a blocking one, as long as that pays; what was in vain puts off the next try,
//! twice as long each time. A stream's reader does not spin: it asks to be polled again once the runtime has nothing
//! else to do, for about as long as a wake-up takes. [`Wait::Park`](crate::Wait::Park) does neither;
//! [`Wait::Spin`](crate::Wait::Spin) is no different from the default here, because a thread of a runtime must not be
//! kept.
//!
//! [tokio]: https://tokio.rs

pub use crate::broadcast::tokio::{Publisher, Subscriber};
pub use crate::exchange::tokio::{
    Client, Loan, Pending, Reply, Server, TypedClient, TypedLoan, TypedPending, TypedReply, TypedServer,
};
#[cfg(feature = "tower")]
pub use crate::exchange::tokio::{ClientService, ResponseFuture};
pub use crate::queue::tokio::{Receiver, Sender, TypedReceiver, TypedSender};
pub use crate::semaphore::tokio::Semaphore;
#[cfg(feature = "axum")]
pub use crate::stream::tokio::StreamAddress;
pub use crate::stream::tokio::{Incoming, ReadHalf, ReuniteError, Stream, StreamListener, WriteHalf};
