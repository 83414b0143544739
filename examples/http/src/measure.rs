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
use crate::service::pattern;

/// A server in a process of its own. It ends with this.
pub struct Server {
    child: Child,
    path: PathBuf,
}

impl Server {
    /// Starts the program that is `http-over-wigwag`, and waits until it listens.
    pub fn start(program: &Path, carrier: Carrier, directory: &Path) -> anyhow::Result<Server> {
        let path = directory.join(carrier.name());
        let mut child = Command::new(program)
            .args(["serve", "--over", carrier.name()])
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
}

const WORKS: [Work; 4] = [
    Work { name: "GET, 13 B", uri: "/", sent: 0, got: 13 },
    Work { name: "GET, 64 KiB", uri: "/bytes/65536", sent: 0, got: 64 << 10 },
    Work { name: "POST, 64 KiB there and back", uri: "/echo", sent: 64 << 10, got: 64 << 10 },
    Work { name: "POST, 1 MiB there and back", uri: "/echo", sent: 1 << 20, got: 1 << 20 },
];

/// One work over one carrier.
#[derive(Debug, Serialize)]
pub struct Row {
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
}

/// Measures all works over both carriers for about so many seconds, in so many rounds.
pub async fn run(program: &Path, seconds: f64, rounds: usize) -> anyhow::Result<Vec<Row>> {
    ensure!(seconds > 0.0 && seconds <= 3600.0, "--seconds {seconds} is not between 0 and 3600");
    ensure!(rounds > 0, "--rounds 0 measures nothing");
    let directory = private_directory()?;
    let mut rows = Vec::new();
    let slice = Duration::from_secs_f64(seconds / (rounds * WORKS.len() * Carrier::BOTH.len()) as f64);
    for work in WORKS {
        let mut latencies = [Vec::new(), Vec::new()];
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            let mut order = [0, 1];
            order.rotate_left(round % 2);
            for which in order {
                // New processes each time, so that no luck of placement lasts.
                let server = Server::start(program, Carrier::BOTH[which], directory.path())?;
                let mut client = Client::connect(Carrier::BOTH[which], server.path()).await?;
                ask(&mut client, work, slice / 10).await?;
                let (times, rate) = ask(&mut client, work, slice).await?;
                latencies[which].extend(times);
                rates[which].push(rate);
                drop(server);
                let _ = std::fs::remove_file(directory.path().join(Carrier::BOTH[which].name()));
            }
        }
        for (which, carrier) in Carrier::BOTH.into_iter().enumerate() {
            let times = &mut latencies[which];
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            let ratios = rates[which].iter().zip(&rates[1]).map(|(one, unix)| one / unix).collect();
            rows.push(Row {
                work: work.name,
                carrier,
                requests: times.len(),
                requests_per_second: median(rates[which].clone()),
                p50_ns: at(50),
                p99_ns: at(99),
                times_unix: median(ratios),
            });
        }
    }
    Ok(rows)
}

/// One request after the other; the times of each, and how many in a second.
async fn ask(client: &mut Client, work: Work, time: Duration) -> anyhow::Result<(Vec<u64>, f64)> {
    let body = Bytes::from(pattern(work.sent));
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || begin.elapsed() < time {
        let start = Instant::now();
        let came = match work.sent {
            0 => client.get(work.uri).await?,
            _ => client.post(work.uri, body.clone()).await?,
        };
        times.push(start.elapsed().as_nanos() as u64);
        ensure!(came.len() == work.got, "{}: {} bytes came where {} were right", work.name, came.len(), work.got);
    }
    let rate = times.len() as f64 / begin.elapsed().as_secs_f64();
    Ok((times, rate))
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
