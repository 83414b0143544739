//! Messages of a publisher of this machine, for one importer.
//!
//! The publisher waits for nobody here: this reads as fast as it can, and what the link is too slow for it lets go of,
//! the oldest first. Nothing is told of that but by the numbers: the importer sees which ones are missing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use wigwag::tokio::Subscriber;
use wigwag::{Contract, ErrorKind, Start};

use crate::bundle::Bundle;
use crate::export::{Link, Work, lock};
use crate::fault::Fault;
use crate::status::add;
use crate::wire::{Message, PIECE_MAX, WHOLE_MAX};

/// Bytes that wait for a link at most; one message may be larger.
const BACKLOG_MAX: usize = 4 << 20;

/// What a message costs beyond its bytes.
const OVERHEAD: usize = 64;

/// What a link carries of a publisher.
pub struct Broadcast {
    /// Until it is carried.
    subscriber: Mutex<Option<Subscriber>>,
    phase: watch::Sender<Phase>,
    waiting: AtomicUsize,
    /// Which publisher it is.
    pub epoch: u64,
    /// The number of the first message that may come.
    pub first: u64,
    /// Messages that the publisher keeps.
    pub history: usize,
    /// Bytes of the longest message that is carried.
    pub capacity: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The importer is not known to be ready.
    Greeting,
    Carrying,
    Over,
}

impl Broadcast {
    /// Subscribes, from the oldest message that is kept.
    pub async fn subscribe(name: &str, contract: &Contract, capacity: usize) -> Result<Broadcast, Fault> {
        let builder = wigwag::Subscriber::builder().contract(contract.clone()).start(Start::Oldest);
        let name = name.to_owned();
        let connected = tokio::task::spawn_blocking(move || builder.connect(name)).await;
        let not_running = |error: &dyn std::fmt::Display| Fault::new(ErrorKind::NotRunning, error.to_string());
        let subscriber = connected.map_err(|error| not_running(&error))?.map_err(|error| Fault::of(&error))?;
        let (epoch, first, history) = (subscriber.epoch(), subscriber.next_number(), subscriber.history());
        let capacity = subscriber.capacity().min(capacity);
        let subscriber = Subscriber::from_blocking(subscriber).map_err(|error| not_running(&error))?;
        Ok(Broadcast {
            subscriber: Mutex::new(Some(subscriber)),
            phase: watch::channel(Phase::Greeting).0,
            waiting: AtomicUsize::new(0),
            epoch,
            first,
            history,
            capacity,
        })
    }

    /// Reads from now on, and sends once the importer is ready.
    pub fn carry(&self, link: &Arc<Link>) {
        if let Some(subscriber) = lock(&self.subscriber).take() {
            tokio::spawn(carry(Arc::clone(link), subscriber, self.phase.subscribe()));
        }
    }

    /// The importer gave a sign of life: it has its publisher.
    pub fn begin(&self) {
        self.phase.send_if_modified(|phase| {
            let is_due = *phase == Phase::Greeting;
            if is_due {
                *phase = Phase::Carrying;
            }
            is_due
        });
    }

    /// The link is over.
    pub fn end(&self) {
        self.phase.send_replace(Phase::Over);
    }

    /// Messages that wait for the link.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// What waits for a link.
#[derive(Default)]
struct Backlog {
    messages: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// Bytes of the first one that were put: it is not let go of any more.
    put: usize,
}

impl Backlog {
    /// Takes a message in, and lets go of the oldest ones that it has no room for. How many.
    fn push(&mut self, number: u64, message: &[u8]) -> usize {
        let first = usize::from(self.put > 0);
        let mut let_go = 0;
        while self.bytes + message.len() + OVERHEAD > BACKLOG_MAX && self.messages.len() > first {
            if let Some((_, message)) = self.messages.remove(first) {
                self.bytes -= message.len() + OVERHEAD;
            }
            let_go += 1;
        }
        self.bytes += message.len() + OVERHEAD;
        self.messages.push_back((number, message.to_vec()));
        let_go
    }

    fn pop(&mut self) {
        if let Some((_, message)) = self.messages.pop_front() {
            self.bytes -= message.len() + OVERHEAD;
        }
        self.put = 0;
    }

    /// The next piece of a large message, or as many small ones as go together; and how many messages are done by that.
    fn next(&mut self, link: u128) -> Option<(Vec<u8>, usize)> {
        let (number, message) = self.messages.front()?;
        if message.len() > WHOLE_MAX {
            let (begin, end) = (self.put, (self.put + PIECE_MAX).min(message.len()));
            let piece = &message[begin..end];
            let bytes = match begin {
                0 => Message::Start { link, number: *number, left_us: 0, len: message.len() as u32, piece },
                _ => Message::Part { link, number: *number, offset: begin as u32, piece },
            }
            .encode();
            let is_done = end == message.len();
            self.put = end;
            if is_done {
                self.pop();
            }
            return Some((bytes, usize::from(is_done)));
        }
        let (mut bundle, mut done) = (Bundle::default(), 0);
        while let Some((number, message)) = self.messages.front()
            && message.len() <= WHOLE_MAX
            && bundle.add(*number, message)
        {
            self.pop();
            done += 1;
        }
        Some((Message::Several { link, messages: bundle.bytes() }.encode(), done))
    }
}

/// Reads until the publisher or the link is over.
async fn carry(link: Arc<Link>, mut subscriber: Subscriber, mut phase: watch::Receiver<Phase>) {
    let (Work::Broadcast(broadcast), Some(export)) = (&link.work, link.export.upgrade()) else { return };
    let mut backlog = Backlog::default();
    let mut last = broadcast.first - 1;
    let mut how_it_ended = None;
    loop {
        let now = *phase.borrow_and_update();
        if now == Phase::Over {
            return;
        }
        if let Some(is_in_order) = how_it_ended
            && now == Phase::Carrying
            && backlog.messages.is_empty()
        {
            // Behind the messages, so in their priority; the importer ends the link once it has come to this.
            link.outlet.bulk(&Message::Ended { link: link.id, number: last, is_in_order });
            return;
        }
        tokio::select! {
            received = subscriber.recv(), if how_it_ended.is_none() => match received {
                Ok(message) => {
                    last = message.sequence();
                    let is_carried = message.len() <= broadcast.capacity;
                    let let_go = if is_carried { backlog.push(last, &message) } else { 1 };
                    add(&export.counters.lost, let_go + message.lost_before() as usize);
                }
                Err(error) => how_it_ended = Some(error.kind() == ErrorKind::Ended),
            },
            has_room = link.share.take(PIECE_MAX), if now == Phase::Carrying && !backlog.messages.is_empty() => {
                let Some((bytes, done)) = backlog.next(link.id).filter(|_| has_room) else { return };
                add(&export.counters.sent, done);
                add(&export.counters.bytes_out, bytes.len());
                link.outlet.bulk_bytes(bytes);
            }
            changed = phase.changed() => if changed.is_err() {
                return;
            },
        }
        broadcast.waiting.store(backlog.messages.len(), Ordering::Relaxed);
    }
}
