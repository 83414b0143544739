//! Memory that the two processes of a raw contender share: a memfd, mapped once, kept until the process ends.
//!
//! Only the raw contenders use this file; Wigwag brings its own memory. A bench process measures one case and exits,
//! so a mapping is never taken down, and what points into it may be `'static`.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use anyhow::Context as _;
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// A cache line.
pub const LINE: usize = 64;

/// Shared memory of a fixed size.
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping stays until the value is dropped, on whichever thread; its words are atomics, and each user of a
// region says why nobody else has it.
unsafe impl Send for Memory {}
// SAFETY: as above. What `&self` gives are atomics and regions, and a region stays on the thread that asked for it.
unsafe impl Sync for Memory {}

/// A part of it that belongs to the side that has the turn.
#[derive(Clone, Copy)]
pub struct Region {
    data: NonNull<u8>,
    len: usize,
}

/// Makes the memory; its descriptor goes to both processes.
pub fn create(len: usize) -> anyhow::Result<OwnedFd> {
    let descriptor = rustix::fs::memfd_create("wigwag-bench", MemfdFlags::CLOEXEC).context("no memfd could be made")?;
    rustix::fs::ftruncate(&descriptor, len as u64).context("the memfd cannot be sized")?;
    Ok(descriptor)
}

impl Memory {
    /// Maps the first `len` bytes of a descriptor that [`create`] made.
    pub fn map(descriptor: impl AsFd, len: usize) -> anyhow::Result<Memory> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice overlaps no memory that Rust knows of.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, descriptor, 0) };
        let base = base.context("the memfd cannot be mapped")?;
        let base = NonNull::new(base.cast()).context("the memfd was mapped at zero")?;
        Ok(Memory { base, len })
    }

    /// The 64-bit word at a byte offset.
    pub fn word(&self, offset: usize) -> &'static AtomicU64 {
        // SAFETY: `at` checked bounds and alignment; the mapping is never taken down; both processes go by atomics.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8, 8).as_ptr().cast()) }
    }

    /// The 32-bit word at a byte offset.
    pub fn word32(&self, offset: usize) -> &'static AtomicU32 {
        // SAFETY: `at` checked bounds and alignment; the mapping is never taken down; both processes go by atomics.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4, 4).as_ptr().cast()) }
    }

    /// The `len` bytes at a byte offset.
    pub fn region(&self, offset: usize, len: usize) -> Region {
        Region { data: self.at(offset, len, 1), len }
    }

    fn at(&self, offset: usize, len: usize, alignment: usize) -> NonNull<u8> {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "{offset} + {len} is outside of the memory"
        );
        assert!(offset.is_multiple_of(alignment), "{offset} is not aligned to {alignment}");
        // SAFETY: the sum stays within the mapping, as just checked.
        unsafe { self.base.add(offset) }
    }
}

impl Region {
    /// The first byte, for what is no plain bytes.
    pub fn start(self) -> *mut u8 {
        self.data.as_ptr()
    }

    /// The first `len` bytes.
    ///
    /// # Safety
    ///
    /// It must be the caller's turn, and the slice must not be used beyond it: the other process writes after that.
    #[inline(always)]
    pub unsafe fn bytes<'turn>(self, len: usize) -> &'turn mut [u8] {
        assert!(len <= self.len, "the contender was set up for fewer bytes");
        // SAFETY: within the mapping, which is never taken down; exclusive for as long as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), len) }
    }
}
