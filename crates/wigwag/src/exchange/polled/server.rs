//! The server whose calls never wait.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::{Error, Result};
use crate::exchange::request::Request;
use crate::exchange::server;
use crate::service::handles::{ShutdownHandle, StatsHandle};
use crate::service::polling_backoff::PollingBackoff;
use crate::service::worker::Next;
use crate::stats::ServerStats;

/// A server whose calls never wait.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
/// # let name = name.clone();
/// # let client = std::thread::spawn(move || wigwag::Client::connect(name)?.call(b"hello").map(|r| r.to_vec()));
/// let mut request = loop {
///     if let Some(request) = server.try_recv(true)? {
///         break request;
///     }
///     rustix::event::poll(&mut [rustix::event::PollFd::new(&server, rustix::event::PollFlags::IN)], None)
///         .expect("the descriptor is open");
///     server.listen()?;
/// };
/// request.make_ascii_uppercase();
/// request.reply();
/// # assert_eq!(client.join().unwrap()?, b"HELLO");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Server {
    readiness: OwnedFd,
    server: server::Server,
    polling_backoff: PollingBackoff,
}

impl Server {
    /// Makes one of a blocking server.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked); [`Io`](crate::ErrorKind::Io) if there is no descriptor left.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn from_blocking(mut server: server::Server) -> Result<Server> {
        let readiness = server.worker()?.for_reactor()?;
        Ok(Server { readiness, server, polling_backoff: PollingBackoff::default() })
    }

    /// The next request, if one is there. `may_spin`: whether it may look for some 50 microseconds while a client is
    /// quick. Given `None`, wait until the descriptor is readable, and [`listen`](Server::listen).
    ///
    /// # Errors
    /// As [`Server::recv`](crate::Server::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert!(server.try_recv(true)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&mut self, may_spin: bool) -> Result<Option<Request>> {
        let worker = self.server.worker()?;
        match self.polling_backoff.next(worker, may_spin)? {
            Next::Request => Ok(Some(worker.take())),
            Next::Nothing => Ok(None),
            Next::Shutdown => Err(Error::shutting_down()),
        }
    }

    /// The next request of a client that was quick just now: looks `looks` times at memory, and mostly asks the system
    /// for nothing. `None` says nothing of slower clients.
    ///
    /// # Errors
    /// As [`try_recv`](Server::try_recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert!(server.glance(10)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn glance(&mut self, looks: u32) -> Result<Option<Request>> {
        let worker = self.server.worker()?;
        for _ in 0..looks {
            match worker.glance()? {
                Next::Request => {
                    let request = worker.take();
                    self.polling_backoff.note_found();
                    return Ok(Some(request));
                }
                Next::Nothing => std::hint::spin_loop(),
                Next::Shutdown => return Err(Error::shutting_down()),
            }
        }
        Ok(None)
    }

    /// Takes in what the descriptor told of.
    ///
    /// # Errors
    /// [`Forked`](crate::ErrorKind::Forked), [`Io`](crate::ErrorKind::Io).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// server.listen()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn listen(&mut self) -> Result<()> {
        self.server.worker()?.listen()
    }

    /// Ends the server in order, once [`try_recv`](Server::try_recv) has said that it is shut down and all requests are
    /// answered: says farewell to all clients, and removes the name.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the name could not be removed.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// server.end()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn end(&mut self) -> Result<()> {
        self.server.end_serving(Ok(()))
    }

    /// A handle that ends this server from another thread.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// server.shutdown_handle().shutdown();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.server.shutdown_handle()
    }

    /// What has happened so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert_eq!(server.stats().sessions, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// A handle that tells what has happened so far from other threads.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert_eq!(server.stats_handle().stats().sessions, 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats_handle(&self) -> StatsHandle {
        self.server.stats_handle()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let server = wigwag::polled::Server::from_blocking(wigwag::Server::bind(name)?)?;
    /// assert_eq!(server.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        self.server.path()
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(out)
    }
}
