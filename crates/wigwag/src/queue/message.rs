//! A message in the receiver's hands: its sender's bytes where they lie, and the way to give them back.
//!
//! A queue's counterpart of [`crate::exchange::request`]. It is handed from function to function and at last to the
//! user, so it is two words that stay in registers: whatever else belongs to it is found in the session by its slot.

use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::error::Result;
use crate::faults::{self, Fault};
use crate::memory::bounce_buffer::BounceBuffer;
use crate::memory::head::{Head, Kind};
use crate::memory::payload::PayloadBytes;
use crate::memory::prefetch;
use crate::service::session::Session;
use crate::service::shared::Redelivery;
use crate::session::peer::Trust;
use crate::session::protocol::Reason;
use crate::sync::{self, Ordering};

/// Where a message lies whose head was checked, in one word: its length in bytes, its slot, and what else the head
/// said.
#[derive(Clone, Copy, Debug)]
pub struct Location(u64);

const SLOT_SHIFT: u32 = 32;
const IN_BODY: u64 = 1 << 48;
const REDELIVERED: u64 = 1 << 49;
/// It was given back: nothing is to be done with it any more.
const CLOSED: u64 = 1 << 50;
/// How many descriptors came with it.
const DESCRIPTORS: u64 = 31 << DESCRIPTORS_SHIFT;
const DESCRIPTORS_SHIFT: u32 = 51;
/// Its descriptors have been taken from this delivery.
const TAKEN: u64 = 1 << 56;

impl Location {
    /// Of no message.
    pub const NONE: Location = Location(CLOSED);

    /// Of the message in `slot`, below 2^16, with a head of kind [`Kind::Message`] or [`Kind::Redelivered`].
    #[inline(always)]
    pub fn new(slot: usize, head: Head) -> Location {
        let flags = (u64::from(head.in_body) * IN_BODY) | (u64::from(head.kind == Kind::Redelivered) * REDELIVERED);
        let descriptors = u64::from(head.descriptors) << DESCRIPTORS_SHIFT; // at most 16
        Location(u64::from(head.len) | (slot as u64) << SLOT_SHIFT | flags | descriptors)
    }

    #[inline(always)]
    fn len(self) -> usize {
        self.0 as u32 as usize
    }

    #[inline(always)]
    pub fn slot(self) -> usize {
        usize::from((self.0 >> SLOT_SHIFT) as u16)
    }

    #[inline(always)]
    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// A head that says where it lies, how long it is, and how many descriptors it has.
    #[inline(always)]
    fn head(self, kind: Kind) -> Head {
        let descriptors = ((self.0 & DESCRIPTORS) >> DESCRIPTORS_SHIFT) as u32;
        Head { len: self.len() as u32, kind, in_body: self.has(IN_BODY), has_deadline: false, descriptors }
    }
}

/// One message that has been received and not been given back.
///
/// **Invariant R1.** Unless it is closed, the turn of its slot is the receiver's, and this is the only `Message` for
/// that slot. Of a sender of the same user, the slot's payload is touched by nobody else; of another user, the slot's
/// bounce buffer in the session is there, and stays where it is.
pub struct Message {
    session: Arc<Session>,
    place: Location,
}

impl Message {
    /// The message that was found there, after [`Message::make_ready`].
    #[inline(always)]
    pub fn of(session: Arc<Session>, place: Location) -> Message {
        if faults::is(Fault::EarlyAcknowledgement) {
            let message = Message { session, place };
            message.acknowledge();
            return message;
        }
        if place.has(IN_BODY) && session.trust == Trust::SameUser {
            let message = Message { session, place };
            prefetch::arrived(&message);
            return message;
        }
        Message { session, place }
    }

    /// Called before anybody has the message. The payload of a sender of another user, who may write to it at any time,
    /// is copied; `false` when that fails: then the message stays with its sender, and the session ends, so that it can
    /// come again.
    #[inline(always)]
    pub fn make_ready(session: &Session, place: Location) -> bool {
        match session.trust {
            Trust::SameUser => true,
            Trust::OtherUser => Message::copy_out(session, place),
        }
    }

    #[cold]
    fn copy_out(session: &Session, place: Location) -> bool {
        let mut copy = Box::new(BounceBuffer::new());
        if let Err(why) =
            copy.take(&session.segment, session.memory.as_deref(), place.slot(), place.head(Kind::Message))
        {
            session.end(Reason::Refused, format!("the receiver {why} a message of {} bytes", place.len()));
            return false;
        }
        *sync::lock(&session.copies[place.slot()]) = Some(copy);
        true
    }

    /// Writes into the message's head that it is being handed out, for its sender to know should this process end.
    #[inline(always)]
    pub fn mark_delivered(session: &Session, place: Location) {
        if faults::is(Fault::UnmarkedDelivery) {
            return;
        }
        // Relaxed: read by a sender whose receiver is gone; the kernel orders that.
        session.segment.line(place.slot()).head.store(place.head(Kind::Delivered).pack(), Ordering::Relaxed);
    }

    /// A duplicate of each descriptor that came with it, once. It keeps those that came, because it may be given back.
    #[cold]
    pub fn take_descriptors(&mut self) -> Result<Vec<OwnedFd>> {
        if !self.place.has(DESCRIPTORS) || self.place.has(TAKEN | CLOSED) || self.session.segment.is_forked() {
            return Ok(Vec::new());
        }
        let Some(travelling) = self.session.descriptors.as_deref() else { return Ok(Vec::new()) };
        let taken = travelling.delivered.duplicates(self.place.slot())?;
        self.place.0 |= TAKEN;
        Ok(taken)
    }

    /// What came with it is closed, before the slot can be anybody else's.
    #[cold]
    fn forget_descriptors(&self) {
        if let Some(travelling) = self.session.descriptors.as_deref().filter(|_| self.place.has(DESCRIPTORS)) {
            travelling.delivered.forget(self.place.slot());
        }
    }

    /// Whether descriptors that belong to it were lost.
    #[cold]
    fn lacks_descriptors(&self) -> bool {
        let travelling = self.session.descriptors.as_deref().filter(|_| self.place.has(DESCRIPTORS));
        travelling.is_some_and(|travelling| travelling.delivered.are_lost(self.place.slot()))
    }

    /// Whether a receiver has had the message before.
    #[inline(always)]
    pub fn is_redelivered(&self) -> bool {
        self.place.has(REDELIVERED)
    }

    /// The session it came from.
    #[inline(always)]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The message is done with: its memory is the sender's again.
    #[inline(always)]
    fn acknowledge(&self) {
        let slot = self.place.slot();
        self.forget_copy();
        let head = Head { len: 0, kind: Kind::Acknowledged, in_body: false, has_deadline: false, descriptors: 0 };
        let line = self.session.segment.line(slot);
        self.session.pass_back(line, slot, self.session.taken_of_queue(slot), head);
        self.session.record.counters().kept.calls.add_shared(1);
    }

    /// The message is to be delivered again: here with all it had, or, if nobody here receives any more, by its sender
    /// to the next receiver. One that lacks descriptors is sent once more, in another session.
    #[cold]
    pub fn give_back(&mut self) {
        if self.place.has(CLOSED) || self.session.segment.is_forked() {
            return;
        }
        self.forget_copy();
        let (slot, head) = (self.place.slot(), self.place.head(Kind::Redelivered));
        self.session.record.counters().kept.returned.add_shared(1);
        let (shared, lacks_descriptors) = (self.session.shared.upgrade(), self.lacks_descriptors());
        if shared.is_none() || lacks_descriptors {
            self.forget_descriptors();
        }
        self.place = Location::NONE;
        let Some(shared) = shared else { return };
        if lacks_descriptors {
            let why = "a message was given back whose descriptors the receiver had no room for: they are sent anew";
            return self.session.end(Reason::Refused, why.into());
        }
        shared.redeliver(Redelivery { session: Arc::clone(&self.session), slot, head });
    }

    /// Ends the session because of what the message is, which stays with its sender.
    #[cold]
    pub fn condemn(&mut self, why: String) {
        if self.place.has(CLOSED) || self.session.segment.is_forked() {
            return;
        }
        self.forget_copy();
        self.forget_descriptors();
        self.place = Location::NONE;
        self.session.condemn(why);
    }

    /// The bounce buffer goes with the message.
    #[inline(always)]
    fn forget_copy(&self) {
        if self.session.trust == Trust::OtherUser {
            *sync::lock(&self.session.copies[self.place.slot()]) = None;
        }
    }

    #[cold]
    fn private_bytes(&self) -> &[u8] {
        if self.place.has(CLOSED) {
            return &[]; // the copy that is found there now is another message's
        }
        let copy = sync::lock(&self.session.copies[self.place.slot()]);
        // By R1 the copy, in a box of its own, stays there until this message is closed, which waits for this borrow.
        copy.as_ref().map_or(&[], |copy| PayloadBytes::of_copy(copy).lent_by(self))
    }
}

impl Deref for Message {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let place = self.place;
        if self.session.trust == Trust::OtherUser {
            return self.private_bytes();
        }
        // By R1, and bounds because the head was checked; a message that is closed shows no bytes.
        PayloadBytes::of_slot(&self.session.segment, place.slot(), place.has(IN_BODY), place.len()).lent_by(self)
    }
}

impl Drop for Message {
    /// Acknowledges it, unless it was given back; one that a panic drops is given back.
    #[inline(always)]
    fn drop(&mut self) {
        if self.place.has(CLOSED | DESCRIPTORS) {
            return self.let_go(); // the usual one has neither
        }
        if self.session.segment.is_forked() {
            return;
        }
        if faults::is(Fault::EarlyAcknowledgement) {
            return; // it was
        }
        if std::thread::panicking() { self.give_back() } else { self.acknowledge() }
    }
}

impl Message {
    /// As a drop, of one that has descriptors or was given back.
    #[cold]
    fn let_go(&mut self) {
        if self.place.has(CLOSED) || self.session.segment.is_forked() {
            return;
        }
        if std::thread::panicking() {
            return self.give_back();
        }
        self.forget_descriptors();
        self.acknowledge();
    }
}
