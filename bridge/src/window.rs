//! How many bytes of large payloads may be under way to one far bridge.
//!
//! zenoh's queue closes its transport when it is full for five seconds. The window is smaller than that queue, so a put
//! never waits there: who has more to send waits here, for what the far bridge has taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

/// The room to one far bridge, which all links to it share.
#[derive(Debug)]
pub struct Window {
    room: Semaphore,
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
            let window = Arc::new(Window { room: Semaphore::new(self.size) });
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
    /// Waits for room. `false`: the link has ended.
    pub async fn take(&self, bytes: usize) -> bool {
        let closed = self.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if self.state().is_closed {
            return false;
        }
        let permit = tokio::select! {
            permit = self.window.room.acquire_many(bytes as u32) => permit,
            () = closed => return false,
        };
        let Ok(permit) = permit else { return false };
        let mut state = self.state();
        if state.is_closed {
            return false; // and the permit goes back
        }
        state.under_way += bytes;
        permit.forget();
        true
    }

    /// The far bridge has taken so many: no more than are under way, whatever it says.
    pub fn grant(&self, bytes: usize) {
        let mut state = self.state();
        let bytes = bytes.min(state.under_way);
        state.under_way -= bytes;
        self.window.room.add_permits(bytes);
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

    #[tokio::test]
    async fn a_link_that_ends_gives_its_room_back_and_a_lie_makes_none() {
        let windows = Windows::new(100);
        let (first, second) = (windows.share(1), windows.share(1));
        assert!(first.take(60).await && second.take(40).await);
        let waits = tokio::time::timeout(Duration::from_millis(20), second.take(10)).await;
        assert!(waits.is_err(), "the window is full");
        second.grant(1_000_000);
        assert_eq!(second.window.room.available_permits(), 40);
        first.close();
        assert_eq!(second.window.room.available_permits(), 100);
        assert!(!first.take(1).await, "it has ended");
        assert_eq!(second.window.room.available_permits(), 100);
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_end() {
        let windows = Windows::new(10);
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
}
