//! R1: a server is replaced again and again while clients that follow call it. No call may be lost, executed twice or
//! left in doubt, and no client may wait long.
//!
//! ```text
//!   this process ── starts each server, and waits until all clients have had an answer of it
//!   two processes of clients ── call ──> the server, which is replaced by ── the next one
//!          └────────────── all write into the ledger ──────────────┘
//! ```

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use wigwag::{Client, ErrorKind, Server};

use super::ledger::{Fate, Ledger, Since, Word};
use super::others::{Others, exit_with_parent};
use super::verdict::{Check, Verdict};
use super::{Attempt, Goal};

/// Clients, and the processes in which they are.
const CLIENTS: usize = 100;
const PROCESSES: usize = 2;
/// What a client waits between an answer and its next call: one hundred that do not would need more than two
/// processors, and then the scheduler would be measured.
const PAUSE: Duration = Duration::from_millis(5);
/// Restarts at most.
const RESTARTS: usize = 1000;
/// From when all have followed until the next server is started: some calls of each client.
const REST: Duration = Duration::from_millis(15);
/// How often this process looks whether all have followed.
const GLANCE: Duration = Duration::from_micros(500);
/// So long clients look for a successor, a server waits for the name, and this process for both.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest time in milliseconds that a client may go without an answer, in 99 of 100 restarts.
const LIMIT_MS: f64 = 20.0;

/// The words of a request: whose it is, and which. The reply has them inverted, and the number of the server.
const CLIENT: usize = 0;
const NUMBER: usize = 1;
const SERVER: usize = 2;
const SIZE: usize = 48;

/// One restart and one rest for each server.
fn open(directory: &Path, room: usize) -> anyhow::Result<Ledger> {
    Ledger::open(directory, CLIENTS, 2 * (RESTARTS + 1), room)
}

fn place(directory: &Path) -> PathBuf {
    directory.join("server")
}

/// The directory and the ledger, and the processes that come and go.
struct Ground {
    directory: TempDir,
    ledger: Ledger,
}

impl Ground {
    /// There is room for so many seconds.
    fn new(seconds: f64) -> anyhow::Result<Ground> {
        let permissions = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("wigwag-bench-").permissions(permissions).tempdir()?;
        let room = (seconds + PATIENCE.as_secs_f64()) / PAUSE.as_secs_f64();
        let ledger = open(directory.path(), room.ceil() as usize)?;
        Ok(Ground { directory, ledger })
    }

    fn other(&self, part: &str, number: usize) -> anyhow::Result<Others> {
        Others::start([[
            "restart".into(),
            part.into(),
            number.to_string().into(),
            self.ledger.room().to_string().into(),
            self.directory.path().as_os_str().to_owned(),
        ]])
    }

    /// Starts a server, and waits until it has the name. The first is number 0.
    fn server(&self, number: usize) -> anyhow::Result<Others> {
        let server = self.other("server", number)?;
        let serving = self.ledger.word(Word::Serving);
        let has_name = soon(|| serving.load(Ordering::SeqCst) > number as u64);
        ensure!(has_name, "server {number} does not get the name within {PATIENCE:?}");
        Ok(server)
    }

    /// Waits until each client has had an answer of this server.
    fn all_follow(&self, number: usize) -> bool {
        let mut clients = (0..CLIENTS).peekable();
        soon(|| {
            while clients.next_if(|&it| self.ledger.followed(it).load(Ordering::SeqCst) > number as u64).is_some() {}
            clients.peek().is_none()
        })
    }
}

/// Whether it becomes true before patience ends.
fn soon(mut is_true: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if is_true() {
            return true;
        }
        if begin.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(GLANCE);
    }
}

/// R1.
pub(super) fn planned(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let begin = Instant::now();
    let ground = Ground::new(attempt.seconds)?;
    let ledger = &ground.ledger;
    let mut server = ground.server(0)?;
    let starts = (0..PROCESSES).map(|process| ground.other("clients", process));
    let mut clients = starts.collect::<anyhow::Result<Vec<Others>>>()?;
    let are_ready = soon(|| ledger.word(Word::Ready).load(Ordering::SeqCst) == PROCESSES as u64);
    ensure!(are_ready, "the clients are not connected within {PATIENCE:?}");
    ensure!(ground.all_follow(0), "the clients have no answer within {PATIENCE:?}");
    let most = attempt.rounds.unwrap_or(RESTARTS).min(RESTARTS);
    let (mut restarts, mut all_follow) = (0, true);
    while all_follow && restarts < most && (restarts == 0 || begin.elapsed().as_secs_f64() < attempt.seconds) {
        std::thread::sleep(REST);
        restarts += 1;
        attempt.progress.show(&format!("restart {restarts} of {most} at most"));
        let next = ground.server(restarts)?;
        all_follow = ground.all_follow(restarts);
        ledger.word(Word::Phase).fetch_add(1, Ordering::SeqCst);
        let former = std::mem::replace(&mut server, next);
        former.end(PATIENCE).with_context(|| format!("the server before restart {restarts}"))?;
    }
    attempt.progress.clear();
    let seconds = begin.elapsed().as_secs_f64();
    ledger.word(Word::Stop).store(1, Ordering::SeqCst);
    // A client that does not come back has lost its call, which the ledger knows.
    let are_over = soon(|| ledger.word(Word::Over).load(Ordering::SeqCst) == PROCESSES as u64);
    if are_over {
        clients.drain(..).try_for_each(|process| process.end(PATIENCE)).context("the clients")?;
    }
    drop(clients);
    let verdict = judge(ledger, restarts, seconds);
    Ok(if all_follow && are_over {
        verdict
    } else {
        verdict.noting(format!("not each client had an answer of the last server within {PATIENCE:?}"))
    })
}

/// The checks, and what else the ledger tells.
fn judge(ledger: &Ledger, restarts: usize, seconds: f64) -> Verdict {
    let tally = ledger.count();
    let phases = 2 * restarts + 1;
    let longest = |since, of_restarts| Times::new(ledger.longest_ms(since, phases, of_restarts));
    let pauses = longest(Since::Answer, true);
    let checks = vec![
        Check::at_most("lost", tally.lost as f64, 0.0, "calls"),
        Check::at_most("executed too often", tally.too_often as f64, 0.0, "calls"),
        Check::at_most("told as maybe executed", tally.maybe as f64, 0.0, "calls"),
        Check::at_most("p99 of each restart's longest time without an answer", pauses.percentile(99), LIMIT_MS, "ms"),
    ];
    let moved = ledger.word(Word::Moved).load(Ordering::SeqCst);
    let notes = [
        format!(
            "{restarts} restarts in {seconds:.1} s; {CLIENTS} clients in {PROCESSES} processes made {} calls, {:.0} a \
             second, {} ms between an answer and the next call; {moved} had been passed to a server and went on at \
             its successor",
            tally.made,
            tally.made as f64 / seconds,
            PAUSE.as_millis(),
        ),
        format!(
            "the longest time of a client without an answer, with its own pause: in each restart {pauses}; in each \
             rest between two restarts {}",
            longest(Since::Answer, false)
        ),
        format!(
            "the longest call: in each restart {}; in each rest {}",
            longest(Since::Call, true),
            longest(Since::Call, false)
        ),
    ];
    notes.into_iter().fold(Verdict::new(Goal::R1, checks, Vec::new()), Verdict::noting)
}

/// Milliseconds, in order.
struct Times(Vec<f64>);

impl Times {
    fn new(mut times: Vec<f64>) -> Times {
        times.sort_by(f64::total_cmp);
        Times(times)
    }

    /// The time that so many of a hundred do not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100);
        rank.checked_sub(1).and_then(|index| self.0.get(index)).copied().unwrap_or(f64::NAN)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, most] = [50, 99, 100].map(|percent| self.percentile(percent));
        write!(out, "p50 {p50:.1} ms, p99 {p99:.1} ms, at most {most:.1} ms")
    }
}

/// Another process of R1: a server by its number, or the clients of the process of that number.
pub fn play(part: &str, number: usize, room: usize, directory: &Path) -> anyhow::Result<()> {
    exit_with_parent();
    let ledger = open(directory, room)?;
    match part {
        "server" => serve(number, &ledger, &place(directory)),
        "clients" => follow(number, &ledger, &place(directory)),
        _ => bail!("there is no part {part}"),
    }
}

/// Serves until it is replaced.
fn serve(number: usize, ledger: &Ledger, name: &Path) -> anyhow::Result<()> {
    let mut builder = Server::builder();
    if number > 0 {
        builder = builder.replace(PATIENCE);
        ledger.word(Word::Phase).fetch_add(1, Ordering::SeqCst);
    }
    let mut server = builder.bind(name)?;
    ledger.word(Word::Serving).store(number as u64 + 1, Ordering::SeqCst);
    server.serve(|request| {
        let (words, _) = request.as_chunks_mut::<8>();
        let [client, call] = [CLIENT, NUMBER].map(|at| usize::from_ne_bytes(words[at]));
        if !ledger.execute(client, call) {
            return Err("this is no call of this bench");
        }
        words.as_flattened_mut().iter_mut().for_each(|byte| *byte = !*byte);
        words[SERVER] = (number as u64).to_ne_bytes();
        Ok(())
    })?;
    Ok(())
}

/// Clients that call, each in a thread, until they are told to stop.
fn follow(process: usize, ledger: &Ledger, name: &Path) -> anyhow::Result<()> {
    let each = CLIENTS / PROCESSES;
    let connect = |_| Client::builder().server_timeout(PATIENCE).follow_restarts(PATIENCE).connect(name);
    let clients = (0..each).map(connect).collect::<wigwag::Result<Vec<Client>>>()?;
    ledger.word(Word::Ready).fetch_add(1, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let start = |(index, client)| scope.spawn(move || call(&client, index, ledger));
        let threads: Vec<_> = (process * each..).zip(clients).map(start).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    ledger.word(Word::Over).fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// One client in a closed loop. It says on stderr why it has lost a call.
fn call(client: &Client, index: usize, ledger: &Ledger) -> anyhow::Result<()> {
    let phase = || ledger.word(Word::Phase).load(Ordering::SeqCst) as usize;
    let (mut last_answer, mut last_phase) = (Instant::now(), phase());
    for number in 0..ledger.room() {
        if ledger.word(Word::Stop).load(Ordering::SeqCst) != 0 {
            break;
        }
        std::thread::sleep(PAUSE);
        let request = request(index, number);
        ledger.make(index, number);
        let (begin, first_phase) = (Instant::now(), phase());
        let server = match client.call(&request) {
            Ok(reply) => answering_server(&request, &reply).context("a reply is not that of its request")?,
            Err(error) => {
                if matches!(
                    error.kind(),
                    ErrorKind::PeerDied { maybe_executed: true }
                        | ErrorKind::TimedOut { maybe_executed: true }
                        | ErrorKind::ServerClosed { maybe_executed: true }
                ) {
                    ledger.end(index, number, Fate::MaybeExecuted);
                }
                wigwag_bench::output::complain(&format!("wigwag: client {index}, call {number}: {error}"));
                continue;
            }
        };
        let (now, phase) = (Instant::now(), phase());
        ledger.end(index, number, Fate::Answered);
        ledger.wait([last_phase, phase], Since::Answer, now - last_answer);
        ledger.wait([first_phase, phase], Since::Call, now - begin);
        ledger.followed(index).store(server + 1, Ordering::SeqCst);
        (last_answer, last_phase) = (now, phase);
    }
    ledger.word(Word::Moved).fetch_add(client.stats().moved, Ordering::SeqCst);
    Ok(())
}

/// A request of this client.
fn request(client: usize, number: usize) -> [u8; SIZE] {
    let mut request = [0x55; SIZE];
    let (words, _) = request.as_chunks_mut::<8>();
    words[CLIENT] = client.to_ne_bytes();
    words[NUMBER] = number.to_ne_bytes();
    request
}

/// Which server has answered, if this is the reply to that request.
fn answering_server(request: &[u8], reply: &[u8]) -> Option<u64> {
    let (words, _) = reply.as_chunks::<8>();
    let inverted = |(at, (asked, said)): (usize, (&u8, &u8))| at / 8 == SERVER || *said == !*asked;
    let is_its_own = reply.len() == request.len() && request.iter().zip(reply).enumerate().all(inverted);
    is_its_own.then(|| u64::from_ne_bytes(words[SERVER]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_known_by_its_request() {
        let request = request(3, 4);
        let mut reply = request.map(|byte| !byte);
        reply[8 * SERVER..][..8].copy_from_slice(&7_u64.to_ne_bytes());
        assert_eq!(answering_server(&request, &reply), Some(7));
        assert_eq!(answering_server(&self::request(3, 5), &reply), None);
        assert_eq!(answering_server(&request, &reply[..40]), None);
        assert_eq!(answering_server(&request, &request), None);
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = Times::new((1..=1000).rev().map(f64::from).collect());
        assert_eq!([50, 99, 100].map(|percent| times.percentile(percent)), [500.0, 990.0, 1000.0]);
        assert_eq!(Times::new(vec![4.0]).percentile(99), 4.0);
        assert!(Times::new(Vec::new()).percentile(99).is_nan());
    }
}
