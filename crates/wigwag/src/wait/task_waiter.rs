//! How a task waits before it leaves that to its reactor: it looks again while its runtime would otherwise sleep.
//!
//! To be woken costs a task as much as a thread, but a task must not spin: its thread is that of others, too. So it
//! asks the runtime to be polled once more after all tasks that are ready (`tokio::task::yield_now`). The runtime does
//! that instead of going to sleep, and looks at its reactor in between, so nobody else waits longer for it. Meanwhile
//! the other side need not ring.
//!
//! How long it looks follows the rules for a client's spin, [`SpinBudget`]: some wake-ups long, as [`WakeLatency`]
//! learns them, less after each time in vain, and soon only now and then. Where other tasks keep the runtime busy the
//! next look comes late. If it finds something it has paid all the same: nobody had to ring.
//!
//! It looks longer than a thread would spin. What it waits for is the other task's wake-up, the work of two runtimes
//! and a protocol, and the way back: two sides that sleep stay so if neither looks for as long as all of that takes.
//! With one budget of a spin, gRPC's unary calls slept on both sides (0.9 of a socket's time at 0.8 of its processor
//! time); with two that held for most runs, with four for none of eight (0.26 of the time, 0.36 of the processor time).

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::Instant;

use crate::sys::clock;
use crate::wait::policy::{SpinBudget, Wait};
use crate::wait::wake_latency::WakeLatency;

/// Spin budgets of a thread for which a task looks again.
const SPINS_PER_LOOK: u32 = 4;

/// What a task that waits knows of its waiting.
#[derive(Debug, Default)]
pub struct TaskWaiter {
    state: State,
    spin_budget: SpinBudget,
    wake_latency: WakeLatency,
}

#[derive(Debug, Default)]
enum State {
    /// It does not wait.
    #[default]
    Idle,
    /// It looks again until that time.
    Looking { until: Instant },
    /// It has said at that time that it waits: the other side rings.
    Announced { at_ns: u64 },
}

impl TaskWaiter {
    /// Nothing is there. Whether to look again, by [`look_again`], instead of saying that it waits.
    /// `is_alone`: the other side was not on this processor when it was heard of last. Two on one processor would only
    /// keep each other from it.
    pub fn looks_again(&mut self, wait: Wait, is_alone: bool) -> bool {
        match &self.state {
            _ if wait == Wait::Park => false,
            State::Announced { .. } => false,
            State::Idle if !is_alone => false,
            State::Idle => {
                let budget = self.spin_budget.next(&self.wake_latency) * SPINS_PER_LOOK;
                self.state = State::Looking { until: Instant::now() + budget };
                !budget.is_zero()
            }
            State::Looking { until } => {
                let is_time_left = Instant::now() < *until;
                if !is_time_left {
                    self.spin_budget.failed();
                }
                is_time_left
            }
        }
    }

    /// It says that it waits.
    pub fn announced(&mut self) {
        if !matches!(self.state, State::Announced { .. }) {
            self.state = State::Announced { at_ns: clock::now_ns() };
        }
    }

    /// What it waited for is there. When the other side says that it rang is asked only if it may have.
    pub fn found(&mut self, rang_ns: impl FnOnce() -> Option<u64>) {
        match std::mem::take(&mut self.state) {
            State::Idle => {}
            State::Looking { .. } => {
                self.spin_budget.paid();
                self.wake_latency.waited();
            }
            State::Announced { at_ns } => {
                if let Some(rang_ns) = rang_ns() {
                    self.wake_latency.woken(at_ns, rang_ns, clock::now_ns());
                }
            }
        }
    }
}

/// The task is polled again once the runtime has nothing else to do. Where there is no runtime, at once.
pub fn look_again(context: &mut Context<'_>) {
    // The first poll of this future says so to the runtime; there is nothing more in it.
    let _ = pin!(tokio::task::yield_now()).poll(context);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for something that does not come while it looks. How often it looked again.
    fn wait_in_vain(waiter: &mut TaskWaiter) -> usize {
        let looks = (0..).take_while(|_| waiter.looks_again(Wait::Adaptive, true)).count();
        waiter.announced();
        assert!(!waiter.looks_again(Wait::Adaptive, true), "the other side rings: no need to look");
        waiter.found(|| None);
        looks
    }

    #[test]
    fn it_looks_again_for_a_while_and_soon_only_now_and_then_if_that_is_in_vain() {
        let mut waiter = TaskWaiter::default();
        assert!(wait_in_vain(&mut waiter) > 0);
        let looked: Vec<bool> = (0..100).map(|_| wait_in_vain(&mut waiter) > 0).collect();
        let count = looked.iter().filter(|looked| **looked).count();
        assert!((4..=4 + 100 / 15).contains(&count), "{looked:?}");
        // One that pays makes up for all.
        while !waiter.looks_again(Wait::Adaptive, true) {
            waiter.announced();
            waiter.found(|| None);
        }
        waiter.found(|| panic!("nobody had to ring"));
        assert!(waiter.looks_again(Wait::Adaptive, true));
    }

    #[test]
    fn who_parks_or_shares_a_processor_with_the_other_side_does_not_look_again() {
        let mut waiter = TaskWaiter::default();
        assert!(!waiter.looks_again(Wait::Park, true));
        assert!(!waiter.looks_again(Wait::Adaptive, false));
        assert!(waiter.looks_again(Wait::Spin, true), "a thread of a runtime must not be kept: as by default");
    }

    #[test]
    fn how_long_a_wake_up_takes_is_learned_from_the_rings() {
        let mut waiter = TaskWaiter::default();
        let first = waiter.wake_latency.estimate_ns();
        // On a busy machine it may take longer than a wake-up can be believed to take: then that is no sample.
        for _ in 0..10_000 {
            waiter.announced();
            let State::Announced { at_ns } = waiter.state else { panic!("{:?}", waiter.state) };
            // It rang right after this side had said that it waits, and this side runs some time later.
            std::thread::sleep(std::time::Duration::from_micros(20));
            waiter.announced(); // a poll that finds nothing is no other wait
            waiter.found(|| Some(at_ns));
            if waiter.wake_latency.estimate_ns() != first {
                return;
            }
        }
        panic!("nothing was learned");
    }
}
