//! The doorbell's word: how a sleeper says that it sleeps, and how a waker learns that it must ring.
//!
//! One side sleeps on a descriptor; the other rings it, with a system call, only when the sleeper has said so:
//!
//! ```text
//!   sleeper (server)                       waker (client)
//!   waiting <- 1       (swap, SeqCst)      turn <- server   (swap, SeqCst)
//!   fence                                  fence
//!   look at every turn again               waiting == 1 ?  swap 0, and ring when it was 1
//!   nothing there: sleep
//! ```
//!
//! Either the sleeper's second look sees the turn, or the waker sees `waiting`; both may happen, neither cannot. This
//! is the eventcount of D. Vyukov and the kernel's own `set_current_state` pattern (memory-barriers.txt, "sleep and
//! wake-up functions"). The loom test `tests/loom.rs` fails when either fence is taken out.
//!
//! Only the waker that claims the flag rings: a burst of requests to a sleeping server costs one system call, not one
//! each.

use crate::sync::{AtomicU32, Ordering, fence_after_swap};

/// The `waiting` word of a sleeper, handed to the functions of both sides.
///
/// | value | meaning | who writes it |
/// |---|---|---|
/// | 0 | awake, or a ring is under way | sleeper after waking; waker when it claims the ring |
/// | 1 | sleeping, or about to look a last time | sleeper |
#[derive(Debug)]
pub struct Waiting<'a>(pub &'a AtomicU32);

impl Waiting<'_> {
    /// Sleeper: says that it is about to sleep. The caller must look at its work once more before it does.
    #[inline]
    pub fn announce(&self) {
        self.0.swap(1, Ordering::SeqCst);
        fence_after_swap(); // partner: the fence in `claim`
    }

    /// Sleeper: says that it is awake, so that nobody rings for nothing.
    ///
    /// Relaxed: a waker that still sees 1 rings once too often, which is harmless.
    #[inline]
    pub fn withdraw(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Waker, before it publishes work: whether the other side says that it sleeps, so that there is time for a look at
    /// more.
    ///
    /// Relaxed: a hint, which decides nothing but whether to look.
    #[inline(always)]
    pub fn is_announced(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Waker, directly after it published work with a SeqCst read-modify-write: whether it is the one that must ring.
    #[inline(always)]
    pub fn claim(&self) -> bool {
        fence_after_swap(); // partner: the fence in `announce`
        self.0.load(Ordering::Relaxed) != 0 && self.claim_slow()
    }

    #[cold]
    fn claim_slow(&self) -> bool {
        // AcqRel only so that two wakers agree who rings; the data was published by the caller's swap.
        self.0.swap(0, Ordering::AcqRel) != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_waker_rings_and_the_next_does_not() {
        let word = AtomicU32::new(0);
        let waiting = Waiting(&word);
        assert!(!waiting.claim());
        waiting.announce();
        assert!(waiting.claim());
        assert!(!waiting.claim());
    }

    #[test]
    fn withdrawing_spares_the_ring() {
        let word = AtomicU32::new(0);
        let waiting = Waiting(&word);
        waiting.announce();
        waiting.withdraw();
        assert!(!waiting.claim());
    }
}
