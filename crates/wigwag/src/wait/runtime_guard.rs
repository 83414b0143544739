//! Noticing a call that puts a thread of a tokio runtime to sleep, and with it every task that the thread would run.
//!
//! Only builds with the feature `tokio` know, and only a thread that is about to sleep is asked, so a call costs
//! nothing.

/// A blocking call is about to put this thread to sleep: said in a warning if it runs a task.
#[cfg(any(not(feature = "tokio"), loom))]
#[inline(always)]
pub fn is_about_to_sleep(_doing: &'static str) {}

/// A blocking call is about to put this thread to sleep: warns if the thread runs a task. It warns the first time, then
/// the second, the fourth and so on, so that a repeated mistake does not fill a log.
#[cfg(all(feature = "tokio", not(loom)))]
#[cold]
pub fn is_about_to_sleep(doing: &'static str) {
    use std::sync::atomic::{AtomicU64, Ordering};

    static COUNT: AtomicU64 = AtomicU64::new(0);
    if !runs_a_task() {
        return;
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    if count.is_power_of_two() {
        tracing::warn!(
            count,
            "a blocking call ({doing}) puts a thread of the tokio runtime to sleep, with all tasks that it would run: \
             use \
             wigwag::tokio, or tokio::task::spawn_blocking"
        );
    }
}

/// Whether this thread runs a task just now.
///
/// tokio does not say so, but only tasks have a budget: it is used up here, which threads that may block never see
/// happen. The task gives way at its next await, which after a sleep is as it should be.
#[cfg(all(feature = "tokio", not(loom)))]
fn runs_a_task() -> bool {
    use std::task::{Context, Poll, Waker};
    use tokio::task::coop;

    /// More than a task's budget.
    const BUDGET: usize = 1024;
    if tokio::runtime::Handle::try_current().is_err() {
        return false;
    }
    let mut context = Context::from_waker(Waker::noop());
    (0..BUDGET).any(|_| match coop::poll_proceed(&mut context) {
        Poll::Ready(budget) => {
            budget.made_progress();
            false
        }
        Poll::Pending => true,
    })
}
