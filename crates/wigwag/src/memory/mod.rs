//! What lies in shared memory: algorithms that are handed their words.

pub mod bounce_buffer;
pub mod doorbell;
pub mod layout;
pub mod payload;
pub mod prefetch;
pub mod ring;
pub mod segment;
pub mod slot;
