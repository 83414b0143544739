//! The server's face: bind a name, serve requests, shut down.

use std::any::Any;
use std::ffi::OsStr;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::contract::Contract;
use crate::control::core::{Command, Core};
use crate::control::host::Host;
use crate::control::policy::{Limits, Policy};
use crate::control::rendezvous::Place;
use crate::control::settings::host_settings;
use crate::control::steward::Orders;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Kind;
use crate::observe;
use crate::request::Request;
use crate::stats::ServerStats;
use crate::wait::Wait;
use crate::worker::{Next, Until, Worker};

/// A server: it owns a name, and changes what clients hand it.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("invert"); let name = &name;
/// let mut server = wigwag::Server::bind(name)?;
/// let stop = server.shutdown_handle();
/// let thread = std::thread::spawn(move || {
///     server.serve(|request| {
///         for byte in request.iter_mut() { *byte = !*byte; } // the client's own bytes, where they lie
///     })
/// });
/// let client = wigwag::Client::connect(name)?;
/// assert_eq!(&client.call(&[0, 1, 2])?[..], [255, 254, 253]);
/// stop.shutdown();
/// thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
///
/// A client that dies, stops or breaks the protocol costs its own session and nothing else. Dropping the server ends all
/// sessions and removes the name; when it is killed, the kernel does the same, but for two empty files that the next server
/// replaces.
pub struct Server {
    host: Host,
    wait: Wait,
    /// The worker of `recv` and `serve`, made at first use by the thread that uses it.
    worker: Option<Worker>,
}

impl Server {
    /// Takes a name with the default policy (clients of the same user) and limits.
    ///
    /// A name becomes a socket in the user's runtime directory; a path that begins with `/`, `./` or `../` is taken as it is.
    ///
    /// # Errors
    /// [`NameTaken`](ErrorKind::NameTaken) while another server has it, [`NameInvalid`](ErrorKind::NameInvalid),
    /// [`PathInvalid`](ErrorKind::PathInvalid), [`DirectoryUnsafe`](ErrorKind::DirectoryUnsafe), [`Io`](ErrorKind::Io).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("one"); let name = &name;
    /// let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::Server::bind(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Server> {
        Server::builder().bind(name)
    }

    /// A server with a policy, limits or a contract of its own.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("frames"); let name = &name;
    /// let server = wigwag::Server::builder().slots(4).capacity(8 << 20).max_sessions(10).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            policy: Policy::default(),
            limits: Limits::default(),
            contract: Contract::bytes(),
            wait: Wait::default(),
            is_counting: true,
        }
    }

    /// Serves until [`ShutdownHandle::shutdown`], on this thread.
    ///
    /// What the handler leaves in the request is the reply. If it returns an error, the client gets its text; if it panics,
    /// the client gets the message, and the server goes on. After a shutdown, what clients had passed until then is served
    /// before this returns.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the system refuses to let this thread wait, [`Forked`](ErrorKind::Forked) in a child
    /// process. No client can make it return.
    ///
    /// ```no_run
    /// wigwag::Server::bind("checked")?.serve(|request| match request.first() {
    ///     Some(b'!') => Err("a request must not begin with an exclamation mark"),
    ///     _ => Ok(()),
    /// })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve<F, R>(&mut self, mut handler: F) -> Result<()>
    where
        F: FnMut(&mut Request) -> R,
        R: IntoOutcome,
    {
        let outcome = serve_with(self.worker()?, &mut handler);
        self.host.core.command(Command::EndAll);
        outcome
    }

    /// Serves on `threads` threads until [`ShutdownHandle::shutdown`]. Each session belongs to one of them.
    ///
    /// # Errors
    /// As [`serve`](Server::serve); [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for no threads.
    ///
    /// ```no_run
    /// wigwag::Server::bind("busy")?.serve_on(4, |request| request.reverse())?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve_on<F, R>(&mut self, threads: usize, handler: F) -> Result<()>
    where
        F: Fn(&mut Request) -> R + Sync,
        R: IntoOutcome,
    {
        if threads == 0 {
            return Err(Error::new(ErrorKind::InvalidConfiguration, "serve_on needs at least one thread"));
        }
        let mut first = self.take_worker()?;
        let ports = match self.host.core.prepare(threads) {
            Ok(ports) => ports,
            Err(error) => {
                self.worker = Some(first);
                return Err(error);
            }
        };
        let others: Result<Vec<Worker>> = ports[1..]
            .iter()
            .map(|port| Worker::new(Arc::clone(&self.host.core), Arc::clone(port), self.wait))
            .collect();
        let others = match others {
            Ok(others) => others,
            Err(error) => {
                self.worker = Some(first); // nothing has been dealt to the others yet
                return Err(error);
            }
        };
        self.host.core.open(ports);
        let outcome = self.serve_side_by_side(&mut first, others, &handler);
        self.worker = Some(first);
        self.host.core.command(Command::EndAll);
        outcome
    }

    /// One thread for each worker, this one included. If one of them fails, all of them end.
    fn serve_side_by_side<F, R>(&self, first: &mut Worker, others: Vec<Worker>, handler: &F) -> Result<()>
    where
        F: Fn(&mut Request) -> R + Sync,
        R: IntoOutcome,
    {
        let core = &self.host.core;
        let serve = |worker: &mut Worker| {
            let outcome = serve_with(worker, &mut |request: &mut Request| handler(request));
            if outcome.is_err() {
                core.shut_down();
            }
            outcome
        };
        let serve = &serve;
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut outcome = Ok(());
            for mut worker in others {
                let thread = std::thread::Builder::new().name("wigwag-serve".into());
                match thread.spawn_scoped(scope, move || serve(&mut worker)) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        core.shut_down();
                        outcome = Err(Error::io("start a serving thread", error));
                    }
                }
            }
            outcome = outcome.and(serve(first));
            for thread in threads {
                outcome = outcome.and(thread.join().unwrap_or(Ok(())));
            }
            outcome
        })
    }

    /// Waits for the next request, to be answered here or on another thread, now or later.
    ///
    /// After a shutdown, requests that are still held can be answered until the server is dropped: answer them first.
    ///
    /// # Errors
    /// [`ServerClosed`](ErrorKind::ServerClosed) after [`ShutdownHandle::shutdown`]; otherwise as [`serve`](Server::serve).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("later"); let name = &name;
    /// let mut server = wigwag::Server::bind(name)?;
    /// # let client = std::thread::spawn({ let name = name.clone(); move || wigwag::Client::connect(name)?.call(b"abc").map(|r| r.to_vec()) });
    /// let mut request = server.recv()?;
    /// std::thread::spawn(move || {
    ///     request.reverse();
    ///     request.reply();
    /// });
    /// # assert_eq!(client.join().unwrap()?, b"cba");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv(&mut self) -> Result<Request> {
        match self.next(Until::Forever)? {
            Some(request) => Ok(request),
            None => Err(Error::new(ErrorKind::ServerClosed { maybe_executed: false }, "the server is shutting down")),
        }
    }

    /// The next request if one is there.
    ///
    /// # Errors
    /// As [`recv`](Server::recv).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("try"); let name = &name;
    /// let mut server = wigwag::Server::bind(name)?;
    /// assert!(server.try_recv()?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<Request>> {
        self.next(Until::Now)
    }

    /// The next request, or none within `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Server::recv).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("timed"); let name = &name;
    /// let mut server = wigwag::Server::bind(name)?;
    /// assert!(server.recv_timeout(std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Request>> {
        match Instant::now().checked_add(timeout) {
            Some(at) => self.next(Until::Deadline(at)),
            None => self.next(Until::Forever),
        }
    }

    fn next(&mut self, until: Until) -> Result<Option<Request>> {
        let worker = self.worker()?;
        match worker.next(until)? {
            Next::Request => Ok(Some(worker.take_request())),
            Next::Nothing => Ok(None),
            Next::Shutdown => {
                Err(Error::new(ErrorKind::ServerClosed { maybe_executed: false }, "the server is shutting down"))
            }
        }
    }

    /// A handle that ends this server from another thread.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("stop"); let name = &name;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let stop = server.shutdown_handle();
    /// std::thread::spawn(move || stop.shutdown());
    /// server.serve(|_| ())?; // returns
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::of(Arc::clone(&self.host.core))
    }

    /// What has happened so far; nothing, in a forked child.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("stats"); let name = &name;
    /// let server = wigwag::Server::bind(name)?;
    /// assert_eq!(server.stats().sessions, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        stats_of(&self.host.core)
    }

    /// A handle that tells what has happened so far from other threads, while this one serves.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("watched"); let name = &name;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let (stats, stop) = (server.stats_handle(), server.shutdown_handle());
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| server.serve(|_| ()));
    ///     wigwag::Client::connect(name)?.call(b"hello")?;
    ///     while stats.stats().calls == 0 {
    ///         std::thread::yield_now(); // a call is counted after its reply
    ///     }
    ///     stop.shutdown();
    ///     wigwag::Result::Ok(())
    /// })?;
    /// assert_eq!(stats.stats().bytes_in, 5);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats_handle(&self) -> StatsHandle {
        StatsHandle { core: Arc::clone(&self.host.core) }
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("here"); let name = &name;
    /// assert_eq!(wigwag::Server::bind(name)?.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.host.path
    }

    /// Says farewell to all clients.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn end_all(&self) {
        self.host.core.command(Command::EndAll);
    }

    pub(crate) fn worker(&mut self) -> Result<&mut Worker> {
        let worker = self.take_worker()?;
        Ok(self.worker.insert(worker))
    }

    fn take_worker(&mut self) -> Result<Worker> {
        if self.host.is_forked() {
            return Err(Error::forked());
        }
        match self.worker.take() {
            Some(worker) => Ok(worker),
            None => Worker::new(Arc::clone(&self.host.core), Arc::clone(&self.host.core.ports()[0]), self.wait),
        }
    }
}

/// The serving loop; the handler's outcome is the answer.
fn serve_with<F, R>(worker: &mut Worker, handler: &mut F) -> Result<()>
where
    F: FnMut(&mut Request) -> R,
    R: IntoOutcome,
{
    loop {
        let request = match worker.again() {
            Some(request) => request,
            None => match worker.next(Until::Forever)? {
                Next::Request => worker.begin_call(),
                Next::Shutdown => return Ok(()),
                Next::Nothing => continue,
            },
        };
        let bytes_in = request.len();
        // The handler's state after a panic is its own affair, as with any thread that catches one; ours is whole.
        let outcome = catch_unwind(AssertUnwindSafe(|| handler(request).into_outcome()));
        let answered = match outcome {
            Ok(Ok(())) => request.answer(),
            Ok(Err(why)) => request.answer_with_text(Kind::Failed, &why),
            Err(panic) => request.answer_with_text(Kind::Panicked, panic_text(request, &*panic)),
        };
        worker.end_call(bytes_in, answered);
    }
}

/// What a panic said; clients of other users learn that there was one, and no more.
#[cold]
pub(crate) fn panic_text<'a>(request: &Request, panic: &'a (dyn Any + Send)) -> &'a str {
    if request.is_of_stranger() {
        return "(the server does not tell other users why)";
    }
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.host.is_forked() {
            std::mem::forget(self.worker.take()); // what it holds is the parent's
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Server").field("path", &self.host.path).field("stats", &self.stats()).finish()
    }
}

/// What a handler may return: nothing, or a result whose error is sent to the client as text.
///
/// ```no_run
/// let mut server = wigwag::Server::bind("parse")?;
/// server.serve(|request| -> Result<(), std::str::Utf8Error> {
///     std::str::from_utf8(request)?;
///     Ok(())
/// })?;
/// # Ok::<(), wigwag::Error>(())
/// ```
pub trait IntoOutcome {
    /// `Ok` to answer with the payload as it is, `Err` with a text to fail.
    fn into_outcome(self) -> std::result::Result<(), String>;
}

impl IntoOutcome for () {
    #[inline(always)]
    fn into_outcome(self) -> std::result::Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> IntoOutcome for std::result::Result<(), E> {
    #[inline(always)]
    fn into_outcome(self) -> std::result::Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// Ends a [`Server`] from another thread, in good order: no new session, what was passed is served, farewell, name removed.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("bye"); let name = &name;
/// let mut server = wigwag::Server::bind(name)?;
/// server.shutdown_handle().shutdown();
/// server.serve(|_| ())?; // returns at once
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone)]
pub struct ShutdownHandle {
    core: Arc<Core>,
}

impl ShutdownHandle {
    pub(crate) fn of(core: Arc<Core>) -> ShutdownHandle {
        ShutdownHandle { core }
    }

    /// Begins the end. Any number of times, from any thread; a handler that never returns delays it.
    ///
    /// ```no_run
    /// let server = wigwag::Server::bind("example")?;
    /// server.shutdown_handle().shutdown();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown(&self) {
        self.core.shut_down();
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ShutdownHandle").field("shutting_down", &self.core.is_shutting_down()).finish()
    }
}

/// What a [`Server`] has counted, told to any thread while it serves. Asking disturbs nobody who serves; it costs some
/// microseconds and more with many sessions, so it is for people and exporters.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("told"); let name = &name;
/// let server = wigwag::Server::bind(name)?;
/// let told = server.stats_handle();
/// let elsewhere = std::thread::spawn(move || told.stats().sessions);
/// assert_eq!(elsewhere.join().unwrap(), 0);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone)]
pub struct StatsHandle {
    core: Arc<Core>,
}

impl StatsHandle {
    /// What has happened so far, also after the server's end; nothing, in a forked child.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("over"); let name = &name;
    /// let told = wigwag::Server::bind(name)?.stats_handle();
    /// assert_eq!(told.stats().calls, 0); // the server is gone
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        stats_of(&self.core)
    }
}

impl fmt::Debug for StatsHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("StatsHandle").field(&self.stats()).finish()
    }
}

fn stats_of(core: &Core) -> ServerStats {
    if core.statistics.is_forked() {
        return ServerStats::default();
    }
    observe::server_stats(&core.statistics.tables())
}

/// Builds a [`Server`] with a policy, limits or a contract of its own. What it does not set has the default shown.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("built"); let name = &name;
/// let server = wigwag::Server::builder()
///     .slots(32)                    // 16: calls in flight per session
///     .capacity(4 << 20)            // 1 MiB: the largest payload
///     .max_sessions(100)            // 4096
///     .wait(wigwag::Wait::Park)     // Adaptive
///     .contract(wigwag::Contract::named("frames", 1)) // plain bytes
///     .bind(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it binds"]
pub struct ServerBuilder {
    policy: Policy,
    limits: Limits,
    contract: Contract,
    wait: Wait,
    is_counting: bool,
}

impl ServerBuilder {
    /// For the benchmark that shows what counting calls costs: a server that does not.
    ///
    /// ```
    /// let builder = wigwag::Server::builder().without_counting();
    /// ```
    #[doc(hidden)]
    pub fn without_counting(mut self) -> Self {
        self.is_counting = false;
        self
    }

    /// The most calls in flight in one session, and what a client gets that does not ask: 1 to 4096, default 16.
    ///
    /// ```
    /// let builder = wigwag::Server::builder().slots(64);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.limits.slots = slots;
        self
    }

    /// The largest payload in bytes, and what a client gets that does not ask: 0 to 1 GiB, default 1 MiB.
    ///
    /// Memory is used for what is written, not for what is allowed.
    ///
    /// ```
    /// let builder = wigwag::Server::builder().capacity(16 << 20);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.limits.capacity = bytes;
        self
    }

    host_settings! {
        builder: "wigwag::Server::builder()",
        who_waits: "the serving threads wait",
        sessions: "sessions",
        session: "session",
        host: "server",
        peer: "client",
        what_counts: "",
        what_is_copied: "The handler gets private copies of such a client's requests",
    }

    /// What the server serves, default plain bytes; a client with another contract is refused.
    ///
    /// ```
    /// let builder = wigwag::Server::builder().contract(wigwag::Contract::named("frames", 2));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.contract = contract;
        self
    }

    /// Takes the name and starts to accept sessions.
    ///
    /// # Errors
    /// As [`Server::bind`]; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for a number outside of its limits.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("b"); let name = &name;
    /// let server = wigwag::Server::builder().slots(4).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<Server> {
        self.limits.check()?;
        self.contract.check()?;
        let place = Place::find(name.as_ref())?;
        let claim = place.claim(&self.policy)?;
        let Self { policy, limits, contract, wait, is_counting } = self;
        let orders = Orders { claim, policy, limits, contract, wait, is_counting, arrivals: None };
        let core = Core::new(&orders)?;
        Ok(Server { host: Host::start(core, orders)?, wait, worker: None })
    }
}
