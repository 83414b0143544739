//! What the tests of the program share: a private runtime directory, the program itself, and servers that end with
//! the test that started them.

#![allow(dead_code)] // each test file uses its own part

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The most that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(30);

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
        command.args(arguments).env("XDG_RUNTIME_DIR", self.path()).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Waits until somebody has the name.
    pub fn until_it_listens(&self, name: &str) {
        let begin = Instant::now();
        while !self.path().join(format!("wigwag/{name}.sock")).exists() {
            assert!(begin.elapsed() < LIMIT, "nobody listens");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A script of bash in which `wigwag` is the program.
    pub fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &script.replace("wigwag ", "\"$WIGWAG\" ")]);
        shell.env("WIGWAG", env!("CARGO_BIN_EXE_wigwag")).env("XDG_RUNTIME_DIR", self.path());
        shell.current_dir(self.path()).stdin(Stdio::null());
        shell
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.wigwag(arguments).output().unwrap())
    }

    /// Starts `wigwag lock NAME --permits PERMITS cat gate`: with a [`Gate`], it holds a permit until that is dropped, or waits for one.
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

/// A program that is killed if the test ends before it.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub fn code(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
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

/// A pipe with a name, in the directory where programs run: who reads from it (`cat gate`) hangs until this is dropped. So
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
        use std::os::unix::fs::OpenOptionsExt as _;
        // Without waiting for a reader, who may be gone already.
        let _ = std::fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.0);
    }
}
