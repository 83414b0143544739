//! A handler learns that nobody waits for its answer any more: the caller gave up, left, or died.

use std::cell::Cell;
use std::time::Duration;

use wigwag::{Client, Request, Server};
use wigwag_testing::{Ground, LIMIT, Process, eventually, role};

#[test]
#[ignore = "a role: other tests start it as a process"]
fn caller() {
    role("caller", |parent, arguments| {
        let [socket] = arguments[..] else { panic!("{arguments:?}") };
        let client = Client::connect(socket).unwrap();
        let pending = client.loan(8).unwrap().send().unwrap();
        parent.tell("sent");
        let _ = pending.wait();
    });
}

fn killed_caller(socket: &str) -> Process {
    let mut process = Process::start("caller", [socket]);
    process.expect("sent");
    process
}

#[test]
fn w11_a_blocking_handler_hears_of_a_caller_that_was_killed() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let mut process = killed_caller(ground.socket().to_str().unwrap());
    let request = server.recv().unwrap();
    assert!(!request.is_abandoned() && !request.wait_abandoned(Duration::from_millis(1)));
    process.kill();
    eventually("the handler sees it", || request.is_abandoned());
    assert!(request.wait_abandoned(Duration::ZERO));
}

#[test]
fn w11_a_blocking_handler_is_woken_by_each_way_to_leave() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let mut process = killed_caller(ground.socket().to_str().unwrap());
    let request = server.recv().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| request.wait_abandoned(LIMIT));
        process.kill();
        assert!(waiting.join().unwrap(), "killed");
    });

    let client = Client::connect(ground.socket()).unwrap();
    let pending = client.loan(8).unwrap().send().unwrap();
    let (kept, given_up) = (server.recv().unwrap(), client.loan(8).unwrap().send().unwrap());
    let request = server.recv().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| request.wait_abandoned(LIMIT));
        drop(given_up);
        assert!(waiting.join().unwrap(), "gave up");
        assert!(!kept.is_abandoned(), "another call of the same session");
    });
    drop(pending);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| kept.wait_abandoned(LIMIT));
        drop(client);
        assert!(waiting.join().unwrap(), "left");
    });

    let client = Client::connect(ground.socket()).unwrap();
    let _pending = client.loan(8).unwrap().send().unwrap();
    let request = server.recv().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| request.wait_abandoned(LIMIT));
        drop(server);
        assert!(waiting.join().unwrap(), "the server is gone, so that no answer can be given");
    });
}

#[test]
fn w11_a_task_hears_of_it_although_the_server_takes_no_request_meanwhile() {
    let ground = Ground::new();
    let socket = ground.socket();
    let socket = socket.to_str().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut server = wigwag::tokio::Server::bind(socket).unwrap();
        let stop = server.shutdown_handle();
        let (begun, heard) = (Cell::new(0), Cell::new(0));
        let handler = async |request: &mut Request| {
            begun.set(begun.get() + 1);
            request.abandoned().await;
            heard.set(heard.get() + 1);
        };
        let reached = async |count: &Cell<i32>, round| {
            while count.get() < round {
                // what is waited for wakes the server, not this task
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let serving = async { server.serve_up_to(1, handler).await.unwrap() }; // one at a time: it looks for no other
        let calling = async {
            let client = wigwag::tokio::Client::connect(socket).await.unwrap();
            let pending = client.loan(8).await.unwrap().send().unwrap();
            reached(&begun, 1).await;
            drop(pending);
            reached(&heard, 1).await;
            client.call_timeout(b"?", Duration::from_millis(5)).await.unwrap_err();
            reached(&heard, 2).await;
            let pending = client.loan(8).await.unwrap().send().unwrap();
            reached(&begun, 3).await;
            drop((client, pending));
            reached(&heard, 3).await;
            let mut process = Process::start("caller", [socket]);
            reached(&begun, 4).await;
            process.kill();
            reached(&heard, 4).await;
            stop.shutdown();
        };
        tokio::time::timeout(LIMIT, async { tokio::join!(serving, calling) }).await.expect("nobody told the handler");
    });
}

#[test]
fn w11_a_future_that_is_dropped_leaves_its_place_and_the_next_one_is_woken_all_the_same() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let client = Client::connect(ground.socket()).unwrap();
    for _ in 0..100 {
        let pending = client.loan(8).unwrap().send().unwrap();
        let request = server.recv().unwrap();
        assert!(!request.wait_abandoned(Duration::ZERO));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| request.wait_abandoned(LIMIT));
            drop(pending);
            assert!(waiting.join().unwrap());
        });
    }
}

#[test]
fn a_task_can_tell_a_call_that_was_given_up_from_a_session_that_is_over() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let client = Client::connect(ground.socket()).unwrap();
    let mut process = killed_caller(ground.socket().to_str().unwrap());
    let killed = server.recv().unwrap();
    let first = client.loan(8).unwrap().send().unwrap();
    let given_up = server.recv().unwrap();
    let mut other = killed_caller(ground.socket().to_str().unwrap());
    let kept = server.recv().unwrap();
    let requests = [&killed, &given_up, &kept];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for request in requests {
            // A future that is dropped after a poll loses nothing for the next one.
            assert!(tokio::time::timeout(Duration::ZERO, request.abandoned()).await.is_err());
        }
        drop(first);
        given_up.abandoned().await;
        given_up.abandoned().await; // it stays so
        assert!(!given_up.is_session_over() && !kept.is_abandoned());
        process.kill();
        killed.abandoned().await;
        assert!(killed.is_session_over() && !kept.is_abandoned());
    });
    assert!(!kept.is_session_over() && !given_up.is_session_over(), "each session is over by itself");
    drop(client);
    eventually("the session that was left is over", || given_up.is_session_over());
    assert!(!kept.is_abandoned());
    other.kill();
    assert!(kept.wait_abandoned(LIMIT) && kept.is_session_over());
}
