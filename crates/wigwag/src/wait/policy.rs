//! How long to spin before sleeping: the waiting policy, as small state machines without clock, memory or system calls.
//!
//! The spin budget is that of competitive spinning (Karlin, Li, Manasse, Owicki: "Empirical studies of competitive
//! spinning for a shared-memory multiprocessor", SOSP 1991): a waiter that never spins longer than a sleep and a
//! wake-up cost is never more than twice as slow as one that knew the future. Four rules, learned by measuring, come on
//! top of that:
//!
//! 1. Spin only on someone who is awake. A waiter that rings a sleeper and then spins holds the very core that the
//!    sleeper would be switched in on, and forces a wake-up across cores, which costs ten times as much.
//! 2. Woken from sleep, answer and go back to sleep: a server that spins after its reply stands in its client's way.
//! 3. The client knows how long it thought, and says so with the ring. The server's own clock cannot tell: the wake-up
//!    hides the client's pace.
//! 4. A side that shares its only processor with the peer never spins.

use std::time::Duration;

use crate::wait::wake_latency::WakeLatency;

/// How a side waits for the other.
///
/// ```
/// use wigwag::{Client, Wait};
/// let builder = Client::builder().wait(Wait::Park); // never burn a cycle; every reply costs a wake-up
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Spin while the answer is nearer than a wake-up is long, sleep otherwise; learned from what happens.
    #[default]
    Adaptive,
    /// Never sleep: the least latency for the price of a core. For a core that is set aside for it.
    Spin,
    /// Never spin: the least processor time for the price of a wake-up each way.
    Park,
}

/// So many quick wakes in a row make a session hot.
pub const QUICK_WAKES_TO_HOT: u8 = 4;
/// Added for the time that a wake-up takes: for a client that has to be woken first, or whose processor the server has
/// just left.
pub const WAKE_ALLOWANCE: Duration = Duration::from_micros(120);
/// A think time that is long or not known.
pub const THINK_UNKNOWN: u32 = u32::MAX;

/// Server's side: whether a session is polled (hot) or rings (cold). One for each session.
#[derive(Clone, Debug, Default)]
pub struct PollMode {
    quick_wakes: u8,
    hot: bool,
}

impl PollMode {
    /// Whether the session is polled.
    #[inline(always)]
    pub fn is_polled(&self) -> bool {
        self.hot
    }

    /// The session rang. `think_ns` is the client's own word; a lie wastes at most [`WakeLatency::idle_max`] a time.
    /// Returns whether the session is hot now.
    pub fn rang(&mut self, wait: Wait, latency: &WakeLatency, think_ns: u32, one_processor: bool) -> bool {
        self.quick_wakes = if think_ns < latency.quick_ns() { self.quick_wakes.saturating_add(1) } else { 0 };
        self.hot = match wait {
            Wait::Spin => true,
            Wait::Park => false,
            Wait::Adaptive => !one_processor && self.quick_wakes >= QUICK_WAKES_TO_HOT,
        };
        self.hot
    }

    /// A request was there before the server slept again, so nobody had to ring: the client is quick. Returns whether
    /// the session is hot now.
    pub fn found(&mut self, wait: Wait, latency: &WakeLatency, one_processor: bool) -> bool {
        self.rang(wait, latency, 0, one_processor)
    }

    /// The session was polled in vain for as long as it may be: [`WakeLatency::idle_max`], and [`WAKE_ALLOWANCE`] where
    /// a wake-up is under way.
    pub fn cool(&mut self) {
        self.hot = false;
        self.quick_wakes = 0;
    }

    /// The session is polled from the beginning ([`Wait::Spin`]).
    pub fn poll_mode(&mut self) {
        self.hot = true;
    }
}

/// Client's side: how long to spin for a reply of a server that is awake.
///
/// A spin that did not pay halves the next one; five in a row, and only every sixteenth call still tries, in case the
/// server became quicker. One that pays gives back the whole [`WakeLatency::spin_budget`].
#[derive(Clone, Debug, Default)]
pub struct SpinBudget {
    failures: u8,
    skipped: u8,
    is_arrival_expected: bool,
}

const FAILURES_TO_GIVE_UP: u8 = 5;
const CALLS_BETWEEN_TRIES: u8 = 16;

impl SpinBudget {
    /// The server polls from now on, and is on its way to another processor: as long as that takes, the next reply is
    /// late.
    pub fn expect_arrival(&mut self) {
        self.is_arrival_expected = true;
    }

    /// Whether the next spin waits for a server that has still to arrive.
    pub fn is_arrival_expected(&self) -> bool {
        self.is_arrival_expected
    }

    /// How long to spin for the next reply; zero means to sleep at once.
    pub fn next(&mut self, latency: &WakeLatency) -> Duration {
        if std::mem::take(&mut self.is_arrival_expected) {
            return latency.spin_budget() + WAKE_ALLOWANCE;
        }
        if self.failures < FAILURES_TO_GIVE_UP {
            return latency.spin_budget() / (1 << self.failures);
        }
        self.skipped += 1;
        if self.skipped < CALLS_BETWEEN_TRIES {
            return Duration::ZERO;
        }
        self.skipped = 0;
        latency.spin_budget()
    }

    /// The reply came while spinning.
    #[inline(always)]
    pub fn paid(&mut self) {
        self.failures = 0;
    }

    /// The spin was in vain.
    pub fn failed(&mut self) {
        self.failures = (self.failures + 1).min(FAILURES_TO_GIVE_UP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replays a client that pauses for `pauses_us` between its calls against a server that needs 300 ns a call, on a
    /// machine where a wake-up takes so long, and returns how many calls found the server polling.
    fn replay_on(wake_us: u64, pauses_us: &[u32]) -> usize {
        let (mut poll_mode, mut latency) = (PollMode::default(), WakeLatency::default());
        let mut polled = 0;
        let mut last_was_cold = true;
        for &pause_us in pauses_us {
            if poll_mode.is_polled() && u128::from(pause_us) > latency.idle_max().as_micros() {
                poll_mode.cool();
                last_was_cold = false; // the client read no clock while the server was hot
            }
            if poll_mode.is_polled() {
                polled += 1;
                continue;
            }
            latency.woken(1, 1_000, 1_000 + wake_us * 1_000);
            let think_ns = if last_was_cold { pause_us * 1000 } else { THINK_UNKNOWN };
            poll_mode.rang(Wait::Adaptive, &latency, think_ns, false);
            last_was_cold = true;
        }
        polled
    }

    /// On a machine as all were taken for before they were asked.
    fn replay(pauses_us: &[u32]) -> usize {
        replay_on(33, pauses_us)
    }

    #[test]
    fn where_a_wake_up_is_dear_longer_pauses_are_polled_through() {
        for (wake_us, quick_us, slow_us) in [(3, 29, 31), (33, 40, 42), (60, 74, 76), (150, 186, 190)] {
            assert_eq!(replay_on(wake_us, &[0; 100]), 96, "a closed loop is hot on every machine");
            assert_eq!(replay_on(wake_us, &[quick_us; 100]), 96, "{quick_us} us where a wake-up takes {wake_us} us");
            assert_eq!(replay_on(wake_us, &[slow_us; 100]), 0, "{slow_us} us where a wake-up takes {wake_us} us");
        }
    }

    #[test]
    fn a_closed_loop_becomes_hot_after_four_calls() {
        assert_eq!(replay(&[0; 100]), 96);
    }

    #[test]
    fn a_quick_pace_becomes_hot() {
        for pause_us in [2, 5, 10, 20] {
            assert_eq!(replay(&[pause_us; 100]), 96, "{pause_us} us");
        }
    }

    #[test]
    fn a_slow_pace_never_becomes_hot() {
        for pause_us in [50, 100, 1_000, 10_000] {
            assert_eq!(replay(&[pause_us; 100]), 0, "{pause_us} us");
        }
    }

    #[test]
    fn bursts_are_hot_but_for_their_first_calls() {
        let mut burst = vec![10_000];
        burst.extend([0; 63]);
        let bursts = burst.repeat(10);
        // One slow call and four quick ones, then the rest of each burst is polled.
        assert_eq!(replay(&bursts), 10 * (64 - 5));
    }

    #[test]
    fn who_shares_one_processor_is_never_hot() {
        let mut poll_mode = PollMode::default();
        for _ in 0..100 {
            assert!(!poll_mode.rang(Wait::Adaptive, &WakeLatency::default(), 0, true));
        }
    }

    #[test]
    fn spin_is_always_hot_and_park_never() {
        assert!(PollMode::default().rang(Wait::Spin, &WakeLatency::default(), THINK_UNKNOWN, true));
        let mut poll_mode = PollMode::default();
        for _ in 0..100 {
            assert!(!poll_mode.rang(Wait::Park, &WakeLatency::default(), 0, false));
        }
    }

    #[test]
    fn a_server_on_its_way_is_waited_for_once() {
        let (mut budget, latency) = (SpinBudget::default(), WakeLatency::default());
        for _ in 0..FAILURES_TO_GIVE_UP {
            budget.failed();
        }
        budget.expect_arrival();
        assert!(budget.is_arrival_expected());
        assert_eq!(budget.next(&latency), latency.spin_budget() + WAKE_ALLOWANCE);
        assert!(!budget.is_arrival_expected());
        assert_eq!(budget.next(&latency), Duration::ZERO);
    }

    #[test]
    fn spins_that_do_not_pay_are_given_up_and_tried_again_now_and_then() {
        let (mut budget, latency) = (SpinBudget::default(), WakeLatency::default());
        let mut total = Duration::ZERO;
        for _ in 0..1000 {
            let spin = budget.next(&latency);
            if !spin.is_zero() {
                total += spin;
                budget.failed();
            }
        }
        // Two budgets of learning, then one in sixteen calls.
        assert!(total < latency.spin_budget() * (2 + 1000 / 16), "{total:?}");
        assert!(total > latency.spin_budget() * (1000 / 16 - 2), "{total:?}");
        budget.paid();
        assert_eq!(budget.next(&latency), latency.spin_budget());
    }
}
