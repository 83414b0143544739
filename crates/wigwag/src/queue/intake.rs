//! A turn that was seen becomes a message.

use std::sync::Arc;

use crate::form::Form;
use crate::memory::head::{Head, Kind};
use crate::memory::slot::Turn;
use crate::queue::message::{Location, Message};
use crate::service::intake::{Intake, Opened};
use crate::service::session::{Carried, Session};
use crate::service::shared::Redelivery;
use crate::service::worker::Worker;
use crate::sync::Ordering;

/// A thread that receives messages.
pub type MessageWorker = Worker<MessageIntake>;

/// Where the message that was found last lies.
pub struct MessageIntake(Location);

impl Intake for MessageIntake {
    type Item = Message;

    const FORM: Form = Form::Queue;

    fn new(_: &Arc<Session>) -> MessageIntake {
        MessageIntake(Location::NONE)
    }

    #[inline(always)]
    fn slot(&self) -> usize {
        self.0.slot()
    }

    #[inline(always)]
    fn open(&mut self, session: &Arc<Session>, slot: usize, turn: Turn) -> Opened {
        let capacity = session.segment.geometry().capacity;
        // Relaxed: acquired with the turn. Read once; only the local is looked at.
        let word = session.segment.line(slot).head.load(Ordering::Relaxed);
        let head = Head::of_kind(word, Kind::Message, capacity);
        let head = head.or_else(|| Head::of_kind(word, Kind::Redelivered, capacity));
        let Some(head) = head.filter(|head| !head.has_deadline) else {
            return self.open_with_descriptors(session, slot, turn, word);
        };
        self.0 = Location::new(slot, head);
        if !Message::make_ready(session, self.0) {
            // The sender sends this message again elsewhere: nothing of its session may be taken here meanwhile.
            return Opened::Refused;
        }
        Message::mark_delivered(session, self.0);
        Opened::Found
    }

    #[inline(always)]
    fn take(&mut self, session: &Arc<Session>, _: u64) -> Message {
        counted(Message::of(Arc::clone(session), self.0))
    }

    fn may_reopen(again: &Redelivery) -> bool {
        Message::make_ready(&again.session, Location::new(again.slot, again.head))
    }

    fn reopen(again: Redelivery) -> Message {
        let place = Location::new(again.slot, again.head);
        counted(Message::of(again.session, place))
    }
}

impl MessageIntake {
    /// Opens a message with descriptors, or what is none. Only a sender of the same user can have some: there is
    /// nothing to be copied.
    #[cold]
    fn open_with_descriptors(&mut self, session: &Arc<Session>, slot: usize, turn: Turn, word: u64) -> Opened {
        let is_message = |head: &Head| matches!(head.kind, Kind::Message | Kind::Redelivered) && !head.has_deadline;
        let capacity = session.segment.geometry().capacity;
        let head = Head::parse(word).filter(|head| is_message(head) && head.fits(capacity));
        let Some(head @ Head { descriptors: 1.., .. }) = head else { return Opened::Violation };
        let came = match session.take_descriptors(slot, turn.sequence(), head.descriptors) {
            Carried::All(descriptors) => Ok(descriptors),
            Carried::Lost(loss) => Err(loss),
            Carried::Refused => return Opened::Refused,
        };
        let Some(travelling) = session.descriptors.as_deref() else { return Opened::Violation };
        travelling.delivered.keep(slot, came);
        self.0 = Location::new(slot, head);
        Message::mark_delivered(session, self.0);
        Opened::Found
    }
}

/// The message is counted as taken, by the one thread that has the worker.
#[inline(always)]
fn counted(message: Message) -> Message {
    let counters = message.session().record.counters();
    counters.kept.taken.add(1); // of a queue nobody else writes it
    counters.served.bytes_in.add(message.len() as u64);
    message
}
