//! Typed exchanges and queues: any plain-memory type lent, served and sent as `T`, checked by zerocopy, agreed on at
//! connect.
//!
//! The methods are those of [`Client`], [`Loan`](crate::Loan), [`Server`](crate::Server), [`Sender`](crate::Sender) and
//! [`Receiver`](crate::Receiver), method by method. Those for tasks are in `tokio::typed`.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::time::Duration;

use crate::contract::{Contract, Payload, check_type};
use crate::error::Result;
use crate::exchange::client::{Client, ClientBuilder};
use crate::exchange::typed_loan::{TypedLoan, TypedReply};
use crate::stats::ClientStats;

/// A [`Client`] whose requests and replies are `T`.
///
/// A type whose alignment is above 16, or that has more than 1 GiB, does not compile: no payload can be one.
///
/// ```
/// use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
/// #[zerocopy(crate = "wigwag::zerocopy")]        // where the derives find their crate
/// #[repr(C)]
/// struct Point { x: f64, y: f64 }
/// impl wigwag::Payload for Point { const NAME: &'static str = "Point"; }
///
/// # let name = &wigwag_testing::temporary_name("mirror").path;
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

impl<T: Payload> TypedClient<T> {
    /// Connects to a [`TypedServer`](crate::TypedServer) of the same type.
    ///
    /// # Errors
    /// As [`Client::connect`]; [`ContractMismatch`](crate::ErrorKind::ContractMismatch) shows both types.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<TypedClient<T>> {
        Client::builder().connect_typed(name)
    }

    /// As [`connect`](TypedClient::connect), for at most so long.
    ///
    /// # Errors
    /// As [`Client::connect_timeout`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let client = wigwag::TypedClient::<Tick>::connect_timeout("ticks", std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect_timeout(name: impl AsRef<OsStr>, timeout: Duration) -> Result<TypedClient<T>> {
        Client::builder().timeout(timeout).connect_typed(name)
    }

    /// Borrows a `T` that the server already has. Its content is what a former call left, zeros at first.
    ///
    /// # Errors
    /// As [`Client::loan`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let mut tick = client.loan()?;
    /// tick.at = 7;
    /// let reply = tick.call()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn loan(&self) -> Result<TypedLoan<'_, T>> {
        const { check_type::<T>() };
        Ok(TypedLoan::of(self.client.loan(size_of::<T>())?))
    }

    /// As [`loan`](TypedClient::loan), without waiting for a slot.
    ///
    /// # Errors
    /// As [`Client::try_loan`].
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
    /// let reply = client.try_loan()?.call()?;
    /// assert_eq!(reply.at, 1);
    /// # drop(reply);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_loan(&self) -> Result<TypedLoan<'_, T>> {
        const { check_type::<T>() };
        Ok(TypedLoan::of(self.client.try_loan(size_of::<T>())?))
    }

    /// As [`loan`](TypedClient::loan), but waits no longer than `timeout` for a slot.
    ///
    /// # Errors
    /// As [`Client::loan_timeout`].
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
    /// let reply = client.loan_timeout(std::time::Duration::from_secs(1))?.call()?;
    /// assert_eq!(reply.at, 1);
    /// # drop(reply);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn loan_timeout(&self, timeout: Duration) -> Result<TypedLoan<'_, T>> {
        const { check_type::<T>() };
        Ok(TypedLoan::of(self.client.loan_timeout(size_of::<T>(), timeout)?))
    }

    /// Copies a `T` in, calls, and gives the reply.
    ///
    /// # Errors
    /// As [`Client::call`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let next = client.call(&Tick { at: 7 })?.at;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn call(&self, message: &T) -> Result<TypedReply<'_, T>> {
        let mut loan = self.loan()?;
        loan.copy_from(message);
        loan.call()
    }

    /// As [`call`](TypedClient::call), but gives up after `timeout`, the wait for a slot included.
    ///
    /// # Errors
    /// As [`Client::call_timeout`].
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let next = client.call_timeout(&Tick { at: 7 }, std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn call_timeout(&self, message: &T, timeout: Duration) -> Result<TypedReply<'_, T>> {
        const { check_type::<T>() };
        self.client.call_timeout(message.as_bytes(), timeout).and_then(TypedReply::new)
    }

    /// Another session with the same server, with the same wishes: see [`Client::try_clone`].
    ///
    /// # Errors
    /// As [`connect`](TypedClient::connect).
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
    /// let another = client.try_clone()?;
    /// let thread_of_its_own = std::thread::spawn(move || another.call(&Tick { at: 7 }).map(|reply| reply.at));
    /// assert_eq!(thread_of_its_own.join().unwrap()?, 8);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<TypedClient<T>> {
        Ok(TypedClient { client: self.client.try_clone()?, message: PhantomData })
    }

    /// How many calls can be in flight.
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
    /// assert_eq!(client.slots(), 16);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn slots(&self) -> usize {
        self.client.slots()
    }

    /// What this client has counted.
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
    /// client.call(&Tick { at: 7 })?;
    /// assert_eq!(client.stats().calls, 1);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ClientStats {
        self.client.stats()
    }

    /// The client underneath.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// println!("{:?}", client.as_client().stats());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn as_client(&self) -> &Client {
        &self.client
    }

    /// The client underneath, for good.
    ///
    /// ```no_run
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let client = wigwag::TypedClient::<Tick>::connect("ticks")?;
    /// let client: wigwag::Client = client.into_client();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_client(self) -> Client {
        self.client
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
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let server = wigwag::TypedServer::<Tick>::bind(name)?;
    /// let client = wigwag::Client::builder().connect_typed::<Tick>(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect_typed<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedClient<T>> {
        const { check_type::<T>() };
        Ok(TypedClient { client: self.of_type::<T>().connect(name)?, message: PhantomData })
    }

    pub(crate) fn of_type<T: Payload>(self) -> ClientBuilder {
        self.contract(Contract::of::<T>()).capacity(size_of::<T>())
    }
}
