//! Broadcasts between threads and processes: whole messages in order, losses told to the last one, and a publisher that
//! nobody holds up, whoever is slow, stopped or dead.

#[path = "support/publications.rs"]
mod publications;

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use publications::{check, message, publish, read_out};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use wigwag::{ErrorKind, Message, Overrun, Publisher, Start, Subscriber, Wait};
use wigwag_testing::{Ground, LIMIT, Over, Process, Raw, descriptors, eventually, limited, role, wire, word};

const WAITS: [Wait; 3] = [Wait::Adaptive, Wait::Park, Wait::Spin];

fn is_readable(what: impl AsFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::new(&what, PollFlags::IN)], Some(&limit)).unwrap() > 0
}

// ---- messages -------------------------------------------------------------------------------------------------------

#[test]
fn everybody_gets_every_message_in_order_at_all_sizes_however_they_wait() {
    for (history, most, count) in [(1, 100, 500), (4, 48, 5_000), (16, 20_000, 2_000), (64, 0, 1_000)] {
        limited(move || {
            let ground = Ground::new();
            let builder = Publisher::builder().history(history).capacity(most).overrun(Overrun::Wait(LIMIT));
            let mut publisher = builder.bind(ground.socket()).unwrap();
            std::thread::scope(|scope| {
                let readers = WAITS.map(|wait| {
                    let mut subscriber = Subscriber::builder().wait(wait).connect(ground.socket()).unwrap();
                    scope.spawn(move || read_out(&mut subscriber, most))
                });
                publisher.wait_for_subscribers(3, LIMIT).unwrap();
                publish(&mut publisher, count, most);
                publisher.close();
                for reader in readers {
                    assert_eq!(reader.join().unwrap(), (count, 0), "{history} {most}");
                }
            });
        });
    }
}

#[test]
fn a_draft_is_written_in_place_and_published_or_not() {
    let ground = Ground::new();
    let mut publisher = Publisher::builder().history(2).bind(ground.socket()).unwrap();
    let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
    for len in [0, 1, 47, 48, 49, 4096, 64 << 10] {
        for byte in [1, 2] {
            let mut draft = publisher.loan(len).unwrap();
            draft.fill(byte);
            assert_eq!(draft.len(), len);
            if byte == 2 {
                draft.commit().unwrap();
            }
        }
        assert_eq!(subscriber.recv().unwrap()[..], vec![2; len]);
        assert!(subscriber.try_recv().unwrap().is_none());
    }
}

#[test]
fn where_a_subscriber_begins_is_its_choice() {
    let ground = Ground::new();
    let mut publisher = Publisher::builder().history(4).bind(ground.socket()).unwrap();
    let first_of = |start, publisher: &mut Publisher| {
        let mut subscriber = Subscriber::builder().start(start).connect(ground.socket()).unwrap();
        let there = subscriber.try_recv().unwrap();
        let there = there.map(|message| (message.sequence(), message.lost_before()));
        let next = publisher.send(b"next").unwrap();
        let found = there.unwrap_or_else(|| {
            let message = subscriber.recv().unwrap();
            assert_eq!(message.sequence(), next);
            (message.sequence(), message.lost_before())
        });
        assert!(found.0 == next || there.is_some());
        found
    };
    for start in [Start::Next, Start::Oldest, Start::Last] {
        let published = publisher.stats().published;
        let found = first_of(start, &mut publisher);
        let expected = match start {
            Start::Next => published + 1,
            Start::Oldest => 1,
            Start::Last => published,
        };
        assert_eq!(found, (expected, 0), "{start:?}");
    }
    publish(&mut publisher, 10, 100);
    let published = publisher.stats().published;
    assert_eq!(first_of(Start::Oldest, &mut publisher), (published - 3, 0), "to begin late is no loss");
    assert_eq!(first_of(Start::Last, &mut publisher), (published + 1, 0));
    assert_eq!(first_of(Start::Next, &mut publisher), (published + 3, 0));
}

#[test]
fn who_is_lapped_is_told_how_many_were_lost_and_goes_on_with_the_oldest() {
    for most in [40, 5000] {
        let ground = Ground::new();
        let mut publisher = Publisher::builder().history(4).capacity(most).bind(ground.socket()).unwrap();
        let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        let (mut next, mut lost) = (1, 0);
        for batch in [1, 4, 5, 6, 9, 10, 11, 100] {
            publish(&mut publisher, batch, most);
            assert_eq!(subscriber.lag(), batch);
            // The entry that the next message would replace is kept as well, until then.
            let expected = if batch > 5 { batch - 4 } else { 0 };
            let message = subscriber.recv().unwrap();
            check(&message, most);
            assert_eq!(message.sequence(), next + message.lost_before(), "batch of {batch}");
            assert!(message.lost_before() == expected, "{} of {batch} were lost", message.lost_before());
            lost += message.lost_before();
            while let Some(message) = subscriber.try_recv().unwrap() {
                assert_eq!(message.lost_before(), 0);
                check(&message, most);
            }
            next += batch;
        }
        assert_eq!((subscriber.stats().lost, subscriber.stats().received), (lost, next - 1 - lost));
        let state = publisher.subscribers()[0];
        assert_eq!((state.lost, state.received, state.lag), (lost, next - 1 - lost, 0));
    }
}

#[test]
fn a_copy_is_the_same_and_holds_nothing() {
    let ground = Ground::new();
    let mut publisher = Publisher::builder().history(4).bind(ground.socket()).unwrap();
    let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
    publisher.wait_for_subscribers(1, LIMIT).unwrap();
    let mut bytes = vec![9; 3];
    assert!(subscriber.try_recv_into(&mut bytes).unwrap().is_none());
    for _ in 0..100 {
        publish(&mut publisher, 1, 2000);
        let receipt = subscriber.recv_into(&mut bytes).unwrap();
        assert_eq!(bytes, message(receipt.sequence, 2000));
        assert_eq!((receipt.lost_before, subscriber.stats().held), (0, 0));
    }
}

// ---- holds ----------------------------------------------------------------------------------------------------------

#[test]
fn what_is_held_stays_as_it_was_through_many_laps_and_comes_back_when_it_is_dropped() {
    let ground = Ground::new();
    let builder = Publisher::builder().history(2).capacity(4096).max_holds(4).holds(3);
    let mut publisher = builder.bind(ground.socket()).unwrap();
    let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
    publisher.wait_for_subscribers(1, LIMIT).unwrap();
    let send = |publisher: &mut Publisher, byte: u8| publisher.send(&[byte; 4096]).unwrap();
    let mut held = Vec::new();
    for byte in 0..3 {
        send(&mut publisher, byte);
        let message = subscriber.recv().unwrap();
        assert!(message.is_in_place());
        held.push(message);
    }
    send(&mut publisher, 3);
    let error = subscriber.recv().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("holds 3 messages") && error.to_string().contains("holds)"), "{error}");
    for round in 0..1000_u32 {
        send(&mut publisher, round as u8);
    }
    for (byte, message) in held.iter().enumerate() {
        assert!(message.iter().all(|it| usize::from(*it) == byte), "a held message has changed");
    }
    assert_eq!(publisher.subscribers()[0].holds, 3);
    assert!(publisher.stats().scans > 0);
    // A message outlives its subscriber, and is held as before.
    drop(subscriber);
    let last = held.pop().unwrap();
    std::thread::spawn(move || drop(held)).join().unwrap();
    (0..1000_u32).for_each(|round| _ = send(&mut publisher, round as u8));
    assert!(last.iter().all(|it| *it == 2), "a held message has changed");
    assert_eq!(publisher.subscribers().len(), 1, "its session lives as long as the message");
    drop(last);
    eventually("the session is over", || publisher.subscribers().is_empty());
}

#[test]
fn who_comes_when_all_holds_are_given_away_copies() {
    let ground = Ground::new();
    let mut publisher = Publisher::builder().capacity(4096).max_holds(2).holds(2).bind(ground.socket()).unwrap();
    let mut subscribers: Vec<_> = (0..3).map(|_| Subscriber::connect(ground.socket()).unwrap()).collect();
    publisher.wait_for_subscribers(3, LIMIT).unwrap();
    assert_eq!(subscribers.iter().map(|it| it.stats().may_hold).collect::<Vec<_>>(), [2, 0, 0]);
    publish(&mut publisher, 20, 4096);
    for (index, subscriber) in subscribers.iter_mut().enumerate() {
        for _ in 0..20 {
            let message = subscriber.recv().unwrap();
            check(&message, 4096);
            assert_eq!(message.is_in_place(), index == 0 && message.len() > 48);
        }
    }
    subscribers.remove(0);
    eventually("its holds are free again", || {
        publisher.send(b"").unwrap(); // the publisher lets go of the session when it looks
        Subscriber::connect(ground.socket()).unwrap().stats().may_hold == 2
    });
}

#[test]
fn who_asks_for_less_than_it_could_hold_is_granted_no_more() {
    let ground = Ground::new();
    let mut publisher = Publisher::builder().history(1).capacity(100).holds(4).bind(ground.socket()).unwrap();
    let asks = Raw::connect_saying(&ground.socket(), wire::hello(), 1, u32::MAX, 3);
    publisher.wait_for_subscribers(1, LIMIT).unwrap();
    assert_eq!((asks.slots, publisher.subscribers()[0].may_hold), (1, 1));
    publish(&mut publisher, 1000, 100);
}

// ---- sleeping and waking --------------------------------------------------------------------------------------------

#[test]
fn sleepers_are_woken_few_or_many() {
    for count in [1, 3, 40] {
        limited(move || {
            let ground = Ground::new();
            let mut publisher = Publisher::bind(ground.socket()).unwrap();
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let _over = Over(&is_over);
                let readers: Vec<_> = (0..count)
                    .map(|_| {
                        let mut subscriber = Subscriber::builder().wait(Wait::Park).connect(ground.socket()).unwrap();
                        scope.spawn(move || read_out(&mut subscriber, 100))
                    })
                    .collect();
                publisher.wait_for_subscribers(count, LIMIT).unwrap();
                for _ in 0..20 {
                    eventually("all sleep", || publisher.subscribers().iter().all(|it| it.is_asleep && it.lag == 0));
                    publish(&mut publisher, 1, 100);
                }
                let stats = publisher.stats();
                assert_eq!(stats.handed_over > 0, count > 4, "{stats:?}");
                publisher.close();
                for reader in readers {
                    assert_eq!(reader.join().unwrap(), (20, 0));
                }
            });
        });
    }
}

#[test]
fn a_descriptor_tells_of_messages_and_of_the_end() {
    let ground = Ground::new();
    let mut publisher = Publisher::bind(ground.socket()).unwrap();
    let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
    for _ in 0..10 {
        assert!(subscriber.try_recv().unwrap().is_none());
        // Whoever has just come is rung once, in case it slept before it was known.
        eventually("it is armed", || subscriber.arm().unwrap() && !is_readable(&subscriber, Duration::from_millis(1)));
        publish(&mut publisher, 2, 100);
        assert!(is_readable(&subscriber, LIMIT));
        assert_eq!([(); 2].map(|()| subscriber.recv().unwrap().lost_before()), [0, 0]);
    }
    assert!(subscriber.arm().unwrap());
    drop(publisher);
    assert!(is_readable(&subscriber, LIMIT));
    eventually("the end is told", || {
        subscriber.try_recv().map_err(|error| assert_eq!(error.kind(), ErrorKind::Ended)).is_err()
    });
}

#[test]
fn a_publisher_s_descriptor_tells_that_there_is_room_again() {
    let ground = Ground::new();
    let builder = Publisher::builder().history(1).overrun(Overrun::Wait(LIMIT));
    let mut publisher = builder.bind(ground.socket()).unwrap();
    let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
    publisher.wait_for_subscribers(1, LIMIT).unwrap();
    publish(&mut publisher, 2, 10);
    for number in 3..10 {
        assert_eq!(publisher.try_send(b"").unwrap_err().kind(), ErrorKind::Full);
        assert!(!is_readable(&publisher, Duration::from_millis(1)), "there is no room, and nobody came");
        subscriber.recv().unwrap();
        assert!(is_readable(&publisher, LIMIT));
        assert_eq!(publisher.try_send(b"").unwrap(), number);
    }
}

// ---- a publisher that waits -----------------------------------------------------------------------------------------

#[test]
fn a_patient_publisher_waits_and_one_without_patience_says_that_it_would() {
    let ground = Ground::new();
    let overrun = Overrun::Wait(Duration::ZERO);
    let mut publisher = Publisher::builder().history(2).overrun(overrun).bind(ground.socket()).unwrap();
    let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
    publisher.wait_for_subscribers(1, LIMIT).unwrap();
    publish(&mut publisher, 3, 10); // the third lies in the entry that the next message would replace
    for outcome in [publisher.send(b"4"), publisher.try_send(b"4"), publisher.send_timeout(b"4", LIMIT)] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(error.to_string().contains("has not read"), "{error}");
    }
    check(&subscriber.recv().unwrap(), 10);
    assert_eq!(publisher.send(&message(4, 10)).unwrap(), 4);
    assert!(publisher.try_send(b"5").is_err());
    drop(subscriber);
    eventually("nobody is waited for", || publisher.try_send(b"5").is_ok());
}

#[test]
fn who_keeps_a_patient_publisher_waiting_is_cut_off_and_told_and_the_others_go_on() {
    limited(|| {
        let ground = Ground::new();
        let overrun = Overrun::Wait(Duration::from_millis(20));
        let mut publisher = Publisher::builder().history(2).overrun(overrun).bind(ground.socket()).unwrap();
        let mut slow = Subscriber::builder().reconnect(LIMIT).connect(ground.socket()).unwrap();
        let mut quick = Subscriber::connect(ground.socket()).unwrap();
        publisher.wait_for_subscribers(2, LIMIT).unwrap();
        let error = {
            publish(&mut publisher, 3, 10);
            publisher.send_timeout(b"4", Duration::from_millis(1)).unwrap_err()
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: false }, "{error}");
        for _ in 0..20 {
            check(&quick.recv().unwrap(), 10);
            publish(&mut publisher, 1, 10);
        }
        assert_eq!(publisher.stats().cut_off, 1);
        let mut read = 0;
        let error = loop {
            match slow.recv() {
                Ok(message) => {
                    check(&message, 10);
                    read += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("more than 20 ms within 2 messages"), "{error}");
        assert!(read <= 3, "it reads what was there, and not what comes");
        assert_eq!(quick.stats().lost, 0);
    });
}

#[test]
fn a_patient_publisher_does_not_wait_for_the_dead() {
    limited(|| {
        let ground = Ground::new();
        let builder = Publisher::builder().history(1).overrun(Overrun::Wait(LIMIT * 10));
        let mut publisher = builder.bind(ground.socket()).unwrap();
        let mut process = Process::start("reader", [ground.socket().to_str().unwrap(), "idle"]);
        process.expect("connected");
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        publish(&mut publisher, 2, 10);
        assert!(publisher.try_send(b"").is_err());
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            process.kill();
        });
        publish(&mut publisher, 10, 10);
        assert_eq!(publisher.stats().cut_off, 0);
    });
}

// ---- processes that are killed and stopped --------------------------------------------------------------------------

/// Reads, in one of several ways. Arguments: the socket, the way.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn reader() {
    role("reader", |parent, arguments| {
        let (path, way) = (Path::new(arguments[0]), arguments[1]);
        let mut subscriber = Subscriber::builder().start(Start::Oldest).connect(path).unwrap();
        parent.tell("connected");
        let mut held: Vec<Message> = Vec::new();
        let (mut next, mut bytes) = (None, Vec::new());
        let mut follow = |sequence: u64, lost: u64| {
            assert!(next.is_none_or(|next| next + lost == sequence), "{lost} lost before {sequence}, after {next:?}");
            next = Some(sequence + 1);
        };
        match way {
            "idle" => _ = parent.hear_at_last(),
            "holds" => {
                while let Ok(message) = subscriber.recv() {
                    if !message.is_in_place() {
                        continue;
                    }
                    held.push(message);
                    if held.len() == subscriber.stats().may_hold {
                        break;
                    }
                }
                parent.tell("holds");
                parent.hear_at_last();
                held.iter().for_each(|message| check(message, 3000));
                parent.tell("as they were");
                parent.hear_at_last();
            }
            "copies" => {
                while let Ok(receipt) = subscriber.recv_into(&mut bytes) {
                    assert!(bytes == message(receipt.sequence, 3000), "message {} is torn", receipt.sequence);
                    follow(receipt.sequence, receipt.lost_before);
                }
            }
            _ => {
                while let Ok(message) = subscriber.recv() {
                    check(&message, 3000);
                    follow(message.sequence(), message.lost_before());
                    held.push(message);
                    if held.len() >= 3 {
                        held.remove(0);
                    }
                }
            }
        }
        let stats = subscriber.stats();
        parent.tell(format!("{} {}", stats.received, stats.lost));
    });
}

#[test]
fn nothing_is_torn_and_nothing_lost_in_silence_while_readers_in_processes_hold_and_copy() {
    let ground = Ground::new();
    let builder = Publisher::builder().history(8).capacity(3000).max_holds(12).holds(3);
    let mut publisher = builder.bind(ground.socket()).unwrap();
    let ways = ["in place", "copies", "in place", "copies"];
    let mut readers = ways.map(|way| Process::start("reader", [ground.socket().to_str().unwrap(), way]));
    readers.iter_mut().for_each(|reader| reader.expect("connected"));
    publisher.wait_for_subscribers(4, LIMIT).unwrap();
    for round in 0..200 {
        publish(&mut publisher, 500, 3000);
        if round % 4 == 0 {
            std::thread::sleep(Duration::from_micros(200)); // so that some sleep now and then
        }
    }
    publisher.close();
    for mut reader in readers {
        let counts: Vec<u64> = reader.hear().split(' ').map(|number| number.parse().unwrap()).collect();
        assert_eq!(counts[0] + counts[1], 100_000, "each message came or was told as lost");
        assert!(counts[0] > 0);
        reader.join();
    }
}

#[test]
fn readers_that_are_killed_and_stopped_at_any_time_keep_nobody_waiting_and_nothing() {
    let ground = Ground::new();
    let builder = Publisher::builder().history(4).capacity(3000).max_holds(60).holds(3);
    let mut publisher = builder.bind(ground.socket()).unwrap();
    let mut witness = Subscriber::connect(ground.socket()).unwrap();
    let mut stopped = Vec::new();
    for round in 0..30_u64 {
        let way = ["in place", "copies", "holds"][round as usize % 3];
        let mut process = Process::start("reader", [ground.socket().to_str().unwrap(), way]);
        process.expect("connected");
        let messages = word(3, round) % 2000;
        publish(&mut publisher, messages, 3000);
        if round % 2 == 0 {
            process.kill();
        } else {
            process.halt();
            stopped.push(process);
        }
        publish(&mut publisher, 100, 3000);
        while let Some(message) = witness.try_recv().unwrap() {
            check(&message, 3000);
        }
    }
    assert!(publisher.subscribers().len() > stopped.len());
    stopped.clear(); // which kills them
    eventually("all but one are gone", || publisher.subscribers().len() == 1);
    publish(&mut publisher, 100, 3000);
    let stats = witness.stats();
    let last = loop {
        match witness.try_recv().unwrap() {
            Some(message) if message.sequence() == publisher.stats().published => break message,
            _ => {}
        }
    };
    check(&last, 3000);
    assert!(stats.received + stats.lost <= publisher.stats().published);
}

#[test]
fn what_a_stopped_reader_holds_is_as_it_was_when_it_goes_on() {
    let ground = Ground::new();
    let builder = Publisher::builder().history(4).capacity(3000).max_holds(8).holds(4);
    let mut publisher = builder.bind(ground.socket()).unwrap();
    let mut process = Process::start("reader", [ground.socket().to_str().unwrap(), "holds"]);
    process.expect("connected");
    while !process.has_said_something(Duration::from_millis(1)).unwrap() {
        publish(&mut publisher, 1, 3000);
    }
    process.expect("holds");
    process.halt();
    publish(&mut publisher, 20_000, 3000);
    assert_eq!(publisher.subscribers()[0].holds, 4);
    process.signal(Signal::CONT);
    process.tell("go on");
    process.expect("as they were");
}

/// Publishes as quickly as it can, and says what it has published. Arguments: the socket, the longest message.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn writer() {
    role("writer", |parent, arguments| {
        let (path, most) = (Path::new(arguments[0]), arguments[1].parse().unwrap());
        let mut publisher = Publisher::builder().history(16).capacity(most).bind(path).unwrap();
        parent.tell("bound");
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        let pause = arguments[2].parse().unwrap();
        loop {
            publish(&mut publisher, 1, most);
            parent.tell(publisher.stats().published);
            if pause > 0 {
                std::thread::sleep(Duration::from_micros(pause));
            }
        }
    });
}

#[test]
fn what_a_publisher_had_published_when_it_was_killed_is_read_and_nothing_half() {
    for round in 0..40_u64 {
        let ground = Ground::new();
        let most = if round % 2 == 0 { 48 } else { 3000 };
        let pause = (round % 3 * 20).to_string();
        let arguments = [ground.socket().to_str().unwrap().to_owned(), most.to_string(), pause];
        let mut process = Process::start("writer", arguments);
        process.expect("bound");
        // It may be far behind when it begins, on a machine that has much else to do.
        let mut subscriber = Subscriber::builder().start(Start::Oldest).connect(ground.socket()).unwrap();
        let (mut next, mut told) = (None, 0);
        let kill_at = word(5, round) % 200; // its lines have room in the socket
        let error = loop {
            match subscriber.recv_timeout(LIMIT) {
                Ok(message) => {
                    check(&message, most);
                    let first = message.sequence() - message.lost_before();
                    assert_eq!(next.unwrap_or(first), first);
                    next = Some(message.sequence() + 1);
                    if message.sequence() >= kill_at && process.is_alive() {
                        process.kill();
                    }
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false }, "{error}");
        while let Some(line) = process.try_hear() {
            told = line.parse().unwrap();
        }
        assert!(next > Some(told), "message {told} was published, and {next:?} would be read next");
        assert_eq!(subscriber.recv().unwrap_err().kind(), error.kind(), "it stays so");
    }
}

#[test]
fn a_follower_reads_the_old_publisher_out_and_knows_what_it_missed_of_the_next() {
    limited(|| {
        let ground = Ground::new();
        let mut publisher = Publisher::builder().history(4).bind(ground.socket()).unwrap();
        let mut subscriber = Subscriber::builder().reconnect(LIMIT).connect(ground.socket()).unwrap();
        publish(&mut publisher, 3, 100);
        publisher.close();
        let mut publisher = Publisher::builder().history(4).bind(ground.socket()).unwrap();
        publish(&mut publisher, 10, 100);
        let mut seen = Vec::new();
        for _ in 0..7 {
            let message = subscriber.recv().unwrap();
            check(&message, 100);
            seen.push((message.sequence(), message.lost_before(), message.is_of_new_publisher()));
        }
        let expected =
            [(1, 0, false), (2, 0, false), (3, 0, false), (7, 6, true), (8, 0, false), (9, 0, false), (10, 0, false)];
        assert_eq!(seen, expected);
        let stats = subscriber.stats();
        assert_eq!((stats.received, stats.lost, stats.publishers), (7, 6, 1));
        // One that is killed.
        drop(publisher);
        let arguments = [ground.socket().to_str().unwrap().to_owned(), "100".into(), "50".into()];
        let mut process = Process::start("writer", arguments);
        process.expect("bound");
        let message = subscriber.recv().unwrap();
        assert!(message.is_of_new_publisher() && message.sequence() == message.lost_before() + 1);
        process.kill();
        let last = loop {
            match subscriber.recv_timeout(Duration::from_millis(50)) {
                Ok(message) => check(&message, 100),
                Err(error) => break error,
            }
        };
        assert_eq!(last.kind(), ErrorKind::TimedOut { maybe_executed: false }, "{last}");
        let mut publisher = Publisher::bind(ground.socket()).unwrap();
        publish(&mut publisher, 1, 100);
        let message = subscriber.recv().unwrap();
        assert_eq!((message.sequence(), message.lost_before(), message.is_of_new_publisher()), (1, 0, true));
    });
}

// ---- forks, ends, errors --------------------------------------------------------------------------------------------

#[test]
fn a_forked_child_is_told_and_harms_nobody() {
    let ground = Ground::new();
    let mut publisher = Publisher::bind(ground.socket()).unwrap();
    let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
    publisher.wait_for_subscribers(1, LIMIT).unwrap();
    publish(&mut publisher, 1, 100);
    let held = subscriber.recv().unwrap();
    let child = {
        let _guard = wigwag_testing::process_starts();
        // SAFETY: the child calls what is said to be safe in one, and ends at once.
        unsafe { libc::fork() }
    };
    if child == 0 {
        let is_forked = |kind: ErrorKind| kind == ErrorKind::Forked;
        let told = [
            publisher.send(b"").is_err_and(|error| is_forked(error.kind())),
            subscriber.recv().is_err_and(|error| is_forked(error.kind())),
            subscriber.try_recv().is_err_and(|error| is_forked(error.kind())),
            subscriber.arm().is_err_and(|error| is_forked(error.kind())),
        ];
        drop(held);
        drop(subscriber);
        drop(publisher);
        // SAFETY: no memory is involved.
        unsafe { libc::_exit(if told == [true; 4] { 7 } else { 1 }) };
    }
    let pid = rustix::process::Pid::from_raw(child);
    let (_, status) = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(7));
    publish(&mut publisher, 1, 100);
    check(&held, 100);
    check(&subscriber.recv().unwrap(), 100);
}

#[test]
fn bad_input_gets_a_sentence_with_the_numbers_and_the_cure() {
    let ground = Ground::new();
    let invalid = |builder: wigwag::PublisherBuilder, texts: &[&str]| {
        let error = builder.bind(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
        assert!(texts.iter().all(|text| error.to_string().contains(text)), "{error}");
    };
    invalid(Publisher::builder().history(0), &["history of 0", "1 to 65536"]);
    invalid(Publisher::builder().history(65537), &["65537", "1 to 65536"]);
    invalid(Publisher::builder().holds(65), &["65 holds", "64"]);
    invalid(Publisher::builder().max_holds(65537), &["65537 holds", "65536"]);
    invalid(Publisher::builder().capacity((1 << 30) + 1), &["1073741825", "1073741824"]);
    invalid(Publisher::builder().max_bytes_total(1 << 20), &["1048576", "max_bytes_total", "history"]);
    let others = Publisher::builder().allow_everyone().max_bytes_per_session(1 << 20);
    invalid(others, &["another user", "1048576", "max_bytes_per_session"]);
    assert_eq!(Subscriber::connect(ground.socket()).unwrap_err().kind(), ErrorKind::NotRunning);

    let mut publisher = Publisher::builder().capacity(100).bind(ground.socket()).unwrap();
    assert_eq!(Publisher::bind(ground.socket()).unwrap_err().kind(), ErrorKind::NameTaken);
    let error = publisher.send(&[0; 101]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CapacityExceeded { len: 101, capacity: 100 });
    assert!(error.to_string().contains("PublisherBuilder::capacity"), "{error}");
    let contract = wigwag::Contract::named("others", 2);
    let error = Subscriber::builder().contract(contract).connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch, "{error}");
    let error = wigwag::Receiver::bind(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameTaken);
    let error = wigwag::Sender::connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch, "{error}");
    let mut subscriber = Subscriber::connect(ground.socket()).unwrap();
    let error = subscriber.recv_timeout(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("has published nothing yet"), "{error}");
    publish(&mut publisher, 1, 100);
    subscriber.recv().unwrap();
    let error = subscriber.recv_timeout(Duration::from_millis(1)).unwrap_err();
    assert!(error.to_string().contains("the last one was number 1"), "{error}");
    let error = publisher.wait_for_subscribers(2, Duration::from_millis(1)).unwrap_err();
    assert!(error.to_string().contains("1 of 2 subscribers"), "{error}");
}

#[test]
fn a_publisher_that_is_replaced_is_over_and_its_subscribers_follow() {
    limited(|| {
        let ground = Ground::new();
        let mut old = Publisher::bind(ground.socket()).unwrap();
        let mut subscriber = Subscriber::builder().reconnect(LIMIT).connect(ground.socket()).unwrap();
        publish(&mut old, 2, 100);
        let mut new = Publisher::builder().replace(LIMIT).bind(ground.socket()).unwrap();
        let error = loop {
            match old.send(&message(old.stats().published + 1, 100)) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ServerClosed { maybe_executed: false }, "{error}");
        let published = old.stats().published;
        drop(old);
        publish(&mut new, 1, 100);
        let (mut lost, mut came) = (0, 0);
        loop {
            let message = subscriber.recv().unwrap();
            check(&message, 100);
            if message.is_of_new_publisher() {
                assert_eq!((message.sequence(), message.lost_before()), (1, 0));
                break;
            }
            (lost, came) = (lost + message.lost_before(), came + 1);
        }
        assert_eq!(lost + came, published);
    });
}

#[test]
fn a_publisher_that_is_replaced_while_it_waits_is_told() {
    for waits_for_room in [false, true] {
        limited(move || {
            let ground = Ground::new();
            let builder = Publisher::builder().history(1).overrun(Overrun::Wait(Duration::MAX));
            let mut old = builder.bind(ground.socket()).unwrap();
            let _laggard = waits_for_room.then(|| {
                let laggard = Subscriber::connect(ground.socket()).unwrap();
                old.wait_for_subscribers(1, LIMIT).unwrap();
                publish(&mut old, 2, 10);
                laggard
            });
            let waiting = std::thread::spawn(move || match waits_for_room {
                true => old.send(b"").unwrap_err().kind(),
                false => old.wait_for_subscribers(1, Duration::MAX).unwrap_err().kind(),
            });
            std::thread::sleep(Duration::from_millis(50)); // so that it sleeps
            let _new = Publisher::builder().replace(LIMIT).bind(ground.socket()).unwrap();
            assert_eq!(waiting.join().unwrap(), ErrorKind::ServerClosed { maybe_executed: false });
        });
    }
}

#[test]
fn the_board_is_mapped_to_be_read_only_and_cannot_be_made_writable() {
    let ground = Ground::new();
    let _publisher = Publisher::bind(ground.socket()).unwrap();
    let mut process = Process::start("mapper", [ground.socket()]);
    process.expect("r--s 1");
    process.join();
}

/// Says how its mappings of a board are, after it tried to make them writable.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn mapper() {
    role("mapper", |parent, arguments| {
        let _subscriber = Subscriber::connect(Path::new(arguments[0])).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let boards: Vec<&str> = maps.lines().filter(|line| line.contains("wigwag-board")).collect();
        for line in &boards {
            let (begin, rest) = line.split_once('-').unwrap();
            let begin = usize::from_str_radix(begin, 16).unwrap();
            let end = usize::from_str_radix(rest.split(' ').next().unwrap(), 16).unwrap();
            // SAFETY: it changes no contents, and is expected to fail.
            let outcome = unsafe { libc::mprotect(begin as *mut _, end - begin, 3) };
            assert_eq!(outcome, -1, "the kernel let it be made writable");
        }
        parent.tell(format!("{} {}", boards[0].split(' ').nth(1).unwrap(), boards.len()));
    });
}

#[test]
fn a_publisher_s_end_gives_everything_back() {
    let ground = Ground::new();
    Process::start("opener", [ground.socket()]).join();
}

/// Opens and closes, and counts what is left.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn opener() {
    role("opener", |_, arguments| {
        let path = Path::new(arguments[0]);
        let before = descriptors::descriptors();
        for _ in 0..3 {
            let mut publisher = Publisher::bind(path).unwrap();
            let mut subscribers: Vec<_> = (0..10).map(|_| Subscriber::connect(path).unwrap()).collect();
            publisher.wait_for_subscribers(10, LIMIT).unwrap();
            publish(&mut publisher, 1, 100);
            subscribers.iter_mut().for_each(|it| check(&it.recv().unwrap(), 100));
            drop(publisher);
            assert!(subscribers.iter_mut().all(|it| it.recv().unwrap_err().kind() == ErrorKind::Ended));
            assert_eq!(Subscriber::connect(path).unwrap_err().kind(), ErrorKind::NotRunning);
        }
        descriptors::nothing_is_left(before);
    });
}

#[test]
fn descriptors_are_of_their_owners() {
    let ground = Ground::new();
    let publisher = Publisher::bind(ground.socket()).unwrap();
    let subscriber = Subscriber::connect(ground.socket()).unwrap();
    assert!(publisher.as_fd().as_raw_fd() >= 0 && subscriber.as_fd().as_raw_fd() >= 0);
    assert!(is_readable(&publisher, LIMIT), "somebody came");
}
