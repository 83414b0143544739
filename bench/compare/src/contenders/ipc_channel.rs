//! ipc-channel: Servo's channels between processes, over Unix sockets.
//!
//! Best fair configuration: the bytes channels, which do not serialise; `recv` where both sleep, `try_recv` with a
//! pause in between where they poll. A received message is a new vector: that is its interface.

use anyhow::Context as _;
use ipc_channel::TryRecvError;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel};
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Window;
use wigwag_bench::work;

use crate::contender::{About, Contender};

/// What the client sends first: where the server reads, and where it writes.
type Introduction = (IpcBytesReceiver, IpcBytesSender);

/// The contender.
pub struct IpcChannel;

/// Either end.
pub struct Ends {
    out: IpcBytesSender,
    back: IpcBytesReceiver,
    bytes: Vec<u8>,
    polls: bool,
}

impl Contender for IpcChannel {
    type Client = Ends;
    const ABOUT: About = About {
        one_at_a_time: None,
        alone: Some("its rendezvous is for one client; each further one needs another"),
        ..About::new(
            "ipc-channel",
            "ipc-channel 0.23",
            "two bytes channels, not serialised; each message is a new vector",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let (server, name) = IpcOneShotServer::<Introduction>::new()?;
        std::fs::write(orders.directory.join("name"), name)?;
        role::ready(orders)?;
        let (_, (back, out)) = server.accept().context("no client came")?;
        let mut ends = Ends { out, back, bytes: Vec::new(), polls: orders.case.wait == WaitMode::Spin };
        loop {
            ends.receive()?;
            work::change(&mut ends.bytes);
            ends.out.send(&ends.bytes)?;
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        let name = std::fs::read_to_string(orders.directory.join("name"))?;
        let introduction = IpcSender::<Introduction>::connect(name)?;
        let (out, requests) = bytes_channel()?;
        let (replies, back) = bytes_channel()?;
        introduction.send((requests, replies))?;
        Ok(Ends { out, back, bytes: vec![0; orders.case.size], polls: orders.case.wait == WaitMode::Spin })
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run_or_pipeline(orders, || Self::connect(orders))
    }
}

impl Ends {
    fn receive(&mut self) -> anyhow::Result<()> {
        if !self.polls {
            self.bytes = self.back.recv()?;
            return Ok(());
        }
        loop {
            match self.back.try_recv() {
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                other => {
                    self.bytes = other?;
                    return Ok(());
                }
            }
        }
    }
}

impl Window for Ends {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        fill(&mut self.bytes[..len]);
        Ok(self.out.send(&self.bytes[..len])?)
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        self.receive()?;
        read(&self.bytes);
        Ok(())
    }
}
