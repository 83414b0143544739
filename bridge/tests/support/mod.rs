//! Two machines on one host: bridges, a server that writes down what it executes, and callers that remember what they
//! were told.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wigwag::{Client, ErrorKind};
use wigwag_bridge::status::Status;

/// A directory, and all that was started in it: it ends with the test.
pub struct Ground {
    pub directory: PathBuf,
}

impl Ground {
    pub fn new() -> Ground {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("wigwag-bridge-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        Ground { directory }
    }

    /// The path of a name on a machine.
    pub fn name(&self, machine: &str, name: &str) -> String {
        let directory = self.directory.join(machine);
        let _ = std::fs::create_dir(&directory);
        directory.join(format!("{name}.sock")).to_str().unwrap().to_owned()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    eprintln!("---- {}\n{text}", entry.path().display());
                }
            }
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// An endpoint of the loopback network that nobody else has.
pub fn endpoint() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    format!("tcp/127.{}.{}.{}:7447", process % 200 + 20, process / 200 % 250, number + 1)
}

/// A process that is killed at the end, if it lives.
pub struct Process {
    pub child: Child,
}

impl Process {
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn wait_for_end(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a bridge, in a network namespace if one is named. What it says is in `MACHINE.log`.
pub fn bridge(ground: &Ground, machine: &str, namespace: Option<&str>, words: &[&str]) -> Process {
    let log = File::options().create(true).append(true).open(ground.file(&format!("{machine}.log"))).unwrap();
    let program = env!("CARGO_BIN_EXE_wigwag-bridge");
    let mut command = match namespace {
        None => Command::new(program),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace, program]);
            command
        }
    };
    let status = ground.name(machine, "status");
    command.args(["--host", machine, "--status-name", &status]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Process { child: command.spawn().unwrap() }
}

/// What the bridge of a machine tells of itself.
pub fn status(ground: &Ground, machine: &str) -> Status {
    let client = Client::builder()
        .contract(wigwag_bridge::bridge::status_contract())
        .server_timeout(Duration::from_secs(20))
        .connect(ground.name(machine, "status"))
        .unwrap();
    serde_json::from_slice(&client.call(b"").unwrap()).unwrap()
}

/// Waits until something is so.
pub fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until an import has a link.
pub fn linked(ground: &Ground, machine: &str) {
    until("the import is linked", Duration::from_secs(30), || {
        // The sentence comes when the local name is served, too.
        let is_linked = |state: &str| state.starts_with("linked");
        status(ground, machine).imports.iter().all(|import| import.link.is_some() && is_linked(&import.state))
    });
}

/// Two bridges on this host, one of which exports `echo` of the machine b to the machine a.
pub struct Pair {
    pub ground: Ground,
    pub endpoint: String,
    pub near: Process,
    pub far: Process,
}

impl Pair {
    pub fn new() -> Pair {
        Pair::with(&[])
    }

    pub fn with(words: &[&str]) -> Pair {
        let ground = Ground::new();
        let endpoint = endpoint();
        let far = Pair::far(&ground, &endpoint, words);
        let near = Pair::near(&ground, &endpoint, words);
        Pair { ground, endpoint, near, far }
    }

    pub fn far(ground: &Ground, endpoint: &str, words: &[&str]) -> Process {
        let name = ground.name("b", "echo");
        bridge(ground, "b", None, &[&["--export", &name, "--listen", endpoint], words].concat())
    }

    pub fn near(ground: &Ground, endpoint: &str, words: &[&str]) -> Process {
        let name = ground.name("a", "echo");
        let own = self::endpoint();
        let own = ["--import", "echo", "--as", &name, "--listen", &own, "--connect", endpoint];
        bridge(ground, "a", None, &[&own, words].concat())
    }

    pub fn far_name(&self) -> String {
        self.ground.name("b", "echo")
    }

    pub fn near_name(&self) -> String {
        self.ground.name("a", "echo")
    }

    pub fn client(&self) -> Client {
        self.client_of(1 << 20)
    }

    pub fn client_of(&self, capacity: usize) -> Client {
        let builder = Client::builder().capacity(capacity).server_timeout(Duration::from_secs(30));
        builder.connect(self.near_name()).unwrap()
    }
}

// ---- the ledger -----------------------------------------------------------------------------------------------------

const NAME: &str = "WIGWAG_BRIDGE_TEST_NAME";
const LEDGER: &str = "WIGWAG_BRIDGE_TEST_LEDGER";
const WORK: &str = "WIGWAG_BRIDGE_TEST_WORK_US";

/// Starts a server in a process of its own, that writes the number of each request into a file before it answers.
/// `test` is the name of a test that does nothing but call [`serve_ledger`].
pub fn ledger_server(name: &str, ledger: &Path, work: Duration) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "serve_ledger_if_told", "--nocapture"]).env(NAME, name).env(LEDGER, ledger);
    command.env(WORK, work.as_micros().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Process { child: command.spawn().unwrap() }
}

/// The body of the test of that name in each file that starts such servers.
pub fn serve_ledger() {
    let Ok(name) = std::env::var(NAME) else { return };
    let work = Duration::from_micros(std::env::var(WORK).unwrap().parse().unwrap());
    let mut ledger = File::options().create(true).append(true).open(std::env::var_os(LEDGER).unwrap()).unwrap();
    let mut server = wigwag::Server::bind(&name).unwrap();
    server
        .serve(|request| {
            let number: [u8; 8] = request[..8].try_into().unwrap();
            ledger.write_all(&number).unwrap(); // what is written stays when this process is killed
            std::thread::sleep(work);
            request.iter_mut().for_each(|byte| *byte = !*byte);
        })
        .unwrap();
}

/// How often each request was executed.
pub fn executed(ledger: &Path) -> HashMap<u64, usize> {
    let mut counts = HashMap::new();
    for number in std::fs::read(ledger).unwrap_or_default().chunks_exact(8) {
        *counts.entry(u64::from_le_bytes(number.try_into().unwrap())).or_default() += 1;
    }
    counts
}

/// What a caller was told of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Replied,
    WrongReply,
    NotExecuted,
    Maybe,
}

/// One call, of a number that no other call has.
pub fn call(client: &Client, number: u64, len: usize, limit: Duration) -> Told {
    let mut request = vec![number as u8; len.max(8)];
    request[..8].copy_from_slice(&number.to_le_bytes());
    let outcome = client.loan(request.len()).and_then(|mut loan| {
        loan.copy_from_slice(&request);
        loan.call_timeout(limit)
    });
    match outcome {
        Ok(reply) => {
            let is_right = reply.len() == request.len() && reply.iter().zip(&request).all(|(a, b)| *a == !*b);
            if is_right { Told::Replied } else { Told::WrongReply }
        }
        Err(error) => told(&error),
    }
}

pub fn told(error: &wigwag::Error) -> Told {
    match error.kind() {
        ErrorKind::PeerDied { maybe_executed }
        | ErrorKind::TimedOut { maybe_executed }
        | ErrorKind::ServerClosed { maybe_executed } => {
            if maybe_executed {
                Told::Maybe
            } else {
                Told::NotExecuted
            }
        }
        ErrorKind::NotRunning | ErrorKind::Refused | ErrorKind::Busy | ErrorKind::Full => Told::NotExecuted,
        kind => panic!("a call ended with {kind:?}: {error}"),
    }
}

/// The sums of a ledger against what was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub calls: usize,
    pub replied: usize,
    pub maybe: usize,
    pub not_executed: usize,
    pub wrong_replies: usize,
    pub told_not_but_executed: usize,
    pub replied_but_not_executed: usize,
    pub executed_twice: usize,
}

pub fn compare(told: &HashMap<u64, Told>, executed: &HashMap<u64, usize>) -> Sums {
    let mut sums = Sums { calls: told.len(), ..Sums::default() };
    for (number, told) in told {
        let times = executed.get(number).copied().unwrap_or(0);
        sums.executed_twice += usize::from(times > 1);
        match told {
            Told::Replied => {
                sums.replied += 1;
                sums.replied_but_not_executed += usize::from(times == 0);
            }
            Told::WrongReply => sums.wrong_replies += 1,
            Told::Maybe => sums.maybe += 1,
            Told::NotExecuted => {
                sums.not_executed += 1;
                sums.told_not_but_executed += usize::from(times > 0);
            }
        }
    }
    sums
}

impl Sums {
    /// None of what must never be.
    pub fn check(&self) {
        println!("{self:?}");
        let never = [
            ("a wrong reply", self.wrong_replies),
            ("told not executed, and it was", self.told_not_but_executed),
            ("replied to, and it was not executed", self.replied_but_not_executed),
            ("executed twice", self.executed_twice),
        ];
        for (what, count) in never {
            assert_eq!(count, 0, "{what}: {self:?}");
        }
    }
}

/// Callers in threads, each with numbers of its own, while something is done to what is between. Each connects again
/// when its local bridge has died.
pub fn callers(
    name: &str,
    threads: usize,
    calls: usize,
    len: impl Fn(u64) -> usize + Sync,
    meanwhile: impl FnOnce(&dyn Fn() -> bool),
) -> HashMap<u64, Told> {
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let (len, done) = (&len, &done);
                scope.spawn(move || {
                    // One that has failed is done, too.
                    struct Done<'a>(&'a AtomicU32);
                    impl Drop for Done<'_> {
                        fn drop(&mut self) {
                            self.0.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    let _done = Done(done);
                    let connect = || {
                        let options = Client::builder().server_timeout(Duration::from_secs(30));
                        options.timeout(Duration::from_secs(10)).connect(name)
                    };
                    let mut client = connect().unwrap();
                    let mut told = HashMap::new();
                    for at in 0..calls {
                        let number = (thread * calls + at) as u64 + 1;
                        let outcome = call(&client, number, len(number), Duration::from_secs(3));
                        told.insert(number, outcome);
                        if outcome == Told::NotExecuted {
                            std::thread::sleep(Duration::from_millis(20)); // there is no link just now
                        }
                        // One whose bridge has died is of no use any more.
                        if matches!(client.loan(8).map(drop), Err(error) if error.kind() != ErrorKind::Full) {
                            client = connect().unwrap();
                        }
                    }
                    told
                })
            })
            .collect();
        let count = threads.len() as u32;
        meanwhile(&|| done.load(Ordering::Relaxed) == count);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Small numbers that look random, the same in each run.
pub fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}
