//! G24: the unit tests notice every change of a validator.
//!
//! cargo-mutants changes the code in small ways (a comparison turned round, a result made `Ok`) and runs the tests on
//! each. A change that no test notices is a check that nobody would miss: it needs a test, or a reason in
//! `.cargo/mutants.toml`. Only the library's unit tests are run, so a mutant costs seconds.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::outcome::Outcome;
use crate::scale::{Scale, Trial};

/// What decides on bytes, users and numbers of others.
const VALIDATORS: &[&str] = &[
    "memory/layout",
    "memory/head",
    "memory/slot",
    "contract",
    "form",
    "session/agreement",
    "session/protocol",
    "service/admission",
    "session/name",
    "sys/directory",
    "sys/name_lock",
    "sys/memory",
];

/// At CI scale one mutant in so many is tried; the seed says which.
const SAMPLE: u64 = 50;
/// And not for longer than this.
const SAMPLE_TIME: Duration = Duration::from_secs(150);

/// The goal.
pub fn try_it(trial: &Trial) -> anyhow::Result<Outcome> {
    if trial.scale == Scale::Test {
        return Ok(Outcome::not_tried("every mutant needs a build of its own: tried in CI and in full only"));
    }
    if !is_installed() {
        return Ok(Outcome::not_tried("cargo-mutants is not there: `cargo install cargo-mutants --locked`"));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if !root.join("crates/wigwag/src").exists() {
        return Ok(Outcome::not_tried("the sources are not where this program was built"));
    }
    for file in VALIDATORS.iter().map(|file| format!("crates/wigwag/src/{file}.rs")) {
        anyhow::ensure!(root.join(&file).exists(), "{file} is not there: nothing of it would be tried");
    }
    // What is not built with these features is not in the validators, so nothing is changed that no test could notice.
    let mut options = vec!["--package=wigwag".to_owned(), "--features=serde,postcard".to_owned()];
    options.extend(VALIDATORS.iter().map(|file| format!("--file=crates/wigwag/src/{file}.rs")));
    // Quick to build, as each mutant is.
    options.push("--cargo-arg=--config=profile.dev.package.wigwag.opt-level=0".to_owned());
    let shard = trial.seed % SAMPLE;
    if trial.scale == Scale::Ci {
        options.push(format!("--shard={shard}/{SAMPLE}"));
        options.push("--sharding=round-robin".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let time = trial.pick(SAMPLE_TIME, SAMPLE_TIME, Duration::MAX);
    let Some(tried) = run(&root, &target.join("mutants"), &options, time)? else {
        return Ok(Outcome::not_tried(format!("the first build alone took longer than {SAMPLE_TIME:?} here")));
    };
    let sample = match trial.scale {
        Scale::Ci => {
            let rest = if tried.is_cut_short { ", as far as the time went" } else { "" };
            format!(" (sample {shard} of {SAMPLE}{rest})")
        }
        _ => String::new(),
    };
    let figure = format!(
        "{} mutants of {} validators{sample}: {} noticed by the unit tests, {} do not compile, {} unnoticed",
        tried.noticed + tried.unviable + tried.unnoticed.len(),
        VALIDATORS.len(),
        tried.noticed,
        tried.unviable,
        tried.unnoticed.len(),
    );
    Ok(Outcome::of(figure, tried.unnoticed.into_iter().map(|mutant| format!("no test notices: {mutant}")).collect()))
}

/// Whether there is a cargo-mutants here.
pub fn is_installed() -> bool {
    let mut command = Command::new("cargo");
    command.args(["mutants", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What came of the mutants.
pub struct Tried {
    /// Mutants that a unit test fails on.
    pub noticed: usize,
    unviable: usize,
    /// Mutants with which every unit test passes, as cargo-mutants names them.
    pub unnoticed: Vec<String>,
    /// There was no time for all.
    is_cut_short: bool,
}

/// Mutates the sources below `root`, in a copy, and runs the library's unit tests on each mutant, for as long as there
/// is time. `None` when that was not long enough for the first.
pub fn run(root: &Path, target: &Path, options: &[String], time: Duration) -> anyhow::Result<Option<Tried>> {
    let told = tempfile::tempdir()?;
    let said = told.path().join("said");
    let mut command = Command::new("cargo");
    command
        .args(["mutants", "--jobs=1", "--colors=never", "--no-shuffle", "--minimum-test-timeout=10"])
        .args(["--cargo-arg=--lib", "--cargo-arg=--config=profile.dev.debug=false"])
        .args(options)
        .arg("--dir")
        .arg(root)
        .arg("--output")
        .arg(told.path())
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .stdout(File::create(&said)?)
        .stderr(File::options().append(true).open(&said)?);
    // SAFETY: between fork and exec only one system call is made. It clears up when it is interrupted.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::INT))?)) };
    let mut child = command.spawn().context("cannot start cargo-mutants")?;
    let (begin, mut is_cut_short) = (Instant::now(), false);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if !is_cut_short && begin.elapsed() > time {
            is_cut_short = true;
            kill_process(Pid::from_child(&child), Signal::INT)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let lines = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(told.path().join("mutants.out").join(name)).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    };
    // 2: some are unnoticed; 3: some made the tests hang, which is noticed.
    ensure!(
        is_cut_short || matches!(status.code(), Some(0 | 2 | 3)),
        "cargo-mutants failed: {status}\n{}",
        std::fs::read_to_string(&said).unwrap_or_default()
    );
    let tried = Tried {
        noticed: lines("caught.txt").len() + lines("timeout.txt").len(),
        unviable: lines("unviable.txt").len(),
        unnoticed: lines("missed.txt"),
        is_cut_short,
    };
    let is_any = tried.noticed + tried.unviable + tried.unnoticed.len() > 0;
    Ok((is_any || !is_cut_short).then_some(tried))
}
