//! The listener as axum knows it: a router is served over streams as over TCP.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};

use crate::session::peer::Peer;
use crate::stream::tokio::listener::StreamListener;
use crate::stream::tokio::stream::Stream;

/// How long to wait after an error of the system, such as no descriptor left, which may pass.
const PAUSE: Duration = Duration::from_secs(1);

/// The other end of a stream that axum serves: what the extractor `ConnectInfo<StreamAddress>` gives to a handler.
///
/// ```
/// use axum::extract::connect_info::ConnectInfo;
/// use wigwag::tokio::StreamAddress;
///
/// async fn who(ConnectInfo(client): ConnectInfo<StreamAddress>) -> String {
///     format!("user {}", client.peer.map_or(0, |peer| peer.uid))
/// }
/// let router = axum::Router::new().route("/", axum::routing::get(who));
/// let service = router.into_make_service_with_connect_info::<StreamAddress>();
/// # drop::<axum::extract::connect_info::IntoMakeServiceWithConnectInfo<axum::Router, StreamAddress>>(service);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamAddress {
    /// Where the listener's socket is.
    pub path: PathBuf,
    /// Who has the other end; `None` in the address of the listener itself.
    pub peer: Option<Peer>,
}

impl StreamAddress {
    fn of(path: &Path, peer: Option<Peer>) -> StreamAddress {
        StreamAddress { path: path.to_owned(), peer }
    }
}

/// `axum::serve(listener, router)` serves until it is told to stop; its `with_graceful_shutdown` is how. A listener
/// that is [shut down](StreamListener::shutdown_handle) by itself accepts nobody any more: axum has no way to be told,
/// and goes on to wait. So shut down by axum, or by both.
impl Listener for StreamListener {
    type Io = Stream;
    type Addr = StreamAddress;

    /// Waits out errors of the system, as axum asks of a listener, and says them in an event of `tracing`.
    async fn accept(&mut self) -> (Stream, StreamAddress) {
        loop {
            match StreamListener::accept(self).await {
                Ok(stream) => {
                    let address = StreamAddress::of(self.path(), Some(stream.peer()));
                    return (stream, address);
                }
                Err(error) if error.kind() == io::ErrorKind::NotConnected => std::future::pending().await,
                Err(error) => {
                    tracing::error!(%error, "a stream was not accepted; the next try is in a second");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<StreamAddress> {
        Ok(StreamAddress::of(self.path(), None))
    }
}

impl Connected<IncomingStream<'_, StreamListener>> for StreamAddress {
    fn connect_info(stream: IncomingStream<'_, StreamListener>) -> StreamAddress {
        stream.remote_addr().clone()
    }
}
