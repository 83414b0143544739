//! The client's side of the handshake: from a name to a mapped segment.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::policy::check_geometry;
use super::protocol::{FromClient, FromServer, Hello, PROTOCOL_VERSION, Reason, SERVERS_CHOICE, Welcome};
use super::rendezvous::Place;
use crate::contract::{Contract, Form};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::event;
use crate::layout::{Geometry, LAYOUT_VERSION};
use crate::segment::Segment;
use crate::sys::bell::Bell;
use crate::sys::memory;
use crate::sys::poller::{Interest, Poller};
use crate::sys::socket::{self, Credentials, MESSAGE_MAX, Received, Waited};

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Slots, or the server's choice.
    pub slots: Option<usize>,
    /// Capacity in bytes, or the server's choice.
    pub capacity: Option<usize>,
    /// What the client speaks.
    pub contract: Contract,
    /// Whose server is expected; the client's own user if not said.
    pub server_uid: Option<u32>,
    /// How long the whole handshake may take.
    pub timeout: Duration,
}

impl Wishes {
    /// Whether they are possible at all.
    pub fn check(&self) -> Result<()> {
        check_geometry(self.slots, self.capacity)?;
        self.contract.check()
    }
}

/// A session as its client has it.
#[derive(Debug)]
pub struct Attachment {
    /// The shared memory.
    pub segment: Segment,
    /// The control socket, also the sign of life.
    pub socket: OwnedFd,
    /// Rung by the client.
    pub server_bell: Bell,
    /// Where the client sleeps: its bell, the socket and the server's pidfd are in it.
    pub poller: Poller,
    /// Rung by the server; kept open for the poller. `None` at a server of another user.
    pub client_bell: Option<Bell>,
    /// Tells of the end of the server's process; kept open for the poller.
    pub pidfd: Option<OwnedFd>,
    /// Who listens there.
    pub peer: Credentials,
}

/// The client's bell in its poller.
pub const KEY_BELL: u64 = 0;
/// The socket: a bell for clients of other users, a farewell, or the end.
pub const KEY_SOCKET: u64 = 1;
/// The server's process has ended.
pub const KEY_PIDFD: u64 = 2;

/// Connects, shakes hands, maps.
pub fn attach(name: &OsStr, wishes: &Wishes) -> Result<Attachment> {
    let place = Place::find(name)?.of_form(wishes.contract.form);
    let server_uid = wishes.server_uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let (_directory, address) = place.address(server_uid)?;
    let deadline = Instant::now().checked_add(wishes.timeout);
    let socket = connect(&place, &address, deadline, wishes.timeout)?;
    let peer = socket::credentials(&socket)?;
    if peer.uid != server_uid {
        return Err(place.bad_path(&format!("is served by user {}, where user {server_uid} was expected", peer.uid)));
    }
    let hello = FromClient::Hello(Hello {
        protocol_min: PROTOCOL_VERSION,
        protocol_max: PROTOCOL_VERSION,
        layout_version: LAYOUT_VERSION,
        slots: wishes.slots.map_or(SERVERS_CHOICE, |slots| slots as u32),
        capacity: wishes.capacity.map_or(SERVERS_CHOICE, |capacity| capacity as u32),
        contract: wishes.contract.clone(),
    });
    // EPIPE is no error yet: a server that refused at once has left its reason to be read.
    match socket::send(&socket, &hello.encode(), &[]) {
        Ok(()) | Err(Errno::PIPE) => {}
        Err(error) => return Err(gone(&place, Some(error))),
    }
    // A failure counts once there is a welcome: a server that has gone may have left a reason to be read.
    let pidfd = socket::peer_pidfd(&socket, &peer);
    let watched = pidfd.as_ref().ok().and_then(Option::as_ref);
    let (welcome, received) = read_welcome(&place, &socket, watched, deadline, wishes)?;
    establish(&place, socket, peer, pidfd?, &welcome, received, wishes)
}

fn connect(
    place: &Place,
    address: &rustix::net::SocketAddrUnix,
    deadline: Option<Instant>,
    timeout: Duration,
) -> Result<OwnedFd> {
    let socket = socket::new_socket()?;
    let mut pause = Duration::from_micros(100);
    loop {
        match socket::connect_to(&socket, address) {
            Ok(()) => return Ok(socket),
            // The queue of the listening socket is full: bounded, growing pauses.
            Err(Errno::AGAIN) => {
                if deadline.is_some_and(|at| at <= Instant::now()) {
                    return Err(Error::new(
                        ErrorKind::TimedOut { maybe_executed: false },
                        format!(
                            "the server did not accept within {timeout:?}: it is stopped, or drowned in connections"
                        ),
                    ));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(10));
            }
            Err(Errno::CONNREFUSED | Errno::NOENT) => {
                return Err(place.not_running("a server that is gone left it; the next one replaces it"));
            }
            Err(Errno::PROTOTYPE) => return Err(place.bad_path("is a socket of another kind, not a Wigwag server's")),
            Err(Errno::ACCESS | Errno::PERM) => return Err(place.bad_path("does not let this user connect")),
            Err(error) => return Err(Error::io(format_args!("connect to {}", shown(&place.path())), error)),
        }
    }
}

fn read_welcome(
    place: &Place,
    socket: &OwnedFd,
    pidfd: Option<&OwnedFd>,
    deadline: Option<Instant>,
    wishes: &Wishes,
) -> Result<(Welcome, Received)> {
    let mut buffer = [0u8; MESSAGE_MAX];
    let (mut was_reset, mut is_gone) = (false, false);
    let received = loop {
        match socket::receive(socket, &mut buffer) {
            Ok(received) => break received,
            Err(Errno::AGAIN) => {}
            // A server that refused at once had not read our greeting; its reason is still there to be read.
            Err(Errno::CONNRESET) if !was_reset => {
                was_reset = true;
                continue;
            }
            Err(error) => return Err(gone(place, Some(error))),
        }
        if is_gone {
            return Err(gone(place, None));
        }
        match socket::wait_readable(socket, pidfd, deadline)? {
            Waited::Readable => {}
            Waited::Gone => is_gone = true, // what it said last may have come meanwhile
            Waited::TimedOut => {
                return Err(Error::new(
                    ErrorKind::TimedOut { maybe_executed: false },
                    format!(
                        "the server at {} did not answer within {:?}: it is stopped or very busy",
                        shown(&place.path()),
                        wishes.timeout
                    ),
                ));
            }
        }
    };
    if received.len == 0 {
        return Err(gone(place, None));
    }
    match FromServer::decode(&buffer[..received.len]) {
        Ok(FromServer::Welcome(_)) if received.truncated => Err(socket::truncated()),
        Ok(FromServer::Welcome(welcome)) => Ok((welcome, received)),
        Ok(FromServer::Refusal(reason, why) | FromServer::Farewell(reason, why)) => Err(refused(reason, &why)),
        Ok(FromServer::Bell) => Err(violation("it rang before it welcomed")),
        Err(why) => Err(violation(why)),
    }
}

fn establish(
    place: &Place,
    socket: OwnedFd,
    peer: Credentials,
    pidfd: Option<OwnedFd>,
    welcome: &Welcome,
    received: Received,
    wishes: &Wishes,
) -> Result<Attachment> {
    if welcome.protocol != PROTOCOL_VERSION {
        return Err(violation("it chose a protocol version that was not offered"));
    }
    let geometry = Geometry::new(welcome.slots as usize, welcome.capacity as usize)
        .filter(|geometry| geometry.segment_size as u64 == welcome.segment_size)
        .filter(|geometry| wishes.contract.form != Form::Stream || geometry.has_rings())
        .ok_or_else(|| violation("it announced a segment of impossible geometry"))?;
    let mut fds = received.fds.into_iter();
    let (Some(memory), Some(server_bell)) = (fds.next(), fds.next()) else {
        return Err(violation("it sent too few descriptors"));
    };
    let client_bell = fds.next().map(Bell::from_fd);
    if client_bell.is_some() != welcome.has_client_bell || fds.next().is_some() {
        return Err(violation("it sent other descriptors than it announced"));
    }
    memory::check_sealed(&memory, geometry.segment_size, "the server sent a segment")?;
    let segment = match wishes.contract.form {
        Form::Stream => Segment::map_rings(&memory, geometry)?,
        _ => Segment::map(&memory, geometry)?,
    };
    geometry.check(&segment.read_header(), &wishes.contract).map_err(|why| violation(&why))?;
    let poller = Poller::new()?;
    watch(&poller, client_bell.as_ref(), &socket, pidfd.as_ref())?;
    socket::send(socket.as_fd(), &FromClient::Ready.encode(), &[])
        .map_err(|error| turned_away(place, &socket, error))?;
    event::connected(&place.path(), peer.pid, geometry.slots);
    Ok(Attachment { segment, socket, server_bell: Bell::from_fd(server_bell), poller, client_bell, pidfd, peer })
}

/// Adds all that can wake one end of a session.
pub fn watch(poller: &Poller, bell: Option<&Bell>, socket: &OwnedFd, pidfd: Option<&OwnedFd>) -> Result<()> {
    if let Some(bell) = bell {
        poller.add(bell, KEY_BELL, Interest::Bell)?;
    }
    poller.add(socket, KEY_SOCKET, Interest::Readable)?;
    match pidfd {
        Some(pidfd) => poller.add(pidfd, KEY_PIDFD, Interest::Readable),
        None => Ok(()),
    }
}

/// The server has hung up although it welcomed us. If it said why, as it does when the handshake took too long, that is
/// there to be read.
fn turned_away(place: &Place, socket: &OwnedFd, error: Errno) -> Error {
    let mut buffer = [0u8; MESSAGE_MAX];
    match socket::receive(socket, &mut buffer).map(|received| FromServer::decode(&buffer[..received.len])) {
        Ok(Ok(FromServer::Refusal(reason, why) | FromServer::Farewell(reason, why))) => refused(reason, &why),
        _ => gone(place, Some(error)),
    }
}

/// The error for a refusal.
fn refused(reason: Reason, why: &str) -> Error {
    let (kind, begin) = match reason {
        Reason::Refused => (ErrorKind::Refused, "the server refused the session: "),
        Reason::Contract => (ErrorKind::ContractMismatch, ""),
        Reason::Version => (ErrorKind::VersionMismatch, ""),
        Reason::Violation => (ErrorKind::Violation, "the server refused the handshake: "),
        Reason::Shutdown => (ErrorKind::ServerClosed { maybe_executed: false }, ""),
    };
    Error::new(kind, format!("{begin}{why}"))
}

fn violation(why: &str) -> Error {
    Error::new(ErrorKind::Violation, format!("the server broke the protocol: {why}"))
}

fn gone(place: &Place, error: Option<Errno>) -> Error {
    let how = error.map_or_else(String::new, |error| format!(" ({error})"));
    Error::new(
        ErrorKind::PeerDied { maybe_executed: false },
        format!("the server at {} went away during the handshake{how}", shown(&place.path())),
    )
}
