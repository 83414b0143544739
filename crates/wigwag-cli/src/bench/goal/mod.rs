//! The project's goals as presets: each measures what it needs, beside its baseline, and says whether it is met.
//!
//! What a goal asks for stands in the table of `docs/benchmarks.md`; the numbers here are those numbers. A preset is
//! given time, not counts, so that it ends within 40 seconds on any machine.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use super::options::BenchArgs;
use super::output::Output;
use super::table::{self, Table};
use crate::output;
use wigwag_bench::case::{Case, Contender, WaitMode};
use wigwag_bench::meter::Extent;
use wigwag_bench::phase::Stage;
use wigwag_bench::progress::Progress;
use wigwag_bench::series::{Plan, Rounds, Series};

pub mod broadcasts;
mod closed;
mod connect;
pub mod foreign;
mod handlers;
mod ledger;
pub mod messages;
mod others;
mod pace;
pub mod permits;
mod policy;
pub mod restarts;
mod sessions;
mod sizes;
mod streams;
mod tasks;
mod verdict;

use verdict::Verdict;

/// Seconds for a preset where nobody says otherwise.
const SECONDS: f64 = 34.0;
/// What starting and ending the processes of a phase takes, about.
const OVERHEAD: f64 = 0.015;
/// The least that a phase is given, however little time there is.
const SHORTEST_PHASE: f64 = 0.004;

/// A goal, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Goal {
    /// 48 B, busy waiting, two processors
    P1,
    /// 48 B, default waiting, closed loop
    P2,
    /// 128 B to 1 MiB, busy waiting
    P3,
    /// 48 B, 64 in flight
    P4,
    /// Both on one processor, default waiting
    P5,
    /// Paced calls, default waiting, nobody pinned
    P6,
    /// Bursts, default waiting, nobody pinned
    #[value(name = "P6b")]
    #[serde(rename = "P6b")]
    P6B,
    /// No trap at any pause between calls, nobody pinned
    #[value(name = "P6c")]
    #[serde(rename = "P6c")]
    P6C,
    /// One busy session beside 1,000 idle ones
    P7,
    /// Eight busy sessions and one server thread
    P8,
    /// Idle means idle
    P9,
    /// Connecting
    P10,
    /// A stream beside a Unix socket: 64 KiB writes, 64 B there and back
    P11,
    /// A semaphore's permit that is free
    P12,
    /// Calls between tasks on tokio
    P13,
    /// 64 KiB to 4 MiB, default waiting beside busy waiting
    P15,
    /// Handlers that take 100 us to 5 ms, default waiting
    P16,
    /// The waiting policy on recorded wake-ups
    P19,
    /// What statistics cost a call
    S1,
    /// Messages one way, beside a message queue and a datagram socket
    Q1,
    /// A publish to nobody, and beside 999 stopped subscribers
    B1,
    /// A publish to 999 subscribers that sleep
    #[value(name = "B1b")]
    #[serde(rename = "B1b")]
    B1B,
    /// From publish to read, beside a call
    B2,
    /// Messages a second to 1, 4 and 16 subscribers
    B3,
    /// Planned restarts under 100 clients that follow
    R1,
    /// A call from C, in a checkout
    C1,
    /// Each of them but C1, which compiles a library and a program, one after the other
    #[value(name = "all")]
    All,
}

impl Goal {
    const EACH: [Goal; 25] = [
        Goal::P1,
        Goal::P2,
        Goal::P3,
        Goal::P4,
        Goal::P5,
        Goal::P6,
        Goal::P6B,
        Goal::P6C,
        Goal::P7,
        Goal::P8,
        Goal::P9,
        Goal::P10,
        Goal::P11,
        Goal::P12,
        Goal::P13,
        Goal::P15,
        Goal::P16,
        Goal::P19,
        Goal::S1,
        Goal::Q1,
        Goal::B1,
        Goal::B1B,
        Goal::B2,
        Goal::B3,
        Goal::R1,
    ];

    /// Measures it. Some goals confine this thread to one processor: the next one may use all again.
    fn measure(self, attempt: &Attempt) -> anyhow::Result<Verdict> {
        let allowed = sched_getaffinity(None).context("the allowed processors cannot be read")?;
        let verdict = self.measure_here(attempt);
        sched_setaffinity(None, &allowed).context("the allowed processors cannot be used again")?;
        verdict
    }

    fn measure_here(self, attempt: &Attempt) -> anyhow::Result<Verdict> {
        match self {
            Goal::P1 => closed::one_call(attempt, self, WaitMode::Spin, 1.15),
            Goal::P2 => closed::one_call(attempt, self, WaitMode::Adaptive, 1.25),
            Goal::P3 => sizes::bodies(attempt),
            Goal::P4 => closed::in_flight(attempt),
            Goal::P5 => closed::one_processor(attempt),
            Goal::P6 => pace::paced(attempt),
            Goal::P6B => pace::bursts(attempt),
            Goal::P6C => pace::pauses(attempt),
            Goal::P7 => sessions::beside_idle_ones(attempt),
            Goal::P8 => sessions::fairness(attempt),
            Goal::P9 => sessions::idleness(attempt),
            Goal::P10 => connect::connecting(attempt),
            Goal::P11 => streams::beside_sockets(attempt),
            Goal::P12 => permits::taking(attempt),
            Goal::P13 => tasks::exchanges(attempt),
            Goal::P15 => sizes::waiting(attempt),
            Goal::P16 => handlers::long_ones(attempt),
            Goal::P19 => policy::replayed(attempt),
            Goal::S1 => closed::statistics(attempt),
            Goal::Q1 => messages::one_way(attempt),
            Goal::B1 => broadcasts::nobody_and_the_stopped(attempt),
            Goal::B1B => broadcasts::to_sleepers(attempt),
            Goal::B2 => broadcasts::one_way_time(attempt),
            Goal::B3 => broadcasts::rates(attempt),
            Goal::R1 => restarts::planned(attempt),
            Goal::C1 => foreign::calls(attempt),
            Goal::All => anyhow::bail!("all goals are not one goal"),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        out.write_str(name.as_ref().map_or("", |name| name.get_name()))
    }
}

/// What a preset has to work with.
struct Attempt<'a> {
    stage: &'a Stage,
    progress: &'a Progress,
    seconds: f64,
    rounds: Option<usize>,
}

impl Attempt<'_> {
    /// Measures some cases in rounds, each case with its share of the time.
    fn series(&self, shares: Vec<(Case, f64)>, rounds: usize) -> anyhow::Result<Series> {
        let rounds = self.rounds.unwrap_or(rounds);
        let whole: f64 = shares.iter().map(|(_, share)| share).sum();
        let per_round = (self.seconds / rounds as f64 - OVERHEAD * shares.len() as f64).max(0.0);
        let plan = |(case, share): (Case, f64)| {
            // The warm-up takes a tenth on top.
            let seconds = per_round * share / whole / 1.1;
            Plan { case, extent: Extent::seconds(seconds.max(SHORTEST_PHASE)) }
        };
        let plans = shares.into_iter().map(plan).collect();
        let limit = Rounds { most: rounds, budget: Duration::from_secs_f64(self.seconds * 1.1) };
        Series::run(self.stage, plans, limit, self.progress).whole()
    }

    /// The same with equal shares.
    fn equal_series(&self, cases: &[Case], rounds: usize) -> anyhow::Result<Series> {
        self.series(cases.iter().map(|case| (*case, 1.0)).collect(), rounds)
    }
}

/// Measures a goal, or all, and prints figures and verdicts; the verdict comes last.
pub fn run(goal: Goal, args: &BenchArgs, stage: &Stage, output: &mut Output) -> anyhow::Result<ExitCode> {
    let progress = Progress::new();
    let attempt = Attempt {
        stage,
        progress: &progress,
        seconds: args.seconds.unwrap_or(SECONDS),
        rounds: args.rounds.map(|rounds| rounds as usize),
    };
    let met = match goal {
        Goal::All => run_all(&attempt, output)?,
        one => {
            let verdict = one.measure(&attempt)?;
            show(&verdict, output)?;
            verdict.met
        }
    };
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All goals. One that cannot be measured does not keep the others from it.
fn run_all(attempt: &Attempt, output: &mut Output) -> anyhow::Result<bool> {
    let mut verdicts = Vec::new();
    for goal in Goal::EACH {
        let verdict = goal.measure(attempt).unwrap_or_else(|error| Verdict::unmeasured(goal, &error));
        show(&verdict, output)?;
        verdicts.push(verdict);
    }
    if output.is_human() {
        output::line("")?;
        for verdict in &verdicts {
            output::line(&verdict.line())?;
        }
    }
    Ok(verdicts.iter().all(|verdict| verdict.met))
}

fn show(verdict: &Verdict, output: &mut Output) -> anyhow::Result<()> {
    output.rows(&verdict.rows)?;
    output.object(verdict)?;
    if !output.is_human() {
        return Ok(());
    }
    if !verdict.rows.is_empty() {
        table::of_rows(&verdict.rows).print()?;
    }
    if verdict.checks.len() > 1 {
        let mut table = Table::new(["what", "figure", "goal", "verdict"]);
        for check in &verdict.checks {
            table.push([check.what.clone(), check.figure(), check.target(), verdict::word(check.met).to_owned()]);
        }
        table.print()?;
    }
    for note in &verdict.notes {
        output::line(note)?;
    }
    output::line(&verdict.line())
}

/// One session of Wigwag in a closed loop on two processors.
fn wigwag(wait: WaitMode, size: usize) -> Case {
    Case::new(Contender::Wigwag, wait, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_has_the_name_of_the_design() {
        let names: Vec<String> = Goal::EACH.iter().map(Goal::to_string).collect();
        assert_eq!(
            names.join(" "),
            "P1 P2 P3 P4 P5 P6 P6b P6c P7 P8 P9 P10 P11 P12 P13 P15 P16 P19 S1 Q1 B1 B1b B2 B3 R1"
        );
        for goal in Goal::EACH.into_iter().chain([Goal::C1]) {
            assert_eq!(serde_json::to_string(&goal).unwrap(), format!("\"{goal}\""));
            assert_eq!(Goal::from_str(&goal.to_string().to_lowercase(), true), Ok(goal));
        }
    }
}
