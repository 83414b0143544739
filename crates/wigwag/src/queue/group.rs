//! A sender whose receivers share a name: it has a session with each of them, and deals its messages out.
//!
//! Each session has an [`Outbox`](crate::queue::outbox) of its own and is what a sender of one receiver has: a
//! [`Producer`]. One of them is in the sender's hand, and the next message goes there; all others are here. Before each
//! message the one that has the least to do is taken in hand. A receiver that has ended leaves its messages to another
//! by [`Producer::move_to`], into a session of their own, where there is room for all of them: so neither a full
//! receiver nor a slow one holds them up. Such a session ends once all of it is acknowledged.
//!
//! Nothing here waits: [`crate::queue::dealing`] and `tokio` do.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::options::ConnectOptions;
use crate::queue::producer::{Producer, Room};
use crate::session::connect::{ClientHandshake, Established, Progress};
use crate::session::members::{MEMBERS_MAX, Members};
use crate::session::name::ServiceName;
use crate::session::roll_call::RollCall;
use crate::stats::SenderStats;
use crate::sys::clock;
use crate::sys::epoll::{Events, Interest, Poller};

/// That somebody may have come who shares the name.
const KEY_ROLL_CALL: u64 = 0;

/// So many messages under way are counted exactly before each message.
const COUNTED_EXACTLY: usize = 16;
/// More are counted anew after so many that were sent there, and when the clock has ticked.
const SENT_PER_COUNT: usize = 32;

/// How long after a search that failed the next one for the same messages begins, while others are sent.
const AFTER_SEARCH: Duration = Duration::from_millis(100);
/// First and longest time after which one that would not have a session is asked again.
const AFTER_REFUSAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Room for one message, at whomever.
    Room,
    /// That all is acknowledged.
    Acknowledgements,
}

/// A handshake under way.
struct Search {
    key: u64,
    handshake: Box<ClientHandshake>,
    /// When it goes on without anything that tells of it.
    at: Option<Instant>,
}

/// What is known of one session.
struct Lane {
    /// Its poller's, in the group's.
    key: u64,
    /// For somebody who takes over what its receiver did not acknowledge.
    search: Option<Search>,
    /// Until when there is no search, as the last one failed.
    rests_until: Option<Instant>,
    /// Its receiver has another session with this sender, which gets the messages that are new.
    is_second: bool,
    /// How many were not acknowledged when that was counted.
    counted: usize,
    /// How many were sent since.
    sent_since: usize,
    /// The message after which it was in hand last.
    turn: u64,
    /// Which of its messages is waited for.
    awaited: Option<usize>,
}

/// A session that is not in the sender's hand.
struct Other {
    lane: Lane,
    producer: Producer,
}

/// One who was asked for a session in vain.
struct Refusal {
    member: usize,
    /// It did not listen: it is dead, or about to begin, of which the directory need not tell.
    was_missing: bool,
    pause: Duration,
    until: Instant,
}

/// The sessions of one sender with all who share the name.
pub struct Group {
    /// The pollers of all sessions and of all handshakes are in it.
    poller: Poller,
    events: Events,
    last_key: u64,
    /// Of the session in hand.
    lane: Lane,
    others: Vec<Other>,
    joining: Vec<(usize, Search)>,
    refusals: Vec<Refusal>,
    roll_call: RollCall,
    /// What is asked of those who join: each session is as large as the first.
    wishes: ConnectOptions,
    /// What sessions counted that have ended.
    former: SenderStats,
    /// Why the messages of one that has ended have nobody yet.
    trouble: Option<Error>,
    turn: u64,
    tended_at: i64,
    sleeps: u64,
    /// The poller tells of moments, too, as a reactor needs it.
    is_of_task: bool,
}

impl Lane {
    fn new(key: u64) -> Lane {
        let (counted, sent_since) = (0, SENT_PER_COUNT);
        Lane { key, search: None, rests_until: None, is_second: false, counted, sent_since, turn: 0, awaited: None }
    }

    /// How many messages its receiver has not acknowledged: of many not always the exact number.
    fn open(&mut self, producer: &mut Producer) -> Result<usize> {
        while producer.free_oldest()? {}
        let under_way = producer.under_way();
        if under_way <= COUNTED_EXACTLY || self.sent_since >= SENT_PER_COUNT {
            (self.counted, self.sent_since) = (producer.unacknowledged(), 0);
        }
        Ok((self.counted + self.sent_since).min(under_way))
    }
}

impl Search {
    fn begin(handshake: ClientHandshake, key: u64, poller: &Poller, is_of_task: bool) -> Result<Search> {
        let mut search = Search { key, handshake: Box::new(handshake), at: None };
        search.handshake.watch_in(poller, key, Interest::Readable)?;
        if is_of_task {
            search.handshake.tell_moments()?;
        }
        Ok(search)
    }

    /// Goes on as far as it can.
    fn step(&mut self) -> Result<Option<Established>> {
        match self.handshake.step_and_tell()? {
            Progress::Attached(established) => Ok(Some(*established)),
            Progress::Wait(at) => {
                self.at = at;
                Ok(None)
            }
        }
    }

    fn end(self, poller: &Poller) {
        self.handshake.leave(poller);
    }
}

impl Group {
    /// Of a sender that has a session with one who shares the name.
    pub fn new(first: &Producer) -> Result<Group> {
        let place = ServiceName::find(first.name())?.of_form(first.options().contract.form);
        let server_uid = first.options().server_user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let poller = Poller::new()?;
        let key = KEY_ROLL_CALL + 1;
        poller.add(first.connection().poller(), key, Interest::Readable)?;
        Ok(Group {
            poller,
            events: Events::with_capacity(32),
            last_key: key,
            lane: Lane::new(key),
            others: Vec::new(),
            joining: Vec::new(),
            refusals: Vec::new(),
            roll_call: RollCall::new(place, server_uid),
            wishes: ConnectOptions {
                slots: Some(first.slots()),
                capacity: Some(first.capacity()),
                server_timeout: Duration::ZERO,
                ..first.options().clone()
            },
            former: SenderStats::default(),
            trouble: None,
            turn: 0,
            tended_at: clock::tick(),
            sleeps: 0,
            is_of_task: false,
        })
    }

    /// A call begins that may wait: what nobody waited for until now has all of its time.
    pub fn begin_call(&mut self) {
        let Group { lane, others, poller, trouble, .. } = self;
        *trouble = None;
        for lane in std::iter::once(lane).chain(others.iter_mut().map(|other| &mut other.lane)) {
            lane.rests_until = None;
            if lane.search.as_ref().is_some_and(|search| search.handshake.is_stale()) {
                lane.search.take().into_iter().for_each(|search| search.end(poller));
            }
        }
    }

    /// Takes that session in hand which is to have the next message.
    pub fn choose(&mut self, current: &mut Producer) -> Result<Room> {
        if self.tended_at != clock::tick() {
            self.tend(current)?;
        }
        let mut loads = [0; MEMBERS_MAX + 1];
        for (lane, producer) in each(&mut self.lane, current, &mut self.others) {
            match producer.is_receiver_gone() {
                false => loads[producer.member()] += lane.open(producer)?,
                true => drop(producer.wishes_for_successor()?), // none after a violation, which is for good
            }
        }
        let mut least: Option<(usize, u64, usize)> = None;
        let mut room = Room::Gone;
        for (index, (lane, producer)) in each(&mut self.lane, current, &mut self.others).enumerate() {
            if producer.is_receiver_gone() || lane.is_second {
                continue;
            }
            if producer.is_full() {
                room = if room == Room::Gone { Room::Full } else { room };
                continue;
            }
            let this = (loads[producer.member()], lane.turn, index);
            least = Some(least.map_or(this, |least| least.min(this)));
        }
        let Some((_, _, index)) = least else { return Ok(room) };
        if let Some(other) = index.checked_sub(1).and_then(|index| self.others.get_mut(index)) {
            current.ring(); // for what a batch has put there
            std::mem::swap(current, &mut other.producer);
            std::mem::swap(&mut self.lane, &mut other.lane);
        }
        self.turn += 1;
        self.lane.turn = self.turn;
        self.lane.sent_since += 1;
        Ok(Room::There)
    }

    /// Does what is due, without waiting.
    pub fn tend(&mut self, current: &mut Producer) -> Result<()> {
        self.poller.poll(&mut self.events)?;
        self.take_in(current)
    }

    /// Sleeps until something has come of it, or that moment, and does what is due.
    pub fn sleep(&mut self, current: &mut Producer, awaited: Awaited, until: Option<Instant>) -> Result<()> {
        let now = Instant::now();
        let mut until = until.into_iter().chain(self.next_moment()).min();
        if awaited == Awaited::Room {
            let silence = self.roll_call.watch(&self.poller, KEY_ROLL_CALL);
            until = until.into_iter().chain(now.checked_add(silence)).min();
        }
        self.sleeps += 1;
        self.poller.wait(&mut self.events, until)?;
        self.take_in(current)
    }

    /// What becomes readable when [`tend`](Group::tend) is due.
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// The same for a reactor; and so from now on of moments as well.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn for_reactor(&mut self) -> Result<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        self.tell_moments()?;
        let copied = self.poller.as_fd().try_clone_to_owned();
        copied.map_err(|error| Error::io("copy a descriptor for the reactor", error))
    }

    /// For who sleeps elsewhere: the poller tells of moments, too.
    pub fn tell_moments(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_of_task, true) {
            return Ok(());
        }
        let lanes = std::iter::once(&mut self.lane).chain(self.others.iter_mut().map(|other| &mut other.lane));
        let searches = lanes.filter_map(|lane| lane.search.as_mut());
        for search in searches.chain(self.joining.iter_mut().map(|(_, search)| search)) {
            search.handshake.tell_moments()?;
        }
        Ok(())
    }

    /// For who sleeps elsewhere: that somebody who comes is told of. Whether that was so already; else there is to be
    /// another look.
    pub fn watch_for_more(&mut self) -> bool {
        !self.roll_call.watch(&self.poller, KEY_ROLL_CALL).is_zero()
    }

    /// Asks all to ring; `false`: there is nothing to wait for. Whoever sleeps then is woken by the poller.
    pub fn ask(&mut self, current: &mut Producer, awaited: Awaited) -> Result<bool> {
        for (lane, producer) in each(&mut self.lane, current, &mut self.others) {
            producer.ring();
            if producer.is_receiver_gone() {
                continue;
            }
            let place = match awaited {
                Awaited::Room if lane.is_second => continue,
                Awaited::Room if producer.has_room()? => return Ok(false),
                Awaited::Room => Some(0),
                Awaited::Acknowledgements => producer.newest_open()?,
            };
            if place.is_some_and(|place| !producer.ask_for_ring(place)) {
                return Ok(false);
            }
        }
        // All may have been acknowledged since the last look: then nobody was asked, and nobody would ring.
        Ok(awaited == Awaited::Room || faults::is(Fault::UnrungSleep) || !self.is_done(current)?)
    }

    /// Notes what is waited for at each.
    pub fn expect(&mut self, current: &mut Producer, awaited: Awaited) -> Result<()> {
        for (lane, producer) in each(&mut self.lane, current, &mut self.others) {
            lane.awaited = match awaited {
                _ if producer.is_receiver_gone() => None,
                Awaited::Room => (!lane.is_second).then_some(0),
                Awaited::Acknowledgements => producer.newest_open()?,
            };
        }
        Ok(())
    }

    /// Whether some of that has come, as a look at the memory says.
    pub fn has_come(&mut self, current: &mut Producer) -> bool {
        each(&mut self.lane, current, &mut self.others).any(|(lane, producer)| {
            let line = lane.awaited.and_then(|place| producer.line(place));
            line.is_some_and(|line| producer.connection().is_ready(line))
        })
    }

    /// Whether all is acknowledged.
    pub fn is_done(&mut self, current: &mut Producer) -> Result<bool> {
        for (_, producer) in each(&mut self.lane, current, &mut self.others) {
            if producer.newest_open()?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether something is under way to a receiver of another process, or to none.
    pub fn has_left_something(&mut self, current: &mut Producer) -> bool {
        each(&mut self.lane, current, &mut self.others).any(|(_, producer)| producer.has_left_something())
    }

    /// Why there is nobody for the messages of one that has ended, if a search has said so.
    pub fn take_trouble(&mut self) -> Option<Error> {
        self.trouble.take()
    }

    /// Why nobody is there yet, for a call that does not wait.
    pub fn not_yet(&mut self, current: &Producer) -> Error {
        let error = self.lane.search.as_mut().map(|search| search.handshake.not_yet());
        error.map_or_else(|| current.why_gone(), |error| current.not_found(error))
    }

    /// Whether somebody was asked for a session who has not answered yet.
    pub fn is_joining(&self) -> bool {
        !self.joining.is_empty()
    }

    /// How many receivers have a session.
    pub fn len(&self, current: &Producer) -> usize {
        let others = self.others.iter().map(|other| (&other.lane, &other.producer));
        let living = std::iter::once((&self.lane, current)).chain(others);
        living.filter(|(lane, producer)| !lane.is_second && !producer.is_receiver_gone()).count()
    }

    /// Each search lasts so long from now on, where there is nobody.
    pub fn look_for_receivers_for(&mut self, time: Duration) {
        let Group { others, lane, poller, .. } = self;
        let mut lanes = vec![lane];
        for other in others {
            other.producer.look_for_receivers_for(time);
            lanes.push(&mut other.lane);
        }
        lanes.into_iter().filter_map(|lane| lane.search.take()).for_each(|search| search.end(poller));
    }

    /// Nothing is waited for in the task's way any more.
    #[cfg(not(loom))]
    pub fn leave_task(&mut self) {
        self.is_of_task = false;
    }

    /// How many messages are not acknowledged, but for those in hand.
    pub fn unacknowledged(&self) -> usize {
        self.others.iter().map(|other| other.producer.unacknowledged()).sum()
    }

    /// What all sessions have counted, but for that in hand.
    pub fn stats(&self) -> SenderStats {
        let mut sum = self.others.iter().fold(self.former, |sum, other| sum.and(&other.producer.stats()));
        sum.sleeps += self.sleeps;
        sum
    }

    fn next_moment(&self) -> Option<Instant> {
        let lanes = std::iter::once(&self.lane).chain(self.others.iter().map(|other| &other.lane));
        let of_lane = |lane: &Lane| match &lane.search {
            Some(search) => search.at,
            None => lane.rests_until,
        };
        lanes.filter_map(of_lane).chain(self.joining.iter().filter_map(|(_, search)| search.at)).min()
    }

    /// Does what is due after a look at the poller.
    fn take_in(&mut self, current: &mut Producer) -> Result<()> {
        self.tended_at = clock::tick();
        let Group { lane, others, events, poller, .. } = self;
        for (lane, producer) in each(lane, current, others) {
            lane.sent_since = SENT_PER_COUNT;
            if producer.is_receiver_gone() {
                continue;
            }
            match events.iter().any(|ready| ready.key == lane.key) {
                true => producer.look()?,
                false => producer.found_alive(),
            }
            if producer.is_receiver_gone() {
                poller.remove(producer.connection().poller()); // its end stays readable
            }
        }
        self.join(current)?;
        self.move_on(current)?;
        self.tidy(current)
    }

    /// Asks those for a session who share the name and have none.
    fn join(&mut self, current: &mut Producer) -> Result<()> {
        let members = self.roll_call.members();
        let now = Instant::now();
        let has_changed = self.roll_call.take_change();
        self.refusals.retain(|it| members.has(it.member) && !(it.was_missing && has_changed));
        let mut known = Members::default();
        for (_, producer) in each(&mut self.lane, current, &mut self.others) {
            if !producer.is_receiver_gone() && producer.member() > 0 {
                known = known.with(producer.member());
            }
        }
        known = self.joining.iter().fold(known, |known, (member, _)| known.with(*member));
        let resting = self.refusals.iter().filter(|refusal| refusal.until > now);
        known = resting.fold(known, |known, refusal| known.with(refusal.member));
        for member in members.without(known).iter() {
            self.last_key += 1;
            let search = self.roll_call.place().member(member).and_then(|place| {
                let handshake = ClientHandshake::begin(place.called(), self.wishes.clone())?.exactly();
                Search::begin(handshake, self.last_key, &self.poller, self.is_of_task)
            });
            match search {
                Ok(search) => self.joining.push((member, search)),
                Err(error) => self.refused(member, &error),
            }
        }
        let joining = std::mem::take(&mut self.joining);
        for (member, mut search) in joining {
            match search.step() {
                Ok(None) => self.joining.push((member, search)),
                Ok(Some(established)) => {
                    self.refusals.retain(|refusal| refusal.member != member);
                    let mut producer = Producer::new(current.name(), current.options().clone(), established);
                    producer.be_member(member);
                    self.others.push(Other { lane: Lane::new(search.key), producer });
                }
                Err(error) => {
                    search.end(&self.poller);
                    self.refused(member, &error);
                }
            }
        }
        Ok(())
    }

    fn refused(&mut self, member: usize, error: &Error) {
        let was_missing = matches!(error.kind(), ErrorKind::NotRunning | ErrorKind::PeerDied { .. });
        if was_missing {
            self.roll_call.doubt();
        }
        let before = self.refusals.iter().position(|refusal| refusal.member == member);
        let pause = before.map(|at| self.refusals.swap_remove(at).pause * 2).unwrap_or(AFTER_REFUSAL.0);
        let pause = pause.min(AFTER_REFUSAL.1);
        self.refusals.extend(Instant::now().checked_add(pause).map(|until| Refusal {
            member,
            was_missing,
            pause,
            until,
        }));
    }

    /// Looks for somebody who takes what those have left who have ended.
    fn move_on(&mut self, current: &mut Producer) -> Result<()> {
        let mut sessions = 1 + self.others.len();
        let Group { lane, others, poller, last_key, is_of_task, trouble, .. } = self;
        for (lane, producer) in each(lane, current, others) {
            if !producer.is_receiver_gone() {
                continue;
            }
            let has_nothing = producer.newest_open()?.is_none() || faults::is(Fault::ForgottenMember);
            if has_nothing && sessions > 1 {
                sessions -= 1; // it goes
                continue;
            }
            *last_key += 1;
            if producer.adopt() {
                lane.search.take().into_iter().for_each(|search| search.end(poller));
                poller.add(producer.connection().poller(), *last_key, Interest::Readable)?;
                *lane = Lane { turn: lane.turn, ..Lane::new(*last_key) };
                continue;
            }
            if lane.search.is_none() && lane.rests_until.is_some_and(|at| at > Instant::now()) {
                continue;
            }
            let begin = |producer: &Producer| {
                let handshake = producer.search()?.prefer_after(producer.member());
                Search::begin(handshake, *last_key, poller, *is_of_task)
            };
            let search = lane.search.take().map_or_else(|| begin(producer), Ok);
            let outcome = search.and_then(|search| {
                let search = lane.search.insert(search);
                let established = search.step()?;
                let Some(established) = established else { return Ok(None) };
                if producer.act_by_itself() {
                    poller.add(producer.connection().poller(), search.key, Interest::Readable)?;
                    return Ok(Some(search.key)); // the thread was first
                }
                let connection = producer.connection_of(established);
                producer.move_to(connection)?;
                Ok(Some(search.key))
            });
            match outcome {
                Ok(None) => {}
                Ok(Some(key)) => *lane = Lane { turn: lane.turn, ..Lane::new(key) },
                // It is for good: nothing that such a receiver says can be believed.
                Err(error) if error.kind() == ErrorKind::Violation => return Err(error),
                Err(error) => {
                    lane.search.take().into_iter().for_each(|search| search.end(poller));
                    lane.rests_until = Instant::now().checked_add(AFTER_SEARCH);
                    *trouble = Some(producer.not_found(error));
                }
            }
        }
        Ok(())
    }

    /// Ends the sessions that nobody needs any more, and finds out which receivers have two.
    fn tidy(&mut self, current: &mut Producer) -> Result<()> {
        let mut seen = [false; MEMBERS_MAX + 1];
        let mut superfluous = Vec::new();
        let mut left = 1 + self.others.len();
        // The largest sessions come first in no order: a receiver's oldest one is where it was.
        for (index, (lane, producer)) in each(&mut self.lane, current, &mut self.others).enumerate() {
            let is_gone = producer.is_receiver_gone();
            lane.is_second = !is_gone && std::mem::replace(&mut seen[producer.member()], true);
            let is_forgotten = is_gone && faults::is(Fault::ForgottenMember);
            let is_needless = is_gone || lane.is_second;
            if is_needless && left > 1 && (is_forgotten || producer.newest_open()?.is_none()) {
                superfluous.push(index);
                left -= 1;
            }
        }
        for index in superfluous.into_iter().rev() {
            let mut other = match index.checked_sub(1) {
                Some(index) => self.others.swap_remove(index),
                None => {
                    let Some(mut other) = self.others.pop() else { break };
                    std::mem::swap(current, &mut other.producer);
                    std::mem::swap(&mut self.lane, &mut other.lane);
                    other
                }
            };
            other.lane.search.take().into_iter().for_each(|search| search.end(&self.poller));
            self.poller.remove(other.producer.connection().poller());
            self.former = self.former.and(&other.producer.stats());
        }
        Ok(())
    }
}

/// All sessions: first that in hand.
fn each<'a>(
    lane: &'a mut Lane,
    current: &'a mut Producer,
    others: &'a mut [Other],
) -> impl Iterator<Item = (&'a mut Lane, &'a mut Producer)> {
    std::iter::once((lane, current)).chain(others.iter_mut().map(|other| (&mut other.lane, &mut other.producer)))
}

#[cfg(all(test, not(loom), not(wigwag_faults)))]
mod tests {
    use wigwag_testing::{Ground, eventually};

    use super::*;
    use crate::session::connect;
    use crate::{Receiver, Sender};

    #[test]
    fn w1_nobody_sleeps_for_acknowledgements_that_have_all_come() {
        let ground = Ground::new();
        let receivers = [(); 2].map(|()| Receiver::builder().shared(true).bind(ground.socket()).unwrap());
        let options = Sender::builder().slots(4).capacity(64).checked_options().unwrap();
        let name = ground.socket();
        let established = connect::attach(name.as_ref(), &options).unwrap();
        let mut current = Producer::new(name.as_ref(), options, established);
        let mut group = Group::new(&current).unwrap();
        eventually("both are found", || {
            group.tend(&mut current).unwrap();
            group.len(&current) == receivers.len()
        });
        assert!(!group.ask(&mut current, Awaited::Acknowledgements).unwrap(), "nothing was sent");
        for _ in &receivers {
            assert_eq!(group.choose(&mut current).unwrap(), Room::There);
            current.put(b"one").unwrap();
        }
        assert!(group.ask(&mut current, Awaited::Acknowledgements).unwrap(), "both are under way");
        receivers[0].recv().unwrap().ack();
        assert!(group.ask(&mut current, Awaited::Acknowledgements).unwrap(), "one is under way");
        receivers[1].recv().unwrap().ack();
        assert!(!group.ask(&mut current, Awaited::Acknowledgements).unwrap(), "nobody would ring");
    }
}
