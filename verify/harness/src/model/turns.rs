//! The model of the slots: whose turn it is, what is given up, and when a slot may be used again. One client with two
//! slots, one thread that takes requests, and as many as there are requests that answer them; a crash of either side at
//! any step; and, in place of either side, one that writes whatever it likes into the turns.
//!
//! Turns are the library's own functions, called on the words of the state. Where each step stands in the library:
//!
//! | here | there |
//! |---|---|
//! | fill, pass, accept, release, give up, reclaim | `caller.rs`: `try_loan`, `pass`, `accept`, `release`, `abandon`, `reclaim` |
//! | ask for each, sleep | `client.rs`: `wait_for_slot`; `connection.rs`: `wait_patiently` |
//! | take | `worker.rs`: `Entry::look`, `Entry::take` |
//! | note, pass back, ring | `request.rs`: `pass`; `session.rs`: `set_answered` |

use stateright::{Model, Property};
use wigwag::models::slot::{self, Expected, Turn};
use wigwag::models::sync::AtomicU64;

use super::explore::Protocol;

const SLOTS: usize = 2;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A slot that was given up is used again at once.
    ReusedAtOnce,
    /// A slot that was given up is forgotten.
    ForgottenSlot,
    /// The client sleeps for a slot to come back and has not asked to be woken.
    SleepUnasked,
    /// The client uses the same sequence twice.
    SameSequence,
    /// The client takes a reply with any sequence.
    ReplyWithoutSequence,
    /// The server takes whatever it is its turn for.
    AnySequence,
    /// The server does not look whether the request before has been answered.
    UnansweredTaken,
    /// The answer is noted after the turn was passed.
    AnsweredAfterPass,
    /// The server passes the turn back by a load and a store.
    TornPass,
}

/// Which sides are honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liar {
    /// Both are.
    Nobody,
    /// The client writes what it likes, so often.
    Client(u8),
    /// The server does.
    Server(u8),
}

/// The model.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Requests of the client.
    pub calls: u8,
    /// How many of them it may give up.
    pub gives_up: u8,
    /// Whether processes may be killed.
    pub with_kills: bool,
    /// The side that lies.
    pub liar: Liar,
    /// The sequence that the slots begin after.
    pub begin_after: u64,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

/// A slot in the client's own knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mine {
    Free,
    Loaned,
    Out,
    Replied,
    Abandoned,
    Lost,
}

/// What the client's thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ClientAt {
    Awake,
    /// Asks for a wake-up in each slot from this one on.
    Asking(usize),
    Asleep,
    /// It knows that the session is over.
    Over,
}

/// What is left of an answer once the payload is not touched any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AnswerAt {
    Pass,
    LateStore(bool),
    Note(bool),
    Ring,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    turn: u64,
    payload: u8,
    mine: Mine,
    sequence: u64,
    wanted: u8,
    expected: Expected,
    answered: u64,
    is_open: bool,
    taken: u64,
    times_taken: u8,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    slots: [Slot; SLOTS],
    client: ClientAt,
    client_is_alive: bool,
    server_is_alive: bool,
    answers: Vec<(usize, u64, AnswerAt)>,
    bell: bool,
    calls_left: u8,
    gives_up_left: u8,
    lies_left: u8,
    is_condemned: bool,
    opened_twice: bool,
    wrong_reply: bool,
    stale_reply: bool,
    slept: bool,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The client fills a free slot.
    Fill(usize),
    /// It passes it.
    Pass(usize),
    /// It does not send it after all.
    Drop(usize),
    /// It takes a reply.
    Accept(usize),
    /// It is done with a reply.
    Release(usize),
    /// It gives a call up.
    GiveUp(usize),
    /// It takes a slot back that it had given up.
    Reclaim(usize),
    /// It begins to wait, asks the next slot, or wakes.
    Wait,
    /// The server looks at a slot.
    Look(usize),
    /// The handler has done its work on a request.
    Work(usize),
    /// The next step of an answer.
    Answer(usize),
    /// A liar writes a turn.
    Lie(usize, u64),
    /// The client is killed.
    KillClient,
    /// The server is killed.
    KillServer,
}

fn on_turn<T>(word: &mut u64, step: impl FnOnce(&AtomicU64) -> T) -> T {
    let atomic = AtomicU64::new(*word);
    let result = step(&atomic);
    *word = atomic.into_inner();
    result
}

fn turn_of(mut word: u64) -> Turn {
    on_turn(&mut word, slot::load)
}

const REPLIED: u8 = 0x80;

impl Turns {
    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn goes_on(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        let is_fate = |action: &Action| matches!(action, Action::KillClient | Action::KillServer | Action::Lie(..));
        actions.into_iter().any(|action| !is_fate(&action) && self.next_state(state, action).is_some())
    }

    fn client(&self, state: &mut State, action: Action) -> Option<()> {
        let calls_left = state.calls_left;
        let is_over = state.client == ClientAt::Over;
        if !state.client_is_alive || is_over || (state.client != ClientAt::Awake && action != Action::Wait) {
            return None;
        }
        match action {
            Action::Fill(index) if calls_left > 0 && state.slots[index].mine == Mine::Free => {
                let slot = &mut state.slots[index];
                (slot.mine, slot.payload, slot.wanted) = (Mine::Loaned, calls_left, calls_left);
                state.calls_left -= 1;
            }
            Action::Pass(index) if state.slots[index].mine == Mine::Loaned => {
                let slot = &mut state.slots[index];
                if !self.is(Bug::SameSequence) || slot.sequence == self.begin_after {
                    slot.sequence = slot::next_sequence(slot.sequence);
                }
                on_turn(&mut slot.turn, |turn| slot::pass_to_server(turn, slot.sequence));
                (slot.mine, slot.times_taken) = (Mine::Out, 0);
            }
            Action::Drop(index) if state.slots[index].mine == Mine::Loaned => state.slots[index].mine = Mine::Free,
            Action::Accept(index) if state.slots[index].mine == Mine::Out => self.accept(state, index)?,
            Action::Release(index) if state.slots[index].mine == Mine::Replied => state.slots[index].mine = Mine::Free,
            Action::GiveUp(index) if state.slots[index].mine == Mine::Out && state.gives_up_left > 0 => {
                state.gives_up_left -= 1;
                let slot = &mut state.slots[index];
                slot.mine = match on_turn(&mut slot.turn, slot::abandon).is_server() {
                    true if self.is(Bug::ForgottenSlot) => Mine::Lost,
                    true if !self.is(Bug::ReusedAtOnce) => Mine::Abandoned,
                    _ => Mine::Free,
                };
            }
            Action::Reclaim(index) if state.slots[index].mine == Mine::Abandoned => {
                let slot = &mut state.slots[index];
                if turn_of(slot.turn).is_server() {
                    return None;
                }
                slot.mine = Mine::Free;
            }
            Action::Wait => self.wait(state)?,
            _ => return None,
        }
        Some(())
    }

    fn accept(&self, state: &mut State, index: usize) -> Option<()> {
        let slot = &mut state.slots[index];
        let turn = turn_of(slot.turn);
        if turn.is_server() {
            return None;
        }
        let is_mine = turn.sequence() == slot.sequence;
        if !is_mine && !self.is(Bug::ReplyWithoutSequence) {
            state.client = ClientAt::Over; // a violation
            return Some(());
        }
        slot.mine = Mine::Replied;
        state.stale_reply |= !is_mine;
        state.wrong_reply |= !matches!(self.liar, Liar::Server(_)) && slot.payload != slot.wanted | REPLIED;
        Some(())
    }

    /// `wait_slow` and `wait_for_slot`: asks in each slot that is out, and sleeps if nothing has come.
    fn wait(&self, state: &mut State) -> Option<()> {
        let is_awaited = |slot: &Slot| matches!(slot.mine, Mine::Out | Mine::Abandoned);
        state.client = match state.client {
            ClientAt::Awake => {
                // It waits when it has nothing else to do: all is out.
                let has_come = state.slots.iter().any(|slot| is_awaited(slot) && !turn_of(slot.turn).is_server());
                let is_all_out = state.slots.iter().any(is_awaited)
                    && state
                        .slots
                        .iter()
                        .all(|slot| is_awaited(slot) || (slot.mine == Mine::Free && state.calls_left == 0));
                if has_come || !is_all_out {
                    return None;
                }
                if self.is(Bug::SleepUnasked) { ClientAt::Asleep } else { ClientAt::Asking(0) }
            }
            ClientAt::Asking(SLOTS) => ClientAt::Asleep,
            ClientAt::Asking(index) if is_awaited(&state.slots[index]) => {
                match on_turn(&mut state.slots[index].turn, slot::ask_for_wake).is_server() {
                    true => ClientAt::Asking(index + 1),
                    false => ClientAt::Awake,
                }
            }
            ClientAt::Asking(index) => ClientAt::Asking(index + 1),
            ClientAt::Asleep if !state.server_is_alive || state.is_condemned => ClientAt::Over,
            ClientAt::Asleep if state.bell => {
                (state.bell, state.slept) = (false, true);
                ClientAt::Awake
            }
            ClientAt::Asleep | ClientAt::Over => return None,
        };
        Some(())
    }

    /// `Entry::look` and `Entry::take`.
    fn look(&self, state: &mut State, index: usize) -> Option<()> {
        if !state.server_is_alive || state.is_condemned {
            return None;
        }
        let slot = &mut state.slots[index];
        let turn = turn_of(slot.turn);
        let is_expected = slot.expected.is(turn) || (self.is(Bug::AnySequence) && turn.is_server());
        if !is_expected {
            let is_violation = turn.is_server() && turn.sequence() != slot.expected.taken();
            state.is_condemned |= is_violation;
            return is_violation.then_some(());
        }
        if self.is(Bug::AnySequence) && slot.is_open {
            return None; // one fault at a time
        }
        if slot.answered != slot.expected.taken() && !self.is(Bug::UnansweredTaken) && !self.is(Bug::AnySequence) {
            state.is_condemned = true;
            return Some(());
        }
        state.opened_twice |= slot.is_open;
        slot.times_taken = if slot.taken == turn.sequence() { slot.times_taken + 1 } else { 1 };
        (slot.is_open, slot.taken) = (true, turn.sequence());
        slot.expected = slot.expected.next();
        Some(())
    }

    /// The handler has done its work: the payload is not touched here from now on.
    fn work(&self, state: &mut State, index: usize) -> Option<()> {
        let slot = &mut state.slots[index];
        if !state.server_is_alive || !slot.is_open {
            return None;
        }
        slot.payload |= REPLIED;
        slot.is_open = false;
        if !self.is(Bug::AnsweredAfterPass) {
            slot.answered = slot.taken;
        }
        state.answers.push((index, slot.taken, AnswerAt::Pass));
        Some(())
    }

    /// `Request::pass`, on whatever thread.
    fn answer(&self, state: &mut State, which: usize) -> Option<()> {
        let &(index, sequence, at) = state.answers.get(which)?;
        if !state.server_is_alive {
            return None;
        }
        let slot = &mut state.slots[index];
        let ring = |wants_wake: bool| wants_wake.then_some(AnswerAt::Ring);
        let next = match at {
            AnswerAt::Pass if self.is(Bug::TornPass) => Some(AnswerAt::LateStore(turn_of(slot.turn).wants_wake())),
            AnswerAt::Pass => {
                let replaced = on_turn(&mut slot.turn, |turn| slot::pass_to_client(turn, sequence));
                state.is_condemned |= !replaced.is_server() || replaced.sequence() != sequence;
                match self.is(Bug::AnsweredAfterPass) {
                    true => Some(AnswerAt::Note(replaced.wants_wake())),
                    false => ring(replaced.wants_wake()),
                }
            }
            AnswerAt::LateStore(wants_wake) => {
                on_turn(&mut slot.turn, |turn| slot::pass_to_client(turn, sequence));
                ring(wants_wake)
            }
            AnswerAt::Note(wants_wake) => {
                slot.answered = sequence;
                ring(wants_wake)
            }
            AnswerAt::Ring => {
                state.bell = true;
                None
            }
        };
        match next {
            Some(at) => state.answers[which].2 = at,
            None => drop(state.answers.remove(which)),
        }
        Some(())
    }

    fn lie(&self, state: &mut State, index: usize, word: u64) -> Option<()> {
        state.lies_left = state.lies_left.checked_sub(1)?;
        state.slots[index].turn = word;
        Some(())
    }

    /// What a liar writes: sequences around the right one, with every flag that matters and one that does not exist.
    fn lies(&self, slot: &Slot) -> Vec<u64> {
        let (around, bits): (u64, &[u64]) = match self.liar {
            Liar::Nobody => return Vec::new(),
            Liar::Client(_) => (slot.expected.taken(), &[0, 1, 3, 1 | 8]),
            Liar::Server(_) => (slot.sequence, &[0, 1]),
        };
        let sequences = [around.wrapping_sub(1), around, around.wrapping_add(1)];
        sequences.iter().flat_map(|sequence| bits.iter().map(move |bits| sequence << 8 | bits)).collect()
    }
}

impl State {
    fn all_are_honest_and_alive(&self, model: &Turns) -> bool {
        model.liar == Liar::Nobody && self.client_is_alive && self.server_is_alive
    }
}

impl Model for Turns {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let slot = Slot {
            turn: 0,
            payload: 0,
            mine: Mine::Free,
            sequence: self.begin_after,
            wanted: 0,
            expected: Expected::after(self.begin_after),
            answered: self.begin_after,
            is_open: false,
            taken: self.begin_after,
            times_taken: 0,
        };
        vec![State {
            slots: [slot.clone(), slot],
            client: if matches!(self.liar, Liar::Client(_)) { ClientAt::Over } else { ClientAt::Awake },
            client_is_alive: true,
            server_is_alive: true,
            answers: Vec::new(),
            bell: false,
            calls_left: self.calls,
            gives_up_left: self.gives_up,
            lies_left: match self.liar {
                Liar::Nobody => 0,
                Liar::Client(lies) | Liar::Server(lies) => lies,
            },
            is_condemned: false,
            opened_twice: false,
            wrong_reply: false,
            stale_reply: false,
            slept: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for index in 0..SLOTS {
            actions.extend([Action::Fill(index), Action::Pass(index), Action::Drop(index), Action::Accept(index)]);
            actions.extend([Action::Release(index), Action::GiveUp(index), Action::Reclaim(index)]);
            if !matches!(self.liar, Liar::Server(_)) {
                actions.extend([Action::Look(index), Action::Work(index)]);
            }
            if state.lies_left > 0 {
                actions.extend(self.lies(&state.slots[index]).into_iter().map(|word| Action::Lie(index, word)));
            }
        }
        actions.push(Action::Wait);
        actions.extend((0..state.answers.len()).map(Action::Answer));
        if self.with_kills {
            actions.extend([Action::KillClient, Action::KillServer]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Look(index) => self.look(&mut state, index)?,
            Action::Work(index) => self.work(&mut state, index)?,
            Action::Answer(index) => self.answer(&mut state, index)?,
            Action::Lie(index, word) => self.lie(&mut state, index, word)?,
            Action::KillClient => state.client_is_alive = false,
            Action::KillServer => state.server_is_alive = false,
            action => self.client(&mut state, action)?,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Turns>> {
        let mut properties = vec![
            Property::always("one side touches a payload at a time", |model: &Turns, state: &State| {
                let is_mine = |slot: &Slot| matches!(slot.mine, Mine::Loaned | Mine::Replied);
                model.liar != Liar::Nobody || !state.slots.iter().any(|slot| is_mine(slot) && slot.is_open)
            }),
            Property::always("a reply is its request's", |_, state: &State| !state.wrong_reply),
            Property::always("a reply has its request's sequence", |_, state: &State| !state.stale_reply),
            Property::always("a request is served once", |_, state: &State| {
                state.slots.iter().all(|slot| slot.times_taken <= 1)
            }),
            Property::always("a slot is open once", |_, state: &State| !state.opened_twice),
            Property::always("an honest client is not condemned", |model: &Turns, state: &State| {
                model.liar != Liar::Nobody || !state.is_condemned
            }),
            Property::always("no slot is lost, and nobody sleeps for ever", |model: &Turns, state: &State| {
                let is_done = state.calls_left == 0 && state.slots.iter().all(|slot| slot.mine == Mine::Free);
                !state.all_are_honest_and_alive(model) || is_done || model.goes_on(state)
            }),
            Property::always("what was taken is closed", |model: &Turns, state: &State| {
                let is_closed = state.answers.is_empty() && state.slots.iter().all(|slot| !slot.is_open);
                !state.server_is_alive || is_closed || model.goes_on(state)
            }),
        ];
        if self.bug.is_some() {
            return properties;
        }
        let sleeps = Property::sometimes("a client slept and was woken", |_, state: &State| state.slept);
        let both = Property::sometimes("both slots are served at a time", |_, state: &State| {
            state.slots.iter().all(|slot| slot.is_open)
        });
        match self.liar {
            Liar::Nobody => properties.extend([
                sleeps,
                both,
                Property::sometimes("a slot was given up and is back", |model: &Turns, state: &State| {
                    state.gives_up_left < model.gives_up && state.slots.iter().all(|slot| slot.mine == Mine::Free)
                }),
                Property::sometimes("a given up slot is still the server's", |_, state: &State| {
                    state.slots.iter().any(|slot| slot.mine == Mine::Abandoned && turn_of(slot.turn).is_server())
                }),
            ]),
            Liar::Client(_) => {
                properties.push(both);
                properties.push(Property::sometimes("a lie is condemned", |_, state: &State| state.is_condemned));
            }
            Liar::Server(_) => properties
                .push(Property::sometimes("a lie ends the session", |_, state: &State| state.client == ClientAt::Over)),
        }
        properties
    }
}

impl Protocol for Turns {
    type Bug = Bug;
    const NAME: &'static str = "slots";
    const BUGS: &'static [(Bug, &'static str)] = &[
        (Bug::ReusedAtOnce, "one side touches a payload at a time"),
        (Bug::ForgottenSlot, "no slot is lost, and nobody sleeps for ever"),
        (Bug::SleepUnasked, "no slot is lost, and nobody sleeps for ever"),
        (Bug::SameSequence, "no slot is lost, and nobody sleeps for ever"),
        (Bug::ReplyWithoutSequence, "a reply has its request's sequence"),
        (Bug::AnySequence, "a request is served once"),
        (Bug::UnansweredTaken, "a slot is open once"),
        (Bug::AnsweredAfterPass, "an honest client is not condemned"),
        (Bug::TornPass, "no slot is lost, and nobody sleeps for ever"),
    ];

    fn with_bug(bug: Bug) -> Turns {
        let liar = match bug {
            Bug::ReplyWithoutSequence => Liar::Server(2),
            Bug::AnySequence | Bug::UnansweredTaken => Liar::Client(3),
            _ => Liar::Nobody,
        };
        Turns { calls: 3, gives_up: 1, with_kills: false, liar, begin_after: 0, bug: Some(bug) }
    }
}
