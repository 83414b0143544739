//! The parties of a semaphore: all of them want permits, blocking and in tasks, for a while or to be kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag::{Error, ErrorKind, OwnedPermit, OwnedPermits, Result, Semaphore};
use wigwag_testing::word;

use super::act::{Actor, forked, poll_once, runtime, within};
use super::plan::{Face, Fork, History, How, Step};
use super::stage::{Stage, Word};

/// The cell of the permits that are held for sure by those whom nobody kills.
const HELD: usize = 0;
/// The cell of the permits that came with the word that their last holder had died.
const TOLD: usize = 1;
/// How long one who keeps permits waits for more: others may wait for those.
const PATIENCE_US: u64 = 2000;

/// A semaphore of one of the faces.
enum Gate {
    Blocking(Arc<Semaphore>),
    Tasks(wigwag::tokio::Semaphore),
}

/// Permits that keep their semaphore.
enum Owned {
    One(OwnedPermit),
    Several(OwnedPermits),
}

impl Owned {
    fn recovered(&self) -> usize {
        match self {
            Owned::One(permit) => permit.recovered().into(),
            Owned::Several(permits) => permits.recovered(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Owned::One(_) => 1,
            Owned::Several(permits) => permits.len(),
        }
    }
}

impl Gate {
    async fn open(actor: &Actor) -> Result<Gate> {
        let (name, permits) = (actor.stage.name(), actor.party().slots);
        Ok(match actor.party().face {
            Face::Blocking => Gate::Blocking(Arc::new(Semaphore::open(name, permits)?)),
            _ => Gate::Tasks(wigwag::tokio::Semaphore::open(name, permits).await?),
        })
    }

    fn available(&self) -> usize {
        match self {
            Gate::Blocking(semaphore) => semaphore.available(),
            Gate::Tasks(semaphore) => semaphore.available(),
        }
    }

    /// Permits that can be kept; `None`: they were given up.
    async fn acquire(&self, permits: usize, how: How) -> Option<Result<Owned>> {
        match self {
            Gate::Blocking(semaphore) if permits == 1 => Some(
                match how {
                    How::Forever => semaphore.acquire_owned(),
                    How::Try | How::PolledOnce => semaphore.try_acquire_owned(),
                    How::For(us) => semaphore.acquire_owned_timeout(Duration::from_micros(us)),
                }
                .map(Owned::One),
            ),
            Gate::Blocking(semaphore) => Some(
                match how {
                    How::Forever => semaphore.acquire_many_owned(permits),
                    How::Try | How::PolledOnce => semaphore.try_acquire_many_owned(permits),
                    How::For(us) => semaphore.acquire_many_owned_timeout(permits, Duration::from_micros(us)),
                }
                .map(Owned::Several),
            ),
            Gate::Tasks(semaphore) => acquire_in_task(semaphore, permits, how).await,
        }
    }

    /// What a forked child must be told.
    fn refuses_in_child(self) -> std::result::Result<(), String> {
        let outcome = match &self {
            Gate::Blocking(semaphore) => semaphore.try_acquire_owned(),
            Gate::Tasks(semaphore) => semaphore.try_acquire(),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
            other => Err(format!("try_acquire in a forked child: {other:?}")),
        }
    }
}

/// A time is up by the semaphore's own doing, or because the future is dropped.
async fn acquire_in_task(semaphore: &wigwag::tokio::Semaphore, permits: usize, how: How) -> Option<Result<Owned>> {
    match (how, permits) {
        (How::Try, 1) => Some(semaphore.try_acquire().map(Owned::One)),
        (How::Try, _) => Some(semaphore.try_acquire_many(permits).map(Owned::Several)),
        (How::For(us), 1) if us % 2 == 0 => {
            Some(semaphore.acquire_timeout(Duration::from_micros(us)).await.map(Owned::One))
        }
        (How::For(us), _) if us % 2 == 0 => {
            Some(semaphore.acquire_many_timeout(permits, Duration::from_micros(us)).await.map(Owned::Several))
        }
        (how, 1) => within(how, semaphore.acquire()).await.map(|outcome| outcome.map(Owned::One)),
        (how, _) => within(how, semaphore.acquire_many(permits)).await.map(|outcome| outcome.map(Owned::Several)),
    }
}

/// One who wants permits.
pub fn guest(actor: &Actor) {
    let play = async {
        match Gate::open(actor).await {
            Ok(gate) => Guest { actor, gate, kept: Vec::new() }.play().await,
            Err(error) => actor.complain(format!("open: {error:?}")),
        }
    };
    match actor.party().face {
        Face::Blocking => {
            if poll_once(play).is_none() {
                actor.complain("a blocking semaphore waited for a reactor");
            }
        }
        face => runtime(face).block_on(play),
    }
}

struct Guest<'a> {
    actor: &'a Actor,
    gate: Gate,
    kept: Vec<Owned>,
}

impl Guest<'_> {
    async fn play(mut self) {
        for index in 0..self.actor.party().steps.len() {
            if let Some(step) = self.actor.begin(index) {
                self.step(step).await;
            }
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Acquire(permits, how, keep_us) => {
                let how = self.possible(how);
                match &self.gate {
                    Gate::Blocking(semaphore) => borrow(self.actor, semaphore, permits, how, keep_us),
                    Gate::Tasks(semaphore) => own(self.actor, semaphore, permits, how, keep_us).await,
                }
            }
            Step::Keep(permits, how) => self.keep(permits, self.possible(how)).await,
            Step::Release => self.release(),
            Step::Rush(tasks, permits) => self.rush(tasks, permits).await,
            Step::Reopen => match Gate::open(self.actor).await {
                Ok(opened) => self.gate = opened,
                Err(error) => self.actor.complain(format!("open: {error:?}")),
            },
            Step::Fork(fork) => self.fork(fork),
            _ => {}
        }
    }

    /// Those who keep permits and wait for more for ever would wait for each other.
    fn possible(&self, how: How) -> How {
        if how == How::Forever && !self.kept.is_empty() { How::For(PATIENCE_US) } else { how }
    }

    fn fork(&self, fork: Fork) {
        forked(self.actor, fork, &self.gate, Gate::refuses_in_child);
    }

    async fn keep(&mut self, permits: usize, how: How) {
        may_hold(self.actor, permits);
        match self.gate.acquire(permits, how).await {
            Some(Ok(owned)) => {
                begin(self.actor, owned.len(), owned.recovered());
                return self.kept.push(owned);
            }
            Some(Err(error)) => refused(self.actor, permits, how, &error),
            None => {}
        }
        may_hold_no_more(self.actor, permits);
    }

    fn release(&mut self) {
        for owned in self.kept.drain(..) {
            let permits = owned.len();
            end(self.actor, permits);
            drop(owned);
            may_hold_no_more(self.actor, permits);
        }
        let (available, most) = (self.gate.available(), self.actor.party().slots);
        if available > most {
            self.actor.complain(format!("{available} permits are free of {most}"));
        }
    }

    /// Several tasks want permits at the same time; one of them waits for as long as it takes, if none are kept here.
    async fn rush(&self, tasks: usize, permits: usize) {
        let Gate::Tasks(semaphore) = &self.gate else { return };
        let spawned: Vec<_> = (0..tasks as u64)
            .map(|task| {
                let Actor { stage, history, me } = self.actor;
                let (semaphore, me) = (semaphore.clone(), *me);
                let actor = Actor { stage: Arc::clone(stage), history: Arc::clone(history), me };
                let dice = word(history.seed, task << 8 | me as u64);
                let how = match dice % 4 {
                    0 if task == 0 => self.possible(How::Forever),
                    1 => How::PolledOnce,
                    _ => How::For(dice >> 8 & 0x1ff),
                };
                tokio::spawn(async move { own(&actor, &semaphore, permits, how, dice >> 20 & 0x3f).await })
            })
            .collect();
        for task in spawned {
            if let Err(error) = task.await {
                self.actor.complain(format!("a task that wants permits: {error}"));
            }
        }
    }
}

impl Drop for Guest<'_> {
    /// Also in a panic.
    fn drop(&mut self) {
        self.release();
    }
}

/// Takes permits that are borrowed, and keeps them for so long.
fn borrow(actor: &Actor, semaphore: &Semaphore, permits: usize, how: How, keep_us: u64) {
    may_hold(actor, permits);
    let for_us = |us| Duration::from_micros(us);
    if permits == 1 {
        let outcome = match how {
            How::Forever => semaphore.acquire(),
            How::Try | How::PolledOnce => semaphore.try_acquire(),
            How::For(us) => semaphore.acquire_timeout(for_us(us)),
        };
        match outcome {
            Ok(permit) => {
                begin(actor, 1, usize::from(permit.recovered()));
                hold(actor, semaphore.available(), keep_us);
                end(actor, 1);
                drop(permit);
            }
            Err(error) => refused(actor, permits, how, &error),
        }
    } else {
        let outcome = match how {
            How::Forever => semaphore.acquire_many(permits),
            How::Try | How::PolledOnce => semaphore.try_acquire_many(permits),
            How::For(us) => semaphore.acquire_many_timeout(permits, for_us(us)),
        };
        match outcome {
            Ok(several) => {
                if several.len() != permits {
                    actor.complain(format!("{} permits came instead of {permits}", several.len()));
                }
                begin(actor, permits, several.recovered());
                hold(actor, semaphore.available(), keep_us);
                end(actor, permits);
                drop(several);
            }
            Err(error) => refused(actor, permits, how, &error),
        }
    }
    may_hold_no_more(actor, permits);
}

/// Takes permits in a task, and keeps them for so long.
async fn own(actor: &Actor, semaphore: &wigwag::tokio::Semaphore, permits: usize, how: How, keep_us: u64) {
    may_hold(actor, permits);
    match acquire_in_task(semaphore, permits, how).await {
        Some(Ok(owned)) => {
            if owned.len() != permits {
                actor.complain(format!("{} permits came instead of {permits}", owned.len()));
            }
            begin(actor, permits, owned.recovered());
            if keep_us > 0 {
                tokio::time::sleep(Duration::from_micros(keep_us)).await;
            }
            hold(actor, semaphore.available(), 0);
            end(actor, permits);
            drop(owned);
        }
        Some(Err(error)) => refused(actor, permits, how, &error),
        None => {}
    }
    may_hold_no_more(actor, permits);
}

/// Whether somebody kills that party, so that what it holds cannot be counted.
fn is_victim(history: &History, party: usize) -> bool {
    history.steps().any(|step| *step == Step::Kill(party))
}

/// From now on it may have them.
fn may_hold(actor: &Actor, permits: usize) {
    actor.stage.of(actor.me, Word::MayHold).fetch_add(permits as u64, Ordering::SeqCst);
}

/// It gave them back, or never had them.
fn may_hold_no_more(actor: &Actor, permits: usize) {
    actor.stage.of(actor.me, Word::MayHold).fetch_sub(permits as u64, Ordering::SeqCst);
}

/// It has them for sure.
fn begin(actor: &Actor, permits: usize, recovered: usize) {
    let Actor { stage, history, me } = actor;
    if recovered > 0 {
        stage.cell(TOLD).fetch_add(recovered as u64, Ordering::SeqCst);
        let is_anybody_dead = history.guests().any(|(party, _)| stage.read(party, Word::Dying) != 0);
        if !is_anybody_dead {
            actor.complain("a holder's death was told, and nobody was killed");
        }
    }
    stage.of(*me, Word::Holding).fetch_add(permits as u64, Ordering::SeqCst);
    if !is_victim(history, *me) {
        let held = stage.cell(HELD).fetch_add(permits as u64, Ordering::SeqCst) + permits as u64;
        let most = actor.party().slots as u64;
        if held > most {
            actor.complain(format!("{held} permits are held, and there are {most}"));
        }
    }
}

/// It holds them.
fn hold(actor: &Actor, available: usize, keep_us: u64) {
    if keep_us > 0 {
        std::thread::sleep(Duration::from_micros(keep_us));
    }
    if available > actor.party().slots {
        actor.complain(format!("{available} permits are free of {}", actor.party().slots));
    }
}

/// It gives them back now.
fn end(actor: &Actor, permits: usize) {
    let Actor { stage, history, me } = actor;
    if !is_victim(history, *me) {
        stage.cell(HELD).fetch_sub(permits as u64, Ordering::SeqCst);
    }
    stage.of(*me, Word::Holding).fetch_sub(permits as u64, Ordering::SeqCst);
}

fn refused(actor: &Actor, permits: usize, how: How, error: &Error) {
    let is_right = match error.kind() {
        ErrorKind::Full => matches!(how, How::Try | How::PolledOnce),
        ErrorKind::TimedOut { .. } => matches!(how, How::For(_)),
        ErrorKind::InvalidConfiguration => permits > actor.party().slots || permits == 0,
        _ => false,
    };
    if !is_right {
        actor.complain(format!("acquiring {permits} permits, {how:?}: {error:?}"));
    }
}

/// What must hold in the end.
pub fn judge(stage: &Stage, history: &History, anchor: &Semaphore) {
    let permits = anchor.permits();
    let mut told = stage.cell(TOLD).load(Ordering::SeqCst);
    match anchor.acquire_many_timeout(permits, Duration::from_secs(20)) {
        Ok(all) => told += all.recovered() as u64,
        Err(error) => stage.complain(format!("everybody is done, and {permits} permits cannot be had: {error:?}")),
    }
    if anchor.available() != permits {
        stage.complain(format!("everybody is done, and {} of {permits} permits are free", anchor.available()));
    }
    let dead = || history.guests().filter(|(party, _)| stage.read(*party, Word::Dying) != 0);
    let surely: u64 = dead().map(|(party, _)| stage.read(party, Word::Holding)).sum();
    let at_most: u64 = dead().map(|(party, _)| stage.read(party, Word::MayHold)).sum();
    if told > at_most {
        stage.complain(format!("the death of holders was told {told} times, and they had {at_most} permits at most"));
    }
    if told == 0 && surely > 0 {
        stage.complain(format!("who died held {surely} permits, and their death was told nobody"));
    }
}
