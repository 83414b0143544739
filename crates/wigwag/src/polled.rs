//! The same forms for an event loop of any kind, and for other languages: no call here waits.
//!
//! A step says what can be done now, or that nothing can. Then there is a descriptor to wait for, in `poll`, in an
//! epoll or in whatever loop the program has; once it is readable, `listen` takes in what rang, and the step is taken
//! again. Nothing here has a thread, a runtime or a borrow: calls, loans and replies keep their session alive by
//! themselves.
//!
//! | form | steps | when to take them again |
//! |---|---|---|
//! | exchange, client | [`Client::try_loan`], [`Loan::send`], [`Pending::try_reply`], [`Pending::arm`], [`Client::watch`] | a [`Readiness`] for each thread or loop that waits |
//! | exchange, server | [`Server::try_recv`] | the server's own descriptor |
//! | queue | [`Sender::send_or_arm`](crate::Sender::send_or_arm), [`flush_or_arm`](crate::Sender::flush_or_arm); [`Receiver::try_recv`] | the sender's, the receiver's own |
//! | stream | [`ReadHalf::try_read`](crate::ReadHalf::try_read), [`arm_read`](crate::ReadHalf::arm_read), and the same to write | the half's, the listener's own |
//! | broadcast | [`Publisher::try_loan`], [`Publisher::commit`]; [`Subscriber::try_recv`] | the publisher's, the subscriber's own |
//!
//! [`StreamListener::set_nonblocking`](crate::StreamListener::set_nonblocking) is for who accepts so.
//! [`keep_memory_in_children`](crate::runtime::keep_memory_in_children) is for languages whose references outlive a
//! fork.
//!
//! The blocking types make them: `from_blocking`. Each of these types may be sent to another thread, and
//! [`Client`], which may be cloned, be used by several at a time.

pub use crate::broadcast::polled::{Draft, Publisher, Subscriber};
pub use crate::exchange::polled::{Client, Loan, Pending, Search, Server};
pub use crate::queue::polled::Receiver;
pub use crate::wait::edge_readiness::Readiness;
