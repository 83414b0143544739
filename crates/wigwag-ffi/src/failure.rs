//! Why a call failed, on its way to C; and the object by which C is told.

use std::any::Any;
use std::borrow::Cow;
use std::ffi::{CString, c_char, c_int};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use library::{Error, ErrorKind};

use crate::code::wigwag_code;
use crate::given::{self, opaque};
use crate::wording;

/// What a call comes to in Rust.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why it failed. It has two words, so that a function gives it back in registers: something larger each call would
/// write to memory and read back, to see that it did not fail.
pub enum Failure {
    /// Nothing is there, and the call does not wait. Who polls gets that again and again: it takes no memory.
    WouldBlock(&'static &'static str),
    /// The library says so.
    Library(Error),
    /// Somebody else does.
    Other(Box<Why>),
}

/// Why it failed, by others than the library.
pub enum Why {
    /// This interface says so.
    Interface(wigwag_code, Cow<'static, str>),
    /// This interface says so of a request that was executed.
    Executed(wigwag_code, String),
    /// The operating system says so, to a stream.
    System(io::Error),
}

const _: () = assert!(size_of::<Result<()>>() == 2 * size_of::<usize>(), "it would be given back in memory");

impl Failure {
    /// Of this interface.
    pub fn interface(code: wigwag_code, text: impl Into<Cow<'static, str>>) -> Failure {
        Failure::Other(Box::new(Why::Interface(code, text.into())))
    }

    /// Of this interface, about a request that was executed.
    pub fn executed(code: wigwag_code, text: String) -> Failure {
        Failure::Other(Box::new(Why::Executed(code, text)))
    }

    fn code(&self) -> wigwag_code {
        match self {
            Failure::WouldBlock(_) => wigwag_code::WIGWAG_ERR_WOULD_BLOCK,
            Failure::Library(error) => wigwag_code::of(error.kind()),
            Failure::Other(why) => why.code(),
        }
    }

    fn told(&self) -> Told {
        let code = self.code() as c_int;
        match self {
            Failure::WouldBlock(why) => Told { code, text: text(why), ..Told::default() },
            Failure::Library(error) => Told {
                code,
                text: text(&wording::of_c(&error.to_string())),
                maybe_executed: maybe_executed(error.kind()),
                os_error: error.os_error().unwrap_or(0),
            },
            Failure::Other(why) => match &**why {
                Why::Interface(_, why) => Told { code, text: text(why), ..Told::default() },
                Why::Executed(_, why) => Told { code, text: text(why), maybe_executed: true, ..Told::default() },
                Why::System(error) => Told {
                    code,
                    text: text(&error.to_string()),
                    os_error: error.raw_os_error().unwrap_or(0),
                    ..Told::default()
                },
            },
        }
    }
}

impl Why {
    fn code(&self) -> wigwag_code {
        match self {
            Why::Interface(code, _) | Why::Executed(code, _) => *code,
            Why::System(error) => match error.kind() {
                io::ErrorKind::WouldBlock => wigwag_code::WIGWAG_ERR_WOULD_BLOCK,
                io::ErrorKind::TimedOut => wigwag_code::WIGWAG_ERR_TIMED_OUT,
                io::ErrorKind::InvalidInput => wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT,
                io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => wigwag_code::WIGWAG_ERR_SERVER_CLOSED,
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => wigwag_code::WIGWAG_ERR_ABORTED,
                _ => wigwag_code::WIGWAG_ERR_IO,
            },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Library(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.downcast::<Error>() {
            Ok(error) => Failure::Library(error),
            Err(error) => Failure::Other(Box::new(Why::System(error))),
        }
    }
}

fn maybe_executed(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::TimedOut { maybe_executed }
        | ErrorKind::PeerDied { maybe_executed }
        | ErrorKind::ServerClosed { maybe_executed } => maybe_executed,
        // The server had the request in hand and says so.
        ErrorKind::HandlerFailed | ErrorKind::HandlerPanicked | ErrorKind::Unanswered => true,
        _ => false,
    }
}

/// As C has texts: without zeros.
pub fn text(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default() // there is no zero in it
}

/// What a call that failed has to say. Made by wigwag_error_new() and used again and again: each function that fails
/// overwrites it, and one that succeeds leaves it as it is. Every function that takes one takes NULL as well.
///
/// One thread at a time may use it.
#[allow(non_camel_case_types)]
pub struct wigwag_error([u8; 0]);

opaque! { wigwag_error = Told, b"wwErrorX"; }

/// What is behind it.
#[derive(Default)]
pub struct Told {
    code: c_int,
    text: CString,
    maybe_executed: bool,
    os_error: i32,
}

/// Runs what a function does. No panic leaves it, and what fails is told.
#[inline(always)]
pub fn guarded(error: *mut wigwag_error, work: impl FnOnce() -> Result<()>) -> c_int {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => wigwag_code::WIGWAG_OK as c_int,
        Ok(Err(failure)) => tell(error, failure),
        Err(panic) => tell(error, panicked(panic)),
    }
}

/// As [`guarded`], of a function that returns something else than a code; what it returns when it fails.
pub fn guarded_value<T>(otherwise: T, work: impl FnOnce() -> Result<T>) -> T {
    catch_unwind(AssertUnwindSafe(work)).ok().and_then(|outcome| outcome.ok()).unwrap_or(otherwise)
}

#[cold]
fn tell(error: *mut wigwag_error, failure: Failure) -> c_int {
    let code = failure.code() as c_int;
    if !error.is_null() {
        let told = || given::alone(error).map(|mut place| *place = failure.told());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(told()))); // who gives no error object is not told
    }
    code
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> Failure {
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let text = format!("a fault in Wigwag: {}", said.unwrap_or("a panic without a text"));
    std::mem::forget(panic); // its own drop may panic
    Failure::interface(wigwag_code::WIGWAG_ERR_PANICKED, text)
}

/// Makes an error object; NULL if there is no memory for it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_error_new() -> *mut wigwag_error {
    guarded_value(std::ptr::null_mut(), || Ok(given::give(Told::default())))
}

/// Frees an error object, or does nothing with NULL.
///
/// Returns `WIGWAG_OK`, or `WIGWAG_ERR_INVALID_HANDLE` where that can be noticed.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_error_free(error: *mut wigwag_error) -> c_int {
    free_handle(error)
}

/// Frees what is behind a handle, or nothing behind NULL.
pub fn free_handle<O: given::Opaque>(handle: *mut O) -> c_int {
    if handle.is_null() {
        return wigwag_code::WIGWAG_OK as c_int;
    }
    guarded(std::ptr::null_mut(), || given::take(handle).map(drop))
}

/// The code of what failed last; `WIGWAG_OK` if nothing has, or of NULL.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_error_code(error: *const wigwag_error) -> c_int {
    guarded_value(wigwag_code::WIGWAG_OK as c_int, || Ok(given::alone(error)?.code))
}

/// A sentence for people that says what failed last, in UTF-8, without a full stop; "" if nothing has, or of NULL. It
/// is valid until the object is used for another call or freed.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_error_text(error: *const wigwag_error) -> *const c_char {
    guarded_value(c"".as_ptr(), || Ok(given::alone(error)?.text.as_ptr()))
}

/// 1 if the request that failed last may have been executed by the server, in part or as a whole, or may still be; 0 if
/// not. Whoever calls again after a 1 may have it executed twice.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_error_maybe_executed(error: *const wigwag_error) -> c_int {
    guarded_value(0, || Ok(given::alone(error)?.maybe_executed.into()))
}

/// What errno would say of what failed last, or 0 if the operating system has nothing to do with it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_error_os_error(error: *const wigwag_error) -> c_int {
    guarded_value(0, || Ok(given::alone(error)?.os_error))
}
