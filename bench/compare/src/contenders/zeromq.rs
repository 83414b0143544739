//! ZeroMQ over its ipc transport, libzmq 4.3: a request socket and a reply socket.
//!
//! Best fair configuration: REQ and REP, which is what it offers for a call; one client, so a REP needs no router. A
//! message is handed over without a copy on the way in, and changed where it lies by the server, which sends the same
//! one back. Its own I/O threads carry the bytes, so that polling has nothing to look at.

use anyhow::Context as _;
use wigwag_bench::case::WaitMode;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Caller;
use wigwag_bench::work;

use crate::contender::{About, Contender};

/// The contender.
pub struct ZeroMq;

/// The client's end.
pub struct Ends {
    socket: zmq::Socket,
    message: zmq::Message,
}

impl Contender for ZeroMq {
    type Client = Ends;
    const ABOUT: About = About {
        waits: &[WaitMode::Park],
        alone: None,
        one_at_a_time: Some("REQ and REP take turns by definition"),
        ..About::new(
            "zeromq",
            "ZeroMQ 4.3, ipc",
            "REQ and REP; the server changes the message and sends the same one back",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let socket = zmq::Context::new().socket(zmq::REP)?;
        socket.bind(&address(orders))?;
        role::ready(orders)?;
        let mut message = zmq::Message::new();
        loop {
            socket.recv(&mut message, 0)?;
            work::change(&mut message);
            socket.send(std::mem::replace(&mut message, zmq::Message::new()), 0)?;
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        let socket = zmq::Context::new().socket(zmq::REQ)?;
        socket.set_linger(0)?;
        socket.connect(&address(orders)).context("no server listens")?;
        Ok(Ends { socket, message: zmq::Message::new() })
    }
}

fn address(orders: &Orders) -> String {
    format!("ipc://{}", orders.directory.join("zeromq").display())
}

impl Caller for Ends {
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let mut request = zmq::Message::with_size(len);
        fill(&mut request);
        self.socket.send(request, 0)?;
        self.socket.recv(&mut self.message, 0)?;
        read(&self.message);
        Ok(())
    }
}
