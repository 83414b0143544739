//! A Unix stream socket: what most programs on one machine talk over today.

use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::Context as _;

use super::Rendezvous;
use super::framed::{Door, FramedCaller, FramedResponder};

const SOCKET: &str = "unix.sock";

/// A socket to the listener in the rendezvous directory.
pub fn unix_connect(place: &Rendezvous) -> anyhow::Result<UnixStream> {
    let stream = UnixStream::connect(place.path(SOCKET)).context("no server listens on the socket")?;
    stream.set_nonblocking(place.polls())?;
    Ok(stream)
}

/// Listens in the rendezvous.
pub fn unix_bind(place: &Rendezvous) -> anyhow::Result<UnixDoor> {
    let listener = UnixListener::bind(place.path(SOCKET)).context("the socket cannot be made")?;
    Ok(UnixDoor { listener, polls: place.polls() })
}

/// The client's end of the socket.
pub type UnixCaller = FramedCaller<UnixStream>;

impl UnixCaller {
    /// Connects to the socket in the rendezvous.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<UnixCaller> {
        Ok(UnixCaller::over(unix_connect(place)?, place))
    }
}

/// A listening socket, and whether its connections are polled.
pub struct UnixDoor {
    listener: UnixListener,
    polls: bool,
}

impl Door for UnixDoor {
    type Stream = UnixStream;

    fn accept(&self) -> anyhow::Result<UnixStream> {
        let (stream, _) = self.listener.accept().context("no client could be accepted")?;
        stream.set_nonblocking(self.polls)?;
        Ok(stream)
    }
}

/// The server's end of the socket.
pub type UnixResponder = FramedResponder<UnixDoor>;

impl UnixResponder {
    /// Listens in the rendezvous.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<UnixResponder> {
        Ok(UnixResponder::behind(unix_bind(place)?, place))
    }
}
