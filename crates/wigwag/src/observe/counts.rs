//! What is counted of a session, or of all sessions of a server.

use std::time::Duration;

use crate::statistics::{Counters, RANGES, Word};

/// What has happened in a session, or in all of a server's sessions, those included that are over.
///
/// Each number is right by itself. They are read one after another while the server works, so two of them may be a few
/// calls apart. For a stream, `calls` are its reads and writes at the accepting end; for a queue, messages
/// acknowledged, and `bytes_in` are those of messages handed out.
///
/// ```
/// let counts = wigwag::observe::Counts::default();
/// assert_eq!((counts.calls, counts.doorbells_saved()), (0, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Requests answered.
    pub calls: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Of the calls, those whose handler returned an error or panicked, and those that were dropped unanswered.
    pub failed: u64,
    /// Replies for which the client had to be woken.
    pub doorbells_rung: u64,
    /// Times the client had to wake the server.
    pub doorbells_heard: u64,
    /// Times the session became hot, so that the server polled it.
    pub heated: u64,
    /// Times polling it did not pay: the server gave up after the time that [`Wait`](crate::Wait) allows.
    pub cooled: u64,
    /// Requests that were taken to be answered later ([`Server::recv`](crate::Server::recv)); messages that were
    /// received and are not acknowledged.
    pub kept: u64,
    /// Messages given back unacknowledged, to be delivered again.
    pub returned: u64,
    /// Time spent in handlers: an estimate from the calls that were timed, which with short handlers is one in 127.
    pub busy: Duration,
    /// The longest call that was timed.
    pub longest: Duration,
    /// How long calls took from their arrival to the answer: likewise an estimate. Requests that are answered later are
    /// not in it.
    pub durations: Durations,
}

impl Counts {
    pub(crate) fn read(counters: &Counters) -> Counts {
        let Counters { served, pace, kept, durations } = counters;
        let sum = |one: &Word, other: &Word| one.value().saturating_add(other.value());
        // Calls before those taken: so no request seems to be answered that was not taken.
        let answered = kept.calls.value();
        let returned = kept.returned.value();
        let mut ranges = [0; RANGES];
        ranges.iter_mut().zip(durations).for_each(|(range, word)| *range = word.value());
        Counts {
            calls: served.calls.value().saturating_add(answered),
            bytes_in: sum(&served.bytes_in, &kept.bytes_in),
            bytes_out: sum(&served.bytes_out, &kept.bytes_out),
            failed: sum(&served.failed, &kept.failed),
            doorbells_rung: sum(&served.rung, &kept.rung),
            doorbells_heard: served.woken.value(),
            heated: served.heated.value(),
            cooled: served.cooled.value(),
            kept: kept.taken.value().saturating_sub(answered).saturating_sub(returned),
            returned,
            busy: Duration::from_nanos(pace.busy_ns.value()),
            longest: Duration::from_nanos(pace.longest_ns.value()),
            durations: Durations { ranges },
        }
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        let add = |mine: &mut u64, theirs: u64| *mine = mine.saturating_add(theirs);
        add(&mut self.calls, other.calls);
        add(&mut self.bytes_in, other.bytes_in);
        add(&mut self.bytes_out, other.bytes_out);
        add(&mut self.failed, other.failed);
        add(&mut self.doorbells_rung, other.doorbells_rung);
        add(&mut self.doorbells_heard, other.doorbells_heard);
        add(&mut self.heated, other.heated);
        add(&mut self.cooled, other.cooled);
        add(&mut self.kept, other.kept);
        add(&mut self.returned, other.returned);
        self.busy = self.busy.saturating_add(other.busy);
        self.longest = self.longest.max(other.longest);
        self.durations.ranges.iter_mut().zip(other.durations.ranges).for_each(|(mine, theirs)| add(mine, theirs));
    }

    /// Replies for which nobody had to be woken: each a system call less than with a socket.
    ///
    /// ```
    /// assert_eq!(wigwag::observe::Counts::default().doorbells_saved(), 0);
    /// ```
    pub fn doorbells_saved(&self) -> u64 {
        self.calls.saturating_sub(self.doorbells_rung)
    }

    /// Requests that were found by looking, without the client having to wake the server: spins that paid.
    ///
    /// ```
    /// assert_eq!(wigwag::observe::Counts::default().found_by_polling(), 0);
    /// ```
    pub fn found_by_polling(&self) -> u64 {
        self.calls.saturating_sub(self.doorbells_heard)
    }
}

/// How many calls took how long, in ranges that double.
///
/// ```
/// let durations = wigwag::observe::Durations::default();
/// assert_eq!(durations.quantile(0.5), None);
/// assert_eq!(durations.ranges().count(), 32);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    ranges: [u64; RANGES],
}

impl Durations {
    /// The ranges, the shortest first: what took less than that and is in no range before, and how many. The last range
    /// has all above, whatever its bound says.
    ///
    /// ```
    /// use std::time::Duration;
    /// let durations = wigwag::observe::Durations::default();
    /// assert_eq!(durations.ranges().nth(10), Some((Duration::from_nanos(1024), 0)));
    /// ```
    pub fn ranges(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.ranges.iter().enumerate().map(|(range, count)| (Duration::from_nanos(1 << range), *count))
    }

    /// How many in all.
    ///
    /// ```
    /// assert_eq!(wigwag::observe::Durations::default().total(), 0);
    /// ```
    pub fn total(&self) -> u64 {
        self.ranges.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// The bound below which that share of all lies, from 0 to 1: right within a factor of two. `None` if there are
    /// none.
    ///
    /// ```
    /// assert_eq!(wigwag::observe::Durations::default().quantile(0.99), None);
    /// ```
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total = self.total();
        let wanted = (total as f64 * share.clamp(0.0, 1.0)).max(1.0);
        let mut sum = 0u64;
        let range = self.ranges().find(|(_, count)| {
            sum = sum.saturating_add(*count);
            sum as f64 >= wanted
        });
        range.filter(|_| total > 0).map(|(bound, _)| bound)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_bounds_of_ranges() {
        let mut durations = Durations::default();
        durations.ranges[7] = 90;
        durations.ranges[20] = 10;
        for (share, bound) in [(0.0, 1 << 7), (0.9, 1 << 7), (0.901, 1 << 20), (1.0, 1 << 20), (7.0, 1 << 20)] {
            assert_eq!(durations.quantile(share), Some(Duration::from_nanos(bound)), "{share}");
        }
        durations.ranges = [u64::MAX; RANGES];
        assert!(durations.quantile(1.0).is_some(), "whatever a liar writes");
    }

    #[test]
    fn what_is_added_up_does_not_overflow() {
        let counters = Counters::default();
        counters.served.calls.set(u64::MAX);
        counters.kept.calls.set(u64::MAX);
        counters.pace.busy_ns.set(u64::MAX);
        let counts = Counts::read(&counters);
        let mut sum = counts.clone();
        sum.add(&counts);
        assert_eq!((sum.calls, sum.kept), (u64::MAX, 0));
    }
}
