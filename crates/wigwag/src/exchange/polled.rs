//! The exchange for an event loop of any kind, and for other languages: no step waits, and nothing is borrowed.
//!
//! All private state of a client is behind one lock, held for the time of a few stores, so any number of threads may
//! share it. A thread that waits has a [`Readiness`] of its own.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::carrying::{Fate, is_end, too_small};
use crate::exchange::client;
use crate::exchange::owned_loan::OwnedLoan;
use crate::exchange::passed_slot::PassedSlot;
pub use crate::exchange::polled::following::Search;
use crate::exchange::polled::following::{Sessions, Strand, Stranded, Succession, closed, is_given_up};
pub use crate::exchange::polled::server::Server;
use crate::exchange::polled::session::{Session, State};
use crate::stats::ClientStats;
use crate::wait::edge_readiness::Readiness;

mod following;
mod server;
mod session;

/// A client whose calls never wait: for event loops, and for other languages.
///
/// One session for all threads that share it. Its loans keep the session alive, so they may outlive the client.
///
/// One that was told to [outlive its servers](crate::ClientBuilder::follow_restarts) does so here, too: the steps that
/// look for a loan or for a reply take the search for the next server on, and [`watch`](Client::watch) has a waiter's
/// descriptor tell of it.
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
    sessions: Sessions,
}

impl Client {
    /// Makes one of a blocking client. One that outlives its servers
    /// ([`follow_restarts`](crate::ClientBuilder::follow_restarts)) goes on doing so.
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
        let (caller, name, builder) = client.into_parts();
        let sessions = Sessions::new(Session::new(caller)?, &name, builder.as_options())?;
        Ok(Client { sessions })
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
        self.of_current(|state| state.caller.capacity())
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
        self.of_current(|state| state.caller.slots())
    }

    /// What the current session was granted; in a forked child nothing.
    fn of_current(&self, ask: impl FnOnce(&State) -> usize) -> usize {
        self.sessions.current().map_or(0, |session| ask(&session.lock()))
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
        self.try_loan_while(len, &mut Search::default())
    }

    /// As [`try_loan`](Client::try_loan), for who looks again and again until there is one, with the same `search`. Of
    /// a client that outlives its servers `None` may also say that a server is looked for.
    ///
    /// # Errors
    /// As [`try_loan`](Client::try_loan); [`PeerDied`](ErrorKind::PeerDied) and
    /// [`ServerClosed`](ErrorKind::ServerClosed) once no server was found for as long as the client looks for one.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().reconnect(std::time::Duration::from_secs(5)).connect(name)?;
    /// let client = wigwag::polled::Client::from_blocking(client)?;
    /// let mut search = wigwag::polled::Search::default();
    /// drop(server);
    /// assert!(client.try_loan_while(8, &mut search)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_loan_while(&self, len: usize, search: &mut Search) -> Result<Option<Loan>> {
        let found = match &self.sessions {
            Sessions::One(session) => session.try_loan(len)?.map(|loan| (Arc::clone(session), loan)),
            Sessions::Outliving(succession) => succession.try_loan(len, search)?,
        };
        let succession = || self.sessions.succession().cloned();
        Ok(found.map(|(session, loan)| Loan { session: Some(session), succession: succession(), loan }))
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
        let session = match &self.sessions {
            Sessions::One(session) => session,
            // What becomes of the bytes if there is another server by now, the loan knows.
            Sessions::Outliving(_) => {
                let Some(mut loan) = self.try_loan(len)? else { return Ok(None) };
                write(&mut loan)?;
                return Ok(Some(loan.send(deadline)?));
            }
        };
        session.check_fork()?;
        let state = session.lock();
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
        Ok(Some(Pending { session: Some(Arc::clone(session)), slot, passed, len, succession: None, stranded: None }))
    }

    /// Why [`try_loan`](Client::try_loan) gave nothing, for who does not wait: an error with [`Full`](ErrorKind::Full),
    /// or that the server has ended, and its successor is looked for.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// assert_eq!(client.full().kind(), wigwag::ErrorKind::Full);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn full(&self) -> Error {
        let session = match self.sessions.current() {
            Ok(session) => session,
            Err(error) => return error,
        };
        let state = session.lock();
        state.caller.connection.check_alive(false).err().unwrap_or_else(|| state.caller.full())
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
        let session = self.sessions.current()?;
        let (life, rings) = session.descriptors();
        let mut readiness = Readiness::new(life, &rings)?;
        if let Some(succession) = self.sessions.succession() {
            readiness.watch_ring(succession.bell())?;
            succession.watch(&mut readiness)?;
        }
        Ok(readiness)
    }

    /// Before each wait, after a step that found nothing: of a client that outlives its servers, the waiter's
    /// descriptor is to tell of what the next step needs, which may be another session, or the search for one.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked); [`Io`](ErrorKind::Io) if there is no memory for it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().follow_restarts(std::time::Duration::from_secs(5)).connect(name)?;
    /// let client = wigwag::polled::Client::from_blocking(client)?;
    /// let mut readiness = client.readiness()?;
    /// client.watch(&mut readiness)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn watch(&self, readiness: &mut Readiness) -> Result<()> {
        self.sessions.succession().map_or(Ok(()), |succession| succession.watch(readiness))
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
        let session = self.sessions.current()?;
        let has_events = readiness.take()?;
        session.lock().caller.look(has_events);
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
        match &self.sessions {
            Sessions::One(session) => session.close(),
            Sessions::Outliving(succession) => succession.close(),
        }
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
        self.sessions.current().map_or(true, |session| session.is_over())
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
        self.sessions.stats()
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
    /// There if the client outlives its server.
    succession: Option<Arc<Succession>>,
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
    /// nothing was executed. Of a client that outlives its servers the loan goes to the next one, and the
    /// [`Pending`] says that there is none, or that its capacity is too small.
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
        let sent = state.caller.send(&self.loan, deadline); // on an error it is still ours, and goes back with the drop
        let (slot, len) = (self.loan.slot(), self.loan.len());
        let passed = PassedSlot::new(state.caller.line(slot));
        drop(state);
        let stranded = match sent {
            Ok(()) => None,
            Err(error) if self.succession.is_some() && is_end(&error) && !self.loan.is_marked() => {
                Some(Stranded::new(Strand::Unpassed(self.loan.take(), deadline)))
            }
            Err(error) => return Err(error),
        };
        let (session, succession) = (self.session.take(), self.succession.take());
        let mut pending = Pending { session, slot, passed, len, succession, stranded };
        pending.go_on()?; // to the successor, if there is one
        Ok(pending)
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
        self.session.as_ref().is_some_and(|session| session.is_forked())
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
    /// Of the request.
    len: usize,
    /// There if the client outlives its server.
    succession: Option<Arc<Succession>>,
    /// There while the call is with no server: its own has ended.
    stranded: Option<Box<Stranded>>,
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
        if self.stranded.is_some() && !self.go_on()? {
            return Ok(None);
        }
        let Some(session) = &self.session else { return Err(call_is_over()) };
        session.check_fork()?;
        if !self.passed.is_back() {
            return Ok(None);
        }
        let Some(outcome) = session.lock().caller.try_reply(self.slot) else { return Ok(None) };
        let Some(session) = self.session.take() else { return Ok(None) };
        match outcome {
            Ok(loan) => Ok(Some(Loan { session: Some(session), succession: self.succession.take(), loan })),
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
    /// have been executed; [`Violation`](ErrorKind::Violation), [`Forked`](ErrorKind::Forked). The call is over. Of a
    /// client that [follows](crate::ClientBuilder::follow_restarts) a call that nobody has begun goes on at the next
    /// server instead, and [`CapacityExceeded`](ErrorKind::CapacityExceeded) says that it does not fit there.
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
        loop {
            if self.stranded.is_some() && !self.go_on()? {
                return Ok(true);
            }
            let Some(session) = &self.session else { return Err(call_is_over()) };
            session.check_fork()?;
            let armed = session.lock().caller.arm(self.slot);
            let error = match armed {
                Ok(is_armed) => return Ok(is_armed),
                Err(error) => error,
            };
            if !is_end(&error) || !self.succession.as_ref().is_some_and(|succession| succession.passes_again()) {
                self.give_up();
                return Err(error);
            }
            self.stranded = Some(Stranded::new(Strand::Undecided(error, None)));
        }
    }

    /// Whether a server has the request, or may have begun it. `false`: it is on its way to the next one, and was
    /// certainly not executed.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
    /// assert!(client.try_loan(3)?.unwrap().send(None)?.may_be_executed());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn may_be_executed(&self) -> bool {
        self.stranded.as_ref().is_none_or(|stranded| matches!(stranded.state, Strand::Undecided(..)))
    }

    /// A step of a call whose server has ended: whether a server has it now, or its reply is there. With an error it is
    /// given up.
    #[cold]
    fn go_on(&mut self) -> Result<bool> {
        let (Some(session), Some(succession)) = (self.session.clone(), self.succession.clone()) else {
            return Ok(true);
        };
        let Some(mut stranded) = self.stranded.take() else { return Ok(true) };
        let outcome = session.check_fork().and_then(|()| self.settle(&session, &succession, &mut stranded));
        match outcome {
            Ok(true) => {}
            Ok(false) => self.stranded = Some(stranded),
            Err(_) => {
                self.stranded = Some(stranded);
                self.give_up();
            }
        }
        outcome
    }

    /// The step: first what is known of the call, then the search for a server, then the pass.
    fn settle(
        &mut self,
        session: &Arc<Session>,
        succession: &Arc<Succession>,
        stranded: &mut Stranded,
    ) -> Result<bool> {
        if let Strand::Undecided(error, ending) = &mut stranded.state {
            let fate = session.lock().caller.fate(self.slot);
            if fate == Fate::Undecided {
                if ending.is_none() {
                    *ending = succession.begin_ending(session)?;
                }
                if succession.is_closed() {
                    return Err(closed(true));
                }
                if !is_given_up(ending.as_ref()) {
                    return Ok(false);
                }
            }
            ending.iter().for_each(|ending| succession.forget_ending(ending));
            match fate {
                Fate::Answered => return Ok(true),
                Fate::Over => return Err(std::mem::replace(error, call_is_over())),
                Fate::Undecided => {
                    let fate = "its process has not ended since, so that the request may be executed still";
                    return Err(session.lock().caller.connection.end_told(true, fate));
                }
                Fate::NotBegun => {}
            }
            let told = session.lock().caller.told_deadline(self.slot);
            stranded.state = Strand::NotBegun(told);
        }
        loop {
            let next = match succession.successor(&mut stranded.search) {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(false),
                Err(why) if succession.is_final(&why) => return Err(why),
                Err(why) => {
                    let caller = &session.lock().caller;
                    return Err(match stranded.state {
                        Strand::Unpassed(..) => caller.not_replaced(&why.to_string()),
                        _ => caller.not_moved(&why.to_string()),
                    });
                }
            };
            let capacity = next.lock().caller.capacity();
            if self.len > capacity {
                return Err(too_small(self.len, capacity));
            }
            let loan = match next.try_loan(self.len) {
                Ok(Some(loan)) => loan,
                Ok(None) => return Ok(false),
                Err(why) if is_end(&why) => continue, // this one has ended, too
                Err(why) => return Err(why),
            };
            if self.pass_on(session, succession, &next, loan, &mut stranded.state)? {
                return Ok(true);
            }
        }
    }

    /// Passes the request to a server that lives as far as is known. `false`: it has ended, too.
    fn pass_on(
        &mut self,
        session: &Arc<Session>,
        succession: &Arc<Succession>,
        next: &Arc<Session>,
        mut loan: OwnedLoan,
        state: &mut Strand,
    ) -> Result<bool> {
        match state {
            Strand::Unpassed(own, _) => loan.copy_from_slice(own),
            _ => session.lock().caller.copy_call(self.slot, &mut loan),
        }
        loan.written();
        let at_next = next.lock();
        let sent = match *state {
            Strand::Unpassed(_, deadline) => at_next.caller.send(&loan, deadline),
            Strand::NotBegun(told) => at_next.caller.send_again(&loan, told),
            Strand::Undecided(..) => return Ok(false), // it is decided before
        };
        if let Err(why) = sent {
            drop(at_next);
            next.give_back(|caller| caller.release(loan.marked_slot()));
            return if is_end(&why) { Ok(false) } else { Err(why) };
        }
        let passed = PassedSlot::new(at_next.caller.line(loan.slot()));
        drop(at_next);
        match state {
            Strand::Unpassed(own, _) => session.give_back(|caller| caller.release(own.marked_slot())),
            _ => {
                session.lock().caller.leave(self.slot);
                succession.count_moved();
            }
        }
        (self.passed, self.slot) = (passed, loan.slot());
        self.session = Some(Arc::clone(next)); // the former one may go with this: nothing points into it any more
        Ok(true)
    }

    /// Nobody waits for it any more.
    fn give_up(&mut self) {
        let Some(session) = self.session.take() else { return };
        match self.stranded.take().map(|stranded| stranded.state) {
            Some(Strand::Unpassed(own, _)) => session.give_back(|caller| caller.release(own.marked_slot())),
            _ => session.give_back(|caller| caller.abandon_armed(self.slot)),
        }
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
        !self.is_inherited() && self.stranded.is_none() && self.passed.glance(looks)
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
        let is_with_server = !self.is_inherited() && self.stranded.is_none();
        let Some(session) = self.session.as_ref().filter(|_| is_with_server) else { return false };
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
        self.session.as_ref().is_none_or(|session| session.is_forked())
    }
}

#[cold]
fn call_is_over() -> Error {
    Error::new(ErrorKind::Unanswered, "this call is over: its reply was taken, or it ended with an error")
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pending").field("slot", &self.slot).field("is_over", &self.session.is_none()).finish()
    }
}
