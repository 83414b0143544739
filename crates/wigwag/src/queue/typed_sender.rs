//! The sender of a queue of messages of one type.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::contract::{Contract, Payload, check_type};
use crate::error::Result;
use crate::queue::loan::MessageLoan;
use crate::queue::sender::{Sender, SenderBuilder};
use crate::stats::SenderStats;
use crate::typed_view::view_as;

/// A [`Sender`] whose messages are `T`.
///
/// What it promises is what a [`Sender`] does: a message stays in this sender's memory until the receiver has
/// acknowledged it; when the receiver dies, the next call here looks for its successor and gives it what was not
/// acknowledged. Call [`close`](TypedSender::close) before the program ends. A type whose alignment is above 16, or
/// that has more than 1 GiB, does not compile.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
/// let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
/// sender.send(&Tick { at: 7 })?;       // one copy
/// let mut draft = sender.loan()?;      // or none: written where it is read
/// draft.at = 8;
/// draft.commit()?;
/// assert_eq!((receiver.recv()?.at, receiver.recv()?.at), (7, 8));
/// sender.close()?;                     // returns once all is acknowledged
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedSender<T> {
    sender: Sender,
    message: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedSender<T> {
    /// Connects to a [`TypedReceiver`](crate::TypedReceiver) of the same type.
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
    /// let error = wigwag::TypedSender::<Tick>::connect(name).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<TypedSender<T>> {
        Sender::builder().connect_typed(name)
    }

    pub(crate) fn of(sender: Sender) -> TypedSender<T> {
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// assert_eq!(receiver.recv()?.at, 7);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<()> {
        self.sender.send(message.as_bytes())
    }

    /// As [`send`](TypedSender::send), but never waits.
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// while sender.try_send(&Tick { at: 7 }).is_ok() {}
    /// assert_eq!(sender.try_send(&Tick { at: 8 }).unwrap_err().kind(), wigwag::ErrorKind::Full);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, message: &T) -> Result<()> {
        self.sender.try_send(message.as_bytes())
    }

    /// As [`send`](TypedSender::send), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send_timeout(&Tick { at: 7 }, std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_timeout(&mut self, message: &T, timeout: Duration) -> Result<()> {
        self.sender.send_timeout(message.as_bytes(), timeout)
    }

    /// Sends messages, and wakes a receiver that sleeps once for all of them; how many were sent. See
    /// [`Sender::send_batch`].
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// assert_eq!(sender.send_batch((0..3).map(|at| Tick { at }))?, 3);
    /// assert_eq!(receiver.recv_batch(10)?.len(), 3);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_batch<M: Borrow<T>>(&mut self, messages: impl IntoIterator<Item = M>) -> Result<usize> {
        self.sender.send_batch(messages.into_iter().map(|message| Bytes(message, PhantomData)))
    }

    /// Borrows a `T` in the memory where the receiver will read it. Its content is what a former message left, zeros at
    /// first.
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// let mut draft = sender.loan()?;
    /// draft.at = 7;
    /// draft.commit()?;
    /// assert_eq!(receiver.recv()?.at, 7);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn loan(&mut self) -> Result<TypedMessageLoan<'_, T>> {
        Ok(TypedMessageLoan::of(self.sender.loan(size_of::<T>())?))
    }

    /// As [`loan`](TypedSender::loan), but never waits.
    ///
    /// # Errors
    /// As [`Sender::try_loan`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.try_loan()?.commit()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_loan(&mut self) -> Result<TypedMessageLoan<'_, T>> {
        Ok(TypedMessageLoan::of(self.sender.try_loan(size_of::<T>())?))
    }

    /// As [`loan`](TypedSender::loan), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Sender::loan_timeout`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.loan_timeout(std::time::Duration::from_secs(1))?.commit()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn loan_timeout(&mut self, timeout: Duration) -> Result<TypedMessageLoan<'_, T>> {
        Ok(TypedMessageLoan::of(self.sender.loan_timeout(size_of::<T>(), timeout)?))
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// drop(receiver.recv()?);
    /// sender.flush(std::time::Duration::from_secs(1))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn flush(&mut self, timeout: Duration) -> Result<()> {
        self.sender.flush(timeout)
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.close()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn close(self) -> Result<()> {
        self.sender.close()
    }

    /// Another session with the same receiver, with the same wishes: see [`Sender::try_clone`].
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.try_clone()?.send(&Tick { at: 7 })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<TypedSender<T>> {
        Ok(TypedSender::of(self.sender.try_clone()?))
    }

    /// How many messages can be under way.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// assert_eq!(sender.slots(), 256);
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.send(&Tick { at: 7 })?;
    /// assert_eq!(sender.stats().sent, 1);
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
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// let sender: wigwag::Sender = sender.into_sender();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_sender(self) -> Sender {
        self.sender
    }
}

impl SenderBuilder {
    /// Connects with a typed message: the contract and the capacity are the type's.
    ///
    /// # Errors
    /// As [`connect`](SenderBuilder::connect).
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// let sender = wigwag::Sender::builder().slots(4).connect_typed::<Tick>(name)?;
    /// assert_eq!(sender.slots(), 4);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect_typed<T: Payload>(self, name: impl AsRef<OsStr>) -> Result<TypedSender<T>> {
        Ok(TypedSender::of(self.of_type::<T>().connect(name)?))
    }

    pub(crate) fn of_type<T: Payload>(self) -> SenderBuilder {
        self.contract(Contract::of::<T>()).capacity(size_of::<T>())
    }
}

/// A message of a batch, as bytes.
pub(crate) struct Bytes<M, T>(pub(crate) M, pub(crate) PhantomData<fn() -> T>);

impl<M: Borrow<T>, T: Payload> AsRef<[u8]> for Bytes<M, T> {
    fn as_ref(&self) -> &[u8] {
        self.0.borrow().as_bytes()
    }
}

/// A [`MessageLoan`] that is a `T`: a message that is being written where it will be read. Dropped, it was never there.
///
/// ```
/// # use wigwag::zerocopy::*;
/// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
/// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
/// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
/// # let name = &wigwag_testing::temporary_name("t").path;
/// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
/// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
/// let mut draft: wigwag::TypedMessageLoan<Tick> = sender.loan()?;
/// draft.at = 7;
/// draft.commit()?;
/// assert_eq!(receiver.recv()?.at, 7);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "a draft that is not committed is not sent"]
pub struct TypedMessageLoan<'s, T> {
    draft: MessageLoan<'s>,
    message: PhantomData<fn() -> T>,
}

impl<'s, T: Payload> TypedMessageLoan<'s, T> {
    #[inline(always)]
    pub(crate) fn of(draft: MessageLoan<'s>) -> TypedMessageLoan<'s, T> {
        const { check_type::<T>() };
        TypedMessageLoan { draft, message: PhantomData }
    }

    /// Sends it as it is now.
    ///
    /// # Errors
    /// As [`MessageLoan::commit`].
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// sender.loan()?.commit()?;
    /// assert_eq!(*receiver.recv()?, Tick { at: 0 });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn commit(self) -> Result<()> {
        self.draft.commit()
    }

    /// Attaches a file descriptor; see [`MessageLoan::attach`].
    ///
    /// # Errors
    /// As [`MessageLoan::attach`].
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
    /// draft.at = 7;
    /// draft.attach(std::io::stdin())?;
    /// draft.commit()?;
    /// assert_eq!(receiver.recv()?.take_descriptors()?.len(), 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn attach(&mut self, descriptor: impl AsFd) -> Result<()> {
        self.draft.attach(descriptor)
    }

    /// The draft underneath.
    ///
    /// ```
    /// # use wigwag::zerocopy::*;
    /// # #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Debug, PartialEq)]
    /// # #[zerocopy(crate = "wigwag::zerocopy")] #[repr(C)] struct Tick { at: u64 }
    /// # impl wigwag::Payload for Tick { const NAME: &'static str = "Tick"; }
    /// # let name = &wigwag_testing::temporary_name("t").path;
    /// # let receiver = wigwag::TypedReceiver::<Tick>::bind(name)?;
    /// # let mut sender = wigwag::TypedSender::<Tick>::connect(name)?;
    /// let draft: wigwag::MessageLoan = sender.loan()?.into_draft();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn into_draft(self) -> MessageLoan<'s> {
        self.draft
    }
}

view_as!(mut TypedMessageLoan<'_, T>, draft);
