//! The receiver of a queue of messages of one type.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use crate::contract::{Contract, Payload, check_type};
use crate::error::Result;
use crate::queue::delivery::{Batch, Delivery};
use crate::queue::receiver::{Deliveries, Receiver, ReceiverBuilder};
use crate::service::handles::ShutdownHandle;
use crate::session::peer::Peer;
use crate::stats::ReceiverStats;
use crate::typed_view::first_within;
use crate::typed_view::view_as;

/// A [`Receiver`] of messages that are `T`.
///
/// What it promises is what a [`Receiver`] does: a message stays in its sender's memory until it is acknowledged, and
/// if this process dies, whoever takes the name next receives it again. A sender that was let in and sends anything but
/// a `T` has broken the contract: its session ends, which counts as a violation, and all others go on.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
/// # let thread = std::thread::spawn({ let name = name.clone(); move || {
/// #     let mut sender = wigwag::TypedSender::connect(name)?; sender.send(&Tick { at: 7 })?; sender.close() } });
/// for tick in &receiver {
///     let tick = tick?;
///     if tick.at == 7 { break; }
///     // ... dropping it acknowledges it
/// }
/// # thread.join().unwrap()?;
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
    /// let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// let error = wigwag::Sender::connect(name).unwrap_err();    // of bytes
    /// assert_eq!(error.kind(), wigwag::ErrorKind::ContractMismatch);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<TypedReceiver<T>> {
        Receiver::builder().bind_typed(name)
    }

    /// Waits for the next message.
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// assert_eq!(receiver.recv()?.at, 7);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv(&self) -> Result<TypedDelivery<T>> {
        loop {
            if let Some(delivery) = TypedDelivery::of(self.receiver.recv()?) {
                return Ok(delivery);
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// assert!(receiver.try_recv()?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<Option<TypedDelivery<T>>> {
        while let Some(delivery) = self.receiver.try_recv()? {
            if let Some(delivery) = TypedDelivery::of(delivery) {
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }

    /// The next message, or none within `timeout`.
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// assert!(receiver.recv_timeout(std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<TypedDelivery<T>>> {
        first_within(timeout, |left| self.receiver.recv_timeout(left), TypedDelivery::of)
    }

    /// Waits for messages, and takes up to `most` of those that are there; see [`Receiver::recv_batch`].
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send_batch([Tick { at: 7 }, Tick { at: 8 }])?;
    /// let batch = receiver.recv_batch(64)?;
    /// assert_eq!(batch.iter().map(|tick| tick.at).collect::<Vec<_>>(), [7, 8]);
    /// batch.ack();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_batch(&self, most: usize) -> Result<TypedBatch<T>> {
        loop {
            if let Some(batch) = TypedBatch::of(self.receiver.recv_batch(most)?) {
                return Ok(batch);
            }
        }
    }

    /// Up to `most` of the messages that are there.
    ///
    /// # Errors
    /// As [`Receiver::try_recv_batch`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// assert!(receiver.try_recv_batch(64)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv_batch(&self, most: usize) -> Result<Option<TypedBatch<T>>> {
        while let Some(batch) = self.receiver.try_recv_batch(most)? {
            if let Some(batch) = TypedBatch::of(batch) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// As [`recv_batch`](TypedReceiver::recv_batch), or none within `timeout`.
    ///
    /// # Errors
    /// As [`Receiver::recv_batch_timeout`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// assert!(receiver.recv_batch_timeout(64, std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_batch_timeout(&self, most: usize, timeout: Duration) -> Result<Option<TypedBatch<T>>> {
        first_within(timeout, |left| self.receiver.recv_batch_timeout(most, left), TypedBatch::of)
    }

    /// All messages, until a shutdown; also `for message in &receiver`.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// receiver.shutdown_handle().shutdown();
    /// assert_eq!(receiver.iter().map(|tick| tick.unwrap().at).collect::<Vec<_>>(), [7]);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn iter(&self) -> TypedDeliveries<'_, T> {
        TypedDeliveries { deliveries: self.receiver.iter(), message: PhantomData }
    }

    /// A handle that ends this receiver from another thread; see [`Receiver::shutdown_handle`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// receiver.shutdown_handle().shutdown();
    /// assert!(receiver.recv().is_err());
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// assert_eq!(receiver.stats().received, 0);
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// assert_eq!(receiver.path(), name);
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// let receiver: wigwag::Receiver = receiver.into_receiver();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_receiver(self) -> Receiver {
        self.receiver
    }
}

impl ReceiverBuilder {
    /// Takes the name for a typed message: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`bind`](ReceiverBuilder::bind).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// let receiver = wigwag::Receiver::builder().slots(4).bind_typed::<Tick>(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind_typed<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedReceiver<T>> {
        Ok(TypedReceiver { receiver: self.of_type::<T>().bind(name)?, message: PhantomData })
    }

    pub(crate) fn of_type<T: Payload>(self) -> ReceiverBuilder {
        self.contract(Contract::of::<T>()).capacity(size_of::<T>())
    }
}

impl<'r, T: Payload> IntoIterator for &'r TypedReceiver<T> {
    type Item = Result<TypedDelivery<T>>;
    type IntoIter = TypedDeliveries<'r, T>;

    fn into_iter(self) -> TypedDeliveries<'r, T> {
        self.iter()
    }
}

/// The messages of a [`TypedReceiver`], until a shutdown: see [`TypedReceiver::iter`].
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
/// receiver.shutdown_handle().shutdown();
/// let mut ticks: wigwag::TypedDeliveries<Tick> = receiver.iter();
/// assert!(ticks.next().is_none());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedDeliveries<'r, T> {
    deliveries: Deliveries<'r>,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> Iterator for TypedDeliveries<'_, T> {
    type Item = Result<TypedDelivery<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.deliveries.find_map(|delivery| delivery.map(TypedDelivery::of).transpose())
    }
}

/// A [`Delivery`] that is a `T`, where it lies in its sender's memory, until it is acknowledged.
///
/// Dropping it acknowledges it; if the thread unwinds, it is given back.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
/// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
/// sender.send(&Tick { at: 7 })?;
/// let tick: wigwag::TypedDelivery<Tick> = receiver.recv()?;
/// assert_eq!(tick.at, 7);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "dropping a delivery acknowledges it"]
pub struct TypedDelivery<T> {
    delivery: Delivery,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedDelivery<T> {
    /// A delivery as a `T`. The sender of one with another length has broken the contract.
    pub(crate) fn of(delivery: Delivery) -> Option<TypedDelivery<T>> {
        const { check_type::<T>() };
        if delivery.len() != size_of::<T>() {
            let why = format!("a message of {} bytes is not a {} of {}", delivery.len(), T::NAME, size_of::<T>());
            delivery.condemn(why);
            return None;
        }
        Some(TypedDelivery { delivery, message: PhantomData })
    }

    /// Acknowledges it, as dropping does.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// receiver.recv()?.ack();
    /// sender.close()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn ack(self) {
        self.delivery.ack();
    }

    /// Gives it back: it is delivered again; see [`Delivery::nack`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// receiver.recv()?.nack();
    /// assert!(receiver.recv()?.is_redelivered());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn nack(self) {
        self.delivery.nack();
    }

    /// Whether a receiver has had it before.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// assert!(!receiver.recv()?.is_redelivered());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_redelivered(&self) -> bool {
        self.delivery.is_redelivered()
    }

    /// The file descriptors that came with it, once; see [`Delivery::take_descriptors`].
    ///
    /// # Errors
    /// As [`Delivery::take_descriptors`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// let receiver = wigwag::Receiver::builder().descriptors(true).bind_typed::<Tick>(name)?;
    /// let mut sender = wigwag::Sender::builder().descriptors(true).connect_typed::<Tick>(name)?;
    /// let mut draft = sender.loan()?;
    /// draft.attach(std::io::stdin())?;
    /// draft.commit()?;
    /// let mut tick = receiver.recv()?;
    /// let input = std::fs::File::from(tick.take_descriptors()?.remove(0));
    /// # drop(input);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn take_descriptors(&mut self) -> Result<Vec<OwnedFd>> {
        self.delivery.take_descriptors()
    }

    /// Who sent it.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// assert_eq!(receiver.recv()?.peer().pid, std::process::id() as i32);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn peer(&self) -> Peer {
        self.delivery.peer()
    }

    /// The delivery underneath.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// let delivery: wigwag::Delivery = receiver.recv()?.into_delivery();
    /// assert_eq!(delivery.len(), 8);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_delivery(self) -> Delivery {
        self.delivery
    }
}

view_as!(TypedDelivery<T>, delivery);

/// Several [`TypedDelivery`]s at a time: see [`TypedReceiver::recv_batch`].
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
/// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
/// sender.send_batch([Tick { at: 7 }, Tick { at: 8 }])?;
/// let batch: wigwag::TypedBatch<Tick> = receiver.recv_batch(64)?;
/// for tick in batch {
///     println!("{}", tick.at);    // each is acknowledged by itself
/// }
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "dropping a batch acknowledges it"]
pub struct TypedBatch<T> {
    messages: Vec<TypedDelivery<T>>,
}

impl<T: Payload> TypedBatch<T> {
    /// What of a batch is a `T`; `None`: nothing.
    pub(crate) fn of(batch: Batch) -> Option<TypedBatch<T>> {
        let messages: Vec<_> = batch.into_iter().filter_map(TypedDelivery::of).collect();
        (!messages.is_empty()).then_some(TypedBatch { messages })
    }

    /// Acknowledges all, as dropping does.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// receiver.recv_batch(64)?.ack();
    /// sender.close()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn ack(self) {}

    /// Gives all back, in order.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send_batch([Tick { at: 7 }, Tick { at: 8 }])?;
    /// receiver.recv_batch(64)?.nack();
    /// assert_eq!(receiver.recv()?.at, 7);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn nack(self) {
        self.messages.into_iter().for_each(TypedDelivery::nack);
    }
}

impl<T> Deref for TypedBatch<T> {
    type Target = [TypedDelivery<T>];

    fn deref(&self) -> &[TypedDelivery<T>] {
        &self.messages
    }
}

impl<T> DerefMut for TypedBatch<T> {
    fn deref_mut(&mut self) -> &mut [TypedDelivery<T>] {
        &mut self.messages
    }
}

impl<T> IntoIterator for TypedBatch<T> {
    type Item = TypedDelivery<T>;
    type IntoIter = std::vec::IntoIter<TypedDelivery<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages.into_iter()
    }
}

impl<T: Payload + fmt::Debug> fmt::Debug for TypedBatch<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(&self.messages).finish()
    }
}
