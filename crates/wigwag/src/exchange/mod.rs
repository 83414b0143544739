//! Calls and their replies: a client lends its bytes to the server, which changes them where they lie.
//!
//! A session has some slots. A slot holds a request and then, in the same bytes, its reply; one atomic word, the turn,
//! says whose it is. One call, both sides awake:
//!
//! ```text
//! client                                         server
//! slot = free_slots.take()                       loop {
//! write the payload, then the head                 turn = slot.turn                      poll_last_session, scan
//! turn.swap(SERVER | sequence + 1)    ---->        if turn is SERVER with the expected sequence {
//! if server.waiting { notify the server }            head = read once, checked           intake
//! loop { until turn is the client's }                handler(&mut payload)               Request
//!     spin, announce, look again, sleep              write the head
//! head = read once, checked           <----          old = turn.swap(CLIENT | sequence)
//! read the reply in place                            if old has WAKE { notify the client }
//! free_slots.put(slot)                           } }
//! ```
//!
//! | part | where |
//! |---|---|
//! | the client's core, which never waits: loans, passes, looks, gives up | [`caller`], [`owned_loan`], [`free_slots`] |
//! | a client that outlives its servers: what goes on at the next one, which sessions are kept | [`carrying`], [`lineage`] |
//! | the server's half: a turn that was seen becomes a request | [`crate::service::worker`], [`request`] |
//! | blocking | [`client::Client`], [`loan`], [`server::Server`] |
//! | tasks | `tokio` |
//! | event loops, other languages | [`polled`] |
//! | values instead of bytes | `typed_*`, `encoded` |
//!
//! A process that is killed at any instruction leaves each slot with one side or with the other, as each change of the
//! turn is one atomic step. docs/design/exchange.md says why it is quick and what a kill leaves.

mod call_error;
mod caller;
mod carrying;
mod client;
#[cfg(feature = "serde")]
mod encoded;
mod error_reply;
mod following;
mod free_slots;
mod intake;
mod lineage;
mod loan;
mod owned_loan;
#[cfg(not(loom))]
mod passed_slot;
#[cfg(not(loom))]
pub(crate) mod polled;
pub(crate) mod request;
mod server;
mod sessions;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod tokio;
mod typed_client;
mod typed_loan;
mod typed_server;

pub use call_error::CallError;
pub use client::{Client, ClientBuilder};
pub use loan::{Loan, Pending, Reply};
pub use request::{Abandoned, Request};
pub use server::{IntoOutcome, Server, ServerBuilder};
pub use typed_client::TypedClient;
pub use typed_loan::{TypedLoan, TypedPending, TypedReply};
pub use typed_server::{TypedRequest, TypedServer};
