//! Queues between threads and processes: every message once and in order, kept until it is acknowledged, whoever dies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wigwag::{Client, Delivery, ErrorKind, Receiver, Sender, Server, Stream, Wait};
use wigwag_testing::{
    ACKNOWLEDGED, DELIVERED, Ground, HAS_DEADLINE, IN_BODY, LIMIT, MESSAGE, Process, REDELIVERED, REQUEST, Raw,
    RawServer, SERVER, Snapshot, eventually, fill, role, wire, word,
};

const WAITS: [Wait; 3] = [Wait::Adaptive, Wait::Park, Wait::Spin];

/// The message with a number: the number first if there is room, then a pattern.
fn message(sender: u64, number: u64, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; word(!sender, number) as usize % (most + 1)];
    fill(&mut bytes, sender << 40 | number);
    bytes
}

#[track_caller]
fn check(bytes: &[u8], sender: u64, number: u64, most: usize) {
    assert!(bytes == message(sender, number, most), "message {number} of sender {sender} is not what was sent");
}

fn receive(receiver: &Receiver) -> Delivery {
    receiver.recv_timeout(LIMIT).unwrap().expect("a message within the limit")
}

fn number_of(delivery: &[u8]) -> u64 {
    u64::from_le_bytes(delivery[..8].try_into().unwrap())
}

#[track_caller]
fn timed_out(outcome: wigwag::Result<()>) -> bool {
    match outcome.unwrap_err().kind() {
        ErrorKind::TimedOut { maybe_executed } => maybe_executed,
        other => panic!("{other:?}"),
    }
}

// ---- messages -------------------------------------------------------------------------------------------------------

#[test]
fn every_message_arrives_once_and_in_order_at_all_sizes_however_both_ends_wait() {
    for wait in WAITS {
        for (slots, most, count) in [(1, 100, 300), (4, 48, 20_000), (16, 20_000, 3_000)] {
            let ground = Ground::new();
            let receiver = Receiver::builder().slots(slots).capacity(most).wait(wait).bind(ground.socket()).unwrap();
            let mut sender = Sender::builder().wait(wait).connect(ground.socket()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 0..count {
                        let delivery = receive(&receiver);
                        check(&delivery, 1, number, most);
                        assert!(!delivery.is_redelivered());
                    }
                });
                (0..count).for_each(|number| sender.send(&message(1, number, most)).unwrap());
                sender.flush(LIMIT).unwrap();
            });
            let (sent, received) = (sender.stats(), receiver.stats());
            assert_eq!((sent.sent, sent.acknowledged, sent.redelivered, sent.refused), (count, count, 0, 0));
            assert_eq!((received.received, received.acknowledged, received.redelivered), (count, count, 0));
            assert!(receiver.try_recv().unwrap().is_none());
        }
    }
}

#[test]
fn a_draft_is_written_in_place_and_sent_or_not() {
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(2).bind(ground.socket()).unwrap();
    let mut sender = Sender::connect(ground.socket()).unwrap();
    for len in [0, 1, 48, 49, 4096, 64 << 10] {
        let mut draft = sender.loan(len).unwrap();
        draft.fill(9);
        drop(draft);
        let mut draft = sender.try_loan(len).unwrap();
        assert_eq!(draft.len(), len);
        fill(&mut draft, 5);
        draft.commit().unwrap();
        let mut expected = vec![0; len];
        fill(&mut expected, 5);
        assert_eq!(receive(&receiver)[..], expected);
    }
    assert!(receiver.try_recv().unwrap().is_none(), "what was dropped was not sent");
}

#[test]
fn a_full_queue_says_so_or_waits_and_a_message_too_long_is_refused() {
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(3).capacity(100).bind(ground.socket()).unwrap();
    let mut sender = Sender::connect(ground.socket()).unwrap();
    for _ in 0..3 {
        sender.try_send(b"x").unwrap();
    }
    let error = sender.try_send(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("all 3 places"), "{error}");
    assert!(!timed_out(sender.send_timeout(b"x", Duration::from_millis(5))), "it was not sent");
    assert!(timed_out(sender.flush(Duration::from_millis(5))), "they were");
    let error = sender.send(&[0; 101]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CapacityExceeded { len: 101, capacity: 100 });
    assert_eq!((sender.stats().sent, sender.stats().refused), (3, 3));
    receive(&receiver).ack();
    sender.try_send(b"x").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            (0..3).for_each(|_| receive(&receiver).ack());
        });
        sender.send(b"y").unwrap();
    });
    assert_eq!(&receive(&receiver)[..], b"y");
}

#[test]
fn deliveries_are_held_together_and_acknowledged_in_any_order_on_any_thread() {
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(8).bind(ground.socket()).unwrap();
    let mut sender = Sender::connect(ground.socket()).unwrap();
    for round in 0..50u64 {
        (0..8).for_each(|number| sender.try_send(&message(round, number, 100)).unwrap());
        let mut held: Vec<_> = (0..8).map(|_| Some(receive(&receiver))).collect();
        held.iter().enumerate().for_each(|(number, one)| {
            check(one.as_ref().unwrap(), round, number as u64, 100);
        });
        let (mut acknowledged, mut step) = (0, 0);
        while acknowledged < 8 {
            if let Some(delivery) = held[word(round, step) as usize % 8].take() {
                std::thread::spawn(move || delivery.ack()).join().unwrap();
                acknowledged += 1;
                assert_eq!(sender.stats().acknowledged, 8 * round + acknowledged);
                // The ring frees in order: what is behind one that is held waits for it.
                let oldest_is_held = held[0].is_some();
                assert_eq!(sender.try_loan(1).is_err(), oldest_is_held);
            }
            step += 1;
        }
    }
}

#[test]
fn what_is_given_back_comes_again_first_in_order_and_marked() {
    let ground = Ground::new();
    let receiver = Receiver::bind(ground.socket()).unwrap();
    let mut sender = Sender::connect(ground.socket()).unwrap();
    sender.send_batch(["one", "two", "three"]).unwrap();
    receiver.recv_batch(2).unwrap().nack();
    for (expected, is_again) in [("one", true), ("two", true), ("three", false)] {
        let delivery = receive(&receiver);
        assert_eq!((&delivery[..], delivery.is_redelivered()), (expected.as_bytes(), is_again));
    }
    assert!(receiver.try_recv().unwrap().is_none());
    // A thread that waits gets what another gives back.
    sender.send(b"four").unwrap();
    let held = receive(&receiver);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| receive(&receiver).to_vec());
        std::thread::sleep(Duration::from_millis(20));
        held.nack();
        assert_eq!(waiting.join().unwrap(), b"four");
    });
    // A panic acknowledges nothing.
    sender.send(b"five").unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _held = receive(&receiver);
        std::panic::resume_unwind(Box::new("while the message was in hand"));
    }));
    assert!(outcome.is_err());
    assert!(receive(&receiver).is_redelivered());
    let stats = receiver.stats();
    assert_eq!((stats.received, stats.redelivered, stats.acknowledged, stats.returned), (9, 4, 5, 4));
    sender.close().unwrap();
}

#[test]
fn batches_are_sent_and_received_whole() {
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(10).bind(ground.socket()).unwrap();
    let mut sender = Sender::connect(ground.socket()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while next < 1000 {
                let batch = receiver.recv_batch(7).unwrap();
                assert!((1..=7).contains(&batch.len()));
                for delivery in batch.iter() {
                    check(delivery, 1, next, 200);
                    next += 1;
                }
            }
        });
        assert_eq!(sender.send_batch((0..1000).map(|number| message(1, number, 200))).unwrap(), 1000);
        sender.flush(LIMIT).unwrap();
    });
    assert_eq!(sender.stats().acknowledged, 1000);
    let error = sender.send_batch([vec![1], vec![0; 1 << 20]]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::CapacityExceeded { .. }));
    assert_eq!(receiver.recv_batch(7).unwrap().len(), 1, "what was before the one that failed is sent");
    assert_eq!(receiver.recv_batch(0).unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    assert!(receiver.try_recv_batch(7).unwrap().is_none());
}

// ---- many -----------------------------------------------------------------------------------------------------------

#[test]
fn each_sender_is_in_order_and_none_waits_for_more_than_a_turn_of_the_others() {
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(64).bind(ground.socket()).unwrap();
    let mut senders: Vec<Sender> = (0..3).map(|_| Sender::connect(ground.socket()).unwrap()).collect();
    for (id, sender) in senders.iter_mut().enumerate() {
        for number in 0..64u64 {
            sender.send(&[(id as u64).to_le_bytes(), number.to_le_bytes()].concat()).unwrap();
        }
    }
    eventually("all three are there", || receiver.stats().senders == 3);
    let (mut next, mut run, mut last) = ([0; 3], 0, 9);
    for _ in 0..3 * 64 {
        let delivery = receive(&receiver);
        let (id, number) = (number_of(&delivery) as usize, number_of(&delivery[8..]));
        assert_eq!(number, next[id], "of sender {id}");
        next[id] += 1;
        run = if id == last { run + 1 } else { 1 };
        last = id;
        // Turns are of 16 messages; the last sender with something left has all the turns.
        let others_are_done = next.iter().enumerate().all(|(other, &count)| other == id || count == 64);
        assert!(run <= 2 * 16 || others_are_done, "{run} in a row of sender {id} with {next:?}");
    }
}

#[test]
fn many_threads_receive_each_message_once_and_are_all_told_of_the_end() {
    for wait in WAITS {
        let ground = Ground::new();
        let receiver = Receiver::builder().slots(16).wait(wait).bind(ground.socket()).unwrap();
        let stop = receiver.shutdown_handle();
        std::thread::scope(|scope| {
            let receiving: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| receiver.iter().map(|one| number_of(&one.unwrap())).collect::<Vec<_>>()))
                .collect();
            let mut sender = Sender::builder().wait(wait).connect(ground.socket()).unwrap();
            (0..2000u64).for_each(|number| sender.send(&number.to_le_bytes()).unwrap());
            sender.close().unwrap();
            stop.shutdown();
            let mut all: Vec<u64> = receiving.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..2000).collect::<Vec<_>>());
        });
        assert!(matches!(receiver.recv().unwrap_err().kind(), ErrorKind::ServerClosed { .. }));
    }
}

#[test]
fn who_does_not_want_to_wait_does_not_while_another_waits() {
    let ground = Ground::new();
    let receiver = Receiver::bind(ground.socket()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| receive(&receiver).to_vec());
        std::thread::sleep(Duration::from_millis(20));
        let begin = Instant::now();
        assert!(receiver.try_recv().unwrap().is_none());
        assert!(receiver.recv_timeout(Duration::from_millis(10)).unwrap().is_none());
        assert!(begin.elapsed() >= Duration::from_millis(10));
        assert_eq!(receiver.stats().received, 0);
        Sender::connect(ground.socket()).unwrap().send(b"for one of us").unwrap();
        assert_eq!(waiting.join().unwrap(), b"for one of us");
    });
}

// ---- ends -----------------------------------------------------------------------------------------------------------

#[test]
fn what_a_dropped_receiver_had_not_acknowledged_goes_to_the_next_and_what_it_held_is_marked() {
    let ground = Ground::new();
    let mut sender = {
        let receiver = Receiver::builder().slots(8).bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).unwrap();
        (0..6u64).for_each(|number| sender.send(&message(1, number, 200)).unwrap());
        let held: Vec<_> = (0..4).map(|_| receive(&receiver)).collect();
        let [first, second, third, fourth] = held.try_into().unwrap();
        second.ack();
        third.nack(); // and nobody receives any more
        drop(receiver);
        std::mem::forget((first, fourth));
        sender
    };
    // Whether it is noticed at once is a matter of the clock's tick.
    eventually("the receiver's end is noticed", || sender.try_loan(1).is_err());
    let error = sender.flush(LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning);
    assert!(error.to_string().contains("5 messages are kept"), "{error}");
    let receiver = Receiver::builder().slots(8).bind(ground.socket()).unwrap();
    sender.send(b"last").unwrap();
    for (number, is_redelivered) in [(0, true), (2, true), (3, true), (4, false), (5, false)] {
        let delivery = receive(&receiver);
        check(&delivery, 1, number, 200);
        assert_eq!(delivery.is_redelivered(), is_redelivered, "message {number}");
    }
    assert_eq!(&receive(&receiver)[..], b"last");
    let stats = sender.stats();
    assert_eq!((stats.sent, stats.acknowledged, stats.redelivered, stats.reconnects), (7, 7, 3, 1));
}

#[test]
fn a_successor_with_less_room_is_refused_by_its_own_limit_and_nothing_is_lost() {
    let ground = Ground::new();
    let mut sender = {
        let _receiver = Receiver::builder().slots(8).bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).unwrap();
        sender.send_batch(["one", "two"]).unwrap();
        sender
    };
    {
        let _smaller = Receiver::builder().slots(4).bind(ground.socket()).unwrap();
        let error = sender.flush(LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let said = error.to_string();
        assert!(said.contains("wants 8 slots, the server allows 4 (ReceiverBuilder::slots)"), "{said}");
    }
    let receiver = Receiver::builder().slots(16).bind(ground.socket()).unwrap();
    assert!(timed_out(sender.flush(Duration::from_millis(5))));
    assert_eq!((&receive(&receiver)[..], &receive(&receiver)[..]), (&b"one"[..], &b"two"[..]));
    sender.close().unwrap();
}

#[test]
fn a_missing_receiver_is_waited_for_as_long_as_was_said() {
    let ground = Ground::new();
    let begin = Instant::now();
    let limit = Duration::from_millis(30);
    let error = Sender::builder().server_timeout(limit).connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning);
    assert!(begin.elapsed() >= limit);
    std::thread::scope(|scope| {
        let path = ground.socket();
        let sending = scope.spawn(move || {
            let mut sender = Sender::builder().server_timeout(LIMIT).slots(1).connect(path).unwrap();
            (0..3).for_each(|number: u64| sender.send(&number.to_le_bytes()).unwrap());
            sender.close().unwrap();
        });
        for number in 0..3 {
            std::thread::sleep(Duration::from_millis(20));
            let receiver = Receiver::bind(ground.socket()).unwrap();
            assert_eq!(number_of(&receive(&receiver)), number);
            eventually("the acknowledgement is seen", || number < 2 || sending.is_finished());
        }
    });
}

#[test]
fn who_waits_for_a_successor_keeps_its_own_time() {
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(1).bind(ground.socket()).unwrap();
    let mut sender = Sender::builder().server_timeout(Duration::MAX).connect(ground.socket()).unwrap();
    sender.send(b"one").unwrap();
    drop(receiver);
    let begin = Instant::now();
    let error = sender.send_timeout(b"two", Duration::from_millis(30)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning);
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_successor_that_goes_away_while_it_is_asked_is_missing() {
    let ground = Ground::new();
    let receiver = Receiver::bind(ground.socket()).unwrap();
    let mut sender = Sender::connect(ground.socket()).unwrap();
    sender.send(b"one").unwrap();
    drop(receiver);
    eventually("it is missed", || sender.try_send(b"two").is_err());
    let dying = RawServer::bind(&ground.socket());
    std::thread::scope(|scope| {
        scope.spawn(|| drop(dying.accept()));
        assert_eq!(sender.try_send(b"two").unwrap_err().kind(), ErrorKind::NotRunning);
    });
}

#[test]
fn a_shutdown_ends_after_what_was_sent_even_by_those_who_are_gone() {
    let ground = Ground::new();
    let receiver = Receiver::bind(ground.socket()).unwrap();
    let mut there = Sender::connect(ground.socket()).unwrap();
    let mut gone = there.try_clone().unwrap();
    gone.send_batch(["a", "b"]).unwrap();
    drop(gone);
    there.send_batch(["c"]).unwrap();
    eventually("one is gone", || receiver.stats().senders == 1);
    receiver.shutdown_handle().shutdown();
    let mut all: Vec<Vec<u8>> = receiver.iter().map(|delivery| delivery.unwrap().to_vec()).collect();
    all.sort();
    assert_eq!(all, [b"a", b"b", b"c"]);
    assert_eq!(Sender::connect(ground.socket()).unwrap_err().kind(), ErrorKind::NotRunning);
    there.flush(LIMIT).unwrap();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn sender() {
    role("sender", |parent, arguments| {
        let (path, task, count) = (Path::new(arguments[0]), arguments[1], arguments[2].parse::<u64>().unwrap());
        // Whoever is told to drop it does, whether the receiver looks or not.
        let builder = Sender::builder().server_timeout(LIMIT).linger(Duration::ZERO);
        let mut sender = builder.connect(path).unwrap();
        for number in 0..count {
            sender.send(&message(1, number, 1000)).unwrap();
        }
        match task {
            "drop" => drop(sender),
            "close" => sender.close().unwrap(),
            "exit" => std::process::exit(0), // drops nothing
            "half" => {
                let mut draft = sender.loan(100).unwrap();
                draft.fill(1);
                parent.tell("ready");
                parent.hear();
            }
            other => panic!("{other}"),
        }
    });
}

#[test]
fn what_was_committed_is_received_however_its_sender_ended_and_then_its_memory_is_gone() {
    for task in ["drop", "exit", "half"] {
        let ground = Ground::new();
        // Other tests of this file run beside it, so a process of its own is looked at.
        let mut receiving = Process::start("receiver", [ground.socket().as_os_str(), "on order".as_ref()]);
        receiving.expect("ready");
        let before = Snapshot::when_settled(receiving.id(), 0);
        for count in [0u64, 1, 100] {
            let mut process =
                Process::start("sender", [ground.socket().as_os_str(), task.as_ref(), count.to_string().as_ref()]);
            if task == "half" {
                process.expect("ready");
                process.kill();
            } else {
                process.join();
            }
            receiving.tell(count);
            receiving.expect("done");
            before.is_back(receiving.id());
        }
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn receiver() {
    role("receiver", |parent, arguments| {
        let receiver = Receiver::bind(Path::new(arguments[0])).unwrap();
        parent.tell("ready");
        let mut held = Vec::new();
        match arguments[1] {
            // Receives as many messages of one sender as it is told to.
            "on order" => {
                let mut rounds = 0;
                while let Some(count) = parent.hear() {
                    rounds += 1;
                    for number in 0..count.trim_end_matches(" and stay").parse().unwrap() {
                        check(&receive(&receiver), 1, number, 1000);
                    }
                    // A look that finds nothing more lets go of those who are gone.
                    eventually("all are gone", || {
                        let stats = receiver.stats();
                        stats.senders_accepted == rounds && (stats.senders == 0 || count.ends_with(" and stay"))
                    });
                    assert!(receiver.try_recv().unwrap().is_none());
                    parent.tell("done");
                }
            }
            // Tells the number and the mark of each message, and acknowledges or holds it as it is told to.
            "one by one" => {
                while let Some(order) = parent.hear() {
                    let delivery = receive(&receiver);
                    parent.tell(format_args!("{} {}", number_of(&delivery), delivery.is_redelivered()));
                    match order.as_str() {
                        "ack" => delivery.ack(),
                        "hold" => held.push(delivery),
                        other => panic!("{other}"),
                    }
                }
            }
            // Tells of each, and then acknowledges it, as long as it lives.
            "flood" => {
                for delivery in &receiver {
                    let delivery = delivery.unwrap();
                    parent.tell(format_args!("{} {}", number_of(&delivery), delivery.is_redelivered()));
                }
            }
            other => panic!("{other}"),
        }
    });
}

#[test]
fn a_killed_receiver_loses_nothing_and_its_successor_knows_what_it_held() {
    let ground = Ground::new();
    let start = || {
        let mut process = Process::start("receiver", [ground.socket().as_os_str(), "one by one".as_ref()]);
        process.expect("ready");
        process
    };
    let mut first = start();
    let mut sender = Sender::builder().server_timeout(LIMIT).connect(ground.socket()).unwrap();
    (0..5u64).for_each(|number| sender.send(&number.to_le_bytes()).unwrap());
    let ask = |process: &mut Process, order: &str, expected: &str| {
        process.tell(order);
        process.expect(expected);
    };
    ask(&mut first, "ack", "0 false");
    ask(&mut first, "hold", "1 false");
    ask(&mut first, "ack", "2 false");
    ask(&mut first, "hold", "3 false");
    eventually("the acknowledgement is seen", || sender.stats().acknowledged == 2);
    first.kill();
    let mut second = start();
    assert!(timed_out(sender.flush(Duration::from_millis(50))));
    ask(&mut second, "hold", "1 true");
    ask(&mut second, "hold", "3 true");
    ask(&mut second, "ack", "4 false");
    eventually("the acknowledgement is seen", || sender.stats().acknowledged == 3);
    second.kill();
    let mut third = start();
    sender.send(&5u64.to_le_bytes()).unwrap();
    // A mark stays: nobody knows what the first one did.
    for expected in ["1 true", "3 true", "5 false"] {
        assert!(timed_out(sender.flush(Duration::from_millis(1))));
        ask(&mut third, "ack", expected);
    }
    sender.close().unwrap();
}

#[test]
fn receivers_killed_in_a_flood_lose_nothing_repeat_only_what_is_marked_and_keep_the_order() {
    let ground = Ground::new();
    let path = ground.socket();
    let mut acknowledged_at_most = 0;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut sender = Sender::builder().server_timeout(LIMIT).slots(16).connect(path).unwrap();
            for number in 0..60_000u64 {
                sender.send(&number.to_le_bytes()).unwrap();
            }
            let stats = sender.stats();
            sender.close().unwrap();
            stats
        });
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        let mut next = 0;
        for life in 0..1000 {
            let mut process = Process::start("receiver", [ground.socket().as_os_str(), "flood".as_ref()]);
            process.expect("ready");
            let killer = (!sending.is_finished()).then(|| {
                let teller = rustix::process::Pid::from_child(&process.child);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_micros(500 + 700 * (life % 10)));
                    // The process is waited for after this thread, so the number is its own.
                    let _ = rustix::process::kill_process(teller, Signal::KILL);
                })
            });
            let mut last_here = None;
            while let Some(line) = hear_until(&process, &sending) {
                let (number, is_redelivered) = line.split_once(' ').unwrap();
                let number: u64 = number.parse().unwrap();
                assert!(last_here.is_none_or(|last| number == last + 1), "{number} after {last_here:?}");
                if last_here.is_none() {
                    assert!(number <= next, "{number} came where {next} was due");
                    assert!(next - number <= 16, "{number} came again: more than were under way");
                }
                last_here = Some(number);
                let times = seen.entry(number).or_default();
                assert!(*times == 0 || is_redelivered == "true", "{number} came again without a mark");
                *times += 1;
                next = next.max(number + 1);
            }
            killer.into_iter().for_each(|thread| thread.join().unwrap());
            acknowledged_at_most = life;
            if sending.is_finished() && next == 60_000 {
                break;
            }
        }
        let stats = sending.join().unwrap();
        assert_eq!((next, seen.len()), (60_000, 60_000));
        println!("{acknowledged_at_most} receivers were killed, {} messages came again", stats.redelivered);
    });
}

/// The next line of a receiver; `None` when it is gone, or there is nothing more to come.
fn hear_until<T>(process: &Process, sending: &std::thread::ScopedJoinHandle<'_, T>) -> Option<String> {
    loop {
        if process.has_said_something(Duration::from_millis(5)).unwrap() {
            return process.try_hear();
        }
        if sending.is_finished() && !process.has_said_something(Duration::from_millis(20)).unwrap() {
            return None;
        }
    }
}

#[test]
fn a_stopped_receiver_is_waited_for_and_goes_on_where_it_was() {
    let ground = Ground::new();
    let mut process = Process::start("receiver", [ground.socket().as_os_str(), "on order".as_ref()]);
    process.expect("ready");
    let mut sender = Sender::builder().slots(4).connect(ground.socket()).unwrap();
    process.signal(Signal::STOP);
    (0..4).for_each(|number| sender.send(&message(1, number, 1000)).unwrap());
    assert!(!timed_out(sender.send_timeout(b"x", Duration::from_millis(30))));
    process.signal(Signal::CONT);
    process.tell("4 and stay");
    process.expect("done");
    sender.close().unwrap();
}

// ---- names and forms ------------------------------------------------------------------------------------------------

#[test]
fn a_name_has_one_receiver_and_other_forms_are_told_what_it_is() {
    let ground = Ground::new();
    let _receiver = Receiver::bind(ground.socket()).unwrap();
    assert_eq!(Receiver::bind(ground.socket()).unwrap_err().kind(), ErrorKind::NameTaken);
    assert_eq!(Server::bind(ground.socket()).unwrap_err().kind(), ErrorKind::NameTaken);
    let error = Client::connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch);
    let said = error.to_string();
    assert!(said.contains("serves bytes version 0 as a queue, but the client speaks bytes version 0"), "{said}");
    assert_eq!(Stream::connect(ground.socket()).unwrap_err().kind(), ErrorKind::ContractMismatch);
    let _server = Server::bind(ground.path("exchange")).unwrap();
    let error = Sender::connect(ground.path("exchange")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch);
    let contract = wigwag::Contract::named("log lines", 1);
    let error = Sender::builder().contract(contract).connect(ground.socket()).unwrap_err();
    assert!(error.to_string().contains("log lines version 1 as a queue"), "{error}");
}

#[test]
fn what_is_out_of_limits_is_refused_with_the_limit() {
    let ground = Ground::new();
    for (builder, said) in [
        (Receiver::builder().slots(0), "0 slots"),
        (Receiver::builder().slots(4097), "1 to 4096"),
        (Receiver::builder().capacity((1 << 30) + 1), "1073741824"),
    ] {
        let error = builder.bind(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(error.to_string().contains(said), "{error}");
    }
    let _receiver = Receiver::builder().slots(8).max_sessions(1).bind(ground.socket()).unwrap();
    let error = Sender::builder().slots(4097).connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    let error = Sender::builder().slots(9).connect(ground.socket()).unwrap_err();
    assert!(error.to_string().contains("wants 9 slots, the server allows 8 (ReceiverBuilder::slots)"), "{error}");
    let _one = Sender::connect(ground.socket()).unwrap();
    let error = Sender::connect(ground.socket()).unwrap_err();
    assert!(error.to_string().contains("all 1 sessions"), "{error}");
}

#[test]
fn senders_that_are_gone_count_until_their_messages_are_received() {
    let ground = Ground::new();
    let receiver = Receiver::builder().max_sessions(1).bind(ground.socket()).unwrap();
    Sender::connect(ground.socket()).unwrap().send(b"one").unwrap();
    eventually("it is gone", || receiver.stats().senders == 0);
    assert_eq!(Sender::connect(ground.socket()).unwrap_err().kind(), ErrorKind::Refused);
    receive(&receiver).ack();
    eventually("its place is free", || {
        assert!(receiver.try_recv().unwrap().is_none()); // the receiver lets go of it when it looks
        Sender::connect(ground.socket()).is_ok()
    });
}

#[test]
fn both_ends_go_from_thread_to_thread() {
    fn goes<T: Send>() {}
    fn is_shared<T: Sync>() {}
    goes::<Sender>();
    goes::<wigwag::MessageLoan<'_>>();
    goes::<Receiver>();
    is_shared::<Receiver>();
    goes::<Delivery>();
    is_shared::<Delivery>();
    goes::<wigwag::Batch>();
}

// ---- lies and forks -------------------------------------------------------------------------------------------------

#[test]
fn a_sender_that_lies_loses_its_session_and_nobody_else_does() {
    const FIRST: u64 = 1 << 8 | SERVER;
    let lies: [(&str, u64, u64); 10] = [
        ("a request", FIRST, REQUEST | 1),
        ("a message said to be handed out", FIRST, DELIVERED | 1),
        ("an acknowledgement", FIRST, ACKNOWLEDGED),
        ("an unknown kind", FIRST, 10 << 32 | 1),
        ("a deadline", FIRST, MESSAGE | HAS_DEADLINE | 1),
        ("an unknown flag", FIRST, MESSAGE | 1 << 42 | 1),
        ("more than the line has", FIRST, MESSAGE | 49),
        ("more than the capacity", FIRST, MESSAGE | IN_BODY | 101),
        ("a sequence that is not due", 2 << 8 | SERVER, MESSAGE | 1),
        ("an unknown bit in the turn", FIRST | 1 << 4, MESSAGE | 1),
    ];
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(4).capacity(100).bind(ground.socket()).unwrap();
    let mut honest = Sender::connect(ground.socket()).unwrap();
    for (found, (what, turn, head)) in lies.into_iter().enumerate() {
        let raw = Raw::connect_sender(&ground.socket(), 4);
        raw.pass(0, turn, head);
        honest.send(b"honest").unwrap();
        assert_eq!(&receive(&receiver)[..], b"honest", "{what}");
        eventually("the lie is found", || {
            assert!(receiver.try_recv().unwrap().is_none(), "{what}");
            receiver.stats().violations == found as u64 + 1
        });
        assert_eq!(raw.end().0, wire::VIOLATION, "{what}");
    }
    // A message that is in hand is taken back: noticed when it is acknowledged.
    let raw = Raw::connect_sender(&ground.socket(), 4);
    raw.pass(0, FIRST, MESSAGE | 1);
    let delivery = receive(&receiver);
    raw.turn(0).store(7 << 8, Ordering::SeqCst);
    delivery.ack();
    assert_eq!(raw.end().0, wire::VIOLATION);
    // Another slot than the one that is next is never looked at.
    let raw = Raw::connect_sender(&ground.socket(), 4);
    raw.pass(2, FIRST, MESSAGE | 1);
    assert!(receiver.recv_timeout(Duration::from_millis(10)).unwrap().is_none());
    // A mark that only receivers cause may be claimed: it says less about the message, not more.
    raw.pass(0, FIRST, REDELIVERED | 1);
    assert!(receive(&receiver).is_redelivered());
    honest.close().unwrap();
}

#[test]
fn a_sender_that_hung_up_and_goes_on_has_an_end() {
    let ground = Ground::new();
    let receiver = Receiver::builder().slots(4).bind(ground.socket()).unwrap();
    let raw = Raw::connect_sender(&ground.socket(), 4);
    eventually("it is there", || receiver.stats().senders == 1);
    rustix::net::shutdown(&raw.socket, rustix::net::Shutdown::Both).unwrap();
    eventually("it is gone", || receiver.stats().senders == 0);
    let (mut taken, mut sequence) = (0, [0u64; 4]);
    for pass in 0..40 {
        let slot = pass % 4;
        if raw.turn(slot).load(Ordering::Acquire) & SERVER == 0 {
            sequence[slot] += 1;
            raw.pass(slot, sequence[slot] << 8 | SERVER, MESSAGE | 1);
        }
        taken += usize::from(receiver.try_recv().unwrap().is_some());
    }
    assert!(taken <= 4, "{taken} messages of a sender that is gone were taken");
}

#[test]
fn a_receiver_that_lies_ends_the_session_for_good() {
    const FIRST: u64 = 1 << 8;
    let lies: [(&str, u64, u64); 6] = [
        ("another sequence", 2 << 8, ACKNOWLEDGED),
        ("a reply", FIRST, 2 << 32),
        ("the message itself", FIRST, MESSAGE | 1),
        ("a message that was only handed out", FIRST, DELIVERED | 1),
        ("a length", FIRST, ACKNOWLEDGED | 1),
        ("nothing known", FIRST, u64::MAX),
    ];
    for (what, turn, head) in lies {
        let ground = Ground::new();
        let listener = RawServer::bind(&ground.socket());
        let (mut sender, raw) = std::thread::scope(|scope| {
            let connecting = scope.spawn(|| Sender::connect(ground.socket()).unwrap());
            let raw = listener.serve_in_form(1, 100, 1);
            (connecting.join().unwrap(), raw)
        });
        sender.send(b"x").unwrap();
        assert_eq!(raw.turn(0).load(Ordering::SeqCst), FIRST | SERVER);
        assert_eq!(raw.head(0).load(Ordering::SeqCst), MESSAGE | 1);
        raw.head(0).store(head, Ordering::SeqCst);
        raw.turn(0).store(turn, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(sender.send(b"y").unwrap_err().kind(), ErrorKind::Violation, "{what}");
            assert_eq!(sender.flush(LIMIT).unwrap_err().kind(), ErrorKind::Violation, "{what}");
        }
    }
}

#[test]
fn a_forked_child_is_told_so_by_everything_and_ends_nothing() {
    let ground = Ground::new();
    let receiver = Receiver::bind(ground.socket()).unwrap();
    let mut sender = Sender::connect(ground.socket()).unwrap();
    sender.send(b"before").unwrap();
    // SAFETY: the child touches both ends only, whose operations here take no lock that another thread may hold, and
    // ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forked = |error: wigwag::Error| error.kind() == ErrorKind::Forked;
        let is_told = sender.send(b"x").is_err_and(forked)
            && sender.try_send(b"x").is_err_and(forked)
            && sender.loan(100).is_err_and(forked)
            && sender.send_batch(["x"]).is_err_and(forked)
            && sender.flush(LIMIT).is_err_and(forked)
            && receiver.recv().is_err_and(forked)
            && receiver.try_recv().is_err_and(forked)
            && receiver.recv_batch(1).is_err_and(forked)
            && receiver.stats().received == 0
            && sender.stats().sent == 1;
        drop((sender, receiver));
        // SAFETY: no memory is involved.
        unsafe { libc::_exit(if is_told { 7 } else { 1 }) };
    }
    let pid = rustix::process::Pid::from_raw(child);
    let (_, status) = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(7));
    sender.send(b"after").unwrap();
    assert_eq!((&receive(&receiver)[..], &receive(&receiver)[..]), (&b"before"[..], &b"after"[..]));
    sender.close().unwrap();
}
