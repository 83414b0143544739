//! File descriptors with calls and replies: they arrive in their order, and every misuse has its end and leaves none
//! behind, in this process and in the other.

#[path = "support/runtimes.rs"]
mod runtimes;

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use runtimes::on_both;
use rustix::io::{Errno, FdFlags, fcntl_getfd};
use rustix::process::{Resource, Rlimit, setrlimit};
use wigwag::{Access, Client, Error, ErrorKind, ListenOptions, Request, Server, ShutdownHandle};
use wigwag_testing::descriptors::{
    alone, asking, descriptors, files_here, fill_table, message, nothing_is_left, number_of, numbered, send,
};
use wigwag_testing::others::become_user;
use wigwag_testing::stalled::StalledClose;
use wigwag_testing::wire::{self, READY, VIOLATION};
use wigwag_testing::{Ground, Offer, Process, REQUEST, Raw, RawServer, SERVER, eventually, role};

// ---- the ground of all ----------------------------------------------------------------------------------------------

/// A server on a thread of this process.
struct Served {
    ground: Ground,
    stop: ShutdownHandle,
    thread: Option<JoinHandle<wigwag::Result<()>>>,
}

impl Served {
    fn start<F>(handler: F) -> Served
    where
        F: FnMut(&mut Request) -> Result<(), String> + Send + 'static,
    {
        Served::with(ListenOptions::default().descriptors(true), handler)
    }

    fn with<F>(options: ListenOptions, handler: F) -> Served
    where
        F: FnMut(&mut Request) -> Result<(), String> + Send + 'static,
    {
        let ground = Ground::new();
        let mut server = Server::builder().options(options).bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let thread = Some(std::thread::spawn(move || server.serve(handler)));
        Served { ground, stop, thread }
    }

    fn client(&self) -> Client {
        Client::builder().descriptors(true).connect(self.ground.socket()).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.shutdown();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[track_caller]
fn check(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} lacks {part:?}");
    }
}

/// Sends back what came, in the other order.
fn turn_around(request: &mut Request) -> Result<(), String> {
    let mut came = request.take_descriptors();
    came.reverse();
    came.iter().try_for_each(|descriptor| request.attach(descriptor)).map_err(told)
}

// ---- there and back -------------------------------------------------------------------------------------------------

#[test]
fn descriptors_go_there_and_back_in_their_order_and_are_taken_once() {
    let _alone = alone();
    let before = descriptors();
    {
        let served = Served::start(|request| {
            let count = request.len();
            let came = request.take_descriptors();
            assert_eq!(came.len(), count);
            assert!(request.take_descriptors().is_empty());
            for (index, descriptor) in came.iter().enumerate() {
                assert_eq!(usize::from(number_of(descriptor)), index);
                assert!(fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC));
            }
            came.iter().rev().try_for_each(|descriptor| request.attach(descriptor)).map_err(told)
        });
        let client = served.client();
        for count in (0..=16).chain([16, 1, 0, 5]) {
            let mut loan = client.loan(count).unwrap();
            for number in 0..count {
                loan.attach(numbered(number as u8)).unwrap();
            }
            let mut reply = loan.call().unwrap();
            let came = reply.take_descriptors();
            assert_eq!(came.iter().map(number_of).collect::<Vec<_>>(), (0..count as u8).rev().collect::<Vec<_>>());
            assert!(came.iter().all(|descriptor| fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC)));
            assert!(reply.take_descriptors().is_empty());
        }
    }
    nothing_is_left(before);
}

#[test]
fn several_calls_carry_theirs_at_a_time_and_are_answered_in_any_order() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Server::builder().descriptors(true).bind(ground.socket()).unwrap();
        let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let pending: Vec<_> = (0..8u8)
            .map(|number| {
                let mut loan = client.loan(1).unwrap();
                loan[0] = number;
                // Every second call has some, and payloads of both kinds are mixed.
                (0..number % 2 * 3).for_each(|_| loan.attach(numbered(number)).unwrap());
                loan.send().unwrap()
            })
            .collect();
        let mut requests: Vec<Request> = (0..8).map(|_| server.recv().unwrap()).collect();
        requests.rotate_left(3);
        for mut request in requests {
            let came = request.take_descriptors();
            assert_eq!(came.len(), usize::from(request[0] % 2 * 3));
            assert!(came.iter().all(|descriptor| number_of(descriptor) == request[0]));
            let answer = numbered(request[0] + 100);
            request.attach(&answer).unwrap();
            std::thread::spawn(move || request.reply()).join().unwrap();
        }
        for (number, pending) in pending.into_iter().enumerate().rev() {
            let mut reply = pending.wait().unwrap();
            assert_eq!(reply.take_descriptors().iter().map(number_of).collect::<Vec<_>>(), [number as u8 + 100]);
        }
    }
    nothing_is_left(before);
}

#[test]
fn what_nobody_takes_is_closed_on_both_sides() {
    let _alone = alone();
    let before = descriptors();
    let (mut from_client, writing) = pipe().unwrap();
    let (mut from_server, for_client) = pipe().unwrap();
    let served = Served::start(move |request| request.attach(&for_client).map_err(told));
    let client = served.client();
    let mut loan = client.loan(0).unwrap();
    loan.attach(writing).unwrap();
    let reply = loan.call().unwrap();
    assert_eq!(from_client.read_to_end(&mut Vec::new()).unwrap(), 0, "the call is over, and nobody holds it");
    // Neither the next request in the same memory nor its reply finds what came with the last one.
    let loan = reply.into_loan(0).unwrap();
    drop(loan);
    drop(client.call(b"once more").unwrap());
    drop(client);
    drop(served);
    assert_eq!(from_server.read_to_end(&mut Vec::new()).unwrap(), 0);
    drop((from_client, from_server));
    nothing_is_left(before);
}

#[test]
fn a_loan_that_is_not_sent_and_a_reply_that_is_a_failure_carry_none() {
    let _alone = alone();
    let before = descriptors();
    {
        let served = Served::start(|request| {
            request.attach(numbered(1)).map_err(told)?;
            match request.first() {
                Some(b'f') => Err("no".into()),
                Some(b'p') => panic!("as ordered"),
                _ => Ok(()),
            }
        });
        let client = served.client();
        let level = {
            drop(client.call(b"").unwrap());
            descriptors()
        };
        for _ in 0..100 {
            let mut loan = client.loan(0).unwrap();
            loan.attach(numbered(0)).unwrap();
            drop(loan);
        }
        // More often than a session may have some under way: those of a failure count no more.
        for order in [b"f", b"p", b"f"].into_iter().chain([b"f"; 70]) {
            let mut loan = client.loan(1).unwrap();
            loan.copy_from_slice(order);
            loan.attach(numbered(0)).unwrap();
            let kind = if order == b"p" { ErrorKind::HandlerPanicked } else { ErrorKind::HandlerFailed };
            assert_eq!(loan.call().unwrap_err().kind(), kind);
        }
        assert_eq!(client.call(b"").unwrap().take_descriptors().len(), 1);
        nothing_is_left(level);
    }
    nothing_is_left(before);
}

#[test]
fn calls_without_descriptors_go_on_between_those_with_some() {
    let _alone = alone();
    let served = Served::start(turn_around);
    let client = served.client();
    for round in 0..300u32 {
        let mut loan = client.loan(4).unwrap();
        loan.copy_from_slice(&round.to_le_bytes());
        let count = usize::from(round % 5 == 0);
        (0..count).for_each(|_| loan.attach(numbered(3)).unwrap());
        let mut reply = loan.call().unwrap();
        assert_eq!(reply[..], round.to_le_bytes());
        if round % 10 != 0 {
            assert_eq!(reply.take_descriptors().len(), count);
        }
        // A slot goes through a reply that is made the next request, with what came with it untaken.
        if round % 10 == 0 {
            let mut loan = reply.into_loan(4).unwrap();
            loan.attach(numbered(9)).unwrap();
            let again = loan.call().unwrap().take_descriptors();
            assert_eq!(again.iter().map(number_of).collect::<Vec<_>>(), [9]);
        }
    }
}

// ---- not agreed -----------------------------------------------------------------------------------------------------

#[test]
fn nothing_travels_unless_both_sides_have_asked() {
    let _alone = alone();
    for (server_asks, client_asks) in [(false, false), (true, false), (false, true)] {
        let served = Served::with(ListenOptions::default().descriptors(server_asks), |request| {
            assert!(request.take_descriptors().is_empty());
            let error = request.attach(numbered(0)).unwrap_err();
            check(&error, ErrorKind::NotAgreed, &["ClientBuilder::descriptors", "ServerBuilder::descriptors"]);
            Ok(())
        });
        let client = Client::builder().descriptors(client_asks).connect(served.ground.socket()).unwrap();
        let mut loan = client.loan(2).unwrap();
        let error = loan.attach(numbered(0)).unwrap_err();
        check(&error, ErrorKind::NotAgreed, &["ClientBuilder::descriptors", "ServerBuilder::descriptors"]);
        let mut reply = loan.call().unwrap(); // the loan is as it was
        assert!(reply.take_descriptors().is_empty());
    }
}

#[test]
fn a_server_of_protocol_1_carries_none() {
    let _alone = alone();
    let ground = Ground::new();
    let raw = RawServer::bind(&ground.socket());
    let old = std::thread::spawn(move || {
        let newer = raw.accept();
        wire::receive(&newer).unwrap();
        wire::send(&newer, b"\x04\x03the versions", &[]).unwrap();
        let socket = raw.accept();
        assert_eq!(wire::receive(&socket).unwrap().bytes[5..9], [1, 0, 1, 0]);
        let raw = Offer::new(1, 4096).of_version_1().send(socket).unwrap();
        assert_eq!(wire::receive(&raw.socket).unwrap().bytes, READY);
        raw
    });
    let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
    check(&client.loan(0).unwrap().attach(numbered(0)).unwrap_err(), ErrorKind::NotAgreed, &["speak protocol 2"]);
    drop(old.join().unwrap());
}

#[test]
fn a_server_that_chooses_what_was_not_offered_is_none() {
    let _alone = alone();
    let ground = Ground::new();
    let raw = RawServer::bind(&ground.socket());
    let hostile = std::thread::spawn(move || {
        let socket = raw.accept();
        assert_eq!(wire::receive(&socket).unwrap().bytes[38], 0, "nothing is offered that was not asked for");
        let mut offer = Offer::new(1, 4096);
        offer.welcome[28] = 1;
        offer.send(socket).map(drop)
    });
    check(&Client::connect(ground.socket()).unwrap_err(), ErrorKind::Violation, &["not offered"]);
    let _ = hostile.join().unwrap();
}

#[test]
fn a_reply_with_some_that_nobody_asked_for_is_a_violation() {
    let _alone = alone();
    let ground = Ground::new();
    let raw = RawServer::bind(&ground.socket());
    let hostile = std::thread::spawn(move || {
        let raw = raw.serve(1, 4096);
        eventually("a request", || raw.turn(0).load(Ordering::Acquire) & SERVER != 0);
        reply(&raw, 1);
        raw
    });
    let client = Client::connect(ground.socket()).unwrap();
    let error = client.call_timeout(b"", Duration::from_secs(5)).unwrap_err();
    check(&error, ErrorKind::Violation, &["do not travel here"]);
    drop(hostile.join().unwrap());
}

// ---- limits ---------------------------------------------------------------------------------------------------------

#[test]
fn sixteen_travel_at_a_time() {
    let _alone = alone();
    let served = Served::start(|request| {
        let file = numbered(0);
        (0..16).try_for_each(|_| request.attach(&file)).map_err(told)?;
        check(&request.attach(&file).unwrap_err(), ErrorKind::Full, &["16"]);
        Ok(())
    });
    let client = served.client();
    let file = numbered(0);
    let mut loan = client.loan(0).unwrap();
    (0..16).for_each(|_| loan.attach(&file).unwrap());
    check(&loan.attach(&file).unwrap_err(), ErrorKind::Full, &["16", "another call"]);
    assert_eq!(loan.call().unwrap().take_descriptors().len(), 16);
}

#[test]
fn a_session_has_64_under_way_and_then_says_full_and_never_waits() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Server::builder().descriptors(true).bind(ground.socket()).unwrap();
        let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let file = numbered(0);
        let send = || {
            let mut loan = client.loan(0).unwrap();
            (0..16).try_for_each(|_| loan.attach(&file)).map(|()| loan.send().unwrap())
        };
        let mut pending: Vec<_> = (0..4).map(|_| send().unwrap()).collect();
        check(&send().unwrap_err(), ErrorKind::Full, &["64", "this session"]);
        assert_eq!(
            client.call_timeout(b"", Duration::ZERO).unwrap_err().kind(),
            ErrorKind::TimedOut { maybe_executed: true }
        );
        // A call that is given up counts until the server is done with it.
        drop(pending.remove(0));
        check(&send().unwrap_err(), ErrorKind::Full, &["64"]);
        (0..5).for_each(|_| server.recv().unwrap().reply());
        pending.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
        let pending: Vec<_> = (0..4).map(|_| send().unwrap()).collect();
        drop(pending);
    }
    nothing_is_left(before);
}

#[test]
fn replies_that_are_not_read_count() {
    let _alone = alone();
    let before = descriptors();
    {
        let served = Served::start(|request| {
            let file = numbered(0);
            (0..16).try_for_each(|_| request.attach(&file)).map_err(told)
        });
        let raw = Raw::connect_saying(&served.ground.socket(), asking(), 6, u32::MAX, 0);
        raw.depth().store(6, Ordering::Relaxed);
        (0..5).for_each(|slot| raw.send(slot, 1, b"sixteen"));
        (0..5).for_each(|slot| raw.wait(slot));
        let kinds: Vec<u64> = (0..5).map(|slot| raw.head(slot).load(Ordering::Relaxed) >> 32 & 0xff).collect();
        assert_eq!(kinds, [2, 2, 2, 2, 3], "the handler was told that the fifth is one too many");
        let len = raw.head(4).load(Ordering::Relaxed) as u32 as usize;
        let text = raw.read(4, raw.head(4).load(Ordering::Relaxed) & 1 << 40 != 0, len);
        assert!(String::from_utf8(text).unwrap().contains("64 are the most"));
        for _ in 0..4 {
            assert_eq!(wire::receive(&raw.socket).unwrap().descriptors.len(), 16);
        }
        raw.send(5, 1, b"sixteen");
        raw.wait(5);
        assert_eq!(raw.head(5).load(Ordering::Relaxed) >> 42, 16, "what was read counts no more");
    }
    nothing_is_left(before);
}

/// Arguments: the socket.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_client() {
    role("poor_client", |parent, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(120), maximum: Some(120) }).unwrap();
        let connect = || Client::builder().descriptors(true).connect(arguments[0]).unwrap();
        let clients = [connect(), connect()];
        let file = numbered(0);
        let mut loans = [clients[0].loan(0).unwrap(), clients[0].loan(0).unwrap(), clients[1].loan(0).unwrap()];
        let room = (0..48).take_while(|index| match loans[index / 16].attach(&file) {
            Ok(()) => true,
            Err(error) => {
                check(&error, ErrorKind::Full, &["30", "ulimit -n", "this process"]);
                false
            }
        });
        parent.tell(room.count());
        drop(loans);
        let mut loan = clients[1].loan(0).unwrap();
        (0..16).for_each(|_| loan.attach(&file).unwrap());
        parent.tell("room again");
    });
}

#[test]
fn a_process_has_a_quarter_of_its_limit_under_way_in_all_its_sessions() {
    let _alone = alone();
    let served = Served::start(turn_around);
    let mut poor = Process::start("poor_client", [served.ground.socket()]);
    poor.expect("30");
    poor.expect("room again");
    poor.join();
}

#[test]
fn requests_that_nobody_answers_have_64_in_hand_and_the_next_fails() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Server::builder().descriptors(true).bind(ground.socket()).unwrap();
        // A client that does not count what it has under way.
        let raw = Raw::connect_saying(&ground.socket(), asking(), 6, u32::MAX, 0);
        raw.depth().store(6, Ordering::Relaxed);
        let carry = |slot: usize, sequence: u64, count: usize| {
            send(&raw, &message(count as u8, slot as u16, sequence), count);
            raw.pass(slot, sequence << 8 | SERVER, REQUEST | (count as u64) << 42);
        };
        let hold = |server: &mut Server, slot| {
            carry(slot, 1, 16);
            server.recv().unwrap()
        };
        let mut held: Vec<Request> = (0..4).map(|slot| hold(&mut server, slot)).collect();
        carry(4, 1, 1);
        assert!(server.recv_timeout(Duration::from_millis(100)).unwrap().is_none(), "it is no request for a handler");
        raw.wait(4);
        let head = raw.head(4).load(Ordering::Relaxed);
        let text = String::from_utf8(raw.read(4, head & 1 << 40 != 0, head as u32 as usize)).unwrap();
        assert!(text.contains("64 descriptors that no handler") && text.contains("not executed"), "{text}");
        // What a handler has taken is its own, and counts no more.
        let taken = held[0].take_descriptors();
        carry(4, 2, 16);
        assert_eq!(server.recv().unwrap().take_descriptors().len(), 16);
        drop((held, taken));
    }
    nothing_is_left(before);
}

/// Arguments: the socket. Keeps its requests, until one says that it should let go of them, or take what came.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_server() {
    role("poor_server", |parent, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(120), maximum: Some(120) }).unwrap();
        let mut server = Server::builder().descriptors(true).bind(arguments[0]).unwrap();
        parent.tell("ready");
        let (mut held, mut taken) = (Vec::new(), Vec::new());
        while let Ok(mut request) = server.recv() {
            match &request[..] {
                b"keep" => held.push(request),
                b"take" => {
                    taken.extend(request.take_descriptors());
                    request.reply();
                }
                b"let go" => {
                    held.clear();
                    request.reply();
                }
                _ => break,
            }
        }
    });
}

#[test]
fn a_process_has_a_quarter_of_its_limit_in_hand_from_all_its_sessions() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Process::start("poor_server", [ground.socket()]);
        server.expect("ready");
        let connect = || Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let clients = [connect(), connect()];
        let loan = |client: usize, what: &[u8], count: usize| {
            let mut loan = clients[client].loan(what.len()).unwrap();
            loan.copy_from_slice(what);
            (0..count).for_each(|_| loan.attach(numbered(0)).unwrap());
            loan
        };
        let kept = loan(0, b"keep", 16).send().unwrap();
        let error = loan(1, b"take", 15).call().unwrap_err();
        check(&error, ErrorKind::Full, &["30 descriptors", "ulimit -n", "not executed"]);
        drop(loan(1, b"let go", 0).call().unwrap());
        assert_eq!(kept.wait().unwrap_err().kind(), ErrorKind::Unanswered);
        for _ in 0..3 {
            eventually("what was let go of is closed", || loan(1, b"take", 15).call().is_ok());
        }
        drop(loan(1, b"end", 0).send().unwrap());
        server.join();
    }
    nothing_is_left(before);
}

// ---- clients that mean harm -----------------------------------------------------------------------------------------

const FIRST: u64 = 1 << 8 | SERVER;

/// A request of slot 0 with that many descriptors, says its head.
fn request(raw: &Raw, count: u64) {
    raw.pass(0, FIRST, REQUEST | count << 42);
}

/// One violation: what it is, what is done, what the farewell says.
type Misuse = (&'static str, fn(&Raw), &'static str);

const MISUSES: &[Misuse] = &[
    ("a call without its message", |raw| request(raw, 2), "2 descriptors, and no message came with them"),
    (
        "fewer than the message says",
        |raw| {
            send(raw, &message(3, 0, 1), 2);
            request(raw, 3);
        },
        "sent 2 descriptors and said 3",
    ),
    (
        "more than the message says",
        |raw| {
            send(raw, &message(1, 0, 1), 2);
            request(raw, 1);
        },
        "sent 2 descriptors and said 1",
    ),
    (
        "another number than the head says",
        |raw| {
            send(raw, &message(2, 0, 1), 2);
            request(raw, 3);
        },
        "has 3 descriptors, and 2 were sent",
    ),
    (
        "a length beyond the capacity",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            raw.pass(0, FIRST, REQUEST | 1 << 42 | 1 << 40 | (raw.capacity + 1));
        },
        "nothing this session allows",
    ),
    (
        "of a message of a queue",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            raw.pass(0, FIRST, 6 << 32 | 1 << 42);
        },
        "nothing this session allows",
    ),
    ("none at all", |raw| send(raw, &message(0, 0, 1), 0), "where 1 to 16 travel"),
    ("one too many", |raw| send(raw, &message(17, 0, 1), 17), "where 1 to 16 travel"),
    ("far too many", |raw| send(raw, &message(16, 0, 1), 60), "it sent 60 descriptors and said 16"),
    ("a head that says 17", |raw| request(raw, 17), "nothing this session allows"),
    ("a head that says 31", |raw| request(raw, 31), "nothing this session allows"),
    ("a slot that there is not", |raw| send(raw, &message(1, 4, 1), 1), "slot 4 of 4"),
    ("a sequence that was", |raw| send(raw, &message(1, 0, 0), 1), "request 0 of slot 0, where request 1 is due"),
    ("a sequence that will be", |raw| send(raw, &message(1, 0, 2), 1), "request 2 of slot 0, where request 1 is due"),
    (
        "two for one call",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            send(raw, &message(1, 0, 1), 1);
        },
        "others for it lie unread",
    ),
    ("a message that is too short", |raw| send(raw, &message(1, 0, 1)[..11], 1), "12 bytes"),
    ("a message that is too long", |raw| send(raw, &[0; 200].map(|_| 7), 1), "12 bytes"),
    ("READY with one", |raw| send(raw, READY, 1), "with a message that takes none"),
    ("nothing with one", |raw| send(raw, b"", 1), "with a message that takes none"),
    ("a message that is none of these", |raw| send(raw, b"hello", 0), "a message after the handshake"),
    (
        "more than 64 that belong to no call yet",
        |raw| (0..4).for_each(|slot| send(raw, &message(16, slot, 1), 16)),
        "it sent 1 descriptors beside 64, where 64 may be under way",
    ),
    (
        "a call that came without what was sent for it",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            std::thread::sleep(Duration::from_millis(50)); // it is in the inbox by then, and nothing comes after it
            assert_eq!(raw.call(0, 1, b"no descriptors"), b"no descriptors");
        },
        "for request 1 of slot 0, where request 2 is due",
    ),
];

#[test]
fn each_misuse_ends_its_session_and_leaves_none() {
    let _alone = alone();
    let before = descriptors();
    {
        let served = Served::start(turn_around);
        let client = served.client();
        drop(client.call(b"").unwrap());
        let level = descriptors();
        for (what, misuse, text) in MISUSES {
            let slots = if what.starts_with("more than 64") { 5 } else { 4 };
            let raw = Raw::connect_saying(&served.ground.socket(), asking(), slots, u32::MAX, 0);
            misuse(&raw);
            if slots == 5 {
                send(&raw, &message(1, 4, 1), 1);
            }
            let end = wire::receive_end(&raw.socket);
            let (reason, why) = end.unwrap_or_else(|| panic!("{what}: no farewell"));
            assert_eq!(reason, VIOLATION, "{what}: {why}");
            assert!(why.contains(text), "{what}: {why}");
            drop(raw);
            nothing_is_left(level);
            let mut loan = client.loan(0).unwrap();
            loan.attach(numbered(7)).unwrap();
            assert_eq!(number_of(&loan.call().unwrap().take_descriptors()[0]), 7, "{what}: others are served");
        }
    }
    nothing_is_left(before);
}

#[test]
fn where_it_was_not_agreed_on_the_kernel_lets_none_in_and_a_head_with_some_is_a_violation() {
    let _alone = alone();
    let before = descriptors();
    {
        let served = Served::with(ListenOptions::default(), turn_around);
        let raw = Raw::connect_saying(&served.ground.socket(), asking(), 1, u32::MAX, 0);
        request(&raw, 1);
        let (reason, why) = raw.end();
        assert!(reason == VIOLATION && why.contains("do not travel in this session"), "{why}");
        let raw = Raw::connect_saying(&served.ground.socket(), asking(), 1, u32::MAX, 0);
        let file = numbered(0);
        match wire::send(&raw.socket, &message(1, 0, 1), &[file.as_fd()]) {
            Err(error) => assert_eq!(error, Errno::PERM),
            Ok(()) => {
                let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
                let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
                let version = (numbers.next().unwrap(), numbers.next().unwrap());
                assert!(version < (6, 16), "{release} refuses them");
                assert_eq!(raw.end().0, VIOLATION);
            }
        }
    }
    nothing_is_left(before);
}

#[test]
fn none_come_before_the_session_is_made() {
    let _alone = alone();
    let before = descriptors();
    {
        let served = Served::start(turn_around);
        let socket = wire::connect_to(&served.ground.socket());
        wire::send(&socket, &asking(), &[]).unwrap();
        assert_eq!(wire::receive(&socket).unwrap().bytes[28], 1, "it is agreed on");
        wire::send(&socket, READY, &[numbered(0).as_fd()]).unwrap();
        let (reason, why) = wire::receive_end(&socket).unwrap();
        assert!(reason == VIOLATION && why.contains("descriptors came with a message"), "{why}");
    }
    nothing_is_left(before);
}

#[test]
fn a_caller_that_has_given_up_is_sent_none() {
    let _alone = alone();
    let ground = Ground::new();
    let mut server = Server::builder().descriptors(true).bind(ground.socket()).unwrap();
    let raw = Raw::connect_saying(&ground.socket(), asking(), 1, u32::MAX, 0);
    raw.send(0, 1, b"");
    let mut request = server.recv().unwrap();
    request.attach(numbered(0)).unwrap();
    raw.turn(0).fetch_or(4, Ordering::AcqRel);
    request.reply();
    assert_eq!(raw.head(0).load(Ordering::Relaxed), 2 << 32);
}

#[test]
fn who_leaves_between_message_and_turn_leaves_none() {
    let _alone = alone();
    let before = descriptors();
    {
        let served = Served::start(turn_around);
        let client = served.client();
        drop(client.call(b"").unwrap());
        let level = descriptors();
        for count in [1, 16] {
            let raw = Raw::connect_saying(&served.ground.socket(), asking(), 1, u32::MAX, 0);
            send(&raw, &message(count as u8, 0, 1), count);
            drop(raw);
            nothing_is_left(level);
        }
    }
    nothing_is_left(before);
}

// ---- servers that mean harm -----------------------------------------------------------------------------------------

/// One violation of a server: what it is, what is done with the first call, what the client says.
const MISUSES_OF_SERVERS: &[Misuse] = &[
    ("a reply without its message", |raw| reply(raw, 1), "1 descriptors, and no message came with them"),
    (
        "another number than was sent",
        |raw| {
            send(raw, &message(2, 0, 1), 2);
            reply(raw, 1);
        },
        "1 descriptors, and 2 were sent",
    ),
    (
        "of another request",
        |raw| {
            send(raw, &message(1, 0, 2), 1);
            reply(raw, 1);
        },
        "request 2 of slot 0, where request 1 is due",
    ),
    (
        "of a request that is to come, and no reply",
        |raw| send(raw, &message(1, 0, 2), 1),
        "request 2 of slot 0, where request 1 is due",
    ),
    (
        "of a slot that was never used, and no reply",
        |raw| send(raw, &message(16, 1, 0), 16),
        "request 0 of slot 1, where none is due",
    ),
    (
        "of a slot that there is not",
        |raw| {
            send(raw, &message(1, 2, 1), 1);
            reply(raw, 1);
        },
        "slot 2 of 2",
    ),
    (
        "too many",
        |raw| {
            send(raw, &message(16, 0, 1), 30);
            reply(raw, 16);
        },
        "where 1 to 16 travel",
    ),
    (
        "with a bell",
        |raw| {
            send(raw, &[6], 1);
            reply(raw, 1);
        },
        "with a message that takes none",
    ),
    ("a head that says 17", |raw| reply(raw, 17), "slot 0 came back"),
    (
        "an error with some",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            raw.head(0).store(3 << 32 | 1 << 42, Ordering::Relaxed);
            raw.turn(0).swap(1 << 8, Ordering::SeqCst);
        },
        "slot 0 came back",
    ),
];

fn reply(raw: &Raw, count: u64) {
    raw.head(0).store(2 << 32 | count << 42, Ordering::Relaxed);
    raw.turn(0).swap(1 << 8, Ordering::SeqCst);
    let _ = wire::send(&raw.socket, &[6], &[]); // a bell, as this server has not kept the other one
}

#[test]
fn each_misuse_of_a_server_is_a_violation_at_its_client_and_leaves_none() {
    let _alone = alone();
    let before = descriptors();
    for (what, misuse, text) in MISUSES_OF_SERVERS {
        let ground = Ground::new();
        let raw = RawServer::bind(&ground.socket());
        let hostile = std::thread::spawn(move || {
            let socket = raw.accept();
            assert_eq!(wire::receive(&socket).unwrap().bytes[38], 1, "descriptors are offered");
            let mut offer = Offer::new(2, 4096);
            offer.welcome[28] = 1;
            let raw = offer.send(socket).unwrap();
            assert_eq!(wire::receive(&raw.socket).unwrap().bytes, READY);
            eventually("a request", || raw.turn(0).load(Ordering::Acquire) & SERVER != 0);
            misuse(&raw);
            raw
        });
        let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let error = client.call_timeout(b"", Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Violation, "{what}: {error}");
        assert!(error.to_string().contains(text), "{what}: {error}");
        assert!(client.loan(0).is_err(), "{what}: the session is over");
        drop(hostile.join().unwrap());
    }
    nothing_is_left(before);
}

// ---- calls that are given up ----------------------------------------------------------------------------------------

#[test]
fn a_call_that_is_given_up_closes_what_it_carried() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Server::builder().descriptors(true).bind(ground.socket()).unwrap();
        let client = Client::builder().slots(1).descriptors(true).connect(ground.socket()).unwrap();
        for times_out in [false, true] {
            let (mut reading, writing) = pipe().unwrap();
            let mut loan = client.loan(0).unwrap();
            loan.attach(writing).unwrap();
            if times_out {
                let error = loan.call_timeout(Duration::from_millis(1)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: true });
            } else {
                drop(loan.send().unwrap());
            }
            let mut request = server.recv().unwrap();
            request.attach(numbered(1)).unwrap(); // nobody will want it
            request.reply();
            assert_eq!(reading.read_to_end(&mut Vec::new()).unwrap(), 0, "nobody holds it any more");
        }
        // The reply came before its caller gave up.
        let level = descriptors();
        let pending = client.loan(0).unwrap().send().unwrap();
        let mut request = server.recv().unwrap();
        request.attach(numbered(1)).unwrap();
        request.reply();
        assert!(pending.is_ready());
        drop(pending);
        nothing_is_left(level);
        let pending = client.loan(0).unwrap().send().unwrap();
        let mut request = server.recv().unwrap();
        request.attach(numbered(2)).unwrap();
        request.reply();
        let came = pending.wait().unwrap().take_descriptors();
        assert_eq!(number_of(&came[0]), 2, "the next reply in the slot has its own");
        drop(came);
        // While the server had it, its caller gave up; the reply was sent all the same.
        let raw = client.loan(0).unwrap().send().unwrap();
        let mut request = server.recv().unwrap();
        request.attach(numbered(1)).unwrap();
        drop(raw);
        request.reply();
        drop(client.loan(0).unwrap());
        nothing_is_left(level);
    }
    nothing_is_left(before);
}

#[test]
fn a_reply_that_crosses_with_the_giving_up_is_closed_when_the_slot_comes_back() {
    let _alone = alone();
    let before = descriptors();
    let ground = Ground::new();
    let raw = RawServer::bind(&ground.socket());
    let server = std::thread::spawn(move || {
        let socket = raw.accept();
        wire::receive(&socket).unwrap();
        let mut offer = Offer::new(1, 4096);
        offer.welcome[28] = 1;
        let raw = offer.send(socket).unwrap();
        assert_eq!(wire::receive(&raw.socket).unwrap().bytes, READY);
        eventually("a call that was given up", || raw.turn(0).load(Ordering::Acquire) & 4 != 0);
        send(&raw, &message(2, 0, 1), 2);
        reply(&raw, 2);
        raw
    });
    let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
    drop(client.loan(0).unwrap().send().unwrap());
    let raw = server.join().unwrap();
    let level = descriptors();
    drop(client.loan(0).unwrap());
    nothing_is_left(level);
    drop((client, raw));
    nothing_is_left(before);
}

// ---- peers that are killed ------------------------------------------------------------------------------------------

/// Arguments: the socket. Takes requests, and answers none.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn silent_server() {
    role("silent_server", |parent, arguments| {
        let mut server = Server::builder().descriptors(true).bind(arguments[0]).unwrap();
        parent.tell("ready");
        let _held: Vec<Request> = (0..2)
            .map(|_| {
                let request = server.recv().unwrap();
                parent.tell("taken");
                request
            })
            .collect();
        parent.hear();
    });
}

#[test]
fn a_server_that_is_killed_takes_with_it_what_it_had_and_nothing_stays_here() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Process::start("silent_server", [ground.socket()]);
        server.expect("ready");
        let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let (mut reading, writing) = pipe().unwrap();
        let mut loan = client.loan(0).unwrap();
        loan.attach(&writing).unwrap();
        let pending = loan.send().unwrap();
        server.expect("taken");
        let mut second = client.loan(0).unwrap();
        second.attach(writing).unwrap();
        server.kill();
        let error = pending.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true });
        let error = second.call().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false }, "{error}");
        assert_eq!(reading.read_to_end(&mut Vec::new()).unwrap(), 0, "nobody has it");
    }
    nothing_is_left(before);
}

/// Arguments: the socket. Calls with two descriptors, and waits.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn waiting_client() {
    role("waiting_client", |parent, arguments| {
        let client = Client::builder().descriptors(true).connect(arguments[0]).unwrap();
        let mut loans = [client.loan(0).unwrap(), client.loan(0).unwrap()];
        loans.iter_mut().for_each(|loan| loan.attach(numbered(5)).unwrap());
        let pending = loans.map(|loan| loan.send().unwrap());
        parent.tell("sent");
        parent.hear();
        drop(pending);
    });
}

#[test]
fn a_client_that_is_killed_leaves_what_a_handler_has_and_nothing_else() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Server::builder().descriptors(true).bind(ground.socket()).unwrap();
        let mut client = Process::start("waiting_client", [ground.socket()]);
        client.expect("sent");
        let mut request = server.recv().unwrap();
        client.kill();
        drop(client);
        assert!(request.wait_abandoned(Duration::from_secs(10)));
        eventually("what nobody has taken is closed, although a request keeps the session", || files_here() == 1);
        let taken = request.take_descriptors();
        assert_eq!(number_of(&taken[0]), 5, "what came is the handler's");
        let _ = request.attach(&taken[0]);
        request.reply();
        drop(taken);
        assert!(server.recv_timeout(Duration::from_millis(50)).unwrap().is_none());
    }
    nothing_is_left(before);
}

#[test]
fn what_a_stopped_peer_has_not_read_counts_after_its_session_and_no_longer_than_it_lives() {
    let _alone = alone();
    let before = descriptors();
    let served = Served::start(|request| {
        let file = numbered(0);
        (0..16).try_for_each(|_| request.attach(&file)).map_err(told)
    });
    let raw = Raw::connect_saying(&served.ground.socket(), asking(), 1, u32::MAX, 0);
    raw.send(0, 1, b"");
    raw.wait(0);
    drop(served);
    drop(raw);
    // Whoever sends next looks at what is left of those before.
    let served = Served::start(turn_around);
    let client = served.client();
    let mut loan = client.loan(0).unwrap();
    loan.attach(numbered(0)).unwrap();
    drop(loan.call().unwrap());
    drop((client, served));
    nothing_is_left(before);
}

// ---- tables that are full -------------------------------------------------------------------------------------------

/// Arguments: the socket. Fills its table at the first request, and makes room at the third.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn full_server() {
    role("full_server", |parent, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: Some(100) }).unwrap();
        let mut server = Server::builder().descriptors(true).bind(arguments[0]).unwrap();
        let stop = server.shutdown_handle();
        let mut held = Vec::new();
        parent.tell("ready");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                parent.hear_at_last();
                stop.shutdown();
            });
            let serving = server.serve(|request| match &request[..] {
                b"fill" => held = fill_table(),
                b"room" => held.clear(),
                _ => {
                    let count = request.take_descriptors().len();
                    request.set_reply(&[count as u8]).unwrap();
                }
            });
            serving.unwrap();
        });
    });
}

#[test]
fn a_server_whose_table_is_full_says_so_and_goes_on() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Process::start("full_server", [ground.socket()]);
        server.expect("ready");
        let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let count = |count: usize| {
            let mut loan = client.loan(5).unwrap();
            (0..count).for_each(|_| loan.attach(numbered(0)).unwrap());
            loan.call().map(|reply| reply[0])
        };
        assert_eq!(count(9).unwrap(), 9);
        client.call(b"fill").unwrap();
        for _ in 0..3 {
            check(&count(4).unwrap_err(), ErrorKind::Full, &["ulimit -n", "not executed", "4"]);
        }
        assert_eq!(count(0).unwrap(), 0);
        client.call(b"room").unwrap();
        assert_eq!(count(16).unwrap(), 16);
        server.tell("stop");
        server.join();
    }
    nothing_is_left(before);
}

/// Arguments: the socket. Calls while its table is full.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn full_client() {
    role("full_client", |parent, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: Some(100) }).unwrap();
        let client = Client::builder().descriptors(true).connect(arguments[0]).unwrap();
        drop(client.call(b"").unwrap().take_descriptors());
        let held = fill_table();
        let error = client.call(b"").unwrap_err();
        let mut loan = client.loan(0).unwrap();
        let second = loan.attach(&held[0]).unwrap_err();
        drop(loan);
        drop(held);
        check(&error, ErrorKind::Full, &["4 of the reply", "ulimit -n", "was executed"]);
        check(&second, ErrorKind::Io, &["ulimit -n"]);
        assert_eq!(client.call(b"").unwrap().take_descriptors().len(), 4);
        parent.tell("done");
    });
}

#[test]
fn a_client_whose_table_is_full_loses_the_reply_and_goes_on() {
    let _alone = alone();
    let before = descriptors();
    {
        let served = Served::start(|request| {
            let file = numbered(0);
            (0..4).try_for_each(|_| request.attach(&file)).map_err(told)
        });
        let mut client = Process::start("full_client", [served.ground.socket()]);
        client.expect("done");
        client.join();
    }
    nothing_is_left(before);
}

// ---- tasks ----------------------------------------------------------------------------------------------------------

#[test]
fn tasks_send_and_get_descriptors_at_a_time_and_leave_none() {
    let _alone = alone();
    on_both(async || drop(tokio::net::UnixDatagram::unbound().unwrap())); // what a runtime keeps is there
    let before = descriptors();
    on_both(async || {
        let ground = Ground::new();
        let mut server = wigwag::tokio::Server::builder().descriptors(true).bind_async(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let serving = tokio::spawn(async move {
            let outcome = server.serve(async |request: &mut Request| {
                tokio::time::sleep(Duration::from_micros(request[0].into())).await;
                turn_around(request)
            });
            outcome.await
        });
        let client = wigwag::tokio::Client::builder().descriptors(true).connect_async(ground.socket()).await.unwrap();
        let tasks: Vec<_> = (0..40u8)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut loan = client.loan(1).await.unwrap();
                    loan[0] = number;
                    let count = usize::from(number % 4);
                    (0..count).for_each(|_| loan.attach(numbered(number)).unwrap());
                    let mut reply = loan.call().await.unwrap();
                    if number % 3 == 0 {
                        // What came with a reply that is made the next request is nobody's.
                        let mut loan = reply.into_loan(1).unwrap();
                        loan.attach(numbered(number + 100)).unwrap();
                        let came = loan.call().await.unwrap().take_descriptors();
                        return assert_eq!(came.iter().map(number_of).collect::<Vec<_>>(), [number + 100]);
                    }
                    let came = reply.take_descriptors();
                    assert_eq!(came.iter().map(number_of).collect::<Vec<_>>(), vec![number; count]);
                    assert!(reply.take_descriptors().is_empty());
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        stop.shutdown();
        serving.await.unwrap().unwrap();
    });
    nothing_is_left(before);
}

#[test]
fn a_task_that_gives_a_call_up_closes_what_it_carried() {
    let _alone = alone();
    on_both(async || drop(tokio::net::UnixDatagram::unbound().unwrap()));
    let before = descriptors();
    on_both(async || {
        let ground = Ground::new();
        let server = Mutex::new(Server::builder().descriptors(true).bind(ground.socket()).unwrap());
        let client = wigwag::tokio::Client::builder().descriptors(true).connect_async(ground.socket()).await.unwrap();
        for _ in 0..3 {
            let (mut reading, writing) = pipe().unwrap();
            let mut loan = client.loan(0).await.unwrap();
            loan.attach(writing).unwrap();
            loan.call_timeout(Duration::from_millis(1)).await.unwrap_err();
            let mut request = server.lock().unwrap().recv().unwrap();
            request.attach(numbered(1)).unwrap();
            request.reply();
            assert_eq!(reading.read_to_end(&mut Vec::new()).unwrap(), 0, "nobody holds it any more");
        }
        // A loan that is dropped, a reply that is dropped with what came.
        let mut loan = client.loan(0).await.unwrap();
        loan.attach(numbered(1)).unwrap();
        drop(loan);
        let pending = client.loan(0).await.unwrap().send().unwrap();
        let mut request = server.lock().unwrap().recv().unwrap();
        request.attach(numbered(2)).unwrap();
        request.reply();
        drop(pending.await.unwrap());
        eventually("all are closed", || files_here() == 0);
    });
    nothing_is_left(before);
}

#[test]
fn a_reply_that_comes_after_the_end_is_never_one_without_its_descriptors() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Server::builder().descriptors(true).bind(ground.socket()).unwrap();
        let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let pending = client.loan(0).unwrap().send().unwrap();
        let mut request = server.recv().unwrap();
        drop(server);
        let attached = request.attach(numbered(1));
        request.reply();
        let reply = pending.wait().map(|mut reply| reply.take_descriptors().len());
        assert!(attached.is_err() || reply.is_err(), "a reply with {reply:?} of 1 descriptor");
    }
    nothing_is_left(before);
}

// ---- other users ----------------------------------------------------------------------------------------------------

const OTHER_USER: u32 = 60_126;

/// Arguments: the socket.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn other_user() {
    role("other_user", |parent, arguments| {
        let own = rustix::process::geteuid().as_raw();
        become_user(OTHER_USER);
        let client = Client::builder().server_user(own).descriptors(true).connect(arguments[0]).unwrap();
        let mut loan = client.loan(3).unwrap();
        loan.copy_from_slice(b"abc");
        check(&loan.attach(numbered(0)).unwrap_err(), ErrorKind::NotAgreed, &["of one user"]);
        assert_eq!(loan.call().unwrap()[..], *b"abc");
        parent.tell("done");
    });
}

#[test]
fn with_other_users_none_travel() {
    let _alone = alone();
    if !rustix::process::geteuid().is_root() {
        println!("skipped, because only root can play another user");
        return;
    }
    let before = descriptors();
    {
        let access = Access::default().allow_user(OTHER_USER);
        let served = Served::with(ListenOptions::default().descriptors(true).access(access), turn_around);
        std::fs::set_permissions(served.ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        let mut other = Process::start("other_user", [served.ground.socket()]);
        other.expect("done");
        other.join();
    }
    nothing_is_left(before);
}

// ---- namespaces -----------------------------------------------------------------------------------------------------

/// Arguments: the socket.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn apart() {
    role("apart", |parent, arguments| {
        let client = Client::builder().descriptors(true).connect(arguments[0]).unwrap();
        let mut loan = client.loan(0).unwrap();
        (0..3).for_each(|number| loan.attach(numbered(number)).unwrap());
        let came = loan.call().unwrap().take_descriptors();
        parent.tell(format!("{:?}", came.iter().map(number_of).collect::<Vec<_>>()));
    });
}

#[test]
fn they_travel_between_pid_namespaces() {
    let _alone = alone();
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let is_possible = Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success());
    if !is_possible {
        println!("skipped, because no PID namespace is to be had");
        return;
    }
    let before = descriptors();
    {
        let served = Served::start(turn_around);
        let mut command = Command::new("unshare");
        command.args(unshare).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "apart", "--nocapture", "--include-ignored", "--test-threads=1"]);
        let mut apart = Process::run(command, "apart", [served.ground.socket()]);
        apart.expect("[2, 1, 0]");
        apart.join();
    }
    nothing_is_left(before);
}

// ---- closing that takes long ----------------------------------------------------------------------------------------

/// Arguments: the socket. From the first request on, closing what came with it does not return.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn stalled_server() {
    role("stalled_server", |parent, arguments| {
        let mut server = Server::builder().descriptors(true).bind(arguments[0]).unwrap();
        parent.tell("ready");
        let mut stalled = None;
        let _ = server.serve(|request| {
            if &request[..] == b"has begun?" {
                eventually("somebody closes it", || stalled.as_ref().is_some_and(StalledClose::has_begun));
                return;
            }
            let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let mut of_client = all.filter(|entry| {
                std::fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().contains("numbered"))
            });
            let number = of_client.next().unwrap().file_name().into_string().unwrap().parse().unwrap();
            stalled = Some(StalledClose::begin(number));
        });
    });
}

#[test]
fn closing_what_came_holds_up_nobody() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Process::start("stalled_server", [ground.socket()]);
        server.expect("ready");
        let client = Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let mut loan = client.loan(0).unwrap();
        loan.attach(numbered(0)).unwrap();
        drop(loan.call_timeout(Duration::from_secs(10)).unwrap());
        drop(client.call_timeout(b"has begun?", Duration::from_secs(20)).unwrap());
        server.kill();
    }
    nothing_is_left(before);
}

/// Arguments: the socket. Closing the first that came does not return, and nothing of what comes is taken.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn patient_server() {
    role("patient_server", |parent, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(400), maximum: Some(400) }).unwrap();
        let mut server = Server::builder().descriptors(true).bind(arguments[0]).unwrap();
        parent.tell("ready");
        let mut stalled = None;
        let _ = server.serve(|request| {
            if &request[..] == b"begin" {
                let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
                let came = all.filter(|entry| {
                    std::fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().contains("numbered"))
                });
                let numbers = came.map(|entry| entry.file_name().into_string().unwrap().parse().unwrap());
                stalled = Some(StalledClose::begin(numbers.min().unwrap()));
            }
        });
        drop(stalled);
    });
}

#[test]
fn who_sends_what_takes_long_to_close_is_cut_off_and_others_are_served() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Process::start("patient_server", [ground.socket()]);
        server.expect("ready");
        let connect = || Client::builder().descriptors(true).connect(ground.socket()).unwrap();
        let (client, other) = (connect(), connect());
        let call = |client: &Client, what: &[u8], count: usize| {
            let mut loan = client.loan(what.len())?; // which may find that the session is over
            loan.copy_from_slice(what);
            (0..count).try_for_each(|_| loan.attach(numbered(0)))?;
            loan.call_timeout(Duration::from_secs(10)).map(drop)
        };
        // 400 is the limit: 100 are all sessions' share, and 50 of one may wait to be closed.
        call(&client, b"begin", 16).unwrap();
        (0..3).for_each(|_| call(&client, b"", 16).unwrap());
        // Sixty-four, less those that were closed before the one whose closing does not return.
        check(&call(&client, b"", 16).unwrap_err(), ErrorKind::Full, &["is closing 6", "descriptors", "not executed"]);
        let end = std::iter::repeat_with(|| call(&client, b"", 1).unwrap_err());
        let end = { end }.find(|error| error.kind() != ErrorKind::Full).unwrap();
        check(&end, ErrorKind::Violation, &["wait to be closed"]);
        for client in [other, connect()] {
            call(&client, b"", 0).unwrap();
            call(&client, b"", 1).unwrap();
        }
        server.kill();
    }
    nothing_is_left(before);
}

#[test]
fn the_duplicate_is_the_librarys_and_yours_stays_yours() {
    let _alone = alone();
    let served = Served::start(|request| {
        let mut came = request.take_descriptors();
        let mut file = File::from(came.remove(0));
        file.write_all(b"!").map_err(told)
    });
    let client = served.client();
    let mut yours = numbered(b'?');
    let mut loan = client.loan(0).unwrap();
    loan.attach(&yours).unwrap();
    loan.attach(OwnedFd::from(numbered(1))).unwrap();
    drop(loan.call().unwrap());
    yours.write_all(b".").unwrap();
    let mut text = [0; 3];
    rustix::io::pread(&yours, &mut text, 0).unwrap();
    assert_eq!(&text, b"?!.", "both are the same open file, with one position");
}
