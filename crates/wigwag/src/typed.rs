//! Typed exchange: any plain-memory type lent and served as `&mut T`, checked by zerocopy, agreed on at connect.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::client::{Client, ClientBuilder};
use crate::contract::{Contract, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::loan::{Loan, Reply};
use crate::request::Request;
use crate::server::{IntoOutcome, Server, ServerBuilder, ShutdownHandle, StatsHandle};
use crate::stats::ServerStats;

/// A [`Client`] whose requests and replies are `T`.
///
/// ```
/// use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
/// #[repr(C)]
/// struct Point { x: f64, y: f64 }
/// impl wigwag::Message for Point { const NAME: &'static str = "Point"; }
///
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("mirror"); let name = &name;
/// let mut server = wigwag::TypedServer::<Point>::bind(name)?;
/// # let stop = server.shutdown_handle();
/// let thread = std::thread::spawn(move || server.serve(|point| std::mem::swap(&mut point.x, &mut point.y)));
///
/// let client = wigwag::TypedClient::<Point>::connect(name)?;
/// let mut loan = client.loan()?;
/// loan.x = 1.0;                            // in the shared memory already
/// loan.y = 2.0;
/// assert_eq!(*loan.call()?, Point { x: 2.0, y: 1.0 });
/// # stop.shutdown(); thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedClient<T> {
    client: Client,
    message: PhantomData<fn() -> T>,
}

impl<T: Message> TypedClient<T> {
    /// Connects to a [`TypedServer`] of the same type.
    ///
    /// # Errors
    /// As [`Client::connect`]; [`ContractMismatch`](crate::ErrorKind::ContractMismatch) shows both types.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<TypedClient<T>> {
        Client::builder().connect_typed(name)
    }

    /// Borrows a `T` that the server already has. Its content is what a former call left, zeros at first.
    ///
    /// # Errors
    /// As [`Client::loan`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let mut tick = client.loan()?;
    /// tick.at = 7;
    /// let reply = tick.call()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn loan(&self) -> Result<TypedLoan<'_, T>> {
        const { assert!(align_of::<T>() <= 16, "a message's alignment may be at most 16") };
        Ok(TypedLoan { loan: self.client.loan(size_of::<T>())?, message: PhantomData })
    }

    /// Copies a `T` in, calls, and gives the reply.
    ///
    /// # Errors
    /// As [`Client::call`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let next = client.call(&Tick { at: 7 })?.at;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn call(&self, message: &T) -> Result<TypedReply<'_, T>> {
        let mut loan = self.loan()?;
        loan.loan.copy_from_slice(message.as_bytes());
        loan.call()
    }

    /// As [`call`](TypedClient::call), but gives up after `timeout`.
    ///
    /// # Errors
    /// As [`Client::call_timeout`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let next = client.call_timeout(&Tick { at: 7 }, std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_timeout(&self, message: &T, timeout: Duration) -> Result<TypedReply<'_, T>> {
        self.client.call_timeout(message.as_bytes(), timeout).and_then(TypedReply::new)
    }

    /// The client underneath.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// println!("{:?}", client.as_client().stats());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn as_client(&self) -> &Client {
        &self.client
    }
}

impl ClientBuilder {
    /// Connects with a typed payload: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`connect`](ClientBuilder::connect).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("t"); let name = &name;
    /// # let server = wigwag::TypedServer::<Tick>::bind(name)?;
    /// let client = wigwag::Client::builder().connect_typed::<Tick>(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect_typed<T: Message>(self, name: impl AsRef<OsStr>) -> Result<TypedClient<T>> {
        let client = self.contract(Contract::of::<T>()).capacity(size_of::<T>()).connect(name)?;
        Ok(TypedClient { client, message: PhantomData })
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
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("t"); let name = &name;
    /// let server = wigwag::Server::builder().slots(4).bind_typed::<Tick>(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind_typed<T: Message>(self, name: impl AsRef<OsStr>) -> Result<TypedServer<T>> {
        let server = self.contract(Contract::of::<T>()).capacity(size_of::<T>()).bind(name)?;
        Ok(TypedServer { server, message: PhantomData })
    }
}

/// A [`Loan`] of a `T`.
///
/// ```no_run
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
/// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
/// let mut tick: wigwag::TypedLoan<Tick> = client.loan()?;
/// tick.at += 1;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a loan that is not sent does nothing"]
pub struct TypedLoan<'c, T> {
    loan: Loan<'c>,
    message: PhantomData<fn() -> T>,
}

impl<'c, T: Message> TypedLoan<'c, T> {
    /// Passes it to the server and waits until it comes back.
    ///
    /// # Errors
    /// As [`Loan::call`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let reply = client.loan()?.call()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn call(self) -> Result<TypedReply<'c, T>> {
        self.loan.call().and_then(TypedReply::new)
    }

    /// The loan underneath, for the forms with a timeout and for sending without waiting.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let pending = client.loan()?.into_loan().send()?;
    /// let reply = wigwag::TypedReply::<Tick>::new(pending.wait()?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_loan(self) -> Loan<'c> {
        self.loan
    }
}

impl<T: Message> Deref for TypedLoan<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        view(&self.loan)
    }
}

impl<T: Message> DerefMut for TypedLoan<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        view_mut(&mut self.loan).expect("a typed loan has the type's size")
    }
}

/// A [`Reply`] that is a `T`.
///
/// ```no_run
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
/// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
/// let reply: wigwag::TypedReply<Tick> = client.call(&Tick { at: 1 })?;
/// println!("{}", reply.at);
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct TypedReply<'c, T> {
    reply: Reply<'c>,
    message: PhantomData<fn() -> T>,
}

impl<'c, T: Message> TypedReply<'c, T> {
    /// Looks at a reply as a `T`.
    ///
    /// # Errors
    /// [`Violation`](crate::ErrorKind::Violation) if the reply does not have the type's size; a [`TypedServer`]'s always has.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let pending = client.loan()?.into_loan().send()?;
    /// let reply = wigwag::TypedReply::<Tick>::new(pending.wait()?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn new(reply: Reply<'c>) -> Result<TypedReply<'c, T>> {
        if reply.len() != size_of::<T>() {
            return Err(not_of_size(reply.len(), T::NAME, size_of::<T>()));
        }
        Ok(TypedReply { reply, message: PhantomData })
    }
}

#[cold]
fn not_of_size(len: usize, name: &str, size: usize) -> Error {
    Error::new(ErrorKind::Violation, format!("a reply of {len} bytes is not a {name} of {size}"))
}

impl<T: Message> Deref for TypedReply<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        view(&self.reply)
    }
}

/// Payloads begin at multiples of 16 and have the type's size, checked where the wrapper was made.
#[inline(always)]
fn view<T: Message>(bytes: &[u8]) -> &T {
    T::ref_from_bytes(bytes).unwrap_or_else(|_| unreachable!("checked where the wrapper was made"))
}

#[inline(always)]
fn view_mut<T: Message>(bytes: &mut [u8]) -> Option<&mut T> {
    T::mut_from_bytes(bytes).ok()
}

/// A [`Server`] whose requests and replies are `T`, served as `&mut T`.
///
/// ```no_run
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
/// wigwag::TypedServer::<Tick>::bind("ticks")?.serve(|tick| tick.at += 1)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedServer<T> {
    server: Server,
    message: PhantomData<fn() -> T>,
}

impl<T: Message> TypedServer<T> {
    /// Takes a name; only clients of the same type get a session.
    ///
    /// # Errors
    /// As [`Server::bind`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
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
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
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
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
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

    /// A handle that ends this server from another thread.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
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
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// let server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// println!("{:?}", server.stats());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// A handle that tells what has happened so far from other threads, while this one serves.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Message for Tick { const NAME: &'static str = "Tick"; }
    /// let mut server = wigwag::TypedServer::<Tick>::bind("ticks")?;
    /// let told = server.stats_handle();
    /// std::thread::spawn(move || println!("{:?}", told.stats()));
    /// server.serve(|tick| tick.at += 1)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats_handle(&self) -> StatsHandle {
        self.server.stats_handle()
    }
}

#[inline(always)]
fn handle<T: Message, F, R>(request: &mut Request, handler: &mut F) -> std::result::Result<(), String>
where
    F: FnMut(&mut T) -> R,
    R: IntoOutcome,
{
    const { assert!(align_of::<T>() <= 16, "a message's alignment may be at most 16") };
    let len = request.len();
    match view_mut::<T>(request) {
        Some(message) => handler(message).into_outcome(),
        None => Err(format!("a request of {len} bytes is not a {} of {}", T::NAME, size_of::<T>())),
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for TypedReply<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for TypedLoan<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}
