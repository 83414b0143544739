//! A receiver's connection to the keeper of its messages: what is asked there, and what is known of the answers.
//!
//! The control thread has it, and never waits there: a registration is sent, and the handshake that it belongs to goes
//! on when the answer comes. A keeper that does not answer in time is given up, as one that is gone.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::contract::Contract;
use crate::error::{Error, ErrorKind, Result};
use crate::escape::escaped;
use crate::faults::{self, Fault};
use crate::memory::layout::Geometry;
use crate::options::ListenOptions;
use crate::session::agreement::Agreement;
use crate::session::keeping::{FromKeeper, Keep, ToKeeper};
use crate::session::name::ServiceName;
use crate::session::peer::Trust;
use crate::session::server_watch::{BLIND, Outlook, SILENCE, ServerWatch};
use crate::sync;
use crate::sys::epoll::{Interest, Poller};
use crate::sys::fork::ForkGuard;
use crate::sys::socket::{self, MESSAGE_MAX};

/// Registrations that are under way: each has descriptors in the keeper's socket, which the kernel counts against the
/// user.
const ASKED_MAX: usize = 64;

/// The connection, as the sessions have it, too: the last owner of each says that it is over.
#[derive(Debug)]
pub struct KeeperLink {
    socket: Mutex<Option<Arc<OwnedFd>>>,
    fork: ForkGuard,
}

impl KeeperLink {
    fn current(&self) -> Option<Arc<OwnedFd>> {
        sync::lock(&self.socket).clone()
    }

    /// Says something of which nobody waits for an answer. What a keeper that is stopped has no room for is not said:
    /// it keeps more than it need, until this process ends.
    pub fn say(&self, message: &ToKeeper) {
        if self.fork.is_forked() {
            return; // the connection is the parent's, and its lock may be held here for ever
        }
        if let Some(socket) = self.current() {
            let _ = socket::send(&*socket, &message.encode(), &[]);
        }
    }
}

/// A session that a keeper has, or is to have when there is one. Dropped, with the session or what became none, it says
/// that nobody takes messages from it here any more.
#[derive(Debug)]
pub struct KeptSession {
    number: u64,
    link: Arc<KeeperLink>,
}

impl KeptSession {
    /// What is left in it is nobody's: its sender broke the protocol.
    pub fn forget(&self) {
        self.link.say(&ToKeeper::Forget(self.number));
    }
}

impl Drop for KeptSession {
    fn drop(&mut self) {
        self.link.say(&ToKeeper::Release(self.number));
    }
}

/// What is registered: the session's memory, and what tells of its sender's end.
pub struct Registered<'a> {
    /// The receiver's number of it.
    pub number: u64,
    /// The sender's process.
    pub sender: i32,
    /// The memory object.
    pub memory: &'a OwnedFd,
    /// The sender's pidfd.
    pub pidfd: &'a OwnedFd,
    /// Its size and shape.
    pub geometry: &'a Geometry,
    /// What was agreed on.
    pub agreement: Agreement,
}

/// What a receiver that is kept knows of its keeper.
#[derive(Debug)]
pub struct Keeping {
    place: ServiceName,
    queue: PathBuf,
    contract: Contract,
    /// Whether a sender is welcomed although its messages are not kept.
    pub allows_unkept: bool,
    /// How long the keeper may take for an answer.
    answer_time: Duration,
    link: Arc<KeeperLink>,
    watch: ServerWatch,
    /// When the keeper is looked for next.
    try_at: Option<Instant>,
    /// What was asked and not answered, and until when the answer is waited for.
    asked: HashMap<u64, Instant>,
    /// Sessions that are to be registered at a keeper that came later.
    waiting: VecDeque<u64>,
}

impl Keeping {
    /// `None`: the receiver has not asked for a keeper. `queue`: where its own socket is.
    pub fn of(options: &ListenOptions, queue: PathBuf) -> Result<Option<Keeping>> {
        let Some(name) = &options.keeper else { return Ok(None) };
        if options.descriptors && !options.allows_unkept {
            let sentence = "descriptors cannot be kept: a receiver that lets them travel (descriptors) and has a \
                keeper (kept_by) must allow that such senders are not kept (allow_unkept)";
            return Err(Error::new(ErrorKind::InvalidConfiguration, sentence));
        }
        let admits_others = options.access.admits_other_users();
        if admits_others && !options.allows_unkept {
            let sentence = "what other users send is not kept: a receiver that lets them in and has a keeper (kept_by) \
                must allow that their senders are not kept (allow_unkept)";
            return Err(Error::new(ErrorKind::InvalidConfiguration, sentence));
        }
        Ok(Some(Keeping {
            place: ServiceName::keeper_of(name)?,
            queue: std::path::absolute(&queue).unwrap_or(queue),
            contract: options.contract.clone(),
            allows_unkept: options.allows_unkept,
            answer_time: options.limits.handshake_timeout / 2,
            link: Arc::new(KeeperLink { socket: Mutex::default(), fork: ForkGuard::new() }),
            watch: ServerWatch::default(),
            try_at: None,
            asked: HashMap::new(),
            waiting: VecDeque::new(),
        }))
    }

    /// Where the keeper is.
    pub fn place(&self) -> &ServiceName {
        &self.place
    }

    /// Whether there is a connection.
    pub fn is_linked(&self) -> bool {
        sync::lock(&self.link.socket).is_some()
    }

    /// When something is due: an answer, or a look whether there is a keeper.
    pub fn deadline(&self) -> Option<Instant> {
        self.asked.values().copied().chain(self.try_at).min()
    }

    /// Whether an answer is late.
    pub fn is_late(&self, now: Instant) -> bool {
        self.asked.values().any(|until| *until <= now)
    }

    /// Whether it is time to look for a keeper.
    pub fn is_to_look(&self, now: Instant) -> bool {
        self.try_at.is_some_and(|at| at <= now) || self.watch.has_news()
    }

    /// Connects, if there is a keeper.
    ///
    /// # Errors
    /// `NotRunning`, or why it cannot be reached.
    pub fn connect(&mut self, poller: &Poller, key: u64) -> Result<()> {
        let own_uid = rustix::process::geteuid().as_raw();
        let nobody = |why: &dyn std::fmt::Display| {
            let name = escaped(self.place.called());
            let sentence = format!(
                "no keeper of the name `{name}` is there ({}: {why}); start one with `wigwag queue keep {name}`, or \
                 let the receiver go on without (ReceiverBuilder::allow_unkept)",
                self.place.path().display()
            );
            Error::new(ErrorKind::NotRunning, sentence)
        };
        let (_directory, address) = self.place.address(own_uid).map_err(|error| match error.kind() {
            ErrorKind::NotRunning => nobody(&"nothing is there"),
            _ => error,
        })?;
        let socket = socket::new_socket()?;
        socket::connect_to(&socket, &address).map_err(|error| nobody(&error))?;
        let peer = socket::credentials(&socket)?;
        if peer.uid != own_uid {
            return Err(nobody(&format!("it is user {}'s", peer.uid)));
        }
        let _ = socket::refuse_descriptors(&socket); // a keeper sends none
        poller.add(&socket, key, Interest::Readable)?;
        self.watch.end(poller);
        self.try_at = None;
        *sync::lock(&self.link.socket) = Some(Arc::new(socket));
        Ok(())
    }

    /// Sees to it that a keeper is found that comes later. `true`: one may have come meanwhile.
    pub fn await_keeper(&mut self, poller: &Poller, key: u64) -> bool {
        let outlook = self.watch.watch(&self.place, poller, key);
        let pause = if outlook == Outlook::Blind { BLIND.max(Duration::from_millis(500)) } else { SILENCE };
        self.try_at = Some(Instant::now() + pause);
        outlook == Outlook::Anew
    }

    /// Lets the connection go. What had been asked there, and is not known.
    pub fn unlink(&mut self, poller: &Poller) -> Vec<u64> {
        if let Some(socket) = sync::lock(&self.link.socket).take() {
            poller.remove(&*socket);
            socket::hang_up(&*socket); // a forked child may hold it, too
        }
        self.waiting.clear();
        self.asked.drain().map(|(number, _)| number).collect()
    }

    /// A keeper that does not answer is left alone for a while.
    pub fn rest(&mut self) {
        self.try_at = Some(Instant::now() + SILENCE);
    }

    /// What stands for a session here, whether a keeper has it or not.
    pub fn session(&self, number: u64) -> KeptSession {
        KeptSession { number, link: Arc::clone(&self.link) }
    }

    /// Asks the keeper to keep a session.
    ///
    /// # Errors
    /// Why it cannot be asked just now.
    pub fn ask(&mut self, session: &Registered<'_>) -> std::result::Result<(), String> {
        let Some(socket) = self.link.current() else {
            return Err(format!("no keeper of the name `{}` is there", escaped(self.place.called())));
        };
        if self.asked.len() >= ASKED_MAX {
            return Err(format!("{ASKED_MAX} sessions wait for an answer of the keeper"));
        }
        let Registered { number, sender, memory, pidfd, geometry, agreement } = session;
        let keep = ToKeeper::Keep(Keep {
            number: *number,
            sender: *sender,
            layout_version: agreement.protocol.layout_version(),
            slots: geometry.slots as u32,
            capacity: geometry.capacity as u32,
            contract: self.contract.clone(),
            queue: self.queue.clone(),
        });
        let bytes = keep.encode();
        if bytes.len() > MESSAGE_MAX {
            return Err(format!("the queue's path is too long for a keeper ({} bytes)", self.queue.as_os_str().len()));
        }
        let fds = [memory.as_fd(), pidfd.as_fd()];
        socket::send(&*socket, &bytes, &fds).map_err(|error| format!("the keeper cannot be asked: {error}"))?;
        self.asked.insert(*number, Instant::now() + self.answer_time);
        Ok(())
    }

    /// The next thing the keeper has said; `None`: nothing more for now. An error: the connection is over, and why.
    pub fn hear(&mut self) -> std::result::Result<Option<FromKeeper>, String> {
        let Some(socket) = self.link.current() else { return Ok(None) };
        let mut buffer = [0u8; MESSAGE_MAX];
        let received = match socket::receive_bare(&*socket, &mut buffer) {
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(format!("the connection to the keeper is lost: {error}")),
            Ok(received) if received.len == 0 => return Err("the keeper has gone".into()),
            Ok(received) => received,
        };
        let message = FromKeeper::decode(&buffer[..received.len]).map_err(|why| format!("the keeper erred: {why}"))?;
        if let FromKeeper::Kept(number) | FromKeeper::Unkept(number, _) = &message {
            self.asked.remove(number);
        }
        Ok(Some(message))
    }

    /// These are to be registered, too.
    pub fn enlist(&mut self, numbers: impl Iterator<Item = u64>) {
        self.waiting.extend(numbers);
    }

    /// The next of these, if it may be asked for.
    pub fn next_enlisted(&mut self) -> Option<u64> {
        // Room is left for senders that come now.
        if self.asked.len() >= ASKED_MAX / 2 { None } else { self.waiting.pop_front() }
    }
}

/// Why a session cannot be kept, whatever the keeper says.
pub fn obstacle(trust: Trust, agreement: Agreement, pidfd: Option<&OwnedFd>) -> Option<String> {
    if trust == Trust::OtherUser {
        return Some("what another user sends is not kept: it would come again as this user's".into());
    }
    if agreement.has_descriptors() {
        return Some("descriptors may travel with its messages, and cannot be kept".into());
    }
    if !agreement.tells_moves() {
        return Some("its sender is of an earlier version, which does not say what becomes of its messages".into());
    }
    if pidfd.is_none() {
        return Some("the kernel does not tell of its process's end (pidfd, Linux 5.3)".into());
    }
    None
}

/// Whether a handshake waits for the keeper before it goes on.
pub fn is_waited_for() -> bool {
    !faults::is(Fault::HastyWelcome)
}
