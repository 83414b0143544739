//! Wigwag's own exchange: the request is built in memory that the server already has.

use anyhow::Context as _;

use super::{Caller, Rendezvous, Responder};

/// The socket's path in the rendezvous. An explicit path needs no runtime directory.
const SOCKET: &str = "exchange.sock";

/// One request is under way at a time; the second slot is there so that a reply may be held while the next is built.
const SLOTS: usize = 2;

/// The client's end.
pub struct WigwagCaller {
    client: wigwag::Client,
}

impl WigwagCaller {
    /// Connects to the server in the rendezvous.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<WigwagCaller> {
        let client = wigwag::Client::builder()
            .slots(SLOTS)
            .capacity(place.capacity)
            .wait(place.wait)
            .connect(place.path(SOCKET))?;
        Ok(WigwagCaller { client })
    }
}

impl Caller for WigwagCaller {
    #[inline]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let mut loan = self.client.loan(len)?;
        fill(&mut loan);
        let reply = loan.call()?;
        read(&reply);
        Ok(())
    }
}

/// The server's end.
pub struct WigwagResponder {
    server: wigwag::Server,
}

impl WigwagResponder {
    /// Listens in the rendezvous.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<WigwagResponder> {
        let server = wigwag::Server::builder()
            .slots(SLOTS)
            .capacity(place.capacity)
            .wait(place.wait)
            .bind(place.path(SOCKET))?;
        Ok(WigwagResponder { server })
    }
}

impl Responder for WigwagResponder {
    fn serve<H>(mut self, mut handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        // A Wigwag server outlives its clients. Here it shall end with the one process that started it, which
        // holds the writing end of our standard input.
        let shutdown = self.server.shutdown_handle();
        crate::peer::when_parent_leaves(move || shutdown.shutdown()).context("the parent cannot be watched")?;
        self.server.serve(|request: &mut wigwag::Request| handler(request))?;
        Ok(())
    }
}
