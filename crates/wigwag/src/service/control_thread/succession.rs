//! What a control thread does when another server takes its name over, or has let it take one over: see
//! [`crate::service::takeover`].

use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Result, SHUTTING_DOWN};
use crate::faults::{self, Fault};
use crate::service::control_thread::{ControlThread, KEY_LISTENER, KEY_NAME, NameState};
use crate::service::handshake::Handshake;
use crate::service::name_claim::NameClaim;
use crate::service::takeover;
use crate::session::background::PeerSocket;
use crate::session::protocol::{FromClient, FromServer, Reason};
use crate::sys::epoll::Interest;
use crate::sys::socket::{self, MESSAGE_MAX};
use crate::trace;

/// How often it is looked whether an heir has the name, or is dead, if nothing is heard of it.
const HEIR_PAUSE: Duration = Duration::from_secs(1);
/// The same, once it has hung up without a word.
const DEAD_HEIR_PAUSE: Duration = Duration::from_millis(2);

/// A server that was let take the name over, and has not said yet that it serves.
pub(super) struct Successor {
    /// Of the handshake that it came by.
    pub(super) id: u64,
    pub(super) socket: PeerSocket,
    /// Until when it may take the lock.
    pub(super) until: Instant,
    /// When it is looked whether it has.
    pub(super) look_at: Instant,
    /// It has hung up, and not said that it serves.
    pub(super) has_left: bool,
}

impl Successor {
    /// Reads what it has said; whether it serves.
    fn hear(&mut self) -> bool {
        let mut buffer = [0u8; MESSAGE_MAX];
        let received = match self.socket.receive(&mut buffer) {
            Err(Errno::CONNRESET) => self.socket.receive(&mut buffer), // told once, before what it said last
            other => other,
        };
        match received {
            Err(Errno::AGAIN) => false,
            Ok(received) if FromClient::decode(&buffer[..received.len]) == Ok(FromClient::Ready) => true,
            _ => {
                self.has_left = true;
                false
            }
        }
    }
}

impl ControlThread {
    /// A name that was taken over is this server's from here on.
    pub(super) fn keep_name(&mut self) -> Result<()> {
        let Some(claim) = self.claim.as_mut().filter(|claim| claim.is_succeeding()) else { return Ok(()) };
        claim.keep()?;
        if let Some(watch) = claim.watch() {
            let _ = self.poller.add(watch, KEY_NAME, Interest::Readable);
        }
        self.name_state = NameState::TakenAgain; // so that what was removed before the watch was there is found
        Ok(())
    }

    /// A server asks for the name, which is to be let go: see [`takeover`].
    pub(super) fn begin_to_hand_over(&mut self, id: u64, handshake: Handshake) {
        let refusal = match &self.claim {
            _ if handshake.peer.uid != self.own_uid => Some((
                Reason::Refused,
                format!("it is of user {}, and only that one's servers replace it", self.own_uid),
            )),
            _ if self.is_inherited => {
                let why = "another program made its socket, such as systemd: that one starts the next server";
                Some((Reason::Refused, why.to_owned()))
            }
            None => Some((Reason::Shutdown, SHUTTING_DOWN.to_owned())),
            Some(_) if self.successor.is_some() => {
                Some((Reason::Later, "another server takes it over just now".to_owned()))
            }
            Some(claim) => match claim.has_heir() {
                Ok(true) => None,
                Ok(false) => {
                    Some((Reason::Violation, "to replace a server takes the second byte of its lock file".to_owned()))
                }
                Err(error) => {
                    let may_pass = matches!(error.os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM));
                    Some((if may_pass { Reason::Later } else { Reason::Refused }, format!("the server {error}")))
                }
            },
        };
        if let Some((reason, why)) = refusal {
            return self.turn_away(id, handshake, reason, &why);
        }
        if let Some(listener) = &self.listener {
            self.poller.remove(listener);
        }
        self.accept_again_at = None;
        let claim = self.claim.iter_mut();
        claim.for_each(|claim| {
            claim.watch().into_iter().for_each(|watch| self.poller.remove(watch)); // it would go on to tell of the heir
            claim.release();
        });
        let now = Instant::now();
        let socket = handshake.socket;
        let _ = socket::send(&socket, &FromServer::Bell.encode(), &[]); // it looks at the lock besides
        let (until, look_at) = (now + takeover::PATIENCE, now + HEIR_PAUSE);
        self.successor = Some(Successor { id, socket, until, look_at, has_left: false });
    }

    /// The successor has said something, or a moment has come: it serves, or will never, or is waited for.
    #[cold]
    pub(super) fn look_after_successor(&mut self) {
        let (Some(successor), Some(claim)) = (&mut self.successor, &mut self.claim) else { return };
        let had_left = successor.has_left;
        let serves = !had_left && (successor.hear() || successor.has_left && faults::is(Fault::HastyHolder));
        let is_late = successor.until <= Instant::now();
        if successor.has_left && !had_left {
            self.poller.remove(&successor.socket); // it would go on to tell of its end
        }
        let pause = if successor.has_left && !is_late { DEAD_HEIR_PAUSE } else { HEIR_PAUSE };
        let next = Instant::now() + pause;
        successor.look_at = if is_late { next } else { next.min(successor.until) };
        // One that serves may have let the lock go again by now, for an heir of its own.
        let Ok(is_taken) = claim.is_taken_over() else { return };
        // One that dies hangs up before its lock is free, or after that. And another may have taken the lock of one
        // that has died, without asking.
        if serves || is_taken && successor.has_left && claim.is_served_by_another() {
            trace::handed_over(&claim.path());
            claim.give_up();
            self.forget_successor();
            return self.shared.hand_over();
        }
        if is_taken || !(successor.has_left || is_late) || faults::is(Fault::ForsakingHolder) {
            return;
        }
        match claim.take_back() {
            Ok(false) => return,                                         // it was faster
            Ok(true) => claim.announce(self.shared.statistics.memory()), // it may have told observers of itself
            Err(_) => {}                                                 // it is looked after as one that was removed
        }
        self.forget_successor();
        if let Some(listener) = &self.listener {
            let _ = self.poller.add(listener, KEY_LISTENER, Interest::Readable);
        }
        self.look_after_name(); // its socket may have been renamed over, or the lock file be another by now
    }

    /// This server ends while another takes its name over: that one has it, or asks in vain and takes it then.
    pub(super) fn end_takeover(&mut self) {
        if self.successor.is_none() {
            return;
        }
        let is_anothers = self.claim.as_mut().is_some_and(|claim| matches!(claim.take_back(), Ok(false)));
        if is_anothers {
            self.claim.iter_mut().for_each(NameClaim::give_up);
            self.shared.hand_over();
        }
        self.forget_successor();
    }

    pub(super) fn forget_successor(&mut self) {
        let Some(successor) = self.successor.take() else { return };
        self.poller.remove(&successor.socket);
        socket::hang_up(&successor.socket);
    }
}
