//! The client: hyper's, over one connection that is kept.

use std::path::Path;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use wigwag::tokio::Stream;

use crate::carrier::Carrier;

/// A connection to a server.
pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    /// Connects to who listens at a path.
    pub async fn connect(carrier: Carrier, path: &Path) -> anyhow::Result<Client> {
        match carrier {
            Carrier::Wigwag => Client::over(Stream::connect(path).await?).await,
            Carrier::Unix => Client::over(UnixStream::connect(path).await?).await,
        }
    }

    /// Over anything that carries bytes.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<Client> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How it ends is what the requests' errors say.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Client(sender))
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &mut self,
        method: Method,
        uri: &str,
        version: Version,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        self.0.ready().await.context("the connection is closed")?;
        let request = Request::builder().method(method).uri(uri).version(version).header("host", "localhost");
        Ok(self.0.send_request(request.body(Full::new(body))?).await?)
    }

    /// The whole body of a resource.
    pub async fn get(&mut self, uri: &str) -> anyhow::Result<Bytes> {
        whole(self.send(Method::GET, uri, Version::HTTP_11, Bytes::new()).await?).await
    }

    /// The whole body of the answer to a body.
    pub async fn post(&mut self, uri: &str, body: Bytes) -> anyhow::Result<Bytes> {
        whole(self.send(Method::POST, uri, Version::HTTP_11, body).await?).await
    }
}

/// The whole body of an answer that is a good one.
pub async fn whole(answer: Response<Incoming>) -> anyhow::Result<Bytes> {
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}
