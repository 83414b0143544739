//! G22: a mix of all faults, for as long as there is time, and nothing grows.
//!
//! In rounds: clients are killed, stopped, forked, and attack, while servers at another name are killed, too. After
//! each round all is quiet, and each process that lives on is looked at: descriptors, mappings, sessions' memory, its
//! own memory, all as the kernel counts them page by page. After a warm-up the slope of each is taken over all rounds
//! (Theil-Sen: the median of the slopes between all pairs of rounds, which single outliers do not move).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::clients_killed;
use super::scoreboard::Single;
use super::servers_killed;
use super::watch::Holding;
use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::scale::Trial;

/// The goal.
pub const GOAL: Goal = Goal {
    id: "G22",
    name: "soak",
    title: "soak: all faults together, and nothing grows",
    limit_s: [90, 180, 10 * 3600],
    run,
};

const STEADY: usize = 2;
const FAITHFUL: usize = 2;
/// Rounds that are looked at, at most: a long soak takes every nth.
const SAMPLES_MAX: usize = 2000;

/// What is measured of each process.
const MEASURES: [&str; 4] = ["descriptors", "mappings", "KiB of shared memory", "KiB of memory of its own"];

/// What a process may have gained of its own memory at the end of the slope, in KiB: an allocator is not exact to the
/// page, and a leak of 100 bytes for each session is more than that within a minute.
const OWN_KIB_ALLOWED: f64 = 256.0;

/// Mappings that a process may have gained: an allocator makes one now and then.
const MAPPINGS_ALLOWED: f64 = 3.0;

/// One process that lives on, and what it held after each round.
struct Series {
    name: String,
    pid: u32,
    samples: Vec<[u64; MEASURES.len()]>,
    rss_kib: u64,
}

impl Series {
    fn look(&mut self) {
        let holding = Holding::of(self.pid);
        self.samples.push([holding.descriptors(), holding.maps, holding.shmem_kib, holding.own_kib]);
        self.rss_kib = holding.rss_kib;
    }

    /// How much of each there is more at the end of the slope than at its beginning.
    fn growth(&self) -> [f64; MEASURES.len()] {
        let warm = &self.samples[self.samples.len() / 4..];
        std::array::from_fn(|measure| {
            let values: Vec<f64> = warm.iter().map(|sample| sample[measure] as f64).collect();
            slope(&values) * values.len().saturating_sub(1) as f64
        })
    }
}

/// The median of the slopes between all pairs.
pub fn slope(values: &[f64]) -> f64 {
    let mut slopes: Vec<f64> = Vec::new();
    for (end, last) in values.iter().enumerate() {
        slopes.extend(values[..end].iter().enumerate().map(|(begin, first)| (last - first) / (end - begin) as f64));
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let length = Duration::from_millis(trial.pick(2500, 42_000, 8 * 3600 * 1000));
    let mut findings = Vec::new();
    let mut clients = clients_killed::Stage::new(ROUND_KILLS as usize, STEADY, trial.seed, true);
    let mut servers = servers_killed::Stage::new(FAITHFUL, trial.seed);
    let series = |name: String, pid: u32| Series { name, pid, samples: Vec::new(), rss_kib: 0 };
    let mut all = vec![series("the server".into(), clients.server.id())];
    all.extend(clients.steady.iter().enumerate().map(|(i, client)| series(format!("steady client {i}"), client.id())));
    all.extend(
        servers.clients.iter().enumerate().map(|(i, client)| series(format!("faithful client {i}"), client.id())),
    );
    let (begin, mut rounds, mut kept_every) = (Instant::now(), 0u64, 1);
    while begin.elapsed() < length || rounds < ROUNDS_MIN {
        rounds += 1;
        if let Err(what) = round(trial, rounds, &mut clients, &mut servers) {
            findings.push(what);
        }
        findings.extend(clients.world.complaints());
        findings.extend(servers.world.complaints());
        if !clients.server.is_alive() {
            findings.push(format!("the server has ended: {:?}", clients.server.child.wait()));
        }
        if !findings.is_empty() {
            break;
        }
        if rounds % kept_every == 0 {
            all.iter_mut().for_each(Series::look);
        }
        if all[0].samples.len() >= SAMPLES_MAX {
            for series in &mut all {
                let mut index = 0;
                series.samples.retain(|_| {
                    index += 1;
                    index % 2 == 0
                });
            }
            kept_every *= 2;
        }
    }
    findings.extend(clients.check_steady());
    let junk = clients.world.board.single(Single::Junk).load(Ordering::Relaxed);
    let mut violations = 0;
    if findings.is_empty() {
        findings.extend(all.iter().flat_map(grows));
        [_, _, violations] = clients.end();
    }
    findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    let figure = format!(
        "{rounds} rounds in {:.1} s: {} clients killed, stopped or attacking, {} servers killed, {violations} \
         violations, {junk} hostile requests; {}; \
         seed {}",
        begin.elapsed().as_secs_f64(),
        rounds * ROUND_KILLS,
        rounds * ROUND_LIVES,
        all.iter().map(figure_of).collect::<Vec<_>>().join("; "),
        trial.seed
    );
    Ok(Outcome::of(figure, findings))
}

/// Kills in a round.
const ROUND_KILLS: u64 = 60;
/// Servers' lives in a round.
const ROUND_LIVES: u64 = 4;
/// So many there are, however slow the machine is.
const ROUNDS_MIN: u64 = 5;

fn round(
    trial: &Trial,
    round: u64,
    clients: &mut clients_killed::Stage,
    servers: &mut servers_killed::Stage,
) -> Result<(), String> {
    let seed = wigwag_testing::word(trial.seed, round);
    clients.world.board.set_phase(super::scoreboard::Phase::Run);
    clients.killer.tell(format!("{ROUND_KILLS} {seed}"));
    servers.start(ROUND_LIVES, seed);
    clients.killer.hear();
    servers.finish()?;
    clients.warm_up()?;
    clients.pause()?;
    if !clients.world.complaints().is_empty() || !servers.world.complaints().is_empty() {
        return Ok(());
    }
    let balances = [&clients.world, &servers.world].map(|world| super::ledger::Ledger(&world.board).settle());
    servers.world.board.take_notes();
    match balances.iter().find(|balance| balance.lost > 0) {
        Some(balance) => Err(format!("{} replies to requests that nobody has executed", balance.lost)),
        None => quiet(clients, trial),
    }
}

/// The last of the dead are gone: the server holds the steady clients' sessions, or as much as it ever will again.
fn quiet(clients: &clients_killed::Stage, trial: &Trial) -> Result<(), String> {
    let pid = clients.server.id();
    let mut last = Holding::of(pid);
    let is_quiet = super::watch::comes_true(Duration::from_secs(trial.pick(10, 5, 5)), || {
        std::thread::sleep(Duration::from_millis(15));
        let now = Holding::of(pid);
        let is_same = now.difference(&last).is_none();
        last = now;
        is_same && last.segments() == STEADY
    });
    if is_quiet { Ok(()) } else { Err(format!("the server keeps sessions of the dead: {} segments", last.segments())) }
}

/// What there is more of at the end.
fn grows(series: &Series) -> Vec<String> {
    let growth = series.growth();
    let allowed = [0.0, MAPPINGS_ALLOWED, 0.0, OWN_KIB_ALLOWED];
    let grown = MEASURES.iter().zip(growth).zip(allowed).filter(|((_, growth), allowed)| growth > allowed);
    grown
        .map(|((what, growth), _)| {
            let first = series.samples[series.samples.len() / 4];
            let last = series.samples.last().copied().unwrap_or_default();
            format!("{} gains {growth:.0} {what} within the soak (from {first:?} to {last:?})", series.name)
        })
        .collect()
}

fn figure_of(series: &Series) -> String {
    if series.samples.is_empty() {
        return format!("{}: not looked at", series.name);
    }
    let [descriptors, mappings, shared, own] = series.growth();
    format!(
        "{}: slopes {descriptors:+.0} descriptors {mappings:+.0} mappings {shared:+.0} KiB shared {own:+.0} KiB own, \
         RSS {} KiB",
        series.name, series.rss_kib
    )
}
