//! Connecting: nobody waits longer than was said, nobody needs a thread for it, what can pass is tried again, and what
//! a server grants is what was asked for.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use wigwag::{Client, ErrorKind, Receiver, Sender, Server, Stream, StreamListener};
use wigwag_testing::wire::{self, LATER, REFUSED};
use wigwag_testing::{Ground, LIMIT, Offer, Process, RawServer, eventually, limited, role};

/// So long that who waits for it fails the test.
const FOR_EVER: Duration = Duration::from_secs(3600);
const OTHER_USER: u32 = 60_125;

/// Does something that must not wait.
#[track_caller]
fn at_once<T: Send + 'static>(what: &str, deed: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = channel();
    std::thread::spawn(move || done.send(deed()));
    outcome.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{what} still waits"))
}

/// A sender that has three messages under way, whose receiver is gone.
fn orphaned(ground: &Ground, builder: wigwag::SenderBuilder) -> Sender {
    let receiver = Receiver::bind(ground.socket()).unwrap();
    let mut sender = builder.connect(ground.socket()).unwrap();
    (0..3).for_each(|_| sender.send(&[7; 5000]).unwrap());
    drop(receiver);
    eventually("it is missed", || sender.try_loan(1).is_err());
    sender
}

// ---- what is granted ------------------------------------------------------------------------------------------------

#[test]
fn d5_a_successor_that_grants_another_size_broke_the_protocol_and_the_messages_stay() {
    limited(|| {
        let ground = Ground::new();
        let mut sender = orphaned(&ground, Sender::builder().slots(8));
        for (slots, capacity) in [(1, 65_536), (8, 0), (8, 4999), (8, 1 << 20), (9, 65_536), (4096, 65_536)] {
            let server = RawServer::bind(&ground.socket());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..2 {
                        let socket = server.accept();
                        assert_eq!(wire::receive(&socket).unwrap().bytes[0], 1);
                        let _raw = Offer::in_form(slots, capacity, 1).send(socket).unwrap();
                    }
                });
                let error = sender.send(b"x").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Violation, "{slots} slots of {capacity}: {error}");
                let said = error.to_string();
                assert!(said.contains("it granted") && said.contains("3 messages are kept"), "{said}");
                assert_eq!(sender.flush(LIMIT).unwrap_err().kind(), ErrorKind::Violation);
            });
            drop(server);
            std::fs::remove_file(ground.socket()).unwrap();
        }
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let flushing = std::thread::spawn(move || sender.close());
        (0..3).for_each(|_| assert_eq!(receiver.recv_timeout(LIMIT).unwrap().expect("a message")[..], [7; 5000]));
        flushing.join().unwrap().unwrap();
    });
}

#[test]
fn d5_whoever_says_a_size_gets_it_or_a_violation() {
    limited(|| {
        for (form, slots, capacity) in [(0, 3, 100), (0, 2, 101), (2, 2, 8192)] {
            let ground = Ground::new();
            let server = RawServer::bind(&ground.socket());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let socket = server.accept();
                    assert_eq!(wire::receive(&socket).unwrap().bytes[0], 1);
                    let _raw = Offer::in_form(slots, capacity, form).send(socket).unwrap();
                });
                let error = match form {
                    0 => Client::builder().slots(2).capacity(100).connect(ground.socket()).map(drop),
                    _ => Stream::builder().ring_bytes(4096).connect(ground.socket()).map(drop),
                };
                assert_eq!(error.unwrap_err().kind(), ErrorKind::Violation);
            });
        }
    });
}

// ---- time -----------------------------------------------------------------------------------------------------------

#[test]
fn w2_no_call_of_a_sender_outlives_its_time_at_a_successor_that_is_stopped() {
    limited(|| {
        let ground = Ground::new();
        let builder = Sender::builder().timeout(FOR_EVER).server_timeout(FOR_EVER);
        let mut sender = orphaned(&ground, builder);
        let stopped = RawServer::bind(&ground.socket()); // connects, and then nothing
        let moment = Duration::from_millis(20);
        for round in 0..3 {
            sender = at_once("a call with a time of its own", move || {
                let timed_out = |maybe_executed| ErrorKind::TimedOut { maybe_executed };
                assert_eq!(sender.send_timeout(b"x", moment).unwrap_err().kind(), timed_out(false), "{round}");
                assert_eq!(sender.try_send(b"x").unwrap_err().kind(), ErrorKind::NotRunning, "{round}");
                assert_eq!(sender.try_loan(1).unwrap_err().kind(), ErrorKind::NotRunning, "{round}");
                assert_eq!(sender.loan_timeout(1, moment).unwrap_err().kind(), timed_out(false), "{round}");
                assert_eq!(sender.flush(moment).unwrap_err().kind(), timed_out(true), "{round}");
                sender
            });
        }
        drop(stopped);
        std::fs::remove_file(ground.socket()).unwrap();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        // One that never waits gets there as well, with the messages that were kept.
        eventually("the successor is found", || sender.try_send(b"x").is_ok());
        (0..3).for_each(|_| assert_eq!(receiver.recv_timeout(LIMIT).unwrap().expect("a message")[..], [7; 5000]));
        assert_eq!(receiver.recv_timeout(LIMIT).unwrap().expect("a message")[..], *b"x");
    });
}

#[test]
fn w2_a_queue_of_connections_that_is_full_holds_up_no_call() {
    limited(|| {
        let ground = Ground::new();
        let mut sender = orphaned(&ground, Sender::builder().timeout(FOR_EVER).server_timeout(FOR_EVER));
        let _stopped = RawServer::bind(&ground.socket());
        let mut queue = Vec::new();
        while let Some(socket) = connect_if_there_is_room(&ground.socket()) {
            queue.push(socket);
        }
        at_once("a call with a time of its own", move || {
            let error = sender.send_timeout(b"x", Duration::from_millis(20)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: false });
            assert_eq!(sender.try_send(b"x").unwrap_err().kind(), ErrorKind::NotRunning);
        });
    });
}

fn connect_if_there_is_room(path: &Path) -> Option<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).ok().map(|()| socket)
}

fn runtime() -> tokio::runtime::Runtime {
    // Without tokio's clock: nothing here needs it.
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap()
}

#[test]
fn w6_a_connect_that_was_given_up_holds_up_no_runtime() {
    limited(|| {
        let ground = Ground::new();
        let _stopped = RawServer::bind(&ground.socket());
        let path = ground.socket();
        at_once("a runtime", move || {
            let client = Client::builder().timeout(FOR_EVER).connect_async(&path);
            let sender = Sender::builder().timeout(FOR_EVER).connect_async(&path);
            let stream = Stream::builder().timeout(FOR_EVER).connect_async(&path);
            runtime().block_on(async move {
                // Polled once each, and dropped.
                let (mut client, mut sender, mut stream) = (Box::pin(client), Box::pin(sender), Box::pin(stream));
                std::future::poll_fn(|context| {
                    assert!(client.as_mut().poll(context).is_pending());
                    assert!(sender.as_mut().poll(context).is_pending());
                    assert!(stream.as_mut().poll(context).is_pending());
                    std::task::Poll::Ready(())
                })
                .await;
            });
        });
    });
}

#[test]
fn w6_a_task_that_connects_keeps_its_time_and_is_woken_by_the_answer() {
    limited(|| {
        let ground = Ground::new();
        let path = ground.socket();
        let stopped = RawServer::bind(&path);
        runtime().block_on(async {
            let moment = Duration::from_millis(30);
            let error = Client::builder().timeout(moment).connect_async(&path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: false });
        });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drop(stopped.accept()); // the one that gave up

                stopped.serve(1, 100)
            });
            runtime().block_on(async { Client::builder().timeout(FOR_EVER).connect_async(&path).await.unwrap() });
        });
        drop(stopped);
        std::fs::remove_file(&path).unwrap();
        // One that is missing is waited for with tokio's reactor alone.
        let waiting = std::thread::spawn(move || {
            runtime()
                .block_on(async { Sender::builder().server_timeout(FOR_EVER).connect_async(&path).await.map(drop) })
        });
        let _receiver = Receiver::bind(ground.socket()).unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn without_threads() {
    role("without_threads", |parent, arguments| {
        let path = arguments[0].to_owned();
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Nproc, none).unwrap();
        // SAFETY: no memory is involved.
        unsafe { assert_eq!(libc::setresuid(OTHER_USER, OTHER_USER, OTHER_USER), 0) };
        assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "there is no thread to be had");
        runtime().block_on(async {
            let client = Client::builder().server_user(0).connect_async(&path).await.unwrap();
            assert_eq!(client.call(b"hello").await.unwrap()[..], *b"hello");
        });
        parent.tell("called");
    });
}

#[test]
fn w13_a_task_connects_where_no_thread_is_to_be_had() {
    limited(|| {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped, because only root can play another user");
        }
        let ground = Ground::new();
        std::fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        let mut server = Server::builder().allow_user(OTHER_USER).bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let serving = std::thread::spawn(move || server.serve(|_| Ok::<(), String>(())));
        let mut process = Process::start("without_threads", [ground.socket()]);
        process.expect("called");
        stop.shutdown();
        serving.join().unwrap().unwrap();
    });
}

// ---- what passes ----------------------------------------------------------------------------------------------------

/// A server by hand that turns the first ones away.
fn turn_away(server: &RawServer, times: usize, reason: u8) {
    for _ in 0..times {
        let socket = server.accept();
        assert_eq!(wire::receive(&socket).unwrap().bytes[0], 1);
        // A client with a short timeout may have gone.
        let _ = wire::send(&socket, &[&[4, reason][..], b"the words of the server"].concat(), &[]);
    }
}

#[test]
fn w9_a_refusal_that_can_pass_is_tried_again_and_one_that_lasts_is_not() {
    limited(|| {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                turn_away(&server, 5, LATER);
                let raw = server.serve(1, 100);
                turn_away(&server, 1, REFUSED);
                turn_away(&server, 1, LATER);
                drop(raw);
            });
            let client = Client::builder().timeout(FOR_EVER).connect(ground.socket()).unwrap();
            let error = Client::builder().timeout(FOR_EVER).connect(ground.socket()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            let error = Client::builder().timeout(Duration::from_millis(20)).connect(ground.socket()).unwrap_err();
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Busy | ErrorKind::TimedOut { .. }), "{error}");
            drop(client);
        });
    });
}

#[test]
fn w9_a_crowd_that_comes_all_at_once_gets_in() {
    limited(|| {
        let ground = Ground::new();
        let _server = Server::builder().max_handshakes(4).slots(1).capacity(100).bind(ground.socket()).unwrap();
        let (path, all) = (ground.socket(), std::sync::Barrier::new(200));
        let connect = || {
            all.wait();
            Client::builder().timeout(LIMIT).connect(&path).map(drop)
        };
        std::thread::scope(|scope| {
            let crowd: Vec<_> = (0..200).map(|_| scope.spawn(connect)).collect();
            crowd.into_iter().for_each(|one| one.join().unwrap().unwrap());
        });
    });
}

#[test]
fn w9_a_full_backlog_says_later() {
    limited(|| {
        let ground = Ground::new();
        let listener = StreamListener::builder().backlog(1).bind(ground.socket()).unwrap();
        let _waiting = Stream::connect(ground.socket()).unwrap();
        let hurried = || Stream::builder().timeout(Duration::from_millis(20)).connect(ground.socket());
        let error = hurried().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::WouldBlock);
        // A client with time waits until another one was accepted.
        let path = ground.socket();
        let patient = std::thread::spawn(move || Stream::builder().timeout(FOR_EVER).connect(path).map(drop));
        assert!(!patient.is_finished());
        drop(listener.accept().unwrap());
        patient.join().unwrap().unwrap();
    });
}

#[test]
fn w14_a_server_that_hangs_up_without_a_word_is_asked_once_more() {
    limited(|| {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        for has_read in [false, true] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let socket = server.accept();
                    if has_read {
                        wire::receive(&socket).unwrap();
                    }
                    drop(socket);
                    server.serve(1, 100);
                });
                Client::builder().timeout(FOR_EVER).connect(ground.socket()).unwrap();
            });
        }
        // With a server that closes while somebody is in its queue, and is not there any more.
        let path = ground.socket();
        let waiting = std::thread::spawn(move || Client::connect(path).map(drop).unwrap_err().kind());
        let socket = ground.socket();
        let ends = |line: &str| line.ends_with(socket.to_str().unwrap());
        eventually("it is in the queue", || {
            std::fs::read_to_string("/proc/net/unix").unwrap().lines().filter(|line| ends(line)).count() > 1
        });
        std::fs::remove_file(ground.socket()).unwrap();
        drop(server);
        assert_eq!(waiting.join().unwrap(), ErrorKind::NotRunning);
    });
}

// ---- descriptors ----------------------------------------------------------------------------------------------------

#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_acceptor() {
    role("poor_acceptor", |parent, arguments| {
        let [path, face] = arguments[..] else { panic!("{arguments:?}") };
        let runtime = runtime();
        let _inside = runtime.enter();
        let listener = StreamListener::bind(path).unwrap();
        parent.tell("ready");
        assert_eq!(parent.hear().unwrap(), "connected");
        let limit = |count: u64| {
            setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: Some(1000) }).unwrap();
        };
        let first_free = rustix::io::dup(std::io::stdin()).unwrap().as_raw_fd() as u64;
        let mut accept: Box<dyn FnMut() -> std::io::Result<()>> = match face {
            "blocking" => Box::new(|| read_from(&mut listener.accept()?)),
            _ => {
                let listener = wigwag::tokio::StreamListener::from_blocking(listener).unwrap();
                let first_free = rustix::io::dup(std::io::stdin()).unwrap().as_raw_fd() as u64;
                limit(first_free);
                let runtime = &runtime;
                Box::new(move || {
                    runtime.block_on(async {
                        let mut stream = listener.accept().await?;
                        let mut bytes = [0; 5];
                        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut bytes).await?;
                        assert_eq!(&bytes, b"hello");
                        Ok(())
                    })
                })
            }
        };
        let mut refusals = 0;
        for spare in 0.. {
            limit(first_free + spare);
            match accept() {
                Ok(()) => break,
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{spare}: {error}"),
            }
            refusals += 1;
        }
        // at least: the control thread may have had a descriptor of its own when they were counted
        assert!(refusals > 0);
        limit(1000);
        parent.tell("accepted");
    });
}

fn read_from(stream: &mut Stream) -> std::io::Result<()> {
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes)?;
    assert_eq!(&bytes, b"hello");
    Ok(())
}

#[test]
fn w10_who_cannot_be_accepted_for_want_of_a_descriptor_is_accepted_later() {
    for face in ["blocking", "tokio"] {
        let ground = Ground::new();
        let mut process = Process::start("poor_acceptor", [ground.socket().as_os_str(), face.as_ref()]);
        process.expect("ready");
        let mut stream = Stream::connect(ground.socket()).unwrap();
        stream.write_all(b"hello").unwrap();
        process.tell("connected");
        process.expect("accepted");
        process.join();
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_connector() {
    role("poor_connector", |parent, arguments| {
        let path = arguments[0].to_owned();
        let runtime = runtime();
        let first_free = rustix::io::dup(std::io::stdin()).unwrap().as_raw_fd() as u64;
        for spare in 0.. {
            setrlimit(Resource::Nofile, Rlimit { current: Some(first_free + spare), maximum: Some(1000) }).unwrap();
            let outcome = Stream::connect(&path);
            let in_task = runtime.block_on(wigwag::tokio::Stream::connect(&path));
            let is_done = outcome.is_ok() && in_task.is_ok();
            for error in [outcome.map(drop), in_task.map(drop)].into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), ErrorKind::Io, "{spare}: {error}");
                assert_eq!(std::io::Error::from(error).raw_os_error(), Some(libc::EMFILE), "{spare}");
            }
            if is_done {
                break;
            }
        }
        parent.tell("connected");
    });
}

#[test]
fn w10_who_connects_without_a_descriptor_is_told_so() {
    let ground = Ground::new();
    let listener = StreamListener::bind(ground.socket()).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut process = Process::start("poor_connector", [ground.socket()]);
    process.expect("connected");
    process.join();
}
