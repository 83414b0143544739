//! The exchange between real processes: bytes of every size, typed, pipelined, many clients, every way to wait, and
//! what a handler may do. Every byte that comes back is checked.

#[path = "support/workshop.rs"]
mod workshop;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{
    Client, Contract, ErrorKind, Payload, Reply, Request, Server, TypedClient, TypedReply, TypedServer, Wait,
};
use wigwag_testing::{Ground, LIMIT, Process, check_inverted, eventually, fill, role, word};
use workshop::{ORDER, Workshop, text_of};

const MEBIBYTE: usize = 1 << 20;
const A_MOMENT: Duration = Duration::from_millis(5);

#[test]
#[ignore = "a role: other tests start it as a process"]
fn workshop() {
    role("workshop", workshop::play);
}

/// One call, filled in place, with every byte of the reply checked.
#[track_caller]
fn invert(client: &Client, len: usize, seed: u64) {
    let mut loan = client.loan(len).unwrap();
    assert_eq!(loan.len(), len);
    fill(&mut loan, seed);
    check_inverted(&loan.call().unwrap(), len, seed);
}

/// Calls with an order in words; see [`workshop::obey`].
fn order<'c>(client: &'c Client, words: &str) -> wigwag::Result<Reply<'c>> {
    client.call(format!("{ORDER}{words}").as_bytes())
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

#[test]
fn bytes_of_every_size_come_back_changed() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &[]);
    let client = Client::connect(ground.socket()).unwrap();
    let sizes = [0, 1, 7, 8, 47, 48, 49, 63, 64, 65, 4095, 4096, 4097, 65_536, MEBIBYTE - 1, MEBIBYTE];
    for round in 0..3 {
        for len in sizes.into_iter().chain(sizes.into_iter().rev()) {
            invert(&client, len, round << 32 | len as u64);
        }
    }
    for len in 0..300 {
        invert(&client, len, len as u64);
    }
    assert_eq!(&client.call(b"\x00\x0f\xff").unwrap()[..], [0xff, 0xf0, 0x00]);
    assert_eq!(&client.call(b"").unwrap()[..], []);
    assert_eq!(server.stop(), client.stats().calls);
}

#[test]
fn bodies_of_64_mebibytes_are_exchanged_in_place() {
    let ground = Ground::new();
    let capacity = 64 * MEBIBYTE;
    let _server = Workshop::start(&ground, &[&format!("capacity={capacity}"), "slots=2"]);
    let client = Client::connect(ground.socket()).unwrap();
    assert_eq!(client.capacity(), capacity);
    invert(&client, capacity, 1);
    invert(&client, capacity - 5, 2);
    invert(&client, 48, 3);
}

#[test]
fn a_reply_may_be_shorter_or_longer_than_its_request() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &[]);
    let client = Client::connect(ground.socket()).unwrap();
    let lengths = [0, 1, 47, 48, 49, 64, 5000, MEBIBYTE];
    for request_len in [30, 48, 49, 4096, MEBIBYTE] {
        for reply_len in lengths {
            let order = format!("{ORDER}reply {reply_len} {request_len}");
            let mut loan = client.loan(request_len).unwrap();
            loan.fill(b' ');
            loan[..order.len()].copy_from_slice(order.as_bytes());
            check_inverted(&loan.call().unwrap(), reply_len, request_len as u64);
        }
    }
    let too_long = order(&client, &format!("reply {} 0", MEBIBYTE + 1)).unwrap_err();
    assert_eq!(too_long.kind(), ErrorKind::HandlerFailed);
    assert!(too_long.to_string().contains("1048577 bytes does not fit"), "{too_long}");
}

#[test]
fn what_a_longer_reply_adds_is_zero_whatever_lay_there() {
    const DIRTY: u8 = 0xee;
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || {
        server.serve(|request| {
            if request[0] == DIRTY {
                return Ok(());
            }
            let (shrunk, grown) = (usize::from(request[0]), usize::from(u16::from_le_bytes([request[1], request[2]])));
            request.resize(shrunk)?;
            assert_eq!(request.len(), shrunk);
            request.resize(grown)
        })
    });
    let client = Client::builder().slots(1).connect(ground.socket()).unwrap();
    for (shrunk, grown) in [(3, 10), (3, 48), (3, 49), (3, 4000), (0, 200)] {
        for len in [20, 48, 100] {
            // What a former call left, in the body and in the line.
            drop(client.call(&[DIRTY; 4000]).unwrap());
            drop(client.call(&[DIRTY; 48]).unwrap());
            let mut loan = client.loan(len).unwrap();
            loan.fill(7);
            loan[0] = shrunk;
            loan[1..3].copy_from_slice(&u16::try_from(grown).unwrap().to_le_bytes());
            let reply = loan.call().unwrap();
            assert_eq!(reply.len(), grown);
            assert!(reply[usize::from(shrunk)..].iter().all(|&byte| byte == 0), "{shrunk} {grown} {len}");
        }
    }
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_reply_becomes_the_next_request_where_it_lies() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &["slots=1"]);
    let client = Client::connect(ground.socket()).unwrap();
    let mut reply = client.call(&[9; 10]).unwrap();
    for (round, len) in [10, 48, 30, 60, 5000, 49, 48, 1, 4096].into_iter().enumerate() {
        let expected = if round % 2 == 0 { !9 } else { 9 };
        let common = reply.len().min(len);
        let mut loan = reply.into_loan(len).unwrap();
        assert!(loan[..common].iter().all(|&byte| byte == expected), "{len}: {:?}", &loan[..common]);
        loan.fill(expected);
        reply = loan.call().unwrap();
        assert_eq!(&reply[..], vec![!expected; len]);
    }
    let error = reply.into_loan(client.capacity() + 1).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::CapacityExceeded { .. }));
    drop(client.try_loan(1).unwrap()); // the one slot is free again
}

#[test]
fn what_is_lent_goes_to_other_threads_where_its_owner_does() {
    fn goes<T: Send + Sync>() {}
    goes::<wigwag::Request>();
    goes::<(wigwag::tokio::Loan, wigwag::tokio::Pending, wigwag::tokio::Reply)>();
}

// ---- typed ----------------------------------------------------------------------------------------------------------

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Order {
    id: u64,
    price: i64,
    quantity: u32,
    side: u32,
}

impl Payload for Order {
    const NAME: &'static str = "Order";
    const VERSION: u32 = 2;
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Picture {
    rows: [[u64; 40]; 40],
}

impl Payload for Picture {
    const NAME: &'static str = "Picture";
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn order_book() {
    role("order_book", |parent, arguments| {
        let mut server = TypedServer::<Order>::bind(arguments[0]).unwrap();
        parent.tell("ready");
        server
            .serve(|order| match order.quantity {
                0 => Err("an order of nothing"),
                _ => {
                    order.id += 1;
                    order.price = -order.price;
                    Ok(())
                }
            })
            .unwrap();
    });
}

#[test]
fn a_typed_message_is_served_as_itself() {
    let ground = Ground::new();
    let mut server = Process::start("order_book", [ground.socket()]);
    server.expect("ready");
    let client = TypedClient::<Order>::connect(ground.socket()).unwrap();
    for id in 0..1000 {
        let mut order = client.loan().unwrap();
        *order = Order { id, price: 5, quantity: 1, side: 7 };
        assert_eq!(*order.call().unwrap(), Order { id: id + 1, price: -5, quantity: 1, side: 7 });
    }
    let nothing = Order { id: 1, price: 1, quantity: 0, side: 0 };
    let error = client.call(&nothing).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::HandlerFailed, "an order of nothing"));
    let something = Order { quantity: 1, ..nothing };
    assert_eq!(client.call_timeout(&something, LIMIT).unwrap().price, -1);
    let pending = client.loan().unwrap().into_loan().send();
    assert!(pending.unwrap().wait().is_ok()); // the slot still has `something`

    // The right contract and the wrong length: the handler is not called, and the session lives.
    let raw = Client::builder().contract(Contract::of::<Order>()).connect(ground.socket()).unwrap();
    let error = raw.call(&[1, 2, 3]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerFailed);
    assert!(error.to_string().contains("3 bytes is not a Order of 24"), "{error}");
    assert_eq!(TypedReply::<Order>::new(raw.call(something.as_bytes()).unwrap()).unwrap().id, 2);
    let error = TypedReply::<Picture>::new(raw.call(something.as_bytes()).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Violation);
    assert!(error.to_string().contains("24 bytes is not a Picture of 12800"), "{error}");
}

#[test]
fn a_typed_message_may_be_larger_than_a_line_and_served_by_several_threads() {
    let ground = Ground::new();
    let mut server = TypedServer::<Picture>::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            server.serve_on(2, |picture| picture.rows.iter_mut().flatten().for_each(|dot| *dot = !*dot)).unwrap();
            server.stats().calls
        });
        let clients: Vec<_> = (0..2u64)
            .map(|number| {
                let socket = ground.socket();
                scope.spawn(move || {
                    let client = TypedClient::<Picture>::connect(socket).unwrap();
                    assert_eq!(client.as_client().capacity(), 12_800);
                    for round in 0..20 {
                        let mut picture = client.loan().unwrap();
                        for (index, dot) in picture.rows.iter_mut().flatten().enumerate() {
                            *dot = word(number << 8 | round, index as u64);
                        }
                        let reply = picture.call().unwrap();
                        for (index, dot) in reply.rows.iter().flatten().enumerate() {
                            assert_eq!(*dot, !word(number << 8 | round, index as u64));
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        stop.shutdown();
        assert_eq!(serving.join().unwrap(), 40);
    });
}

// ---- many at a time -------------------------------------------------------------------------------------------------

/// Collects requests and answers each heap in reverse, every one from a thread of its own.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn shuffler() {
    role("shuffler", |parent, arguments| {
        let mut server = Server::builder().slots(16).bind(arguments[0]).unwrap();
        let heap = arguments[1].parse().unwrap();
        parent.tell("ready");
        loop {
            let mut requests: Vec<Request> = (0..heap).map(|_| server.recv().unwrap()).collect();
            let mut later: Option<std::thread::JoinHandle<()>> = None;
            while let Some(mut request) = requests.pop() {
                let before = later.take();
                later = Some(std::thread::spawn(move || {
                    before.into_iter().for_each(|thread| thread.join().unwrap());
                    request.iter_mut().for_each(|byte| *byte = !*byte);
                    request.reply();
                }));
            }
            later.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn answers_may_come_in_any_order() {
    let ground = Ground::new();
    let mut server = Process::start("shuffler", [ground.socket().as_os_str(), "8".as_ref()]);
    server.expect("ready");
    let client = Client::connect(ground.socket()).unwrap();
    for round in 0..20u64 {
        let mut under_way: Vec<_> = (0..8u64)
            .map(|call| {
                let len = (round * 31 + call * 17) as usize;
                let mut loan = client.loan(len).unwrap();
                fill(&mut loan, round << 8 | call);
                (call, len, loan.send().unwrap())
            })
            .collect();
        // Waited for in another order each time.
        while !under_way.is_empty() {
            let (call, len, mut pending) = under_way.swap_remove(round as usize % under_way.len());
            let reply = match pending.try_wait() {
                Some(reply) => reply,
                None if call % 2 == 0 => pending.wait_timeout(LIMIT).expect("an answer in time"),
                None => pending.wait(),
            };
            check_inverted(&reply.unwrap(), len, round << 8 | call);
        }
    }
    assert_eq!(client.stats().calls, 160);
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn inverter() {
    role("inverter", |parent, arguments| {
        let client = Client::connect(arguments[0]).unwrap();
        let number: u64 = arguments[1].parse().unwrap();
        let calls: u64 = arguments[2].parse().unwrap();
        for call in 0..calls {
            let len = word(number, call) as usize % if call % 10 == 0 { 20_000 } else { 100 };
            invert(&client, len, number << 32 | call);
        }
        parent.tell(client.stats().calls);
    });
}

#[test]
fn thirty_two_clients_at_a_time_get_their_own_bytes() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &["threads=2"]);
    let mut clients: Vec<_> = (0..32)
        .map(|number| {
            let socket = ground.socket();
            Process::start("inverter", [socket.as_os_str(), number.to_string().as_ref(), "200".as_ref()])
        })
        .collect();
    clients.iter_mut().for_each(|client| client.expect("200"));
    clients.into_iter().for_each(Process::join);
    assert_eq!(server.stop(), 32 * 200);
}

#[test]
fn several_threads_serve_different_sessions() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &["threads=3"]);
    let clients: Vec<_> = (0..6).map(|_| Client::connect(ground.socket()).unwrap()).collect();
    let thread_of = |client: &Client| order(client, "thread").unwrap().to_vec();
    let threads: Vec<_> = clients.iter().map(thread_of).collect();
    assert_eq!(threads.iter().collect::<HashSet<_>>().len(), 3);
    for _ in 0..10 {
        assert_eq!(clients.iter().map(thread_of).collect::<Vec<_>>(), threads, "a session stays with its thread");
    }
    // A handler that hangs delays only the sessions of its own thread.
    let hang = format!("{ORDER}hang");
    let mut loan = clients[0].loan(hang.len()).unwrap();
    loan.copy_from_slice(hang.as_bytes());
    let pending = loan.send().unwrap();
    for client in clients.iter().zip(&threads).filter(|(_, thread)| **thread != threads[0]).map(|(client, _)| client) {
        invert(client, 100, 1);
    }
    assert!(!pending.is_ready());
}

/// Without any clock: what has been passed is received in turns, however much of it is one session's.
#[test]
fn a_busy_client_does_not_starve_another() {
    let ground = Ground::new();
    let mut server = Server::builder().slots(64).bind(ground.socket()).unwrap();
    let pass = |client: &Client, count: usize| {
        for _ in 0..count {
            // Given up at once: what counts here is when the server gets it.
            drop(client.loan(1).unwrap().send().unwrap());
        }
    };
    let (busy, modest, other) = (
        Client::connect(ground.socket()).unwrap(),
        Client::builder().capacity(1).connect(ground.socket()).unwrap(),
        Client::builder().capacity(2).connect(ground.socket()).unwrap(),
    );
    eventually("the server has all sessions", || server.stats().sessions == 3);
    pass(&busy, 64);
    pass(&modest, 1);
    pass(&other, 1);
    let order: Vec<usize> = (0..66).map(|_| server.recv_timeout(LIMIT).unwrap().unwrap().capacity()).collect();
    let last = |capacity| order.iter().rposition(|&of| of == capacity).unwrap();
    assert!(last(1) < 40 && last(2) < 40, "16 of one session and then the others: {order:?}");
}

// ---- ways to wait ---------------------------------------------------------------------------------------------------

fn every_client_waits_its_own_way_at_a_server_that_waits(its_way: &str) {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &[&format!("wait={its_way}")]);
    let mut calls = 0;
    for wait in [Wait::Adaptive, Wait::Spin, Wait::Park] {
        let client = Client::builder().wait(wait).connect(ground.socket()).unwrap();
        for call in 0..100 {
            invert(&client, call as usize * 3, call);
            if call % 10 == 0 {
                std::thread::sleep(Duration::from_millis(1)); // the server goes to sleep, unless it spins
            }
        }
        assert_eq!(client.stats().calls, 100);
        let work = || drop(order(&client, "work 2").unwrap());
        match wait {
            Wait::Spin => assert_eq!(client.stats().sleeps, 0),
            Wait::Park => eventually("a parking client sleeps", || {
                work();
                client.stats().sleeps > 0
            }),
            _ => {}
        }
        match its_way {
            "spin" => assert_eq!(client.stats().doorbells_rung, 0),
            "park" => eventually("a parking server is rung", || {
                work();
                client.stats().doorbells_rung > 0
            }),
            _ => {}
        }
        calls += client.stats().calls;
    }
    assert_eq!(server.stop(), calls);
}

#[test]
fn every_way_to_wait_at_an_adaptive_server() {
    every_client_waits_its_own_way_at_a_server_that_waits("adaptive");
}

#[test]
fn every_way_to_wait_at_a_spinning_server() {
    every_client_waits_its_own_way_at_a_server_that_waits("spin");
}

#[test]
fn every_way_to_wait_at_a_parking_server() {
    every_client_waits_its_own_way_at_a_server_that_waits("park");
}

/// The server announces that it sleeps and looks once more: the second request of each pair is aimed at the moment in
/// between, from another processor where there is one.
#[test]
fn a_request_is_heard_whenever_it_comes() {
    for its_way in ["park", "adaptive"] {
        let ground = Ground::new();
        let server = Workshop::start(&ground, &[&format!("wait={its_way}"), "processor=last"]);
        workshop::stay_on("first");
        let client = Client::builder().wait(Wait::Spin).connect(ground.socket()).unwrap();
        for pair in 0..4000 {
            let mut first = client.loan(1).unwrap().send().unwrap();
            let end = Instant::now() + Duration::from_nanos(word(6, pair) % 50_000);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            let mut second = client.loan(1).unwrap().send().unwrap();
            for pending in [&mut first, &mut second] {
                assert!(pending.wait_timeout(LIMIT).is_some_and(|reply| reply.is_ok()), "nobody heard pair {pair}");
            }
        }
        server.stop();
    }
}

// ---- what a handler may do ------------------------------------------------------------------------------------------

#[test]
fn errors_and_panics_reach_the_client_as_text_and_the_server_goes_on() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &[]);
    // With a capacity of 8 the text is longer than any reply could be.
    for capacity in [MEBIBYTE, 32] {
        let client = Client::builder().capacity(capacity).connect(ground.socket()).unwrap();
        for len in [11, 48, 49, 1000, 1023, 1024, 1025, 3000] {
            let whole = text_of(len);
            let text = &whole[..whole.floor_char_boundary(1024)];
            let error = order(&client, &format!("fail {len}")).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::HandlerFailed, text));
            let error = order(&client, &format!("panic {len}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
            assert!(error.to_string().ends_with(text), "{error}");
            invert(&client, 20, len as u64);
        }
        assert_eq!(client.stats().abandoned, 0);
    }
}

#[test]
fn a_capacity_of_a_few_bytes_or_none_has_room_for_an_error() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || server.serve(|_| Err::<(), _>(text_of(700))));
    for capacity in [0, 8] {
        let client = Client::builder().capacity(capacity).connect(ground.socket()).unwrap();
        let error = client.call(&vec![1; capacity]).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::HandlerFailed, text_of(700)));
        let error = client.loan(capacity + 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CapacityExceeded { len: capacity + 1, capacity });
    }
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

#[test]
fn requests_are_received_answered_failed_or_dropped() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    assert!(server.try_recv().unwrap().is_none());
    assert!(server.recv_timeout(A_MOMENT).unwrap().is_none());
    let stop = server.shutdown_handle();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = Client::connect(ground.socket()).unwrap();
            assert_eq!(&client.call(b"one").unwrap()[..], b"ONE");
            let error = client.call(b"two").unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::HandlerFailed, "not today"));
            let error = client.call(b"three").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unanswered);
            assert_eq!(
                &client.call(b"four").unwrap()[..],
                b"a longer reply, one that does not lie in the line any more"
            );
            assert!(client.try_loan(1).is_ok());
            stop.shutdown();
        });
        let mut one = server.recv().unwrap();
        assert_eq!(&one[..], b"one");
        assert_eq!((one.capacity(), one.deadline(), one.is_abandoned()), (MEBIBYTE, None, false));
        assert_eq!(one.peer().pid, std::process::id() as i32);
        one.make_ascii_uppercase();
        one.reply();
        loop {
            match server.try_recv().unwrap() {
                Some(two) => break two.fail("not today"),
                None => std::thread::yield_now(),
            }
        }
        drop(server.recv_timeout(LIMIT).unwrap().unwrap());
        let mut four = server.recv().unwrap();
        four.set_reply(b"a longer reply, one that does not lie in the line any more").unwrap();
        four.reply();
        for _ in 0..3 {
            let closed = server.recv().unwrap_err();
            assert_eq!(closed.kind(), ErrorKind::ServerClosed { maybe_executed: false });
        }
        assert!(server.try_recv().is_err() && server.recv_timeout(A_MOMENT).is_err());
    });
}

#[test]
fn the_server_sees_until_when_the_client_waits() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = Client::connect(ground.socket()).unwrap();
            drop(client.call_timeout(b"minute", Duration::from_secs(60)).unwrap());
            drop(client.loan(4).unwrap().call_deadline(Instant::now() + Duration::from_secs(3600)).unwrap());
            drop(client.loan(4).unwrap().send_timeout(Duration::from_secs(60)).unwrap().wait().unwrap());
            drop(client.call_timeout(b"for ever", Duration::MAX).unwrap());
            drop(client.call(b"no deadline on the slot that had one").unwrap());
        });
        let mut left = || {
            let request = server.recv().unwrap();
            let left = request.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            request.reply();
            left
        };
        let about = |seconds| Duration::from_secs(seconds - 30)..=Duration::from_secs(seconds);
        assert!(about(60).contains(&left().unwrap()));
        assert!(about(3600).contains(&left().unwrap()));
        assert!(about(60).contains(&left().unwrap()));
        assert_eq!((left(), left()), (None, None));
    });
}

// ---- giving up ------------------------------------------------------------------------------------------------------

#[test]
fn the_slot_of_an_abandoned_call_comes_back_when_the_server_is_done_with_it() {
    const CALLS: u64 = 50;
    let ground = Ground::new();
    let mut server = Server::builder().slots(2).bind(ground.socket()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = Client::connect(ground.socket()).unwrap();
            for call in 0..CALLS {
                // More often than there are slots: each has to come back.
                let mut loan = client.loan_timeout(8, LIMIT).unwrap();
                loan.copy_from_slice(&call.to_ne_bytes());
                match call % 3 {
                    0 => drop(loan.send().unwrap()),
                    1 => {
                        let error = loan.call_timeout(Duration::from_micros(10)).unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: true });
                    }
                    _ => {
                        let mut pending = loan.send().unwrap();
                        assert!(pending.wait_timeout(Duration::ZERO).is_none());
                        assert!(pending.try_wait().is_none());
                    }
                }
            }
            assert_eq!(client.stats().abandoned, CALLS);
            // Both slots come back, and no third one.
            let one = client.loan(1).unwrap();
            let two = client.loan(1).unwrap();
            assert_eq!(client.try_loan(1).unwrap_err().kind(), ErrorKind::Full);
            drop((one, two));
            drop(client.loan(1).unwrap().call().unwrap());
        });
        let mut came = HashSet::new();
        for number in 0..CALLS {
            let request = server.recv().unwrap();
            came.insert(request.to_vec());
            eventually("the server sees that the call was abandoned", || request.is_abandoned());
            match number % 2 {
                0 => request.reply(),
                _ => drop(request),
            }
        }
        assert_eq!(came.len() as u64, CALLS, "each call came once");
        let last = server.recv().unwrap();
        assert!(!last.is_abandoned());
        last.reply();
    });
}

#[test]
fn a_client_without_a_free_slot_is_told_or_waits() {
    let ground = Ground::new();
    let mut server = Server::builder().slots(2).bind(ground.socket()).unwrap();
    let client = Client::connect(ground.socket()).unwrap();
    let one = client.loan(8).unwrap();
    let two = client.loan(8).unwrap().send().unwrap();
    for error in [
        client.try_loan(8).unwrap_err(),
        client.loan(8).unwrap_err(), // would never end: this thread has them all
        client.loan_timeout(8, LIMIT).unwrap_err(),
        client.call(&[1]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.to_string().contains("all 2 slots") && error.to_string().contains("ClientBuilder::slots"));
    }
    drop(two); // abandoned, and nobody serves it
    assert_eq!(client.try_loan(8).unwrap_err().kind(), ErrorKind::Full);
    let error = client.loan_timeout(8, A_MOMENT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: false });
    drop(one);
    let one = client.call_timeout(&[1], A_MOMENT).unwrap_err();
    assert_eq!(one.kind(), ErrorKind::TimedOut { maybe_executed: true });
    // Served at last, while the client waits for a slot.
    let later = std::thread::spawn(move || {
        std::thread::sleep(A_MOMENT);
        server.recv().unwrap().reply();
        server.recv().unwrap().reply();
        server
    });
    drop((client.loan(8).unwrap(), client.loan_timeout(8, LIMIT).unwrap()));
    let _server = later.join().unwrap();
}

// ---- the end --------------------------------------------------------------------------------------------------------

#[test]
#[ignore = "a role: other tests start it as a process"]
fn caller_until_the_end() {
    role("caller_until_the_end", |parent, arguments| {
        let client = Client::builder().wait(workshop::wait(arguments[1])).connect(arguments[0]).unwrap();
        let mut answered = 0u64;
        let error = loop {
            let mut loan = match client.loan(64) {
                Ok(loan) => loan,
                Err(error) => break error,
            };
            fill(&mut loan, answered);
            match loan.call() {
                Ok(reply) => check_inverted(&reply, 64, answered),
                Err(error) => break error,
            }
            answered += 1;
            if answered == 20 {
                parent.tell("going");
            }
        };
        assert!(matches!(error.kind(), ErrorKind::ServerClosed { .. }), "{error:?}");
        let again = client.call(b"again").unwrap_err();
        assert!(matches!(again.kind(), ErrorKind::ServerClosed { .. }), "{again:?}");
        parent.tell(answered);
    });
}

#[test]
fn a_shutdown_answers_what_was_passed_and_says_farewell() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &["threads=2"]);
    let mut clients: Vec<_> = ["adaptive", "park", "spin", "adaptive"]
        .into_iter()
        .map(|wait| Process::start("caller_until_the_end", [ground.socket().as_os_str(), wait.as_ref()]))
        .collect();
    clients.iter_mut().for_each(|client| client.expect("going"));
    let served = server.stop();
    let answered: u64 = clients.iter_mut().map(|client| client.hear().parse::<u64>().unwrap()).sum();
    clients.into_iter().for_each(Process::join);
    assert_eq!(answered, served, "every request that was served was also answered");
    assert_eq!(std::fs::read_dir(ground.path("")).unwrap().count(), 0, "the name is gone");
    assert_eq!(Client::connect(ground.socket()).unwrap_err().kind(), ErrorKind::NotRunning);
}

#[test]
fn pipelined_requests_that_were_passed_before_the_shutdown_are_served() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let client = Client::connect(ground.socket()).unwrap();
    eventually("the server has the session", || server.stats().sessions == 1);
    let pending: Vec<_> = (0..16u8)
        .map(|call| {
            let mut loan = client.loan(1).unwrap();
            loan[0] = call;
            loan.send().unwrap()
        })
        .collect();
    server.shutdown_handle().shutdown();
    server.serve(|request| request[0] += 100).unwrap();
    for (call, pending) in pending.into_iter().enumerate() {
        assert_eq!(&pending.wait().unwrap()[..], [call as u8 + 100]);
    }
    let error = client.call(b"late").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ServerClosed { .. }), "{error:?}");
}

/// The moment in which a serving thread cools down and goes to sleep is about one microsecond of fifty: it is aimed at.
#[test]
fn a_shutdown_is_heard_whenever_it_comes() {
    for round in 0..300 {
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let quiet = Client::connect(ground.socket()).unwrap();
        let quick = Client::connect(ground.socket()).unwrap();
        let serving = std::thread::spawn(move || server.serve(|_| ()));
        drop(quiet.call(b"").unwrap());
        (0..20).for_each(|_| drop(quick.call(b"").unwrap()));
        let end = Instant::now() + Duration::from_micros(word(5, round) % 80);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        stop.shutdown();
        eventually("the server ends", || serving.is_finished());
        serving.join().unwrap().unwrap();
    }
}

#[test]
fn dropping_the_server_ends_a_call_under_way() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let client = Client::connect(ground.socket()).unwrap();
    let calling = std::thread::spawn(move || client.call(b"hello").map(|reply| reply.to_vec()));
    let request = server.recv().unwrap();
    drop(server);
    let error = calling.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerClosed { maybe_executed: true });
    request.reply(); // too late, and harmless
}

#[test]
fn what_a_server_that_never_served_was_sent_is_known_not_to_have_been_executed() {
    let sent = |socket: &std::path::Path| {
        let client = Client::connect(socket).unwrap();
        let socket = socket.to_owned();
        std::thread::spawn(move || {
            let mut loan = client.loan(5).unwrap();
            loan.copy_from_slice(b"hello");
            let waiting = loan.send().unwrap();
            std::fs::write(socket.with_extension("sent"), "").unwrap();
            waiting.wait().map(drop).unwrap_err()
        })
    };
    let ground = Ground::new();
    let has_sent = || ground.socket().with_extension("sent").exists();
    // One that is dropped, and one that is shut down and dropped.
    for is_shut_down in [false, true] {
        let server = Server::bind(ground.socket()).unwrap();
        let calling = sent(&ground.socket());
        eventually("it was sent", has_sent);
        if is_shut_down {
            server.shutdown_handle().shutdown();
        }
        drop(server);
        let error = calling.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::ServerClosed { maybe_executed: false }, "{error}");
        std::fs::remove_file(ground.socket().with_extension("sent")).unwrap();
    }
    // One that is killed before it serves, and one that had taken the request.
    for (looks, maybe_executed) in [("0", false), ("1", true)] {
        let mut server = Process::start("idle_server", [ground.socket().as_os_str(), looks.as_ref()]);
        server.expect("bound");
        let calling = sent(&ground.socket());
        eventually("it was sent", has_sent);
        server.tell("look");
        server.expect("looked");
        server.kill();
        let error = calling.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed }, "{error}");
        assert_eq!(error.to_string().contains("the request was not executed"), !maybe_executed, "{error}");
        assert!(error.peer_death().is_some_and(|last| last.in_flight == 1));
        std::fs::remove_file(ground.socket().with_extension("sent")).unwrap();
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn idle_server() {
    role("idle_server", |parent, arguments| {
        let mut server = Server::bind(arguments[0]).unwrap();
        parent.tell("bound");
        parent.hear();
        let request = (arguments[1] == "1").then(|| server.recv().unwrap());
        parent.tell("looked");
        parent.hear();
        drop(request);
    });
}

#[test]
fn a_client_moves_to_another_thread_and_has_sisters() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &[]);
    let client = Client::builder().slots(3).capacity(5000).connect(ground.socket()).unwrap();
    let sister = client.try_clone().unwrap();
    assert_eq!((sister.slots(), sister.capacity()), (3, 5000));
    let there = std::thread::spawn(move || {
        invert(&sister, 5000, 1);
        sister
    });
    invert(&client, 5000, 2);
    invert(&there.join().unwrap(), 100, 3);
}

/// Kibibytes of shared memory that a process has touched and still maps.
fn shared_memory_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a burst has touched stays with its session, so a client that is quiet afterwards takes a new session.
#[test]
fn c10_the_memory_of_a_burst_goes_back_with_its_session() {
    const SLOTS: usize = 16;
    let ground = Ground::new();
    let server = Workshop::start(&ground, &[]);
    let mut client = Client::connect(ground.socket()).unwrap();
    invert(&client, 100, 1);
    // The server's process, because this one runs other tests beside.
    let mapped = || shared_memory_kib(server.process.id());
    let before = mapped();
    let burst = (SLOTS * MEBIBYTE / 1024) as u64;
    let pending: Vec<_> = (0..SLOTS)
        .map(|number| {
            let mut loan = client.loan(MEBIBYTE).unwrap();
            fill(&mut loan, number as u64);
            loan.send().unwrap()
        })
        .collect();
    for (number, pending) in pending.into_iter().enumerate() {
        check_inverted(&pending.wait().unwrap(), MEBIBYTE, number as u64);
    }
    assert!(mapped() >= before + burst * 3 / 4, "the burst lies in memory: {before} KiB before, {} after", mapped());
    client = client.try_clone().unwrap();
    invert(&client, 100, 2);
    eventually("the memory of the burst is given back", || mapped() < before + burst / 2);
}

#[test]
fn statistics_add_up() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let failing = Arc::new(AtomicBool::new(false));
    let serving = std::thread::spawn({
        let failing = Arc::clone(&failing);
        move || {
            server.serve_on(2, |_| if failing.load(Ordering::Relaxed) { Err("ordered") } else { Ok(()) }).unwrap();
            server
        }
    });
    let clients: Vec<_> = (0..3).map(|_| Client::connect(ground.socket()).unwrap()).collect();
    for (index, client) in clients.iter().enumerate() {
        for _ in 0..10 * (index + 1) {
            drop(client.call(b"count me").unwrap());
        }
    }
    failing.store(true, Ordering::Relaxed);
    assert!(clients[0].call(b"count me too").is_err());
    let refused = Client::builder().slots(17).connect(ground.socket()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    for (index, client) in clients.iter().enumerate() {
        let stats = client.stats();
        assert_eq!(stats.calls, 10 * (index as u64 + 1) + u64::from(index == 0));
        assert_eq!(stats.abandoned, 0);
        assert!(stats.doorbells_rung <= stats.calls);
    }
    let rung: u64 = clients.iter().map(|client| client.stats().doorbells_rung).sum();
    let slept: u64 = clients.iter().map(|client| client.stats().sleeps).sum();
    stop.shutdown();
    let server = serving.join().unwrap();
    eventually("all sessions are over, and the refusal is counted", || {
        server.stats().sessions == 0 && server.stats().sessions_refused == 1
    });
    let stats = server.stats();
    assert_eq!((stats.calls, stats.sessions_accepted, stats.violations), (61, 3, 0));
    assert!(stats.doorbells_rung <= slept, "{stats:?}");
    assert!(rung > 0 && stats.sleeps > 0, "the first request found the server asleep: {stats:?}");
}

#[test]
fn a_name_leads_to_the_runtime_directory() {
    let ground = Ground::new();
    let mut child = Process::start("named", [ground.path("")]);
    child.expect("done");
    child.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn named() {
    role("named", |parent, arguments| {
        // SAFETY: this process has no other thread that reads the environment: it plays a role, and nothing else.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", arguments[0]) };
        let server = Server::bind("some name").unwrap();
        assert_eq!(server.path(), Path::new(arguments[0]).join("wigwag/some name.sock"));
        let mode = |path: &Path| {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::symlink_metadata(path).unwrap().permissions());
            mode & 0o777
        };
        assert_eq!((mode(server.path()), mode(server.path().parent().unwrap())), (0o600, 0o700));
        drop(Client::connect("some name").unwrap());
        drop(Client::connect(server.path()).unwrap());
        parent.tell("done");
    });
}

#[test]
fn a_spinning_server_outlasts_the_wrap_of_its_idle_counter() {
    // The counter begins near its wrap; in a debug build an addition that is not meant to wrap would panic.
    let ground = Ground::new();
    let server = Workshop::start(&ground, &["wait=spin"]);
    let client = Client::connect(ground.socket()).unwrap();
    for call in 0..3 {
        invert(&client, 10, call);
        std::thread::sleep(Duration::from_millis(20)); // thousands of idle passes
    }
    assert_eq!(server.stop(), 3);
}
