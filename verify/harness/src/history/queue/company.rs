//! Generated: receivers that share a name, keepers, senders that are idle or linger, receivers that are replaced; and
//! all of them killed, stopped and ended.

use crate::history::generate::{CAPACITIES, face, fate, how, len, one_of, party, some, sprinkle};
use crate::history::plan::{Claim, Fate, Home, How, Keeping, Linger, Party, Role, Step};
use crate::storm::dice::Dice;

/// Messages that a receiver may have of one sender.
const SLOTS: [usize; 5] = [1, 2, 3, 5, 16];
/// One history in so many has processes.
const PROCESSES_ONE_IN: u64 = 3;

/// The parties of such a history.
pub fn company(dice: &mut Dice) -> Vec<Party> {
    let (slots, capacity) = (one_of(dice, &SLOTS), one_of(dice, &CAPACITIES));
    match dice.below(12) {
        0 | 1 => return both_die(dice, slots, capacity.max(2)),
        2 | 3 => return idle(dice, slots, capacity.max(2)),
        _ => {}
    }
    let is_shared = dice.below(3) > 0;
    let has_processes = dice.once_in(PROCESSES_ONE_IN);
    let keeping = one_of(dice, &[Keeping::None, Keeping::None, Keeping::Insists, Keeping::Allows]);
    let hosts = if is_shared { 2 + dice.below(3) } else { 1 + dice.below(3) };
    let guests = 1 + dice.below(3);
    let mut parties = Vec::new();
    for number in 0..hosts {
        let steps = receiving(dice, hosts + guests);
        let claim = match is_shared {
            true => Claim::Shared,
            false if number > 0 && dice.once_in(2) => Claim::Replacing,
            false => Claim::InTurn,
        };
        let delay_us = if dice.once_in(2) { dice.below(6000) } else { 0 };
        let face = face(dice);
        parties.push(Party { face, slots, capacity, claim, keeping, delay_us, ..party(Role::Host, steps) });
    }
    for _ in 0..guests {
        let mut steps = sending(dice, capacity);
        sprinkle(dice, &mut steps, hosts + guests);
        if dice.once_in(3) {
            steps.push(Step::Release); // it leaves without a word
        }
        let (face, linger, is_patient) = (face(dice), linger(dice), dice.once_in(2));
        parties.push(Party { face, slots, capacity, linger, is_patient, ..party(Role::Guest, steps) });
    }
    if keeping != Keeping::None {
        keepers(dice, &mut parties, keeping);
    }
    if has_processes {
        parties.iter_mut().filter(|_| dice.once_in(2)).for_each(|party| party.home = Home::Process);
    }
    direct(dice, &mut parties);
    parties
}

fn linger(dice: &mut Dice) -> Linger {
    match dice.below(4) {
        0 => Linger::AsEver,
        1 => Linger::For(dice.below(2_000_000)),
        _ => Linger::Short,
    }
}

fn receiving(dice: &mut Dice, parties: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..some(dice, 8) {
        steps.push(match dice.below(7) {
            0 => Step::Release,
            1 | 2 => Step::TakeBatch(1 + some(dice, 6), how(dice), fate(dice)),
            _ => Step::Take(how(dice), fate(dice)),
        });
    }
    if dice.once_in(8) {
        steps.push(Step::ShutDownSelf);
    }
    match dice.below(6) {
        0 => {}
        1 => steps.push(Step::Serve(1 + dice.below(3) as usize)),
        _ => {
            steps.push(Step::Drain(one_of(dice, &[Fate::Done, Fate::Done, Fate::Dropped, Fate::Back, Fate::Panicked])))
        }
    }
    sprinkle(dice, &mut steps, parties);
    steps
}

fn sending(dice: &mut Dice, capacity: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..some(dice, 14) {
        steps.push(match dice.below(13) {
            0 => Step::SendBatch(1 + some(dice, 5), len(dice, capacity)),
            1 => Step::MessageLoan(len(dice, capacity), !dice.once_in(4)),
            2 => Step::Flush(How::For(dice.below(3000))),
            3 => one_of(dice, &[Step::Clone, Step::BecomeTask, Step::Flush(How::For(5000))]),
            4 => Step::Idle,
            _ => Step::Send(len(dice, capacity), how(dice)),
        });
    }
    steps
}

/// One that stays, after another that may end, or be killed, if it has a process.
fn keepers(dice: &mut Dice, parties: &mut Vec<Party>, keeping: Keeping) {
    // Beyond its limits a receiver that insists lets nobody in, also none of those that go on from another.
    let limit = if keeping == Keeping::Allows && dice.once_in(3) { 1 + dice.below(3) as usize } else { 0 };
    if dice.once_in(2) {
        let steps = match dice.once_in(2) {
            true => vec![Step::Pause(dice.below(6000)), Step::ShutDownSelf],
            false => vec![Step::Pause(dice.below(2000))],
        };
        parties.push(Party { limit, ..party(Role::Keeper, steps) });
    }
    let delay_us = if dice.once_in(4) { dice.below(3000) } else { 0 };
    parties.push(Party { limit, delay_us, ..party(Role::Keeper, vec![Step::Pause(dice.below(2000))]) });
}

/// Adds a director, who does to them what can be done.
fn direct(dice: &mut Dice, parties: &mut Vec<Party>) {
    let last_keeper = parties.iter().rposition(|party| party.role == Role::Keeper);
    let has_processes = parties.iter().any(|party| party.home == Home::Process);
    let mut steps = Vec::new();
    for _ in 0..if has_processes { 1 + dice.below(4) } else { dice.below(3) } {
        let victim = dice.below(parties.len() as u64) as usize;
        let of = &parties[victim];
        steps.push(Step::Await(victim, dice.below(of.steps.len() as u64 + 1) as usize));
        if dice.once_in(2) {
            steps.push(Step::Pause(dice.below(2000)));
        }
        match of.home {
            Home::Thread if of.role == Role::Host => steps.push(Step::ShutDown(victim)),
            Home::Thread => {}
            _ if dice.once_in(3) => {
                steps.extend([Step::Stop(victim), Step::Pause(dice.below(20_000)), Step::Continue(victim)]);
            }
            _ if of.role == Role::Host && dice.once_in(3) => steps.push(Step::ShutDown(victim)),
            // Without a keeper receivers that insist let nobody in, and a sender would wait for ever.
            _ if last_keeper == Some(victim) => {}
            _ => steps.push(Step::Kill(victim)),
        }
    }
    if !steps.is_empty() {
        parties.push(party(Role::Director, steps));
    }
}

/// A sender and its receiver are killed, while the keeper lives, or is stopped; another receiver has it all, or dies
/// with it as well.
fn both_die(dice: &mut Dice, slots: usize, capacity: usize) -> Vec<Party> {
    let claim = if dice.once_in(2) { Claim::Shared } else { Claim::InTurn };
    let host =
        |home, steps| Party { home, slots, capacity, claim, keeping: Keeping::Insists, ..party(Role::Host, steps) };
    let many = 1 + dice.below(slots as u64) as usize;
    let held = vec![Step::Take(How::For(4000), Fate::Held); dice.below(many as u64 + 1) as usize];
    let mut sends = vec![Step::Send(2 + dice.below(capacity as u64 - 1) as usize, How::Try); many];
    sends.push(Step::Pause(300_000));
    let killed = [held.as_slice(), &[Step::Pause(300_000)]].concat();
    let second = match dice.once_in(2) {
        true => host(Home::Process, killed.clone()),
        false => host(Home::Thread, vec![Step::Drain(one_of(dice, &[Fate::Done, Fate::Back]))]),
    };
    let mut steps = vec![Step::AwaitSurely(1, many), Step::Pause(dice.below(3000))];
    let stops_keeper = dice.once_in(4);
    if stops_keeper {
        steps.push(Step::Stop(3));
    }
    let first_two = if dice.once_in(2) { [0, 1] } else { [1, 0] };
    steps.extend(first_two.map(Step::Kill));
    if stops_keeper {
        steps.extend([Step::Pause(dice.below(5000)), Step::Continue(3)]);
    }
    if second.home == Home::Process {
        steps.extend([Step::AwaitSurely(2, dice.below(held.len() as u64 + 1) as usize), Step::Pause(dice.below(4000))]);
        steps.push(Step::Kill(2));
    }
    let keeper_home = if stops_keeper || dice.once_in(2) { Home::Process } else { Home::Thread };
    vec![
        host(Home::Process, killed),
        Party { home: Home::Process, face: face(dice), slots, capacity, ..party(Role::Guest, sends) },
        second,
        Party { home: keeper_home, ..party(Role::Keeper, Vec::new()) },
        party(Role::Director, steps),
    ]
}

/// A receiver is killed or ends while its sender makes no call: what it has not acknowledged reaches another one.
fn idle(dice: &mut Dice, slots: usize, capacity: usize) -> Vec<Party> {
    let claim = if dice.once_in(2) { Claim::Shared } else { Claim::InTurn };
    let keeping = one_of(dice, &[Keeping::None, Keeping::None, Keeping::Insists]);
    let host = |home, steps| Party { home, slots, capacity, claim, keeping, ..party(Role::Host, steps) };
    let many = 1 + dice.below(slots as u64) as usize;
    let held = dice.below(many as u64 + 1) as usize;
    let mut dying = vec![Step::Take(How::For(4000), Fate::Held); held];
    let mut steps = vec![Step::AwaitSurely(1, many)];
    let home = if dice.once_in(3) { Home::Thread } else { Home::Process };
    if home == Home::Process {
        dying.push(Step::Pause(300_000));
        steps.extend([Step::Pause(dice.below(4000)), Step::Kill(0)]);
    }
    let len = 2 + dice.below(capacity as u64 - 1) as usize;
    let mut sends = vec![Step::Send(len, How::Try); many];
    sends.push(Step::Idle);
    if dice.once_in(2) {
        sends.extend([Step::Send(len, how(dice)), Step::Idle]);
    }
    let next = host(Home::Thread, vec![Step::Drain(one_of(dice, &[Fate::Done, Fate::Back]))]);
    let linger = linger(dice);
    let mut parties = vec![
        host(home, dying),
        Party { home: Home::Process, face: face(dice), slots, capacity, linger, ..party(Role::Guest, sends) },
        Party { delay_us: dice.below(3000), face: face(dice), ..next },
    ];
    if keeping != Keeping::None {
        parties.push(party(Role::Keeper, Vec::new()));
    }
    parties.push(party(Role::Director, steps));
    parties
}
