//! Raises clients, a dozen at a time, and kills each at a moment of its own.

use std::os::unix::process::CommandExt as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wigwag_testing::{Link, Process};

use super::dice::Dice;
use super::family::{self, Child, Holders};
use super::scoreboard::PLACES;
use super::victim;
use super::world::World;
use crate::role;

/// A victim that has not got as far as it should when it dies is killed at this age, on a machine that is so busy.
const LATEST: Duration = Duration::from_secs(2);

/// A victim with less time to live than this dies before anything else is done.
const CLOSE: Duration = Duration::from_micros(250);

/// The role. It hears `kills seed` and tells how many were how far; `mixed` makes some of them attackers, and stops
/// some.
pub fn play(parent: &Link, arguments: &[&str]) {
    let (world, options) = World::open(arguments);
    let is_mixed = options.contains(&"mixed");
    let holders = Holders::founder();
    family::wake_in_time();
    parent.tell("ready");
    while let Some(line) = parent.hear() {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [kills, seed] = numbers[..] else { panic!("{line}") };
        parent.tell(Killer::new(&world, &holders, is_mixed, seed).storm(kills));
        while holders.reap() > 0 {}
    }
}

enum Body {
    /// A copy of this process.
    Forked(Child),
    /// This program, started anew.
    Started(Box<Process>),
}

struct Victim {
    body: Body,
    born: Instant,
    /// It must have got so far ...
    stage: u64,
    /// ... and then has so long to live.
    rest: Duration,
    due: Option<Instant>,
    /// It is stopped before it dies, or goes on.
    stops: bool,
    is_stopped: bool,
}

struct Killer<'w> {
    world: &'w World,
    holders: &'w Holders,
    is_mixed: bool,
    dice: Dice,
    started: u64,
    killed: u64,
    /// By stage.
    tally: [u64; victim::STAGES.len()],
}

impl<'w> Killer<'w> {
    fn new(world: &'w World, holders: &'w Holders, is_mixed: bool, seed: u64) -> Killer<'w> {
        Killer { world, holders, is_mixed, dice: Dice::new(seed), started: 0, killed: 0, tally: [0; 4] }
    }

    /// Kills so many; returns how many were at each stage.
    fn storm(mut self, kills: u64) -> String {
        let mut places: [Option<Victim>; PLACES] = Default::default();
        while self.killed < kills {
            for (place, slot) in places.iter_mut().enumerate() {
                let Some(victim) = slot else {
                    if self.started < kills {
                        *slot = self.raise_or_kill_at_once(place);
                    }
                    continue;
                };
                if self.is_due(victim, place)
                    && let Some(victim) = slot.take()
                {
                    self.kill(victim, place);
                }
            }
            self.holders.reap();
            std::thread::sleep(self.dice.up_to_us(150));
        }
        self.tally.map(|count| count.to_string()).join(" ")
    }

    /// A victim that is to die within its first moments is watched closely.
    fn raise_or_kill_at_once(&mut self, place: usize) -> Option<Victim> {
        let mut victim = self.raise(place);
        if victim.stage > 1 || victim.rest > CLOSE {
            return Some(victim);
        }
        while victim.born.elapsed() < 4 * CLOSE {
            if self.is_due(&mut victim, place) {
                self.kill(victim, place);
                return None;
            }
            if !victim.rest.is_zero() {
                std::thread::sleep(Duration::from_micros(5));
            }
        }
        Some(victim)
    }

    fn raise(&mut self, place: usize) -> Victim {
        let (row, seed) = (self.started, self.dice.any());
        self.started += 1;
        self.world.board.stage(place).store(0, Ordering::Release);
        // Some die before they have done anything, some in the handshake, most in the middle of something.
        let (stage, rest) = match self.dice.below(16) {
            0 => (0, Duration::ZERO),
            1..4 => (0, self.dice.of_any_size_us(1000)),
            4..7 => (1, self.dice.of_any_size_us(300)),
            7..11 => (3, self.dice.of_any_size_us(100)),
            _ => (2, self.dice.of_any_size_us(60_000)),
        };
        let (world, attacks) = (self.world, self.is_mixed && self.dice.once_in(8));
        let body = if self.dice.once_in(16) && !attacks {
            let numbers = [row, place as u64, seed].map(|number| number.to_string());
            let arguments = self.world.arguments(numbers.iter().map(String::as_str));
            // In a group of its own: see `Holders`.
            Body::Started(Box::new(role::start_with("storm_victim", arguments, |command| {
                command.process_group(0);
            })))
        } else {
            Body::Forked(Child::fork(|| match attacks {
                true => victim::attack(world, seed),
                false => victim::live(world, row, place, seed),
            }))
        };
        let (stage, rest) = if attacks { (0, self.dice.up_to_us(20_000)) } else { (stage, rest) };
        let stops = self.is_mixed && self.dice.once_in(4);
        Victim { body, born: Instant::now(), stage, rest, due: None, stops, is_stopped: false }
    }

    fn is_due(&mut self, victim: &mut Victim, place: usize) -> bool {
        let now = Instant::now();
        let due = *match &mut victim.due {
            Some(due) => due,
            None if self.world.board.stage(place).load(Ordering::Acquire) >= victim.stage => {
                victim.due.insert(now + victim.rest)
            }
            None => return now - victim.born > LATEST,
        };
        if now < due {
            return false;
        }
        if victim.stops && !victim.is_stopped {
            // Death comes to it while it stands still.
            victim.signal(Signal::STOP);
            victim.is_stopped = true;
            victim.due = Some(now + self.dice.up_to_us(5000));
            return false;
        }
        if victim.is_stopped && self.dice.once_in(2) {
            // Or after it has gone on, late.
            victim.signal(Signal::CONT);
            (victim.stops, victim.is_stopped) = (false, false);
            victim.due = Some(now + self.dice.up_to_us(5000));
            return false;
        }
        true
    }

    fn kill(&mut self, victim: Victim, place: usize) {
        let stage = self.world.board.stage(place).load(Ordering::Acquire) as usize;
        let outcome = match victim.body {
            Body::Forked(child) => child.kill(),
            Body::Started(mut process) => {
                use std::os::unix::process::ExitStatusExt as _;
                let status = process.kill();
                if status.signal() == Some(libc::SIGKILL) { Ok(()) } else { Err(format!("ended by itself: {status}")) }
            }
        };
        if let Err(how) = outcome {
            self.world.complain(format!("a victim {how}"));
        }
        self.killed += 1;
        self.tally[stage.min(self.tally.len() - 1)] += 1;
    }
}

impl Victim {
    fn signal(&self, signal: Signal) {
        match &self.body {
            Body::Forked(child) => child.signal(signal),
            Body::Started(process) => process.signal(signal),
        }
    }
}
