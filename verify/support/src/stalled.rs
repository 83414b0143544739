//! A system call that does not return: the kernel asks this process what to make of it (seccomp_unotify(2)), and nobody
//! answers.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// While this lives, nobody in this process gets a certain descriptor closed.
pub struct StalledClose(OwnedFd);

impl StalledClose {
    /// From now on, in all threads. The process keeps the filter for good; after the drop the descriptor is leaked
    /// instead.
    pub fn begin(descriptor: RawFd) -> StalledClose {
        let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let jump = |k: u32, jf: u8| libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf,
            k,
        };
        let load = |offset: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
        let give = |value: u32| statement(libc::BPF_RET | libc::BPF_K, value);
        let mut filter = [
            load(0), // the call's number
            jump(libc::SYS_close as u32, 3),
            load(16), // the low half of its first argument, on a little-endian machine
            jump(descriptor as u32, 1),
            give(libc::SECCOMP_RET_USER_NOTIF),
            give(libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
            | libc::SECCOMP_FILTER_FLAG_TSYNC
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
        // SAFETY: the program and its filter live through the call, which copies them.
        let listener =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        assert!(listener >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the kernel made this descriptor for the caller, who owns it from here on.
        StalledClose(unsafe { OwnedFd::from_raw_fd(listener as RawFd) })
    }

    /// Whether somebody is closing it.
    pub fn has_begun(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }
}
