//! The parties of a semaphore: all of them want permits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag::{Error, ErrorKind, Semaphore};

use super::act::{Actor, forked};
use super::plan::{History, How, Step};
use super::stage::{Stage, Word};

/// The cell of the permits that are held for sure by those whom nobody kills.
const HELD: usize = 0;
/// The cell of the permits that came with the word that their last holder had died.
const TOLD: usize = 1;

/// One who wants permits.
pub fn guest(actor: &Actor) {
    let party = actor.party();
    let open = || Semaphore::open(actor.stage.name(), party.slots);
    let mut semaphore = match open() {
        Ok(semaphore) => semaphore,
        Err(error) => return actor.complain(format!("open: {error:?}")),
    };
    for index in 0..party.steps.len() {
        match actor.begin(index) {
            Some(Step::Acquire(permits, how, keep_us)) => acquire(actor, &semaphore, permits, how, keep_us),
            Some(Step::Reopen) => match open() {
                Ok(opened) => semaphore = opened,
                Err(error) => actor.complain(format!("open: {error:?}")),
            },
            Some(Step::Fork(fork)) => forked(actor, fork, &semaphore, |semaphore| match semaphore.try_acquire() {
                Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
                other => Err(format!("try_acquire in a forked child: {other:?}")),
            }),
            _ => {}
        }
    }
}

fn acquire(actor: &Actor, semaphore: &Semaphore, permits: usize, how: How, keep_us: u64) {
    let Actor { stage, me, .. } = actor;
    stage.set(*me, Word::MayHold, permits as u64);
    let for_us = |us| Duration::from_micros(us);
    if permits == 1 {
        let outcome = match how {
            How::Forever => semaphore.acquire(),
            How::Try | How::PolledOnce => semaphore.try_acquire(),
            How::For(us) => semaphore.acquire_timeout(for_us(us)),
        };
        match outcome {
            Ok(permit) => {
                hold(actor, semaphore, 1, usize::from(permit.recovered()), keep_us);
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
                hold(actor, semaphore, permits, several.recovered(), keep_us);
                drop(several);
            }
            Err(error) => refused(actor, permits, how, &error),
        }
    }
    stage.set(*me, Word::MayHold, 0);
}

/// Whether somebody kills that party, so that what it holds cannot be counted.
fn is_victim(history: &History, party: usize) -> bool {
    history.steps().any(|step| *step == Step::Kill(party))
}

fn hold(actor: &Actor, semaphore: &Semaphore, permits: usize, recovered: usize, keep_us: u64) {
    let Actor { stage, history, me } = actor;
    let is_counted = !is_victim(history, *me);
    if recovered > 0 {
        stage.cell(TOLD).fetch_add(recovered as u64, Ordering::SeqCst);
        let is_anybody_dead = history.guests().any(|(party, _)| stage.read(party, Word::Dying) != 0);
        if !is_anybody_dead {
            actor.complain("a holder's death was told, and nobody was killed");
        }
    }
    stage.set(*me, Word::Holding, permits as u64);
    if is_counted {
        let held = stage.cell(HELD).fetch_add(permits as u64, Ordering::SeqCst) + permits as u64;
        let most = actor.party().slots as u64;
        if held > most {
            actor.complain(format!("{held} permits are held, and there are {most}"));
        }
    }
    if keep_us > 0 {
        std::thread::sleep(Duration::from_micros(keep_us));
    }
    if semaphore.available() > actor.party().slots {
        actor.complain(format!("{} permits are free of {}", semaphore.available(), actor.party().slots));
    }
    if is_counted {
        stage.cell(HELD).fetch_sub(permits as u64, Ordering::SeqCst);
    }
    stage.set(*me, Word::Holding, 0);
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
