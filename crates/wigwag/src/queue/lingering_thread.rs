//! The sender of a task or of an event loop is dropped by a thread that must not wait: a thread of its own does.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::queue::producer::Producer;
use crate::queue::sender::Sender;
use crate::stats::SenderStats;

/// What a thread that waits for acknowledgements needs of a stack, many times over.
const STACK_BYTES: usize = 256 << 10;

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
        if !sender.is_to_linger() {
            return sender.producer.leave();
        }
        let taken_back = match sender.group.as_deref_mut() {
            Some(group) => {
                group.leave_task();
                Ok(())
            }
            None => sender.producer.connection().take_bell_back(),
        };
        if let Err(error) = taken_back {
            return sender.leave_told(&error);
        }
        // Shared, as a thread that cannot be had would drop it, and with it wait, here.
        let shared = Arc::new(Mutex::new(Some(sender)));
        let take = |shared: &Mutex<Option<Sender>>| shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("wigwag-linger".to_owned()).stack_size(STACK_BYTES);
        let Err(error) = thread.spawn(move || drop(take(&of_thread))) else { return };
        if let Some(mut sender) = take(&shared) {
            sender.leave_told(&error);
        }
    }
}
