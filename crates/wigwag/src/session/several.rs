//! What a caller of several sessions has to know of each: who is there, what tells of it, and what is rung.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::session::background::PeerSocket;
use crate::session::connection::Connection;
use crate::sys::epoll::Poller;
use crate::sys::eventfd::Bell;

impl Connection {
    /// Which it is of the servers that share the name; 0: it has the name for itself.
    pub fn member(&self) -> usize {
        self.established.member
    }

    /// What shows the other side's end, and is rung for it when this side has passed something.
    pub fn signs_of_life(&self) -> (&Arc<PeerSocket>, Option<&OwnedFd>, &Bell) {
        (&self.established.socket, self.established.pidfd.as_ref(), &self.established.server_bell)
    }

    /// Whether the other side is of this user.
    pub fn is_of_same_user(&self) -> bool {
        self.established.memory.is_some()
    }

    /// Where this end sleeps, for a poller of several sessions and for an event loop. The bell is in it.
    pub fn poller(&self) -> &Poller {
        &self.established.poller
    }
}
