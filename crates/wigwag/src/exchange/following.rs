//! How a thread's call goes on at its server's successor. What may be passed once more, [`crate::exchange::carrying`]
//! says.

use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::caller::Caller;
use crate::exchange::carrying::{ENDING_TIME, Fate, is_end, too_small};
use crate::exchange::sessions::{Outliving, Sessions, wait_for_slot};
use crate::memory::segment::Line;
use crate::sys::clock;
use crate::wait::deadline::Deadline;

/// A call that was passed, and where it lies.
#[derive(Clone, Copy)]
pub struct Passed<'c> {
    pub sessions: &'c Sessions,
    pub caller: &'c Caller,
    pub line: &'c Line,
    pub slot: usize,
    /// Of the request.
    pub len: usize,
}

impl<'c> Passed<'c> {
    /// After an error of the wait for its reply: where the call goes on. That is where it was if it was answered
    /// meanwhile. [`TimedOut`](ErrorKind::TimedOut): the deadline came before that was found out, and it may be asked
    /// for again. With another error, or if it is not, the call is to be given up.
    #[cold]
    pub fn follow(self, error: Error, deadline: Deadline) -> Result<Passed<'c>> {
        let Some(outliving) = self.sessions.outliving().filter(|it| it.passes_again() && is_end(&error)) else {
            return Err(error);
        };
        match self.settled_fate(outliving, deadline)? {
            Some(Fate::Answered) => return Ok(self),
            Some(Fate::NotBegun) => {}
            Some(Fate::Over) => return Err(error),
            Some(Fate::Undecided) | None => {
                let fate = "its process has not ended since, so that the request may be executed still";
                return Err(self.caller.connection.end_told(true, fate));
            }
        }
        let told = self.caller.told_deadline(self.slot);
        let write = |bytes: &mut [u8]| self.caller.copy_call(self.slot, bytes);
        let unbegun = |why: &str| self.caller.not_moved(why);
        let passed = pass_on(self.sessions, outliving, self.len, Times { told, deadline }, &write, &unbegun)?;
        self.caller.leave(self.slot);
        outliving.lineage.count_moved();
        Ok(passed)
    }

    /// The call's fate, once the server's process has ended. `None`: that takes too long.
    fn settled_fate(&self, outliving: &Outliving, deadline: Deadline) -> Result<Option<Fate>> {
        let fate = self.caller.fate(self.slot);
        if fate != Fate::Undecided {
            return Ok(Some(fate));
        }
        let latest = clock::deadline_after(outliving.time().min(ENDING_TIME));
        let until = latest.into_iter().chain(deadline.as_instant()).min();
        if self.caller.connection.wait_for_process_end(until) {
            return Ok(Some(self.caller.fate(self.slot)));
        }
        if deadline.is_over() { Err(Error::timed_out(true)) } else { Ok(None) }
    }
}

/// When a call must be over.
#[derive(Clone, Copy)]
pub struct Times {
    /// What the server is told.
    pub told: Option<Instant>,
    /// How long this side waits.
    pub deadline: Deadline,
}

/// Passes a payload of `len` bytes, which `write` writes, to the server that there is now, and counts no call. `unsent`
/// is the error if that is impossible, for a reason.
#[cold]
pub fn pass_on<'c>(
    sessions: &'c Sessions,
    outliving: &'c Outliving,
    len: usize,
    Times { told, deadline }: Times,
    write: &dyn Fn(&mut [u8]),
    unsent: &dyn Fn(&str) -> Error,
) -> Result<Passed<'c>> {
    loop {
        let caller = match outliving.successor(deadline) {
            Ok(Some(caller)) => caller,
            Ok(None) => return Err(Error::timed_out(false)),
            Err(why) if matches!(why.kind(), ErrorKind::Violation | ErrorKind::Forked) => return Err(why),
            Err(why) => return Err(unsent(&why.to_string())),
        };
        let _hold = caller.hold(); // it waits for a slot of the successor, and has none
        if len > caller.capacity() {
            return Err(too_small(len, caller.capacity()));
        }
        let slot = match wait_for_slot(caller, deadline) {
            Ok(slot) => slot,
            Err(why) if is_end(&why) => continue, // this one has ended, too
            Err(why) if why.kind() == ErrorKind::Full => return Err(unsent(&why.to_string())),
            Err(why) => return Err(why),
        };
        let mut loan = caller.lend(slot, len);
        let sequence = caller.next_sequence(slot);
        match caller.check_before_pass(slot, sequence) {
            Ok(descriptors) => {
                write(&mut loan);
                loan.written();
                let line = caller.line(slot);
                caller.pass_uncounted(slot, line, sequence, len, told, descriptors);
                return Ok(Passed { sessions, caller, line, slot, len });
            }
            Err(why) => {
                caller.release(slot);
                if !is_end(&why) {
                    return Err(why);
                }
            }
        }
    }
}
