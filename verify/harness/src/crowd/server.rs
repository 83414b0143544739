//! The server that the crowds come to, in a process of its own, and what the goal can ask of it.
//!
//! It inverts every byte of a request. A request in words is an order: `order: reply LEN` wants so many bytes of
//! `0x5a`, `order: hold` is kept and never answered.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use wigwag::{Request, Server, ServerBuilder};
use wigwag_testing::{Link, Process};

use crate::role;

/// How an order in words begins.
pub const ORDER: &str = "order: ";

/// The server's process, as a goal sees it.
pub struct CrowdServer {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub socket: PathBuf,
    /// Its number in `/proc`, which is another one than that of [`Process::id`] in a PID namespace.
    pub proc_id: u32,
}

/// What a server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Sessions alive.
    pub sessions: u64,
    /// Sessions that ever were.
    pub accepted: u64,
    /// Clients turned away.
    pub refused: u64,
    /// Sessions ended because a client broke the protocol.
    pub violations: u64,
}

impl CrowdServer {
    /// Starts it, with options such as `slots=4`; returns when clients can connect.
    pub fn start(socket: &Path, options: &[&str]) -> anyhow::Result<CrowdServer> {
        let path = socket.to_str().context("a path of UTF-8")?;
        let process = role::start("crowd-server", std::iter::once(path).chain(options.iter().copied()));
        let line = process.try_hear().context("the server did not start")?;
        let proc_id = line.strip_prefix("ready ").context(line.clone())?.parse()?;
        Ok(CrowdServer { process, socket: socket.to_owned(), proc_id })
    }

    /// Asks it a question.
    pub fn ask(&self, question: &str) -> anyhow::Result<String> {
        self.process.tell(question);
        self.process.try_hear().with_context(|| format!("the server is gone; it was asked for `{question}`"))
    }

    /// What it counted so far.
    pub fn counts(&self) -> anyhow::Result<Counts> {
        let line = self.ask("counts")?;
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().context(line.clone())?;
        let [sessions, accepted, refused, violations] = numbers[..] else { anyhow::bail!("{line}") };
        Ok(Counts { sessions, accepted, refused, violations })
    }

    /// Shuts it down; a finding if it does not end well.
    pub fn stop(mut self) -> Option<String> {
        self.process.tell("stop");
        while self.process.try_hear().is_some() {} // its end of the lines closes when it ends
        let status = self.process.child.wait();
        match status {
            Ok(status) if status.success() => None,
            other => Some(format!("the server did not end well: {other:?}")),
        }
    }
}

/// The role.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [socket, options @ ..] = arguments else { panic!("a server needs a path") };
    let builder = options.iter().fold(Server::builder(), |builder, option| build(builder, option));
    let mut server = builder.bind(Path::new(socket)).expect("a server binds");
    let stop = server.shutdown_handle();
    // In a PID namespace of its own, `/proc` has another number for it than the goal.
    let own = std::fs::read_link("/proc/self").expect("a process is in /proc");
    parent.tell(format_args!("ready {}", own.display()));
    std::thread::scope(|scope| {
        let (asked, questions) = mpsc::channel();
        scope.spawn(move || {
            while let Some(line) = hear_patiently() {
                match line.as_str() {
                    "stop" => return stop.shutdown(),
                    _ => drop(asked.send(line)),
                }
            }
            std::process::exit(0); // the goal is gone
        });
        serve(&mut server, parent, &questions);
    });
}

/// The goal's next line. Its silence is no death: a goal may measure for minutes.
pub fn hear_patiently() -> Option<String> {
    let mut line = String::new();
    loop {
        match std::io::stdin().read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => return Some(line.trim_end().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

fn serve(server: &mut Server, parent: &Link, questions: &mpsc::Receiver<String>) {
    let mut held = Vec::new();
    loop {
        match server.recv_timeout(Duration::from_millis(10)) {
            Ok(Some(request)) => held.extend(answer(request)),
            Ok(None) => {}
            Err(_) => return, // shut down
        }
        match questions.try_recv().as_deref() {
            Ok("counts") => {
                let now = server.stats();
                let (sessions, accepted) = (now.sessions, now.sessions_accepted);
                parent.tell(format_args!("{sessions} {accepted} {} {}", now.sessions_refused, now.violations));
            }
            Ok("fork") => parent.tell(super::holder::fork()),
            _ => {}
        }
    }
}

/// Answers a request, or returns the one to be held.
fn answer(mut request: Request) -> Option<Request> {
    if let Some(order) = request.strip_prefix(ORDER.as_bytes()) {
        let order = String::from_utf8_lossy(order).into_owned();
        match order.split_once(' ') {
            None if order == "hold" => return Some(request),
            Some(("reply", len)) => match len.parse().ok().and_then(|len| request.resize(len).ok()) {
                Some(()) => request.fill(0x5a),
                None => {
                    request.fail(format!("no such reply: {order}"));
                    return None;
                }
            },
            _ => {
                request.fail(format!("what does `{order}` mean?"));
                return None;
            }
        }
    } else {
        request.iter_mut().for_each(|byte| *byte = !*byte);
    }
    request.reply();
    None
}

fn build(builder: ServerBuilder, option: &str) -> ServerBuilder {
    let (key, value) = option.split_once('=').unwrap_or_else(|| panic!("`{option}` has no value"));
    let number: usize = value.parse().unwrap_or_else(|_| panic!("`{option}` is not a number"));
    match key {
        "slots" => builder.slots(number),
        "capacity" => builder.capacity(number),
        "max_handshakes" => builder.max_handshakes(number),
        "handshake_ms" => builder.handshake_timeout(Duration::from_millis(number as u64)),
        "max_bytes_per_session" => builder.max_bytes_per_session(number),
        "max_sessions_per_user" => builder.max_sessions_per_user(number),
        "max_bytes_total" => builder.max_bytes_total(number),
        "descriptors" => builder.descriptors(number == 1),
        "allow_user" => builder.allow_user(number as u32),
        "old_kernel" => {
            wigwag_testing::others::as_on_an_older_kernel();
            builder
        }
        "nofile" => {
            limit_descriptors(number);
            builder
        }
        _ => panic!("`{option}` is not an option"),
    }
}

/// Lowers this process's descriptor limit.
pub fn limit_descriptors(most: usize) {
    let limit = rustix::process::Rlimit { current: Some(most as u64), maximum: Some(most as u64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("a limit can be lowered");
}
