//! G20: the lock-free structures under loom, which tries every order that the C11 memory model allows, not only those
//! of one processor. The models are `crates/wigwag/tests/loom.rs`; each is run again with a step done wrongly, which
//! must be found.
//!
//! They are a build of their own (`--cfg loom`), so this goal builds them, in a directory of their own, and runs them.
//! At the scale of `cargo test` it does not: that would be a build within a build, and `.ci/run` has a step for them.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use wigwag_testing::Link;

use crate::outcome::Outcome;
use crate::role;
use crate::scale::{Scale, Trial};

/// Where the workspace is, seen from this crate.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// How long a build may take: it compiles loom, perhaps on a machine that does much else.
const BUILD_LIMIT: Duration = Duration::from_secs(1500);

/// Tries G20.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    if trial.scale == Scale::Test {
        return Ok(Outcome::not_tried("a build of its own: `.ci/run` and `cargo xtask prove --only G20` run it"));
    }
    if !Path::new(WORKSPACE).join("crates/wigwag/tests/loom.rs").exists() {
        return Ok(Outcome::not_tried("the sources that this was built from are not there any more"));
    }
    let begin = Instant::now();
    let models = match build()? {
        Built::Program(models) => models,
        Built::Failed(why) => return Ok(Outcome::of("the models do not compile", vec![why])),
    };
    let build_s = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let models = models.to_str().context("a path")?;
    let (code, said) = run_as_role(&[models], trial.pick(600, 600, 7000))?;
    let count = |what: &str| said.lines().filter(|line| line.starts_with("test ") && line.ends_with(what)).count();
    let (passed, failed) = (count("... ok"), count("... FAILED"));
    let figure = format!(
        "{passed} models, each in all its executions (no bound on preemptions), {} of them done wrongly and found; \
         {:.1} s, built in {build_s:.0} s",
        said.lines().filter(|line| line.contains("is_found") && line.ends_with("... ok")).count(),
        begin.elapsed().as_secs_f64(),
    );
    if code == Some(0) && failed == 0 && passed > 0 {
        return Ok(Outcome::of(figure, Vec::new()));
    }
    Ok(Outcome::of(figure, vec![format!("the models ended with {code:?}:\n{}", last_lines(&said, 60))]))
}

enum Built {
    Program(PathBuf),
    Failed(String),
}

/// Builds the models; cargo says where they are.
fn build() -> anyhow::Result<Built> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    // The profile of development, in which loom itself is optimized: the models take half a minute.
    let arguments = ["test", "-p", "wigwag", "--test", "loom", "--no-run", "--message-format", "json"];
    let command: Vec<&str> = std::iter::once(cargo.as_str()).chain(arguments).collect();
    let (code, said) = run_as_role(&command, BUILD_LIMIT.as_secs())?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = messages
        .filter(|message| message["target"]["name"] == "loom")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    Ok(match (code, program) {
        (Some(0), Some(program)) => Built::Program(program),
        _ => Built::Failed(format!("cargo ended with {code:?}:\n{}", last_lines(&said, 40))),
    })
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Runs a program in the place of a process that dies with this one. Its exit code and what it said.
fn run_as_role(command: &[&str], limit_s: u64) -> anyhow::Result<(Option<i32>, String)> {
    let output = tempfile()?;
    let arguments = std::iter::once(output.to_str().context("a path")?).chain(command.iter().copied());
    let mut process = role::start("weak-memory", arguments);
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = process.child.try_wait()? {
            break status;
        }
        if begin.elapsed() > Duration::from_secs(limit_s) {
            process.kill();
            bail!("`{}` did not end within {limit_s} s", command.join(" "));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut said = Vec::new();
    std::fs::File::open(&output)?.read_to_end(&mut said)?;
    std::fs::remove_file(&output)?;
    Ok((status.code(), String::from_utf8_lossy(&said).into_owned()))
}

fn tempfile() -> anyhow::Result<PathBuf> {
    let number = wigwag_testing::word(u64::from(std::process::id()), Instant::now().elapsed().as_nanos() as u64);
    let path = std::env::temp_dir().join(format!("wigwag-models-{number:016x}"));
    std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    Ok(path)
}

/// The role: becomes that program.
pub fn play(_: &Link, arguments: &[&str]) {
    let [output, program, rest @ ..] = arguments else { panic!("an output and a program") };
    let file = std::fs::OpenOptions::new().append(true).open(output).expect("the output");
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default() + " --cfg loom";
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{WORKSPACE}/target"));
    let error = Command::new(program)
        .args(rest)
        .current_dir(WORKSPACE)
        .env("RUSTFLAGS", flags)
        .env("CARGO_TARGET_DIR", Path::new(&target).join("loom"))
        .env_remove("LOOM_MAX_PREEMPTIONS")
        .env_remove("WIGWAG_TEST_ROLE")
        .stdin(std::process::Stdio::null())
        .stdout(file.try_clone().expect("one descriptor more"))
        .stderr(file)
        .exec();
    panic!("{program}: {error}");
}
