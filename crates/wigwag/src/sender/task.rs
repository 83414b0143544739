//! What a task needs of a sender, in steps that never wait: the waiting is the reactor's.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::{Patience, Sender, SenderBuilder, too_long};
use crate::connection::Connection;
use crate::control::attach::Wishes;
use crate::error::{Error, Result};
use crate::slot;
use crate::sys::clock;

/// Whether a message can be written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It can.
    There,
    /// When the oldest one is acknowledged.
    Full,
    /// When there is a receiver again.
    Gone,
}

/// How long one look for a receiver may take of a thread that may be blocked: a task that is dropped meanwhile leaves no more
/// behind than this.
const LOOK: Duration = Duration::from_millis(100);

/// A search for the next receiver, for a thread that may be blocked.
#[derive(Debug)]
pub struct Search {
    builder: SenderBuilder,
    name: OsString,
    wishes: Wishes,
    deadline: Option<Instant>,
}

/// What one look came to.
pub enum Found {
    /// A receiver: a session with it.
    Receiver(Box<Connection>),
    /// None yet, and there is time for another look.
    NotYet(Box<Search>),
}

impl Search {
    /// Looks for up to a tenth of a second.
    pub fn look(self) -> Result<Found> {
        let until = clock::deadline_after(LOOK);
        let is_last = self.deadline.is_some_and(|at| until.is_none_or(|until| at <= until));
        let deadline = if is_last { self.deadline } else { until };
        match self.builder.find_receiver(&self.name, self.wishes.clone(), deadline) {
            Ok(connection) => Ok(Found::Receiver(Box::new(connection))),
            // An error before the time is over is a refusal, for good.
            Err(error) if is_last || deadline.is_none_or(|at| Instant::now() < at) => Err(error),
            Err(_) => Ok(Found::NotYet(Box::new(self))),
        }
    }
}

impl Sender {
    /// Whether a message of `len` bytes can be written at once. What a step costs is at most a look at the descriptors.
    pub(crate) fn room(&mut self, len: usize) -> Result<Room> {
        if self.connection.is_forked() {
            return Err(Error::forked());
        }
        if len > self.capacity() {
            return Err(too_long(len, self.capacity()));
        }
        if !self.connection.is_over() && clock::tick() != self.alive_at {
            self.hear_news()?;
        }
        Ok(match self.connection.is_over() {
            true => Room::Gone,
            false if self.outbox.is_full() && !self.free_oldest()? => Room::Full,
            false => Room::There,
        })
    }

    /// Takes in what the descriptors tell.
    pub(crate) fn hear_news(&mut self) -> Result<()> {
        self.alive_at = clock::tick();
        self.connection.hear(Some(Instant::now()))
    }

    /// Asks to be rung for the message at a place, 0 for the oldest. `false`: there is nothing to wait for, it is acknowledged or the
    /// receiver gone.
    pub(crate) fn ask_for_ring(&self, place: usize) -> bool {
        let Some(record) = self.outbox.get(place) else { return false };
        !self.connection.is_over() && slot::ask_for_wake(&self.connection.segment().line(record.slot).turn).is_server()
    }

    /// The place of the newest message that is not acknowledged, once all before it that are have been freed.
    pub(crate) fn newest_open(&mut self) -> Result<Option<usize>> {
        if self.connection.is_forked() {
            return Err(Error::forked());
        }
        while self.free_oldest()? {}
        Ok(self.newest_unacknowledged())
    }

    /// Whether the receiver is gone, as far as is known.
    pub(crate) fn is_receiver_gone(&self) -> bool {
        self.connection.is_over()
    }

    /// The search for the next receiver; an error if there must not be one.
    pub(crate) fn search(&self) -> Result<Search> {
        Ok(Search {
            wishes: self.wishes_for_successor()?,
            deadline: clock::deadline_after(self.builder.receiver_timeout),
            builder: self.builder.clone(),
            name: self.name.clone(),
        })
    }

    /// Goes on with the receiver that was found.
    pub(crate) fn go_on_with(&mut self, connection: Connection) {
        self.alive_at = clock::tick();
        self.move_to(connection);
    }

    /// No receiver was found within the time for that.
    pub(crate) fn not_found(&self, error: Error) -> Error {
        self.missing(error)
    }

    /// A message was not sent.
    pub(crate) fn count_refused(&mut self) {
        self.counters.refused += 1;
    }

    /// As [`Sender::try_send`] when there is no receiver, without a look for one.
    pub(crate) fn why_gone(&self) -> Error {
        let error = self.connection.check_alive(false).err();
        error.map_or_else(|| self.full(), |error| self.missing(error))
    }

    /// Why a message cannot be sent at once.
    pub(crate) fn why_full(&self) -> Error {
        self.full()
    }

    /// The bell and what tells of the receiver's end, for a reactor.
    pub(crate) fn descriptors(&self) -> Result<(Option<std::os::fd::OwnedFd>, std::os::fd::OwnedFd)> {
        self.connection.descriptors()
    }

    /// A message into the room that [`Sender::room`] found.
    pub(crate) fn put(&mut self, message: &[u8]) -> Result<()> {
        self.send_within(message, Patience::None)
    }

    /// As [`Sender::put`], without waking the receiver.
    pub(crate) fn put_silently(&mut self, message: &[u8]) -> Result<()> {
        let mut draft = self.draft(message.len(), Patience::None)?;
        draft.copy_from_slice(message);
        draft.pass_silently();
        Ok(())
    }

    /// Wakes the receiver for what was put silently.
    pub(crate) fn ring(&self) {
        self.ring_for_batch();
    }

    /// For another sender like this one.
    pub(crate) fn builder_and_name(&self) -> (SenderBuilder, OsString) {
        (self.builder.clone(), self.name.clone())
    }
}
