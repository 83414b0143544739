//! Sessions of both versions, with peers by hand, and sides whose clocks differ.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wigwag::observe::Observer;
use wigwag::{Client, Error, ErrorKind, Payload, Receiver, Sender, Server, TypedClient, TypedServer};
use wigwag_testing::wire::{hello, hello_of_version_1};
use wigwag_testing::{
    Ground, HAS_DEADLINE, LIMIT, Offer, Process, REQUEST, Raw, RawServer, SERVER, eventually, role, wire,
};

const ANY: u32 = u32::MAX;

/// Forms.
const EXCHANGE: u8 = 0;
const QUEUE: u8 = 1;

/// Kinds of answers.
const FAILED: u64 = 3;
const ERRORED: u64 = 11;

fn connect_saying(path: &Path, greeting: Vec<u8>) -> Raw {
    Raw::connect_saying(path, greeting, ANY, ANY, 0)
}

fn error(name: &Path) -> Error {
    Client::connect(name).expect_err("nobody listens there")
}

// ---- versions -------------------------------------------------------------------------------------------------------

#[test]
fn clients_of_both_versions_are_served_side_by_side() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || server.serve(|request| request.reverse()));
    let old = connect_saying(&ground.socket(), hello_of_version_1());
    let new = connect_saying(&ground.socket(), hello());
    for sequence in 1..=3 {
        assert_eq!(old.call(0, sequence, b"abc"), *b"cba");
        assert_eq!(new.call(0, sequence, &[1; 5000]), [1; 5000]);
    }
    let mut sessions = Observer::open(ground.socket()).unwrap().snapshot().unwrap().sessions;
    sessions.sort_by_key(|session| session.id);
    let agreed: Vec<_> = sessions.iter().map(|session| (session.protocol, session.has_same_clock)).collect();
    assert_eq!(agreed, [(1, true), (2, true)]);
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

/// Refuses a client's greeting of version 2, and takes that of version 1.
fn serve_in_version_1(server: &RawServer, form: u8) -> Raw {
    let socket = server.accept();
    assert_eq!(wire::receive(&socket).unwrap().bytes[5..9], [2, 0, 2, 0]);
    wire::send(&socket, b"\x04\x03the server speaks protocol 1", &[]).unwrap();
    let socket = server.accept();
    let mut expected = hello_of_version_1();
    let greeting = wire::receive(&socket).unwrap().bytes;
    if form == QUEUE {
        expected[13..21].copy_from_slice(&greeting[13..21]); // a sender states its wishes
        expected[31] = form;
    }
    assert_eq!(greeting, expected);
    let raw = Offer::in_form(4, 5000, form).of_version_1().send(socket).unwrap();
    assert_eq!(wire::receive(&raw.socket).unwrap().bytes, wire::READY);
    raw
}

#[test]
fn a_server_of_version_1_is_greeted_once_more_by_threads_and_tasks() {
    let ground = Ground::new();
    let server = RawServer::bind(&ground.socket());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let raw = serve_in_version_1(&server, EXCHANGE);
            eventually("a request", || raw.turn(0).load(Ordering::Acquire) & SERVER != 0);
            raw.head(0).store(2 << 32 | 1, Ordering::Relaxed);
            raw.turn(0).fetch_and(!SERVER, Ordering::AcqRel);
            drop(serve_in_version_1(&server, EXCHANGE));
        });
        let client = Client::builder().wait(wigwag::Wait::Spin).connect(ground.socket()).unwrap();
        assert_eq!(client.call(b"x").unwrap().len(), 1);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            wigwag::tokio::Client::connect(ground.socket()).await.unwrap();
        });
    });
}

// ---- errors that are passed on --------------------------------------------------------------------------------------

#[test]
fn an_error_is_passed_on_as_what_it_is_and_to_version_1_as_the_handler_s() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let far = ground.path("far");
    // Looked at behind the scope: a thread that serves would wait for ever for a test that has failed.
    let (told, heads, other) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                server.recv().unwrap().fail_as(&error(&far));
            }
            server.recv().unwrap().fail_as(&Client::connect("").unwrap_err());
        });
        let client = Client::connect(ground.socket()).unwrap();
        let told = client.call(b"?").unwrap_err();
        let heads = [hello(), hello_of_version_1()].map(|greeting| {
            let raw = connect_saying(&ground.socket(), greeting);
            raw.pass(0, 0x101, REQUEST);
            raw.wait(0);
            raw.head(0).load(Ordering::Acquire)
        });
        (told, heads, client.call(b"?").unwrap_err())
    });
    assert_eq!((told.kind(), told.to_string()), (ErrorKind::NotRunning, error(&far).to_string()));
    for (head, kind, prefix) in [(heads[0], ERRORED, 8), (heads[1], FAILED, 0)] {
        assert_eq!(head >> 32 & 0xff, kind);
        assert_eq!(head as u32 as usize, prefix + error(&far).to_string().len());
    }
    // A kind that says nothing of a call is the handler's error.
    assert_eq!(other.kind(), ErrorKind::HandlerFailed);
}

#[test]
fn an_error_of_other_means_is_told_as_if_it_were_the_client_s_own() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let kinds = [
        ErrorKind::PeerDied { maybe_executed: true },
        ErrorKind::TimedOut { maybe_executed: false },
        ErrorKind::HandlerPanicked,
        ErrorKind::HandlerFailed,
    ];
    let client = Client::connect(ground.socket()).unwrap();
    for kind in kinds {
        let pending = client.loan(1).unwrap().send().unwrap();
        server.recv().unwrap().fail_as(&Error::on_behalf(kind, "far away"));
        let told = pending.wait().unwrap_err();
        assert_eq!(told.kind(), kind);
        assert!(told.to_string().ends_with("far away"), "{told}");
        // Told once more by who got it: a panic is not told twice as one.
        let pending = client.loan(1).unwrap().send().unwrap();
        server.recv().unwrap().fail_as(&told);
        assert_eq!(pending.wait().unwrap_err().to_string(), told.to_string());
    }
}

#[derive(Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
#[repr(C)]
struct Tick(u64);

impl Payload for Tick {
    const NAME: &'static str = "Tick";
}

#[test]
fn a_typed_server_passes_errors_on_too() {
    let ground = Ground::new();
    let mut server = TypedServer::<Tick>::bind(ground.socket()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| server.recv().unwrap().fail_as(&error(&ground.path("far"))));
        let client = TypedClient::<Tick>::connect(ground.socket()).unwrap();
        assert_eq!(client.call(&Tick(1)).unwrap_err().kind(), ErrorKind::NotRunning);
    });
}

// ---- clocks ---------------------------------------------------------------------------------------------------------

/// A greeting of a client in a time namespace that nobody is in.
fn hello_of_elsewhere() -> Vec<u8> {
    let mut hello = hello();
    hello[62..70].copy_from_slice(&7u64.to_le_bytes());
    hello
}

#[test]
fn a_deadline_of_another_clock_is_none() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    for (greeting, has_deadline) in [(hello(), true), (hello_of_elsewhere(), false)] {
        let raw = connect_saying(&ground.socket(), greeting);
        raw.deadline(0).store(1, Ordering::Relaxed); // long over
        raw.pass(0, 0x101, REQUEST | HAS_DEADLINE);
        let request = server.recv_timeout(LIMIT).unwrap().expect("a request");
        assert_eq!(request.deadline().is_some(), has_deadline);
        request.reply();
        raw.wait(0);
        assert_eq!(raw.word(1152 + 16).load(Ordering::Relaxed), 0, "nobody slept");
        // The session before it may be seen still; this one is the youngest.
        let sessions = Observer::open(ground.socket()).unwrap().snapshot().unwrap().sessions;
        let session = sessions.iter().max_by_key(|session| session.id).expect("it lives");
        assert_eq!((session.protocol, session.has_same_clock), (2, has_deadline));
    }
}

/// Takes a client in, and says whether the clocks show the same.
fn serve_with_clock(server: &RawServer, form: u8, has_same_clock: bool) -> Raw {
    let socket = server.accept();
    let _ = wire::receive(&socket).unwrap();
    let mut offer = Offer::in_form(4, 5000, form);
    offer.welcome[24] = u8::from(has_same_clock);
    let raw = offer.send(socket).unwrap();
    if form == EXCHANGE {
        raw.waiting().store(1, Ordering::SeqCst); // it sleeps, so that the client rings
    }
    raw
}

#[test]
fn a_client_writes_no_time_for_a_server_of_another_clock() {
    for has_same_clock in [true, false] {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| serve_with_clock(&server, EXCHANGE, has_same_clock));
            let client = Client::connect(ground.socket()).unwrap();
            let raw = serving.join().unwrap();
            let begin = Instant::now();
            let told = client.call_timeout(b"?", Duration::from_millis(20)).unwrap_err();
            assert_eq!(told.kind(), ErrorKind::TimedOut { maybe_executed: true }, "a time limit holds in any case");
            assert!(begin.elapsed() >= Duration::from_millis(20));
            let written = [
                raw.head(0).load(Ordering::Relaxed) & HAS_DEADLINE != 0,
                raw.deadline(0).load(Ordering::Relaxed) != 0,
                raw.word(1024 + 16).load(Ordering::Relaxed) != 0, // when it rang
                raw.word(1280).load(Ordering::Relaxed) != 0,      // since when it sleeps
            ];
            assert_eq!(written, [has_same_clock; 4]);

            let serving = scope.spawn(|| serve_with_clock(&server, QUEUE, has_same_clock));
            let mut sender = Sender::builder().slots(4).capacity(5000).connect(ground.socket()).unwrap();
            let raw = serving.join().unwrap();
            sender.send(b"message").unwrap();
            assert_eq!(raw.deadline(0).load(Ordering::Relaxed) != 0, has_same_clock, "when it was committed");
        });
    }
}

#[test]
fn how_long_a_wake_up_takes_is_learned_where_the_client_says_when_it_rang() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || server.serve(|_| ()));
    let latency = || Observer::open(ground.socket()).unwrap().snapshot().unwrap().threads[0].wake_latency;
    // A client of version 1 says nothing, and what it writes there all the same is not believed.
    let old = connect_saying(&ground.socket(), hello_of_version_1());
    for sequence in 1..=20 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        old.word(1024 + 16).store(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64, Ordering::Relaxed);
        old.call(0, sequence, b"?");
        std::thread::sleep(Duration::from_millis(1)); // it sleeps meanwhile
    }
    let before = latency();
    let client = Client::builder().wait(wigwag::Wait::Park).connect(ground.socket()).unwrap();
    eventually("a wake-up is measured", || {
        client.call(b"?").unwrap();
        std::thread::sleep(Duration::from_millis(1));
        latency().is_some()
    });
    stop.shutdown();
    serving.join().unwrap().unwrap();
    assert_eq!(before, None);
}

/// In a time namespace of its own: it calls, sends, and looks at the server.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn elsewhere() {
    role("elsewhere", |parent, arguments| {
        let [exchange, queue] = [0, 1].map(|index| Path::new(arguments[index]));
        let client = Client::connect(exchange).unwrap();
        assert_eq!(client.call_timeout(b"abc", LIMIT).unwrap()[..], *b"cba");
        let mut sender = Sender::connect(queue).unwrap();
        sender.send(b"message").unwrap();
        let observer = Observer::open(exchange).unwrap();
        assert!(observer.service().age() < LIMIT * 10, "the server's clock is known: {:?}", observer.service().age());
        let sessions = observer.snapshot().unwrap().sessions;
        assert!(sessions.iter().all(|session| session.age < LIMIT * 10), "{sessions:?}");
        parent.tell("called and sent");
        parent.hear_at_last();
    });
}

#[test]
fn processes_in_different_time_namespaces_work_together_without_deadlines() {
    let mut command = Command::new("unshare");
    command.args(["--time", "--monotonic", "8640000", "--boottime", "8640000", "--fork", "--kill-child"]);
    if !command.arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("not tried: no time namespace can be made here (that needs root and `unshare`)");
        return;
    }
    let ground = Ground::new();
    let mut server = Server::bind(ground.path("exchange")).unwrap();
    let receiver = Receiver::bind(ground.path("queue")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--time", "--monotonic", "8640000", "--boottime", "8640000", "--fork", "--kill-child"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "elsewhere", "--nocapture", "--include-ignored", "--test-threads=1"]);
    let mut other = Process::run(command, "elsewhere", [ground.path("exchange"), ground.path("queue")]);
    let mut request = server.recv_timeout(LIMIT).unwrap().expect("a request");
    assert!(request.deadline().is_none());
    request.reverse();
    request.reply();
    // Seen from here, the message is there, and nobody knows since when.
    other.expect("called and sent");
    let look = |name: &str| {
        let mut session = None;
        eventually("a session is listed", || {
            session = Observer::open(ground.path(name)).unwrap().snapshot().unwrap().sessions.pop();
            session.is_some()
        });
        session.expect("it is listed")
    };
    assert!(!look("exchange").has_same_clock && !look("queue").has_same_clock);
    let backlog = look("queue").backlog.expect("the sender is seen");
    assert_eq!((backlog.waiting, backlog.oldest_waiting), (1, None));
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap().expect("a message")[..], *b"message");
    other.tell("thanks");
    other.join();
}

// ---- what others can read of a sender that moves --------------------------------------------------------------------

#[test]
fn a_sender_that_moves_says_so_in_the_memory_that_it_leaves() {
    for greeting_is_new in [true, false] {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| match greeting_is_new {
                true => server.serve_in_form(4, 5000, QUEUE),
                false => serve_in_version_1(&server, QUEUE),
            });
            let mut sender = Sender::builder().slots(4).capacity(5000).connect(ground.socket()).unwrap();
            let left = serving.join().unwrap();
            sender.send(b"message").unwrap();
            let moving = || left.half(1024 + 24).load(Ordering::Relaxed);
            assert_eq!(moving(), 0);
            rustix::net::shutdown(&left.socket, rustix::net::Shutdown::Both).unwrap();
            std::fs::remove_file(ground.socket()).unwrap();
            let receiver = Receiver::bind(ground.socket()).unwrap();
            scope.spawn(move || {
                assert_eq!(receiver.recv_timeout(LIMIT).unwrap().expect("a message")[..], *b"message");
            });
            sender.flush(LIMIT).unwrap();
            assert_eq!((moving(), sender.stats().reconnects), (2 * u32::from(greeting_is_new), 1), "all has moved");
        });
    }
}

/// Arguments: the exchange. It has connected once, and a child of it connects from a time namespace of its own.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn parent_of_another_clock() {
    role("parent_of_another_clock", |parent, arguments| {
        drop(Client::connect(arguments[0]).unwrap().call(b"before").unwrap());
        // SAFETY: no memory is involved. It is for the children to come.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWTIME) }, 0);
        let thread = rustix::thread::gettid().as_raw_nonzero(); // `self` is another, the first
        let offsets = format!("/proc/{thread}/timens_offsets");
        std::fs::write(offsets, "monotonic 8640000 0\nboottime 8640000 0\n").unwrap();
        // SAFETY: the child does what a child of several threads may with glibc, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let client = Client::connect(arguments[0]);
            let called = client.and_then(|client| client.call_timeout(b"after", LIMIT).map(drop));
            // SAFETY: it does not return.
            unsafe { libc::_exit(i32::from(called.is_err())) };
        }
        let mut status = -1;
        // SAFETY: `status` is to be written.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        parent.tell("called");
    });
}

#[test]
fn a_child_in_another_time_namespace_than_its_parent_says_so() {
    let is_possible = Command::new("unshare").args(["--time", "--fork", "true"]).status();
    if !is_possible.is_ok_and(|status| status.success()) {
        eprintln!("not tried: no time namespace can be made here (that needs root and `unshare`)");
        return;
    }
    let ground = Ground::new();
    let mut server = Server::bind(ground.path("exchange")).unwrap();
    let mut other = Process::start("parent_of_another_clock", [ground.path("exchange")]);
    let request = server.recv_timeout(LIMIT).unwrap().expect("a request");
    assert_eq!(request[..], *b"before");
    request.reply();
    let request = server.recv_timeout(LIMIT).unwrap().expect("a request");
    assert_eq!((&request[..], request.deadline()), (&b"after"[..], None), "the clocks differ");
    request.reply();
    other.expect("called");
    other.join();
}
