//! What a serving thread writes into its server's statistics. All of it lies on lines that this thread alone writes,
//! and what is done for each call is a few stores; the clock is read for the call that is timed, seldom where calls are
//! short.

use std::time::Instant;

use crate::service::intake::Intake;
use crate::service::worker::Worker;
use crate::statistics::Counters;
use crate::sys::{clock, cpu};
use crate::trace;

/// Short calls from one that is timed to the next: a prime, so that no pattern of the calls falls in with it.
const CALLS_PER_TIMED: u32 = 127;
/// A call that takes so long is timed each time: two looks at the clock are nothing to it.
const TIMED_ALWAYS_NS: u64 = 5_000;

/// What is done with the next call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Count,
    /// It is timed besides.
    Time,
    /// Nothing: one half of the benchmark that shows what counting costs.
    Nothing,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The turn was passed: there was a request to answer.
    pub passed: bool,
    /// The client had to be woken.
    pub rang: bool,
    /// The reply says that the handler failed, or panicked, or dropped the request.
    pub failed: bool,
    /// Bytes of the reply.
    pub len: u32,
}

impl Answered {
    /// There was nothing to answer.
    pub const NOTHING: Answered = Answered { passed: false, rang: false, failed: false, len: 0 };
}

/// A thread's clock and what it times.
pub struct Account {
    next: Next,
    /// Falls with each call; the one after it is 0 is timed.
    until_timed: u32,
    /// Calls that the timed one stands for.
    weight: u32,
    timed_since: Instant,
    /// One moment on both clocks, so that one look tells both.
    base: Instant,
    base_ns: u64,
}

impl Account {
    /// Of a thread that begins.
    pub fn new(is_counting: bool) -> Account {
        let now = Instant::now();
        let next = if is_counting { Next::Time } else { Next::Nothing };
        Account { next, until_timed: 0, weight: 1, timed_since: now, base: now, base_ns: clock::now_ns() }
    }

    /// Whether the next call is one that is timed.
    #[inline(always)]
    pub fn is_time_taken_next(&self) -> bool {
        self.next == Next::Time
    }

    /// Whether calls are counted.
    #[inline(always)]
    pub fn is_counting(&self) -> bool {
        self.next != Next::Nothing
    }

    fn ns(&self, at: Instant) -> u64 {
        self.base_ns + u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

impl<I: Intake> Worker<I> {
    /// The request that was found, which goes to the handler: from here on observers see where this thread is. The
    /// client waits for all that is done here, so it is one store.
    #[inline(always)]
    pub fn begin_call(&mut self) -> &mut I {
        if self.account.next == Next::Time {
            self.begin_timed();
        }
        let entry = self.entries[self.last].as_deref_mut().expect("only `next` forgets sessions");
        if self.account.next != Next::Nothing {
            self.mailbox.record.serving.set(entry.session.record.place_word(entry.intake.slot()));
        }
        &mut entry.intake
    }

    #[cold]
    fn begin_timed(&mut self) {
        self.account.timed_since = Instant::now();
        self.note_clock(self.account.timed_since);
    }

    /// The handler has returned and the turn was passed, if it was: after that, when the client waits no more.
    /// `bytes_in` is the request's length.
    #[inline(always)]
    pub fn end_call(&mut self, bytes_in: usize, answered: Answered) {
        if let Some(Some(entry)) = self.entries.get_mut(self.last) {
            entry.idle_since = None;
            if self.account.next != Next::Nothing {
                self.mailbox.record.serving.set(0);
                let served = &entry.session.record.counters().served;
                served.calls.add(answered.passed.into());
                served.bytes_in.add(bytes_in as u64);
                served.bytes_out.add(answered.len.into());
                if answered.failed {
                    served.failed.add(1);
                }
            }
        }
        if answered.rang {
            self.count_ring();
        }
        match self.account.next {
            Next::Count => {
                self.account.until_timed -= 1;
                if self.account.until_timed == 0 {
                    self.account.next = Next::Time;
                }
            }
            Next::Time => self.end_timed(),
            Next::Nothing => {}
        }
    }

    #[cold]
    fn end_timed(&mut self) {
        let now = Instant::now();
        let duration = now.duration_since(self.account.timed_since);
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(Some(entry)) = self.entries.get(self.last) {
            let counters = entry.session.record.counters();
            counters.time(duration_ns, self.account.weight.into());
            entry.note_depth();
            trace::handler_took(duration, entry.session.id, entry.session.peer.pid);
        }
        self.account.weight = (TIMED_ALWAYS_NS / duration_ns.max(1)).clamp(1, CALLS_PER_TIMED.into()) as u32;
        self.account.until_timed = self.account.weight - 1;
        self.account.next = if self.account.until_timed == 0 { Next::Time } else { Next::Count };
        self.note_clock(now);
    }

    /// A doorbell was rung for a reply.
    #[cold]
    fn count_ring(&mut self) {
        let Some(Some(entry)) = self.entries.get_mut(self.last) else { return };
        entry.is_client_waking = true;
        entry.counters().served.rung.add(1);
        if entry.poll_mode.is_polled() && self.leave == 0 {
            cpu::give_way(); // the client may have been put on this very processor: it goes elsewhere then
        }
    }

    /// A doorbell was rung for the reply to a request that had been taken: most likely the last one.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn note_waking(&mut self) {
        if let Some(Some(entry)) = self.entries.get_mut(self.last) {
            entry.is_client_waking = true;
        }
    }

    /// The clock was read: what is served from now on came later.
    pub(super) fn note_clock(&self, now: Instant) {
        self.mailbox.record.clock_ns.set(self.account.ns(now));
    }
}

impl<I> crate::service::worker::PolledSession<I> {
    /// What is counted of the session.
    #[inline(always)]
    pub(super) fn counters(&self) -> &Counters {
        self.session.record.counters()
    }

    /// Writes down how many slots the client uses.
    pub(super) fn note_depth(&self) {
        let depth = self.session.segment.client_line().depth.load(crate::sync::Ordering::Relaxed); // for people
        let depth = u64::from(depth).min(self.session.segment.geometry().slots as u64);
        self.counters().pace.depth.set(depth);
        self.counters().pace.depth_max.raise(depth);
    }
}
