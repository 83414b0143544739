//! The two halves of a stream, for two threads.

use std::fmt;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::session::peer::Peer;
use crate::stream::endpoint::Endpoint;
use crate::stream::half::Direction;
use crate::stream::reader::Reader;
use crate::stream::writer::Writer;

/// The reading half of a [`Stream`](crate::Stream). Dropping it shuts the stream for reading.
///
/// ```
/// use std::io::{BufRead, Write};
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let listener = wigwag::StreamListener::bind(name)?;
/// # let connecting = wigwag::Stream::connect(name)?;
/// # let mut accepted = listener.accept()?;
/// let (reading, _writing) = connecting.into_split()?;
/// accepted.write_all(b"one\ntwo\n")?;
/// drop(accepted);
/// let lines: Vec<String> = reading.lines().collect::<Result<_, _>>()?;
/// assert_eq!(lines, ["one", "two"]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ReadHalf {
    endpoint: Arc<Endpoint>,
    reader: Reader,
}

/// The writing half of a [`Stream`](crate::Stream). Dropping it shuts the stream for writing: the other end reads to
/// its end. Dropped by a thread that panics, or after [`set_abort_on_drop`](WriteHalf::set_abort_on_drop), it aborts
/// the stream instead, both halves of it; see [`Stream`](crate::Stream#the-end).
///
/// ```
/// use std::io::{Read, Write};
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let listener = wigwag::StreamListener::bind(name)?;
/// # let connecting = wigwag::Stream::connect(name)?;
/// # let mut accepted = listener.accept()?;
/// let (_reading, mut writing) = connecting.into_split()?;
/// writing.write_all(b"all of it")?;
/// drop(writing);
/// let mut text = String::new();
/// accepted.read_to_string(&mut text)?;
/// assert_eq!(text, "all of it");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct WriteHalf {
    endpoint: Arc<Endpoint>,
    writer: Writer,
}

impl ReadHalf {
    pub(super) fn new(endpoint: Arc<Endpoint>, reader: Reader) -> ReadHalf {
        ReadHalf { endpoint, reader }
    }

    /// Reads what is there, never waits: `None` when nothing is. `Some(0)` is the end.
    ///
    /// # Errors
    /// As [`read`](Read::read). The memory does not tell of an other end that was killed, so a call that finds nothing
    /// asks the kernel, at most once in each tick of its clock: repeated calls learn of it within some milliseconds.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (mut reading, _writing) = connecting.into_split()?;
    /// assert_eq!(reading.try_read(&mut [0; 8])?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.reader.try_read(&self.endpoint, into)
    }

    /// Whether a read would find something, the end included.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn is_readable(&mut self) -> io::Result<bool> {
        self.reader.is_readable(&self.endpoint)
    }

    /// As [`arm_read`](ReadHalf::arm_read), for a caller that a reactor wakes.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn announce_read(&mut self) -> io::Result<bool> {
        self.reader.announce(&self.endpoint)
    }

    /// What both halves share.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Shows what is there to `put`, at most `most` bytes of it.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn read_with(&mut self, most: usize, put: impl FnMut(&[u8])) -> io::Result<()> {
        self.reader.read_with(&self.endpoint, most, put)
    }

    /// Says that this half waits: from now on its descriptor becomes readable when there is something to read, the end
    /// included. `false`: something came meanwhile, so try at once. Before each wait it has to be said anew.
    ///
    /// # Errors
    /// As [`read`](Read::read), once nothing is left to be read.
    ///
    /// ```
    /// use std::io::Write;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (mut reading, _writing) = connecting.into_split()?;
    /// let mut bytes = [0; 8];
    /// # let thread = std::thread::spawn(move || accepted.write_all(b"late").map(|()| accepted));
    /// let count = loop {
    ///     match reading.try_read(&mut bytes)? {
    ///         Some(count) => break count,
    ///         None if reading.arm_read()? => {
    ///             rustix::event::poll(&mut [rustix::event::PollFd::new(&reading, rustix::event::PollFlags::IN)],
    ///                 None)?;
    ///         }
    ///         None => {}
    ///     }
    /// };
    /// assert_eq!(&bytes[..count], b"late");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn arm_read(&mut self) -> io::Result<bool> {
        self.reader.arm(&self.endpoint)
    }

    /// Gives the stream up, in both directions; see [`Stream::abort`](crate::Stream::abort).
    ///
    /// # Errors
    /// An error with [`Forked`](crate::ErrorKind::Forked) inside in a child process.
    ///
    /// ```
    /// use std::io::Write;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (reading, _writing) = connecting.into_split()?;
    /// reading.abort("what came makes no sense")?;
    /// # while !matches!(accepted.write(b"x"), Err(ref error) if error.kind() == std::io::ErrorKind::BrokenPipe) {}
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn abort(&self, reason: &str) -> io::Result<()> {
        Ok(self.endpoint.abort(reason)?)
    }

    /// How long a read waits; see [`Stream::set_read_timeout`](crate::Stream::set_read_timeout).
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (reading, _writing) = connecting.into_split()?;
    /// reading.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.endpoint.half(Direction::Reading).set_timeout(timeout)
    }

    /// Who is at the other end.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (reading, _writing) = connecting.into_split()?;
    /// assert_eq!(reading.peer(), accepted.peer());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer(&self) -> Peer {
        Peer::of(self.endpoint.peer())
    }
}

impl WriteHalf {
    pub(super) fn new(endpoint: Arc<Endpoint>, writer: Writer) -> WriteHalf {
        WriteHalf { endpoint, writer }
    }

    /// Writes as much as there is room for, never waits: `None` when there is none.
    ///
    /// # Errors
    /// As [`write`](Write::write), and as for [`try_read`](ReadHalf::try_read) of an other end that was killed.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, mut writing) = connecting.into_split()?;
    /// assert_eq!(writing.try_write(&vec![7; 4 << 20])?, Some(2 << 20));
    /// assert_eq!(writing.try_write(&[7])?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_write(&mut self, from: &[u8]) -> io::Result<Option<usize>> {
        self.writer.try_write(&self.endpoint, from)
    }

    /// As [`try_write`](WriteHalf::try_write), from several buffers.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn try_write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        self.writer.try_write_vectored(&self.endpoint, from)
    }

    /// As [`arm_write`](WriteHalf::arm_write), for a caller that a reactor wakes.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn announce_write(&mut self) -> io::Result<bool> {
        self.writer.announce(&self.endpoint)
    }

    /// Whether there is room to write to.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn is_writable(&mut self) -> io::Result<bool> {
        Ok(self.writer.try_room(&self.endpoint, 1)?.is_some())
    }

    /// Shuts the stream for writing in good order: the other end reads to its end. Dropping this half does the same,
    /// unless that was said to be an abort.
    ///
    /// # Errors
    /// An error with [`Forked`](crate::ErrorKind::Forked) inside in a child process.
    ///
    /// ```
    /// use std::io::Read;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, writing) = connecting.into_split()?;
    /// writing.set_abort_on_drop(true);
    /// writing.shutdown()?;
    /// drop(writing);
    /// assert_eq!(accepted.read(&mut [0; 8])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self) -> io::Result<()> {
        self.endpoint.check_fork()?;
        self.endpoint.shut(Direction::Writing);
        Ok(())
    }

    /// Gives the stream up, in both directions; see [`Stream::abort`](crate::Stream::abort).
    ///
    /// # Errors
    /// An error with [`Forked`](crate::ErrorKind::Forked) inside in a child process.
    ///
    /// ```
    /// use std::io::Read;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, writing) = connecting.into_split()?;
    /// writing.abort("it is not worth it")?;
    /// assert_eq!(accepted.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn abort(&self, reason: &str) -> io::Result<()> {
        Ok(self.endpoint.abort(reason)?)
    }

    /// Whether dropping this half before its [`shutdown`](WriteHalf::shutdown) is an abort; see
    /// [`Stream::set_abort_on_drop`](crate::Stream::set_abort_on_drop).
    ///
    /// ```
    /// use std::io::Read;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, writing) = connecting.into_split()?;
    /// writing.set_abort_on_drop(true);
    /// drop(writing);
    /// assert_eq!(accepted.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_abort_on_drop(&self, aborts: bool) {
        self.endpoint.set_abort_on_drop(aborts);
    }

    /// Says that this half waits: from now on its descriptor becomes readable (not writable) when there is room worth a
    /// try. `false`: some came free meanwhile, so try at once. Before each wait it has to be said anew.
    ///
    /// # Errors
    /// As [`write`](Write::write).
    ///
    /// ```
    /// use std::io::Read;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, mut writing) = connecting.into_split()?;
    /// while writing.try_write(&[7; 4096])?.is_some() {}
    /// assert!(writing.arm_write()?);
    /// accepted.read_exact(&mut vec![0; 1 << 20])?;                // half of what was written
    /// rustix::event::poll(&mut [rustix::event::PollFd::new(&writing, rustix::event::PollFlags::IN)], None)?;
    /// assert!(writing.try_write(&[7; 4096])?.is_some());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn arm_write(&mut self) -> io::Result<bool> {
        self.writer.arm(&self.endpoint)
    }

    /// Lends room; see [`Stream::write_buf`](crate::Stream::write_buf).
    ///
    /// # Errors
    /// As [`write`](Write::write).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, mut writing) = connecting.into_split()?;
    /// writing.write_buf()?[0] = b'!';
    /// writing.commit(1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_buf(&mut self) -> io::Result<&mut [u8]> {
        self.writer.lend(&self.endpoint)
    }

    /// Hands over; see [`Stream::commit`](crate::Stream::commit).
    ///
    /// # Panics
    /// If fewer were lent, or a write came in between.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, mut writing) = connecting.into_split()?;
    /// writing.write_buf()?[0] = b'!';
    /// writing.commit(1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn commit(&mut self, len: usize) {
        self.writer.commit(&self.endpoint, len);
    }

    /// How long a write waits for room; see [`Stream::set_write_timeout`](crate::Stream::set_write_timeout).
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, writing) = connecting.into_split()?;
    /// writing.set_write_timeout(Some(std::time::Duration::from_secs(1)))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.endpoint.half(Direction::Writing).set_timeout(timeout)
    }

    /// Who is at the other end.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (_reading, writing) = connecting.into_split()?;
    /// assert_eq!(writing.peer(), accepted.peer());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer(&self) -> Peer {
        Peer::of(self.endpoint.peer())
    }
}

impl Read for ReadHalf {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(&self.endpoint, into)
    }

    fn read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reader.read_vectored(&self.endpoint, into)
    }
}

impl BufRead for ReadHalf {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill(&self.endpoint)
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.reader.consume(&self.endpoint, count);
    }
}

impl Write for WriteHalf {
    #[inline]
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.writer.write(&self.endpoint, from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer.write_vectored(&self.endpoint, from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Readable when it is worth to read; see [`ReadHalf::arm_read`].
impl AsFd for ReadHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.half(Direction::Reading).poller().as_fd()
    }
}

impl AsRawFd for ReadHalf {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Readable, not writable, when it is worth to write; see [`WriteHalf::arm_write`].
impl AsFd for WriteHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.half(Direction::Writing).poller().as_fd()
    }
}

impl AsRawFd for WriteHalf {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        self.endpoint.shut(Direction::Reading);
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.endpoint.drop_writing();
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.describe(out.debug_struct("ReadHalf"))
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.describe(out.debug_struct("WriteHalf"))
    }
}
