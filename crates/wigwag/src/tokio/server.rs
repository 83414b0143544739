//! The server's face for tasks: handlers that may await, many of them at a time.

use std::any::Any;
use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::unix::AsyncFd;
use tokio::task::coop;

use super::abstinence::Abstinence;
use super::waiting::poll_ring;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Kind;
use crate::request::Request;
use crate::server::{self, IntoOutcome, ServerBuilder, ShutdownHandle, StatsHandle, panic_text};
use crate::stats::ServerStats;
use crate::sys::reactor::{check_runtime, watch};
use crate::worker::{Next, Until, Worker};

/// Takes a name and serves the clients that call it, in a task. They may be blocking or not.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let mut server = wigwag::tokio::Server::bind(name)?;
/// let stop = server.shutdown_handle();
/// let serving = tokio::spawn(async move {
///     server.serve(async |request| {
///         tokio::time::sleep(std::time::Duration::from_millis(1)).await;   // others are served meanwhile
///         request.reverse();                                              // the client's own bytes, where they lie
///     }).await
/// });
/// let client = wigwag::tokio::Client::connect(name).await?;
/// assert_eq!(client.call(b"abc").await?[..], *b"cba");
/// stop.shutdown();
/// serving.await.unwrap()?;
/// # wigwag::Result::Ok(()) })?;
/// # wigwag::Result::Ok(())
/// ```
pub struct Server {
    ears: AsyncFd<OwnedFd>,
    server: server::Server,
    spinning: Spinning,
}

/// Handlers that may be under way at a time, if nothing else is said.
const CONCURRENT: usize = 1024;

impl Server {
    /// Takes a name with the default policy (clients of the same user) and limits. It does not wait for anything.
    ///
    /// # Errors
    /// As [`wigwag::Server::bind`](crate::Server::bind); [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) outside of a
    /// runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::tokio::Server::bind(name)?;
    /// assert_eq!(wigwag::tokio::Server::bind(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Server> {
        Server::builder().bind_async(name)
    }

    /// A server with a policy, limits or a contract of its own: end with [`bind_async`](ServerBuilder::bind_async).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::tokio::Server::builder().slots(64).bind_async(name)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn builder() -> ServerBuilder {
        server::Server::builder()
    }

    /// Makes one of a blocking server that has not served yet.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the system refuses; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) outside of a
    /// runtime. The name is given up then.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// let blocking = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::tokio::Server::from_blocking(blocking)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn from_blocking(mut server: server::Server) -> Result<Server> {
        let ears = watch(server.worker()?.for_reactor()?)?;
        Ok(Server { ears, server, spinning: Spinning::default() })
    }

    /// Serves until the server is shut down, with up to 1,024 handlers under way at a time; see
    /// [`serve_up_to`](Server::serve_up_to).
    ///
    /// # Errors
    /// As [`serve_up_to`](Server::serve_up_to).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut server = wigwag::tokio::Server::bind(name)?;
    /// let (stop, client) = (server.shutdown_handle(), wigwag::tokio::Client::connect(name));
    /// let (served, answer) = tokio::join!(
    ///     server.serve(async |request| if request.is_empty() { Err("nothing was asked") } else { Ok(()) }),
    ///     async { let answer = client.await?.call(b"").await; stop.shutdown(); answer },
    /// );
    /// assert_eq!(answer.unwrap_err().to_string(), "nothing was asked");
    /// served
    /// # })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn serve<H, R>(&mut self, handler: H) -> Result<()>
    where
        H: AsyncFn(&mut Request) -> R,
        R: IntoOutcome,
    {
        self.serve_up_to(CONCURRENT, handler).await
    }

    /// Serves until the server is [shut down](Server::shutdown_handle), with up to `concurrent` handlers under way at a time.
    /// While so many are, no request is taken: those beyond stay in their clients' slots.
    ///
    /// All handlers run in the task that awaits this, in turn: one that does not await is done at once, one that computes for
    /// long holds up the others. For several processors at a time, give the work to tasks of their own, or use
    /// [`recv`](Server::recv). Dropping the future drops the handlers under way, whose requests are unanswered then.
    ///
    /// In a task of its own (`tokio::spawn`) the handler is best an `async move` closure, with clones of what it shares: with
    /// captures by reference the compiler does not see that the future is `Send`.
    ///
    /// A handler's error, and its panic, is the client's answer. In a shutdown the handlers under way are waited for.
    ///
    /// # Errors
    /// [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for 0; an error of the system.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut server = wigwag::tokio::Server::bind(name)?;
    /// # server.shutdown_handle().shutdown();
    /// server.serve_up_to(8, async |request| request.reverse()).await
    /// # })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn serve_up_to<H, R>(&mut self, concurrent: usize, handler: H) -> Result<()>
    where
        H: AsyncFn(&mut Request) -> R,
        R: IntoOutcome,
    {
        if concurrent == 0 {
            return Err(Error::new(
                ErrorKind::InvalidConfiguration,
                "with 0 handlers nothing is served: 1 is the least",
            ));
        }
        let mut running = FuturesUnordered::new();
        let mut is_shutting_down = false;
        std::future::poll_fn(|context| {
            loop {
                while let Poll::Ready(Some(rang)) = running.poll_next_unpin(context) {
                    self.count(rang)?;
                }
                if is_shutting_down || running.len() >= concurrent {
                    let is_done = is_shutting_down && running.is_empty();
                    return if is_done { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
                // Who is always asked would never let other tasks run.
                let budget = ready!(coop::poll_proceed(context));
                let Some(request) = ready!(self.poll_request(context, running.is_empty()))? else {
                    is_shutting_down = true;
                    continue;
                };
                budget.made_progress();
                // Most handlers are done at once: these are in no list.
                let mut handling = Box::pin(handle(&handler, request));
                match handling.as_mut().poll(context) {
                    Poll::Ready(rang) => self.count(rang)?,
                    Poll::Pending => running.push(handling),
                }
            }
        })
        .await?;
        drop(running);
        self.server.end_all();
        Ok(())
    }

    /// Waits for the next request, to be kept, and answered whenever and wherever one likes: [`Request::reply`],
    /// [`Request::fail`]. Dropping the future loses no request.
    ///
    /// # Errors
    /// [`ServerClosed`](ErrorKind::ServerClosed) once the server is shut down and everything that had been passed was given
    /// out; an error of the system.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let mut server = wigwag::tokio::Server::bind(name)?;
    /// let serving = tokio::spawn(async move {
    ///     while let Ok(mut request) = server.recv().await {
    ///         tokio::spawn(async move {                       // a task of its own, on any thread
    ///             request.reverse();
    ///             request.reply();
    ///         });
    ///     }
    /// });
    /// let client = wigwag::tokio::Client::connect(name).await?;
    /// assert_eq!(client.call(b"abc").await?[..], *b"cba");
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub async fn recv(&mut self) -> Result<Request> {
        let request = std::future::poll_fn(|context| self.poll_request(context, true)).await?;
        request
            .ok_or_else(|| Error::new(ErrorKind::ServerClosed { maybe_executed: false }, "the server is shutting down"))
    }

    /// The next request; `None` once the server is shut down. `may_spin`: nobody else waits in this task.
    fn poll_request(&mut self, context: &mut Context<'_>, may_spin: bool) -> Poll<Result<Option<Request>>> {
        let worker = self.server.worker()?;
        loop {
            match self.spinning.next(worker, may_spin)? {
                Next::Request => return Poll::Ready(Ok(Some(worker.take_request()))),
                Next::Shutdown => return Poll::Ready(Ok(None)),
                Next::Nothing => {
                    ready!(poll_ring(&self.ears, context)).map_err(|error| Error::io("wait for a request", error))?;
                    worker.listen()?;
                }
            }
        }
    }

    fn count(&mut self, rang: bool) -> Result<()> {
        if rang {
            self.server.worker()?.note_waking();
        }
        Ok(())
    }

    /// A handle that ends this server from anywhere.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut server = wigwag::tokio::Server::bind(name)?;
    /// server.shutdown_handle().shutdown();
    /// server.serve(async |_| ()).await
    /// # })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.server.shutdown_handle()
    }

    /// What the server has counted since it was bound.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Server::bind(name)?.stats().calls, 0);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// A handle that tells what has happened so far from other threads, and tasks, while this one serves.
    ///
    /// ```no_run
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut server = wigwag::tokio::Server::bind("example")?;
    /// let told = server.stats_handle();
    /// tokio::spawn(async move { println!("{:?}", told.stats()) });
    /// server.serve(async |_| ()).await
    /// # })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn stats_handle(&self) -> StatsHandle {
        self.server.stats_handle()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// assert_eq!(wigwag::tokio::Server::bind(name)?.path(), name);
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn path(&self) -> &Path {
        self.server.path()
    }
}

impl ServerBuilder {
    /// Binds for tasks: as [`bind`](ServerBuilder::bind), with a [`tokio::Server`](Server).
    ///
    /// # Errors
    /// As [`Server::bind`].
    ///
    /// # Panics
    /// As [`Server::bind`].
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::Server::builder().capacity(64 << 20).bind_async(name)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn bind_async(self, name: impl AsRef<OsStr>) -> Result<Server> {
        check_runtime()?; // before the name is taken
        Server::from_blocking(self.bind(name)?)
    }
}

/// One request, from its handler to its answer. Returns whether the client had to be rung for.
async fn handle<H, R>(handler: &H, mut request: Request) -> bool
where
    H: AsyncFn(&mut Request) -> R,
    R: IntoOutcome,
{
    let outcome = match Caught(std::pin::pin!(handler(&mut request))).await {
        // The text of the error is the handler's, too.
        Ok(outcome) => catch_unwind(AssertUnwindSafe(|| outcome.into_outcome())),
        Err(panic) => Err(panic),
    };
    let answered = match outcome {
        Ok(Ok(())) => request.answer(),
        Ok(Err(why)) => request.answer_with_text(Kind::Failed, &why),
        Err(panic) => {
            let text = panic_text(&request, &*panic).to_owned();
            request.answer_with_text(Kind::Panicked, &text)
        }
    };
    request.count(answered);
    answered.rang
}

/// A future whose panic is its outcome. The handler's state after one is its own affair, as with any task that panics.
struct Caught<F>(F);

impl<F: Future + Unpin> Future for Caught<F> {
    type Output = std::result::Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.0).poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// Whether the sessions of quick clients are polled.
#[derive(Debug, Default)]
pub(super) struct Spinning {
    abstinence: Abstinence,
    /// Whether they are not, until so many requests were served.
    is_abstaining: bool,
    /// Requests found since the last period of polling ended.
    found: u32,
}

/// Requests in a period of polling that make it worth it.
const WORTH_IT: u32 = 16;

impl Spinning {
    pub(super) fn next(&mut self, worker: &mut Worker, may_spin: bool) -> Result<Next> {
        if !may_spin || self.is_abstaining {
            worker.cool();
        }
        let next = worker.next(Until::Quiet)?;
        if next == Next::Request {
            self.found = self.found.saturating_add(1);
            self.is_abstaining = self.is_abstaining && !self.abstinence.is_over();
        }
        if let Some(found_cold) = worker.take_cooled() {
            // A period of polling is over.
            match std::mem::take(&mut self.found).saturating_sub(found_cold) < WORTH_IT {
                true => self.abstinence.failed(),
                false => self.abstinence.paid(),
            }
            self.is_abstaining = !self.abstinence.is_over();
        }
        Ok(next)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(out)
    }
}
