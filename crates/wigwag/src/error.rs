//! One error for the whole library: a kind for programs, one plain sentence for people.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::escape;

/// The result of every fallible operation here.
pub type Result<T> = std::result::Result<T, Error>;

/// The outcome of a rare way, which is a function by itself, as that of the usual way beside it. Such a function writes
/// what does not fit into two registers to memory; if that were the place of both outcomes, the usual way would write
/// there, too, and read it back at once. Taken apart and put together they meet in registers.
#[inline(always)]
#[allow(clippy::needless_match, reason = "the compiler sees two places")]
pub(crate) fn reassembled<T>(outcome: Result<T>) -> Result<T> {
    match outcome {
        Ok(value) => Ok(value),
        Err(error) => Err(error),
    }
}

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
    peer_death: Option<PeerDeath>,
    /// Whether it came as the server's answer, whose kind may be any: a gateway tells of its own calls so.
    is_answer: bool,
}

impl Inner {
    fn new(kind: ErrorKind, sentence: String) -> Inner {
        Inner { kind, sentence, source: None, peer_death: None, is_answer: false }
    }
}

/// What a client knew of its session when it noticed that the server's process is gone: see [`Error::peer_death`].
///
/// ```
/// fn report(error: &wigwag::Error) -> String {
///     match error.peer_death() {
///         Some(last) => format!("{} of our requests were with process {} when it died", last.in_flight, last.pid),
///         None => error.to_string(),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerDeath {
    /// When this client noticed: within milliseconds while it waits, else with its next call.
    pub noticed_at: Instant,
    /// How long the session had lived by then.
    pub lived: Duration,
    /// The number of the process that is gone, for people.
    pub pid: i32,
    /// Requests of this session that had been passed and not answered: each may have been executed, in part or as a
    /// whole.
    pub in_flight: usize,
}

/// The kinds of [`Error`], for programs to branch on.
///
/// ```
/// # use wigwag::ErrorKind;
/// fn may_send_again(kind: ErrorKind) -> bool {
///     matches!(kind, ErrorKind::PeerDied { maybe_executed: false } | ErrorKind::ServerClosed {
///         maybe_executed: false })
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
    /// The file of a semaphore was removed or replaced by another program while somebody had it open, so that two who
    /// open the name would not see each other.
    NameLost,
    /// The server refused the session: a policy or a limit. The sentence is the server's.
    Refused,
    /// The server had no place for the session just now: all were taken by others who were connecting, its backlog of
    /// streams was full, or it was out of descriptors. The connect was tried again until its time was over; later it
    /// may succeed.
    Busy,
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
    /// All slots are out and waiting was not asked for, or would never end; or as many descriptors are under way as may
    /// be.
    Full,
    /// What was asked for takes both sides of the session, and they have not agreed on it, as on
    /// [descriptors](crate::ConnectOptions::descriptors).
    NotAgreed,
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
    /// A publisher has ended its broadcast in good order, and all that it had published was read.
    Ended,
    /// One end of a stream gave it up before it was complete: it panicked, or it called
    /// [`Stream::abort`](crate::Stream::abort), or was dropped without a shutdown although that was said to mean an
    /// abort.
    Aborted,
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
    /// A value could not be encoded, or the bytes are none of its type (feature `serde`).
    Encoding,
    /// A builder was given a number outside of its limits.
    InvalidConfiguration,
    /// The operating system refused something; [`Error::os_error`] says what.
    Io,
}

/// A path as it is fit to print.
#[cold]
pub(crate) fn shown(path: &Path) -> String {
    escape::escaped(path)
}

/// As much of a text's beginning as there is room for, and whole characters of it.
#[cold]
pub(crate) fn beginning_of(text: &str, room: usize) -> &str {
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A time that was allowed, as somebody would say it: what is left of 5 seconds after the first look is still 5 s.
#[cold]
pub(crate) fn spoken(duration: Duration) -> String {
    let microseconds = duration.as_micros();
    match microseconds {
        0..1_000 => format!("{microseconds} us"),
        1_000..999_500 => format!("{} ms", (microseconds + 500) / 1_000),
        _ => {
            let tenths = (microseconds + 50_000) / 100_000;
            let (seconds, tenth) = (tenths / 10, tenths % 10);
            if tenth == 0 { format!("{seconds} s") } else { format!("{seconds}.{tenth} s") }
        }
    }
}

/// What a server that shuts down says, to its own threads and to clients.
pub(crate) const SHUTTING_DOWN: &str = "the server is shutting down";

impl Error {
    /// An error of a program that calls on behalf of others by other means than this library, such as a gateway to
    /// another machine: for [`Request::fail_as`](crate::Request::fail_as), so that its client gets the same kind as if
    /// it had called the far server by itself.
    ///
    /// The kind is a promise to the client: with `maybe_executed: false`, and with
    /// [`NotRunning`](ErrorKind::NotRunning), it may send the request again.
    ///
    /// ```
    /// use wigwag::{Error, ErrorKind};
    /// let error = Error::on_behalf(ErrorKind::PeerDied { maybe_executed: true }, "the link was lost");
    /// assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true });
    /// assert_eq!(error.to_string(), "the link was lost");
    /// ```
    pub fn on_behalf(kind: ErrorKind, sentence: impl Into<String>) -> Error {
        Error::new(kind, sentence)
    }

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

    /// What was known when the death of the server was noticed: of errors of the kind [`PeerDied`](ErrorKind::PeerDied)
    /// that a [`Client`](crate::Client)'s calls return. All of a session have the same, whenever they are returned.
    ///
    /// ```
    /// let error = wigwag::Client::connect("no.such.name").unwrap_err();
    /// assert!(error.peer_death().is_none(), "nobody died: {error}");
    /// ```
    pub fn peer_death(&self) -> Option<&PeerDeath> {
        self.0.peer_death.as_ref()
    }

    /// The number of the operating system's error (`errno`), if there was one. The sentence has its text, so that it is
    /// not among the sources of this error: printing an error with all of its sources would show it twice.
    ///
    /// ```
    /// let error = wigwag::Server::bind("/proc/no.such.name").unwrap_err();
    /// assert!(error.os_error().is_some());
    /// assert!(std::error::Error::source(&error).is_none());
    /// ```
    pub fn os_error(&self) -> Option<i32> {
        self.0.source.as_ref()?.raw_os_error()
    }

    /// The other process is gone without a farewell.
    #[cold]
    pub(crate) fn died(maybe_executed: bool, fate: &str, peer_death: PeerDeath) -> Error {
        let PeerDeath { noticed_at, lived, pid, in_flight } = peer_death;
        let sentence = format!(
            "the server's process {pid} is gone, noticed {:.1?} ago with {in_flight} {} in flight, {lived:.1?} after \
             the \
             connect; {fate}",
            noticed_at.elapsed(),
            if in_flight == 1 { "request" } else { "requests" }
        );
        let kind = ErrorKind::PeerDied { maybe_executed };
        Error(Box::new(Inner { peer_death: Some(peer_death), ..Inner::new(kind, sentence) }))
    }

    #[cold]
    pub(crate) fn new(kind: ErrorKind, sentence: impl Into<String>) -> Error {
        Error(Box::new(Inner::new(kind, sentence.into())))
    }

    /// The same, as the server's answer.
    #[cold]
    pub(crate) fn answered(self) -> Error {
        Error(Box::new(Inner { is_answer: true, ..*self.0 }))
    }

    /// Whether it is the server's answer, which lies where the payload was.
    pub(crate) fn is_answer(&self) -> bool {
        self.0.is_answer
    }

    /// The same, told in other words.
    #[cold]
    pub(crate) fn retold(self, sentence: String) -> Error {
        Error(Box::new(Inner { sentence, ..*self.0 }))
    }

    /// The system's number of what it refused.
    pub(crate) fn raw_os_error(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(std::io::Error::raw_os_error)
    }

    /// An error of the operating system; `doing` completes "could not ...".
    #[cold]
    pub(crate) fn io(doing: impl fmt::Display, source: impl Into<std::io::Error>) -> Error {
        let source = source.into();
        let cure = match source.raw_os_error() {
            Some(libc::EMFILE) => "; this process has all the descriptors it may have: raise `ulimit -n`",
            Some(libc::ENFILE) => "; the system has all the descriptors it may have: raise fs.file-max",
            Some(libc::ENOMEM) => "; the system is out of memory or of mappings (vm.max_map_count)",
            Some(libc::ENOSPC) => "; remove what is not needed on that file system, or make it larger",
            Some(libc::EDQUOT) => "; remove what is not needed there, or have the quota raised",
            Some(libc::EROFS) => "; use a directory on a file system that can be written to",
            _ => "",
        };
        let sentence = format!("could not {doing}: {source}{cure}");
        Error(Box::new(Inner { source: Some(source), ..Inner::new(ErrorKind::Io, sentence) }))
    }

    /// An error of the operating system that is told in better words than the kernel's.
    #[cold]
    pub(crate) fn io_told(
        doing: impl fmt::Display,
        why: impl fmt::Display,
        source: impl Into<std::io::Error>,
    ) -> Error {
        let source = source.into();
        let sentence = format!("could not {doing}: {why}");
        Error(Box::new(Inner { source: Some(source), ..Inner::new(ErrorKind::Io, sentence) }))
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
            "this handle was made before a fork; shared memory is not inherited by the child: connect or bind anew in \
             the \
             child process",
        )
    }

    /// The server accepts no more requests, and every one that it had is answered.
    #[cold]
    pub(crate) fn shutting_down() -> Error {
        Error::new(ErrorKind::ServerClosed { maybe_executed: false }, SHUTTING_DOWN)
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
        // The text of the system's error is in the sentence already: what is behind it goes on from there.
        self.0.source.as_ref().and_then(std::error::Error::source)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        use std::io::ErrorKind as Io;
        // What the system refused is told as the system tells it: programs look for its numbers, such as EMFILE at an
        // accept.
        if let (ErrorKind::Io, Some(code)) = (error.kind(), error.raw_os_error()) {
            return std::io::Error::from_raw_os_error(code);
        }
        let kind = match error.kind() {
            ErrorKind::NotRunning => Io::NotFound,
            ErrorKind::NameTaken => Io::AddrInUse,
            ErrorKind::Refused | ErrorKind::DirectoryUnsafe => Io::PermissionDenied,
            ErrorKind::Full | ErrorKind::Busy => Io::WouldBlock,
            ErrorKind::TimedOut { .. } => Io::TimedOut,
            ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. } => Io::BrokenPipe,
            ErrorKind::Ended => Io::UnexpectedEof,
            ErrorKind::NameInvalid | ErrorKind::PathInvalid | ErrorKind::InvalidConfiguration => Io::InvalidInput,
            ErrorKind::CapacityExceeded { .. } => Io::InvalidInput,
            ErrorKind::NotAgreed => Io::Unsupported,
            ErrorKind::Violation | ErrorKind::VersionMismatch | ErrorKind::ContractMismatch | ErrorKind::Encoding => {
                Io::InvalidData
            }
            _ => Io::Other,
        };
        std::io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (room, beginning) in [(0, ""), (1, "a"), (2, "a"), (3, "aé"), (4, "aéb"), (9, "aéb")] {
            assert_eq!(beginning_of("aéb", room), beginning, "room for {room}");
        }
    }

    #[test]
    fn item_7_8_a_time_is_told_as_somebody_would_say_it() {
        let told = [0, 999, 1_499, 250_000, 999_400, 999_600, 1_500_000, 4_996_258, 60_000_000];
        let told = told.map(|microseconds| spoken(Duration::from_micros(microseconds)));
        assert_eq!(told, ["0 us", "999 us", "1 ms", "250 ms", "999 ms", "1 s", "1.5 s", "5 s", "60 s"]);
    }
}
