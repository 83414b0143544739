//! Serving threads that die, and threads that cannot be had. Each test runs in a process of its own, because what it
//! does is done to the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wigwag::observe::Observer;
use wigwag::{Client, ErrorKind, Request, Server};
use wigwag_testing::{Ground, LIMIT, Process, role};

/// Panics when it is told something on a serving thread: no handler's panic.
struct Fuse(Arc<AtomicBool>);

impl Subscriber for Fuse {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "wigwag"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let is_serving = std::thread::current().name() == Some("wigwag-serve");
        if is_serving && self.0.swap(false, Ordering::SeqCst) {
            panic!("the subscriber panics");
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn w7_a_serving_thread_that_dies_is_an_error_and_its_clients_are_told() {
    let mut process = Process::start::<&str>("server_whose_thread_dies", []);
    process.expect("all were told");
    process.join();
}

#[test]
fn server_whose_thread_dies() {
    role("server_whose_thread_dies", |parent, _| {
        let fuse = Arc::new(AtomicBool::new(true));
        tracing::subscriber::set_global_default(Fuse(Arc::clone(&fuse))).unwrap();
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let serving = std::thread::spawn(move || {
            // The warning about a slow handler is what the subscriber is told on this thread.
            let slow = |request: &mut Request| {
                let is_slow = request[..] == *b"slow";
                // While calls are short only one in 127 is timed: so none of them is.
                std::thread::sleep(if is_slow { Duration::from_millis(1100) } else { Duration::from_micros(50) });
            };
            let outcome = server.serve_on(2, slow);
            (server, outcome)
        });
        let clients: Vec<Client> = (0..6).map(|_| Client::connect(ground.socket()).unwrap()).collect();
        for client in &clients {
            (0..128).for_each(|_| drop(client.call_timeout(b"quick", LIMIT).unwrap()));
        }
        std::thread::scope(|scope| {
            for client in clients {
                // Each is answered or told of the end: nobody waits until the time is over.
                let fuse = &fuse;
                scope.spawn(move || {
                    loop {
                        let request: &[u8] = if fuse.load(Ordering::SeqCst) { b"slow" } else { b"quick" };
                        match client.call_timeout(request, LIMIT) {
                            Ok(_) => {}
                            Err(error) => {
                                assert!(matches!(error.kind(), ErrorKind::ServerClosed { .. }), "{error:?}");
                                break;
                            }
                        }
                    }
                });
            }
        });
        let (mut server, outcome) = serving.join().unwrap();
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("the subscriber panics"), "{error}");
        server.serve_on(2, |_: &mut Request| ()).unwrap(); // it has ended
        parent.tell("all were told");
    });
}

#[test]
fn w13_a_server_whose_threads_cannot_be_had_can_be_tried_again() {
    for threads in [0, 1] {
        let mut process = Process::start("server_without_threads", [threads.to_string()]);
        process.expect("served at last");
        process.join();
    }
}

#[test]
fn server_without_threads() {
    role("server_without_threads", |parent, arguments| {
        let available: u64 = arguments[0].parse().unwrap();
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let early = Client::connect(ground.socket()).unwrap();
        let pending = early.loan(1).unwrap().send().unwrap();
        let limit = getrlimit(Resource::As);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        let size = size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
        // The stack of a thread is 2 MiB of address space.
        let allowed = size + (available << 21) + (1 << 20);
        setrlimit(Resource::As, Rlimit { current: Some(allowed), ..limit }).unwrap();
        let error = server.serve_on(3, |_: &mut Request| ()).unwrap_err();
        setrlimit(Resource::As, limit).unwrap();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("can be tried again"), "{error}");
        let threads = || Observer::open(ground.socket()).unwrap().snapshot().unwrap().threads.len();
        assert_eq!(threads(), 0, "nobody serves");
        if let Some(request) = server.try_recv().unwrap() {
            request.reply();
        }
        assert_eq!(threads(), 1);
        let late = Client::connect(ground.socket()).expect("the name is still there");
        let calling = std::thread::spawn(move || {
            let reply = late.call_timeout(b"abc", LIMIT).map(|reply| reply.to_vec());
            stop.shutdown();
            reply
        });
        server.serve_on(3, |request: &mut Request| request.reverse()).unwrap();
        assert_eq!(calling.join().unwrap().unwrap(), b"cba");
        pending.wait().unwrap();
        parent.tell("served at last");
    });
}
