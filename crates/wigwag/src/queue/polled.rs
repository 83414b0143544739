//! The receiving end of a queue for an event loop of any kind, and for other languages: no step waits.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::Result;
use crate::queue::delivery::Delivery;
use crate::queue::receiver;
use crate::service::handles::ShutdownHandle;
use crate::service::polling_backoff::PollingBackoff;
use crate::service::worker::Next;
use crate::stats::ReceiverStats;

/// The receiving end of a queue, whose calls never wait.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut receiver = wigwag::polled::Receiver::from_blocking(wigwag::Receiver::bind(name)?)?;
/// # let mut sender = wigwag::Sender::connect(name)?;
/// # sender.send(b"hello")?;
/// let message = loop {
///     if let Some(message) = receiver.try_recv(true)? {
///         break message;
///     }
///     rustix::event::poll(&mut [rustix::event::PollFd::new(&receiver, rustix::event::PollFlags::IN)], None)
///         .expect("the descriptor is open");
///     receiver.listen()?;
/// };
/// assert_eq!(&message[..], b"hello");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Receiver {
    readiness: OwnedFd,
    receiver: receiver::Receiver,
    polling_backoff: PollingBackoff,
}

impl Receiver {
    /// Makes one of a blocking receiver.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked); [`Io`](crate::ErrorKind::Io) if there is no descriptor left.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let receiver = wigwag::polled::Receiver::from_blocking(wigwag::Receiver::bind(name)?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(mut receiver: receiver::Receiver) -> Result<Receiver> {
        let (worker, _) = receiver.leadership()?;
        let readiness = worker.for_reactor()?;
        Ok(Receiver { readiness, receiver, polling_backoff: PollingBackoff::default() })
    }

    /// The next message, if one is there. `may_spin`: whether it may look for some 50 microseconds while a sender is
    /// quick. Given `None`, wait until the descriptor is readable, and [`listen`](Receiver::listen).
    ///
    /// # Errors
    /// As [`Receiver::recv`](crate::Receiver::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut receiver = wigwag::polled::Receiver::from_blocking(wigwag::Receiver::bind(name)?)?;
    /// assert!(receiver.try_recv(true)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&mut self, may_spin: bool) -> Result<Option<Delivery>> {
        let (worker, received) = self.receiver.leadership()?;
        match self.polling_backoff.next(worker, may_spin)? {
            Next::Request => Ok(Some(received.hand_out(worker))),
            Next::Nothing => Ok(None),
            Next::Shutdown => Err(receiver::closed()),
        }
    }

    /// Takes in what the descriptor told of.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked), [`Io`](crate::ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut receiver = wigwag::polled::Receiver::from_blocking(wigwag::Receiver::bind(name)?)?;
    /// receiver.listen()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn listen(&mut self) -> Result<()> {
        let (worker, _) = self.receiver.leadership()?;
        worker.listen()
    }

    /// A handle that ends this receiver from another thread.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut receiver = wigwag::polled::Receiver::from_blocking(wigwag::Receiver::bind(name)?)?;
    /// receiver.shutdown_handle().shutdown();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.receiver.shutdown_handle()
    }

    /// What has happened so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let receiver = wigwag::polled::Receiver::from_blocking(wigwag::Receiver::bind(name)?)?;
    /// assert_eq!(receiver.stats().received, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ReceiverStats {
        self.receiver.stats()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let receiver = wigwag::polled::Receiver::from_blocking(wigwag::Receiver::bind(name)?)?;
    /// assert_eq!(receiver.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        self.receiver.path()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.fmt(out)
    }
}
