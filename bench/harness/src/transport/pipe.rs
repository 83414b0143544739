//! Two pipes, one for each direction, with names in the rendezvous so that unrelated processes find them.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;

use super::Rendezvous;
use super::framed::{Door, FramedCaller, FramedResponder};

const REQUESTS: &str = "requests.pipe";
const REPLIES: &str = "replies.pipe";

/// What a pipe holds by default, and what every user may raise it to. For megabytes the larger one takes half of the
/// time: the two sides are woken less often.
const USUAL_SIZE: usize = 64 << 10;
const MOST_SIZE: usize = 1 << 20;

/// How long a client looks for a server that is only just opening its end.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// One side's ends of both pipes.
pub struct PipeEnd {
    incoming: File,
    /// Nothing once this side has said that it writes no more.
    outgoing: Option<File>,
}

impl PipeEnd {
    /// Makes the two pipes.
    pub fn make(place: &Rendezvous) -> anyhow::Result<()> {
        for name in [REQUESTS, REPLIES] {
            nix::unistd::mkfifo(&place.path(name), Mode::S_IRUSR | Mode::S_IWUSR).context("a pipe cannot be made")?;
        }
        Ok(())
    }

    /// The client's: opens both pipes once the server has opened its ends.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<PipeEnd> {
        let requests = open_for_writing(&place.path(REQUESTS))?;
        let replies = File::open(place.path(REPLIES)).context("the pipe for the replies cannot be opened")?;
        PipeEnd::new(replies, requests, place)
    }

    /// The server's: waits for the client. Opening a named pipe waits for the other end: both open in the same order,
    /// so neither waits for ever.
    pub fn accept(place: &Rendezvous) -> anyhow::Result<PipeEnd> {
        let requests = File::open(place.path(REQUESTS)).context("the pipe for the requests is gone")?;
        let replies = OpenOptions::new().write(true).open(place.path(REPLIES))?;
        PipeEnd::new(requests, replies, place)
    }

    fn new(incoming: File, outgoing: File, place: &Rendezvous) -> anyhow::Result<PipeEnd> {
        prepare(&incoming, place)?;
        prepare(&outgoing, place)?;
        Ok(PipeEnd { incoming, outgoing: Some(outgoing) })
    }

    /// The other side reads to its end.
    pub fn end_writing(&mut self) {
        self.outgoing = None;
    }
}

impl Read for PipeEnd {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.incoming.read(into)
    }
}

impl Write for PipeEnd {
    #[inline]
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.outgoing.as_mut().map_or(Err(ErrorKind::BrokenPipe.into()), |pipe| pipe.write(from))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The client's end of both pipes.
pub type PipeCaller = FramedCaller<PipeEnd>;

impl PipeCaller {
    /// Opens both pipes once the server has opened its ends.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<PipeCaller> {
        Ok(PipeCaller::over(PipeEnd::connect(place)?, place))
    }
}

/// Two pipes whose ends the server has still to open.
pub struct PipeDoor(Rendezvous);

impl Door for PipeDoor {
    type Stream = PipeEnd;

    fn accept(&self) -> anyhow::Result<PipeEnd> {
        PipeEnd::accept(&self.0)
    }
}

/// The server's end of both pipes.
pub type PipeResponder = FramedResponder<PipeDoor>;

impl PipeResponder {
    /// Makes the two pipes.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<PipeResponder> {
        PipeEnd::make(place)?;
        Ok(PipeResponder::behind(PipeDoor(place.clone()), place))
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
