//! Anonymous shared memory: memfd_create(2), file seals (fcntl(2)), and the mapping.

use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::fork::ForkGuard;
use crate::error::{Error, ErrorKind, Result};

/// Makes an anonymous memory object of `size` bytes that can neither shrink nor grow, nor be executed.
///
/// The size is checked against RLIMIT_FSIZE first: above it `ftruncate` raises SIGXFSZ and kills the process.
pub fn create_sealed(size: usize) -> Result<OwnedFd> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    if limit.current.is_some_and(|limit| (size as u64) > limit) {
        let limit = limit.current.unwrap_or_default();
        return Err(Error::new(
            ErrorKind::Io,
            format!(
                "a segment of {size} bytes is above this process's file size limit of {limit} bytes: raise `ulimit -f`"
            ),
        ));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create("wigwag", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("wigwag", flags), // before Linux 6.3
        other => other,
    }
    .map_err(|error| Error::io("create a shared memory object", error))?;
    ftruncate(&memory, size as u64)
        .map_err(|error| Error::io(format_args!("size a segment to {size} bytes"), error))?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)
        .map_err(|error| Error::io("seal a segment's size", error))?;
    Ok(memory)
}

/// Forbids every further writable mapping, `write` and hole, and any change of the seals.
///
/// Called once both sides have mapped: the two mappings stay writable, everything else is refused from then on.
pub fn seal_finally(memory: impl AsFd) -> Result<()> {
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    fcntl_add_seals(&memory, seals)
        // Before Linux 5.1 there is no FUTURE_WRITE; the size is sealed all the same.
        .or_else(|error| if error == Errno::INVAL { fcntl_add_seals(&memory, SealFlags::SEAL) } else { Err(error) })
        .map_err(|error| Error::io("seal a segment", error))
}

/// Checks that a descriptor from the server is what it must be: a regular memory object of exactly `size` bytes whose
/// size is sealed. Only then can no access to a mapping of it raise SIGBUS.
pub fn check_sealed(memory: impl AsFd, size: usize) -> Result<()> {
    let violation = |what: String| Error::new(ErrorKind::Violation, format!("the server sent a segment that {what}"));
    let seals = fcntl_get_seals(&memory).map_err(|_| violation("cannot be sealed: it is not a memfd".into()))?;
    if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
        return Err(violation(format!("can still change its size (seals {seals:?})")));
    }
    let stat = fstat(&memory).map_err(|error| Error::io("look at the segment", error))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(violation("is not a regular memory object".into()));
    }
    // A hugetlb memfd carries the same seals and still raises SIGBUS when its pool is empty.
    let filesystem = rustix::fs::fstatfs(&memory).map_err(|error| Error::io("look at the segment", error))?;
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    if filesystem.f_type as i64 != TMPFS_MAGIC {
        return Err(violation(format!("is not of the kernel's tmpfs but of type {:#x}", filesystem.f_type)));
    }
    if stat.st_size as u64 != size as u64 {
        return Err(violation(format!("has {} bytes where {size} were announced", stat.st_size)));
    }
    Ok(())
}

/// Reads bytes of a memory object without mapping them: holes read as zeros and stay holes, and nothing can fault.
pub fn read_exact(memory: impl AsFd, mut offset: u64, mut into: &mut [u8]) -> bool {
    while !into.is_empty() {
        match rustix::io::pread(&memory, &mut *into, offset) {
            Ok(0) => return false,
            Ok(count) => {
                into = &mut into[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// A shared, writable mapping that is unmapped on drop.
///
/// **Invariant M1.** `base` is page-aligned and `[base, base + size)` stays mapped until drop, in the process that made
/// it. A forked child does not have the range at all (MADV_DONTFORK), so drop does nothing there.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    size: usize,
    fork: ForkGuard,
}

// SAFETY: the mapping belongs to the process, not to a thread; what may be done with its bytes is ruled by `Segment`.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out only an address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `size` bytes of a memory object and touches the first `touch` of them, so that no later access faults there
    /// and the memory is charged to the caller.
    pub fn new(memory: impl AsFd, size: usize, touch: usize) -> Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(ptr::null_mut(), size, protection, MapFlags::SHARED, memory, 0) }
            .map_err(|error| Error::io(format_args!("map a segment of {size} bytes"), error))?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| Error::new(ErrorKind::Io, "the kernel mapped a segment at address zero"))?;
        let mapping = Mapping { base, size, fork: ForkGuard::new() };
        mapping.advise(size, Advice::LinuxDontFork)?;
        mapping.advise(size, Advice::LinuxDontDump)?;
        mapping.touch(touch.min(size))?;
        Ok(mapping)
    }

    fn advise(&self, len: usize, advice: Advice) -> Result<()> {
        // SAFETY: the range lies within the mapping (M1), and none of the advices used here discards data.
        unsafe { madvise(self.base.as_ptr().cast::<c_void>(), len, advice) }
            .map_err(|error| Error::io(format_args!("advise the kernel about a segment ({advice:?})"), error))
    }

    fn touch(&self, len: usize) -> Result<()> {
        // SAFETY: as in `advise`.
        match unsafe { madvise(self.base.as_ptr().cast::<c_void>(), len, Advice::LinuxPopulateWrite) } {
            Ok(()) => Ok(()),
            Err(Errno::INVAL) => {
                // Before Linux 5.14: one atomic "add nothing" a page, which faults it in and changes nothing.
                for offset in (0..len).step_by(4096) {
                    // SAFETY: `offset < len <= size` (M1); the address is page-aligned, so aligned for the atomic.
                    let word = unsafe { &*self.base.as_ptr().add(offset).cast::<std::sync::atomic::AtomicU64>() };
                    word.fetch_add(0, std::sync::atomic::Ordering::Relaxed);
                }
                Ok(())
            }
            Err(error) => Err(Error::io(format_args!("reserve {len} bytes of shared memory"), error)),
        }
    }

    /// The first byte.
    #[inline(always)]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Whether this is a child process, which does not have the mapping.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// The number of bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.fork.is_forked() {
            return; // M1: there may be something else at this address by now
        }
        // SAFETY: the range is exactly the mapping (M1), and with `self` the last borrow of it ends.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_change_its_size_nor_be_mapped_again_once_sealed() {
        let memory = create_sealed(8192).unwrap();
        assert!(ftruncate(&memory, 4096).is_err());
        assert!(ftruncate(&memory, 16384).is_err());
        check_sealed(&memory, 8192).unwrap();
        let mapping = Mapping::new(&memory, 8192, 8192).unwrap();
        seal_finally(&memory).unwrap();
        assert!(Mapping::new(&memory, 8192, 0).is_err(), "a writable mapping after the final seal");
        assert!(rustix::io::pwrite(&memory, b"x", 0).is_err());
        // The mapping made before stays writable.
        // SAFETY: in bounds (M1), and nobody else has the mapping.
        unsafe { mapping.base().as_ptr().write_volatile(7) };
        let mut byte = [0];
        rustix::io::pread(&memory, &mut byte, 0).unwrap();
        assert_eq!(byte, [7]);
    }

    #[test]
    fn a_segment_of_another_size_or_without_seals_is_refused() {
        let memory = create_sealed(8192).unwrap();
        assert_eq!(check_sealed(&memory, 4096).unwrap_err().kind(), ErrorKind::Violation);
        let unsealed = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, 8192).unwrap();
        assert_eq!(check_sealed(&unsealed, 8192).unwrap_err().kind(), ErrorKind::Violation);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(check_sealed(&file, 0).unwrap_err().kind(), ErrorKind::Violation);
    }
}
