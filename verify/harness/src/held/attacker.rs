//! An attacker: a process of another user that makes the server hold what it can, and says how much it had at a time.

use std::any::Any;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with};
use wigwag_testing::others::{Mapped, become_user, lingering, watch};
use wigwag_testing::wire::{self, READY, hello};
use wigwag_testing::{Link, REQUEST, Raw, SERVER, WAKE, word};

use super::carrier::Carrier;

/// An attacker has no more than so many of what it tries to have: enough to be beyond every bound.
pub const MOST: usize = 100;
/// Sockets of those who only knock.
const SILENT: usize = 200;
/// Sockets that linger: together fewer than the 64 for which a server waits before it takes newcomers again.
pub const LINGERING: usize = 12;
/// Each socket that is watched is in the square of so many epolls: that takes milliseconds.
const SIDE: usize = 200;
const SIDE_OF_MANY: usize = 100;
const WATCHED: usize = 8;
/// How long one that is still served after all of that waits for its end.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// One way to attack.
pub trait Attack {
    /// A little more of it.
    fn step(&mut self, path: &Path);
    /// Of what there is a bound: how much it has now.
    fn held(&mut self) -> usize;
    /// Whether it may still be ended, as it has to be.
    fn is_to_end(&mut self) -> bool {
        false
    }
    /// How long it waits for that.
    fn patience(&self) -> Duration {
        TIME_LIMIT
    }
}

/// The role. Arguments: the socket, the user, what to do, the seed. It says `there` once it is ready, begins at the
/// next line, and at the one after that says what it held at a time; it holds that until it is killed.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [path, user, how, seed] = arguments[..] else { panic!("{arguments:?}") };
    let (path, seed) = (Path::new(path), seed.parse::<u64>().expect("a seed"));
    become_user(user.parse().expect("a user"));
    let (mut attack, pause): (Box<dyn Attack>, Duration) = match how {
        "greet" => (Box::new(Greeter(Vec::new())), Duration::from_millis(2)),
        "knock" => (Box::new(Knocker(Vec::new())), Duration::from_millis(1)),
        "watch" => (Box::new(Watched::new(path)), Duration::from_micros(200)),
        "watch-many" => (Box::new(WatchedMany::new()), Duration::from_millis(20)),
        "linger" => (Box::new(Lingerer::new()), Duration::from_millis(5)),
        "carry" => (Box::new(Carrier::new(false)), Duration::from_millis(4)),
        "carry-on-older" => (Box::new(Carrier::new(true)), Duration::from_millis(4)),
        how => (Box::new(Keeper { how: how.to_owned(), kept: Vec::new() }), Duration::from_millis(5)),
    };
    parent.tell("there");
    if parent.hear_at_last().is_none() {
        return;
    }
    let is_over = AtomicBool::new(false);
    let mut most = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            parent.hear_at_last();
            is_over.store(true, Ordering::Relaxed);
        });
        let mut overtime = None;
        for number in 0.. {
            if is_over.load(Ordering::Relaxed) {
                let since = *overtime.get_or_insert_with(Instant::now);
                if !attack.is_to_end() || since.elapsed() > attack.patience() {
                    break;
                }
            }
            attack.step(path);
            most = most.max(attack.held());
            let jitter = word(seed, number) % pause.as_micros() as u64;
            std::thread::sleep(pause + Duration::from_micros(jitter));
        }
    });
    // One that was to lose what it had says whether it did.
    let is_to_lose = how == "watch" || how.starts_with("carry");
    let told = if is_to_lose { attack.held() } else { most };
    parent.tell(told);
    parent.hear_at_last();
}

/// Begins to connect, and never waits.
pub fn knock(path: &Path) -> Option<OwnedFd> {
    let socket = new_socket();
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    Some(socket)
}

fn new_socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket")
}

/// The first byte of what came, which stays there.
fn first_byte(socket: &OwnedFd) -> Option<u8> {
    let mut byte = [0];
    match recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((1.., _)) => Some(byte[0]),
        _ => None,
    }
}

/// Whether the other end is gone.
pub fn is_dropped(socket: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(socket, PollFlags::RDHUP)], Some(&now)).is_ok_and(|count| count > 0)
}

pub const WELCOME: u8 = 3;

/// Greets, and never reads the welcomes: the descriptors in them stay under way.
struct Greeter(Vec<OwnedFd>);

impl Attack for Greeter {
    fn step(&mut self, path: &Path) {
        // A connection that the server dropped at the deadline keeps its welcome; one that was not welcomed is of no
        // use.
        self.0.retain(|socket| first_byte(socket) == Some(WELCOME) || !is_dropped(socket));
        if self.0.len() < MOST
            && let Some(socket) = knock(path)
        {
            let _ = wire::send(&socket, &hello(), &[]);
            self.0.push(socket);
        }
    }

    fn held(&mut self) -> usize {
        self.0.iter().filter(|socket| first_byte(socket) == Some(WELCOME)).count()
    }
}

/// Connects, and says nothing.
struct Knocker(Vec<OwnedFd>);

impl Attack for Knocker {
    fn step(&mut self, path: &Path) {
        self.0.retain(|socket| !is_dropped(socket));
        if self.0.len() < SILENT {
            self.0.extend(knock(path));
        }
    }

    fn held(&mut self) -> usize {
        self.0.len()
    }
}

/// Begins sessions, ends them, and keeps their memory.
struct Keeper {
    how: String,
    kept: Vec<Box<dyn Any>>,
}

impl Attack for Keeper {
    fn step(&mut self, path: &Path) {
        if self.kept.len() >= MOST {
            return;
        }
        let Some(socket) = knock(path) else { return };
        let _ = wire::send(&socket, &hello(), &[]);
        let Some(welcome) = wire::receive(&socket).filter(|message| message.bytes[0] == WELCOME) else { return };
        let _ = wire::send(&socket, READY, &[]);
        let memory = welcome.descriptors.into_iter().next().expect("the memory");
        self.kept.push(match self.how.as_str() {
            "keep-open" => Box::new(memory),
            "keep-mapped" => Box::new(Mapped::new(&memory)),
            "keep-read" => Box::new(
                std::fs::File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).expect("one's own memory"),
            ),
            "keep-under-way" => {
                // Nobody has it open: it lies in a queue that nobody reads.
                let (one, other) =
                    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                        .expect("sockets");
                wire::send(&one, b"kept", &[memory.as_fd()]).expect("room");
                Box::new((one, other))
            }
            how => panic!("how is `{how}` kept?"),
        });
    }

    fn held(&mut self) -> usize {
        self.kept.len()
    }
}

/// Calls, and asks to be woken by a socket that is in many epolls.
struct Watched {
    session: Option<Raw>,
    sequence: u64,
    _epolls: Vec<OwnedFd>,
    next_try: Instant,
}

impl Watched {
    fn new(path: &Path) -> Watched {
        let session = Raw::connect(path);
        let epolls = watch(&session.socket, SIDE);
        Watched { session: Some(session), sequence: 0, _epolls: epolls, next_try: Instant::now() }
    }
}

impl Attack for Watched {
    fn step(&mut self, path: &Path) {
        let Some(session) = &self.session else {
            // It comes back all the time, and has a session again if it is let in.
            if self.next_try <= Instant::now() {
                self.next_try = Instant::now() + Duration::from_millis(50);
                let Some(socket) = knock(path) else { return };
                let _ = wire::send(&socket, &hello(), &[]);
                if wire::receive(&socket).is_some_and(|message| message.bytes[0] == WELCOME) {
                    drop(socket);
                    self.session = Some(Raw::connect(path));
                }
            }
            return;
        };
        if session.turn(0).load(Ordering::Acquire) & SERVER == 0 {
            self.sequence += 1;
            session.pass(0, self.sequence << 8 | SERVER | WAKE, REQUEST);
        }
        let mut buffer = [0; 4096];
        while let Ok((1.., _)) = recv(&session.socket, &mut buffer, RecvFlags::DONTWAIT) {}
        if is_dropped(&session.socket) {
            self.session = None;
        }
    }

    fn held(&mut self) -> usize {
        usize::from(self.session.is_some())
    }

    fn is_to_end(&mut self) -> bool {
        self.session.is_some()
    }
}

/// Greets by sockets that are in many epolls, so that each answer is slow.
struct WatchedMany {
    ready: Vec<OwnedFd>,
    sent: Vec<OwnedFd>,
    _epolls: Vec<OwnedFd>,
}

impl WatchedMany {
    fn new() -> WatchedMany {
        let ready: Vec<OwnedFd> = (0..WATCHED).map(|_| new_socket()).collect();
        let epolls = ready.iter().flat_map(|socket| watch(socket, SIDE_OF_MANY)).collect();
        WatchedMany { ready, sent: Vec::new(), _epolls: epolls }
    }
}

impl Attack for WatchedMany {
    fn step(&mut self, path: &Path) {
        let Some(socket) = self.ready.pop().or_else(|| (self.sent.len() < MOST).then(new_socket)) else { return };
        let address = SocketAddrUnix::new(path).expect("a path");
        if connect(&socket, &address).is_ok() {
            let _ = wire::send(&socket, &hello(), &[]);
        }
        self.sent.push(socket);
    }

    fn held(&mut self) -> usize {
        self.sent.iter().filter(|socket| first_byte(socket) == Some(WELCOME)).count()
    }
}

/// Sends sockets that take an hour to close, with its greeting and after it.
struct Lingerer {
    ready: Vec<(OwnedFd, OwnedFd)>,
    kept: Vec<OwnedFd>,
    sent: usize,
}

impl Lingerer {
    fn new() -> Lingerer {
        Lingerer { ready: (0..LINGERING).map(|_| lingering()).collect(), kept: Vec::new(), sent: 0 }
    }
}

impl Attack for Lingerer {
    fn step(&mut self, path: &Path) {
        let Some((slow, other)) = self.ready.pop() else { return };
        self.kept.push(other);
        let Some(socket) = knock(path) else { return };
        match self.sent % 3 {
            0 => drop(wire::send(&socket, &hello(), &[slow.as_fd()])),
            1 => {
                let _ = wire::send(&socket, b"no greeting", &[]);
                let _ = wire::send(&socket, b"more", &[slow.as_fd()]);
            }
            _ => {
                let _ = wire::send(&socket, &hello(), &[]);
                let _ = wire::send(&socket, READY, &[slow.as_fd()]);
            }
        }
        self.sent += 1;
        // Should the server have been quicker, this process is the last owner, and waits here.
        std::thread::spawn(move || drop(slow));
        if self.sent.is_multiple_of(2) {
            self.kept.push(socket);
        }
    }

    fn held(&mut self) -> usize {
        self.sent
    }
}
