//! P7, P8, P9: many sessions of one server, idle or busy.

use std::time::Duration;

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal, wigwag};
use wigwag_bench::case::WaitMode;
use wigwag_bench::meter::Extent;
use wigwag_bench::placement::Pin;
use wigwag_bench::report::median;
use wigwag_bench::role::raise_descriptor_limit;
use wigwag_bench::row::Row;
use wigwag_bench::usage::Usage;

const SIZE: usize = 48;
/// Descriptors that a session takes in one process, rounded up.
const DESCRIPTORS_PER_SESSION: usize = 6;
/// Descriptors that a process needs besides.
const DESCRIPTORS_BESIDES: usize = 64;

/// P7: one busy session beside many idle ones, against the same alone.
pub fn beside_idle_ones(attempt: &Attempt) -> anyhow::Result<Verdict> {
    const IDLE: usize = 1000;
    let room = raise_descriptor_limit()?.saturating_sub(DESCRIPTORS_BESIDES) / DESCRIPTORS_PER_SESSION;
    let idle = IDLE.min(room);
    let alone = wigwag(WaitMode::Adaptive, SIZE);
    let series = attempt.equal_series(&[alone, alone.sessions(idle + 1, 1)], 15)?;
    let ratio = series.ratio(1, 0, |report| report.percentile(50.0));
    let check = Check::at_most(format!("p50 beside {idle} idle sessions"), ratio, 1.05, "x alone");
    let rows = vec![Row::new(&series, 0), Row::new(&series, 1).against(&series, 1, 0)];
    let verdict = Verdict::new(Goal::P7, vec![check], rows);
    if idle == IDLE {
        return Ok(verdict);
    }
    Ok(verdict.noting(format!("only {idle} idle sessions: the hard limit of open descriptors allows no more")))
}

/// P8: the rates of busy sessions that share one server thread.
pub fn fairness(attempt: &Attempt) -> anyhow::Result<Verdict> {
    const BUSY: usize = 8;
    let series = attempt.equal_series(&[wigwag(WaitMode::Adaptive, SIZE).sessions(BUSY, BUSY)], 8)?;
    let spread = |rates: &[f64]| {
        let fastest = rates.iter().copied().fold(f64::NAN, f64::max);
        fastest / rates.iter().copied().fold(f64::NAN, f64::min)
    };
    let spreads: Vec<f64> = series.rounds(0).iter().map(|report| spread(&report.session_rates)).collect();
    let note =
        format!("max/min of each round: {}", spreads.iter().map(|it| format!("{it:.2}")).collect::<Vec<_>>().join(" "));
    let check = Check::at_most("max/min of 8 rates", median(spreads), 1.2, "x");
    Ok(Verdict::new(Goal::P8, vec![check], vec![Row::new(&series, 0)]).noting(note))
}

/// P9: sessions that have been used once and then are left alone.
pub fn idleness(attempt: &Attempt) -> anyhow::Result<Verdict> {
    const SESSIONS: usize = 100;
    /// In this time both sides come to rest.
    const SETTLING: Duration = Duration::from_secs(1);
    let rest = Duration::from_secs_f64(attempt.seconds.min(10.0));
    let case = wigwag(WaitMode::Adaptive, SIZE).pinned(Pin::None).sessions(SESSIONS, 0);
    let scene = attempt.stage.set(&case, Extent::seconds(0.0))?;
    let idler = scene.idler.as_ref().map(|idler| idler.process());
    let processes = [Some(scene.server.process()), idler].into_iter().flatten();
    let used = || processes.clone().map(Usage::of).collect::<anyhow::Result<Vec<Usage>>>();
    attempt.progress.show(&format!("watching {SESSIONS} idle sessions for {} s", rest.as_secs_f64()));
    std::thread::sleep(SETTLING.min(rest));
    let before = used()?;
    std::thread::sleep(rest);
    let after = used()?;
    attempt.progress.clear();
    let differences = after.into_iter().zip(before).map(|(after, before)| after - before);
    let [mut switches, mut cpu] = [0, 0];
    for difference in differences {
        switches += difference.switches;
        cpu += difference.cpu;
    }
    let over = format!("in {} s", rest.as_secs_f64());
    let checks = vec![
        Check::at_most("both sides", switches as f64, 0.0, format!("wake-ups {over}")),
        Check::at_most("both sides", cpu as f64 / 1e3, 0.0, format!("us of CPU {over}")),
    ];
    Ok(Verdict::new(Goal::P9, checks, Vec::new()))
}
