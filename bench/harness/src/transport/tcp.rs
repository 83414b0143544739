//! TCP over loopback, without Nagle's delay: what programs use that may one day run on two machines.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Context as _;

use super::Rendezvous;
use super::framed::{Door, FramedCaller, FramedResponder};

/// The file in the rendezvous that holds the server's port.
const PORT: &str = "tcp.port";

/// The client's end of the connection.
pub type TcpCaller = FramedCaller<TcpStream>;

impl TcpCaller {
    /// Connects to the port that the server left in the rendezvous.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<TcpCaller> {
        let port = std::fs::read_to_string(place.path(PORT)).context("no server has left its port")?;
        let port: u16 = port.trim().parse().context("the server's port is not a number")?;
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("no server listens on the port")?;
        Ok(TcpCaller::over(prepared(stream, place.polls())?, place))
    }
}

/// A connection as both ends have it.
fn prepared(stream: TcpStream, polls: bool) -> anyhow::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(polls)?;
    Ok(stream)
}

/// A listening socket, and whether its connections are polled.
pub struct TcpDoor {
    listener: TcpListener,
    polls: bool,
}

impl Door for TcpDoor {
    type Stream = TcpStream;

    fn accept(&self) -> anyhow::Result<TcpStream> {
        let (stream, _) = self.listener.accept().context("no client could be accepted")?;
        prepared(stream, self.polls)
    }
}

/// The server's end of the connection.
pub type TcpResponder = FramedResponder<TcpDoor>;

impl TcpResponder {
    /// Listens on a free port of the loopback address and leaves its number in the rendezvous.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<TcpResponder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port could be had")?;
        let port = listener.local_addr()?.port();
        std::fs::write(place.path(PORT), port.to_string()).context("the port cannot be left for the client")?;
        Ok(TcpResponder::behind(TcpDoor { listener, polls: place.polls() }, place))
    }
}
