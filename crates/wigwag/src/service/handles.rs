//! What the threads that do not serve hold of a service: they end it, and learn what it has counted.

use std::fmt;
use std::sync::Arc;

use crate::observe;
use crate::service::shared::ServiceShared;
use crate::stats::ServerStats;

/// Ends a [`Server`](crate::Server) from another thread, in good order: no new session, what was passed is served,
/// farewell, name removed.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("bye").path;
/// let mut server = wigwag::Server::bind(name)?;
/// server.shutdown_handle().shutdown();
/// server.serve(|_| ())?; // returns at once
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone)]
pub struct ShutdownHandle {
    shared: Arc<ServiceShared>,
}

impl ShutdownHandle {
    pub(crate) fn of(shared: Arc<ServiceShared>) -> ShutdownHandle {
        ShutdownHandle { shared }
    }

    /// Begins the end. Any number of times, from any thread; a handler that never returns delays it.
    ///
    /// ```no_run
    /// let server = wigwag::Server::bind("example")?;
    /// server.shutdown_handle().shutdown();
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown(&self) {
        self.shared.shut_down();
    }

    /// As [`shutdown`](Self::shutdown), of a server whose successor is about to start: its clients are told that there
    /// is one, and those that follow look for it. A server that is [replaced](crate::ListenOptions::replace) does so by
    /// itself.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("over").path;
    /// let mut server = wigwag::Server::bind(name)?;
    /// server.shutdown_handle().hand_over();
    /// server.serve(|_| ())?; // returns at once
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn hand_over(&self) {
        self.shared.hand_over();
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ShutdownHandle").field("shutting_down", &self.shared.is_shutting_down()).finish()
    }
}

/// What a [`Server`](crate::Server) has counted, told to any thread while it serves. Asking disturbs nobody who serves;
/// it costs some microseconds and more with many sessions, so it is for people and exporters.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("told").path;
/// let server = wigwag::Server::bind(name)?;
/// let told = server.stats_handle();
/// let elsewhere = std::thread::spawn(move || told.stats().sessions);
/// assert_eq!(elsewhere.join().unwrap(), 0);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone)]
pub struct StatsHandle {
    pub(crate) shared: Arc<ServiceShared>,
}

impl StatsHandle {
    /// What has happened so far, also after the server's end; nothing, in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("over").path;
    /// let told = wigwag::Server::bind(name)?.stats_handle();
    /// assert_eq!(told.stats().calls, 0); // the server is gone
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        stats_of(&self.shared)
    }
}

impl fmt::Debug for StatsHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("StatsHandle").field(&self.stats()).finish()
    }
}

pub(crate) fn stats_of(shared: &ServiceShared) -> ServerStats {
    if shared.statistics.is_forked() {
        return ServerStats::default();
    }
    observe::server_stats(&shared.statistics)
}
