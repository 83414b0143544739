//! Messages to everybody: one publisher, and any number of subscribers that read in place what it has written once.
//!
//! ```text
//! publisher                                      subscriber, which expects message n
//! body = a free one                              entry = ring[n % entries]
//! write the message there                        if entry.sequence == n {
//! entry = ring[n % entries]                        hold = its body;  fence
//! entry.sequence = 0                               if entry.sequence == n { hand it out }   Message
//! entry.fields = (length, body)                    else { hold = none, lapped }
//! entry.sequence.swap(n)               ---->     } else { nothing yet, or lapped }
//! if hints != 0 { take them, ring those }
//! ```
//!
//! The publisher's memory, the *board*, is sealed before anybody else has it: the kernel lets no subscriber write.
//! Where a subscriber reads is its own affair, so that one that is dead, stopped or slow costs nothing; what it holds
//! in place stands in its own memory, and the publisher passes over those bodies. Whoever is lapped is told with the
//! next message how many it has lost.
//!
//! | part | where |
//! |---|---|
//! | the publisher's core, which never waits | [`output`]: [`pool`], [`listeners`], [`laggards`] (who is waited for) |
//! | the thread that rings many | [`waker`] |
//! | the subscriber's core, which never waits | [`input`], over [`reception`] (the memory, and what holds it) |
//! | what is handed out | [`message`] |
//! | blocking | [`publisher`], [`publication`]; [`subscriber`] |
//! | values in the place of bytes | [`typed_publisher`], [`typed_subscriber`] |
//! | event loops of any kind, other languages | `polled` |
//! | tasks | `tokio` |
//!
//! docs/design/broadcast.md has the guarantees and their reasons.

mod input;
mod laggards;
mod listeners;
mod message;
mod output;
#[cfg(not(loom))]
pub(crate) mod polled;
mod pool;
mod publication;
mod publisher;
mod reception;
mod subscriber;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod tokio;
mod typed_publisher;
mod typed_subscriber;
mod waker;

pub use message::Message;
pub use publication::Publication;
pub use publisher::{Overrun, Publisher, PublisherBuilder, PublisherStats, SubscriberState};
pub use subscriber::{Messages, Receipt, Start, Subscriber, SubscriberBuilder, SubscriberStats};
pub use typed_publisher::{TypedPublication, TypedPublisher};
pub use typed_subscriber::{TypedMessage, TypedSubscriber};
