//! POSIX message queues, one for each reader: the publisher sends each message as often as there are readers.
//!
//! A message that is longer than the system allows goes in pieces. All the queues of a user share a budget of the
//! kernel's, so that many of them are shorter.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context as _;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode;
use wigwag_bench::case::WaitMode;

use super::{About, Medium, Part};
use crate::contender::token;

/// Of the bytes that the queues of a user may have, 819,200 by default, what is used here.
const BUDGET: usize = 600_000;
/// What the kernel counts for each message beside its bytes.
const OVERHEAD: usize = 128;

/// The medium.
pub struct Mqueue;

/// The publisher's end.
pub struct Sending {
    queues: Vec<MqdT>,
    bytes: Vec<u8>,
    piece: usize,
}

/// A reader's end.
pub struct Receiving {
    queue: MqdT,
    bytes: Vec<u8>,
    /// The kernel wants room for the longest message.
    piece: usize,
}

fn name(part: &Part, reader: usize) -> OsString {
    format!("/{}-{reader}", token(&part.directory)).into()
}

/// What the system allows, or what it usually does.
fn limit(name: &str, usual: usize) -> usize {
    let text = std::fs::read_to_string(Path::new("/proc/sys/fs/mqueue").join(name)).unwrap_or_default();
    text.trim().parse().unwrap_or(usual)
}

fn piece(part: &Part) -> usize {
    part.size.min(limit("msgsize_max", 8192))
}

impl Medium for Mqueue {
    type Publisher = Sending;
    type Reader = Receiving;
    const ABOUT: About = About {
        name: "mqueue",
        label: "POSIX message queues",
        how: "a queue for each reader, of the longest messages that the system allows",
        waits: &[WaitMode::Park],
    };

    fn publisher(part: &Part) -> anyhow::Result<Sending> {
        let piece = piece(part);
        let deep = (BUDGET / part.readers / (piece + OVERHEAD)).clamp(1, limit("msg_max", 10));
        let attributes = MqAttr::new(0, i64::try_from(deep)?, i64::try_from(piece)?, 0);
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_CLOEXEC | MQ_OFlag::O_WRONLY;
        let queue = |reader| mq_open(Path::new(&name(part, reader)), flags, Mode::S_IRWXU, Some(&attributes));
        let queues = (0..part.readers).map(queue).collect::<Result<Vec<_>, _>>();
        Ok(Sending { queues: queues.context("a message queue cannot be made")?, bytes: vec![0; part.size], piece })
    }

    fn reader(part: &Part) -> anyhow::Result<Receiving> {
        let name = name(part, part.reader.unwrap_or(0));
        let queue = mq_open(Path::new(&name), MQ_OFlag::O_RDONLY | MQ_OFlag::O_CLOEXEC, Mode::empty(), None)?;
        // A queue outlives its processes; both have opened it, and nobody else needs its name.
        mq_unlink(Path::new(&name))?;
        let piece = piece(part);
        Ok(Receiving { queue, bytes: vec![0; part.size + piece], piece })
    }

    fn publish(publisher: &mut Sending, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<()> {
        fill(&mut publisher.bytes[..len]);
        for queue in &publisher.queues {
            for piece in publisher.bytes[..len].chunks(publisher.piece) {
                mq_send(queue, piece, 0)?;
            }
        }
        Ok(())
    }

    fn read<R>(reader: &mut Receiving, mut look: impl FnMut(&[u8]) -> R) -> anyhow::Result<R> {
        let len = reader.bytes.len() - reader.piece;
        let mut received = 0;
        while received < len {
            received += mq_receive(&reader.queue, &mut reader.bytes[received..received + reader.piece], &mut 0)?;
        }
        Ok(look(&reader.bytes[..len]))
    }
}
