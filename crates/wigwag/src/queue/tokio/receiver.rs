//! The receiver of a queue, for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use crate::error::{Error, Result};
use crate::queue::delivery::{Batch, Delivery};
use crate::queue::receiver::{self, ReceiverBuilder};
use crate::service::handles::ShutdownHandle;
use crate::service::polling_backoff::PollingBackoff;
use crate::service::worker::Next;
use crate::stats::ReceiverStats;
use crate::sys::async_fd::{Watched, check_runtime, watch};
use crate::wait::readiness::poll_ring;

/// Takes a name, and gives out what senders send there, to a task. They may be blocking or not.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let mut receiver = wigwag::tokio::Receiver::bind(name)?;
/// let mut sender = wigwag::tokio::Sender::connect(name).await?;
/// sender.send(b"hello").await?;
/// let message = receiver.recv().await?;
/// assert_eq!(message[..], *b"hello");
/// message.ack();                            // or dropped; until then it is kept
/// # wigwag::Result::Ok(()) })?;
/// # wigwag::Result::Ok(())
/// ```
///
/// All that the [blocking receiver](crate::Receiver) promises holds. A [`Delivery`] may go to any task or thread, and
/// to give it back never waits. **Dropping a future** of any call loses nothing: a message is taken only when the call
/// returns with it.
///
/// One task at a time receives (`&mut self`); it hands the deliveries on to as many as it likes.
pub struct Receiver {
    readiness: Watched<OwnedFd>,
    receiver: receiver::Receiver,
    polling_backoff: PollingBackoff,
}

impl Receiver {
    /// Takes a name with the default policy (senders of the same user) and limits.
    ///
    /// # Errors
    /// As [`Receiver::bind`](crate::Receiver::bind); [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration)
    /// outside of a runtime.
    ///
    /// # Panics
    /// If the runtime's input and output are not enabled: tokio panics.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let receiver = wigwag::tokio::Receiver::bind(name)?;
    /// assert_eq!(wigwag::tokio::Receiver::bind(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Receiver> {
        Receiver::builder().bind_async(name)
    }

    /// A receiver with a policy or limits of its own, for [`bind_async`](ReceiverBuilder::bind_async): the builder of
    /// the blocking one.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let receiver = wigwag::tokio::Receiver::builder().slots(16).bind_async(name)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn builder() -> ReceiverBuilder {
        receiver::Receiver::builder()
    }

    /// Makes a blocking receiver one for a task.
    ///
    /// # Errors
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime;
    /// [`Io`](crate::ErrorKind::Io).
    ///
    /// # Panics
    /// As [`bind`](Receiver::bind).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let receiver = wigwag::tokio::Receiver::from_blocking(wigwag::Receiver::bind(name)?)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn from_blocking(mut receiver: receiver::Receiver) -> Result<Receiver> {
        let (worker, _) = receiver.leadership()?;
        let readiness = watch(worker.for_reactor()?)?;
        Ok(Receiver { readiness, receiver, polling_backoff: PollingBackoff::default() })
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// As [`Receiver::recv`](crate::Receiver::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// wigwag::tokio::Sender::connect(name).await?.send(b"hello").await?;    // dropped, and received all the same
    /// assert_eq!(receiver.recv().await?[..], *b"hello");
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn recv(&mut self) -> Result<Delivery> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`recv`](Receiver::recv), for a future or a stream of one's own: the task of `context` is woken when there
    /// may be a message.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// wigwag::tokio::Sender::connect(name).await?.send(b"hello").await?;
    /// let message = std::future::poll_fn(|context| receiver.poll_recv(context)).await?;
    /// assert_eq!(message[..], *b"hello");
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Delivery>> {
        // Cooperative budget: a receiver that always finds a message must still let other tasks run.
        let budget = ready!(coop::poll_proceed(context));
        let (worker, received) = self.receiver.leadership()?;
        loop {
            match self.polling_backoff.next(worker, true)? {
                Next::Request => {
                    budget.made_progress();
                    return Poll::Ready(Ok(received.hand_out(worker)));
                }
                Next::Shutdown => return Poll::Ready(Err(receiver::closed())),
                Next::Nothing => {
                    ready!(poll_ring(&self.readiness, context))
                        .map_err(|error| Error::io("wait for a message", error))?;
                    worker.listen()?;
                }
            }
        }
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// assert!(receiver.try_recv()?.is_none());
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<Delivery>> {
        self.receiver.try_recv()
    }

    /// Waits for a message, and takes along what else is there: 1 to `most` messages.
    ///
    /// # Errors
    /// As [`Receiver::recv_batch`](crate::Receiver::recv_batch).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let mut sender = wigwag::tokio::Sender::connect(name).await?;
    /// sender.send_batch(["one", "two"]).await?;
    /// let batch = receiver.recv_batch(10).await?;
    /// assert_eq!(batch.len(), 2);
    /// batch.ack();
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn recv_batch(&mut self, most: usize) -> Result<Batch> {
        receiver::check_batch(most)?;
        let first = self.recv().await?;
        Ok(self.receiver.fill_batch(first, most))
    }

    /// A handle that ends this receiver from anywhere: what was sent before is still received, and then comes
    /// [`ServerClosed`](crate::ErrorKind::ServerClosed).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// receiver.shutdown_handle().shutdown();
    /// let error = receiver.recv().await.unwrap_err();
    /// assert!(matches!(error.kind(), wigwag::ErrorKind::ServerClosed { .. }));
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.receiver.shutdown_handle()
    }

    /// What has happened so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Receiver::bind(name)?.stats().received, 0);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn stats(&self) -> ReceiverStats {
        self.receiver.stats()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Receiver::bind(name)?.path(), name);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn path(&self) -> &Path {
        self.receiver.path()
    }
}

impl ReceiverBuilder {
    /// Binds for a task: as [`bind`](ReceiverBuilder::bind), with a [`tokio::Receiver`](Receiver).
    ///
    /// # Errors
    /// As [`Receiver::bind`].
    ///
    /// # Panics
    /// As [`Receiver::bind`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let receiver = wigwag::Receiver::builder().capacity(1 << 20).bind_async(name)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn bind_async(self, name: impl AsRef<OsStr>) -> Result<Receiver> {
        check_runtime()?; // before the name is taken
        Receiver::from_blocking(self.bind(name)?)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.fmt(out)
    }
}
