//! Unix seqpacket sockets (unix(7)): messages with borders, descriptors in flight (cmsg(3)), and who is at the other
//! end.

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    getsockname, listen, recvmsg, sendmsg, shutdown, socket_with, socketpair, sockopt,
};

use crate::error::{Error, Result};
use crate::faults::{self, Fault};
use crate::sys::retry;

/// Most descriptors one message of the handshake carries.
const HANDSHAKE_FDS: usize = 4;
/// Most descriptors that travel with one request, reply or message.
pub const DESCRIPTORS_MAX: usize = 16;
/// Room for as many as one message can have (the kernel's SCM_MAX_FD). The kernel closes those for which there is no
/// room on the thread that receives, which may take as long as their sender chose.
const DESCRIPTORS_ROOM: usize = 253;
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

/// Says why a descriptor is no socket that clients can connect to; else where it listens, if that is a path.
pub fn check_listener(listener: impl AsFd) -> std::result::Result<Option<PathBuf>, String> {
    let failed = |error: Errno| match error {
        Errno::NOTSOCK => "it is no socket".to_owned(),
        other => format!("it cannot be looked at ({other})"),
    };
    if sockopt::socket_domain(&listener).map_err(failed)? != AddressFamily::UNIX {
        return Err("it is no Unix socket".into());
    }
    if sockopt::socket_type(&listener).map_err(failed)? != SocketType::SEQPACKET {
        return Err("it is a Unix socket of another type: make one of type SOCK_SEQPACKET, under systemd with \
                    ListenSequentialPacket="
            .into());
    }
    if !sockopt::socket_acceptconn(&listener).map_err(failed)? {
        return Err("it does not listen".into());
    }
    let address = getsockname(&listener).map_err(failed)?;
    let address = SocketAddrUnix::try_from(address).map_err(failed)?;
    Ok(address.path_bytes().map(|bytes| PathBuf::from(OsStr::from_bytes(bytes))))
}

/// Listens anew on a socket on which another process may have listened before. The kernel tells clients who called
/// `listen` last when they connected, and by that they know whose end to watch for: from here on, this process's.
pub fn listen_anew(listener: &OwnedFd) -> Result<()> {
    rustix::io::ioctl_fionbio(listener, true).map_err(|error| Error::io("make a socket non-blocking", error))?;
    start_listening(listener)
}

/// Connects without waiting: `AGAIN` means that the server's backlog is full.
pub fn connect_to(socket: &OwnedFd, address: &SocketAddrUnix) -> rustix::io::Result<()> {
    retry(|| connect(socket, address))
}

/// Whether somebody listens on a socket that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Nobody listens, or there is no such socket any more.
    Nobody,
    /// The process that listened is gone, and a child that it forked holds the socket open: nobody will ever answer.
    Gone,
    /// A process listens, as far as the kernel says.
    Somebody,
    /// It is a socket of another kind, or does not let this user in.
    AnotherKind,
}

/// Looks who listens, by connecting.
pub fn who_listens(address: &SocketAddrUnix) -> Result<Listener> {
    let probe = new_socket()?;
    match connect_to(&probe, address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => return Ok(Listener::Nobody),
        Err(Errno::AGAIN) => return Ok(Listener::Somebody),
        Err(_) => return Ok(Listener::AnotherKind),
        Ok(()) => {}
    }
    let peer = credentials(&probe)?;
    let is_gone = has_gone(&peer_pidfd(&probe, &peer));
    Ok(if is_gone { Listener::Gone } else { Listener::Somebody })
}

/// Whether a process is over, by what was learned of it.
pub fn has_gone(pidfd: &Result<Option<OwnedFd>>) -> bool {
    match pidfd {
        Ok(Some(pidfd)) => {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
        }
        Ok(None) => false,
        // How older kernels say that the process is gone.
        Err(error) => matches!(error.os_error(), Some(libc::EINVAL | libc::ESRCH)),
    }
}

/// Accepts one connection: non-blocking, closed on exec.
pub fn accept(listener: impl AsFd) -> rustix::io::Result<OwnedFd> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// Ends both directions, so that the other end is told at once whoever still holds the descriptor.
pub fn hang_up(socket: impl AsFd) {
    let _ = shutdown(socket, Shutdown::Both);
}

/// Whether an error means that the other end is gone. Any other says nothing about it: the kernel has no memory, or a
/// filter of system calls refused one.
pub fn is_end(error: Errno) -> bool {
    matches!(error, Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN)
}

/// Sends one message without waiting, with descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
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

/// Receives one message without waiting. Zero bytes mean that the other end is gone, and that nothing is left of what
/// it sent.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<Received> {
    to_the_last(|| take(&socket, buffer, HANDSHAKE_FDS), |received| received.len == 0)
}

/// As [`receive`], with room for as many descriptors as a message can have.
pub fn receive_with_descriptors(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<Received> {
    to_the_last(|| take(&socket, buffer, DESCRIPTORS_ROOM), |received| received.len == 0 && received.fds.is_empty())
}

/// A look at a socket that misses nothing of what the other end said before it hung up. The kernel has two ways to say
/// too early that there is nothing more:
///
/// - Whoever was closed before it had read all makes that a reset, which is told once, before what lies in the queue.
/// - The kernel looks into the queue first, and for a hang-up after that. A message that is sent and followed by a
///   hang-up between the two looks is in the queue, and the end is told all the same. Nothing can come after a hang-up,
///   so a second look is sure.
fn to_the_last<T>(
    mut look: impl FnMut() -> rustix::io::Result<T>,
    is_end: impl Fn(&T) -> bool,
) -> rustix::io::Result<T> {
    let mut after_reset = || match look() {
        Err(Errno::CONNRESET) => look(),
        outcome => outcome,
    };
    let first = after_reset()?;
    if !is_end(&first) {
        return Ok(first);
    }
    // An error, as AGAIN: it was an empty message, which is an end to all who use this.
    Ok(after_reset().unwrap_or(first))
}

/// As [`receive`], by one look, with room for so many descriptors, at most [`DESCRIPTORS_ROOM`].
fn take(socket: impl AsFd, buffer: &mut [u8], room: usize) -> rustix::io::Result<Received> {
    const SPACES: [usize; 2] =
        [rustix::cmsg_space!(ScmRights(HANDSHAKE_FDS)), rustix::cmsg_space!(ScmRights(DESCRIPTORS_ROOM))];
    let mut space = [MaybeUninit::uninit(); SPACES[1]];
    let mut control = RecvAncillaryBuffer::new(&mut space[..SPACES[usize::from(room > HANDSHAKE_FDS)]]);
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

/// Whether there is any message to be read on a socket that was hung up, also an empty one, behind which others may
/// lie.
pub fn has_unread(socket: impl AsFd) -> bool {
    // From now on something comes with every message, which tells an empty one from the end.
    if rustix::net::sockopt::set_socket_passcred(&socket, true).is_err() {
        return true;
    }
    match to_the_last(|| peek(&socket), is_nothing) {
        Ok((len, has_more)) => len > 0 || has_more,
        Err(error) => error != Errno::AGAIN,
    }
}

/// As [`receive`], but a message with descriptors stays where it is, and with it what its sender may have made slow to
/// close: BADMSG.
pub fn receive_bare(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<Received> {
    match to_the_last(|| peek(&socket), is_nothing)? {
        (_, true) => Err(Errno::BADMSG),
        // It is the end, or the first in the queue, and nobody else takes any out. By one look: behind an empty message
        // there may be one that was not looked at.
        (_, false) => take(socket, buffer, HANDSHAKE_FDS),
    }
}

/// Whether a look found the end, or a message that cannot be told from it.
fn is_nothing((len, has_more): &(usize, bool)) -> bool {
    *len == 0 && !has_more
}

/// The length of the next message, at most 1, and whether something comes with it, for which there is no room here.
fn peek(socket: impl AsFd) -> rustix::io::Result<(usize, bool)> {
    let mut byte = [0u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut nowhere = RecvAncillaryBuffer::default();
    let message = retry(|| recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut nowhere, flags))?;
    Ok((message.bytes, message.flags.contains(ReturnFlags::CTRUNC)))
}

/// The first message that lies there, which stays; its length.
pub fn peek_into(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let mut nowhere = RecvAncillaryBuffer::default();
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    Ok(retry(|| recvmsg(&socket, &mut [IoSliceMut::new(&mut *buffer)], &mut nowhere, flags))?.bytes)
}

/// Whether the other end has yet to read something that was sent here (SIOCOUTQ, unix(7)). While a message is being
/// taken out, the kernel counts one byte of it for a moment.
pub fn is_unread_by_peer(socket: impl AsFd) -> bool {
    unread_by_peer(socket) > 1
}

/// The memory of all messages that the other end has yet to read, as the kernel counts it.
fn unread_by_peer(socket: impl AsFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one `int`, which `count` is.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// How many of the messages that were sent here the other end has yet to read, at the most: each has `len` bytes at
/// least, and what the kernel counts for one of that length is found out once.
pub fn messages_unread_by_peer(socket: impl AsFd, len: usize) -> usize {
    static OF_ONE: OnceLock<usize> = OnceLock::new();
    match unread_by_peer(socket) {
        0 | 1 => 0,
        // Without an answer, as where no descriptor is to be had for the question, it is asked again the next time.
        unread => match OF_ONE.get().copied().map_or_else(|| memory_of_message(len), Ok) {
            Ok(of_one) => unread.div_ceil(*OF_ONE.get_or_init(|| of_one)),
            Err(_) => unread,
        },
    }
}

/// What the kernel counts for one message.
fn memory_of_message(len: usize) -> rustix::io::Result<usize> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (sending, _receiving) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    send(&sending, &vec![0; len], &[])?;
    Ok(unread_by_peer(&sending).max(1))
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
/// SO_PEERPIDFD (Linux 6.5) cannot be fooled by a reused PID. Before that the PID is opened and the socket looked at
/// once more: had the peer died in between, it would have hung up. `None` where the kernel has neither; the socket
/// alone remains.
///
/// # Errors
/// No descriptor is to be had, or the peer is gone already. A session without its pidfd would not hear of a death.
pub fn peer_pidfd(socket: impl AsFd, credentials: &Credentials) -> Result<Option<OwnedFd>> {
    let failed = |error| Error::io("watch the peer's process", error);
    let asked = match faults::is(Fault::TrustedNumber) {
        true => Err(Errno::NOPROTOOPT),
        false => peer_pidfd_by_socket(&socket),
    };
    match asked {
        Ok(fd) => return Ok(Some(fd)),
        // An older kernel, or a sandbox. Any other error, such as INVAL for a peer that was waited for, must not lead
        // on to the number: it may be another process's by now.
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
    pass_descriptors(socket, false)
}

/// Lets descriptors in from the other end again. A kernel that cannot refuse them has let them in all the time.
pub fn admit_descriptors(socket: impl AsFd) -> rustix::io::Result<()> {
    match pass_descriptors(socket, true) {
        Err(Errno::NOPROTOOPT) => Ok(()),
        outcome => outcome,
    }
}

fn pass_descriptors(socket: impl AsFd, passes: bool) -> rustix::io::Result<()> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let value = libc::c_int::from(passes);
    // SAFETY: the pointer and length describe `value`; the kernel reads it during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const value).cast(),
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
    Error::io("receive the descriptors of a session", Errno::MFILE)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
            .unwrap()
    }

    #[test]
    fn an_end_is_told_only_when_nothing_is_left() {
        let of = |looks: &[rustix::io::Result<usize>]| {
            let mut looks = looks.iter().copied();
            to_the_last(|| looks.next().unwrap(), |len| *len == 0)
        };
        let (again, reset) = (Err(Errno::AGAIN), Err(Errno::CONNRESET));
        assert_eq!(of(&[Ok(5)]), Ok(5));
        assert_eq!(of(&[again]), again);
        assert_eq!(of(&[Ok(0), Ok(0)]), Ok(0), "the end");
        assert_eq!(of(&[Ok(0), Ok(5)]), Ok(5), "sent and hung up between the kernel's two looks");
        assert_eq!(of(&[Ok(0), reset, Ok(5)]), Ok(5), "and closed before it had read all");
        assert_eq!(of(&[reset, Ok(5)]), Ok(5), "what was sent before the reset");
        assert_eq!(of(&[reset, Ok(0), Ok(0)]), Ok(0));
        assert_eq!(of(&[reset, reset]), reset, "no kernel says that twice");
        assert_eq!(of(&[Ok(0), again]), Ok(0), "an empty message");
    }

    #[test]
    fn what_was_said_before_a_reset_is_heard() {
        for may_meet_descriptors in [false, true] {
            let (ours, theirs) = pair();
            send(&ours, b"never read", &[]).unwrap();
            send(&theirs, b"why", &[]).unwrap();
            drop(theirs);
            let mut buffer = [0; 8];
            let mut next = || match may_meet_descriptors {
                true => receive_bare(&ours, &mut buffer).unwrap().len,
                false => receive(&ours, &mut buffer).unwrap().len,
            };
            assert_eq!((next(), next()), (3, 0));
        }
    }

    /// Without the second look some in ten thousand fail, where there are two processors.
    #[test]
    fn last_words_are_heard_by_who_looks_at_that_moment() {
        const ROUNDS: usize = 20_000;
        let begin = Instant::now();
        let is_in_time = || begin.elapsed() < Duration::from_secs(2); // of a machine that is very busy
        let at = AtomicUsize::new(0);
        for may_meet_descriptors in [false, true] {
            let (sender, pairs) = std::sync::mpsc::channel::<OwnedFd>();
            std::thread::scope(|scope| {
                let at = &at;
                at.store(0, Ordering::Relaxed);
                scope.spawn(move || {
                    for (round, theirs) in pairs.into_iter().enumerate() {
                        while at.load(Ordering::Relaxed) <= round {
                            std::hint::spin_loop();
                        }
                        (0..round % 300).for_each(|_| std::hint::spin_loop());
                        send(&theirs, b"why", &[]).unwrap();
                        hang_up(&theirs);
                    }
                });
                for round in (0..ROUNDS).take_while(|_| is_in_time()) {
                    let (ours, theirs) = pair();
                    sender.send(theirs).unwrap();
                    at.store(round + 1, Ordering::Relaxed);
                    let mut buffer = [0; 8];
                    let received = loop {
                        let received = match may_meet_descriptors {
                            true => receive_bare(&ours, &mut buffer),
                            false => receive(&ours, &mut buffer),
                        };
                        match received {
                            Err(Errno::AGAIN) => {}
                            received => break received.unwrap(),
                        }
                    };
                    assert_eq!(&buffer[..received.len], b"why", "round {round}");
                }
                at.store(usize::MAX, Ordering::Relaxed);
                drop(sender);
            });
        }
    }
}
