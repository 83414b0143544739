//! What a client whose server has ended knows of a call that it had passed, and takes out of the old memory to pass it
//! once more.
//!
//! Three things have to come together, so that nothing is executed twice: the server marks each request before a
//! handler sees it, which was agreed on; its process has ended, which the kernel says, so that nothing is marked any
//! more; and the mark is not there. Or, whatever was agreed on, the server has said in its line that it takes nothing
//! any more.
//!
//! Nothing here waits: threads and tasks have ways of their own.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::exchange::caller::Caller;
use crate::faults::{self, Fault};
use crate::memory::head::{Head, Kind};
use crate::memory::layout::INLINE_CAPACITY;
use crate::sync::Ordering;
use crate::sys::clock;

/// How long a server that has hung up without a word is given to end: its process has let go of the socket by then, and
/// has little left to do.
pub const ENDING_TIME: Duration = Duration::from_secs(5);

/// What is known of a call whose session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered before the end.
    Answered,
    /// Nobody has begun it, and nobody will.
    NotBegun,
    /// It is not marked, and the server's process may still mark it.
    Undecided,
    /// It may have been executed, or it is none that can be passed once more.
    Over,
}

/// Whether an error is one of a session that is over, and not of a broken protocol.
pub fn is_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. })
}

impl Caller {
    /// What is known of the call in a slot, which was passed and whose session is over.
    #[cold]
    pub fn fate(&self, slot: usize) -> Fate {
        let (connection, line) = (&self.connection, self.line(slot));
        // Asked before the memory is looked at: what the process wrote before its end is there then.
        let has_ended = connection.has_process_ended();
        if connection.is_ready(line) {
            return Fate::Answered;
        }
        if self.carries_descriptors(slot) {
            return Fate::Over; // the server may have them, or they may be lost: they are sent once
        }
        // Relaxed, partner: `Request::open_specially`, in a process that has ended. Read once.
        let head = Head::parse(line.head.load(Ordering::Relaxed));
        let is_unmarked = head.is_some_and(|head| head.kind == Kind::Request)
            || faults::is(Fault::PassedTwice) && head.is_some_and(|head| head.kind == Kind::Begun);
        let is_untaken = connection.is_untaken(line);
        if !(is_untaken || is_unmarked && connection.has_begun()) {
            return Fate::Over;
        }
        // A thread of a server that lives might take the session still, unless it has said that there is none.
        if has_ended || is_untaken && connection.is_dismissed() {
            return Fate::NotBegun;
        }
        if connection.may_be_ending() { Fate::Undecided } else { Fate::Over }
    }

    /// Copies a call of `len` bytes, as it lies in its slot.
    #[cold]
    pub fn copy_call(&self, slot: usize, into: &mut [u8]) {
        self.connection.segment().copy_out(slot, into.len() > INLINE_CAPACITY, into);
    }

    /// The time that its server was told.
    #[cold]
    pub fn told_deadline(&self, slot: usize) -> Option<Instant> {
        // Relaxed: this side's own, or of a process that has ended. Any number is a valid deadline.
        let head = Head::parse(self.line(slot).head.load(Ordering::Relaxed))?;
        let ns = self.connection.segment().deadline(slot).load(Ordering::Relaxed);
        (head.has_deadline && self.connection.has_same_clock()).then(|| clock::ns_to_instant(ns))
    }

    /// The error of a call that was not begun and cannot go on, for that reason.
    #[cold]
    pub fn not_moved(&self, why: &str) -> Error {
        self.connection.end_told(false, &format!("the request was not executed, and cannot go on elsewhere: {why}"))
    }

    /// The error of a loan, or of the wish for one, where no server was found, for that reason.
    #[cold]
    pub fn not_replaced(&self, why: &str) -> Error {
        self.connection.end_told(false, &format!("nothing was sent, and no other server was found: {why}"))
    }
}

/// That a payload does not fit into the session of a server's successor.
#[cold]
pub fn too_small(len: usize, capacity: usize) -> Error {
    Error::new(
        ErrorKind::CapacityExceeded { len, capacity },
        format!(
            "the server has ended, and the capacity that its successor grants, {capacity} bytes, is too small for this \
             payload of {len} bytes; it was not executed. Ask for a capacity that has to be granted with \
             ClientBuilder::capacity"
        ),
    )
}
