//! Exit codes that a script can go by.

use wigwag::ErrorKind;

use crate::words::Told;

/// Shown at the end of `--help`.
pub const CODES: &str = "\
Exit codes:
  0   done
  1   the work failed: a handler's error, a wrong pixel, a goal that was not met
  2   the command line is wrong, or so is the server's name, path or directory
  3   no server is running under that name
  4   the server refused, or the two sides do not agree on version or contract
  5   the other side died, closed, gave a stream up, or did not answer in time
  6   another server has the name; or a semaphore's file was removed or replaced
      by another program while somebody has it open
  75  the server had no place just now, until the time to connect was over: later
      it may have";

/// The work failed.
pub const FAILED: u8 = 1;
/// The command line is wrong. clap uses the same number.
pub const USAGE: u8 = 2;
/// There is no server.
pub const NOT_RUNNING: u8 = 3;
/// The server does not want us, or speaks otherwise.
pub const REFUSED: u8 = 4;
/// The other side is gone or late.
pub const LOST: u8 = 5;
/// Another server has the name, or somebody has what had it.
pub const TAKEN: u8 = 6;
/// It may work later: EX_TEMPFAIL of sysexits.h.
pub const LATER: u8 = 75;

/// The code for an error, by what the library says that it is.
pub fn code(error: &anyhow::Error) -> u8 {
    if let Some(told) = error.downcast_ref::<Told>() {
        return told.code;
    }
    error.downcast_ref::<wigwag::Error>().map_or(FAILED, |error| code_of(error.kind()))
}

/// The code for a kind of error.
pub fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NameInvalid
        | ErrorKind::PathInvalid
        | ErrorKind::DirectoryUnsafe
        | ErrorKind::InvalidConfiguration => USAGE,
        ErrorKind::NotRunning => NOT_RUNNING,
        ErrorKind::Refused | ErrorKind::ContractMismatch | ErrorKind::VersionMismatch => REFUSED,
        ErrorKind::PeerDied { .. }
        | ErrorKind::ServerClosed { .. }
        | ErrorKind::Aborted
        | ErrorKind::Ended
        | ErrorKind::TimedOut { .. } => LOST,
        ErrorKind::NameTaken | ErrorKind::NameLost => TAKEN,
        ErrorKind::Busy => LATER,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_a_script_can_act_upon_has_a_code_of_those_that_are_told() {
        let maybe_executed = true;
        let codes = [
            (ErrorKind::NameInvalid, USAGE),
            (ErrorKind::NotRunning, NOT_RUNNING),
            (ErrorKind::NameTaken, TAKEN),
            (ErrorKind::NameLost, TAKEN),
            (ErrorKind::Refused, REFUSED),
            (ErrorKind::Busy, 75),
            (ErrorKind::ContractMismatch, REFUSED),
            (ErrorKind::TimedOut { maybe_executed }, LOST),
            (ErrorKind::PeerDied { maybe_executed }, LOST),
            (ErrorKind::Aborted, LOST),
            (ErrorKind::Ended, LOST),
            (ErrorKind::HandlerFailed, FAILED),
        ];
        for (kind, code) in codes {
            assert_eq!(code_of(kind), code, "{kind:?}");
            assert!(CODES.contains(&format!("\n  {code:<2}  ")), "{code} is not told");
        }
    }
}
