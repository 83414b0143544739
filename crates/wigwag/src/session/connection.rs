//! The caller's end of a session: passes slots, waits for them to come back, and hears of the other side's end.
//!
//! What a client and a sender have in common. It knows nothing of which slot is used when, nor of what lies in it.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, PeerDeath, Result};
use crate::faults::{self, Fault};
use crate::memory::doorbell::Waiting;
use crate::memory::head::{Head, Kind};
use crate::memory::layout::Geometry;
use crate::memory::segment::{Line, Segment};
use crate::memory::slot::{self, Turn};
use crate::session::agreement::Protocol;
use crate::session::arrivals::{Loss, PeerDescriptors};
pub use crate::session::close_reason::CloseReason;
use crate::session::close_reason::KEY_SOCKET;
use crate::session::close_reason::{Sender, SocketEvents};
use crate::session::connect::{Established, KEY_BELL};
use crate::session::descriptors::{self, CallerDescriptors, Found};
use crate::session::protocol::Reason;
use crate::sync::Ordering;
use crate::sys::epoll::Events;
#[cfg(all(feature = "tokio", not(loom)))]
use crate::sys::epoll::Interest;
use crate::sys::fork::ForkGuard;
use crate::sys::timer_slack::TimerSlack;
use crate::sys::{clock, cpu, process, socket};
use crate::trace;
use crate::wait::deadline::Deadline;
use crate::wait::placement::{self, MoveLimit, SLEEPS_PER_AFFINITY};
use crate::wait::policy::{SpinBudget, THINK_UNKNOWN, Wait};
use crate::wait::reply_time::ReplyTime;
use crate::wait::runtime_guard;
use crate::wait::waiter::{self, SPINS_BEFORE_CLOCK};
use crate::wait::wake_latency::WakeLatency;

/// One session, as the side that called has it. Dropping it ends the session.
pub struct Connection {
    pub(super) established: Established,
    wait: Wait,
    fork: ForkGuard,
    /// Whether the server slept when something was passed to it since the last reply: then waiting means sleeping.
    server_slept: Cell<bool>,
    /// Whether nobody waits for replies, so that time to think counts from ring to ring.
    one_way: Cell<bool>,
    /// When the last reply came, if the clock had to be read anyway.
    last_reply_ns: Cell<Option<u64>>,
    spin_budget: RefCell<SpinBudget>,
    wake_latency: RefCell<WakeLatency>,
    /// What the server said after the last sleep of when it rang: read once, and any number.
    rang_ns: Cell<u64>,
    /// Of a server that was awake, and of one that had to be woken.
    reply_times: [RefCell<ReplyTime>; 2],
    /// Whether spinning can pay at all: not for [`Wait::Park`], and not on the one processor that both sides are pinned
    /// to.
    may_ever_spin: Cell<bool>,
    /// Whether it can pay now: not while the server was last seen on this very processor.
    may_spin: Cell<bool>,
    /// How often this thread moves off the server's processor.
    move_limit: RefCell<MoveLimit>,
    events: RefCell<Events>,
    ended: RefCell<Option<CloseReason>>,
    began: Instant,
    /// What was known when the end was noticed.
    peer_death: Cell<Option<PeerDeath>>,
    /// Whether `ended` says something.
    is_over: Cell<bool>,
    /// Whether the server itself has said that it takes nothing any more.
    is_dismissed: Cell<bool>,
    /// Whether something is to be done before the next pass: the session is over, or a slot has descriptors to send.
    must_look: Cell<bool>,
    /// Of an exchange, the sequence of each slot's last request: private, so no word of the peer's decides what is
    /// accepted.
    pub sequences: Box<[Cell<u64>]>,
    /// There if descriptors may travel.
    descriptors: Option<Box<CallerDescriptors>>,
    /// Looks of those who poll; see [`Connection::seems_alive`].
    polls: Cell<u32>,
    doorbells_rung: Cell<u64>,
    sleeps: Cell<u64>,
    spins_paid: Cell<u64>,
    spins_in_vain: Cell<u64>,
}

/// A wait that has begun, and what is learned from its length.
#[derive(Clone, Copy)]
struct TimedWait<'c> {
    since_ns: u64,
    reply_time: &'c RefCell<ReplyTime>,
}

/// One more, on a counter that one thread has.
#[inline(always)]
pub fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Looks in vain of someone who polls, between two looks whether the server lives.
const POLLS_PER_LIFE_SIGN: u32 = 256;
/// Looks at what a server says, of 64 messages each, for the one that a reply's descriptors came with.
const FLOODS_MAX: usize = 64;
/// Since the last reply, before a sleeping server is looked at: a closed loop of calls that wake it does not look each
/// time.
const SILENCE_TO_LOOK_NS: u64 = 100_000;

impl Connection {
    /// The session of an attachment.
    pub fn new(established: Established, wait: Wait) -> Connection {
        let slots = established.segment.geometry().slots;
        let server = established.peer.uid;
        let of_background = |background| CallerDescriptors::new(&established.socket, slots, server, background);
        let descriptors = established.background.as_ref().map(of_background).map(Box::new);
        let connection = Connection {
            established,
            wait,
            fork: ForkGuard::new(),
            server_slept: Cell::new(false),
            one_way: Cell::new(false),
            last_reply_ns: Cell::new(None),
            spin_budget: RefCell::default(),
            wake_latency: RefCell::default(),
            rang_ns: Cell::new(0),
            reply_times: Default::default(),
            may_ever_spin: Cell::new(true),
            may_spin: Cell::new(true),
            move_limit: RefCell::default(),
            events: RefCell::new(Events::with_capacity(4)),
            ended: RefCell::new(None),
            began: Instant::now(),
            peer_death: Cell::new(None),
            is_over: Cell::new(false),
            is_dismissed: Cell::new(false),
            must_look: Cell::new(false),
            sequences: (0..slots).map(|_| Cell::new(slot::before_first())).collect(),
            descriptors,
            polls: Cell::new(0),
            doorbells_rung: Cell::new(0),
            sleeps: Cell::new(0),
            spins_paid: Cell::new(0),
            spins_in_vain: Cell::new(0),
        };
        connection.refresh_affinity();
        connection
    }

    /// The memory of the session.
    #[inline(always)]
    pub fn segment(&self) -> &Segment {
        &self.established.segment
    }

    /// Its geometry.
    #[inline(always)]
    pub fn geometry(&self) -> &Geometry {
        self.established.segment.geometry()
    }

    /// Whether times in the shared memory mean the same to the server.
    pub fn has_same_clock(&self) -> bool {
        self.established.agreement.has_same_clock
    }

    /// The version of the session.
    pub fn protocol(&self) -> Protocol {
        self.established.agreement.protocol
    }

    /// For a reactor: the client's bell, which then wakes nobody else any more, and what tells of everything else. At a
    /// server of another user there is no bell, and the second tells of rings, too.
    pub fn descriptors(&self) -> Result<(Option<OwnedFd>, OwnedFd)> {
        if self.is_forked() {
            return Err(Error::forked()); // the epoll is the parent's, too
        }
        let copy = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned().map_err(|error| Error::io("copy a descriptor for the reactor", error))
        };
        let Established { poller, client_bell, .. } = &self.established;
        let bell = client_bell.as_ref().map(|bell| copy(bell.as_fd())).transpose()?;
        if let Some(bell) = client_bell {
            poller.remove(bell);
        }
        self.descriptors.iter().for_each(|travelling| travelling.be_shared());
        Ok((bell, copy(poller.as_fd())?))
    }

    /// After [`descriptors`](Connection::descriptors): the bell wakes a thread that waits here, as before.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn take_bell_back(&self) -> Result<()> {
        let Established { poller, client_bell, .. } = &self.established;
        client_bell.iter().try_for_each(|bell| poller.add(bell, KEY_BELL, Interest::Bell))
    }

    /// Whether the server is this process.
    #[cold]
    pub fn is_within_this_process(&self) -> bool {
        process::is_this_process(self.established.peer.pid)
    }

    /// Whether it is known to be over.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// How often the server had to be rung for.
    pub fn doorbells_rung(&self) -> u64 {
        self.doorbells_rung.get()
    }

    /// How often the caller slept.
    pub fn sleeps(&self) -> u64 {
        self.sleeps.get()
    }

    /// How often spinning beyond the first moments brought the reply, and how often it did not.
    pub fn spins(&self) -> (u64, u64) {
        (self.spins_paid.get(), self.spins_in_vain.get())
    }

    /// Passes a slot to the server as request `sequence`, and rings if it sleeps.
    #[inline(always)]
    pub fn pass_turn(&self, line: &Line, head: Head, sequence: u64) {
        self.pass_silently(line, head, sequence);
        self.ring_if_asleep();
    }

    /// Passes a slot to the server as request `sequence`. Somebody has to [ring](Connection::ring_if_asleep) after the
    /// last one.
    #[inline(always)]
    pub fn pass_silently(&self, line: &Line, head: Head, sequence: u64) {
        line.head.store(head.pack(), Ordering::Relaxed); // published by the turn
        slot::pass_to_server(&line.turn, sequence);
    }

    /// Directly after a pass: rings if the server sleeps.
    #[inline(always)]
    pub fn ring_if_asleep(&self) {
        if Waiting(&self.established.segment.server_line().waiting).claim() {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        let line = self.established.segment.client_line();
        let now_ns = clock::now_ns();
        let think_ns = match self.last_reply_ns.get() {
            Some(ns) => u32::try_from(now_ns.saturating_sub(ns)).unwrap_or(THINK_UNKNOWN),
            None => THINK_UNKNOWN,
        };
        // Hints for the server, which reads them after the ring.
        line.think_ns.store(think_ns, Ordering::Relaxed);
        line.processor.store(cpu::current(), Ordering::Relaxed);
        if self.established.agreement.has_ring_times() {
            line.rang_ns.store(now_ns, Ordering::Relaxed);
        }
        self.server_slept.set(true);
        count(&self.doorbells_rung);
        if self.one_way.get() {
            self.last_reply_ns.set(Some(now_ns));
        }
        self.established.server_bell.ring();
    }

    /// Whether a pass needs [`Connection::look_before_pass`] before it, and [`Connection::send_descriptors`] after
    /// that.
    ///
    /// While the server is awake that is so once its end was noticed. One that sleeps, and has been silent for a while,
    /// may have been killed since: there is time for a look, which is a small part of what it costs to wake a server.
    #[inline(always)]
    pub fn must_look_before_pass(&self) -> bool {
        self.must_look.get() || Waiting(&self.established.segment.server_line().waiting).is_announced()
    }

    /// Whether descriptors may travel.
    pub fn has_descriptors(&self) -> bool {
        self.descriptors.is_some()
    }

    /// What travels with what is passed here, if descriptors may.
    pub fn travelling(&self) -> Option<&CallerDescriptors> {
        self.descriptors.as_deref()
    }

    /// Nothing more is said in a session that is over.
    #[cold]
    pub fn hang_up(&self) {
        socket::hang_up(&self.established.socket);
    }

    /// Attaches a duplicate to a slot, to be sent before its next pass.
    #[cold]
    pub fn attach(&self, slot: usize, descriptor: BorrowedFd<'_>) -> Result<()> {
        if self.is_forked() {
            return Err(Error::forked());
        }
        let Some(travelling) = &self.descriptors else { return Err(descriptors::not_agreed()) };
        travelling.attach(slot, descriptor)?;
        self.must_look.set(true);
        Ok(())
    }

    /// Sends what is attached to a slot, directly before it is passed as request `sequence`. How many there are.
    #[cold]
    pub fn send_descriptors(&self, slot: usize, sequence: u64) -> Result<u32> {
        let Some(travelling) = &self.descriptors else { return Ok(0) };
        let sent = travelling.send(slot, sequence);
        self.must_look.set(self.is_over.get() || travelling.has_unsent());
        sent.map_err(|error| self.why_not_sent(error))
    }

    /// Why descriptors could not be sent: a server that is gone is a better reason than a socket that takes nothing.
    #[cold]
    pub fn why_not_sent(&self, error: Error) -> Error {
        self.look().and_then(|()| self.check_alive(false)).err().unwrap_or(error)
    }

    /// The call in a slot is given up: what it carried is closed here.
    #[cold]
    pub fn give_up_descriptors(&self, slot: usize) {
        self.descriptors.iter().for_each(|travelling| travelling.give_up(slot));
    }

    /// A slot is back, or was not sent.
    #[cold]
    pub fn settle_descriptors(&self, slot: usize) {
        self.descriptors.iter().for_each(|travelling| travelling.settle(slot));
    }

    /// The descriptors of the reply that lies in a slot, once they have been [found](Connection::find_descriptors).
    #[cold]
    pub fn take_descriptors(&self, slot: usize) -> Option<PeerDescriptors> {
        self.descriptors.as_ref()?.take_arrived(slot)
    }

    /// Finds the descriptors of a reply whose head says that `count` came with it; or why some were lost.
    ///
    /// # Errors
    /// How the server broke the protocol.
    #[cold]
    pub fn find_descriptors(
        &self,
        slot: usize,
        sequence: u64,
        count: u32,
    ) -> std::result::Result<Option<Loss>, String> {
        let Some(travelling) = &self.descriptors else {
            return Err(format!("the reply in slot {slot} has {count} descriptors, which do not travel here"));
        };
        // The message was sent before the turn was passed, which has been seen: it is here or in the socket. A server
        // that floods is not listened to for ever.
        for look in 0..=FLOODS_MAX {
            match travelling.inbox.take(slot, sequence, count as usize) {
                Found::Whole(descriptors) => {
                    travelling.arrive(slot, descriptors);
                    return Ok(None);
                }
                Found::Lost(loss) => return Ok(Some(loss)),
                Found::Miscounted(sent) => {
                    return Err(format!("the reply in slot {slot} has {count} descriptors, and {sent} were sent"));
                }
                Found::Nothing if look == FLOODS_MAX => break,
                Found::Nothing => {}
            }
            self.read_socket_events();
            if let Some(CloseReason::Farewell(Reason::Violation, why)) = &*self.ended.borrow() {
                return Err(why.clone());
            }
        }
        Err(format!("the reply in slot {slot} has {count} descriptors, and no message came with them"))
    }

    /// Errors if the server is known to be gone, so that what is not passed is known not to have been executed.
    #[cold]
    pub fn look_before_pass(&self) -> Result<()> {
        let is_long_ago =
            self.last_reply_ns.get().is_none_or(|ns| clock::now_ns().saturating_sub(ns) >= SILENCE_TO_LOOK_NS);
        if !self.is_over.get() && is_long_ago {
            self.hear(Deadline::Now)?;
        }
        self.check_alive(false)
    }

    /// Tells a server whose handler waits for it that a call was given up.
    #[cold]
    pub fn ring_for_abandonment(&self) {
        self.established.server_bell.ring();
    }

    /// For a caller that awaits no reply: from now on its time to think counts from ring to ring.
    pub fn awaits_no_replies(&self) {
        self.one_way.set(true);
    }

    /// A slot was found passed back although nobody waited for it: the server is awake.
    #[inline(always)]
    pub fn found_awake(&self) {
        if self.server_slept.get() {
            self.reply_after_ring();
        }
    }

    /// Whether a fork lies between the connect and now.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// Whether nothing is known of an end, for those who poll. Now and then it costs a system call to look.
    pub fn seems_alive(&self) -> bool {
        if self.is_forked() {
            return false;
        }
        self.polls.set(self.polls.get().wrapping_add(1));
        if self.polls.get().is_multiple_of(POLLS_PER_LIFE_SIGN) && self.hear(Deadline::Now).is_err() {
            return false;
        }
        !self.is_over.get()
    }

    /// Asks to be rung when a slot comes back, and says to observers since when. Returns the turn as it was: if that is
    /// not the server's, the slot is there.
    pub fn ask_for_wake(&self, slot: usize) -> Turn {
        let segment = self.segment();
        let turn = &segment.line(slot).turn;
        if self.has_same_clock()
            && !slot::load(turn).wants_wake()
            && let Some(since) = segment.sleeps_since(slot)
        {
            since.store(clock::tick() as u64, Ordering::Relaxed); // for people; WAKE says that it is valid
        }
        slot::ask_for_wake(turn)
    }

    /// Whether the reply of a slot is there.
    #[inline(always)]
    pub fn is_ready(&self, line: &Line) -> bool {
        !slot::load(&line.turn).is_server()
    }

    /// Waits until the reply of a slot is there. On an error the slot is still the server's.
    pub fn wait(&self, line: &Line, deadline: Deadline) -> Result<()> {
        if self.wait_briefly(line).is_some() { Ok(()) } else { self.wait_patiently(line, deadline) }
    }

    /// A reply came while this thread was awake, so the server is awake too.
    #[inline(always)]
    pub fn came_awake(&self) {
        if self.server_slept.get() {
            self.reply_after_ring();
        } else {
            self.last_reply_ns.set(None); // the clock was not read
        }
    }

    /// As [`Connection::came_awake`], for a task: its thread's processor is none of ours.
    pub fn came_to_a_task(&self) {
        self.last_reply_ns.set(self.server_slept.replace(false).then(clock::now_ns));
    }

    /// Whether spinning for a reply can pay: the server did not have to be woken for it, and may run at the same time.
    #[cfg(not(loom))]
    pub fn is_worth_spinning(&self) -> bool {
        self.may_ever_spin.get() && !self.server_slept.get()
    }

    /// The server had been woken for this reply: the think time begins, and it may have moved.
    #[cold]
    pub fn reply_after_ring(&self) {
        self.server_slept.set(false);
        self.last_reply_ns.set(Some(clock::now_ns()));
        let theirs = self.established.segment.server_line().processor.load(Ordering::Relaxed); // a hint
        let mut mine = cpu::current();
        if theirs == cpu::LEAVING {
            self.spin_budget.borrow_mut().expect_arrival();
        } else if theirs == mine | cpu::POLLED && self.may_ever_spin.get() {
            self.leave_to_server();
            mine = cpu::current();
        }
        self.may_spin.set(self.may_ever_spin.get() && theirs & !cpu::POLLED != mine);
    }

    /// The wake-up put this thread on the very processor that the server polls on: the server would find the next
    /// request only once this thread sleeps, and this thread would wait until the server stops polling after that.
    fn leave_to_server(&self) {
        if self.move_limit.borrow_mut().may_move(self.sleeps.get()) {
            cpu::move_off(cpu::current());
        }
    }

    /// The reply of a server that is awake and quick comes here, without a clock. The turn that came;
    /// `None`: go on with [`Connection::wait_patiently`].
    ///
    /// All that can be done before the reply is there is done before: whatever stands behind the last look makes each
    /// call longer, and what stands before it costs nothing.
    #[inline(always)]
    pub fn wait_briefly(&self, line: &Line) -> Option<Turn> {
        if self.server_slept.get() || !self.may_spin.get() {
            return None;
        }
        self.last_reply_ns.set(None); // the clock is not read; who has to sleep after all sets it
        for _ in 0..SPINS_BEFORE_CLOCK {
            let turn = slot::load(&line.turn);
            if !turn.is_server() {
                return Some(turn);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// The second half of [`Connection::wait`], after [`Connection::wait_briefly`] was in vain.
    #[cold]
    pub fn wait_patiently(&self, line: &Line, deadline: Deadline) -> Result<()> {
        if self.fork.is_forked() {
            return Err(Error::forked());
        }
        if self.is_ready(line) {
            self.came_awake();
            return Ok(());
        }
        let timed = self.begin_timed();
        let napped = match timed {
            Some(timed) => self.nap(line, deadline, timed)?,
            None => None,
        };
        let has_come = match napped {
            Some(has_come) => has_come,
            None => self.spin_patiently(line, deadline)?,
        };
        if has_come {
            self.came_awake();
            timed.iter().for_each(|timed| self.end_timed(timed));
            return Ok(());
        }
        let slot = self.segment().slot_of(line);
        let call = trace::Call::begins();
        let mut was_last_look = false;
        while self.ask_for_wake(slot).is_server() {
            if let Err(error) = self.check_alive_with(line) {
                // A reply that was passed before the end counts.
                return if self.is_ready(line) { Ok(()) } else { Err(error) };
            }
            if was_last_look {
                return Err(Error::timed_out(true));
            }
            // Even without time left there is one look, so that a polling caller learns of the end.
            was_last_look = deadline.is_over();
            self.sleep(deadline)?;
        }
        call.ends(self.established.peer.pid);
        self.reply_after_ring();
        timed.iter().for_each(|timed| self.end_timed(timed));
        Ok(())
    }

    /// A wait whose length is of use later: of who may spin, for a reply. The others read no clock.
    fn begin_timed(&self) -> Option<TimedWait<'_>> {
        let may_nap = self.wait == Wait::Adaptive && self.may_ever_spin.get() && !self.one_way.get();
        let reply_time = &self.reply_times[usize::from(self.server_slept.get())];
        may_nap.then(|| TimedWait { since_ns: clock::now_ns(), reply_time })
    }

    /// The reply came. If it was rung for, the ring came with it, and this side is late by a wake-up.
    fn end_timed(&self, timed: &TimedWait<'_>) {
        let (now_ns, rang_ns) = (clock::now_ns(), self.rang_ns.get());
        let came_ns = if (timed.since_ns..now_ns).contains(&rang_ns) { rang_ns } else { now_ns };
        timed.reply_time.borrow_mut().came(came_ns - timed.since_ns);
    }

    /// Where replies take steadily long: sleeps until shortly before this one, and spins from there. Whether it came;
    /// `None`: there is no telling when it will.
    fn nap(&self, line: &Line, deadline: Deadline, timed: TimedWait<'_>) -> Result<Option<bool>> {
        let TimedWait { since_ns, reply_time } = timed;
        let Some(nap) = reply_time.borrow_mut().plan(&self.wake_latency.borrow()) else { return Ok(None) };
        let now = Instant::now();
        let (due, end) = (now + Duration::from_nanos(nap.until_ns), now + Duration::from_nanos(nap.spin_until_ns));
        if deadline.as_instant().is_some_and(|at| at <= end) {
            return Ok(None);
        }
        if !self.ask_for_wake(self.segment().slot_of(line)).is_server() {
            return Ok(Some(true));
        }
        {
            let _exact = TimerSlack::least();
            self.sleep_by(|| self.hear_exactly(due))?;
        }
        let has_come = !slot::withdraw_wake(&line.turn).is_server();
        let late_ns = clock::now_ns().checked_sub(since_ns + nap.until_ns);
        // If the ring came when the timer was due already, that was late by less. It is set earlier the next time.
        late_ns.into_iter().for_each(|late_ns| reply_time.borrow_mut().overslept(late_ns));
        if has_come {
            self.server_slept.set(true); // it rings, as if it had been rung for: this side may have moved
            return Ok(Some(true));
        }
        if let Err(error) = self.check_alive_with(line) {
            return if self.is_ready(line) { Ok(Some(true)) } else { Err(error) };
        }
        if late_ns.is_none() {
            return Ok(Some(false)); // a signal, or news of something else
        }
        let theirs = self.segment().server_line().processor.load(Ordering::Relaxed); // a hint
        if theirs & !cpu::POLLED == cpu::current() {
            return Ok(Some(false)); // the handler would have to wait until this thread sleeps
        }
        let left = end.saturating_duration_since(Instant::now());
        let has_come = waiter::spin_for(left, || Ok::<_, Error>(self.is_ready(line)))?;
        count(if has_come { &self.spins_paid } else { &self.spins_in_vain });
        Ok(Some(has_come))
    }

    /// Spins for as long as the policy says. `false`: time to sleep.
    fn spin_patiently(&self, line: &Line, deadline: Deadline) -> Result<bool> {
        if self.wait == Wait::Spin {
            return self.spin_forever(line, deadline);
        }
        if self.server_slept.get() || !self.may_spin.get() {
            return Ok(false);
        }
        let is_arriving = self.spin_budget.borrow().is_arrival_expected();
        let budget = self.spin_budget.borrow_mut().next(&self.wake_latency.borrow());
        if budget.is_zero() {
            return Ok(false);
        }
        if is_arriving {
            cpu::give_way(); // it leaves this very processor, and needs it for that
        }
        let has_come = waiter::spin_for(budget, || Ok::<_, Error>(self.is_ready(line)))?;
        if has_come {
            count(&self.spins_paid);
            self.spin_budget.borrow_mut().paid();
            self.wake_latency.borrow_mut().waited();
        } else {
            count(&self.spins_in_vain);
            self.spin_budget.borrow_mut().failed();
        }
        Ok(has_come)
    }

    /// [`Wait::Spin`]: sleeps never, but notices the server's death and the deadline.
    fn spin_forever(&self, line: &Line, deadline: Deadline) -> Result<bool> {
        let look = || Ok(self.is_ready(line));
        waiter::spin_forever(deadline, look, || {
            placement::leave_shared(self.established.segment.server_line().processor.load(Ordering::Relaxed)); // a hint
            self.hear(Deadline::Now)?;
            match self.check_alive_with(line) {
                Ok(()) => Ok(None),
                Err(_) if self.is_ready(line) => Ok(Some(true)),
                Err(error) => Err(error),
            }
        })
    }

    /// Tells the server which processors this thread may use, and learns the same of the server.
    pub fn refresh_affinity(&self) {
        let segment = &self.established.segment;
        let (mine, theirs) = (&segment.client_line().only_processor, &segment.server_line().only_processor);
        let is_shared = placement::exchange_affinity(mine, theirs);
        self.may_ever_spin.set(self.wait != Wait::Park && !is_shared);
        self.may_spin.set(self.may_ever_spin.get());
    }

    pub fn sleep(&self, deadline: Deadline) -> Result<()> {
        self.sleep_by(|| self.hear(deadline))
    }

    fn sleep_by(&self, hear: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.sleeps.get().is_multiple_of(SLEEPS_PER_AFFINITY.into()) {
            self.refresh_affinity();
        }
        count(&self.sleeps);
        runtime_guard::is_about_to_sleep("waiting for a reply or a slot");
        if !self.learns() {
            return hear();
        }
        let slept_ns = self.wake_latency.borrow_mut().wants_sample().then(clock::now_ns);
        let heard = hear();
        let rang_ns = self.segment().server_line().rang_ns.load(Ordering::Relaxed); // any number will do
        self.rang_ns.set(rang_ns);
        if let Some(slept_ns) = slept_ns {
            self.wake_latency.borrow_mut().woken(slept_ns, rang_ns, clock::now_ns());
        }
        heard
    }

    /// Whether the server says when it rang, and is believed: only one of the same user has a say in how long this side
    /// spins.
    fn learns(&self) -> bool {
        self.established.agreement.has_ring_times() && self.established.client_bell.is_some()
    }

    /// The most that spinning for a reply is worth.
    #[cfg(not(loom))]
    pub fn spin_budget(&self) -> Duration {
        self.wake_latency.borrow().spin_budget()
    }

    /// Takes in what has come by now: rings, socket events, the server's end.
    pub fn look(&self) -> Result<()> {
        self.hear(Deadline::Now)
    }

    /// After the end: what tells of it tells no more, so that an event loop which still waits there does not run hot.
    #[cold]
    pub fn stop_watching(&self) {
        let Established { poller, socket, pidfd, .. } = &self.established;
        poller.remove(socket);
        pidfd.iter().for_each(|pidfd| poller.remove(pidfd));
    }

    /// Waits for a ring, a socket event, the server's end, or the deadline.
    pub fn hear(&self, deadline: Deadline) -> Result<()> {
        let mut events = self.events.borrow_mut();
        self.established.poller.wait(&mut events, deadline.as_instant())?;
        self.take_in(&events);
        Ok(())
    }

    /// The same until a deadline that is as exact as the thread's timers.
    fn hear_exactly(&self, deadline: Instant) -> Result<()> {
        let mut events = self.events.borrow_mut();
        self.established.poller.wait_exactly(&mut events, deadline)?;
        self.take_in(&events);
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

    fn read_socket_events(&self) {
        let Established { socket, poller, agreement, .. } = &self.established;
        let server = Sender { protocol: agreement.protocol, is_server: true };
        let inbox = self.descriptors.as_ref().map(|travelling| &travelling.inbox);
        let SocketEvents { ended, has_more, .. } = SocketEvents::read(socket, poller, server, inbox);
        if let Some(how) = ended {
            // With more to be read it may be this side that gives up.
            // `Later` comes to who has just said READY: no thread was told of the session.
            let last_word = matches!(how, CloseReason::Farewell(Reason::Shutdown | Reason::Moved | Reason::Later, _));
            let is_dismissal = last_word && !has_more;
            self.is_dismissed.set(self.is_dismissed.get() || is_dismissal);
            self.end(how);
        }
        // Not only once a reply is looked at: a server that sends none would have this process keep what it sends.
        if let Some(why) = inbox.and_then(|inbox| inbox.fault(|slot| self.last_sequence(slot))) {
            self.end(CloseReason::Farewell(Reason::Violation, why));
        }
    }

    /// The sequence of the last request in a slot, if there was one.
    fn last_sequence(&self, slot: usize) -> Option<u64> {
        let last = slot::of_private(self.sequences[slot].get());
        (last != slot::before_first()).then_some(last)
    }

    pub fn end(&self, how: CloseReason) {
        self.must_look.set(true);
        if !self.is_over.replace(true) {
            self.peer_death.set(Some(self.examine()));
            if how == CloseReason::Died {
                trace::server_died(self.established.peer.pid, self.in_flight());
            }
        }
        let mut ended = self.ended.borrow_mut();
        if how.tops(ended.as_ref()) {
            *ended = Some(how);
        }
    }

    pub fn check_alive(&self, maybe_executed: bool) -> Result<()> {
        if self.ended.borrow().is_none() {
            return Ok(());
        }
        self.read_farewell();
        let maybe_executed = maybe_executed && !faults::is(Fault::WrongFate);
        let fate = if maybe_executed { "the request may have been executed" } else { "the request was not sent" };
        Err(self.end_told(maybe_executed, fate))
    }

    /// The error of a session that is over, with what became of a request.
    pub fn end_told(&self, maybe_executed: bool, fate: &str) -> Error {
        match &*self.ended.borrow() {
            Some(CloseReason::Farewell(Reason::Violation, why)) => {
                Error::new(ErrorKind::Violation, format!("the session is over because the protocol was broken: {why}"))
            }
            Some(CloseReason::Farewell(_, why)) => {
                Error::new(ErrorKind::ServerClosed { maybe_executed }, format!("{why}; {fate}"))
            }
            _ => Error::died(maybe_executed, fate, self.peer_death.get().unwrap_or_else(|| self.examine())),
        }
    }

    /// As [`Connection::check_alive`], for the caller of a request that was passed: the server says in the memory which
    /// requests it has taken, whether it shuts down, is killed, or never served this session. A session that this side
    /// has ended itself tells nothing of that: a thread of the server may take it still.
    pub fn check_alive_with(&self, line: &Line) -> Result<()> {
        let Err(error) = self.check_alive(true) else { return Ok(()) };
        let has_died = matches!(&*self.ended.borrow(), Some(CloseReason::Died));
        let is_servers_end = has_died || self.is_dismissed() || self.has_process_ended();
        if !is_servers_end || !self.is_untaken(line) {
            return Err(error);
        }
        match error.kind() {
            ErrorKind::Violation => Err(error),
            _ => Err(self.end_told(false, "the request was not executed")),
        }
    }

    /// Whether the server says in a request's head that a handler sees it.
    pub fn has_begun(&self) -> bool {
        self.established.agreement.has_begun()
    }

    /// The server's process, where the kernel has told which it is: what becomes readable when it has ended.
    pub fn server_process(&self) -> Option<&OwnedFd> {
        self.established.pidfd.as_ref()
    }

    /// Whether the server has said itself, as the last thing, that it takes nothing any more: it has shut down, or
    /// moved.
    pub fn is_dismissed(&self) -> bool {
        self.is_dismissed.get()
    }

    /// Whether the session ended without a word, as it does some moments before the server's process has ended.
    pub fn may_be_ending(&self) -> bool {
        self.server_process().is_some() && matches!(&*self.ended.borrow(), Some(CloseReason::Died))
    }

    /// Whether the server's process has ended, as far as the kernel has told which it is. A hang-up alone is no sign of
    /// that.
    pub fn has_process_ended(&self) -> bool {
        self.wait_for_process_end(Some(Instant::now()))
    }

    /// Waits for that up to a moment; whether it has.
    pub fn wait_for_process_end(&self, until: Option<Instant>) -> bool {
        faults::is(Fault::HangUpAlone) || self.server_process().is_some_and(|pidfd| process::has_ended(pidfd, until))
    }

    /// Whether nobody has taken, and will take, what was passed in a slot. What the server wrote before its farewell,
    /// or its end, is there once that was noticed.
    pub fn is_untaken(&self, line: &Line) -> bool {
        // Acquire, partner: `Segment::close`. The marks are there, then.
        let is_closed = self.segment().server_line().closed.load(Ordering::Acquire) != 0;
        let head = Head::parse(line.head.load(Ordering::Relaxed));
        is_closed && head.is_some_and(|head| head.kind == Kind::Request) && !self.is_ready(line)
    }

    /// What is known now.
    fn examine(&self) -> PeerDeath {
        let noticed_at = Instant::now();
        let lived = noticed_at.duration_since(self.began);
        PeerDeath { noticed_at, lived, pid: self.established.peer.pid, in_flight: self.in_flight() }
    }

    /// Requests that were passed and have not come back.
    pub fn in_flight(&self) -> usize {
        if self.is_forked() {
            return 0; // the memory is not there
        }
        let segment = self.segment();
        (0..self.geometry().slots).filter(|slot| slot::load(&segment.line(*slot).turn).is_server()).count()
    }

    /// The pidfd may speak before the socket is read: what the server said last is there all the same.
    fn read_farewell(&self) {
        if matches!(&*self.ended.borrow(), Some(CloseReason::Farewell(..))) {
            return;
        }
        self.read_socket_events();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.fork.is_forked() {
            // A forked child may hold the socket open: the server is told all the same.
            socket::hang_up(&self.established.socket);
            self.descriptors.iter().for_each(|travelling| travelling.end());
        }
    }
}
