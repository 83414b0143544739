//! Messages of a publisher elsewhere, published again under the local name with the numbers that they have there.
//!
//! The local publisher is one publisher elsewhere: it stays when the link is lost, and what is missing when the next
//! link brings messages of the same one is told with the first of them. If the far one has ended in order, so does the
//! local one. If the far one is gone without a farewell, the local one says nothing until its successor is there, whose
//! messages have another local publisher.

use std::sync::{Arc, Mutex};

use wigwag::{Contract, ErrorKind, Publisher};

use crate::bundle;
use crate::export::lock;
use crate::import::Import;
use crate::import::link::Link;
use crate::status::{add, count};
use crate::wire::{Message, Offer, PIECE_MAX};

/// The most that a pool of messages takes; of large ones fewer are kept.
const POOL_MAX: usize = 1 << 30;

/// Messages that subscribers may hold in place, of a publisher that keeps as many.
const HOLDS_MAX: usize = 64;

/// A rule of the protocol that a message breaks.
type Broken = &'static str;

/// The local publisher.
#[derive(Default)]
pub struct Broadcast {
    state: Mutex<Option<State>>,
}

struct State {
    publisher: Publisher,
    /// What it is made for.
    contract: Contract,
    offer: Offer,
    capacity: usize,
    /// The link whose messages it publishes.
    link: u128,
    /// The number of its next message.
    next: u64,
    taking: Option<Taking>,
    /// Another publisher has taken the local name.
    is_over: bool,
}

/// A message whose pieces come.
struct Taking {
    number: u64,
    len: usize,
    taken: usize,
    /// Empty if it is longer than what is taken here.
    payload: Vec<u8>,
}

impl Broadcast {
    /// From now on what a link brings is published: by the publisher that is there, if it is of the same one elsewhere.
    ///
    /// # Errors
    /// The library's, of a name that cannot be had.
    pub fn open(
        &self,
        name: &str,
        contract: &Contract,
        offer: &Offer,
        capacity: usize,
        link: u128,
    ) -> wigwag::Result<()> {
        let mut state = lock(&self.state);
        if let Some(state) = &mut *state
            && state.contract == *contract
            && state.capacity == capacity
            && (state.offer.epoch, state.offer.history) == (offer.epoch, offer.history)
            && state.publisher.skip(0).is_ok()
        {
            (state.link, state.taking) = (link, None);
            return Ok(());
        }
        *state = None; // the name is free for another one
        let mut history = (offer.history as usize).max(1);
        let publisher = loop {
            let builder = Publisher::builder().contract(contract.clone()).first_number(offer.first.max(1));
            let builder = builder.history(history).capacity(capacity).max_holds(history.min(HOLDS_MAX));
            match builder.max_bytes_total(POOL_MAX).bind(name) {
                Err(error) if error.kind() == ErrorKind::InvalidConfiguration && history > 1 => history /= 2,
                outcome => break outcome?,
            }
        };
        let (contract, offer, next) = (contract.clone(), offer.clone(), offer.first.max(1));
        *state = Some(State { publisher, contract, offer, capacity, link, next, taking: None, is_over: false });
        Ok(())
    }

    /// Ends it: subscribers read what is there, and are told.
    pub fn close(&self) {
        let state = lock(&self.state).take();
        drop(state);
    }

    /// Small messages.
    pub fn several(&self, link: &Arc<Link>, messages: &[u8]) -> Result<(), Broken> {
        self.with(link, |import, state| {
            let mut rest = messages;
            while !rest.is_empty() {
                let (number, message, behind) = bundle::split(rest).ok_or("a bundle of messages is cut off")?;
                state.publish(import, number, message)?;
                rest = behind;
            }
            Ok(())
        })
    }

    /// The beginning of a large one.
    pub fn start(&self, link: &Arc<Link>, number: u64, len: usize, piece: &[u8]) -> Result<(), Broken> {
        self.with(link, |import, state| {
            if state.taking.is_some() || piece.is_empty() || piece.len() > len || len > state.offer.capacity as usize {
                return Err("the first piece of a message is not of its length, or is out of place");
            }
            // One that does not fit here is passed over, and counts as lost.
            let payload = if len <= state.capacity { Vec::with_capacity(len) } else { Vec::new() };
            state.taking = Some(Taking { number, len, taken: 0, payload });
            state.take(import, number, 0, piece)
        })
    }

    /// The next piece.
    pub fn part(&self, link: &Arc<Link>, number: u64, offset: usize, piece: &[u8]) -> Result<(), Broken> {
        self.with(link, |import, state| state.take(import, number, offset, piece))
    }

    /// The far publisher is over, and `number` was its last message.
    pub fn ended(&self, link: &Arc<Link>, number: u64, is_in_order: bool) -> Result<(), Broken> {
        self.with(link, |import, state| state.pass_over(import, number.saturating_add(1)))?;
        if is_in_order && let Some(import) = link.import() {
            let mut state = lock(&self.state);
            let ended = state.take_if(|state| state.link == link.id);
            drop(state);
            // To give a name up may take a moment, and this is a thread of zenoh's.
            import.engine.runtime.spawn_blocking(move || drop(ended));
        }
        Ok(())
    }

    /// Does something with what a link brought, and makes room for more. What comes of an earlier link is left.
    fn with(
        &self,
        link: &Arc<Link>,
        work: impl FnOnce(&Import, &mut State) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        link.outlet.control(&Message::Grant { link: link.id, bytes: PIECE_MAX as u32 });
        let Some(import) = link.import() else { return Ok(()) };
        let mut state = lock(&self.state);
        let Some(of_link) = state.as_mut().filter(|state| state.link == link.id) else { return Ok(()) };
        let outcome = work(&import, of_link);
        let is_over = of_link.is_over;
        drop(state);
        if is_over {
            link.leave("another publisher has taken the local name");
        }
        outcome
    }
}

impl State {
    fn take(&mut self, import: &Import, number: u64, offset: usize, piece: &[u8]) -> Result<(), Broken> {
        let Some(taking) = &mut self.taking else { return Err("a piece of no message") };
        let is_next = taking.number == number && taking.taken == offset;
        if !is_next || piece.is_empty() || piece.len() > taking.len - offset {
            return Err("a piece of a message does not continue the one before");
        }
        taking.taken += piece.len();
        if taking.len <= self.capacity {
            taking.payload.extend_from_slice(piece);
        }
        match self.taking.take_if(|taking| taking.taken == taking.len) {
            Some(Taking { len, payload, .. }) if len <= self.capacity => self.publish(import, number, &payload),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, import: &Import, number: u64, message: &[u8]) -> Result<(), Broken> {
        if number < self.next {
            count(&import.counters.duplicates);
            return Ok(());
        }
        if message.len() > self.capacity {
            return Ok(()); // the next one tells that it is lost
        }
        self.pass_over(import, number)?;
        match self.publisher.send(message) {
            Ok(_) => count(&import.counters.published),
            Err(_) => self.is_over = true,
        }
        add(&import.counters.bytes_in, message.len());
        self.next = number + 1;
        Ok(())
    }

    /// Messages before this number were lost, if they were not published.
    fn pass_over(&mut self, import: &Import, number: u64) -> Result<(), Broken> {
        let missing = number.saturating_sub(self.next);
        if missing > 0 {
            match self.publisher.skip(missing) {
                Err(error) if error.kind() == ErrorKind::InvalidConfiguration => {
                    return Err("a number that no publisher comes to");
                }
                _ => add(&import.counters.lost, missing as usize),
            }
            self.next = number;
        }
        Ok(())
    }
}
