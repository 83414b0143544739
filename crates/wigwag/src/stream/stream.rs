//! A byte stream between two processes: the interface of `std::os::unix::net::UnixStream` over shared memory.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::options::ConnectOptions;
use crate::session::peer::Peer;
use crate::stream::endpoint::Endpoint;
use crate::stream::half::Direction;
use crate::sync;

use crate::stream::reader::Reader;
use crate::stream::split::{ReadHalf, WriteHalf};
use crate::stream::stream_builder::StreamBuilder;
use crate::stream::writer::Writer;

/// One end of a byte stream between two processes: bytes both ways, in order, without their borders, as through a
/// socket.
///
/// It has the shape of [`UnixStream`](std::os::unix::net::UnixStream): [`Read`], [`Write`], also for `&Stream`, so that
/// one thread may read while another writes; [`shutdown`](Stream::shutdown) for one direction or both; timeouts; a
/// non-blocking mode with one descriptor to poll. What a socket cannot do: [`BufRead`] lends the bytes where they lie
/// in the shared memory, and [`write_buf`](Stream::write_buf) lends the room for those to be written, so nothing is
/// copied at all.
///
/// ```
/// use std::io::{Read, Write};
///
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let listener = wigwag::StreamListener::bind(name)?;
/// let mut client = wigwag::Stream::connect(name)?;
/// let mut server = listener.accept()?;
/// client.write_all(b"hello")?;
/// client.shutdown(std::net::Shutdown::Write)?;     // the other end reads to its end
/// let mut text = String::new();
/// server.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # The end
/// Reading ends with 0 bytes when the other end has shut its writing, or was dropped, and all that it wrote was read.
/// That is a good end. Everything else is none: what was written before can still be read, and then comes an error of
/// the kind [`ConnectionReset`](io::ErrorKind::ConnectionReset). Which is which:
///
/// | the other end | the reader gets, after the bytes | inside of the error |
/// |---|---|---|
/// | [`shutdown`](Stream::shutdown) for writing | the end | |
/// | dropped: also by an early return, or as the future of a task that was cancelled | the end | |
/// | dropped so after [`set_abort_on_drop`](Stream::set_abort_on_drop) | `ConnectionReset` | [`Aborted`](crate::ErrorKind::Aborted) |
/// | dropped by a thread that is unwinding from a panic | `ConnectionReset` | [`Aborted`](crate::ErrorKind::Aborted) |
/// | [`abort`](Stream::abort) | `ConnectionReset` | [`Aborted`](crate::ErrorKind::Aborted), with its reason |
/// | killed, `std::process::exit`, a crash | `ConnectionReset` | [`PeerDied`](crate::ErrorKind::PeerDied) |
///
/// A dropped stream ends well because everything that runs over sockets expects that. Where a protocol always ends by
/// `shutdown`, `set_abort_on_drop` makes each other way an error, also the early return and the cancelled task. A
/// stream that outlives the unwinding, because the panic was caught below its owner (`catch_unwind`) or it is shared
/// (`Arc`), is not dropped by the panic: that, too, is what `set_abort_on_drop` is for.
///
/// Writing fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe) once the other end has shut its reading, is gone or
/// aborted; it is noticed when the ring is full, and otherwise within 64 writes. Inside of these errors is an
/// [`Error`](crate::Error) that says more.
///
/// # Waiting
/// By default both ends spin while the other is nearer than a wake-up is long, and sleep otherwise; see
/// [`Wait`](crate::Wait).
pub struct Stream {
    endpoint: Arc<Endpoint>,
    reader: Mutex<Reader>,
    writer: Mutex<Writer>,
}

impl Stream {
    /// Connects to a [`StreamListener`](crate::StreamListener) of the same user. It need not have accepted yet.
    ///
    /// A name is looked for in the user's runtime directory; a path that begins with `/`, `./` or `../` is taken as it
    /// is.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect): [`NotRunning`](crate::ErrorKind::NotRunning),
    /// [`Refused`](crate::ErrorKind::Refused) when too many wait to be accepted, ...
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let error = wigwag::Stream::connect(name).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<Stream> {
        Stream::builder().connect(name)
    }

    /// A stream with options.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// let stream = wigwag::Stream::builder().ring_bytes(16 << 10).connect(name)?;
    /// assert_eq!(stream.ring_bytes(), 16 << 10);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> StreamBuilder {
        ConnectOptions::default().into()
    }

    pub(crate) fn new(endpoint: Endpoint) -> Stream {
        let (reader, writer) = (Reader::new(&endpoint), Writer::new(&endpoint));
        Stream { endpoint: Arc::new(endpoint), reader: Mutex::new(reader), writer: Mutex::new(writer) }
    }

    /// Two halves of their own, for two threads. Each has its own descriptor; dropping one shuts its direction.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system refuses to watch for the second thread; the stream is closed then.
    /// [`Forked`](crate::ErrorKind::Forked) in a child process.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (mut reading, mut writing) = connecting.into_split()?;
    /// let thread = std::thread::spawn(move || { let mut text = String::new(); reading.read_to_string(&mut text)
    ///     .map(|_| text) });
    /// writing.write_all(b"ping")?;
    /// accepted.read_exact(&mut [0; 4])?;
    /// accepted.write_all(b"pong")?;
    /// drop(accepted);
    /// assert_eq!(thread.join().unwrap()?, "pong");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_split(self) -> Result<(ReadHalf, WriteHalf)> {
        self.endpoint.split()?;
        Ok(self.into_halves())
    }

    /// Two halves without descriptors of their own, for a caller that waits elsewhere.
    pub(crate) fn into_halves(self) -> (ReadHalf, WriteHalf) {
        let reader = self.reader.into_inner().unwrap_or_else(PoisonError::into_inner);
        let writer = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        (ReadHalf::new(Arc::clone(&self.endpoint), reader), WriteHalf::new(self.endpoint, writer))
    }

    /// Lends the room that there is for bytes to be written, where they will lie; waits until there is some. The other
    /// end gets them with [`commit`](Stream::commit). The bytes lent are old ones: any that were there before.
    ///
    /// For a peer of another user the room is private memory, at most 16 KiB, and the commit copies.
    ///
    /// # Errors
    /// As [`write`](Write::write).
    ///
    /// ```
    /// use std::io::BufRead;
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let mut connecting = connecting;
    /// let room = connecting.write_buf()?;
    /// room[..5].copy_from_slice(b"hello");           // or build the bytes right there
    /// connecting.commit(5);
    /// assert_eq!(accepted.fill_buf()?, b"hello");    // the same memory
    /// accepted.consume(5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_buf(&mut self) -> io::Result<&mut [u8]> {
        let Stream { endpoint, writer, .. } = self;
        sync::get_mut(writer).lend(endpoint)
    }

    /// Hands over the first `len` bytes of what [`write_buf`](Stream::write_buf) lent last. What is beyond is not lent
    /// any more.
    ///
    /// # Panics
    /// If fewer were lent, or a write came in between.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let mut connecting = connecting;
    /// connecting.write_buf()?[0] = b'!';
    /// connecting.commit(1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn commit(&mut self, len: usize) {
        let Stream { endpoint, writer, .. } = self;
        sync::get_mut(writer).commit(endpoint, len);
    }

    /// Shuts reading, writing or both. The other end reads to its end, or gets a broken pipe when it writes; threads of
    /// this end that wait return. Any number of times. It never waits, whether the ring is full or the other end
    /// stopped: what was written before is read when the other end comes to it. After an [`abort`](Stream::abort) it
    /// changes nothing.
    ///
    /// # Errors
    /// An error with [`Forked`](crate::ErrorKind::Forked) inside in a child process.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// connecting.shutdown(std::net::Shutdown::Both)?;
    /// assert_eq!(accepted.read(&mut [0; 8])?, 0);
    /// assert_eq!(accepted.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if self.endpoint.is_forked() {
            return Err(Error::forked().into());
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.endpoint.shut(Direction::Writing);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.endpoint.shut(Direction::Reading);
        }
        Ok(())
    }

    /// Gives the stream up, in both directions: it has no good end any more. The other end reads what was written
    /// before, and then gets [`ConnectionReset`](io::ErrorKind::ConnectionReset) with this reason (at most 2 KiB of it,
    /// control characters as spaces) in an [`Error`](crate::Error) of the kind [`Aborted`](crate::ErrorKind::Aborted);
    /// when it writes, [`BrokenPipe`](io::ErrorKind::BrokenPipe) with the same inside. Calls of this end fail with
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) from then on, those that wait in other threads included.
    ///
    /// A direction that was [shut](Stream::shutdown) before keeps its good end.
    ///
    /// # Errors
    /// An error with [`Forked`](crate::ErrorKind::Forked) inside in a child process.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let mut connecting = connecting;
    /// connecting.write_all(b"half of")?;
    /// connecting.abort("the source could not be read")?;
    /// let mut text = Vec::new();
    /// let error = accepted.read_to_end(&mut text).unwrap_err();
    /// assert_eq!(text, b"half of");
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// assert!(error.to_string().contains("the source could not be read"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn abort(&self, reason: &str) -> io::Result<()> {
        Ok(self.endpoint.abort(reason)?)
    }

    /// Whether dropping this end, or its writing half, before its writing was [shut](Stream::shutdown) is an
    /// [`abort`](Stream::abort) instead of a good end: for protocols that always end by a shutdown. Off unless it is
    /// said.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// fn send(mut stream: wigwag::Stream, text: &str) -> std::io::Result<()> {
    ///     stream.set_abort_on_drop(true);
    ///     stream.write_all(text.as_bytes())?;                   // returns early: an error at the other end
    ///     let number: u32 = text.parse().map_err(std::io::Error::other)?;    // so does this
    ///     stream.write_all(&number.to_le_bytes())?;
    ///     stream.shutdown(std::net::Shutdown::Write)            // and this is the good end
    /// }
    /// send(connecting, "no number").unwrap_err();
    /// let error = accepted.read_to_end(&mut Vec::new()).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_abort_on_drop(&self, aborts: bool) {
        self.endpoint.set_abort_on_drop(aborts);
    }

    /// How long a read waits; for ever without.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// use std::io::Read;
    /// accepted.set_read_timeout(Some(std::time::Duration::from_millis(5)))?;
    /// assert_eq!(accepted.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.endpoint.half(Direction::Reading).set_timeout(timeout)
    }

    /// How long a write waits for room; for ever without.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// accepted.set_write_timeout(Some(std::time::Duration::from_secs(1)))?;
    /// assert_eq!(accepted.write_timeout(), Some(std::time::Duration::from_secs(1)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.endpoint.half(Direction::Writing).set_timeout(timeout)
    }

    /// How long a read waits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// assert_eq!(accepted.read_timeout(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_timeout(&self) -> Option<Duration> {
        self.endpoint.half(Direction::Reading).timeout()
    }

    /// How long a write waits.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// assert_eq!(accepted.write_timeout(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_timeout(&self) -> Option<Duration> {
        self.endpoint.half(Direction::Writing).timeout()
    }

    /// Whether reads and writes return [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting.
    ///
    /// After a WouldBlock the stream's descriptor ([`AsFd`]) becomes readable once it is worth to try again, in
    /// whichever direction that was: poll it for reading, then try everything that would have blocked, until it does
    /// again. Nothing is read from the descriptor itself. It may be ready without cause. Two threads that poll take the
    /// two halves of [`split`](Stream::into_split), each of which has its own descriptor.
    ///
    /// # Errors
    /// None so far.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// use std::io::{Read, Write};
    /// # let mut connecting = connecting;
    /// accepted.set_nonblocking(true)?;
    /// assert_eq!(accepted.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// connecting.write_all(b"now")?;
    /// rustix::event::poll(&mut [rustix::event::PollFd::new(&accepted, rustix::event::PollFlags::IN)], None)?;
    /// assert_eq!(accepted.read(&mut [0; 8])?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.endpoint.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Who is at the other end.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// assert_eq!(accepted.peer().uid, connecting.peer().uid);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer(&self) -> Peer {
        Peer::of(self.endpoint.peer())
    }

    /// How many bytes can be under way in each direction.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// assert_eq!(accepted.ring_bytes(), 2 << 20);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ring_bytes(&self) -> usize {
        self.endpoint.ring_bytes()
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        sync::lock(&self.reader)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        sync::lock(&self.writer)
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        sync::get_mut(&mut self.reader).read(&self.endpoint, into)
    }

    fn read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        sync::get_mut(&mut self.reader).read_vectored(&self.endpoint, into)
    }
}

impl BufRead for Stream {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        sync::get_mut(&mut self.reader).fill(&self.endpoint)
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        sync::get_mut(&mut self.reader).consume(&self.endpoint, count);
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        sync::get_mut(&mut self.writer).write(&self.endpoint, from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        sync::get_mut(&mut self.writer).write_vectored(&self.endpoint, from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One thread at a time reads, and one writes; others wait for it.
impl Read for &Stream {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader().read(&self.endpoint, into)
    }

    fn read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reader().read_vectored(&self.endpoint, into)
    }
}

/// One thread at a time reads, and one writes; others wait for it.
impl Write for &Stream {
    #[inline]
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.writer().write(&self.endpoint, from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer().write_vectored(&self.endpoint, from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The descriptor to poll, see [`set_nonblocking`](Stream::set_nonblocking). Reading from it or writing to it is not
/// possible.
impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.half(Direction::Reading).poller().as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.describe(out.debug_struct("Stream"))
    }
}
