//! A sender or a receiver at every step of what it does. A sender that is killed there has sent what it had committed,
//! and at most what it was about to; a receiver that is killed there has acknowledged what it had acknowledged, and all
//! else comes to the next one, marked if it was in hand. Stopped there, nobody else waits for it, and it goes on as if
//! nothing had been. Lied to there, it comes through.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use wigwag::{Delivery, ErrorKind, Receiver, ReceiverBuilder, Sender, Wait};
use wigwag_testing::{Ground, Link, Process, Snapshot, fill};

use crate::processors;
use crate::role;
use crate::scale::Trial;
use crate::step::blows::{self, EndBlow, Lies, Way, descriptors};
use crate::step::tracer::{Tracee, survive_marks};
use crate::step::victim::marked;
use crate::step::walk::{self, Point};
use crate::step::{Counts, Depth, is_wanted, make_repeatable};

/// Messages that a sender may have under way.
const SLOTS: usize = 8;
const CAPACITY: usize = 2000;
/// Messages that were sent before most operations.
pub(super) const BEFORE: u64 = 3;
/// How long an operation waits that gets nothing.
const WAIT: Duration = Duration::from_millis(60);
/// How long the other side may take: a busy machine, and a tracer beside.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(10);

/// An operation of a victim.
#[derive(Clone, Copy)]
struct Operation {
    side: Side,
    name: &'static str,
    /// Whether every instruction of it is a point; else those where memory changes, and both sides of system calls.
    is_every: bool,
    /// Messages that it sends, or takes in hand.
    handles: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Sender,
    Receiver,
}

impl Operation {
    /// Messages that were sent before it.
    fn before(&self) -> u64 {
        match self.name {
            "connect" => 0,
            "send-full" => SLOTS as u64,
            _ => BEFORE,
        }
    }
}

const OPERATIONS: &[Operation] = &[
    Operation { side: Side::Sender, name: "connect", is_every: false, handles: 0 },
    Operation { side: Side::Sender, name: "send", is_every: true, handles: 1 },
    Operation { side: Side::Sender, name: "commit-body", is_every: true, handles: 1 },
    Operation { side: Side::Sender, name: "send-batch", is_every: true, handles: 3 },
    Operation { side: Side::Sender, name: "send-full", is_every: false, handles: 0 },
    Operation { side: Side::Sender, name: "flush", is_every: false, handles: 0 },
    Operation { side: Side::Sender, name: "move", is_every: false, handles: 0 },
    Operation { side: Side::Sender, name: "drop", is_every: false, handles: 0 },
    Operation { side: Side::Receiver, name: "bind", is_every: false, handles: 0 },
    Operation { side: Side::Receiver, name: "receive", is_every: true, handles: 1 },
    Operation { side: Side::Receiver, name: "receive-batch", is_every: true, handles: 2 },
    Operation { side: Side::Receiver, name: "acknowledge", is_every: true, handles: 0 },
    Operation { side: Side::Receiver, name: "give-back", is_every: true, handles: 0 },
    Operation { side: Side::Receiver, name: "close", is_every: false, handles: 0 },
];

/// Words that a peer can reach: control lines, and turns and heads of slots in use, by docs/layout.md.
const WORDS: &[u64] = &[1024, 1032, 1152, 1160, 4096, 4104, 4160, 4168, 4224, 4232, 4288, 4296];
/// What they are changed to.
const VALUES: &[u64] = &[
    0,
    1,
    1 << 8,
    1 << 8 | 1,
    2 << 8 | 1,
    1 << 8 | 7,
    6 << 32 | 40,
    6 << 32 | 1 << 40 | (CAPACITY as u64 + 1),
    8 << 32 | 40,
    9 << 32,
    9 << 32 | 1,
    1 << 63,
    u64::MAX,
];

const LIES: Lies = Lies { words: WORDS, values: VALUES };

/// Visits all points; the figure.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    processors::share_one()?;
    let mut visits = [0; 3];
    let mut counts = Counts::default();
    for operation in OPERATIONS.iter().filter(|operation| is_wanted(operation.name)) {
        let what = format!("{:?}, {}", operation.side, operation.name);
        let points = points_of(operation).with_context(|| what.clone())?;
        let way = Way { what, operation: operation.name, points, depths: depths(trial, operation) };
        let visit = |point: &Point, blow| visit(operation, point, blow);
        blows::strike(trial, &way, &LIES, &mut visits, &mut counts, visit);
    }
    findings.append(&mut counts.findings);
    let [kills, stops, lies] = visits;
    Ok(format!("{kills} kills, {stops} stops and {lies} lies at the points of {} operations", OPERATIONS.len()))
}

/// How many of an operation's points are visited, for each kind of blow.
fn depths(trial: &Trial, operation: &Operation) -> [Depth; 3] {
    // Short operations have some hundred instructions, of which most change nothing.
    let every = |ci: usize| if operation.is_every { ci } else { 1 };
    trial.pick(
        [Depth::Some(13 * every(6)), Depth::Some(31 * every(6)), Depth::Some(29 * every(6))],
        [Depth::Some(every(4)), Depth::Some(every(9)), Depth::Some(every(4))],
        [Depth::Every(20_000), Depth::Every(5_000), Depth::Every(20_000)],
    )
}

// ---- messages -------------------------------------------------------------------------------------------------------

/// Message `number`; every other one lies in the body.
pub(super) fn message(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; if number.is_multiple_of(2) { 40 } else { 1500 }];
    fill(&mut bytes, number);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The number of a message that is whole.
pub(super) fn number_of(delivery: &Delivery) -> anyhow::Result<u64> {
    let number = u64::from_le_bytes(delivery.get(..8).context("a message without a number")?.try_into()?);
    ensure!(delivery[..] == message(number)[..], "message {number} is not what was sent");
    Ok(number)
}

fn bind(place: &Path) -> wigwag::Result<Receiver> {
    builder().bind(place)
}

/// A receiver to be.
pub(super) fn builder() -> ReceiverBuilder {
    Receiver::builder().slots(SLOTS).capacity(CAPACITY).wait(Wait::Park)
}

pub(super) fn connect(place: &Path) -> wigwag::Result<Sender> {
    Sender::builder()
        .linger(Duration::ZERO)
        .wait(Wait::Park)
        .timeout(TIME_LIMIT)
        .server_timeout(TIME_LIMIT)
        .connect(place)
}

/// What comes to a receiver until all senders are gone: numbers and marks.
fn receive_all(receiver: &Receiver) -> anyhow::Result<Vec<(u64, bool)>> {
    let (begin, mut all) = (Instant::now(), Vec::new());
    loop {
        let are_gone = receiver.stats().senders == 0;
        match receiver.recv_timeout(Duration::from_millis(2))? {
            Some(delivery) => all.push((number_of(&delivery)?, delivery.is_redelivered())),
            None if are_gone => return Ok(all),
            None => ensure!(begin.elapsed() < TIME_LIMIT, "a sender that is gone is still there"),
        }
    }
}

// ---- the stage ------------------------------------------------------------------------------------------------------

/// A victim on its way into an operation, and the other side.
struct Stage {
    ground: Ground,
    receiver: Option<Receiver>,
    sender: Option<Sender>,
    victim: Process,
}

impl Stage {
    fn new(operation: &Operation) -> anyhow::Result<(Stage, Tracee)> {
        let ground = Ground::new();
        let place = ground.socket();
        let receiver = (operation.side == Side::Sender).then(|| bind(&place)).transpose()?;
        let side = if operation.side == Side::Sender { "sender" } else { "receiver" };
        let arguments = [place.clone().into_os_string(), side.into(), operation.name.into()];
        let victim = role::start_with("queue-victim", arguments, make_repeatable);
        ensure!(victim.try_hear().as_deref() == Some("begun"), "the victim did not begin");
        let mut stage = Stage { ground, receiver, sender: None, victim };
        if operation.side == Side::Receiver && operation.name != "bind" {
            let mut sender = connect(&place)?;
            (0..BEFORE).try_for_each(|number| sender.send(&message(number)))?;
            stage.sender = Some(sender);
        }
        if operation.name == "move" {
            stage.receiver = None;
            stage.receiver = Some(bind(&place)?);
        }
        let tracee = blows::seize(&mut stage.victim)?;
        Ok((stage, tracee))
    }

    /// Another queue, whatever became of this one; and another sender of this one, if its receiver lives.
    fn others_work(&self) -> anyhow::Result<()> {
        let place = self.ground.path("others");
        let receiver = bind(&place).context("nobody else can receive")?;
        let mut sender = connect(&place).context("nobody else can send")?;
        sender.send(&message(7))?;
        let delivery = receiver.recv_timeout(TIME_LIMIT)?.context("nobody else is received")?;
        ensure!(number_of(&delivery)? == 7, "somebody else's message is another");
        delivery.ack();
        sender.close()?;
        Ok(())
    }

    /// What a sender sent that is gone: what it had committed, and at most what it was about to.
    fn of_sender(&self, operation: &Operation, is_dead: bool) -> anyhow::Result<()> {
        let receiver = self.receiver.as_ref().context("there is a receiver")?;
        let all = receive_all(receiver)?;
        let before = operation.before();
        // A sender that dies as it moves on from a receiver that is gone may lose what both had.
        let least = match (is_dead, operation.name) {
            (true, "move") => 0,
            (true, _) => before,
            (false, _) => before + operation.handles,
        };
        let numbers: Vec<u64> = all.iter().map(|&(number, _)| number).collect();
        let count = numbers.len() as u64;
        ensure!(numbers == (0..count).collect::<Vec<_>>(), "messages came in the order {numbers:?}");
        ensure!(
            (least..=before + operation.handles).contains(&count),
            "{count} messages came of a sender that had committed {before} and was about to commit {}",
            operation.handles
        );
        ensure!(all.iter().all(|&(_, is_marked)| !is_marked), "a message is marked that nobody has had");
        Ok(())
    }

    /// What the next receiver gets when one is gone.
    fn of_receiver(&mut self, operation: &Operation) -> anyhow::Result<()> {
        let receiver = bind(&self.ground.socket()).context("there is no next receiver")?;
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => {
                let mut sender = connect(&self.ground.socket())?;
                (0..BEFORE).try_for_each(|number| sender.send(&message(number)))?;
                sender
            }
        };
        let all = std::thread::scope(|scope| {
            let receiving = scope.spawn(|| receive_all_of_one(&receiver));
            sender.close().context("not all is acknowledged")?;
            receiving.join().expect("it receives")
        })?;
        let numbers: Vec<u64> = all.iter().map(|&(number, _)| number).collect();
        let may_lack_first = operation.name == "acknowledge";
        let is_right = numbers == [0, 1, 2] || may_lack_first && numbers == [1, 2];
        ensure!(is_right, "the next receiver got {numbers:?}");
        for (number, is_marked) in all {
            let was_in_hand = number == 0 && operation.name != "bind";
            let may_have_been = was_in_hand || number <= operation.handles && operation.handles > 0;
            ensure!(is_marked || !was_in_hand, "message {number} was in a dead one's hands, and comes without a mark");
            ensure!(!is_marked || may_have_been, "message {number} is marked, and nobody has had it");
        }
        Ok(())
    }
}

/// As [`receive_all`], from when the first sender is there.
fn receive_all_of_one(receiver: &Receiver) -> anyhow::Result<Vec<(u64, bool)>> {
    let begin = Instant::now();
    while receiver.stats().senders_accepted == 0 {
        ensure!(begin.elapsed() < TIME_LIMIT, "nobody comes to the next receiver");
        std::thread::sleep(Duration::from_micros(200));
    }
    receive_all(receiver)
}

fn points_of(operation: &Operation) -> anyhow::Result<Vec<Point>> {
    let (mut stage, tracee) = Stage::new(operation)?;
    let points = blows::points_of(&stage.victim, tracee, operation.is_every)?;
    stage.comes_to_its_end(operation)?;
    Ok(points)
}

impl Stage {
    /// A victim that nothing was done to, or that stood still for a while.
    fn comes_to_its_end(&mut self, operation: &Operation) -> anyhow::Result<()> {
        let said = self.victim.try_hear();
        ensure!(said.as_deref() == Some("done well"), "the victim says {said:?}");
        self.victim.tell("end");
        match operation.side {
            Side::Sender => {
                let said = self.victim.try_hear();
                ensure!(said.as_deref() == Some("ended"), "the victim says {said:?}");
                self.of_sender(operation, false)
            }
            Side::Receiver if operation.name == "close" => self.of_receiver(operation),
            Side::Receiver => {
                if let Some(sender) = self.sender.take() {
                    sender.close().context("a receiver that lives has not acknowledged all")?;
                }
                let said = self.victim.try_hear();
                ensure!(said.as_deref() == Some("ended"), "the victim says {said:?}");
                Ok(())
            }
        }
    }
}

fn visit(operation: &Operation, point: &Point, blow: EndBlow) -> anyhow::Result<()> {
    let before = descriptors();
    let (mut stage, mut tracee) = Stage::new(operation)?;
    let is_there = walk::go_to(&mut tracee, point, || false)?;
    match blow {
        _ if !is_there => {
            tracee.release()?; // the way was another one this time
            stage.comes_to_its_end(operation)?;
        }
        EndBlow::Kill => {
            stage.victim.kill();
            tracee.bury()?;
            match operation.side {
                Side::Sender => {
                    // Every other time its death is known before anything is received.
                    if point.step.is_multiple_of(2) {
                        std::thread::sleep(Duration::from_millis(4));
                    }
                    stage.of_sender(operation, true)?;
                }
                Side::Receiver => stage.of_receiver(operation)?,
            }
        }
        EndBlow::Stop => {
            stage.others_work()?;
            tracee.release()?;
            stage.comes_to_its_end(operation)?;
        }
        EndBlow::Lie(offset, value) => blows::lie(&mut stage.victim, tracee, offset, value)?,
    }
    if !matches!(blow, EndBlow::Lie(..)) {
        stage.others_work()?;
    }
    drop(stage);
    let begin = Instant::now();
    loop {
        let segments = Snapshot::of(std::process::id()).segments;
        if descriptors() <= before && segments == 0 {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < TIME_LIMIT,
            "{} descriptors are left where {before} were, and {segments} segments",
            descriptors()
        );
        std::thread::sleep(Duration::from_micros(200));
    }
}

// ---- the victim -----------------------------------------------------------------------------------------------------

/// The role: does one operation between two marks.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [place, side, operation] = arguments else { panic!("a victim needs a path, a side and an operation") };
    survive_marks();
    let place = Path::new(place);
    match *side {
        "sender" => play_sender(parent, place, operation),
        "kept-receiver" => play_receiver(parent, operation, || builder().kept_by(place).bind(place)),
        _ => play_receiver(parent, operation, || bind(place)),
    }
}

fn go(parent: &Link) {
    assert_eq!(parent.hear().as_deref(), Some("go"));
}

/// The parent is told that it begins, and has a hold on this thread after that.
fn begin(parent: &Link) {
    go(parent);
    parent.tell(format_args!("ready {}", rustix::thread::gettid().as_raw_nonzero()));
    go(parent);
}

fn play_sender(parent: &Link, place: &Path, operation: &str) {
    if operation == "connect" {
        parent.tell("begun");
        begin(parent);
        let sender = marked(|| connect(place));
        return end(parent, sender.is_ok(), || drop(sender));
    }
    let mut sender = connect(place).expect("a receiver");
    let before = if operation == "send-full" { SLOTS as u64 } else { BEFORE };
    (0..before).for_each(|number| sender.send(&message(number)).expect("there is room"));
    let messages: Vec<Vec<u8>> = (before..before + 3).map(message).collect();
    parent.tell("begun");
    begin(parent);
    let is_fine = |outcome: wigwag::Result<()>| match outcome {
        Ok(()) => true,
        Err(error) => matches!(error.kind(), ErrorKind::TimedOut { .. }),
    };
    let is_well = match operation {
        "send" => marked(|| sender.send(&messages[0])).is_ok(),
        "commit-body" => marked(|| {
            sender.loan(messages[0].len()).and_then(|mut draft| {
                draft.copy_from_slice(&messages[0]);
                draft.commit()
            })
        })
        .is_ok(),
        "send-batch" => marked(|| sender.send_batch(&messages)).is_ok(),
        "send-full" => {
            let outcome = marked(|| sender.send_timeout(&messages[0], WAIT));
            matches!(outcome, Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }))
        }
        "flush" => is_fine(marked(|| sender.flush(WAIT))),
        "move" => is_fine(marked(|| sender.flush(WAIT))) && sender.stats().reconnects == 1,
        "drop" => {
            marked(move || drop(sender));
            return end(parent, true, || ());
        }
        other => panic!("{other}?"),
    };
    end(parent, is_well, || drop(sender));
}

fn play_receiver(parent: &Link, operation: &str, bind: impl FnOnce() -> wigwag::Result<Receiver>) {
    if operation == "bind" {
        parent.tell("begun");
        begin(parent);
        let receiver = marked(bind);
        return end(parent, receiver.is_ok(), || drop(receiver));
    }
    let receiver = bind().expect("the name is free");
    parent.tell("begun");
    let first = receiver.recv_timeout(TIME_LIMIT).expect("it receives").expect("a message");
    // All three are there before anything is looked at.
    std::thread::sleep(Duration::from_millis(2));
    begin(parent);
    let mut held = Vec::new();
    let is_well = match operation {
        "receive" => {
            let second = marked(|| receiver.try_recv());
            held.push(first);
            let is_well = matches!(&second, Ok(Some(second)) if second.starts_with(&1u64.to_le_bytes()));
            held.extend(second.ok().flatten());
            is_well
        }
        "receive-batch" => {
            let batch = marked(|| receiver.try_recv_batch(2));
            held.push(first);
            let batch: Vec<Delivery> = batch.ok().flatten().into_iter().flatten().collect();
            let is_well = batch.len() == 2;
            held.extend(batch);
            is_well
        }
        "acknowledge" => {
            marked(|| first.ack());
            true
        }
        "give-back" => {
            marked(|| first.nack());
            true
        }
        "close" => {
            std::mem::forget(first);
            marked(move || drop(receiver));
            return end(parent, true, || ());
        }
        other => panic!("{other}?"),
    };
    end(parent, is_well, || {
        drop(held);
        while receiver.stats().senders > 0 {
            let _ = receiver.recv_timeout(Duration::from_millis(1));
        }
    });
}

fn end(parent: &Link, is_well: bool, finally: impl FnOnce()) {
    parent.tell(if is_well { "done well" } else { "done otherwise" });
    if parent.hear().as_deref() == Some("end") {
        finally();
        parent.tell("ended");
        let _ = parent.hear();
    }
}
