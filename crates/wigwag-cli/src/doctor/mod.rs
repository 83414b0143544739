//! `wigwag doctor`: whether everything is there that names, sessions and quick calls need, and what to do about what is
//! not.
//!
//! Each part of the report is a file: what it looks at, what is wrong, what helps. Nothing is changed without `--fix`.

use std::process::ExitCode;

use wigwag::runtime::RuntimeDirectory;

use crate::{exit, output};

mod directory;
mod finding;
mod kernel;
mod kernel_files;
mod limits;
mod memory;
mod names;
mod processors;
mod publishers;
mod servers;

use finding::Report;
use kernel_files::KernelFiles;

const EXAMPLES: &str = "\
Examples:
  wigwag doctor                    # what is so, what is wrong, what helps
  wigwag doctor --fix              # removes the names of servers that are dead
  wigwag doctor --json             # the same for a script
  wigwag doctor > /dev/null || echo wrong   # by the exit code
  taskset -c 0 wigwag doctor       # as a program sees it that is started so

It looks at what a program sees that is started from here: the same environment, limits, control group and processors. \
Only its exit code and findings marked WRONG say that something does not work; notes say what could be better.

--fix removes a name only if its lock, which the kernel takes from whoever dies, is free and nobody listens.";

const CODES: &str = "\
Exit codes:
  0  nothing is wrong
  1  something is wrong
  2  the command line is wrong";

/// Look whether anything is wrong: directory, names, kernel, limits, processors, memory
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub struct Args {
    /// Remove the names of servers and semaphores whose processes are gone
    #[arg(long)]
    fix: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Looks at everything, and prints it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (directory, files) = (RuntimeDirectory::find(), KernelFiles::here());
    let mut report = Report::default();
    directory::examine(&directory, &mut report);
    names::examine(&directory, args.fix, &mut report);
    servers::examine(&directory, &mut report);
    kernel::examine(&files, &mut report);
    limits::examine(&files, &mut report);
    processors::examine(&files, &mut report);
    memory::examine(&files, &mut report);
    match args.json {
        true => output::json(&report)?,
        false => output::bytes(report.text().as_bytes())?,
    }
    Ok(if report.wrong > 0 { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS })
}
