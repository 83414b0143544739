//! Messages over a connection of bytes, whichever it is: a frame there, a frame back.

use std::io::{Read, Write};

use super::frame::Frame;
use super::{Rendezvous, Responder, Window};

/// The client's end of a connection.
pub struct FramedCaller<S> {
    stream: S,
    frame: Frame,
}

impl<S: Read + Write> FramedCaller<S> {
    /// Over a connection that was made in the rendezvous.
    pub fn over(stream: S, place: &Rendezvous) -> FramedCaller<S> {
        FramedCaller { stream, frame: Frame::new(place.capacity) }
    }
}

/// The frame holds one message of the full capacity, so a read never takes a part of the next reply with it where all
/// are of that size.
impl<S: Read + Write> Window for FramedCaller<S> {
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

/// Where connections come in.
pub trait Door {
    /// What comes in.
    type Stream: Read + Write + Send + 'static;

    /// The next client.
    fn accept(&self) -> anyhow::Result<Self::Stream>;
}

/// The server's end: a door, and room for a message.
pub struct FramedResponder<D> {
    door: D,
    frame: Frame,
}

impl<D: Door> FramedResponder<D> {
    /// Behind a door that was made in the rendezvous.
    pub fn behind(door: D, place: &Rendezvous) -> FramedResponder<D> {
        FramedResponder { door, frame: Frame::new(place.capacity) }
    }

    /// Answers many clients, a thread for each, as a plain server does; with one session it is
    /// [`serve`](Responder::serve).
    pub fn serve_each(self, sessions: usize, handler: fn(&mut [u8])) -> anyhow::Result<()> {
        if sessions == 1 {
            return self.serve(handler);
        }
        let FramedResponder { door, frame } = self;
        super::thread_for_each(|| door.accept(), move |mut stream| frame.another().answer_all(&mut stream, handler))
    }
}

impl<D: Door> Responder for FramedResponder<D> {
    fn serve<H>(self, handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]),
    {
        self.frame.answer_all(&mut self.door.accept()?, handler)
    }
}
