//! The server: a few resources, and hyper.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use wigwag::tokio::StreamListener;

use crate::carrier::{Carrier, Listener};

/// Bytes of a chunk.
pub const CHUNK: usize = 1000;
/// The most bytes that a resource has.
const MOST: usize = 64 << 20;

/// Serves at a path until the process is ended. `ready` is called once clients may connect.
pub async fn listen(carrier: Carrier, path: &Path, ready: impl FnOnce()) -> io::Result<()> {
    match carrier {
        Carrier::Wigwag => serve(StreamListener::bind(path)?, ready).await,
        Carrier::Unix => serve(UnixListener::bind(path)?, ready).await,
    }
}

/// Serves everybody who comes to a listener.
pub async fn serve(listener: impl Listener, ready: impl FnOnce()) -> io::Result<()> {
    ready();
    loop {
        let stream = listener.next().await?;
        tokio::spawn(async move {
            // An error is a client that went away: there is nobody to tell.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Says hello, gives a request's body back, and makes bodies of any length, with and without saying so beforehand.
async fn answer(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let path = request.uri().path().to_owned();
    let (resource, number) = path.rsplit_once('/').unwrap_or_default();
    Ok(match (request.method(), resource, number.parse::<usize>()) {
        (&Method::GET, "", _) if number.is_empty() => whole("Hello, world.".into()),
        (&Method::POST, "", _) if number == "echo" => whole(request.into_body().collect().await?.to_bytes()),
        (&Method::GET, "/bytes", Ok(len @ ..=MOST)) => whole(pattern(len).into()),
        (&Method::GET, "/chunks", Ok(count @ ..=MOST)) => chunks(count, Duration::ZERO),
        (&Method::GET, "/slowly", Ok(count @ ..=MOST)) => chunks(count, Duration::from_millis(2)),
        _ => {
            let mut answer = whole("There is no such thing here.".into());
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
        }
    })
}

fn whole(bytes: Bytes) -> Answer {
    Response::new(Full::new(bytes).boxed_unsync())
}

/// A body whose length is not said: it is sent in chunks.
fn chunks(count: usize, pause: Duration) -> Answer {
    let chunks = stream::unfold(0, move |index| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let chunk = || Frame::data(pattern(CHUNK).into());
        (index < count).then(|| (Ok(chunk()), index + 1))
    });
    Response::new(StreamBody::new(chunks).boxed_unsync())
}

/// Bytes that are not all alike.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}
