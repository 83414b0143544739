//! Senders that are dropped before everything is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wigwag::{ErrorKind, Receiver, Sender, SenderBuilder};
use wigwag_testing::{Ground, Process, eventually, limited, role};

/// Arguments: the queue. It receives a message, holds it until it is told to acknowledge it, says so before it does,
/// and ends when it is told to; or it is told to end in order, with the message.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn slow_worker() {
    role("slow_worker", |parent, arguments| {
        let receiver = Receiver::bind(arguments[0]).unwrap();
        parent.tell("ready");
        let delivery = receiver.recv().unwrap();
        parent.tell(format!("has {} {}", String::from_utf8_lossy(&delivery), delivery.is_redelivered()));
        if parent.hear().is_some_and(|order| order == "end") {
            delivery.nack();
            return;
        }
        parent.tell("acknowledges");
        delivery.ack();
        parent.hear();
    });
}

/// Arguments: the queue, and how many messages it receives, once it is told to.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn late_worker() {
    role("late_worker", |parent, arguments| {
        let receiver = Receiver::bind(arguments[0]).unwrap();
        parent.tell("ready");
        parent.hear();
        for _ in 0..arguments[1].parse().unwrap() {
            receiver.recv().unwrap().ack();
        }
        parent.tell("has all");
        parent.hear();
    });
}

fn worker(ground: &Ground) -> Process {
    let mut worker = Process::start("slow_worker", [ground.socket()]);
    worker.expect("ready");
    worker
}

/// A worker that holds a job, and its sender.
fn held_job(ground: &Ground, builder: SenderBuilder) -> (Process, Sender) {
    let mut worker = worker(ground);
    let mut sender = builder.connect(ground.socket()).unwrap();
    sender.send(b"job").unwrap();
    worker.expect("has job false");
    (worker, sender)
}

/// Drops a sender in a thread; the flag says when that has returned.
fn drop_elsewhere(sender: Sender) -> Arc<AtomicBool> {
    let is_dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_dropped);
    std::thread::spawn(move || {
        drop(sender);
        flag.store(true, Ordering::Release);
    });
    is_dropped
}

#[test]
fn dropping_a_sender_waits_for_the_last_acknowledgement() {
    limited(|| {
        let ground = Ground::new();
        let (mut worker, sender) = held_job(&ground, Sender::builder());
        let is_dropped = drop_elsewhere(sender);
        std::thread::sleep(Duration::from_millis(50)); // it would have returned
        assert!(!is_dropped.load(Ordering::Acquire), "nothing is acknowledged");
        worker.tell("acknowledge");
        worker.expect("acknowledges");
        eventually("the drop returns", || is_dropped.load(Ordering::Acquire));
        worker.kill();
        let successor = Receiver::bind(ground.socket()).unwrap();
        assert!(successor.try_recv().unwrap().is_none());
    });
}

#[test]
fn a_worker_that_dies_while_a_dropped_sender_waits_has_a_successor() {
    limited(|| {
        let ground = Ground::new();
        let (mut first, sender) = held_job(&ground, Sender::builder());
        let is_dropped = drop_elsewhere(sender);
        first.kill();
        let mut second = worker(&ground);
        second.expect("has job true");
        assert!(!is_dropped.load(Ordering::Acquire), "nothing is acknowledged");
        second.tell("acknowledge");
        eventually("the drop returns", || is_dropped.load(Ordering::Acquire));
        second.kill();
    });
}

#[test]
fn a_time_to_linger_has_an_end_with_and_without_a_worker() {
    limited(|| {
        for is_there in [true, false] {
            for time in [Duration::ZERO, Duration::from_millis(30)] {
                let ground = Ground::new();
                let (mut worker, sender) = held_job(&ground, Sender::builder().linger(time));
                if !is_there {
                    worker.kill();
                }
                drop(sender);
                if is_there {
                    worker.kill();
                }
            }
        }
    });
}

#[test]
fn without_a_worker_a_dropped_sender_looks_for_one_whatever_its_calls_do() {
    limited(|| {
        let ground = Ground::new();
        let (mut first, mut sender) = held_job(&ground, Sender::builder().server_timeout(Duration::from_millis(30)));
        first.kill();
        // A call has begun a search, which lasts as long as calls look.
        let error = loop {
            match sender.send_timeout(b"another", Duration::from_millis(1)) {
                Ok(()) => std::thread::sleep(Duration::from_millis(1)), // nobody has noticed yet
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
        let is_dropped = drop_elsewhere(sender);
        std::thread::sleep(Duration::from_millis(60));
        let mut second = worker(&ground);
        second.expect("has job true");
        assert!(!is_dropped.load(Ordering::Acquire), "nothing is acknowledged");
        second.kill();
    });
}

#[test]
fn a_sender_in_the_process_of_its_receiver_does_not_wait() {
    limited(|| {
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).unwrap();
        sender.send(b"job").unwrap();
        let delivery = receiver.recv().unwrap();
        drop(sender); // by the thread that is to acknowledge it
        assert_eq!(delivery[..], *b"job");
    });
}

/// Arguments: the queue. It has both ends, and no descriptor left.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn whole_queue_at_its_limit() {
    role("whole_queue_at_its_limit", |parent, arguments| {
        let receiver = Receiver::bind(arguments[0]).unwrap();
        let mut sender = Sender::connect(arguments[0]).unwrap();
        sender.send(b"job").unwrap();
        let delivery = receiver.recv().unwrap();
        let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        drop(sender);
        drop(delivery);
        parent.tell("dropped");
    });
}

#[test]
fn a_sender_in_the_process_of_its_receiver_does_not_wait_either_without_a_descriptor() {
    limited(|| {
        let ground = Ground::new();
        let mut both = Process::start("whole_queue_at_its_limit", [ground.socket()]);
        both.expect("dropped");
        both.join();
    });
}

#[test]
fn a_thread_that_panics_does_not_wait() {
    limited(|| {
        let ground = Ground::new();
        let (mut worker, sender) = held_job(&ground, Sender::builder());
        let panicking = std::thread::spawn(move || {
            let _sender = sender;
            panic!("on purpose");
        });
        panicking.join().unwrap_err();
        assert!(worker.is_alive(), "it waits to be told");
        worker.kill();
    });
}

#[test]
fn a_child_that_inherits_a_sender_does_not_wait() {
    limited(|| {
        let ground = Ground::new();
        let (mut worker, sender) = held_job(&ground, Sender::builder());
        // SAFETY: the child drops a handle, which touches nothing there, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(sender);
            // SAFETY: it does not return.
            unsafe { libc::_exit(0) };
        }
        let mut status = -1;
        // SAFETY: `status` is to be written.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(worker.is_alive(), "it waits to be told");
        worker.tell("acknowledge");
        sender.close().unwrap();
        worker.kill();
    });
}

#[test]
fn whoever_closes_in_vain_is_told_and_does_not_wait_again() {
    limited(|| {
        let ground = Ground::new();
        let mut worker = worker(&ground);
        let options = Sender::builder().linger(Duration::MAX);
        let mut sender = options.connect(ground.socket()).unwrap();
        sender.send(b"job").unwrap();
        worker.expect("has job false");
        worker.kill();
        let error = sender.close().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
    });
}

mod tasks {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_task_drops_its_sender_at_once_and_a_thread_waits_for_a_successor() {
        limited(|| {
            let ground = Ground::new();
            let mut first = worker(&ground);
            run(async {
                let mut sender = wigwag::tokio::Sender::connect(ground.socket()).await.unwrap();
                sender.send(b"job").await.unwrap();
                first.expect("has job false");
                drop(sender); // this thread is the runtime's only one, and tells nobody anything while it waits
            });
            first.kill();
            let mut second = worker(&ground);
            second.expect("has job true");
            second.tell("acknowledge");
            second.expect("acknowledges"); // it is about to
            eventually("the thread has ended", || threads("wigwag-linger") == 0);
            second.kill();
        });
    }

    #[test]
    fn the_thread_of_a_sender_ends_with_the_acknowledgement() {
        limited(|| {
            let ground = Ground::new();
            let mut worker = worker(&ground);
            run(async {
                let mut sender = wigwag::tokio::Sender::connect(ground.socket()).await.unwrap();
                sender.send(b"job").await.unwrap();
                worker.expect("has job false");
                // Waiting registers the bell with the reactor: the thread needs it for itself.
                let flushed = tokio::time::timeout(Duration::from_millis(20), sender.flush()).await;
                assert!(flushed.is_err(), "nothing is acknowledged");
            });
            worker.tell("acknowledge");
            worker.expect("acknowledges");
            eventually("the thread has ended", || threads("wigwag-linger") == 0);
            worker.kill();
        });
    }

    #[test]
    fn more_than_sixty_four_tasks_drop_their_senders_at_once() {
        const SENDERS: usize = 70;
        limited(|| {
            let ground = Ground::new();
            let arguments = [ground.socket().into_os_string(), SENDERS.to_string().into()];
            let mut worker = Process::start("late_worker", arguments);
            worker.expect("ready");
            run(async {
                for _ in 0..SENDERS {
                    let options = Sender::builder().slots(1).capacity(64);
                    let mut sender = options.connect_async(ground.socket()).await.unwrap();
                    sender.send(b"job").await.unwrap();
                }
            });
            worker.tell("go");
            worker.expect("has all");
            eventually("the threads have ended", || threads("wigwag-linger") == 0);
            worker.kill();
        });
    }

    #[test]
    fn whoever_closes_in_vain_leaves_no_thread_behind() {
        limited(|| {
            let ground = Ground::new();
            let mut worker = worker(&ground);
            run(async {
                let options = Sender::builder().linger(Duration::MAX);
                let mut sender = options.connect_async(ground.socket()).await.unwrap();
                sender.send(b"job").await.unwrap();
                worker.expect("has job false");
                worker.kill();
                let error = sender.close().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
            });
        });
    }

    /// How many threads of this process have that name.
    fn threads(name: &str) -> usize {
        let all = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = all.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|found| found.trim_end() == name).count()
    }
}

#[test]
fn a_worker_that_ends_in_order_while_a_dropped_sender_waits_has_a_successor() {
    limited(|| {
        let ground = Ground::new();
        let (first, sender) = held_job(&ground, Sender::builder());
        let is_dropped = drop_elsewhere(sender);
        first.tell("end");
        first.join();
        let mut second = worker(&ground);
        second.expect("has job true");
        second.tell("acknowledge");
        eventually("the drop returns", || is_dropped.load(Ordering::Acquire));
        second.kill();
    });
}
