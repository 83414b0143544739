//! Where choices come from: a seed, or the bytes of a fuzzer. The same choices lead to the same actions.

use wigwag_testing::word;

/// A stream of choices.
pub struct Dice<'a> {
    seed: u64,
    thrown: u64,
    /// What a fuzzer gave; without it there is no end.
    bytes: Option<&'a [u8]>,
}

impl<'a> Dice<'a> {
    /// Choices that follow from a number, without end.
    pub fn seeded(seed: u64) -> Dice<'a> {
        Dice { seed, thrown: 0, bytes: None }
    }

    /// Choices that a fuzzer made; once they are used up, each is the first one.
    pub fn given(bytes: &'a [u8]) -> Dice<'a> {
        Dice { seed: 0, thrown: 0, bytes: Some(bytes) }
    }

    /// Whether the choices are used up.
    pub fn is_over(&self) -> bool {
        self.bytes.is_some_and(<[u8]>::is_empty)
    }

    /// Any number.
    #[inline]
    pub fn word(&mut self) -> u64 {
        self.number(8)
    }

    /// A number below `limit`.
    #[inline]
    pub fn below(&mut self, limit: usize) -> usize {
        let size = match limit {
            0..=256 => 1,
            257..=65_536 => 2,
            _ => 8,
        };
        (self.number(size) % limit as u64) as usize
    }

    /// True once in `times`, about.
    #[inline]
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of several.
    #[inline]
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    #[inline]
    fn number(&mut self, size: usize) -> u64 {
        let Some(bytes) = &mut self.bytes else {
            self.thrown += 1;
            return word(self.seed, self.thrown);
        };
        let (head, rest) = bytes.split_at(size.min(bytes.len()));
        *bytes = rest;
        head.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// The seed of the `index`th of many trials. The first one's is the seed itself, so that a finding's seed shows it at
/// once.
pub fn seed_of(seed: u64, index: u64) -> u64 {
    if index == 0 { seed } else { word(seed, index) }
}

/// Numbers that break programs: bounds, powers of two, all ones.
pub fn odd_number(dice: &mut Dice<'_>, capacity: u64) -> u64 {
    match dice.below(20) {
        0 => 0,
        1 => 1,
        2 => 47,
        3 => 48,
        4 => 49,
        5 => capacity.wrapping_sub(1),
        6 => capacity,
        7 => capacity + 1,
        8 => capacity.next_multiple_of(4096),
        9 => capacity.next_multiple_of(4096) + 1,
        10 => 1024,
        11 => 1025,
        12 => 1 << 31,
        13 => (1 << 32) - 1,
        14 => 1 << 32,
        15 => 1 << 63,
        16 => u64::MAX,
        17 => u64::MAX - 1,
        18 => 1 << dice.below(64),
        _ => dice.word(),
    }
}
