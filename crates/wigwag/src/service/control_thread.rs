//! The control thread: one thread of the server that runs the control plane, so that a busy handler never delays a
//! connect, a refusal or the notice of a death.
//!
//! It accepts, carries out what each [handshake](crate::service::handshake) leads to, hands finished sessions to the
//! threads that serve, and ends them: on hang-up of the socket *or* the end of the peer's process, whichever comes
//! first (a forked child can keep a socket open). It sleeps in one epoll with no timeout but the nearest handshake's
//! deadline: idle means idle.
//!
//! What it does when another server takes its name over is in `succession`, what it asks of a keeper in `keeping`.

mod keeping;
mod succession;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, SHUTTING_DOWN};
use crate::faults::{self, Fault};
use crate::form::OnPeerGone;
use crate::options::ListenOptions;
use crate::service::accept_queue::AcceptQueue;
use crate::service::admission::Refused;
use crate::service::audience::Audience;
use crate::service::handshake::{Action, Handshake, Handshakes, Offer, UnreadWelcomes};
use crate::service::keeping::{Keeping, KeptSession};
use crate::service::launch::Launch;
use crate::service::name_claim::{Aftermath, NameClaim};
use crate::service::session::Session;
use crate::service::shared::{Command, ServiceShared};
use crate::service::takeover::REPLACED;
use crate::session::background::{PeerSocket, bury};
use crate::session::descriptors::Drained;
use crate::session::peer::Trust;
use crate::session::protocol::{FromServer, Hello, Reason};
use crate::statistics::{ControlRecord, SessionEntry};
use crate::sys::epoll::{Events, Interest, Poller, Ready};
use crate::sys::memory;
use crate::sys::socket::{self, Credentials, MESSAGE_MAX};
use crate::trace;

use succession::Successor;

/// Starts the control thread. It ends after [`Command::EndAll`].
pub fn start(shared: Arc<ServiceShared>, mut launch: Launch) -> Result<std::thread::JoinHandle<()>> {
    let listener = launch.claim.listen()?;
    let poller = Poller::new()?;
    poller.add(&listener, KEY_LISTENER, Interest::Readable)?;
    poller.add(&shared.bell, KEY_BELL, Interest::Bell)?;
    if let Some(watch) = launch.claim.watch() {
        poller.add(watch, KEY_NAME, Interest::Readable)?;
    }
    let is_inherited = launch.claim.is_inherited();
    let keeping = keeping::begin(&launch, &poller)?;
    let mut control = ControlThread {
        own_uid: rustix::process::geteuid().as_raw(),
        overflow_uid: socket::overflow_uid(),
        reserve: spare_descriptor(),
        shared,
        listener: Some(listener),
        claim: Some(launch.claim),
        options: launch.options,
        accept_queue: launch.accept_queue,
        audience: launch.audience,
        poller,
        handshakes: Handshakes::default(),
        unread_welcomes: UnreadWelcomes::new(),
        look_at_kept: None,
        look_at_inboxes: None,
        sessions: HashMap::new(),
        last_id: 0,
        accept_again_at: None,
        name_state: NameState::Owned,
        successor: None,
        is_inherited,
        is_told_of_privileges: false,
        keeping,
    };
    if is_inherited {
        control.refuse_early();
    }
    // What fails until the thread runs leaves a name that was taken over to the server that had it before. So the
    // thread takes it for good, and whoever made this server waits for that.
    let is_succeeding = control.claim.as_ref().is_some_and(NameClaim::is_succeeding);
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("wigwag-control".into()).spawn(move || {
        let (accept_queue, audience) = (control.accept_queue.clone(), control.audience.clone());
        let _shutdown_on_panic = ShutdownOnPanic(Arc::clone(&control.shared), accept_queue, audience);
        let kept = control.keep_name();
        let serves = kept.is_ok();
        let _ = tell.send(kept); // nobody waits for it otherwise
        if serves {
            control.run();
        }
    });
    let thread = thread.map_err(|error| {
        let doing = "start the control thread (is `ulimit -u`, `ulimit -v`, or the container's pids.max, reached?)";
        Error::io(doing, error)
    })?;
    if is_succeeding {
        told.recv().unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the control thread panicked")))?;
    }
    Ok(thread)
}

/// A control thread that panicked would leave a server that hears of no death and lets nobody in: end it in good order
/// instead.
struct ShutdownOnPanic(Arc<ServiceShared>, Option<Arc<AcceptQueue>>, Option<Arc<Audience>>);

impl Drop for ShutdownOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.shut_down();
            self.0.complete();
            self.1.iter().for_each(|accept_queue| accept_queue.close());
            self.2.iter().for_each(|audience| audience.bell().ring());
        }
    }
}

const KEY_LISTENER: u64 = 0;
const KEY_BELL: u64 = 1;
/// Sessions count from 1, so that this is no session's socket.
const KEY_NAME: u64 = 2;
const KEY_SOCKET: u64 = 2;
const KEY_PIDFD: u64 = 3;
/// A session's bell, while a handler waits for its caller to give up.
const KEY_SERVER_BELL: u64 = 4;
/// Of no session either: the connection to a keeper, and what tells that there may be one.
const KEY_KEEPER: u64 = KEY_PIDFD;
const KEY_KEEPER_WATCH: u64 = KEY_SERVER_BELL;
const KEY_KINDS: u64 = 5;
/// Connections accepted before everybody else has a turn.
const ACCEPTS_PER_TURN: usize = 32;
/// The first and the longest pause between two looks at memory that clients keep beyond their sessions.
const KEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// How long descriptors may lie in an inbox before it is looked at whether they belong to a request that is to come.
const INBOX_PAUSE: Duration = Duration::from_secs(1);
/// How long nobody is accepted when the process has no descriptor left even to refuse with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a name that was lost, and that nobody has, is left alone before it is tried again.
const NAME_PAUSE: Duration = Duration::from_secs(1);
/// The longest queue that an inherited listener can have had, unless net.core.somaxconn is far above its habit.
const INHERITED_QUEUE: usize = 65_536;

struct ControlThread {
    shared: Arc<ServiceShared>,
    own_uid: u32,
    overflow_uid: u32,
    listener: Option<OwnedFd>,
    claim: Option<NameClaim>,
    options: ListenOptions,
    accept_queue: Option<Arc<AcceptQueue>>,
    audience: Option<Arc<Audience>>,
    poller: Poller,
    handshakes: Handshakes,
    unread_welcomes: UnreadWelcomes,
    /// Memory of sessions that are over is looked after then, and after that pause once more.
    look_at_kept: Option<(Instant, Duration)>,
    /// Descriptors that belong to no request which came are looked for then.
    look_at_inboxes: Option<Instant>,
    sessions: HashMap<u64, WatchedSession>,
    last_id: u64,
    /// Kept open to have one descriptor for refusing when all others are gone.
    reserve: Option<OwnedFd>,
    accept_again_at: Option<Instant>,
    name_state: NameState,
    /// Another server, which takes the name over. Nobody is accepted meanwhile.
    successor: Option<Successor>,
    /// Whether the listener is somebody else's, and goes on without this server.
    is_inherited: bool,
    is_told_of_privileges: bool,
    /// Of a queue's receiver: the keeper of its messages, if it wants one.
    keeping: Option<Keeping>,
}

/// What became of the name, which others can remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameState {
    /// It is this server's.
    Owned,
    /// It was taken again just now, and is looked at once more: what was removed before its new watch was there is
    /// found then.
    TakenAgain,
    /// It was removed and could not be had again: it is tried then.
    RetryAt(Instant),
    /// Another server has it, or this process may not take it any more.
    Lost,
}

/// A session that runs, and what tells of the end of its client's process.
struct WatchedSession {
    session: Arc<Session>,
    pidfd: Option<OwnedFd>,
}

impl ControlThread {
    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            let deadline = self.nearest_deadline();
            if self.poller.wait(&mut events, deadline).is_err() {
                // Cannot happen with a valid epoll; never spin on it.
                std::thread::sleep(ACCEPT_PAUSE);
            }
            for index in 0..events.len() {
                self.handle(events.get(index));
            }
            self.expire();
            self.look_after_name_without_watch();
            if self.shared.is_shutting_down() {
                self.stop_listening();
            }
            self.record().handshakes.set(self.handshakes.len() as u64);
            for command in self.shared.take_commands() {
                match command {
                    Command::EndSession { id, reason, why } => self.end(id, Some((reason, &why))),
                    Command::Bury(session) => bury(session.segment.size(), session),
                    Command::Watch(id) => self.watch(id),
                    Command::EndAll => return self.end_all(),
                }
            }
        }
    }

    fn nearest_deadline(&self) -> Option<Instant> {
        let name_again = match self.name_state {
            _ if self.successor.is_some() => None, // it is not looked after meanwhile
            NameState::RetryAt(at) => Some(at),
            NameState::TakenAgain => Some(Instant::now()),
            _ => None,
        };
        let handshake = self.handshakes.nearest_deadline().into_iter();
        let looks = self.look_at_inboxes.into_iter().chain(self.look_at_kept.map(|(at, _)| at));
        let heir = self.successor.as_ref().map(|successor| successor.look_at);
        let keeper = self.keeping.as_ref().and_then(Keeping::deadline);
        handshake.chain(self.accept_again_at).chain(name_again).chain(looks).chain(heir).chain(keeper).min()
    }

    fn handle(&mut self, ready: Ready) {
        let id = ready.key / KEY_KINDS;
        match ready.key % KEY_KINDS {
            KEY_NAME if id == 0 => self.look_after_name(),
            KEY_LISTENER => self.accept(),
            KEY_KEEPER if id == 0 => self.hear_keeper(),
            KEY_KEEPER_WATCH if id == 0 => self.look_for_keeper(),
            KEY_BELL => {} // commands are looked at after every turn
            KEY_SOCKET if self.handshakes.contains(id) => self.advance(id),
            KEY_SOCKET if self.successor.as_ref().is_some_and(|successor| successor.id == id) => {
                self.look_after_successor();
            }
            KEY_SOCKET if self.unread_welcomes.contains(id) => self.unread_welcomes.look_at(id, &self.poller),
            KEY_SOCKET => self.listen_to(id, ready.hung_up),
            KEY_SERVER_BELL => {
                let _ = self.sessions.get(&id).map(|live| live.session.wake_watchers(&self.poller));
            }
            _ => self.end(id, None),
        }
    }

    /// Where nothing tells of a removed name, it is looked after whenever the control thread is awake anyway, and while
    /// it is lost once a second.
    fn look_after_name_without_watch(&mut self) {
        let Some(claim) = &self.claim else { return };
        if !self.is_told_of_privileges
            && let Some(user) = claim.former_user()
        {
            self.is_told_of_privileges = true;
            trace::privileges_given_up(&claim.path(), user);
        }
        match self.name_state {
            NameState::RetryAt(at) if at <= Instant::now() => self.look_after_name(),
            NameState::TakenAgain => self.look_after_name(),
            NameState::Owned if claim.watch().is_none() => self.look_after_name(),
            _ => {}
        }
    }

    /// The files of the name may have been removed or replaced: takes it again if they were.
    #[cold]
    fn look_after_name(&mut self) {
        if self.successor.is_some() {
            return; // it is about to be another's
        }
        let Some(claim) = &mut self.claim else { return };
        claim.watch().into_iter().for_each(|watch| self.poller.remove(watch)); // a child may hold it
        let after = claim.look_after();
        if let Some(watch) = claim.watch() {
            let _ = self.poller.add(watch, KEY_NAME, Interest::Readable);
        }
        match after {
            Ok(Aftermath::Kept) => self.name_state = NameState::Owned,
            Ok(Aftermath::TakenAgain { listener }) => {
                trace::name_taken_again(&claim.path());
                let (device, inode) = claim.lock_identity();
                let head = self.shared.statistics.tables().head;
                head.lock_device.set(device);
                head.lock_inode.set(inode);
                claim.announce(self.shared.statistics.memory());
                if let Some(listener) = listener {
                    self.listen_there(listener);
                }
                self.name_state = NameState::TakenAgain;
            }
            Err(error) => {
                if matches!(self.name_state, NameState::Owned | NameState::TakenAgain) {
                    trace::name_lost(&claim.path(), &error);
                }
                // Another server that has the name keeps it. Any other obstacle may pass, such as the socket of an heir
                // that has gone.
                let is_anothers = error.kind() == ErrorKind::NameTaken && !claim.has_own_lock();
                let may_pass = !is_anothers && claim.former_user().is_none();
                self.name_state =
                    if may_pass { NameState::RetryAt(Instant::now() + NAME_PAUSE) } else { NameState::Lost };
            }
        }
    }

    /// Another socket has the name from now on. Clients that have connected to the former socket are let in all the
    /// same.
    fn listen_there(&mut self, listener: OwnedFd) {
        if self.accept_again_at.is_none() {
            let _ = self.poller.add(&listener, KEY_LISTENER, Interest::Readable);
        }
        let Some(before) = self.listener.replace(listener) else { return };
        self.poller.remove(&before);
        socket::hang_up(&before); // nobody comes to it any more, so that its queue has an end
        while let Some(socket) = PeerSocket::next_queued(&before, &self.shared.background, &mut self.reserve) {
            self.greet(socket);
        }
        self.reserve = self.reserve.take().or_else(spare_descriptor);
    }

    /// Who connected before this process listened was told of another, and would watch for that one's end: they are
    /// asked to come again. It may hit some who came just now, and it ends while others connect without a pause.
    fn refuse_early(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        self.refuse_queued(&listener, "it has begun to listen only now: connect again");
        self.listener = Some(listener);
    }

    fn refuse_queued(&mut self, listener: &OwnedFd, why: &str) {
        for _ in 0..INHERITED_QUEUE {
            let next = PeerSocket::next_queued(listener, &self.shared.background, &mut self.reserve);
            let Some(socket) = next else { break };
            let uid = socket::credentials(&socket).map_or(u32::MAX, |peer| peer.uid);
            self.refuse(socket, uid, Reason::Later, why);
        }
        self.reserve = self.reserve.take().or_else(spare_descriptor);
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listener.as_ref().filter(|_| self.successor.is_none()) else { return };
            if self.shared.background.are_many() {
                return self.pause_accepting();
            }
            match socket::accept(listener) {
                Ok(socket) => self.greet(PeerSocket::accepted(socket, &self.shared.background)),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    return self.accept_without_descriptors();
                }
                // AGAIN: nobody is left. Others: that one connection is gone.
                Err(Errno::AGAIN) => return,
                Err(_) => {}
            }
        }
    }

    /// All descriptors are in use. The spare one takes the caller off the queue, to be told so, instead of spinning.
    fn accept_without_descriptors(&mut self) {
        if faults::is(Fault::BusyAccept) {
            return;
        }
        drop(self.reserve.take());
        let is_queue_shorter = match self.listener.as_ref().map(socket::accept) {
            Some(Ok(socket)) => {
                let socket = PeerSocket::accepted(socket, &self.shared.background);
                let uid = socket::credentials(&socket).map_or(u32::MAX, |peer| peer.uid);
                self.refuse(socket, uid, Reason::Later, "the server has all the descriptors it may have (`ulimit -n`)");
                true
            }
            Some(Err(Errno::AGAIN)) | None => true,
            Some(Err(_)) => false,
        };
        self.reserve = spare_descriptor();
        if !is_queue_shorter || self.reserve.is_none() {
            self.pause_accepting();
        }
    }

    /// Stops accepting for a while. Clients that connect meanwhile wait in the listener's queue.
    fn pause_accepting(&mut self) {
        if let Some(listener) = &self.listener {
            self.poller.remove(listener);
            self.accept_again_at = Some(Instant::now() + ACCEPT_PAUSE);
        }
    }

    fn greet(&mut self, socket: PeerSocket) {
        let peer = match socket::credentials(&socket) {
            Ok(peer) => peer,
            Err(_) if faults::is(Fault::DefaultUser) => Credentials { uid: self.own_uid, gid: 0, pid: 0 },
            Err(error) => return self.refuse(socket, u32::MAX, Reason::Refused, &error.to_string()),
        };
        let trust = match self.options.access.admit(self.own_uid, self.overflow_uid, &peer, || socket::groups(&socket))
        {
            Ok(_) if faults::is(Fault::TrustedOtherUser) => Trust::SameUser,
            Ok(trust) => trust,
            Err(why) => return self.refuse(socket, peer.uid, Reason::Refused, &why),
        };
        if peer.uid != self.own_uid && self.shared.quota.wakes(peer.uid).is_slow() {
            let why = "to wake this user's processes took the server more than a hundred times what it should, because \
                their sockets \
                       are in too many epolls: none is let in for a minute";
            return self.refuse(socket, peer.uid, Reason::Refused, why);
        }
        if self.shared.background.is_busy_with(peer.uid) {
            let why = "to close what this user's processes sent takes the server long: none is let in meanwhile";
            return self.refuse(socket, peer.uid, Reason::Later, why);
        }
        while self.handshakes.len() >= self.options.limits.handshakes {
            if faults::is(Fault::JealousPlaces) || !self.make_room(peer.uid) {
                let why = "the server allows no handshakes (ServerBuilder::max_handshakes)";
                return self.refuse(socket, peer.uid, Reason::Refused, why);
            }
        }
        self.last_id += 1;
        let id = self.last_id;
        if let Err(error) = self.poller.add(&socket, id * KEY_KINDS + KEY_SOCKET, Interest::Readable) {
            return self.refuse(socket, peer.uid, Reason::Refused, &error.to_string());
        }
        let deadline = Instant::now()
            .checked_add(self.options.limits.handshake_timeout)
            .filter(|_| !faults::is(Fault::PatientHandshake));
        self.handshakes.insert(id, Handshake { socket, peer, trust, deadline, offer: None });
        self.advance(id); // the greeting is often there already
    }

    /// All places for handshakes are taken: one is ended, if a newcomer of that user may have its place.
    fn make_room(&mut self, newcomer: u32) -> bool {
        let Some(id) = self.handshakes.to_evict(newcomer) else { return false };
        // It may be done but for a message that lies here unread, as a client is once it has said READY.
        self.advance(id);
        if let Some(handshake) = self.handshakes.remove(id) {
            let why = format!(
                "a newcomer needed the place of this handshake, {} are under way, as many as the server allows: try \
                 again",
                self.options.limits.handshakes
            );
            self.turn_away(id, handshake, Reason::Later, &why);
        }
        true
    }

    /// Moves a handshake on by one message.
    fn advance(&mut self, id: u64) {
        let Some(mut handshake) = self.handshakes.remove(id) else { return };
        match handshake.receive() {
            Action::Wait => self.handshakes.insert(id, handshake),
            Action::Forget => self.left(id, handshake),
            Action::Offer(hello) => match self.offer(&handshake, &hello) {
                Ok(offer) => {
                    handshake.offer = Some(offer);
                    self.keep(id, handshake);
                }
                Err((reason, why)) => self.turn_away(id, handshake, reason, &why),
            },
            Action::Establish(offer) => self.establish(id, handshake, offer),
            Action::HandOver => self.begin_to_hand_over(id, handshake),
            Action::TurnAway(why) => self.turn_away(id, handshake, Reason::Violation, why),
        }
    }

    /// Grants a client what it asks for, within the limits.
    fn offer(&mut self, handshake: &Handshake, hello: &Hello) -> std::result::Result<Offer, Refused> {
        let uid = handshake.peer.uid;
        let grant = || {
            let (trust, usage) = (handshake.trust, self.shared.quota.usage(uid));
            self.options.limits.grant(hello, &self.options.contract, self.options.offered(trust), trust, usage)
        };
        let granted = match grant() {
            Err(_) if self.shared.quota.has_kept() => {
                self.give_back_kept();
                grant()?
            }
            outcome => outcome?,
        };
        if let Some(accept_queue) = &self.accept_queue {
            accept_queue.check_room(self.handshakes.welcomed().count()).map_err(|why| (Reason::Later, why))?;
        }
        self.unread_welcomes.check_room(uid, self.own_uid, self.handshakes.welcomed(), &self.poller)?;
        // Charged from here on: many clients cannot pass the limits by coming all at once.
        let charged = self.shared.quota.charge(uid, granted.geometry.segment_size);
        handshake.prepare(granted, &self.options.contract, self.audience.as_deref(), charged)
    }

    /// Sends the client what was prepared for it.
    fn welcome(&mut self, id: u64, mut handshake: Handshake) {
        match handshake.welcome(self.audience.as_deref()) {
            Ok(()) => self.handshakes.insert(id, handshake),
            Err((reason, why)) => self.turn_away(id, handshake, reason, &why),
        }
    }

    fn establish(&mut self, id: u64, handshake: Handshake, mut offer: Offer) {
        if !faults::is(Fault::MissingSeal)
            && let Err(error) = memory::seal_finally(&*offer.memory)
        {
            return self.turn_away(id, handshake, Reason::Refused, &format!("the server {error}"));
        }
        if let Some(accept_queue) = self.accept_queue.clone() {
            return self.let_be_accepted(id, &accept_queue, handshake, offer);
        }
        if let Some(pidfd) = &offer.pidfd
            && let Err(error) = self.poller.add(pidfd, id * KEY_KINDS + KEY_PIDFD, Interest::Readable)
        {
            return self.turn_away(id, handshake, Reason::Refused, &format!("the server {error}"));
        }
        let record = self.begin_session(id, &handshake, &offer);
        let arrival = offer.arrival.take();
        let (session, pidfd) = handshake.into_session(id, offer, &self.options.contract, record, &self.shared);
        // Counted before it is served, so that nobody sees calls of no session.
        self.sessions.insert(id, WatchedSession { session: Arc::clone(&session), pidfd });
        self.record().sessions.set(self.sessions.len() as u64);
        self.record().accepted.add(1); // after it is among the living, so that others' end can be waited for by number
        match &self.audience {
            Some(audience) => audience.join(&session),
            None => self.shared.deal(&session),
        }
        drop(arrival);
        self.register_late(id);
    }

    /// A handler waits for its caller to give up.
    fn watch(&mut self, id: u64) {
        let Some(live) = self.sessions.get(&id) else { return };
        if let Err(error) = live.session.be_watched(&self.poller, id * KEY_KINDS + KEY_SERVER_BELL) {
            self.end(id, Some((Reason::Refused, &format!("the server {error}"))));
        }
    }

    /// Counts a session that is granted, and gives it a record.
    fn begin_session(&self, id: u64, handshake: &Handshake, offer: &Offer) -> SessionEntry {
        trace::session_begins(id, handshake.peer.uid, handshake.peer.pid);
        if !offer.agreement.has_same_clock {
            trace::clocks_differ(handshake.peer.pid);
        }
        self.shared.statistics.begin_session(&handshake.newcomer(id, offer))
    }

    /// What the control thread counts, and nobody else.
    fn record(&self) -> &ControlRecord {
        self.shared.statistics.tables().control
    }

    /// Hands a session to the queue of `accept`: its acceptor watches it from then on, and the control thread does no
    /// more.
    fn let_be_accepted(&mut self, id: u64, accept_queue: &AcceptQueue, handshake: Handshake, offer: Offer) {
        self.poller.remove(&handshake.socket);
        let record = self.begin_session(id, &handshake, &offer);
        self.record().accepted.add(1);
        accept_queue.push(handshake.into_pending_stream(offer, record));
    }

    /// A living session's socket has something: the end, or what a client must not send.
    fn listen_to(&mut self, id: u64, hung_up: bool) {
        let Some(live) = self.sessions.get(&id) else { return };
        if let Some(travelling) = &live.session.descriptors {
            let drained = live.session.drain_descriptors(&travelling.inbox);
            if !travelling.inbox.is_empty() && self.look_at_inboxes.is_none() {
                self.look_at_inboxes = Some(Instant::now() + INBOX_PAUSE);
            }
            return match drained {
                Drained::Open if !hung_up => {}
                Drained::Open | Drained::Gone => self.end(id, None),
                Drained::Refused(why) => self.end(id, Some((Reason::Violation, &why))),
                Drained::Failed(why) => self.end(id, Some((Reason::Refused, &why))),
            };
        }
        let mut buffer = [0u8; MESSAGE_MAX];
        match live.session.socket.receive(&mut buffer) {
            Ok(received) if received.len == 0 => self.end(id, None),
            Ok(_) => self.end(id, Some((Reason::Violation, "it sent a message after the handshake"))),
            Err(Errno::BADMSG) => self.end(id, Some((Reason::Violation, "it sent descriptors"))),
            Err(Errno::AGAIN) if !hung_up => {}
            Err(_) => self.end(id, None),
        }
    }

    fn end(&mut self, id: u64, farewell: Option<(Reason, &str)>) {
        let Some(live) = self.sessions.remove(&id) else { return };
        let session = &live.session;
        if let Some((Reason::Violation, why)) = farewell {
            trace::violation(id, session.peer.pid, why);
            self.record().violations.add(1);
            session.kept.iter().for_each(KeptSession::forget);
        }
        trace::session_ends(id, session.peer.pid, farewell.map(|(_, why)| why));
        // A request may keep the session, and so its descriptors, for a while: unwatch and hang up by name.
        self.poller.remove(&session.socket);
        if let Some(pidfd) = live.pidfd {
            self.poller.remove(&pidfd);
            if faults::is(Fault::LeakedDescriptor) {
                std::mem::forget(pidfd);
            }
        }
        if faults::is(Fault::LeakedMemory) {
            std::mem::forget(std::hint::black_box(vec![1u8; 4096]));
        }
        let last_words = farewell.map(|(reason, why)| {
            let is_known = reason != Reason::Moved || session.agreement.has_moved();
            FromServer::Farewell(if is_known { reason } else { Reason::Shutdown }, why.to_owned()).encode()
        });
        let socket = Arc::clone(&session.socket);
        self.wake(session.peer.uid, move || {
            if let Some(last_words) = last_words {
                let _ = socket::send(&*socket, &last_words, &[]);
            }
            socket::hang_up(&*socket);
        });
        self.poller.remove(&session.server_bell); // if a handler waits for its caller to give up
        session.abandonment.end();
        if let Some(travelling) = &session.descriptors {
            travelling.under_way.end();
        }
        match (farewell, session.form.on_peer_gone()) {
            (None, OnPeerGone::Drain) => self.shared.orphan(session), // with what came for its messages
            (None, OnPeerGone::Reclaim) | (Some(_), _) => {
                session.clear_inbox(); // a request that nobody has taken is lost with its session
                match &self.audience {
                    Some(audience) => audience.leave(id),
                    None => self.shared.forget(session),
                }
            }
        }
        self.record().sessions.set(self.sessions.len() as u64);
        bury(live.session.segment.size(), live.session);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        for id in self.handshakes.late(now) {
            if let Some(handshake) = self.handshakes.remove(id) {
                let why = format!("the handshake took longer than {:?}", self.options.limits.handshake_timeout);
                self.turn_away(id, handshake, Reason::Later, &why);
            }
        }
        self.look_after_kept(now);
        self.look_after_keeper(now);
        if self.successor.as_ref().is_some_and(|successor| successor.look_at <= now) {
            self.look_after_successor();
        }
        if self.look_at_inboxes.is_some_and(|at| at <= now) {
            self.look_after_inboxes(now);
        }
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            self.reserve = spare_descriptor();
            if let (Some(listener), None) = (&self.listener, &self.successor) {
                let _ = self.poller.add(listener, KEY_LISTENER, Interest::Readable);
            }
        }
    }

    /// Ends a handshake with a reason.
    fn turn_away(&mut self, id: u64, handshake: Handshake, reason: Reason, why: &str) {
        trace::refusal(why);
        self.let_go(id, handshake, Some(FromServer::Refusal(reason, why.to_owned()).encode()));
    }

    /// The client of a handshake left by itself.
    fn left(&mut self, id: u64, handshake: Handshake) {
        self.let_go(id, handshake, None);
    }

    /// A forked child of ours may hold the descriptor open: unwatch and hang up by name.
    fn let_go(&mut self, id: u64, handshake: Handshake, last_words: Option<Vec<u8>>) {
        let Handshake { socket, peer: Credentials { uid, .. }, offer, .. } = handshake;
        self.count_refusal();
        self.poller.remove(&socket);
        let socket = Arc::new(socket);
        let leaving = Arc::clone(&socket);
        self.wake(uid, move || {
            last_words.iter().for_each(|last_words| say_last(&leaving, last_words));
            socket::hang_up(&*leaving);
        });
        self.keeping.iter_mut().for_each(|keeping| keeping.forget_unasked(id));
        let Some(offer) = offer else { return };
        if !offer.is_welcomed || socket::is_unread_by_peer(&*socket) {
            offer.kept.iter().for_each(KeptSession::forget); // its client has never had the memory
        }
        bury(offer.segment.size(), offer);
        if socket::is_unread_by_peer(&*socket)
            && self.poller.add(&*socket, id * KEY_KINDS + KEY_SOCKET, Interest::Drained).is_ok()
        {
            socket.discard_unread(uid);
            self.unread_welcomes.insert(id, socket, uid);
        }
    }

    fn refuse(&self, socket: PeerSocket, uid: u32, reason: Reason, why: &str) {
        trace::refusal(why);
        self.count_refusal();
        let refusal = FromServer::Refusal(reason, why.to_owned()).encode();
        self.wake(uid, move || say_last(&socket, &refusal));
    }

    /// Does something that wakes a user's process: at once, or by background job if that takes long.
    fn wake(&self, uid: u32, wake: impl FnOnce() + Send + 'static) {
        if uid == self.own_uid {
            return wake();
        }
        let wakes = self.shared.quota.wakes(uid);
        match wakes.is_slow() {
            true => self.shared.background.run(uid, wake),
            false => drop(wakes.wake(wake)),
        }
    }

    /// Gives back what was charged for memory that its client had when the session ended, and has no longer.
    fn give_back_kept(&self) {
        let freed = self.shared.quota.look_after_kept();
        if !freed.is_empty() {
            bury(usize::MAX, freed);
        }
    }

    /// Looks after such memory, with pauses that grow while it stays.
    fn look_after_kept(&mut self, now: Instant) {
        match self.look_at_kept {
            Some((at, _)) if at > now => return,
            Some(_) => self.give_back_kept(),
            None => {}
        }
        self.look_at_kept = self.shared.quota.has_kept().then(|| {
            let pause = self.look_at_kept.map_or(KEPT_PAUSES.0, |(_, pause)| (2 * pause).min(KEPT_PAUSES.1));
            (now + pause, pause)
        });
    }

    /// Ends sessions that have sent descriptors for a request which came without, and so took none.
    #[cold]
    fn look_after_inboxes(&mut self, now: Instant) {
        let waiting = |live: &&WatchedSession| {
            let travelling = live.session.descriptors.as_ref();
            travelling.is_some_and(|travelling| !travelling.inbox.is_empty())
        };
        let ids: Vec<u64> = self.sessions.values().filter(waiting).map(|live| live.session.id).collect();
        self.look_at_inboxes = (!ids.is_empty()).then(|| now + INBOX_PAUSE);
        ids.into_iter().for_each(|id| self.listen_to(id, false));
    }

    fn count_refusal(&self) {
        self.record().refused.add(1);
    }

    fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.poller.remove(&listener);
            self.accept_again_at = None;
            self.end_takeover();
            self.claim.iter().filter_map(NameClaim::watch).for_each(|watch| self.poller.remove(watch));
            self.shared.name_stays(self.claim.take().and_then(|claim| claim.give_back().err()));
            // A forked child may hold it, too, and with it all who are in its queue: it is shut for all who hold it,
            // and the queue is hung up on as closing would. The name has gone before. A child has no control thread,
            // and so never does this to its parent. An inherited one goes on: its queue is the next server's.
            if !self.is_inherited {
                if self.shared.is_moved() {
                    self.refuse_queued(&listener, REPLACED);
                }
                socket::hang_up(&listener);
                while PeerSocket::next_queued(&listener, &self.shared.background, &mut self.reserve).is_some() {}
            }
            let head = self.shared.statistics.tables().head;
            head.lock_device.set(0);
            head.lock_inode.set(0);
            // A client that has said READY counts itself as connected, and may have sent something.
            self.handshakes.ids().into_iter().for_each(|id| self.advance(id));
            for id in self.handshakes.ids() {
                if let Some(handshake) = self.handshakes.remove(id) {
                    match self.shared.is_moved() {
                        true => self.turn_away(id, handshake, Reason::Later, REPLACED),
                        false => self.turn_away(id, handshake, Reason::Shutdown, SHUTTING_DOWN),
                    }
                }
            }
            self.accept_queue.iter().for_each(|accept_queue| accept_queue.close());
            self.shared.complete();
            self.audience.iter().for_each(|audience| audience.bell().ring()); // its publisher may wait for somebody
        }
    }

    fn end_all(&mut self) {
        self.stop_listening();
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            let farewell = match self.shared.is_moved() {
                true => (Reason::Moved, REPLACED),
                false => (Reason::Shutdown, "the server shut down"),
            };
            self.end(id, Some(farewell));
        }
        self.shared.quota.close();
    }
}

/// Says why a connection is over, so that it arrives: what the client has said and nobody read would reset the
/// connection.
fn say_last(socket: &PeerSocket, last_words: &[u8]) {
    let _ = socket.receive(&mut [0u8; MESSAGE_MAX]);
    let _ = socket::send(socket, last_words, &[]);
}

fn spare_descriptor() -> Option<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).ok()
}
