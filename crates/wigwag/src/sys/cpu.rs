//! Which processors a thread may use: one who shares its only processor with the peer must never spin.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Stands for "more than one processor" or "not known" in an affinity word.
pub const MANY: u32 = 0;

/// Published as the processor of a thread that is about to leave the one it is on: where it will be is not known yet.
pub const LEAVING: u32 = 0;

/// Added to a published processor by a thread that polls there: a peer on the same processor must leave it to go on.
pub const POLLED: u32 = 1 << 31;

/// The affinity of the calling thread as one word: `n + 1` if processor `n` is the only one allowed, else [`MANY`].
pub fn only_processor() -> u32 {
    let Ok(set) = sched_getaffinity(None) else { return MANY };
    if set.count() != 1 {
        return MANY;
    }
    let only = (0..CpuSet::MAX_CPU).find(|&cpu| set.is_set(cpu));
    only.map_or(MANY, |cpu| cpu as u32 + 1)
}

/// Whether two affinity words say that both threads share one single processor.
pub fn share_one_processor(mine: u32, theirs: u32) -> bool {
    mine != MANY && mine == theirs
}

/// The processor this thread runs on just now, as `n + 1`.
pub fn current() -> u32 {
    rustix::thread::sched_getcpu() as u32 + 1
}

/// Lets another thread that waits for this processor run first (sched_yield(2)).
pub fn give_way() {
    rustix::thread::sched_yield();
}

/// Moves the calling thread to a processor (`n + 1`), if it may run there. It is free to be moved again afterwards: it
/// may use the same processors as before. (What the kernel reports and takes back is the set allowed just now;
/// processors that are added to the thread's cpuset later are not in it.)
pub fn move_to(processor: u32) {
    move_within(
        |set, wanted| {
            let may = set.is_set(wanted);
            set.clear();
            if may {
                set.set(wanted);
            }
        },
        processor,
    );
}

/// Moves the calling thread off a processor (`n + 1`), if it may run on another.
pub fn move_off(processor: u32) {
    move_within(CpuSet::unset, processor);
}

/// Narrows the affinity for a moment, which makes the kernel move the thread, and restores it (sched_setaffinity(2)).
fn move_within(narrow: impl FnOnce(&mut CpuSet, usize), processor: u32) {
    let Some(wanted) = (processor as usize).checked_sub(1).filter(|&wanted| wanted < CpuSet::MAX_CPU) else { return };
    let Ok(chosen) = sched_getaffinity(None) else { return };
    let mut narrowed = chosen;
    narrow(&mut narrowed, wanted);
    if narrowed.count() > 0 && narrowed != chosen && sched_setaffinity(None, &narrowed).is_ok() {
        // Cannot fail while one of the processors in it is online; if it did, any processor is better than this one
        // alone.
        if sched_setaffinity(None, &chosen).is_err() {
            let mut any = CpuSet::new();
            (0..CpuSet::MAX_CPU).for_each(|processor| any.set(processor));
            let _ = sched_setaffinity(None, &any);
        }
    }
}

/// From now on this thread gives way to all others (setpriority(2)).
pub fn be_unimportant() {
    // SAFETY: no memory is involved; on Linux 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_leaves_the_affinity_as_it_was() {
        let before = sched_getaffinity(None).unwrap();
        for processor in [0, current(), current() + 1, u32::MAX] {
            move_off(processor);
            move_to(processor);
            assert!(sched_getaffinity(None).unwrap() == before);
        }
    }

    #[test]
    fn a_pinned_thread_says_so() {
        std::thread::spawn(|| {
            let allowed = sched_getaffinity(None).unwrap();
            let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).unwrap();
            let mut one = CpuSet::new();
            one.set(first);
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            assert_eq!(only_processor(), first as u32 + 1);
            rustix::thread::sched_setaffinity(None, &allowed).unwrap();
            assert_eq!(only_processor() == MANY, allowed.count() != 1);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn many_is_never_one() {
        assert!(!share_one_processor(MANY, MANY));
        assert!(!share_one_processor(1, 2));
        assert!(share_one_processor(2, 2));
    }
}
