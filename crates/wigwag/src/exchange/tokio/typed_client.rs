//! The typed client for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::contract::{Payload, check_type};
use crate::error::Result;
use crate::exchange::client::ClientBuilder;
use crate::exchange::tokio::client::Client;
use crate::exchange::tokio::typed_loan::{TypedLoan, TypedReply};
use crate::exchange::typed_client;
use crate::stats::ClientStats;

/// A [`Client`] whose requests and replies are `T`.
///
/// A clone is another handle to the same session, as with a [`Client`]; a future that is dropped gives its call up; and
/// when the server dies, all that wait end with [`PeerDied`](crate::ErrorKind::PeerDied). A type whose alignment is
/// above 16, or that has more than 1 GiB, does not compile.
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
/// let task = tokio::spawn(async move { server.serve(async |tick| tick.at += 1).await });
///
/// let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
/// let mut loan = client.loan().await?;
/// loan.at = 7;                             // in the shared memory already
/// assert_eq!(loan.call().await?.at, 8);
/// # stop.shutdown(); task.await.unwrap()?;
/// # wigwag::Result::Ok(()) })?;
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct TypedClient<T> {
    client: Client,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedClient<T> {
    /// Connects to a server of the same type, blocking or not.
    ///
    /// # Errors
    /// As [`Client::connect`]; [`ContractMismatch`](crate::ErrorKind::ContractMismatch) shows both types.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let error = wigwag::tokio::TypedClient::<Tick>::connect(name).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn connect(name: impl AsRef<OsStr>) -> Result<TypedClient<T>> {
        Client::builder().connect_typed_async(name).await
    }

    /// Makes one of a blocking client: see [`Client::from_blocking`].
    ///
    /// # Errors
    /// As [`Client::from_blocking`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// let client = wigwag::TypedClient::<Tick>::connect(name)?;
    /// let client = wigwag::tokio::TypedClient::from_blocking(client)?;
    /// assert_eq!(client.call(&Tick { at: 7 }).await?.at, 8);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(client: typed_client::TypedClient<T>) -> Result<TypedClient<T>> {
        Ok(TypedClient::of(Client::from_blocking(client.into_client())?))
    }

    fn of(client: Client) -> TypedClient<T> {
        const { check_type::<T>() };
        TypedClient { client, message: PhantomData }
    }

    /// Borrows a `T` that the server already has; waits while all slots are out. Its content is what a former call
    /// left, zeros at first.
    ///
    /// # Errors
    /// As [`Client::loan`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
    /// let mut loan = client.loan().await?;
    /// loan.at = 7;
    /// assert_eq!(loan.call().await?.at, 8);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn loan(&self) -> Result<TypedLoan<T>> {
        Ok(TypedLoan::of(self.client.loan(size_of::<T>()).await?))
    }

    /// As [`loan`](TypedClient::loan), without waiting for a slot.
    ///
    /// # Errors
    /// As [`Client::try_loan`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
    /// let reply = client.try_loan()?.call().await?;
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_loan(&self) -> Result<TypedLoan<T>> {
        Ok(TypedLoan::of(self.client.try_loan(size_of::<T>())?))
    }

    /// As [`loan`](TypedClient::loan), but waits no longer than `timeout` for a slot.
    ///
    /// # Errors
    /// As [`Client::loan_timeout`].
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
    /// let reply = client.loan_timeout(std::time::Duration::from_secs(1)).await?.call().await?;
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn loan_timeout(&self, timeout: Duration) -> Result<TypedLoan<T>> {
        Ok(TypedLoan::of(self.client.loan_timeout(size_of::<T>(), timeout).await?))
    }

    /// Copies a `T` in, calls, and gives the reply.
    ///
    /// # Errors
    /// As [`Client::call`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
    /// assert_eq!(client.call(&Tick { at: 7 }).await?.at, 8);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn call(&self, message: &T) -> Result<TypedReply<T>> {
        self.client.call(message.as_bytes()).await.and_then(TypedReply::new)
    }

    /// As [`call`](TypedClient::call), but gives up after `timeout`, the wait for a slot included.
    ///
    /// # Errors
    /// As [`Client::call_timeout`].
    ///
    /// # Panics
    /// tokio panics if the runtime's time is not enabled.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
    /// let limit = std::time::Duration::from_secs(1);
    /// assert_eq!(client.call_timeout(&Tick { at: 7 }, limit).await?.at, 8);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn call_timeout(&self, message: &T, timeout: Duration) -> Result<TypedReply<T>> {
        self.client.call_timeout(message.as_bytes(), timeout).await.and_then(TypedReply::new)
    }

    /// How many calls can be with the server at a time.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
    /// assert_eq!(client.slots(), 16);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn slots(&self) -> usize {
        self.client.slots()
    }

    /// What this session has counted.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
    /// drop(client.call(&Tick { at: 7 }).await?);
    /// assert_eq!(client.stats().calls, 1);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ClientStats {
        self.client.stats()
    }

    /// The client underneath.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::tokio::TypedClient::<Tick>::connect(name).await?;
    /// let client: wigwag::tokio::Client = client.into_client();
    /// assert_eq!(client.capacity(), 8);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_client(self) -> Client {
        self.client
    }
}

impl<T> Clone for TypedClient<T> {
    fn clone(&self) -> TypedClient<T> {
        TypedClient { client: self.client.clone(), message: PhantomData }
    }
}

impl<T> fmt::Debug for TypedClient<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(out)
    }
}

impl ClientBuilder {
    /// Connects with a typed payload, for tasks: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`connect_async`](ClientBuilder::connect_async).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// let client = wigwag::tokio::Client::builder().slots(4).connect_typed_async::<Tick>(name).await?;
    /// assert_eq!(client.slots(), 4);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn connect_typed_async<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedClient<T>> {
        Ok(TypedClient::of(self.of_type::<T>().connect_async(name).await?))
    }
}
