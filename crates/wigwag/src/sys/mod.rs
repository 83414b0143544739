//! All system calls, each behind a safe and typed function. One of the addresses of unsafe code; the others are
//! [`crate::segment`], [`crate::hint`], and [`crate::request`] and [`crate::loan`], which lend payloads.

#![allow(unsafe_code)]

pub mod bell;
pub mod clock;
pub mod cpu;
pub mod directory;
pub mod fork;
pub mod futex;
pub mod kernel;
pub mod life;
pub mod memory;
pub mod poller;
pub mod process;
#[cfg(all(feature = "tokio", not(loom)))]
pub mod reactor;
pub mod socket;

/// Repeats a call for as long as a signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}
