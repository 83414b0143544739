//! The receiver of a queue of messages of one type, for tasks.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::path::Path;
use std::task::{Context, Poll, ready};

use crate::contract::{Payload, check_type};
use crate::error::Result;
use crate::queue::receiver::ReceiverBuilder;
use crate::queue::tokio::receiver::Receiver;
use crate::queue::typed_receiver;
use crate::queue::typed_receiver::{TypedBatch, TypedDelivery};
use crate::service::handles::ShutdownHandle;
use crate::stats::ReceiverStats;

/// A [`Receiver`] of messages that are `T`.
///
/// What it promises is what a [`Receiver`] does: a message stays in its sender's memory until it is acknowledged, and
/// if this process dies, whoever takes the name next receives it again. A sender that was let in and sends anything but
/// a `T` has broken the contract: its session ends, and all others go on.
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
/// let tick = receiver.recv().await?;
/// assert_eq!((tick.at, tick.is_redelivered()), (7, false));
/// tick.ack();                                    // as dropping does
/// # wigwag::Result::Ok(()) })?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedReceiver<T> {
    receiver: Receiver,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedReceiver<T> {
    /// Takes a name for a typed queue.
    ///
    /// # Errors
    /// As [`Receiver::bind`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// assert_eq!(receiver.path(), name);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<TypedReceiver<T>> {
        Receiver::builder().bind_typed_async(name)
    }

    /// Makes a blocking receiver one for tasks.
    ///
    /// # Errors
    /// As [`Receiver::from_blocking`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// let receiver = wigwag::tokio::TypedReceiver::from_blocking(receiver)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(receiver: typed_receiver::TypedReceiver<T>) -> Result<TypedReceiver<T>> {
        Ok(TypedReceiver::of(Receiver::from_blocking(receiver.into_receiver())?))
    }

    fn of(receiver: Receiver) -> TypedReceiver<T> {
        const { check_type::<T>() };
        TypedReceiver { receiver, message: PhantomData }
    }

    /// Waits for the next message. Dropping the future loses none.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// sender.send(&Tick { at: 7 }).await?;
    /// assert_eq!(receiver.recv().await?.at, 7);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn recv(&mut self) -> Result<TypedDelivery<T>> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// Polls for the next message; see [`Receiver::poll_recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// sender.send(&Tick { at: 7 }).await?;
    /// let tick = std::future::poll_fn(|context| receiver.poll_recv(context)).await?;
    /// assert_eq!(tick.at, 7);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<TypedDelivery<T>>> {
        loop {
            if let Some(delivery) = TypedDelivery::of(ready!(self.receiver.poll_recv(context))?) {
                return Poll::Ready(Ok(delivery));
            }
        }
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// assert!(receiver.try_recv()?.is_none());
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<Option<TypedDelivery<T>>> {
        while let Some(delivery) = self.receiver.try_recv()? {
            if let Some(delivery) = TypedDelivery::of(delivery) {
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }

    /// Waits for messages, and takes up to `most` of those that are there.
    ///
    /// # Errors
    /// As [`Receiver::recv_batch`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::tokio::TypedSender::<Tick>::connect(name).await?;
    /// sender.send_batch([Tick { at: 7 }, Tick { at: 8 }]).await?;
    /// assert_eq!(receiver.recv_batch(64).await?.len(), 2);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub async fn recv_batch(&mut self, most: usize) -> Result<TypedBatch<T>> {
        loop {
            if let Some(batch) = TypedBatch::of(self.receiver.recv_batch(most).await?) {
                return Ok(batch);
            }
        }
    }

    /// A handle that ends this receiver from another task or thread.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let mut receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// receiver.shutdown_handle().shutdown();
    /// assert!(receiver.recv().await.is_err());
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.receiver.shutdown_handle()
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
    /// # let receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// assert_eq!(receiver.stats().received, 0);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ReceiverStats {
        self.receiver.stats()
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
    /// # let receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// assert_eq!(receiver.path(), name);
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        self.receiver.path()
    }

    /// The receiver underneath.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let receiver = wigwag::tokio::TypedReceiver::<Tick>::bind(name)?;
    /// let receiver: wigwag::tokio::Receiver = receiver.into_receiver();
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_receiver(self) -> Receiver {
        self.receiver
    }
}

impl ReceiverBuilder {
    /// Takes the name for a typed message, for tasks: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`bind_async`](ReceiverBuilder::bind_async).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// let receiver = wigwag::tokio::Receiver::builder().slots(4).bind_typed_async::<Tick>(name)?;
    /// # wigwag::Result::Ok(()) })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind_typed_async<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedReceiver<T>> {
        Ok(TypedReceiver::of(self.of_type::<T>().bind_async(name)?))
    }
}
