//! G30: servers are killed at random moments, and started again at once. Each call of a client that follows is answered
//! and was executed once, or is told as maybe executed and was executed at most once; no handle is lost, and in the end
//! a client has what it had in the beginning. A server that hangs up and lives is not taken for one that has ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wigwag::{Client, ErrorKind};
use wigwag_testing::{Ground, Offer, Process, RawServer, SERVER, wire};

use super::super::storm::dice::Dice;
use super::super::storm::watch::Holding;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::Trial;

/// Processes in which the clients are.
const PROCESSES: u64 = 2;
/// So long all may take to say what they have done.
const SOON: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Sum {
    calls: u64,
    told: u64,
    moved: u64,
    findings: Vec<String>,
}

/// Tries it.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let kills = trial.kills.unwrap_or(trial.pick(20, 500, 10_000));
    let clients = trial.pick(2, 50, 50);
    let mut sum = Sum::default();
    if let Err(why) = kill_and_compare(trial, kills, clients, &mut sum) {
        sum.findings.push(why);
    }
    if let Some(why) = lives_and_hangs_up() {
        sum.findings.push(why);
    }
    sum.findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    let figure = format!(
        "{kills} kills, {} clients; {} calls: {} went on at a successor, {} told as maybe executed; seed {}",
        PROCESSES * clients,
        sum.calls,
        sum.moved,
        sum.told,
        trial.seed
    );
    Ok(Outcome::of(figure, sum.findings))
}

fn start(socket: &Path, ledger: &Path) -> Process {
    let mut service = role::start("restarts_service", [socket, ledger].map(Path::as_os_str));
    service.expect("ready");
    service
}

fn kill_and_compare(trial: &Trial, kills: u64, clients: u64, sum: &mut Sum) -> Result<(), String> {
    let ground = Ground::new();
    let (socket, ledger): (PathBuf, PathBuf) = (ground.socket(), ground.path("ledger"));
    let mut service = start(&socket, &ledger);
    let text = socket.to_str().expect("a path of the test's own");
    let mut followers: Vec<Process> = (0..PROCESSES)
        .map(|process| {
            let numbers = [clients, process * clients, trial.seed].map(|number| number.to_string());
            role::start("restarts_follower", std::iter::once(text.to_owned()).chain(numbers))
        })
        .collect();
    followers.iter_mut().for_each(|follower| follower.expect("ready"));
    let before: Vec<Holding> = followers.iter().map(|follower| Holding::of(follower.id())).collect();
    let mut dice = Dice::new(trial.seed);
    for _ in 0..kills {
        std::thread::sleep(dice.of_any_size_us(20_000));
        service.kill();
        service = start(&socket, &ledger);
    }
    followers.iter().for_each(|follower| follower.tell("stop"));
    let mut told = Vec::new();
    for (process, follower) in (0..).zip(&mut followers) {
        for client in 0..clients {
            told.push(Told::hear(process * clients + client, follower)?);
        }
    }
    compare(&told, &ledger, sum)?;
    for (process, (before, follower)) in before.iter().zip(&followers).enumerate() {
        is_back(&format!("process {process} of clients"), before, follower.id())?;
    }
    Ok(())
}

/// The memory of a session grows with what is called in it; how many there are, and their descriptors, do not.
fn is_back(who: &str, before: &Holding, pid: u32) -> Result<(), String> {
    let count = |holding: &Holding| (holding.descriptors(), holding.segments());
    let begin = Instant::now();
    loop {
        let now = count(&Holding::of(pid));
        if now == count(before) {
            return Ok(());
        }
        if begin.elapsed() > Duration::from_secs(5) {
            let then = count(before);
            return Err(format!(
                "{who}: {} descriptors and {} sessions, where {} and {} were",
                now.0, now.1, then.0, then.1
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a client says of its calls.
struct Told {
    index: u64,
    end: u64,
    maybe: Vec<u64>,
    moved: u64,
}

impl Told {
    fn hear(index: u64, follower: &mut Process) -> Result<Told, String> {
        let begin = Instant::now();
        while !follower.has_said_something(Duration::from_millis(100)).unwrap_or(true) {
            if begin.elapsed() > SOON {
                return Err("a client does not come back from a call".into());
            }
        }
        let line = follower.try_hear().ok_or("a process of clients is gone")?;
        if let Some(why) = line.strip_prefix("! ") {
            return Err(why.to_owned());
        }
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or_else(|| line.clone());
        let (end, moved, _reconnects) = (number()?, number()?, number()?);
        let list = line.rsplit(' ').next().unwrap_or_default().split(',').filter_map(|word| word.parse().ok());
        Ok(Told { index, end, maybe: list.collect(), moved })
    }
}

fn compare(told: &[Told], ledger: &Path, sum: &mut Sum) -> Result<(), String> {
    let bytes = std::fs::read(ledger).map_err(|error| error.to_string())?;
    let mut executed: HashMap<u64, u64> = HashMap::new();
    for name in bytes.chunks_exact(8) {
        *executed.entry(u64::from_ne_bytes(name.try_into().expect("eight bytes"))).or_default() += 1;
    }
    for Told { index, end, maybe, moved } in told {
        for number in 0..*end {
            let count = executed.get(&(index << 40 | number)).copied().unwrap_or(0);
            let is_told = maybe.contains(&number);
            if count > 1 {
                return Err(format!("call {number} of client {index} was executed {count} times"));
            }
            if count == 0 && !is_told {
                return Err(format!("call {number} of client {index} was answered, and nobody has executed it"));
            }
        }
        sum.calls += end;
        sum.told += maybe.len() as u64;
        sum.moved += moved;
    }
    Ok(())
}

/// A server by hand that has agreed to mark what it begins hangs up, and its process lives: it might begin still what
/// it has not marked.
fn lives_and_hangs_up() -> Option<String> {
    const BEGUN: u8 = 1 << 1;
    const WELCOME_FEATURES: usize = 8;
    let ground = Ground::new();
    let server = RawServer::bind(&ground.socket());
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let client = Client::builder().follow_restarts(Duration::from_millis(200)).connect(ground.socket())?;
            client.call_timeout(b"8 bytes!", SOON).map(drop)
        });
        let socket = server.accept();
        drop(wire::receive(&socket));
        let mut offer = Offer::new(4, 5000);
        let features = offer.welcome.len() - wire::WELCOME_EXTENSION.len() + WELCOME_FEATURES;
        offer.welcome[features] |= BEGUN;
        let raw = offer.send(socket).ok()?;
        drop(wire::receive(&raw.socket));
        while raw.turn(0).load(Ordering::Acquire) & SERVER == 0 {
            std::thread::yield_now();
        }
        drop(raw);
        let mut came_again = false;
        while !caller.is_finished() {
            came_again |= server.is_asked();
            if came_again {
                drop(server.accept());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let outcome = caller.join().expect("it tells what it finds");
        let kind = outcome.as_ref().err().map(wigwag::Error::kind);
        match kind {
            Some(ErrorKind::PeerDied { maybe_executed: true }) if !came_again => None,
            _ => Some(format!("a server that hung up and lives was taken for one that has ended: {outcome:?}")),
        }
    })
}
