//! One end of a stream: its memory, its signs of life, and how it waits. Both ends are alike.
//!
//! Nobody watches a stream for its owner: each end sleeps in an epoll with its bell, the socket and the other process's
//! pidfd. There are two of them, for the reader and for the writer, because two threads that sleep in one epoll would
//! take each other's rings.
//!
//! How long to spin follows the rules of [`crate::wait::policy`]. The two ends of a stream are neither client nor
//! server, so each applies both sides' rules to its own reading: it does not spin for an answer once it had to ring,
//! unless it is *hot*, and it becomes hot when four cycles in a row were quick: both the other end's time to think and
//! its own.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::memory::doorbell::Waiting;
use crate::memory::ring::{self, ImpossibleCount, Words};
use crate::memory::segment::{EndLine, Segment, Side};
use crate::service::accept_queue::PendingStream;
use crate::service::quota::QuotaGrant;
use crate::session::background::PeerSocket;
use crate::session::close_reason::KEY_SOCKET;
use crate::session::close_reason::{CloseReason, SocketEvents};
use crate::session::connect::{self, Established, KEY_BELL};
use crate::session::peer::Trust;
use crate::session::protocol::{FromServer, Reason};
use crate::statistics::{Counters, SESSION_ARMED, SESSION_LOOKED_AT, SESSION_POLLED, Served, SessionEntry, Word};
use crate::sync;
use crate::sys::epoll::{Events, Interest, Poller};
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::socket::{self, Credentials};
use crate::sys::{clock, cpu};
use crate::wait::deadline::Deadline;
use crate::wait::placement::{self, SLEEPS_PER_AFFINITY};
use crate::wait::policy::{POLL_IDLE_MAX, PollMode, SpinBudget, THINK_UNKNOWN, WAKE_ALLOWANCE, Wait};
use crate::wait::runtime_guard;
use crate::wait::waiter::{self, SPINS_BEFORE_CLOCK};

mod ending;
#[cfg(all(feature = "tokio", not(loom)))]
mod reactor;

/// What the reader and the writer of one end share. The last owner's drop closes both directions and hangs up.
pub struct Endpoint {
    segment: Segment,
    side: Side,
    socket: PeerSocket,
    /// Kept open for the pollers.
    pidfd: Option<OwnedFd>,
    /// Rung by the other end; `None` if it sends messages instead.
    own_bell: Option<Bell>,
    /// Rung by this end; `None` if it has to send messages, because the other is of another user.
    peer_bell: Option<Bell>,
    /// For rings among this end's own threads, where `own_bell` is not to be had or shared with somebody of another
    /// user.
    private_bell: Option<Bell>,
    /// Where who reads sleeps.
    reading: Poller,
    /// Where who writes sleeps; empty until somebody does.
    writing: Poller,
    is_writing_watched: Mutex<bool>,
    /// Whether the peer is of the same user.
    is_trusted: bool,
    peer: Credentials,
    wait: Wait,
    fork: ForkGuard,
    is_split: AtomicBool,
    is_nonblocking: AtomicBool,
    /// Nanoseconds, 0 for none.
    read_timeout_ns: AtomicU64,
    write_timeout_ns: AtomicU64,
    is_read_shut: AtomicBool,
    is_write_shut: AtomicBool,
    /// Whether this end gave the stream up: then nothing of it ends in good order any more.
    is_aborted: AtomicBool,
    /// Whether a drop without a shutdown means an abort.
    aborts_on_drop: AtomicBool,
    /// Whether the stream began on a thread that was unwinding already, so that a drop while it unwinds says nothing.
    began_in_panic: bool,
    /// Whether non-blocking reads, writes, wait for the descriptor.
    is_read_armed: AtomicBool,
    is_write_armed: AtomicBool,
    ended: Mutex<Option<CloseReason>>,
    is_over: AtomicBool,
    /// Whether the other end slept when something was passed to it since it was heard last: then waiting means
    /// sleeping.
    has_rung: AtomicBool,
    /// When something was received last, if the clock had to be read anyway; else 0.
    received_at_ns: AtomicU64,
    /// The time from there to the last ring.
    think_ns: AtomicU32,
    /// The memory object, at the end where observers find it.
    _memory: Option<Arc<OwnedFd>>,
    /// What is counted of it at a listener, and what it costs there.
    charged: Option<(SessionEntry, QuotaGrant)>,
}

/// Which of the two directions, as this end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the other end.
    Reading,
    /// To the other end.
    Writing,
}

/// What one direction knows of waiting.
pub struct WaitState {
    direction: Direction,
    events: Events,
    spin_budget: SpinBudget,
    poll_mode: PollMode,
    sleeps: u32,
    may_ever_spin: bool,
    may_spin: bool,
}

/// The private bell in the pollers. It needs no other answer than the shared one.
const KEY_PRIVATE: u64 = KEY_BELL;

impl WaitState {
    /// Of one direction.
    pub fn new(direction: Direction) -> WaitState {
        WaitState {
            direction,
            events: Events::with_capacity(4),
            spin_budget: SpinBudget::default(),
            poll_mode: PollMode::default(),
            sleeps: 0,
            may_ever_spin: true,
            may_spin: true,
        }
    }
}

impl Endpoint {
    /// The end that connected.
    pub fn connected(established: Established, wait: Wait) -> Result<Endpoint> {
        let Established { segment, socket, server_bell, poller, client_bell, pidfd, peer, memory } = established;
        let is_trusted = peer.uid == rustix::process::geteuid().as_raw();
        let memory = memory.map(Arc::new);
        let end = Parts { segment, side: Side::Connecting, socket, pidfd, peer, is_trusted, memory, charged: None };
        let private_bell = if client_bell.is_none() { Some(private_bell(&poller)?) } else { None };
        Ok(Endpoint::new(end, (client_bell, Some(server_bell), private_bell), (poller, Poller::new()?), wait))
    }

    /// The end that accepted. An error, such as that there is no descriptor left, leaves the arrival to be accepted
    /// later.
    pub fn accepted(pending: PendingStream, wait: Wait) -> std::result::Result<Endpoint, Box<(Error, PendingStream)>> {
        let is_trusted = pending.trust == Trust::SameUser;
        let needed = || {
            let poller = Poller::new()?;
            connect::watch(&poller, Some(&pending.server_bell), &pending.socket, pending.pidfd.as_ref())?;
            let private_bell = if is_trusted { None } else { Some(private_bell(&poller)?) };
            Ok((private_bell, poller, Poller::new()?))
        };
        let (private_bell, poller, writing) = match needed() {
            Ok(needed) => needed,
            Err(error) => return Err(Box::new((error, pending))),
        };
        let PendingStream { segment, socket, pidfd, server_bell, client_bell, .. } = pending;
        let (peer, memory, record, charged) = (pending.peer, pending.memory, pending.record, pending.charged);
        let charged = Some((record, charged));
        let end = Parts { segment, side: Side::Accepting, socket, pidfd, peer, is_trusted, memory, charged };
        Ok(Endpoint::new(end, (Some(server_bell), client_bell, private_bell), (poller, writing), wait))
    }

    fn new(
        end: Parts,
        bells: (Option<Bell>, Option<Bell>, Option<Bell>),
        (reading, writing): (Poller, Poller),
        wait: Wait,
    ) -> Endpoint {
        let (own_bell, peer_bell, private_bell) = bells;
        let Parts { segment, side, socket, pidfd, peer, is_trusted, memory, charged } = end;
        Endpoint {
            segment,
            side,
            socket,
            pidfd,
            own_bell,
            peer_bell,
            private_bell,
            reading,
            writing,
            is_writing_watched: Mutex::new(false),
            is_trusted,
            peer,
            wait,
            fork: ForkGuard::new(),
            is_split: AtomicBool::new(false),
            is_nonblocking: AtomicBool::new(false),
            read_timeout_ns: AtomicU64::new(0),
            write_timeout_ns: AtomicU64::new(0),
            is_read_shut: AtomicBool::new(false),
            is_write_shut: AtomicBool::new(false),
            is_aborted: AtomicBool::new(false),
            aborts_on_drop: AtomicBool::new(false),
            began_in_panic: std::thread::panicking(),
            is_read_armed: AtomicBool::new(false),
            is_write_armed: AtomicBool::new(false),
            ended: Mutex::new(None),
            is_over: AtomicBool::new(false),
            has_rung: AtomicBool::new(false),
            received_at_ns: AtomicU64::new(0),
            think_ns: AtomicU32::new(THINK_UNKNOWN),
            _memory: memory,
            charged,
        }
    }

    /// The shared memory.
    #[inline(always)]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Bytes of each ring.
    #[inline(always)]
    pub fn ring_bytes(&self) -> usize {
        self.segment.geometry().capacity
    }

    /// Which end this is, and so which ring it writes to.
    #[inline(always)]
    pub fn side(&self) -> Side {
        self.side
    }

    /// The words of the ring that this end reads from.
    #[inline(always)]
    pub fn incoming(&self) -> Words<'_> {
        self.segment.ring_words(self.side.other())
    }

    /// The words of the ring that this end writes to.
    #[inline(always)]
    pub fn outgoing(&self) -> Words<'_> {
        self.segment.ring_words(self.side)
    }

    /// Whether the peer is of the same user, and so inside the boundary that Rust draws.
    #[inline(always)]
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Credentials {
        self.peer
    }

    /// What observers see of it: at a listener.
    #[inline(always)]
    fn counters(&self) -> Option<&Counters> {
        self.charged.as_ref().map(|(record, _)| record.counters())
    }

    /// Counts bytes that were read: the reader alone.
    #[inline(always)]
    pub fn count_read(&self, bytes: usize) {
        if let Some(Counters { served, .. }) = self.counters() {
            served.calls.add(1);
            served.bytes_in.add(bytes as u64);
        }
    }

    /// Counts bytes that were written: the writer alone.
    #[inline(always)]
    pub fn count_written(&self, bytes: usize) {
        if let Some(Counters { kept, .. }) = self.counters() {
            kept.calls.add(1);
            kept.bytes_out.add(bytes as u64);
        }
    }

    /// Counts what becomes of the reader's waiting.
    fn count_waiting(&self, wait_state: &WaitState, which: impl Fn(&Served) -> &Word) {
        if let Some(Counters { served, .. }) = self.counters()
            && wait_state.direction == Direction::Reading
        {
            which(served).add(1);
        }
    }

    /// Says how the reader waits.
    fn note_reader(&self, wait_state: &WaitState, state: u64) {
        if let Some(Counters { pace, .. }) = self.counters()
            && wait_state.direction == Direction::Reading
        {
            pace.state.set(state);
        }
    }

    /// What people read of it.
    pub fn describe(&self, mut out: std::fmt::DebugStruct<'_, '_>) -> std::fmt::Result {
        out.field("peer", &self.peer).field("ring_bytes", &self.ring_bytes()).field("ended", &*self.ended()).finish()
    }

    /// Whether a fork lies between the connect and now.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// An error in a child that inherited the stream.
    #[inline(always)]
    pub fn check_fork(&self) -> Result<()> {
        match self.is_forked() && !faults::is(Fault::UncheckedChild) {
            true => Err(Error::forked()),
            false => Ok(()),
        }
    }

    /// Whether reads and writes never wait.
    #[inline(always)]
    pub fn is_nonblocking(&self) -> bool {
        self.is_nonblocking.load(Ordering::Relaxed)
    }

    /// Says whether reads and writes never wait.
    pub fn set_nonblocking(&self, is_nonblocking: bool) {
        self.is_nonblocking.store(is_nonblocking, Ordering::Relaxed);
    }

    /// From now on each direction has its own descriptor.
    pub fn split(&self) -> Result<()> {
        self.check_fork()?; // a child would change the registrations of its parent, which it shares
        self.watch_writing()?;
        self.is_split.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// How long reads or writes wait.
    pub fn timeout(&self, direction: Direction) -> Option<Duration> {
        let ns = self.timeout_word(direction).load(Ordering::Relaxed);
        (ns != 0).then(|| Duration::from_nanos(ns))
    }

    /// Says how long reads or writes wait.
    pub fn set_timeout(&self, direction: Direction, timeout: Option<Duration>) -> io::Result<()> {
        let ns = match timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)) {
            Some(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a timeout of zero is not possible: use set_nonblocking",
                ));
            }
            Some(ns) => ns,
            None => 0,
        };
        self.timeout_word(direction).store(ns, Ordering::Relaxed);
        Ok(())
    }

    fn timeout_word(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Reading => &self.read_timeout_ns,
            Direction::Writing => &self.write_timeout_ns,
        }
    }

    /// Whether this end has shut the direction.
    #[inline(always)]
    pub fn is_shut(&self, direction: Direction) -> bool {
        // Relaxed: who else uses the stream is told by a ring.
        match direction {
            Direction::Reading => self.is_read_shut.load(Ordering::Relaxed),
            Direction::Writing => self.is_write_shut.load(Ordering::Relaxed),
        }
    }

    /// Ends a direction in good order, and tells the other end as well as threads of this one that wait. After an abort
    /// it does nothing: there is no good order any more.
    pub fn shut(&self, direction: Direction) {
        if self.is_forked() || self.is_aborted() {
            return;
        }
        let (flag, must_ring) = match direction {
            Direction::Reading => (&self.is_read_shut, ring::close_reading(&self.incoming())),
            Direction::Writing => (&self.is_write_shut, ring::close_writing(&self.outgoing())),
        };
        if must_ring {
            self.ring();
        }
        if !flag.swap(true, Ordering::Relaxed) {
            self.nudge();
        }
    }

    /// Gives the stream up: both directions end at once, and neither in good order. The other end reads what was
    /// written before, and then gets an error with this reason. A direction that was shut before stays ended as it was.
    #[cold]
    pub fn abort(&self, why: &str) -> Result<()> {
        self.check_fork()?;
        // Relaxed: whoever waits at this end is woken by `end`, which releases.
        if self.is_aborted.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let why = if why.is_empty() { "no reason was given" } else { why };
        // The message before the hang-up, which then only says once more that the stream is over. If there is no room
        // for the message, because the other end does not read its rings, the hang-up alone is an error there, too.
        let ours = CloseReason::Farewell(Reason::Aborted, format!("this end aborted the stream: {why}"));
        self.hang_up(ours, Reason::Aborted, why);
        Ok(())
    }

    /// Whether this end gave the stream up.
    #[inline(always)]
    fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed)
    }

    /// Says whether a drop without a shutdown means an abort.
    pub fn set_abort_on_drop(&self, aborts: bool) {
        self.aborts_on_drop.store(aborts, Ordering::Relaxed);
    }

    /// The owner of the writing direction drops it: in good order, unless that thread is unwinding or the user said
    /// that only a shutdown is good order. What was shut before had its end already.
    pub fn drop_writing(&self) {
        if self.is_shut(Direction::Writing) || self.is_aborted() || self.is_forked() {
            return;
        }
        let why = match std::thread::panicking() && !self.began_in_panic && !faults::is(Fault::GoodEndInPanic) {
            true => "its thread panicked before the stream was complete",
            false if self.aborts_on_drop.load(Ordering::Relaxed) => "it was dropped before its writing was shut down",
            false => return self.shut(Direction::Writing),
        };
        let _ = self.abort(why);
    }

    /// What can be polled while that direction waits.
    pub fn poller(&self, direction: Direction) -> &Poller {
        match direction {
            Direction::Reading => &self.reading,
            Direction::Writing => &self.writing,
        }
    }

    /// The other end sleeps, and there is something for it.
    #[cold]
    pub fn ring(&self) {
        let think_ns = match self.received_at_ns.load(Ordering::Relaxed) {
            0 => THINK_UNKNOWN,
            at => u32::try_from(clock::now_ns().saturating_sub(at)).unwrap_or(THINK_UNKNOWN),
        };
        self.think_ns.store(think_ns, Ordering::Relaxed);
        // Hints for the other end, which reads them after the ring.
        let line = self.segment.end_line(self.side);
        line.think_ns.store(think_ns, Ordering::Relaxed);
        line.processor.store(cpu::current(), Ordering::Relaxed);
        self.has_rung.store(true, Ordering::Relaxed);
        if let Some(Counters { kept, .. }) = self.counters() {
            kept.rung.add_shared(1); // either direction
        }
        match &self.peer_bell {
            Some(bell) => bell.ring(),
            // Whoever shares a bell can make its write block; a message never waits. One that is not read: the peer's
            // loss.
            None => {
                let _ = socket::send(&self.socket, &FromServer::Bell.encode(), &[]);
            }
        }
    }

    /// Wakes the threads of this end that sleep.
    fn nudge(&self) {
        if let Some(bell) = self.private_bell.as_ref().or(self.own_bell.as_ref()) {
            bell.ring();
        }
    }

    /// Something was received. `slept`: this end had to be woken for it.
    #[inline(always)]
    pub fn received(&self, wait_state: &mut WaitState, slept: bool) {
        if slept || self.has_rung.load(Ordering::Relaxed) {
            self.received_after_ring(wait_state);
        } else if self.received_at_ns.load(Ordering::Relaxed) != 0 {
            self.received_at_ns.store(0, Ordering::Relaxed); // the clock was not read
        }
    }

    /// One of the two ends had been woken: the time to think begins, and the other may have moved.
    #[cold]
    fn received_after_ring(&self, wait_state: &mut WaitState) {
        self.has_rung.store(false, Ordering::Relaxed);
        self.received_at_ns.store(clock::now_ns(), Ordering::Relaxed);
        let theirs = self.peer_line().processor.load(Ordering::Relaxed); // a hint
        wait_state.may_spin = wait_state.may_ever_spin && theirs != cpu::current();
    }

    fn peer_line(&self) -> &EndLine {
        self.segment.end_line(self.side.other())
    }

    /// Waits until `look` finds something, the time is over, or the stream is. `waiting` is the word that says so.
    ///
    /// Returns whether this thread slept.
    #[cold]
    pub fn wait_until(
        &self,
        wait_state: &mut WaitState,
        waiting: &sync::AtomicU32,
        mut look: impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        let deadline = self.timeout(wait_state.direction).map_or(Deadline::Never, Deadline::after);
        if self.spin(wait_state, deadline, &mut look)? {
            return Ok(false);
        }
        let outcome = self.sleep_until(wait_state, Waiting(waiting), deadline, &mut look);
        Waiting(waiting).withdraw();
        outcome
    }

    fn sleep_until(
        &self,
        wait_state: &mut WaitState,
        waiting: Waiting<'_>,
        deadline: Deadline,
        look: &mut impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        let (mut has_slept, mut was_last_look) = (false, false);
        loop {
            waiting.announce();
            // Before the look: what was written before the end counts.
            let is_over = self.is_over();
            if look().map_err(|lie| self.condemn(lie))? || self.is_shut(wait_state.direction) {
                self.came(wait_state, has_slept);
                return Ok(has_slept);
            }
            if is_over && faults::is(Fault::GoodEnd) {
                return Ok(has_slept);
            }
            if is_over {
                return Err(self.fate(wait_state.direction));
            }
            if was_last_look {
                return Err(timed_out(wait_state.direction));
            }
            // Even without time left there is one look, so that who polls learns of the end.
            was_last_look = deadline.is_over();
            if wait_state.sleeps.is_multiple_of(SLEEPS_PER_AFFINITY) {
                self.refresh_affinity(wait_state);
            }
            wait_state.sleeps = wait_state.sleeps.wrapping_add(1);
            self.segment.end_line(self.side).processor.store(cpu::current(), Ordering::Relaxed); // a hint
            self.note_reader(wait_state, SESSION_ARMED);
            runtime_guard::is_about_to_sleep("reading from a stream, or writing to one");
            let heard = self.hear(wait_state, deadline);
            self.note_reader(wait_state, SESSION_LOOKED_AT);
            heard?;
            has_slept = true;
        }
    }

    /// What was waited for is there: how soon, decides whether this end is hot.
    fn came(&self, wait_state: &mut WaitState, has_slept: bool) {
        if wait_state.direction == Direction::Writing {
            return;
        }
        let one_processor = !wait_state.may_ever_spin;
        let was_hot = wait_state.poll_mode.is_polled();
        let is_polled = if has_slept {
            self.count_waiting(wait_state, |served| &served.woken);
            let theirs = self.peer_line().think_ns.load(Ordering::Relaxed); // a hint
            wait_state.poll_mode.rang(self.wait, theirs.max(self.think_ns.load(Ordering::Relaxed)), one_processor)
        } else {
            wait_state.poll_mode.found(self.wait, one_processor)
        };
        if is_polled && !was_hot {
            self.count_waiting(wait_state, |served| &served.heated);
            self.note_reader(wait_state, SESSION_POLLED);
        }
        let theirs = self.peer_line().processor.load(Ordering::Relaxed); // a hint
        // Two who spin on one processor only stand in each other's way. One of them moves.
        if is_polled && !was_hot && self.is_trusted && self.side == Side::Accepting {
            placement::leave_shared(theirs);
        }
    }

    /// Spins for as long as the policy says. `false`: time to sleep.
    fn spin(
        &self,
        wait_state: &mut WaitState,
        deadline: Deadline,
        look: &mut impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        let mut look = || look().map_err(|lie| self.condemn(lie));
        if self.wait == Wait::Spin {
            return self.spin_forever(wait_state, deadline, look);
        }
        let is_polled = wait_state.poll_mode.is_polled();
        let has_rung = self.has_rung.load(Ordering::Relaxed);
        if self.wait == Wait::Park || !is_polled && (has_rung || !wait_state.may_spin) {
            return Ok(false);
        }
        for _ in 0..SPINS_BEFORE_CLOCK {
            std::hint::spin_loop();
            if look()? {
                return Ok(true);
            }
        }
        let budget = match (is_polled, has_rung) {
            (true, true) => POLL_IDLE_MAX + WAKE_ALLOWANCE,
            (true, false) => POLL_IDLE_MAX,
            _ => wait_state.spin_budget.next(),
        };
        if waiter::spin_for(budget, look)? {
            wait_state.spin_budget.paid();
            return Ok(true);
        }
        if is_polled {
            wait_state.poll_mode.cool();
            self.count_waiting(wait_state, |served| &served.cooled);
        } else if !budget.is_zero() {
            wait_state.spin_budget.failed();
        }
        Ok(false)
    }

    /// [`Wait::Spin`]: sleeps never, but notices the other end's death, this end's shutdown, and the deadline.
    fn spin_forever(
        &self,
        wait_state: &mut WaitState,
        deadline: Deadline,
        look: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<bool> {
        waiter::spin_forever(deadline, look, || {
            let theirs = self.peer_line().processor.load(Ordering::Relaxed); // a hint
            if self.is_trusted {
                placement::leave_shared(theirs);
            }
            self.hear(wait_state, Deadline::Now)?;
            // There, too, what was written before the end counts.
            Ok((self.is_over() || self.is_shut(wait_state.direction)).then_some(false))
        })
    }

    fn refresh_affinity(&self, wait_state: &mut WaitState) {
        let mine = &self.segment.end_line(self.side).only_processor;
        wait_state.may_ever_spin = !placement::exchange_affinity(mine, &self.peer_line().only_processor);
        wait_state.may_spin = wait_state.may_ever_spin;
    }

    /// Waits for a ring, news from the socket, the other end's death, or the deadline.
    fn hear(&self, wait_state: &mut WaitState, deadline: Deadline) -> Result<()> {
        if wait_state.direction == Direction::Writing {
            self.watch_writing()?;
        }
        self.poller(wait_state.direction).wait(&mut wait_state.events, deadline.as_instant())?;
        self.take_in(&wait_state.events);
        Ok(())
    }

    fn take_in(&self, events: &Events) {
        for ready in events.iter() {
            match ready.key {
                KEY_BELL => {}
                _ if faults::is(Fault::MissingWakeOnDeath) => {}
                KEY_SOCKET => self.read_socket_events(),
                _ => self.end(CloseReason::Died),
            }
        }
    }

    /// What can wake a writer is added to its poller when it sleeps for the first time: most never do.
    fn watch_writing(&self) -> Result<()> {
        let mut is_watched = sync::lock(&self.is_writing_watched);
        if !*is_watched {
            // The level of what rang before is an edge here, so nothing is missed. After an error in the middle the
            // next one who sleeps begins again from the first one.
            let fresh = connect::watch(&self.writing, self.own_bell.as_ref(), &self.socket, self.pidfd.as_ref());
            fresh.and_then(|()| match &self.private_bell {
                Some(bell) => self.writing.add(bell, KEY_PRIVATE, Interest::Bell),
                None => Ok(()),
            })?;
            *is_watched = true;
        }
        Ok(())
    }

    fn read_socket_events(&self) {
        let events = SocketEvents::read(&self.socket, &self.reading);
        if events.rang {
            // It may be meant for the other of this end's threads.
            self.nudge();
        }
        if let Some(how) = events.ended {
            self.end(how);
        }
    }

    fn end(&self, how: CloseReason) {
        let mut ended = self.ended();
        if how.tops(ended.as_ref()) {
            *ended = Some(how);
        }
        drop(ended);
        // Release, partner: `is_over`.
        if !self.is_over.swap(true, Ordering::AcqRel) {
            self.nudge(); // the other of this end's threads
        }
    }

    /// Whether the stream is known to be over.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn ended(&self) -> MutexGuard<'_, Option<CloseReason>> {
        // Nothing panics while it is held.
        sync::lock(&self.ended)
    }

    /// Before a non-blocking operation says that it would block: from then on the descriptor becomes readable when it
    /// would not any more. `false`: something came meanwhile; try again.
    ///
    /// With one descriptor for both directions, a look in one may take the ring that was meant for the other: if that
    /// other waits and has been rung for, the bell is rung once more.
    pub fn arm(
        &self,
        wait_state: &mut WaitState,
        waiting: &sync::AtomicU32,
        look: impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        self.check_fork()?;
        let direction = wait_state.direction;
        let is_shared = !self.is_split.load(Ordering::Relaxed);
        let poller = if is_shared { &self.reading } else { self.poller(direction) };
        poller.poll(&mut wait_state.events)?;
        self.take_in(&wait_state.events);
        let (mine, others, other_waiting) = match direction {
            Direction::Reading => (&self.is_read_armed, &self.is_write_armed, self.outgoing().waits_for_room),
            Direction::Writing => (&self.is_write_armed, &self.is_read_armed, self.incoming().waits_for_data),
        };
        if is_shared
            && others.load(Ordering::Relaxed)
            && other_waiting.load(Ordering::Relaxed) == 0
            && others.swap(false, Ordering::Relaxed)
        {
            self.nudge();
        }
        mine.store(true, Ordering::Relaxed);
        let is_armed = self.announce(direction, waiting, look);
        if !matches!(is_armed, Ok(true)) {
            mine.store(false, Ordering::Relaxed);
        }
        is_armed
    }

    /// Says that a direction waits. `false`: something came meanwhile; try again.
    pub fn announce(
        &self,
        direction: Direction,
        waiting: &sync::AtomicU32,
        mut look: impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        self.check_fork()?;
        Waiting(waiting).announce();
        let is_over = self.is_over();
        let is_there = look().map_err(|lie| self.condemn(lie))? || self.is_shut(direction);
        if is_there || is_over {
            Waiting(waiting).withdraw();
        }
        if is_over && !is_there {
            return Err(self.fate(direction));
        }
        Ok(!is_there)
    }
}

/// What a link is made of.
struct Parts {
    segment: Segment,
    side: Side,
    socket: PeerSocket,
    pidfd: Option<OwnedFd>,
    peer: Credentials,
    is_trusted: bool,
    memory: Option<Arc<OwnedFd>>,
    charged: Option<(SessionEntry, QuotaGrant)>,
}

fn private_bell(reading: &Poller) -> Result<Bell> {
    let bell = Bell::new()?;
    reading.add(&bell, KEY_PRIVATE, Interest::Bell)?;
    Ok(bell)
}

#[cold]
fn timed_out(direction: Direction) -> io::Error {
    let what = match direction {
        Direction::Reading => "nothing came within the read timeout",
        Direction::Writing => "no room came free within the write timeout",
    };
    io::Error::new(io::ErrorKind::TimedOut, Error::new(ErrorKind::TimedOut { maybe_executed: false }, what))
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !self.fork.is_forked() {
            self.drop_writing();
            self.shut(Direction::Reading);
            // A forked child may hold the socket open: the other end is told all the same.
            socket::hang_up(&self.socket);
        }
    }
}
