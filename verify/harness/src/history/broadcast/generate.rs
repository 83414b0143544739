//! Generated: the sizes of a broadcast, the steps of its parties, and what is done to them.

use super::model::PATIENT_US;
use crate::history::generate::{face, fate, how, len, one_of, party, some, sprinkle};
use crate::history::plan::{Airing, Claim, Fate, Home, How, Party, Role, StartAt, Step};
use crate::history::run::has_other_users;
use crate::storm::dice::Dice;

/// Messages that are kept.
const HISTORIES: [usize; 6] = [1, 1, 2, 3, 8, 64];
/// Bytes of a message: nothing, and around what fits into an entry, or into a page.
const CAPACITIES: [usize; 7] = [0, 8, 48, 49, 300, 300, 4097];
/// Of publishers that retain less than their history: they let go of few small bodies, and of large ones one by one.
/// What is published is no longer for that.
const LARGE: usize = 2 << 20;
/// How long a publisher waits that does: not at all, less than a step takes, and as long as it takes.
const PATIENCES_US: [u64; 4] = [0, 300, 5000, PATIENT_US];
/// One history in so many has processes.
const PROCESSES_ONE_IN: u64 = 6;
const STARTS: [StartAt; 3] = [StartAt::Next, StartAt::Oldest, StartAt::Last];

/// The parties of such a history.
pub fn parties(dice: &mut Dice) -> Vec<Party> {
    let (history, capacity) = (one_of(dice, &HISTORIES), one_of(dice, &CAPACITIES));
    match dice.below(16) {
        0 => return stopped_subscriber(dice, history, capacity),
        1 => return dead_holder(dice, history),
        2 => return killed_publisher(dice, history, capacity),
        3 => return quick_and_slow(dice, history),
        _ => {}
    }
    let patience_us = if dice.once_in(3) { Some(one_of(dice, &PATIENCES_US)) } else { None };
    let holds = dice.below(4) as usize;
    let airing = Airing { patience_us, holds: holds.max(1), max_holds: holds * some(dice, 4), ..Airing::default() };
    let hosts = 1 + some(dice, 2) as u64;
    let guests = 1 + dice.below(4);
    let mut parties = Vec::new();
    for number in 0..hosts {
        let mut steps = publishing(dice, capacity, guests);
        sprinkle(dice, &mut steps, hosts + guests);
        let claim = if number > 0 && dice.once_in(3) { Claim::Replacing } else { Claim::InTurn };
        let delay_us = if dice.once_in(2) { dice.below(4000) } else { 0 };
        let face = face(dice);
        let host = party(Role::Host, steps);
        parties.push(Party { face, slots: history, capacity, claim, airing, delay_us, ..host });
    }
    for _ in 0..guests {
        let mut steps = listening(dice);
        sprinkle(dice, &mut steps, hosts + guests);
        let (face, airing) = (face(dice), wishes(dice));
        parties.push(Party { face, airing, ..party(Role::Guest, steps) });
    }
    if dice.once_in(PROCESSES_ONE_IN) {
        for party in &mut parties {
            if dice.once_in(2) {
                continue;
            }
            let is_other_user = has_other_users() && party.role == Role::Guest && dice.once_in(3);
            party.home = if is_other_user { Home::OtherUser } else { Home::Process };
        }
        direct(dice, &mut parties);
    }
    if patience_us.is_some() && parties.iter().all(|party| party.home != Home::OtherUser) {
        retain_less(&mut parties, (history, capacity));
    }
    parties
}

/// Some publishers retain less than their history. Nothing is rolled for that: a seed is the history that it was
/// before there was such a thing.
fn retain_less(parties: &mut [Party], (history, capacity): (usize, usize)) {
    let retain = match (history + capacity) % 3 {
        0 => return,
        1 => 0,
        _ => history / 2,
    };
    for party in parties.iter_mut().filter(|party| party.role == Role::Host) {
        party.airing.retain = Some(retain);
        if capacity > 48 {
            party.capacity = LARGE;
        }
    }
}

fn wishes(dice: &mut Dice) -> Airing {
    let follows_us = if dice.once_in(3) { 1000 + dice.below(60_000) } else { 0 };
    Airing { start: one_of(dice, &STARTS), follows_us, ..Airing::default() }
}

fn publishing(dice: &mut Dice, capacity: usize, guests: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    if dice.once_in(2) {
        steps.push(Step::AwaitSubscribers(1 + dice.below(guests) as usize, dice.below(20_000)));
    }
    for _ in 0..some(dice, 16) {
        steps.push(match dice.below(14) {
            0 | 1 => Step::Burst(1 + some(dice, 80), len(dice, capacity)),
            2 | 3 => Step::Draft(len(dice, capacity), !dice.once_in(4)),
            4 => Step::AwaitSubscribers(1 + dice.below(guests) as usize, dice.below(3000)),
            5 => one_of(dice, &[Step::Count, Step::BecomeTask]),
            6 => Step::Pause(dice.below(600)),
            _ => Step::Publish(len(dice, capacity), how(dice)),
        });
    }
    steps
}

fn listening(dice: &mut Dice) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..some(dice, 14) {
        steps.push(match dice.below(16) {
            0 => Step::Release,
            1 | 2 => Step::Copy(how(dice)),
            3 => Step::Arm(dice.below(2000)),
            4 => one_of(dice, &[Step::Clone, Step::Outlive, Step::BecomeTask]),
            5 => Step::Pause(dice.below(1000)),
            6..9 => Step::Take(how(dice), Fate::Held),
            _ => Step::Take(how(dice), fate(dice)),
        });
    }
    if !dice.once_in(3) {
        steps.push(Step::ListenToEnd);
    }
    steps
}

/// Adds a director, who kills and stops those that have processes.
fn direct(dice: &mut Dice, parties: &mut Vec<Party>) {
    let mut steps = Vec::new();
    for _ in 0..1 + dice.below(3) {
        let victim = dice.below(parties.len() as u64) as usize;
        let of = &parties[victim];
        if of.home == Home::Thread {
            continue;
        }
        steps.push(Step::Await(victim, dice.below(of.steps.len() as u64 + 1) as usize));
        steps.push(Step::Pause(dice.below(800)));
        match dice.once_in(3) {
            true => steps.extend([Step::Stop(victim), Step::Pause(dice.below(20_000)), Step::Continue(victim)]),
            false => steps.push(Step::Kill(victim)),
        }
    }
    if !steps.is_empty() {
        parties.push(party(Role::Director, steps));
    }
}

/// Subscribers are stopped with messages in hand: their publisher goes on all the same, and what they had in hand is as
/// it was.
fn stopped_subscriber(dice: &mut Dice, history: usize, capacity: usize) -> Vec<Party> {
    let holds = 1 + dice.below(3) as usize;
    let airing = Airing { holds, max_holds: 4 * holds, ..Airing::default() };
    let mut steps =
        vec![Step::AwaitSubscribers(2, 2_000_000), Step::Burst(holds, capacity), Step::AwaitSurely(1, holds)];
    let before = steps.len();
    steps.extend([Step::Pause(1000), Step::Burst(40 + some(dice, 300), len(dice, capacity)), Step::Pause(0)]);
    let last = steps.len() - 1;
    let mut listens = vec![Step::Take(How::Forever, Fate::Held); holds];
    listens.extend([Step::Pause(0), Step::Release, Step::ListenToEnd]);
    let director = vec![Step::AwaitSurely(0, before), Step::Stop(1), Step::AwaitSurely(0, last), Step::Continue(1)];
    let airing_of = |start| Airing { start, ..Airing::default() };
    vec![
        Party { face: face(dice), slots: history.max(holds), capacity, airing, ..party(Role::Host, steps) },
        Party { home: Home::Process, airing: airing_of(StartAt::Oldest), ..party(Role::Guest, listens) },
        Party {
            face: face(dice),
            airing: airing_of(one_of(dice, &STARTS)),
            ..party(Role::Guest, vec![Step::ListenToEnd])
        },
        party(Role::Director, director),
    ]
}

/// One who may hold all that may be held is killed with it: the next one may.
fn dead_holder(dice: &mut Dice, history: usize) -> Vec<Party> {
    let capacity = one_of(dice, &[49, 300, 4097]);
    let holds = 1 + dice.below(3) as usize;
    let airing = Airing { holds, max_holds: holds, ..Airing::default() };
    let mut steps = vec![Step::AwaitSubscribers(1, 2_000_000), Step::Burst(holds, capacity), Step::AwaitSurely(3, 1)];
    for _ in 0..60 + some(dice, 100) {
        steps.extend([Step::Publish(len(dice, capacity), How::Forever), Step::Pause(300)]);
    }
    steps.push(Step::Count);
    let mut listens = vec![Step::Take(How::For(100_000), Fate::Held); holds];
    listens.push(Step::Pause(300_000));
    let next = vec![Step::AwaitSurely(3, 1), Step::Regain, Step::Take(How::For(5000), Fate::Held), Step::ListenToEnd];
    let oldest = Airing { start: StartAt::Oldest, ..Airing::default() };
    vec![
        Party { face: face(dice), slots: history, capacity, airing, ..party(Role::Host, steps) },
        Party { home: Home::Process, airing: oldest, ..party(Role::Guest, listens) },
        Party { face: face(dice), airing: wishes(dice), ..party(Role::Guest, next) },
        party(Role::Director, vec![Step::AwaitSurely(1, holds), Step::Kill(1), Step::Pause(0)]),
    ]
}

/// One of a patient publisher's subscribers is slow: what it has not taken stays, although the others have.
fn quick_and_slow(dice: &mut Dice, history: usize) -> Vec<Party> {
    let retain = Some(dice.below(history as u64) as usize);
    let patience_us = Some(PATIENT_US);
    let airing = Airing { patience_us, retain, holds: 2, max_holds: some(dice, 8), ..Airing::default() };
    let mut steps = vec![Step::AwaitSubscribers(2, 2_000_000)];
    for _ in 0..20 + some(dice, 60) {
        steps.push(Step::Publish(len(dice, 300), How::Forever));
        if dice.once_in(3) {
            steps.push(Step::Pause(dice.below(300)));
        }
    }
    let begins = || Airing { start: StartAt::Oldest, ..Airing::default() };
    let mut slow = Vec::new();
    for _ in 0..10 + some(dice, 20) {
        let step = if dice.once_in(4) { Step::Copy(How::Forever) } else { Step::Take(How::Forever, fate(dice)) };
        slow.extend([step, Step::Pause(dice.below(1500))]);
    }
    slow.push(Step::ListenToEnd);
    let mut parties = vec![
        Party { face: face(dice), slots: history, capacity: LARGE, airing, ..party(Role::Host, steps) },
        Party { home: Home::Process, airing: begins(), face: face(dice), ..party(Role::Guest, slow) },
        Party { airing: begins(), face: face(dice), ..party(Role::Guest, vec![Step::ListenToEnd]) },
    ];
    if dice.once_in(3) {
        // Who comes and goes meanwhile is waited for only once it is known.
        let listens = vec![Step::Take(How::For(2000), Fate::Held); 3];
        parties.push(Party { delay_us: dice.below(4000), airing: wishes(dice), ..party(Role::Guest, listens) });
    }
    parties
}

/// Publishers are killed, and those that follow go on at the next.
fn killed_publisher(dice: &mut Dice, history: usize, capacity: usize) -> Vec<Party> {
    let hosts = 2 + dice.below(2) as usize;
    let airing = Airing { holds: 2, max_holds: 8, ..Airing::default() };
    let mut parties = Vec::new();
    let mut director = Vec::new();
    for number in 0..hosts {
        let mut steps = vec![Step::AwaitSubscribers(1, 2_000_000)];
        for _ in 0..10 + some(dice, 20) {
            steps.push(Step::Burst(1 + some(dice, 30), len(dice, capacity)));
        }
        let mut home = Home::Thread;
        if number + 1 < hosts {
            home = Home::Process;
            director.push(Step::AwaitSurely(number, 1 + dice.below(steps.len() as u64 - 1) as usize));
            director.extend([Step::Pause(dice.below(400)), Step::Kill(number)]);
        }
        parties.push(Party { home, slots: history, capacity, airing, ..party(Role::Host, steps) });
    }
    for _ in 0..1 + dice.below(3) {
        let airing = Airing { start: one_of(dice, &STARTS), follows_us: 3_000_000, ..Airing::default() };
        let mut steps = vec![Step::Take(How::For(3000), Fate::Held); dice.below(3) as usize];
        steps.extend([Step::ListenToEnd, Step::Release]);
        parties.push(Party { face: face(dice), airing, ..party(Role::Guest, steps) });
    }
    parties.push(party(Role::Director, director));
    parties
}
