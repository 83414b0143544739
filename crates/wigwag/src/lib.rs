//! Wigwag: shared memory for programs that talk to each other on one machine.
//!
//! A **client** has data for a **server**; the server changes it and gives it back. With a socket, a pipe or a file the
//! kernel carries that data across, twice, by copying. Here the client writes into memory that the server also has, a
//! semaphore in that memory says whose turn it is, the server changes the data where it lies, and the semaphore says
//! that it is ready. Nothing is copied and, while both are awake, the kernel is not asked for anything.
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
//! memory that goes with its last owner, however that one ends. See ARCHITECTURE.md for how it works, SECURITY.md for
//! what is promised to whom, docs/layout.md for the bytes and docs/ordering.md for every atomic and its partner.
//!
//! # Features
//! None is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `tokio` | the module `tokio`: the same forms for tasks, woken by tokio's reactor |
//! | `tower` | `tokio`, and the exchange as a tower service, called or served |
//! | `axum` | `tokio`, and a stream listener that `axum::serve` (0.8) takes |
//! | `tonic` | `tokio`, and streams that tonic's server (0.14) takes as they are |
//! | `serde` | calls and messages with serde types, by name: `Client::call_with`, `Server::serve_with`, `Sender::send_with` |
//! | `postcard` | `serde`, and `Encoding::Postcard`: smaller and quicker, without names |
//!
//! # The modules, top down
//!
//! ```text
//! tokio  polled  verify/{fuzzing models}         the forms for tasks, for event loops; for fuzz targets, models
//! exchange  queue  stream  broadcast  semaphore  runtime    the forms, a folder each; names and kernel features
//! service                                        whoever owns a name: control thread, workers, sessions
//! observe                                        what runs, read by others
//! session                                        one connection of any form: names, handshake, its end
//! options                                        what is said before a connect or a bind
//! wait                                           how one side waits: spinning, sleeping, reactors
//! permits                                        what lies in a semaphore's file, and who has it
//! memory  statistics                             what lies in shared memory; counters
//! encoded  typed_view  array                     values as bytes: any serde type, any plain-memory type, arrays
//! contract  form  stats                          what two sides agree on, what depends on the form, what was counted
//! sys                                            system calls
//! error  trace  sync  faults                     sentences; events; atomics, real or model; injected faults
//! escape                                         names as text
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(target_os = "linux"))]
compile_error!("Wigwag needs Linux: memfd, eventfd, pidfd and sealed shared memory");

// Geometries are computed in `usize`, up to 8 TiB for a session: on a narrower one the sums would wrap around.
#[cfg(not(target_pointer_width = "64"))]
compile_error!("Wigwag needs a 64-bit target: its segments and counters do not fit into 32 bits");

pub mod array;
mod broadcast;
mod contract;
#[cfg(feature = "serde")]
mod encoded;
mod error;
mod escape;
mod exchange;
mod faults;
mod form;
mod memory;
pub mod observe;
mod options;
mod permits;
#[cfg(not(loom))]
pub mod polled;
mod queue;
pub mod runtime;
mod semaphore;
mod service;
mod session;
mod statistics;
mod stats;
mod stream;
mod sync;
mod sys;
#[cfg(all(feature = "tokio", not(loom)))]
pub mod tokio;
mod trace;
mod typed_view;
mod verify;
mod wait;

pub use broadcast::{
    Message, Messages, Overrun, Publication, Publisher, PublisherBuilder, PublisherStats, Receipt, Start, Subscriber,
    SubscriberBuilder, SubscriberState, SubscriberStats, TypedMessage, TypedPublication, TypedPublisher,
    TypedSubscriber,
};
#[cfg(feature = "serde")]
pub use contract::Encoding;
pub use contract::{Contract, Payload};
pub use error::{Error, ErrorKind, PeerDeath, Result};
pub use exchange::{
    Abandoned, CallError, Client, ClientBuilder, IntoOutcome, Loan, Pending, Reply, Request, Server, ServerBuilder,
    TypedClient, TypedLoan, TypedPending, TypedReply, TypedRequest, TypedServer,
};
pub use form::Form;
pub use options::{Access, ConnectOptions, Limits, ListenOptions};
pub use queue::{
    Batch, Deliveries, Delivery, MessageLoan, Receiver, ReceiverBuilder, Sender, SenderBuilder, TypedBatch,
    TypedDeliveries, TypedDelivery, TypedMessageLoan, TypedReceiver, TypedSender,
};
#[cfg(not(loom))]
pub use queue::{Keeper, KeeperBuilder, KeeperEvent, KeeperStats};
pub use semaphore::{OwnedPermit, OwnedPermits, Permit, Permits, Semaphore, SemaphoreBuilder};
pub use service::handles::{ShutdownHandle, StatsHandle};
pub use session::peer::Peer;
pub use stats::{ClientStats, ReceiverStats, SenderStats, ServerStats};
pub use stream::{Incoming, ReadHalf, Stream, StreamBuilder, StreamListener, StreamListenerBuilder, WriteHalf};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use verify::fuzzing;
#[cfg(any(loom, feature = "models"))]
#[doc(hidden)]
pub use verify::models;
pub use wait::policy::Wait;

/// The crate whose traits a [`Payload`] implements.
pub use zerocopy;
