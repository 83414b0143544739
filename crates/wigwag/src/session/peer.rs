//! Who is at the other end of a session, and how far it is trusted.

use crate::sys::socket::Credentials;

/// Who sent a request.
///
/// ```no_run
/// # let mut server = wigwag::Server::bind("example")?;
/// server.serve(|request| println!("user {}", request.peer().uid))?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Effective user when it connected.
    pub uid: u32,
    /// Effective group when it connected.
    pub gid: u32,
    /// Process id in the server's namespace, 0 if it has none there. For people to read; it may be reused by now.
    pub pid: i32,
}

impl Peer {
    pub(crate) fn of(peer: Credentials) -> Peer {
        let Credentials { uid, gid, pid } = peer;
        Peer { uid, gid, pid }
    }
}

/// How far the server trusts a session's peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The same user: the handler gets the shared memory itself.
    SameUser,
    /// Somebody else whom the policy lets in: the handler gets a bounce buffer.
    OtherUser,
}
