//! One message in a byte stream: an 8-byte length and the payload behind it, in one piece of memory.
//!
//! Header and payload lie side by side, so that a message is written with one system call and, since only one is
//! ever under way, read with one as well, unless the kernel hands it over in parts.

use std::io::{self, ErrorKind, Read, Write};

use anyhow::{Context as _, bail};

/// The length in front of each payload, little endian.
pub const HEADER: usize = 8;

/// A message buffer that is reused for every exchange.
#[derive(Clone)]
pub struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    /// Room for payloads of up to `capacity` bytes.
    pub fn new(capacity: usize) -> Frame {
        Frame { bytes: vec![0; HEADER + capacity] }
    }

    /// An empty one of the same size.
    pub fn another(&self) -> Frame {
        Frame { bytes: vec![0; self.bytes.len()] }
    }

    /// The payload, to be written or changed in place.
    pub fn payload(&mut self, len: usize) -> anyhow::Result<&mut [u8]> {
        check_length(len, self.bytes.len() - HEADER)?;
        Ok(&mut self.bytes[HEADER..HEADER + len])
    }

    /// Sends the first `len` bytes of the payload, whole.
    pub fn send(&mut self, len: usize, sink: &mut impl Write) -> anyhow::Result<()> {
        self.bytes[..HEADER].copy_from_slice(&(len as u64).to_le_bytes());
        send_whole(&self.bytes[..HEADER + len], sink)
    }

    /// Waits for a whole message and says how long its payload is; `None` where the other side has hung up.
    pub fn receive(&mut self, source: &mut impl Read) -> anyhow::Result<Option<usize>> {
        let mut filled = 0;
        let mut end = self.bytes.len();
        while filled < end {
            match receive_some(&mut self.bytes[filled..end], source)? {
                Some(0) if filled == 0 => return Ok(None),
                Some(0) => bail!("the other process hung up in the middle of a message"),
                count => filled += count.unwrap_or(0),
            }
            if filled >= HEADER {
                end = HEADER + announced_length(&self.bytes)?;
            }
        }
        Ok(Some(end - HEADER))
    }

    /// Waits for the reply to a request: a hang-up is an error here.
    pub fn receive_reply(&mut self, source: &mut impl Read) -> anyhow::Result<&[u8]> {
        let len = self.receive(source)?.context("the server hung up without a reply")?;
        Ok(&self.bytes[HEADER..HEADER + len])
    }

    /// Answers every request that comes over a connection until its other end hangs up.
    pub fn answer_all<H>(mut self, connection: &mut (impl Read + Write), mut handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        while let Some(len) = self.receive(connection)? {
            handler(self.payload(len)?);
            self.send(len, connection)?;
        }
        Ok(())
    }
}

/// The length that a header states, checked against the buffer that holds it.
pub fn announced_length(bytes: &[u8]) -> anyhow::Result<usize> {
    let stated = u64::from_le_bytes(bytes[..HEADER].try_into().expect("eight bytes"));
    let len = usize::try_from(stated).unwrap_or(usize::MAX);
    check_length(len, bytes.len() - HEADER)?;
    Ok(len)
}

/// Refuses what does not fit, with both numbers.
pub fn check_length(len: usize, capacity: usize) -> anyhow::Result<()> {
    if len > capacity {
        bail!("a message of {len} bytes does not fit into the agreed capacity of {capacity} bytes");
    }
    Ok(())
}

/// Sends all of it, however many calls that takes.
#[inline(always)]
pub fn send_whole(mut rest: &[u8], sink: &mut impl Write) -> anyhow::Result<()> {
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(0) => bail!("the other process takes no more data"),
            Ok(written) => rest = &rest[written..],
            Err(error) => poll_again(error).context("the bytes could not be sent")?,
        }
    }
    Ok(())
}

/// Receives what there is: 0 where the other side has hung up, nothing where the caller polls and nothing has come.
#[inline(always)]
pub fn receive_some(into: &mut [u8], source: &mut impl Read) -> anyhow::Result<Option<usize>> {
    match source.read(into) {
        Ok(count) => Ok(Some(count)),
        Err(error) => poll_again(error).context("the bytes could not be received").map(|()| None),
    }
}

/// Not an error where the caller polls (`WouldBlock`) or a signal came in between.
fn poll_again(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock => {
            std::hint::spin_loop();
            Ok(())
        }
        ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_way() {
        let mut wire = Vec::new();
        let mut frame = Frame::new(5);
        frame.payload(3).unwrap().copy_from_slice(b"abc");
        frame.send(3, &mut wire).unwrap();
        assert_eq!(wire, b"\x03\0\0\0\0\0\0\0abc");
        let mut other = Frame::new(5);
        assert_eq!(other.receive_reply(&mut wire.as_slice()).unwrap(), b"abc");
    }

    #[test]
    fn a_hang_up_is_an_end_between_messages_and_an_error_within_one() {
        let mut frame = Frame::new(5);
        assert_eq!(frame.receive(&mut [].as_slice()).unwrap(), None);
        assert!(frame.receive(&mut b"\x03\0\0\0\0\0\0\0ab".as_slice()).is_err());
        assert!(frame.receive_reply(&mut [].as_slice()).is_err());
    }

    #[test]
    fn a_length_beyond_the_capacity_is_refused_with_both_numbers() {
        let mut frame = Frame::new(5);
        let error = frame.receive(&mut b"\x06\0\0\0\0\0\0\0abcdef".as_slice()).unwrap_err().to_string();
        assert!(error.contains('6') && error.contains('5'), "{error}");
    }
}
