//! A byte stream between two processes: the face of `std::os::unix::net::UnixStream` over shared memory.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::link::{Direction, Link};
use crate::request::Peer;

mod builder;
mod halves;
mod reader;
mod writer;

pub use builder::StreamBuilder;
pub(crate) use builder::check_ring;
pub use halves::{ReadHalf, WriteHalf};
use reader::Reader;
use writer::Writer;

/// One end of a byte stream between two processes: bytes both ways, in order, without their borders, as through a socket.
///
/// It has the shape of [`UnixStream`](std::os::unix::net::UnixStream): [`Read`], [`Write`], also for `&Stream`, so that one
/// thread may read while another writes; [`shutdown`](Stream::shutdown) for one direction or both; timeouts; a non-blocking
/// mode with one descriptor to poll. What a socket cannot do: [`BufRead`] lends the bytes where they lie in the shared
/// memory, and [`write_buf`](Stream::write_buf) lends the room for those to be written, so nothing is copied at all.
///
/// ```
/// use std::io::{Read, Write};
///
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
/// Reading ends with 0 bytes when the other end has shut its writing, or was dropped, and all that it wrote was read. When its
/// process was killed, or exits without dropping the stream, what it wrote can still be read; then comes an error of the kind
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset), never an end that looks like a good one. Writing fails with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe) once the other end has shut its reading or is gone; it is noticed when the
/// ring is full, and otherwise within 64 writes. Inside of these errors is an [`Error`](crate::Error) that says more.
///
/// # Waiting
/// By default both ends spin while the other is nearer than a wake-up is long, and sleep otherwise; see [`Wait`](crate::Wait).
pub struct Stream {
    link: Arc<Link>,
    reader: Mutex<Reader>,
    writer: Mutex<Writer>,
}

impl Stream {
    /// Connects to a [`StreamListener`](crate::StreamListener) of the same user. It need not have accepted yet.
    ///
    /// A name is looked for in the user's runtime directory; a path that begins with `/`, `./` or `../` is taken as it is.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect): [`NotRunning`](crate::ErrorKind::NotRunning),
    /// [`Refused`](crate::ErrorKind::Refused) when too many wait to be accepted, ...
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// let error = wigwag::Stream::connect(name).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<Stream> {
        Stream::builder().connect(name)
    }

    /// A stream with wishes of its own.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// let listener = wigwag::StreamListener::bind(name)?;
    /// let stream = wigwag::Stream::builder().ring_bytes(16 << 10).connect(name)?;
    /// assert_eq!(stream.ring_bytes(), 16 << 10);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> StreamBuilder {
        StreamBuilder::new()
    }

    pub(crate) fn new(link: Link) -> Stream {
        let (reader, writer) = (Reader::new(&link), Writer::new(&link));
        Stream { link: Arc::new(link), reader: Mutex::new(reader), writer: Mutex::new(writer) }
    }

    /// Two halves of their own, for two threads. Each has its own descriptor; dropping one shuts its direction.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system refuses to watch for the second thread; the stream is closed then.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let (mut reading, mut writing) = connecting.split()?;
    /// let thread = std::thread::spawn(move || { let mut text = String::new(); reading.read_to_string(&mut text).map(|_| text) });
    /// writing.write_all(b"ping")?;
    /// accepted.read_exact(&mut [0; 4])?;
    /// accepted.write_all(b"pong")?;
    /// drop(accepted);
    /// assert_eq!(thread.join().unwrap()?, "pong");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn split(self) -> Result<(ReadHalf, WriteHalf)> {
        self.link.split()?;
        Ok(self.into_halves())
    }

    /// Two halves that have no descriptors of their own: for who waits elsewhere.
    pub(crate) fn into_halves(self) -> (ReadHalf, WriteHalf) {
        let reader = self.reader.into_inner().unwrap_or_else(PoisonError::into_inner);
        let writer = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        (ReadHalf::new(Arc::clone(&self.link), reader), WriteHalf::new(self.link, writer))
    }

    /// Lends the room that there is for bytes to be written, where they will lie; waits until there is some. The other end gets
    /// them with [`commit`](Stream::commit). The bytes lent are old ones: any that were there before.
    ///
    /// For a peer of another user the room is private memory, at most 16 KiB, and the commit copies.
    ///
    /// # Errors
    /// As [`write`](Write::write).
    ///
    /// ```
    /// use std::io::BufRead;
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
        let Stream { link, writer, .. } = self;
        writer.get_mut().unwrap_or_else(PoisonError::into_inner).lend(link)
    }

    /// Hands over the first `len` bytes of what [`write_buf`](Stream::write_buf) lent last. What is beyond is not lent any more.
    ///
    /// # Panics
    /// If fewer were lent, or a write came in between.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// let mut connecting = connecting;
    /// connecting.write_buf()?[0] = b'!';
    /// connecting.commit(1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn commit(&mut self, len: usize) {
        let Stream { link, writer, .. } = self;
        writer.get_mut().unwrap_or_else(PoisonError::into_inner).commit(link, len);
    }

    /// Shuts reading, writing or both. The other end reads to its end, or gets a broken pipe when it writes; threads of this
    /// end that wait return. Any number of times.
    ///
    /// # Errors
    /// An error with [`Forked`](crate::ErrorKind::Forked) inside in a child process.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// connecting.shutdown(std::net::Shutdown::Both)?;
    /// assert_eq!(accepted.read(&mut [0; 8])?, 0);
    /// assert_eq!(accepted.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if self.link.is_forked() {
            return Err(Error::forked().into());
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.link.shut(Direction::Writing);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.link.shut(Direction::Reading);
        }
        Ok(())
    }

    /// How long a read waits; for ever without.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// use std::io::Read;
    /// accepted.set_read_timeout(Some(std::time::Duration::from_millis(5)))?;
    /// assert_eq!(accepted.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.link.set_timeout(Direction::Reading, timeout)
    }

    /// How long a write waits for room; for ever without.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// accepted.set_write_timeout(Some(std::time::Duration::from_secs(1)))?;
    /// assert_eq!(accepted.write_timeout(), Some(std::time::Duration::from_secs(1)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.link.set_timeout(Direction::Writing, timeout)
    }

    /// How long a read waits.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// assert_eq!(accepted.read_timeout(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_timeout(&self) -> Option<Duration> {
        self.link.timeout(Direction::Reading)
    }

    /// How long a write waits.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// assert_eq!(accepted.write_timeout(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_timeout(&self) -> Option<Duration> {
        self.link.timeout(Direction::Writing)
    }

    /// Whether reads and writes return [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting.
    ///
    /// After a WouldBlock the stream's descriptor ([`AsFd`]) becomes readable once it is worth to try again, in whichever
    /// direction that was: poll it for reading, then try everything that would have blocked, until it does again. Nothing
    /// is read from the descriptor itself. It may be ready without cause. Two threads that poll take the two halves of
    /// [`split`](Stream::split), each of which has its own descriptor.
    ///
    /// # Errors
    /// None so far.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
        self.link.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Who is at the other end.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// assert_eq!(accepted.peer().uid, connecting.peer().uid);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer(&self) -> Peer {
        Peer::of(self.link.peer())
    }

    /// How many bytes can be under way in each direction.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
    /// # let listener = wigwag::StreamListener::bind(name)?;
    /// # let connecting = wigwag::Stream::connect(name)?;
    /// # let mut accepted = listener.accept()?;
    /// assert_eq!(accepted.ring_bytes(), 2 << 20);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ring_bytes(&self) -> usize {
        self.link.ring_bytes()
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).read(&self.link, into)
    }

    fn read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).read_vectored(&self.link, into)
    }
}

impl BufRead for Stream {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).fill(&self.link)
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).consume(&self.link, count);
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).write(&self.link, from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).write_vectored(&self.link, from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One thread at a time reads, and one writes; others wait for it.
impl Read for &Stream {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader().read(&self.link, into)
    }

    fn read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reader().read_vectored(&self.link, into)
    }
}

/// One thread at a time reads, and one writes; others wait for it.
impl Write for &Stream {
    #[inline]
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.writer().write(&self.link, from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer().write_vectored(&self.link, from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The descriptor to poll, see [`set_nonblocking`](Stream::set_nonblocking). Reading from it or writing to it is not possible.
impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.poller(Direction::Reading).as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.describe(out.debug_struct("Stream"))
    }
}
