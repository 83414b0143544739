//! A client that knows how long its handler takes sleeps through most of it, and is right whatever the handler does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wigwag::{Client, ErrorKind, Server};
use wigwag_testing::{Ground, LIMIT, Process, eventually, role};

/// Works for so long, awake, as a handler with something to do does.
fn work(micros: u64) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_micros(micros) {
        std::hint::spin_loop();
    }
}

/// What the client says is how long to work, in microseconds; the reply is that number and one more.
fn serve(mut server: Server) {
    server
        .serve(|request| {
            let micros = u64::from_le_bytes(request[..8].try_into().unwrap());
            work(micros);
            request[..8].copy_from_slice(&(micros + 1).to_le_bytes());
        })
        .unwrap();
}

fn call(client: &Client, micros: u64) {
    let reply = client.call(&micros.to_le_bytes()).unwrap();
    assert_eq!(reply[..], (micros + 1).to_le_bytes());
}

/// Runs a client beside a server that is told to end afterwards, also when the client fails.
fn beside(ground: &Ground, run: impl FnOnce(&Client)) {
    let server = Server::bind(ground.socket()).unwrap();
    let shutdown = server.shutdown_handle();
    let serving = std::thread::spawn(move || serve(server));
    let client = Client::builder().timeout(LIMIT).connect(ground.socket()).unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&client)));
    drop(client);
    shutdown.shutdown();
    serving.join().unwrap();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn replies_are_right_whether_the_handler_is_steady_or_changes_its_mind() {
    let ground = Ground::new();
    beside(&ground, |client| {
        for micros in [2_000, 2_000, 500, 1, 2_000] {
            (0..20).for_each(|_| call(client, micros));
        }
        // Quick, slow, and what nobody can know.
        for number in 0..60_u64 {
            call(client, if number % 10 == 9 { number % 3 * 3_000 } else { 1_500 });
        }
    });
}

#[test]
fn a_deadline_within_the_sleep_is_kept_and_the_slot_comes_back() {
    let ground = Ground::new();
    beside(&ground, |client| {
        (0..12).for_each(|_| call(client, 3_000));
        for _ in 0..5 {
            let error = client.call_timeout(&20_000_u64.to_le_bytes(), Duration::from_millis(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: true });
        }
        (0..4).for_each(|_| call(client, 3_000));
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn long_server() {
    role("long_server", |parent, arguments| {
        let server = Server::bind(arguments[0]).unwrap();
        parent.tell("bound");
        serve(server);
    });
}

#[test]
fn a_server_that_is_killed_ends_the_sleep() {
    let ground = Ground::new();
    let mut process = Process::start("long_server", [ground.socket().to_str().unwrap()]);
    process.expect("bound");
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let client = Client::connect(ground.socket()).unwrap();
            loop {
                if let Err(error) = client.call(&5_000_u64.to_le_bytes()) {
                    return error;
                }
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("its time is known", || calls.load(Ordering::Relaxed) > 12);
        process.kill();
        let error = calling.join().unwrap();
        assert!(matches!(error.kind(), ErrorKind::PeerDied { .. }), "{error:?}");
    });
}
