//! G6: arbitrary and carefully wrong bytes in the shared memory and in the control messages, in one process, as fast as
//! it goes. Nothing crashes, hangs or panics; each step ends as something legal, as nothing, or as a violation that
//! costs its own session.

use std::time::{Duration, Instant};

use super::client_memory;
use super::dice::{Dice, seed_of};
use super::messages::{ToClient, ToServer};
use super::server_memory::{self, SHAPES, Tally};
use crate::outcome::Outcome;
use crate::scale::Trial;

/// Deeds of one trial, whose seed is printed when it finds something.
const ACTIONS: usize = 20_000;

/// The goal.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    // A panic of the library is a finding; where it came from is printed with it.
    let mut findings = Vec::new();
    let begin = Instant::now();
    let steps = trial.pick(50_000, 8_000_000, 800_000_000);
    let server = against_server(trial, steps, &mut findings);
    let server_s = begin.elapsed().as_secs_f64();
    let races = against_racing(trial, Duration::from_millis(trial.pick(2000, 10_000, 600_000)), &mut findings);
    let begin = Instant::now();
    let client = against_client(trial, trial.pick(20_000, 2_000_000, 200_000_000), &mut findings);
    let client_s = begin.elapsed().as_secs_f64();
    let messages = trial.pick(400, 10_000, 1_000_000);
    let begin = Instant::now();
    against_handshakes(trial, messages, &mut findings);
    let messages_s = begin.elapsed().as_secs_f64();
    let figure = format!(
        "server: {} steps in {server_s:.1} s, {} requests, {} violations; racing writer: {} steps, {} requests; \
         client: {} steps in {client_s:.1} s, {} replies, {} violations; \
         {messages} odd handshakes each way in {messages_s:.1} s; seed {}",
        server.steps,
        server.requests,
        server.violations,
        races.steps,
        races.requests,
        client.steps,
        client.requests,
        client.violations,
        trial.seed
    );
    Ok(Outcome::of(figure, findings))
}

/// Says what was found, and how to see it again.
fn finding(what: &str, seed: u64, why: &str) -> String {
    format!("{what}: {why}\nsee it again: cargo xtask prove --only G6 --seed {seed}")
}

fn against_server(trial: &Trial, steps: u64, findings: &mut Vec<String>) -> Tally {
    let mut tally = Tally::default();
    let mut stages: Vec<Option<server_memory::Stage>> = SHAPES.iter().map(|_| None).collect();
    for index in 0.. {
        if tally.steps >= steps || findings.len() >= 3 {
            break;
        }
        let seed = seed_of(trial.seed, index);
        // A trial's shape follows from its seed; the large ones last longest where a step is cheap.
        let number = (seed % SHAPES.len() as u64) as usize;
        let stage = stages[number].get_or_insert_with(|| server_memory::Stage::new(SHAPES[number]));
        let actions = ACTIONS.min(steps as usize / 4);
        if let Err(why) = stage.play(&mut Dice::seeded(seed), actions) {
            findings.push(finding(&format!("the server, {:?}", SHAPES[number]), seed, &why));
            tally.add(stage.take_tally());
            stages[number] = None;
            continue;
        }
        tally.add(stage.take_tally());
    }
    tally
}

fn against_racing(trial: &Trial, limit: Duration, findings: &mut Vec<String>) -> Tally {
    let mut stage = server_memory::Stage::new(SHAPES[0]);
    if let Err(why) = stage.race(&mut Dice::seeded(trial.seed), usize::MAX, limit) {
        findings.push(finding("a writer at the same time", trial.seed, &why));
    }
    stage.take_tally()
}

fn against_client(trial: &Trial, steps: u64, findings: &mut Vec<String>) -> Tally {
    let mut tally = Tally::default();
    for (capacity, share) in [(5000, 4), (100, 2), (0, 4)] {
        let mut stage = client_memory::Stage::new(capacity);
        let mut index = 0;
        while index * (ACTIONS as u64) < steps / share && findings.len() < 6 {
            let seed = seed_of(trial.seed, index);
            let actions = ACTIONS.min((steps / share) as usize);
            if let Err(why) = stage.play(&mut Dice::seeded(seed), actions) {
                findings.push(finding(&format!("the client, capacity {capacity}"), seed, &why));
            }
            index += 1;
        }
        tally.add(stage.take_tally());
    }
    tally
}

fn against_handshakes(trial: &Trial, count: u64, findings: &mut Vec<String>) {
    let mut to_server = ToServer::start();
    let mut play = |seed| to_server.play(&mut Dice::seeded(seed));
    for seed in (0..count).map(|index| seed_of(trial.seed, index)) {
        if let Err(why) = play(seed) {
            findings.push(finding("a handshake with the server", seed, &why));
            break;
        }
    }
    if let Err(why) = to_server.check() {
        findings.push(finding("after odd handshakes with the server", trial.seed, &why));
    }
    let mut to_client = ToClient::start();
    for seed in (0..count).map(|index| seed_of(trial.seed, index)) {
        if let Err(why) = to_client.play(&mut Dice::seeded(seed)) {
            findings.push(finding("a handshake with the client", seed, &why));
            break;
        }
    }
}
