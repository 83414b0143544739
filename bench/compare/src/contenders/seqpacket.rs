//! A Unix seqpacket socket: whole messages, no framing.
//!
//! Best fair configuration: one `send` and one `recv` for each direction up to 64 KiB; larger payloads go in pieces of
//! that size, because a message must fit into the socket's buffer. A blocking thread for each client.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::{Window, thread_for_each};
use wigwag_bench::work;

use crate::contender::{About, Contender};

const PIECE: usize = 64 << 10;

/// The contender.
pub struct Seqpacket;

/// Either end.
pub struct Ends {
    socket: OwnedFd,
    bytes: Vec<u8>,
    polls: bool,
}

impl Contender for Seqpacket {
    type Client = Ends;
    const ABOUT: About = About {
        alone: None,
        one_at_a_time: None,
        ..About::new(
            "seqpacket",
            "Unix seqpacket socket",
            "one message each way up to 64 KiB, then in pieces of 64 KiB",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let listener = socket()?;
        rustix::net::bind(&listener, &address(orders)?)?;
        rustix::net::listen(&listener, 128)?;
        role::ready(orders)?;
        let (len, wait) = (orders.case.size, orders.case.wait);
        let accept = || {
            let socket = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC).context("nobody can be accepted")?;
            Ok(Ends::new(socket, len, wait))
        };
        thread_for_each(accept, move |mut ends: Ends| {
            loop {
                ends.receive(len)?;
                work::change(&mut ends.bytes);
                ends.send(len)?;
            }
        })
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        let socket = socket()?;
        rustix::net::connect(&socket, &address(orders)?)?;
        Ok(Ends::new(socket, orders.case.size, orders.case.wait))
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run_or_pipeline(orders, || Self::connect(orders))
    }
}

fn socket() -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn address(orders: &Orders) -> anyhow::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(orders.directory.join("seqpacket"))?)
}

impl Ends {
    fn new(socket: OwnedFd, len: usize, wait: WaitMode) -> Ends {
        Ends { socket, bytes: vec![0; len], polls: wait == WaitMode::Spin }
    }

    fn send(&mut self, len: usize) -> anyhow::Result<()> {
        let wait = if self.polls { SendFlags::DONTWAIT } else { SendFlags::empty() };
        for piece in self.bytes[..len].chunks(PIECE) {
            while let Err(error) = rustix::net::send(&self.socket, piece, wait | SendFlags::NOSIGNAL) {
                again(error)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, len: usize) -> anyhow::Result<()> {
        let wait = if self.polls { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        for piece in self.bytes[..len].chunks_mut(PIECE) {
            let count = loop {
                match rustix::net::recv(&self.socket, &mut *piece, wait) {
                    Ok((count, _)) => break count,
                    Err(error) => again(error)?,
                }
            };
            ensure!(count > 0, "the other side hung up");
            ensure!(count == piece.len(), "a message of {count} bytes came instead of {}", piece.len());
        }
        Ok(())
    }
}

fn again(error: Errno) -> anyhow::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => {
            std::hint::spin_loop();
            Ok(())
        }
        _ => Err(error.into()),
    }
}

impl Window for Ends {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        fill(&mut self.bytes[..len]);
        self.send(len)
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        self.receive(self.bytes.len())?;
        read(&self.bytes);
        Ok(())
    }
}
