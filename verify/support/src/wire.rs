//! The control protocol spoken by hand, for those who break it. The bytes are written out here on purpose: a change of
//! the protocol that nobody meant does not pass unnoticed.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};

use crate::LIMIT;

/// The one message that needs no more: "I have mapped the memory".
pub const READY: &[u8] = &[2];
/// Reasons of refusals and farewells.
pub const REFUSED: u8 = 1;
/// The versions do not understand each other.
pub const VERSION: u8 = 3;
/// There is no place just now.
pub const LATER: u8 = 7;
/// The peer broke the protocol.
pub const VIOLATION: u8 = 4;

/// A greeting that asks for plain bytes and whatever the server states.
pub fn hello() -> Vec<u8> {
    let mut hello = vec![1];
    hello.extend(b"WWHI");
    hello.extend([2, 0, 2, 0]); // protocol versions, lowest and highest
    hello.extend([2, 0, 0, 0]); // layout version, highest
    hello.extend([0xff; 8]); // slots and capacity: the server's choice
    hello.extend([0; 12]); // the contract's version, size and alignment
    hello.push(5);
    hello.extend([2, 0, 0, 0]); // layout version, lowest
    hello.extend([0; 16]); // features, offered and required
    hello.extend([0; 8]); // what the clock shows, which nobody asks for in one namespace
    hello.extend(time_namespace().to_le_bytes());
    hello.extend(b"bytes");
    hello
}

/// The same, in the form of version 1.
pub fn hello_of_version_1() -> Vec<u8> {
    let mut hello = hello();
    hello.drain(34..70);
    hello[5..13].copy_from_slice(&[1, 0, 1, 0, 1, 0, 0, 0]);
    hello
}

/// Where a HELLO of version 2 says what the clock shows, which is never the same twice.
pub const HELLO_CLOCK: std::ops::Range<usize> = 54..62;

/// What a WELCOME of version 2 says behind that of version 1: layout, one clock, no features.
pub const WELCOME_EXTENSION: [u8; 16] = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The inode of this process's time namespace; 0 where there are none.
fn time_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/time").map_or(0, |metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
}

/// A message from the other end.
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Message {
    /// A refusal's or a farewell's reason and text.
    pub fn end(&self) -> Option<(u8, String)> {
        match self.bytes[..] {
            [4 | 5, reason, ref text @ ..] => Some((reason, String::from_utf8(text.to_vec()).unwrap())),
            _ => None,
        }
    }
}

/// Connects to a server's socket, and says nothing.
pub fn connect_to(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

/// Sends a message with descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).map(drop)
}

/// Receives a message; `None` at the end.
pub fn receive(socket: impl AsFd) -> Option<Message> {
    look(&socket, RecvFlags::empty())
}

/// As [`receive`], and leaves the message, with its descriptors, where it is.
pub fn peek(socket: impl AsFd) -> Option<Vec<u8>> {
    look(&socket, RecvFlags::PEEK).map(|message| message.bytes)
}

fn look(socket: &impl AsFd, flags: RecvFlags) -> Option<Message> {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    // A fuzzer has a timer whose signal may come at any time.
    let came = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit)));
    assert!(came.unwrap() > 0, "no message came");
    // The end is told also to who looks while a message and the end come: what was sent before the end is there at the
    // second look.
    once(socket, flags).or_else(|| once(socket, flags | RecvFlags::DONTWAIT))
}

fn once(socket: &impl AsFd, flags: RecvFlags) -> Option<Message> {
    let mut bytes = vec![0; 8192];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = match flags.contains(RecvFlags::PEEK) {
        true => RecvAncillaryBuffer::default(), // a look would copy the descriptors
        false => RecvAncillaryBuffer::new(&mut space),
    };
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        Ok(received) => received.bytes,
        Err(Errno::CONNRESET) => return once(socket, flags), // said once; what was sent before it is still to be read
        Err(Errno::AGAIN) => return None,                    // an empty message was no end
        Err(error) => panic!("could not receive: {error}"),
    };
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(received);
    (received > 0).then_some(Message { bytes, descriptors })
}

/// Receives until the end; the reason and text of the last refusal or farewell.
pub fn receive_end(socket: impl AsFd) -> Option<(u8, String)> {
    let mut end = None;
    while let Some(message) = receive(&socket) {
        end = message.end().or(end);
    }
    end
}
