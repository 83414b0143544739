//! Senders that make no call while their receiver dies: what it did not acknowledge reaches its successor all the same.

use std::time::Duration;

use wigwag::{ErrorKind, Receiver, Sender};
use wigwag_testing::{Ground, LIMIT, Process, eventually, limited, role};

/// Arguments: the queue. It takes one message in hand each time it is told to, and says what it has.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn holding_worker() {
    role("holding_worker", |parent, arguments| {
        let receiver = Receiver::builder().slots(8).shared(arguments[1] == "shared").bind(arguments[0]).unwrap();
        parent.tell("ready");
        let mut held = Vec::new();
        while let Some(order) = parent.hear() {
            match order.as_str() {
                "take" => {
                    let delivery = receiver.recv().unwrap();
                    parent.tell(format!("has {} {}", String::from_utf8_lossy(&delivery), delivery.is_redelivered()));
                    held.push(delivery);
                }
                "try" => parent.tell(receiver.try_recv().unwrap().is_some()),
                "ack" => {
                    held.drain(..).for_each(wigwag::Delivery::ack);
                    parent.tell("acknowledged");
                }
                _ => break,
            }
        }
        held.drain(..).for_each(wigwag::Delivery::nack);
    });
}

fn worker(ground: &Ground, kind: &str) -> Process {
    let mut worker = Process::start("holding_worker", [ground.socket().as_os_str(), kind.as_ref()]);
    worker.expect("ready");
    worker
}

fn take(worker: &mut Process, what: &str) {
    worker.tell("take");
    worker.expect(&format!("has {what}"));
}

fn acknowledge(worker: &mut Process) {
    worker.tell("ack");
    worker.expect("acknowledged");
}

/// A sender that has sent three messages, of which the receiver has one and has acknowledged another.
fn three(ground: &Ground, kind: &str) -> (Process, Sender) {
    let mut first = worker(ground, kind);
    let mut sender = Sender::connect(ground.socket()).unwrap();
    sender.send(b"done").unwrap();
    take(&mut first, "done false");
    acknowledge(&mut first);
    sender.send(b"had").unwrap();
    sender.send(&[b'n'; 100]).unwrap();
    take(&mut first, "had false");
    (first, sender)
}

fn new(count: usize) -> String {
    format!("{} false", "n".repeat(count))
}

#[test]
fn what_a_dead_receiver_left_reaches_its_successor_while_the_sender_sleeps() {
    for (kind, next) in [("sole", "sole"), ("shared", "shared"), ("sole", "shared"), ("shared", "sole")] {
        limited(move || {
            let ground = Ground::new();
            let (mut first, mut sender) = three(&ground, kind);
            first.kill();
            let mut second = worker(&ground, next);
            take(&mut second, "had true");
            take(&mut second, &new(100));
            acknowledge(&mut second);
            eventually("it is told", || sender.stats().acknowledged == 3);
            // The sender goes on there, behind what was moved.
            sender.send(b"more").unwrap();
            take(&mut second, "more false");
            acknowledge(&mut second);
            sender.flush(LIMIT).unwrap();
            let stats = sender.stats();
            assert_eq!((stats.sent, stats.acknowledged, stats.redelivered, stats.reconnects), (4, 4, 1, 1));
            second.kill();
        });
    }
}

#[test]
fn one_that_ends_in_order_and_one_death_after_another() {
    limited(|| {
        let ground = Ground::new();
        let (first, mut sender) = three(&ground, "sole");
        first.tell("end");
        let mut second = worker(&ground, "sole");
        take(&mut second, "had true"); // it was given back
        second.kill();
        let mut third = worker(&ground, "sole");
        take(&mut third, "had true");
        take(&mut third, &new(100));
        third.kill();
        let mut fourth = worker(&ground, "sole");
        take(&mut fourth, "had true");
        take(&mut fourth, &format!("{} true", "n".repeat(100)));
        acknowledge(&mut fourth);
        sender.flush(LIMIT).unwrap();
        assert_eq!(sender.stats().acknowledged, 3);
        drop(first);
        fourth.kill();
    });
}

#[test]
fn what_is_committed_after_the_thread_has_looked_is_passed_on_too() {
    limited(|| {
        let ground = Ground::new();
        let mut first = worker(&ground, "sole");
        let mut sender = Sender::connect(ground.socket()).unwrap();
        let mut draft = sender.loan(3).unwrap();
        draft.copy_from_slice(b"old");
        first.kill();
        std::thread::sleep(Duration::from_millis(100)); // it has looked, and there was nothing
        draft.commit().unwrap(); // a commit looks for no receiver
        let mut second = worker(&ground, "sole");
        take(&mut second, "old false");
        acknowledge(&mut second);
        eventually("it is told", || sender.stats().acknowledged == 1);
        second.kill();
    });
}

#[test]
fn a_draft_goes_on_behind_what_the_thread_has_moved() {
    limited(|| {
        let ground = Ground::new();
        let (mut first, mut sender) = three(&ground, "sole");
        let mut draft = sender.loan(4).unwrap();
        draft.copy_from_slice(b"last");
        first.kill();
        let mut second = worker(&ground, "sole");
        take(&mut second, "had true");
        take(&mut second, &new(100));
        draft.commit().unwrap();
        take(&mut second, "last false");
        acknowledge(&mut second);
        sender.close().unwrap();
        second.kill();
    });
}

#[test]
fn calls_and_the_thread_at_the_same_time_lose_and_double_nothing() {
    limited(|| {
        let ground = Ground::new();
        let mut workers = vec![worker(&ground, "sole")];
        let mut sender = Sender::builder().server_timeout(LIMIT).connect(ground.socket()).unwrap();
        for round in 0..30_u64 {
            let mut first = workers.pop().unwrap();
            let message = format!("m{round}");
            sender.send(message.as_bytes()).unwrap();
            first.kill();
            let mut second = worker(&ground, "sole");
            // Around the moment in which the thread begins.
            std::thread::sleep(Duration::from_millis(round % 30));
            sender.send(b"and").unwrap();
            take(&mut second, &format!("{message} false"));
            take(&mut second, "and false");
            acknowledge(&mut second);
            second.tell("try");
            second.expect("false");
            workers.push(second);
        }
        sender.close().unwrap();
    });
}

#[test]
fn the_thread_is_one_for_all_and_is_there_only_while_it_can_be_needed() {
    limited(|| {
        let ground = Ground::new();
        role_in_process(&ground);
    });
}

/// In a process of its own, where no other test has senders.
fn role_in_process(ground: &Ground) {
    let mut worker = worker(ground, "sole");
    let mut many = Process::start("many_senders", [ground.socket()]);
    many.expect("1");
    many.expect("0");
    many.expect("no thread, and the sender goes on");
    worker.kill();
    many.kill();
}

/// Arguments: the queue. It says how many threads stand in for its senders.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn many_senders() {
    role("many_senders", |parent, arguments| {
        let threads = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            tasks.map(name).filter(|name| name.starts_with("wigwag-stand-in")).count()
        };
        let senders: Vec<_> = (0..10).map(|_| Sender::connect(arguments[0]).unwrap()).collect();
        eventually("it has its name", || threads() > 0);
        parent.tell(threads());
        drop(senders);
        eventually("it ends", || threads() == 0);
        parent.tell(threads());
        // With the last descriptor it is done without.
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        let sender = loop {
            match Sender::connect(arguments[0]) {
                Ok(sender) => break sender,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
            }
            drop(taken.pop().expect("there is room at last"));
        };
        drop(taken);
        assert_eq!(threads(), 0);
        let mut sender = sender;
        sender.send(b"x").unwrap();
        parent.tell("no thread, and the sender goes on");
        parent.hear();
    });
}

#[test]
fn a_sender_that_is_dropped_or_forked_leaves_nothing_behind() {
    limited(|| {
        let ground = Ground::new();
        let (mut first, sender) = three(&ground, "sole");
        first.kill();
        let mut second = worker(&ground, "sole");
        take(&mut second, "had true");
        // The heir has both messages: what is dropped waits for their acknowledgement, as always.
        let dropping = std::thread::spawn(move || drop(sender));
        take(&mut second, &new(100));
        acknowledge(&mut second);
        dropping.join().unwrap();
        second.tell("try");
        second.expect("false");
        second.kill();
    });
}

#[test]
fn a_tasks_sender_that_is_not_polled_is_stood_in_for_and_goes_on_there() {
    limited(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let ground = Ground::new();
            let (mut first, sender) = three(&ground, "sole");
            let mut sender = wigwag::tokio::Sender::from_blocking(sender).unwrap();
            first.kill();
            let mut second = worker(&ground, "shared"); // the next one shares its name
            take(&mut second, "had true");
            take(&mut second, &new(100));
            sender.send(b"more").await.unwrap();
            take(&mut second, "more false");
            let flushing = tokio::spawn(async move { sender.flush().await.map(|()| sender) });
            tokio::time::sleep(Duration::from_millis(20)).await; // it waits
            second.tell("ack");
            let sender = flushing.await.unwrap().unwrap();
            assert_eq!(sender.stats().acknowledged, 4);
            second.kill();
        });
    });
}

#[test]
fn a_task_that_never_waits_goes_on_where_it_was_stood_in_for() {
    limited(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let ground = Ground::new();
            let (mut first, sender) = three(&ground, "sole");
            let mut sender = wigwag::tokio::Sender::from_blocking(sender).unwrap();
            first.kill();
            let mut second = worker(&ground, "sole");
            take(&mut second, "had true");
            take(&mut second, &new(100));
            sender.try_send(b"more").unwrap(); // the receiver is there, and has what was sent before
            take(&mut second, "more false");
            acknowledge(&mut second);
            sender.flush().await.unwrap();
            assert_eq!(sender.stats().acknowledged, 4);
            second.kill();
        });
    });
}

/// Arguments: the queue. It tells what processor time its threads take while no call is made, each time it is asked.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn idle_sender() {
    role("idle_sender", |parent, arguments| {
        let mut sender = Sender::connect(arguments[0]).unwrap();
        while let Some(order) = parent.hear() {
            match order.strip_prefix("send ") {
                Some(message) => {
                    sender.send(message.as_bytes()).unwrap();
                    parent.tell("sent");
                }
                None => {
                    std::thread::sleep(Duration::from_millis(100)); // what was under way is done
                    let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
                    let before = spent();
                    std::thread::sleep(Duration::from_millis(500));
                    let after = spent();
                    parent.tell((after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec);
                }
            }
        }
    });
}

#[test]
fn the_thread_sleeps_whatever_became_of_the_receivers() {
    limited(|| {
        let ground = Ground::new();
        let mut first = worker(&ground, "sole");
        let mut sender = Process::start("idle_sender", [ground.socket()]);
        let send = |sender: &mut Process, message: &str| {
            sender.tell(format!("send {message}"));
            sender.expect("sent");
        };
        let is_idle = |sender: &mut Process, when: &str| {
            sender.tell("measure");
            let spent_ns: i64 = sender.hear().parse().unwrap();
            assert!(spent_ns < 5_000_000, "{when}: {spent_ns} ns of processor time in half a second");
        };
        first.tell("take");
        std::thread::sleep(Duration::from_millis(20)); // it sleeps, and is rung
        send(&mut sender, "one");
        first.expect("has one false");
        is_idle(&mut sender, "it lives");
        acknowledge(&mut first);
        first.kill();
        is_idle(&mut sender, "it is dead, and all was acknowledged");

        let mut second = worker(&ground, "sole");
        second.tell("take");
        send(&mut sender, "two");
        second.expect("has two false");
        second.kill();
        is_idle(&mut sender, "it is dead, and had a message");
        let mut third = worker(&ground, "sole");
        take(&mut third, "two true");
        is_idle(&mut sender, "the message is at its successor");
        acknowledge(&mut third);
        is_idle(&mut sender, "its successor is done with it");
        third.kill();
        is_idle(&mut sender, "that one is dead, too");
        sender.kill();
    });
}
