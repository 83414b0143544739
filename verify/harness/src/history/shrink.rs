//! The smallest history that still fails: parties and steps are taken away as long as it does.

use std::time::Instant;

use super::plan::{Claim, Face, History, Home, Keeping, Linger, Role, Step};

/// Tries of each smaller history, as what fails may fail now and then only.
const TRIES: usize = 6;

/// The smallest one found until then. `fails` runs a history in a process of its own, and has ended by then.
pub fn shrink(history: &History, until: Instant, fails: impl Fn(&History) -> bool) -> History {
    let is_over = || Instant::now() >= until;
    let mut smallest = history.clone();
    loop {
        let found = smaller(&smallest)
            .into_iter()
            .find(|candidate| !is_over() && (0..TRIES).any(|_| !is_over() && fails(candidate)));
        match found {
            Some(found) => smallest = found,
            None => return smallest,
        }
    }
}

/// Histories that are a little smaller, the much smaller first. Parties keep their numbers: one that is taken away does
/// nothing.
fn smaller(history: &History) -> Vec<History> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut History)| {
        let mut candidate = history.clone();
        change(&mut candidate);
        if candidate != *history {
            found.push(candidate);
        }
    };
    let parties = 0..history.parties.len();
    for party in parties.clone() {
        with(&|history| history.parties[party].steps.clear());
    }
    for party in parties.clone() {
        let steps = history.parties[party].steps.len();
        let mut width = steps / 2;
        while width > 0 {
            for from in (0..steps).step_by(width) {
                with(&|history| drop(history.parties[party].steps.drain(from..(from + width).min(steps))));
            }
            width /= 2;
        }
    }
    for party in parties {
        with(&|history| history.parties[party].home = Home::Thread);
        with(&|history| history.parties[party].face = Face::Blocking);
        with(&|history| history.parties[party].claim = Claim::InTurn);
        with(&|history| history.parties[party].keeping = Keeping::None);
        with(&|history| history.parties[party].linger = Linger::Short);
        with(&|history| history.parties[party].airing.retain = None);
        with(&|history| {
            let airing = &mut history.parties[party].airing;
            (airing.patience_us, airing.retain) = (None, None); // only who waits can retain less
        });
        with(&|history| history.parties[party].airing.follows_us = 0);
        with(&|history| history.parties[party].delay_us = 0);
        if history.parties[party].role != Role::Director {
            for step in 0..history.parties[party].steps.len() {
                with(&|history| history.parties[party].steps[step] = simpler(history.parties[party].steps[step]));
            }
        }
    }
    found
}

/// The same step with less in it.
fn simpler(step: Step) -> Step {
    match step {
        Step::Crowd(sessions, rounds) if rounds > 1 => Step::Crowd(sessions, rounds - 1),
        Step::Crowd(sessions, rounds) => Step::Crowd(sessions - sessions / 8, rounds),
        Step::Serve(several) => Step::Serve((several - 1).max(1)),
        Step::TakeBatch(most, how, fate) if most > 1 => Step::TakeBatch(most / 2, how, fate),
        Step::Write(len, way) => Step::Write(len.div_ceil(2), way),
        Step::Read(len, way) => Step::Read(len.div_ceil(2), way),
        Step::Both(len) => Step::Both(len / 2),
        Step::SendBatch(count, len) if count > 1 => Step::SendBatch(count / 2, len),
        Step::Send(len, how) if len > 8 => Step::Send(8, how),
        Step::Burst(count, len) if count > 1 => Step::Burst(count / 2, len),
        Step::Publish(len, how) if len > 8 => Step::Publish(8, how),
        Step::Call(len, action, how) if len > 8 => Step::Call(8, action, how),
        Step::Pass(len, action, how) if len > 8 => Step::Pass(8, action, how),
        other => other,
    }
}
