//! What the two sides of a session have agreed on: the version, the features, and whether their clocks show the same.
//!
//! Every decision that depends on the version is here, and matches exhaustively. In a session of version 1 nothing of
//! version 2 is written or sent.

use std::fmt;
use std::time::Duration;

use crate::faults::{self, Fault};
use crate::memory::layout::{LAYOUT_VERSION, LAYOUT_VERSION_MIN};
use crate::sys::{clock, process};

/// A version of the messages and of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Protocol {
    /// Exact: whatever is not known is a violation.
    V1 = 1,
    /// Ranges, features and clocks; what is not known has a meaning.
    V2 = 2,
}

/// The lowest version that is spoken here.
pub const PROTOCOL_VERSION_MIN: u16 = Protocol::V1 as u16;
/// The highest.
pub const PROTOCOL_VERSION: u16 = Protocol::V2 as u16;

impl Protocol {
    /// The form of a HELLO that names these versions: that of the lowest. `None`: it is not known here, and what
    /// follows the versions is not read.
    pub fn of_hello(min: u16, max: u16) -> Option<Protocol> {
        match (min, max) {
            (0 | 1, 1..) => Some(Protocol::V1),
            (2, 2..) => Some(Protocol::V2),
            _ => None,
        }
    }

    /// The version of the memory in a session of this version.
    pub fn layout_version(self) -> u32 {
        match self {
            Protocol::V1 => LAYOUT_VERSION_MIN,
            Protocol::V2 => LAYOUT_VERSION,
        }
    }

    /// Whether bytes behind a message that are not known are left to a later version, and reasons and kinds that are
    /// not known have a meaning.
    pub fn is_lenient(self) -> bool {
        match self {
            Protocol::V1 => false,
            Protocol::V2 => true,
        }
    }

    /// Whether the memory has the words and kinds of version 2.
    pub fn has_ring_times(self) -> bool {
        match self {
            Protocol::V1 => false,
            Protocol::V2 => true,
        }
    }
}

/// What a side can do beyond its version, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// File descriptors may travel with requests, replies and messages. A side offers it if it was asked for.
    pub const DESCRIPTORS: Features = Features(1);
    /// The server writes `Begun` before a handler sees a request.
    pub const BEGUN: Features = Features(1 << 1);
    /// A FAREWELL may say `Moved`.
    pub const MOVED: Features = Features(1 << 2);
    /// A sender says in its line when it begins to pass its messages elsewhere, when it is done with that, and when it
    /// ends: what a keeper must know.
    pub const TELLS_MOVES: Features = Features(1 << 3);
    /// None.
    pub const NONE: Features = Features(0);

    /// These, and if a condition holds the other ones.
    pub fn with(self, other: Features, is_offered: bool) -> Features {
        if is_offered { Features(self.0 | other.0) } else { self }
    }

    /// What both have.
    pub fn and(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }

    /// What of these the other does not have.
    pub fn missing_in(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

    /// Whether all of the other are among these.
    pub fn has(self, other: Features) -> bool {
        other.missing_in(self).is_empty()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Features {
    /// The numbers of the bits: names of a later version are not known.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = (0..64).filter(|bit| self.0 >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
        out.write_str(&numbers.join(", "))
    }
}

/// What a side's CLOCK_MONOTONIC shows, and in which time namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Nanoseconds.
    pub now_ns: u64,
    /// The inode of the namespace; 0: not known.
    pub time_namespace: u64,
}

/// A reading of a namespace that is not known was taken at most so long ago: a handshake takes less.
const READING_AGE_MAX: Duration = Duration::from_secs(60);

impl ClockReading {
    /// Of this process.
    pub fn now() -> ClockReading {
        ClockReading { now_ns: clock::now_ns(), time_namespace: process::time_namespace().unwrap_or(0) }
    }

    /// Whether another side's clock, read a moment ago, shows the same as this one.
    pub fn agrees_with(self, other: ClockReading) -> bool {
        if faults::is(Fault::OneClock) {
            return true;
        }
        match (self.time_namespace, other.time_namespace) {
            (0, _) | (_, 0) => {
                let age_ns = self.now_ns.checked_sub(other.now_ns);
                age_ns.is_some_and(|age_ns| u128::from(age_ns) <= READING_AGE_MAX.as_nanos())
            }
            (ours, theirs) => ours == theirs,
        }
    }
}

/// What both sides know of a session from its handshake on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The version.
    pub protocol: Protocol,
    /// Whether times in the shared memory mean the same to both sides.
    pub has_same_clock: bool,
    /// What both can, and have asked for.
    pub features: Features,
}

impl Agreement {
    /// A session of version 1, in which nobody knows of the other's clock.
    pub const V1: Agreement = Agreement { protocol: Protocol::V1, has_same_clock: true, features: Features::NONE };

    /// Whether descriptors may travel.
    pub fn has_descriptors(self) -> bool {
        self.features.has(Features::DESCRIPTORS)
    }

    /// Whether the server says in a request's head that a handler sees it.
    pub fn has_begun(self) -> bool {
        self.features.has(Features::BEGUN)
    }

    /// Whether a farewell may say that there is a successor.
    pub fn has_moved(self) -> bool {
        self.features.has(Features::MOVED)
    }

    /// Whether the sender of a queue says what becomes of its messages.
    pub fn tells_moves(self) -> bool {
        self.features.has(Features::TELLS_MOVES)
    }

    /// Whether the times of rings are written and read.
    pub fn has_ring_times(self) -> bool {
        (self.protocol.has_ring_times() || faults::is(Fault::MixedVersions)) && self.has_same_clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_has_the_form_of_its_lowest_version() {
        for (min, max, form) in [
            (0, 0, None),
            (0, 1, Some(Protocol::V1)),
            (1, 1, Some(Protocol::V1)),
            (1, 2, Some(Protocol::V1)),
            (0, u16::MAX, Some(Protocol::V1)),
            (2, 1, None),
            (1, 0, None),
            (2, 2, Some(Protocol::V2)),
            (2, u16::MAX, Some(Protocol::V2)),
            (3, 3, None),
            (3, 2, None),
        ] {
            assert_eq!(Protocol::of_hello(min, max), form, "{min} to {max}");
        }
        assert_eq!([Protocol::V1, Protocol::V2].map(Protocol::layout_version), [1, 2]);
    }

    #[test]
    fn a_session_has_what_was_agreed_on_and_nothing_else() {
        let asked = |feature: Features| {
            let agreement = |features| Agreement { features, ..Agreement::V1 };
            [Features::NONE, feature, Features(u64::MAX ^ feature.0), Features(u64::MAX)].map(agreement)
        };
        let of_that_alone = [false, true, false, true];
        assert_eq!(asked(Features::DESCRIPTORS).map(Agreement::has_descriptors), of_that_alone);
        assert_eq!(asked(Features::BEGUN).map(Agreement::has_begun), of_that_alone);
        assert_eq!(asked(Features::MOVED).map(Agreement::has_moved), of_that_alone);
    }

    #[test]
    fn features_are_those_of_both_and_are_named_by_their_bits() {
        let all = [Features::DESCRIPTORS, Features::BEGUN, Features::MOVED];
        assert_eq!(all.map(|feature| feature.0), [1, 2, 4]);
        assert_eq!(Features(0b110).and(Features(0b011)), Features(0b010));
        assert_eq!(Features(0b110).missing_in(Features(0b011)), Features(0b100));
        assert!(Features(0b110).missing_in(Features(u64::MAX)).is_empty());
        assert_eq!(Features(1 | 1 << 63).to_string(), "0, 63");
        assert!(Features::NONE.is_empty());
        assert!(Features(0b110).has(Features(0b100)) && !Features(0b110).has(Features(0b101)));
    }

    #[test]
    fn clocks_agree_in_one_namespace_and_where_it_is_not_known_by_what_they_show() {
        let reading = |now_ns, time_namespace| ClockReading { now_ns, time_namespace };
        let minute_ns = READING_AGE_MAX.as_nanos() as u64;
        for (ours, theirs, agree) in [
            ((5, 7), (900, 7), true),
            ((900, 7), (900, 8), false),
            ((minute_ns, 0), (0, 8), true),
            ((minute_ns + 1, 0), (0, 8), false),
            ((9, 7), (9, 0), true),
            ((9, 7), (10, 0), false),
            ((9, 0), (9, 0), true),
        ] {
            let (ours, theirs) = (reading(ours.0, ours.1), reading(theirs.0, theirs.1));
            assert_eq!(ours.agrees_with(theirs), agree, "{ours:?} {theirs:?}");
        }
        let now = ClockReading::now();
        assert!(ClockReading::now().agrees_with(now));
    }

    #[test]
    fn times_of_rings_need_the_version_and_the_clock() {
        for (protocol, has_same_clock, has_ring_times) in
            [(Protocol::V1, true, false), (Protocol::V2, false, false), (Protocol::V2, true, true)]
        {
            let agreement = Agreement { protocol, has_same_clock, features: Features::NONE };
            assert_eq!(agreement.has_ring_times(), has_ring_times);
        }
        assert!(Agreement::V1.has_same_clock && !Agreement::V1.has_ring_times());
    }
}
