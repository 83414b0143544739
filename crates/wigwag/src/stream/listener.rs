//! The listening side of streams: takes a name, and gives out the streams that others connect.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};

use crate::error::{Error, ErrorKind, Result};
use crate::options::ListenOptions;
use crate::service::accept_queue::{AcceptQueue, Next};
use crate::service::handles::ShutdownHandle;
use crate::service::service::Service;
use crate::stream::endpoint::Endpoint;
use crate::stream::stream::Stream;
use crate::wait::policy::Wait;
use crate::wait::runtime_guard;

mod builder;

pub use crate::stream::listener::builder::StreamListenerBuilder;

/// Takes a name and accepts streams: the shape of [`UnixListener`](std::os::unix::net::UnixListener).
///
/// A thread of its own shakes hands, so connecting does not wait for [`accept`](StreamListener::accept); at most
/// [`backlog`](StreamListenerBuilder::backlog) streams wait for it, the next one is refused. What was accepted lives on
/// without the listener. Dropping it removes the name and turns away those who wait.
///
/// ```
/// use std::io::{Read, Write};
///
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let listener = wigwag::StreamListener::bind(name)?;
/// # let thread = std::thread::spawn({ let name = name.clone(); move || {
/// #     let mut stream = wigwag::Stream::connect(name)?; stream.write_all(b"ping")?; let mut reply = [0; 4];
/// #     stream.read_exact(&mut reply)?; std::io::Result::Ok(reply) } });
/// for stream in listener.incoming() {
///     let mut stream = stream?;
///     let mut request = [0; 4];
///     stream.read_exact(&mut request)?;
///     stream.write_all(&request)?;
/// #   break;
/// }
/// # assert_eq!(&thread.join().unwrap()?, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct StreamListener {
    service: Service,
    accept_queue: Arc<AcceptQueue>,
    wait: Wait,
    is_nonblocking: AtomicBool,
}

impl StreamListener {
    /// Takes a name with the default policy (streams of the same user) and limits.
    ///
    /// # Errors
    /// As [`Server::bind`](crate::Server::bind).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// assert_eq!(wigwag::StreamListener::bind(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<StreamListener> {
        StreamListener::builder().bind(name)
    }

    /// A listener with a policy, limits or a contract of its own.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::builder().ring_bytes(1 << 20).backlog(8).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> StreamListenerBuilder {
        ListenOptions::default().into()
    }

    /// Waits for the next stream. Any number of threads may.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) in non-blocking mode, when nobody is there;
    /// [`NotConnected`](io::ErrorKind::NotConnected) after a [shutdown](StreamListener::shutdown_handle), once nobody
    /// is left; an error of the system, or of a child process that uses its parent's listener.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// let connecting = wigwag::Stream::connect(name)?;
    /// let accepted = listener.accept()?;
    /// assert_eq!(accepted.peer().pid, std::process::id() as i32);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept(&self) -> io::Result<Stream> {
        loop {
            if let Some(stream) = self.try_accept()? {
                return Ok(stream);
            }
            if self.is_nonblocking.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            runtime_guard::is_about_to_sleep("accepting a stream");
            match poll(&mut [PollFd::new(&*self.accept_queue, PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io("wait for a stream to accept", error).into()),
            }
        }
    }

    /// Whether this is a child that inherited the listener.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn is_forked(&self) -> bool {
        self.service.is_forked()
    }

    /// The next stream, or `None`: nobody just now.
    pub(crate) fn try_accept(&self) -> io::Result<Option<Stream>> {
        if self.service.is_forked() {
            return Err(Error::forked().into());
        }
        match self.accept_queue.take() {
            Next::PendingStream(pending) => match Endpoint::accepted(*pending, self.wait) {
                Ok(endpoint) => Ok(Some(Stream::new(endpoint))),
                Err(failed) => {
                    let (error, pending) = *failed;
                    self.accept_queue.put_back(pending);
                    Err(error.into())
                }
            },
            Next::Nobody => Ok(None),
            Next::Closed => {
                let error = Error::new(ErrorKind::ServerClosed { maybe_executed: false }, "the listener is shut down");
                Err(io::Error::new(io::ErrorKind::NotConnected, error))
            }
        }
    }

    /// All streams, one after another, until the listener is shut down.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// let connecting = wigwag::Stream::connect(name)?;
    /// let stop = listener.shutdown_handle();
    /// for stream in listener.incoming() {
    ///     let stream = stream?;
    ///     stop.shutdown();                           // this one is the last
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Whether [`accept`](StreamListener::accept) returns [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting.
    /// The listener's descriptor ([`AsFd`]) is readable while somebody waits to be accepted; nothing is to be read from
    /// it.
    ///
    /// # Errors
    /// None so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// listener.set_nonblocking(true)?;
    /// assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.is_nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// A handle that ends this listener from another thread: nobody connects any more, and those who wait to be
    /// accepted are the last ones.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// let stop = listener.shutdown_handle();
    /// std::thread::spawn(move || stop.shutdown());
    /// assert!(listener.incoming().next().is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::of(Arc::clone(&self.service.shared))
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// assert_eq!(wigwag::StreamListener::bind(name)?.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.service.path
    }
}

/// The streams of a [`StreamListener`], one after another. It ends when the listener is shut down.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let listener = wigwag::StreamListener::bind(name)?;
/// let connecting = wigwag::Stream::connect(name)?;
/// let first = listener.incoming().next().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a StreamListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<Stream>;

    fn next(&mut self) -> Option<io::Result<Stream>> {
        match self.listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            other => Some(other),
        }
    }
}

impl AsFd for StreamListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.accept_queue).as_fd()
    }
}

impl AsRawFd for StreamListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for StreamListener {
    fn drop(&mut self) {
        self.service.end();
        if !self.service.is_forked() {
            self.accept_queue.turn_all_away();
        }
    }
}

impl fmt::Debug for StreamListener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("StreamListener").field("path", &self.service.path).finish_non_exhaustive()
    }
}
