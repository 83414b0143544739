//! Requests per second and latency over both carriers, taking turns: two server processes, one client process.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use serde::Serialize;

use crate::carrier::Carrier;
use crate::client::Client;
use crate::runtime::Runtime;
use crate::service::pattern;

/// A server in a process of its own. It ends with this.
pub struct Server {
    child: Child,
    path: PathBuf,
}

impl Server {
    /// Starts the program that is `http-over-wigwag`, and waits until it listens.
    pub fn start(program: &Path, carrier: Carrier, runtime: Runtime, directory: &Path) -> anyhow::Result<Server> {
        let path = directory.join(carrier.name());
        let mut child = Command::new(program)
            .args(["serve", "--over", carrier.name(), "--runtime", runtime.name()])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a server cannot be started")?;
        let output = child.stdout.take().context("a server has no output")?;
        let server = Server { child, path };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.starts_with("listening"), "the server over {} does not listen: {line}", carrier.name());
        Ok(server)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
struct Work {
    name: &'static str,
    uri: &'static str,
    /// Bytes that are sent.
    sent: usize,
    /// Bytes that come back.
    got: usize,
    /// Goal P17: the least rate, as a multiple of the Unix socket's.
    goal: f64,
}

const WORKS: [Work; 4] = [
    Work { name: "GET, 13 B", uri: "/", sent: 0, got: 13, goal: 2.0 },
    Work { name: "GET, 64 KiB", uri: "/bytes/65536", sent: 0, got: 64 << 10, goal: 1.5 },
    Work { name: "POST, 64 KiB there and back", uri: "/echo", sent: 64 << 10, got: 64 << 10, goal: 1.3 },
    Work { name: "POST, 1 MiB there and back", uri: "/echo", sent: 1 << 20, got: 1 << 20, goal: 2.5 },
];

/// One work over one carrier.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What ran the tasks of both sides.
    pub runtime: Runtime,
    /// What was asked for.
    pub work: &'static str,
    /// What carried it.
    pub carrier: Carrier,
    /// Requests that were answered, each checked by its length.
    pub requests: usize,
    /// In a second.
    pub requests_per_second: f64,
    /// The median latency in nanoseconds.
    pub p50_ns: u64,
    /// 99 in 100 take no longer, in nanoseconds.
    pub p99_ns: u64,
    /// The median over the rounds of the rate divided by the Unix socket's in the same round.
    pub times_unix: f64,
    /// Processor time of both sides, in nanoseconds.
    pub processor_ns_per_request: f64,
    /// The median over the rounds of that, divided by the Unix socket's in the same round.
    pub processor_times_unix: f64,
}

/// What keeps goal P17 from being met: a sentence for each.
pub fn missed(rows: &[Row]) -> Vec<String> {
    let mut missed = Vec::new();
    for row in rows.iter().filter(|row| row.carrier == Carrier::Wigwag) {
        let goal = WORKS.iter().find(|work| work.name == row.work).map_or(f64::INFINITY, |work| work.goal);
        let what = format!("{}, {}", row.work, row.runtime.name());
        if row.times_unix < goal {
            missed.push(format!("{what}: {:.2} times the Unix socket's rate, and the goal is {goal}", row.times_unix));
        }
        if row.processor_times_unix > 1.0 {
            missed.push(format!("{what}: {:.2} times its processor time, and the goal is 1", row.processor_times_unix));
        }
    }
    missed
}

/// Measures all works over both carriers for about so many seconds, in so many rounds. This task is a client of that
/// runtime.
pub async fn run(program: &Path, runtime: Runtime, seconds: f64, rounds: usize) -> anyhow::Result<Vec<Row>> {
    ensure!(seconds > 0.0 && seconds <= 3600.0, "--seconds {seconds} is not between 0 and 3600");
    ensure!(rounds > 0, "--rounds 0 measures nothing");
    let directory = private_directory()?;
    let mut rows = Vec::new();
    let slice = Duration::from_secs_f64(seconds / (rounds * WORKS.len() * Carrier::BOTH.len()) as f64);
    for work in WORKS {
        let mut measured = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            let mut order = [0, 1];
            order.rotate_left(round % 2);
            for which in order {
                // New processes each time, so that no luck of placement lasts.
                let server = Server::start(program, Carrier::BOTH[which], runtime, directory.path())?;
                let mut client = Client::connect(Carrier::BOTH[which], server.path()).await?;
                ask(&mut client, &server, work, slice / 10).await?;
                measured[which].push(ask(&mut client, &server, work, slice).await?);
                drop(server);
                let _ = std::fs::remove_file(directory.path().join(Carrier::BOTH[which].name()));
            }
        }
        let ratio = |which: usize, figure: fn(&Measured) -> f64| {
            median(measured[which].iter().zip(&measured[1]).map(|(one, unix)| figure(one) / figure(unix)).collect())
        };
        for (which, carrier) in Carrier::BOTH.into_iter().enumerate() {
            let mut times: Vec<u64> = measured[which].iter().flat_map(|round| &round.times).copied().collect();
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            let whole = |figure: fn(&Measured) -> f64| median(measured[which].iter().map(figure).collect());
            rows.push(Row {
                runtime,
                work: work.name,
                carrier,
                requests: times.len(),
                requests_per_second: whole(Measured::rate),
                p50_ns: at(50),
                p99_ns: at(99),
                times_unix: ratio(which, Measured::rate),
                processor_ns_per_request: whole(Measured::processor_ns),
                processor_times_unix: ratio(which, Measured::processor_ns),
            });
        }
    }
    Ok(rows)
}

/// Some requests, one after the other.
struct Measured {
    /// How long each took, in nanoseconds.
    times: Vec<u64>,
    seconds: f64,
    processor_ns: u64,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    fn processor_ns(&self) -> f64 {
        self.processor_ns as f64 / self.times.len() as f64
    }
}

async fn ask(client: &mut Client, server: &Server, work: Work, time: Duration) -> anyhow::Result<Measured> {
    let body = Bytes::from(pattern(work.sent));
    let processor_ns =
        || Ok::<_, std::io::Error>(processor_ns("self")? + processor_ns(&server.child.id().to_string())?);
    let (before_ns, begin, mut times) = (processor_ns()?, Instant::now(), Vec::new());
    while times.is_empty() || begin.elapsed() < time {
        let start = Instant::now();
        let came = match work.sent {
            0 => client.get(work.uri).await?,
            _ => client.post(work.uri, body.clone()).await?,
        };
        times.push(start.elapsed().as_nanos() as u64);
        ensure!(came.len() == work.got, "{}: {} bytes came where {} were right", work.name, came.len(), work.got);
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Measured { times, seconds, processor_ns: processor_ns()? - before_ns })
}

/// What a process's threads have used, in nanoseconds: proc(5), `schedstat`.
fn processor_ns(process: &str) -> std::io::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default(); // it has just ended
        sum += text.split(' ').next().and_then(|used| used.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// A directory that only this user can write to.
pub fn private_directory() -> std::io::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let private = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("wigwag-http-").permissions(private).tempdir()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
