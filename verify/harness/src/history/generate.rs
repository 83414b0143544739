//! Histories out of a seed.

use super::dialect::{BLOCKS, Dialect};
use super::plan::{
    Airing, Claim, FIRST_LATER_SEED, Face, Fate, Fork, Form, HANDLER_ACTIONS, HandlerAction, History, Home, How,
    Keeping, Linger, Party, Role, Step, Way,
};
use super::run::has_other_users;
use super::{additions, broadcast, queue};
use crate::storm::dice::Dice;

/// Slots of a session.
const SLOTS: [usize; 6] = [1, 1, 2, 3, 5, 16];
/// Bytes of a payload: nothing, one, and around what fits into a slot's own line, or into a page.
pub(super) const CAPACITIES: [usize; 8] = [0, 1, 8, 47, 48, 49, 300, 4097];
/// Bytes of an encoded payload.
const ENCODED: [usize; 3] = [64, 300, 4097];
/// Bytes of a ring.
const RINGS: [usize; 3] = [4096, 8192, 65_536];
/// One history in so many has processes of its own: starting one takes as long as several histories.
const PROCESSES_ONE_IN: u64 = 16;
/// One history of a stream in so many has an end of another user, beside those that have one among other processes.
const OTHER_USERS_ONE_IN: u64 = 12;
/// One history in so many has a crowd of sessions.
const CROWD_ONE_IN: u64 = 200;

/// The actions that there were when the first seeds were written down; the others are additions.
const FIRST_ACTIONS: usize = 6;

/// The history with that seed.
pub fn generate(seed: u64) -> History {
    let mut dice = Dice::new(seed);
    let form = Form::of(seed);
    if seed >= FIRST_LATER_SEED {
        let parties = match form {
            Form::Broadcast => broadcast::parties(&mut dice),
            _ => queue::company(&mut dice),
        };
        return History { seed, form, dialect: Dialect::Bytes, parties };
    }
    let has_payloads = matches!(form, Form::Exchange | Form::Queue);
    let is_crowd = has_payloads && dice.once_in(CROWD_ONE_IN);
    let dialect = if has_payloads && !is_crowd { dialect(&mut dice, form) } else { Dialect::Bytes };
    let capacity = capacity(&mut dice, dialect);
    let parties = match form {
        _ if is_crowd => crowd(&mut dice, form),
        Form::Exchange => exchange(&mut dice, capacity),
        Form::Queue => senders_and_receivers(&mut dice, capacity),
        Form::Stream => stream(&mut dice),
        Form::Semaphore => semaphore(&mut dice),
        Form::Broadcast => Vec::new(), // of later seeds only
    };
    let mut history = History { seed, form, dialect, parties };
    if seed >= additions::FIRST_SEED && !is_crowd {
        additions::add(&mut history);
    }
    history
}

/// Mostly bytes. A queue has no typed face.
fn dialect(dice: &mut Dice, form: Form) -> Dialect {
    match dice.below(12) {
        0 | 1 if form == Form::Exchange => Dialect::Typed(one_of(dice, &BLOCKS)),
        2 => Dialect::Named,
        3 => Dialect::Positional,
        _ => Dialect::Bytes,
    }
}

fn capacity(dice: &mut Dice, dialect: Dialect) -> usize {
    match dialect {
        Dialect::Bytes => one_of(dice, &CAPACITIES),
        Dialect::Typed(len) => len,
        Dialect::Named | Dialect::Positional => one_of(dice, &ENCODED),
    }
}

pub(super) fn one_of<T: Copy>(dice: &mut Dice, of: &[T]) -> T {
    of[dice.below(of.len() as u64) as usize]
}

/// Up to so many, few more often than many.
pub(super) fn some(dice: &mut Dice, most: u64) -> usize {
    let most = 1 + dice.below(most);
    dice.below(most + 1) as usize
}

pub(super) fn face(dice: &mut Dice) -> Face {
    one_of(dice, &[Face::Blocking, Face::Blocking, Face::Tasks, Face::TasksOnThreads])
}

pub(super) fn how(dice: &mut Dice) -> How {
    match dice.below(6) {
        0..=2 => How::Forever,
        3 => How::Try,
        4 => How::PolledOnce,
        _ => How::For(dice.below(1500)),
    }
}

pub(super) fn fate(dice: &mut Dice) -> Fate {
    match dice.below(12) {
        0..=4 => Fate::Done,
        5 => Fate::Dropped,
        6 | 7 => Fate::Back,
        8 | 9 => Fate::Held,
        10 => Fate::Panicked,
        _ => Fate::Elsewhere,
    }
}

fn limit(dice: &mut Dice) -> usize {
    if dice.once_in(12) { 1 + dice.below(2) as usize } else { 0 }
}

fn handler_action(dice: &mut Dice) -> HandlerAction {
    one_of(dice, &HANDLER_ACTIONS[..FIRST_ACTIONS])
}

/// A length that may be around what fits.
pub(super) fn len(dice: &mut Dice, capacity: usize) -> usize {
    match dice.below(8) {
        0 => capacity,
        1 => capacity + 1,
        2 => dice.below(3) as usize,
        _ => dice.below(capacity as u64 + 1) as usize,
    }
}

pub(super) fn party(role: Role, steps: Vec<Step>) -> Party {
    Party {
        role,
        home: Home::Thread,
        face: Face::Blocking,
        slots: 1,
        capacity: 48,
        limit: 0,
        descriptors: 0,
        is_patient: false,
        is_of_version_1: false,
        delay_us: 0,
        claim: Claim::default(),
        keeping: Keeping::default(),
        linger: Linger::default(),
        airing: Airing::default(),
        steps,
    }
}

/// Gives some of the parties processes of their own, and adds a director who does things to them.
fn direct(dice: &mut Dice, parties: &mut Vec<Party>, may_stop: bool) {
    let has_processes = dice.once_in(PROCESSES_ONE_IN);
    if has_processes {
        for party in parties.iter_mut() {
            if dice.once_in(2) {
                let may_be_other_user = has_other_users() && party.role == Role::Guest && dice.once_in(3);
                party.home = if may_be_other_user { Home::OtherUser } else { Home::Process };
            }
        }
    }
    let mut steps = Vec::new();
    let actions = if has_processes { 1 + dice.below(3) } else { dice.below(3) };
    for _ in 0..actions {
        let victim = dice.below(parties.len() as u64) as usize;
        let of = &parties[victim];
        steps.push(Step::Await(victim, dice.below(of.steps.len() as u64 + 1) as usize));
        if dice.once_in(2) {
            steps.push(Step::Pause(dice.below(400)));
        }
        match of.home {
            Home::Thread if of.role == Role::Host => steps.push(Step::ShutDown(victim)),
            Home::Thread => {}
            _ if may_stop && dice.once_in(3) => {
                steps.push(Step::Stop(victim));
                steps.push(Step::Pause(dice.below(20_000)));
                steps.push(Step::Continue(victim));
            }
            _ if of.role == Role::Host && dice.once_in(2) => steps.push(Step::ShutDown(victim)),
            _ => steps.push(Step::Kill(victim)),
        }
    }
    if !steps.is_empty() {
        parties.push(party(Role::Director, steps));
    }
}

/// Now and then, in between, what has nothing to do with the form.
pub(super) fn sprinkle(dice: &mut Dice, steps: &mut Vec<Step>, parties: u64) {
    let at = |dice: &mut Dice, steps: &Vec<Step>| dice.below(steps.len() as u64 + 1) as usize;
    if dice.once_in(3) {
        let place = at(dice, steps);
        steps.insert(place, Step::Pause(dice.below(600)));
    }
    if dice.once_in(3) {
        let place = at(dice, steps);
        steps.insert(place, Step::Await(dice.below(parties) as usize, dice.below(6) as usize));
    }
    if dice.once_in(30) {
        let place = at(dice, steps);
        steps.insert(place, Step::Fork(one_of(dice, &[Fork::End, Fork::Drop, Fork::Call, Fork::Call])));
    }
    if dice.once_in(40) {
        let place = at(dice, steps);
        steps.insert(place, Step::PanicNow);
    }
}

fn exchange(dice: &mut Dice, capacity: usize) -> Vec<Party> {
    let hosts = 1 + u64::from(dice.once_in(4));
    let guests = 1 + dice.below(3);
    let mut parties = Vec::new();
    for _ in 0..hosts {
        let mut steps = Vec::new();
        for _ in 0..some(dice, 6) {
            steps.push(match dice.below(6) {
                0 => Step::ServeFor(dice.below(3000)),
                1 => Step::Release,
                2 => Step::TakeBatch(1 + some(dice, 4), how(dice), fate(dice)),
                _ => Step::Take(how(dice), fate(dice)),
            });
        }
        if dice.once_in(8) {
            steps.push(Step::ShutDownSelf);
        }
        match dice.below(8) {
            0 => {}
            1 | 2 => steps.push(Step::Drain(one_of(dice, &[Fate::Done, Fate::Done, Fate::Back, Fate::Elsewhere]))),
            _ => steps.push(Step::Serve(1 + dice.below(4) as usize)),
        }
        for _ in 0..dice.below(3) {
            steps.push(match dice.below(3) {
                0 => Step::Pause(dice.below(500)),
                1 => Step::Take(how(dice), Fate::Done),
                _ => Step::Serve(1 + dice.below(3) as usize),
            });
        }
        sprinkle(dice, &mut steps, hosts + guests);
        let (face, slots) = (face(dice), one_of(dice, &SLOTS));
        let limit = limit(dice);
        parties.push(Party { face, slots, capacity, limit, ..party(Role::Host, steps) });
    }
    for _ in 0..guests {
        let mut steps = Vec::new();
        for _ in 0..some(dice, 12) {
            let how_long = how(dice);
            steps.push(match dice.below(14) {
                0 => Step::Loan(len(dice, capacity), how_long),
                1 | 2 => Step::Pass(len(dice, capacity), handler_action(dice), How::Try),
                3 => Step::Pass(len(dice, capacity), handler_action(dice), How::For(dice.below(1000))),
                4 | 5 => Step::Collect(how_long),
                6 => Step::Forget,
                7 | 8 => Step::Volley(handler_action(dice)),
                9 => one_of(dice, &[Step::Clone, Step::BecomeTask]),
                _ => Step::Call(len(dice, capacity), handler_action(dice), how_long),
            });
        }
        sprinkle(dice, &mut steps, hosts + guests);
        let (face, slots) = (face(dice), one_of(dice, &SLOTS));
        parties.push(Party { face, slots, capacity, ..party(Role::Guest, steps) });
    }
    if dice.once_in(6) {
        much_waits(dice, &mut parties);
    }
    // The least that a host grants: wishes beyond it would be refused.
    let slots = parties.iter().filter(|party| party.role == Role::Host).map(|party| party.slots).min().unwrap_or(1);
    parties.iter_mut().filter(|party| party.role == Role::Guest).for_each(|party| party.slots = party.slots.min(slots));
    direct(dice, &mut parties, true);
    if dice.once_in(4 * PROCESSES_ONE_IN) {
        return killed_holder(dice, capacity);
    }
    parties
}

/// A server is killed while it has requests that it has executed and not answered: their errors must not say that
/// nobody did.
fn killed_holder(dice: &mut Dice, capacity: usize) -> Vec<Party> {
    let many = 1 + dice.below(3) as usize;
    // A client may have given up before: nothing comes then.
    let mut steps = vec![Step::Take(How::For(20_000), Fate::Held); many];
    steps.extend([Step::Pause(300_000), Step::Drain(Fate::Done)]);
    let server = Party { home: Home::Process, face: face(dice), slots: 16, capacity, ..party(Role::Host, steps) };
    let action = one_of(dice, &[HandlerAction::Invert, HandlerAction::Resize]);
    let mut steps = vec![Step::Pass(capacity, action, How::Try); many];
    steps.extend(vec![Step::Collect(how(dice)); many]);
    let client = Party { face: face(dice), slots: many + 1, capacity, ..party(Role::Guest, steps) };
    vec![server, client, party(Role::Director, vec![Step::AwaitSurely(0, many), Step::Kill(0)])]
}

fn senders_and_receivers(dice: &mut Dice, capacity: usize) -> Vec<Party> {
    let hosts = 1 + some(dice, 2) as u64;
    let guests = 1 + dice.below(3);
    let mut parties = Vec::new();
    for _ in 0..hosts {
        let mut steps = Vec::new();
        for _ in 0..some(dice, 10) {
            steps.push(match dice.below(7) {
                0 => Step::Release,
                1 | 2 => Step::TakeBatch(1 + some(dice, 8), how(dice), fate(dice)),
                _ => Step::Take(how(dice), fate(dice)),
            });
        }
        if dice.once_in(6) {
            steps.push(Step::ShutDownSelf);
        }
        match dice.below(6) {
            0 | 1 => {}
            2 => steps.push(Step::Serve(1 + dice.below(3) as usize)),
            _ => steps.push(Step::Drain(one_of(dice, &[Fate::Done, Fate::Dropped, Fate::Back, Fate::Panicked]))),
        }
        if dice.once_in(2) {
            steps.push(Step::Pause(dice.below(300)));
            steps.push(Step::Take(how(dice), Fate::Done));
        }
        sprinkle(dice, &mut steps, hosts + guests);
        let (face, slots) = (face(dice), one_of(dice, &SLOTS));
        let own = if dice.once_in(4) { one_of(dice, &CAPACITIES) } else { capacity };
        let limit = limit(dice);
        parties.push(Party { face, slots, capacity: own.max(capacity), limit, ..party(Role::Host, steps) });
    }
    for _ in 0..guests {
        let mut steps = Vec::new();
        for _ in 0..some(dice, 14) {
            steps.push(match dice.below(12) {
                0 => Step::SendBatch(1 + some(dice, 5), len(dice, capacity)),
                1 => Step::MessageLoan(len(dice, capacity), !dice.once_in(4)),
                2 => Step::Flush(How::For(dice.below(3000))),
                3 => one_of(dice, &[Step::Clone, Step::BecomeTask, Step::Flush(How::For(5000))]),
                _ => Step::Send(len(dice, capacity), how(dice)),
            });
        }
        sprinkle(dice, &mut steps, hosts + guests);
        if dice.once_in(3) {
            steps.push(Step::Release); // it leaves without a word
        }
        let (face, slots) = (face(dice), one_of(dice, &SLOTS));
        parties.push(Party { face, slots, capacity, ..party(Role::Guest, steps) });
    }
    if dice.once_in(8 * PROCESSES_ONE_IN) {
        return stopped_successor(dice, capacity);
    }
    if dice.once_in(4) {
        much_waits(dice, &mut parties);
    }
    if dice.once_in(32) {
        return small_successor(dice, capacity);
    }
    direct(dice, &mut parties, true);
    parties
}

/// Several guests have passed what they can without waiting before the first host's shutdown begins, and go on
/// meanwhile.
fn much_waits(dice: &mut Dice, parties: &mut [Party]) {
    let mut steps = Vec::new();
    for (number, guest) in parties.iter_mut().enumerate().filter(|(_, party)| party.role == Role::Guest) {
        let (many, len) = (1 + dice.below(4) as usize, dice.below(guest.capacity as u64 + 1) as usize);
        guest.slots = guest.slots.max(many + dice.below(2) as usize);
        let action = one_of(
            dice,
            &[HandlerAction::Invert, HandlerAction::InvertLater, HandlerAction::Resize, HandlerAction::Fail],
        );
        // Each form does its own of the two.
        let passing = (0..many).flat_map(|_| [Step::Send(len, How::Forever), Step::Pass(len, action, How::Try)]);
        guest.steps.splice(0..0, passing.chain([Step::Pause(0)]));
        steps.push(Step::AwaitSurely(number, 2 * many));
    }
    steps.push(Step::ShutDownSelf);
    // The shutdown is under way a moment later, and what waits is drained then.
    if !dice.once_in(3) {
        steps.push(Step::Pause(1000 + dice.below(3000)));
    }
    for _ in 0..some(dice, 4) {
        steps.push(match dice.below(4) {
            0 => Step::TakeBatch(1 + some(dice, 3), how(dice), fate(dice)),
            1 => Step::Release,
            _ => Step::Take(how(dice), fate(dice)),
        });
    }
    steps.push(match dice.below(4) {
        0 => Step::Serve(1 + dice.below(3) as usize),
        _ => Step::Drain(one_of(dice, &[Fate::Done, Fate::Back, Fate::Back, Fate::Panicked])),
    });
    let most = parties.iter().map(|party| party.slots).max().unwrap_or(1);
    parties.iter_mut().filter(|party| party.role == Role::Host).for_each(|host| host.slots = most);
    let host = &mut parties[0];
    host.limit = 0;
    host.steps.splice(0..0, steps);
}

/// A receiver is killed, and its successor stopped: a sender that waits no longer than it says goes on all the same.
fn stopped_successor(dice: &mut Dice, capacity: usize) -> Vec<Party> {
    let host = |steps| Party { home: Home::Process, slots: 2, capacity, ..party(Role::Host, steps) };
    let mut steps = vec![Step::Send(capacity.min(8), How::Forever), Step::AwaitSurely(3, 3)];
    for _ in 0..1 + dice.below(3) {
        steps.push(Step::Send(capacity.min(8), one_of(dice, &[How::Try, How::For(3000), How::PolledOnce])));
    }
    let last = steps.len();
    steps.push(Step::Pause(1));
    let director = vec![
        Step::AwaitSurely(2, 1),
        Step::Kill(0),
        Step::AwaitSurely(1, 0),
        Step::Stop(1),
        Step::AwaitSurely(2, last),
        Step::Continue(1),
    ];
    vec![
        host(vec![Step::Pause(0), Step::Drain(Fate::Done)]),
        host(vec![Step::Pause(200), Step::Drain(Fate::Done)]),
        Party { face: face(dice), slots: 2, capacity, ..party(Role::Guest, steps) },
        party(Role::Director, director),
    ]
}

/// A receiver ends with messages that it has not received, and the next one grants less than it is asked for.
fn small_successor(dice: &mut Dice, capacity: usize) -> Vec<Party> {
    let host = |steps| Party { slots: 16, capacity, ..party(Role::Host, steps) };
    let mut steps: Vec<Step> =
        (0..1 + dice.below(6)).map(|_| Step::Send(dice.below(capacity as u64 + 1) as usize, How::Forever)).collect();
    let sent = steps.len();
    steps.extend([Step::AwaitSurely(1, 0), Step::Send(capacity.min(2), How::For(5000)), Step::Flush(How::For(5000))]);
    let lie = Step::Lie(1 + dice.below(3) as usize, dice.below(capacity as u64 + 1) as usize);
    vec![
        host(vec![Step::AwaitSurely(2, sent - 1), Step::Take(How::Try, fate(dice))]),
        host(vec![lie]),
        Party { face: face(dice), slots: 16, capacity, ..party(Role::Guest, steps) },
    ]
}

fn stream(dice: &mut Dice) -> Vec<Party> {
    let ring = one_of(dice, &RINGS);
    let mut parties = Vec::new();
    for role in [Role::Host, Role::Guest] {
        let mut steps = Vec::new();
        for _ in 0..some(dice, 12) {
            let way = one_of(dice, &[Way::Plain, Way::Vectored, Way::InPlace, Way::Plain]);
            let most = one_of(dice, &[60, 5000, 20_000]);
            let len = 1 + some(dice, most);
            steps.push(match dice.below(9) {
                0..=3 => Step::Write(len, way),
                4..=7 => Step::Read(len, way),
                _ => one_of(dice, &[Step::BecomeTask, Step::EndWriting]),
            });
        }
        sprinkle(dice, &mut steps, 2);
        match dice.below(5) {
            0 => {}
            1 | 2 => steps.push(Step::Both(some(dice, 40_000))),
            _ => steps.push(Step::ReadToEnd),
        }
        let face = face(dice);
        parties.push(Party { face, slots: 2, capacity: ring, ..party(role, steps) });
    }
    direct(dice, &mut parties, true);
    // Other users are served in another way: what is lent to them is a copy.
    if has_other_users() && dice.once_in(OTHER_USERS_ONE_IN) {
        parties[1].home = Home::OtherUser;
    }
    if parties[0].home == Home::Process && parties[0].face == Face::Blocking && dice.once_in(3) {
        parties[0].steps.insert(0, Step::AcceptWith(dice.below(9)));
    }
    parties
}

fn semaphore(dice: &mut Dice) -> Vec<Party> {
    let permits = 1 + some(dice, 4);
    let mut parties = Vec::new();
    for _ in 0..2 + dice.below(4) {
        let mut steps = Vec::new();
        for _ in 0..1 + some(dice, 10) {
            let too_many = u64::from(dice.once_in(8));
            let several = match dice.below(4) {
                0 => 1 + dice.below(permits as u64 + too_many) as usize,
                _ => 1,
            };
            let keep_us = if dice.once_in(3) { dice.below(300) } else { 0 };
            steps.push(if dice.once_in(16) { Step::Reopen } else { Step::Acquire(several, how(dice), keep_us) });
        }
        sprinkle(dice, &mut steps, 2);
        parties.push(Party { slots: permits, capacity: 0, ..party(Role::Guest, steps) });
    }
    if dice.once_in(4 * PROCESSES_ONE_IN) {
        return stopped_waiter(dice, permits);
    }
    direct(dice, &mut parties, true);
    parties.iter_mut().filter(|party| party.home == Home::OtherUser).for_each(|party| party.home = Home::Process);
    parties
}

/// One who waits is stopped, and called: the others go on all the same.
fn stopped_waiter(dice: &mut Dice, permits: usize) -> Vec<Party> {
    let guest = |steps| Party { slots: permits, capacity: 0, ..party(Role::Guest, steps) };
    let wanted = 1 + dice.below(permits as u64) as usize;
    let others = 2 + dice.below(2) as usize;
    let mut director = vec![Step::AwaitSurely(0, 1), Step::Pause(2000), Step::Stop(0)];
    let mut parties = vec![Party {
        home: Home::Process,
        ..guest(vec![Step::AwaitSurely(1, 0), Step::Acquire(wanted, How::Forever, 0)])
    }];
    for party in 0..others {
        let keep_us = 1000 + dice.below(40_000);
        parties.push(guest(vec![
            Step::Acquire(if party == 0 { permits } else { wanted }, How::Forever, keep_us),
            Step::Acquire(1, How::Forever, 100),
            Step::Pause(1),
        ]));
        director.push(Step::AwaitSurely(party + 1, 2));
    }
    director.push(Step::Continue(0));
    parties.push(party(Role::Director, director));
    parties
}

/// More sessions than one look hears of.
fn crowd(dice: &mut Dice, form: Form) -> Vec<Party> {
    let sessions = 65 + dice.below(300) as usize;
    let end = match form {
        Form::Queue => Step::Drain(Fate::Done),
        _ => Step::Serve(1 + dice.below(3) as usize),
    };
    let host = Party { face: face(dice), slots: 1, capacity: 0, ..party(Role::Host, vec![end]) };
    let crowd = vec![Step::Crowd(sessions, 2 + dice.below(4) as usize)];
    let guest = Party { slots: 1, capacity: 0, ..party(Role::Guest, crowd) };
    vec![host, guest]
}
