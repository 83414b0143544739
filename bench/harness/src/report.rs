//! What one phase measured, on its way from the client's process, and what several phases say together.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::SECOND;
use crate::usage::Usage;

/// Latencies are kept in picoseconds: the mean of a batch of 30 ns calls would lose its digits in nanoseconds.
pub const PICOSECONDS: u64 = 1000;

/// A distribution of latencies in picoseconds.
pub type Latencies = Histogram<u64>;

/// Longest latency that is told apart from longer ones: 100 seconds.
const LONGEST: u64 = 100 * SECOND * PICOSECONDS;

/// An empty distribution, exact to three digits.
pub fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order and three digits are allowed")
}

/// What one phase of one case measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Calls whose time is in the distribution.
    pub calls: u64,
    /// Nanoseconds from the first to the last.
    pub elapsed: u64,
    /// Calls per entry of the distribution.
    pub batch: u64,
    /// The distribution: picoseconds and how often.
    pub latency: Vec<(u64, u64)>,
    /// The distribution of each burst's first call.
    pub first: Vec<(u64, u64)>,
    /// What the client used.
    pub client: Usage,
    /// What the server used.
    pub server: Usage,
    /// Calls per second of each busy session, where there are several.
    pub session_rates: Vec<f64>,
}

impl Report {
    /// The distribution of all calls.
    pub fn latencies(&self) -> Latencies {
        unpack(&self.latency)
    }

    /// A percentile of all calls in nanoseconds.
    pub fn percentile(&self, percentile: f64) -> f64 {
        nanoseconds(&self.latencies(), percentile)
    }

    /// A percentile of the bursts' first calls in nanoseconds.
    pub fn first_percentile(&self, percentile: f64) -> f64 {
        nanoseconds(&unpack(&self.first), percentile)
    }

    /// Processor time of both sides per call, in nanoseconds.
    pub fn cpu_per_call(&self) -> f64 {
        (self.client.cpu + self.server.cpu) as f64 / self.calls.max(1) as f64
    }

    /// Calls per second.
    pub fn rate(&self) -> f64 {
        self.calls as f64 * SECOND as f64 / self.elapsed.max(1) as f64
    }

    /// Several sessions of one phase as one: every call counts the same.
    pub fn pooled(reports: &[Report]) -> Report {
        Report::merged(reports, |_, count| count)
    }

    /// Several rounds of the same case as one: every round counts the same, however many entries its distribution has.
    /// A round in which the machine was quick has more calls, and one that timed batches a thousandth of the entries.
    pub fn of_rounds(reports: &[Report]) -> Report {
        let entries = |pairs: &[(u64, u64)]| pairs.iter().map(|(_, count)| count).sum::<u64>().max(1);
        let most = reports.iter().map(|report| entries(&report.latency)).max().unwrap_or(1);
        let scaled = |pairs: &[(u64, u64)], count: u64| {
            let whole = entries(pairs);
            ((u128::from(count) * u128::from(most) + u128::from(whole / 2)) / u128::from(whole)) as u64
        };
        Report::merged(reports, scaled)
    }

    /// `weigh` says how often an entry counts, given its distribution and its own count.
    fn merged(reports: &[Report], weigh: impl Fn(&[(u64, u64)], u64) -> u64) -> Report {
        let mut whole = Report { batch: reports.first().map_or(1, |report| report.batch), ..Report::default() };
        let (mut all, mut first) = (latencies(), latencies());
        for report in reports {
            for (pairs, histogram) in [(&report.latency, &mut all), (&report.first, &mut first)] {
                for &(value, count) in pairs {
                    histogram.saturating_record_n(value, weigh(pairs, count));
                }
            }
            whole.calls += report.calls;
            whole.elapsed += report.elapsed;
            whole.client = sum(whole.client, report.client);
            whole.server = sum(whole.server, report.server);
        }
        whole.latency = pack(&all);
        whole.first = pack(&first);
        whole.session_rates = mean_rates(reports);
        whole
    }
}

/// A percentile in nanoseconds; zero when nothing was measured.
pub fn nanoseconds(latencies: &Latencies, percentile: f64) -> f64 {
    latencies.value_at_percentile(percentile) as f64 / PICOSECONDS as f64
}

/// The distribution as pairs.
pub fn pack(latencies: &Latencies) -> Vec<(u64, u64)> {
    latencies.iter_recorded().map(|entry| (entry.value_iterated_to(), entry.count_at_value())).collect()
}

fn unpack(pairs: &[(u64, u64)]) -> Latencies {
    let mut histogram = latencies();
    for (value, count) in pairs {
        histogram.saturating_record_n(*value, *count);
    }
    histogram
}

fn sum(one: Usage, other: Usage) -> Usage {
    Usage { cpu: one.cpu + other.cpu, switches: one.switches + other.switches }
}

fn mean_rates(reports: &[Report]) -> Vec<f64> {
    let sessions = reports.iter().map(|report| report.session_rates.len()).min().unwrap_or(0);
    let mean =
        |index: usize| reports.iter().map(|report| report.session_rates[index]).sum::<f64>() / reports.len() as f64;
    (0..sessions).map(mean).collect()
}

/// The middle value; NaN of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_keeps_every_call() {
        let mut one = latencies();
        one.record_n(30_000, 3).unwrap();
        let report = Report { calls: 3, elapsed: 90, latency: pack(&one), ..Report::default() };
        let whole = Report::pooled(&[report.clone(), report]);
        assert_eq!((whole.calls, whole.elapsed, whole.latencies().len()), (6, 180, 6));
        assert!((whole.percentile(50.0) - 30.0).abs() < 0.1);
    }

    #[test]
    fn a_quick_round_has_no_more_weight_than_a_slow_one() {
        let round = |nanos: u64, calls: u64| {
            let mut all = latencies();
            all.record_n(nanos * PICOSECONDS, calls).unwrap();
            Report { calls, elapsed: nanos * calls, latency: pack(&all), ..Report::default() }
        };
        let rounds = [round(100, 3000), round(300, 1000), round(310, 7)];
        let (whole, heap) = (Report::of_rounds(&rounds), Report::pooled(&rounds));
        assert!((whole.percentile(50.0) - 300.0).abs() < 1.0, "{}", whole.percentile(50.0));
        assert!((heap.percentile(50.0) - 100.0).abs() < 1.0, "{}", heap.percentile(50.0));
        assert_eq!((whole.calls, whole.elapsed), (heap.calls, heap.elapsed));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
        assert_eq!(median(vec![f64::NAN, 1.0]), 1.0);
    }
}
