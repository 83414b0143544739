//! What the tests of Wigwag share. Unpublished, and it uses nothing of Wigwag's: what is written by hand here checks
//! the library.
//!
//! ```text
//! by_hand     a session of someone who read the layout and feels bound by nothing; by_hand_server, the other side
//! others      what another user does to a server
//! wire        the control protocol, byte by byte
//! descriptors those that travel
//! process     other processes, playing roles
//! snapshot    what a process holds
//! stalled     a system call that does not return
//! ground      a directory of a test's own; temporary_name, a name for an example
//! pattern     bytes none of which can be lost or swapped unseen
//! time_limit  how long a test waits, and that it does not wait for what has failed
//! prove       a goal of the proof, as a test runs it
//! ```

mod by_hand;
mod by_hand_server;
pub mod descriptors;
mod ground;
pub mod others;
mod pattern;
mod process;
mod prove;
mod snapshot;
pub mod stalled;
mod temporary_name;
mod time_limit;
pub mod wire;

pub use by_hand::{ACKNOWLEDGED, DELIVERED, HAS_DEADLINE, IN_BODY, MESSAGE, REDELIVERED, REQUEST, Raw, SERVER, WAKE};
pub use by_hand_server::{Offer, RawBoard, RawServer};
pub use ground::Ground;
pub use pattern::{check_inverted, fill, word};
pub use process::{
    LineWriter, Link, Process, fork_a_sleeper, no_process_starts, ordered_role, process_starts, role, start,
};
pub use prove::{finds, finds_at, finds_in_history, finds_in_history_one_of, finds_one_of, holds};
pub use snapshot::Snapshot;
pub use temporary_name::{TemporaryName, temporary_name};
pub use time_limit::{LIMIT, Over, eventually, limited};
