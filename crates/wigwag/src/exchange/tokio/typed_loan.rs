//! The three states of a slot in a task's hands, of a `T`.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::contract::{Payload, check_type};
use crate::error::Result;
use crate::exchange::call_error::CallError;
use crate::exchange::tokio::loan::{Loan, Pending, Reply};
use crate::exchange::typed_loan::{check_reply, typed};
use crate::typed_view::view_as;

/// A [`Loan`] that is a `T`: build the message right there, then [call](TypedLoan::call) or [send](TypedLoan::send).
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
/// let mut loan: wigwag::tokio::TypedLoan<Tick> = client.loan().await?;
/// loan.at = 7;
/// assert_eq!(loan.call().await?.at, 8);
/// # stop.shutdown();
/// # wigwag::Result::Ok(()) })?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a loan that is not sent does nothing"]
pub struct TypedLoan<T> {
    loan: Loan,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedLoan<T> {
    pub(super) fn of(loan: Loan) -> TypedLoan<T> {
        const { check_type::<T>() };
        TypedLoan { loan, message: PhantomData }
    }

    /// Calls, and gives the reply.
    ///
    /// # Errors
    /// As [`Loan::call`]; [`Violation`](crate::ErrorKind::Violation) for a reply that is no `T`.
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
    /// let reply = client.loan().await?.call().await?;
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn call(self) -> Result<TypedReply<T>> {
        self.loan.call().await.and_then(TypedReply::new)
    }

    /// As [`call`](TypedLoan::call), but gives up after `timeout`.
    ///
    /// # Errors
    /// As [`Loan::call_timeout`].
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
    /// let reply = client.loan().await?.call_timeout(std::time::Duration::from_secs(1)).await?;
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn call_timeout(self, timeout: Duration) -> Result<TypedReply<T>> {
        self.loan.call_timeout(timeout).await.and_then(TypedReply::new)
    }

    /// As [`call`](TypedLoan::call), but gives up then; the server sees until when.
    ///
    /// # Errors
    /// As [`Loan::call_deadline`].
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
    /// let at = std::time::Instant::now() + std::time::Duration::from_secs(1);
    /// let reply = client.loan().await?.call_deadline(at).await?;
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn call_deadline(self, at: Instant) -> Result<TypedReply<T>> {
        self.loan.call_deadline(at).await.and_then(TypedReply::new)
    }

    /// As [`call`](TypedLoan::call); an error has the message with it, where it can be had: see
    /// [`Loan::call_or_payload`].
    ///
    /// # Errors
    /// As [`call`](TypedLoan::call).
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
    /// let reply = client.loan().await?.call_or_payload().await.map_err(wigwag::CallError::into_error)?;
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn call_or_payload(self) -> std::result::Result<TypedReply<T>, CallError<T>> {
        typed(self.loan.call_or_payload().await, TypedReply::new)
    }

    /// As [`call_timeout`](TypedLoan::call_timeout); an error has the message with it, where it can be had.
    ///
    /// # Errors
    /// As [`call_timeout`](TypedLoan::call_timeout).
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
    /// let outcome = client.loan().await?.call_timeout_or_payload(limit).await;
    /// let reply = outcome.map_err(wigwag::CallError::into_error)?;
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn call_timeout_or_payload(self, timeout: Duration) -> std::result::Result<TypedReply<T>, CallError<T>> {
        typed(self.loan.call_timeout_or_payload(timeout).await, TypedReply::new)
    }

    /// Passes it to the server; the reply is awaited later.
    ///
    /// # Errors
    /// As [`Loan::send`].
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
    /// let pending = client.loan().await?.send()?;
    /// assert_eq!(pending.await?.at, 1);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send(self) -> Result<TypedPending<T>> {
        Ok(TypedPending { pending: self.loan.send()?, message: PhantomData })
    }

    /// Attaches a file descriptor; see [`Loan::attach`].
    ///
    /// # Errors
    /// As [`Loan::attach`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::Server::builder().descriptors(true).bind_typed::<Tick>(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve_requests(|tick| {
    ///     let came = tick.take_descriptors();
    ///     tick.at += 1;
    ///     came.iter().try_for_each(|descriptor| tick.attach(descriptor))     // back with the reply
    /// })
    /// # );
    /// let client = wigwag::Client::builder().descriptors(true).connect_typed_async::<Tick>(name).await?;
    /// let mut tick = client.loan().await?;
    /// tick.attach(std::io::stdin())?;
    /// let mut reply = tick.call().await?;
    /// assert_eq!((reply.at, reply.take_descriptors().len()), (1, 1));
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn attach(&mut self, descriptor: impl AsFd) -> Result<()> {
        self.loan.attach(descriptor)
    }

    /// The loan underneath.
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
    /// let loan: wigwag::tokio::Loan = client.loan().await?.into_loan();
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_loan(self) -> Loan {
        self.loan
    }
}

view_as!(mut TypedLoan<T>, loan);

/// A [`Pending`] call whose reply is a `T`: await it. Dropped, it gives the call up.
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
/// let pending: wigwag::tokio::TypedPending<Tick> = client.loan().await?.send()?;
/// assert_eq!(pending.await?.at, 1);
/// # stop.shutdown();
/// # wigwag::Result::Ok(()) })?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "dropping it abandons the call"]
pub struct TypedPending<T> {
    pending: Pending,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedPending<T> {
    /// The pending call underneath.
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
    /// let pending: wigwag::tokio::Pending = client.loan().await?.send()?.into_pending();
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_pending(self) -> Pending {
        self.pending
    }
}

impl<T: Payload> Future for TypedPending<T> {
    type Output = Result<TypedReply<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.pending).poll(context).map(|outcome| outcome.and_then(TypedReply::new))
    }
}

impl<T> fmt::Debug for TypedPending<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pending.fmt(out)
    }
}

/// A [`Reply`] that is a `T`, where the server left it. Dropping it gives its slot back.
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
/// let reply: wigwag::tokio::TypedReply<Tick> = client.call(&Tick { at: 7 }).await?;
/// assert_eq!(*reply, Tick { at: 8 });
/// # stop.shutdown();
/// # wigwag::Result::Ok(()) })?;
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct TypedReply<T> {
    reply: Reply,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedReply<T> {
    /// A reply as a `T`.
    ///
    /// # Errors
    /// [`Violation`](crate::ErrorKind::Violation) for one of another length.
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
    /// let reply = client.into_client().call(&[0; 8]).await?;
    /// assert_eq!(wigwag::tokio::TypedReply::<Tick>::new(reply)?.at, 1);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn new(reply: Reply) -> Result<TypedReply<T>> {
        check_reply::<T>(&reply)?;
        Ok(TypedReply { reply, message: PhantomData })
    }

    /// The same memory as the next request.
    ///
    /// # Errors
    /// As [`Reply::into_loan`].
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
    /// let again = client.call(&Tick { at: 7 }).await?.into_loan()?;
    /// assert_eq!(again.call().await?.at, 9);
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_loan(self) -> Result<TypedLoan<T>> {
        Ok(TypedLoan::of(self.reply.into_loan(size_of::<T>())?))
    }

    /// The file descriptors that came with it, once; see [`Reply::take_descriptors`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut server = wigwag::Server::builder().descriptors(true).bind_typed::<Tick>(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve_requests(|tick| {
    ///     let came = tick.take_descriptors();
    ///     tick.at += 1;
    ///     came.iter().try_for_each(|descriptor| tick.attach(descriptor))     // back with the reply
    /// })
    /// # );
    /// let client = wigwag::Client::builder().descriptors(true).connect_typed_async::<Tick>(name).await?;
    /// let mut tick = client.loan().await?;
    /// tick.attach(std::io::stdin())?;
    /// let mut reply = tick.call().await?;
    /// assert_eq!((reply.at, reply.take_descriptors().len()), (1, 1));
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        self.reply.take_descriptors()
    }

    /// The reply underneath.
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
    /// let reply: wigwag::tokio::Reply = client.call(&Tick { at: 7 }).await?.into_reply();
    /// # stop.shutdown();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_reply(self) -> Reply {
        self.reply
    }
}

view_as!(mut TypedReply<T>, reply);
