//! The exchange under tower's layers, and values of any serde type.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower::{Service, ServiceBuilder, ServiceExt};
use wigwag::tokio::{Client, ResponseFuture, Server};
use wigwag::{Error, ErrorKind};
use wigwag_testing::{Ground, LIMIT};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("it never ended") });
}

fn kind(error: &tower::BoxError) -> Option<ErrorKind> {
    error.downcast_ref::<Error>().map(Error::kind)
}

// ---- tower ----------------------------------------------------------------------------------------------------------

#[test]
fn a_timeout_layer_gives_a_call_up_and_its_slot_comes_back() {
    run(async {
        let ground = Ground::new();
        let mut server = Server::builder().slots(1).bind_async(ground.socket()).unwrap();
        let client = Client::connect(ground.socket()).await.unwrap();
        let mut service =
            ServiceBuilder::new().timeout(Duration::from_millis(20)).service(client.clone().into_service());
        let error = service.ready().await.unwrap().call(b"slow".to_vec()).await.unwrap_err();
        assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
        server.recv().await.unwrap().reply();
        assert_eq!(client.stats().abandoned, 1);
        let (reply, ()) = tokio::join!(async { service.ready().await.unwrap().call(b"quick".to_vec()).await }, async {
            server.recv().await.unwrap().reply()
        });
        assert_eq!(&reply.unwrap()[..], b"quick");
    });
}

#[test]
fn a_service_is_ready_when_it_has_a_slot_so_load_can_be_shed() {
    run(async {
        let ground = Ground::new();
        let mut server = Server::builder().slots(1).bind_async(ground.socket()).unwrap();
        let service = Client::connect(ground.socket()).await.unwrap().into_service();
        let mut shedding = ServiceBuilder::new().load_shed().service(service.clone());
        let first = shedding.ready().await.unwrap().call(b"first".to_vec());
        let error = shedding.ready().await.unwrap().call(b"second".to_vec()).await.unwrap_err();
        assert!(error.is::<tower::load_shed::error::Overloaded>(), "{error}");
        server.recv().await.unwrap().reply();
        drop(first.await.unwrap());
        drop(shedding); // it stands in line for the slot
        // A service that reserves and does not call has the slot until it is dropped.
        let mut reserving = service.clone();
        reserving.ready().await.unwrap();
        let mut shedding = ServiceBuilder::new().load_shed().service(service);
        assert!(shedding.ready().await.unwrap().call(b"third".to_vec()).await.is_err());
        drop(reserving);
        let (reply, ()) =
            tokio::join!(async { shedding.ready().await.unwrap().call(b"fourth".to_vec()).await }, async {
                server.recv().await.unwrap().reply()
            });
        assert_eq!(&reply.unwrap()[..], b"fourth");
    });
}

#[test]
fn a_request_that_does_not_fit_is_an_error_of_the_call_and_the_slot_is_free_again() {
    run(async {
        let ground = Ground::new();
        let mut server = Server::builder().slots(1).capacity(64).bind_async(ground.socket()).unwrap();
        tokio::spawn(async move { server.serve(async |_| ()).await });
        let mut service = Client::connect(ground.socket()).await.unwrap().into_service();
        for _ in 0..3 {
            let error = service.ready().await.unwrap().call(vec![0; 65]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CapacityExceeded { len: 65, capacity: 64 });
            assert_eq!(service.ready().await.unwrap().call(vec![9; 64]).await.unwrap()[..], [9; 64]);
        }
    });
}

#[test]
fn a_service_serves_under_a_limit_and_its_errors_are_the_answers() {
    run(async {
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let work = tower::service_fn(|mut bytes: Vec<u8>| async move {
            match bytes.as_slice() {
                b"slow" => std::future::pending().await,
                b"bad" => Err("as asked"),
                _ => {
                    bytes.reverse();
                    Ok(bytes)
                }
            }
        });
        let service = ServiceBuilder::new().concurrency_limit(2).timeout(Duration::from_millis(50)).service(work);
        let serving = tokio::spawn(async move { server.serve_tower(service).await });
        let client = Client::connect(ground.socket()).await.unwrap();
        let (slow, slower, good) = tokio::join!(client.call(b"slow"), client.call(b"slow"), client.call(b"abc"));
        for error in [slow.unwrap_err(), slower.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::HandlerFailed);
            assert!(error.to_string().contains("timed out"), "{error}");
        }
        assert_eq!(&good.unwrap()[..], b"cba");
        assert_eq!(client.call(b"bad").await.unwrap_err().to_string(), "as asked");
        stop.shutdown();
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn a_dead_session_is_said_by_poll_ready() {
    run(async {
        let ground = Ground::new();
        let server = Server::bind(ground.socket()).unwrap();
        let client = Client::connect(ground.socket()).await.unwrap();
        let mut service = ServiceBuilder::new().timeout(Duration::from_secs(1)).service(client.into_service());
        drop(server);
        let mut error = None;
        for _ in 0..1000 {
            if let Err(found) = service.ready().await.map(|_| ()) {
                error = Some(found);
                break;
            }
            service = service.clone(); // without the slot that it has reserved
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let error = error.expect("a service of a dead session stays ready");
        assert!(matches!(kind(&error), Some(ErrorKind::ServerClosed { .. } | ErrorKind::PeerDied { .. })), "{error}");
    });
}

#[test]
fn a_service_can_be_shared_state_and_its_future_has_a_name() {
    fn as_state<T: Clone + Send + Sync + 'static>(state: T) -> T {
        state
    }
    run(async {
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        tokio::spawn(async move { server.serve(async |request| request.reverse()).await });
        let service = as_state(Client::connect(ground.socket()).await.unwrap().into_service());
        let futures = (0..4).map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                let future: ResponseFuture = service.ready().await?.call(b"abc".to_vec());
                future.await.map(|reply| reply.to_vec())
            })
        });
        for future in futures.collect::<Vec<_>>() {
            assert_eq!(future.await.unwrap().unwrap(), b"cba");
        }
    });
}

// ---- values ---------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Question {
    Count(Vec<String>),
    Divide(u64, u64),
    Long(usize),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Answer {
    Counts(BTreeMap<String, u32>),
    Quotient(u64),
    Long(Vec<u8>),
}

fn answer(question: Question) -> Result<Answer, String> {
    Ok(match question {
        Question::Count(words) => {
            let mut counts = BTreeMap::new();
            words.into_iter().for_each(|word| *counts.entry(word).or_insert(0) += 1);
            Answer::Counts(counts)
        }
        Question::Divide(dividend, divisor) => {
            Answer::Quotient(dividend.checked_div(divisor).ok_or("nothing divides by 0")?)
        }
        Question::Long(len) => Answer::Long(vec![3; len]),
    })
}

#[test]
fn values_go_there_and_back_between_tasks_and_blocking_programs() {
    run(async {
        let ground = Ground::new();
        let mut server = Server::builder().capacity(4096).bind_async(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let serving = tokio::spawn(async move { server.serve_with(async |question| answer(question)).await });
        let client = Client::connect(ground.socket()).await.unwrap();
        let words = |count: usize| Question::Count((0..count).map(|number| (number % 3).to_string()).collect());
        assert_eq!(client.call_with::<_, Answer>(&words(300)).await.unwrap(), answer(words(300)).unwrap());
        assert_eq!(client.call_with::<_, Answer>(&Question::Divide(9, 2)).await.unwrap(), Answer::Quotient(4));
        let error = client.call_with::<_, Answer>(&Question::Divide(1, 0)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::HandlerFailed, "nothing divides by 0"));
        // A reply beyond the capacity, a request beyond it, and bytes that are no question.
        let error = client.call_with::<_, Answer>(&Question::Long(5000)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::HandlerFailed && error.to_string().contains("4096"), "{error}");
        let error = client.call_with::<_, Answer>(&words(3000)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::CapacityExceeded { capacity: 4096, .. }), "{error}");
        let error = client.call(&[77; 4]).await.unwrap_err();
        assert!(error.kind() == ErrorKind::HandlerFailed && error.to_string().contains("Question"), "{error}");
        let error = client.call_with::<_, String>(&Question::Long(9)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encoding, "{error}");
        let path = ground.socket();
        let blocking = tokio::task::spawn_blocking(move || {
            let client = wigwag::Client::connect(path).unwrap();
            client.call_with::<_, Answer>(&Question::Divide(100, 7)).unwrap()
        });
        assert_eq!(blocking.await.unwrap(), Answer::Quotient(14));
        stop.shutdown();
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn a_blocking_server_serves_values() {
    run(async {
        let ground = Ground::new();
        let mut server = wigwag::Server::bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let thread = std::thread::spawn(move || server.serve_with(answer));
        let client = Client::connect(ground.socket()).await.unwrap();
        assert_eq!(client.call_with::<_, Answer>(&Question::Divide(9, 3)).await.unwrap(), Answer::Quotient(3));
        stop.shutdown();
        thread.join().unwrap().unwrap();
    });
}
