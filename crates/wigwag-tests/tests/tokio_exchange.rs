//! Calls of many tasks over one session: none lost, slots conserved however futures end, death heard by all, both
//! runtimes.

use std::collections::HashSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use wigwag::tokio::{Client, Server};
use wigwag::{ErrorKind, Request, Result, ShutdownHandle, Wait};
use wigwag_testing::{Ground, LIMIT, Process, RawServer, role, wire, word};

/// Runs the same on both runtimes, and fails where one never ends.
fn on_both<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        run(&runtime.enable_all().build().unwrap(), test());
    }
}

fn run(runtime: &Runtime, test: impl Future<Output = ()>) {
    runtime.block_on(async { timeout(LIMIT, test).await.expect("it never ended") });
}

/// A server in a task, that inverts after as many microseconds as the request's first byte says.
struct Serving {
    ground: Ground,
    stop: ShutdownHandle,
    task: JoinHandle<Result<()>>,
}

fn serve(slots: usize) -> Serving {
    let ground = Ground::new();
    let mut server = Server::builder().slots(slots).capacity(4096).bind_async(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let task = tokio::spawn(async move { server.serve(invert).await });
    Serving { ground, stop, task }
}

async fn invert(request: &mut Request) {
    if let Some(&pause @ 1..) = request.first() {
        sleep(Duration::from_micros(pause.into())).await;
    }
    for byte in request.iter_mut() {
        *byte = !*byte;
    }
}

impl Serving {
    async fn client(&self) -> Client {
        Client::connect(self.ground.socket()).await.unwrap()
    }

    async fn end(self) {
        self.stop.shutdown();
        self.task.await.unwrap().unwrap();
    }
}

/// All slots are free: each can be had at the same time.
async fn assert_all_slots_are_back(client: &Client) {
    let mut loans = Vec::new();
    for _ in 0..client.slots() {
        loans.push(timeout(LIMIT, client.loan(1)).await.expect("a slot is lost").unwrap());
    }
    assert_eq!(client.try_loan(1).unwrap_err().kind(), ErrorKind::Full);
}

async fn check_call(client: &Client, number: u64, len: usize) {
    let mut loan = client.loan(len).await.unwrap();
    loan.fill(0);
    loan[len - 8..].copy_from_slice(&number.to_le_bytes());
    let reply = loan.call().await.unwrap();
    assert_eq!(reply.len(), len);
    assert_eq!(reply[len - 8..], (!number).to_le_bytes());
    assert!(reply[..len - 8].iter().all(|&byte| byte == 0xff));
}

#[test]
fn ten_thousand_concurrent_calls_over_one_session_lose_none() {
    on_both(|| async {
        let serving = serve(16);
        let client = serving.client().await;
        let calls: Vec<_> = (0..10_000u64)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move { check_call(&client, number, if number % 3 == 0 { 500 } else { 16 }).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(client.stats().calls, 10_000);
        assert_all_slots_are_back(&client).await;
        serving.end().await;
    });
}

#[test]
fn thousands_of_tasks_call_again_and_again_over_a_few_slots_and_over_many() {
    on_both(|| async {
        for slots in [1, 3, 1000] {
            let serving = serve(slots);
            let client = serving.client().await;
            let calls: Vec<_> = (0..2000u64)
                .map(|number| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        for round in 0..5 {
                            check_call(&client, number * 10 + round, 48).await;
                        }
                    })
                })
                .collect();
            for call in calls {
                call.await.unwrap();
            }
            assert_eq!(client.stats().calls, 10_000);
            assert_all_slots_are_back(&client).await;
            serving.end().await;
        }
    });
}

#[test]
fn futures_that_are_dropped_anywhere_give_their_slots_back_and_never_get_anothers_reply() {
    on_both(|| async {
        let serving = serve(8);
        let client = serving.client().await;
        let given_up = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..300u64)
            .map(|number| {
                let (client, given_up) = (client.clone(), Arc::clone(&given_up));
                tokio::spawn(async move {
                    for round in 0..20 {
                        let pause = word(number, round) % 200;
                        let mark = number << 32 | round << 8;
                        let call = async {
                            let mut loan = client.loan(16).await.unwrap();
                            loan[..8].copy_from_slice(&pause.to_le_bytes());
                            loan[8..].copy_from_slice(&mark.to_le_bytes());
                            loan.call().await.unwrap()
                        };
                        let patience = Duration::from_micros(word(!number, round) % 3000);
                        match timeout(patience, call).await {
                            Ok(reply) => assert_eq!(reply[8..], (!mark).to_le_bytes()),
                            Err(_) => drop(given_up.fetch_add(1, Ordering::Relaxed)),
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let given_up = given_up.load(Ordering::Relaxed);
        assert!(given_up > 100 && client.stats().abandoned > 10, "{given_up} given up, {:?}", client.stats());
        assert_all_slots_are_back(&client).await;
        serving.end().await;
    });
}

#[test]
fn who_waits_for_a_slot_gets_that_of_an_abandoned_call_when_the_server_is_done_with_it() {
    on_both(|| async {
        let ground = Ground::new();
        let mut server = Server::builder().slots(1).bind_async(ground.socket()).unwrap();
        let client = Client::connect(ground.socket()).await.unwrap();
        let pending = client.loan(1).await.unwrap().send().unwrap();
        let request = server.recv().await.unwrap();
        drop(pending);
        assert!(request.is_abandoned());
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.loan(1).await.map(drop) }
        });
        sleep(Duration::from_millis(30)).await;
        assert!(!waiting.is_finished(), "the server has the slot still");
        request.reply();
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn slots_are_given_in_the_order_in_which_they_were_asked_for() {
    on_both(|| async {
        let serving = serve(1);
        let client = serving.client().await;
        let first = client.loan(1).await.unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..10 {
            let (client, order) = (client.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let loan = client.loan(1).await.unwrap();
                order.lock().unwrap().push(number);
                drop(loan);
            }));
            sleep(Duration::from_millis(2)).await; // it is in line now
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
        serving.end().await;
    });
}

#[test]
fn a_deadline_ends_each_wait_and_the_session_goes_on() {
    on_both(|| async {
        let ground = Ground::new();
        let mut server = Server::builder().slots(1).bind_async(ground.socket()).unwrap();
        let client = Client::connect(ground.socket()).await.unwrap();
        let patience = Duration::from_millis(20);
        let error = client.call_timeout(b"slow", patience).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: true });
        let request = server.recv().await.unwrap();
        assert!(request.is_abandoned() && request.deadline().is_some());
        let error = client.loan_timeout(1, patience).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: false });
        let error = client.call_timeout(b"none free", patience).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: false });
        request.reply();
        let (reply, served) = tokio::join!(client.call_timeout(b"quick", LIMIT), async {
            server.recv().await.unwrap().reply();
        });
        assert_eq!(&reply.unwrap()[..], b"quick");
        let () = served;
    });
}

#[test]
fn errors_panics_and_dropped_requests_are_the_callers_own_and_nobody_elses() {
    on_both(|| async {
        let ground = Ground::new();
        let mut server = Server::builder().bind_async(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let task = tokio::spawn(async move {
            let handler = async |request: &mut Request| -> std::result::Result<(), String> {
                tokio::task::yield_now().await;
                match &request[..] {
                    b"fail" => Err("as asked".into()),
                    b"panic" => panic!("on purpose"),
                    _ => Ok(()),
                }
            };
            server.serve(handler).await
        });
        let client = Client::connect(ground.socket()).await.unwrap();
        let (fail, panic, good) = tokio::join!(client.call(b"fail"), client.call(b"panic"), client.call(b"good"));
        let (fail, panic) = (fail.unwrap_err(), panic.unwrap_err());
        assert_eq!((fail.kind(), fail.to_string().as_str()), (ErrorKind::HandlerFailed, "as asked"));
        assert_eq!(panic.kind(), ErrorKind::HandlerPanicked);
        assert!(panic.to_string().contains("on purpose"));
        assert_eq!(&good.unwrap()[..], b"good");
        assert_eq!(client.call(&[0; 2 << 20]).await.unwrap_err().kind(), {
            ErrorKind::CapacityExceeded { len: 2 << 20, capacity: 1 << 20 }
        });
        assert_all_slots_are_back(&client).await;
        stop.shutdown();
        task.await.unwrap().unwrap();
        assert!(matches!(client.call(b"late").await.unwrap_err().kind(), ErrorKind::ServerClosed { .. }));
    });
}

// ---- the server's side ----------------------------------------------------------------------------------------------

#[test]
fn no_more_handlers_run_at_a_time_than_allowed_and_all_are_served() {
    on_both(|| async {
        let ground = Ground::new();
        let mut server = Server::builder().slots(64).bind_async(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let task = tokio::spawn(async move {
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let highest = Arc::clone(&most);
            let handler = async move |_: &mut Request| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(2)).await;
                running.fetch_sub(1, Ordering::SeqCst);
            };
            server.serve_up_to(5, handler).await.unwrap();
            highest.load(Ordering::SeqCst)
        });
        let client = Client::connect(ground.socket()).await.unwrap();
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.call(b"x").await.map(drop) })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        stop.shutdown();
        assert_eq!(task.await.unwrap(), 5);
    });
}

#[test]
fn in_a_shutdown_handlers_under_way_are_waited_for_and_what_was_passed_is_served() {
    on_both(|| async {
        let ground = Ground::new();
        let mut server = Server::builder().bind_async(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let gate = Arc::new(Notify::new());
        let task = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { server.serve(async move |_| gate.notified().await).await }
        });
        let client = Client::connect(ground.socket()).await.unwrap();
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.call(b"under way").await.map(|reply| reply.to_vec()) }
        });
        sleep(Duration::from_millis(20)).await;
        stop.shutdown();
        sleep(Duration::from_millis(20)).await;
        assert!(!task.is_finished() && !call.is_finished());
        gate.notify_waiters();
        assert_eq!(call.await.unwrap().unwrap(), b"under way");
        task.await.unwrap().unwrap();
    });
}

#[test]
fn serving_that_is_given_up_leaves_its_requests_unanswered_and_can_begin_again() {
    on_both(|| async {
        let ground = Ground::new();
        let mut server = Server::builder().bind_async(ground.socket()).unwrap();
        let client = Client::connect(ground.socket()).await.unwrap();
        let call = client.loan(1).await.unwrap().send().unwrap();
        let never = async |_: &mut Request| std::future::pending::<()>().await;
        timeout(Duration::from_millis(30), server.serve(never)).await.unwrap_err();
        assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Unanswered);
        let stop = server.shutdown_handle();
        let (served, reply) = tokio::join!(server.serve(async |_| ()), async {
            let reply = client.call(b"again").await;
            stop.shutdown();
            reply
        });
        served.unwrap();
        assert_eq!(&reply.unwrap()[..], b"again");
    });
}

#[test]
fn a_busy_server_lets_other_tasks_run() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    run(&runtime, async {
        let serving = serve(16);
        let path = serving.ground.socket();
        let is_over = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let client = wigwag::Client::builder().wait(Wait::Spin).connect(path).unwrap();
                while is_over.load(Ordering::Relaxed) == 0 {
                    client.call(&[0; 16]).unwrap();
                }
                client.stats().calls
            }
        });
        for _ in 0..50 {
            timeout(Duration::from_secs(5), sleep(Duration::from_millis(1))).await.expect("other tasks starve");
        }
        is_over.store(1, Ordering::Relaxed);
        // It may take a while to be scheduled beside the spinning client.
        while !thread.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(thread.join().unwrap() > 0);
        serving.end().await;
    });
}

#[test]
fn blocking_programs_and_tasks_understand_each_other() {
    on_both(|| async {
        let serving = serve(16);
        let path = serving.ground.socket();
        let thread = std::thread::spawn(move || {
            let client = wigwag::Client::connect(path).unwrap();
            for round in 0..1000u64 {
                let reply = client.call(&(round << 8).to_le_bytes()).unwrap();
                assert_eq!(reply[..], (!(round << 8)).to_le_bytes());
            }
        });
        while !thread.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        thread.join().unwrap();
        serving.end().await;

        let ground = Ground::new();
        let mut server = wigwag::Server::builder().bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let thread = std::thread::spawn(move || server.serve(|request| request.reverse()));
        let client = Client::connect(ground.socket()).await.unwrap();
        for _ in 0..1000 {
            assert_eq!(&client.call(b"abc").await.unwrap()[..], b"cba");
        }
        stop.shutdown();
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn many_sessions_are_served_at_a_time() {
    on_both(|| async {
        let serving = serve(4);
        let mut clients = HashSet::new();
        let mut tasks = Vec::new();
        for number in 0..50u64 {
            let client = serving.client().await;
            clients.insert(number);
            tasks.push(tokio::spawn(async move {
                for round in 0..50 {
                    check_call(&client, number << 32 | round << 8, 16).await;
                }
                number
            }));
        }
        for task in tasks {
            assert!(clients.remove(&task.await.unwrap()));
        }
        serving.end().await;
    });
}

// ---- ends -----------------------------------------------------------------------------------------------------------

#[test]
#[ignore = "a role: other tests start it as a process"]
fn silent_server() {
    role("silent_server", |parent, arguments| {
        let [path] = arguments else { panic!("{arguments:?}") };
        let mut server = wigwag::Server::builder().slots(512).bind(Path::new(path)).unwrap();
        parent.tell("ready");
        let _requests: Vec<_> = (0..512).map(|_| server.recv().unwrap()).collect();
        parent.tell("has them");
        parent.hear();
    });
}

#[test]
fn a_killed_server_ends_all_of_thousands_that_wait() {
    on_both(|| async {
        let ground = Ground::new();
        let mut process = Process::start("silent_server", [ground.socket()]);
        process.expect("ready");
        let client = Client::connect(ground.socket()).await.unwrap();
        let calls: Vec<_> = (0..5000)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.call(&[0; 8]).await.map(drop) })
            })
            .collect();
        // The lines are read on a thread of their own: tasks must go on meanwhile.
        let mut process = tokio::task::spawn_blocking(move || {
            process.expect("has them");
            process
        })
        .await
        .unwrap();
        process.kill();
        let mut executed = 0;
        for call in calls {
            match call.await.unwrap().unwrap_err().kind() {
                ErrorKind::PeerDied { maybe_executed: true } => executed += 1,
                ErrorKind::PeerDied { maybe_executed: false } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(executed, 512, "those with the server may have been executed, those in line were not sent");
        assert_eq!(client.call(b"late").await.unwrap_err().kind(), ErrorKind::PeerDied { maybe_executed: false });
    });
}

#[test]
fn the_last_handle_ends_the_session_and_loans_keep_it() {
    on_both(|| async {
        let serving = serve(2);
        let client = serving.client().await;
        let loan = client.loan(4).await.unwrap();
        drop(client);
        let reply = loan.call().await.unwrap();
        assert_eq!(reply[..], [255; 4]);
        drop(reply);
        serving.end().await;
    });
}

#[test]
fn a_call_outlives_no_runtime() {
    let ground = Ground::new();
    let _server = wigwag::Server::bind(ground.socket()).unwrap();
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let (client, pending) = runtime.block_on(async {
        let client = Client::connect(ground.socket()).await.unwrap();
        let pending = client.loan(1).await.unwrap().send().unwrap();
        (client, pending)
    });
    drop(runtime);
    let other = Builder::new_current_thread().enable_all().build().unwrap();
    run(&other, async {
        let error = pending.await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ServerClosed { .. }), "{error}");
        assert!(error.to_string().contains("runtime"), "{error}");
        assert!(client.call(b"x").await.is_err());
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn idle() {
    role("idle", |parent, _| {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        run(&runtime, async {
            let serving = serve(4);
            let client = serving.client().await;
            for _ in 0..1000 {
                client.call(&[0; 16]).await.unwrap();
            }
            sleep(Duration::from_millis(100)).await;
            let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let before = spent();
            sleep(Duration::from_secs(1)).await;
            let after = spent();
            parent.tell((after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec);
            serving.end().await;
        });
    });
}

#[test]
fn an_idle_session_costs_no_processor_time() {
    let mut process = Process::start("idle", [] as [&str; 0]);
    let spent_ns: i64 = process.hear().parse().unwrap();
    assert!(spent_ns < 5_000_000, "{spent_ns} ns of processor time in an idle second");
    process.join();
}

/// Rings, a farewell and the hang-up, all of it while the reactor does not look.
#[test]
fn a_farewell_behind_a_flood_of_rings_is_heard() {
    let ground = Ground::new();
    let server = RawServer::bind(&ground.socket());
    let serving = std::thread::spawn(move || server.serve(4, 100));
    run(&Builder::new_current_thread().enable_all().build().unwrap(), async {
        let client = Client::connect(ground.socket()).await.unwrap();
        let raw = serving.join().unwrap();
        let mut call = std::pin::pin!(client.call(b"?"));
        let first = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await;
        assert!(first, "nobody answers");
        (0..150).for_each(|_| wire::send(&raw.socket, &[6], &[]).unwrap());
        wire::send(&raw.socket, b"\x05\x05that is all", &[]).unwrap();
        drop(raw);
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServerClosed { maybe_executed: true }, "{error}");
    });
}

/// The serving thread has not taken the session, and may do so still: that this side is over tells nothing of it.
#[test]
fn a_call_whose_runtime_is_gone_is_not_said_to_be_unexecuted() {
    let ground = Ground::new();
    let mut server = wigwag::Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let (is_serving, go_on) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut executed = Vec::new();
            server
                .serve(|request| {
                    executed.push(request.to_vec());
                    if request[..] == *b"long" {
                        is_serving.wait();
                        go_on.wait();
                    }
                })
                .unwrap();
        });
        let long = wigwag::Client::connect(ground.socket()).unwrap();
        let long = scope.spawn(move || long.call(b"long").map(drop));
        is_serving.wait();
        let runtime =
            |workers| tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
        let (first, second) = (runtime(1), runtime(1));
        #[expect(clippy::async_yields_async, reason = "it is awaited elsewhere")]
        let pending = first.block_on(async {
            let client = wigwag::tokio::Client::connect(ground.socket()).await.unwrap();
            let mut loan = client.loan(5).await.unwrap();
            loan.copy_from_slice(b"short");
            loan.send().unwrap()
        });
        drop(first);
        let outcome = second.block_on(pending);
        go_on.wait();
        long.join().unwrap().unwrap();
        stop.shutdown();
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServerClosed { maybe_executed: true }, "{error}");
    });
}
