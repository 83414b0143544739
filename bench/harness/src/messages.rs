//! Messages one way, through Wigwag's queue and through what one would take instead: a POSIX message queue and a Unix
//! datagram socket. Each with what a user gets who asks for nothing special.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_open, mq_receive, mq_send, mq_timedreceive, mq_unlink};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use wigwag::{Batch, Receiver, Sender};

use crate::transport::mqueue_limit;

/// How messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// [`Sender::send`] and [`Receiver::recv`], default waiting.
    Wigwag,
    /// The same with [`Sender::send_batch`] and [`Receiver::recv_batch`].
    Batches,
    /// mq_overview(7), with as many messages as an ordinary user may have under way.
    Mqueue,
    /// unix(7), SOCK_DGRAM.
    Datagram,
}

/// Messages of a batch.
const BATCH: usize = 32;

impl Way {
    /// All of them; the first is measured against the third.
    pub const EACH: [Way; 4] = [Way::Wigwag, Way::Batches, Way::Mqueue, Way::Datagram];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Way::Wigwag => "wigwag",
            Way::Batches => "wigwag in batches",
            Way::Mqueue => "POSIX message queue",
            Way::Datagram => "Unix datagram socket",
        }
    }

    /// The longest message it takes.
    pub fn longest(self) -> usize {
        match self {
            Way::Wigwag | Way::Batches => 64 << 10,
            Way::Mqueue => mqueue_limit("msgsize_max") as usize,
            Way::Datagram => 64 << 10,
        }
    }
}

/// The receiving end.
pub enum Sink {
    /// Wigwag's; whether it takes batches.
    Wigwag(Receiver, bool),
    /// With its name, which goes with it.
    Mqueue(MqdT, PathBuf, Vec<u8>),
    /// With room for a message.
    Datagram(UnixDatagram, Vec<u8>),
}

impl Sink {
    /// Takes the name that `place` leads to.
    pub fn bind(way: Way, place: &Path, size: usize) -> anyhow::Result<Sink> {
        Ok(match way {
            Way::Wigwag | Way::Batches => Sink::Wigwag(Receiver::bind(place)?, way == Way::Batches),
            Way::Mqueue => {
                let name = queue_name(place)?;
                let attributes = MqAttr::new(0, mqueue_limit("msg_max"), i64::try_from(size)?, 0);
                let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDONLY | MQ_OFlag::O_CLOEXEC;
                let queue = mq_open(&name, flags, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attributes));
                Sink::Mqueue(queue.context("a message queue cannot be made")?, name, vec![0; size])
            }
            Way::Datagram => {
                let socket = UnixDatagram::bind(place).context("a socket cannot be bound")?;
                Sink::Datagram(socket, vec![0; size])
            }
        })
    }

    /// Waits for a message, looks at every word of it, and says how many there were, which in a batch are several.
    pub fn receive(&mut self) -> anyhow::Result<u64> {
        match self {
            Sink::Wigwag(receiver, false) => Ok(look_at(&receiver.recv()?)),
            Sink::Wigwag(receiver, true) => Ok(look_at_all(&receiver.recv_batch(BATCH)?)),
            Sink::Mqueue(queue, _, bytes) => {
                let len = mq_receive(queue, bytes, &mut 0).context("a message cannot be received")?;
                Ok(look_at(&bytes[..len]))
            }
            Sink::Datagram(socket, bytes) => {
                let len = socket.recv(bytes).context("a message cannot be received")?;
                Ok(look_at(&bytes[..len]))
            }
        }
    }

    /// Receives until none comes for so long.
    pub fn drain(&mut self, silence: Duration) -> anyhow::Result<()> {
        loop {
            let is_silent = match self {
                Sink::Wigwag(receiver, _) => receiver.recv_timeout(silence)?.is_none(),
                Sink::Mqueue(queue, _, bytes) => {
                    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + silence;
                    match mq_timedreceive(queue, bytes, &mut 0, &TimeSpec::from_duration(until)) {
                        Ok(_) | Err(Errno::EINTR) => false,
                        Err(Errno::ETIMEDOUT) => true,
                        Err(error) => return Err(error).context("a message cannot be received"),
                    }
                }
                Sink::Datagram(socket, bytes) => {
                    socket.set_read_timeout(Some(silence))?;
                    let received = socket.recv(bytes);
                    socket.set_read_timeout(None)?;
                    match received {
                        Ok(_) => false,
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
                        Err(error) => return Err(error).context("a message cannot be received"),
                    }
                }
            };
            if is_silent {
                return Ok(());
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Sink::Mqueue(_, name, _) = self {
            let _ = mq_unlink(name.as_path());
        }
    }
}

fn look_at_all(batch: &Batch) -> u64 {
    batch.iter().map(|message| look_at(message)).sum()
}

/// Reads every word, as whoever receives a message does. One message.
fn look_at(message: &[u8]) -> u64 {
    let words = message.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    std::hint::black_box(words.fold(0, u64::wrapping_add));
    1
}

/// The sending end.
pub enum Source {
    /// Wigwag's; whether it sends batches.
    Wigwag(Box<Sender>, bool),
    /// Closed when the process ends.
    Mqueue(Option<MqdT>),
    /// Connected.
    Datagram(UnixDatagram),
}

impl Source {
    /// Finds the receiver of a place.
    pub fn connect(way: Way, place: &Path) -> anyhow::Result<Source> {
        Ok(match way {
            Way::Wigwag | Way::Batches => {
                let sender = Sender::builder().linger(Duration::ZERO).connect(place)?; // the receiver may have ended
                Source::Wigwag(Box::new(sender), way == Way::Batches)
            }
            Way::Mqueue => {
                let flags = MQ_OFlag::O_WRONLY | MQ_OFlag::O_CLOEXEC;
                let queue = mq_open(&queue_name(place)?, flags, Mode::empty(), None);
                Source::Mqueue(Some(queue.context("a message queue cannot be opened")?))
            }
            Way::Datagram => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(place).context("nobody receives")?;
                Source::Datagram(socket)
            }
        })
    }

    /// Sends about so many messages, each with a number in it.
    pub fn send(&mut self, message: &mut [u8], from: u64, count: u64) -> anyhow::Result<()> {
        ensure!(message.len() >= 8, "a message has a number in it");
        let mut numbers = from..from + count;
        match self {
            Source::Wigwag(sender, false) => numbers.try_for_each(|number| Ok(sender.send(numbered(message, number))?)),
            Source::Wigwag(sender, true) => {
                // A batch has a slice for each message, and all of them are this one: the last number counts.
                let last = numbers.next_back().unwrap_or(from);
                let message: &[u8] = numbered(message, last);
                for _ in 0..count.div_ceil(BATCH as u64) {
                    sender.send_batch(std::iter::repeat_n(message, BATCH))?;
                }
                Ok(())
            }
            Source::Mqueue(queue) => {
                let queue = queue.as_ref().context("the queue is closed")?;
                numbers.try_for_each(|number| {
                    loop {
                        match mq_send(queue, numbered(message, number), 0) {
                            Ok(()) => break Ok(()),
                            Err(Errno::EINTR) => {}
                            Err(error) => break Err(error).context("a message cannot be sent"),
                        }
                    }
                })
            }
            Source::Datagram(socket) => numbers.try_for_each(|number| {
                socket.send(numbered(message, number)).context("a message cannot be sent")?;
                Ok(())
            }),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Mqueue(queue) = self
            && let Some(queue) = queue.take()
        {
            let _ = mq_close(queue);
        }
    }
}

fn numbered(message: &mut [u8], number: u64) -> &[u8] {
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

/// A queue's name lies outside of the file system; that of the directory is random, and makes it unique.
fn queue_name(place: &Path) -> anyhow::Result<PathBuf> {
    let directory = place.parent().and_then(Path::file_name).context("the place has no directory")?;
    let file = place.file_name().context("the place has no name")?;
    Ok(PathBuf::from(format!("/{}-{}", directory.to_string_lossy(), file.to_string_lossy())))
}
