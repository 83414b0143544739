//! How late the kernel may wake a thread whose timer is due (prctl(2), PR_SET_TIMERSLACK).

use std::marker::PhantomData;
use std::num::NonZeroU64;

use rustix::thread::{current_timer_slack, set_current_timer_slack};

/// While this lives, the calling thread's timers are as exact as they can be. Its own slack comes back afterwards: a
/// library does not change how its caller's threads sleep.
pub struct TimerSlack {
    before: Option<NonZeroU64>,
    /// The slack is the thread's.
    _not_send: PhantomData<*const ()>,
}

impl TimerSlack {
    /// From now on. Where it cannot be had, timers are as late as before.
    pub fn least() -> TimerSlack {
        // A thread of a real-time policy has none, and keeps that.
        let before = current_timer_slack().ok().and_then(NonZeroU64::new).filter(|slack| *slack > NonZeroU64::MIN);
        let before = before.filter(|_| set_current_timer_slack(Some(NonZeroU64::MIN)).is_ok());
        TimerSlack { before, _not_send: PhantomData }
    }
}

impl Drop for TimerSlack {
    fn drop(&mut self) {
        if self.before.is_some() {
            let _ = set_current_timer_slack(self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_its_own_slack_back() {
        let before = current_timer_slack().unwrap();
        set_current_timer_slack(NonZeroU64::new(40_000)).unwrap();
        {
            let _precise = TimerSlack::least();
            assert!(current_timer_slack().unwrap() <= 1);
            let _again = TimerSlack::least();
        }
        let after = current_timer_slack().unwrap();
        assert!(after == 40_000 || after == 0, "{after}");
        set_current_timer_slack(NonZeroU64::new(before)).unwrap();
    }
}
