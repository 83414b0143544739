//! A client, and what it has out: loans, calls, replies. Each action is compared with what the model says of it.

use std::time::Duration;

use wigwag::{Client, Error, ErrorKind, Loan, Pending, Reply};

use super::call::{Answer, Calls, State, request};
use crate::hostile::dice::Dice;
use crate::hostile::kept::Kept;

/// A client.
pub struct SimClient {
    // What is borrowed stands before the client, so that it ends before.
    loans: Vec<Loan<'static>>,
    calls: Vec<(u64, Pending<'static>)>,
    replies: Vec<(Vec<u8>, Reply<'static>)>,
    kept: Kept,
    /// Its number in the model.
    pub number: u64,
    /// The server it is connected to.
    pub server: u32,
    /// Whether that server is gone, or has ended the session.
    pub is_over: bool,
}

/// What came of a action: nothing, or what was wrong.
pub type ActionResult = Result<(), String>;

impl SimClient {
    /// Takes a client that has just connected.
    pub fn new(client: Client, number: u64, server: u32) -> SimClient {
        let (loans, calls, replies) = (Vec::new(), Vec::new(), Vec::new());
        SimClient { loans, calls, replies, kept: Kept::new(client), number, server, is_over: false }
    }

    /// The client.
    pub fn client(&self) -> &'static Client {
        self.kept.client()
    }

    /// Slots that are free by the model.
    fn free(&self, model: &Calls) -> usize {
        let out = self.loans.len() + self.calls.len() + self.replies.len() + model.slots_abandoned(self.number);
        self.client().slots().checked_sub(out).expect("no more slots are out than there are")
    }

    /// Borrows a slot.
    pub fn loan(&mut self, dice: &mut Dice<'_>, model: &Calls) -> ActionResult {
        let capacity = self.client().capacity();
        let len = dice.of(&[8, 20, 48, 49, 100, capacity - 1, capacity, capacity + 1]).max(8);
        let (free, waits) = (self.free(model), dice.below(3));
        let outcome = match waits {
            0 => self.client().try_loan(len),
            1 => self.client().loan_timeout(len, Duration::ZERO),
            // Never where it would wait for an abandoned call: nobody would answer that one meanwhile.
            _ if free == 0 && model.slots_abandoned(self.number) > 0 => return Ok(()),
            _ => self.client().loan(len),
        };
        match outcome.map_err(|error| error.kind()) {
            Ok(loan) if len <= capacity && free > 0 && loan.len() == len => {
                self.loans.push(loan);
                Ok(())
            }
            Err(ErrorKind::CapacityExceeded { .. }) if len > capacity => Ok(()),
            Err(ErrorKind::ServerClosed { maybe_executed: false }) if self.is_over => Ok(()),
            Err(ErrorKind::Full) if free == 0 => Ok(()),
            Err(ErrorKind::TimedOut { maybe_executed: false }) if free == 0 && waits == 1 => Ok(()),
            outcome => Err(format!("a loan of {len} bytes ended as {outcome:?} where {free} slots are free")),
        }
    }

    /// Fills a loan and sends it as the call `id`, or drops it.
    pub fn send(&mut self, dice: &mut Dice<'_>, model: &mut Calls, id: u64) -> ActionResult {
        if self.loans.is_empty() {
            self.loan(dice, model)?;
        }
        if self.loans.is_empty() {
            return Ok(());
        }
        let mut loan = self.loans.swap_remove(dice.below(self.loans.len()));
        if dice.one_in(8) {
            return Ok(()); // dropped: the slot is free again
        }
        let len = loan.len();
        loan.copy_from_slice(&request(id, len));
        let has_deadline = dice.one_in(3);
        let pending = if has_deadline { loan.send_timeout(Duration::from_secs(60)) } else { loan.send() };
        let pending = match pending {
            Err(error) if self.is_over && error.kind() == (ErrorKind::ServerClosed { maybe_executed: false }) => {
                return Ok(()); // nothing was passed
            }
            outcome => outcome.map_err(|error| format!("a send: {error}"))?,
        };
        model.sent(id, self.number, len, has_deadline);
        if self.is_over {
            model.lose(self.number);
        }
        self.calls.push((id, pending));
        Ok(())
    }

    /// Looks for a reply in one of the ways there are.
    pub fn look(&mut self, dice: &mut Dice<'_>, model: &mut Calls) -> ActionResult {
        if self.calls.is_empty() {
            return Ok(());
        }
        let index = dice.below(self.calls.len());
        let (id, mut pending) = self.calls.swap_remove(index);
        let answer = match model.state(id) {
            State::Answered(answer) => Some(answer.clone()),
            _ => None,
        };
        if pending.is_ready() != answer.is_some() {
            return Err(format!("call {id} is {} ready", if answer.is_some() { "not" } else { "already" }));
        }
        let way = dice.below(3);
        let outcome = match way {
            0 => pending.try_wait(),
            1 => pending.wait_timeout(Duration::ZERO),
            _ if answer.is_none() && !self.is_over => {
                self.calls.push((id, pending)); // it would wait for ever
                return Ok(());
            }
            _ => return self.wait(id, answer, pending, model),
        };
        match (answer, outcome) {
            (Some(answer), Some(outcome)) => self.answered(id, answer, outcome),
            // A client that polls without a system call may learn of the end a little later.
            (None, None) if !self.is_over || way == 0 => {
                self.calls.push((id, pending));
                Ok(())
            }
            (None, Some(Err(error))) if self.is_over && is_end_of(model.state(id), error.kind()) => {
                model.abandon(id);
                Ok(())
            }
            (answer, outcome) => Err(format!(
                "call {id} was answered with {answer:?}, and its client got {:?}",
                outcome.map(|outcome| outcome.map(|reply| reply.len()))
            )),
        }
    }

    /// Waits for a reply that is there, or for one that never comes.
    fn wait(&mut self, id: u64, answer: Option<Answer>, pending: Pending<'static>, model: &mut Calls) -> ActionResult {
        match (answer, pending.wait()) {
            (Some(answer), outcome) => self.answered(id, answer, outcome),
            (None, Err(error)) if is_end_of(model.state(id), error.kind()) => {
                model.abandon(id);
                Ok(())
            }
            (None, outcome) => Err(format!("call {id} was not answered, and its client got {outcome:?}")),
        }
    }

    fn answered(&mut self, id: u64, answer: Answer, outcome: Result<Reply<'static>, Error>) -> ActionResult {
        let is_right = match (&answer, &outcome) {
            (Answer::Reply(expected), Ok(reply)) => expected[..] == reply[..],
            (Answer::Failed(text), Err(error)) => {
                error.kind() == ErrorKind::HandlerFailed && error.to_string().contains(text)
            }
            (Answer::Unanswered, Err(error)) => error.kind() == ErrorKind::Unanswered,
            _ => false,
        };
        match (is_right, outcome, answer) {
            (true, Ok(reply), Answer::Reply(expected)) => self.replies.push((expected, reply)),
            (true, ..) => {}
            (false, outcome, answer) => {
                let got = outcome.map(|reply| reply.to_vec());
                return Err(format!("call {id} was answered with {answer:?}, and its client got {got:?}"));
            }
        }
        Ok(())
    }

    /// Gives a call up.
    pub fn abandon(&mut self, dice: &mut Dice<'_>, model: &mut Calls) -> ActionResult {
        if !self.calls.is_empty() {
            let (id, pending) = self.calls.swap_remove(dice.below(self.calls.len()));
            drop(pending);
            model.abandon(id);
        }
        Ok(())
    }

    /// Is done with a reply, or makes it the next request.
    pub fn finish(&mut self, dice: &mut Dice<'_>) -> ActionResult {
        if self.replies.is_empty() {
            return Ok(());
        }
        let (expected, reply) = self.replies.swap_remove(dice.below(self.replies.len()));
        if reply[..] != expected[..] {
            return Err("a reply changed while its client held it".into());
        }
        if dice.one_in(3) {
            let len = dice.of(&[8, 48, 49, self.client().capacity()]);
            let loan = reply.into_loan(len).map_err(|error| format!("a reply as a loan: {error}"))?;
            let same = len.min(expected.len());
            if loan[..same] != expected[..same] {
                return Err("a reply that became a loan lost its bytes".into());
            }
            self.loans.push(loan);
        }
        Ok(())
    }

    /// Whether it waits for a reply.
    pub fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Lets go of everything that it has out.
    pub fn let_go(&mut self, model: &mut Calls) {
        self.loans.clear();
        self.replies.clear();
        for (id, pending) in self.calls.drain(..) {
            drop(pending);
            model.abandon(id);
        }
    }

    /// Whether all slots are there again, when nothing is out.
    pub fn check_slots(&self, model: &Calls) -> ActionResult {
        let free = self.free(model);
        let client = self.client();
        let loans: Vec<_> = (0..free).map(|_| client.try_loan(8)).collect();
        if let Some(Err(error)) = loans.iter().find(|loan| loan.is_err()) {
            return Err(format!("of {free} slots that are free one is not there: {error}"));
        }
        match client.try_loan(8).map_err(|error| error.kind()) {
            Err(ErrorKind::Full) => Ok(()),
            outcome => Err(format!("all slots are out, and one more loan ended as {outcome:?}")),
        }
    }
}

/// Whether a call without an answer may end so: that it was not executed may be said of what the server never received
/// only.
fn is_end_of(state: &State, kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::ServerClosed { maybe_executed: false } => *state == State::Lost,
        ErrorKind::ServerClosed { maybe_executed: true } => true,
        _ => false,
    }
}
