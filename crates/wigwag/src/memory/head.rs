//! The head of a slot: what lies there, in one word that is read once. `docs/layout.md` has its bits.

use crate::memory::layout::{ERROR_TEXT_CAPACITY, INLINE_CAPACITY};
use crate::sys::socket::DESCRIPTORS_MAX;

/// A slot line's head, its second word: a length and a kind, packed so that one load reads both.
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
    /// How many file descriptors travel with the payload: at most [`DESCRIPTORS_MAX`].
    pub descriptors: u32,
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
    /// A message of a queue that no receiver has had.
    Message = 6,
    /// A message that a former receiver has had, and not acknowledged.
    Redelivered = 7,
    /// A message that the receiver has handed out.
    Delivered = 8,
    /// The message is done with; there is no payload.
    Acknowledged = 9,
    /// A request that a handler sees or has seen.
    Begun = 10,
    /// An error that is not the handler's: eight bytes, then its text (docs/layout.md, "Head").
    Errored = 11,
    /// An answer of a later version, which is none that is known here; the payload is a text.
    Foreign = 128,
}

/// All kinds of this value and above read as [`Kind::Foreign`].
const FOREIGN: u32 = Kind::Foreign as u32;

impl Kind {
    /// Whether the payload is the user's, so that the capacity is its limit; else it is a text of ours.
    #[inline(always)]
    pub fn is_users(self) -> bool {
        matches!(self, Kind::Request | Kind::Reply | Kind::Message | Kind::Redelivered | Kind::Delivered | Kind::Begun)
    }

    /// Whether it answers a request in another way than a [`Reply`](Kind::Reply), in a session of that version. The
    /// list names what it lets through, so that a kind that is added for another form is none of it.
    pub fn is_failure(self, layout_version: u32) -> bool {
        match self {
            Kind::Failed | Kind::Panicked | Kind::Unanswered => true,
            Kind::Errored | Kind::Foreign => layout_version >= 2,
            _ => false,
        }
    }
}

const IN_BODY: u32 = 1 << 8;
const HAS_DEADLINE: u32 = 1 << 9;
const DESCRIPTORS_SHIFT: u32 = 10;
const DESCRIPTORS: u32 = 0b1_1111 << DESCRIPTORS_SHIFT;
const _: () = assert!(DESCRIPTORS_MAX as u32 <= DESCRIPTORS >> DESCRIPTORS_SHIFT);

impl Head {
    /// The word in memory.
    #[inline(always)]
    pub fn pack(self) -> u64 {
        let flags = (u32::from(self.in_body) * IN_BODY) | (u32::from(self.has_deadline) * HAS_DEADLINE);
        u64::from(self.len) | u64::from(self.kind as u32 | flags | self.descriptors << DESCRIPTORS_SHIFT) << 32
    }

    /// Parses a word that was read once; `None` when it has a kind, a flag or a number of descriptors that this version
    /// does not know. Whether descriptors may travel is for the caller to know.
    #[inline(always)]
    pub fn parse(word: u64) -> Option<Head> {
        let high = (word >> 32) as u32;
        let kind = match high & !(IN_BODY | HAS_DEADLINE | DESCRIPTORS) {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Failed,
            4 => Kind::Panicked,
            5 => Kind::Unanswered,
            6 => Kind::Message,
            7 => Kind::Redelivered,
            8 => Kind::Delivered,
            9 => Kind::Acknowledged,
            10 => Kind::Begun,
            11 => Kind::Errored,
            FOREIGN..=0xff => Kind::Foreign,
            _ => return None,
        };
        let head = Head {
            len: word as u32,
            kind,
            in_body: high & IN_BODY != 0,
            has_deadline: high & HAS_DEADLINE != 0,
            descriptors: (high & DESCRIPTORS) >> DESCRIPTORS_SHIFT,
        };
        (head.descriptors as usize <= DESCRIPTORS_MAX).then_some(head)
    }

    /// A word that was read once, if it is of this kind, request or reply, and fits: [`Head::parse`] and
    /// [`Head::fits`] in a few instructions, for the path of every call. `None` as well for one with descriptors, which
    /// takes a longer way.
    #[inline(always)]
    pub fn of_kind(word: u64, kind: Kind, capacity: usize) -> Option<Head> {
        let flags = (word >> 32) as u32 ^ kind as u32;
        let head = Head {
            len: word as u32,
            kind,
            in_body: flags & IN_BODY != 0,
            has_deadline: flags & HAS_DEADLINE != 0,
            descriptors: 0,
        };
        let room = if head.in_body { capacity } else { INLINE_CAPACITY.min(capacity) };
        (flags & !(IN_BODY | HAS_DEADLINE) == 0 && head.len as usize <= room).then_some(head)
    }

    /// Whether the payload fits where it says it lies.
    #[inline(always)]
    pub fn fits(self, capacity: usize) -> bool {
        let room = match (self.kind.is_users(), self.in_body) {
            (_, false) => INLINE_CAPACITY,
            (true, true) => capacity,
            (false, true) => ERROR_TEXT_CAPACITY,
        };
        self.len as usize <= room && (self.kind.is_users() <= (self.len as usize <= capacity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::layout::CAPACITY_MAX;

    #[test]
    fn heads_survive_the_journey_and_unknown_ones_do_not() {
        let asked = [Kind::Request, Kind::Reply, Kind::Failed, Kind::Panicked, Kind::Unanswered];
        let sent = [Kind::Message, Kind::Redelivered, Kind::Delivered, Kind::Acknowledged];
        for kind in asked.into_iter().chain(sent).chain([Kind::Begun, Kind::Errored]) {
            for (in_body, has_deadline) in [(false, false), (true, false), (false, true), (true, true)] {
                for descriptors in [0, 1, DESCRIPTORS_MAX as u32] {
                    let head = Head { len: 0x0102_0304, kind, in_body, has_deadline, descriptors };
                    assert_eq!(Head::parse(head.pack()), Some(head));
                }
                let head = Head { len: 1, kind, in_body, has_deadline, descriptors: DESCRIPTORS_MAX as u32 + 1 };
                assert_eq!(Head::parse(head.pack()), None, "more than {DESCRIPTORS_MAX} descriptors");
            }
        }
        for high in (0u64..=0xffff).chain([1 << 16, 1 << 31]) {
            let (number, descriptors) = (high & !0x7f00, high >> 10 & 31);
            let kind = Head::parse(high << 32).map(|head| head.kind);
            let is_known = (1..=11).contains(&number) || (128..=255).contains(&number);
            assert_eq!(kind.is_some(), is_known && descriptors <= 16, "{high:#x}");
            assert_eq!(kind == Some(Kind::Foreign), (128..=255).contains(&number) && descriptors <= 16, "{high:#x}");
        }
    }

    #[test]
    fn the_short_check_of_a_head_is_the_long_one() {
        for flags in (0u64..=0x7ff).chain([1 << 16, 1 << 31]) {
            for len in [0, 1, 8, 40, 47, 48, 49, 100, 101, 1024, 1025, u64::from(u32::MAX)] {
                let word = flags << 32 | len;
                for capacity in [0, 8, 47, 48, 49, 100, 1024, CAPACITY_MAX] {
                    for kind in [Kind::Request, Kind::Reply, Kind::Message, Kind::Redelivered] {
                        let long = Head::parse(word).filter(|head| head.kind == kind && head.fits(capacity));
                        let long = long.filter(|head| head.descriptors == 0); // those take the longer way
                        assert_eq!(Head::of_kind(word, kind, capacity), long, "{word:#x} with {capacity}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_payload_fits_or_does_not() {
        let head = |kind, len, in_body| Head { len, kind, in_body, has_deadline: false, descriptors: 0 };
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
        for kind in [Kind::Errored, Kind::Foreign] {
            assert!(head(kind, 1024, true).fits(8) && !head(kind, 1025, true).fits(1 << 20));
        }
    }

    #[test]
    fn an_answer_of_version_2_is_one_in_a_session_of_version_2() {
        for kind in [Kind::Failed, Kind::Panicked, Kind::Unanswered] {
            assert!(kind.is_failure(1) && kind.is_failure(2));
        }
        for kind in [Kind::Errored, Kind::Foreign] {
            assert!(!kind.is_failure(1) && kind.is_failure(2));
        }
        for kind in [Kind::Request, Kind::Reply, Kind::Message, Kind::Delivered, Kind::Acknowledged, Kind::Begun] {
            assert!(!kind.is_failure(2), "{kind:?}");
        }
    }
}
