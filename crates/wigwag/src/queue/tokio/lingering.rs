//! The sender of a task is dropped by a thread of the runtime, which must not wait: a thread of its own does.

use std::ops::{Deref, DerefMut};

use crate::queue::producer::Producer;
use crate::queue::sender::Sender;
use crate::stats::SenderStats;

/// A sender that waits in a thread of its own when it is dropped.
pub struct SenderOfTask(Option<Sender>);

impl From<Sender> for SenderOfTask {
    fn from(sender: Sender) -> SenderOfTask {
        SenderOfTask(Some(sender))
    }
}

impl SenderOfTask {
    /// The sender as a whole.
    pub fn sender(&mut self) -> &mut Sender {
        self.0.as_mut().expect("a drop alone takes it")
    }

    /// What all its sessions have counted.
    pub fn stats(&self) -> SenderStats {
        self.0.as_ref().expect("a drop alone takes it").all_stats()
    }
}

impl Deref for SenderOfTask {
    type Target = Producer;

    fn deref(&self) -> &Producer {
        &self.0.as_ref().expect("a drop alone takes it").producer
    }
}

impl DerefMut for SenderOfTask {
    fn deref_mut(&mut self) -> &mut Producer {
        &mut self.0.as_mut().expect("a drop alone takes it").producer
    }
}

impl Drop for SenderOfTask {
    fn drop(&mut self) {
        let Some(mut sender) = self.0.take() else { return };
        // The reactor had the bell, and the thread is to hear it.
        match sender.is_to_linger() && sender.group.is_none() {
            false => sender.end_in_background(),
            true => match sender.producer.connection().take_bell_back() {
                Ok(()) => sender.end_in_background(),
                Err(error) => sender.leave_told(&error),
            },
        }
    }
}
