//! The C interface of Wigwag. What a C programmer needs is in `include/wigwag.h`, which is made of this, and in
//! docs/c.md.
//!
//! ```text
//! client  server  sender  receiver  keeper  stream  publisher  subscriber  semaphore  observe
//!                                                                the forms: functions, and what is behind handles
//! call  request  sample                                          what is in the hands of a client, server, subscriber
//! stop  peer  descriptors  loop_descriptor                       what several forms share
//! options  time                                                  what C says before and with a call
//! failure  code  wording                                         what C is told of a failure; no panic leaves
//! given                                                          what C hands in: all unsafe code
//! ```
//!
//! Every exported function is guarded ([`failure::guarded`]), checks each pointer ([`given`]), and does one thing of
//! the library. A form that is added gets a file beside the others, options it needs in [`options`], and its symbols in
//! `symbols.txt`.

// In the order in which the header has them: blank lines keep it.
mod code;

mod failure;

mod time;

mod options;

mod peer;

mod descriptors;

mod client;

mod call;

mod server;

mod request;

mod stop;

mod sender;

mod receiver;

mod keeper;

mod stream;

mod publisher;

mod subscriber;

mod sample;

mod semaphore;

mod observe;

mod given;

mod loop_descriptor;

mod wording;

use std::ffi::{CStr, c_char};

/// The version of the header, as "1.2.3". wigwag_version() says that of the library.
pub const WIGWAG_VERSION: &CStr = c"0.1.0";

/// The version of the library that this program runs with, as "1.2.3". It is valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no zero in it"),
    };
    VERSION.as_ptr()
}
