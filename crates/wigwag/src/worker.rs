//! One serving thread: finds the next request among its sessions, fairly, and sleeps when there is none.
//!
//! *Hot* sessions are polled; *cold* ones have their doorbell armed and cost nothing until it rings. This is the kernel's
//! own NAPI (Documentation/networking/napi.rst) between processes: cost follows the active sessions, not the connected.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::blocking;
use crate::control::core::{Again, Command, Core, Letter, Port};
use crate::control::protocol::Reason;
use crate::error::Result;
use crate::message::{Message, Place};
use crate::planted::{self, Fault};
use crate::request::Request;
use crate::session::Session;
use crate::statistics::{SESSION_ARMED, SESSION_LOOKED_AT, SESSION_POLLED, THREAD_ASLEEP, THREAD_AWAKE};
use crate::sync::Ordering;
use crate::sys::cpu;
use crate::sys::poller::{Events, Interest, Poller};
use crate::wait::{Heat, Wait};

mod account;
mod entry;

use account::Account;
use entry::Entry;

/// Requests of one session before the next session has a turn.
const BUDGET: usize = 16;
/// How often, about, a busy thread looks at the armed doorbells.
const CHECKUP_INTERVAL: Duration = Duration::from_micros(40);
/// Most requests between two looks at the clock: a client whose requests suddenly become slow delays the others by so many
/// of them, once.
const CHECKUP_STRIDE_MAX: i32 = 32;
/// Idle passes in a row between two looks at the clock. A closed loop never gets there, so it never reads the clock.
const IDLE_PASSES_PER_CHECKUP: u32 = 16;
/// Where the counting of idle passes begins: as good as 0, and so near the wrap that every test passes it. A session that is
/// polled and silent for half an hour does.
const IDLE_PASSES_AT_FIRST: u32 = 0u32.wrapping_sub(4 * IDLE_PASSES_PER_CHECKUP);
/// Looks at the slots within one idle pass.
const SPINS_PER_IDLE_PASS: u32 = 8;
/// Looks at the slots of the session that asked last, before anything else is thought of.
const LOOKS_AGAIN: u32 = 4 * SPINS_PER_IDLE_PASS;
/// Sleeps between two looks at this thread's own affinity.
const SLEEPS_PER_AFFINITY: u32 = 64;

/// What looking for a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request: [`Worker::request`] has it.
    Request,
    /// None within the time allowed.
    Nothing,
    /// The server shuts down, and everything that had been passed is served.
    Shutdown,
}

/// How long to look.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Once.
    Now,
    /// Up to a point in time.
    Deadline(Instant),
    /// As long as it takes.
    Forever,
    /// As long as a session is polled: [`Next::Nothing`] when the thread would have to sleep, for who sleeps elsewhere.
    #[cfg(all(feature = "tokio", not(loom)))]
    Quiet,
}

/// One serving thread's state.
pub struct Worker {
    core: Arc<Core>,
    port: Arc<Port>,
    poller: Poller,
    events: Events,
    wait: Wait,
    /// [`cpu::only_processor`] of this thread.
    only_processor: u32,
    /// Whether this thread's affinity is ours to change.
    may_move: bool,
    /// Whether a session has cooled, and how many requests of cold ones were found: for who asks whether polling pays.
    has_cooled: bool,
    found_cold: u32,
    /// A processor (`n + 1`) to be left to the client of a session that has just become hot; 0 for none.
    leave: u32,
    sleeps: u32,
    entries: Vec<Option<Box<Entry>>>,
    index_of: HashMap<u64, usize>,
    /// Sessions to look at, in turn: the hot ones, and the cold ones that rang and are not armed again yet.
    active: Vec<usize>,
    /// Which of the active ones has its turn, and what is left of its budget.
    position: usize,
    budget: usize,
    /// Whose request was the last.
    last: usize,
    /// Messages that were given back, to be delivered before anything else.
    again: VecDeque<Again>,
    /// One of them, ready to be handed out.
    opened_again: Option<(Arc<Session>, Place)>,
    /// Falls with every request; at zero it is time to look at the clock.
    countdown: i32,
    idle_passes: u32,
    stride: i32,
    checked_at: Instant,
    /// When the doorbells were last heard.
    heard_at: Instant,
    /// What observers see of this thread.
    account: Account,
    /// Once the server shuts down: requests that may still be served, so that a busy client cannot keep it alive.
    drain: Option<usize>,
}

impl Worker {
    /// A thread that serves the sessions of `port`.
    pub fn new(core: Arc<Core>, port: Arc<Port>, wait: Wait) -> Result<Worker> {
        let poller = Poller::new()?;
        poller.add(&port.bell, KEY_PORT, Interest::Bell)?;
        let account = Account::new(core.is_counting);
        port.record.state.set(THREAD_AWAKE);
        Ok(Worker {
            core,
            port,
            account,
            poller,
            events: Events::with_capacity(64),
            wait,
            only_processor: cpu::only_processor(),
            may_move: true,
            has_cooled: false,
            found_cold: 0,
            leave: 0,
            sleeps: 0,
            entries: Vec::new(),
            index_of: HashMap::new(),
            active: Vec::new(),
            position: 0,
            budget: BUDGET,
            last: 0,
            again: VecDeque::new(),
            opened_again: None,
            countdown: CHECKUP_STRIDE_MAX,
            idle_passes: IDLE_PASSES_AT_FIRST,
            stride: CHECKUP_STRIDE_MAX,
            checked_at: Instant::now(),
            heard_at: Instant::now(),
            drain: None,
        })
    }

    /// A few looks at the session that asked last, if it is the only one that is polled and nothing else is to be done: the
    /// way of a closed loop, short because the client waits for all that is done between its request and the answer.
    #[inline(always)]
    pub fn again(&mut self) -> Option<&mut Request> {
        let [only] = self.active[..] else { return None };
        let is_usual = self.countdown > 0 && self.leave == 0 && self.drain.is_none() && only == self.last;
        let is_usual = is_usual && !self.account.is_time_taken_next();
        let entry = self.entries[only].as_deref_mut()?;
        if !is_usual || !entry.heat.is_hot() || self.port.attention.is_called() {
            return None;
        }
        for _ in 0..LOOKS_AGAIN {
            if entry.look_quickly() {
                self.countdown -= 1;
                self.idle_passes = IDLE_PASSES_AT_FIRST;
                if self.account.is_counting() {
                    self.port.record.serving.set(entry.session.record.place_word(entry.request.slot()));
                }
                return Some(&mut entry.request);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Finds the next request.
    #[inline(never)] // one copy: what must be short is in `again`
    pub fn next(&mut self, until: Until) -> Result<Next> {
        loop {
            match self.glance()? {
                Next::Nothing => {}
                found => return Ok(found),
            }
            if let Some(next) = self.idle(until)? {
                return Ok(next);
            }
        }
    }

    /// Once around the sessions that are looked at; asks the system for nothing unless it is time to.
    #[inline(always)]
    pub fn glance(&mut self) -> Result<Next> {
        if self.port.attention.is_called() || self.countdown <= 0 {
            self.checkup()?;
            if self.drain == Some(0) {
                return Ok(Next::Shutdown);
            }
            if self.open_again() {
                return Ok(Next::Request);
            }
        }
        if !self.pass() {
            return Ok(Next::Nothing);
        }
        self.countdown -= 1;
        self.idle_passes = IDLE_PASSES_AT_FIRST;
        if self.drain.is_some() {
            self.count_drained();
        }
        Ok(Next::Request)
    }

    /// The message that [`Next::Request`] announced. It is counted as this thread's: only one at a time has the worker.
    #[inline(always)]
    pub fn take_message(&mut self) -> Message {
        let message = match self.opened_again.take() {
            Some((session, place)) => Message::of(session, place),
            None => {
                let entry = self.entries[self.last].as_deref_mut().expect("only `next` forgets sessions");
                entry.idle_since = None;
                entry.take_found()
            }
        };
        let counters = message.session().record.counters();
        counters.kept.taken.add(1); // of a queue nobody else writes it
        counters.served.bytes_in.add(message.len() as u64);
        message
    }

    /// The request that [`Next::Request`] announced, to keep.
    pub fn take_request(&mut self) -> Request {
        let since_ns = self.port.record.clock_ns.value();
        let entry = self.entries[self.last].as_deref_mut().expect("only `next` forgets sessions");
        entry.idle_since = None;
        let mut request = std::mem::replace(&mut entry.request, Request::closed(Arc::clone(&entry.session)));
        request.keep(since_ns);
        request
    }

    /// For who sleeps in a reactor, on this descriptor: it becomes readable when something rings after [`Until::Quiet`].
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn for_reactor(&mut self) -> Result<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        self.may_move = false; // the threads are the runtime's
        if self.wait == Wait::Spin {
            self.wait = Wait::Adaptive; // none of them may be kept for ever
        }
        let copy = self.poller.as_fd().try_clone_to_owned();
        copy.map_err(|error| crate::error::Error::io("copy a descriptor for the reactor", error))
    }

    /// After the reactor has woken who sleeps there: hears what rang.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn listen(&mut self) -> Result<()> {
        self.hear_after_sleep(None)
    }

    /// Whether a session that was polled has been silent for too long since this was asked last, and how many requests were
    /// found since then without polling.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn take_cooled(&mut self) -> Option<u32> {
        std::mem::take(&mut self.has_cooled).then(|| std::mem::take(&mut self.found_cold))
    }

    /// Polls no session any more: all are looked at and armed before the next sleep.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn cool(&mut self) {
        for &index in &self.active {
            if let Some(Some(entry)) = self.entries.get_mut(index) {
                entry.heat.cool();
            }
        }
    }

    /// Once around the active sessions, up to the first request.
    #[inline(always)]
    fn pass(&mut self) -> bool {
        // Who has used up its budget is looked at last.
        let mut left = self.active.len() + usize::from(self.budget == 0);
        while left > 0 {
            left -= 1;
            if self.position >= self.active.len() {
                self.position = 0;
            }
            let Some(&index) = self.active.get(self.position) else { return false };
            let Some(entry) = self.entries[index].as_deref_mut() else { return false };
            if self.budget > 0 {
                if entry.look() {
                    if !entry.heat.is_hot() {
                        self.found_cold(index);
                    }
                    self.budget -= 1;
                    self.last = index;
                    return true;
                }
                if !entry.heat.is_hot() || entry.is_orphan() {
                    if self.arm(index) {
                        self.budget -= 1;
                        return true;
                    }
                    continue; // another one stands at this position now
                }
            }
            self.position += 1;
            // Slow handlers: one request each in turn.
            self.budget = BUDGET.min(self.stride as usize);
        }
        false
    }

    /// A cold session has nothing more: its doorbell is armed, and it is looked at a last time.
    #[cold]
    fn arm(&mut self, index: usize) -> bool {
        let Some(entry) = self.entries[index].as_deref_mut() else { return false };
        if entry.is_orphan() {
            let id = entry.session.id;
            self.forget(id); // everything was received
            self.budget = BUDGET;
            return false;
        }
        entry.waiting().announce();
        if entry.look() {
            entry.waiting().withdraw(); // nobody need ring: it stays active, and is armed again after this
            self.found_cold(index);
            self.last = index;
            return true;
        }
        entry.is_active = false;
        entry.counters().pace.state.set(SESSION_ARMED);
        self.active.swap_remove(self.position);
        self.budget = BUDGET;
        false
    }

    /// Nothing was found in a whole pass.
    #[inline(always)]
    fn idle(&mut self, until: Until) -> Result<Option<Next>> {
        if self.active.is_empty() || self.drain.is_some() || !matches!(until, Until::Forever) {
            return self.idle_slow(until);
        }
        Ok(self.spin().then_some(Next::Request))
    }

    /// A few looks at the one hot session there is, or one breath if there are more. Whether there is a request now.
    #[inline(always)]
    fn spin(&mut self) -> bool {
        if self.leave != 0 {
            self.leave_to_client();
        }
        self.idle_passes = self.idle_passes.wrapping_add(1);
        if self.idle_passes.is_multiple_of(IDLE_PASSES_PER_CHECKUP) {
            self.countdown = 0;
        }
        if let [only] = self.active[..]
            && let Some(entry) = self.entries[only].as_deref_mut()
        {
            for _ in 0..SPINS_PER_IDLE_PASS {
                std::hint::spin_loop();
                if entry.look_quickly() {
                    self.last = only;
                    self.countdown -= 1;
                    self.idle_passes = IDLE_PASSES_AT_FIRST;
                    return true;
                }
            }
        } else {
            std::hint::spin_loop();
        }
        false
    }

    /// Two who spin on one processor only stand in each other's way. Done after the reply that made the session hot, because
    /// it takes as long as a wake-up.
    #[cold]
    fn leave_to_client(&mut self) {
        let processor = std::mem::take(&mut self.leave);
        if self.may_move && processor == cpu::current() {
            cpu::move_off(processor);
        }
        self.publish_processor();
    }

    #[cold]
    fn idle_slow(&mut self, until: Until) -> Result<Option<Next>> {
        if self.drain.is_some() {
            return Ok(Some(Next::Shutdown));
        }
        let until = match until {
            Until::Deadline(at) if Instant::now() >= at => Until::Now, // no time left: one look
            other => other,
        };
        match until {
            Until::Now => {
                if self.active.len() == self.index_of.len() {
                    return Ok(Some(Next::Nothing)); // all are polled, and have been
                }
                self.hear(None)?;
                return Ok(Some(if self.pass() { Next::Request } else { Next::Nothing }));
            }
            #[cfg(all(feature = "tokio", not(loom)))]
            Until::Quiet if self.active.is_empty() => {
                if !self.port.attention.may_sleep() {
                    return Ok(None);
                }
                self.port.record.state.set(THREAD_ASLEEP); // until `listen`
                return Ok(Some(Next::Nothing));
            }
            _ => {}
        }
        if self.active.is_empty() {
            self.sleep(until)?;
            return Ok(None);
        }
        Ok(self.spin().then_some(Next::Request))
    }

    fn sleep(&mut self, until: Until) -> Result<()> {
        if !self.port.attention.may_sleep() {
            return Ok(());
        }
        blocking::is_about_to_sleep("serving");
        self.hear_after_sleep(Some(until))
    }

    /// Hears what rang, after a sleep here or elsewhere.
    fn hear_after_sleep(&mut self, sleep: Option<Until>) -> Result<()> {
        self.sleeps = self.sleeps.wrapping_add(1);
        if self.sleeps.is_multiple_of(SLEEPS_PER_AFFINITY) {
            self.refresh_affinity();
        }
        self.port.record.sleeps.add(1);
        self.port.record.state.set(THREAD_ASLEEP);
        self.hear(sleep)?;
        self.port.record.state.set(THREAD_AWAKE);
        self.countdown = self.stride;
        self.checked_at = Instant::now();
        self.note_clock(self.checked_at);
        Ok(())
    }

    /// Hears which doorbells rang: now, or after a sleep.
    fn hear(&mut self, sleep: Option<Until>) -> Result<()> {
        match sleep {
            None => self.poller.poll(&mut self.events)?,
            Some(Until::Deadline(at)) => self.poller.wait(&mut self.events, Some(at))?,
            Some(_) => self.poller.wait(&mut self.events, None)?,
        }
        for event in 0..self.events.len() {
            let key = self.events.get(event).key;
            if key != KEY_PORT {
                self.wake((key - 1) as usize);
            }
        }
        Ok(())
    }

    /// One more request while the server shuts down; see `next` for the last one.
    #[cold]
    fn count_drained(&mut self) {
        self.drain = self.drain.map(|left| left.saturating_sub(1));
        self.countdown = 0; // so that the end is looked for
    }

    /// A session's doorbell rang.
    fn wake(&mut self, index: usize) {
        let Some(Some(entry)) = self.entries.get_mut(index) else { return };
        if entry.is_active {
            return;
        }
        entry.is_active = true;
        entry.just_rang = true;
        entry.counters().served.woken.add(1);
        entry.note_depth();
        entry.counters().pace.state.set(SESSION_LOOKED_AT);
        self.active.push(index);
        // Relaxed: hints; a lie wastes one patience.
        let think_ns = entry.session.segment.client_line().think_ns.load(Ordering::Relaxed);
        let one_processor = entry.shares_processor(self.only_processor);
        if entry.heat.rang(self.wait, think_ns, one_processor) {
            self.leave = entry.become_hot(self.may_move);
        } else {
            entry.publish_processor(cpu::current());
        }
    }

    /// A cold session had a request.
    #[cold]
    fn found_cold(&mut self, index: usize) {
        self.found_cold = self.found_cold.saturating_add(1);
        let Some(Some(entry)) = self.entries.get_mut(index) else { return };
        if std::mem::take(&mut entry.just_rang) || entry.is_orphan() {
            return; // that is the one it rang for
        }
        let one_processor = entry.shares_processor(self.only_processor);
        if entry.heat.found(self.wait, one_processor) {
            self.leave = entry.become_hot(self.may_move);
        }
    }

    /// Looks at the clock, the letters and the armed doorbells, and cools who has been silent for too long.
    #[cold]
    fn checkup(&mut self) -> Result<()> {
        if self.port.attention.is_called() {
            self.read_letters()?;
        }
        if self.countdown > 0 {
            return Ok(());
        }
        let now = Instant::now();
        let elapsed = now.duration_since(self.checked_at);
        self.checked_at = now;
        self.note_clock(now);
        // Long handlers make the stride short, so that nobody who rings waits for hundreds of them.
        self.stride = if elapsed > 2 * CHECKUP_INTERVAL {
            let share = CHECKUP_INTERVAL.as_nanos() * self.stride as u128 / elapsed.as_nanos();
            (share as i32).clamp(1, CHECKUP_STRIDE_MAX)
        } else {
            (self.stride * 2).min(CHECKUP_STRIDE_MAX)
        };
        self.countdown = self.stride;
        if self.wait == Wait::Spin {
            self.publish_processor();
        } else {
            self.cool_the_silent(now);
        }
        if self.active.len() < self.index_of.len() && now.duration_since(self.heard_at) >= CHECKUP_INTERVAL {
            self.heard_at = now;
            self.hear(None)?;
        }
        Ok(())
    }

    fn cool_the_silent(&mut self, now: Instant) {
        let mut processor = None;
        let mut is_any_hot = false;
        for &index in &self.active {
            let Some(Some(entry)) = self.entries.get_mut(index) else { continue };
            match entry.idle_since {
                None => entry.idle_since = Some(now),
                Some(since) if entry.heat.is_hot() && now.duration_since(since) >= entry.patience() => {
                    entry.heat.cool();
                    entry.counters().served.cooled.add(1);
                    entry.counters().pace.state.set(SESSION_LOOKED_AT);
                    self.has_cooled = true;
                    processor = Some(entry.client_processor());
                }
                Some(_) => {}
            }
            is_any_hot |= entry.heat.is_hot();
        }
        // The last hot session cooled: from now on this thread is woken, which is ten times as quick on the client's own
        // processor as across two.
        if let Some(processor) = processor
            && !is_any_hot
            && self.may_move
            && processor != cpu::current()
        {
            cpu::move_to(processor);
        }
    }

    /// Lets the clients that are served now know where this thread runs, so that none spins on the same processor.
    fn publish_processor(&mut self) {
        let current = cpu::current();
        for &index in &self.active {
            let Some(Some(entry)) = self.entries.get(index) else { continue };
            entry.publish_processor(current);
        }
    }

    fn refresh_affinity(&mut self) {
        let current = cpu::only_processor();
        if current == self.only_processor {
            return;
        }
        self.only_processor = current;
        for entry in self.entries.iter().flatten() {
            entry.session.segment.server_line().only_processor.store(current, Ordering::Relaxed); // a hint
        }
    }

    fn read_letters(&mut self) -> Result<()> {
        for letter in self.port.take_letters() {
            match letter {
                Letter::Adopt(session) => self.adopt(session),
                Letter::Forget(id) => self.forget(id),
                Letter::Orphan(id) => self.orphan(id),
                Letter::Again(again) => self.again.push_back(again),
            }
        }
        if self.core.is_complete() && self.drain.is_none() {
            self.begin_to_drain();
        }
        Ok(())
    }

    fn adopt(&mut self, session: Arc<Session>) {
        let index = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        if let Err(error) = self.poller.add(&session.server_bell, index as u64 + 1, Interest::Bell) {
            session.end(Reason::Refused, format!("the server {error}"));
            return;
        }
        // Hints.
        session.segment.server_line().only_processor.store(self.only_processor, Ordering::Relaxed);
        let mut heat = Heat::default();
        session.record.counters().pace.state.set(SESSION_LOOKED_AT);
        if self.wait == Wait::Spin {
            heat.heat();
            session.record.counters().pace.state.set(SESSION_POLLED);
        }
        self.index_of.insert(session.id, index);
        let entry = Entry::new(session, heat);
        entry.publish_processor(cpu::current());
        if index == self.entries.len() {
            self.entries.push(None);
        }
        self.entries[index] = Some(Box::new(entry));
        self.active.push(index);
    }

    fn forget(&mut self, id: u64) {
        let Some(index) = self.index_of.remove(&id) else { return };
        if let Some(entry) = self.entries[index].take() {
            // A request may keep the descriptor open, so closing it is not enough.
            self.poller.remove(&entry.session.server_bell);
            // Giving back a large segment takes long: not on this thread, so all it has of it goes first.
            let session = Arc::clone(&entry.session);
            drop(entry);
            self.core.command(Command::Bury(session));
        }
        self.active.retain(|&active| active != index);
    }

    /// A sender is gone. Its session stays until it is empty.
    fn orphan(&mut self, id: u64) {
        if planted::is(Fault::ForgottenOrphan) {
            return self.forget(id);
        }
        let Some(&index) = self.index_of.get(&id) else { return };
        let Some(entry) = self.entries[index].as_deref_mut() else { return };
        entry.become_orphan();
        if !entry.is_active {
            entry.is_active = true;
            self.active.push(index);
        }
    }

    /// Opens a message that was given back.
    #[cold]
    fn open_again(&mut self) -> bool {
        while let Some(Again { session, slot, head }) = self.again.pop_front() {
            if !self.again.is_empty() {
                self.countdown = 0; // so that the next one is looked for
            }
            let place = Place::new(slot, head);
            if Message::make_ready(&session, place) {
                self.opened_again = Some((session, place));
                if self.drain.is_some() {
                    self.count_drained();
                }
                return true;
            }
        }
        false
    }

    /// The server shuts down: what has been passed is served, once around all sessions.
    fn begin_to_drain(&mut self) {
        let mut most = 0;
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let Some(entry) = entry else { continue };
            most += entry.expected.len();
            if !entry.is_active {
                entry.is_active = true;
                self.active.push(index);
            }
        }
        self.drain = Some(most);
    }
}

const KEY_PORT: u64 = 0;
