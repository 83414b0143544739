//! One connection, whatever its form.

pub mod agreement;
pub mod arrivals;
pub mod background;
pub mod cleanup;
pub mod close_reason;
pub mod connect;
#[cfg(all(feature = "tokio", not(loom)))]
pub mod connect_async;
pub mod connection;
pub mod descriptors;
pub mod keeping;
pub mod members;
pub mod name;
pub mod peer;
pub mod process_count;
pub mod protocol;
pub mod roll_call;
pub mod runtime_directory;
pub mod server_watch;
pub mod several;
