//! One error for the whole library: a kind for programs, one plain sentence for people.

use std::fmt;
use std::path::Path;

/// The result of every fallible operation here.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in one sentence that names the value, the limit and the cure.
///
/// It is one pointer wide, so that the results of the hot path stay small.
///
/// ```
/// use wigwag::ErrorKind;
/// let error = wigwag::Client::connect("no/such/name").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NameInvalid);
/// assert!(error.to_string().contains("contains a slash"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    sentence: String,
    source: Option<std::io::Error>,
}

/// The kinds of [`Error`], for programs to branch on.
///
/// ```
/// # use wigwag::ErrorKind;
/// fn may_send_again(kind: ErrorKind) -> bool {
///     matches!(kind, ErrorKind::PeerDied { maybe_executed: false } | ErrorKind::ServerClosed { maybe_executed: false })
/// }
/// assert!(!may_send_again(ErrorKind::PeerDied { maybe_executed: true }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name is empty, too long, or has a slash or a NUL in it.
    NameInvalid,
    /// The path is not a socket of ours, or too long.
    PathInvalid,
    /// The directory belongs to somebody else, or others may write to it.
    DirectoryUnsafe,
    /// No server listens on the name.
    NotRunning,
    /// Another server has the name.
    NameTaken,
    /// The server refused the session: a policy or a limit. The sentence is the server's.
    Refused,
    /// Client and server speak different contracts.
    ContractMismatch,
    /// Client and server are of versions that do not understand each other.
    VersionMismatch,
    /// The payload is larger than the session's capacity.
    CapacityExceeded {
        /// Length asked for, in bytes.
        len: usize,
        /// The most the session allows, in bytes.
        capacity: usize,
    },
    /// All slots are out and waiting was not asked for, or would never end.
    Full,
    /// The time allowed ran out.
    TimedOut {
        /// Whether the server may have executed the request, or may still do so.
        maybe_executed: bool,
    },
    /// The other process is gone without a farewell: killed, crashed, or exited.
    PeerDied {
        /// Whether the request may have been executed.
        maybe_executed: bool,
    },
    /// The server shut down in good order, or ended this session with a reason.
    ServerClosed {
        /// Whether the request may have been executed.
        maybe_executed: bool,
    },
    /// The handler returned an error; the sentence has its text.
    HandlerFailed,
    /// The handler panicked; the sentence has its message. The server goes on.
    HandlerPanicked,
    /// The server dropped the request without an answer.
    Unanswered,
    /// The handle was made before a `fork` and is used in the child.
    Forked,
    /// The peer wrote something into the shared memory or the socket that the protocol does not allow.
    Violation,
    /// A value could not be encoded, or the bytes are none of its type (feature `postcard`).
    Encoding,
    /// A builder was given a number outside of its limits.
    InvalidConfiguration,
    /// The operating system refused something; the source says what.
    Io,
}

/// A path as it is fit to print: control characters, which may steer a terminal, are written out.
#[cold]
pub(crate) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        match character.is_control() {
            true => text.extend(character.escape_debug()),
            false => text.push(character),
        }
    }
    text
}

impl Error {
    /// The kind, for programs to branch on.
    ///
    /// ```
    /// # use wigwag::ErrorKind;
    /// let error = wigwag::Client::connect("").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NameInvalid);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    #[cold]
    pub(crate) fn new(kind: ErrorKind, sentence: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, sentence: sentence.into(), source: None }))
    }

    /// An error of the operating system; `doing` completes "could not ...".
    #[cold]
    pub(crate) fn io(doing: impl fmt::Display, source: impl Into<std::io::Error>) -> Error {
        let source = source.into();
        let cure = match source.raw_os_error() {
            Some(libc::EMFILE) => "; this process has all the descriptors it may have: raise `ulimit -n`",
            Some(libc::ENFILE) => "; the system has all the descriptors it may have: raise fs.file-max",
            Some(libc::ENOMEM) => "; the system is out of memory or of mappings (vm.max_map_count)",
            _ => "",
        };
        let sentence = format!("could not {doing}: {source}{cure}");
        Error(Box::new(Inner { kind: ErrorKind::Io, sentence, source: Some(source) }))
    }

    #[cold]
    pub(crate) fn capacity(len: usize, capacity: usize) -> Error {
        Error::new(
            ErrorKind::CapacityExceeded { len, capacity },
            format!(
                "a payload of {len} bytes does not fit: the session's capacity is {capacity} bytes; ask for more with \
                 ClientBuilder::capacity, within what the server allows (ServerBuilder::capacity)"
            ),
        )
    }

    #[cold]
    pub(crate) fn forked() -> Error {
        Error::new(
            ErrorKind::Forked,
            "this handle was made before a fork; shared memory is not inherited by the child: connect or bind anew in the \
             child process",
        )
    }

    #[cold]
    pub(crate) fn timed_out(maybe_executed: bool) -> Error {
        let sentence = if maybe_executed {
            "no reply within the time allowed; the server has the request and may still execute it"
        } else {
            "nothing came free within the time allowed; the request was not sent"
        };
        Error::new(ErrorKind::TimedOut { maybe_executed }, sentence)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.sentence)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.0.kind, self.0.sentence)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::NotRunning => Io::NotFound,
            ErrorKind::NameTaken => Io::AddrInUse,
            ErrorKind::Refused | ErrorKind::DirectoryUnsafe => Io::PermissionDenied,
            ErrorKind::Full => Io::WouldBlock,
            ErrorKind::TimedOut { .. } => Io::TimedOut,
            ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. } => Io::BrokenPipe,
            ErrorKind::NameInvalid | ErrorKind::PathInvalid | ErrorKind::InvalidConfiguration => Io::InvalidInput,
            ErrorKind::CapacityExceeded { .. } => Io::InvalidInput,
            ErrorKind::Violation | ErrorKind::VersionMismatch | ErrorKind::ContractMismatch | ErrorKind::Encoding => {
                Io::InvalidData
            }
            _ => Io::Other,
        };
        std::io::Error::new(kind, error)
    }
}
