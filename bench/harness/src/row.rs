//! The result of one case: one object in JSON, one line of the table.

use serde::{Deserialize, Serialize};

use crate::case::{Case, Contender, Load};
use crate::report::Report;
use crate::series::Series;

/// One row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The case's parameters.
    #[serde(flatten)]
    pub case: Case,
    /// Phases that it ran in.
    pub rounds: usize,
    /// Calls per entry of the distribution: above 1, percentiles are percentiles of batch means.
    pub batch: u64,
    /// Calls measured.
    pub calls: u64,
    /// Seconds that they took, pauses included.
    pub seconds: f64,
    /// Latency in nanoseconds, as all following: every round counts the same, however many calls it had time for.
    pub p50_ns: f64,
    /// Latency in nanoseconds.
    pub p90_ns: f64,
    /// Latency in nanoseconds.
    pub p99_ns: f64,
    /// Latency in nanoseconds.
    pub p999_ns: f64,
    /// Latency in nanoseconds.
    pub max_ns: f64,
    /// The median first call of a burst.
    pub first_call_p50_ns: Option<f64>,
    /// Calls per second, all sessions together.
    pub calls_per_second: f64,
    /// Payload bytes per second, one way.
    pub bytes_per_second: Option<f64>,
    /// The slowest busy session, where there are several.
    pub slowest_session_per_second: Option<f64>,
    /// The fastest busy session, where there are several.
    pub fastest_session_per_second: Option<f64>,
    /// Processor time per call, user and system.
    pub client_cpu_ns_per_call: f64,
    /// Processor time per call, user and system.
    pub server_cpu_ns_per_call: f64,
    /// Context switches per call.
    pub client_switches_per_call: f64,
    /// Context switches per call.
    pub server_switches_per_call: f64,
    /// System calls of both sides per call; `null` where they were not counted.
    pub system_calls_per_call: Option<f64>,
    /// What the ratio compares with: a case of the same run.
    pub baseline: Option<Contender>,
    /// The median over the rounds of this case's p50 divided by the baseline's in the same round; one way, where a
    /// writer waits seldom and long, of the mean time for a piece.
    pub ratio: Option<f64>,
}

impl Row {
    /// The row of one case of a series, without a baseline.
    pub fn new(series: &Series, index: usize) -> Row {
        let report = series.pooled(index);
        let calls = report.calls.max(1) as f64;
        let rates = &report.session_rates;
        let bursts = !report.first.is_empty();
        Row {
            case: *series.case(index),
            rounds: series.rounds(index).len(),
            batch: report.batch,
            calls: report.calls,
            seconds: report.elapsed as f64 / 1e9,
            p50_ns: report.percentile(50.0),
            p90_ns: report.percentile(90.0),
            p99_ns: report.percentile(99.0),
            p999_ns: report.percentile(99.9),
            max_ns: report.percentile(100.0),
            first_call_p50_ns: bursts.then(|| report.first_percentile(50.0)),
            calls_per_second: report.rate(),
            bytes_per_second: is_one_way(series.case(index)).then(|| report.rate() * series.case(index).size as f64),
            slowest_session_per_second: rates.iter().copied().reduce(f64::min),
            fastest_session_per_second: rates.iter().copied().reduce(f64::max),
            client_cpu_ns_per_call: report.client.cpu as f64 / calls,
            server_cpu_ns_per_call: report.server.cpu as f64 / calls,
            client_switches_per_call: report.client.switches as f64 / calls,
            server_switches_per_call: report.server.switches as f64 / calls,
            system_calls_per_call: None,
            baseline: None,
            ratio: None,
        }
    }

    /// The same with its ratio to another case of the series.
    pub fn against(self, series: &Series, index: usize, baseline: usize) -> Row {
        let figure: fn(&Report) -> f64 = match is_one_way(series.case(index)) {
            true => |report| 1.0 / report.rate(),
            false => |report| report.percentile(50.0),
        };
        let ratio = series.ratio(index, baseline, figure);
        Row { baseline: Some(series.case(baseline).contender), ratio: ratio.is_finite().then_some(ratio), ..self }
    }
}

fn is_one_way(case: &Case) -> bool {
    case.load == Load::OneWay
}
