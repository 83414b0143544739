//! Handlers that wait for their caller to give up: their wakers, by the slot that the call lies in.
//!
//! A state machine without clock, memory or system calls. The session keeps one; the control thread watches the
//! session's bell for it, from the first waker until a ring finds none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use crate::sync;

/// The wakers of one session, and whether the session is over.
#[derive(Debug, Default)]
pub struct Abandonment {
    is_over: AtomicBool,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    abandonment: Vec<Watcher>,
    last_id: u64,
    /// Whether somebody looks for those in the list at each ring, or has been asked to.
    is_watched: bool,
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    slot: usize,
    waker: Waker,
}

/// A place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// What [`Abandonment::register`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The caller passes this back, with the next waker or to [`Abandonment::leave`].
    pub ticket: Ticket,
    /// No thread watches the bell yet: the caller must start that.
    pub must_watch: bool,
}

impl Abandonment {
    /// Whether the session is over, so that all its callers are gone.
    pub fn is_over(&self) -> bool {
        // Acquire, partner: `end`. Nothing hangs on it but the answer.
        self.is_over.load(Ordering::Acquire)
    }

    /// A task waits for the call in a slot to be given up. It looks once more after this: what came before wakes
    /// nobody.
    pub fn register(&self, ticket: Option<Ticket>, slot: usize, waker: &Waker) -> Registered {
        let mut list = self.lock();
        let known = ticket.and_then(|ticket| list.abandonment.iter_mut().find(|watcher| watcher.id == ticket.0));
        let id = match known {
            Some(watcher) => {
                watcher.waker.clone_from(waker);
                watcher.id
            }
            None => {
                list.last_id += 1;
                let id = list.last_id;
                list.abandonment.push(Watcher { id, slot, waker: waker.clone() });
                id
            }
        };
        Registered { ticket: Ticket(id), must_watch: !std::mem::replace(&mut list.is_watched, true) }
    }

    /// A task waits no longer.
    pub fn leave(&self, ticket: Ticket) {
        self.lock().abandonment.retain(|watcher| watcher.id != ticket.0);
    }

    /// Wakes those whose calls have been given up. `false` when nobody waits any more, so that nobody need look at the
    /// next ring: from then on the next to [register](Abandonment::register) is told to ask for that anew.
    pub fn wake(&self, is_abandoned: impl Fn(usize) -> bool) -> bool {
        let mut list = self.lock();
        let (given_up, others): (Vec<Watcher>, _) =
            std::mem::take(&mut list.abandonment).into_iter().partition(|watcher| is_abandoned(watcher.slot));
        list.abandonment = others;
        list.is_watched = !list.abandonment.is_empty();
        let goes_on = list.is_watched;
        drop(list); // a waker may do anything
        given_up.into_iter().for_each(|watcher| watcher.waker.wake());
        goes_on
    }

    /// The session is over: wakes all.
    pub fn end(&self) {
        // Release, partner: `is_over`. A waker that registers after the list was emptied finds this by the lock.
        self.is_over.store(true, Ordering::Release);
        let all = std::mem::take(&mut self.lock().abandonment);
        all.into_iter().for_each(|watcher| watcher.waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // The list is whole at every moment.
        sync::lock(&self.list)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting() -> (Arc<Counting>, Waker) {
        let counting = Arc::new(Counting::default());
        (Arc::clone(&counting), Waker::from(counting))
    }

    #[test]
    fn only_those_are_woken_whose_calls_were_given_up() {
        let abandonment = Abandonment::default();
        let ((one, first), (two, second)) = (counting(), counting());
        assert!(abandonment.register(None, 1, &first).must_watch);
        let registered = abandonment.register(None, 2, &second);
        assert!(!registered.must_watch, "somebody looks already");
        assert!(abandonment.wake(|slot| slot == 1), "one waits on");
        assert_eq!((one.0.load(Ordering::Relaxed), two.0.load(Ordering::Relaxed)), (1, 0));
        abandonment.leave(registered.ticket);
        assert!(!abandonment.wake(|_| true), "nobody waits");
        assert_eq!(two.0.load(Ordering::Relaxed), 0);
        assert!(abandonment.register(None, 2, &second).must_watch, "nobody looks any more");
    }

    #[test]
    fn a_second_look_takes_no_second_place() {
        let abandonment = Abandonment::default();
        let ((one, first), (two, second)) = (counting(), counting());
        let registered = abandonment.register(None, 7, &first);
        let again = abandonment.register(Some(registered.ticket), 7, &second);
        assert_eq!(registered.ticket, again.ticket);
        abandonment.end();
        assert!(abandonment.is_over());
        assert_eq!((one.0.load(Ordering::Relaxed), two.0.load(Ordering::Relaxed)), (0, 1));
    }
}
