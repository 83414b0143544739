//! What is sent: protocol buffers, declared in Rust.

/// Some bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Bytes {
    /// The bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

/// A number.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Number {
    /// Its value.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

/// The numbers from one to before another.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Span {
    /// The first.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// The one after the last.
    #[prost(uint64, tag = "2")]
    pub to: u64,
}
