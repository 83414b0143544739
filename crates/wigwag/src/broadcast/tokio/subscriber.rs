//! The subscribing side, for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::broadcast::input::Wants;
use crate::broadcast::message::Message;
use crate::broadcast::subscriber::{self, SubscriberBuilder, SubscriberStats};
use crate::error::{Error, ErrorKind, Result};
use crate::session::connect::{ClientHandshake, Established};
use crate::session::connect_async::shake_hands;
use crate::session::peer::Peer;
use crate::sys::async_fd::{Watched, check_runtime, watch};
use crate::wait::readiness::poll_ring;

/// How often one poll looks anew because something is there, and cannot be taken.
const LOOKS_IN_VAIN: u32 = 4;

/// As the [blocking subscriber](crate::Subscriber), for tasks: also a [`Stream`] of messages. The publisher may be
/// blocking.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let mut publisher = wigwag::Publisher::bind(name)?;
/// let mut subscriber = wigwag::tokio::Subscriber::connect(name).await?;
/// # publisher.send(b"1.07")?;
/// let message = subscriber.recv().await?;
/// assert_eq!(&message[..], b"1.07");
/// # std::io::Result::Ok(()) })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Subscriber {
    subscriber: subscriber::Subscriber,
    /// A copy of the epoll in which the blocking one would sleep.
    watched: Watched<OwnedFd>,
    /// Of which session that is, counted from the first.
    watched_session: u64,
    /// The look for the next publisher.
    search: Option<Pin<Box<dyn Future<Output = Result<Established>> + Send>>>,
    is_over: bool,
}

impl Subscriber {
    /// Connects to a publisher of the same user: as [`wigwag::Subscriber::connect`](crate::Subscriber::connect).
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
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::tokio::Subscriber::connect(name).await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn connect(name: impl AsRef<OsStr>) -> Result<Subscriber> {
        subscriber::Subscriber::builder().connect_async(name).await
    }

    /// Makes one of a blocking subscriber.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the system refuses; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) outside
    /// of a runtime. The session is over then.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let blocking = wigwag::Subscriber::connect(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let subscriber = wigwag::tokio::Subscriber::from_blocking(blocking)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_blocking(subscriber: subscriber::Subscriber) -> Result<Subscriber> {
        check_runtime()?;
        let watched = watched(&subscriber)?;
        let watched_session = subscriber.stats().publishers;
        Ok(Subscriber { subscriber, watched, watched_session, search: None, is_over: false })
    }

    /// Takes the next message, and waits until it is there. Dropping the future loses no message.
    ///
    /// # Errors
    /// As [`wigwag::Subscriber::recv`](crate::Subscriber::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::tokio::Subscriber::connect(name).await?;
    /// publisher.send(b"first")?;
    /// assert_eq!(subscriber.recv().await?.sequence(), 1);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn recv(&mut self) -> Result<Message> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Takes the next message if it is there.
    ///
    /// # Errors
    /// As [`wigwag::Subscriber::try_recv`](crate::Subscriber::try_recv). While the next publisher is looked for it is
    /// `None`.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::tokio::Subscriber::connect(name).await?;
    /// assert!(subscriber.try_recv()?.is_none());
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<Message>> {
        self.subscriber.check_process()?; // a search of the parent's goes on there
        if self.search.is_some() { Ok(None) } else { self.subscriber.try_recv() }
    }

    /// What this subscriber has counted since it connected.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// assert_eq!(wigwag::tokio::Subscriber::connect(name).await?.stats().received, 0);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn stats(&self) -> SubscriberStats {
        self.subscriber.stats()
    }

    /// Who publishes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let pid = wigwag::tokio::Subscriber::connect(name).await?.publisher().pid;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn publisher(&self) -> Peer {
        self.subscriber.publisher()
    }

    /// Has the reactor watch the session that is read from. One is not, if it was found without a wait, or if there was
    /// no descriptor for that before.
    fn watch_session(&mut self) -> Result<()> {
        let session = self.subscriber.stats().publishers;
        if self.watched_session != session {
            self.watched = watched(&self.subscriber)?;
            self.watched_session = session;
        }
        Ok(())
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Message>> {
        self.subscriber.check_process()?; // the reactor that a search waits with is the parent's
        let mut in_vain = 0;
        loop {
            if let Some(search) = &mut self.search {
                let found = ready!(search.as_mut().poll(context));
                self.search = None; // after an error the next call begins anew
                self.subscriber.attach(found?)?;
            }
            match self.subscriber.take_now(&mut Wants::InPlace)? {
                Some(message) => return Poll::Ready(Ok(message)),
                None if self.subscriber.is_read_out() => {
                    let (name, options) = self.subscriber.successor()?;
                    let handshake = ClientHandshake::for_successor(name, options)?;
                    self.search = Some(Box::pin(shake_hands(handshake)));
                }
                None => {
                    self.watch_session()?;
                    // The look takes in what has come, and the epoll tells of what comes after it.
                    if self.subscriber.arm()? {
                        let rang = ready!(poll_ring(&self.watched, context));
                        rang.map_err(|_| {
                            let kind = ErrorKind::ServerClosed { maybe_executed: false };
                            Error::new(kind, "the tokio runtime is shutting down")
                        })?;
                    } else if in_vain == LOOKS_IN_VAIN {
                        // It is replaced again and again before it is read: other tasks have their turn.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    in_vain += 1;
                }
            }
        }
    }
}

/// All messages, one after another, until the publisher ends the broadcast; an error is the last one, too.
impl Stream for Subscriber {
    type Item = Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Message>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match ready!(self.poll_recv(context)) {
            Ok(message) => Poll::Ready(Some(Ok(message))),
            Err(error) => {
                self.is_over = true;
                Poll::Ready((error.kind() != ErrorKind::Ended).then_some(Err(error)))
            }
        }
    }
}

fn watched(subscriber: &subscriber::Subscriber) -> Result<Watched<OwnedFd>> {
    let copied = subscriber.as_fd().try_clone_to_owned();
    watch(copied.map_err(|error| Error::io("copy a descriptor for the reactor", error))?)
}

impl SubscriberBuilder {
    /// Connects, for tasks: as [`connect`](SubscriberBuilder::connect).
    ///
    /// # Errors
    /// As [`connect`](SubscriberBuilder::connect); [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) outside of
    /// a runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::Subscriber::builder().start(wigwag::Start::Last).connect_async(name).await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn connect_async(self, name: impl AsRef<OsStr>) -> Result<Subscriber> {
        let name = name.as_ref().to_owned();
        let established = shake_hands(ClientHandshake::begin(&name, self.checked_options()?)?).await?;
        Subscriber::from_blocking(self.connected(&name, established)?)
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subscriber.fmt(out)
    }
}
