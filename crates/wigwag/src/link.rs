//! One end of a stream: its memory, its signs of life, and how it waits. Both ends are alike.
//!
//! Nobody watches a stream for its owner: each end sleeps in an epoll with its bell, the socket and the other process's
//! pidfd. There are two of them, for the reader and for the writer, because two threads that sleep in one epoll would take
//! each other's rings.
//!
//! How long to spin follows the rules of [`crate::wait`]. The two ends of a stream are neither client nor server, so each
//! applies both sides' rules to its own reading: it does not spin for an answer once it had to ring, unless it is *hot*, and
//! it becomes hot when four cycles in a row were quick: both the other end's time to think and its own.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::blocking;
use crate::control::arrivals::Arrival;
use crate::control::attach::{self, Attachment, KEY_BELL, KEY_SOCKET};
use crate::control::ledger::Entry;
use crate::control::news::{Ended, News};
use crate::control::policy::Trust;
use crate::control::protocol::{FromServer, Reason};
use crate::doorbell::Waiting;
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{self, Fault};
use crate::ring::{self, Lie, Words};
use crate::segment::{EndLine, Segment, Side};
use crate::statistics::{Counters, SESSION_ARMED, SESSION_LOOKED_AT, SESSION_POLLED, Served, SessionEntry, Word};
use crate::sync;
use crate::sys::bell::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::poller::{Events, Interest, Poller};
use crate::sys::socket::{self, Credentials};
use crate::sys::{clock, cpu};
use crate::wait::{HOT_PATIENCE, Heat, ReplyPatience, THINK_UNKNOWN, WAKE_PATIENCE, Wait};

#[cfg(all(feature = "tokio", not(loom)))]
mod reactor;

/// What the reader and the writer of one end share. The last owner's drop closes both directions and hangs up.
pub struct Link {
    segment: Segment,
    side: Side,
    socket: OwnedFd,
    /// Kept open for the pollers.
    pidfd: Option<OwnedFd>,
    /// Rung by the other end; `None` if it sends messages instead.
    own_bell: Option<Bell>,
    /// Rung by this end; `None` if it has to send messages, because the other is of another user.
    peer_bell: Option<Bell>,
    /// For rings among this end's own threads, where `own_bell` is not to be had or shared with somebody of another user.
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
    /// Whether non-blocking reads, writes, wait for the descriptor.
    is_read_armed: AtomicBool,
    is_write_armed: AtomicBool,
    ended: Mutex<Option<Ended>>,
    is_over: AtomicBool,
    /// Whether the other end slept when something was passed to it since it was heard last: then waiting means sleeping.
    has_rung: AtomicBool,
    /// When something was received last, if the clock had to be read anyway; else 0.
    received_at_ns: AtomicU64,
    /// The time from there to the last ring.
    think_ns: AtomicU32,
    /// What is counted of it at a listener, and what it costs there.
    charged: Option<(SessionEntry, Entry)>,
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
pub struct Patience {
    direction: Direction,
    events: Events,
    reply: ReplyPatience,
    heat: Heat,
    sleeps: u32,
    may_ever_spin: bool,
    may_spin: bool,
}

/// Spins before the clock is read for the first time.
const SPINS_BEFORE_CLOCK: u32 = 128;
/// Spins between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 64;
/// Spins between two looks whether the other end lives, for [`Wait::Spin`].
const SPINS_PER_LIFE_SIGN: u32 = 1 << 13;
/// Sleeps between two looks at this thread's own affinity.
const SLEEPS_PER_AFFINITY: u32 = 64;

/// The private bell in the pollers. It needs no other answer than the shared one.
const KEY_PRIVATE: u64 = KEY_BELL;

impl Patience {
    /// Of one direction.
    pub fn new(direction: Direction) -> Patience {
        Patience {
            direction,
            events: Events::with_capacity(4),
            reply: ReplyPatience::default(),
            heat: Heat::default(),
            sleeps: 0,
            may_ever_spin: true,
            may_spin: true,
        }
    }
}

impl Link {
    /// The end that connected.
    pub fn connected(attachment: Attachment, wait: Wait) -> Result<Link> {
        let Attachment { segment, socket, server_bell, poller, client_bell, pidfd, peer } = attachment;
        let is_trusted = peer.uid == rustix::process::geteuid().as_raw();
        let end = Parts { segment, side: Side::Connecting, socket, pidfd, peer, is_trusted, charged: None };
        let private_bell = if client_bell.is_none() { Some(private_bell(&poller)?) } else { None };
        Link::new(end, (client_bell, Some(server_bell), private_bell), poller, wait)
    }

    /// The end that accepted.
    pub fn accepted(arrival: Arrival, wait: Wait) -> Result<Link> {
        let Arrival { segment, socket, pidfd, server_bell, client_bell, peer, trust, record, charged } = arrival;
        let poller = Poller::new()?;
        attach::watch(&poller, Some(&server_bell), &socket, pidfd.as_ref())?;
        let is_trusted = trust == Trust::SameUser;
        let private_bell = if is_trusted { None } else { Some(private_bell(&poller)?) };
        let end =
            Parts { segment, side: Side::Accepting, socket, pidfd, peer, is_trusted, charged: Some((record, charged)) };
        Link::new(end, (Some(server_bell), client_bell, private_bell), poller, wait)
    }

    fn new(end: Parts, bells: (Option<Bell>, Option<Bell>, Option<Bell>), reading: Poller, wait: Wait) -> Result<Link> {
        let (own_bell, peer_bell, private_bell) = bells;
        let Parts { segment, side, socket, pidfd, peer, is_trusted, charged } = end;
        Ok(Link {
            segment,
            side,
            socket,
            pidfd,
            own_bell,
            peer_bell,
            private_bell,
            reading,
            writing: Poller::new()?,
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
            is_read_armed: AtomicBool::new(false),
            is_write_armed: AtomicBool::new(false),
            ended: Mutex::new(None),
            is_over: AtomicBool::new(false),
            has_rung: AtomicBool::new(false),
            received_at_ns: AtomicU64::new(0),
            think_ns: AtomicU32::new(THINK_UNKNOWN),
            charged,
        })
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
    fn count_waiting(&self, patience: &Patience, which: impl Fn(&Served) -> &Word) {
        if let Some(Counters { served, .. }) = self.counters()
            && patience.direction == Direction::Reading
        {
            which(served).add(1);
        }
    }

    /// Says how the reader waits.
    fn note_reader(&self, patience: &Patience, state: u64) {
        if let Some(Counters { pace, .. }) = self.counters()
            && patience.direction == Direction::Reading
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

    /// Ends a direction in good order, and tells the other end as well as threads of this one that wait.
    pub fn shut(&self, direction: Direction) {
        if self.is_forked() {
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
            // Whoever shares a bell can make its write block; a message never waits. One that is not read: the peer's loss.
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
    pub fn received(&self, patience: &mut Patience, slept: bool) {
        if slept || self.has_rung.load(Ordering::Relaxed) {
            self.received_after_ring(patience);
        } else if self.received_at_ns.load(Ordering::Relaxed) != 0 {
            self.received_at_ns.store(0, Ordering::Relaxed); // the clock was not read
        }
    }

    /// One of the two ends had been woken: the time to think begins, and the other may have moved.
    #[cold]
    fn received_after_ring(&self, patience: &mut Patience) {
        self.has_rung.store(false, Ordering::Relaxed);
        self.received_at_ns.store(clock::now_ns(), Ordering::Relaxed);
        let theirs = self.peer_line().processor.load(Ordering::Relaxed); // a hint
        patience.may_spin = patience.may_ever_spin && theirs != cpu::current();
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
        patience: &mut Patience,
        waiting: &sync::AtomicU32,
        mut look: impl FnMut() -> std::result::Result<bool, Lie>,
    ) -> io::Result<bool> {
        let deadline = self.timeout(patience.direction).and_then(clock::deadline_after);
        if self.spin(patience, deadline, &mut look)? {
            return Ok(false);
        }
        let outcome = self.sleep_until(patience, Waiting(waiting), deadline, &mut look);
        Waiting(waiting).withdraw();
        outcome
    }

    fn sleep_until(
        &self,
        patience: &mut Patience,
        waiting: Waiting<'_>,
        deadline: Option<Instant>,
        look: &mut impl FnMut() -> std::result::Result<bool, Lie>,
    ) -> io::Result<bool> {
        let (mut has_slept, mut was_last_look) = (false, false);
        loop {
            waiting.announce();
            // Before the look: what was written before the end counts.
            let is_over = self.is_over();
            if look().map_err(|lie| self.condemn(lie))? || self.is_shut(patience.direction) {
                self.came(patience, has_slept);
                return Ok(has_slept);
            }
            if is_over && planted::is(Fault::GoodEnd) {
                return Ok(has_slept);
            }
            if is_over {
                return Err(self.fate(patience.direction));
            }
            if was_last_look {
                return Err(timed_out(patience.direction));
            }
            // Even without time left there is one look, so that who polls learns of the end.
            was_last_look = deadline.is_some_and(|at| at <= Instant::now());
            if patience.sleeps.is_multiple_of(SLEEPS_PER_AFFINITY) {
                self.refresh_affinity(patience);
            }
            patience.sleeps = patience.sleeps.wrapping_add(1);
            self.segment.end_line(self.side).processor.store(cpu::current(), Ordering::Relaxed); // a hint
            self.note_reader(patience, SESSION_ARMED);
            blocking::is_about_to_sleep("reading from a stream, or writing to one");
            let heard = self.hear(patience, deadline);
            self.note_reader(patience, SESSION_LOOKED_AT);
            heard?;
            has_slept = true;
        }
    }

    /// What was waited for is there: how soon, decides whether this end is hot.
    fn came(&self, patience: &mut Patience, has_slept: bool) {
        if patience.direction == Direction::Writing {
            return;
        }
        let one_processor = !patience.may_ever_spin;
        let was_hot = patience.heat.is_hot();
        let is_hot = if has_slept {
            self.count_waiting(patience, |served| &served.woken);
            let theirs = self.peer_line().think_ns.load(Ordering::Relaxed); // a hint
            patience.heat.rang(self.wait, theirs.max(self.think_ns.load(Ordering::Relaxed)), one_processor)
        } else {
            patience.heat.found(self.wait, one_processor)
        };
        if is_hot && !was_hot {
            self.count_waiting(patience, |served| &served.heated);
            self.note_reader(patience, SESSION_POLLED);
        }
        let theirs = self.peer_line().processor.load(Ordering::Relaxed); // a hint
        // Two who spin on one processor only stand in each other's way. One of them moves.
        if is_hot && !was_hot && self.is_trusted && self.side == Side::Accepting && theirs == cpu::current() {
            cpu::move_off(theirs);
        }
    }

    /// Spins for as long as the policy says. `false`: time to sleep.
    fn spin(
        &self,
        patience: &mut Patience,
        deadline: Option<Instant>,
        look: &mut impl FnMut() -> std::result::Result<bool, Lie>,
    ) -> io::Result<bool> {
        let mut look = || look().map_err(|lie| self.condemn(lie));
        if self.wait == Wait::Spin {
            return self.spin_forever(patience, deadline, look);
        }
        let is_hot = patience.heat.is_hot();
        let has_rung = self.has_rung.load(Ordering::Relaxed);
        if self.wait == Wait::Park || !is_hot && (has_rung || !patience.may_spin) {
            return Ok(false);
        }
        for _ in 0..SPINS_BEFORE_CLOCK {
            std::hint::spin_loop();
            if look()? {
                return Ok(true);
            }
        }
        let budget = match (is_hot, has_rung) {
            (true, true) => HOT_PATIENCE + WAKE_PATIENCE,
            (true, false) => HOT_PATIENCE,
            _ => patience.reply.next(),
        };
        let begin = Instant::now();
        while !budget.is_zero() && begin.elapsed() < budget {
            for _ in 0..SPINS_PER_CLOCK {
                std::hint::spin_loop();
                if look()? {
                    patience.reply.paid();
                    return Ok(true);
                }
            }
        }
        if is_hot {
            patience.heat.cool();
            self.count_waiting(patience, |served| &served.cooled);
        } else if !budget.is_zero() {
            patience.reply.failed();
        }
        Ok(false)
    }

    /// [`Wait::Spin`]: sleeps never, but notices the other end's death, this end's shutdown, and the deadline.
    fn spin_forever(
        &self,
        patience: &mut Patience,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<bool> {
        loop {
            for spin in 0..SPINS_PER_LIFE_SIGN {
                std::hint::spin_loop();
                if look()? {
                    return Ok(true);
                }
                if spin % SPINS_PER_CLOCK == 0 && deadline.is_some_and(|at| at <= Instant::now()) {
                    return Ok(false); // it is looked at a last time as by all others
                }
            }
            let theirs = self.peer_line().processor.load(Ordering::Relaxed); // a hint
            if theirs == cpu::current() && self.is_trusted {
                cpu::move_off(theirs);
            }
            self.hear(patience, Some(Instant::now()))?;
            if self.is_over() || self.is_shut(patience.direction) {
                return Ok(false); // there, too, what was written before the end counts
            }
        }
    }

    fn refresh_affinity(&self, patience: &mut Patience) {
        let mine = cpu::only_processor();
        // Hints, on both sides.
        self.segment.end_line(self.side).only_processor.store(mine, Ordering::Relaxed);
        let theirs = self.peer_line().only_processor.load(Ordering::Relaxed);
        patience.may_ever_spin = !cpu::share_one_processor(mine, theirs);
        patience.may_spin = patience.may_ever_spin;
    }

    /// Waits for a ring, news from the socket, the other end's death, or the deadline.
    fn hear(&self, patience: &mut Patience, deadline: Option<Instant>) -> Result<()> {
        if patience.direction == Direction::Writing {
            self.watch_writing()?;
        }
        self.poller(patience.direction).wait(&mut patience.events, deadline)?;
        self.take_in(&patience.events);
        Ok(())
    }

    fn take_in(&self, events: &Events) {
        for ready in events.iter() {
            match ready.key {
                KEY_BELL => {}
                _ if planted::is(Fault::MissingWakeOnDeath) => {}
                KEY_SOCKET => self.read_news(),
                _ => self.end(Ended::Died),
            }
        }
    }

    /// What can wake a writer is added to its poller when it sleeps for the first time: most never do.
    fn watch_writing(&self) -> Result<()> {
        let mut is_watched = self.is_writing_watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_watched {
            // The level of what rang before is an edge here, so nothing is missed. An error leaves it as it was.
            let fresh = attach::watch(&self.writing, self.own_bell.as_ref(), &self.socket, self.pidfd.as_ref());
            fresh.and_then(|()| match &self.private_bell {
                Some(bell) => self.writing.add(bell, KEY_PRIVATE, Interest::Bell),
                None => Ok(()),
            })?;
            *is_watched = true;
        }
        Ok(())
    }

    fn read_news(&self) {
        let news = News::read(&self.socket);
        if news.rang {
            // It may be meant for the other of this end's threads.
            self.nudge();
        }
        if let Some(how) = news.ended {
            self.end(how);
        }
    }

    fn end(&self, how: Ended) {
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

    fn ended(&self) -> MutexGuard<'_, Option<Ended>> {
        // Nothing panics while it is held.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other end's counter is impossible: the stream is over, and it is told why.
    #[cold]
    pub fn condemn(&self, lie: Lie) -> io::Error {
        let Lie { count, least, most_more } = lie;
        let why = format!("a ring's counter is {count} where {least} and at most {most_more} more were possible");
        let _ = socket::send(&self.socket, &FromServer::Farewell(Reason::Violation, why.clone()).encode(), &[]);
        socket::hang_up(&self.socket);
        self.end(Ended::Farewell(Reason::Violation, why));
        self.fate(Direction::Reading)
    }

    /// Looks whether the other end lives, without a poller: for writers that never sleep.
    #[cold]
    pub fn look_for_end(&self) {
        if socket::has_ended(&self.socket, self.pidfd.as_ref()) {
            self.end(Ended::Died);
        }
    }

    /// Why the stream is over, as reading or writing reports it.
    #[cold]
    pub fn fate(&self, direction: Direction) -> io::Error {
        // The pidfd may speak before the socket is read: what was said last is there all the same.
        if *self.ended() == Some(Ended::Died) {
            self.read_news();
        }
        let gone = match direction {
            Direction::Reading => io::ErrorKind::ConnectionReset,
            Direction::Writing => io::ErrorKind::BrokenPipe,
        };
        let (kind, error) = match &*self.ended() {
            Some(Ended::Farewell(Reason::Violation, why)) => (
                io::ErrorKind::InvalidData,
                Error::new(ErrorKind::Violation, format!("the stream is over because the protocol was broken: {why}")),
            ),
            Some(Ended::Farewell(_, why)) => {
                (gone, Error::new(ErrorKind::ServerClosed { maybe_executed: true }, why.clone()))
            }
            _ => (
                gone,
                Error::new(
                    ErrorKind::PeerDied { maybe_executed: true },
                    "the other end's process is gone and had not closed the stream; what it wrote before has been read, what it \
                     was sent may not have been",
                ),
            ),
        };
        io::Error::new(kind, error)
    }

    /// Before a non-blocking operation says that it would block: from then on the descriptor becomes readable when it would
    /// not any more. `false`: something came meanwhile; try again.
    ///
    /// With one descriptor for both directions, a look in one may take the ring that was meant for the other: if that other
    /// waits and has been rung for, the bell is rung once more.
    pub fn arm(
        &self,
        patience: &mut Patience,
        waiting: &sync::AtomicU32,
        look: impl FnMut() -> std::result::Result<bool, Lie>,
    ) -> io::Result<bool> {
        let direction = patience.direction;
        let is_shared = !self.is_split.load(Ordering::Relaxed);
        let poller = if is_shared { &self.reading } else { self.poller(direction) };
        poller.poll(&mut patience.events)?;
        self.take_in(&patience.events);
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
        mut look: impl FnMut() -> std::result::Result<bool, Lie>,
    ) -> io::Result<bool> {
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
    socket: OwnedFd,
    pidfd: Option<OwnedFd>,
    peer: Credentials,
    is_trusted: bool,
    charged: Option<(SessionEntry, Entry)>,
}

fn private_bell(reading: &Poller) -> Result<Bell> {
    let bell = Bell::new().map_err(|error| Error::io("create a doorbell", error))?;
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

impl Drop for Link {
    fn drop(&mut self) {
        if !self.fork.is_forked() {
            self.shut(Direction::Writing);
            self.shut(Direction::Reading);
            // A forked child may hold the socket open: the other end is told all the same.
            socket::hang_up(&self.socket);
        }
    }
}
