//! One server after another at the same name: each is killed, in whatever state it is.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wigwag_testing::Link;

use super::dice::Dice;
use super::family::{self, Child};
use super::scoreboard::{FAITHFUL_MAX, Note, Single, now_ns};
use super::service;
use super::world::World;

/// A server that has not bound by then never will; a client that is not back by then never comes.
const NEVER: Duration = Duration::from_secs(6);

/// The role: how many clients there are. It hears `lives seed`, and tells how many of them were ended how.
pub fn play(parent: &Link, arguments: &[&str]) {
    let (world, rest) = World::open(arguments);
    let clients: usize = rest[0].parse().expect("a number");
    assert!(clients <= FAITHFUL_MAX);
    family::wake_in_time();
    parent.tell("ready");
    let mut lives = Lives { world, clients, life: 0, tally: [0; ENDS.len()] };
    while let Some(line) = parent.hear() {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [count, seed] = numbers[..] else { panic!("{line}") };
        let mut dice = Dice::new(seed);
        lives.tally = [0; ENDS.len()];
        for _ in 0..count {
            if let Err(what) = lives.one(&mut dice) {
                lives.world.complain(what);
                break;
            }
        }
        parent.tell(lives.tally.map(|count| count.to_string()).join(" "));
    }
}

/// What a server was at when it was killed.
pub const ENDS: [&str; 3] = ["under load", "while they came", "while it drained"];

struct Lives {
    world: World,
    clients: usize,
    life: u64,
    tally: [u64; ENDS.len()],
}

impl Lives {
    fn one(&mut self, dice: &mut Dice) -> Result<(), String> {
        self.life += 1;
        let (life, world) = (self.life, &self.world);
        let words = world.board.life(life);
        [words.ready_at, words.killed_at, words.gone_at, words.drains]
            .iter()
            .for_each(|word| word.store(0, Ordering::Release));
        // Idle or busy.
        let think_us = [0, 0, 50, 1000, 20_000][dice.below(5) as usize];
        world.board.single(Single::ThinkUs).store(think_us, Ordering::Relaxed);
        world.board.single(Single::Life).store(life, Ordering::Release);
        let seed = dice.any();
        let server = Child::fork(|| service::live(world, life, seed));
        let end = if dice.once_in(4) {
            let is_ready = comes_true(|| words.ready_at.load(Ordering::Acquire) != 0);
            std::thread::sleep(dice.of_any_size_us(4000));
            is_ready.then_some(1).ok_or(format!("life {life} of the server did not begin"))
        } else {
            self.all_are_back().map(|()| {
                std::thread::sleep(dice.of_any_size_us(60_000));
                if dice.once_in(5) { 2 } else { 0 }
            })
        };
        if end == Ok(2) {
            words.drains.store(1, Ordering::Release);
            std::thread::sleep(dice.up_to_us(2000));
        }
        words.killed_at.store(now_ns(), Ordering::Release);
        server.kill().map_err(|how| format!("life {life} of the server {how}"))?;
        words.gone_at.store(now_ns(), Ordering::Release);
        self.tally[end?] += 1;
        Ok(())
    }

    /// All clients have been greeted by this life. How long they took is noted in their own words.
    fn all_are_back(&self) -> Result<(), String> {
        let board = &self.world.board;
        let is_back = |index: usize| board.faithful(index).life.load(Ordering::Acquire) == self.life;
        if comes_true(|| (0..self.clients).all(is_back)) {
            let ready_at = board.life(self.life).ready_at.load(Ordering::Acquire);
            for index in 0..self.clients {
                let greeted_at = board.faithful(index).greeted_at.load(Ordering::Acquire);
                board.note(Note::Back, greeted_at.saturating_sub(ready_at));
            }
            return Ok(());
        }
        let away: Vec<usize> = (0..self.clients).filter(|&index| !is_back(index)).collect();
        Err(format!("clients {away:?} did not come back to life {} of the server within {NEVER:?}", self.life))
    }
}

fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > NEVER {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}
