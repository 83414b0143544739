//! `wigwag lock`: a command that runs while it holds a permit of a semaphore.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use wigwag::{ErrorKind, Semaphore};

use crate::{exit, output};

const EXAMPLES: &str = "\
Examples:
  wigwag lock backup -- rsync -a docs/ /mnt/docs   # one at a time
  wigwag lock builds --permits 4 -- make           # four at a time
  wigwag lock deploy --timeout 10 -- ./deploy      # waits 10 s, then code 75
  wigwag lock deploy --timeout 0 -- ./deploy       # now or never
  wigwag lock ./here.semaphore -- make install     # a path instead of a name

Who uses the same name must state the same number of permits. There is no server, and nothing to \
clean up.

If `wigwag lock` is killed, its command keeps the permit until it has ended, too. The next holder is \
told on standard error that the last one died, and its command by the variable WIGWAG_RECOVERED=1: what the \
permit protects may be half done. Signals are passed on to the command.";

const CODES: &str = "\
Exit codes:
  that of the command; 128 + N if signal N ended it
  2    the command line is wrong, or the name, the path or the directory
  4    others have the semaphore open with another number of permits
  75   no permit came free within --timeout
  126  the command cannot be executed
  127  there is no such command";

/// No permit came free in time: EX_TEMPFAIL of sysexits.h.
const TIMED_OUT: u8 = 75;

/// Run a command while holding a permit: a lock between processes that survives kills
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub struct Args {
    /// The name of the semaphore, or a path (starting with / ./ ../)
    pub name: OsString,
    /// How many may hold it at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub permits: usize,
    /// Seconds to wait at most, such as 10 or 0.5 [default: for ever]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// The command, and what it is given
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Where the command is in its life, for the thread that passes signals on.
enum Stage {
    Waiting,
    Running(Pid),
    Over,
}

/// Runs the command while it holds a permit.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let stage = Arc::new(Mutex::new(Stage::Waiting));
    pass_signals_on(Arc::clone(&stage))?;
    let semaphore = Semaphore::builder().permits(args.permits).shared_with_children(true).open(&args.name)?;
    let permit = match args.timeout {
        None => semaphore.acquire(),
        Some(timeout) => semaphore.acquire_timeout(timeout),
    };
    let permit = match permit {
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => {
            eprintln!("wigwag: {error}.");
            return Ok(ExitCode::from(TIMED_OUT));
        }
        permit => permit?,
    };
    if permit.recovered() {
        eprintln!(
            "wigwag: the last holder of {} died with its permit: what it protects may be half done.",
            output::shell_word(&args.name)
        );
    }
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).env_remove("WIGWAG_RECOVERED");
    if permit.recovered() {
        command.env("WIGWAG_RECOVERED", "1");
    }
    let started = start(&mut command, &stage);
    let child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!("wigwag: {} cannot be executed: {error}.", output::shell_word(&args.command[0]));
            return Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }));
        }
    };
    let status = wait(child, &stage).context("the command cannot be waited for")?;
    drop(permit);
    Ok(ExitCode::from(code_of(status)))
}

fn start(command: &mut Command, stage: &Mutex<Stage>) -> std::io::Result<Child> {
    let mut stage = locked(stage);
    let child = command.spawn()?;
    *stage = Stage::Running(Pid::from_child(&child));
    Ok(child)
}

/// Waits for the command. Its number is not let go before nobody sends signals to it any more.
fn wait(mut child: Child, stage: &Mutex<Stage>) -> std::io::Result<ExitStatus> {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(Pid::from_child(&child)), ended), Err(rustix::io::Errno::INTR)) {}
    *locked(stage) = Stage::Over;
    child.wait()
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(exit::FAILED)
}

fn locked(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass_signals_on(stage: Arc<Mutex<Stage>>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])
        .context("the signals for the command cannot be received")?;
    let watch = move || {
        for number in signals.forever() {
            match *locked(&stage) {
                Stage::Waiting => std::process::exit(128 + number),
                // What comes from the terminal, it has already.
                Stage::Running(_) if [SIGINT, SIGQUIT].contains(&number) && is_in_foreground() => {}
                Stage::Running(command) => {
                    if let Some(signal) = Signal::from_named_raw(number) {
                        let _ = kill_process(command, signal);
                    }
                }
                Stage::Over => {}
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).context("no thread can be started")?;
    Ok(())
}

/// Whether this process is in the group that its terminal sends signals to (proc(5), "stat": pgrp, tpgid).
fn is_in_foreground() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.get(2).is_some_and(|group| Some(group) == fields.get(5))
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or_else(|| "a number of seconds such as 10 or 0.5 is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_understood() {
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "-1", "soon", "NaN", "inf"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_code_is_that_of_the_command() {
        assert_eq!(code_of(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code_of(ExitStatus::from_raw(9)), 137);
    }
}
