//! `wigwag bench`: the exchange measured beside what the hardware allows and what the kernel's services reach.
//!
//! ```text
//! options ── matrix ──┐
//!         └─ goal ────┴── the measuring parts: bench/harness ── row ──> table, output, page
//! ```
//!
//! `docs/benchmarks.md` has the method and its reasons.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wigwag_bench::case::WaitMode;
use wigwag_bench::{phase, placement, role};

mod goal;
mod matrix;
mod options;
mod output;
mod table;

pub use options::BenchArgs;

/// Measures what the options ask for and prints it.
pub fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    if let Err(error) = args.check() {
        wigwag_bench::output::complain(&format!("wigwag: {error:#}."));
        return Ok(ExitCode::from(crate::exit::USAGE));
    }
    let root = crate::transport::private_directory()?;
    end_on_signals(root.path().to_owned())?;
    let stage = phase::Stage::new(placement::Processors::choose(&args.processors)?, root.path())?;
    let mut output = output::Output::open(args.json.as_deref(), args.html.as_deref())?;
    match args.goal {
        Some(goal) => goal::run(goal, &args, &stage, &mut output),
        None => matrix::run(&args, &stage, &mut output),
    }
}

/// Plays one part of a phase, in a process of its own; `orders` is JSON.
pub fn peer(orders: String) -> anyhow::Result<()> {
    let orders = serde_json::from_str(&orders).context("these are not the orders of a bench's process")?;
    role::play(&orders).or_else(|error| crate::peer::say_failed(&error))
}

/// The second process of Q1.
pub fn messages_peer(case: usize, processor: usize, directory: &Path) -> anyhow::Result<()> {
    goal::messages::play(case, processor, directory)
}

/// Another process of B1, B1b, B2 and B3.
pub fn broadcast_peer(part: &str, count: usize, processor: &str, directory: &Path) -> anyhow::Result<()> {
    goal::broadcasts::play(part, count, processor, directory)
}

/// Another process of R1.
pub fn restart_peer(part: &str, number: usize, room: usize, directory: &Path) -> anyhow::Result<()> {
    goal::restarts::play(part, number, room, directory)
}

/// The second process of P12.
pub fn permits_peer(which: usize, directory: &Path) -> anyhow::Result<()> {
    goal::permits::play(which, directory)
}

/// A second process of C1.
pub fn foreign_peer(part: &str, wait: WaitMode, processor: usize, directory: &Path) -> anyhow::Result<()> {
    let played = goal::foreign::play(part, wait, processor, directory);
    played.or_else(|error| wigwag_bench::peer::say_failed(&error))
}

/// Leaves nothing behind when somebody has seen enough. The other processes end with this one.
fn end_on_signals(root: PathBuf) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signals cannot be received")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            leave(&root, 128 + signal);
        }
    });
    Ok(())
}

fn leave(root: &Path, code: i32) -> ! {
    // There is nobody left to tell when this fails.
    let _ = std::fs::remove_dir_all(root);
    std::process::exit(code)
}
