//! Unix seqpacket sockets (unix(7)): messages with borders, descriptors in flight (cmsg(3)), and who is at the other end.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, shutdown, socket_with,
};

use super::retry;
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{self, Fault};

/// Most descriptors one message carries.
pub const FDS_MAX: usize = 4;
/// Longest message of the control protocol.
pub const MESSAGE_MAX: usize = 4096;

/// Who is at the other end: credentials frozen by the kernel when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process id in our namespace, 0 if it has none there. For people to read; never to act upon.
    pub pid: i32,
}

/// Makes a socket: non-blocking, closed on exec.
pub fn new_socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|error| Error::io("create a socket", error))
}

/// Binds to an address.
pub fn bind_to(socket: &OwnedFd, address: &SocketAddrUnix) -> rustix::io::Result<()> {
    bind(socket, address)
}

/// Starts to listen.
pub fn start_listening(socket: &OwnedFd) -> Result<()> {
    listen(socket, 4096).map_err(|error| Error::io("listen on a socket", error))
}

/// Connects without waiting: `AGAIN` means that the server's backlog is full.
pub fn connect_to(socket: &OwnedFd, address: &SocketAddrUnix) -> rustix::io::Result<()> {
    retry(|| connect(socket, address))
}

/// Accepts one connection: non-blocking, closed on exec.
pub fn accept(listener: impl AsFd) -> rustix::io::Result<OwnedFd> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// Ends both directions, so that the other end is told at once whoever still holds the descriptor.
pub fn hang_up(socket: impl AsFd) {
    let _ = shutdown(socket, Shutdown::Both);
}

/// Sends one message without waiting, with descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry(|| sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags)).map(drop)
}

/// One received message.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the message in the caller's buffer.
    pub len: usize,
    /// Descriptors that came with it, closed on exec.
    pub fds: Vec<OwnedFd>,
    /// Something did not fit: bytes, or descriptors that the kernel dropped because this process may have no more.
    pub truncated: bool,
}

/// Receives one message without waiting. Zero bytes mean that the other end is gone.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = retry(|| recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags))?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    let truncated = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Received { len: message.bytes, fds, truncated })
}

/// How waiting for a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// A message, or the end, is there.
    Readable,
    /// The peer's process is gone, and what it sent before has been read.
    Gone,
    /// The deadline passed first.
    TimedOut,
}

/// Waits until a message, or the end, is there. A connection that nobody has accepted yet does not hang up when the server
/// dies while a forked child of it holds the listening socket: `pidfd` is watched besides.
pub fn wait_readable(socket: impl AsFd, pidfd: Option<&OwnedFd>, deadline: Option<Instant>) -> Result<Waited> {
    loop {
        let timeout = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().min(86_400 * 365) as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let mut both = vec![PollFd::new(&socket, PollFlags::IN | PollFlags::RDHUP)];
        both.extend(pidfd.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        match poll(&mut both, timeout.as_ref()) {
            Ok(0) if deadline.is_some_and(|at| at <= Instant::now()) => return Ok(Waited::TimedOut),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) if both[0].revents().is_empty() => return Ok(Waited::Gone),
            Ok(_) => return Ok(Waited::Readable),
            Err(error) => return Err(Error::io("wait for the peer", error)),
        }
    }
}

/// Whether the other end has hung up or its process has ended, without waiting and without reading anything.
pub fn has_ended(socket: impl AsFd, pidfd: Option<&OwnedFd>) -> bool {
    let mut both = vec![PollFd::new(&socket, PollFlags::RDHUP)];
    both.extend(pidfd.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
    matches!(poll(&mut both, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
}

/// Reads the credentials of the other end. An error refuses the peer; there is no default user.
pub fn credentials(socket: impl AsFd) -> Result<Credentials> {
    let unknown = |error| Error::io("learn who the peer is", error);
    // SAFETY: `ucred` is plain memory of the size given; the kernel writes at most that many bytes (socket(7)).
    let ucred: libc::ucred = unsafe { option(socket.as_fd(), libc::SO_PEERCRED) }.map_err(unknown)?;
    Ok(Credentials { uid: ucred.uid, gid: ucred.gid, pid: ucred.pid })
}

/// The user as whom every user shows that our namespace does not know (user_namespaces(7)).
pub fn overflow_uid() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    text.trim().parse().unwrap_or(65534)
}

/// The supplementary groups of the other end; empty where the kernel cannot tell.
pub fn groups(socket: impl AsFd) -> Vec<u32> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut len = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the pointer and `len` describe the vector's memory; the kernel writes at most `len` bytes.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &mut len,
            )
        };
        let count = len as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return groups;
        }
        if Errno::from_io_error(&std::io::Error::last_os_error()) != Some(Errno::RANGE) || count <= groups.len() {
            return Vec::new();
        }
        groups.resize(count, 0);
    }
}

/// A descriptor of the peer's process that becomes readable when it ends, even while a forked child keeps the socket.
///
/// SO_PEERPIDFD (Linux 6.5) cannot be fooled by a reused PID. Before that the PID is opened and the socket looked at once
/// more: had the peer died in between, it would have hung up. `None` where the kernel has neither; the socket alone remains.
///
/// # Errors
/// No descriptor is to be had, or the peer is gone already. A session without its pidfd would not hear of a death.
pub fn peer_pidfd(socket: impl AsFd, credentials: &Credentials) -> Result<Option<OwnedFd>> {
    let failed = |error| Error::io("watch the peer's process", error);
    let asked = match planted::is(Fault::TrustedNumber) {
        true => Err(Errno::NOPROTOOPT),
        false => peer_pidfd_by_socket(&socket),
    };
    match asked {
        Ok(fd) => return Ok(Some(fd)),
        // An older kernel, or a sandbox. Any other error, such as INVAL for a peer that was waited for, must not lead on to
        // the number: it may be another process's by now.
        Err(Errno::NOPROTOOPT | Errno::NOSYS | Errno::PERM) => {}
        Err(error) => return Err(failed(error)),
    }
    let Some(pid) = rustix::process::Pid::from_raw(credentials.pid) else { return Ok(None) };
    let pidfd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => return Ok(None), // older still, or a sandbox
        Err(error) => return Err(failed(error)),
    };
    let mut one = [PollFd::new(&socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let has_hung_up = poll(&mut one, Some(&now)).map_err(failed)? > 0;
    Ok((!has_hung_up).then_some(pidfd))
}

/// The peer's process, by the socket alone (SO_PEERPIDFD, Linux 6.5).
pub fn peer_pidfd_by_socket(socket: impl AsFd) -> rustix::io::Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    // SAFETY: the option's value is one `int`.
    let fd = unsafe { option::<libc::c_int>(socket.as_fd(), SO_PEERPIDFD) }?;
    // SAFETY: the kernel made this descriptor for the caller, who owns it from here on.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let _ = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
    Ok(fd)
}

/// Refuses descriptors from the other end, where the kernel can (SO_PASSRIGHTS, Linux 6.16).
pub fn refuse_descriptors(socket: impl AsFd) -> rustix::io::Result<()> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let off: libc::c_int = 0;
    // SAFETY: the pointer and length describe `off`; the kernel reads it during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

/// Reads a socket option of a fixed size.
///
/// # Safety
/// Every bit pattern must be a valid `T`.
unsafe fn option<T: Copy>(socket: BorrowedFd<'_>, name: libc::c_int) -> rustix::io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and `len` describe `value`; the kernel writes at most `len` bytes.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value.as_mut_ptr().cast(), &mut len) };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    if len as usize != size_of::<T>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: zeroed above, then written whole by the kernel; every bit pattern is valid by the caller's promise.
    Ok(unsafe { value.assume_init() })
}

/// An error for a message that did not arrive whole.
pub fn truncated() -> Error {
    Error::new(
        ErrorKind::Io,
        "a control message lost its descriptors on the way: this process has all the descriptors it may have; raise `ulimit -n`",
    )
}
