//! A session's memory: all pointers into the mapping are made here, and nowhere else.
//!
//! **Invariant G1.** The mapping is at least `geometry.segment_size` bytes long; geometry comes from [`Geometry::new`],
//! never from the segment, so every offset computed here lies inside and is aligned for its type.
//!
//! **Invariant G2.** Control words (turns, heads, deadlines, the two control lines) are only ever accessed as atomics,
//! by both sides. A hostile peer can put any value into them, and nothing else.
//!
//! **Invariant G3.** Payload bytes of a slot (its inline part and its body) are touched through plain references only
//! by the side whose turn it is (invariant S1 of [`crate::memory::slot`]) and only when the peer is of the same user,
//! which stands inside the boundary that Rust draws. For any other peer the server copies them, once, with
//! [`Segment::copy_out`]. The references are made in [`crate::memory::payload`]; pointers to payload bytes stay in
//! `memory`.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Error, ErrorKind, Result};
use crate::form::Form;
use crate::memory::layout::{
    CLIENT_LINE_OFFSET, Geometry, HOLDS_OFFSET, Header, INLINE_CAPACITY, INLINE_OFFSET, LINE_SIZE, LINES_OFFSET,
    RING_WORD_STRIDE, RING_WORDS_OFFSET, SERVER_LINE_OFFSET, SLEEPS_OFFSET, SLEEPS_SLOTS, check_ring_pages,
};
use crate::memory::ring::Words;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::fork::ForkGuard;
use crate::sys::memory::Mapping;

/// A mapped segment.
#[derive(Debug)]
pub struct Segment {
    base: NonNull<u8>,
    geometry: Geometry,
    /// From one body to the next in the mapping: twice as much as in the memory object if each is mapped twice.
    body_span: usize,
    /// Shared by all handles of this process.
    mapping: Arc<Mapping>,
    fork: ForkGuard,
}

// SAFETY: the addresses are valid in the whole process (M1), control words are atomics (G2), and payload bytes are
// given out as raw pointers whose use is ruled by the turn (G3).
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// What a sender does with what it has passed and its receiver has not acknowledged: for whoever finds the memory when
/// both are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Moving {
    /// It has done nothing, or has not come yet.
    NotBegun = 0,
    /// It has begun to pass it to another receiver.
    Begun = 1,
    /// All of it was passed to another receiver.
    Done = 2,
    /// It has ended, and has passed nothing of it to anybody.
    Left = 3,
    /// It has the memory, and has done nothing. Without that it may never have heard of the session.
    Attached = 4,
}

impl Moving {
    /// From the word. One that is not known says that something was begun.
    pub fn of(word: u32) -> Moving {
        match word {
            0 => Moving::NotBegun,
            2 => Moving::Done,
            3 => Moving::Left,
            4 => Moving::Attached,
            _ => Moving::Begun,
        }
    }
}

/// What the client says about itself: written by the client, rarely.
#[repr(C, align(64))]
pub struct ClientLine {
    /// How many slot lines the server must look at: all slots in use have a smaller index.
    pub depth: AtomicU32,
    /// Nanoseconds between the client's last reply and the request that woke the server; `u32::MAX`: long, or not
    /// known.
    pub think_ns: AtomicU32,
    /// [`crate::sys::cpu::only_processor`] of the client's thread.
    pub only_processor: AtomicU32,
    /// [`crate::sys::cpu::current`] of the client's thread when it rang last.
    pub processor: AtomicU32,
    /// When the client rang last, written before the ring; 0: not known.
    pub rang_ns: AtomicU64,
    /// Of a queue: what its sender does with what is not acknowledged here, a [`Moving`] as a number.
    pub moving: AtomicU32,
}

/// What the server says about itself: written by the server, when it goes to sleep and when it wakes.
#[repr(C, align(64))]
pub struct ServerLine {
    /// The server's `waiting` word; see [`crate::memory::doorbell::Waiting`].
    pub waiting: AtomicU32,
    /// [`crate::sys::cpu::only_processor`] of the server's thread.
    pub only_processor: AtomicU32,
    /// [`crate::sys::cpu::current`] of the server's thread when it woke last, or became hot.
    pub processor: AtomicU32,
    /// 1 before the server takes requests, and once it takes none any more and has marked those that it has taken and
    /// not answered.
    pub closed: AtomicU32,
    /// When the server rang the client last, written before the ring; 0: not known.
    pub rang_ns: AtomicU64,
}

/// What a subscriber says about itself, in the place of the client's line: written by the subscriber; the publisher
/// claims `waiting`.
#[repr(C, align(64))]
pub struct SubscriberLine {
    /// It sleeps until something is published; see [`crate::memory::doorbell::Waiting`].
    pub waiting: AtomicU32,
    /// [`crate::sys::cpu::current`] of its thread when it slept last.
    pub processor: AtomicU32,
    /// The next message that it will take. The publisher of a lossless broadcast waits for it; else it is for people.
    pub cursor: AtomicU64,
    /// Messages that it took.
    pub received: AtomicU64,
    /// Messages that it has lost.
    pub lost: AtomicU64,
}

/// One of the two ends of a stream, which are alike but for the places of their words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that connected.
    Connecting = 0,
    /// The end that accepted.
    Accepting = 1,
}

impl Side {
    /// The other end.
    #[inline(always)]
    pub fn other(self) -> Side {
        match self {
            Side::Connecting => Side::Accepting,
            Side::Accepting => Side::Connecting,
        }
    }
}

/// What one end of a stream says about itself, in the place of the client's or the server's line: written by that end,
/// when it goes to sleep and when it rings.
#[repr(C, align(64))]
pub struct EndLine {
    /// It sleeps until there is something to read; see [`crate::memory::doorbell::Waiting`].
    pub waits_for_data: AtomicU32,
    /// It sleeps until there is room to write.
    pub waits_for_room: AtomicU32,
    /// Nanoseconds from what it received last to its ring; `u32::MAX`: long, or not known.
    pub think_ns: AtomicU32,
    /// [`crate::sys::cpu::only_processor`] of its thread.
    pub only_processor: AtomicU32,
    /// [`crate::sys::cpu::current`] of its thread when it rang or slept last.
    pub processor: AtomicU32,
    /// When it rang last, written before the ring; 0: not known.
    pub rang_ns: AtomicU64,
}

/// A slot's line.
#[repr(C, align(64))]
pub struct Line {
    /// Whose turn it is; see [`crate::memory::slot`].
    pub turn: AtomicU64,
    /// What lies there: [`crate::memory::head::Head`].
    pub head: AtomicU64,
    inline: UnsafeCell<[u8; INLINE_CAPACITY]>,
}

impl Line {
    /// The first inline payload byte.
    #[inline(always)]
    pub(super) fn inline(&self) -> NonNull<u8> {
        NonNull::from(&self.inline).cast()
    }
}

/// A slot's line without a borrow, kept beside the owner of the segment, so that the line need not be looked up again.
#[derive(Debug)]
pub struct LineRef(NonNull<Line>);

// SAFETY: the address is valid in the whole process (M1), and only the line's atomics are reached through it (G2).
unsafe impl Send for LineRef {}
// SAFETY: as above.
unsafe impl Sync for LineRef {}

impl LineRef {
    /// In the place of a line where there is none; not to be asked for it.
    pub const NONE: LineRef = LineRef(NonNull::dangling());

    /// Of a line whose segment lives as long as this is used.
    #[inline(always)]
    pub fn of(line: &Line) -> LineRef {
        LineRef(NonNull::from(line))
    }

    /// The line; not of [`LineRef::NONE`], and not without the segment.
    #[inline(always)]
    pub fn get(&self) -> &Line {
        debug_assert!(self.0 != LineRef::NONE.0);
        // SAFETY: made of a line in bounds and aligned (G1), which is mapped as long as the owner beside this keeps the
        // segment (M1); atomics (G2) and bytes behind an UnsafeCell, which a reference does not touch.
        unsafe { self.0.as_ref() }
    }
}

const _: () =
    assert!(size_of::<Line>() == LINE_SIZE && std::mem::offset_of!(Line, inline) == INLINE_OFFSET || cfg!(loom));
const _: () = assert!(size_of::<ClientLine>() == LINE_SIZE && size_of::<ServerLine>() == LINE_SIZE || cfg!(loom));
const _: () = assert!(size_of::<EndLine>() == LINE_SIZE || cfg!(loom));
const _: () = assert!(size_of::<SubscriberLine>() == LINE_SIZE || cfg!(loom));

impl Segment {
    /// Maps a memory object as the form has it.
    pub fn map_for(form: Form, memory: impl AsFd, geometry: Geometry) -> Result<Segment> {
        if form.has_rings() { Segment::map_rings(memory, geometry) } else { Segment::map(memory, geometry) }
    }

    /// Maps a memory object. Touches header, slot lines and deadlines; bodies stay virtual until somebody writes to
    /// them.
    pub fn map(memory: impl AsFd, geometry: Geometry) -> Result<Segment> {
        let mapping = Mapping::new(&memory, geometry.segment_size, geometry.bodies_offset)?
            .kept_in_children(memory, &[(0, geometry.segment_size)])?;
        Ok(Segment::of(mapping, geometry, geometry.body_stride))
    }

    /// Maps the segment of a stream: its rings, each twice in a row, so that what wraps around is contiguous.
    pub fn map_rings(memory: impl AsFd, geometry: Geometry) -> Result<Segment> {
        assert!(geometry.has_rings());
        check_ring_pages(geometry.body_stride, rustix::param::page_size())
            .map_err(|why| Error::new(ErrorKind::InvalidConfiguration, why))?;
        let ring = |index: usize| (geometry.bodies_offset + index * geometry.body_stride, geometry.body_stride);
        let parts = [(0, geometry.bodies_offset), ring(0), ring(0), ring(1), ring(1)];
        let mapping = Mapping::of_parts(&memory, &parts, geometry.bodies_offset)?.kept_in_children(memory, &parts)?;
        Ok(Segment::of(mapping, geometry, 2 * geometry.body_stride))
    }

    fn of(mapping: Mapping, geometry: Geometry, body_span: usize) -> Segment {
        let mapping = Arc::new(mapping);
        Segment { base: mapping.base(), geometry, body_span, mapping, fork: ForkGuard::new() }
    }

    /// The same memory, for another thread of this process: it is unmapped with the last handle.
    pub fn share(&self) -> Segment {
        Segment { mapping: Arc::clone(&self.mapping), ..*self }
    }

    /// The geometry.
    #[inline(always)]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether this is a child process that inherited the address, but not the memory behind it.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// Where the body of a slot begins in the memory object.
    #[inline(always)]
    pub fn body_offset(&self, slot: usize) -> usize {
        assert!(slot < self.geometry.slots);
        self.geometry.bodies_offset + slot * self.geometry.body_stride
    }

    /// Bytes mapped.
    pub fn size(&self) -> usize {
        self.mapping.size()
    }

    /// Writes the header: server, before anybody else has the segment.
    pub fn write_header(&self, header: &Header) {
        for (index, chunk) in header.as_bytes().chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight"));
            // Relaxed: the descriptor's journey through the socket orders it.
            self.word(index * 8).store(word, Ordering::Relaxed);
        }
    }

    /// Server: no request is taken from now on, and those that were and have not been answered are marked.
    pub fn close(&self) {
        // Release: the marks stay before it, whenever this process is killed. Partner: `Connection::is_untaken`.
        self.server_line().closed.store(1, Ordering::Release);
    }

    /// Server: requests are taken from now on.
    pub fn open(&self) {
        // Relaxed: read once the server is gone or has said farewell, which the kernel orders.
        self.server_line().closed.store(0, Ordering::Relaxed);
    }

    /// Copies the header out: client, once.
    pub fn read_header(&self) -> Header {
        let mut bytes = [0u8; size_of::<Header>()];
        for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.word(index * 8).load(Ordering::Relaxed).to_ne_bytes());
        }
        Header::read_from_bytes(&bytes).expect("the array has the header's size")
    }

    /// The client's control line.
    #[inline(always)]
    pub fn client_line(&self) -> &ClientLine {
        // SAFETY: in bounds and aligned (G1), only atomics inside (G2).
        unsafe { &*self.base.as_ptr().add(CLIENT_LINE_OFFSET).cast::<ClientLine>() }
    }

    /// A sender: says what it does with what is not acknowledged here.
    pub fn say_moving(&self, moving: Moving) {
        // Release: whoever reads it, by `pread`, sees what this thread had passed before.
        self.client_line().moving.store(moving as u32, Ordering::Release);
    }

    /// The server's control line.
    #[inline(always)]
    pub fn server_line(&self) -> &ServerLine {
        // SAFETY: in bounds and aligned (G1), only atomics inside (G2).
        unsafe { &*self.base.as_ptr().add(SERVER_LINE_OFFSET).cast::<ServerLine>() }
    }

    /// A slot's line: looked up once for a call, and handed on.
    ///
    /// # Panics
    /// If `slot` is out of range.
    #[inline(always)]
    pub fn line(&self, slot: usize) -> &Line {
        // SAFETY: in bounds and aligned (G1); atomics (G2) and bytes behind an UnsafeCell, which a reference does not
        // touch.
        unsafe { &*self.base.as_ptr().add(self.line_offset(slot)).cast::<Line>() }
    }

    /// The deadline word of a slot.
    #[inline(always)]
    pub fn deadline(&self, slot: usize) -> &AtomicU64 {
        assert!(slot < self.geometry.slots);
        self.word(self.geometry.deadlines_offset + slot * 8)
    }

    /// In a queue: when the message of a slot was committed, to a tick of the kernel's clock. Nobody reads it but
    /// observers, and the sender, which gives it on to the receiver's successor.
    #[inline(always)]
    pub fn committed(&self, slot: usize) -> &AtomicU64 {
        self.deadline(slot) // a queue has no deadlines, and this in their place
    }

    /// Since when the client has slept until a slot comes back, to a tick of the kernel's clock: for observers, valid
    /// while the turn has WAKE. Slots beyond the room for these words have none.
    pub fn sleeps_since(&self, slot: usize) -> Option<&AtomicU64> {
        (slot < self.geometry.slots.min(SLEEPS_SLOTS)).then(|| self.word(SLEEPS_OFFSET + 8 * slot))
    }

    /// Which slot has a line.
    ///
    /// # Panics
    /// Maybe, if the line is not of this segment.
    pub fn slot_of(&self, line: &Line) -> usize {
        (std::ptr::from_ref(line).addr() - self.base.addr().get() - LINES_OFFSET) / LINE_SIZE
    }

    /// The first payload byte of a slot: in its line, or its body.
    #[inline(always)]
    pub(super) fn payload(&self, slot: usize, in_body: bool) -> NonNull<u8> {
        if in_body { self.body(slot) } else { self.line(slot).inline() }
    }

    /// The first byte of a slot's body.
    #[inline(always)]
    pub(super) fn body(&self, slot: usize) -> NonNull<u8> {
        assert!(slot < self.geometry.slots);
        // SAFETY: in bounds (G1).
        unsafe { self.base.add(self.geometry.bodies_offset + slot * self.body_span) }
    }

    /// What a subscriber says about itself.
    #[inline(always)]
    pub fn subscriber_line(&self) -> &SubscriberLine {
        // SAFETY: in bounds and aligned (G1), only atomics inside (G2).
        unsafe { &*self.base.as_ptr().add(CLIENT_LINE_OFFSET).cast::<SubscriberLine>() }
    }

    /// Whether the publisher has a subscriber in its list, so that its holds count: 1, or 0. Written by the publisher.
    #[inline(always)]
    pub fn listed(&self) -> &AtomicU32 {
        &self.server_line().closed // a subscriber passes nothing that could be taken, and this is in its place
    }

    /// One of a subscriber's holds; see [`crate::memory::hold`].
    ///
    /// # Panics
    /// If `hold` is out of range.
    #[inline(always)]
    pub fn hold(&self, hold: usize) -> &AtomicU64 {
        assert!(hold < self.geometry.slots);
        self.word(HOLDS_OFFSET + hold * 8)
    }

    /// What one end of a stream says about itself.
    #[inline(always)]
    pub fn end_line(&self, side: Side) -> &EndLine {
        let offset = match side {
            Side::Connecting => CLIENT_LINE_OFFSET,
            Side::Accepting => SERVER_LINE_OFFSET,
        };
        // SAFETY: in bounds and aligned (G1), only atomics inside (G2).
        unsafe { &*self.base.as_ptr().add(offset).cast::<EndLine>() }
    }

    /// The words of the ring that `writer` writes to.
    #[inline(always)]
    pub fn ring_words(&self, writer: Side) -> Words<'_> {
        let produced = RING_WORDS_OFFSET + writer as usize * 2 * RING_WORD_STRIDE;
        Words {
            produced: self.word(produced),
            consumed: self.word(produced + RING_WORD_STRIDE),
            waits_for_data: &self.end_line(writer.other()).waits_for_data,
            waits_for_room: &self.end_line(writer).waits_for_room,
        }
    }

    /// Bytes of the ring that `writer` writes to, from a position on that is taken modulo the ring: for the side whose
    /// they are (invariants B1 and G3). As the ring is mapped twice, they are contiguous.
    ///
    /// # Panics
    /// If more than the ring's size are asked for, or the segment is not a stream's.
    #[inline(always)]
    pub(super) fn ring_bytes(&self, writer: Side, position: usize, len: usize) -> NonNull<[u8]> {
        let ring = self.geometry.body_stride;
        assert!(len <= ring && self.body_span == 2 * ring);
        // SAFETY: the position lies in the first mapping of the ring, which is a power of two, and what goes beyond it
        // in the second (G1, M1).
        let begin = unsafe { self.body(writer as usize).add(position & (ring - 1)) };
        NonNull::slice_from_raw_parts(begin, len)
    }

    /// Copies payload bytes into private memory, each word read exactly once: for peers that may write behind our back.
    pub fn copy_out(&self, slot: usize, in_body: bool, into: &mut [u8]) {
        let from = self.checked_payload(slot, in_body, into.len());
        // SAFETY: in bounds by `checked_payload`.
        unsafe { copy_once(from, into) };
    }

    /// Copies bytes of the ring that `writer` writes to into private memory. `trusted`: the peer does not write behind
    /// our back; else each word is read exactly once.
    #[inline]
    pub fn copy_from_ring(&self, writer: Side, position: usize, into: &mut [u8], trusted: bool) {
        let from = self.ring_bytes(writer, position, into.len()).cast::<u8>();
        match trusted {
            // SAFETY: in bounds by `ring_bytes`; shared and private memory do not overlap; the bytes are the reader's
            // (B1, G3).
            true => unsafe { copy_in_pieces(from.as_ptr(), into.as_mut_ptr(), into.len()) },
            // SAFETY: in bounds by `ring_bytes`.
            false => unsafe { copy_once(from, into) },
        }
    }

    /// Copies private bytes into the ring that `writer` writes to.
    #[inline]
    pub fn copy_to_ring(&self, writer: Side, position: usize, from: &[u8]) {
        let into = self.ring_bytes(writer, position, from.len()).cast::<u8>();
        // SAFETY: in bounds by `ring_bytes`; shared and private memory do not overlap; the bytes are the writer's (B1),
        // whose use of them ends with the call: a peer that reads or writes them now harms its own stream.
        unsafe { from.as_ptr().copy_to_nonoverlapping(into.as_ptr(), from.len()) };
    }

    /// Copies private bytes into a payload.
    pub fn copy_in(&self, slot: usize, in_body: bool, from: &[u8]) {
        let into = self.checked_payload(slot, in_body, from.len());
        let (words, rest) = from.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: in bounds by `checked_payload`, aligned as in `copy_out`; volatile for the same reason.
            unsafe { into.as_ptr().cast::<u64>().add(index).write_volatile(u64::from_ne_bytes(*word)) };
        }
        for (index, byte) in rest.iter().enumerate() {
            // SAFETY: in bounds by `checked_payload`.
            unsafe { into.as_ptr().add(words.len() * 8 + index).write_volatile(*byte) };
        }
    }

    /// How many bytes a slot's body has, or the inline part of its line.
    #[inline(always)]
    pub(super) fn room(&self, in_body: bool) -> usize {
        if in_body { self.geometry.body_stride } else { LINE_SIZE - INLINE_OFFSET }
    }

    fn checked_payload(&self, slot: usize, in_body: bool, len: usize) -> NonNull<u8> {
        let room = self.room(in_body);
        assert!(len <= room, "{len} bytes do not fit into {room}");
        self.payload(slot, in_body)
    }

    #[inline(always)]
    fn line_offset(&self, slot: usize) -> usize {
        assert!(slot < self.geometry.slots);
        LINES_OFFSET + slot * LINE_SIZE
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 <= self.geometry.segment_size);
        // SAFETY: every caller's offset is a constant or checked against the geometry: in bounds and aligned (G1); the
        // words so reached are never part of a payload (G2).
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}

/// Bytes that the C library copies by ordinary loads and stores. From some kilobytes on it uses `rep movsb`: good where
/// lines are written that need not be read before, but half as fast where another processor's are read (measured on Zen
/// 4).
const PIECE: usize = 1024;

/// Copies as `copy_nonoverlapping` does, a large part of memory in small pieces.
///
/// # Safety
/// The same as those of `copy_nonoverlapping`.
#[inline(always)]
unsafe fn copy_in_pieces(from: *const u8, into: *mut u8, len: usize) {
    let mut done = 0;
    while len - done > PIECE {
        // SAFETY: a part of what the caller vouches for.
        unsafe { from.add(done).copy_to_nonoverlapping(into.add(done), PIECE) };
        done += PIECE;
    }
    // SAFETY: as above: the rest.
    unsafe { from.add(done).copy_to_nonoverlapping(into.add(done), len - done) };
}

/// Copies shared bytes, each word read exactly once. Volatile, because the peer may write at the same time: the least
/// bad way to read such memory (unsafe-code-guidelines issue 152).
///
/// # Safety
/// `from` must be valid for reads of as many bytes as `into` has.
pub(super) unsafe fn copy_once(from: NonNull<u8>, into: &mut [u8]) {
    let from = from.as_ptr();
    let (before, rest) = into.split_at_mut(from.align_offset(8).min(into.len()));
    let (words, after) = rest.as_chunks_mut::<8>();
    let (aligned, end) = (before.len(), before.len() + words.len() * 8);
    for (index, byte) in before.iter_mut().enumerate() {
        // SAFETY: in bounds by the caller's promise.
        *byte = unsafe { from.add(index).read_volatile() };
    }
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: in bounds by the caller's promise, and aligned by the split.
        *word = unsafe { from.add(aligned + index * 8).cast::<u64>().read_volatile() }.to_ne_bytes();
    }
    for (index, byte) in after.iter_mut().enumerate() {
        // SAFETY: in bounds by the caller's promise.
        *byte = unsafe { from.add(end + index).read_volatile() };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::contract::Contract;
    use crate::sys::memory::create_sealed;

    fn segment(slots: usize, capacity: usize) -> Segment {
        let geometry = Geometry::new(slots, capacity).unwrap();
        Segment::map(create_sealed("wigwag", geometry.segment_size).unwrap(), geometry).unwrap()
    }

    #[test]
    fn the_header_goes_there_and_back() {
        let segment = segment(3, 100);
        let header = segment.geometry().header(&Contract::bytes(), 2);
        segment.write_header(&header);
        assert_eq!(segment.read_header(), header);
    }

    #[test]
    fn no_two_parts_overlap() {
        let segment = segment(3, 5000);
        let mut parts = vec![
            (0, 64),
            (std::ptr::from_ref(segment.client_line()).addr() - segment.base.addr().get(), 64),
            (std::ptr::from_ref(segment.server_line()).addr() - segment.base.addr().get(), 64),
        ];
        for slot in 0..3 {
            parts.push((std::ptr::from_ref(&segment.line(slot).turn).addr() - segment.base.addr().get(), 8));
            parts.push((std::ptr::from_ref(&segment.line(slot).head).addr() - segment.base.addr().get(), 8));
            parts.push((segment.deadline(slot).as_ptr().addr() - segment.base.addr().get(), 8));
            parts.push((segment.sleeps_since(slot).unwrap().as_ptr().addr() - segment.base.addr().get(), 8));
            assert_eq!(segment.slot_of(segment.line(slot)), slot);
            parts.push((segment.payload(slot, false).addr().get() - segment.base.addr().get(), 48));
            parts.push((segment.payload(slot, true).addr().get() - segment.base.addr().get(), 8192));
        }
        parts.sort();
        for pair in parts.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
        }
        let last = parts.last().unwrap();
        assert_eq!(last.0 + last.1, segment.size());
    }

    fn rings() -> Segment {
        let geometry = Geometry::new(2, 4096).unwrap();
        Segment::map_rings(create_sealed("wigwag", geometry.segment_size).unwrap(), geometry).unwrap()
    }

    #[test]
    fn what_wraps_around_a_ring_is_contiguous_and_exact_at_every_position() {
        let segment = rings();
        let bytes: Vec<u8> = (0..=255).cycle().skip(3).take(4096).collect();
        for side in [Side::Connecting, Side::Accepting] {
            for position in [0, 1, 7, 8, 100, 4095, 4096 + 5] {
                for len in [0, 1, 7, 8, 9, 23, 1000, 4096] {
                    segment.copy_to_ring(side, position, &bytes[..len]);
                    for trusted in [true, false] {
                        let mut back = vec![0xff; len];
                        segment.copy_from_ring(side, position, &mut back, trusted);
                        assert_eq!(back, bytes[..len], "{len} at {position}");
                    }
                }
            }
        }
        let mut others = [0; 3];
        segment.copy_to_ring(Side::Connecting, 4094, b"abcd");
        segment.copy_from_ring(Side::Accepting, 0, &mut others, true);
        assert_ne!(&others[..2], b"cd", "the rings are two");
        segment.copy_from_ring(Side::Connecting, 0, &mut others, true);
        assert_eq!(&others[..2], b"cd");
    }

    #[test]
    fn the_words_of_two_rings_are_eight_in_lines_of_their_own() {
        let segment = rings();
        let mut places = Vec::new();
        for side in [Side::Connecting, Side::Accepting] {
            let words = segment.ring_words(side);
            places.extend([words.produced.as_ptr().addr(), words.consumed.as_ptr().addr()]);
        }
        places.iter_mut().for_each(|place| *place -= segment.base.addr().get());
        assert_eq!(places, [4096, 4224, 4352, 4480]);
        let waiting = |word: &AtomicU32| word.as_ptr().addr() - segment.base.addr().get();
        let (there, back) = (segment.ring_words(Side::Connecting), segment.ring_words(Side::Accepting));
        // The connecting end writes to `there` and reads from `back`.
        assert_eq!([waiting(back.waits_for_data), waiting(there.waits_for_room)], [1024, 1028]);
        assert_eq!([waiting(there.waits_for_data), waiting(back.waits_for_room)], [1152, 1156]);
    }

    #[test]
    #[should_panic]
    fn more_than_a_ring_panics() {
        rings().ring_bytes(Side::Connecting, 0, 4097);
    }

    #[test]
    fn copies_are_exact_at_every_length() {
        let segment = segment(1, 100);
        let bytes: Vec<u8> = (0..100).collect();
        for len in 0..=100 {
            segment.copy_in(0, true, &bytes[..len]);
            let mut back = vec![0xff; len];
            segment.copy_out(0, true, &mut back);
            assert_eq!(back, bytes[..len]);
        }
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn a_copy_beyond_the_line_panics() {
        segment(1, 100).copy_in(0, false, &[0; 49]);
    }

    #[test]
    fn words_about_sleep_end_where_the_slot_lines_begin() {
        let segment = segment(SLEEPS_SLOTS + 1, 8);
        let last = segment.sleeps_since(SLEEPS_SLOTS - 1).unwrap();
        assert_eq!(last.as_ptr().addr() + 8 - segment.base.addr().get(), LINES_OFFSET);
        assert!(segment.sleeps_since(SLEEPS_SLOTS).is_none());
    }

    #[test]
    #[should_panic]
    fn a_slot_out_of_range_panics() {
        segment(2, 8).line(2);
    }
}
