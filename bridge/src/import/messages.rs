//! Messages of this machine's senders, for a queue elsewhere. Each is held, not acknowledged, until the far receiver
//! has acknowledged it; what a link leaves unacknowledged is put again on the next one, and says so.
//!
//! Nothing is held beyond the credits: what comes then stays in its sender, which waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use wigwag::Delivery;
use wigwag::tokio::Receiver;

use crate::export::lock;
use crate::import::Import;
use crate::import::link::Link;
use crate::outlet::pieces;
use crate::status::{add, count};
use crate::wire::{AGAIN, Message, REDELIVERED, WHOLE_MAX};

/// Numbers between the oldest message that is held and the newest: fewer than an exporter remembers.
const SPAN: u64 = 2048;

/// The messages of an import.
#[derive(Default)]
pub struct Messages {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    last: u64,
    held: BTreeMap<u64, Arc<Held>>,
}

/// A message that is not acknowledged. Dropped so, it is given back to its sender's queue.
struct Held {
    delivery: Mutex<Option<Delivery>>,
    is_acknowledged: AtomicBool,
    /// The link that it was put on last.
    link: Mutex<Option<u128>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let delivery = self.delivery.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match delivery {
            Some(delivery) if self.is_acknowledged.load(Ordering::Acquire) => delivery.ack(),
            Some(delivery) => delivery.nack(),
            None => {}
        }
    }
}

impl Messages {
    /// The far receiver has acknowledged it.
    pub fn acknowledge(&self, import: &Import, number: u64) {
        let held = lock(&self.state).held.remove(&number);
        match held {
            Some(held) => {
                held.is_acknowledged.store(true, Ordering::Release);
                count(&import.counters.answered);
                self.changed.notify_one();
            }
            None => count(&import.counters.late),
        }
    }

    /// Messages that were put on a link and are not acknowledged.
    pub fn under_way(&self, link: u128) -> usize {
        lock(&self.state).held.values().filter(|held| *lock(&held.link) == Some(link)).count()
    }

    /// The first that was not put on a link.
    fn next_for(&self, link: u128) -> Option<(u64, Arc<Held>)> {
        let state = lock(&self.state);
        let next = state.held.iter().find(|(_, held)| *lock(&held.link) != Some(link));
        next.map(|(number, held)| (*number, Arc::clone(held)))
    }

    fn has_room(&self, most: usize) -> bool {
        let state = lock(&self.state);
        let span = state.held.first_key_value().map_or(0, |(first, _)| state.last - first);
        state.held.len() < most && span < SPAN
    }

    fn hold(&self, delivery: Delivery) {
        let mut state = lock(&self.state);
        state.last += 1;
        let held = Held {
            delivery: Mutex::new(Some(delivery)),
            is_acknowledged: AtomicBool::new(false),
            link: Mutex::default(),
        };
        let number = state.last;
        state.held.insert(number, Arc::new(held));
    }

    fn is_empty(&self) -> bool {
        lock(&self.state).held.is_empty()
    }
}

/// Receives under the local name until it is shut down, and then until all is acknowledged.
pub async fn serve(import: Arc<Import>, mut receiver: Receiver) {
    let messages = &import.messages;
    let mut current = import.current.subscribe();
    let mut has_ended = false;
    // Whatever ends this, also an abort: what is held goes back.
    struct GivenBack<'a>(&'a Messages);
    impl Drop for GivenBack<'_> {
        fn drop(&mut self) {
            let held = std::mem::take(&mut lock(&self.0.state).held);
            drop(held);
        }
    }
    let _given_back = GivenBack(messages);
    loop {
        let link = current.borrow_and_update().clone();
        if let Some(link) = &link
            && messages.under_way(link.id) < link.most
            && let Some((number, held)) = messages.next_for(link.id)
            && put(&import, link, number, &held).await
        {
            continue;
        }
        if has_ended && messages.is_empty() {
            return;
        }
        let most = link.as_ref().map_or(0, |link| link.most);
        let may_take = !has_ended && messages.has_room(most);
        tokio::select! {
            changed = current.changed() => if changed.is_err() {
                return;
            },
            () = messages.changed.notified() => {}
            received = receiver.recv(), if may_take => match received {
                Ok(delivery) => messages.hold(delivery),
                Err(_) => has_ended = true,
            },
        }
    }
}

/// Puts a message on a link. `false`: the link is lost.
async fn put(import: &Import, link: &Link, number: u64, held: &Held) -> bool {
    let (payload, is_redelivered) = match &*lock(&held.delivery) {
        Some(delivery) => (delivery.to_vec(), delivery.is_redelivered()),
        None => return false,
    };
    let was_put = lock(&held.link).replace(link.id).is_some();
    let flags = if was_put { AGAIN } else { 0 } | if is_redelivered { REDELIVERED } else { 0 };
    let len = payload.len();
    count(&import.counters.sent);
    add(&import.counters.bytes_out, len);
    if len <= WHOLE_MAX {
        if !link.share.take(len.max(1)).await {
            return false;
        }
        // In the order of the pieces of others: a queue keeps the order of its senders.
        link.outlet.bulk(&Message::Whole { link: link.id, number, left_us: flags, payload: &payload });
        return true;
    }
    for at in pieces(len) {
        if !link.share.take(at.len()).await {
            return false;
        }
        let piece = &payload[at.clone()];
        link.outlet.bulk(&match at.start {
            0 => Message::Start { link: link.id, number, left_us: flags, len: len as u32, piece },
            _ => Message::Part { link: link.id, number, offset: at.start as u32, piece },
        });
    }
    true
}
