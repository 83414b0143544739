//! The reading direction of one end of a stream.

use std::io;

use crate::error::Error;
use crate::faults::{self, Fault};
use crate::memory::payload::PayloadBytes;
use crate::memory::ring::Consumer;
use crate::stream::blocking::WaitState;
use crate::stream::endpoint::Endpoint;
use crate::stream::half::Direction;

/// What only the reading side knows.
pub struct Reader {
    ring: Consumer,
    wait_state: WaitState,
    /// Bytes of a peer that is not trusted, copied once to be lent.
    copy: Vec<u8>,
    /// How many of them were consumed.
    copy_consumed: usize,
    is_armed: bool,
    /// When a reader that found nothing looked last whether the other end lives, by [`Endpoint::is_over_by_now`].
    looked_at: i64,
}

/// Most bytes of a peer that is not trusted which are copied to be lent at a time.
const COPY_MAX: usize = 16 << 10;

impl Reader {
    /// Of a new stream.
    pub fn new(endpoint: &Endpoint) -> Reader {
        Reader {
            ring: Consumer::new(endpoint.ring_bytes()),
            wait_state: WaitState::new(Direction::Reading),
            copy: Vec::new(),
            copy_consumed: 0,
            is_armed: false,
            looked_at: 0,
        }
    }

    /// Bytes that can be read at once; waits for the first. 0 is the end.
    #[inline(always)]
    fn available(&mut self, endpoint: &Endpoint) -> io::Result<usize> {
        match self.try_available(endpoint)? {
            Some(available) => Ok(available),
            None => self.wait(endpoint),
        }
    }

    /// Bytes that can be read at once, 0 at the end, or `None`: nothing just now.
    #[inline(always)]
    pub fn try_available(&mut self, endpoint: &Endpoint) -> io::Result<Option<usize>> {
        if endpoint.is_forked() {
            return Err(Error::forked().into());
        }
        if endpoint.is_shut(Direction::Reading) {
            return Ok(Some(0));
        }
        let words = endpoint.incoming();
        match self.ring.available(&words) {
            Ok(0) if !self.ring.is_at_end() => Ok(None),
            Ok(available) => {
                if self.is_armed {
                    self.is_armed = false;
                    crate::memory::doorbell::Waiting(words.waits_for_data).withdraw();
                }
                self.wait_state.received(endpoint, false);
                Ok(Some(available))
            }
            Err(lie) => Err(endpoint.condemn(lie)),
        }
    }

    #[cold]
    fn wait(&mut self, endpoint: &Endpoint) -> io::Result<usize> {
        let words = endpoint.incoming();
        if endpoint.is_nonblocking() {
            return match self.arm(endpoint)? {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => self.try_available(endpoint)?.map_or_else(|| Err(io::ErrorKind::WouldBlock.into()), Ok),
            };
        }
        let Reader { ring, wait_state, .. } = self;
        let slept = wait_state.wait_until(endpoint, words.waits_for_data, || {
            ring.look(&words).map(|available| available > 0 || ring.is_at_end())
        })?;
        wait_state.received(endpoint, slept);
        match endpoint.is_shut(Direction::Reading) {
            true => Ok(0),
            false => self.ring.available(&words).map_err(|lie| endpoint.condemn(lie)),
        }
    }

    /// After nothing was there: from now on the descriptor becomes readable when something is. `false`: try again at
    /// once.
    pub fn arm(&mut self, endpoint: &Endpoint) -> io::Result<bool> {
        let words = endpoint.incoming();
        let Reader { ring, wait_state, .. } = self;
        let is_armed = endpoint.arm(Direction::Reading, wait_state.events(), words.waits_for_data, || {
            ring.look(&words).map(|available| available > 0 || ring.is_at_end())
        })?;
        self.is_armed = is_armed;
        Ok(is_armed)
    }

    /// As [`Reader::arm`], for who is woken by a reactor.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn announce(&mut self, endpoint: &Endpoint) -> io::Result<bool> {
        let words = endpoint.incoming();
        let ring = &mut self.ring;
        self.is_armed = endpoint.announce(Direction::Reading, words.waits_for_data, || {
            ring.look(&words).map(|available| available > 0 || ring.is_at_end())
        })?;
        Ok(self.is_armed)
    }

    /// Reads what is there into `into`; waits for the first byte. 0 is the end.
    #[inline(always)]
    pub fn read(&mut self, endpoint: &Endpoint, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(endpoint.check_fork().map(|()| 0)?);
        }
        if self.copy_consumed < self.copy.len() {
            return self.read_copied(endpoint, into);
        }
        let available = self.available(endpoint)?;
        Ok(self.take(endpoint, available, into))
    }

    /// Reads what is there into `into`, or `None`: nothing just now.
    pub fn try_read(&mut self, endpoint: &Endpoint, into: &mut [u8]) -> io::Result<Option<usize>> {
        if into.is_empty() {
            return Ok(endpoint.check_fork().map(|()| Some(0))?);
        }
        if self.copy_consumed < self.copy.len() {
            return self.read_copied(endpoint, into).map(Some);
        }
        let available = match self.try_available(endpoint)? {
            None if endpoint.is_over_by_now(&mut self.looked_at) => match self.try_available(endpoint)? {
                None => return Err(endpoint.fate(Direction::Reading)),
                written_before => written_before,
            },
            available => available,
        };
        Ok(available.map(|available| self.take(endpoint, available, into)))
    }

    /// Whether a read would find something, the end included.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn is_readable(&mut self, endpoint: &Endpoint) -> io::Result<bool> {
        endpoint.check_fork()?;
        Ok(self.copy_consumed < self.copy.len() || self.try_available(endpoint)?.is_some())
    }

    /// Shows at most `most` of the bytes that are there to `put`, in the steps of [`Reader::take`]; never waits after
    /// [`Reader::is_readable`]. The bytes need no room that is initialized, as those of a read do.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn read_with(&mut self, endpoint: &Endpoint, most: usize, mut put: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = self.fill(endpoint)?.len().min(most);
        let mut left_asleep = 0;
        while left > 0 {
            let part = self.fill(endpoint)?;
            let len = left.min(part.len()).min(step_of(endpoint));
            put(&part[..len]);
            left -= len;
            if endpoint.is_trusted() && left > 0 {
                self.step(endpoint, len, &mut left_asleep);
            } else {
                self.consume(endpoint, len);
            }
        }
        Ok(())
    }

    /// Gives back what was just read, of a read that goes on. A writer that sleeps is rung for once it is worth it: if
    /// it came for each step, it would sleep again in between.
    #[inline(always)]
    fn step(&mut self, endpoint: &Endpoint, len: usize, left_asleep: &mut usize) {
        *left_asleep += len;
        if *left_asleep >= WAKE_STEP && !endpoint.shares_processor() {
            *left_asleep = 0;
            return self.release(endpoint, len);
        }
        self.ring.give_back(&endpoint.incoming(), len);
        endpoint.count_read(len);
    }

    /// Reads into several buffers; waits for the first byte.
    pub fn read_vectored(&mut self, endpoint: &Endpoint, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        endpoint.check_fork()?;
        let mut total = 0;
        for buffer in buffers.iter_mut().filter(|buffer| !buffer.is_empty()) {
            let count = match total {
                0 => self.read(endpoint, buffer)?,
                // What is there already, and no more: an error comes with the next call. Bytes that were copied to be
                // lent come before those of the ring, as for any read.
                _ if faults::is(Fault::SkippedCopy) => match self.try_available(endpoint)? {
                    Some(available) => self.take(endpoint, available, buffer),
                    None => break,
                },
                _ => match self.try_read(endpoint, buffer) {
                    Ok(Some(count)) => count,
                    _ => break,
                },
            };
            total += count;
            if count < buffer.len() {
                break;
            }
        }
        Ok(total)
    }

    /// Copies some of `available` bytes, in steps: the other end may go on while the rest is copied.
    #[inline(always)]
    fn take(&mut self, endpoint: &Endpoint, available: usize, into: &mut [u8]) -> usize {
        let count = available.min(into.len());
        let step = step_of(endpoint);
        let (mut done, mut left_asleep) = (0, 0);
        while done < count {
            let part = &mut into[done..count.min(done + step)];
            endpoint.segment().copy_from_ring(
                endpoint.side().other(),
                self.ring.position(),
                part,
                endpoint.is_trusted(),
            );
            done += part.len();
            let len = part.len();
            if done < count {
                self.step(endpoint, len, &mut left_asleep);
            } else {
                self.release(endpoint, len);
            }
        }
        count
    }

    #[inline(always)]
    fn release(&mut self, endpoint: &Endpoint, count: usize) {
        if self.ring.release(&endpoint.incoming(), count) {
            endpoint.ring();
        }
        endpoint.count_read(count);
    }

    /// What was copied to be lent and not consumed. Once this end has shut its reading there is none, as in place.
    #[cold]
    fn read_copied(&mut self, endpoint: &Endpoint, into: &mut [u8]) -> io::Result<usize> {
        endpoint.check_fork()?;
        if endpoint.is_shut(Direction::Reading) {
            self.copy_consumed = self.copy.len();
        }
        let rest = &self.copy[self.copy_consumed..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.copy_consumed += count;
        Ok(count)
    }

    /// The bytes that are there, where they lie; waits for the first. None is the end.
    pub fn fill<'a>(&'a mut self, endpoint: &'a Endpoint) -> io::Result<&'a [u8]> {
        if !endpoint.is_trusted() {
            return self.fill_copy(endpoint);
        }
        let available = self.available(endpoint)?;
        // These bytes are the reader's (B1) until they are consumed, which the borrow of `self` prevents; the peer is
        // of the same user (G3). The memory lives as long as the endpoint (M1), which is borrowed for as long, too.
        let bytes = PayloadBytes::of_ring(endpoint.segment(), endpoint.side().other(), self.ring.position(), available);
        Ok(bytes.lent_by(self))
    }

    #[cold]
    fn fill_copy(&mut self, endpoint: &Endpoint) -> io::Result<&[u8]> {
        endpoint.check_fork()?;
        if self.copy_consumed == self.copy.len() || endpoint.is_shut(Direction::Reading) {
            let count = self.available(endpoint)?.min(COPY_MAX);
            self.copy.resize(count, 0);
            self.copy_consumed = 0;
            let Reader { copy, ring, .. } = self;
            endpoint.segment().copy_from_ring(endpoint.side().other(), ring.position(), copy, false);
            self.release(endpoint, count);
        }
        Ok(&self.copy[self.copy_consumed..])
    }

    /// Gives back the first `count` of the bytes lent.
    pub fn consume(&mut self, endpoint: &Endpoint, count: usize) {
        if endpoint.is_forked() {
            return;
        }
        if !endpoint.is_trusted() {
            self.copy_consumed = self.copy.len().min(self.copy_consumed + count);
            return;
        }
        let count = count.min(self.ring.known());
        if count > 0 {
            self.release(endpoint, count);
        }
    }
}

/// Bytes of one write, or of one read, that are worth to wake the other end for before the rest is done, if it has
/// another processor: on this one it would only be in the way.
pub const WAKE_STEP: usize = 128 << 10;
/// A first-level cache holds as much, about: what was just copied is still there for whoever made it or is to use it.
const STEP_MAX: usize = 32 << 10;

/// Bytes copied before the other end is told: large enough to be worth it, small enough for both to work at a time.
#[inline(always)]
pub fn step_of(endpoint: &Endpoint) -> usize {
    (endpoint.ring_bytes() / 8).clamp(4096, STEP_MAX)
}
