//! Whether to spin on a thread that is a runtime's.
//!
//! A thread of one's own follows [`crate::wait`]: it spins while the other side is nearer than a wake-up is long. A runtime's
//! thread may do the same for some microseconds, as long as that finds something. It does not where the other side is a task
//! of the very thread that spins, or has no processor of its own: then each spin is time that all tasks of the thread lose. So
//! one that was in vain puts off the next one, twice as long each time; one that paid makes up for all.

/// How many occasions to let pass.
#[derive(Debug, Default)]
pub struct Abstinence {
    left: u32,
    length: u32,
}

const LENGTH_MIN: u32 = 4;
const LENGTH_MAX: u32 = 1 << 14;

impl Abstinence {
    /// An occasion: whether to spin.
    pub fn is_over(&mut self) -> bool {
        let is_over = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_over
    }

    /// The spin found something.
    pub fn paid(&mut self) {
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
        let mut abstinence = Abstinence::default();
        let mut spins = 0;
        for occasion in 0..occasions {
            if abstinence.is_over() {
                spins += 1;
                if pays(occasion) { abstinence.paid() } else { abstinence.failed() }
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
