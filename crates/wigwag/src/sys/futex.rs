//! Sleeping on a word that several processes share (futex(2), without FUTEX_PRIVATE_FLAG).

use std::time::Duration;

use crate::sync::AtomicU32;

/// Sleeps until it is rung, at most that long, unless the word is something else by now. Whether the time ran out.
#[cfg(not(loom))]
pub fn sleep(word: &AtomicU32, while_it_is: u32, limit: Duration) -> bool {
    use rustix::thread::futex;
    let limit = rustix::event::Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    // An interruption is a wake-up for nothing: the caller looks, and sleeps again.
    futex::wait(word, futex::Flags::empty(), while_it_is, Some(&limit)) == Err(rustix::io::Errno::TIMEDOUT)
}

/// Wakes one that sleeps on the word, if there is one.
#[cfg(not(loom))]
pub fn ring(word: &AtomicU32) {
    let _ = rustix::thread::futex::wake(word, rustix::thread::futex::Flags::empty(), 1);
}

/// A model's words are no words of the kernel's; the models do not sleep.
#[cfg(loom)]
pub fn sleep(_: &AtomicU32, _: u32, _: Duration) -> bool {
    false
}

/// As above.
#[cfg(loom)]
pub fn ring(_: &AtomicU32) {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_sleeper_is_rung_or_its_time_runs_out_or_it_does_not_sleep() {
        let word = AtomicU32::new(0);
        assert!(sleep(&word, 0, Duration::from_millis(1)));
        assert!(!sleep(&word, 1, Duration::from_secs(100)));
        std::thread::scope(|scope| {
            let sleeper = scope
                .spawn(|| while !sleep(&word, 0, Duration::from_secs(100)) && word.load(Ordering::Acquire) == 0 {});
            std::thread::sleep(Duration::from_millis(20));
            word.store(1, Ordering::Release);
            ring(&word);
            sleeper.join().unwrap();
        });
    }
}
