//! The server's side of one client's connection: the unit of isolation, of accounting and of failure.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::contract::Encoding;
use crate::error::Result;
use crate::form::Form;
use crate::memory::bounce_buffer::BounceBuffer;
use crate::memory::head::Head;
use crate::memory::segment::{Line, Segment};
use crate::memory::slot;
use crate::service::abandonment::Abandonment;
use crate::service::audience::Seat;
use crate::service::delivered::Delivered;
use crate::service::keeping::KeptSession;
use crate::service::quota::QuotaGrant;
use crate::service::shared::{Command, ServiceShared};
use crate::session::agreement::Agreement;
use crate::session::arrivals::{Loss, PeerDescriptors};
use crate::session::background::PeerSocket;
use crate::session::descriptors::{self, Drained, Found, Inbox, UnderWay};
use crate::session::peer::Trust;
use crate::session::protocol::{FromServer, Reason};
use crate::statistics::SessionEntry;
use crate::sys::clock;
use crate::sys::epoll::{Interest, Poller};
use crate::sys::eventfd::Bell;
use crate::sys::socket::{self, Credentials};

/// A session as the threads that serve it see it. The control thread has it too, and decides when it is over.
///
/// It does not own the server: a request that outlives the server keeps its memory, not the server's.
#[derive(Debug)]
pub struct Session {
    /// Number of the session, never used twice in a server's life.
    pub id: u64,
    /// The shared memory.
    pub segment: Segment,
    /// The memory object, kept for clients of other users only: their payloads are read with `pread`, which neither
    /// makes pages that were never written nor can fault.
    pub memory: Option<Arc<OwnedFd>>,
    /// The memory object of a client that is trusted and cannot be seen from here, being of another PID namespace: kept
    /// where observers find it. Also of one whose messages are to be kept, for a keeper that comes later.
    pub shown: Option<Arc<OwnedFd>>,
    /// The control socket, also the sign of life.
    pub socket: Arc<PeerSocket>,
    /// There if descriptors may travel.
    pub descriptors: Option<Box<SessionDescriptors>>,
    /// Rung by the client.
    pub server_bell: Bell,
    /// Rung by the server; clients of other users get a message instead, see [`Session::ring_client`].
    pub client_bell: Option<Bell>,
    /// What the two do with the memory.
    pub form: Form,
    /// How values become bytes in it.
    #[cfg_attr(not(feature = "serde"), allow(dead_code, reason = "only values are encoded"))]
    pub encoding: Encoding,
    /// Who is at the other end.
    pub peer: Credentials,
    /// How far it is trusted.
    pub trust: Trust,
    /// What was agreed on.
    pub agreement: Agreement,
    /// Whether a request takes more to be opened than a look: it is copied, or marked as begun. One word for both, so
    /// that the usual way asks nothing more than whether to copy.
    pub is_opened_specially: bool,
    /// What is counted of it; goes before the charge, so that there are never more records than charges.
    pub record: SessionEntry,
    /// What it costs the server, given back when the last owner lets go.
    pub charged: QuotaGrant,
    /// The last sequence answered in each slot, in private memory: until then the slot is not taken again (invariant
    /// S2).
    pub answered: Box<[AtomicU64]>,
    /// A queue's of another user: by slot, what was copied out of it until it is acknowledged.
    pub copies: Box<[Mutex<Option<Box<BounceBuffer>>>]>,
    /// Which serving thread has it: written under the lock of the mailboxes.
    pub mailbox: AtomicU64,
    /// Of a subscriber: its share of what its publisher grants.
    pub seat: Option<Seat>,
    /// Which handlers wait for their callers to give up, and whether all of them have.
    pub abandonment: Abandonment,
    /// Whether somebody has asked for its end already.
    pub is_ending: AtomicBool,
    /// The server, while it lives.
    pub shared: Weak<ServiceShared>,
    /// What stands for it at a keeper; it is released when nobody can take a message from here any more.
    pub kept: Option<KeptSession>,
}

/// The descriptors of a session in which they may travel.
#[derive(Debug)]
pub struct SessionDescriptors {
    /// Those of requests that no thread has taken yet.
    pub inbox: Inbox,
    /// Those of messages that are not acknowledged.
    pub delivered: Delivered,
    /// Those of replies.
    pub under_way: Arc<UnderWay>,
}

/// What comes with a request or a message.
pub enum Carried {
    /// So many as its head says.
    All(PeerDescriptors),
    /// They were lost: the request is answered so, the message handed out without them.
    Lost(Loss),
    /// The session ends for a reason that was told.
    Refused,
}

impl Session {
    /// Takes what came with request `sequence` of a slot, whose turn was seen and whose head says that `count`
    /// descriptors travel with it.
    #[cold]
    pub fn take_descriptors(&self, slot: usize, sequence: u64, count: u32) -> Carried {
        let what = format!("request {sequence} of slot {slot} has {count} descriptors");
        let Some(SessionDescriptors { inbox, .. }) = self.descriptors.as_deref() else {
            self.condemn(format!("{what}, which do not travel in this session"));
            return Carried::Refused;
        };
        let mut found = inbox.take(slot, sequence, count as usize);
        if matches!(found, Found::Nothing) {
            // The message was sent before the turn was passed, which has been seen: it is here now, or never will be.
            match self.drain_descriptors(inbox) {
                Drained::Open | Drained::Gone => {}
                Drained::Refused(why) => {
                    self.condemn(why);
                    return Carried::Refused;
                }
                Drained::Failed(why) => {
                    self.end(Reason::Refused, why);
                    return Carried::Refused;
                }
            }
            found = inbox.take(slot, sequence, count as usize);
        }
        match found {
            Found::Whole(descriptors) => return Carried::All(descriptors),
            Found::Lost(loss) => return Carried::Lost(loss),
            Found::Miscounted(sent) => self.condemn(format!("{what}, and {sent} were sent")),
            Found::Nothing => self.condemn(format!("{what}, and no message came with them")),
        }
        Carried::Refused
    }

    /// Closes what has come and belongs to nothing that was taken: nobody will ask for it.
    pub fn clear_inbox(&self) {
        self.descriptors.iter().for_each(|travelling| travelling.inbox.clear());
    }

    /// Takes in what the client has sent.
    pub fn drain_descriptors(&self, inbox: &Inbox) -> Drained {
        // Acquire, as in `is_answered`. A client sends the next request's once it has seen the last one's reply.
        let due = |slot: usize| Some(slot::next_sequence(self.answered[slot].load(Ordering::Acquire)));
        inbox.drain(&self.socket, due)
    }

    /// Sends descriptors that travel with the reply to request `sequence` of a slot, directly before it is passed back.
    #[cold]
    pub fn send_descriptors(&self, slot: usize, sequence: u64, descriptors: &PeerDescriptors) -> Result<()> {
        let Some(travelling) = &self.descriptors else { return Err(descriptors::not_agreed()) };
        travelling.under_way.send(slot, sequence, &descriptors.borrowed())
    }

    /// Wakes the client.
    ///
    /// A process that shares an eventfd can make a write to it block (fill the counter, clear O_NONBLOCK), so a client
    /// of another user is rung by a message that never waits. A client that does not read its messages stays asleep.
    #[cold]
    pub fn ring_client(&self) {
        if self.agreement.has_ring_times() {
            // A hint, read by the client that is woken: the ring, which is a system call, orders it.
            self.segment.server_line().rang_ns.store(clock::now_ns(), Ordering::Relaxed);
        }
        match &self.client_bell {
            Some(bell) => bell.ring(),
            None => self.ring_other_user(),
        }
    }

    /// Sends the message that wakes. The send runs in this thread's time, which grows with the number of epolls that
    /// have the socket. A peer that made it slow is woken by a background job from then on, and the session ends if it
    /// is slow still.
    fn ring_other_user(&self) {
        let ring = |socket: &PeerSocket| {
            let _ = socket::send(socket, &FromServer::Bell.encode(), &[]);
        };
        let wakes = self.charged.wakes();
        if !wakes.is_slow() {
            wakes.wake(|| ring(&self.socket));
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        if !self.socket.is_ring_due() {
            return;
        }
        let (id, server) = (self.id, Weak::clone(&self.shared));
        let (socket, wakes) = (Arc::clone(&self.socket), Arc::clone(wakes));
        shared.background.run(self.peer.uid, move || {
            socket.ring_begins();
            if wakes.wake(|| ring(&socket))
                && let Some(shared) = server.upgrade()
            {
                let why = "to wake it takes the server more than a hundred times what it should: its socket is in too \
                    many epolls";
                shared.command(Command::EndSession { id, reason: Reason::Violation, why: why.into() });
            }
        });
    }

    /// Whether request `sequence` of a slot has been answered, so that the slot may be taken again.
    #[inline(always)]
    pub fn is_answered(&self, slot: usize, sequence: u64) -> bool {
        // Acquire, partner: `set_answered`; the request may have been answered on another thread.
        self.answered[slot].load(Ordering::Acquire) == sequence
    }

    /// The request `sequence` of a slot is being answered: its bytes are not touched here any more.
    #[inline(always)]
    pub fn set_answered(&self, slot: usize, sequence: u64) {
        self.answered[slot].store(sequence, Ordering::Release);
    }

    /// The sequence of the message that was taken from a slot of a queue and has not been acknowledged.
    #[inline(always)]
    pub fn taken_of_queue(&self, slot: usize) -> u64 {
        // Acquire, as in `is_answered`; a slot is not taken before its last message was answered, so this is the next
        // one.
        slot::next_sequence(self.answered[slot].load(Ordering::Acquire))
    }

    /// Passes the turn of a slot back, with what the head says, and wakes the client if it asked for that. Whether it
    /// did.
    #[inline(always)]
    pub fn pass_back(&self, line: &Line, slot: usize, sequence: u64, head: Head) -> bool {
        line.head.store(head.pack(), Ordering::Relaxed); // published by the turn
        self.set_answered(slot, sequence);
        let replaced = slot::pass_to_client(&line.turn, sequence);
        if !replaced.is_server() || replaced.sequence() != sequence {
            self.wrote_to_ours(replaced, sequence);
        }
        let must_ring = replaced.wants_wake();
        if must_ring {
            self.ring_client();
        }
        must_ring
    }

    #[cold]
    fn wrote_to_ours(&self, replaced: slot::Turn, sequence: u64) {
        self.condemn(format!("it wrote to a turn that was the server's: {replaced:?} where {sequence} was"));
    }

    /// Has the control thread look who gave up, whenever the client rings.
    #[cold]
    pub fn watch(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.command(Command::Watch(self.id));
        }
    }

    /// For the control thread: the bell is in its epoll from now on, and wakes who waits. Not in the serving thread's,
    /// which may be the very thread whose handler waits.
    pub fn be_watched(&self, poller: &Poller, key: u64) -> Result<()> {
        poller.add(&self.server_bell, key, Interest::Bell)?;
        self.wake_watchers(poller); // what was given up before this rings no more
        Ok(())
    }

    /// Wakes the handlers whose callers gave up. Once none waits any more, nobody hears the next ring.
    pub fn wake_watchers(&self, poller: &Poller) {
        if !self.abandonment.wake(|slot| slot::load(&self.segment.line(slot).turn).is_abandoned()) {
            poller.remove(&self.server_bell);
        }
    }

    /// Ends the session because of what the peer did. The process and all other sessions go on.
    #[cold]
    pub fn condemn(&self, why: String) {
        self.end(Reason::Violation, why);
    }

    /// Asks the control thread to end the session, with a reason for the client.
    #[cold]
    pub fn end(&self, reason: Reason, why: String) {
        // Relaxed: only decides who of several is the first.
        if self.is_ending.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.command(Command::EndSession { id: self.id, reason, why });
        }
    }
}
