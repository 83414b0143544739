//! The bare kernel calls of a connect, without any of the checks, limits and errors around them: what P10 compares
//! with.
//!
//! The server accepts, reads the credentials, makes and sizes the memory, seals it, maps it, makes two eventfds, puts
//! one of them and the socket into an epoll set and sends three descriptors. The client checks seals and size, maps,
//! touches the first page, puts its eventfd and the socket into an epoll set and says that it is ready. On this
//! message the server adds the last seals.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use anyhow::{Context as _, ensure};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

const SOCKET: &str = "handshake.sock";
/// What a session with the default slots and capacity maps: two pages and 16 bodies of 1 MiB.
const SEGMENT: usize = 8192 + (16 << 20);
const MESSAGE: &[u8] = &[1; 64];

/// The server's end: one client after the other.
pub struct Greeter {
    listener: OwnedFd,
}

/// A session's memory, unmapped when dropped.
struct Mapping(NonNull<std::ffi::c_void>);

/// What one side holds for one session. Dropping it ends the session.
pub struct Session {
    _socket: OwnedFd,
    _bells: Vec<OwnedFd>,
    _poller: OwnedFd,
    _mapping: Mapping,
}

impl Greeter {
    /// Listens in the directory.
    pub fn bind(directory: &Path) -> anyhow::Result<Greeter> {
        let listener = socket()?;
        net::bind(&listener, &address(directory)?).context("the handshake's socket cannot be bound")?;
        net::listen(&listener, 16)?;
        Ok(Greeter { listener })
    }

    /// Greets clients until the process is ended.
    pub fn serve(self) -> anyhow::Result<()> {
        loop {
            let socket = net::accept_with(&self.listener, SocketFlags::CLOEXEC)?;
            let session = grant(socket)?;
            let mut end = [0; 64];
            while net::recv(&session._socket, &mut end, RecvFlags::empty())?.0 > 0 {}
        }
    }
}

/// The server's part of one handshake, until the client is ready and the memory is sealed for good.
fn grant(socket: OwnedFd) -> anyhow::Result<Session> {
    net::sockopt::socket_peercred(&socket)?;
    let memory = rustix::fs::memfd_create("handshake", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&memory, SEGMENT as u64)?;
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)?;
    let mapping = Mapping::new(&memory)?;
    mapping.touch();
    let bells = vec![bell()?, bell()?];
    let poller = poller(&socket, &bells[0])?;
    send_descriptors(&socket, [memory.as_fd(), bells[0].as_fd(), bells[1].as_fd()])?;
    let mut ready = [0; 64];
    ensure!(net::recv(&socket, &mut ready, RecvFlags::empty())?.0 > 0, "the client left before it was ready");
    rustix::fs::fcntl_add_seals(&memory, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
    Ok(Session { _socket: socket, _bells: bells, _poller: poller, _mapping: mapping })
}

/// The client's part, from nothing until a first request could be written.
pub fn connect(directory: &Path) -> anyhow::Result<Session> {
    let socket = socket()?;
    net::connect(&socket, &address(directory)?)?;
    let mut descriptors = receive_descriptors(&socket)?;
    ensure!(descriptors.len() == 3, "the server sent {} descriptors instead of three", descriptors.len());
    let memory = descriptors.remove(0);
    let seals = rustix::fs::fcntl_get_seals(&memory)?;
    ensure!(seals.contains(SealFlags::SHRINK | SealFlags::GROW), "the memory is not sealed");
    ensure!(rustix::fs::fstat(&memory)?.st_size == SEGMENT as i64, "the memory has another size");
    let mapping = Mapping::new(&memory)?;
    mapping.touch();
    let poller = poller(&socket, &descriptors[1])?;
    net::send(&socket, MESSAGE, SendFlags::empty())?;
    Ok(Session { _socket: socket, _bells: descriptors, _poller: poller, _mapping: mapping })
}

impl Mapping {
    fn new(memory: &OwnedFd) -> anyhow::Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps no memory that Rust knows of.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), SEGMENT, protection, MapFlags::SHARED, memory, 0)? };
        Ok(Mapping(NonNull::new(base).context("the memory was mapped at zero")?))
    }

    fn touch(&self) {
        // SAFETY: the first byte of a mapping that is writable and not empty; nobody reads it.
        unsafe { self.0.cast::<u8>().write_volatile(1) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this struct's own, whole, and nothing points into it.
        // An error would leave the mapping to the end of the process, which is near.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr(), SEGMENT) };
    }
}

fn socket() -> anyhow::Result<OwnedFd> {
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn address(directory: &Path) -> anyhow::Result<SocketAddrUnix> {
    let path: PathBuf = directory.join(SOCKET);
    SocketAddrUnix::new(path).context("the directory's path is too long for a socket")
}

fn bell() -> anyhow::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

fn poller(socket: &OwnedFd, bell: &OwnedFd) -> anyhow::Result<OwnedFd> {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let arrival = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&poller, bell, epoll::EventData::new_u64(1), arrival)?;
    epoll::add(&poller, socket, epoll::EventData::new_u64(2), epoll::EventFlags::IN | epoll::EventFlags::RDHUP)?;
    Ok(poller)
}

fn send_descriptors(socket: &OwnedFd, descriptors: [std::os::fd::BorrowedFd<'_>; 3]) -> anyhow::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = net::SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(net::SendAncillaryMessage::ScmRights(&descriptors)), "three descriptors do not fit");
    net::sendmsg(socket, &[IoSlice::new(MESSAGE)], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive_descriptors(socket: &OwnedFd) -> anyhow::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = net::RecvAncillaryBuffer::new(&mut space);
    let mut message = [0; 64];
    net::recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::with_capacity(3);
    for message in control.drain() {
        if let net::RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(descriptors)
}
