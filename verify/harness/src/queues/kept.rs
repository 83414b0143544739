//! Queues with a keeper: a sender or a receiver is killed at each step of what it does, and the other side goes as
//! well. The next receiver gets, from the keeper, what a receiver gets otherwise whose sender lives: all that was
//! committed and not acknowledged, in order, and marked if it may have been in somebody's hands.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use wigwag::{Keeper, Receiver, Sender};
use wigwag_testing::{Ground, Process};

use super::steps::{BEFORE, TIME_LIMIT, builder, connect, message, number_of};
use crate::role;
use crate::scale::Trial;
use crate::step::tracer::Tracee;
use crate::step::walk::{self, Point};
use crate::step::{Counts, Depth, blows, is_wanted, make_repeatable};

/// What a victim does.
struct Operation {
    side: &'static str,
    name: &'static str,
    /// Whether every instruction of it is a point.
    is_every: bool,
    /// Messages that it sends, or takes in hand.
    handles: u64,
}

const OPERATIONS: &[Operation] = &[
    Operation { side: "sender", name: "connect", is_every: false, handles: 0 },
    Operation { side: "sender", name: "send", is_every: true, handles: 1 },
    Operation { side: "sender", name: "move", is_every: false, handles: 0 },
    Operation { side: "sender", name: "drop", is_every: false, handles: 0 },
    Operation { side: "kept-receiver", name: "receive", is_every: true, handles: 1 },
    Operation { side: "kept-receiver", name: "acknowledge", is_every: true, handles: 0 },
    Operation { side: "kept-receiver", name: "close", is_every: false, handles: 0 },
];

/// Visits the points; the figure.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    let mut counts = Counts::default();
    for operation in OPERATIONS.iter().filter(|operation| is_wanted(operation.name)) {
        let what = format!("kept, {}, {}", operation.side, operation.name);
        let points = points_of(operation).with_context(|| what.clone())?;
        let every = |ci: usize| if operation.is_every { 4 * ci } else { ci };
        let depth = trial.pick(Depth::Some(every(16)), Depth::Some(every(5)), Depth::Every(20_000));
        for point in depth.thin_out(&points, operation.name) {
            if counts.is_enough() {
                break;
            }
            counts.visits += 1;
            if let Err(error) = visit(operation, &point) {
                counts.find(format!("{what}, killed at {point:?}: {error:#}"));
            }
        }
    }
    findings.append(&mut counts.findings);
    Ok(format!("{} kills at the points of {} operations with a keeper", counts.visits, OPERATIONS.len()))
}

/// A victim on its way into an operation, the other side, and the keeper.
struct Stage {
    ground: Ground,
    _keeper: Process,
    receiver: Option<Receiver>,
    sender: Option<Sender>,
    victim: Process,
}

impl Stage {
    fn new(operation: &Operation) -> anyhow::Result<(Stage, Tracee)> {
        let ground = Ground::new();
        let place = ground.socket();
        let keeper = role::start("restarts_keeper", [place.as_os_str()]);
        ensure!(keeper.try_hear().as_deref() == Some("keeps"), "the keeper does not keep");
        let bind = || builder().kept_by(&place).bind(&place);
        let receiver = (operation.side == "sender").then(bind).transpose()?;
        let arguments = [place.clone().into_os_string(), operation.side.into(), operation.name.into()];
        let victim = role::start_with("queue-victim", arguments, make_repeatable);
        ensure!(victim.try_hear().as_deref() == Some("begun"), "the victim did not begin");
        let mut stage = Stage { ground, _keeper: keeper, receiver, sender: None, victim };
        if operation.side != "sender" {
            let mut sender = connect(&place)?;
            (0..BEFORE).try_for_each(|number| sender.send(&message(number)))?;
            stage.sender = Some(sender);
        }
        if operation.name == "move" {
            stage.receiver = None;
            stage.receiver = Some(bind()?);
        }
        let tracee = blows::seize(&mut stage.victim)?;
        Ok((stage, tracee))
    }

    /// Both sides are over, and the next receiver takes what comes until the keeper has nothing left.
    fn collect(&mut self) -> anyhow::Result<Vec<(u64, bool)>> {
        (self.receiver, self.sender) = (None, None);
        let place = self.ground.socket();
        let receiver = builder().kept_by(&place).bind(&place).context("there is no next receiver")?;
        let (begin, mut all) = (Instant::now(), Vec::new());
        loop {
            match receiver.recv_timeout(Duration::from_millis(2))? {
                Some(delivery) => all.push((number_of(&delivery)?, delivery.is_redelivered())),
                None => {
                    let kept = Keeper::stats_of(&place, TIME_LIMIT)?;
                    if kept.left == 0 && kept.sessions == 0 && receiver.stats().senders == 0 {
                        return Ok(all);
                    }
                    ensure!(begin.elapsed() < TIME_LIMIT, "something is left with the keeper: {kept:?}");
                }
            }
        }
    }

    /// Whether what came is what was committed and not acknowledged.
    fn check(&mut self, operation: &Operation, is_dead: bool) -> anyhow::Result<()> {
        let all = self.collect()?;
        let is_sender = operation.side == "sender";
        let before = if operation.name == "connect" { 0 } else { BEFORE };
        let sent = before + if is_sender { operation.handles } else { 0 };
        // What a living receiver had it has acknowledged, once it is told to end.
        let is_done = !is_dead && !is_sender && operation.name != "close";
        let may_be_acknowledged = operation.name == "acknowledge" || is_done;
        let mut unmarked = all.iter().filter(|(_, is_marked)| !is_marked).map(|&(number, _)| number);
        let order: Vec<u64> = unmarked.clone().collect();
        ensure!(order.is_sorted_by(|a, b| a < b), "messages came unmarked in the order {order:?}");
        let least = if is_dead || !is_sender { before } else { sent };
        for number in 0..least {
            let came: Vec<bool> = all.iter().filter(|(it, _)| *it == number).map(|(_, mark)| *mark).collect();
            let may_lack = may_be_acknowledged && (number == 0 || is_done);
            ensure!(may_lack || !came.is_empty(), "message {number} is lost: {all:?} came");
            ensure!(came.iter().skip(1).all(|mark| *mark), "message {number} came again without a mark");
            ensure!(operation.name == "move" || came.len() <= 1, "message {number} came {} times", came.len());
            let was_in_hand = !is_sender && number == 0;
            ensure!(!was_in_hand || came.iter().all(|mark| *mark), "message {number} comes without a mark");
        }
        ensure!(unmarked.all(|number| number < sent), "a message came that was not sent");
        Ok(())
    }
}

fn points_of(operation: &Operation) -> anyhow::Result<Vec<Point>> {
    let (mut stage, tracee) = Stage::new(operation)?;
    let points = blows::points_of(&stage.victim, tracee, operation.is_every)?;
    stage.comes_to_its_end(operation)?;
    Ok(points)
}

impl Stage {
    /// A victim that nothing was done to.
    fn comes_to_its_end(&mut self, operation: &Operation) -> anyhow::Result<()> {
        let said = self.victim.try_hear();
        ensure!(said.as_deref() == Some("done well"), "the victim says {said:?}");
        if operation.side == "sender" {
            self.victim.tell("end"); // it drops its sender
            let said = self.victim.try_hear();
            ensure!(said.as_deref() == Some("ended"), "the victim says {said:?}");
        }
        let is_dead = operation.side != "sender";
        if is_dead {
            self.victim.kill();
        }
        self.check(operation, is_dead)
    }
}

fn visit(operation: &Operation, point: &Point) -> anyhow::Result<()> {
    let (mut stage, mut tracee) = Stage::new(operation)?;
    if !walk::go_to(&mut tracee, point, || false)? {
        tracee.release()?; // the way was another one this time
        return stage.comes_to_its_end(operation);
    }
    stage.victim.kill();
    tracee.bury()?;
    stage.check(operation, true)
}
