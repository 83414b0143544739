//! The measuring parts of Wigwag's bench, for `wigwag bench` and for the comparison with other libraries.
//!
//! ```text
//! series ── phase ──────┬── role (server) ── raw, ring, futex, exchange, transport, flow, or another's
//! rounds    2 processes └── role (client) ── meter ── work
//!                                  report ──> row ──> page
//! ```
//!
//! messages: one way, for the queue.
//!
//! `docs/benchmarks.md` has the method and its reasons.

pub mod case;
pub mod clock;
pub mod exchange;
pub mod flow;
pub mod futex;
pub mod handshake;
pub mod machine;
pub mod memory;
pub mod messages;
pub mod meter;
pub mod output;
pub mod page;
pub mod peer;
pub mod phase;
pub mod placement;
pub mod progress;
pub mod raw;
pub mod report;
pub mod ring;
pub mod role;
pub mod row;
pub mod series;
pub mod system_calls;
pub mod tasks;
pub mod transport;
pub mod usage;
pub mod wake_ups;
pub mod work;
