//! G1: clients are killed at random under load. The server and four steady clients must not notice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag_testing::Process;

use super::figures::time;
use super::ledger::{Balance, Ledger};
use super::scoreboard::{Extent, Phase};
use super::victim;
use super::watch::{Holding, comes_true};
use super::world::World;
use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::Trial;

/// The goal.
pub const GOAL: Goal = Goal {
    id: "G1",
    name: "clients-killed",
    title: "clients killed at random; four steady ones check every byte",
    limit_s: [90, 300, 12 * 3600],
    run,
};

/// Steady clients.
const STEADY: usize = 4;
/// Kills from one look at everything to the next.
const ROUND: u64 = 1000;
/// Requests that a victim can make in its life.
const NONCES: usize = 4096;

/// A server and its steady clients, while others are killed.
pub struct Stage {
    /// Where it is.
    pub world: World,
    /// The server.
    pub server: Process,
    /// The steady clients.
    pub steady: Vec<Process>,
    /// The process that kills.
    pub killer: Process,
}

impl Stage {
    /// Starts all of them; `mixed`: some victims attack, some are stopped.
    pub fn new(rows: usize, steady: usize, seed: u64, is_mixed: bool) -> Stage {
        let world = World::new(Extent { rows, nonces: NONCES, samples: 0 });
        let mut server = role::start("storm_server", world.arguments(is_mixed.then_some("junk")));
        server.expect("ready");
        let steady = (0..steady).map(|index| {
            let numbers = [index.to_string(), seed.to_string()];
            role::start("storm_steady", world.arguments(numbers.iter().map(String::as_str)))
        });
        let mut steady: Vec<Process> = steady.collect();
        steady.iter_mut().for_each(|client| client.expect("ready"));
        let mut killer = role::start("storm_killer", world.arguments(is_mixed.then_some("mixed")));
        killer.expect("ready");
        Stage { world, server, steady, killer }
    }

    fn acked(&self, index: usize) -> u64 {
        self.world.board.steady(index).acked.load(Ordering::Acquire)
    }

    /// Lets the steady clients call until each has some replies more, or something is wrong.
    pub fn warm_up(&self) -> Result<(), String> {
        let begin: Vec<u64> = (0..self.steady.len()).map(|index| self.acked(index)).collect();
        self.world.board.set_phase(Phase::Run);
        let go_on = || (0..self.steady.len()).all(|index| self.acked(index) > begin[index] + 20);
        let goes_on = comes_true(Duration::from_secs(25), || go_on() || !self.world.complaints().is_empty());
        if goes_on { Ok(()) } else { Err("a steady client does not go on: a reply is lost".into()) }
    }

    /// The steady clients do nothing from now on.
    pub fn pause(&self) -> Result<(), String> {
        let words = |index| self.world.board.steady(index);
        (0..self.steady.len()).for_each(|index| words(index).is_paused.store(0, Ordering::Release));
        self.world.board.set_phase(Phase::Pause);
        let all_paused = || (0..self.steady.len()).all(|index| words(index).is_paused.load(Ordering::Acquire) != 0);
        let is_wrong = || !self.world.complaints().is_empty();
        match comes_true(Duration::from_secs(25), || all_paused() || is_wrong()) {
            true => Ok(()), // a complaint is a finding, and ends the storm
            false => Err("a steady client does not come back from a call: a reply is lost".into()),
        }
    }

    /// Whether all the calls of the steady clients were executed, once.
    pub fn check_steady(&self) -> Vec<String> {
        let differs = |index: usize| {
            let (acked, expected) =
                (self.acked(index), self.world.board.steady(index).expected.load(Ordering::Acquire));
            (acked != expected).then(|| format!("steady client {index} has {acked} replies, {expected} were executed"))
        };
        (0..self.steady.len()).filter_map(differs).collect()
    }

    /// Ends all in good order; returns how many sessions there were, calls and violations.
    pub fn end(mut self) -> [u64; 3] {
        self.world.board.set_phase(Phase::End);
        let counts: Vec<u64> = self.server.hear().split(' ').map(|count| count.parse().expect("a count")).collect();
        self.server.join();
        counts.try_into().expect("three counts")
    }
}

/// What a storm of kills has come to.
#[derive(Default)]
struct Sum {
    killed: u64,
    stages: [u64; victim::STAGES.len()],
    balance: Balance,
    quiet_after: Duration,
    findings: Vec<String>,
}

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let kills = trial.kills.unwrap_or(trial.pick(60, 10_000, 1_000_000));
    let mut stage = Stage::new(kills.min(ROUND) as usize, STEADY, trial.seed, false);
    let mut sum = Sum::default();
    if let Err(what) = rounds(trial, kills, &mut stage, &mut sum) {
        sum.findings.push(what);
    }
    sum.findings.extend(stage.world.complaints());
    let is_alive = stage.server.is_alive();
    if !is_alive {
        sum.findings.push(format!("the server has ended: {:?}", stage.server.child.wait()));
    }
    let longest = (0..STEADY).map(|index| stage.world.board.steady(index).longest_ns.load(Ordering::Relaxed)).max();
    let calls: u64 = (0..STEADY).map(|index| stage.acked(index)).sum();
    let mut sessions = 0;
    if is_alive && sum.findings.is_empty() {
        sum.findings.extend(stage.check_steady());
        let [accepted, _, violations] = stage.end();
        sessions = accepted;
        if violations > 0 {
            sum.findings.push(format!("the server took {violations} deaths for violations"));
        }
    }
    sum.findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    let stages: Vec<_> =
        victim::STAGES.iter().zip(sum.stages).map(|(stage, count)| format!("{count} {stage}")).collect();
    let figure = format!(
        "{} kills ({}), {sessions} sessions; steady: {calls} calls checked, longest {}; victims: {} executed, {} \
         acked, {} \
         lost; all back within {:?}; seed {}",
        sum.killed,
        stages.join(", "),
        time(longest.unwrap_or(0)),
        sum.balance.executed,
        sum.balance.acked,
        sum.balance.lost,
        sum.quiet_after,
        trial.seed
    );
    Ok(Outcome::of(figure, sum.findings))
}

fn rounds(trial: &Trial, kills: u64, stage: &mut Stage, sum: &mut Sum) -> Result<(), String> {
    stage.warm_up()?;
    stage.pause()?;
    if !stage.world.complaints().is_empty() {
        return Ok(());
    }
    let baseline = Holding::when_settled(stage.server.id(), STEADY);
    while sum.killed < kills && stage.world.complaints().is_empty() && stage.server.is_alive() {
        let round = (kills - sum.killed).min(ROUND);
        stage.world.board.set_phase(Phase::Run);
        stage.killer.tell(format!("{round} {}", wigwag_testing::word(trial.seed, sum.killed)));
        let told = stage.killer.hear();
        for (stage, count) in told.split(' ').enumerate() {
            sum.stages[stage] += count.parse::<u64>().map_err(|_| told.clone())?;
        }
        sum.killed += round;
        stage.warm_up()?;
        stage.pause()?;
        if !stage.server.is_alive() || !stage.world.complaints().is_empty() {
            break;
        }
        // RELIABILITY gives it a second; a machine that runs all tests at once may take longer.
        let within = Duration::from_secs(trial.pick(5, 1, 1));
        sum.quiet_after = baseline.is_back("the server", stage.server.id(), within)?.max(sum.quiet_after);
        let balance = Ledger(&stage.world.board).settle();
        sum.balance.executed += balance.executed;
        sum.balance.acked += balance.acked;
        sum.balance.lost += balance.lost;
        if balance.lost > 0 {
            return Err(format!("{} replies to requests that nobody has executed", balance.lost));
        }
    }
    Ok(())
}
