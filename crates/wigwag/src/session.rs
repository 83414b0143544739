//! The server's side of one client's connection: the unit of isolation, of accounting and of failure.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Weak};

use crate::contract::Form;
use crate::control::core::{Command, Core};
use crate::control::ledger::Entry;
use crate::control::policy::Trust;
use crate::control::protocol::{FromServer, Reason};
use crate::layout::Head;
use crate::private_copy::PrivateCopy;
use crate::segment::{Line, Segment};
use crate::slot;
use crate::statistics::SessionEntry;
use crate::sys::bell::Bell;
use crate::sys::socket::{self, Credentials};

/// A session as the threads that serve it see it. The steward has it too, and decides when it is over.
///
/// It does not own the server: a request that outlives the server keeps its memory, not the server's.
#[derive(Debug)]
pub struct Session {
    /// Number of the session, never used twice in a server's life.
    pub id: u64,
    /// The shared memory.
    pub segment: Segment,
    /// The memory object, kept for clients of other users only: their payloads are read with `pread`, which neither makes
    /// pages that were never written nor can fault.
    pub memory: Option<OwnedFd>,
    /// The control socket, also the sign of life.
    pub socket: OwnedFd,
    /// Rung by the client.
    pub server_bell: Bell,
    /// Rung by the server; clients of other users get a message instead, see [`Session::ring_client`].
    pub client_bell: Option<Bell>,
    /// What the two do with the memory.
    pub form: Form,
    /// Who is at the other end.
    pub peer: Credentials,
    /// How far it is trusted.
    pub trust: Trust,
    /// What is counted of it; goes before the charge, so that there are never more records than charges.
    pub record: SessionEntry,
    /// What it costs the server, given back when the last owner lets go.
    pub _charged: Entry,
    /// The last sequence answered in each slot, in private memory: until then the slot is not taken again (invariant S2).
    pub answered: Box<[AtomicU64]>,
    /// A queue's of another user: by slot, what was copied out of it until it is acknowledged.
    pub copies: Box<[Mutex<Option<Box<PrivateCopy>>>]>,
    /// Which serving thread has it: written under the lock of the ports.
    pub port: AtomicU64,
    /// Whether somebody has asked for its end already.
    pub is_ending: AtomicBool,
    /// The server, while it lives.
    pub core: Weak<Core>,
}

impl Session {
    /// Wakes the client.
    ///
    /// An eventfd's write can be made to block by whoever shares the descriptor (fill the counter, clear O_NONBLOCK), so a
    /// client of another user is rung by a message that never waits. One that does not read them stays asleep: its loss.
    #[cold]
    pub fn ring_client(&self) {
        match &self.client_bell {
            Some(bell) => bell.ring(),
            None => {
                let _ = socket::send(&self.socket, &FromServer::Bell.encode(), &[]);
            }
        }
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
        // Acquire, as in `is_answered`; a slot is not taken before its last message was answered, so this is the next one.
        slot::next_sequence(self.answered[slot].load(Ordering::Acquire))
    }

    /// Passes the turn of a slot back, with what the head says, and wakes the client if it asked for that. Whether it did.
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

    /// Ends the session because of what the peer did. The process and all other sessions go on.
    #[cold]
    pub fn condemn(&self, why: String) {
        self.end(Reason::Violation, why);
    }

    /// Asks the steward to end the session, with a reason for the client.
    #[cold]
    pub fn end(&self, reason: Reason, why: String) {
        // Relaxed: only decides who of several is the first.
        if self.is_ending.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(core) = self.core.upgrade() {
            core.command(Command::EndSession { id: self.id, reason, why });
        }
    }
}
