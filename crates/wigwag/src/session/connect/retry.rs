//! When a handshake that came to nothing is tried again, and when it is given up.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, spoken};
use crate::session::agreement::Protocol;
use crate::session::connect::{ClientHandshake, Stage, over};
use crate::session::name::CURE;
use crate::session::server_watch::{self, Outlook};
use crate::sys::clock;

/// Of a handshake: a server that is missing may have come.
pub(super) const KEY_SERVER_WATCH: u64 = 4;

/// First and longest pause before a server that has gone, or does not answer, is asked again.
const LOST_PAUSES: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(20));
/// First and longest pause before a socket is tried again whose server may be about to listen.
const STARTING_PAUSES: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(100));
/// First and longest pause before a server whose queue of connections is full is tried again.
pub(super) const QUEUE_PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(10));
/// First and longest pause before a server that had no place just now is asked again.
pub(super) const BUSY_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

impl ClientHandshake {
    /// Tries again later what may come to something later.
    pub(super) fn rest_after(&mut self, error: Error) -> Result<()> {
        self.greeting = Protocol::V2; // another server may be there, then
        match error.kind() {
            ErrorKind::Busy => self.rest_until_there_is_room(error),
            ErrorKind::NotRunning
            | ErrorKind::PeerDied { .. }
            | ErrorKind::ServerClosed { .. }
            | ErrorKind::TimedOut { .. } => self.rest_until_somebody_is_there(error),
            _ => Err(error),
        }
    }

    fn rest_until_there_is_room(&mut self, error: Error) -> Result<()> {
        let at = self.after_pause(BUSY_PAUSES);
        // Whoever waits for a server that is not there waits as long for one that has no place.
        let until = self.deadline.and_then(|deadline| self.missing_until.map(|missing| missing.max(deadline)));
        if until.is_some_and(|until| at.is_none_or(|at| until <= at)) {
            return Err(error);
        }
        if self.deadline.is_some_and(|deadline| at.is_none_or(|at| deadline <= at)) {
            self.deadline = None; // the next handshake has all the time that is allowed
        }
        self.busy = Some(error);
        self.stage = Stage::Resting(at, None);
        Ok(())
    }

    fn rest_until_somebody_is_there(&mut self, error: Error) -> Result<()> {
        let (lost, busy) = (self.lost.take(), self.busy.take());
        let error = match error.kind() {
            // What it said before says more than that it did not answer again.
            ErrorKind::TimedOut { .. } => lost.or(busy).unwrap_or(error),
            _ => error,
        };
        let now = Instant::now();
        if self.missing_until.is_some_and(|until| until <= now) {
            return Err(self.waited_in_vain(error));
        }
        (self.deadline, self.denied) = (None, None); // the next one has all the time that is allowed
        let at = match error.kind() {
            ErrorKind::NotRunning => self.look_again_at(now)?,
            _ => self.after_pause(LOST_PAUSES),
        };
        self.stage = Stage::Resting(at.into_iter().chain(self.missing_until).min(), Some(error));
        Ok(())
    }

    /// When a server that is missing is looked for again, if nothing is heard of it before.
    fn look_again_at(&mut self, now: Instant) -> Result<Option<Instant>> {
        let place = self.place()?;
        let poller = self.poller.as_ref().ok_or_else(over)?;
        let outlook = self.server_watch.watch(&place, poller, KEY_SERVER_WATCH);
        Ok(match outlook {
            _ if self.has_news => Some(now), // somebody came after the look that found nobody
            Outlook::Anew => Some(now),
            Outlook::Blind => now.checked_add(server_watch::BLIND),
            // Nothing tells that somebody begins to listen.
            Outlook::Watched if self.is_refused && !place.is_left_over(self.server_uid) => {
                self.after_pause(STARTING_PAUSES)
            }
            Outlook::Watched => {
                self.pause = Duration::ZERO;
                now.checked_add(server_watch::SILENCE)
            }
        })
    }

    /// The error, with the time that was allowed if there was any.
    fn waited_in_vain(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NotRunning || self.options.server_timeout.is_zero() {
            return error;
        }
        let text = error.to_string();
        let (what, cure) = text.split_at(text.find(CURE).unwrap_or(text.len()));
        let (allowed, setting) = (spoken(self.options.server_timeout), self.setting);
        let sentence = format!("{what}, and none came within {allowed} (ConnectOptions::{setting}){cure}");
        error.retold(sentence)
    }

    /// When the next pause is over: each is twice as long as the one before, and all are of uneven length, so that many
    /// clients do not come back all at once.
    pub(super) fn after_pause(&mut self, (first, longest): (Duration, Duration)) -> Option<Instant> {
        self.pause = (self.pause * 2).clamp(first, longest);
        let now = Instant::now();
        let dice = f64::from(clock::now_ns() as u32 % 1024) / 1024.0;
        now.checked_add(self.pause.mul_f64(0.5 + dice / 2.0))
    }
}
