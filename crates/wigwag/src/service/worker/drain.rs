//! The end of a serving thread: what had been passed when it learned of the shutdown is handed out, and nothing else.
//!
//! ```text
//!   Serving --- the server is complete ---> Draining --- nothing is left, and that was told ---> Ended
//! ```
//!
//! What is drained is a set: the slots in which something lay that had been passed and not taken, with what is given
//! back of it. It is noted once, and only grows smaller, so nobody who goes on calling or sending uses up what is
//! another's. All of it lies apart from the path of a call: a thread that drains looks at no session beside.

use std::collections::VecDeque;
use std::time::Instant;

use crate::faults::{self, Fault};
use crate::service::intake::Intake;
use crate::service::takeover::REPLACED;
use crate::service::worker::Worker;
use crate::session::protocol::Reason;

/// How far a thread has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It hands out whatever comes.
    Serving,
    /// The server shuts down.
    Draining,
    /// The end was told, and is told from now on: nothing is handed out any more.
    Ended,
}

/// What is still to be handed out of a session.
#[derive(Debug)]
pub struct Stock {
    /// Which of the thread's sessions.
    index: usize,
    /// Its slots, in the order in which they are taken.
    slots: VecDeque<usize>,
}

impl<I: Intake> Worker<I> {
    /// The server shuts down: notes what has been passed. From here on the usual looks find no session, and every look
    /// comes to [`Worker::drain`].
    #[cold]
    pub(super) fn begin_to_drain(&mut self) {
        self.phase = Phase::Draining;
        self.active.clear();
        self.countdown = 0;
        for index in 0..self.entries.len() {
            self.take_stock(index);
        }
    }

    /// Notes what has been passed in a session.
    pub(super) fn take_stock(&mut self, index: usize) {
        let Some(Some(entry)) = self.entries.get_mut(index) else { return };
        entry.is_active = true; // nobody need ring, and who does changes nothing
        let slots = entry.passed();
        if !slots.is_empty() {
            self.stocks.push_back(Stock { index, slots });
        }
    }

    /// A session is gone, with all that lay in it.
    pub(super) fn forget_stock(&mut self, gone: usize) {
        self.stocks.retain(|stock| stock.index != gone);
    }

    /// Finds the next of what had been passed: what was given back first, then one of each session in turn. `false`:
    /// nothing is left.
    #[cold]
    pub(super) fn drain(&mut self) -> bool {
        loop {
            if self.mailbox.wake_flag.is_raised() {
                self.read_messages();
            }
            if self.reopen() {
                if faults::is(Fault::CountedAgain) {
                    self.forget_one();
                }
                break;
            }
            let Some(mut stock) = self.stocks.pop_front() else {
                if self.mailbox.wake_flag.is_raised() {
                    continue; // something was given back just now
                }
                return false;
            };
            let index = stock.index;
            let slot = stock.slots.pop_front();
            if !stock.slots.is_empty() {
                self.stocks.push_back(stock);
            }
            let entry = self.entries.get_mut(index).and_then(Option::as_deref_mut);
            if slot.zip(entry).is_some_and(|(slot, entry)| entry.look_at(slot)) {
                self.last = index;
                break;
            }
        }
        self.countdown = 0;
        self.note_clock(Instant::now());
        true
    }

    /// One message fewer is handed out, as if what came again had been it.
    fn forget_one(&mut self) {
        if let Some(stock) = self.stocks.back_mut() {
            stock.slots.pop_back();
        }
    }

    /// Whether the end was told.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The end is told, now and whenever somebody asks again. What was not handed out stays with its callers and
    /// senders, who learn of the end from the control thread.
    #[cold]
    pub fn end(&mut self) {
        if faults::is(Fault::SecondLife) {
            return self.begin_to_drain();
        }
        self.phase = Phase::Ended;
        self.countdown = 0;
        self.active.clear();
        self.stocks.clear();
        self.redeliveries.clear();
        self.reopened = None;
        self.untold = None;
        self.index_of.clear();
        // A server with a successor tells its clients at once, whatever other threads still do, that they go on there.
        let has_successor = self.serves_all && self.shared.is_moved();
        for entry in self.entries.drain(..).flatten() {
            entry.close(); // before the farewell, as clients learn by it what nobody has taken
            if has_successor {
                entry.session.end(Reason::Moved, REPLACED.to_owned());
            }
        }
    }

    /// This thread cannot go on, and the server ends because of it: its sessions are told at once, and no other comes
    /// to it.
    #[cold]
    pub fn abandon(&mut self, why: &str) {
        let unread = self.shared.close_mailbox(&self.mailbox);
        let served = self.entries.iter().flatten().map(|entry| &entry.session);
        for session in served.chain(&unread) {
            session.end(Reason::Shutdown, why.to_owned());
        }
        self.end();
    }
}
