//! The server's view of one call: the client's bytes where they lie, and the way to answer.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, beginning_of};
use crate::exchange::error_reply;
use crate::faults::{self, Fault};
use crate::memory::bounce_buffer::BounceBuffer;
use crate::memory::head::{Head, Kind};
use crate::memory::layout::{ERROR_TEXT_CAPACITY, INLINE_CAPACITY};
use crate::memory::payload::PayloadBytesMut;
use crate::memory::prefetch;
use crate::memory::segment::{Line, LineRef};
use crate::memory::slot;
use crate::service::abandonment::Ticket;
use crate::service::session::{Session, SessionDescriptors};
use crate::service::worker::Answered;
use crate::session::agreement::Protocol;
use crate::session::arrivals::{Loss, PeerDescriptors};
use crate::session::descriptors::{self, UnderWay};
use crate::session::peer::Peer;
use crate::session::peer::Trust;
use crate::session::protocol::Reason;
use crate::statistics::KeptEntry;
use crate::sync::{self, Ordering};
use crate::sys::clock;
use crate::sys::socket::DESCRIPTORS_MAX;

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
/// # let name = &wigwag_testing::temporary_name("upper").path;
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
    /// **Invariant Q1.** While `open`, the slot's turn is the server's, this is the only `Request` for it, and
    /// `payload` is bytes that nobody else touches: the slot's payload (same user), or `copy`'s memory (others).
    payload: PayloadBytesMut,
    /// The slot's line in the session's segment (Q1); meaningless while closed.
    line: LineRef,
    slot: usize,
    sequence: u64,
    in_body: bool,
    has_deadline: bool,
    open: bool,
    /// Private copy for a client of another user, kept from request to request. Boxed, as few requests have one: what
    /// is taken out of its thread's hands moves several times, and up to 128 bytes do so without a call.
    copy: Option<Box<BounceBuffer>>,
    /// Whether answering takes the longer way: the client is of another user, or descriptors travel.
    is_special: bool,
    /// There if descriptors travel with the request or the reply.
    travelling: Option<Box<Travelling>>,
    /// Once it is out of its thread's hands: what observers see of it, and how long it was.
    kept: Option<Kept>,
}

/// The descriptors of a request that nobody has taken, and those that are attached to the reply. None of them is closed
/// here: the client may have chosen how long that takes, also of those that a handler sends back.
struct Travelling {
    arrived: PeerDescriptors,
    attached: PeerDescriptors,
    under_way: Arc<UnderWay>,
}

impl Travelling {
    /// What is attached is under way, and no longer held.
    fn were_sent(&mut self) {
        for sent in self.attached.take() {
            self.arrived.push(sent); // to be closed as those are
        }
    }
}

impl Drop for Travelling {
    fn drop(&mut self) {
        self.under_way.give_back(self.attached.len());
    }
}

struct Kept {
    bytes_in: usize,
    _entry: Option<KeptEntry>,
}

const _: () = assert!(size_of::<Request>() <= 128);

/// A thread that waits for its caller to give up.
struct Sleeper(std::thread::Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A future that is ready when nobody waits for a request's answer any more: see [`Request::abandoned`].
///
/// ```
/// # let name = &wigwag_testing::temporary_name("r").path;
/// let mut server = wigwag::Server::bind(name)?;
/// let client = wigwag::Client::connect(name)?;
/// let pending = client.loan(8)?.send()?;
/// let request = server.recv()?;
/// let given_up: wigwag::Abandoned = request.abandoned();
/// drop(pending);
/// # #[cfg(feature = "tokio")]
/// tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(given_up);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "it does nothing unless it is polled"]
pub struct Abandoned<'r> {
    request: &'r Request,
    ticket: Option<Ticket>,
}

impl Future for Abandoned<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let request = self.request;
        // Another thread may have held the lock of the list when this child was forked.
        if request.is_inherited() || !request.open || request.is_abandoned() {
            return Poll::Ready(());
        }
        let abandonment = &request.session.abandonment;
        let registered = abandonment.register(self.ticket, request.slot, context.waker());
        self.ticket = Some(registered.ticket);
        if registered.must_watch {
            request.session.watch();
        }
        // What came before it was registered wakes nobody.
        if request.is_abandoned() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket
            && !self.request.is_inherited()
        {
            self.request.session.abandonment.leave(ticket);
        }
    }
}

impl fmt::Debug for Abandoned<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Abandoned").field("is_ready", &self.request.is_abandoned()).finish()
    }
}

impl Request {
    /// A request that stands for nothing yet; [`Request::open`] makes it one.
    pub(crate) fn closed(session: Arc<Session>) -> Request {
        Request {
            is_special: session.trust == Trust::OtherUser,
            travelling: None,
            session,
            payload: PayloadBytesMut::default(),
            line: LineRef::NONE,
            slot: 0,
            sequence: 0,
            in_body: false,
            has_deadline: false,
            open: false,
            copy: None,
            kept: None,
        }
    }

    /// Takes a slot whose turn word said "server" with a new `sequence`, and whose head was checked with
    /// [`Head::fits`]. `false` when it could not be, and has been answered with an error.
    #[inline(always)]
    pub(crate) fn open(&mut self, slot: usize, line: &Line, sequence: u64, head: Head) -> bool {
        debug_assert!(!self.open);
        self.line = LineRef::of(line);
        self.slot = slot;
        self.sequence = sequence;
        self.in_body = head.in_body;
        self.has_deadline = head.has_deadline;
        self.open = true;
        if self.session.is_opened_specially {
            return self.open_specially(line, head);
        }
        self.open_in_place(line, head);
        true
    }

    #[inline(always)]
    fn open_in_place(&mut self, line: &Line, head: Head) {
        let (segment, len) = (&self.session.segment, head.len as usize);
        self.payload = PayloadBytesMut::of_line(segment, self.slot, line, head.in_body, len);
        if head.in_body {
            prefetch::arrived(self);
        }
    }

    /// Of a client that follows restarts, or of another user. `false` as for [`Request::open`].
    #[cold]
    fn open_specially(&mut self, line: &Line, head: Head) -> bool {
        if self.session.agreement.has_begun() && !faults::is(Fault::UnmarkedBegun) {
            // Relaxed: who reads it knows that this process has ended, by the kernel, and then sees all that it did.
            line.head.store(Head { kind: Kind::Begun, ..head }.pack(), Ordering::Relaxed);
            sync::keep_order_until_killed();
        }
        match self.session.trust {
            Trust::SameUser => {
                self.open_in_place(line, head);
                true
            }
            Trust::OtherUser => self.copy_out(head),
        }
    }

    /// Copies the payload of a client of another user. `false` when that failed, and the request has been answered so.
    #[cold]
    fn copy_out(&mut self, head: Head) -> bool {
        let copy = self.copy.get_or_insert_default();
        if let Err(why) = copy.take(&self.session.segment, self.session.memory.as_deref(), self.slot, head) {
            self.answer_with_text(Kind::Failed, &format!("the server {why} the request"));
            return false;
        }
        self.payload = PayloadBytesMut::of_copy(copy);
        true
    }

    /// The request has descriptors.
    #[cold]
    pub(crate) fn carry(&mut self, arrived: PeerDescriptors) {
        if let Some(travelling) = self.travelling() {
            travelling.arrived = arrived;
        }
    }

    /// What travels with it, if anything may.
    fn travelling(&mut self) -> Option<&mut Travelling> {
        let SessionDescriptors { inbox, under_way, .. } = self.session.descriptors.as_deref()?;
        self.is_special = true;
        Some(self.travelling.get_or_insert_with(|| {
            let none = || PeerDescriptors::none(inbox.arrivals());
            Box::new(Travelling { arrived: none(), attached: none(), under_way: Arc::clone(under_way) })
        }))
    }

    /// The request's descriptors are lost: it is not executed.
    #[cold]
    pub(crate) fn answer_without_descriptors(&mut self, count: u32, loss: Loss) {
        let error = Error::new(
            ErrorKind::Full,
            format!("the server {loss}, so that not all {count} of this request arrived; it was not executed"),
        );
        self.answer_with_bytes(Kind::Errored, &error_reply::encode(&error).unwrap_or_default());
    }

    /// Takes the request out, and leaves one that stands for nothing.
    pub(crate) fn take(&mut self) -> Request {
        let nothing = Request::closed(Arc::clone(&self.session));
        std::mem::replace(self, nothing)
    }

    /// Whether it has not been answered yet.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether it came from a client of another user.
    pub(crate) fn is_from_other_user(&self) -> bool {
        self.session.trust == Trust::OtherUser
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
    /// [`CapacityExceeded`](crate::ErrorKind::CapacityExceeded) beyond [`capacity`](Request::capacity),
    /// [`Forked`](crate::ErrorKind::Forked) in a forked child; nothing has changed then.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("twice").path;
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
        if self.is_inherited() {
            return Err(Error::forked());
        }
        match self.session.trust {
            Trust::OtherUser => {
                let copy = self.copy.get_or_insert_default();
                if !copy.resize(len) {
                    return Err(Error::new(ErrorKind::Io, format!("there is no memory for a reply of {len} bytes")));
                }
                self.payload = PayloadBytesMut::of_copy(copy);
            }
            Trust::SameUser => {
                let old = self.payload.len();
                if len > INLINE_CAPACITY && !self.in_body {
                    // By Q1 both the inline part and the body of the slot are ours.
                    let mut body = PayloadBytesMut::of_slot(&self.session.segment, self.slot, true, len);
                    body.take_over(&self.payload);
                    self.payload = body;
                    self.in_body = true;
                }
                self.payload.set_len(len); // within the capacity, and in the body if it has to be
                if len > old {
                    self.payload[old..].fill(0);
                }
            }
        }
        Ok(())
    }

    /// Makes `bytes` the reply.
    ///
    /// # Errors
    /// [`CapacityExceeded`](crate::ErrorKind::CapacityExceeded), [`Forked`](crate::ErrorKind::Forked); nothing has
    /// changed then.
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
        (self.has_deadline && self.session.agreement.has_same_clock && !self.is_inherited())
            .then(|| clock::ns_to_instant(self.session.segment.deadline(self.slot).load(Ordering::Relaxed)))
    }

    /// Whether nobody waits for the answer any more, so that work on it is wasted: the client has given the call up, or
    /// its session is over, because it died, left, or was ended. It looks at shared memory each time.
    ///
    /// A death is known as soon as the kernel tells, within milliseconds, however busy this thread is.
    /// [`abandoned`](Request::abandoned) and [`wait_abandoned`](Request::wait_abandoned) wait for the same.
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
        let is_here = self.open && !self.is_inherited();
        is_here && (slot::load(&self.line().turn).is_abandoned() || self.session.abandonment.is_over())
    }

    /// Waits until [nobody waits for the answer any more](Request::is_abandoned): a future, of whichever runtime, for a
    /// handler that has something better to do than to finish in vain.
    ///
    /// It is ready in these cases, and in no other:
    ///
    /// | what happened | [`is_session_over`](Request::is_session_over) then |
    /// |---|---|
    /// | the caller dropped its `Pending` or its future, or its call timed out | false: it may call again |
    /// | the client was dropped, or its process ended or was killed | true |
    /// | this server ended the session: the client broke the protocol | true |
    ///
    /// A caller that is stopped, or only slow, is not gone; nor is one gone because the server shuts down, which waits
    /// for handlers under way.
    ///
    /// The future can be dropped and made anew at any point: nothing is lost by that, and it stays ready once it was.
    /// It costs nothing until it is polled. In a forked child, which has no part in the call, it is ready at once.
    ///
    /// ```no_run
    /// # #[cfg(feature = "tokio")]
    /// # async fn example() -> wigwag::Result<()> {
    /// let mut server = wigwag::tokio::Server::bind("slow")?;
    /// server
    ///     .serve(async |request: &mut wigwag::Request| {
    ///         tokio::select! {
    ///             _ = request.abandoned() => Err("nobody waits for this any more"),
    ///             _ = tokio::time::sleep(std::time::Duration::from_secs(60)) => Ok(()),   // a long work
    ///         }
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn abandoned(&self) -> Abandoned<'_> {
        Abandoned { request: self, ticket: None }
    }

    /// Whether the caller's session is over: it died, left, or was ended, and no call of it will ever come again. So a
    /// handler that keeps something for its client can tell that from a call that was only given up. It is known as
    /// soon as [`is_abandoned`](Request::is_abandoned) is by a death. In a forked child it is not told.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("r").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let pending = client.loan(8)?.send()?;
    /// let request = server.recv()?;
    /// drop(pending);
    /// assert!(request.is_abandoned() && !request.is_session_over());
    /// drop(client);
    /// # while !request.is_session_over() { std::thread::yield_now(); }
    /// assert!(request.is_session_over());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_session_over(&self) -> bool {
        !self.is_inherited() && self.session.abandonment.is_over()
    }

    /// Waits up to `timeout` for what [`is_abandoned`](Request::is_abandoned) tells; `false` when somebody still waits
    /// then.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("r").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let pending = client.loan(8)?.send()?;
    /// let request = server.recv()?;
    /// assert!(!request.wait_abandoned(std::time::Duration::from_millis(1)));
    /// drop(pending);
    /// assert!(request.wait_abandoned(std::time::Duration::from_secs(10)));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn wait_abandoned(&self, timeout: Duration) -> bool {
        let deadline = clock::deadline_after(timeout);
        if self.is_inherited() {
            std::thread::sleep(timeout);
            return false;
        }
        let waker = Waker::from(Arc::new(Sleeper(std::thread::current())));
        let mut abandoned = self.abandoned();
        loop {
            if Pin::new(&mut abandoned).poll(&mut Context::from_waker(&waker)).is_ready() {
                return true;
            }
            match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => std::thread::park_timeout(left),
                None => std::thread::park(),
            }
        }
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

    /// The file descriptors that the client [attached](crate::Loan::attach) to its request, in its order: once, and
    /// none the next time. They are closed on `exec`. Those that nobody takes are closed when the request is answered,
    /// by a thread of their own, because closing them may take as long as the client has chosen.
    ///
    /// There are none unless both sides have [asked](crate::ServerBuilder::descriptors) for descriptors. They stay
    /// valid when the client dies or gives the call up: what was taken is the handler's.
    ///
    /// What they are is for the handler to find out: any program may have anything attached, such as a pipe from which
    /// a read never returns. A request with some that this process has no room for (`ulimit -n`) comes to no handler;
    /// its client is told.
    ///
    /// ```
    /// # use std::io::Write;
    /// # let name = &wigwag_testing::temporary_name("log").path;
    /// let mut server = wigwag::Server::builder().descriptors(true).bind(name)?;
    /// let client = wigwag::Client::builder().descriptors(true).connect(name)?;
    /// let (mut reading, writing) = std::io::pipe().unwrap();
    /// let mut loan = client.loan(0)?;
    /// loan.attach(writing)?;
    /// let pending = loan.send()?;
    /// let mut request = server.recv()?;
    /// for descriptor in request.take_descriptors() {
    ///     std::fs::File::from(descriptor).write_all(b"from the server").unwrap();
    /// }
    /// request.reply();
    /// pending.wait()?;
    /// assert_eq!(std::io::read_to_string(reading).unwrap(), "from the server");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        if self.is_inherited() {
            return Vec::new();
        }
        self.travelling.as_mut().map_or_else(Vec::new, |travelling| travelling.arrived.take())
    }

    /// Attaches a file descriptor to the reply: the client gets one of its own to the same open file
    /// ([`Reply::take_descriptors`](crate::Reply::take_descriptors)), in the order in which they were attached.
    ///
    /// What is attached is a duplicate, which is closed once it was sent; yours stays yours. None is sent if the
    /// request fails or is dropped, or if the client has given the call up by then. A client that dies before it has
    /// read them takes them with it.
    ///
    /// # Errors
    /// [`NotAgreed`](ErrorKind::NotAgreed) unless both sides have [asked](crate::ServerBuilder::descriptors) for
    /// descriptors. [`Full`](ErrorKind::Full): 16 are attached already; or 64 of this session, or a quarter of
    /// `ulimit -n` of this process, are attached or in replies that clients have not read; or more than 1,024 of this
    /// session, or an eighth of `ulimit -n`, wait to be closed. [`Io`](ErrorKind::Io) if it
    /// cannot be duplicated, [`Forked`](ErrorKind::Forked). Nothing has changed then.
    ///
    /// If the kernel does not take them when the reply is sent, the client gets [`Full`](ErrorKind::Full) instead of
    /// the reply.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("open").path;
    /// let mut server = wigwag::Server::builder().descriptors(true).bind(name)?;
    /// # let stop = server.shutdown_handle();
    /// # let thread = std::thread::spawn(move ||
    /// server.serve(|request| {
    ///     let file = std::fs::File::open("/proc/self/comm").map_err(|error| error.to_string())?;
    ///     request.attach(&file).map_err(|error| error.to_string())
    /// })
    /// # );
    /// # let client = wigwag::Client::builder().descriptors(true).connect(name)?;
    /// # assert_eq!(client.call(b"comm")?.take_descriptors().len(), 1);
    /// # stop.shutdown(); thread.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn attach(&mut self, descriptor: impl AsFd) -> Result<()> {
        if self.is_inherited() {
            return Err(Error::forked());
        }
        if !self.open {
            return Err(Error::new(
                ErrorKind::Unanswered,
                "this request has been answered: nothing travels with it now",
            ));
        }
        let Some(travelling) = self.travelling() else { return Err(descriptors::not_agreed()) };
        if travelling.attached.len() >= DESCRIPTORS_MAX {
            return Err(descriptors::too_many());
        }
        travelling.attached.check_closing()?;
        let duplicate = descriptors::duplicate(descriptor.as_fd())?;
        travelling.under_way.reserve()?;
        travelling.attached.push(duplicate);
        Ok(())
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

    /// Ends the session instead of answering: for who cannot give the bytes back, because something may still write to
    /// them. The client gets `why`, and its other calls end, too.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("r").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// let pending = client.loan(8)?.send()?;
    /// let request = server.recv()?;
    /// request.end_session("a thread still writes to it");
    /// assert!(pending.wait().unwrap_err().to_string().contains("still writes"));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn end_session(&self, why: impl fmt::Display) {
        if self.open && !self.is_inherited() {
            self.session.end(Reason::Refused, why.to_string());
        }
    }

    /// Answers with an error; the client gets [`HandlerFailed`](crate::ErrorKind::HandlerFailed) with the text, cut at
    /// 1,024 bytes.
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

    /// Answers with an error of this library: the client gets an error of the same kind, with the same sentence, and
    /// learns whether its request may have been executed. For a program that calls on behalf of others, whose own call
    /// has failed.
    ///
    /// That goes for the kinds that a call ends with: [`NotRunning`](crate::ErrorKind::NotRunning),
    /// [`PeerDied`](crate::ErrorKind::PeerDied), [`TimedOut`](crate::ErrorKind::TimedOut),
    /// [`ServerClosed`](crate::ErrorKind::ServerClosed), [`Refused`](crate::ErrorKind::Refused),
    /// [`Busy`](crate::ErrorKind::Busy), [`Full`](crate::ErrorKind::Full) and
    /// [`Unanswered`](crate::ErrorKind::Unanswered). [`HandlerPanicked`](crate::ErrorKind::HandlerPanicked) stays one,
    /// too. Of every other kind, and for a client of protocol version 1, it is as [`fail`](Request::fail). The sentence
    /// is cut at 1,016 bytes. An error of something else than this library becomes one by
    /// [`Error::on_behalf`](crate::Error::on_behalf).
    ///
    /// ```no_run
    /// # let mut server = wigwag::Server::bind("near")?;
    /// let far = wigwag::Client::connect("far")?;
    /// loop {
    ///     let mut request = server.recv()?;
    ///     match far.call(&request) {
    ///         Ok(reply) => request.copy_from_slice(&reply), // of the same length here
    ///         Err(error) => {
    ///             request.fail_as(&error);
    ///             continue;
    ///         }
    ///     }
    ///     request.reply();
    /// }
    /// # #[allow(unreachable_code)] Ok::<(), wigwag::Error>(())
    /// ```
    pub fn fail_as(mut self, error: &Error) {
        let bytes = match self.session.agreement.protocol {
            Protocol::V1 => None,
            Protocol::V2 => error_reply::encode(error),
        };
        let answered = match bytes {
            Some(bytes) => self.answer_with_bytes(Kind::Errored, &bytes),
            None if error.kind() == ErrorKind::HandlerPanicked => {
                let text = error.to_string(); // the client puts the same before it
                self.answer_with_text(Kind::Panicked, text.strip_prefix(error_reply::PANICKED).unwrap_or(&text))
            }
            None => self.answer_with_text(Kind::Failed, &error.to_string()),
        };
        self.count(answered);
    }

    /// The request leaves the thread that found it, to be answered later. `since_ns`: when it came, or a little
    /// earlier.
    #[cold]
    pub(crate) fn keep(&mut self, since_ns: u64) {
        let record = &self.session.record;
        record.counters().kept.taken.add_shared(1);
        self.kept = Some(Kept { bytes_in: self.payload.len(), _entry: record.keep(self.slot, since_ns) });
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
        let mut descriptors = 0;
        if self.is_special {
            match self.prepare_answer() {
                Ok(sent) => descriptors = sent,
                Err(error) => return self.answer_with_error(&error),
            }
        } else if self.in_body {
            prefetch::written(self);
        }
        self.pass(Kind::Reply, self.payload.len(), descriptors)
    }

    /// What has to be done before the turn is passed, but for most requests. How many descriptors were sent.
    #[cold]
    fn prepare_answer(&mut self) -> Result<u32> {
        let is_other_user = self.session.trust == Trust::OtherUser;
        self.is_special = is_other_user;
        let mut sent = 0;
        if let Some(mut travelling) = self.travelling.take() {
            let count = travelling.attached.len();
            // A client that has given the call up does not want them. One whose session is over may still wait for this
            // reply: it gets an error, because they cannot be sent any more.
            if count > 0 && !slot::load(&self.line().turn).is_abandoned() {
                self.session.send_descriptors(self.slot, self.sequence, &travelling.attached)?;
                sent = count as u32;
                travelling.were_sent();
            }
        }
        if is_other_user {
            self.copy_in();
        } else if self.in_body {
            prefetch::written(self);
        }
        Ok(sent)
    }

    /// The reply's descriptors could not be sent.
    #[cold]
    fn answer_with_error(&mut self, error: &Error) -> Answered {
        let error = Error::new(ErrorKind::Full, format!("the server has executed the request, and {error}"));
        self.answer_with_bytes(Kind::Errored, &error_reply::encode(&error).unwrap_or_default())
    }

    /// The slot's line, which `session` keeps mapped; only of a request that is or was just open.
    #[inline(always)]
    fn line(&self) -> &Line {
        self.line.get()
    }

    /// Whether this is a child process, as an error.
    #[cfg(feature = "serde")]
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.is_inherited() { Err(Error::forked()) } else { Ok(()) }
    }

    /// Whether this is a child process that inherited the request, but not its memory.
    #[inline(always)]
    pub(crate) fn is_inherited(&self) -> bool {
        self.session.segment.is_forked() && !faults::is(Fault::UncheckedChild)
    }

    #[cold]
    fn copy_in(&mut self) {
        self.in_body = self.payload.len() > INLINE_CAPACITY;
        let bytes = self.copy.as_ref().map_or(&[][..], |copy| copy.bytes());
        self.session.segment.copy_in(self.slot, self.in_body, bytes);
    }

    /// Passes the turn back with a text instead of a reply.
    #[cold]
    pub(crate) fn answer_with_text(&mut self, kind: Kind, text: &str) -> Answered {
        self.answer_with_bytes(kind, beginning_of(text, ERROR_TEXT_CAPACITY).as_bytes())
    }

    /// As [`answer_with_text`](Request::answer_with_text), with at most [`ERROR_TEXT_CAPACITY`] bytes.
    fn answer_with_bytes(&mut self, kind: Kind, bytes: &[u8]) -> Answered {
        if !self.open || self.is_inherited() {
            return Answered::NOTHING;
        }
        self.travelling = None;
        self.is_special = self.session.trust == Trust::OtherUser;
        self.in_body = bytes.len() > INLINE_CAPACITY;
        self.session.segment.copy_in(self.slot, self.in_body, bytes);
        self.pass(kind, bytes.len(), 0)
    }

    #[inline(always)]
    fn pass(&mut self, kind: Kind, len: usize, descriptors: u32) -> Answered {
        if faults::is(Fault::EarlyTurn) {
            slot::pass_to_client(&self.line().turn, self.sequence);
            faults::widen_window();
        }
        let is_cut = faults::is(Fault::ShortReply) && self.in_body && kind == Kind::Reply;
        let len = len as u32 - u32::from(is_cut);
        let head = Head { len, kind, in_body: self.in_body, has_deadline: false, descriptors };
        self.open = false; // with the turn, the bytes are the client's
        let rang = self.session.pass_back(self.line(), self.slot, self.sequence, head);
        Answered { passed: true, rang, failed: kind != Kind::Reply, len }
    }
}

impl Deref for Request {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.payload.shown(self.open)
    }
}

impl DerefMut for Request {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.payload.shown_mut(self.open)
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
            .field("len", &self.payload.len())
            .field("slot", &self.slot)
            .field("peer", &self.peer())
            .finish()
    }
}
