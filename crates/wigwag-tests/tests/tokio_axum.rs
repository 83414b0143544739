//! A router of axum over streams, and a tower service as its state.

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::buffer::Buffer;
use tower::{Service, ServiceExt};
use wigwag::tokio::{Client, ClientService, ResponseFuture, Server, Stream, StreamAddress, StreamListener};
use wigwag_testing::{Ground, LIMIT};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("it never ended") });
}

/// The body of the answer to one request of HTTP/1.1.
async fn ask(path: &std::path::Path, method: &str, target: &str, body: &str) -> String {
    let mut stream = Stream::connect(path).await.unwrap();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn who(ConnectInfo(client): ConnectInfo<StreamAddress>) -> String {
    client.peer.unwrap().uid.to_string()
}

#[test]
fn a_router_is_served_over_streams_until_it_is_told_to_stop() {
    run(async {
        let ground = Ground::new();
        let listener = StreamListener::bind(ground.socket()).unwrap();
        let local = axum::serve::Listener::local_addr(&listener).unwrap();
        assert_eq!((local.path, local.peer), (ground.socket(), None));
        let router = Router::new().route("/", get(async || "hello")).route("/who", get(who));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let service = router.into_make_service_with_connect_info::<StreamAddress>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(async { drop(stopped.await) });
        let serving = tokio::spawn(serving.into_future());
        assert_eq!(ask(&ground.socket(), "GET", "/", "").await, "hello");
        let own = rustix::process::geteuid().as_raw().to_string();
        assert_eq!(ask(&ground.socket(), "GET", "/who", "").await, own);
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
        let error = Stream::connect(ground.socket()).await.unwrap_err();
        assert_eq!(error.kind(), wigwag::ErrorKind::NotRunning, "the listener is gone with the server");
    });
}

#[test]
fn a_service_is_the_state_of_a_router_and_of_a_spawned_buffer() {
    type Buffered = Buffer<Vec<u8>, ResponseFuture>;

    async fn direct(State(mut service): State<ClientService>, body: String) -> String {
        let reply = service.ready().await.unwrap().call(body.into_bytes()).await.unwrap();
        String::from_utf8_lossy(&reply).into_owned()
    }

    async fn buffered(State(mut service): State<Buffered>, body: String) -> String {
        let reply = service.ready().await.unwrap().call(body.into_bytes()).await.unwrap();
        String::from_utf8_lossy(&reply).into_owned()
    }

    run(async {
        let ground = Ground::new();
        let mut server = Server::bind(ground.path("calls")).unwrap();
        tokio::spawn(async move { server.serve(async |request| request.reverse()).await });
        let service = Client::connect(ground.path("calls")).await.unwrap().into_service();
        let buffer: Buffered = Buffer::new(service.clone(), 8);
        let router = Router::new()
            .route("/direct", post(direct))
            .with_state(service)
            .merge(Router::new().route("/buffered", post(buffered)).with_state(buffer));
        let listener = StreamListener::bind(ground.socket()).unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        let socket = &ground.socket();
        let (one, two) = tokio::join!(ask(socket, "POST", "/direct", "abc"), ask(socket, "POST", "/buffered", "123"));
        assert_eq!((one.as_str(), two.as_str()), ("cba", "321"));
    });
}
