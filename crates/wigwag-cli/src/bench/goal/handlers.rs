//! P16: handlers that take steadily long. The client should sleep through most of it, and be awake for the end.

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal, wigwag};
use wigwag_bench::case::{Case, WaitMode};
use wigwag_bench::report::Report;
use wigwag_bench::row::Row;

const SIZE: usize = 48;

/// How long a handler works, and what is allowed: beyond that time, and of the client's processor time in parts of it.
struct Limit {
    handler_us: u64,
    beyond_us: f64,
    client_share: f64,
}

const LIMITS: [Limit; 3] = [
    Limit { handler_us: 100, beyond_us: 15.0, client_share: 0.5 },
    Limit { handler_us: 1_000, beyond_us: 10.0, client_share: 0.1 },
    Limit { handler_us: 5_000, beyond_us: 10.0, client_share: 0.1 },
];

/// The default waiting; for information, that of who never spins.
pub fn long_ones(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let pair = |limit: &Limit| {
        [WaitMode::Park, WaitMode::Adaptive].map(|wait| wigwag(wait, SIZE).handled_for(limit.handler_us * 1_000))
    };
    let cases: Vec<Case> = LIMITS.iter().flat_map(pair).collect();
    let series = attempt.equal_series(&cases, 5)?;
    let (mut checks, mut rows, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (position, limit) in LIMITS.iter().enumerate() {
        let [park, ours] = [2 * position, 2 * position + 1];
        let handler_ns = (limit.handler_us * 1_000) as f64;
        let median = |index: usize, figure: &dyn Fn(&Report) -> f64| {
            let mut figures: Vec<f64> = series.rounds(index).iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let beyond_us = |index| median(index, &|report| (report.percentile(50.0) - handler_ns) / 1e3);
        let share = |index| median(index, &|report| report.client.cpu as f64 / report.calls.max(1) as f64 / handler_ns);
        let what = format!("handler of {} us", limit.handler_us);
        checks.extend([
            Check::at_most(format!("p50 beyond a {what}"), beyond_us(ours), limit.beyond_us, "us"),
            Check::at_most(format!("client's CPU, {what}"), share(ours), limit.client_share, "x the handler's"),
        ]);
        notes.push(format!("{what}: park is {:.1} us beyond, at {:.3} x", beyond_us(park), share(park)));
        rows.extend([park, ours].map(|index| Row::new(&series, index).against(&series, index, park)));
    }
    let verdict = Verdict::new(Goal::P16, checks, rows);
    Ok(notes.into_iter().fold(verdict, Verdict::noting))
}
