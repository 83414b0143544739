//! The descriptors of messages that have been handed out, until they are acknowledged.
//!
//! A message that is given back comes again with all it had, so whoever takes its descriptors gets duplicates, and
//! those that came stay here.

use std::os::fd::OwnedFd;
use std::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::session::arrivals::{Loss, PeerDescriptors};
use crate::sync;

/// Those of one session, by slot. The lock is held for no close and no wait.
#[derive(Debug, Default)]
pub struct Delivered {
    slots: Mutex<Vec<(usize, Came)>>,
}

/// What came with one message: its descriptors, or why this process had no room for some of them.
type Came = std::result::Result<PeerDescriptors, Loss>;

impl Delivered {
    /// The message in a slot is about to be handed out.
    pub fn keep(&self, slot: usize, came: Came) {
        sync::lock(&self.slots).push((slot, came));
    }

    /// A duplicate of each that came with the message in a slot.
    ///
    /// # Errors
    /// [`Full`](ErrorKind::Full) if some were lost, [`Io`](ErrorKind::Io) if there is no room for the duplicates.
    pub fn duplicates(&self, slot: usize) -> Result<Vec<OwnedFd>> {
        match sync::lock(&self.slots).iter().find(|(of, _)| *of == slot) {
            Some((_, Ok(descriptors))) => descriptors.duplicates(),
            Some((_, Err(loss))) => Err(lost(*loss)),
            None => Ok(Vec::new()),
        }
    }

    /// Whether some that belong to the message in a slot were lost.
    pub fn are_lost(&self, slot: usize) -> bool {
        sync::lock(&self.slots).iter().any(|(of, came)| *of == slot && came.is_err())
    }

    /// The message in a slot is done with: what nobody can take any more is closed.
    pub fn forget(&self, slot: usize) {
        let forgotten = {
            let mut slots = sync::lock(&self.slots);
            slots.iter().position(|(of, _)| *of == slot).map(|index| slots.swap_remove(index))
        };
        drop(forgotten); // after the lock
    }
}

#[cold]
fn lost(loss: Loss) -> Error {
    Error::new(
        ErrorKind::Full,
        format!(
            "this process {loss}, so that not all of this message arrived; its sender has them still, and sends them \
             again with the message if that is given back"
        ),
    )
}
