//! The same work through Wigwag and through everything that a user might pick instead.
//!
//! ```text
//! options ── workloads ── bench/harness: series, phases, meter ──┬── page: HTML and JSON
//!            silent, killed: what no loop measures              └── markdown
//!            broadcasts: one publisher and several readers
//! contender: one trait; contenders/: a file for each      combine: several runs as one
//! ```
//!
//! `docs/benchmarks.md` has the method and its reasons.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod broadcasts;
mod combine;
mod contender;
mod contenders;
mod killed;
mod leftovers;
mod markdown;
mod options;
mod silent;
mod workloads;

use options::Options;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let result = match words.get(1).map(String::as_str) {
        Some("peer") if words.get(2).is_some_and(|word| word == "broadcast") => {
            broadcasts::peer(words.get(3).map_or("", String::as_str))
        }
        Some("peer") => play(words.get(3).map_or("", String::as_str)),
        _ => run(&Options::parse(), &words[1..]),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<wigwag_bench::output::Unread>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wigwag-compare: {error:#}.");
            ExitCode::FAILURE
        }
    }
}

/// Plays one part of a phase, in a process of its own; `orders` is JSON.
fn play(orders: &str) -> anyhow::Result<()> {
    let orders = serde_json::from_str(orders).context("these are not the orders of a process of the comparison")?;
    contender::peer(&orders).or_else(|error| wigwag_bench::peer::say_failed(&error))
}

fn run(options: &Options, words: &[String]) -> anyhow::Result<()> {
    let entries = options.entries()?;
    if options.is_list() {
        return wigwag_bench::output::line(&options::list(&entries));
    }
    // Opened first: nobody wants to learn after half an hour that a directory is missing.
    let outputs = options.outputs()?;
    if !options.combine.is_empty() {
        return outputs.write(&combine::combined(&options.combine)?);
    }
    let root = wigwag_bench::transport::private_directory()?;
    end_on_signals(root.path().to_owned())?;
    let page = workloads::run(options, &entries, root.path(), words);
    leftovers::remove(root.path());
    outputs.write(&page?)
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
    leftovers::remove(root);
    // There is nobody left to tell when this fails.
    let _ = std::fs::remove_dir_all(root);
    std::process::exit(code)
}
