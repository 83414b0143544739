//! A service: a name that is taken, with what its threads share and the control thread, which ends with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::Result;
use crate::service::control_thread;
use crate::service::launch::Launch;
use crate::service::shared::{Command, ServiceShared};
use crate::sys::fork::ForkGuard;

/// A name with its control thread. Dropping it ends all sessions and removes the name; the threads that serve are its
/// owner's.
pub struct Service {
    /// What is shared with the control thread.
    pub shared: Arc<ServiceShared>,
    /// Where the socket is.
    pub path: PathBuf,
    control: Option<JoinHandle<()>>,
    fork: ForkGuard,
}

impl Service {
    /// Lets the control thread begin.
    pub fn start(shared: Arc<ServiceShared>, launch: Launch) -> Result<Service> {
        let path = launch.claim.place().path();
        let control = Some(control_thread::start(Arc::clone(&shared), launch)?);
        Ok(Service { shared, path, control, fork: ForkGuard::new() })
    }

    /// Whether this is a child process that inherited the host. The name, the sessions and the control thread's thread
    /// are the parent's then, and a lock of its may be held for ever here.
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// Ends all sessions, removes the name and waits for the control thread; in a child process nothing.
    pub fn end(&mut self) {
        let Some(control) = self.control.take() else { return };
        if self.is_forked() {
            return;
        }
        self.shared.shut_down();
        self.shared.command(Command::EndAll);
        let _ = control.join();
        self.shared.clear();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}
