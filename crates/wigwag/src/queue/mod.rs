//! Messages one way: an exchange whose slots are used in the order of the ring. A message is a request, its
//! acknowledgement the reply.
//!
//! ```text
//! sender                                         receiver
//! wait until the next slot of the ring is free   loop {
//! write the message, then the head                 turn = next slot's turn
//! outbox.note(slot, length)                        if turn is SERVER with the expected sequence {
//! turn.swap(SERVER | sequence + 1)    ---->          mark the head Delivered
//! if receiver.waiting { notify it }                  hand out (session, location)        Delivery
//!                                                    acknowledge:  turn.swap(CLIENT)
//! later: slots whose turn came back   <----          give back:    front of the redeliveries
//! outbox.forget(slot)                            } }
//! ```
//!
//! The sender keeps what was not acknowledged. When its receiver ends, it looks for the next receiver of that name,
//! asks it for a session of the same size, and copies over what it keeps, in order: each message arrives at least once,
//! and is marked when it may be the second time.
//!
//! | part | where |
//! |---|---|
//! | the sender's core, which never waits: room, put, free the oldest | [`producer`], [`outbox`], [`loan`] |
//! | the next receiver, and what it is handed | [`failover`] |
//! | several receivers that share the name: sessions with all of them, and who gets the next message | [`group`], [`dealing`] |
//! | a sender that makes no call when its receiver dies | [`stand_in`] |
//! | a sender that is dropped before all is acknowledged | [`lingering`] |
//! | a third process, which has what both sides leave when they die | `keeper` |
//! | the receiver's half: a turn that was seen becomes a message | [`crate::service::worker`], [`intake`], [`message`] |
//! | blocking: a sender; several threads take turns with one worker | [`sender`]; [`receiver`], [`delivery`] |
//! | tasks | `tokio` |
//! | event loops of other makes | [`event_loop`]; [`receiver`] |
//!
//! docs/design/queue.md has the guarantee and its reasons.

mod dealing;
mod delivery;
#[cfg(feature = "serde")]
mod encoded;
mod event_loop;
mod failover;
mod group;
mod intake;
#[cfg(not(loom))]
mod keeper;
mod lingering;
#[cfg(not(loom))]
mod lingering_thread;
mod loan;
pub(crate) mod message;
mod outbox;
#[cfg(not(loom))]
pub(crate) mod polled;
mod producer;
mod receiver;
mod sender;
mod stand_in;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod tokio;
mod typed_receiver;
mod typed_sender;

pub use delivery::{Batch, Delivery};
#[cfg(not(loom))]
pub use keeper::{Keeper, KeeperBuilder, KeeperEvent, KeeperStats};
pub use loan::MessageLoan;
pub use receiver::{Deliveries, Receiver, ReceiverBuilder};
pub use sender::{Sender, SenderBuilder};
pub use typed_receiver::{TypedBatch, TypedDeliveries, TypedDelivery, TypedReceiver};
pub use typed_sender::{TypedMessageLoan, TypedSender};
