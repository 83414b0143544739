//! G30: servers are killed at random moments, and started again at once. Each call of a client that follows is answered
//! and was executed once, or is told as maybe executed and was executed at most once; no handle is lost, and in the end
//! a client has what it had in the beginning. A server that hangs up and lives is not taken for one that has ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag::{Client, ErrorKind};
use wigwag_testing::{Ground, Offer, RawServer, SERVER, wire};

use super::super::storm::dice::Dice;
use super::company::{Executed, Followers, PROCESSES};
use super::service;
use crate::scale::Trial;

/// So long a call may take.
const SOON: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Sum {
    calls: u64,
    told: u64,
    moved: u64,
}

/// Tries it: the figure; what is found is added.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> String {
    let kills = trial.kills.unwrap_or(trial.pick(20, 500, 10_000));
    let clients = trial.pick(2, 50, 50);
    let mut sum = Sum::default();
    findings.extend(kill_and_compare(trial, kills, clients, &mut sum).err());
    findings.extend(lives_and_hangs_up());
    format!(
        "{kills} kills, {} clients; {} calls: {} went on at a successor, {} told as maybe executed",
        PROCESSES * clients,
        sum.calls,
        sum.moved,
        sum.told,
    )
}

fn kill_and_compare(trial: &Trial, kills: u64, clients: u64, sum: &mut Sum) -> Result<(), String> {
    let ground = Ground::new();
    let (socket, ledger) = (ground.socket(), ground.path("ledger"));
    let mut service = service::start(&socket, &ledger);
    let followers = Followers::start(&socket, clients, trial.seed);
    let mut dice = Dice::new(trial.seed);
    for _ in 0..kills {
        std::thread::sleep(dice.of_any_size_us(20_000));
        service.kill();
        service = service::start(&socket, &ledger);
    }
    let accounts = followers.stop()?;
    let executed = Executed::read(&ledger)?;
    for (index, account) in (0..).zip(&accounts) {
        executed.agrees_with(index, account)?;
        sum.calls += account.end;
        sum.told += account.failed.len() as u64;
        sum.moved += account.moved;
    }
    followers.are_back()
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
