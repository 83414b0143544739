//! What acts for a sender between its calls: one thread of the process hands what a receiver that has ended did not
//! acknowledge to its successor, and the sender goes on there with its next call.
//!
//! **It costs a message nothing.** The sender's calls know nothing of the thread until they find that their receiver is
//! gone. Until then the old session is the sender's alone to write to: its calls may still commit messages there, and
//! the thread reads. What it has to know of a message lies in the outbox's [`Records`], which are published by the turn
//! as all else is. It passes the messages on in a session of its own, the *heir*, which the sender takes over.
//!
//! **A message that is committed after the thread has looked** rings for it. The receiver is gone, so the thread takes
//! its place at the doorbell: it announces that it sleeps, looks once more, and is rung by the commit as the receiver
//! was. So the sender's commit, which looks for a sleeper anyway, needs no further look, whenever it comes.
//!
//! **Both never act at once.** The heir is under a lock. The sender takes it out before it looks for a successor by
//! itself or hands anything over, and from then on the thread does nothing for that session.
//!
//! The thread begins with the first session that needs one, sleeps while all receivers live, and ends with the last.
//! Not stood in for are sessions with a receiver of another user, whose doorbell is another; with one of this very
//! process, where both end together; with descriptors, which only the sender's own calls may send; and all of a process
//! that has no descriptor or no thread to spare. They go on with the sender's next call.

use std::collections::HashMap;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::memory::doorbell::Waiting;
use crate::memory::segment::{Moving, Segment};
use crate::memory::slot;
use crate::queue::failover;
use crate::queue::outbox::{Records, Unacked};
use crate::queue::producer::{self, Producer};
use crate::session::agreement::Protocol;
use crate::session::background::PeerSocket;
use crate::session::connect::{ClientHandshake, Established, Progress};
use crate::session::protocol::{FromServer, Reason};
use crate::stats::SenderStats;
use crate::sync;
use crate::sync::Ordering;
use crate::sys::clock;
use crate::sys::epoll::{Events, Interest, Poller};
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::per_process::PerProcess;
use crate::sys::socket;
use crate::trace;

/// How long a call that waits has for finding the end by itself.
const GRACE: Duration = Duration::from_millis(20);
/// First and longest time after which a successor that would not have the session is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// What the thread needs of a stack, many times over.
const STACK_BYTES: usize = 256 << 10;

/// What is added to a session's number, for each thing that tells of it.
const KEYS: u64 = 4;
const KEY_SOCKET: u64 = 0;
const KEY_PIDFD: u64 = 1;
const KEY_BELL: u64 = 2;
/// Of the handshake with a successor, and then of that session.
const KEY_HEIR: u64 = 3;
/// The thread is told that there is something else to do. No session has this number.
const KEY_WAKE: u64 = 0;

/// What the thread knows of a session.
struct StandIn {
    segment: Segment,
    records: Records,
    protocol: Protocol,
    socket: Arc<PeerSocket>,
    pidfd: Option<OwnedFd>,
    /// The receiver's: rung by the sender.
    bell: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The sender does it by itself.
    is_over: bool,
    heir: Option<Box<Heir>>,
}

/// A session with a successor, and which messages are there.
pub(super) struct Heir {
    producer: Producer,
    /// By the old session's slot: the sequence of the message that was passed on.
    moved: HashMap<usize, u64>,
}

/// The sessions that the thread looks after. There is one such list while there are any.
struct List {
    sessions: Mutex<Sessions>,
    poller: Poller,
    wake: Bell,
    thread: Mutex<Option<JoinHandle<()>>>,
    fork: ForkGuard,
}

#[derive(Default)]
struct Sessions {
    last: u64,
    of: HashMap<u64, (Arc<StandIn>, Wishes)>,
    /// Since the thread looked last.
    new: Vec<u64>,
}

/// Whom the thread looks for.
#[derive(Clone)]
struct Wishes {
    name: std::ffi::OsString,
    options: crate::options::ConnectOptions,
    /// What the sender was made with.
    own: crate::options::ConnectOptions,
    member: usize,
}

static LIST: PerProcess<Mutex<Option<Arc<List>>>> = PerProcess::new(|| Mutex::new(None));

/// A session that is on the list, for its sender.
pub(super) struct StoodInFor {
    number: u64,
    list: Arc<List>,
    stand_in: Arc<StandIn>,
}

impl Producer {
    /// From now on somebody acts for this session while no call is made, if that can be.
    pub(super) fn be_stood_in_for(&mut self) {
        let connection = self.connection();
        if !self.is_stood_in_for
            || !connection.is_of_same_user()
            || connection.has_descriptors()
            || connection.is_within_this_process()
        {
            return;
        }
        match self.enlist() {
            Ok(stood_in_for) => self.stand_in = Some(stood_in_for),
            Err(error) => trace::not_stood_in_for(self.name(), &error),
        }
    }

    fn enlist(&self) -> Result<StoodInFor> {
        let connection = self.connection();
        let (socket, pidfd, bell) = connection.signs_of_life();
        let copy = |error| Error::io("copy a descriptor for the thread that stands in for a sender", error);
        let stand_in = StandIn {
            segment: connection.segment().share(),
            records: self.outbox.records(),
            protocol: connection.protocol(),
            socket: Arc::clone(socket),
            pidfd: pidfd.map(|pidfd| pidfd.try_clone()).transpose().map_err(copy)?,
            bell: bell.as_fd().try_clone_to_owned().map_err(copy)?,
            state: Mutex::default(),
        };
        let mut options = self.wishes_for_successor()?;
        options.server_timeout = Duration::MAX;
        let (name, own) = (self.name().to_owned(), self.options().clone());
        List::enlist(stand_in, Wishes { name, options, own, member: self.member() })
    }

    /// Goes on in the session that the thread has made meanwhile, if there is one. Whether there is.
    pub(super) fn adopt(&mut self) -> bool {
        let has_heir = self.stand_in.as_ref().is_some_and(|it| sync::lock(&it.stand_in.state).heir.is_some());
        if !has_heir || self.act_by_itself() {
            return has_heir;
        }
        self.be_stood_in_for(); // that receiver has ended, too, and who looks for the next one may give up
        false
    }

    /// From here on the sender does what is to be done for this session. Whether the thread has done it, and the
    /// receiver of that session lives, as far as is known.
    pub(super) fn act_by_itself(&mut self) -> bool {
        let Some(heir) = self.stand_in.take().and_then(StoodInFor::end) else { return false };
        self.inherit(*heir);
        if self.connection.is_over() {
            return false;
        }
        self.be_stood_in_for();
        true
    }

    /// The sender ends. What the thread has passed on for it is left where it lies now, and all else is there, too.
    pub(super) fn inherit_at_the_end(&mut self) {
        if let Some(heir) = self.stand_in.take().and_then(StoodInFor::end) {
            self.inherit(*heir);
        }
    }

    fn inherit(&mut self, heir: Heir) {
        let Heir { producer: mut new, moved } = heir;
        let mut bytes = Vec::new();
        for from in (0..self.outbox.len()).filter_map(|place| self.outbox.get(place)) {
            if moved.get(&from.slot) == Some(&from.sequence) {
                continue;
            }
            if self.is_acknowledged(from.slot, from.sequence) {
                self.counters.acknowledged += 1;
                continue;
            }
            let segment = self.connection.segment();
            failover::copy(segment, from, &mut bytes);
            new.take_in(segment, from, &bytes);
        }
        failover::note_moving(&self.connection, Moving::Done);
        new.connection.ring_if_asleep();
        self.member = new.member;
        self.alive_at = clock::tick();
        mem::swap(&mut self.outbox, &mut new.outbox);
        mem::swap(&mut self.connection, &mut new.connection);
        let old = new; // and its session, which says that all of it has moved
        self.counters.acknowledged += old.counters.acknowledged;
        self.counters.redelivered += old.counters.redelivered;
        self.counters.reconnects += old.counters.reconnects + 1;
        self.counters.doorbells_rung += old.counters.doorbells_rung + old.connection.doorbells_rung();
        self.counters.sleeps += old.counters.sleeps + old.connection.sleeps();
    }

    /// A message of another session is passed here: there is room, as this one is as large.
    fn take_in(&mut self, old: &Segment, from: Unacked, bytes: &[u8]) {
        let is_redelivered = from.is_redelivered || !failover::was_untouched(old, from.slot);
        let to = self.outbox.push(from.len, is_redelivered, slot::next_sequence);
        self.pass_moved(old, (from, to), bytes, 0);
    }
}

impl StoodInFor {
    /// The thread does nothing for it any more.
    fn end(self) -> Option<Box<Heir>> {
        if self.list.fork.is_forked() {
            return None;
        }
        let heir = {
            let mut state = sync::lock(&self.stand_in.state);
            state.is_over = true;
            state.heir.take()
        };
        // A forked child may hold it open: it is taken out by name.
        heir.iter().for_each(|heir| self.list.poller.remove(heir.producer.connection().poller()));
        heir // and `self` is struck off
    }

    /// What was acknowledged in the session that its sender has not seen yet.
    pub(super) fn add_to(&self, stats: &mut SenderStats) {
        let state = sync::lock(&self.stand_in.state);
        let Some(heir) = &state.heir else { return };
        let theirs = heir.producer.stats();
        stats.acknowledged += theirs.acknowledged;
        stats.redelivered += theirs.redelivered;
        stats.reconnects += theirs.reconnects + 1;
    }
}

impl Drop for StoodInFor {
    fn drop(&mut self) {
        if self.list.fork.is_forked() {
            return; // the thread is the parent's, and its lock may have been held
        }
        let heir = {
            let mut state = sync::lock(&self.stand_in.state);
            state.is_over = true;
            state.heir.take()
        };
        heir.iter().for_each(|heir| self.list.poller.remove(heir.producer.connection().poller()));
        drop(heir);
        self.list.strike(self.number);
    }
}

impl List {
    fn enlist(stand_in: StandIn, wishes: Wishes) -> Result<StoodInFor> {
        let mut current = sync::lock(LIST.get());
        let list = match &*current {
            Some(list) => Arc::clone(list),
            None => {
                let list = List {
                    sessions: Mutex::default(),
                    poller: Poller::new()?,
                    wake: Bell::new()?,
                    thread: Mutex::default(),
                    fork: ForkGuard::new(),
                };
                list.poller.add(&list.wake, KEY_WAKE, Interest::Bell)?;
                let list = Arc::new(list);
                let of_thread = Arc::clone(&list);
                let thread = thread::Builder::new().name("wigwag-stand-in".to_owned()).stack_size(STACK_BYTES);
                let started = thread.spawn(move || of_thread.run());
                let started =
                    started.map_err(|error| Error::io("start the thread that stands in for senders", error))?;
                *sync::lock(&list.thread) = Some(started);
                *current = Some(Arc::clone(&list));
                list
            }
        };
        let stand_in = Arc::new(stand_in);
        let number = {
            let mut sessions = sync::lock(&list.sessions);
            sessions.last += 1;
            let number = sessions.last;
            sessions.of.insert(number, (Arc::clone(&stand_in), wishes));
            sessions.new.push(number);
            number
        };
        // An error from here on strikes it off.
        let stood_in_for = StoodInFor { number, list: Arc::clone(&list), stand_in };
        let StandIn { socket, pidfd, .. } = &*stood_in_for.stand_in;
        drop(current);
        list.poller.add(&**socket, number * KEYS + KEY_SOCKET, Interest::HungUp)?;
        if let Some(pidfd) = pidfd {
            list.poller.add(pidfd, number * KEYS + KEY_PIDFD, Interest::Bell)?;
        }
        Ok(stood_in_for)
    }

    fn strike(&self, number: u64) {
        let mut current = sync::lock(LIST.get());
        let mut sessions = sync::lock(&self.sessions);
        if let Some((stand_in, _)) = sessions.of.remove(&number) {
            // A forked child may hold them open: they are taken out by name.
            self.poller.remove(&*stand_in.socket);
            self.poller.remove(&stand_in.bell);
            stand_in.pidfd.iter().for_each(|pidfd| self.poller.remove(pidfd));
        }
        let is_last = sessions.of.is_empty();
        drop(sessions);
        let former = current.take_if(|list| is_last && std::ptr::eq(&**list, self));
        drop(current);
        self.wake.ring();
        if former.is_some() {
            // It never waits for anybody but in its sleep: so nothing of it is left when the last sender is gone.
            let _ = sync::lock(&self.thread).take().map(JoinHandle::join);
        }
    }

    fn run(self: Arc<List>) {
        let _ending = Ending(Arc::clone(&self));
        let mut events = Events::with_capacity(64);
        let mut entries: HashMap<u64, Entry> = HashMap::new();
        loop {
            let until = entries.values().filter_map(|entry| entry.at).min();
            if self.poller.wait(&mut events, until).is_err() {
                return;
            }
            {
                let mut sessions = sync::lock(&self.sessions);
                for number in mem::take(&mut sessions.new) {
                    if let Some((stand_in, wishes)) = sessions.of.get(&number) {
                        entries.insert(number, Entry::new(number, Arc::clone(stand_in), wishes.clone()));
                    }
                }
                entries.retain(|number, _| sessions.of.contains_key(number));
                if sessions.of.is_empty() {
                    return; // it was struck off with the last one, and nobody can enlist here any more
                }
            }
            let now = Instant::now();
            for ready in events.iter() {
                let Some(entry) = entries.get_mut(&(ready.key / KEYS)) else { continue };
                let is_end = matches!(ready.key % KEYS, KEY_SOCKET | KEY_PIDFD);
                if is_end && !mem::replace(&mut entry.has_ended, true) {
                    entry.at = now.checked_add(GRACE);
                    continue;
                }
                // A ring while it waits for something else is seen then.
                let is_at_rest = entry.has_ended && entry.search.is_none() && entry.at.is_none();
                if is_at_rest || ready.key % KEYS == KEY_HEIR {
                    entry.at = Some(now);
                }
            }
            for entry in entries.values_mut() {
                if entry.at.is_some_and(|at| at <= Instant::now()) {
                    entry.at = None;
                    entry.go_on(&self.poller);
                }
            }
        }
    }
}

/// However the thread ends, the next session begins with another.
struct Ending(Arc<List>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut current = sync::lock(LIST.get());
        if current.as_ref().is_some_and(|list| Arc::ptr_eq(list, &self.0)) {
            *current = None;
        }
    }
}

/// A session, for the thread alone.
struct Entry {
    number: u64,
    stand_in: Arc<StandIn>,
    wishes: Wishes,
    /// Its receiver has.
    has_ended: bool,
    search: Option<Box<ClientHandshake>>,
    pause: Duration,
    /// When there is something to do.
    at: Option<Instant>,
    /// Whether the receiver's bell tells of what is committed.
    hears_bell: bool,
}

impl Entry {
    fn new(number: u64, stand_in: Arc<StandIn>, wishes: Wishes) -> Entry {
        let (has_ended, search, pause, at, hears_bell) = (false, None, Duration::ZERO, None, false);
        Entry { number, stand_in, wishes, has_ended, search, pause, at, hears_bell }
    }

    /// Does what can be done without waiting.
    fn go_on(&mut self, poller: &Poller) {
        if faults::is(Fault::IdleStandIn) {
            return;
        }
        if let Err(error) = self.try_to_go_on(poller) {
            self.search.take().into_iter().for_each(|search| search.leave(poller));
            if error.kind() == ErrorKind::Violation {
                return; // nothing that this receiver says can be believed: the sender's next call says so
            }
            self.pause = (self.pause * 2).clamp(PAUSES.0, PAUSES.1);
            self.at = Instant::now().checked_add(self.pause);
        }
    }

    fn try_to_go_on(&mut self, poller: &Poller) -> Result<()> {
        let stand_in = Arc::clone(&self.stand_in);
        if stand_in.was_dismissed_for_good() {
            return Ok(());
        }
        // Before the look: what is committed after it rings. The bell is added once: what is added anew tells at once
        // of every ring that there ever was, as nobody reads them, and the thread would never sleep.
        if !self.hears_bell {
            poller.add(&stand_in.bell, self.number * KEYS + KEY_BELL, Interest::Bell)?;
            self.hears_bell = true;
        }
        stand_in.announce();
        {
            let mut state = sync::lock(&stand_in.state);
            if state.is_over || !self.needs_successor(&mut state, poller)? {
                self.search.take().into_iter().for_each(|search| search.leave(poller));
                return Ok(());
            }
            if self.search.is_none() {
                let search = match &state.heir {
                    Some(heir) => ClientHandshake::begin(&self.wishes.name, self.wishes.options.clone())?
                        .prefer_after(heir.producer.member()),
                    None => ClientHandshake::begin(&self.wishes.name, self.wishes.options.clone())?
                        .prefer_after(self.wishes.member),
                };
                search.watch_in(poller, self.number * KEYS + KEY_HEIR, Interest::Readable)?;
                self.search = Some(Box::new(search));
            }
        }
        let Some(search) = &mut self.search else { return Ok(()) };
        match search.step()? {
            Progress::Wait(at) => self.at = at,
            Progress::Attached(established) => {
                (self.search, self.pause) = (None, Duration::ZERO);
                self.hand_over(*established, poller)?;
            }
        }
        Ok(())
    }

    /// Passes on what can be; whether there is something that needs another session.
    fn needs_successor(&self, state: &mut State, poller: &Poller) -> Result<bool> {
        let Some(heir) = &mut state.heir else { return Ok(!self.stand_in.left(None).is_empty()) };
        if !heir.producer.is_receiver_gone() {
            heir.producer.look()?;
        }
        self.stand_in.pass_on(heir);
        if !heir.producer.is_receiver_gone() {
            return Ok(false);
        }
        poller.remove(heir.producer.connection().poller()); // its end stays readable
        Ok(heir.producer.newest_open()?.is_some())
    }

    fn hand_over(&mut self, established: Established, poller: &Poller) -> Result<()> {
        let mut state = sync::lock(&self.stand_in.state);
        if state.is_over {
            return Ok(()); // the sender has found somebody by itself
        }
        match &mut state.heir {
            Some(heir) => {
                let connection = heir.producer.connection_of(established);
                heir.producer.move_to(connection)?;
            }
            None => {
                let producer = Producer::of_nobody(&self.wishes.name, self.wishes.own.clone(), established);
                let heir = state.heir.insert(Box::new(Heir { producer, moved: HashMap::new() }));
                self.stand_in.say_moving();
                self.stand_in.pass_on(heir);
            }
        }
        let heir = state.heir.as_mut().map(|heir| heir.producer.connection().poller());
        heir.map_or(Ok(()), |its| poller.add(its, self.number * KEYS + KEY_HEIR, Interest::Readable))
    }
}

impl StandIn {
    /// Takes the receiver's place at the doorbell.
    fn announce(&self) {
        Waiting(&self.segment.server_line().waiting).announce();
    }

    /// Whoever keeps the messages of the dead hears that they have begun to move.
    fn say_moving(&self) {
        failover::say_moving(&self.segment, self.protocol, Moving::Begun);
    }

    /// The messages that are not acknowledged and were not passed on, oldest first.
    fn left(&self, heir: Option<&Heir>) -> Vec<Unacked> {
        let is_left = |slot: usize| {
            let line = self.segment.line(slot);
            let turn = slot::load(&line.turn);
            let record = self.records.get(slot)?;
            // One that is being written just now: its commit rings.
            let is_committed = turn.sequence() == record.sequence;
            // Relaxed: acquired with the turn; of a receiver that is gone.
            let is_open = turn.is_server() || !producer::is_acknowledgement(line.head.load(Ordering::Relaxed));
            let is_new = heir.is_none_or(|heir| heir.moved.get(&slot) != Some(&record.sequence));
            (is_committed && is_open && is_new).then_some(record)
        };
        let mut left: Vec<Unacked> = (0..self.records.slots()).filter_map(is_left).collect();
        // Slots are used round and round: there are at most two sequences, one after the other.
        let first = left.iter().map(|it| it.sequence).find(|it| left.iter().any(|other| is_next(*it, other.sequence)));
        left.sort_by_key(|it| (first.is_some_and(|first| it.sequence != first), it.slot));
        left
    }

    fn pass_on(&self, heir: &mut Heir) {
        let mut bytes = Vec::new();
        for from in self.left(Some(heir)) {
            failover::copy(&self.segment, from, &mut bytes);
            // A delivery that outlives its receiver may have been acknowledged meanwhile, and the slot used anew.
            if self.records.get(from.slot) == Some(from) && !heir.producer.is_full() {
                heir.producer.take_in(&self.segment, from, &bytes);
                heir.moved.insert(from.slot, from.sequence);
            }
        }
        heir.producer.ring();
    }

    /// Whether the receiver said, as the first thing that nobody has read yet, that the protocol was broken.
    fn was_dismissed_for_good(&self) -> bool {
        let mut buffer = [0; socket::MESSAGE_MAX];
        let Ok(len) = socket::peek_into(&*self.socket, &mut buffer) else { return false };
        matches!(
            FromServer::decode(&buffer[..len], self.protocol),
            Ok(FromServer::Farewell(Reason::Violation, _) | FromServer::Refusal(Reason::Violation, _))
        )
    }
}

fn is_next(sequence: u64, other: u64) -> bool {
    slot::next_sequence(sequence) == other
}
