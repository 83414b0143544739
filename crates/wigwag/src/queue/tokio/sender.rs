//! The sending face of a queue, for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use tokio::task::coop;

use crate::error::{Error, Result};
use crate::queue::group::Awaited;
use crate::queue::loan::MessageLoan;
use crate::queue::producer::{Producer, Room};
use crate::queue::sender::{self, SenderBuilder};
use crate::queue::tokio::lingering::SenderOfTask;
use crate::session::connect::ClientHandshake;
use crate::session::connect_async::shake_hands;
use crate::stats::SenderStats;
use crate::sys::async_fd::{Watched, watch};
use crate::wait::deadline::Deadline;
use crate::wait::readiness::poll_ring;

/// One sender of a queue, in a task. The receiver may be blocking or not.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let mut receiver = wigwag::tokio::Receiver::bind(name)?;
/// let mut sender = wigwag::tokio::Sender::connect(name).await?;
/// sender.send(b"hello").await?;             // waits while the queue is full
/// assert_eq!(receiver.recv().await?[..], *b"hello");   // dropped: acknowledged
/// sender.close().await?;                    // returns once all is acknowledged
/// # wigwag::Result::Ok(()) })?;
/// # wigwag::Result::Ok(())
/// ```
///
/// All that the [blocking sender](crate::Sender) promises holds: a message stays in this sender's memory until the
/// receiver has acknowledged it; if the receiver dies, the next call here looks for its successor, for as long as
/// [`server_timeout`](SenderBuilder::server_timeout) says, and gives it what was not acknowledged.
///
/// **Dropping a future** of any call sends nothing, or, in a batch, nothing more; what was sent is kept. A deadline is
/// [`tokio::time::timeout`](::tokio::time::timeout) around the call.
///
/// Two tasks cannot share one sender: [`try_clone`](Sender::try_clone) gives each its own, so that each has an order of
/// its own and waits for its own room only.
pub struct Sender {
    producer: SenderOfTask,
    /// Rung when a message is acknowledged that somebody waits for. `None` at a receiver of another user, which sends
    /// messages instead.
    bell: Option<Watched<OwnedFd>>,
    /// The socket and the receiver's process. Of several receivers that share the name all that tells of them.
    life: Watched<OwnedFd>,
    /// The reactor could not be told of the session that there is now: the next call tries again.
    is_unheard: bool,
}

impl Sender {
    /// Connects to the receiver of a name, of the same user.
    ///
    /// # Errors
    /// As [`Sender::connect`](crate::Sender::connect).
    ///
    /// # Panics
    /// If the runtime's input and output are not enabled: tokio panics.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let error = wigwag::tokio::Sender::connect(name).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn connect(name: impl AsRef<OsStr>) -> Result<Sender> {
        Sender::builder().connect_async(name).await
    }

    /// A sender with wishes of its own, for [`connect_async`](SenderBuilder::connect_async): the builder of the
    /// blocking one.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let sender = wigwag::tokio::Sender::builder().slots(32).connect_async(name).await?;
    /// assert_eq!(sender.slots(), 32);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn builder() -> SenderBuilder {
        sender::Sender::builder()
    }

    /// Makes a blocking sender one for tasks.
    ///
    /// # Errors
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime;
    /// [`Io`](crate::ErrorKind::Io).
    ///
    /// # Panics
    /// As [`connect`](Sender::connect).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let sender = wigwag::Sender::connect(name)?;
    /// let mut sender = wigwag::tokio::Sender::from_blocking(sender)?;
    /// sender.send(b"hello").await?;
    /// # assert_eq!(receiver.recv().await?[..], *b"hello");
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn from_blocking(sender: sender::Sender) -> Result<Sender> {
        Sender::new(sender)
    }

    /// With the runtime that it is called in.
    fn new(sender: sender::Sender) -> Result<Sender> {
        let mut producer = SenderOfTask::from(sender);
        let (bell, life) = match &mut producer.sender().group {
            Some(group) => (None, group.for_reactor()?),
            None => producer.descriptors()?,
        };
        Ok(Sender { bell: bell.map(watch).transpose()?, life: watch(life)?, producer, is_unheard: false })
    }

    /// The longest message in bytes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::tokio::Receiver::bind(name)?;
    /// assert_eq!(wigwag::tokio::Sender::connect(name).await?.capacity(), 64 << 10);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.producer.capacity()
    }

    /// How many messages can be under way: sent and not acknowledged.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::tokio::Receiver::bind(name)?;
    /// assert_eq!(wigwag::tokio::Sender::connect(name).await?.slots(), 256);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn slots(&self) -> usize {
        self.producer.slots()
    }

    /// Sends a message, a copy of `message`. While the queue is full the task waits.
    ///
    /// # Errors
    /// As [`Sender::send`](crate::Sender::send).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let mut sender = wigwag::tokio::Sender::builder().slots(1).connect_async(name).await?;
    /// sender.send(b"one").await?;
    /// let soon = std::time::Duration::from_millis(5);
    /// assert!(tokio::time::timeout(soon, sender.send(b"two")).await.is_err()); // full, and "two" was not sent
    /// assert_eq!(receiver.recv().await?[..], *b"one");
    /// sender.send(b"three").await?;
    /// assert_eq!(receiver.recv().await?[..], *b"three");
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        self.ready(message.len()).await?;
        self.producer.put(message)
    }

    /// As [`send`](Sender::send), but never waits, neither for room nor for a receiver.
    ///
    /// # Errors
    /// As [`send`](Sender::send); [`Full`](crate::ErrorKind::Full); [`NotRunning`](crate::ErrorKind::NotRunning) while
    /// there is no receiver: the calls that wait look for the next.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let mut sender = wigwag::tokio::Sender::builder().slots(1).connect_async(name).await?;
    /// sender.try_send(b"one")?;
    /// assert_eq!(sender.try_send(b"two").unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn try_send(&mut self, message: &[u8]) -> Result<()> {
        let room = self.room_at_once(message.len());
        room.inspect_err(|_| self.producer.count_refused())?;
        self.producer.put(message)
    }

    /// Sends many messages, and rings for all of them at once if the receiver sleeps. Returns how many they were.
    ///
    /// # Errors
    /// As [`send`](Sender::send). Those before the one that failed are sent: [`stats`](Sender::stats) counts them.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let mut sender = wigwag::tokio::Sender::connect(name).await?;
    /// assert_eq!(sender.send_batch(["one", "two", "three"]).await?, 3);
    /// assert_eq!(receiver.recv_batch(10).await?.len(), 3);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn send_batch<M: AsRef<[u8]>>(&mut self, messages: impl IntoIterator<Item = M>) -> Result<usize> {
        let mut count = 0;
        for message in messages {
            let message = message.as_ref();
            // Who waits, or lets others run, has woken the receiver; so has who is dropped there.
            let may_wait =
                !coop::has_budget_remaining() || !matches!(self.producer.room(message.len()), Ok(Room::There));
            if may_wait {
                self.producer.ring();
            }
            self.ready(message.len()).await?;
            self.producer.put_silently(message);
            count += 1;
        }
        self.producer.ring();
        Ok(count)
    }

    /// Borrows `len` bytes of the queue's own memory, to write a message where it will be read: no copy. While the
    /// queue is full the task waits. The draft is the blocking sender's, because to [commit](MessageLoan::commit) it
    /// never waits.
    ///
    /// # Errors
    /// As [`send`](Sender::send).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let mut sender = wigwag::tokio::Sender::connect(name).await?;
    /// let mut draft = sender.loan(1000).await?;
    /// draft.fill(7);
    /// draft.commit()?;                // dropped without, nothing is sent
    /// assert_eq!(receiver.recv().await?[..], [7; 1000]);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn loan(&mut self, len: usize) -> Result<MessageLoan<'_>> {
        self.ready(len).await?;
        Ok(self.producer.draft_in_room(len))
    }

    /// Waits until everything that was sent is acknowledged.
    ///
    /// # Errors
    /// As [`send`](Sender::send). What is not acknowledged is kept all the same.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let mut sender = wigwag::tokio::Sender::connect(name).await?;
    /// sender.send(b"hello").await?;
    /// receiver.recv().await?.ack();
    /// sender.flush().await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn flush(&mut self) -> Result<()> {
        if self.is_unheard {
            self.go_on()?;
        }
        if self.producer.sender().group.is_some() {
            self.producer.check_fork()?;
            return self.wait_in_group(Awaited::Acknowledgements).await;
        }
        while let Some(place) = self.producer.newest_open()? {
            match self.producer.is_receiver_gone() {
                true => {
                    self.find_receiver().await?;
                    if self.producer.sender().group.is_some() {
                        return self.wait_in_group(Awaited::Acknowledgements).await;
                    }
                }
                // The newest is mostly the last to be acknowledged: who waits for it is woken once.
                false => self.acknowledged(place).await?,
            }
        }
        Ok(())
    }

    /// Waits until everything that was sent is acknowledged, and ends.
    ///
    /// Dropping a sender does not wait: what was sent is received all the same, unless the receiver dies, too.
    ///
    /// # Errors
    /// As [`Sender::close`](crate::Sender::close).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let mut sender = wigwag::tokio::Sender::connect(name).await?;
    /// sender.send(b"hello").await?;
    /// receiver.recv().await?.ack();
    /// sender.close().await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn close(mut self) -> Result<()> {
        let flushed = self.flush().await;
        self.producer.leave(); // the caller is told
        flushed
    }

    /// Another sender to the same queue, with the same wishes: for another task.
    ///
    /// # Errors
    /// As [`connect`](Sender::connect).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let sender = wigwag::tokio::Sender::connect(name).await?;
    /// let mut other = sender.try_clone().await?;
    /// tokio::spawn(async move { other.send(b"from there").await }).await.unwrap()?;
    /// assert_eq!(receiver.recv().await?[..], *b"from there");
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn try_clone(&self) -> Result<Sender> {
        SenderBuilder::from(self.producer.options().clone()).connect_async(self.producer.name()).await
    }

    /// What has happened so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let mut sender = wigwag::tokio::Sender::connect(name).await?;
    /// sender.send(b"hello").await?;
    /// assert_eq!((sender.stats().sent, sender.stats().acknowledged), (1, 0));
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn stats(&self) -> SenderStats {
        self.producer.stats()
    }

    /// How values become bytes in this queue.
    #[cfg(feature = "serde")]
    pub(super) fn encoding(&self) -> crate::contract::Encoding {
        self.producer.encoding()
    }

    /// Waits until a message of `len` bytes can be written, and somebody receives. Nothing is to be awaited between
    /// this and the writing.
    async fn ready(&mut self, len: usize) -> Result<()> {
        // Who always finds room would never let other tasks run. Before the look: much may happen meanwhile.
        coop::consume_budget().await;
        let outcome = self.wait_for_room(len).await;
        outcome.inspect_err(|_| self.producer.count_refused())
    }

    fn room_at_once(&mut self, len: usize) -> Result<()> {
        let sender = self.producer.sender();
        if sender.group.is_some() {
            sender.producer.check(len)?;
            return sender.make_room_in_group(Deadline::Now);
        }
        match self.producer.room(len)? {
            Room::There => Ok(()),
            Room::Full => Err(self.producer.why_full()),
            Room::Gone => Err(self.producer.why_gone()),
        }
    }

    async fn wait_for_room(&mut self, len: usize) -> Result<()> {
        loop {
            if self.is_unheard {
                self.go_on()?;
            }
            if self.producer.sender().group.is_some() {
                self.producer.check(len)?;
                return self.wait_in_group(Awaited::Room).await;
            }
            match self.producer.room(len)? {
                Room::There => return Ok(()),
                Room::Full => self.acknowledged(0).await?,
                Room::Gone => self.find_receiver().await?,
            }
        }
    }

    /// Waits for room at one of those who share the name, or until they have acknowledged all.
    async fn wait_in_group(&mut self, awaited: Awaited) -> Result<()> {
        let is_there = |sender: &mut sender::Sender| sender.is_there(awaited);
        if is_there(self.producer.sender())? {
            return Ok(());
        }
        self.producer.sender().begin_group_call();
        std::future::poll_fn(|context| {
            loop {
                let rang = poll_ring(&self.life, context);
                let sender = self.producer.sender();
                sender.tend_group()?;
                if is_there(sender)? {
                    return Poll::Ready(Ok(()));
                }
                match rang {
                    Poll::Pending if sender.ask_group(awaited)? => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::io("wait for room in a queue", error))),
                    _ => {}
                }
            }
        })
        .await
    }

    /// Waits until the message at a place is acknowledged, or the receiver gone.
    async fn acknowledged(&mut self, place: usize) -> Result<()> {
        std::future::poll_fn(|context| self.poll_acknowledged(place, context)).await
    }

    fn poll_acknowledged(&mut self, place: usize, context: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            // Before it asks for the ring: one that comes after wakes this task.
            let rang = self.bell.as_ref().map_or(Poll::Pending, |bell| poll_ring(bell, context));
            let life = poll_ring(&self.life, context);
            if rang.is_pending() && life.is_pending() {
                let is_worth_waiting = self.producer.ask_for_ring(place);
                return if is_worth_waiting { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            for outcome in [rang, life] {
                if let Poll::Ready(Err(error)) = outcome {
                    return Poll::Ready(Err(Error::io("wait for room in a queue", error)));
                }
            }
            self.producer.look()?;
        }
    }

    /// With a session that the sender has already.
    fn go_on(&mut self) -> Result<()> {
        let outcome = match self.producer.member() {
            0 => self.producer.descriptors().and_then(|(bell, life)| {
                (self.bell, self.life) = (bell.map(watch).transpose()?, watch(life)?);
                Ok(())
            }),
            _ => self.share(),
        };
        self.is_unheard = outcome.is_err();
        outcome
    }

    /// The receiver shares its name: the others are found, too.
    fn share(&mut self) -> Result<()> {
        let sender = self.producer.sender();
        sender.join_all()?;
        if let Some(group) = &mut sender.group {
            (self.bell, self.life) = (None, watch(group.for_reactor()?)?);
        }
        Ok(())
    }

    /// Finds the next receiver, and goes on with it.
    async fn find_receiver(&mut self) -> Result<()> {
        if self.producer.adopt() {
            return self.go_on();
        }
        let handshake = self.producer.search()?;
        let established = shake_hands(handshake).await.map_err(|error| self.producer.not_found(error))?;
        if self.producer.act_by_itself() {
            return self.go_on(); // the thread was first
        }
        let connection = self.producer.connection_of(established);
        if connection.member() != 0 {
            self.producer.move_to(connection).map_err(|error| self.producer.not_found(error))?;
            return self.go_on();
        }
        // First, because it may fail: then the next call looks for a receiver once more.
        let (bell, life) = connection.descriptors()?;
        (self.bell, self.life) = (bell.map(watch).transpose()?, watch(life)?);
        self.producer.move_to(connection).map_err(|error| self.producer.not_found(error))
    }
}

impl SenderBuilder {
    /// Connects for tasks: as [`connect`](SenderBuilder::connect), with a [`tokio::Sender`](Sender). The reactor drives
    /// the handshake: no thread is blocked, and a future that is dropped leaves nothing behind.
    ///
    /// # Errors
    /// As [`Sender::connect`].
    ///
    /// # Panics
    /// As [`Sender::connect`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::tokio::Receiver::bind(name)?;
    /// let sender = wigwag::Sender::builder().capacity(100).connect_async(name).await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn connect_async(self, name: impl AsRef<OsStr>) -> Result<Sender> {
        let options = self.checked_options()?;
        let established = shake_hands(ClientHandshake::begin(name.as_ref(), options.clone())?).await?;
        Sender::new(sender::Sender::new(Producer::new(name.as_ref(), options, established))?)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.producer.fmt(out)
    }
}
