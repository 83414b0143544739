//! Errors that travel between bridges: a kind, whether the request may have been executed, and a sentence.

use wigwag::{Error, ErrorKind};

/// Longest sentence that travels, in bytes.
pub const TEXT_MAX: usize = 1024;

/// An error as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the local caller gets.
    pub kind: ErrorKind,
    /// The sentence for people.
    pub text: String,
}

impl Fault {
    /// Of a kind, with a sentence.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Fault {
        Fault { kind, text: text.into() }
    }

    /// What a call of this machine ended with. A kind that says nothing of whether it was executed travels as one that
    /// does.
    pub fn of(error: &Error) -> Fault {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::CapacityExceeded { .. } | ErrorKind::ContractMismatch => {
                Fault::new(ErrorKind::Refused, text) // found before anything was passed
            }
            kind if number(kind).is_some() => Fault::new(kind, text),
            _ => Fault::new(ErrorKind::PeerDied { maybe_executed: true }, text),
        }
    }

    /// The error that the local caller gets.
    pub fn to_error(&self) -> Error {
        Error::on_behalf(self.kind, self.text.clone())
    }

    /// Its number on the wire, and whether the request may have been executed.
    pub fn to_numbers(&self) -> (u8, u8) {
        let maybe_executed = match self.kind {
            ErrorKind::PeerDied { maybe_executed }
            | ErrorKind::TimedOut { maybe_executed }
            | ErrorKind::ServerClosed { maybe_executed } => maybe_executed,
            _ => true,
        };
        (number(self.kind).unwrap_or(2), maybe_executed.into())
    }

    /// What numbers stand for. One that is not known promises nothing.
    pub fn from_numbers(number: u8, maybe_executed: u8, text: String) -> Fault {
        let maybe_executed = maybe_executed != 0;
        let kind = match number {
            1 => ErrorKind::NotRunning,
            2 => ErrorKind::PeerDied { maybe_executed },
            3 => ErrorKind::TimedOut { maybe_executed },
            4 => ErrorKind::ServerClosed { maybe_executed },
            5 => ErrorKind::Refused,
            6 => ErrorKind::Busy,
            7 => ErrorKind::Full,
            8 => ErrorKind::Unanswered,
            9 => ErrorKind::HandlerFailed,
            10 => ErrorKind::HandlerPanicked,
            _ => ErrorKind::PeerDied { maybe_executed: true },
        };
        Fault { kind, text }
    }
}

fn number(kind: ErrorKind) -> Option<u8> {
    Some(match kind {
        ErrorKind::NotRunning => 1,
        ErrorKind::PeerDied { .. } => 2,
        ErrorKind::TimedOut { .. } => 3,
        ErrorKind::ServerClosed { .. } => 4,
        ErrorKind::Refused => 5,
        ErrorKind::Busy => 6,
        ErrorKind::Full => 7,
        ErrorKind::Unanswered => 8,
        ErrorKind::HandlerFailed => 9,
        ErrorKind::HandlerPanicked => 10,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_unexecuted_is_never_told_so() {
        for number in 0..=u8::MAX {
            let fault = Fault::from_numbers(number, 1, String::new());
            assert!(!matches!(fault.kind, ErrorKind::PeerDied { maybe_executed: false }), "{number}");
        }
        for kind in [ErrorKind::Io, ErrorKind::Violation, ErrorKind::Forked, ErrorKind::Aborted] {
            let fault = Fault::of(&Error::on_behalf(kind, "text"));
            assert_eq!(fault.kind, ErrorKind::PeerDied { maybe_executed: true }, "{kind:?}");
        }
    }

    #[test]
    fn each_kind_survives_the_journey() {
        for number in 1..=10 {
            for maybe_executed in [0, 1] {
                let fault = Fault::from_numbers(number, maybe_executed, "far".into());
                let (again, maybe) = fault.to_numbers();
                assert_eq!(Fault::from_numbers(again, maybe, "far".into()), fault);
            }
        }
    }
}
