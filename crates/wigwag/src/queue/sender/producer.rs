//! What a task needs of a sender, in steps that never wait: the waiting is the reactor's.

use std::ffi::OsString;

use crate::error::{Error, Result};
use crate::queue::sender::{MessageLoan, Sender, SenderBuilder, too_long};
use crate::session::connect::{ClientHandshake, Established};
use crate::session::connection::Connection;
use crate::sys::clock;
use crate::wait::deadline::Deadline;

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
            self.hear_events()?;
        }
        Ok(match self.connection.is_over() {
            true => Room::Gone,
            false if self.outbox.is_full() && !self.free_oldest()? => Room::Full,
            false => Room::There,
        })
    }

    /// Takes in what the descriptors tell.
    pub(crate) fn hear_events(&mut self) -> Result<()> {
        self.alive_at = clock::tick();
        self.connection.hear(Deadline::Now)
    }

    /// Asks to be rung for the message at a place, 0 for the oldest. `false`: there is nothing to wait for, it is
    /// acknowledged or the receiver gone.
    pub(crate) fn ask_for_ring(&self, place: usize) -> bool {
        let Some(record) = self.outbox.get(place) else { return false };
        !self.connection.is_over() && self.connection.ask_for_wake(record.slot).is_server()
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

    /// The handshake with the next receiver; an error if there must not be one.
    pub(crate) fn next_receiver(&self) -> Result<ClientHandshake> {
        self.search()
    }

    /// The session of an attachment that came of [`next_receiver`](Sender::next_receiver).
    pub(crate) fn connection_of(&self, established: Established) -> Connection {
        self.builder.connection(established)
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

    /// The room that [`Sender::room`] has just found, with nothing awaited since.
    #[inline(always)]
    pub(crate) fn draft_in_room(&mut self, len: usize) -> MessageLoan<'_> {
        debug_assert!(!self.outbox.is_full() && len <= self.capacity());
        MessageLoan::new(self, len)
    }

    /// A message into that room.
    pub(crate) fn put(&mut self, message: &[u8]) -> Result<()> {
        let mut draft = self.draft_in_room(message.len());
        draft.copy_from_slice(message);
        draft.commit()
    }

    /// As [`Sender::put`], without waking the receiver.
    pub(crate) fn put_silently(&mut self, message: &[u8]) {
        let mut draft = self.draft_in_room(message.len());
        draft.copy_from_slice(message);
        draft.pass_silently();
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
