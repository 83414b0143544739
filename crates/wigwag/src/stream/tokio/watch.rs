//! How the tasks of one end of a stream are woken.
//!
//! The bell is in the reactor by itself, so a ring is one event and nothing has to be taken in; what tells of the other
//! end's death is there, too. The waker that the reactor has is no task's: it is the stream's `ReactorWaker`, which
//! wakes the reader, the writer, or both.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crate::error::Result;
use crate::stream::endpoint::Endpoint;
use crate::sys::async_fd::{Watched, watch};
use crate::wait::readiness::poll_ring;
use futures_util::task::AtomicWaker;

/// What both halves wait with.
pub struct Watch {
    endpoint: Arc<Endpoint>,
    /// Rung by the other end. `None` if it is of another user and sends messages instead.
    bell: Option<Watched<OwnedFd>>,
    /// The socket and the other end's process.
    life: Watched<OwnedFd>,
    reactor_waker: Waker,
    /// The task that reads.
    pub reader: AtomicWaker,
    /// The task that writes.
    pub writer: AtomicWaker,
}

/// What the reactor wakes. It does not keep the stream alive.
struct ReactorWaker(Weak<Watch>);

impl Wake for ReactorWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(watch) = self.0.upgrade() {
            watch.listen();
        }
    }
}

impl Watch {
    /// Gives a stream to the reactor.
    pub fn new(endpoint: &Arc<Endpoint>) -> Result<Arc<Watch>> {
        let (bell, life) = endpoint.descriptors()?;
        let (bell, life) = (bell.map(watch).transpose()?, watch(life)?);
        let watch = Arc::new_cyclic(|watch| Watch {
            endpoint: Arc::clone(endpoint),
            bell,
            life,
            reactor_waker: Waker::from(Arc::new(ReactorWaker(Weak::clone(watch)))),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        });
        watch.listen();
        Ok(watch)
    }

    /// Passes on what rang; from now on the reactor wakes for the next ring.
    fn listen(&self) {
        if self.endpoint.is_forked() {
            return; // the runtime that ends in a child is none of the parent's
        }
        let mut context = Context::from_waker(&self.reactor_waker);
        loop {
            let rang = self.bell.as_ref().map_or(Poll::Pending, |bell| poll_ring(bell, &mut context));
            let life = poll_ring(&self.life, &mut context);
            let is_gone = matches!(&rang, Poll::Ready(Err(_))) || matches!(&life, Poll::Ready(Err(_)));
            if is_gone {
                self.endpoint.end_with_runtime();
            } else if life.is_ready() {
                self.endpoint.take_events();
            } else if rang.is_pending() {
                return;
            }
            // The peer has cleared the word of the direction that it rang for. The other direction's task sleeps on.
            let has_events = life.is_ready() || self.endpoint.is_over();
            if has_events || !self.endpoint.is_waiting_for_data() {
                self.reader.wake();
            }
            if has_events || !self.endpoint.is_waiting_for_room() {
                self.writer.wake();
            }
            if is_gone {
                return;
            }
        }
    }
}
