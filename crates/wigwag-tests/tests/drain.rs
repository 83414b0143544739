//! A shutdown hands out exactly what had been passed when it began, in every form, and after its end was told nothing
//! is handed out any more.

use std::future::Future;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use wigwag::{Batch, Client, Delivery, Error, ErrorKind, Pending, Receiver, Request, Sender, Server, Wait};
use wigwag_testing::{Ground, LIMIT, Over, Process, eventually, role};

const WAITS: [Wait; 3] = [Wait::Adaptive, Wait::Park, Wait::Spin];

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn within_limit<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    runtime.block_on(async { timeout(LIMIT, future).await.expect("it never ended") })
}

#[track_caller]
fn assert_closed(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::ServerClosed { .. }), "{error:?}");
}

// ---- queues ---------------------------------------------------------------------------------------------------------

/// A receiver in any of its forms, one step of it: what came, none for "nothing yet", or the end.
trait Receives {
    fn step(&mut self) -> wigwag::Result<Vec<Delivery>>;
}

impl<F: FnMut() -> wigwag::Result<Vec<Delivery>>> Receives for F {
    fn step(&mut self) -> wigwag::Result<Vec<Delivery>> {
        self()
    }
}

fn all(batch: Option<Batch>) -> Vec<Delivery> {
    batch.map(|batch| batch.into_iter().collect()).unwrap_or_default()
}

/// Runs the test with a receiver in each of its forms.
fn in_each_form(slots: usize, test: impl Fn(&str, &Path, wigwag::ShutdownHandle, &mut dyn Receives)) {
    type Step = fn(&Receiver) -> wigwag::Result<Vec<Delivery>>;
    let forms: [(&str, Step); 7] = [
        ("recv", |receiver| receiver.recv().map(|message| vec![message])),
        ("try_recv", |receiver| Ok(receiver.try_recv()?.into_iter().collect())),
        ("recv_timeout", |receiver| Ok(receiver.recv_timeout(LIMIT)?.into_iter().collect())),
        ("recv_batch", |receiver| receiver.recv_batch(3).map(|batch| all(Some(batch)))),
        ("try_recv_batch", |receiver| receiver.try_recv_batch(100).map(all)),
        ("recv_batch_timeout", |receiver| receiver.recv_batch_timeout(2, LIMIT).map(all)),
        ("iter", |receiver| match receiver.iter().next() {
            Some(message) => message.map(|message| vec![message]),
            None => Err(receiver.recv().expect_err("the iterator said that it is over")),
        }),
    ];
    for wait in WAITS {
        for (name, step) in forms {
            let ground = Ground::new();
            let receiver = Receiver::builder().slots(slots).wait(wait).bind(ground.socket()).unwrap();
            let stop = receiver.shutdown_handle();
            test(name, &ground.socket(), stop, &mut || step(&receiver));
        }
    }
    let runtime = runtime();
    for most in [None, Some(2), Some(100)] {
        let ground = Ground::new();
        let _inside = runtime.enter();
        let mut receiver = Receiver::builder().slots(slots).bind_async(ground.socket()).unwrap();
        let stop = receiver.shutdown_handle();
        test("a task", &ground.socket(), stop, &mut || match most {
            None => {
                // A future that is dropped before it is done takes nothing along.
                let waker = std::task::Waker::noop();
                let mut context = std::task::Context::from_waker(waker);
                let begun = runtime.block_on(async {
                    tokio::task::yield_now().await; // the reactor has a turn
                    std::pin::pin!(receiver.recv()).poll(&mut context)
                });
                match begun {
                    std::task::Poll::Ready(done) => done.map(|message| vec![message]),
                    std::task::Poll::Pending => Ok(Vec::new()),
                }
            }
            Some(most) => within_limit(&runtime, receiver.recv_batch(most)).map(|batch| all(Some(batch))),
        });
    }
}

/// Receives until the end, and hands each message to `take`. Then the end is told for good.
fn receive_all(receiver: &mut dyn Receives, mut take: impl FnMut(Delivery)) {
    let begin = std::time::Instant::now();
    let error = loop {
        match receiver.step() {
            Ok(messages) => messages.into_iter().for_each(&mut take),
            Err(error) => break error,
        }
        assert!(begin.elapsed() < LIMIT, "the end is never told");
    };
    assert_closed(&error);
    for _ in 0..3 {
        assert_closed(&receiver.step().expect_err("nothing comes after the end"));
    }
}

fn committed(path: &Path, messages: &[&str]) -> Sender {
    let mut sender = Sender::connect(path).unwrap();
    messages.iter().for_each(|message| sender.try_send(message.as_bytes()).unwrap());
    sender
}

#[test]
fn d1_a_batch_at_shutdown_hands_out_what_it_found() {
    for most in [1, 3, 4, 100] {
        let ground = Ground::new();
        let receiver = Receiver::builder().slots(4).bind(ground.socket()).unwrap();
        let mut sender = committed(&ground.socket(), &["a", "b", "c", "d"]);
        receiver.shutdown_handle().shutdown();
        let mut received = Vec::new();
        let mut step = || receiver.recv_batch(most).map(|batch| all(Some(batch)));
        receive_all(&mut step, |message| {
            received.push(message[0]);
            message.ack();
        });
        assert_eq!(received, b"abcd");
        sender.flush(LIMIT).unwrap();
    }
}

#[test]
fn d1_what_is_acknowledged_was_handed_out_although_a_shutdown_comes_while_messages_do() {
    in_each_form(64, |form, path, stop, receiver| {
        let mut sender = committed(path, &["first"]);
        let (is_over, mut received) = (AtomicBool::new(false), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let _ = sender.try_send(b"more");
                    std::thread::yield_now();
                }
            });
            let _over = Over(&is_over);
            receive_all(receiver, |message| {
                received += 1;
                if received == 200 {
                    stop.shutdown();
                }
                message.ack();
            });
        });
        let _ = sender.flush(Duration::from_millis(1)); // what was not received is not acknowledged either
        assert_eq!(sender.stats().acknowledged, received, "{form}");
    });
}

#[test]
fn d1_an_error_in_the_middle_of_a_batch_is_told_after_it() {
    let mut process = Process::start::<&str>("receiver_whose_epoll_breaks", []);
    process.expect("all came, and the error was told");
    process.join();
}

#[test]
fn receiver_whose_epoll_breaks() {
    role("receiver_whose_epoll_breaks", |parent, _| {
        const COUNT: usize = 1000;
        let ground = Ground::new();
        let receiver = Receiver::builder().slots(1024).bind(ground.socket()).unwrap();
        let silent: Vec<Sender> = (0..5).map(|_| Sender::connect(ground.socket()).unwrap()).collect();
        let mut sender = committed(&ground.socket(), &["first"]);
        receiver.recv().unwrap().ack();
        assert!(receiver.recv_timeout(Duration::from_millis(1)).unwrap().is_none()); // all are armed
        for _ in 0..COUNT {
            sender.try_send(b"message").unwrap();
        }
        let mut received = receiver.recv().into_iter().count(); // it rang, and is looked at from now on
        break_epoll_with(silent.len() + 2);
        let mut errors = 0;
        while received < COUNT {
            match receiver.recv_batch(COUNT) {
                Ok(batch) => received += batch.len(),
                Err(error) if error.kind() == ErrorKind::Io => errors += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(errors > 0, "the error was never told");
        sender.flush(LIMIT).unwrap();
        parent.tell("all came, and the error was told");
        std::process::exit(0); // the receiver's thread cannot wait any more
    });
}

/// Puts another file in place of the epoll instance that watches so many descriptors.
fn break_epoll_with(watched: usize) {
    let other = std::fs::File::open("/dev/null").unwrap();
    let mut broken = 0;
    for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap() {
        let entry = entry.unwrap();
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if info.lines().filter(|line| line.starts_with("tfd:")).count() == watched {
            let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: the descriptor stays open, as another file.
            assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
            broken += 1;
        }
    }
    assert_eq!(broken, 1);
}

#[test]
fn d2_what_is_given_back_during_a_shutdown_comes_again_and_takes_nobodys_place() {
    for times in [0, 1, 3] {
        in_each_form(4, |form, path, stop, receiver| {
            drop(committed(path, &["A", "B"])); // nobody sends them again
            let staying = committed(path, &["C", "D"]);
            stop.shutdown();
            let mut received = String::new();
            let mut left = [times; 4];
            receive_all(receiver, |message| {
                let number = usize::from(message[0] - b'A');
                if left[number] > 0 {
                    left[number] -= 1;
                    return message.nack();
                }
                assert_eq!(message.is_redelivered(), times > 0, "{form}");
                received.push(message[0].into());
                message.ack();
            });
            let mut letters: Vec<char> = received.chars().collect();
            letters.sort_unstable();
            assert_eq!(letters, ['A', 'B', 'C', 'D'], "{form}, each given back {times} times: {received}");
            drop(staying);
        });
    }
}

#[test]
fn d2_a_busy_sender_takes_nothing_from_those_who_are_gone() {
    in_each_form(4, |form, path, stop, receiver| {
        let mut busy = Sender::connect(path).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let _ = busy.try_send(b"busy");
                    std::thread::yield_now();
                }
            });
            let _over = Over(&is_over);
            for _ in 0..5 {
                drop(committed(path, &["last 1", "last 2", "last 3", "last 4"]));
            }
            stop.shutdown();
            let mut last = 0;
            receive_all(receiver, |message| {
                last += usize::from(message.starts_with(b"last"));
                message.ack();
            });
            assert_eq!(last, 20, "{form}");
        });
    });
}

// ---- exchanges ------------------------------------------------------------------------------------------------------

fn never(_: &mut Request) {
    panic!("it has ended");
}

type Serve = fn(Server, &(dyn Fn(&mut Request) + Sync));

/// The forms of serving, each up to its end and once more after it.
const FORMS: [(&str, Serve); 6] = [
    ("serve", |mut server, handler| {
        server.serve(handler).unwrap();
        server.serve(never).unwrap();
        assert_closed(&server.recv().unwrap_err());
    }),
    ("serve_on", |mut server, handler| {
        server.serve_on(3, handler).unwrap();
        server.serve_on(2, never).unwrap();
        assert_closed(&server.try_recv().unwrap_err());
    }),
    ("recv", |mut server, handler| {
        let answer = |request: wigwag::Result<Request>| {
            request.map(|mut request| {
                handler(&mut request);
                request.reply();
            })
        };
        while answer(server.recv()).is_ok() {}
        for _ in 0..3 {
            assert_closed(&server.recv().unwrap_err());
            assert_closed(&server.try_recv().unwrap_err());
            assert_closed(&server.recv_timeout(Duration::ZERO).unwrap_err());
        }
        server.serve(never).unwrap();
    }),
    ("try_recv", |mut server, handler| {
        let error = loop {
            match server.try_recv() {
                Ok(Some(mut request)) => {
                    handler(&mut request);
                    request.reply();
                }
                Ok(None) => std::thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert_closed(&error);
        assert_closed(&server.try_recv().unwrap_err());
        server.serve_on(2, never).unwrap();
    }),
    ("one handler in a task", |server, handler| {
        let runtime = runtime();
        within_limit(&runtime, async {
            let mut server = wigwag::tokio::Server::from_blocking(server).unwrap();
            server
                .serve_up_to(1, async |request: &mut Request| {
                    tokio::task::yield_now().await;
                    handler(request);
                })
                .await
                .unwrap();
            server.serve(async |request: &mut Request| never(request)).await.unwrap();
            assert_closed(&server.recv().await.unwrap_err());
        });
    }),
    ("recv in a task", |server, handler| {
        let runtime = runtime();
        within_limit(&runtime, async {
            let mut server = wigwag::tokio::Server::from_blocking(server).unwrap();
            let error = loop {
                match server.recv().await {
                    Ok(mut request) => {
                        handler(&mut request);
                        request.reply();
                    }
                    Err(error) => break error,
                }
            };
            assert_closed(&error);
            assert_closed(&server.recv().await.unwrap_err());
            server.serve(async |request: &mut Request| never(request)).await.unwrap();
        });
    }),
];

/// Calls until it is told of the end; how many were answered.
fn call_with(client: Client, stop: &AtomicBool) -> usize {
    let mut calls = 0;
    while !stop.load(Ordering::SeqCst) && client.call(b"busy").is_ok() {
        calls += 1;
    }
    calls
}

fn fill_slots(client: &Client) -> Vec<Pending<'_>> {
    let send = |_| {
        let mut loan = client.loan(5).unwrap();
        loan.copy_from_slice(b"early");
        loan.send().unwrap()
    };
    (0..16).map(send).collect()
}

#[test]
fn d2_all_that_was_passed_before_a_shutdown_is_served_however_busy_others_are() {
    for (form, serve) in FORMS {
        let ground = Ground::new();
        let server = Server::builder().slots(16).bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let clients: Vec<Client> = (0..10).map(|_| Client::connect(ground.socket()).unwrap()).collect();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| {
                let early = AtomicUsize::new(0);
                serve(server, &|request| {
                    if request[..] == *b"early" {
                        early.fetch_add(1, Ordering::SeqCst);
                    }
                });
                early.into_inner()
            });
            let _over = Over(&is_over);
            for _ in 0..3 {
                let client = Client::connect(ground.socket()).unwrap();
                scope.spawn(|| call_with(client, &is_over));
            }
            let pending: Vec<Pending<'_>> = clients.iter().flat_map(fill_slots).collect();
            stop.shutdown();
            let number = pending.len();
            let lost = pending.into_iter().filter_map(|pending| pending.wait().err()).count();
            assert_eq!((number, lost), (160, 0), "{form}");
            assert_eq!(serving.join().unwrap(), 160, "{form}");
        });
    }
}

#[test]
fn d2_what_was_passed_before_the_first_look_is_served_although_the_shutdown_came_first() {
    for (form, serve) in FORMS {
        let ground = Ground::new();
        let server = Server::bind(ground.socket()).unwrap();
        let clients: Vec<Client> = (0..7).map(|_| Client::connect(ground.socket()).unwrap()).collect();
        let pending: Vec<Pending<'_>> = clients.iter().map(|client| client.loan(1).unwrap().send().unwrap()).collect();
        server.shutdown_handle().shutdown();
        eventually("the name is gone", || Client::connect(ground.socket()).is_err());
        std::thread::scope(|scope| {
            scope.spawn(|| serve(server, &|_| ()));
            for pending in pending {
                pending.wait().unwrap_or_else(|error| panic!("{form}: {error:?}"));
            }
        });
    }
}

#[test]
fn d9_what_has_ended_serves_nothing() {
    for (form, serve) in FORMS {
        let ground = Ground::new();
        let server = Server::builder().slots(16).bind(ground.socket()).unwrap();
        let (stop, is_over) = (server.shutdown_handle(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let _over = Over(&is_over);
            let clients = (0..3).map(|_| Client::connect(ground.socket()).unwrap());
            let calling: Vec<_> = clients.map(|client| scope.spawn(|| call_with(client, &is_over))).collect();
            let executed = AtomicUsize::new(0);
            serve(server, &|_| {
                if executed.fetch_add(1, Ordering::SeqCst) == 500 {
                    stop.shutdown();
                }
            });
            is_over.store(true, Ordering::SeqCst);
            let answered: usize = calling.into_iter().map(|calling| calling.join().unwrap()).sum();
            assert_eq!(answered, executed.into_inner(), "{form}: each request that was executed was answered");
        });
    }
}
