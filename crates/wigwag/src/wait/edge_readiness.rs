//! A descriptor of one's own that tells of each new ring: how several waiters sleep on one session.
//!
//! The descriptors of a session are shared by all who wait on it: its bell is never read, and a dead server's process
//! stays readable for ever. So who sleeps on them directly would miss what another took, or never sleep again. Each
//! waiter has an epoll of its own instead, which watches them edge-triggered (epoll(7)): every ring is told to every
//! waiter once, whatever the others do.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use crate::error::Result;
use crate::sys::epoll::{Events, Interest, Poller};

/// The key of the descriptor that tells of a session's end.
const KEY_LIFE: u64 = 0;
/// The key of all others, which only ring.
const KEY_RING: u64 = 1;

/// A descriptor that becomes readable when something may have come: for `poll`, an epoll or an event loop.
///
/// It belongs to one waiter, a thread or an event loop: each has its own, from
/// [`polled::Client::readiness`](crate::polled::Client::readiness). The one that waits asks first (`arm`), then waits
/// until this is readable, then hands it to `listen`, which makes it wait for the next ring, and looks again.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let server = wigwag::Server::bind(name)?;
/// use std::os::fd::AsFd;
/// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
/// let mut readiness: wigwag::polled::Readiness = client.readiness()?;
/// let fd = readiness.as_fd();                     // for the event loop
/// # let _ = fd;
/// client.listen(&mut readiness)?;                 // whenever it was readable
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Readiness {
    poller: Poller,
    events: Events,
    /// What is watched until something else is to be waited for.
    for_now: Vec<ToldForNow>,
    /// As of when that is.
    generation: u64,
}

/// What tells of something for a time, kept open by all who watch it: so each can stop watching it.
pub(crate) type ToldForNow = Arc<dyn AsFd + Send + Sync>;

impl Readiness {
    /// Watches what tells of the session's end, and what rings.
    pub(crate) fn new(life: BorrowedFd<'_>, rings: &[BorrowedFd<'_>]) -> Result<Readiness> {
        let events = Events::with_capacity(1 + rings.len());
        let readiness = Readiness { poller: Poller::new()?, events, for_now: Vec::new(), generation: 0 };
        readiness.watch(life, rings)?;
        Ok(readiness)
    }

    /// Watches another session's descriptors, too. Those of a session that is gone leave by being closed.
    pub(crate) fn watch(&self, life: BorrowedFd<'_>, rings: &[BorrowedFd<'_>]) -> Result<()> {
        self.poller.add(life, KEY_LIFE, Interest::Bell)?;
        rings.iter().try_for_each(|ring| self.poller.add(ring, KEY_RING, Interest::Bell))
    }

    /// Watches something that only rings, for good.
    pub(crate) fn watch_ring(&self, ring: impl AsFd) -> Result<()> {
        self.poller.add(ring, KEY_RING, Interest::Bell)
    }

    /// As of when what it watches [for now](Readiness::watch_for_now) is.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Watches these, too, instead of those that it watched before.
    pub(crate) fn watch_for_now(&mut self, generation: u64, told: Vec<ToldForNow>) -> Result<()> {
        self.for_now.drain(..).for_each(|former| self.poller.remove(former.as_fd()));
        for one in told {
            self.poller.add(one.as_fd(), KEY_RING, Interest::Bell)?;
            self.for_now.push(one);
        }
        self.generation = generation;
        Ok(())
    }

    /// Takes in what rang: it is readable again with the next ring. Whether there is something about the session's end.
    pub(crate) fn take(&mut self) -> Result<bool> {
        self.poller.poll(&mut self.events)?;
        Ok(self.events.iter().any(|ready| ready.key == KEY_LIFE))
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Readiness").field("fd", &self.as_raw_fd()).finish()
    }
}
