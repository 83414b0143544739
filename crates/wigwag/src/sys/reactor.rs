//! A descriptor in the reactor of a tokio runtime.

use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::error::{Error, ErrorKind, Result};

/// Gives a descriptor to the reactor of the runtime that this is called in. `inner` is a type of this library that owns its
/// descriptor and has the same one for as long as it lives.
///
/// # Panics
/// If the runtime's input and output are not enabled: tokio panics.
pub fn watch<T: AsRawFd>(inner: T) -> Result<AsyncFd<T>> {
    check_runtime()?;
    // What is registered is an epoll, or an eventfd that others ring: being writable would tell nothing.
    // SAFETY: the descriptor is open, `inner` owns it, and never changes it: see above.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }
        .map_err(|error| Error::io("watch a descriptor in tokio's reactor", std::io::Error::from(error)))
}

/// Whether there is a runtime to be woken by.
pub fn check_runtime() -> Result<()> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(
            ErrorKind::InvalidConfiguration,
            "there is no tokio runtime here: call this from a task or under Runtime::enter, or use the blocking type of the \
             same name",
        )),
    }
}
