//! What a session costs without a library: the system calls of a handshake and nothing else, in two processes.
//!
//! Only what the design needs: socket, credentials, sealed memory mapped on both sides with its control pages touched,
//! two doorbells, a pidfd and an epoll on either side. Each waits by the system call that also brings the message.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::Result;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg,
    socket_with, sockopt,
};
use wigwag_testing::Link;

/// Bytes of memory, about as many as a session of [`super::storm`] has.
const SIZE: usize = 268 << 10;
/// Of these, the control pages that are touched at once.
const CONTROL: usize = 8 << 10;

/// The role: accepts one connection after the other, until it is killed.
pub fn play(parent: &Link, arguments: &[&str]) {
    let listener = new_socket().expect("a socket");
    bind(&listener, &SocketAddrUnix::new(arguments[0]).expect("a path")).expect("a free path");
    listen(&listener, 4096).expect("a listener");
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    parent.tell("ready");
    loop {
        serve_one(&listener, &poller).expect("the bare calls work");
    }
}

fn serve_one(listener: &OwnedFd, poller: &OwnedFd) -> Result<()> {
    let socket = accept_with(listener, SocketFlags::CLOEXEC)?;
    sockopt::socket_peercred(&socket)?;
    watch(poller, &socket)?;
    receive(&socket)?;
    let memory = memfd_create("floor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, SIZE as u64)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)?;
    let mapping = Mapping::new(&memory)?;
    let (server_bell, client_bell) = (eventfd(0, EventfdFlags::CLOEXEC)?, eventfd(0, EventfdFlags::CLOEXEC)?);
    send(&socket, &[memory.as_fd(), server_bell.as_fd(), client_bell.as_fd()])?;
    receive(&socket)?;
    fcntl_add_seals(&memory, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
    let pidfd = peer_pidfd(&socket)?;
    watch(poller, &pidfd)?;
    watch(poller, &server_bell)?;
    receive(&socket)?; // the end
    drop(mapping);
    Ok(())
}

/// A session by hand, from `connect` to the last `close`.
pub fn visit(path: &Path) -> Result<()> {
    let socket = new_socket()?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    sockopt::socket_peercred(&socket)?;
    send(&socket, &[])?;
    let descriptors = receive(&socket)?;
    let [memory, _, client_bell] = &descriptors[..] else { return Err(rustix::io::Errno::PROTO) };
    fcntl_get_seals(memory)?;
    fstat(memory)?;
    let mapping = Mapping::new(memory)?;
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    watch(&poller, client_bell)?;
    watch(&poller, &socket)?;
    let pidfd = peer_pidfd(&socket)?;
    watch(&poller, &pidfd)?;
    send(&socket, &[])?;
    drop(mapping);
    Ok(())
}

fn new_socket() -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

fn watch(poller: &OwnedFd, source: impl AsFd) -> Result<()> {
    epoll::add(poller, source, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
}

fn send(socket: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, &[IoSlice::new(&[1; 40])], &mut control, SendFlags::NOSIGNAL).map(drop)
}

fn receive(socket: &OwnedFd) -> Result<Vec<OwnedFd>> {
    let mut bytes = [0; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

/// SO_PEERPIDFD where the kernel has it, else the number in the credentials.
fn peer_pidfd(socket: &OwnedFd) -> Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers describe `fd` and its length; the kernel writes at most that.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut len)
    };
    if result == 0 {
        // SAFETY: the kernel made this descriptor for us.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    rustix::process::pidfd_open(sockopt::socket_peercred(socket)?.pid, rustix::process::PidfdFlags::empty())
}

struct Mapping(*mut std::ffi::c_void);

impl Mapping {
    fn new(memory: &OwnedFd) -> Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let mapping = Mapping(unsafe { mmap(std::ptr::null_mut(), SIZE, protection, MapFlags::SHARED, memory, 0) }?);
        for (len, advice) in
            [(SIZE, Advice::LinuxDontFork), (SIZE, Advice::LinuxDontDump), (CONTROL, Advice::LinuxPopulateWrite)]
        {
            // SAFETY: the range lies in the mapping, and none of these advices discards anything.
            unsafe { madvise(mapping.0, len, advice) }?;
        }
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping, and nothing borrows from it.
        let _ = unsafe { munmap(self.0, SIZE) };
    }
}
