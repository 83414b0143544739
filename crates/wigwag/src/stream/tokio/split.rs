//! The two directions of a stream, for two tasks.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use crate::error::Error;
use crate::faults::{self, Fault};
use crate::session::peer::Peer;
use crate::stream::split;
use crate::stream::tokio::stream::Stream;
use crate::stream::tokio::watch::Watch;
use crate::wait::task_waiter::{TaskWaiter, look_again};

/// The reading half of a [`Stream`](crate::stream::tokio::stream::Stream): [`AsyncRead`] and [`AsyncBufRead`]. Dropping
/// it shuts the stream for reading.
///
/// ```
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let listener = wigwag::tokio::StreamListener::bind(name)?;
/// # let connecting = wigwag::tokio::Stream::connect(name).await?;
/// # let mut accepted = listener.accept().await?;
/// let (reading, _writing) = connecting.into_split();
/// accepted.write_all(b"one\ntwo\n").await?;
/// let mut lines = reading.lines();
/// assert_eq!(lines.next_line().await?.as_deref(), Some("one"));
/// # std::io::Result::Ok(()) })?;
/// # std::io::Result::Ok(())
/// ```
pub struct ReadHalf {
    reading: split::ReadHalf,
    watch: Arc<Watch>,
    waiter: TaskWaiter,
}

/// The writing half of a [`Stream`](crate::stream::tokio::stream::Stream): [`AsyncWrite`]. Dropping it, or its
/// `shutdown`, shuts the stream for writing: the other end reads to its end. Dropped by a task that panics, or after
/// [`set_abort_on_drop`](WriteHalf::set_abort_on_drop), it aborts the stream instead; see
/// [`wigwag::Stream`](crate::Stream#the-end).
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let listener = wigwag::tokio::StreamListener::bind(name)?;
/// # let connecting = wigwag::tokio::Stream::connect(name).await?;
/// # let mut accepted = listener.accept().await?;
/// let (_reading, mut writing) = connecting.into_split();
/// writing.write_all(b"all of it").await?;
/// drop(writing);
/// let mut text = String::new();
/// accepted.read_to_string(&mut text).await?;
/// assert_eq!(text, "all of it");
/// # std::io::Result::Ok(()) })?;
/// # std::io::Result::Ok(())
/// ```
pub struct WriteHalf {
    writing: split::WriteHalf,
    watch: Arc<Watch>,
}

/// Both halves of a stream that is in no reactor.
pub(super) type Halves = (split::ReadHalf, split::WriteHalf);

/// Both halves of a stream, in the reactor; on an error they are given back.
pub(super) fn halves((reading, writing): Halves) -> std::result::Result<(ReadHalf, WriteHalf), Box<(Error, Halves)>> {
    match Watch::new(reading.endpoint()) {
        Ok(watch) => Ok((
            ReadHalf { reading, watch: Arc::clone(&watch), waiter: TaskWaiter::default() },
            WriteHalf { writing, watch },
        )),
        Err(error) => Err(Box::new((error, (reading, writing)))),
    }
}

/// Two halves that are not of one stream: what [`ReadHalf::reunite`] and [`WriteHalf::reunite`] give back.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let listener = wigwag::tokio::StreamListener::bind(name)?;
/// # let connecting = wigwag::tokio::Stream::connect(name).await?;
/// # let accepted = listener.accept().await?;
/// let (reading, _writing) = connecting.into_split();
/// let (_other_reading, other_writing) = accepted.into_split();
/// let wigwag::tokio::ReuniteError(reading, other_writing) = reading.reunite(other_writing).unwrap_err();
/// # std::io::Result::Ok(()) })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct ReuniteError(pub ReadHalf, pub WriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the two halves are of different streams: only those of one `into_split` can be reunited")
    }
}

impl std::error::Error for ReuniteError {}

impl ReadHalf {
    /// Until there is something to read, the end included.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Cooperative budget: a reader that always finds bytes must still let other tasks run.
        let budget = ready!(coop::poll_proceed(context));
        while !self.reading.is_readable()? {
            let endpoint = self.reading.endpoint();
            if !endpoint.is_over() && self.waiter.looks_again(endpoint.wait(), !endpoint.shares_processor()) {
                look_again(context);
                return Poll::Pending;
            }
            self.waiter.announced();
            self.watch.reader.register(context.waker()); // before it says that it waits
            if self.reading.announce_read()? {
                return Poll::Pending;
            }
        }
        let endpoint = self.reading.endpoint();
        self.waiter.found(|| endpoint.peer_rang_ns());
        budget.made_progress();
        Poll::Ready(Ok(()))
    }

    /// Waits until there is something to read, the end included: for a loop that waits for several things and then
    /// reads with [`try_read`](ReadHalf::try_read). A future that is dropped has read nothing.
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
    /// let (mut reading, _writing) = connecting.into_split();
    /// assert_eq!(reading.try_read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// accepted.write_all(b"ping").await?;
    /// reading.readable().await?;
    /// assert_eq!(reading.try_read(&mut [0; 8])?, 4);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn readable(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_readable(context)).await
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
    /// let (mut reading, _writing) = connecting.into_split();
    /// assert_eq!(reading.try_read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// accepted.write_all(b"ping").await?;
    /// reading.readable().await?;
    /// assert_eq!(reading.try_read(&mut [0; 8])?, 4);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        self.reading.try_read(into)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Makes one stream of the two halves again, as before [`into_split`](Stream::into_split).
    ///
    /// # Errors
    /// [`ReuniteError`] with the two halves, if they are of different streams.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// let (reading, writing) = connecting.into_split();
    /// let (other_reading, _other_writing) = accepted.into_split();
    /// let error = other_reading.reunite(writing).unwrap_err();
    /// let stream = reading.reunite(error.1).expect("the halves of one stream");
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    #[allow(clippy::result_large_err, reason = "the halves that come back are as large as the stream itself")]
    pub fn reunite(mut self, writing: WriteHalf) -> Result<Stream, ReuniteError> {
        if faults::is(Fault::LossyReunite) {
            let _ = self.try_read(&mut [0]);
        }
        if Arc::ptr_eq(&self.watch, &writing.watch) {
            Ok(Stream::of_both(self, writing))
        } else {
            Err(ReuniteError(self, writing))
        }
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
    /// let (reading, writing) = connecting.into_split();
    /// reading.abort("it is not worth it")?;
    /// let error = accepted.read_to_end(&mut Vec::new()).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn abort(&self, reason: &str) -> io::Result<()> {
        self.reading.abort(reason)
    }

    /// Who is at the other end.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let connecting = wigwag::tokio::Stream::connect(name).await?;
    /// let (reading, writing) = connecting.into_split();
    /// assert_eq!(reading.peer(), writing.peer());
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peer(&self) -> Peer {
        self.reading.peer()
    }
}

impl WriteHalf {
    /// Tries, and waits for room when there is none.
    fn poll_put(
        &mut self,
        context: &mut Context<'_>,
        mut put: impl FnMut(&mut split::WriteHalf) -> io::Result<Option<usize>>,
    ) -> Poll<io::Result<usize>> {
        let budget = ready!(coop::poll_proceed(context));
        loop {
            if let Some(count) = put(&mut self.writing)? {
                budget.made_progress();
                return Poll::Ready(Ok(count));
            }
            self.watch.writer.register(context.waker()); // before it says that it waits
            if self.writing.announce_write()? {
                return Poll::Pending;
            }
        }
    }

    /// Waits until there is room to write to. For a loop that waits for several things and then writes with
    /// [`try_write`](WriteHalf::try_write). A future that is dropped has written nothing.
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
    /// let (_reading, mut writing) = connecting.into_split();
    /// while writing.try_write(&[7; 4096]).is_ok() {} // until the ring is full
    /// accepted.readable().await?;
    /// accepted.try_read(&mut [0; 4096])?;
    /// writing.writable().await?;
    /// assert!(writing.try_write(&[7; 4096])? > 0);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn writable(&mut self) -> io::Result<()> {
        let room = |writing: &mut split::WriteHalf| Ok(writing.is_writable()?.then_some(0));
        std::future::poll_fn(|context| self.poll_put(context, room)).await.map(drop)
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
    /// let (_reading, mut writing) = connecting.into_split();
    /// while writing.try_write(&[7; 4096]).is_ok() {} // until the ring is full
    /// accepted.readable().await?;
    /// accepted.try_read(&mut [0; 4096])?;
    /// writing.writable().await?;
    /// assert!(writing.try_write(&[7; 4096])? > 0);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.writing.try_write(from)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// As [`try_write`](WriteHalf::try_write), from several buffers, in one step.
    ///
    /// # Errors
    /// As [`try_write`](WriteHalf::try_write).
    ///
    /// ```
    /// use std::io::IoSlice;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// let (_reading, mut writing) = connecting.into_split();
    /// assert_eq!(writing.try_write_vectored(&[IoSlice::new(b"pi"), IoSlice::new(b"ng")])?, 4);
    /// accepted.readable().await?;
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_write_vectored(&mut self, from: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.writing.try_write_vectored(from)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// As [`ReadHalf::reunite`], from the other half.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// let (reading, writing) = connecting.into_split();
    /// let stream = writing.reunite(reading).expect("the halves of one stream");
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    #[allow(clippy::result_large_err, reason = "the halves that come back are as large as the stream itself")]
    pub fn reunite(self, reading: ReadHalf) -> Result<Stream, ReuniteError> {
        reading.reunite(self)
    }

    /// Lends the room that there is for bytes to be written, where they will lie; waits until there is some. As
    /// [`Stream::write_buf`](crate::Stream::write_buf), with [`commit`](WriteHalf::commit) to hand over.
    ///
    /// # Errors
    /// As writing: [`BrokenPipe`](io::ErrorKind::BrokenPipe) once nobody reads.
    ///
    /// ```
    /// use tokio::io::AsyncReadExt;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// let (_reading, mut writing) = connecting.into_split();
    /// writing.write_buf().await?[..5].copy_from_slice(b"hello");
    /// writing.commit(5);
    /// let mut text = [0; 5];
    /// accepted.read_exact(&mut text).await?;
    /// assert_eq!(&text, b"hello");
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn write_buf(&mut self) -> io::Result<&mut [u8]> {
        std::future::poll_fn(|context| self.poll_put(context, |writing| Ok(writing.is_writable()?.then_some(0))))
            .await?;
        self.writing.write_buf()
    }

    /// Hands over the first `len` bytes of what [`write_buf`](WriteHalf::write_buf) lent last.
    ///
    /// # Panics
    /// If fewer were lent, or a write came in between.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let connecting = wigwag::tokio::Stream::connect(name).await?;
    /// let (_reading, mut writing) = connecting.into_split();
    /// writing.write_buf().await?[0] = b'!';
    /// writing.commit(1);
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
    /// let (reading, writing) = connecting.into_split();
    /// writing.abort("it is not worth it")?;
    /// let error = accepted.read_to_end(&mut Vec::new()).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn abort(&self, reason: &str) -> io::Result<()> {
        self.writing.abort(reason)
    }

    /// Whether dropping this half before its `shutdown` is an abort; see
    /// [`Stream::set_abort_on_drop`](crate::stream::tokio::stream::Stream::set_abort_on_drop).
    ///
    /// ```
    /// use tokio::io::AsyncReadExt;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let listener = wigwag::tokio::StreamListener::bind(name)?;
    /// # let mut connecting = wigwag::tokio::Stream::connect(name).await?;
    /// # let mut accepted = listener.accept().await?;
    /// let (_reading, writing) = connecting.into_split();
    /// writing.set_abort_on_drop(true);
    /// drop(writing);
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
    /// let (_reading, writing) = connecting.into_split();
    /// assert_eq!(writing.peer().pid, std::process::id() as i32);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peer(&self) -> Peer {
        self.writing.peer()
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if into.remaining() > 0 {
            ready!(self.poll_readable(context))?;
            let most = into.remaining();
            self.reading.read_with(most, |bytes| into.put_slice(bytes))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for ReadHalf {
    fn poll_fill_buf(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        ready!(self.poll_readable(context))?;
        Poll::Ready(io::BufRead::fill_buf(&mut self.get_mut().reading))
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        io::BufRead::consume(&mut self.reading, count);
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_put(context, |writing| writing.try_write(from))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_put(context, |writing| writing.try_write_vectored(from))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // what is written is with the other end at once
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.writing.shutdown())
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reading.fmt(out)
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writing.fmt(out)
    }
}
