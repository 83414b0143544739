//! G13: a server that may have 64 descriptors, then a client. A client beyond the limit is told so in a sentence,
//! nobody burns a processor meanwhile, no session is made with less than it needs, and there is room again when
//! somebody leaves.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wigwag::{Client, ErrorKind};
use wigwag_testing::{Ground, Link, Snapshot, wire};

use super::baseline::{TIME_LIMIT, comes_back};
use super::server::{CrowdServer, hear_patiently, limit_descriptors};
use super::storm::call;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::{Scale, Trial};

/// The limit; and those below it, so that each of a session's descriptors is once the one that is not to be had.
const LIMIT: usize = 64;
/// The goal for a full server's processor time.
const BUSY_PERCENT: f64 = 5.0;
/// More descriptors than are left when there are too few for a session.
const SPARE: usize = 8;
/// What a refusal for want of descriptors says.
const SAYS: &str = "ulimit -n";

/// The goal.
pub fn few_descriptors(trial: &Trial) -> anyhow::Result<Outcome> {
    let limits = trial.pick(LIMIT - 4..=LIMIT, LIMIT - 9..=LIMIT, LIMIT - 24..=LIMIT);
    let mut findings = Vec::new();
    let (mut most, mut turned_away, mut busiest) = (0, 0, 0.0_f64);
    for limit in limits.clone() {
        // Processor time is measured where the goal says.
        let measured = (limit == LIMIT).then(|| trial.pick(300, 1000, 10_000)).map(Duration::from_millis);
        let full =
            full_server(limit, measured, trial.scale, &mut findings).with_context(|| format!("limit {limit}"))?;
        most = most.max(full.sessions);
        turned_away += full.turned_away;
        busiest = busiest.max(full.busy_percent);
        if !findings.is_empty() {
            break; // each may take its time
        }
    }
    let mut held = 0;
    for limit in limits.clone() {
        held = held.max(full_client(limit, &mut findings).with_context(|| format!("limit {limit}"))?);
    }
    let figure = format!(
        "limits {} to {}: a full server has {most} sessions and turned {turned_away} away in words, with {busiest:.1} \
         % of \
         a processor; a full client has {held} sessions; both recover",
        limits.start(),
        limits.end(),
    );
    Ok(Outcome::of(figure, findings))
}

struct Full {
    sessions: usize,
    turned_away: usize,
    busy_percent: f64,
}

/// Fills a server, knocks at it, makes room, and empties it.
fn full_server(
    limit: usize,
    measured: Option<Duration>,
    scale: Scale,
    findings: &mut Vec<String>,
) -> anyhow::Result<Full> {
    let ground = Ground::new();
    let options = ["slots=1", "capacity=4096", "handshake_ms=25000", &format!("nofile={limit}")];
    let server = CrowdServer::start(&ground.socket(), &options)?;
    call(&connect(&server.socket)?, 1)?;
    let before = Snapshot::when_settled(server.proc_id, 0);
    let mut clients = Vec::new();
    // A handshake that is not quite over has a descriptor more: full is who refuses for a while.
    let mut refusals = Vec::new();
    while refusals.len() < 2 {
        match connect(&server.socket) {
            Ok(client) => {
                clients.push(client);
                refusals.clear();
            }
            Err(error) => {
                refusals.push(error);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        anyhow::ensure!(clients.len() < limit, "a limit of {limit} descriptors limits nothing");
    }
    let at = format!("server with {limit} descriptors and {} sessions", clients.len());
    let mut told = |what: String| findings.push(format!("{at}: {what}"));
    let check = |error: &wigwag::Error| {
        let is_clean = error.kind() == ErrorKind::Busy && error.to_string().contains(SAYS);
        (!is_clean).then(|| format!("no clean refusal for want of descriptors, but {error:?}"))
    };
    refusals.iter().filter_map(check).for_each(&mut told);
    // What is too little for a session is still enough for those who say nothing: they take the very last.
    let silent: Vec<_> = (0..SPARE).map(|_| wire::connect_to(&server.socket)).collect();

    let mut turned_away = refusals.len();
    let mut busy_percent = 0.0;
    let (begin, began_ns) = (Instant::now(), processor_ns(server.process.id())?);
    loop {
        match connect(&server.socket) {
            Err(error) => check(&error).into_iter().for_each(&mut told),
            Ok(_) => told("it let somebody in although it was full".into()),
        }
        turned_away += 1;
        if measured.is_none_or(|duration| begin.elapsed() >= duration) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if measured.is_some() {
        let spent_ns = processor_ns(server.process.id())? - began_ns;
        busy_percent = spent_ns as f64 / begin.elapsed().as_nanos() as f64 * 100.0;
        if busy_percent > if scale == Scale::Test { 50.0 } else { BUSY_PERCENT } {
            told(format!("{busy_percent:.1} % of a processor while it is full, the goal is {BUSY_PERCENT} %"));
        }
    }
    let pidfds = pidfds(server.proc_id);
    if pidfds != clients.len() {
        told(format!("it watches only {pidfds} of its clients' processes"));
    }
    for (number, client) in clients.iter().enumerate() {
        call(client, number)
            .err()
            .map(|error| format!("a session does not work: {error}"))
            .into_iter()
            .for_each(&mut told);
    }
    drop(silent);
    let sessions = clients.len();
    clients.truncate(sessions - 2);
    let begin = Instant::now();
    while let Err(error) = connect(&server.socket).and_then(|client| call(&client, 3)) {
        if begin.elapsed() > TIME_LIMIT {
            told(format!("it does not recover when others leave: {error}"));
            break;
        }
    }
    clients.clear();
    findings.extend(comes_back(&before, server.proc_id, &format!("after a crowd at {limit} descriptors")));
    findings.extend(server.stop());
    Ok(Full { sessions, turned_away, busy_percent })
}

/// Connects, or fails soon: a client of a full server tries again until its time is over.
fn connect(socket: &Path) -> wigwag::Result<Client> {
    Client::builder().timeout(Duration::from_millis(150)).connect(socket)
}

/// How many descriptors of processes another process has. `fdinfo` of nothing else has such a line.
fn pidfds(pid: u32) -> usize {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return 0 };
    let infos = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    infos.filter(|info| info.lines().any(|line| line.starts_with("NSpid:"))).count()
}

/// Processor time of another process.
fn processor_ns(pid: u32) -> anyhow::Result<u64> {
    let mut clock = 0;
    // SAFETY: the pointer is to a clock's number, which is written.
    anyhow::ensure!(unsafe { libc::clock_getcpuclockid(pid as i32, &raw mut clock) } == 0, "no clock of {pid}");
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a time, which is written.
    anyhow::ensure!(unsafe { libc::clock_gettime(clock, &raw mut time) } == 0, "no time of {pid}");
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Fills a client, and lets it try again and again.
fn full_client(limit: usize, findings: &mut Vec<String>) -> anyhow::Result<usize> {
    let ground = Ground::new();
    let server = CrowdServer::start(&ground.socket(), &["slots=1", "capacity=4096"])?;
    let opener = role::start("crowd-opener", [server.socket.as_os_str(), limit.to_string().as_ref()]);
    let ask = |question: &str| -> anyhow::Result<String> {
        opener.tell(question);
        opener.try_hear().context("the client is gone")
    };
    let at = format!("client with {limit} descriptors");
    ask("warm up")?;
    let empty = Snapshot::when_settled(opener.id(), 0);
    let baseline = Snapshot::when_settled(server.proc_id, 0);
    let answer = ask("fill")?;
    let (sessions, error) = answer.split_once(' ').context("two words")?;
    let sessions: usize = sessions.parse().context(answer.clone())?;
    if !error.starts_with("Io") || !error.contains(SAYS) {
        findings.push(format!("{at}: no clean error for want of descriptors, but {error}"));
    }
    let full = Snapshot::of(opener.id());
    let pidfds = pidfds(opener.id());
    if (full.segments, pidfds) != (sessions, sessions) {
        findings
            .push(format!("{at}: {sessions} sessions have {} segments and watch {pidfds} processes", full.segments));
    }
    for _ in 0..20 {
        ask("try")?;
    }
    findings.extend(comes_back(&full, opener.id(), &format!("{at}: after twenty failures")));
    let begin = Instant::now();
    while server.counts()?.sessions as usize != sessions && begin.elapsed() < TIME_LIMIT {}
    let counted = server.counts()?.sessions as usize;
    if counted != sessions {
        findings.push(format!("{at}: {sessions} sessions, but the server has {counted}"));
    }
    let answer = ask("leave and come back")?;
    if answer != "well" {
        findings.push(format!("{at}: it does not recover: {answer}"));
    }
    ask("leave")?;
    findings.extend(comes_back(&empty, opener.id(), &format!("{at}: after it left")));
    findings.extend(comes_back(&baseline, server.proc_id, &format!("{at}: the server, after it left")));
    findings.extend(server.stop());
    Ok(sessions)
}

/// The role: a client that opens sessions until it has no descriptor left.
pub fn play_opener(parent: &Link, arguments: &[&str]) {
    let socket = Path::new(arguments[0]);
    limit_descriptors(arguments[1].parse().expect("a number"));
    let mut clients = Vec::new();
    let words = |error: &wigwag::Error| format!("{error:?}").replace('\n', " ");
    while let Some(question) = hear_patiently() {
        match question.as_str() {
            "warm up" => parent.tell(connect(socket).is_ok()),
            "fill" => {
                let error = loop {
                    match connect(socket) {
                        Ok(client) => clients.push(client),
                        Err(error) => break error,
                    }
                };
                parent.tell(format_args!("{} {}", clients.len(), words(&error)));
            }
            "try" => parent.tell(connect(socket).map_or_else(|error| words(&error), |_| "let in".into())),
            "leave and come back" => {
                clients.pop();
                match connect(socket).and_then(|client| call(&client, 5).map(|()| client)) {
                    Ok(client) => {
                        clients.push(client);
                        parent.tell("well");
                    }
                    Err(error) => parent.tell(words(&error)),
                }
            }
            _ => {
                clients.clear();
                parent.tell("left");
            }
        }
    }
}
