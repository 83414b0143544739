//! How a thread waits at one end of a stream: it spins, and then announces, looks and sleeps.
//!
//! How long to spin follows the rules of [`crate::wait::policy`]. The two ends of a stream are neither client nor
//! server, so each applies both sides' rules to its own reading: it does not spin for an answer once it had to ring,
//! unless it is *hot*, and it becomes hot when four cycles in a row were quick: both the other end's time to think and
//! its own.

use std::io;
use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::memory::doorbell::Waiting;
use crate::memory::ring::ImpossibleCount;
use crate::memory::segment::Side;
use crate::statistics::{Counters, SESSION_ARMED, SESSION_LOOKED_AT, SESSION_POLLED, Served, Word};
use crate::stream::endpoint::Endpoint;
use crate::stream::half::Direction;
use crate::sync;
use crate::sys::epoll::Events;
use crate::sys::{clock, cpu};
use crate::wait::deadline::Deadline;
use crate::wait::placement::{self, SLEEPS_PER_AFFINITY};
use crate::wait::policy::{PollMode, SpinBudget, WAKE_ALLOWANCE, Wait};
use crate::wait::runtime_guard;
use crate::wait::waiter::{self, SPINS_BEFORE_CLOCK};
use crate::wait::wake_latency::WakeLatency;

/// What one direction knows of waiting.
pub struct WaitState {
    direction: Direction,
    events: Events,
    spin_budget: SpinBudget,
    poll_mode: PollMode,
    wake_latency: WakeLatency,
    sleeps: u32,
    may_ever_spin: bool,
    may_spin: bool,
}

impl WaitState {
    /// Of one direction.
    pub fn new(direction: Direction) -> WaitState {
        WaitState {
            direction,
            events: Events::with_capacity(4),
            spin_budget: SpinBudget::default(),
            poll_mode: PollMode::default(),
            wake_latency: WakeLatency::default(),
            sleeps: 0,
            may_ever_spin: true,
            may_spin: true,
        }
    }

    /// Room for what a poller tells.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Something was received. `slept`: this end had to be woken for it.
    #[inline(always)]
    pub fn received(&mut self, endpoint: &Endpoint, slept: bool) {
        if slept || endpoint.has_rung() {
            self.received_after_ring(endpoint);
        } else {
            endpoint.received_awake();
        }
    }

    /// One of the two ends had been woken: the time to think begins, and the other may have moved.
    #[cold]
    fn received_after_ring(&mut self, endpoint: &Endpoint) {
        endpoint.received_after_ring();
        let theirs = endpoint.peer_line().processor.load(Ordering::Relaxed); // a hint
        self.may_spin = self.may_ever_spin && theirs != cpu::current();
    }

    /// Waits until `look` finds something, the time is over, or the stream is. `waiting` is the word that says so.
    ///
    /// Returns whether this thread slept.
    #[cold]
    pub fn wait_until(
        &mut self,
        endpoint: &Endpoint,
        waiting: &sync::AtomicU32,
        mut look: impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        let deadline = endpoint.half(self.direction).timeout().map_or(Deadline::Never, Deadline::after);
        if self.spin(endpoint, deadline, &mut look)? {
            return Ok(false);
        }
        let outcome = self.sleep_until(endpoint, Waiting(waiting), deadline, &mut look);
        Waiting(waiting).withdraw();
        outcome
    }

    fn sleep_until(
        &mut self,
        endpoint: &Endpoint,
        waiting: Waiting<'_>,
        deadline: Deadline,
        look: &mut impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        let (mut has_slept, mut was_last_look) = (false, false);
        loop {
            waiting.announce();
            // Before the look: what was written before the end counts.
            let is_over = endpoint.is_over();
            if look().map_err(|lie| endpoint.condemn(lie))? || endpoint.is_shut(self.direction) {
                self.came(endpoint, has_slept);
                return Ok(has_slept);
            }
            if is_over && faults::is(Fault::GoodEnd) {
                return Ok(has_slept);
            }
            if is_over {
                return Err(endpoint.fate(self.direction));
            }
            if was_last_look {
                return Err(timed_out(self.direction));
            }
            // Even without time left there is one look, so that who polls learns of the end.
            was_last_look = deadline.is_over();
            if self.sleeps.is_multiple_of(SLEEPS_PER_AFFINITY) {
                self.refresh_affinity(endpoint);
            }
            self.sleeps = self.sleeps.wrapping_add(1);
            endpoint.own_line().processor.store(cpu::current(), Ordering::Relaxed); // a hint
            self.note_reader(endpoint, SESSION_ARMED);
            runtime_guard::is_about_to_sleep("reading from a stream, or writing to one");
            let slept_ns = self.wake_latency.wants_sample().then(clock::now_ns);
            let heard = self.hear(endpoint, deadline);
            if let (Some(slept_ns), Some(rang_ns)) = (slept_ns, endpoint.peer_rang_ns()) {
                self.wake_latency.woken(slept_ns, rang_ns, clock::now_ns());
            }
            self.note_reader(endpoint, SESSION_LOOKED_AT);
            heard?;
            has_slept = true;
        }
    }

    /// What was waited for is there: how soon, decides whether this end is hot.
    fn came(&mut self, endpoint: &Endpoint, has_slept: bool) {
        if self.direction == Direction::Writing {
            return;
        }
        let one_processor = !self.may_ever_spin;
        let was_hot = self.poll_mode.is_polled();
        let is_polled = if has_slept {
            self.count(endpoint, |served| &served.woken);
            let theirs = endpoint.peer_line().think_ns.load(Ordering::Relaxed); // a hint
            let think_ns = theirs.max(endpoint.think_ns());
            self.poll_mode.rang(endpoint.wait(), &self.wake_latency, think_ns, one_processor)
        } else {
            self.poll_mode.found(endpoint.wait(), &self.wake_latency, one_processor)
        };
        if is_polled && !was_hot {
            self.count(endpoint, |served| &served.heated);
            self.note_reader(endpoint, SESSION_POLLED);
        }
        let theirs = endpoint.peer_line().processor.load(Ordering::Relaxed); // a hint
        // Two who spin on one processor only stand in each other's way. One of them moves.
        if is_polled && !was_hot && endpoint.is_trusted() && endpoint.side() == Side::Accepting {
            placement::leave_shared(theirs);
        }
    }

    /// Spins for as long as the policy says. `false`: time to sleep.
    fn spin(
        &mut self,
        endpoint: &Endpoint,
        deadline: Deadline,
        look: &mut impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        let mut look = || look().map_err(|lie| endpoint.condemn(lie));
        if endpoint.wait() == Wait::Spin {
            return self.spin_forever(endpoint, deadline, look);
        }
        let is_polled = self.poll_mode.is_polled();
        let has_rung = endpoint.has_rung();
        if endpoint.wait() == Wait::Park || !is_polled && (has_rung || !self.may_spin) {
            return Ok(false);
        }
        for _ in 0..SPINS_BEFORE_CLOCK {
            std::hint::spin_loop();
            if look()? {
                return Ok(true);
            }
        }
        let budget = match (is_polled, has_rung) {
            (true, true) => self.wake_latency.idle_max() + WAKE_ALLOWANCE,
            (true, false) => self.wake_latency.idle_max(),
            _ => self.spin_budget.next(&self.wake_latency),
        };
        if waiter::spin_for(budget, look)? {
            self.spin_budget.paid();
            self.wake_latency.waited();
            return Ok(true);
        }
        if is_polled {
            self.poll_mode.cool();
            self.count(endpoint, |served| &served.cooled);
        } else if !budget.is_zero() {
            self.spin_budget.failed();
        }
        Ok(false)
    }

    /// [`Wait::Spin`]: sleeps never, but notices the other end's death, this end's shutdown, and the deadline.
    fn spin_forever(
        &mut self,
        endpoint: &Endpoint,
        deadline: Deadline,
        look: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<bool> {
        waiter::spin_forever(deadline, look, || {
            let theirs = endpoint.peer_line().processor.load(Ordering::Relaxed); // a hint
            if endpoint.is_trusted() {
                placement::leave_shared(theirs);
            }
            self.hear(endpoint, Deadline::Now)?;
            // There, too, what was written before the end counts.
            Ok((endpoint.is_over() || endpoint.is_shut(self.direction)).then_some(false))
        })
    }

    fn refresh_affinity(&mut self, endpoint: &Endpoint) {
        let (mine, theirs) = (&endpoint.own_line().only_processor, &endpoint.peer_line().only_processor);
        self.may_ever_spin = !placement::exchange_affinity(mine, theirs);
        self.may_spin = self.may_ever_spin;
    }

    /// Waits for a ring, news from the socket, the other end's death, or the deadline.
    fn hear(&mut self, endpoint: &Endpoint, deadline: Deadline) -> Result<()> {
        if self.direction == Direction::Writing {
            endpoint.watch_writing()?;
        }
        endpoint.half(self.direction).poller().wait(&mut self.events, deadline.as_instant())?;
        endpoint.take_in(&self.events);
        Ok(())
    }

    /// Counts what becomes of the reader's waiting.
    fn count(&self, endpoint: &Endpoint, which: impl Fn(&Served) -> &Word) {
        if let Some(Counters { served, .. }) = endpoint.counters()
            && self.direction == Direction::Reading
        {
            which(served).add(1);
        }
    }

    /// Says how the reader waits.
    fn note_reader(&self, endpoint: &Endpoint, state: u64) {
        if let Some(Counters { pace, .. }) = endpoint.counters()
            && self.direction == Direction::Reading
        {
            pace.state.set(state);
        }
    }
}

#[cold]
fn timed_out(direction: Direction) -> io::Error {
    let what = match direction {
        Direction::Reading => "nothing came within the read timeout",
        Direction::Writing => "no room came free within the write timeout",
    };
    io::Error::new(io::ErrorKind::TimedOut, Error::new(ErrorKind::TimedOut { maybe_executed: false }, what))
}
