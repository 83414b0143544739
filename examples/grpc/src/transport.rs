//! What carries gRPC: anything that reads and writes.

use std::error::Error;
use std::future::Future;
use std::io;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};

use crate::service::Worker;
use crate::work_server::WorkServer;

/// The largest message in either direction.
const MESSAGE_MAX: usize = 64 << 20;

/// Serves over whatever comes in until `stop` is ready, and the calls under way are answered.
///
/// # Errors
/// Those of tonic's server.
pub async fn serve<S>(
    incoming: impl Stream<Item = io::Result<S>>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let service = WorkServer::new(Worker).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX);
    Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stop).await
}

/// A channel over what `connect` connects; again whenever the old one is gone.
///
/// # Errors
/// What `connect` returns, inside of tonic's.
pub async fn channel<F, S, E>(
    connect: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Result<Channel, tonic::transport::Error>
where
    F: Future<Output = Result<S, E>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: Error + Send + Sync + 'static,
{
    let connector = tower::service_fn(move |_| {
        let connect = connect.clone();
        async move { connect().await.map(TokioIo::new) }
    });
    // The address is said to nobody: it only has to be one.
    Endpoint::from_static("http://wigwag.invalid").connect_with_connector(connector).await
}
