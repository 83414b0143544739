//! Lives: open-file-description locks on single bytes of a file (fcntl(2), "Open file description locks", Linux 3.15).
//!
//! Such a lock belongs to an open file description, not to a process, and goes with the last reference to it. Here that
//! reference is a mapping that no child inherits (MADV_DONTFORK), and no descriptor: so the lock is held exactly as
//! long as the process has the memory, and the kernel lets it go when the process ends or executes another program,
//! whatever children it leaves behind. Process-associated locks would not do: they go as soon as the process closes any
//! descriptor of the file.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// How many lives a file has: one byte each.
pub const LIVES: u32 = 1 << 16;

/// Takes a life through this open file description; false when it is another's.
pub fn take(file: impl AsFd, id: u16) -> rustix::io::Result<bool> {
    take_all(file, u32::from(id)..u32::from(id) + 1)
}

/// Takes several lives in one step, or none.
pub fn take_all(file: impl AsFd, ids: std::ops::Range<u32>) -> rustix::io::Result<bool> {
    match lock(file, libc::F_OFD_SETLK, libc::F_WRLCK, ids) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Locks one byte far behind the lives through this open file description, for others to find it by its number alone
/// (see [`crate::sys::proc_locks`]); false when it is another's.
pub fn take_claim(file: impl AsFd, byte: u64) -> rustix::io::Result<bool> {
    match lock_bytes(file, libc::F_OFD_SETLK, libc::F_WRLCK, byte..byte + 1) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets all locks go that were taken through this open file description.
pub fn give_up_all(file: impl AsFd) {
    // A length of 0 is all bytes.
    let _ = lock_bytes(file, libc::F_OFD_SETLK, libc::F_UNLCK, 0..0);
}

/// Lets a life go that was taken through this open file description.
pub fn give_up(file: impl AsFd, id: u16) {
    let _ = lock(file, libc::F_OFD_SETLK, libc::F_UNLCK, u32::from(id)..u32::from(id) + 1);
}

/// Whether the kernel can say whose lives are taken; its answer where it cannot, as in a sandbox.
pub fn can_be_seen(file: impl AsFd) -> rustix::io::Result<()> {
    lock(file, libc::F_OFD_GETLK, libc::F_WRLCK, 0..1).map(drop)
}

/// Whether somebody has one of these lives through another open file description. If the kernel cannot say, yes.
pub fn is_taken(file: impl AsFd, ids: std::ops::Range<u32>) -> bool {
    !ids.is_empty() && lock(file, libc::F_OFD_GETLK, libc::F_WRLCK, ids) != Ok(libc::F_UNLCK)
}

fn lock(file: impl AsFd, command: i32, kind: i32, ids: std::ops::Range<u32>) -> rustix::io::Result<i32> {
    lock_bytes(file, command, kind, u64::from(ids.start)..u64::from(ids.end))
}

fn lock_bytes(file: impl AsFd, command: i32, kind: i32, bytes: std::ops::Range<u64>) -> rustix::io::Result<i32> {
    // SAFETY: all bytes zero is a value of this plain struct of numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = bytes.start as libc::off_t;
    lock.l_len = (bytes.end - bytes.start) as libc::off_t;
    crate::sys::retry(|| {
        // SAFETY: the descriptor is open for the call, and `lock` is what these commands read and write.
        match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut lock) } {
            -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
            _ => Ok(i32::from(lock.l_type)),
        }
    })
}

#[cfg(test)]
mod tests {
    use wigwag_testing::no_process_starts;

    use super::*;
    use crate::sys::memory::Mapping;

    /// Two open file descriptions of one file.
    fn twice() -> (std::fs::File, std::fs::File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4096).unwrap();
        let open = || std::fs::File::options().read(true).write(true).open(file.path()).unwrap();
        (open(), open())
    }

    #[test]
    fn a_life_is_taken_once_and_seen_by_others() {
        let _guard = no_process_starts();
        let (one, other) = twice();
        assert!(!is_taken(&other, 0..LIVES));
        assert!(take(&one, 7).unwrap() && !take(&other, 7).unwrap() && take(&other, 8).unwrap());
        assert!(is_taken(&other, 7..8) && is_taken(&other, 0..LIVES) && !is_taken(&other, 8..LIVES));
        assert!(!is_taken(&other, 0..0));
        give_up(&one, 7);
        assert!(!is_taken(&other, 0..LIVES));
        assert!(take(&other, u16::MAX).unwrap() && is_taken(&one, LIVES - 1..LIVES));
    }

    #[test]
    fn a_life_lasts_as_long_as_the_mapping_although_the_descriptor_is_closed() {
        let _guard = no_process_starts();
        let (one, other) = twice();
        assert!(take(&one, 3).unwrap());
        let mapping = Mapping::new(&one, 4096, 0).unwrap();
        drop(one);
        assert!(is_taken(&other, 3..4));
        drop(mapping);
        assert!(!is_taken(&other, 3..4));
    }
}
