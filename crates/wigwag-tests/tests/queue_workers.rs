//! Several receivers share the name of a queue.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use wigwag::observe::Observer;
use wigwag::{ErrorKind, Receiver, ReceiverBuilder, Sender, Server};
use wigwag_testing::descriptors::fill_table;
use wigwag_testing::others::become_user;
use wigwag_testing::{Ground, LIMIT, Process, RawServer, eventually, limited, role};

/// Arguments: the queue, and how many messages it takes in hand without acknowledging them. It says what it has. Then
/// it acknowledges what it is told to, or ends in order when it is told so.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn sharing_worker() {
    role("sharing_worker", |parent, arguments| {
        let receiver = shared(arguments[1].parse().unwrap()).bind(arguments[0]).unwrap();
        parent.tell("ready");
        let mut held = Vec::new();
        while let Some(order) = parent.hear() {
            match order.as_str() {
                "take" => {
                    let delivery = receiver.recv().unwrap();
                    parent.tell(format!("has {} {}", String::from_utf8_lossy(&delivery), delivery.is_redelivered()));
                    held.push(delivery);
                }
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

/// Arguments: the queue. It acknowledges one message after another, and says which.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn busy_worker() {
    role("busy_worker", |parent, arguments| {
        let receiver = shared(4).bind(arguments[0]).unwrap();
        parent.tell("ready");
        for delivery in &receiver {
            let delivery = delivery.unwrap();
            parent.tell(format!("{} {}", String::from_utf8_lossy(&delivery), delivery.is_redelivered()));
            delivery.ack();
        }
    });
}

fn shared(slots: usize) -> ReceiverBuilder {
    Receiver::builder().shared(true).slots(slots)
}

fn worker(ground: &Ground, slots: usize) -> Process {
    let mut worker = Process::start("sharing_worker", [ground.socket().as_os_str(), slots.to_string().as_ref()]);
    worker.expect("ready");
    worker
}

fn take(worker: &mut Process, what: &str) {
    worker.tell("take");
    worker.expect(&format!("has {what}"));
}

#[test]
fn messages_are_dealt_to_whoever_has_the_fewest() {
    limited(|| {
        let ground = Ground::new();
        let receivers: Vec<_> = (0..3).map(|_| shared(8).bind(ground.socket()).unwrap()).collect();
        let mut sender = Sender::connect(ground.socket()).unwrap();
        // Connecting waits for them for a moment only, and this machine may be busy.
        eventually("all know the sender", || receivers.iter().all(|receiver| receiver.stats().senders == 1));
        std::thread::sleep(Duration::from_millis(20));
        (0..9).for_each(|n: u8| sender.send(&[n]).unwrap());
        for receiver in &receivers {
            let batch = receiver.try_recv_batch(9).unwrap().expect("each has its part");
            let numbers: Vec<u8> = batch.iter().map(|message| message[0]).collect();
            assert_eq!(numbers.len(), 3);
            assert!(numbers.is_sorted(), "a receiver has the order of the sender: {numbers:?}");
            batch.ack();
        }
        // One that holds what it has gets no more until the others have as much.
        let held: Vec<_> = {
            (0..6).for_each(|n| sender.send(&[n]).unwrap());
            receivers[1..].iter().for_each(|receiver| drop(receiver.try_recv_batch(9).unwrap()));
            (0..2).map(|_| receivers[0].recv().unwrap()).collect()
        };
        (0..2).for_each(|n| sender.send(&[n]).unwrap());
        assert!(receivers[0].try_recv().unwrap().is_none());
        drop(held);
        assert_eq!(sender.stats().sent, 17);
    });
}

#[test]
fn a_dead_workers_messages_go_to_another_and_only_those_it_had_are_marked() {
    limited(|| {
        let ground = Ground::new();
        let (mut first, mut second) = (worker(&ground, 8), worker(&ground, 8));
        let mut sender = Sender::connect(ground.socket()).unwrap();
        ["a", "b", "c", "d"].iter().for_each(|job| sender.send(job.as_bytes()).unwrap());
        take(&mut first, "a false");
        take(&mut second, "b false");
        take(&mut second, "d false");
        second.tell("ack");
        second.expect("acknowledged");
        first.kill();
        let flushing = std::thread::spawn(move || sender.flush(LIMIT).map(|()| sender));
        take(&mut second, "a true");
        take(&mut second, "c false");
        second.tell("ack");
        let sender = flushing.join().unwrap().unwrap();
        assert_eq!((sender.stats().sent, sender.stats().acknowledged, sender.stats().redelivered), (4, 4, 1));
        second.kill();
    });
}

#[test]
fn one_that_ends_in_order_leaves_what_it_has_not_begun_unmarked() {
    limited(|| {
        let ground = Ground::new();
        let (first, mut second) = (worker(&ground, 8), worker(&ground, 8));
        let mut sender = Sender::connect(ground.socket()).unwrap();
        ["a", "b", "c", "d"].iter().for_each(|job| sender.send(job.as_bytes()).unwrap());
        take(&mut second, "b false");
        take(&mut second, "d false");
        first.tell("end");
        let flushing = std::thread::spawn(move || sender.flush(LIMIT));
        take(&mut second, "a false");
        take(&mut second, "c false");
        second.tell("ack");
        flushing.join().unwrap().unwrap();
        second.kill();
        drop(first);
    });
}

#[test]
fn a_full_or_stopped_worker_holds_up_nobody() {
    limited(|| {
        let ground = Ground::new();
        let mut stopped = worker(&ground, 2);
        let receiver = shared(2).bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).unwrap();
        // Each has one first, so that both know the sender before one of them is stopped.
        ["a", "b"].iter().for_each(|job| sender.send(job.as_bytes()).unwrap());
        take(&mut stopped, "a false");
        receiver.recv().unwrap().ack();
        stopped.tell("ack");
        stopped.expect("acknowledged");
        stopped.halt();
        for n in 0..50_u8 {
            sender.send_timeout(&[n], LIMIT).unwrap();
            if let Some(delivery) = receiver.try_recv().unwrap() {
                delivery.ack();
            }
        }
        while let Some(delivery) = receiver.try_recv().unwrap() {
            delivery.ack();
        }
        assert_eq!(sender.stats().acknowledged, 51, "the one that is stopped has one, as the other never has more");
        // A sender that comes now does not wait for it either.
        let mut late = Sender::connect(ground.socket()).unwrap();
        late.send(b"late").unwrap();
        assert_eq!(&receiver.recv().unwrap()[..], b"late");
        stopped.kill();
    });
}

#[test]
fn who_comes_late_gets_a_part_also_while_a_sender_waits_for_room() {
    limited(|| {
        let ground = Ground::new();
        let mut first = worker(&ground, 1);
        let mut sender = Sender::connect(ground.socket()).unwrap();
        sender.send(b"a").unwrap();
        take(&mut first, "a false");
        let error = sender.try_send(b"b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        let sending = std::thread::spawn(move || sender.send(b"b").map(|()| sender));
        std::thread::sleep(Duration::from_millis(30)); // it sleeps
        let second = shared(1).bind(ground.socket()).unwrap();
        assert_eq!(&second.recv().unwrap()[..], b"b");
        let mut sender = sending.join().unwrap().unwrap();
        // And one that works finds out, too.
        let third = shared(1).bind(ground.socket()).unwrap();
        eventually("it gets one", || {
            let _ = sender.try_send(b"c");
            drop(second.try_recv().unwrap());
            third.try_recv().unwrap().is_some()
        });
        first.kill();
    });
}

#[test]
fn when_all_are_gone_the_next_one_gets_everything() {
    limited(|| {
        let ground = Ground::new();
        let (mut first, mut second) = (worker(&ground, 4), worker(&ground, 4));
        let mut sender = Sender::builder().linger(Duration::ZERO).connect(ground.socket()).unwrap();
        ["a", "b", "c", "d"].iter().for_each(|job| sender.send(job.as_bytes()).unwrap());
        take(&mut first, "a false");
        first.kill();
        second.kill();
        eventually("it is noticed", || sender.try_send(b"e").is_err());
        let error = sender.try_send(b"e").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        let error = sender.flush(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        for is_shared in [false, true] {
            let receiver = Receiver::builder().shared(is_shared).slots(4).bind(ground.socket()).unwrap();
            let mut got = BTreeMap::new();
            let _ = sender.flush(Duration::from_millis(50));
            eventually("all come", || {
                let _ = sender.flush(Duration::from_millis(1));
                while let Some(delivery) = receiver.try_recv().unwrap() {
                    got.insert(String::from_utf8_lossy(&delivery).into_owned(), delivery.is_redelivered());
                    std::mem::forget(delivery);
                }
                got.len() >= 4
            });
            got.remove("e"); // one may be sent before it is noticed
            assert_eq!(got.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
            assert!(got["a"]);
            assert!(is_shared || !got["b"]);
        }
    });
}

#[test]
fn nothing_is_lost_while_workers_come_and_die() {
    limited(|| {
        let ground = Ground::new();
        let mut workers: Vec<_> = (0..3).map(|_| Process::start("busy_worker", [ground.socket()])).collect();
        workers.iter_mut().for_each(|worker| worker.expect("ready"));
        let mut sender = Sender::builder().server_timeout(LIMIT).connect(ground.socket()).unwrap();
        let mut told = Vec::new();
        for n in 0..600 {
            sender.send(format!("m{n}").as_bytes()).unwrap();
            if n % 60 == 59 {
                let mut worker = workers.remove(0);
                worker.kill();
                told.extend(std::iter::from_fn(|| worker.try_hear()));
                let mut next = Process::start("busy_worker", [ground.socket()]);
                next.expect("ready");
                workers.push(next);
            }
        }
        sender.flush(LIMIT).unwrap();
        for mut worker in workers {
            worker.kill();
            told.extend(std::iter::from_fn(|| worker.try_hear()));
        }
        let mut times = BTreeMap::<String, (usize, usize)>::new();
        for line in &told {
            let (message, is_redelivered) = line.split_once(' ').unwrap();
            let count = times.entry(message.to_owned()).or_default();
            count.0 += 1;
            count.1 += usize::from(is_redelivered == "false");
        }
        // A worker may be killed after it has acknowledged and before it has told: what it was told of is at most once
        // unmarked, and what was acknowledged is gone.
        assert!(times.values().all(|(_, unmarked)| *unmarked <= 1), "{times:?}");
        assert!(times.len() >= 600 - 10, "{} of 600", times.len());
        assert_eq!(sender.stats().acknowledged, 600);
    });
}

/// Arguments: the queue. It sends what it is told to, has no descriptor left between `fill` and `empty`, and flushes.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_sender() {
    role("poor_sender", |parent, arguments| {
        let mut sender = Sender::connect(arguments[0]).unwrap();
        parent.tell("done");
        let mut table = Vec::new();
        while let Some(order) = parent.hear_at_last() {
            match order.split_once(' ') {
                Some((_, job)) => sender.send_timeout(job.as_bytes(), LIMIT).unwrap(),
                None if order == "fill" => {
                    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
                    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
                    table = fill_table();
                }
                None if order == "empty" => table.clear(),
                None => sender.flush(LIMIT).unwrap(),
            }
            parent.tell("done");
        }
    });
}

#[test]
fn without_a_descriptor_a_sender_goes_on_with_those_it_has_and_finds_the_others_when_it_has_one() {
    limited(|| {
        let ground = Ground::new();
        let mut first = worker(&ground, 64);
        let second = shared(64).bind(ground.socket()).unwrap();
        let mut sender = Process::start("poor_sender", [ground.socket()]);
        sender.expect("done");
        let sent = std::cell::Cell::new(0);
        let mut order = |order: &str| {
            match order {
                "send" => sender.tell(format!("send {}", sent.replace(sent.get() + 1))),
                order => sender.tell(order),
            }
            sender.expect("done");
        };
        let sessions = |observer: &Observer| observer.snapshot().unwrap().sessions.len();
        eventually("both have a session", || {
            order("send");
            Observer::sharing(ground.socket()).unwrap().iter().all(|receiver| sessions(receiver) == 1)
        });
        order("fill");
        let third = shared(64).bind(ground.socket()).unwrap();
        for _ in 0..6 {
            order("send");
            std::thread::sleep(Duration::from_millis(120)); // it looks who is there
        }
        assert_eq!(third.stats().senders, 0);
        first.kill();
        (0..6).for_each(|_| order("send"));
        order("empty");
        let mut came: BTreeMap<u32, Vec<bool>> = BTreeMap::new();
        let mut receive = || {
            for receiver in [&second, &third] {
                while let Some(delivery) = receiver.recv_timeout(Duration::from_millis(5)).unwrap() {
                    let job = String::from_utf8_lossy(&delivery).parse().unwrap();
                    came.entry(job).or_default().push(delivery.is_redelivered());
                }
            }
            came.len()
        };
        eventually("the one who came is found", || {
            order("send");
            receive();
            third.stats().senders == 1
        });
        eventually("nothing is lost", || receive() == sent.get());
        order("flush");
        assert!(came.values().all(|times| times == &[false]), "nobody has had any of them: {came:?}");
    });
}

/// The second of those who share the name: it has its lock and does nothing, and its socket may be another.
fn stopped(ground: &Ground) -> (Process, PathBuf) {
    let second = worker(ground, 8);
    second.halt();
    let path = ground.path("server@2");
    std::fs::remove_file(&path).unwrap();
    (second, path)
}

#[test]
fn one_that_lies_ends_the_sender_for_good_whatever_the_others_do() {
    limited(|| {
        const QUEUE: u8 = 1;
        let ground = Ground::new();
        let receiver = shared(4).capacity(1024).bind(ground.socket()).unwrap();
        let (_second, path) = stopped(&ground);
        let liar = RawServer::bind(&path);
        let lying = std::thread::spawn(move || liar.serve_in_form(4, 1024, QUEUE));
        let mut sender = Sender::connect(ground.socket()).unwrap();
        eventually("it has a session", || {
            sender.send(b"job").unwrap();
            receiver.try_recv().unwrap();
            lying.is_finished()
        });
        let lying = lying.join().unwrap();
        eventually("it has a message", || {
            let _ = sender.try_send(b"job");
            lying.turn(0).load(Ordering::SeqCst) != 0
        });
        lying.head(0).store(u64::MAX, Ordering::SeqCst);
        lying.turn(0).store(1 << 8, Ordering::SeqCst);
        let mut send = || {
            receiver.try_recv().unwrap(); // there is room with the other
            sender.try_send(b"job").map_err(|error| error.kind())
        };
        eventually("it is seen", || send() == Err(ErrorKind::Violation));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(100) {
            assert_eq!(send(), Err(ErrorKind::Violation));
        }
    });
}

#[test]
fn one_who_is_slow_to_listen_is_found_when_he_does() {
    limited(|| {
        let ground = Ground::new();
        let receiver = shared(8).bind(ground.socket()).unwrap();
        let (_slow, path) = stopped(&ground); // its socket is one that is only bound
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let mut sender = Sender::connect(ground.socket()).unwrap();
        let mut work = || {
            sender.send(b"job").unwrap();
            receiver.recv().unwrap().ack();
            std::thread::sleep(Duration::from_millis(5));
        };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            work();
        }
        rustix::net::listen(&socket, 1).unwrap();
        let listening = RawServer::from(socket);
        eventually("it is asked", || {
            work();
            listening.is_asked()
        });
    });
}

const OTHER_USER: u32 = 60_131;

/// Arguments: the queue, and the receivers' user. It sends six jobs as another user, and waits until they are done.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn foreign_sender() {
    role("foreign_sender", |parent, arguments| {
        become_user(OTHER_USER);
        let builder = Sender::builder().server_user(arguments[1].parse().unwrap());
        let mut sender = builder.connect(arguments[0]).unwrap();
        parent.tell("connected");
        parent.hear_at_last();
        (0..6).for_each(|job: u8| sender.send(&[job]).unwrap());
        sender.close().unwrap();
        parent.tell("done");
    });
}

#[test]
fn another_users_sender_finds_those_who_share_the_name_as_well() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped, because only root can play another user");
    }
    limited(|| {
        let ground = Ground::new();
        std::fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        let mut dead = Process::start("foreign_friend", [ground.socket()]);
        dead.expect("ready");
        let receivers = [(); 2].map(|()| shared(8).allow_user(OTHER_USER).bind(ground.socket()).unwrap());
        dead.kill(); // its socket stays
        let mut sender = Process::start("foreign_sender", [ground.socket().as_os_str(), "0".as_ref()]);
        sender.expect("connected");
        eventually("both know it", || receivers.iter().all(|receiver| receiver.stats().senders == 1));
        sender.tell("go");
        let mut jobs = Vec::new();
        eventually("all have come", || {
            for receiver in &receivers {
                jobs.extend(receiver.try_recv().unwrap().map(|delivery| delivery[0]));
            }
            jobs.len() == 6
        });
        sender.expect("done");
        assert!(receivers.iter().all(|receiver| receiver.stats().received > 0), "each has a part");
    });
}

/// Arguments: the queue. A receiver that lets the other user in.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn foreign_friend() {
    role("foreign_friend", |parent, arguments| {
        let _receiver = shared(8).allow_user(OTHER_USER).bind(arguments[0]).unwrap();
        parent.tell("ready");
        parent.hear_at_last();
    });
}

#[test]
fn a_name_is_shared_by_all_or_by_none() {
    limited(|| {
        let ground = Ground::new();
        let first = shared(4).bind(ground.socket()).unwrap();
        let error = Receiver::bind(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert!(error.to_string().contains("is shared by 1 receivers"), "{error}");
        assert_eq!(Server::bind(ground.socket()).unwrap_err().kind(), ErrorKind::NameTaken);
        drop(first);
        let sole = Receiver::bind(ground.socket()).unwrap();
        let error = shared(4).bind(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert!(error.to_string().contains("does not share"), "{error}");
        drop(sole);
        let error = shared(4).replace(LIMIT).bind(ground.socket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        // Another server has what would be the first one's name.
        let mut other = ground.socket().as_os_str().to_owned();
        other.push("@1");
        let _other = Server::bind(&other).unwrap();
        let receiver = shared(4).bind(ground.socket()).unwrap();
        assert!(receiver.path().as_os_str().to_string_lossy().ends_with("@2"), "{:?}", receiver.path());
        let mut sender = Sender::connect(ground.socket()).unwrap();
        (0..3).for_each(|n| sender.send(&[n]).unwrap());
        assert_eq!(receiver.recv_batch(3).unwrap().len(), 3);
    });
}

#[test]
fn there_are_no_more_than_sixty_four() {
    limited(|| {
        let ground = Ground::new();
        let bind = || Receiver::builder().shared(true).slots(1).capacity(8).bind(ground.socket());
        let all: Vec<_> = (0..64).map(|_| bind().unwrap()).collect();
        let error = bind().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert!(error.to_string().contains("64 receivers share"), "{error}");
        let mut sender = Sender::connect(ground.socket()).unwrap();
        (0..64).for_each(|n| sender.send_timeout(&[n], LIMIT).unwrap());
        assert!(all.iter().all(|receiver| receiver.recv().is_ok()), "each has one");
    });
}

#[test]
fn all_who_share_a_name_are_seen() {
    let ground = Ground::new();
    assert!(wigwag::observe::Observer::sharing(ground.socket()).unwrap().is_empty());
    let _receivers = [shared(4).bind(ground.socket()).unwrap(), shared(4).bind(ground.socket()).unwrap()];
    let seen = wigwag::observe::Observer::sharing(ground.socket()).unwrap();
    let paths: Vec<_> = seen.iter().map(|observer| observer.service().path.display().to_string()).collect();
    assert!(paths.len() == 2 && paths[0].ends_with("@1") && paths[1].ends_with("@2"), "{paths:?}");
}

mod tasks {
    use super::*;

    #[test]
    fn a_tasks_messages_are_dealt_out_and_outlive_a_worker() {
        limited(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let ground = Ground::new();
                let (mut first, mut second) = (worker(&ground, 4), worker(&ground, 4));
                let mut sender = wigwag::tokio::Sender::connect(ground.socket()).await.unwrap();
                // Both have joined once each has one.
                sender.send(b"a").await.unwrap();
                take(&mut first, "a false");
                while sender.stats().sent < 2 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    sender.send(b"b").await.unwrap();
                }
                take(&mut second, "b false");
                let (c, d) = (sender.send(b"c").await, sender.send(b"d").await);
                c.and(d).unwrap();
                second.tell("ack");
                second.expect("acknowledged");
                first.kill();
                let flushing = tokio::spawn(async move { sender.flush().await.map(|()| sender) });
                let rest = tokio::task::spawn_blocking(move || {
                    let mut rest: Vec<String> = (0..3)
                        .map(|_| {
                            second.tell("take");
                            second.hear()
                        })
                        .collect();
                    rest.sort();
                    second.tell("ack");
                    (rest, second)
                });
                let (rest, mut second) = rest.await.unwrap();
                assert_eq!(rest, ["has a true", "has c false", "has d false"]);
                let mut sender = flushing.await.unwrap().unwrap();
                assert_eq!(sender.stats().acknowledged, 4);
                second.expect("acknowledged");
                // All are gone; the next one has the name for itself.
                second.kill();
                let next = Receiver::bind(ground.socket()).unwrap();
                sender.send(b"e").await.unwrap();
                let got = tokio::task::spawn_blocking(move || next.recv().map(|message| message.to_vec()));
                assert_eq!(got.await.unwrap().unwrap(), b"e");
            });
        });
    }

    #[test]
    fn a_task_that_waits_for_room_hears_of_who_comes() {
        limited(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let ground = Ground::new();
                let mut first = worker(&ground, 1);
                let mut sender = wigwag::tokio::Sender::connect(ground.socket()).await.unwrap();
                sender.send(b"a").await.unwrap();
                take(&mut first, "a false");
                assert_eq!(sender.try_send(b"b").unwrap_err().kind(), ErrorKind::Full);
                let sending = tokio::spawn(async move { sender.send(b"b").await.map(|()| sender) });
                tokio::time::sleep(Duration::from_millis(30)).await; // it waits
                let second = tokio::task::spawn_blocking(move || {
                    let second = shared(1).bind(ground.socket()).unwrap();
                    assert_eq!(&second.recv().unwrap()[..], b"b");
                    (second, ground)
                });
                let sender = sending.await.unwrap().unwrap();
                let (second, ground) = second.await.unwrap();
                // What the dead one has goes to a receiver of this process, for which no drop waits.
                first.kill();
                drop(sender);
                drop((second, ground));
            });
        });
    }
}
