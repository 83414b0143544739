//! How long a wake-up takes here, learned from those that happened, as a state machine without clock or memory.
//!
//! Spinning pays while it takes less time than a wake-up. That is 3 us on bare metal and 60 us on a virtual machine
//! that has to leave for its host, and less again where both sides share a processor, so no constant is right. Whoever
//! rings leaves the time in the shared memory; whoever is woken subtracts. The estimate is the median of the last
//! eight, and all lengths of spinning follow from it, from a least length on. Two readings of the clock are a hundredth
//! of a wake-up on one processor, so that once there are eight only every fourth is measured.
//!
//! A side that never sleeps learns nothing. So an estimate that is too high, and keeps its side from sleeping, would
//! stay: with each 1,024 waits in which the side spun it is halved, until the side sleeps once and knows better.

use std::time::Duration;

/// What is learned, and what follows.
#[derive(Clone, Debug)]
pub struct WakeLatency {
    samples: [u32; SAMPLES],
    /// How many of them there are, and where the next one goes.
    len: u8,
    next: u8,
    estimate_ns: u32,
    waits: u16,
    /// Sleeps that were not measured since the last that was.
    unmeasured: u8,
}

const SAMPLES: usize = 8;
/// One sleep of so many is measured, once there are enough samples.
const SLEEPS_PER_SAMPLE: u8 = 4;
/// What is taken for a sample: less was no wake-up, and more was a processor that others had.
const SAMPLE_NS: std::ops::RangeInclusive<u64> = 1_000..=300_000;
/// Before the first sample. Each session begins asleep, so that is soon.
const FIRST_ESTIMATE_NS: u32 = 33_000;
/// An estimate that is halved without a sample stays above this.
const LEAST_ESTIMATE_NS: u32 = 2_000;
/// However cheap a wake-up is, these are not undercut: where they were, the first call of a burst took a quarter longer
/// (P6b, 0.8 to 1.0 of a socket's), because a server that is never polled stays on another processor than its client.
const QUICK_LEAST_NS: u32 = 30_000;
const IDLE_MAX_LEAST: Duration = Duration::from_micros(40);
const SPIN_BUDGET_LEAST: Duration = Duration::from_micros(50);
/// Waits after which an estimate is halved.
const WAITS_TO_HALVE: u16 = 1024;

impl Default for WakeLatency {
    fn default() -> WakeLatency {
        WakeLatency { samples: [0; SAMPLES], len: 0, next: 0, estimate_ns: FIRST_ESTIMATE_NS, waits: 0, unmeasured: 0 }
    }
}

impl WakeLatency {
    /// This side is about to sleep. Whether it shall read the clock, before and after.
    pub fn wants_sample(&mut self) -> bool {
        if usize::from(self.len) == SAMPLES {
            self.unmeasured = (self.unmeasured + 1) % SLEEPS_PER_SAMPLE;
        }
        self.unmeasured == 0
    }

    /// This side slept from `slept_ns` on, was rung for at `rang_ns`, and runs at `now_ns`. What the other side says of
    /// its ring may be anything. Whether that was a sample.
    pub fn woken(&mut self, slept_ns: u64, rang_ns: u64, now_ns: u64) -> bool {
        let Some(took_ns) = now_ns.checked_sub(rang_ns).filter(|took| SAMPLE_NS.contains(took)) else { return false };
        if rang_ns < slept_ns {
            return false; // that ring woke nobody
        }
        self.samples[usize::from(self.next)] = took_ns as u32;
        self.next = (self.next + 1) % SAMPLES as u8;
        self.len = (self.len + 1).min(SAMPLES as u8);
        let mut sorted = self.samples;
        let there = &mut sorted[..usize::from(self.len)];
        there.sort_unstable();
        self.estimate_ns = there[(there.len() - 1) / 2];
        self.waits = 0;
        true
    }

    /// This side waited for so long that it read the clock, and did not sleep.
    pub fn waited(&mut self) {
        self.waits += 1;
        if self.waits == WAITS_TO_HALVE {
            self.waits = 0;
            self.estimate_ns = (self.estimate_ns / 2).max(LEAST_ESTIMATE_NS);
            // The next sample alone counts.
            (self.len, self.next, self.unmeasured) = (0, 0, 0);
        }
    }

    /// The estimate, in nanoseconds.
    pub fn estimate_ns(&self) -> u32 {
        self.estimate_ns
    }

    /// Below this think time the other side is quick: waking for it costs more than spinning until it comes back.
    pub fn quick_ns(&self) -> u32 {
        (self.estimate_ns / 4 * 5).max(QUICK_LEAST_NS)
    }

    /// How long a session that is polled may have no request before it is armed: longer than what counts as quick, so
    /// that one late request does not end it.
    pub fn idle_max(&self) -> Duration {
        Duration::from_nanos(u64::from(self.estimate_ns) * 8 / 5).max(IDLE_MAX_LEAST)
    }

    /// The most to spin for a reply: about one sleep and wake-up.
    pub fn spin_budget(&self) -> Duration {
        Duration::from_nanos(u64::from(self.estimate_ns) * 3 / 2).max(SPIN_BUDGET_LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(latency: &mut WakeLatency, took_ns: u64) -> bool {
        latency.woken(500, 1_000, 1_000 + took_ns)
    }

    #[test]
    fn the_estimate_is_the_median_of_the_last_eight() {
        let mut latency = WakeLatency::default();
        assert_eq!(latency.estimate_ns(), FIRST_ESTIMATE_NS);
        assert!(learn(&mut latency, 3_000));
        assert_eq!(latency.estimate_ns(), 3_000, "the first sample alone counts");
        for took_ns in [50_000, 60_000, 55_000, 290_000, 52_000] {
            assert!(learn(&mut latency, took_ns));
        }
        assert_eq!(latency.estimate_ns(), 52_000);
        (0..8).for_each(|_| assert!(learn(&mut latency, 4_000)));
        assert_eq!(latency.estimate_ns(), 4_000, "what was before is forgotten");
    }

    #[test]
    fn the_first_eight_sleeps_are_measured_and_then_every_fourth() {
        let mut latency = WakeLatency::default();
        let mut sleep = |took_ns| {
            let is_measured = latency.wants_sample();
            if is_measured {
                assert!(learn(&mut latency, took_ns));
            }
            (is_measured, latency.estimate_ns())
        };
        (0..8).for_each(|_| assert_eq!(sleep(50_000), (true, 50_000)));
        let measured: Vec<bool> = (0..12).map(|_| sleep(4_000).0).collect();
        assert_eq!(measured, [false, false, false, true].repeat(3));
        (0..8).for_each(|_| _ = sleep(4_000));
        assert_eq!(sleep(4_000).1, 4_000, "what was before is forgotten");
        (0..WAITS_TO_HALVE).for_each(|_| latency.waited());
        assert!(latency.wants_sample(), "who may be wrong measures the next sleep");
    }

    #[test]
    fn only_a_ring_that_woke_is_a_sample_whatever_the_other_side_says() {
        let mut latency = WakeLatency::default();
        for (slept_ns, rang_ns, now_ns) in [
            (1_000, 999, 5_000),            // before this side slept
            (1_000, 5_001, 5_000),          // in the future
            (1_000, 4_500, 5_000),          // too short
            (1_000, 1_000, 400_000),        // too long
            (1_000, 0, 5_000),              // never
            (1_000, u64::MAX, 5_000),       // a lie
            (u64::MAX, u64::MAX, u64::MAX), // and another
        ] {
            assert!(!latency.woken(slept_ns, rang_ns, now_ns), "{slept_ns} {rang_ns} {now_ns}");
        }
        assert_eq!(latency.estimate_ns(), FIRST_ESTIMATE_NS);
    }

    #[test]
    fn an_estimate_that_keeps_its_side_awake_is_halved_until_a_sample_mends_it() {
        let mut latency = WakeLatency::default();
        (0..8).for_each(|_| assert!(learn(&mut latency, 300_000)));
        (0..1023).for_each(|_| latency.waited());
        assert_eq!(latency.estimate_ns(), 300_000);
        latency.waited();
        assert_eq!(latency.estimate_ns(), 150_000);
        (0..100 * 1024).for_each(|_| latency.waited());
        assert_eq!(latency.estimate_ns(), LEAST_ESTIMATE_NS);
        assert!(learn(&mut latency, 40_000));
        assert_eq!(latency.estimate_ns(), 40_000, "one sample mends it");
    }

    #[test]
    fn all_lengths_follow_from_the_estimate() {
        let mut latency = WakeLatency::default();
        learn(&mut latency, 40_000);
        let micros = |duration: Duration| duration.as_micros();
        let lengths =
            |latency: &WakeLatency| (latency.quick_ns(), micros(latency.idle_max()), micros(latency.spin_budget()));
        assert_eq!(lengths(&latency), (50_000, 64, 60));
        (0..8).for_each(|_| assert!(learn(&mut latency, 3_000)));
        assert_eq!(lengths(&latency), (30_000, 40, 50), "not below what serves a burst");
        learn(&mut latency, 300_000);
        (0..8).for_each(|_| assert!(learn(&mut latency, 300_000)));
        assert!(latency.idle_max() < Duration::from_millis(1), "what a liar can make this side spin is little");
    }
}
