//! Receivers that share a name are killed at random, or one that does not share; and their senders make no call while
//! they are. What was sent is received all the same: it reaches a receiver that lives without a call of the sender's,
//! and what somebody had in hand before is marked.
//!
//! The board has two words for each message: whether somebody has had it in hand, and whether it was done with, written
//! before the acknowledgement.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wigwag::{Delivery, Receiver, Sender, SenderStats};
use wigwag_testing::{Link, fill};

use crate::role;
use crate::scale::Trial;
use crate::storm::dice::Dice;
use crate::storm::family::{self, Child};
use crate::storm::scoreboard::{Extent, Phase, Scoreboard};
use crate::storm::world::World;

/// Senders, each in a thread of its own.
const SENDERS: u64 = 4;
/// The most messages of a sender: it pauses when it has sent them.
const MESSAGES_MAX: u64 = 50_000;
/// Messages that one sender may have under way at a receiver.
const SLOTS: usize = 8;
/// The longest message.
const CAPACITY: usize = 2000;
/// So long may a message take that nobody hinders, on a machine that does other things, too.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// What a sender allows its own calls: so much more that one which sleeps for all of its time is found by the pause.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// What is tried: so many receivers, which share the name or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Company {
    receivers: usize,
    is_shared: bool,
}

const COMPANIES: [Company; 2] = [Company { receivers: 3, is_shared: true }, Company { receivers: 1, is_shared: false }];

fn word(board: &Scoreboard, sender: u64, number: u64, which: usize) -> &AtomicU64 {
    board.word(board.ledger_start() + 2 * (sender * MESSAGES_MAX + number) as usize + which)
}

/// Whether somebody has had a message in hand.
fn had(board: &Scoreboard, sender: u64, number: u64) -> &AtomicU64 {
    word(board, sender, number, 0)
}

/// Whether a message was done with.
fn done(board: &Scoreboard, sender: u64, number: u64) -> &AtomicU64 {
    word(board, sender, number, 1)
}

/// Counts up when the killing pauses, until every sender has nothing under way, and when it goes on: odd in a pause.
fn pauses(board: &Scoreboard) -> &AtomicU64 {
    board.word(board.ledger_start() + 2 * (SENDERS * MESSAGES_MAX) as usize)
}

/// The last pause for which a sender has had all that it sent received.
fn rested_for(board: &Scoreboard, sender: u64) -> &AtomicU64 {
    board.word(board.ledger_start() + (2 * SENDERS * MESSAGES_MAX + 1 + sender) as usize)
}

/// Both; the figure.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    let kills = trial.kills.unwrap_or(trial.pick(40, 400, 40_000));
    let mut figures = Vec::new();
    for company in COMPANIES {
        let begin = Instant::now();
        let world = World::new(Extent { rows: 1, nonces: (64 * SENDERS * (MESSAGES_MAX + 1)) as usize, samples: 0 });
        world.board.set_phase(Phase::Run);
        let numbers = [kills, trial.seed, company.receivers as u64, u64::from(company.is_shared)];
        let numbers = numbers.map(|number| number.to_string());
        let arguments = || world.arguments(numbers.iter().map(String::as_str));
        let receiving = role::start("queue-workers", arguments());
        let sending = role::start("queue-idle-senders", arguments());
        let killed = receiving.hear_at_last().unwrap_or_else(|| "(gone)".into());
        world.board.set_phase(Phase::Pause);
        let sent = sending.hear_at_last().unwrap_or_else(|| "(gone)".into());
        world.board.set_phase(Phase::End);
        findings.extend(world.complaints());
        drop((sending, receiving));
        let how = if company.is_shared { "that share a name" } else { "without a successor beside them" };
        let seconds = begin.elapsed().as_secs_f64();
        figures.push(format!("{killed} {how} under idle senders in {seconds:.1} s: {sent}"));
        if !findings.is_empty() {
            break;
        }
    }
    Ok(figures.join("; "))
}

fn message(sender: u64, number: u64, into: &mut [u8]) {
    fill(into, sender << 40 | number);
    into[..8].copy_from_slice(&sender.to_le_bytes());
    into[8..16].copy_from_slice(&number.to_le_bytes());
}

// ---- those who receive ----------------------------------------------------------------------------------------------

/// The role: raises receivers, and kills each at a moment of its own.
pub fn play_workers(parent: &Link, arguments: &[&str]) {
    let (world, [kills, seed, receivers, is_shared]) = open(arguments);
    let mut dice = Dice::new(seed);
    family::wake_in_time();
    let raise = |dice: &mut Dice| {
        let seed = dice.any();
        Child::fork(|| live_receiving(&world, is_shared != 0, seed))
    };
    let mut victims: Vec<Option<Child>> = (0..receivers).map(|_| Some(raise(&mut dice))).collect();
    for killed in 0..kills {
        std::thread::sleep(Duration::from_millis(1) + dice.of_any_size_us(30_000));
        let place = dice.below(receivers) as usize;
        if let Some(Err(how)) = victims[place].take().map(Child::kill) {
            world.complain(format!("a receiver {how}"));
        }
        if dice.once_in(3) {
            std::thread::sleep(dice.of_any_size_us(30_000)); // nobody, or fewer, for a while
        }
        victims[place] = Some(raise(&mut dice));
        if dice.once_in(2) {
            pause(&world);
        }
        if killed % 64 == 0 && !world.complaints().is_empty() {
            break;
        }
    }
    parent.tell(format!("{kills} receivers killed"));
    let _ = parent.hear_at_last();
    victims.into_iter().flatten().for_each(|victim| drop(victim.kill()));
}

/// Kills nobody until all that was sent is received. A message that waits for something that does not come would be
/// helped on by the next death, and nobody would see it.
fn pause(world: &World) {
    let pauses = pauses(&world.board);
    let pause = pauses.fetch_add(1, Ordering::AcqRel) + 1;
    let have_all = || (0..SENDERS).all(|it| rested_for(&world.board, it).load(Ordering::Acquire) == pause);
    let begin = Instant::now();
    // A sender that has complained is gone.
    while !have_all() && world.complaints().is_empty() {
        if begin.elapsed() > TIME_LIMIT {
            world.complain(format!("nobody was killed for {TIME_LIMIT:?}, and a sender waits for what it sent"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    pauses.fetch_add(1, Ordering::AcqRel);
}

/// A sender has nothing under way: if the killing pauses, it rests until that goes on.
fn rest(world: &World, me: u64) {
    let pauses = pauses(&world.board);
    let pause = pauses.load(Ordering::Acquire);
    if pause % 2 == 1 {
        rested_for(&world.board, me).store(pause, Ordering::Release);
        while pauses.load(Ordering::Acquire) == pause && world.board.phase() == Phase::Run {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn live_receiving(world: &World, is_shared: bool, seed: u64) {
    let mut dice = Dice::new(seed);
    let builder = Receiver::builder().slots(SLOTS).capacity(CAPACITY).shared(is_shared);
    let receiver = match builder.bind(world.socket()) {
        Ok(receiver) => receiver,
        Err(error) => return world.complain(format!("a receiver cannot take the name: {error}")),
    };
    for delivery in &receiver {
        match delivery {
            Ok(delivery) => {
                if receive(world, &delivery) && dice.once_in(16) {
                    std::thread::sleep(dice.of_any_size_us(3000)); // killed with it in hand
                }
                if let Some((sender, number)) = whose(&delivery) {
                    done(&world.board, sender, number).store(1, Ordering::Release);
                }
                delivery.ack();
            }
            Err(error) => return world.complain(format!("nothing can be received: {error}")),
        }
    }
}

fn whose(delivery: &Delivery) -> Option<(u64, u64)> {
    let word = |at: usize| Some(u64::from_le_bytes(delivery.get(at..at + 8)?.try_into().ok()?));
    let (sender, number) = (word(0)?, word(8)?);
    (sender < SENDERS && number < MESSAGES_MAX).then_some((sender, number))
}

/// One was received: it is whole, and marked if somebody has had it. Whether it is.
fn receive(world: &World, delivery: &Delivery) -> bool {
    let Some((sender, number)) = whose(delivery) else {
        world.complain(format!("a message of {} bytes came, which nobody sent", delivery.len()));
        return false;
    };
    let mut expected = vec![0; delivery.len()];
    message(sender, number, &mut expected);
    if expected != delivery[..] {
        world.complain(format!("message {number} of sender {sender} is not what was sent"));
    }
    let was_had = had(&world.board, sender, number).swap(1, Ordering::AcqRel) != 0;
    if was_had && !delivery.is_redelivered() {
        world.complain(format!("message {number} of sender {sender} was had before, and comes without a mark"));
    }
    true
}

// ---- those who send -------------------------------------------------------------------------------------------------

/// The role: senders that send a little, and then make no call until all of it was received, or one that waits.
pub fn play_senders(parent: &Link, arguments: &[&str]) {
    let (world, [_, seed, ..]) = open(arguments);
    let mut dice = Dice::new(seed ^ 0x5eed);
    let seeds: Vec<u64> = (0..SENDERS).map(|_| dice.any()).collect();
    let mut all = (0, 0, 0);
    std::thread::scope(|scope| {
        let world = &world;
        let sending = |(sender, seed): (u64, &u64)| {
            let seed = *seed;
            scope.spawn(move || live_sending(world, sender, seed))
        };
        let threads: Vec<_> = (0..SENDERS).zip(&seeds).map(sending).collect();
        for stats in threads.into_iter().filter_map(|thread| thread.join().expect("a sender")) {
            all = (all.0 + stats.sent, all.1 + stats.redelivered, all.2 + stats.reconnects);
        }
    });
    let (sent, redelivered, found) = all;
    parent.tell(format!("{sent} sent, {redelivered} of them came to another one marked, {found} successors found"));
    let _ = parent.hear_at_last();
}

fn live_sending(world: &World, me: u64, seed: u64) -> Option<SenderStats> {
    let mut dice = Dice::new(seed);
    let mut sender = match Sender::builder().server_timeout(CALL_LIMIT).connect(world.socket()) {
        Ok(sender) => sender,
        Err(error) => {
            world.complain(format!("sender {me} finds no receiver: {error}"));
            return None;
        }
    };
    let mut bytes = vec![0; CAPACITY];
    let mut number = 0;
    while world.board.phase() == Phase::Run && number + 8 < MESSAGES_MAX {
        rest(world, me);
        let first = number;
        for _ in 0..=dice.below(5) {
            let most = if dice.once_in(4) { CAPACITY as u64 - 15 } else { 32 };
            let len = 16 + dice.below(most) as usize;
            message(me, number, &mut bytes[..len]);
            if let Err(error) = sender.send_timeout(&bytes[..len], CALL_LIMIT) {
                world.complain(format!("sender {me} could not send: {error}"));
                return None;
            }
            number += 1;
        }
        let is_done = || (first..number).all(|it| done(&world.board, me, it).load(Ordering::Acquire) != 0);
        let is_idle = dice.once_in(2);
        if is_idle {
            let begin = Instant::now();
            while !is_done() && begin.elapsed() < TIME_LIMIT {
                std::thread::sleep(Duration::from_micros(200));
            }
        } else if let Err(error) = sender.flush(CALL_LIMIT) {
            world.complain(format!("sender {me} could not flush: {error}"));
            return None;
        }
        if !is_done() {
            let how = if is_idle { "made no call" } else { "was told that all is acknowledged" };
            world.complain(format!("sender {me} {how}, and its messages {first} to {} were lost", number - 1));
            return None;
        }
    }
    while world.board.phase() == Phase::Run {
        rest(world, me); // it has sent the most that it may
        std::thread::sleep(Duration::from_millis(1));
    }
    let stats = sender.stats();
    if let Err(error) = sender.close() {
        world.complain(format!("sender {me} could not end well: {error}"));
    }
    Some(stats)
}

fn open(arguments: &[&str]) -> (World, [u64; 4]) {
    let (world, rest) = World::open(arguments);
    let numbers: Vec<u64> = rest.iter().map(|text| text.parse().expect("a number")).collect();
    (world, numbers.try_into().expect("four numbers"))
}
