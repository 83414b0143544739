//! The client's side of the handshake: from a name to a mapped segment, in steps that never wait.
//!
//! [`ClientHandshake::step`] goes on as far as it can and says what to wait for: its epoll, or a moment. A blocking
//! caller sleeps in the epoll ([`ClientHandshake::wait`]); a task gives the epoll to its reactor. So both keep their
//! deadlines, and neither needs a thread to connect.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use crate::error::{Error, ErrorKind, Result, shown, spoken};
use crate::memory::board::Board;
use crate::memory::segment::{Moving, Segment};
use crate::options::ConnectOptions;
use crate::session::agreement::{Agreement, Features, Protocol};
use crate::session::background::{Background, PeerSocket};
pub use crate::session::close_reason::KEY_SOCKET;
use crate::session::connect::retry::{BUSY_PAUSES, KEY_SERVER_WATCH, QUEUE_PAUSES};
use crate::session::connect::welcome::{Parts, map};
use crate::session::members::MemberChoice;
use crate::session::name::ServiceName;
use crate::session::protocol::{BoardWelcome, FromClient, FromServer, Hello, Reason, Welcome};
use crate::session::server_watch::ServerWatch;
use crate::sys::clock;
use crate::sys::directory::Directory;
use crate::sys::epoll::{Events, Interest, Poller};
use crate::sys::eventfd::Bell;
use crate::sys::socket::{self, Credentials, MESSAGE_MAX, Received};
use crate::trace;

mod retry;
mod welcome;

/// A session as its client has it.
#[derive(Debug)]
pub struct Established {
    /// The shared memory.
    pub segment: Segment,
    /// The control socket, also the sign of life.
    pub socket: Arc<PeerSocket>,
    /// What may take long, of what the server sent; there if descriptors may travel.
    pub background: Option<Arc<Background>>,
    /// Rung by the client.
    pub server_bell: Bell,
    /// Where the client sleeps: its bell, the socket and the server's pidfd are in it.
    pub poller: Poller,
    /// Rung by the server; kept open for the poller. `None` at a server of another user.
    pub client_bell: Option<Bell>,
    /// Tells of the end of the server's process; kept open for the poller.
    pub pidfd: Option<OwnedFd>,
    /// Who listens there.
    pub peer: Credentials,
    /// What was agreed on.
    pub agreement: Agreement,
    /// The memory object. Observers find it here, through `/proc`, also while the server is stopped; nobody else uses
    /// it. `None` at a server of another user, whose observers cannot look here: it keeps one itself.
    pub memory: Option<OwnedFd>,
    /// Which it is of the receivers that share the name; 0: it has the name for itself.
    pub member: usize,
    /// Of a broadcast: what all subscribers read.
    pub board: Option<BoardParts>,
}

/// The publisher's memory, as it came with the welcome.
#[derive(Debug)]
pub struct BoardParts {
    /// The board's object.
    pub memory: OwnedFd,
    /// The board, mapped to be read: all of it, or at a publisher of another user the ring. Its header is not looked at
    /// yet.
    pub board: Board,
    /// The newest message just now, before the publisher knows of this subscriber.
    pub newest: u64,
    /// The hint line's object; `None` at a publisher of another user.
    pub hints: Option<OwnedFd>,
    /// What was said of it.
    pub told: BoardWelcome,
}

/// The client's bell in its poller.
pub const KEY_BELL: u64 = 0;
/// The server's process has ended.
pub const KEY_PIDFD: u64 = 2;
/// Of a handshake in a reactor: a moment that was waited for has come.
#[cfg(not(loom))]
const KEY_TIMER: u64 = 3;
/// How long a socket that does not let this user connect is tried again: between a server's `bind` and its `chmod`
/// every socket is such a one.
const DENIED_FOR: Duration = Duration::from_millis(50);

/// How long a socket that refuses, of a server that has its lock, is tried again: the server is about to listen, or is
/// being replaced.
const REFUSED_FOR: Duration = Duration::from_millis(200);

/// How long one of several receivers that share a name is waited for, before the next one is asked: it may be stopped.
const ONE_OF_SEVERAL: Duration = Duration::from_millis(100);

/// How long after a look at a lock that was free it is looked at once more.
const DOUBT: Duration = Duration::from_millis(10);

/// Connects, shakes hands, maps; sleeps meanwhile.
pub fn attach(name: &OsStr, options: &ConnectOptions) -> Result<Established> {
    let mut handshake = ClientHandshake::begin(name, options.clone())?;
    match handshake.wait(None)? {
        Some(established) => Ok(established),
        None => Err(handshake.not_yet()), // cannot be: there is no end to this wait but the handshake's own
    }
}

/// A socket's file, until it is made anew or gets another mode.
#[derive(Debug, PartialEq, Eq)]
struct SocketIdentity {
    inode: u64,
    changed: (i64, i64),
}

impl SocketIdentity {
    /// `None`: there is none any more.
    fn of(path: &Path) -> Option<SocketIdentity> {
        let file = std::fs::symlink_metadata(path).ok()?;
        Some(SocketIdentity { inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) })
    }
}

/// A connect under way.
#[derive(Debug)]
pub struct ClientHandshake {
    name: OsString,
    options: ConnectOptions,
    /// Which setting says how long a server that is missing is looked for.
    setting: &'static str,
    server_uid: u32,
    /// Whom it asks where several share the name.
    choice: MemberChoice,
    /// Until when one of several is waited for, before the next one is asked.
    member_until: Option<Instant>,
    /// In whose form the server is greeted: one that does not know version 2 is greeted once more.
    greeting: Protocol,
    stage: Stage,
    /// When the handshake must be over. `None`: there is no server yet, or longer than the clock can say.
    deadline: Option<Instant>,
    /// Until when a server that is missing is looked for; `None`: for ever.
    missing_until: Option<Instant>,
    pause: Duration,
    /// Which socket does not let this user connect, and until when that one is tried again.
    denied: Option<(SocketIdentity, Instant)>,
    /// The same of a server that refuses and has its lock.
    refused_until: Option<Instant>,
    /// The server hung up without a word: that was tried once more.
    lost: Option<Error>,
    /// The server said that it had no place just now.
    busy: Option<Error>,
    /// Tells that a server which is missing may have come.
    server_watch: ServerWatch,
    /// Something was told since the last look at who is there: the next look is soon, whatever was to be waited for.
    has_news: bool,
    /// A socket is there on which nobody listens.
    is_refused: bool,
    /// The process that listened was found dead, and its lock free: that was looked at once more.
    is_doubted: bool,
    /// `None` once the session has it.
    poller: Option<Poller>,
    events: Events,
    #[cfg(not(loom))]
    timer: Option<crate::sys::timerfd::Timer>,
}

/// How far it is.
#[derive(Debug)]
enum Stage {
    /// Nothing has been sent; at that moment it begins, anew after that error.
    Resting(Option<Instant>, Option<Error>),
    /// The server's queue of connections was full; at that moment it is tried again.
    Queueing(Box<Door>, OwnedFd, Option<Instant>),
    /// HELLO is said.
    Greeted(Box<Greeted>),
}

/// Where a server listens.
#[derive(Debug)]
struct Door {
    place: ServiceName,
    address: SocketAddrUnix,
    /// What the address leads through.
    _directory: Directory,
}

#[derive(Debug)]
struct Greeted {
    place: ServiceName,
    socket: OwnedFd,
    peer: Credentials,
    /// A failure counts once there is a welcome: a server that has gone may have left a reason to be read.
    pidfd: Result<Option<OwnedFd>>,
    /// It has hung up, or its process has ended; what it said last may have come meanwhile.
    is_gone: bool,
    /// Its process had ended before it was asked: the next one is to answer, that the connection be made anew.
    is_between_servers: bool,
}

/// What a step came to.
#[derive(Debug)]
pub enum Progress {
    /// A session.
    Attached(Box<Established>),
    /// The poller is to be waited for, or that moment.
    Wait(Option<Instant>),
}

/// Why a step did not lead on.
enum Stop {
    /// It ends with this error.
    Error(Error),
    /// The server hung up without a word.
    Lost(Error),
    /// The server does not speak the version that it was greeted in.
    Older,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

impl ClientHandshake {
    /// Begins; nothing is done before the first step.
    pub fn begin(name: &OsStr, options: ConnectOptions) -> Result<ClientHandshake> {
        ServiceName::find(name)?;
        let server_uid = options.server_user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let may_be_shared = options.contract.form.can_be_shared();
        Ok(ClientHandshake {
            name: name.to_owned(),
            missing_until: clock::deadline_after(options.server_timeout),
            setting: "server_timeout",
            options,
            server_uid,
            choice: MemberChoice::new(!may_be_shared),
            member_until: None,
            greeting: Protocol::V2,
            stage: Stage::Resting(None, None),
            deadline: None,
            pause: Duration::ZERO,
            denied: None,
            refused_until: None,
            lost: None,
            busy: None,
            server_watch: ServerWatch::default(),
            has_news: false,
            is_refused: false,
            is_doubted: false,
            poller: Some(Poller::new()?),
            events: Events::with_capacity(4),
            #[cfg(not(loom))]
            timer: None,
        })
    }

    /// The search for the successor of a server that has ended, which is looked for as long as the client was told to;
    /// nothing is done before the first step.
    pub fn for_successor(name: &OsStr, options: &ConnectOptions) -> Result<ClientHandshake> {
        let (time, setting) = options.restarts.time();
        let mut search = ClientHandshake::begin(name, options.clone().server_timeout(time))?;
        search.setting = setting;
        Ok(search)
    }

    /// Of several that share the name those behind that one come first.
    pub fn prefer_after(mut self, member: usize) -> ClientHandshake {
        self.choice.after = member;
        self
    }

    /// Asks whoever has that very name, and nobody who shares it.
    pub fn exactly(mut self) -> ClientHandshake {
        self.choice.is_exact = true;
        self
    }

    /// Sleeps until it is over or that moment has come; `None`: not over. It may be gone on with.
    pub fn wait(&mut self, until: Option<Instant>) -> Result<Option<Established>> {
        loop {
            let at = match self.step()? {
                Progress::Attached(established) => return Ok(Some(*established)),
                Progress::Wait(at) => at,
            };
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(None);
            }
            let poller = self.poller.as_ref().ok_or_else(over)?;
            poller.wait(&mut self.events, at.into_iter().chain(until).min())?;
        }
    }

    /// Goes on as far as it can without waiting. After an error it is over.
    pub fn step(&mut self) -> Result<Progress> {
        loop {
            let stop = match self.go_on() {
                Ok(Some(progress)) => return Ok(progress),
                Ok(None) => continue,
                Err(stop) => stop,
            };
            self.forget_socket();
            let error = match stop {
                Stop::Older => {
                    // It is asked at once, by a new connection, within the time of the first.
                    self.greeting = Protocol::V1;
                    self.stage = Stage::Resting(None, None);
                    continue;
                }
                Stop::Lost(error) if self.lost.is_none() => {
                    // Its queue of connections went with it, as in a shutdown, or it is being replaced: nothing was
                    // executed, and the server that is there now says more.
                    self.lost = Some(error);
                    self.stage = Stage::Resting(None, None);
                    continue;
                }
                Stop::Lost(error) | Stop::Error(error) => error,
            };
            // What this process lacks, it lacks for the next one, too.
            if error.kind() != ErrorKind::Io && self.choice.next() {
                self.greeting = Protocol::V2;
                (self.lost, self.deadline) = (None, None);
                self.stage = Stage::Resting(None, None);
                continue;
            }
            self.rest_after(error)?;
        }
    }

    /// Whether its time ran out while nobody waited: whoever looks now has all of his own.
    pub fn is_stale(&self) -> bool {
        let limit = match &self.stage {
            Stage::Resting(..) => self.missing_until,
            _ => self.deadline,
        };
        limit.is_some_and(|at| at <= Instant::now())
    }

    /// Why there is no session yet, for a caller that waits no longer.
    pub fn not_yet(&mut self) -> Error {
        match &mut self.stage {
            Stage::Resting(_, error) if error.is_some() => error.take().unwrap_or_else(over),
            Stage::Resting(..) if self.busy.is_some() => self.busy.take().unwrap_or_else(over),
            _ => Error::new(
                ErrorKind::TimedOut { maybe_executed: false },
                format!(
                    "the server of `{}` was asked, and has not answered yet",
                    self.name.to_string_lossy().escape_debug()
                ),
            ),
        }
    }

    /// One move; `None`: there is another.
    fn go_on(&mut self) -> std::result::Result<Option<Progress>, Stop> {
        // In each stage: what lies there unread would end every sleep. It is kept until the next look: one that comes
        // while another is asked is told of once.
        self.has_news |= self.server_watch.has_news();
        let has_news = self.has_news;
        match &mut self.stage {
            Stage::Resting(Some(at), reason) if *at > Instant::now() && !(has_news && reason.is_some()) => {
                Ok(Some(Progress::Wait(Some(*at))))
            }
            Stage::Resting(..) => {
                self.has_news = false;
                let place = self.place()?;
                let place = self.choice.choose(place, self.server_uid)?;
                self.member_until = self.choice.has_others().then(|| Instant::now() + ONE_OF_SEVERAL);
                self.is_refused = false;
                let (_directory, address) = place.address(self.server_uid)?;
                let door = Box::new(Door { place, address, _directory });
                if self.deadline.is_none() {
                    self.deadline = clock::deadline_after(self.options.timeout);
                }
                self.stage = Stage::Queueing(door, socket::new_socket()?, None);
                Ok(None)
            }
            Stage::Queueing(_, _, Some(at)) if *at > Instant::now() => Ok(Some(Progress::Wait(Some(*at)))),
            Stage::Queueing(..) => self.connect(),
            Stage::Greeted(greeted) if greeted.is_between_servers && has_news => {
                Err(Stop::Error(gone(&greeted.place, None))) // the next one may have made a socket of its own
            }
            Stage::Greeted(_) => self.hear(),
        }
    }

    /// Until when the server that is asked may take.
    fn limit(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.member_until).min()
    }

    fn place(&self) -> Result<ServiceName> {
        Ok(ServiceName::find(&self.name)?.of_form(self.options.contract.form))
    }

    fn connect(&mut self) -> std::result::Result<Option<Progress>, Stop> {
        let Stage::Queueing(door, socket, _) = std::mem::replace(&mut self.stage, Stage::Resting(None, None)) else {
            return Ok(None);
        };
        let place = &door.place;
        match socket::connect_to(&socket, &door.address) {
            Ok(()) => (self.refused_until, self.denied) = (None, None),
            Err(Errno::AGAIN) => {
                if self.limit().is_some_and(|at| at <= Instant::now()) {
                    return Err(Stop::Error(Error::new(
                        ErrorKind::TimedOut { maybe_executed: false },
                        format!(
                            "the server did not accept within {}: it is stopped, or drowned in connections",
                            spoken(self.options.timeout)
                        ),
                    )));
                }
                let at = self.after_pause(QUEUE_PAUSES);
                self.stage = Stage::Queueing(door, socket, at);
                return Ok(None);
            }
            Err(Errno::CONNREFUSED | Errno::NOENT) => {
                self.is_refused = true;
                let until = *self.refused_until.get_or_insert_with(|| Instant::now() + REFUSED_FOR);
                if until <= Instant::now() || place.is_left_over(self.server_uid) {
                    return Err(place.not_running("a server that is gone left it; the next one replaces it").into());
                }
                let at = self.after_pause(QUEUE_PAUSES);
                self.stage = Stage::Queueing(door, socket, at);
                return Ok(None);
            }
            Err(Errno::PROTOTYPE) => {
                return Err(place.bad_path("is a socket of another kind, not a Wigwag server's").into());
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                // A server that is just binding gives its socket the mode that lets others in a moment after the name.
                if place.is_left_over(self.server_uid) {
                    return Err(place.not_running("a server that is gone left it; the next one replaces it").into());
                }
                let Some(closed) = SocketIdentity::of(&place.path()) else {
                    return Err(place.not_running("a server that is gone has just removed its socket").into());
                };
                let until = match self.denied.take() {
                    Some((same, until)) if same == closed => until,
                    _ => Instant::now() + DENIED_FOR,
                };
                self.denied = Some((closed, until));
                if until <= Instant::now() {
                    return Err(place.bad_path("does not let this user connect").into());
                }
                let at = self.after_pause(QUEUE_PAUSES);
                self.stage = Stage::Queueing(door, socket, at);
                return Ok(None);
            }
            Err(error) => {
                return Err(Error::io(format_args!("connect to {}", shown(&place.path())), error).into());
            }
        }
        let peer = socket::credentials(&socket)?;
        if peer.uid != self.server_uid {
            // Until a server listens on a socket that it has inherited, whoever made it is told to listen there: root,
            // as in socket activation. Its file is the right user's, so that one is about to come.
            if peer.uid == 0 && self.deadline.is_none_or(|at| at > Instant::now()) {
                let at = self.after_pause(BUSY_PAUSES);
                self.stage = Stage::Queueing(door, socket::new_socket()?, at);
                return Ok(None);
            }
            let why = format!("is served by user {}, where user {} was expected", peer.uid, self.server_uid);
            return Err(place.bad_path(&why).into());
        }
        self.poller()?.add(&socket, KEY_SOCKET, Interest::Readable)?;
        self.pause = Duration::ZERO;
        self.greet(*door, socket, peer)
    }

    fn greet(&mut self, door: Door, socket: OwnedFd, peer: Credentials) -> std::result::Result<Option<Progress>, Stop> {
        let ConnectOptions { slots, capacity, contract, .. } = &self.options;
        let offered = self.offered(&peer);
        let hello = FromClient::Hello(Hello::new(self.greeting, *slots, *capacity, contract.clone(), offered));
        // PIPE and CONNRESET are no errors yet: a server that refused at once has left its reason to be read.
        let is_gone = match socket::send(&socket, &hello.encode(), &[]) {
            Ok(()) => false,
            Err(Errno::PIPE | Errno::CONNRESET) => true,
            Err(error) => return Err(Stop::Error(gone(&door.place, Some(error)))),
        };
        let pidfd = socket::peer_pidfd(&socket, &peer);
        let place = door.place;
        let has_gone = socket::has_gone(&pidfd);
        let is_between_servers = has_gone && self.awaits_next_server(&place)?;
        if has_gone && !is_between_servers && !std::mem::replace(&mut self.is_doubted, true) {
            // A server that is just taking the lock looks the same for a moment.
            self.poller()?.remove(&socket);
            self.stage = Stage::Resting(Instant::now().checked_add(DOUBT), None);
            return Ok(None);
        }
        if let (Ok(Some(pidfd)), false) = (&pidfd, is_between_servers) {
            self.poller()?.add(pidfd, KEY_PIDFD, Interest::Readable)?;
        }
        self.stage = Stage::Greeted(Box::new(Greeted { place, socket, peer, pidfd, is_gone, is_between_servers }));
        Ok(None)
    }

    /// Somebody holds a socket on which a process that is over has listened: a service manager, which is about to start
    /// the next server there, or a forked child of a server that was killed. The latter leaves a free lock, and is not
    /// waited for unless that was asked for: nobody answers there until a server takes the name anew, which is told.
    fn awaits_next_server(&mut self, place: &ServiceName) -> Result<bool> {
        if !self.options.server_timeout.is_zero() {
            let poller = self.poller.as_ref().ok_or_else(over)?;
            self.server_watch.watch(place, poller, KEY_SERVER_WATCH);
            return Ok(true);
        }
        Ok(!place.is_left_over(self.server_uid))
    }

    /// What this server is offered.
    fn offered(&self, server: &Credentials) -> Features {
        let is_same_user = server.uid == rustix::process::geteuid().as_raw();
        let form = self.options.contract.form;
        let has_descriptors = self.options.descriptors && is_same_user && form.carries_descriptors();
        // Only who makes something of the marks has the server make them: they cost the other clients nothing.
        let follows = self.options.restarts.are_followed() && form.can_be_followed();
        Features::NONE
            .with(Features::DESCRIPTORS, has_descriptors)
            .with(Features::BEGUN, follows)
            .with(Features::MOVED, follows)
            .with(Features::TELLS_MOVES, form.can_be_kept())
    }

    /// The answer, if it is there.
    fn hear(&mut self) -> std::result::Result<Option<Progress>, Stop> {
        let Stage::Greeted(greeted) = &mut self.stage else { return Ok(None) };
        let mut buffer = [0u8; MESSAGE_MAX];
        let received = match socket::receive(&greeted.socket, &mut buffer) {
            Ok(received) => received,
            Err(Errno::AGAIN) if greeted.is_gone => return Err(Stop::Error(gone(&greeted.place, None))),
            Err(Errno::AGAIN) => return self.listen(),
            Err(error) => return Err(Stop::Lost(gone(&greeted.place, Some(error)))),
        };
        if received.len == 0 {
            return Err(Stop::Lost(gone(&greeted.place, None)));
        }
        match FromServer::decode(&buffer[..received.len], self.greeting) {
            Ok(FromServer::Welcome(_)) if received.truncated && received.len == buffer.len() => {
                Err(violation("the message is too long").into())
            }
            Ok(FromServer::Welcome(_)) if received.truncated => Err(socket::truncated().into()),
            Ok(FromServer::Welcome(welcome)) => self.establish(&welcome, received),
            Ok(FromServer::Refusal(Reason::Version, _)) if self.greeting > Protocol::V1 => Err(Stop::Older),
            Ok(FromServer::Refusal(reason, why) | FromServer::Farewell(reason, why)) => {
                Err(refused(reason, &why).into())
            }
            Ok(FromServer::Bell) => Err(violation("it rang before it welcomed").into()),
            Ok(FromServer::Unknown) => Err(violation("the message is of an unknown kind").into()),
            Err(why) => Err(violation(why).into()),
        }
    }

    /// Nothing is to be read yet. A connection that nobody has accepted does not hang up when the server dies while a
    /// forked child of it holds the listening socket: the process is watched besides.
    fn listen(&mut self) -> std::result::Result<Option<Progress>, Stop> {
        self.poller.as_ref().ok_or_else(over)?.poll(&mut self.events)?;
        let Stage::Greeted(greeted) = &mut self.stage else { return Ok(None) };
        if self.events.iter().any(|ready| ready.key == KEY_PIDFD) {
            greeted.is_gone = true;
            return Ok(None);
        }
        if self.events.iter().any(|ready| ready.key == KEY_SOCKET) {
            return Ok(None);
        }
        let limit = self.limit();
        let Stage::Greeted(greeted) = &mut self.stage else { return Ok(None) };
        if limit.is_some_and(|at| at <= Instant::now()) {
            if greeted.is_between_servers {
                return Err(Stop::Error(gone(&greeted.place, None)));
            }
            return Err(Stop::Error(Error::new(
                ErrorKind::TimedOut { maybe_executed: false },
                format!(
                    "the server at {} did not answer within {}: it is stopped or very busy",
                    shown(&greeted.place.path()),
                    spoken(self.options.timeout)
                ),
            )));
        }
        Ok(Some(Progress::Wait(limit)))
    }

    fn establish(&mut self, welcome: &Welcome, received: Received) -> std::result::Result<Option<Progress>, Stop> {
        let Stage::Greeted(greeted) = &self.stage else { return Ok(None) };
        let agreement = welcome.agreement(self.greeting, self.offered(&greeted.peer)).map_err(violation)?;
        let is_own_user = greeted.peer.uid == rustix::process::geteuid().as_raw();
        let Parts { segment, server_bell, client_bell, memory, board } =
            map(&self.options, agreement, welcome, received, is_own_user)?;
        let poller = self.poller.as_ref().ok_or_else(over)?;
        if let Some(bell) = &client_bell {
            poller.add(bell, KEY_BELL, Interest::Bell)?;
        }
        let Stage::Greeted(greeted) = &mut self.stage else { return Ok(None) };
        if greeted.pidfd.is_ok() {
            // Before READY: from here on messages may lie there.
            let has_keeper_word = self.options.contract.form.can_be_kept() && agreement.tells_moves();
            let say = |moving| {
                if has_keeper_word {
                    segment.say_moving(moving)
                }
            };
            say(Moving::Attached);
            // A server that has hung up although it welcomed us says why, as it does when the handshake took too long:
            // that is there to be read.
            match socket::send(greeted.socket.as_fd(), &FromClient::Ready.encode(), &[]) {
                Ok(()) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    say(Moving::Left);
                    client_bell.iter().for_each(|bell| poller.remove(bell));
                    greeted.is_gone = true;
                    return Ok(None);
                }
                Err(error) => {
                    say(Moving::Left);
                    return Err(Stop::Error(gone(&greeted.place, Some(error))));
                }
            }
        }
        let Stage::Greeted(greeted) = std::mem::replace(&mut self.stage, Stage::Resting(None, None)) else {
            return Ok(None);
        };
        let Greeted { place, socket, peer, pidfd, .. } = *greeted;
        let pidfd = pidfd?;
        trace::connected(&place.path(), peer.pid, segment.geometry().slots);
        if !agreement.has_same_clock {
            trace::clocks_differ(peer.pid);
        }
        let background = agreement.has_descriptors().then(|| Background::new(true));
        let socket = match &background {
            Some(background) => PeerSocket::accepted(socket, background),
            None => {
                // Nothing comes with a message from here on; an older kernel drops what does.
                let _ = socket::refuse_descriptors(&socket);
                PeerSocket::from(socket)
            }
        };
        #[cfg(not(loom))]
        if let Some(timer) = self.timer.take() {
            poller.remove(&timer);
        }
        let poller = self.poller.take().ok_or_else(over)?;
        self.server_watch.end(&poller);
        let socket = Arc::new(socket);
        let memory = is_own_user.then_some(memory);
        let established = Established {
            segment,
            socket,
            background,
            server_bell,
            poller,
            client_bell,
            pidfd,
            peer,
            agreement,
            memory,
            member: place.member_number(),
            board,
        };
        Ok(Some(Progress::Attached(Box::new(established))))
    }

    /// A forked child may hold the descriptors open: they are taken out by name.
    fn forget_socket(&mut self) {
        if let (Stage::Greeted(greeted), Some(poller)) = (&self.stage, &self.poller) {
            poller.remove(&greeted.socket);
            if let Ok(Some(pidfd)) = &greeted.pidfd {
                poller.remove(pidfd);
            }
        }
    }

    fn poller(&self) -> Result<&Poller> {
        self.poller.as_ref().ok_or_else(over)
    }

    /// From now on that poller tells when the next step is due, but for moments.
    pub fn watch_in(&self, poller: &Poller, key: u64, interest: Interest) -> Result<()> {
        poller.add(self.poller()?, key, interest)
    }

    /// That poller tells of it no more. A forked child may hold it open: it is taken out by name.
    pub fn leave(&self, poller: &Poller) {
        self.poller.iter().for_each(|own| poller.remove(own));
    }

    /// For a reactor: moments are told of as well.
    pub fn tell_moments(&mut self) -> Result<()> {
        #[cfg(not(loom))]
        if self.timer.is_none() {
            let timer = crate::sys::timerfd::Timer::new()?;
            self.poller()?.add(&timer, KEY_TIMER, Interest::Readable)?;
            self.timer = Some(timer);
        }
        Ok(())
    }

    /// As [`step`](ClientHandshake::step), with the moment told if that was asked for.
    pub fn step_and_tell(&mut self) -> Result<Progress> {
        let progress = self.step()?;
        #[cfg(not(loom))]
        if let Progress::Wait(at) = &progress {
            self.timer.iter().for_each(|timer| timer.set(*at));
        }
        Ok(progress)
    }

    /// For a reactor: the poller, which from now on tells of moments as well.
    #[cfg(not(loom))]
    pub fn descriptor(&mut self) -> Result<OwnedFd> {
        self.tell_moments()?;
        let copied = self.poller()?.as_fd().try_clone_to_owned();
        copied.map_err(|error| Error::io("copy a descriptor for the reactor", error))
    }

    /// As [`step`](ClientHandshake::step); the poller becomes readable when it is time for the next.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub fn step_of_task(&mut self) -> Result<Option<Established>> {
        Ok(match self.step_and_tell()? {
            Progress::Attached(established) => Some(*established),
            Progress::Wait(_) => None,
        })
    }
}

#[cold]
fn over() -> Error {
    Error::new(ErrorKind::InvalidConfiguration, "this handshake is over: its session has been made")
}

/// Adds all that can wake one end of a session.
pub fn watch(poller: &Poller, bell: Option<&Bell>, socket: &PeerSocket, pidfd: Option<&OwnedFd>) -> Result<()> {
    if let Some(bell) = bell {
        poller.add(bell, KEY_BELL, Interest::Bell)?;
    }
    poller.add(socket, KEY_SOCKET, Interest::Readable)?;
    match pidfd {
        Some(pidfd) => poller.add(pidfd, KEY_PIDFD, Interest::Readable),
        None => Ok(()),
    }
}

/// The error for a refusal.
fn refused(reason: Reason, why: &str) -> Error {
    let (kind, begin) = match reason {
        Reason::Refused => (ErrorKind::Refused, "the server refused the session: "),
        Reason::Later => (ErrorKind::Busy, "the server has no place for the session just now: "),
        Reason::Contract => (ErrorKind::ContractMismatch, ""),
        Reason::Version => (ErrorKind::VersionMismatch, ""),
        Reason::Violation => (ErrorKind::Violation, "the server refused the handshake: "),
        Reason::Shutdown | Reason::Moved => (ErrorKind::ServerClosed { maybe_executed: false }, ""),
        Reason::Aborted => (ErrorKind::Aborted, "the server gave the session up: "),
    };
    Error::new(kind, format!("{begin}{why}"))
}

fn violation(why: &str) -> Error {
    Error::new(ErrorKind::Violation, format!("the server broke the protocol: {why}"))
}

fn gone(place: &ServiceName, error: Option<Errno>) -> Error {
    let how = error.map_or_else(String::new, |error| format!(" ({error})"));
    Error::new(
        ErrorKind::PeerDied { maybe_executed: false },
        format!("the server at {} went away during the handshake{how}", shown(&place.path())),
    )
}

#[cfg(all(test, not(loom)))]
mod tests {
    use wigwag_testing::{Ground, limited};

    use super::*;
    use crate::Server;
    use crate::sys::owner_lock::OwnerLock;

    #[test]
    fn c9_who_waits_for_a_server_is_woken_by_its_name_and_no_clock() {
        limited(|| {
            let ground = Ground::new();
            let options = ConnectOptions::default().server_timeout(Duration::MAX);
            let mut handshake = ClientHandshake::begin(ground.socket().as_os_str(), options).unwrap();
            assert!(matches!(handshake.step().unwrap(), Progress::Wait(_)));
            let mut events = Events::with_capacity(1);
            let poller = handshake.poller.as_ref().unwrap();
            poller.poll(&mut events).unwrap();
            assert_eq!(events.len(), 0, "nothing has come yet");
            let _server = Server::bind(ground.socket()).unwrap();
            poller.wait(&mut events, None).unwrap(); // for ever, if nothing tells of the server
            let progress = handshake.step().unwrap();
            let has_asked = matches!(progress, Progress::Attached(_)) || matches!(handshake.stage, Stage::Greeted(_));
            assert!(has_asked, "it looks when it is told, before the moment at which it would look anyway");
        });
    }

    /// Those who share a name: one has its lock and does not listen, and another one comes while that one is tried.
    #[test]
    fn c9_who_comes_while_another_is_asked_is_found_when_that_one_is_dead() {
        limited(|| {
            let ground = Ground::new();
            let options = crate::Sender::builder().server_timeout(Duration::MAX).checked_options().unwrap();
            let mut handshake = ClientHandshake::begin(ground.socket().as_os_str(), options).unwrap();
            assert!(matches!(handshake.step().unwrap(), Progress::Wait(_)), "nobody is there, and it watches");
            let first = handshake.place().unwrap().member(1).unwrap();
            let directory = Directory::open(&ground.path(""), &[rustix::process::geteuid().as_raw()]).unwrap();
            let lock = OwnerLock::try_take(&directory, first.lock()).unwrap().expect("nobody has it");
            drop(std::os::unix::net::UnixListener::bind(first.path()).unwrap()); // its file stays
            handshake.step().unwrap();
            assert!(matches!(handshake.stage, Stage::Queueing(..)), "it may be about to listen");
            let _second = crate::Receiver::builder().shared(true).bind(ground.socket()).unwrap();
            handshake.step().unwrap(); // and hears of it
            assert!(matches!(handshake.stage, Stage::Queueing(..)));
            drop(lock);
            while !matches!(handshake.step().unwrap(), Progress::Attached(_)) {
                let is_at_rest = matches!(handshake.stage, Stage::Resting(..));
                assert!(!is_at_rest, "it waits for somebody who has come: {:?}", handshake.stage);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
}
