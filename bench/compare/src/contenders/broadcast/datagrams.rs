//! Unix datagram sockets, one for each reader: the publisher sends each message as often as there are readers.
//!
//! A message that is longer than 64 KiB goes in pieces of that size, because it must fit into a socket's buffer.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use wigwag_bench::case::WaitMode;

use super::{About, Medium, Part};

const PIECE: usize = 64 << 10;

/// The medium.
pub struct Datagrams;

/// The publisher's end.
pub struct Sending {
    /// Connected when all are there.
    sockets: Vec<UnixDatagram>,
    bytes: Vec<u8>,
}

/// A reader's end.
pub struct Receiving {
    socket: UnixDatagram,
    bytes: Vec<u8>,
}

fn path(part: &Part, reader: usize) -> PathBuf {
    part.directory.join(format!("reader-{reader}"))
}

impl Medium for Datagrams {
    type Publisher = Sending;
    type Reader = Receiving;
    const ABOUT: About = About {
        name: "datagrams",
        label: "Unix datagram sockets",
        how: "a socket for each reader, blocking, in pieces of 64 KiB",
        waits: &[WaitMode::Park],
    };

    fn publisher(part: &Part) -> anyhow::Result<Sending> {
        Ok(Sending { sockets: Vec::new(), bytes: vec![0; part.size] })
    }

    fn reader(part: &Part) -> anyhow::Result<Receiving> {
        let socket = UnixDatagram::bind(path(part, part.reader.unwrap_or(0)))?;
        Ok(Receiving { socket, bytes: vec![0; part.size] })
    }

    fn meet(publisher: &mut Sending, part: &Part) -> anyhow::Result<()> {
        for reader in 0..part.readers {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path(part, reader))?;
            publisher.sockets.push(socket);
        }
        Ok(())
    }

    fn publish(publisher: &mut Sending, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<()> {
        fill(&mut publisher.bytes[..len]);
        for socket in &publisher.sockets {
            for piece in publisher.bytes[..len].chunks(PIECE) {
                socket.send(piece)?;
            }
        }
        Ok(())
    }

    fn read<R>(reader: &mut Receiving, mut look: impl FnMut(&[u8]) -> R) -> anyhow::Result<R> {
        for piece in reader.bytes.chunks_mut(PIECE) {
            reader.socket.recv(piece)?;
        }
        Ok(look(&reader.bytes))
    }
}
