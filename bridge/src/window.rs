//! How much of large payloads and of queues may be under way to one far bridge.
//!
//! A put waits while zenoh's queue is full, with the thread that it is made on, and after five seconds zenoh closes the
//! transport. The window is smaller than that queue, so a put never waits there: who has more to send waits here, for
//! what the far bridge has taken. Small calls do not wait here, as their number is limited, but only a few of them
//! have a batch each.
//!
//! The queue is counted in batches of 64 KiB. Small messages share one, but a message that does not fit into what is
//! left of a batch closes it. So a message has its [`cost`]: in whatever order large and small ones come, they cost
//! [`PIECE_MAX`] for each batch that they close.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::{PIECE_MAX, WHOLE_MAX};

/// More than twice what goes before a payload: the message's head, zenoh's, and a key.
const OVERHEAD: usize = 512;

/// What a message of so many bytes costs.
///
/// A large one has a batch, also where it is the short end of a payload. Small ones that fill a batch to the last of
/// them cost twice its bytes. They may be a quarter of one that a large message closes, but then they came behind a
/// batch that was full, or else they would be in it: the two together cost more than two batches.
pub fn cost(bytes: usize) -> usize {
    match bytes {
        0..=WHOLE_MAX => 2 * bytes + OVERHEAD,
        _ => PIECE_MAX,
    }
}

/// Small calls of one far bridge that have a batch of zenoh's queue each, so that zenoh waits for nothing that may come
/// to share it. Further ones share their batches.
const ALONE: usize = 8;

/// The room to one far bridge, which all links to it share.
#[derive(Debug)]
pub struct Window {
    room: Semaphore,
    /// A permit for each request that has a batch of its own and is not answered.
    alone: Arc<Semaphore>,
    /// Calls of the far bridge that are not answered.
    unanswered: AtomicUsize,
}

/// A call of a far bridge, until it is answered.
#[derive(Debug)]
pub struct Unanswered(Arc<Window>);

impl Unanswered {
    /// Whether its answer may have a batch of its own: the last few may, whatever became of those before.
    pub fn is_alone(&self) -> bool {
        self.0.unanswered.load(Ordering::Relaxed) <= ALONE
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The windows of all far bridges.
#[derive(Debug)]
pub struct Windows {
    size: usize,
    of: Mutex<HashMap<u128, Weak<Window>>>,
}

impl Windows {
    /// With so many bytes for each far bridge.
    pub fn new(size: usize) -> Windows {
        Windows { size, of: Mutex::default() }
    }

    /// A link's share in the window of a far bridge.
    pub fn share(&self, bridge: u128) -> Share {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let window = of.get(&bridge).and_then(Weak::upgrade).unwrap_or_else(|| {
            of.retain(|_, window| window.strong_count() > 0);
            let window = Arc::new(Window {
                room: Semaphore::new(self.size),
                alone: Arc::new(Semaphore::new(ALONE)),
                unanswered: AtomicUsize::new(0),
            });
            of.insert(bridge, Arc::downgrade(&window));
            window
        });
        Share {
            window,
            state: Mutex::new(State { under_way: 0, is_closed: false }),
            closed: tokio::sync::Notify::new(),
        }
    }
}

/// One link's part of it: what the link leaves under way when it ends comes back to the others.
#[derive(Debug)]
pub struct Share {
    window: Arc<Window>,
    state: Mutex<State>,
    closed: tokio::sync::Notify,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    is_closed: bool,
}

impl Share {
    /// Waits for room for a message. `false`: the link has ended.
    pub async fn take(&self, bytes: usize) -> bool {
        let cost = cost(bytes);
        let closed = self.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if self.state().is_closed {
            return false;
        }
        let permit = tokio::select! {
            permit = self.window.room.acquire_many(cost as u32) => permit,
            () = closed => return false,
        };
        let Ok(permit) = permit else { return false };
        let mut state = self.state();
        if state.is_closed {
            return false; // and the permit goes back
        }
        state.under_way += cost;
        permit.forget();
        true
    }

    /// The far bridge has taken a message of so many bytes. No more comes back than is under way, whatever it says.
    pub fn grant(&self, bytes: usize) {
        let mut state = self.state();
        let cost = cost(bytes).min(state.under_way);
        state.under_way -= cost;
        self.window.room.add_permits(cost);
    }

    /// A batch of its own for a request, until the request is answered. `None`: it shares one.
    pub fn alone(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.window.alone).try_acquire_owned().ok()
    }

    /// Notes a call of the far bridge.
    pub fn unanswered(&self) -> Unanswered {
        self.window.unanswered.fetch_add(1, Ordering::Relaxed);
        Unanswered(Arc::clone(&self.window))
    }

    /// The link has ended: who waits is told.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.window.room.add_permits(std::mem::take(&mut state.under_way));
        self.closed.notify_waiters();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dice::dice;

    #[tokio::test]
    async fn a_link_that_ends_gives_its_room_back_and_a_lie_makes_none() {
        let size = cost(PIECE_MAX) + cost(40);
        let windows = Windows::new(size);
        let (first, second) = (windows.share(1), windows.share(1));
        assert!(first.take(PIECE_MAX).await && second.take(40).await);
        let waits = tokio::time::timeout(Duration::from_millis(20), second.take(10)).await;
        assert!(waits.is_err(), "the window is full");
        second.grant(1_000_000);
        assert_eq!(second.window.room.available_permits(), cost(40));
        first.close();
        assert_eq!(second.window.room.available_permits(), size);
        assert!(!first.take(1).await, "it has ended");
        assert_eq!(second.window.room.available_permits(), size);
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_end() {
        let windows = Windows::new(cost(10));
        let share = Arc::new(windows.share(1));
        assert!(share.take(10).await);
        let waiting = tokio::spawn({
            let share = Arc::clone(&share);
            async move { share.take(10).await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        share.close();
        assert!(!waiting.await.unwrap());
    }

    /// zenoh's queue as it fills while nothing is sent, with messages of all sizes in any order: batches of 64 KiB, of
    /// which each is closed by the first message that it has no room for.
    #[test]
    fn a_window_of_messages_fits_into_the_queue_in_whatever_order_they_come() {
        const HEAD: usize = 200;
        const BATCH: usize = 65_535;
        let mut dice = dice();
        let mut most = 0;
        for round in 0..2000 {
            let (mut spent, mut batches, mut filled) = (0, 1, 0);
            let (run, odds) = (1 + dice() as usize % 40, 1 + round % 5);
            for at in 0.. {
                let large = [PIECE_MAX, WHOLE_MAX + 1, 17 << 10, 33 << 10, 1 + dice() as usize % PIECE_MAX];
                let bytes = match at / run % odds {
                    0 => large[dice() as usize % large.len()],
                    _ => [1, 48, WHOLE_MAX][dice() as usize % 3],
                };
                spent += cost(bytes);
                if spent > crate::engine::WINDOW_MAX {
                    break;
                }
                if filled + bytes + HEAD > BATCH {
                    (batches, filled) = (batches + 1, 0);
                }
                filled += bytes + HEAD;
            }
            most = most.max(batches);
        }
        // One more is being written meanwhile.
        assert!(most < crate::engine::QUEUE_BATCHES, "{most} batches");
    }
}
