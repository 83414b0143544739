//! The flag beside a mailbox: how a serving thread learns that there is a message, and why it never sleeps on one.
//!
//! ```text
//!   teller (control thread)               serving thread
//!   puts the message in             called ?  answer, take the messages
//!   call: flag <- 1                ... looks for requests; a look at the bells takes the ring away ...
//!   rings, every time              called ?  back to the messages; else sleep until something rings
//! ```
//!
//! The ring is unconditional, so there is nothing to cross: a thread that missed the flag finds the ring. The one trap
//! is a thread that looks at its bells *without* sleeping: that takes the ring away, and the message is still unread.
//! So it looks at the flag once more directly before it sleeps. Whoever sets the flag after that look rings after it,
//! too. The loom test `tests/loom.rs` sleeps on a message when that look is taken out.

use crate::faults::{self, Fault};
use crate::sync::{AtomicBool, Ordering};

/// The flag.
#[derive(Debug)]
pub struct WakeFlag(AtomicBool);

impl WakeFlag {
    /// A flag that is not raised.
    pub fn lowered() -> WakeFlag {
        WakeFlag(AtomicBool::new(false))
    }

    /// Sender, after the message lies in the box: calls. The caller rings next.
    pub fn raise(&self) {
        // Release: what was done before is visible to the thread that acquires it in `clear`.
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody has called. Relaxed: acquired in `clear`.
    #[inline(always)]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Serving thread, before it takes the messages: a message that comes after this calls again.
    pub fn clear(&self) {
        self.0.swap(false, Ordering::Acquire); // partner: `call`
    }

    /// Serving thread, directly before it sleeps: not on an unread message, whose ring may have been taken away
    /// already.
    #[inline]
    pub fn may_sleep(&self) -> bool {
        !self.is_raised() || faults::is(Fault::UnreadMessage)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_is_raised_does_not_sleep() {
        let wake_flag = WakeFlag::lowered();
        assert!(wake_flag.may_sleep());
        wake_flag.raise();
        assert!(!wake_flag.may_sleep());
        wake_flag.clear();
        assert!(wake_flag.may_sleep());
    }
}
