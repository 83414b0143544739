//! One cell of the matrix: a small job, from one end to the other, in some surroundings. A process of its own conducts
//! it, so that it can have file systems of its own, and everything that it starts ends with it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wigwag_testing::{Link, Process};

use super::surrounding::{self, Ground, Side, Surrounding};
use super::{program, sentence};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Calls, by blocking functions.
    Exchange,
    /// Calls, in tasks.
    ExchangeTokio,
    /// Messages, by blocking functions.
    Queue,
    /// Messages, in tasks.
    QueueTokio,
    /// A stream, by blocking functions.
    Stream,
    /// A stream, in tasks.
    StreamTokio,
    /// A permit that two processes have in turn.
    Semaphore,
    /// `wigwag serve` and `wigwag call`.
    ProgramServe,
    /// `wigwag queue recv` and `wigwag queue send`.
    ProgramQueue,
    /// `wigwag stream listen` and `wigwag stream connect`.
    ProgramStream,
    /// `wigwag lock`, twice.
    ProgramLock,
}

/// All jobs.
pub const JOBS: &[Job] = &[
    Job::Exchange,
    Job::ExchangeTokio,
    Job::Queue,
    Job::QueueTokio,
    Job::Stream,
    Job::StreamTokio,
    Job::Semaphore,
    Job::ProgramServe,
    Job::ProgramQueue,
    Job::ProgramStream,
    Job::ProgramLock,
];

impl Job {
    /// The program does it, and not the library alone.
    pub fn is_of_the_program(self) -> bool {
        use Job::*;
        matches!(self, ProgramServe | ProgramQueue | ProgramStream | ProgramLock)
    }

    /// Neither side is a server.
    pub fn is_of_a_semaphore(self) -> bool {
        matches!(self, Job::Semaphore | Job::ProgramLock)
    }
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// What is odd.
    pub odd: Vec<Surrounding>,
    /// What is done.
    pub job: Job,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let odd: Vec<String> = self.odd.iter().map(|one| format!("{one:?}")).collect();
        write!(f, "{} x {:?}", odd.join(" + "), self.job)
    }
}

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// All bytes were right.
    Works,
    /// Somebody said in a sentence that it does not.
    Sentence(String),
    /// Neither, or something was lost or left.
    Wrong(String),
    /// It could not be tried.
    NotTried(String),
}

/// Where the programs are that a cell starts: in a place that every user can reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Programs {
    /// This program.
    pub own: PathBuf,
    /// `wigwag`, if there is one.
    pub wigwag: Option<PathBuf>,
}

/// How long a cell may take.
pub const HANG: Duration = Duration::from_secs(30);
/// How long whoever looks for a server whose name was removed tries.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// Runs a cell in a process of its own.
pub fn run(cell: &Cell, programs: &Programs, root: &Path, name: &str) -> Ended {
    let texts = [serde_json::to_string(cell), serde_json::to_string(programs)].map(|json| json.expect("plain data"));
    let [cell, programs] = texts;
    let arguments = [cell.as_str(), programs.as_str(), &root.to_string_lossy(), name].map(str::to_owned);
    let mut process = crate::role::start("surroundings-cell", arguments);
    if !process.has_said_something(HANG).unwrap_or(false) {
        process.kill();
        return Ended::Wrong(format!("it hangs: nothing within {} s", HANG.as_secs()));
    }
    let said = process.hear_at_last().unwrap_or_default();
    let ended = serde_json::from_str(&said);
    let _ = process.child.wait();
    let _ = std::fs::remove_dir_all(root);
    ended.unwrap_or_else(|_| Ended::Wrong(format!("the conductor ended before its time: {said}")))
}

/// The role.
pub fn play(link: &Link, arguments: &[&str]) {
    let [cell, programs, root, name] = arguments else { panic!("{arguments:?}") };
    let cell: Cell = serde_json::from_str(cell).expect("a cell");
    let programs: Programs = serde_json::from_str(programs).expect("programs");
    // SAFETY: a plain system call. Daemons become children of this process when their parents end.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    let ground = Ground { root: PathBuf::from(root), name: (*name).to_owned(), odd: cell.odd.clone() };
    let ended = match surrounding::prepare(&ground) {
        Err(why) => Ended::NotTried(format!("its surroundings are not to be had: {why:#}")),
        Ok(()) if cell.job.is_of_the_program() => program::conduct(&cell, &ground, &programs),
        Ok(()) => conduct(&cell, &ground, &programs),
    };
    let left = what_is_left(&ground, cell.job, &ended);
    let ended = match (ended, left) {
        (Ended::Works | Ended::Sentence(_), Some(left)) => Ended::Wrong(left),
        (ended, _) => ended,
    };
    link.tell(serde_json::to_string(&ended).expect("plain data"));
}

/// What a cell has left that it should not: processes, files, permissions.
fn what_is_left(ground: &Ground, job: Job, ended: &Ended) -> Option<String> {
    let begin = Instant::now();
    while nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) != Err(nix::errno::Errno::ECHILD) {
        if begin.elapsed() > GONE {
            return Some(format!("processes are left; it ended with {ended:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let files = ground.files();
    let may_stay = ground.odd.iter().any(|one| one.leaves_files(job));
    let ending = |path: &PathBuf| path.extension().is_some_and(|it| it == "sock" || it == "lock" || it == "semaphore");
    if !files.iter().all(|path| may_stay && ending(path)) {
        return Some(format!("files are left: {files:?}; it ended with {ended:?}"));
    }
    None
}

/// What a side of a job has said.
enum Said {
    Ok(u64),
    Failed { kind: String, text: String },
    Gone(String),
}

/// A side of a job.
struct Party {
    side: Side,
    process: Process,
}

impl Party {
    fn start(cell: &Cell, ground: &Ground, programs: &Programs, side: Side, patience: Duration) -> Party {
        let mut command = Command::new(&programs.own);
        ground.surround(&mut command, side);
        command.stderr(Stdio::piped());
        let odd: Vec<Surrounding> = ground.odd.iter().copied().filter(|one| one.is_for(side)).collect();
        let arguments = [
            serde_json::to_string(&cell.job).expect("plain data"),
            ground.name.clone(),
            serde_json::to_string(&odd).expect("plain data"),
            ground.root.join("inside").to_string_lossy().into_owned(),
            patience.as_millis().to_string(),
        ];
        let role = if side == Side::Server { "surroundings-server" } else { "surroundings-client" };
        Party { side, process: Process::run(command, role, arguments) }
    }

    fn hear(&mut self) -> Said {
        let line = self.process.hear_at_last();
        match line.as_deref().map(|line| line.split_once(' ').unwrap_or((line, ""))) {
            Some(("ready" | "connected", _)) => Said::Ok(0),
            Some(("done", number)) => Said::Ok(number.parse().unwrap_or(0)),
            Some(("error", told)) => {
                let (kind, text) = told.split_once(' ').unwrap_or((told, ""));
                Said::Failed { kind: kind.to_owned(), text: text.to_owned() }
            }
            _ => Said::Gone(self.how_it_ended()),
        }
    }

    fn how_it_ended(&mut self) -> String {
        let status = self.process.child.wait();
        let mut complained = String::new();
        let _ = self.process.child.stderr.take().map(|mut it| std::io::Read::read_to_string(&mut it, &mut complained));
        format!("the {:?} ended without a word ({status:?}): {}", self.side, complained.trim_end())
    }

    /// The number that it reports, or how the cell ends by this.
    fn expect(&mut self) -> Result<u64, Ended> {
        let side = self.side;
        match self.hear() {
            Said::Ok(number) => Ok(number),
            Said::Gone(how) => Err(Ended::Wrong(how)),
            Said::Failed { kind, text } if matches!(kind.as_str(), "Wrong" | "TimedOut" | "HandlerPanicked") => {
                Err(Ended::Wrong(format!("the {side:?}: {kind}: {text}")))
            }
            Said::Failed { kind, text } => Err(match sentence::fault_of(&text).filter(|_| kind != "Runtime") {
                Some(fault) => Ended::Wrong(format!("the {side:?}: {kind}: {fault}")),
                None => Ended::Sentence(format!("{side:?}: {kind}: {text}")),
            }),
        }
    }
}

fn conduct(cell: &Cell, ground: &Ground, programs: &Programs) -> Ended {
    attempt(cell, ground, programs).unwrap_or_else(|ended| ended)
}

fn attempt(cell: &Cell, ground: &Ground, programs: &Programs) -> Result<Ended, Ended> {
    let mut server = Party::start(cell, ground, programs, Side::Server, Duration::ZERO);
    server.expect()?;
    if ground.odd.contains(&Surrounding::DaemonTooLate) {
        server.expect()?;
        return Ok(Ended::Wrong("a copy of a server serves".into()));
    }
    let served = use_it(cell, ground, programs);
    let modes = odd_modes(ground);
    server.process.tell("stop");
    let ended = server.expect();
    let status = server.process.child.wait();
    let received = match (served, ended) {
        (Err(Ended::Wrong(what)), Err(Ended::Wrong(more))) => return Err(Ended::Wrong(format!("{what}; {more}"))),
        (Err(ended), Ok(_)) | (Ok(_), Err(ended)) => return Err(ended),
        (Err(ended), Err(_)) => return Err(ended),
        (Ok(acknowledged), Ok(received)) => (acknowledged, received),
    };
    if let Some(modes) = modes {
        return Err(Ended::Wrong(modes));
    }
    if matches!(cell.job, Job::Queue | Job::QueueTokio) && received.1 < received.0 {
        return Err(Ended::Wrong(format!("{} messages were acknowledged, and {} received", received.0, received.1)));
    }
    match status {
        Ok(status) if status.success() => Ok(Ended::Works),
        other => Err(Ended::Wrong(format!("the server did not end well: {other:?}"))),
    }
}

/// The client's part: how much was acknowledged.
fn use_it(cell: &Cell, ground: &Ground, programs: &Programs) -> Result<u64, Ended> {
    let job = |client: &mut Party| {
        client.process.tell("job");
        client.expect()
    };
    let mut client = Party::start(cell, ground, programs, Side::Client, Duration::ZERO);
    client.expect()?;
    let mut acknowledged = job(&mut client)?;
    let happens = ground.odd.iter().any(|one| one.is_event() || *one == Surrounding::FullLater);
    if happens {
        surrounding::happen(ground);
        // A client that is served goes on, and a new one finds the server again.
        acknowledged += job(&mut client)?;
        let mut next = Party::start(cell, ground, programs, Side::Client, TIME_LIMIT);
        next.expect()?;
        acknowledged += job(&mut next)?;
        leave(next)?;
    }
    leave(client)?;
    Ok(acknowledged)
}

fn leave(mut client: Party) -> Result<(), Ended> {
    client.process.tell("end");
    match client.process.child.wait() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Ended::Wrong(client.how_it_ended())),
    }
}

/// Names that others could read, or their own user cannot.
pub fn odd_modes(ground: &Ground) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).map(|it| it.permissions().mode() & 0o777).ok();
    let names = ground.names();
    let odd = |path: &Path, right: u32| {
        let mode = mode(path).filter(|mode| *mode != right)?;
        Some(format!("{} has mode {mode:03o}, and {right:03o} is right", path.file_name()?.to_string_lossy()))
    };
    odd(&names, 0o700).or_else(|| ground.files().iter().find_map(|file| odd(file, 0o600)))
}
