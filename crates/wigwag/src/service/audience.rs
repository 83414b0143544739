//! Who listens to a publisher: what the control thread keeps up to date, and the publisher looks at.
//!
//! The control thread puts subscribers in and takes them out; it never waits for the publisher. The publisher has a
//! list of its own, and makes it anew when `version` says that somebody of its own user came or went: one load for each
//! message, of a word that hardly ever changes. Subscribers of other users come and go at no cost to it: it knows how
//! many they are, and the thread that wakes them knows who.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::Result;
use crate::faults::{self, Fault};
use crate::memory::board::BoardGeometry;
use crate::memory::doorbell::Waiting;
use crate::memory::hint::GROUPS;
use crate::service::session::Session;
use crate::session::peer::Trust;
use crate::session::protocol::BoardWelcome;
use crate::sync::{self, AtomicU64, Ordering};
use crate::sys::eventfd::Bell;

/// The memory that all subscribers read, as it is sent to them, and the subscribers.
#[derive(Debug)]
pub struct Audience {
    geometry: BoardGeometry,
    epoch: u64,
    board: OwnedFd,
    hints: OwnedFd,
    /// Rung by subscribers that the publisher waits for, and when somebody comes or goes.
    bell: Bell,
    /// Rung for the thread that wakes many.
    waker_bell: Bell,
    /// How many messages a subscriber may hold.
    holds_each: u32,
    seats: Arc<Mutex<Seats>>,
    members: Mutex<Vec<Arc<Session>>>,
    /// Changed whenever somebody of the publisher's user comes or goes.
    version: AtomicU64,
    /// The same of other users.
    others_version: AtomicU64,
    /// How many are of other users.
    others: AtomicU64,
    /// How many are about to join.
    arriving: Arc<AtomicU64>,
}

/// What is given to subscribers and comes back with their end.
#[derive(Debug)]
struct Seats {
    /// How many sit in each group.
    taken: Vec<u32>,
    /// Holds that nobody has.
    holds: u32,
}

/// One subscriber's share: its group, and how many messages it may hold. It goes back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    /// Its bit in the hint line.
    pub group: u32,
    /// How many messages it may hold; 0: it copies.
    pub holds: u32,
    seats: Arc<Mutex<Seats>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = sync::lock(&self.seats);
        seats.taken[self.group as usize] -= 1;
        seats.holds += self.holds;
    }
}

/// A subscriber that may have been let in, and has not joined yet.
pub struct Arrival(Arc<AtomicU64>);

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release); // after it has joined; partner: `is_awaiting`
    }
}

impl Audience {
    /// Nobody yet. `holds`: how many messages all subscribers together may hold.
    pub fn new(
        geometry: BoardGeometry,
        epoch: u64,
        (board, hints): (OwnedFd, OwnedFd),
        holds: u32,
        holds_each: u32,
    ) -> Result<Audience> {
        Ok(Audience {
            geometry,
            epoch,
            board,
            hints,
            bell: Bell::new()?,
            waker_bell: Bell::new()?,
            holds_each,
            seats: Arc::new(Mutex::new(Seats { taken: vec![0; GROUPS], holds })),
            members: Mutex::default(),
            version: AtomicU64::new(0),
            others_version: AtomicU64::new(0),
            others: AtomicU64::new(0),
            arriving: Arc::default(),
        })
    }

    /// Bytes of the memory that all subscribers read.
    pub fn size(&self) -> usize {
        self.geometry.size
    }

    /// A seat in the emptiest group, for a session with so many hold words. Another user's subscriber holds nothing,
    /// and neither does one that comes when everything that may be held is given away.
    pub fn seat(&self, trust: Trust, words: usize) -> Seat {
        let mut seats = sync::lock(&self.seats);
        let group = (0..GROUPS).min_by_key(|&group| seats.taken[group]).unwrap_or(0);
        seats.taken[group] += 1;
        let may_hold = trust == Trust::SameUser && self.geometry.bodies > 0;
        let holds = if may_hold { self.holds_each.min(words as u32).min(seats.holds) } else { 0 };
        seats.holds -= holds;
        Seat { group: group as u32, holds, seats: Arc::clone(&self.seats) }
    }

    /// Somebody is about to be let in: until that is dropped, after it has joined, its publisher keeps what it may
    /// read.
    pub fn arrive(&self) -> Arrival {
        // SeqCst: first half of Dekker's pattern. The client looks at what is published after this, as it is told after
        // this. Partner: the fence in `Output::publish`.
        self.arriving.fetch_add(1, Ordering::SeqCst);
        Arrival(Arc::clone(&self.arriving))
    }

    /// Whether somebody is about to join, who may begin with the newest message or with the next one: after a message
    /// was published, and a fence. Who has joined is in the list then.
    pub fn is_awaiting(&self) -> bool {
        self.arriving.load(Ordering::Acquire) > 0 // partner: `Arrival::drop`
    }

    /// What a subscriber with that seat is told.
    pub fn welcome(&self, seat: &Seat) -> BoardWelcome {
        BoardWelcome {
            entries: self.geometry.entries as u32,
            bodies: self.geometry.bodies as u32,
            holds: seat.holds,
            group: seat.group,
            epoch: self.epoch,
        }
    }

    /// The descriptors that a subscriber gets: the board, and the hint line if it is of the publisher's user.
    pub fn descriptors(&self, trust: Trust) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        let hints = (trust == Trust::SameUser).then(|| self.hints.as_fd());
        [self.board.as_fd()].into_iter().chain(hints)
    }

    /// What a subscriber rings: of the publisher's user the one bell that the publisher sleeps at, else one of its own.
    pub fn bell_for(&self, trust: Trust) -> Result<Bell> {
        match trust {
            Trust::SameUser => self.bell.duplicate(),
            Trust::OtherUser => Bell::new(),
        }
    }

    /// Where the publisher sleeps.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Where the thread that wakes many sleeps.
    pub fn waker_bell(&self) -> &Bell {
        &self.waker_bell
    }

    /// The control thread: somebody came. It may sleep already, and be rung for by nobody: the publisher has taken its
    /// bit before it was here.
    pub fn join(&self, session: &Arc<Session>) {
        self.members().push(Arc::clone(session));
        if session.trust == Trust::OtherUser {
            // SeqCst: as in `changed`.
            self.others.fetch_add(1, Ordering::SeqCst);
        }
        self.changed(session.trust);
        if Waiting(&session.segment.subscriber_line().waiting).claim() {
            session.ring_client();
        }
    }

    /// The control thread: somebody is gone.
    pub fn leave(&self, id: u64) {
        if faults::is(Fault::UnnoticedLeave) {
            return;
        }
        let gone = {
            let mut members = self.members();
            members.iter().position(|session| session.id == id).map(|at| members.swap_remove(at))
        };
        let Some(gone) = gone else { return };
        if gone.trust == Trust::OtherUser {
            self.others.fetch_sub(1, Ordering::Relaxed); // too many for a moment: a ring for nothing
        }
        self.changed(gone.trust);
        self.waker_bell.ring(); // so that its list does not keep the session
        drop(gone); // not under the lock
    }

    /// How often somebody of the publisher's user has come or gone.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire) // partner: `changed`
    }

    /// The same of other users.
    pub fn others_version(&self) -> u64 {
        self.others_version.load(Ordering::Acquire) // partner: `changed`
    }

    /// Whether there are some of other users: after a message was published, and a fence.
    #[inline(always)]
    pub fn has_others(&self) -> bool {
        self.others.load(Ordering::Relaxed) > 0 // partner: `join`
    }

    /// Those who are here.
    pub fn list(&self) -> (u64, Vec<Arc<Session>>) {
        let members = self.members();
        (self.version(), members.clone())
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.members().len()
    }

    fn changed(&self, whose: Trust) {
        match whose {
            // After the list was changed; partner: `version`. SeqCst: who comes is looked at after this (`join`).
            Trust::SameUser => _ = self.version.fetch_add(1, Ordering::SeqCst),
            Trust::OtherUser => {
                self.others_version.fetch_add(1, Ordering::Release); // partner: `others_version`
                self.waker_bell.ring();
            }
        }
        self.bell.ring();
    }

    fn members(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        // Nothing panics while it is held.
        sync::lock(&self.members)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::contract::Contract;
    use crate::memory::board::{Board, Hints};

    fn audience(holds: u32, holds_each: u32) -> Audience {
        let geometry = BoardGeometry::new(3, 8, 100).unwrap();
        let (_, board) = Board::create(geometry, &geometry.header(&Contract::bytes(), 1)).unwrap();
        let (_, hints) = Hints::create().unwrap();
        Audience::new(geometry, 1, (board, hints), holds, holds_each).unwrap()
    }

    #[test]
    fn holds_are_given_while_there_are_some_and_come_back() {
        let audience = audience(5, 2);
        let seats: Vec<Seat> = (0..3).map(|_| audience.seat(Trust::SameUser, 4)).collect();
        assert_eq!(seats.iter().map(|seat| seat.holds).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(seats.iter().map(|seat| seat.group).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(audience.seat(Trust::SameUser, 4).holds, 0, "all are given away");
        drop(seats);
        assert_eq!(audience.seat(Trust::OtherUser, 4).holds, 0, "another user's copies");
        assert_eq!(audience.seat(Trust::SameUser, 4).holds, 2);
        assert_eq!(audience.seat(Trust::SameUser, 1).holds, 1, "no more than its session has words for");
    }

    #[test]
    fn more_subscribers_than_groups_share_them_evenly() {
        let audience = audience(0, 2);
        let seats: Vec<Seat> = (0..2 * GROUPS + 1).map(|_| audience.seat(Trust::SameUser, 4)).collect();
        let mut counts = vec![0; GROUPS];
        seats.iter().for_each(|seat| counts[seat.group as usize] += 1);
        assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&2), Some(&3)));
    }
}
