//! The steps of the two sides in the model of the handshake.

use super::{Bug, Handshake, Liar, State, ToClient, ToServer};

/// Where the client stands: what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAt {
    /// Has connected; says HELLO.
    Hello,
    /// Waits for WELCOME.
    Await,
    /// Checks the seals, kind and size of the memory it got.
    CheckSeals {
        /// What the check finds.
        is_sealed: bool,
        /// What the next one finds.
        is_header_right: bool,
    },
    /// Maps it.
    Map {
        /// What the next check finds.
        is_header_right: bool,
    },
    /// Checks the header.
    CheckHeader {
        /// What the check finds.
        is_header_right: bool,
    },
    /// Says READY.
    Ready,
    /// Has its session.
    Connected,
    /// Knows that its session is over, and why.
    Ended,
    /// Was refused, and knows why.
    Refused,
    /// The server is gone.
    Died,
    /// The time is up.
    TimedOut,
    /// The server broke the protocol.
    Violated,
    /// Has left.
    Gone,
    /// Says anything.
    Lying,
}

impl ClientAt {
    /// Whether it waits for nothing.
    pub fn is_settled(self) -> bool {
        matches!(self, ClientAt::Connected | ClientAt::Gone | ClientAt::Lying)
    }

    fn has_failed(self) -> bool {
        use ClientAt::{Died, Ended, Refused, TimedOut, Violated};
        matches!(self, Ended | Refused | Died | TimedOut | Violated)
    }
}

/// Where the control thread stands with this client: what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlThreadAt {
    /// Nobody has been accepted.
    Listening,
    /// Has accepted; waits for HELLO.
    Greeted,
    /// Charges the account.
    Charge,
    /// Makes the memory, sealed in its size, and maps it.
    Create,
    /// Says WELCOME.
    Welcome,
    /// Waits for READY.
    Offered,
    /// Seals for good.
    Seal,
    /// Watches the process and deals the session to a serving thread.
    Deal,
    /// The session lives.
    Live,
    /// Reads once what lies there before it refuses.
    Drain,
    /// Says why.
    Say,
    /// Lets go of a handshake.
    LetGo,
    /// The session was ended; the socket is hung up next.
    HangUp,
    /// Nothing is left.
    Gone,
    /// Says anything.
    Lying,
}

impl ControlThreadAt {
    /// Whether a handshake is under way that somebody must end.
    pub fn is_in_handshake(self) -> bool {
        matches!(self, ControlThreadAt::Greeted | ControlThreadAt::Offered)
    }
}

impl Handshake {
    pub(super) fn client(&self, state: &mut State) -> Option<()> {
        state.client = match state.client {
            ClientAt::Hello => {
                self.say_to_server(state, ToServer::Hello);
                ClientAt::Await
            }
            ClientAt::Await => self.read_welcome(state)?,
            ClientAt::CheckSeals { is_sealed, .. } if !is_sealed && !self.is(Bug::UncheckedSeals) => ClientAt::Violated,
            ClientAt::CheckSeals { is_sealed, is_header_right } => {
                state.touched_unsealed |= !is_sealed;
                ClientAt::Map { is_header_right }
            }
            // No new writable mapping once it is sealed for good.
            ClientAt::Map { .. } if state.memory.is_sealed_for_good => ClientAt::Violated,
            ClientAt::Map { is_header_right } => {
                state.client_maps = true;
                ClientAt::CheckHeader { is_header_right }
            }
            ClientAt::CheckHeader { is_header_right: false } => ClientAt::Violated,
            ClientAt::CheckHeader { .. } => ClientAt::Ready,
            ClientAt::Ready if state.server_hung_up || !state.server_is_alive => {
                // EPIPE: what was said before is read, as `check_alive` does. Here: whether a reason is there.
                match state.to_client.first() {
                    Some(_) => self.read_close_reason(state)?,
                    None => ClientAt::Died,
                }
            }
            ClientAt::Ready => {
                self.say_to_server(state, ToServer::Ready);
                ClientAt::Connected
            }
            ClientAt::Connected => self.read_close_reason(state)?,
            failed if failed.has_failed() => {
                state.client_hung_up = true;
                ClientAt::Gone
            }
            _ => return None,
        };
        Some(())
    }

    fn say_to_server(&self, state: &mut State, message: ToServer) {
        if state.server_is_alive && !state.server_hung_up {
            state.to_server.push(message);
        } // else EPIPE, which is no error yet
    }

    fn server_end_shows(state: &State) -> bool {
        !state.server_is_alive || state.server_hung_up
    }

    /// `read_welcome`: a reset is shown first, once; then what was said; then the end.
    fn read_welcome(&self, state: &mut State) -> Option<ClientAt> {
        let shows_end = Self::server_end_shows(state);
        if shows_end && state.shows_reset && !state.was_reset {
            state.was_reset = true;
            return Some(if self.is(Bug::TakesResetForEnd) { ClientAt::Died } else { ClientAt::Await });
        }
        if state.to_client.is_empty() {
            return shows_end.then_some(ClientAt::Died);
        }
        Some(match state.to_client.remove(0) {
            ToClient::Welcome { is_sealed, is_header_right } => ClientAt::CheckSeals { is_sealed, is_header_right },
            ToClient::Refusal | ToClient::Farewell => ClientAt::Refused,
            ToClient::Junk => ClientAt::Violated,
        })
    }

    /// `SocketEvents` of a session: why it is over.
    fn read_close_reason(&self, state: &mut State) -> Option<ClientAt> {
        if state.to_client.is_empty() {
            return Self::server_end_shows(state).then_some(ClientAt::Ended);
        }
        Some(match state.to_client.remove(0) {
            ToClient::Refusal | ToClient::Farewell => ClientAt::Ended,
            ToClient::Welcome { .. } | ToClient::Junk => ClientAt::Violated,
        })
    }

    pub(super) fn client_times_out(&self, state: &mut State) -> Option<()> {
        if state.client != ClientAt::Await || self.is(Bug::PatientClient) {
            return None;
        }
        (state.client, state.client_timed_out, state.is_disturbed) = (ClientAt::TimedOut, true, true);
        Some(())
    }

    pub(super) fn client_leaves(&self, state: &mut State) -> Option<()> {
        if !matches!(state.client, ClientAt::Connected | ClientAt::Lying) {
            return None;
        }
        (state.client, state.client_hung_up, state.is_disturbed) = (ClientAt::Gone, true, true);
        Some(())
    }

    pub(super) fn client_lies(&self, state: &mut State, message: ToServer) -> Option<()> {
        if state.client != ClientAt::Lying {
            return None;
        }
        state.lies_left = state.lies_left.checked_sub(1)?;
        self.say_to_server(state, message);
        Some(())
    }

    pub(super) fn server_lies(&self, state: &mut State, message: ToClient) -> Option<()> {
        if state.control_thread != ControlThreadAt::Lying {
            return None;
        }
        state.lies_left = state.lies_left.checked_sub(1)?;
        state.to_client.push(message);
        Some(())
    }

    /// Whether the end of the client shows at the socket.
    fn client_end_shows(state: &State) -> bool {
        state.client_hung_up || (!state.client_is_alive && !state.client_is_held)
    }

    pub(super) fn control_thread(&self, state: &mut State) -> Option<()> {
        let sealed = ToClient::Welcome { is_sealed: true, is_header_right: true };
        state.control_thread = match state.control_thread {
            ControlThreadAt::Listening if !state.is_shutting_down => ControlThreadAt::Greeted,
            ControlThreadAt::Greeted => match self.hear(state)? {
                Some(ToServer::Hello) => ControlThreadAt::Charge,
                Some(ToServer::Ready) if self.is(Bug::AnyOrder) => ControlThreadAt::Deal,
                Some(_) => ControlThreadAt::Drain,
                None => ControlThreadAt::LetGo,
            },
            ControlThreadAt::Charge => {
                state.is_charged = true;
                ControlThreadAt::Create
            }
            ControlThreadAt::Create => {
                state.memory.exists = true;
                state.memory.is_size_sealed = !self.is(Bug::WelcomeBeforeSeal);
                state.memory.is_sealed_for_good = self.is(Bug::SealBeforeMap);
                ControlThreadAt::Welcome
            }
            ControlThreadAt::Welcome => {
                if !Self::client_end_shows(state) {
                    state.to_client.push(sealed);
                    state.given_out_unsealed |= !state.memory.is_size_sealed;
                }
                ControlThreadAt::Offered
            }
            ControlThreadAt::Offered => match self.hear(state)? {
                Some(ToServer::Ready) if self.is(Bug::DealBeforeSeal) => ControlThreadAt::Deal,
                Some(ToServer::Ready) => ControlThreadAt::Seal,
                Some(_) => ControlThreadAt::Drain,
                None => ControlThreadAt::LetGo,
            },
            ControlThreadAt::Seal => {
                state.memory.is_sealed_for_good = true;
                ControlThreadAt::Deal
            }
            ControlThreadAt::Deal => ControlThreadAt::Live,
            ControlThreadAt::Live => self.listen(state)?,
            ControlThreadAt::Drain => {
                if !state.to_server.is_empty() {
                    state.to_server.remove(0);
                }
                ControlThreadAt::Say
            }
            ControlThreadAt::Say => {
                if !Self::client_end_shows(state) && !self.is(Bug::SilentRefusal) {
                    state.to_client.push(ToClient::Refusal);
                }
                ControlThreadAt::LetGo
            }
            ControlThreadAt::LetGo | ControlThreadAt::HangUp => {
                state.is_charged &= self.is(Bug::KeptCharge);
                state.server_hung_up = true;
                state.shows_reset |= !state.to_server.is_empty();
                ControlThreadAt::Gone
            }
            ControlThreadAt::Listening | ControlThreadAt::Gone | ControlThreadAt::Lying => return None,
        };
        Some(())
    }

    /// What a handshake hears: a message, the end, or nothing yet.
    fn hear(&self, state: &mut State) -> Option<Option<ToServer>> {
        if !state.to_server.is_empty() {
            return Some(Some(state.to_server.remove(0)));
        }
        Self::client_end_shows(state).then_some(None)
    }

    /// `listen_to` and `end`: the session's socket or its process says something.
    fn listen(&self, state: &mut State) -> Option<ControlThreadAt> {
        let said = !state.to_server.is_empty();
        let is_gone = !state.client_is_alive && !self.is(Bug::SocketAlone);
        if !said && !is_gone && !Self::client_end_shows(state) {
            return None;
        }
        state.ended += 1;
        if said {
            state.to_server.remove(0);
            state.farewell_sent = true;
            state.to_client.push(ToClient::Farewell);
            state.is_disturbed = true;
        }
        if self.is(Bug::EndedTwice) && state.ended == 1 && is_gone && Self::client_end_shows(state) {
            return Some(ControlThreadAt::Live); // it stays in the table, and the other sign is seen, too
        }
        state.is_adopted = false; // `Core::forget`
        Some(ControlThreadAt::HangUp)
    }

    /// `greet`: the policy or a limit says no.
    pub(super) fn refuse_at_once(&self, state: &mut State) -> Option<()> {
        if state.control_thread != ControlThreadAt::Listening || self.bug.is_some_and(|bug| bug == Bug::SealBeforeMap) {
            return None;
        }
        (state.control_thread, state.is_disturbed) = (ControlThreadAt::Drain, true);
        Some(())
    }

    pub(super) fn expire(&self, state: &mut State) -> Option<()> {
        if !state.control_thread.is_in_handshake() || self.is(Bug::PatientServer) {
            return None;
        }
        (state.control_thread, state.is_disturbed) = (ControlThreadAt::Drain, true);
        Some(())
    }

    /// `stop_listening` and `end_all`.
    pub(super) fn shut_down(&self, state: &mut State) -> Option<()> {
        if matches!(self.liar, Liar::Server(_)) {
            return None;
        }
        let next = match state.control_thread {
            ControlThreadAt::Listening => ControlThreadAt::LetGo, // whoever waits in the queue is hung up on
            ControlThreadAt::Greeted | ControlThreadAt::Offered => ControlThreadAt::Drain,
            ControlThreadAt::Live => {
                state.ended += 1;
                state.is_adopted = false;
                state.to_client.push(ToClient::Farewell);
                ControlThreadAt::HangUp
            }
            _ => return None,
        };
        if state.control_thread == ControlThreadAt::Listening {
            state.client_timed_out = true; // never accepted: it cannot be told
        }
        (state.control_thread, state.is_shutting_down, state.is_disturbed) = (next, true, true);
        Some(())
    }

    pub(super) fn adopt(&self, state: &mut State) -> Option<()> {
        if state.control_thread != ControlThreadAt::Live || state.is_adopted {
            return None;
        }
        state.is_adopted = true;
        state.adopted_unsealed |= !state.memory.is_sealed_for_good && state.memory.exists;
        state.adopted_without_memory |= !state.memory.exists;
        Some(())
    }
}
