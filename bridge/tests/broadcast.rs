//! Broadcasts between two bridges on one host: messages have the numbers that they have at their publisher, each one
//! that does not come is told as lost, and nobody holds the publisher up.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use support::{Pair, linked, random, status, until};
use wigwag::{Contract, ErrorKind, Message, Overrun, Publisher, Start, Subscriber};

const LIMIT: Duration = Duration::from_secs(30);

/// The message with a number: its length follows from that, and so does each byte.
fn message(number: u64) -> Vec<u8> {
    let len = match number % 50 {
        0 => 120_000,
        1 => 4097,
        2 => 0,
        rest => rest as usize * 5,
    };
    vec![number as u8; len]
}

#[track_caller]
fn check(message_: &Message) {
    let number = message_.sequence();
    assert!(message_[..] == message(number), "message {number} is what was published: {message_:?}");
}

fn publisher(pair: &Pair) -> Publisher {
    Publisher::builder().capacity(120_000).bind(pair.far_name()).unwrap()
}

fn publish(publisher: &mut Publisher, count: u64) -> u64 {
    let first = publisher.stats().published + 1;
    (first..first + count).for_each(|number| assert_eq!(publisher.send(&message(number)).unwrap(), number));
    first + count - 1
}

fn subscriber(pair: &Pair, start: Start) -> Subscriber {
    Subscriber::builder().start(start).server_timeout(LIMIT).connect(pair.near_name()).unwrap()
}

/// Takes messages up to a number: how many came and how many were lost.
fn take_up_to(subscriber: &mut Subscriber, last: u64) -> (u64, u64) {
    let (mut came, mut lost) = (0, 0);
    loop {
        let message = subscriber.recv_timeout(LIMIT).unwrap();
        check(&message);
        (came, lost) = (came + 1, lost + message.lost_before());
        if message.sequence() >= last {
            assert_eq!(message.sequence(), last);
            return (came, lost);
        }
    }
}

#[test]
fn messages_of_every_size_come_with_their_numbers_and_what_was_kept_comes_too() {
    let pair = Pair::new();
    let mut publisher = publisher(&pair);
    let last = publish(&mut publisher, 1000);
    linked(&pair.ground, "a");
    until("what was kept is there", LIMIT, || status(&pair.ground, "a").imports[0].counts.published == 64);
    let mut oldest = subscriber(&pair, Start::Oldest);
    let first = oldest.recv_timeout(LIMIT).unwrap();
    check(&first);
    assert_eq!((first.sequence(), first.lost_before()), (last - 63, 0));
    let mut next = subscriber(&pair, Start::Next);
    for _ in 0..20 {
        let until = publish(&mut publisher, 10);
        assert_eq!(take_up_to(&mut next, until).1, 0);
    }
    assert_eq!(next.stats().received, 200);
    let error = Subscriber::builder().contract(Contract::named("else", 1)).connect(pair.near_name()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch, "{error}");
}

#[test]
fn another_publisher_is_told_and_the_end_of_one_is_the_end_here() {
    let pair = Pair::new();
    let mut first = publisher(&pair);
    publish(&mut first, 3);
    linked(&pair.ground, "a");
    let mut patient = Subscriber::builder().start(Start::Oldest).reconnect(LIMIT).connect(pair.near_name()).unwrap();
    let mut plain = subscriber(&pair, Start::Oldest);
    assert_eq!((take_up_to(&mut patient, 3), take_up_to(&mut plain, 3)), ((3, 0), (3, 0)));
    first.close();
    assert_eq!(plain.recv_timeout(LIMIT).unwrap_err().kind(), ErrorKind::Ended);
    let contract = Contract::named("plain bytes, of others", 4);
    drop(plain);
    let mut second = publisher(&pair);
    publish(&mut second, 70);
    let message = patient.recv_timeout(LIMIT).unwrap();
    check(&message);
    assert!(message.is_of_new_publisher());
    assert_eq!(message.lost_before(), message.sequence() - 1, "what it published before it was linked");
    second.close();

    // A publisher of another contract: the near name follows.
    drop(patient);
    let builder = Publisher::builder().contract(contract.clone());
    let mut third = builder.bind(pair.far_name()).unwrap();
    let builder = Subscriber::builder().contract(contract).server_timeout(LIMIT).start(Start::Oldest);
    let mut found = None;
    until("the near name has the new contract", LIMIT, || {
        found = builder.clone().connect(pair.near_name()).ok();
        found.is_some()
    });
    third.send(b"third").unwrap();
    assert_eq!(&found.unwrap().recv_timeout(LIMIT).unwrap()[..], b"third");
}

/// The far bridge is killed: the near name stays, and the numbers tell what was lost meanwhile. The near one is killed:
/// its subscribers are told, as of any publisher.
#[test]
fn a_killed_bridge_costs_what_was_published_meanwhile_and_that_is_told() {
    let mut pair = Pair::new();
    let mut publisher = publisher(&pair);
    linked(&pair.ground, "a");
    let mut subscriber = subscriber(&pair, Start::Next);
    let last = publish(&mut publisher, 10);
    assert_eq!(take_up_to(&mut subscriber, last), (10, 0));
    pair.far.kill();
    until("the link is lost", LIMIT, || status(&pair.ground, "a").imports[0].link.is_none());
    publish(&mut publisher, 100); // 64 of them are kept
    pair.far = Pair::far(&pair.ground, &pair.endpoint, &[]);
    let message = subscriber.recv_timeout(LIMIT).unwrap();
    check(&message);
    assert_eq!((message.sequence(), message.lost_before()), (47, 36));
    assert_eq!(take_up_to(&mut subscriber, 110), (63, 0));
    assert!(status(&pair.ground, "a").imports[0].counts.lost == 36);
    pair.near.kill();
    assert!(matches!(subscriber.recv_timeout(LIMIT).unwrap_err().kind(), ErrorKind::PeerDied { .. }));
}

/// A publisher that waits for its subscribers, and an importer that is stopped: the exporter reads on, and lets go.
#[test]
fn an_importer_that_is_stopped_does_not_hold_the_publisher_up() {
    let pair = Pair::new();
    let builder = Publisher::builder().capacity(120_000).history(16).overrun(Overrun::Wait(Duration::from_secs(300)));
    let mut publisher = builder.bind(pair.far_name()).unwrap();
    linked(&pair.ground, "a");
    let mut subscriber = subscriber(&pair, Start::Next);
    let first = publish(&mut publisher, 1);
    assert_eq!(take_up_to(&mut subscriber, first), (1, 0));
    pair.near.signal(Signal::STOP);
    let last = publish(&mut publisher, 6000); // 15 MB, more than waits for a link
    assert_eq!(publisher.stats().cut_off, 0, "nobody kept it waiting for as long as its patience");
    until("the exporter has let go of the oldest", LIMIT, || status(&pair.ground, "b").exports[0].counts.lost > 0);
    pair.near.signal(Signal::CONT);
    until("what comes now comes through", LIMIT, || {
        publish(&mut publisher, 1);
        subscriber.recv_timeout(Duration::from_millis(200)).is_ok_and(|message| message.sequence() > last)
    });
    let stats = subscriber.stats();
    assert!(stats.lost > 0);
}

/// Whatever is killed: each message comes as it was published, with its number, or is told as lost; none comes twice.
#[test]
fn kills_of_the_exporter_against_the_numbers() {
    let mut pair = Pair::new();
    let mut publisher = publisher(&pair);
    linked(&pair.ground, "a");
    let mut subscriber = subscriber(&pair, Start::Next);
    publish(&mut publisher, 1);
    let is_over = AtomicBool::new(false);
    let mut state = 0x0f1e_2d3c_4b5a_6978;
    let sums = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut sums = BTreeMap::<&str, u64>::new();
            let mut next = 1;
            loop {
                match subscriber.recv_timeout(Duration::from_secs(1)) {
                    Ok(message) => {
                        check(&message);
                        assert_eq!(message.sequence() - message.lost_before(), next, "each is told once");
                        next = message.sequence() + 1;
                        *sums.entry("came").or_default() += 1;
                        *sums.entry("lost").or_default() += message.lost_before();
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => {
                        if is_over.load(Ordering::Relaxed) {
                            return sums;
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let publishing = scope.spawn(|| {
            for _ in 0..8000 {
                publish(&mut publisher, 1);
                std::thread::sleep(Duration::from_micros(700));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mut kills = 0;
        while !publishing.is_finished() {
            std::thread::sleep(Duration::from_millis(300 + random(&mut state) % 700));
            pair.far.kill();
            pair.far = Pair::far(&pair.ground, &pair.endpoint, &[]);
            kills += 1;
        }
        publishing.join().unwrap();
        println!("the exporter was killed {kills} times");
        reading.join().unwrap()
    });
    println!("{sums:?}");
    assert!(sums["came"] > 500, "{sums:?}");
}
