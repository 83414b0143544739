//! One end of a stream: its memory, its signs of life, and what it tells the other end. Both ends are alike.
//!
//! It never waits. A thread waits by [`blocking`](crate::stream::blocking), a task by its reactor.
//!
//! Nobody watches a stream for its owner: each end sleeps in an epoll with its bell, the socket and the other process's
//! pidfd. There are two of them, for the reader and for the writer, because two threads that sleep in one epoll would
//! take each other's rings.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::faults::{self, Fault};
use crate::memory::doorbell::Waiting;
use crate::memory::ring::{self, ImpossibleCount, Words};
use crate::memory::segment::{EndLine, Segment, Side};
use crate::service::accept_queue::PendingStream;
use crate::service::quota::QuotaGrant;
use crate::session::agreement::Agreement;
use crate::session::background::PeerSocket;
use crate::session::close_reason::KEY_SOCKET;
use crate::session::close_reason::{CloseReason, Sender, SocketEvents};
use crate::session::connect::{self, Established, KEY_BELL};
use crate::session::peer::Trust;
use crate::session::protocol::{FromServer, Reason};
use crate::statistics::{Counters, SessionEntry};
use crate::stream::half::{Direction, Half};
use crate::sync;
use crate::sys::epoll::{Events, Interest, Poller};
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::socket::{self, Credentials};
use crate::sys::{clock, cpu};
use crate::wait::policy::{THINK_UNKNOWN, Wait};

mod ending;
#[cfg(all(feature = "tokio", not(loom)))]
mod reactor;

/// What the reader and the writer of one end share. The last owner's drop closes both directions and hangs up.
pub struct Endpoint {
    segment: Segment,
    side: Side,
    socket: Arc<PeerSocket>,
    /// Kept open for the pollers.
    pidfd: Option<OwnedFd>,
    /// Rung by the other end; `None` if it sends messages instead.
    own_bell: Option<Bell>,
    /// Rung by this end; `None` if it has to send messages, because the other is of another user.
    peer_bell: Option<Bell>,
    /// For rings among this end's own threads, where `own_bell` is not to be had or shared with somebody of another
    /// user.
    private_bell: Option<Bell>,
    reading: Half,
    /// Its poller is empty until somebody sleeps there.
    writing: Half,
    is_writing_watched: Mutex<bool>,
    /// Whether the peer is of the same user.
    is_trusted: bool,
    peer: Credentials,
    agreement: Agreement,
    wait: Wait,
    fork: ForkGuard,
    is_split: AtomicBool,
    is_nonblocking: AtomicBool,
    /// Whether this end gave the stream up: then nothing of it ends in good order any more.
    is_aborted: AtomicBool,
    /// Whether a drop without a shutdown means an abort.
    aborts_on_drop: AtomicBool,
    /// Whether the stream began on a thread that was unwinding already, so that a drop while it unwinds says nothing.
    began_in_panic: bool,
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

/// The private bell in the pollers. It needs no other answer than the shared one.
const KEY_PRIVATE: u64 = KEY_BELL;

impl Endpoint {
    /// The end that connected.
    pub fn connected(established: Established, wait: Wait) -> Result<Endpoint> {
        let Established { segment, socket, server_bell, poller, client_bell, pidfd, peer, agreement, memory, .. } =
            established;
        let is_trusted = peer.uid == rustix::process::geteuid().as_raw();
        let memory = memory.map(Arc::new);
        let side = Side::Connecting;
        let end = Parts { segment, side, socket, pidfd, peer, is_trusted, agreement, memory, charged: None };
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
        let (peer, agreement, memory) = (pending.peer, pending.agreement, pending.memory);
        let (record, charged) = (pending.record, pending.charged);
        let charged = Some((record, charged));
        let (side, socket) = (Side::Accepting, Arc::new(socket));
        let end = Parts { segment, side, socket, pidfd, peer, is_trusted, agreement, memory, charged };
        Ok(Endpoint::new(end, (Some(server_bell), client_bell, private_bell), (poller, writing), wait))
    }

    fn new(
        end: Parts,
        bells: (Option<Bell>, Option<Bell>, Option<Bell>),
        (reading, writing): (Poller, Poller),
        wait: Wait,
    ) -> Endpoint {
        let (own_bell, peer_bell, private_bell) = bells;
        let Parts { segment, side, socket, pidfd, peer, is_trusted, agreement, memory, charged } = end;
        Endpoint {
            segment,
            side,
            socket,
            pidfd,
            own_bell,
            peer_bell,
            private_bell,
            reading: Half::new(reading),
            writing: Half::new(writing),
            is_writing_watched: Mutex::new(false),
            is_trusted,
            peer,
            agreement,
            wait,
            fork: ForkGuard::new(),
            is_split: AtomicBool::new(false),
            is_nonblocking: AtomicBool::new(false),
            is_aborted: AtomicBool::new(false),
            aborts_on_drop: AtomicBool::new(false),
            began_in_panic: std::thread::panicking(),
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
    pub fn counters(&self) -> Option<&Counters> {
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

    /// One of the directions.
    #[inline(always)]
    pub fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Reading => &self.reading,
            Direction::Writing => &self.writing,
        }
    }

    /// Whether this end has shut the direction.
    #[inline(always)]
    pub fn is_shut(&self, direction: Direction) -> bool {
        self.half(direction).is_shut()
    }

    /// Ends a direction in good order, and tells the other end as well as threads of this one that wait. After an abort
    /// it does nothing: there is no good order any more.
    pub fn shut(&self, direction: Direction) {
        if self.is_forked() || self.is_aborted() {
            return;
        }
        let must_ring = match direction {
            Direction::Reading => ring::close_reading(&self.incoming()),
            Direction::Writing => ring::close_writing(&self.outgoing()),
        };
        if must_ring {
            self.ring();
        }
        if !self.half(direction).shut() {
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

    /// The other end sleeps, and there is something for it.
    #[cold]
    pub fn ring(&self) {
        let think_ns = match self.received_at_ns.load(Ordering::Relaxed) {
            0 => THINK_UNKNOWN,
            at => u32::try_from(clock::now_ns().saturating_sub(at)).unwrap_or(THINK_UNKNOWN),
        };
        self.think_ns.store(think_ns, Ordering::Relaxed);
        // Hints for the other end, which reads them after the ring.
        let line = self.own_line();
        line.think_ns.store(think_ns, Ordering::Relaxed);
        line.processor.store(cpu::current(), Ordering::Relaxed);
        if self.agreement.has_ring_times() {
            line.rang_ns.store(clock::now_ns(), Ordering::Relaxed);
        }
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

    /// Whether the other end slept when something was passed to it since it was heard last.
    #[inline(always)]
    pub fn has_rung(&self) -> bool {
        self.has_rung.load(Ordering::Relaxed)
    }

    /// Something was received, and neither end had to be woken.
    #[inline(always)]
    pub fn received_awake(&self) {
        if self.received_at_ns.load(Ordering::Relaxed) != 0 {
            self.received_at_ns.store(0, Ordering::Relaxed); // the clock was not read
        }
    }

    /// Something was received, and one of the two ends had been woken: the time to think begins.
    pub fn received_after_ring(&self) {
        self.has_rung.store(false, Ordering::Relaxed);
        self.received_at_ns.store(clock::now_ns(), Ordering::Relaxed);
    }

    /// This end's time to think before its last ring.
    pub fn think_ns(&self) -> u32 {
        self.think_ns.load(Ordering::Relaxed)
    }

    /// Whether the other end was on this processor when it rang or went to sleep last.
    pub fn shares_processor(&self) -> bool {
        self.peer_line().processor.load(Ordering::Relaxed) == cpu::current() // a hint
    }

    /// How its owner wants it to wait.
    pub fn wait(&self) -> Wait {
        self.wait
    }

    /// What this end tells the other of itself.
    pub fn own_line(&self) -> &EndLine {
        self.segment.end_line(self.side)
    }

    /// What the other end tells of itself.
    pub fn peer_line(&self) -> &EndLine {
        self.segment.end_line(self.side.other())
    }

    /// When the other end says that it rang last; only one of the same user has a say in how long this one spins.
    pub fn peer_rang_ns(&self) -> Option<u64> {
        let is_believed = self.is_trusted && self.agreement.has_ring_times();
        // Relaxed: any number will do.
        is_believed.then(|| self.peer_line().rang_ns.load(Ordering::Relaxed))
    }

    /// Takes in what a poller told.
    pub fn take_in(&self, events: &Events) {
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
    pub fn watch_writing(&self) -> Result<()> {
        let mut is_watched = sync::lock(&self.is_writing_watched);
        if !*is_watched {
            // The level of what rang before is an edge here, so nothing is missed. After an error in the middle the
            // next one who sleeps begins again from the first one.
            let fresh =
                connect::watch(self.writing.poller(), self.own_bell.as_ref(), &self.socket, self.pidfd.as_ref());
            fresh.and_then(|()| match &self.private_bell {
                Some(bell) => self.writing.poller().add(bell, KEY_PRIVATE, Interest::Bell),
                None => Ok(()),
            })?;
            *is_watched = true;
        }
        Ok(())
    }

    fn read_socket_events(&self) {
        let sender = Sender { protocol: self.agreement.protocol, is_server: self.side == Side::Connecting };
        let events = SocketEvents::read(&self.socket, self.reading.poller(), sender, None);
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
        direction: Direction,
        events: &mut Events,
        waiting: &sync::AtomicU32,
        look: impl FnMut() -> std::result::Result<bool, ImpossibleCount>,
    ) -> io::Result<bool> {
        self.check_fork()?;
        let is_shared = !self.is_split.load(Ordering::Relaxed);
        let poller = if is_shared { self.reading.poller() } else { self.half(direction).poller() };
        poller.poll(events)?;
        self.take_in(events);
        let (mine, other, other_waiting) = match direction {
            Direction::Reading => (&self.reading, &self.writing, self.outgoing().waits_for_room),
            Direction::Writing => (&self.writing, &self.reading, self.incoming().waits_for_data),
        };
        if is_shared && other.disarm_if(|| other_waiting.load(Ordering::Relaxed) == 0) {
            self.nudge();
        }
        mine.set_armed(true);
        let is_armed = self.announce(direction, waiting, look);
        if !matches!(is_armed, Ok(true)) {
            mine.set_armed(false);
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
        self.own_line().processor.store(cpu::current(), Ordering::Relaxed); // a hint
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
    socket: Arc<PeerSocket>,
    pidfd: Option<OwnedFd>,
    peer: Credentials,
    is_trusted: bool,
    agreement: Agreement,
    memory: Option<Arc<OwnedFd>>,
    charged: Option<(SessionEntry, QuotaGrant)>,
}

fn private_bell(reading: &Poller) -> Result<Bell> {
    let bell = Bell::new()?;
    reading.add(&bell, KEY_PRIVATE, Interest::Bell)?;
    Ok(bell)
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
