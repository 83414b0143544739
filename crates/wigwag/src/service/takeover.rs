//! A planned restart: an heir takes a name over from the server that has it, and nobody finds the name without a server.
//!
//! ```text
//! heir                                         holder
//! takes byte 1 of the lock
//! binds NAME.sock~ and listens there
//! REPLACE ----------------------------------> accepts nobody, lets byte 0 of the lock go
//!        <----------------------------------- BELL
//! takes byte 0
//! renames NAME.sock~ to NAME.sock
//! starts its control thread
//! READY; lets byte 1 go and hangs up -------> who waits in its queue is sent to the heir, what clients had passed is
//!                                             served, and the farewell says `Moved`
//! ```
//!
//! | what happens | what comes of it |
//! |---|---|
//! | the heir is killed, or fails, before READY | byte 0 is free: the holder takes it back, binds its socket anew if need be, and accepts again |
//! | the heir is stopped before it has byte 0 | the same after [`PATIENCE`]; the heir finds the name held when it goes on |
//! | the heir is stopped when it has byte 0 | it has the name, as any server that is stopped: the holder serves the sessions it has, and waits |
//! | the holder is killed | byte 0 is free: the heir takes it, as after any crash |
//! | the holder is stopped | the heir gives up after its time |
//! | the holder shuts down meanwhile | the heir takes the name when it is free |
//! | two heirs | one has byte 1; the other waits for it, and then takes over from it |
//! | the heir is killed, and another has the name before the holder looks | the holder finds that one serving, and ends |
//! | somebody takes the name in the ordinary way meanwhile | it wants both bytes, and is told that the name is taken |
//! | another user asks | it is refused: it could not take the lock either |
//!
//! The socket does not travel: the heir listens on one of its own, because the kernel tells clients who called `listen`,
//! and by that they know whose end to watch for.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, shown, spoken};
use crate::options::Access;
use crate::service::name_claim::{self, NameClaim, Predecessor};
use crate::session::agreement::Protocol;
use crate::session::name::ServiceName;
use crate::session::protocol::{FromClient, FromServer, Reason};
use crate::sys::clock;
use crate::sys::directory::{Directory, Found};
use crate::sys::owner_lock::{HeirLock, OwnerLock};
use crate::sys::socket::{self, MESSAGE_MAX};

/// How long a holder that has let its name go waits for the heir to take it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Who is not served any more by a server that was replaced is told so.
pub const REPLACED: &str = "the server was replaced by another: connect again";

/// How long an heir waits before it asks once more, and how often it looks whether the name is free.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes the name over from the server that has it, or takes it if none has. The holder may take so long to let it go.
///
/// # Errors
/// As [`ServiceName::claim`]; `NameTaken` if the holder cannot, or may not, hand it over, or does not in time.
pub fn take_over(place: &ServiceName, access: &Access, timeout: Duration) -> Result<NameClaim> {
    let until = clock::deadline_after(timeout);
    let mut why = None;
    loop {
        place.check_elsewhere()?;
        let is_held = place.own_directory().and_then(|directory| OwnerLock::is_held(&directory, place.lock()));
        let attempt = match is_held {
            Ok(true) => Takeover::attempt(place, access, until)?,
            _ => match place.claim(access) {
                Err(error) if error.kind() == ErrorKind::NameTaken => Attempt::Later(None), // somebody was faster
                claimed => return claimed,
            },
        };
        match attempt {
            Attempt::Done(claim) => return Ok(*claim),
            Attempt::Later(said) => why = said.or(why),
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            return Err(in_vain(place, timeout, why.as_deref()));
        }
        std::thread::sleep(PAUSE);
    }
}

fn in_vain(place: &ServiceName, timeout: Duration, why: Option<&str>) -> Error {
    let said = why.map(|why| format!(" (it said: {why})")).unwrap_or_default();
    let sentence = format!(
        "the server that has {} did not hand it over within {}{said}: it is stopped or very busy; stop it, or give it more \
         time (ListenOptions::replace)",
        shown(&place.path()),
        spoken(timeout)
    );
    Error::new(ErrorKind::NameTaken, sentence)
}

/// What came of asking once.
enum Attempt {
    /// The name is this process's.
    Done(Box<NameClaim>),
    /// Not yet; what the holder said, if it said something.
    Later(Option<String>),
}

/// What is heard of the holder.
enum Heard {
    /// It is to be looked again whether the name is free.
    Look,
    /// It has hung up, or put it off.
    Later(Option<String>),
}

/// A takeover under way. Whatever ends it, nothing of it stays.
struct Takeover<'a> {
    place: &'a ServiceName,
    directory: Option<Directory>,
    /// Removed unless it was renamed.
    temporary: OsString,
}

impl Takeover<'_> {
    fn attempt(place: &ServiceName, access: &Access, until: Option<Instant>) -> Result<Attempt> {
        let directory = place.own_directory()?;
        let Some(heir) = HeirLock::try_take(&directory, place.lock())? else { return Ok(Attempt::Later(None)) };
        let watch = name_claim::new_watch();
        let temporary = place.heirs_socket();
        directory.remove(&temporary); // of one that was killed: there is one heir at a time
        let mode = name_claim::mode_for(access);
        let mut takeover = Takeover { place, directory: Some(directory), temporary };
        let (socket, bound) = name_claim::bind_at(place, takeover.directory(), &takeover.temporary, mode)?;
        socket::start_listening(&socket)?;
        let connection = socket::new_socket()?;
        let lock = match takeover.ask(&connection, &heir, until)? {
            Ok(lock) => lock,
            Err(said) => return Ok(Attempt::Later(said)),
        };
        // From here on the name is this process's, unless it fails: then the lock goes first, and the holder, to which
        // the connection still leads, has it back.
        takeover.check_socket()?;
        takeover.directory().rename(&takeover.temporary, place.socket())?;
        let directory = takeover.directory.take().expect("it is there until now");
        let predecessor = Predecessor { connection, _heir: heir };
        let claim = NameClaim::succeeding(place, directory, socket, bound, mode, lock, watch, predecessor);
        Ok(Attempt::Done(Box::new(claim)))
    }

    fn directory(&self) -> &Directory {
        self.directory.as_ref().expect("it is there until the name is taken")
    }

    /// Asks the holder for the name, and takes it as soon as it is free; otherwise what the holder said.
    fn ask(
        &self,
        connection: &std::os::fd::OwnedFd,
        heir: &HeirLock,
        until: Option<Instant>,
    ) -> Result<std::result::Result<OwnerLock, Option<String>>> {
        let is_over = || until.is_some_and(|until| until <= Instant::now());
        let address = self.directory().address(self.place.socket())?;
        let mut has_asked = false;
        loop {
            if let Some(lock) = self.look(heir)? {
                return Ok(Ok(lock));
            }
            if is_over() {
                return Ok(Err(None));
            }
            if has_asked {
                match self.hear(connection)? {
                    Heard::Look => continue,
                    // It may have let the name go before.
                    Heard::Later(said) => return Ok(self.look(heir)?.ok_or(said)),
                }
            }
            match socket::connect_to(connection, &address) {
                Ok(()) => {}
                Err(Errno::AGAIN) => {
                    std::thread::sleep(PAUSE); // its queue is full
                    continue;
                }
                // It is about to listen, or to leave; or its socket was removed, which it is about to notice.
                Err(Errno::CONNREFUSED | Errno::NOENT) => return Ok(Err(None)),
                Err(error) => {
                    let doing = format_args!("connect to {}", shown(&self.place.path()));
                    return Err(Error::io(doing, error));
                }
            }
            match socket::send(connection, &FromClient::Replace.encode(), &[]) {
                Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {} // what it said before it left is to be read
                Err(error) => return Err(Error::io("ask a server for its name", error)),
            }
            has_asked = true;
        }
    }

    /// Takes the name if it is free.
    fn look(&self, heir: &HeirLock) -> Result<Option<OwnerLock>> {
        match heir.try_succeed(self.directory()) {
            // The lock file went with its holder: the name is taken in the ordinary way.
            Err(error) if error.kind() == ErrorKind::NameTaken => Ok(None),
            looked => looked,
        }
    }

    /// Waits for a moment, or until the holder says something.
    fn hear(&self, connection: &std::os::fd::OwnedFd) -> Result<Heard> {
        let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: PAUSE.as_nanos() as i64 };
        let _ = poll(&mut [PollFd::new(connection, PollFlags::IN)], Some(&moment)); // a look does no harm
        let mut buffer = [0u8; MESSAGE_MAX];
        let received = match socket::receive(connection, &mut buffer) {
            Err(Errno::AGAIN) => return Ok(Heard::Look),
            Err(_) => return Ok(Heard::Later(None)),
            Ok(received) => received.len,
        };
        if received == 0 {
            return Ok(Heard::Later(None));
        }
        match FromServer::decode(&buffer[..received], Protocol::V2) {
            Ok(FromServer::Bell) => Ok(Heard::Look),
            Ok(FromServer::Refusal(Reason::Later | Reason::Shutdown, why)) => Ok(Heard::Later(Some(why))),
            Ok(FromServer::Refusal(Reason::Violation, _)) => {
                let path = shown(&self.place.path());
                let sentence = format!(
                    "the server at {path} is of a version that cannot hand its name over: stop it, and start this one then"
                );
                Err(Error::new(ErrorKind::NameTaken, sentence))
            }
            Ok(FromServer::Refusal(_, why)) => {
                let path = shown(&self.place.path());
                Err(Error::new(
                    ErrorKind::NameTaken,
                    format!("the server at {path} does not hand its name over: {why}"),
                ))
            }
            _ => {
                Err(self.place.bad_path("is a socket that another program listens on; remove it or take another name"))
            }
        }
    }

    /// What is renamed over must be a server's socket of this user's.
    fn check_socket(&self) -> Result<()> {
        match self.directory().look(self.place.socket())? {
            Found::Nothing => Ok(()),
            Found::Socket { uid } if uid == rustix::process::geteuid().as_raw() => Ok(()),
            Found::Socket { uid } => Err(self.place.bad_path(&format!("is a socket of user {uid}"))),
            Found::Other => Err(self.place.bad_path("is there and is not a socket")),
        }
    }
}

impl Drop for Takeover<'_> {
    fn drop(&mut self) {
        self.directory.iter().for_each(|directory| directory.remove(&self.temporary));
    }
}
