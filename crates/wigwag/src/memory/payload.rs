//! Payload bytes as slices: the one place where a pointer into a session's memory and a length become a slice.
//!
//! The bytes are plain: each value is valid, and none is uninitialised, because shared memory and bounce buffers begin
//! as zeros. They stay where they are, because a mapping does (M1). So what makes a slice sound is who has the bytes:
//!
//! **Invariant V1.** The caller that makes a payload of a slot, a ring or a pool has these bytes by L1, D1, Q1, R1, B1
//! or H1, and asks for no more of them than there are (G1). It keeps the payload beside what keeps the memory, makes no
//! second one that could be shown at the same time, but of bytes that are only read, and shows it to nobody once it has
//! given the bytes away.
//!
//! | lent by | has the bytes by | from | until | what keeps the memory |
//! |---|---|---|---|---|
//! | `OwnedLoan` | L1 | the slot was free, or came back with a checked head | it is passed or released | what is kept beside it: a borrow of the client (`Loan`, `Reply`), or the session of the tasks |
//! | `MessageLoan` | D1 | the sender has room | it is committed or dropped | a borrow of the sender |
//! | `Request` | Q1 | the turn came with a checked head | it is answered | its session |
//! | `Message` | R1 | as above | it is acknowledged or given back | its session |
//! | `Publication` | H1 | the body was free | it is committed or dropped | a borrow of the publisher |
//! | `Message` of a subscriber | H1 | its hold was confirmed | it is released | the board and the session beside it |
//! | `Reader`, `Writer` | B1 | the counters were checked | bytes are consumed, or committed | borrows of direction and endpoint |
//!
//! The compiler cannot check V1. That no other file makes a payload is checked by a rule of the repository
//! (`xtask/rules/src/unsafe_code.rs`), and raw pointers to payload bytes do not leave `memory`. Bounds are checked once
//! more in debug builds.
//!
//! **What a peer can do to the slices.** A peer that keeps the protocol touches the bytes only when they are its own
//! (S1, B1), and each handover releases what the other side acquires: no access races with another.
//!
//! A peer that does not may write at any time. If it is another user's, a server never shows its bytes: what it shows
//! is a bounce buffer in private memory, copied out by reads that are volatile and happen once each (G3). If it is of
//! the same user, or the server or receiver that a client or sender chose to trust, its writes are a data race, which
//! is undefined behaviour. No code on this side can prevent it, and the same user could use `ptrace`: such a peer
//! stands inside the boundary that SECURITY.md draws. Nothing that the library itself relies on is read from a payload,
//! so its own bounds and turns hold all the same.
//!
//! A forked child does not have the memory (M1): a slice that was lent before the fork must not be touched there.

#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::memory::board::Board;
use crate::memory::bounce_buffer::BounceBuffer;
use crate::memory::segment::{Line, Segment, Side};

/// Payload bytes that are read and written through this value alone (V1). It stands for them without a borrow, so that
/// it can be kept beside the owner of the memory.
#[derive(Debug)]
pub struct PayloadBytesMut {
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: the addresses are valid in the whole process (M1), and the bytes are used through this value alone (V1).
unsafe impl Send for PayloadBytesMut {}
// SAFETY: a shared reference gives out `&[u8]` of bytes that nobody writes to while it lives (V1).
unsafe impl Sync for PayloadBytesMut {}

impl PayloadBytesMut {
    /// Of a slot.
    ///
    /// # Panics
    /// If `slot` is out of range.
    #[inline(always)]
    pub fn of_slot(segment: &Segment, slot: usize, in_body: bool, len: usize) -> PayloadBytesMut {
        check_room(segment, in_body, len);
        PayloadBytesMut { data: segment.payload(slot, in_body), len }
    }

    /// Of a slot, by a caller who has the slot's line at hand.
    #[inline(always)]
    pub fn of_line(segment: &Segment, slot: usize, line: &Line, in_body: bool, len: usize) -> PayloadBytesMut {
        check_room(segment, in_body, len);
        debug_assert_eq!(segment.slot_of(line), slot);
        PayloadBytesMut { data: if in_body { segment.body(slot) } else { line.inline() }, len }
    }

    /// Of a body of a publisher's pool, while it is in a loan (H1).
    ///
    /// # Panics
    /// If there is no such body.
    #[inline(always)]
    pub fn of_body(board: &Board, body: usize, len: usize) -> PayloadBytesMut {
        debug_assert!(len <= board.geometry().body_stride);
        PayloadBytesMut { data: board.body(body), len }
    }

    /// Of a ring that this end writes to.
    #[inline(always)]
    pub fn of_ring(segment: &Segment, writer: Side, position: usize, len: usize) -> PayloadBytesMut {
        PayloadBytesMut { data: segment.ring_bytes(writer, position, len).cast(), len }
    }

    /// Of a bounce buffer, until that is resized or used by itself.
    pub fn of_copy(copy: &mut BounceBuffer) -> PayloadBytesMut {
        let bytes = copy.bytes_mut();
        PayloadBytesMut { len: bytes.len(), data: NonNull::from(bytes).cast() }
    }

    /// How many bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Longer or shorter, in the same part of the slot, which has the room: the caller vouches for it as when the
    /// payload was made (V1).
    #[inline(always)]
    pub fn set_len(&mut self, len: usize) {
        self.len = len;
    }

    /// Brings over what the same slot's payload was before, up to the shorter length, if that lies in the slot's other
    /// part.
    #[inline]
    pub fn take_over(&mut self, old: &PayloadBytesMut) {
        if self.data != old.data {
            let len = self.len.min(old.len);
            self[..len].copy_from_slice(&old[..len]);
        }
    }

    /// The bytes while they are `open`, and none once they are not.
    #[inline(always)]
    pub fn shown(&self, open: bool) -> &[u8] {
        let len = if open { self.len } else { 0 };
        // SAFETY: V1 while it is open; else no byte is shown, for which each pointer that is not null is good.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), len) }
    }

    /// As [`PayloadBytesMut::shown`], to be changed.
    #[inline(always)]
    pub fn shown_mut(&mut self, open: bool) -> &mut [u8] {
        let len = if open { self.len } else { 0 };
        // SAFETY: as in `shown`, and `&mut self` is the only way to the bytes (V1).
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), len) }
    }

    /// The bytes, for as long as the owner is borrowed: it has the right to them and keeps their memory.
    #[inline(always)]
    pub fn lent_by<O>(self, _owner: &mut O) -> &mut [u8] {
        // SAFETY: the owner has the bytes, gives none of them away while it is borrowed, and has lent them to nobody
        // else, because it is borrowed for this alone (V1).
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

/// No bytes.
impl Default for PayloadBytesMut {
    #[inline(always)]
    fn default() -> PayloadBytesMut {
        PayloadBytesMut { data: NonNull::dangling(), len: 0 }
    }
}

impl Deref for PayloadBytesMut {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.shown(true)
    }
}

impl DerefMut for PayloadBytesMut {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.shown_mut(true)
    }
}

/// Payload bytes that are only read, on their way to the borrower of their owner.
#[derive(Debug)]
pub struct PayloadBytes {
    data: NonNull<u8>,
    len: usize,
}

impl PayloadBytes {
    /// Of a slot.
    ///
    /// # Panics
    /// If `slot` is out of range.
    #[inline(always)]
    pub fn of_slot(segment: &Segment, slot: usize, in_body: bool, len: usize) -> PayloadBytes {
        check_room(segment, in_body, len);
        PayloadBytes { data: segment.payload(slot, in_body), len }
    }

    /// Of a body of a publisher's pool, while it is held (H1).
    ///
    /// # Panics
    /// If there is no such body.
    #[inline(always)]
    pub fn of_body(board: &Board, body: usize, len: usize) -> PayloadBytes {
        debug_assert!(len <= board.geometry().body_stride);
        PayloadBytes { data: board.body(body), len }
    }

    /// Of a ring that `writer` writes to and this end reads.
    #[inline(always)]
    pub fn of_ring(segment: &Segment, writer: Side, position: usize, len: usize) -> PayloadBytes {
        PayloadBytes { data: segment.ring_bytes(writer, position, len).cast(), len }
    }

    /// Of a bounce buffer that stays where it is and is not written to.
    pub fn of_copy(copy: &BounceBuffer) -> PayloadBytes {
        let bytes = copy.bytes();
        PayloadBytes { data: NonNull::from(bytes).cast(), len: bytes.len() }
    }

    /// The bytes, for as long as the owner is borrowed: it has the right to them and keeps their memory.
    #[inline(always)]
    pub fn lent_by<O>(self, _owner: &O) -> &[u8] {
        // SAFETY: the owner has the bytes, and neither gives them away nor writes to them while it is borrowed (V1).
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

/// Part of V1, for debug builds; a fault that can be injected is that nobody checks a length.
#[inline(always)]
fn check_room(segment: &Segment, in_body: bool, len: usize) {
    debug_assert!(cfg!(wigwag_faults) || len <= segment.room(in_body), "{len} bytes, in a body: {in_body}");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::memory::layout::{Geometry, INLINE_CAPACITY};
    use crate::sys::memory::create_sealed;

    fn segment(capacity: usize) -> Segment {
        let geometry = Geometry::new(2, capacity).unwrap();
        Segment::map(create_sealed("wigwag", geometry.segment_size).unwrap(), geometry).unwrap()
    }

    #[test]
    fn a_payload_is_the_bytes_of_its_slot_and_part() {
        let segment = segment(100);
        for (slot, in_body) in [(0, false), (0, true), (1, false), (1, true)] {
            let mut payload = PayloadBytesMut::of_slot(&segment, slot, in_body, 48);
            assert_eq!(payload[..], [0; 48], "another one's bytes");
            payload.fill(slot as u8 * 2 + u8::from(in_body) + 1);
            let mut copy = [0; 48];
            segment.copy_out(slot, in_body, &mut copy);
            assert_eq!(payload[..], copy);
            let by_line = PayloadBytesMut::of_line(&segment, slot, segment.line(slot), in_body, 48);
            assert_eq!(by_line.as_ptr(), payload.as_ptr());
            assert_eq!(PayloadBytes::of_slot(&segment, slot, in_body, 48).lent_by(&segment), copy);
        }
    }

    #[test]
    fn what_moves_between_line_and_body_is_kept_up_to_the_shorter_length() {
        let segment = segment(100);
        let mut short = PayloadBytesMut::of_slot(&segment, 0, false, 3);
        short.copy_from_slice(b"abc");
        let mut long = PayloadBytesMut::of_slot(&segment, 0, true, 100);
        long.take_over(&short);
        assert_eq!((&long[..3], &long[3..]), (&b"abc"[..], &[0; 97][..]));
        long.fill(7);
        let mut back = PayloadBytesMut::of_slot(&segment, 0, false, INLINE_CAPACITY);
        back.take_over(&long);
        assert_eq!(back[..], [7; INLINE_CAPACITY]);
    }

    #[test]
    fn what_is_closed_shows_nothing() {
        let segment = segment(100);
        let mut payload = PayloadBytesMut::of_slot(&segment, 0, true, 100);
        assert_eq!((payload.shown(true).len(), payload.shown_mut(true).len()), (100, 100));
        assert_eq!((payload.shown(false).len(), payload.shown_mut(false).len()), (0, 0));
        assert!(PayloadBytesMut::default().is_empty());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[cfg_attr(wigwag_faults, ignore = "faults make payloads that are too long")]
    #[should_panic(expected = "49 bytes")]
    fn more_than_a_line_holds_panics_in_debug_builds() {
        PayloadBytesMut::of_slot(&segment(100), 0, false, INLINE_CAPACITY + 1);
    }

    #[test]
    #[should_panic]
    fn a_slot_out_of_range_panics() {
        PayloadBytesMut::of_slot(&segment(100), 2, true, 1);
    }
}
