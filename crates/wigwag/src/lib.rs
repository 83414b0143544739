//! Wigwag: shared memory for programs that talk to each other on one machine.
//!
//! A **client** has data for a **server**; the server changes it and gives it back. With a socket, a pipe or a file the
//! kernel carries that data across, twice, by copying. Here the client writes into memory that the server also has, a
//! semaphore in that memory says whose turn it is, the server changes the data where it lies, and the semaphore says that
//! it is ready. Nothing is copied and, while both are awake, the kernel is not asked for anything.
//!
//! ```no_run
//! // server: runs until told to stop
//! wigwag::Server::bind("invert")?.serve(|request| {
//!     for byte in request.iter_mut() { *byte = !*byte; }   // the client's own bytes, where they lie
//! })?;
//! # Ok::<(), wigwag::Error>(())
//! ```
//!
//! ```no_run
//! // client
//! let client = wigwag::Client::connect("invert")?;
//! let mut loan = client.loan(4096)?;                       // memory that the server already has
//! loan.fill(1);                                            // build the data right there
//! let reply = loan.call()?;                                // the same memory, changed
//! # Ok::<(), wigwag::Error>(())
//! ```
//!
//! No runtime, no daemon, no configuration, and nothing to clean up: a name is a socket, everything else is anonymous
//! memory that goes with its last owner, however that one ends. See ARCHITECTURE.md for how it works, SECURITY.md for what
//! is promised to whom, docs/layout.md for the bytes and docs/ordering.md for every atomic and its partner.
//!
//! # Features
//! None is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `tokio` | the module `tokio`: the same forms for tasks, woken by tokio's reactor |
//! | `tower` | `tokio`, and the exchange as a tower service, called or served |
//! | `postcard` | calls with any serde type: `Client::call_with`, `Server::serve_with` |
//!
//! # The modules, top down
//!
//! ```text
//! fuzzing                               the validators, for fuzz targets
//! tokio                                 the same faces for tasks
//! typed  encoded                        any plain-memory type as `&mut T`; any serde type
//! client  loan  server  semaphore  stream  stream_listener  sender  receiver  delivery  observe  runtime    the faces
//! link                                  one end of a stream
//! connection                            the caller's end of a session, of whichever form
//! worker                                one serving thread: hot and cold sessions
//! request message                       one call as the server sees it, one message as the receiver does
//! control/host                          whoever takes a name, with its steward
//! session  control/{core steward arrivals}   one connection, as the server sees it; the thread that ends it; streams to accept
//! control/attach                        the client's side of the handshake
//! control/{rendezvous ledger policy settings protocol news}   names, accounts, who gets what and how that is stated, messages
//! control/leftovers  private_copy       whose names live, and what killed processes left; payloads of clients that are not trusted
//! permit_file                           a semaphore's file: how it comes and goes, and who has it open
//! segment  slot  ring  doorbell  permit_table  statistics   the shared memory: pointers, turns, byte rings, wake-ups, permits, counters
//! wait  attention  free_slots  outbox  stats    private state machines
//! hint                                  cache hints
//! layout  contract                      shapes, agreements
//! sys/                                  system calls
//! error  event  sync  planted  blocking    sentences; what is told to `tracing`; atomics, real or model; faults to find; threads of a runtime
//! ```

#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(target_os = "linux"))]
compile_error!("Wigwag needs Linux: memfd, eventfd, pidfd and sealed shared memory");

pub(crate) mod attention;
mod blocking;
mod client;
mod connection;
mod contract;
mod control;
mod delivery;
pub(crate) mod doorbell;
#[cfg(feature = "postcard")]
mod encoded;
mod error;
mod event;
mod free_slots;
#[cfg(any(fuzzing, test))]
#[cfg_attr(not(fuzzing), allow(dead_code, reason = "the tests run a part of it"))]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
mod layout;
mod link;
mod loan;
mod message;
pub mod observe;
mod outbox;
mod permit_file;
pub(crate) mod permit_table;
mod planted;
mod private_copy;
mod receiver;
mod request;
pub(crate) mod ring;
pub mod runtime;
mod segment;
mod semaphore;
mod sender;
mod server;
mod session;
mod slot;
mod statistics;
mod stats;
mod stream;
mod stream_listener;
mod sync;
mod sys;
#[cfg(all(feature = "tokio", not(loom)))]
pub mod tokio;
mod typed;
mod wait;
mod worker;

pub use client::{Client, ClientBuilder};
pub use contract::{Contract, Form, Message};
pub use delivery::{Batch, Delivery};
pub use error::{Error, ErrorKind, Postmortem, Result};
pub use loan::{Loan, Pending, Reply};
pub use receiver::{Deliveries, Receiver, ReceiverBuilder};
pub use request::{Peer, Request};
pub use semaphore::{Permit, Permits, Semaphore, SemaphoreBuilder};
pub use sender::{Draft, Sender, SenderBuilder};
pub use server::{IntoOutcome, Server, ServerBuilder, ShutdownHandle, StatsHandle};
pub use stats::{ClientStats, ReceiverStats, SenderStats, ServerStats};
pub use stream::{ReadHalf, Stream, StreamBuilder, WriteHalf};
pub use stream_listener::{Incoming, StreamListener, StreamListenerBuilder};
pub use typed::{TypedClient, TypedLoan, TypedReply, TypedServer};
pub use wait::Wait;

/// The crate whose traits a [`Message`] implements.
pub use zerocopy;

/// The README's examples are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// What the proof sees of the inside: the state machines on which `tests/loom.rs` runs the model checker and whose own
/// functions the exhaustive models call.
#[cfg(any(loom, feature = "models"))]
#[doc(hidden)]
pub mod models {
    pub mod attention {
        pub use crate::attention::*;
    }
    pub mod slot {
        pub use crate::slot::*;
    }
    pub mod doorbell {
        pub use crate::doorbell::*;
    }
    pub mod permit_table {
        pub use crate::permit_table::*;
    }
    pub mod ring {
        pub use crate::ring::*;
    }
    pub mod sync {
        pub use crate::sync::*;
    }
}
