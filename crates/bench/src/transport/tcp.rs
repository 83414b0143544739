//! TCP over loopback, without Nagle's delay: what programs use that may one day run on two machines.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Context as _;

use super::frame::Frame;
use super::{Rendezvous, Responder, Window};

/// The file in the rendezvous that holds the server's port.
const PORT: &str = "tcp.port";

/// The client's end of the connection.
pub struct TcpCaller {
    stream: TcpStream,
    frame: Frame,
}

impl TcpCaller {
    /// Connects to the port that the server left in the rendezvous.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<TcpCaller> {
        let port = std::fs::read_to_string(place.path(PORT)).context("no server has left its port")?;
        let port: u16 = port.trim().parse().context("the server's port is not a number")?;
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("no server listens on the port")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(place.polls())?;
        Ok(TcpCaller { stream, frame: Frame::new(place.capacity) })
    }
}

/// The frame holds one message of the full capacity, so a read never takes a part of the next reply with it where all
/// are of that size.
impl Window for TcpCaller {
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

/// The server's end of the connection.
pub struct TcpResponder {
    listener: TcpListener,
    frame: Frame,
    polls: bool,
}

impl TcpResponder {
    /// Listens on a free port of the loopback address and leaves its number in the rendezvous.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<TcpResponder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port could be had")?;
        let port = listener.local_addr()?.port();
        std::fs::write(place.path(PORT), port.to_string()).context("the port cannot be left for the client")?;
        Ok(TcpResponder { listener, frame: Frame::new(place.capacity), polls: place.polls() })
    }
}

impl TcpResponder {
    /// Answers many clients, a blocking thread for each, as a plain server does; with one session it is
    /// [`serve`](Responder::serve).
    pub fn serve_each(self, sessions: usize, handler: fn(&mut [u8])) -> anyhow::Result<()> {
        if sessions == 1 {
            return self.serve(handler);
        }
        let TcpResponder { listener, frame, polls } = self;
        super::thread_for_each(
            || {
                let (stream, _) = listener.accept().context("no client could be accepted")?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(polls)?;
                Ok(stream)
            },
            move |mut stream| frame.another().answer_all(&mut stream, handler),
        )
    }
}

impl Responder for TcpResponder {
    fn serve<H>(self, handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        let (mut stream, _) = self.listener.accept().context("no client could be accepted")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(self.polls)?;
        self.frame.answer_all(&mut stream, handler)
    }
}
