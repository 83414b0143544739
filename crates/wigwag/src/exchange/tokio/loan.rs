//! The three states of a slot in a task's hands: [`Loan`] (to be filled), [`Pending`] (with the server), [`Reply`]
//! (back, changed). Each keeps its session alive, and dropping each leaves a defined state.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::call_error::CallError;
use crate::exchange::carrying::is_end;
use crate::exchange::owned_loan::OwnedLoan;
use crate::exchange::tokio::following::{Moved, Moving, Succession};
use crate::exchange::tokio::session::{Outcome, Session};
use crate::sys::clock;

/// Memory that the server already has, to be filled and passed: a `[u8]`. It may move to another task.
///
/// Dropping it gives the slot back; nothing was sent then.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| for b in r.iter_mut() { *b = !*b }));
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let client = wigwag::tokio::Client::connect(name).await?;
/// let mut loan = client.loan(3).await?;
/// loan.copy_from_slice(&[0, 1, 2]);
/// assert_eq!(loan.call().await?[..], [255, 254, 253]);
/// # wigwag::Result::Ok(()) })?;
/// # stop.shutdown(); thread.join().unwrap()?;
/// # wigwag::Result::Ok(())
/// ```
#[must_use = "a loan that is not sent does nothing"]
pub struct Loan(Owned);

/// A call under way: a future that is the reply. Dropping it gives the call up: its slot comes back when the server is
/// done with it.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| for b in r.iter_mut() { *b = !*b }));
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let client = wigwag::tokio::Client::connect(name).await?;
/// let (first, second) = (client.loan(1).await?.send()?, client.loan(2).await?.send()?);
/// let (first, second) = tokio::join!(first, second);
/// assert_eq!((first?.len(), second?.len()), (1, 2));
/// # wigwag::Result::Ok(()) })?;
/// # stop.shutdown(); thread.join().unwrap()?;
/// # wigwag::Result::Ok(())
/// ```
#[must_use = "dropping it abandons the call"]
pub struct Pending {
    /// `None` once the reply was taken, and while nothing has been passed.
    session: Option<Arc<Session>>,
    slot: usize,
    /// Of the request.
    len: usize,
    /// Whether it was polled before.
    is_polled: bool,
    /// There if the client outlives its server.
    succession: Option<Arc<Succession>>,
    /// The server has ended, and this is on its way to the next one.
    moving: Option<Moving>,
}

/// A reply where it lies: a `[u8]` in the slot that the request was sent in. Dropping it gives the slot back.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| for b in r.iter_mut() { *b = !*b }));
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let client = wigwag::tokio::Client::connect(name).await?;
/// let reply = client.call(&[1, 2]).await?;
/// let again = reply.into_loan(2)?.call().await?;          // the same memory once more
/// assert_eq!(again[..], [1, 2]);
/// # wigwag::Result::Ok(()) })?;
/// # stop.shutdown(); thread.join().unwrap()?;
/// # wigwag::Result::Ok(())
/// ```
pub struct Reply(Owned);

/// A slot that is the client's, with the session that it goes back to.
struct Owned {
    /// `None` once the slot is somebody else's.
    session: Option<Arc<Session>>,
    /// There if the client outlives its server.
    succession: Option<Arc<Succession>>,
    loan: OwnedLoan,
}

impl Owned {
    fn session(&self) -> &Arc<Session> {
        self.session.as_ref().expect("it is taken out only by what consumes the whole")
    }
}

impl Owned {
    /// The same slot for a payload of another length; the bytes stay, up to the shorter one.
    fn resize(mut self, len: usize) -> Result<Owned> {
        let session = Arc::clone(self.session());
        session.check_fork()?;
        session.with_caller(|caller| caller.resize(&mut self.loan, len))?;
        Ok(self)
    }
}

impl Owned {
    /// The call that was passed with it.
    fn passed(&mut self) -> Pending {
        let (slot, len) = (self.loan.slot(), self.loan.len());
        let (session, succession) = (self.session.take(), self.succession.take());
        Pending { session, slot, len, is_polled: false, succession, moving: None }
    }

    /// Whether it goes to a successor of the server, which has ended so: unless descriptors are attached.
    fn may_go_on(&self, error: &Error) -> bool {
        self.succession.is_some() && is_end(error) && !self.loan.is_marked()
    }

    /// A call of what was not passed, to be passed once there is a server.
    #[cold]
    fn pass_on(&mut self, told: Option<Instant>) -> Pending {
        let (slot, len) = (self.loan.slot(), self.loan.len());
        let succession = self.succession.take();
        let owned = Owned { session: self.session.take(), succession: None, loan: self.loan.take() };
        let moving = succession.clone().map(|succession| {
            Moving::new(async move {
                let write = |bytes: &mut [u8]| bytes.copy_from_slice(&owned.loan);
                let unsent = |why: &str| owned.session().with_caller(|caller| caller.not_replaced(why));
                succession.pass_on(len, told, write, unsent, true).await
            })
        });
        Pending { session: None, slot, len, is_polled: false, succession, moving }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            session.release(self.loan.marked_slot());
        }
    }
}

impl Loan {
    pub(super) fn new(session: Arc<Session>, succession: Option<Arc<Succession>>, loan: OwnedLoan) -> Loan {
        Loan(Owned { session: Some(session), succession, loan })
    }

    /// Passes the memory to the server and waits until it is back. Dropping the future gives the call up.
    ///
    /// # Errors
    /// As [`wigwag::Loan::call`](crate::Loan::call).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|_| Err::<(), _>("no")));
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let error = client.loan(1).await?.call().await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::HandlerFailed);
    /// # wigwag::Result::Ok(()) })?;
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call(self) -> Result<Reply> {
        self.send()?.await
    }

    /// As [`call`](Loan::call), for at most so long; the server is told when nobody waits any more.
    ///
    /// # Errors
    /// As [`call`](Loan::call), and [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let loan = client.loan(1).await?;
    /// let error = loan.call_timeout(std::time::Duration::from_millis(5)).await.unwrap_err();   // nobody serves
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call_timeout(self, timeout: Duration) -> Result<Reply> {
        self.call_until(clock::deadline_after(timeout)).await
    }

    /// As [`call_timeout`](Loan::call_timeout), with a point in time.
    ///
    /// # Errors
    /// As [`call_timeout`](Loan::call_timeout).
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let error = client.loan(1).await?.call_deadline(std::time::Instant::now()).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call_deadline(self, at: Instant) -> Result<Reply> {
        self.call_until(Some(at)).await
    }

    pub(super) async fn call_until(self, deadline: Option<Instant>) -> Result<Reply> {
        let pending = self.pass(deadline)?;
        match deadline {
            None => pending.await,
            Some(at) => match tokio::time::timeout_at(at.into(), pending).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::timed_out(true)),
            },
        }
    }

    /// As [`call`](Loan::call), and with an error the payload comes back, as far as it is there still.
    ///
    /// # Errors
    /// As [`wigwag::Loan::call_or_payload`](crate::Loan::call_or_payload).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let mut frame = client.loan(5000).await?;
    /// frame.fill(7);
    /// drop(server);
    /// assert_eq!(frame.call_or_payload().await.unwrap_err().into_payload().unwrap(), [7; 5000]);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call_or_payload(self) -> std::result::Result<Reply, CallError> {
        self.call_or_payload_until(None).await
    }

    /// As [`call_or_payload`](Loan::call_or_payload), for at most so long.
    ///
    /// # Errors
    /// As [`call_or_payload`](Loan::call_or_payload), and [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::Server::bind(name)?;
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let limit = std::time::Duration::from_millis(5);
    /// let error = client.loan(3).await?.call_timeout_or_payload(limit).await.unwrap_err();   // nobody serves
    /// assert_eq!(error.payload().unwrap().len(), 3);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call_timeout_or_payload(self, timeout: Duration) -> std::result::Result<Reply, CallError> {
        self.call_or_payload_until(clock::deadline_after(timeout)).await
    }

    async fn call_or_payload_until(mut self, deadline: Option<Instant>) -> std::result::Result<Reply, CallError> {
        let session = Arc::clone(self.0.session());
        let (slot, len) = (self.0.loan.slot(), self.0.loan.len());
        // Copied while the slot is this call's: once it has gone back, another task may write there.
        let copy = || session.copy_payload(slot, len);
        let mut pending = match session.send(&self.0.loan, deadline, true) {
            Ok(()) => self.0.passed(),
            // What was not passed stays as it is while it goes on elsewhere: nobody has the slots of what has ended.
            Err(error) if self.0.may_go_on(&error) => self.0.pass_on(deadline),
            Err(error) => return Err(CallError::with_payload(error, copy)),
        };
        let outcome = match deadline {
            None => (&mut pending).await,
            Some(at) => match tokio::time::timeout_at(at.into(), &mut pending).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(CallError::with_payload(Error::timed_out(true), copy)),
            },
        };
        // A session that is over lends its slots to nobody any more.
        outcome.map_err(|error| CallError::with_payload(error, copy))
    }

    /// Passes the memory to the server and does not wait: any number of calls of one session may be under way.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked). That the server is gone is said here, if it is known already, or by the reply.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|_| ()));
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let pending = client.loan(8).await?.send()?;
    /// // ... something else meanwhile ...
    /// assert_eq!(pending.await?.len(), 8);
    /// # wigwag::Result::Ok(()) })?;
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn send(self) -> Result<Pending> {
        self.pass(None)
    }

    /// The same memory for a payload of another length.
    #[cfg(feature = "tower")]
    pub(super) fn resize(self, len: usize) -> Result<Loan> {
        self.0.resize(len).map(Loan)
    }

    /// Attaches a file descriptor: the server gets one of its own to the same open file
    /// ([`Request::take_descriptors`](crate::Request::take_descriptors)), in the order in which they were attached.
    ///
    /// It is as [`wigwag::Loan::attach`](crate::Loan::attach): a duplicate, which is closed when the reply is there or
    /// the call is given up, by a thread of its own. It never waits.
    ///
    /// # Errors
    /// As [`wigwag::Loan::attach`](crate::Loan::attach). The loan is as it was, and can be sent.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let mut server = wigwag::Server::builder().descriptors(true).bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve(|request| println!("{:?}", request.take_descriptors()))
    /// # );
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::builder().descriptors(true).connect_async(name).await?;
    /// let mut loan = client.loan(0).await?;
    /// loan.attach(std::fs::File::open("/proc/self/exe").unwrap())?;
    /// loan.call().await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn attach(&mut self, descriptor: impl AsFd) -> Result<()> {
        let session = Arc::clone(self.0.session());
        session.check_fork()?;
        session.with_caller(|caller| caller.attach(&mut self.0.loan, descriptor.as_fd()))
    }

    fn pass(mut self, deadline: Option<Instant>) -> Result<Pending> {
        match self.0.session().send(&self.0.loan, deadline, true) {
            Ok(()) => Ok(self.0.passed()),
            Err(error) if self.0.may_go_on(&error) => Ok(self.0.pass_on(deadline)),
            Err(error) => Err(error),
        }
    }
}

impl Future for Pending {
    type Output = Result<Reply>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Reply>> {
        let this = self.get_mut();
        loop {
            if this.moving.is_some() {
                std::task::ready!(this.poll_move(context))?;
            }
            let Some(session) = &this.session else {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::Unanswered,
                    "the reply of this call has been taken before",
                )));
            };
            // Who always finds its reply would never let other tasks run.
            let budget = std::task::ready!(tokio::task::coop::poll_proceed(context));
            if !std::mem::replace(&mut this.is_polled, true) {
                session.spin(this.slot);
            }
            let may_go_on = this.succession.as_ref().is_some_and(|succession| succession.passes_again());
            let outcome = std::task::ready!(session.poll_reply(this.slot, context.waker(), may_go_on));
            budget.made_progress();
            match outcome {
                Outcome::Done(outcome) => {
                    let (session, succession) = (this.session.take(), this.succession.take());
                    return Poll::Ready(outcome.map(|loan| Reply(Owned { session, succession, loan })));
                }
                Outcome::Ended(error) => {
                    let (session, slot, len) = (Arc::clone(session), this.slot, this.len);
                    let follow = |succession| Succession::follow(succession, session, slot, len, error);
                    this.moving = this.succession.clone().map(follow).map(Moving::new);
                }
            }
        }
    }
}

impl Pending {
    /// Goes on to where the call is passed next. With an error it is given up.
    #[cold]
    fn poll_move(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(moving) = &mut self.moving else { return Poll::Ready(Ok(())) };
        let outcome = std::task::ready!(moving.poll(context));
        self.moving = None;
        let place = outcome.inspect_err(|_| {
            if let Some(session) = self.session.take() {
                session.abandon(self.slot);
            }
        })?;
        let Moved { session, slot } = place;
        (self.session, self.slot) = (Some(session), slot);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            session.abandon(self.slot);
        }
    }
}

impl Reply {
    /// The same memory for the next request: the bytes stay, up to the shorter length.
    ///
    /// # Errors
    /// [`CapacityExceeded`](ErrorKind::CapacityExceeded), [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|_| ()));
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let loan = client.call(b"again").await?.into_loan(3)?;
    /// assert_eq!(&loan[..], b"aga");
    /// # wigwag::Result::Ok(()) })?;
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn into_loan(mut self, len: usize) -> Result<Loan> {
        self.drop_descriptors();
        self.0.resize(len).map(Loan)
    }

    /// The file descriptors that the server [attached](crate::Request::attach) to its reply, in its order: once, and
    /// none the next time. Those that nobody takes are closed with the reply, by a thread of their own.
    ///
    /// All that [`wigwag::Reply::take_descriptors`](crate::Reply::take_descriptors) says holds here.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let mut server = wigwag::Server::builder().descriptors(true).bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve(|request| request.attach(std::fs::File::open("/proc/self/exe").unwrap()))
    /// # );
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::builder().descriptors(true).connect_async(name).await?;
    /// let mut reply = client.call(b"open it").await?;
    /// let file = std::fs::File::from(reply.take_descriptors().remove(0));
    /// assert!(file.metadata().unwrap().is_file());
    /// # wigwag::Result::Ok(()) })?;
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        let (session, slot) = (self.0.session(), self.0.loan.slot());
        if !self.0.loan.is_marked() || session.is_forked() {
            return Vec::new();
        }
        session.with_caller(|caller| caller.take_descriptors(slot))
    }

    /// The memory is used once more: what came with the reply is not.
    fn drop_descriptors(&mut self) {
        let (session, slot) = (self.0.session(), self.0.loan.slot());
        if self.0.loan.is_marked() && !session.is_forked() {
            session.with_caller(|caller| caller.drop_descriptors(slot));
        }
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.loan
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0.loan
    }
}

impl Deref for Reply {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.loan
    }
}

impl DerefMut for Reply {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0.loan
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Loan").field("len", &self.len()).field("slot", &self.0.loan.slot()).finish()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pending").field("slot", &self.slot).field("is_taken", &self.session.is_none()).finish()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reply").field("len", &self.len()).field("slot", &self.0.loan.slot()).finish()
    }
}
