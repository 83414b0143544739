//! The steward: one thread of the server that runs the control plane, so that a busy handler never delays a connect, a
//! refusal or the news of a death.
//!
//! It accepts, shakes hands with a deadline, hands finished sessions to the threads that serve, and ends them: on hang-up
//! of the socket *or* the end of the peer's process, whichever comes first (a forked child can keep a socket open). It
//! sleeps in one epoll with no timeout but the nearest handshake's deadline: idle means idle.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::arrivals::{Arrival, Arrivals};
use super::core::{Command, Core};
use super::ledger::Entry;
use super::policy::{Limits, Policy, Trust};
use super::protocol::{FromClient, FromServer, Hello, PROTOCOL_VERSION, Reason, Welcome};
use super::rendezvous::Claim;
use crate::contract::{Contract, Form};
use crate::error::{Error, Result};
use crate::event;
use crate::layout::Geometry;
use crate::planted::{self, Fault};
use crate::segment::Segment;
use crate::session::Session;
use crate::slot;
use crate::statistics::{Newcomer, SessionEntry, StewardRecord};
use crate::sys::bell::Bell;
use crate::sys::poller::{Events, Interest, Poller, Ready};
use crate::sys::socket::{self, Credentials, MESSAGE_MAX};
use crate::sys::{clock, memory};
use crate::wait::Wait;

/// What a new server's steward is told.
#[derive(Debug)]
pub struct Orders {
    /// The name, taken.
    pub claim: Claim,
    /// Who is let in.
    pub policy: Policy,
    /// How much they get.
    pub limits: Limits,
    /// What is served.
    pub contract: Contract,
    /// How the serving threads wait.
    pub wait: Wait,
    /// Whether calls are counted: not in one half of a benchmark.
    pub is_counting: bool,
    /// Where new sessions go that nobody serves: they are accepted. `None`: to the serving threads.
    pub arrivals: Option<Arc<Arrivals>>,
}

/// Starts the steward's thread. It ends after [`Command::EndAll`].
pub fn start(core: Arc<Core>, mut orders: Orders) -> Result<std::thread::JoinHandle<()>> {
    let listener = orders.claim.listen()?;
    let _ = socket::refuse_descriptors(&listener); // an older kernel: each connection drops what it is sent
    let poller = Poller::new()?;
    poller.add(&listener, KEY_LISTENER, Interest::Readable)?;
    poller.add(&core.bell, KEY_BELL, Interest::Bell)?;
    let steward = Steward {
        own_uid: rustix::process::geteuid().as_raw(),
        overflow_uid: socket::overflow_uid(),
        reserve: spare_descriptor(),
        core,
        listener: Some(listener),
        claim: Some(orders.claim),
        policy: orders.policy,
        limits: orders.limits,
        contract: orders.contract,
        arrivals: orders.arrivals,
        poller,
        handshakes: HashMap::new(),
        sessions: HashMap::new(),
        last_id: 0,
        accept_again_at: None,
    };
    std::thread::Builder::new()
        .name("wigwag-steward".into())
        .spawn(move || {
            let _alarm = Alarm(Arc::clone(&steward.core), steward.arrivals.clone());
            steward.run();
        })
        .map_err(|error| Error::io("start the steward's thread", error))
}

/// A steward that panicked would leave a server that hears of no death and lets nobody in: end it in good order instead.
struct Alarm(Arc<Core>, Option<Arc<Arrivals>>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.shut_down();
            self.0.complete();
            self.1.iter().for_each(|arrivals| arrivals.close());
        }
    }
}

const KEY_LISTENER: u64 = 0;
const KEY_BELL: u64 = 1;
const KEY_SOCKET: u64 = 2;
const KEY_PIDFD: u64 = 3;
const KEY_KINDS: u64 = 4;
/// Connections accepted before everybody else has a turn.
const ACCEPTS_PER_TURN: usize = 32;
/// How long nobody is accepted when the process has no descriptor left even to refuse with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Steward {
    core: Arc<Core>,
    own_uid: u32,
    overflow_uid: u32,
    listener: Option<OwnedFd>,
    claim: Option<Claim>,
    policy: Policy,
    limits: Limits,
    contract: Contract,
    arrivals: Option<Arc<Arrivals>>,
    poller: Poller,
    handshakes: HashMap<u64, Handshake>,
    sessions: HashMap<u64, Live>,
    last_id: u64,
    /// Kept open to have one descriptor for refusing when all others are gone.
    reserve: Option<OwnedFd>,
    accept_again_at: Option<Instant>,
}

/// A client that is not a session yet. It has cost us one descriptor; four more and memory only once it said HELLO well.
struct Handshake {
    socket: OwnedFd,
    peer: Credentials,
    trust: Trust,
    /// `None`: longer than the clock can say.
    deadline: Option<Instant>,
    offer: Option<Offer>,
}

/// What a client was welcomed with.
struct Offer {
    memory: OwnedFd,
    segment: Segment,
    server_bell: Bell,
    client_bell: Option<Bell>,
    /// Opened before the client is welcomed: without a descriptor for it there is no session.
    pidfd: Option<OwnedFd>,
    charged: Entry,
}

struct Live {
    session: Arc<Session>,
    pidfd: Option<OwnedFd>,
}

impl Steward {
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
            if self.core.is_shutting_down() {
                self.stop_listening();
            }
            self.record().handshakes.set(self.handshakes.len() as u64);
            for command in self.core.take_commands() {
                match command {
                    Command::EndSession { id, reason, why } => self.end(id, Some((reason, &why))),
                    Command::Bury(session) => bury(session.segment.size(), session),
                    Command::EndAll => return self.end_all(),
                }
            }
        }
    }

    fn nearest_deadline(&self) -> Option<Instant> {
        self.handshakes.values().filter_map(|handshake| handshake.deadline).chain(self.accept_again_at).min()
    }

    fn handle(&mut self, ready: Ready) {
        let id = ready.key / KEY_KINDS;
        match ready.key % KEY_KINDS {
            KEY_LISTENER => self.accept(),
            KEY_BELL => {} // commands are looked at after every turn
            KEY_SOCKET if self.handshakes.contains_key(&id) => self.advance(id),
            KEY_SOCKET => self.listen_to(id, ready.hung_up),
            _ => self.end(id, None),
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else { return };
            match socket::accept(listener) {
                Ok(socket) => self.greet(socket),
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
        if planted::is(Fault::BusyAccept) {
            return;
        }
        drop(self.reserve.take());
        let is_queue_shorter = match self.listener.as_ref().map(socket::accept) {
            Some(Ok(socket)) => {
                self.refuse(&socket, Reason::Refused, "the server has all the descriptors it may have (`ulimit -n`)");
                true
            }
            Some(Err(Errno::AGAIN)) | None => true,
            Some(Err(_)) => false,
        };
        self.reserve = spare_descriptor();
        if (!is_queue_shorter || self.reserve.is_none())
            && let Some(listener) = &self.listener
        {
            self.poller.remove(listener);
            self.accept_again_at = Some(Instant::now() + ACCEPT_PAUSE);
        }
    }

    fn greet(&mut self, socket: OwnedFd) {
        let peer = match socket::credentials(&socket) {
            Ok(peer) => peer,
            Err(_) if planted::is(Fault::DefaultUser) => Credentials { uid: self.own_uid, gid: 0, pid: 0 },
            Err(error) => return self.refuse(&socket, Reason::Refused, &error.to_string()),
        };
        let trust = match self.policy.admit(self.own_uid, self.overflow_uid, &peer, || socket::groups(&socket)) {
            Ok(_) if planted::is(Fault::TrustedStranger) => Trust::SameUser,
            Ok(trust) => trust,
            Err(why) => return self.refuse(&socket, Reason::Refused, &why),
        };
        while self.handshakes.len() >= self.limits.handshakes {
            if planted::is(Fault::JealousPlaces) || !self.make_room(peer.uid) {
                return self.refuse(
                    &socket,
                    Reason::Refused,
                    "the server allows no handshakes (ServerBuilder::max_handshakes)",
                );
            }
        }
        self.last_id += 1;
        let id = self.last_id;
        if let Err(error) = self.poller.add(&socket, id * KEY_KINDS + KEY_SOCKET, Interest::Readable) {
            return self.refuse(&socket, Reason::Refused, &error.to_string());
        }
        let deadline =
            Instant::now().checked_add(self.limits.handshake_timeout).filter(|_| !planted::is(Fault::PatientHandshake));
        self.handshakes.insert(id, Handshake { socket, peer, trust, deadline, offer: None });
        self.advance(id); // the greeting is often there already
    }

    /// All places for handshakes are taken. The user who holds most of them, the newcomer counted, loses the oldest. So nobody
    /// shuts others out by knocking, not even programs of their own user: whoever goes on at once is done before as many have
    /// come after it as there are places.
    fn make_room(&mut self, newcomer: u32) -> bool {
        let mut of_user = HashMap::from([(newcomer, 1)]);
        for handshake in self.handshakes.values() {
            *of_user.entry(handshake.peer.uid).or_insert(0) += 1;
        }
        // The newcomer's own user may have no handshake yet.
        let held = of_user.iter().filter(|(uid, count)| **uid != newcomer || **count > 1);
        let Some((&crowd, _)) = held.max_by_key(|(_, count)| **count) else { return false };
        let oldest = self.handshakes.iter().filter(|(_, h)| h.peer.uid == crowd).map(|(&id, _)| id).min();
        let Some(id) = oldest else { return false };
        // It may be done but for a message that lies here unread, as a client is once it has said READY.
        self.advance(id);
        if let Some(handshake) = self.handshakes.remove(&id) {
            let why = format!(
                "a newcomer needed the place of this handshake, {} are under way, as many as the server allows: try again",
                self.limits.handshakes
            );
            self.turn_away(handshake, Reason::Refused, &why);
        }
        true
    }

    /// Moves a handshake on by one message.
    fn advance(&mut self, id: u64) {
        let Some(mut handshake) = self.handshakes.remove(&id) else { return };
        let mut buffer = [0u8; MESSAGE_MAX];
        let received = match socket::receive(&handshake.socket, &mut buffer) {
            Ok(received) => received,
            Err(Errno::AGAIN) => {
                self.handshakes.insert(id, handshake);
                return;
            }
            Err(_) => return self.left(handshake),
        };
        if received.len == 0 {
            return self.left(handshake);
        }
        // Descriptors are never expected; those that came are closed here, with `received`.
        let message = if received.truncated {
            Err("the message is too long")
        } else {
            FromClient::decode(&buffer[..received.len])
        };
        match (message, handshake.offer.take()) {
            (Ok(FromClient::Hello(hello)), None) => match self.offer(&handshake, &hello) {
                Ok(offer) => {
                    handshake.offer = Some(offer);
                    self.handshakes.insert(id, handshake);
                }
                Err((reason, why)) => self.turn_away(handshake, reason, &why),
            },
            (Ok(FromClient::Ready), Some(offer)) => self.establish(id, handshake, offer),
            (Ok(_), _) => {
                self.turn_away(handshake, Reason::Violation, "the messages of the handshake came out of order")
            }
            (Err(why), _) => self.turn_away(handshake, Reason::Violation, why),
        }
    }

    fn offer(&mut self, handshake: &Handshake, hello: &Hello) -> std::result::Result<Offer, (Reason, String)> {
        let uid = handshake.peer.uid;
        let usage = self.core.ledger.usage(uid);
        let geometry = self.limits.grant(hello, &self.contract, handshake.trust, usage)?;
        if let Some(arrivals) = &self.arrivals {
            let offers = self.handshakes.values().filter(|handshake| handshake.offer.is_some()).count();
            arrivals.check_room(offers).map_err(|why| (Reason::Refused, why))?;
        }
        // Charged from here on: a crowd cannot pass the limits by coming all at once.
        let charged = self.core.ledger.charge(uid, geometry.segment_size);
        let failed = |error: Error| (Reason::Refused, format!("the server {error}"));
        let bell = || Bell::new().map_err(|error| failed(Error::io("create a doorbell", error)));
        let memory = memory::create_sealed("wigwag", geometry.segment_size).map_err(failed)?;
        let segment = match self.contract.form {
            Form::Stream => Segment::map_rings(&memory, geometry),
            _ => Segment::map(&memory, geometry),
        }
        .map_err(failed)?;
        segment.write_header(&geometry.header(&self.contract));
        let server_bell = bell()?;
        let client_bell = if handshake.trust == Trust::SameUser { Some(bell()?) } else { None };
        let pidfd = match socket::peer_pidfd(&handshake.socket, &handshake.peer) {
            Ok(pidfd) => pidfd.filter(|_| !planted::is(Fault::SocketAlone)),
            Err(_) if planted::is(Fault::MissingPidfd) => None,
            Err(error) => return Err(failed(error)),
        };
        let welcome = FromServer::Welcome(Welcome {
            protocol: PROTOCOL_VERSION,
            slots: geometry.slots as u32,
            capacity: geometry.capacity as u32,
            segment_size: geometry.segment_size as u64,
            has_client_bell: client_bell.is_some(),
        });
        let mut fds = vec![memory.as_fd(), server_bell.as_fd()];
        fds.extend(client_bell.as_ref().map(Bell::as_fd));
        socket::send(&handshake.socket, &welcome.encode(), &fds)
            .map_err(|error| failed(Error::io("greet the client", error)))?;
        Ok(Offer { memory, segment, server_bell, client_bell, pidfd, charged })
    }

    fn establish(&mut self, id: u64, handshake: Handshake, offer: Offer) {
        if !planted::is(Fault::MissingSeal)
            && let Err(error) = memory::seal_finally(&offer.memory)
        {
            return self.turn_away(handshake, Reason::Refused, &format!("the server {error}"));
        }
        if let Some(arrivals) = self.arrivals.clone() {
            return self.hand_over(id, &arrivals, handshake, offer);
        }
        if let Some(pidfd) = &offer.pidfd
            && let Err(error) = self.poller.add(pidfd, id * KEY_KINDS + KEY_PIDFD, Interest::Readable)
        {
            return self.turn_away(handshake, Reason::Refused, &format!("the server {error}"));
        }
        let record = self.begin_session(id, &handshake, offer.segment.geometry());
        let Handshake { socket, peer, trust, .. } = handshake;
        let slots = offer.segment.geometry().slots;
        let has_copies = trust == Trust::Stranger && self.contract.form == Form::Queue;
        let session = Arc::new(Session {
            id,
            segment: offer.segment,
            memory: (trust == Trust::Stranger).then_some(offer.memory),
            socket,
            server_bell: offer.server_bell,
            client_bell: offer.client_bell,
            form: self.contract.form,
            peer,
            trust,
            record,
            _charged: offer.charged,
            copies: (0..if has_copies { slots } else { 0 }).map(|_| Mutex::new(None)).collect(),
            answered: (0..slots).map(|_| AtomicU64::new(slot::before_first())).collect(),
            port: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
            core: Arc::downgrade(&self.core),
        });
        // Counted before it is served, so that nobody sees calls of no session.
        self.sessions.insert(id, Live { session: Arc::clone(&session), pidfd: offer.pidfd });
        self.record().sessions.set(self.sessions.len() as u64);
        self.core.deal(&session);
    }

    /// Counts a session that is granted, and gives it a record.
    fn begin_session(&self, id: u64, handshake: &Handshake, geometry: &Geometry) -> SessionEntry {
        let Credentials { uid, gid, pid } = handshake.peer;
        event::session_begins(id, uid, pid);
        self.record().accepted.add(1);
        self.core.statistics.begin_session(&Newcomer {
            id,
            uid,
            gid,
            pid,
            is_trusted: handshake.trust == Trust::SameUser,
            slots: geometry.slots,
            capacity: geometry.capacity,
            now_ns: clock::now_ns(),
        })
    }

    /// What the steward counts, and nobody else.
    fn record(&self) -> &StewardRecord {
        self.core.statistics.tables().steward
    }

    /// A session that is to be accepted: whoever does watches it, and the steward does no more.
    fn hand_over(&mut self, id: u64, arrivals: &Arrivals, handshake: Handshake, offer: Offer) {
        self.poller.remove(&handshake.socket);
        let record = self.begin_session(id, &handshake, offer.segment.geometry());
        let Handshake { socket, peer, trust, .. } = handshake;
        let Offer { segment, server_bell, client_bell, pidfd, charged, memory: _ } = offer;
        arrivals.push(Arrival { segment, socket, pidfd, server_bell, client_bell, peer, trust, record, charged });
    }

    /// A living session's socket has something: the end, or what a client must not send.
    fn listen_to(&mut self, id: u64, hung_up: bool) {
        let Some(live) = self.sessions.get(&id) else { return };
        let mut buffer = [0u8; MESSAGE_MAX];
        match socket::receive(&live.session.socket, &mut buffer) {
            Ok(received) if received.len == 0 => self.end(id, None),
            Ok(_) => self.end(id, Some((Reason::Violation, "it sent a message after the handshake"))),
            Err(Errno::AGAIN) if !hung_up => {}
            Err(_) => self.end(id, None),
        }
    }

    fn end(&mut self, id: u64, farewell: Option<(Reason, &str)>) {
        let Some(live) = self.sessions.remove(&id) else { return };
        let session = &live.session;
        if let Some((reason, why)) = farewell {
            if reason == Reason::Violation {
                event::violation(id, session.peer.pid, why);
                self.record().violations.add(1);
            }
            let _ = socket::send(&session.socket, &FromServer::Farewell(reason, why.to_owned()).encode(), &[]);
        }
        event::session_ends(id, session.peer.pid, farewell.map(|(_, why)| why));
        // A request may keep the session, and so its descriptors, for a while: unwatch and hang up by name.
        self.poller.remove(&session.socket);
        if let Some(pidfd) = live.pidfd {
            self.poller.remove(&pidfd);
            if planted::is(Fault::LeakedDescriptor) {
                std::mem::forget(pidfd);
            }
        }
        if planted::is(Fault::LeakedMemory) {
            std::mem::forget(std::hint::black_box(vec![1u8; 4096]));
        }
        socket::hang_up(&session.socket);
        match farewell {
            // What a sender has committed is received although it is gone.
            None if session.form == Form::Queue => self.core.orphan(session),
            _ => self.core.forget(session),
        }
        self.record().sessions.set(self.sessions.len() as u64);
        bury(live.session.segment.size(), live.session);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> =
            self.handshakes.iter().filter(|(_, h)| h.deadline.is_some_and(|at| at <= now)).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(handshake) = self.handshakes.remove(&id) {
                let why = format!("the handshake took longer than {:?}", self.limits.handshake_timeout);
                self.turn_away(handshake, Reason::Refused, &why);
            }
        }
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            self.reserve = spare_descriptor();
            if let Some(listener) = &self.listener {
                let _ = self.poller.add(listener, KEY_LISTENER, Interest::Readable);
            }
        }
    }

    /// Ends a handshake with a reason.
    fn turn_away(&self, handshake: Handshake, reason: Reason, why: &str) {
        self.refuse(&handshake.socket, reason, why);
        self.let_go(handshake);
    }

    /// The client of a handshake left by itself.
    fn left(&self, handshake: Handshake) {
        self.count_refusal();
        self.let_go(handshake);
    }

    /// A forked child of ours may hold the descriptor open: unwatch and hang up by name.
    fn let_go(&self, handshake: Handshake) {
        self.poller.remove(&handshake.socket);
        socket::hang_up(&handshake.socket);
        if let Some(offer) = handshake.offer {
            bury(offer.segment.size(), offer);
        }
    }

    fn refuse(&self, socket: &OwnedFd, reason: Reason, why: &str) {
        event::refusal(why);
        // What the client said and nobody read would reset the connection before the reason is read there.
        let _ = socket::receive(socket, &mut [0u8; MESSAGE_MAX]);
        let _ = socket::send(socket, &FromServer::Refusal(reason, why.to_owned()).encode(), &[]);
        self.count_refusal();
    }

    fn count_refusal(&self) {
        self.record().refused.add(1);
    }

    fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.poller.remove(&listener);
            self.accept_again_at = None;
            self.claim = None; // removes the name
            // Who has said READY is connected for all it knows, and may have sent something.
            let under_way: Vec<u64> = self.handshakes.keys().copied().collect();
            under_way.into_iter().for_each(|id| self.advance(id));
            for handshake in std::mem::take(&mut self.handshakes).into_values() {
                self.turn_away(handshake, Reason::Shutdown, "the server is shutting down");
            }
            self.arrivals.iter().for_each(|arrivals| arrivals.close());
            self.core.complete();
        }
    }

    fn end_all(&mut self) {
        self.stop_listening();
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            self.end(id, Some((Reason::Shutdown, "the server shut down")));
        }
    }
}

/// Segments above this size are given back by a thread of their own: it takes a second for 10 GiB.
const BURIAL_ALONE: usize = 64 << 20;

/// Lets go of something with a segment of `size` bytes in it. Whoever is the last owner gives the memory back.
fn bury<T: Send + 'static>(size: usize, what: T) {
    if size <= BURIAL_ALONE {
        return;
    }
    // If there is no thread to be had, it goes with the closure: here and now.
    let _ = std::thread::Builder::new().name("wigwag-burial".into()).spawn(move || drop(what));
}

fn spare_descriptor() -> Option<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).ok()
}
