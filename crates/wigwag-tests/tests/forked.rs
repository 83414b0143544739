//! Every handle in a forked child: calls are errors, dropping does nothing, nothing dies by a signal, and the parent
//! goes on.
//!
//! Not tried is what SECURITY.md names: bytes that were lent before the fork.

#![allow(unsafe_code, reason = "forks, and copies of what a child inherits")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{
    Client, ErrorKind, Receiver, Sender, Server, TypedClient, TypedReceiver, TypedSender, TypedServer, tokio as tasks,
};
use wigwag_testing::{Ground, LIMIT, Process, role};

/// Runs something in a forked child and waits for it. A panic or a signal there is a panic here.
fn in_child(what: &str, run: impl FnOnce()) {
    // SAFETY: the caller plays a role in a process whose other threads hold no lock that the child needs: they sleep in
    // the kernel. The child ends below without running anything of the parent's.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => {
            // SAFETY: no memory is involved. A child that hangs fails the test instead of hanging it.
            unsafe { libc::alarm(LIMIT.as_secs() as libc::c_uint) };
            let outcome = catch_unwind(AssertUnwindSafe(run));
            // SAFETY: ends the process at once; destructors and buffers are the parent's affair.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        child => {
            let child = rustix::process::Pid::from_raw(child).unwrap();
            let (_, status) =
                rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0), "{what}: {status:?}");
        }
    }
}

/// Runs each of these in a child of its own.
macro_rules! in_children {
    ($($run:expr);+ $(;)?) => { $(in_child(stringify!($run), || { $run; }));+ };
}

/// What a forked child gets is a copy of everything, whether it can be cloned or not. Each child takes one of each
/// thing.
fn copy<T>(value: &T) -> T {
    // SAFETY: only called in a forked child, which ends without dropping the original: there is one owner.
    unsafe { std::ptr::read(value) }
}

#[track_caller]
fn forked<T>(outcome: wigwag::Result<T>) {
    let error = outcome.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forked, "{error}");
}

/// What a future says when it is polled once.
fn once<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C)]
struct Tick {
    at: u64,
}

impl wigwag::Payload for Tick {
    const NAME: &'static str = "Tick";
}

fn play(name: &str) {
    let ground = Ground::new();
    Process::start(name, [ground.socket()]).join();
}

#[test]
fn l11_what_a_parent_has_attached_counts_for_no_forked_child() {
    play("attached");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn attached() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    role("attached", |_, arguments| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(120), maximum: Some(120) }).unwrap();
        let server = Server::builder().descriptors(true).bind(arguments[0]).unwrap();
        let connect = || Client::builder().descriptors(true).connect(arguments[0]).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let client = connect();
        let mut loans = [client.loan(0).unwrap(), client.loan(0).unwrap()];
        (0..30).for_each(|index| loans[index / 16].attach(&file).unwrap());
        assert_eq!(loans[1].attach(&file).unwrap_err().kind(), ErrorKind::Full);
        in_child("a session of its own", || {
            let client = connect();
            let mut loan = client.loan(0).unwrap();
            (0..16).for_each(|_| loan.attach(&file).unwrap());
            drop(loan);
            let mut loan = client.loan(0).unwrap();
            (0..16).for_each(|_| loan.attach(&file).unwrap());
        });
        assert_eq!(loans[1].attach(&file).unwrap_err().kind(), ErrorKind::Full);
        drop(loans);
        client.loan(0).unwrap().attach(&file).unwrap();
        drop(server);
    });
}

#[test]
fn w12_requests_in_a_forked_child_are_errors() {
    play("requests");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn requests() {
    role("requests", |_, arguments| {
        let name = arguments[0];
        let mut server = Server::bind(name).unwrap();
        let client = Client::builder().slots(4).connect(name).unwrap();
        let (small, large) = (client.loan(8).unwrap().send().unwrap(), client.loan(5000).unwrap().send().unwrap());
        for request in [server.recv().unwrap(), server.recv().unwrap()] {
            in_children! {
                forked(copy(&request).resize(2));
                forked(copy(&request).resize(2000));
                forked(copy(&request).set_reply(&[1; 2000]));
                forked(copy(&request).set_reply(b""));
                copy(&request).reply();
                copy(&request).fail("x");
                drop(copy(&request));
            }
            in_child("the ways to ask", || {
                assert_eq!((request.capacity(), request.deadline(), request.peer().pid > 0), (1 << 20, None, true));
                assert!(!request.is_abandoned() && !request.wait_abandoned(Duration::from_millis(1)));
                once(request.abandoned());
                assert!(format!("{request:?} {:?}", request.abandoned()).contains("len"));
            });
            let mut abandoned = request.abandoned();
            let polled = std::pin::Pin::new(&mut abandoned).poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            in_child("who waited before", || drop(copy(&abandoned)));
            drop(abandoned);
            request.reply();
        }
        small.wait().unwrap();
        large.wait().unwrap();
        let loan = client.loan(8).unwrap();
        in_children! {
            forked(copy(&loan).call_timeout(LIMIT));
            forked(copy(&loan).call_deadline(std::time::Instant::now()));
            forked(copy(&loan).send_timeout(LIMIT));
            assert!(format!("{:?} {client:?} {loan:?}", client.stats()).contains("in_flight"));
            assert_eq!(client.stats().in_flight, 0);
        }
        drop(loan);
    });
}

#[test]
fn w12_who_follows_follows_nobody_in_a_forked_child() {
    play("followers");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn followers() {
    role("followers", |_, arguments| {
        let name = arguments[0];
        let server = Server::bind(name).unwrap();
        let client = Client::builder().follow_restarts(LIMIT).connect(name).unwrap();
        let mut pending = client.loan(8).unwrap().send().unwrap();
        let loan = client.loan(5000).unwrap();
        drop(server);
        let mut next = Server::bind(name).unwrap();
        for is_known in [false, true] {
            if is_known {
                assert!(pending.wait_timeout(Duration::from_millis(1)).is_none());
                assert_eq!(client.stats().moved, 1);
            }
            in_children! {
                forked(copy(&pending).wait());
                forked(copy(&loan).call());
                forked(client.loan(8));
                forked(client.call_timeout(b"x", LIMIT));
                drop(copy(&pending));
                drop(copy(&loan));
                drop((client.stats(), format!("{client:?} {pending:?}")));
            }
        }
        next.recv().unwrap().reply();
        assert_eq!(pending.wait().unwrap().len(), 8);
        drop(loan);
        in_child("the client goes", || drop(copy(&client)));
    });
}

#[test]
fn w12_a_child_that_comes_back_from_a_handler_answers_nothing() {
    play("handlers");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn handlers() {
    role("handlers", |_, arguments| {
        static CHILD: AtomicI32 = AtomicI32::new(-1);
        for (threads, panics) in [(0, false), (0, true), (1, false), (3, false), (3, true)] {
            let name = format!("{}-{threads}-{panics}", arguments[0]);
            let mut server = Server::bind(&name).unwrap();
            let stop = server.shutdown_handle();
            let caller = std::thread::spawn(move || {
                let client = Client::builder().wait(wigwag::Wait::Park).connect(&name).unwrap();
                let replies =
                    [b"fork", b"more"].map(|text| client.call_timeout(text, LIMIT).map(|reply| reply.to_vec()));
                stop.shutdown();
                replies
            });
            let handler = |request: &mut wigwag::Request| {
                if &request[..] == b"fork" {
                    // SAFETY: the other threads sleep in the kernel, and the child takes no lock of theirs.
                    let child = unsafe { libc::fork() };
                    CHILD.store(child, Ordering::SeqCst);
                    if child == 0 {
                        // SAFETY: no memory is involved. A child that hangs is ended.
                        unsafe { libc::alarm(LIMIT.as_secs() as libc::c_uint) };
                        std::panic::set_hook(Box::new(|_| ())); // its parent's panics are told, its own is meant
                        assert!(!panics, "as a handler does");
                    }
                }
            };
            let outcome = match threads {
                0 => server.serve(handler),
                threads => server.serve_on(threads, handler),
            };
            let child = CHILD.swap(-1, Ordering::SeqCst);
            if child == 0 {
                let code = i32::from(outcome.map_err(|error| error.kind()) != Err(ErrorKind::Forked));
                drop(server);
                // SAFETY: as in `in_child`.
                unsafe { libc::_exit(2 * code) }
            }
            outcome.unwrap();
            assert_eq!(caller.join().unwrap().map(Result::unwrap), [b"fork", b"more"].map(|text| text.to_vec()));
            let child = rustix::process::Pid::from_raw(child).unwrap();
            let options = rustix::process::WaitOptions::empty();
            let (_, status) = rustix::process::waitpid(Some(child), options).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(i32::from(threads > 1)), "{threads} {panics}: {status:?}");
        }
    });
}

#[test]
fn w12_typed_handles_in_a_forked_child_are_errors() {
    play("typed");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn typed() {
    role("typed", |_, arguments| {
        let name = arguments[0];
        let mut server = TypedServer::<Tick>::bind(name).unwrap();
        let client = TypedClient::<Tick>::connect(name).unwrap();
        let (loan, pending) = (client.loan().unwrap(), client.call_pending());
        let request = server.recv().unwrap();
        in_children! {
            forked(client.loan());
            forked(client.try_loan());
            forked(client.loan_timeout(LIMIT));
            forked(client.call(&Tick { at: 1 }));
            forked(client.call_timeout(&Tick { at: 1 }, LIMIT));
            assert_eq!((client.slots(), client.stats().in_flight), (16, 0));
            forked(copy(&loan).call());
            forked(copy(&loan).call_timeout(LIMIT));
            forked(copy(&loan).send());
            forked(copy(&loan).into_loan().call());
            forked(copy(&pending).wait());
            forked(copy(&pending).wait_timeout(LIMIT).unwrap());
            forked(copy(&pending).try_wait().unwrap());
            assert!(!pending.is_ready() && format!("{pending:?}").contains("slot"));
            drop((copy(&loan), copy(&pending)));
        }
        in_children! {
            forked(server.recv());
            forked(server.try_recv());
            forked(server.recv_timeout(LIMIT));
            forked(server.serve(|_| ()));
            forked(server.serve_requests(|_| ()));
            forked(server.serve_requests_on(2, |_| ()));
            assert!(server.path().exists() && request.deadline().is_none() && !request.is_abandoned());
            copy(&request).reply();
            copy(&request).fail("x");
            drop(copy(&server));
        }
        request.reply();
        assert_eq!(pending.wait().unwrap().at, 0);
        TypedClient::<Tick>::connect(name).expect("no child has shut the listening socket");
        drop(loan);

        let name = format!("{name}.queue");
        let receiver = TypedReceiver::<Tick>::bind(&name).unwrap();
        let mut sender = TypedSender::<Tick>::connect(&name).unwrap();
        sender.send_batch([Tick { at: 1 }, Tick { at: 2 }]).unwrap();
        let first = receiver.recv().unwrap();
        in_children! {
            forked(receiver.recv());
            forked(receiver.try_recv());
            forked(receiver.recv_timeout(LIMIT));
            forked(receiver.recv_batch(2));
            forked(receiver.try_recv_batch(2));
            forked(receiver.recv_batch_timeout(2, LIMIT));
            forked(receiver.iter().next().unwrap());
            copy(&first).ack();
            copy(&first).nack();
            drop((copy(&first), copy(&receiver)));
            forked(sender.send(&Tick { at: 3 }));
            forked(sender.try_send(&Tick { at: 3 }));
            forked(sender.send_timeout(&Tick { at: 3 }, LIMIT));
            forked(sender.send_batch([Tick { at: 3 }]));
            forked(sender.loan().map(drop));
            forked(sender.try_loan().map(drop));
            forked(sender.loan_timeout(LIMIT).map(drop));
            forked(sender.flush(LIMIT));
            forked(copy(&sender).close());
        }
        assert_eq!((first.at, receiver.recv().unwrap().at), (1, 2));
        drop(first);
        sender.close().unwrap();
    });
}

trait CallPending {
    fn call_pending(&self) -> wigwag::TypedPending<'_, Tick>;
}

impl CallPending for TypedClient<Tick> {
    fn call_pending(&self) -> wigwag::TypedPending<'_, Tick> {
        self.loan().unwrap().send().unwrap()
    }
}

#[test]
fn w12_both_ends_of_a_queue_in_a_forked_child_are_errors() {
    play("queues");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn queues() {
    role("queues", |_, arguments| {
        let name = arguments[0];
        let receiver = Receiver::bind(name).unwrap();
        let mut sender = Sender::builder().slots(8).connect(name).unwrap();
        sender.send_batch([vec![1; 8], vec![2; 5000], vec![3; 8], vec![4; 8]]).unwrap();
        let (first, batch) = (receiver.recv().unwrap(), receiver.recv_batch(2).unwrap());
        in_children! {
            forked(receiver.recv());
            forked(receiver.try_recv());
            forked(receiver.recv_timeout(LIMIT));
            forked(receiver.recv_batch(2));
            forked(receiver.try_recv_batch(2));
            forked(receiver.recv_batch_timeout(2, LIMIT));
            forked(receiver.iter().next().unwrap());
            assert_eq!((receiver.stats().received, first.is_redelivered(), batch.len()), (0, false, 2));
            assert!(format!("{receiver:?} {first:?} {batch:?} {:?}", first.peer()).contains("len"));
            copy(&first).ack();
            copy(&first).nack();
            copy(&batch).ack();
            copy(&batch).nack();
            copy(&batch).into_iter().for_each(drop);
            receiver.shutdown_handle().shutdown();
            drop(copy(&receiver));
        }
        in_children! {
            forked(sender.send(b"x"));
            forked(sender.try_send(b"x"));
            forked(sender.send_timeout(b"x", LIMIT));
            forked(sender.send_batch([b"x"]));
            forked(sender.loan(1).map(drop));
            forked(sender.try_loan(1).map(drop));
            forked(sender.loan_timeout(1, LIMIT).map(drop));
            forked(sender.flush(LIMIT));
            assert!(format!("{sender:?} {:?}", sender.stats()).contains("sent"));
            forked(copy(&sender).close());
        }
        let draft = sender.loan(5000).unwrap();
        in_child("a draft", || {
            assert!(format!("{draft:?}").contains("5000"));
            forked(copy(&draft).commit());
            drop(copy(&draft));
        });
        draft.commit().unwrap();
        drop((first, batch));
        assert_eq!(receiver.recv().unwrap()[..], [4; 8]);
        assert_eq!(receiver.recv().unwrap().len(), 5000);
        sender.flush(LIMIT).unwrap();
    });
}

#[test]
fn w5_w12_handles_of_tasks_in_a_forked_child_are_errors_and_take_nothing_from_the_parent() {
    play("tasks_of_a_parent");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn tasks_of_a_parent() {
    role("tasks_of_a_parent", |_, arguments| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let of = |what: &str| format!("{}.{what}", arguments[0]);
        let held = runtime.block_on(async {
            let mut server = tasks::Server::bind(of("x")).unwrap();
            let client = tasks::Client::connect(of("x")).await.unwrap();
            let mut receiver = tasks::Receiver::bind(of("q")).unwrap();
            let mut sender = tasks::Sender::builder().slots(1).connect_async(of("q")).await.unwrap();
            let listener = tasks::StreamListener::bind(of("s")).unwrap();
            let (near, far) = tokio::join!(tasks::Stream::connect(of("s")), listener.accept());
            let (near, far) = (near.unwrap(), far.unwrap());

            let (loan, pending) = (client.loan(8).await.unwrap(), client.loan(8).await.unwrap().send().unwrap());
            let request = server.recv().await.unwrap();
            in_children! {
                forked(once(client.loan(1)));
                forked(client.try_loan(1));
                forked(once(client.loan_timeout(1, LIMIT)));
                forked(once(client.call(b"x")));
                forked(once(client.call_with::<_, u8>(&1)));
                forked(once(copy(&client).into_service_call()));
                forked(once(copy(&loan).call()));
                forked(copy(&loan).send());
                forked(once(copy(&pending)));
                assert_eq!((client.stats().calls, client.slots()), (0, 16));
                assert!(format!("{client:?} {loan:?} {pending:?} {server:?}").contains("slot"));
                forked(once(server.recv()));
                forked(once(server.serve(async |_: &mut wigwag::Request| ())));
                forked(once(receiver.recv()));
                forked(once(receiver.recv_batch(2)));
                forked(receiver.try_recv());
                forked(once(sender.send(b"x")));
                forked(sender.try_send(b"x"));
                forked(once(sender.send_batch([b"x"])));
                forked(once(sender.loan(1)).map(drop));
                forked(once(sender.flush()));
                once(listener.accept()).unwrap_err();
            }
            in_children! {
                drop((copy(&loan), copy(&pending), copy(&request)));
                drop((copy(&client), copy(&server), copy(&receiver), copy(&sender)));
                drop((copy(&near), copy(&far), copy(&listener)));
            }
            in_children! {
                drop(copy(&near).into_split());
            }
            drop(loan);
            let waits = tokio::spawn({
                let client = client.clone();
                async move { client.call(b"waits").await.map(|reply| reply.len()) }
            });
            tokio::task::yield_now().await; // it has been polled
            (client, server, receiver, sender, listener, near, far, pending, request, waits)
        });
        // Not dropped: tokio would wait for threads of its own pool, which a child does not have.
        in_child("the end of the runtime, with a task in it", || copy(&runtime).shutdown_background());
        let (client, mut server, mut receiver, mut sender, listener, mut near, mut far, pending, request, waits) = held;
        runtime.block_on(async {
            // Each wake-up that the child could have taken away is needed once more.
            server.recv().await.unwrap().reply();
            assert_eq!(waits.await.unwrap().unwrap(), 5);
            let late = async {
                tokio::task::yield_now().await;
                request.reply();
            };
            let (reply, ()) = tokio::join!(pending, late);
            assert_eq!(reply.unwrap().len(), 8);
            let serving = async { server.recv().await.unwrap().reply() };
            let calling = async {
                // the server sleeps by now, or does not: both must do
                tokio::time::sleep(Duration::from_millis(1)).await;
                client.call(b"x").await.unwrap().len()
            };
            let ((), len) = tokio::join!(serving, calling);
            assert_eq!(len, 1);
            let sending = async {
                sender.send(b"one").await.unwrap();
                sender.send(b"two").await.unwrap();
                sender.flush().await.unwrap();
            };
            let receiving = async {
                assert_eq!(receiver.recv().await.unwrap()[..], *b"one");
                assert_eq!(receiver.recv().await.unwrap()[..], *b"two");
            };
            tokio::join!(sending, receiving);
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut buffer = [0; 5];
            let writing = async {
                tokio::task::yield_now().await;
                near.write_all(b"hello").await.unwrap();
            };
            let (read, ()) = tokio::join!(far.read_exact(&mut buffer), writing);
            read.unwrap();
            let (again, accepted) = tokio::join!(tasks::Stream::connect(of("s")), listener.accept());
            drop((again.unwrap(), accepted.unwrap()));
            drop((near, far));
        });
    });
}

trait IntoServiceCall {
    async fn into_service_call(self) -> wigwag::Result<()>;
}

impl IntoServiceCall for tasks::Client {
    async fn into_service_call(self) -> wigwag::Result<()> {
        use tower::Service;
        let mut service = self.into_service();
        std::future::poll_fn(|context| service.poll_ready(context)).await?;
        service.call(vec![1]).await.map(drop)
    }
}

#[test]
fn w4_a_blocking_handle_cannot_become_one_for_tasks_in_a_forked_child_and_stays_whole_in_the_parent() {
    play("converting");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn converting() {
    role("converting", |_, arguments| {
        let of = |what: &str| format!("{}.{what}", arguments[0]);
        let mut server = Server::bind(of("x")).unwrap();
        let client = Client::connect(of("x")).unwrap();
        let receiver = Receiver::bind(of("q")).unwrap();
        let sender = Sender::connect(of("q")).unwrap();
        let listener = wigwag::StreamListener::bind(of("s")).unwrap();
        let stream = wigwag::Stream::connect(of("s")).unwrap();
        let accepted = listener.accept().unwrap();
        in_child("all of them", || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _inside = runtime.enter();
            forked(tasks::Client::from_blocking(copy(&client)));
            forked(tasks::Server::from_blocking(copy(&server)));
            forked(tasks::Sender::from_blocking(copy(&sender)));
            forked(tasks::Receiver::from_blocking(copy(&receiver)));
            forked(tasks::Stream::from_blocking(copy(&stream)));
        });
        // The parent's bells are where they were: both sides sleep and are woken.
        std::thread::scope(|scope| {
            let calling = scope.spawn(move || client.call(b"x").map(|reply| reply.len()));
            server.recv().unwrap().reply();
            assert_eq!(calling.join().unwrap().unwrap(), 1);
        });
        std::thread::scope(|scope| {
            use std::io::{Read, Write};
            let (mut stream, mut accepted) = (stream, accepted);
            let reading = scope.spawn(move || stream.read(&mut [0; 5]));
            accepted.write_all(b"hello").unwrap();
            assert!(reading.join().unwrap().unwrap() > 0);
        });
        drop(sender);
    });
}

#[test]
fn w12_what_a_keeper_has_stays_so_when_a_forked_child_drops_everything() {
    play("kept");
}

/// Arguments: the queue. The keeper, the receiver and the sender are of this process, and the sender that is kept is of
/// another.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn kept() {
    role("kept", |_, arguments| {
        let name = arguments[0];
        let keeper = wigwag::Keeper::start(name).unwrap();
        let receiver = Receiver::builder().kept_by(name).bind(name).unwrap();
        let own = Sender::connect(name).unwrap();
        let mut other = Process::start("kept_sender", [name]);
        other.expect("sent");
        let delivery = receiver.recv().unwrap();
        in_child("everything is dropped", || {
            assert_eq!(keeper.stats(), wigwag::KeeperStats::default());
            assert!(format!("{keeper:?}").contains("stats"));
            drop((copy(&delivery), copy(&own), copy(&receiver), copy(&keeper)));
        });
        assert_eq!((keeper.stats().sessions, keeper.stats().receivers), (1, 1));
        assert!(std::fs::exists(keeper.path()).unwrap());
        let stats = wigwag::Keeper::stats_of(name, LIMIT).unwrap();
        assert_eq!((stats.sessions, stats.left), (1, 0));
        delivery.ack();
        other.kill();
        wigwag_testing::eventually("it is let go", || {
            assert!(receiver.try_recv().unwrap().is_none());
            keeper.stats().sessions == 0
        });
    });
}

/// Arguments: the queue.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn kept_sender() {
    role("kept_sender", |parent, arguments| {
        let mut sender = Sender::connect(arguments[0]).unwrap();
        sender.send(b"kept").unwrap();
        parent.tell("sent");
        parent.hear_at_last();
    });
}

#[test]
fn senders_of_a_shared_name_in_a_forked_child_are_errors() {
    play("shared_name");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn shared_name() {
    role("shared_name", |_, arguments| {
        let name = arguments[0];
        let receivers = [(); 2].map(|()| Receiver::builder().shared(true).bind(name).unwrap());
        let mut sender = Sender::connect(name).unwrap();
        sender.send(b"a").unwrap();
        in_children! {
            forked(copy(&sender).send(b"b"));
            forked(copy(&sender).try_send(b"b"));
            forked(copy(&sender).flush(LIMIT));
            drop(copy(&sender));
        }
        sender.send(b"b").unwrap();
        assert!(receivers.iter().all(|receiver| receiver.try_recv().unwrap().is_some()), "each has one");
        sender.close().unwrap();
    });
}

#[test]
fn who_looks_for_a_successor_says_in_a_forked_child_that_it_is_one() {
    play("searching");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn searching() {
    role("searching", |_, arguments| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let of = |what: &str| format!("{}-{what}", arguments[0]);
        let (mut subscriber, mut blocking, mut polled) = runtime.block_on(async {
            let publisher = wigwag::Publisher::bind(of("p")).unwrap();
            let follower = || wigwag::Subscriber::builder().reconnect(LIMIT);
            let mut subscriber = follower().connect_async(of("p")).await.unwrap();
            let mut blocking = follower().connect(of("p")).unwrap();
            let polled = follower().connect(of("p")).unwrap();
            let mut polled = wigwag::polled::Subscriber::from_blocking(polled).unwrap();
            publisher.close();
            // Each has found out, and looks for the next one.
            let limit = Duration::from_millis(50);
            assert!(tokio::time::timeout(limit, subscriber.recv()).await.is_err());
            assert_eq!(blocking.recv_timeout(limit).unwrap_err().kind(), ErrorKind::TimedOut { maybe_executed: false });
            assert!(polled.try_recv().unwrap().is_none());
            (subscriber, blocking, polled)
        });
        assert!(subscriber.try_recv().unwrap().is_none(), "it looks for the next one");
        in_children! {
            forked(copy(&subscriber).try_recv());
            forked(once(copy(&subscriber).recv()));
            forked(copy(&blocking).try_recv());
            forked(copy(&blocking).recv());
            forked(copy(&blocking).recv_timeout(Duration::ZERO));
            forked(copy(&blocking).arm());
            forked(copy(&blocking).recv_or_arm());
            forked(copy(&polled).try_recv());
        }
        // The parent goes on, at the next publisher.
        let mut publisher = wigwag::Publisher::bind(of("p")).unwrap();
        publisher.wait_for_subscribers(0, LIMIT).unwrap();
        let numbers = [1, 2].map(|byte| publisher.send(&[byte]).unwrap());
        assert_eq!(numbers, [1, 2]);
        assert!(blocking.recv().unwrap().is_of_new_publisher());
        assert!(runtime.block_on(subscriber.recv()).unwrap().is_of_new_publisher());
        wigwag_testing::eventually("a subscriber that never waits finds it, too", || {
            polled.try_recv().unwrap().is_some_and(|message| message.is_of_new_publisher())
        });
    });
}
