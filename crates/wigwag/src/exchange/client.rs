//! The client's face: connect, borrow memory that the server already has, pass it, get it back changed.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::free_slots::FreeSlots;
use crate::exchange::loan::{Loan, Reply};
use crate::faults::{self, Fault};
use crate::memory::layout::{Descriptor, INLINE_CAPACITY, Kind};
use crate::memory::segment::Line;
use crate::memory::slot::{self, Turn};
use crate::options::ConnectOptions;
use crate::session::close_reason::CloseReason;
use crate::session::connection::{Connection, count};
use crate::session::protocol::Reason;
use crate::stats::ClientStats;
use crate::sync::Ordering;
use crate::sys::clock;
use crate::wait::deadline::Deadline;

mod builder;
#[cfg(all(feature = "tokio", not(loom)))]
mod caller;

pub use crate::exchange::client::builder::ClientBuilder;

/// A connection to a server: one session, with memory that only the two share.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("invert").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| for b in r.iter_mut() { *b = !*b }));
/// let client = wigwag::Client::connect(name)?;
/// let mut loan = client.loan(3)?;                 // memory that the server already has
/// loan.copy_from_slice(&[0, 1, 2]);               // or build the data right there
/// let reply = loan.call()?;                       // the same memory, changed
/// assert_eq!(&reply[..], [255, 254, 253]);
/// # drop(reply); stop.shutdown(); thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
///
/// It may move to another thread, but two threads cannot share one: [`try_clone`](Client::try_clone) gives each its own
/// session. Dropping it ends the session. When the server dies, every waiting call ends with
/// [`PeerDied`](ErrorKind::PeerDied) within milliseconds, and every later one at once; connect anew to go on.
pub struct Client {
    pub(crate) connection: Connection,
    free: FreeSlots,
    /// The sequence of each slot's last request: private, so no word of the peer's decides what we accept.
    sequences: Box<[Cell<u64>]>,
    pub(crate) counters: Counters,
    name: OsString,
    builder: ClientBuilder,
}

/// Each is changed by this client alone.
#[derive(Default)]
pub(crate) struct Counters {
    calls: Cell<u64>,
    abandoned: Cell<u64>,
}

impl Client {
    /// Connects to a server of the same user, and waits for it to answer for up to 5 seconds.
    ///
    /// A name is looked for in the user's runtime directory; a path that begins with `/`, `./` or `../` is taken as it
    /// is.
    ///
    /// # Errors
    /// [`NotRunning`](ErrorKind::NotRunning), [`Refused`](ErrorKind::Refused),
    /// [`ContractMismatch`](ErrorKind::ContractMismatch), [`VersionMismatch`](ErrorKind::VersionMismatch),
    /// [`TimedOut`](ErrorKind::TimedOut), [`PeerDied`](ErrorKind::PeerDied), [`NameInvalid`](ErrorKind::NameInvalid),
    /// [`PathInvalid`](ErrorKind::PathInvalid), [`DirectoryUnsafe`](ErrorKind::DirectoryUnsafe),
    /// [`Violation`](ErrorKind::Violation), [`Io`](ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("none").path;
    /// let error = wigwag::Client::connect(name).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<Client> {
        Client::builder().connect(name)
    }

    /// As [`connect`](Client::connect), with a time of your own for the server to answer.
    ///
    /// # Errors
    /// As [`connect`](Client::connect).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("quick").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect_timeout(name, std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect_timeout(name: impl AsRef<OsStr>, timeout: Duration) -> Result<Client> {
        Client::builder().timeout(timeout).connect(name)
    }

    /// A client with wishes of its own.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("small").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().slots(2).capacity(4096).connect(name)?;
    /// assert_eq!((client.slots(), client.capacity()), (2, 4096));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> ClientBuilder {
        ConnectOptions::default().into()
    }

    /// The largest payload in bytes, request or reply.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("c").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::Client::connect(name)?.capacity(), 1 << 20);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.connection.geometry().capacity
    }

    /// How many calls can be in flight at a time.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("c").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::Client::connect(name)?.slots(), 16);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn slots(&self) -> usize {
        self.connection.geometry().slots
    }

    /// Borrows `len` bytes of memory that the server already has. While all slots are out it waits for an abandoned
    /// call's.
    ///
    /// The bytes are what a former call left there, zero at first. Up to 48 bytes lie in the slot's own cache line,
    /// aligned to 16; more lie in the slot's body, aligned to 4,096.
    ///
    /// # Errors
    /// [`CapacityExceeded`](ErrorKind::CapacityExceeded); [`Full`](ErrorKind::Full) when all slots are held by this
    /// thread's own loans, pendings and replies, so that waiting would never end; [`PeerDied`](ErrorKind::PeerDied),
    /// [`ServerClosed`](ErrorKind::ServerClosed), [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let mut loan = client.loan(5)?;
    /// loan.copy_from_slice(b"hello");
    /// drop(loan); // not sent: the slot is free again
    /// let error = client.loan(client.capacity() + 1).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::CapacityExceeded { len: (1 << 20) + 1, capacity: 1 << 20 });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn loan(&self, len: usize) -> Result<Loan<'_>> {
        self.loan_until(len, Deadline::Never)
    }

    /// As [`loan`](Client::loan), but never waits.
    ///
    /// # Errors
    /// As [`loan`](Client::loan); [`Full`](ErrorKind::Full) while all slots are out.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().slots(1).connect(name)?;
    /// let held = client.try_loan(8)?;
    /// assert_eq!(client.try_loan(8).unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_loan(&self, len: usize) -> Result<Loan<'_>> {
        self.loan_until(len, Deadline::Now)
    }

    /// As [`loan`](Client::loan), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As [`loan`](Client::loan); [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().slots(1).connect(name)?;
    /// drop(client.loan(8)?.send()?); // abandoned, and nobody serves it
    /// let error = client.loan_timeout(8, std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: false });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn loan_timeout(&self, len: usize, timeout: Duration) -> Result<Loan<'_>> {
        self.loan_until(len, Deadline::after(timeout))
    }

    /// Copies a request in, calls, and gives the reply: the short form of [`loan`](Client::loan), fill and
    /// [`Loan::call`].
    ///
    /// # Errors
    /// As [`loan`](Client::loan) and [`Loan::call`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("u").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|r| r.make_ascii_uppercase()));
    /// let client = wigwag::Client::connect(name)?;
    /// assert_eq!(&client.call(b"hello")?[..], b"HELLO");
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call(&self, request: &[u8]) -> Result<Reply<'_>> {
        let mut loan = self.loan(request.len())?;
        loan.copy_from_slice(request);
        loan.call()
    }

    /// As [`call`](Client::call), but gives up after `timeout`.
    ///
    /// # Errors
    /// As [`call`](Client::call); [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let server = wigwag::Server::bind(name)?; // and nobody serves
    /// let client = wigwag::Client::connect(name)?;
    /// let error = client.call_timeout(b"hello", std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_timeout(&self, request: &[u8], timeout: Duration) -> Result<Reply<'_>> {
        let deadline = clock::deadline_after(timeout);
        let mut loan = self.loan_until(request.len(), deadline.into())?;
        loan.copy_from_slice(request);
        loan.call_until(deadline)
    }

    /// A new session to the same server, with the same wishes: for another thread, or to reconnect after
    /// [`PeerDied`](ErrorKind::PeerDied).
    ///
    /// # Errors
    /// As [`connect`](Client::connect).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("cl").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let other = client.try_clone()?;
    /// std::thread::spawn(move || other.capacity()).join().unwrap();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<Client> {
        self.builder.clone().connect(&self.name)
    }

    /// What has happened so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("st").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::Client::connect(name)?.stats().calls, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ClientStats {
        let (spins_paid, spins_in_vain) = self.connection.spins();
        let in_flight = if self.connection.is_forked() { 0 } else { self.connection.in_flight() as u64 };
        ClientStats {
            spins_paid,
            spins_in_vain,
            in_flight,
            calls: self.counters.calls.get(),
            doorbells_rung: self.connection.doorbells_rung(),
            sleeps: self.connection.sleeps(),
            abandoned: self.counters.abandoned.get(),
        }
    }

    /// How values become bytes in this session.
    #[cfg(feature = "serde")]
    pub(crate) fn encoding(&self) -> crate::contract::Encoding {
        self.builder.encoding()
    }

    #[inline(always)]
    fn loan_until(&self, len: usize, deadline: Deadline) -> Result<Loan<'_>> {
        self.check_loan(len)?;
        let slot = match self.free.take() {
            Some(slot) => slot,
            None => self.wait_for_slot(deadline)?,
        };
        Ok(self.lend(slot, len))
    }

    /// Whether a payload of that length is possible, while the session is; takes back what came back by itself.
    #[inline(always)]
    pub(crate) fn check_loan(&self, len: usize) -> Result<()> {
        if len > self.capacity() {
            return Err(Error::capacity(len, self.capacity()));
        }
        if self.connection.is_forked() {
            return Err(Error::forked());
        }
        if self.connection.is_over() {
            self.connection.check_alive(false)?;
        }
        if self.free.has_abandoned() {
            self.reclaim();
        }
        Ok(())
    }

    #[inline(always)]
    fn lend(&self, slot: usize, len: usize) -> Loan<'_> {
        if self.free.deepen(slot) {
            self.publish_depth();
        }
        Loan::new(self, slot, len)
    }

    #[cold]
    fn wait_for_slot(&self, deadline: Deadline) -> Result<usize> {
        let mut was_last_look = false;
        loop {
            self.reclaim();
            if let Some(slot) = self.free.take() {
                return Ok(slot);
            }
            if !self.free.has_abandoned() || matches!(deadline, Deadline::Now) {
                self.connection.hear(Deadline::Now)?;
                self.connection.check_alive(false)?;
                return Err(self.full());
            }
            self.connection.check_alive(false)?;
            if was_last_look {
                return Err(Error::timed_out(false));
            }
            was_last_look = deadline.is_over();
            // Asked before sleeping: a reply that came before shows in the word, one that comes after rings.
            let mut came = false;
            self.free.for_each_abandoned(|slot| came |= !self.connection.ask_for_wake(slot).is_server());
            if !came {
                self.connection.sleep(deadline)?;
            }
        }
    }

    /// Takes back the slots of abandoned calls that the server is done with.
    #[cold]
    pub(crate) fn reclaim(&self) {
        let segment = self.connection.segment();
        if self.free.reclaim(|slot| !slot::load(&segment.line(slot).turn).is_server()) {
            self.publish_depth();
        }
    }

    #[cold]
    pub(crate) fn full(&self) -> Error {
        Error::new(
            ErrorKind::Full,
            format!(
                "all {} slots of this client are out, in loans, replies not dropped yet, or calls in flight; drop or \
                 wait for one, or \
                 connect with more (ClientBuilder::slots)",
                self.slots()
            ),
        )
    }

    /// The sequence of the next request in a slot.
    #[inline(always)]
    pub(crate) fn next_sequence(&self, slot: usize) -> u64 {
        slot::next_sequence(self.sequences[slot].get())
    }

    /// The sequence of the last request in a slot.
    #[inline(always)]
    pub(crate) fn last_sequence(&self, slot: usize) -> u64 {
        self.sequences[slot].get()
    }

    /// Passes a slot to the server as request `sequence`, the slot's next, and rings if it sleeps. `deadline` is for
    /// the server to see.
    #[inline(always)]
    pub(crate) fn send(&self, slot: usize, line: &Line, sequence: u64, len: usize, deadline: Option<Instant>) {
        let segment = self.connection.segment();
        if let Some(at) = deadline {
            segment.deadline(slot).store(clock::instant_to_ns(at), Ordering::Relaxed); // published by the turn
        }
        let head = Descriptor {
            len: len as u32,
            kind: Kind::Request,
            in_body: len > INLINE_CAPACITY,
            has_deadline: deadline.is_some(),
        };
        self.connection.pass_turn(line, head, sequence);
        self.sequences[slot].set(sequence); // noted after the pass, when there is time
        count(&self.counters.calls);
    }

    /// Waits for the reply to request `sequence` of a slot, its last, and takes it; on an error the call is given up.
    #[inline(always)]
    pub(crate) fn finish(
        &self,
        slot: usize,
        line: &Line,
        sequence: u64,
        deadline: Option<Instant>,
    ) -> Result<Reply<'_>> {
        let turn = match self.connection.wait_briefly(line) {
            Some(turn) => turn,
            None => self.wait_patiently(slot, line, deadline)?,
        };
        self.accept_turn(slot, line, sequence, turn)
    }

    #[cold]
    fn wait_patiently(&self, slot: usize, line: &Line, deadline: Option<Instant>) -> Result<Turn> {
        self.connection.wait_patiently(line, deadline.into()).inspect_err(|_| self.abandon(slot))?;
        Ok(slot::load(&line.turn))
    }

    /// Checks and takes the reply in a slot whose turn has come back. On an error the slot is free again.
    #[inline(always)]
    pub(crate) fn accept(&self, slot: usize, line: &Line) -> Result<Reply<'_>> {
        self.accept_turn(slot, line, self.last_sequence(slot), slot::load(&line.turn))
    }

    /// As [`Client::accept`], with what the caller has at hand: the turn that came, and the request's sequence.
    #[inline(always)]
    fn accept_turn(&self, slot: usize, line: &Line, sequence: u64, turn: Turn) -> Result<Reply<'_>> {
        // Relaxed: acquired with the turn. Read once; only the local is looked at.
        let word = line.head.load(Ordering::Relaxed);
        let mut head = Descriptor::of_kind(word, Kind::Reply, self.capacity());
        if turn.sequence() != sequence {
            head = None;
        }
        if faults::is(Fault::UncheckedReply) {
            head = Descriptor::parse(word).filter(|head| head.kind == Kind::Reply);
        }
        let Some(head) = head else { return Err(self.not_a_reply(slot, turn, word)) };
        let again = faults::is(Fault::ReplyDoubleFetch).then(|| {
            faults::widen_window();
            line.head.load(Ordering::Relaxed)
        });
        Ok(Reply::new(self, slot, line, again.and_then(Descriptor::parse).unwrap_or(head)))
    }

    #[cold]
    fn not_a_reply(&self, slot: usize, turn: Turn, word: u64) -> Error {
        let segment = self.connection.segment();
        let error = match Descriptor::parse(word) {
            Some(head)
                if head.kind.is_failure()
                    && head.fits(self.capacity())
                    && turn.sequence() == self.sequences[slot].get() =>
            {
                let mut text = vec![0; head.len as usize];
                segment.copy_out(slot, head.in_body, &mut text);
                // Whatever the server says, it does not steer a terminal.
                let keep = |c: char| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c };
                let text: String = String::from_utf8_lossy(&text).chars().map(keep).collect();
                match head.kind {
                    Kind::Failed => Error::new(ErrorKind::HandlerFailed, text),
                    Kind::Panicked => {
                        Error::new(ErrorKind::HandlerPanicked, format!("the server's handler panicked: {text}"))
                    }
                    _ => Error::new(ErrorKind::Unanswered, "the server dropped the request without an answer"),
                }
            }
            _ => {
                let why = format!("slot {slot} came back with {turn:?} and head {word:#x}");
                self.connection.end(CloseReason::Farewell(Reason::Violation, why.clone()));
                Error::new(ErrorKind::Violation, format!("the server broke the protocol: {why}"))
            }
        };
        self.release(slot);
        error
    }

    /// A slot comes back unsent, or its reply is done with.
    #[inline(always)]
    pub(crate) fn release(&self, slot: usize) {
        if self.free.give_back(slot) {
            self.publish_depth();
        }
    }

    /// What lies in a slot as the payload of its last request; nothing, in a forked child or if there is no memory for
    /// it. The server may be writing there, so each byte is read once and none is believed.
    #[cold]
    pub(crate) fn copy_payload(&self, slot: usize, len: usize) -> Option<Vec<u8>> {
        if self.connection.is_forked() {
            return None;
        }
        let mut payload = Vec::new();
        payload.try_reserve_exact(len).ok()?;
        payload.resize(len, 0);
        self.connection.segment().copy_out(slot, len > INLINE_CAPACITY, &mut payload);
        Some(payload)
    }

    /// The caller does not want the reply of a slot any more.
    pub(crate) fn abandon(&self, slot: usize) {
        if self.connection.is_forked() {
            return;
        }
        count(&self.counters.abandoned);
        if slot::abandon(&self.connection.segment().line(slot).turn).is_server() {
            self.connection.ring_for_abandonment();
            if !faults::is(Fault::ForgottenSlot) {
                self.free.abandon(slot);
            }
        } else {
            self.release(slot);
        }
    }

    /// Tells the server how many slot lines to look at.
    ///
    /// Relaxed: a larger depth is ordered before the pass of the slot by that pass's SeqCst swap, and so before the
    /// look of a server that was woken by it or that looks a last time.
    #[cold]
    fn publish_depth(&self) {
        if self.connection.is_forked() {
            return; // the memory is not there
        }
        self.connection.segment().client_line().depth.store(self.free.depth() as u32, Ordering::Relaxed);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client")
            .field("name", &self.name)
            .field("slots", &self.slots())
            .field("capacity", &self.capacity())
            .field("is_over", &self.connection.is_over())
            .finish()
    }
}
