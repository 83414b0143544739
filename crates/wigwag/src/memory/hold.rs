//! A hold: how a reader keeps a body from being written to while it reads there, without the publisher waiting.
//!
//! A hold is a hazard pointer (M. Michael, "Hazard pointers: safe memory reclamation for lock-free objects", 2004). It
//! is a word of the reader's own memory, which the publisher only reads:
//!
//! ```text
//!   reader, who has found message n        publisher
//!   hold <- body    (exchange)             sequence <- 0, n + entries (exchange), or 0     the body is retired
//!   fence                                  fence
//!   sequence == n ?                        load the holds (acquire): a body that is in none of them is free
//!   yes: the body is held
//!   no: hold <- 0, lapped
//! ```
//!
//! Either the reader finds that the entry has gone on, or the publisher finds the hold; both may be, neither cannot
//! (invariant H1). A hold of a body that was given away since is found, too, and does no harm: that body rests for a
//! while. A reader that lies keeps at most as many bodies as it has holds.

use crate::sync::{AtomicU64, Ordering, fence, fence_after_swap};

/// Reader: asks for a body. It is held if the entry still has the message that it was found in:
/// [`is_still`](crate::memory::entry::is_still) directly after this.
#[inline(always)]
pub fn ask(hold: &AtomicU64, body: u32) {
    hold.swap(u64::from(body), Ordering::SeqCst);
    fence_after_swap(); // partner: the fence in `begin_scan`
}

/// Reader: lets go of what it held, or asked for.
#[inline(always)]
pub fn release(hold: &AtomicU64) {
    hold.store(0, Ordering::Release); // after all that was read; partner: `held`
}

/// Publisher: before it looks at the holds, for bodies that were retired before.
#[inline(always)]
pub fn begin_scan() {
    fence(Ordering::SeqCst); // partner: the fence in `ask`
}

/// Publisher: the body that is held here, as in [`Place`](crate::memory::entry::Place); 0: none.
#[inline(always)]
pub fn held(hold: &AtomicU64) -> u64 {
    hold.load(Ordering::Acquire) // partner: `release`
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_held_until_it_is_released() {
        let hold = AtomicU64::new(0);
        assert_eq!(held(&hold), 0);
        ask(&hold, 7);
        begin_scan();
        assert_eq!(held(&hold), 7);
        release(&hold);
        assert_eq!(held(&hold), 0);
    }
}
