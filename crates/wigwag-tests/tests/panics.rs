//! What a handler's code panics with, wherever that is: its client is told, and the server goes on.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;
use wigwag::{Client, ErrorKind, Request, Result, Server, ShutdownHandle};
use wigwag_testing::{Ground, LIMIT};

/// Panics when it is dropped, but for a drop in the course of a panic, which would abort the process.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_any(Bomb);
        }
    }
}

struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("the text of the error");
    }
}

/// A future that panics in its first poll, in its second one, or when it is dropped.
struct Trap {
    what: Vec<u8>,
    is_polled: bool,
}

impl Future for Trap {
    type Output = std::result::Result<(), Unspeakable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let was_polled = std::mem::replace(&mut self.is_polled, true);
        match (&self.what[..], was_polled) {
            (b"first poll", _) | (b"second poll", true) => panic!("in a poll"),
            (b"bomb", _) => panic_any(Bomb),
            (b"text", _) => Poll::Ready(Err(Unspeakable)),
            (_, false) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            (_, true) => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if self.what == b"drop" && !std::thread::panicking() {
            panic!("in its drop");
        }
    }
}

/// Calls with each request, and with a good one after it, on two sessions; then stops the server.
fn call(path: &std::path::Path, stop: &ShutdownHandle, requests: &[&[u8]]) {
    let clients = [(); 3].map(|()| Client::connect(path).unwrap());
    for client in &clients {
        for request in requests {
            let told = String::from_utf8_lossy(request);
            let error = client.call_timeout(request, LIMIT).expect_err(&told);
            assert_eq!(error.kind(), ErrorKind::HandlerPanicked, "{told}: {error}");
            for client in &clients {
                client.call_timeout(b"good", LIMIT).unwrap_or_else(|error| panic!("after {told}: {error}"));
            }
        }
    }
    stop.shutdown();
}

/// Serves while [`call`] calls.
fn serve_and_call(requests: &'static [&'static [u8]], serve: impl FnOnce(Server)) {
    let ground = Ground::new();
    let server = Server::bind(ground.socket()).unwrap();
    let (path, stop) = (ground.socket(), server.shutdown_handle());
    let calling = std::thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&path, &stop, requests)));
        stop.shutdown();
        outcome
    });
    serve(server);
    calling.join().unwrap().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn in_a_task(serve: impl AsyncFnOnce(&mut wigwag::tokio::Server) -> Result<()>, server: Server) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let serving = async {
        let mut server = wigwag::tokio::Server::from_blocking(server).unwrap();
        serve(&mut server).await
    };
    runtime.block_on(async { timeout(LIMIT, serving).await.expect("it never ended").unwrap() });
}

#[test]
fn w1_a_panic_of_any_part_of_a_handler_in_a_task_is_its_clients_answer() {
    const REQUESTS: &[&[u8]] =
        &[b"making", b"first poll", b"second poll", b"drop", b"bomb", b"text", b"bomb while making"];
    serve_and_call(REQUESTS, |server| {
        let serve = async |server: &mut wigwag::tokio::Server| {
            let handler = |request: &mut Request| {
                match &request[..] {
                    b"making" => panic!("before there is a future"),
                    b"bomb while making" => panic_any(Bomb),
                    _ => {}
                }
                Trap { what: request.to_vec(), is_polled: false }
            };
            server.serve(handler).await
        };
        in_a_task(serve, server);
    });
}

#[test]
fn w1_a_panic_in_the_drop_of_a_handler_that_nobody_awaits_any_more_is_nobody_elses() {
    let ground = Ground::new();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut server = wigwag::tokio::Server::bind(ground.socket()).unwrap();
        let clients = [(); 3].map(|()| Client::connect(ground.socket()).unwrap());
        let pending = clients.each_ref().map(|client| {
            let mut loan = client.loan(4).unwrap();
            loan.copy_from_slice(b"hold");
            loan.send().unwrap()
        });
        {
            struct Held(Trap);
            let (begun, has_begun) = mpsc::channel();
            let serving = server.serve(|_: &mut Request| {
                let held = Held(Trap { what: b"drop".to_vec(), is_polled: true });
                begun.send(()).unwrap();
                async move {
                    std::future::pending::<()>().await;
                    drop(held.0);
                }
            });
            let all_begun = async {
                for _ in 0..3 {
                    while has_begun.try_recv().is_err() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            };
            tokio::select! {
                _ = serving => panic!("it goes on"),
                () = all_begun => {}
            }
        }
        for pending in pending {
            assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Unanswered);
        }
        let served = timeout(Duration::from_millis(1), server.serve(async |_: &mut Request| ())).await;
        assert!(served.is_err(), "it goes on");
    });
}

fn blow_up(request: &mut Request) -> std::result::Result<(), Unspeakable> {
    match &request[..] {
        b"panic" => panic!("as handlers do"),
        b"bomb" => panic_any(Bomb),
        b"text" => Err(Unspeakable),
        _ => Ok(()),
    }
}

#[test]
fn w7_whatever_a_handler_panics_with_its_thread_goes_on() {
    const REQUESTS: &[&[u8]] = &[b"panic", b"bomb", b"text"];
    serve_and_call(REQUESTS, |mut server| server.serve(blow_up).unwrap());
    serve_and_call(REQUESTS, |mut server| server.serve_on(3, blow_up).unwrap());
    serve_and_call(REQUESTS, |server| {
        in_a_task(
            async |server: &mut wigwag::tokio::Server| server.serve(async |r: &mut Request| blow_up(r)).await,
            server,
        );
    });
}
