//! A sender in an event loop of any kind: steps that never wait, and one descriptor that tells when to take them again.
//!
//! The descriptor is an epoll of the sender's own, so that it stays the same whatever the sender has at the time: a
//! session with one receiver, the search for the next one, or sessions with all who share the name. What of these there
//! is has a poller, and that is what the loop's descriptor watches.

use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Error, Result};
use crate::queue::group::Awaited;
use crate::queue::producer::Room;
use crate::queue::sender::Sender;
use crate::session::connect::Progress;
use crate::sys::epoll::{Events, Interest, Poller};

/// The key of all that is watched: there is one such thing at a time.
const KEY: u64 = 0;

/// What an event loop polls on behalf of a sender.
pub struct LoopDescriptor {
    poller: Poller,
    events: Events,
    /// It watches what the sender has now.
    is_current: bool,
}

impl LoopDescriptor {
    fn new() -> Result<LoopDescriptor> {
        Ok(LoopDescriptor { poller: Poller::new()?, events: Events::with_capacity(1), is_current: false })
    }

    /// The sender has another session, or search, than before.
    pub fn has_changed(&mut self) {
        self.is_current = false;
    }
}

impl Sender {
    /// For an event loop: sends a copy of a message if there is room. `false`: nothing was sent, and the sender's
    /// [descriptor](Sender::try_clone_descriptor) becomes readable once it is worth to call this again: when there is
    /// room, at the receiver or at any of those who share the name, or when the next receiver has come. It never waits.
    ///
    /// # Errors
    /// As [`send`](Sender::send); [`NotRunning`](crate::ErrorKind::NotRunning) once no other receiver has come within
    /// the [time for that](crate::SenderBuilder::server_timeout). The next call looks again.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::builder().slots(1).connect(name)?;
    /// let descriptor = sender.try_clone_descriptor()?;
    /// assert!(sender.send_or_arm(b"one")?);
    /// assert!(!sender.send_or_arm(b"two")?);     // full: from here on an acknowledgement makes it readable
    /// receiver.recv()?.ack();
    /// while !sender.send_or_arm(b"two")? {
    ///     poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None).unwrap(); // with whatever else is waited for
    /// }
    /// # receiver.recv()?.ack();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn send_or_arm(&mut self, message: &[u8]) -> Result<bool> {
        if !self.room_or_arm(message.len()).inspect_err(|_| self.producer.count_refused())? {
            return Ok(false);
        }
        self.producer.put(message)?;
        Ok(true)
    }

    fn room_or_arm(&mut self, len: usize) -> Result<bool> {
        self.producer.check(len)?;
        loop {
            let is_there = match self.group {
                Some(_) => self.is_there(Awaited::Room)?,
                None => self.producer.room(len)? == Room::There,
            };
            if is_there {
                return Ok(true);
            }
            if self.arm(Awaited::Room)? {
                return Ok(false);
            }
        }
    }

    /// For an event loop: whether everything is acknowledged. `false`: from here on the sender's
    /// [descriptor](Sender::try_clone_descriptor) becomes readable once it is worth to call this again. It never waits.
    ///
    /// # Errors
    /// As [`send_or_arm`](Sender::send_or_arm). What is not acknowledged is kept all the same.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.try_send(b"one")?;
    /// assert!(!sender.flush_or_arm()?);
    /// receiver.recv()?.ack();
    /// assert!(sender.flush_or_arm()?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn flush_or_arm(&mut self) -> Result<bool> {
        loop {
            if self.is_all_acknowledged()? {
                return Ok(true);
            }
            if self.arm(Awaited::Acknowledgements)? {
                return Ok(false);
            }
        }
    }

    /// For an event loop that has nothing to send yet: whether there is room for a message. `false`: as
    /// [`send_or_arm`](Sender::send_or_arm).
    ///
    /// # Errors
    /// As [`send_or_arm`](Sender::send_or_arm).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::builder().slots(1).connect(name)?;
    /// assert!(sender.has_room_or_arm()?);
    /// sender.try_send(b"one")?;
    /// assert!(!sender.has_room_or_arm()?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn has_room_or_arm(&mut self) -> Result<bool> {
        self.room_or_arm(0)
    }

    /// The descriptor for an event loop to poll for reading, see [`send_or_arm`](Sender::send_or_arm): a duplicate,
    /// which may be closed at any time, of one that stays the same for as long as the sender lives. Reading from it or
    /// writing to it is not possible.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if there is no descriptor to be had; [`Forked`](crate::ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// let descriptor: std::os::fd::OwnedFd = sender.try_clone_descriptor()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_clone_descriptor(&mut self) -> Result<OwnedFd> {
        self.producer.check_fork()?;
        if self.loop_descriptor.is_none() {
            self.loop_descriptor = Some(LoopDescriptor::new()?);
        }
        self.be_heard()?;
        let copied = self.loop_descriptor.as_ref().map(|it| it.poller.as_fd().try_clone_to_owned());
        let copied = copied.unwrap_or_else(|| Err(std::io::ErrorKind::NotFound.into()));
        copied.map_err(|error| Error::io("copy a descriptor for the event loop", error))
    }

    /// For an event loop: takes in what the [descriptor](Sender::try_clone_descriptor) told, without waiting. A loop
    /// that polls it all the time, whether something is to be sent or not, calls this each time it is readable: else it
    /// may stay so. The steps do it, too, when they find that they cannot go on.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked), [`Io`](crate::ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.take_events()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn take_events(&mut self) -> Result<()> {
        self.producer.check_fork()?;
        // Before the look: what comes after it is told anew.
        if let Some(LoopDescriptor { poller, events, .. }) = &mut self.loop_descriptor {
            poller.poll(events)?;
        }
        if let Some(group) = &mut self.group {
            group.tell_moments()?;
            return self.tend_group();
        }
        self.producer.look()
    }

    /// Takes in what the descriptor told, and sees to it that it tells of what is awaited. `false`: there is nothing to
    /// wait for, it may have come.
    fn arm(&mut self, awaited: Awaited) -> Result<bool> {
        self.take_events()?;
        let is_armed = if self.group.is_some() {
            self.arm_group(awaited)?
        } else if self.producer.is_receiver_gone() {
            !self.go_on_searching(|search| {
                search.tell_moments()?;
                Ok(match search.step_and_tell()? {
                    Progress::Attached(established) => Some(*established),
                    Progress::Wait(_) => None,
                })
            })?
        } else {
            let place = match awaited {
                Awaited::Room if self.producer.has_room()? => None,
                Awaited::Room => Some(0),
                // The newest is mostly the last to be acknowledged: who waits for it is woken once.
                Awaited::Acknowledgements => self.producer.newest_open()?,
            };
            place.is_some_and(|place| self.producer.ask_for_ring(place))
        };
        self.be_heard()?;
        Ok(is_armed)
    }

    /// The loop's descriptor watches what there is now. What came before that shows at once.
    fn be_heard(&mut self) -> Result<()> {
        let Some(LoopDescriptor { poller, is_current, .. }) = &mut self.loop_descriptor else { return Ok(()) };
        if *is_current {
            return Ok(());
        }
        match (&mut self.group, &self.search) {
            (Some(group), _) => {
                group.tell_moments()?;
                watch(poller, group.poller())?;
            }
            (None, Some(search)) => {
                search.leave(poller); // it may be there already
                search.watch_in(poller, KEY, Interest::Bell)?;
            }
            (None, None) => watch(poller, self.producer.connection().poller())?,
        }
        *is_current = true;
        Ok(())
    }
}

/// A search's poller becomes its session's, and may be there already.
fn watch(poller: &Poller, inner: &Poller) -> Result<()> {
    poller.remove(inner);
    poller.add(inner, KEY, Interest::Bell)
}
