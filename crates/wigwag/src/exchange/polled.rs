//! The exchange for an event loop of any kind, and for other languages: no step waits, and nothing is borrowed.
//!
//! All private state of a client is behind one lock, held for the time of a few stores, so any number of threads may
//! share it. A thread that waits has a [`Readiness`] of its own.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::caller::Caller;
use crate::exchange::client;
use crate::exchange::owned_loan::OwnedLoan;
use crate::exchange::passed_slot::PassedSlot;
use crate::exchange::request::Request;
use crate::exchange::server;
use crate::service::handles::{ShutdownHandle, StatsHandle};
use crate::service::polling_backoff::PollingBackoff;
use crate::service::worker::Next;
use crate::session::close_reason::CloseReason;
use crate::session::protocol::Reason;
use crate::stats::{ClientStats, ServerStats};
use crate::sync;
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::wait::edge_readiness::Readiness;
use crate::wait::spin_backoff::SpinBackoff;

/// A client whose calls never wait: for event loops, and for other languages.
///
/// One session for all threads that share it. Its loans keep the session alive, so they may outlive the client.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| r.make_ascii_uppercase()));
/// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
/// let mut readiness = client.readiness()?;
/// let mut loan = client.try_loan(5)?.expect("no slot is out yet");
/// loan.copy_from_slice(b"hello");
/// let mut pending = loan.send(None)?;
/// let reply = loop {
///     if let Some(reply) = pending.try_reply()? {
///         break reply;
///     }
///     if pending.arm()? {
///         rustix::event::poll(&mut [rustix::event::PollFd::new(&readiness, rustix::event::PollFlags::IN)], None)
///             .expect("the descriptor is open");
///         client.listen(&mut readiness)?;
///     }
/// };
/// assert_eq!(&reply[..], b"HELLO");
/// # drop(reply); stop.shutdown(); thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    session: Arc<Session>,
}

/// What a client, its loans and its calls share.
struct Session {
    state: Mutex<State>,
    /// Rung for each reply that somebody asked for. `None` at a server of another user, which sends messages instead.
    bell: Option<OwnedFd>,
    /// The socket and the server's process.
    life: OwnedFd,
    /// Rung within this process when a slot comes back that somebody waits for.
    returned: Bell,
    fork: ForkGuard,
    slots: usize,
    capacity: usize,
}

struct State {
    caller: Caller,
    spin_backoff: SpinBackoff,
    /// Whether somebody waits for a slot.
    is_slot_wanted: bool,
}

impl Session {
    fn check_fork(&self) -> Result<()> {
        if self.fork.is_forked() { Err(Error::forked()) } else { Ok(()) }
    }

    /// Only after [`check_fork`](Session::check_fork): in a child another thread of the parent may have held the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }

    /// Uses the core in a way that may bring a slot back.
    fn give_back(&self, using: impl FnOnce(&Caller)) {
        if self.fork.is_forked() {
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
}

impl Client {
    /// Makes one of a blocking client. One that outlives its server ([`reconnect`](crate::ClientBuilder::reconnect))
    /// ends with it here.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked); [`Io`](ErrorKind::Io) if there is no descriptor left.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(client: client::Client) -> Result<Client> {
        let (caller, ..) = client.into_parts();
        let (bell, life) = caller.descriptors()?;
        // What came back before it was asked for shows in the turn, what comes after rings.
        caller.arm_abandoned();
        caller.reclaim();
        let (slots, capacity) = (caller.slots(), caller.capacity());
        let state = State { caller, spin_backoff: SpinBackoff::default(), is_slot_wanted: false };
        let session = Session {
            state: Mutex::new(state),
            bell,
            life,
            returned: Bell::new()?,
            fork: ForkGuard::new(),
            slots,
            capacity,
        };
        Ok(Client { session: Arc::new(session) })
    }

    /// The largest payload in bytes, request or reply.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// assert_eq!(client.capacity(), 1 << 20);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.session.capacity
    }

    /// How many calls can be in flight at a time.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// assert_eq!(client.slots(), 16);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn slots(&self) -> usize {
        self.session.slots
    }

    /// Borrows `len` bytes of memory that the server already has. `None`: all slots are out. Then a [`Readiness`] tells
    /// when one has come back, be it from this process or from the server.
    ///
    /// # Errors
    /// As [`Client::loan`](crate::Client::loan), but for [`Full`](ErrorKind::Full).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().slots(1).connect(name)?;
    /// let client = wigwag::polled::Client::from_blocking(client)?;
    /// let held = client.try_loan(8)?;
    /// assert!(held.is_some() && client.try_loan(8)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_loan(&self, len: usize) -> Result<Option<Loan>> {
        self.session.check_fork()?;
        let mut state = self.session.lock();
        let mut loan = state.caller.try_loan(len)?;
        if loan.is_none() {
            // Asked for before the last look: what comes after rings.
            state.is_slot_wanted = true;
            if state.caller.arm_abandoned() {
                state.caller.reclaim();
                loan = state.caller.try_loan(len)?;
            }
        }
        drop(state);
        Ok(loan.map(|loan| Loan { session: Some(Arc::clone(&self.session)), loan }))
    }

    /// Borrows memory, has `write` fill it, and passes it, all at once. `None`: all slots are out, as of
    /// [`try_loan`](Client::try_loan), and `write` was not called.
    ///
    /// `write` must not use this client: it would wait for itself.
    ///
    /// # Errors
    /// As [`try_loan`](Client::try_loan) and [`Loan::send`], and what `write` gives back: nothing was executed.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let pending = client.try_send_with(2, None, |bytes| wigwag::Result::Ok(bytes.copy_from_slice(b"hi")))?;
    /// assert!(pending.is_some());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_send_with<E: From<Error>>(
        &self,
        len: usize,
        deadline: Option<Instant>,
        write: impl FnOnce(&mut [u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Option<Pending>, E> {
        self.session.check_fork()?;
        let state = self.session.lock();
        let Some(mut loan) = state.caller.try_loan(len)? else {
            drop(state);
            return Ok(None);
        };
        let written = write(&mut loan);
        let sent = written.and_then(|()| {
            loan.written();
            state.caller.send(&loan, deadline).map_err(E::from)
        });
        if let Err(error) = sent {
            state.caller.release(loan.marked_slot());
            return Err(error);
        }
        let slot = loan.slot();
        let passed = PassedSlot::new(state.caller.line(slot));
        drop(state);
        Ok(Some(Pending { session: Some(Arc::clone(&self.session)), slot, passed }))
    }

    /// Why [`try_loan`](Client::try_loan) gave nothing, for who does not wait: an error with [`Full`](ErrorKind::Full).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// assert_eq!(client.full().kind(), wigwag::ErrorKind::Full);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn full(&self) -> Error {
        self.session.check_fork().err().unwrap_or_else(|| self.session.lock().caller.full())
    }

    /// A descriptor for one waiter: readable when a reply has come that was [asked for](Pending::arm), when a slot has
    /// come back that was wanted, and when the session has ended.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked); [`Io`](ErrorKind::Io) if there is no descriptor left.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let readiness = client.readiness()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn readiness(&self) -> Result<Readiness> {
        let session = &self.session;
        session.check_fork()?;
        let rings: Vec<BorrowedFd<'_>> =
            session.bell.iter().map(AsFd::as_fd).chain([session.returned.as_fd()]).collect();
        Readiness::new(session.life.as_fd(), &rings)
    }

    /// Takes in what a waiter's descriptor told of.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked), [`Io`](ErrorKind::Io). That the server is gone is no error here: those who wait
    /// learn of it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let mut readiness = client.readiness()?;
    /// client.listen(&mut readiness)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn listen(&self, readiness: &mut Readiness) -> Result<()> {
        self.session.check_fork()?;
        let has_events = readiness.take()?;
        self.session.lock().caller.look(has_events);
        Ok(())
    }

    /// Ends the session now, also for loans and calls that are still out: their memory stays until they are dropped.
    /// Whoever uses it later gets [`ServerClosed`](ErrorKind::ServerClosed).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// client.close();
    /// assert!(client.try_loan(8).is_err());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn close(&self) {
        self.session.give_back(|caller| {
            if !caller.connection.is_over() {
                caller.connection.end(CloseReason::Farewell(Reason::Shutdown, "the client has been closed".into()));
                caller.connection.hang_up();
            }
        });
    }

    /// Whether the session has ended, as far as is known; also in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// assert!(!client.is_over());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_over(&self) -> bool {
        self.session.fork.is_forked() || self.session.lock().caller.connection.is_over()
    }

    /// What has happened so far; nothing, in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// assert_eq!(client.stats().calls, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ClientStats {
        if self.session.fork.is_forked() {
            return ClientStats::default();
        }
        self.session.lock().caller.stats()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client")
            .field("slots", &self.slots())
            .field("capacity", &self.capacity())
            .field("is_over", &self.is_over())
            .finish()
    }
}

/// Memory of the session in this side's hands: to be filled, or with the reply in it, which is the next request if it
/// is sent again. Dropping it gives the slot back.
///
/// In a forked child its bytes must not be touched ([`is_inherited`](Loan::is_inherited)), unless
/// [`keep_memory_in_children`](crate::runtime::keep_memory_in_children) was called.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let server = wigwag::Server::bind(name)?;
/// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
/// let mut loan: wigwag::polled::Loan = client.try_loan(3)?.unwrap();
/// loan.copy_from_slice(b"abc");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a loan that is not sent does nothing"]
pub struct Loan {
    /// `None` once it is sent.
    session: Option<Arc<Session>>,
    loan: OwnedLoan,
}

impl Loan {
    /// The same slot for another number of bytes; they stay, up to the shorter length.
    ///
    /// # Errors
    /// [`CapacityExceeded`](ErrorKind::CapacityExceeded), [`Forked`](ErrorKind::Forked): it is as it was.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let mut loan = client.try_loan(3)?.unwrap();
    /// loan.copy_from_slice(b"abc");
    /// loan.resize(2)?;
    /// assert_eq!(&loan[..], b"ab");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn resize(&mut self, len: usize) -> Result<()> {
        let Some(session) = &self.session else { return Ok(()) };
        session.check_fork()?;
        session.lock().caller.resize(&mut self.loan, len)
    }

    /// Passes the memory to the server, with a deadline for it to see.
    ///
    /// # Errors
    /// [`PeerDied`](ErrorKind::PeerDied), [`ServerClosed`](ErrorKind::ServerClosed), [`Forked`](ErrorKind::Forked):
    /// nothing was executed.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let mut pending = client.try_loan(3)?.unwrap().send(None)?;
    /// assert!(pending.try_reply()?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send(mut self, deadline: Option<Instant>) -> Result<Pending> {
        let Some(session) = self.session.as_ref() else { return Err(Error::shutting_down()) };
        session.check_fork()?;
        self.loan.written();
        let state = session.lock();
        state.caller.send(&self.loan, deadline)?; // on an error it is still ours, and goes back with the drop
        let slot = self.loan.slot();
        let passed = PassedSlot::new(state.caller.line(slot));
        drop(state);
        Ok(Pending { session: self.session.take(), slot, passed })
    }

    /// Whether this is a forked child, which has none of the memory.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// assert!(!client.try_loan(3)?.unwrap().is_inherited());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_inherited(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.fork.is_forked())
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.loan
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.loan
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        session.give_back(|caller| caller.release(self.loan.marked_slot()));
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Loan").field("len", &self.loan.len()).field("slot", &self.loan.slot()).finish()
    }
}

/// A call that is with the server. Dropping it gives the call up: the slot comes back when the server is done with it.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let server = wigwag::Server::bind(name)?;
/// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
/// let pending: wigwag::polled::Pending = client.try_loan(3)?.unwrap().send(None)?;
/// drop(pending);
/// assert_eq!(client.stats().abandoned, 1);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "dropping it abandons the call"]
pub struct Pending {
    /// `None` once it has come to an end.
    session: Option<Arc<Session>>,
    slot: usize,
    passed: PassedSlot,
}

impl Pending {
    /// The reply, if it has come; then, and with an error, the call is over.
    ///
    /// # Errors
    /// As [`Loan::call`](crate::Loan::call), but the end of the server, which [`arm`](Pending::arm) tells of.
    /// [`Unanswered`](ErrorKind::Unanswered) for a call that is over.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let mut pending = client.try_loan(3)?.unwrap().send(None)?;
    /// server.recv()?.reply();
    /// assert_eq!(pending.try_reply()?.unwrap().len(), 3);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_reply(&mut self) -> Result<Option<Loan>> {
        let Some(session) = &self.session else { return Err(call_is_over()) };
        session.check_fork()?;
        if !self.passed.is_back() {
            return Ok(None);
        }
        let Some(outcome) = session.lock().caller.try_reply(self.slot) else { return Ok(None) };
        let Some(session) = self.session.take() else { return Ok(None) };
        match outcome {
            Ok(loan) => Ok(Some(Loan { session: Some(session), loan })),
            Err(error) => {
                session.give_back(|_| ()); // with an error the slot is free again
                Err(error)
            }
        }
    }

    /// Asks to be told: from now on each [`Readiness`] becomes readable when the reply comes. `false`: it has come
    /// meanwhile. Before each wait it has to be asked anew.
    ///
    /// # Errors
    /// [`PeerDied`](ErrorKind::PeerDied), [`ServerClosed`](ErrorKind::ServerClosed), both with whether the request may
    /// have been executed; [`Violation`](ErrorKind::Violation), [`Forked`](ErrorKind::Forked). The call is over.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let mut pending = client.try_loan(3)?.unwrap().send(None)?;
    /// assert!(pending.arm()?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn arm(&mut self) -> Result<bool> {
        let Some(session) = &self.session else { return Err(call_is_over()) };
        session.check_fork()?;
        let armed = session.lock().caller.arm(self.slot);
        armed.inspect_err(|_| {
            if let Some(session) = self.session.take() {
                session.give_back(|caller| caller.abandon(self.slot));
            }
        })
    }

    /// Looks `looks` times, without a clock, a lock or a system call. Whether it has come back.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let pending = client.try_loan(3)?.unwrap().send(None)?;
    /// assert!(!pending.glance(100));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn glance(&self, looks: u32) -> bool {
        !self.is_inherited() && self.passed.glance(looks)
    }

    /// Spins for a reply that may be nearer than a wake-up is long: up to some 50 microseconds, and not where that is
    /// in vain. Whether it has come back.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// let pending = client.try_loan(3)?.unwrap().send(None)?;
    /// assert!(!pending.spin());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn spin(&self) -> bool {
        let Some(session) = self.session.as_ref().filter(|_| !self.is_inherited()) else { return false };
        let budget = {
            let State { caller, spin_backoff, .. } = &mut *session.lock();
            let is_worth_it = caller.connection.is_worth_spinning() && spin_backoff.may_spin();
            is_worth_it.then(|| caller.connection.spin_budget())
        };
        let Some(budget) = budget else { return self.passed.is_back() };
        let has_paid = self.passed.spin_for(budget);
        let State { spin_backoff, .. } = &mut *session.lock();
        if has_paid {
            spin_backoff.succeeded()
        } else {
            spin_backoff.failed()
        }
        has_paid
    }

    fn is_inherited(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.fork.is_forked())
    }
}

#[cold]
fn call_is_over() -> Error {
    Error::new(ErrorKind::Unanswered, "this call is over: its reply was taken, or it ended with an error")
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        session.give_back(|caller| caller.abandon_armed(self.slot));
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pending").field("slot", &self.slot).field("is_over", &self.session.is_none()).finish()
    }
}

/// A server whose calls never wait.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
/// # let name = name.clone();
/// # let client = std::thread::spawn(move || wigwag::Client::connect(name)?.call(b"hello").map(|r| r.to_vec()));
/// let mut request = loop {
///     if let Some(request) = server.try_recv(true)? {
///         break request;
///     }
///     rustix::event::poll(&mut [rustix::event::PollFd::new(&server, rustix::event::PollFlags::IN)], None)
///         .expect("the descriptor is open");
///     server.listen()?;
/// };
/// request.make_ascii_uppercase();
/// request.reply();
/// # assert_eq!(client.join().unwrap()?, b"HELLO");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Server {
    readiness: OwnedFd,
    server: server::Server,
    polling_backoff: PollingBackoff,
}

impl Server {
    /// Makes one of a blocking server.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked); [`Io`](ErrorKind::Io) if there is no descriptor left.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(mut server: server::Server) -> Result<Server> {
        let readiness = server.worker()?.for_reactor()?;
        Ok(Server { readiness, server, polling_backoff: PollingBackoff::default() })
    }

    /// The next request, if one is there. `may_spin`: whether it may look for some 50 microseconds while a client is
    /// quick. Given `None`, wait until the descriptor is readable, and [`listen`](Server::listen).
    ///
    /// # Errors
    /// As [`Server::recv`](crate::Server::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert!(server.try_recv(true)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&mut self, may_spin: bool) -> Result<Option<Request>> {
        let worker = self.server.worker()?;
        match self.polling_backoff.next(worker, may_spin)? {
            Next::Request => Ok(Some(worker.take())),
            Next::Nothing => Ok(None),
            Next::Shutdown => Err(Error::shutting_down()),
        }
    }

    /// The next request of a client that was quick just now: looks `looks` times at memory, and mostly asks the system
    /// for nothing. `None` says nothing of slower clients.
    ///
    /// # Errors
    /// As [`try_recv`](Server::try_recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert!(server.glance(10)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn glance(&mut self, looks: u32) -> Result<Option<Request>> {
        let worker = self.server.worker()?;
        for _ in 0..looks {
            match worker.glance()? {
                Next::Request => {
                    let request = worker.take();
                    self.polling_backoff.note_found();
                    return Ok(Some(request));
                }
                Next::Nothing => std::hint::spin_loop(),
                Next::Shutdown => return Err(Error::shutting_down()),
            }
        }
        Ok(None)
    }

    /// Takes in what the descriptor told of.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked), [`Io`](ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// server.listen()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn listen(&mut self) -> Result<()> {
        self.server.worker()?.listen()
    }

    /// Ends the server in order, once [`try_recv`](Server::try_recv) has said that it is shut down and all requests are
    /// answered: says farewell to all clients, and removes the name.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the name could not be removed.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// server.end()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn end(&mut self) -> Result<()> {
        self.server.end_serving(Ok(()))
    }

    /// A handle that ends this server from another thread.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// server.shutdown_handle().shutdown();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.server.shutdown_handle()
    }

    /// What has happened so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert_eq!(server.stats().sessions, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// A handle that tells what has happened so far from other threads.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert_eq!(server.stats_handle().stats().sessions, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats_handle(&self) -> StatsHandle {
        self.server.stats_handle()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert_eq!(server.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        self.server.path()
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(out)
    }
}
