//! A sender that ends where nobody may wait, in a task or in an event loop: a thread of its own waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::queue::sender::Sender;

/// What a thread that waits for acknowledgements needs of a stack, many times over.
const STACK_BYTES: usize = 256 << 10;

impl Sender {
    /// Ends it as a drop does, but waits in a thread of its own, which ends with the process: for who must not wait
    /// here, such as an event loop or the finalizer of another language.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// # let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"hello")?;
    /// sender.end_in_background();
    /// assert_eq!(&receiver.recv()?[..], b"hello");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn end_in_background(mut self) {
        if !self.is_to_linger() {
            return self.producer.leave();
        }
        self.group.iter_mut().for_each(|group| group.leave_task());
        // Shared, as a thread that cannot be had would drop it, and with it wait, here.
        let shared = Arc::new(Mutex::new(Some(self)));
        let take = |shared: &Mutex<Option<Sender>>| shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("wigwag-linger".to_owned()).stack_size(STACK_BYTES);
        let Err(error) = thread.spawn(move || drop(take(&of_thread))) else { return };
        if let Some(mut sender) = take(&shared) {
            sender.leave_told(&error);
        }
    }
}
