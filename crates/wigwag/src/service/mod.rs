//! The owner of a name: its control thread, its workers, and what they share.

pub mod abandonment;
pub mod accept_queue;
pub mod admission;
pub mod audience;
pub mod control_thread;
pub mod delivered;
pub mod handles;
pub mod handshake;
pub mod intake;
pub mod keeping;
pub mod launch;
pub mod name_claim;
#[cfg(not(loom))]
pub mod polling_backoff;
pub mod quota;
pub mod service;
pub mod session;
pub mod settings;
pub mod shared;
pub mod takeover;
pub mod wake_flag;
pub mod worker;
