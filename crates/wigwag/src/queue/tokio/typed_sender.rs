//! The sender of a queue of messages of one type, for tasks.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::marker::PhantomData;

use crate::contract::{Payload, check_type};
use crate::error::Result;
use crate::queue::sender::SenderBuilder;
use crate::queue::tokio::sender::Sender;
use crate::queue::typed_sender;
use crate::queue::typed_sender::{Bytes, TypedMessageLoan};
use crate::stats::SenderStats;

/// A [`Sender`] whose messages are `T`.
///
/// What it promises is what a [`Sender`] does: a message stays in this sender's memory until the receiver has
/// acknowledged it; when the receiver dies, the next call here looks for its successor and gives it what was not
/// acknowledged. A future that is dropped sends nothing, or, in a batch, nothing more. A deadline is
/// [`tokio::time::timeout`](::tokio::time::timeout) around the call.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let mut receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
/// let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
/// sender.send(&Tick { at: 7 }).await?;
/// assert_eq!(receiver.recv().await?.at, 7);      // dropped: acknowledged
/// sender.close().await?;                         // returns once all is acknowledged
/// # wigwag::Result::Ok(()) })?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedSender<T> {
    sender: Sender,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedSender<T> {
    /// Connects to a receiver of the same type, blocking or not.
    ///
    /// # Errors
    /// As [`Sender::connect`]; [`ContractMismatch`](crate::ErrorKind::ContractMismatch) shows both types.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let error = wigwag::tokio::TypedSender::<Tick>::connect(name).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn connect(name: impl AsRef<OsStr>) -> Result<TypedSender<T>> {
        Sender::builder().connect_typed_async(name).await
    }

    /// Makes a blocking sender one for tasks.
    ///
    /// # Errors
    /// As [`Sender::from_blocking`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// let sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// wigwag::tokio::TypedSender::from_blocking(sender)?.send(&Tick { at: 7 }).await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(sender: typed_sender::TypedSender<T>) -> Result<TypedSender<T>> {
        Ok(TypedSender::of(Sender::from_blocking(sender.into_sender())?))
    }

    fn of(sender: Sender) -> TypedSender<T> {
        const { check_type::<T>() };
        TypedSender { sender, message: PhantomData }
    }

    /// Sends a message; waits while the queue is full.
    ///
    /// # Errors
    /// As [`Sender::send`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// sender.send(&Tick { at: 7 }).await?;
    /// assert_eq!(receiver.recv()?.at, 7);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn send(&mut self, message: &T) -> Result<()> {
        self.sender.send(message.as_bytes()).await
    }

    /// As [`send`](TypedSender::send), without waiting.
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// sender.try_send(&Tick { at: 7 })?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_send(&mut self, message: &T) -> Result<()> {
        self.sender.try_send(message.as_bytes())
    }

    /// Sends messages, and wakes a receiver that sleeps once for all of them; how many were sent.
    ///
    /// # Errors
    /// As [`Sender::send_batch`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// assert_eq!(sender.send_batch((0..3).map(|at| Tick { at })).await?, 3);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn send_batch<M: Borrow<T>>(&mut self, messages: impl IntoIterator<Item = M>) -> Result<usize> {
        self.sender.send_batch(messages.into_iter().map(|message| Bytes(message, PhantomData))).await
    }

    /// Borrows a `T` in the memory where the receiver will read it; waits while the queue is full.
    ///
    /// # Errors
    /// As [`Sender::loan`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// let mut draft = sender.loan().await?;
    /// draft.at = 7;
    /// draft.commit()?;
    /// assert_eq!(receiver.recv()?.at, 7);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn loan(&mut self) -> Result<TypedMessageLoan<'_, T>> {
        Ok(TypedMessageLoan::of(self.sender.loan(size_of::<T>()).await?))
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// As [`Sender::flush`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// sender.send(&Tick { at: 7 }).await?;
    /// drop(receiver.recv()?);
    /// sender.flush().await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn flush(&mut self) -> Result<()> {
        self.sender.flush().await
    }

    /// Ends the sender once everything is acknowledged.
    ///
    /// # Errors
    /// As [`Sender::close`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// sender.close().await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn close(self) -> Result<()> {
        self.sender.close().await
    }

    /// Another session with the same receiver, with the same wishes.
    ///
    /// # Errors
    /// As [`connect`](TypedSender::connect).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// sender.try_clone().await?.send(&Tick { at: 7 }).await?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn try_clone(&self) -> Result<TypedSender<T>> {
        Ok(TypedSender::of(self.sender.try_clone().await?))
    }

    /// How many messages can be under way.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// assert_eq!(sender.slots(), 256);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn slots(&self) -> usize {
        self.sender.slots()
    }

    /// What this sender has counted.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// assert_eq!(sender.stats().sent, 0);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> SenderStats {
        self.sender.stats()
    }

    /// The sender underneath, for good.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// let sender: wigwag::tokio::Sender = sender.into_sender();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_sender(self) -> Sender {
        self.sender
    }
}

impl SenderBuilder {
    /// Connects with a typed message, for tasks: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`connect_async`](SenderBuilder::connect_async).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// let sender = wigwag::tokio::Sender::builder().slots(4).connect_typed_async::<Tick>(name).await?;
    /// assert_eq!(sender.slots(), 4);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn connect_typed_async<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedSender<T>> {
        Ok(TypedSender::of(self.of_type::<T>().connect_async(name).await?))
    }
}
