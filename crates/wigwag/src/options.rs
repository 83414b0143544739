//! What is said before a connect or a bind, as values: one [`ConnectOptions`] or [`ListenOptions`] is behind each
//! builder, so that a setting has one name, one default and one meaning in all forms.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{CAPACITY_MAX, Contract};
use crate::error::{Error, ErrorKind, Result};
use crate::form::Form;
use crate::memory::layout::{RING_MIN, check_geometry, check_ring_pages, is_ring};
use crate::wait::policy::Wait;

/// What a client, a sender or a stream asks for before it connects. A size that it does not set is the server's choice.
///
/// "The server" is whoever has the name: a [`Server`](crate::Server), a [`Receiver`](crate::Receiver) or a
/// [`StreamListener`](crate::StreamListener). The values are checked by `connect`: one outside of its limits is
/// [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) there.
///
/// ```
/// # use std::time::Duration;
/// # let (calls, jobs) = (wigwag_testing::temporary_name("calls"), wigwag_testing::temporary_name("jobs"));
/// # let (calls, jobs) = (&calls.path, &jobs.path);
/// # let server = wigwag::Server::bind(calls)?;
/// # let receiver = wigwag::Receiver::bind(jobs)?;
/// let options = wigwag::ConnectOptions::default().wait(wigwag::Wait::Park).timeout(Duration::from_secs(1));
/// let client = wigwag::Client::builder().options(options.clone()).slots(4).connect(calls)?;
/// let sender = wigwag::Sender::builder().options(options).connect(jobs)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until a builder has them"]
pub struct ConnectOptions {
    /// `None`: the server's choice.
    pub(crate) slots: Option<usize>,
    /// `None`: the server's choice.
    pub(crate) capacity: Option<usize>,
    pub(crate) contract: Contract,
    /// `None`: the own user.
    pub(crate) server_user: Option<u32>,
    pub(crate) timeout: Duration,
    pub(crate) server_timeout: Duration,
    pub(crate) wait: Wait,
    pub(crate) descriptors: bool,
    pub(crate) restarts: Restarts,
    /// `None`: as [`ConnectOptions::linger`] says.
    pub(crate) linger: Option<Duration>,
}

/// What becomes of a client whose server has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Restarts {
    /// It ends, too.
    #[default]
    End,
    /// Its next call looks for a successor for so long; what was passed ends.
    Reconnect(Duration),
    /// The same, and what was passed and not begun goes on at the successor.
    Follow(Duration),
}

impl Restarts {
    /// Whether the client outlives its server.
    pub(crate) fn are_outlived(self) -> bool {
        self != Restarts::End
    }

    /// Whether what was passed goes on at the successor.
    pub(crate) fn are_followed(self) -> bool {
        matches!(self, Restarts::Follow(_))
    }

    /// How long a successor is looked for, and which setting says so.
    pub(crate) fn time(self) -> (Duration, &'static str) {
        match self {
            Restarts::End => (Duration::ZERO, "server_timeout"),
            Restarts::Reconnect(time) => (time, "reconnect"),
            Restarts::Follow(time) => (time, "follow_restarts"),
        }
    }
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            slots: None,
            capacity: None,
            contract: Contract::bytes(),
            server_user: None,
            timeout: Duration::from_secs(5),
            server_timeout: Duration::ZERO,
            wait: Wait::default(),
            descriptors: false,
            restarts: Restarts::End,
            linger: None,
        }
    }
}

impl ConnectOptions {
    /// How many calls can be in flight, or messages under way: 1 to 4096, default what the server states; refused above
    /// that. A stream has its two rings, whatever this says.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().slots(64);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// The largest payload in bytes, of a stream the bytes of each ring: up to 1 GiB, default what the server states;
    /// refused above that. That of a stream is a power of two from 4 KiB.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().capacity(4096);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// How this side waits, default [`Wait::Adaptive`].
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().wait(wigwag::Wait::Spin);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long each handshake may take once there is a server, default 5 seconds. Beyond it the connect fails with
    /// [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().timeout(std::time::Duration::from_millis(300));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long to wait for a server while there is none, default zero: not at all. `Duration::MAX` is for ever.
    ///
    /// The directory of the name is watched, or what is to have it, so that waiting costs no processor time and the
    /// server is found as soon as it has its name. One that goes away while it is asked, does not answer within
    /// [`timeout`](ConnectOptions::timeout), or has no place, is asked again within the same time. Whatever comes at
    /// its very end still has `timeout` for the handshake. Where the kernel has no watch left
    /// (fs.inotify.max_user_instances), the server is looked for every 50 ms.
    ///
    /// Beyond it the connect fails with [`NotRunning`](ErrorKind::NotRunning), or with what was found last. A sender
    /// waits as long in each later call that finds its receiver gone; clients and streams belong to one server and wait
    /// only in connecting.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("none").path;
    /// # use std::time::Duration;
    /// let options = wigwag::ConnectOptions::default().server_timeout(Duration::from_millis(1));
    /// let error = wigwag::Client::builder().options(options).connect(name).unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning);
    /// ```
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.server_timeout = timeout;
        self
    }

    /// What is spoken, default plain bytes; a server with another contract refuses with
    /// [`ContractMismatch`](ErrorKind::ContractMismatch). The form is the builder's.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().contract(wigwag::Contract::named("frames", 2));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.contract = contract;
        self
    }

    /// Expects a server of another user, default the own user's. Its memory is then as trustworthy as that user; see
    /// SECURITY.md. A server of anybody else is [`PathInvalid`](ErrorKind::PathInvalid).
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().server_user(1001);
    /// ```
    pub fn server_user(mut self, uid: u32) -> Self {
        self.server_user = Some(uid);
        self
    }

    /// Whether file descriptors may travel with requests and replies, or with messages, default no. They do if the
    /// server or receiver is built with the same ([`ListenOptions::descriptors`]); one that is not, or is of an earlier
    /// version, serves all the same, and only to attach one fails there.
    ///
    /// None travel to or from a server of another user ([`server_user`](ConnectOptions::server_user)). Streams carry
    /// none and do not look at it.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().descriptors(true);
    /// ```
    pub fn descriptors(mut self, may_travel: bool) -> Self {
        self.descriptors = may_travel;
        self
    }

    /// How long at most dropping a sender waits until the receiver has acknowledged everything. Zero: not at all.
    /// Default: as long as a receiver lives, and for 5 seconds where there is none.
    ///
    /// A receiver of the same process is not waited for, a thread that panics does not wait, and for a sender of tasks
    /// a thread of its own does. A process that exits or is killed waits for nothing. Clients and streams do not look
    /// at it.
    ///
    /// ```
    /// let options = wigwag::ConnectOptions::default().linger(std::time::Duration::from_secs(1));
    /// ```
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = Some(time);
        self
    }

    /// The client outlives its server: whatever ends the session, the next call looks for a server of the same name for
    /// up to so long, and makes a new session. Nothing is passed twice: what had been passed and not answered ends with
    /// [`PeerDied`](ErrorKind::PeerDied) or [`ServerClosed`](ErrorKind::ServerClosed), as without this. A loan that was
    /// not passed yet goes to the new server with its bytes. Default: the client ends with its server.
    ///
    /// Of this and [`follow_restarts`](ConnectOptions::follow_restarts) the one that is set later counts: the second
    /// does all that the first does. A server that broke the protocol has no successor. Senders find theirs by
    /// themselves, and a stream ends with its listener: they do not look at it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let options = wigwag::ConnectOptions::default().reconnect(Duration::from_secs(5));
    /// ```
    pub fn reconnect(mut self, time: Duration) -> Self {
        self.restarts = Restarts::Reconnect(time);
        self
    }

    /// As [`reconnect`](ConnectOptions::reconnect), and calls that were passed and **that nobody has begun** go on at
    /// the server's successor, with the time that each may take. The server says in the memory that a handler sees a
    /// request, before it does; so a call goes on only if it was certainly not executed. Each other one ends with
    /// [`PeerDied`](ErrorKind::PeerDied) and `maybe_executed: true`.
    ///
    /// That takes a server which marks what it begins, as all do from protocol 2 on, and whose process has ended, which
    /// only the kernel says: a connection that is lost while the server's process lives ends its calls. What comes
    /// with descriptors is not passed again. The new server may be of another version and have other limits; one whose
    /// capacity is too small for a payload gives [`CapacityExceeded`](ErrorKind::CapacityExceeded).
    ///
    /// Waiting for a successor takes no processor time, and a call's own time goes on meanwhile. The answer of the one
    /// that is found is waited for as in any connect ([`timeout`](ConnectOptions::timeout)).
    ///
    /// ```
    /// # use std::time::Duration;
    /// let options = wigwag::ConnectOptions::default().follow_restarts(Duration::from_secs(30));
    /// ```
    pub fn follow_restarts(mut self, time: Duration) -> Self {
        self.restarts = Restarts::Follow(time);
        self
    }

    pub(crate) fn in_form(mut self, form: Form) -> ConnectOptions {
        if form.has_rings() {
            self.slots = Some(form.default_slots());
        }
        self.contract = self.contract.in_form(form);
        self
    }

    /// Whether they are possible at all.
    pub(crate) fn check(&self) -> Result<()> {
        check_sizes(self.contract.form, self.slots, self.capacity)?;
        self.contract.check()
    }
}

/// What a server, a receiver or a listener sets before it binds: the users it lets in, their limits, and the contract.
///
/// The values are checked by `bind`: one outside of its limits is
/// [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) there.
///
/// ```
/// # use wigwag::{Access, Limits, ListenOptions, Wait};
/// # let (calls, jobs) = (wigwag_testing::temporary_name("calls"), wigwag_testing::temporary_name("jobs"));
/// # let (calls, jobs) = (&calls.path, &jobs.path);
/// let options = ListenOptions::default()
///     .limits(Limits::default().max_sessions(100))
///     .access(Access::default().allow_group(100))
///     .wait(Wait::Park);
/// let server = wigwag::Server::builder().options(options.clone()).bind(calls)?;
/// let receiver = wigwag::Receiver::builder().options(options).slots(1024).bind(jobs)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until a builder has them"]
pub struct ListenOptions {
    pub(crate) limits: Limits,
    pub(crate) access: Access,
    pub(crate) contract: Contract,
    pub(crate) wait: Wait,
    pub(crate) backlog: usize,
    pub(crate) descriptors: bool,
    /// `None`: one is made.
    pub(crate) listener: Option<InheritedListener>,
    /// How long a server that has the name may take to let it go; `None`: it keeps it.
    pub(crate) replace: Option<Duration>,
    /// Of a receiver: the name of the keeper of its messages.
    pub(crate) keeper: Option<OsString>,
    /// Whether it lets senders in whose messages are not kept.
    pub(crate) allows_unkept: bool,
    /// Whether others may have a part of the name: of a queue.
    pub(crate) shared: bool,
}

/// A socket that another process may have made. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct InheritedListener(Arc<OwnedFd>);

impl AsFd for InheritedListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PartialEq for InheritedListener {
    fn eq(&self, other: &InheritedListener) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for InheritedListener {}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            limits: Limits::default(),
            access: Access::default(),
            contract: Contract::bytes(),
            wait: Wait::default(),
            backlog: 128,
            descriptors: false,
            listener: None,
            replace: None,
            keeper: None,
            allows_unkept: false,
            shared: false,
        }
    }
}

impl ListenOptions {
    /// How much the other ends get, default [`Limits::default`].
    ///
    /// ```
    /// let options = wigwag::ListenOptions::default().limits(wigwag::Limits::default().max_sessions(8));
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The users who are let in besides the server's own, default nobody.
    ///
    /// ```
    /// let options = wigwag::ListenOptions::default().access(wigwag::Access::default().allow_user(1001));
    /// ```
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// What is served, default plain bytes; a peer with another contract is refused. The form is the builder's.
    ///
    /// ```
    /// let options = wigwag::ListenOptions::default().contract(wigwag::Contract::named("frames", 2));
    /// ```
    pub fn contract(mut self, contract: Contract) -> Self {
        self.contract = contract;
        self
    }

    /// How the threads that serve or receive wait, or the streams that are accepted; default [`Wait::Adaptive`].
    ///
    /// ```
    /// let options = wigwag::ListenOptions::default().wait(wigwag::Wait::Park);
    /// ```
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The most streams that wait to be accepted, at least 1, default 128; the next one is refused. Servers and
    /// receivers have no such queue and do not look at it.
    ///
    /// ```
    /// let options = wigwag::ListenOptions::default().backlog(16);
    /// ```
    pub fn backlog(mut self, streams: usize) -> Self {
        self.backlog = streams;
        self
    }

    /// Whether file descriptors may travel with requests and replies, or with messages, default no. They do in the
    /// sessions of clients and senders that ask for the same ([`ConnectOptions::descriptors`]), but of no other user.
    /// Listeners for streams carry none and do not look at it.
    ///
    /// ```
    /// let options = wigwag::ListenOptions::default().descriptors(true);
    /// ```
    pub fn descriptors(mut self, may_travel: bool) -> Self {
        self.descriptors = may_travel;
        self
    }

    /// Serves on a socket that was handed over, default one that `bind` makes: socket activation, or a predecessor that
    /// leaves. It is a Unix socket of the type SOCK_SEQPACKET that listens at the path of the name which `bind` gets,
    /// and its file belongs to this server's user. Anything else is
    /// [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) there.
    ///
    /// Clients learn from the kernel who listens, and so whose end to watch for. Therefore `bind` listens on it anew;
    /// who had connected before is asked to come again, which a client does by itself within its
    /// [`timeout`](ConnectOptions::timeout). Nobody is lost between two servers: who connects meanwhile waits in the
    /// socket's queue.
    ///
    /// The socket stays its maker's: its file, its mode and its end. At the end the server closes what it has of it. If
    /// the file is removed, the server does not make another. The lock file is the server's own, as always; where the
    /// directory lets it have none, it does without, and [`observe`](crate::observe) cannot see it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("handed").path;
    /// # use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    /// // What systemd does, or whoever starts the server:
    /// let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    /// bind(&socket, &SocketAddrUnix::new(name)?)?;
    /// listen(&socket, 128)?;
    /// // The server:
    /// let options = wigwag::ListenOptions::default().from_listener(socket);
    /// let server = wigwag::Server::builder().options(options).bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// # drop((client, server));
    /// assert!(name.exists(), "it is not the server's to remove");
    /// # std::fs::remove_file(name)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_listener(mut self, listener: OwnedFd) -> Self {
        self.listener = Some(InheritedListener(Arc::new(listener)));
        self
    }

    /// A planned restart: takes the name over from the server that has it, which may take so long to let it go; default
    /// no, so that a name which another server has is [`NameTaken`](ErrorKind::NameTaken). Where no server has the
    /// name, it is taken in the ordinary way.
    ///
    /// At no moment is the name without a server. Whoever connects meanwhile waits, and is served by the new one. The
    /// former one serves what its clients had passed until then, and ends as by
    /// [`ShutdownHandle::shutdown`](crate::ShutdownHandle::shutdown): `serve` returns. Its clients' later calls get
    /// [`ServerClosed`](ErrorKind::ServerClosed), and go on at the new server if they
    /// [follow](ConnectOptions::follow_restarts); senders of a queue go on by themselves; streams that have been
    /// accepted stay with the former one until they end.
    ///
    /// If the new server cannot begin, or its process dies before it has, the former one goes on as if nothing had
    /// been. Any server of the same user can be replaced, by one with another version, contract, or limits, too. Not
    /// one on a socket that another program made ([`from_listener`](Self::from_listener)), nor one of a version that
    /// cannot hand its name over: [`NameTaken`](ErrorKind::NameTaken) says so.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("next").path;
    /// let mut first = wigwag::Server::bind(name)?;
    /// let serving = std::thread::spawn(move || first.serve(|request| request[0] = 1));
    /// let mut second = wigwag::Server::builder().replace(std::time::Duration::from_secs(5)).bind(name)?;
    /// serving.join().unwrap()?; // it has been replaced
    /// let stop = second.shutdown_handle();
    /// let serving = std::thread::spawn(move || second.serve(|request| request[0] = 2));
    /// assert_eq!(wigwag::Client::connect(name)?.call(&[0])?[..], [2]);
    /// # stop.shutdown();
    /// # serving.join().unwrap()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn replace(mut self, timeout: Duration) -> Self {
        self.replace = Some(timeout);
        self
    }

    pub(crate) fn in_form(mut self, form: Form) -> ListenOptions {
        self.contract = self.contract.in_form(form);
        self
    }

    /// Whether they are possible at all.
    pub(crate) fn check(&self) -> Result<()> {
        let form = self.contract.form;
        check_sizes(form, Some(self.limits.slots_in(form)), Some(self.limits.capacity_in(form)))?;
        if form.has_backlog() && self.backlog == 0 {
            return Err(Error::new(
                ErrorKind::InvalidConfiguration,
                "with a backlog of 0 nobody can connect: 1 is the least",
            ));
        }
        if self.listener.is_some() && self.replace.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidConfiguration,
                "a server that gets its socket from another program replaces nobody: leave out ListenOptions::replace, \
                 as that program ends the former server",
            ));
        }
        if self.shared && (self.listener.is_some() || self.replace.is_some()) {
            return Err(Error::new(
                ErrorKind::InvalidConfiguration,
                "a receiver that shares its name takes over neither a socket nor a name: leave out \
                 ListenOptions::from_listener and ListenOptions::replace; for a planned restart start the next one \
                 beside it, and then end it",
            ));
        }
        self.contract.check()
    }
}

/// The users who may have a session besides the server's own. The default is nobody.
///
/// What another user writes is copied before the program sees it, so that it cannot change meanwhile; see SECURITY.md.
/// The runtime directory of a user is closed to all others: bind to an absolute path that they can reach. A client that
/// is not let in gets [`Refused`](ErrorKind::Refused) from its connect, or [`PathInvalid`](ErrorKind::PathInvalid)
/// where no other user is let in at all.
///
/// ```
/// let access = wigwag::Access::default().allow_user(1001).allow_group(100);
/// let server = wigwag::Server::builder().access(access.clone());
/// let receiver = wigwag::Receiver::builder().access(access);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an access does nothing until a builder has it"]
pub struct Access {
    /// These users.
    pub(crate) users: Vec<u32>,
    /// Members of these groups.
    pub(crate) groups: Vec<u32>,
    /// Everybody on the machine.
    pub(crate) everyone: bool,
}

impl Access {
    /// Lets another user in as well.
    ///
    /// ```
    /// let access = wigwag::Access::default().allow_user(1001).allow_user(1002);
    /// ```
    pub fn allow_user(mut self, uid: u32) -> Self {
        self.users.push(uid);
        self
    }

    /// Lets the members of a group in as well.
    ///
    /// ```
    /// let access = wigwag::Access::default().allow_group(100);
    /// ```
    pub fn allow_group(mut self, gid: u32) -> Self {
        self.groups.push(gid);
        self
    }

    /// Lets everybody in.
    ///
    /// ```
    /// let access = wigwag::Access::default().allow_everyone();
    /// ```
    pub fn allow_everyone(mut self) -> Self {
        self.everyone = true;
        self
    }
}

/// The most that the owner of a name grants. A request beyond it is [`Refused`](ErrorKind::Refused), with the limit and
/// its name in the sentence.
///
/// ```
/// let limits = wigwag::Limits::default().max_sessions(100).max_bytes_total(1 << 30);
/// let server = wigwag::Server::builder().limits(limits.clone());
/// let listener = wigwag::StreamListener::builder().limits(limits).ring_bytes(64 << 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "limits do nothing until a builder has them"]
pub struct Limits {
    /// Sessions at a time.
    pub(crate) sessions: usize,
    /// Sessions of one user at a time.
    pub(crate) sessions_per_user: usize,
    /// Sessions of one other user at a time.
    pub(crate) sessions_per_other_user: usize,
    /// Slots of a session; what a client gets that does not ask. `None`: what suits the form.
    pub(crate) slots: Option<usize>,
    /// Capacity of a slot in bytes; what a client gets that does not ask. `None`: what suits the form.
    pub(crate) capacity: Option<usize>,
    /// Bytes of one session's segment.
    pub(crate) bytes_per_session: usize,
    /// Bytes of all segments together.
    pub(crate) bytes_total: usize,
    /// Handshakes under way at a time.
    pub(crate) handshakes: usize,
    /// The time a handshake may take.
    pub(crate) handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sessions: 4096,
            sessions_per_user: 4096,
            sessions_per_other_user: 256,
            slots: None,
            capacity: None,
            bytes_per_session: 8 << 30,
            bytes_total: 64 << 30,
            handshakes: 256,
            handshake_timeout: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// The most slots of a session, and what a client gets that does not ask: calls in flight (default 16), or messages
    /// that are sent and not acknowledged (default 256). 1 to 4096. A stream has its two rings, whatever this says.
    ///
    /// ```
    /// let limits = wigwag::Limits::default().slots(64);
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// The most bytes of a payload, and what a client gets that does not ask: of a call (default 1 MiB), of a message
    /// (default 64 KiB), or of each ring of a stream (default 2 MiB). 0 to 1 GiB; for a stream a power of two from
    /// 4 KiB.
    ///
    /// Memory is used for what is written, not for what is allowed.
    ///
    /// ```
    /// let limits = wigwag::Limits::default().capacity(16 << 20);
    /// ```
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// The most sessions at a time: clients, senders or streams. Default 4096. A sender that is gone counts until what
    /// it sent is received, and a stream that is accepted counts as long as it lives.
    ///
    /// ```
    /// let limits = wigwag::Limits::default().max_sessions(8);
    /// ```
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions;
        self
    }

    /// The most sessions of one user at a time, default 4096 for the own user and 256 for each other.
    ///
    /// ```
    /// let limits = wigwag::Limits::default().max_sessions_per_user(4);
    /// ```
    pub fn max_sessions_per_user(mut self, sessions: usize) -> Self {
        self.sessions_per_user = sessions;
        self.sessions_per_other_user = sessions;
        self
    }

    /// The most bytes the segment of one session may have, default 8 GiB. It bounds address space; memory is used as
    /// written.
    ///
    /// ```
    /// let limits = wigwag::Limits::default().max_bytes_per_session(64 << 20);
    /// ```
    pub fn max_bytes_per_session(mut self, bytes: usize) -> Self {
        self.bytes_per_session = bytes;
        self
    }

    /// The most bytes all segments may have together, default 64 GiB.
    ///
    /// ```
    /// let limits = wigwag::Limits::default().max_bytes_total(1 << 30);
    /// ```
    pub fn max_bytes_total(mut self, bytes: usize) -> Self {
        self.bytes_total = bytes;
        self
    }

    /// The most handshakes under way at a time, default 256. Beyond it the oldest one, of the user who has most of
    /// them, is ended.
    ///
    /// ```
    /// let limits = wigwag::Limits::default().max_handshakes(16);
    /// ```
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.handshakes = handshakes;
        self
    }

    /// How long a client may take to shake hands, default 1 second.
    ///
    /// ```
    /// let limits = wigwag::Limits::default().handshake_timeout(std::time::Duration::from_millis(200));
    /// ```
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    pub(crate) fn slots_in(&self, form: Form) -> usize {
        self.slots.filter(|_| !form.has_rings()).unwrap_or(form.default_slots())
    }

    pub(crate) fn capacity_in(&self, form: Form) -> usize {
        self.capacity.unwrap_or(form.default_capacity())
    }
}

/// Whether a session of that form can have these sizes.
fn check_sizes(form: Form, slots: Option<usize>, capacity: Option<usize>) -> Result<()> {
    if form.has_rings() { capacity.map_or(Ok(()), check_ring) } else { check_geometry(slots, capacity) }
}

/// Whether a ring may have that size.
fn check_ring(bytes: usize) -> Result<()> {
    let sentence = if is_ring(bytes) {
        check_ring_pages(bytes, rustix::param::page_size())
    } else {
        Err(format!(
            "a ring of {bytes} bytes is not possible: it must be a power of two from {RING_MIN} to {CAPACITY_MAX}"
        ))
    };
    sentence.map_err(|why| Error::new(ErrorKind::InvalidConfiguration, why))
}
