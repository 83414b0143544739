//! HTTP/1.1 over a Wigwag stream, by an implementation that has never heard of one: hyper, server and client. The same
//! code runs over a Unix socket; what carries it is one line.
//!
//! ```text
//! measure          requests per second and latency of both, taking turns
//! service  client  a few resources; who asks for them
//! runtime          one of tokio's runtimes
//! carrier          a Unix socket or a Wigwag stream
//! ```

pub mod carrier;
pub mod client;
pub mod measure;
pub mod runtime;
pub mod service;
