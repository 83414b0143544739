//! What was built in a loan is not lost with the server, and what was not executed is known not to have been.

use std::time::Duration;

use wigwag::observe::{Observer, ThreadState};
use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{CallError, Client, ErrorKind, Server, TypedClient, TypedServer, Wait};
use wigwag_testing::{Ground, LIMIT, Process, eventually, role};

#[test]
#[ignore = "a role: other tests start it as a process"]
fn waiter_that_serves() {
    role("waiter_that_serves", |parent, arguments| {
        let [socket] = arguments[..] else { panic!("{arguments:?}") };
        let mut server = Server::builder().wait(Wait::Park).bind(socket).unwrap();
        parent.tell("ready");
        let stays = |request: &mut wigwag::Request| {
            if request.first() == Some(&b'!') {
                request[0] = b'?';
                parent.tell("begun");
                std::thread::sleep(LIMIT); // until it is killed
            }
        };
        server.serve(stays).unwrap();
    });
}

fn serving(ground: &Ground) -> Process {
    let mut process = Process::start("waiter_that_serves", [ground.socket()]);
    process.expect("ready");
    process
}

/// Kills a server that sleeps, and is known to.
fn kill_asleep(ground: &Ground, mut process: Process) {
    let observer = Observer::open(ground.socket()).unwrap();
    eventually("the server sleeps", || {
        observer.snapshot().unwrap().threads.iter().all(|thread| thread.state == ThreadState::Asleep)
    });
    process.kill();
}

const NOT_EXECUTED: ErrorKind = ErrorKind::PeerDied { maybe_executed: false };

#[test]
fn f7_6_a_call_after_the_death_of_a_sleeping_server_says_that_nothing_was_executed() {
    let ground = Ground::new();
    let process = serving(&ground);
    let client = Client::connect(ground.socket()).unwrap();
    client.call(b"before").unwrap();
    let loan = client.loan(5000).unwrap();
    kill_asleep(&ground, process);
    assert_eq!(client.loan(8).unwrap().send().unwrap_err().kind(), NOT_EXECUTED);
    assert_eq!(loan.call().unwrap_err().kind(), NOT_EXECUTED);
    assert_eq!(client.call(b"after").unwrap_err().kind(), NOT_EXECUTED);

    let process = serving(&ground);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = wigwag::tokio::Client::connect(ground.socket()).await.unwrap();
        client.call(b"before").await.unwrap();
        kill_asleep(&ground, process);
        assert_eq!(client.call(b"after").await.unwrap_err().kind(), NOT_EXECUTED);
    });
}

#[test]
fn f7_6_the_payload_comes_back_from_a_server_that_had_not_begun() {
    let ground = Ground::new();
    for len in [3, 48, 49, 100_000] {
        let process = serving(&ground);
        let client = Client::connect(ground.socket()).unwrap();
        client.call(b"before").unwrap();
        let mut loan = client.loan(len).unwrap();
        loan.fill(7);
        kill_asleep(&ground, process);
        let error = loan.call_or_payload().unwrap_err();
        assert_eq!((error.kind(), error.error().peer_death().is_some()), (NOT_EXECUTED, true));
        assert_eq!(error.into_payload().unwrap(), vec![7; len]);
    }
}

#[test]
fn f7_6_the_payload_comes_back_as_a_killed_handler_left_it() {
    let ground = Ground::new();
    let mut process = serving(&ground);
    let client = Client::connect(ground.socket()).unwrap();
    let mut loan = client.loan(5000).unwrap();
    loan.fill(b'!');
    std::thread::scope(|scope| {
        scope.spawn(move || {
            process.expect("begun");
            process.kill();
        });
        let error = loan.call_or_payload().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true });
        let payload = error.into_payload().unwrap();
        assert_eq!((payload[0], &payload[1..]), (b'?', &[b'!'; 4999][..]));
    });
}

#[test]
fn f7_6_the_payload_comes_back_when_the_time_is_over_and_not_with_an_answer() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let client = Client::connect(ground.socket()).unwrap();
    let loan = || {
        let mut loan = client.loan(100).unwrap();
        loan.fill(7);
        loan
    };
    let late = loan().call_timeout_or_payload(Duration::from_millis(1)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut { maybe_executed: true });
    assert_eq!(late.payload().unwrap()[..], [7; 100]);
    server.recv().unwrap().reply();
    let pending = loan().send().unwrap();
    server.recv().unwrap().fail("no");
    let (error, payload) = pending.wait_or_payload().unwrap_err().into_parts();
    assert_eq!((error.kind(), payload), (ErrorKind::HandlerFailed, None), "its text took the payload's place");
    let pending = loan().send().unwrap();
    drop(server);
    let closed = pending.wait_or_payload().unwrap_err();
    assert_eq!(closed.payload().unwrap()[..], [7; 100]);
    assert!(matches!(CallError::into_error(closed).kind(), ErrorKind::ServerClosed { .. }));
}

/// What a gateway passes on has the kind that its own call ended with, and lies where the request was.
#[test]
fn an_answer_is_no_payload_whatever_its_kind() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let _elsewhere = Server::bind(ground.path("elsewhere")).unwrap();
    let dead = |executed: bool| {
        let client = Client::connect(ground.path("elsewhere")).unwrap();
        match executed {
            true => client.call_timeout(b"", Duration::from_millis(1)).unwrap_err(),
            false => Client::connect(ground.path("nobody")).unwrap_err(),
        }
    };
    let client = Client::connect(ground.socket()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let for_tasks = wigwag::tokio::Client::from_blocking(Client::connect(ground.socket()).unwrap()).unwrap();
    for executed in [true, false] {
        let error = dead(executed);
        let pending = client.loan(100).unwrap().send().unwrap();
        server.recv().unwrap().fail_as(&error);
        let answer = pending.wait_or_payload().unwrap_err();
        assert_eq!((answer.kind(), answer.payload()), (error.kind(), None));
        let loan = for_tasks.try_loan(100).unwrap();
        let (answer, ()) = runtime
            .block_on(async { tokio::join!(loan.call_or_payload(), async { server.recv().unwrap().fail_as(&error) }) });
        let answer = answer.unwrap_err();
        assert_eq!((answer.kind(), answer.payload()), (error.kind(), None));
    }
}

#[test]
fn f7_6_a_task_gets_the_payload_of_its_own_call() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = wigwag::tokio::Client::builder().slots(1).connect_async(ground.socket()).await.unwrap();
        let loan = async |byte| {
            let mut loan = client.loan(5000).await.unwrap();
            loan.fill(byte);
            loan
        };
        let late = loan(7).await.call_timeout_or_payload(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(late.payload().unwrap()[..], [7; 5000]);
        server.recv().unwrap().reply();
        let (outcome, ()) = tokio::join!(loan(8).await.call_or_payload(), async { drop(server) });
        assert_eq!(outcome.unwrap_err().into_payload().unwrap(), [8; 5000]);
        assert!(client.loan(8).await.is_err());
    });
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C)]
struct Tick {
    at: u64,
}

impl wigwag::Payload for Tick {
    const NAME: &'static str = "Tick";
}

#[test]
fn f7_5_typed_calls_can_be_bounded_and_their_handlers_see_who_asks_and_by_when() {
    let ground = Ground::new();
    let mut server = TypedServer::<Tick>::bind(ground.socket()).unwrap();
    let client = TypedClient::<Tick>::connect(ground.socket()).unwrap();
    let limit = Duration::from_millis(1);
    let late = client.loan().unwrap().call_timeout(limit).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut { maybe_executed: true });
    let mut loan = client.loan_timeout(LIMIT).unwrap();
    loan.at = 7;
    let late = loan.call_timeout_or_payload(limit).unwrap_err();
    assert_eq!(late.payload(), Some(&Tick { at: 7 }));

    let stop = server.shutdown_handle();
    let uid = rustix::process::geteuid().as_raw();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.serve_requests(|tick| {
                let is_timed = tick.deadline().is_some();
                match (tick.peer().uid == uid, tick.at) {
                    (true, 99) => panic!("at 99"),
                    (true, _) => {
                        tick.at += 1 + 10 * u64::from(is_timed);
                        Ok(())
                    }
                    _ => Err("who is that?"),
                }
            })
        });
        let another = client.try_clone().unwrap();
        assert_eq!(another.call(&Tick { at: 1 }).unwrap().at, 2);
        assert_eq!(another.call_timeout(&Tick { at: 1 }, LIMIT).unwrap().at, 12);
        let panicked = another.call(&Tick { at: 99 }).unwrap_err();
        assert_eq!(panicked.kind(), ErrorKind::HandlerPanicked, "{panicked}");
        let again = another.call(&Tick { at: 1 }).unwrap().into_loan().unwrap();
        assert_eq!(again.send().unwrap().wait().unwrap().at, 3, "the reply became the request");
        stop.shutdown();
    });
}
