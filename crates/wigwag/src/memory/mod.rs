//! What lies in shared memory: algorithms that are handed their words.

pub mod board;
pub mod bounce_buffer;
pub mod doorbell;
pub mod entry;
pub mod head;
pub mod hint;
pub mod hold;
pub mod layout;
pub mod payload;
pub mod prefetch;
pub mod ring;
pub mod segment;
pub mod slot;
