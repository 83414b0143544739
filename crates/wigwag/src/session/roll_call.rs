//! Who shares a name, for somebody who has to know of all of them: looked at anew when their directory has changed.
//!
//! Whoever is at work anyway asks now and then, which costs one look at the directory's time of change. Who sleeps is
//! told, as of a server that is missing.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::session::members::Members;
use crate::session::name::ServiceName;
use crate::session::server_watch::{BLIND, Outlook, SILENCE, ServerWatch};
use crate::sys::epoll::Poller;

/// How often somebody who is at work asks.
const EVERY: Duration = Duration::from_millis(100);

/// What is known of those who share a name.
#[derive(Debug)]
pub struct RollCall {
    place: ServiceName,
    server_uid: u32,
    members: Members,
    looked_at: Option<Instant>,
    /// When the directories changed last, as of that look.
    changed: Vec<(i64, i64)>,
    /// Nothing has changed since the look before: what comes in the moment of a look has the same time.
    is_settled: bool,
    /// Something has changed since that was asked last.
    has_changed: bool,
    watch: ServerWatch,
}

impl RollCall {
    /// Of nobody yet.
    pub fn new(place: ServiceName, server_uid: u32) -> RollCall {
        RollCall {
            place,
            server_uid,
            members: Members::default(),
            looked_at: None,
            changed: Vec::new(),
            is_settled: false,
            has_changed: false,
            watch: ServerWatch::default(),
        }
    }

    /// The name that is shared.
    pub fn place(&self) -> &ServiceName {
        &self.place
    }

    /// Who shares the name, as of the last look, which was not long ago.
    pub fn members(&mut self) -> Members {
        let has_news = self.watch.has_news();
        let now = Instant::now();
        if !has_news && self.looked_at.is_some_and(|at| now.duration_since(at) < EVERY) {
            return self.members;
        }
        self.looked_at = Some(now);
        let times = self.place.places().map(|path| {
            let metadata = std::fs::metadata(path);
            metadata.map_or((0, 0), |metadata| (metadata.mtime(), metadata.mtime_nsec()))
        });
        let changed: Vec<_> = times.collect();
        let mut is_settled = changed == self.changed;
        self.has_changed |= has_news || !is_settled;
        if has_news || !is_settled || !self.is_settled {
            match self.place.living_members(self.server_uid) {
                Ok(members) => self.members = members,
                Err(_) => is_settled = false, // nothing could be seen: it is looked at again, changed or not
            }
        }
        (self.changed, self.is_settled) = (changed, is_settled);
        self.members
    }

    /// Whether something has changed there since this was asked last, so that who was missing may be there.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// One of them was not there when it was asked. The next look, which is soon, says whether it has its lock,
    /// although nothing changes in the directory when a process ends.
    pub fn doubt(&mut self) {
        self.is_settled = false;
    }

    /// From now on that poller tells of a change, too, but for some, for which it is to be asked after that time.
    pub fn watch(&mut self, poller: &Poller, key: u64) -> Duration {
        match self.watch.watch(&self.place, poller, key) {
            Outlook::Anew => {
                (self.looked_at, self.is_settled) = (None, false); // what came until now is not told
                Duration::ZERO
            }
            Outlook::Watched => SILENCE,
            Outlook::Blind => BLIND,
        }
    }
}
