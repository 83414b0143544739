//! Real other processes.
//!
//! A test starts another process by executing its own binary again with the name of a *role*: a test function that
//! [`role`] returns from at once, unless the environment says that this very process is to play it. A program does the
//! same with [`Process::run`] and [`ordered_role`]. The two talk in lines over a socket that the child has as its
//! standard input; either end's death is the other's end of file. What a test starts it ends, by its own handle: see
//! [`Process`]'s `Drop`.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::LIMIT;

const ROLE: &str = "WIGWAG_TEST_ROLE";
const ARGUMENTS: &str = "WIGWAG_TEST_ARGUMENTS";

/// One end of the lines between a test and a process that it started.
pub struct Link {
    writer: UnixStream,
    reader: Mutex<BufReader<UnixStream>>,
}

impl Link {
    fn new(stream: UnixStream) -> Link {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let writer = stream.try_clone().unwrap();
        Link { writer, reader: Mutex::new(BufReader::new(stream)) }
    }

    /// Sends a line.
    pub fn tell(&self, line: impl Display) {
        let line = format!("{line}\n");
        // An end that is gone is noticed where something is expected of it.
        let _ = (&self.writer).write_all(line.as_bytes());
    }

    /// Whether a line, or the end, is there to be heard within a time; `None`: however long it takes.
    pub fn has_said_something(&self, limit: Option<Duration>) -> std::io::Result<bool> {
        if !self.reader.lock().unwrap().buffer().is_empty() {
            return Ok(true);
        }
        let limit =
            limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
        Ok(poll(&mut [PollFd::new(&self.writer, PollFlags::IN)], limit.as_ref())? > 0)
    }

    /// As [`hear`](Link::hear), however long it takes: for processes that are told what to do now and then.
    pub fn hear_at_last(&self) -> Option<String> {
        let _ = self.has_said_something(None);
        self.hear()
    }

    /// Receives a line; `None` when the other end is gone.
    pub fn hear(&self) -> Option<String> {
        let mut line = String::new();
        match self.reader.lock().unwrap().read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing heard from the other process: {error}"),
        }
    }
}

/// Sends lines to a process.
pub struct LineWriter(UnixStream);

impl LineWriter {
    /// Sends a line.
    pub fn tell(&self, line: impl Display) {
        // An end that is gone is noticed where something is expected of it.
        let _ = (&self.0).write_all(format!("{line}\n").as_bytes());
    }
}

/// Another process, playing a role of this test binary. It is killed when this is dropped.
pub struct Process {
    name: String,
    /// The process itself.
    pub child: Child,
    link: Link,
}

/// Held for writing while a process is started.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts a program, and returns once it is executed.
pub fn start(command: &mut Command) -> Child {
    let _guard = process_starts();
    command.spawn().unwrap()
}

/// For a test that forks, or starts a process in another way than by [`start`].
pub fn process_starts() -> RwLockWriteGuard<'static, ()> {
    STARTING.write().unwrap_or_else(PoisonError::into_inner)
}

/// No process is [started](start) while the guard lives, for a test of locks in a binary whose other tests start
/// processes: between fork and exec a child has all descriptors of its parent, and what they hold.
pub fn no_process_starts() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// Starts the role with that name, which must be a test function at the root of this binary.
    pub fn start<A: Into<OsString>>(role: &str, arguments: impl IntoIterator<Item = A>) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", role, "--nocapture", "--include-ignored", "--test-threads=1"]);
        Process::run(command, role, arguments)
    }

    /// Starts a program that plays the role: it finds the name by [`ordered_role`].
    pub fn run<A: Into<OsString>>(mut command: Command, role: &str, arguments: impl IntoIterator<Item = A>) -> Process {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        command
            .env(ROLE, role)
            .env(ARGUMENTS, arguments.join("\n".as_ref()))
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null());
        let child = start(&mut command);
        Process { name: role.to_owned(), child, link: Link::new(ours) }
    }

    /// Sends it a line.
    pub fn tell(&self, line: impl Display) {
        self.link.tell(line);
    }

    /// Receives a line from it.
    pub fn hear(&mut self) -> String {
        match self.link.hear() {
            Some(line) => line,
            None => panic!("the process `{}` is gone: {:?}", self.name, self.child.wait()),
        }
    }

    /// Receives a line; `None` when it is gone.
    pub fn try_hear(&self) -> Option<String> {
        self.link.hear()
    }

    /// As [`try_hear`](Process::try_hear), however long it takes.
    pub fn hear_at_last(&self) -> Option<String> {
        self.link.hear_at_last()
    }

    /// Whether a line, or the end, is there to be heard within a time.
    pub fn has_said_something(&self, limit: Duration) -> std::io::Result<bool> {
        self.link.has_said_something(Some(limit))
    }

    /// Another one who can talk to it.
    pub fn line_writer(&self) -> LineWriter {
        LineWriter(self.link.writer.try_clone().unwrap())
    }

    /// Its number, ours until it has been waited for.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Receives a line and checks it.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line, "from the process `{}`", self.name);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.child.wait().unwrap()
    }

    /// Stops it, and waits until each of its threads is stopped.
    pub fn halt(&self) {
        self.signal(Signal::STOP);
        crate::eventually("it is stopped", || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().flatten();
            let stat =
                |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            threads.map(stat).all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
        });
    }

    /// Sends a signal. It cannot reach another process: the id is ours until we have waited for it.
    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Waits until it has ended by itself, well.
    pub fn join(mut self) {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "the process `{}` failed: {status}", self.name);
                return;
            }
            assert!(begin.elapsed() < LIMIT, "the process `{}` does not end", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// The role that this process was started for, if any.
pub fn ordered_role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// The body of a role: does nothing in a test run, and plays the role in a process that [`Process::start`] started.
pub fn role(name: &str, play: impl FnOnce(&Link, &[&str])) {
    if std::env::var_os(ROLE).is_none_or(|wanted| wanted != name) {
        return;
    }
    // Killing the test kills its processes.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let arguments = std::env::var(ARGUMENTS).unwrap();
    let arguments: Vec<&str> = arguments.split('\n').collect();
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    play(&Link::new(stream), &arguments);
}

/// A child that holds a copy of every descriptor and does nothing. Its parent dies; the test ends it.
pub fn fork_a_sleeper() -> i32 {
    // SAFETY: the child only sleeps in the kernel, until it is killed.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => loop {
            // SAFETY: no memory is involved. The alarm ends it should the test be gone.
            unsafe { libc::alarm(120) };
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        },
        child => child,
    }
}
