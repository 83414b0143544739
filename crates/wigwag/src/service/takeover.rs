//! A planned restart: an heir takes a name over from the server that has it, and nobody finds the name without a
//! server.
//!
//! ```text
//! heir                                         holder
//! takes byte 1 of the lock
//! binds NAME.sock~ and listens there
//! REPLACE ----------------------------------> accepts nobody, lets byte 0 of the lock go
//!        <----------------------------------- BELL
//! takes byte 0
//! makes all that it needs, and starts its control thread
//! renames NAME.sock~ to NAME.sock
//! READY; lets byte 1 go and hangs up -------> who waits in its queue is sent to the heir, what clients had passed is
//!                                             served, and the farewell says `Moved`
//! ```
//!
//! | what happens | what comes of it |
//! |---|---|
//! | the heir is killed, or fails, before READY | byte 0 is free: the holder takes it back, binds its socket anew if need be, and accepts again. One that hangs up and keeps byte 0 has the name once it listens there |
//! | the heir is stopped before it has byte 0 | the same after [`PATIENCE`]; the heir finds the name held when it goes on |
//! | the heir is stopped when it has byte 0 | it has the name, as any server that is stopped: the holder serves the sessions it has, and waits |
//! | the holder is killed | byte 0 is free: the heir takes it, as after any crash |
//! | the holder is stopped | the heir gives up after its time |
//! | the heir is stopped before it has byte 0, and the holder is killed | nobody can have the name until the heir goes on or is killed |
//! | the holder shuts down meanwhile | the heir takes the name when it is free |
//! | two heirs | one has byte 1; the other waits for it, and then takes over from it |
//! | the heir is killed, and another has the name before the holder looks | the holder finds that one serving, and ends |
//! | somebody takes the name in the ordinary way meanwhile | it wants both bytes, and is told that the name is taken |
//! | another user asks | it is refused: it could not take the lock either |
//!
//! Between the rename and READY nothing can fail but by a kill. Whoever is refused by the socket of an heir that was
//! killed there, or by that of a holder that ends, tries again while somebody has the lock. Only in the milliseconds in
//! which that heir is dead and the holder has not noticed is a newcomer told that no server is there.
//!
//! The kernel goes on to call the socket NAME.sock~ in /proc/net/unix. Programs that remove old sockets may look there;
//! the shared lock on the directory keeps them away, and a server whose socket is removed binds another.
//!
//! The socket does not travel: the heir listens on one of its own, because the kernel tells clients who called
//! `listen`, and by that they know whose end to watch for.

use std::ffi::OsStr;
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
use crate::sys::directory::{Directory, Identity};
use crate::sys::inotify::NameWatch;
use crate::sys::owner_lock::{HeirLock, OwnerLock};
use crate::sys::socket::{self, MESSAGE_MAX};

/// How long a holder that has let its name go waits for the heir to take it.
pub const PATIENCE: Duration = Duration::from_secs(2);

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
        "the server that has {} did not hand it over within {}{said}: it is stopped or very busy; stop it, or give it \
         more time (ListenOptions::replace)",
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

/// A socket that listens, and has not got the name yet. It is removed with this.
struct Candidate<'a> {
    directory: &'a Directory,
    temporary: &'a OsStr,
    bound: Identity,
}

impl Drop for Candidate<'_> {
    fn drop(&mut self) {
        name_claim::remove_socket(self.directory, self.temporary, self.bound);
    }
}

/// A takeover under way. Whatever ends it, nothing of it stays.
struct Takeover<'a> {
    place: &'a ServiceName,
    directory: &'a Directory,
    predecessor: &'a Predecessor,
}

impl Takeover<'_> {
    fn attempt(place: &ServiceName, access: &Access, until: Option<Instant>) -> Result<Attempt> {
        let directory = place.own_directory()?;
        let Some(heir) = HeirLock::try_take(&directory, place.lock())? else { return Ok(Attempt::Later(None)) };
        name_claim::clear_heirs_place(place, &directory)?; // of one that was killed: there is one heir at a time
        let predecessor = Predecessor {
            watch: NameWatch::new(),
            connection: socket::new_socket()?,
            heir,
            temporary: place.heirs_socket(),
            mode: name_claim::mode_for(access),
        };
        let temporary = &predecessor.temporary;
        let (socket, bound) = name_claim::bind_at(place, &directory, temporary, predecessor.mode)?;
        let candidate = Candidate { directory: &directory, temporary, bound };
        socket::start_listening(&socket)?;
        let asked = Takeover { place, directory: &directory, predecessor: &predecessor }.ask(until)?;
        let lock = match asked {
            Ok(lock) => lock,
            Err(said) => return Ok(Attempt::Later(said)),
        };
        std::mem::forget(candidate); // it is the claim's from here on
        let claim = NameClaim::succeeding(place, directory, (socket, bound), lock, predecessor);
        Ok(Attempt::Done(Box::new(claim)))
    }

    /// Asks the holder for the name, and takes it as soon as it is free; otherwise what the holder said.
    fn ask(&self, until: Option<Instant>) -> Result<std::result::Result<OwnerLock, Option<String>>> {
        let Predecessor { connection, .. } = self.predecessor;
        let is_over = || until.is_some_and(|until| until <= Instant::now());
        let address = self.directory.address(self.place.socket())?;
        let mut has_asked = false;
        loop {
            if let Some(lock) = self.look()? {
                return Ok(Ok(lock));
            }
            if is_over() {
                return Ok(Err(None));
            }
            if has_asked {
                match self.hear()? {
                    Heard::Look => continue,
                    // It may have let the name go before.
                    Heard::Later(said) => return Ok(self.look()?.ok_or(said)),
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
    fn look(&self) -> Result<Option<OwnerLock>> {
        match self.predecessor.heir.try_succeed(self.directory) {
            // The lock file went with its holder: the name is taken in the ordinary way.
            Err(error) if error.kind() == ErrorKind::NameTaken => Ok(None),
            looked => looked,
        }
    }

    /// Waits for a moment, or until the holder says something.
    fn hear(&self) -> Result<Heard> {
        let Predecessor { connection, .. } = self.predecessor;
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
                    "the server at {path} is of a version that cannot hand its name over: stop it, and start this one \
                     then"
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
}
