//! What a subscriber and the messages that it has handed out keep together: the publisher's memory, the session with
//! the holds in it, and the sign of life. It ends with the last of them, so that no hold outlives the session that the
//! publisher knows.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::memory::board::{Board, BoardGeometry, Hints};
use crate::memory::entry::{self, Entry};
use crate::memory::hold;
use crate::memory::segment::Segment;
use crate::options::ConnectOptions;
use crate::session::agreement::Agreement;
use crate::session::background::PeerSocket;
use crate::session::connect::{BoardParts, Established};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::sys::epoll::Poller;
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::socket::{self, Credentials};

/// One session of a subscriber.
pub struct Reception {
    /// What the publisher writes.
    pub board: Board,
    /// Where this subscriber says that it sleeps; `None` at a publisher of another user.
    pub hints: Option<Hints>,
    /// Its bit there.
    pub group: usize,
    /// The board's memory object, to be read at a publisher of another user.
    pub memory: OwnedFd,
    /// Which publisher it is.
    pub epoch: u64,
    /// The newest message before the publisher knew of this session: it publishes all later ones to it.
    pub newest_at_first: u64,
    /// The session's memory.
    pub segment: Segment,
    /// The control socket, also the sign of life.
    pub socket: Arc<PeerSocket>,
    /// Rung by this subscriber.
    pub server_bell: Bell,
    /// Where it sleeps: its bell, the socket and the publisher's pidfd are in it.
    pub poller: Poller,
    /// Kept open for the poller.
    _client_bell: Option<Bell>,
    _pidfd: Option<OwnedFd>,
    _memory: Option<OwnedFd>,
    /// Who publishes.
    pub peer: Credentials,
    /// What was agreed on.
    pub agreement: Agreement,
    /// How many messages may be held.
    holds: usize,
    /// Which holds are in use, by bit: set by the subscriber, cleared by whoever drops a message.
    in_use: AtomicU64,
    fork: ForkGuard,
}

/// What became of an attempt to hold a message.
pub enum Hold {
    /// It is held, by that hold.
    Taken(u32),
    /// The entry has gone on.
    Lapped,
    /// The publisher counts no holds of this session, or not yet: copy.
    NotListed,
}

impl Reception {
    /// The session of an attachment. The board's header is compared with what was announced, and the rest of it is
    /// never trusted at a publisher of another user.
    pub fn new(established: Established, options: &ConnectOptions) -> Result<Reception> {
        let Established {
            segment,
            socket,
            server_bell,
            poller,
            client_bell,
            pidfd,
            peer,
            agreement,
            memory,
            board,
            ..
        } = established;
        let Some(BoardParts { memory: board_memory, board, newest, hints, told }) = board else {
            return Err(violation("it sent no board"));
        };
        let is_whole = hints.is_some();
        let (expected, found) = (board.geometry().header(&options.contract, told.epoch), board.read_header());
        if found != expected {
            return Err(violation(&format!("the board's header is {found:?}, but {expected:?} was announced")));
        }
        Ok(Reception {
            board,
            hints: hints.map(Hints::map).transpose()?,
            group: told.group as usize,
            memory: board_memory,
            epoch: told.epoch,
            newest_at_first: newest,
            segment,
            socket,
            server_bell,
            poller,
            _client_bell: client_bell,
            _pidfd: pidfd,
            _memory: memory,
            peer,
            agreement,
            holds: if is_whole { told.holds as usize } else { 0 },
            in_use: AtomicU64::new(0),
            fork: ForkGuard::new(),
        })
    }

    /// The board's geometry.
    #[inline(always)]
    pub fn geometry(&self) -> &BoardGeometry {
        self.board.geometry()
    }

    /// Whether the publisher is of the same user.
    #[inline(always)]
    pub fn is_trusted(&self) -> bool {
        self.hints.is_some()
    }

    /// Whether this is a child that inherited the subscriber.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// How many messages may be held at a time.
    pub fn holds(&self) -> usize {
        self.holds
    }

    /// How many are held.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed).count_ones() as usize
    }

    /// Whether the publisher counts the holds of this session.
    #[inline(always)]
    fn is_listed(&self) -> bool {
        self.segment.listed().load(Ordering::Acquire) == 1 // partner: `Listeners::follow`
    }

    /// Holds the body of message `sequence`, which was found in that entry, if it can be held: by the subscriber alone.
    ///
    /// # Errors
    /// [`Full`](ErrorKind::Full): as many are held as may be.
    #[inline]
    pub fn hold(&self, entry: &Entry, sequence: u64, body: u32) -> Result<Hold> {
        if self.holds == 0 || !self.is_listed() {
            return Ok(Hold::NotListed);
        }
        // Acquire: the hold that is used anew was released before. Partner: `release`.
        let free = (!self.in_use.load(Ordering::Acquire)).trailing_zeros() as usize;
        if free >= self.holds {
            return Err(self.full());
        }
        let word = self.segment.hold(free);
        hold::ask(word, body);
        if !entry::is_still(entry, sequence) {
            hold::release(word);
            return Ok(Hold::Lapped);
        }
        if !self.is_listed() {
            hold::release(word); // the publisher may have looked already, for the last time
            return Ok(Hold::NotListed);
        }
        if faults::is(Fault::EarlyRelease) {
            hold::release(word);
        }
        self.in_use.fetch_or(1 << free, Ordering::Relaxed); // set by one thread only
        Ok(Hold::Taken(free as u32))
    }

    /// Lets go of a message: any thread.
    pub fn release(&self, taken: u32) {
        if self.is_forked() {
            return; // the memory is not here
        }
        hold::release(self.segment.hold(taken as usize));
        self.in_use.fetch_and(!(1 << taken), Ordering::Release); // partner: `hold`
    }

    /// The newest message.
    pub fn newest(&self) -> u64 {
        self.board.newest()
    }

    /// Whether this publisher waits for its subscribers.
    pub fn is_lossless(&self) -> bool {
        let is_lossless = self.board.publisher_line().is_lossless.load(Ordering::Relaxed) == 1;
        fence(Ordering::Acquire);
        is_lossless && self.is_trusted()
    }

    #[cold]
    fn full(&self) -> Error {
        Error::new(
            ErrorKind::Full,
            format!(
                "this subscriber holds {} messages, as many as its publisher grants it (PublisherBuilder::holds): drop \
                 one, or copy them (Subscriber::recv_into)",
                self.holds
            ),
        )
    }
}

impl Drop for Reception {
    fn drop(&mut self) {
        if !self.fork.is_forked() {
            socket::hang_up(&*self.socket); // a forked child may hold it open
        }
    }
}

impl fmt::Debug for Reception {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reception").field("peer", &self.peer).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

#[cold]
pub fn violation(why: &str) -> Error {
    Error::new(ErrorKind::Violation, format!("the publisher broke the protocol: {why}"))
}
