//! Whom a lossless publisher waits for, and for how long.
//!
//! The message that would take an entry's place waits until every subscriber that counts has taken the one that lies
//! there. The time that one keeps the publisher waiting is added up over a lap, as many messages as are kept; beyond
//! its patience the publisher cuts it off. A subscriber counts once it has said where it reads, and no more when it is
//! gone: dead, as the kernel reports, or cut off.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::spoken;
use crate::memory::doorbell::Waiting;
use crate::service::session::Session;
use crate::session::protocol::Reason;
use crate::sync::Ordering;

/// The books.
pub struct Laggards {
    patience: Duration,
    entries: u64,
    /// Messages below this number have room.
    room_until: u64,
    by_session: HashMap<u64, Debt>,
}

/// What one subscriber has cost.
#[derive(Default)]
struct Debt {
    waited: Duration,
    /// The lap is over when the publisher is here. A cursor does not tell: its subscriber may write anything there.
    lap_ends: u64,
    is_cut_off: bool,
}

impl Laggards {
    /// Nobody is waited for yet.
    pub fn new(patience: Duration, entries: usize) -> Laggards {
        Laggards { patience, entries: entries as u64, room_until: 0, by_session: HashMap::new() }
    }

    /// How long the publisher waits for one subscriber within a lap; zero: never.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Somebody came or went.
    pub fn follow(&mut self, own: &[Arc<Session>]) {
        self.room_until = 0;
        self.by_session.retain(|id, _| own.iter().any(|session| session.id == *id));
    }

    /// Whether message `sequence` has room: the usual way looks at nobody.
    #[inline(always)]
    pub fn has_room(&mut self, own: &[Arc<Session>], sequence: u64) -> bool {
        sequence < self.room_until || self.look(own, sequence)
    }

    #[cold]
    fn look(&mut self, own: &[Arc<Session>], sequence: u64) -> bool {
        let slowest = own.iter().filter_map(|session| self.cursor(session)).min();
        // Without anybody to wait for there is room for a lap, after which is looked again.
        self.room_until = slowest.unwrap_or(sequence).saturating_add(self.entries);
        sequence < self.room_until
    }

    /// Where a subscriber reads, if it counts.
    fn cursor(&self, session: &Session) -> Option<u64> {
        // Acquire: what it has read, it has read. Partner: `Input::tell_cursor`.
        let cursor = session.segment.subscriber_line().cursor.load(Ordering::Acquire);
        (cursor != 0 && !self.is_cut_off(session)).then_some(cursor)
    }

    fn is_cut_off(&self, session: &Session) -> bool {
        self.by_session.get(&session.id).is_some_and(|debt| debt.is_cut_off)
    }

    /// Below which number every subscriber has taken all messages, where the next one is `sequence`. Whoever has not
    /// said yet where it reads may read any of them.
    pub fn taken(&self, own: &[Arc<Session>], sequence: u64) -> u64 {
        let cursors = own.iter().filter_map(|session| match self.cursor(session) {
            None if self.is_cut_off(session) => None,
            cursor => Some(cursor.unwrap_or(0)),
        });
        cursors.min().map_or(sequence, |slowest| slowest.min(sequence))
    }

    fn blockers<'s>(&self, own: &'s [Arc<Session>], sequence: u64) -> Vec<&'s Arc<Session>> {
        let blocks = |cursor: u64| cursor.saturating_add(self.entries) <= sequence;
        own.iter().filter(|session| self.cursor(session).is_some_and(blocks)).collect()
    }

    /// Asks all who are waited for to ring. `false`: there is room meanwhile.
    pub fn announce(&mut self, own: &[Arc<Session>], sequence: u64) -> bool {
        for session in self.blockers(own, sequence) {
            Waiting(&session.segment.server_line().waiting).announce();
        }
        !self.look(own, sequence)
    }

    /// How long is left until the first one is cut off.
    pub fn left(&self, own: &[Arc<Session>], sequence: u64) -> Duration {
        let waited = |session: &Arc<Session>| self.by_session.get(&session.id).map_or(Duration::ZERO, |it| it.waited);
        let left = self.blockers(own, sequence).into_iter().map(|it| self.patience.saturating_sub(waited(it)));
        left.min().unwrap_or(self.patience)
    }

    /// The publisher has waited so long for those who block. Whoever has had all of its patience is cut off.
    pub fn charge(&mut self, own: &[Arc<Session>], sequence: u64, waited: Duration) -> u64 {
        let mut cut_off = 0;
        for session in self.blockers(own, sequence) {
            let cursor = session.segment.subscriber_line().cursor.load(Ordering::Relaxed);
            let debt = self.by_session.entry(session.id).or_default();
            if sequence >= debt.lap_ends {
                *debt = Debt { lap_ends: sequence.saturating_add(self.entries), ..Debt::default() };
            }
            debt.waited += waited;
            if debt.waited >= self.patience {
                debt.is_cut_off = true;
                cut_off += 1;
                let (patience, kept) = (spoken(self.patience), self.entries - 1);
                session.end(
                    Reason::Refused,
                    format!(
                        "this subscriber kept the publisher waiting for more than {patience} within {kept} messages \
                         (PublisherBuilder::overrun), and was cut off before message {cursor}: read faster, or ask \
                         for more history or patience"
                    ),
                );
            }
        }
        if cut_off > 0 {
            self.room_until = 0;
        }
        cut_off
    }
}
