//! A forked child that holds copies of all its parent's descriptors and does nothing: with it, a socket stays open
//! after its owner died.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// Forks it. Its own alarm ends it should everybody else be gone.
pub fn fork() -> i32 {
    fork_and(|| ())
}

/// Forks one that goes on with its dead parent's handshake: it waits for an answer on the socket, and says that it is
/// ready.
pub fn fork_to_shake_hands(socket: BorrowedFd<'_>, ready: &[u8]) -> i32 {
    let socket = socket.as_raw_fd();
    fork_and(|| {
        let mut poll = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
        let mut answer = [0u8; 1];
        // SAFETY: the structure is one entry long and ours.
        unsafe { libc::poll(&mut poll, 1, -1) };
        // SAFETY: the buffer is as long as is said; the rest of the message is thrown away.
        unsafe { libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0) };
        // SAFETY: the bytes are as many as is said.
        unsafe { libc::send(socket, ready.as_ptr().cast(), ready.len(), libc::MSG_NOSIGNAL) };
    })
}

fn fork_and(first: impl FnOnce()) -> i32 {
    // SAFETY: the child calls nothing but what is async-signal-safe, and writes to nothing but its own stack.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: no memory is involved.
            unsafe { libc::alarm(60) };
            first();
            loop {
                // SAFETY: no memory is involved.
                unsafe { libc::pause() };
            }
        }
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
