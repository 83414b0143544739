//! Which slots are free: the client's private knowledge, a stack so that the one used last is used next.
//!
//! The line of the slot used last is still in both caches; a fresh slot each time costs almost twice as much. Only
//! slots below `depth` have been used, and the server scans no more lines than that, so a client with one call in
//! flight costs one.

use std::cell::{Cell, RefCell};

const NONE: u32 = u32::MAX;
/// So often must all slots have come back before the depth is made smaller: a burst now and then keeps its depth.
const RETURNS_TO_FLATTEN: u32 = 64;

/// The free slots of a session.
#[derive(Debug)]
pub struct FreeSlots {
    /// For each free slot the one below it in the stack.
    below: Box<[Cell<u32>]>,
    top: Cell<u32>,
    out: Cell<u32>,
    depth: Cell<u32>,
    /// Most slots out at a time since the depth was last decided on; not counted while the depth is 1.
    peak: Cell<u32>,
    returns: Cell<u32>,
    /// Slots whose caller gave up while the server has them; they count as out.
    abandoned: RefCell<Vec<u32>>,
    /// How many they are, for the hot path.
    abandoned_count: Cell<u32>,
}

impl FreeSlots {
    /// All of `slots` are free.
    pub fn new(slots: usize) -> FreeSlots {
        let free = FreeSlots {
            below: (0..slots).map(|_| Cell::new(NONE)).collect(),
            top: Cell::new(NONE),
            out: Cell::new(0),
            depth: Cell::new(1),
            peak: Cell::new(0),
            returns: Cell::new(0),
            abandoned: RefCell::default(),
            abandoned_count: Cell::new(0),
        };
        free.stack_in_order();
        free
    }

    /// Puts all slots on the stack, slot 0 on top.
    fn stack_in_order(&self) {
        let mut top = NONE;
        for slot in (0..self.below.len()).rev() {
            self.below[slot].set(top);
            top = slot as u32;
        }
        self.top.set(top);
    }

    /// Takes the slot used last.
    #[inline(always)]
    pub fn take(&self) -> Option<usize> {
        let slot = self.top.get() as usize;
        let below = self.below.get(slot)?; // NONE is beyond all slots
        self.top.set(below.get());
        let out = self.out.get() + 1;
        self.out.set(out);
        if self.depth.get() > 1 {
            self.peak.set(self.peak.get().max(out));
        }
        Some(slot)
    }

    /// Gives a slot back. `true` when the depth became smaller, and the server should be told. `true` as well for a
    /// number beyond all slots, such as one with a mark: nothing is given back then.
    #[inline(always)]
    pub fn give_back(&self, slot: usize) -> bool {
        let Some(below) = self.below.get(slot) else { return true };
        below.set(self.top.get());
        self.top.set(slot as u32);
        let out = self.out.get() - 1;
        self.out.set(out);
        out == 0 && self.depth.get() > 1 && self.all_are_back()
    }

    /// How many are out.
    #[cfg_attr(any(loom, not(feature = "tokio")), allow(dead_code, reason = "tasks wait for slots"))]
    pub fn out(&self) -> usize {
        self.out.get() as usize
    }

    /// How many are in loans, calls and replies: those given up are nobody's.
    pub fn held(&self) -> usize {
        (self.out.get() - self.abandoned_count.get()) as usize
    }

    /// A slot stays out until the server is done with it.
    pub fn abandon(&self, slot: usize) {
        self.abandoned.borrow_mut().push(slot as u32);
        self.abandoned_count.set(self.abandoned_count.get() + 1);
    }

    /// Whether slots may come back by themselves.
    #[inline(always)]
    pub fn has_abandoned(&self) -> bool {
        self.abandoned_count.get() != 0
    }

    /// Looks at each abandoned slot.
    pub fn for_each_abandoned(&self, mut look: impl FnMut(usize)) {
        self.abandoned.borrow().iter().for_each(|&slot| look(slot as usize));
    }

    /// Takes back those abandoned slots that the server is done with. `true` when the depth became smaller.
    pub fn reclaim(&self, is_done: impl Fn(usize) -> bool) -> bool {
        let mut done = Vec::new();
        self.abandoned.borrow_mut().retain(|&slot| {
            let keep = !is_done(slot as usize);
            if !keep {
                done.push(slot as usize);
            }
            keep
        });
        self.abandoned_count.set(self.abandoned.borrow().len() as u32);
        done.into_iter().fold(false, |flatter, slot| self.give_back(slot) | flatter)
    }

    /// How many slot lines the server must look at.
    pub fn depth(&self) -> usize {
        self.depth.get() as usize
    }

    /// Makes the depth reach `slot`. `true` when it had to grow, and the server must be told before the slot is passed.
    #[inline(always)]
    pub fn deepen(&self, slot: usize) -> bool {
        let grows = slot as u32 >= self.depth.get();
        if grows {
            self.grow(slot);
        }
        grows
    }

    #[cold]
    fn grow(&self, slot: usize) {
        self.depth.set(slot as u32 + 1);
        self.peak.set(self.peak.get().max(self.out.get()));
    }

    /// All slots are back: now and then the depth is set to what was really used at a time.
    #[cold]
    fn all_are_back(&self) -> bool {
        let returns = self.returns.get() + 1;
        self.returns.set(returns);
        if returns < RETURNS_TO_FLATTEN {
            return false;
        }
        self.returns.set(0);
        let peak = self.peak.replace(0).max(1);
        let flatter = peak < self.depth.get();
        if flatter {
            self.depth.set(peak);
            self.stack_in_order();
        }
        flatter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_used_last_is_used_next() {
        let free = FreeSlots::new(3);
        assert_eq!(free.take(), Some(0));
        assert_eq!(free.take(), Some(1));
        free.give_back(0);
        assert_eq!(free.take(), Some(0));
        assert_eq!(free.take(), Some(2));
        assert_eq!(free.take(), None);
    }

    #[test]
    fn the_depth_follows_what_is_used() {
        let free = FreeSlots::new(8);
        let use_at_once = |count: usize| {
            let slots: Vec<_> = (0..count).map(|_| free.take().unwrap()).collect();
            let grew = slots.iter().filter(|&&slot| free.deepen(slot)).count() > 0;
            let shrank = slots.into_iter().filter(|&slot| free.give_back(slot)).count() > 0;
            (grew, shrank)
        };
        assert_eq!(free.depth(), 1);
        assert_eq!(use_at_once(1), (false, false));
        assert_eq!(use_at_once(5), (true, false));
        assert_eq!(free.depth(), 5);
        let shrank = (0..3 * RETURNS_TO_FLATTEN).filter(|_| use_at_once(2).1).count();
        assert_eq!((shrank, free.depth()), (1, 2));
        // The slots that are used now are those below the depth.
        assert!(free.take().unwrap() < 2 && free.take().unwrap() < 2);
    }

    #[test]
    fn abandoned_slots_come_back_when_the_server_is_done() {
        let free = FreeSlots::new(1);
        let slot = free.take().unwrap();
        free.abandon(slot);
        assert!(free.has_abandoned());
        free.reclaim(|_| false);
        assert_eq!(free.take(), None);
        free.reclaim(|_| true);
        assert!(!free.has_abandoned());
        assert_eq!(free.take(), Some(0));
    }
}
