//! What a reactor needs of an end of a stream whose reader and writer are tasks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::stream::endpoint::{CloseReason, Endpoint, Reason};
use crate::stream::half::Direction;
use crate::sys::epoll::Events;

impl Endpoint {
    /// For a reactor: this end's bell, which then wakes nobody else any more, and what tells of everything else, which
    /// [`Endpoint::take_events`] takes in. A peer of another user sends its rings as messages; then there is no bell.
    pub fn descriptors(&self) -> Result<(Option<OwnedFd>, OwnedFd)> {
        self.check_fork()?; // a child would change the registrations of its parent, which it shares
        let bell = match (&self.own_bell, &self.private_bell) {
            (Some(bell), None) => Some(bell),
            _ => None,
        };
        let copy = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned().map_err(|error| Error::io("copy a descriptor for the reactor", error))
        };
        let copied = bell.map(|bell| copy(bell.as_fd())).transpose()?;
        if let Some(bell) = bell {
            self.reading.poller().remove(bell);
        }
        Ok((copied, copy(self.reading.poller().as_fd())?))
    }

    /// Whether nobody has rung for the reader since it said that it waits.
    pub fn is_waiting_for_data(&self) -> bool {
        // Relaxed: who rings sets it to 0 before, and the ring is what brought the caller here.
        self.incoming().waits_for_data.load(Ordering::Relaxed) != 0 && !self.is_shut(Direction::Reading)
    }

    /// Whether nobody has rung for the writer since it said that it waits.
    pub fn is_waiting_for_room(&self) -> bool {
        // Relaxed: as above.
        self.outgoing().waits_for_room.load(Ordering::Relaxed) != 0 && !self.is_shut(Direction::Writing)
    }

    /// The runtime by which this end would be woken is gone.
    #[cold]
    pub fn end_with_runtime(&self) {
        self.end(CloseReason::Farewell(Reason::Shutdown, "the tokio runtime of this stream is shutting down".into()));
    }

    /// Hears of the other end's death and what it has to say, without waiting.
    pub fn take_events(&self) {
        let mut events = Events::with_capacity(4);
        match self.reading.poller().poll(&mut events) {
            Ok(()) => self.take_in(&events),
            Err(error) => self.end(CloseReason::Farewell(Reason::Shutdown, error.to_string())),
        }
    }
}
