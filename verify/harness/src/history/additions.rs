//! Additions to a generated history: what the library has had since session protocol 2.
//!
//! A seed that is written down stands for the same history for ever, so the generator throws its dice as it always did.
//! Seeds from [`FIRST_SEED`] on stand for what it makes of them, and additions thrown with dice of their own: all that
//! there was meets all that came.

use super::dialect::Dialect;
use super::generate::{face, how, one_of, party, some};
use super::plan::{Face, Fate, Form, HANDLER_ACTIONS, HandlerAction, History, Home, How, Party, Role, Step, Way};
use crate::storm::dice::Dice;

/// The first seed of a history with additions: those of the generator alone have 34 bits.
pub const FIRST_SEED: u64 = 1 << 34;

/// How many descriptors travel with one call at most.
const CARGOES: [usize; 6] = [1, 2, 3, 3, 4, 16];
/// Calls after which a client knows how long its handler takes: eight are needed, and some may be odd.
const LESSONS: usize = 14;

/// Adds to a history.
pub fn add(history: &mut History) {
    let mut dice = Dice::new(!history.seed);
    match history.form {
        Form::Exchange => exchange(&mut dice, history),
        Form::Queue => late_receivers(&mut dice, history),
        Form::Stream => stream(&mut dice, history),
        Form::Semaphore => semaphore(&mut dice, history),
        Form::Broadcast => {} // its seeds are later
    }
}

fn exchange(dice: &mut Dice, history: &mut History) {
    match dice.below(12) {
        0..=2 => {
            history.dialect = Dialect::Bytes;
            history.parties = long_handlers(dice);
        }
        3 => {
            history.dialect = Dialect::Bytes;
            history.parties = late_server(dice);
        }
        4 => {
            history.dialect = Dialect::Bytes;
            history.parties = mixed_versions(dice);
        }
        _ => {}
    }
    let is_about_errors = dice.once_in(2);
    for step in history.parties.iter_mut().flat_map(|party| &mut party.steps) {
        if let Step::Call(_, action, _) | Step::Pass(_, action, _) | Step::Volley(action) = step
            && is_about_errors
            && *action != HandlerAction::InvertSteadily
            && dice.once_in(3)
        {
            *action = HandlerAction::FailAs;
        }
    }
    if history.dialect == Dialect::Bytes && !dice.once_in(3) {
        let most = one_of(dice, &CARGOES);
        for party in history.parties.iter_mut().filter(|party| party.role != Role::Director) {
            // Now and then one side has not asked for them.
            party.descriptors = if dice.once_in(12) { 0 } else { most };
        }
    }
}

/// Handlers that take steadily long, so that their clients sleep through most of it; and all that can end a call.
fn long_handlers(dice: &mut Dice) -> Vec<Party> {
    let capacity = one_of(dice, &[48, 300]);
    let steady = HandlerAction::InvertSteadily;
    let has_process = dice.once_in(6);
    let home = if has_process { Home::Process } else { Home::Thread };
    let serving = vec![Step::Serve(1 + dice.below(3) as usize)];
    let server = |home, face, steps| Party { home, face, slots: 4, capacity, ..party(Role::Host, steps) };
    let mut parties = vec![server(home, face(dice), serving)];
    if has_process {
        parties.push(server(Home::Thread, face(dice), vec![Step::Serve(1)]));
    }
    let first_guest = parties.len();
    for _ in 0..1 + dice.below(2) {
        let mut steps = vec![Step::Call(capacity, steady, How::Forever); LESSONS];
        if dice.once_in(4) {
            steps.push(Step::Hurry(60));
        }
        for _ in 0..some(dice, 12) {
            let action = one_of(dice, &[steady, steady, steady, HandlerAction::Invert, HandlerAction::Fail]);
            steps.push(match dice.below(8) {
                0 | 1 => Step::Call(capacity, action, How::For(dice.below(1500))),
                2 => Step::Pass(capacity, action, How::Try),
                3 => Step::Collect(how(dice)),
                4 => one_of(dice, &[Step::Forget, Step::Clone, Step::BecomeTask]),
                5 => Step::Volley(action),
                _ => Step::Call(capacity, action, How::Forever),
            });
        }
        let slots = 1 + dice.below(3) as usize;
        parties.push(Party { slots, capacity, face: Face::Blocking, ..party(Role::Guest, steps) });
    }
    if has_process || dice.once_in(3) {
        let lessons = LESSONS - 2 + dice.below(6) as usize;
        let mut steps = vec![Step::AwaitSurely(first_guest, lessons), Step::Pause(dice.below(1500))];
        match dice.below(3) {
            0 if has_process => steps.push(Step::Kill(0)),
            1 if has_process => {
                steps.extend([Step::Stop(0), Step::Pause(dice.below(20_000)), Step::Continue(0)]);
            }
            _ => steps.push(Step::ShutDown(0)),
        }
        parties.push(party(Role::Director, steps));
    }
    parties
}

/// Clients that are there before their server, which goes again, or is killed while it comes, and has a successor.
fn late_server(dice: &mut Dice) -> Vec<Party> {
    let mut director = Vec::new();
    let capacity = one_of(dice, &[8, 48, 300]);
    let server = |steps| Party { slots: 4, capacity, ..party(Role::Host, steps) };
    let mut parties = Vec::new();
    for number in 0..dice.below(3) as usize {
        let is_killed = dice.once_in(3);
        let home = if is_killed { Home::Process } else { Home::Thread };
        let mut steps = vec![Step::Pause(dice.below(2000))];
        if is_killed {
            director.extend([Step::Pause(dice.below(8000)), Step::Kill(number)]);
        } else {
            steps.push(Step::ShutDownSelf);
        }
        steps.push(Step::Serve(1));
        parties.push(Party { home, face: face(dice), delay_us: dice.below(4000), ..server(steps) });
    }
    // This one comes in any case, and stays.
    let steps = vec![Step::Serve(1 + dice.below(3) as usize)];
    parties.push(Party { face: face(dice), delay_us: dice.below(10_000), ..server(steps) });
    for _ in 0..1 + dice.below(3) {
        let mut steps = Vec::new();
        for _ in 0..1 + some(dice, 6) {
            steps.push(match dice.below(4) {
                0 => Step::Pause(dice.below(1500)),
                1 => Step::Volley(HandlerAction::Invert),
                _ => Step::Call(capacity, HandlerAction::Invert, how(dice)),
            });
        }
        let (face, slots) = (face(dice), 1 + dice.below(4) as usize);
        parties.push(Party { face, slots, capacity, is_patient: true, ..party(Role::Guest, steps) });
    }
    if !director.is_empty() {
        parties.push(party(Role::Director, director));
    }
    parties
}

/// A client of the previous version among those of this one, at a server that stays.
fn mixed_versions(dice: &mut Dice) -> Vec<Party> {
    let capacity = one_of(dice, &[48, 300]);
    let end = if dice.once_in(2) { Step::Drain(Fate::Done) } else { Step::Serve(1 + dice.below(3) as usize) };
    let server = Party { face: face(dice), slots: 4, capacity, ..party(Role::Host, vec![end]) };
    let mut parties = vec![server];
    for number in 0..2 + dice.below(2) {
        let mut steps = Vec::new();
        for _ in 0..2 + some(dice, 8) {
            let len = 8 + dice.below(capacity as u64 - 7) as usize;
            steps.push(Step::Call(len, one_of(dice, &HANDLER_ACTIONS), How::Forever));
        }
        let is_of_version_1 = number == 0 || dice.once_in(3);
        let face = if is_of_version_1 { Face::Blocking } else { face(dice) };
        let guest = party(Role::Guest, steps);
        parties.push(Party { face, slots: 1 + dice.below(4) as usize, capacity, is_of_version_1, ..guest });
    }
    parties
}

/// Whatever becomes of the receivers, somebody takes the name in the end and stays: so senders may wait for it.
fn late_receivers(dice: &mut Dice, history: &mut History) {
    for party in &mut history.parties {
        match party.role {
            Role::Host if dice.once_in(2) => party.delay_us = dice.below(4000),
            Role::Guest => party.is_patient = dice.once_in(2),
            _ => {}
        }
    }
}

fn stream(dice: &mut Dice, history: &mut History) {
    for party in history.parties.iter_mut().filter(|party| party.role != Role::Director) {
        if dice.once_in(2) {
            party.face = one_of(dice, &[Face::Tasks, Face::TasksOnThreads]);
        }
        for step in &mut party.steps {
            if let Step::Write(_, way) | Step::Read(_, way) = step
                && dice.once_in(3)
            {
                *way = Way::WhenReady;
            }
        }
        // A listener that accepts in some way of its own says so first; what stands at the end may never return.
        let first = usize::from(matches!(party.steps.first(), Some(Step::AcceptWith(_))));
        for _ in 0..some(dice, 4) {
            let last = party.steps.iter().position(|step| matches!(step, Step::Both(_) | Step::ReadToEnd));
            let last = last.unwrap_or(party.steps.len()).max(first);
            let place = first + dice.below((last - first) as u64 + 1) as usize;
            party.steps.insert(place, Step::Reunite(some(dice, 9000)));
        }
    }
    // The director knows steps by their numbers: where some came in between, it only comes earlier.
    let has_kill = history.steps().any(|step| matches!(step, Step::Kill(_) | Step::ShutDown(_)));
    if !has_kill && dice.once_in(3) {
        history.parties[0].delay_us = dice.below(6000);
        history.parties[1].is_patient = true;
    }
}

fn semaphore(dice: &mut Dice, history: &mut History) {
    for party in history.parties.iter_mut().filter(|party| party.role == Role::Guest) {
        // Others wait for its steps by their numbers.
        if party.steps.iter().any(|step| matches!(step, Step::AwaitSurely(..))) {
            return;
        }
        if dice.once_in(2) {
            party.face = one_of(dice, &[Face::Tasks, Face::TasksOnThreads]);
        }
        for _ in 0..some(dice, 4) {
            let place = dice.below(party.steps.len() as u64 + 1) as usize;
            let permits = 1 + dice.below(party.slots as u64) as usize;
            party.steps.insert(
                place,
                match dice.below(4) {
                    0 => Step::Release,
                    1 => Step::Keep(permits, how(dice)),
                    _ => Step::Rush(2 + dice.below(6) as usize, permits),
                },
            );
        }
    }
}
