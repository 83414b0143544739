//! Receivers and senders of a queue are killed at random. What was committed is received, in order, as long as one of
//! the two lives; what comes again is marked; and nothing is left behind.
//!
//! Three storms, one after the other: receivers die and their senders go on; senders die and their receiver goes on;
//! both die. In the third a message may be lost with both, and all else holds.
//!
//! Each message says whose it is and its number. The board has two words for each sender: how many messages it has
//! committed, and which of them any receiver has done with, written before the acknowledgement.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wigwag::{Delivery, ErrorKind, Receiver, Sender};
use wigwag_testing::{Link, Process, Snapshot, fill};

use crate::role;
use crate::scale::Trial;
use crate::storm::dice::Dice;
use crate::storm::family::{self, Child};
use crate::storm::scoreboard::{Extent, Phase, Scoreboard};
use crate::storm::world::World;

/// Senders at a time.
const SENDERS: usize = 6;
/// Messages that one sender may have under way.
const SLOTS: usize = 8;
/// The longest message.
const CAPACITY: usize = 3000;
/// So long may a receiver be missing, on a machine that does other things, too.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// How many messages more than were committed may have come of a sender that was killed: those under way, in its last
/// call.
const UNDER_WAY: u64 = SLOTS as u64;

/// Which of the three storms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storm {
    Receivers,
    Senders,
    Both,
}

impl Storm {
    fn name(self) -> &'static str {
        match self {
            Storm::Receivers => "receivers",
            Storm::Senders => "senders",
            Storm::Both => "both",
        }
    }

    fn named(name: &str) -> Storm {
        let all = [Storm::Receivers, Storm::Senders, Storm::Both];
        all.into_iter().find(|storm| storm.name() == name).expect("one of the three")
    }
}

/// Messages that a sender has committed.
pub fn committed(board: &Scoreboard, sender: u64) -> &AtomicU64 {
    board.word(board.ledger_start() + 2 * sender as usize)
}

/// Messages of a sender that were done with: see [`Done`].
pub fn done(board: &Scoreboard, sender: u64) -> &AtomicU64 {
    board.word(board.ledger_start() + 2 * sender as usize + 1)
}

/// Which messages were done with: all below a number, and some of those right after it, a bit for each. A sender has at
/// most `SLOTS` messages under way, and none is free before it is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Everything below this number is done with.
    pub below: u64,
    /// A bit for each message from there on: it was done with, too.
    pub after: u64,
}

impl Done {
    /// As its word says.
    pub fn of(word: u64) -> Done {
        Done { below: word >> SLOTS, after: word & ((1 << SLOTS) - 1) }
    }

    /// As one word.
    pub fn word(self) -> u64 {
        self.below << SLOTS | self.after
    }

    /// Whether a message was done with. None if it cannot be there: one before it is neither done with nor under way.
    pub fn has(self, number: u64) -> Option<bool> {
        match number.checked_sub(self.below) {
            None => Some(true),
            Some(place) if place < SLOTS as u64 => Some(self.after >> place & 1 == 1),
            Some(_) => None,
        }
    }

    /// One more, for which [`Done::has`] says `Some(false)`.
    pub fn with(mut self, number: u64) -> Done {
        self.after |= 1 << (number - self.below);
        let whole = self.after.trailing_ones();
        self.below += u64::from(whole);
        self.after >>= whole;
        self
    }
}

/// All three storms; the figure.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    let kills = trial.kills.unwrap_or(trial.pick(60, 2_000, 200_000));
    let mut figures = Vec::new();
    for storm in [Storm::Receivers, Storm::Senders, Storm::Both] {
        let begin = Instant::now();
        let said = one(storm, kills, trial.seed, findings);
        figures.push(format!(
            "{} killed {kills} times in {:.1} s: {said}",
            storm.name(),
            begin.elapsed().as_secs_f64()
        ));
        if !findings.is_empty() {
            break;
        }
    }
    Ok(figures.join("; "))
}

/// One storm; what its processes tell.
fn one(storm: Storm, kills: u64, seed: u64, findings: &mut Vec<String>) -> String {
    let senders = SENDERS as u64 + if storm == Storm::Receivers { 0 } else { kills };
    let world = World::new(Extent { rows: 1, nonces: 64 * senders as usize, samples: 0 });
    world.board.set_phase(Phase::Run);
    let numbers = [kills, seed].map(|number| number.to_string());
    let arguments = |storm: Storm| world.arguments([storm.name(), &numbers[0], &numbers[1]]);
    let receiving = role::start("queue-receivers", arguments(storm));
    let mut before = None;
    if storm == Storm::Senders {
        hear(&receiving, "ready");
        before = Some(Snapshot::when_settled(receiving.id(), 0));
    }
    let sending = role::start("queue-senders", arguments(storm));
    // The killer says when it is done; the others go on until then, and end well.
    let killing = if storm == Storm::Receivers { &receiving } else { &sending };
    let killed = killing.hear_at_last().unwrap_or_else(|| "(gone)".into());
    world.board.set_phase(Phase::Pause);
    let other = if storm == Storm::Receivers { &sending } else { &receiving };
    let ended = other.hear_at_last().unwrap_or_else(|| "(gone)".into());
    findings.extend(world.complaints());
    if findings.is_empty() {
        findings.extend((0..senders).filter_map(|sender| of_sender(storm, &world.board, sender)));
    }
    if let Some(before) = before.filter(|_| findings.is_empty()) {
        let (pid, begin) = (receiving.id(), Instant::now());
        while Snapshot::of(pid) != before {
            if begin.elapsed() > TIME_LIMIT {
                findings.push(format!("the receiver held {before:?} and holds {:?}", Snapshot::of(pid)));
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    world.board.set_phase(Phase::End);
    drop((sending, receiving));
    let of = |sender| Done::of(done(&world.board, sender).load(Ordering::Acquire)).below;
    let total: u64 = (0..senders).map(of).sum();
    format!("{total} messages, {killed}, {ended}")
}

fn hear(process: &Process, expected: &str) {
    assert_eq!(process.try_hear().as_deref(), Some(expected));
}

/// Whether all came that a sender had committed, and not more than it had begun to.
fn of_sender(storm: Storm, board: &Scoreboard, sender: u64) -> Option<String> {
    let committed = committed(board, sender).load(Ordering::Acquire);
    let Done { below, after } = Done::of(done(board, sender).load(Ordering::Acquire));
    let is_lost = (below < committed || after != 0) && storm != Storm::Both;
    let most = if storm == Storm::Receivers { committed } else { committed + UNDER_WAY };
    (is_lost || below > most).then(|| {
        format!(
            "sender {sender} has committed {committed} messages, {below} were done with, and of the next {after:#b}"
        )
    })
}

// ---- messages -------------------------------------------------------------------------------------------------------

/// Message `number` of a sender.
fn message(sender: u64, number: u64, into: &mut [u8]) {
    fill(into, sender << 40 | number);
    into[..8].copy_from_slice(&sender.to_le_bytes());
    into[8..16].copy_from_slice(&number.to_le_bytes());
}

/// What one receiver has seen of one sender.
#[derive(Default)]
struct Seen {
    /// The message that is due.
    next: u64,
    /// What it gave back, and has not been handed again.
    given_back: HashSet<u64>,
}

/// One was received: it is whole, due, and marked if it may have been had before. `is_kept`: it will be acknowledged.
fn receive(world: &World, delivery: &Delivery, seen: &mut HashMap<u64, Seen>, is_kept: bool) {
    if delivery.len() < 16 {
        return world.complain(format!("a message of {} bytes came, which nobody sent", delivery.len()));
    }
    let word = |at: usize| u64::from_le_bytes(delivery[at..at + 8].try_into().expect("eight bytes"));
    let (sender, number) = (word(0), word(8));
    let mut expected = vec![0; delivery.len()];
    message(sender, number, &mut expected);
    if expected != delivery[..] {
        return world.complain(format!("message {number} of sender {sender} is not what was sent"));
    }
    let is_marked = delivery.is_redelivered();
    // What comes for the first time comes in order; what this one gave back comes again, whenever.
    let seen = seen.entry(sender).or_insert_with(|| Seen { next: number, given_back: HashSet::new() });
    let word = done(&world.board, sender);
    let before = Done::of(word.load(Ordering::Acquire));
    // What a dead one had acknowledged out of order, because it had given back what came before, does not come again.
    while seen.next < number && before.has(seen.next) == Some(true) {
        seen.next += 1;
    }
    if number == seen.next {
        seen.next += 1;
    } else if !seen.given_back.remove(&number) {
        world.complain(format!("message {number} of sender {sender} came where {} was due", seen.next));
    } else if !is_marked {
        world.complain(format!("message {number} of sender {sender} was given back and comes without a mark"));
    }
    match before.has(number) {
        None => world.complain(format!("message {number} of sender {sender} came while {} is lost", before.below)),
        Some(true) if !is_marked => {
            world.complain(format!("message {number} of sender {sender} was done with, and comes without a mark"));
        }
        Some(is_done) if is_kept && !is_done => word.store(before.with(number).word(), Ordering::Release),
        Some(_) => {}
    }
    if !is_kept {
        seen.given_back.insert(number);
    }
}

// ---- those who receive ----------------------------------------------------------------------------------------------

/// The role: receives; or raises receivers one after the other, and kills each at a moment of its own.
pub fn play_receivers(parent: &Link, arguments: &[&str]) {
    let (world, storm, kills, mut dice) = open(arguments);
    if storm == Storm::Senders {
        let receiver = bind(&world).expect("the name is free");
        parent.tell("ready");
        receive_until(&world, &receiver, &mut dice, || world.board.phase() != Phase::Run);
        let stats = receiver.stats();
        if stats.violations > 0 || stats.received != stats.acknowledged + stats.returned {
            world.complain(format!("the receiver has counted {stats:?}"));
        }
        parent.tell(format!("{} received, {} given back", stats.received, stats.returned));
        let _ = parent.hear_at_last();
        return;
    }
    family::wake_in_time();
    let mut killed = 0;
    // Where both die, this one goes on as long as the other.
    while if storm == Storm::Both { world.board.phase() == Phase::Run } else { killed < kills } {
        let seed = dice.any();
        let receiver = Child::fork(|| live_receiving(&world, seed));
        // Its senders need a moment to find it; one in four dies before.
        let moment = Duration::from_millis(if dice.once_in(4) { 0 } else { 1 });
        std::thread::sleep(moment + dice.of_any_size_us(16_000));
        if let Err(how) = receiver.kill() {
            world.complain(format!("a receiver {how}"));
        }
        killed += 1;
        if killed % 64 == 0 && !world.complaints().is_empty() {
            break;
        }
    }
    // The last one is there for what is left.
    let seed = dice.any();
    let last = Child::fork(|| live_receiving(&world, seed));
    if storm == Storm::Receivers {
        parent.tell("the last one lives on");
    } else {
        std::thread::sleep(Duration::from_millis(200));
        parent.tell(format!("{killed} receivers killed"));
    }
    let _ = parent.hear_at_last();
    drop(last.kill());
}

fn bind(world: &World) -> wigwag::Result<Receiver> {
    Receiver::builder().slots(SLOTS).capacity(CAPACITY).bind(world.socket())
}

fn live_receiving(world: &World, seed: u64) {
    match bind(world) {
        Ok(receiver) => receive_until(world, &receiver, &mut Dice::new(seed), || false),
        Err(error) => world.complain(format!("a receiver cannot take the name: {error}")),
    }
}

/// Receives in all ways until it is over and everything is received.
fn receive_until(world: &World, receiver: &Receiver, dice: &mut Dice, is_over: impl Fn() -> bool) {
    let mut seen = HashMap::new();
    loop {
        let was_over = is_over() && receiver.stats().senders == 0;
        let silence = Duration::from_millis(10);
        let come = match dice.below(4) {
            0 => receiver.recv_batch_timeout(1 + dice.below(5) as usize, silence).map(|batch| {
                batch.map(|batch| {
                    let is_kept = !dice.once_in(8);
                    batch.iter().for_each(|delivery| receive(world, delivery, &mut seen, is_kept));
                    if !is_kept {
                        batch.nack();
                    }
                })
            }),
            _ => receiver.recv_timeout(silence).map(|delivery| {
                delivery.map(|delivery| {
                    let is_kept = !dice.once_in(16);
                    receive(world, &delivery, &mut seen, is_kept);
                    if !is_kept {
                        return delivery.nack();
                    }
                    if dice.once_in(32) {
                        std::thread::sleep(dice.of_any_size_us(300)); // killed with it in hand
                    }
                })
            }),
        };
        match come {
            Ok(Some(())) => {}
            Ok(None) if was_over => return,
            Ok(None) => {}
            Err(error) => return world.complain(format!("nothing can be received: {error}")),
        }
    }
}

// ---- those who send -------------------------------------------------------------------------------------------------

/// The role: sends; or raises senders and kills each at a moment of its own.
pub fn play_senders(parent: &Link, arguments: &[&str]) {
    let (world, storm, kills, mut dice) = open(arguments);
    if storm == Storm::Receivers {
        let (mut sent, mut redelivered, mut found) = (0, 0, 0);
        let seeds: Vec<u64> = (0..SENDERS).map(|_| dice.any()).collect();
        std::thread::scope(|scope| {
            let sending = |(sender, seed): (usize, &u64)| {
                let (world, seed) = (&world, *seed);
                scope.spawn(move || live_sending(world, sender as u64, seed))
            };
            let threads: Vec<_> = seeds.iter().enumerate().map(sending).collect();
            for stats in threads.into_iter().filter_map(|thread| thread.join().expect("a sender")) {
                sent += stats.sent;
                redelivered += stats.redelivered;
                found += stats.reconnects;
            }
        });
        parent.tell(format!("{sent} sent, {redelivered} of them came to another one marked, {found} successors found"));
        let _ = parent.hear_at_last();
        return;
    }
    family::wake_in_time();
    let mut born = 0;
    let mut raise = |dice: &mut Dice| {
        let (sender, seed) = (born, dice.any());
        born += 1;
        Child::fork(|| {
            let _ = rustix::process::nice(5);
            let _ = live_sending(&world, sender, seed);
        })
    };
    let mut victims: Vec<Child> = (0..SENDERS).map(|_| raise(&mut dice)).collect();
    for killed in 0..kills {
        if !dice.once_in(4) {
            std::thread::sleep(dice.of_any_size_us(4000));
        }
        let next = raise(&mut dice);
        let place = dice.below(SENDERS as u64) as usize;
        if let Err(how) = std::mem::replace(&mut victims[place], next).kill() {
            world.complain(format!("a sender {how}"));
        }
        if killed % 64 == 0 && !world.complaints().is_empty() {
            break;
        }
    }
    victims.into_iter().for_each(|victim| drop(victim.kill()));
    parent.tell(format!("{born} senders"));
    let _ = parent.hear_at_last();
}

/// Sends in all ways until the storm is over, and ends well.
fn live_sending(world: &World, me: u64, seed: u64) -> Option<wigwag::SenderStats> {
    let mut dice = Dice::new(seed);
    let mut sender = match Sender::builder().server_timeout(TIME_LIMIT).connect(world.socket()) {
        Ok(sender) => sender,
        Err(error) => {
            world.complain(format!("sender {me} finds no receiver: {error}"));
            return None;
        }
    };
    let committed = committed(&world.board, me);
    let mut bytes = vec![0; CAPACITY];
    while world.board.phase() == Phase::Run {
        let number = sender.stats().sent;
        let most = if dice.once_in(4) { CAPACITY } else { 48 };
        let len = 16 + dice.below(most as u64 - 15) as usize;
        message(me, number, &mut bytes[..len]);
        let sent = match dice.below(8) {
            0 => {
                let batch: Vec<Vec<u8>> = (number..number + 3)
                    .map(|number| {
                        let mut bytes = vec![0; 40];
                        message(me, number, &mut bytes);
                        bytes
                    })
                    .collect();
                sender.send_batch(batch).map(drop)
            }
            1 => match sender.try_send(&bytes[..len]) {
                Err(error) if error.kind() == ErrorKind::Full => Ok(()),
                outcome => outcome,
            },
            2 => sender.loan(len).and_then(|mut draft| {
                draft.copy_from_slice(&bytes[..len]);
                draft.commit()
            }),
            3 => match sender.flush(dice.of_any_size_us(2000)) {
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => Ok(()),
                outcome => outcome,
            },
            // Nobody may sleep that long: there is always one who receives, or soon will.
            _ => sender.send_timeout(&bytes[..len], TIME_LIMIT),
        };
        match sent {
            Ok(()) => {}
            // It was not to wait for a successor, or not that long.
            Err(error) if error.kind() == ErrorKind::NotRunning => {}
            Err(error) => {
                world.complain(format!("sender {me} could not send: {error}"));
                return None;
            }
        }
        committed.store(sender.stats().sent, Ordering::Release);
        if dice.once_in(64) {
            std::thread::sleep(dice.of_any_size_us(3000)); // its receiver sleeps meanwhile
        }
    }
    let stats = sender.stats();
    if let Err(error) = sender.flush(TIME_LIMIT).and_then(|()| sender.close()) {
        world.complain(format!("sender {me} could not end well: {error}"));
    }
    Some(stats)
}

fn open(arguments: &[&str]) -> (World, Storm, u64, Dice) {
    let (world, rest) = World::open(arguments);
    let [storm, kills, seed] = rest else { panic!("{rest:?}") };
    (world, Storm::named(storm), kills.parse().expect("a number"), Dice::new(seed.parse().expect("a number")))
}
