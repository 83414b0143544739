//! A byte stream for tasks: the face of `tokio::net::UnixStream` over shared memory.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::stream_halves::{ReadHalf, WriteHalf, halves};
use super::waiting::off_the_runtime;
use crate::error::Result;
use crate::request::Peer;
use crate::stream::{self, StreamBuilder};

/// One end of a byte stream between two processes, for tasks: [`AsyncRead`], [`AsyncBufRead`] and [`AsyncWrite`], also of
/// several buffers at a time. What runs over a `tokio::net::UnixStream` runs over it: hyper, tonic, TLS, codecs.
///
/// Its other end may be a blocking [`wigwag::Stream`](crate::Stream). How it ends, and what a killed process looks like, is
/// said there.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// let listener = wigwag::tokio::StreamListener::bind(name)?;
/// let mut client = wigwag::tokio::Stream::connect(name).await?;
/// tokio::spawn(async move {
///     let (mut reading, mut writing) = listener.accept().await?.split();
///     tokio::io::copy(&mut reading, &mut writing).await         // an echo
/// });
/// client.write_all(b"hello").await?;
/// let mut text = [0; 5];
/// client.read_exact(&mut text).await?;
/// assert_eq!(&text, b"hello");
/// # std::io::Result::Ok(()) })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Stream {
    reading: ReadHalf,
    writing: WriteHalf,
}

impl Stream {
    /// Connects to a listener of the same user, blocking or not. It need not have accepted yet.
    ///
    /// The handshake is done on a thread of the runtime that may block.
    ///
    /// # Errors
    /// As [`wigwag::Stream::connect`](crate::Stream::connect); [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration)
    /// outside of a runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let error = wigwag::tokio::Stream::connect(name).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn connect(name: impl AsRef<OsStr>) -> Result<Stream> {
        Stream::builder().connect_async(name).await
    }

    /// A stream with wishes of its own: end with [`connect_async`](StreamBuilder::connect_async).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// let stream = wigwag::tokio::Stream::builder().ring_bytes(16 << 10).connect_async(name).await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn builder() -> StreamBuilder {
        stream::Stream::builder()
    }

    /// Makes one of a blocking stream, whose timeouts and non-blocking mode then mean nothing.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system refuses; [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration)
    /// outside of a runtime. The stream is closed then.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// let blocking = wigwag::Stream::connect(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let stream = wigwag::tokio::Stream::from_blocking(blocking)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_blocking(stream: stream::Stream) -> Result<Stream> {
        let (reading, writing) = halves(stream)?;
        Ok(Stream { reading, writing })
    }

    /// Two halves of their own, for two tasks. Dropping one shuts its direction.
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// let (mut reading, mut writing) = connecting.split();
    /// let task = tokio::spawn(async move { let mut text = String::new(); reading.read_to_string(&mut text).await.map(|_| text) });
    /// writing.write_all(b"ping").await?;
    /// accepted.read_exact(&mut [0; 4]).await?;
    /// accepted.write_all(b"pong").await?;
    /// drop(accepted);
    /// assert_eq!(task.await.unwrap()?, "pong");
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        (self.reading, self.writing)
    }

    /// Lends room; see [`WriteHalf::write_buf`].
    ///
    /// # Errors
    /// As writing: [`BrokenPipe`](io::ErrorKind::BrokenPipe) once nobody reads.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// connecting.write_buf().await?[0] = b'!';
    /// connecting.commit(1);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn write_buf(&mut self) -> io::Result<&mut [u8]> {
        self.writing.write_buf().await
    }

    /// Hands over; see [`WriteHalf::commit`].
    ///
    /// # Panics
    /// If fewer were lent, or a write came in between.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// connecting.write_buf().await?[0] = b'!';
    /// connecting.commit(1);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn commit(&mut self, len: usize) {
        self.writing.commit(len);
    }

    /// Who is at the other end.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let connecting = wigwag::tokio::Stream::connect(name).await?;
    /// assert_eq!(listener.accept().await?.peer().uid, connecting.peer().uid);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peer(&self) -> Peer {
        self.reading.peer()
    }
}

impl StreamBuilder {
    /// Connects for tasks: as [`connect`](StreamBuilder::connect), with a [`tokio::Stream`](Stream).
    ///
    /// # Errors
    /// As [`Stream::connect`].
    ///
    /// # Panics
    /// As [`Stream::connect`].
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let stream = wigwag::Stream::builder().wait(wigwag::Wait::Park).connect_async(name).await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn connect_async(self, name: impl AsRef<OsStr>) -> Result<Stream> {
        let name = name.as_ref().to_owned();
        Stream::from_blocking(off_the_runtime(move || self.connect(name)).await?)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reading).poll_read(context, into)
    }
}

impl AsyncBufRead for Stream {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().reading).poll_fill_buf(context)
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        Pin::new(&mut self.reading).consume(count);
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writing).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writing).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writing).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writing).poll_shutdown(context)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Stream").field(&self.reading).finish()
    }
}
