//! A byte stream for tasks: the interface of `tokio::net::UnixStream` over shared memory.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{Error, Result};
use crate::session::connect::ClientHandshake;
use crate::session::connect_async::shake_hands;
use crate::session::peer::Peer;
use crate::stream::stream;
use crate::stream::stream_builder::StreamBuilder;
use crate::stream::tokio::split::{Halves, ReadHalf, WriteHalf, halves};

/// One end of a byte stream between two processes, for tasks: [`AsyncRead`], [`AsyncBufRead`] and [`AsyncWrite`], also
/// of several buffers at a time. What runs over a `tokio::net::UnixStream` runs over it: hyper, tonic, TLS, codecs.
///
/// Its other end may be a blocking [`wigwag::Stream`](crate::Stream). How it ends, and what a killed process looks
/// like, is said there.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// let listener = wigwag::tokio::StreamListener::bind(name)?;
/// let mut client = wigwag::tokio::Stream::connect(name).await?;
/// tokio::spawn(async move {
///     let (mut reading, mut writing) = listener.accept().await?.into_split();
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
    /// As [`wigwag::Stream::connect`](crate::Stream::connect);
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let error = wigwag::tokio::Stream::connect(name).await.unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn connect(name: impl AsRef<OsStr>) -> Result<Stream> {
        Stream::builder().connect_async(name).await
    }

    /// A stream with options: end with [`connect_async`](StreamBuilder::connect_async).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
    /// [`Io`](crate::ErrorKind::Io) when the system refuses;
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) outside of a runtime. The stream is closed
    /// then.
    ///
    /// # Panics
    /// tokio panics if the runtime's input and output are not enabled.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// let blocking = wigwag::Stream::connect(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let stream = wigwag::tokio::Stream::from_blocking(blocking)?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_blocking(stream: stream::Stream) -> Result<Stream> {
        Stream::of_halves(stream.into_halves()).map_err(|failed| failed.0)
    }

    /// One of two halves; on an error they are given back.
    pub(super) fn of_halves(both: Halves) -> std::result::Result<Stream, Box<(Error, Halves)>> {
        halves(both).map(|(reading, writing)| Stream::of_both(reading, writing))
    }

    /// The halves are those of one stream.
    pub(super) fn of_both(reading: ReadHalf, writing: WriteHalf) -> Stream {
        Stream { reading, writing }
    }

    /// Two halves of their own, for two tasks. Dropping one shuts its direction; [`ReadHalf::reunite`] puts them
    /// together.
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// let (mut reading, mut writing) = connecting.into_split();
    /// let task = tokio::spawn(async move { let mut text = String::new(); reading.read_to_string(&mut text)
    ///     .await.map(|_| text) });
    /// writing.write_all(b"ping").await?;
    /// accepted.read_exact(&mut [0; 4]).await?;
    /// accepted.write_all(b"pong").await?;
    /// drop(accepted);
    /// assert_eq!(task.await.unwrap()?, "pong");
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.reading, self.writing)
    }

    /// Waits until there is something to read, the end included: for a loop that waits for several things and then
    /// reads with [`try_read`](Stream::try_read). A future that is dropped has read nothing.
    ///
    /// # Errors
    /// As reading, once nothing is left to be read: [`ConnectionReset`](io::ErrorKind::ConnectionReset) if the other
    /// end died.
    ///
    /// ```
    /// use tokio::io::AsyncWriteExt;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// assert_eq!(connecting.try_read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// accepted.write_all(b"ping").await?;
    /// connecting.readable().await?;
    /// assert_eq!(connecting.try_read(&mut [0; 8])?, 4);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn readable(&mut self) -> io::Result<()> {
        self.reading.readable().await
    }

    /// Reads what is there, and never waits: `Ok(0)` is the end, or says that `into` has no room.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing is there; else as reading. An other end that was killed
    /// is an error once the reactor has told, or after some milliseconds of asking again and again.
    ///
    /// ```
    /// use tokio::io::AsyncWriteExt;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// assert_eq!(connecting.try_read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// accepted.write_all(b"ping").await?;
    /// connecting.readable().await?;
    /// assert_eq!(connecting.try_read(&mut [0; 8])?, 4);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reading.try_read(into)
    }

    /// Waits until there is room to write to. For a loop that waits for several things and then writes with
    /// [`try_write`](Stream::try_write). A future that is dropped has written nothing.
    ///
    /// # Errors
    /// As writing: [`BrokenPipe`](io::ErrorKind::BrokenPipe) once nobody reads.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// while connecting.try_write(&[7; 4096]).is_ok() {} // until the ring is full
    /// accepted.readable().await?;
    /// accepted.try_read(&mut [0; 4096])?;
    /// connecting.writable().await?;
    /// assert!(connecting.try_write(&[7; 4096])? > 0);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn writable(&mut self) -> io::Result<()> {
        self.writing.writable().await
    }

    /// Writes as much as there is room for, and never waits. What it returns is how many bytes that was.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is no room; else as writing:
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) once nobody reads.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// while connecting.try_write(&[7; 4096]).is_ok() {} // until the ring is full
    /// accepted.readable().await?;
    /// accepted.try_read(&mut [0; 4096])?;
    /// connecting.writable().await?;
    /// assert!(connecting.try_write(&[7; 4096])? > 0);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.writing.try_write(from)
    }

    /// As [`try_write`](Stream::try_write), from several buffers, in one step.
    ///
    /// # Errors
    /// As [`try_write`](Stream::try_write).
    ///
    /// ```
    /// use std::io::IoSlice;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// assert_eq!(connecting.try_write_vectored(&[IoSlice::new(b"pi"), IoSlice::new(b"ng")])?, 4);
    /// accepted.readable().await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_write_vectored(&mut self, from: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.writing.try_write_vectored(from)
    }

    /// Lends room; see [`WriteHalf::write_buf`].
    ///
    /// # Errors
    /// As writing: [`BrokenPipe`](io::ErrorKind::BrokenPipe) once nobody reads.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
    /// # let name = &wigwag_testing::temporary_name("s").path;
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

    /// Gives the stream up, in both directions; see [`wigwag::Stream::abort`](crate::Stream::abort).
    ///
    /// # Errors
    /// An error with [`Forked`](crate::ErrorKind::Forked) inside in a child process.
    ///
    /// ```
    /// use tokio::io::AsyncReadExt;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// connecting.abort("the source could not be read")?;
    /// let error = accepted.read_to_end(&mut Vec::new()).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn abort(&self, reason: &str) -> io::Result<()> {
        self.writing.abort(reason)
    }

    /// Whether dropping this end, or its writing half, before its `shutdown` is an abort instead of a good end: so that
    /// a task that is cancelled leaves an error to the other end. See [`wigwag::Stream`](crate::Stream#the-end).
    ///
    /// ```
    /// use tokio::io::AsyncReadExt;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// let task = tokio::spawn(async move {
    ///     connecting.set_abort_on_drop(true);
    ///     std::future::pending::<()>().await;
    ///     drop(connecting);
    /// });
    /// tokio::task::yield_now().await;
    /// task.abort();
    /// let error = accepted.read_to_end(&mut Vec::new()).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_abort_on_drop(&self, aborts: bool) {
        self.writing.set_abort_on_drop(aborts);
    }

    /// Who is at the other end.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
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
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let stream = wigwag::Stream::builder().wait(wigwag::Wait::Park).connect_async(name).await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn connect_async(self, name: impl AsRef<OsStr>) -> Result<Stream> {
        let established = shake_hands(ClientHandshake::begin(name.as_ref(), self.checked_options()?)?).await?;
        Stream::from_blocking(self.connected(established)?)
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
