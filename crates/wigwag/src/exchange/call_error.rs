//! A call that failed, with its payload, so that what was built in a loan is not lost with the server.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::exchange::caller::Caller;

/// Why a call failed, and the payload, if it is there still: see
/// [`Loan::call_or_payload`](crate::Loan::call_or_payload).
///
/// The payload is a copy of the slot as it lies when the error is known. It is what was sent as long as no handler had
/// it, which is so for errors with `maybe_executed: false`; a handler works in place, so what it had changed by then is
/// changed. There is none after errors that are the server's answer ([`HandlerFailed`](ErrorKind::HandlerFailed) and
/// the like), because their text has taken its place, and none in a forked child.
///
/// [`into_error`](CallError::into_error) makes an [`Error`](crate::Error) of it. (A conversion by `?` would take from
/// programs what the compiler infers of their own `?`s.)
///
/// ```
/// # let name = &wigwag_testing::temporary_name("c").path;
/// fn send_again(error: wigwag::CallError, elsewhere: &wigwag::Client) -> wigwag::Result<Vec<u8>> {
///     match error.into_parts() {
///         // Nothing was executed: the same payload may go to another server.
///         (error, Some(payload)) if matches!(error.kind(), wigwag::ErrorKind::PeerDied { maybe_executed: false }) => {
///             elsewhere.call(&payload).map(|reply| reply.to_vec())
///         }
///         (error, _) => Err(error),
///     }
/// }
/// ```
pub struct CallError<P = Vec<u8>> {
    error: Error,
    payload: Option<P>,
}

impl CallError {
    /// Of a slot whose call has ended so.
    #[cold]
    pub(crate) fn of(caller: &Caller, slot: usize, len: usize, error: Error) -> CallError {
        let payload = is_left_by(&error).then(|| caller.copy_payload(slot, len)).flatten();
        CallError { error, payload }
    }

    /// With a copy, which is made if the payload is there.
    #[cfg(all(feature = "tokio", not(loom)))]
    #[cold]
    pub(crate) fn with_payload(error: Error, copy: impl FnOnce() -> Option<Vec<u8>>) -> CallError {
        CallError { payload: is_left_by(&error).then(copy).flatten(), error }
    }

    /// The same, with the payload as something else.
    pub(crate) fn map<P>(self, look: impl FnOnce(Vec<u8>) -> Option<P>) -> CallError<P> {
        CallError { error: self.error, payload: self.payload.and_then(look) }
    }
}

/// Whether the payload lies where it was: not if the server wrote its answer there, of whatever kind.
fn is_left_by(error: &Error) -> bool {
    let is_of_the_session = matches!(
        error.kind(),
        ErrorKind::PeerDied { .. }
            | ErrorKind::ServerClosed { .. }
            | ErrorKind::TimedOut { .. }
            | ErrorKind::CapacityExceeded { .. }
            | ErrorKind::Io
    );
    is_of_the_session && !error.is_answer()
}

impl<P> CallError<P> {
    pub(crate) fn without_payload(error: Error) -> CallError<P> {
        CallError { error, payload: None }
    }

    /// The kind of the error.
    ///
    /// ```
    /// fn is_late(error: &wigwag::CallError) -> bool {
    ///     matches!(error.kind(), wigwag::ErrorKind::TimedOut { .. })
    /// }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The error.
    ///
    /// ```
    /// fn tell(error: &wigwag::CallError) {
    ///     println!("{} ({:?})", error.error(), error.error().peer_death());
    /// }
    /// ```
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The payload, if it is there.
    ///
    /// ```
    /// fn len(error: &wigwag::CallError) -> usize {
    ///     error.payload().map_or(0, |payload| payload.len())
    /// }
    /// ```
    pub fn payload(&self) -> Option<&P> {
        self.payload.as_ref()
    }

    /// The payload, if it is there, for good.
    ///
    /// ```
    /// fn keep(error: wigwag::CallError, kept: &mut Vec<Vec<u8>>) {
    ///     kept.extend(error.into_payload());
    /// }
    /// ```
    pub fn into_payload(self) -> Option<P> {
        self.payload
    }

    /// The error, for good.
    ///
    /// ```
    /// fn first(loan: wigwag::Loan<'_>) -> wigwag::Result<u8> {
    ///     Ok(loan.call_or_payload().map_err(wigwag::CallError::into_error)?[0])
    /// }
    /// ```
    pub fn into_error(self) -> Error {
        self.error
    }

    /// Both.
    ///
    /// ```
    /// fn take_apart(error: wigwag::CallError) -> (wigwag::Error, Option<Vec<u8>>) {
    ///     error.into_parts()
    /// }
    /// ```
    pub fn into_parts(self) -> (Error, Option<P>) {
        (self.error, self.payload)
    }
}

impl<P> From<CallError<P>> for std::io::Error {
    fn from(error: CallError<P>) -> std::io::Error {
        error.error.into()
    }
}

impl<P> fmt::Display for CallError<P> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(out)
    }
}

impl<P> fmt::Debug for CallError<P> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = if self.payload.is_some() { "with its payload" } else { "without its payload" };
        write!(out, "{:?} ({with})", self.error)
    }
}

impl<P> std::error::Error for CallError<P> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
