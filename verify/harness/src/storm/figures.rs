//! Times as a line of figures.

use std::fmt;

/// The quantiles of some times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantiles {
    /// How many there are.
    pub count: usize,
    /// The median in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 are not longer, in nanoseconds.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Quantiles {
    /// Of these.
    pub fn of(mut times_ns: Vec<u64>) -> Quantiles {
        times_ns.sort_unstable();
        let at = |share: usize| times_ns.get((times_ns.len() * share / 100).min(times_ns.len().max(1) - 1)).copied();
        let [p50_ns, p99_ns, max_ns] = [50, 99, 100].map(|share| at(share).unwrap_or(0));
        Quantiles { count: times_ns.len(), p50_ns, p99_ns, max_ns }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [self.p50_ns, self.p99_ns, self.max_ns].map(time);
        write!(out, "p50 {p50} p99 {p99} max {max}")
    }
}

/// A time, readable.
pub fn time(ns: u64) -> String {
    match ns {
        0..10_000_000 => format!("{:.0} us", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}
