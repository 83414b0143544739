//! Wigwag as a contender: its public interface and nothing else.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use wigwag::{Client, Pending, Request, Server};

use crate::case::{Case, Contender};
use crate::clock;
use crate::transport::{Caller, Window};
use crate::work;

/// An explicit path needs no runtime directory and cannot meet another program's name.
const SOCKET: &str = "wigwag.sock";
/// What a server and a client state when nobody asks for more.
const SLOTS: usize = 16;
/// What a server allows by itself; a case may need more.
const CAPACITY: usize = 1 << 20;
/// An idle session is made as small as it can be.
const IDLE_CAPACITY: usize = 64;

/// The server's socket in a directory.
pub fn path(directory: &Path) -> PathBuf {
    directory.join(SOCKET)
}

/// A server that allows what the case needs. Once this returns, clients may connect.
pub fn bind(directory: &Path, case: &Case) -> anyhow::Result<Server> {
    let sessions = case.sessions + 8;
    let builder = Server::builder()
        .slots(case.in_flight.max(SLOTS))
        .capacity(case.size.max(CAPACITY))
        .wait(case.wait.into())
        .max_sessions(sessions)
        .max_sessions_per_user(sessions);
    let builder = if case.contender == Contender::Uncounted { builder.without_counting() } else { builder };
    Ok(builder.bind(path(directory))?)
}

/// Serves until the process is ended.
pub fn serve(mut server: Server, case: &Case) -> anyhow::Result<()> {
    let handler_ns = case.handler_ns;
    let served = match handler_ns {
        0 => server.serve(|request: &mut Request| work::change(request)),
        _ => server.serve(|request: &mut Request| {
            let until = clock::now() + handler_ns;
            work::change(request);
            clock::think_until(until);
        }),
    };
    served.context("the server ended")
}

/// A client that makes calls.
pub fn connect(directory: &Path, case: &Case) -> anyhow::Result<Client> {
    let builder = Client::builder().wait(case.wait.into()).slots(case.in_flight.max(SLOTS));
    Ok(builder.capacity(case.size.max(IDLE_CAPACITY)).connect(path(directory))?)
}

/// A client that makes one call, so that the server has met it, and then none.
pub fn connect_idle(directory: &Path, case: &Case) -> anyhow::Result<Client> {
    let builder = Client::builder().wait(case.wait.into()).slots(1);
    let client = builder.capacity(IDLE_CAPACITY).connect(path(directory))?;
    client.call(&[7; 8])?;
    Ok(client)
}

/// One request under way.
pub struct Exchange(pub Client);

impl Caller for Exchange {
    #[inline(always)]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let mut loan = self.0.loan(len)?;
        fill(&mut loan);
        let reply = loan.call()?;
        read(&reply);
        Ok(())
    }
}

/// Several requests under way, taken back in the order in which they were sent.
pub struct Pipeline<'c> {
    client: &'c Client,
    pending: Vec<Option<Pending<'c>>>,
    submitted: usize,
    completed: usize,
}

impl<'c> Pipeline<'c> {
    /// A window of `in_flight` requests.
    pub fn new(client: &'c Client, in_flight: usize) -> Pipeline<'c> {
        Pipeline { client, pending: (0..in_flight).map(|_| None).collect(), submitted: 0, completed: 0 }
    }

    #[inline(always)]
    fn after(&self, index: usize) -> usize {
        if index + 1 == self.pending.len() { 0 } else { index + 1 }
    }
}

impl Window for Pipeline<'_> {
    #[inline(always)]
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        let mut loan = self.client.loan(len)?;
        fill(&mut loan);
        self.pending[self.submitted] = Some(loan.send()?);
        self.submitted = self.after(self.submitted);
        Ok(())
    }

    #[inline(always)]
    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        let pending = self.pending[self.completed].take().context("nothing is under way")?;
        self.completed = self.after(self.completed);
        read(&pending.wait()?);
        Ok(())
    }
}
