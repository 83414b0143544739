//! One phase: a server process and a client process run one case for a while and are gone.
//!
//! New processes for every phase, so that the luck of one placement in memory or in the scheduler is not the luck of
//! the whole run; the process that waits for them sleeps meanwhile.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::case::Case;
use crate::memory;
use crate::meter::Extent;
use crate::placement::Processors;
use crate::report::Report;
use crate::role::{Orders, Role, memory_needed};
use crate::system_calls;
use crate::transport;

/// How long a process may take to start, beyond what it was told to measure, where nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much longer for each session that it has to connect first.
const SESSION_PATIENCE: Duration = Duration::from_millis(100);
/// How long counting the system calls of one case may take.
const COUNTING_PATIENCE: Duration = Duration::from_secs(4);
const READY: &str = "ready";
const FAILED: &str = "failed: ";

/// What all phases of a run have in common.
pub struct Stage {
    program: PathBuf,
    /// The processors of the two sides.
    pub processors: Processors,
    patience: Duration,
    /// Every phase has a directory of its own in here.
    root: PathBuf,
}

/// A process of a phase. Dropping it ends it at once: there is nothing that it would have to put in order.
pub struct Actor {
    child: Child,
    output: ChildStdout,
    /// Kept open: a closed standard input tells a process of this program to end.
    input: Option<ChildStdin>,
}

/// A server that is ready, the idle sessions that the case asks for, and where to find them.
pub struct Scene {
    /// The server.
    pub server: Actor,
    /// The process that holds the idle sessions.
    pub idler: Option<Actor>,
    orders: Orders,
    _memory: Option<OwnedFd>,
    _directory: tempfile::TempDir,
}

impl Stage {
    /// Phases on these processors. What they leave is in `root`, and goes with it.
    pub fn new(processors: Processors, root: &Path) -> anyhow::Result<Stage> {
        let program = std::env::current_exe().context("this program cannot find its own file")?;
        Ok(Stage { program, processors, patience: PATIENCE, root: root.to_owned() })
    }

    /// The same with another time limit: a process that takes longer, beyond what it was told to measure, is killed.
    pub fn patient(self, patience: Duration) -> Stage {
        Stage { patience, ..self }
    }

    /// The processors of its phases.
    pub fn processors(&self) -> Processors {
        self.processors
    }

    /// Whether the case's two sides can be put where it wants them.
    pub fn can_place(&self, case: &Case) -> bool {
        self.processors.of(case.pin).is_ok()
    }

    /// Runs one phase.
    pub fn phase(&self, case: &Case, extent: Extent) -> anyhow::Result<Report> {
        self.set(case, extent).and_then(|scene| self.play(&scene)).with_context(|| format!("{case}"))
    }

    /// Starts the server and connects the idle sessions.
    pub fn set(&self, case: &Case, extent: Extent) -> anyhow::Result<Scene> {
        self.set_with(case, extent, None)
    }

    fn set_with(&self, case: &Case, extent: Extent, counter: Option<PathBuf>) -> anyhow::Result<Scene> {
        let (_, processor) = self.processors.of(case.pin)?;
        let directory = transport::private_directory_in(&self.root)?;
        let needed = memory_needed(case);
        let memory = if needed > 0 { Some(memory::create(needed)?) } else { None };
        let parent = std::process::id() as i32;
        let mut orders = Orders {
            role: Role::Server,
            case: *case,
            extent,
            processor,
            partner: None,
            counter,
            directory: directory.path().to_owned(),
            memory: memory.as_ref().map(path_of),
            parent,
            server: 0,
        };
        let server = self.start_ready(&orders)?;
        orders.server = server.process();
        let idle = case.sessions > case.busy;
        let idler = if idle {
            Some(self.start_ready(&Orders { role: Role::Idler, processor: None, counter: None, ..orders.clone() })?)
        } else {
            None
        };
        Ok(Scene { server, idler, orders, _memory: memory, _directory: directory })
    }

    fn play(&self, scene: &Scene) -> anyhow::Result<Report> {
        let extent = scene.orders.extent;
        let mut client = self.client(scene, scene.orders.case)?;
        let patience = self.patience + Duration::from_nanos(extent.nanos.saturating_add(extent.warm_up));
        client.report(patience)
    }

    /// Starts a client of a scene's server; `case` is the scene's, but for its load.
    pub fn client(&self, scene: &Scene, case: Case) -> anyhow::Result<Actor> {
        let (processor, _) = self.processors.of(case.pin)?;
        self.start(&Orders { role: Role::Client, processor, case, ..scene.orders.clone() })
    }

    /// The system calls of both sides per call; an error where they cannot be counted.
    pub fn system_calls(&self, case: &Case) -> anyhow::Result<f64> {
        let (processor, partner) = self.processors.of(case.pin)?;
        let directory = transport::private_directory_in(&self.root)?;
        let mut tracer = self.start(&Orders {
            role: Role::Tracer,
            case: *case,
            extent: system_calls::EXTENT,
            processor,
            partner,
            counter: None,
            directory: directory.path().to_owned(),
            memory: None,
            parent: std::process::id() as i32,
            server: 0,
        })?;
        Ok(tracer.line(COUNTING_PATIENCE)?.parse()?)
    }

    /// In the tracer: the stage of its own server and client.
    pub fn of(orders: &Orders) -> anyhow::Result<Stage> {
        let processors = Processors { client: orders.processor.unwrap_or(0), server: orders.partner };
        Stage::new(processors, &orders.directory)
    }

    /// In the tracer: a server that is ready and a client, both waiting to be taken hold of and told to go.
    pub fn set_for_tracer(&self, orders: &Orders, counter: &OwnedFd) -> anyhow::Result<(Scene, Actor)> {
        let scene = self.set_with(&orders.case, orders.extent, Some(path_of(counter)))?;
        let client = self.start(&Orders { role: Role::Client, processor: orders.processor, ..scene.orders.clone() })?;
        Ok((scene, client))
    }

    fn start(&self, orders: &Orders) -> anyhow::Result<Actor> {
        let mut child = Command::new(&self.program)
            .args(["peer", "bench"])
            .arg(serde_json::to_string(orders)?)
            // What a contender leaves in "the temporary directory" is the phase's as well.
            .env("TMPDIR", &orders.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a process for the bench cannot be started")?;
        let output = child.stdout.take().context("the new process has no output")?;
        let input = child.stdin.take();
        Ok(Actor { child, output, input })
    }

    fn start_ready(&self, orders: &Orders) -> anyhow::Result<Actor> {
        let sessions = if orders.role == Role::Idler { orders.case.sessions as u32 } else { 0 };
        let mut actor = self.start(orders)?;
        actor.await_ready(self.patience + sessions * SESSION_PATIENCE)?;
        Ok(actor)
    }
}

impl Scene {
    /// Where the two sides meet, and what a contender makes there.
    pub fn directory(&self) -> &Path {
        &self.orders.directory
    }
}

/// The path by which the processes that this one starts reach a descriptor of its.
fn path_of(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), descriptor.as_raw_fd()))
}

impl Actor {
    /// Its process id.
    pub fn process(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until it says that it is ready.
    pub fn await_ready(&mut self, patience: Duration) -> anyhow::Result<()> {
        let line = self.line(patience)?;
        ensure!(line == READY, "a process said '{line}' where it should have said that it is ready");
        Ok(())
    }

    /// Kills it, as SIGKILL does: at whatever it is doing.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Says a line to it.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the other process has no input")?;
        writeln!(input, "{line}").context("the other process does not listen")
    }

    /// What it measured.
    pub fn report(&mut self, patience: Duration) -> anyhow::Result<Report> {
        let line = self.line(patience)?;
        serde_json::from_str(&line).with_context(|| format!("the client reported '{line}'"))
    }

    /// The next line that it prints; what went wrong when it says so or ends.
    fn line(&mut self, patience: Duration) -> anyhow::Result<String> {
        let give_up = Instant::now() + patience;
        let mut heard = Vec::new();
        while heard.last() != Some(&b'\n') {
            self.await_output(give_up)?;
            let mut part = [0; 16 * 1024];
            let count = self.output.read(&mut part)?;
            if count == 0 {
                return Err(self.ended());
            }
            heard.extend_from_slice(&part[..count]);
        }
        let line = String::from_utf8(heard).context("the other process does not speak text")?;
        match line.trim_end().strip_prefix(FAILED) {
            Some(why) => bail!("{why}"),
            None => Ok(line.trim_end().to_owned()),
        }
    }

    fn await_output(&self, give_up: Instant) -> anyhow::Result<()> {
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the other process did not finish in time");
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(&mut self) -> anyhow::Error {
        match self.child.wait() {
            Ok(status) => anyhow!("the other process ended with {status} and without a word"),
            Err(error) => error.into(),
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill and the wait returns at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
