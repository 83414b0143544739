//! P13: calls between tasks, against a Unix socket between tasks.

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal};
use wigwag_bench::case::{Case, Contender, WaitMode};
use wigwag_bench::placement::Pin;
use wigwag_bench::report::Report;
use wigwag_bench::row::Row;

const SIZE: usize = 48;
const TASKS: usize = 64;

/// P13: one task that calls, and for information 64.
pub fn exchanges(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let socket = Case::new(Contender::TokioUnix, WaitMode::Park, SIZE).pinned(Pin::None);
    let ours = Case::new(Contender::Tokio, WaitMode::Adaptive, SIZE).pinned(Pin::None);
    let cases = [socket, ours, socket.in_flight(TASKS), ours.in_flight(TASKS)];
    let series = attempt.equal_series(&cases, 20)?;
    let p50 = |report: &Report| report.percentile(50.0);
    let check = Check::at_most("p50, one task", series.ratio(1, 0, p50), 0.5, "x tokio's UnixStream");
    let rows = [0, 1, 2, 3].map(|index| Row::new(&series, index).against(&series, index, index / 2 * 2));
    let rates = format!(
        "{TASKS} tasks over one session: {:.2} x the rate of as many sockets",
        series.ratio(3, 2, Report::rate)
    );
    Ok(Verdict::new(Goal::P13, vec![check], rows.into()).noting(rates))
}
