//! The byte-exact shape of a session's segment. `docs/layout.md` shows it in rows of eight bytes; a test pins both.
//!
//! ```text
//!   0      header page: identity and geometry (read once, at attach)
//!   1024     client's control line: depth, think time, affinity     (client writes)
//!   1152     server's control line: waiting, affinity               (server writes)
//!   1280     since when the client sleeps, 8 bytes per slot          (client writes, observers read)
//!   4096   slot lines, 64 bytes each, dense
//!   ...    deadlines, 8 bytes per slot
//!   page   bodies, `body_stride` bytes each, page aligned
//! ```
//!
//! Everything has a fixed width and a fixed order; no `usize`, no pointer, no `bool` lies in shared memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use crate::contract::CAPACITY_MAX;
use crate::contract::Contract;
use crate::error::{self, Error, ErrorKind};
use crate::form::Form;

/// First eight bytes of every segment: "WIGWAG" and two bytes that no text file has.
pub const MAGIC: u64 = u64::from_le_bytes(*b"WIGWAG\x00\xf5");
/// Grows with every change of this file's shapes or meanings.
pub const LAYOUT_VERSION: u32 = 2;
/// The lowest version that a session can have.
pub const LAYOUT_VERSION_MIN: u32 = 1;
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
/// Offset of the words that say since when the client has slept until a slot comes back: for observers, away from what
/// the two sides read.
pub const SLEEPS_OFFSET: usize = 1280;
/// How many slots have such a word: as many as there is room for in the header page.
pub const SLEEPS_SLOTS: usize = (LINES_OFFSET - SLEEPS_OFFSET) / 8;
/// Offset of the first slot line.
pub const LINES_OFFSET: usize = 4096;
/// Where a subscriber's holds begin, eight bytes each, instead of slot lines.
pub const HOLDS_OFFSET: usize = 4096;
/// The most messages that one subscriber can hold at a time.
pub const HOLDS_MAX: usize = 64;
/// Where the words of a stream's rings begin, instead of slot lines: one line for each, 128 bytes apart.
pub const RING_WORDS_OFFSET: usize = 4096;
/// From one word of a ring to the next.
pub const RING_WORD_STRIDE: usize = 128;
/// A stream's segment has two bodies, which are its rings: from the connecting side to the accepting one, and back.
pub const RINGS: usize = 2;
/// Smallest ring in bytes.
pub const RING_MIN: usize = PAGE_SIZE;
/// Most slots a session can have.
pub const SLOTS_MAX: usize = 4096;

/// The header, at offset 0. The client copies it once, checks it, and never looks at it again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// The session's version of the layout: [`LAYOUT_VERSION`], or an earlier one.
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
const _: () = assert!(SLEEPS_OFFSET - SERVER_LINE_OFFSET >= 2 * LINE_SIZE);
const _: () = assert!(RING_WORDS_OFFSET + 2 * RINGS * RING_WORD_STRIDE <= LINES_OFFSET + PAGE_SIZE);
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

    /// The geometry of a session of that form: a subscriber's has no bodies, because what it reads is its publisher's.
    pub fn of_form(form: Form, slots: usize, capacity: usize) -> Option<Geometry> {
        let geometry = Geometry::new(slots, capacity)?;
        match form.has_board() {
            true if slots > HOLDS_MAX => None,
            true => Some(Geometry { body_stride: 0, segment_size: geometry.bodies_offset, ..geometry }),
            false => Some(geometry).filter(|geometry| geometry.suits(form)),
        }
    }

    /// Whether the bodies can be a stream's rings: two, of whole pages, and a power of two in size.
    pub fn has_rings(&self) -> bool {
        self.slots == RINGS && is_ring(self.capacity)
    }

    /// Whether a session of that form can have this geometry.
    pub fn suits(&self, form: Form) -> bool {
        !form.has_rings() || self.has_rings()
    }

    /// The header that announces this geometry, of a session with that version of the layout.
    pub fn header(&self, contract: &Contract, layout_version: u32) -> Header {
        Header {
            magic: MAGIC,
            layout_version,
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
}

impl Header {
    /// Checks a header that was copied out of a segment against this one, of what was announced over the socket.
    ///
    /// The geometry is computed anew from the two free numbers, so no offset of the peer's is ever used.
    pub fn check(&self, copied: &Header) -> Result<(), String> {
        if copied == self {
            return Ok(());
        }
        Err(format!("the segment's header is {copied:?}, but {self:?} was announced"))
    }
}

/// Whether a ring can have this many bytes.
pub fn is_ring(bytes: usize) -> bool {
    bytes.is_power_of_two() && (RING_MIN..=CAPACITY_MAX).contains(&bytes)
}

/// Whether a ring of that size can be mapped twice in a row on a system with pages of `page` bytes: it must begin and
/// end at a page. If not, why.
pub fn check_ring_pages(bytes: usize, page: usize) -> Result<(), String> {
    let begins = Geometry::new(RINGS, RING_MIN).map_or(0, |geometry| geometry.bodies_offset);
    if begins.is_multiple_of(page) && bytes.is_multiple_of(page) {
        return Ok(());
    }
    let cure = match begins.is_multiple_of(page) {
        true => format!("ask for a ring of {page} bytes at least"),
        false => "use a kernel with pages of 4 KiB, or calls or a queue, which do not need that".into(),
    };
    Err(format!(
        "a ring of {bytes} bytes that begins at byte {begins} of its memory cannot be mapped here, because this \
         system's pages \
         have {page} bytes: {cure}"
    ))
}

/// Whether a builder's slots and capacity are possible at all.
pub fn check_geometry(slots: Option<usize>, capacity: Option<usize>) -> error::Result<()> {
    let invalid = |sentence: String| Err(Error::new(ErrorKind::InvalidConfiguration, sentence));
    if let Some(slots) = slots.filter(|slots| !(1..=SLOTS_MAX).contains(slots)) {
        return invalid(format!("{slots} slots are outside of 1 to {SLOTS_MAX}"));
    }
    if let Some(capacity) = capacity.filter(|&capacity| capacity > CAPACITY_MAX) {
        return invalid(format!("a capacity of {capacity} bytes is above the most possible, {CAPACITY_MAX}"));
    }
    Ok(())
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
    fn what_a_builder_asks_for_must_be_possible() {
        for (slots, capacity) in [(None, None), (Some(1), Some(0)), (Some(SLOTS_MAX), Some(CAPACITY_MAX))] {
            check_geometry(slots, capacity).unwrap();
        }
        for (slots, capacity, value) in [
            (Some(0), None, 0),
            (Some(SLOTS_MAX + 1), Some(1), SLOTS_MAX + 1),
            (None, Some(CAPACITY_MAX + 1), CAPACITY_MAX + 1),
        ] {
            let error = check_geometry(slots, capacity).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
            assert!(error.to_string().contains(&value.to_string()), "{error}");
        }
        for form in [Form::Exchange, Form::Queue, Form::Stream] {
            assert!(Geometry::of_form(form, RINGS, RING_MIN).is_some());
            assert_eq!(Geometry::of_form(form, 3, 100).is_some(), !form.has_rings());
        }
        let subscriber = Geometry::of_form(Form::Broadcast, 4, 1 << 20).unwrap();
        assert_eq!((subscriber.segment_size, subscriber.body_stride), (8192, 0), "what it reads is its publisher's");
        assert!(Geometry::of_form(Form::Broadcast, HOLDS_MAX + 1, 8).is_none());
    }

    #[test]
    fn golden_bytes_of_the_header() {
        let header = Geometry::new(2, 100).unwrap().header(&Contract::bytes(), 1);
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
        let good = Geometry::new(2, 100).unwrap().header(&Contract::bytes(), LAYOUT_VERSION);
        good.check(&good).unwrap();
        for byte in 0..size_of::<Header>() {
            let mut bytes = [0u8; size_of::<Header>()];
            bytes.copy_from_slice(good.as_bytes());
            bytes[byte] ^= 1;
            let bad = Header::read_from_bytes(&bytes).unwrap();
            assert!(good.check(&bad).is_err(), "byte {byte}");
        }
    }
}

/// `docs/layout.md` says the same as the code: every offset, size, bit and number of its tables.
#[cfg(all(test, not(loom)))]
mod documented {
    use std::mem::offset_of;

    use super::*;
    use crate::memory::board::{self, BoardHeader, PublisherLine};
    use crate::memory::entry::Entry;
    use crate::memory::head::{Head, Kind};
    use crate::memory::ring::{self, Producer, Words};
    use crate::memory::segment::{ClientLine, EndLine, ServerLine, SubscriberLine};
    use crate::memory::slot;
    use crate::session::agreement::{ClockReading, Features, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
    use crate::session::protocol::{
        BoardWelcome, DescriptorMessage, FromClient, FromServer, Hello, HelloExtension, Reason, Welcome,
        WelcomeExtension,
    };
    use crate::sync::AtomicU64;
    use crate::sys::socket::DESCRIPTORS_MAX;

    const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/layout.md"));

    /// The rows of all tables below a heading, up to the next one; drawings are left out, column titles are not.
    fn rows(heading: &str) -> Vec<Vec<String>> {
        let is_heading = |line: &&str| line.starts_with('#');
        let below = DOCUMENT.lines().skip_while(|line| !is_heading(line) || line.trim_matches(['#', ' ']) != heading);
        let (mut rows, mut in_drawing) = (Vec::new(), false);
        for line in below.skip(1).take_while(|line| !is_heading(line)) {
            in_drawing ^= line.starts_with("```");
            if line.starts_with('|') && !in_drawing {
                let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
                rows.push(cells.collect());
            }
        }
        assert!(!rows.is_empty(), "docs/layout.md has no table below `{heading}`");
        rows
    }

    /// The table "offset, size, name" below a heading.
    fn fields(heading: &str) -> Vec<(usize, String, String)> {
        let parsed =
            rows(heading).into_iter().filter_map(|row| Some((row[0].parse().ok()?, row[1].clone(), row[2].clone())));
        let fields: Vec<_> = parsed.collect();
        assert!(!fields.is_empty(), "docs/layout.md has no fields below `{heading}`");
        fields
    }

    fn assert_fields(heading: &str, expected: &[(usize, usize, &str)]) {
        let documented = fields(heading);
        let expected: Vec<_> =
            expected.iter().map(|(offset, size, name)| (*offset, size.to_string(), (*name).to_owned())).collect();
        assert_eq!(documented, expected, "docs/layout.md, `{heading}`");
    }

    /// The table "name, value" below a heading, whatever stands behind the value.
    fn values(heading: &str) -> Vec<(String, u64)> {
        rows(heading).into_iter().filter_map(|row| Some((row[0].clone(), row[1].parse().ok()?))).collect()
    }

    fn expect_values(heading: &str, expected: &[(&str, u64)]) {
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        assert_eq!(values(heading), expected, "docs/layout.md, `{heading}`");
    }

    #[test]
    fn constants() {
        expect_values(
            "The layout",
            &[
                ("LAYOUT_VERSION", LAYOUT_VERSION.into()),
                ("LAYOUT_VERSION_MIN", LAYOUT_VERSION_MIN.into()),
                ("PROTOCOL_VERSION", PROTOCOL_VERSION.into()),
                ("PROTOCOL_VERSION_MIN", PROTOCOL_VERSION_MIN.into()),
            ],
        );
        expect_values(
            "The segment",
            &[
                ("PAGE_SIZE", PAGE_SIZE as u64),
                ("LINE_SIZE", LINE_SIZE as u64),
                ("CLIENT_LINE_OFFSET", CLIENT_LINE_OFFSET as u64),
                ("SERVER_LINE_OFFSET", SERVER_LINE_OFFSET as u64),
                ("SLEEPS_OFFSET", SLEEPS_OFFSET as u64),
                ("SLEEPS_SLOTS", SLEEPS_SLOTS as u64),
                ("LINES_OFFSET", LINES_OFFSET as u64),
                ("INLINE_OFFSET", INLINE_OFFSET as u64),
                ("INLINE_CAPACITY", INLINE_CAPACITY as u64),
                ("ERROR_TEXT_CAPACITY", ERROR_TEXT_CAPACITY as u64),
                ("SLOTS_MAX", SLOTS_MAX as u64),
                ("CAPACITY_MAX", CAPACITY_MAX as u64),
            ],
        );
        let example = Geometry::new(16, 1 << 20).unwrap();
        let sentence = format!(
            "the deadlines begin at {}, the bodies at {}, and the segment has {} bytes",
            example.deadlines_offset, example.bodies_offset, example.segment_size
        );
        assert!(DOCUMENT.contains(&sentence), "docs/layout.md lacks: {sentence}");
    }

    macro_rules! places {
        ($type:ty: $($field:ident: $size:expr),+ $(,)?) => {
            &[$((offset_of!($type, $field), $size, stringify!($field))),+]
        };
    }

    #[test]
    fn header_and_control_lines() {
        let header = places!(Header: magic: 8, layout_version: 4, page_size: 4, slots: 4, capacity: 4, body_stride: 8,
            deadlines_offset: 8, bodies_offset: 8, segment_size: 8, contract_hash: 8);
        assert_fields("Header", header);
        assert_eq!(header.iter().map(|(_, size, _)| size).sum::<usize>(), size_of::<Header>());
        assert_fields(
            "Client line",
            places!(ClientLine: depth: 4, think_ns: 4, only_processor: 4, processor: 4, rang_ns: 8, moving: 4),
        );
        assert_fields(
            "Server line",
            places!(ServerLine: waiting: 4, only_processor: 4, processor: 4, closed: 4, rang_ns: 8),
        );
        assert_fields("Slot line", &[(0, 8, "turn"), (8, 8, "head"), (INLINE_OFFSET, INLINE_CAPACITY, "inline")]);
    }

    #[test]
    fn streams() {
        expect_values(
            "A stream's segment",
            &[
                ("RING_WORDS_OFFSET", RING_WORDS_OFFSET as u64),
                ("RING_WORD_STRIDE", RING_WORD_STRIDE as u64),
                ("RINGS", RINGS as u64),
                ("RING_MIN", RING_MIN as u64),
            ],
        );
        assert_fields(
            "End line",
            places!(EndLine: waits_for_data: 4, waits_for_room: 4, think_ns: 4, only_processor: 4, processor: 4,
                rang_ns: 8),
        );
        let geometry = Geometry::new(RINGS, RING_MIN).unwrap();
        assert!(geometry.has_rings() && geometry.bodies_offset == 8192, "docs/layout.md, `A stream's segment`");
        for (slots, capacity) in [(1, 4096), (3, 4096), (2, 2048), (2, 4097), (2, 12288)] {
            assert!(!Geometry::new(slots, capacity).unwrap().has_rings(), "{slots} of {capacity}");
        }
        // S7: what a larger page allows.
        for (ring, page, is_possible) in [
            (4096, 4096, true),
            (4096, 8192, false),
            (8192, 8192, true),
            (2 << 20, 8192, true),
            (2 << 20, 16 << 10, false),
            (2 << 20, 64 << 10, false),
        ] {
            let checked = check_ring_pages(ring, page);
            assert_eq!(checked.is_ok(), is_possible, "{ring} {page}");
            assert!(checked.err().is_none_or(|why| why.contains(&page.to_string())), "{ring} {page}");
        }
        let (produced, consumed, waits) = (AtomicU64::new(0), AtomicU64::new(0), Default::default());
        let words = Words { produced: &produced, consumed: &consumed, waits_for_data: &waits, waits_for_room: &waits };
        let value = || produced.load(crate::sync::Ordering::Relaxed);
        Producer::new(RING_MIN).publish(&words, 5);
        assert_eq!(value() & bits("Ring word", "count"), 5 << bits("Ring word", "count").trailing_zeros());
        ring::close_writing(&words);
        assert_eq!(value() & bits("Ring word", "CLOSED"), 1);
        assert_eq!(bits("Ring word", "count") | bits("Ring word", "CLOSED"), u64::MAX);
    }

    #[test]
    fn broadcasts() {
        expect_values(
            "A subscriber's segment",
            &[("HOLDS_OFFSET", HOLDS_OFFSET as u64), ("HOLDS_MAX", HOLDS_MAX as u64)],
        );
        expect_values(
            "A board",
            &[
                ("BOARD_VERSION", board::BOARD_VERSION.into()),
                ("PUBLISHER_LINE_OFFSET", board::PUBLISHER_LINE_OFFSET as u64),
                ("ENTRIES_OFFSET", board::ENTRIES_OFFSET as u64),
                ("HISTORY_MAX", board::HISTORY_MAX as u64),
                ("BODIES_MAX", board::BODIES_MAX as u64),
            ],
        );
        assert_fields(
            "Subscriber line",
            places!(SubscriberLine: waiting: 4, processor: 4, cursor: 8, received: 8, lost: 8),
        );
        let header = places!(BoardHeader: magic: 8, version: 4, entries: 4, bodies: 4, capacity: 4, body_stride: 8,
            bodies_offset: 8, board_size: 8, contract_hash: 8, epoch: 8);
        assert_fields("Board header", header);
        assert_eq!(header.iter().map(|(_, size, _)| size).sum::<usize>(), size_of::<BoardHeader>());
        assert_fields("Publisher line", places!(PublisherLine: published: 8, only_processor: 4, is_lossless: 4));
        assert_fields("Entry", places!(Entry: sequence: 8, head: 8, inline: 48));
        assert!(DOCUMENT.contains("`57 49 47 57 41 47 03 f5`"));
        assert_eq!(board::BOARD_MAGIC.to_le_bytes(), [0x57, 0x49, 0x47, 0x57, 0x41, 0x47, 3, 0xf5]);
    }

    /// The bits a table names, as a mask.
    fn bits(heading: &str, name: &str) -> u64 {
        let row = rows(heading).into_iter().find(|row| row[1] == name);
        let row = row.unwrap_or_else(|| panic!("docs/layout.md, `{heading}`: no bits `{name}`"));
        let (low, high) = row[0].split_once('-').unwrap_or((&row[0], &row[0]));
        let (low, high): (u32, u32) = (low.parse().unwrap(), high.parse().unwrap());
        (u64::MAX >> (63 - high)) & (u64::MAX << low)
    }

    #[test]
    fn turn_and_head() {
        let word = AtomicU64::new(0);
        let value = || word.load(crate::sync::Ordering::Relaxed);
        let (all, sequence) = (u64::MAX, bits("Turn", "sequence"));
        slot::pass_to_server(&word, all >> sequence.trailing_zeros());
        assert_eq!(value(), sequence | bits("Turn", "SERVER"));
        slot::ask_for_wake(&word);
        assert_eq!(value(), sequence | bits("Turn", "SERVER") | bits("Turn", "WAKE"));
        slot::abandon(&word);
        assert_eq!(value(), all & !bits("Turn", "zero"));
        assert_eq!(value(), sequence | bits("Turn", "SERVER") | bits("Turn", "WAKE") | bits("Turn", "ABANDONED"));
        slot::pass_to_client(&word, 1);
        assert_eq!(value(), 1 << sequence.trailing_zeros());

        let plain = Head { len: u32::MAX, kind: Kind::Request, in_body: false, has_deadline: false, descriptors: 0 };
        let shift = bits("Head", "kind").trailing_zeros();
        let kinds = [
            ("Request", Kind::Request),
            ("Reply", Kind::Reply),
            ("Failed", Kind::Failed),
            ("Panicked", Kind::Panicked),
            ("Unanswered", Kind::Unanswered),
            ("Message", Kind::Message),
            ("Redelivered", Kind::Redelivered),
            ("Delivered", Kind::Delivered),
            ("Acknowledged", Kind::Acknowledged),
            ("Begun", Kind::Begun),
            ("Errored", Kind::Errored),
        ];
        let errors = [
            ("NotRunning", 1),
            ("PeerDied", 2),
            ("TimedOut", 3),
            ("ServerClosed", 4),
            ("Refused", 5),
            ("Busy", 6),
            ("Full", 7),
            ("Unanswered", 8),
        ];
        let documented: Vec<_> = kinds.iter().map(|(name, kind)| (*name, *kind as u64)).chain(errors).collect();
        expect_values("Head", &documented);
        for (_, kind) in kinds {
            assert_eq!(Head { kind, ..plain }.pack(), bits("Head", "len") | (kind as u64) << shift);
        }
        assert_eq!(Head { in_body: true, ..plain }.pack() ^ plain.pack(), bits("Head", "IN_BODY"));
        assert_eq!(Head { has_deadline: true, ..plain }.pack() ^ plain.pack(), bits("Head", "HAS_DEADLINE"));
        let descriptors = bits("Head", "descriptors");
        for count in 0..=DESCRIPTORS_MAX as u32 {
            let carried = Head { descriptors: count, ..plain }.pack() ^ plain.pack();
            assert_eq!(carried, u64::from(count) << descriptors.trailing_zeros());
            assert_eq!(carried & !descriptors, 0);
        }
        for bit in 0..64 {
            let zero = bits("Head", "zero") & 1 << bit;
            assert!(zero == 0 || Head::parse(plain.pack() | zero).is_none(), "bit {bit}");
        }
    }

    /// Each field of a message stands where the document says, and nothing else is in it. `expected` are the fields of
    /// the table, or its first ones.
    fn assert_message(heading: &str, bytes: &[u8], expected: &[(&str, &[u8])]) {
        let documented = fields(heading);
        let names: Vec<_> = documented.iter().map(|(_, _, name)| name.as_str()).collect();
        let known: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
        assert_eq!(names[..known.len()], known, "docs/layout.md, `{heading}`");
        let mut end = 0;
        for ((offset, size, name), (_, value)) in documented.iter().zip(expected) {
            assert!(
                size.parse().is_ok_and(|size: usize| size == value.len())
                    || !size.starts_with(|c: char| c.is_ascii_digit())
            );
            assert_eq!(*offset, end, "docs/layout.md, `{heading}`: `{name}` leaves a gap");
            end += value.len();
            assert_eq!(&bytes[*offset..end], *value, "docs/layout.md, `{heading}`: `{name}`");
        }
        assert_eq!(end, bytes.len(), "docs/layout.md, `{heading}`: bytes that no row names");
    }

    fn contract() -> Contract {
        Contract {
            name: "name".into(),
            version: 0x0102_0304,
            size: 0x0506_0708,
            align: 0x0b0c,
            form: Form::Stream,
            encoding: crate::contract::Encoding::Postcard,
        }
    }

    fn number(value: u32) -> [u8; 4] {
        value.to_le_bytes()
    }

    #[test]
    fn greetings() {
        let hello = Hello {
            protocol_min: 0x1112,
            protocol_max: 0x1314,
            layout_version: 0x2122_2324,
            slots: 0x3132_3334,
            capacity: 0x4142_4344,
            contract: contract(),
            extension: Some(HelloExtension {
                layout_min: 0x5152_5354,
                features: Features(0x6162_6364_6566_6768),
                required: Features(0x7172_7374_7576_7778),
                clock: ClockReading { now_ns: 0x8182_8384_8586_8788, time_namespace: 0x9192_9394_9596_9798 },
            }),
        };
        let long = |value: u64| value.to_le_bytes();
        let both: [(&str, &[u8]); 13] = [
            ("kind", &[1]),
            ("magic", b"WWHI"),
            ("protocol_min", &[0x12, 0x11]),
            ("protocol_max", &[0x14, 0x13]),
            ("layout_version", &number(0x2122_2324)),
            ("slots", &number(0x3132_3334)),
            ("capacity", &number(0x4142_4344)),
            ("contract_version", &number(0x0102_0304)),
            ("contract_size", &number(0x0506_0708)),
            ("contract_align", &[0x0c, 0x0b]),
            ("contract_form", &[2]),
            ("contract_encoding", &[1]),
            ("name_len", &[4]),
        ];
        let second: [(&str, &[u8]); 6] = [
            ("layout_min", &number(0x5152_5354)),
            ("features", &long(0x6162_6364_6566_6768)),
            ("required", &long(0x7172_7374_7576_7778)),
            ("clock_ns", &long(0x8182_8384_8586_8788)),
            ("time_namespace", &long(0x9192_9394_9596_9798)),
            ("name", b"name"),
        ];
        assert_message("HELLO", &FromClient::Hello(hello.clone()).encode(), &[&both[..], &second].concat());
        // In the form of version 1 the name follows the fields of both.
        let first = FromClient::Hello(Hello { extension: None, ..hello }).encode();
        let (fields, name) = first.split_at(34);
        assert_eq!(name, b"name");
        assert_message("HELLO", fields, &both);
    }

    #[test]
    fn messages() {
        assert_message("READY", &FromClient::Ready.encode(), &[("kind", &[2])]);
        assert_message("REPLACE", &FromClient::Replace.encode(), &[("kind", &[8]), ("magic", b"WWHI")]);
        let welcome = Welcome {
            protocol: 0x0102,
            slots: 0x1112_1314,
            capacity: 0x2122_2324,
            segment_size: 0x3132_3334_3536_3738,
            has_client_bell: true,
            extension: Some(WelcomeExtension {
                layout_version: 0x4142_4344,
                has_same_clock: true,
                features: Features(0x5152_5354_5556_5758),
                board: Some(BoardWelcome {
                    entries: 0x6162_6364,
                    bodies: 0x7172_7374,
                    holds: 0x8182_8384,
                    group: 0x9192_9394,
                    epoch: 0xa1a2_a3a4_a5a6_a7a8,
                }),
            }),
        };
        let both: [(&str, &[u8]); 6] = [
            ("kind", &[3]),
            ("has_client_bell", &[1]),
            ("protocol", &[0x02, 0x01]),
            ("slots", &number(0x1112_1314)),
            ("capacity", &number(0x2122_2324)),
            ("segment_size", &0x3132_3334_3536_3738_u64.to_le_bytes()),
        ];
        let second: [(&str, &[u8]); 8] = [
            ("layout_version", &number(0x4142_4344)),
            ("flags", &number(1)),
            ("features", &0x5152_5354_5556_5758_u64.to_le_bytes()),
            ("entries", &number(0x6162_6364)),
            ("bodies", &number(0x7172_7374)),
            ("holds", &number(0x8182_8384)),
            ("group", &number(0x9192_9394)),
            ("epoch", &0xa1a2_a3a4_a5a6_a7a8_u64.to_le_bytes()),
        ];
        assert_message("WELCOME", &FromServer::Welcome(welcome.clone()).encode(), &[&both[..], &second].concat());
        let first = FromServer::Welcome(Welcome { extension: None, ..welcome });
        assert_message("WELCOME", &first.encode(), &both);
        for (bit, feature) in [
            ("DESCRIPTORS", Features::DESCRIPTORS),
            ("BEGUN", Features::BEGUN),
            ("MOVED", Features::MOVED),
            ("TELLS_MOVES", Features::TELLS_MOVES),
        ] {
            let row = values("Features").into_iter().find(|(name, _)| name == bit);
            assert_eq!(row.map(|(_, number)| 1 << number), Some(feature.0), "docs/layout.md, `Features`: {bit}");
        }
        let refusal = FromServer::Refusal(Reason::Contract, "why".into());
        assert_message("REFUSAL", &refusal.encode(), &[("kind", &[4]), ("reason", &[2]), ("text", b"why")]);
        let farewell = FromServer::Farewell(Reason::Shutdown, "why".into());
        assert_message("FAREWELL", &farewell.encode(), &[("kind", &[5]), ("reason", &[5]), ("text", b"why")]);
        assert_message("BELL", &FromServer::Bell.encode(), &[("kind", &[6])]);
        let message = DescriptorMessage { count: 0x0b, slot: 0x0102, sequence: 0x1112_1314_1516_1718 };
        let fields: [(&str, &[u8]); 4] = [
            ("kind", &[7]),
            ("count", &[0x0b]),
            ("slot", &[0x02, 0x01]),
            ("sequence", &0x1112_1314_1516_1718_u64.to_le_bytes()),
        ];
        assert_message("DESCRIPTORS", &message.encode(), &fields);
        expect_values(
            "Reasons",
            &[
                ("Refused", Reason::Refused as u64),
                ("Contract", Reason::Contract as u64),
                ("Version", Reason::Version as u64),
                ("Violation", Reason::Violation as u64),
                ("Shutdown", Reason::Shutdown as u64),
                ("Aborted", Reason::Aborted as u64),
                ("Later", Reason::Later as u64),
                ("Moved", Reason::Moved as u64),
            ],
        );
    }
}
