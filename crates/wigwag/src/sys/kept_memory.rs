//! Memory that forked children keep, privately, for languages whose references outlive a fork.
//!
//! A segment is not inherited (MADV_DONTFORK): a child that touched it would end by SIGSEGV. Rust's borrows make that a
//! matter of this library, which never does. Where references are counted at run time, as in Python, a child has its
//! parent's views and may touch them. Once [`keep_in_children`] was called, a handler in each child maps a private copy
//! (MAP_PRIVATE, copied page by page when it is written to) to the addresses of every segment. So the child reads what
//! was there, writes to nobody's memory but its own, and never faults.
//!
//! The handlers are those of `pthread_atfork`: they run for `fork`, not for a raw `clone`, and not for `posix_spawn`,
//! whose child begins another program at once.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Whether segments that are mapped from now on are kept.
static IS_ON: AtomicBool = AtomicBool::new(false);
static HANDLERS: Once = Once::new();
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);
static TABLE: Table = Table { is_locked: AtomicBool::new(false), entries: UnsafeCell::new(Vec::new()) };

/// All kept memory of this process. Its lock is taken across a fork, by the thread that forks: what the child finds is
/// whole.
struct Table {
    is_locked: AtomicBool,
    entries: UnsafeCell<Vec<Entry>>,
}

// SAFETY: the entries are reached under the lock alone.
unsafe impl Sync for Table {}

struct Entry {
    number: u64,
    base: usize,
    /// What is mapped from `base` on: offset and length in the memory object.
    parts: Vec<(usize, usize)>,
    memory: RawFd,
    /// A child that has its private copy; its own children inherit that.
    is_private: bool,
}

impl Table {
    /// Held for some stores, or for a fork.
    fn lock(&self) {
        // Acquire, with the Release of `unlock`.
        while self.is_locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.is_locked.store(false, Ordering::Release);
    }

    fn with<R>(&self, using: impl FnOnce(&mut Vec<Entry>) -> R) -> R {
        self.lock();
        // SAFETY: under the lock there is no other reference, and `using` does not come here again.
        let result = using(unsafe { &mut *self.entries.get() });
        self.unlock();
        result
    }
}

/// From now on, what this process maps of sessions is kept in its children.
pub fn keep_in_children() -> Result<()> {
    let mut outcome = Ok(());
    HANDLERS.call_once(|| {
        // SAFETY: the handlers are functions that stay, and do what such handlers may do: see each.
        let code = unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
        if code != 0 {
            outcome = Err(Error::io("register what happens at a fork", std::io::Error::from_raw_os_error(code)));
        }
    });
    outcome?;
    IS_ON.store(true, Ordering::Relaxed);
    Ok(())
}

extern "C" fn before_fork() {
    TABLE.lock();
}

extern "C" fn after_fork() {
    TABLE.unlock();
}

/// Makes system calls and stores only: other threads of the parent may have held any lock.
extern "C" fn in_child() {
    // SAFETY: the lock was taken before the fork, by this very thread.
    let entries = unsafe { &mut *TABLE.entries.get() };
    for entry in entries.iter_mut().filter(|entry| !entry.is_private) {
        let mut base = entry.base;
        for &(offset, len) in &entry.parts {
            // SAFETY: the range was the parent's mapping, which the child did not inherit: nothing is there. Should the
            // kernel refuse, it stays so. No memory is reserved, because hardly any of it is ever written to.
            unsafe {
                libc::mmap(
                    base as *mut c_void,
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
                    entry.memory,
                    offset as libc::off_t,
                );
            }
            base += len;
        }
        // SAFETY: it is the child's own number of the descriptor, and nothing uses it from here on.
        unsafe { libc::close(entry.memory) };
        entry.is_private = true;
    }
    TABLE.unlock();
}

/// Keeps one mapping in children for as long as it lives; nothing, unless that is [on](keep_in_children).
#[derive(Debug)]
pub struct KeptMemory(u64);

impl KeptMemory {
    /// `base`: where `parts` of `memory`, each an offset and a length, are mapped one after the other.
    pub fn new(base: usize, parts: &[(usize, usize)], memory: BorrowedFd<'_>) -> Result<Option<KeptMemory>> {
        if !IS_ON.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let copy =
            memory.try_clone_to_owned().map_err(|error| Error::io("keep a memory object for children", error))?;
        debug_assert!(copy.as_raw_fd() >= 0);
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { number, base, parts: parts.to_vec(), memory: copy.into_raw_fd(), is_private: false };
        TABLE.with(|entries| entries.push(entry));
        Ok(Some(KeptMemory(number)))
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        let entry = TABLE.with(|entries| {
            let index = entries.iter().position(|entry| entry.number == self.0)?;
            // In a child it stays: its addresses are taken.
            (!entries[index].is_private).then(|| entries.swap_remove(index))
        });
        if let Some(entry) = entry {
            // SAFETY: the table owned it, and it has left the table.
            unsafe { libc::close(entry.memory) };
        }
    }
}
