//! One session with a server, shared by any number of tasks: who waits for what, and how the reactor wakes them.
//!
//! All private state of a client is behind one lock, held for the time of a few stores. The waker that the reactor has
//! is no task's: it is the session's `ReactorWaker`, which looks at the slots that somebody waits for, in the reactor's
//! own turn, and wakes exactly those tasks whose replies are there. So no task stands in between, which would cost
//! another switch, and none of those that wait has to look after the others.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, Result};
use crate::exchange::caller::Caller;
use crate::exchange::carrying::is_end;
use crate::exchange::owned_loan::OwnedLoan;
use crate::exchange::passed_slot::PassedSlot;
use crate::faults::{self, Fault};
use crate::session::close_reason::CloseReason;
use crate::session::protocol::Reason;
use crate::sync;
use crate::sys::async_fd::{Watched, watch};
use crate::sys::fork::ForkGuard;
use crate::wait::readiness::poll_ring;
use crate::wait::spin_backoff::SpinBackoff;

/// What the handles, loans and calls of one session share.
pub struct Session {
    state: Mutex<State>,
    /// As many permits as there are slots to be had. Closed once the session is over.
    slots: Semaphore,
    /// Rung for each reply that somebody sleeps for. `None` at a server of another user, which sends messages instead.
    bell: Option<Watched<OwnedFd>>,
    /// The socket and the server's process: the epoll in which a blocking client would sleep.
    life: Watched<OwnedFd>,
    reactor_waker: Waker,
    /// Whether those who wait have been told that it is over.
    is_closed: AtomicBool,
    fork: ForkGuard,
}

struct State {
    caller: Caller,
    /// For each slot who waits for its reply.
    wakers: Box<[Option<Waker>]>,
    /// The slots that have one.
    asleep: Vec<usize>,
    /// How many slots are out, as the semaphore knows it.
    out: usize,
    spin_backoff: SpinBackoff,
}

/// What the wait for a reply came to.
pub enum Outcome {
    /// The reply, or the error that the call ends with: with an error the slot is not the call's any more.
    Done(Result<OwnedLoan>),
    /// The session has ended so, the slot is the call's, and the call may go on elsewhere.
    Ended(Error),
}

/// What the reactor wakes. It does not keep the session alive.
struct ReactorWaker(Weak<Session>);

impl Wake for ReactorWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(session) = self.0.upgrade() {
            session.listen();
        }
    }
}

impl Session {
    /// Gives a session to the reactor.
    pub fn new(caller: Caller) -> Result<Arc<Session>> {
        let (bell, life) = caller.descriptors()?;
        let (bell, life) = (bell.map(watch).transpose()?, watch(life)?);
        // What came back before it was asked for shows in the turn, what comes after rings.
        caller.arm_abandoned();
        caller.reclaim();
        let (slots, out) = (caller.slots(), if faults::is(Fault::UncountedCalls) { 0 } else { caller.slots_out() });
        let state = State {
            caller,
            wakers: (0..slots).map(|_| None).collect(),
            asleep: Vec::new(),
            out,
            spin_backoff: SpinBackoff::default(),
        };
        let session = Arc::new_cyclic(|session| Session {
            state: Mutex::new(state),
            slots: Semaphore::new(slots - out),
            bell,
            life,
            reactor_waker: Waker::from(Arc::new(ReactorWaker(Weak::clone(session)))),
            is_closed: AtomicBool::new(false),
            fork: ForkGuard::new(),
        });
        session.listen();
        session.with_caller(|_| ()); // it may have been over before
        Ok(session)
    }

    /// Uses the core, and sees what has changed. `taken`: slots that `using` may take, whose permits the caller has.
    fn with_state<R>(&self, taken: usize, using: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = using(&mut state);
        let out = state.caller.slots_out();
        let back = state.out + taken - out;
        state.out = out;
        let is_over = state.caller.connection.is_over();
        drop(state);
        if back > 0 {
            self.slots.add_permits(back);
        }
        if is_over {
            self.close();
        }
        result
    }

    /// Uses the core.
    pub fn with_caller<R>(&self, using: impl FnOnce(&Caller) -> R) -> R {
        self.with_state(0, |state| using(&state.caller))
    }

    /// A slot for a payload of `len` bytes; waits until there is one, in the order in which it was asked for.
    pub async fn take_slot(&self, len: usize) -> Result<OwnedLoan> {
        self.check_fork()?;
        if let Ok(permit) = self.slots.try_acquire() {
            return self.take_permitted(permit, len);
        }
        self.with_caller(|caller| caller.check_loan(len))?; // nobody waits for what will never be possible
        match self.slots.acquire().await {
            Ok(permit) => self.take_permitted(permit, len),
            Err(_) => Err(self.why_no_slot()),
        }
    }

    /// A slot, if there is one and nobody stands in line for it.
    pub fn try_take_slot(&self, len: usize) -> Result<OwnedLoan> {
        self.check_fork()?;
        match self.slots.try_acquire() {
            Ok(permit) => self.take_permitted(permit, len),
            Err(_) => Err(self.why_no_slot()),
        }
    }

    fn take_permitted(&self, permit: SemaphorePermit<'_>, len: usize) -> Result<OwnedLoan> {
        permit.forget(); // it comes back with the slot
        self.with_state(1, |state| state.caller.try_loan(len))?.ok_or_else(|| self.why_no_slot())
    }

    #[cold]
    fn why_no_slot(&self) -> Error {
        self.with_caller(|caller| caller.connection.check_alive(false).err().unwrap_or_else(|| caller.full()))
    }

    /// Spins for a reply that may be nearer than a wake-up is long, if nobody else waits and the server is awake.
    pub fn spin(&self, slot: usize) {
        if self.is_forked() {
            return;
        }
        let passed = self.with_state(0, |state| {
            let State { caller, asleep, spin_backoff, .. } = state;
            let is_worth_it = asleep.is_empty() && caller.connection.is_worth_spinning();
            (is_worth_it && spin_backoff.may_spin())
                .then(|| (PassedSlot::new(caller.line(slot)), caller.connection.spin_budget()))
        });
        let Some((passed, budget)) = passed else { return };
        let has_paid = passed.spin_for(budget);
        self.with_state(0, |state| if has_paid { state.spin_backoff.succeeded() } else { state.spin_backoff.failed() });
    }

    /// Passes a slot to the server, and counts it as a call if it is a new one. On an error it is still the client's.
    pub fn send(&self, loan: &OwnedLoan, deadline: Option<Instant>, is_counted: bool) -> Result<()> {
        self.check_fork()?;
        loan.written();
        self.with_caller(|caller| match is_counted {
            true => caller.send(loan, deadline),
            false => caller.send_again(loan, deadline),
        })
    }

    /// The reply of a slot, or the end of the session; else `waker` is woken when one of these is there.
    pub fn poll_reply(&self, slot: usize, waker: &Waker, may_go_on: bool) -> Poll<Outcome> {
        if self.is_forked() {
            return Poll::Ready(Outcome::Done(Err(Error::forked())));
        }
        self.with_state(0, |state| {
            let outcome = match state.try_reply(slot, waker, may_go_on) {
                Some(outcome) => outcome,
                None => return Poll::Pending,
            };
            state.forget(slot);
            Poll::Ready(outcome)
        })
    }

    /// Gives up a call that nobody waits for any more: its slot comes back when the server is done with it.
    pub fn abandon(&self, slot: usize) {
        if self.is_forked() {
            return;
        }
        self.with_state(0, |state| {
            state.forget(slot);
            state.caller.abandon_armed(slot); // whoever waits for a slot hears of it
        });
    }

    /// Gives back a slot that is the client's: its number [with its mark](OwnedLoan::marked_slot).
    pub fn release(&self, marked_slot: usize) {
        if self.is_forked() {
            return;
        }
        self.with_caller(|caller| caller.release(marked_slot));
    }

    /// What lies in a slot as its payload; nothing, in a forked child.
    pub fn copy_payload(&self, slot: usize, len: usize) -> Option<Vec<u8>> {
        if self.is_forked() {
            return None;
        }
        self.with_caller(|caller| caller.copy_payload(slot, len))
    }

    /// Whether this is a forked child, which has none of the memory; and where another thread may have held the lock of
    /// the state when it was forked, so that nothing that is asked here may take it.
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// [`Session::is_forked`] as an error.
    pub fn check_fork(&self) -> Result<()> {
        if self.is_forked() { Err(Error::forked()) } else { Ok(()) }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// What rang, and from now on the reactor wakes for the next ring.
    fn listen(&self) {
        if self.is_forked() {
            return; // the runtime that ends in a child is none of the parent's
        }
        let mut context = Context::from_waker(&self.reactor_waker);
        loop {
            let rang = self.bell.as_ref().map_or(Poll::Pending, |bell| poll_ring(bell, &mut context));
            let life = poll_ring(&self.life, &mut context);
            match (rang, life) {
                (Poll::Pending, Poll::Pending) => return,
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return self.runtime_is_gone(),
                (_, life) => self.look(life.is_ready()),
            }
        }
    }

    /// Wakes those whose replies are there, and takes back the slots of abandoned calls.
    fn look(&self, has_events: bool) {
        let ready: Vec<Waker> = self.with_state(0, |state| {
            let State { caller, wakers, asleep, .. } = state;
            caller.look(has_events);
            let mut ready = Vec::new();
            asleep.retain(|&slot| {
                let is_ready = caller.connection.is_ready(caller.line(slot));
                if is_ready {
                    ready.extend(wakers[slot].take());
                }
                !is_ready
            });
            ready
        });
        ready.into_iter().for_each(Waker::wake);
    }

    #[cold]
    fn runtime_is_gone(&self) {
        let why = "the tokio runtime in which the client connected is shutting down";
        self.with_caller(|caller| caller.connection.end(CloseReason::Farewell(Reason::Shutdown, why.into())));
    }

    /// The session is over: all who wait are told.
    #[cold]
    fn close(&self) {
        if self.is_closed.swap(true, Ordering::Relaxed) {
            return; // whoever came first wakes all, those who come later see the end by themselves
        }
        self.slots.close();
        let all: Vec<Waker> = {
            let mut state = self.lock();
            state.asleep.clear();
            state.wakers.iter_mut().filter_map(Option::take).collect()
        };
        all.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What may panic while it is held are allocations, with nothing half done.
        sync::lock(&self.state)
    }
}

impl State {
    /// The reply of a slot, or the end of the session; else the waker is woken when one of these is there.
    fn try_reply(&mut self, slot: usize, waker: &Waker, may_go_on: bool) -> Option<Outcome> {
        if let Some(outcome) = self.caller.try_reply(slot) {
            return Some(Outcome::Done(outcome));
        }
        match self.caller.arm(slot) {
            Ok(true) => {}
            // A server that takes the turn again, which none does that keeps the rules, is waited for until its end.
            Ok(false) => {
                if let Some(outcome) = self.caller.try_reply(slot) {
                    return Some(Outcome::Done(outcome));
                }
            }
            Err(error) if may_go_on && is_end(&error) => return Some(Outcome::Ended(error)),
            Err(error) => {
                self.caller.abandon(slot);
                return Some(Outcome::Done(Err(error)));
            }
        }
        match &mut self.wakers[slot] {
            Some(registered) => registered.clone_from(waker),
            none => {
                *none = Some(waker.clone());
                self.asleep.push(slot);
            }
        }
        None
    }

    /// Nobody waits for this slot.
    fn forget(&mut self, slot: usize) {
        if self.wakers[slot].take().is_some() {
            self.asleep.retain(|&other| other != slot);
        }
    }
}
