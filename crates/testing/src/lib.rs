//! What the tests of Wigwag share. Unpublished, and it uses nothing of Wigwag's: what is written by hand here checks the
//! library.
//!
//! ```text
//! by_hand     a session of someone who read the layout and feels bound by nothing; by_hand_server, the other side
//! wire        the control protocol, byte by byte
//! process     other processes, playing roles
//! snapshot    what a process holds
//! ground      a directory of a test's own
//! pattern     bytes none of which can be lost or swapped unseen
//! patience    how long a test waits
//! prove       a goal of the proof, as a test runs it
//! ```

mod by_hand;
mod by_hand_server;
mod ground;
mod patience;
mod pattern;
mod process;
mod prove;
mod snapshot;
pub mod wire;

pub use by_hand::{ACKNOWLEDGED, DELIVERED, HAS_DEADLINE, IN_BODY, MESSAGE, REDELIVERED, REQUEST, Raw, SERVER, WAKE};
pub use by_hand_server::{Offer, RawServer};
pub use ground::Ground;
pub use patience::{LIMIT, eventually};
pub use pattern::{check_inverted, fill, word};
pub use process::{Link, Process, Teller, ordered_role, role};
pub use prove::{finds, finds_at, holds};
pub use snapshot::Snapshot;
