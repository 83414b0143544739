//! The blocking server: bind a name, serve requests, shut down.

use std::any::Any;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::contract::Contract;
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::intake::{self, CallWorker};
use crate::exchange::request::Request;
use crate::form::Form;
use crate::memory::head::Kind;
use crate::options::{Access, Limits, ListenOptions};
use crate::service::handles::{ShutdownHandle, StatsHandle, stats_of};
use crate::service::launch::Launch;
use crate::service::service::Service;
use crate::service::settings::listen_settings;
use crate::service::shared::{Command, Mailbox, ServiceShared};
use crate::service::worker::{Answered, Next, Until};
use crate::stats::ServerStats;
use crate::sync;
use crate::sys::fork;
use crate::wait::deadline::Deadline;
use crate::wait::policy::Wait;

/// A server: it owns a name, and changes what clients hand it.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("invert").path;
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
/// A client that dies, stops or breaks the protocol costs its own session and nothing else. Dropping the server ends
/// all sessions and removes the name; when it is killed, the kernel does the same, but for two empty files that the
/// next server replaces.
pub struct Server {
    service: Service,
    wait: Wait,
    /// The worker of `recv` and `serve`, made at first use by the thread that uses it. Boxed, as each `recv` takes it
    /// out and puts it back.
    worker: Option<Box<CallWorker>>,
    /// Whether requests were handed out, which may be answered later.
    has_handed_out: bool,
    /// Whether all sessions ring since the last look, for an event loop.
    is_armed: bool,
}

impl Server {
    /// Takes a name with the default policy (clients of the same user) and limits.
    ///
    /// A name becomes a socket in the user's runtime directory; a path that begins with `/`, `./` or `../` is taken as
    /// it is.
    ///
    /// # Errors
    /// [`NameTaken`](ErrorKind::NameTaken) while another server has it, [`NameInvalid`](ErrorKind::NameInvalid),
    /// [`PathInvalid`](ErrorKind::PathInvalid), [`DirectoryUnsafe`](ErrorKind::DirectoryUnsafe), [`Io`](ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("one").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::Server::bind(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Server> {
        Server::builder().bind(name)
    }

    /// Takes a name over from the server that has it, with the default policy and limits; where none has it, as
    /// [`bind`](Self::bind). A planned restart: [`ListenOptions::replace`] says what becomes of the former server and
    /// of its clients. That one may take 5 seconds to let the name go.
    ///
    /// # Errors
    /// As [`bind`](Self::bind): [`NameTaken`](ErrorKind::NameTaken) if the other server cannot, or may not, let the
    /// name go, or does not in time.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("again").path;
    /// let mut first = wigwag::Server::bind(name)?;
    /// let serving = std::thread::spawn(move || first.serve(|_| ()));
    /// let second = wigwag::Server::replace(name)?;
    /// serving.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn replace(name: impl AsRef<OsStr>) -> Result<Server> {
        Server::builder().replace(Duration::from_secs(5)).bind(name)
    }

    /// A server with a policy, limits or a contract of its own.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("frames").path;
    /// let server = wigwag::Server::builder().slots(4).capacity(8 << 20).max_sessions(10).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> ServerBuilder {
        ListenOptions::default().into()
    }

    /// Serves until [`ShutdownHandle::shutdown`], on this thread.
    ///
    /// What the handler leaves in the request is the reply. If it returns an error, the client gets its text; if it
    /// panics, the client gets the message, and the server goes on. After a shutdown exactly what clients had passed
    /// until then is served, before this returns; later calls get [`ServerClosed`](ErrorKind::ServerClosed). The server
    /// has ended then: to serve once more returns at once.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the system refuses to let this thread wait, [`Forked`](ErrorKind::Forked) in a child
    /// process: a child that a handler forked gets it when it comes back from the handler, and the answer stays its
    /// parent's. No client can make it return. After an error the server has ended, too. [`Io`](ErrorKind::Io) as well
    /// when it has ended in order, and its name could not be removed, as when privileges were given up that it was
    /// taken with: the caller can then remove the files.
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
        let shared = Arc::clone(&self.service.shared);
        let serves_all = !self.has_handed_out;
        let worker = self.worker()?;
        worker.serves_all = serves_all;
        let outcome = serve_to_the_end(&shared, worker, &mut handler);
        if !self.service.is_forked() {
            shared.command(Command::EndAll);
        }
        outcome.and_then(|()| shared.check_name())
    }

    /// Serves on `threads` threads until [`ShutdownHandle::shutdown`]. Each session belongs to one of them: to that
    /// which had the fewest when it came. A child that a handler forks must not come back from it: it has none of the
    /// other threads to end with, and is ended there, with code 1.
    ///
    /// # Errors
    /// As [`serve`](Server::serve), of whichever thread; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for
    /// no threads. [`Io`](ErrorKind::Io) when a thread cannot be had: nothing was served then, the name is kept, and it
    /// can be tried again. [`HandlerPanicked`](ErrorKind::HandlerPanicked) when a thread panicked, but not in the
    /// handler: the server has ended.
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
        first.serves_all = !self.has_handed_out;
        let outcome = if first.has_ended() { Ok(()) } else { self.serve_side_by_side(threads, &mut first, &handler) };
        first.rest();
        self.worker = Some(first);
        outcome
    }

    /// One thread for each worker, this one included. Nothing begins before all of them are there: until then a failure
    /// leaves the server as it was. If one fails later, all of them end.
    fn serve_side_by_side<F, R>(&self, threads: usize, first: &mut CallWorker, handler: &F) -> Result<()>
    where
        F: Fn(&mut Request) -> R + Sync,
        R: IntoOutcome,
    {
        let shared = &self.service.shared;
        let mailboxes = shared.prepare(threads)?;
        let mut others = self.workers(&mailboxes[1..threads])?;
        others.iter_mut().for_each(|worker| worker.serves_all = true);
        let serve = |worker: &mut CallWorker| {
            let outcome = serve_to_the_end(shared, worker, &mut |request: &mut Request| handler(request));
            if threads > 1 && shared.statistics.is_forked() {
                // the other threads are the parent's, and the scope below would wait for them for ever
                fork::end_child();
            }
            outcome
        };
        let (serve, start) = (&serve, &Start::default());
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for mut worker in others {
                let thread = std::thread::Builder::new().name("wigwag-serve".into());
                let serving = move || if start.is_given() { serve(&mut worker) } else { Ok(()) };
                match thread.spawn_scoped(scope, serving) {
                    Ok(thread) => running.push(thread),
                    Err(error) => {
                        start.give(false);
                        let doing = format!(
                            "start serving thread {} of {threads} (nothing was served; it can be tried again, or with \
                             fewer)",
                            running.len() + 2
                        );
                        return Err(Error::io(doing, error));
                    }
                }
            }
            shared.open(mailboxes);
            start.give(true);
            let mut outcome = serve(first);
            for thread in running {
                outcome = outcome.and(thread.join().unwrap_or_else(|panic| Err(thread_died(panic))));
            }
            if !shared.statistics.is_forked() {
                shared.command(Command::EndAll);
            }
            outcome.and_then(|()| shared.check_name())
        })
    }

    /// Waits for the next request, to be answered here or on another thread, now or later.
    ///
    /// After a shutdown, requests that are still held can be answered until the server is dropped: answer them first.
    ///
    /// # Errors
    /// [`ServerClosed`](ErrorKind::ServerClosed) after [`ShutdownHandle::shutdown`], once everything that had been
    /// passed by then was given out, and from then on always; [`Io`](ErrorKind::Io), [`Forked`](ErrorKind::Forked) as
    /// [`serve`](Server::serve).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("later").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// # let client = std::thread::spawn({ let name = name.clone(); move || wigwag::Client::connect(name)?
    /// #     .call(b"abc").map(|r| r.to_vec()) });
    /// let mut request = server.recv()?;
    /// std::thread::spawn(move || {
    ///     request.reverse();
    ///     request.reply();
    /// });
    /// # assert_eq!(client.join().unwrap()?, b"cba");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv(&mut self) -> Result<Request> {
        match self.next(Deadline::Never)? {
            Some(request) => Ok(request),
            None => Err(Error::shutting_down()),
        }
    }

    /// The next request if one is there.
    ///
    /// # Errors
    /// As [`recv`](Server::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("try").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// assert!(server.try_recv()?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<Request>> {
        self.next(Deadline::Now)
    }

    /// The next request, or none within `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Server::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("timed").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// assert!(server.recv_timeout(std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Request>> {
        self.next(Deadline::after(timeout))
    }

    fn next(&mut self, deadline: Deadline) -> Result<Option<Request>> {
        self.next_until(Until::Deadline(deadline))
    }

    /// For an event loop: the next request if one is there. If none is, the server's
    /// [descriptor](Server::try_clone_descriptor) becomes readable once it is worth to call this again. It never waits,
    /// and no session is polled for longer than it takes to look.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("loop").path;
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// let mut server = wigwag::Server::bind(name)?;
    /// # let client = std::thread::spawn({ let name = name.clone(); move || wigwag::Client::connect(name)?
    /// #     .call(b"abc").map(|r| r.to_vec()) });
    /// let descriptor = server.try_clone_descriptor()?;
    /// let mut request = loop {
    ///     if let Some(request) = server.recv_or_arm()? {
    ///         break request;
    ///     }
    ///     poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None).unwrap(); // with whatever else is waited for
    /// };
    /// request.reverse();
    /// request.reply();
    /// # assert_eq!(client.join().unwrap()?, b"cba");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](Server::recv).
    pub fn recv_or_arm(&mut self) -> Result<Option<Request>> {
        self.worker()?.cool(); // who is polled does not ring
        let found = self.next_until(Until::Quiet);
        self.is_armed = matches!(found, Ok(None));
        found
    }

    /// The descriptor for an event loop to poll for reading, see [`recv_or_arm`](Server::recv_or_arm): a duplicate,
    /// which may be closed at any time. Reading from it or writing to it is not possible. From then on this server
    /// never spins for ever ([`Wait::Spin`] is as [`Wait::Adaptive`]), because the thread is the loop's.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) if there is no descriptor to be had; [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("loop").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let descriptor: std::os::fd::OwnedFd = server.try_clone_descriptor()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_clone_descriptor(&mut self) -> Result<OwnedFd> {
        self.worker()?.for_reactor()
    }

    fn next_until(&mut self, until: Until) -> Result<Option<Request>> {
        let worker = self.worker()?;
        match worker.next(until)? {
            Next::Request => {
                let request = worker.take();
                self.has_handed_out = true;
                Ok(Some(request))
            }
            Next::Nothing => Ok(None),
            Next::Shutdown => Err(Error::shutting_down()),
        }
    }

    /// A handle that ends this server from another thread.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("stop").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let stop = server.shutdown_handle();
    /// std::thread::spawn(move || stop.shutdown());
    /// server.serve(|_| ())?; // returns
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::of(Arc::clone(&self.service.shared))
    }

    /// What has happened so far; nothing, in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("stats").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert_eq!(server.stats().sessions, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        stats_of(&self.service.shared)
    }

    /// A handle that tells what has happened so far from other threads, while this one serves.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("watched").path;
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
        StatsHandle { shared: Arc::clone(&self.service.shared) }
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("here").path;
    /// assert_eq!(wigwag::Server::bind(name)?.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.service.path
    }

    /// A task has served to the end, or cannot go on: says farewell to all clients.
    #[cfg(not(loom))]
    pub(crate) fn end_serving(&mut self, outcome: Result<()>) -> Result<()> {
        let shared = Arc::clone(&self.service.shared);
        let Ok(worker) = self.worker() else { return outcome }; // a forked child's clients are its parent's
        worker.rest();
        if let Err(error) = &outcome {
            worker.abandon(&error.to_string());
        }
        shared.shut_down();
        shared.command(Command::EndAll);
        outcome.and_then(|()| shared.check_name())
    }

    pub(crate) fn worker(&mut self) -> Result<&mut CallWorker> {
        let worker = self.take_worker()?;
        let worker = self.worker.insert(worker);
        if std::mem::take(&mut self.is_armed) {
            worker.listen()?; // what rang since the event loop was left to sleep
        }
        Ok(worker)
    }

    fn workers(&self, mailboxes: &[Arc<Mailbox>]) -> Result<Vec<CallWorker>> {
        let of = |mailbox| CallWorker::new(Arc::clone(&self.service.shared), Arc::clone(mailbox), self.wait);
        mailboxes.iter().map(of).collect()
    }

    fn take_worker(&mut self) -> Result<Box<CallWorker>> {
        if self.service.is_forked() {
            return Err(Error::forked());
        }
        match self.worker.take() {
            Some(worker) => {
                worker.resume();
                Ok(worker)
            }
            None => {
                let mailbox = Arc::clone(&self.service.shared.mailboxes()[0]);
                Ok(Box::new(CallWorker::new(Arc::clone(&self.service.shared), mailbox, self.wait)?))
            }
        }
    }
}

/// What the threads of one server wait for before they serve.
#[derive(Default)]
struct Start {
    given: Mutex<Option<bool>>,
    told: Condvar,
}

impl Start {
    /// Lets all go: to serve, or not.
    fn give(&self, serves: bool) {
        *sync::lock(&self.given) = Some(serves);
        self.told.notify_all();
    }

    /// Waits for it. Whether they serve.
    fn is_given(&self) -> bool {
        let mut given = sync::lock(&self.given);
        loop {
            match *given {
                Some(serves) => return serves,
                None => given = self.told.wait(given).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Serves until the shutdown. A thread that cannot go on, for an error or a panic that is no handler's, ends the
/// server: its clients are told at once, and the caller is.
fn serve_to_the_end<F, R>(shared: &ServiceShared, worker: &mut CallWorker, handler: &mut F) -> Result<()>
where
    F: FnMut(&mut Request) -> R,
    R: IntoOutcome,
{
    // The worker is ended after a panic, so nobody sees what it left half done.
    let outcome = catch_unwind(AssertUnwindSafe(|| serve_with(worker, handler)));
    end_serving(shared, worker, outcome.unwrap_or_else(|panic| Err(thread_died(panic))))
}

/// A thread serves no more. Its clients are told if it was because of an error.
#[cold]
fn end_serving(shared: &ServiceShared, worker: &mut CallWorker, outcome: Result<()>) -> Result<()> {
    worker.rest();
    match &outcome {
        Err(error) if error.kind() == ErrorKind::Forked => {} // the clients are the parent's
        Err(error) => {
            worker.abandon(&error.to_string());
            shared.shut_down();
        }
        Ok(()) => {}
    }
    outcome
}

/// The serving loop; the handler's outcome is the answer.
fn serve_with<F, R>(worker: &mut CallWorker, handler: &mut F) -> Result<()>
where
    F: FnMut(&mut Request) -> R,
    R: IntoOutcome,
{
    loop {
        let request = match worker.poll_last_session() {
            Some(found) => found.request(),
            None => match intake::next(worker, Until::Deadline(Deadline::Never))? {
                Next::Request => worker.begin_call().request(),
                Next::Shutdown => return Ok(()),
                Next::Nothing => continue,
            },
        };
        let bytes_in = request.len();
        // The handler's state after a panic is its own affair, as with any thread that catches one; ours is whole.
        let outcome = catch_unwind(AssertUnwindSafe(|| handler(request).into_outcome()));
        if request.is_inherited() {
            // a child that the handler forked has come back from it: the answer is its parent's
            return Err(Error::forked());
        }
        let answered = match outcome {
            Ok(Ok(())) => request.answer(),
            Ok(Err(why)) => request.answer_with_text(Kind::Failed, &why),
            Err(panic) => answer_panic(request, panic),
        };
        worker.end_call(bytes_in, answered);
    }
}

/// Tells the client of a request that its handler panicked.
#[cold]
pub(crate) fn answer_panic(request: &mut Request, panic: Box<dyn Any + Send>) -> Answered {
    let answered = request.answer_with_text(Kind::Panicked, panic_text(request, &*panic));
    discard(panic);
    answered
}

/// What a panic said; clients of other users learn that there was one, and no more.
fn panic_text<'a>(request: &Request, panic: &'a (dyn Any + Send)) -> &'a str {
    if request.is_from_other_user() { "(the server does not tell other users why)" } else { text_of(panic) }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

/// Lets go of what a panic carried. To drop it may panic once more, which is nobody's answer and must not end the
/// thread.
#[cold]
pub(crate) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(second); // and so on
    }
}

/// A serving thread panicked, and not in a handler.
#[cold]
fn thread_died(panic: Box<dyn Any + Send>) -> Error {
    let sentence = format!("a serving thread panicked, and the server ended with it: {}", text_of(&*panic));
    discard(panic);
    Error::new(ErrorKind::HandlerPanicked, sentence)
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.service.is_forked() {
            std::mem::forget(self.worker.take()); // what it holds is the parent's
        } else if let Some(worker) = &mut self.worker {
            worker.end(); // before the farewell: clients learn of requests that nobody has taken
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Server").field("path", &self.service.path).field("stats", &self.stats()).finish()
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

/// Builds a [`Server`] with a policy, limits or a contract of its own. What it does not set has the default shown.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("built").path;
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
    options: ListenOptions,
    is_counting: bool,
}

impl From<ListenOptions> for ServerBuilder {
    fn from(options: ListenOptions) -> ServerBuilder {
        ServerBuilder { options: options.in_form(Form::Exchange), is_counting: true }
    }
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
        self.options.limits = self.options.limits.slots(slots);
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
        self.options.limits = self.options.limits.capacity(bytes);
        self
    }

    /// Whether file descriptors may travel with requests and replies, default no:
    /// [`ListenOptions::descriptors`] says more.
    ///
    /// ```
    /// let builder = wigwag::Server::builder().descriptors(true);
    /// ```
    pub fn descriptors(mut self, may_travel: bool) -> Self {
        self.options = self.options.descriptors(may_travel);
        self
    }

    listen_settings!("wigwag::Server::builder()");

    /// Takes the name and starts to accept sessions.
    ///
    /// # Errors
    /// As [`Server::bind`]; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for a number outside of its
    /// limits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("b").path;
    /// let server = wigwag::Server::builder().slots(4).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<Server> {
        let wait = self.options.wait;
        let launch = Launch { is_counting: self.is_counting, ..Launch::claim(name.as_ref(), self.options)? };
        let shared = ServiceShared::new(&launch)?;
        Ok(Server {
            service: Service::start(shared, launch)?,
            wait,
            worker: None,
            has_handed_out: false,
            is_armed: false,
        })
    }
}

#[cfg(all(test, not(loom), not(wigwag_faults)))]
mod tests {
    use wigwag_testing::{Ground, LIMIT, eventually};

    use super::*;
    use crate::{Client, Pending};

    /// Another holder of the socket that listens at a path, as a forked child is one.
    fn holder(socket: &Path) -> std::os::fd::OwnedFd {
        use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
        let line = sockets.lines().find(|line| line.ends_with(socket.to_str().unwrap())).expect("it listens");
        let link = format!("socket:[{}]", line.split_ascii_whitespace().nth(6).unwrap());
        let is_it =
            |number: &i32| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok_and(|to| to == Path::new(&link));
        let number = (0..4096).find(is_it).expect("this process has it");
        pidfd_getfd(pidfd_open(getpid(), PidfdFlags::empty()).unwrap(), number, PidfdGetfdFlags::empty()).unwrap()
    }

    #[test]
    fn who_waits_to_be_accepted_is_told_of_the_end_whoever_else_holds_the_listening_socket() {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let ground = Ground::new();
        let server = Server::bind(ground.socket()).unwrap();
        let holder = holder(&ground.socket());
        // So many background jobs that nobody is accepted.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let background = &server.service.shared.background;
        for user in 0..200 {
            let held = Arc::clone(&held);
            background.run(user, move || drop(held.lock().map(|held| held.recv())));
        }
        assert!(background.are_many());
        let socket = ground.socket();
        let connecting = std::thread::spawn(move || Client::builder().timeout(LIMIT).connect(socket).map(drop));
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_queued = || poll(&mut [PollFd::new(&holder, PollFlags::IN)], Some(&now)) == Ok(1);
        eventually("it is in the queue", || is_queued() || connecting.is_finished());
        assert!(!connecting.is_finished(), "{:?}", connecting.join());
        server.shutdown_handle().shutdown();
        let error = connecting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        drop(release);
        drop(server);
    }

    #[test]
    fn d9_a_request_that_comes_after_a_shutdown_began_is_not_executed() {
        for (wait, is_served) in [(Wait::Adaptive, true), (Wait::Park, false), (Wait::Spin, true)] {
            let ground = Ground::new();
            let mut server = Server::builder().wait(wait).bind(ground.socket()).unwrap();
            let client = Client::connect(ground.socket()).unwrap();
            let send = |number: u8| {
                let mut loan = client.loan(1).unwrap();
                loan.fill(number);
                loan.send().unwrap()
            };
            let mut early: Vec<Pending<'_>> = [0, 1].map(send).into();
            server.shutdown_handle().shutdown();
            eventually("no session can come any more", || server.service.shared.is_complete());
            let first = server.recv().unwrap(); // from the first look on, the set is fixed
            let late = client.loan(1).unwrap().send().unwrap();
            server.recv().unwrap().reply();
            let held = early.remove(first[0].into());
            drop(early.remove(0).wait().unwrap());
            let late_in_the_same_slot = client.loan(1).unwrap().send().unwrap();
            for _ in 0..3 {
                let ends = [server.recv().err(), server.try_recv().err(), server.recv_timeout(Duration::ZERO).err()];
                for end in ends {
                    let kind = end.expect("it was told already").kind();
                    assert_eq!(kind, ErrorKind::ServerClosed { maybe_executed: false });
                }
            }
            if is_served {
                server.serve(|_| ()).unwrap();
            } else {
                drop(server);
            }
            for late in [late, late_in_the_same_slot] {
                let kind = late.wait().unwrap_err().kind();
                assert_eq!(kind, ErrorKind::ServerClosed { maybe_executed: false });
            }
            // What somebody still has may be executed.
            let kind = held.wait().unwrap_err().kind();
            assert_eq!(kind, ErrorKind::ServerClosed { maybe_executed: true });
            drop(first);
        }
    }
}
