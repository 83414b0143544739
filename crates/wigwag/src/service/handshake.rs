//! The handshake with one newcomer: HELLO, the offer of a segment, READY.
//!
//! What a message leads to is decided by [`action_for`], which does no I/O and so is tested with every message in every
//! state. The control thread carries the actions out: it has the poller, the quota and the sessions.
//!
//! ```text
//! connected ── HELLO ──> Offer: the segment is made and sent ── READY ──> Establish
//!     └── anything else, a deadline, an end ──> refused or forgotten <──┘
//! ```

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::io::Errno;

use crate::contract::Contract;
use crate::error::Error;
use crate::faults::{self, Fault};
use crate::memory::layout::Geometry;
use crate::memory::segment::Segment;
use crate::memory::slot;
use crate::service::abandonment::Abandonment;
use crate::service::accept_queue::PendingStream;
use crate::service::admission::{Grant, Refused};
use crate::service::audience::{Arrival, Audience, Seat};
use crate::service::delivered::Delivered;
use crate::service::keeping::KeptSession;
use crate::service::quota::QuotaGrant;
use crate::service::session::{Session, SessionDescriptors};
use crate::service::shared::ServiceShared;
use crate::session::agreement::{Agreement, ClockReading, Protocol};
use crate::session::arrivals::Arrivals;
use crate::session::background::PeerSocket;
use crate::session::descriptors::{self, CountsUntil, Inbox, UnderWay};
use crate::session::peer::Trust;
use crate::session::protocol::{FromClient, FromServer, Hello, Reason, Welcome, WelcomeExtension};
use crate::statistics::{KeepingState, Newcomer, SessionEntry};
use crate::sys::epoll::Poller;
use crate::sys::eventfd::Bell;
use crate::sys::socket::{self, Credentials, MESSAGE_MAX};
use crate::sys::{clock, memory, process};

/// A client that is not a session yet. It has cost us one descriptor; four more and memory only once it said HELLO
/// well.
pub struct Handshake {
    /// The control socket.
    pub socket: PeerSocket,
    /// Who is at the other end.
    pub peer: Credentials,
    /// How far it is trusted.
    pub trust: Trust,
    /// `None`: longer than the clock can say.
    pub deadline: Option<Instant>,
    /// What it was welcomed with, once it has been.
    pub offer: Option<Offer>,
}

/// What a client was welcomed with.
pub struct Offer {
    /// The memory object.
    pub memory: Arc<OwnedFd>,
    /// The same, mapped.
    pub segment: Segment,
    /// Opened before the client is welcomed: without a descriptor for it there is no session.
    pub pidfd: Option<OwnedFd>,
    /// What the session will have agreed on.
    pub agreement: Agreement,
    server_bell: Bell,
    client_bell: Option<Bell>,
    seat: Option<Seat>,
    /// There until a subscriber has joined.
    pub arrival: Option<Arrival>,
    charged: QuotaGrant,
    /// The opening of the memory that a client of another user gets.
    theirs: Option<OwnedFd>,
    /// Whether the WELCOME was sent.
    pub is_welcomed: bool,
    /// What stands for it at a keeper; `None`: it is not to be kept, or cannot be.
    pub kept: Option<KeptSession>,
    /// What observers are told of that.
    pub keeping: KeepingState,
}

/// What is to be done with a handshake after a look at its socket. `O`: what was offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<O> {
    /// Nothing has come: go on waiting.
    Wait,
    /// The client has left.
    Forget,
    /// It asks for a session.
    Offer(Hello),
    /// It has mapped the memory.
    Establish(O),
    /// It is a server that takes the name over.
    HandOver,
    /// It broke the protocol, and is told how.
    TurnAway(&'static str),
}

const OUT_OF_ORDER: &str = "the messages of the handshake came out of order";

/// What a message leads to. READY counts only if the WELCOME has been read, which is asked then; the offer stays where
/// it is unless the handshake is done.
fn action_for<O>(
    offer: &mut Option<O>,
    message: Result<FromClient, &'static str>,
    is_welcome_read: impl FnOnce() -> bool,
) -> Action<O> {
    match message {
        Ok(FromClient::Hello(hello)) if offer.is_none() => Action::Offer(hello),
        Ok(FromClient::Hello(_)) => Action::TurnAway(OUT_OF_ORDER),
        Ok(FromClient::Ready) => {
            offer.take_if(|_| is_welcome_read()).map_or(Action::TurnAway(OUT_OF_ORDER), Action::Establish)
        }
        Ok(FromClient::Replace) if offer.is_none() => Action::HandOver,
        Ok(FromClient::Replace) => Action::TurnAway(OUT_OF_ORDER),
        Err(why) => Action::TurnAway(why),
    }
}

impl Handshake {
    /// Receives one message, if one is there.
    pub fn receive(&mut self) -> Action<Offer> {
        let mut buffer = [0u8; MESSAGE_MAX];
        let received = match self.socket.receive(&mut buffer) {
            Ok(received) if received.len == 0 => return Action::Forget,
            Ok(received) => received,
            Err(Errno::AGAIN) => return Action::Wait,
            Err(Errno::BADMSG) => return Action::TurnAway("descriptors came with a message"),
            Err(_) => return Action::Forget,
        };
        let message = match received.truncated {
            true => Err("the message is too long"),
            false => FromClient::decode(&buffer[..received.len]),
        };
        let is_welcomed = self.offer.as_ref().is_some_and(|offer| offer.is_welcomed);
        action_for(&mut self.offer, message, || is_welcomed && !socket::is_unread_by_peer(&self.socket))
    }

    /// Makes what a session of that geometry needs.
    pub fn prepare(
        &self,
        grant: Grant,
        contract: &Contract,
        audience: Option<&Audience>,
        mut charged: QuotaGrant,
    ) -> Result<Offer, Refused> {
        let Grant { geometry, protocol, features, client_clock } = grant;
        let agreement = match client_clock {
            None => Agreement { protocol, has_same_clock: true, features },
            Some(theirs) => Agreement { protocol, has_same_clock: ClockReading::now().agrees_with(theirs), features },
        };
        if agreement.has_descriptors() {
            // Before the client is told: the first may come as soon as it has been.
            let admitted = self.socket.admit_descriptors();
            admitted.map_err(|error| failed(Error::io("let descriptors in", error)))?;
        }
        let (memory, theirs) = self.create_memory(geometry, &mut charged)?;
        let segment = Segment::map_for(contract.form, &*memory, geometry).map_err(failed)?;
        segment.write_header(&geometry.header(contract, protocol.layout_version()));
        if contract.form.has_closed_word() {
            segment.close(); // until a thread serves it
        }
        let server_bell = audience.map_or_else(Bell::new, |audience| audience.bell_for(self.trust)).map_err(failed)?;
        let seat = audience.map(|audience| audience.seat(self.trust, geometry.slots));
        let client_bell = (self.trust == Trust::SameUser).then(Bell::new).transpose().map_err(failed)?;
        let pidfd = match socket::peer_pidfd(&self.socket, &self.peer) {
            Ok(pidfd) => pidfd.filter(|_| !faults::is(Fault::SocketAlone)),
            Err(_) if faults::is(Fault::MissingPidfd) => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(Offer {
            memory,
            segment,
            agreement,
            server_bell,
            client_bell,
            pidfd,
            seat,
            arrival: audience.map(Audience::arrive),
            charged,
            theirs,
            is_welcomed: false,
            kept: None,
            keeping: KeepingState::NotWanted,
        })
    }

    /// Sends what was prepared to the client.
    pub fn welcome(&mut self, audience: Option<&Audience>) -> Result<(), Refused> {
        let Some(offer) = &mut self.offer else { return Ok(()) };
        let Offer { memory, segment, agreement, server_bell, client_bell, charged, theirs, seat, is_welcomed, .. } =
            offer;
        let geometry = segment.geometry();
        let Agreement { protocol, has_same_clock, features } = *agreement;
        let welcome = FromServer::Welcome(Welcome {
            protocol: protocol as u16,
            slots: geometry.slots as u32,
            capacity: geometry.capacity as u32,
            segment_size: geometry.segment_size as u64,
            has_client_bell: client_bell.is_some(),
            extension: match protocol {
                Protocol::V1 => None,
                Protocol::V2 => Some(WelcomeExtension {
                    layout_version: protocol.layout_version(),
                    has_same_clock,
                    features,
                    board: audience.zip(seat.as_ref()).map(|(audience, seat)| audience.welcome(seat)),
                }),
            },
        });
        let theirs = theirs.take();
        let mut fds = vec![theirs.as_ref().map_or((**memory).as_fd(), AsFd::as_fd), server_bell.as_fd()];
        fds.extend(client_bell.as_ref().map(Bell::as_fd));
        fds.extend(audience.into_iter().flat_map(|audience| audience.descriptors(self.trust)));
        let mut sent = Ok(());
        let mut send = || sent = socket::send(&self.socket, &welcome.encode(), &fds);
        match self.trust {
            Trust::SameUser => send(),
            Trust::OtherUser => drop(charged.wakes().wake(send)),
        }
        sent.map_err(|error| failed(Error::io("greet the client", error)))?;
        *is_welcomed = true;
        Ok(())
    }

    /// The memory object, and another opening of it for the client if that is of another user: what lives of it after
    /// the session can be told from an opening of the server's own. Without /proc it cannot.
    fn create_memory(
        &self,
        geometry: Geometry,
        charged: &mut QuotaGrant,
    ) -> Result<(Arc<OwnedFd>, Option<OwnedFd>), Refused> {
        let memory = memory::create_sealed("wigwag", geometry.segment_size).map_err(failed)?;
        match self.trust {
            Trust::SameUser => Ok((Arc::new(memory), None)),
            Trust::OtherUser => match memory::open_twice(&memory) {
                Ok((ours, theirs)) => {
                    let ours = Arc::new(ours);
                    charged.lasts_for(Arc::clone(&ours));
                    Ok((ours, Some(theirs)))
                }
                Err(error) if is_passing(error.raw_os_error()) => {
                    Err(failed(Error::io("open a segment for its client", error)))
                }
                Err(_) => Ok((Arc::new(memory), None)),
            },
        }
    }

    /// What the statistics say of the session that begins.
    pub fn newcomer(&self, id: u64, offer: &Offer) -> Newcomer {
        let Credentials { uid, gid, pid } = self.peer;
        let geometry = offer.segment.geometry();
        Newcomer {
            id,
            uid,
            gid,
            pid,
            is_trusted: self.trust == Trust::SameUser,
            slots: geometry.slots,
            capacity: geometry.capacity,
            memory_inode: memory::inode(&offer.memory),
            protocol: offer.agreement.protocol as u16,
            has_same_clock: offer.agreement.has_same_clock,
            now_ns: clock::now_ns(),
            keeping: offer.keeping,
        }
    }

    /// A session for the threads that serve, and what tells of the end of its client's process.
    pub fn into_session(
        self,
        id: u64,
        offer: Offer,
        contract: &Contract,
        record: SessionEntry,
        shared: &Arc<ServiceShared>,
    ) -> (Arc<Session>, Option<OwnedFd>) {
        let Handshake { socket, peer, trust, .. } = self;
        let slots = offer.segment.geometry().slots;
        let (memory, shown) = match trust {
            Trust::OtherUser => (Some(offer.memory), None),
            // A keeper that comes later gets it, too.
            Trust::SameUser => (None, (is_kept(trust, &peer) || offer.kept.is_some()).then_some(offer.memory)),
        };
        let socket = Arc::new(socket);
        let descriptors = offer.agreement.has_descriptors().then(|| {
            let arrivals = Arrivals::new(peer.uid, descriptors::PER_SESSION, &shared.background);
            let inbox = Inbox::new(slots, descriptors::PER_SESSION, arrivals);
            let under_way = UnderWay::new(&socket, CountsUntil::Read);
            Box::new(SessionDescriptors { inbox, delivered: Delivered::default(), under_way })
        });
        let has_copies = trust == Trust::OtherUser && contract.form.keeps_copies_of_other_users();
        let session = Arc::new(Session {
            id,
            segment: offer.segment,
            memory,
            shown,
            socket,
            descriptors,
            server_bell: offer.server_bell,
            client_bell: offer.client_bell,
            form: contract.form,
            encoding: contract.encoding,
            peer,
            trust,
            is_opened_specially: trust == Trust::OtherUser || offer.agreement.has_begun(),
            agreement: offer.agreement,
            record,
            charged: offer.charged,
            seat: offer.seat,
            copies: (0..if has_copies { slots } else { 0 }).map(|_| Mutex::new(None)).collect(),
            answered: (0..slots).map(|_| AtomicU64::new(slot::before_first())).collect(),
            mailbox: AtomicU64::new(0),
            abandonment: Abandonment::default(),
            is_ending: AtomicBool::new(false),
            shared: Arc::downgrade(shared),
            kept: offer.kept,
        });
        (session, offer.pidfd)
    }

    /// A session for a listener to accept.
    pub fn into_pending_stream(self, offer: Offer, record: SessionEntry) -> PendingStream {
        let Handshake { socket, peer, trust, .. } = self;
        let Offer { segment, agreement, server_bell, client_bell, pidfd, charged, memory, .. } = offer;
        let memory = is_kept(trust, &peer).then_some(memory);
        PendingStream {
            segment,
            socket,
            pidfd,
            server_bell,
            client_bell,
            peer,
            trust,
            agreement,
            memory,
            record,
            charged,
        }
    }
}

/// The handshakes that are under way, by number.
#[derive(Default)]
pub struct Handshakes(HashMap<u64, Handshake>);

impl Handshakes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether that one is under way.
    pub fn contains(&self, id: u64) -> bool {
        self.0.contains_key(&id)
    }

    /// Begins one, or goes on with it.
    pub fn insert(&mut self, id: u64, handshake: Handshake) {
        self.0.insert(id, handshake);
    }

    /// The keeper is gone that was to keep them. Which they are, and whether each waits for its answer.
    pub fn lose_keeper(&mut self) -> Vec<(u64, bool)> {
        let lose = |(id, handshake): (&u64, &mut Handshake)| {
            let offer = handshake.offer.as_mut().filter(|offer| offer.kept.is_some())?;
            offer.keeping = KeepingState::Unkept;
            Some((*id, !offer.is_welcomed))
        };
        self.0.iter_mut().filter_map(lose).collect()
    }

    /// Takes one out, to go on with it or to end it.
    pub fn remove(&mut self, id: u64) -> Option<Handshake> {
        self.0.remove(&id)
    }

    /// Their numbers.
    pub fn ids(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }

    /// When the next one is late.
    pub fn nearest_deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(|handshake| handshake.deadline).min()
    }

    /// Those that have taken too long.
    pub fn late(&self, now: Instant) -> Vec<u64> {
        self.0.iter().filter(|(_, h)| h.deadline.is_some_and(|at| at <= now)).map(|(id, _)| *id).collect()
    }

    /// The users who have been welcomed, each as often as that.
    pub fn welcomed(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.values().filter(|handshake| handshake.offer.is_some()).map(|handshake| handshake.peer.uid)
    }

    /// The handshake to evict when the handshake table is full: the oldest one of the user holding the most, counting
    /// the newcomer. Idle connections therefore cannot lock anybody out, not even programs of their own user; a client
    /// that answers promptly finishes long before it is the oldest.
    pub fn to_evict(&self, newcomer: u32) -> Option<u64> {
        let mut of_user = HashMap::from([(newcomer, 1)]);
        for handshake in self.0.values() {
            *of_user.entry(handshake.peer.uid).or_insert(0) += 1;
        }
        // The newcomer's own user may have no handshake yet.
        let held = of_user.iter().filter(|(uid, count)| **uid != newcomer || **count > 1);
        let (&biggest_holder, _) = held.max_by_key(|(_, count)| **count)?;
        self.0.iter().filter(|(_, h)| h.peer.uid == biggest_holder).map(|(&id, _)| id).min()
    }
}

/// A WELCOME with its descriptors lies in the client's socket. It counts against what this process's user may have
/// under way, and cannot be called back: it is remembered until it is read, or the client's end closed.
struct UnreadWelcome {
    socket: Arc<PeerSocket>,
    uid: u32,
}

/// The WELCOMEs of handshakes that are over, whose clients have not read them.
pub struct UnreadWelcomes {
    of_client: HashMap<u64, UnreadWelcome>,
    /// So many may be unread at a time, those of handshakes under way counted.
    most: usize,
}

impl UnreadWelcomes {
    /// None. All of a user's processes together have no more descriptors under way than one may have open.
    pub fn new() -> UnreadWelcomes {
        let most = process::descriptor_limit()
            .map_or(256, |limit| usize::try_from(limit / 16).unwrap_or(usize::MAX).clamp(4, 256));
        UnreadWelcomes { of_client: HashMap::new(), most }
    }

    /// Whether one is of that handshake.
    pub fn contains(&self, id: u64) -> bool {
        self.of_client.contains_key(&id)
    }

    /// Remembers one, whose socket the poller has until it is read.
    pub fn insert(&mut self, id: u64, socket: Arc<PeerSocket>, uid: u32) {
        self.of_client.insert(id, UnreadWelcome { socket, uid });
    }

    /// Forgets one that has been read, or never will be.
    pub fn look_at(&mut self, id: u64, poller: &Poller) {
        if self.of_client.get(&id).is_some_and(|unread| !socket::is_unread_by_peer(&*unread.socket))
            && let Some(unread) = self.of_client.remove(&id)
        {
            poller.remove(&*unread.socket);
        }
    }

    /// Descriptors that are under way are few, of each user and in all: as many as this process may have open, and no
    /// program of its user can send any. Other users together have half of that, each a quarter. `welcomed`: the users
    /// of handshakes under way.
    pub fn check_room(
        &mut self,
        uid: u32,
        own_uid: u32,
        welcomed: impl Iterator<Item = u32>,
        poller: &Poller,
    ) -> Result<(), Refused> {
        let all: Vec<u64> = self.of_client.keys().copied().collect();
        all.into_iter().for_each(|id| self.look_at(id, poller));
        let holders: Vec<u32> = welcomed.chain(self.of_client.values().map(|unread| unread.uid)).collect();
        let of = |is_one: &dyn Fn(u32) -> bool| holders.iter().filter(|holder| is_one(**holder)).count();
        let most = self.most;
        let is_room = match uid == own_uid {
            true => of(&|holder| holder == own_uid) < most,
            false => of(&|holder| holder != own_uid) < most / 2 && of(&|holder| holder == uid) < most.div_ceil(4),
        };
        if is_room || faults::is(Fault::UncountedWelcomes) {
            return Ok(());
        }
        let mine = of(&|holder| holder == uid);
        Err((
            Reason::Later,
            format!(
                "{mine} welcomes to user {uid} and {} in all have not been answered; the server has {most} under way \
                 at the most, a \
                 sixteenth of its `ulimit -n`, and a quarter of that for each other user: read them, and try again",
                holders.len()
            ),
        ))
    }
}

/// Whether this side keeps the memory object open, because observers of this user cannot look for it at the client's:
/// that one is of another user, or in a PID namespace that is not seen from here.
fn is_kept(trust: Trust, peer: &Credentials) -> bool {
    trust == Trust::OtherUser || peer.pid <= 0
}

/// What the server could not do for want of something may be possible later.
fn failed(error: Error) -> Refused {
    let reason = if error.raw_os_error().is_some_and(is_passing) { Reason::Later } else { Reason::Refused };
    (reason, format!("the server {error}"))
}

fn is_passing(code: i32) -> bool {
    matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::ETOOMANYREFS | libc::EAGAIN)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::session::agreement::Features;

    fn hello() -> FromClient {
        FromClient::Hello(Hello::new(Protocol::V1, Some(1), Some(1), Contract::bytes(), Features::NONE))
    }

    /// The action, and whether there is an offer still.
    fn after(offer: Option<u8>, message: Result<FromClient, &'static str>, is_read: bool) -> (Action<u8>, Option<u8>) {
        let mut offer = offer;
        (action_for(&mut offer, message, || is_read), offer)
    }

    #[test]
    fn hello_begins_and_ready_ends_it_and_nothing_else_is_in_order() {
        let FromClient::Hello(wishes) = hello() else { unreachable!() };
        let out_of_order = || Action::TurnAway(OUT_OF_ORDER);
        assert_eq!(after(None, Ok(hello()), true), (Action::Offer(wishes), None));
        assert_eq!(after(Some(7), Ok(FromClient::Ready), true), (Action::Establish(7), None));
        for is_read in [false, true] {
            assert_eq!(after(Some(7), Ok(hello()), is_read), (out_of_order(), Some(7)));
            assert_eq!(after(None, Ok(FromClient::Ready), is_read), (out_of_order(), None));
            assert_eq!(after(None, Ok(FromClient::Replace), is_read), (Action::HandOver, None));
            assert_eq!(after(Some(7), Ok(FromClient::Replace), is_read), (out_of_order(), Some(7)));
            for offer in [None, Some(7)] {
                assert_eq!(after(offer, Err("what was wrong"), is_read), (Action::TurnAway("what was wrong"), offer));
            }
        }
    }

    #[test]
    fn ready_before_the_welcome_was_read_is_out_of_order_and_keeps_the_offer_to_be_let_go_of() {
        assert_eq!(after(Some(7), Ok(FromClient::Ready), false), (Action::TurnAway(OUT_OF_ORDER), Some(7)));
    }
}
