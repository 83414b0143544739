//! How the tasks of one end of a stream are woken.
//!
//! The bell is in the reactor by itself, so a ring is one event and nothing has to be taken in; what tells of the other end's
//! death is there, too. The waker that the reactor has is no task's: it is the stream's *ear*, which wakes the reader, the
//! writer, or both.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::io::unix::AsyncFd;

use super::waiting::poll_ring;
use crate::error::Result;
use crate::link::Link;
use crate::sys::reactor::watch;

/// What both halves wait with.
pub struct Watch {
    link: Arc<Link>,
    /// Rung by the other end. `None` if it is of another user and sends messages instead.
    bell: Option<AsyncFd<OwnedFd>>,
    /// The socket and the other end's process.
    life: AsyncFd<OwnedFd>,
    ear: Waker,
    /// The task that reads.
    pub reader: AtomicWaker,
    /// The task that writes.
    pub writer: AtomicWaker,
}

/// What the reactor wakes. It does not keep the stream alive.
struct Ear(Weak<Watch>);

impl Wake for Ear {
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
    pub fn new(link: &Arc<Link>) -> Result<Arc<Watch>> {
        let (bell, life) = link.descriptors()?;
        let (bell, life) = (bell.map(watch).transpose()?, watch(life)?);
        let watch = Arc::new_cyclic(|watch| Watch {
            link: Arc::clone(link),
            bell,
            life,
            ear: Waker::from(Arc::new(Ear(Weak::clone(watch)))),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        });
        watch.listen();
        Ok(watch)
    }

    /// Passes on what rang; from now on the ear hears the next ring.
    fn listen(&self) {
        let mut context = Context::from_waker(&self.ear);
        loop {
            let rang = self.bell.as_ref().map_or(Poll::Pending, |bell| poll_ring(bell, &mut context));
            let life = poll_ring(&self.life, &mut context);
            let is_gone = matches!(&rang, Poll::Ready(Err(_))) || matches!(&life, Poll::Ready(Err(_)));
            if is_gone {
                self.link.end_with_runtime();
            } else if life.is_ready() {
                self.link.take_news();
            } else if rang.is_pending() {
                return;
            }
            // Who rang has set the word of the direction back. The other direction's task sleeps on.
            let has_news = life.is_ready() || self.link.is_over();
            if has_news || !self.link.is_waiting_for_data() {
                self.reader.wake();
            }
            if has_news || !self.link.is_waiting_for_room() {
                self.writer.wake();
            }
            if is_gone {
                return;
            }
        }
    }
}
