//! A forked child that holds copies of all its parent's descriptors and does nothing: with it, a socket stays open after
//! its owner died.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// Forks it. Its own alarm ends it should everybody else be gone.
pub fn fork() -> i32 {
    // SAFETY: the child calls nothing but what is async-signal-safe, and touches no memory of the parent's.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed: {}", std::io::Error::last_os_error()),
        0 => loop {
            // SAFETY: no memory is involved.
            unsafe { libc::alarm(60) };
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        },
        child => child,
    }
}

/// The child, held by its pidfd so that no other process can be meant. It is killed when this is dropped.
pub struct Holder {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Holder {
    /// Takes hold of the child with that number, whose parent still lives.
    pub fn new(pid: &str) -> anyhow::Result<Holder> {
        let pid = pid.parse().ok().and_then(Pid::from_raw).ok_or_else(|| anyhow::anyhow!("`{pid}` is no process"))?;
        Ok(Holder { pid, pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())? })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        // It is ours to wait for only where we are the first process of a namespace.
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}
