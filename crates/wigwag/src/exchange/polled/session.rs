//! One session of a client whose calls never wait, shared by all threads that use it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::exchange::caller::Caller;
use crate::exchange::owned_loan::OwnedLoan;
use crate::session::close_reason::CloseReason;
use crate::session::protocol::Reason;
use crate::sync;
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::wait::spin_backoff::SpinBackoff;

/// What a client, its loans and its calls share.
pub struct Session {
    state: Mutex<State>,
    /// Rung for each reply that somebody asked for. `None` at a server of another user, which sends messages instead.
    bell: Option<OwnedFd>,
    /// The socket and the server's process.
    life: OwnedFd,
    /// Rung within this process when a slot comes back that somebody waits for.
    returned: Bell,
    fork: ForkGuard,
}

/// What is behind its lock.
pub struct State {
    pub caller: Caller,
    pub spin_backoff: SpinBackoff,
    /// Whether somebody waits for a slot.
    is_slot_wanted: bool,
}

impl Session {
    /// The session of a core that nobody else uses.
    pub fn new(caller: Caller) -> Result<Arc<Session>> {
        let (bell, life) = caller.descriptors()?;
        // What came back before it was asked for shows in the turn, what comes after rings.
        caller.arm_abandoned();
        caller.reclaim();
        let state = State { caller, spin_backoff: SpinBackoff::default(), is_slot_wanted: false };
        Ok(Arc::new(Session { state: Mutex::new(state), bell, life, returned: Bell::new()?, fork: ForkGuard::new() }))
    }

    /// Whether this is a forked child, which has none of the memory.
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// [`Session::is_forked`] as an error.
    pub fn check_fork(&self) -> Result<()> {
        if self.is_forked() { Err(Error::forked()) } else { Ok(()) }
    }

    /// Only after [`check_fork`](Session::check_fork): in a child another thread of the parent may have held the lock.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }

    /// Uses the core in a way that may bring a slot back.
    pub fn give_back(&self, using: impl FnOnce(&Caller)) {
        if self.is_forked() {
            return;
        }
        let mut state = self.lock();
        using(&state.caller);
        let is_wanted = std::mem::take(&mut state.is_slot_wanted);
        drop(state);
        if is_wanted {
            self.returned.ring();
        }
    }

    /// A slot for a payload of `len` bytes. `None`: all are out, and whoever waits is told when one comes back.
    pub fn try_loan(&self, len: usize) -> Result<Option<OwnedLoan>> {
        self.check_fork()?;
        let mut state = self.lock();
        let mut loan = state.caller.try_loan(len)?;
        if loan.is_none() {
            // Asked for before the last look: what comes after rings.
            state.is_slot_wanted = true;
            if state.caller.arm_abandoned() {
                state.caller.reclaim();
                loan = state.caller.try_loan(len)?;
            }
        }
        Ok(loan)
    }

    /// What tells of the session's end, and what rings.
    pub fn descriptors(&self) -> (BorrowedFd<'_>, Vec<BorrowedFd<'_>>) {
        (self.life.as_fd(), self.bell.iter().map(AsFd::as_fd).chain([self.returned.as_fd()]).collect())
    }

    /// Ends it from this side.
    pub fn close(&self) {
        self.give_back(|caller| {
            if !caller.connection.is_over() {
                caller.connection.end(CloseReason::Farewell(Reason::Shutdown, "the client has been closed".into()));
                caller.connection.hang_up();
            }
        });
    }

    /// Whether it has ended, as far as is known; also in a forked child.
    pub fn is_over(&self) -> bool {
        self.is_forked() || self.lock().caller.connection.is_over()
    }
}
