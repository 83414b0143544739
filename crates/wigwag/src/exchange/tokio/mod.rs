//! Calls and their replies, for tasks.

mod client;
#[cfg(feature = "serde")]
mod encoded;
mod following;
mod loan;
mod server;
mod session;
#[cfg(feature = "tower")]
mod tower;
mod typed_client;
mod typed_loan;
mod typed_server;

pub use client::Client;
pub use loan::{Loan, Pending, Reply};
pub use server::Server;
#[cfg(feature = "tower")]
pub use tower::{ClientService, ResponseFuture};
pub use typed_client::TypedClient;
pub use typed_loan::{TypedLoan, TypedPending, TypedReply};
pub use typed_server::TypedServer;
