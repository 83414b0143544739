//! The writing direction of one end of a stream.

use std::{io, iter};

use crate::error::{Error, ErrorKind};
use crate::faults::{self, Fault};
use crate::memory::payload::PayloadBytesMut;
use crate::memory::ring::Producer;
use crate::stream::blocking::WaitState;
use crate::stream::endpoint::Endpoint;
use crate::stream::half::Direction;
use crate::stream::reader::{WAKE_STEP, step_of};

/// What only the writing side knows.
pub struct Writer {
    ring: Producer,
    wait_state: WaitState,
    /// Room lent for a peer that is not trusted: it is copied when it is committed.
    copy: Vec<u8>,
    /// Bytes lent and not committed.
    lent: usize,
    /// Counted to look now and then whether the other end lives.
    published: u32,
    is_armed: bool,
    /// When a writer that found no room looked last whether the other end lives, by [`Endpoint::is_over_by_now`].
    looked_at: i64,
}

/// Most bytes that are lent at a time for a peer that is not trusted.
const COPY_MAX: usize = 16 << 10;
/// Writes to a ring that is not read between two looks whether the other end lives.
const WRITES_PER_LIFE_SIGN: u32 = 64;

impl Writer {
    /// Of a new stream.
    pub fn new(endpoint: &Endpoint) -> Writer {
        Writer {
            ring: Producer::new(endpoint.ring_bytes()),
            wait_state: WaitState::new(Direction::Writing),
            copy: Vec::new(),
            lent: 0,
            published: 0,
            is_armed: false,
            looked_at: 0,
        }
    }

    /// Room that can be written to at once; waits until there is some. More than `wanted` is not looked for.
    #[inline(always)]
    fn room(&mut self, endpoint: &Endpoint, wanted: usize) -> io::Result<usize> {
        match self.try_room(endpoint, wanted)? {
            Some(room) => Ok(room),
            None => self.wait(endpoint),
        }
    }

    /// Room that can be written to at once, or `None`: the ring is full.
    #[inline(always)]
    pub fn try_room(&mut self, endpoint: &Endpoint, wanted: usize) -> io::Result<Option<usize>> {
        if endpoint.is_forked() {
            return Err(Error::forked().into());
        }
        let words = endpoint.outgoing();
        let room = self.ring.room(&words, wanted).map_err(|lie| endpoint.condemn(lie))?;
        if endpoint.is_shut(Direction::Writing) || self.ring.is_reader_gone() || endpoint.is_over() {
            return Err(self.nobody_reads(endpoint));
        }
        if room > 0 && self.is_armed {
            self.is_armed = false;
            crate::memory::doorbell::Waiting(words.waits_for_room).withdraw();
        }
        Ok((room > 0).then_some(room))
    }

    /// As [`Writer::try_room`], for who does not wait: who was killed with a full ring is an error, too.
    #[inline(always)]
    fn try_room_beside_the_dead(&mut self, endpoint: &Endpoint, wanted: usize) -> io::Result<Option<usize>> {
        match self.try_room(endpoint, wanted)? {
            None if endpoint.is_over_by_now(&mut self.looked_at) => self.try_room(endpoint, wanted),
            room => Ok(room),
        }
    }

    #[cold]
    fn nobody_reads(&mut self, endpoint: &Endpoint) -> io::Error {
        // Who hung up may have closed in good order before.
        if let Err(lie) = self.ring.look(&endpoint.outgoing()) {
            return endpoint.condemn(lie);
        }
        let sentence = match endpoint.is_shut(Direction::Writing) {
            true => "this end has shut the stream for writing",
            false if !self.ring.is_reader_gone() => return endpoint.fate(Direction::Writing),
            false => "the other end has closed the stream for reading",
        };
        let error = Error::new(ErrorKind::ServerClosed { maybe_executed: true }, sentence);
        io::Error::new(io::ErrorKind::BrokenPipe, error)
    }

    #[cold]
    fn wait(&mut self, endpoint: &Endpoint) -> io::Result<usize> {
        let words = endpoint.outgoing();
        if endpoint.is_nonblocking() {
            return match self.arm(endpoint)? {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => self.try_room(endpoint, 1)?.map_or_else(|| Err(io::ErrorKind::WouldBlock.into()), Ok),
            };
        }
        let Writer { ring, wait_state, .. } = self;
        wait_state.wait_until(endpoint, words.waits_for_room, || {
            ring.look(&words).map(|room| room > 0 || ring.is_reader_gone())
        })?;
        let room = self.try_room(endpoint, 1)?;
        Ok(room.unwrap_or(0))
    }

    /// After the ring was full: from now on the descriptor becomes readable when there is room. `false`: try again at
    /// once.
    pub fn arm(&mut self, endpoint: &Endpoint) -> io::Result<bool> {
        let words = endpoint.outgoing();
        let Writer { ring, wait_state, .. } = self;
        let is_armed = endpoint.arm(Direction::Writing, wait_state.events(), words.waits_for_room, || {
            ring.look(&words).map(|room| room > 0 || ring.is_reader_gone())
        })?;
        self.is_armed = is_armed;
        Ok(is_armed)
    }

    /// As [`Writer::arm`], for who is woken by a reactor.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn announce(&mut self, endpoint: &Endpoint) -> io::Result<bool> {
        let words = endpoint.outgoing();
        let ring = &mut self.ring;
        self.is_armed = endpoint.announce(Direction::Writing, words.waits_for_room, || {
            ring.look(&words).map(|room| room > 0 || ring.is_reader_gone())
        })?;
        Ok(self.is_armed)
    }

    /// Writes as much as there is room for; waits until there is some.
    #[inline(always)]
    pub fn write(&mut self, endpoint: &Endpoint, from: &[u8]) -> io::Result<usize> {
        if from.is_empty() {
            return Ok(endpoint.check_fork().map(|()| 0)?);
        }
        let room = self.room(endpoint, from.len())?;
        Ok(self.put(endpoint, room.min(from.len()), iter::once(from)))
    }

    /// Writes as much as there is room for, or `None`: the ring is full.
    pub fn try_write(&mut self, endpoint: &Endpoint, from: &[u8]) -> io::Result<Option<usize>> {
        if from.is_empty() {
            return Ok(endpoint.check_fork().map(|()| Some(0))?);
        }
        let room = self.try_room_beside_the_dead(endpoint, from.len())?;
        Ok(room.map(|room| self.put(endpoint, room.min(from.len()), iter::once(from))))
    }

    /// Writes from several buffers; waits until there is room for the first byte.
    pub fn write_vectored(&mut self, endpoint: &Endpoint, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if let Some(count) = self.try_write_vectored(endpoint, buffers)? {
            return Ok(count);
        }
        self.room(endpoint, 1)?;
        Ok(self.try_write_vectored(endpoint, buffers)?.unwrap_or(0))
    }

    /// Writes from several buffers as much as there is room for, or `None`: the ring is full.
    pub fn try_write_vectored(
        &mut self,
        endpoint: &Endpoint,
        buffers: &[io::IoSlice<'_>],
    ) -> io::Result<Option<usize>> {
        endpoint.check_fork()?;
        let wanted = buffers.iter().fold(0, |sum: usize, buffer| sum.saturating_add(buffer.len()));
        if wanted == 0 {
            return Ok(Some(0));
        }
        let room = self.try_room_beside_the_dead(endpoint, wanted)?;
        let parts = buffers.iter().map(|buffer| &**buffer);
        Ok(room.map(|room| self.put(endpoint, room.min(wanted), parts)))
    }

    /// Copies the first `count` bytes of some buffers, for which there is room, in steps: the other end may begin while
    /// the rest is copied. Buffers that belong together, such as a head and a body, are in one step, so that a reader
    /// does not come for the head alone. One that sleeps is rung for once it is worth it: if it came for the first
    /// step, it would go to sleep again before the next one.
    #[inline(always)]
    fn put<'a>(&mut self, endpoint: &Endpoint, count: usize, buffers: impl Iterator<Item = &'a [u8]>) -> usize {
        self.lent = 0;
        let step = step_of(endpoint);
        let (mut done, mut copied, mut left_asleep) = (0, 0, 0);
        for mut rest in buffers {
            while !rest.is_empty() && done < count {
                let (part, behind) = rest.split_at(rest.len().min(count - done).min(step - copied));
                let position = self.ring.position_after(copied);
                if faults::is(Fault::EarlyBytes) {
                    self.publish(endpoint, part.len());
                    faults::widen_window();
                    endpoint.segment().copy_to_ring(endpoint.side(), position, part);
                } else {
                    endpoint.segment().copy_to_ring(endpoint.side(), position, part);
                    copied += part.len();
                }
                rest = behind;
                done += part.len();
                if done == count || left_asleep + copied >= WAKE_STEP && !endpoint.shares_processor() {
                    self.publish(endpoint, std::mem::take(&mut copied));
                    left_asleep = 0;
                } else if copied == step {
                    self.ring.append(&endpoint.outgoing(), copied);
                    endpoint.count_written(copied);
                    left_asleep += std::mem::take(&mut copied);
                }
            }
        }
        count
    }

    #[inline(always)]
    fn publish(&mut self, endpoint: &Endpoint, count: usize) {
        if self.ring.publish(&endpoint.outgoing(), count) {
            endpoint.ring();
        }
        endpoint.count_written(count);
        self.published = self.published.wrapping_add(1);
        if self.published.is_multiple_of(WRITES_PER_LIFE_SIGN) && self.ring.has_unread() {
            self.look_for_end(endpoint);
        }
    }

    #[cold]
    fn look_for_end(&mut self, endpoint: &Endpoint) {
        if self.ring.look(&endpoint.outgoing()).is_ok() && self.ring.has_unread() {
            endpoint.look_for_end();
        }
    }

    /// Lends the room that there is, where it lies; waits until there is some. The bytes are old ones.
    pub fn lend<'a>(&'a mut self, endpoint: &'a Endpoint) -> io::Result<&'a mut [u8]> {
        let room = self.room(endpoint, endpoint.ring_bytes())?;
        if !endpoint.is_trusted() {
            self.lent = room.min(COPY_MAX);
            self.copy.resize(COPY_MAX, 0);
            return Ok(&mut self.copy[..self.lent]);
        }
        self.lent = room;
        // These bytes are the writer's (B1) until they are published, which the borrow of `self` prevents; the peer is
        // of the same user (G3). The memory lives as long as the endpoint (M1), which is borrowed for as long, too.
        let bytes = PayloadBytesMut::of_ring(endpoint.segment(), endpoint.side(), self.ring.position(), room);
        Ok(bytes.lent_by(self))
    }

    /// Hands over the first `count` of the bytes lent.
    ///
    /// # Panics
    /// If fewer were lent.
    pub fn commit(&mut self, endpoint: &Endpoint, count: usize) {
        if endpoint.is_forked() {
            return; // what the parent was lent is the parent's
        }
        assert!(count <= self.lent, "a commit of {count} bytes, where {} were lent and not committed yet", self.lent);
        if count == 0 {
            return;
        }
        self.lent = 0;
        if !endpoint.is_trusted() {
            endpoint.segment().copy_to_ring(endpoint.side(), self.ring.position(), &self.copy[..count]);
        }
        self.publish(endpoint, count);
    }
}
