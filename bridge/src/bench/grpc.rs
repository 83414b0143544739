//! gRPC by tonic over TCP: one unary call of as many bytes, through the same link as everything else here.
//!
//! The payload is the message's bytes as they are, so that nothing is measured but the call: no protobuf, no `protoc`.
//! A current-thread runtime on each side, which is the quickest for one call at a time. The service is written by hand;
//! it is what tonic's generator writes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::bench::changed;

const METHOD: &str = "/wigwag.Bench/Change";

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The service and its one method.
#[derive(Clone)]
struct Change;

impl NamedService for Change {
    const NAME: &'static str = "wigwag.Bench";
}

impl Service<http::Request<Body>> for Change {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).unary(Change, request).await) })
    }
}

impl UnaryService<Bytes> for Change {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(changed(&request.into_inner()).into())) })
    }
}

/// What both sides run on.
fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Answers calls until the process is ended.
///
/// # Errors
/// tonic's; those of the system.
pub fn serve(address: SocketAddr) -> anyhow::Result<()> {
    Ok(runtime()?.block_on(Server::builder().add_service(Change).serve(address))?)
}

/// The side that calls.
pub struct Caller {
    runtime: Runtime,
    channel: Channel,
}

impl Caller {
    /// Connects, as soon as the server is there.
    ///
    /// # Errors
    /// tonic's, when the time is over.
    pub fn connect(address: SocketAddr, limit: Duration) -> anyhow::Result<Caller> {
        let runtime = runtime()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let connected = async {
            loop {
                if let Ok(channel) = endpoint.connect().await {
                    return channel;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // Within the runtime, whose clock it needs.
        let channel = runtime.block_on(async { tokio::time::timeout(limit, connected).await });
        Ok(Caller { runtime, channel: channel.context("no gRPC server listens")? })
    }

    /// One call.
    ///
    /// # Errors
    /// tonic's.
    pub fn call(&self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let request = Request::new(Bytes::copy_from_slice(request));
        let reply = self.runtime.block_on(async {
            grpc.ready().await?;
            let method = http::uri::PathAndQuery::from_static(METHOD);
            grpc.unary(request, method, Raw).await.map_err(anyhow::Error::from)
        })?;
        Ok(reply.into_inner().to_vec())
    }
}
