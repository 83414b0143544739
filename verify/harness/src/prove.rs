//! The command `cargo xtask prove`: each goal in a process of its own, so that one that crashes or hangs is a finding
//! and not the end; a table at the end.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use serde::Serialize;

use crate::goals::{self, Goal};
use crate::outcome::{Outcome, Verdict};
use crate::scale::{Scale, Trial};

/// Work on Wigwag itself.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show that nothing is lost when processes are killed, stopped or lie
    #[command(after_help = EXAMPLES)]
    Prove(ProveArguments),
    /// Try one goal in this process and print what came of it as JSON
    #[command(hide = true)]
    ProveOne {
        /// The goal
        goal: String,
        /// The trial as JSON
        trial: String,
    },
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask prove                          every goal, 25 minutes
  cargo xtask prove --only G3                one goal; its name, killed-at-every-step, does as well
  cargo xtask prove --only G1 --kills 100000
  cargo xtask prove --full                   the long form: some hours
  cargo xtask prove --json proof.json        for scripts
  cargo xtask prove --markdown docs/reliability.md
  cargo xtask prove --list                   what the goals are

It exits with 0 when every goal that can be tried here is met, with 1 when one is not, with 2 on wrong usage.";

#[derive(Args)]
struct ProveArguments {
    /// Only these goals, by number or name, such as G3 or semaphores,streams
    #[arg(long, value_delimiter = ',', value_name = "GOAL")]
    only: Vec<String>,
    /// The long form: every instruction, a hundred times the kills; hours
    #[arg(long, conflicts_with = "scale")]
    full: bool,
    /// How much is tried
    #[arg(long, default_value = "ci", hide = true)]
    scale: Scale,
    /// Kills in each storm of kills, instead of the usual number
    #[arg(long, value_name = "NUMBER")]
    kills: Option<u64>,
    /// Where all randomness comes from; printed, so that a finding can be seen again
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Of G27, histories of each form, instead of the usual number
    #[arg(long, value_name = "NUMBER")]
    histories: Option<u64>,
    /// Of G27, only the history with that seed, again and again
    #[arg(long, value_name = "SEED")]
    history: Option<u64>,
    /// Write what came of it to a file; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the figures into the table of a document such as docs/reliability.md; goals that were not tried keep
    /// theirs
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// List the goals, and try none
    #[arg(long)]
    list: bool,
}

/// The program.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Task::Prove(arguments) => prove(&arguments),
        Task::ProveOne { goal, trial } => prove_one(&goal, &trial),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}.");
        ExitCode::from(2)
    })
}

/// One line of the table.
#[derive(Serialize)]
pub struct Row {
    /// Its number: `G3`.
    pub goal: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// How long it took.
    pub seconds: f64,
    #[serde(flatten)]
    /// What came of it.
    pub outcome: Outcome,
}

#[derive(Serialize)]
struct Report<'a> {
    trial: &'a Trial,
    seconds: f64,
    goals: &'a [Row],
}

fn prove(arguments: &ProveArguments) -> anyhow::Result<ExitCode> {
    let goals = chosen(&arguments.only)?;
    if arguments.list {
        for goal in goals {
            println!("{:>4}  {:<22} {}", goal.id, goal.name, goal.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scale = if arguments.full { Scale::Full } else { arguments.scale };
    let ProveArguments { kills, histories, history, .. } = *arguments;
    let trial = Trial { scale, seed: arguments.seed.unwrap_or_else(random_seed), kills, histories, history };
    eprintln!("seed {}", trial.seed);
    let begin = Instant::now();
    let rows = goals.iter().map(|goal| try_goal(goal, &trial)).collect::<anyhow::Result<Vec<Row>>>()?;
    let seconds = begin.elapsed().as_secs_f64();
    print_table(&rows, seconds, arguments.json.as_deref() == Some("-".as_ref()))?;
    if let Some(file) = &arguments.json {
        let report = serde_json::to_string_pretty(&Report { trial: &trial, seconds, goals: &rows })?;
        match file.to_str() {
            Some("-") => println!("{report}"),
            _ => std::fs::write(file, report + "\n").with_context(|| format!("cannot write {}", file.display()))?,
        }
    }
    if let Some(file) = &arguments.markdown {
        let old = std::fs::read_to_string(file).unwrap_or_default();
        std::fs::write(file, with_figures(&old, &rows, &trial))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let all_met = rows.iter().all(|row| row.outcome.verdict != Verdict::NotMet);
    Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Goal>> {
    if only.is_empty() {
        return Ok(goals::all());
    }
    let find = |id: &String| {
        goals::find(id.trim()).with_context(|| format!("there is no goal `{id}`: `cargo xtask prove --list` has all"))
    };
    only.iter().map(find).collect()
}

fn random_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    wigwag_testing::word(since.as_nanos() as u64, u64::from(std::process::id())) >> 32
}

/// Tries a goal in a process of its own.
fn try_goal(goal: &'static Goal, trial: &Trial) -> anyhow::Result<Row> {
    let progress = progress(goal);
    // Who asks for more than the usual asks for the time that it takes, too.
    let has_own_size = trial.kills.is_some() || trial.histories.is_some();
    let limit_s = goal.limit_s[if has_own_size { Scale::Full } else { trial.scale } as usize];
    let begin = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["prove-one", goal.id, &serde_json::to_string(trial)?])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process for a goal")?;
    let said = read_all(child.stdout.take());
    let complained = read_all(child.stderr.take());
    let ended = wait(&mut child, Duration::from_secs(limit_s), || progress.tick())?;
    let said = said.join().unwrap_or_default();
    let complained = complained.join().unwrap_or_default();
    let outcome = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_else(|_| {
        let why = match ended {
            Some(status) => format!("its process ended: {status}"),
            None => format!("its process did not end within {limit_s} s, and was killed"),
        };
        Outcome::of("the trial broke off", vec![format!("{why}\n{}", complained.trim_end())])
    });
    progress.finish_and_clear();
    let row = Row { goal: goal.id, title: goal.title, seconds: begin.elapsed().as_secs_f64(), outcome };
    eprintln!("{:>4}  {:<9} {:>6.1} s  {}", row.goal, verdict(&row), row.seconds, row.outcome.figure);
    Ok(row)
}

fn progress(goal: &Goal) -> indicatif::ProgressBar {
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_message(format!("{} {}", goal.id, goal.title));
    bar
}

fn read_all(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|mut pipe| std::io::Read::read_to_end(&mut pipe, &mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for a process; one that takes longer than `limit` is killed, with all that it started (they die with it).
fn wait(
    child: &mut Child,
    limit: Duration,
    mut tick: impl FnMut(),
) -> anyhow::Result<Option<std::process::ExitStatus>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        tick();
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn verdict(row: &Row) -> &'static str {
    match row.outcome.verdict {
        Verdict::Met => "met",
        Verdict::NotMet => "NOT MET",
        Verdict::NotTried => "not tried",
    }
}

fn print_table(rows: &[Row], seconds: f64, to_stderr: bool) -> anyhow::Result<()> {
    let title = rows.iter().map(|row| row.title.chars().count()).max().unwrap_or(0);
    let mut text = format!("\n{:>4}  {:<title$}  {:<9}  {:>8}  figure\n", "goal", "", "verdict", "time");
    for row in rows {
        text += &format!(
            "{:>4}  {:<title$}  {:<9}  {:>6.1} s  {}\n",
            row.goal,
            row.title,
            verdict(row),
            row.seconds,
            row.outcome.figure
        );
    }
    for row in rows.iter().filter(|row| !row.outcome.findings.is_empty()) {
        text += &format!("\n{}: {} findings\n", row.goal, row.outcome.findings.len());
        for finding in row.outcome.findings.iter().take(FINDINGS_SHOWN) {
            text += &format!("  - {}\n", finding.replace('\n', "\n    "));
        }
    }
    let of = |wanted| rows.iter().filter(|row| row.outcome.verdict == wanted).count();
    text += &format!(
        "\n{} met, {} not met, {} not tried; {seconds:.0} s\n",
        of(Verdict::Met),
        of(Verdict::NotMet),
        of(Verdict::NotTried)
    );
    match to_stderr {
        true => std::io::stderr().write_all(text.as_bytes())?,
        false => std::io::stdout().write_all(text.as_bytes())?,
    }
    Ok(())
}

/// Where the table of figures begins and ends in a document.
const FIGURES_BEGIN: &str = "<!-- figures: written by `cargo xtask prove --markdown` -->";
const FIGURES_END: &str = "<!-- end of figures -->";

/// A document with the lines of its table of figures replaced for those goals that were tried. One that has no such
/// table gets one at its end.
pub fn with_figures(document: &str, rows: &[Row], trial: &Trial) -> String {
    let (before, rest) = document.split_once(FIGURES_BEGIN).unwrap_or((document, FIGURES_END));
    let (old, after) = rest.split_once(FIGURES_END).unwrap_or((rest, ""));
    let number = |line: &str| line.strip_prefix("| G")?.split(' ').next()?.parse::<u32>().ok();
    let mut lines: BTreeMap<u32, String> =
        old.lines().filter_map(|line| Some((number(line)?, line.to_owned()))).collect();
    for row in rows {
        let scale = trial.scale.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let line = format!(
            "| {} | {} | {scale} | {:.0} s | {} |",
            row.goal,
            verdict(row),
            row.seconds,
            row.outcome.figure.replace('|', "\\|").replace('\n', " ")
        );
        lines.extend(number(&line).map(|number| (number, line)));
    }
    let table: String = lines.values().map(|line| format!("{line}\n")).collect();
    format!(
        "{before}{FIGURES_BEGIN}\n| goal | verdict | scale | time | figure \
         |\n|---|---|---|---|---|\n{table}{FIGURES_END}{after}"
    )
}

/// Findings of one goal that are printed; the JSON has all.
const FINDINGS_SHOWN: usize = 10;

fn prove_one(goal: &str, trial: &str) -> anyhow::Result<ExitCode> {
    // Killing the command ends its trials.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let goal = goals::find(goal).with_context(|| format!("there is no goal `{goal}`"))?;
    let trial = serde_json::from_str(trial).context("this is no trial")?;
    let outcome =
        (goal.run)(&trial).unwrap_or_else(|error| Outcome::of("the trial broke off", vec![format!("{error:?}")]));
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(ExitCode::SUCCESS)
}
