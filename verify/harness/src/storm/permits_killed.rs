//! G18: holders and waiters of semaphores are killed at random. No permit is lost, none is had twice, the heir of one
//! is told, and nobody sleeps beside a permit that is free.
//!
//! Many semaphores at a time, each with a patient waiter that is never killed and some victims that take, wait, give
//! back and try until they die. With one permit, a word of the storm's own says who is inside: a process that comes in
//! and finds another one there must have been told that the one before died.
//!
//! The library is not asked who sleeps: the bytes of each file are read as docs/layout.md describes them, and the
//! kernel's list of locks says who lives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wigwag::{ErrorKind, Semaphore};
use wigwag_testing::Link;

use super::dice::Dice;
use super::family::{self, Child};
use super::scoreboard::{Extent, Phase, Scoreboard};
use super::world::World;
use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::{Scale, Trial};

/// The goal.
pub const GOAL: Goal = Goal {
    id: "G18",
    name: "semaphores",
    title: "semaphores: holders and waiters killed at random",
    limit_s: [60, 120, 6 * 3600],
    run,
};

/// Semaphores.
pub const GROUPS: usize = 24;
/// Victims of each.
const VICTIMS: usize = 3;
/// So long may a permit take that somebody waits for: many holders may be killed in a row, each noticed after 100 ms.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Nobody sleeps longer beside a permit that is free, on a machine that has time.
const ASLEEP_MAX: Duration = Duration::from_millis(250);

/// Permits of a group's semaphore.
fn permits(group: usize) -> usize {
    if group.is_multiple_of(2) { 1 } else { 3 }
}

fn place(world: &World, group: usize) -> PathBuf {
    world.socket().with_file_name(format!("semaphore-{group}"))
}

/// The holder of a group's only permit; 0: nobody.
fn inside(board: &Scoreboard, group: usize) -> &AtomicU64 {
    board.word(board.ledger_start() + group)
}

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let kills = trial.kills.unwrap_or(trial.pick(150, 10_000, 1_000_000));
    let world = World::new(Extent { rows: 1, nonces: GROUPS * 64, samples: 0 });
    world.board.set_phase(Phase::Run);
    let mut patient = role::start("storm_patient", world.arguments([]));
    patient.expect("ready");
    let numbers = [kills, trial.seed].map(|number| number.to_string());
    let killer = role::start("storm_permits", world.arguments(numbers.iter().map(String::as_str)));
    let limit = if trial.scale == Scale::Test { Duration::from_secs(5) } else { ASLEEP_MAX };
    let is_over = AtomicBool::new(false);
    let begin = Instant::now();
    let (told, waits, seen) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&world, limit, &is_over));
        let told = killer.hear_at_last();
        world.board.set_phase(Phase::Pause);
        let waits = patient.try_hear();
        is_over.store(true, Ordering::Release);
        (told, waits, watch.join().expect("the watch"))
    });
    drop((killer, patient));
    let mut findings = world.complaints();
    findings.extend(seen.findings);
    let words = |told: Option<String>| told.unwrap_or_else(|| "(gone)".into());
    if findings.is_empty() {
        findings.extend(settle(&world));
    }
    findings.iter_mut().for_each(|finding| finding.push_str(&format!(" (seed {})", trial.seed)));
    let figure = format!(
        "{kills} kills in {:.1} s ({}); patient: {}; longest sleep beside a free permit {} ms of {} ms allowed, {} \
         looks; \
         seed {}",
        begin.elapsed().as_secs_f64(),
        words(told),
        words(waits),
        seen.longest.as_millis(),
        limit.as_millis(),
        seen.looks,
        trial.seed
    );
    Ok(Outcome::of(figure, findings))
}

/// All are dead or gone: each permit is there, once, and the files go.
fn settle(world: &World) -> Vec<String> {
    let mut findings = Vec::new();
    for group in 0..GROUPS {
        let (place, permits) = (place(world, group), permits(group));
        match Semaphore::open(&place, permits).and_then(|semaphore| Ok(semaphore.try_acquire_many(permits)?.len())) {
            Ok(_) if !place.exists() => {}
            Ok(_) => findings.push(format!("semaphore {group} has left its file behind")),
            Err(error) => findings.push(format!("semaphore {group} has lost a permit: {error}")),
        }
    }
    findings
}

// ---- the watch ------------------------------------------------------------------------------------------------------

/// What was seen.
#[derive(Default)]
struct Seen {
    longest: Duration,
    looks: u64,
    findings: Vec<String>,
}

/// Looks at all files again and again: who has been asleep for how long beside a permit that it could have?
fn watch(world: &World, limit: Duration, is_over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut since: BTreeMap<(usize, u64), Instant> = BTreeMap::new();
    while !is_over.load(Ordering::Acquire) && seen.findings.is_empty() {
        let now = Instant::now();
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let sleepers: BTreeSet<(usize, u64)> = (0..GROUPS).filter_map(|group| sleeper(world, group, &locks)).collect();
        since.retain(|sleeper, _| sleepers.contains(sleeper));
        for sleeper in sleepers {
            let asleep = now - *since.entry(sleeper).or_insert(now);
            seen.longest = seen.longest.max(asleep);
            if asleep > limit {
                seen.findings.push(format!(
                    "a waiter of semaphore {} sleeps for {} ms beside a permit that is free or a dead one's",
                    sleeper.0,
                    asleep.as_millis()
                ));
            }
        }
        seen.looks += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    seen
}

/// The oldest in line that lives, if a permit is free, or named after somebody who does not live; by docs/layout.md.
fn sleeper(world: &World, group: usize, locks: &str) -> Option<(usize, u64)> {
    let file = File::open(place(world, group)).ok()?;
    let words = |offset: u64, count: usize| {
        let mut bytes = vec![0; 8 * count];
        file.read_exact_at(&mut bytes, offset).ok()?;
        let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
        Some(words.collect::<Vec<u64>>())
    };
    let depth = (words(64, 1)?[0] >> 32) as usize;
    let line = words(4096, 4 * depth)?;
    let held = words(36_864, 8 * permits(group))?;
    let alive = alive(locks, file.metadata().ok()?.ino());
    let lives = |word: u64| word >> 16 != 0 && alive.contains(&(word & 0xffff));
    let is_free = held.chunks(8).any(|permit| !lives(permit[0]));
    let in_line = line.chunks(4).filter(|spot| spot[1] != 0 && lives(spot[0]));
    let oldest = in_line.map(|spot| spot[1]).min();
    oldest.filter(|_| is_free).map(|ticket| (group, ticket))
}

/// The bytes of a file that somebody has locked as its life (proc(5), "/proc/locks").
fn alive(locks: &str, inode: u64) -> BTreeSet<u64> {
    let of_file = locks.lines().filter(|line| line.contains("OFDLCK") && line.contains(&format!(":{inode} ")));
    of_file.filter_map(|line| line.split_whitespace().nth(6)?.parse().ok()).collect()
}

// ---- those who are never killed -------------------------------------------------------------------------------------

/// The role: waits for a permit of each semaphore again and again, until the storm is over.
pub fn play_patient(parent: &Link, arguments: &[&str]) {
    let (world, _) = World::open(arguments);
    let semaphores: Vec<Semaphore> =
        (0..GROUPS).map(|group| Semaphore::open(place(&world, group), permits(group)).expect("it opens")).collect();
    parent.tell("ready");
    let longest = AtomicU64::new(0);
    let (rounds, told) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (group, semaphore) in semaphores.iter().enumerate() {
            let (world, longest, rounds, told) = (&world, &longest, &rounds, &told);
            scope.spawn(move || {
                let mut is_last = false;
                while !is_last {
                    is_last = world.board.phase() != Phase::Run;
                    let begin = Instant::now();
                    match semaphore.acquire_timeout(TIME_LIMIT) {
                        Err(error) => {
                            world.complain(format!("a waiter of semaphore {group} got no permit: {error}"));
                            return;
                        }
                        Ok(permit) => {
                            longest.fetch_max(begin.elapsed().as_millis() as u64, Ordering::Relaxed);
                            rounds.fetch_add(1, Ordering::Relaxed);
                            told.fetch_add(permit.recovered().into(), Ordering::Relaxed);
                            be_inside(world, group, u64::MAX, permit.recovered(), Duration::from_micros(20));
                        }
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
    let [rounds, told, longest] = [rounds, told, longest].map(AtomicU64::into_inner);
    parent.tell(format!("{rounds} rounds, told of {told} dead, longest wait {longest} ms"));
    drop(semaphores);
}

/// Says who is inside of the only permit, and that nobody else is.
fn be_inside(world: &World, group: usize, me: u64, recovered: bool, time: Duration) {
    let has_one = permits(group) == 1;
    let inside = inside(&world.board, group);
    if has_one {
        let before = inside.swap(me, Ordering::AcqRel);
        if before != 0 && !recovered {
            world.complain(format!(
                "{before} and {me} have the one permit of semaphore {group}, or {before} died untold"
            ));
        }
    }
    wait(time);
    if has_one && inside.compare_exchange(me, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        world.complain(format!("another one came to {me} into the one permit of semaphore {group}"));
    }
}

fn wait(time: Duration) {
    if time > Duration::from_micros(50) {
        std::thread::sleep(time);
    } else {
        let begin = Instant::now();
        while begin.elapsed() < time {
            std::hint::spin_loop();
        }
    }
}

// ---- those who are
// ----------------------------------------------------------------------------------------------------

/// The role: raises victims, and kills each at a moment of its own.
pub fn play_killer(parent: &Link, arguments: &[&str]) {
    let (world, numbers) = World::open(arguments);
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().expect("a number")).collect();
    let [kills, seed] = numbers[..] else { panic!("{numbers:?}") };
    family::wake_in_time();
    let mut dice = Dice::new(seed);
    let mut born = 0;
    let mut raise = |place: usize, dice: &mut Dice| {
        born += 1;
        let (group, number, seed) = (place / VICTIMS, born, dice.any());
        (Instant::now(), Child::fork(|| live(&world, group, number, seed)))
    };
    let mut victims: Vec<_> = (0..GROUPS * VICTIMS).map(|place| raise(place, &mut dice)).collect();
    let mut inside_of_it = 0;
    let mut killed = 0;
    while killed < kills && world.board.phase() == Phase::Run {
        // One in four dies young: while it opens the semaphore. Others have had a turn or are in line.
        let place = dice.below((GROUPS * VICTIMS) as u64) as usize;
        if !dice.once_in(4) {
            std::thread::sleep(dice.of_any_size_us(4000));
        }
        let next = raise(place, &mut dice);
        let (_, victim) = std::mem::replace(&mut victims[place], next);
        if let Err(how) = victim.kill() {
            world.complain(format!("a victim {how}"));
        }
        inside_of_it += u64::from(inside(&world.board, place / VICTIMS).load(Ordering::Relaxed) != 0);
        killed += 1;
        if killed % 256 == 0 && !world.complaints().is_empty() {
            break;
        }
    }
    victims.into_iter().for_each(|(_, victim)| drop(victim.kill()));
    parent.tell(format!("{killed} victims, somebody inside at {inside_of_it}"));
}

/// A victim: takes, holds and gives back, in all ways, until it is killed.
fn live(world: &World, group: usize, me: u64, seed: u64) {
    // The one who kills must come to it.
    let _ = rustix::process::nice(10);
    let mut dice = Dice::new(seed);
    let permits = permits(group);
    let semaphore = match Semaphore::open(place(world, group), permits) {
        Ok(semaphore) => semaphore,
        Err(error) => return world.complain(format!("semaphore {group} does not open: {error}")),
    };
    // In half of the groups nobody looks after the dead but those who wait.
    let only_waits = group % 4 < 2;
    loop {
        let time = dice.of_any_size_us(2000);
        let taken = match dice.below(if only_waits { 4 } else { 8 }) {
            0 if permits > 1 => semaphore.acquire_many(2).map(|many| drop((wait(time), many))),
            1 => {
                let permit = semaphore.acquire_timeout(dice.of_any_size_us(2000));
                permit.map(|permit| be_inside(world, group, me, permit.recovered(), time))
            }
            0..4 => semaphore.acquire().map(|permit| be_inside(world, group, me, permit.recovered(), time)),
            4 => {
                assert!(semaphore.available() <= permits);
                Ok(())
            }
            5 if permits > 1 => semaphore.try_acquire_many(2).map(|many| drop((wait(time), many))),
            _ => semaphore.try_acquire().map(|permit| be_inside(world, group, me, permit.recovered(), time)),
        };
        match taken {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Full | ErrorKind::TimedOut { .. }) => {}
            Err(error) => return world.complain(format!("semaphore {group}: {error}")),
        }
        // Now and then it comes again at once; mostly it lets the others run.
        if !dice.once_in(4) {
            std::thread::sleep(dice.up_to_us(6000));
        }
    }
}
