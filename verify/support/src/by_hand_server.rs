//! A server of someone who has read `docs/layout.md` and feels bound by nothing: what a client makes of it.
//!
//! As in `by_hand`, the bytes are written out on purpose.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with};

use crate::by_hand::Raw;
use crate::wire;

/// A socket that clients take for a server's.
pub struct RawServer(OwnedFd);

/// What a client is to be welcomed with; every part may be exchanged before it is sent.
pub struct Offer {
    /// The message.
    pub welcome: Vec<u8>,
    /// What goes with it: the memory, the server's bell, the client's bell.
    pub descriptors: Vec<OwnedFd>,
    /// The memory's seals; the right ones forbid to shrink and to grow.
    pub seals: SealFlags,
    slots: usize,
    capacity: u64,
    size: usize,
}

/// A publisher's memory by hand: 4 entries, 4 bodies of 64 bytes.
pub struct RawBoard(OwnedFd);

impl RawBoard {
    const ENTRIES: u64 = 4;
    const BODIES: u64 = 4;
    const CAPACITY: u64 = 64;

    /// A board with nothing in it; the number stands for the publisher.
    pub fn new(epoch: u64) -> RawBoard {
        let (bodies_offset, size) = (8192, 12_288);
        let memory = memfd_create("wigwag-board", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memory, size).unwrap();
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        let board = RawBoard(memory);
        let pair = |low: u64, high: u64| low | high << 32;
        board.write(0, &[u64::from_le_bytes(*b"WIGWAG\x03\xf5"), pair(1, Self::ENTRIES)]);
        board.write(16, &[pair(Self::BODIES, Self::CAPACITY), Self::CAPACITY, bodies_offset, size]);
        board.write(48, &[contract_hash(3), epoch]);
        board
    }

    /// Writes words there.
    pub fn write(&self, offset: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        rustix::io::pwrite(&self.0, &bytes, offset).unwrap();
    }

    /// Says how many messages were published.
    pub fn set_published(&self, sequence: u64) {
        self.write(1024, &[sequence]);
    }

    /// Says that a message of `len` bytes lies in an entry, in the body with that number plus one.
    pub fn set_entry(&self, entry: u64, sequence: u64, len: u64, body: u64) {
        self.write(4096 + 64 * entry, &[sequence, len | body << 32]);
    }

    /// Welcomes a subscriber with it. `trusted`: as if that were of the publisher's own user.
    pub fn offer(&self, epoch: u64, trusted: bool) -> Offer {
        let mut offer = Offer::in_form(4, Self::CAPACITY, 3);
        for number in [Self::ENTRIES as u32, Self::BODIES as u32, 4, 0] {
            offer.welcome.extend(number.to_le_bytes());
        }
        offer.welcome.extend(epoch.to_le_bytes());
        if !trusted {
            offer.welcome[1] = 0;
            offer.descriptors.truncate(2);
        }
        offer.descriptors.push(self.0.try_clone().unwrap());
        if trusted {
            let hints = memfd_create("wigwag-hints", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
            ftruncate(&hints, 4096).unwrap();
            fcntl_add_seals(&hints, SealFlags::SHRINK | SealFlags::GROW).unwrap();
            offer.descriptors.push(hints);
        }
        offer
    }
}

impl From<OwnedFd> for RawServer {
    fn from(listening: OwnedFd) -> RawServer {
        RawServer(listening)
    }
}

impl RawServer {
    /// Listens at a path.
    pub fn bind(path: &Path) -> RawServer {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&socket, 64).unwrap();
        RawServer(socket)
    }

    /// Takes the next client's connection, and says nothing.
    pub fn accept(&self) -> OwnedFd {
        accept_with(&self.0, SocketFlags::CLOEXEC).unwrap()
    }

    /// Whether a client waits to be taken.
    pub fn is_asked(&self) -> bool {
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Takes the next client in, politely; its memory can be written to as that of any session by hand.
    pub fn serve(&self, slots: usize, capacity: u64) -> Raw {
        self.serve_in_form(slots, capacity, 0)
    }

    /// As [`serve`](RawServer::serve), a client of another form.
    pub fn serve_in_form(&self, slots: usize, capacity: u64, form: u8) -> Raw {
        let socket = self.accept();
        assert_eq!(wire::receive(&socket).expect("a greeting").bytes[0], 1);
        let raw = Offer::in_form(slots, capacity, form).send(socket).unwrap();
        assert_eq!(wire::receive(&raw.socket).expect("an answer").bytes, wire::READY);
        raw
    }
}

impl Offer {
    /// What a server that obeys all rules sends.
    pub fn new(slots: usize, capacity: u64) -> Offer {
        Offer::in_form(slots, capacity, 0)
    }

    /// As [`new`](Offer::new), for another form.
    pub fn in_form(slots: usize, capacity: u64, form: u8) -> Offer {
        let (bodies, stride) = parts(slots, capacity, form);
        let size = bodies + slots as u64 * stride;
        let memory = memfd_create("wigwag", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memory, size).unwrap();
        rustix::io::pwrite(&memory, &header(slots, capacity, form), 0).unwrap();
        let bell = || eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let mut welcome = vec![3, 1, 2, 0];
        welcome.extend((slots as u32).to_le_bytes());
        welcome.extend((capacity as u32).to_le_bytes());
        welcome.extend(size.to_le_bytes());
        welcome.extend(wire::WELCOME_EXTENSION);
        let seals = SealFlags::SHRINK | SealFlags::GROW;
        Offer { welcome, descriptors: vec![memory, bell(), bell()], seals, slots, capacity, size: size as usize }
    }

    /// The same for a client that greeted in the form of version 1.
    pub fn of_version_1(mut self) -> Offer {
        self.welcome.truncate(20);
        self.welcome[2] = 1;
        rustix::io::pwrite(&self.descriptors[0], &[1], 8).unwrap();
        self
    }

    /// Turns bits of the memory over before the client has it.
    pub fn flip(&self, offset: u64, bits: u8) {
        let mut byte = [0];
        rustix::io::pread(&self.descriptors[0], &mut byte, offset).unwrap();
        rustix::io::pwrite(&self.descriptors[0], &[byte[0] ^ bits], offset).unwrap();
    }

    /// Sends it. The session's memory is that which was made at first, whatever was sent in its place.
    pub fn send(mut self, socket: OwnedFd) -> rustix::io::Result<Raw> {
        let size = self.size;
        let _ = self.descriptors.first().map(|memory| fcntl_add_seals(memory, self.seals));
        let descriptors: Vec<BorrowedFd<'_>> = self.descriptors.iter().map(AsFd::as_fd).collect();
        wire::send(&socket, &self.welcome, &descriptors)?;
        self.descriptors.truncate(2);
        let (Some(server_bell), Some(memory)) = (self.descriptors.pop(), self.descriptors.pop()) else {
            return Err(rustix::io::Errno::BADF);
        };
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            mmap(std::ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &memory, 0)?
        };
        let base = NonNull::new(base.cast()).unwrap();
        Ok(Raw { socket, memory, server_bell, base, size, slots: self.slots, capacity: self.capacity })
    }
}

/// Where the bodies begin, and how far they lie apart; a subscriber has none.
fn parts(slots: usize, capacity: u64, form: u8) -> (u64, u64) {
    let stride = if form == 3 { 0 } else { capacity.max(1024).next_multiple_of(4096) };
    ((4096 + slots as u64 * 72).next_multiple_of(4096), stride)
}

/// The hash of the contract: the name, and three numbers, of which only the form is not zero.
fn contract_hash(form: u8) -> u64 {
    let bytes = [&b"bytes"[..], &[0; 10], &[form, 0]].concat();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The first bytes of a segment.
fn header(slots: usize, capacity: u64, form: u8) -> Vec<u8> {
    let (bodies, stride) = parts(slots, capacity, form);
    let mut header = b"WIGWAG\x00\xf5".to_vec();
    for word in [2, 4096, slots as u32, capacity as u32] {
        header.extend(word.to_le_bytes());
    }
    for word in [stride, 4096 + 64 * slots as u64, bodies, bodies + slots as u64 * stride, contract_hash(form)] {
        header.extend(word.to_le_bytes());
    }
    header
}
