//! The writing direction of one end of a stream.

#![allow(unsafe_code)]

use std::io;

use super::reader::step_of;
use crate::error::{Error, ErrorKind};
use crate::link::{Direction, Link, Patience};
use crate::planted::{self, Fault};
use crate::ring::Producer;

/// What only the writing side knows.
pub struct Writer {
    ring: Producer,
    patience: Patience,
    /// Room lent for a peer that is not trusted: it is copied when it is committed.
    copy: Vec<u8>,
    /// Bytes lent and not committed.
    lent: usize,
    /// Counted to look now and then whether the other end lives.
    published: u32,
    is_armed: bool,
}

/// Most bytes that are lent at a time for a peer that is not trusted.
const COPY_MAX: usize = 16 << 10;
/// Writes to a ring that is not read between two looks whether the other end lives.
const WRITES_PER_LIFE_SIGN: u32 = 64;

impl Writer {
    /// Of a new stream.
    pub fn new(link: &Link) -> Writer {
        Writer {
            ring: Producer::new(link.ring_bytes()),
            patience: Patience::new(Direction::Writing),
            copy: Vec::new(),
            lent: 0,
            published: 0,
            is_armed: false,
        }
    }

    /// Room that can be written to at once; waits until there is some. More than `wanted` is not looked for.
    #[inline(always)]
    fn room(&mut self, link: &Link, wanted: usize) -> io::Result<usize> {
        match self.try_room(link, wanted)? {
            Some(room) => Ok(room),
            None => self.wait(link),
        }
    }

    /// Room that can be written to at once, or `None`: the ring is full.
    #[inline(always)]
    pub fn try_room(&mut self, link: &Link, wanted: usize) -> io::Result<Option<usize>> {
        if link.is_forked() {
            return Err(Error::forked().into());
        }
        let words = link.outgoing();
        let room = self.ring.room(&words, wanted).map_err(|lie| link.condemn(lie))?;
        if link.is_shut(Direction::Writing) || self.ring.is_reader_gone() || link.is_over() {
            return Err(self.nobody_reads(link));
        }
        if room > 0 && self.is_armed {
            self.is_armed = false;
            crate::doorbell::Waiting(words.waits_for_room).withdraw();
        }
        Ok((room > 0).then_some(room))
    }

    #[cold]
    fn nobody_reads(&mut self, link: &Link) -> io::Error {
        // Who hung up may have closed in good order before.
        if let Err(lie) = self.ring.look(&link.outgoing()) {
            return link.condemn(lie);
        }
        let sentence = match link.is_shut(Direction::Writing) {
            true => "this end has shut the stream for writing",
            false if !self.ring.is_reader_gone() => return link.fate(Direction::Writing),
            false => "the other end has closed the stream for reading",
        };
        let error = Error::new(ErrorKind::ServerClosed { maybe_executed: true }, sentence);
        io::Error::new(io::ErrorKind::BrokenPipe, error)
    }

    #[cold]
    fn wait(&mut self, link: &Link) -> io::Result<usize> {
        let words = link.outgoing();
        if link.is_nonblocking() {
            return match self.arm(link)? {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => self.try_room(link, 1)?.map_or_else(|| Err(io::ErrorKind::WouldBlock.into()), Ok),
            };
        }
        let Writer { ring, patience, .. } = self;
        link.wait_until(patience, words.waits_for_room, || {
            ring.look(&words).map(|room| room > 0 || ring.is_reader_gone())
        })?;
        let room = self.try_room(link, 1)?;
        Ok(room.unwrap_or(0))
    }

    /// After the ring was full: from now on the descriptor becomes readable when there is room. `false`: try again at once.
    pub fn arm(&mut self, link: &Link) -> io::Result<bool> {
        let words = link.outgoing();
        let Writer { ring, patience, .. } = self;
        let is_armed = link
            .arm(patience, words.waits_for_room, || ring.look(&words).map(|room| room > 0 || ring.is_reader_gone()))?;
        self.is_armed = is_armed;
        Ok(is_armed)
    }

    /// As [`Writer::arm`], for who is woken by a reactor.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn announce(&mut self, link: &Link) -> io::Result<bool> {
        let words = link.outgoing();
        let ring = &mut self.ring;
        self.is_armed = link.announce(Direction::Writing, words.waits_for_room, || {
            ring.look(&words).map(|room| room > 0 || ring.is_reader_gone())
        })?;
        Ok(self.is_armed)
    }

    /// Writes as much as there is room for; waits until there is some.
    #[inline(always)]
    pub fn write(&mut self, link: &Link, from: &[u8]) -> io::Result<usize> {
        if from.is_empty() {
            return Ok(0);
        }
        let room = self.room(link, from.len())?;
        Ok(self.put(link, room, from))
    }

    /// Writes as much as there is room for, or `None`: the ring is full.
    pub fn try_write(&mut self, link: &Link, from: &[u8]) -> io::Result<Option<usize>> {
        if from.is_empty() {
            return Ok(Some(0));
        }
        let room = self.try_room(link, from.len())?;
        Ok(room.map(|room| self.put(link, room, from)))
    }

    /// Writes from several buffers; waits until there is room for the first byte.
    pub fn write_vectored(&mut self, link: &Link, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if let Some(count) = self.try_write_vectored(link, buffers)? {
            return Ok(count);
        }
        self.room(link, 1)?;
        Ok(self.try_write_vectored(link, buffers)?.unwrap_or(0))
    }

    /// Writes from several buffers as much as there is room for, or `None`: the ring is full.
    pub fn try_write_vectored(&mut self, link: &Link, buffers: &[io::IoSlice<'_>]) -> io::Result<Option<usize>> {
        let mut total = 0;
        for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
            let count = match self.try_room(link, buffer.len()) {
                Ok(Some(room)) => self.put(link, room, buffer),
                Ok(None) if total == 0 => return Ok(None),
                Err(error) if total == 0 => return Err(error),
                // What there is room for already, and no more: an error comes with the next call.
                _ => break,
            };
            total += count;
            if count < buffer.len() {
                break;
            }
        }
        Ok(Some(total))
    }

    /// Copies what there is room for, in steps: the other end may begin while the rest is copied.
    #[inline(always)]
    fn put(&mut self, link: &Link, room: usize, from: &[u8]) -> usize {
        let count = room.min(from.len());
        self.lent = 0;
        for part in from[..count].chunks(step_of(link)) {
            let position = self.ring.position();
            if planted::is(Fault::EarlyBytes) {
                self.publish(link, part.len());
                planted::dawdle();
                link.segment().copy_to_ring(link.side(), position, part);
                continue;
            }
            link.segment().copy_to_ring(link.side(), position, part);
            self.publish(link, part.len());
        }
        count
    }

    #[inline(always)]
    fn publish(&mut self, link: &Link, count: usize) {
        if self.ring.publish(&link.outgoing(), count) {
            link.ring();
        }
        link.count_written(count);
        self.published = self.published.wrapping_add(1);
        if self.published.is_multiple_of(WRITES_PER_LIFE_SIGN) && self.ring.has_unread() {
            self.look_for_end(link);
        }
    }

    #[cold]
    fn look_for_end(&mut self, link: &Link) {
        if self.ring.look(&link.outgoing()).is_ok() && self.ring.has_unread() {
            link.look_for_end();
        }
    }

    /// Lends the room that there is, where it lies; waits until there is some. The bytes are old ones.
    pub fn lend<'a>(&'a mut self, link: &'a Link) -> io::Result<&'a mut [u8]> {
        let room = self.room(link, link.ring_bytes())?;
        if !link.is_trusted() {
            self.lent = room.min(COPY_MAX);
            self.copy.resize(COPY_MAX, 0);
            return Ok(&mut self.copy[..self.lent]);
        }
        self.lent = room;
        let mut bytes = link.segment().ring_bytes(link.side(), self.ring.position(), room);
        // SAFETY: these bytes are the writer's (B1) until they are published, which the borrow of `self` prevents; the peer is
        // of the same user (G3). The memory lives as long as the link (M1), which is borrowed for as long, too.
        Ok(unsafe { bytes.as_mut() })
    }

    /// Hands over the first `count` of the bytes lent.
    ///
    /// # Panics
    /// If fewer were lent.
    pub fn commit(&mut self, link: &Link, count: usize) {
        assert!(count <= self.lent, "a commit of {count} bytes, where {} were lent and not committed yet", self.lent);
        if count == 0 || link.is_forked() {
            return;
        }
        self.lent = 0;
        if !link.is_trusted() {
            link.segment().copy_to_ring(link.side(), self.ring.position(), &self.copy[..count]);
        }
        self.publish(link, count);
    }
}
