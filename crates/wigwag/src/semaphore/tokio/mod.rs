//! Permits, for tasks.

mod semaphore;
mod waiters;

pub use semaphore::Semaphore;
