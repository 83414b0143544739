//! Where the two sides run: what each tells the other of its processor, and who makes room.
//!
//! Two that spin on one processor only stand in each other's way, for whole time slices. So each side publishes which
//! processor it is on and which one it is bound to, and one of the two moves. All of these words are hints: a wrong one
//! wastes a spin or moves a thread within what it may use.

use crate::sync::{AtomicU32, Ordering};
use crate::sys::cpu;

/// Sleeps between two looks at a thread's own affinity.
pub const SLEEPS_PER_AFFINITY: u32 = 64;
/// Minimum sleeps between two moves off the server's processor. Other load may keep putting this thread back; it does
/// not spend its time on moving.
const SLEEPS_PER_MOVE: u64 = 16;

/// Tells the other side the only processor that this thread may use, if there is only one, and learns the same of it:
/// whether both have one processor between them, so that neither may spin.
pub fn exchange_affinity(mine: &AtomicU32, theirs: &AtomicU32) -> bool {
    let only = cpu::only_processor();
    // Hints, on both sides.
    mine.store(only, Ordering::Relaxed);
    cpu::share_one_processor(only, theirs.load(Ordering::Relaxed))
}

/// Moves this thread off the processor that the other side published, if it is on it.
pub fn leave_shared(published: u32) {
    let mine = cpu::current();
    if published & !cpu::POLLED == mine {
        cpu::move_off(mine);
    }
}

/// What a serving thread publishes as its processor.
pub fn published(mine: u32, is_polling: bool) -> u32 {
    if is_polling { mine | cpu::POLLED } else { mine }
}

/// What it publishes with the reply after which it polls. The client spins for one that leaves, and moves off the
/// processor of one that stays.
pub fn published_before_polling(mine: u32, theirs: u32, may_move: bool) -> u32 {
    if may_move && theirs == mine { cpu::LEAVING } else { mine | cpu::POLLED }
}

/// How often a thread moves off its server's processor.
#[derive(Debug, Default)]
pub struct MoveLimit {
    may_move_at: u64,
}

impl MoveLimit {
    /// Called at each sleep: whether it may move now, and then not again for a while.
    pub fn may_move(&mut self, sleeps: u64) -> bool {
        let may_move = sleeps >= self.may_move_at;
        if may_move {
            self.may_move_at = sleeps + SLEEPS_PER_MOVE;
        }
        may_move
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::thread::{CpuSet, sched_setaffinity};

    use super::*;

    #[test]
    fn a_thread_moves_once_in_sixteen_sleeps() {
        let mut limit = MoveLimit::default();
        let moves: Vec<u64> = (0..40).filter(|&sleeps| limit.may_move(sleeps)).collect();
        assert_eq!(moves, [0, 16, 32]);
        assert!(!limit.may_move(40), "several times within one sleep count as one");
    }

    #[test]
    fn a_serving_thread_says_whether_it_polls_or_leaves() {
        assert_eq!(published(3, false), 3);
        assert_eq!(published(3, true), 3 | cpu::POLLED);
        assert_eq!(published_before_polling(3, 3, true), cpu::LEAVING);
        assert_eq!(published_before_polling(3, 3, false), 3 | cpu::POLLED);
        assert_eq!(published_before_polling(3, 4, true), 3 | cpu::POLLED);
    }

    #[test]
    fn each_side_learns_what_the_other_is_bound_to() {
        let bound = std::thread::spawn(|| {
            let mut one = CpuSet::new();
            one.set(cpu::current() as usize - 1);
            sched_setaffinity(None, &one).unwrap();
            let (mine, theirs) = (AtomicU32::new(u32::MAX), AtomicU32::new(cpu::MANY));
            assert!(!exchange_affinity(&mine, &theirs), "a thread that may use many shares none");
            let only = mine.load(Ordering::Relaxed);
            assert_eq!(only, cpu::only_processor());
            theirs.store(only, Ordering::Relaxed);
            assert!(exchange_affinity(&mine, &theirs));
            theirs.store(only + 1, Ordering::Relaxed);
            assert!(!exchange_affinity(&mine, &theirs));
        });
        bound.join().unwrap();
    }
}
