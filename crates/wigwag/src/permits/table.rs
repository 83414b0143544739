//! The permits of a semaphore and the queue of its waiters: a state machine over atomics that it is handed.
//!
//! It knows nothing of files, clocks and system calls, so the same code runs in a mapping and under the model checker.
//! The caller says whether a holder is dead and what time it is, and is told which waiter to wake. No time lies in the
//! words that decide who may have a permit: it would be another process's time, and it would wrap.
//!
//! # A permit is one word
//!
//! ```text
//!  63                                            16 15               0
//! +------------------------------------------------+------------------+
//! | generation (48 bits, never 0 for a holder)     | holder's id      |   held
//! +------------------------------------------------+------------------+
//! | 0                                              | 0                |   free
//! | 0                                              | 1                |   free, and its last holder died with it
//! +------------------------------------------------+------------------+
//! ```
//!
//! | from | to | who, by what |
//! |---|---|---|
//! | free, either | held | whoever takes it: compare-exchange |
//! | held | free | its holder, when it gives it back: exchange |
//! | held | free, its holder died | anybody who knows that this very holder is dead: compare-exchange |
//!
//! **Invariant P1.** Each permit is its word and nothing else, and each change of it is one atomic step. So a process
//! that is killed at any instruction leaves every permit either free or in its own name, and the sum of free and held
//! ones is always the number of words: none is lost and none is there twice.
//!
//! **Invariant P2.** A holder's name (id and generation) is never given to another one. So a word that was read as a
//! dead holder's and is exchanged against that very value was not taken by anybody in between.
//!
//! # The wait queue
//!
//! A waiter takes a waiter slot and draws a ticket. The release of a permit calls the oldest waiter whose need is met.
//! Newcomers may take a free permit although others wait (barging), because a permit that waits for a sleeper to be
//! switched in is a permit that nobody uses; but a waiter that has been passed over for too long forbids that, and then
//! newcomers queue behind it. This is the eventual fairness of WebKit's `WTF::Lock` and of parking_lot, with the
//! tickets of Mellor-Crummey and Scott in place of their queue, because a queue whose links a killed process leaves
//! half changed has to be repaired.
//!
//! A waiter that was called and does not come, because it is stopped, must not keep the permit from those behind it. A
//! call has a *name*, a number that the next call does not have. A process that finds the same call unanswered twice,
//! some time apart by its own clock ([`CallWatch`]), exchanges that very name for "passed over", and allows barging
//! again. From then on nobody counts that waiter until it announces itself anew.
//!
//! The wait queue is advice. Only the words of the permits say who holds one: whatever is lost of a call, a ticket or a
//! flag by a kill costs one slice of waiting, since no waiter sleeps longer than a slice without looking itself.

use crate::faults::{self, Fault};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence_after_swap};

/// A permit that is free.
const FREE: u64 = 0;
/// A permit that is free, and whose last holder died with it.
const RECOVERED: u64 = 1;
const ID_BITS: u32 = 16;

/// Somebody waits, or did lately: a release must look at the wait queue.
const WAITERS: u32 = 1;
/// A waiter has been passed over for too long: newcomers must queue.
const CLOSED: u32 = 2;

/// A waiter that was called and has not come for so long does not hold up those behind it: it may be stopped.
pub const LATE_NS: u64 = 2_000_000;
/// `call`: it was called, did not come, and does not count until it announces itself anew.
const PASSED_OVER: u32 = u32::MAX;

/// What can hold permits: one opening of the semaphore by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(u64);

impl Holder {
    /// The name of a holder. `generation` begins with 1 and has 48 bits.
    pub fn new(id: u16, generation: u64) -> Holder {
        debug_assert!(generation > 0 && generation >> (64 - ID_BITS) == 0);
        Holder(generation << ID_BITS | u64::from(id))
    }

    /// Whom a word names, if anybody.
    pub fn named_by(word: u64) -> Option<Holder> {
        (word >> ID_BITS != 0).then_some(Holder(word))
    }

    /// The byte whose lock is its life.
    pub fn id(self) -> u16 {
        self.0 as u16
    }

    /// The number of its process, beside the lower half of its generation.
    #[inline(always)]
    pub fn sign(self, process: u32) -> u64 {
        (self.0 >> ID_BITS) << 32 | u64::from(process)
    }

    /// The number of its process, if that is what this holder wrote.
    pub fn process_of(self, signed: u64) -> Option<u32> {
        let process = signed as u32;
        (process != 0 && signed == self.sign(process)).then_some(process)
    }
}

/// Whether a word that is no holder's says that the last one died.
pub fn is_owed(word: u64) -> bool {
    word != FREE
}

/// One permit. A line of its own, so that two holders of two permits do not slow each other down.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Permit {
    /// See the module's documentation.
    pub word: AtomicU64,
    /// The holder's process, for people, with as much of the holder's name as tells it from others: see
    /// [`Holder::sign`].
    pub process: AtomicU64,
}

/// What all who wait share.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct WaitQueue {
    /// Flags: 1 somebody waits, 2 barging is forbidden.
    pub flags: AtomicU32,
    /// How many waiter slots have ever been used: all in use have a smaller index.
    pub depth: AtomicU32,
    /// The last ticket drawn.
    pub tickets: AtomicU64,
    /// When the dead were looked for last, in nanoseconds of the clock that all processes share.
    pub swept_ns: AtomicU64,
    /// Counts the calls, so that each has a name of its own for as long as anybody remembers it.
    pub calls: AtomicU32,
}

/// A place in the wait queue.
#[repr(C, align(32))]
#[derive(Debug, Default)]
pub struct WaiterSlot {
    /// The waiter's name as a holder; 0: free.
    pub who: AtomicU64,
    /// Its ticket; 0: not drawn yet, or gone.
    pub ticket: AtomicU64,
    /// 0: not called. Else the name of the call, or all ones: passed over. The futex on which it sleeps.
    pub call: AtomicU32,
    /// How many permits it needs at once.
    pub need: AtomicU32,
}

/// A permit that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub index: u32,
    /// Whether the holder before died with it.
    pub recovered: bool,
}

/// A waiter with its slot.
#[derive(Debug)]
pub struct Waiter {
    waiter_slot: usize,
    ticket: u64,
    need: u32,
}

#[cfg(all(feature = "tokio", not(loom)))]
impl Waiter {
    /// Its place in the order: it is called after those with a lower one.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }
}

/// The words of a semaphore.
#[derive(Clone, Copy, Debug)]
pub struct PermitTable<'a> {
    /// What all who wait share.
    pub wait_queue: &'a WaitQueue,
    /// The line.
    pub waiter_slots: &'a [WaiterSlot],
    /// The permits.
    pub permits: &'a [Permit],
}

impl<'a> PermitTable<'a> {
    /// A newcomer takes a permit, looking at `first` first, unless it would push past somebody who waited too long.
    #[inline(always)]
    pub fn try_take(&self, me: Holder, first: u32) -> Option<Taken> {
        // Relaxed: advice. A newcomer that just misses the flag passes a waiter once more.
        if self.is_closed() {
            return None;
        }
        self.take_at(me, first).or_else(|| self.take(me))
    }

    /// Takes this very permit, if it is free.
    #[inline(always)]
    fn take_at(&self, me: Holder, index: u32) -> Option<Taken> {
        let permit = self.permits.get(index as usize)?;
        let word = permit.word.load(Ordering::Relaxed);
        if word > RECOVERED {
            return None;
        }
        if faults::is(Fault::DoubledPermit) {
            std::thread::yield_now(); // so that somebody comes in between within a test's time
            permit.word.store(me.0, Ordering::Relaxed);
            return Some(Taken { index, recovered: word == RECOVERED });
        }
        // Acquire: what the holder before did under the permit, before `give_back`, is visible after.
        let taken = permit.word.compare_exchange(word, me.0, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then_some(Taken { index, recovered: word == RECOVERED })
    }

    /// Takes any permit that is free.
    pub fn take(&self, me: Holder) -> Option<Taken> {
        (0..self.permits.len() as u32).find_map(|index| self.take_at(me, index))
    }

    /// Takes `need` permits or none: where too few are free, those that were taken go back as they were.
    pub fn take_many(&self, me: Holder, need: u32, taken: &mut Vec<Taken>) -> bool {
        for index in 0..self.permits.len() as u32 {
            if taken.len() as u32 == need {
                break;
            }
            taken.extend(self.take_at(me, index));
        }
        let enough = taken.len() as u32 == need;
        if !enough {
            for taken in taken.drain(..) {
                let word = if taken.recovered { RECOVERED } else { FREE };
                self.permits[taken.index as usize].word.swap(word, Ordering::SeqCst);
            }
            fence_after_swap(); // as in `give_back`: the caller goes on with `call_next`
        }
        enough
    }

    /// Gives a permit back. Whether somebody may wait for it: then the caller goes on with
    /// [`call_next`](Self::call_next).
    ///
    /// SeqCst exchange: it releases what was done under the permit (partner: `take_at`), and it is the first half of
    /// Dekker's pattern; the second half of the waiter is in [`announce`](Self::announce).
    #[inline(always)]
    pub fn give_back(&self, index: u32) -> bool {
        if faults::is(Fault::LostPermit) && !self.is_quiet() {
            return true;
        }
        self.permits[index as usize].word.swap(FREE, Ordering::SeqCst);
        fence_after_swap(); // partner: the fence in `announce`
        // Acquire: whose flag is seen has its ticket seen.
        self.wait_queue.flags.load(Ordering::Acquire) != 0
    }

    /// Whether newcomers have to queue.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.wait_queue.flags.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Whether nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.wait_queue.flags.load(Ordering::Relaxed) == 0
    }

    /// How many are free.
    pub fn free(&self) -> u32 {
        self.permits.iter().filter(|permit| permit.word.load(Ordering::Relaxed) <= RECOVERED).count() as u32
    }

    // ---- waiting ----------------------------------------------------------------------------------------------------

    /// Takes a waiter slot and draws a ticket; `None` when all slots are taken.
    pub fn line_up(&self, me: Holder, need: u32) -> Option<Waiter> {
        let free = |waiter_slot: &WaiterSlot| waiter_slot.who.load(Ordering::Relaxed) == 0;
        // AcqRel: after whoever left it, and before what is written into it.
        let claim = |waiter_slot: &WaiterSlot| {
            waiter_slot.who.compare_exchange(0, me.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let waiter_slot = self.waiter_slots.iter().position(|waiter_slot| free(waiter_slot) && claim(waiter_slot))?;
        self.wait_queue.depth.fetch_max(waiter_slot as u32 + 1, Ordering::Relaxed);
        let ticket = self.wait_queue.tickets.fetch_add(1, Ordering::Relaxed) + 1;
        let place = &self.waiter_slots[waiter_slot];
        place.call.store(0, Ordering::Relaxed);
        place.need.store(need, Ordering::Relaxed);
        place.ticket.store(ticket, Ordering::Release); // partner: `in_line`
        Some(Waiter { waiter_slot, ticket, need })
    }

    /// Says that this waiter is about to sleep. It must look once more before it does.
    pub fn announce(&self, waiter: &Waiter) {
        // Acquire: what whoever called did before, such as giving a permit back, is visible to the look that follows.
        self.waiter_slots[waiter.waiter_slot].call.swap(0, Ordering::AcqRel);
        self.wait_queue.flags.fetch_or(WAITERS, Ordering::SeqCst);
        fence_after_swap(); // partner: the fence in `give_back`
    }

    /// Whether it is this waiter's turn: what is free is enough for those before it and for itself.
    pub fn is_next(&self, waiter: &Waiter) -> bool {
        self.is_first_but_for(waiter, |call| call == PASSED_OVER)
    }

    /// Whether it would be this waiter's turn if nobody before it had been called, who may be on its way or stopped.
    pub fn is_behind_called(&self, waiter: &Waiter) -> bool {
        self.is_first_but_for(waiter, |call| call != 0)
    }

    fn is_first_but_for(&self, waiter: &Waiter, counts_not: impl Fn(u32) -> bool) -> bool {
        let before: u64 = self
            .in_line()
            // Relaxed: advice, as all of the wait queue.
            .filter(|(ticket, waiter_slot)| {
                *ticket < waiter.ticket && !counts_not(waiter_slot.call.load(Ordering::Relaxed))
            })
            .map(|(_, waiter_slot)| u64::from(waiter_slot.need.load(Ordering::Relaxed)))
            .sum();
        before + u64::from(waiter.need) <= u64::from(self.free())
    }

    /// The word on which this waiter sleeps while it is 0.
    pub fn call_of(&self, waiter: &Waiter) -> &'a AtomicU32 {
        &self.waiter_slots[waiter.waiter_slot].call
    }

    /// A waiter was passed over for too long.
    pub fn close(&self) {
        self.wait_queue.flags.fetch_or(CLOSED | WAITERS, Ordering::Relaxed);
    }

    /// Leaves the wait queue, with or without the permits. The caller goes on with [`call_next`](Self::call_next).
    pub fn leave(&self, waiter: Waiter) {
        let waiter_slot = &self.waiter_slots[waiter.waiter_slot];
        waiter_slot.ticket.store(0, Ordering::Relaxed);
        waiter_slot.who.store(0, Ordering::Release); // partner: the claim in `line_up`
        self.wait_queue.flags.fetch_and(!CLOSED, Ordering::Relaxed);
        self.settle();
    }

    /// Takes the flags back once nobody waits any more: a killed waiter leaves them.
    ///
    /// A waiter that queues in the middle of this is seen by the second look, because the exchange comes after its
    /// [`announce`](Self::announce) or before it; and what was given back meanwhile is seen by the call that follows.
    pub fn settle(&self) {
        if self.wait_queue.flags.load(Ordering::Relaxed) == 0 || self.in_line().next().is_some() {
            return;
        }
        self.wait_queue.flags.swap(0, Ordering::SeqCst);
        fence_after_swap(); // partner: the fence in `announce`
        if self.in_line().next().is_some() {
            self.wait_queue.flags.fetch_or(WAITERS, Ordering::SeqCst);
            fence_after_swap(); // partner: the fence in `give_back`
        }
    }

    /// Calls the first waiter whose need is met by the free permits, and returns its word when it has to be woken.
    pub fn call_next(&self) -> Option<&'a AtomicU32> {
        let free = u64::from(self.free());
        let (mut last, mut met) = (0, 0);
        loop {
            // The oldest of those that are younger than the last one looked at.
            let (ticket, waiter_slot) =
                self.in_line().filter(|(ticket, _)| *ticket > last).min_by_key(|(ticket, _)| *ticket)?;
            last = ticket;
            let call = waiter_slot.call.load(Ordering::Relaxed);
            if call == PASSED_OVER {
                continue;
            }
            met += u64::from(waiter_slot.need.load(Ordering::Relaxed));
            if met > free {
                return None;
            }
            // Release: the called waiter sees the free permits; partner: `announce`.
            if call == 0
                && waiter_slot.call.compare_exchange(0, self.name_a_call(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                return Some(&waiter_slot.call);
            }
        }
    }

    /// A name for a call: neither 0 nor [`PASSED_OVER`], and not that of any of the four billion calls before.
    fn name_a_call(&self) -> u32 {
        self.wait_queue.calls.fetch_add(1, Ordering::Relaxed) % (PASSED_OVER - 1) + 1
    }

    /// A waiter was called and did not come: if it is still that very call, the waiter does not count any more, and
    /// newcomers may barge again, because it may be the one that forbade it. Returns whether it was still that call.
    fn pass_over(&self, waiter_slot: &WaiterSlot, call: u32) -> bool {
        let is_passed =
            waiter_slot.call.compare_exchange(call, PASSED_OVER, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_passed {
            self.wait_queue.flags.fetch_and(!CLOSED, Ordering::Relaxed);
        }
        is_passed
    }

    /// All waiters, with the tickets, in no order.
    fn in_line(&self) -> impl Iterator<Item = (u64, &'a WaiterSlot)> + use<'a> {
        let depth = self.wait_queue.depth.load(Ordering::Relaxed) as usize;
        self.waiter_slots.iter().take(depth).filter_map(|waiter_slot| {
            let ticket = waiter_slot.ticket.load(Ordering::Acquire); // partner: `line_up`
            (ticket != 0 && waiter_slot.who.load(Ordering::Relaxed) != 0).then_some((ticket, waiter_slot))
        })
    }

    // ---- death ------------------------------------------------------------------------------------------------------

    /// Takes back what the dead hold. How many permits that were.
    pub fn sweep(&self, mut is_dead: impl FnMut(Holder) -> bool) -> usize {
        let mut asked = None;
        let mut is_dead = |holder: Holder| match asked {
            Some((same, dead)) if same == holder => dead,
            _ => asked.insert((holder, is_dead(holder))).1,
        };
        let mut swept = 0;
        for permit in self.permits {
            let word = permit.word.load(Ordering::Relaxed);
            if Holder::named_by(word).is_some_and(&mut is_dead) {
                // P2: only if it is still this holder's.
                let taken = permit.word.compare_exchange(word, RECOVERED, Ordering::AcqRel, Ordering::Relaxed);
                swept += usize::from(taken.is_ok());
            }
        }
        let depth = self.wait_queue.depth.load(Ordering::Relaxed) as usize;
        for waiter_slot in self.waiter_slots.iter().take(depth) {
            // The ticket first: if the slot is still the dead waiter's after it, the ticket is not a later one's.
            let ticket = waiter_slot.ticket.load(Ordering::Acquire);
            let who = waiter_slot.who.load(Ordering::Relaxed);
            if Holder::named_by(who).is_some_and(&mut is_dead) {
                let _ = waiter_slot.ticket.compare_exchange(ticket, 0, Ordering::Relaxed, Ordering::Relaxed);
                let _ = waiter_slot.who.compare_exchange(who, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        self.settle();
        swept
    }

    /// Whether it is this caller's business to look for the dead now: nobody has for `every_ns`.
    pub fn must_sweep(&self, now_ns: u64, every_ns: u64) -> bool {
        let last = self.wait_queue.swept_ns.load(Ordering::Relaxed);
        // A time that lies ahead is that of another time namespace: it says nothing.
        now_ns.wrapping_sub(last) >= every_ns
            && self.wait_queue.swept_ns.compare_exchange(last, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// What a thread needs that sleeps for several waiters of its process: see `semaphore::tokio`.
#[cfg(all(feature = "tokio", not(loom)))]
impl PermitTable<'_> {
    /// The waiter does not want anything any more, and its slot cannot be left yet, because a thread of its process may
    /// be about to sleep on its word: from here on nobody counts it, and that thread does not sleep. Newcomers may
    /// barge again, because this waiter may be the one that forbade it. The caller goes on with
    /// [`call_next`](Self::call_next), and [leaves](Self::leave) once no thread sleeps there.
    pub fn give_up(&self, waiter: &Waiter) {
        self.waiter_slots[waiter.waiter_slot].call.swap(PASSED_OVER, Ordering::Relaxed);
        self.wait_queue.flags.fetch_and(!CLOSED, Ordering::Relaxed);
    }

    /// Keeps a thread from sleeping on the word of this waiter, or makes [`ring`](crate::sys::futex::ring) wake it, by
    /// a call that nobody else made. Whether it was not called already. Whoever takes the call back looks whether it
    /// [is next](Self::is_next), because a call that others would have made meanwhile is lost in this one.
    pub fn call_falsely(&self, waiter: &Waiter) -> bool {
        let call = &self.waiter_slots[waiter.waiter_slot].call;
        // Relaxed: nothing is told by it; partner: `announce`.
        call.compare_exchange(0, self.name_a_call(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether the waiter has been called since it announced itself last, or passed over.
    pub fn is_called(&self, waiter: &Waiter) -> bool {
        self.call_of(waiter).load(Ordering::Relaxed) != 0 // advice: `announce` orders what follows
    }
}

/// What one process knows of the calls that have not been answered: in private memory, by its own clock.
#[derive(Debug, Default)]
pub struct CallWatch {
    /// Of each waiter slot: its call, and when that was seen first.
    seen: Vec<(u32, u64)>,
}

impl CallWatch {
    /// Scans the wait queue, and passes over each waiter whose call this process has seen unanswered for [`LATE_NS`].
    /// Returns whether it passed over any: then the caller goes on with [`call_next`](PermitTable::call_next).
    pub fn look(&mut self, table: &PermitTable<'_>, now_ns: u64) -> bool {
        let depth = table.wait_queue.depth.load(Ordering::Relaxed) as usize;
        self.seen.resize(table.waiter_slots.len().min(depth).max(self.seen.len()), (0, 0));
        let mut has_passed = false;
        for (waiter_slot, seen) in table.waiter_slots.iter().zip(&mut self.seen) {
            let call = waiter_slot.call.load(Ordering::Relaxed);
            let is_waiting = waiter_slot.who.load(Ordering::Relaxed) != 0;
            if call == 0 || call == PASSED_OVER || !is_waiting {
                *seen = (0, 0);
            } else if seen.0 != call {
                *seen = (call, now_ns);
            } else if now_ns.saturating_sub(seen.1) >= LATE_NS && !faults::is(Fault::KeptCall) {
                has_passed |= table.pass_over(waiter_slot, call);
            }
        }
        has_passed
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Memory {
        wait_queue: WaitQueue,
        waiter_slots: Vec<WaiterSlot>,
        permits: Vec<Permit>,
    }

    impl Memory {
        fn new(permits: usize, waiter_slots: usize) -> Memory {
            Memory {
                wait_queue: WaitQueue::default(),
                waiter_slots: (0..waiter_slots).map(|_| WaiterSlot::default()).collect(),
                permits: (0..permits).map(|_| Permit::default()).collect(),
            }
        }

        fn table(&self) -> PermitTable<'_> {
            PermitTable { wait_queue: &self.wait_queue, waiter_slots: &self.waiter_slots, permits: &self.permits }
        }
    }

    fn holder(id: u16) -> Holder {
        Holder::new(id, 7)
    }

    #[test]
    fn a_word_names_its_holder_or_nobody() {
        assert_eq!(Holder::named_by(FREE), None);
        assert_eq!(Holder::named_by(RECOVERED), None);
        for (id, generation) in [(0, 1), (u16::MAX, 1), (3, (1 << 48) - 1)] {
            let holder = Holder::new(id, generation);
            assert_eq!(Holder::named_by(holder.0), Some(holder));
            assert_eq!(holder.id(), id);
        }
        assert!(!is_owed(FREE) && is_owed(RECOVERED) && is_owed(holder(0).0));
    }

    #[test]
    fn permits_are_taken_and_given_back() {
        let memory = Memory::new(3, 1);
        let table = memory.table();
        let first = table.try_take(holder(1), 2).unwrap();
        assert_eq!(first, Taken { index: 2, recovered: false });
        assert_eq!(table.try_take(holder(1), 2).unwrap().index, 0);
        let mut taken = Vec::new();
        assert!(!table.take_many(holder(2), 2, &mut taken) && taken.is_empty() && table.free() == 1);
        assert!(table.take_many(holder(2), 1, &mut taken));
        assert_eq!(table.try_take(holder(3), 9), None);
        assert!(!table.give_back(2), "nobody waits");
        assert_eq!(table.free(), 1);
    }

    #[test]
    fn the_dead_are_swept_and_what_they_held_is_told_once() {
        let memory = Memory::new(2, 4);
        let table = memory.table();
        table.try_take(holder(1), 0).unwrap();
        table.try_take(holder(2), 1).unwrap();
        let waiter = table.line_up(holder(1), 1).unwrap();
        table.announce(&waiter);
        assert_eq!(table.sweep(|who| who == holder(1)), 1);
        assert!(table.is_quiet(), "the dead one's waiter_slot and the flags are free again");
        let mut taken = Vec::new();
        assert!(!table.take_many(holder(3), 2, &mut taken));
        let taken = table.take(holder(3)).unwrap();
        assert!(taken.recovered, "too few were taken and given back: it is still told");
        table.give_back(taken.index);
        assert!(!table.take(holder(3)).unwrap().recovered);
        assert_eq!(table.sweep(|_| false), 0);
    }

    #[test]
    fn who_waits_is_called_in_order_and_only_for_what_is_free() {
        let memory = Memory::new(2, 4);
        let table = memory.table();
        let mut taken = Vec::new();
        assert!(table.take_many(holder(1), 2, &mut taken));
        let [one, two, three] = [(2, 2), (3, 1), (4, 1)].map(|(id, need)| table.line_up(holder(id), need).unwrap());
        for waiter in [&one, &two, &three] {
            table.announce(waiter);
        }
        assert!(table.call_next().is_none(), "nothing is free");
        assert!(table.give_back(0));
        assert!(table.call_next().is_none(), "the first needs two");
        assert!(!table.is_next(&one) && !table.is_next(&two));
        table.give_back(1);
        assert!(std::ptr::eq(table.call_next().unwrap(), table.call_of(&one)));
        assert!(table.call_next().is_none(), "it is under way");
        assert!(table.is_next(&one) && !table.is_next(&two));
        // It does not come: those behind it are served meanwhile, once somebody has seen it not come for so long.
        let mut watch = CallWatch::default();
        assert!(!watch.look(&table, 5) && !watch.look(&table, 4 + LATE_NS));
        assert!(table.is_behind_called(&two) && !table.is_next(&two));
        assert!(watch.look(&table, 5 + LATE_NS) && !watch.look(&table, 5 + 2 * LATE_NS));
        assert!(std::ptr::eq(table.call_next().unwrap(), table.call_of(&two)));
        assert!(table.is_next(&two) && table.is_next(&three));
        table.announce(&one);
        assert!(!table.is_next(&two));
        for waiter in [one, two, three] {
            table.leave(waiter);
        }
        assert!(table.is_quiet());
    }

    #[test]
    fn a_closed_door_lets_no_newcomer_in_and_opens_when_somebody_leaves() {
        let memory = Memory::new(1, 1);
        let table = memory.table();
        let waiter = table.line_up(holder(1), 1).unwrap();
        assert!(table.line_up(holder(2), 1).is_none(), "there is one waiter_slot");
        table.announce(&waiter);
        assert!(table.try_take(holder(2), 0).is_some());
        table.give_back(0);
        table.close();
        assert!(table.try_take(holder(2), 0).is_none() && table.take(holder(1)).is_some());
        table.leave(waiter);
        table.give_back(0);
        assert!(table.try_take(holder(2), 0).is_some());
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn who_gave_up_counts_no_more_although_its_slot_is_not_left_yet() {
        let memory = Memory::new(1, 3);
        let table = memory.table();
        let [first, second] = [2, 3].map(|id| table.line_up(holder(id), 1).unwrap());
        assert!(first.ticket() < second.ticket());
        table.announce(&first);
        table.announce(&second);
        table.close();
        assert!(!table.is_next(&second) && !table.is_called(&first));
        table.give_up(&first);
        assert!(table.is_called(&first), "nobody sleeps on its word");
        assert!(table.is_next(&second) && !table.is_closed());
        assert!(std::ptr::eq(table.call_next().unwrap(), table.call_of(&second)));
        table.leave(first);
        table.leave(second);
        assert!(table.is_quiet());
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn a_false_call_keeps_nobody_from_its_turn() {
        let memory = Memory::new(1, 1);
        let table = memory.table();
        let waiter = table.line_up(holder(1), 1).unwrap();
        table.announce(&waiter);
        assert!(table.call_falsely(&waiter) && table.is_called(&waiter) && !table.call_falsely(&waiter));
        assert!(table.call_next().is_none(), "it is believed to be on its way");
        table.announce(&waiter);
        assert!(!table.is_called(&waiter) && table.is_next(&waiter));
    }

    #[test]
    fn the_dead_are_looked_for_by_one_at_a_time() {
        let memory = Memory::new(1, 1);
        let table = memory.table();
        assert!(table.must_sweep(100, 40) && !table.must_sweep(139, 40) && table.must_sweep(140, 40));
        assert!(table.must_sweep(5, 40), "the clock of another time namespace");
    }

    #[test]
    fn w3_a_call_is_passed_over_by_its_name_and_however_long_it_stands_there() {
        let memory = Memory::new(1, 2);
        let table = memory.table();
        let stopped = table.line_up(holder(1), 1).unwrap();
        table.announce(&stopped);
        table.close();
        let call = || memory.waiter_slots[0].call.load(Ordering::Relaxed);
        // Names do not repeat, and are neither of the two that mean something else, also where the count begins anew.
        memory.wait_queue.calls.store(u32::MAX - 4, Ordering::Relaxed);
        let mut names = Vec::new();
        for _ in 0..10 {
            assert!(table.call_next().is_some());
            names.push(call());
            table.announce(&stopped);
        }
        assert!(names.iter().all(|name| ![0, PASSED_OVER].contains(name)), "{names:?}");
        names.dedup();
        assert_eq!(names.len(), 10);
        // It is called, and stopped, for any time at all, by the clock of the process that scans.
        for apart_ns in [LATE_NS, 1 << 32, (1 << 32) * 1000, 1 << 41, u64::MAX / 2] {
            let mut watch = CallWatch::default();
            table.close();
            assert!(table.call_next().is_some());
            assert!(table.call_next().is_none(), "it is on its way");
            assert!(!watch.look(&table, 7));
            assert!(table.try_take(holder(2), 0).is_none(), "the door is closed");
            assert!(watch.look(&table, 7 + apart_ns), "{apart_ns}");
            let taken = table.try_take(holder(2), 0).expect("nobody else gets it");
            table.give_back(taken.index);
            table.announce(&stopped); // it goes on
        }
        // Another call than the one that was seen before is a new one.
        let mut watch = CallWatch::default();
        assert!(table.call_next().is_some() && !watch.look(&table, 7));
        table.announce(&stopped);
        assert!(table.call_next().is_some() && !watch.look(&table, 7 + 2 * LATE_NS));
    }
}
