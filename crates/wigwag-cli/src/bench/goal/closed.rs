//! P1, P2, P4, P5, S1: one session, 48 bytes, one call after the other or 64 at once.

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal, wigwag};
use wigwag_bench::case::{Case, Contender, WaitMode};
use wigwag_bench::placement::Pin;
use wigwag_bench::report::Report;
use wigwag_bench::row::Row;

const SIZE: usize = 48;
const IN_FLIGHT: usize = 64;

/// P1 and P2: a call against the one-line limit.
pub fn one_call(attempt: &Attempt, goal: Goal, wait: WaitMode, limit: f64) -> anyhow::Result<Verdict> {
    let cases = [Case::new(Contender::Limit, WaitMode::Spin, SIZE), wigwag(wait, SIZE)];
    let series = attempt.equal_series(&cases, 60)?;
    let ratio = series.ratio(1, 0, |report| report.percentile(50.0));
    let check = Check::at_most(format!("48 B, {wait}"), ratio, limit, "x limit");
    let rows = vec![Row::new(&series, 0), Row::new(&series, 1).against(&series, 1, 0)];
    Ok(Verdict::new(goal, vec![check], rows))
}

/// P4: many calls in flight against the raw ring. The default way of waiting has to reach it as well as spinning.
pub fn in_flight(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let cases = [
        Case::new(Contender::Raw64, WaitMode::Spin, SIZE).in_flight(IN_FLIGHT),
        wigwag(WaitMode::Spin, SIZE).in_flight(IN_FLIGHT),
        wigwag(WaitMode::Adaptive, SIZE).in_flight(IN_FLIGHT),
    ];
    let series = attempt.equal_series(&cases, 40)?;
    let check = |index: usize| {
        let ratio = series.ratio(index, 0, Report::rate);
        Check::at_least(format!("rate, {}", cases[index].wait), ratio, 0.5, "x raw64's rate")
    };
    let rows = (0..cases.len()).map(|index| Row::new(&series, index).against(&series, index, 0)).collect();
    Ok(Verdict::new(Goal::P4, vec![check(1), check(2)], rows))
}

/// P5: both on one processor against the futex ping-pong. A side that spins there takes the other side's time slice
/// away, and a call then takes milliseconds: none may, but for what the machine itself does now and then.
pub fn one_processor(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let cases = [
        Case::new(Contender::Futex, WaitMode::Park, SIZE).pinned(Pin::One),
        wigwag(WaitMode::Adaptive, SIZE).pinned(Pin::One),
    ];
    let series = attempt.equal_series(&cases, 40)?;
    let ratio = series.ratio(1, 0, |report| report.percentile(50.0));
    let slowest = series.pooled(1).percentile(99.9) / 1e3;
    let checks = vec![
        Check::at_most("p50", ratio, 1.15, "x futex"),
        Check::at_most("p99.9: nobody spun off the processor", slowest, 500.0, "us"),
    ];
    let rows = vec![Row::new(&series, 0), Row::new(&series, 1).against(&series, 1, 0)];
    Ok(Verdict::new(Goal::P5, checks, rows))
}

/// S1: a server that counts its calls against one that does not.
pub fn statistics(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let pair = |wait, in_flight| {
        let uncounted = Case::new(Contender::Uncounted, wait, SIZE).in_flight(in_flight);
        [uncounted, wigwag(wait, SIZE).in_flight(in_flight)]
    };
    let cases = [pair(WaitMode::Spin, 1), pair(WaitMode::Adaptive, 1), pair(WaitMode::Spin, IN_FLIGHT)].concat();
    let series = attempt.equal_series(&cases, 40)?;
    let check = |index: usize, what: &str| {
        let ratio = series.ratio(index, index - 1, |report| 1.0 / report.rate());
        Check::at_most(format!("48 B, {what}"), ratio, 1.02, "x without")
    };
    let checks = vec![check(1, "spin"), check(3, "adaptive"), check(5, "64 in flight")];
    let rows = (0..cases.len()).map(|index| Row::new(&series, index).against(&series, index, index - index % 2));
    Ok(Verdict::new(Goal::S1, checks, rows.collect()))
}
