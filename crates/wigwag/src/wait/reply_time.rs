//! How long the other side takes for a reply, learned from those that came, as a state machine without clock or memory.
//!
//! A handler that takes longer than a wake-up is not spun for. But whoever sleeps until it is rung for comes late by a
//! wake-up, and the ring costs the other side a system call. Where the replies take steadily long, a caller can do
//! both: it sleeps on a timer until shortly before the reply, and spins from there.
//!
//! A timer is late as well, on a virtual machine as late as a ring, and by how much is learned in the same way.
//! Sleeping pays only while what has to be spun, the uncertainty of both times together, is no longer than a spin for
//! a quick reply may be ([`WakeLatency::spin_budget`]). So the rule of [`crate::wait::policy`] holds here, too: no spin
//! is longer than about a sleep and a wake-up. Whoever takes unsteadily long is slept for, as before.

use crate::wait::wake_latency::WakeLatency;

/// What is learned.
#[derive(Clone, Debug, Default)]
pub struct ReplyTime {
    replies: LastEight,
    timers: LastEight,
    refusals: u16,
}

/// A way to wait, in nanoseconds after the wait began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nap {
    /// Sleep until then, or until there is a ring.
    pub until_ns: u64,
    /// Spin until then.
    pub spin_until_ns: u64,
}

/// A shorter sleep costs more than it saves.
const LEAST_SLEEP_NS: u64 = 20_000;
/// Later than this a timer was not late: others had the processor.
const LATENESS_MAX_NS: u64 = 300_000;
/// Calls that could not be planned for, after which the timer is asked anew.
const REFUSALS_TO_FORGET: u16 = 1024;

impl ReplyTime {
    /// A reply took so long, from the beginning of the wait.
    pub fn came(&mut self, took_ns: u64) {
        self.replies.push(u32::try_from(took_ns).unwrap_or(u32::MAX));
    }

    /// A timer woke this side so long after it was due, or a ring did when it was due already.
    pub fn overslept(&mut self, late_ns: u64) {
        if late_ns <= LATENESS_MAX_NS {
            self.timers.push(late_ns as u32);
        }
    }

    /// Whether to sleep on a timer for the next reply, and how.
    pub fn plan(&mut self, latency: &WakeLatency) -> Option<Nap> {
        let plan = self.try_plan(latency);
        if plan.is_none() {
            self.refusals += 1;
            if self.refusals == REFUSALS_TO_FORGET {
                // Timers that were late once may have kept this side from asking again.
                (self.refusals, self.timers) = (0, LastEight::default());
            }
        }
        plan
    }

    fn try_plan(&self, latency: &WakeLatency) -> Option<Nap> {
        let spin_max_ns = latency.spin_budget().as_nanos() as u64;
        // Of eight, one that came early and two that came late are not usual: there is no end to what a machine may do
        // in between.
        let [early, late] = self.replies.between(1, 5).filter(|[_, late]| *late < u32::MAX)?;
        // Until there are eight, a timer is taken to be as late as a ring.
        let [least_late, lateness] = self.timers.between(1, 6).unwrap_or([0, latency.estimate_ns()]);
        let [spread, uncertainty] = [late - early, lateness - least_late].map(u64::from);
        let [early, late, lateness] = [early, late, lateness].map(u64::from);
        let until_ns = early.checked_sub(lateness).filter(|until| *until >= LEAST_SLEEP_NS)?;
        // What is below the budget is spun for from the beginning.
        let is_long = early > spin_max_ns;
        (is_long && uncertainty + spread <= spin_max_ns)
            .then_some(Nap { until_ns, spin_until_ns: (late + spread).max(early + spin_max_ns / 2) })
    }
}

/// The last eight numbers.
#[derive(Clone, Debug, Default)]
struct LastEight {
    numbers: [u32; 8],
    len: u8,
    next: u8,
}

impl LastEight {
    fn push(&mut self, number: u32) {
        self.numbers[usize::from(self.next)] = number;
        self.next = (self.next + 1) % 8;
        self.len = (self.len + 1).min(8);
    }

    /// Two of the eight in their order, by their indices. `None` while there are fewer.
    fn between(&self, first: usize, last: usize) -> Option<[u32; 2]> {
        let mut sorted = self.numbers;
        sorted.sort_unstable();
        (self.len == 8).then_some([sorted[first], sorted[last]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After eight replies of these times, in microseconds.
    fn after(replies_us: [u64; 8]) -> ReplyTime {
        let mut time = ReplyTime::default();
        replies_us.iter().for_each(|took_us| time.came(took_us * 1_000));
        time
    }

    fn plan(time: &mut ReplyTime) -> Option<[u64; 2]> {
        time.plan(&WakeLatency::default()).map(|nap| [nap.until_ns, nap.spin_until_ns].map(|ns| ns / 1_000))
    }

    #[test]
    fn who_takes_steadily_long_is_slept_for_until_shortly_before() {
        assert_eq!(plan(&mut after([100; 8])), Some([67, 125]));
        assert_eq!(plan(&mut after([1_000, 1_004, 998, 1_001, 1_002, 999, 1_003, 1_000])), Some([966, 1_024]));
        assert_eq!(plan(&mut after([5_000, 5_000, 90_000, 5_000, 5_001, 5_000, 3, 5_000])), Some([4_967, 5_025]));
    }

    #[test]
    fn who_is_quick_or_unsteady_or_not_known_is_not() {
        assert_eq!(plan(&mut after([50; 8])), None, "that is spun for");
        assert_eq!(plan(&mut after([1_000, 1_020, 1_040, 1_060, 1_080, 1_100, 1_120, 1_140])), None);
        let mut time = ReplyTime::default();
        for _ in 0..7 {
            time.came(1_000_000);
            assert_eq!(plan(&mut time), None, "eight are needed");
        }
        time.came(1_000_000);
        assert!(plan(&mut time).is_some());
        (0..7).for_each(|_| time.came(u64::MAX));
        assert_eq!(plan(&mut time), None);
    }

    #[test]
    fn a_late_timer_is_set_earlier_and_given_up_while_its_lateness_is_uncertain() {
        let mut time = after([1_000; 8]);
        (0..8).for_each(|_| time.overslept(60_000));
        assert_eq!(plan(&mut time), Some([940, 1_025]));
        time.overslept(10_000_000);
        assert_eq!(plan(&mut time), Some([940, 1_025]), "others had the processor");
        (0..4).for_each(|_| time.overslept(1_000));
        let refused = (0..1024).filter(|_| plan(&mut time).is_none()).count();
        assert_eq!(refused, 1024, "from 1 us to 60 us late");
        assert_eq!(plan(&mut time), Some([967, 1_025]), "and asked again after a while");
    }

    #[test]
    fn a_reply_that_comes_before_the_timer_could_is_not_slept_for() {
        let mut time = after([100; 8]);
        (0..8).for_each(|_| time.overslept(90_000));
        assert_eq!(plan(&mut time), None);
    }

    #[test]
    fn no_spin_is_longer_than_twice_the_budget() {
        let budget_ns = WakeLatency::default().spin_budget().as_nanos() as u64;
        for spread_us in 0..100 {
            let mut time = ReplyTime::default();
            (0..8).for_each(|number| time.came(1_000_000 + number * spread_us * 200));
            (0..8).for_each(|number| time.overslept(20_000 + number * 1_000));
            if let Some(nap) = time.plan(&WakeLatency::default()) {
                let spun_ns = nap.spin_until_ns - nap.until_ns - 21_000; // the earliest that it wakes
                assert!(spun_ns <= 2 * budget_ns, "{spread_us} us: {spun_ns}");
            }
        }
    }
}
