//! The reading direction of one end of a stream.

#![allow(unsafe_code)]

use std::io;

use crate::error::Error;
use crate::link::{Direction, Link, Patience};
use crate::ring::Consumer;

/// What only the reading side knows.
pub struct Reader {
    ring: Consumer,
    patience: Patience,
    /// Bytes of a peer that is not trusted, copied once to be lent.
    copy: Vec<u8>,
    /// How many of them were consumed.
    copy_consumed: usize,
    is_armed: bool,
}

/// Most bytes of a peer that is not trusted which are copied to be lent at a time.
const COPY_MAX: usize = 16 << 10;

impl Reader {
    /// Of a new stream.
    pub fn new(link: &Link) -> Reader {
        Reader {
            ring: Consumer::new(link.ring_bytes()),
            patience: Patience::new(Direction::Reading),
            copy: Vec::new(),
            copy_consumed: 0,
            is_armed: false,
        }
    }

    /// Bytes that can be read at once; waits for the first. 0 is the end.
    #[inline(always)]
    fn available(&mut self, link: &Link) -> io::Result<usize> {
        match self.try_available(link)? {
            Some(available) => Ok(available),
            None => self.wait(link),
        }
    }

    /// Bytes that can be read at once, 0 at the end, or `None`: nothing just now.
    #[inline(always)]
    pub fn try_available(&mut self, link: &Link) -> io::Result<Option<usize>> {
        if link.is_forked() {
            return Err(Error::forked().into());
        }
        if link.is_shut(Direction::Reading) {
            return Ok(Some(0));
        }
        let words = link.incoming();
        match self.ring.available(&words) {
            Ok(0) if !self.ring.is_at_end() => Ok(None),
            Ok(available) => {
                if self.is_armed {
                    self.is_armed = false;
                    crate::doorbell::Waiting(words.waits_for_data).withdraw();
                }
                link.received(&mut self.patience, false);
                Ok(Some(available))
            }
            Err(lie) => Err(link.condemn(lie)),
        }
    }

    #[cold]
    fn wait(&mut self, link: &Link) -> io::Result<usize> {
        let words = link.incoming();
        if link.is_nonblocking() {
            return match self.arm(link)? {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => self.try_available(link)?.map_or_else(|| Err(io::ErrorKind::WouldBlock.into()), Ok),
            };
        }
        let Reader { ring, patience, .. } = self;
        let slept = link.wait_until(patience, words.waits_for_data, || {
            ring.look(&words).map(|available| available > 0 || ring.is_at_end())
        })?;
        link.received(patience, slept);
        match link.is_shut(Direction::Reading) {
            true => Ok(0),
            false => self.ring.available(&words).map_err(|lie| link.condemn(lie)),
        }
    }

    /// After nothing was there: from now on the descriptor becomes readable when something is. `false`: try again at once.
    pub fn arm(&mut self, link: &Link) -> io::Result<bool> {
        let words = link.incoming();
        let Reader { ring, patience, .. } = self;
        let is_armed = link.arm(patience, words.waits_for_data, || {
            ring.look(&words).map(|available| available > 0 || ring.is_at_end())
        })?;
        self.is_armed = is_armed;
        Ok(is_armed)
    }

    /// As [`Reader::arm`], for who is woken by a reactor.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn announce(&mut self, link: &Link) -> io::Result<bool> {
        let words = link.incoming();
        let ring = &mut self.ring;
        self.is_armed = link.announce(Direction::Reading, words.waits_for_data, || {
            ring.look(&words).map(|available| available > 0 || ring.is_at_end())
        })?;
        Ok(self.is_armed)
    }

    /// Reads what is there into `into`; waits for the first byte. 0 is the end.
    #[inline(always)]
    pub fn read(&mut self, link: &Link, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.copy_consumed < self.copy.len() {
            return Ok(self.read_copied(into));
        }
        let available = self.available(link)?;
        Ok(self.take(link, available, into))
    }

    /// Reads what is there into `into`, or `None`: nothing just now.
    pub fn try_read(&mut self, link: &Link, into: &mut [u8]) -> io::Result<Option<usize>> {
        if into.is_empty() {
            return Ok(Some(0));
        }
        if self.copy_consumed < self.copy.len() {
            return Ok(Some(self.read_copied(into)));
        }
        let available = self.try_available(link)?;
        Ok(available.map(|available| self.take(link, available, into)))
    }

    /// Whether a read would find something, the end included.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn is_readable(&mut self, link: &Link) -> io::Result<bool> {
        Ok(self.copy_consumed < self.copy.len() || self.try_available(link)?.is_some())
    }

    /// Shows at most `most` of the bytes that are there to `put`, in the steps of [`Reader::take`]; never waits after
    /// [`Reader::is_readable`]. The bytes need no room that is initialized, as those of a read do.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn read_with(&mut self, link: &Link, most: usize, mut put: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = self.fill(link)?.len().min(most);
        while left > 0 {
            let part = self.fill(link)?;
            let len = left.min(part.len()).min(step_of(link));
            put(&part[..len]);
            self.consume(link, len);
            left -= len;
        }
        Ok(())
    }

    /// Reads into several buffers; waits for the first byte.
    pub fn read_vectored(&mut self, link: &Link, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        let mut total = 0;
        for buffer in buffers.iter_mut().filter(|buffer| !buffer.is_empty()) {
            let count = match total {
                0 => self.read(link, buffer)?,
                // What is there already, and no more: an error comes with the next call.
                _ => match self.try_available(link) {
                    Ok(Some(available)) => self.take(link, available, buffer),
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
    fn take(&mut self, link: &Link, available: usize, into: &mut [u8]) -> usize {
        let count = available.min(into.len());
        let step = step_of(link);
        let mut done = 0;
        while done < count {
            let part = &mut into[done..count.min(done + step)];
            link.segment().copy_from_ring(link.side().other(), self.ring.position(), part, link.is_trusted());
            done += part.len();
            let len = part.len();
            self.release(link, len);
        }
        count
    }

    #[inline(always)]
    fn release(&mut self, link: &Link, count: usize) {
        if self.ring.release(&link.incoming(), count) {
            link.ring();
        }
        link.count_read(count);
    }

    #[cold]
    fn read_copied(&mut self, into: &mut [u8]) -> usize {
        let rest = &self.copy[self.copy_consumed..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.copy_consumed += count;
        count
    }

    /// The bytes that are there, where they lie; waits for the first. None is the end.
    pub fn fill<'a>(&'a mut self, link: &'a Link) -> io::Result<&'a [u8]> {
        if !link.is_trusted() {
            return self.fill_copy(link);
        }
        let available = self.available(link)?;
        let bytes = link.segment().ring_bytes(link.side().other(), self.ring.position(), available);
        // SAFETY: these bytes are the reader's (B1) until they are consumed, which the borrow of `self` prevents; the peer is
        // of the same user (G3). The memory lives as long as the link (M1), which is borrowed for as long, too.
        Ok(unsafe { bytes.as_ref() })
    }

    #[cold]
    fn fill_copy(&mut self, link: &Link) -> io::Result<&[u8]> {
        if self.copy_consumed == self.copy.len() {
            let count = self.available(link)?.min(COPY_MAX);
            self.copy.resize(count, 0);
            self.copy_consumed = 0;
            let Reader { copy, ring, .. } = self;
            link.segment().copy_from_ring(link.side().other(), ring.position(), copy, false);
            self.release(link, count);
        }
        Ok(&self.copy[self.copy_consumed..])
    }

    /// Gives back the first `count` of the bytes lent.
    pub fn consume(&mut self, link: &Link, count: usize) {
        if link.is_forked() {
            return;
        }
        if !link.is_trusted() {
            self.copy_consumed = self.copy.len().min(self.copy_consumed + count);
            return;
        }
        let count = count.min(self.ring.known());
        if count > 0 {
            self.release(link, count);
        }
    }
}

/// A first-level cache holds as much, about: what was just copied is still there for whoever made it or is to use it.
const STEP_MAX: usize = 32 << 10;

/// Bytes copied before the other end is told: large enough to be worth it, small enough for both to work at a time.
#[inline(always)]
pub fn step_of(link: &Link) -> usize {
    (link.ring_bytes() / 8).clamp(4096, STEP_MAX)
}
