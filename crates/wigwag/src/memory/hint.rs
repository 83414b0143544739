//! The hint line: where a publisher finds who sleeps among thousands, by a look at one line.
//!
//! Each subscriber has a bit, which it may share with others: a *group*. The line lies in an object of its own, which
//! subscribers of the publisher's user may write to.
//!
//! ```text
//!   sleeper                                publisher
//!   waiting <- 1     (swap, SeqCst)        sequence <- n     (exchange, SeqCst)
//!   hint |= bit      (SeqCst)              fence
//!   fence                                  hint == 0 ?       done
//!   look at the entry again                bits <- hint, hint <- 0    (swap)      first
//!   nothing there: sleep                   for all of those groups: claim `waiting`, and ring      then
//! ```
//!
//! Either the sleeper's look finds the message, or the publisher finds the bit. Who finds the bit finds `waiting`, too,
//! which was set before. A sleeper whose bit comes after the swap has the message before its eyes, because its own step
//! read what the swap wrote. The reverse order, a scan and then the swap, would take the bit of one that came in
//! between and wake nobody.
//!
//! A bit too many costs a scan; a bit that a liar has taken away costs its own user's subscribers a wake-up until the
//! next sweep.

use crate::sync::{AtomicU64, Ordering, fence_after_swap};

/// How many groups there are.
pub const GROUPS: usize = 512;
const WORDS: usize = GROUPS / 64;

/// The line.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct HintLine {
    words: [AtomicU64; WORDS],
}

/// The bits that were taken from a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups(pub [u64; WORDS]);

impl Groups {
    /// How many.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Their numbers.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(index, &word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit))
    }

    /// With those of another.
    pub fn add(&mut self, more: &Groups) {
        self.0.iter_mut().zip(more.0).for_each(|(word, more)| *word |= more);
    }
}

/// Sleeper, after it has announced itself in its own `waiting` word: says so here. It must look once more before it
/// sleeps.
pub fn raise(line: &HintLine, group: usize) {
    let group = group % GROUPS;
    line.words[group / 64].fetch_or(1 << (group % 64), Ordering::SeqCst);
    fence_after_swap(); // partner: the fence in `is_raised`
}

/// Publisher, directly after the exchange that published: whether anybody may sleep.
#[inline(always)]
pub fn is_raised(line: &HintLine) -> bool {
    fence_after_swap(); // partner: the fence in `raise`
    line.words.iter().fold(0, |all, word| all | word.load(Ordering::Relaxed)) != 0
}

/// Publisher: takes the bits, before it looks at any of the groups.
pub fn take(line: &HintLine) -> Groups {
    let mut groups = Groups::default();
    for (bits, word) in groups.0.iter_mut().zip(&line.words) {
        if word.load(Ordering::Relaxed) != 0 {
            // AcqRel: `waiting` was set before the bit, and who sets it anew finds what was published before this.
            *bits = word.swap(0, Ordering::AcqRel);
        }
    }
    groups
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_raised_is_taken_once() {
        let line = HintLine::default();
        assert!(!is_raised(&line));
        for group in [0, 63, 64, 511, 512 + 5] {
            raise(&line, group);
        }
        assert!(is_raised(&line));
        let mut groups = take(&line);
        assert_eq!(groups.iter().collect::<Vec<_>>(), [0, 5, 63, 64, 511]);
        assert_eq!(groups.count(), 5);
        assert!(!is_raised(&line) && take(&line).count() == 0);
        raise(&line, 7);
        groups.add(&take(&line));
        assert_eq!(groups.count(), 6);
    }
}
