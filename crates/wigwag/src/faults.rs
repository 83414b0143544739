//! Injected faults: they show that the tests find what they look for. A build for use has none of this.
//!
//! A harness that cannot fail proves nothing. The faults are compiled in by `--cfg wigwag_faults`, which is no feature,
//! because another user's build could turn on a feature. Each of them sleeps until the environment names it
//! (`WIGWAG_PLANTED=double-fetch`), so that one build serves the tests of all of them: `verify/harness/tests/faults`.

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $fault:ident = $name:literal;)*) => {
        /// What can be injected.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(wigwag_faults), allow(dead_code, reason = "asked for by name in builds with faults only"))]
        pub enum Fault {
            $($(#[doc = $doc])* $fault,)*
        }

        impl Fault {
            /// Its name in the environment.
            #[cfg_attr(not(wigwag_faults), allow(dead_code, reason = "as above"))]
            const fn name(self) -> &'static str {
                match self {
                    $(Fault::$fault => $name,)*
                }
            }
        }
    };
}

faults! {
    /// The server reads a request's head a second time after it has checked it.
    DoubleFetch = "double-fetch";
    /// The client reads a reply's head a second time after it has checked it.
    ReplyDoubleFetch = "reply-double-fetch";
    /// The server does not compare a request's length with the capacity.
    UncheckedLength = "unchecked-length";
    /// The server believes the client how many slots there are.
    UncheckedDepth = "unchecked-depth";
    /// The client does not check the length and the number of a reply.
    UncheckedReply = "unchecked-reply";
    /// The control thread keeps a dead client's descriptor.
    LeakedDescriptor = "leaked-descriptor";
    /// A waiting client does not watch for its server's end.
    MissingWakeOnDeath = "missing-wake-on-death";
    /// The control thread watches the client's socket only, not its process.
    SocketAlone = "socket-alone";
    /// A peer's process is looked for by the number in its credentials.
    TrustedNumber = "trusted-number";
    /// A session without a pidfd is made where there is no descriptor for one.
    MissingPidfd = "missing-pidfd";
    /// What all segments may have is not looked at before one more is made.
    UncheckedQuota = "unchecked-quota";
    /// Where all places for handshakes are taken, a newcomer gets none.
    JealousPlaces = "jealous-places";
    /// The memory stays open to new mappings, and to holes.
    MissingSeal = "missing-seal";
    /// A handshake has no deadline.
    PatientHandshake = "patient-handshake";
    /// Clients of other users are served in place.
    TrustedOtherUser = "trusted-other-user";
    /// A peer whose credentials cannot be read is taken for the server's own user.
    DefaultUser = "default-user";
    /// The control thread accepts again and again while there are no descriptors.
    BusyAccept = "busy-accept";
    /// The client forgets the slot of a call that it gave up.
    ForgottenSlot = "forgotten-slot";
    /// The server passes the turn back before it has written the head of the reply.
    EarlyTurn = "early-turn";
    /// A reply in the body lacks its last byte.
    ShortReply = "short-reply";
    /// The control thread keeps a little memory of each session that is over.
    LeakedMemory = "leaked-memory";
    /// The error of a call that was cut off says that the request was not executed.
    WrongFate = "wrong-fate";
    /// The client counts its requests in 32 bits.
    NarrowSequence = "narrow-sequence";
    /// The client counts its requests in more bits than the turn has.
    WideSequence = "wide-sequence";
    /// A serving thread goes to sleep although a message lies unread.
    UnreadMessage = "unread-message";
    /// The server does not look at the versions of a greeting.
    UncheckedVersion = "unchecked-version";
    /// The server grants a session without a feature that its client requires.
    UncheckedFeatures = "unchecked-features";
    /// All clocks are taken to show the same.
    OneClock = "one-clock";
    /// What version 2 has is also written into a session of version 1.
    MixedVersions = "mixed-versions";
    /// A permit that somebody waits for is not given back.
    LostPermit = "lost-permit";
    /// A permit is taken by a look and a store, in two steps.
    DoubledPermit = "doubled-permit";
    /// Those who wait for a permit do not look whether its holder still lives.
    MissingSweep = "missing-sweep";
    /// A stream whose other end is dead ends as if that one had closed it.
    GoodEnd = "good-end";
    /// A stream's bytes are published before they are written.
    EarlyBytes = "early-bytes";
    /// A ring's other side is believed whatever it counts.
    UncheckedCount = "unchecked-count";
    /// A reader does not ring for a writer that waits for room.
    UnrungWriter = "unrung-writer";
    /// A message that another receiver has had is passed to the next one as new.
    UnmarkedMove = "unmarked-move";
    /// What the stand-in of a sender finds in the session of a dead receiver, it leaves there.
    IdleStandIn = "idle-stand-in";
    /// A group drops the session of a receiver that has ended with what it had not acknowledged.
    ForgottenMember = "forgotten-member";
    /// Who waits for several receivers sleeps although all of them have acknowledged all since the last look.
    UnrungSleep = "unrung-sleep";
    /// A message that is handed out is not marked as such.
    UnmarkedDelivery = "unmarked-delivery";
    /// A sender is welcomed before its keeper has said that it has its memory.
    HastyWelcome = "hasty-welcome";
    /// A keeper hands every message on as if no receiver had had it.
    UnmarkedKept = "unmarked-kept";
    /// A keeper takes a message that was handed out for one that is done with.
    LostKept = "lost-kept";
    /// A keeper does not look whether a dead sender had begun to pass its messages elsewhere.
    UnreadMove = "unread-move";
    /// A keeper hands on what its sender, which lives, hands on as well.
    HastyKeeper = "hasty-keeper";
    /// A keeper lets the memory go once it has passed what lay there, whether that is acknowledged or not.
    ForgetfulKeeper = "forgetful-keeper";
    /// What a sender that is gone has left is not received.
    ForgottenOrphan = "forgotten-orphan";
    /// A message is acknowledged when it is handed out.
    EarlyAcknowledgement = "early-acknowledgement";
    /// A thread that is woken hears a bufferful of what rang, and no more.
    OneLook = "one-look";
    /// A stream that is dropped in a panic ends as if it were complete.
    GoodEndInPanic = "good-end-in-panic";
    /// A sender waits for a receiver's successor longer than it was told to wait.
    PatientSearch = "patient-search";
    /// A waiter that was called and does not come keeps the permit.
    KeptCall = "kept-call";
    /// A client that is given to the reactor is taken to have nothing under way.
    UncountedCalls = "uncounted-calls";
    /// A batch that a shutdown ends is dropped, and so acknowledged.
    LostBatch = "lost-batch";
    /// After the end has been told, what came meanwhile is handed out.
    SecondLife = "second-life";
    /// A handler for tasks is not watched for panics until its future exists.
    UncaughtStart = "uncaught-start";
    /// A sender takes what it is granted without a look at what it asked for.
    UncheckedGrant = "unchecked-grant";
    /// A shutdown hands out as many messages as waited when it began, whichever these are.
    CountedAgain = "counted-again";
    /// Of another user's stream, all buffers of a read but the first are filled from the ring, past what was copied to
    /// be lent.
    SkippedCopy = "skipped-copy";
    /// A forked child may arm a stream and resize a request, whose memory it has not.
    UncheckedChild = "unchecked-child";
    /// Reads and writes that never wait do not check whether the other end lives.
    UnseenDeath = "unseen-death";
    /// The mode of the directory of names is left to the umask.
    UmaskedDirectory = "umasked-directory";
    /// A name that somebody took away is not taken again.
    ForsakenName = "forsaken-name";
    /// Welcomes that were never read are not counted.
    UncountedWelcomes = "uncounted-welcomes";
    /// Memory that a client keeps beyond its session is not charged.
    ForgottenMemory = "forgotten-memory";
    /// A request that a handler sees is not marked as begun.
    UnmarkedBegun = "unmarked-begun";
    /// A client passes a call to its server's successor although a handler has seen it.
    PassedTwice = "passed-twice";
    /// A client that follows takes a hang-up for the end of its server's process.
    HangUpAlone = "hang-up-alone";
    /// A client keeps the session of each server that has ended.
    KeptSessions = "kept-sessions";
    /// What it takes to wake a client of another user is not looked at.
    PatientWake = "patient-wake";
    /// The caller's own duplicates of what a call carried stay open when the call is given up.
    KeptDuplicates = "kept-duplicates";
    /// What came for one request is handed to another one that carries as many descriptors.
    SwappedDescriptors = "swapped-descriptors";
    /// An error that is passed on says that the request was not executed.
    ForgottenFate = "forgotten-fate";
    /// The halves of a stream are put together without a byte that came meanwhile.
    LossyReunite = "lossy-reunite";
    /// A future that is dropped when it was called has taken a permit.
    CancelledPermit = "cancelled-permit";
    /// Descriptors are agreed on with clients of other users.
    TrustedCarrier = "trusted-carrier";
    /// A server takes an heir that hangs up for one that serves.
    HastyHolder = "hasty-holder";
    /// A server whose heir is gone does not take its name back.
    ForsakingHolder = "forsaking-holder";
    /// A server that was replaced removes the files of its name.
    GreedyFormer = "greedy-former";
    /// A message has its number before its bytes are there.
    EarlySequence = "early-sequence";
    /// A subscriber does not look whether what it has read of an entry is still the message that it expects.
    UncheckedEntry = "unchecked-entry";
    /// A subscriber that was lapped tells of one message too few.
    ShortLoss = "short-loss";
    /// A subscriber lets go of a message's body when it hands the message out.
    EarlyRelease = "early-release";
    /// A publisher that retains fewer messages than its history does not look who has taken them.
    ReleasedUnread = "released-unread";
    /// A publisher counts subscribers on that are gone.
    UnnoticedLeave = "unnoticed-leave";
}

/// Whether this fault is injected.
#[cfg(not(wigwag_faults))]
#[inline(always)]
pub const fn is(_: Fault) -> bool {
    false
}

/// Whether this fault is injected.
#[cfg(wigwag_faults)]
#[inline]
pub fn is(fault: Fault) -> bool {
    static NAMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAMED.get_or_init(|| std::env::var("WIGWAG_PLANTED").unwrap_or_default()) == fault.name()
}

/// Widens the race window that an injected fault opens, so that the race is lost on every machine, however fast its
/// processors are and however few.
#[inline]
pub fn widen_window() {
    if cfg!(wigwag_faults) {
        std::thread::sleep(std::time::Duration::from_micros(1)); // some fifty, by the timer's slack
    }
}
