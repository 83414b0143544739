//! All system calls, each behind a safe and typed function.

#![allow(unsafe_code)]

#[cfg(all(feature = "tokio", not(loom)))]
pub mod async_fd;
pub mod clock;
pub mod cpu;
pub mod directory;
pub mod epoll;
pub mod eventfd;
pub mod fork;
pub mod futex;
pub mod inotify;
pub mod kept_memory;
pub mod kernel;
pub mod memory;
pub mod name_lock;
pub mod owner_lock;
pub mod per_process;
pub mod proc_locks;
pub mod process;
pub mod record_lock;
pub mod socket;
pub mod timer_slack;
#[cfg(not(loom))]
pub mod timerfd;

/// Repeats a call for as long as a signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}
