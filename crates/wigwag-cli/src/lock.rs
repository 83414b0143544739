//! `wigwag lock`: a command that runs while it holds a permit of a semaphore.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use wigwag::observe::PermitSnapshot;
use wigwag::runtime::escaped;
use wigwag::{ErrorKind, Permit, Semaphore};

use crate::{exit, output, signals, surroundings, words};

const EXAMPLES: &str = "\
Examples:
  wigwag lock backup rsync -a docs/ /mnt/docs      # one at a time
  wigwag lock builds --permits 4 -- make           # four at a time
  wigwag lock deploy --timeout 10 -- ./deploy      # waits 10 s, then code 75
  wigwag lock -n -E 99 deploy ./deploy             # now or never: code 99
  wigwag lock report -c 'make > report.txt'        # a command for the shell
  wigwag lock ./here.semaphore -- make install     # a path instead of a name

Options stand before the command: what follows it is its own, with -- before it or without. Who uses the same name \
    must state the \
same number of permits. There is no server, and nothing to clean up.

Who waits for longer than a moment is told on standard error who holds it; --quiet says nothing. A lock within a lock \
    of the same \
name would wait for itself for ever: it is told so and ends, as if no permit had come free; with --timeout it waits \
    for as long.

If `wigwag lock` is killed, its command keeps the permit until it has ended, too. The next holder is \
told on standard error that the last one died, and its command by the variable WIGWAG_RECOVERED=1: what the \
permit protects may be half done. Signals are passed on to the command, but for those that were ignored when `wigwag \
    lock` began, \
as by nohup: the command ignores them, too.";

const CODES: &str = "\
Exit codes:
  that of the command; 128 + N if signal N ended it
  2    the command line is wrong, or the name, the path or the directory
  4    others have the semaphore open with another number of permits
  6    its file was removed or replaced by another program while somebody has it open
  75   no permit came free within --timeout, or at once with --nonblock; another
       one by --conflict-exit-code, for commands that end with 75 themselves
  126  the command cannot be executed
  127  there is no such command";

/// No permit came free in time.
const TIMED_OUT: u8 = exit::LATER;

/// After this long, a waiter is told which process it waits for.
const MOMENT: Duration = Duration::from_millis(500);

/// The locks that a command runs under: for each `PID PATH`, of the `wigwag lock` that holds it, the innermost first.
const HELD: &str = "WIGWAG_LOCKS";

/// Run a command while holding a permit: a lock between processes that survives kills
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
#[command(group(clap::ArgGroup::new("work").required(true).args(["shell", "command"])))]
pub struct Args {
    /// The name of the semaphore, or a path (starting with / ./ ../)
    pub name: OsString,
    /// How many may hold it at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub permits: usize,
    /// Seconds to wait at most, such as 10 or 0.5 [default: for ever]
    #[arg(short = 'w', long, visible_alias = "wait", value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Do not wait
    #[arg(short = 'n', long, visible_alias = "nb", conflicts_with = "timeout")]
    pub nonblock: bool,
    /// The exit code if no permit came free
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = TIMED_OUT)]
    pub conflict_exit_code: u8,
    /// Give the permit back with the end of `wigwag lock`, however it ends, and not only with that of its command
    #[arg(short = 'o', long)]
    pub close: bool,
    /// Do not tell on standard error who is waited for
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// A command for the shell: sh -c COMMAND
    #[arg(short = 'c', long = "command", value_name = "COMMAND")]
    pub shell: Option<OsString>,
    /// One at a time, as always
    #[arg(short = 'x', long, alias = "exclusive", short_alias = 'e', hide = true)]
    pub exclusive: bool,
    /// As of flock(1), and not possible
    #[arg(short = 's', long, hide = true)]
    pub shared: bool,
    /// As of flock(1), and not possible
    #[arg(short = 'F', long, hide = true)]
    pub no_fork: bool,
    /// The command, and what it is given
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
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
    if let Some(why) = impossible(args) {
        output::complain(&format!("wigwag: {why}."));
        return Ok(ExitCode::from(exit::USAGE));
    }
    let stage = Arc::new(Mutex::new(Stage::Waiting));
    pass_signals_on(Arc::clone(&stage))?;
    let builder = Semaphore::builder().permits(args.permits).shared_with_children(!args.close);
    let semaphore = builder.open(&args.name).map_err(words::explain)?;
    let Some(permit) = acquire(args, &semaphore)? else { return Ok(ExitCode::from(args.conflict_exit_code)) };
    if permit.recovered() {
        output::complain(&format!(
            "wigwag: the last holder of {} died with its permit: what it protects may be half done.",
            output::shell_word(&args.name)
        ));
    }
    let mut command = command(args, &semaphore.path());
    if permit.recovered() {
        command.env("WIGWAG_RECOVERED", "1");
    }
    let started = start(&mut command, &stage);
    let child = match started {
        Ok(child) => child,
        Err(error) => {
            output::complain(&format!(
                "wigwag: {} cannot be executed: {error}.",
                output::shell_word(command.get_program())
            ));
            return Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }));
        }
    };
    let status = wait(child, &stage).context("the command cannot be waited for")?;
    drop(permit);
    Ok(ExitCode::from(code_of(status)))
}

/// What flock(1) can do and a semaphore cannot.
fn impossible(args: &Args) -> Option<&'static str> {
    if args.shared {
        return Some(
            "--shared cannot be had: a permit is one holder's; --permits N lets N hold one at a time, of whom all \
             state the same N",
        );
    }
    args.no_fork.then_some(
        "--no-fork cannot be had: the permit is given back by who took it, and a command in its place would not do \
         that, so that the \
         next holder would be told of a death; signals are passed on to the command anyway",
    )
}

fn command(args: &Args, path: &Path) -> Command {
    let mut command = match &args.shell {
        Some(text) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(text);
            shell
        }
        None => {
            let mut command = Command::new(&args.command[0]);
            command.args(&args.command[1..]);
            command
        }
    };
    let mut held = OsString::from(format!("{} ", std::process::id()));
    held.push(path);
    if let Some(outer) = std::env::var_os(HELD) {
        held.push("\n");
        held.push(outer);
    }
    command.env_remove("WIGWAG_RECOVERED").env(HELD, held);
    surroundings::pass_on(&mut command);
    command
}

/// A permit, or none because none came free; then it has been said.
fn acquire<'a>(args: &Args, semaphore: &'a Semaphore) -> anyhow::Result<Option<Permit<'a>>> {
    let timeout = if args.nonblock { Some(Duration::ZERO) } else { args.timeout };
    let mut permit = semaphore.acquire_timeout(Duration::ZERO);
    let is_not_there = |error: &wigwag::Error| matches!(error.kind(), ErrorKind::TimedOut { .. } | ErrorKind::Full);
    if permit.as_ref().is_err_and(is_not_there) && timeout != Some(Duration::ZERO) {
        if let Some(outer) = outer_holder(semaphore) {
            output::complain(&format!(
                "wigwag: {} is held by {}, which waits for this very command{}.",
                output::shell_word(&args.name),
                described(outer),
                if timeout.is_some() {
                    ""
                } else {
                    ": it would wait for itself for ever (--timeout waits all the same)"
                }
            ));
            if timeout.is_none() {
                return Ok(None);
            }
        }
        let telling = (!args.quiet).then(|| tell_who_holds(args, semaphore.path()));
        permit = match timeout {
            None => semaphore.acquire(),
            Some(timeout) => semaphore.acquire_timeout(timeout),
        };
        drop(telling);
    }
    match permit {
        Ok(permit) => Ok(Some(permit)),
        Err(error) if is_not_there(&error) => {
            let held = holders(&semaphore.path()).map_or_else(String::new, |holders| format!(": held by {holders}"));
            let within = match timeout.filter(|timeout| !timeout.is_zero()) {
                None => "at once".to_owned(),
                Some(timeout) => format!("within {}", output::duration(timeout.as_nanos() as f64)),
            };
            let name = output::shell_word(&args.name);
            let permits = match semaphore.permits() {
                1 => "1 permit".to_owned(),
                permits => format!("{permits} permits"),
            };
            output::complain(&format!("wigwag: no permit came free {within} of {name}, which has {permits}{held}."));
            Ok(None)
        }
        Err(error) => Err(words::explain(error)),
    }
}

/// Tells after a moment who holds the permits, unless it is dropped before.
fn tell_who_holds(args: &Args, path: PathBuf) -> Option<Sender<()>> {
    let name = output::shell_word(&args.name);
    let (sender, is_over) = channel();
    let work = move || {
        if is_over.recv_timeout(MOMENT) == Err(RecvTimeoutError::Timeout) {
            let holders = holders(&path).unwrap_or_else(|| "somebody".to_owned());
            output::complain(&format!("wigwag: waiting for {name}: held by {holders}."));
        }
    };
    std::thread::Builder::new().name("holders".into()).spawn(work).ok().map(|_| sender)
}

/// The most holders that are told by their names.
const TOLD: usize = 4;

/// The holders of a semaphore's permits, in words; `None` if none is seen.
fn holders(path: &Path) -> Option<String> {
    let seen = PermitSnapshot::of(path).ok()?;
    let mut processes: Vec<u32> = seen.held().filter_map(|(_, holder)| holder.pid).collect();
    processes.sort_unstable();
    processes.dedup();
    let more = processes.len().saturating_sub(TOLD);
    let told: Vec<String> = processes.iter().take(TOLD).map(|process| described(*process)).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!told.is_empty()).then(|| told.join(", ") + &more)
}

/// The longest command line that is told, in characters.
const COMMAND_LINE: usize = 80;

/// A process with what it was started as, as far as that is to be seen.
fn described(process: u32) -> String {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let text = escaped(OsStr::from_bytes(&words.join(&b' ')));
    let shown: String = text.chars().take(COMMAND_LINE).collect();
    let dots = if shown.len() < text.len() { "..." } else { "" };
    match words.is_empty() {
        true => format!("process {process}"),
        false => format!("process {process} ({shown}{dots})"),
    }
}

/// The `wigwag lock` that this command runs under, if all permits are held by such: none comes free before this command
/// ends.
///
/// The number of a process alone says nothing, it may be that of another namespace. So it must be said by the
/// environment, be an ancestor of ours that has not ended, and be the one that holds the permit now.
fn outer_holder(semaphore: &Semaphore) -> Option<u32> {
    let path = semaphore.path();
    let said = std::env::var_os(HELD)?;
    let ours = |entry: &[u8]| {
        let at = entry.iter().position(|byte| *byte == b' ')?;
        let process: u32 = str::from_utf8(&entry[..at]).ok()?.parse().ok()?;
        (&entry[at + 1..] == path.as_os_str().as_bytes()).then_some(process)
    };
    let said: Vec<u32> = said.as_bytes().split(|byte| *byte == b'\n').filter_map(ours).collect();
    let ancestors = ancestors();
    let seen = PermitSnapshot::of(&path).ok()?;
    let is_ours = |process: &u32| said.contains(process) && ancestors.contains(process);
    let holders: Vec<u32> = seen.held().filter_map(|(_, holder)| holder.pid.filter(is_ours)).collect();
    holders.first().copied().filter(|_| holders.len() == semaphore.permits())
}

/// The processes that this one descends from, of those that live.
fn ancestors() -> Vec<u32> {
    let mut found = Vec::new();
    let mut process = std::process::id();
    while let Some(parent) = parent_of(process).filter(|parent| *parent != 0 && !found.contains(parent)) {
        found.push(parent);
        process = parent;
    }
    found
}

/// The parent of a process (proc(5), "stat": ppid is the second field behind the name).
fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
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
    let mut signals = signals::receive(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])?;
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
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .context("no thread can be started (is `ulimit -u`, `ulimit -v`, or the container's pids.max, reached?)")?;
    Ok(())
}

/// Whether this process is in the group that its terminal sends signals to (proc(5), "stat": pgrp, tpgid).
fn is_in_foreground() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.get(2).is_some_and(|group| Some(group) == fields.get(5))
}

/// A number of seconds on the command line.
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
