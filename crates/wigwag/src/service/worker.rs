//! One serving thread: finds the next request among its sessions, fairly, and sleeps when there is none.
//!
//! *Hot* sessions are polled; *cold* ones have their doorbell armed and cost nothing until it rings. This is the
//! kernel's own NAPI (Documentation/networking/napi.rst) between processes: cost follows the active sessions, not the
//! connected.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::faults::{self, Fault};
use crate::service::intake::Intake;
use crate::service::session::Session;
use crate::service::shared::{Command, Mailbox, Redelivery, ServiceShared, WorkerMessage};
use crate::session::protocol::Reason;
use crate::statistics::{SESSION_ARMED, SESSION_LOOKED_AT, SESSION_POLLED, THREAD_ASLEEP, THREAD_AWAKE, THREAD_NONE};
use crate::sync::Ordering;
use crate::sys::epoll::{Events, Interest, Poller};
use crate::sys::{clock, cpu};
use crate::wait::deadline::Deadline;
use crate::wait::placement::SLEEPS_PER_AFFINITY;
use crate::wait::policy::{PollMode, Wait};
use crate::wait::runtime_guard;
use crate::wait::wake_latency::WakeLatency;

mod accounting;
mod drain;
mod polled_session;

pub use crate::service::worker::accounting::Answered;

use crate::service::worker::accounting::Account;
use crate::service::worker::drain::{Phase, Stock};
use crate::service::worker::polled_session::PolledSession;

/// Requests of one session before the next session has a turn.
const BUDGET: usize = 16;
/// How often, about, a busy thread looks at the armed doorbells.
const CHECKUP_INTERVAL: Duration = Duration::from_micros(40);
/// Most requests between two looks at the clock: a client whose requests suddenly become slow delays the others by this
/// many of them, once.
const CHECKUP_STRIDE_MAX: i32 = 32;
/// Idle passes in a row between two looks at the clock. A closed loop never gets there, so it never reads the clock.
const IDLE_PASSES_PER_CHECKUP: u32 = 16;
/// Where the counting of idle passes begins: as good as 0, and so near the wrap that every test passes it. A session
/// that is polled and silent for half an hour does.
const IDLE_PASSES_AT_FIRST: u32 = 0u32.wrapping_sub(4 * IDLE_PASSES_PER_CHECKUP);
/// Looks at the slots within one idle pass.
const SPINS_PER_IDLE_PASS: u32 = 8;
/// Looks at the slots of the session that asked last, before anything else is thought of.
const LOOKS_AGAIN: u32 = 4 * SPINS_PER_IDLE_PASS;
/// Rings heard in one look at the epoll.
const EVENTS_AT_A_TIME: usize = 64;

/// What looking for a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request: [`Worker::begin_call`] has it.
    Request,
    /// None within the time allowed.
    Nothing,
    /// The server shuts down, and everything that had been passed is served.
    Shutdown,
}

/// How long to look.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Up to a point in time, at least once.
    Deadline(Deadline),
    /// As long as a session is polled: [`Next::Nothing`] when the thread would have to sleep, for a caller that sleeps
    /// elsewhere.
    Quiet,
}

/// No ring comes after it.
const NOT_ASLEEP: u64 = u64::MAX;

/// One serving thread's state.
pub struct Worker<I> {
    shared: Arc<ServiceShared>,
    mailbox: Arc<Mailbox>,
    poller: Poller,
    events: Events,
    wait: Wait,
    /// [`cpu::only_processor`] of this thread.
    only_processor: u32,
    /// Whether this thread's affinity is ours to change.
    may_move: bool,
    /// Whether a session has cooled, and how many requests of cold ones were found: for a caller that asks whether
    /// polling pays.
    has_cooled: bool,
    found_cold: u32,
    /// A processor (`n + 1`) to be left to the client of a session that has just become hot; 0 for none.
    leave: u32,
    sleeps: u32,
    wake_latency: WakeLatency,
    /// Since when this thread has slept; [`NOT_ASLEEP`] once it is known what woke it, and if nobody measures.
    slept_ns: u64,
    entries: Vec<Option<Box<PolledSession<I>>>>,
    index_of: HashMap<u64, usize>,
    /// Sessions to look at, in turn: the hot ones, and the cold ones that rang and are not armed again yet.
    active: Vec<usize>,
    /// Which of the active ones has its turn, and what is left of its budget.
    position: usize,
    budget: usize,
    /// The session whose request was served last.
    last: usize,
    /// Messages that were given back, to be delivered before anything else.
    redeliveries: VecDeque<Redelivery>,
    /// One of them, ready to be handed out.
    reopened: Option<Redelivery>,
    /// Falls with every request; at zero it is time to look at the clock.
    countdown: i32,
    idle_passes: u32,
    stride: i32,
    checked_at: Instant,
    /// When the doorbells were last heard.
    heard_at: Instant,
    /// What observers see of this thread.
    account: Account,
    /// How far the thread has come.
    phase: Phase,
    /// Once the server shuts down: what had been passed by then and is still to be handed out.
    stocks: VecDeque<Stock>,
    /// An error that came when something had been found already: told at the next call.
    untold: Option<Error>,
    /// Whether this thread answers what it takes before it takes the next: at its end it owes no answer.
    pub serves_all: bool,
}

impl<I: Intake> Worker<I> {
    /// A thread that serves the sessions of `mailbox`.
    pub fn new(shared: Arc<ServiceShared>, mailbox: Arc<Mailbox>, wait: Wait) -> Result<Worker<I>> {
        let poller = Poller::new()?;
        poller.add(&mailbox.bell, KEY_MAILBOX, Interest::Bell)?;
        let account = Account::new(shared.is_counting);
        mailbox.record.state.set(THREAD_AWAKE);
        Ok(Worker {
            shared,
            mailbox,
            account,
            poller,
            events: Events::with_capacity(EVENTS_AT_A_TIME),
            wait,
            only_processor: cpu::only_processor(),
            may_move: true,
            has_cooled: false,
            found_cold: 0,
            leave: 0,
            sleeps: 0,
            wake_latency: WakeLatency::default(),
            slept_ns: NOT_ASLEEP,
            entries: Vec::new(),
            index_of: HashMap::new(),
            active: Vec::new(),
            position: 0,
            budget: BUDGET,
            last: 0,
            redeliveries: VecDeque::new(),
            reopened: None,
            countdown: CHECKUP_STRIDE_MAX,
            idle_passes: IDLE_PASSES_AT_FIRST,
            stride: CHECKUP_STRIDE_MAX,
            checked_at: Instant::now(),
            heard_at: Instant::now(),
            phase: Phase::Serving,
            stocks: VecDeque::new(),
            untold: None,
            serves_all: false,
        })
    }

    /// A thread is about to look for requests.
    pub fn resume(&self) {
        if self.mailbox.record.state.value() == THREAD_NONE {
            self.mailbox.record.state.set(THREAD_AWAKE);
        }
    }

    /// A few looks at the session that asked last, if it is the only one that is polled and nothing else is to be done:
    /// the way of a closed loop, short because the client waits for all that is done between its request and the
    /// answer.
    #[inline(always)]
    pub fn poll_last_session(&mut self) -> Option<&mut I> {
        let [only] = self.active[..] else { return None };
        let is_usual = self.countdown > 0 && self.leave == 0 && only == self.last;
        let is_usual = is_usual && !self.account.is_time_taken_next();
        let entry = self.entries[only].as_deref_mut()?;
        if !is_usual || !entry.poll_mode.is_polled() || self.mailbox.wake_flag.is_raised() {
            return None;
        }
        for _ in 0..LOOKS_AGAIN {
            if entry.look_quickly() {
                self.countdown -= 1;
                self.idle_passes = IDLE_PASSES_AT_FIRST;
                if self.account.is_counting() {
                    self.mailbox.record.serving.set(entry.session.record.place_word(entry.intake.slot()));
                }
                return Some(&mut entry.intake);
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
        if self.mailbox.wake_flag.is_raised() || self.countdown <= 0 {
            match self.look_around()? {
                Next::Nothing => {}
                Next::Request => return Ok(Next::Request),
                Next::Shutdown => {
                    self.end();
                    return Ok(Next::Shutdown);
                }
            }
        }
        Ok(self.look_at_sessions())
    }

    /// Whether there is one more, for a caller that already holds messages that must not be lost: the next call reports
    /// an error or the end of a shutdown.
    #[inline(always)]
    pub fn more(&mut self) -> bool {
        if self.mailbox.wake_flag.is_raised() || self.countdown <= 0 {
            match self.look_around() {
                Ok(Next::Nothing) => {}
                Ok(next) => return next == Next::Request,
                Err(error) => {
                    self.untold = Some(error);
                    self.countdown = 0;
                    return false;
                }
            }
        }
        self.look_at_sessions() == Next::Request
    }

    #[inline(always)]
    fn look_at_sessions(&mut self) -> Next {
        if !self.scan() {
            return Next::Nothing;
        }
        self.countdown -= 1;
        self.idle_passes = IDLE_PASSES_AT_FIRST;
        Next::Request
    }

    /// Looks at everything but the sessions. [`Next::Nothing`]: go on with the sessions.
    #[cold]
    fn look_around(&mut self) -> Result<Next> {
        if let Some(error) = self.untold.take() {
            return Err(error);
        }
        if self.phase == Phase::Serving {
            self.checkup()?;
        }
        let (is_found, otherwise) = match self.phase {
            Phase::Serving => (self.reopen(), Next::Nothing),
            Phase::Draining => (self.drain(), Next::Shutdown),
            Phase::Ended => (false, Next::Shutdown),
        };
        Ok(if is_found { Next::Request } else { otherwise })
    }

    /// What [`Next::Request`] announced, to keep. Only one thread at a time has the worker.
    #[inline(always)]
    pub fn take(&mut self) -> I::Item {
        if let Some(again) = self.reopened.take() {
            return I::reopen(again);
        }
        let since_ns = self.mailbox.record.clock_ns.value();
        let entry = self.entries[self.last].as_deref_mut().expect("only `next` forgets sessions");
        entry.idle_since = None;
        entry.intake.take(&entry.session, since_ns)
    }

    /// The descriptor for a caller that sleeps in a reactor: it becomes readable when something rings after
    /// [`Until::Quiet`].
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
    pub fn listen(&mut self) -> Result<()> {
        self.hear_after_sleep(Deadline::Now)
    }

    /// Whether a session that was polled has been silent for too long since this was asked last, and how many requests
    /// were found since then without polling.
    #[cfg(not(loom))]
    pub fn take_cooled(&mut self) -> Option<u32> {
        std::mem::take(&mut self.has_cooled).then(|| std::mem::take(&mut self.found_cold))
    }

    /// Polls no session any more: all are looked at and armed before the next sleep.
    pub fn cool(&mut self) {
        for &index in &self.active {
            if let Some(Some(entry)) = self.entries.get_mut(index) {
                entry.poll_mode.cool();
            }
        }
    }

    /// Once around the active sessions, up to the first request.
    #[inline(always)]
    fn scan(&mut self) -> bool {
        // A session that has used up its budget is polled last.
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
                    if !entry.poll_mode.is_polled() {
                        self.found_cold(index);
                    }
                    self.budget -= 1;
                    self.last = index;
                    return true;
                }
                if !entry.poll_mode.is_polled() || entry.is_orphan() {
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
        if self.active.is_empty() || !matches!(until, Until::Deadline(Deadline::Never)) {
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

    /// Two who spin on one processor only stand in each other's way. Done after the reply that made the session hot,
    /// because it takes as long as a wake-up.
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
        if self.phase != Phase::Serving {
            self.countdown = 0; // `look_around` says what is left
            return Ok(None);
        }
        match until {
            Until::Deadline(deadline) if deadline.is_over() => {
                // No time left: one look.
                if self.active.len() == self.index_of.len() {
                    return Ok(Some(Next::Nothing)); // all are polled, and have been
                }
                self.hear(Deadline::Now)?;
                Ok(Some(if self.scan() { Next::Request } else { Next::Nothing }))
            }
            _ if !self.active.is_empty() => Ok(self.spin().then_some(Next::Request)),
            Until::Deadline(deadline) => self.sleep(deadline).map(|()| None),
            Until::Quiet => {
                if !self.mailbox.wake_flag.may_sleep() {
                    return Ok(None);
                }
                self.mailbox.record.state.set(THREAD_ASLEEP); // until `listen`
                self.falls_asleep();
                Ok(Some(Next::Nothing))
            }
        }
    }

    fn sleep(&mut self, deadline: Deadline) -> Result<()> {
        if !self.mailbox.wake_flag.may_sleep() {
            return Ok(());
        }
        runtime_guard::is_about_to_sleep("serving");
        self.hear_after_sleep(deadline)
    }

    /// Notes when, if this sleep is to be measured.
    fn falls_asleep(&mut self) {
        self.slept_ns = if self.wake_latency.wants_sample() { clock::now_ns() } else { NOT_ASLEEP };
    }

    /// Hears what rang, after a sleep here or elsewhere.
    fn hear_after_sleep(&mut self, deadline: Deadline) -> Result<()> {
        self.sleeps = self.sleeps.wrapping_add(1);
        if self.sleeps.is_multiple_of(SLEEPS_PER_AFFINITY) {
            self.refresh_affinity();
        }
        self.mailbox.record.sleeps.add(1);
        self.mailbox.record.state.set(THREAD_ASLEEP);
        if deadline != Deadline::Now {
            self.falls_asleep();
        }
        let heard = self.hear(deadline);
        self.slept_ns = NOT_ASLEEP;
        heard?;
        self.mailbox.record.state.set(THREAD_AWAKE);
        self.countdown = self.stride;
        self.checked_at = Instant::now();
        self.note_clock(self.checked_at);
        Ok(())
    }

    /// Hears which doorbells rang: now, or after a sleep up to the deadline. All of them, since who sleeps in a reactor
    /// is told of a ring once: a full buffer is followed by another look.
    fn hear(&mut self, deadline: Deadline) -> Result<()> {
        match deadline {
            Deadline::Now => self.poller.poll(&mut self.events)?,
            _ => self.poller.wait(&mut self.events, deadline.as_instant())?,
        }
        // Each doorbell is heard once, and those that ring again meanwhile do not keep the thread here.
        let mut looks = self.entries.len() / EVENTS_AT_A_TIME + 1;
        loop {
            for event in 0..self.events.len() {
                let key = self.events.get(event).key;
                if key != KEY_MAILBOX {
                    self.wake((key - 1) as usize);
                }
            }
            if self.events.len() < EVENTS_AT_A_TIME || faults::is(Fault::OneLook) {
                return Ok(());
            }
            if looks == 0 {
                self.mailbox.bell.ring(); // the rest is heard after the next sleep, which this ends
                return Ok(());
            }
            looks -= 1;
            self.poller.poll(&mut self.events)?;
        }
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
        // Relaxed: hints; a lie wastes one spin budget.
        let think_ns = entry.session.segment.client_line().think_ns.load(Ordering::Relaxed);
        let one_processor = entry.shares_processor(self.only_processor);
        if self.slept_ns != NOT_ASLEEP
            && let Some(rang_ns) = entry.rang_ns()
            && self.wake_latency.woken(std::mem::replace(&mut self.slept_ns, NOT_ASLEEP), rang_ns, clock::now_ns())
        {
            self.mailbox.record.wake_latency_ns.set(self.wake_latency.estimate_ns().into());
        }
        if entry.poll_mode.rang(self.wait, &self.wake_latency, think_ns, one_processor) {
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
        if entry.poll_mode.found(self.wait, &self.wake_latency, one_processor) {
            self.leave = entry.become_hot(self.may_move);
        }
    }

    /// Looks at the clock, the messages and the armed doorbells, and cools who has been silent for too long.
    #[cold]
    fn checkup(&mut self) -> Result<()> {
        if self.mailbox.wake_flag.is_raised() {
            self.read_messages();
        }
        if self.countdown > 0 || self.phase != Phase::Serving {
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
            self.hear(Deadline::Now)?;
        }
        Ok(())
    }

    fn cool_the_silent(&mut self, now: Instant) {
        let mut processor = None;
        let (mut is_any_hot, mut is_polled_in_vain) = (false, false);
        for &index in &self.active {
            let Some(Some(entry)) = self.entries.get_mut(index) else { continue };
            match entry.idle_since {
                None => entry.idle_since = Some(now),
                Some(since)
                    if entry.poll_mode.is_polled()
                        && now.duration_since(since) >= entry.idle_max(&self.wake_latency) =>
                {
                    entry.poll_mode.cool();
                    entry.counters().served.cooled.add(1);
                    entry.counters().pace.state.set(SESSION_LOOKED_AT);
                    self.has_cooled = true;
                    processor = Some(entry.client_processor());
                }
                Some(_) if entry.poll_mode.is_polled() => is_polled_in_vain = true,
                Some(_) => {}
            }
            is_any_hot |= entry.poll_mode.is_polled();
        }
        if is_polled_in_vain {
            self.wake_latency.waited();
        }
        // The last hot session cooled: from now on this thread is woken, which is ten times as quick on the client's
        // own processor as across two.
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

    fn read_messages(&mut self) {
        // Asked first: sessions that were assigned before the server was complete are among the messages then.
        let is_complete = self.shared.is_complete();
        for message in self.mailbox.take_messages() {
            match message {
                WorkerMessage::AddSession(session) => self.adopt(session),
                WorkerMessage::RemoveSession(id) => self.forget(id),
                WorkerMessage::Drain(id) => self.orphan(id),
                WorkerMessage::Redeliver(again) => self.redeliveries.push_back(again),
            }
        }
        if is_complete && self.phase == Phase::Serving {
            self.begin_to_drain();
        }
    }

    fn adopt(&mut self, session: Arc<Session>) {
        let index = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        if let Err(error) = self.poller.add(&session.server_bell, index as u64 + 1, Interest::Bell) {
            session.end(Reason::Refused, format!("the server {error}"));
            return;
        }
        // Hints.
        session.segment.server_line().only_processor.store(self.only_processor, Ordering::Relaxed);
        let mut poll_mode = PollMode::default();
        session.record.counters().pace.state.set(SESSION_LOOKED_AT);
        if self.wait == Wait::Spin {
            poll_mode.poll_mode();
            session.record.counters().pace.state.set(SESSION_POLLED);
        }
        self.index_of.insert(session.id, index);
        let entry = PolledSession::new(session, poll_mode);
        entry.begin();
        entry.publish_processor(cpu::current());
        if index == self.entries.len() {
            self.entries.push(None);
        }
        self.entries[index] = Some(Box::new(entry));
        match self.phase {
            Phase::Serving => self.active.push(index),
            _ => self.take_stock(index),
        }
    }

    fn forget(&mut self, id: u64) {
        let Some(index) = self.index_of.remove(&id) else { return };
        if let Some(entry) = self.entries[index].take() {
            // A request may keep the descriptor open, so closing it is not enough.
            self.poller.remove(&entry.session.server_bell);
            // Giving back a large segment takes long: not on this thread, so all it has of it goes first.
            let session = Arc::clone(&entry.session);
            session.clear_inbox(); // of a sender that is gone, what came for messages that it never passed
            drop(entry);
            self.shared.command(Command::Bury(session));
        }
        self.active.retain(|&active| active != index);
        self.forget_stock(index);
    }

    /// A sender is gone. Its session stays until it is empty.
    fn orphan(&mut self, id: u64) {
        if faults::is(Fault::ForgottenOrphan) {
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
    fn reopen(&mut self) -> bool {
        while let Some(again) = self.redeliveries.pop_front() {
            if !self.redeliveries.is_empty() {
                self.countdown = 0; // so that the next one is looked for
            }
            if I::may_reopen(&again) {
                self.reopened = Some(again);
                return true;
            }
        }
        false
    }
}

impl<I> Worker<I> {
    /// Tells observers that no thread looks for requests until one does again. In a child the record is its parent's.
    pub fn rest(&self) {
        if !self.shared.statistics.is_forked() {
            self.mailbox.record.state.set(THREAD_NONE);
        }
    }
}

impl<I> Drop for Worker<I> {
    /// No thread serves here any more.
    fn drop(&mut self) {
        self.rest();
    }
}

const KEY_MAILBOX: u64 = 0;
