//! The model of the handshake: messages in flight, two deadlines, the two steps of sealing, a crash of either side at
//! any step, a forked child that keeps the socket open; and, in place of either side, one that says anything in any
//! order.
//!
//! | here | there |
//! |---|---|
//! | [`ClientAt`] | `session/connect.rs`: `attach`, `read_welcome`, `establish`; `sys/memory.rs`: `check_sealed`; `connection.rs`: `read_socket_events`, `Drop` |
//! | [`ControlThreadAt`] | `service/handshake.rs`: `action_for`, `receive`, `welcome`; `service/control_thread.rs`: `greet`, `advance`, `offer`, `establish`, `refuse`, `turn_away`, `left`, `let_go`, `expire`, `listen_to`, `end`, `stop_listening` |
//! | [`Memory`] | `sys/memory.rs`: `create_sealed`, `seal_finally` |
//! | a wire | a seqpacket socket: what was sent before an end is still read; an end that leaves something unread shows as a reset first, once |

use stateright::{Model, Property};

use super::explore::Protocol;

mod parties;

pub use parties::{ClientAt, ControlThreadAt};

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The memory is sent before it is sealed against shrinking and growing.
    WelcomeBeforeSeal,
    /// It is sealed for good before the client has mapped it.
    SealBeforeMap,
    /// The session is dealt to a serving thread before the memory is sealed for good.
    DealBeforeSeal,
    /// The client maps memory without a look at its seals.
    UncheckedSeals,
    /// A handshake has no deadline in the server.
    PatientServer,
    /// A handshake has no deadline in the client.
    PatientClient,
    /// A handshake that expires keeps what it was charged.
    KeptCharge,
    /// A session's end is seen at its socket only.
    SocketAlone,
    /// A session is ended at each sign of its end.
    EndedTwice,
    /// READY is taken without a HELLO before it.
    AnyOrder,
    /// The client takes a reset for the end, and does not read what was said before.
    TakesResetForEnd,
    /// The server turns a client away without a word.
    SilentRefusal,
}

/// The side that says anything in any order, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liar {
    /// Both are honest.
    Nobody,
    /// The client.
    Client(u8),
    /// The server.
    Server(u8),
}

/// The model.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Whether processes may be killed.
    pub with_kills: bool,
    /// The side that lies.
    pub liar: Liar,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

/// The memory object of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    exists: bool,
    /// It can be neither shrunk nor grown.
    is_size_sealed: bool,
    /// Nobody can map it writable any more.
    is_sealed_for_good: bool,
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToServer {
    /// HELLO.
    Hello,
    /// READY.
    Ready,
    /// What does not parse, or a message that a client never sends.
    Junk,
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToClient {
    /// WELCOME with the memory; from a liar, whether that is sealed and its header is right.
    Welcome {
        /// The seals are as they must be.
        is_sealed: bool,
        /// The header is as announced.
        is_header_right: bool,
    },
    /// REFUSAL.
    Refusal,
    /// FAREWELL.
    Farewell,
    /// Anything else.
    Junk,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    client: ClientAt,
    client_is_alive: bool,
    client_is_held: bool,
    /// Its end of the wire is shut.
    client_hung_up: bool,
    was_reset: bool,
    client_maps: bool,
    touched_unsealed: bool,
    control_thread: ControlThreadAt,
    server_is_alive: bool,
    server_hung_up: bool,
    shows_reset: bool,
    is_shutting_down: bool,
    memory: Memory,
    given_out_unsealed: bool,
    is_charged: bool,
    is_adopted: bool,
    adopted_unsealed: bool,
    adopted_without_memory: bool,
    ended: u8,
    farewell_sent: bool,
    to_server: Vec<ToServer>,
    to_client: Vec<ToClient>,
    lies_left: u8,
    /// Something came between that no peer can help: a kill, a deadline, a policy, a shutdown, a lie.
    is_disturbed: bool,
    client_timed_out: bool,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The client's next.
    Client,
    /// The client's deadline passes.
    ClientTimesOut,
    /// The client has what it wanted, and leaves.
    ClientLeaves,
    /// A lying client says this.
    ClientLies(ToServer),
    /// The client is killed.
    KillClient,
    /// The control thread's next.
    ControlThread,
    /// The policy does not let the client in.
    Refuse,
    /// The handshake's deadline passes.
    Expire,
    /// The server shuts down.
    ShutDown,
    /// The serving thread adopts the session.
    Adopt,
    /// A lying server says this.
    ServerLies(ToClient),
    /// The server is killed.
    KillServer,
}

impl Handshake {
    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn goes_on(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        let is_fate = |action: &Action| {
            matches!(
                action,
                Action::KillClient
                    | Action::KillServer
                    | Action::ShutDown
                    | Action::Refuse
                    | Action::ClientLeaves
                    | Action::ClientLies(_)
                    | Action::ServerLies(_)
            )
        };
        actions.into_iter().any(|action| !is_fate(&action) && self.next_state(state, action).is_some())
    }
}

impl State {
    /// Nothing of the client is left in the server.
    fn is_let_go(&self) -> bool {
        !self.server_is_alive
            || (!self.is_charged
                && matches!(
                    self.control_thread,
                    ControlThreadAt::Listening | ControlThreadAt::Gone | ControlThreadAt::Lying
                ))
    }

    fn client_is_gone(&self) -> bool {
        !self.client_is_alive || self.client_hung_up
    }
}

impl Model for Handshake {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = |client_is_held| State {
            client: if matches!(self.liar, Liar::Client(_)) { ClientAt::Lying } else { ClientAt::Hello },
            client_is_alive: true,
            client_is_held,
            client_hung_up: false,
            was_reset: false,
            client_maps: false,
            touched_unsealed: false,
            control_thread: if matches!(self.liar, Liar::Server(_)) {
                ControlThreadAt::Lying
            } else {
                ControlThreadAt::Listening
            },
            server_is_alive: true,
            server_hung_up: false,
            shows_reset: false,
            is_shutting_down: false,
            memory: Memory::default(),
            given_out_unsealed: false,
            is_charged: false,
            is_adopted: false,
            adopted_unsealed: false,
            adopted_without_memory: false,
            ended: 0,
            farewell_sent: false,
            to_server: Vec::new(),
            to_client: Vec::new(),
            lies_left: match self.liar {
                Liar::Nobody => 0,
                Liar::Client(lies) | Liar::Server(lies) => lies,
            },
            is_disturbed: self.liar != Liar::Nobody,
            client_timed_out: false,
        };
        if self.with_kills { vec![state(false), state(true)] } else { vec![state(false)] }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.client_is_alive {
            actions.extend([Action::Client, Action::ClientTimesOut, Action::ClientLeaves]);
            actions.extend([ToServer::Hello, ToServer::Ready, ToServer::Junk].map(Action::ClientLies));
            actions.extend(self.with_kills.then_some(Action::KillClient));
        }
        if state.server_is_alive {
            actions.extend([Action::ControlThread, Action::Refuse, Action::Expire, Action::ShutDown, Action::Adopt]);
            let welcome = |is_sealed, is_header_right| ToClient::Welcome { is_sealed, is_header_right };
            let lies = [welcome(true, true), welcome(false, true), welcome(true, false), ToClient::Refusal];
            actions.extend(lies.into_iter().chain([ToClient::Farewell, ToClient::Junk]).map(Action::ServerLies));
            actions.extend(self.with_kills.then_some(Action::KillServer));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Client => self.client(&mut state)?,
            Action::ClientTimesOut => self.client_times_out(&mut state)?,
            Action::ClientLeaves => self.client_leaves(&mut state)?,
            Action::ClientLies(message) => self.client_lies(&mut state, message)?,
            Action::KillClient => {
                state.client_is_alive = false;
                state.is_disturbed = true;
            }
            Action::ControlThread => self.control_thread(&mut state)?,
            Action::Refuse => self.refuse_at_once(&mut state)?,
            Action::Expire => self.expire(&mut state)?,
            Action::ShutDown => self.shut_down(&mut state)?,
            Action::Adopt => self.adopt(&mut state)?,
            Action::ServerLies(message) => self.server_lies(&mut state, message)?,
            Action::KillServer => {
                (state.server_is_alive, state.is_disturbed) = (false, true);
                state.shows_reset |= !state.to_server.is_empty();
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Handshake>> {
        let mut properties = vec![
            Property::always("memory is given out sealed against shrinking", |_, state: &State| {
                !state.given_out_unsealed
            }),
            Property::always("memory is served only once it is sealed for good", |_, state: &State| {
                !state.adopted_unsealed
            }),
            Property::always("a session has memory", |_, state: &State| !state.adopted_without_memory),
            Property::always("a client touches only sealed memory", |_, state: &State| !state.touched_unsealed),
            Property::always("a session is ended once", |_, state: &State| state.ended <= 1),
            Property::always("two honest sides get a session", |model: &Handshake, state: &State| {
                state.is_disturbed
                    || (state.client == ClientAt::Connected
                        && state.control_thread == ControlThreadAt::Live
                        && state.is_adopted)
                    || model.goes_on(state)
            }),
            Property::always("no client waits for ever", |model: &Handshake, state: &State| {
                !state.client_is_alive || state.client.is_settled() || model.goes_on(state)
            }),
            Property::always("a client that is turned away learns why", |model: &Handshake, state: &State| {
                matches!(model.liar, Liar::Server(_))
                    || state.client != ClientAt::Died
                    || !state.server_is_alive
                    || state.client_timed_out
            }),
            Property::always("who is gone is let go", |model: &Handshake, state: &State| {
                !state.client_is_gone() || state.is_let_go() || model.goes_on(state)
            }),
            Property::always("no handshake stays for ever", |model: &Handshake, state: &State| {
                !state.server_is_alive || !state.control_thread.is_in_handshake() || model.goes_on(state)
            }),
        ];
        if self.bug.is_some() {
            return properties;
        }
        if self.liar == Liar::Nobody {
            properties.extend([
                Property::sometimes("a session lives", |_, state: &State| {
                    state.client == ClientAt::Connected && state.is_adopted
                }),
                Property::sometimes("a client calls before its session is established", |_, state: &State| {
                    state.client == ClientAt::Connected && state.control_thread == ControlThreadAt::Offered
                }),
                Property::sometimes("a refusal is read after a reset", |_, state: &State| {
                    state.was_reset && state.client == ClientAt::Refused
                }),
                Property::sometimes("a client times out with its welcome on the way", |_, state: &State| {
                    state.client_timed_out && state.to_client.iter().any(|it| matches!(it, ToClient::Welcome { .. }))
                }),
            ]);
        }
        if matches!(self.liar, Liar::Server(_)) {
            properties
                .push(Property::sometimes("a lie is noticed", |_, state: &State| state.client == ClientAt::Violated));
        }
        properties
    }
}

impl Protocol for Handshake {
    type Bug = Bug;
    const NAME: &'static str = "handshake";
    const BUGS: &'static [(Bug, &'static str)] = &[
        (Bug::WelcomeBeforeSeal, "memory is given out sealed against shrinking"),
        (Bug::SealBeforeMap, "two honest sides get a session"),
        (Bug::DealBeforeSeal, "memory is served only once it is sealed for good"),
        (Bug::UncheckedSeals, "a client touches only sealed memory"),
        (Bug::PatientServer, "no handshake stays for ever"),
        (Bug::PatientClient, "no client waits for ever"),
        (Bug::KeptCharge, "who is gone is let go"),
        (Bug::SocketAlone, "who is gone is let go"),
        (Bug::EndedTwice, "a session is ended once"),
        (Bug::AnyOrder, "a session has memory"),
        (Bug::TakesResetForEnd, "a client that is turned away learns why"),
        (Bug::SilentRefusal, "a client that is turned away learns why"),
    ];

    fn with_bug(bug: Bug) -> Handshake {
        let liar = match bug {
            Bug::UncheckedSeals | Bug::PatientClient => Liar::Server(2),
            Bug::PatientServer | Bug::AnyOrder => Liar::Client(3),
            _ => Liar::Nobody,
        };
        Handshake { with_kills: matches!(bug, Bug::SocketAlone | Bug::EndedTwice), liar, bug: Some(bug) }
    }
}
