//! The slot: one word that names whose turn it is.
//!
//! The [`Turn`] word is the semaphore of the exchange. It lies in the first eight bytes of the slot's own cache line,
//! so that for a small payload one line's journey carries the signal *and* the data. All functions here are handed the
//! word; they know nothing of mappings, so the same code runs under the model checker.
//!
//! ```text
//!  63                                   8 7         3     2          1      0
//! +--------------------------------------+-----------+-----------+------+--------+
//! | sequence (56 bits, wraps)            | zero      | ABANDONED | WAKE | SERVER |
//! +--------------------------------------+-----------+-----------+------+--------+
//! ```
//!
//! | bit | meaning when set | who sets it | who clears it |
//! |---|---|---|---|
//! | SERVER | the server may touch line and body; the client may not | client, by [`pass_to_server`] | server, by [`pass_to_client`] |
//! | WAKE | the client sleeps, or is about to, on its doorbell | client, by [`ask_for_wake`] | the next pass, either way, or [`withdraw_wake`] |
//! | ABANDONED | the client does not want the reply any more | client, by [`abandon`] | the next pass, either way |
//!
//! **Invariant S1.** With SERVER clear only the client writes the word, line and body; with SERVER set only the server
//! does, but for WAKE and ABANDONED, which the client sets, and WAKE, which it clears, by one operation on the word. A
//! process killed at any instruction therefore leaves the turn with one side or with the other; there is no third state
//! to repair.
//!
//! **Invariant S2.** The sequence grows by one with each request and is the same in the reply. The server keeps the
//! last one it took in private memory, so a slot it is still serving is never taken twice, whatever the word says.

use crate::faults::{self, Fault};
use crate::sync::{AtomicU64, Ordering};

const SERVER: u64 = 1;
const WAKE: u64 = 1 << 1;
const ABANDONED: u64 = 1 << 2;
const SEQUENCE_SHIFT: u32 = 8;

/// The sequence before a slot's first request.
#[cfg(any(loom, not(feature = "models")))]
#[inline(always)]
pub const fn before_first() -> u64 {
    0
}

/// The sequence before a slot's first request; in builds for the proof it can be another than 0, so that the wrap is
/// seen without 2^56 calls.
#[cfg(all(not(loom), feature = "models"))]
pub fn before_first() -> u64 {
    BEFORE_FIRST.load(Ordering::Relaxed)
}

#[cfg(all(not(loom), feature = "models"))]
static BEFORE_FIRST: AtomicU64 = AtomicU64::new(0);

/// The slots of this process's new sessions begin after that sequence. Both sides must be told the same, before they
/// connect.
#[cfg(all(not(loom), feature = "models"))]
pub fn begin_after(sequence: u64) {
    BEFORE_FIRST.store(sequence & (u64::MAX >> SEQUENCE_SHIFT), Ordering::Relaxed);
}

/// The sequence in a number that has marks beyond its 56 bits.
pub const fn of_private(marked: u64) -> u64 {
    marked & (u64::MAX >> SEQUENCE_SHIFT)
}

/// A turn word, read once into a local; only the local is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Turn(u64);

impl Turn {
    /// A word that was read once, by whatever means.
    pub fn of(word: u64) -> Turn {
        Turn(word)
    }

    /// The 56-bit sequence number of the exchange.
    #[inline(always)]
    pub fn sequence(self) -> u64 {
        self.0 >> SEQUENCE_SHIFT
    }

    /// Whether it is the server's turn.
    #[inline(always)]
    pub fn is_server(self) -> bool {
        self.0 & SERVER != 0
    }

    /// Whether the client asked to be woken.
    #[inline(always)]
    pub fn wants_wake(self) -> bool {
        self.0 & WAKE != 0
    }

    /// Whether the client gave the call up.
    #[inline(always)]
    pub fn is_abandoned(self) -> bool {
        self.0 & ABANDONED != 0
    }
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "turn {} ({}{}{})",
            self.sequence(),
            if self.is_server() { "server's" } else { "client's" },
            if self.wants_wake() { ", wake wanted" } else { "" },
            if self.is_abandoned() { ", abandoned" } else { "" },
        )
    }
}

/// What a turn word must be for the server to take the slot: its own knowledge, in private memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expected(u64);

impl Expected {
    /// The first request of a slot.
    #[inline]
    pub fn first() -> Expected {
        Expected::after(before_first())
    }

    /// What is expected after request `sequence`.
    #[inline]
    pub fn after(sequence: u64) -> Expected {
        Expected(next_sequence(sequence) << SEQUENCE_SHIFT | SERVER)
    }

    /// Whether the word is the request expected: the server's turn, this very sequence, no bit that is not known.
    #[inline(always)]
    pub fn is(self, turn: Turn) -> bool {
        turn.0 & !(WAKE | ABANDONED) == self.0
    }

    /// What is expected after this one was taken.
    #[inline(always)]
    pub fn next(self) -> Expected {
        Expected(self.0.wrapping_add(1 << SEQUENCE_SHIFT))
    }

    /// The sequence of the request taken last.
    #[inline(always)]
    pub fn taken(self) -> u64 {
        self.0.wrapping_sub(1 << SEQUENCE_SHIFT) >> SEQUENCE_SHIFT
    }
}

/// The sequence after `sequence`, in its 56 bits.
#[inline(always)]
pub fn next_sequence(sequence: u64) -> u64 {
    injected_sequence(sequence).unwrap_or(sequence.wrapping_add(1) & (u64::MAX >> SEQUENCE_SHIFT))
}

/// The injected faults of a sequence that does not wrap, or does so too soon.
#[inline(always)]
fn injected_sequence(sequence: u64) -> Option<u64> {
    if faults::is(Fault::WideSequence) {
        return Some(sequence + 1);
    }
    faults::is(Fault::NarrowSequence).then(|| (sequence + 1) & u64::from(u32::MAX))
}

/// Reads the word. Acquire: partner of the passes below; what the other side wrote before it passed is visible after.
#[inline(always)]
pub fn load(turn: &AtomicU64) -> Turn {
    Turn(turn.load(Ordering::Acquire))
}

/// Client: passes the slot to the server as request `sequence`.
///
/// SeqCst exchange: it releases line and body (partner: the server's [`load`]) and is the first half of the wake-up
/// check; the caller looks at the server's `waiting` word next, through [`crate::memory::doorbell::Waiting::claim`].
#[inline(always)]
pub fn pass_to_server(turn: &AtomicU64, sequence: u64) {
    turn.swap(sequence << SEQUENCE_SHIFT | SERVER, Ordering::SeqCst);
}

/// Server: passes the slot back as the reply to `sequence` and returns the word it replaced.
///
/// AcqRel exchange: Release publishes the reply (partner: the client's [`load`]); Acquire pairs with [`ask_for_wake`].
/// Whether the client sleeps is in the very word that is exchanged, so no fence and no second word is needed: a wake-up
/// asked for before the exchange is seen by it, and one asked for after it sees the reply.
#[inline(always)]
pub fn pass_to_client(turn: &AtomicU64, sequence: u64) -> Turn {
    Turn(turn.swap(sequence << SEQUENCE_SHIFT, Ordering::AcqRel))
}

/// Client: asks to be woken for the reply. Returns the word before: if that is not the server's turn, the reply is
/// there.
///
/// AcqRel: Acquire because the caller may go on to read the reply; partner [`pass_to_client`].
#[inline]
pub fn ask_for_wake(turn: &AtomicU64) -> Turn {
    Turn(turn.fetch_or(WAKE, Ordering::AcqRel))
}

/// Client: is awake after all, so the server need not ring. Returns the word before: if that is not the server's turn,
/// the reply is there. A server that replied just before may ring all the same; that ring wakes nobody.
///
/// AcqRel: Acquire because the caller may go on to read the reply; partner [`pass_to_client`].
#[inline]
pub fn withdraw_wake(turn: &AtomicU64) -> Turn {
    Turn(turn.fetch_and(!WAKE, Ordering::AcqRel))
}

/// Client: says that the reply is not wanted any more. Returns the word before.
///
/// When the reply had come already, the flag lands in the client's own idle word and the next pass clears it.
#[inline]
pub fn abandon(turn: &AtomicU64) -> Turn {
    Turn(turn.fetch_or(ABANDONED, Ordering::AcqRel))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_turn_goes_there_and_back() {
        let word = AtomicU64::new(0);
        pass_to_server(&word, 7);
        let turn = load(&word);
        assert!(turn.is_server() && !turn.wants_wake() && turn.sequence() == 7);
        let replaced = pass_to_client(&word, 7);
        assert_eq!(replaced, turn);
        assert!(!load(&word).is_server());
    }

    #[test]
    fn a_wake_asked_for_before_the_reply_is_seen_by_it() {
        let word = AtomicU64::new(0);
        pass_to_server(&word, 1);
        assert!(ask_for_wake(&word).is_server());
        assert!(pass_to_client(&word, 1).wants_wake());
    }

    #[test]
    fn a_wake_asked_for_after_the_reply_sees_it() {
        let word = AtomicU64::new(0);
        pass_to_server(&word, 1);
        assert!(!pass_to_client(&word, 1).wants_wake());
        assert!(!ask_for_wake(&word).is_server());
    }

    #[test]
    fn a_wake_that_was_withdrawn_is_not_seen_and_can_be_asked_for_again() {
        let word = AtomicU64::new(0);
        pass_to_server(&word, 1);
        ask_for_wake(&word);
        assert!(withdraw_wake(&word).is_server());
        assert!(load(&word).is_server() && !load(&word).wants_wake());
        ask_for_wake(&word);
        assert!(pass_to_client(&word, 1).wants_wake());
        assert!(!withdraw_wake(&word).is_server(), "the reply is there");
        assert_eq!(load(&word), Turn(1 << SEQUENCE_SHIFT), "and stays");
    }

    #[test]
    fn abandoning_tells_the_server() {
        let word = AtomicU64::new(0);
        pass_to_server(&word, 1);
        abandon(&word);
        assert!(load(&word).is_abandoned());
        assert!(pass_to_client(&word, 1).is_abandoned());
        assert!(!load(&word).is_abandoned());
    }

    #[test]
    fn the_sequence_wraps_in_its_56_bits() {
        let last = u64::MAX >> SEQUENCE_SHIFT;
        let word = AtomicU64::new(0);
        pass_to_server(&word, last);
        assert_eq!(load(&word).sequence(), last);
        assert_eq!(next_sequence(last), 0);
        assert_eq!(next_sequence(7), 8);
    }

    #[test]
    fn a_turn_is_told_in_words() {
        let told = |bits: u64| format!("{:?}", Turn(5 << SEQUENCE_SHIFT | bits));
        assert_eq!(told(0), "turn 5 (client's)");
        assert_eq!(told(SERVER | WAKE | ABANDONED), "turn 5 (server's, wake wanted, abandoned)");
    }

    #[test]
    fn only_the_next_request_is_expected() {
        let expected = Expected::after(0);
        assert_eq!(expected.taken(), 0);
        let turn = |sequence: u64, bits: u64| Turn(sequence << SEQUENCE_SHIFT | bits);
        for bits in [SERVER, SERVER | WAKE, SERVER | ABANDONED, SERVER | WAKE | ABANDONED] {
            assert!(expected.is(turn(1, bits)));
            assert!(!expected.is(turn(0, bits)) && !expected.is(turn(2, bits)));
            assert!(!expected.next().is(turn(1, bits)) && expected.next().is(turn(2, bits)));
        }
        for unknown in 3..8 {
            assert!(!expected.is(turn(1, SERVER | 1 << unknown)), "bit {unknown}");
        }
        assert!(!expected.is(turn(1, 0)));
    }

    #[test]
    fn what_is_expected_wraps_as_the_sequence_does() {
        let last = u64::MAX >> SEQUENCE_SHIFT;
        let expected = Expected(last << SEQUENCE_SHIFT | SERVER);
        assert_eq!(expected.next().next(), Expected::after(0));
        assert_eq!(Expected::after(last), expected.next());
        assert_eq!(expected.next().taken(), last);
    }
}
