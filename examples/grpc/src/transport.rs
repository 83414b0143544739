//! What carries gRPC: anything that reads and writes.

use std::error::Error;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::{Stream, StreamExt};
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
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = WorkServer::new(Worker).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX);
    let connections = incoming.map(|stream| stream.map(Connection));
    Server::builder().add_service(service).serve_with_incoming_shutdown(connections, stop).await
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

/// A stream as tonic's server wants it.
struct Connection<S>(S);

impl<S> Connected for Connection<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
