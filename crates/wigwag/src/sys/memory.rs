//! Anonymous shared memory: memfd_create(2), file seals (fcntl(2)), and the mapping.

use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fork::ForkGuard;
use crate::sys::kept_memory::KeptMemory;
use crate::sys::process;

/// Makes an anonymous memory object of `size` bytes that can neither shrink nor grow, nor be executed. `name` is for
/// people who look into `/proc`.
///
/// The size is checked against RLIMIT_FSIZE first: above it `ftruncate` raises SIGXFSZ and kills the process.
pub fn create_sealed(name: &str, size: usize) -> Result<OwnedFd> {
    check_file_size(size)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(name, flags), // before Linux 6.3
        other => other,
    }
    .map_err(|error| Error::io("create a shared memory object", error))?;
    ftruncate(&memory, size as u64)
        .map_err(|error| Error::io(format_args!("size a segment to {size} bytes"), error))?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)
        .map_err(|error| Error::io("seal a segment's size", error))?;
    Ok(memory)
}

/// Whether this process may make files of that size: above the limit `ftruncate` raises SIGXFSZ.
fn check_file_size(size: usize) -> Result<()> {
    if let Some(limit) = process::file_size_limit().filter(|limit| (size as u64) > *limit) {
        return Err(Error::new(
            ErrorKind::Io,
            format!(
                "a segment of {size} bytes is above this process's file size limit of {limit} bytes: raise `ulimit -f`"
            ),
        ));
    }
    Ok(())
}

/// The number by which others know a memory object; 0 if it is not to be had.
pub fn inode(memory: impl AsFd) -> u64 {
    fstat(memory).map_or(0, |stat| stat.st_ino)
}

/// Makes a file `size` bytes long, of which all from `keep` on are zeros.
pub fn empty_file(file: impl AsFd, keep: usize, size: usize) -> Result<()> {
    check_file_size(size)?;
    ftruncate(&file, keep as u64)
        .and_then(|()| ftruncate(&file, size as u64))
        .map_err(|error| Error::io(format_args!("size a file to {size} bytes"), error))
}

/// Makes the file system reserve room for the first `size` bytes of a file, which is that long already.
pub fn reserve(file: impl AsFd, size: usize) -> Result<()> {
    check_file_size(size)?;
    match crate::sys::retry(|| rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size as u64)) {
        Ok(()) => Ok(()),
        // The file system cannot do so.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_again(&file, size),
        Err(error) => Err(Error::io(format_args!("reserve {size} bytes of a file"), error)),
    }
}

/// Reads the first `size` bytes of a file and writes them again, page by page, so that none of them is a hole any more.
fn write_again(file: impl AsFd, size: usize) -> Result<()> {
    let mut page = [0; 4096];
    for offset in (0..size).step_by(page.len()) {
        let len = page.len().min(size - offset);
        if !read_exact(&file, offset as u64, &mut page[..len]) {
            return Err(Error::io("read a file", Errno::IO));
        }
        write_exact(&file, &page[..len], offset as u64)?;
    }
    Ok(())
}

/// Writes all of `bytes` into a file.
pub fn write_exact(file: impl AsFd, bytes: &[u8], offset: u64) -> Result<()> {
    check_file_size(offset as usize + bytes.len())?;
    match crate::sys::retry(|| rustix::io::pwrite(&file, bytes, offset)) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(Error::io("write to a file", Errno::NOSPC)),
        Err(error) => Err(Error::io("write to a file", error)),
    }
}

/// A memory object opened twice anew (`/proc/self/fd`): each opening is counted by the kernel, so that
/// [`is_open_elsewhere`] can tell of one whether the other is gone. The object as it was made is not counted.
pub fn open_twice(memory: impl AsFd) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd());
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let open = || rustix::fs::open(&path, flags, rustix::fs::Mode::empty());
    Ok((open()?, open()?))
}

/// Whether a file is open, mapped, or under way in a message by any other opening than this one: then no write lease is
/// to be had (F_SETLEASE, fcntl(2)). `false` also where the kernel gives no leases.
pub fn is_open_elsewhere(memory: impl AsFd) -> bool {
    use std::os::fd::AsRawFd;
    let fd = memory.as_fd().as_raw_fd();
    // SAFETY: no memory is involved.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) } != 0 {
        return std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
    }
    // SAFETY: as above.
    unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
    false
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

/// Checks that a descriptor from a server is what it must be: a regular memory object of exactly `size` bytes whose
/// size is sealed. Only then can no access to a mapping of it raise SIGBUS. `source` begins the sentence that says
/// otherwise.
pub fn check_sealed(memory: impl AsFd, size: usize, source: &str) -> Result<()> {
    let violation = |what: String| Error::new(ErrorKind::Violation, format!("{source} that {what}"));
    let seals = fcntl_get_seals(&memory).map_err(|_| violation("cannot be sealed: it is not a memfd".into()))?;
    if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
        return Err(violation(format!("can still change its size (seals {seals:?})")));
    }
    let stat = fstat(&memory).map_err(|error| Error::io("look at the memory object", error))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(violation("is not a regular memory object".into()));
    }
    // A hugetlb memfd carries the same seals and still raises SIGBUS when its pool is empty.
    let filesystem = rustix::fs::fstatfs(&memory).map_err(|error| Error::io("look at the memory object", error))?;
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

/// Reads what is there at the beginning of a file, as far as there is room: how many bytes.
pub fn read_some(file: impl AsFd, into: &mut [u8]) -> usize {
    crate::sys::retry(|| rustix::io::pread(&file, &mut *into, 0)).unwrap_or(0)
}

/// A shared mapping, writable unless it is said otherwise, that is unmapped on drop.
///
/// **Invariant M1.** `base` is page-aligned and `[base, base + size)` stays mapped until drop, in the process that made
/// it. A forked child does not have the range at all (MADV_DONTFORK), so drop does nothing there. Parts of the memory
/// object may be in it twice, one directly behind the other.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    size: usize,
    fork: ForkGuard,
    /// Dropped before the memory goes.
    kept: Option<KeptMemory>,
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
        Mapping { base, size, fork: ForkGuard::new(), kept: None }.prepared(touch)
    }

    /// Maps `size` bytes of a memory object to be read only: a write through it kills the process.
    pub fn read_only(memory: impl AsFd, size: usize) -> Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(ptr::null_mut(), size, ProtFlags::READ, MapFlags::SHARED, memory, 0) }
            .map_err(|error| Error::io(format_args!("map {size} bytes to be read"), error))?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| Error::new(ErrorKind::Io, "the kernel mapped a memory object at address zero"))?;
        Mapping { base, size, fork: ForkGuard::new(), kept: None }.prepared(0)
    }

    /// Maps a page of a file, however long that is, only to keep the open file description for as long as the mapping
    /// lives, in this process and no child of it. Nobody may look into it.
    pub fn to_keep(file: impl AsFd) -> Result<Mapping> {
        const SIZE: usize = 4096;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(ptr::null_mut(), SIZE, ProtFlags::empty(), MapFlags::PRIVATE, file, 0) }
            .map_err(|error| Error::io("map a lock file", error))?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| Error::new(ErrorKind::Io, "the kernel mapped a lock file at address zero"))?;
        Mapping { base, size: SIZE, fork: ForkGuard::new(), kept: None }.prepared(0)
    }

    /// Maps parts of a memory object, one directly behind the other: (offset, bytes), in whole pages. The first `touch`
    /// bytes are touched as in [`new`](Mapping::new).
    pub fn of_parts(memory: impl AsFd, parts: &[(usize, usize)], touch: usize) -> Result<Mapping> {
        let size = parts.iter().map(|(_, len)| len).sum();
        let failed = |error| Error::io(format_args!("map a segment of {size} bytes"), error);
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base =
            unsafe { mmap_anonymous(ptr::null_mut(), size, ProtFlags::empty(), MapFlags::PRIVATE) }.map_err(failed)?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| Error::new(ErrorKind::Io, "the kernel mapped a segment at address zero"))?;
        // From here on the whole range is unmapped on drop, also when a part cannot be mapped.
        let mapping = Mapping { base, size, fork: ForkGuard::new(), kept: None };
        let mut at = 0;
        for &(offset, len) in parts {
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: it replaces a part of the range reserved above, which nobody has a reference into: the parts'
            // sizes add up to the whole (M1).
            unsafe {
                let address = base.as_ptr().add(at).cast::<c_void>();
                mmap(address, len, ProtFlags::READ | ProtFlags::WRITE, flags, &memory, offset as u64)
            }
            .map_err(failed)?;
            at += len;
        }
        mapping.prepared(touch)
    }

    fn prepared(self, touch: usize) -> Result<Mapping> {
        self.advise(self.size, Advice::LinuxDontFork)?;
        self.advise(self.size, Advice::LinuxDontDump)?;
        self.touch(0..touch.min(self.size))?;
        Ok(self)
    }

    fn advise(&self, len: usize, advice: Advice) -> Result<()> {
        // SAFETY: the range lies within the mapping (M1), and none of the advices used here discards data.
        unsafe { madvise(self.base.as_ptr().cast::<c_void>(), len, advice) }
            .map_err(|error| Error::io(format_args!("advise the kernel about a segment ({advice:?})"), error))
    }

    /// Has forked children keep a private copy at the same addresses, if this process was told so. `parts`: what is
    /// mapped, one after the other.
    pub fn kept_in_children(mut self, memory: impl AsFd, parts: &[(usize, usize)]) -> Result<Mapping> {
        self.kept = KeptMemory::new(self.base.as_ptr() as usize, parts, memory.as_fd())?;
        Ok(self)
    }

    /// Touches a range in one call (Linux 5.14).
    pub fn populate(&self, range: Range<usize>) -> rustix::io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.size && range.start.is_multiple_of(4096));
        // SAFETY: in bounds of the mapping (M1), as asserted.
        let begin = unsafe { self.base.as_ptr().add(range.start) };
        // SAFETY: as in `advise`.
        unsafe { madvise(begin.cast::<c_void>(), range.len(), Advice::LinuxPopulateWrite) }
    }

    /// Makes the pages of a range be there, so that no later access faults and the memory is charged to the caller.
    pub fn touch(&self, range: Range<usize>) -> Result<()> {
        match self.populate(range.clone()) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL) => {
                // Before Linux 5.14: one atomic "add nothing" a page, which faults it in and changes nothing.
                for offset in range.step_by(4096) {
                    // SAFETY: in bounds (M1), as `populate` asserted; ranges begin at pages, so it is aligned for the
                    // atomic.
                    let word = unsafe { &*self.base.as_ptr().add(offset).cast::<std::sync::atomic::AtomicU64>() };
                    word.fetch_add(0, std::sync::atomic::Ordering::Relaxed);
                }
                Ok(())
            }
            // How the kernel says that a page cannot be had: nothing is wrong with the address.
            Err(Errno::FAULT) => Err(Error::io_told(
                format_args!("reserve {} bytes of shared memory", range.len()),
                "there is no memory for them, or no space left on their file system",
                Errno::NOMEM,
            )),
            Err(error) => Err(Error::io(format_args!("reserve {} bytes of shared memory", range.len()), error)),
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
        drop(self.kept.take()); // no child is to map what is gone
        // SAFETY: the range is exactly the mapping (M1), and with `self` the last borrow of it ends.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_emptied_from_where_it_is_to_be_kept_to() {
        let memory = create_sealed("wigwag", 4096).unwrap();
        assert_eq!(empty_file(&memory, 0, 0).unwrap_err().raw_os_error(), Some(libc::EPERM), "its size is sealed");
        let file = rustix::fs::memfd_create("file", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::pwrite(&file, b"kept and not kept", 0).unwrap();
        empty_file(&file, 4, 6).unwrap();
        let mut bytes = [1; 8];
        assert_eq!(rustix::io::pread(&file, &mut bytes, 0).unwrap(), 6);
        assert_eq!(bytes[..6], *b"kept\0\0");
    }

    #[test]
    fn what_is_reserved_is_there_as_it_was_also_where_the_file_system_cannot_do_so() {
        const SIZE: usize = 2 * 4096 + 100;
        let ways: [fn(&OwnedFd, usize) -> Result<()>; 2] =
            [|file, size| reserve(file, size), |file, size| write_again(file, size)];
        for way in ways {
            let file = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&file, SIZE as u64).unwrap();
            rustix::io::pwrite(&file, b"kept", 5000).unwrap();
            assert!(fstat(&file).unwrap().st_blocks < 3 * 8, "there are holes");
            way(&file, SIZE).unwrap();
            let stat = fstat(&file).unwrap();
            assert!(stat.st_blocks >= 3 * 8 && stat.st_size == SIZE as i64, "three pages of eight sectors");
            let mut bytes = vec![0; SIZE];
            assert!(read_exact(&file, 0, &mut bytes));
            assert_eq!(bytes[5000..5004], *b"kept");
            assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 4);
        }
        let short = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
        assert!(write_again(&short, 1).is_err(), "there is nothing to write again");
    }

    #[test]
    fn bytes_are_written_to_the_last_or_it_is_an_error() {
        let memory = create_sealed("wigwag", 4096).unwrap();
        write_exact(&memory, b"last", 4092).unwrap();
        // The kernel writes the first byte and then comes to the end, which is sealed: as on a disk that is full.
        let error = write_exact(&memory, b"!?", 4095).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        let mut bytes = [0; 4];
        assert!(read_exact(&memory, 4092, &mut bytes) && bytes == *b"las!");
    }

    #[test]
    fn what_there_is_of_a_file_is_read_as_far_as_there_is_room() {
        let file = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(read_some(&file, &mut bytes), 0);
        rustix::io::pwrite(&file, b"1 2\n", 0).unwrap();
        assert_eq!(read_some(&file, &mut bytes), 4);
        assert_eq!(bytes, *b"1 2\n\0\0\0\0");
        assert_eq!(read_some(&file, &mut bytes[..3]), 3);
    }

    #[test]
    fn what_is_opened_anew_can_be_mapped_to_be_written_and_is_not_inherited() {
        let memory = create_sealed("wigwag", 4096).unwrap();
        let (ours, theirs) = open_twice(&memory).unwrap();
        for opened in [ours, theirs] {
            assert_eq!(rustix::io::fcntl_getfd(&opened).unwrap(), rustix::io::FdFlags::CLOEXEC);
            assert_eq!(inode(&opened), fstat(&memory).unwrap().st_ino, "it is the same memory");
            Mapping::new(&opened, 4096, 4096).unwrap();
        }
    }

    #[test]
    fn a_segment_cannot_change_its_size_nor_be_mapped_again_once_sealed() {
        let memory = create_sealed("wigwag", 8192).unwrap();
        assert!(ftruncate(&memory, 4096).is_err());
        assert!(ftruncate(&memory, 16384).is_err());
        check_sealed(&memory, 8192, "the server sent a segment").unwrap();
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
        let memory = create_sealed("wigwag", 8192).unwrap();
        assert_eq!(check_sealed(&memory, 4096, "the server sent a segment").unwrap_err().kind(), ErrorKind::Violation);
        let unsealed = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, 8192).unwrap();
        assert_eq!(
            check_sealed(&unsealed, 8192, "the server sent a segment").unwrap_err().kind(),
            ErrorKind::Violation
        );
        let file = tempfile::tempfile().unwrap();
        assert_eq!(check_sealed(&file, 0, "the server sent a segment").unwrap_err().kind(), ErrorKind::Violation);
    }

    #[test]
    fn each_seal_is_asked_for() {
        let with = |flags: MemfdFlags, seals: SealFlags, size: u64| {
            let memory = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | flags).unwrap();
            ftruncate(&memory, size).unwrap();
            fcntl_add_seals(&memory, seals).unwrap();
            check_sealed(&memory, size as usize, "the server sent a segment").map_err(|error| error.to_string())
        };
        let both = SealFlags::SHRINK | SealFlags::GROW;
        with(MemfdFlags::empty(), both, 8192).unwrap();
        for seals in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::empty()] {
            assert!(with(MemfdFlags::empty(), seals, 8192).unwrap_err().contains("can still change its size"));
        }
        // The same seals, but memory that may not be there when it is touched; not every kernel has it.
        if memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB).is_err() {
            return;
        }
        assert!(with(MemfdFlags::HUGETLB, both, 2 << 20).unwrap_err().contains("is not of the kernel's tmpfs"));
    }

    #[test]
    fn seals_and_descriptor_are_what_they_should_be() {
        let memory = create_sealed("wigwag", 8192).unwrap();
        assert!(rustix::io::fcntl_getfd(&memory).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let early = fcntl_get_seals(&memory).unwrap();
        assert!(early.contains(SealFlags::SHRINK | SealFlags::GROW));
        assert!(!early.intersects(SealFlags::SEAL | SealFlags::FUTURE_WRITE));
        seal_finally(&memory).unwrap();
        assert!(fcntl_get_seals(&memory).unwrap().contains(SealFlags::SEAL | SealFlags::FUTURE_WRITE));
        assert!(seal_finally(&memory).is_err(), "what is sealed for good cannot be sealed again");
        check_sealed(&memory, 8192, "the server sent a segment").unwrap();
    }

    #[test]
    fn bytes_are_read_to_the_last_or_not_at_all() {
        let memory = create_sealed("wigwag", 8192).unwrap();
        let bytes: Vec<u8> = (0..8192).map(|index| index as u8 ^ (index >> 8) as u8).collect();
        rustix::io::pwrite(&memory, &bytes, 0).unwrap();
        for (offset, len) in [(0, 0), (0, 8192), (5, 100), (8191, 1), (8192, 0)] {
            let mut into = vec![0; len];
            assert!(read_exact(&memory, offset as u64, &mut into), "{len} at {offset}");
            assert_eq!(into, bytes[offset..offset + len]);
        }
        for (offset, len) in [(0, 8193), (8191, 2), (8192, 1), (u64::MAX, 1)] {
            assert!(!read_exact(&memory, offset, &mut vec![0; len]), "{len} at {offset}");
        }
    }

    /// What the kernel says of the mapping of a memory object in this process.
    fn told_of(memory: &OwnedFd) -> Option<String> {
        let inode = format!(" {} ", fstat(memory).unwrap().st_ino);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !(line.contains("memfd:wigwag") && line.contains(&inode)));
        let first = lines.next()?;
        let rest = lines.take_while(|line| !line.contains("-") || line.ends_with("kB") || line.starts_with("VmFlags"));
        Some(std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn a_mapping_is_touched_and_kept_from_children_and_core_dumps_and_goes_when_dropped() {
        let memory = create_sealed("wigwag", 5 * 4096).unwrap();
        let mapping = Mapping::new(&memory, 5 * 4096, 2 * 4096 + 1).unwrap();
        let told = told_of(&memory).unwrap();
        let flags = told.lines().find(|line| line.starts_with("VmFlags")).unwrap();
        assert!(flags.contains(" dc ") && flags.contains(" dd "), "{told}");
        assert!(fstat(&memory).unwrap().st_blocks >= 3 * 8, "three pages of eight sectors were touched: {told}");
        assert!(!mapping.is_forked());
        assert_eq!(mapping.size(), 5 * 4096);
        drop(mapping);
        assert_eq!(told_of(&memory), None);
        let small = Mapping::new(&memory, 4096, usize::MAX).unwrap();
        assert_eq!(small.size(), 4096);
    }

    #[test]
    fn parts_lie_one_behind_the_other_and_the_same_part_twice_is_the_same_memory() {
        let memory = create_sealed("wigwag", 3 * 4096).unwrap();
        let mapping = Mapping::of_parts(&memory, &[(0, 4096), (8192, 4096), (8192, 4096)], 4096).unwrap();
        seal_finally(&memory).unwrap();
        assert_eq!(mapping.size(), 3 * 4096);
        rustix::io::pwrite(&memory, b"x", 0).unwrap_err();
        for offset in [4096, 4096 + 4095] {
            // SAFETY: in bounds (M1), and nobody else has the mapping.
            unsafe { mapping.base().as_ptr().add(offset).write_volatile(9) };
            // SAFETY: as above.
            assert_eq!(unsafe { mapping.base().as_ptr().add(offset + 4096).read_volatile() }, 9);
        }
        let mut bytes = [0; 1];
        assert!(read_exact(&memory, 8192 + 4095, &mut bytes) && bytes == [9]);
        let flags = |told: &str| told.lines().find(|line| line.starts_with("VmFlags")).unwrap().to_owned();
        assert!(flags(&told_of(&memory).unwrap()).contains(" dc "), "kept from children");
        drop(mapping);
        assert_eq!(told_of(&memory), None);
        assert!(Mapping::of_parts(&memory, &[(0, 4096), (4096, 4096)], 0).is_err(), "sealed for good");
    }

    #[test]
    fn a_forked_child_knows_that_it_has_no_mapping() {
        let mapping = Mapping::new(create_sealed("wigwag", 4096).unwrap(), 4096, 4096).unwrap();
        let _guard = wigwag_testing::process_starts();
        // SAFETY: the child makes one system call, to end.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: no memory is involved.
            unsafe { libc::_exit(if mapping.is_forked() { 7 } else { 1 }) };
        }
        let (_, status) =
            rustix::process::waitpid(rustix::process::Pid::from_raw(child), rustix::process::WaitOptions::empty())
                .unwrap()
                .unwrap();
        assert_eq!(status.exit_status(), Some(7));
    }

    /// A limit is the whole process's: this test starts itself again.
    #[test]
    fn a_size_above_the_limit_of_files_is_an_error_and_not_a_signal() {
        const AGAIN: &str = "WIGWAG_TEST_FILE_SIZE_LIMIT";
        if std::env::var_os(AGAIN).is_some() {
            let limit = rustix::process::Rlimit { current: Some(8192), maximum: Some(8192) };
            rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
            create_sealed("wigwag", 8192).unwrap();
            let error = create_sealed("wigwag", 8193).unwrap_err();
            assert!(error.to_string().contains("limit of 8192 bytes: raise"), "{error}");
            let file = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
            write_exact(&file, b"12", 8190).unwrap();
            for above in [write_exact(&file, b"3", 8192), empty_file(&file, 0, 8193), reserve(&file, 8193)] {
                assert!(above.unwrap_err().to_string().contains("limit of 8192 bytes: raise"));
            }
            return;
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "sys::memory::tests::a_size_above_the_limit_of_files_is_an_error_and_not_a_signal";
        let _guard = wigwag_testing::process_starts();
        let output = again.args(["--exact", name, "--nocapture"]).env(AGAIN, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
}
