//! What this kernel, or the sandbox around this process, lets us do: each thing is tried, because a version number
//! tells nothing of a sandbox.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::epoll::{Interest, Poller};
use crate::sys::eventfd::Bell;
use crate::sys::memory::{self, Mapping};
use crate::sys::{fork, record_lock, socket};

/// Anonymous memory whose size is sealed.
pub fn sealed_memory() -> Result<()> {
    let memory = memory::create_sealed("wigwag", 4096)?;
    memory::check_sealed(&memory, 4096, "the kernel made a segment")
}

/// Memory that can never be executed.
pub fn noexec_seal() -> Result<()> {
    memfd_create("wigwag", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)
        .map(drop)
        .map_err(|error| Error::io("create memory that cannot be executed", error))
}

/// Memory that nobody can map for writing any more.
pub fn future_write_seal() -> Result<()> {
    fcntl_add_seals(&memory()?, SealFlags::FUTURE_WRITE)
        .map_err(|error| Error::io("forbid new writable mappings", error))
}

/// A mapping that children do not inherit.
pub fn private_mapping() -> Result<()> {
    Mapping::new(memory()?, 4096, 0).map(drop)
}

/// Memory reserved in one call.
pub fn populate() -> Result<()> {
    Mapping::new(memory()?, 4096, 0)?
        .populate(0..4096)
        .map_err(|error| Error::io("reserve shared memory in one call", error))
}

/// A page that the kernel empties in children.
pub fn notice_of_forks() -> Result<()> {
    match fork::is_noticed() {
        true => Ok(()),
        false => Err(Error::io("have a page emptied in children", Errno::INVAL)),
    }
}

/// Wake-ups that are waited for together with deaths.
pub fn doorbells() -> Result<()> {
    let bell = Bell::new()?;
    Poller::new()?.add(&bell, 0, Interest::Bell)
}

/// Sockets that keep the borders of messages, and say who is at the other end.
pub fn sockets() -> Result<()> {
    socket::credentials(pair()?.0).map(drop)
}

/// The other end's process, without its number.
pub fn peer_pidfd() -> Result<()> {
    socket::peer_pidfd_by_socket(pair()?.0)
        .map(drop)
        .map_err(|error| Error::io("watch the process at the other end of a socket", error))
}

/// A process, by its number.
pub fn pidfd() -> Result<()> {
    // Our own: the other end of this socket is ours, too.
    let own = socket::credentials(pair()?.0)?.pid;
    let own = Pid::from_raw(own).ok_or_else(|| Error::new(ErrorKind::Io, "this process has no number here"))?;
    pidfd_open(own, PidfdFlags::empty()).map(drop).map_err(|error| Error::io("watch a process", error))
}

/// A socket that takes no descriptors.
pub fn refusal_of_descriptors() -> Result<()> {
    socket::refuse_descriptors(pair()?.0).map_err(|error| Error::io("refuse descriptors", error))
}

/// Locks that belong to an open file.
pub fn file_locks() -> Result<()> {
    match record_lock::take(memory()?, 0) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::io("lock a byte of a file", Errno::AGAIN)),
        Err(error) => Err(Error::io("lock a byte of a file", error)),
    }
}

/// Paths by descriptor.
pub fn paths_by_descriptor() -> Result<()> {
    match std::fs::metadata("/proc/self/fd") {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io("look at /proc/self/fd", error)),
    }
}

fn memory() -> Result<OwnedFd> {
    let failed = |error| Error::io("create a shared memory object", error);
    let memory = memfd_create("wigwag", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(failed)?;
    ftruncate(memory.as_fd(), 4096).map_err(failed)?;
    Ok(memory)
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::io("create a pair of sockets", error))
}
