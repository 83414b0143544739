//! The control plane: names, the handshake over a seqpacket socket, policy and limits, and the steward that runs it all.
//!
//! It may allocate, block and fail with rich errors; nothing here runs while a call is under way.

pub mod arrivals;
pub mod attach;
pub mod core;
pub mod host;
pub mod ledger;
pub mod leftovers;
pub mod news;
pub mod policy;
pub mod protocol;
pub mod rendezvous;
pub mod settings;
pub mod steward;
