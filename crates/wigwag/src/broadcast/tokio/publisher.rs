//! The publishing side, for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::broadcast::publication::Publication;
use crate::broadcast::publisher::{self, PublisherBuilder, PublisherStats, SubscriberState};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::async_fd::{Watched, check_runtime, watch};
use crate::wait::readiness::poll_ring;

/// As the [blocking publisher](crate::Publisher), for tasks: only a publisher that waits for its subscribers
/// ([`Overrun::Wait`](crate::Overrun::Wait)) is any different. Subscribers may be blocking.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let mut publisher = wigwag::tokio::Publisher::bind(name)?;
/// let mut subscriber = wigwag::tokio::Subscriber::connect(name).await?;
/// publisher.send(b"1.07").await?;
/// assert_eq!(&subscriber.recv().await?[..], b"1.07");
/// # std::io::Result::Ok(()) })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Publisher {
    publisher: publisher::Publisher,
    /// A copy of the epoll in which the blocking one would sleep.
    watched: Watched<OwnedFd>,
}

impl Publisher {
    /// As [`wigwag::Publisher::bind`](crate::Publisher::bind). It does not wait for anything.
    ///
    /// # Errors
    /// As the blocking one; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) outside of a runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let publisher = wigwag::tokio::Publisher::bind(name)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Publisher> {
        publisher::Publisher::builder().bind_async(name)
    }

    /// Makes one of a blocking publisher.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the system refuses; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) outside
    /// of a runtime. The broadcast ends then.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let blocking = wigwag::Publisher::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let publisher = wigwag::tokio::Publisher::from_blocking(blocking)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_blocking(publisher: publisher::Publisher) -> Result<Publisher> {
        check_runtime()?;
        let copied = publisher.as_fd().try_clone_to_owned();
        let copied = copied.map_err(|error| Error::io("copy a descriptor for the reactor", error))?;
        Ok(Publisher { publisher, watched: watch(copied)? })
    }

    /// Memory for a message: as [`wigwag::Publisher::loan`](crate::Publisher::loan). Dropping the future gives up the
    /// wait, and nothing else.
    ///
    /// # Errors
    /// As the blocking one.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let mut publisher = wigwag::tokio::Publisher::bind(name)?;
    /// let mut draft = publisher.loan(4).await?;
    /// draft.copy_from_slice(b"abcd");
    /// draft.commit()?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn loan(&mut self, len: usize) -> Result<Publication<'_>> {
        self.publisher.output().check(len)?;
        if !self.publisher.output().has_room() {
            self.wait_for_room().await?;
        }
        Publication::new(self.publisher.output(), len)
    }

    /// Publishes a copy of these bytes. Returns the message's number.
    ///
    /// # Errors
    /// As [`wigwag::Publisher::send`](crate::Publisher::send).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let mut publisher = wigwag::tokio::Publisher::bind(name)?;
    /// assert_eq!(publisher.send(b"first").await?, 1);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn send(&mut self, message: &[u8]) -> Result<u64> {
        let mut draft = self.loan(message.len()).await?;
        draft.copy_from_slice(message);
        draft.commit()
    }

    /// As [`wigwag::Publisher::try_send`](crate::Publisher::try_send).
    ///
    /// # Errors
    /// As the blocking one.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let mut publisher = wigwag::tokio::Publisher::bind(name)?;
    /// publisher.try_send(b"first")?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_send(&mut self, message: &[u8]) -> Result<u64> {
        self.publisher.try_send(message)
    }

    /// Waits until at least so many subscribers are there.
    ///
    /// # Errors
    /// [`ServerClosed`](ErrorKind::ServerClosed), [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let mut publisher = wigwag::tokio::Publisher::bind(name)?;
    /// let subscriber = wigwag::tokio::Subscriber::connect(name).await?;
    /// publisher.wait_for_subscribers(1).await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn wait_for_subscribers(&mut self, count: usize) -> Result<()> {
        loop {
            self.publisher.output().check(0)?;
            if self.publisher.output().audience().len() >= count {
                self.publisher.output().notice();
                return Ok(());
            }
            poll_fn(|context| self.poll_bell(context)).await?;
        }
    }

    /// What this publisher has counted.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// assert_eq!(wigwag::tokio::Publisher::bind(name)?.stats().published, 0);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn stats(&self) -> PublisherStats {
        self.publisher.stats()
    }

    /// Who listens: as [`wigwag::Publisher::subscribers`](crate::Publisher::subscribers).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// assert!(wigwag::tokio::Publisher::bind(name)?.subscribers().is_empty());
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn subscribers(&self) -> Vec<SubscriberState> {
        self.publisher.subscribers()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// assert_eq!(wigwag::tokio::Publisher::bind(name)?.path(), name);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn path(&self) -> &Path {
        self.publisher.path()
    }

    /// Waits until the next message has room, or whoever keeps it waiting is cut off.
    async fn wait_for_room(&mut self) -> Result<()> {
        if self.publisher.output().has_no_patience() {
            return Err(publisher::full());
        }
        while self.publisher.output().announce() {
            let (begin, left) = (Instant::now(), self.publisher.output().patience_left());
            let rang = poll_fn(|context| self.poll_bell(context));
            let outcome = if left == Duration::MAX { Ok(rang.await) } else { tokio::time::timeout(left, rang).await };
            self.publisher.output().charge(begin.elapsed());
            if let Ok(rang) = outcome {
                rang?;
            }
            self.publisher.output().check(0)?;
        }
        Ok(())
    }

    fn poll_bell(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let rang = ready!(poll_ring(&self.watched, context));
        self.publisher.take_rings()?; // so that the epoll tells of the next
        Poll::Ready(rang.map_err(|_| {
            let kind = ErrorKind::ServerClosed { maybe_executed: false };
            Error::new(kind, "the tokio runtime is shutting down")
        }))
    }
}

impl PublisherBuilder {
    /// Takes the name, for tasks: as [`bind`](PublisherBuilder::bind). It does not wait for anything.
    ///
    /// # Errors
    /// As [`bind`](PublisherBuilder::bind); [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) outside of a
    /// runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let publisher = wigwag::Publisher::builder().history(8).bind_async(name)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind_async(self, name: impl AsRef<OsStr>) -> Result<Publisher> {
        check_runtime()?;
        Publisher::from_blocking(self.bind(name)?)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.publisher.fmt(out)
    }
}
