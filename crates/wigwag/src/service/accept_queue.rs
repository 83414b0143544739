//! Streams that have been established and nobody has accepted yet: what the control thread puts in and a listener takes
//! out.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::Result;
use crate::memory::segment::Segment;
use crate::service::quota::QuotaGrant;
use crate::session::agreement::Agreement;
use crate::session::background::PeerSocket;
use crate::session::peer::Trust;
use crate::session::protocol::{FromServer, Reason};
use crate::statistics::SessionEntry;
use crate::sync;
use crate::sys::eventfd::Bell;
use crate::sys::socket::{self, Credentials};

/// A session with everything that belongs to it. Nobody watches it.
#[derive(Debug)]
pub struct PendingStream {
    /// The shared memory.
    pub segment: Segment,
    /// The control socket, also the sign of life.
    pub socket: PeerSocket,
    /// Tells of the end of the peer's process.
    pub pidfd: Option<OwnedFd>,
    /// Rung by the end that connected.
    pub server_bell: Bell,
    /// Rung by the end that accepts; peers of other users get a message instead.
    pub client_bell: Option<Bell>,
    /// Who is at the other end.
    pub peer: Credentials,
    /// How far it is trusted.
    pub trust: Trust,
    /// What was agreed on.
    pub agreement: Agreement,
    /// The memory object, if observers cannot find it at the peer's.
    pub memory: Option<Arc<OwnedFd>>,
    /// What is counted of it; goes before the charge, so that there are never more records than charges.
    pub record: SessionEntry,
    /// What it costs the listener, given back when it is dropped.
    pub charged: QuotaGrant,
}

impl PendingStream {
    /// Tells the peer that nobody will accept it.
    fn turn_away(self) {
        let farewell = FromServer::Farewell(Reason::Shutdown, "the listener closed before it accepted".into());
        let _ = socket::send(&self.socket, &farewell.encode(), &[]);
        // A forked child of ours may hold the descriptor open: hang up by name.
        socket::hang_up(&self.socket);
    }
}

/// The queue of one listener.
#[derive(Debug)]
pub struct AcceptQueue {
    queue: Mutex<Queue>,
    most: usize,
    /// Readable while a stream waits to be accepted, and for ever once the listener is closed.
    bell: Bell,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<PendingStream>,
    is_closed: bool,
}

/// What a look at the queue found.
#[derive(Debug)]
pub enum Next {
    /// The one who waited longest.
    PendingStream(Box<PendingStream>),
    /// No stream waits at the moment.
    Nobody,
    /// No stream waits, and none will come.
    Closed,
}

impl AcceptQueue {
    /// A queue for at most `most` streams.
    pub fn new(most: usize) -> Result<AcceptQueue> {
        let bell = Bell::new()?;
        Ok(AcceptQueue { queue: Mutex::default(), most, bell })
    }

    /// Whether one more may come while `offers` others are about to: if not, a sentence that says so.
    pub fn check_room(&self, offers: usize) -> std::result::Result<(), String> {
        match self.lock().waiting.len() + offers < self.most {
            true => Ok(()),
            false => Err(format!(
                "{} streams wait to be accepted, as many as the listener allows (StreamListenerBuilder::backlog)",
                self.most
            )),
        }
    }

    /// One more: the control thread, which asked for room before.
    pub fn push(&self, pending: PendingStream) {
        let mut queue = self.lock();
        if queue.is_closed {
            drop(queue);
            return pending.turn_away();
        }
        queue.waiting.push_back(pending);
        self.bell.ring();
    }

    /// Puts back the one who was taken last: it could not be accepted just now.
    pub fn put_back(&self, pending: PendingStream) {
        self.lock().waiting.push_front(pending);
        self.bell.ring();
    }

    /// Takes the one who waited longest.
    pub fn take(&self) -> Next {
        let mut queue = self.lock();
        match queue.waiting.pop_front() {
            Some(pending) => {
                if queue.waiting.is_empty() && !queue.is_closed {
                    self.bell.silence(); // under the lock: nobody rings in between
                }
                Next::PendingStream(Box::new(pending))
            }
            None if queue.is_closed => Next::Closed,
            None => Next::Nobody,
        }
    }

    /// No new stream is queued any more. Those that wait may still be taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.bell.ring();
    }

    /// Tells all who wait that nobody will accept them.
    pub fn turn_all_away(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        waiting.into_iter().for_each(PendingStream::turn_away);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        sync::lock(&self.queue)
    }
}

impl AsFd for AcceptQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
