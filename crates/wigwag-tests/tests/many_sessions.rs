//! More sessions than one look at an epoll tells of: no ring is missed, in a thread as in a task.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::time::timeout;
use wigwag::{Client, Pending, Receiver, Request, Sender, Server, Wait};
use wigwag_testing::{Ground, LIMIT, Raw, eventually};

/// More than two full looks tell of: each tells of 64 rings.
const SESSIONS: usize = 200;

/// Both ends of all sessions are in this process.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8192, |most| most.min(8192));
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(LIMIT, test).await.expect("it never ended") });
}

fn clients(path: &Path) -> Vec<Client> {
    (0..SESSIONS).map(|_| Client::builder().wait(Wait::Park).slots(1).capacity(64).connect(path).unwrap()).collect()
}

/// Lets the server armed for all sessions hear all of them at once: they ring while it is in a handler.
fn ring_all_while_one_is_served(path: &Path, has_entered: &mpsc::Receiver<()>, leave: &mpsc::Sender<()>) {
    let clients = clients(path);
    let blocker = Client::connect(path).unwrap();
    for round in 0..3 {
        clients.iter().for_each(|client| drop(client.call_timeout(b"hello", LIMIT).unwrap()));
        let blocked = blocker.loan(5).map(|mut loan| {
            loan.copy_from_slice(b"block");
            loan.send().unwrap()
        });
        has_entered.recv_timeout(LIMIT).unwrap();
        let pending: Vec<Pending<'_>> = clients.iter().map(|client| client.loan(1).unwrap().send().unwrap()).collect();
        leave.send(()).unwrap();
        blocked.unwrap().wait().unwrap();
        for (number, mut pending) in pending.into_iter().enumerate() {
            let reply = pending.wait_timeout(LIMIT);
            assert!(reply.is_some_and(|reply| reply.is_ok()), "round {round}: call {number} was never answered");
        }
    }
}

fn handler(entered: mpsc::Sender<()>, may_leave: mpsc::Receiver<()>) -> impl Fn(&mut Request) {
    move |request| {
        if request[..] == *b"block" {
            entered.send(()).unwrap();
            may_leave.recv().unwrap();
        }
    }
}

/// Sessions that ring without a request, so that nothing is served for their rings.
fn bells(path: &Path, connect: impl Fn(&Path) -> Raw) -> Vec<Raw> {
    (0..SESSIONS).map(|_| connect(path)).collect()
}

fn ring_all(bells: &[Raw]) {
    eventually("all are armed", || bells.iter().all(|bell| bell.waiting().load(Ordering::SeqCst) == 1));
    bells.iter().for_each(Raw::ring);
}

#[test]
fn d3_a_server_hears_all_of_many_sessions() {
    allow_descriptors();
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel();
    let serving = std::thread::spawn(move || server.serve(handler(entered, may_leave)));
    ring_all_while_one_is_served(&ground.socket(), &has_entered, &leave);
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

/// Serves in a task whose handler blocks the runtime's thread, so that rings gather, while `calling` does its part in a
/// thread: it is told when the handler was entered, and tells when it may leave. The server ends after that.
fn serve_in_a_task(calling: impl FnOnce(&Path, &mpsc::Receiver<()>, &mpsc::Sender<()>) + Send + 'static) {
    allow_descriptors();
    let ground = Ground::new();
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel();
    let path = ground.socket();
    run(async {
        let mut server = wigwag::tokio::Server::bind(&path).unwrap();
        let stop = server.shutdown_handle();
        let calling = std::thread::spawn({
            let path = path.clone();
            move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| calling(&path, &has_entered, &leave)));
                stop.shutdown();
                outcome.unwrap_or_else(|panic| resume_unwind(panic));
            }
        });
        let handler = handler(entered, may_leave);
        server.serve(async |request: &mut Request| handler(request)).await.unwrap();
        calling.join().unwrap();
    });
}

#[test]
fn d3_a_server_in_a_task_hears_all_of_many_sessions() {
    serve_in_a_task(ring_all_while_one_is_served);
}

#[test]
fn d3_a_server_in_a_task_hears_who_rings_last_of_many() {
    serve_in_a_task(|path, has_entered, leave| {
        let bells = bells(path, |path| Raw::connect_with(path, 1, 64));
        let [last, blocker] = [(); 2].map(|()| Client::builder().wait(Wait::Park).connect(path).unwrap());
        last.call_timeout(b"hello", LIMIT).unwrap();
        let mut loan = blocker.loan(5).unwrap();
        loan.copy_from_slice(b"block");
        eventually("all are armed", || bells.iter().all(|bell| bell.waiting().load(Ordering::SeqCst) == 1));
        let blocked = loan.send().unwrap();
        has_entered.recv_timeout(LIMIT).unwrap();
        ring_all(&bells);
        let mut pending = last.loan(1).unwrap().send().unwrap();
        leave.send(()).unwrap();
        blocked.wait().unwrap();
        pending.wait_timeout(LIMIT / 2).expect("who rang last is never heard").unwrap();
    });
}

#[test]
fn d3_a_receiver_in_a_task_hears_who_rings_last_of_many() {
    allow_descriptors();
    let ground = Ground::new();
    run(async {
        let mut receiver = wigwag::tokio::Receiver::bind(ground.socket()).unwrap();
        let bells = bells(&ground.socket(), |path| Raw::connect_sender(path, 1));
        let mut last = Sender::connect(ground.socket()).unwrap();
        for _ in 0..2 {
            last.try_send(b"message").unwrap();
            let message = timeout(LIMIT / 2, receiver.recv()).await;
            message.expect("who rang last is never heard").unwrap().ack();
            let nothing = timeout(Duration::from_millis(1), receiver.recv()).await;
            assert!(nothing.is_err(), "there is no other message"); // and now all are armed
            ring_all(&bells);
        }
    });
}

/// Senders that each send one message while nobody receives.
fn senders(path: &Path) -> Vec<Sender> {
    (0..SESSIONS).map(|_| Sender::builder().slots(2).capacity(64).connect(path).unwrap()).collect()
}

#[test]
fn d3_a_receiver_in_a_task_hears_all_of_many_senders() {
    allow_descriptors();
    let ground = Ground::new();
    run(async {
        let mut receiver = wigwag::tokio::Receiver::bind(ground.socket()).unwrap();
        let mut senders = senders(&ground.socket());
        for round in 0..4 {
            senders.iter_mut().for_each(|sender| sender.try_send(b"message").unwrap());
            for number in 0..SESSIONS {
                let message = timeout(LIMIT / 2, receiver.recv()).await;
                message.unwrap_or_else(|_| panic!("round {round}: message {number} never came")).unwrap().ack();
            }
            // Now all sessions are armed: in the next round each message rings.
            let nothing = timeout(Duration::from_millis(1), receiver.recv()).await;
            assert!(nothing.is_err(), "there is no other message");
        }
    });
}

#[test]
fn d3_a_receiver_hears_all_of_many_senders() {
    allow_descriptors();
    let ground = Ground::new();
    let receiver = Receiver::bind(ground.socket()).unwrap();
    let mut senders = senders(&ground.socket());
    for _ in 0..4 {
        senders.iter_mut().for_each(|sender| sender.try_send(b"message").unwrap());
        let mut received = 0;
        eventually("all messages", || {
            received += receiver.try_recv_batch(1000).unwrap().map_or(0, |batch| batch.len());
            received == SESSIONS
        });
        assert!(receiver.recv_timeout(Duration::from_millis(1)).unwrap().is_none(), "there is no other message");
    }
}
