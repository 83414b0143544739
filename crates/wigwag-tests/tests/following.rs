//! Clients that outlive their servers: what was not begun goes on at the successor, once; what was begun is told.
//!
//! Servers are processes that write what they execute into a file, the ledger, before anything else, so that a kill
//! takes nothing of it back. The numbers in it are those of the requests.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{Client, ClientBuilder, ErrorKind, Server, TypedClient, TypedServer, Wait};
use wigwag_testing::{
    Ground, IN_BODY, LIMIT, Link, Offer, Process, Raw, RawServer, SERVER, eventually, fill, limited, role, wire, word,
};

/// So long a successor is looked for that does not come.
const VAINLY: Duration = Duration::from_millis(100);

// ---- servers --------------------------------------------------------------------------------------------------------

/// A server's process. `how`: it `serves`, or it `idles`, so that no thread of its takes the sessions.
struct Service(Process);

impl Service {
    fn start(ground: &Ground, how: &str) -> Service {
        Service::with(ground, how, 1 << 20, 16)
    }

    fn with(ground: &Ground, how: &str, capacity: usize, slots: usize) -> Service {
        let arguments = [how.to_owned(), capacity.to_string(), slots.to_string()].map(std::ffi::OsString::from);
        let paths = [ground.socket(), ledger(ground)].map(PathBuf::into_os_string);
        let mut process = Process::start("service", paths.into_iter().chain(arguments));
        process.expect("ready");
        Service(process)
    }

    fn kill(mut self) {
        self.0.kill();
    }

    /// Its only serving thread does nothing more.
    fn block(&mut self, ground: &Ground) {
        let client = Client::connect(ground.socket()).unwrap();
        let _given_up = filled(&client, NEVER_ENDING, 8).send().unwrap();
        self.0.expect("begun");
    }

    /// This one is killed, and another one takes its place.
    fn replace(self, ground: &Ground) -> Service {
        self.kill();
        Service::start(ground, "serves")
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn service() {
    role("service", play_service);
}

fn play_service(parent: &Link, arguments: &[&str]) {
    let [socket, ledger, how, capacity, slots] = arguments[..] else { panic!("{arguments:?}") };
    let builder = Server::builder().capacity(capacity.parse().unwrap()).slots(slots.parse().unwrap());
    let mut server = builder.bind(Path::new(socket)).unwrap();
    let mut ledger = OpenOptions::new().append(true).create(true).open(ledger).unwrap();
    parent.tell("ready");
    if how == "idles" {
        return park();
    }
    server
        .serve(|request| {
            ledger.write_all(&request[..8]).unwrap(); // in one piece, as it is short
            if request[..8] == NEVER_ENDING.to_ne_bytes() {
                parent.tell("begun");
                park();
            }
            request.iter_mut().for_each(|byte| *byte = !*byte);
        })
        .unwrap();
}

fn park() {
    loop {
        std::thread::park();
    }
}

fn ledger(ground: &Ground) -> PathBuf {
    ground.path("ledger")
}

/// A request that is begun, and never ended.
const NEVER_ENDING: u64 = 1 << 40;

/// How often each number was executed.
fn executed(ground: &Ground) -> HashMap<u64, usize> {
    let bytes = fs::read(ledger(ground)).unwrap_or_default();
    let mut counts = HashMap::new();
    for number in bytes.chunks_exact(8) {
        *counts.entry(u64::from_ne_bytes(number.try_into().unwrap())).or_default() += 1;
    }
    counts
}

#[track_caller]
fn each_was_executed_once(ground: &Ground, numbers: impl IntoIterator<Item = u64>) {
    assert_eq!(executed(ground), numbers.into_iter().map(|number| (number, 1)).collect());
}

// ---- requests -------------------------------------------------------------------------------------------------------

fn following() -> ClientBuilder {
    Client::builder().follow_restarts(LIMIT)
}

/// A request that begins with its number.
fn request(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, number);
    bytes[..8].copy_from_slice(&number.to_ne_bytes());
    bytes
}

#[track_caller]
fn is_answered(reply: &[u8], number: u64, len: usize) {
    let expected: Vec<u8> = request(number, len).iter().map(|byte| !byte).collect();
    assert!(*reply == expected, "the reply to {number}");
}

fn filled(client: &Client, number: u64, len: usize) -> wigwag::Loan<'_> {
    let mut loan = client.loan(len).unwrap();
    loan.copy_from_slice(&request(number, len));
    loan
}

/// Lengths in the line, at its edge, and in the body.
const LENGTHS: [usize; 5] = [8, 48, 49, 5000, 100_000];

// ---- what goes on ---------------------------------------------------------------------------------------------------

#[test]
fn what_nobody_has_begun_goes_on_at_the_successor_once() {
    limited(|| {
        for (wait, is_served) in [(Wait::Adaptive, false), (Wait::Adaptive, true), (Wait::Park, true)] {
            let ground = Ground::new();
            let mut service = Service::start(&ground, if is_served { "serves" } else { "idles" });
            let client = following().wait(wait).connect(ground.socket()).unwrap();
            if is_served {
                is_answered(&client.call(&request(0, 8)).unwrap(), 0, 8);
                service.block(&ground);
                fs::remove_file(ledger(&ground)).unwrap();
            }
            let calls: Vec<_> =
                (0..).zip(LENGTHS).map(|(number, len)| filled(&client, number, len).send().unwrap()).collect();
            let service = service.replace(&ground);
            for ((number, len), call) in (0..).zip(LENGTHS).zip(calls) {
                is_answered(&call.wait().unwrap(), number, len);
            }
            each_was_executed_once(&ground, 0..LENGTHS.len() as u64);
            let stats = client.stats();
            let calls = 5 + u64::from(is_served);
            assert_eq!((stats.moved, stats.calls, stats.reconnects, stats.in_flight), (5, calls, 1, 0));
            service.kill();
        }
    });
}

#[test]
fn a_thread_that_sleeps_for_its_reply_gets_it_from_the_successor() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let client = following().wait(Wait::Park).connect(ground.socket()).unwrap();
        std::thread::scope(|scope| {
            let caller = scope.spawn(move || {
                is_answered(&client.call(&request(7, 5000)).unwrap(), 7, 5000);
                client.stats()
            });
            std::thread::sleep(Duration::from_millis(20)); // most likely it sleeps; any moment is right
            let _service = service.replace(&ground);
            assert_eq!(caller.join().unwrap().moved, 1);
        });
        each_was_executed_once(&ground, [7]);
    });
}

#[test]
fn what_was_begun_is_told_and_never_passed_again() {
    limited(|| {
        let ground = Ground::new();
        let mut service = Service::start(&ground, "serves");
        let client = following().connect(ground.socket()).unwrap();
        let begun = filled(&client, NEVER_ENDING, 5000).send().unwrap();
        service.0.expect("begun");
        let waiting = filled(&client, 2, 5000).send().unwrap();
        let service = service.replace(&ground);
        let error = begun.wait_or_payload().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }, "{error}");
        assert_eq!(error.into_payload().unwrap(), request(NEVER_ENDING, 5000));
        is_answered(&waiting.wait().unwrap(), 2, 5000);
        each_was_executed_once(&ground, [NEVER_ENDING, 2]);
        assert_eq!(client.stats().moved, 1);
        service.kill();
    });
}

#[test]
fn loans_and_replies_outlive_any_number_of_servers() {
    limited(|| {
        let ground = Ground::new();
        let mut service = Service::start(&ground, "serves");
        let client = following().connect(ground.socket()).unwrap();
        let reply = client.call(&request(1, 5000)).unwrap();
        let loans: Vec<_> = (2..).zip(LENGTHS).map(|(number, len)| filled(&client, number, len)).collect();
        for number in 100..103 {
            service = service.replace(&ground);
            is_answered(&client.call(&request(number, 8)).unwrap(), number, 8);
        }
        is_answered(&reply, 1, 5000);
        for ((number, len), loan) in (2..).zip(LENGTHS).zip(loans) {
            is_answered(&loan.call().unwrap(), number, len);
        }
        let mut again = reply.into_loan(5000).unwrap();
        again.copy_from_slice(&request(99, 5000));
        is_answered(&again.call().unwrap(), 99, 5000);
        each_was_executed_once(&ground, (1..7).chain(99..103));
        assert_eq!(client.stats().reconnects, 3);
        service.kill();
    });
}

/// Arguments: the socket. Each reply becomes the next request, when it is told to; it says how many sessions it has.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn recycler() {
    role("recycler", |parent, arguments| {
        let client = following().connect(arguments[0]).unwrap();
        let mut reply = client.call(&request(1, 5000)).unwrap();
        for number in 2.. {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            parent.tell(maps.matches("memfd:wigwag").count());
            if parent.hear().is_none() {
                return;
            }
            let mut loan = reply.into_loan(5000).unwrap();
            loan.copy_from_slice(&request(number, 5000));
            reply = loan.call().unwrap();
            is_answered(&reply, number, 5000);
        }
    });
}

#[test]
fn who_makes_each_reply_the_next_request_keeps_no_former_sessions() {
    limited(|| {
        let ground = Ground::new();
        let mut service = Service::start(&ground, "serves");
        let mut recycler = Process::start("recycler", [ground.socket()]);
        for _ in 0..6 {
            let sessions: usize = recycler.hear().parse().unwrap();
            assert!(sessions <= 2, "{sessions} sessions are kept: the one of the reply, and the one it was called in");
            service = service.replace(&ground);
            recycler.tell("once more");
        }
        recycler.kill();
        service.kill();
    });
}

#[test]
fn a_search_that_ran_out_while_nobody_waited_costs_the_next_call_nothing() {
    limited(|| {
        const TIME: Duration = Duration::from_millis(300);
        let ground = Ground::new();
        let service = Service::start(&ground, "serves");
        let client = Client::builder().reconnect(TIME).connect(ground.socket()).unwrap();
        let receiver = wigwag::Receiver::bind(ground.path("queue")).unwrap();
        let builder = wigwag::Sender::builder().server_timeout(TIME);
        let mut sender = builder.connect(ground.path("queue")).unwrap();
        service.kill();
        drop(receiver);
        // Each begins to look, and has no time to.
        client.call(&request(1, 8)).unwrap_err();
        assert!(client.try_loan(8).is_err());
        while sender.try_send(b"early").is_ok() {
            std::thread::sleep(Duration::from_millis(1)); // it has not noticed yet
        }
        std::thread::sleep(TIME);
        std::thread::scope(|scope| {
            let calling = scope.spawn(move || is_answered(&client.call(&request(2, 8)).unwrap(), 2, 8));
            let sending = scope.spawn(move || sender.send(b"late").unwrap());
            std::thread::sleep(TIME / 10);
            let service = Service::start(&ground, "serves");
            let _receiver = wigwag::Receiver::bind(ground.path("queue")).unwrap();
            calling.join().unwrap();
            sending.join().unwrap();
            service.kill();
        });
    });
}

#[test]
fn a_reply_that_was_passed_before_the_end_counts() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "serves");
        let client = following().connect(ground.socket()).unwrap();
        let call = filled(&client, 1, 5000).send().unwrap();
        eventually("the reply", || call.is_ready());
        service.kill();
        is_answered(&call.wait().unwrap(), 1, 5000);
        each_was_executed_once(&ground, [1]);
    });
}

#[test]
fn many_clients_of_one_server_all_follow() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let clients: Vec<Client> = (0..20).map(|_| following().connect(ground.socket()).unwrap()).collect();
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..)
                .zip(clients)
                .map(|(number, client)| {
                    scope.spawn(move || is_answered(&client.call(&request(number, 100)).unwrap(), number, 100))
                })
                .collect();
            let _service = service.replace(&ground);
            callers.into_iter().for_each(|caller| caller.join().unwrap());
        });
        each_was_executed_once(&ground, 0..20);
    });
}

#[test]
fn polling_follows_too_and_never_waits() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let client = following().connect(ground.socket()).unwrap();
        let mut call = filled(&client, 1, 5000).send().unwrap();
        service.kill();
        for _ in 0..2000 {
            assert!(call.try_wait().is_none(), "there is no server");
        }
        assert!(call.wait_timeout(Duration::from_millis(1)).is_none());
        assert!(
            matches!(client.try_loan(8), Err(error) if error.kind() == ErrorKind::PeerDied { maybe_executed: false })
        );
        let _service = Service::start(&ground, "serves");
        let mut reply = None;
        eventually("the reply", || {
            reply = call.try_wait();
            reply.is_some()
        });
        is_answered(&reply.unwrap().unwrap(), 1, 5000);
        assert!(call.try_wait().is_none(), "it was taken");
        each_was_executed_once(&ground, [1]);
    });
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C)]
struct Order {
    number: u64,
    amount: u64,
}

impl wigwag::Payload for Order {
    const NAME: &'static str = "Order";
}

/// In this process: a server that leaves says what it has not taken.
#[test]
fn typed_calls_go_on_after_a_shutdown() {
    limited(|| {
        let ground = Ground::new();
        let name = ground.socket();
        let first = TypedServer::<Order>::bind(&name).unwrap();
        let client: TypedClient<Order> = following().connect_typed(&name).unwrap();
        let mut loan = client.loan().unwrap();
        *loan = Order { number: 1, amount: 5 };
        let call = loan.send().unwrap();
        let kept = client.loan().unwrap();
        drop(first);
        let mut second = TypedServer::<Order>::bind(&name).unwrap();
        let stop = second.shutdown_handle();
        let serving = std::thread::spawn(move || second.serve(|order| order.amount += 1));
        assert_eq!(call.wait().unwrap().amount, 6);
        assert_eq!(kept.call().unwrap().amount, 1);
        stop.shutdown();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn encoded_calls_go_on_after_a_shutdown() {
    limited(|| {
        let ground = Ground::new();
        let name = ground.socket();
        let first = Server::bind(&name).unwrap();
        let client = following().connect(&name).unwrap();
        std::thread::scope(|scope| {
            let caller = scope.spawn(move || client.call_with::<_, (String, u32)>(&("word", 7u32)).unwrap());
            std::thread::sleep(Duration::from_millis(20)); // most likely it has passed its request; any moment is right
            drop(first);
            let mut second = Server::bind(&name).unwrap();
            let stop = second.shutdown_handle();
            scope.spawn(move || second.serve_with(|pair: (String, u32)| Ok::<_, String>(pair)).unwrap());
            assert_eq!(caller.join().unwrap(), ("word".to_owned(), 7));
            stop.shutdown();
        });
    });
}

// ---- what does not --------------------------------------------------------------------------------------------------

#[test]
fn what_does_not_fit_into_the_successor_comes_back() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let client = following().connect(ground.socket()).unwrap();
        let passed = filled(&client, 1, 5000).send().unwrap();
        let kept = filled(&client, 2, 5000);
        let small = filled(&client, 3, 100).send().unwrap();
        let also = filled(&client, 4, 100).send().unwrap();
        service.kill();
        let service = Service::with(&ground, "serves", 1000, 1);
        let too_small = ErrorKind::CapacityExceeded { len: 5000, capacity: 1000 };
        let error = passed.wait_or_payload().unwrap_err();
        assert_eq!(error.kind(), too_small, "{error}");
        assert_eq!(error.into_payload().unwrap(), request(1, 5000));
        let error = kept.call_or_payload().unwrap_err();
        assert_eq!((error.kind(), error.payload()), (too_small, Some(&request(2, 5000))), "{error}");
        assert_eq!((client.capacity(), client.slots()), (1000, 1));
        assert_eq!(client.loan(5000).unwrap_err().kind(), too_small);
        let reply = small.wait().unwrap();
        is_answered(&reply, 3, 100);
        // The only slot there is has the reply: waiting for it would never end.
        let error = also.wait_or_payload().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false }, "{error}");
        assert_eq!(error.into_payload().unwrap(), request(4, 100));
        drop(reply);
        is_answered(&client.call(&request(5, 100)).unwrap(), 5, 100);
        each_was_executed_once(&ground, [3, 5]);
        service.kill();
    });
}

#[test]
fn a_server_that_never_returns_is_told_with_the_time_and_the_name() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let client = Client::builder().follow_restarts(VAINLY).connect(ground.socket()).unwrap();
        let calls = [filled(&client, 1, 5000).send().unwrap(), filled(&client, 2, 8).send().unwrap()];
        service.kill();
        for call in calls {
            let error = call.wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false });
            let text = error.to_string();
            let path = ground.socket();
            for part in ["none came within 100 ms", "follow_restarts", path.to_str().unwrap(), "not executed"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert_eq!(client.loan(8).unwrap_err().kind(), ErrorKind::PeerDied { maybe_executed: false });
        let service = Service::start(&ground, "serves");
        is_answered(&client.call(&request(3, 8)).unwrap(), 3, 8); // each call looks again
        each_was_executed_once(&ground, [3]);
        service.kill();
    });
}

#[test]
fn a_calls_own_time_holds_while_there_is_no_server() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let client = following().connect(ground.socket()).unwrap();
        let passed = filled(&client, 1, 100).send().unwrap();
        let kept = filled(&client, 2, 100);
        service.kill();
        let none = ErrorKind::TimedOut { maybe_executed: false };
        assert_eq!(kept.call_timeout(VAINLY).unwrap_err().kind(), none);
        assert_eq!(client.loan_timeout(8, VAINLY).unwrap_err().kind(), none);
        assert_eq!(client.call_timeout(&request(3, 8), VAINLY).unwrap_err().kind(), none);
        let service = Service::start(&ground, "serves");
        is_answered(&passed.wait().unwrap(), 1, 100);
        each_was_executed_once(&ground, [1]);
        service.kill();
    });
}

#[test]
fn the_successor_is_told_the_time_that_a_call_may_take() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let client = following().connect(ground.socket()).unwrap();
        let before = std::time::Instant::now();
        let pending = filled(&client, 1, 100).send_timeout(LIMIT).unwrap();
        let after = std::time::Instant::now();
        service.kill();
        let mut server = Server::bind(ground.socket()).unwrap();
        std::thread::scope(|scope| {
            let serving = scope.spawn(move || {
                let request = server.recv().unwrap();
                let deadline = request.deadline().unwrap();
                request.reply();
                (deadline, server)
            });
            assert_eq!(pending.wait().unwrap().len(), 100);
            let (deadline, _server) = serving.join().unwrap();
            assert!(before + LIMIT <= deadline && deadline <= after + LIMIT);
        });
    });
}

#[test]
fn a_call_that_was_given_up_is_not_passed_again() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let client = following().connect(ground.socket()).unwrap();
        let (dropped, late) = (filled(&client, 1, 100).send().unwrap(), filled(&client, 2, 100).send().unwrap());
        drop(dropped);
        let has_it = ErrorKind::TimedOut { maybe_executed: true };
        assert_eq!(client.call_timeout(&request(3, 100), Duration::from_millis(5)).unwrap_err().kind(), has_it);
        let service = service.replace(&ground);
        drop(late);
        is_answered(&client.call(&request(4, 100)).unwrap(), 4, 100);
        each_was_executed_once(&ground, [4]);
        service.kill();
    });
}

#[test]
fn a_server_that_is_stopped_is_not_left() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "serves");
        let client = following().connect(ground.socket()).unwrap();
        is_answered(&client.call(&request(1, 100)).unwrap(), 1, 100);
        service.0.signal(Signal::STOP);
        let mut call = filled(&client, 2, 100).send().unwrap();
        let early = call.wait_timeout(VAINLY); // a signal stops a process a moment later
        service.0.signal(Signal::CONT);
        let reply = early.unwrap_or_else(|| call.wait());
        is_answered(&reply.unwrap(), 2, 100);
        assert_eq!((client.stats().moved, client.stats().reconnects), (0, 0));
        each_was_executed_once(&ground, [1, 2]);
    });
}

/// The bit of the feature.
const BEGUN: u8 = 1 << 1;

/// A server by hand that has agreed to mark what it begins.
fn serve_marking(server: &RawServer) -> Raw {
    const WELCOME_FEATURES: usize = 8;
    let socket = server.accept();
    assert_eq!(wire::receive(&socket).expect("a greeting").bytes[0], 1);
    let mut offer = Offer::new(4, 5000);
    let features = offer.welcome.len() - wire::WELCOME_EXTENSION.len() + WELCOME_FEATURES;
    offer.welcome[features] |= BEGUN;
    let raw = offer.send(socket).unwrap();
    assert_eq!(wire::receive(&raw.socket).expect("an answer").bytes, wire::READY);
    raw
}

#[test]
fn a_server_marks_what_it_begins_for_who_asks_for_that() {
    const HELLO_FEATURES: usize = 38;
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    for (offered, kind) in [(0, 1), (BEGUN, 10)] {
        let mut greeting = wire::hello();
        greeting[HELLO_FEATURES] = offered;
        let raw = Raw::connect_saying(&ground.socket(), greeting, 4, 5000, 0);
        for (sequence, request) in (1..).zip([vec![7; 8], vec![7; 5000]]) {
            raw.send(0, sequence, &request);
            let held = server.recv().unwrap();
            let flag = if request.len() > 48 { IN_BODY } else { 0 };
            assert_eq!(raw.head(0).load(Ordering::Relaxed), kind << 32 | flag | request.len() as u64);
            held.reply();
            raw.wait(0);
        }
    }
}

/// Where a server says that it takes nothing any more.
const CLOSED: usize = 1152 + 12;
const FAREWELL_MOVED: &[u8] = b"\x05\x08it has moved";

/// A server that lives says farewell: it has given its name to another one.
#[test]
fn a_farewell_lets_a_call_go_on_if_the_server_has_said_that_it_takes_nothing_any_more() {
    for is_closed in [false, true] {
        limited(move || {
            let ground = Ground::new();
            let server = RawServer::bind(&ground.socket());
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let client = following().wait(Wait::Spin).connect(ground.socket()).unwrap();
                    (client.call(&request(1, 100)).map(|reply| reply.len()), client.stats().moved)
                });
                let passed = |raw: &Raw| raw.turn(0).load(Ordering::Acquire) & SERVER != 0;
                let first = serve_marking(&server);
                eventually("a request", || passed(&first));
                first.half(CLOSED).store(is_closed.into(), Ordering::Release);
                wire::send(&first.socket, FAREWELL_MOVED, &[]).unwrap();
                if is_closed {
                    let second = serve_marking(&server);
                    eventually("the same request", || passed(&second));
                    assert_eq!(second.read(0, true, 100), request(1, 100));
                    second.head(0).store(2 << 32 | 3, Ordering::Relaxed);
                    second.turn(0).fetch_and(!SERVER, Ordering::AcqRel);
                    let (outcome, moved) = waiter.join().unwrap();
                    assert_eq!((outcome.unwrap(), moved), (3, 1));
                } else {
                    let (outcome, moved) = waiter.join().unwrap();
                    let kind = outcome.unwrap_err().kind();
                    assert_eq!((kind, moved), (ErrorKind::ServerClosed { maybe_executed: true }, 0));
                }
            });
        });
    }
}

#[test]
fn a_call_that_meets_one_server_after_the_other_keeps_no_session_of_theirs() {
    limited(|| {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        let mut caller = Process::start("caller", [ground.socket().into_os_string(), "0".into(), "1".into()]);
        for before in 0..20 {
            let raw = serve_marking(&server);
            eventually("the same request", || raw.turn(0).load(Ordering::Acquire) & SERVER != 0);
            let maps = fs::read_to_string(format!("/proc/{}/maps", caller.id())).unwrap();
            let sessions = maps.lines().filter(|line| line.contains("/memfd:wigwag")).count();
            assert!(sessions <= 3, "{sessions} sessions after {before} servers: this one, and the one it comes from");
            raw.half(CLOSED).store(1, Ordering::Release);
            wire::send(&raw.socket, FAREWELL_MOVED, &[]).unwrap();
        }
        caller.kill();
    });
}

#[test]
fn a_hang_up_alone_is_no_end() {
    limited(|| {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let client = Client::builder().follow_restarts(VAINLY).connect(ground.socket()).unwrap();
                let outcome = client.call(&request(1, 100)).map(drop);
                (outcome, client.stats().moved)
            });
            let raw = serve_marking(&server);
            eventually("a request", || raw.turn(0).load(Ordering::Acquire) & SERVER != 0);
            drop(raw); // this process lives, and might have begun it still
            let (outcome, moved) = waiter.join().unwrap();
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), moved), (ErrorKind::PeerDied { maybe_executed: true }, 0), "{error}");
            assert!(error.to_string().contains("has not ended"), "{error}");
        });
    });
}

#[test]
fn a_server_that_marks_nothing_is_not_followed() {
    limited(|| {
        let ground = Ground::new();
        let mut old = Process::start("unmarking_service", [ground.socket()]);
        old.expect("ready");
        let client = following().connect(ground.socket()).unwrap();
        let call = filled(&client, 1, 100).send().unwrap();
        old.kill();
        let service = Service::start(&ground, "serves");
        let error = call.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }, "{error}");
        is_answered(&client.call(&request(2, 100)).unwrap(), 2, 100); // the next one goes there
        each_was_executed_once(&ground, [2]);
        service.kill();
    });
}

/// It speaks protocol 1.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn unmarking_service() {
    role("unmarking_service", |parent, arguments| {
        let server = RawServer::bind(Path::new(arguments[0]));
        parent.tell("ready");
        let socket = server.accept();
        drop(wire::receive(&socket).unwrap());
        wire::send(&socket, b"\x04\x03the server speaks protocol 1", &[]).unwrap();
        let socket = server.accept();
        drop(wire::receive(&socket).unwrap());
        let raw = Offer::in_form(4, 5000, 0).of_version_1().send(socket).unwrap();
        assert_eq!(wire::receive(&raw.socket).unwrap().bytes, wire::READY);
        park();
    });
}

#[test]
fn who_only_reconnects_passes_nothing_twice() {
    limited(|| {
        let ground = Ground::new();
        let service = Service::start(&ground, "idles");
        let client = Client::builder().reconnect(LIMIT).connect(ground.socket()).unwrap();
        let call = filled(&client, 1, 100).send().unwrap();
        let kept = filled(&client, 2, 5000);
        let service = service.replace(&ground);
        assert!(matches!(call.wait().unwrap_err().kind(), ErrorKind::PeerDied { .. }));
        is_answered(&kept.call().unwrap(), 2, 5000);
        is_answered(&client.call(&request(3, 100)).unwrap(), 3, 100);
        each_was_executed_once(&ground, [2, 3]);
        assert_eq!((client.stats().reconnects, client.stats().moved), (1, 0));
        service.kill();
    });
}

// ---- again and again ------------------------------------------------------------------------------------------------

/// Calls until it is told to stop, and says what became of its calls and what it has in the end.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn caller() {
    role("caller", |parent, arguments| {
        let [socket, first, step] = arguments[..] else { panic!("{arguments:?}") };
        let (first, step): (u64, u64) = (first.parse().unwrap(), step.parse().unwrap());
        let client = following().connect(Path::new(socket)).unwrap();
        let has = || {
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            let segments = maps.lines().filter(|line| line.contains("/memfd:wigwag")).count();
            (fs::read_dir("/proc/self/fd").unwrap().count(), segments)
        };
        let before = has();
        parent.tell("calls");
        let (mut answered, mut maybe) = (Vec::new(), Vec::new());
        let mut number = first;
        while !parent.has_said_something(Some(Duration::ZERO)).unwrap() {
            let len = 8 + word(3, number) as usize % 200;
            match client.call(&request(number, len)) {
                Ok(reply) => {
                    is_answered(&reply, number, len);
                    answered.push(number.to_string());
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }, "{error}");
                    maybe.push(number.to_string());
                }
            }
            number += step;
        }
        drop(client.loan(8).unwrap()); // what nobody needs any more goes with the next call
        assert_eq!(has(), before);
        parent.tell(answered.join(" "));
        parent.tell(maybe.join(" "));
        parent.tell(client.stats().reconnects);
    });
}

#[test]
fn five_kills_lose_no_call_and_execute_none_twice() {
    limited(|| {
        const CALLERS: u64 = 3;
        let ground = Ground::new();
        let mut service = Service::start(&ground, "serves");
        let socket = ground.socket().into_os_string().into_string().unwrap();
        let mut callers: Vec<Process> = (0..CALLERS)
            .map(|first| Process::start("caller", [socket.clone(), first.to_string(), CALLERS.to_string()]))
            .collect();
        callers.iter_mut().for_each(|caller| caller.expect("calls"));
        let count = |ground: &Ground| fs::metadata(ledger(ground)).map_or(0, |ledger| ledger.len());
        for _ in 0..5 {
            let before = count(&ground);
            eventually("calls", || count(&ground) > before + 100 * 8);
            service = service.replace(&ground);
        }
        let before = count(&ground);
        eventually("calls", || count(&ground) > before + 100 * 8);
        callers.iter().for_each(|caller| caller.tell("stop"));
        let numbers = |line: String| line.split_whitespace().map(|word| word.parse::<u64>().unwrap()).collect();
        let said: Vec<(Vec<u64>, Vec<u64>, String)> =
            callers.iter_mut().map(|caller| (numbers(caller.hear()), numbers(caller.hear()), caller.hear())).collect();
        let counts = executed(&ground);
        for (answered, maybe, reconnects) in said {
            assert!((1..=5).contains(&reconnects.parse::<u64>().unwrap()), "{reconnects}");
            for number in answered {
                assert_eq!(counts.get(&number), Some(&1), "{number}");
            }
            for number in &maybe {
                assert!(counts.get(number).copied().unwrap_or(0) <= 1, "{number}");
            }
            assert!(maybe.len() <= 5, "one of each kill at most: {maybe:?}");
        }
        service.kill();
    });
}
