//! P3: bodies of 128 B to 1 MiB against the same work in place and in two buffers. P15: the default waiting at large
//! bodies, whose calls take longer than a wake-up.

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal, wigwag};
use wigwag_bench::case::{Case, Contender, WaitMode};
use wigwag_bench::placement::Pin;
use wigwag_bench::report::Report;
use wigwag_bench::row::Row;

const SIZES: [usize; 9] = [128, 256, 512, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// Per size: the two baselines, copying for information, Wigwag.
const CONTENDERS: [Contender; 4] = [Contender::Raw, Contender::TwoBuffers, Contender::Copy, Contender::Wigwag];

/// What may be used of plain in-place's time.
fn limit_in_place(size: usize) -> f64 {
    match size {
        ..=512 => 0.85,
        513..=65_536 => 0.95,
        _ => 1.03,
    }
}

/// What may be used of two buffers' time.
const LIMIT_TWO_BUFFERS: f64 = 0.85;

/// Both ratios at every size; each has to keep its limit.
pub fn bodies(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let case = |size: usize, contender: Contender| match contender {
        Contender::Wigwag => wigwag(WaitMode::Spin, size),
        raw => Case::new(raw, WaitMode::Spin, size),
    };
    let cases: Vec<Case> = SIZES.iter().flat_map(|size| CONTENDERS.map(|contender| case(*size, contender))).collect();
    let series = attempt.equal_series(&cases, 10)?;
    let (mut checks, mut rows) = (Vec::new(), Vec::new());
    for (position, size) in SIZES.into_iter().enumerate() {
        let raw = position * CONTENDERS.len();
        let [two_buffers, copy, ours] = [raw + 1, raw + 2, raw + 3];
        let ratio = |baseline: usize| series.ratio(ours, baseline, |report| report.percentile(50.0));
        checks.push(Check::at_most(format!("{size} B in place"), ratio(raw), limit_in_place(size), "x raw"));
        let limit = LIMIT_TWO_BUFFERS;
        checks.push(Check::at_most(format!("{size} B two buffers"), ratio(two_buffers), limit, "x two-buffers"));
        rows.extend([raw, two_buffers, copy, ours].map(|index| Row::new(&series, index).against(&series, index, raw)));
    }
    Ok(Verdict::new(Goal::P3, checks, rows))
}

/// P15: the default waiting against polling, both of ours.
pub fn waiting(attempt: &Attempt) -> anyhow::Result<Verdict> {
    const LARGE: [usize; 4] = [64 << 10, 256 << 10, 1 << 20, 4 << 20];
    const PINS: [Pin; 2] = [Pin::Two, Pin::None];
    let pair = |size: usize, pin: Pin| [WaitMode::Spin, WaitMode::Adaptive].map(|wait| wigwag(wait, size).pinned(pin));
    let cases: Vec<Case> = PINS.iter().flat_map(|pin| LARGE.iter().flat_map(|size| pair(*size, *pin))).collect();
    let series = attempt.equal_series(&cases, 7)?;
    let (mut checks, mut rows) = (Vec::new(), Vec::new());
    for (spin, case) in cases.iter().enumerate().step_by(2) {
        let adaptive = spin + 1;
        let what = format!("{} KiB, {} processors", case.size >> 10, if case.pin == Pin::Two { "two" } else { "any" });
        let ratio = |figure: fn(&Report) -> f64| series.ratio(adaptive, spin, figure);
        checks.push(Check::at_most(
            format!("p50, {what}"),
            ratio(|report| report.percentile(50.0)),
            1.10,
            "x always-spin",
        ));
        checks.push(Check::at_most(format!("CPU, {what}"), ratio(Report::cpu_per_call), 1.15, "x always-spin"));
        rows.extend([spin, adaptive].map(|index| Row::new(&series, index).against(&series, index, spin)));
    }
    Ok(Verdict::new(Goal::P15, checks, rows))
}
