//! The spins of those who wait for a session: what a caller and the end of a stream have in common.
//!
//! Only the cold half stands here. The looks without a clock, which come first, stand where the call is, so that they
//! are compiled into it. The loop of announce, look and sleep is not here either: the two sides look for the end of the
//! session in different orders (docs/decisions.md, "Waiting").

use std::time::{Duration, Instant};

use crate::wait::deadline::Deadline;

/// Looks before the clock is read for the first time: most replies of an awake server come within these.
pub const SPINS_BEFORE_CLOCK: u32 = 128;
/// Looks between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 64;
/// Looks between two looks whether the other side lives, for [`Wait::Spin`](crate::wait::policy::Wait::Spin).
const SPINS_PER_LIFE_SIGN: u32 = 1 << 13;

/// Looks again and again until `budget` is used up. Whether the look found something.
pub fn spin_for<E>(budget: Duration, mut look: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let begin = Instant::now();
    while begin.elapsed() < budget {
        for _ in 0..SPINS_PER_CLOCK {
            std::hint::spin_loop();
            if look()? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// [`Wait::Spin`](crate::wait::policy::Wait::Spin): sleeps never. Now and then it asks `between` whether the other side
/// lives, which may end the wait. Whether the look found something; `false` also means that time is over, and then the
/// caller looks a last time as all others do.
pub fn spin_forever<E>(
    deadline: Deadline,
    mut look: impl FnMut() -> Result<bool, E>,
    mut between: impl FnMut() -> Result<Option<bool>, E>,
) -> Result<bool, E> {
    loop {
        for spin in 0..SPINS_PER_LIFE_SIGN {
            std::hint::spin_loop();
            if look()? {
                return Ok(true);
            }
            if spin % SPINS_PER_CLOCK == 0 && deadline.is_over() {
                return Ok(false);
            }
        }
        if let Some(found) = between()? {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Never = std::convert::Infallible;

    #[test]
    fn a_spin_ends_with_what_it_finds_or_with_its_budget() {
        let mut looks = 0;
        let found = spin_for::<Never>(Duration::from_secs(3600), || {
            looks += 1;
            Ok(looks == 1000)
        });
        assert_eq!((found, looks), (Ok(true), 1000));
        assert_eq!(spin_for::<Never>(Duration::ZERO, || panic!("no budget, no look")), Ok(false));
        assert_eq!(spin_for::<Never>(Duration::from_micros(1), || Ok(false)), Ok(false));
        assert_eq!(spin_for(Duration::from_secs(3600), || Err("over")), Err("over"));
    }

    #[test]
    fn a_spin_without_a_sleep_hears_of_the_deadline_and_of_the_end() {
        let no_end = || panic!("the deadline comes first");
        assert_eq!(spin_forever::<Never>(Deadline::Now, || Ok(true), no_end), Ok(true), "one look before the deadline");
        assert_eq!(spin_forever::<Never>(Deadline::Now, || Ok(false), no_end), Ok(false));
        for told in [true, false] {
            let (mut looks, mut asked) = (0, 0);
            let found = spin_forever::<Never>(
                Deadline::Never,
                || {
                    looks += 1;
                    Ok(false)
                },
                || {
                    asked += 1;
                    Ok((asked == 2).then_some(told))
                },
            );
            assert_eq!((found, looks), (Ok(told), 2 * SPINS_PER_LIFE_SIGN));
        }
        assert_eq!(spin_forever(Deadline::Never, || Ok(false), || Err("died")), Err("died"));
    }
}
