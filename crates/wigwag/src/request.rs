//! The server's view of one call: the client's bytes where they lie, and the way to answer.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use crate::control::policy::Trust;
use crate::error::{Error, ErrorKind, Result};
use crate::hint;
use crate::layout::{ERROR_TEXT_CAPACITY, Head, INLINE_CAPACITY, Kind};
use crate::planted::{self, Fault};
use crate::private_copy::PrivateCopy;
use crate::segment::Line;
use crate::session::Session;
use crate::slot;
use crate::statistics::KeptEntry;
use crate::sync::Ordering;
use crate::sys::clock;
use crate::sys::socket::Credentials;

/// One request, to be changed in place and answered.
///
/// It dereferences to the payload: the client's own bytes where they lie when the client is of the same user, a private
/// copy that is handed back at the reply otherwise. The same handler serves both.
///
/// In [`Server::serve`](crate::Server::serve) the handler gets `&mut Request`, and its return answers. From
/// [`Server::recv`](crate::Server::recv) it comes owned and may move to another thread, to be answered later with
/// [`reply`](Request::reply) or [`fail`](Request::fail); dropped without either, the client gets
/// [`ErrorKind::Unanswered`](crate::ErrorKind::Unanswered). If the client dies first, answering does nothing.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("upper"); let name = &name;
/// let mut server = wigwag::Server::bind(name)?;
/// let client = std::thread::spawn({
///     let name = name.clone();
///     move || wigwag::Client::connect(name)?.call(b"hello").map(|reply| reply.to_vec())
/// });
/// let mut request = server.recv()?;
/// request.make_ascii_uppercase();
/// request.reply();
/// assert_eq!(client.join().unwrap()?, b"HELLO");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Request {
    session: Arc<Session>,
    /// **Invariant Q1.** While `open`, the slot's turn is the server's, this is the only `Request` for it, and `data`
    /// points to `len` bytes that nobody else touches: the slot's payload (same user), or `copy`'s memory (others).
    data: NonNull<u8>,
    len: usize,
    /// The slot's line in the session's segment (Q1); meaningless while closed.
    line: NonNull<Line>,
    slot: usize,
    sequence: u64,
    in_body: bool,
    has_deadline: bool,
    open: bool,
    /// Private copy for a client of another user, kept from request to request.
    copy: PrivateCopy,
    /// Once it is out of its thread's hands: what observers see of it, and how long it was.
    kept: Option<Kept>,
}

struct Kept {
    bytes_in: usize,
    _entry: Option<KeptEntry>,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The turn was passed: there was a request to answer.
    pub passed: bool,
    /// The client had to be woken.
    pub rang: bool,
    /// The reply says that the handler failed, or panicked, or dropped the request.
    pub failed: bool,
    /// Bytes of the reply.
    pub len: u32,
}

impl Answered {
    const NOTHING: Answered = Answered { passed: false, rang: false, failed: false, len: 0 };
}

// SAFETY: the memory belongs to the session, which is Send and Sync; by Q1 nobody else uses the same bytes.
unsafe impl Send for Request {}
// SAFETY: `&Request` gives out `&[u8]` of bytes that nobody writes to while it lives (Q1), and atomics.
unsafe impl Sync for Request {}

/// Who sent a request.
///
/// ```no_run
/// # let mut server = wigwag::Server::bind("example")?;
/// server.serve(|request| println!("user {}", request.peer().uid))?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Effective user when it connected.
    pub uid: u32,
    /// Effective group when it connected.
    pub gid: u32,
    /// Process id in the server's namespace, 0 if it has none there. For people to read; it may be reused by now.
    pub pid: i32,
}

impl Peer {
    pub(crate) fn of(peer: Credentials) -> Peer {
        let Credentials { uid, gid, pid } = peer;
        Peer { uid, gid, pid }
    }
}

impl Request {
    /// A request that stands for nothing yet; [`Request::open`] makes it one.
    pub(crate) fn closed(session: Arc<Session>) -> Request {
        Request {
            session,
            data: NonNull::dangling(),
            len: 0,
            line: NonNull::dangling(),
            slot: 0,
            sequence: 0,
            in_body: false,
            has_deadline: false,
            open: false,
            copy: PrivateCopy::new(),
            kept: None,
        }
    }

    /// Takes a slot whose turn word said "server" with a new `sequence`, and whose head was checked with [`Head::fits`].
    /// `false` when it could not be, and has been answered with an error.
    #[inline(always)]
    pub(crate) fn open(&mut self, slot: usize, line: &Line, sequence: u64, head: Head) -> bool {
        debug_assert!(!self.open);
        self.line = NonNull::from(line);
        self.slot = slot;
        self.sequence = sequence;
        self.len = head.len as usize;
        self.in_body = head.in_body;
        self.has_deadline = head.has_deadline;
        self.open = true;
        match self.session.trust {
            Trust::SameUser => {
                self.data = if head.in_body { self.session.segment.body(slot) } else { line.inline() };
                if head.in_body {
                    hint::arrived(self);
                }
                true
            }
            Trust::Stranger => self.copy_out(head),
        }
    }

    /// Copies the payload of a client of another user. `false` when that failed, and the request has been answered so.
    #[cold]
    fn copy_out(&mut self, head: Head) -> bool {
        if let Err(why) = self.copy.take(&self.session.segment, self.session.memory.as_ref(), self.slot, head) {
            self.answer_with_text(Kind::Failed, &format!("the server {why} the request"));
            return false;
        }
        self.data = NonNull::from(self.copy.bytes_mut()).cast();
        true
    }

    /// Whether it has not been answered yet.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether it came from a client of another user.
    pub(crate) fn is_of_stranger(&self) -> bool {
        self.session.trust == Trust::Stranger
    }

    /// The session it came from.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The most bytes a reply may have.
    ///
    /// ```no_run
    /// # let mut server = wigwag::Server::bind("example")?;
    /// let request = server.recv()?;
    /// assert!(request.len() <= request.capacity());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.session.segment.geometry().capacity
    }

    /// Makes the reply longer or shorter than the request. What was there stays; what is added is zero.
    ///
    /// # Errors
    /// [`CapacityExceeded`](crate::ErrorKind::CapacityExceeded) beyond [`capacity`](Request::capacity); nothing has changed then.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("twice"); let name = &name;
    /// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
    /// # let client = wigwag::Client::connect(name)?;
    /// # let thread = std::thread::spawn(move ||
    /// server.serve(|request| {
    ///     let len = request.len();
    ///     request.resize(2 * len)?;
    ///     request.copy_within(..len, len);
    ///     Ok::<(), wigwag::Error>(())
    /// })
    /// # );
    /// # assert_eq!(&client.call(b"abc")?[..], b"abcabc"); stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn resize(&mut self, len: usize) -> Result<()> {
        if len > self.capacity() {
            return Err(Error::capacity(len, self.capacity()));
        }
        let old = self.len;
        match self.session.trust {
            Trust::Stranger => {
                if !self.copy.resize(len) {
                    return Err(Error::new(ErrorKind::Io, format!("there is no memory for a reply of {len} bytes")));
                }
                self.data = NonNull::from(self.copy.bytes_mut()).cast();
            }
            Trust::SameUser => {
                if len > INLINE_CAPACITY && !self.in_body {
                    let body = self.session.segment.body(self.slot);
                    // SAFETY: by Q1 both the inline part and the body of the slot are ours; they do not overlap (G1), and
                    // `old` bytes fit into either.
                    unsafe { body.copy_from_nonoverlapping(self.data, old) };
                    self.in_body = true;
                    self.data = body;
                }
                if len > old {
                    // SAFETY: `old..len` lies within the payload's room, checked above, and is ours (Q1).
                    unsafe { self.data.add(old).write_bytes(0, len - old) };
                }
            }
        }
        self.len = len;
        Ok(())
    }

    /// Makes `bytes` the reply.
    ///
    /// # Errors
    /// [`CapacityExceeded`](crate::ErrorKind::CapacityExceeded); nothing has changed then.
    ///
    /// ```no_run
    /// # let mut server = wigwag::Server::bind("example")?;
    /// server.serve(|request| request.set_reply(b"any bytes up to the capacity"))?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn set_reply(&mut self, bytes: &[u8]) -> Result<()> {
        self.resize(bytes.len())?;
        self.copy_from_slice(bytes);
        Ok(())
    }

    /// When the client stops waiting, if it said so.
    ///
    /// ```no_run
    /// # let mut server = wigwag::Server::bind("example")?;
    /// server.serve(|request| match request.deadline() {
    ///     Some(at) if at < std::time::Instant::now() => Err("nobody waits for this any more"),
    ///     _ => Ok(()),
    /// })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        // Relaxed: ordered by the turn. Any number is a valid deadline.
        (self.has_deadline && !self.is_inherited())
            .then(|| clock::ns_to_instant(self.session.segment.deadline(self.slot).load(Ordering::Relaxed)))
    }

    /// Whether the client has given the call up, so that work on it is wasted. It looks at shared memory each time.
    ///
    /// ```no_run
    /// # let mut server = wigwag::Server::bind("example")?;
    /// server.serve(|request| {
    ///     for part in 0..1000 {
    ///         if request.is_abandoned() { return; }
    ///         // ... one part of a long work
    ///     }
    /// })?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_abandoned(&self) -> bool {
        self.open && !self.is_inherited() && slot::load(&self.line().turn).is_abandoned()
    }

    /// Who sent it.
    ///
    /// ```no_run
    /// # let mut server = wigwag::Server::bind("example")?;
    /// let uid = server.recv()?.peer().uid;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn peer(&self) -> Peer {
        let peer = self.session.peer;
        Peer::of(peer)
    }

    /// Answers: the payload as it is now is the reply.
    ///
    /// ```no_run
    /// # let mut server = wigwag::Server::bind("echo")?;
    /// loop { server.recv()?.reply(); }
    /// # #[allow(unreachable_code)] Ok::<(), wigwag::Error>(())
    /// ```
    pub fn reply(mut self) {
        let answered = self.answer();
        self.count(answered);
    }

    /// Answers with an error; the client gets [`HandlerFailed`](crate::ErrorKind::HandlerFailed) with the text, cut at 1,024 bytes.
    ///
    /// ```no_run
    /// # let mut server = wigwag::Server::bind("never")?;
    /// server.recv()?.fail("not today");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn fail(mut self, why: impl fmt::Display) {
        let answered = self.answer_with_text(Kind::Failed, &why.to_string());
        self.count(answered);
    }

    /// The request leaves the thread that found it, to be answered later. `since_ns`: when it came, or a little earlier.
    #[cold]
    pub(crate) fn keep(&mut self, since_ns: u64) {
        let record = &self.session.record;
        record.counters().kept.taken.add_shared(1);
        self.kept = Some(Kept { bytes_in: self.len, _entry: record.keep(self.slot, since_ns) });
    }

    /// Counts an answer that was not given by the thread that found the request.
    pub(crate) fn count(&mut self, answered: Answered) {
        if !answered.passed {
            return;
        }
        let kept = &self.session.record.counters().kept;
        let bytes_in = match self.kept.take() {
            Some(kept) => kept.bytes_in,
            None => {
                kept.taken.add_shared(1); // a handler swapped it for another one, to keep it
                0
            }
        };
        kept.calls.add_shared(1);
        kept.bytes_in.add_shared(bytes_in as u64);
        kept.bytes_out.add_shared(answered.len.into());
        kept.failed.add_shared(answered.failed.into());
        kept.rung.add_shared(answered.rang.into());
    }

    /// The slot it lies in.
    #[inline(always)]
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Passes the turn back with the payload as the reply. Returns whether a doorbell was rung.
    #[inline(always)]
    pub(crate) fn answer(&mut self) -> Answered {
        if !self.open || self.is_inherited() {
            return Answered::NOTHING;
        }
        if self.session.trust == Trust::Stranger {
            self.copy_in();
        } else if self.in_body {
            hint::written(self);
        }
        self.pass(Kind::Reply)
    }

    /// The slot's line; only of a request that is or was just open.
    #[inline(always)]
    fn line(&self) -> &Line {
        // SAFETY: set by `open` to a line of the session's segment, which `self.session` keeps mapped; only atomics are
        // touched through it. Callers have seen `open`.
        unsafe { self.line.as_ref() }
    }

    /// Whether this is a child process that inherited the request, but not its memory.
    #[inline(always)]
    fn is_inherited(&self) -> bool {
        self.session.segment.is_forked()
    }

    #[cold]
    fn copy_in(&mut self) {
        self.in_body = self.len > INLINE_CAPACITY;
        self.session.segment.copy_in(self.slot, self.in_body, self.copy.bytes());
    }

    /// Passes the turn back with a text instead of a reply.
    #[cold]
    pub(crate) fn answer_with_text(&mut self, kind: Kind, text: &str) -> Answered {
        if !self.open || self.is_inherited() {
            return Answered::NOTHING;
        }
        let text = &text.as_bytes()[..text.floor_char_boundary(ERROR_TEXT_CAPACITY)];
        self.len = text.len();
        self.in_body = text.len() > INLINE_CAPACITY;
        self.session.segment.copy_in(self.slot, self.in_body, text);
        self.pass(kind)
    }

    #[inline(always)]
    fn pass(&mut self, kind: Kind) -> Answered {
        if planted::is(Fault::EarlyTurn) {
            slot::pass_to_client(&self.line().turn, self.sequence);
            planted::dawdle();
        }
        let is_cut = planted::is(Fault::ShortReply) && self.in_body && kind == Kind::Reply;
        let len = self.len as u32 - u32::from(is_cut);
        let head = Head { len, kind, in_body: self.in_body, has_deadline: false };
        self.open = false; // with the turn, the bytes are the client's
        let rang = self.session.pass_back(self.line(), self.slot, self.sequence, head);
        Answered { passed: true, rang, failed: kind != Kind::Reply, len }
    }
}

impl Deref for Request {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let len = if self.open { self.len } else { 0 };
        // SAFETY: Q1; a closed request shows no bytes.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), len) }
    }
}

impl DerefMut for Request {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = if self.open { self.len } else { 0 };
        // SAFETY: Q1, and `&mut self` is the only way to the bytes here.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), len) }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let answered = self.answer_with_text(Kind::Unanswered, "");
        self.count(answered);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Request")
            .field("len", &self.len)
            .field("slot", &self.slot)
            .field("peer", &self.peer())
            .finish()
    }
}
