//! The client's face: connect, borrow memory that the server already has, pass it, get it back changed.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::{Duration, Instant};

use crate::control::attach::{Attachment, KEY_BELL, KEY_SOCKET};
use crate::control::protocol::{FromServer, Reason};
use crate::doorbell::Waiting;
use crate::error::{Error, ErrorKind, Result};
use crate::free_slots::FreeSlots;
use crate::layout::{Head, INLINE_CAPACITY, Kind};
use crate::loan::{Loan, Reply};
use crate::planted::{self, Fault};
use crate::segment::{Line, Segment};
use crate::slot;
use crate::stats::ClientStats;
use crate::sync::Ordering;
use crate::sys::fork::ForkGuard;
use crate::sys::poller::Events;
use crate::sys::socket::{self, MESSAGE_MAX};
use crate::sys::{clock, cpu};
use crate::wait::{ReplyPatience, THINK_UNKNOWN, Wait};

mod builder;

pub use builder::ClientBuilder;

/// A connection to a server: one session, with memory that only the two share.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("invert"); let name = &name;
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
    attachment: Attachment,
    free: FreeSlots,
    /// The sequence of each slot's last request: private, so no word of the peer's decides what we accept.
    sequences: Box<[Cell<u64>]>,
    wait: Wait,
    fork: ForkGuard,
    /// Whether the server slept when something was passed to it since the last reply: then waiting means sleeping.
    server_slept: Cell<bool>,
    /// When the last reply came, if the clock had to be read anyway.
    last_reply_at: Cell<Option<Instant>>,
    patience: RefCell<ReplyPatience>,
    /// Whether spinning can pay at all: not for [`Wait::Park`], and not on the one processor that both sides are pinned to.
    may_ever_spin: Cell<bool>,
    /// Whether it can pay now: not while the server was last seen on this very processor.
    may_spin: Cell<bool>,
    events: RefCell<Events>,
    ended: RefCell<Option<Ended>>,
    /// Whether `ended` says something.
    is_over: Cell<bool>,
    /// Looks of those who poll; see [`Client::seems_alive`].
    polls: Cell<u32>,
    pub(crate) counters: Counters,
    name: OsString,
    builder: ClientBuilder,
}

/// Each is changed by this client alone.
#[derive(Default)]
pub(crate) struct Counters {
    calls: Cell<u64>,
    doorbells_rung: Cell<u64>,
    sleeps: Cell<u64>,
    abandoned: Cell<u64>,
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Why a session is over.
#[derive(Clone, Debug)]
enum Ended {
    Died,
    Farewell(Reason, String),
}

/// Spins before the clock is read for the first time: most replies of an awake server come within these.
const SPINS_BEFORE_CLOCK: u32 = 128;
/// Spins between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 64;
/// Looks in vain of someone who polls, between two looks whether the server lives.
const POLLS_PER_LIFE_SIGN: u32 = 256;
/// Messages of the server that are read at a time: one that floods does not hold up a deadline.
const NEWS_AT_A_TIME: usize = 64;
/// Spins between two looks whether the server lives, for [`Wait::Spin`].
const SPINS_PER_LIFE_SIGN: u32 = 1 << 13;
/// Sleeps between two looks at this thread's own affinity.
const SLEEPS_PER_AFFINITY: u64 = 64;

impl Client {
    /// Connects to a server of the same user, and waits for it to answer for up to 5 seconds.
    ///
    /// A name is looked for in the user's runtime directory; a path that begins with `/`, `./` or `../` is taken as it is.
    ///
    /// # Errors
    /// [`NotRunning`](ErrorKind::NotRunning), [`Refused`](ErrorKind::Refused), [`ContractMismatch`](ErrorKind::ContractMismatch),
    /// [`VersionMismatch`](ErrorKind::VersionMismatch), [`TimedOut`](ErrorKind::TimedOut), [`PeerDied`](ErrorKind::PeerDied),
    /// [`NameInvalid`](ErrorKind::NameInvalid), [`PathInvalid`](ErrorKind::PathInvalid),
    /// [`DirectoryUnsafe`](ErrorKind::DirectoryUnsafe), [`Violation`](ErrorKind::Violation), [`Io`](ErrorKind::Io).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("none"); let name = &name;
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
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("quick"); let name = &name;
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
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("small"); let name = &name;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().slots(2).capacity(4096).connect(name)?;
    /// assert_eq!((client.slots(), client.capacity()), (2, 4096));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// The largest payload in bytes, request or reply.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("c"); let name = &name;
    /// # let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::Client::connect(name)?.capacity(), 1 << 20);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.attachment.segment.geometry().capacity
    }

    /// How many calls can be in flight at a time.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("c"); let name = &name;
    /// # let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::Client::connect(name)?.slots(), 16);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn slots(&self) -> usize {
        self.attachment.segment.geometry().slots
    }

    /// Borrows `len` bytes of memory that the server already has. While all slots are out it waits for an abandoned call's.
    ///
    /// The bytes are what a former call left there, zero at first. Up to 48 bytes lie in the slot's own cache line, aligned
    /// to 16; more lie in the slot's body, aligned to 4,096.
    ///
    /// # Errors
    /// [`CapacityExceeded`](ErrorKind::CapacityExceeded); [`Full`](ErrorKind::Full) when all slots are held by this thread's own
    /// loans, pendings and replies, so that waiting would never end; [`PeerDied`](ErrorKind::PeerDied),
    /// [`ServerClosed`](ErrorKind::ServerClosed), [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("l"); let name = &name;
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
        self.loan_until(len, Patience::Forever)
    }

    /// As [`loan`](Client::loan), but never waits.
    ///
    /// # Errors
    /// As [`loan`](Client::loan); [`Full`](ErrorKind::Full) while all slots are out.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("l"); let name = &name;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().slots(1).connect(name)?;
    /// let held = client.try_loan(8)?;
    /// assert_eq!(client.try_loan(8).unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_loan(&self, len: usize) -> Result<Loan<'_>> {
        self.loan_until(len, Patience::None)
    }

    /// As [`loan`](Client::loan), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As [`loan`](Client::loan); [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("l"); let name = &name;
    /// # let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::builder().slots(1).connect(name)?;
    /// drop(client.loan(8)?.send()?); // abandoned, and nobody serves it
    /// let error = client.loan_timeout(8, std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: false });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn loan_timeout(&self, len: usize, timeout: Duration) -> Result<Loan<'_>> {
        self.loan_until(len, clock::deadline_after(timeout).map_or(Patience::Forever, Patience::Until))
    }

    /// Copies a request in, calls, and gives the reply: the short form of [`loan`](Client::loan), fill and [`Loan::call`].
    ///
    /// # Errors
    /// As [`loan`](Client::loan) and [`Loan::call`].
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("u"); let name = &name;
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
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("t"); let name = &name;
    /// # let server = wigwag::Server::bind(name)?; // and nobody serves
    /// let client = wigwag::Client::connect(name)?;
    /// let error = client.call_timeout(b"hello", std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_timeout(&self, request: &[u8], timeout: Duration) -> Result<Reply<'_>> {
        let deadline = clock::deadline_after(timeout);
        let mut loan = self.loan_until(request.len(), deadline.map_or(Patience::Forever, Patience::Until))?;
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
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("cl"); let name = &name;
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
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("st"); let name = &name;
    /// # let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::Client::connect(name)?.stats().calls, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ClientStats {
        ClientStats {
            calls: self.counters.calls.get(),
            doorbells_rung: self.counters.doorbells_rung.get(),
            sleeps: self.counters.sleeps.get(),
            abandoned: self.counters.abandoned.get(),
        }
    }

    #[inline(always)]
    fn loan_until(&self, len: usize, patience: Patience) -> Result<Loan<'_>> {
        if len > self.capacity() {
            return Err(Error::capacity(len, self.capacity()));
        }
        if self.fork.is_forked() {
            return Err(Error::forked());
        }
        if self.is_over.get() {
            self.check_alive(false)?;
        }
        if self.free.has_abandoned() {
            self.reclaim();
        }
        let slot = match self.free.take() {
            Some(slot) => slot,
            None => self.wait_for_slot(patience)?,
        };
        if self.free.deepen(slot) {
            self.publish_depth();
        }
        Ok(Loan::new(self, slot, len))
    }

    /// All slots are out. Those of abandoned calls come back when the server is done with them.
    #[cold]
    fn wait_for_slot(&self, patience: Patience) -> Result<usize> {
        let mut was_last_look = false;
        loop {
            let segment = &self.attachment.segment;
            self.reclaim();
            if let Some(slot) = self.free.take() {
                return Ok(slot);
            }
            if !self.free.has_abandoned() || matches!(patience, Patience::None) {
                self.hear(Some(Instant::now()))?;
                self.check_alive(false)?;
                return Err(self.full());
            }
            self.check_alive(false)?;
            if was_last_look {
                return Err(Error::timed_out(false));
            }
            was_last_look = patience.deadline().is_some_and(|at| at <= Instant::now());
            // Asked before sleeping: a reply that came before shows in the word, one that comes after rings.
            let mut came = false;
            self.free.for_each_abandoned(|slot| came |= !slot::ask_for_wake(&segment.line(slot).turn).is_server());
            if !came {
                self.sleep(patience.deadline())?;
            }
        }
    }

    /// Takes back the slots of abandoned calls that the server is done with.
    #[cold]
    fn reclaim(&self) {
        let segment = &self.attachment.segment;
        if self.free.reclaim(|slot| !slot::load(&segment.line(slot).turn).is_server()) {
            self.publish_depth();
        }
    }

    #[cold]
    fn full(&self) -> Error {
        Error::new(
            ErrorKind::Full,
            format!(
                "all {} slots of this client are out, in loans, replies not dropped yet, or calls in flight; drop or wait for one, or \
                 connect with more (ClientBuilder::slots)",
                self.slots()
            ),
        )
    }

    /// Passes a slot to the server and rings if it sleeps. `deadline` is for the server to see.
    #[inline(always)]
    pub(crate) fn send(&self, slot: usize, line: &Line, len: usize, deadline: Option<Instant>) {
        let segment = &self.attachment.segment;
        if let Some(at) = deadline {
            segment.deadline(slot).store(clock::instant_to_ns(at), Ordering::Relaxed); // published by the turn
        }
        let head = Head {
            len: len as u32,
            kind: Kind::Request,
            in_body: len > INLINE_CAPACITY,
            has_deadline: deadline.is_some(),
        };
        line.head.store(head.pack(), Ordering::Relaxed); // published by the turn
        let sequence = slot::next_sequence(self.sequences[slot].get());
        self.sequences[slot].set(sequence);
        slot::pass_to_server(&line.turn, sequence);
        if Waiting(&segment.server_line().waiting).claim() {
            self.ring();
        }
        count(&self.counters.calls);
    }

    #[cold]
    fn ring(&self) {
        let line = self.attachment.segment.client_line();
        let think_ns = match self.last_reply_at.get() {
            Some(at) => u32::try_from(at.elapsed().as_nanos()).unwrap_or(THINK_UNKNOWN),
            None => THINK_UNKNOWN,
        };
        // Hints for the server, which reads them after the ring.
        line.think_ns.store(think_ns, Ordering::Relaxed);
        line.processor.store(cpu::current(), Ordering::Relaxed);
        self.server_slept.set(true);
        count(&self.counters.doorbells_rung);
        self.attachment.server_bell.ring();
    }

    /// Whether a fork lies between the connect and now.
    #[inline(always)]
    pub(crate) fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// Whether nothing is known of an end, for those who poll. Now and then it costs a system call to look.
    pub(crate) fn seems_alive(&self) -> bool {
        if self.is_forked() {
            return false;
        }
        self.polls.set(self.polls.get().wrapping_add(1));
        if self.polls.get().is_multiple_of(POLLS_PER_LIFE_SIGN) && self.hear(Some(Instant::now())).is_err() {
            return false;
        }
        !self.is_over.get()
    }

    /// Whether the reply of a slot is there.
    #[inline(always)]
    pub(crate) fn is_ready(&self, line: &Line) -> bool {
        !slot::load(&line.turn).is_server()
    }

    /// Waits until the reply of a slot is there; [`accept`](Client::accept) takes it. On an error the slot is still out.
    #[inline(always)]
    pub(crate) fn wait(&self, line: &Line, deadline: Option<Instant>) -> Result<()> {
        if !self.is_ready(line) && !self.spin_briefly(line) {
            return self.wait_slow(line, deadline);
        }
        self.came_awake();
        Ok(())
    }

    /// A reply came while this thread was awake, so the server is awake too.
    #[inline(always)]
    fn came_awake(&self) {
        if self.server_slept.get() {
            self.reply_after_ring();
        } else {
            self.last_reply_at.set(None); // the clock was not read
        }
    }

    /// The server had been woken for this reply: the think time begins, and it may have moved.
    #[cold]
    fn reply_after_ring(&self) {
        self.server_slept.set(false);
        self.last_reply_at.set(Some(Instant::now()));
        let theirs = self.attachment.segment.server_line().processor.load(Ordering::Relaxed); // a hint
        self.may_spin.set(self.may_ever_spin.get() && theirs != cpu::current());
    }

    /// Waits for the reply of a slot and takes it; on an error the call is given up.
    #[inline(always)]
    pub(crate) fn finish(&self, slot: usize, line: &Line, deadline: Option<Instant>) -> Result<Reply<'_>> {
        match self.wait(line, deadline) {
            Ok(()) => self.accept(slot, line),
            Err(error) => {
                self.abandon(slot);
                Err(error)
            }
        }
    }

    /// The reply of a server that is awake and quick comes here, without a clock.
    #[inline(always)]
    fn spin_briefly(&self, line: &Line) -> bool {
        if self.server_slept.get() || !self.may_spin.get() {
            return false;
        }
        for _ in 0..SPINS_BEFORE_CLOCK {
            std::hint::spin_loop();
            if self.is_ready(line) {
                return true;
            }
        }
        false
    }

    #[cold]
    fn wait_slow(&self, line: &Line, deadline: Option<Instant>) -> Result<()> {
        if self.fork.is_forked() {
            return Err(Error::forked());
        }
        if self.spin_patiently(line, deadline)? {
            self.came_awake();
            return Ok(());
        }
        let turn = &line.turn;
        let mut was_last_look = false;
        while slot::ask_for_wake(turn).is_server() {
            if let Err(error) = self.check_alive(true) {
                // A reply that was passed before the end counts.
                return if self.is_ready(line) { Ok(()) } else { Err(error) };
            }
            if was_last_look {
                return Err(Error::timed_out(true));
            }
            // Even without time left there is one look, so that who polls learns of the end.
            was_last_look = deadline.is_some_and(|at| at <= Instant::now());
            self.sleep(deadline)?;
        }
        self.reply_after_ring();
        Ok(())
    }

    /// Spins for as long as the policy says. `false`: time to sleep.
    fn spin_patiently(&self, line: &Line, deadline: Option<Instant>) -> Result<bool> {
        if self.wait == Wait::Spin {
            return self.spin_forever(line, deadline);
        }
        if self.server_slept.get() || !self.may_spin.get() {
            return Ok(false);
        }
        let budget = self.patience.borrow_mut().next();
        if budget.is_zero() {
            return Ok(false);
        }
        let begin = Instant::now();
        while begin.elapsed() < budget {
            for _ in 0..SPINS_PER_CLOCK {
                std::hint::spin_loop();
                if self.is_ready(line) {
                    self.patience.borrow_mut().paid();
                    return Ok(true);
                }
            }
        }
        self.patience.borrow_mut().failed();
        Ok(false)
    }

    /// [`Wait::Spin`]: sleeps never, but notices the server's death and the deadline.
    fn spin_forever(&self, line: &Line, deadline: Option<Instant>) -> Result<bool> {
        loop {
            for spin in 0..SPINS_PER_LIFE_SIGN {
                std::hint::spin_loop();
                if self.is_ready(line) {
                    return Ok(true);
                }
                if spin % SPINS_PER_CLOCK == 0 && deadline.is_some_and(|at| at <= Instant::now()) {
                    return Ok(false); // it is looked at a last time as by all others
                }
            }
            // Two who spin on one processor only stand in each other's way, for whole time slices.
            let theirs = self.attachment.segment.server_line().processor.load(Ordering::Relaxed); // a hint
            if theirs == cpu::current() {
                cpu::move_off(theirs);
            }
            self.hear(Some(Instant::now()))?;
            if let Err(error) = self.check_alive(true) {
                return if self.is_ready(line) { Ok(true) } else { Err(error) };
            }
        }
    }

    /// Checks and takes the reply in a slot whose turn has come back. On an error the slot is free again.
    #[inline(always)]
    pub(crate) fn accept(&self, slot: usize, line: &Line) -> Result<Reply<'_>> {
        let turn = slot::load(&line.turn);
        // Relaxed: acquired with the turn. Read once; only the local is looked at.
        let word = line.head.load(Ordering::Relaxed);
        match Head::parse(word) {
            Some(head)
                if head.kind == Kind::Reply
                    && (head.fits(self.capacity()) && turn.sequence() == self.sequences[slot].get()
                        || planted::is(Fault::UncheckedReply)) =>
            {
                let again = planted::is(Fault::ReplyDoubleFetch).then(|| line.head.load(Ordering::Relaxed));
                Ok(Reply::new(self, slot, again.and_then(Head::parse).unwrap_or(head)))
            }
            head => Err(self.not_a_reply(slot, turn, word, head)),
        }
    }

    #[cold]
    fn not_a_reply(&self, slot: usize, turn: slot::Turn, word: u64, head: Option<Head>) -> Error {
        let segment = &self.attachment.segment;
        let error = match head {
            Some(head)
                if head.kind != Kind::Request
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
                self.end(Ended::Farewell(Reason::Violation, why.clone()));
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

    /// The caller does not want the reply of a slot any more.
    pub(crate) fn abandon(&self, slot: usize) {
        if self.fork.is_forked() {
            return;
        }
        count(&self.counters.abandoned);
        if slot::abandon(&self.attachment.segment.line(slot).turn).is_server() {
            if !planted::is(Fault::ForgottenSlot) {
                self.free.abandon(slot);
            }
        } else {
            self.release(slot);
        }
    }

    /// The memory of the session.
    #[inline(always)]
    pub(crate) fn segment(&self) -> &Segment {
        &self.attachment.segment
    }

    /// Tells the server how many slot lines to look at.
    ///
    /// Relaxed: a larger depth is ordered before the pass of the slot by that pass's SeqCst swap, and so before the look of
    /// a server that was woken by it or that looks a last time.
    #[cold]
    fn publish_depth(&self) {
        if self.fork.is_forked() {
            return; // the memory is not there
        }
        self.attachment.segment.client_line().depth.store(self.free.depth() as u32, Ordering::Relaxed);
    }

    /// Tells the server which processors this thread may use, and learns the same of the server.
    fn refresh_affinity(&self) {
        let segment = &self.attachment.segment;
        let mine = cpu::only_processor();
        // Hints, on both sides.
        segment.client_line().only_processor.store(mine, Ordering::Relaxed);
        let theirs = segment.server_line().only_processor.load(Ordering::Relaxed);
        self.may_ever_spin.set(self.wait != Wait::Park && !cpu::share_one_processor(mine, theirs));
        self.may_spin.set(self.may_ever_spin.get());
    }

    fn sleep(&self, deadline: Option<Instant>) -> Result<()> {
        if self.counters.sleeps.get().is_multiple_of(SLEEPS_PER_AFFINITY) {
            self.refresh_affinity();
        }
        count(&self.counters.sleeps);
        self.hear(deadline)
    }

    /// Waits for a ring, news from the socket, the server's end, or the deadline.
    fn hear(&self, deadline: Option<Instant>) -> Result<()> {
        let mut events = self.events.borrow_mut();
        self.attachment.poller.wait(&mut events, deadline)?;
        for ready in events.iter() {
            match ready.key {
                KEY_BELL => {}
                _ if planted::is(Fault::MissingWakeOnDeath) => {}
                KEY_SOCKET => self.read_news(),
                _ => self.end(Ended::Died),
            }
        }
        Ok(())
    }

    fn read_news(&self) {
        let mut buffer = [0u8; MESSAGE_MAX];
        for _ in 0..NEWS_AT_A_TIME {
            match socket::receive(&self.attachment.socket, &mut buffer) {
                Ok(received) if received.len == 0 => return self.end(Ended::Died),
                Ok(received) => match FromServer::decode(&buffer[..received.len]) {
                    Ok(FromServer::Bell) => {}
                    // A refusal after READY: the server changed its mind while the session was made.
                    Ok(FromServer::Farewell(reason, why) | FromServer::Refusal(reason, why)) => {
                        self.end(Ended::Farewell(reason, why))
                    }
                    _ => self.end(Ended::Farewell(Reason::Violation, "it sent a message out of order".into())),
                },
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => return self.end(Ended::Died),
            }
        }
    }

    fn end(&self, how: Ended) {
        self.is_over.set(true);
        let mut ended = self.ended.borrow_mut();
        // A farewell says more than the hang-up that follows it, or that was seen first.
        if ended.is_none() || matches!((&*ended, &how), (Some(Ended::Died), Ended::Farewell(..))) {
            *ended = Some(how);
        }
    }

    fn check_alive(&self, maybe_executed: bool) -> Result<()> {
        if self.ended.borrow().is_none() {
            return Ok(());
        }
        self.read_farewell();
        let maybe_executed = maybe_executed && !planted::is(Fault::WrongFate);
        let ended = self.ended.borrow();
        let fate = if maybe_executed { "the request may have been executed" } else { "the request was not sent" };
        Err(match &*ended {
            Some(Ended::Farewell(Reason::Violation, why)) => {
                Error::new(ErrorKind::Violation, format!("the session is over because the protocol was broken: {why}"))
            }
            Some(Ended::Farewell(_, why)) => {
                Error::new(ErrorKind::ServerClosed { maybe_executed }, format!("{why}; {fate}"))
            }
            _ => Error::new(ErrorKind::PeerDied { maybe_executed }, format!("the server's process is gone; {fate}")),
        })
    }

    /// The pidfd may speak before the socket is read: what the server said last is there all the same.
    fn read_farewell(&self) {
        if matches!(&*self.ended.borrow(), Some(Ended::Farewell(..))) {
            return;
        }
        self.read_news();
    }
}

/// How long to wait for a slot.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Instant),
    Forever,
}

impl Patience {
    fn deadline(self) -> Option<Instant> {
        match self {
            Patience::Until(at) => Some(at),
            _ => None,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.fork.is_forked() {
            // A forked child may hold the socket open: the server is told all the same.
            socket::hang_up(&self.attachment.socket);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client")
            .field("name", &self.name)
            .field("slots", &self.slots())
            .field("capacity", &self.capacity())
            .field("ended", &self.ended)
            .finish()
    }
}
