//! What a serving thread writes into its server's statistics. All of it lies on lines that this thread alone writes, and what is
//! done for each call is a few stores; the clock is read for the call that is timed, seldom where calls are short.

use std::time::Instant;

use super::Worker;
use crate::request::Answered;
use crate::statistics::Counters;
use crate::sys::clock;

/// Short calls from one that is timed to the next: a prime, so that no pattern of the calls falls in with it.
const CALLS_PER_TIMED: u32 = 127;
/// A call that takes so long is timed each time: two looks at the clock are nothing to it.
const TIMED_ALWAYS_NS: u64 = 5_000;

/// A thread's clock and what it times.
pub struct Account {
    /// Whether calls are counted at all: not in one half of the benchmark that shows what counting costs.
    is_counting: bool,
    /// Falls with each call; the one that makes it 0 is timed.
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
        Account { is_counting, until_timed: 1, weight: 1, timed_since: now, base: now, base_ns: clock::now_ns() }
    }

    fn ns(&self, at: Instant) -> u64 {
        self.base_ns + u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

impl Worker {
    /// A request was found and goes to the handler: from here on observers see where this thread is.
    #[inline(always)]
    pub fn begin_call(&mut self) {
        if !self.account.is_counting {
            return;
        }
        let Some(Some(entry)) = self.entries.get(self.last) else { return };
        self.port.record.serving.set(entry.session.record.place(entry.request.slot()).pack());
        self.account.until_timed -= 1;
        if self.account.until_timed == 0 {
            self.begin_timed();
        }
    }

    #[cold]
    fn begin_timed(&mut self) {
        self.account.timed_since = Instant::now();
        self.note_clock(self.account.timed_since);
    }

    /// The handler has returned and the turn was passed, if it was: `bytes_in` is the request's length.
    #[inline(always)]
    pub fn end_call(&mut self, bytes_in: usize, answered: Answered, has_failed: bool) {
        if answered.rang {
            self.count_ring();
        }
        if !self.account.is_counting {
            return;
        }
        self.port.record.serving.set(0);
        if let Some(Some(entry)) = self.entries.get(self.last)
            && answered.passed
        {
            let served = &entry.session.record.counters().served;
            served.calls.add(1);
            served.bytes_in.add(bytes_in as u64);
            served.bytes_out.add(u64::from(answered.len));
            if has_failed {
                served.failed.add(1);
            }
        }
        if self.account.until_timed == 0 {
            self.end_timed();
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
        }
        self.account.weight = (TIMED_ALWAYS_NS / duration_ns.max(1)).clamp(1, CALLS_PER_TIMED.into()) as u32;
        self.account.until_timed = self.account.weight;
        self.note_clock(now);
    }

    /// A doorbell was rung for a reply.
    #[cold]
    fn count_ring(&mut self) {
        if let Some(Some(entry)) = self.entries.get_mut(self.last) {
            entry.is_client_waking = true;
            entry.counters().served.rung.add(1);
        }
    }

    /// The clock was read: what is served from now on came later.
    pub(super) fn note_clock(&self, now: Instant) {
        self.port.record.clock_ns.set(self.account.ns(now));
    }
}

impl super::Entry {
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
