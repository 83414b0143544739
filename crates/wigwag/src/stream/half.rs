//! One direction of an end: what its owner has set for it, and where who waits for it sleeps.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::epoll::Poller;

/// Which of the two directions, as this end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the other end.
    Reading,
    /// To the other end.
    Writing,
}

/// What both of an end's directions have.
pub struct Half {
    poller: Poller,
    /// Nanoseconds, 0 for none.
    timeout_ns: AtomicU64,
    is_shut: AtomicBool,
    /// Whether non-blocking operations wait for the descriptor.
    is_armed: AtomicBool,
}

impl Half {
    /// Of a new stream.
    pub fn new(poller: Poller) -> Half {
        Half {
            poller,
            timeout_ns: AtomicU64::new(0),
            is_shut: AtomicBool::new(false),
            is_armed: AtomicBool::new(false),
        }
    }

    /// What can be polled while the direction waits.
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// How long an operation waits.
    pub fn timeout(&self) -> Option<Duration> {
        let ns = self.timeout_ns.load(Ordering::Relaxed);
        (ns != 0).then(|| Duration::from_nanos(ns))
    }

    /// Says how long an operation waits.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        let ns = match timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)) {
            Some(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a timeout of zero is not possible: use set_nonblocking",
                ));
            }
            Some(ns) => ns,
            None => 0,
        };
        self.timeout_ns.store(ns, Ordering::Relaxed);
        Ok(())
    }

    /// Whether this end has shut the direction.
    #[inline(always)]
    pub fn is_shut(&self) -> bool {
        // Relaxed: who else uses the stream is told by a ring.
        self.is_shut.load(Ordering::Relaxed)
    }

    /// It is shut from now on. Whether it was before.
    pub fn shut(&self) -> bool {
        self.is_shut.swap(true, Ordering::Relaxed)
    }

    /// Says whether non-blocking operations wait for the descriptor.
    pub fn set_armed(&self, is_armed: bool) {
        self.is_armed.store(is_armed, Ordering::Relaxed);
    }

    /// Takes that back if `is_due`. Whether it was so.
    pub fn disarm_if(&self, is_due: impl FnOnce() -> bool) -> bool {
        self.is_armed.load(Ordering::Relaxed) && is_due() && self.is_armed.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_armed_is_disarmed_once_and_only_when_that_is_due() {
        let half = Half::new(Poller::new().unwrap());
        assert!(!half.disarm_if(|| panic!("it is not armed: nothing to ask")));
        half.set_armed(true);
        assert!(!half.disarm_if(|| false));
        assert!(half.disarm_if(|| true) && !half.disarm_if(|| true));
    }

    #[test]
    fn a_timeout_is_kept_and_zero_is_refused() {
        let half = Half::new(Poller::new().unwrap());
        let second = Some(Duration::from_secs(1));
        half.set_timeout(second).unwrap();
        assert_eq!(half.set_timeout(Some(Duration::ZERO)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(half.timeout(), second);
        half.set_timeout(None).unwrap();
        assert_eq!(half.timeout(), None);
        assert!(!half.shut() && half.is_shut() && half.shut());
    }
}
