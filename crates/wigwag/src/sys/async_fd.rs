//! A descriptor in the reactor of a tokio runtime.

use std::ops::Deref;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fork::ForkGuard;

/// A descriptor in a reactor, until this is dropped.
///
/// A forked child has a copy of this, and the very epoll of its parent's reactor: removing a descriptor there removes
/// it for the parent. So what is dropped in a child stays in the reactor.
#[derive(Debug)]
pub struct Watched<T: AsRawFd> {
    /// `None` only while it is dropped.
    inner: Option<AsyncFd<T>>,
    fork: ForkGuard,
}

impl<T: AsRawFd> Deref for Watched<T> {
    type Target = AsyncFd<T>;

    #[inline(always)]
    fn deref(&self) -> &AsyncFd<T> {
        self.inner.as_ref().expect("it goes only when this is dropped")
    }
}

impl<T: AsRawFd> Drop for Watched<T> {
    fn drop(&mut self) {
        if self.fork.is_forked() {
            std::mem::forget(self.inner.take());
        }
    }
}

/// Gives a descriptor to the reactor of the runtime that this is called in. `inner` is a type of this library that owns
/// its descriptor and has the same one for as long as it lives.
///
/// # Panics
/// If the runtime's input and output are not enabled: tokio panics.
pub fn watch<T: AsRawFd>(inner: T) -> Result<Watched<T>> {
    check_runtime()?;
    // What is registered is an epoll, or an eventfd that others ring: being writable would tell nothing.
    // SAFETY: the descriptor is open, `inner` owns it, and never changes it: see above.
    let watched = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }
        .map_err(|error| Error::io("watch a descriptor in tokio's reactor", std::io::Error::from(error)))?;
    Ok(Watched { inner: Some(watched), fork: ForkGuard::new() })
}

/// Whether there is a runtime to be woken by.
pub fn check_runtime() -> Result<()> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(
            ErrorKind::InvalidConfiguration,
            "there is no tokio runtime here: call this from a task or under Runtime::enter, or use the blocking type \
             of the \
             same name",
        )),
    }
}
