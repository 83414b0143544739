//! What a subscriber of a broadcast says of itself, read from its session's own memory: true also of one that is
//! stopped, and anything at all of one that lies.

use std::os::fd::OwnedFd;

use crate::memory::layout::{CLIENT_LINE_OFFSET, Geometry, HOLDS_OFFSET};
use crate::observe::memories::words;

/// Where a subscriber is, and what it has lost.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut publisher = wigwag::Publisher::bind(name)?;
/// let subscriber = wigwag::Subscriber::connect(name)?;
/// publisher.wait_for_subscribers(1, std::time::Duration::from_secs(5))?;
/// publisher.send(b"unread")?;
/// let snapshot = wigwag::observe::Observer::open(name)?.snapshot()?;
/// let subscription = snapshot.sessions[0].subscription.clone().expect("it is this very process");
/// assert_eq!((snapshot.published, subscription.lag, subscription.lost), (1, 1, 0));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// Messages that were published and that it has not taken.
    pub lag: u64,
    /// Messages that it took.
    pub received: u64,
    /// Messages that it has lost.
    pub lost: u64,
    /// Messages that it holds in place.
    pub holds: u64,
    /// Whether it sleeps until the next one.
    pub is_asleep: bool,
}

impl Subscription {
    /// Reads the memory of a session, of a publisher whose last message has that number.
    pub(super) fn read(memory: &OwnedFd, geometry: &Geometry, published: u64) -> Option<Subscription> {
        // `waiting` and `processor`, `cursor`, `received`, `lost`.
        let line = words(memory, CLIENT_LINE_OFFSET, 4)?;
        let holds = words(memory, HOLDS_OFFSET, geometry.slots)?;
        let [first, cursor, received, lost] = *line.first_chunk()?;
        let waiting = first.to_ne_bytes();
        Some(Subscription {
            lag: if cursor == 0 { 0 } else { published.saturating_add(1).saturating_sub(cursor) },
            received,
            lost,
            holds: holds.iter().filter(|hold| **hold != 0).count() as u64,
            is_asleep: waiting[..4] != [0; 4],
        })
    }
}
