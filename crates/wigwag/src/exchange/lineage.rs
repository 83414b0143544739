//! The sessions of a client that outlives its servers: the one that calls go to, and former ones in whose memory loans,
//! calls or replies still lie.
//!
//! Loans and replies point into the memory of the session that they are of, and borrow the client. So a former session
//! stays as it is until the last of them has gone, however many servers come and go meanwhile, and then all of it goes:
//! a client that outlives ten thousand servers has the memory and the descriptors of one.

#![allow(unsafe_code, reason = "a session is freed when its slots say that nobody refers to it")]

use std::cell::{Cell, RefCell};
#[cfg(not(loom))]
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::exchange::caller::Caller;
use crate::faults::{self, Fault};
use crate::stats::ClientStats;

/// The sessions of one client.
///
/// **Invariant C1.** Each pointer is of a `Caller` that was boxed here, and that is freed here alone: by `prune`, if
/// it is not the current one, none of its slots is in a loan, a call or a reply, and nobody holds it; by
/// `into_current` and by a drop, when nothing borrows the client. A loan, a call and a reply have a slot of the
/// session that they refer to for as long as they do so. Whoever refers to a session otherwise holds it
/// ([`Caller::hold`]), or does so within a call that is not `prune` and calls no program's code. A subscriber of
/// `tracing` is a program's code: it may call the same client.
pub struct Lineage {
    current: Cell<NonNull<Caller>>,
    former: RefCell<Vec<NonNull<Caller>>>,
    /// Whether there are former ones, for the path of every call.
    has_former: Cell<bool>,
    /// What was counted of those that are freed.
    freed: Cell<ClientStats>,
    reconnects: Cell<u64>,
    moved: Cell<u64>,
}

// SAFETY: it owns its sessions as boxes would (C1), a `Caller` may move to another thread, and whatever else points to
// one borrows the client, which therefore does not move meanwhile.
unsafe impl Send for Lineage {}

const _: () = {
    const fn may_move<T: Send>() {}
    may_move::<Caller>();
};

impl Lineage {
    /// Of a client's first session.
    pub fn new(first: Caller) -> Lineage {
        Lineage {
            current: Cell::new(boxed(first)),
            former: RefCell::default(),
            has_former: Cell::new(false),
            freed: Cell::default(),
            reconnects: Cell::new(0),
            moved: Cell::new(0),
        }
    }

    /// The session that new calls go to.
    #[inline(always)]
    pub fn current(&self) -> &Caller {
        // SAFETY: the current one is never freed while it is that, and later as C1 says: who still refers to it then
        // has one of its slots, or a hold of it, or calls nothing that frees it.
        unsafe { self.current.get().as_ref() }
    }

    /// The same, for who begins something and has no reference to a former one: those that nobody needs are freed.
    #[inline(always)]
    pub fn current_after_pruning(&self) -> &Caller {
        if self.has_former.get() {
            self.prune();
        }
        self.current()
    }

    /// There is a new session, which calls go to from now on.
    pub fn succeed(&self, caller: Caller) -> &Caller {
        self.former.borrow_mut().push(self.current.replace(boxed(caller)));
        self.has_former.set(true);
        self.reconnects.set(self.reconnects.get() + 1);
        self.current()
    }

    /// A call goes on at a successor.
    pub fn count_moved(&self) {
        self.moved.set(self.moved.get() + 1);
    }

    /// Frees the former sessions in which nothing lies and that nobody holds.
    #[cold]
    fn prune(&self) {
        if faults::is(Fault::KeptSessions) {
            return;
        }
        // SAFETY: none of those in the list is freed yet (C1).
        let is_held = |caller: &NonNull<Caller>| unsafe { caller.as_ref() }.is_held();
        let (held, idle): (Vec<_>, Vec<_>) = self.former.take().into_iter().partition(is_held);
        self.has_former.set(!held.is_empty());
        self.former.replace(held);
        for caller in idle {
            // SAFETY: it is a former one, nobody has a slot or a hold of it, and it has left the list (C1).
            let caller = unsafe { unboxed(caller) };
            self.freed.set(self.freed.get().and(caller.stats()));
        }
    }

    /// What was counted in all sessions; under way is what is so in the current one.
    pub fn stats(&self) -> ClientStats {
        let former = self.former.borrow();
        // SAFETY: none of these is freed yet (C1).
        let of_former = former.iter().map(|caller| unsafe { caller.as_ref() }.stats());
        let current = self.current().stats();
        let total = of_former.chain([current]).fold(self.freed.get(), ClientStats::and);
        let (reconnects, moved) = (self.reconnects.get(), self.moved.get());
        ClientStats { in_flight: current.in_flight, reconnects, moved, ..total }
    }

    /// The current session alone; nothing borrows the client any more.
    #[cfg(not(loom))]
    pub fn into_current(self) -> Caller {
        let this = ManuallyDrop::new(self);
        for caller in this.former.take() {
            // SAFETY: nothing borrows the client, and this is not dropped any more (C1).
            drop(unsafe { unboxed(caller) });
        }
        // SAFETY: as above.
        *unsafe { unboxed(this.current.get()) }
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        for caller in self.former.get_mut().drain(..).chain([self.current.get()]) {
            // SAFETY: nothing borrows the client, and nobody has the pointer after this (C1).
            drop(unsafe { unboxed(caller) });
        }
    }
}

fn boxed(caller: Caller) -> NonNull<Caller> {
    NonNull::from(Box::leak(Box::new(caller)))
}

/// # Safety
/// It is from [`boxed`], and nobody uses it after this.
unsafe fn unboxed(caller: NonNull<Caller>) -> Box<Caller> {
    // SAFETY: as the caller says, it is a box's, once (C1).
    unsafe { Box::from_raw(caller.as_ptr()) }
}

#[cfg(all(test, not(loom), not(wigwag_faults)))]
mod tests {
    use wigwag_testing::Ground;

    use super::*;
    use crate::session::connect;
    use crate::{Client, Server};

    #[test]
    fn a_former_session_stays_while_a_slot_of_it_is_out_or_somebody_holds_it() {
        let ground = Ground::new();
        let _server = Server::bind(ground.socket()).unwrap();
        let caller = || {
            let options = Client::builder().slots(1).checked_options().unwrap();
            Caller::new(connect::attach(ground.socket().as_ref(), &options).unwrap(), options.wait)
        };
        let lineage = Lineage::new(caller());
        let formers = || lineage.former.borrow().len();
        let slot = lineage.current().take_slot().unwrap();
        let first = lineage.current();
        lineage.succeed(caller());
        lineage.current_after_pruning();
        assert_eq!(formers(), 1, "its slot is out");
        let (one, two) = (first.hold(), first.hold());
        first.release(slot);
        lineage.succeed(caller());
        lineage.current_after_pruning();
        drop(one);
        lineage.current_after_pruning();
        assert_eq!((formers(), first.slots_held()), (1, 0), "somebody holds it, and nobody the second");
        drop(two);
        lineage.current_after_pruning();
        assert_eq!(formers(), 0);
    }
}
