//! What the tests of the program share: a private runtime directory, the program itself, and servers that end with
//! the test that started them.

#![allow(dead_code)] // each test file uses its own part

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The most that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The most that a program may take that runs to its end: a demo or a bench takes its time on a busy machine.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A runtime directory that only this test knows.
pub struct Runtime {
    directory: tempfile::TempDir,
}

impl Runtime {
    pub fn new() -> Runtime {
        let mut builder = tempfile::Builder::new();
        builder.prefix("wigwag-test-").permissions(std::fs::Permissions::from_mode(0o700));
        Runtime { directory: builder.tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The program with these arguments, without any input.
    pub fn wigwag<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wigwag"));
        command
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.path())
            .env_remove("WIGWAG_DIRECTORY")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Waits until somebody has the name.
    pub fn until_it_listens(&self, name: &str) {
        until_it_listens(&self.path().join(format!("wigwag/{name}.sock")));
    }

    /// A script of bash in which `wigwag` is the program.
    pub fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &script.replace("wigwag ", "\"$WIGWAG\" ")]);
        shell.env("WIGWAG", env!("CARGO_BIN_EXE_wigwag")).env("XDG_RUNTIME_DIR", self.path());
        shell.env_remove("WIGWAG_DIRECTORY");
        shell.current_dir(self.path()).stdin(Stdio::null());
        shell
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.wigwag(arguments).output_in_time())
    }

    /// Starts `wigwag lock NAME --permits PERMITS cat gate`: with a [`Gate`], it holds a permit until that is dropped,
    /// or waits for one.
    pub fn lock(&self, name: &str, permits: &str) -> Running {
        let mut command = self.wigwag(["lock", name, "--permits", permits, "--", "cat", "gate"]);
        Running(command.current_dir(self.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts `wigwag serve NAME ARGUMENTS` and waits until it listens.
    pub fn serve(&self, name: &str, arguments: &[&str]) -> Serving {
        let mut command = self.wigwag(["serve", name, "--json"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let listening: serde_json::Value = serde_json::from_str(&line).expect("the server says that it listens");
        let socket = listening["listening"].as_str().unwrap().into();
        Serving { child, output, socket }
    }
}

/// Waits until somebody listens at a path: a moment after the socket is there.
pub fn until_it_listens(socket: &Path) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let begin = Instant::now();
    loop {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let client = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        if connect(client, &SocketAddrUnix::new(socket).unwrap()).is_ok() {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "nobody listens");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A server process. Dropping it kills it.
pub struct Serving {
    child: Child,
    output: BufReader<ChildStdout>,
    pub socket: PathBuf,
}

impl Serving {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Stops it, and waits until each of its threads is stopped.
    pub fn halt(&self) {
        self.signal(Signal::SIGSTOP);
        let is_stopped = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        let begin = std::time::Instant::now();
        let tasks = format!("/proc/{}/task", self.child.id());
        while !std::fs::read_dir(&tasks).unwrap().flatten().all(is_stopped) {
            assert!(begin.elapsed().as_secs() < 20, "it does not stop");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Waits for its end: the exit code and what it still printed.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, as `output` does, and fails the test if there is no end.
pub trait OutputInTime {
    /// What it left. It has a process group of its own, which is killed with it.
    fn output_in_time(&mut self) -> Output;
}

impl OutputInTime for Command {
    #[track_caller]
    fn output_in_time(&mut self) -> Output {
        let child = self.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn();
        end_of(child.unwrap())
    }
}

/// Waits for a program's end; one that does not come in time is made, and fails the test.
#[track_caller]
pub fn end_of(child: Child) -> Output {
    let process = Pid::from_raw(child.id() as i32);
    let (ended, outcome) = channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    match outcome.recv_timeout(RUN_LIMIT) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            // The number is the child's until it was waited for. It may have no group of its own.
            let _ = kill(process, Signal::SIGKILL);
            let _ = killpg(process, Signal::SIGKILL);
            panic!("the program does not end: not within {RUN_LIMIT:?}");
        }
    }
}

/// The first line of what a program prints; fails the test if none comes.
#[track_caller]
pub fn first_line(output: impl std::io::Read + Send + 'static) -> String {
    let (read, outcome) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        read.send(BufReader::new(output).read_line(&mut line).map(|_| line))
    });
    outcome.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no line comes: not within {LIMIT:?}")).unwrap()
}

/// A program that is killed if the test ends before it.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    pub fn code(&mut self) -> Option<i32> {
        self.status().code()
    }

    pub fn status(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < LIMIT, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn output(&mut self) -> String {
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

/// What a program that has ended left.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    /// It succeeded and had nothing to complain about.
    #[track_caller]
    pub fn succeeded(self) -> Ended {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        self
    }

    /// It failed with this code and one plain sentence.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with("wigwag: ") && self.stderr.ends_with(".\n"), "{self:?}");
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("backtrace"), "{self:?}");
        self.stderr
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ended { code: output.status.code(), stdout: output.stdout, stderr }
    }
}

/// A pipe with a name, in the directory where programs run: a reader (`cat gate`) hangs until this is dropped. So
/// nothing is left that sleeps, also when the test fails.
pub struct Gate(PathBuf);

impl Gate {
    pub fn new(runtime: &Runtime) -> Gate {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let path = runtime.path().join("gate");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        Gate(path)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Readers may be gone, wait in the pipe, or be about to open it: a late reader finds an empty file in its
        // place. Opened both ways, a pipe waits for nobody.
        let pipe = std::fs::File::options().read(true).write(true).open(&self.0);
        let empty = self.0.with_extension("open");
        let _ = std::fs::write(&empty, "").and_then(|()| std::fs::rename(&empty, &self.0));
        drop(pipe);
    }
}
