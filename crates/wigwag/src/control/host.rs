//! Whoever takes a name: what its threads share, and the steward, which ends with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::core::{Command, Core};
use super::steward::{self, Orders};
use crate::error::Result;
use crate::sys::fork::ForkGuard;

/// A name with its steward. Dropping it ends all sessions and removes the name; the threads that serve are its owner's.
pub struct Host {
    /// What is shared with the steward.
    pub core: Arc<Core>,
    /// Where the socket is.
    pub path: PathBuf,
    steward: Option<JoinHandle<()>>,
    fork: ForkGuard,
}

impl Host {
    /// Lets the steward begin.
    pub fn start(core: Arc<Core>, orders: Orders) -> Result<Host> {
        let path = orders.claim.place().path();
        let steward = Some(steward::start(Arc::clone(&core), orders)?);
        Ok(Host { core, path, steward, fork: ForkGuard::new() })
    }

    /// Whether this is a child process that inherited the host. The name, the sessions and the steward's thread are the
    /// parent's then, and a lock of its may be held for ever here.
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// Ends all sessions, removes the name and waits for the steward; in a child process nothing.
    pub fn end(&mut self) {
        let Some(steward) = self.steward.take() else { return };
        if self.is_forked() {
            return;
        }
        self.core.shut_down();
        self.core.command(Command::EndAll);
        let _ = steward.join();
        self.core.clear();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}
