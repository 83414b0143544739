//! Randomness that a seed stands for.

use std::time::Duration;

use wigwag_testing::word;

/// Numbers that look random, always the same for the same seed.
pub struct Dice {
    seed: u64,
    throws: u64,
}

impl Dice {
    /// Dice for that seed.
    pub fn new(seed: u64) -> Dice {
        Dice { seed, throws: 0 }
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.throws += 1;
        word(self.seed, self.throws)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Any time up to that many microseconds.
    pub fn up_to_us(&mut self, us: u64) -> Duration {
        Duration::from_nanos(self.below(us * 1000 + 1))
    }

    /// A time up to that many microseconds, each order of magnitude as likely as any other.
    pub fn of_any_size_us(&mut self, us: u64) -> Duration {
        let bits = 64 - us.leading_zeros() as u64;
        let size = 1u64 << self.below(bits + 1);
        self.up_to_us(size.min(us))
    }
}
