//! Permits, without a server: a file that processes of one user map.
//!
//! ```text
//! acquire                                        release
//! for a word that names nobody {                 old = permit.swap(FREE)
//!     permit.compare_exchange(FREE, me)          wake the first waiter, if there is one
//! }
//! none: take a waiter slot, sleep on its word for at most 50 ms
//!     after each slice one of all waiters asks the kernel which holders live,
//!     and exchanges the name of a dead one for "free, the last holder died"
//! ```
//!
//! A life is a lock on a byte of the file that hangs on a mapping: the kernel lets it go when the process ends,
//! executes another program or unmaps, and no forked child has it. There is no count beside the words that a kill could
//! leave wrong.
//!
//! | part | where |
//! |---|---|
//! | permits and the wait queue, as algorithms that are handed their words | [`permits::table`] |
//! | the file: how it comes and goes, who has it open | [`permits::file`], [`permits::claims`] |
//! | blocking | `semaphore`; permits that keep it: `owned_permit` |
//! | for tasks, and the thread that sleeps for them | `tokio` |
//!
//! docs/design/semaphore.md has the reasons.

mod owned_permit;
mod semaphore;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod tokio;

#[cfg(doc)]
use crate::permits;

pub use owned_permit::{OwnedPermit, OwnedPermits};
pub use semaphore::{Permit, Permits, Semaphore, SemaphoreBuilder};
