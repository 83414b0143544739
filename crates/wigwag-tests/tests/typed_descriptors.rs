//! Typed faces, of threads and of tasks, carry descriptors as the untyped ones do, and leave none where a payload is
//! not of the type.

#[path = "support/runtimes.rs"]
mod runtimes;

use runtimes::on_both;
use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{Client, Contract, ErrorKind, Receiver, Sender, Server, TypedRequest};
use wigwag_testing::descriptors::{alone, descriptors, files_here, nothing_is_left, number_of, numbered};
use wigwag_testing::{Ground, eventually};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C)]
struct Tick {
    at: u64,
}

impl wigwag::Payload for Tick {
    const NAME: &'static str = "Tick";
}

fn numbers(descriptors: &[std::os::fd::OwnedFd]) -> Vec<u8> {
    descriptors.iter().map(number_of).collect()
}

/// Adds one, and sends back what came, in the other order.
fn turn_around(tick: &mut TypedRequest<Tick>) -> wigwag::Result<()> {
    tick.at += 1;
    let came = tick.take_descriptors();
    assert!(tick.take_descriptors().is_empty());
    came.iter().rev().try_for_each(|descriptor| tick.attach(descriptor))
}

#[test]
fn calls_of_threads_carry_them_there_and_back() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut server = Server::builder().descriptors(true).bind_typed::<Tick>(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let thread = std::thread::spawn(move || server.serve_requests(turn_around));
        let client = Client::builder().descriptors(true).connect_typed::<Tick>(ground.socket()).unwrap();
        for _ in 0..3 {
            let mut tick = client.loan().unwrap();
            tick.at = 7;
            [1, 2].into_iter().for_each(|number| tick.attach(numbered(number)).unwrap());
            let mut reply = tick.call().unwrap();
            assert_eq!((reply.at, numbers(&reply.take_descriptors())), (8, vec![2, 1]));
            assert!(reply.take_descriptors().is_empty());
        }
        eventually("what was carried is closed", || files_here() == 0);
        // A client that has another type's length is answered with an error, and nothing of its stays there.
        let contract = Contract::of::<Tick>();
        let other = Client::builder().descriptors(true).contract(contract).connect(ground.socket()).unwrap();
        let mut loan = other.loan(3).unwrap();
        loan.attach(numbered(9)).unwrap();
        assert_eq!(loan.call().unwrap_err().kind(), ErrorKind::HandlerFailed);
        eventually("what came is closed", || files_here() == 0);
        drop((client, other));
        stop.shutdown();
        thread.join().unwrap().unwrap();
    }
    nothing_is_left(before);
}

#[test]
fn messages_of_threads_carry_them() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = Receiver::builder().descriptors(true).bind_typed::<Tick>(ground.socket()).unwrap();
        let mut sender = Sender::builder().descriptors(true).connect_typed::<Tick>(ground.socket()).unwrap();
        for at in 0..5 {
            let mut draft = sender.loan().unwrap();
            draft.at = at.into();
            (0..at).for_each(|number| draft.attach(numbered(number)).unwrap());
            draft.commit().unwrap();
        }
        let mut first = receiver.recv().unwrap();
        assert!(first.take_descriptors().unwrap().is_empty());
        first.nack();
        let mut batch = receiver.recv_batch(10).unwrap();
        for (at, tick) in batch.iter_mut().enumerate() {
            assert_eq!((tick.at, numbers(&tick.take_descriptors().unwrap())), (at as u64, (0..at as u8).collect()));
        }
        batch.ack();
        sender.close().unwrap();
        // A sender of another length loses its session, with what came.
        let contract = Contract::of::<Tick>();
        let mut other = Sender::builder().descriptors(true).contract(contract).connect(ground.socket()).unwrap();
        let mut draft = other.loan(3).unwrap();
        draft.attach(numbered(9)).unwrap();
        draft.commit().unwrap();
        eventually("it is found", || {
            assert!(receiver.try_recv().unwrap().is_none());
            receiver.stats().violations == 1
        });
        drop(other);
        eventually("what came is closed", || files_here() == 0);
    }
    nothing_is_left(before);
}

#[test]
fn calls_and_messages_of_tasks_carry_them() {
    let _alone = alone();
    on_both(async || drop(tokio::net::UnixDatagram::unbound().unwrap())); // what a runtime keeps is there
    let before = descriptors();
    on_both(async || {
        let ground = Ground::new();
        let (calls, queue) = (ground.path("calls"), ground.path("queue"));
        let mut server = Server::builder().descriptors(true).bind_typed_async::<Tick>(&calls).unwrap();
        let stop = server.shutdown_handle();
        let serving = tokio::spawn(async move {
            server.serve_requests(async |tick: &mut TypedRequest<Tick>| turn_around(tick)).await
        });
        let client = Client::builder().descriptors(true).connect_typed_async::<Tick>(&calls).await.unwrap();
        let mut tick = client.loan().await.unwrap();
        [1, 2].into_iter().for_each(|number| tick.attach(numbered(number)).unwrap());
        let mut reply = tick.call().await.unwrap();
        assert_eq!((reply.at, numbers(&reply.take_descriptors())), (1, vec![2, 1]));
        drop(reply);
        stop.shutdown();
        serving.await.unwrap().unwrap();

        let mut receiver = Receiver::builder().descriptors(true).bind_typed_async::<Tick>(&queue).unwrap();
        let mut sender = Sender::builder().descriptors(true).connect_typed_async::<Tick>(&queue).await.unwrap();
        let mut draft = sender.loan().await.unwrap();
        draft.attach(numbered(3)).unwrap();
        draft.commit().unwrap();
        let mut delivery = receiver.recv().await.unwrap();
        assert_eq!(numbers(&delivery.take_descriptors().unwrap()), [3]);
        delivery.ack();
        sender.close().await.unwrap();
    });
    nothing_is_left(before);
}
