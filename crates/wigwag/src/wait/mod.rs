//! How one side waits.

pub mod deadline;
#[cfg(not(loom))]
pub mod edge_readiness;
pub mod placement;
pub mod policy;
#[cfg(all(feature = "tokio", not(loom)))]
pub mod readiness;
#[cfg(any(loom, test, feature = "models"))]
pub mod replay;
pub mod reply_time;
pub mod runtime_guard;
#[cfg(not(loom))]
pub mod spin_backoff;
#[cfg(all(feature = "tokio", not(loom)))]
pub mod task_waiter;
pub mod waiter;
pub mod wake_latency;
