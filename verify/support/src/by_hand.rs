//! A session of someone who has read `docs/layout.md` and feels bound by nothing.
//!
//! The offsets are written out on purpose: a change of the layout that nobody meant does not pass unnoticed.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::eventually;
use crate::wire::{self, READY, hello};

/// In a turn: it is the server's.
pub const SERVER: u64 = 1;
/// In a turn: the client sleeps.
pub const WAKE: u64 = 2;
/// In a head: a request.
pub const REQUEST: u64 = 1 << 32;
/// In a head: a message.
pub const MESSAGE: u64 = 6 << 32;
/// In a head: a message that a receiver has had.
pub const REDELIVERED: u64 = 7 << 32;
/// In a head: a message that the receiver has now.
pub const DELIVERED: u64 = 8 << 32;
/// In a head: a message is done with.
pub const ACKNOWLEDGED: u64 = 9 << 32;
/// In a head: the payload lies in the body.
pub const IN_BODY: u64 = 1 << 40;
/// In a head: the deadline word counts.
pub const HAS_DEADLINE: u64 = 1 << 41;

/// The session.
pub struct Raw {
    /// The control socket.
    pub socket: OwnedFd,
    /// The memory object.
    pub memory: OwnedFd,
    /// What wakes the server.
    pub server_bell: OwnedFd,
    /// Where it is mapped.
    pub base: NonNull<u8>,
    /// Bytes of the segment.
    pub size: usize,
    /// Slots of the session.
    pub slots: usize,
    /// The longest payload in bytes.
    pub capacity: u64,
}

// SAFETY: the mapping belongs to the process, and all of it is touched as atomics only.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

impl Raw {
    /// Shakes hands with a server, politely.
    pub fn connect(path: &Path) -> Raw {
        Raw::connect_with(path, u32::MAX, u32::MAX)
    }

    /// As [`connect`](Raw::connect), with wishes; all ones stand for the server's choice.
    pub fn connect_with(path: &Path, slots: u32, capacity: u32) -> Raw {
        Raw::connect_in_form(path, slots, capacity, 0)
    }

    /// Connects a stream.
    pub fn connect_stream(path: &Path) -> Raw {
        Raw::connect_in_form(path, u32::MAX, u32::MAX, 2)
    }

    /// Connects a sender.
    pub fn connect_sender(path: &Path, slots: u32) -> Raw {
        Raw::connect_in_form(path, slots, u32::MAX, 1)
    }

    fn connect_in_form(path: &Path, slots: u32, capacity: u32, form: u8) -> Raw {
        Raw::connect_saying(path, hello(), slots, capacity, form)
    }

    /// Connects with a greeting of that kind, in whatever form, with wishes written into it.
    pub fn connect_saying(path: &Path, mut greeting: Vec<u8>, slots: u32, capacity: u32, form: u8) -> Raw {
        let socket = wire::connect_to(path);
        greeting[13..17].copy_from_slice(&slots.to_le_bytes());
        greeting[17..21].copy_from_slice(&capacity.to_le_bytes());
        greeting[31] = form;
        wire::send(&socket, &greeting, &[]).unwrap();
        let welcome = wire::receive(&socket).expect("a welcome");
        assert_eq!(welcome.bytes[0], 3, "{:?}", welcome.end());
        let number = |at: usize| u32::from_le_bytes(welcome.bytes[at..at + 4].try_into().unwrap());
        let size = u64::from_le_bytes(welcome.bytes[12..20].try_into().unwrap()) as usize;
        let mut descriptors = welcome.descriptors.into_iter();
        let (memory, server_bell) = (descriptors.next().unwrap(), descriptors.next().unwrap());
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            mmap(std::ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &memory, 0)
        };
        let base = NonNull::new(base.unwrap().cast()).unwrap();
        wire::send(&socket, READY, &[]).unwrap();
        let (slots, capacity) = (number(4) as usize, u64::from(number(8)));
        let raw = Raw { socket, memory, server_bell, base, size, slots, capacity };
        if form == 0 {
            raw.depth().store(1, Ordering::Relaxed);
        }
        raw
    }

    /// Any word of the segment.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.size);
        // SAFETY: in bounds and aligned; shared memory is only ever touched as atomics here.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    /// Any half of a word.
    pub fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.size);
        // SAFETY: as in `word`.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    /// Any byte.
    pub fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.size);
        // SAFETY: as in `word`.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    /// A slot's turn.
    pub fn turn(&self, slot: usize) -> &AtomicU64 {
        self.word(4096 + slot * 64)
    }

    /// A slot's head.
    pub fn head(&self, slot: usize) -> &AtomicU64 {
        self.word(4096 + slot * 64 + 8)
    }

    /// A slot's deadline.
    pub fn deadline(&self, slot: usize) -> &AtomicU64 {
        self.word(4096 + self.slots * 64 + slot * 8)
    }

    /// How many slots the server is told to look at.
    pub fn depth(&self) -> &AtomicU32 {
        self.half(1024)
    }

    /// Whether the server waits for its bell.
    pub fn waiting(&self) -> &AtomicU32 {
        self.half(1152)
    }

    /// Where the payload of a slot begins.
    pub fn payload(&self, slot: usize, in_body: bool) -> usize {
        let bodies = (4096 + self.slots * 72).next_multiple_of(4096);
        let stride = (self.capacity as usize).max(1024).next_multiple_of(4096);
        if in_body { bodies + slot * stride } else { 4096 + slot * 64 + 16 }
    }

    /// Writes payload bytes.
    pub fn write(&self, slot: usize, in_body: bool, bytes: &[u8]) {
        let start = self.payload(slot, in_body);
        bytes.iter().enumerate().for_each(|(index, byte)| self.byte(start + index).store(*byte, Ordering::Relaxed));
    }

    /// Reads payload bytes.
    pub fn read(&self, slot: usize, in_body: bool, len: usize) -> Vec<u8> {
        let start = self.payload(slot, in_body);
        (start..start + len).map(|offset| self.byte(offset).load(Ordering::Relaxed)).collect()
    }

    /// Passes whatever it is to the server, and rings.
    pub fn pass(&self, slot: usize, turn: u64, head: u64) {
        self.head(slot).store(head, Ordering::Relaxed);
        self.turn(slot).swap(turn, Ordering::SeqCst);
        self.waiting().store(0, Ordering::SeqCst);
        self.ring();
    }

    /// Rings the server's bell.
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.server_bell, &1u64.to_ne_bytes());
    }

    /// Waits for the answer in a slot.
    pub fn wait(&self, slot: usize) {
        eventually("an answer", || self.turn(slot).load(Ordering::Acquire) & SERVER == 0);
    }

    /// A request that obeys all rules.
    pub fn send(&self, slot: usize, sequence: u64, request: &[u8]) {
        let in_body = request.len() > 48;
        self.write(slot, in_body, request);
        let flag = if in_body { IN_BODY } else { 0 };
        self.pass(slot, sequence << 8 | SERVER, REQUEST | flag | request.len() as u64);
    }

    /// A call that obeys all rules.
    pub fn call(&self, slot: usize, sequence: u64, request: &[u8]) -> Vec<u8> {
        self.send(slot, sequence, request);
        self.wait(slot);
        let head = self.head(slot).load(Ordering::Relaxed);
        assert_eq!(head >> 32 & 0xff, 2, "a reply: {head:#x}");
        self.read(slot, head & IN_BODY != 0, head as u32 as usize)
    }

    /// Waits for the end of the session: the server's reason and its words.
    #[track_caller]
    pub fn end(&self) -> (u8, String) {
        wire::receive_end(&self.socket).expect("a farewell before the end")
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `connect`; all references into it borrow `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.size) };
    }
}
