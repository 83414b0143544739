//! P6, P6b, P6c: calls with pauses between them, nobody pinned, against a Unix socket and against ourselves.

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal, wigwag};
use wigwag_bench::case::{Case, Contender, Load, WaitMode};
use wigwag_bench::placement::Pin;
use wigwag_bench::report::Report;
use wigwag_bench::row::Row;
use wigwag_bench::series::Series;

const SIZE: usize = 48;
const MICROSECOND: u64 = 1_000;
const UNIX: &str = "x unix";

fn unix() -> Case {
    Case::new(Contender::Unix, WaitMode::Park, SIZE).pinned(Pin::None)
}

fn ours(wait: WaitMode) -> Case {
    wigwag(wait, SIZE).pinned(Pin::None)
}

fn p50(report: &Report) -> f64 {
    report.percentile(50.0)
}

/// A ratio of tails or sums: of all rounds as one, because one round has too few slow calls.
fn pooled_ratio(series: &Series, index: usize, baseline: usize, figure: impl Fn(&Report) -> f64) -> f64 {
    figure(&series.pooled(index)) / figure(&series.pooled(baseline))
}

/// P6: steady rates.
pub fn paced(attempt: &Attempt) -> anyhow::Result<Verdict> {
    // A slow rate needs more time for as many calls.
    let rates = [(100.0, 8.0), (1_000.0, 4.0), (10_000.0, 3.0)];
    let pair = |(rate, share)| {
        let load = Load::Paced { rate };
        [(unix().loaded(load), share), (ours(WaitMode::Adaptive).loaded(load), share)]
    };
    let series = attempt.series(rates.into_iter().flat_map(pair).collect(), 3)?;
    let (mut checks, mut rows) = (Vec::new(), Vec::new());
    for (position, (rate, _)) in rates.into_iter().enumerate() {
        let (baseline, index) = (2 * position, 2 * position + 1);
        let tail = pooled_ratio(&series, index, baseline, |report| report.percentile(99.0));
        let cpu = pooled_ratio(&series, index, baseline, Report::cpu_per_call);
        checks.extend([
            Check::at_most(format!("p50 at {rate}/s"), series.ratio(index, baseline, p50), 0.8, UNIX),
            Check::at_most(format!("p99 at {rate}/s"), tail, 1.0, UNIX),
            Check::at_most(format!("CPU at {rate}/s"), cpu, 1.0, UNIX),
        ]);
        rows.extend([baseline, index].map(|case| Row::new(&series, case).against(&series, case, baseline)));
    }
    Ok(Verdict::new(Goal::P6, checks, rows))
}

/// P6b: bursts with long pauses.
pub fn bursts(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let load = Load::Bursts { burst: 64, pause_ns: 10_000 * MICROSECOND };
    let series = attempt.equal_series(&[unix().loaded(load), ours(WaitMode::Adaptive).loaded(load)], 4)?;
    let first = series.ratio(1, 0, |report| report.first_percentile(50.0));
    let checks = vec![
        Check::at_most("p50 of all calls", series.ratio(1, 0, p50), 0.1, UNIX),
        Check::at_most("p50 of each burst's first call", first, 1.0, UNIX),
    ];
    let rows = vec![Row::new(&series, 0), Row::new(&series, 1).against(&series, 1, 0)];
    let firsts = rows.iter().map(|row| {
        let first = row.first_call_p50_ns.unwrap_or(f64::NAN);
        format!("{} {}", row.case.contender.name(), crate::output::duration(first))
    });
    let note = format!("first call of a burst, p50: {}", firsts.collect::<Vec<_>>().join(", "));
    Ok(Verdict::new(Goal::P6B, checks, rows).noting(note))
}

/// P6c: no pause at which the default is a bad choice.
pub fn pauses(attempt: &Attempt) -> anyhow::Result<Verdict> {
    const PAUSES: [u64; 11] = [0, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000];
    let four = |pause: u64| {
        let load = Load::Bursts { burst: 1, pause_ns: pause * MICROSECOND };
        // At 10 ms it takes longer to have enough calls.
        let share = if pause < 10_000 { 1.0 } else { 5.0 };
        let cases = [unix(), ours(WaitMode::Spin), ours(WaitMode::Park), ours(WaitMode::Adaptive)];
        cases.map(|case| (case.loaded(load), share))
    };
    let series = attempt.series(PAUSES.into_iter().flat_map(four).collect(), 3)?;
    let (mut checks, mut rows) = (Vec::new(), Vec::new());
    for (position, pause) in PAUSES.into_iter().enumerate() {
        let socket = 4 * position;
        let [spin, park, adaptive] = [socket + 1, socket + 2, socket + 3];
        let mut check = |what: &str, value: f64, limit: f64, unit: &str| {
            checks.push(Check::at_most(format!("{what} at {pause} us"), value, limit, unit));
        };
        if pause <= 10 {
            check("p50", series.ratio(adaptive, spin, p50), 1.3, "x always-spin");
        }
        if pause >= 50 {
            check("p50", series.ratio(adaptive, park, p50), 1.2, "x always-sleep");
            let cpu = pooled_ratio(&series, adaptive, park, Report::cpu_per_call);
            check("CPU", cpu, 1.3, "x always-sleep");
        }
        check("p50", series.ratio(adaptive, socket, p50), 1.0, UNIX);
        check("p90", pooled_ratio(&series, adaptive, socket, |report| report.percentile(90.0)), 1.0, UNIX);
        rows.extend([socket, spin, park, adaptive].map(|case| Row::new(&series, case).against(&series, case, socket)));
    }
    Ok(Verdict::new(Goal::P6C, checks, rows))
}
