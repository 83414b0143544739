//! The byte-exact shape of a session's segment. `docs/layout.md` shows it in rows of eight bytes; a test pins both.
//!
//! ```text
//!   0      header page: identity and geometry (read once, at attach)
//!   1024     client's control line: depth, think time, affinity     (client writes)
//!   1152     server's control line: waiting, affinity               (server writes)
//!   4096   slot lines, 64 bytes each, dense
//!   ...    deadlines, 8 bytes per slot
//!   page   bodies, `body_stride` bytes each, page aligned
//! ```
//!
//! Everything has a fixed width and a fixed order; no `usize`, no pointer, no `bool` lies in shared memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::contract::Contract;

/// First eight bytes of every segment: "WIGWAG" and two bytes that no text file has.
pub const MAGIC: u64 = u64::from_le_bytes(*b"WIGWAG\x00\xf5");
/// Grows with every change of this file's shapes or meanings. Both sides must have the same.
pub const LAYOUT_VERSION: u32 = 1;
/// The page size the layout is made for; kernels with larger pages round the mapping up by themselves.
pub const PAGE_SIZE: usize = 4096;
/// A cache line.
pub const LINE_SIZE: usize = 64;
/// Payload bytes that lie in the slot's own line.
pub const INLINE_CAPACITY: usize = 48;
/// Offset of the inline payload in its line.
pub const INLINE_OFFSET: usize = 16;
/// A reply that is an error carries at most this many bytes of text, even where the capacity is smaller.
pub const ERROR_TEXT_CAPACITY: usize = 1024;
/// Offset of the client's control line.
pub const CLIENT_LINE_OFFSET: usize = 1024;
/// Offset of the server's control line; 128 bytes away, because adjacent lines are fetched in pairs.
pub const SERVER_LINE_OFFSET: usize = 1152;
/// Offset of the first slot line.
pub const LINES_OFFSET: usize = 4096;
/// Most slots a session can have.
pub const SLOTS_MAX: usize = 4096;
/// Largest capacity of a slot: lengths are 32 bits wide.
pub const CAPACITY_MAX: usize = 1 << 30;

/// The header, at offset 0. The client copies it once, checks it, and never looks at it again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub layout_version: u32,
    /// [`PAGE_SIZE`].
    pub page_size: u32,
    /// Number of slots.
    pub slots: u32,
    /// Largest payload in bytes.
    pub capacity: u32,
    /// Bytes from one body to the next.
    pub body_stride: u64,
    /// Offset of the deadlines.
    pub deadlines_offset: u64,
    /// Offset of the first body.
    pub bodies_offset: u64,
    /// Size of the segment.
    pub segment_size: u64,
    /// [`Contract::hash`].
    pub contract_hash: u64,
}

const _: () = assert!(size_of::<Header>() == 64 && align_of::<Header>() == 8);
const _: () = assert!(INLINE_OFFSET + INLINE_CAPACITY == LINE_SIZE);
const _: () = assert!(size_of::<Header>() <= CLIENT_LINE_OFFSET);
const _: () = assert!(SERVER_LINE_OFFSET + LINE_SIZE <= LINES_OFFSET);
const _: () = assert!(SERVER_LINE_OFFSET - CLIENT_LINE_OFFSET >= 2 * LINE_SIZE);
const _: () = assert!(CAPACITY_MAX <= u32::MAX as usize);

/// The geometry of a segment: all offsets follow from the number of slots and the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Number of slots.
    pub slots: usize,
    /// Largest payload in bytes.
    pub capacity: usize,
    /// Bytes from one body to the next: the capacity, at least [`ERROR_TEXT_CAPACITY`], in whole pages.
    pub body_stride: usize,
    /// Offset of the deadlines.
    pub deadlines_offset: usize,
    /// Offset of the first body.
    pub bodies_offset: usize,
    /// Size of the segment.
    pub segment_size: usize,
}

impl Geometry {
    /// Computes the geometry; `None` when a number is outside of its limits.
    pub fn new(slots: usize, capacity: usize) -> Option<Geometry> {
        if !(1..=SLOTS_MAX).contains(&slots) || capacity > CAPACITY_MAX {
            return None;
        }
        let deadlines_offset = LINES_OFFSET + slots * LINE_SIZE;
        let bodies_offset = (deadlines_offset + slots * 8).next_multiple_of(PAGE_SIZE);
        let body_stride = capacity.max(ERROR_TEXT_CAPACITY).next_multiple_of(PAGE_SIZE);
        let segment_size = slots.checked_mul(body_stride)?.checked_add(bodies_offset)?;
        Some(Geometry { slots, capacity, body_stride, deadlines_offset, bodies_offset, segment_size })
    }

    /// The header that announces this geometry.
    pub fn header(&self, contract: &Contract) -> Header {
        Header {
            magic: MAGIC,
            layout_version: LAYOUT_VERSION,
            page_size: PAGE_SIZE as u32,
            slots: self.slots as u32,
            capacity: self.capacity as u32,
            body_stride: self.body_stride as u64,
            deadlines_offset: self.deadlines_offset as u64,
            bodies_offset: self.bodies_offset as u64,
            segment_size: self.segment_size as u64,
            contract_hash: contract.hash(),
        }
    }

    /// Checks a header that was copied out of a segment against what was announced over the socket.
    ///
    /// The geometry is computed anew from the two free numbers, so no offset of the peer's is ever used.
    pub fn check(&self, header: &Header, contract: &Contract) -> Result<(), String> {
        let expected = self.header(contract);
        if *header == expected {
            return Ok(());
        }
        Err(format!("the segment's header is {header:?}, but {expected:?} was announced"))
    }
}

/// What a slot line's second word says: a length and a kind, packed so that one load reads both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Length of the payload in bytes.
    pub len: u32,
    /// What the payload is.
    pub kind: Kind,
    /// Whether the payload lies in the body instead of the line.
    pub in_body: bool,
    /// Whether the slot's deadline word holds a deadline (requests only).
    pub has_deadline: bool,
}

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A request.
    Request = 1,
    /// A reply that succeeded.
    Reply = 2,
    /// The handler returned an error; the payload is its text.
    Failed = 3,
    /// The handler panicked; the payload is its text.
    Panicked = 4,
    /// The request was dropped without an answer.
    Unanswered = 5,
}

const IN_BODY: u32 = 1 << 8;
const HAS_DEADLINE: u32 = 1 << 9;

impl Head {
    /// The word in memory.
    #[inline(always)]
    pub fn pack(self) -> u64 {
        let flags = (u32::from(self.in_body) * IN_BODY) | (u32::from(self.has_deadline) * HAS_DEADLINE);
        u64::from(self.len) | u64::from(self.kind as u32 | flags) << 32
    }

    /// Parses a word that was read once; `None` when it has a kind or a flag that this version does not know.
    #[inline(always)]
    pub fn parse(word: u64) -> Option<Head> {
        let high = (word >> 32) as u32;
        let kind = match high & !(IN_BODY | HAS_DEADLINE) {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Failed,
            4 => Kind::Panicked,
            5 => Kind::Unanswered,
            _ => return None,
        };
        Some(Head { len: word as u32, kind, in_body: high & IN_BODY != 0, has_deadline: high & HAS_DEADLINE != 0 })
    }

    /// Whether the payload fits where it says it lies.
    #[inline(always)]
    pub fn fits(self, capacity: usize) -> bool {
        let room = match (self.kind, self.in_body) {
            (_, false) => INLINE_CAPACITY,
            (Kind::Request | Kind::Reply, true) => capacity,
            (_, true) => ERROR_TEXT_CAPACITY,
        };
        self.len as usize <= room
            && (matches!(self.kind, Kind::Request | Kind::Reply) <= (self.len as usize <= capacity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_of_the_documented_example() {
        // The numbers of docs/layout.md.
        let geometry = Geometry::new(16, 1 << 20).unwrap();
        assert_eq!(geometry.deadlines_offset, 4096 + 1024);
        assert_eq!(geometry.bodies_offset, 8192);
        assert_eq!(geometry.body_stride, 1 << 20);
        assert_eq!(geometry.segment_size, 8192 + (16 << 20));
    }

    #[test]
    fn geometry_refuses_what_is_out_of_bounds() {
        assert!(Geometry::new(0, 8).is_none());
        assert!(Geometry::new(SLOTS_MAX + 1, 8).is_none());
        assert!(Geometry::new(1, CAPACITY_MAX + 1).is_none());
        assert!(Geometry::new(1, 0).is_some());
        assert!(Geometry::new(SLOTS_MAX, CAPACITY_MAX).is_some());
    }

    #[test]
    fn golden_bytes_of_the_header() {
        let header = Geometry::new(2, 100).unwrap().header(&Contract::bytes());
        let bytes = header.as_bytes();
        assert_eq!(&bytes[..8], b"WIGWAG\x00\xf5");
        assert_eq!(&bytes[8..16], [1, 0, 0, 0, 0, 16, 0, 0]);
        assert_eq!(&bytes[16..24], [2, 0, 0, 0, 100, 0, 0, 0]);
        assert_eq!(&bytes[24..32], 4096u64.to_le_bytes());
        assert_eq!(&bytes[32..40], 4224u64.to_le_bytes());
        assert_eq!(&bytes[40..48], 8192u64.to_le_bytes());
        assert_eq!(&bytes[48..56], 16384u64.to_le_bytes());
        assert_eq!(&bytes[56..64], Contract::bytes().hash().to_le_bytes());
    }

    #[test]
    fn every_changed_header_field_is_noticed() {
        let contract = Contract::bytes();
        let geometry = Geometry::new(2, 100).unwrap();
        let good = geometry.header(&contract);
        geometry.check(&good, &contract).unwrap();
        for byte in 0..size_of::<Header>() {
            let mut bytes = [0u8; size_of::<Header>()];
            bytes.copy_from_slice(good.as_bytes());
            bytes[byte] ^= 1;
            let bad = Header::read_from_bytes(&bytes).unwrap();
            assert!(geometry.check(&bad, &contract).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn heads_survive_the_journey_and_unknown_ones_do_not() {
        for kind in [Kind::Request, Kind::Reply, Kind::Failed, Kind::Panicked, Kind::Unanswered] {
            for (in_body, has_deadline) in [(false, false), (true, false), (false, true), (true, true)] {
                let head = Head { len: 0x0102_0304, kind, in_body, has_deadline };
                assert_eq!(Head::parse(head.pack()), Some(head));
            }
        }
        for high in (0u64..=0xffff).chain([1 << 16, 1 << 31]) {
            let known = (1..=5).contains(&(high & !0x300));
            assert_eq!(Head::parse(high << 32).is_some(), known, "{high:#x}");
        }
    }

    #[test]
    fn a_payload_fits_or_does_not() {
        let head = |kind, len, in_body| Head { len, kind, in_body, has_deadline: false };
        assert!(head(Kind::Request, 48, false).fits(100));
        assert!(!head(Kind::Request, 49, false).fits(100));
        assert!(!head(Kind::Request, 48, false).fits(40));
        assert!(head(Kind::Reply, 100, true).fits(100));
        assert!(!head(Kind::Reply, 101, true).fits(100));
        assert!(!head(Kind::Reply, u32::MAX, true).fits(CAPACITY_MAX));
        // The text of an error may be longer than the capacity.
        assert!(head(Kind::Failed, 48, false).fits(8));
        assert!(head(Kind::Failed, 1024, true).fits(8));
        assert!(!head(Kind::Failed, 1025, true).fits(1 << 20));
    }
}
