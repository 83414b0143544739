//! What becomes of a sender's messages that are not acknowledged when the sender is dropped: the drop waits.
//!
//! A receiver that lives keeps the messages of a sender that has ended. One that dies afterwards takes them with it, so
//! whoever has sent them waits for what it can still do something about. Within one process there is nothing to be had
//! by that: both sides end together, and a thread that has both would wait for itself.

use std::fmt::Display;
use std::thread;
use std::time::Duration;

use crate::queue::sender::Sender;
use crate::trace;
use crate::wait::deadline::Deadline;

/// How long a receiver is looked for where there is none, if nothing else is said.
const WITHOUT_RECEIVER: Duration = Duration::from_secs(5);

impl Sender {
    /// Whether something is to be waited for before it ends.
    pub(super) fn is_to_linger(&mut self) -> bool {
        !thread::panicking() && self.producer.options().linger != Some(Duration::ZERO) && self.has_left_something()
    }

    /// Whether something is under way to a receiver of another process, or to none.
    pub(super) fn has_left_something(&mut self) -> bool {
        match self.group.as_deref_mut() {
            Some(group) => group.has_left_something(&mut self.producer),
            None => self.producer.has_left_something(),
        }
    }

    /// Waits until all is acknowledged, for as long as its options say.
    pub(super) fn linger(&mut self) {
        let limit = self.producer.options().linger;
        self.is_lingering = true;
        self.search = None; // it was for as long as a call looks
        let time = limit.unwrap_or(WITHOUT_RECEIVER);
        self.producer.look_for_receivers_for(time);
        self.group.iter_mut().for_each(|group| group.look_for_receivers_for(time));
        if let Err(error) = self.flush_within(limit.map_or(Deadline::Never, Deadline::after)) {
            self.leave_told(&error);
        }
    }

    /// It ends before all is acknowledged, and does not wait any more.
    pub(super) fn leave_told(&mut self, why: &dyn Display) {
        trace::messages_left(self.producer.name(), self.open(), why);
        self.producer.leave();
    }
}
