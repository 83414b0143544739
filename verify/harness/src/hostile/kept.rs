//! A client that lies still, so that what is borrowed from it can be kept beside it.

use std::ptr::NonNull;

use wigwag::Client;

/// A client at an address of its own. Its owner first drops what borrows from it.
pub struct Kept(NonNull<Client>);

impl Kept {
    /// Puts a client there.
    pub fn new(client: Client) -> Kept {
        Kept(NonNull::from(Box::leak(Box::new(client))))
    }

    /// The client. Nothing that comes from it may be used after `self` is dropped: its holders here have it as their
    /// last field but one, behind all loans, calls and replies.
    pub fn client(&self) -> &'static Client {
        // SAFETY: it was leaked in `new` and is taken back in `drop`, which the holders' order of fields puts last.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: it was leaked in `new`, and this is the only place that takes it back.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
