//! A run without a goal: every case that the options span, in interleaved rounds.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;

use super::options::BenchArgs;
use super::output::Output;
use super::table;
use wigwag_bench::case::{Case, Contender, Load};
use wigwag_bench::machine::Machine;
use wigwag_bench::meter::Extent;
use wigwag_bench::output;
use wigwag_bench::page::{Contestant, PERCENTILES, Page, Point};
use wigwag_bench::phase::Stage;
use wigwag_bench::placement::Pin;
use wigwag_bench::progress::Progress;
use wigwag_bench::row::Row;
use wigwag_bench::series::{Plan, Rounds, Series};
use wigwag_bench::system_calls;
use wigwag_bench::transport::Kind;

/// Rounds where nobody says otherwise.
const ROUNDS: u32 = 5;
/// Time per case and round where nobody says otherwise.
const SECONDS: f64 = 0.1;
/// The same where a number of calls is given: the number ends the phase.
const SECONDS_FOR_CALLS: f64 = 30.0;
/// The same where the bytes of a transfer are given.
const SECONDS_FOR_TOTAL: f64 = 600.0;

/// Measures and prints.
pub fn run(args: &BenchArgs, stage: &Stage, output: &mut Output) -> anyhow::Result<ExitCode> {
    let (cases, left_out) = cases(args, stage)?;
    for why in left_out {
        output::complain(&format!("wigwag bench: {why}"));
    }
    ensure!(!cases.is_empty(), "no case is left to measure");
    let plans = cases.into_iter().map(|case| Plan { case, extent: extent(args, &case) }).collect();
    // A whole transfer is long enough to be made once.
    let default = if args.total.is_some() { 1 } else { ROUNDS };
    let rounds = Rounds { most: args.rounds.unwrap_or(default) as usize, budget: Duration::MAX };
    let progress = Progress::new();
    let series = Series::run(stage, plans, rounds, &progress);
    for error in series.failures() {
        output::complain(&format!("wigwag bench: not measured: {error:#}"));
    }
    let mut rows = rows(&series, args.baseline);
    ensure!(!rows.is_empty(), "nothing could be measured");
    count_system_calls(stage, &mut rows, &progress);
    output.rows(&rows)?;
    output.page(|| page(&series, &rows))?;
    if output.is_human() {
        table::of_rows(&rows).print()?;
    }
    let complete = series.failures().next().is_none();
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How long a phase of a case is.
fn extent(args: &BenchArgs, case: &Case) -> Extent {
    let (seconds, calls) = match (args.calls, args.total) {
        (Some(calls), _) => (SECONDS_FOR_CALLS, calls),
        (None, Some(total)) => (SECONDS_FOR_TOTAL, total.div_ceil(case.size as u64)),
        (None, None) => (SECONDS, u64::MAX),
    };
    let extent = Extent::seconds(args.seconds.unwrap_or(seconds)).at_most(calls);
    Extent { warm_up: extent.warm_up.min(50_000_000), ..extent }
}

/// All cases, and why some are not among them.
fn cases(args: &BenchArgs, stage: &Stage) -> anyhow::Result<(Vec<Case>, Vec<String>)> {
    let load = args.load()?;
    let (mut cases, mut left_out) = (Vec::new(), Vec::new());
    let contenders: &[Contender] = if args.only.is_empty() { &Contender::ALL } else { &args.only };
    for &pin in &args.pin {
        for &size in &args.size {
            for &contender in contenders {
                for wait in contender.waits(&args.wait) {
                    let case = Case::new(contender, wait, size)
                        .pinned(pin)
                        .loaded(load)
                        .in_flight(args.in_flight as usize)
                        .sessions(args.sessions as usize, args.busy as usize);
                    match obstacle(&case, stage) {
                        None => cases.push(case),
                        // What a full matrix leaves out goes without saying.
                        Some(_) if args.only.is_empty() => {}
                        Some(why) => left_out.push(format!("left out: {case}: {why}")),
                    }
                }
            }
        }
    }
    Ok((cases, left_out))
}

fn obstacle(case: &Case, stage: &Stage) -> Option<&'static str> {
    if !stage.can_place(case) {
        return Some("needs two processors, and this process may use one");
    }
    if case.spins_on_one_processor() {
        return Some("would stand on the only processor that the other side needs");
    }
    case.obstacle()
}

/// The rows, each with its ratio to the baseline among its equals.
fn rows(series: &Series, named: Option<Contender>) -> Vec<Row> {
    let row = |index: usize| {
        let row = Row::new(series, index);
        match baseline(series, index, named) {
            Some(baseline) => row.against(series, index, baseline),
            None => row,
        }
    };
    series.indexes().map(row).collect()
}

/// The rows as a page shows them.
fn page(series: &Series, rows: &[Row]) -> Page {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| output::shell_word(&word)).collect();
    let contestant = |contender: &Contender| Contestant {
        name: contender.name().to_owned(),
        label: label(*contender),
        how: String::new(),
        missing: None,
    };
    let one_way = rows.iter().all(|row| row.case.load == Load::OneWay);
    let (ours, work) = match one_way {
        true => {
            (Contender::Stream, "the client fills every byte of each piece, the server reads every byte and checks it.")
        }
        false => (
            Contender::Wigwag,
            "the client fills every byte of a request, the server changes every byte, the client reads the whole \
             reply.",
        ),
    };
    Page {
        title: "Wigwag beside bare memory and the kernel's services".to_owned(),
        lead: format!(
            "Two processes: {work} All take turns, round after round. Ratios carry over to other machines, times do \
             not."
        ),
        ours: ours.name().to_owned(),
        commands: vec![format!("wigwag {}", words.join(" "))],
        machine: Machine::here(),
        contenders: Contender::ALL.iter().map(contestant).collect(),
        percentiles: PERCENTILES.to_vec(),
        rows: series.indexes().zip(rows).map(|(index, row)| Point::new(row.clone(), series, index)).collect(),
        idle: Vec::new(),
        crashes: Vec::new(),
        broadcasts: Vec::new(),
        left_out: Vec::new(),
    }
}

/// A contender's name, as a person calls it.
fn label(contender: Contender) -> String {
    let transport = Kind::ALL.iter().find(|kind| kind.name() == contender.name());
    match (transport, contender) {
        (Some(kind), _) => kind.label().to_owned(),
        (None, Contender::Stream) => "Wigwag stream".to_owned(),
        (None, Contender::StreamInPlace) => "Wigwag stream, in place".to_owned(),
        (None, _) => format!("{} (raw)", contender.name()),
    }
}

/// Counts where it means something and the machine allows it; the other rows keep their `null`.
fn count_system_calls(stage: &Stage, rows: &mut [Row], progress: &Progress) {
    for row in rows.iter_mut().filter(|row| system_calls::is_countable(&row.case)) {
        progress.show(&format!("counting system calls: {}", row.case));
        row.system_calls_per_call = stage.system_calls(&row.case).ok();
    }
    progress.clear();
}

/// The case to compare with: the same work in the same place, by the contender that was named or that fits best.
fn baseline(series: &Series, index: usize, named: Option<Contender>) -> Option<usize> {
    let case = series.case(index);
    let same_work = |other: &Case| {
        (other.pin, other.size, other.in_flight) == (case.pin, case.size, case.in_flight) && other.load == case.load
    };
    let preferred: Vec<Contender> = match (named, case.pin, case.load) {
        (Some(contender), ..) => vec![contender],
        (None, Pin::Two, Load::Closed) => vec![Contender::Limit, Contender::Raw64, Contender::Raw, Contender::Futex],
        (None, Pin::One, _) => vec![Contender::Futex, Contender::Unix],
        (None, ..) => vec![Contender::Unix, Contender::Futex],
    };
    let find = |contender: Contender| {
        series.indexes().find(|other| series.case(*other).contender == contender && same_work(series.case(*other)))
    };
    preferred.into_iter().find_map(find)
}
