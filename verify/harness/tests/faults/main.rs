//! What the proof must find, or it proves nothing: each goal is tried on a library with a fault injected for it.
//!
//! The library has faults in it only where it is compiled with `--cfg wigwag_faults` (see
//! `crates/wigwag/src/faults.rs`), as all packages of the workspace are for these tests:
//!
//! ```text
//! RUSTC_WORKSPACE_WRAPPER=$PWD/xtask/rustc_with_faults.sh cargo test --workspace --test faults
//! ```

#![cfg(wigwag_faults)]

use std::sync::{Mutex, MutexGuard, PoisonError};

mod audit;
mod broadcasts;
mod crowd;
mod held;
mod history;
mod hostile;
mod model;
mod queues;
mod restarts;
mod step;
mod storm;
mod streams;
mod surroundings;
mod versions;

/// `cargo xtask prove` on the library with faults.
const PROGRAM: &str = env!("CARGO_BIN_EXE_prove");

/// Walks share one processor with their tracer, all of them the same one: they take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
