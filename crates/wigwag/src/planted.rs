//! Faults that can be planted, to show that the tests find them. A build without the hidden features has none of this.
//!
//! A harness that cannot fail proves nothing. Each fault is compiled in by a hidden feature of its own
//! (`planted-double-fetch` ...) and sleeps until the environment names it (`WIGWAG_PLANTED=double-fetch`), so that one
//! build serves the tests of all of them: `crates/planted` is that build.

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $fault:ident = $name:literal, $feature:literal;)*) => {
        /// What can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(feature = "planted-faults"), allow(dead_code, reason = "asked for by name in builds with planted faults only"))]
        pub enum Fault {
            $($(#[doc = $doc])* $fault,)*
        }

        impl Fault {
            /// Whether its feature is on, and its name in the environment.
            #[cfg_attr(not(feature = "planted-faults"), allow(dead_code, reason = "as above"))]
            const fn of(self) -> (bool, &'static str) {
                match self {
                    $(Fault::$fault => (cfg!(feature = $feature), $name),)*
                }
            }
        }
    };
}

faults! {
    /// The server reads a request's head a second time after it has checked it.
    DoubleFetch = "double-fetch", "planted-double-fetch";
    /// The client reads a reply's head a second time after it has checked it.
    ReplyDoubleFetch = "reply-double-fetch", "planted-reply-double-fetch";
    /// The server does not compare a request's length with the capacity.
    UncheckedLength = "unchecked-length", "planted-unchecked-length";
    /// The server believes the client how many slots there are.
    UncheckedDepth = "unchecked-depth", "planted-unchecked-depth";
    /// The client does not check the length and the number of a reply.
    UncheckedReply = "unchecked-reply", "planted-unchecked-reply";
    /// The steward keeps a dead client's descriptor.
    LeakedDescriptor = "leaked-descriptor", "planted-leaked-descriptor";
    /// A waiting client does not watch for its server's end.
    MissingWakeOnDeath = "missing-wake-on-death", "planted-missing-wake-on-death";
    /// The steward watches the client's socket only, not its process.
    SocketAlone = "socket-alone", "planted-socket-alone";
    /// A peer's process is looked for by the number in its credentials.
    TrustedNumber = "trusted-number", "planted-trusted-number";
    /// A session without a pidfd is made where there is no descriptor for one.
    MissingPidfd = "missing-pidfd", "planted-missing-pidfd";
    /// What all segments may have is not looked at before one more is made.
    UncheckedQuota = "unchecked-quota", "planted-unchecked-quota";
    /// Where all places for handshakes are taken, a newcomer gets none.
    JealousPlaces = "jealous-places", "planted-jealous-places";
    /// The memory stays open to new mappings, and to holes.
    MissingSeal = "missing-seal", "planted-missing-seal";
    /// A handshake has no deadline.
    PatientHandshake = "patient-handshake", "planted-patient-handshake";
    /// Clients of other users are served in place.
    TrustedStranger = "trusted-stranger", "planted-trusted-stranger";
    /// A peer whose credentials cannot be read is taken for the server's own user.
    DefaultUser = "default-user", "planted-default-user";
    /// The steward accepts again and again while there are no descriptors.
    BusyAccept = "busy-accept", "planted-busy-accept";
    /// The client forgets the slot of a call that it gave up.
    ForgottenSlot = "forgotten-slot", "planted-forgotten-slot";
    /// The server passes the turn back before it has written the head of the reply.
    EarlyTurn = "early-turn", "planted-early-turn";
    /// A reply in the body lacks its last byte.
    ShortReply = "short-reply", "planted-short-reply";
    /// The steward keeps a little memory of each session that is over.
    LeakedMemory = "leaked-memory", "planted-leaked-memory";
    /// The error of a call that was cut off says that the request was not executed.
    WrongFate = "wrong-fate", "planted-wrong-fate";
    /// The client counts its requests in 32 bits.
    NarrowSequence = "narrow-sequence", "planted-narrow-sequence";
    /// The client counts its requests in more bits than the turn has.
    WideSequence = "wide-sequence", "planted-wide-sequence";
    /// A serving thread goes to sleep although a letter lies unread.
    UnreadLetter = "unread-letter", "planted-unread-letter";
    /// The server does not look at the versions of a greeting.
    UncheckedVersion = "unchecked-version", "planted-unchecked-version";
    /// A permit that somebody waits for is not given back.
    LostPermit = "lost-permit", "planted-lost-permit";
    /// A permit is taken by a look and a store, in two steps.
    DoubledPermit = "doubled-permit", "planted-doubled-permit";
    /// Those who wait for a permit do not look whether its holder still lives.
    MissingSweep = "missing-sweep", "planted-missing-sweep";
    /// A stream whose other end is dead ends as if that one had closed it.
    GoodEnd = "good-end", "planted-good-end";
    /// A stream's bytes are published before they are written.
    EarlyBytes = "early-bytes", "planted-early-bytes";
    /// A ring's other side is believed whatever it counts.
    UncheckedCount = "unchecked-count", "planted-unchecked-count";
    /// A reader does not ring for a writer that waits for room.
    UnrungWriter = "unrung-writer", "planted-unrung-writer";
    /// A message that is handed out is not marked as such.
    UnmarkedDelivery = "unmarked-delivery", "planted-unmarked-delivery";
    /// What a sender that is gone has left is not received.
    ForgottenOrphan = "forgotten-orphan", "planted-forgotten-orphan";
    /// A message is acknowledged when it is handed out.
    EarlyAcknowledgement = "early-acknowledgement", "planted-early-acknowledgement";
}

/// Whether this fault is planted.
#[cfg(not(feature = "planted-faults"))]
#[inline(always)]
pub const fn is(_: Fault) -> bool {
    false
}

/// Whether this fault is planted.
#[cfg(feature = "planted-faults")]
#[inline]
pub fn is(fault: Fault) -> bool {
    static NAMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let (is_compiled_in, name) = fault.of();
    is_compiled_in && NAMED.get_or_init(|| std::env::var("WIGWAG_PLANTED").unwrap_or_default()) == name
}

/// Gives others the time that a fault needs to show: a race that a planted fault opens is lost on every machine, however fast its
/// processors are and however few.
#[inline]
pub fn dawdle() {
    if cfg!(feature = "planted-faults") {
        std::thread::sleep(std::time::Duration::from_micros(1)); // some fifty, by the timer's slack
    }
}
