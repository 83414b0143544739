//! The serving side under unusual but legal use: requests kept by swapping, looks without time, sessions that come
//! while the server is going to sleep, clients that come and go while a handler runs, servers dropped unused.
//!
//! The first test counts this process's descriptors and mappings, so all tests of this file take turns.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wigwag::{Client, Contract, ErrorKind, Request, Server};

/// Generous: nothing here measures time.
const LIMIT: Duration = Duration::from_secs(20);

struct Ground {
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Ground {
    fn new() -> Ground {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        Ground { directory, _turn: turn }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn segments() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().matches("/memfd:wigwag").count()
}

fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn clients_that_come_and_go_while_a_handler_runs_leave_nothing() {
    let ground = Ground::new();
    let mut server = Server::builder().max_sessions(3).bind(ground.path("slow")).unwrap();
    let stop = server.shutdown_handle();
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let serving = std::thread::spawn(move || {
        server.serve(|_| {
            entered.send(()).unwrap();
            let _ = may_leave.recv();
        })
    });
    let busy = Client::connect(ground.path("slow")).unwrap();
    let pending = busy.loan(8).unwrap().send().unwrap();
    has_entered.recv().unwrap();
    let (descriptors_before, segments_before) = (descriptors(), segments());
    for _ in 0..200 {
        // Within the limit of three at any time; the control thread may need a moment to notice the last farewell.
        eventually("a place", || Client::connect(ground.path("slow")).is_ok());
    }
    eventually("all are gone while the handler still runs", || {
        descriptors() <= descriptors_before && segments() <= segments_before
    });
    drop(leave);
    pending.wait().unwrap();
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_server_dropped_before_it_served_leaves_nothing() {
    let ground = Ground::new();
    let before = (descriptors(), segments());
    for _ in 0..20 {
        let server = Server::bind(ground.path("never")).unwrap();
        let client = Client::connect(ground.path("never")).unwrap();
        let handle = server.shutdown_handle();
        drop(server);
        assert!(matches!(
            client.call(b"?").unwrap_err().kind(),
            ErrorKind::ServerClosed { .. } | ErrorKind::PeerDied { .. }
        ));
        drop((client, handle));
    }
    eventually("all is gone", || (descriptors(), segments()) == before);
}

#[test]
fn a_look_without_time_left_still_receives() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.path("zero")).unwrap();
    let client = Client::connect(ground.path("zero")).unwrap();
    let poll = |server: &mut Server| {
        let mut request = None;
        eventually("a request", || {
            request = server.recv_timeout(Duration::ZERO).unwrap();
            request.is_some()
        });
        request.unwrap()
    };
    for round in 0..3 {
        // Let the session be armed: its next request has to ring.
        for _ in 0..100 {
            assert!(server.recv_timeout(Duration::ZERO).unwrap().is_none());
        }
        let pending = client.loan(8).unwrap().send().unwrap();
        let mut request = poll(&mut server);
        request.fill(round);
        request.reply();
        assert_eq!(pending.wait().unwrap()[..], [round; 8]);
    }
}

#[test]
fn a_handler_may_keep_a_request_by_swapping_it() {
    let ground = Ground::new();
    let mut server = Server::builder().slots(2).bind(ground.path("swap")).unwrap();
    let small = Client::builder().slots(1).capacity(100).connect(ground.path("swap")).unwrap();
    let large = Client::connect(ground.path("swap")).unwrap();
    let stop = server.shutdown_handle();
    let kept = small.loan(100).unwrap().send().unwrap();
    let mut held = server.recv().unwrap();
    let serving = std::thread::spawn(move || {
        let outcome = server.serve(|request| {
            std::mem::swap(request, &mut held); // answers the one held before, and holds this one
            request.fill(7);
        });
        drop(held);
        outcome
    });
    // Each call of the large session is answered when the next request comes, with its own bytes.
    let capacity = large.capacity();
    let first = large.loan(capacity).unwrap().send().unwrap();
    assert_eq!(kept.wait().unwrap()[..], [7; 100]);
    let second = large.loan(capacity).unwrap().send().unwrap();
    assert!(first.wait().unwrap().iter().all(|&byte| byte == 7));
    for _ in 0..50 {
        let mut pending = small.loan(100).unwrap().send().unwrap();
        // The server may come to the large session first: then it is the next one there that has the small one
        // answered. There is room for one, and it comes back with the next request of whomever: on a busy machine it
        // may be held, and the small one answered, when nothing has been seen of either.
        let reply = loop {
            if let Ok(loan) = large.loan_timeout(capacity, Duration::from_millis(20)) {
                drop(loan.send().unwrap());
            }
            if let Some(reply) = pending.wait_timeout(Duration::from_millis(20)) {
                break reply.unwrap();
            }
        };
        assert_eq!(reply[..], [7; 100]);
    }
    drop(second);
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_session_that_comes_while_the_server_goes_to_sleep_is_served() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.path("doze")).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || server.serve(|request| request.reverse()));
    // One cold session, so that the server hears doorbells while another one is hot.
    let cold = Client::connect(ground.path("doze")).unwrap();
    cold.call(b"ab").unwrap();
    let path = ground.path("doze");
    let knocking = std::thread::spawn(move || {
        for _ in 0..1500 {
            let late = Client::connect(&path).unwrap();
            let reply = late.call_timeout(b"cd", Duration::from_secs(5)).expect("a new session is served");
            assert_eq!(reply[..], *b"dc");
        }
    });
    // Hot, then silent, over and over: the server cools the session, hears its bells and goes to sleep.
    let hot = Client::connect(ground.path("doze")).unwrap();
    let mut round = 0;
    while !knocking.is_finished() {
        for _ in 0..8 {
            hot.call(b"ab").unwrap();
        }
        round += 1;
        std::thread::sleep(Duration::from_micros(20 + round % 100));
    }
    knocking.join().unwrap();
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_shutdown_while_the_server_goes_to_sleep_is_heard() {
    let ground = Ground::new();
    for _ in 0..100 {
        let mut server = Server::bind(ground.path("night")).unwrap();
        let stop = server.shutdown_handle();
        let (done, is_done) = mpsc::channel();
        let serving = std::thread::spawn(move || {
            let outcome = server.serve(|_| ());
            done.send(()).unwrap();
            outcome
        });
        let client = Client::connect(ground.path("night")).unwrap();
        for _ in 0..6 {
            client.call(b"x").unwrap();
        }
        std::thread::sleep(Duration::from_micros(35));
        stop.shutdown();
        is_done.recv_timeout(LIMIT).expect("the server ends");
        serving.join().unwrap().unwrap();
    }
}

#[test]
fn a_session_goes_to_the_serving_thread_that_has_the_fewest() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.path("s")).unwrap();
    let (stop, stats) = (server.shutdown_handle(), server.stats_handle());
    // Not scoped: a test that fails does not wait for it.
    let serving = std::thread::spawn(move || {
        server.serve_on(4, |request: &mut Request| {
            let thread = format!("{:?}", std::thread::current().id());
            request.resize(thread.len()).unwrap();
            request.copy_from_slice(thread.as_bytes());
        })
    });
    let turned_away = || {
        let other = Client::builder().contract(Contract::named("something else", 1)).connect(ground.path("s"));
        assert_eq!(other.unwrap_err().kind(), ErrorKind::ContractMismatch);
    };
    let thread_of = |client: &Client| client.call_timeout(b"", LIMIT).unwrap().to_vec();
    let arrive = || Client::connect(ground.path("s")).unwrap();
    // Those that are turned away take numbers, too: here every session has an even one, as the clients of a
    // newer version have at an older server.
    let mut clients: Vec<Client> = (0..8)
        .map(|_| {
            turned_away();
            arrive()
        })
        .collect();
    let mut by_thread: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    clients.iter().for_each(|client| *by_thread.entry(thread_of(client)).or_default() += 1);
    assert_eq!(by_thread.values().collect::<Vec<_>>(), [&2; 4]);
    // Two of one thread leave, and one of another: the next three go where these were.
    let emptied = thread_of(&clients[0]);
    let halved = clients.iter().map(thread_of).find(|thread| *thread != emptied).unwrap();
    let mut leaves_half = true;
    clients.retain(|client| {
        let thread = thread_of(client);
        thread != emptied && (thread != halved || !std::mem::take(&mut leaves_half))
    });
    eventually("three have left", || stats.stats().sessions == 5);
    let newcomers: Vec<Client> = (0..3).map(|_| arrive()).collect();
    let mut threads: Vec<Vec<u8>> = newcomers.iter().map(thread_of).collect();
    assert_eq!(threads[0], emptied);
    threads.sort();
    let mut expected = [emptied.clone(), emptied, halved];
    expected.sort();
    assert_eq!(threads, expected);
    drop((clients, newcomers));
    stop.shutdown();
    serving.join().unwrap().unwrap();
}
