//! One way: the client writes pieces as fast as they are read, the server reads and checks every byte.
//!
//! A stream has no borders, so its reader is handed whatever is there and checks it where it lies: each piece repeats
//! the eight bytes of its number, so the sum of any part of a piece is known from where that part begins. Time ends
//! when the reader has said how many bytes it found to be right.

use std::io::{BufRead, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail, ensure};
use wigwag::Stream;

use crate::case::Contender;
use crate::report::Report;
use crate::role::{self, Orders};
use crate::transport::{self, Door as _, PipeEnd, frame};
use crate::work;

/// The least that a reader of the kernel's services asks for at a time: less would cost it more calls.
const READ_MIN: usize = 64 << 10;
/// Bytes that are filled in place before they are handed over, so that both sides work at a time.
const STEP: usize = 32 << 10;

/// The writing end.
pub trait Sink {
    /// Writes piece number `number`, `len` bytes; waits until there is room for all of it.
    fn put(&mut self, number: u64, len: usize) -> anyhow::Result<()>;

    /// Says that this was all, and waits for the reader to say how many bytes it has found to be right.
    fn close(&mut self) -> anyhow::Result<u64>;
}

/// Bytes there, and an answer back.
trait Duplex: Read + Write {
    /// The other end reads to its end; what it says can still be read.
    fn end_writing(&mut self) -> anyhow::Result<()>;
}

impl Duplex for Stream {
    fn end_writing(&mut self) -> anyhow::Result<()> {
        Ok(self.shutdown(Shutdown::Write)?)
    }
}

impl Duplex for UnixStream {
    fn end_writing(&mut self) -> anyhow::Result<()> {
        Ok(self.shutdown(Shutdown::Write)?)
    }
}

impl Duplex for PipeEnd {
    fn end_writing(&mut self) -> anyhow::Result<()> {
        PipeEnd::end_writing(self);
        Ok(())
    }
}

/// Pieces are made in a buffer and written from there, as programs do with sockets and pipes.
struct Copied<D> {
    stream: D,
    piece: Vec<u8>,
}

impl<D: Duplex> Copied<D> {
    fn new(stream: D, len: usize) -> Copied<D> {
        Copied { stream, piece: vec![0; len] }
    }
}

impl<D: Duplex> Sink for Copied<D> {
    #[inline(always)]
    fn put(&mut self, number: u64, len: usize) -> anyhow::Result<()> {
        let piece = &mut self.piece[..len];
        work::fill(piece, work::pattern(number));
        frame::send_whole(piece, &mut self.stream)
    }

    fn close(&mut self) -> anyhow::Result<u64> {
        self.stream.end_writing()?;
        answer(&mut self.stream)
    }
}

/// Pieces are made in the shared memory, where their reader finds them.
struct InPlace(Stream);

impl Sink for InPlace {
    #[inline(always)]
    fn put(&mut self, number: u64, len: usize) -> anyhow::Result<()> {
        let mut done = 0;
        while done < len {
            let room = self.0.write_buf()?;
            let count = room.len().min(len - done).min(STEP);
            work::fill(&mut room[..count], seen_from(done, work::pattern(number)));
            self.0.commit(count);
            done += count;
        }
        Ok(())
    }

    fn close(&mut self) -> anyhow::Result<u64> {
        self.0.end_writing()?;
        answer(&mut self.0)
    }
}

/// The eight bytes that a piece repeats, as they follow from this place in it on.
#[inline(always)]
fn seen_from(offset: usize, pattern: u64) -> u64 {
    pattern.rotate_right(8 * (offset as u32 % 8))
}

/// The reader's count.
fn answer(stream: &mut impl Read) -> anyhow::Result<u64> {
    let mut count = [0; 8];
    let mut filled = 0;
    while filled < count.len() {
        match frame::receive_some(&mut count[filled..], stream)? {
            Some(0) => bail!("the reader has found a byte that is not what was written, or is gone"),
            more => filled += more.unwrap_or(0),
        }
    }
    Ok(u64::from_le_bytes(count))
}

/// The client's part.
pub fn send(orders: &Orders) -> anyhow::Result<Report> {
    let (place, len) = (orders.rendezvous(), orders.case.size);
    let (meter, server) = (orders.meter()?, orders.server);
    match orders.case.contender {
        Contender::Stream => meter.run_flow(&mut Copied::new(transport::stream_connect(&place)?, len), server),
        Contender::StreamInPlace => meter.run_flow(&mut InPlace(transport::stream_connect(&place)?), server),
        Contender::Unix => meter.run_flow(&mut Copied::new(transport::unix_connect(&place)?, len), server),
        Contender::Pipe => meter.run_flow(&mut Copied::new(PipeEnd::connect(&place)?, len), server),
        other => bail!("{} does not carry bytes one way", other.name()),
    }
}

/// The server's part: checks one client's bytes, answers with their number, and stays until the process is ended.
pub fn receive(orders: &Orders) -> anyhow::Result<()> {
    let (place, len) = (orders.rendezvous(), orders.case.size);
    match orders.case.contender {
        Contender::Stream => {
            let listener = transport::stream_bind(&place)?;
            role::ready(orders)?;
            check_copied(listener.accept()?, len)
        }
        Contender::StreamInPlace => {
            let listener = transport::stream_bind(&place)?;
            role::ready(orders)?;
            check_in_place(listener.accept()?, len)
        }
        Contender::Unix => {
            let listener = transport::unix_bind(&place)?;
            role::ready(orders)?;
            check_copied(listener.accept()?, len)
        }
        Contender::Pipe => {
            PipeEnd::make(&place)?;
            role::ready(orders)?;
            check_copied(PipeEnd::accept(&place)?, len)
        }
        other => bail!("{} does not carry bytes one way", other.name()),
    }
}

/// What a reader has to find.
struct Expected {
    len: usize,
    /// Of the next byte: its piece, and where in it.
    number: u64,
    offset: usize,
    checked: u64,
}

impl Expected {
    fn of_pieces(len: usize) -> Expected {
        Expected { len, number: 0, offset: 0, checked: 0 }
    }

    /// Reads every byte, and compares.
    #[inline(always)]
    fn check(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(self.len - self.offset));
            let pattern = seen_from(self.offset, work::pattern(self.number));
            ensure!(
                work::read(part) == work::expected_unchanged(part.len(), pattern),
                "piece {} has a wrong byte between {} and {}",
                self.number,
                self.offset,
                self.offset + part.len()
            );
            self.checked += part.len() as u64;
            self.offset += part.len();
            if self.offset == self.len {
                (self.number, self.offset) = (self.number + 1, 0);
            }
            bytes = rest;
        }
        Ok(())
    }

    fn answer(&self, stream: &mut impl Write) -> anyhow::Result<()> {
        ensure!(self.offset == 0, "the bytes ended {} into piece {} of {}", self.offset, self.number, self.len);
        frame::send_whole(&self.checked.to_le_bytes(), stream)?;
        loop {
            std::thread::park(); // the client looks at what this process has used
        }
    }
}

fn check_copied(mut stream: impl Duplex, len: usize) -> anyhow::Result<()> {
    let mut buffer = vec![0; len.max(READ_MIN)];
    let mut expected = Expected::of_pieces(len);
    loop {
        match frame::receive_some(&mut buffer, &mut stream)? {
            Some(0) => return expected.answer(&mut stream),
            count => expected.check(&buffer[..count.unwrap_or(0)])?,
        }
    }
}

fn check_in_place(mut stream: Stream, len: usize) -> anyhow::Result<()> {
    let mut expected = Expected::of_pieces(len);
    loop {
        let bytes = stream.fill_buf().context("the stream was cut off")?;
        if bytes.is_empty() {
            return expected.answer(&mut stream);
        }
        let bytes = &bytes[..bytes.len().min(STEP)];
        expected.check(bytes)?;
        let count = bytes.len();
        stream.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_known_however_they_arrive_and_a_wrong_byte_is_found() {
        for len in [8, 13, 64, 1000] {
            let mut wire = vec![0; 5 * len];
            for (number, piece) in wire.chunks_mut(len).enumerate() {
                work::fill(piece, work::pattern(number as u64));
            }
            for part in [1, 7, 64, 999, 5000] {
                let mut expected = Expected::of_pieces(len);
                wire.chunks(part).for_each(|bytes| expected.check(bytes).unwrap());
                assert_eq!((expected.checked, expected.number, expected.offset), (5 * len as u64, 5, 0));
            }
            let at = 3 * len + len / 2;
            wire[at] ^= 0x10;
            let error = Expected::of_pieces(len).check(&wire).unwrap_err().to_string();
            assert!(error.starts_with("piece 3 "), "{error}");
        }
    }

    #[test]
    fn a_piece_that_is_filled_in_parts_is_the_piece() {
        let (mut whole, mut parts) = ([0; 100], [0; 100]);
        work::fill(&mut whole, work::pattern(5));
        for at in (0..100).step_by(13) {
            let end = (at + 13).min(100);
            work::fill(&mut parts[at..end], seen_from(at, work::pattern(5)));
        }
        assert_eq!(whole, parts);
    }
}
