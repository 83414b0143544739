//! Ends killed at random: those that write and those that read, those that connected and those that accepted.
//!
//! Each victim says first who it is, and how many bytes it means to send or to get. The keeper, which is never killed,
//! is at the other end of all of them and checks each byte: what came from a dead one is the beginning of what it
//! meant, and an end without an error is the end of the whole.

use std::io::{ErrorKind as Io, Read, Write as _};
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wigwag::{ErrorKind, Stream, StreamListener, Wait};
use wigwag_testing::Link;

use super::pattern;
use crate::role;
use crate::scale::Trial;
use crate::storm::dice::Dice;
use crate::storm::family::{self, Child};
use crate::storm::scoreboard::{Extent, Phase};
use crate::storm::world::World;

/// Victims at a time that connect, and that listen.
const CONNECTING: usize = 6;
const LISTENING: usize = 4;
/// Bytes of the rings.
const RING: usize = 16 << 10;
/// The most that a victim means to send or get.
const MOST: u64 = 1 << 20;
/// So long may nothing happen between two that live.
const TIME_LIMIT: Duration = Duration::from_secs(15);
/// How a stream begins: a seed, and how many bytes follow. The seed's lowest bit: the victim reads.
const HEAD: usize = 16;

/// The storm; the figure.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    let kills = trial.kills.unwrap_or(trial.pick(200, 5000, 500_000));
    let world = World::new(Extent { rows: 1, nonces: 1, samples: 0 });
    world.board.set_phase(Phase::Run);
    let mut keeper = role::start("stream-keeper", world.arguments([]));
    keeper.expect("ready");
    let numbers = [kills, trial.seed].map(|number| number.to_string());
    let killer = role::start("stream-killer", world.arguments(numbers.iter().map(String::as_str)));
    let killed = killer.hear_at_last();
    world.board.set_phase(Phase::End);
    let told = keeper.hear_at_last();
    findings.extend(world.complaints());
    let words = |told: Option<String>| told.unwrap_or_else(|| "(gone)".into());
    if killed.is_none() || told.is_none() {
        findings.push("a process of the storm has ended".into());
    }
    Ok(format!("{} killed at random: {}", words(killed), words(told)))
}

fn place(world: &World, index: usize) -> PathBuf {
    world.socket().with_file_name(format!("listening-{index}"))
}

// ---- the keeper -----------------------------------------------------------------------------------------------------

/// What the keeper has seen.
#[derive(Default)]
struct Seen {
    whole: AtomicU64,
    cut: AtomicU64,
    bytes: AtomicU64,
}

/// The role: the other end of every victim, until the storm is over.
pub fn play_keeper(parent: &Link, arguments: &[&str]) {
    let (world, _) = World::open(arguments);
    let before = descriptors();
    let seen = Seen::default();
    let listener = StreamListener::builder().ring_bytes(RING).bind(world.socket()).expect("it listens");
    listener.set_nonblocking(true).expect("it does not wait");
    parent.tell("ready");
    std::thread::scope(|scope| {
        let (world, seen, listener) = (&world, &seen, &listener);
        for index in 0..LISTENING {
            scope.spawn(move || visit(world, seen, &place(world, index)));
        }
        let steady = scope.spawn(|| be_steady(world));
        while world.board.phase() == Phase::Run || !steady.is_finished() {
            match listener.accept() {
                Ok(stream) => drop(scope.spawn(move || keep(world, seen, stream))),
                Err(error) if error.kind() == Io::WouldBlock => std::thread::sleep(Duration::from_micros(300)),
                Err(error) => {
                    world.complain(format!("the listener fails: {error}"));
                    return;
                }
            }
        }
    });
    drop(listener);
    let begin = Instant::now();
    while descriptors() > before && begin.elapsed() < TIME_LIMIT {
        std::thread::sleep(Duration::from_millis(1));
    }
    if descriptors() > before {
        world.complain(format!("the keeper has {} descriptors left where it had {before}", descriptors()));
    }
    let [whole, cut, bytes] = [&seen.whole, &seen.cut, &seen.bytes].map(|count| count.load(Ordering::Relaxed));
    parent.tell(format!("{whole} whole streams, {cut} cut off, {bytes} bytes right"));
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// One stream after another between two that live: each has to come to its end.
fn be_steady(world: &World) {
    let mut dice = Dice::new(0);
    while world.board.phase() == Phase::Run {
        let stream = Stream::builder().ring_bytes(RING).connect(world.socket()).map_err(std::io::Error::from);
        let talked = stream.and_then(|stream| {
            stream.set_read_timeout(Some(TIME_LIMIT))?;
            stream.set_write_timeout(Some(TIME_LIMIT))?;
            talk(world, stream, &mut dice)
        });
        if let Err(error) = talked {
            return world.complain(format!("one of two that live is told {:?}: {error}", error.kind()));
        }
    }
}

/// Connects to those who listen at a place, one after the other.
fn visit(world: &World, seen: &Seen, place: &std::path::Path) {
    while world.board.phase() == Phase::Run {
        match Stream::builder().ring_bytes(RING).timeout(Duration::from_secs(1)).connect(place) {
            Ok(stream) => keep(world, seen, stream),
            // Nobody is there just now, or it was killed meanwhile, or it stands there and is not served by anybody.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotRunning
                        | ErrorKind::Refused
                        | ErrorKind::PeerDied { .. }
                        | ErrorKind::ServerClosed { .. }
                        | ErrorKind::TimedOut { .. }
                ) =>
            {
                std::thread::sleep(Duration::from_micros(300));
            }
            Err(error) => return world.complain(format!("somebody who listens cannot be reached: {error}")),
        }
    }
}

/// The other end of one victim.
fn keep(world: &World, seen: &Seen, mut stream: Stream) {
    let outcome = stream.set_read_timeout(Some(TIME_LIMIT)).and_then(|()| stream.set_write_timeout(Some(TIME_LIMIT)));
    if let Err(error) = outcome {
        return world.complain(format!("a timeout cannot be set: {error}"));
    }
    let mut head = [0; HEAD];
    let mut filled = 0;
    while filled < HEAD {
        match stream.read(&mut head[filled..]) {
            Ok(0) => return world.complain(format!("a stream that was cut off after {filled} bytes looks whole")),
            Ok(count) => filled += count,
            Err(error) => return cut_off(world, seen, &error, Io::ConnectionReset),
        }
    }
    let [seed, len] = [0, 8].map(|at| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes")));
    match seed & 1 {
        0 => keep_writer(world, seen, stream, seed, len),
        _ => keep_reader(world, seen, stream, seed, len),
    }
}

fn cut_off(world: &World, seen: &Seen, error: &std::io::Error, expected: Io) {
    seen.cut.fetch_add(1, Ordering::Relaxed);
    if error.kind() != expected {
        world.complain(format!("the other end of a dead one is told {:?}: {error}", error.kind()));
    }
}

fn keep_writer(world: &World, seen: &Seen, mut stream: Stream, seed: u64, len: u64) {
    let mut dice = Dice::new(seed);
    let (mut done, mut piece) = (0u64, vec![0; 20_000]);
    loop {
        let most = 1 + dice.below(piece.len() as u64) as usize;
        match stream.read(&mut piece[..most]) {
            Ok(0) if done == len => {
                seen.whole.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(0) => return world.complain(format!("a stream that was cut off at {done} of {len} bytes looks whole")),
            Ok(count) => {
                if let Some(at) = pattern::first_wrong(&piece[..count], seed, done as usize) {
                    return world.complain(format!("byte {at} of a stream is wrong"));
                }
                done += count as u64;
                seen.bytes.fetch_add(count as u64, Ordering::Relaxed);
                if done > len {
                    return world.complain(format!("{done} bytes came of {len}"));
                }
            }
            Err(error) => return cut_off(world, seen, &error, Io::ConnectionReset),
        }
    }
}

fn keep_reader(world: &World, seen: &Seen, mut stream: Stream, seed: u64, len: u64) {
    let mut dice = Dice::new(seed);
    let (mut done, mut piece) = (0, vec![0; 20_000]);
    while done < len {
        let count = (1 + dice.below(piece.len() as u64)).min(len - done) as usize;
        pattern::fill(&mut piece[..count], seed, done as usize);
        if let Err(error) = stream.write_all(&piece[..count]) {
            return cut_off(world, seen, &error, Io::BrokenPipe);
        }
        done += count as u64;
    }
    // The victim reads to the end, and says so by closing, unless it is killed.
    let _ = stream.shutdown(Shutdown::Write);
    match stream.read(&mut [0; 8]) {
        Ok(0) => drop(seen.whole.fetch_add(1, Ordering::Relaxed)),
        Ok(_) => world.complain("a victim that only reads has written"),
        Err(error) => cut_off(world, seen, &error, Io::ConnectionReset),
    }
}

// ---- the victims ----------------------------------------------------------------------------------------------------

/// The role: raises victims, and kills each at a moment of its own.
pub fn play_killer(parent: &Link, arguments: &[&str]) {
    let (world, numbers) = World::open(arguments);
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().expect("a number")).collect();
    let [kills, seed] = numbers[..] else { panic!("{numbers:?}") };
    family::wake_in_time();
    let mut dice = Dice::new(seed);
    let raise = |index: usize, dice: &mut Dice| {
        let seed = dice.any();
        Child::fork(|| live(&world, index, seed))
    };
    let mut victims: Vec<Child> = (0..CONNECTING + LISTENING).map(|index| raise(index, &mut dice)).collect();
    let mut killed = 0;
    while killed < kills && world.board.phase() == Phase::Run {
        // One in four dies young: in the handshake. The others are in the middle of something.
        if !dice.once_in(4) {
            std::thread::sleep(dice.of_any_size_us(4000));
        }
        let index = dice.below(victims.len() as u64) as usize;
        let victim = victims.remove(index);
        if let Err(how) = victim.kill() {
            world.complain(format!("a victim {how}"));
        }
        victims.insert(index, raise(index, &mut dice));
        killed += 1;
        if killed % 128 == 0 && !world.complaints().is_empty() {
            break;
        }
    }
    victims.into_iter().for_each(|victim| drop(victim.kill()));
    parent.tell(format!("{killed} ends"));
}

/// A victim: one stream after another, until it is killed.
fn live(world: &World, index: usize, seed: u64) {
    // The one who kills must come to it.
    let _ = rustix::process::nice(10);
    let mut dice = Dice::new(seed);
    let wait = [Wait::Adaptive, Wait::Park][dice.below(2) as usize];
    let listener = (index >= CONNECTING).then(|| {
        let place = place(world, index - CONNECTING);
        StreamListener::builder().ring_bytes(RING).wait(wait).bind(place).expect("a place whose holder is dead")
    });
    loop {
        let stream = match &listener {
            Some(listener) => listener.accept().expect("a stream"),
            None => Stream::builder().ring_bytes(RING).wait(wait).connect(world.socket()).expect("the keeper listens"),
        };
        if let Err(error) = talk(world, stream, &mut dice) {
            // The keeper lives, unless the storm is over.
            if world.board.phase() == Phase::Run {
                world.complain(format!("a victim is told {:?}: {error}", error.kind()));
            }
            return sleep_until_killed();
        }
    }
}

fn sleep_until_killed() {
    loop {
        std::thread::sleep(TIME_LIMIT);
    }
}

/// Sends or gets as many bytes as it says.
fn talk(world: &World, mut stream: Stream, dice: &mut Dice) -> std::io::Result<()> {
    let size = dice.below(12);
    let (seed, len) = (dice.any(), dice.below(MOST >> size));
    stream.write_all(&[seed.to_le_bytes(), len.to_le_bytes()].concat())?;
    let (mut done, mut piece) = (0u64, vec![0; 20_000]);
    if seed & 1 == 0 {
        while done < len {
            let count = (1 + dice.below(piece.len() as u64)).min(len - done) as usize;
            pattern::fill(&mut piece[..count], seed, done as usize);
            stream.write_all(&piece[..count])?;
            done += count as u64;
        }
        return Ok(()); // dropped: closed in good order
    }
    loop {
        match stream.read(&mut piece)? {
            0 if done == len => return Ok(()),
            0 => {
                world.complain(format!("the keeper's stream looks whole at {done} of {len} bytes"));
                return Ok(());
            }
            count => {
                if let Some(at) = pattern::first_wrong(&piece[..count], seed, done as usize) {
                    world.complain(format!("byte {at} of the keeper's stream is wrong"));
                }
                done += count as u64;
            }
        }
    }
}
