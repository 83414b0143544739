//! The blocking client: connect, borrow memory that the server already has, pass it, get it back changed.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::error::{Error, Result, reassembled};
use crate::exchange::caller::Caller;
use crate::exchange::loan::{Loan, Reply};
use crate::exchange::sessions::{Sessions, wait_for_slot};
use crate::options::ConnectOptions;
use crate::stats::ClientStats;
use crate::sys::clock;
use crate::wait::deadline::Deadline;

mod builder;

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
/// [`PeerDied`](crate::ErrorKind::PeerDied) within milliseconds, and every later one at once; connect anew to go on, or
/// have the client find the next server by itself: [`reconnect`](ClientBuilder::reconnect),
/// [`follow_restarts`](ClientBuilder::follow_restarts).
pub struct Client {
    sessions: Sessions,
    name: OsString,
    builder: ClientBuilder,
}

impl Client {
    /// Connects to a server of the same user, and waits for it to answer for up to 5 seconds.
    ///
    /// A name is looked for in the user's runtime directory; a path that begins with `/`, `./` or `../` is taken as it
    /// is.
    ///
    /// # Errors
    /// [`NotRunning`](crate::ErrorKind::NotRunning), [`Refused`](crate::ErrorKind::Refused),
    /// [`ContractMismatch`](crate::ErrorKind::ContractMismatch),
    /// [`VersionMismatch`](crate::ErrorKind::VersionMismatch), [`TimedOut`](crate::ErrorKind::TimedOut),
    /// [`PeerDied`](crate::ErrorKind::PeerDied), [`NameInvalid`](crate::ErrorKind::NameInvalid),
    /// [`PathInvalid`](crate::ErrorKind::PathInvalid), [`DirectoryUnsafe`](crate::ErrorKind::DirectoryUnsafe),
    /// [`Violation`](crate::ErrorKind::Violation), [`Io`](crate::ErrorKind::Io).
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
        self.sessions.current().capacity()
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
        self.sessions.current().slots()
    }

    /// Borrows `len` bytes of memory that the server already has. While all slots are out it waits for an abandoned
    /// call's.
    ///
    /// The bytes are what a former call left there, zero at first. Up to 48 bytes lie in the slot's own cache line,
    /// aligned to 16; more lie in the slot's body, aligned to 4,096.
    ///
    /// # Errors
    /// [`CapacityExceeded`](crate::ErrorKind::CapacityExceeded); [`Full`](crate::ErrorKind::Full) when all slots are
    /// held by this thread's own loans, pendings and replies, so that waiting would never end;
    /// [`PeerDied`](crate::ErrorKind::PeerDied), [`ServerClosed`](crate::ErrorKind::ServerClosed),
    /// [`Forked`](crate::ErrorKind::Forked).
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
    /// As [`loan`](Client::loan); [`Full`](crate::ErrorKind::Full) while all slots are out.
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
    /// As [`loan`](Client::loan); [`TimedOut`](crate::ErrorKind::TimedOut).
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
    /// As [`call`](Client::call); [`TimedOut`](crate::ErrorKind::TimedOut).
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

    /// For an event loop: takes in what the client's descriptor ([`AsFd`]) told, without waiting. After that it is
    /// readable again when something has happened since. So the loop calls this first, then looks at each call that it
    /// waits for ([`Pending::try_wait`](crate::Pending::try_wait)), [arms](crate::Pending::arm) those that are not
    /// answered, and polls the descriptor for reading. Slots of abandoned calls that the server is done with come back.
    ///
    /// The connect and [`call`](Client::call) wait: an event loop uses [`try_loan`](Client::try_loan) and
    /// [`Loan::send`](crate::Loan::send).
    ///
    /// # Errors
    /// Why the session is over, if it is, as for a new call: [`PeerDied`](crate::ErrorKind::PeerDied),
    /// [`ServerClosed`](crate::ErrorKind::ServerClosed), [`Violation`](crate::ErrorKind::Violation). What was called
    /// before may be answered all the same. The descriptor is silent from then on; a client that
    /// [outlives its server](ClientBuilder::reconnect) has another one once a call has found the next server, for which
    /// the loop looks by a timer of its own. [`Forked`](crate::ErrorKind::Forked), [`Io`](crate::ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("ev").path;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|r| r.make_ascii_uppercase()));
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// let client = wigwag::Client::connect(name)?;
    /// let mut loan = client.try_loan(5)?;
    /// loan.copy_from_slice(b"hello");
    /// let mut pending = loan.send()?;
    /// let reply = loop {
    ///     client.take_events()?;
    ///     if let Some(reply) = pending.try_wait() {
    ///         break reply?;
    ///     }
    ///     if pending.arm() {
    ///         poll(&mut [PollFd::new(&client, PollFlags::IN)], None).unwrap(); // with whatever else is waited for
    ///     }
    /// };
    /// assert_eq!(&reply[..], b"HELLO");
    /// # drop(reply); stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn take_events(&self) -> Result<()> {
        let caller = self.sessions.current();
        let _hold = caller.hold();
        if caller.connection.is_forked() {
            return Err(Error::forked());
        }
        caller.connection.look()?;
        if caller.has_abandoned() {
            caller.arm_abandoned(); // what came back before that shows in the turn, what comes later rings
            caller.reclaim();
        }
        if caller.connection.is_over() {
            caller.connection.stop_watching();
        }
        caller.connection.check_alive(false)
    }

    /// A new session to the same server, with the same wishes: for another thread, or to reconnect after
    /// [`PeerDied`](crate::ErrorKind::PeerDied).
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
        self.sessions.stats()
    }

    /// How values become bytes in this session.
    #[cfg(feature = "serde")]
    pub(crate) fn encoding(&self) -> crate::contract::Encoding {
        self.builder.encoding()
    }

    /// The core, for the client of tasks, and the options that it was made with.
    #[cfg(not(loom))]
    pub(crate) fn into_parts(self) -> (Caller, OsString, ClientBuilder) {
        (self.sessions.into_current(), self.name, self.builder)
    }

    #[inline(always)]
    fn loan_until(&self, len: usize, deadline: Deadline) -> Result<Loan<'_>> {
        // The steps of `Caller::try_loan`, without its result in between, which is looked at once more.
        let caller = self.sessions.current_for_loan();
        if let Err(error) = caller.check_loan(len) {
            return reassembled(self.loan_after(error, len, deadline));
        }
        match caller.take_slot() {
            Some(slot) => Ok(Loan::new(&self.sessions, caller, caller.lend(slot, len))),
            None => reassembled(self.wait_for_loan(caller, len, deadline)),
        }
    }

    #[cold]
    fn wait_for_loan<'c>(&'c self, caller: &'c Caller, len: usize, deadline: Deadline) -> Result<Loan<'c>> {
        let _hold = caller.hold();
        match wait_for_slot(caller, deadline) {
            Ok(slot) => Ok(Loan::new(&self.sessions, caller, caller.lend(slot, len))),
            Err(error) => self.loan_after(error, len, deadline),
        }
    }

    /// A loan of the session that follows the one which has ended with this error; if there is none, the error.
    #[cold]
    fn loan_after(&self, mut error: Error, len: usize, deadline: Deadline) -> Result<Loan<'_>> {
        loop {
            let caller = self.sessions.successor_for_loan(error, deadline)?;
            let _hold = caller.hold();
            let outcome = caller.check_loan(len).and_then(|()| wait_for_slot(caller, deadline));
            match outcome {
                Ok(slot) => return Ok(Loan::new(&self.sessions, caller, caller.lend(slot, len))),
                Err(why) => error = why,
            }
        }
    }
}

/// The descriptor of the client's session, for an event loop: see [`take_events`](Client::take_events). Reading from it
/// or writing to it is not possible.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sessions.current().connection.poller().as_fd()
    }
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client")
            .field("name", &self.name)
            .field("slots", &self.slots())
            .field("capacity", &self.capacity())
            .field("is_over", &self.sessions.current().connection.is_over())
            .finish()
    }
}
