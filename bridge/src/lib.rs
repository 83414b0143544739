//! Wigwag across machines: a service's name on another host, carried by zenoh.
//!
//! A bridge runs on each machine. One *exports* names of services that run there; another *imports* them, which means
//! that it serves the same name on its own machine. Programs call a local name and are not changed. docs/bridge.md has
//! the commands, what is promised, and what each failure looks like.
//!
//! ```text
//! bridge        one process: zenoh's session, exports, imports, the end
//! export        services of this machine for bridges elsewhere
//! import        names of this machine for services elsewhere
//! bundle        small messages of a broadcast, many in one
//! outlet        what a link sends, in pieces where it is large;  window: how much of that may be under way
//! seen          which numbers of a link were there before
//! wire          messages as bytes;  keys: where they go;  fault: errors that travel
//! settings      command line and TOML file;  engine: zenoh's configuration
//! status        counters, and who reads them;  log: sentences for people
//! bench         goal Z1;  dice: random numbers for tests
//! ```

pub mod bench;
pub mod bridge;
pub mod bundle;
#[cfg(test)]
mod dice;
mod engine;
mod export;
mod fault;
mod import;
mod keys;
mod log;
mod outlet;
mod seen;
pub mod settings;
pub mod status;
mod window;
pub mod wire;

pub use bridge::Bridge;
