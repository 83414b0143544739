//! G30: queues with a keeper. Senders, receivers and now and then the keeper are killed at random moments, from the
//! handshake to the last acknowledgement, and so are the receivers that are handed what was left. What a sender had
//! sent comes, unless it was acknowledged: once without a mark at most, and marked whenever a receiver may have had it.
//!
//! What chance does not find is played by itself: a keeper that is stopped within a registration, a sender that dies
//! within its move, a successor that dies with what it was handed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use wigwag::{ErrorKind, Keeper, Receiver, Sender, Wait};
use wigwag_testing::{Ground, LIMIT, Link, Process, Raw, wire};

use super::super::storm::dice::Dice;
use crate::role;
use crate::scale::Trial;

/// Messages of one sender that may be under way.
const SLOTS: usize = 16;
/// Senders at a time.
const SENDERS: u64 = 3;
/// Messages of each.
const EACH: u64 = 40;

/// Tries it: the figure; what is found is added.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> String {
    let rounds = trial.kills.unwrap_or(trial.pick(12, 150, 5_000));
    let mut sum = Sum::default();
    for attempt in [nobody_is_welcomed_unkept, a_sender_dies_within_its_move, successors_die] {
        findings.extend(attempt().err());
    }
    let mut dice = Dice::new(trial.seed);
    for round in 0..rounds {
        if !findings.is_empty() {
            break;
        }
        findings.extend(storm(&mut dice, &mut sum).err().map(|why| format!("round {round} of kept queues: {why}")));
    }
    let Sum { kills, sent, handed_on, marked } = sum;
    format!(
        "{kills} kills of senders, receivers and keepers of queues: {sent} messages, {handed_on} handed on by the \
         keeper, {marked} came marked"
    )
}

#[derive(Default)]
struct Sum {
    kills: u64,
    sent: u64,
    handed_on: u64,
    marked: u64,
}

// ---- by itself ------------------------------------------------------------------------------------------------------

fn start_keeper(place: &Path) -> Result<Process, String> {
    let keeper = role::start("restarts_keeper", [place.as_os_str()]);
    match keeper.try_hear() {
        Some(line) if line == "keeps" => Ok(keeper),
        other => Err(format!("the keeper says {other:?}")),
    }
}

fn bind(place: &Path) -> Result<Receiver, String> {
    let begin = Instant::now();
    loop {
        let builder = Receiver::builder().slots(SLOTS).capacity(256).wait(Wait::Park).kept_by(place);
        match builder.bind(place) {
            Ok(receiver) => return Ok(receiver),
            // The keeper is about to come, or the name is about to be free.
            Err(error) if begin.elapsed() < LIMIT && matches!(error.kind(), ErrorKind::NotRunning) => {}
            Err(error) => return Err(format!("a receiver cannot be bound: {error}")),
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn connect(place: &Path) -> wigwag::Result<Sender> {
    let builder = Sender::builder().wait(Wait::Park).linger(Duration::ZERO).server_timeout(LIMIT);
    builder.connect(place)
}

/// A keeper that does not answer: no sender is welcomed by a receiver that insists on it.
fn nobody_is_welcomed_unkept() -> Result<(), String> {
    let ground = Ground::new();
    let place = ground.socket();
    let keeper = start_keeper(&place)?;
    let _receiver = bind(&place)?;
    keeper.halt();
    let builder = Sender::builder().linger(Duration::ZERO).timeout(Duration::from_millis(300));
    match builder.connect(&place) {
        Ok(_) => Err("a sender was welcomed before the keeper had its memory".into()),
        Err(_) => Ok(()),
    }
}

/// What it writes as `moving` when it begins.
const BEGUN: u32 = 1;
/// Of a message's head, by docs/layout.md.
const MESSAGE: u64 = 6;

/// A sender that says what becomes of its messages.
fn by_hand(place: &Path) -> Raw {
    const FEATURES: usize = 38;
    const TELLS_MOVES: u8 = 1 << 3;
    let mut greeting = wire::hello();
    greeting[FEATURES] |= TELLS_MOVES;
    Raw::connect_saying(place, greeting, SLOTS as u32, 256, 1)
}

fn pass(raw: &Raw, number: u64) {
    raw.write(number as usize, false, &message(0, number));
    raw.pass(number as usize, 1 << 8 | 1, 16 | MESSAGE << 32);
    raw.ring();
}

/// A sender passes two of three messages to the next receiver, and dies; that receiver ends, too.
fn a_sender_dies_within_its_move() -> Result<(), String> {
    let ground = Ground::new();
    let place = ground.socket();
    let _keeper = start_keeper(&place)?;
    // They receive nothing, so that each message is new.
    let first = bind(&place)?;
    let mut sender = role::start("restarts_mover", [place.as_os_str()]);
    expect(&sender, "passed")?;
    drop(first);
    let second = bind(&place)?;
    sender.tell("move");
    expect(&sender, "moved two")?;
    sender.kill();
    drop(second);
    let mut account = Account::default();
    (0..3).for_each(|number| account.sent(0, number));
    account.collect(&place)?;
    account.check(true)
}

/// The role: a sender by hand that stands still within its move. `arguments`: the queue.
pub fn play_mover(parent: &Link, arguments: &[&str]) {
    let place = Path::new(arguments[0]);
    let old = by_hand(place);
    (0..3).for_each(|number| pass(&old, number));
    parent.tell("passed");
    drop(parent.hear_at_last());
    let new = by_hand(place);
    old.half(1024 + 24).store(BEGUN, std::sync::atomic::Ordering::SeqCst);
    (0..2).for_each(|number| pass(&new, number));
    parent.tell("moved two");
    drop(parent.hear_at_last());
}

/// What is left is handed to one receiver after another, and each dies with it.
fn successors_die() -> Result<(), String> {
    let ground = Ground::new();
    let place = ground.socket();
    let _keeper = start_keeper(&place)?;
    let mut account = Account::default();
    let mut worker = start_worker(&place, 0)?;
    let mut sender = role::start("restarts_kept_sender", [place.as_os_str(), "0".as_ref(), "stay".as_ref()]);
    let begin = Instant::now();
    while stats(&place)?.sessions == 0 {
        if begin.elapsed() > LIMIT {
            return Err("no sender is kept".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(20)); // it fills the queue
    sender.kill();
    worker.kill();
    account.hear_sender(&sender, 0);
    account.hear_all(&worker);
    for _ in 0..3 {
        let mut successor = start_worker(&place, 0)?;
        std::thread::sleep(Duration::from_millis(20)); // it takes what it holds
        successor.kill();
        account.hear_all(&successor);
    }
    account.collect(&place)?;
    account.check(true)
}

fn expect(process: &Process, line: &str) -> Result<(), String> {
    match process.try_hear() {
        Some(said) if said == line => Ok(()),
        other => Err(format!("a process says {other:?} where `{line}` was expected")),
    }
}

fn stats(place: &Path) -> Result<wigwag::KeeperStats, String> {
    Keeper::stats_of(place, LIMIT).map_err(|error| format!("the keeper does not say what it has: {error}"))
}

// ---- messages -------------------------------------------------------------------------------------------------------

/// Message `number` of a sender.
fn message(sender: u64, number: u64) -> Vec<u8> {
    let mut bytes = sender.to_le_bytes().to_vec();
    bytes.extend(number.to_le_bytes());
    if number % 3 == 2 && sender > 0 {
        bytes.resize(200, number as u8); // in the body
    }
    bytes
}

/// Whose message it is, and which one.
fn parsed(bytes: &[u8]) -> Option<(u64, u64)> {
    let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let (sender, number) = (word(0)?, word(8)?);
    (bytes == message(sender, number)).then_some((sender, number))
}

/// What is known of one message.
#[derive(Default)]
struct Fate {
    /// `send` has returned.
    is_sent: bool,
    /// A receiver was about to acknowledge it.
    is_acknowledged: bool,
    /// How often it came, and how often without a mark.
    came: u64,
    unmarked: u64,
    /// It came without a mark after somebody had it.
    is_late: bool,
    /// Whoever had it last has died, and was not about to acknowledge it.
    is_owed: bool,
}

/// What all have told.
#[derive(Default)]
struct Account {
    of: BTreeMap<(u64, u64), Fate>,
    /// The last message of each sender that came without a mark.
    last_unmarked: BTreeMap<u64, u64>,
    disorder: Option<String>,
}

impl Account {
    fn sent(&mut self, sender: u64, number: u64) {
        self.of.entry((sender, number)).or_default().is_sent = true;
    }

    fn came(&mut self, sender: u64, number: u64, is_marked: bool) {
        let fate = self.of.entry((sender, number)).or_default();
        fate.is_late |= !is_marked && fate.came > 0;
        fate.came += 1;
        fate.is_owed = true;
        if !is_marked {
            fate.unmarked += 1;
            let last = self.last_unmarked.insert(sender, number);
            if let Some(last) = last.filter(|last| *last > number) {
                self.disorder = Some(format!("message {number} of sender {sender} came after {last}"));
            }
        }
    }

    /// What a worker that is gone has told, to the end.
    fn hear_all(&mut self, worker: &Process) {
        while let Some(line) = worker.try_hear() {
            let words: Vec<u64> = line.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
            match (line.split(' ').next(), &words[..]) {
                (Some("has"), [sender, number, is_marked]) => self.came(*sender, *number, *is_marked != 0),
                (Some("acknowledges"), [sender, number]) => {
                    let fate = self.of.entry((*sender, *number)).or_default();
                    (fate.is_acknowledged, fate.is_owed) = (true, false);
                }
                _ => {}
            }
        }
    }

    /// What a sender that is gone has told, to the end.
    fn hear_sender(&mut self, sender: &Process, id: u64) {
        while let Some(line) = sender.try_hear() {
            if let Some(number) = line.strip_prefix("sent ").and_then(|number| number.parse().ok()) {
                self.sent(id, number);
            }
        }
    }

    /// The last receiver takes what comes until nothing is left anywhere.
    fn collect(&mut self, place: &Path) -> Result<u64, String> {
        let receiver = bind(place)?;
        let begin = Instant::now();
        loop {
            match receiver.recv_timeout(Duration::from_millis(3)) {
                Ok(Some(delivery)) => {
                    let (sender, number) = parsed(&delivery).ok_or("a message was changed on its way")?;
                    self.came(sender, number, delivery.is_redelivered());
                    let fate = self.of.entry((sender, number)).or_default();
                    (fate.is_acknowledged, fate.is_owed) = (true, false);
                }
                Ok(None) => {
                    let kept = stats(place)?;
                    if kept.left == 0 && kept.sessions == 0 && receiver.stats().senders == 0 {
                        return Ok(kept.handed_on);
                    }
                }
                Err(error) => return Err(format!("the last receiver fails: {error}")),
            }
            if begin.elapsed() > LIMIT {
                return Err(format!("something is left with the keeper for ever: {:?}", stats(place)?));
            }
        }
    }

    /// Whether all is as promised. Where the keeper was killed as well, messages may be lost.
    fn check(&self, is_kept: bool) -> Result<(), String> {
        if let Some(disorder) = &self.disorder {
            return Err(disorder.clone());
        }
        for ((sender, number), fate) in &self.of {
            let which = format!("message {number} of sender {sender}");
            if fate.unmarked > 1 {
                return Err(format!("{which} came {} times without a mark", fate.unmarked));
            }
            if fate.is_late {
                return Err(format!("{which} was in a dead one's hands, and came without a mark"));
            }
            if is_kept && fate.is_sent && !fate.is_acknowledged {
                return Err(format!("{which} was sent, and is lost: it came {} times", fate.came));
            }
            if is_kept && fate.is_owed {
                return Err(format!("{which} died with a receiver that had it"));
            }
        }
        Ok(())
    }
}

// ---- by chance ------------------------------------------------------------------------------------------------------

fn start_worker(place: &Path, seed: u64) -> Result<Process, String> {
    let worker = role::start("restarts_kept_worker", [place.as_os_str(), seed.to_string().as_ref()]);
    expect(&worker, "ready").map(|()| worker)
}

fn storm(dice: &mut Dice, sum: &mut Sum) -> Result<(), String> {
    let ground = Ground::new();
    let place = ground.socket();
    let mut keeper = start_keeper(&place)?;
    let mut account = Account::default();
    let mut worker = start_worker(&place, dice.any())?;
    let start = |id: u64, dice: &mut Dice| {
        let end = ["exit", "stay", "close"][dice.below(3) as usize];
        let id = id.to_string();
        role::start("restarts_kept_sender", [place.as_os_str(), id.as_ref(), end.as_ref()])
    };
    let mut senders: Vec<Process> = (1..=SENDERS).map(|id| start(id, dice)).collect();
    // One that is killed in the end may be in the middle of anything: its handshake, its first message, its move.
    let mut is_kept = true;
    for _ in 0..dice.below(5) {
        std::thread::sleep(dice.of_any_size_us(20_000));
        sum.kills += 1;
        match dice.below(8) {
            0 => {
                // What the dead had left there is lost.
                keeper.kill();
                is_kept = false;
                keeper = start_keeper(&place)?;
            }
            1..4 => {
                worker.kill();
                account.hear_all(&worker);
                worker = start_worker(&place, dice.any())?;
            }
            _ => {
                senders[dice.below(SENDERS) as usize].kill();
            }
        }
    }
    std::thread::sleep(dice.of_any_size_us(10_000));
    let is_worker_first = dice.once_in(2);
    if is_worker_first {
        worker.kill();
    }
    for sender in &mut senders {
        sender.kill();
    }
    worker.kill();
    sum.kills += SENDERS + 1;
    account.hear_all(&worker);
    senders.iter().zip(1..).for_each(|(sender, id)| account.hear_sender(sender, id));
    sum.handed_on += account.collect(&place)?;
    sum.sent += account.of.values().filter(|fate| fate.is_sent).count() as u64;
    sum.marked += account.of.values().map(|fate| fate.came - fate.unmarked).sum::<u64>();
    drop(keeper);
    account.check(is_kept)
}

/// The role: keeps until it is killed. `arguments`: the keeper's name.
pub fn play_keeper(parent: &Link, arguments: &[&str]) {
    let begin = Instant::now();
    let keeper = loop {
        match Keeper::start(arguments[0]) {
            Ok(keeper) => break keeper,
            // The one before was killed a moment ago.
            Err(error) if error.kind() == ErrorKind::NameTaken && begin.elapsed() < LIMIT => {}
            Err(error) => return parent.tell(format!("! {error}")),
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    parent.tell("keeps");
    drop(parent.hear_at_last());
    drop(keeper);
}

/// The role: receives, holds some, and acknowledges; with seed 0 it acknowledges nothing. `arguments`: the queue, the
/// seed.
pub fn play_worker(parent: &Link, arguments: &[&str]) {
    let seed: u64 = arguments[1].parse().expect("a seed");
    let receiver = bind(Path::new(arguments[0])).expect("it is bound");
    parent.tell("ready");
    let (mut dice, mut held) = (Dice::new(seed), Vec::new());
    loop {
        // What it holds it acknowledges while nothing comes, so that no sender waits for ever.
        let Ok(delivery) = receiver.recv_timeout(Duration::from_millis(2)) else { return };
        if let Some(delivery) = delivery {
            let Some((sender, number)) = parsed(&delivery) else {
                return parent.tell("! a message was changed on its way");
            };
            parent.tell(format_args!("has {sender} {number} {}", u64::from(delivery.is_redelivered())));
            held.push((sender, number, delivery));
        }
        while seed != 0 && !held.is_empty() && (held.len() > 8 || dice.once_in(3)) {
            let (sender, number, delivery) = held.remove(dice.below(held.len() as u64) as usize);
            parent.tell(format_args!("acknowledges {sender} {number}"));
            delivery.ack();
        }
    }
}

/// The role: sends messages, says so, and ends in one of three ways. `arguments`: the queue, its number, the way.
pub fn play_sender(parent: &Link, arguments: &[&str]) {
    let [place, id, end] = arguments[..] else { panic!("{arguments:?}") };
    let id: u64 = id.parse().expect("a number");
    let Ok(mut sender) = connect(Path::new(place)) else { return };
    for number in 0..EACH {
        if sender.send(&message(id, number)).is_err() {
            return;
        }
        parent.tell(format_args!("sent {number}"));
    }
    match end {
        "exit" => std::process::exit(0),
        "close" => drop(sender.close()),
        _ => {
            drop(parent.hear_at_last());
        }
    }
}
