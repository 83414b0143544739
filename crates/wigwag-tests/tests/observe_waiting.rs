//! Work that waits is seen from outside, above all where nobody is there to do it: the server stopped, its handler
//! hanging.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use wigwag::observe::{Observer, ProcessState, Session, Snapshot, ThreadState};
use wigwag::{Client, Receiver, Sender, Server, Stream, StreamListener};
use wigwag_testing::{Ground, LIMIT, Process, Raw, eventually, role};

#[path = "support/workshop.rs"]
mod workshop;

use workshop::{ORDER, Workshop};

/// A user that nobody is.
const OTHER_USER: u32 = 60_123;

#[test]
#[ignore = "a role: other tests start it as a process"]
fn workshop() {
    role("workshop", workshop::play);
}

/// Receives as many messages as it is told each time, and keeps them; at "look" says what an observer sees.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn worker() {
    role("worker", |parent, arguments| {
        let receiver = Receiver::builder().allow_user(OTHER_USER).bind(Path::new(arguments[0])).unwrap();
        let mut kept = Vec::new();
        parent.tell("ready");
        while let Some(order) = parent.hear_at_last() {
            if order == "look" {
                let seen = look(Path::new(arguments[0]));
                parent.tell(format!("{} {}", seen.waiting(), seen.hidden()));
                continue;
            }
            for _ in 0..order.parse().unwrap() {
                kept.push(receiver.recv().unwrap());
            }
            parent.tell("received");
        }
    });
}

/// Connects, and once it is told sends without an end: arguments are the socket, the slots, and the user to do it as.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn producer() {
    role("producer", |parent, arguments| {
        become_user(arguments[2].parse().unwrap());
        let builder = Sender::builder().linger(Duration::ZERO).server_user(0).slots(arguments[1].parse().unwrap());
        let builder = if rustix::process::geteuid().is_root() {
            Sender::builder().linger(Duration::ZERO).slots(arguments[1].parse().unwrap())
        } else {
            builder
        };
        let mut sender = builder.connect(Path::new(arguments[0])).unwrap();
        parent.tell("connected");
        parent.hear_at_last();
        loop {
            sender.send(b"one of millions").unwrap();
        }
    });
}

/// Looks at a server three times, and tells what was seen and how many descriptors are open more than after the first
/// look.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn onlooker() {
    role("onlooker", |parent, arguments| {
        let observer = Observer::open(Path::new(arguments[0])).unwrap();
        observer.snapshot().unwrap();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let seen = observer.snapshot().unwrap();
        observer.snapshot().unwrap();
        parent.tell(format!("{} {} {} {}", seen.waiting(), seen.hidden(), seen.blocked(), open() - before));
    });
}

/// Connects, and calls once each time it is told: arguments are the socket and what to say.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn caller() {
    role("caller", |parent, arguments| {
        let client = Client::connect(Path::new(arguments[0])).unwrap();
        parent.tell("connected");
        while parent.hear_at_last().is_some() {
            drop(client.call(arguments[1].as_bytes()).unwrap());
            parent.tell("answered");
        }
    });
}

/// Makes this process another user's, for good.
fn become_user(user: u32) {
    if user == rustix::process::geteuid().as_raw() {
        return;
    }
    // SAFETY: no memory is involved but an empty list.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(user, user, user), 0);
        assert_eq!(libc::setresuid(user, user, user), 0);
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn look(name: &Path) -> Snapshot {
    Observer::open(name).unwrap().snapshot().unwrap()
}

fn start_worker(ground: &Ground) -> Process {
    let mut worker = Process::start("worker", [ground.socket()]);
    worker.expect("ready");
    worker
}

fn start_producer(ground: &Ground, slots: usize, user: u32) -> Process {
    let arguments = [ground.socket().into_os_string(), slots.to_string().into(), user.to_string().into()];
    let mut producer = Process::start("producer", arguments);
    producer.expect("connected");
    producer
}

fn start_caller(ground: &Ground, text: &str) -> Process {
    let mut caller = Process::start("caller", [ground.socket().into_os_string(), OsString::from(text)]);
    caller.expect("connected");
    caller
}

fn stop(process: &Process, name: &Path) {
    process.signal(Signal::STOP);
    eventually("it is stopped", || look(name).state == ProcessState::Stopped);
}

fn backlog(session: &Session) -> &wigwag::observe::Backlog {
    session.backlog.as_ref().unwrap_or_else(|| panic!("{session:?}"))
}

#[test]
fn field_7_4_three_senders_who_wait_for_a_stopped_worker_are_seen() {
    let ground = Ground::new();
    let name = ground.socket();
    let mut worker = start_worker(&ground);
    let producers: Vec<Process> = (0..3).map(|_| start_producer(&ground, 8, own_user())).collect();
    eventually("all three have sessions", || look(&name).sessions.len() == 3);
    stop(&worker, &name);
    producers.iter().for_each(|producer| producer.tell("go"));
    eventually("three senders wait for room", || look(&name).blocked() == 3);
    let observer = Observer::open(&name).unwrap();
    let snapshot = observer.snapshot().unwrap();
    assert_eq!((snapshot.waiting(), snapshot.in_flight(), snapshot.hidden()), (24, 0, 0));
    assert!(snapshot.sessions.iter().all(|session| backlog(session).is_full && session.is_blocked()));
    let before = snapshot.oldest_waiting().expect("messages say when they were committed");
    eventually("the oldest grows older", || {
        let snapshot = observer.snapshot().unwrap();
        let blocked_for = backlog(&snapshot.sessions[0]).blocked_for.unwrap();
        snapshot.oldest_waiting().unwrap() > before + Duration::from_millis(50)
            && blocked_for > Duration::from_millis(50)
    });
    worker.signal(Signal::CONT);
    worker.tell("5");
    worker.expect("received");
    // Senders have no more room than there is: what was received is not acknowledged.
    eventually("five are in flight, the rest waits", || {
        let snapshot = look(&name);
        (snapshot.in_flight(), snapshot.waiting()) == (5, 19)
    });
    let snapshot = look(&name);
    assert!(snapshot.oldest_in_flight().is_some());
}

#[test]
fn field_7_4_a_client_whose_server_was_stopped_while_asleep_is_seen() {
    let ground = Ground::new();
    let name = ground.socket();
    let workshop = Workshop::start(&ground, &[]);
    let mut caller = start_caller(&ground, "hello");
    let asleep = |snapshot: &Snapshot| snapshot.threads.iter().all(|thread| thread.state == ThreadState::Asleep);
    eventually("the server sleeps", || look(&name).sessions.len() == 1 && asleep(&look(&name)));
    stop(&workshop.process, &name);
    assert_eq!((look(&name).waiting(), look(&name).blocked()), (0, 0));
    caller.tell("call");
    eventually("a client waits", || look(&name).blocked() == 1);
    let snapshot = look(&name);
    assert_eq!((snapshot.waiting(), snapshot.in_flight(), snapshot.longest_now()), (1, 0, None));
    eventually("for ever longer", || look(&name).oldest_waiting().is_some_and(|age| age > Duration::from_millis(50)));
    workshop.process.signal(Signal::CONT);
    caller.expect("answered");
    eventually("nobody waits any more", || (look(&name).waiting(), look(&name).blocked()) == (0, 0));
    assert_eq!(look(&name).oldest_waiting(), None, "the time of a former call is not one of now");
    drop(caller);
    assert_eq!(workshop.stop(), 1);
}

#[test]
fn field_7_4_who_waits_behind_a_handler_that_hangs_is_told_from_its_own_call() {
    let ground = Ground::new();
    let name = ground.socket();
    let mut workshop = Workshop::start(&ground, &[]);
    let first = start_caller(&ground, &format!("{ORDER}hang"));
    first.tell("call");
    assert_eq!(workshop.process.hear(), "hanging");
    let second = start_caller(&ground, "hello");
    second.tell("call");
    eventually("both clients wait", || look(&name).blocked() == 2);
    let snapshot = look(&name);
    assert_eq!((snapshot.waiting(), snapshot.in_flight()), (1, 1));
    assert!(snapshot.oldest_in_flight() >= snapshot.longest_now().map(|(_, at_most)| at_most));
    let of = |process: &Process| {
        let session = snapshot.sessions.iter().find(|session| session.peer.pid == process.id() as i32).unwrap();
        (backlog(session).waiting, session.in_flight)
    };
    assert_eq!((of(&first), of(&second)), ((0, 1), (1, 0)));
}

#[test]
fn field_7_4_calls_given_up_still_wait_and_are_told_apart() {
    let ground = Ground::new();
    let name = ground.socket();
    let _server = Server::bind(&name).unwrap(); // nobody serves
    let client = Client::builder().slots(4).connect(&name).unwrap();
    let mut pending = client.loan(1).unwrap().send().unwrap();
    eventually("the session is there", || look(&name).sessions.len() == 1);
    let seen = look(&name);
    let one = backlog(&seen.sessions[0]);
    assert_eq!((one.waiting, one.abandoned, one.is_blocked, one.oldest_waiting), (1, 0, false, None), "nobody sleeps");
    assert!(pending.wait_timeout(Duration::from_millis(2)).is_none());
    drop(pending);
    drop(client.loan(1).unwrap().send().unwrap());
    let seen = look(&name);
    let both = backlog(&seen.sessions[0]);
    assert_eq!((both.waiting, both.abandoned, both.is_blocked, both.is_full), (2, 2, false, false));
    assert!(both.oldest_waiting.is_some(), "one of them was slept for");
}

#[test]
fn field_7_4_a_message_keeps_its_age_when_the_successor_gets_it() {
    let ground = Ground::new();
    let name = ground.socket();
    let first = Receiver::bind(&name).unwrap();
    let mut sender = Sender::connect(&name).unwrap();
    sender.send(b"old").unwrap();
    eventually("it is old", || look(&name).oldest_waiting().is_some_and(|age| age > Duration::from_millis(30)));
    drop(first);
    let _second = Receiver::bind(&name).unwrap();
    sender.send(b"new").unwrap();
    eventually("both are with the successor", || look(&name).waiting() == 2);
    assert!(look(&name).oldest_waiting() > Some(Duration::from_millis(30)));
}

#[test]
fn field_7_4_what_was_given_back_waits_again() {
    let ground = Ground::new();
    let name = ground.socket();
    let receiver = Receiver::bind(&name).unwrap();
    let mut sender = Sender::connect(&name).unwrap();
    sender.send_batch(["one", "two"]).unwrap();
    let message = receiver.recv().unwrap();
    assert_eq!((look(&name).waiting(), look(&name).in_flight()), (1, 1));
    message.nack();
    eventually("both wait", || (look(&name).waiting(), look(&name).in_flight()) == (2, 0));
    assert!(look(&name).oldest_waiting().is_some());
    for _ in 0..2 {
        receiver.recv().unwrap().ack();
    }
    assert_eq!((look(&name).waiting(), look(&name).oldest_waiting(), look(&name).oldest_in_flight()), (0, None, None));
}

#[test]
fn field_7_4_a_sender_of_another_user_is_seen_through_its_receiver() {
    if own_user() != 0 {
        eprintln!("not tried: it takes root to be another user");
        return;
    }
    let ground = Ground::new();
    std::fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let name = ground.socket();
    let worker = start_worker(&ground);
    let producer = start_producer(&ground, 4, OTHER_USER);
    eventually("it has a session", || look(&name).sessions.len() == 1);
    stop(&worker, &name);
    producer.tell("go");
    eventually("it waits for room", || look(&name).blocked() == 1);
    let snapshot = look(&name);
    assert_eq!((snapshot.waiting(), snapshot.hidden(), snapshot.sessions[0].peer.uid), (4, 0, OTHER_USER));
}

/// A role of this binary as the first process of a PID namespace of its own, or none where that is not possible.
fn start_apart(role: &str, arguments: impl IntoIterator<Item = OsString>) -> Option<Process> {
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let is_possible = Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success());
    if !is_possible {
        eprintln!("not tried: no PID namespace is to be had");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(unshare).arg(std::env::current_exe().unwrap());
    command.args(["--exact", role, "--nocapture", "--include-ignored", "--test-threads=1"]);
    Some(Process::run(command, role, arguments))
}

#[test]
fn field_7_4_a_sender_in_a_namespace_below_is_seen_as_any_other() {
    let ground = Ground::new();
    let name = ground.socket();
    let _receiver = Receiver::bind(&name).unwrap();
    let arguments = [name.clone().into_os_string(), "4".into(), own_user().to_string().into()];
    let Some(mut producer) = start_apart("producer", arguments) else { return };
    producer.expect("connected");
    producer.tell("go");
    eventually("it waits for room", || look(&name).blocked() == 1);
    assert_eq!((look(&name).waiting(), look(&name).hidden()), (4, 0));
}

#[test]
fn field_7_4_a_sender_that_the_receiver_has_no_number_for_is_seen_through_the_receiver() {
    let ground = Ground::new();
    let Some(mut worker) = start_apart("worker", [ground.socket().into_os_string()]) else { return };
    worker.expect("ready");
    let mut sender = Sender::builder().linger(Duration::ZERO).connect(ground.socket()).unwrap();
    sender.send_batch(["one", "two", "three"]).unwrap();
    eventually("who looks from where the receiver is sees them", || {
        worker.tell("look");
        worker.hear() == "3 0"
    });
}

#[test]
fn field_7_4_who_dies_while_it_is_looked_at_disturbs_nobody() {
    let ground = Ground::new();
    let name = ground.socket();
    let _receiver = Receiver::bind(&name).unwrap();
    let observer = Observer::open(&name).unwrap();
    for _ in 0..5 {
        let mut producer = start_producer(&ground, 4, own_user());
        producer.tell("go");
        eventually("it waits for room", || observer.snapshot().unwrap().blocked() >= 1);
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                producer.kill();
            });
            while !killer.is_finished() {
                let snapshot = observer.snapshot().unwrap();
                let most: u64 = snapshot.sessions.iter().map(|session| session.slots).sum();
                assert!(snapshot.waiting() <= most, "{snapshot:?}");
            }
        });
        // Its messages are still to be received, and nobody has their memory open any more.
        eventually("its memory is not to be found", || observer.snapshot().unwrap().blocked() == 0);
    }
    let seen = observer.snapshot().unwrap();
    assert_eq!(seen.hidden(), seen.sessions.len(), "{seen:?}");
}

#[test]
fn field_7_4_hundreds_of_sessions_are_counted_and_nothing_is_kept_open() {
    const SENDERS: usize = 150;
    let ground = Ground::new();
    let name = ground.socket();
    let mut worker = start_worker(&ground);
    let connect = || Sender::builder().linger(Duration::ZERO).slots(8).connect(&name).unwrap();
    let mut senders: Vec<Sender> = (0..SENDERS).map(|_| connect()).collect();
    for (number, sender) in senders.iter_mut().enumerate() {
        sender.send_batch((0..number % 9).map(|_| "x")).unwrap();
    }
    let all = (0..SENDERS).map(|number| number % 9).sum::<usize>() as u64;
    eventually("all are sessions", || look(&name).sessions.len() == SENDERS);
    stop(&worker, &name);
    let observer = Observer::open(&name).unwrap();
    assert_eq!(observer.snapshot().unwrap().waiting(), all);
    let mut onlooker = Process::start("onlooker", [&name]);
    onlooker.expect(&format!("{all} 0 0 0"));
    // What went is not remembered, what came is found, also at the descriptors of those that went.
    senders.drain(..100);
    senders.extend((0..50).map(|_| connect_when_it_goes_on(&worker, &name)));
    senders.iter_mut().rev().take(50).for_each(|sender| sender.send(b"x").unwrap());
    let rest = (100..SENDERS).map(|number| number % 9).sum::<usize>() as u64 + 50;
    eventually("those that live are counted", || {
        let seen = observer.snapshot().unwrap();
        seen.sessions.iter().filter_map(|session| session.backlog.as_ref()).map(|backlog| backlog.waiting).sum::<u64>()
            == rest
    });
    worker.signal(Signal::CONT);
    worker.kill();
}

/// A stopped control thread does not shake hands.
fn connect_when_it_goes_on(worker: &Process, name: &Path) -> Sender {
    worker.signal(Signal::CONT);
    Sender::builder().linger(Duration::ZERO).slots(8).connect(name).unwrap()
}

#[test]
fn field_7_4_junk_in_a_session_gives_numbers_that_can_be() {
    let ground = Ground::new();
    let name = ground.socket();
    let _server = Server::builder().slots(4).bind(&name).unwrap();
    let raw = Raw::connect_with(&name, 4, 100);
    let began = std::time::Instant::now();
    eventually("it is a session", || look(&name).sessions.len() == 1);
    let observer = Observer::open(&name).unwrap();
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        [u64::MAX, 0, 3, seed, 7 | seed << 8][(seed >> 60) as usize % 5]
    };
    for _ in 0..500 {
        for slot in 0..4 {
            raw.turn(slot).store(random(), Ordering::Relaxed);
            raw.head(slot).store(random(), Ordering::Relaxed);
            raw.deadline(slot).store(random(), Ordering::Relaxed);
            raw.word(1280 + 8 * slot).store(random(), Ordering::Relaxed);
        }
        for offset in (1024..1280).step_by(8) {
            raw.word(offset).store(random(), Ordering::Relaxed);
        }
        let seen = observer.snapshot().unwrap();
        let Some(session) = seen.sessions.first() else { panic!("nobody serves, so nobody ends it") };
        let backlog = backlog(session);
        let longest = began.elapsed() + LIMIT;
        assert!(backlog.waiting <= 4 && backlog.abandoned <= 4, "{backlog:?}");
        assert!(backlog.oldest_waiting.is_none_or(|age| age < longest), "{backlog:?}");
        assert!(backlog.blocked_for.is_none_or(|age| age < longest), "{backlog:?}");
    }
}

#[test]
fn field_7_4_a_session_whose_memory_is_not_to_be_found_is_hidden_and_not_empty() {
    let ground = Ground::new();
    let name = ground.socket();
    let _server = Server::builder().slots(4).bind(&name).unwrap();
    let mut raw = Raw::connect_with(&name, 4, 100);
    eventually("it is a session", || look(&name).sessions.len() == 1);
    assert_eq!(look(&name).hidden(), 0);
    // Another object of the same name and size in its place: neither is it taken for the session's.
    let impostor = rustix::fs::memfd_create("wigwag", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&impostor, rustix::fs::fstat(&raw.memory).unwrap().st_size as u64).unwrap();
    rustix::io::dup2(&impostor, &mut raw.memory).unwrap();
    let seen = look(&name);
    assert_eq!((seen.hidden(), seen.sessions[0].backlog.clone(), seen.waiting()), (1, None, 0));
}

#[test]
fn field_7_4_a_full_stream_shows_its_bytes_and_who_waits() {
    let ground = Ground::new();
    let name = ground.socket();
    let listener = StreamListener::builder().ring_bytes(4096).bind(&name).unwrap();
    let stream = Stream::connect(&name).unwrap();
    let mut accepted = listener.accept().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (&stream).write_all(&[1; 10_000]));
        eventually("the writer waits for room", || look(&name).sessions[0].is_blocked());
        let rings = look(&name).sessions[0].rings.clone().unwrap();
        assert_eq!((rings.incoming.size, rings.incoming.written, rings.incoming.unread), (4096, 4096, 4096));
        assert!(rings.incoming.is_writer_waiting && !rings.incoming.is_reader_waiting);
        assert_eq!((rings.outgoing.written, rings.outgoing.unread, rings.outgoing.is_ended), (0, 0, false));
        let mut bytes = vec![0; 10_000];
        std::io::Read::read_exact(&mut accepted, &mut bytes).unwrap();
        writer.join().unwrap().unwrap();
        scope.spawn(|| std::io::Read::read_exact(&mut accepted, &mut [0; 3]));
        eventually("the reader waits for bytes", || {
            look(&name).sessions[0].rings.as_ref().is_some_and(|rings| rings.incoming.is_reader_waiting)
        });
        let rings = look(&name).sessions[0].rings.clone().unwrap();
        assert_eq!((rings.incoming.written, rings.incoming.unread), (10_000, 0));
        (&stream).write_all(b"end").unwrap();
    });
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(look(&name).sessions[0].rings.as_ref().unwrap().incoming.is_ended);
}

#[test]
fn field_7_4_tasks_that_wait_for_replies_are_seen_with_the_age_of_the_oldest() {
    let ground = Ground::new();
    let name = ground.socket();
    let _server = Server::bind(&name).unwrap(); // nobody serves
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = runtime.block_on(wigwag::tokio::Client::connect(&name)).unwrap();
    let call = |number: usize| {
        let client = client.clone();
        runtime.spawn(async move { drop(client.call(&[number as u8]).await) });
    };
    call(0);
    eventually("one task waits", || look(&name).waiting() == 1 && look(&name).blocked() == 1);
    eventually("for a while", || look(&name).oldest_waiting().is_some_and(|age| age > Duration::from_millis(30)));
    (1..5).for_each(call);
    eventually("five tasks wait", || look(&name).waiting() == 5);
    assert!(look(&name).oldest_waiting() > Some(Duration::from_millis(30)), "the oldest is still the oldest");
}
