//! The publishing side for programs that may wait: takes a name, and publishes to whoever listens.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broadcast::output::Output;
use crate::broadcast::publication::Publication;
use crate::error::{Error, ErrorKind, Result, spoken};
use crate::memory::board::SEQUENCE_MAX;
use crate::memory::layout::INLINE_CAPACITY;
use crate::options::ListenOptions;
use crate::service::handles::ShutdownHandle;
use crate::service::service::Service;
use crate::session::peer::{Peer, Trust};
use crate::sync::Ordering;
use crate::sys::epoll::{Events, Poller};
use crate::wait::deadline::Deadline;
use crate::wait::policy::{SpinBudget, Wait};
use crate::wait::runtime_guard;
use crate::wait::waiter;
use crate::wait::wake_latency::WakeLatency;

mod builder;

pub use crate::broadcast::publisher::builder::{Overrun, PublisherBuilder};

/// Publishes messages to any number of [`Subscriber`](crate::Subscriber)s, each of which reads them in place.
///
/// With [`Overrun::DropOldest`], the default, nobody can slow, stop or harm it: a subscriber that is slow, stopped or
/// dead loses messages, and is told how many. With [`Overrun::Wait`] nothing is lost while the publisher's patience
/// lasts.
///
/// Dropping it ends the broadcast in good order: subscribers read what they have not read yet, and are told of the end.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("prices").path;
/// let mut publisher = wigwag::Publisher::bind(name)?;
/// let mut subscriber = wigwag::Subscriber::connect(name)?;
/// publisher.send(b"1.07")?;
/// assert_eq!(&subscriber.recv()?[..], b"1.07");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Publisher {
    output: Output,
    service: Service,
    /// Where a publisher that waits sleeps; its audience's bell is in it.
    poller: Poller,
    events: Events,
    wait: Wait,
    spin_budget: SpinBudget,
    wake_latency: WakeLatency,
}

impl Publisher {
    /// Takes a name with the defaults: 64 messages of at most 64 KiB are kept, for subscribers of the same user.
    ///
    /// # Errors
    /// As [`Server::bind`](crate::Server::bind).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::Publisher::bind(name)?;
    /// assert_eq!(wigwag::Publisher::bind(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Publisher> {
        Publisher::builder().bind(name)
    }

    /// A publisher with sizes, a policy, limits or a contract of its own.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::Publisher::builder().history(1000).capacity(1 << 20).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> PublisherBuilder {
        ListenOptions::default().into()
    }

    fn new(output: Output, service: Service, wait: Wait) -> Result<Publisher> {
        let poller = Poller::new()?;
        poller.add(output.audience().bell(), 0, crate::sys::epoll::Interest::Bell)?;
        Ok(Publisher {
            output,
            service,
            poller,
            events: Events::with_capacity(1),
            wait,
            spin_budget: SpinBudget::default(),
            wake_latency: WakeLatency::default(),
        })
    }

    /// Memory for a message of `len` bytes, to be filled and committed. Of up to 48 bytes it is copied once more, into
    /// the line that says that it is there.
    ///
    /// A publisher with [`Overrun::Wait`] waits here until the message has room, for as long as its patience lasts;
    /// whoever exceeds that is cut off. So this returns at the latest once patience is over for everybody.
    ///
    /// # Errors
    /// [`CapacityExceeded`](ErrorKind::CapacityExceeded); [`ServerClosed`](ErrorKind::ServerClosed) if it was shut
    /// down, or another publisher has taken the name; [`Full`](ErrorKind::Full) of a publisher whose patience is zero,
    /// if a subscriber has not made room; [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::builder().capacity(1 << 20).bind(name)?;
    /// let mut frame = publisher.loan(1 << 20)?;
    /// frame.fill(7);
    /// frame.commit()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Publication<'_>> {
        self.output.check(len)?;
        if !self.output.has_room() {
            self.wait_for_room(Deadline::Never)?;
        }
        Publication::new(&mut self.output, len)
    }

    /// As [`loan`](Publisher::loan), and never waits.
    ///
    /// # Errors
    /// As [`loan`](Publisher::loan); [`Full`](ErrorKind::Full) if a subscriber has to make room first.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// publisher.try_loan(4)?.commit()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_loan(&mut self, len: usize) -> Result<Publication<'_>> {
        self.output.check(len)?;
        if !self.output.has_room() && !self.has_room_when_asked()? {
            return Err(full());
        }
        Publication::new(&mut self.output, len)
    }

    /// As [`loan`](Publisher::loan), and waits no longer than that.
    ///
    /// # Errors
    /// As [`loan`](Publisher::loan); [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// publisher.loan_timeout(4, std::time::Duration::from_millis(100))?.commit()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn loan_timeout(&mut self, len: usize, timeout: Duration) -> Result<Publication<'_>> {
        self.output.check(len)?;
        if !self.output.has_room() {
            self.wait_for_room(Deadline::after(timeout))?;
        }
        Publication::new(&mut self.output, len)
    }

    /// Publishes a copy of these bytes. Returns the message's number.
    ///
    /// # Errors
    /// As [`loan`](Publisher::loan).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// assert_eq!(publisher.send(b"first")?, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<u64> {
        if message.len() <= INLINE_CAPACITY {
            self.output.check(message.len())?;
            if !self.output.has_room() {
                self.wait_for_room(Deadline::Never)?;
            }
            return Ok(self.output.publish_short(message));
        }
        let mut draft = self.loan(message.len())?;
        draft.copy_from_slice(message);
        draft.commit()
    }

    /// As [`send`](Publisher::send), and never waits.
    ///
    /// # Errors
    /// As [`try_loan`](Publisher::try_loan).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// publisher.try_send(b"first")?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_send(&mut self, message: &[u8]) -> Result<u64> {
        let mut draft = self.try_loan(message.len())?;
        draft.copy_from_slice(message);
        draft.commit()
    }

    /// As [`send`](Publisher::send), and waits no longer than that.
    ///
    /// # Errors
    /// As [`loan_timeout`](Publisher::loan_timeout).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// publisher.send_timeout(b"first", std::time::Duration::from_millis(100))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<u64> {
        let mut draft = self.loan_timeout(message.len(), timeout)?;
        draft.copy_from_slice(message);
        draft.commit()
    }

    /// Counts so many messages as lost before this publisher had them: each subscriber is told with the next message
    /// ([`Message::lost_before`](crate::Message::lost_before)), whose number is higher by as many. For who publishes
    /// again what another publisher has published, and has lost some of it. As with messages, older ones are replaced.
    ///
    /// # Errors
    /// [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) of a publisher with [`Overrun::Wait`], which loses
    /// nothing, and of more than numbers are left; [`ServerClosed`](ErrorKind::ServerClosed) if another publisher has
    /// taken the name; [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// publisher.send(b"first")?;
    /// assert_eq!(subscriber.recv()?.lost_before(), 0);
    /// publisher.skip(1000)?;
    /// assert_eq!(publisher.send(b"second")?, 1002);
    /// assert_eq!(subscriber.recv()?.lost_before(), 1000);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn skip(&mut self, count: u64) -> Result<()> {
        self.output.check(0)?;
        if self.output.is_lossless() {
            let sentence = "a publisher with Overrun::Wait loses nothing, so it skips nothing: use Overrun::DropOldest";
            return Err(Error::new(ErrorKind::InvalidConfiguration, sentence));
        }
        let left = SEQUENCE_MAX - self.output.next();
        if count > left {
            let sentence = format!("{count} messages cannot be skipped: {left} numbers are left");
            return Err(Error::new(ErrorKind::InvalidConfiguration, sentence));
        }
        self.output.skip(count);
        Ok(())
    }

    /// Waits until at least so many subscribers are there. `Duration::MAX` is for ever.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), with how many there are; [`ServerClosed`](ErrorKind::ServerClosed),
    /// [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::Subscriber::connect(name)?;
    /// publisher.wait_for_subscribers(1, std::time::Duration::from_secs(5))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_for_subscribers(&mut self, count: usize, timeout: Duration) -> Result<()> {
        let deadline = Deadline::after(timeout);
        loop {
            self.output.check(0)?;
            self.poller.poll(&mut self.events)?; // so that the descriptor tells of who comes after this
            let there = self.output.audience().len();
            if there >= count {
                self.output.notice();
                return Ok(());
            }
            if deadline.is_over() {
                return Err(Error::new(
                    ErrorKind::TimedOut { maybe_executed: false },
                    format!("{there} of {count} subscribers came within {}", spoken(timeout)),
                ));
            }
            runtime_guard::is_about_to_sleep("waiting for subscribers");
            self.poller.wait(&mut self.events, deadline.as_instant())?;
        }
    }

    /// Waits until the next message has room, or whoever keeps it waiting is cut off.
    #[cold]
    fn wait_for_room(&mut self, deadline: Deadline) -> Result<()> {
        if self.output.has_no_patience() {
            return if self.has_room_when_asked()? { Ok(()) } else { Err(full()) };
        }
        loop {
            if self.spin()? || !self.output.announce() {
                return Ok(());
            }
            if deadline.is_over() {
                return Err(Error::new(
                    ErrorKind::TimedOut { maybe_executed: false },
                    "no room within the time allowed: a subscriber has not read what the next message would replace",
                ));
            }
            runtime_guard::is_about_to_sleep("waiting for subscribers to read");
            let begin = Instant::now();
            let until = begin.checked_add(self.output.patience_left());
            self.poller.wait(&mut self.events, until.into_iter().chain(deadline.as_instant()).min())?;
            self.output.charge(begin.elapsed());
            self.output.check(0)?;
        }
    }

    /// Whether there is room after all, once all who keep it have been asked to ring: the descriptor tells of that.
    #[cold]
    fn has_room_when_asked(&mut self) -> Result<bool> {
        self.poller.poll(&mut self.events)?; // what rang before does not count
        Ok(!self.output.announce())
    }

    /// Spins for as long as that pays. Whether there is room.
    fn spin(&mut self) -> Result<bool> {
        if self.wait == Wait::Park {
            return Ok(false);
        }
        let budget = match self.wait {
            Wait::Spin => self.wake_latency.spin_budget(),
            _ => self.spin_budget.next(&self.wake_latency),
        };
        let begin = Instant::now();
        let has_room = !budget.is_zero() && waiter::spin_for(budget, || Ok::<_, Error>(self.output.has_room()))?;
        match has_room {
            true => self.spin_budget.paid(),
            // What was waited in vain counts as the subscriber's, as what is slept does.
            false if !budget.is_zero() => {
                self.spin_budget.failed();
                self.output.charge(begin.elapsed());
            }
            false => {}
        }
        Ok(has_room)
    }

    /// What this publisher has counted.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// publisher.send(b"to nobody")?;
    /// assert_eq!((publisher.stats().published, publisher.stats().subscribers), (1, 0));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> PublisherStats {
        let counts = self.output.counts();
        PublisherStats {
            published: self.output.next() - 1,
            subscribers: self.output.audience().len(),
            rung: counts.rung,
            handed_over: counts.handed_over,
            scans: counts.scans,
            cut_off: counts.cut_off,
        }
    }

    /// Who listens, and how far each is. What a subscriber says of itself is believed, so of another user's it may be
    /// anything.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::Subscriber::connect(name)?;
    /// publisher.wait_for_subscribers(1, std::time::Duration::from_secs(5))?;
    /// publisher.send(b"unread")?;
    /// assert_eq!(publisher.subscribers()[0].lag, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn subscribers(&self) -> Vec<SubscriberState> {
        if self.output.is_forked() {
            return Vec::new();
        }
        let next = self.output.next();
        let (_, members) = self.output.audience().list();
        let states = members.iter().map(|session| {
            let line = session.segment.subscriber_line();
            let read = |word: &crate::sync::AtomicU64| word.load(Ordering::Relaxed); // for people
            let holds = session.seat.as_ref().map_or(0, |seat| seat.holds as usize);
            let cursor = read(&line.cursor);
            SubscriberState {
                peer: Peer::of(session.peer),
                is_same_user: session.trust == Trust::SameUser,
                lag: if cursor == 0 { 0 } else { next.saturating_sub(cursor) },
                received: read(&line.received),
                lost: read(&line.lost),
                may_hold: holds,
                holds: (0..holds).filter(|&index| read(session.segment.hold(index)) != 0).count(),
                is_asleep: line.waiting.load(Ordering::Relaxed) != 0,
            }
        });
        states.collect()
    }

    /// A handle to end this publisher from another thread: nobody subscribes any more, the name is free, and the next
    /// call, or one that waits, says [`ServerClosed`](ErrorKind::ServerClosed). Subscribers are told once the publisher
    /// is dropped.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// let stop = publisher.shutdown_handle();
    /// std::thread::spawn(move || stop.shutdown());
    /// let error = publisher.wait_for_subscribers(1, std::time::Duration::MAX).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::ServerClosed { maybe_executed: false });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::of(Arc::clone(&self.service.shared))
    }

    /// Ends the broadcast in good order, as dropping it does: the name is free when this returns.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// publisher.close();
    /// assert_eq!(subscriber.recv().unwrap_err().kind(), wigwag::ErrorKind::Ended);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn close(self) {}

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// assert_eq!(wigwag::Publisher::bind(name)?.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.service.path
    }

    /// Takes in what rang, so that the epoll tells of the next ring.
    #[cfg(not(loom))]
    pub(crate) fn take_rings(&mut self) -> Result<()> {
        self.poller.poll(&mut self.events)
    }

    /// The core, for tasks and event loops.
    #[cfg(not(loom))]
    pub(crate) fn output(&mut self) -> &mut Output {
        &mut self.output
    }
}

/// For an event loop: becomes readable when a subscriber comes or goes, and after a send that was
/// [`Full`](ErrorKind::Full) when one makes room. Then try again: a [`try_send`](Publisher::try_send) that is `Full`
/// once more takes in what was told, and so does [`wait_for_subscribers`](Publisher::wait_for_subscribers); after that
/// it is readable for what is new. Nothing is to be read from it.
impl AsFd for Publisher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.service.end();
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Publisher").field("path", &self.service.path).field("stats", &self.stats()).finish()
    }
}

/// What a [`Publisher`] has counted since it was bound.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let publisher = wigwag::Publisher::bind(name)?;
/// assert_eq!(publisher.stats(), wigwag::PublisherStats::default());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherStats {
    /// Messages published.
    pub published: u64,
    /// Subscribers just now.
    pub subscribers: usize,
    /// Subscribers that slept and were rung by the publishing thread.
    pub rung: u64,
    /// Messages for which a thread of its own was given the sleepers to wake, because they were many.
    pub handed_over: u64,
    /// Looks at what all subscribers hold.
    pub scans: u64,
    /// Subscribers that were cut off, because the publisher's patience was over.
    pub cut_off: u64,
}

/// One subscriber, as its publisher sees it: see [`Publisher::subscribers`].
///
/// ```
/// fn is_behind(subscriber: &wigwag::SubscriberState) -> bool {
///     subscriber.lag > 10 || subscriber.lost > 0
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberState {
    /// Who it is.
    pub peer: Peer,
    /// Whether it is of the publisher's user.
    pub is_same_user: bool,
    /// Messages that were published and that it has not taken.
    pub lag: u64,
    /// Messages that it took.
    pub received: u64,
    /// Messages that it has lost.
    pub lost: u64,
    /// How many messages it may hold at a time.
    pub may_hold: usize,
    /// How many it holds.
    pub holds: usize,
    /// Whether it sleeps.
    pub is_asleep: bool,
}

#[cold]
pub(super) fn full() -> Error {
    Error::new(
        ErrorKind::Full,
        "a subscriber has not read what the next message would replace, and this publisher waits for it: try again, or \
         let it drop the oldest (PublisherBuilder::overrun)",
    )
}
