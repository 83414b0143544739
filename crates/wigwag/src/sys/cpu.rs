//! Which processors a thread may use: one who shares its only processor with the peer must never spin.

use rustix::thread::{CpuSet, sched_getaffinity};

/// Stands for "more than one processor" or "not known" in an affinity word.
pub const MANY: u32 = 0;

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

#[cfg(test)]
mod tests {
    use super::*;

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
