//! File descriptors with messages of a queue: they arrive in their order, come again with a message that comes again,
//! and every misuse has its end and leaves none behind, in this process and in the other.

#[path = "support/runtimes.rs"]
mod runtimes;

use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use runtimes::on_both;
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, pidfd_getfd, pidfd_open, setrlimit};
use wigwag::{Access, Delivery, Error, ErrorKind, Receiver, Sender};
use wigwag_testing::descriptors::{
    alone, asking, descriptors, files_here, fill_table, message, nothing_is_left, number_of, numbered, send,
};
use wigwag_testing::others::become_user;
use wigwag_testing::wire::{self, READY, VIOLATION};
use wigwag_testing::{
    ACKNOWLEDGED, Ground, HAS_DEADLINE, LIMIT, MESSAGE, Offer, Process, Raw, RawServer, SERVER, eventually, role,
};

// ---- the ground of all ----------------------------------------------------------------------------------------------

fn bind(path: impl AsRef<Path>) -> Receiver {
    Receiver::builder().slots(8).descriptors(true).bind(path.as_ref()).unwrap()
}

fn connect(path: impl AsRef<Path>) -> Sender {
    Sender::builder().descriptors(true).linger(Duration::ZERO).connect(path.as_ref()).unwrap()
}

/// Sends one byte with files of these numbers.
fn carry(sender: &mut Sender, what: u8, numbers: impl IntoIterator<Item = u8>) -> wigwag::Result<()> {
    let mut draft = sender.loan(1)?;
    draft[0] = what;
    numbers.into_iter().try_for_each(|number| draft.attach(numbered(number)))?;
    draft.commit()
}

fn receive(receiver: &Receiver) -> Delivery {
    receiver.recv_timeout(LIMIT).unwrap().expect("a message within the limit")
}

fn taken(delivery: &mut Delivery) -> Vec<u8> {
    delivery.take_descriptors().unwrap().iter().map(number_of).collect()
}

/// A sender whose receiver is gone finds the next one.
fn go_on(sender: &mut Sender) {
    let before = sender.stats().reconnects;
    eventually("a successor is found", || {
        let _ = sender.flush(Duration::from_millis(1));
        sender.stats().reconnects > before
    });
}

#[track_caller]
fn check(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} lacks {part:?}");
    }
}

// ---- one way --------------------------------------------------------------------------------------------------------

#[test]
fn descriptors_come_with_their_message_in_their_order_and_are_taken_once() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        for count in (0..=16).chain([16, 1, 0, 5]) {
            carry(&mut sender, count, 0..count).unwrap();
            let mut delivery = receive(&receiver);
            assert_eq!(delivery[..], [count]);
            let came = delivery.take_descriptors().unwrap();
            assert!(came.iter().all(|descriptor| fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC)));
            assert_eq!(came.iter().map(number_of).collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            assert!(delivery.take_descriptors().unwrap().is_empty());
        }
        sender.close().unwrap();
    }
    nothing_is_left(before);
}

#[test]
fn messages_without_go_on_between_those_with_some_and_batches_have_both() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        for round in 0..200u8 {
            let count = round % 3;
            let mut expected = Vec::new();
            for part in 0..5 {
                match part % 2 {
                    0 => sender.send(&[part]).unwrap(),
                    _ => carry(&mut sender, part, (0..count).map(|number| number + part)).unwrap(),
                }
                let numbers = (0..count * (part % 2)).map(|number| number + part);
                expected.push((part, numbers.collect::<Vec<u8>>()));
            }
            sender.send_batch([[5], [6]]).unwrap();
            expected.extend([(5, vec![]), (6, vec![])]);
            let mut found = Vec::new();
            while found.len() < expected.len() {
                let mut batch = receiver.recv_batch_timeout(3, LIMIT).unwrap().unwrap();
                found.extend(batch.iter_mut().map(|delivery| (delivery[0], taken(delivery))));
                match round % 2 {
                    0 => batch.ack(),
                    _ => batch.into_iter().rev().for_each(Delivery::ack), // in any order
                }
            }
            assert_eq!(found, expected, "round {round}");
        }
        assert!(receiver.try_recv().unwrap().is_none());
        sender.close().unwrap();
    }
    nothing_is_left(before);
}

#[test]
fn the_forms_that_do_not_wait_carry_them_too_and_a_full_queue_sends_none() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = Receiver::builder().slots(1).descriptors(true).bind(ground.socket()).unwrap();
        let mut sender = connect(ground.socket());
        let mut draft = sender.try_loan(0).unwrap();
        draft.attach(numbered(1)).unwrap();
        draft.commit().unwrap();
        assert_eq!(sender.try_loan(0).unwrap_err().kind(), ErrorKind::Full);
        let late = sender.loan_timeout(0, Duration::from_millis(1)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut { maybe_executed: false });
        assert_eq!(taken(&mut receiver.try_recv().unwrap().unwrap()), [1]);
        let mut draft = sender.loan_timeout(0, LIMIT).unwrap();
        draft.attach(numbered(2)).unwrap();
        draft.commit().unwrap();
        assert_eq!(taken(&mut receive(&receiver)), [2]);
    }
    nothing_is_left(before);
}

#[test]
fn a_draft_that_is_not_committed_sends_none_and_the_next_in_its_place_has_its_own() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        sender.send(b"first").unwrap();
        drop(receive(&receiver));
        let level = descriptors();
        // More often than a sender may have some attached.
        for _ in 0..100 {
            let mut draft = sender.loan(1).unwrap();
            draft.attach(numbered(0)).unwrap();
        }
        assert_eq!(descriptors(), level);
        sender.send(b"without").unwrap();
        assert!(taken(&mut receive(&receiver)).is_empty());
        carry(&mut sender, 0, [7]).unwrap();
        assert_eq!(taken(&mut receive(&receiver)), [7]);
    }
    nothing_is_left(before);
}

#[test]
fn what_nobody_takes_is_closed_here_when_it_is_acknowledged_and_there_by_the_next_call() {
    let _alone = alone();
    let before = descriptors();
    for way in ["flush", "attach", "send", "drop"] {
        nothing_is_left(before); // also what the last round's server closes in the background
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        let (mut reading, writing) = pipe().unwrap();
        let mut draft = sender.loan(0).unwrap();
        draft.attach(writing).unwrap();
        draft.commit().unwrap();
        let delivery = receive(&receiver);
        let level = descriptors();
        delivery.ack();
        eventually("what came is closed", || descriptors() == level - 1);
        match way {
            "flush" => sender.flush(LIMIT).unwrap(),
            "attach" => {
                let mut draft = sender.loan(0).unwrap();
                draft.attach(numbered(0)).unwrap();
            }
            "send" => eventually("a tick later a send looks", || {
                sender.send(b"").unwrap();
                drop(receive(&receiver));
                descriptors() == level - 2
            }),
            _ => drop(sender),
        }
        if way != "drop" {
            eventually("the duplicate is closed", || descriptors() == level - 2);
        }
        assert_eq!(reading.read_to_end(&mut Vec::new()).unwrap(), 0, "{way}: nobody holds it any more");
    }
    nothing_is_left(before);
}

// ---- again ----------------------------------------------------------------------------------------------------------

#[test]
fn a_message_that_is_given_back_comes_again_with_all_its_descriptors() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        carry(&mut sender, 1, [1, 2]).unwrap();
        carry(&mut sender, 2, [3]).unwrap();
        receive(&receiver).nack(); // untaken
        for _ in 0..3 {
            let mut delivery = receive(&receiver);
            assert_eq!((delivery[0], delivery.is_redelivered()), (1, true));
            assert_eq!(taken(&mut delivery), [1, 2]);
            delivery.nack();
        }
        let panicked = std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let mut delivery = receive(&receiver);
                let _came = delivery.take_descriptors().unwrap();
                panic!("with {delivery:?} in hand, as ordered");
            });
            panics.join()
        });
        panicked.unwrap_err();
        let mut again = receive(&receiver);
        assert_eq!((again[0], taken(&mut again)), (1, vec![1, 2]));
        again.ack();
        let mut second = receive(&receiver);
        assert_eq!((second[0], second.is_redelivered(), taken(&mut second)), (2, false, vec![3]));
        second.ack();
        sender.close().unwrap();
        eventually("all are closed", || files_here() == 0);
    }
    nothing_is_left(before);
}

/// Arguments: the socket. Takes what comes with two messages, acknowledges the first, and waits.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn dying_receiver() {
    role("dying_receiver", |parent, arguments| {
        let receiver = bind(arguments[0]);
        parent.tell("ready");
        receive(&receiver).ack();
        let mut had = receive(&receiver);
        assert_eq!(taken(&mut had), [2, 3]);
        parent.tell("has it");
        parent.hear();
    });
}

#[test]
fn a_receiver_that_is_killed_leaves_its_successor_all_that_came_with_what_it_did_not_acknowledge() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut dying = Process::start("dying_receiver", [ground.socket()]);
        dying.expect("ready");
        let mut sender = connect(ground.socket());
        carry(&mut sender, 1, [1]).unwrap();
        carry(&mut sender, 2, [2, 3]).unwrap();
        carry(&mut sender, 3, []).unwrap();
        carry(&mut sender, 4, [4]).unwrap();
        dying.expect("has it");
        dying.kill();
        let successor = bind(ground.socket());
        go_on(&mut sender);
        let messages: Vec<_> = (0..3).map(|_| receive(&successor)).collect();
        let content = |mut message: Delivery| (message[0], message.is_redelivered(), taken(&mut message));
        let came: Vec<_> = messages.into_iter().map(content).collect();
        assert_eq!(came, [(2, true, vec![2, 3]), (3, false, vec![]), (4, false, vec![4])]);
        carry(&mut sender, 5, [5]).unwrap();
        assert_eq!(taken(&mut receive(&successor)), [5]);
        sender.close().unwrap();
    }
    nothing_is_left(before);
}

#[test]
fn one_receiver_after_the_other_leaves_all_to_the_next_and_what_was_given_back_as_well() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        (0..4).for_each(|what| carry(&mut sender, what, 0..16).unwrap()); // as many as a sender may have under way
        for round in 0..5 {
            receive(&receiver).nack();
            let outlives = receive(&receiver);
            drop(receiver);
            receiver = bind(ground.socket());
            go_on(&mut sender);
            outlives.nack(); // its session is over, and the message has gone on
            let mut batch = receiver.recv_batch(4).unwrap();
            for (what, delivery) in batch.iter_mut().enumerate() {
                assert_eq!((usize::from(delivery[0]), delivery.is_redelivered()), (what, what < 1 || round > 0));
                assert_eq!(taken(delivery), (0..16).collect::<Vec<_>>());
            }
            batch.nack();
        }
        while sender.flush(Duration::from_millis(1)).is_err() {
            drop(receive(&receiver));
        }
        assert_eq!(sender.stats().acknowledged, 4);
    }
    nothing_is_left(before);
}

#[test]
fn what_is_committed_to_a_receiver_that_is_gone_is_kept_with_its_descriptors() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        let mut draft = sender.loan(1).unwrap();
        drop(receiver);
        draft[0] = 9;
        draft.attach(numbered(6)).unwrap();
        draft.commit().unwrap();
        assert_eq!(sender.flush(LIMIT).unwrap_err().kind(), ErrorKind::NotRunning);
        let successor = bind(ground.socket());
        go_on(&mut sender);
        let mut delivery = receive(&successor);
        assert_eq!((delivery[0], delivery.is_redelivered(), taken(&mut delivery)), (9, false, vec![6]));
        delivery.ack();
        sender.close().unwrap();
    }
    nothing_is_left(before);
}

#[test]
fn a_successor_to_which_none_travel_gets_no_message_without_them() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut sender = {
            let _receiver = bind(ground.socket());
            let mut sender = connect(ground.socket());
            sender.send(&[1]).unwrap();
            carry(&mut sender, 2, [2]).unwrap();
            sender
        };
        {
            let without = Receiver::builder().slots(8).bind(ground.socket()).unwrap();
            for _ in 0..3 {
                let error = sender.flush(LIMIT).unwrap_err();
                check(
                    &error,
                    ErrorKind::NotAgreed,
                    &["1 of the messages", "ReceiverBuilder::descriptors", "2 messages"],
                );
                let mut who_does_not_wait = || sender.try_send(b"more").unwrap_err().kind();
                eventually("it is told the same", || who_does_not_wait() == ErrorKind::NotAgreed);
            }
            assert!(without.recv_timeout(Duration::from_millis(20)).unwrap().is_none());
        }
        let receiver = bind(ground.socket());
        go_on(&mut sender);
        assert_eq!(receive(&receiver)[..], [1]);
        assert_eq!(taken(&mut receive(&receiver)), [2]);
        // Where no message that is kept has some, the sender goes on as ever.
        sender.flush(LIMIT).unwrap();
        sender.send(&[3]).unwrap();
        drop(receiver);
        let without = Receiver::builder().slots(8).bind(ground.socket()).unwrap();
        go_on(&mut sender);
        assert_eq!(receive(&without)[..], [3]);
    }
    nothing_is_left(before);
}

// ---- not agreed -----------------------------------------------------------------------------------------------------

#[test]
fn nothing_travels_unless_both_sides_have_asked() {
    let _alone = alone();
    for (receiver_asks, sender_asks) in [(false, false), (true, false), (false, true)] {
        let ground = Ground::new();
        let receiver = Receiver::builder().descriptors(receiver_asks).bind(ground.socket()).unwrap();
        let mut sender = Sender::builder().descriptors(sender_asks).connect(ground.socket()).unwrap();
        let mut draft = sender.loan(3).unwrap();
        draft.copy_from_slice(b"abc");
        let error = draft.attach(numbered(0)).unwrap_err();
        check(&error, ErrorKind::NotAgreed, &["SenderBuilder::descriptors", "ReceiverBuilder::descriptors"]);
        draft.commit().unwrap(); // it is as it was
        let mut delivery = receive(&receiver);
        assert!(delivery[..] == *b"abc" && taken(&mut delivery).is_empty());
    }
}

#[test]
fn a_receiver_of_protocol_1_is_sent_none() {
    let _alone = alone();
    let ground = Ground::new();
    let raw = RawServer::bind(&ground.socket());
    let old = std::thread::spawn(move || {
        let newer = raw.accept();
        wire::receive(&newer).unwrap();
        wire::send(&newer, b"\x04\x03the versions", &[]).unwrap();
        let socket = raw.accept();
        assert_eq!(wire::receive(&socket).unwrap().bytes[5..9], [1, 0, 1, 0]);
        let raw = Offer::in_form(1, 4096, 1).of_version_1().send(socket).unwrap();
        assert_eq!(wire::receive(&raw.socket).unwrap().bytes, READY);
        raw
    });
    let mut sender = connect(ground.socket());
    check(&sender.loan(0).unwrap().attach(numbered(0)).unwrap_err(), ErrorKind::NotAgreed, &["speak protocol 2"]);
    drop(old.join().unwrap());
}

// ---- limits ---------------------------------------------------------------------------------------------------------

#[test]
fn sixteen_travel_at_a_time() {
    let _alone = alone();
    let ground = Ground::new();
    let receiver = bind(ground.socket());
    let mut sender = connect(ground.socket());
    let file = numbered(0);
    let mut draft = sender.loan(0).unwrap();
    (0..16).for_each(|_| draft.attach(&file).unwrap());
    check(&draft.attach(&file).unwrap_err(), ErrorKind::Full, &["16", "message"]);
    draft.commit().unwrap();
    assert_eq!(receive(&receiver).take_descriptors().unwrap().len(), 16);
}

#[test]
fn a_sender_has_64_in_messages_that_are_not_acknowledged_and_then_says_full() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        (0..4).for_each(|what| carry(&mut sender, what, 0..16).unwrap());
        check(&carry(&mut sender, 4, [0]).unwrap_err(), ErrorKind::Full, &["64", "acknowledged"]);
        sender.send(b"without").unwrap();
        let mut batch: Vec<_> = (0..5).map(|_| receive(&receiver)).collect();
        check(&carry(&mut sender, 4, [0]).unwrap_err(), ErrorKind::Full, &["64"]);
        batch.remove(2).ack(); // in any order
        carry(&mut sender, 5, 0..16).unwrap();
        check(&carry(&mut sender, 6, [0]).unwrap_err(), ErrorKind::Full, &["64"]);
        drop(batch);
        assert_eq!(receive(&receiver).take_descriptors().unwrap().len(), 16);
        sender.close().unwrap();
    }
    nothing_is_left(before);
}

/// Arguments: the socket.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_sender() {
    role("poor_sender", |parent, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(120), maximum: Some(120) }).unwrap();
        let mut senders = [connect(arguments[0]), connect(arguments[0])];
        let mut sent = 0;
        let error = loop {
            match carry(&mut senders[sent % 2], 0, [0]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        check(&error, ErrorKind::Full, &["30", "ulimit -n", "this process"]);
        parent.tell(sent);
        parent.hear();
        for sender in &mut senders {
            carry(sender, 0, [0; 15]).unwrap();
        }
        parent.tell("room again");
    });
}

#[test]
fn a_process_has_a_quarter_of_its_limit_in_messages_of_all_its_senders() {
    let _alone = alone();
    let ground = Ground::new();
    let receiver = Receiver::builder().descriptors(true).bind(ground.socket()).unwrap();
    let mut poor = Process::start("poor_sender", [ground.socket()]);
    poor.expect("30");
    (0..30).for_each(|_| assert_eq!(taken(&mut receive(&receiver)), [0]));
    poor.tell("received");
    poor.expect("room again");
    poor.join();
}

#[test]
fn a_message_that_the_kernel_does_not_take_the_descriptors_of_is_not_sent() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let raw = RawServer::bind(&ground.socket());
        let reader = std::thread::spawn(move || serve_by_hand(&raw));
        let there = open_descriptors();
        let mut sender = connect(ground.socket());
        let raw = reader.join().unwrap();
        // The sender's own socket is among those that are new: from now on it takes few messages that nobody reads.
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        for descriptor in open_descriptors().into_iter().filter(|descriptor| !there.contains(descriptor)) {
            if let Ok(socket) = pidfd_getfd(&own, descriptor, PidfdGetfdFlags::empty()) {
                let _ = set_socket_send_buffer_size(&socket, 1);
            }
        }
        drop(own);
        let level = descriptors();
        let sent = (0..64).take_while(|what| match carry(&mut sender, *what, [*what]) {
            Ok(()) => true,
            Err(error) => {
                check(&error, ErrorKind::Full, &["has not read", "1 descriptors could not be sent"]);
                false
            }
        });
        let sent = sent.count();
        assert!((1..64).contains(&sent), "{sent} were sent");
        assert_eq!(descriptors(), level + sent, "the duplicates of those that were sent are kept, and no other");
        (0..sent).for_each(|what| {
            let message = wire::receive(&raw.socket).unwrap();
            assert_eq!(usize::from(number_of(&message.descriptors[0])), what);
        });
        carry(&mut sender, 0, [0]).unwrap();
        drop((sender, raw));
    }
    nothing_is_left(before);
}

fn open_descriptors() -> Vec<i32> {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A receiver with which descriptors were agreed on, and that does nothing by itself.
fn serve_by_hand(raw: &RawServer) -> Raw {
    let socket = raw.accept();
    assert_eq!(wire::receive(&socket).unwrap().bytes[38] & 1, 1, "descriptors are offered");
    let mut offer = Offer::in_form(64, 4096, 1);
    offer.welcome[28] = 1;
    let raw = offer.send(socket).unwrap();
    assert_eq!(wire::receive(&raw.socket).unwrap().bytes, READY);
    raw
}

/// Arguments: the socket, and what it does with the second message, at which its table is full.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn full_receiver() {
    role("full_receiver", |parent, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: Some(100) }).unwrap();
        let receiver = bind(arguments[0]);
        parent.tell("ready");
        receive(&receiver).ack();
        let held = fill_table();
        parent.tell("full");
        let mut lacking = receive(&receiver);
        for _ in 0..2 {
            check(&lacking.take_descriptors().unwrap_err(), ErrorKind::Full, &["ulimit -n", "sender has them"]);
        }
        assert_eq!(lacking[..], [2]);
        drop(held);
        let mut awaited = vec![(3, vec![4])];
        match arguments[1] {
            "gives back" => {
                lacking.nack();
                awaited.push((2, vec![0, 1, 2, 3]));
            }
            _ => lacking.ack(),
        }
        parent.tell("room");
        while !awaited.is_empty() {
            let mut again = receive(&receiver);
            let came = (again[0], taken(&mut again));
            assert!(came.0 != 2 || again.is_redelivered());
            awaited.retain(|awaited| *awaited != came);
        }
        parent.tell("done");
        while parent.has_said_something(Some(Duration::ZERO)).is_ok_and(|said| !said) {
            drop(receiver.recv_timeout(Duration::from_millis(1)).unwrap());
        }
    });
}

#[test]
fn a_receiver_whose_table_is_full_is_told_and_has_the_message_sent_anew_by_giving_it_back() {
    let _alone = alone();
    let before = descriptors();
    for (way, reconnects) in [("gives back", 1), ("acknowledges", 0)] {
        let ground = Ground::new();
        let mut receiver = Process::start("full_receiver", [ground.socket().as_os_str(), way.as_ref()]);
        receiver.expect("ready");
        let mut sender = connect(ground.socket());
        sender.send(&[1]).unwrap();
        receiver.expect("full");
        carry(&mut sender, 2, 0..4).unwrap();
        receiver.expect("room");
        carry(&mut sender, 3, [4]).unwrap();
        sender.flush(LIMIT).unwrap();
        receiver.expect("done");
        assert_eq!(sender.stats().reconnects, reconnects, "{way}");
        receiver.tell("end");
        receiver.join();
    }
    nothing_is_left(before);
}

/// Arguments: the socket. Holds what comes, until it is told to let go of it.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_receiver() {
    role("poor_receiver", |parent, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(120), maximum: Some(120) }).unwrap();
        let receiver = bind(arguments[0]);
        parent.tell("ready");
        let mut both = vec![receive(&receiver), receive(&receiver)];
        let lacks = |delivery: &mut Delivery| {
            let error = delivery.take_descriptors().err()?;
            check(&error, ErrorKind::Full, &["30 descriptors", "ulimit -n"]);
            Some(())
        };
        let lacking = both.iter_mut().position(|delivery| lacks(delivery).is_some()).expect("there is room for one");
        let lacking = both.swap_remove(lacking);
        drop(both);
        lacking.nack();
        parent.tell("given back");
        loop {
            // What was let go of counts until it is closed.
            let mut again = receive(&receiver);
            match again.take_descriptors() {
                Ok(came) => break assert_eq!(came.len(), 16),
                Err(_) => again.nack(),
            }
        }
        parent.tell("done");
    });
}

#[test]
fn a_receiving_process_has_a_quarter_of_its_limit_in_hand_from_all_its_senders() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let mut receiver = Process::start("poor_receiver", [ground.socket()]);
        receiver.expect("ready");
        let mut senders = [connect(ground.socket()), connect(ground.socket())];
        senders.iter_mut().for_each(|sender| carry(sender, 1, 0..16).unwrap());
        receiver.expect("given back");
        eventually("both are acknowledged", || {
            senders.iter_mut().all(|sender| sender.flush(Duration::from_millis(10)).is_ok())
        });
        receiver.expect("done");
        receiver.join();
    }
    nothing_is_left(before);
}

// ---- the end of a sender, and of a receiver -------------------------------------------------------------------------

/// Arguments: the socket, and how it ends. Sends three messages with descriptors, and has a draft with one.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn ending_sender() {
    role("ending_sender", |parent, arguments| {
        let mut sender = connect(arguments[0]);
        (1..=3).for_each(|what| carry(&mut sender, what, [what, what + 10]).unwrap());
        if arguments[1] == "dropped" {
            drop(sender);
            return parent.tell("sent");
        }
        let mut draft = sender.loan(1).unwrap();
        draft.attach(numbered(99)).unwrap();
        parent.tell("sent");
        parent.hear();
    });
}

#[test]
fn what_a_sender_that_is_gone_had_sent_is_received_with_its_descriptors() {
    let _alone = alone();
    let before = descriptors();
    for way in ["killed", "dropped"] {
        for looks_before in [false, true] {
            let ground = Ground::new();
            let receiver = bind(ground.socket());
            let mut ending = Process::start("ending_sender", [ground.socket().as_os_str(), way.as_ref()]);
            ending.expect("sent");
            let first = looks_before.then(|| receive(&receiver));
            match way {
                "killed" => drop(ending.kill()),
                _ => ending.join(),
            }
            eventually("the end is seen", || receiver.stats().senders == 0);
            if let Some(mut first) = first {
                assert_eq!(taken(&mut first), [1, 11], "what came stays");
                first.nack();
            }
            for what in 1..=3 {
                let mut delivery = receive(&receiver);
                assert_eq!((delivery[0], taken(&mut delivery)), (what, vec![what, what + 10]), "{way}");
            }
            assert!(receiver.recv_timeout(Duration::from_millis(5)).unwrap().is_none());
            eventually("nothing of it is left", || files_here() == 0);
        }
    }
    nothing_is_left(before);
}

#[test]
fn who_leaves_between_message_and_turn_leaves_none_even_while_another_message_of_it_is_in_hand() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let raw = Raw::connect_saying(&ground.socket(), asking(), 4, u32::MAX, 1);
        send(&raw, &message(1, 0, 1), 1);
        raw.pass(0, FIRST, MESSAGE | 1 << 42);
        let delivery = receive(&receiver);
        send(&raw, &message(2, 1, 1), 2);
        eventually("they are here", || files_here() == 3);
        drop(raw);
        eventually("the end is seen", || receiver.stats().senders == 0);
        assert!(receiver.recv_timeout(Duration::from_millis(5)).unwrap().is_none());
        eventually("what belongs to no message is closed", || files_here() == 1);
        drop(delivery);
        eventually("and so is the rest", || files_here() == 0);
    }
    nothing_is_left(before);
}

#[test]
fn a_shutdown_hands_out_what_was_sent_with_its_descriptors_and_leaves_the_rest_to_the_next() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut there = connect(ground.socket());
        let mut gone = there.try_clone().unwrap();
        carry(&mut gone, 1, [1]).unwrap();
        drop(gone);
        carry(&mut there, 2, [2]).unwrap();
        eventually("one is gone", || receiver.stats().senders == 1);
        receiver.shutdown_handle().shutdown();
        receive(&receiver).nack();
        let mut came: Vec<_> = receiver
            .iter()
            .map(|delivery| {
                let mut delivery = delivery.unwrap();
                (delivery[0], taken(&mut delivery))
            })
            .collect();
        came.sort();
        assert_eq!(came, [(1, vec![1]), (2, vec![2])]);
        carry(&mut there, 3, [3]).unwrap(); // the end was told
        drop(receiver);
        let next = bind(ground.socket());
        go_on(&mut there);
        assert_eq!(taken(&mut receive(&next)), [3]);
        there.close().unwrap();
    }
    nothing_is_left(before);
}

#[test]
fn a_close_waits_for_messages_with_descriptors_and_then_keeps_none() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let mut sender = connect(ground.socket());
        (0..4).for_each(|what| carry(&mut sender, what, [what; 3]).unwrap());
        std::thread::scope(|scope| {
            let closing = scope.spawn(move || sender.close());
            for what in 0..4 {
                assert!(!closing.is_finished());
                assert_eq!(taken(&mut receive(&receiver)), [what; 3]);
            }
            closing.join().unwrap().unwrap();
        });
        eventually("all are closed", || files_here() == 0);
    }
    nothing_is_left(before);
}

// ---- senders that mean harm -----------------------------------------------------------------------------------------

const FIRST: u64 = 1 << 8 | SERVER;

/// A message in slot 0 with that many descriptors, says its head.
fn pass(raw: &Raw, count: u64) {
    raw.pass(0, FIRST, MESSAGE | count << 42);
}

/// One violation: what it is, what is done, what the farewell says.
type Misuse = (&'static str, fn(&Raw), &'static str);

const MISUSES: &[Misuse] = &[
    ("a message without them", |raw| pass(raw, 2), "2 descriptors, and no message came with them"),
    (
        "fewer than were said",
        |raw| {
            send(raw, &message(3, 0, 1), 2);
            pass(raw, 3);
        },
        "sent 2 descriptors and said 3",
    ),
    (
        "another number than the head says",
        |raw| {
            send(raw, &message(2, 0, 1), 2);
            pass(raw, 3);
        },
        "has 3 descriptors, and 2 were sent",
    ),
    (
        "a deadline beside them",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            raw.pass(0, FIRST, MESSAGE | HAS_DEADLINE | 1 << 42);
        },
        "nothing this session allows",
    ),
    (
        "an acknowledgement with some",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            raw.pass(0, FIRST, ACKNOWLEDGED | 1 << 42);
        },
        "nothing this session allows",
    ),
    (
        "a length beyond the capacity",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            raw.pass(0, FIRST, MESSAGE | 1 << 42 | 1 << 40 | (raw.capacity + 1));
        },
        "nothing this session allows",
    ),
    ("none at all", |raw| send(raw, &message(0, 0, 1), 0), "where 1 to 16 travel"),
    ("one too many", |raw| send(raw, &message(17, 0, 1), 17), "where 1 to 16 travel"),
    ("a head that says 17", |raw| pass(raw, 17), "nothing this session allows"),
    ("a slot that there is not", |raw| send(raw, &message(1, 8, 1), 1), "slot 8 of 8"),
    ("a sequence that will be", |raw| send(raw, &message(1, 0, 2), 1), "request 2 of slot 0, where request 1 is due"),
    (
        "two for one message",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            send(raw, &message(1, 0, 1), 1);
        },
        "others for it lie unread",
    ),
    (
        "more than 64 that belong to no message yet",
        |raw| {
            (0..4).for_each(|slot| send(raw, &message(16, slot, 1), 16));
            send(raw, &message(1, 4, 1), 1);
        },
        "it sent 1 descriptors beside 64, where 64 may be under way",
    ),
    (
        "a message that came without what was sent for it",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            pass(raw, 0);
            raw.wait(0);
        },
        "for request 1 of slot 0, where request 2 is due",
    ),
    (
        "more for one that is done with",
        |raw| {
            send(raw, &message(1, 0, 1), 1);
            pass(raw, 1);
            raw.wait(0);
            send(raw, &message(1, 0, 1), 1);
        },
        "for request 1 of slot 0, where request 2 is due",
    ),
];

#[test]
fn each_misuse_of_a_sender_ends_its_session_and_leaves_none() {
    let _alone = alone();
    let before = descriptors();
    {
        let ground = Ground::new();
        let receiver = bind(ground.socket());
        let stop = receiver.shutdown_handle();
        std::thread::scope(|scope| {
            let receiver = &receiver;
            scope.spawn(move || receiver.iter().for_each(|delivery| drop(delivery.unwrap())));
            let mut honest = connect(ground.socket());
            carry(&mut honest, 0, [0]).unwrap();
            honest.flush(LIMIT).unwrap();
            eventually("all are closed", || files_here() == 0);
            let level = descriptors();
            for (what, misuse, text) in MISUSES {
                let raw = Raw::connect_saying(&ground.socket(), asking(), 8, u32::MAX, 1);
                misuse(&raw);
                let (reason, why) = wire::receive_end(&raw.socket).unwrap_or_else(|| panic!("{what}: no farewell"));
                assert_eq!(reason, VIOLATION, "{what}: {why}");
                assert!(why.contains(text), "{what}: {why}");
                drop(raw);
                nothing_is_left(level);
                carry(&mut honest, 0, [0]).unwrap();
                honest.flush(LIMIT).unwrap();
            }
            stop.shutdown();
        });
    }
    nothing_is_left(before);
}

#[test]
fn where_it_was_not_agreed_on_a_head_with_some_is_a_violation() {
    let _alone = alone();
    let ground = Ground::new();
    let receiver = Receiver::bind(ground.socket()).unwrap();
    let raw = Raw::connect_saying(&ground.socket(), asking(), 1, u32::MAX, 1);
    pass(&raw, 1);
    eventually("it is found", || {
        assert!(receiver.try_recv().unwrap().is_none());
        receiver.stats().violations == 1
    });
    let (reason, why) = raw.end();
    assert!(reason == VIOLATION && why.contains("do not travel in this session"), "{why}");
}

// ---- receivers that mean harm ---------------------------------------------------------------------------------------

/// What it is, and what is done with the first message.
type Lie = (&'static str, fn(&Raw));

#[test]
fn a_receiver_that_sends_some_breaks_the_protocol_and_leaves_none() {
    let _alone = alone();
    let before = descriptors();
    let lies: [Lie; 3] = [
        ("of a message", |raw| send(raw, &message(1, 0, 1), 1)),
        ("of a slot that was never used", |raw| send(raw, &message(16, 5, 0), 16)),
        ("with an acknowledgement", |raw| {
            raw.head(0).store(ACKNOWLEDGED | 1 << 42, Ordering::Relaxed);
            raw.turn(0).swap(1 << 8, Ordering::SeqCst);
        }),
    ];
    for (what, lie) in lies {
        let ground = Ground::new();
        let raw = RawServer::bind(&ground.socket());
        let hostile = std::thread::spawn(move || {
            let raw = serve_by_hand(&raw);
            eventually("a message", || raw.turn(0).load(Ordering::Acquire) & SERVER != 0);
            assert_eq!(wire::receive(&raw.socket).unwrap().descriptors.len(), 1);
            lie(&raw);
            raw
        });
        let mut sender = connect(ground.socket());
        carry(&mut sender, 1, [1]).unwrap();
        let raw = hostile.join().unwrap();
        eventually(what, || {
            sender.flush(Duration::from_millis(1)).is_err_and(|error| error.kind() == ErrorKind::Violation)
        });
        assert_eq!(sender.loan(0).unwrap_err().kind(), ErrorKind::Violation, "{what}: for good");
        drop((sender, raw));
    }
    nothing_is_left(before);
}

// ---- other users ----------------------------------------------------------------------------------------------------

const OTHER_USER: u32 = 60_127;

/// Arguments: the socket.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn other_user() {
    role("other_user", |parent, arguments| {
        let own = rustix::process::geteuid().as_raw();
        become_user(OTHER_USER);
        let mut sender = Sender::builder().server_user(own).descriptors(true).connect(arguments[0]).unwrap();
        let mut draft = sender.loan(3).unwrap();
        draft.copy_from_slice(b"abc");
        check(&draft.attach(numbered(0)).unwrap_err(), ErrorKind::NotAgreed, &["of one user"]);
        draft.commit().unwrap();
        sender.close().unwrap();
        parent.tell("done");
    });
}

#[test]
fn with_other_users_none_travel() {
    let _alone = alone();
    if !rustix::process::geteuid().is_root() {
        println!("skipped, because only root can play another user");
        return;
    }
    let before = descriptors();
    {
        let ground = Ground::new();
        let access = Access::default().allow_user(OTHER_USER);
        let receiver = Receiver::builder().descriptors(true).access(access).bind(ground.socket()).unwrap();
        std::fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        let mut other = Process::start("other_user", [ground.socket()]);
        let mut delivery = receive(&receiver);
        assert!(delivery[..] == *b"abc" && taken(&mut delivery).is_empty());
        delivery.ack();
        other.expect("done");
        other.join();
    }
    nothing_is_left(before);
}

// ---- tasks ----------------------------------------------------------------------------------------------------------

#[test]
fn tasks_send_and_receive_descriptors_and_leave_none() {
    let _alone = alone();
    on_both(async || drop(tokio::net::UnixDatagram::unbound().unwrap())); // what a runtime keeps is there
    let before = descriptors();
    on_both(async || {
        let ground = Ground::new();
        let builder = wigwag::tokio::Receiver::builder().slots(8).descriptors(true);
        let mut receiver = builder.bind_async(ground.socket()).unwrap();
        let mut sender =
            wigwag::tokio::Sender::builder().descriptors(true).connect_async(ground.socket()).await.unwrap();
        let sending = tokio::spawn(async move {
            for what in 0..60u8 {
                let mut draft = sender.loan(1).await.unwrap();
                draft[0] = what;
                (0..what % 4).for_each(|_| draft.attach(numbered(what)).unwrap());
                draft.commit().unwrap();
                let mut given_up = sender.loan(1).await.unwrap();
                given_up.attach(numbered(what)).unwrap();
            }
            sender.close().await.unwrap();
        });
        let mut what = 0;
        while what < 60 {
            let mut batch = receiver.recv_batch(3).await.unwrap();
            for delivery in batch.iter_mut() {
                assert_eq!((delivery[0], taken(delivery)), (what, vec![what; usize::from(what % 4)]));
                what += 1;
            }
        }
        sending.await.unwrap();
    });
    nothing_is_left(before);
}

#[test]
fn a_task_hands_its_receivers_successor_what_came_with_its_messages() {
    let _alone = alone();
    on_both(async || drop(tokio::net::UnixDatagram::unbound().unwrap()));
    let before = descriptors();
    on_both(async || {
        let ground = Ground::new();
        let bind = |asks: bool| {
            let builder = wigwag::tokio::Receiver::builder().slots(8).descriptors(asks);
            builder.bind_async(ground.socket()).unwrap()
        };
        let mut receiver = bind(true);
        let mut sender =
            wigwag::tokio::Sender::builder().descriptors(true).connect_async(ground.socket()).await.unwrap();
        for what in 0..2 {
            let mut draft = sender.loan(1).await.unwrap();
            draft[0] = what;
            draft.attach(numbered(what)).unwrap();
            draft.commit().unwrap();
        }
        receiver.recv().await.unwrap().ack();
        let outlives = receiver.recv().await.unwrap();
        drop(receiver);
        outlives.nack();
        let without = bind(false);
        check(&sender.flush().await.unwrap_err(), ErrorKind::NotAgreed, &["1 messages are kept"]);
        drop(without);
        let mut successor = bind(true);
        let (flushed, ()) = tokio::join!(sender.flush(), async {
            let mut delivery = successor.recv().await.unwrap();
            assert_eq!((delivery[0], delivery.is_redelivered(), taken(&mut delivery)), (1, true, vec![1]));
        });
        flushed.unwrap();
    });
    nothing_is_left(before);
}

// ---- yours ----------------------------------------------------------------------------------------------------------

#[test]
fn the_duplicate_is_the_librarys_and_yours_stays_yours() {
    let _alone = alone();
    let ground = Ground::new();
    let receiver = bind(ground.socket());
    let mut sender = connect(ground.socket());
    let mut yours = numbered(b'?');
    let mut draft = sender.loan(0).unwrap();
    draft.attach(&yours).unwrap();
    draft.attach(OwnedFd::from(numbered(1))).unwrap();
    draft.commit().unwrap();
    let mut delivery = receive(&receiver);
    let mut theirs = std::fs::File::from(delivery.take_descriptors().unwrap().remove(0));
    delivery.ack();
    theirs.write_all(b"!").unwrap(); // what was taken outlives its message
    yours.write_all(b".").unwrap();
    let mut text = [0; 3];
    rustix::io::pread(yours.as_fd(), &mut text, 0).unwrap();
    assert_eq!(&text, b"?!.", "both are the same open file, with one position");
}
