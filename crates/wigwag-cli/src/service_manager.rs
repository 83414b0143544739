//! What a service manager and this program tell each other, by the conventions of systemd: sockets that it has made
//! (sd_listen_fds(3)), and when this program serves and when it ends (sd_notify(3)). Both are environment variables, a
//! descriptor and a datagram, so that no library is needed; without the variables nothing happens.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use anyhow::{bail, ensure};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::surroundings::Inherited;
use crate::{output, surroundings};

/// The socket that was made for a name, if any was left for this process: the only one, or the one among several that
/// is called so (`FileDescriptorName=`). To be called while there is one thread.
pub fn listener_for(name: &OsStr) -> anyhow::Result<Option<OwnedFd>> {
    let mut sockets = surroundings::take_inherited();
    if sockets.len() <= 1 {
        return Ok(sockets.pop().map(|socket| socket.descriptor));
    }
    let file = Path::new(name).file_name().unwrap_or(name);
    let called: Vec<_> = sockets.iter().map(|socket| socket.name.clone()).collect();
    let mut fitting = sockets.into_iter().filter(|socket| socket.name.as_bytes() == file.as_bytes());
    match (fitting.next(), fitting.next()) {
        (Some(Inherited { descriptor, .. }), None) => Ok(Some(descriptor)),
        _ => bail!(
            "{} sockets were left for this program (LISTEN_FDS), called {}, and not exactly one is called {}: name it \
             by FileDescriptorName=",
            called.len(),
            called.join(", "),
            wigwag::runtime::escaped(file)
        ),
    }
}

/// The TCP socket that was left for this process, if any was. To be called while there is one thread.
pub fn tcp_listener() -> anyhow::Result<Option<TcpListener>> {
    let mut sockets = surroundings::take_inherited();
    ensure!(sockets.len() <= 1, "{} sockets were left for this program (LISTEN_FDS), and it serves one", sockets.len());
    let Some(Inherited { descriptor, .. }) = sockets.pop() else { return Ok(None) };
    let domain = sockopt::socket_domain(&descriptor);
    let is_ip = domain.is_ok_and(|domain| domain == AddressFamily::INET || domain == AddressFamily::INET6);
    let is_stream = sockopt::socket_type(&descriptor).is_ok_and(|kind| kind == SocketType::STREAM);
    ensure!(
        is_ip && is_stream && sockopt::socket_acceptconn(&descriptor).unwrap_or(false),
        "what was left for this program (LISTEN_FDS, descriptor {}) is no TCP socket that listens: make one by \
         ListenStream= with a port",
        descriptor.as_raw_fd()
    );
    let listener = TcpListener::from(descriptor);
    listener.set_nonblocking(false)?;
    Ok(Some(listener))
}

/// Tells the service manager that this program serves.
pub fn ready() {
    tell("READY=1");
}

/// Tells the service manager that this program has begun to end.
pub fn stopping() {
    tell("STOPPING=1");
}

/// A manager that cannot be told is no reason to end: it notices that nothing came.
fn tell(what: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else { return };
    if let Err(error) = send(&address, what.as_bytes()) {
        let address = wigwag::runtime::escaped(&address);
        output::complain(&format!(
            "wigwag: the service manager cannot be told {what} (NOTIFY_SOCKET {address}): {error}."
        ));
    }
}

/// One datagram, to a path or, behind an `@`, to an abstract address.
fn send(address: &OsStr, message: &[u8]) -> std::io::Result<()> {
    let to = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(std::time::Duration::from_secs(1)))?; // a manager that does not read holds up nobody
    socket.send_to_addr(message, &to).map(drop)
}
