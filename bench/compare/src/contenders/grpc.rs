//! gRPC by tonic, over a Unix socket: one unary call.
//!
//! Best fair configuration: a current-thread runtime on each side, a protobuf message with one `bytes` field that is
//! decoded without a copy where tonic allows it, windows of 4 MiB so that no payload waits for flow control, no
//! compression, no timeout. The service is written by hand, so no `protoc` is needed; it is what the generator writes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Poll, Service, StdError, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Window;
use wigwag_bench::work;

use super::tokio_unix::runtime;
use crate::contender::{About, Contender};

const WINDOW: u32 = 4 << 20;
const METHOD: &str = "/wigwag.Compare/Change";

/// The contender.
pub struct Grpc;

/// The message, in both directions.
#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

/// The service and its one method.
#[derive(Clone)]
struct Change;

impl NamedService for Change {
    const NAME: &'static str = "wigwag.Compare";
}

impl<B> Service<http::Request<B>> for Change
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Payload, Payload>::default());
            Ok(grpc.unary(Change, request).await)
        })
    }
}

impl UnaryService<Payload> for Change {
    type Response = Payload;
    type Future = BoxFuture<Response<Payload>, Status>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        Box::pin(async move {
            let data = request.into_inner().data;
            let mut data = data.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            work::change(&mut data);
            Ok(Response::new(Payload { data: data.freeze() }))
        })
    }
}

/// The client's end.
pub struct Ends {
    runtime: Runtime,
    grpc: tonic::client::Grpc<Channel>,
    under_way: VecDeque<JoinHandle<Result<Response<Payload>, Status>>>,
}

impl Contender for Grpc {
    type Client = Ends;
    const ABOUT: About = About {
        waits: &[WaitMode::Park],
        alone: None,
        one_at_a_time: None,
        ..About::new(
            "grpc",
            "gRPC (tonic 0.14), Unix socket",
            "one unary call with one bytes field, current-thread runtimes, windows of 4 MiB, no compression",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        runtime()?.block_on(async {
            let listener = UnixListener::bind(orders.directory.join("grpc"))?;
            role::ready(orders)?;
            let server = Server::builder().initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
            let server = server.max_frame_size(1 << 20).add_service(Change);
            server.serve_with_incoming(UnixListenerStream::new(listener)).await.context("the server ended")
        })
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        let (runtime, path) = (runtime()?, orders.directory.join("grpc"));
        let channel = runtime.block_on(channel(path))?;
        Ok(Ends { runtime, grpc: tonic::client::Grpc::new(channel), under_way: VecDeque::new() })
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run_or_pipeline(orders, || Self::connect(orders))
    }
}

async fn channel(path: PathBuf) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_static("http://localhost");
    let endpoint = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.context("no server listens on the socket")
}

impl Ends {
    fn request<F>(len: usize, fill: F) -> Request<Payload>
    where
        F: FnOnce(&mut [u8]),
    {
        let mut data = vec![0; len];
        fill(&mut data);
        Request::new(Payload { data: Bytes::from(data) })
    }
}

async fn call(mut grpc: tonic::client::Grpc<Channel>, request: Request<Payload>) -> Result<Response<Payload>, Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Payload, Payload>::default();
    grpc.unary(request, http::uri::PathAndQuery::from_static(METHOD), codec).await
}

impl Window for Ends {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        let request = Ends::request(len, fill);
        self.under_way.push_back(self.runtime.spawn(call(self.grpc.clone(), request)));
        Ok(())
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        let oldest = self.under_way.pop_front().context("nothing is under way")?;
        let reply = self.runtime.block_on(oldest)??;
        read(&reply.into_inner().data);
        Ok(())
    }

    fn exchange_alone<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let request = Ends::request(len, fill);
        let reply = self.runtime.block_on(call(self.grpc.clone(), request))?;
        read(&reply.into_inner().data);
        Ok(())
    }
}
