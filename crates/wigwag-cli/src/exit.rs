//! Exit codes that a script can go by.

use wigwag::ErrorKind;

/// Shown at the end of `--help`.
pub const CODES: &str = "\
Exit codes:
  0  done
  1  the work failed: a handler's error, a wrong pixel, a goal that was not met
  2  the command line is wrong, or so is the server's name, path or directory
  3  no server is running under that name
  4  the server refused, or the two sides do not agree on version or contract
  5  the other side died, closed, or did not answer in time
  6  another server has the name";

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
/// Another server has the name.
pub const TAKEN: u8 = 6;

/// The code for an error, by what the library says that it is.
pub fn code(error: &anyhow::Error) -> u8 {
    let Some(error) = error.downcast_ref::<wigwag::Error>() else {
        return FAILED;
    };
    match error.kind() {
        ErrorKind::NameInvalid
        | ErrorKind::PathInvalid
        | ErrorKind::DirectoryUnsafe
        | ErrorKind::InvalidConfiguration => USAGE,
        ErrorKind::NotRunning => NOT_RUNNING,
        ErrorKind::Refused | ErrorKind::ContractMismatch | ErrorKind::VersionMismatch => REFUSED,
        ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. } | ErrorKind::TimedOut { .. } => LOST,
        ErrorKind::NameTaken => TAKEN,
        _ => FAILED,
    }
}
