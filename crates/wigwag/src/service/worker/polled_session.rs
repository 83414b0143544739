//! One session in the hands of a serving thread: which of its slots are looked at, and what is taken.
//!
//! The path of every call. What stands here between seeing a turn and handing the request on makes each call longer;
//! what can be noted after the answer is noted by [`crate::service::worker::Worker::end_call`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::faults::{self, Fault};
use crate::memory::doorbell::Waiting;
use crate::memory::head::{Head, Kind};
use crate::memory::prefetch;
use crate::memory::slot::{self, Expected};
use crate::service::intake::{Intake, Opened};
use crate::service::session::Session;
use crate::session::peer::Trust;
use crate::statistics::SESSION_POLLED;
use crate::sync::Ordering;
use crate::sys::cpu;
use crate::wait::placement;
use crate::wait::policy::{PollMode, WAKE_ALLOWANCE};
use crate::wait::wake_latency::WakeLatency;

/// One session as the thread that serves it has it.
pub struct PolledSession<I> {
    /// The session.
    pub session: Arc<Session>,
    /// What each slot's turn must be to be taken: private, so that no word of the peer's makes a slot be taken twice.
    pub expected: Box<[Expected]>,
    /// Where the next look begins.
    cursor: usize,
    /// Whether it is polled.
    pub poll_mode: PollMode,
    /// Since when nothing has come, as far as somebody looked.
    pub idle_since: Option<Instant>,
    /// Whether it is looked at.
    pub is_active: bool,
    /// It rang, and nothing has been taken since.
    pub just_rang: bool,
    /// The client is being woken for its last reply, so that its next request comes a wake-up later.
    pub is_client_waking: bool,
    /// A queue's whose sender is gone: how many messages it may still have left. No sender can have left more than it
    /// has slots, and one that only hung up shall not go on for ever.
    orphan: Option<usize>,
    /// What its form takes out of it, and what was found last.
    pub intake: I,
}

impl<I: Intake> PolledSession<I> {
    /// Its slots come one after the other, so there is one line to look at.
    const IN_SLOT_ORDER: bool = I::FORM.in_slot_order();

    /// A session that nothing has come from yet. Active at first: it is looked at, and armed if it is cold.
    pub fn new(session: Arc<Session>, poll_mode: PollMode) -> PolledSession<I> {
        let slots = session.segment.geometry().slots;
        PolledSession {
            expected: vec![Expected::first(); slots].into_boxed_slice(),
            cursor: 0,
            poll_mode,
            idle_since: None,
            is_active: true,
            just_rang: true,
            is_client_waking: false,
            orphan: None,
            intake: I::new(&session),
            session,
        }
    }

    /// What a sender that is gone says last. It is looked at as long as there is something, and never polled.
    pub fn become_orphan(&mut self) {
        self.orphan = Some(self.expected.len());
        self.poll_mode.cool();
    }

    /// Whether its sender is gone.
    pub fn is_orphan(&self) -> bool {
        self.orphan.is_some()
    }

    pub fn waiting(&self) -> Waiting<'_> {
        Waiting(&self.session.segment.server_line().waiting)
    }

    /// Whether client and server thread are pinned to one and the same processor.
    pub fn shares_processor(&self, mine: u32) -> bool {
        let theirs = self.session.segment.client_line().only_processor.load(Ordering::Relaxed); // a hint
        cpu::share_one_processor(mine, theirs)
    }

    /// The session is polled from now on. Returns the processor of its client, which is to be left to it.
    pub fn become_hot(&mut self, may_move: bool) -> u32 {
        self.is_client_waking = true;
        self.counters().served.heated.add(1);
        self.counters().pace.state.set(SESSION_POLLED);
        self.waiting().withdraw();
        let theirs = self.client_processor();
        let mine = cpu::current();
        // The client reads it with the reply.
        let published = placement::published_before_polling(mine, theirs, may_move);
        self.session.segment.server_line().processor.store(published, Ordering::Relaxed); // a hint
        theirs
    }

    /// Says where the serving thread is, and whether it polls there.
    pub fn publish_processor(&self, mine: u32) {
        let published = placement::published(mine, self.poll_mode.is_polled());
        self.session.segment.server_line().processor.store(published, Ordering::Relaxed); // a hint
    }

    /// How long this session may be silent before it cools.
    pub fn idle_max(&self, latency: &WakeLatency) -> Duration {
        if self.is_client_waking { latency.idle_max() + WAKE_ALLOWANCE } else { latency.idle_max() }
    }

    /// When the client says that it rang last; only one of the same user has a say in how long this thread polls.
    pub fn rang_ns(&self) -> Option<u64> {
        let is_believed = self.session.trust == Trust::SameUser && self.session.agreement.has_ring_times();
        // Relaxed: any number will do.
        is_believed.then(|| self.session.segment.client_line().rang_ns.load(Ordering::Relaxed))
    }

    /// The processor the client rang from last; only a client of the same user has a say in where this thread runs.
    pub fn client_processor(&self) -> u32 {
        match self.session.trust {
            Trust::SameUser => self.session.segment.client_line().processor.load(Ordering::Relaxed), // a hint
            Trust::OtherUser => 0,
        }
    }

    /// As [`PolledSession::look`], and short for the usual case of one call at a time: one line, and until something
    /// has come one bit of it.
    #[inline(always)]
    pub fn look_quickly(&mut self) -> bool {
        let depth = self.session.segment.client_line().depth.load(Ordering::Relaxed); // as in `look`
        if depth != 1 || Self::IN_SLOT_ORDER || self.expected.is_empty() {
            return self.look();
        }
        let line = self.session.segment.line(0);
        let turn = slot::load(&line.turn);
        if !turn.is_server() {
            return false;
        }
        prefetch::about_to_write(line);
        self.consider(0, turn)
    }

    /// Looks at the slot lines from the cursor on, once around, and opens the first request found.
    #[inline(never)]
    pub fn look(&mut self) -> bool {
        if Self::IN_SLOT_ORDER {
            return self.look_at_next();
        }
        // Relaxed: the client raises it before it passes the turn; `Waiting` says why none is missed. The peer's number
        // can make the scan shorter, never longer than what is ours.
        let depth = self.session.segment.client_line().depth.load(Ordering::Relaxed) as usize;
        let most = if faults::is(Fault::UncheckedDepth) { usize::MAX } else { self.expected.len() };
        let depth = depth.min(most);
        for _ in 0..depth {
            let slot = if self.cursor < depth { self.cursor } else { 0 };
            self.cursor = slot + 1;
            let turn = slot::load(&self.session.segment.line(slot).turn);
            if turn.is_server() && self.consider(slot, turn) {
                return true;
            }
            if self.expected.is_empty() {
                return false; // condemned
            }
        }
        false
    }

    /// The slots in which something lies that was passed and not taken, in the order in which it is to be taken.
    #[cold]
    pub fn passed(&self) -> VecDeque<usize> {
        let slots = self.expected.len();
        let is_passed = |slot: &usize| self.expected[*slot].is(slot::load(&self.session.segment.line(*slot).turn));
        if Self::IN_SLOT_ORDER {
            let in_order = (self.cursor..slots).chain(0..self.cursor.min(slots));
            return in_order.take(self.orphan.unwrap_or(slots)).take_while(is_passed).collect();
        }
        let depth = self.session.segment.client_line().depth.load(Ordering::Relaxed); // as in `look`
        (0..slots.min(depth as usize)).filter(is_passed).collect()
    }

    /// From now on requests are taken.
    pub fn begin(&self) {
        if !Self::IN_SLOT_ORDER {
            self.session.segment.open();
        }
    }

    /// Nothing is taken any more: lets the client know which of its requests were, and have not been answered, so that
    /// it can tell those that nobody has executed. Their holders may answer them at the same time.
    #[cold]
    pub fn close(&self) {
        if Self::IN_SLOT_ORDER || self.session.segment.is_forked() {
            return; // a sender keeps what was not acknowledged anyway
        }
        for (slot, expected) in self.expected.iter().enumerate() {
            if self.session.is_answered(slot, expected.taken()) {
                continue;
            }
            let head = &self.session.segment.line(slot).head;
            let word = head.load(Ordering::Relaxed); // of a slot that is the server's
            if let Some(taken) = Head::parse(word).filter(|head| head.kind == Kind::Request) {
                let marked = Head { kind: Kind::Delivered, ..taken }.pack();
                let _ = head.compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed); // or it is answered
            }
        }
        self.session.segment.close();
    }

    /// Looks at one slot, the next one of a queue, and opens what was passed there.
    #[cold]
    pub fn look_at(&mut self, slot: usize) -> bool {
        if slot >= self.expected.len() {
            return false; // condemned
        }
        let turn = slot::load(&self.session.segment.line(slot).turn);
        turn.is_server() && self.consider(slot, turn)
    }

    /// Looks at the one slot that the ring goes on with.
    #[inline(always)]
    fn look_at_next(&mut self) -> bool {
        let slot = self.cursor;
        if slot >= self.expected.len() {
            return false; // condemned
        }
        let turn = slot::load(&self.session.segment.line(slot).turn);
        turn.is_server() && self.orphan != Some(0) && self.consider(slot, turn)
    }

    /// It is the server's turn in a slot: the next request, or one that is being served, or nothing that is allowed.
    /// Whether a request was opened; one that was answered with an error already does not count.
    #[inline(always)]
    fn consider(&mut self, slot: usize, turn: slot::Turn) -> bool {
        let expected = self.expected[slot];
        if expected.is(turn) {
            return self.open(slot, turn, expected);
        }
        if turn.sequence() != expected.taken() {
            self.violation(slot, turn);
        }
        false
    }

    /// Opens what was passed, unless the slot's last request has not been answered.
    #[inline(always)]
    fn open(&mut self, slot: usize, turn: slot::Turn, expected: Expected) -> bool {
        if !self.session.is_answered(slot, expected.taken()) {
            return self.violation(slot, turn);
        }
        let opened = self.intake.open(&self.session, slot, turn);
        match opened {
            Opened::Found | Opened::Answered => {}
            Opened::Violation => return self.violation(slot, turn),
            Opened::Refused => {
                self.expected = Box::new([]);
                return false;
            }
        }
        self.expected[slot] = expected.next();
        self.is_client_waking = false;
        if Self::IN_SLOT_ORDER {
            self.cursor = if slot + 1 == self.expected.len() { 0 } else { slot + 1 };
            self.orphan = self.orphan.map(|left| left.saturating_sub(1));
        }
        opened == Opened::Found
    }

    #[cold]
    fn violation(&mut self, slot: usize, turn: slot::Turn) -> bool {
        let head = self.session.segment.line(slot).head.load(Ordering::Relaxed);
        self.session.condemn(format!(
            "slot {slot} has {turn:?} with head {head:#x} after request {}: nothing this session allows",
            self.expected[slot].taken()
        ));
        // Nothing of it is looked at any more; the control thread's message removes it.
        self.expected = Box::new([]);
        false
    }
}
