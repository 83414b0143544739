//! A slot that was passed to the server, looked at without the client's core, which may be behind a lock.

use std::time::{Duration, Instant};

use crate::memory::segment::{Line, LineRef};
use crate::memory::slot;

/// The slot of a call that is with the server: it was an `OwnedLoan` (L1), and is one again. Whoever keeps it keeps the
/// [`Caller`](crate::exchange::caller::Caller), too.
#[derive(Debug)]
pub struct PassedSlot(LineRef);

/// Spins before the clock is read for the first time, and between two looks at it.
const SPINS_PER_CLOCK: u32 = 128;

impl PassedSlot {
    /// The slot of a line.
    pub fn new(line: &Line) -> PassedSlot {
        PassedSlot(LineRef::of(line))
    }

    /// Whether it has come back.
    #[inline(always)]
    pub fn is_back(&self) -> bool {
        !slot::load(&self.0.get().turn).is_server()
    }

    /// Looks that often. Whether it has come back.
    #[inline(always)]
    pub fn glance(&self, looks: u32) -> bool {
        for _ in 0..looks {
            if self.is_back() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// For at most as long as a wake-up takes. Not under a lock that others need.
    pub fn spin_for(&self, budget: Duration) -> bool {
        let mut begin = None;
        loop {
            if self.glance(SPINS_PER_CLOCK) {
                return true;
            }
            if begin.get_or_insert_with(Instant::now).elapsed() > budget {
                return false;
            }
        }
    }
}
