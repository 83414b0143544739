//! The waiting policy replayed on wake-ups that were recorded (P19): what the default costs beside polling and
//! sleeping, on a machine where a wake-up is dear and on one where it is cheap, at every pause between calls.
//!
//! The two traces are of this library's own measurement of its wake-ups, on one virtual machine: between two
//! processors, and on one, where both sides share it. What else a call costs is a constant here, measured with the same
//! program. The bench replays the policy on the wake-ups of the machine it runs on, too.

use std::time::Duration;

use crate::wait::policy::{PollMode, THINK_UNKNOWN, Wait};
use crate::wait::wake_latency::WakeLatency;

/// Nanoseconds from ring to run, in the order in which they happened.
const DEAR: [u64; 64] = [
    16_668, 23_546, 14_747, 67_365, 15_339, 21_970, 19_956, 32_538, 20_965, 19_244, 14_755, 20_727, 14_857, 33_672,
    17_441, 21_126, 14_651, 21_873, 20_892, 23_356, 15_485, 29_713, 19_592, 26_538, 21_337, 18_782, 15_314, 31_313,
    80_444, 27_060, 15_672, 20_026, 15_885, 31_742, 16_695, 59_236, 19_634, 27_242, 15_294, 26_133, 15_559, 28_837,
    15_317, 30_633, 18_745, 23_015, 17_443, 17_887, 9_523, 33_799, 15_922, 68_645, 13_665, 37_462, 18_534, 32_990,
    16_161, 25_218, 14_849, 30_809, 16_863, 25_057, 14_228, 29_910,
];
const CHEAP: [u64; 64] = [
    5_989, 2_934, 5_957, 2_981, 3_528, 2_132, 5_609, 2_835, 5_917, 2_891, 5_555, 2_731, 5_592, 2_633, 5_947, 2_823,
    4_725, 2_753, 4_023, 2_292, 5_938, 2_640, 5_113, 2_575, 4_917, 2_570, 5_481, 2_654, 5_159, 2_529, 5_291, 2_537,
    5_088, 2_519, 5_203, 2_625, 4_920, 2_649, 4_988, 2_357, 5_074, 2_563, 5_235, 3_495, 4_894, 2_589, 5_459, 2_627,
    5_818, 2_485, 5_541, 2_542, 4_550, 2_321, 5_109, 2_722, 5_210, 2_549, 5_129, 2_481, 3_875, 2_201, 5_322, 2_516,
];

/// The pauses between calls that the goal is about, in microseconds.
pub const PAUSES_US: [u64; 11] = [0, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000];
/// From this pause on, time is compared with sleeping. Polling through it is quicker, and nobody asked for it.
const LONG_PAUSE_US: u64 = 50;
/// A call between two that are awake.
const AWAKE_NS: u64 = 240;
/// A ring, which is a system call.
const RING_NS: u64 = 700;
const CALLS: usize = 20_000;

/// A machine, as far as waiting depends on it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What it is called in a report.
    pub name: &'static str,
    /// How long its wake-ups take, in nanoseconds from ring to run, in the order in which they happened. The replay
    /// begins anew where they end.
    pub wake_ups_ns: Vec<u64>,
    /// The processor time of a call for which both sides sleep, in nanoseconds.
    pub parked_cpu_ns: u64,
}

impl Machine {
    /// The two machines whose wake-ups were recorded: between two processors, and on one.
    pub fn recorded() -> [Machine; 2] {
        [
            Machine { name: "dear", wake_ups_ns: DEAR.to_vec(), parked_cpu_ns: 48_000 },
            Machine { name: "cheap", wake_ups_ns: CHEAP.to_vec(), parked_cpu_ns: 5_000 },
        ]
    }

    /// What the default waiting costs on this machine at each of [`PAUSES_US`].
    ///
    /// # Panics
    ///
    /// If it has no wake-ups.
    pub fn compare(&self) -> Vec<Comparison> {
        PAUSES_US.iter().map(|pause_us| self.compare_at(*pause_us)).collect()
    }

    fn compare_at(&self, pause_us: u64) -> Comparison {
        let pause_ns = Duration::from_micros(pause_us).as_nanos() as u64;
        let [adaptive, spin, park] = [Wait::Adaptive, Wait::Spin, Wait::Park].map(|wait| self.replay(wait, pause_ns));
        let quicker_ns = if pause_us < LONG_PAUSE_US { spin.time_ns.min(park.time_ns) } else { park.time_ns };
        Comparison {
            pause_us,
            time_ratio: adaptive.time_ns as f64 / quicker_ns as f64,
            cpu_ratio: adaptive.cpu_ns as f64 / spin.cpu_ns.min(park.cpu_ns) as f64,
        }
    }

    fn replay(&self, wait: Wait, pause_ns: u64) -> Cost {
        let (mut poll_mode, mut latency) = (PollMode::default(), WakeLatency::default());
        if wait == Wait::Spin {
            poll_mode.poll_mode();
        }
        let mut wake_ups = self.wake_ups_ns.iter().cycle();
        let (mut time_ns, mut cpu_ns, mut think_ns) = (0, 0, THINK_UNKNOWN);
        for _ in 0..CALLS {
            if poll_mode.is_polled() {
                let idle_max_ns = latency.idle_max().as_nanos() as u64;
                if wait == Wait::Spin || pause_ns <= idle_max_ns {
                    time_ns += AWAKE_NS;
                    cpu_ns += pause_ns + 2 * AWAKE_NS;
                    latency.waited();
                    think_ns = THINK_UNKNOWN; // nobody read a clock
                    continue;
                }
                cpu_ns += idle_max_ns;
                poll_mode.cool();
            }
            let [there, back] = [wake_ups.next(), wake_ups.next()].map(|wake_up| *wake_up.expect("they go on"));
            time_ns += there + back + 2 * RING_NS + AWAKE_NS;
            cpu_ns += self.parked_cpu_ns;
            latency.woken(1, 1_000, 1_000 + there);
            poll_mode.rang(wait, &latency, think_ns, false);
            think_ns = u32::try_from(pause_ns).unwrap_or(THINK_UNKNOWN);
        }
        Cost { time_ns: time_ns / CALLS as u64, cpu_ns: cpu_ns / CALLS as u64 }
    }
}

/// What the default waiting costs at one pause, beside what the two fixed ones cost.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// The pause between calls, in microseconds.
    pub pause_us: u64,
    /// Time of a call, as a multiple of the quicker of polling and sleeping (from 50 us on, of sleeping).
    pub time_ratio: f64,
    /// Processor time of a call, as a multiple of the cheaper of polling and sleeping.
    pub cpu_ratio: f64,
}

/// Time and processor time of a call, on average, in nanoseconds. The client's own pause is not part of it; the
/// server's polling during the pause is.
struct Cost {
    time_ns: u64,
    cpu_ns: u64,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Where a wake-up is cheap, a pause of 10 to 30 us is polled through although sleeping would cost less: the least
    /// length of [`WakeLatency::quick_ns`], without which bursts begin slower (docs/benchmarks.md, P19).
    #[test]
    fn the_default_is_as_quick_as_the_quicker_and_dearer_than_the_goal_only_where_that_is_known() {
        let mut beyond = Vec::new();
        for machine in Machine::recorded() {
            for Comparison { pause_us, time_ratio, cpu_ratio } in machine.compare() {
                let name = machine.name;
                assert!(time_ratio <= 1.3, "{name}, a pause of {pause_us} us: {time_ratio:.2} x the time");
                if cpu_ratio > 2.0 {
                    beyond.push(format!("{name}, {pause_us} us: {cpu_ratio:.1} x"));
                }
            }
        }
        assert_eq!(beyond, ["cheap, 10 us: 2.1 x", "cheap, 20 us: 4.1 x"]);
    }
}
