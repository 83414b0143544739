//! What a form takes out of a slot that was passed to it: the one thing that a serving thread does not know itself.

use std::sync::Arc;

use crate::form::Form;
use crate::memory::slot::Turn;
use crate::service::session::Session;
use crate::service::shared::Redelivery;

/// What became of a slot whose turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Something to hand out lies in it.
    Found,
    /// It was taken, and has been answered already.
    Answered,
    /// It cannot be taken, and the session ends for a reason that was told.
    Refused,
    /// What lies there is nothing that a session allows.
    Violation,
}

/// How a form takes what its clients pass: one value for each session, which keeps what was found last.
pub trait Intake: Sized {
    /// What is handed out, for a caller that keeps it.
    type Item;

    /// The form.
    const FORM: Form;

    /// Of a session that nothing has come from yet.
    fn new(session: &Arc<Session>) -> Self;

    /// The slot that was found last.
    fn slot(&self) -> usize;

    /// Checks what lies in a slot and opens it. The turn is the server's, for the first time with this sequence, and
    /// the slot's last request has been answered.
    fn open(&mut self, session: &Arc<Session>, slot: usize, turn: Turn) -> Opened;

    /// Hands out what was found last. `since_ns` is when the thread looked at the clock last.
    fn take(&mut self, session: &Arc<Session>, since_ns: u64) -> Self::Item;

    /// Whether what was given back can be handed out once more.
    fn may_reopen(again: &Redelivery) -> bool;

    /// Hands out what was given back, after [`Intake::may_reopen`].
    fn reopen(again: Redelivery) -> Self::Item;
}
