//! The client for tasks: one session for all of them.

use std::ffi::OsStr;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::caller::Caller;
use crate::exchange::client::{self, ClientBuilder};
use crate::exchange::tokio::following::Sessions;
use crate::exchange::tokio::loan::{Loan, Reply};
use crate::exchange::tokio::session::Session;
use crate::session::connect::ClientHandshake;
use crate::session::connect_async::shake_hands;
use crate::stats::ClientStats;
use crate::sys::clock;

/// A connection to a server, for any number of tasks: one session, whose calls are all under way at a time.
///
/// A clone is another handle to the *same* session, unlike the blocking [`try_clone`](crate::Client::try_clone). Any
/// number of tasks may call; [`slots`](Client::slots) of the calls are with the server at a time, and those beyond wait
/// for their turn, in order. A future that is dropped gives its call up. When the server dies, all that wait end with
/// [`PeerDied`](crate::ErrorKind::PeerDied), unless the client was told to
/// [follow](crate::ClientBuilder::follow_restarts): then one task looks for the next server, and the others wait.
/// [`try_loan`](Client::try_loan) looks for none.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|r| for b in r.iter_mut() { *b = !*b }));
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let client = wigwag::tokio::Client::connect(name).await?;
/// let tasks: Vec<_> = (0..100u8)
///     .map(|number| {
///         let client = client.clone();
///         tokio::spawn(async move { client.call(&[number]).await.map(|reply| reply[0]) })
///     })
///     .collect();
/// for (number, task) in tasks.into_iter().enumerate() {
///     assert_eq!(task.await.unwrap()?, !(number as u8));
/// }
/// # wigwag::Result::Ok(()) })?;
/// # stop.shutdown(); thread.join().unwrap()?;
/// # wigwag::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Client {
    sessions: Sessions,
    slots: usize,
    capacity: usize,
    /// How values become bytes.
    #[cfg(feature = "serde")]
    encoding: crate::contract::Encoding,
}

impl Client {
    /// Connects to a server of the same user, blocking or not, and waits for it to answer for up to 5 seconds.
    ///
    /// The handshake is done on a thread of the runtime that may block.
    ///
    /// # Errors
    /// As [`wigwag::Client::connect`](crate::Client::connect);
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let error = wigwag::tokio::Client::connect(name).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// # });
    /// ```
    pub async fn connect(name: impl AsRef<OsStr>) -> Result<Client> {
        Client::builder().connect_async(name).await
    }

    /// A client with options: end with [`connect_async`](ClientBuilder::connect_async).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::builder().slots(64).bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::builder().slots(64).connect_async(name).await?;
    /// assert_eq!(client.slots(), 64);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn builder() -> ClientBuilder {
        client::Client::builder()
    }

    /// Makes one of a blocking client. Slots of calls that it gave up come back when the server is done with them, as
    /// before.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system refuses;
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime;
    /// [`Forked`](crate::ErrorKind::Forked). The session is over then. That the server is gone is said by the calls.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// let blocking = wigwag::Client::connect(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::from_blocking(blocking)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn from_blocking(client: client::Client) -> Result<Client> {
        let (caller, name, options) = client.into_parts();
        Client::of(caller, &name, &options)
    }

    fn of(caller: Caller, name: &OsStr, builder: &ClientBuilder) -> Result<Client> {
        let (slots, capacity) = (caller.slots(), caller.capacity());
        let session = Session::new(caller)?;
        Ok(Client {
            slots,
            capacity,
            #[cfg(feature = "serde")]
            encoding: builder.encoding(),
            sessions: Sessions::new(session, name, builder.as_options()),
        })
    }

    /// The largest payload in bytes, request or reply.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Client::connect(name).await?.capacity(), 1 << 20);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.of_current(Caller::capacity).unwrap_or(self.capacity)
    }

    /// How many calls can be with the server at a time.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Client::connect(name).await?.slots(), 16);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn slots(&self) -> usize {
        self.of_current(Caller::slots).unwrap_or(self.slots)
    }

    /// Of a client that outlives its server, and is in the process that made it.
    fn of_current(&self, ask: impl FnOnce(&Caller) -> usize) -> Option<usize> {
        self.sessions.succession()?;
        Some(self.sessions.current().ok()?.with_caller(ask))
    }

    /// Borrows `len` bytes of memory that the server already has. While all slots are out it waits, in the order in
    /// which it was asked for.
    ///
    /// The bytes are what a former call left there, zero at first. A task that itself holds all slots in loans and
    /// replies waits for ever: drop them first.
    ///
    /// # Errors
    /// [`CapacityExceeded`](crate::ErrorKind::CapacityExceeded), [`PeerDied`](crate::ErrorKind::PeerDied),
    /// [`ServerClosed`](crate::ErrorKind::ServerClosed), [`Forked`](crate::ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// assert_eq!(client.loan(4096).await?.len(), 4096);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn loan(&self, len: usize) -> Result<Loan> {
        let mut session = self.sessions.current()?;
        loop {
            let error = match session.take_slot(len).await {
                Ok(loan) => return Ok(Loan::new(session, self.sessions.succession().cloned(), loan)),
                Err(error) => error,
            };
            // One that is too long for the server that has ended may be none for its successor.
            let Some(succession) = self.sessions.succession().filter(|_| session.is_over()) else { return Err(error) };
            session = match succession.successor().await {
                Ok(session) => session,
                Err(why) if matches!(why.kind(), ErrorKind::Violation | ErrorKind::Forked) => return Err(why),
                Err(why) => return Err(session.with_caller(|caller| caller.not_replaced(&why.to_string()))),
            };
        }
    }

    /// As [`loan`](Client::loan), without waiting.
    ///
    /// # Errors
    /// As [`loan`](Client::loan), and [`Full`](crate::ErrorKind::Full).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::builder().slots(1).bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let only = client.try_loan(8)?;
    /// assert_eq!(client.try_loan(8).unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn try_loan(&self, len: usize) -> Result<Loan> {
        let session = self.sessions.current()?;
        let loan = session.try_take_slot(len)?;
        Ok(Loan::new(session, self.sessions.succession().cloned(), loan))
    }

    /// As [`loan`](Client::loan), for at most so long.
    ///
    /// # Errors
    /// As [`loan`](Client::loan), and [`TimedOut`](crate::ErrorKind::TimedOut).
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::builder().slots(1).bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// let only = client.try_loan(8)?;
    /// let error = client.loan_timeout(8, std::time::Duration::from_millis(5)).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: false });
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn loan_timeout(&self, len: usize, timeout: Duration) -> Result<Loan> {
        self.loan_until(len, clock::deadline_after(timeout)).await
    }

    async fn loan_until(&self, len: usize, deadline: Option<Instant>) -> Result<Loan> {
        match deadline {
            None => self.loan(len).await,
            Some(at) => match tokio::time::timeout_at(at.into(), self.loan(len)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::timed_out(false)),
            },
        }
    }

    /// Copies a request in, passes it, and waits for the reply. Dropping the future gives the call up.
    ///
    /// # Errors
    /// As [`loan`](Client::loan) and [`Loan::call`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|r| for b in r.iter_mut() { *b = !*b }));
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// assert_eq!(client.call(&[0, 1]).await?[..], [255, 254]);
    /// # wigwag::Result::Ok(()) })?;
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call(&self, request: &[u8]) -> Result<Reply> {
        let mut loan = self.loan(request.len()).await?;
        loan.copy_from_slice(request);
        loan.call().await
    }

    /// As [`call`](Client::call), for at most so long, the wait for a slot included.
    ///
    /// # Errors
    /// As [`call`](Client::call), and [`TimedOut`](crate::ErrorKind::TimedOut).
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// // nobody serves
    /// let error = client.call_timeout(b"?", std::time::Duration::from_millis(5)).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::TimedOut { maybe_executed: true });
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn call_timeout(&self, request: &[u8], timeout: Duration) -> Result<Reply> {
        let deadline = clock::deadline_after(timeout);
        let mut loan = self.loan_until(request.len(), deadline).await?;
        loan.copy_from_slice(request);
        loan.call_until(deadline).await
    }

    /// How values become bytes in this session.
    #[cfg(feature = "serde")]
    pub(super) fn encoding(&self) -> Result<crate::contract::Encoding> {
        if self.sessions.is_forked() { Err(Error::forked()) } else { Ok(self.encoding) }
    }

    /// What the session has counted, of all handles; nothing, in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// drop(client.loan(1).await?.send()?);
    /// assert_eq!((client.stats().calls, client.stats().abandoned), (1, 1));
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn stats(&self) -> ClientStats {
        if self.sessions.is_forked() {
            return ClientStats::default();
        }
        self.sessions.stats()
    }
}

impl ClientBuilder {
    /// Connects for tasks: as [`connect`](ClientBuilder::connect), with a [`tokio::Client`](Client).
    ///
    /// # Errors
    /// As [`Client::connect`].
    ///
    /// # Panics
    /// As [`Client::connect`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let server = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let client = wigwag::Client::builder().capacity(4096).connect_async(name).await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn connect_async(self, name: impl AsRef<OsStr>) -> Result<Client> {
        let established = shake_hands(ClientHandshake::begin(name.as_ref(), self.checked_options()?)?).await?;
        Client::of(self.caller(established), name.as_ref(), &self)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client")
            .field("slots", &self.slots)
            .field("capacity", &self.capacity)
            .field("is_over", &self.sessions.current().is_ok_and(|session| session.is_over()))
            .finish()
    }
}
