//! What all process tests share: a ground of their own, real other processes, and patience.
//!
//! A test starts another process by executing its own binary again with the name of a *role*: a test function that
//! [`role`] returns from at once, unless the environment says that this very process is to play it. The two talk in
//! lines over a socket that the child has as its standard input; either end's death is the other's end of file. What a
//! test starts it ends, by its own handle: see [`Process`]'s `Drop`.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

/// The longest that anything here may take. Only a hang, or a lost wake-up, is longer; no test asserts less.
pub const LIMIT: Duration = Duration::from_secs(30);

const ROLE: &str = "WIGWAG_TEST_ROLE";
const ARGUMENTS: &str = "WIGWAG_TEST_ARGUMENTS";

/// A directory that only this user can write to, with everything in it, for one test.
pub struct Ground(TempDir);

impl Ground {
    /// Makes it.
    pub fn new() -> Ground {
        let directory = tempfile::Builder::new().prefix("wigwag-test-").tempdir().unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(directory.path(), private).unwrap();
        Ground(directory)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of the socket that the test's server has.
    pub fn socket(&self) -> PathBuf {
        self.path("server")
    }
}

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

/// Another process, playing a role of this test binary. It is killed when this is dropped.
pub struct Process {
    name: String,
    /// The process itself.
    pub child: Child,
    link: Link,
}

impl Process {
    /// Starts the role with that name, which must be a test function at the root of this binary.
    pub fn start<A: Into<OsString>>(role: &str, arguments: impl IntoIterator<Item = A>) -> Process {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", role, "--nocapture", "--include-ignored", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGUMENTS, arguments.join("\n".as_ref()))
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
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

    /// Receives a line and checks it.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line, "from the process `{}`", self.name);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.child.wait().unwrap()
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

/// The body of a role: does nothing in a test run, and plays the role in a process that [`Process::start`] started.
pub fn role(name: &str, play: impl FnOnce(&Link, &[&str])) {
    if std::env::var_os(ROLE).is_none_or(|wanted| wanted != name) {
        return;
    }
    // Whoever kills the test kills its processes.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let arguments = std::env::var(ARGUMENTS).unwrap();
    let arguments: Vec<&str> = arguments.split('\n').collect();
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    play(&Link::new(stream), &arguments);
}

/// Waits until something is true; fails with `what` when it never is.
pub fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The word at `index` of the pattern that `seed` stands for (splitmix64, Steele, Lea, Flood 2014).
pub fn word(seed: u64, index: u64) -> u64 {
    let mut word = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Writes the pattern.
pub fn fill(bytes: &mut [u8], seed: u64) {
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&word(seed, index as u64).to_le_bytes()[..chunk.len()]);
    }
}

/// Checks every byte of what an inverting server made of the pattern.
#[track_caller]
pub fn check_inverted(bytes: &[u8], len: usize, seed: u64) {
    assert_eq!(bytes.len(), len);
    for (index, chunk) in bytes.chunks(8).enumerate() {
        let expected = (!word(seed, index as u64)).to_le_bytes();
        assert_eq!(chunk, &expected[..chunk.len()], "at byte {} of {len}", index * 8);
    }
}
