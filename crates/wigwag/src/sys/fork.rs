//! Noticing a fork: a page that the kernel empties in every child (MADV_WIPEONFORK, Linux 4.14, madvise(2)).
//!
//! `pthread_atfork` would miss a raw `clone`, and a PID may be reused; the page misses nothing and costs one load.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Survives a fork with its value, so a child never repeats a generation of its parent.
static LAST_GENERATION: AtomicU64 = AtomicU64::new(0);
static PAGE: OnceLock<&'static AtomicU64> = OnceLock::new();
/// Stands in where the kernel cannot empty a page: it is never emptied, so a fork goes unnoticed here, and the child's
/// use ends in SIGSEGV instead, because segments are MADV_DONTFORK.
static NEVER_WIPED: AtomicU64 = AtomicU64::new(0);

/// What a handle keeps to learn whether a fork lies between its making and its use.
#[derive(Clone, Copy, Debug)]
pub struct ForkGuard {
    page: &'static AtomicU64,
    generation: u64,
}

impl ForkGuard {
    /// Remembers the process of the caller.
    pub fn new() -> ForkGuard {
        let page = *PAGE.get_or_init(|| wiped_page().unwrap_or(&NEVER_WIPED));
        let generation = match page.load(Ordering::Relaxed) {
            0 => {
                // The first handle of this process, or of this child. Relaxed: two threads that race here agree through
                // the compare-exchange, and the loser takes the winner's number.
                let fresh = LAST_GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
                page.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed).err().unwrap_or(fresh)
            }
            generation => generation,
        };
        ForkGuard { page, generation }
    }

    /// Which process that was: no child has the number of its parent.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the caller is a child that inherited the handle.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.page.load(Ordering::Relaxed) != self.generation
    }
}

/// Ends a forked child that has nowhere to go on: at once, as buffers and what is done at an exit are its parent's.
pub fn end_child() -> ! {
    // SAFETY: no memory is involved, and nothing runs after it.
    unsafe { libc::_exit(1) }
}

/// Whether the kernel empties the page in a child.
pub fn is_noticed() -> bool {
    !ptr::eq(ForkGuard::new().page, &NEVER_WIPED)
}

/// One page for the life of the process; `None` on a kernel without MADV_WIPEONFORK.
fn wiped_page() -> Option<&'static AtomicU64> {
    const SIZE: usize = 4096;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
    let page =
        unsafe { mmap_anonymous(ptr::null_mut(), SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: the range is the whole mapping made above, and nobody has a reference into it yet.
    if unsafe { madvise(page, SIZE, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: as above; it is not used after.
        let _ = unsafe { rustix::mm::munmap(page, SIZE) };
        return None;
    }
    // SAFETY: page-aligned, zeroed, never unmapped, and only ever accessed as this atomic.
    Some(unsafe { &*page.cast::<AtomicU64>() })
}
