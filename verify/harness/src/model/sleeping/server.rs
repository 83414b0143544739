//! The serving thread's and the control thread's steps in the model of waiting.

use std::sync::atomic::Ordering;

use wigwag::models::slot::{self, Expected};
use wigwag::models::wake_flag::WakeFlag;

use super::{Bug, Entry, Sleeping, State, WorkerMessage, on_turn, on_waiting, turn_of};

/// Where the serving thread stands: what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadAt {
    /// The beginning of `next`: looks whether it is called.
    Top,
    /// Answers the call.
    Answer,
    /// Takes the messages.
    ReadMessages,
    /// Looks at the session with this index, if it is active.
    Pass(usize),
    /// Announces that it sleeps.
    Announce(usize),
    /// Looks a last time.
    LastLook(usize),
    /// Takes the announcement back.
    Withdraw(usize),
    /// Serves and passes the turn back.
    Serve(usize),
    /// Passes the turn back, having looked before: a fault. Whether it saw that the client sleeps.
    LatePass(usize, bool),
    /// Rings the client.
    RingClient(usize),
    /// Nothing was found in a whole pass.
    Idle,
    /// Looks whether it may sleep.
    MaySleep,
    /// Sleeps in its epoll.
    Asleep,
}

/// Where the control thread stands: what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlThreadAt {
    /// Sleeps in its epoll.
    Rest,
    /// Has put a message in; calls.
    Call,
    /// Rings.
    Ring,
}

impl Sleeping {
    pub(super) fn thread(&self, state: &mut State) -> Option<()> {
        state.thread = match state.thread {
            ThreadAt::Top if wake_flag(state.wake_flag).is_raised() => ThreadAt::Answer,
            ThreadAt::Top => ThreadAt::Pass(0),
            ThreadAt::Answer => {
                state.wake_flag = false;
                ThreadAt::ReadMessages
            }
            ThreadAt::ReadMessages => {
                self.read_messages(state);
                ThreadAt::Pass(0)
            }
            ThreadAt::Pass(index) if index == self.clients => ThreadAt::Idle,
            ThreadAt::Pass(index) => match state.entries[index] {
                Some(entry) if entry.withdraws => {
                    on_waiting(&mut state.sessions[index].waiting, |waiting| waiting.withdraw());
                    state.entries[index] = Some(Entry { withdraws: false, ..entry });
                    ThreadAt::Pass(index)
                }
                Some(entry) if entry.is_active => match self.look(state, index, entry) {
                    true => ThreadAt::Serve(index),
                    false if entry.is_hot => ThreadAt::Pass(index + 1),
                    false if self.is(Bug::LookBeforeAnnouncing) => {
                        disarm(state, index);
                        ThreadAt::Announce(index)
                    }
                    false => ThreadAt::Announce(index),
                },
                _ => ThreadAt::Pass(index + 1),
            },
            ThreadAt::Announce(index) => {
                on_waiting(&mut state.sessions[index].waiting, |waiting| waiting.announce());
                if self.is(Bug::LookBeforeAnnouncing) { ThreadAt::Pass(index + 1) } else { ThreadAt::LastLook(index) }
            }
            ThreadAt::LastLook(index) => {
                let entry = state.entries[index]?;
                if !self.is(Bug::MissingLook) && self.look(state, index, entry) {
                    ThreadAt::Withdraw(index)
                } else {
                    disarm(state, index);
                    ThreadAt::Pass(index + 1)
                }
            }
            ThreadAt::Withdraw(index) => {
                on_waiting(&mut state.sessions[index].waiting, |waiting| waiting.withdraw());
                ThreadAt::Serve(index)
            }
            ThreadAt::Serve(index) => self.serve(state, index),
            ThreadAt::LatePass(index, wants_wake) => {
                pass(state, index);
                if wants_wake { ThreadAt::RingClient(index) } else { ThreadAt::Top }
            }
            ThreadAt::RingClient(index) => {
                state.sessions[index].client_bell = true;
                ThreadAt::Top
            }
            ThreadAt::Idle if !state.entries.iter().flatten().any(|entry| entry.is_active) => ThreadAt::MaySleep,
            // It polls: only when there is something to be found is that a step.
            ThreadAt::Idle if state.wake_flag || self.finds_something(state) => ThreadAt::Top,
            ThreadAt::Idle => return None,
            ThreadAt::MaySleep if wake_flag(state.wake_flag).may_sleep() || self.is(Bug::UnreadMessage) => {
                ThreadAt::Asleep
            }
            ThreadAt::MaySleep => ThreadAt::Top,
            ThreadAt::Asleep => return self.wake(state, false),
        };
        Some(())
    }

    /// `Entry::look` and `Entry::take`.
    fn look(&self, state: &mut State, index: usize, entry: Entry) -> bool {
        let turn = turn_of(state.sessions[index].turn);
        if entry.expected.is(turn) {
            state.entries[index] = Some(Entry { expected: entry.expected.next(), ..entry });
            return true;
        }
        assert!(!turn.is_server() || turn.sequence() == entry.expected.taken(), "the clients of this model are honest");
        false
    }

    fn finds_something(&self, state: &State) -> bool {
        let entries = state.entries.iter().zip(&state.sessions);
        entries
            .flat_map(|(entry, session)| entry.map(|entry| (entry, session)))
            .any(|(entry, session)| entry.is_active && entry.expected.is(turn_of(session.turn)))
    }

    /// `Request::pass`.
    fn serve(&self, state: &mut State, index: usize) -> ThreadAt {
        if self.is(Bug::WakeBeforePass) {
            let wants_wake = turn_of(state.sessions[index].turn).wants_wake();
            return ThreadAt::LatePass(index, wants_wake);
        }
        if pass(state, index) { ThreadAt::RingClient(index) } else { ThreadAt::Top }
    }

    /// `Worker::hear` after a sleep: takes all edges there are.
    pub(super) fn wake(&self, state: &mut State, becomes_hot: bool) -> Option<()> {
        let rang = |index: usize| state.entries[index].is_some() && state.sessions[index].server_bell;
        let any = (0..self.clients).any(rang);
        if state.thread != ThreadAt::Asleep || !(any || (state.mailbox_bell && !becomes_hot)) {
            return None;
        }
        self.take_edges(state, becomes_hot, true);
        state.thread = ThreadAt::Top;
        Some(())
    }

    /// `Worker::checkup`: looks at the bells without sleeping, while some sessions are active and others are not.
    pub(super) fn thread_hears(&self, state: &mut State) -> Option<()> {
        let active = state.entries.iter().flatten().filter(|entry| entry.is_active).count();
        let edges = state.mailbox_bell || (0..self.clients).any(|index| state.sessions[index].server_bell);
        let is_checkup = state.thread == ThreadAt::Pass(0) && active > 0 && edges;
        if !is_checkup || active == state.entries.iter().flatten().count() {
            return None;
        }
        self.seen.ring_taken_away.fetch_or(state.mailbox_bell && !state.messages.is_empty(), Ordering::Relaxed);
        self.take_edges(state, false, !self.is(Bug::DeafLook));
        Some(())
    }

    fn take_edges(&self, state: &mut State, becomes_hot: bool, hears_sleepers: bool) {
        state.mailbox_bell = false;
        for index in 0..self.clients {
            let Some(entry) = &mut state.entries[index] else { continue };
            let rang = std::mem::take(&mut state.sessions[index].server_bell);
            if rang && !entry.is_active && hears_sleepers {
                entry.is_active = true;
                (entry.is_hot, entry.withdraws) = (becomes_hot, becomes_hot);
            }
        }
    }

    /// `Worker::cool_the_silent`.
    pub(super) fn cool(&self, state: &mut State, index: usize) -> Option<()> {
        let entry = state.entries[index].as_mut().filter(|entry| entry.is_hot)?;
        if state.thread != ThreadAt::Idle {
            return None;
        }
        entry.is_hot = false;
        state.thread = ThreadAt::Top;
        Some(())
    }

    /// `Worker::read_messages`, `adopt`, `forget`.
    fn read_messages(&self, state: &mut State) {
        for message in std::mem::take(&mut state.messages) {
            match message {
                WorkerMessage::Adopt(index) => {
                    let expected = Expected::after(0);
                    let entry = Entry { expected, is_active: true, is_hot: false, withdraws: false };
                    state.entries[index] = Some(entry);
                }
                WorkerMessage::Forget(_) if self.is(Bug::KeptEntry) => {}
                WorkerMessage::Forget(index) => state.entries[index] = None,
            }
        }
    }

    pub(super) fn control_thread(&self, state: &mut State) -> Option<()> {
        state.control_thread = match state.control_thread {
            ControlThreadAt::Rest => return None,
            ControlThreadAt::Call => {
                state.wake_flag = true;
                ControlThreadAt::Ring
            }
            ControlThreadAt::Ring => {
                state.mailbox_bell |= !self.is(Bug::SilentMessage);
                ControlThreadAt::Rest
            }
        };
        Some(())
    }

    /// `ControlThread::establish`, `Core::deal`.
    pub(super) fn deal(&self, state: &mut State, index: usize) -> Option<()> {
        let session = &mut state.sessions[index];
        if state.control_thread != ControlThreadAt::Rest || session.is_dealt || !session.is_listed {
            return None;
        }
        session.is_dealt = true;
        state.messages.push(WorkerMessage::Adopt(index));
        state.control_thread = ControlThreadAt::Call;
        Some(())
    }

    /// `ControlThread::end` and `Core::forget`: the socket has hung up, or the process is gone.
    pub(super) fn end(&self, state: &mut State, index: usize) -> Option<()> {
        let session = &mut state.sessions[index];
        let hung_up = session.has_left || (!session.is_alive && !session.is_held);
        let is_gone = !session.is_alive && !self.is(Bug::ControlThreadWatchesSocketAlone);
        let may_end = if self.is(Bug::EndedTwice) { session.signs_left > 0 } else { session.is_listed };
        if state.control_thread != ControlThreadAt::Rest || !session.is_dealt || !(hung_up || is_gone) || !may_end {
            return None;
        }
        session.is_listed = false;
        session.is_hung_up = true;
        session.signs_left -= 1;
        session.ended += 1;
        let unread = state.messages.iter().position(|&message| message == WorkerMessage::Adopt(index));
        match unread {
            Some(unread) => drop(state.messages.remove(unread)),
            None => {
                state.messages.push(WorkerMessage::Forget(index));
                state.control_thread = ControlThreadAt::Call;
            }
        }
        Some(())
    }
}

/// The flag beside the message box, with the library's own functions.
fn wake_flag(is_called: bool) -> WakeFlag {
    let wake_flag = WakeFlag::lowered();
    if is_called {
        wake_flag.raise();
    }
    wake_flag
}

/// Passes the turn back; whether the client asked to be woken.
fn pass(state: &mut State, index: usize) -> bool {
    let session = &mut state.sessions[index];
    session.served += 1;
    let sequence = turn_of(session.turn).sequence();
    on_turn(&mut session.turn, |turn| slot::pass_to_client(turn, sequence)).wants_wake()
}

fn disarm(state: &mut State, index: usize) {
    if let Some(entry) = &mut state.entries[index] {
        entry.is_active = false;
    }
}
