//! Messages one way, for tasks.

#[cfg(feature = "serde")]
mod encoded;
mod lingering;
mod receiver;
mod sender;
mod typed_receiver;
mod typed_sender;

pub use receiver::Receiver;
pub use sender::Sender;
pub use typed_receiver::TypedReceiver;
pub use typed_sender::TypedSender;
