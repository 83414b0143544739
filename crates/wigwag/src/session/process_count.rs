//! How many descriptors all sessions of this process have together, of one sort.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::fork::ForkGuard;
use crate::sys::process;

/// The part of what this process may have open that all of its sessions have under way at the most.
const PART_OF_LIMIT: u64 = 4;

/// A number of descriptors that all sessions of this process have together. A forked child has none of its parent's:
/// beside the number is the [generation](ForkGuard::generation) of the process that it is of, both in one word.
#[derive(Debug)]
pub struct ProcessCount(AtomicU64);

impl ProcessCount {
    /// None so far.
    pub const fn new() -> ProcessCount {
        ProcessCount(AtomicU64::new(0))
    }

    /// Relaxed throughout: it is a count, and orders nothing.
    fn change(&self, change: impl Fn(usize) -> Option<usize>) -> bool {
        let generation = ForkGuard::new().generation() & u64::from(u32::MAX);
        let changed = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let count = if word >> 32 == generation { word & u64::from(u32::MAX) } else { 0 };
            change(count as usize).map(|count| generation << 32 | count as u64 & u64::from(u32::MAX))
        });
        changed.is_ok()
    }

    /// Counts some more, unless that were more than `most`.
    pub fn add(&self, count: usize, most: usize) -> bool {
        self.change(|before| before.checked_add(count).filter(|now| *now <= most))
    }

    /// So many are no longer counted.
    pub fn sub(&self, count: usize) {
        self.change(|before| Some(before.saturating_sub(count)));
    }
}

/// What this process may have of each [`ProcessCount`].
pub fn share_of_process() -> usize {
    let share = process::descriptor_limit().map_or(u64::MAX, |limit| limit / PART_OF_LIMIT);
    usize::try_from(share).unwrap_or(usize::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_a_process_has_a_bound_and_is_never_less_than_none() {
        let count = ProcessCount::new();
        assert!(count.add(3, 4) && !count.add(2, 4) && count.add(1, 4) && !count.add(1, 4));
        count.sub(5);
        assert!(!count.add(5, 4) && count.add(4, 4));
        // The number of another process is none of this one's.
        count.0.fetch_add(1 << 32, Ordering::Relaxed);
        assert!(count.add(4, 4) && !count.add(1, 4));
    }
}
