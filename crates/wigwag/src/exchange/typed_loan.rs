//! The three states of a slot, of a `T`.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::contract::{Payload, check_type};
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::call_error::CallError;
use crate::exchange::loan::{Loan, Pending, Reply};
use crate::typed_view::view_as;

/// A [`Loan`] of a `T`.
///
/// ```no_run
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
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

impl<'c, T: Payload> TypedLoan<'c, T> {
    /// Of a loan of the type's size.
    #[inline(always)]
    pub(super) fn of(loan: Loan<'c>) -> TypedLoan<'c, T> {
        TypedLoan { loan, message: PhantomData }
    }

    /// Copies a message in.
    #[inline(always)]
    pub(super) fn copy_from(&mut self, message: &T) {
        self.loan.copy_from_slice(message.as_bytes());
    }

    /// Passes it to the server and waits until it comes back.
    ///
    /// # Errors
    /// As [`Loan::call`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let reply = client.loan()?.call()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn call(self) -> Result<TypedReply<'c, T>> {
        self.loan.call().and_then(TypedReply::new)
    }

    /// As [`call`](TypedLoan::call), but gives up after `timeout`.
    ///
    /// # Errors
    /// As [`Loan::call_timeout`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::TypedClient::<Tick>::connect(name)?;
    /// let reply = client.loan()?.call_timeout(std::time::Duration::from_secs(1))?;
    /// assert_eq!(reply.at, 1);
    /// # drop(reply);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_timeout(self, timeout: Duration) -> Result<TypedReply<'c, T>> {
        self.loan.call_timeout(timeout).and_then(TypedReply::new)
    }

    /// As [`call_timeout`](TypedLoan::call_timeout), with a point in time.
    ///
    /// # Errors
    /// As [`call_timeout`](TypedLoan::call_timeout).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::TypedClient::<Tick>::connect(name)?;
    /// let at = std::time::Instant::now() + std::time::Duration::from_secs(1);
    /// assert_eq!(client.loan()?.call_deadline(at)?.at, 1);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_deadline(self, at: Instant) -> Result<TypedReply<'c, T>> {
        self.loan.call_deadline(at).and_then(TypedReply::new)
    }

    /// As [`call`](TypedLoan::call), and with an error the message comes back: see [`Loan::call_or_payload`].
    ///
    /// # Errors
    /// As [`Loan::call_or_payload`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("c").path;
    /// let server = wigwag::TypedServer::<Tick>::bind(name)?;
    /// let client = wigwag::TypedClient::<Tick>::connect(name)?;
    /// let mut tick = client.loan()?;
    /// tick.at = 7;
    /// drop(server);
    /// assert_eq!(tick.call_or_payload().unwrap_err().into_payload().unwrap().at, 7);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_or_payload(self) -> std::result::Result<TypedReply<'c, T>, CallError<T>> {
        typed(self.loan.call_or_payload(), TypedReply::new)
    }

    /// As [`call_or_payload`](TypedLoan::call_or_payload), but gives up after `timeout`.
    ///
    /// # Errors
    /// As [`Loan::call_timeout_or_payload`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("c").path;
    /// let server = wigwag::TypedServer::<Tick>::bind(name)?;
    /// let client = wigwag::TypedClient::<Tick>::connect(name)?;
    /// let limit = std::time::Duration::from_millis(5);
    /// let error = client.loan()?.call_timeout_or_payload(limit).unwrap_err();   // nobody serves
    /// assert_eq!(error.payload().unwrap().at, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_timeout_or_payload(self, timeout: Duration) -> std::result::Result<TypedReply<'c, T>, CallError<T>> {
        typed(self.loan.call_timeout_or_payload(timeout), TypedReply::new)
    }

    /// Passes it to the server and does not wait.
    ///
    /// # Errors
    /// As [`Loan::send`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::TypedClient::<Tick>::connect(name)?;
    /// let (first, second) = (client.loan()?.send()?, client.loan()?.send()?);
    /// assert_eq!((first.wait()?.at, second.wait()?.at), (1, 1));
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn send(self) -> Result<TypedPending<'c, T>> {
        Ok(TypedPending { pending: self.loan.send()?, message: PhantomData })
    }

    /// As [`send`](TypedLoan::send), with a deadline for the server to see.
    ///
    /// # Errors
    /// As [`Loan::send_timeout`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::TypedClient::<Tick>::connect(name)?;
    /// let pending = client.loan()?.send_timeout(std::time::Duration::from_secs(1))?;
    /// assert_eq!(pending.wait()?.at, 1);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_timeout(self, timeout: Duration) -> Result<TypedPending<'c, T>> {
        Ok(TypedPending { pending: self.loan.send_timeout(timeout)?, message: PhantomData })
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
        self.loan.attach(descriptor)
    }

    /// The loan underneath.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let pending = client.loan()?.into_loan().send()?;
    /// let reply = wigwag::TypedReply::<Tick>::new(pending.wait()?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_loan(self) -> Loan<'c> {
        self.loan
    }
}

view_as!(mut TypedLoan<'_, T>, loan);

/// A [`Pending`] call whose reply is a `T`.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
/// # let client = wigwag::TypedClient::<Tick>::connect(name)?;
/// let mut pending: wigwag::TypedPending<Tick> = client.loan()?.send()?;
/// let reply = match pending.try_wait() {
///     Some(reply) => reply?,
///     None => pending.wait()?,
/// };
/// assert_eq!(reply.at, 1);
/// # drop(reply);
/// # stop.shutdown(); thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "dropping it abandons the call"]
pub struct TypedPending<'c, T> {
    pending: Pending<'c>,
    message: PhantomData<fn() -> T>,
}

impl<'c, T: Payload> TypedPending<'c, T> {
    /// Waits for the reply.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let reply = client.loan()?.send()?.wait()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn wait(self) -> Result<TypedReply<'c, T>> {
        self.pending.wait().and_then(TypedReply::new)
    }

    /// The reply, or its error, if it is there: as [`Pending::try_wait`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let mut pending = client.loan()?.send()?;
    /// if let Some(reply) = pending.try_wait() { println!("{}", reply?.at); }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_wait(&mut self) -> Option<Result<TypedReply<'c, T>>> {
        self.pending.try_wait().map(|outcome| outcome.and_then(TypedReply::new))
    }

    /// Waits for the reply for up to `timeout`: as [`Pending::wait_timeout`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let mut pending = client.loan()?.send()?;
    /// while pending.wait_timeout(std::time::Duration::from_secs(1)).is_none() { println!("still working"); }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<TypedReply<'c, T>>> {
        self.pending.wait_timeout(timeout).map(|outcome| outcome.and_then(TypedReply::new))
    }

    /// As [`wait_timeout`](TypedPending::wait_timeout), with a point in time.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let mut pending = client.loan()?.send()?;
    /// let reply = pending.wait_deadline(std::time::Instant::now() + std::time::Duration::from_secs(1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_deadline(&mut self, at: Instant) -> Option<Result<TypedReply<'c, T>>> {
        self.pending.wait_deadline(at).map(|outcome| outcome.and_then(TypedReply::new))
    }

    /// Whether the reply is there, so that waiting would end at once.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let pending = client.loan()?.send()?;
    /// println!("{}", if pending.is_ready() { "there" } else { "not yet" });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.pending.is_ready()
    }

    /// The call underneath.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let pending: wigwag::Pending = client.loan()?.send()?.into_pending();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_pending(self) -> Pending<'c> {
        self.pending
    }
}

impl<T> fmt::Debug for TypedPending<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pending.fmt(out)
    }
}

/// A [`Reply`] that is a `T`.
///
/// ```no_run
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
/// let reply: wigwag::TypedReply<Tick> = client.call(&Tick { at: 1 })?;
/// println!("{}", reply.at);
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct TypedReply<'c, T> {
    reply: Reply<'c>,
    message: PhantomData<fn() -> T>,
}

impl<'c, T: Payload> TypedReply<'c, T> {
    /// Looks at a reply as a `T`.
    ///
    /// # Errors
    /// [`Violation`](crate::ErrorKind::Violation) if the reply does not have the type's size; a
    /// [`TypedServer`](crate::TypedServer)'s always has.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let pending = client.loan()?.into_loan().send()?;
    /// let reply = wigwag::TypedReply::<Tick>::new(pending.wait()?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn new(reply: Reply<'c>) -> Result<TypedReply<'c, T>> {
        check_reply::<T>(&reply)?;
        Ok(TypedReply { reply, message: PhantomData })
    }

    /// Makes the reply the next request, where it lies.
    ///
    /// # Errors
    /// As [`Reply::into_loan`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut server = wigwag::TypedServer::<Tick>::bind(name)?; let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move || server.serve(|tick| tick.at += 1));
    /// # let client = wigwag::TypedClient::<Tick>::connect(name)?;
    /// let once = client.call(&Tick { at: 1 })?;
    /// let twice = once.into_loan()?.call()?;
    /// assert_eq!(twice.at, 3);
    /// # drop(twice);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_loan(self) -> Result<TypedLoan<'c, T>> {
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
        self.reply.take_descriptors()
    }

    /// The reply underneath.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let bytes: wigwag::Reply = client.call(&Tick { at: 1 })?.into_reply();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_reply(self) -> Reply<'c> {
        self.reply
    }
}

pub(crate) fn typed<B, R, T: Payload>(
    outcome: std::result::Result<B, CallError>,
    reply: impl FnOnce(B) -> Result<R>,
) -> std::result::Result<R, CallError<T>> {
    match outcome {
        Ok(bytes) => reply(bytes).map_err(CallError::without_payload),
        Err(error) => Err(error.map(|payload| T::read_from_bytes(&payload).ok())),
    }
}

/// That a reply is a `T`.
#[inline(always)]
pub(crate) fn check_reply<T: Payload>(reply: &[u8]) -> Result<()> {
    const { check_type::<T>() };
    match reply.len() == size_of::<T>() {
        true => Ok(()),
        false => Err(not_of_size(reply.len(), T::NAME, size_of::<T>())),
    }
}

#[cold]
fn not_of_size(len: usize, name: &str, size: usize) -> Error {
    Error::new(ErrorKind::Violation, format!("a reply of {len} bytes is not a {name} of {size}"))
}

view_as!(mut TypedReply<'_, T>, reply);
