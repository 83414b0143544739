//! A keeper's one thread: receivers come and register sessions, processes end, and what becomes of a session follows.
//!
//! ```text
//! a session is          receiver lives            receiver is over (its process has ended, or it has said so)
//! sender lives          nothing is done           its sender hands its messages on; looked at now and then
//! sender is over        nothing is done           what is left goes to a courier
//! ```
//!
//! It sleeps in one epoll. Only while a sender lives whose receiver is over is there anything to be looked at: whether
//! the sender has handed its messages on.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::faults::{self, Fault};
use crate::memory::layout::{Geometry, LAYOUT_VERSION};
use crate::memory::segment::Moving;
use crate::queue::keeper::courier::Couriers;
use crate::queue::keeper::kept::{Estate, KeptMemory};
use crate::queue::keeper::ledger::{KeeperEvent, Ledger};
use crate::service::name_claim::{Aftermath, NameClaim};
use crate::session::background::{Background, PeerSocket};
use crate::session::keeping::{EVERYTHING, FromKeeper, KEEP_DESCRIPTORS, Keep, ToKeeper};
use crate::sys::epoll::{Events, Interest, Poller, Ready};
use crate::sys::eventfd::Bell;
use crate::sys::socket::{self, MESSAGE_MAX};
use crate::sys::{memory, process};

const KEY_LISTENER: u64 = 0;
const KEY_BELL: u64 = 1;
const KEY_NAME: u64 = 2;
/// Numbers count from 1, so that these are no connection's.
const KEY_SOCKET: u64 = 0;
const KEY_RECEIVER: u64 = 1;
const KEY_SENDER: u64 = 2;
const KEY_KINDS: u64 = 3;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 1024;
/// Messages of one connection before all others have a turn.
const MESSAGES_PER_TURN: usize = 64;
/// Such turns of a receiver that has ended: far more than its socket can hold.
const LAST_TURNS: usize = 64;
/// The first and the longest pause between two looks at sessions whose senders live and whose receivers do not.
const LOOK_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// How long nobody is accepted when there is no descriptor for it, and a courier waits for a thread.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// One receiver, or who asks for the counts.
struct Connection {
    socket: Arc<PeerSocket>,
    receiver: u64,
    /// Whether it has had something kept.
    has_registered: bool,
    /// Whether it counts as a receiver: not if all it has done is to ask for the counts.
    is_counted: bool,
}

/// The process of a receiver: it outlives its connection, which may be given up while it lives.
struct ReceiverProcess {
    pidfd: OwnedFd,
    has_ended: bool,
    /// Its own numbers of what is kept for it.
    sessions: HashMap<u64, u64>,
    is_connected: bool,
}

/// A session that is kept.
struct Entry {
    kept: Arc<KeptMemory>,
    receiver: u64,
    /// The receiver's number of it.
    number: u64,
    inode: u64,
    pidfd: OwnedFd,
    /// Nobody takes messages from it any more, as its receiver has said.
    is_released: bool,
    has_sender_ended: bool,
    /// When it was seen first that its receiver is over.
    over_since: Option<Instant>,
}

/// So long after its receiver's end nobody who has not had the memory by then gets into a session: its socket is
/// closed.
const UNHEARD_OF: Duration = Duration::from_secs(1);

/// The thread's state.
pub struct Registry {
    claim: NameClaim,
    listener: OwnedFd,
    poller: Poller,
    bell: Arc<Bell>,
    ledger: Arc<Ledger>,
    couriers: Arc<Couriers>,
    background: Arc<Background>,
    own_uid: u32,
    last_id: u64,
    connections: HashMap<u64, Connection>,
    receivers: HashMap<u64, ReceiverProcess>,
    entries: HashMap<u64, Entry>,
    by_memory: HashMap<u64, u64>,
    /// Sessions with something to be decided: their receivers are over.
    open: BTreeSet<u64>,
    /// When these are looked at, and the pause after that.
    look_at: Option<(Instant, Duration)>,
    accept_again_at: Option<Instant>,
    retry_couriers_at: Option<Instant>,
    has_lost_name: bool,
}

impl Registry {
    /// Begins to listen, and lets the thread run until the bell rings after the ledger's end.
    pub fn start(mut claim: NameClaim, ledger: Arc<Ledger>, bell: Arc<Bell>) -> Result<JoinHandle<()>> {
        let background = Background::new(true); // whoever connects may send some at once
        let listener = claim.listen()?;
        let _ = socket::admit_descriptors(&listener); // of all who come; a kernel that cannot refuse lets them in
        let poller = Poller::new()?;
        poller.add(&listener, KEY_LISTENER, Interest::Readable)?;
        poller.add(&bell, KEY_BELL, Interest::Bell)?;
        if let Some(watch) = claim.watch() {
            poller.add(watch, KEY_NAME, Interest::Readable)?;
        }
        let registry = Registry {
            claim,
            listener,
            poller,
            bell,
            couriers: Couriers::new(Arc::clone(&ledger)),
            ledger,
            background,
            own_uid: rustix::process::geteuid().as_raw(),
            last_id: 0,
            connections: HashMap::new(),
            receivers: HashMap::new(),
            entries: HashMap::new(),
            by_memory: HashMap::new(),
            open: BTreeSet::new(),
            look_at: None,
            accept_again_at: None,
            retry_couriers_at: None,
            has_lost_name: false,
        };
        let thread = std::thread::Builder::new().name("wigwag-keeper".into()).spawn(move || registry.run());
        thread.map_err(|error| {
            let doing = "start the keeper's thread (is `ulimit -u`, or the container's pids.max, reached?)";
            Error::io(doing, error)
        })
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        while !self.ledger.is_over() {
            let looks = self.look_at.map(|(at, _)| at).into_iter();
            let deadline = looks.chain(self.accept_again_at).chain(self.retry_couriers_at).min();
            if self.poller.wait(&mut events, deadline).is_err() {
                self.ledger.pause(SHORTAGE_PAUSE); // cannot happen with a valid epoll; never spin on it
            }
            let has_come = events.len() > 0;
            for index in 0..events.len() {
                self.handle(events.get(index));
            }
            self.look_around(has_come);
        }
        self.connections.values().for_each(|connection| socket::hang_up(&*connection.socket));
        socket::hang_up(&self.listener);
        let _ = self.claim.give_back();
        drop(self.bell);
    }

    fn handle(&mut self, ready: Ready) {
        let id = ready.key / KEY_KINDS;
        match ready.key % KEY_KINDS {
            KEY_LISTENER if id == 0 => self.accept(),
            KEY_NAME if id == 0 => self.look_after_name(),
            KEY_BELL if id == 0 => {}
            KEY_SOCKET => _ = self.listen_to(id), // the rest is told again
            KEY_RECEIVER => self.receiver_has_ended(id),
            _ => self.sender_has_ended(id),
        }
    }

    /// What is due besides events.
    fn look_around(&mut self, has_come: bool) {
        let now = Instant::now();
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            let _ = self.poller.add(&self.listener, KEY_LISTENER, Interest::Readable);
        }
        if self.retry_couriers_at.is_some_and(|at| at <= now) {
            self.retry_couriers_at = (!self.couriers.retry()).then(|| now + SHORTAGE_PAUSE);
        }
        let is_time = self.look_at.is_some_and(|(at, _)| at <= now);
        if self.open.is_empty() {
            self.look_at = None;
        } else if has_come || is_time || self.look_at.is_none() {
            let are_fewer = self.decide();
            let pause = match self.look_at {
                Some((_, pause)) if is_time && !are_fewer => (2 * pause).min(LOOK_PAUSES.1),
                Some((_, pause)) if !has_come => pause,
                _ => LOOK_PAUSES.0,
            };
            self.look_at = (!self.open.is_empty()).then(|| (now + pause, pause));
        }
    }

    /// The name's files may have been removed.
    fn look_after_name(&mut self) {
        self.claim.watch().into_iter().for_each(|watch| self.poller.remove(watch));
        let after = self.claim.look_after();
        if let Some(watch) = self.claim.watch() {
            let _ = self.poller.add(watch, KEY_NAME, Interest::Readable);
        }
        match after {
            Ok(Aftermath::TakenAgain { listener: Some(listener) }) => {
                self.poller.remove(&self.listener);
                socket::hang_up(&self.listener);
                let _ = socket::admit_descriptors(&listener);
                self.listener = listener;
                let _ = self.poller.add(&self.listener, KEY_LISTENER, Interest::Readable);
            }
            Ok(_) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.has_lost_name, true) {
                    self.ledger.tell(&KeeperEvent::NameLost { why: error.to_string() });
                }
            }
        }
    }

    fn accept(&mut self) {
        loop {
            match socket::accept(&self.listener) {
                Ok(socket) => self.greet(PeerSocket::accepted(socket, &self.background)),
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    self.poller.remove(&self.listener);
                    self.accept_again_at = Some(Instant::now() + SHORTAGE_PAUSE);
                    return;
                }
                Err(_) => {} // that one is gone
            }
        }
    }

    fn greet(&mut self, socket: PeerSocket) {
        let refuse = |why: String| {
            let _ = socket::send(&socket, &FromKeeper::Unkept(EVERYTHING, why).encode(), &[]);
        };
        let peer = match socket::credentials(&socket) {
            Ok(peer) if peer.uid == self.own_uid => peer,
            Ok(peer) => {
                return refuse(format!(
                    "the keeper is user {}'s, and keeps nothing of user {}'s",
                    self.own_uid, peer.uid
                ));
            }
            Err(error) => return refuse(error.to_string()),
        };
        if self.connections.len() >= CONNECTIONS_MAX {
            return refuse(format!("the keeper has {CONNECTIONS_MAX} connections, as many as it may"));
        }
        let pidfd = match socket::peer_pidfd(&socket, &peer) {
            Ok(Some(pidfd)) => pidfd,
            Ok(None) => return refuse("the kernel does not tell of a process's end (pidfd, Linux 5.3)".into()),
            Err(error) => return refuse(format!("the keeper {error}")),
        };
        self.last_id += 1;
        let id = self.last_id;
        let added = socket
            .admit_descriptors()
            .map_err(|error| Error::io("let descriptors in", error))
            .and_then(|()| self.poller.add(&socket, id * KEY_KINDS + KEY_SOCKET, Interest::Readable))
            .and_then(|()| self.poller.add(&pidfd, id * KEY_KINDS + KEY_RECEIVER, Interest::Readable));
        if let Err(error) = added {
            self.poller.remove(&socket);
            return refuse(format!("the keeper {error}"));
        }
        let process = ReceiverProcess { pidfd, has_ended: false, sessions: HashMap::new(), is_connected: true };
        self.receivers.insert(id, process);
        self.connections
            .insert(id, Connection { socket: Arc::new(socket), receiver: id, has_registered: false, is_counted: true });
        self.ledger.count(|counts| counts.receivers += 1);
        self.listen_to(id); // who has gone already does not take a descriptor from those who come next
    }

    /// Whether a connection counts as a receiver.
    fn note_registration(&mut self, id: u64, registers: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.has_registered |= registers;
        let counts_now = connection.has_registered;
        match (std::mem::replace(&mut connection.is_counted, counts_now), counts_now) {
            (true, false) => self.ledger.count(|counts| counts.receivers -= 1),
            (false, true) => self.ledger.count(|counts| counts.receivers += 1),
            _ => {}
        }
    }

    /// A receiver has said something, or has hung up. Whether there may be more to be heard.
    fn listen_to(&mut self, id: u64) -> bool {
        let mut buffer = [0u8; MESSAGE_MAX];
        for _ in 0..MESSAGES_PER_TURN {
            let Some(connection) = self.connections.get(&id) else { return false };
            let received = match connection.socket.receive_with_descriptors(&mut buffer) {
                Err(Errno::AGAIN) => return false,
                Ok(received) if received.len > 0 => received,
                Ok(_) | Err(_) => {
                    self.hang_up(id);
                    return false;
                }
            };
            let (receiver, socket) = (connection.receiver, Arc::clone(&connection.socket));
            let mut fds = received.fds;
            let message = ToKeeper::decode(&buffer[..received.len]);
            if let Ok(ToKeeper::Keep(_) | ToKeeper::Status) = &message {
                self.note_registration(id, matches!(message, Ok(ToKeeper::Keep(_))));
            }
            let answer = match (message, fds.len()) {
                (Ok(ToKeeper::Keep(keep)), _) => Some(self.keep(receiver, keep, &mut fds)),
                (Ok(ToKeeper::Release(number)), 0) => {
                    self.release(receiver, number);
                    None
                }
                (Ok(ToKeeper::Forget(number)), 0) => {
                    self.forget(receiver, number);
                    None
                }
                (Ok(ToKeeper::Status), 0) => Some(FromKeeper::Counts(self.ledger.counts())),
                (Ok(_), _) => Some(FromKeeper::Unkept(EVERYTHING, "descriptors came with a message".into())),
                (Err(why), _) => Some(FromKeeper::Unkept(EVERYTHING, why.into())),
            };
            if !fds.is_empty() {
                // Whoever sent them may have made closing slow.
                self.background.run(self.own_uid, move || drop(fds));
            }
            let is_over = matches!(&answer, Some(FromKeeper::Unkept(EVERYTHING, _)));
            let is_told = answer.is_none_or(|answer| socket::send(&*socket, &answer.encode(), &[]).is_ok());
            if is_over || !is_told {
                self.hang_up(id);
                return false;
            }
        }
        true
    }

    /// Keeps a session, or says why not.
    fn keep(&mut self, receiver: u64, keep: Keep, fds: &mut Vec<OwnedFd>) -> FromKeeper {
        let (number, queue, sender) = (keep.number, keep.queue.clone(), keep.sender);
        let is_own = fds.get(1).and_then(process::is_own_pidfd);
        if is_own.unwrap_or_else(|| process::is_this_process(sender)) {
            return FromKeeper::Kept(number); // a courier, or one that ends together with this keeper: it has the memory
        }
        match self.try_keep(receiver, keep, fds) {
            Ok(bytes) => {
                self.ledger.tell(&KeeperEvent::Kept { queue, sender, bytes });
                FromKeeper::Kept(number)
            }
            Err(why) => {
                self.ledger.count(|counts| counts.refused += 1);
                self.ledger.tell(&KeeperEvent::Refused { queue, sender, why: why.clone() });
                FromKeeper::Unkept(number, why)
            }
        }
    }

    fn try_keep(&mut self, receiver: u64, keep: Keep, fds: &mut Vec<OwnedFd>) -> std::result::Result<u64, String> {
        if fds.len() != KEEP_DESCRIPTORS {
            return Err(match fds.len() {
                0 | 1 => "the keeper has no descriptor left (`ulimit -n`)".into(),
                count => format!("{count} descriptors came with it"),
            });
        }
        let said = |error: Error| error.to_string();
        if keep.layout_version != LAYOUT_VERSION {
            return Err(format!(
                "its memory has the layout {}, and the keeper knows {LAYOUT_VERSION}",
                keep.layout_version
            ));
        }
        let geometry =
            Geometry::new(keep.slots as usize, keep.capacity as usize).filter(|_| keep.contract.form.can_be_kept());
        let geometry = geometry.ok_or("it is no queue's, or has an impossible size")?;
        memory::check_sealed(&fds[0], geometry.segment_size, "the receiver sent a memory object").map_err(said)?;
        if !process::is_pidfd(&fds[1]) {
            return Err("the receiver sent no pidfd for its sender".into());
        }
        let inode = memory::inode(&fds[0]);
        if inode == 0 {
            return Err("the memory object has no number".into());
        }
        if let Some(before) = self.by_memory.get(&inode).copied() {
            // The receiver had given this keeper up, and has come back.
            self.drop_entry(before);
        }
        let bytes = geometry.segment_size as u64;
        let charge = self.ledger.charge(bytes)?;
        self.last_id += 1;
        let id = self.last_id;
        self.poller.add(&fds[1], id * KEY_KINDS + KEY_SENDER, Interest::Readable).map_err(said)?;
        let Some(process) = self.receivers.get_mut(&receiver) else { return Err("the receiver is gone".into()) };
        let before = process.sessions.insert(keep.number, id);
        if process.has_ended {
            self.open.insert(id); // it had asked before
        }
        before.into_iter().for_each(|before| self.drop_entry(before));
        let (Some(pidfd), Some(memory)) = (fds.pop(), fds.pop()) else { return Err("no descriptor came".into()) };
        let kept = KeptMemory {
            queue: keep.queue,
            contract: keep.contract,
            geometry,
            sender: keep.sender,
            memory,
            _charge: charge,
        };
        self.by_memory.insert(inode, id);
        let entry = Entry {
            kept: Arc::new(kept),
            receiver,
            number: keep.number,
            inode,
            pidfd,
            is_released: false,
            has_sender_ended: false,
            over_since: None,
        };
        self.entries.insert(id, entry);
        Ok(bytes)
    }

    /// Nobody takes messages from a session there any more.
    fn release(&mut self, receiver: u64, number: u64) {
        let Some(id) = self.receivers.get(&receiver).and_then(|process| process.sessions.get(&number)).copied() else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_released = true;
            self.open.insert(id);
        }
    }

    fn forget(&mut self, receiver: u64, number: u64) {
        let process = self.receivers.get(&receiver);
        if let Some(id) = process.and_then(|process| process.sessions.get(&number)).copied() {
            self.drop_entry(id);
        }
    }

    /// The connection is over. That says nothing of the receiver's process, which may have given it up.
    fn hang_up(&mut self, id: u64) {
        let Some(Connection { socket, receiver, is_counted, .. }) = self.connections.remove(&id) else { return };
        self.poller.remove(&*socket);
        socket::hang_up(&*socket);
        self.ledger.count(|counts| counts.receivers -= u64::from(is_counted));
        if let Some(process) = self.receivers.get_mut(&receiver) {
            process.is_connected = false;
            self.open.extend(process.sessions.values());
        }
        self.drop_receiver_if_done(receiver);
    }

    fn receiver_has_ended(&mut self, id: u64) {
        let Some(process) = self.receivers.get_mut(&id) else { return };
        self.poller.remove(&process.pidfd);
        process.has_ended = true;
        self.open.extend(process.sessions.values());
        // What it has said last. A child that it has forked may hold the connection open, and can say nothing for it.
        let _ = (0..LAST_TURNS).all(|_| self.listen_to(id));
        self.hang_up(id);
        self.drop_receiver_if_done(id);
    }

    fn sender_has_ended(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.poller.remove(&entry.pidfd);
        entry.has_sender_ended = true;
    }

    /// Decides on the sessions whose receivers are over. Whether there are fewer of them now.
    fn decide(&mut self) -> bool {
        let before = self.open.len();
        let ids: Vec<u64> = self.open.iter().copied().collect();
        for id in ids {
            self.decide_on(id);
        }
        self.open.len() < before
    }

    fn decide_on(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            self.open.remove(&id);
            return;
        };
        let process = self.receivers.get(&entry.receiver);
        let is_over = entry.is_released || process.is_none_or(|process| process.has_ended);
        let moving = entry.kept.moving();
        let is_sender_over = entry.has_sender_ended || moving == Moving::Left || faults::is(Fault::HastyKeeper);
        if !is_over {
            // A connection that was given up: the receiver may register it again, or has no need to. It may have let go
            // of the session since, as its sender knows that has passed all on, and could not say so.
            match process {
                Some(process) if process.is_connected => drop(self.open.remove(&id)),
                _ if moving == Moving::Done => self.let_go(id),
                _ if is_sender_over && entry.kept.contents(false).messages.is_empty() => self.let_go(id),
                _ => {}
            }
            return;
        }
        if moving == Moving::Done {
            return self.let_go(id);
        }
        let over_since = *entry.over_since.get_or_insert_with(Instant::now);
        if moving == Moving::NotBegun && !is_sender_over && over_since.elapsed() > UNHEARD_OF {
            // A handshake that was cut off or given up: its sender lives, and knows nothing of this session.
            let contents = entry.kept.contents(false);
            if contents.messages.is_empty() && contents.unreadable == 0 {
                return self.let_go(id);
            }
        }
        let Some(entry) = self.entries.get(&id) else { return };
        if !is_sender_over {
            return; // it hands its messages on itself, and what it does is looked at again
        }
        let is_doubtful = moving == Moving::Begun;
        if is_doubtful && self.may_come_unmarked(entry, id) {
            return;
        }
        let contents = entry.kept.contents(is_doubtful);
        let (messages, unreadable) = (contents.messages.len() as u64, contents.unreadable as u64);
        if messages == 0 && unreadable == 0 {
            return self.let_go(id);
        }
        let (kept, queue, sender) = (Arc::clone(&entry.kept), entry.kept.queue.clone(), entry.kept.sender);
        self.ledger.count(|counts| {
            counts.left += messages;
            counts.unreadable += unreadable;
        });
        self.ledger.tell(&KeeperEvent::Left { queue, sender, messages, unreadable });
        self.drop_entry(id);
        if messages > 0 && !self.couriers.hand_on(Estate { kept, is_doubtful }) {
            self.retry_couriers_at = Some(Instant::now() + SHORTAGE_PAUSE);
        }
    }

    /// Whether the same sender had another session of the same queue, to which it may have passed messages of this one,
    /// and which a receiver has still to do with: they come from there first, and this one's copies, which are marked,
    /// after them.
    ///
    /// That sender has ended. A process that lives is another one, though it has the same number: in another PID
    /// namespace, after that one, or 0 as all have that the receiver cannot see. Which have ended is asked here,
    /// because not all may have been told yet.
    fn may_come_unmarked(&self, entry: &Entry, id: u64) -> bool {
        let now = Some(Instant::now());
        let is_other = |(other, it): (&u64, &Entry)| {
            *other > id
                && it.kept.sender == entry.kept.sender
                && it.kept.queue == entry.kept.queue
                && (it.has_sender_ended || process::has_ended(&it.pidfd, now))
        };
        self.entries.iter().any(is_other)
    }

    /// Nothing is left that would have to be handed on.
    fn let_go(&mut self, id: u64) {
        if let Some(entry) = self.entries.get(&id) {
            let (queue, sender) = (entry.kept.queue.clone(), entry.kept.sender);
            self.ledger.tell(&KeeperEvent::Released { queue, sender });
        }
        self.drop_entry(id);
    }

    fn drop_entry(&mut self, id: u64) {
        self.open.remove(&id);
        let Some(entry) = self.entries.remove(&id) else { return };
        self.poller.remove(&entry.pidfd);
        if self.by_memory.get(&entry.inode) == Some(&id) {
            self.by_memory.remove(&entry.inode);
        }
        if let Some(process) = self.receivers.get_mut(&entry.receiver)
            && process.sessions.get(&entry.number) == Some(&id)
        {
            process.sessions.remove(&entry.number);
        }
        self.drop_receiver_if_done(entry.receiver);
    }

    /// A receiver whose connection is over, and of which nothing is kept, is nobody any more.
    fn drop_receiver_if_done(&mut self, id: u64) {
        let is_done = |process: &ReceiverProcess| !process.is_connected && process.sessions.is_empty();
        if self.receivers.get(&id).is_some_and(is_done)
            && let Some(process) = self.receivers.remove(&id)
        {
            self.poller.remove(process.pidfd.as_fd());
        }
    }
}
