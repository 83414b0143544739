//! What each handle has counted.

/// What a [`Client`](crate::Client) has counted since it connected.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let server = wigwag::Server::bind(name)?;
/// let client = wigwag::Client::connect(name)?;
/// assert_eq!(client.stats().calls, 0);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Requests passed to the server.
    pub calls: u64,
    /// Of these, with a system call because the server slept.
    pub doorbells_rung: u64,
    /// Times this client slept until a doorbell rang.
    pub sleeps: u64,
    /// Times the reply came while this client spun for longer than the first moments.
    pub spins_paid: u64,
    /// Times it did not, and this client went to sleep after all.
    pub spins_in_vain: u64,
    /// Calls under way: passed to the server and not answered.
    pub in_flight: u64,
    /// Calls given up before their reply came.
    pub abandoned: u64,
    /// Sessions made after the first, because the server had ended: see
    /// [`ConnectOptions::reconnect`](crate::ConnectOptions::reconnect).
    pub reconnects: u64,
    /// Calls that a server had not begun when it ended, and that went on at its successor: see
    /// [`ConnectOptions::follow_restarts`](crate::ConnectOptions::follow_restarts). Each is one of `calls`, once.
    pub moved: u64,
}

impl ClientStats {
    /// What two sessions of a client have counted.
    pub(crate) fn and(self, other: ClientStats) -> ClientStats {
        ClientStats {
            calls: self.calls + other.calls,
            doorbells_rung: self.doorbells_rung + other.doorbells_rung,
            sleeps: self.sleeps + other.sleeps,
            spins_paid: self.spins_paid + other.spins_paid,
            spins_in_vain: self.spins_in_vain + other.spins_in_vain,
            in_flight: self.in_flight + other.in_flight,
            abandoned: self.abandoned + other.abandoned,
            reconnects: self.reconnects + other.reconnects,
            moved: self.moved + other.moved,
        }
    }
}

/// What a [`Server`](crate::Server) has counted since it was bound.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let server = wigwag::Server::bind(name)?;
/// assert_eq!(server.stats(), wigwag::ServerStats::default());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Sessions alive.
    pub sessions: u64,
    /// Sessions ever granted.
    pub sessions_accepted: u64,
    /// Handshakes refused or failed.
    pub sessions_refused: u64,
    /// Sessions ended because the client broke the protocol.
    pub violations: u64,
    /// Requests answered.
    pub calls: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Calls whose handler returned an error or panicked, or whose request was dropped unanswered.
    pub failed: u64,
    /// Replies that needed a system call because the client slept.
    pub doorbells_rung: u64,
    /// Times a serving thread slept.
    pub sleeps: u64,
}

/// What a [`Sender`](crate::Sender) has counted since it connected.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let receiver = wigwag::Receiver::bind(name)?;
/// let sender = wigwag::Sender::connect(name)?;
/// assert_eq!(sender.stats().sent, 0);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderStats {
    /// Messages sent, each counted once.
    pub sent: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// Times a message that a receiver had been handed was sent again, to its successor.
    pub redelivered: u64,
    /// Messages that were not sent, because the queue was full, the time ran out, nobody received, or they were too
    /// long.
    pub refused: u64,
    /// Receivers found after one was gone.
    pub reconnects: u64,
    /// Times the receiver had to be rung for because it slept.
    pub doorbells_rung: u64,
    /// Times this sender slept until something was acknowledged.
    pub sleeps: u64,
}

impl SenderStats {
    /// The sums of both.
    pub(crate) fn and(self, other: &SenderStats) -> SenderStats {
        SenderStats {
            sent: self.sent + other.sent,
            acknowledged: self.acknowledged + other.acknowledged,
            redelivered: self.redelivered + other.redelivered,
            refused: self.refused + other.refused,
            reconnects: self.reconnects + other.reconnects,
            doorbells_rung: self.doorbells_rung + other.doorbells_rung,
            sleeps: self.sleeps + other.sleeps,
        }
    }
}

/// What a [`Receiver`](crate::Receiver) has counted since it was bound.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let receiver = wigwag::Receiver::bind(name)?;
/// assert_eq!(receiver.stats(), wigwag::ReceiverStats::default());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverStats {
    /// Messages handed out, each time they were.
    pub received: u64,
    /// Of these, those that had been handed out before, here or by a former receiver.
    pub redelivered: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages given back to be delivered again.
    pub returned: u64,
    /// Senders connected.
    pub senders: u64,
    /// Senders that ever connected.
    pub senders_accepted: u64,
    /// Handshakes refused or failed.
    pub senders_refused: u64,
    /// Sessions ended because the sender broke the protocol.
    pub violations: u64,
    /// Times a receiving thread slept.
    pub sleeps: u64,
}
