//! The client's steps in the model of waiting.

use std::sync::atomic::Ordering;

use wigwag::models::slot;

use super::{Bug, Session, Sleeping, State, on_turn, turn_of};

/// Where a client stands: what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAt {
    /// Calls, or leaves when it has had all its calls.
    Idle,
    /// Passes the turn, having rung first: a fault.
    LatePass,
    /// Has passed the turn; looks whether the server waits.
    Claim,
    /// Claims the ring.
    ClaimSwap,
    /// Rings.
    Ring,
    /// Asks to be woken.
    AskForWake,
    /// Looks whether it knows of an end.
    CheckAlive,
    /// Sleeps in its epoll.
    Sleep,
    /// Takes the reply.
    Accept,
    /// Its call has failed.
    Failed,
    /// Has left.
    Gone,
}

/// The first half of `Waiting::claim`.
pub fn sees_waiting(waiting: u32) -> bool {
    waiting != 0
}

/// The second half of `Waiting::claim`.
pub fn swap_waiting(waiting: &mut u32) -> bool {
    std::mem::take(waiting) != 0
}

impl Session {
    fn pass(&mut self) {
        self.sequence = slot::next_sequence(self.sequence);
        on_turn(&mut self.turn, |turn| slot::pass_to_server(turn, self.sequence));
        self.served = 0;
        self.slept = false;
    }

    fn is_ready(&self) -> bool {
        !turn_of(self.turn).is_server()
    }
}

impl Sleeping {
    pub(super) fn client(&self, state: &mut State, index: usize) -> Option<()> {
        let shows_end = state.shows_end(index, !self.is(Bug::ClientWatchesSocketAlone));
        let shows_end = shows_end && !self.is(Bug::DeafToDeath);
        let thread_is_active = state.entries[index].is_some_and(|entry| entry.is_active);
        let session = &mut state.sessions[index];
        session.at = match session.at {
            ClientAt::Idle if session.calls_left == 0 || session.is_over => return self.leave(session),
            ClientAt::Idle if self.is(Bug::RingBeforePass) => ClientAt::Claim,
            ClientAt::Idle => {
                session.pass();
                ClientAt::Claim
            }
            ClientAt::LatePass => {
                session.pass();
                ClientAt::AskForWake
            }
            ClientAt::Claim if self.is(Bug::RingByHint) && !session.server_slept => ClientAt::AskForWake,
            ClientAt::Claim if sees_waiting(session.waiting) => ClientAt::ClaimSwap,
            ClientAt::Claim => {
                session.server_slept = false;
                self.after_ring()
            }
            ClientAt::ClaimSwap => match swap_waiting(&mut session.waiting) {
                true => ClientAt::Ring,
                false => self.after_ring(),
            },
            ClientAt::Ring => {
                session.server_bell = true;
                session.server_slept = true;
                self.seen.rang_for_nothing.fetch_or(thread_is_active, Ordering::Relaxed);
                self.after_ring()
            }
            ClientAt::AskForWake => match on_turn(&mut session.turn, slot::ask_for_wake).is_server() {
                false if !self.is(Bug::BlindSleep) => ClientAt::Accept,
                _ => ClientAt::CheckAlive,
            },
            ClientAt::CheckAlive if !session.is_over => ClientAt::Sleep,
            ClientAt::CheckAlive if session.is_ready() => ClientAt::Accept,
            ClientAt::CheckAlive => ClientAt::Failed,
            ClientAt::Sleep if session.client_bell || shows_end => {
                session.slept = true;
                session.client_bell = false;
                session.is_over |= shows_end;
                if shows_end && self.is(Bug::DroppedReply) {
                    session.dropped_reply = session.is_ready();
                    ClientAt::Failed
                } else {
                    ClientAt::AskForWake
                }
            }
            ClientAt::Sleep => return None,
            ClientAt::Accept => {
                assert_eq!(turn_of(session.turn).sequence(), session.sequence, "the server of this model is honest");
                session.calls_left -= 1;
                ClientAt::Idle
            }
            ClientAt::Failed => return self.leave(session),
            ClientAt::Gone => return None,
        };
        Some(())
    }

    fn after_ring(&self) -> ClientAt {
        if self.is(Bug::RingBeforePass) { ClientAt::LatePass } else { ClientAt::AskForWake }
    }

    /// `Drop`: hangs up, so that a forked child's descriptor keeps nothing open.
    fn leave(&self, session: &mut Session) -> Option<()> {
        session.has_left = true;
        session.at = ClientAt::Gone;
        Some(())
    }
}
