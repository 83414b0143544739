//! P11: a stream beside a Unix stream socket, and a pipe: 64 KiB writes one way, and 64 bytes there and back.

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal};
use wigwag_bench::case::{Case, Contender, Load, WaitMode};
use wigwag_bench::report::Report;
use wigwag_bench::row::Row;

const WRITE: usize = 64 << 10;
const MESSAGE: usize = 64;

/// P11. The stream is used as the socket is: `Read`, `Write`, and its default waiting.
pub(super) fn beside_sockets(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let one_way = |contender, wait| Case::new(contender, wait, WRITE).loaded(Load::OneWay);
    let cases = [
        one_way(Contender::Unix, WaitMode::Park),
        one_way(Contender::Stream, WaitMode::Adaptive),
        one_way(Contender::StreamInPlace, WaitMode::Adaptive),
        one_way(Contender::Pipe, WaitMode::Park),
        Case::new(Contender::Unix, WaitMode::Park, MESSAGE),
        Case::new(Contender::Stream, WaitMode::Adaptive, MESSAGE),
        Case::new(Contender::Pipe, WaitMode::Park, MESSAGE),
    ];
    let series = attempt.equal_series(&cases, 30)?;
    let throughput = series.ratio(1, 0, Report::rate);
    let round_trip = series.ratio(5, 4, |report| report.percentile(50.0));
    let checks = vec![
        Check::at_least("64 KiB writes, throughput", throughput, 3.0, "x unix"),
        Check::at_most("64 B there and back, p50", round_trip, 0.02, "x unix"),
    ];
    let baseline = |index: usize| if index < 4 { 0 } else { 4 };
    let rows =
        (0..cases.len()).map(|index| Row::new(&series, index).against(&series, index, baseline(index))).collect();
    Ok(Verdict::new(Goal::P11, checks, rows))
}
