//! Which numbers of a link were there before.

/// Numbers that are remembered one by one, below the highest.
const WINDOW: u64 = 4096;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was not there before, and is now.
    Fresh,
    /// It was there before.
    Duplicate,
    /// It is too far below the highest to tell.
    TooOld,
}

/// The numbers that a link has had: the highest one, and of those below it which. A link's credits are fewer than the
/// window, so a number that is too old is no call that still waits.
#[derive(Debug)]
pub struct Seen {
    highest: u64,
    bits: Box<[u64]>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { highest: 0, bits: vec![0; (WINDOW / 64) as usize].into() }
    }
}

impl Seen {
    /// Notes a number. Numbers begin at 1.
    pub fn admit(&mut self, number: u64) -> Verdict {
        if number == 0 || self.highest.saturating_sub(number) >= WINDOW {
            return Verdict::TooOld;
        }
        if number > self.highest {
            // What comes into the window was not there.
            let first = self.highest.max(number.saturating_sub(WINDOW)) + 1;
            (first..=number).for_each(|fresh| self.set(fresh, false));
            self.highest = number;
        } else if self.has(number) {
            return Verdict::Duplicate;
        }
        self.set(number, true);
        Verdict::Fresh
    }

    /// Whether a number was there. One that is too old counts as such.
    pub fn contains(&self, number: u64) -> bool {
        number <= self.highest && (self.highest - number >= WINDOW || self.has(number))
    }

    fn has(&self, number: u64) -> bool {
        let at = number % WINDOW;
        self.bits[(at / 64) as usize] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, number: u64, there: bool) {
        let at = number % WINDOW;
        let (word, bit) = (&mut self.bits[(at / 64) as usize], 1 << (at % 64));
        *word = if there { *word | bit } else { *word & !bit };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_agrees_with_a_set_of_all_numbers() {
        let (mut seen, mut all) = (Seen::default(), BTreeSet::new());
        let mut state = 1_u64;
        for round in 0..200_000_u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let number = (round + (state >> 33) % 6000).saturating_sub(5000);
            let highest = all.last().copied().unwrap_or(0);
            let expected = if number == 0 || highest >= number + WINDOW {
                Verdict::TooOld
            } else if all.insert(number) {
                Verdict::Fresh
            } else {
                Verdict::Duplicate
            };
            assert_eq!(seen.admit(number), expected, "{number} after {highest}");
        }
    }

    #[test]
    fn a_great_leap_forgets_what_is_behind_it_and_nothing_else() {
        let mut seen = Seen::default();
        assert_eq!(seen.admit(1), Verdict::Fresh);
        assert_eq!(seen.admit(u64::MAX), Verdict::Fresh);
        assert_eq!(seen.admit(1), Verdict::TooOld);
        assert_eq!(seen.admit(u64::MAX - 1), Verdict::Fresh);
        assert_eq!(seen.admit(u64::MAX), Verdict::Duplicate);
    }
}
