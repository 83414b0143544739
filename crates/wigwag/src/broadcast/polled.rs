//! Both sides of a broadcast for an event loop of any kind, and for other languages: no step waits, and nothing is
//! borrowed. A draft is a value of its own, which keeps the memory that it lies in.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use crate::broadcast::input::Wants;
use crate::broadcast::message::Message;
use crate::broadcast::publication::InlineWords;
use crate::broadcast::publisher::{self, PublisherStats, SubscriberState, full};
use crate::broadcast::subscriber::{self, Receipt, SubscriberStats};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::board::Board;
use crate::memory::layout::INLINE_CAPACITY;
use crate::memory::payload::PayloadBytesMut;
use crate::session::peer::Peer;
use crate::sync;
use crate::sys::epoll::{Events, Interest, Poller};
use crate::sys::eventfd::Bell;

/// A publisher whose calls never wait.
///
/// Only one that waits for its subscribers ([`Overrun::Wait`](crate::Overrun::Wait)) ever says that something cannot be
/// done now. Then wait until its descriptor is readable or [`patience_left`](Publisher::patience_left) is over, and
/// take the step again: what was waited counts as the time of whoever keeps it waiting.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
/// let mut subscriber = wigwag::Subscriber::connect(name)?;
/// let mut draft = publisher.try_loan(4)?.expect("it waits for nobody");
/// draft.copy_from_slice(b"abcd");
/// publisher.commit(draft)?;
/// assert_eq!(&subscriber.recv()?[..], b"abcd");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Publisher {
    publisher: publisher::Publisher,
    /// Bodies of drafts that were dropped, on whatever thread.
    returned: Arc<Mutex<Vec<u32>>>,
    /// Since when somebody waits for room.
    waits_since: Option<Instant>,
}

impl Publisher {
    /// Makes one of a blocking publisher.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(mut publisher: publisher::Publisher) -> Result<Publisher> {
        publisher.output().check(0)?;
        Ok(Publisher { publisher, returned: Arc::default(), waits_since: None })
    }

    /// Memory for a message of `len` bytes, to be filled and [committed](Publisher::commit); what lies there at first
    /// is anything. `None`: a subscriber has to make room first.
    ///
    /// There is always memory for one draft. Several may be out at a time, as far as subscribers hold nothing of what
    /// the pool has for them.
    ///
    /// # Errors
    /// As [`Publisher::loan`](crate::Publisher::loan); [`Full`](ErrorKind::Full) if the drafts that are out have all
    /// the memory.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let blocking = wigwag::Publisher::builder().history(1).capacity(100).max_holds(0).bind(name)?;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(blocking)?;
    /// let drafts: Vec<_> = std::iter::from_fn(|| publisher.try_loan(100).ok().flatten()).collect();
    /// assert!(!drafts.is_empty());
    /// assert_eq!(publisher.try_loan(100).unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// drop(drafts);
    /// assert!(publisher.try_loan(100)?.is_some());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_loan(&mut self, len: usize) -> Result<Option<Draft>> {
        if !self.has_room_or_arm(len)? {
            return Ok(None);
        }
        if len <= INLINE_CAPACITY {
            return Ok(Some(Draft { bytes: Bytes::Inline { words: Box::default(), len } }));
        }
        let output = self.publisher.output();
        for body in sync::lock(&self.returned).drain(..) {
            output.give_back(body);
        }
        let are_out = Arc::strong_count(&self.returned) > 1;
        let body = output.take_body().map_err(|error| if are_out { drafts_are_out() } else { error })?;
        let board = output.shared_board();
        let payload = PayloadBytesMut::of_body(&board, body as usize, len);
        Ok(Some(Draft { bytes: Bytes::Body { body, payload, board, returned: Arc::clone(&self.returned) } }))
    }

    /// Publishes a draft of this publisher. Returns the message's number.
    ///
    /// # Errors
    /// As [`Publication::commit`](crate::Publication::commit);
    /// [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for a draft of another publisher;
    /// [`Full`](ErrorKind::Full) of a publisher that waits, if the draft was made while there was room and there is
    /// none any more. Nothing is published then, and the draft is gone.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// let draft = publisher.try_loan(0)?.unwrap();
    /// assert_eq!(publisher.commit(draft)?, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn commit(&mut self, mut draft: Draft) -> Result<u64> {
        let output = self.publisher.output();
        output.check(draft.len())?;
        // Another one may have been published since the draft was made.
        if !output.has_room() {
            return Err(full());
        }
        match std::mem::replace(&mut draft.bytes, Bytes::Gone) {
            Bytes::Inline { words, len } => Ok(output.publish_inline(&words.0, len)),
            Bytes::Body { body, payload, returned, .. } if Arc::ptr_eq(&returned, &self.returned) => {
                Ok(output.publish_body(body, payload.len()))
            }
            other => {
                draft.bytes = other;
                let why = "this draft is another publisher's: commit it there";
                Err(Error::new(ErrorKind::InvalidConfiguration, why))
            }
        }
    }

    /// Publishes a copy of these bytes, and returns the message's number. `None`: a subscriber has to make room first.
    ///
    /// # Errors
    /// As [`try_loan`](Publisher::try_loan).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert_eq!(publisher.try_send(b"first")?, Some(1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_send(&mut self, message: &[u8]) -> Result<Option<u64>> {
        let Some(mut draft) = self.try_loan(message.len())? else { return Ok(None) };
        draft.copy_from_slice(message);
        self.commit(draft).map(Some)
    }

    /// Whether a message of `len` bytes has room. `false`: from here on the descriptor becomes readable when a
    /// subscriber has made some.
    ///
    /// # Errors
    /// As [`Publisher::try_loan`](crate::Publisher::try_loan): [`Full`](ErrorKind::Full) if the publisher has no
    /// patience at all.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert!(publisher.has_room_or_arm(100)?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn has_room_or_arm(&mut self, len: usize) -> Result<bool> {
        self.stop_waiting();
        self.publisher.output().check(len)?;
        if self.publisher.output().has_room() {
            return Ok(true);
        }
        self.publisher.take_rings()?; // what rang before does not count
        let output = self.publisher.output();
        if !output.announce() {
            return Ok(true);
        }
        if output.has_no_patience() {
            return Err(full());
        }
        self.waits_since = Some(Instant::now());
        Ok(false)
    }

    /// How long may be waited before the step is taken again, also if nothing rings: then whoever has had all of the
    /// publisher's patience is cut off. `None`: for ever.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert_eq!(publisher.patience_left(), None);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn patience_left(&mut self) -> Option<Duration> {
        let left = self.publisher.output().patience_left();
        (left != Duration::MAX).then_some(left)
    }

    /// Nobody waits for room any more: what was waited counts all the same.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// publisher.stop_waiting();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stop_waiting(&mut self) {
        if let Some(since) = self.waits_since.take() {
            self.publisher.output().charge(since.elapsed());
        }
    }

    /// Whether there are at least so many subscribers. `false`: from here on the descriptor becomes readable when one
    /// comes or goes.
    ///
    /// # Errors
    /// As [`wait_for_subscribers`](crate::Publisher::wait_for_subscribers).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert!(!publisher.has_subscribers_or_arm(1)?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn has_subscribers_or_arm(&mut self, count: usize) -> Result<bool> {
        match self.publisher.wait_for_subscribers(count, Duration::ZERO) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What this publisher has counted.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert_eq!(publisher.stats().published, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> PublisherStats {
        self.publisher.stats()
    }

    /// Who listens: as [`Publisher::subscribers`](crate::Publisher::subscribers).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert!(publisher.subscribers().is_empty());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn subscribers(&self) -> Vec<SubscriberState> {
        self.publisher.subscribers()
    }

    /// The longest message in bytes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert_eq!(publisher.capacity(), 64 << 10);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&mut self) -> usize {
        self.publisher.output().board().geometry().capacity
    }

    /// How many messages are kept.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert_eq!(publisher.history(), 64);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn history(&mut self) -> usize {
        self.publisher.output().board().geometry().entries - 1
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
    /// assert_eq!(publisher.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        self.publisher.path()
    }
}

/// Readable when it is worth to take a step again that could not be taken.
impl AsFd for Publisher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.publisher.as_fd()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.publisher.fmt(out)
    }
}

#[cold]
fn drafts_are_out() -> Error {
    Error::new(ErrorKind::Full, "the drafts that are out have all of the pool's memory: commit or drop one")
}

/// Memory of a [`Publisher`], to be filled and [committed](Publisher::commit). It keeps the memory, and may outlive the
/// publisher. Dropped without a commit, nothing is published.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut publisher = wigwag::polled::Publisher::from_blocking(wigwag::Publisher::bind(name)?)?;
/// let mut draft = publisher.try_loan(100)?.unwrap();
/// drop(publisher);
/// draft.fill(1);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a draft that is not committed is not published"]
pub struct Draft {
    bytes: Bytes,
}

enum Bytes {
    /// Short enough for an entry: written there when it is published. Boxed, so that it stays where it is.
    Inline { words: Box<InlineWords>, len: usize },
    /// The body was free, and is nobody's but this draft's (H1): it is in no book of the pool until it comes back.
    Body { body: u32, payload: PayloadBytesMut, board: Arc<Board>, returned: Arc<Mutex<Vec<u32>>> },
    /// It was published.
    Gone,
}

impl Deref for Draft {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Inline { words, len } => &words.0.as_bytes()[..*len],
            Bytes::Body { payload, .. } => payload,
            Bytes::Gone => &[],
        }
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Inline { words, len } => &mut words.0.as_mut_bytes()[..*len],
            Bytes::Body { payload, .. } => payload,
            Bytes::Gone => &mut [],
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Bytes::Body { body, board, returned, .. } = &self.bytes
            && !board.is_forked()
        {
            sync::lock(returned).push(*body);
        }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Draft").field("len", &self.len()).finish()
    }
}

/// How often one step looks anew because something is there, and cannot be taken.
const LOOKS_IN_VAIN: u32 = 4;
/// The key of the session, or of the search for the next publisher: there is one of them at a time.
const KEY_SOURCE: u64 = 0;
const KEY_AGAIN: u64 = 1;

/// A subscriber whose calls never wait.
///
/// Its descriptor stays the same from one publisher to the next, and while the next one is looked for
/// ([`reconnect`](crate::SubscriberBuilder::reconnect)).
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// use rustix::event::{PollFd, PollFlags, poll};
/// # let mut publisher = wigwag::Publisher::bind(name)?;
/// let mut subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
/// assert!(subscriber.try_recv()?.is_none());
/// # publisher.send(b"1.07")?;
/// let message = loop {
///     match subscriber.try_recv()? {
///         Some(message) => break message,
///         None => poll(&mut [PollFd::new(&subscriber, PollFlags::IN)], None).expect("the descriptor is open"),
///     };
/// };
/// assert_eq!(&message[..], b"1.07");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Subscriber {
    subscriber: subscriber::Subscriber,
    poller: Poller,
    events: Events,
    watched: Watched,
    /// Rung when a step left something behind that it could not take.
    again: Bell,
}

/// What the descriptor watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Nothing,
    /// A session, counted from the first.
    Session(u64),
    /// The search behind that session.
    Search(u64),
}

impl Subscriber {
    /// Makes one of a blocking subscriber.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) if there is no descriptor left. The session is over then.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(subscriber: subscriber::Subscriber) -> Result<Subscriber> {
        let (poller, again) = (Poller::new()?, Bell::new()?);
        poller.add(&again, KEY_AGAIN, Interest::Bell)?;
        Ok(Subscriber { subscriber, poller, events: Events::with_capacity(2), watched: Watched::Nothing, again })
    }

    /// The next message, if it is there. `None`: from here on the descriptor becomes readable once it is worth to look
    /// again, for a message, the publisher's end or the next publisher.
    ///
    /// # Errors
    /// As [`Subscriber::recv`](crate::Subscriber::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// publisher.send(b"first")?;
    /// assert_eq!(subscriber.try_recv()?.expect("it is there").sequence(), 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<Message>> {
        self.step(&mut Wants::InPlace)
    }

    /// As [`try_recv`](Subscriber::try_recv), and copies the message into `bytes`: nothing is held.
    ///
    /// # Errors
    /// As [`Subscriber::recv_into`](crate::Subscriber::recv_into).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// publisher.send(b"first")?;
    /// let mut bytes = Vec::new();
    /// assert!(subscriber.try_recv_into(&mut bytes)?.is_some());
    /// assert_eq!(bytes, b"first");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Receipt>> {
        Ok(self.step(&mut Wants::Copy(bytes))?.as_ref().map(Receipt::of))
    }

    fn step(&mut self, wants: &mut Wants<'_>) -> Result<Option<Message>> {
        for _ in 0..LOOKS_IN_VAIN {
            if let Some(message) = self.subscriber.take_now(wants)? {
                return Ok(Some(message));
            }
            self.poller.poll(&mut self.events)?; // what comes after this tells anew
            if self.subscriber.is_read_out() {
                let session = self.subscriber.stats().publishers;
                if !self.subscriber.go_on_searching()? {
                    self.watch(Watched::Search(session))?;
                    return Ok(None);
                }
            } else {
                self.watch(Watched::Session(self.subscriber.stats().publishers))?;
                if self.subscriber.arm()? {
                    return Ok(None);
                }
            }
        }
        // It is replaced again and again before it is read: others have their turn.
        self.again.ring();
        Ok(None)
    }

    /// From here on the descriptor tells of that. A search's poller becomes its session's.
    fn watch(&mut self, wanted: Watched) -> Result<()> {
        if self.watched != wanted {
            self.watched = Watched::Nothing;
            self.subscriber.watch_in(&self.poller, KEY_SOURCE)?;
            self.watched = wanted;
        }
        Ok(())
    }

    /// Looks `looks` times, without a clock or a system call. Whether there is something to take.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// assert!(!subscriber.glance(10));
    /// publisher.send(b"first")?;
    /// assert!(subscriber.glance(10));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn glance(&self, looks: u32) -> bool {
        self.subscriber.glance(looks)
    }

    /// Spins for as long as a wake-up takes, where that pays. Whether there is something to take, or the end.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// assert!(!subscriber.spin()?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn spin(&mut self) -> Result<bool> {
        self.subscriber.spin_once()
    }

    /// How many messages were published and not taken yet.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// publisher.send(b"first")?;
    /// assert_eq!(subscriber.lag(), 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn lag(&self) -> u64 {
        self.subscriber.lag()
    }

    /// Who publishes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// assert_eq!(subscriber.publisher().pid, std::process::id() as i32);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn publisher(&self) -> Peer {
        self.subscriber.publisher()
    }

    /// The longest message in bytes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// assert_eq!(subscriber.capacity(), 64 << 10);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.subscriber.capacity()
    }

    /// How many messages the publisher keeps.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// assert_eq!(subscriber.history(), 64);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn history(&self) -> usize {
        self.subscriber.history()
    }

    /// What this subscriber has counted since it connected.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::polled::Subscriber::from_blocking(wigwag::Subscriber::connect(name)?)?;
    /// assert_eq!(subscriber.stats().received, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> SubscriberStats {
        self.subscriber.stats()
    }
}

/// Readable when it is worth to take a step again.
impl AsFd for Subscriber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subscriber.fmt(out)
    }
}
