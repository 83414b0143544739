//! The steps that must pass before a change is taken.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Args;

use crate::python;
use crate::step::{self, Step};

/// What is run.
#[derive(Args)]
pub struct Arguments {
    /// Only these steps, in their usual order
    #[arg(value_name = "STEP", value_parser = STEPS.map(|step| step.name))]
    steps: Vec<String>,
    /// List the steps, and run none
    #[arg(long)]
    list: bool,
}

pub const EXAMPLES: &str = "\
Examples:
  cargo xtask ci                     all steps: less than an hour on two cores, most of it compiling
  cargo xtask ci format lints        two of them
  cargo xtask ci --list

Every step runs even when one before it failed.
It exits with 0 when all passed, with 1 when one did not, with 2 on wrong usage.";

/// All steps. The features leave one of two cores idle, and the faults wait for most of their time: both go on beside
/// what comes after them. What runs beside the faults builds in directories of its own: nobody else may replace the
/// program with faults in it. The tests of the workspace come last, because they need the machine for themselves.
const STEPS: [Step; 13] = [
    Step::new("format", "rustfmt changes nothing", format),
    Step::new("features", "the library compiles with each two of its features", features).beside_others(),
    Step::new("lints", "clippy has nothing to say", lints),
    Step::new("documentation", "every link of it leads somewhere", documentation),
    Step::new("examples", "each runs to its end", examples),
    Step::new("models", "the lock-free structures under loom", models),
    Step::new("previous", "it works with the program of the previous version", previous),
    Step::new("faults", "the proof finds every injected fault", faults).beside_others(),
    Step::new("grpc", "gRPC over streams", grpc),
    Step::new("python", "the Python package, installed and tested", python::commands),
    Step::new("c", "the interface for C: compilers, valgrind, AddressSanitizer, symbols, examples", c),
    Step::new("bridge", "calls to other machines, over zenoh", bridge),
    Step::new("tests", "all of the workspace", tests).alone(),
];

/// The command `cargo xtask ci`.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        for step in &STEPS {
            println!("{:<14} {}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let is_chosen = |step: &&Step| arguments.steps.is_empty() || arguments.steps.iter().any(|name| name == step.name);
    let chosen: Vec<&Step> = STEPS.iter().filter(is_chosen).collect();
    Ok(step::run(&chosen))
}

fn cargo(words: &[&str]) -> Command {
    let mut command = crate::cargo();
    command.args(words);
    command
}

/// `cargo`, killed if it takes longer.
fn limited(seconds: u32, words: &[&str]) -> Command {
    let mut command = crate::program("timeout");
    command.args(["--kill-after=10", &seconds.to_string(), "cargo"]).args(words);
    command
}

/// A build with flags of its own, which change every crate: it has a directory of its own.
fn with_flags(mut command: Command, flags: &str, directory: &str) -> Command {
    command.env("CARGO_TARGET_DIR", crate::target().join(directory)).env("RUSTFLAGS", flags_with(flags));
    command
}

/// The compiler's flags of whoever calls, and some more.
fn flags_with(more: &str) -> OsString {
    let mut all: OsString = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    if !all.is_empty() {
        all.push(" ");
    }
    all.push(more);
    all
}

fn format() -> anyhow::Result<Vec<Command>> {
    let beside =
        ["bench/compare", "bridge", "examples/grpc", "verify/fuzz", INTERFACE, python::PACKAGE].map(|workspace| {
            let manifest = format!("{workspace}/Cargo.toml");
            cargo(&["fmt", "--manifest-path", &manifest, "--check"])
        });
    Ok(std::iter::once(cargo(&["fmt", "--all", "--check"])).chain(beside).collect())
}

fn lints() -> anyhow::Result<Vec<Command>> {
    Ok(vec![cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])])
}

/// Every feature of the library by itself, every two of them together, and none. In the workspace they are all on, so
/// that one which needs another's code would go unnoticed; code of more than two features is code of each two of them.
/// The hidden one, `models`, adds names only; the lints of the workspace have it on.
fn features() -> anyhow::Result<Vec<Command>> {
    let sets = ["--feature-powerset", "--depth=2", "--exclude-features=models,axum,tonic", "--keep-going"];
    // Both only implement traits of others for what `tokio` has, whatever else is on.
    let adapters = ["--feature-powerset", "--include-features=axum,tonic", "--keep-going"];
    let rest = ["--quiet", "-p", "wigwag", "--", "-D", "warnings"];
    let command = |sets: &[&str]| {
        let mut command = limited(1800, &[["hack", "clippy"].as_slice(), sets, &rest].concat());
        command.env("CARGO_TARGET_DIR", crate::target().join("features")); // beside others, who would wait for it
        command
    };
    Ok(vec![command(&sets), command(&adapters)])
}

pub fn documentation() -> anyhow::Result<Vec<Command>> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    command.args(["--features", "wigwag/tower,wigwag/axum,wigwag/postcard,wigwag/serde"]);
    let mut flags = std::env::var_os("RUSTDOCFLAGS").unwrap_or_default();
    flags.push(" -D warnings");
    command.env("RUSTDOCFLAGS", flags);
    Ok(vec![command])
}

/// Each example of the library, as the directory has them. They are built first, so that the limit is one of their run,
/// and with the features that the whole workspace asks for: all that they depend on is then built once for everybody.
fn examples() -> anyhow::Result<Vec<Command>> {
    let directory = crate::root().join("crates/wigwag/examples");
    let files = std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let files = files.map(|file| Ok(file?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    let rust = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<_> = rust.filter_map(|file| file.file_stem()).collect();
    anyhow::ensure!(!names.is_empty(), "there are no examples in {}", directory.display());
    names.sort_unstable();
    let built = std::iter::once(cargo(&["build", "--quiet", "--workspace", "--examples"]));
    let run = names.iter().map(|name| {
        let mut command = crate::program("timeout");
        command.args(["--kill-after=10", "60"]).arg(crate::target().join("debug/examples").join(name));
        command
    });
    Ok(built.chain(run).collect())
}

fn models() -> anyhow::Result<Vec<Command>> {
    let command = limited(1200, &["test", "-p", "wigwag", "--test", "loom"]);
    Ok(vec![with_flags(command, "--cfg loom", "loom")])
}

/// A workspace of its own, because it has four times as many dependencies as all the rest.
fn grpc() -> anyhow::Result<Vec<Command>> {
    Ok(of_workspace("examples/grpc", 600))
}

/// A workspace of its own, because zenoh has ten times as many dependencies as all the rest.
fn bridge() -> anyhow::Result<Vec<Command>> {
    Ok(of_workspace("bridge", 1800))
}

/// Lints and tests of a workspace beside the main one.
fn of_workspace(directory: &str, limit_s: u32) -> Vec<Command> {
    let manifest = &format!("--manifest-path={directory}/Cargo.toml");
    vec![with_lints(limited(limit_s, &["test", manifest, "--no-fail-fast"]))]
}

/// A build whose workspace clippy compiles, so that nothing which that depends on is compiled twice: once to be looked
/// at and once to be run.
pub fn with_lints(mut command: Command) -> Command {
    command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver").env("RUSTFLAGS", flags_with("-D warnings"));
    command
}

/// The interface for C, a workspace of its own: its tests compile programs, and need more than a Rust toolchain. What
/// is missing fails them here, and is left out by who calls them without that variable.
const INTERFACE: &str = "crates/wigwag-ffi";

fn c() -> anyhow::Result<Vec<Command>> {
    let mut commands = of_workspace(INTERFACE, 1800);
    for command in &mut commands {
        // Its tests look for what they build there, and build the program as well.
        command.env("WIGWAG_C", "required").env("CARGO_TARGET_DIR", crate::root().join(INTERFACE).join("target"));
    }
    Ok(commands)
}

/// What the proof must find, on a library with faults in it. The program, which one goal tries out, is built first: a
/// goal that builds it has less time for what it looks for. Both have the features that the whole workspace asks for,
/// like the tests of the workspace: what they depend on is built once.
fn faults() -> anyhow::Result<Vec<Command>> {
    let mut program = cargo(&["build", "--quiet", "--workspace", "--bin", "wigwag"]);
    let mut tests = limited(2700, &["test", "--workspace", "--test", "faults"]);
    for command in [&mut program, &mut tests] {
        command.env("RUSTC_WORKSPACE_WRAPPER", crate::root().join("xtask/rustc_with_faults.sh"));
    }
    Ok(vec![program, tests])
}

/// Both programs are built for it. Where the history lacks the previous version it says so, and is over.
fn previous() -> anyhow::Result<Vec<Command>> {
    Ok(vec![limited(1800, &["xtask", "previous"])])
}

fn tests() -> anyhow::Result<Vec<Command>> {
    Ok(vec![limited(3000, &["test", "--workspace", "--no-fail-fast"])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_commands_and_a_name_of_its_own() {
        for (at, step) in STEPS.iter().enumerate() {
            assert!(!(step.commands)().unwrap().is_empty(), "{}", step.name);
            assert!(STEPS[..at].iter().all(|other| other.name != step.name), "{}", step.name);
        }
    }

    #[test]
    fn who_asks_for_the_commands_changes_nothing() {
        let kept = crate::target().join("python/kept-by-a-test");
        std::fs::create_dir_all(&kept).unwrap();
        for step in &STEPS {
            (step.commands)().unwrap();
        }
        assert!(kept.exists());
        std::fs::remove_dir(kept).unwrap();
    }

    #[test]
    fn every_example_of_the_library_is_run() {
        let there = std::fs::read_dir(crate::root().join("crates/wigwag/examples")).unwrap().count();
        assert_eq!(examples().unwrap().len(), 1 + there, "one builds, and each of the others runs one");
    }
}
