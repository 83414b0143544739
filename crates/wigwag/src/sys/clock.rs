//! CLOCK_MONOTONIC in nanoseconds: the only clock here. It is the same for all processes of a machine, which is what
//! lets a deadline travel through shared memory, and it neither jumps nor counts suspend.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds since boot.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What this thread has run for, in nanoseconds: other programs' turns do not count.
pub fn thread_ns() -> u64 {
    let ran = clock_gettime(ClockId::ThreadCPUTime);
    ran.tv_sec as u64 * 1_000_000_000 + ran.tv_nsec as u64
}

/// A number that changes with each tick of the kernel's clock, every few milliseconds, and costs almost nothing to
/// read.
pub fn tick() -> i64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec)
}

/// How far this clock is behind the wall's, in nanoseconds. The wall's knows no time namespaces.
pub fn behind_wall_ns() -> i64 {
    let wall = clock_gettime(ClockId::Realtime);
    let wall_ns = wall.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(wall.tv_nsec);
    wall_ns.wrapping_sub(now_ns() as i64)
}

/// A moment of this clock on the one that counts suspend, too, as `/proc` has it: too late by what was suspended since.
pub fn since_boot_ns(at_ns: u64) -> u64 {
    let boot = clock_gettime(ClockId::Boottime);
    let boot_ns = boot.tv_sec as u64 * 1_000_000_000 + boot.tv_nsec as u64;
    at_ns.saturating_add(boot_ns.saturating_sub(now_ns()))
}

/// A point in time as it is written into shared memory.
pub fn instant_to_ns(at: Instant) -> u64 {
    let now = Instant::now();
    let now_ns = now_ns();
    match at.checked_duration_since(now) {
        Some(ahead) => now_ns.saturating_add(saturating_ns(ahead)),
        None => now_ns.saturating_sub(saturating_ns(now.saturating_duration_since(at))),
    }
}

/// A point in time as it was read from shared memory; any number is valid.
pub fn ns_to_instant(ns: u64) -> Instant {
    // A year is for ever here, and keeps a peer's number from overflowing `Instant`.
    const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
    let now = Instant::now();
    let now_ns = now_ns();
    if ns >= now_ns {
        now + Duration::from_nanos(ns - now_ns).min(FOR_EVER)
    } else {
        now.checked_sub(Duration::from_nanos(now_ns - ns)).unwrap_or(now)
    }
}

/// The deadline that lies `timeout` ahead; `None` when that is farther than the clock can say.
pub fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_survive_the_journey() {
        for offset_ms in [0u64, 1, 1_000, 1_000_000] {
            let at = Instant::now() + Duration::from_millis(offset_ms);
            let back = ns_to_instant(instant_to_ns(at));
            let error = if back > at { back - at } else { at - back };
            // The two clock reads are not one; a millisecond is generous for that on a busy machine.
            assert!(error < Duration::from_millis(100), "{error:?}");
        }
    }

    #[test]
    fn hostile_numbers_do_not_overflow() {
        assert!(ns_to_instant(u64::MAX) > Instant::now());
        assert!(ns_to_instant(0) <= Instant::now());
    }
}
