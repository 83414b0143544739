//! The model of waiting: who sleeps, who rings, and who hears of a death. One serving thread, the control thread, up to
//! two clients; a crash of any process at any step, with forked children that keep its sockets open.
//!
//! Steps of shared words are the library's own functions, called on the words of the state. Each step of the model is
//! one access to something shared; what lies between two of them is private. Where it stands in the library:
//!
//! | here | there |
//! |---|---|
//! | [`ClientAt`] | `caller.rs`: `pass`, `accept`; `connection.rs`: `pass_turn`, `ring`, `wait_patiently`, `hear`, `check_alive`, `Drop` |
//! | [`ThreadAt`] | `worker.rs`: `next`, `checkup`, `read_messages`, `pass`, `look`, `arm`, `idle`, `sleep`, `hear`, `wake`, `forget`; `request.rs`: `pass` |
//! | [`ControlThreadAt`] | `service/control_thread.rs`: `handle`, `end`; `service/shared.rs`: `deal`, `forget`, `post`; `wake_flag.rs` |
//! | bells | an eventfd in an edge-triggered epoll: an edge stays until the epoll is looked at, which takes all edges |
//!
//! Left out: hints that decide nothing here (processors, think time; whether a session becomes hot is free), the
//! budget, and the weak memory that loom covers.

use std::sync::atomic::{AtomicBool, Ordering};

use stateright::{Model, Property};
use wigwag::models::doorbell::Waiting;
use wigwag::models::slot::{self, Expected, Turn};
use wigwag::models::sync::{AtomicU32, AtomicU64};

use super::explore::Protocol;

pub mod client;
mod server;

pub use client::ClientAt;
pub use server::{ControlThreadAt, ThreadAt};

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The serving thread announces that it sleeps and does not look a last time.
    MissingLook,
    /// It looks, and announces that it sleeps after that.
    LookBeforeAnnouncing,
    /// It sleeps although a message lies unread.
    UnreadMessage,
    /// A look at the bells without sleeping hears only those of sessions it looks at anyway.
    DeafLook,
    /// It looks whether the client sleeps, and passes the turn after that.
    WakeBeforePass,
    /// It keeps what it has of a session that is over.
    KeptEntry,
    /// The client rings first, and passes the turn after that.
    RingBeforePass,
    /// The client rings only if the server slept the last time, too.
    RingByHint,
    /// The client asks to be woken and does not look whether the reply was there.
    BlindSleep,
    /// The client sleeps on its bell alone.
    DeafToDeath,
    /// The client watches the socket for the server's death, not the process.
    ClientWatchesSocketAlone,
    /// The client that hears of the server's death does not look for the reply that came before.
    DroppedReply,
    /// The control thread watches the socket for a client's death, not the process.
    ControlThreadWatchesSocketAlone,
    /// The control thread leaves a message, and does not ring.
    SilentMessage,
    /// The control thread ends a session at each sign of its end.
    EndedTwice,
}

/// The model.
#[derive(Debug)]
pub struct Sleeping {
    /// How many clients, 1 or 2.
    pub clients: usize,
    /// Calls of each.
    pub calls: [u8; 2],
    /// Whether processes may be killed.
    pub with_kills: bool,
    /// Whether forked children may hold sockets.
    pub with_forks: bool,
    /// What is wrong with it.
    pub bug: Option<Bug>,
    /// What has been seen.
    pub seen: Seen,
}

/// A session, with the client's own knowledge and the memory it shares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    at: ClientAt,
    is_alive: bool,
    /// A forked child of the client has its socket open.
    is_held: bool,
    /// It has hung up by itself.
    has_left: bool,
    /// The control thread has hung up.
    is_hung_up: bool,
    calls_left: u8,
    sequence: u64,
    /// The server slept at the last call.
    server_slept: bool,
    /// It knows that the session is over.
    is_over: bool,
    /// It slept in this call.
    slept: bool,
    dropped_reply: bool,
    /// An edge in the client's epoll.
    client_bell: bool,
    /// An edge in the serving thread's.
    server_bell: bool,
    turn: u64,
    waiting: u32,
    /// How often the request of this sequence was served.
    served: u8,
    is_listed: bool,
    is_dealt: bool,
    ended: u8,
    signs_left: u8,
}

/// What the serving thread has of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    expected: Expected,
    is_active: bool,
    is_hot: bool,
    withdraws: bool,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WorkerMessage {
    Adopt(usize),
    Forget(usize),
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    sessions: Vec<Session>,
    entries: Vec<Option<Entry>>,
    server_is_alive: bool,
    /// A forked child of the server has its sockets open.
    server_is_held: bool,
    thread: ThreadAt,
    control_thread: ControlThreadAt,
    messages: Vec<WorkerMessage>,
    wake_flag: bool,
    mailbox_bell: bool,
}

/// Outcomes that must occur somewhere, and that no state shows.
#[derive(Debug, Default)]
pub struct Seen {
    rang_for_nothing: AtomicBool,
    ring_taken_away: AtomicBool,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The client's next.
    Client(usize),
    /// The client is killed.
    KillClient(usize),
    /// The serving thread's next.
    Thread,
    /// It looks at the bells without sleeping.
    ThreadHears,
    /// A session that is polled cools.
    Cool(usize),
    /// A sleeping thread wakes, and the sessions that rang become hot.
    WakeHot,
    /// The control thread's next.
    ControlThread,
    /// The control thread establishes a session.
    Deal(usize),
    /// The control thread sees that a session is over.
    End(usize),
    /// The server is killed.
    KillServer,
}

impl Sleeping {
    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn session(&self, index: usize, is_held: bool) -> Session {
        Session {
            at: ClientAt::Idle,
            is_alive: true,
            is_held,
            has_left: false,
            is_hung_up: false,
            calls_left: self.calls[index],
            sequence: 0,
            server_slept: true,
            is_over: false,
            slept: false,
            dropped_reply: false,
            client_bell: false,
            server_bell: false,
            turn: 0,
            waiting: 0,
            served: 0,
            is_listed: true,
            is_dealt: false,
            ended: 0,
            signs_left: 2,
        }
    }

    /// Whether something can happen that is neither a kill nor a client's fate.
    fn goes_on(&self, state: &State) -> bool {
        // Mostly it is seen at once.
        let is_busy = |session: &Session| session.is_alive && !matches!(session.at, ClientAt::Sleep | ClientAt::Gone);
        let thread_rests = matches!(state.thread, ThreadAt::Idle | ThreadAt::Asleep);
        if state.sessions.iter().any(is_busy) || (state.server_is_alive && !thread_rests) {
            return true;
        }
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        actions.into_iter().any(|action| {
            !matches!(action, Action::KillClient(_) | Action::KillServer) && self.next_state(state, action).is_some()
        })
    }
}

impl State {
    /// Whether the client can hear that the server is gone.
    fn shows_end(&self, index: usize, watches_process: bool) -> bool {
        let hung_up = self.sessions[index].is_hung_up || (!self.server_is_alive && !self.server_is_held);
        hung_up || (watches_process && !self.server_is_alive)
    }

    /// Every client has done what it wanted or has died.
    fn all_clients_are_done(&self) -> bool {
        self.sessions.iter().all(|session| !session.is_alive || session.at == ClientAt::Gone)
    }

    /// Nothing of any session is left in the server.
    fn all_is_let_go(&self) -> bool {
        !self.server_is_alive
            || (self.messages.is_empty()
                && self.entries.iter().all(Option::is_none)
                && self.sessions.iter().all(|session| !session.is_listed))
    }
}

impl Model for Sleeping {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let forks: &[bool] = if self.with_forks { &[false, true] } else { &[false] };
        let state = |client_is_held, server_is_held| State {
            sessions: (0..self.clients).map(|index| self.session(index, client_is_held && index == 0)).collect(),
            entries: vec![None; self.clients],
            server_is_alive: true,
            server_is_held,
            thread: ThreadAt::Top,
            control_thread: ControlThreadAt::Rest,
            messages: Vec::new(),
            wake_flag: false,
            mailbox_bell: false,
        };
        forks.iter().flat_map(|&client| forks.iter().map(move |&server| state(client, server))).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, session) in state.sessions.iter().enumerate() {
            if session.is_alive && session.at != ClientAt::Gone {
                actions.push(Action::Client(index));
                actions.extend(self.with_kills.then_some(Action::KillClient(index)));
            }
        }
        if !state.server_is_alive {
            return;
        }
        actions.extend([Action::Thread, Action::ThreadHears, Action::WakeHot, Action::ControlThread]);
        for index in 0..self.clients {
            actions.extend([Action::Cool(index), Action::Deal(index), Action::End(index)]);
        }
        actions.extend(self.with_kills.then_some(Action::KillServer));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Client(index) => self.client(&mut state, index)?,
            Action::KillClient(index) => state.sessions[index].is_alive = false,
            Action::Thread => self.thread(&mut state)?,
            Action::ThreadHears => self.thread_hears(&mut state)?,
            Action::Cool(index) => self.cool(&mut state, index)?,
            Action::WakeHot => self.wake(&mut state, true)?,
            Action::ControlThread => self.control_thread(&mut state)?,
            Action::Deal(index) => self.deal(&mut state, index)?,
            Action::End(index) => self.end(&mut state, index)?,
            Action::KillServer => state.server_is_alive = false,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Sleeping>> {
        let mut properties = vec![
            Property::always("nobody sleeps for ever", |model: &Sleeping, state: &State| {
                state.all_clients_are_done() || model.goes_on(state)
            }),
            Property::always("what is over is let go", |model: &Sleeping, state: &State| {
                state.all_is_let_go() || model.goes_on(state)
            }),
            Property::always("a request is served once", |_, state: &State| {
                state.sessions.iter().all(|session| session.served <= 1)
            }),
            Property::always("a session is ended once", |_, state: &State| {
                state.sessions.iter().all(|session| session.ended <= 1)
            }),
            Property::always("a reply that was passed counts", |_, state: &State| {
                state.sessions.iter().all(|session| !session.dropped_reply)
            }),
            Property::always("an honest client gets its replies while the server lives", |_, state: &State| {
                state.sessions.iter().all(|session| session.at != ClientAt::Failed || !state.server_is_alive)
            }),
        ];
        if self.bug.is_some() {
            return properties;
        }
        properties.extend([
            Property::sometimes("a client slept and was answered", |_, state: &State| {
                state.sessions.iter().any(|session| session.slept && session.at == ClientAt::Idle)
            }),
            Property::sometimes("the serving thread sleeps while clients live", |_, state: &State| {
                state.thread == ThreadAt::Asleep && state.sessions.iter().any(|session| session.at == ClientAt::Idle)
            }),
            Property::sometimes("the last look finds a request", |_, state: &State| {
                matches!(state.thread, ThreadAt::Withdraw(_))
            }),
            Property::sometimes("a ring for nothing", |model: &Sleeping, _| {
                model.seen.rang_for_nothing.load(Ordering::Relaxed)
            }),
        ]);
        if self.clients == 2 {
            properties
                .push(Property::sometimes("a look at the bells takes a message's ring away", |model: &Sleeping, _| {
                    model.seen.ring_taken_away.load(Ordering::Relaxed)
                }));
        }
        if self.with_kills {
            properties.extend([
                Property::sometimes("killed between the pass and the ring", |_, state: &State| {
                    state.sessions.iter().any(|session| !session.is_alive && session.at == ClientAt::Ring)
                }),
                Property::sometimes("the server dies and a sleeping client hears of it", |_, state: &State| {
                    state.sessions.iter().any(|session| session.slept && session.at == ClientAt::Failed)
                }),
            ]);
        }
        properties
    }
}

impl Protocol for Sleeping {
    type Bug = Bug;
    const NAME: &'static str = "waiting";
    const BUGS: &'static [(Bug, &'static str)] = &[
        (Bug::MissingLook, "nobody sleeps for ever"),
        (Bug::LookBeforeAnnouncing, "nobody sleeps for ever"),
        (Bug::UnreadMessage, "what is over is let go"),
        (Bug::DeafLook, "nobody sleeps for ever"),
        (Bug::WakeBeforePass, "nobody sleeps for ever"),
        (Bug::KeptEntry, "what is over is let go"),
        (Bug::RingBeforePass, "nobody sleeps for ever"),
        (Bug::RingByHint, "nobody sleeps for ever"),
        (Bug::BlindSleep, "nobody sleeps for ever"),
        (Bug::DeafToDeath, "nobody sleeps for ever"),
        (Bug::ClientWatchesSocketAlone, "nobody sleeps for ever"),
        (Bug::DroppedReply, "a reply that was passed counts"),
        (Bug::ControlThreadWatchesSocketAlone, "what is over is let go"),
        (Bug::SilentMessage, "nobody sleeps for ever"),
        (Bug::EndedTwice, "a session is ended once"),
    ];

    fn with_bug(bug: Bug) -> Sleeping {
        let needs_two = matches!(bug, Bug::UnreadMessage | Bug::DeafLook);
        let needs_death = matches!(
            bug,
            Bug::DeafToDeath
                | Bug::ClientWatchesSocketAlone
                | Bug::DroppedReply
                | Bug::ControlThreadWatchesSocketAlone
                | Bug::EndedTwice
        );
        Sleeping {
            clients: if needs_two { 2 } else { 1 },
            calls: if needs_two { [1, 1] } else { [2, 0] },
            with_kills: needs_death,
            with_forks: needs_death,
            bug: Some(bug),
            seen: Seen::default(),
        }
    }
}

/// Does something to a turn with the library's own functions.
fn on_turn<T>(word: &mut u64, step: impl FnOnce(&AtomicU64) -> T) -> T {
    let atomic = AtomicU64::new(*word);
    let result = step(&atomic);
    *word = atomic.into_inner();
    result
}

fn turn_of(mut word: u64) -> Turn {
    on_turn(&mut word, slot::load)
}

/// Does something to `waiting` with the library's own functions.
pub fn on_waiting<T>(word: &mut u32, step: impl FnOnce(&Waiting<'_>) -> T) -> T {
    let atomic = AtomicU32::new(*word);
    let result = step(&Waiting(&atomic));
    *word = atomic.into_inner();
    result
}
