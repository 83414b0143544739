//! G12: a thousand who begin to connect and never end, of the server's own user and of another, beside clients that
//! want to work. These get in and are served; the others are gone at their deadline.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use wigwag::Client;
use wigwag_testing::others::become_user;
use wigwag_testing::{Ground, Link, Process, Snapshot, wire};

use super::baseline::{comes_back, percentile};
use super::server::CrowdServer;
use super::storm::call;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::{Scale, Trial};

/// A user that nothing else runs as.
const OTHER_USER: u32 = 60_125;
/// Processes of attackers, of which the last are another user's where that can be played.
const ATTACKERS: usize = 5;
/// Of these, the other user's.
const OTHER_USERS: usize = 2;
/// How often an attacker connects anew some of those that were dropped: at most one in [`AT_A_TIME`].
const REFILL: Duration = Duration::from_millis(20);
const AT_A_TIME: usize = 5;
/// The goal for a client that connects meanwhile.
const GOAL_US: u32 = 20_000;
/// How much later than the deadline a half-open one may be dropped, on a busy machine.
const GRACE: Duration = Duration::from_secs(2);
/// Findings of one kind that are told.
const TOLD: usize = 5;

/// What the clients that want to work met.
#[derive(Default)]
struct Honest {
    connects: u64,
    calls: u64,
    connect_us: Vec<u32>,
    findings: Vec<String>,
}

/// The goal.
pub fn half_open(trial: &Trial) -> anyhow::Result<Outcome> {
    let connectors: usize = trial.pick(200, 1000, 1000);
    let duration = trial.pick(Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(600));
    let deadline_ms: u64 = trial.pick(300, 1000, 1000);
    let places: usize = trial.pick(50, 256, 256); // fewer than connectors, as by default
    let may_be_other_users = rustix::process::geteuid().is_root();
    let ground = Ground::new();
    std::fs::set_permissions(ground.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let options =
        [format!("max_handshakes={places}"), format!("handshake_ms={deadline_ms}"), format!("allow_user={OTHER_USER}")];
    let server = CrowdServer::start(&ground.socket(), &options.each_ref().map(String::as_str))?;
    call(&Client::connect(&server.socket)?, 1)?;
    let before = Snapshot::when_settled(server.proc_id, 0);
    let steady = Client::connect(&server.socket)?;

    let attackers: Vec<Process> = (0..ATTACKERS)
        .map(|number| {
            let is_other_user = may_be_other_users && number >= ATTACKERS - OTHER_USERS;
            let arguments = [
                server.socket.to_string_lossy().into_owned(),
                (connectors / ATTACKERS).to_string(),
                duration.as_millis().to_string(),
                (u128::from(deadline_ms) + GRACE.as_millis()).to_string(),
                if is_other_user { OTHER_USER } else { rustix::process::geteuid().as_raw() }.to_string(),
            ];
            role::start("crowd-attacker", arguments)
        })
        .collect();
    for attacker in &attackers {
        attacker.try_hear().context("an attacker is gone")?; // all its connectors are there
    }
    let mut honest = work(&server, &steady, duration);
    let sum = end_attack(attackers, &mut honest.findings)?;
    drop(steady);
    honest.findings.extend(comes_back(&before, server.proc_id, "after the attack"));
    let [median, p99] = [50, 99].map(|hundredths| percentile(&mut honest.connect_us, hundredths));
    if trial.scale != Scale::Test && p99 > GOAL_US {
        honest.findings.push(format!("connecting takes {p99} us in the 99th percentile, the goal is {GOAL_US} us"));
    }
    honest.findings.extend(server.stop());
    let who = if may_be_other_users { "2 in 5 of another user" } else { "another user cannot be played here" };
    let figure = format!(
        "{connectors} connectors ({who}) for {} s, {} knocks, {places} places, deadline {deadline_ms} ms: none open \
         longer \
         than {} ms; {} connects of honest clients, median {median} us, p99 {p99} us; {} calls",
        duration.as_secs(),
        sum.knocks,
        sum.longest_ms,
        honest.connects,
        honest.calls,
    );
    Ok(Outcome::of(figure, honest.findings))
}

/// Clients that want to work: one that calls all the time, one that connects, calls and leaves.
fn work(server: &CrowdServer, steady: &Client, duration: Duration) -> Honest {
    let mut honest = Honest::default();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let visitor = scope.spawn(|| visit(server, duration, &is_over));
        let begin = Instant::now();
        while begin.elapsed() < duration {
            if let Err(error) = call(steady, honest.calls as usize) {
                honest.findings.push(format!("a call beside the attack failed: {error}"));
                break;
            }
            honest.calls += 1;
            if honest.calls.is_multiple_of(16) {
                std::thread::sleep(Duration::from_micros(500)); // there are only so many processors
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let visitor = visitor.join().expect("a visitor does not panic");
        honest.connects = visitor.connects;
        honest.calls += visitor.calls;
        honest.connect_us = visitor.connect_us;
        honest.findings.extend(visitor.findings);
    });
    honest
}

fn visit(server: &CrowdServer, duration: Duration, is_over: &AtomicBool) -> Honest {
    let mut honest = Honest::default();
    let begin = Instant::now();
    while begin.elapsed() < duration && !is_over.load(Ordering::Relaxed) {
        let knocked = Instant::now();
        match Client::connect(&server.socket) {
            Ok(client) => {
                honest.connect_us.push(knocked.elapsed().as_micros() as u32);
                honest.connects += 1;
                match call(&client, honest.connects as usize) {
                    Ok(()) => honest.calls += 1,
                    Err(error) => honest.findings.push(format!("a newcomer's call failed: {error}")),
                }
            }
            Err(error) if honest.findings.len() < TOLD => {
                let ms = begin.elapsed().as_millis();
                honest.findings.push(format!("an honest client could not connect after {ms} ms: {error}"));
            }
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    honest
}

/// What all attackers met.
#[derive(Default)]
struct Sum {
    knocks: u64,
    longest_ms: u64,
}

fn end_attack(attackers: Vec<Process>, findings: &mut Vec<String>) -> anyhow::Result<Sum> {
    let mut sum = Sum::default();
    for attacker in attackers {
        let line = attacker.try_hear().context("an attacker is gone")?;
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().context(line.clone())?;
        let [open, knocks, longest_ms] = numbers[..] else { anyhow::bail!("{line}") };
        if open > 0 {
            findings
                .push(format!("{open} half-open handshakes of one attacker are still held long after their deadline"));
        }
        sum.knocks += knocks;
        sum.longest_ms = sum.longest_ms.max(longest_ms);
        attacker.join();
    }
    Ok(sum)
}

/// One that begins to connect.
struct Connector {
    socket: OwnedFd,
    since: Instant,
}

/// The role: keeps so many connections half open, then waits until all have been dropped.
pub fn play_attacker(parent: &Link, arguments: &[&str]) {
    let [socket, rest @ ..] = arguments else { panic!("{arguments:?}") };
    let numbers: Vec<u64> = rest.iter().map(|text| text.parse().expect("a number")).collect();
    let [count, duration_ms, patience_ms, user] = numbers[..] else { panic!("{rest:?}") };
    become_user(user as u32);
    let mut connectors: Vec<Connector> = Vec::new();
    let (mut knocks, mut longest) = (0, Duration::ZERO);
    let mut refill_at = Instant::now();
    let mut begin = None;
    while begin.is_none_or(|begin: Instant| begin.elapsed() < Duration::from_millis(duration_ms)) {
        if refill_at <= Instant::now() {
            let most = if begin.is_none() { count as usize } else { count as usize / AT_A_TIME };
            for _ in 0..most.min(count as usize - connectors.len()) {
                connectors.extend(knock(Path::new(socket), knocks));
                knocks += 1;
            }
            refill_at = Instant::now() + REFILL;
        }
        if begin.is_none() {
            parent.tell("there");
            begin = Some(Instant::now());
        }
        longest = longest.max(let_go(&mut connectors));
    }
    let begin = Instant::now();
    while !connectors.is_empty() && begin.elapsed() < Duration::from_millis(patience_ms) {
        longest = longest.max(let_go(&mut connectors));
    }
    parent.tell(format_args!("{} {knocks} {}", connectors.len(), longest.as_millis()));
}

/// Begins, in one of several ways.
fn knock(path: &Path, number: u64) -> Option<Connector> {
    // Never waits: a full queue is no place for an attacker that has others to care for.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    let hello = wire::hello();
    let _ = match number % 4 {
        0 | 1 => Ok(()),                                          // silent
        2 => wire::send(&socket, &hello, &[]),                    // never READY, though it is welcome
        _ => wire::send(&socket, &hello[..hello.len() / 2], &[]), // half a greeting
    };
    Some(Connector { socket, since: Instant::now() })
}

/// Waits a little, and lets go of those that the server dropped; the longest that one of them was open.
fn let_go(connectors: &mut Vec<Connector>) -> Duration {
    let mut sockets: Vec<PollFd<'_>> =
        connectors.iter().map(|connector| PollFd::new(&connector.socket, PollFlags::RDHUP)).collect();
    let moment = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    let _ = poll(&mut sockets, Some(&moment));
    let mut is_dropped = sockets.iter().map(|socket| !socket.revents().is_empty()).collect::<Vec<_>>().into_iter();
    let mut longest = Duration::ZERO;
    connectors.retain(|connector| {
        let is_dropped = is_dropped.next() == Some(true);
        if is_dropped {
            longest = longest.max(connector.since.elapsed());
        }
        !is_dropped
    });
    std::thread::sleep(Duration::from_millis(2)); // a crowd that is dropped at once is let go at once
    longest
}
