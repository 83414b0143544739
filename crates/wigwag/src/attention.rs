//! The flag beside a letter box: how a serving thread learns that there is news, and why it never sleeps on it.
//!
//! ```text
//!   teller (steward)               serving thread
//!   puts the letter in             called ?  answer, take the letters
//!   call: flag <- 1                ... looks for requests; a look at the bells takes the ring away ...
//!   rings, every time              called ?  back to the letters; else sleep until something rings
//! ```
//!
//! The ring is unconditional, so there is nothing to cross: a thread that missed the flag finds the ring. The one trap is a
//! thread that looks at its bells *without* sleeping: that takes the ring away, and the letter is still unread. So it
//! looks at the flag once more directly before it sleeps. Whoever sets the flag after that look rings after it, too. The
//! loom test `tests/loom.rs` sleeps on a letter when that look is taken out.

use crate::planted::{self, Fault};
use crate::sync::{AtomicBool, Ordering};

/// The flag.
#[derive(Debug)]
pub struct Attention(AtomicBool);

impl Attention {
    /// Nobody is called.
    pub fn quiet() -> Attention {
        Attention(AtomicBool::new(false))
    }

    /// Teller, after the letter lies in the box: calls. The caller rings next.
    pub fn call(&self) {
        // Release: what was done before is visible to who acquires it in `answer`.
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody has called. Relaxed: acquired in `answer`.
    #[inline(always)]
    pub fn is_called(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Serving thread, before it takes the letters: a letter that comes after this calls again.
    pub fn answer(&self) {
        self.0.swap(false, Ordering::Acquire); // partner: `call`
    }

    /// Serving thread, directly before it sleeps: not on an unread letter, whose ring may have been taken away already.
    #[inline]
    pub fn may_sleep(&self) -> bool {
        !self.is_called() || planted::is(Fault::UnreadLetter)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_is_called_does_not_sleep() {
        let attention = Attention::quiet();
        assert!(attention.may_sleep());
        attention.call();
        assert!(!attention.may_sleep());
        attention.answer();
        assert!(attention.may_sleep());
    }
}
