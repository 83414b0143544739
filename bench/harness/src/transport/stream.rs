//! Wigwag's stream in the place of a socket: the same frames, the same calls.

use anyhow::Context as _;
use wigwag::{Stream, StreamListener};

use super::Rendezvous;
use super::framed::{Door, FramedCaller, FramedResponder};

/// An explicit path needs no runtime directory and cannot meet another program's name.
const SOCKET: &str = "wigwag-stream.sock";

/// A stream to the listener in the rendezvous directory.
pub fn stream_connect(place: &Rendezvous) -> anyhow::Result<Stream> {
    Ok(Stream::builder().wait(place.wait).connect(place.path(SOCKET))?)
}

/// Listens in the rendezvous.
pub fn stream_bind(place: &Rendezvous) -> anyhow::Result<StreamListener> {
    Ok(StreamListener::builder().wait(place.wait).bind(place.path(SOCKET))?)
}

/// The client's end of the stream.
pub type StreamCaller = FramedCaller<Stream>;

impl StreamCaller {
    /// Connects in the rendezvous.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<StreamCaller> {
        Ok(StreamCaller::over(stream_connect(place)?, place))
    }
}

impl Door for StreamListener {
    type Stream = Stream;

    fn accept(&self) -> anyhow::Result<Stream> {
        StreamListener::accept(self).context("no client could be accepted")
    }
}

/// The server's end of the stream.
pub type StreamResponder = FramedResponder<StreamListener>;

impl StreamResponder {
    /// Listens in the rendezvous.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<StreamResponder> {
        Ok(StreamResponder::behind(stream_bind(place)?, place))
    }
}
