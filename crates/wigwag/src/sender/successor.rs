//! What a sender does when its receiver is gone: finds the next one, and hands over what was not acknowledged.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use super::{Patience, Sender, SenderBuilder, is_acknowledgement};
use crate::connection::Connection;
use crate::control::attach::{self, Wishes};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Head, INLINE_CAPACITY, Kind};
use crate::outbox::Outbox;
use crate::slot;
use crate::sync::Ordering;
use crate::sys::clock;

/// First pause between two looks for a receiver that is missing; they grow.
const PAUSE_FIRST: Duration = Duration::from_micros(500);
/// Longest pause.
const PAUSE_LONGEST: Duration = Duration::from_millis(20);

impl Sender {
    /// The receiver is gone. Finds the next one, and hands it what the last one did not acknowledge.
    #[cold]
    pub(super) fn reconnect(&mut self, patience: Patience) -> Result<()> {
        let wishes = self.wishes_for_successor()?;
        let by_builder = clock::deadline_after(self.builder.receiver_timeout);
        let by_call = patience.deadline();
        let deadline = match (by_builder, by_call) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let connection =
            self.builder.find_receiver(&self.name, wishes, deadline).map_err(|error| self.missing(error))?;
        self.move_to(connection);
        Ok(())
    }

    /// What is asked of the next receiver: all under way shall fit, so the new session is as large as the old one or is refused. After
    /// a violation there is none.
    pub(super) fn wishes_for_successor(&self) -> Result<Wishes> {
        match self.connection.check_alive(false) {
            Err(error) if error.kind() == ErrorKind::Violation => Err(error),
            _ => {
                Ok(Wishes { slots: Some(self.slots()), capacity: Some(self.capacity()), ..self.builder.wishes.clone() })
            }
        }
    }

    /// Sends what is not acknowledged to the receiver of a new session, and everything from now on.
    pub(super) fn move_to(&mut self, connection: Connection) {
        let slots = connection.geometry().slots;
        let old_outbox = std::mem::replace(&mut self.outbox, Outbox::new(slots, slot::before_first()));
        let old = std::mem::replace(&mut self.connection, connection);
        self.counters.reconnects += 1;
        self.counters.doorbells_rung += old.doorbells_rung();
        self.counters.sleeps += old.sleeps();
        let mut bytes = Vec::new();
        for record in (0..old_outbox.len()).filter_map(|place| old_outbox.get(place)) {
            let line = old.segment().line(record.slot);
            let turn = slot::load(&line.turn);
            let word = line.head.load(Ordering::Relaxed); // of a process that is gone; read once
            if !turn.is_server() && turn.sequence() == record.sequence && is_acknowledgement(word) {
                self.counters.acknowledged += 1;
                continue;
            }
            // Only what the last receiver cannot have had goes out as new.
            let was_untouched = matches!(Head::parse(word), Some(Head { kind: Kind::Message, .. }));
            let is_redelivered = record.is_redelivered || !was_untouched;
            let in_body = record.len > INLINE_CAPACITY;
            bytes.resize(record.len, 0);
            old.segment().copy_out(record.slot, in_body, &mut bytes);
            let segment = self.connection.segment();
            segment.copy_in(self.outbox.next(), in_body, &bytes);
            let record = self.outbox.push(record.len, is_redelivered, slot::next_sequence);
            let kind = if is_redelivered { Kind::Redelivered } else { Kind::Message };
            let head = Head { len: record.len as u32, kind, in_body, has_deadline: false };
            self.connection.pass_silently(segment.line(record.slot), head, record.sequence);
            self.counters.redelivered += u64::from(is_redelivered);
        }
        self.connection.ring_if_asleep();
    }

    #[cold]
    pub(super) fn missing(&self, error: Error) -> Error {
        let kept = self.unacknowledged();
        let sentence = format!(
            "the receiver is gone, and no other took its place: {error}; {kept} messages are kept for one, which the next call \
             looks for again (SenderBuilder::receiver_timeout says for how long)"
        );
        // One that went away while it was asked is as missing as one that was never there.
        let kind = match error.kind() {
            ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. } => ErrorKind::NotRunning,
            kind => kind,
        };
        Error::new(kind, sentence)
    }
}

impl SenderBuilder {
    /// Connects, and while nobody receives tries again until the deadline.
    pub(super) fn find_receiver(
        &self,
        name: &OsStr,
        mut wishes: Wishes,
        deadline: Option<Instant>,
    ) -> Result<Connection> {
        let mut pause = PAUSE_FIRST;
        loop {
            let remaining = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if let Some(remaining) = remaining.filter(|remaining| !remaining.is_zero()) {
                wishes.timeout = self.wishes.timeout.min(remaining);
            }
            let error = match attach::attach(name, &wishes) {
                Ok(attachment) => {
                    let connection = Connection::new(attachment, self.wait);
                    connection.awaits_no_replies();
                    return Ok(connection);
                }
                Err(error) => error,
            };
            let is_missing = matches!(
                error.kind(),
                ErrorKind::NotRunning
                    | ErrorKind::PeerDied { .. }
                    | ErrorKind::ServerClosed { .. }
                    | ErrorKind::TimedOut { .. }
            );
            let remaining = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if !is_missing || remaining.is_some_and(|remaining| remaining.is_zero()) {
                return Err(error);
            }
            std::thread::sleep(remaining.map_or(pause, |remaining| pause.min(remaining)));
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }
}
