//! One epoll instance (epoll(7)): where a thread sleeps.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How a descriptor reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Once for each ring, never read: a doorbell.
    Bell,
    /// For as long as something is to be read, or the other end is gone: a socket, a pidfd.
    Readable,
    /// Once the other end is gone, whatever else it says: a socket that somebody else reads.
    HungUp,
    /// Once each time that the other end has read something or is gone.
    Drained,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller(OwnedFd);

/// What one sleep brought.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number the descriptor was added under.
    pub key: u64,
    /// The other end hung up, or the descriptor is in error.
    pub hung_up: bool,
}

/// The longest sleep that epoll_wait(2) can be told, with room to spare: 2^31 milliseconds are 24.8 days.
const LONGEST_SLEEP_S: u64 = 24 * 86_400;

fn left_until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(LONGEST_SLEEP_S));
    Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
}

/// Room for the events of one sleep, kept by the caller so that sleeping allocates nothing.
pub struct Events {
    buffer: Box<[MaybeUninit<epoll::Event>]>,
    ready: Vec<Ready>,
}

// SAFETY: the buffer is only ever written by the kernel and read as numbers; the pointer that the kernel's union could
// also hold is never stored in it.
unsafe impl Send for Events {}

impl Events {
    /// Room for `most` events.
    pub fn with_capacity(most: usize) -> Events {
        Events { buffer: Box::new_uninit_slice(most.max(1)), ready: Vec::with_capacity(most.max(1)) }
    }

    /// The events of the last sleep.
    pub fn iter(&self) -> impl Iterator<Item = Ready> + '_ {
        self.ready.iter().copied()
    }

    /// How many events the last sleep brought.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// The event at `index`.
    pub fn get(&self, index: usize) -> Ready {
        self.ready[index]
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list().entries(&self.ready).finish()
    }
}

impl Poller {
    /// Makes an epoll instance, closed on exec.
    pub fn new() -> Result<Poller> {
        epoll::create(CreateFlags::CLOEXEC).map(Poller).map_err(|error| Error::io("create an epoll instance", error))
    }

    /// Adds a descriptor under a number. What is there already is added anew: its level counts as a fresh edge then,
    /// too, so a caller whose later registration failed may begin again from the first one.
    pub fn add(&self, source: impl AsFd, key: u64, interest: Interest) -> Result<()> {
        let flags = match interest {
            Interest::Bell => EventFlags::IN | EventFlags::ET,
            Interest::HungUp => EventFlags::RDHUP | EventFlags::ET,
            Interest::Drained => EventFlags::OUT | EventFlags::ET,
            Interest::Readable => EventFlags::IN | EventFlags::RDHUP,
        };
        let added = match epoll::add(&self.0, &source, EventData::new_u64(key), flags) {
            Err(Errno::EXIST) => epoll::modify(&self.0, &source, EventData::new_u64(key), flags),
            other => other,
        };
        added.map_err(|error| Error::io("watch a descriptor", error))
    }

    /// Reports a descriptor once more whose level is still there: to a reactor that has this epoll, edge-triggered, and
    /// so learns only of what becomes ready in here. Modifying an entry that is ready reports nothing, so it is removed
    /// and added.
    pub fn tell_again(&self, source: impl AsFd, key: u64) -> Result<()> {
        self.remove(&source);
        self.add(source, key, Interest::Readable)
    }

    /// Removes a descriptor. Needed when another process may hold it open: only then does closing it not remove it.
    pub fn remove(&self, source: impl AsFd) {
        let _ = epoll::delete(&self.0, source);
    }

    /// Sleeps until something is ready or the deadline has passed, which is noticed up to a millisecond late. A signal
    /// ends the sleep early, with no events, and so does a deadline that is weeks away.
    pub fn wait(&self, events: &mut Events, deadline: Option<Instant>) -> Result<()> {
        events.ready.clear();
        self.wait_raw(events, deadline.map(left_until).as_ref())
    }

    /// The same, for one more system call, with a deadline that is as exact as the thread's timers: epoll_wait(2)
    /// counts in milliseconds, and epoll_pwait2(2) is not on every kernel.
    pub fn wait_exactly(&self, events: &mut Events, deadline: Instant) -> Result<()> {
        match rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left_until(deadline))) {
            Ok(_) | Err(Errno::INTR) => self.poll(events),
            Err(error) => Err(Error::io("wait for events", error)),
        }
    }

    /// Looks without sleeping.
    pub fn poll(&self, events: &mut Events) -> Result<()> {
        events.ready.clear();
        self.wait_raw(events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    fn wait_raw(&self, events: &mut Events, timeout: Option<&Timespec>) -> Result<()> {
        match epoll::wait(&self.0, &mut *events.buffer, timeout) {
            Ok((got, _)) => {
                let hang_up = EventFlags::HUP | EventFlags::RDHUP | EventFlags::ERR;
                events.ready.extend(got.iter().map(|event| {
                    let flags = event.flags;
                    Ready { key: event.data.u64(), hung_up: flags.intersects(hang_up) }
                }));
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Error::io("wait for events", error)),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::eventfd::Bell;

    #[test]
    fn w8_what_is_added_twice_is_heard_once_for_each_ring_and_once_for_its_level() {
        let (poller, bell, mut events) = (Poller::new().unwrap(), Bell::new().unwrap(), Events::with_capacity(4));
        let mut heard = || {
            poller.poll(&mut events).unwrap();
            events.iter().map(|ready| ready.key).collect::<Vec<_>>()
        };
        poller.add(&bell, 1, Interest::Bell).unwrap();
        assert!(heard().is_empty());
        bell.ring();
        assert_eq!(heard(), [1]);
        // As a caller does that begins again after a later registration failed.
        poller.add(&bell, 2, Interest::Bell).unwrap();
        assert_eq!(heard(), [2], "what rang before is an edge once more: nothing is missed");
        assert!(heard().is_empty());
        bell.ring();
        assert_eq!(heard(), [2]);
    }
}
