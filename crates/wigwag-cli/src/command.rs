//! A shell command as a handler: the request is its standard input, its standard output is the reply.
//!
//! It has a session and a process group of its own: what is typed at the server's terminal does not reach it, and
//! ending it ends everything that it started and that stayed in that group (`setsid` leaves it). It is over when it
//! ends, even if another process still holds its output open. If the server is killed, the shell is killed with it;
//! there is nobody left then who could end what the shell has started.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::{output, surroundings};

/// A command's error text is passed on up to this length.
const MOST_ERROR_TEXT: usize = 2048;
/// How often it is looked whether somebody still waits for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What is told to end may take so long before it is killed.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes moved at a time.
const PIECE: usize = 64 << 10;

/// What a command has to keep to.
pub struct Bounds<'a> {
    /// The longest output.
    pub capacity: usize,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Whether nobody waits for its output any more.
    pub is_given_up: &'a dyn Fn() -> bool,
}

/// Runs `command` with `input`; its output, or a sentence that says what went wrong.
///
/// Input, output and error text flow at the same time, so none of them can hold up the others.
pub fn run(command: &OsStr, input: &[u8], bounds: &Bounds<'_>) -> Result<Vec<u8>, String> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    surroundings::pass_on_apart(&mut shell); // this thread waits for it below
    let child = shell.spawn().map_err(|error| format!("the command cannot be started: {error}"))?;
    let mut running = Running::new(child);
    let conversed = running.converse(input, bounds);
    if conversed.is_err() {
        running.end();
    }
    let ended = running.wait();
    let complaint = String::from_utf8_lossy(&running.complaint).trim().to_owned();
    conversed?;
    match ended {
        Ok(()) => Ok(running.output),
        Err(how) if complaint.is_empty() => Err(format!("the command {how}")),
        Err(how) => Err(format!("the command {how}: {complaint}")),
    }
}

/// A command that runs, and its pipes.
struct Running {
    child: Child,
    group: Pid,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    output: Vec<u8>,
    complaint: Vec<u8>,
    piece: Vec<u8>,
}

impl Running {
    fn new(mut child: Child) -> Running {
        let group = Pid::from_child(&child);
        let mut groups = groups();
        groups.running.push(group);
        if groups.is_ending {
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(groups);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Running {
            child,
            group,
            stdin,
            stdout,
            stderr,
            output: Vec::new(),
            complaint: Vec::new(),
            piece: vec![0; PIECE],
        }
    }

    /// Moves bytes until the command ends.
    fn converse(&mut self, mut input: &[u8], bounds: &Bounds<'_>) -> Result<(), String> {
        let lost = |error: Errno| format!("the command cannot be heard: {error}");
        let process = pidfd_open(self.group, PidfdFlags::empty()).map_err(lost)?;
        let pipes = [
            self.stdin.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            ioctl_fionbio(pipe, true).map_err(lost)?;
        }
        let deadline = bounds.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.feed(&mut input);
            let has_ended = self.await_something(&process, deadline).map_err(lost)?;
            self.drain(has_ended);
            if self.output.len() > bounds.capacity {
                return Err(format!(
                    "the command's output is longer than the capacity of {} bytes; the server's --capacity raises it",
                    bounds.capacity
                ));
            }
            if has_ended {
                return Ok(());
            }
            if let Some(timeout) = bounds.timeout.filter(|_| deadline.is_some_and(|at| Instant::now() >= at)) {
                let within = output::duration(timeout.as_nanos() as f64);
                return Err(format!("the command did not end within {within} and was ended (the server's --timeout)"));
            }
            if (bounds.is_given_up)() {
                return Err("nobody waits for the answer any more: the command was ended".to_owned());
            }
        }
    }

    /// Writes as much of the input as there is room for. A command need not read it to the end: `head -1` does not.
    fn feed(&mut self, input: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        while !input.is_empty() {
            match stdin.write(input) {
                Ok(count) => *input = &input[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    /// Sleeps until there is something to do; whether the command has ended.
    fn await_something(&self, process: &OwnedFd, deadline: Option<Instant>) -> Result<bool, Errno> {
        let mut awaited = vec![PollFd::new(process, PollFlags::IN)];
        awaited.extend(self.stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        awaited.extend(self.stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        awaited.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let left = deadline.map_or(LOOK_EVERY, |at| at.saturating_duration_since(Instant::now()));
        let left = Timespec { tv_sec: 0, tv_nsec: left.min(LOOK_EVERY).as_nanos() as _ };
        match poll(&mut awaited, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(!awaited[0].revents().is_empty()),
            Err(error) => Err(error),
        }
    }

    /// Takes what the pipes have. After the command's end all that it wrote is in them; what is written meanwhile by
    /// others, whom it left behind, is not its output.
    fn drain(&mut self, has_ended: bool) {
        let Running { stdout, stderr, output, complaint, piece, .. } = self;
        drain(stdout, has_ended, piece, |bytes| output.extend_from_slice(bytes));
        // All of the error text is taken, so that the command does not wait; only the start is kept.
        let keep = |bytes: &[u8]| complaint.extend(&bytes[..bytes.len().min(MOST_ERROR_TEXT - complaint.len())]);
        drain(stderr, has_ended, piece, keep);
    }

    /// Ends it, and all that it has started and that has not left its process group.
    fn end(&self) {
        let tell = |signal| {
            let _ = kill_process_group(self.group, signal); // gone already, perhaps
        };
        tell(Signal::TERM);
        tell(Signal::CONT); // what is stopped does not end
        if let Ok(process) = pidfd_open(self.group, PidfdFlags::empty()) {
            let left = Timespec { tv_sec: GRACE.as_secs() as _, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left));
        }
        // The command did not listen. Its number is not free yet: nobody has waited for the command.
        tell(Signal::KILL);
    }

    fn wait(&mut self) -> Result<(), String> {
        // Before its number may be another's.
        groups().running.retain(|group| *group != self.group);
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("failed ({status})")),
            Err(error) => Err(format!("cannot be waited for ({error})")),
        }
    }
}

/// Reads what a pipe has, once, or after the command's end to where it stands then; a pipe that has ended is closed.
fn drain(pipe: &mut Option<impl Read + AsFd>, has_ended: bool, piece: &mut [u8], mut take: impl FnMut(&[u8])) {
    let Some(open) = pipe else { return };
    let mut left = match has_ended {
        true => ioctl_fionread(&*open).map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX)),
        false => piece.len(),
    };
    while left > 0 {
        let room = left.min(piece.len());
        match open.read(&mut piece[..room]) {
            Ok(0) => break,
            Ok(count) => {
                take(&piece[..count]);
                left = if has_ended { left - count } else { 0 };
                if left == 0 {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => break,
        }
    }
    *pipe = None;
}

/// The process groups of the commands that run.
#[derive(Default)]
struct Groups {
    running: Vec<Pid>,
    /// No more are wanted.
    is_ending: bool,
}

static GROUPS: Mutex<Groups> = Mutex::new(Groups { running: Vec::new(), is_ending: false });

fn groups() -> MutexGuard<'static, Groups> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a signal to all commands that run and all that they have started.
fn tell_all(signal: Signal) {
    for group in &groups().running {
        let _ = kill_process_group(*group, signal);
    }
}

/// Stops all commands, as Ctrl-Z does.
pub fn stop_all() {
    tell_all(Signal::STOP);
}

/// Lets all commands go on.
pub fn continue_all() {
    tell_all(Signal::CONT);
}

/// Does not return while all commands are being ended: the thread that ends them ends the program, with its own code.
pub fn wait_if_ending() {
    while groups().is_ending {
        std::thread::sleep(GRACE);
    }
}

/// Ends all commands, and each that is begun later: those that do not listen are killed.
pub fn end_all() {
    groups().is_ending = true;
    tell_all(Signal::TERM);
    tell_all(Signal::CONT);
    let begin = Instant::now();
    while begin.elapsed() < GRACE && !groups().running.is_empty() {
        std::thread::sleep(LOOK_EVERY);
    }
    tell_all(Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(command: &str, input: &[u8], capacity: usize) -> Result<Vec<u8>, String> {
        run(command.as_ref(), input, &Bounds { capacity, timeout: None, is_given_up: &|| false })
    }

    #[test]
    fn output_is_the_reply() {
        assert_eq!(sh("tr a-z A-Z", b"hello", 100).unwrap(), b"HELLO");
        assert_eq!(sh("true", b"unread", 100).unwrap(), b"");
    }

    #[test]
    fn large_input_and_output_flow_at_the_same_time() {
        let input = vec![7; 3_000_000];
        assert_eq!(sh("cat", &input, input.len()).unwrap(), input);
        assert_eq!(sh("head -c 2", &input, 2).unwrap(), [7, 7]);
    }

    #[test]
    fn failure_carries_the_error_text() {
        let error = sh("echo no luck >&2; exit 3", b"", 10).unwrap_err();
        assert!(error.contains("no luck") && error.contains('3'), "{error}");
        assert!(sh("exit 4", b"", 10).unwrap_err().contains('4'));
        let long = sh("yes complaint | head -c 100000 >&2; exit 1", b"", 10).unwrap_err();
        assert!(long.len() < MOST_ERROR_TEXT + 100, "{}", long.len());
    }

    #[test]
    fn output_beyond_the_capacity_is_an_error_that_names_it() {
        assert_eq!(sh("printf 12345", b"", 5).unwrap(), b"12345");
        let error = sh("yes", b"", 1234).unwrap_err();
        assert!(error.contains("1234") && error.contains("--capacity"), "{error}");
    }
}
