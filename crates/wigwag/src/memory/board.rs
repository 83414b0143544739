//! A publisher's memory: the ring of entries and the pool of bodies that all of its subscribers read. All pointers into
//! that mapping are made here.
//!
//! Invariants G1 and G2 of [`crate::memory::segment`] hold here with [`BoardGeometry`] in the place of a session's. In
//! the place of G3:
//!
//! **Invariant H1.** Only the publisher writes to a body, and only while no entry names it and no hold that was
//! confirmed does: it is free, or in a loan. A body that an entry has let go of is free once a scan that began after
//! that has found no hold of it ([`crate::memory::hold`]). So a reader that has confirmed its hold reads bytes that
//! nobody writes until it lets go. Whoever has no hold copies them, and believes the copy only if the entry still has
//! its sequence afterwards ([`crate::memory::entry`]).

#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::ptr::NonNull;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::contract::Contract;
use crate::error::Result;
use crate::memory::entry::{self, Entry};
use crate::memory::hint::HintLine;
use crate::memory::layout::{CAPACITY_MAX, INLINE_CAPACITY, LINE_SIZE, PAGE_SIZE};
use crate::memory::segment::copy_once;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::memory::{self, Mapping};

/// First eight bytes of every board.
pub const BOARD_MAGIC: u64 = u64::from_le_bytes(*b"WIGWAG\x03\xf5");
/// Grows with every change of the board's shape or meaning.
pub const BOARD_VERSION: u32 = 1;
/// Offset of what the publisher says about itself.
pub const PUBLISHER_LINE_OFFSET: usize = 1024;
/// Offset of the first entry.
pub const ENTRIES_OFFSET: usize = 4096;
/// The most messages that a publisher keeps.
pub const HISTORY_MAX: usize = 1 << 16;
/// The most bodies of a pool.
pub const BODIES_MAX: usize = 1 << 20;
/// No honest publisher comes to this number.
pub const SEQUENCE_MAX: u64 = 1 << 62;
/// Bodies up to this size follow each other line by line, larger ones page by page.
const DENSE_MAX: usize = 2048;

/// The header of a board, at offset 0. A subscriber copies it once, checks it, and never looks at it again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct BoardHeader {
    /// [`BOARD_MAGIC`].
    pub magic: u64,
    /// [`BOARD_VERSION`].
    pub version: u32,
    /// Number of entries: one more than messages are kept.
    pub entries: u32,
    /// Number of bodies.
    pub bodies: u32,
    /// Largest message in bytes.
    pub capacity: u32,
    /// Bytes from one body to the next.
    pub body_stride: u64,
    /// Offset of the first body.
    pub bodies_offset: u64,
    /// Size of the board.
    pub board_size: u64,
    /// [`Contract::hash`].
    pub contract_hash: u64,
    /// Which publisher of the name it is: no two have the same.
    pub epoch: u64,
}

const _: () = assert!(size_of::<BoardHeader>() == 64);

/// The geometry of a board: all offsets follow from three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardGeometry {
    /// Number of entries: one more than messages are kept, because one may be about to be replaced.
    pub entries: usize,
    /// Number of bodies; 0 where every message lies in its entry.
    pub bodies: usize,
    /// Largest message in bytes.
    pub capacity: usize,
    /// From one body to the next.
    pub body_stride: usize,
    /// Offset of the first body.
    pub bodies_offset: usize,
    /// Size of the whole.
    pub size: usize,
}

/// Bytes from one body to the next.
pub fn body_stride(capacity: usize) -> usize {
    if capacity <= INLINE_CAPACITY {
        0
    } else {
        capacity.next_multiple_of(if capacity <= DENSE_MAX { LINE_SIZE } else { PAGE_SIZE })
    }
}

impl BoardGeometry {
    /// Computes the geometry; `None` when a number is outside of its limits.
    pub fn new(entries: usize, bodies: usize, capacity: usize) -> Option<BoardGeometry> {
        let body_stride = body_stride(capacity);
        let has_bodies = body_stride > 0;
        if !(2..=HISTORY_MAX + 1).contains(&entries) || capacity > CAPACITY_MAX {
            return None;
        }
        if bodies > BODIES_MAX || has_bodies != (bodies > 0) {
            return None;
        }
        let bodies_offset = (ENTRIES_OFFSET + entries * LINE_SIZE).next_multiple_of(PAGE_SIZE);
        let size = bodies.checked_mul(body_stride)?.checked_add(bodies_offset)?.next_multiple_of(PAGE_SIZE);
        Some(BoardGeometry { entries, bodies, capacity, body_stride, bodies_offset, size })
    }

    /// The header that announces this geometry.
    pub fn header(&self, contract: &Contract, epoch: u64) -> BoardHeader {
        BoardHeader {
            magic: BOARD_MAGIC,
            version: BOARD_VERSION,
            entries: self.entries as u32,
            bodies: self.bodies as u32,
            capacity: self.capacity as u32,
            body_stride: self.body_stride as u64,
            bodies_offset: self.bodies_offset as u64,
            board_size: self.size as u64,
            contract_hash: contract.hash(),
            epoch,
        }
    }

    /// Where a body begins in the memory object.
    #[inline(always)]
    pub fn body_offset(&self, body: usize) -> usize {
        assert!(body < self.bodies);
        self.bodies_offset + body * self.body_stride
    }

    /// Which entry message `sequence` lies in.
    #[inline(always)]
    pub fn entry_of(&self, sequence: u64) -> usize {
        (sequence % self.entries as u64) as usize
    }
}

/// What the publisher says about itself: written by it alone.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct PublisherLine {
    /// The last message that was published, stored after its entry.
    pub published: AtomicU64,
    /// [`crate::sys::cpu::only_processor`] of the publisher's thread.
    pub only_processor: AtomicU32,
    /// 1: a subscriber that is of the publisher's user is waited for.
    pub is_lossless: AtomicU32,
}

impl PublisherLine {
    /// Publisher: message `sequence` lies in its entry.
    #[inline(always)]
    pub fn set_published(&self, sequence: u64) {
        self.published.store(sequence, Ordering::Release); // after the entry; partner: `published`
    }

    /// The last message that was published, or the one before it.
    #[inline(always)]
    pub fn published(&self) -> u64 {
        let published = self.published.load(Ordering::Relaxed);
        crate::sync::fence(Ordering::Acquire); // a mapping that may only be read; partner: `set_published`
        published
    }
}

/// A mapped board.
#[derive(Debug)]
pub struct Board {
    base: NonNull<u8>,
    geometry: BoardGeometry,
    mapping: Mapping,
}

// SAFETY: the addresses are valid in the whole process (M1), control words are atomics (G2), and bodies are given out
// as raw pointers whose use is ruled by H1.
unsafe impl Send for Board {}
// SAFETY: as above.
unsafe impl Sync for Board {}

impl Board {
    /// Makes and maps a board, and seals it for good: this is the one writable mapping that there will ever be. The
    /// ring is touched, the pool is not.
    pub fn create(geometry: BoardGeometry, header: &BoardHeader) -> Result<(Board, std::os::fd::OwnedFd)> {
        let memory = memory::create_sealed("wigwag-board", geometry.size)?;
        let mapping = Mapping::new(&memory, geometry.size, geometry.bodies_offset)?;
        let mapping = mapping.kept_in_children(&memory, &[(0, geometry.size)])?;
        memory::seal_finally(&memory)?;
        let board = Board { base: mapping.base(), geometry, mapping };
        for (index, chunk) in header.as_bytes().chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight"));
            // Relaxed: the descriptor's journey through the socket orders it.
            board.word(index * 8).store(word, Ordering::Relaxed);
        }
        Ok((board, memory))
    }

    /// Maps a publisher's board to be read: all of it, or the ring alone. A write through it would kill the process.
    pub fn map_to_read(memory: impl AsFd, geometry: BoardGeometry, is_whole: bool) -> Result<Board> {
        let size = if is_whole { geometry.size } else { geometry.bodies_offset };
        let mapping = Mapping::read_only(&memory, size)?;
        // Of a publisher of another user nothing is read in place.
        let mapping = if is_whole { mapping.kept_in_children(&memory, &[(0, size)])? } else { mapping };
        Ok(Board { base: mapping.base(), geometry, mapping })
    }

    /// The geometry.
    #[inline(always)]
    pub fn geometry(&self) -> &BoardGeometry {
        &self.geometry
    }

    /// Whether the pool is mapped, too.
    #[inline(always)]
    pub fn has_bodies(&self) -> bool {
        self.mapping.size() == self.geometry.size
    }

    /// Whether this is a child process, which does not have the memory.
    pub fn is_forked(&self) -> bool {
        self.mapping.is_forked()
    }

    /// Copies the header out: subscriber, once.
    pub fn read_header(&self) -> BoardHeader {
        let mut bytes = [0u8; size_of::<BoardHeader>()];
        for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.word(index * 8).load(Ordering::Relaxed).to_ne_bytes());
        }
        BoardHeader::read_from_bytes(&bytes).expect("the array has the header's size")
    }

    /// The newest message. After a kill the publisher's own word may lag one behind.
    pub fn newest(&self) -> u64 {
        let mut newest = self.publisher_line().published().min(SEQUENCE_MAX);
        for _ in 0..self.geometry.entries {
            if entry::look(self.entry(self.geometry.entry_of(newest + 1))) != newest + 1 {
                break;
            }
            newest += 1;
        }
        newest
    }

    /// What the publisher says about itself.
    #[inline(always)]
    pub fn publisher_line(&self) -> &PublisherLine {
        // SAFETY: in bounds and aligned (G1), only atomics inside (G2).
        unsafe { &*self.base.as_ptr().add(PUBLISHER_LINE_OFFSET).cast::<PublisherLine>() }
    }

    /// An entry.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[inline(always)]
    pub fn entry(&self, index: usize) -> &Entry {
        assert!(index < self.geometry.entries);
        // SAFETY: in bounds and aligned (G1), only atomics inside (G2).
        unsafe { &*self.base.as_ptr().add(ENTRIES_OFFSET + index * LINE_SIZE).cast::<Entry>() }
    }

    /// The first byte of a body.
    ///
    /// # Panics
    /// If there is no such body, or the pool is not mapped.
    #[inline(always)]
    pub(super) fn body(&self, body: usize) -> NonNull<u8> {
        assert!(self.has_bodies());
        // SAFETY: in bounds (G1): the whole board is mapped.
        unsafe { self.base.add(self.geometry.body_offset(body)) }
    }

    /// Copies a body's first bytes, each word read exactly once: for a reader without a hold, which then looks whether
    /// the body was still its message's.
    pub fn copy_out(&self, body: usize, into: &mut [u8]) {
        assert!(into.len() <= self.geometry.body_stride);
        // SAFETY: in bounds, as asserted.
        unsafe { copy_once(self.body(body), into) };
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset + 8 <= size_of::<BoardHeader>());
        // SAFETY: within the header, in bounds and aligned (G1); accessed as atomics only (G2).
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}

/// The hint line of a publisher, which its own user's subscribers may write to.
#[derive(Debug)]
pub struct Hints {
    base: NonNull<HintLine>,
    _mapping: Mapping,
}

// SAFETY: the address is valid in the whole process (M1), and only atomics are behind it (G2).
unsafe impl Send for Hints {}
// SAFETY: as above.
unsafe impl Sync for Hints {}

impl Hints {
    /// Makes one.
    pub fn create() -> Result<(Hints, std::os::fd::OwnedFd)> {
        let memory = memory::create_sealed("wigwag-hints", PAGE_SIZE)?;
        let hints = Hints::map(&memory)?;
        Ok((hints, memory))
    }

    /// Maps that of a publisher.
    pub fn map(memory: impl AsFd) -> Result<Hints> {
        let mapping = Mapping::new(memory, PAGE_SIZE, PAGE_SIZE)?;
        Ok(Hints { base: mapping.base().cast(), _mapping: mapping })
    }

    /// The line.
    #[inline(always)]
    pub fn line(&self) -> &HintLine {
        // SAFETY: the first bytes of a page that stays mapped (M1), only atomics inside (G2).
        unsafe { self.base.as_ref() }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn board(entries: usize, bodies: usize, capacity: usize) -> (Board, std::os::fd::OwnedFd) {
        let geometry = BoardGeometry::new(entries, bodies, capacity).unwrap();
        Board::create(geometry, &geometry.header(&Contract::bytes(), 7)).unwrap()
    }

    #[test]
    fn geometry_refuses_what_is_out_of_bounds() {
        for (entries, bodies, capacity, is_possible) in [
            (2, 1, 100, true),
            (1, 1, 100, false),
            (HISTORY_MAX + 1, 1, 100, true),
            (HISTORY_MAX + 2, 1, 100, false),
            (2, 0, 48, true),
            (2, 1, 48, false),
            (2, 0, 49, false),
            (2, BODIES_MAX, 49, true),
            (2, BODIES_MAX + 1, 49, false),
            (2, 1, CAPACITY_MAX, true),
            (2, 1, CAPACITY_MAX + 1, false),
        ] {
            let made = BoardGeometry::new(entries, bodies, capacity);
            assert_eq!(made.is_some(), is_possible, "{entries} {bodies} {capacity}");
        }
        assert_eq!([0, 48, 49, 64, 65, 2048, 2049, 4097].map(body_stride), [0, 0, 64, 64, 128, 2048, 4096, 8192]);
    }

    #[test]
    fn what_one_writes_the_other_reads_and_cannot_write() {
        let (board, memory) = board(3, 2, 5000);
        assert!(Mapping::new(&memory, 4096, 0).is_err(), "nobody else may ever map it to be written");
        let reader = Board::map_to_read(&memory, *board.geometry(), true).unwrap();
        assert_eq!(reader.read_header(), board.geometry().header(&Contract::bytes(), 7));
        entry::publish(board.entry(1), 1, 0, &[5, 6]);
        board.publisher_line().set_published(1);
        assert_eq!((entry::look(reader.entry(1)), reader.publisher_line().published()), (1, 1));
        let ring = Board::map_to_read(&memory, *board.geometry(), false).unwrap();
        assert!(!ring.has_bodies() && reader.has_bodies());
        assert_eq!(entry::look(ring.entry(1)), 1);
    }

    #[test]
    #[should_panic]
    fn the_pool_is_not_reached_where_only_the_ring_is_mapped() {
        let (board, memory) = board(3, 2, 5000);
        Board::map_to_read(&memory, *board.geometry(), false).unwrap().body(0);
    }

    #[test]
    fn no_two_parts_overlap() {
        let (board, _memory) = board(5, 3, 5000);
        let begin = board.base.addr().get();
        let mut parts = vec![(0, 64), (std::ptr::from_ref(board.publisher_line()).addr() - begin, 64)];
        parts.extend((0..5).map(|index| (std::ptr::from_ref(board.entry(index)).addr() - begin, 64)));
        parts.extend((0..3).map(|body| (board.body(body).addr().get() - begin, 8192)));
        for pair in parts.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
        }
        let last = parts.last().unwrap();
        assert_eq!(last.0 + last.1, board.geometry().size);
    }
}
