//! A received message: its sender's bytes where they lie, until it is acknowledged.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::queue::message::Message;
#[cfg(feature = "serde")]
use crate::service::session::Session;
use crate::session::peer::Peer;

/// A message in the receiver's hands. It dereferences to its bytes, which lie in the sender's memory.
///
/// Dropping it acknowledges it: its memory is the sender's again. During a panic dropping gives it back instead, to be
/// delivered again. A process that ends without either, killed or not, has acknowledged nothing: the sender hands the
/// message to the next receiver. It may move to another thread; several may be held at a time, and acknowledged in any
/// order.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
/// let receiver = wigwag::Receiver::bind(name)?;
/// let mut sender = wigwag::Sender::connect(name)?;
/// sender.send(b"work")?;
/// let message = receiver.recv()?;
/// assert_eq!(&message[..], b"work");
/// message.ack();
/// # assert_eq!(sender.stats().acknowledged, 1);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "dropping a delivery acknowledges it"]
pub struct Delivery {
    message: Message,
}

impl Delivery {
    pub(crate) fn new(message: Message) -> Delivery {
        Delivery { message }
    }

    /// The session it came from.
    #[cfg(feature = "serde")]
    pub(crate) fn session(&self) -> &Session {
        self.message.session()
    }

    /// Acknowledges it: done with, never delivered again. The same as dropping it, said aloud.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// # let mut sender = wigwag::Sender::connect(name)?; sender.send(b"work")?;
    /// let message = receiver.recv()?;
    /// // ... and once what it asks for is safely done:
    /// message.ack();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn ack(self) {}

    /// Gives it back: it is delivered again, before messages that nobody has had, and marked as redelivered, also while
    /// the receiver shuts down. If the receiver has been dropped, or has told the end of its shutdown
    /// ([`ServerClosed`](crate::ErrorKind::ServerClosed)), the sender hands it to the next one; of a sender that is
    /// gone it is lost then, so give back what you hold before you ask for more.
    ///
    /// What [came with it](Delivery::take_descriptors) comes with it again, whether it was taken or not. If some of
    /// that was lost, its session ends instead, and a sender that lives sends it anew, with all else of its that is not
    /// acknowledged.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// # let mut sender = wigwag::Sender::connect(name)?; sender.send(b"work")?;
    /// receiver.recv()?.nack();
    /// let again = receiver.recv()?;
    /// assert!(again.is_redelivered() && &again[..] == b"work");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn nack(mut self) {
        self.message.give_back();
    }

    /// The file descriptors that the sender [attached](crate::MessageLoan::attach) to it, in its order: once, and none
    /// the next time. They are yours, and closed on `exec`.
    ///
    /// The message keeps its own until it is acknowledged: one that is given back, by [`nack`](Delivery::nack) or a
    /// panic, comes again with all of them, and so does one whose receiver has died, with those that the sender has
    /// kept. What the message kept is closed by a thread of its own, because that may take as long as the sender has
    /// chosen.
    ///
    /// There are none unless both sides have [asked](crate::ReceiverBuilder::descriptors) for descriptors. What they
    /// are is for you to find out: any program may have anything attached, such as a pipe from which a read never
    /// returns.
    ///
    /// # Errors
    /// [`Full`](crate::ErrorKind::Full) if this process had no room for some of them (`ulimit -n`) when the message
    /// came: they are lost here, and not with the sender. To give the message back has it sent anew. To acknowledge it
    /// does without them. [`Io`](crate::ErrorKind::Io) if there is no room for yours: take them later.
    ///
    /// ```
    /// # use std::io::Read;
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::builder().descriptors(true).bind(name)?;
    /// let mut sender = wigwag::Sender::builder().descriptors(true).connect(name)?;
    /// let mut draft = sender.loan(0)?;
    /// draft.attach(std::fs::File::open("/proc/self/comm").unwrap())?;
    /// draft.commit()?;
    ///
    /// let mut message = receiver.recv()?;
    /// assert_eq!(message.take_descriptors()?.len(), 1);
    /// assert!(message.take_descriptors()?.is_empty());
    /// message.nack();
    /// let mut again = receiver.recv()?;
    /// let mut text = String::new();
    /// std::fs::File::from(again.take_descriptors()?.remove(0)).read_to_string(&mut text).unwrap();
    /// # assert!(!text.is_empty());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn take_descriptors(&mut self) -> Result<Vec<OwnedFd>> {
        self.message.take_descriptors()
    }

    /// Ends the session it came from, because of what it is. It is not acknowledged.
    #[cold]
    pub(crate) fn condemn(mut self, why: String) {
        self.message.condemn(why);
    }

    /// Whether it was in somebody's hands before: a receiver died with it, or gave it back. What it asks for may have
    /// been done.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// # let mut sender = wigwag::Sender::connect(name)?; sender.send(b"work")?;
    /// assert!(!receiver.recv()?.is_redelivered());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn is_redelivered(&self) -> bool {
        self.message.is_redelivered()
    }

    /// Who sent it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// # let mut sender = wigwag::Sender::connect(name)?; sender.send(b"work")?;
    /// assert_eq!(receiver.recv()?.peer().pid, std::process::id() as i32);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn peer(&self) -> Peer {
        Peer::of(self.message.session().peer)
    }
}

impl Deref for Delivery {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.message
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Delivery")
            .field("len", &self.len())
            .field("is_redelivered", &self.is_redelivered())
            .field("peer", &self.peer())
            .finish()
    }
}

/// Messages received together: a slice of [`Delivery`], acknowledged together when it is dropped.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("q").path;
/// let receiver = wigwag::Receiver::bind(name)?;
/// let mut sender = wigwag::Sender::connect(name)?;
/// sender.send_batch(["one", "two", "three"])?;
/// let batch = receiver.recv_batch(2)?;
/// assert_eq!((&batch[0][..], &batch[1][..]), (&b"one"[..], &b"two"[..]));
/// batch.ack();
/// assert_eq!(sender.stats().acknowledged, 2);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a batch acknowledges it"]
pub struct Batch {
    messages: Vec<Delivery>,
}

impl Batch {
    pub(crate) fn new(messages: Vec<Delivery>) -> Batch {
        Batch { messages }
    }

    /// Acknowledges all of them. The same as dropping it, said aloud.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// # let mut sender = wigwag::Sender::connect(name)?; sender.send(b"work")?;
    /// receiver.recv_batch(100)?.ack();
    /// # assert_eq!(receiver.stats().acknowledged, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn ack(self) {}

    /// Gives all of them back: they are delivered again, in the same order.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// # let mut sender = wigwag::Sender::connect(name)?; sender.send_batch(["one", "two"])?;
    /// receiver.recv_batch(100)?.nack();
    /// assert_eq!(&receiver.recv()?[..], b"one");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn nack(self) {
        self.messages.into_iter().for_each(Delivery::nack);
    }
}

impl Deref for Batch {
    type Target = [Delivery];

    fn deref(&self) -> &[Delivery] {
        &self.messages
    }
}

impl DerefMut for Batch {
    fn deref_mut(&mut self) -> &mut [Delivery] {
        &mut self.messages
    }
}

/// Each by itself: to be acknowledged one by one.
impl IntoIterator for Batch {
    type Item = Delivery;
    type IntoIter = std::vec::IntoIter<Delivery>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages.into_iter()
    }
}
