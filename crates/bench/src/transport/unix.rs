//! A Unix stream socket: what most programs on one machine talk over today.

use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::Context as _;

use super::frame::Frame;
use super::{Rendezvous, Responder, Window};

const SOCKET: &str = "unix.sock";

/// A socket to whoever listens in the rendezvous.
pub fn unix_connect(place: &Rendezvous) -> anyhow::Result<UnixStream> {
    let stream = UnixStream::connect(place.path(SOCKET)).context("no server listens on the socket")?;
    stream.set_nonblocking(place.polls())?;
    Ok(stream)
}

/// Listens in the rendezvous.
pub fn unix_bind(place: &Rendezvous) -> anyhow::Result<UnixListener> {
    UnixListener::bind(place.path(SOCKET)).context("the socket cannot be made")
}

/// The next client.
pub fn unix_accept(listener: &UnixListener, place: &Rendezvous) -> anyhow::Result<UnixStream> {
    let (stream, _) = listener.accept().context("no client could be accepted")?;
    stream.set_nonblocking(place.polls())?;
    Ok(stream)
}

/// The client's end of the socket.
pub struct UnixCaller {
    stream: UnixStream,
    frame: Frame,
}

impl UnixCaller {
    /// Connects to the socket in the rendezvous.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<UnixCaller> {
        Ok(UnixCaller { stream: unix_connect(place)?, frame: Frame::new(place.capacity) })
    }
}

/// The frame holds one message of the full capacity, so a read never takes a part of the next reply with it where all
/// are of that size.
impl Window for UnixCaller {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        fill(self.frame.payload(len)?);
        self.frame.send(len, &mut self.stream)
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        read(self.frame.receive_reply(&mut self.stream)?);
        Ok(())
    }
}

/// The server's end of the socket.
pub struct UnixResponder {
    listener: UnixListener,
    frame: Frame,
    place: Rendezvous,
}

impl UnixResponder {
    /// Listens in the rendezvous.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<UnixResponder> {
        let frame = Frame::new(place.capacity);
        Ok(UnixResponder { listener: unix_bind(place)?, frame, place: place.clone() })
    }
}

impl UnixResponder {
    /// Answers many clients, a blocking thread for each, as a plain server does; with one session it is
    /// [`serve`](Responder::serve).
    pub fn serve_each(self, sessions: usize, handler: fn(&mut [u8])) -> anyhow::Result<()> {
        if sessions == 1 {
            return self.serve(handler);
        }
        let UnixResponder { listener, frame, place } = self;
        super::thread_for_each(
            || unix_accept(&listener, &place),
            move |mut stream| frame.another().answer_all(&mut stream, handler),
        )
    }
}

impl Responder for UnixResponder {
    fn serve<H>(self, handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        let mut stream = unix_accept(&self.listener, &self.place)?;
        self.frame.answer_all(&mut stream, handler)
    }
}
