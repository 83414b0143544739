//! The typed server: handlers get the message, or the whole request with it.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::contract::{Contract, Payload, check_type};
use crate::error::{Error, Result};
use crate::exchange::request::{Abandoned, Request};
use crate::exchange::server::{IntoOutcome, Server, ServerBuilder};
use crate::service::handles::{ShutdownHandle, StatsHandle};
use crate::session::peer::Peer;
use crate::stats::ServerStats;
use crate::typed_view::{first_within, view, view_mut};

/// A [`Server`] whose requests and replies are `T`, served as `&mut T`.
///
/// ```no_run
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// wigwag::TypedServer::<Tick>::bind("ticks")?.serve(|tick| tick.at += 1)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedServer<T> {
    server: Server,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedServer<T> {
    /// Takes a name; only clients of the same type get a session.
    ///
    /// # Errors
    /// As [`Server::bind`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<TypedServer<T>> {
        Server::builder().bind_typed(name)
    }

    /// Serves until shutdown, on this thread; see [`Server::serve`].
    ///
    /// # Errors
    /// As [`Server::serve`]. A client that sends another length gets an error; its handler is not called.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// server.serve(|tick| match tick.at { 0 => Err("time does not begin here"), _ => Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve<F, R>(&mut self, mut handler: F) -> Result<()>
    where
        F: FnMut(&mut T) -> R,
        R: IntoOutcome,
    {
        self.server.serve(|request: &mut Request| handle(request, &mut handler))
    }

    /// Serves on `threads` threads until shutdown; see [`Server::serve_on`].
    ///
    /// # Errors
    /// As [`Server::serve_on`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// wigwag::TypedServer::<Tick>::bind("ticks")?.serve_on(2, |tick| tick.at += 1)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve_on<F, R>(&mut self, threads: usize, handler: F) -> Result<()>
    where
        F: Fn(&mut T) -> R + Sync,
        R: IntoOutcome,
    {
        self.server.serve_on(threads, |request: &mut Request| handle(request, &mut |message: &mut T| handler(message)))
    }

    /// As [`serve`](TypedServer::serve), for a handler that asks who sent the message, by when the reply is wanted, or
    /// whether anybody waits for it still.
    ///
    /// # Errors
    /// As [`serve`](TypedServer::serve).
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// wigwag::TypedServer::<Tick>::bind("ticks")?.serve_requests(|tick| {
    ///     if tick.peer().uid != 0 { return Err("only root may turn the clock"); }
    ///     tick.at += 1;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve_requests<F, R>(&mut self, mut handler: F) -> Result<()>
    where
        F: FnMut(&mut TypedRequest<T>) -> R,
        R: IntoOutcome,
    {
        self.server.serve(|request: &mut Request| handle_request(request, &mut handler))
    }

    /// As [`serve_requests`](TypedServer::serve_requests), on `threads` threads.
    ///
    /// # Errors
    /// As [`serve_on`](TypedServer::serve_on).
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// wigwag::TypedServer::<Tick>::bind("ticks")?.serve_requests_on(2, |tick| match tick.is_abandoned() {
    ///     true => Err("nobody waits for this any more"),
    ///     false => Ok(tick.at += 1),
    /// })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn serve_requests_on<F, R>(&mut self, threads: usize, handler: F) -> Result<()>
    where
        F: Fn(&mut TypedRequest<T>) -> R + Sync,
        R: IntoOutcome,
    {
        self.server.serve_on(threads, |request: &mut Request| {
            handle_request(request, &mut |message: &mut TypedRequest<T>| handler(message))
        })
    }

    /// Waits for the next request, to be answered here or on another thread, now or later; see [`Server::recv`]. One of
    /// another length is answered with an error, and not handed out.
    ///
    /// # Errors
    /// As [`Server::recv`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// let mut server = wigwag::TypedServer::<Tick>::bind(name)?;
    /// # let client = std::thread::spawn({ let name = name.clone(); move || wigwag::TypedClient::connect(name)?
    /// #     .call(&Tick { at: 1 }).map(|r| r.at) });
    /// let mut tick = server.recv()?;
    /// tick.at += 1;
    /// tick.reply();
    /// # assert_eq!(client.join().unwrap()?, 2);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv(&mut self) -> Result<TypedRequest<T>> {
        loop {
            if let Some(request) = TypedRequest::new(self.server.recv()?) {
                return Ok(request);
            }
        }
    }

    /// The next request if one is there.
    ///
    /// # Errors
    /// As [`Server::recv`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// let mut server = wigwag::TypedServer::<Tick>::bind(name)?;
    /// assert!(server.try_recv()?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<TypedRequest<T>>> {
        while let Some(request) = self.server.try_recv()? {
            if let Some(request) = TypedRequest::new(request) {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    /// The next request, or none within `timeout`.
    ///
    /// # Errors
    /// As [`Server::recv`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// let mut server = wigwag::TypedServer::<Tick>::bind(name)?;
    /// assert!(server.recv_timeout(std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<TypedRequest<T>>> {
        first_within(timeout, |left| self.server.recv_timeout(left), TypedRequest::new)
    }

    /// A handle that ends this server from another thread.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// server.shutdown_handle().shutdown();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.server.shutdown_handle()
    }

    /// What has happened so far.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// println!("{:?}", server.stats());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// A handle that tells what has happened so far from other threads; see [`Server::stats_handle`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// println!("{:?}", server.stats_handle().stats());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats_handle(&self) -> StatsHandle {
        self.server.stats_handle()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// assert_eq!(wigwag::TypedServer::<Tick>::bind(name)?.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        self.server.path()
    }

    /// The server underneath.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let server: wigwag::Server = wigwag::TypedServer::<Tick>::bind("ticks")?.into_server();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_server(self) -> Server {
        self.server
    }
}

impl ServerBuilder {
    /// Takes the name for a typed payload: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`bind`](ServerBuilder::bind).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// let server = wigwag::Server::builder().slots(4).bind_typed::<Tick>(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind_typed<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedServer<T>> {
        const { check_type::<T>() };
        Ok(TypedServer { server: self.of_type::<T>().bind(name)?, message: PhantomData })
    }

    pub(crate) fn of_type<T: Payload>(self) -> ServerBuilder {
        self.contract(Contract::of::<T>()).capacity(size_of::<T>())
    }
}

/// A [`Request`] that is a `T`: the message, and who sent it.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// let mut server = wigwag::TypedServer::<Tick>::bind(name)?;
/// # let client = std::thread::spawn({ let name = name.clone(); move || wigwag::TypedClient::connect(name)?
/// #     .call(&Tick { at: 1 }).map(|r| r.at) });
/// let mut tick: wigwag::TypedRequest<Tick> = server.recv()?;
/// println!("user {} sent {}", tick.peer().uid, tick.at);
/// tick.at += 1;
/// tick.reply();
/// # assert_eq!(client.join().unwrap()?, 2);
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct TypedRequest<T> {
    request: Request,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedRequest<T> {
    /// A request as a `T`. One of another length is answered so, and gone.
    pub(crate) fn new(request: Request) -> Option<TypedRequest<T>> {
        const { check_type::<T>() };
        match request.len() == size_of::<T>() {
            true => Some(TypedRequest { request, message: PhantomData }),
            false => {
                let why = not_of_size::<T>(request.len());
                request.fail(why);
                None
            }
        }
    }

    /// Answers: the message as it is now is the reply.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// server.recv()?.reply();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn reply(self) {
        self.request.reply();
    }

    /// Answers with an error; see [`Request::fail`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// server.recv()?.fail("not today");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn fail(self, why: impl fmt::Display) {
        self.request.fail(why);
    }

    /// Answers with an error of this library; see [`Request::fail_as`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("near")?;
    /// let Err(error) = wigwag::TypedClient::<Tick>::connect("far") else { return Ok(()) };
    /// server.recv()?.fail_as(&error);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn fail_as(self, error: &Error) {
        self.request.fail_as(error);
    }

    /// Who sent it.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// let uid = server.recv()?.peer().uid;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn peer(&self) -> Peer {
        self.request.peer()
    }

    /// When the client stops waiting, if it said so.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// let deadline = server.recv()?.deadline();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.request.deadline()
    }

    /// Whether nobody waits for the answer any more; see [`Request::is_abandoned`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// if server.recv()?.is_abandoned() { println!("nobody waits for this any more"); }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_abandoned(&self) -> bool {
        self.request.is_abandoned()
    }

    /// Waits until nobody waits for the answer any more; see [`Request::abandoned`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # async fn example(tick: wigwag::TypedRequest<Tick>) {
    /// tick.abandoned().await;
    /// # }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn abandoned(&self) -> Abandoned<'_> {
        self.request.abandoned()
    }

    /// Whether the caller's session is over, and not only this call; see [`Request::is_session_over`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # async fn example(tick: wigwag::TypedRequest<Tick>) {
    /// tick.abandoned().await;
    /// if tick.is_session_over() { println!("it will not call again"); }
    /// # }
    /// ```
    pub fn is_session_over(&self) -> bool {
        self.request.is_session_over()
    }

    /// As [`abandoned`](TypedRequest::abandoned), on this thread, for up to `timeout`; see [`Request::wait_abandoned`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// let is_over = server.recv()?.wait_abandoned(std::time::Duration::from_secs(1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_abandoned(&self, timeout: Duration) -> bool {
        self.request.wait_abandoned(timeout)
    }

    /// The file descriptors that came with it, once; see [`Request::take_descriptors`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut server = wigwag::Server::builder().descriptors(true).bind_typed::<Tick>(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve_requests(|tick| {
    ///     let came = tick.take_descriptors();
    ///     tick.at += 1;
    ///     came.iter().try_for_each(|descriptor| tick.attach(descriptor))     // back with the reply
    /// })
    /// # );
    /// let client = wigwag::Client::builder().descriptors(true).connect_typed::<Tick>(name)?;
    /// let mut tick = client.loan()?;
    /// tick.attach(std::io::stdin())?;
    /// let mut reply = tick.call()?;
    /// assert_eq!((reply.at, reply.take_descriptors().len()), (1, 1));
    /// # drop(reply);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        self.request.take_descriptors()
    }

    /// Attaches a file descriptor to the reply; see [`Request::attach`].
    ///
    /// # Errors
    /// As [`Request::attach`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut server = wigwag::Server::builder().descriptors(true).bind_typed::<Tick>(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve_requests(|tick| {
    ///     let came = tick.take_descriptors();
    ///     tick.at += 1;
    ///     came.iter().try_for_each(|descriptor| tick.attach(descriptor))     // back with the reply
    /// })
    /// # );
    /// let client = wigwag::Client::builder().descriptors(true).connect_typed::<Tick>(name)?;
    /// let mut tick = client.loan()?;
    /// tick.attach(std::io::stdin())?;
    /// let mut reply = tick.call()?;
    /// assert_eq!((reply.at, reply.take_descriptors().len()), (1, 1));
    /// # drop(reply);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn attach(&mut self, descriptor: impl AsFd) -> Result<()> {
        self.request.attach(descriptor)
    }

    /// The request underneath.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// let request: wigwag::Request = server.recv()?.into_request();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_request(self) -> Request {
        self.request
    }
}

impl<T: Payload> Deref for TypedRequest<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        view(&self.request)
    }
}

impl<T: Payload> DerefMut for TypedRequest<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        view_mut(&mut self.request)
    }
}

impl<T> fmt::Debug for TypedRequest<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(out)
    }
}

#[inline(always)]
fn handle<T: Payload, F, R>(request: &mut Request, handler: &mut F) -> std::result::Result<(), String>
where
    F: FnMut(&mut T) -> R,
    R: IntoOutcome,
{
    const { check_type::<T>() };
    let len = request.len();
    match T::mut_from_bytes(request) {
        Ok(message) => handler(message).into_outcome(),
        Err(_) => Err(not_of_size::<T>(len)),
    }
}

/// As [`handle`], with the request itself, which is the handler's for so long.
fn handle_request<T: Payload, F, R>(request: &mut Request, handler: &mut F) -> std::result::Result<(), String>
where
    F: FnMut(&mut TypedRequest<T>) -> R,
    R: IntoOutcome,
{
    let mut lent = Lent::of(request)?;
    lent.typed.as_mut().map_or(Ok(()), |request| handler(request).into_outcome())
}

/// A request while the handler has it. It goes back to the code that answers it, also if the handler panics.
pub(crate) struct Lent<'r, T> {
    /// There until it is dropped.
    pub(crate) typed: Option<TypedRequest<T>>,
    home: &'r mut Request,
}

impl<'r, T: Payload> Lent<'r, T> {
    /// Else what is told to the client.
    pub(crate) fn of(request: &'r mut Request) -> std::result::Result<Lent<'r, T>, String> {
        const { check_type::<T>() };
        if request.len() != size_of::<T>() {
            return Err(not_of_size::<T>(request.len()));
        }
        let typed = TypedRequest { request: request.take(), message: PhantomData };
        Ok(Lent { typed: Some(typed), home: request })
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        if let Some(typed) = self.typed.take() {
            *self.home = typed.request;
        }
    }
}

#[cold]
pub(crate) fn not_of_size<T: Payload>(len: usize) -> String {
    format!("a request of {len} bytes is not a {} of {}", T::NAME, size_of::<T>())
}
