//! What a job plays in: an empty runtime directory, processes of two versions that end with it, and a time within which
//! all must be over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::Permissions;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::programs::Programs;

/// The most that a job may take, with one pair of versions.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How often it is looked whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Server,
    Client,
}

impl fmt::Display for Side {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Side::Server { "server" } else { "client" })
    }
}

/// What each side said at the points of a job that have names.
pub type Sayings = BTreeMap<(Side, String), String>;

/// A job's surroundings. Dropping it removes the directory.
pub struct Scene<'a> {
    /// What serves, receives or listens first.
    pub server: &'a Programs,
    /// What calls, sends, connects or looks.
    pub client: &'a Programs,
    directory: TempDir,
    deadline: Instant,
    processes: RefCell<Vec<u32>>,
    /// Pipes with names.
    pipes: RefCell<Vec<String>>,
    /// What each command complained about so far.
    complaints: RefCell<Vec<(String, Bytes)>>,
    sayings: RefCell<Sayings>,
}

impl<'a> Scene<'a> {
    pub fn new(server: &'a Programs, client: &'a Programs) -> anyhow::Result<Scene<'a>> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("wigwag-previous-").permissions(Permissions::from_mode(0o700));
        let directory = builder.tempdir().context("there can be no directory for a job")?;
        let deadline = Instant::now() + LIMIT;
        let (processes, pipes) = (RefCell::default(), RefCell::default());
        let (complaints, sayings) = (RefCell::default(), RefCell::default());
        Ok(Scene { server, client, directory, deadline, processes, pipes, complaints, sayings })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A program in these surroundings. It sees its name as a user types it, because sentences have it.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg0("wigwag").args(arguments).current_dir(self.path());
        command.env("XDG_RUNTIME_DIR", self.path()).env_remove("WIGWAG_DIRECTORY").env_remove("WIGWAG_LOCKS");
        command
    }

    /// Starts `wigwag` of that version; what it prints is collected.
    pub fn start(&self, who: &Programs, arguments: &[&str], input: Input) -> anyhow::Result<Running> {
        self.spawn(self.command(&who.wigwag, arguments), input)
    }

    /// Starts a command; what it prints is collected.
    pub fn spawn(&self, command: Command, input: Input) -> anyhow::Result<Running> {
        let mut running = self.spawn_unread(command, input)?;
        running.read_output();
        Ok(running)
    }

    /// Starts a command whose standard output nobody reads before it has ended: it comes to a halt where the pipe is
    /// full.
    pub fn spawn_unread(&self, mut command: Command, input: Input) -> anyhow::Result<Running> {
        command.stdin(if matches!(input, Input::Nothing) { Stdio::null() } else { Stdio::piped() });
        self.started(command.stdout(Stdio::piped()), input)
    }

    /// Starts a command that has a standard input and output of its own.
    pub fn spawn_as_it_is(&self, mut command: Command) -> anyhow::Result<Running> {
        self.started(&mut command, Input::Nothing)
    }

    fn started(&self, command: &mut Command, input: Input) -> anyhow::Result<Running> {
        let shown = words(command);
        command.stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
        self.processes.borrow_mut().push(child.id());
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let complained = collect(child.stderr.take());
        self.complaints.borrow_mut().push((shown.clone(), Arc::clone(&complained.bytes)));
        if let Input::Bytes(bytes) = input {
            let stdin = stdin.take();
            // Whoever does not read it all says so by its exit code.
            std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&bytes)));
        }
        let deadline = self.deadline;
        Ok(Running { shown, child, stdin, stdout, printed: None, complained, deadline })
    }

    /// Runs `wigwag` of that version to its end.
    pub fn run(&self, who: &Programs, arguments: &[&str]) -> anyhow::Result<Ended> {
        self.start(who, arguments, Input::Nothing)?.wait()
    }

    /// Runs `wigwag` of that version to its end, with that input.
    pub fn run_with(&self, who: &Programs, arguments: &[&str], input: &[u8]) -> anyhow::Result<Ended> {
        self.start(who, arguments, Input::Bytes(input.to_vec()))?.wait()
    }

    /// Starts `wigwag serve NAME --json ARGUMENTS` and waits until it listens.
    pub fn serve(&self, who: &Programs, name: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        let running = self.start(who, &[&["serve", name, "--json"], arguments].concat(), Input::Nothing)?;
        self.until("the server listens", || Ok(running.printed().ends_with(b"\n")))?;
        Ok(running)
    }

    /// Waits until somebody listens at a name: a moment after its socket is there.
    pub fn until_it_listens(&self, name: &str) -> anyhow::Result<()> {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
        let address = SocketAddrUnix::new(self.path().join(format!("wigwag/{name}.sock")))?;
        self.until("somebody listens", || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            Ok(connect(socket, &address).is_ok())
        })
    }

    /// Waits for a condition, within the time of the job.
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        while !is_so()? {
            ensure!(Instant::now() < self.deadline, "{what}: not within {LIMIT:?}{}", self.complaints());
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// What its programs complained about: mostly it says why something has not come.
    fn complaints(&self) -> String {
        let complaints = self.complaints.borrow();
        let said = complaints.iter().map(|(shown, bytes)| (shown, text(bytes))).filter(|(_, said)| !said.is_empty());
        said.map(|(shown, said)| format!("\n`{shown}` said: {said:?}")).collect()
    }

    /// A pipe with a name, in the directory where programs run.
    pub fn pipe(&self, name: &str) -> anyhow::Result<()> {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        self.pipes.borrow_mut().push(name.to_owned());
        Ok(mknodat(CWD, self.path().join(name), FileType::Fifo, Mode::RWXU, 0)?)
    }

    /// Lets a program go on that reads a pipe with a name: it hears of the pipe's end. Waits for one that reads.
    pub fn open_gate(&self, name: &str) -> anyhow::Result<()> {
        use rustix::fs::{Mode, OFlags, open};
        let path = self.path().join(name);
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.until("somebody waits at the gate", || Ok(open(&path, flags, Mode::empty()).is_ok()))
    }

    /// Waits until a file is there.
    pub fn until_there(&self, file: &str) -> anyhow::Result<()> {
        self.until(&format!("the file `{file}` is there"), || Ok(self.path().join(file).exists()))
    }

    /// Notes what a side says at a point of the job. It must be what a program of its version says when the other side
    /// is of that version, too; numbers that differ from one run to the next are left out.
    pub fn note(&self, side: Side, point: &str, said: &str) {
        let text = said.replace(&*self.path().to_string_lossy(), "DIRECTORY");
        let text = without_numbers(&text, &self.processes.borrow());
        self.sayings.borrow_mut().insert((side, point.to_owned()), text);
    }

    /// What has been noted.
    pub fn sayings(&self) -> Sayings {
        self.sayings.borrow().clone()
    }
}

/// A command of a program that was killed goes on: it may wait at a gate for ever.
impl Drop for Scene<'_> {
    fn drop(&mut self) {
        use rustix::fs::{Mode, OFlags, open};
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for gate in self.pipes.get_mut() {
            let _nobody_waits = open(self.directory.path().join(gate), flags, Mode::empty());
        }
    }
}

/// What a program reads.
pub enum Input {
    Nothing,
    /// These bytes, and then the end.
    Bytes(Vec<u8>),
    /// What [`Running::write`] gives it.
    Open,
}

/// What a thread reads, for others to look at.
type Bytes = Arc<Mutex<Vec<u8>>>;

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// What has come so far, and who reads more.
struct Collected {
    bytes: Bytes,
    reading: JoinHandle<()>,
}

/// Reads a pipe to its end on a thread of its own.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&bytes);
    let reading = std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut piece = vec![0; 64 << 10];
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
        }
    });
    Collected { bytes, reading }
}

impl Collected {
    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of it. What a killed program has started may keep the pipe for longer than the job may last.
    fn all(&self, deadline: Instant) -> anyhow::Result<Vec<u8>> {
        while !self.reading.is_finished() {
            ensure!(Instant::now() < deadline, "somebody keeps a pipe whose program has ended");
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(self.so_far())
    }
}

/// A process. Dropping it kills it.
pub struct Running {
    /// Its command line.
    shown: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    printed: Option<Collected>,
    complained: Collected,
    deadline: Instant,
}

impl Running {
    fn read_output(&mut self) {
        self.printed = Some(collect(self.stdout.take()));
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn printed(&self) -> Vec<u8> {
        self.printed.as_ref().map(Collected::so_far).unwrap_or_default()
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().with_context(|| format!("`{}` has no open input", self.shown))?;
        stdin.write_all(bytes).with_context(|| format!("`{}` does not read its input", self.shown))
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // The number is the child's until it is waited for, and that is only at its end.
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
        kill_process(process, signal).with_context(|| format!("cannot send {signal:?} to `{}`", self.shown))
    }

    /// Kills it, and waits for its end. What it has started and that reads its input ends with that.
    pub fn kill(mut self) -> anyhow::Result<Ended> {
        self.signal(Signal::KILL)?;
        self.end_input();
        self.wait()
    }

    /// Waits for its end. An input that is open stays so.
    pub fn wait(mut self) -> anyhow::Result<Ended> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > self.deadline {
                bail!(
                    "`{}` does not end: not within {LIMIT:?}; it said: {:?}",
                    self.shown,
                    text(&self.complained.bytes)
                );
            }
            std::thread::sleep(LOOK_EVERY);
        };
        if self.printed.is_none() {
            self.read_output();
        }
        let printed = self.printed.as_ref().map_or_else(|| Ok(Vec::new()), |printed| printed.all(self.deadline))?;
        let complained = String::from_utf8_lossy(&self.complained.all(self.deadline)?).into_owned();
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
        Ok(Ended { shown: self.shown.clone(), code, printed, complained })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already in most jobs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process that has ended left.
#[derive(Debug)]
pub struct Ended {
    shown: String,
    /// The exit code; the negative number of the signal that ended it.
    pub code: i32,
    pub printed: Vec<u8>,
    pub complained: String,
}

impl Ended {
    /// It succeeded and had nothing to complain about; what it printed.
    pub fn succeeded(self) -> anyhow::Result<Vec<u8>> {
        let said = format!("code {}, {:?}", self.code, self.complained);
        ensure!(self.code == 0 && self.complained.is_empty(), "`{}`: expected code 0, \"\": got {said}", self.shown);
        Ok(self.printed)
    }

    /// It succeeded, and printed exactly that.
    pub fn printed_exactly(self, expected: &[u8]) -> anyhow::Result<()> {
        let shown = self.shown.clone();
        same(&format!("what `{shown}` printed"), &self.succeeded()?, expected)
    }

    /// It failed with that code, and said one sentence, which is given back.
    pub fn failed(self, code: i32) -> anyhow::Result<String> {
        let is_sentence = self.complained.starts_with("wigwag: ") && self.complained.ends_with(".\n");
        let said = format!("code {}, {:?}", self.code, self.complained);
        ensure!(self.code == code && is_sentence, "`{}`: expected code {code} and a sentence: got {said}", self.shown);
        Ok(self.complained)
    }
}

/// The words of a command, for a person.
fn words(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once("wigwag".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Nothing but an error that says how two values differ.
pub fn equal<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    what: &str,
    got: T,
    expected: U,
) -> anyhow::Result<()> {
    ensure!(got == expected, "{what}: expected {expected:?}, got {got:?}");
    Ok(())
}

/// The bytes around a difference that are shown.
const AROUND: usize = 24;

/// Compares bytes, and says where they differ first.
pub fn same(what: &str, got: &[u8], expected: &[u8]) -> anyhow::Result<()> {
    if got == expected {
        return Ok(());
    }
    let at = got.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let piece = |bytes: &[u8]| {
        let from = at.saturating_sub(AROUND).min(bytes.len());
        let to = (at + AROUND).min(bytes.len());
        format!("\"{}\"", bytes[from..to].escape_ascii())
    };
    bail!(
        "{what}: expected {} bytes, got {}; they differ from byte {at} on: expected {} there, got {}",
        expected.len(),
        got.len(),
        piece(expected),
        piece(got)
    )
}

/// Units of time, as sentences have them.
const UNITS: [&str; 5] = ["ns", "µs", "us", "ms", "s"];

/// A text with words in the place of the numbers of processes and of durations.
fn without_numbers(text: &str, processes: &[u32]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|character: char| character.is_ascii_digit()) {
        let digits = rest[at..].find(|character: char| !character.is_ascii_digit() && character != '.');
        let (number, behind) = rest[at..].split_at(digits.unwrap_or(rest.len() - at));
        // A full stop ends a sentence.
        let (number, behind) = match number.trim_end_matches('.') {
            trimmed if trimmed.len() < number.len() => (trimmed, &rest[at + trimmed.len()..]),
            _ => (number, behind),
        };
        out += &rest[..at];
        let is_end = |rest: &str| !rest.starts_with(char::is_alphanumeric);
        let unit = behind.trim_start_matches(' ');
        let unit = UNITS.iter().find_map(|name| unit.strip_prefix(name).filter(|rest| is_end(rest)));
        match (number.parse::<u32>().is_ok_and(|number| processes.contains(&number)), unit) {
            (true, _) => out += "PROCESS",
            (false, Some(_)) => out += "DURATION",
            (false, None) => out += number,
        }
        rest = match unit {
            Some(unit) if out.ends_with("DURATION") => unit,
            _ => behind,
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_differ_from_run_to_run_are_left_out_of_sentences() {
        let without = |text| without_numbers(text, &[5311, 7]);
        let said =
            "the server's process 5311 is gone, noticed 3.3µs ago with 1 request, 442.5ms after; it has 1 permit.";
        let expected = "the server's process PROCESS is gone, noticed DURATION ago with 1 request, DURATION after; it \
                        has 1 permit.";
        assert_eq!(without(said), expected);
        assert_eq!(without("held by process 7."), "held by process PROCESS.");
        assert_eq!(
            without("within 100 ms of 12 seats, version 2.0. 4096 bytes"),
            "within DURATION of 12 seats, version 2.0. 4096 bytes"
        );
    }

    #[test]
    fn bytes_that_differ_are_shown_where_they_do() {
        same("it", b"abc", b"abc").unwrap();
        let said = same("it", &[b'a'; 100], &[&[b'a'; 50][..], b"b"].concat()).unwrap_err().to_string();
        assert!(said.contains("expected 51 bytes, got 100; they differ from byte 50 on"), "{said}");
        assert!(same("it", b"abc", b"abcd").unwrap_err().to_string().contains("from byte 3"));
    }

    #[test]
    fn what_a_program_leaves_is_compared_to_the_byte_and_the_code() {
        let ended = |code, printed: &[u8], complained: &str| Ended {
            shown: "wigwag x".into(),
            code,
            printed: printed.to_vec(),
            complained: complained.into(),
        };
        ended(0, b"yes", "").printed_exactly(b"yes").unwrap();
        for wrong in [ended(1, b"yes", ""), ended(0, b"no", ""), ended(0, b"yes", "but")] {
            wrong.printed_exactly(b"yes").unwrap_err();
        }
        assert_eq!(ended(5, b"", "wigwag: gone.\n").failed(5).unwrap(), "wigwag: gone.\n");
        for wrong in [ended(0, b"", "wigwag: gone.\n"), ended(5, b"", "thread panicked"), ended(5, b"", "")] {
            wrong.failed(5).unwrap_err();
        }
    }
}
