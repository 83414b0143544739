//! Who is at the other end.

use library::Peer;

/// Who is at the other end of a session, as it was when it connected.
#[repr(C)]
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
pub struct wigwag_peer {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process id as this process sees it, 0 if it has none here. For people: it may be somebody else's by now.
    pub pid: i32,
}

impl From<Peer> for wigwag_peer {
    fn from(peer: Peer) -> wigwag_peer {
        wigwag_peer { uid: peer.uid, gid: peer.gid, pid: peer.pid }
    }
}
