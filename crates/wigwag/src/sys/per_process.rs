//! A static that each process has for itself: a forked child begins with a new one.
//!
//! A lock that another thread of the parent held at the moment of the fork stays locked in the child for ever, as that
//! thread does not exist there. So a list of a whole process under a lock must not be the parent's: nobody in the child
//! waits for that lock, and nobody in the parent need give up a wait for fear of it.

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::sys::fork::ForkGuard;

/// A value of the process, made when it is needed first. What a child has inherited is neither used nor freed there.
#[derive(Debug)]
pub struct PerProcess<T: 'static> {
    current: AtomicPtr<OfProcess<T>>,
    make: fn() -> T,
}

#[derive(Debug)]
struct OfProcess<T> {
    fork: ForkGuard,
    value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    /// Of nobody yet.
    pub const fn new(make: fn() -> T) -> PerProcess<T> {
        PerProcess { current: AtomicPtr::new(std::ptr::null_mut()), make }
    }

    /// This process's own.
    pub fn get(&self) -> &'static T {
        // Acquire: with the exchange below, by which another thread has published it.
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: it is null or was leaked below, so it lives for ever, and nobody has it to write to.
        if let Some(current) = unsafe { current.as_ref() }
            && !current.fork.is_forked()
        {
            return &current.value;
        }
        let fresh = Box::into_raw(Box::new(OfProcess { fork: ForkGuard::new(), value: (self.make)() }));
        let published = match self.current.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fresh,
            Err(other) => {
                // SAFETY: it was made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                other
            }
        };
        // SAFETY: as above; another thread's is not null.
        unsafe { &(*published).value }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use wigwag_testing::process_starts;

    static COUNT: PerProcess<Mutex<u32>> = PerProcess::new(|| Mutex::new(7));

    #[test]
    fn a_child_has_its_own_though_the_parents_is_locked() {
        let _guard = process_starts();
        let mut ours = COUNT.get().lock().unwrap();
        *ours += 1;
        // SAFETY: the child calls nothing but the function under test, which allocates, and _exit: the allocator of the
        // C library is usable in a forked child.
        match unsafe { libc::fork() } {
            0 => {
                let is_fresh = COUNT.get().try_lock().is_ok_and(|theirs| *theirs == 7);
                // SAFETY: nothing of the parent's is to be run at this exit.
                unsafe { libc::_exit(i32::from(!is_fresh)) }
            }
            child => {
                let mut status = -1;
                // SAFETY: the status is a place of this frame.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0, "the child has the parent's");
            }
        }
        assert_eq!(*ours, 8);
        drop(ours);
        assert_eq!(*COUNT.get().lock().unwrap(), 8, "it stays what it was");
    }

    #[test]
    fn threads_that_begin_together_have_the_same() {
        static ONE: PerProcess<Mutex<u32>> = PerProcess::new(|| Mutex::new(0));
        let all: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| &raw const *ONE.get() as usize)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|it| *it == all[0]), "{all:?}");
    }
}
