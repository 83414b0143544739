//! A subscriber to messages of one type.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::time::Duration;

use crate::broadcast::message::Message;
use crate::broadcast::reception::violation;
use crate::broadcast::subscriber::{Subscriber, SubscriberBuilder};
use crate::contract::{Contract, Payload, check_type};
use crate::error::Result;
use crate::typed_view::view_as;

/// A [`Subscriber`] to messages that are `T`.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
/// let mut subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
/// # publisher.send(&Tick { at: 7 })?;
/// assert_eq!(subscriber.recv()?.at, 7);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedSubscriber<T> {
    subscriber: Subscriber,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedSubscriber<T> {
    /// Connects to a publisher of that type.
    ///
    /// # Errors
    /// As [`Subscriber::connect`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// let subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<TypedSubscriber<T>> {
        Subscriber::builder().connect_typed(name)
    }

    /// Takes the next message, and waits until it is there.
    ///
    /// # Errors
    /// As [`Subscriber::recv`]; [`Violation`](crate::ErrorKind::Violation) for what is no `T`.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// # let mut subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
    /// publisher.send(&Tick { at: 7 })?;
    /// assert_eq!(subscriber.recv()?.at, 7);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn recv(&mut self) -> Result<TypedMessage<T>> {
        TypedMessage::of(self.subscriber.recv()?)
    }

    /// Takes the next message if it is there.
    ///
    /// # Errors
    /// As [`recv`](TypedSubscriber::recv).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// # let mut subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
    /// assert!(subscriber.try_recv()?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<TypedMessage<T>>> {
        self.subscriber.try_recv()?.map(TypedMessage::of).transpose()
    }

    /// As [`recv`](TypedSubscriber::recv), and waits no longer than that.
    ///
    /// # Errors
    /// As [`recv`](TypedSubscriber::recv); [`TimedOut`](crate::ErrorKind::TimedOut).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// # let mut subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
    /// assert!(subscriber.recv_timeout(std::time::Duration::ZERO).is_err());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<TypedMessage<T>> {
        TypedMessage::of(self.subscriber.recv_timeout(timeout)?)
    }

    /// The subscriber underneath, to bytes.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// # let mut subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
    /// let subscriber: wigwag::Subscriber = subscriber.into_subscriber();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_subscriber(self) -> Subscriber {
        self.subscriber
    }
}

impl SubscriberBuilder {
    /// Connects to a publisher of that type: the contract is the type's.
    ///
    /// # Errors
    /// As [`connect`](SubscriberBuilder::connect).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// let subscriber = wigwag::Subscriber::builder().start(wigwag::Start::Last).connect_typed::<Tick>(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect_typed<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedSubscriber<T>> {
        let subscriber = self.contract(Contract::of::<T>()).connect(name)?;
        Ok(TypedSubscriber { subscriber, message: PhantomData })
    }
}

/// A message that is a `T`, which stays where it is until this is dropped.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
/// # let mut subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
/// publisher.send(&Tick { at: 7 })?;
/// let tick: wigwag::TypedMessage<Tick> = subscriber.recv()?;
/// assert_eq!((tick.at, tick.message().lost_before()), (7, 0));
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct TypedMessage<T> {
    message: Message,
    of: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedMessage<T> {
    fn of(message: Message) -> Result<TypedMessage<T>> {
        const { check_type::<T>() };
        match message.len() == size_of::<T>() {
            true => Ok(TypedMessage { message, of: PhantomData }),
            false => Err(violation(&format!(
                "message {} has {} bytes, where a {} has {}",
                message.sequence(),
                message.len(),
                T::NAME,
                size_of::<T>()
            ))),
        }
    }

    /// The message underneath: its number, and what was lost before it.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// # let mut subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
    /// publisher.send(&Tick { at: 7 })?;
    /// assert_eq!(subscriber.recv()?.message().sequence(), 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn message(&self) -> &Message {
        &self.message
    }
}

view_as!(TypedMessage<T>, message);
