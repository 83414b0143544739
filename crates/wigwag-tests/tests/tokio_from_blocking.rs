//! A blocking handle becomes one for tasks, in whatever state it is.

use std::future::Future;
use std::time::Duration;

use wigwag::{Client, ErrorKind, Server, tokio as tasks};
use wigwag_testing::{Ground, LIMIT};

fn in_time<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, run).await.expect("it hangs") })
}

/// A server that answers nothing yet, and a client with so many slots.
fn two(ground: &Ground, slots: usize) -> (Server, Client) {
    let server = Server::bind(ground.socket()).unwrap();
    (server, Client::builder().slots(slots).connect(ground.socket()).unwrap())
}

#[test]
fn w4_slots_that_were_given_up_come_back_when_the_server_is_done_with_them() {
    let ground = Ground::new();
    let (mut server, client) = two(&ground, 3);
    client.call_timeout(b"late", Duration::from_millis(1)).unwrap_err();
    drop(client.loan(8).unwrap().send().unwrap());
    drop(client.loan(8).unwrap().send().unwrap());
    in_time(async {
        let client = tasks::Client::from_blocking(client).unwrap();
        assert_eq!(client.try_loan(8).unwrap_err().kind(), ErrorKind::Full);
        for _ in 0..3 {
            let waiting = client.loan(8);
            let answering = async { server.recv().unwrap().reply() };
            let (loan, ()) = tokio::join!(waiting, answering);
            std::mem::forget(loan.unwrap()); // so that the next one waits for the next answer
        }
        assert_eq!(client.try_loan(8).unwrap_err().kind(), ErrorKind::Full);
    });
}

#[test]
fn w4_a_slot_that_came_back_before_is_there_at_once() {
    let ground = Ground::new();
    let (mut server, client) = two(&ground, 1);
    drop(client.loan(8).unwrap().send().unwrap());
    server.recv().unwrap().reply();
    in_time(async {
        let client = tasks::Client::from_blocking(client).unwrap();
        drop(client.try_loan(8).unwrap());
        assert_eq!(client.stats().abandoned, 1);
    });
}

#[test]
fn w4_slots_that_nobody_will_give_back_stay_out() {
    let ground = Ground::new();
    let (_server, client) = two(&ground, 3);
    std::mem::forget(client.loan(8).unwrap());
    std::mem::forget(client.loan(8).unwrap().send().unwrap());
    in_time(async {
        let client = tasks::Client::from_blocking(client).unwrap();
        let only = client.try_loan(8).unwrap();
        assert_eq!(client.try_loan(8).unwrap_err().kind(), ErrorKind::Full);
        drop(only);
        drop(client.loan(8).await.unwrap());
    });
}

#[test]
fn w4_a_session_that_is_over_says_so() {
    for is_known in [false, true] {
        let ground = Ground::new();
        let (server, client) = two(&ground, 2);
        client.call_timeout(b"late", Duration::from_millis(1)).unwrap_err();
        drop(server);
        if is_known {
            while client.call_timeout(b"?", Duration::from_millis(1)).is_err_and(|error| !is_closed(&error)) {}
        }
        in_time(async {
            let client = tasks::Client::from_blocking(client).unwrap();
            let error = client.call(b"?").await.unwrap_err();
            assert!(is_closed(&error), "{error}");
            assert!(is_closed(&client.loan(8).await.unwrap_err()));
        });
    }
}

fn is_closed(error: &wigwag::Error) -> bool {
    matches!(error.kind(), ErrorKind::ServerClosed { .. })
}

#[test]
fn w4_a_sender_with_a_full_queue_and_a_receiver_with_messages_go_on() {
    let ground = Ground::new();
    let receiver = wigwag::Receiver::bind(ground.socket()).unwrap();
    let mut sender = wigwag::Sender::builder().slots(2).connect(ground.socket()).unwrap();
    sender.send(b"one").unwrap();
    sender.send(b"two").unwrap();
    sender.send_timeout(b"late", Duration::from_millis(1)).unwrap_err();
    let held = receiver.recv().unwrap();
    in_time(async {
        let mut sender = tasks::Sender::from_blocking(sender).unwrap();
        let mut receiver = tasks::Receiver::from_blocking(receiver).unwrap();
        let (sent, received) = tokio::join!(sender.send(b"three"), async {
            drop(held);
            [receiver.recv().await.unwrap().to_vec(), receiver.recv().await.unwrap().to_vec()]
        });
        sent.unwrap();
        assert_eq!(received, [b"two".to_vec(), b"three".to_vec()]);
    });
}

#[test]
fn w4_a_server_with_requests_under_way_goes_on() {
    let ground = Ground::new();
    let (mut server, client) = two(&ground, 4);
    let pending: Vec<_> = (0..4).map(|_| client.loan(8).unwrap().send().unwrap()).collect();
    let held = server.recv().unwrap();
    let second = server.recv().unwrap();
    in_time(async {
        let mut server = tasks::Server::from_blocking(server).unwrap();
        server.recv().await.unwrap().reply();
        server.recv().await.unwrap().reply();
        held.reply();
        second.reply();
    });
    for pending in pending {
        pending.wait().unwrap();
    }
}
