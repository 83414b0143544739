//! G2: servers are killed at random. Eight clients learn of it in time and come back; nothing is sent again behind
//! their backs.
//!
//! A blocked call's end is timed from just before the kill. Of one that takes 100 ms or more, what is judged is the
//! part that is ours: from when the server's parent saw it gone, and without the time for which the client could have
//! run and had no processor, as the kernel counts it. The figure has both.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag_testing::Process;

use super::figures::{Quantiles, time};
use super::ledger::{Balance, Ledger};
use super::lives;
use super::scoreboard::{Extent, Phase};
use super::watch::{Holding, comes_true};
use super::world::World;
use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::{Scale, Trial};

/// The goal.
pub const GOAL: Goal = Goal {
    id: "G2",
    name: "servers-killed",
    title: "servers killed at random; eight clients are told, and come back",
    limit_s: [90, 240, 6 * 3600],
    run,
};

const CLIENTS: usize = 8;
/// Kills from one look at everything to the next.
const ROUND: u64 = 100;
/// Requests that a client can make in a round.
const NONCES: usize = 1 << 18;

/// Servers that come and go, and the clients that come back to them.
pub struct Stage {
    /// Where it is.
    pub world: World,
    /// The process that starts the servers and kills them.
    pub lives: Process,
    /// The clients.
    pub clients: Vec<Process>,
}

impl Stage {
    /// Starts all of them; the clients pause, and no server lives.
    pub fn new(clients: usize, seed: u64) -> Stage {
        let world = World::new(Extent { rows: clients, nonces: NONCES, samples: 1 << 16 });
        let count = clients.to_string();
        let mut lives = role::start("storm_lives", world.arguments([count.as_str()]));
        lives.expect("ready");
        let clients = (0..clients).map(|index| {
            let numbers = [index.to_string(), seed.to_string()];
            role::start("storm_faithful", world.arguments(numbers.iter().map(String::as_str)))
        });
        let mut clients: Vec<Process> = clients.collect();
        clients.iter_mut().for_each(|client| client.expect("ready"));
        Stage { world, lives, clients }
    }

    /// So many servers live and die, one after the other; then the clients pause. Returns how many were killed when.
    pub fn live(&mut self, lives: u64, seed: u64) -> Result<Vec<u64>, String> {
        self.start(lives, seed);
        self.finish()
    }

    /// Begins with so many lives.
    pub fn start(&mut self, lives: u64, seed: u64) {
        self.world.board.set_phase(Phase::Run);
        self.lives.tell(format!("{lives} {seed}"));
    }

    /// Waits until they are over.
    pub fn finish(&mut self) -> Result<Vec<u64>, String> {
        let told = self.lives.hear();
        let words = |index| self.world.board.faithful(index);
        (0..self.clients.len()).for_each(|index| words(index).is_paused.store(0, Ordering::Release));
        self.world.board.set_phase(Phase::Pause);
        let all_paused = || (0..self.clients.len()).all(|index| words(index).is_paused.load(Ordering::Acquire) != 0);
        let is_wrong = || !self.world.complaints().is_empty();
        if !comes_true(Duration::from_secs(6), || all_paused() || is_wrong()) {
            return Err("a client does not come back from a call to a server that is dead".into());
        }
        told.split(' ').map(|count| count.parse().map_err(|_| told.clone())).collect()
    }
}

#[derive(Default)]
struct Sum {
    killed: u64,
    ends: [u64; lives::ENDS.len()],
    balance: Balance,
    told_ns: Vec<u64>,
    ours_ns: Vec<u64>,
    back_ns: Vec<u64>,
    findings: Vec<String>,
}

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let kills = trial.kills.unwrap_or(trial.pick(6, 500, 20_000));
    let mut stage = Stage::new(CLIENTS, trial.seed);
    let mut sum = Sum::default();
    if let Err(what) = rounds(trial, kills, &mut stage, &mut sum) {
        sum.findings.push(what);
    }
    sum.findings.extend(stage.world.complaints());
    let [told, ours, back] = [sum.told_ns, sum.ours_ns, sum.back_ns].map(Quantiles::of);
    // The bounds are of a machine that has nothing else to do; the tests of a whole workspace are something else.
    let (told_max_ms, back_max_ms) = if trial.scale == Scale::Test { (5000, 5000) } else { (250, 1000) };
    for (what, quantiles, max_ms) in
        [("a blocked call ended", ours, told_max_ms), ("a client was back", back, back_max_ms)]
    {
        if quantiles.max_ns > max_ms * 1_000_000 {
            sum.findings.push(format!("{what} {} ms after, {max_ms} are allowed", quantiles.max_ns / 1_000_000));
        }
    }
    sum.findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    let ends: Vec<_> = lives::ENDS.iter().zip(sum.ends).map(|(end, count)| format!("{count} {end}")).collect();
    let figure = format!(
        "{} kills ({}); {} blocked calls ended: {told} (without waits for a processor {}); back: {back}; {} executed, \
         {} acked, {} lost, 0 twice; seed {}",
        sum.killed,
        ends.join(", "),
        told.count,
        time(ours.max_ns),
        sum.balance.executed,
        sum.balance.acked,
        sum.balance.lost,
        trial.seed
    );
    Ok(Outcome::of(figure, sum.findings))
}

fn rounds(trial: &Trial, kills: u64, stage: &mut Stage, sum: &mut Sum) -> Result<(), String> {
    // What a process takes once and for all, it takes in the first lives.
    stage.live(2, trial.seed)?;
    if !stage.world.complaints().is_empty() {
        return Ok(());
    }
    stage.world.board.take_notes();
    Ledger(&stage.world.board).settle();
    let baselines: Vec<Holding> = stage.clients.iter().map(|client| Holding::when_settled(client.id(), 0)).collect();
    while sum.killed < kills && stage.world.complaints().is_empty() {
        let round = (kills - sum.killed).min(ROUND);
        let ends = stage.live(round, wigwag_testing::word(trial.seed, sum.killed))?;
        ends.iter().zip(&mut sum.ends).for_each(|(count, sum)| *sum += count);
        sum.killed += round;
        if !stage.world.complaints().is_empty() {
            break;
        }
        let [told, ours, back, ..] = stage.world.board.take_notes();
        sum.ours_ns.extend(ours);
        sum.told_ns.extend(told);
        sum.back_ns.extend(back);
        let within = Duration::from_secs(trial.pick(5, 1, 1));
        for (index, (baseline, client)) in baselines.iter().zip(&stage.clients).enumerate() {
            baseline.is_back(&format!("client {index}"), client.id(), within)?;
        }
        let balance = Ledger(&stage.world.board).settle();
        sum.balance.executed += balance.executed;
        sum.balance.acked += balance.acked;
        sum.balance.lost += balance.lost;
        if balance.lost > 0 {
            return Err(format!("{} replies to requests that nobody has executed", balance.lost));
        }
    }
    let files = stage.world.files();
    if files.iter().any(|file| !["server", "server.lock"].contains(&file.as_str())) {
        return Err(format!("the servers left files behind: {files:?}"));
    }
    Ok(())
}
