//! What the functions return.

use std::ffi::{CStr, c_char, c_int};

use library::ErrorKind;

/// What a function returns: `WIGWAG_OK`, or what went wrong. All are negative but `WIGWAG_OK`. New ones may be added:
/// treat what you do not know as you treat `WIGWAG_ERR_OTHER`.
///
/// A wigwag_error has a sentence beside it that names the value, the limit and the cure, and says of a call whether it
/// may have been executed.
#[repr(C)]
#[allow(non_camel_case_types, clippy::enum_variant_names)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum wigwag_code {
    /// It is done.
    WIGWAG_OK = 0,
    /// The name is empty, too long, or has a slash in it.
    WIGWAG_ERR_NAME_INVALID = -1,
    /// The path is not a socket of Wigwag's, or too long.
    WIGWAG_ERR_PATH_INVALID = -2,
    /// The directory belongs to somebody else, or others may write to it.
    WIGWAG_ERR_DIRECTORY_UNSAFE = -3,
    /// No server listens on the name.
    WIGWAG_ERR_NOT_RUNNING = -4,
    /// Another server has the name.
    WIGWAG_ERR_NAME_TAKEN = -5,
    /// The file of a semaphore was removed or replaced by another program while somebody had it open.
    WIGWAG_ERR_NAME_LOST = -6,
    /// The server refused the session: a policy or a limit.
    WIGWAG_ERR_REFUSED = -7,
    /// The server had no place for the session just now; later it may have.
    WIGWAG_ERR_BUSY = -8,
    /// The two sides speak different contracts, or forms.
    WIGWAG_ERR_CONTRACT_MISMATCH = -9,
    /// The two sides are of versions that do not understand each other.
    WIGWAG_ERR_VERSION_MISMATCH = -10,
    /// The payload is larger than the session's capacity.
    WIGWAG_ERR_CAPACITY_EXCEEDED = -11,
    /// All slots are out, or as many descriptors are under way as may be.
    WIGWAG_ERR_FULL = -12,
    /// The two sides have not agreed on it, as on descriptors.
    WIGWAG_ERR_NOT_AGREED = -13,
    /// The time allowed ran out.
    WIGWAG_ERR_TIMED_OUT = -14,
    /// The other process is gone without a farewell: killed, crashed, or exited.
    WIGWAG_ERR_PEER_DIED = -15,
    /// The server shut down in good order, or ended this session with a reason.
    WIGWAG_ERR_SERVER_CLOSED = -16,
    /// One end of a stream gave it up before it was complete.
    WIGWAG_ERR_ABORTED = -17,
    /// The handler failed; the sentence has its text.
    WIGWAG_ERR_HANDLER_FAILED = -18,
    /// The handler panicked; the sentence has its message. The server goes on.
    WIGWAG_ERR_HANDLER_PANICKED = -19,
    /// The server dropped the request without an answer.
    WIGWAG_ERR_UNANSWERED = -20,
    /// The handle was made before a fork, and is used in the child.
    WIGWAG_ERR_FORKED = -21,
    /// The other side wrote something that the protocol does not allow.
    WIGWAG_ERR_VIOLATION = -22,
    /// A value could not be encoded.
    WIGWAG_ERR_ENCODING = -23,
    /// An option is outside of its limits.
    WIGWAG_ERR_INVALID_CONFIGURATION = -24,
    /// The operating system refused something: wigwag_error_os_error() has its number.
    WIGWAG_ERR_IO = -25,
    /// Something that this version of the interface has no code for.
    WIGWAG_ERR_OTHER = -26,
    /// A publisher has ended its broadcast in good order, and all that it had published was read.
    WIGWAG_ERR_ENDED = -27,
    /// Nothing is there, and waiting was not asked for.
    WIGWAG_ERR_WOULD_BLOCK = -100,
    /// A pointer that is needed is NULL, or points to nothing of its kind.
    WIGWAG_ERR_NULL = -101,
    /// The handle is of another form, was ended or freed, or never was one. This is noticed as long as the memory is
    /// not used for something else: do not rely on it.
    WIGWAG_ERR_INVALID_HANDLE = -102,
    /// Another call is in this handle, which only one may be in at a time.
    WIGWAG_ERR_IN_USE = -103,
    /// An argument makes no sense; the sentence says which one and why.
    WIGWAG_ERR_INVALID_ARGUMENT = -104,
    /// A fault in Wigwag itself: please report it with the sentence. The handle can only be freed now.
    WIGWAG_ERR_PANICKED = -105,
}

/// Names and numbers, as a table.
macro_rules! names {
    ($($name:ident)*) => {
        const NAMES: &[(wigwag_code, &CStr)] = &[$((
            wigwag_code::$name,
            match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("a name has no zero in it"),
            },
        )),*];
    };
}

names! {
    WIGWAG_OK WIGWAG_ERR_NAME_INVALID WIGWAG_ERR_PATH_INVALID WIGWAG_ERR_DIRECTORY_UNSAFE WIGWAG_ERR_NOT_RUNNING
    WIGWAG_ERR_NAME_TAKEN WIGWAG_ERR_NAME_LOST WIGWAG_ERR_REFUSED WIGWAG_ERR_BUSY WIGWAG_ERR_CONTRACT_MISMATCH
    WIGWAG_ERR_VERSION_MISMATCH WIGWAG_ERR_CAPACITY_EXCEEDED WIGWAG_ERR_FULL WIGWAG_ERR_NOT_AGREED WIGWAG_ERR_TIMED_OUT
    WIGWAG_ERR_PEER_DIED WIGWAG_ERR_SERVER_CLOSED WIGWAG_ERR_ABORTED WIGWAG_ERR_HANDLER_FAILED
    WIGWAG_ERR_HANDLER_PANICKED WIGWAG_ERR_UNANSWERED WIGWAG_ERR_FORKED WIGWAG_ERR_VIOLATION WIGWAG_ERR_ENCODING
    WIGWAG_ERR_INVALID_CONFIGURATION WIGWAG_ERR_IO WIGWAG_ERR_OTHER WIGWAG_ERR_ENDED WIGWAG_ERR_WOULD_BLOCK
    WIGWAG_ERR_NULL WIGWAG_ERR_INVALID_HANDLE WIGWAG_ERR_IN_USE WIGWAG_ERR_INVALID_ARGUMENT WIGWAG_ERR_PANICKED
}

impl wigwag_code {
    /// The code of an error of the library.
    pub fn of(kind: ErrorKind) -> wigwag_code {
        match kind {
            ErrorKind::NameInvalid => wigwag_code::WIGWAG_ERR_NAME_INVALID,
            ErrorKind::PathInvalid => wigwag_code::WIGWAG_ERR_PATH_INVALID,
            ErrorKind::DirectoryUnsafe => wigwag_code::WIGWAG_ERR_DIRECTORY_UNSAFE,
            ErrorKind::NotRunning => wigwag_code::WIGWAG_ERR_NOT_RUNNING,
            ErrorKind::NameTaken => wigwag_code::WIGWAG_ERR_NAME_TAKEN,
            ErrorKind::NameLost => wigwag_code::WIGWAG_ERR_NAME_LOST,
            ErrorKind::Refused => wigwag_code::WIGWAG_ERR_REFUSED,
            ErrorKind::Busy => wigwag_code::WIGWAG_ERR_BUSY,
            ErrorKind::ContractMismatch => wigwag_code::WIGWAG_ERR_CONTRACT_MISMATCH,
            ErrorKind::VersionMismatch => wigwag_code::WIGWAG_ERR_VERSION_MISMATCH,
            ErrorKind::CapacityExceeded { .. } => wigwag_code::WIGWAG_ERR_CAPACITY_EXCEEDED,
            ErrorKind::Full => wigwag_code::WIGWAG_ERR_FULL,
            ErrorKind::NotAgreed => wigwag_code::WIGWAG_ERR_NOT_AGREED,
            ErrorKind::TimedOut { .. } => wigwag_code::WIGWAG_ERR_TIMED_OUT,
            ErrorKind::PeerDied { .. } => wigwag_code::WIGWAG_ERR_PEER_DIED,
            ErrorKind::ServerClosed { .. } => wigwag_code::WIGWAG_ERR_SERVER_CLOSED,
            ErrorKind::Aborted => wigwag_code::WIGWAG_ERR_ABORTED,
            ErrorKind::HandlerFailed => wigwag_code::WIGWAG_ERR_HANDLER_FAILED,
            ErrorKind::HandlerPanicked => wigwag_code::WIGWAG_ERR_HANDLER_PANICKED,
            ErrorKind::Unanswered => wigwag_code::WIGWAG_ERR_UNANSWERED,
            ErrorKind::Forked => wigwag_code::WIGWAG_ERR_FORKED,
            ErrorKind::Violation => wigwag_code::WIGWAG_ERR_VIOLATION,
            ErrorKind::Encoding => wigwag_code::WIGWAG_ERR_ENCODING,
            ErrorKind::InvalidConfiguration => wigwag_code::WIGWAG_ERR_INVALID_CONFIGURATION,
            ErrorKind::Io => wigwag_code::WIGWAG_ERR_IO,
            ErrorKind::Ended => wigwag_code::WIGWAG_ERR_ENDED,
            _ => wigwag_code::WIGWAG_ERR_OTHER,
        }
    }
}

/// The name of a code, such as "WIGWAG_ERR_PEER_DIED", for messages. It is valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_code_name(code: c_int) -> *const c_char {
    let found = NAMES.iter().find(|(known, _)| *known as c_int == code);
    found.map_or(c"a code that this version of Wigwag does not know", |(_, name)| *name).as_ptr()
}
