//! Two POSIX message queues. A payload longer than one message of the queue goes in several.
//!
//! A queue lives in the kernel, not in the file system, and survives its processes; the client therefore removes
//! both names as soon as it has opened them. A queue does not tell when the other side is gone either: the client
//! says goodbye with an empty message, and gives up on a reply after some seconds.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_open, mq_receive, mq_send, mq_timedreceive, mq_unlink};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;

use super::frame::{HEADER, announced_length, check_length};
use super::{Caller, Rendezvous, Responder};

/// A client that has had no reply for so long takes the server for dead.
const REPLY_PATIENCE: Duration = Duration::from_secs(10);

/// What a queue has without privileges where the kernel does not say otherwise.
const USUAL: [(&str, i64); 2] = [("msgsize_max", 8192), ("msg_max", 10)];

/// The client's end.
pub struct MqueueCaller {
    requests: Queue,
    replies: Queue,
    bytes: Vec<u8>,
}

impl MqueueCaller {
    /// Opens both queues and removes their names.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<MqueueCaller> {
        let requests = Queue::open(&request_name(place)?, MQ_OFlag::O_WRONLY, place.polls())?;
        let replies = Queue::open(&reply_name(place)?, MQ_OFlag::O_RDONLY, place.polls())?;
        // The server opened its ends before it was ready: nobody needs the names any more.
        unlink(place);
        let bytes = vec![0; requests.buffer_size(place.capacity)];
        Ok(MqueueCaller { requests, replies, bytes })
    }
}

impl Caller for MqueueCaller {
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        check_length(len, self.requests.capacity(&self.bytes))?;
        fill(&mut self.bytes[HEADER..HEADER + len]);
        self.requests.send(len, &mut self.bytes)?;
        let len = self.replies.receive(&mut self.bytes, Some(REPLY_PATIENCE))?;
        let len = len.context("the server hung up without a reply")?;
        read(&self.bytes[HEADER..HEADER + len]);
        Ok(())
    }
}

impl Drop for MqueueCaller {
    fn drop(&mut self) {
        // Nobody is left to tell when this fails: the server's process ends with its parent in any case.
        let _ = self.requests.goodbye();
    }
}

/// The server's end.
pub struct MqueueResponder {
    requests: Queue,
    replies: Queue,
    bytes: Vec<u8>,
    place: Rendezvous,
}

impl MqueueResponder {
    /// Makes both queues.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<MqueueResponder> {
        let requests = Queue::create(&request_name(place)?, MQ_OFlag::O_RDONLY, place.polls())?;
        let replies = Queue::create(&reply_name(place)?, MQ_OFlag::O_WRONLY, place.polls())?;
        let bytes = vec![0; requests.buffer_size(place.capacity)];
        Ok(MqueueResponder { requests, replies, bytes, place: place.clone() })
    }
}

impl Responder for MqueueResponder {
    fn serve<H>(mut self, mut handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        while let Some(len) = self.requests.receive(&mut self.bytes, None)? {
            handler(&mut self.bytes[HEADER..HEADER + len]);
            self.replies.send(len, &mut self.bytes)?;
        }
        Ok(())
    }
}

impl Drop for MqueueResponder {
    fn drop(&mut self) {
        unlink(&self.place);
    }
}

/// One direction.
struct Queue {
    /// Taken only when it is closed.
    descriptor: Option<MqdT>,
    message_size: usize,
}

impl Queue {
    fn create(name: &Path, direction: MQ_OFlag, polls: bool) -> anyhow::Result<Queue> {
        let size = system_limit("msgsize_max");
        let count = system_limit("msg_max");
        let flags = direction | MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_CLOEXEC | nonblocking(polls);
        let attributes = MqAttr::new(0, count, size, 0);
        let descriptor = mq_open(name, flags, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attributes));
        Queue::opened(descriptor).context("a message queue cannot be made")
    }

    fn open(name: &Path, direction: MQ_OFlag, polls: bool) -> anyhow::Result<Queue> {
        let flags = direction | MQ_OFlag::O_CLOEXEC | nonblocking(polls);
        Queue::opened(mq_open(name, flags, Mode::empty(), None)).context("a message queue cannot be opened")
    }

    fn opened(descriptor: nix::Result<MqdT>) -> anyhow::Result<Queue> {
        let descriptor = descriptor?;
        let message_size = nix::mqueue::mq_getattr(&descriptor)?.msgsize();
        Ok(Queue { descriptor: Some(descriptor), message_size: usize::try_from(message_size)? })
    }

    fn descriptor(&self) -> &MqdT {
        self.descriptor.as_ref().expect("a queue is open until it is dropped")
    }

    /// The kernel wants room for a whole message at each receive, so there is slack behind the last one.
    fn buffer_size(&self, capacity: usize) -> usize {
        HEADER + capacity + self.message_size
    }

    fn capacity(&self, bytes: &[u8]) -> usize {
        bytes.len() - HEADER - self.message_size
    }

    /// Sends header and payload, cut into full messages and one rest.
    fn send(&self, len: usize, bytes: &mut [u8]) -> anyhow::Result<()> {
        bytes[..HEADER].copy_from_slice(&(len as u64).to_le_bytes());
        for message in bytes[..HEADER + len].chunks(self.message_size) {
            self.send_message(message)?;
        }
        Ok(())
    }

    fn goodbye(&self) -> anyhow::Result<()> {
        self.send_message(&[])
    }

    fn send_message(&self, message: &[u8]) -> anyhow::Result<()> {
        loop {
            match mq_send(self.descriptor(), message, 0) {
                Ok(()) => return Ok(()),
                Err(Errno::EAGAIN) => std::hint::spin_loop(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("a message cannot be sent"),
            }
        }
    }

    /// Receives a payload behind its header and says how long it is; `None` for a goodbye.
    fn receive(&self, bytes: &mut [u8], patience: Option<Duration>) -> anyhow::Result<Option<usize>> {
        let give_up = patience.map(|patience| now() + patience);
        let mut filled = self.receive_message(bytes, give_up)?;
        if filled == 0 {
            return Ok(None);
        }
        if filled < HEADER {
            bail!("a message came without its header");
        }
        let room = bytes.len() - self.message_size;
        let len = announced_length(&bytes[..room])?;
        while filled < HEADER + len {
            let count = self.receive_message(&mut bytes[filled..], give_up)?;
            if count == 0 {
                bail!("the other process hung up in the middle of a message");
            }
            filled += count;
        }
        Ok(Some(len))
    }

    fn receive_message(&self, into: &mut [u8], give_up: Option<Duration>) -> anyhow::Result<usize> {
        let mut priority = 0;
        loop {
            let received = match give_up {
                Some(at) => mq_timedreceive(self.descriptor(), into, &mut priority, &TimeSpec::from_duration(at)),
                None => mq_receive(self.descriptor(), into, &mut priority),
            };
            match received {
                Ok(count) => return Ok(count),
                Err(Errno::EAGAIN) => {
                    if give_up.is_some_and(|at| now() >= at) {
                        bail!("no reply came within {} seconds", REPLY_PATIENCE.as_secs());
                    }
                    std::hint::spin_loop();
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ETIMEDOUT) => bail!("no reply came within {} seconds", REPLY_PATIENCE.as_secs()),
                Err(error) => return Err(error).context("a message cannot be received"),
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            // Closing an open queue does not fail, and there would be nothing to do about it.
            let _ = mq_close(descriptor);
        }
    }
}

fn nonblocking(polls: bool) -> MQ_OFlag {
    if polls { MQ_OFlag::O_NONBLOCK } else { MQ_OFlag::empty() }
}

/// The clock that the kernel measures a queue's timeouts by.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What this machine allows an ordinary user: `msgsize_max` bytes of a message, `msg_max` messages of a queue.
pub fn system_limit(name: &str) -> i64 {
    let stated = std::fs::read_to_string(Path::new("/proc/sys/fs/mqueue").join(name)).ok();
    let usual = || USUAL.iter().find(|(of, _)| *of == name).map_or(0, |(_, limit)| *limit);
    stated.and_then(|text| text.trim().parse().ok()).unwrap_or_else(usual)
}

fn request_name(place: &Rendezvous) -> anyhow::Result<std::path::PathBuf> {
    queue_name(place, "requests")
}

fn reply_name(place: &Rendezvous) -> anyhow::Result<std::path::PathBuf> {
    queue_name(place, "replies")
}

/// A queue's name lies outside of the file system; the rendezvous' own random name makes it unique.
fn queue_name(place: &Rendezvous, suffix: &str) -> anyhow::Result<std::path::PathBuf> {
    let unique = place.directory.file_name().context("the rendezvous has no name")?;
    let mut name = OsString::from("/");
    name.push(unique);
    name.push("-");
    name.push(suffix);
    Ok(name.into())
}

fn unlink(place: &Rendezvous) {
    for name in [request_name(place), reply_name(place)].into_iter().flatten() {
        // Usually gone already: the client removes the names as soon as it has opened the queues.
        let _ = mq_unlink(&name);
    }
}
