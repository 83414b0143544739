//! Wigwag's stream in the place of a socket: the same frames, the same calls.

use anyhow::Context as _;
use wigwag::{Stream, StreamListener};

use super::frame::Frame;
use super::{Rendezvous, Responder, Window};

/// An explicit path needs no runtime directory and cannot meet another program's name.
const SOCKET: &str = "wigwag-stream.sock";

/// A stream to whoever listens in the rendezvous.
pub fn stream_connect(place: &Rendezvous) -> anyhow::Result<Stream> {
    Ok(Stream::builder().wait(place.wait).connect(place.path(SOCKET))?)
}

/// Listens in the rendezvous.
pub fn stream_bind(place: &Rendezvous) -> anyhow::Result<StreamListener> {
    Ok(StreamListener::builder().wait(place.wait).bind(place.path(SOCKET))?)
}

/// The client's end of the stream.
pub struct StreamCaller {
    stream: Stream,
    frame: Frame,
}

impl StreamCaller {
    /// Connects in the rendezvous.
    pub fn connect(place: &Rendezvous) -> anyhow::Result<StreamCaller> {
        Ok(StreamCaller { stream: stream_connect(place)?, frame: Frame::new(place.capacity) })
    }
}

/// The frame holds one message of the full capacity, so a read never takes a part of the next reply with it where all
/// are of that size.
impl Window for StreamCaller {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        fill(self.frame.payload(len)?);
        self.frame.send(len, &mut self.stream)
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        read(self.frame.receive_reply(&mut self.stream)?);
        Ok(())
    }
}

/// The server's end of the stream.
pub struct StreamResponder {
    listener: StreamListener,
    frame: Frame,
}

impl StreamResponder {
    /// Listens in the rendezvous.
    pub fn bind(place: &Rendezvous) -> anyhow::Result<StreamResponder> {
        Ok(StreamResponder { listener: stream_bind(place)?, frame: Frame::new(place.capacity) })
    }

    /// Answers many clients, a thread for each, as a plain server does; with one session it is
    /// [`serve`](Responder::serve).
    pub fn serve_each(self, sessions: usize, handler: fn(&mut [u8])) -> anyhow::Result<()> {
        if sessions == 1 {
            return self.serve(handler);
        }
        let StreamResponder { listener, frame } = self;
        super::thread_for_each(
            || listener.accept().context("no client could be accepted"),
            move |mut stream| frame.another().answer_all(&mut stream, handler),
        )
    }
}

impl Responder for StreamResponder {
    fn serve<H>(self, handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        let mut stream = self.listener.accept().context("no client could be accepted")?;
        self.frame.answer_all(&mut stream, handler)
    }
}
