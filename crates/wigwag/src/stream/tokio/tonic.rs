//! The stream as tonic knows it: a gRPC server takes a listener's streams as they come.

use tonic::transport::server::Connected;

use crate::session::peer::Peer;
use crate::stream::tokio::stream::Stream;

/// A handler finds the other end in the extensions of its request, as a [`Peer`].
impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer()
    }
}
