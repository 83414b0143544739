//! The form of a session, and every decision that depends on it.
//!
//! The rest of the library asks the form and does not compare it (`xtask/rules/src/forms.rs`). Each method matches
//! exhaustively, so the compiler names every decision that a new form has to take.

use std::fmt;

/// What two programs do with the memory that they share. Part of the contract: a peer with another form is refused.
///
/// ```
/// assert_eq!(wigwag::Form::Exchange.to_string(), "exchange");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Form {
    /// Call and reply: [`Client`](crate::Client) and [`Server`](crate::Server).
    #[default]
    Exchange = 0,
    /// Messages one way: many senders, one receiver.
    Queue = 1,
    /// Bytes both ways, as through a socket.
    Stream = 2,
    /// Messages to everybody: one publisher, many subscribers.
    Broadcast = 3,
}

/// How the side that takes the name is started, for sentences that name a cure.
#[derive(Clone, Copy, Debug)]
pub struct Starting {
    /// The type with the function `bind`.
    pub type_name: &'static str,
    /// The subcommand of `wigwag` that starts one to try.
    pub command: &'static str,
    /// What stands behind it, with a space before each.
    pub flags: &'static str,
}

/// What the server does with a session whose client has gone by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPeerGone {
    /// It forgets the session: nobody is there for the replies.
    Reclaim,
    /// It takes what was committed first: a sender need not live for as long as its messages.
    Drain,
}

impl Form {
    /// The form with that number; `None` when this version does not know it.
    pub(crate) fn from_number(number: u8) -> Option<Form> {
        [Form::Exchange, Form::Queue, Form::Stream, Form::Broadcast].into_iter().find(|form| form.number() == number)
    }

    /// The number that stands for it in messages and statistics.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// What follows in a contract's text; a contract that says nothing is an exchange's.
    pub(crate) fn contract_ending(self) -> &'static str {
        match self {
            Form::Exchange => "",
            Form::Queue => " as a queue",
            Form::Stream => " as a stream",
            Form::Broadcast => " as a broadcast",
        }
    }

    /// Whether descriptors can travel with what is passed.
    pub(crate) fn carries_descriptors(self) -> bool {
        match self {
            Form::Exchange | Form::Queue => true,
            Form::Stream | Form::Broadcast => false,
        }
    }

    /// Whether what was passed to a server that has ended can go on at its successor because its head says that nobody
    /// has begun it. A queue has marks of its own.
    pub(crate) fn can_be_followed(self) -> bool {
        match self {
            Form::Exchange => true,
            Form::Queue | Form::Stream | Form::Broadcast => false,
        }
    }

    /// Whether what was passed can be kept by a process that is neither side.
    pub(crate) fn can_be_kept(self) -> bool {
        match self {
            Form::Queue => true,
            Form::Exchange | Form::Stream | Form::Broadcast => false,
        }
    }

    /// Whether several servers can share a name, each with a part of what comes: a message is anybody's, and a call or
    /// a connection is for the one that was asked.
    pub(crate) fn can_be_shared(self) -> bool {
        match self {
            Form::Queue => true,
            Form::Exchange | Form::Stream | Form::Broadcast => false,
        }
    }

    /// What the side that takes the name is built with, for sentences that name a cure.
    pub(crate) fn builder_name(self) -> &'static str {
        match self {
            Form::Exchange => "ServerBuilder",
            Form::Queue => "ReceiverBuilder",
            Form::Stream => "StreamListenerBuilder",
            Form::Broadcast => "PublisherBuilder",
        }
    }

    /// How the side that takes the name is started.
    pub(crate) fn starting(self) -> Starting {
        match self {
            Form::Exchange => Starting { type_name: "Server", command: "serve", flags: " --do echo" },
            Form::Queue => Starting { type_name: "Receiver", command: "queue recv", flags: " --keep" },
            Form::Stream => Starting { type_name: "StreamListener", command: "stream listen", flags: "" },
            Form::Broadcast => Starting { type_name: "Publisher", command: "publish", flags: "" },
        }
    }

    /// What a session's capacity counts, and the method of the builder that sets it.
    pub(crate) fn capacity_words(self) -> (&'static str, &'static str) {
        match self {
            Form::Exchange | Form::Queue | Form::Broadcast => ("bytes of capacity", "capacity"),
            Form::Stream => ("bytes for a ring", "ring_bytes"),
        }
    }

    /// The slots of a session, where neither side says otherwise; of a stream always its rings, of a broadcast the
    /// messages that a subscriber holds at a time.
    pub(crate) fn default_slots(self) -> usize {
        match self {
            Form::Exchange => 16,
            Form::Queue => 256,
            Form::Stream => 2,
            Form::Broadcast => 4,
        }
    }

    /// The bytes of a payload or of a ring, where neither side says otherwise.
    ///
    /// A ring is larger than a second-level cache on purpose. In one that fits there, each line is still in the other
    /// processor's cache when it is written again, and fetching it from there is the slowest way: 1.3 to 4 times the
    /// time of one that has long gone to the cache that both share (docs/benchmarks.md).
    pub(crate) fn default_capacity(self) -> usize {
        match self {
            Form::Exchange => 1 << 20,
            Form::Queue | Form::Broadcast => 64 << 10,
            Form::Stream => 2 << 20,
        }
    }

    /// Whether new sessions wait for the program to accept them, as at a listening socket, and not for a worker.
    pub(crate) fn has_backlog(self) -> bool {
        match self {
            Form::Exchange | Form::Queue | Form::Broadcast => false,
            Form::Stream => true,
        }
    }

    /// Whether the publisher's memory is sent with the welcome: one for all sessions, which their clients read.
    pub(crate) fn has_board(self) -> bool {
        match self {
            Form::Exchange | Form::Queue | Form::Stream => false,
            Form::Broadcast => true,
        }
    }

    /// Whether the bodies are byte rings, each mapped twice in a row, and not the payloads of slots.
    pub(crate) fn has_rings(self) -> bool {
        match self {
            Form::Exchange | Form::Queue | Form::Broadcast => false,
            Form::Stream => true,
        }
    }

    /// Whether slots are passed one after the other, so that a worker looks at one of them.
    pub(crate) const fn in_slot_order(self) -> bool {
        match self {
            Form::Exchange | Form::Stream | Form::Broadcast => false,
            Form::Queue => true,
        }
    }

    /// Whether the words behind the slot lines say when a message was committed, and not until when a call waits.
    pub(crate) fn has_commit_times(self) -> bool {
        match self {
            Form::Exchange | Form::Stream | Form::Broadcast => false,
            Form::Queue => true,
        }
    }

    /// Whether the server's line says that no request is taken, so that a client can tell what nobody has executed. A
    /// sender keeps what was not acknowledged, and a stream has no requests.
    pub(crate) fn has_closed_word(self) -> bool {
        match self {
            Form::Exchange => true,
            Form::Queue | Form::Stream | Form::Broadcast => false,
        }
    }

    /// Whether the server keeps a copy of what another user has sent for as long as somebody has it. A request has its
    /// own copy, and a stream's bytes are copied out by the reader.
    pub(crate) fn keeps_copies_of_other_users(self) -> bool {
        match self {
            Form::Exchange | Form::Stream | Form::Broadcast => false,
            Form::Queue => true,
        }
    }

    /// What the server does with a session whose client has gone by itself.
    pub(crate) fn on_peer_gone(self) -> OnPeerGone {
        match self {
            Form::Exchange | Form::Stream | Form::Broadcast => OnPeerGone::Reclaim,
            Form::Queue => OnPeerGone::Drain,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Form::Exchange => "exchange",
            Form::Queue => "queue",
            Form::Stream => "stream",
            Form::Broadcast => "broadcast",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_found_by_its_number_and_no_other_is() {
        for number in 0..=u8::MAX {
            assert_eq!(Form::from_number(number).map(Form::number), (number < 4).then_some(number));
        }
    }

    #[test]
    fn what_a_session_s_slots_are_is_one_decision() {
        for form in (0..=u8::MAX).filter_map(Form::from_number) {
            let is_queue = form.in_slot_order();
            assert_eq!(form.has_commit_times(), is_queue, "{form}: a message without a deadline has the word free");
            assert_eq!(form.on_peer_gone() == OnPeerGone::Drain, is_queue, "{form}: what is drained is in order");
            assert!(
                !form.has_rings() || !form.in_slot_order() && !form.has_closed_word(),
                "{form}: rings have no slots"
            );
        }
    }

    #[test]
    fn each_decision_is_the_one_that_users_and_documents_know() {
        let decisions = |form: Form| {
            let bits = [
                form.has_backlog(),
                form.has_rings(),
                form.in_slot_order(),
                form.has_commit_times(),
                form.has_closed_word(),
                form.keeps_copies_of_other_users(),
                form.has_board(),
            ];
            (form.default_slots(), form.default_capacity(), bits.map(u8::from))
        };
        assert_eq!(decisions(Form::Exchange), (16, 1 << 20, [0, 0, 0, 0, 1, 0, 0]));
        assert_eq!(decisions(Form::Queue), (256, 64 << 10, [0, 0, 1, 1, 0, 1, 0]));
        assert_eq!(decisions(Form::Stream), (2, 2 << 20, [1, 1, 0, 0, 0, 0, 0]));
        assert_eq!(decisions(Form::Broadcast), (4, 64 << 10, [0, 0, 0, 0, 0, 0, 1]));
        let words = |form: Form| {
            let Starting { type_name, command, flags } = form.starting();
            [form.contract_ending(), form.builder_name(), type_name, command, flags, form.capacity_words().1]
        };
        assert_eq!(words(Form::Exchange), ["", "ServerBuilder", "Server", "serve", " --do echo", "capacity"]);
        assert_eq!(
            words(Form::Queue),
            [" as a queue", "ReceiverBuilder", "Receiver", "queue recv", " --keep", "capacity"]
        );
        assert_eq!(
            words(Form::Stream),
            [" as a stream", "StreamListenerBuilder", "StreamListener", "stream listen", "", "ring_bytes"]
        );
        assert_eq!(
            words(Form::Broadcast),
            [" as a broadcast", "PublisherBuilder", "Publisher", "publish", "", "capacity"]
        );
        assert_eq!(Form::Stream.capacity_words().0, "bytes for a ring");
        assert_eq!(
            [Form::Exchange, Form::Queue, Form::Stream, Form::Broadcast].map(|form| form.to_string()),
            ["exchange", "queue", "stream", "broadcast"]
        );
    }
}
