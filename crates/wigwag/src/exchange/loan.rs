//! The three states of a slot in the client's hands, as types: [`Loan`] (to be filled), [`Pending`] (with the server),
//! [`Reply`] (back, changed). Each borrows the client, and dropping each leaves a defined state.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, reassembled};
use crate::exchange::call_error::CallError;
use crate::exchange::caller::Caller;
use crate::exchange::carrying::is_end;
use crate::exchange::following::{Passed, Times, pass_on};
use crate::exchange::owned_loan::OwnedLoan;
use crate::exchange::sessions::Sessions;
use crate::memory::segment::Line;
use crate::memory::slot;
use crate::sys::clock;

/// Memory borrowed from the session, to be filled and passed to the server. Dropping it gives the slot back unsent.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("l").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| r.reverse()));
/// let client = wigwag::Client::connect(name)?;
/// let mut loan = client.loan(4)?;
/// loan.copy_from_slice(b"abcd");
/// assert_eq!(&loan.call()?[..], b"dcba");
/// # stop.shutdown(); thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a loan that is not sent does nothing"]
pub struct Loan<'c> {
    sessions: &'c Sessions,
    caller: &'c Caller,
    line: &'c Line,
    owned: OwnedLoan,
    /// The request's sequence: found out before the memory is filled, as between filling and passing each instruction
    /// counts.
    sequence: u64,
}

impl<'c> Loan<'c> {
    /// Of a slot that was lent.
    #[inline(always)]
    pub(crate) fn new(sessions: &'c Sessions, caller: &'c Caller, owned: OwnedLoan) -> Loan<'c> {
        let slot = owned.slot();
        Loan { sessions, caller, line: caller.line(slot), owned, sequence: caller.next_sequence(slot) }
    }

    /// Passes the memory to the server and waits until it comes back.
    ///
    /// How it waits, [`Wait`](crate::Wait) says. It does not end by itself while the server lives and does not answer:
    /// [`call_timeout`](Loan::call_timeout) does.
    ///
    /// # Errors
    /// [`HandlerFailed`](ErrorKind::HandlerFailed), [`HandlerPanicked`](ErrorKind::HandlerPanicked) and
    /// [`Unanswered`](ErrorKind::Unanswered) from the handler; [`PeerDied`](ErrorKind::PeerDied) within milliseconds
    /// when the server dies, [`ServerClosed`](ErrorKind::ServerClosed) when it shuts down, both with whether the
    /// request may have been executed; [`Violation`](ErrorKind::Violation), [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|r| r.fill(7)));
    /// let client = wigwag::Client::connect(name)?;
    /// assert_eq!(&client.loan(2)?.call()?[..], [7, 7]);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline(always)] // else loan and reply go through memory, there and back
    pub fn call(self) -> Result<Reply<'c>> {
        if self.caller.must_check_before_pass() {
            return reassembled(self.check_and_call());
        }
        // By itself: joined with what is checked it would go through memory, and the poll wait for that.
        let (passed, sequence) = self.pass_with(None, 0);
        finish(passed, sequence, None)
    }

    /// As [`call`](Loan::call), but gives up after `timeout`; the server sees the deadline.
    ///
    /// # Errors
    /// As [`call`](Loan::call); [`TimedOut`](ErrorKind::TimedOut). The slot comes back when the server is done with it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// # let server = wigwag::Server::bind(name)?; // and nobody serves
    /// let client = wigwag::Client::connect(name)?;
    /// let error = client.loan(2)?.call_timeout(std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_timeout(self, timeout: Duration) -> Result<Reply<'c>> {
        self.call_until(clock::deadline_after(timeout))
    }

    /// As [`call_timeout`](Loan::call_timeout), with a point in time.
    ///
    /// # Errors
    /// As [`call_timeout`](Loan::call_timeout).
    ///
    /// ```no_run
    /// # let client = wigwag::Client::connect("example")?;
    /// let at = std::time::Instant::now() + std::time::Duration::from_secs(1);
    /// let first = client.loan(8)?.call_deadline(at)?;
    /// let second = client.loan(8)?.call_deadline(at)?; // both within the one second
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_deadline(self, at: Instant) -> Result<Reply<'c>> {
        self.call_until(Some(at))
    }

    pub(crate) fn call_until(self, deadline: Option<Instant>) -> Result<Reply<'c>> {
        let (passed, sequence) = self.pass(deadline)?;
        finish(passed, sequence, deadline)
    }

    /// As [`call`](Loan::call), and with an error the payload comes back, as far as it is there still.
    ///
    /// # Errors
    /// [`CallError`], with the [`Error`](crate::Error) of [`call`](Loan::call) in it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("c").path;
    /// let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let mut frame = client.loan(640 * 480)?;
    /// frame.fill(7);
    /// drop(server);
    /// let error = frame.call_or_payload().unwrap_err();
    /// assert!(matches!(error.kind(), wigwag::ErrorKind::ServerClosed { .. }));
    /// assert_eq!(error.into_payload().unwrap(), [7; 640 * 480]);       // for the server that comes after
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_or_payload(self) -> std::result::Result<Reply<'c>, CallError> {
        self.call_or_payload_until(None)
    }

    /// As [`call_or_payload`](Loan::call_or_payload), but gives up after `timeout`.
    ///
    /// # Errors
    /// As [`call_or_payload`](Loan::call_or_payload), and [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("c").path;
    /// let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let mut loan = client.loan(3)?;
    /// loan.copy_from_slice(b"abc");
    /// let error = loan.call_timeout_or_payload(std::time::Duration::from_millis(5)).unwrap_err();   // nobody serves
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// assert_eq!(error.payload().unwrap(), b"abc");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_timeout_or_payload(self, timeout: Duration) -> std::result::Result<Reply<'c>, CallError> {
        self.call_or_payload_until(clock::deadline_after(timeout))
    }

    fn call_or_payload_until(self, deadline: Option<Instant>) -> std::result::Result<Reply<'c>, CallError> {
        let (caller, slot, len) = (self.caller, self.owned.slot(), self.owned.len());
        let _hold = caller.hold(); // the call may leave the session that it lies in
        self.call_until(deadline).map_err(|error| CallError::of(caller, slot, len, error))
    }

    /// Passes the memory to the server and goes on: several calls can be under way at a time, answered in any order.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked). That the server is gone shows when the reply is waited for; a client that
    /// [outlives](crate::ClientBuilder::reconnect) it, and knows already, waits here for the next one.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|r| r.make_ascii_uppercase()));
    /// let client = wigwag::Client::connect(name)?;
    /// let send = |text: &[u8]| -> wigwag::Result<_> {
    ///     let mut loan = client.loan(text.len())?;
    ///     loan.copy_from_slice(text);
    ///     loan.send()
    /// };
    /// let (first, second) = (send(b"one")?, send(b"two")?);
    /// assert_eq!(&second.wait()?[..], b"TWO");
    /// assert_eq!(&first.wait()?[..], b"ONE");
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline(always)] // as `call`
    pub fn send(self) -> Result<Pending<'c>> {
        let (passed, _) = self.pass(None)?;
        Ok(Pending { passed: Some(passed) })
    }

    /// As [`send`](Loan::send), with a deadline for the server to see. Waiting for the reply is not bounded by it.
    ///
    /// # Errors
    /// As [`send`](Loan::send).
    ///
    /// ```no_run
    /// # let client = wigwag::Client::connect("example")?;
    /// let pending = client.loan(8)?.send_timeout(std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_timeout(self, timeout: Duration) -> Result<Pending<'c>> {
        let (passed, _) = self.pass(clock::deadline_after(timeout))?;
        Ok(Pending { passed: Some(passed) })
    }

    /// Attaches a file descriptor: the server gets one of its own to the same open file
    /// ([`Request::take_descriptors`](crate::Request::take_descriptors)), in the order in which they were attached.
    ///
    /// What is attached is a duplicate, which is closed when the reply is there or the call is given up; yours stays
    /// yours. A loan that is not sent sends none. The descriptors are with the server once the request is, so a server
    /// that dies or is restarted has them or never will: nobody sends them again.
    ///
    /// # Errors
    /// [`NotAgreed`](ErrorKind::NotAgreed) unless both sides have [asked](crate::ClientBuilder::descriptors) for
    /// descriptors, as of a server that speaks protocol 1. [`Full`](ErrorKind::Full): 16 are attached already; or 64 of
    /// this session, or a quarter of `ulimit -n` of this process, are attached or with servers that have not answered.
    /// [`Io`](ErrorKind::Io) if it cannot be duplicated, [`Forked`](ErrorKind::Forked). The loan is as it was, and can
    /// be sent.
    ///
    /// The call itself may then also end with [`Full`](ErrorKind::Full), and was not executed: the kernel takes no more
    /// descriptors of this user, or the server has as many as it may have, or as it may have of those that came and no
    /// handler has taken.
    ///
    /// ```
    /// # use std::io::Read;
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// let mut server = wigwag::Server::builder().descriptors(true).bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve(|request| {
    ///     for descriptor in request.take_descriptors() {
    ///         println!("{:?}", std::fs::File::from(descriptor).metadata());
    ///     }
    /// })
    /// # );
    /// let client = wigwag::Client::builder().descriptors(true).connect(name)?;
    /// let file = std::fs::File::open("/proc/self/exe").unwrap();
    /// let mut loan = client.loan(0)?;
    /// loan.attach(&file)?;
    /// loan.call()?;
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn attach(&mut self, descriptor: impl AsFd) -> Result<()> {
        self.caller.attach(&mut self.owned, descriptor.as_fd())
    }

    #[inline(always)]
    fn pass(self, deadline: Option<Instant>) -> Result<(Passed<'c>, u64)> {
        if self.caller.must_check_before_pass() {
            return self.check_and_pass(deadline);
        }
        Ok(self.pass_with(deadline, 0))
    }

    #[cold]
    fn check_and_call(self) -> Result<Reply<'c>> {
        let (passed, sequence) = self.check_and_pass(None)?;
        finish(passed, sequence, None)
    }

    #[cold]
    fn check_and_pass(self, deadline: Option<Instant>) -> Result<(Passed<'c>, u64)> {
        match self.caller.check_before_pass(self.owned.slot(), self.sequence) {
            Ok(descriptors) => Ok(self.pass_with(deadline, descriptors)),
            Err(error) => self.pass_elsewhere(error, deadline),
        }
    }

    #[inline(always)]
    fn pass_with(self, deadline: Option<Instant>, descriptors: u32) -> (Passed<'c>, u64) {
        self.owned.written();
        let this = ManuallyDrop::new(self); // the slot is the server's from here on
        let (slot, len) = (this.owned.slot(), this.owned.len());
        let Loan { sessions, caller, line, .. } = *this;
        let sequence = caller.pass(slot, line, this.sequence, len, deadline, descriptors);
        (Passed { sessions, caller, line, slot, len }, sequence)
    }

    /// The server has ended, and nothing was passed to it: this goes to its successor, unless descriptors are attached.
    #[cold]
    fn pass_elsewhere(self, error: Error, deadline: Option<Instant>) -> Result<(Passed<'c>, u64)> {
        let is_whole = is_end(&error) && !self.owned.is_marked();
        let Some(outliving) = self.sessions.outliving().filter(|_| is_whole) else { return Err(error) };
        let times = Times { told: deadline, deadline: deadline.into() };
        let write = |bytes: &mut [u8]| bytes.copy_from_slice(&self.owned);
        let unsent = |why: &str| self.caller.not_replaced(why);
        let passed = pass_on(self.sessions, outliving, self.owned.len(), times, &write, &unsent)?;
        passed.caller.count_call();
        Ok((passed, passed.caller.last_sequence(passed.slot)))
    }
}

/// Waits for the reply to a call, whose sequence that is, and takes it; on an error the call is given up.
#[inline(always)]
fn finish(passed: Passed<'_>, sequence: u64, deadline: Option<Instant>) -> Result<Reply<'_>> {
    let Passed { caller, line, slot, .. } = passed;
    match caller.connection.wait_briefly(line) {
        Some(turn) => Ok(Reply::new(passed.sessions, caller, caller.accept(slot, line, sequence, turn)?)),
        None => reassembled(finish_patiently(passed, deadline)),
    }
}

#[cold]
fn finish_patiently(mut passed: Passed<'_>, deadline: Option<Instant>) -> Result<Reply<'_>> {
    let deadline = deadline.into();
    loop {
        match passed.caller.connection.wait_patiently(passed.line, deadline) {
            Ok(()) => return accept(&passed),
            Err(error) => {
                let Passed { caller, slot, .. } = passed;
                passed = passed.follow(error, deadline).inspect_err(|_| caller.abandon(slot))?;
            }
        }
    }
}

/// The reply that has come.
#[inline(always)]
fn accept<'c>(passed: &Passed<'c>) -> Result<Reply<'c>> {
    let Passed { sessions, caller, line, slot, .. } = *passed;
    let owned = caller.accept(slot, line, caller.last_sequence(slot), slot::load(&line.turn))?;
    Ok(Reply::new(sessions, caller, owned))
}

impl Deref for Loan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.owned
    }
}

impl DerefMut for Loan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.owned
    }
}

impl Drop for Loan<'_> {
    #[inline]
    fn drop(&mut self) {
        self.caller.release(self.owned.marked_slot());
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Loan").field("len", &self.owned.len()).field("slot", &self.owned.slot()).finish()
    }
}

/// A call under way. Dropping it abandons the call: the server is told, and the slot comes back when it is done with
/// it.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("l").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| r.reverse()));
/// let client = wigwag::Client::connect(name)?;
/// let mut loan = client.loan(3)?;
/// loan.copy_from_slice(b"abc");
/// let mut pending = loan.send()?;
/// // ... something else meanwhile
/// let reply = match pending.try_wait() {
///     Some(reply) => reply?,
///     None => pending.wait()?,
/// };
/// assert_eq!(&reply[..], b"cba");
/// # drop(reply); stop.shutdown(); thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "dropping it abandons the call"]
pub struct Pending<'c> {
    /// `None`: the reply, or its error, has been given out, and the slot is not ours any more.
    passed: Option<Passed<'c>>,
}

impl<'c> Pending<'c> {
    /// Waits for the reply.
    ///
    /// # Errors
    /// As [`Loan::call`]; [`Unanswered`](ErrorKind::Unanswered) if the reply has been taken before.
    ///
    /// ```no_run
    /// # let client = wigwag::Client::connect("example")?;
    /// let reply = client.loan(8)?.send()?.wait()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn wait(mut self) -> Result<Reply<'c>> {
        let Some(passed) = self.passed.take() else {
            return Err(Error::new(ErrorKind::Unanswered, "the reply of this call has been taken before"));
        };
        if passed.caller.connection.is_forked() {
            return Err(Error::forked());
        }
        finish(passed, passed.caller.last_sequence(passed.slot), None)
    }

    /// The reply, or its error, if it is there; `None` if it is not, or has been taken before.
    ///
    /// ```no_run
    /// # let client = wigwag::Client::connect("example")?;
    /// let mut pending = client.loan(8)?.send()?;
    /// if let Some(reply) = pending.try_wait() { println!("{} bytes", reply?.len()); }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_wait(&mut self) -> Option<Result<Reply<'c>>> {
        let passed = self.passed.as_ref()?;
        let connection = &passed.caller.connection;
        if !connection.is_forked() && connection.is_ready(passed.line) {
            let reply = accept(passed);
            self.passed = None;
            return Some(reply);
        }
        if connection.seems_alive() {
            return None;
        }
        // The server is gone, or this is a forked child: that takes no time to find out, and it is the answer.
        self.wait_until(Some(Instant::now()))
    }

    /// For an event loop: has the server ring when it has answered, so that the client's descriptor becomes readable.
    /// `false`: there is nothing to wait for, and [`try_wait`](Pending::try_wait) has the reply or the error. See
    /// [`Client::take_events`](crate::Client::take_events).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("arm").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let mut pending = client.loan(8)?.send()?;
    /// assert!(pending.arm());                 // not answered: from here on an answer makes `client` readable
    /// server.recv()?.reply();
    /// assert!(!pending.arm());
    /// assert_eq!(pending.try_wait().unwrap()?.len(), 8);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn arm(&self) -> bool {
        self.passed.as_ref().is_some_and(|Passed { caller, slot, .. }| {
            !caller.connection.is_forked() && matches!(caller.arm(*slot), Ok(true))
        })
    }

    /// As [`wait`](Pending::wait), and with an error the payload comes back, as far as it is there still.
    ///
    /// # Errors
    /// As [`Loan::call_or_payload`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("c").path;
    /// let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let pending = client.loan(5000)?.send()?;
    /// drop(server);
    /// let error = pending.wait_or_payload().unwrap_err();
    /// assert_eq!(error.into_payload().unwrap().len(), 5000);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_or_payload(self) -> std::result::Result<Reply<'c>, CallError> {
        let passed = self.passed;
        let _hold = passed.as_ref().map(|passed| passed.caller.hold());
        self.wait().map_err(|error| match passed {
            None => CallError::without_payload(error),
            Some(Passed { caller, slot, len, .. }) => CallError::of(caller, slot, len, error),
        })
    }

    /// Waits for the reply for up to `timeout`; `None` when it has not come by then, or has been taken before. The call
    /// goes on, and may be waited for again.
    ///
    /// ```no_run
    /// # let client = wigwag::Client::connect("example")?;
    /// let mut pending = client.loan(8)?.send()?;
    /// while pending.wait_timeout(std::time::Duration::from_secs(1)).is_none() { println!("still working"); }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<Reply<'c>>> {
        self.wait_until(clock::deadline_after(timeout))
    }

    /// As [`wait_timeout`](Pending::wait_timeout), with a point in time.
    ///
    /// ```no_run
    /// # let client = wigwag::Client::connect("example")?;
    /// let mut pending = client.loan(8)?.send()?;
    /// let reply = pending.wait_deadline(std::time::Instant::now() + std::time::Duration::from_secs(1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_deadline(&mut self, at: Instant) -> Option<Result<Reply<'c>>> {
        self.wait_until(Some(at))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Result<Reply<'c>>> {
        let deadline = deadline.into();
        let outcome = loop {
            let passed = self.passed?;
            let Passed { caller, line, slot, .. } = passed;
            if caller.connection.is_forked() {
                break Err(Error::forked());
            }
            let is_late = |error: &Error| matches!(error.kind(), ErrorKind::TimedOut { .. });
            let error = match caller.connection.wait(line, deadline) {
                Ok(()) => break accept(&passed),
                Err(error) if is_late(&error) => return None,
                Err(error) => error,
            };
            match passed.follow(error, deadline) {
                Ok(elsewhere) => self.passed = Some(elsewhere),
                Err(error) if is_late(&error) => return None,
                Err(error) => {
                    caller.abandon(slot);
                    break Err(error);
                }
            }
        };
        self.passed = None;
        Some(outcome)
    }

    /// Whether the reply is there, so that waiting would end at once.
    ///
    /// ```no_run
    /// # let client = wigwag::Client::connect("example")?;
    /// let pending = client.loan(8)?.send()?;
    /// println!("{}", if pending.is_ready() { "there" } else { "not yet" });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.passed.as_ref().is_some_and(|Passed { caller, line, .. }| {
            !caller.connection.is_forked() && caller.connection.is_ready(line)
        })
    }
}

impl Drop for Pending<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(Passed { caller, slot, .. }) = self.passed {
            caller.abandon(slot);
        }
    }
}

impl fmt::Debug for Pending<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.passed.as_ref().map(|passed| passed.slot);
        out.debug_struct("Pending").field("slot", &slot).field("is_ready", &self.is_ready()).finish()
    }
}

/// The same memory, changed by the server. Dropping it frees the slot.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("l").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| r.make_ascii_uppercase()));
/// let client = wigwag::Client::connect(name)?;
/// let reply = client.call(b"ok")?;
/// assert_eq!(&reply[..], b"OK");
/// # drop(reply); stop.shutdown(); thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Reply<'c> {
    sessions: &'c Sessions,
    caller: &'c Caller,
    owned: OwnedLoan,
}

impl<'c> Reply<'c> {
    #[inline(always)]
    fn new(sessions: &'c Sessions, caller: &'c Caller, owned: OwnedLoan) -> Reply<'c> {
        Reply { sessions, caller, owned }
    }

    /// The file descriptors that the server [attached](crate::Request::attach) to its reply, in its order: once, and
    /// none the next time. They are closed on `exec`. Those that nobody takes are closed when the reply is dropped, or
    /// made the next request, by a thread of their own, because closing them may take as long as the server has chosen.
    ///
    /// There are none unless both sides have [asked](crate::ClientBuilder::descriptors) for descriptors. A call whose
    /// reply had some that this process has no room for (`ulimit -n`) has ended with [`Full`](ErrorKind::Full): it was
    /// executed, and they are lost. A server that died after it replied makes no difference.
    ///
    /// ```
    /// # use std::io::Read;
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// let mut server = wigwag::Server::builder().descriptors(true).bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve(|request| request.attach(std::fs::File::open("/proc/self/comm").unwrap()))
    /// # );
    /// let client = wigwag::Client::builder().descriptors(true).connect(name)?;
    /// let mut reply = client.call(b"open it")?;
    /// let mut file = std::fs::File::from(reply.take_descriptors().remove(0));
    /// let mut text = String::new();
    /// file.read_to_string(&mut text).unwrap();
    /// assert!(reply.take_descriptors().is_empty());
    /// # drop(reply); stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        if self.caller.connection.is_forked() {
            return Vec::new();
        }
        self.caller.take_descriptors(self.owned.slot())
    }

    /// Makes the reply the next request, of `len` bytes, without copying: what is in it stays where it is, unless the
    /// new length moves it between line and body (48 bytes).
    ///
    /// # Errors
    /// [`CapacityExceeded`](ErrorKind::CapacityExceeded); the slot is free then. [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("l").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|r| for b in r.iter_mut() { *b += 1 }));
    /// let client = wigwag::Client::connect(name)?;
    /// let once = client.call(&[1, 2])?;
    /// let twice = once.into_loan(2)?.call()?;
    /// assert_eq!(&twice[..], [3, 4]);
    /// # drop(twice); stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_loan(self, len: usize) -> Result<Loan<'c>> {
        self.caller.check_length(len)?;
        // Whoever goes on so asks for no loan, which frees former sessions otherwise. This one has a slot of its own.
        self.sessions.free_former();
        let mut this = ManuallyDrop::new(self);
        let (sessions, caller, mut owned) = (this.sessions, this.caller, this.owned.take());
        if owned.is_marked() {
            caller.drop_descriptors(owned.slot());
        }
        owned.resize(caller.connection.segment(), caller.line(owned.slot()), len);
        Ok(Loan::new(sessions, caller, owned))
    }
}

impl Deref for Reply<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.owned
    }
}

impl DerefMut for Reply<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.owned
    }
}

impl Drop for Reply<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.caller.release(self.owned.marked_slot());
    }
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reply").field("len", &self.owned.len()).field("slot", &self.owned.slot()).finish()
    }
}
