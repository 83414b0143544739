//! G8: the fuzz targets in `verify/fuzz/`, guided by coverage and watched by AddressSanitizer.
//!
//! They are built here with the compiler that builds everything else: RUSTC_BOOTSTRAP lets a stable one instrument
//! code. At the smallest scale the committed corpus goes through the same functions, without a fuzzer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::fuzzed;
use crate::outcome::Outcome;
use crate::scale::{Scale, Trial};

/// Every target: one binary and one corpus each.
const TARGETS: &[&str] = &["server_memory", "client_memory", "handshakes", "messages", "words", "names"];
/// What one input goes through.
type Check = fn(&[u8]);
/// Those that need no build of their own.
const ON_STABLE: &[(&str, Check)] = &[
    ("server_memory", fuzzed::server_memory),
    ("client_memory", fuzzed::client_memory),
    ("handshakes", fuzzed::handshakes),
];
/// The instrumentation that libFuzzer wants, as cargo-fuzz has it.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1 \
                     -Cdebug-assertions";

/// The goal.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    if !directory.join("Cargo.toml").exists() {
        return Ok(Outcome::not_tried("verify/fuzz/ is not there: run it in a checkout of the repository"));
    }
    if trial.scale == Scale::Test {
        return corpus(&directory);
    }
    let begin = Instant::now();
    let built = match build(&directory) {
        Ok(built) => built,
        Err(why) => return Ok(Outcome::not_tried(why)),
    };
    let built_s = begin.elapsed().as_secs_f64();
    let seconds = trial.pick(0, 15, 60);
    let (mut figures, mut findings) = (Vec::new(), Vec::new());
    // Two at a time: that is how many processors a runner has.
    for pair in TARGETS.chunks(2) {
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let run = |target: &'static str| fuzz(&directory, &built, target, seconds, trial.seed);
            let threads: Vec<_> = pair.iter().map(|target| scope.spawn(move || run(target))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        for (target, outcome) in pair.iter().zip(outcomes) {
            match outcome? {
                Ok(executions) => figures.push(format!("{target} {executions}")),
                Err(why) => findings.push(format!("{target}: {why}")),
            }
        }
    }
    let figure = format!(
        "executions in {seconds} s each, with ASan: {}; built in {built_s:.0} s; seed {}",
        figures.join(", "),
        trial.seed
    );
    Ok(Outcome::of(figure, findings))
}

/// The committed inputs, through the same functions.
fn corpus(directory: &Path) -> anyhow::Result<Outcome> {
    let (mut counts, mut findings) = (BTreeMap::new(), Vec::new());
    for (target, check) in ON_STABLE {
        for file in std::fs::read_dir(directory.join("corpus").join(target))? {
            let path = file?.path();
            let input = std::fs::read(&path)?;
            *counts.entry(*target).or_insert(0) += 1;
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                findings.push(format!("verify/fuzz/corpus/{target}/{name}: {text}"));
                break; // what it was played with is in an unknown state
            }
        }
    }
    Ok(Outcome::of(format!("the committed corpus, inputs by target: {counts:?}"), findings))
}

/// Builds the targets; where they are, or why they could not be built and what helps.
fn build(directory: &Path) -> Result<PathBuf, String> {
    let target_directory = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target).join("fuzz"),
        None => directory.join("target"),
    };
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--target", &host])
        .current_dir(directory)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target_directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cargo could not be started: {error}; put it on the PATH"))?;
    if output.status.success() {
        return Ok(target_directory.join(host).join("release"));
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().rfind(|line| line.starts_with("error")).unwrap_or("no reason was given");
    Err(format!(
        "the targets could not be built ({last}); they need a C++ compiler and the crates of verify/fuzz/Cargo.lock"
    ))
}

/// One target for a while; how often it ran, or what it found.
fn fuzz(
    directory: &Path,
    built: &Path,
    target: &str,
    seconds: u64,
    seed: u64,
) -> anyhow::Result<Result<String, String>> {
    // New inputs go to a directory of their own, so that the committed ones stay as they are.
    let ground = wigwag_testing::Ground::new();
    let (found, temporary) = (ground.path("found"), ground.path("temporary"));
    [&found, &temporary].into_iter().try_for_each(std::fs::create_dir)?;
    let output = Command::new(built.join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-seed={}", seed as u32))
        .arg(format!("-artifact_prefix={}/", ground.path("").display()))
        .args(["-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2048"])
        .arg(&found)
        .arg(directory.join("corpus").join(target))
        // What a target keeps from input to input is still there at its end.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let stat = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim);
    if output.status.success() {
        return Ok(Ok(stat("stat::number_of_executed_units:").to_owned()));
    }
    let input = said.lines().find(|line| line.starts_with("Base64:")).unwrap_or("(no input was kept)");
    let why: Vec<&str> = said.lines().filter(|line| line.contains("panicked") || line.contains("ERROR:")).collect();
    let next = said.lines().skip_while(|line| !line.contains("panicked")).nth(1).unwrap_or_default();
    Ok(Err(format!("{}: {next}\n{input}", why.join("; "))))
}
