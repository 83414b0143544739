//! Tasks whose client outlives its servers. What threads have is in `following.rs`; here is what is shared by tasks.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wigwag::tokio::Client;
use wigwag::{ClientBuilder, ErrorKind, Server};
use wigwag_testing::{Ground, LIMIT, Process, limited, role};

/// A server's process; it `serves`, `begins` the first request and never ends it, or `idles`.
struct Service(Process);

impl Service {
    fn start(ground: &Ground, how: &str) -> Service {
        let arguments = [ground.socket(), PathBuf::from(how)];
        let mut process = Process::start("service", arguments);
        process.expect("ready");
        Service(process)
    }

    fn replace(mut self, ground: &Ground, how: &str) -> Service {
        self.0.kill();
        Service::start(ground, how)
    }
}

/// It counts its requests in their replies.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn service() {
    role("service", |parent, arguments| {
        let [socket, how] = arguments[..] else { panic!("{arguments:?}") };
        let capacity = how.strip_prefix("small").map_or(1 << 20, |bytes| bytes.parse().unwrap());
        let mut server = Server::builder().capacity(capacity).bind(Path::new(socket)).unwrap();
        parent.tell("ready");
        if how == "idles" {
            loop {
                std::thread::park();
            }
        }
        server
            .serve(|request| {
                if how == "begins" {
                    parent.tell("begun");
                    loop {
                        std::thread::park();
                    }
                }
                request.iter_mut().for_each(|byte| *byte = !*byte);
            })
            .unwrap();
    });
}

fn in_runtimes<F: Future<Output = ()>>(test: impl Fn(Ground) -> F + Send + 'static) {
    limited(move || {
        let threaded = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for runtime in [threaded, single] {
            runtime.block_on(test(Ground::new()));
        }
    });
}

fn following() -> ClientBuilder {
    wigwag::Client::builder().follow_restarts(LIMIT)
}

#[test]
fn what_nobody_has_begun_goes_on_at_the_successor() {
    in_runtimes(|ground| async move {
        let service = Service::start(&ground, "idles");
        let client = following().connect_async(ground.socket()).await.unwrap();
        let mut calls = Vec::new();
        for len in [8, 48, 49, 5000, 100_000] {
            let mut loan = client.loan(len).await.unwrap();
            loan.fill(len as u8);
            calls.push((len, tokio::spawn(loan.send().unwrap())));
        }
        let mut kept = client.loan(5000).await.unwrap();
        kept.fill(9);
        tokio::task::yield_now().await;
        let service = service.replace(&ground, "serves");
        for (len, call) in calls {
            let reply = call.await.unwrap().unwrap();
            assert!(reply.len() == len && reply.iter().all(|byte| *byte == !(len as u8)), "{len}");
        }
        assert!(kept.call().await.unwrap().iter().all(|byte| *byte == !9));
        let stats = client.stats();
        assert_eq!((stats.moved, stats.calls, stats.reconnects, stats.in_flight), (5, 6, 1, 0));
        drop(service);
    });
}

#[test]
fn a_reply_becomes_the_next_request_although_its_server_is_gone() {
    in_runtimes(|ground| async move {
        let service = Service::start(&ground, "serves");
        let client = following().connect_async(ground.socket()).await.unwrap();
        let reply = client.call(&[7; 5000]).await.unwrap();
        let service = service.replace(&ground, "serves");
        assert_eq!(client.call(&[7]).await.unwrap()[..], [!7]); // it has noticed
        let mut loan = reply.into_loan(100).unwrap();
        assert_eq!(loan[..], [!7; 100]);
        loan.fill(8);
        assert_eq!(loan.call().await.unwrap()[..], [!8; 100]);
        drop(service);
    });
}

#[test]
fn what_was_begun_is_told_to_its_task_alone() {
    in_runtimes(|ground| async move {
        let mut service = Service::start(&ground, "begins");
        let client = following().connect_async(ground.socket()).await.unwrap();
        let begun = client.loan(1).await.unwrap().call_or_payload();
        let begun = tokio::spawn(begun);
        tokio::task::yield_now().await;
        service = tokio::task::spawn_blocking(move || {
            service.0.expect("begun");
            service
        })
        .await
        .unwrap();
        let waiting = client.loan(2).await.unwrap().send().unwrap();
        let _service = service.replace(&ground, "serves");
        let error = begun.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }, "{error}");
        assert_eq!(error.into_payload().unwrap().len(), 1);
        assert_eq!(waiting.await.unwrap().len(), 2);
        assert_eq!(client.stats().moved, 1);
    });
}

#[test]
fn a_server_that_never_returns_is_told_to_all_tasks_after_one_search() {
    in_runtimes(|ground| async move {
        let service = Service::start(&ground, "idles");
        let time = Duration::from_millis(200);
        let client = wigwag::Client::builder().follow_restarts(time).connect_async(ground.socket()).await.unwrap();
        let mut tasks = Vec::new();
        for _ in 0..10 {
            tasks.push(tokio::spawn(client.loan(8).await.unwrap().send().unwrap()));
        }
        drop(service);
        for task in tasks {
            let error = task.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: false }, "{error}");
            assert!(error.to_string().contains("none came within 200 ms"), "{error}");
        }
        let service = Service::start(&ground, "serves");
        assert_eq!(client.call(&[1]).await.unwrap()[..], [!1]); // each looks again
        drop(service);
    });
}

#[test]
fn dropped_futures_are_passed_to_nobody_and_leave_the_search_to_others() {
    in_runtimes(|ground| async move {
        let service = Service::start(&ground, "idles");
        let client = following().connect_async(ground.socket()).await.unwrap();
        let pending = client.loan(8).await.unwrap().send().unwrap();
        let other = client.loan(9).await.unwrap().send().unwrap();
        drop(service);
        let searching = tokio::time::timeout(Duration::from_millis(50), pending).await;
        assert!(searching.is_err(), "there is no server");
        let service = Service::start(&ground, "serves");
        assert_eq!(other.await.unwrap().len(), 9);
        assert_eq!(client.stats().moved, 1);
        drop(service);
    });
}

#[test]
fn a_successor_that_is_too_small_gives_the_payload_back() {
    in_runtimes(|ground| async move {
        let service = Service::start(&ground, "idles");
        let client = following().connect_async(ground.socket()).await.unwrap();
        let mut loan = client.loan(5000).await.unwrap();
        loan.fill(3);
        let call = tokio::spawn(loan.call_or_payload());
        let mut kept = client.loan(5000).await.unwrap();
        kept.fill(4);
        tokio::task::yield_now().await;
        let _service = service.replace(&ground, "small1000");
        let too_small = ErrorKind::CapacityExceeded { len: 5000, capacity: 1000 };
        for (outcome, byte) in [(call.await.unwrap(), 3), (kept.call_or_payload().await, 4)] {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), too_small, "{error}");
            assert_eq!(error.into_payload().unwrap(), [byte; 5000]);
        }
        assert_eq!((client.capacity(), client.slots()), (1000, 16));
        assert_eq!(client.call(&[1]).await.unwrap()[..], [!1]);
    });
}

#[test]
fn five_kills_lose_no_task() {
    in_runtimes(|ground| async move {
        let mut service = Service::start(&ground, "serves");
        let client = following().connect_async(ground.socket()).await.unwrap();
        let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let tasks: Vec<_> = (0..8u8)
            .map(|number| {
                let (client, is_over) = (client.clone(), is_over.clone());
                tokio::spawn(async move {
                    let mut answered = 0u64;
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        match client.call(&[number; 100]).await {
                            Ok(reply) => {
                                assert_eq!(reply[..], [!number; 100]);
                                answered += 1;
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }, "{error}");
                            }
                        }
                    }
                    answered
                })
            })
            .collect();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            service = service.replace(&ground, "serves");
            client
                .call(&[1])
                .await
                .map(drop)
                .or_else(|error| match error.kind() {
                    ErrorKind::PeerDied { .. } => Ok(()),
                    _ => Err(error),
                })
                .unwrap();
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        for task in tasks {
            assert!(task.await.unwrap() > 0);
        }
        assert_eq!(client.stats().reconnects, 5);
    });
}

#[test]
fn who_only_reconnects_passes_nothing_twice() {
    in_runtimes(|ground| async move {
        let service = Service::start(&ground, "idles");
        let client = wigwag::Client::builder().reconnect(LIMIT).connect_async(ground.socket()).await.unwrap();
        let pending = client.loan(8).await.unwrap().send().unwrap();
        let kept = client.loan(9).await.unwrap();
        let _service = service.replace(&ground, "serves");
        assert!(matches!(pending.await.unwrap_err().kind(), ErrorKind::PeerDied { .. }));
        assert_eq!(kept.call().await.unwrap().len(), 9);
        assert_eq!((client.stats().reconnects, client.stats().moved), (1, 0));
    });
}

#[test]
fn a_blocking_client_that_follows_does_so_as_tasks() {
    in_runtimes(|ground| async move {
        let service = Service::start(&ground, "serves");
        let blocking = following().connect(ground.socket()).unwrap();
        let client = Client::from_blocking(blocking).unwrap();
        let _service = service.replace(&ground, "serves");
        assert_eq!(client.call(&[1]).await.unwrap()[..], [!1]);
        assert_eq!(client.stats().reconnects, 1);
    });
}
