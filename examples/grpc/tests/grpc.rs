//! The service over shared memory, and the same over a Unix socket: all kinds of calls, large messages, deadlines, many
//! at a time, and ends.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request};
use wigwag_grpc::messages::{Bytes, Number, Span};
use wigwag_grpc::work_client::WorkClient;
use wigwag_grpc::work_server::WorkServer;
use wigwag_grpc::{Worker, channel, serve};
use wigwag_testing::{Ground, LIMIT};

#[derive(Clone, Copy, Debug)]
enum Carrier {
    SharedMemory,
    UnixSocket,
}

struct Serving {
    carrier: Carrier,
    path: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
    _ground: Ground,
}

impl Serving {
    fn start(carrier: Carrier) -> Serving {
        let ground = Ground::new();
        let path = ground.socket();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let task = match carrier {
            Carrier::SharedMemory => {
                let incoming = wigwag::tokio::StreamListener::bind(&path).unwrap().incoming();
                tokio::spawn(serve(incoming, stopped))
            }
            Carrier::UnixSocket => {
                let incoming = UnixListenerStream::new(tokio::net::UnixListener::bind(&path).unwrap());
                tokio::spawn(serve(incoming, stopped))
            }
        };
        Serving { carrier, path, stop, task, _ground: ground }
    }

    async fn channel(&self) -> Channel {
        let path = self.path.clone();
        match self.carrier {
            Carrier::SharedMemory => channel(move || wigwag::tokio::Stream::connect(path.clone())).await.unwrap(),
            Carrier::UnixSocket => channel(move || tokio::net::UnixStream::connect(path.clone())).await.unwrap(),
        }
    }

    async fn client(&self) -> WorkClient<Channel> {
        WorkClient::new(self.channel().await).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// The same over both, on both runtimes.
fn over_both<F: Future<Output = ()>>(test: impl Fn(Serving) -> F) {
    for carrier in [Carrier::SharedMemory, Carrier::UnixSocket] {
        for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            runtime.enable_all().build().unwrap().block_on(async {
                let test = async { test(Serving::start(carrier)).await };
                timeout(LIMIT, test).await.unwrap_or_else(|_| panic!("over {carrier:?} it never ended"));
            });
        }
    }
}

#[test]
fn unary_calls_and_their_errors() {
    over_both(|serving| async move {
        let mut client = serving.client().await;
        for round in 0..100u8 {
            let reply = client.invert(Bytes { data: vec![round, 255] }).await.unwrap();
            assert_eq!(reply.into_inner().data, [!round, 0]);
        }
        let status = client.invert(Bytes { data: Vec::new() }).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "there is nothing to invert"));
        drop(client);
        serving.end().await;
    });
}

#[test]
fn a_handler_finds_who_is_at_the_other_end_of_its_stream() {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let limited = |test| async { timeout(LIMIT, test).await.expect("it never ended") };
    runtime.block_on(limited(Box::pin(async {
        let ground = Ground::new();
        let incoming = wigwag::tokio::StreamListener::bind(ground.socket()).unwrap().incoming();
        let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let tell = move |request: Request<()>| {
            told.send(request.extensions().get::<wigwag::Peer>().copied()).unwrap();
            Ok(request)
        };
        let service = WorkServer::with_interceptor(Worker, tell);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        let path = ground.socket();
        let channel = channel(move || wigwag::tokio::Stream::connect(path.clone())).await.unwrap();
        WorkClient::new(channel).invert(Bytes { data: vec![1] }).await.unwrap();
        let peer = hears.recv().await.unwrap().expect("the request has it");
        assert_eq!(peer.pid, std::process::id() as i32);
    })));
}

#[test]
fn the_server_streams() {
    over_both(|serving| async move {
        let mut client = serving.client().await;
        let mut numbers = client.count(Span { from: 7, to: 5_007 }).await.unwrap().into_inner();
        let mut next = 7;
        while let Some(number) = numbers.message().await.unwrap() {
            assert_eq!(number.value, next);
            next += 1;
        }
        assert_eq!(next, 5_007);
        drop((client, numbers));
        serving.end().await;
    });
}

#[test]
fn the_client_streams() {
    over_both(|serving| async move {
        let mut client = serving.client().await;
        let sum = client.sum(tokio_stream::iter((1..=5_000).map(|value| Number { value }))).await.unwrap();
        assert_eq!(sum.into_inner().value, 5_000 * 5_001 / 2);
        let too_much = tokio_stream::iter([u64::MAX, 1].map(|value| Number { value }));
        assert_eq!(client.sum(too_much).await.unwrap_err().code(), Code::OutOfRange);
        drop(client);
        serving.end().await;
    });
}

#[test]
fn both_stream_at_a_time() {
    over_both(|serving| async move {
        let mut client = serving.client().await;
        let message = |number: usize| Bytes { data: vec![number as u8; number * 37 % 5_000] };
        let mut echoes = client.echo(tokio_stream::iter((0..1_000).map(message))).await.unwrap().into_inner();
        let mut count = 0;
        while let Some(echo) = echoes.next().await {
            assert_eq!(echo.unwrap(), message(count));
            count += 1;
        }
        assert_eq!(count, 1_000);
        drop((client, echoes));
        serving.end().await;
    });
}

#[test]
fn messages_are_far_larger_than_the_ring() {
    over_both(|serving| async move {
        let mut client = serving.client().await;
        let data: Vec<u8> = (0..16_000_000u32).map(|at| (at / 251) as u8).collect();
        let reply = client.invert(Bytes { data: data.clone() }).await.unwrap().into_inner().data;
        assert!(reply.len() == data.len() && reply.iter().zip(&data).all(|(reply, byte)| *reply == !byte));
        drop(client);
        serving.end().await;
    });
}

#[test]
fn a_deadline_ends_a_call_and_the_channel_goes_on() {
    over_both(|serving| async move {
        let mut client = serving.client().await;
        let mut slow = Request::new(Bytes { data: b"slow".into() });
        slow.set_timeout(Duration::from_millis(30));
        let status = client.invert(slow).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        assert_eq!(client.invert(Bytes { data: vec![1] }).await.unwrap().into_inner().data, [254]);
        drop(client);
        serving.end().await;
    });
}

#[test]
fn thousands_of_calls_are_under_way_at_a_time() {
    over_both(|serving| async move {
        let client = serving.client().await;
        let calls: Vec<_> = (0..3_000u32)
            .map(|number| {
                let mut client = client.clone();
                tokio::spawn(async move {
                    let data = number.to_le_bytes().repeat(1 + number as usize % 50);
                    let reply = client.invert(Bytes { data: data.clone() }).await.unwrap().into_inner().data;
                    assert!(reply.len() == data.len() && reply.iter().zip(&data).all(|(reply, byte)| *reply == !byte));
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        drop(client);
        serving.end().await;
    });
}

/// A server with all its connections, in a runtime of its own: both end with it.
fn server_apart(carrier: Carrier, path: &Path) -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let stopped = std::future::pending();
    match carrier {
        Carrier::SharedMemory => {
            let incoming = wigwag::tokio::StreamListener::bind(path).unwrap().incoming();
            drop(runtime.spawn(serve(incoming, stopped)));
        }
        Carrier::UnixSocket => {
            let incoming = UnixListenerStream::new(tokio::net::UnixListener::bind(path).unwrap());
            drop(runtime.spawn(serve(incoming, stopped)));
        }
    }
    runtime
}

#[test]
fn a_server_that_is_gone_is_an_error_and_a_new_one_is_found_by_the_same_channel() {
    over_both(|serving| async move {
        let Serving { carrier, path, stop, task, _ground } = serving;
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
        let _ = std::fs::remove_file(&path); // a Unix socket's name stays where its server leaves it
        let first = server_apart(carrier, &path);
        let (stop, task) = (oneshot::channel().0, tokio::spawn(async { Ok(()) }));
        let serving = Serving { carrier, path: path.clone(), stop, task, _ground };
        let mut client = serving.client().await;
        client.invert(Bytes { data: vec![1] }).await.unwrap();
        tokio::task::spawn_blocking(move || drop(first)).await.unwrap();
        let status = client.invert(Bytes { data: vec![1] }).await.unwrap_err();
        assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{status:?}");
        let _ = std::fs::remove_file(&path);
        let second = server_apart(carrier, &path);
        let mut reply = client.invert(Bytes { data: vec![1] }).await;
        for _ in 0..100 {
            if reply.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            reply = client.invert(Bytes { data: vec![1] }).await;
        }
        assert_eq!(reply.unwrap().into_inner().data, [254]);
        second.shutdown_background();
    });
}
