//! The server's side of one client's connection: the unit of isolation, of accounting and of failure.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::control::policy::Trust;
use crate::control::protocol::FromServer;
use crate::control::steward::{Command, Core};
use crate::segment::Segment;
use crate::sys::bell::Bell;
use crate::sys::socket::{self, Credentials};

/// A session as the threads that serve it see it. The steward has it too, and decides when it is over.
#[derive(Debug)]
pub struct Session {
    /// Number of the session, never used twice in a server's life.
    pub id: u64,
    /// The shared memory.
    pub segment: Segment,
    /// The control socket, also the sign of life.
    pub socket: OwnedFd,
    /// Rung by the client.
    pub server_bell: Bell,
    /// Rung by the server; clients of other users get a message instead, see [`Session::ring_client`].
    pub client_bell: Option<Bell>,
    /// Who is at the other end.
    pub peer: Credentials,
    /// How far it is trusted.
    pub trust: Trust,
    /// Set once, by whoever finds the violation; the steward ends the session.
    condemned: AtomicBool,
    core: Arc<Core>,
}

impl Session {
    /// Puts a session together.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        id: u64,
        segment: Segment,
        socket: OwnedFd,
        server_bell: Bell,
        client_bell: Option<Bell>,
        peer: Credentials,
        trust: Trust,
        core: Arc<Core>,
    ) -> Session {
        Session { id, segment, socket, server_bell, client_bell, peer, trust, condemned: AtomicBool::new(false), core }
    }

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

    /// Ends the session because of what the peer did. The process and all other sessions go on.
    #[cold]
    pub fn condemn(&self, why: String) {
        // Relaxed: only decides who of several reporters is the first.
        if !self.condemned.swap(true, Ordering::Relaxed) {
            self.core.command(Command::EndSession { id: self.id, why });
        }
    }
}
