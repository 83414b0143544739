//! The server for tasks: handlers that may await, many of them at a time.

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
use tokio::task::coop;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::request::Request;
use crate::exchange::server::{self, IntoOutcome, ServerBuilder, answer_panic, discard};
use crate::faults::{self, Fault};
use crate::memory::head::Kind;
use crate::service::handles::{ShutdownHandle, StatsHandle};
use crate::service::polling_backoff::PollingBackoff;
use crate::service::worker::Next;
use crate::stats::ServerStats;
use crate::sys::async_fd::{Watched, check_runtime, watch};
use crate::wait::readiness::poll_ring;

/// Takes a name and serves the clients that call it, in a task. They may be blocking or not.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
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
    readiness: Watched<OwnedFd>,
    server: server::Server,
    polling_backoff: PollingBackoff,
}

/// Handlers that may be under way at a time, if nothing else is said.
pub(super) const CONCURRENT: usize = 1024;

impl Server {
    /// Takes a name with the default policy (clients of the same user) and limits. It does not wait for anything.
    ///
    /// # Errors
    /// As [`wigwag::Server::bind`](crate::Server::bind); [`InvalidConfiguration`](ErrorKind::InvalidConfiguration)
    /// outside of a runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
    /// [`Io`](ErrorKind::Io) when the system refuses; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) outside
    /// of a runtime. The name is given up then.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let blocking = wigwag::Server::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::tokio::Server::from_blocking(blocking)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # wigwag::Result::Ok(())
    /// ```
    pub fn from_blocking(mut server: server::Server) -> Result<Server> {
        let readiness = watch(server.worker()?.for_reactor()?)?;
        Ok(Server { readiness, server, polling_backoff: PollingBackoff::default() })
    }

    /// Serves until the server is shut down, with up to 1,024 handlers under way at a time; see
    /// [`serve_up_to`](Server::serve_up_to).
    ///
    /// # Errors
    /// As [`serve_up_to`](Server::serve_up_to).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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

    /// Serves until the server is [shut down](Server::shutdown_handle), with up to `concurrent` handlers under way at a
    /// time. While so many are, no request is taken: those beyond stay in their clients' slots.
    ///
    /// All handlers run in the task that awaits this, in turn: one that does not await is done at once, one that
    /// computes for long holds up the others. For several processors at a time, give the work to tasks of their own, or
    /// use [`recv`](Server::recv). Dropping the future drops the handlers under way, whose requests are unanswered
    /// then.
    ///
    /// In a task of its own (`tokio::spawn`) the handler is best an `async move` closure, with clones of what it
    /// shares: with captures by reference the compiler does not see that the future is `Send`.
    ///
    /// A handler's error, and its panic, is the client's answer, wherever it panics: before it has made its future, in
    /// the future, or when that is dropped. In a shutdown exactly what had been passed until then is served, and the
    /// handlers under way are waited for. The server has ended then: to serve once more returns at once.
    ///
    /// # Errors
    /// [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for 0; an error of the system, also when all was
    /// served and the name could not be removed.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
        let mut running = Running(FuturesUnordered::new());
        let mut end = None;
        let outcome = std::future::poll_fn(|context| {
            loop {
                while let Poll::Ready(Some(rang)) = running.0.poll_next_unpin(context) {
                    self.note(rang);
                }
                if let Some(outcome) = end.take_if(|_| running.0.is_empty()) {
                    return Poll::Ready(outcome);
                }
                if end.is_some() || running.0.len() >= concurrent {
                    return Poll::Pending;
                }
                // Cooperative budget: a server with a constant load must still let other tasks run.
                let budget = ready!(coop::poll_proceed(context));
                let request = match ready!(self.poll_request(context, running.0.is_empty())) {
                    Ok(Some(request)) => request,
                    // Handlers that are under way are waited for, whatever it is that ends.
                    over => {
                        end = Some(over.map(|_| ()));
                        continue;
                    }
                };
                budget.made_progress();
                // Most handlers are done at once: these are in no list.
                let mut handling = Box::pin(handle(&handler, request));
                match handling.as_mut().poll(context) {
                    Poll::Ready(rang) => self.note(rang),
                    Poll::Pending => running.0.push(handling),
                }
            }
        })
        .await;
        drop(running);
        self.server.end_serving(outcome)
    }

    /// Waits for the next request, to be kept, and answered whenever and wherever one likes: [`Request::reply`],
    /// [`Request::fail`]. Dropping the future loses no request.
    ///
    /// # Errors
    /// [`ServerClosed`](ErrorKind::ServerClosed) once the server is shut down and everything that had been passed was
    /// given out; an error of the system.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
        request.ok_or_else(Error::shutting_down)
    }

    /// The next request; `None` once the server is shut down. `may_spin`: nobody else waits in this task.
    fn poll_request(&mut self, context: &mut Context<'_>, may_spin: bool) -> Poll<Result<Option<Request>>> {
        let worker = self.server.worker()?;
        loop {
            match self.polling_backoff.next(worker, may_spin)? {
                Next::Request => return Poll::Ready(Ok(Some(worker.take()))),
                Next::Shutdown => return Poll::Ready(Ok(None)),
                Next::Nothing => {
                    ready!(poll_ring(&self.readiness, context))
                        .map_err(|error| Error::io("wait for a request", error))?;
                    worker.listen()?;
                }
            }
        }
    }

    fn note(&mut self, rang: bool) {
        if rang && let Ok(worker) = self.server.worker() {
            worker.note_waking();
        }
    }

    /// A handle that ends this server from anywhere.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
    /// # let name = &wigwag_testing::temporary_name("s").path;
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

/// Handlers under way. They are dropped when nobody awaits the server any more; a panic in a handler's drop does not
/// reach the thread that drops them.
struct Running<F>(FuturesUnordered<Pin<Box<F>>>);

impl<F> Drop for Running<F> {
    fn drop(&mut self) {
        for handling in std::mem::take(&mut self.0) {
            let _ = caught(|| drop(handling)).map_err(discard);
        }
    }
}

/// One request, from its handler to its answer. Returns whether the client had to be rung for. All that is the
/// handler's is done where a panic of it is caught: its making of the future, each poll, the text of the error, and the
/// end of the future.
async fn handle<H, R>(handler: &H, mut request: Request) -> bool
where
    H: AsyncFn(&mut Request) -> R,
    R: IntoOutcome,
{
    let borrowed = &mut request;
    let outcome = match started(move || handler(borrowed)) {
        Ok(future) => Caught(std::pin::pin!(Some(future))).await,
        Err(panic) => Err(panic),
    };
    let outcome = outcome.and_then(|outcome| caught(|| outcome.into_outcome()));
    let answered = match outcome {
        Ok(Ok(())) => request.answer(),
        Ok(Err(why)) => request.answer_with_text(Kind::Failed, &why),
        Err(panic) => answer_panic(&mut request, panic),
    };
    request.count(answered);
    answered.rang
}

type Panic = Box<dyn Any + Send>;

/// A handler's state after a panic is its own affair, as with any task that panics.
fn caught<T>(run: impl FnOnce() -> T) -> std::result::Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(run))
}

/// What a handler does before its future exists.
fn started<T>(run: impl FnOnce() -> T) -> std::result::Result<T, Panic> {
    if faults::is(Fault::UncaughtStart) {
        return Ok(run());
    }
    caught(run)
}

/// A future whose panic is its outcome, also one in its end.
struct Caught<'a, F>(Pin<&'a mut Option<F>>);

impl<F: Future> Future for Caught<'_, F> {
    type Output = std::result::Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let poll = caught(|| match self.0.as_mut().as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Pending, // it has been polled to its end
        });
        let outcome = match poll {
            Ok(poll) => Ok(ready!(poll)),
            Err(panic) => Err(panic),
        };
        match caught(|| self.0.set(None)) {
            Ok(()) => Poll::Ready(outcome),
            Err(panic) => {
                let _ = caught(|| drop(outcome)).map_err(discard);
                Poll::Ready(Err(panic))
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(out)
    }
}
