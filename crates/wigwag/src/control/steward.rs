//! The steward: one thread of the server that runs the control plane, so that a busy handler never delays a connect, a
//! refusal or the news of a death.
//!
//! It accepts, shakes hands with a deadline, hands finished sessions to the threads that serve, and ends them: on hang-up
//! of the socket *or* the end of the peer's process, whichever comes first (a forked child can keep a socket open). It
//! sleeps in one epoll with no timeout but the nearest handshake's deadline: idle means idle.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::policy::{Limits, Policy, Trust, Usage};
use super::protocol::{FromClient, FromServer, Hello, PROTOCOL_VERSION, Reason, Welcome};
use super::rendezvous::Claim;
use crate::contract::Contract;
use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::session::Session;
use crate::sys::bell::Bell;
use crate::sys::memory;
use crate::sys::poller::{Events, Interest, Poller, Ready};
use crate::sys::socket::{self, Credentials, MESSAGE_MAX};

/// What the serving threads and the steward share.
#[derive(Debug)]
pub struct Core {
    /// The serving threads' letter boxes.
    ports: Mutex<Vec<Arc<Port>>>,
    /// Set once: no new session from then on, and the serving threads finish what they have.
    shutdown: AtomicBool,
    commands: Mutex<Vec<Command>>,
    bell: Bell,
    /// Counted by the steward.
    pub counts: Counts,
}

/// What the steward counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sessions alive.
    pub sessions: AtomicU64,
    /// Sessions ever granted.
    pub accepted: AtomicU64,
    /// Handshakes refused or failed.
    pub refused: AtomicU64,
    /// Sessions ended because the peer broke the protocol.
    pub violations: AtomicU64,
}

/// What a serving thread asks of the steward.
#[derive(Debug)]
pub enum Command {
    /// The peer broke the protocol.
    EndSession {
        /// The session.
        id: u64,
        /// The reason.
        why: String,
    },
    /// Say farewell to everybody; the steward's thread ends after that.
    EndAll,
}

/// The letter box of one serving thread.
#[derive(Debug)]
pub struct Port {
    letters: Mutex<Vec<Letter>>,
    /// Set when there is a letter, or the server shuts down; looked at between any two requests.
    pub attention: AtomicBool,
    /// Rung when `attention` is set, for a thread that sleeps.
    pub bell: Bell,
    /// Requests answered: written by the serving thread alone.
    pub calls: AtomicU64,
    /// Doorbells rung: written by the serving thread alone.
    pub rings: AtomicU64,
    /// Times the serving thread slept: written by it alone.
    pub sleeps: AtomicU64,
}

/// News for a serving thread.
#[derive(Debug)]
pub enum Letter {
    /// A new session to serve.
    Adopt(Arc<Session>),
    /// A session is over.
    Forget(u64),
}

impl Port {
    fn new() -> Result<Arc<Port>> {
        Ok(Arc::new(Port {
            letters: Mutex::default(),
            attention: AtomicBool::new(false),
            bell: Bell::new().map_err(|error| Error::io("create a doorbell", error))?,
            calls: AtomicU64::new(0),
            rings: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
        }))
    }

    fn post(&self, letter: Letter) {
        lock(&self.letters).push(letter);
        self.call_attention();
    }

    /// Makes the thread look.
    pub fn call_attention(&self) {
        // Release: what was done before is visible to who acquires it in `take_letters`.
        self.attention.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Takes all letters.
    pub fn take_letters(&self) -> Vec<Letter> {
        self.attention.swap(false, Ordering::Acquire); // partner: `call_attention`
        std::mem::take(&mut *lock(&self.letters))
    }
}

impl Core {
    /// A core with one port.
    pub fn new() -> Result<Arc<Core>> {
        Ok(Arc::new(Core {
            ports: Mutex::new(vec![Port::new()?]),
            shutdown: AtomicBool::new(false),
            commands: Mutex::default(),
            bell: Bell::new().map_err(|error| Error::io("create a doorbell", error))?,
            counts: Counts::default(),
        }))
    }

    /// The ports there are.
    pub fn ports(&self) -> Vec<Arc<Port>> {
        lock(&self.ports).clone()
    }

    /// Makes `count` ports in all and deals out the sessions that nobody has taken yet.
    pub fn widen(&self, count: usize) -> Result<Vec<Arc<Port>>> {
        let mut ports = lock(&self.ports);
        while ports.len() < count {
            ports.push(Port::new()?);
        }
        let waiting = std::mem::take(&mut *lock(&ports[0].letters));
        for (index, letter) in waiting.into_iter().enumerate() {
            match letter {
                Letter::Adopt(_) => ports[index % count].post(letter),
                Letter::Forget(id) => ports.iter().for_each(|port| port.post(Letter::Forget(id))),
            }
        }
        if self.is_shutting_down() {
            ports.iter().for_each(|port| port.call_attention()); // the new ones have not been told
        }
        Ok(ports.clone())
    }

    /// Tells all serving threads that a session is over; those that do not have it do not mind.
    ///
    /// Under the lock, so that no session is dealt out anew between the look and the letter.
    fn forget(&self, id: u64) {
        lock(&self.ports).iter().for_each(|port| port.post(Letter::Forget(id)));
    }

    /// Asks the steward for something.
    pub fn command(&self, command: Command) {
        lock(&self.commands).push(command);
        self.bell.ring();
    }

    /// Begins the end; safe from any thread, any number of times.
    pub fn shut_down(&self) {
        // Release, partner: `is_shutting_down`.
        self.shutdown.store(true, Ordering::Release);
        self.bell.ring();
        for port in self.ports() {
            port.call_attention();
        }
    }

    /// Whether the end has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.load(Ordering::Acquire)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock, and a list of letters is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
}

/// Starts the steward's thread. It ends after [`Command::EndAll`].
pub fn start(core: Arc<Core>, mut orders: Orders) -> Result<std::thread::JoinHandle<()>> {
    let listener = orders.claim.listen()?;
    socket::refuse_descriptors(&listener);
    let poller = Poller::new()?;
    poller.add(&listener, KEY_LISTENER, Interest::Readable)?;
    poller.add(&core.bell, KEY_BELL, Interest::Bell)?;
    let steward = Steward {
        own_uid: rustix::process::geteuid().as_raw(),
        reserve: spare_descriptor(),
        core,
        listener: Some(listener),
        claim: Some(orders.claim),
        policy: orders.policy,
        limits: orders.limits,
        contract: orders.contract,
        poller,
        handshakes: HashMap::new(),
        sessions: HashMap::new(),
        sessions_of_user: HashMap::new(),
        bytes: 0,
        last_id: 0,
        next_port: 0,
        accept_again_at: None,
    };
    std::thread::Builder::new()
        .name("wigwag-steward".into())
        .spawn(move || steward.run())
        .map_err(|error| Error::io("start the steward's thread", error))
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
    listener: Option<OwnedFd>,
    claim: Option<Claim>,
    policy: Policy,
    limits: Limits,
    contract: Contract,
    poller: Poller,
    handshakes: HashMap<u64, Handshake>,
    sessions: HashMap<u64, Live>,
    sessions_of_user: HashMap<u32, usize>,
    bytes: usize,
    last_id: u64,
    next_port: usize,
    /// Kept open to have one descriptor for refusing when all others are gone.
    reserve: Option<OwnedFd>,
    accept_again_at: Option<Instant>,
}

/// A client that is not a session yet. It has cost us one or two descriptors, and memory only once it said HELLO well.
struct Handshake {
    socket: OwnedFd,
    peer: Credentials,
    trust: Trust,
    deadline: Instant,
    offer: Option<Offer>,
}

/// What a client was welcomed with.
struct Offer {
    memory: OwnedFd,
    segment: Segment,
    server_bell: Bell,
    client_bell: Option<Bell>,
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
            let commands = std::mem::take(&mut *lock(&self.core.commands));
            for command in commands {
                match command {
                    Command::EndSession { id, why } => self.end_for_violation(id, &why),
                    Command::EndAll => return self.end_all(),
                }
            }
        }
    }

    fn nearest_deadline(&self) -> Option<Instant> {
        self.handshakes.values().map(|handshake| handshake.deadline).chain(self.accept_again_at).min()
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
        drop(self.reserve.take());
        if let Some(listener) = &self.listener
            && let Ok(socket) = socket::accept(listener)
        {
            self.refuse(&socket, Reason::Refused, "the server has all the descriptors it may have (`ulimit -n`)");
        }
        self.reserve = spare_descriptor();
        if self.reserve.is_none()
            && let Some(listener) = &self.listener
        {
            self.poller.remove(listener);
            self.accept_again_at = Some(Instant::now() + ACCEPT_PAUSE);
        }
    }

    fn greet(&mut self, socket: OwnedFd) {
        let peer = match socket::credentials(&socket) {
            Ok(peer) => peer,
            Err(error) => return self.refuse(&socket, Reason::Refused, &error.to_string()),
        };
        let trust = match self.policy.admit(self.own_uid, &peer, || socket::groups(&socket)) {
            Ok(trust) => trust,
            Err(why) => return self.refuse(&socket, Reason::Refused, &why),
        };
        if self.handshakes.len() >= self.limits.handshakes {
            let why =
                format!("{} handshakes are under way, as many as the server allows: try again", self.limits.handshakes);
            return self.refuse(&socket, Reason::Refused, &why);
        }
        self.last_id += 1;
        let id = self.last_id;
        if let Err(error) = self.poller.add(&socket, id * KEY_KINDS + KEY_SOCKET, Interest::Readable) {
            return self.refuse(&socket, Reason::Refused, &error.to_string());
        }
        let deadline = Instant::now() + self.limits.handshake_timeout;
        self.handshakes.insert(id, Handshake { socket, peer, trust, deadline, offer: None });
        self.advance(id); // the greeting is often there already
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
            Err(_) => return self.count_refusal(),
        };
        if received.len == 0 {
            return self.count_refusal(); // it left
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
                Err((reason, why)) => self.refuse(&handshake.socket, reason, &why),
            },
            (Ok(FromClient::Ready), Some(offer)) => self.establish(id, handshake, offer),
            (Ok(_), _) => {
                self.refuse(&handshake.socket, Reason::Violation, "the messages of the handshake came out of order")
            }
            (Err(why), _) => self.refuse(&handshake.socket, Reason::Violation, why),
        }
    }

    fn offer(&mut self, handshake: &Handshake, hello: &Hello) -> std::result::Result<Offer, (Reason, String)> {
        // What is offered and not yet established counts too, or a crowd could pass the limits in one turn.
        let offered =
            |of: &dyn Fn(&Handshake) -> bool| self.handshakes.values().filter(|h| h.offer.is_some() && of(h)).count();
        let uid = handshake.peer.uid;
        let usage = Usage {
            sessions: self.sessions.len() + offered(&|_| true),
            sessions_of_user: self.sessions_of_user.get(&uid).copied().unwrap_or(0) + offered(&|h| h.peer.uid == uid),
            bytes: self.bytes
                + self
                    .handshakes
                    .values()
                    .filter_map(|h| h.offer.as_ref())
                    .map(|offer| offer.segment.size())
                    .sum::<usize>(),
        };
        let geometry = self.limits.grant(hello, &self.contract, usage)?;
        let failed = |error: Error| (Reason::Refused, format!("the server {error}"));
        let bell = || Bell::new().map_err(|error| failed(Error::io("create a doorbell", error)));
        let memory = memory::create_sealed(geometry.segment_size).map_err(failed)?;
        let segment = Segment::map(&memory, geometry).map_err(failed)?;
        segment.write_header(&geometry.header(&self.contract));
        let server_bell = bell()?;
        let client_bell = if handshake.trust == Trust::SameUser { Some(bell()?) } else { None };
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
        Ok(Offer { memory, segment, server_bell, client_bell })
    }

    fn establish(&mut self, id: u64, handshake: Handshake, offer: Offer) {
        if let Err(error) = memory::seal_finally(&offer.memory) {
            return self.refuse(&handshake.socket, Reason::Refused, &error.to_string());
        }
        let Handshake { socket, peer, trust, .. } = handshake;
        let pidfd = socket::peer_pidfd(&socket, &peer);
        if let Some(pidfd) = &pidfd
            && let Err(error) = self.poller.add(pidfd, id * KEY_KINDS + KEY_PIDFD, Interest::Readable)
        {
            return self.refuse(&socket, Reason::Refused, &error.to_string());
        }
        self.bytes += offer.segment.size();
        *self.sessions_of_user.entry(peer.uid).or_default() += 1;
        let core = Arc::clone(&self.core);
        let session =
            Arc::new(Session::new(id, offer.segment, socket, offer.server_bell, offer.client_bell, peer, trust, core));
        let ports = self.core.ports();
        self.next_port = (self.next_port + 1) % ports.len();
        ports[self.next_port].post(Letter::Adopt(Arc::clone(&session)));
        self.sessions.insert(id, Live { session, pidfd });
        self.core.counts.accepted.fetch_add(1, Ordering::Relaxed);
        self.core.counts.sessions.store(self.sessions.len() as u64, Ordering::Relaxed);
    }

    /// A living session's socket has something: the end, or what a client must not send.
    fn listen_to(&mut self, id: u64, hung_up: bool) {
        let Some(live) = self.sessions.get(&id) else { return };
        let mut buffer = [0u8; MESSAGE_MAX];
        match socket::receive(&live.session.socket, &mut buffer) {
            Ok(received) if received.len == 0 => self.end(id, None),
            Ok(_) => self.end_for_violation(id, "it sent a message after the handshake"),
            Err(Errno::AGAIN) if !hung_up => {}
            Err(_) => self.end(id, None),
        }
    }

    fn end_for_violation(&mut self, id: u64, why: &str) {
        self.core.counts.violations.fetch_add(1, Ordering::Relaxed);
        self.end(id, Some((Reason::Violation, why)));
    }

    fn end(&mut self, id: u64, farewell: Option<(Reason, &str)>) {
        let Some(live) = self.sessions.remove(&id) else { return };
        let session = &live.session;
        if let Some((reason, why)) = farewell {
            let _ = socket::send(&session.socket, &FromServer::Farewell(reason, why.to_owned()).encode(), &[]);
        }
        // A request may keep the session, and so its descriptors, for a while: unwatch and hang up by name.
        self.poller.remove(&session.socket);
        if let Some(pidfd) = &live.pidfd {
            self.poller.remove(pidfd);
        }
        socket::hang_up(&session.socket);
        self.bytes -= session.segment.size();
        if let Some(count) = self.sessions_of_user.get_mut(&session.peer.uid) {
            *count -= 1;
            if *count == 0 {
                self.sessions_of_user.remove(&session.peer.uid);
            }
        }
        self.core.forget(id);
        self.core.counts.sessions.store(self.sessions.len() as u64, Ordering::Relaxed);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> = self.handshakes.iter().filter(|(_, h)| h.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(handshake) = self.handshakes.remove(&id) {
                let why = format!("the handshake took longer than {:?}", self.limits.handshake_timeout);
                self.refuse(&handshake.socket, Reason::Refused, &why);
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

    fn refuse(&self, socket: &OwnedFd, reason: Reason, why: &str) {
        let _ = socket::send(socket, &FromServer::Refusal(reason, why.to_owned()).encode(), &[]);
        self.count_refusal();
    }

    fn count_refusal(&self) {
        self.core.counts.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.poller.remove(&listener);
            self.accept_again_at = None;
            self.claim = None; // removes the name
            for handshake in std::mem::take(&mut self.handshakes).into_values() {
                self.refuse(&handshake.socket, Reason::Shutdown, "the server is shutting down");
            }
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

fn spare_descriptor() -> Option<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).ok()
}
