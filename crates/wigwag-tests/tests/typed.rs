//! Typed faces, of threads and of tasks: what goes in comes out as the type, and each says of time, peers and deaths
//! what the untyped one says.

#[path = "support/runtimes.rs"]
mod runtimes;

use std::time::Duration;

use runtimes::on_both;
use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{
    Client, Contract, ErrorKind, Receiver, Sender, TypedClient, TypedReceiver, TypedSender, TypedServer, tokio as tasks,
};
use wigwag_testing::{Ground, LIMIT, Process, eventually, role};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C)]
struct Tick {
    at: u64,
}

impl wigwag::Payload for Tick {
    const NAME: &'static str = "Tick";
}

/// As large and as aligned as `Tick`, and another type.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C)]
struct Price {
    cents: u64,
}

impl wigwag::Payload for Price {
    const NAME: &'static str = "Price";
}

/// Larger than a line, and aligned as far as a type may be.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C, align(16))]
struct Wide {
    words: [u64; 20],
}

impl wigwag::Payload for Wide {
    const NAME: &'static str = "Wide";
}

/// Nothing at all: that it came is what it says.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug, PartialEq)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C)]
struct Knock;

impl wigwag::Payload for Knock {
    const NAME: &'static str = "Knock";
}

const SHORT: Duration = Duration::from_millis(1);

fn tick(at: u64) -> Tick {
    Tick { at }
}

/// Runs the same on both runtimes, and fails where one never ends.
/// A sender that was let in as one of ticks, and can send any bytes.
fn liar(ground: &Ground) -> Sender {
    Sender::builder().contract(Contract::of::<Tick>()).capacity(8).connect(ground.socket()).unwrap()
}

#[test]
fn d8_what_is_sent_in_any_way_is_received_in_any_way() {
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(4).bind_typed::<Tick>(ground.socket()).unwrap();
    let mut sender = TypedSender::<Tick>::connect(ground.socket()).unwrap();
    assert_eq!(sender.slots(), 4);
    sender.send(&tick(1)).unwrap();
    sender.try_send(&tick(2)).unwrap();
    sender.send_timeout(&tick(3), LIMIT).unwrap();
    let mut draft = sender.loan().unwrap();
    *draft = tick(4);
    assert_eq!(format!("{draft:?}"), "Tick { at: 4 }");
    draft.commit().unwrap();

    assert_eq!(sender.try_send(&tick(5)).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(sender.try_loan().unwrap_err().kind(), ErrorKind::Full);
    let late = ErrorKind::TimedOut { maybe_executed: false };
    assert_eq!(sender.send_timeout(&tick(5), SHORT).unwrap_err().kind(), late);
    assert_eq!(sender.loan_timeout(SHORT).unwrap_err().kind(), late);
    assert_eq!(sender.flush(SHORT).unwrap_err().kind(), ErrorKind::TimedOut { maybe_executed: true });

    let first = receiver.recv().unwrap();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!((first.at, first.peer().uid, first.is_redelivered()), (1, uid, false));
    first.nack();
    let again = receiver.try_recv().unwrap().unwrap();
    assert_eq!((*again, again.is_redelivered()), (tick(1), true));
    again.ack();
    assert_eq!(*receiver.recv_timeout(LIMIT).unwrap().unwrap(), tick(2));
    let batch = receiver.recv_batch(64).unwrap();
    assert_eq!(format!("{batch:?}"), "[Tick { at: 3 }, Tick { at: 4 }]");
    batch.nack();
    let batch = receiver.recv_batch_timeout(64, LIMIT).unwrap().unwrap();
    assert_eq!(batch.iter().map(|tick| (tick.at, tick.is_redelivered())).collect::<Vec<_>>(), [(3, true), (4, true)]);
    batch.ack();
    sender.flush(LIMIT).unwrap();
    assert!(receiver.try_recv().unwrap().is_none() && receiver.recv_timeout(SHORT).unwrap().is_none());
    assert!(receiver.try_recv_batch(9).unwrap().is_none() && receiver.recv_batch_timeout(9, SHORT).unwrap().is_none());
    assert_eq!(receiver.recv_batch(0).unwrap_err().kind(), ErrorKind::InvalidConfiguration);

    assert_eq!(sender.send_batch([tick(6), tick(7)]).unwrap(), 2);
    assert_eq!(sender.try_clone().unwrap().send_batch([tick(8)].iter()).unwrap(), 1);
    receiver.shutdown_handle().shutdown();
    let mut rest: Vec<u64> = (&receiver).into_iter().map(|tick| tick.unwrap().at).collect();
    rest.sort_unstable();
    assert_eq!(rest, [6, 7, 8]);
    assert_eq!(receiver.recv().unwrap_err().kind(), ErrorKind::ServerClosed { maybe_executed: false });
    assert_eq!((sender.stats().sent, receiver.stats().received, receiver.stats().violations), (6, 10, 0));
}

#[test]
fn d8_types_of_every_size_and_alignment_lie_where_they_are_read() {
    let ground = Ground::new();
    let receiver = TypedReceiver::<Wide>::bind(ground.socket()).unwrap();
    let mut sender = TypedSender::<Wide>::connect(ground.socket()).unwrap();
    for number in 0..300 {
        let wide = Wide { words: [number; 20] };
        sender.send(&wide).unwrap();
        assert_eq!(*receiver.recv().unwrap(), wide);
    }
    let ground = Ground::new();
    let receiver = TypedReceiver::<Knock>::bind(ground.socket()).unwrap();
    let mut sender = TypedSender::<Knock>::connect(ground.socket()).unwrap();
    sender.send(&Knock).unwrap();
    sender.loan().unwrap().commit().unwrap();
    assert_eq!(receiver.recv_batch(9).unwrap().iter().filter(|knock| ***knock == Knock).count(), 2);
}

#[test]
fn d8_two_ends_of_different_types_or_forms_are_refused_at_connect() {
    let ground = Ground::new();
    let _receiver = TypedReceiver::<Tick>::bind(ground.socket()).unwrap();
    let told = |error: wigwag::Error| {
        assert_eq!(error.kind(), ErrorKind::ContractMismatch);
        assert!(error.to_string().contains("Tick version 0 (8 bytes, align 8) as a queue"), "{error}");
    };
    told(TypedSender::<Price>::connect(ground.socket()).unwrap_err());
    told(TypedClient::<Tick>::connect(ground.socket()).unwrap_err());
    told(Sender::connect(ground.socket()).unwrap_err());
    on_both(async || {
        told(tasks::TypedSender::<Price>::connect(ground.socket()).await.unwrap_err());
        told(tasks::TypedClient::<Tick>::connect(ground.socket()).await.unwrap_err());
    });
}

#[test]
fn d8_a_message_of_another_length_ends_its_senders_session_and_nobody_elses() {
    type Look = fn(&TypedReceiver<Tick>) -> u64;
    let looks: [Look; 6] = [
        |receiver| receiver.recv().unwrap().at,
        |receiver| receiver.recv_timeout(LIMIT).unwrap().unwrap().at,
        |receiver| receiver.recv_batch(64).unwrap()[0].at,
        |receiver| receiver.recv_batch_timeout(64, LIMIT).unwrap().unwrap()[0].at,
        |receiver| receiver.iter().next().unwrap().unwrap().at,
        |receiver| loop {
            if let Some(tick) = receiver.try_recv().unwrap() {
                return tick.at;
            }
        },
    ];
    for look in looks {
        let ground = Ground::new();
        let receiver = TypedReceiver::<Tick>::bind(ground.socket()).unwrap();
        let mut lying = liar(&ground);
        lying.send_batch([&b""[..], b"7 bytes"]).unwrap();
        let mut honest = TypedSender::<Tick>::connect(ground.socket()).unwrap();
        honest.send(&tick(7)).unwrap();
        assert_eq!(look(&receiver), 7);
        // Whichever was found first: the liar's may be looked at only now.
        eventually("it is told", || receiver.try_recv().unwrap().is_none() && receiver.stats().violations == 1);
        let error = lying.flush(LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Violation);
        assert!(error.to_string().contains("bytes is not a Tick of 8"), "{error}");
        assert_eq!(lying.stats().acknowledged, 0);
        honest.send(&tick(8)).unwrap();
        assert_eq!(look(&receiver), 8);
        honest.close().unwrap();
    }
}

#[test]
fn d8_a_typed_message_survives_its_receiver() {
    let ground = Ground::new();
    let mut receiving = Process::start("receiving", [ground.socket()]);
    receiving.expect("bound");
    let mut sender = Sender::builder().server_timeout(LIMIT).connect_typed::<Tick>(ground.socket()).unwrap();
    sender.send_batch([tick(1), tick(2)]).unwrap();
    receiving.expect("has 1");
    receiving.kill();
    let next = TypedReceiver::<Tick>::bind(ground.socket()).unwrap();
    sender.send(&tick(3)).unwrap();
    for expected in [(1, true), (2, false), (3, false)] {
        let tick = next.recv_timeout(LIMIT).unwrap().unwrap();
        assert_eq!((tick.at, tick.is_redelivered()), expected);
    }
    assert_eq!(sender.stats().reconnects, 1);
    sender.close().unwrap();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn receiving() {
    role("receiving", |parent, arguments| {
        let receiver = TypedReceiver::<Tick>::bind(arguments[0]).unwrap();
        parent.tell("bound");
        let tick = receiver.recv().unwrap();
        parent.tell(format_args!("has {}", tick.at));
        parent.hear();
    });
}

#[test]
fn d8_queues_between_tasks_have_the_same_faces() {
    on_both(async || {
        let ground = Ground::new();
        let mut receiver = Receiver::builder().slots(4).bind_typed_async::<Tick>(ground.socket()).unwrap();
        let mut sender = tasks::TypedSender::<Tick>::connect(ground.socket()).await.unwrap();
        sender.send(&tick(1)).await.unwrap();
        sender.try_send(&tick(2)).unwrap();
        let mut draft = sender.loan().await.unwrap();
        *draft = tick(3);
        draft.commit().unwrap();
        let blocking = TypedSender::<Tick>::connect(ground.socket()).unwrap();
        assert_eq!(sender.send_batch([tick(4)].iter()).await.unwrap(), 1);
        assert_eq!(sender.try_send(&tick(5)).unwrap_err().kind(), ErrorKind::Full);
        tokio::time::timeout(SHORT, sender.send(&tick(5))).await.unwrap_err();
        let first = receiver.recv().await.unwrap();
        assert_eq!((first.at, first.is_redelivered()), (1, false));
        first.nack();
        let again = receiver.try_recv().unwrap().unwrap();
        assert_eq!((again.at, again.is_redelivered()), (1, true));
        drop(again);
        let batch = receiver.recv_batch(2).await.unwrap();
        assert_eq!(batch.iter().map(|tick| tick.at).collect::<Vec<_>>(), [2, 3]);
        drop(batch);
        let last = std::future::poll_fn(|context| receiver.poll_recv(context)).await.unwrap();
        assert_eq!(last.at, 4);
        drop(last);
        sender.flush().await.unwrap();
        assert!(receiver.try_recv().unwrap().is_none());

        // A liar is nobody's business but its own.
        let mut lying = liar(&ground);
        lying.send(b"7 bytes").unwrap();
        let mut other = tasks::TypedSender::from_blocking(blocking).unwrap().try_clone().await.unwrap();
        other.send(&tick(6)).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().at, 6);
        while receiver.stats().violations == 0 {
            assert!(receiver.try_recv().unwrap().is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(lying.flush(LIMIT).unwrap_err().kind(), ErrorKind::Violation);

        other.close().await.unwrap();
        receiver.shutdown_handle().shutdown();
        let end = receiver.recv().await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ServerClosed { maybe_executed: false });
        assert_eq!((sender.stats().sent, receiver.stats().received), (4, 7));
    });
}

#[test]
fn d8_calls_of_tasks_have_the_same_faces() {
    on_both(async || {
        let ground = Ground::new();
        let mut server = tasks::TypedServer::<Tick>::bind(ground.socket()).unwrap();
        let client = tasks::TypedClient::<Tick>::connect(ground.socket()).await.unwrap();
        // Nobody serves yet.
        let late = ErrorKind::TimedOut { maybe_executed: true };
        assert_eq!(client.call_timeout(&tick(1), SHORT).await.unwrap_err().kind(), late);
        assert_eq!(client.loan().await.unwrap().call_timeout(SHORT).await.unwrap_err().kind(), late);
        let at = std::time::Instant::now() + SHORT;
        assert_eq!(client.try_loan().unwrap().call_deadline(at).await.unwrap_err().kind(), late);
        let mut loan = client.loan_timeout(LIMIT).await.unwrap();
        *loan = tick(7);
        let error = loan.call_timeout_or_payload(SHORT).await.unwrap_err();
        assert_eq!((error.kind(), error.payload()), (late, Some(&tick(7))));

        let stop = server.shutdown_handle();
        let stats = server.stats_handle();
        let uid = rustix::process::geteuid().as_raw();
        let serving = server.serve_requests(async move |tick| {
            tokio::task::yield_now().await;
            let is_timed = tick.deadline().is_some();
            match (tick.peer().uid == uid, tick.at) {
                (true, 99) => panic!("at 99"),
                (true, 98) => Err("not 98"),
                (true, _) => {
                    tick.at += 1 + 10 * u64::from(is_timed);
                    Ok(())
                }
                _ => Err("who is that?"),
            }
        });
        let calling = async {
            let another = client.clone();
            assert_eq!(another.call(&tick(1)).await.unwrap().at, 2);
            assert_eq!(another.call_timeout(&tick(1), LIMIT).await.unwrap().at, 12);
            for (at, kind) in [(99, ErrorKind::HandlerPanicked), (98, ErrorKind::HandlerFailed)] {
                assert_eq!(another.call(&tick(at)).await.unwrap_err().kind(), kind);
            }
            let mut again = another.call(&tick(1)).await.unwrap().into_loan().unwrap();
            again.at += 10;
            let pending = again.send().unwrap();
            assert!(format!("{pending:?}").contains("slot"));
            assert_eq!(pending.await.unwrap().at, 13, "the reply became the request");
            let reply = another.loan().await.unwrap().call_or_payload().await.unwrap();
            assert_eq!(format!("{reply:?}"), format!("{:?}", *reply));
            // Bytes that are no tick.
            let lying = Client::builder().contract(Contract::of::<Tick>()).capacity(8);
            let lying = lying.connect_async(ground.socket()).await.unwrap();
            let error = lying.call(b"7 bytes").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerFailed);
            assert!(error.to_string().contains("7 bytes is not a Tick of 8"), "{error}");
            let reply = lying.call(&[0; 8]).await.unwrap();
            assert_eq!(tasks::TypedReply::<Wide>::new(reply).map(drop).unwrap_err().kind(), ErrorKind::Violation);
            assert_eq!((another.slots(), stats.stats().failed), (16, 3));
            stop.shutdown();
        };
        let (served, ()) = tokio::join!(serving, calling);
        served.unwrap();
    });
}

#[test]
fn d8_requests_of_tasks_are_received_and_served_as_messages() {
    on_both(async || {
        let ground = Ground::new();
        let server = TypedServer::<Tick>::bind(ground.socket()).unwrap();
        let mut server = tasks::TypedServer::from_blocking(server).unwrap();
        let client = TypedClient::<Tick>::connect(ground.socket()).unwrap();
        let client = tasks::TypedClient::from_blocking(client).unwrap();
        let pending = client.loan().await.unwrap().send().unwrap();
        let mut request = server.recv().await.unwrap();
        request.at = 5;
        request.reply();
        assert_eq!(pending.await.unwrap().at, 5);
        let pending = client.loan().await.unwrap().send().unwrap();
        let request = server.recv().await.unwrap();
        drop(pending);
        request.abandoned().await;
        assert!(request.is_abandoned());
        drop(request);
        let stop = server.shutdown_handle();
        let calling = async {
            assert_eq!(client.call(&tick(1)).await.unwrap().at, 2);
            stop.shutdown();
        };
        let (served, ()) = tokio::join!(server.serve_up_to(1, async |tick| tick.at += 1), calling);
        served.unwrap();
        let end = client.call(&tick(1)).await.unwrap_err();
        assert!(matches!(end.kind(), ErrorKind::ServerClosed { .. }), "{end}");
    });
}

#[test]
fn d8_a_task_that_calls_a_server_that_dies_has_its_message_back() {
    on_both(async || {
        let ground = Ground::new();
        let mut serving = Process::start("serving", [ground.socket()]);
        serving.expect("bound");
        let client = tasks::TypedClient::<Tick>::connect(ground.socket()).await.unwrap();
        let mut loan = client.loan().await.unwrap();
        loan.at = 7;
        let dying = async {
            serving.expect("has 7");
            serving.kill();
        };
        let (outcome, ()) = tokio::join!(loan.call_or_payload(), dying);
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.payload()), (ErrorKind::PeerDied { maybe_executed: true }, Some(&tick(7))));
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn serving() {
    role("serving", |parent, arguments| {
        let mut server = TypedServer::<Tick>::bind(arguments[0]).unwrap();
        parent.tell("bound");
        let tick = server.recv().unwrap();
        parent.tell(format_args!("has {}", tick.at));
        parent.hear();
    });
}
