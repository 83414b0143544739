//! What a client and a server have counted.

/// What a [`Client`](crate::Client) has counted since it connected.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
/// # let server = wigwag::Server::bind(name)?;
/// let client = wigwag::Client::connect(name)?;
/// assert_eq!(client.stats().calls, 0);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Requests passed to the server.
    pub calls: u64,
    /// Of these, with a system call because the server slept.
    pub doorbells_rung: u64,
    /// Times this client slept until a doorbell rang.
    pub sleeps: u64,
    /// Calls given up before their reply came.
    pub abandoned: u64,
}

/// What a [`Server`](crate::Server) has counted since it was bound.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
/// let server = wigwag::Server::bind(name)?;
/// assert_eq!(server.stats(), wigwag::ServerStats::default());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Sessions alive.
    pub sessions: u64,
    /// Sessions ever granted.
    pub sessions_accepted: u64,
    /// Handshakes refused or failed.
    pub sessions_refused: u64,
    /// Sessions ended because the client broke the protocol.
    pub violations: u64,
    /// Requests answered.
    pub calls: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Calls whose handler returned an error or panicked, or whose request was dropped unanswered.
    pub failed: u64,
    /// Replies that needed a system call because the client slept.
    pub doorbells_rung: u64,
    /// Times a serving thread slept.
    pub sleeps: u64,
}
