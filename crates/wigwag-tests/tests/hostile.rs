//! Clients that mean harm. They shake hands by hand and then write whatever they like, wherever they can. Each costs
//! itself its session, with a reason where the server notices; never the server's process, nor any other client's call.
//! Users other than the server's are kept out, or kept from changing what a handler looks at.

#[path = "support/workshop.rs"]
mod workshop;

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use wigwag::{Client, ErrorKind, Receiver, Request, Sender, Server};
use wigwag_testing::Snapshot;
use wigwag_testing::wire::{self, LATER, READY, VIOLATION};
use wigwag_testing::{
    Ground, HAS_DEADLINE, IN_BODY, LIMIT, MESSAGE, Process, REQUEST, Raw, SERVER, WAKE, check_inverted, eventually,
    fill, role, word,
};
use workshop::{ORDER, Workshop};

#[test]
#[ignore = "a role: other tests start it as a process"]
fn workshop() {
    role("workshop", workshop::play);
}

#[track_caller]
fn invert(client: &Client, len: usize, seed: u64) {
    let mut loan = client.loan(len).unwrap();
    fill(&mut loan, seed);
    check_inverted(&loan.call().unwrap(), len, seed);
}

/// The next request: a lost one fails the test instead of hanging it.
fn receive(server: &mut Server) -> Request {
    server.recv_timeout(LIMIT).unwrap().expect("a request")
}

// ---- a session by hand ----------------------------------------------------------------------------------------------

#[test]
fn a_session_by_hand_is_served_as_any_other() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &["slots=3", "capacity=5000"]);
    let raw = Raw::connect(&ground.socket());
    assert_eq!((raw.slots, raw.capacity), (3, 5000));
    for sequence in 1..=20 {
        assert_eq!(raw.call(0, sequence, &[sequence as u8; 48]), [!(sequence as u8); 48]);
    }
    raw.depth().store(3, Ordering::Relaxed);
    assert_eq!(raw.call(2, 1, &[1; 5000]), [!1; 5000]);
}

#[test]
fn a_client_of_another_version_learns_why_it_is_refused_whatever_else_it_says() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &[]);
    for tail in [&b""[..], b"x", &[0xff; 300]] {
        let socket = wire::connect_to(&ground.socket());
        let hello = [&b"\x01WWHI\x03\0\x04\0\x07\0\0\0"[..], tail].concat(); // protocols 3 to 4, layout 7
        wire::send(&socket, &hello, &[]).unwrap();
        let (reason, why) = wire::receive_end(&socket).expect("a refusal");
        assert_eq!(reason, wire::VERSION, "{why}");
        for part in ["protocols 1 to 2", "layouts 1 to 2", "3 to 4", "layout 7"] {
            assert!(why.contains(part), "{part}: {why}");
        }
    }
}

// ---- what ends a session --------------------------------------------------------------------------------------------

/// One violation: what it is, what is done, what the farewell says.
type Violation = (&'static str, fn(&Raw), &'static str);

const VIOLATIONS: &[Violation] = &[
    ("a length beyond everything", |raw| raw.pass(0, 1 << 8 | SERVER, REQUEST | IN_BODY | 0xffff_ffff), "slot 0"),
    ("a length beyond the line", |raw| raw.pass(0, 1 << 8 | SERVER, REQUEST | 49), "slot 0"),
    ("a length beyond the line, by far", |raw| raw.pass(0, 1 << 8 | SERVER, REQUEST | 0xffff_ffff), "slot 0"),
    (
        "one byte beyond the capacity",
        |raw| raw.pass(0, 1 << 8 | SERVER, REQUEST | IN_BODY | (raw.capacity + 1)),
        "slot 0",
    ),
    ("kind 0", |raw| raw.pass(0, 1 << 8 | SERVER, 10), "head 0xa"),
    ("a reply as a request", |raw| raw.pass(0, 1 << 8 | SERVER, 2 << 32 | 10), "nothing this session allows"),
    ("kind 6", |raw| raw.pass(0, 1 << 8 | SERVER, 6 << 32 | 10), "nothing this session allows"),
    ("kind 255", |raw| raw.pass(0, 1 << 8 | SERVER, 255 << 32 | 10), "nothing this session allows"),
    ("a flag unheard of", |raw| raw.pass(0, 1 << 8 | SERVER, REQUEST | 1 << 47 | 10), "nothing this session allows"),
    ("descriptors that nobody asked for", |raw| raw.pass(0, 1 << 8 | SERVER, REQUEST | 1 << 42), "do not travel"),
    ("the highest bit", |raw| raw.pass(0, 1 << 8 | SERVER, REQUEST | 1 << 63 | 10), "nothing this session allows"),
    ("a reserved bit of the turn", |raw| raw.pass(0, 1 << 8 | SERVER | 8, REQUEST | 10), "nothing this session allows"),
    ("all reserved bits of the turn", |raw| raw.pass(0, 1 << 8 | 0xff, REQUEST | 10), "nothing this session allows"),
    ("a sequence left out", |raw| raw.pass(0, 2 << 8 | SERVER, REQUEST | 10), "turn 2"),
    ("the highest sequence", |raw| raw.pass(0, u64::MAX << 8 | SERVER, REQUEST | 10), "after request 0"),
    (
        "a sequence gone by",
        |raw| {
            (1..=5).for_each(|sequence| drop(raw.call(0, sequence, b"hello")));
            raw.pass(0, 4 << 8 | SERVER, REQUEST | 10);
        },
        "after request 5",
    ),
    (
        "a message after the handshake",
        |raw| wire::send(&raw.socket, b"hello again", &[]).unwrap(),
        "it sent a message after the handshake",
    ),
    (
        "READY a second time",
        |raw| wire::send(&raw.socket, READY, &[]).unwrap(),
        "it sent a message after the handshake",
    ),
    (
        "the turn taken back",
        |raw| {
            take_from_the_server(raw, 0);
        },
        "it wrote to a turn that was the server's",
    ),
    (
        "another sequence in the server's turn",
        |raw| {
            take_from_the_server(raw, 2 << 8 | SERVER);
        },
        "it wrote to a turn that was the server's",
    ),
    (
        "in the last slot",
        |raw| {
            raw.depth().store(u32::MAX, Ordering::Relaxed);
            raw.pass(raw.slots - 1, 1 << 8 | SERVER, REQUEST | 1 << 50);
        },
        "slot 15",
    ),
];

/// Writes to a turn while a handler works on the slot.
fn take_from_the_server(raw: &Raw, turn: u64) {
    let order = format!("{ORDER}work 20");
    raw.write(0, false, order.as_bytes());
    raw.pass(0, 1 << 8 | SERVER, REQUEST | order.len() as u64);
    std::thread::sleep(Duration::from_millis(5));
    raw.turn(0).store(turn, Ordering::SeqCst);
}

#[test]
fn a_violation_ends_its_own_session_with_a_reason() {
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &["recv"]);
    let id = server.process.child.id();
    let honest = Client::connect(ground.socket()).unwrap();
    invert(&honest, 100, 0);
    let baseline = Snapshot::when_settled(id, 1);
    for (what, violate, says) in VIOLATIONS {
        // On a busy machine the server may have been done before the turn was written to: that is no violation then.
        let is_race = what.contains("turn taken back") || what.contains("in the server's turn");
        for attempt in 0.. {
            let raw = Raw::connect(&ground.socket());
            violate(&raw);
            if is_race && attempt < 20 && raw.head(0).load(Ordering::Relaxed) >> 32 & 0xff == 2 {
                let socket = [rustix::event::PollFd::new(&raw.socket, rustix::event::PollFlags::IN)];
                let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                if rustix::event::poll(&mut { socket }, Some(&moment)).unwrap() == 0 {
                    continue;
                }
            }
            let (reason, why) = raw.end();
            assert_eq!(reason, VIOLATION, "{what}: {why}");
            assert!(why.contains(says), "{what}: {why:?} does not say {says:?}");
            break;
        }
        invert(&honest, 1000, 7);
    }
    eventually("all violations are counted", || {
        server.process.tell("stats");
        let stats = server.process.hear();
        let numbers: Vec<usize> = stats.split(' ').map(|number| number.parse().unwrap()).collect();
        numbers[0] == 1 && numbers[3] == VIOLATIONS.len()
    });
    baseline.is_back(id);
    server.stop();
}

#[test]
fn a_slot_is_not_taken_a_second_time_while_its_request_is_held() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let raw = Raw::connect(&ground.socket());
    raw.write(0, false, b"first");
    raw.pass(0, 1 << 8 | SERVER, REQUEST | 5);
    let first = receive(&mut server);
    raw.pass(0, 2 << 8 | SERVER, REQUEST | 5);
    assert!(server.recv_timeout(Duration::from_millis(20)).unwrap().is_none());
    assert_eq!(&first[..], b"first");
    eventually("the session is over", || server.stats().violations == 1);
    let (reason, why) = raw.end();
    assert!(reason == VIOLATION && why.contains("after request 1"), "{why}");
    first.reply();
}

#[test]
fn odd_words_that_mean_nothing_change_nothing() {
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &["recv"]);
    let raw = Raw::connect(&ground.socket());
    let mut sequences = (1..).map(|sequence| (sequence, [sequence as u8; 30]));
    let mut check = |what: &str| {
        let (sequence, request) = sequences.next().unwrap();
        assert_eq!(raw.call(0, sequence, &request), request.map(|byte| !byte), "{what}");
    };
    check("nothing");
    raw.depth().store(u32::MAX, Ordering::Relaxed);
    check("a depth beyond all slots");
    (0..1024).step_by(8).for_each(|offset| raw.word(offset).store(u64::MAX, Ordering::Relaxed));
    check("the header overwritten");
    (1028..1088).step_by(4).for_each(|offset| raw.half(offset).store(u32::MAX, Ordering::Relaxed));
    check("think time and processors beyond all sense");
    (1028..1088).step_by(4).for_each(|offset| raw.half(offset).store(0, Ordering::Relaxed));
    check("a think time of nothing");
    (1152..1216).step_by(4).for_each(|offset| raw.half(offset).store(u32::MAX, Ordering::Relaxed));
    check("the server's own line");
    raw.turn(7).store(SERVER, Ordering::SeqCst);
    check("a slot passed with the sequence that it had");
    raw.turn(7).store(0x77 << 8 | WAKE, Ordering::SeqCst);
    check("a slot that is the client's, with odd bits");
    (0..50_000).for_each(|_| raw.ring());
    check("a bell that does not stop");
    rustix::io::write(&raw.server_bell, &(u64::MAX - 1 - 100_000).to_ne_bytes()).unwrap();
    check("a bell that is nearly full");
    server.process.tell("stats");
    assert_eq!(server.process.hear(), "1 1 0 0");
    // Nobody but itself is hurt when it hides its requests.
    raw.depth().store(0, Ordering::Relaxed);
    raw.pass(0, 100 << 8 | SERVER, REQUEST | 10);
    let honest = Client::connect(ground.socket()).unwrap();
    invert(&honest, 100, 1);
    server.stop();
}

#[test]
fn any_number_is_a_deadline() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let raw = Raw::connect(&ground.socket());
    for (index, ns) in [0, 1, u64::MAX, u64::MAX / 2, 1 << 63].into_iter().enumerate() {
        raw.deadline(0).store(ns, Ordering::Relaxed);
        raw.pass(0, (index as u64 + 1) << 8 | SERVER, REQUEST | HAS_DEADLINE | 10);
        let request = receive(&mut server);
        let at = request.deadline().expect("it said that there is one");
        assert_eq!(at > Instant::now(), ns > 1);
        request.reply();
    }
}

#[test]
fn the_memory_can_be_neither_cut_nor_punched_nor_mapped_again() {
    use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, ftruncate};
    let ground = Ground::new();
    let mut server = Workshop::start(&ground, &["slots=1", "capacity=100000"]);
    let raw = Raw::connect(&ground.socket());
    assert_eq!(raw.call(0, 1, b"in place"), b"in place".map(|byte| !byte)); // the server is done with the handshake
    let memory = &raw.memory;
    let expected = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE;
    assert!(fcntl_get_seals(memory).unwrap().contains(expected));
    assert_eq!(fcntl_add_seals(memory, SealFlags::WRITE), Err(Errno::PERM));
    assert_eq!(ftruncate(memory, 0), Err(Errno::PERM));
    assert_eq!(ftruncate(memory, 1 << 30), Err(Errno::PERM));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(fallocate(memory, punch, 0, 8192), Err(Errno::PERM));
    assert_eq!(rustix::io::pwrite(memory, &[1], 0), Err(Errno::PERM));
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let again = unsafe { mmap(std::ptr::null_mut(), raw.size, writable, MapFlags::SHARED, memory, 0) };
    assert_eq!(again, Err(Errno::PERM));
    // SAFETY: the range is the whole mapping; bodies may be given up, and read as zero then, without a fault.
    let removed = unsafe { rustix::mm::madvise(raw.base.as_ptr().cast(), raw.size, rustix::mm::Advice::LinuxRemove) };
    assert!(removed.is_err());
    assert_eq!(raw.call(0, 2, b"in place"), b"in place".map(|byte| !byte));
    server.process.tell("stop");
    assert_eq!(server.process.hear(), "2");
}

#[test]
fn a_session_begins_with_nothing_of_anothers() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &["slots=2", "capacity=8192"]);
    let client = Client::connect(ground.socket()).unwrap();
    for seed in 0..10 {
        invert(&client, 8192, seed);
        invert(&client, 48, seed);
    }
    drop(client);
    for _ in 0..3 {
        let raw = Raw::connect(&ground.socket());
        assert!((4096..raw.size).all(|offset| raw.byte(offset).load(Ordering::Relaxed) == 0));
        raw.write(1, true, b"a secret");
    }
}

#[test]
fn clients_that_stay_in_the_middle_of_everything_delay_nobody() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &["slots=2"]);
    let sessions: Vec<_> = (0..20)
        .map(|number| {
            let raw = Raw::connect(&ground.socket());
            match number % 4 {
                0 => raw.depth().store(0, Ordering::Relaxed),
                1 => raw.waiting().store(7, Ordering::Relaxed),
                2 => raw.turn(0).store(1 << 8 | WAKE, Ordering::Relaxed),
                _ => raw.ring(),
            }
            raw
        })
        .collect();
    let honest = Client::connect(ground.socket()).unwrap();
    for seed in 0..50 {
        invert(&honest, 3000, seed);
        sessions.iter().for_each(Raw::ring);
    }
}

// ---- at random ------------------------------------------------------------------------------------------------------

/// Random numbers that are the same each time: one session's deeds follow from its seed.
struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    fn throw(&mut self) -> u64 {
        self.thrown += 1;
        word(self.seed, self.thrown)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.throw() % limit as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// One session of malice. Returns whether the server ended it.
fn one_attack(path: &Path, seed: u64) -> bool {
    let mut dice = Dice { seed, thrown: 0 };
    let raw = Raw::connect(path);
    let mut sequences = vec![0u64; raw.slots];
    for _ in 0..dice.below(200) {
        let slot = dice.below(raw.slots);
        let lens = [0, 1, 7, 8, 47, 48, 49, 1023, 1025, raw.capacity - 1, raw.capacity, raw.capacity + 1];
        let odd = [0, 1, 2, 1 << 31, 0xffff_ffff, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 1, raw.capacity];
        match dice.below(12) {
            // Mostly something that gets far.
            0..=3 => {
                let len = dice.of(&lens);
                let flags = dice.of(&[0, IN_BODY, IN_BODY, IN_BODY | HAS_DEADLINE]);
                let wrong = if dice.below(30) == 0 { dice.throw() & 0xff } else { 0 };
                sequences[slot] += 1;
                raw.depth().fetch_max(slot as u32 + 1, Ordering::Relaxed);
                raw.pass(
                    slot,
                    sequences[slot] << 8 | SERVER | dice.of(&[0, 0, WAKE, 4, 6]) | wrong,
                    REQUEST | flags | len,
                );
                // While the server looks.
                for _ in 0..dice.below(4) {
                    raw.head(slot).store(dice.of(&odd), Ordering::Relaxed);
                    raw.head(slot).store(REQUEST | IN_BODY | raw.capacity, Ordering::Relaxed);
                }
            }
            4 => raw.turn(slot).store(dice.of(&odd), Ordering::SeqCst),
            5 => drop(raw.turn(slot).fetch_or(1 << dice.below(64), Ordering::SeqCst)),
            6 => raw.head(slot).store(dice.throw(), Ordering::Relaxed),
            7 => raw.half(1024 + 4 * dice.below(64)).store(dice.of(&odd) as u32, Ordering::Relaxed),
            8 => raw.word(8 * dice.below(raw.size / 8)).store(dice.throw(), Ordering::Relaxed),
            9 => (0..dice.below(500))
                .for_each(|_| raw.byte(dice.below(raw.size)).store(dice.throw() as u8, Ordering::Relaxed)),
            10 => raw.ring(),
            _ if dice.below(40) == 0 => {
                let len = dice.below(100);
                let junk: Vec<u8> = (0..len).map(|_| dice.throw() as u8).collect();
                let _ = wire::send(&raw.socket, &junk, &[]);
            }
            _ => std::thread::yield_now(),
        }
    }
    raw.ring();
    let mut hung_up = [rustix::event::PollFd::new(&raw.socket, rustix::event::PollFlags::RDHUP)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut hung_up, Some(&now)).unwrap() > 0
}

/// Attacks until it is told to stop: arguments are the socket, the first seed, and the user to do it as.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn attacker() {
    role("attacker", |parent, arguments| {
        let [socket, seed, user] = arguments[..] else { panic!("{arguments:?}") };
        become_user(user.parse().unwrap());
        let seed: u64 = seed.parse().unwrap();
        parent.tell("there");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                parent.hear();
                is_over.store(true, Ordering::Relaxed);
            });
            let (mut attacks, mut ended) = (0u64, 0);
            while !is_over.load(Ordering::Relaxed) {
                ended += u64::from(one_attack(Path::new(socket), seed << 32 | attacks));
                attacks += 1;
            }
            parent.tell(format_args!("{attacks} {ended}"));
        });
    });
}

/// `WIGWAG_TEST_ATTACK_MS` makes it as long as there is time for.
#[test]
fn whatever_is_written_at_random_hurts_nobody_else() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &["slots=4", "capacity=9000", &format!("allow_user={OTHER_USER}")]);
    let id = server.process.child.id();
    drop(Client::connect(ground.socket()).unwrap());
    let baseline = Snapshot::when_settled(id, 0);
    let mut attackers = vec![];
    for seed in [1, 2] {
        attackers.push(attack(&ground, seed, own_uid()));
    }
    if let Some(()) = as_root("random writes of another user") {
        let_all_in(&ground);
        attackers.push(attack(&ground, 3, OTHER_USER));
    }
    let ms = std::env::var("WIGWAG_TEST_ATTACK_MS").map_or(1500, |ms| ms.parse().unwrap());
    let begin = Instant::now();
    let mut calls = 0;
    {
        let honest = Client::connect(ground.socket()).unwrap();
        while begin.elapsed() < Duration::from_millis(ms) {
            invert(&honest, word(9, calls) as usize % 9000, calls);
            calls += 1;
        }
    }
    for (number, attacker) in attackers.iter_mut().enumerate() {
        attacker.tell("stop");
        let count = attacker.hear();
        println!("attacker {number}, seeds {}<<32..: sessions, and of these ended by the server: {count}", number + 1);
        let (attacks, ended) = count.split_once(' ').unwrap();
        assert!(attacks.parse::<u64>().unwrap() > 0);
        assert!(ended.parse::<u64>().unwrap() > 0, "some of it was noticed");
    }
    println!("{calls} honest calls meanwhile");
    attackers.into_iter().for_each(Process::join);
    invert(&Client::connect(ground.socket()).unwrap(), 9000, 1);
    baseline.is_back(id);
    server.stop();
}

fn attack(ground: &Ground, seed: u64, user: u32) -> Process {
    let socket = ground.socket();
    let [seed, user] = [seed.to_string(), user.to_string()];
    let mut attacker = Process::start("attacker", [socket.as_os_str(), seed.as_ref(), user.as_ref()]);
    attacker.expect("there");
    attacker
}

// ---- other users ----------------------------------------------------------------------------------------------------

/// A user that nothing else here runs as; `nobody` will not do, because every unknown user looks like it.
const OTHER_USER: u32 = 60_123;
const ANOTHER: u32 = 60_124;

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Only root can play somebody else.
fn as_root(what: &str) -> Option<()> {
    if own_uid() != 0 {
        println!("skipped, because only root can play another user: {what}");
        return None;
    }
    Some(())
}

/// Makes this process another user's, for good.
fn become_user(user: u32) {
    if user == own_uid() {
        return;
    }
    // SAFETY: no memory is involved but an empty list.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(user, user, user), 0);
        assert_eq!(libc::setresuid(user, user, user), 0);
    }
}

/// Lets other users reach the ground's socket. Its owner stays the only one who may write there.
fn let_all_in(ground: &Ground) {
    std::fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
}

/// Tells how connecting ends: arguments are the socket, the user to do it as, and whose server to expect.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn guest() {
    role("guest", |parent, arguments| {
        let [socket, user, server_user] = arguments[..] else { panic!("{arguments:?}") };
        become_user(user.parse().unwrap());
        let builder = match server_user {
            "own" => Client::builder(),
            uid => Client::builder().server_user(uid.parse().unwrap()),
        };
        match builder.connect(socket) {
            Ok(client) => {
                parent.tell("welcome");
                while let Some(line) = parent.hear() {
                    match client.call(line.as_bytes()) {
                        Ok(reply) => parent.tell(String::from_utf8_lossy(&reply)),
                        Err(error) => parent.tell(format_args!("{error:?}")),
                    }
                }
            }
            Err(error) => parent.tell(format_args!("{error:?}")),
        }
    });
}

/// Looks for a server of root's for a while, as another user: arguments are the socket and the user.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn seeker() {
    role("seeker", |parent, arguments| {
        let [socket, user] = arguments[..] else { panic!("{arguments:?}") };
        become_user(user.parse().unwrap());
        parent.tell("seeks");
        let found = Client::builder().server_user(0).server_timeout(LIMIT).connect(socket);
        parent.tell(found.map_or_else(|error| format!("{error:?}"), |_| "welcome".to_owned()));
    });
}

#[test]
fn who_looks_for_a_server_outlives_sockets_that_are_closed_for_a_moment_each() {
    let Some(()) = as_root("a client of another user") else { return };
    let ground = Ground::new();
    let_all_in(&ground);
    let user = OTHER_USER.to_string();
    let mut seeker = Process::start("seeker", [ground.socket().as_os_str(), user.as_ref()]);
    seeker.expect("seeks");
    // Servers that are gone before their sockets are open. Each moment is short; all of them together are not.
    for _ in 0..8 {
        let socket = std::os::unix::net::UnixListener::bind(ground.socket()).unwrap();
        std::fs::set_permissions(ground.socket(), PermissionsExt::from_mode(0o700)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::remove_file(ground.socket()).unwrap();
        drop(socket);
        std::thread::sleep(Duration::from_millis(20));
    }
    let server = Workshop::start(&ground, &[&format!("allow_user={OTHER_USER}")]);
    seeker.expect("welcome");
    server.stop();
}

fn guest_of(ground: &Ground, user: u32, server_user: &str) -> Process {
    Process::start("guest", [ground.socket().as_os_str(), user.to_string().as_ref(), server_user.as_ref()])
}

#[track_caller]
fn says(guest: &mut Process, parts: &[&str]) {
    let line = guest.hear();
    for part in parts {
        assert!(line.contains(part), "{line:?} does not say {part:?}");
    }
}

#[test]
fn another_user_is_refused_unless_the_server_names_him() {
    let Some(()) = as_root("clients of other users") else { return };
    let ground = Ground::new();
    let_all_in(&ground);
    // By default the socket itself is closed.
    let server = Workshop::start(&ground, &[]);
    says(&mut guest_of(&ground, OTHER_USER, "own"), &["PathInvalid", "of user 0, where user 60123", "server_user"]);
    says(&mut guest_of(&ground, OTHER_USER, "0"), &["PathInvalid", "does not let this user connect"]);
    server.stop();
    // When it is open for one, it is not for the other; and the reason arrives each time.
    let server = Workshop::start(&ground, &[&format!("allow_user={OTHER_USER}")]);
    for _ in 0..20 {
        let refusal = ["Refused", "user 60124 is not among those", "of user 0, lets in", "ServerBuilder::allow_user"];
        says(&mut guest_of(&ground, ANOTHER, "0"), &refusal);
    }
    let mut guest = guest_of(&ground, OTHER_USER, "0");
    guest.expect("welcome");
    guest.tell(format_args!("{ORDER}peer"));
    let id = guest.child.id();
    guest.expect(&format!("{OTHER_USER} {id}"));
    guest.tell(format_args!("{ORDER}fail 20"));
    says(&mut guest, &["HandlerFailed", &workshop::text_of(20)]);
    guest.tell(format_args!("{ORDER}panic 20"));
    says(&mut guest, &["HandlerPanicked", "does not tell other users why"]);
    server.stop();
}

#[test]
fn root_has_no_rights_that_the_server_does_not_give() {
    let Some(()) = as_root("a server of another user") else { return };
    let ground = Ground::new();
    let_all_in(&ground);
    std::os::unix::fs::chown(ground.path(""), Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    let socket = ground.socket();
    let mut server = Process::start("other_users_server", [socket.as_os_str(), OTHER_USER.to_string().as_ref()]);
    server.expect("ready");
    // It is not taken for a server of root's, nor for anybody else's.
    let error = Client::connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DirectoryUnsafe, "{error}");
    assert!(error.to_string().contains("belongs to user 60123"), "{error}");
    let error = Client::builder().server_user(ANOTHER).connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DirectoryUnsafe, "{error}");
    let error = Client::builder().server_user(OTHER_USER).connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("user 0 is not among those"), "{error}");
    server.tell("stop");
    server.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn other_users_server() {
    role("other_users_server", |parent, arguments| {
        become_user(arguments[1].parse().unwrap());
        let _server = Server::bind(arguments[0]).unwrap();
        parent.tell("ready");
        parent.hear();
    });
}

/// The whole exchange with private copies: sizes, longer and shorter replies, sleeping and being rung by message.
#[test]
fn another_user_is_served_like_any_other() {
    let Some(()) = as_root("the exchange with another user") else { return };
    let ground = Ground::new();
    let_all_in(&ground);
    let server = Workshop::start(&ground, &[&format!("allow_user={OTHER_USER}"), "capacity=70000"]);
    for wait in ["adaptive", "spin", "park"] {
        let socket = ground.socket();
        let user = OTHER_USER.to_string();
        Process::start("polite_other-user", [socket.as_os_str(), user.as_ref(), wait.as_ref()]).join();
    }
    server.stop();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn polite_other_user() {
    role("polite_other-user", |_, arguments| {
        let [socket, user, wait] = arguments[..] else { panic!("{arguments:?}") };
        become_user(user.parse().unwrap());
        let client = Client::builder().server_user(0).wait(workshop::wait(wait)).connect(socket).unwrap();
        for len in [0, 1, 7, 8, 9, 47, 48, 49, 64, 4095, 4096, 4097, 70_000, 3] {
            for seed in 0..4 {
                invert(&client, len, seed);
            }
            let order = format!("{ORDER}reply {len} 5");
            for request_len in [order.len(), 48, 49, 5000] {
                let mut loan = client.loan(request_len).unwrap();
                loan.fill(b' ');
                loan[..order.len()].copy_from_slice(order.as_bytes());
                check_inverted(&loan.call().unwrap(), len, 5);
            }
            drop(client.call(format!("{ORDER}work 1").as_bytes()).unwrap()); // long enough to sleep for
        }
        let pending: Vec<_> = (0..client.slots())
            .map(|seed| {
                let mut loan = client.loan(1000).unwrap();
                fill(&mut loan, seed as u64);
                loan.send().unwrap()
            })
            .collect();
        for (seed, pending) in pending.into_iter().enumerate() {
            check_inverted(&pending.wait().unwrap(), 1000, seed as u64);
        }
    });
}

/// A client that changes its request while the handler looks at it: arguments are the socket and the user to do it as.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn changeling() {
    role("changeling", |parent, arguments| {
        become_user(arguments[1].parse().unwrap());
        let raw = Raw::connect(Path::new(arguments[0]));
        for (sequence, len) in [20, 48, 5000].into_iter().enumerate() {
            let in_body = len > 48;
            raw.write(0, in_body, &vec![b'A'; len]);
            let flag = if in_body { IN_BODY } else { 0 };
            raw.pass(0, (sequence as u64 + 1) << 8 | SERVER, REQUEST | flag | len as u64);
            assert_eq!(parent.hear().unwrap(), "change it");
            raw.write(0, in_body, &vec![b'B'; len]);
            raw.head(0).store(REQUEST | 1, Ordering::SeqCst);
            parent.tell("changed");
            raw.wait(0);
            parent.tell(String::from_utf8(raw.read(0, in_body, len)).unwrap());
        }
    });
}

fn handler_while_the_client_changes_the_request(user: u32, sees: u8, replied: u8) {
    let ground = Ground::new();
    let_all_in(&ground);
    let mut server = Server::builder().allow_user(OTHER_USER).bind(ground.socket()).unwrap();
    let mut client = Process::start("changeling", [ground.socket().as_os_str(), user.to_string().as_ref()]);
    for len in [20, 48, 5000] {
        let mut request = receive(&mut server);
        assert_eq!(&request[..], vec![b'A'; len]);
        client.tell("change it");
        client.expect("changed");
        assert_eq!(&request[..], vec![sees; len], "what the handler sees after the change");
        request[0] = b'C';
        request.reply();
        let mut expected = vec![replied; len];
        expected[0] = b'C';
        client.expect(std::str::from_utf8(&expected).unwrap());
    }
    assert_eq!(server.stats().violations, 0);
}

#[test]
fn a_client_of_the_same_user_shares_its_memory_with_the_handler() {
    // As SECURITY.md says; and without it the next test would prove nothing.
    handler_while_the_client_changes_the_request(own_uid(), b'B', b'B');
}

#[test]
fn a_client_of_another_user_cannot_change_what_the_handler_sees() {
    let Some(()) = as_root("the private copy for another user") else { return };
    handler_while_the_client_changes_the_request(OTHER_USER, b'A', b'A');
}

/// Sends messages of all sizes: arguments are the socket, the user, and how many of each.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn other_users_sender() {
    role("other_users_sender", |_, arguments| {
        become_user(arguments[1].parse().unwrap());
        let mut sender = Sender::builder().server_user(0).slots(4).connect(arguments[0]).unwrap();
        for seed in 0..arguments[2].parse().unwrap() {
            for len in MESSAGE_SIZES {
                let mut draft = sender.loan(len).unwrap();
                fill(&mut draft, seed);
                draft.commit().unwrap();
            }
        }
        sender.close().unwrap();
    });
}

const MESSAGE_SIZES: [usize; 8] = [0, 1, 8, 47, 48, 49, 5000, 65_536];

#[test]
fn messages_of_another_user_are_received_like_any_others() {
    let Some(()) = as_root("messages of another user") else { return };
    let ground = Ground::new();
    let_all_in(&ground);
    let receiver = Receiver::builder().allow_user(OTHER_USER).bind(ground.socket()).unwrap();
    let (socket, user) = (ground.socket(), OTHER_USER.to_string());
    let arguments = [socket.as_os_str(), user.as_ref(), "20".as_ref()];
    let sender = Process::start("other_users_sender", arguments);
    for seed in 0..20 {
        for len in MESSAGE_SIZES {
            let mut expected = vec![0; len];
            fill(&mut expected, seed);
            let first = receiver.recv_timeout(LIMIT).unwrap().expect("a message");
            assert!(first[..] == expected && !first.is_redelivered(), "{len} bytes");
            if seed % 3 == 0 {
                first.nack();
                let again = receiver.recv_timeout(LIMIT).unwrap().expect("the message again");
                assert!(again[..] == expected && again.is_redelivered(), "{len} bytes");
            }
        }
    }
    sender.join();
    let messages = 20 * MESSAGE_SIZES.len() as u64;
    let stats = receiver.stats();
    assert_eq!((stats.acknowledged, stats.returned), (messages, 7 * MESSAGE_SIZES.len() as u64));
}

/// A sender that changes its message while somebody has it: arguments are the socket and the user to do it as.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn changeling_sender() {
    role("changeling_sender", |parent, arguments| {
        become_user(arguments[1].parse().unwrap());
        let raw = Raw::connect_sender(Path::new(arguments[0]), 4);
        for (slot, len) in [20, 48, 5000].into_iter().enumerate() {
            let in_body = len > 48;
            raw.write(slot, in_body, &vec![b'A'; len]);
            let flag = if in_body { IN_BODY } else { 0 };
            raw.pass(slot, 1 << 8 | SERVER, MESSAGE | flag | len as u64);
            assert_eq!(parent.hear().unwrap(), "change it");
            raw.write(slot, in_body, &vec![b'B'; len]);
            raw.head(slot).store(MESSAGE | 1, Ordering::SeqCst);
            parent.tell("changed");
            raw.wait(slot);
        }
        parent.tell("all acknowledged");
        parent.hear();
    });
}

fn message_that_its_sender_changes(user: u32, sees: u8) {
    let ground = Ground::new();
    let_all_in(&ground);
    let receiver = Receiver::builder().allow_user(OTHER_USER).bind(ground.socket()).unwrap();
    let mut sender = Process::start("changeling_sender", [ground.socket().as_os_str(), user.to_string().as_ref()]);
    for len in [20, 48, 5000] {
        let message = receiver.recv_timeout(LIMIT).unwrap().expect("a message");
        assert_eq!(&message[..], vec![b'A'; len]);
        sender.tell("change it");
        sender.expect("changed");
        assert_eq!(&message[..], vec![sees; len], "what is received after the change");
    }
    sender.expect("all acknowledged");
    assert_eq!(receiver.stats().violations, 0);
}

#[test]
fn a_sender_of_the_same_user_shares_its_memory_with_the_receiver() {
    message_that_its_sender_changes(own_uid(), b'B'); // without it the next test would prove nothing
}

#[test]
fn a_sender_of_another_user_cannot_change_what_was_received() {
    let Some(()) = as_root("the private copy for another user") else { return };
    message_that_its_sender_changes(OTHER_USER, b'A');
}

/// Asks to be woken each time, and never reads a bell: its own loss.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn deaf() {
    role("deaf", |parent, arguments| {
        become_user(arguments[1].parse().unwrap());
        let raw = Raw::connect(Path::new(arguments[0]));
        for sequence in 1..=2000u64 {
            raw.write(0, false, b"hello");
            raw.pass(0, sequence << 8 | SERVER | WAKE, REQUEST | 5);
            raw.wait(0);
        }
        parent.tell("done");
        parent.hear();
    });
}

#[test]
fn another_user_who_does_not_listen_delays_nobody() {
    let Some(()) = as_root("bells that another user does not read") else { return };
    let ground = Ground::new();
    let_all_in(&ground);
    let server = Workshop::start(&ground, &[&format!("allow_user={OTHER_USER}")]);
    let mut deaf = Process::start("deaf", [ground.socket().as_os_str(), OTHER_USER.to_string().as_ref()]);
    deaf.expect("done");
    let honest = Client::connect(ground.socket()).unwrap();
    for seed in 0..50 {
        invert(&honest, 1000, seed);
    }
    deaf.tell("end");
    deaf.join();
    server.stop();
}

/// Connects so many times and says nothing: arguments are the socket, the user, and how often.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn knocker() {
    role("knocker", |parent, arguments| {
        become_user(arguments[1].parse().unwrap());
        let silent: Vec<_> =
            (0..arguments[2].parse().unwrap()).map(|_| wire::connect_to(Path::new(arguments[0]))).collect();
        parent.tell("knocked");
        let (reason, why) = wire::receive_end(silent[0].as_fd()).expect("a reason");
        assert_eq!(reason, LATER);
        parent.tell(why);
        parent.hear();
    });
}

#[test]
fn another_user_who_only_knocks_shuts_nobody_out() {
    let Some(()) = as_root("half-open handshakes of another user") else { return };
    let ground = Ground::new();
    let_all_in(&ground);
    let options = [&format!("allow_user={OTHER_USER}"), "max_handshakes=4", "handshake_ms=25000"];
    let server = Workshop::start(&ground, &options);
    let socket = ground.socket();
    let arguments = [socket.as_os_str(), OTHER_USER.to_string().as_ref(), "4".as_ref()].map(ToOwned::to_owned);
    let mut knocker = Process::start("knocker", arguments);
    knocker.expect("knocked");
    // The oldest of them has to go for the first client; then there is room.
    let clients: Vec<_> =
        (0..4).map(|_| Client::builder().timeout(Duration::from_secs(20)).connect(ground.socket()).unwrap()).collect();
    clients.iter().for_each(|client| invert(client, 100, 1));
    says(&mut knocker, &["a newcomer needed the place", "4 are under way"]);
    knocker.tell("end");
    knocker.join();
    server.stop();
}
