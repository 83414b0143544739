//! Work on Wigwag itself: `cargo xtask ci | prove | previous | compare | install | release`.
//!
//! ```text
//! main     the command line; the proof and the comparison are programs of their own, which take over from here
//! ci       the steps that must pass before a change is taken
//! previous the program of this tree with that of the previous protocol version
//! install  the interface for C, where packagers look for it
//! release  what can be checked before a release, and what is left to do by hand
//! step     a step: commands, one after the other, and what came of each
//! excerpt  what is said again of a step that failed
//! ```

mod ci;
mod excerpt;
mod install;
mod previous;
mod python;
mod release;
mod step;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};

/// Work on Wigwag itself.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run what must pass before a change is taken; `.ci/run` installs what is missing and then calls this
    #[command(after_help = ci::EXAMPLES)]
    Ci(ci::Arguments),
    /// Show that nothing is lost when processes are killed, stopped or lie; its own --help has more
    #[command(disable_help_flag = true)]
    Prove(Forwarded),
    /// Show that the program of this tree works with that of the previous protocol version, both ways
    #[command(after_help = previous::EXAMPLES)]
    Previous(previous::Arguments),
    /// Measure the same work through other libraries, in a workspace of its own
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare {
        /// Compile Zenoh as well, which takes long
        #[arg(long)]
        zenoh: bool,
        #[command(flatten)]
        more: Forwarded,
    },
    /// Install the library for C and C++: headers, libraries, pkg-config, CMake, the manual page
    #[command(after_help = install::EXAMPLES)]
    Install(install::Arguments),
    /// Check what can be checked before a release, and say what is left to do
    Release,
}

/// What another program is called with.
#[derive(Args)]
struct Forwarded {
    /// What it is told; all options are its own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask ci                     everything that must pass, as .ci/run does
  cargo xtask ci lints tests         two of its steps
  cargo xtask ci --list              what the steps are
  cargo xtask prove                  the proof, 25 minutes
  cargo xtask prove --only G3        one of its goals
  cargo xtask previous               with the program of the previous version, half a minute once built
  cargo xtask compare --quick        other libraries, 3 minutes once built
  cargo xtask install                the library for C and C++, into /usr/local
  cargo xtask release                the checklist of a release";

const COMPARE_EXAMPLES: &str = "\
Examples:
  cargo xtask compare --quick --html quick.html
  cargo xtask compare --zenoh --json comparison.json --html comparison.html
  cargo xtask compare -- --help      what the comparison can be told";

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Ci(arguments) => ci::run(&arguments),
        Task::Prove(more) => {
            become_cargo(&["run", "--quiet", "--package=wigwag-proof", "--bin=prove"], "", &["prove"], more)
        }
        Task::Previous(arguments) => previous::run(&arguments),
        Task::Compare { zenoh, more } => {
            let features: &[&str] = if zenoh { &["run", "--features=zenoh"] } else { &["run"] };
            become_cargo(features, "bench/compare", &[], more)
        }
        Task::Install(arguments) => install::run(&arguments),
        Task::Release => release::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}.");
        ExitCode::from(2)
    })
}

/// Becomes `cargo`, in release, for the workspace in `workspace`: signals and the exit code are those of what is run.
fn become_cargo(words: &[&str], workspace: &str, first: &[&str], more: Forwarded) -> anyhow::Result<ExitCode> {
    let manifest = root().join(workspace).join("Cargo.toml");
    let mut command = cargo();
    command
        .args(words)
        .arg("--release")
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--")
        .args(first)
        .args(more.arguments);
    Err(anyhow::Error::new(command.exec()).context("cannot start cargo"))
}

/// The root of the repository.
fn root() -> PathBuf {
    // Asked at run time first: a target directory may be shared by several checkouts.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_owned)
}

/// Where cargo builds this tree.
fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target)
}

/// A `cargo` that does not know that another one has started this program: build scripts look at such variables, and
/// what they have built is built anew when the variables differ.
fn cargo() -> Command {
    program("cargo")
}

/// A program that may start `cargo`, as [`cargo`] does.
fn program(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|begin| text.starts_with(begin)) {
            command.env_remove(&name);
        }
    }
    command
}
