//! The typed server for tasks.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::path::Path;

use crate::contract::{Payload, check_type};
use crate::error::Result;
use crate::exchange::request::Request;
use crate::exchange::server::{IntoOutcome, ServerBuilder};
use crate::exchange::tokio::server::CONCURRENT;
use crate::exchange::tokio::server::Server;
use crate::exchange::typed_server;
use crate::exchange::typed_server::{Lent, TypedRequest, not_of_size};
use crate::service::handles::{ShutdownHandle, StatsHandle};
use crate::stats::ServerStats;

/// A [`Server`] whose requests and replies are `T`: handlers that may await get the message, or the whole request of
/// one.
///
/// A request of another length is answered so. When the future of [`serve`](TypedServer::serve) is dropped, so are the
/// handlers under way.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let mut server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
/// let stop = server.shutdown_handle();
/// let task = tokio::spawn(async move {
///     server
///         .serve(async |tick| {
///             tokio::task::yield_now().await;
///             tick.at += 1;
///         })
///         .await
/// });
/// let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
/// assert_eq!(client.call(&Tick { at: 7 }).await?.at, 8);
/// stop.shutdown();
/// task.await.unwrap()?;
/// # wigwag::Result::Ok(()) })?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedServer<T> {
    server: Server,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedServer<T> {
    /// Takes a name.
    ///
    /// # Errors
    /// As [`Server::bind`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// assert_eq!(server.path(), name);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<TypedServer<T>> {
        Server::builder().bind_typed_async(name)
    }

    /// Makes a blocking server one for tasks.
    ///
    /// # Errors
    /// As [`Server::from_blocking`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::TypedServer::<Tick>::bind(name)?;
    /// let server = wigwag::tokio::TypedServer::from_blocking(server)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(server: typed_server::TypedServer<T>) -> Result<TypedServer<T>> {
        Ok(TypedServer::of(Server::from_blocking(server.into_server())?))
    }

    fn of(server: Server) -> TypedServer<T> {
        const { check_type::<T>() };
        TypedServer { server, message: PhantomData }
    }

    /// Serves until it is shut down; the handler changes the message, which is the reply. See [`Server::serve`].
    ///
    /// # Errors
    /// As [`Server::serve`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// # server.shutdown_handle().shutdown();
    /// server.serve(async |tick| tick.at += 1).await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn serve<H, R>(&mut self, handler: H) -> Result<()>
    where
        H: AsyncFn(&mut T) -> R,
        R: IntoOutcome,
    {
        self.serve_up_to(CONCURRENT, handler).await
    }

    /// As [`serve`](TypedServer::serve), with up to `concurrent` handlers under way at a time; see
    /// [`Server::serve_up_to`].
    ///
    /// # Errors
    /// As [`Server::serve_up_to`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// # server.shutdown_handle().shutdown();
    /// server.serve_up_to(1, async |tick| tick.at += 1).await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn serve_up_to<H, R>(&mut self, concurrent: usize, handler: H) -> Result<()>
    where
        H: AsyncFn(&mut T) -> R,
        R: IntoOutcome,
    {
        let handle = async move |request: &mut Request| -> std::result::Result<(), String> {
            let len = request.len();
            match T::mut_from_bytes(request) {
                Ok(message) => handler(message).await.into_outcome(),
                Err(_) => Err(not_of_size::<T>(len)),
            }
        };
        self.server.serve_up_to(concurrent, handle).await
    }

    /// As [`serve`](TypedServer::serve), for a handler that asks who sent the message, by when the reply is wanted, or
    /// awaits that nobody waits for it any more.
    ///
    /// # Errors
    /// As [`Server::serve`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// # server.shutdown_handle().shutdown();
    /// server
    ///     .serve_requests(async |tick| {
    ///         println!("user {} by {:?}", tick.peer().uid, tick.deadline());
    ///         tick.at += 1;
    ///     })
    ///     .await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn serve_requests<H, R>(&mut self, handler: H) -> Result<()>
    where
        H: AsyncFn(&mut TypedRequest<T>) -> R,
        R: IntoOutcome,
    {
        self.serve_requests_up_to(CONCURRENT, handler).await
    }

    /// As [`serve_requests`](TypedServer::serve_requests), with up to `concurrent` handlers under way at a time.
    ///
    /// # Errors
    /// As [`Server::serve_up_to`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// # server.shutdown_handle().shutdown();
    /// server.serve_requests_up_to(1, async |tick| tick.at += 1).await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn serve_requests_up_to<H, R>(&mut self, concurrent: usize, handler: H) -> Result<()>
    where
        H: AsyncFn(&mut TypedRequest<T>) -> R,
        R: IntoOutcome,
    {
        let handle = async move |request: &mut Request| -> std::result::Result<(), String> {
            let mut lent = Lent::of(request)?;
            match lent.typed.as_mut() {
                Some(request) => handler(request).await.into_outcome(),
                None => Ok(()),
            }
        };
        self.server.serve_up_to(concurrent, handle).await
    }

    /// The next request, to be answered whenever and wherever; see [`Server::recv`].
    ///
    /// # Errors
    /// As [`Server::recv`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// # let calls = tokio::spawn({ let name = name.clone(); async move { wigwag::tokio::TypedClient::connect(name)
    /// #     .await?.call(&Tick { at: 7 }).await.map(|reply| reply.at) } });
    /// let mut tick = server.recv().await?;
    /// tick.at += 1;
    /// tick.reply();
    /// # assert_eq!(calls.await.unwrap()?, 8);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn recv(&mut self) -> Result<TypedRequest<T>> {
        loop {
            if let Some(request) = TypedRequest::new(self.server.recv().await?) {
                return Ok(request);
            }
        }
    }

    /// A handle that ends this server from another task or thread.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// server.shutdown_handle().shutdown();
    /// assert!(server.recv().await.is_err());
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.server.shutdown_handle()
    }

    /// What has happened so far.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// assert_eq!(server.stats().calls, 0);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// A handle that tells what has happened so far while the server serves.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// assert_eq!(server.stats_handle().stats().calls, 0);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats_handle(&self) -> StatsHandle {
        self.server.stats_handle()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let server = wigwag::tokio::TypedServer::<Tick>::bind(name)?;
    /// assert_eq!(server.path(), name);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        self.server.path()
    }

    /// The server underneath.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let server: wigwag::tokio::Server = wigwag::tokio::TypedServer::<Tick>::bind(name)?.into_server();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_server(self) -> Server {
        self.server
    }
}

impl ServerBuilder {
    /// Takes the name for a typed payload, for tasks: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`bind_async`](ServerBuilder::bind_async).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let server = wigwag::tokio::Server::builder().slots(4).bind_typed_async::<Tick>(name)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind_typed_async<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedServer<T>> {
        Ok(TypedServer::of(self.of_type::<T>().bind_async(name)?))
    }
}
