//! A reply that is an error and not the handler's: what a program that calls on behalf of others tells its client when
//! its own call has failed. The client gets an error of the same kind, as if it had called by itself.
//!
//! Eight bytes go before the text: the kind's number, whether the request may have been executed, and six zeros
//! (docs/layout.md, "Head").

use crate::error::{Error, ErrorKind, beginning_of};
use crate::escape;
use crate::faults::{self, Fault};
use crate::memory::layout::ERROR_TEXT_CAPACITY;

/// What a client puts before the text of a handler's panic.
pub const PANICKED: &str = "the server's handler panicked: ";

/// What goes before the text.
const PREFIX: usize = 8;

/// The bytes that stand for an error; `None`: it is of a kind that only the handler's text can tell.
pub fn encode(error: &Error) -> Option<Vec<u8>> {
    let (number, maybe_executed) = match error.kind() {
        ErrorKind::NotRunning => (1, false),
        ErrorKind::PeerDied { maybe_executed } => (2, maybe_executed),
        ErrorKind::TimedOut { maybe_executed } => (3, maybe_executed),
        ErrorKind::ServerClosed { maybe_executed } => (4, maybe_executed),
        ErrorKind::Refused => (5, false),
        ErrorKind::Busy => (6, false),
        ErrorKind::Full => (7, false),
        ErrorKind::Unanswered => (8, true),
        _ => return None,
    };
    let maybe_executed = maybe_executed && !faults::is(Fault::ForgottenFate);
    let mut bytes = vec![number, maybe_executed.into(), 0, 0, 0, 0, 0, 0];
    bytes.extend(beginning_of(&error.to_string(), ERROR_TEXT_CAPACITY - PREFIX).as_bytes());
    Some(bytes)
}

/// The error that such bytes stand for; `None`: they are too few.
pub fn decode(bytes: &[u8]) -> Option<Error> {
    let (&[number, maybe_executed, ..], text) = bytes.split_first_chunk::<PREFIX>()?;
    let maybe_executed = maybe_executed != 0;
    let kind = match number {
        1 => ErrorKind::NotRunning,
        3 => ErrorKind::TimedOut { maybe_executed },
        4 => ErrorKind::ServerClosed { maybe_executed },
        5 => ErrorKind::Refused,
        6 => ErrorKind::Busy,
        7 => ErrorKind::Full,
        8 => ErrorKind::Unanswered,
        _ => ErrorKind::PeerDied { maybe_executed },
    };
    Some(Error::new(kind, escape::without_controls(&String::from_utf8_lossy(text))))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_kind_that_a_call_can_end_with_survives_the_journey() {
        for maybe_executed in [false, true] {
            for kind in [
                ErrorKind::NotRunning,
                ErrorKind::PeerDied { maybe_executed },
                ErrorKind::TimedOut { maybe_executed },
                ErrorKind::ServerClosed { maybe_executed },
                ErrorKind::Refused,
                ErrorKind::Busy,
                ErrorKind::Full,
                ErrorKind::Unanswered,
            ] {
                let error = decode(&encode(&Error::new(kind, "far away")).unwrap()).unwrap();
                assert_eq!((error.kind(), error.to_string()), (kind, "far away".into()));
            }
        }
        for kind in [ErrorKind::HandlerFailed, ErrorKind::Violation, ErrorKind::Forked, ErrorKind::Io] {
            assert!(encode(&Error::new(kind, "text")).is_none(), "{kind:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_told_carefully_and_what_is_too_short_is_not_told() {
        for number in [0, 2, 9, 255] {
            let error = decode(&[number, 7, 1, 1, 1, 1, 1, 1, b'?']).unwrap();
            assert_eq!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }, "{number}");
        }
        assert_eq!(decode(&[1, 0, 0, 0, 0, 0, 0, 0, 0x1b]).unwrap().to_string(), " ");
        for len in 0..PREFIX {
            assert!(decode(&vec![1; len]).is_none(), "{len}");
        }
    }

    #[test]
    fn a_long_sentence_is_cut_on_a_character() {
        let bytes = encode(&Error::new(ErrorKind::Full, "ä".repeat(2000))).unwrap();
        assert!(bytes.len() <= ERROR_TEXT_CAPACITY && std::str::from_utf8(&bytes[PREFIX..]).is_ok());
    }
}
