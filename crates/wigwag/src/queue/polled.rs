//! The queue for an event loop of any kind, and for other languages: no step waits.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::{Error, Result};
use crate::queue::delivery::Delivery;
use crate::queue::lingering_thread::SenderOfTask;
use crate::queue::producer::Room;
use crate::queue::receiver;
use crate::queue::sender;
use crate::service::handles::ShutdownHandle;
use crate::service::polling_backoff::PollingBackoff;
use crate::service::worker::Next;
use crate::session::connect::ClientHandshake;
use crate::stats::{ReceiverStats, SenderStats};
use crate::wait::edge_readiness::Readiness;

/// The sending end of a queue, whose calls never wait. It finds the next receiver as the blocking one does.
///
/// Dropping it waits for nothing: what is not acknowledged is waited for in a thread of its own, as long as the process
/// lives. Who must know calls [`try_flush`](Sender::try_flush) until it says so.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let receiver = wigwag::Receiver::bind(name)?;
/// let mut sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
/// while !sender.try_send_with(5, |bytes| bytes.copy_from_slice(b"hello"))? {
///     rustix::event::poll(&mut [rustix::event::PollFd::new(&sender, rustix::event::PollFlags::IN)], None)
///         .expect("the descriptor is open");
///     sender.listen()?;
/// }
/// assert_eq!(&receiver.recv()?[..], b"hello");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Sender {
    readiness: Readiness,
    producer: SenderOfTask,
    /// For the next receiver, while there is none.
    search: Option<Box<Search>>,
}

struct Search {
    handshake: ClientHandshake,
    /// What the readiness watches.
    _watched: OwnedFd,
}

impl Sender {
    /// Makes one of a blocking sender.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked); [`Io`](crate::ErrorKind::Io) if there is no descriptor left.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(sender: sender::Sender) -> Result<Sender> {
        let producer = SenderOfTask::from(sender);
        let (bell, life) = producer.descriptors()?;
        let readiness = Readiness::new(life.as_fd(), &rings(bell.as_ref()))?;
        // The session keeps what these are copies of, and with it the readiness does.
        Ok(Sender { readiness, producer, search: None })
    }

    /// The largest message in bytes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// assert!(sender.capacity() > 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.producer.capacity()
    }

    /// How many messages may be unacknowledged at a time.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// assert!(sender.slots() > 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn slots(&self) -> usize {
        self.producer.slots()
    }

    /// Has `write` write a message of `len` bytes in place, and commits it. `false`: there is no room, or no receiver;
    /// wait until the descriptor is readable, [`listen`](Sender::listen), and try again.
    ///
    /// # Errors
    /// As [`Sender::send`](crate::Sender::send): nothing was sent.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// assert!(sender.try_send_with(2, |bytes| bytes.fill(7))?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_send_with(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<bool> {
        if !self.has_room(len).inspect_err(|_| self.producer.count_refused())? {
            return Ok(false);
        }
        let mut draft = self.producer.draft_in_room(len);
        write(&mut draft);
        draft.commit()?;
        Ok(true)
    }

    fn has_room(&mut self, len: usize) -> Result<bool> {
        loop {
            match self.producer.room(len)? {
                Room::There => return Ok(true),
                // Asked before the wait: what is acknowledged later rings.
                Room::Full if self.producer.ask_for_ring(0) => return Ok(false),
                Room::Full => self.producer.look()?,
                Room::Gone if self.find_receiver()? => {}
                Room::Gone => return Ok(false),
            }
        }
    }

    /// Whether everything is acknowledged. Else wait until the descriptor is readable, [`listen`](Sender::listen), and
    /// ask again.
    ///
    /// # Errors
    /// As [`Sender::flush`](crate::Sender::flush).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// sender.try_send_with(2, |bytes| bytes.fill(7))?;
    /// assert!(!sender.try_flush()?);
    /// receiver.recv()?.ack();
    /// assert!(sender.try_flush()?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_flush(&mut self) -> Result<bool> {
        while let Some(place) = self.producer.newest_open()? {
            if self.producer.is_receiver_gone() {
                if !self.find_receiver()? {
                    return Ok(false);
                }
            } else if self.producer.ask_for_ring(place) {
                return Ok(false);
            } else {
                self.producer.look()?;
            }
        }
        Ok(true)
    }

    /// How many messages the receiver is not done with; none, in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// sender.try_send_with(2, |bytes| bytes.fill(7))?;
    /// assert_eq!(sender.unacknowledged(), 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn unacknowledged(&self) -> usize {
        if self.producer.check_fork().is_err() { 0 } else { self.producer.unacknowledged() }
    }

    /// Why a message was not sent at once, for who does not wait.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// while sender.try_send_with(2, |bytes| bytes.fill(7))? {}
    /// assert_eq!(sender.why_not_sent().kind(), wigwag::ErrorKind::Full);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn why_not_sent(&self) -> Error {
        match self.producer.check_fork() {
            Err(error) => error,
            Ok(()) if self.producer.is_receiver_gone() => self.producer.why_gone(),
            Ok(()) => self.producer.why_full(),
        }
    }

    /// Ends it without waiting for what is not acknowledged: that is lost unless the receiver has it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// sender.leave();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn leave(mut self) {
        self.producer.leave();
    }

    /// Takes in what the descriptor told of.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked), [`Io`](crate::ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// sender.listen()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn listen(&mut self) -> Result<()> {
        self.producer.check_fork()?;
        if self.readiness.take()? && self.search.is_none() {
            self.producer.look()?;
        }
        Ok(())
    }

    /// What has happened so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let sender = wigwag::polled::Sender::from_blocking(wigwag::Sender::connect(name)?)?;
    /// assert_eq!(sender.stats().sent, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> SenderStats {
        self.producer.stats()
    }

    /// Goes on looking for the next receiver. Whether it is there, and has what was not acknowledged.
    #[cold]
    fn find_receiver(&mut self) -> Result<bool> {
        let mut search = match self.search.take() {
            Some(search) => search,
            None => {
                let mut handshake = self.producer.search()?;
                let watched = handshake.descriptor()?;
                self.readiness.watch(watched.as_fd(), &[])?;
                Box::new(Search { handshake, _watched: watched })
            }
        };
        let stepped = search.handshake.step_of_task().map_err(|error| self.producer.not_found(error))?;
        let Some(established) = stepped else {
            self.search = Some(search);
            return Ok(false);
        };
        let connection = self.producer.connection_of(established);
        // First, because it may fail: then the next call looks for a receiver once more.
        let (bell, life) = connection.descriptors()?;
        self.readiness.watch(life.as_fd(), &rings(bell.as_ref()))?;
        self.producer.move_to(connection).map_err(|error| self.producer.not_found(error))?;
        Ok(true)
    }
}

fn rings(bell: Option<&OwnedFd>) -> Vec<BorrowedFd<'_>> {
    bell.into_iter().map(AsFd::as_fd).collect()
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.producer.fmt(out)
    }
}

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
