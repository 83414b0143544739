//! A turn that was seen becomes a request.

use std::sync::Arc;

use crate::error::Result;
use crate::exchange::request::Request;
use crate::faults::{self, Fault};
use crate::form::Form;
use crate::memory::head::{Head, Kind};
use crate::memory::slot::Turn;
use crate::service::intake::{Intake, Opened};
use crate::service::session::{Carried, Session};
use crate::service::shared::Redelivery;
use crate::service::worker::{Next, Until, Worker};
use crate::sync::Ordering;

/// A thread that serves calls.
pub type CallWorker = Worker<CallIntake>;

/// What was found last, opened in place: a call moves no object and counts no reference.
pub struct CallIntake(Request);

impl CallIntake {
    /// The request that was found last.
    #[inline(always)]
    pub fn request(&mut self) -> &mut Request {
        &mut self.0
    }

    #[inline(always)]
    fn checked(session: &Session, slot: usize) -> std::result::Result<Head, u64> {
        let line = session.segment.line(slot);
        // Relaxed: acquired with the turn. Read once; only the local is looked at.
        let word = line.head.load(Ordering::Relaxed);
        let mut head = Head::of_kind(word, Kind::Request, session.segment.geometry().capacity);
        if faults::is(Fault::UncheckedLength) {
            head = Head::parse(word).filter(|head| head.kind == Kind::Request);
        }
        if faults::is(Fault::DoubleFetch) && head.is_some() {
            faults::widen_window();
            head = Head::parse(line.head.load(Ordering::Relaxed)).or(head);
        }
        head.ok_or(word)
    }

    /// Opens a request with descriptors, or what is none.
    #[cold]
    fn open_with_descriptors(&mut self, session: &Arc<Session>, slot: usize, turn: Turn, word: u64) -> Opened {
        let capacity = session.segment.geometry().capacity;
        let head = Head::parse(word).filter(|head| head.kind == Kind::Request && head.fits(capacity));
        let Some(head @ Head { descriptors: 1.., .. }) = head else { return Opened::Violation };
        let carried = match session.take_descriptors(slot, turn.sequence(), head.descriptors) {
            Carried::All(descriptors) => Ok(descriptors),
            Carried::Lost(loss) => Err(loss),
            Carried::Refused => return Opened::Refused,
        };
        let opened = self.open_request(session, slot, turn, head);
        match carried {
            _ if opened != Opened::Found => {}
            Ok(descriptors) => self.0.carry(descriptors),
            Err(loss) => {
                self.0.answer_without_descriptors(head.descriptors, loss);
                return Opened::Answered;
            }
        }
        opened
    }

    #[inline(always)]
    fn open_request(&mut self, session: &Arc<Session>, slot: usize, turn: Turn, head: Head) -> Opened {
        if !Arc::ptr_eq(self.0.session(), session) || self.0.is_open() {
            replace(&mut self.0, session);
        }
        match self.0.open(slot, session.segment.line(slot), turn.sequence(), head) {
            true => Opened::Found,
            false => Opened::Answered,
        }
    }
}

impl Intake for CallIntake {
    type Item = Request;

    const FORM: Form = Form::Exchange;

    fn new(session: &Arc<Session>) -> CallIntake {
        CallIntake(Request::closed(Arc::clone(session)))
    }

    #[inline(always)]
    fn slot(&self) -> usize {
        self.0.slot()
    }

    #[inline(always)]
    fn open(&mut self, session: &Arc<Session>, slot: usize, turn: Turn) -> Opened {
        match CallIntake::checked(session, slot) {
            Ok(head) => self.open_request(session, slot, turn, head),
            Err(word) => self.open_with_descriptors(session, slot, turn, word),
        }
    }

    fn take(&mut self, session: &Arc<Session>, since_ns: u64) -> Request {
        let mut request = std::mem::replace(&mut self.0, Request::closed(Arc::clone(session)));
        request.keep(since_ns);
        request
    }

    fn may_reopen(_: &Redelivery) -> bool {
        false // a request is answered, or dropped, which answers it: it never comes again
    }

    fn reopen(again: Redelivery) -> Request {
        Request::closed(again.session)
    }
}

/// The handler swapped the request for another one, to keep it: that is allowed, and this one is not ours to open.
#[cold]
fn replace(request: &mut Request, session: &Arc<Session>) {
    *request = Request::closed(Arc::clone(session));
}

/// Finds the next request. One copy in this crate, whatever handlers the programs that use it have.
#[inline(never)]
pub fn next(worker: &mut CallWorker, until: Until) -> Result<Next> {
    worker.next(until)
}
