//! Whether to spin on a thread that is a runtime's.
//!
//! A thread of one's own follows [`crate::wait::policy`]: it spins while the other side is nearer than a wake-up is
//! long. A runtime's thread may do the same for some microseconds, as long as that finds something. It does not where
//! the other side is a task of the very thread that spins, or has no processor of its own: then each spin is time that
//! all tasks of the thread lose. So one that was in vain puts off the next one, twice as long each time; one that paid
//! makes up for all.

/// How many occasions to let pass.
#[derive(Debug, Default)]
pub struct SpinBackoff {
    left: u32,
    length: u32,
}

const LENGTH_MIN: u32 = 4;
const LENGTH_MAX: u32 = 1 << 14;

impl SpinBackoff {
    /// An occasion: whether to spin.
    pub fn may_spin(&mut self) -> bool {
        let may_spin = self.left == 0;
        self.left = self.left.saturating_sub(1);
        may_spin
    }

    /// The spin found something.
    pub fn succeeded(&mut self) {
        self.length = 0;
    }

    /// It did not.
    pub fn failed(&mut self) {
        self.length = (self.length * 2).clamp(LENGTH_MIN, LENGTH_MAX);
        self.left = self.length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spins(occasions: u32, pays: impl Fn(u32) -> bool) -> u32 {
        let mut spin_backoff = SpinBackoff::default();
        let mut spins = 0;
        for occasion in 0..occasions {
            if spin_backoff.may_spin() {
                spins += 1;
                if pays(occasion) { spin_backoff.succeeded() } else { spin_backoff.failed() }
            }
        }
        spins
    }

    #[test]
    fn who_always_finds_something_always_spins() {
        assert_eq!(spins(1000, |_| true), 1000);
    }

    #[test]
    fn who_never_finds_anything_soon_does_not_spin_any_more() {
        assert!(spins(100_000, |_| false) <= 20);
    }

    #[test]
    fn one_failure_costs_a_few_occasions() {
        assert_eq!(spins(1000, |occasion| occasion != 500), 1000 - LENGTH_MIN);
    }
}
