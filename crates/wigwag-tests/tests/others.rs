//! What other users can do to a server that lets them in, or does not: descriptors that take long to close, welcomes
//! that are never read, memory that outlives its session, sockets that are slow to wake. Each costs them, and nobody
//! else.
//!
//! Only root can play other users: elsewhere these tests are skipped.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use wigwag::{Client, Server, ServerBuilder};
use wigwag_testing::others::{Mapped, as_on_an_older_kernel, become_user, lingering, watch};
use wigwag_testing::wire::{self, LATER, READY, REFUSED, VIOLATION, hello};
use wigwag_testing::{Ground, Link, Process, REQUEST, Raw, SERVER, Snapshot, WAKE, eventually, role};

const OTHER_USER: u32 = 60_126;
const ANOTHER: u32 = 60_127;

/// A ground that all can reach, if there is anybody to play.
fn open_ground() -> Option<Ground> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, because only root can play another user");
        return None;
    }
    let ground = Ground::new();
    std::fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    Some(ground)
}

fn limit_descriptors(most: u64) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
}

/// A server in a process of its own that gives back what it gets.
fn serve(parent: &Link, builder: ServerBuilder, path: &str) {
    let mut server = builder.bind(path).unwrap();
    let stop = server.shutdown_handle();
    parent.tell("ready");
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve(|_| Ok::<(), String>(())).unwrap());
        if let Some(line) = parent.hear_at_last() {
            assert_eq!(line, "stop");
        }
        stop.shutdown();
    });
}

/// Arguments: the socket; the most descriptors and the most bytes.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn server() {
    role("server", |parent, arguments| {
        let (descriptors, bytes) = arguments[1].split_once(' ').unwrap();
        limit_descriptors(descriptors.parse().unwrap());
        let builder = Server::builder().slots(2).capacity(100_000).max_bytes_total(bytes.parse().unwrap());
        serve(parent, builder.allow_user(OTHER_USER).allow_user(ANOTHER), arguments[0]);
    });
}

fn start(role: &str, ground: &Ground, argument: &str) -> Process {
    let mut process = Process::start(role, [ground.socket().as_os_str(), argument.as_ref()]);
    process.expect("ready");
    process
}

fn stop(server: Process) {
    server.tell("stop");
    server.join();
}

/// A client of the server's own user is served.
#[track_caller]
fn all_is_well(ground: &Ground) {
    let client = Client::connect(ground.socket()).unwrap();
    assert_eq!(client.call(b"hello").unwrap()[..], *b"hello");
}

// ---- descriptors that take long to close ----------------------------------------------------------------------------

/// Arguments: the socket, whom it lets in.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn old_server() {
    role("old_server", |parent, arguments| {
        as_on_an_older_kernel();
        serve(parent, Server::builder().allow_user(arguments[1].parse().unwrap()).max_handshakes(4), arguments[0]);
    });
}

#[test]
fn what_came_with_ready_is_closed_although_the_welcome_is_never_read() {
    let ground = Ground::new();
    let own = rustix::process::geteuid().as_raw();
    let mut server = Process::start("old_server", [ground.socket().into_os_string(), own.to_string().into()]);
    server.expect("ready");
    let socket = wire::connect_to(&ground.socket());
    wire::send(&socket, &hello(), &[]).unwrap();
    assert!(wire::peek(&socket).is_some(), "it is welcomed");
    let (sent, other) = std::os::unix::net::UnixStream::pair().unwrap();
    wire::send(&socket, READY, &[sent.as_fd()]).unwrap();
    drop(sent);
    // The server keeps its end of the socket to see when the welcome is read, and nothing that lies in it.
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_closed = || poll(&mut [PollFd::new(&other, PollFlags::RDHUP)], Some(&now)).unwrap() > 0;
    eventually("what came is closed", is_closed);
    all_is_well(&ground);
    drop(socket);
}

/// Sends such sockets with every message that it can, and leaves in every way. Arguments: the socket, the user.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn lingerer() {
    role("lingerer", |parent, arguments| {
        become_user(arguments[1].parse().unwrap());
        let path = Path::new(arguments[0]);
        let mut others = Vec::new();
        let closing = std::cell::RefCell::new(Vec::new());
        let mut send = |socket: &OwnedFd, bytes: &[u8]| {
            let (slow, other) = lingering();
            others.push(other);
            // The server may have hung up before.
            let _ = wire::send(socket, bytes, &[slow.as_fd()]);
            // Should the server have been quicker, this process is the last owner.
            closing.borrow_mut().push(std::thread::spawn(move || drop(slow)));
        };
        let mut kept = Vec::new();
        parent.tell("ready");
        parent.hear().unwrap(); // the server is stopped: what is sent now has no other owner when it is found
        for stays in [false, true] {
            // With the greeting; with what follows it; with a message that is never read, as the one before is no
            // greeting.
            let first = wire::connect_to(path);
            send(&first, &hello());
            let second = wire::connect_to(path);
            wire::send(&second, &hello(), &[]).unwrap();
            send(&second, READY);
            let third = wire::connect_to(path);
            let _ = wire::send(&third, b"no greeting", &[]);
            send(&third, b"more");
            kept.extend([first, second, third].into_iter().filter(|_| stays));
        }
        closing.take().into_iter().for_each(|thread| thread.join().unwrap());
        parent.tell("sent");
        parent.hear().unwrap();
        for stays in [false, true] {
            // In a session, if it is let in.
            let socket = wire::connect_to(path);
            let _ = wire::send(&socket, &hello(), &[]);
            if wire::receive(&socket).is_some_and(|welcome| welcome.bytes[0] == 3) {
                wire::send(&socket, READY, &[]).unwrap();
            }
            send(&socket, b"more");
            send(&socket, b"and more");
            kept.extend([socket].into_iter().filter(|_| stays));
        }
        parent.tell("sent");
        parent.hear_at_last();
    });
}

#[test]
fn s1_what_takes_an_hour_to_close_holds_up_nobody() {
    let Some(ground) = open_ground() else { return };
    for user in [OTHER_USER, ANOTHER] {
        let mut server = start("old_server", &ground, &OTHER_USER.to_string()); // the other one is not let in
        let mut lingerer = Process::start("lingerer", [ground.socket().as_os_str(), user.to_string().as_ref()]);
        lingerer.expect("ready");
        server.halt();
        lingerer.tell("send");
        lingerer.expect("sent");
        server.signal(Signal::CONT);
        (0..20).for_each(|_| all_is_well(&ground));
        lingerer.tell("send");
        lingerer.expect("sent");
        (0..20).for_each(|_| all_is_well(&ground));
        lingerer.kill();
        (0..20).for_each(|_| all_is_well(&ground));
        server.kill();
    }
}

// ---- welcomes that are never read -----------------------------------------------------------------------------------

/// Greets in its own way: "greet N" sends so many greetings and says how many were welcomed, all of them unread; "read"
/// reads them; "ready" answers one unread. Arguments: the socket, the user.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn greeter() {
    role("greeter", |parent, arguments| {
        become_user(arguments[1].parse().unwrap());
        let path = Path::new(arguments[0]);
        let mut sockets = Vec::new();
        while let Some(line) = parent.hear_at_last() {
            match line.split_once(' ') {
                Some(("greet", count)) => {
                    for _ in 0..count.parse().unwrap() {
                        let socket = wire::connect_to(path);
                        wire::send(&socket, &hello(), &[]).unwrap();
                        sockets.push(socket);
                    }
                    let kinds = sockets.iter().map(|socket| {
                        let start = wire::peek(socket).expect("a welcome, or a reason");
                        [start[0], start[1]]
                    });
                    let kinds: Vec<_> = kinds.collect();
                    assert!(kinds.iter().all(|kind| kind[0] == 3 || *kind == [4, LATER]), "{kinds:?}");
                    parent.tell(kinds.iter().filter(|kind| kind[0] == 3).count());
                }
                _ if line == "read" => {
                    for socket in sockets.drain(..) {
                        drop(wire::receive(&socket));
                    }
                    parent.tell("read");
                }
                _ => {
                    let socket = wire::connect_to(path);
                    wire::send(&socket, &hello(), &[]).unwrap();
                    eventually("a welcome", || recv(&socket, &mut [0u8; 1], RecvFlags::PEEK).is_ok());
                    wire::send(&socket, READY, &[]).unwrap();
                    // Nothing is read before the server has decided.
                    eventually("the server hangs up", || {
                        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                        poll(&mut [PollFd::new(&socket, PollFlags::RDHUP)], Some(&now)).unwrap() > 0
                    });
                    let (reason, why) = wire::receive_end(&socket).expect("an end");
                    parent.tell(format_args!("{reason} {why}"));
                }
            }
        }
    });
}

#[test]
fn s2_welcomes_that_are_never_read_are_few_and_nobody_else_misses_them() {
    let Some(ground) = open_ground() else { return };
    let server = start("server", &ground, "1024 1000000000");
    let baseline = Snapshot::when_settled(server.id(), 0);
    let greeter = |user: u32| Process::start("greeter", [ground.socket().as_os_str(), user.to_string().as_ref()]);
    let mut first = greeter(OTHER_USER);
    // A sixteenth of 1,024 are 64, of which a quarter are one other user's.
    let welcomed = |process: &mut Process, count: usize| -> usize {
        process.tell(format_args!("greet {count}"));
        process.hear().parse().unwrap()
    };
    assert_eq!(welcomed(&mut first, 10), 10);
    for _ in 0..4 {
        assert!(welcomed(&mut first, 100) <= 16);
        all_is_well(&ground);
    }
    let mut second = greeter(ANOTHER);
    assert!((1..=16).contains(&welcomed(&mut second, 100)));
    all_is_well(&ground);
    first.tell("read");
    first.expect("read");
    eventually("there is room again", || {
        let count = welcomed(&mut first, 1);
        first.tell("read");
        first.expect("read");
        count == 1
    });
    drop((first, second));
    baseline.is_back(server.id());
    stop(server);
}

#[test]
fn s2_who_says_ready_to_a_welcome_that_it_has_not_read_is_none() {
    let Some(ground) = open_ground() else { return };
    let server = start("server", &ground, "1024 1000000000");
    let mut greeter = Process::start("greeter", [ground.socket().as_os_str(), OTHER_USER.to_string().as_ref()]);
    greeter.tell("ready");
    let said = greeter.hear();
    assert!(said.starts_with(&format!("{VIOLATION} ")) && said.contains("out of order"), "{said}");
    drop(greeter);
    stop(server);
}

// ---- memory that outlives its session -------------------------------------------------------------------------------

/// Has sessions, ends them, and keeps their memory: "end" says how the next session ends, "let go" lets go. Arguments:
/// the socket, the user, how the memory is kept.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn keeper() {
    role("keeper", |parent, arguments| {
        let [path, user, how] = arguments[..] else { panic!("{arguments:?}") };
        become_user(user.parse().unwrap());
        let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
        while let Some(line) = parent.hear_at_last() {
            if line == "let go" {
                kept.clear();
                parent.tell("gone");
                continue;
            }
            let socket = wire::connect_to(Path::new(path));
            wire::send(&socket, &hello(), &[]).unwrap();
            let welcome = wire::receive(&socket).expect("an answer");
            if let Some((reason, why)) = welcome.end() {
                parent.tell(format_args!("{reason} {why}"));
                continue;
            }
            wire::send(&socket, READY, &[]).unwrap();
            let memory = welcome.descriptors.into_iter().next().unwrap();
            let keep: Box<dyn std::any::Any> = match how {
                "mapped" => Box::new(Mapped::new(&memory)),
                "open" => Box::new(memory),
                _ => Box::new(std::fs::File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap()),
            };
            kept.push(keep);
            drop(socket);
            parent.tell("kept");
        }
    });
}

#[test]
fn s3_memory_that_a_client_keeps_counts_until_it_lets_go() {
    let Some(ground) = open_ground() else { return };
    for how in ["open", "mapped", "to be read"] {
        let server = start("server", &ground, "1024 1048576");
        let baseline = Snapshot::when_settled(server.id(), 0);
        let user = OTHER_USER.to_string();
        let mut keeper = Process::start("keeper", [ground.socket().as_os_str(), user.as_ref(), how.as_ref()]);
        // 1 MiB is allowed, and each has 212,992 bytes.
        let mut count = 0;
        let why = loop {
            keeper.tell("end");
            match keeper.hear() {
                said if said == "kept" => count += 1,
                said => break said,
            }
            assert!(count <= 4, "{how}: {count} are kept");
        };
        assert!(count >= 1, "{how}: {why}");
        assert!(why.starts_with(&format!("{REFUSED} ")) && why.contains("bytes are in use"), "{why}");
        keeper.tell("end");
        assert_eq!(keeper.hear(), why, "it stays so");
        keeper.tell("let go");
        keeper.expect("gone");
        // The last session may not have ended yet for those who serve it.
        eventually("there is room again", || {
            keeper.tell("end");
            keeper.hear() == "kept"
        });
        drop(keeper);
        baseline.is_back(server.id());
        stop(server);
    }
}

// ---- sockets that are slow to wake ----------------------------------------------------------------------------------

/// Calls, asks to be woken, and has its socket in 40,000 epolls. Arguments: the socket, the user.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn watched() {
    role("watched", |parent, arguments| {
        become_user(arguments[1].parse().unwrap());
        let raw = Raw::connect(Path::new(arguments[0]));
        let _epolls = watch(&raw.socket, 200);
        parent.tell("watching");
        let mut sequence = 0;
        let mut buffer = [0u8; 4096];
        let farewell = loop {
            if raw.turn(0).load(Ordering::Acquire) & SERVER == 0 {
                sequence += 1;
                raw.pass(0, sequence << 8 | SERVER | WAKE, REQUEST);
            }
            match recv(&raw.socket, &mut buffer, RecvFlags::DONTWAIT) {
                // The farewell may have come while this looked.
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => {
                    break wire::receive_end(&raw.socket).map_or_else(String::new, |(_, why)| why);
                }
                Ok((len, _)) if buffer[0] == 5 => break String::from_utf8_lossy(&buffer[2..len]).into_owned(),
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => panic!("{error}"),
            }
        };
        parent.tell(farewell);
        let socket = wire::connect_to(Path::new(arguments[0]));
        let _ = wire::send(&socket, &hello(), &[]);
        let (reason, why) = wire::receive_end(&socket).expect("an end");
        parent.tell(format_args!("{reason} {why}"));
    });
}

#[test]
fn s4_who_is_slow_to_wake_loses_its_session_and_nobody_waits_for_it() {
    let Some(ground) = open_ground() else { return };
    let server = start("server", &ground, "1024 1000000000");
    let mut watched = Process::start("watched", [ground.socket().as_os_str(), OTHER_USER.to_string().as_ref()]);
    watched.expect("watching");
    let said = watched.hear();
    assert!(said.contains("too many epolls"), "{said:?}");
    let said = watched.hear();
    assert!(said.starts_with(&format!("{REFUSED} ")) && said.contains("none is let in for a minute"), "{said}");
    all_is_well(&ground);
    watched.join();
    // Another user has nothing to do with it.
    let mut other = Process::start("greeter", [ground.socket().as_os_str(), ANOTHER.to_string().as_ref()]);
    other.tell("greet 1");
    other.expect("1");
    drop(other);
    stop(server);
}
