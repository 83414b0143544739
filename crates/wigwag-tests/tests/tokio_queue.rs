//! Queues between tasks: every message once and in order, none lost however futures end and whoever dies, both
//! runtimes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use wigwag::tokio::{Receiver, Sender};
use wigwag::{Delivery, ErrorKind};
use wigwag_testing::{Ground, LIMIT, Process, fill, role, word};

/// Runs the same on both runtimes, and fails where one never ends.
fn on_both<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        run(&runtime.enable_all().build().unwrap(), test());
    }
}

fn run(runtime: &Runtime, test: impl Future<Output = ()>) {
    runtime.block_on(async { timeout(LIMIT, test).await.expect("it never ended") });
}

/// The message with a number: sender and number first, then a pattern.
fn message(sender: u64, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 16 + word(sender, number) as usize % 300];
    fill(&mut bytes, sender << 32 | number);
    bytes[..8].copy_from_slice(&sender.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Sender and number of a message that is what was sent.
#[track_caller]
fn checked(bytes: &[u8]) -> (u64, u64) {
    let [sender, number] = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()));
    assert!(bytes == message(sender, number), "message {number} of sender {sender} is not what was sent");
    (sender, number)
}

async fn receive(receiver: &mut Receiver) -> Delivery {
    timeout(LIMIT, receiver.recv()).await.expect("a message within the limit").unwrap()
}

#[test]
fn messages_of_many_tasks_arrive_once_and_in_the_order_of_each() {
    const SENDERS: u64 = 20;
    const EACH: u64 = 500;
    on_both(|| async {
        for slots in [1, 3, 64] {
            let ground = Ground::new();
            let mut receiver = Receiver::builder().slots(slots).bind_async(ground.socket()).unwrap();
            let first = Sender::connect(ground.socket()).await.unwrap();
            let mut tasks = Vec::new();
            for index in 0..SENDERS {
                let mut sender = first.try_clone().await.unwrap();
                assert_eq!(sender.slots(), slots);
                tasks.push(tokio::spawn(async move {
                    for number in 0..EACH {
                        match number % 3 {
                            0 => sender.send(&message(index, number)).await.unwrap(),
                            1 => assert_eq!(sender.send_batch([message(index, number)]).await.unwrap(), 1),
                            _ => {
                                let bytes = message(index, number);
                                let mut draft = sender.loan(bytes.len()).await.unwrap();
                                draft.copy_from_slice(&bytes);
                                draft.commit().unwrap();
                            }
                        }
                    }
                    sender.close().await.unwrap();
                }));
            }
            let mut next = [0; SENDERS as usize];
            let mut left = SENDERS * EACH;
            while left > 0 {
                let batch = timeout(LIMIT, receiver.recv_batch(7)).await.expect("a message").unwrap();
                assert!((1..=7).contains(&batch.len()));
                left -= batch.len() as u64;
                for delivery in batch {
                    let (sender, number) = checked(&delivery);
                    assert_eq!((number, delivery.is_redelivered()), (next[sender as usize], false));
                    next[sender as usize] += 1;
                }
            }
            for task in tasks {
                task.await.unwrap();
            }
            assert!(receiver.try_recv().unwrap().is_none());
            let stats = receiver.stats();
            assert_eq!((stats.received, stats.acknowledged), (SENDERS * EACH, SENDERS * EACH));
        }
    });
}

#[test]
fn blocking_programs_and_tasks_understand_each_other() {
    on_both(|| async {
        let ground = Ground::new();
        let mut receiver = Receiver::builder().slots(2).bind_async(ground.socket()).unwrap();
        let mut sender = wigwag::Sender::connect(ground.socket()).unwrap();
        let thread = std::thread::spawn(move || {
            (0..1000).for_each(|number| sender.send(&message(1, number)).unwrap());
            sender.close().unwrap();
        });
        for number in 0..1000 {
            assert_eq!(checked(&receive(&mut receiver).await), (1, number));
        }
        thread.join().unwrap();

        let receiver = wigwag::Receiver::builder().slots(2).bind(ground.path("blocking")).unwrap();
        let mut sender = Sender::connect(ground.path("blocking")).await.unwrap();
        let thread = std::thread::spawn(move || {
            for number in 0..1000 {
                let delivery = receiver.recv_timeout(LIMIT).unwrap().expect("a message");
                assert_eq!(checked(&delivery), (1, number));
            }
        });
        for number in 0..1000 {
            sender.send(&message(1, number)).await.unwrap();
        }
        sender.close().await.unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn a_full_queue_is_waited_for_and_said_and_a_message_that_is_too_long_refused() {
    on_both(|| async {
        let ground = Ground::new();
        let mut receiver = Receiver::builder().slots(2).capacity(100).bind_async(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).await.unwrap();
        let error = sender.send(&[0; 101]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CapacityExceeded { len: 101, capacity: 100 });
        sender.send(b"one").await.unwrap();
        sender.send(b"two").await.unwrap();
        assert_eq!(sender.try_send(b"three").unwrap_err().kind(), ErrorKind::Full);
        assert!(timeout(Duration::from_millis(20), sender.send(b"three")).await.is_err());
        let waiting = tokio::spawn(async move { sender.send(b"four").await.map(|()| sender) });
        sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        let first = receive(&mut receiver).await;
        assert_eq!(receive(&mut receiver).await[..], *b"two"); // acknowledged, but it is not the oldest
        sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        drop(first);
        let sender = waiting.await.unwrap().unwrap();
        assert_eq!(receive(&mut receiver).await[..], *b"four");
        sender.close().await.unwrap();
        assert!(receiver.try_recv().unwrap().is_none(), "a send that was given up was sent");
        assert_eq!(receiver.recv_batch(0).await.unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    });
}

/// Lets other tasks run so many times.
async fn pause(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// What comes of a future, unless it is dropped after so many of the others' turns.
async fn within<T>(turns: u64, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = future => Some(outcome),
        () = pause(turns) => None,
    }
}

/// Both sides give up again and again, at any point.
#[test]
fn futures_that_are_dropped_anywhere_lose_no_message_and_repeat_none() {
    on_both(|| async {
        let ground = Ground::new();
        let mut receiver = Receiver::builder().slots(3).bind_async(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).await.unwrap();
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let receives_given_up = Arc::new(AtomicU64::new(0));
        let other_given_up = Arc::clone(&receives_given_up);
        let sending = tokio::spawn(async move {
            let mut given_up = 0;
            for step in 0..60_000u64 {
                // Which of the two is ahead is the scheduler's choice: one that never had to wait gets its turn to.
                if step >= 6000 && given_up > 100 && other_given_up.load(Ordering::SeqCst) > 100 {
                    break;
                } else if step >= 6000 {
                    pause(16).await;
                }
                let number = sender.stats().sent; // of a batch that was given up, the first may have been sent
                let batch = [message(1, number), message(1, number + 1)];
                let turns = word(1, step) % 4;
                let outcome = match word(4, step) % 4 {
                    0 => within(turns, sender.send_batch(batch)).await.map(|sent| assert_eq!(sent.unwrap(), 2)),
                    1 => within(turns, sender.loan(batch[0].len())).await.map(|draft| {
                        let mut draft = draft.unwrap();
                        draft.copy_from_slice(&batch[0]);
                        draft.commit().unwrap();
                    }),
                    2 => within(turns, sender.flush()).await.map(Result::unwrap),
                    _ => within(turns, sender.send(&batch[0])).await.map(Result::unwrap),
                };
                given_up += u64::from(outcome.is_none());
            }
            sender.flush().await.unwrap();
            done.store(true, Ordering::SeqCst);
            (sender.stats().sent, given_up, sender)
        });
        let (mut next, mut given_up) = (0, 0);
        for step in 0.. {
            let turns = word(2, step) % 4;
            let received = match word(5, step) % 2 {
                0 => within(turns, receiver.recv()).await.map(|delivery| vec![delivery.unwrap()]),
                _ => within(turns, receiver.recv_batch(2)).await.map(|batch| batch.unwrap().into_iter().collect()),
            };
            match received {
                Some(deliveries) => {
                    for delivery in deliveries {
                        assert_eq!((checked(&delivery), delivery.is_redelivered()), ((1, next), false));
                        next += 1;
                    }
                    if step % 3 == 0 {
                        pause(word(3, step) % 8).await; // a full queue now and then
                    }
                }
                None if is_done.load(Ordering::SeqCst) => break,
                None => {
                    given_up += 1;
                    receives_given_up.store(given_up, Ordering::SeqCst);
                }
            }
        }
        let (sent, sends_given_up, sender) = sending.await.unwrap();
        assert_eq!(next, sent);
        assert!(sends_given_up > 100 && given_up > 100, "{sends_given_up} and {given_up} were given up");
        assert_eq!((sender.stats().sent, sender.stats().acknowledged), (sent, sent));
    });
}

#[test]
fn messages_that_are_given_back_come_again_with_the_mark() {
    on_both(|| async {
        let ground = Ground::new();
        let mut receiver = Receiver::bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).await.unwrap();
        sender.send(&message(1, 0)).await.unwrap();
        sender.send(&message(1, 1)).await.unwrap();
        let delivery = receive(&mut receiver).await;
        let (tell, told) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            told.await.unwrap();
            delivery.nack(); // while the receiving task sleeps
        });
        assert_eq!(checked(&receive(&mut receiver).await), (1, 1));
        let again = tokio::spawn(async move { (receive(&mut receiver).await, receiver) });
        sleep(Duration::from_millis(10)).await;
        tell.send(()).unwrap();
        task.await.unwrap();
        let (delivery, _receiver) = again.await.unwrap();
        assert_eq!((checked(&delivery), delivery.is_redelivered()), ((1, 0), true));
        drop(delivery);
        sender.close().await.unwrap();
    });
}

/// Receives so many messages, acknowledges the first of them, and holds the others until it is killed.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn holding_receiver() {
    role("holding_receiver", |parent, arguments| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut receiver = Receiver::bind(arguments[0]).unwrap();
            parent.tell("ready");
            receive(&mut receiver).await.ack();
            let mut held = Vec::new();
            for _ in 1..arguments[1].parse().unwrap() {
                held.push(receive(&mut receiver).await);
            }
            parent.tell("holding");
            parent.hear();
        });
    });
}

#[test]
fn a_killed_receiver_loses_nothing_and_its_successor_knows_what_it_held() {
    on_both(|| async {
        let ground = Ground::new();
        let socket = ground.socket();
        let mut process = Process::start("holding_receiver", [socket.as_os_str(), "3".as_ref()]);
        process.expect("ready");
        let mut sender = Sender::builder().slots(5).server_timeout(LIMIT).connect_async(&socket).await.unwrap();
        for number in 0..5 {
            sender.send(&message(1, number)).await.unwrap();
        }
        process.expect("holding");
        process.kill();
        // It waits for a successor, gives that up, and waits again.
        assert!(timeout(Duration::from_millis(30), sender.flush()).await.is_err());
        let waiting = tokio::spawn(async move {
            for number in 5..20 {
                sender.send(&message(1, number)).await.unwrap();
            }
            let stats = sender.stats();
            sender.close().await.unwrap();
            stats
        });
        sleep(Duration::from_millis(150)).await; // longer than one look for a receiver
        assert!(!waiting.is_finished());
        let mut receiver = Receiver::bind(&socket).unwrap();
        for number in 1..20 {
            let delivery = receive(&mut receiver).await;
            assert_eq!((checked(&delivery), delivery.is_redelivered()), ((1, number), number < 3));
        }
        let stats = waiting.await.unwrap();
        assert_eq!((stats.redelivered, stats.reconnects), (2, 1));
    });
}

/// Each time at another point of what the task does, also while it lets others run.
#[test]
fn receivers_that_come_and_go_lose_nothing_and_leave_nobody_waiting() {
    const COUNT: u64 = 20_000;
    on_both(|| async {
        let ground = Ground::new();
        let bind = |slots| Receiver::builder().slots(slots).bind_async(ground.socket()).unwrap();
        let mut receiver = bind(4);
        let builder = Sender::builder().slots(3).server_timeout(LIMIT);
        let mut sender = builder.connect_async(ground.socket()).await.unwrap();
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                sender.send(&message(1, number)).await.unwrap();
            }
            let reconnects = sender.stats().reconnects;
            sender.close().await.unwrap();
            reconnects
        });
        let (mut next, mut rounds) = (0, 0);
        while next < COUNT {
            rounds += 1;
            for _ in 0..word(6, rounds) % 2000 {
                let delivery = receive(&mut receiver).await;
                let (_, number) = checked(&delivery);
                match number == next {
                    true => next += 1,
                    false => assert!(number < next && delivery.is_redelivered(), "{number} came where {next} was due"),
                }
                if next == COUNT {
                    break;
                }
            }
            if next < COUNT {
                drop(receiver);
                pause(word(7, rounds) % 3).await;
                receiver = bind(4);
            }
        }
        let reconnects = timeout(LIMIT, sending).await.expect("it waits for nobody").unwrap();
        assert!(rounds > 5 && reconnects > 0 && reconnects < rounds, "{reconnects} in {rounds} rounds");
    });
}

#[test]
fn a_search_that_is_given_up_leaves_nothing_open() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    run(&runtime, async {
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut sender = Sender::builder().server_timeout(LIMIT).connect_async(ground.socket()).await.unwrap();
        sender.send(&message(1, 0)).await.unwrap();
        drop(receiver);
        for _ in 0..20 {
            assert!(timeout(Duration::from_millis(1), sender.flush()).await.is_err());
        }
        let mut receiver = Receiver::bind(ground.socket()).unwrap();
        sender.send(&message(1, 1)).await.unwrap();
        for number in 0..2 {
            assert_eq!(checked(&receive(&mut receiver).await), (1, number));
        }
        // The searches that were given up may have found it, too; each ends by itself.
        let begin = std::time::Instant::now();
        while receiver.stats().senders != 1 {
            assert!(begin.elapsed() < LIMIT, "{:?}", receiver.stats());
            assert!(receiver.try_recv().unwrap().is_none());
            sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_sender_without_a_receiver_is_told_and_keeps_what_it_sent() {
    on_both(|| async {
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).await.unwrap();
        sender.send(&message(1, 0)).await.unwrap();
        drop(receiver);
        let error = sender.flush().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        assert!(error.to_string().contains("1 messages are kept"), "{error}");
        let error = sender.try_send(&message(1, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        assert_eq!(sender.send(&message(1, 1)).await.unwrap_err().kind(), ErrorKind::NotRunning);
        let mut receiver = Receiver::bind(ground.socket()).unwrap();
        sender.send(&message(1, 2)).await.unwrap();
        assert_eq!(checked(&receive(&mut receiver).await), (1, 0));
        assert_eq!(checked(&receive(&mut receiver).await), (1, 2));
        assert_eq!(sender.stats().refused, 2);
    });
}

#[test]
fn a_shutdown_lets_what_was_sent_be_received_and_then_ends_it() {
    on_both(|| async {
        let ground = Ground::new();
        let mut receiver = Receiver::bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).await.unwrap();
        sender.send(&message(1, 0)).await.unwrap();
        receiver.shutdown_handle().shutdown();
        assert_eq!(checked(&receive(&mut receiver).await), (1, 0));
        let error = timeout(LIMIT, receiver.recv()).await.expect("an end").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ServerClosed { .. }), "{error}");
    });
}

#[test]
fn what_needs_a_runtime_says_so_without_one() {
    let ground = Ground::new();
    assert_eq!(Receiver::bind(ground.socket()).unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    let receiver = wigwag::Receiver::bind(ground.socket()).unwrap(); // the name was not taken
    let sender = wigwag::Sender::connect(ground.socket()).unwrap();
    assert_eq!(Sender::from_blocking(sender).unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    drop(receiver);
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn idle() {
    role("idle", |parent, _| {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        run(&runtime, async {
            let ground = Ground::new();
            let mut receiver = Receiver::builder().slots(1).bind_async(ground.socket()).unwrap();
            let mut sender = Sender::connect(ground.socket()).await.unwrap();
            let mut waiting = Sender::connect(ground.socket()).await.unwrap();
            for number in 0..1000 {
                sender.send(&message(1, number)).await.unwrap();
                receive(&mut receiver).await.ack();
            }
            waiting.send(b"taken").await.unwrap();
            let held = receive(&mut receiver).await;
            let for_room = tokio::spawn(async move { waiting.send(b"waits").await });
            let for_messages = tokio::spawn(async move { receiver.recv().await.map(|message| message.len()) });
            sleep(Duration::from_millis(100)).await;
            let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let before = spent();
            sleep(Duration::from_secs(1)).await;
            let after = spent();
            parent.tell((after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec);
            drop(held);
            for_room.await.unwrap().unwrap();
            assert_eq!(for_messages.await.unwrap().unwrap(), 5);
        });
    });
}

#[test]
fn tasks_that_wait_on_both_sides_cost_no_processor_time() {
    let mut process = Process::start("idle", [] as [&str; 0]);
    let spent_ns: i64 = process.hear().parse().unwrap();
    assert!(spent_ns < 5_000_000, "{spent_ns} ns of processor time in an idle second");
    process.join();
}
