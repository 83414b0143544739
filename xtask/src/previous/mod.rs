//! The program of this tree works with that of the previous protocol version, both ways.
//!
//! ```text
//! history   which commit has the previous version
//! programs  the programs of both, built
//! scene     what a job plays in: an empty directory, processes, a time limit
//! jobs      what is tried
//! table     what came of it
//! ```

mod history;
mod jobs;
mod programs;
mod scene;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;

use history::Found;
use jobs::Job;
use programs::Programs;
use scene::{Sayings, Scene, Side};
use table::{Age, PAIRS, Pair, Row, Table, Verdict};

/// What is tried.
#[derive(Args)]
pub struct Arguments {
    /// Only these jobs, such as call or queue,stream
    #[arg(long, value_delimiter = ',', value_name = "JOB")]
    only: Vec<String>,
    /// The commit that has the previous version [default: the last one before this version came into docs/layout.md]
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// Fail, with code 1, if the history that is here does not have the previous version
    #[arg(long)]
    required: bool,
    /// Write what came of it to a file as JSON; without a file to standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Write the table between the marks of a document; without a file that is docs/compatibility.md
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = DOCUMENT, conflicts_with = "only")]
    markdown: Option<PathBuf>,
    /// List the jobs, and try none
    #[arg(long)]
    list: bool,
}

/// The document that has the table, from the root of the repository.
const DOCUMENT: &str = "docs/compatibility.md";

pub const EXAMPLES: &str = "\
Examples:
  cargo xtask previous                    all jobs; at first it builds the other program
  cargo xtask previous --only queue       those with that in their name
  cargo xtask previous --commit v0.1.0    with the program of another commit
  cargo xtask previous --json > previous.json
  cargo xtask previous --markdown         writes the table into docs/compatibility.md
  cargo xtask previous --list             what the jobs are

Each job is done by four pairs: a server and a client of this tree, both of the previous version, and one of each. \
Bytes and exit codes must be right, and each side must say to a peer of the other version what it says to one of its \
own.

It exits with 0 when all passed or when the history lacks the previous version (unless --required), with 1 when a job \
failed, with 2 on wrong usage or when something cannot be built.";

/// The command `cargo xtask previous`.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let chosen = chosen(&jobs::ALL, &arguments.only)?;
    if arguments.list {
        let width = chosen.iter().map(|job| job.name.len()).max().unwrap_or_default();
        chosen.iter().for_each(|job| println!("{:width$}  {}", job.name, job.about));
        return Ok(ExitCode::SUCCESS);
    }
    let version = history::version()?;
    let found = match &arguments.commit {
        Some(name) => Found::Commit(history::named(name)?),
        None => history::previous(version)?,
    };
    let commit = match found {
        Found::Commit(commit) => commit,
        Found::Missing(why) => return not_tried(arguments, &why),
    };
    let old = Programs::of_commit(&commit)?;
    let new = Programs::of_this_tree()?;
    let begin = Instant::now();
    let rows = chosen.iter().map(|job| row(job, &new, &old)).collect();
    let table = Table { version, commit, rows, seconds: begin.elapsed().as_secs_f64() };
    show(arguments, &table)?;
    Ok(if table.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The jobs whose names have one of the words in them; all of them without words.
fn chosen<'a>(all: &'a [Job], words: &[String]) -> anyhow::Result<Vec<&'a Job>> {
    for word in words {
        let is_known = all.iter().any(|job| job.name.contains(word.as_str()));
        ensure!(is_known, "there is no job `{word}`: `cargo xtask previous --list` has all");
    }
    let is_chosen = |job: &&Job| words.is_empty() || words.iter().any(|word| job.name.contains(word.as_str()));
    Ok(all.iter().filter(is_chosen).collect())
}

fn not_tried(arguments: &Arguments, why: &str) -> anyhow::Result<ExitCode> {
    match &arguments.json {
        Some(file) => write_json(file, &serde_json::json!({ "passed": null, "not_tried": why }))?,
        None => println!("not tried: {why}."),
    }
    Ok(if arguments.required { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(arguments: &Arguments, table: &Table) -> anyhow::Result<()> {
    let is_json_printed = arguments.json.as_deref() == Some(Path::new("-"));
    if is_json_printed {
        eprint!("{}", table.text())
    } else {
        print!("{}", table.text())
    }
    if let Some(file) = &arguments.json {
        write_json(file, &table.json())?;
    }
    if let Some(file) = &arguments.markdown {
        let is_usual = file == Path::new(DOCUMENT);
        let file = if is_usual { crate::root().join(DOCUMENT) } else { file.clone() };
        let describe = || format!("cannot write the table into {}", file.display());
        let document = std::fs::read_to_string(&file).with_context(describe)?;
        std::fs::write(&file, table.within(&document)).with_context(describe)?;
    }
    Ok(())
}

fn write_json(file: &Path, value: &serde_json::Value) -> anyhow::Result<()> {
    let text = format!("{value:#}\n");
    match file.to_str() {
        Some("-") => print!("{text}"),
        _ => std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?,
    }
    Ok(())
}

/// Tries a job with each pair.
fn row(job: &Job, new: &Programs, old: &Programs) -> Row {
    let begin = Instant::now();
    let of = |age| if age == Age::New { new } else { old };
    let mut own: [(Age, Sayings); 2] = [Age::New, Age::Old].map(|age| (age, Sayings::new()));
    eprintln!("{}", job.name);
    let verdicts = PAIRS.map(|pair| {
        if let Some(why) = job.is_impossible() {
            return Verdict::NotTried(why.to_owned());
        }
        let outcome = tried(job, of(pair.server), of(pair.client)).and_then(|sayings| {
            if pair.is_mixed() {
                return compare(pair, &sayings, &own);
            }
            own.iter_mut().filter(|(age, _)| *age == pair.server).for_each(|(_, own)| own.clone_from(&sayings));
            Ok(())
        });
        outcome.map_or_else(|error| Verdict::Failed(format!("{error:#}")), |()| Verdict::Passed)
    });
    Row { job: job.name, about: job.about, verdicts, seconds: begin.elapsed().as_secs_f64() }
}

fn tried(job: &Job, server: &Programs, client: &Programs) -> anyhow::Result<Sayings> {
    let scene = Scene::new(server, client)?;
    (job.run)(&scene)?;
    Ok(scene.sayings())
}

/// Each side says to one of the other version what it says to one of its own. What is not known of its own is not
/// compared: then that pair has failed.
fn compare(pair: Pair, sayings: &Sayings, own: &[(Age, Sayings); 2]) -> anyhow::Result<()> {
    for ((side, point), said) in sayings {
        let age = if *side == Side::Server { pair.server } else { pair.client };
        let usual = own.iter().find(|(of, _)| *of == age).and_then(|(_, own)| own.get(&(*side, point.clone())));
        let is_same = usual.is_none_or(|usual| usual == said);
        let usual = usual.map_or("", String::as_str);
        ensure!(is_same, "{point}: to its own version the {side} says\n{usual:?}, and to the other one\n{said:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(name: &str) -> Programs {
        Programs { wigwag: name.into(), queue: name.into() }
    }

    fn table_of(jobs: &[Job]) -> Table {
        let (new, old) = (programs("new"), programs("old"));
        let rows = jobs.iter().map(|job| row(job, &new, &old)).collect();
        Table { version: 2, commit: "0".repeat(40), rows, seconds: 0.0 }
    }

    const GOOD: Job = Job { name: "good", about: "passes", needs_root: false, run: |_| Ok(()) };

    #[test]
    fn the_table_fails_where_a_job_fails_and_says_what_differed() {
        let bad = Job {
            name: "bad",
            about: "fails with an old server and a new client",
            needs_root: false,
            run: |scene| {
                let is_bad = scene.server.wigwag == Path::new("old") && scene.client.wigwag == Path::new("new");
                scene::equal("the reply", if is_bad { 2 } else { 1 }, 1)
            },
        };
        let table = table_of(&[GOOD, bad]);
        assert!(!table.passed());
        let failed = Verdict::Failed("the reply: expected 1, got 2".into());
        assert_eq!(table.rows[0].verdicts, [const { Verdict::Passed }; 4]);
        assert_eq!(table.rows[1].verdicts, [Verdict::Passed, Verdict::Passed, Verdict::Passed, failed]);
        assert!(table_of(&[GOOD]).passed());
    }

    #[test]
    fn a_program_that_is_not_there_fails_the_job() {
        let run = |scene: &Scene<'_>| scene.run(scene.client, &["call"]).map(drop);
        let table = table_of(&[Job { name: "job", about: "about", needs_root: false, run }]);
        assert!(matches!(&table.rows[0].verdicts[0], Verdict::Failed(why) if why.contains("cannot start")));
    }

    #[test]
    fn each_side_must_say_to_the_other_version_what_it_says_to_its_own() {
        /// The versions differ in their words, and a new client has others for an old server.
        fn says(scene: &Scene<'_>) -> anyhow::Result<()> {
            let [server, client] = [scene.server, scene.client].map(|who| who.wigwag.to_string_lossy().into_owned());
            scene.note(Side::Server, "end", &format!("I am {server}"));
            let is_odd = server == "old" && client == "new";
            scene.note(Side::Client, "end", &if is_odd { "what?".to_owned() } else { format!("I am {client}") });
            Ok(())
        }
        let table = table_of(&[Job { name: "job", about: "about", needs_root: false, run: says }]);
        let verdicts = &table.rows[0].verdicts;
        assert_eq!(verdicts[..3], [const { Verdict::Passed }; 3]);
        let expected = "end: to its own version the client says\n\"I am new\", and to the other one\n\"what?\"";
        assert_eq!(verdicts[3], Verdict::Failed(expected.into()));
    }

    #[test]
    fn jobs_are_chosen_by_a_part_of_their_names() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(&jobs::ALL, &words).map(|jobs| jobs.iter().map(|job| job.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), jobs::ALL.len());
        let queues = names(&["queue"]).unwrap();
        assert!(queues.len() > 1 && queues.iter().all(|name| name.contains("queue")), "{queues:?}");
        assert!(names(&["no-such-job"]).unwrap_err().to_string().contains("--list"));
    }
}
