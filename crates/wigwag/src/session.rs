//! The server's side of one client's connection: the unit of isolation, of accounting and of failure.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::contract::Form;
use crate::control::core::{Command, Core, Tally};
use crate::control::ledger::Entry;
use crate::control::policy::Trust;
use crate::control::protocol::{FromServer, Reason};
use crate::segment::Segment;
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
    /// Which serving thread has it: written under the lock of the ports.
    pub port: AtomicU64,
    /// Whether somebody has asked for its end already.
    pub is_ending: AtomicBool,
    /// What is counted of messages in hand.
    pub tally: Arc<Tally>,
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
