//! A publisher of messages of one type.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::time::Duration;

use crate::broadcast::publication::Publication;
use crate::broadcast::publisher::{Publisher, PublisherBuilder};
use crate::contract::{Contract, Payload, check_type};
use crate::error::Result;
use crate::typed_view::view_as;

/// A [`Publisher`] of messages that are `T`.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
/// let mut subscriber = wigwag::TypedSubscriber::<Tick>::connect(name)?;
/// publisher.send(&Tick { at: 7 })?;
/// assert_eq!(subscriber.recv()?.at, 7);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedPublisher<T> {
    publisher: Publisher,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedPublisher<T> {
    /// Takes a name for a typed broadcast.
    ///
    /// # Errors
    /// As [`Publisher::bind`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// let publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// let error = wigwag::Subscriber::connect(name).unwrap_err();    // of bytes
    /// assert_eq!(error.kind(), wigwag::ErrorKind::ContractMismatch);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<TypedPublisher<T>> {
        Publisher::builder().bind_typed(name)
    }

    /// Publishes a copy. Returns the message's number.
    ///
    /// # Errors
    /// As [`Publisher::send`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// assert_eq!(publisher.send(&Tick { at: 7 })?, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<u64> {
        self.publisher.send(message.as_bytes())
    }

    /// As [`send`](TypedPublisher::send), and never waits.
    ///
    /// # Errors
    /// As [`Publisher::try_send`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// publisher.try_send(&Tick { at: 7 })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_send(&mut self, message: &T) -> Result<u64> {
        self.publisher.try_send(message.as_bytes())
    }

    /// A message to be filled where subscribers will read it, and committed. What lies there at first is any `T`.
    ///
    /// # Errors
    /// As [`Publisher::loan`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// let mut draft = publisher.loan()?;
    /// draft.at = 7;
    /// draft.commit()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn loan(&mut self) -> Result<TypedPublication<'_, T>> {
        const { check_type::<T>() };
        Ok(TypedPublication { draft: self.publisher.loan(size_of::<T>())?, message: PhantomData })
    }

    /// As [`Publisher::wait_for_subscribers`].
    ///
    /// # Errors
    /// As [`Publisher::wait_for_subscribers`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// publisher.wait_for_subscribers(0, std::time::Duration::ZERO)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_for_subscribers(&mut self, count: usize, timeout: Duration) -> Result<()> {
        self.publisher.wait_for_subscribers(count, timeout)
    }

    /// The publisher underneath, of bytes.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// let publisher: wigwag::Publisher = publisher.into_publisher();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_publisher(self) -> Publisher {
        self.publisher
    }
}

impl PublisherBuilder {
    /// Takes a name for a typed broadcast: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`bind`](PublisherBuilder::bind).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// let publisher = wigwag::Publisher::builder().history(4).bind_typed::<Tick>(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind_typed<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedPublisher<T>> {
        let publisher = self.contract(Contract::of::<T>()).capacity(size_of::<T>()).bind(name)?;
        Ok(TypedPublisher { publisher, message: PhantomData })
    }
}

/// A message being written where all subscribers will read it: see [`TypedPublisher::loan`].
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
/// let mut draft = publisher.loan()?;
/// draft.at = 7;
/// assert_eq!(draft.commit()?, 1);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a draft that is not committed is not published"]
pub struct TypedPublication<'p, T> {
    draft: Publication<'p>,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedPublication<'_, T> {
    /// Publishes it as it is now. Returns its number.
    ///
    /// # Errors
    /// As [`Publication::commit`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let mut publisher = wigwag::TypedPublisher::<Tick>::bind(name)?;
    /// publisher.loan()?.commit()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn commit(self) -> Result<u64> {
        self.draft.commit()
    }
}

view_as!(mut TypedPublication<'_, T>, draft);
