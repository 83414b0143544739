//! Messages of an importer's queue, handed to the local receiver. One is acknowledged to the importer once the receiver
//! has acknowledged it, and not before.
//!
//! A [`Stream`] is what is known of one import: it outlives links, so that a message that is put again on the next link
//! is not handed on twice. An importer that this process knows nothing of, because this process is new, puts again what
//! was not acknowledged, and that is marked as redelivered.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wigwag::tokio::Sender;
use wigwag::{Contract, ErrorKind};

use crate::export::calls::grant;
use crate::export::{Export, Link, lock};
use crate::fault::Fault;
use crate::seen::Seen;
use crate::status::{add, count};
use crate::wire::{AGAIN, Message, REDELIVERED};

/// Streams that are remembered; of more the one whose link ended first is forgotten.
const STREAMS_MAX: usize = 64;

/// The pause before the receiver is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// The streams of an export, by the numbers of their imports.
pub type Streams = Mutex<HashMap<u128, Arc<Stream>>>;

/// A rule of the protocol that a message breaks.
type Broken = &'static str;

/// What is known of one import's messages.
pub struct Stream {
    pub capacity: usize,
    contract: Contract,
    to_receiver: mpsc::Sender<Incoming>,
    state: Mutex<State>,
}

struct State {
    /// What the receiver has acknowledged.
    acknowledged: Seen,
    under_way: HashSet<u64>,
    /// The first message that came for the first time: whether those before it were there, nobody here knows.
    known_from: Option<u64>,
    /// Where acknowledgements go.
    link: Weak<Link>,
    used: Instant,
}

/// A message for the receiver.
struct Incoming {
    number: u64,
    payload: Vec<u8>,
    is_redelivered: bool,
}

impl Stream {
    /// The stream of an import, or a new one, if the local service is the same.
    pub async fn find_or_begin(
        export: &Arc<Export>,
        name: &str,
        contract: &Contract,
        id: u128,
        capacity: usize,
    ) -> Result<Arc<Stream>, Fault> {
        let known = lock(&export.streams).get(&id).cloned();
        if let Some(stream) = known.filter(|stream| stream.contract == *contract && !stream.to_receiver.is_closed()) {
            return Ok(stream);
        }
        let sender = wigwag::Sender::builder().contract(contract.clone()).capacity(capacity).linger(Duration::ZERO);
        let sender = sender.connect_async(name).await.map_err(|error| Fault::of(&error))?;
        let (to_receiver, incoming) = mpsc::channel(export.settings.calls);
        let state = State {
            acknowledged: Seen::default(),
            under_way: HashSet::new(),
            known_from: None,
            link: Weak::new(),
            used: Instant::now(),
        };
        let (contract, capacity) = (contract.clone(), sender.capacity());
        let stream = Arc::new(Stream { capacity, contract, to_receiver, state: Mutex::new(state) });
        tokio::spawn(hand_on(Arc::downgrade(export), Arc::downgrade(&stream), sender, incoming));
        let mut streams = lock(&export.streams);
        let is_unused = |stream: &Arc<Stream>| lock(&stream.state).link.upgrade().is_none_or(|link| link.is_over());
        while streams.len() >= STREAMS_MAX {
            let unused = streams.iter().filter(|(_, stream)| is_unused(stream));
            let Some(oldest) = unused.min_by_key(|(_, stream)| lock(&stream.state).used).map(|(id, _)| *id) else {
                let text = format!("{STREAMS_MAX} importers have links, which is the limit of a queue's export");
                return Err(Fault::new(ErrorKind::Full, text));
            };
            streams.remove(&oldest);
        }
        streams.insert(id, Arc::clone(&stream));
        Ok(stream)
    }

    /// The receiver has acknowledged these.
    fn acknowledge(&self, export: &Export, numbers: impl Iterator<Item = u64>) {
        let mut state = lock(&self.state);
        let link = state.link.upgrade();
        for number in numbers {
            state.under_way.remove(&number);
            state.acknowledged.admit(number);
            count(&export.counters.answered);
            if let Some(link) = &link {
                link.outlet.data(&Message::Ack { link: link.id, number });
            }
        }
    }
}

/// The messages of one link.
pub struct Messages {
    stream: Arc<Stream>,
    most: usize,
    capacity: usize,
    taking: Mutex<Option<Taking>>,
}

/// A message whose pieces come.
struct Taking {
    number: u64,
    flags: u64,
    len: usize,
    payload: Vec<u8>,
}

impl Messages {
    /// Of a stream.
    pub fn new(stream: Arc<Stream>, most: usize, capacity: usize) -> Messages {
        Messages { stream, most, capacity, taking: Mutex::default() }
    }

    /// From now on acknowledgements go to this link.
    pub fn answer_on(&self, link: &Arc<Link>) {
        let mut state = lock(&self.stream.state);
        (state.link, state.used) = (Arc::downgrade(link), Instant::now());
    }

    /// Messages that the receiver has not acknowledged.
    pub fn under_way(&self) -> usize {
        lock(&self.stream.state).under_way.len()
    }

    /// A message as a whole.
    pub fn whole(&self, link: &Arc<Link>, number: u64, flags: u64, payload: &[u8]) -> Result<(), Broken> {
        grant(link, payload.len().max(1));
        if lock(&self.taking).is_some() {
            return Err("a message before the one before has come to its end");
        }
        self.take(link, number, flags, payload.to_vec())
    }

    /// The beginning of one that comes in pieces.
    pub fn start(&self, link: &Arc<Link>, number: u64, flags: u64, len: usize, piece: &[u8]) -> Result<(), Broken> {
        grant(link, piece.len());
        let mut taking = lock(&self.taking);
        if piece.is_empty() || piece.len() > len || len > self.capacity || taking.is_some() {
            return Err("its first piece is not of its length, or it is out of place");
        }
        if piece.len() == len {
            drop(taking);
            return self.take(link, number, flags, piece.to_vec());
        }
        *taking = Some(Taking { number, flags, len, payload: piece.to_vec() });
        Ok(())
    }

    /// The next piece.
    pub fn part(&self, link: &Arc<Link>, number: u64, offset: usize, piece: &[u8]) -> Result<(), Broken> {
        grant(link, piece.len());
        let mut taking = lock(&self.taking);
        let Some(Taking { number: of, flags, len, payload }) = &mut *taking else {
            return Err("a piece of no message");
        };
        if *of != number || offset != payload.len() || piece.is_empty() || piece.len() > *len - offset {
            return Err("a piece does not continue the one before");
        }
        payload.extend_from_slice(piece);
        if payload.len() < *len {
            return Ok(());
        }
        let (flags, payload) = (*flags, std::mem::take(payload));
        *taking = None;
        drop(taking);
        self.take(link, number, flags, payload)
    }

    fn take(&self, link: &Arc<Link>, number: u64, flags: u64, payload: Vec<u8>) -> Result<(), Broken> {
        let Some(export) = link.export.upgrade() else { return Ok(()) };
        if number == 0 || payload.len() > self.capacity {
            return Err("its payload is larger than was agreed on, or it has no number");
        }
        let mut state = lock(&self.stream.state);
        let is_again = flags & AGAIN != 0;
        let known_from = *state.known_from.get_or_insert(if is_again { u64::MAX } else { number });
        if !is_again && known_from == u64::MAX {
            state.known_from = Some(number);
        }
        if state.acknowledged.contains(number) {
            count(&export.counters.duplicates);
            link.outlet.data(&Message::Ack { link: link.id, number }); // the first one was lost
            return Ok(());
        }
        if !state.under_way.insert(number) {
            count(&export.counters.duplicates);
            return Ok(()); // it will be acknowledged here
        }
        if state.under_way.len() > self.most {
            return Err("more messages than it has credits for");
        }
        add(&export.counters.bytes_in, payload.len());
        let is_redelivered = flags & REDELIVERED != 0 || is_again && number < known_from;
        self.stream
            .to_receiver
            .try_send(Incoming { number, payload, is_redelivered })
            .map_err(|_| "more messages than it has credits for, or the receiver's contract has changed")
    }
}

/// Hands messages to the receiver, in their order, and tells of those that it has acknowledged. It ends with its
/// stream, or when the service has become another one.
async fn hand_on(
    export: Weak<Export>,
    stream: Weak<Stream>,
    mut sender: Sender,
    mut incoming: mpsc::Receiver<Incoming>,
) {
    let mut open: Vec<u64> = Vec::new();
    loop {
        let failed = tokio::select! {
            message = incoming.recv() => {
                let (Some(message), Some(export)) = (message, export.upgrade()) else { return };
                let mut outcome = send(&mut sender, &message).await;
                // It stays here until there is a receiver: the importer waits with it.
                while let Err(error) = &outcome && !is_another_service(error) {
                    tokio::time::sleep(PAUSE).await;
                    outcome = send(&mut sender, &message).await;
                }
                if outcome.is_ok() {
                    count(&export.counters.sent);
                    open.push(message.number);
                }
                outcome.err()
            }
            flushed = sender.flush(), if !open.is_empty() => match flushed {
                Ok(()) => {
                    let (Some(export), Some(stream)) = (export.upgrade(), stream.upgrade()) else { return };
                    stream.acknowledge(&export, open.drain(..));
                    None
                }
                Err(error) => Some(error),
            },
        };
        match failed {
            None => {}
            // The importer learns with its next link what the service is now.
            Some(error) if is_another_service(&error) => {
                drop(incoming);
                let link = stream.upgrade().and_then(|stream| lock(&stream.state).link.upgrade());
                if let (Some(export), Some(link)) = (export.upgrade(), link) {
                    export.end(&link, &format!("the service is another one now: {error}"), false);
                }
                return;
            }
            Some(_) => tokio::time::sleep(PAUSE).await, // the receiver is gone: its successor is found by the next try
        }
    }
}

fn is_another_service(error: &wigwag::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ContractMismatch | ErrorKind::Violation | ErrorKind::CapacityExceeded { .. } | ErrorKind::Forked
    )
}

async fn send(sender: &mut Sender, message: &Incoming) -> wigwag::Result<()> {
    let mut loan = sender.loan(message.payload.len()).await?;
    loan.copy_from_slice(&message.payload);
    if message.is_redelivered {
        loan.mark_redelivered();
    }
    loan.commit()
}
