//! The listening side of streams, for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use crate::error::{Error, Result};
use crate::service::handles::ShutdownHandle;
use crate::stream::listener::{self, StreamListenerBuilder};
use crate::stream::tokio::split::Halves;
use crate::stream::tokio::stream::Stream;
use crate::sync;
use crate::sys::async_fd::{Watched, check_runtime, watch};
use crate::wait::readiness::poll_ring;

/// Takes a name and accepts streams in tasks: the shape of `tokio::net::UnixListener`.
///
/// As with the [blocking listener](crate::StreamListener) a thread of its own shakes hands, and what was accepted lives
/// on without it. Those who connect may be blocking.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// let listener = wigwag::tokio::StreamListener::bind(name)?;
/// # let client = tokio::spawn({ let name = name.clone(); async move {
/// #     let mut stream = wigwag::tokio::Stream::connect(name).await?; stream.write_all(b"ping").await?;
/// #     let mut reply = [0; 4]; stream.read_exact(&mut reply).await?; std::io::Result::Ok(reply) } });
/// loop {
///     let mut stream = listener.accept().await?;
///     tokio::spawn(async move {
///         let mut request = [0; 4];
///         stream.read_exact(&mut request).await?;
///         stream.write_all(&request).await
///     });
/// #   break;
/// }
/// # assert_eq!(&client.await.unwrap()?, b"ping");
/// # std::io::Result::Ok(()) })?;
/// # std::io::Result::Ok(())
/// ```
pub struct StreamListener(
    Watched<listener::StreamListener>,
    /// Streams that were accepted and could not be given to the reactor.
    Mutex<Vec<Halves>>,
);

impl StreamListener {
    /// Takes a name with the default policy (streams of the same user) and limits. It does not wait for anything.
    ///
    /// # Errors
    /// As [`wigwag::StreamListener::bind`](crate::StreamListener::bind);
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// assert_eq!(wigwag::tokio::StreamListener::bind(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<StreamListener> {
        StreamListener::builder().bind_async(name)
    }

    /// A listener with a policy, limits or a contract of its own: end with
    /// [`bind_async`](StreamListenerBuilder::bind_async).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let listener = wigwag::tokio::StreamListener::builder().ring_bytes(1 << 20).bind_async(name)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn builder() -> StreamListenerBuilder {
        listener::StreamListener::builder()
    }

    /// Makes one of a blocking listener.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system refuses;
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime. The name is given up
    /// then.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let blocking = wigwag::StreamListener::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let listener = wigwag::tokio::StreamListener::from_blocking(blocking)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_blocking(listener: listener::StreamListener) -> Result<StreamListener> {
        if listener.is_forked() {
            return Err(Error::forked());
        }
        Ok(StreamListener(watch(listener)?, Mutex::default()))
    }

    fn watched(&self) -> &Watched<listener::StreamListener> {
        &self.0
    }

    /// The next stream, or `None`: nobody just now. One that cannot be given to the reactor, for want of a descriptor,
    /// is the next one's who asks.
    fn try_accept(&self) -> io::Result<Option<Stream>> {
        // Nothing panics while it is held.
        let kept = || sync::lock(&self.1);
        let next = kept().pop();
        let halves = match next {
            Some(halves) => halves,
            None => match self.watched().get_ref().try_accept()? {
                Some(stream) => stream.into_halves(),
                None => return Ok(None),
            },
        };
        Stream::of_halves(halves).map(Some).map_err(|failed| {
            let (error, halves) = *failed;
            kept().push(halves);
            error.into()
        })
    }

    /// Waits for the next stream. Any number of tasks may. Dropping the future loses no stream.
    ///
    /// # Errors
    /// [`NotConnected`](io::ErrorKind::NotConnected) after a [shutdown](StreamListener::shutdown_handle), once nobody
    /// is left; an error of the system.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// let (accepted, connecting) = tokio::join!(listener.accept(), wigwag::tokio::Stream::connect(name));
    /// assert_eq!(accepted?.peer(), connecting?.peer());
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn accept(&self) -> io::Result<Stream> {
        // Each waiting task has its own place in the queue, where poll_accept has one for all.
        loop {
            if let Some(stream) = self.try_accept()? {
                return Ok(stream);
            }
            self.watched().readable().await?.clear_ready();
        }
    }

    /// As [`accept`](StreamListener::accept), for those who write futures by hand. Only the task that polled last is
    /// woken.
    ///
    /// # Errors
    /// As [`accept`](StreamListener::accept).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// let connecting = wigwag::tokio::Stream::connect(name).await?;
    /// let accepted = std::future::poll_fn(|context| listener.poll_accept(context)).await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        loop {
            if let Some(stream) = self.try_accept()? {
                return Poll::Ready(Ok(stream));
            }
            ready!(poll_ring(self.watched(), context))?;
        }
    }

    /// All streams as a [`futures_core::Stream`], until the listener is shut down: what `tonic` and others take.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// use futures_core::Stream;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let mut incoming = std::pin::pin!(wigwag::tokio::StreamListener::bind(name)?.incoming());
    /// let connecting = wigwag::tokio::Stream::connect(name).await?;
    /// let accepted = std::future::poll_fn(|context| incoming.as_mut().poll_next(context))
    ///     .await.expect("not shut down")?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn incoming(self) -> Incoming {
        Incoming(self)
    }

    /// A handle that ends this listener from anywhere: nobody connects any more, and those who wait to be accepted are
    /// the last ones.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// listener.shutdown_handle().shutdown();
    /// assert_eq!(listener.accept().await.unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.watched().get_ref().shutdown_handle()
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// assert_eq!(wigwag::tokio::StreamListener::bind(name)?.path(), name);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn path(&self) -> &Path {
        self.watched().get_ref().path()
    }
}

impl StreamListenerBuilder {
    /// Binds for tasks: as [`bind`](StreamListenerBuilder::bind), with a [`tokio::StreamListener`](StreamListener).
    ///
    /// # Errors
    /// As [`StreamListener::bind`].
    ///
    /// # Panics
    /// As [`StreamListener::bind`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let listener = wigwag::StreamListener::builder().backlog(4).bind_async(name)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind_async(self, name: impl AsRef<OsStr>) -> Result<StreamListener> {
        check_runtime()?; // before the name is taken
        StreamListener::from_blocking(self.bind(name)?)
    }
}

/// The streams of a [`StreamListener`], one after another, as a [`futures_core::Stream`]. It ends when the listener is
/// shut down, and dropping it drops the listener.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # use futures_core::Stream;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let listener = wigwag::tokio::StreamListener::bind(name)?;
/// listener.shutdown_handle().shutdown();
/// let mut incoming = std::pin::pin!(listener.incoming());
/// assert!(std::future::poll_fn(|context| incoming.as_mut().poll_next(context)).await.is_none());
/// # std::io::Result::Ok(()) })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is accepted unless it is polled"]
pub struct Incoming(StreamListener);

impl futures_core::Stream for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Stream>>> {
        Poll::Ready(match ready!(self.0.poll_accept(context)) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            other => Some(other),
        })
    }
}

impl fmt::Debug for StreamListener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.watched().get_ref().fmt(out)
    }
}
