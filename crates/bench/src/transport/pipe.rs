//! Two pipes, one for each direction, with names in the rendezvous so that unrelated processes find them.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;

use super::frame::Frame;
use super::{Rendezvous, Responder, Window};

const REQUESTS: &str = "requests.pipe";
const REPLIES: &str = "replies.pipe";

/// What a pipe holds by default, and what every user may raise it to. For megabytes the larger one takes half of the
/// time: the two sides are woken less often.
const USUAL_SIZE: usize = 64 << 10;
const MOST_SIZE: usize = 1 << 20;

/// How long a client looks for a server that is only just opening its end.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The client's end of both pipes.
pub struct PipeCaller {
    requests: File,
    replies: File,
    frame: Frame,
}

impl PipeCaller {
    /// Opens both pipes once the server has opened its ends.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<PipeCaller> {
        let requests = open_for_writing(&place.path(REQUESTS))?;
        let replies = File::open(place.path(REPLIES)).context("the pipe for the replies cannot be opened")?;
        prepare(&requests, place)?;
        prepare(&replies, place)?;
        Ok(PipeCaller { requests, replies, frame: Frame::new(place.capacity) })
    }
}

/// The frame holds one message of the full capacity, so a read never takes a part of the next reply with it where all
/// are of that size.
impl Window for PipeCaller {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        fill(self.frame.payload(len)?);
        self.frame.send(len, &mut self.requests)
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        read(self.frame.receive_reply(&mut self.replies)?);
        Ok(())
    }
}

/// The server's end of both pipes.
pub struct PipeResponder {
    place: Rendezvous,
    frame: Frame,
}

impl PipeResponder {
    /// Makes the two pipes.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<PipeResponder> {
        for name in [REQUESTS, REPLIES] {
            nix::unistd::mkfifo(&place.path(name), Mode::S_IRUSR | Mode::S_IWUSR).context("a pipe cannot be made")?;
        }
        Ok(PipeResponder { place: place.clone(), frame: Frame::new(place.capacity) })
    }
}

impl Responder for PipeResponder {
    fn serve<H>(self, handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        // Opening a named pipe waits for the other end: the client opens in the same order, so neither waits for ever.
        let mut requests = File::open(self.place.path(REQUESTS)).context("the pipe for the requests is gone")?;
        let mut replies = OpenOptions::new().write(true).open(self.place.path(REPLIES))?;
        prepare(&requests, &self.place)?;
        prepare(&replies, &self.place)?;
        self.frame.answer_all(&mut requests, &mut replies, handler)
    }
}

/// Opens the writing end without blocking for ever on a server that has died: it fails until a reader is there.
fn open_for_writing(path: &Path) -> anyhow::Result<File> {
    let give_up = Instant::now() + CONNECT_PATIENCE;
    loop {
        let opened = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
        match opened {
            Ok(pipe) => return Ok(pipe),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) || error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("the pipe for the requests cannot be opened"),
        }
        if Instant::now() >= give_up {
            bail!("no server reads from the pipe");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sets whether reads and writes block, and gives large payloads a larger pipe.
fn prepare(pipe: &File, place: &Rendezvous) -> anyhow::Result<()> {
    let flags = if place.polls() { OFlag::O_NONBLOCK } else { OFlag::empty() };
    fcntl(pipe, FcntlArg::F_SETFL(flags)).context("the pipe's way of waiting cannot be set")?;
    if place.capacity > USUAL_SIZE {
        let size = place.capacity.min(MOST_SIZE);
        // A user who has reached the system's limit for pipes keeps the usual size: slower, but it works.
        let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(i32::try_from(size)?));
    }
    Ok(())
}
