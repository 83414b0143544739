//! What a control thread asks of the [keeper](crate::service::keeping) of its messages. A sender is welcomed once the
//! keeper has its memory, or is known not to have it.

use std::time::Instant;

use crate::error::{ErrorKind, Result};
use crate::service::control_thread::{ControlThread, KEY_KEEPER, KEY_KEEPER_WATCH};
use crate::service::handshake::Handshake;
use crate::service::keeping::{Keeping, Registered, is_waited_for, obstacle};
use crate::service::launch::Launch;
use crate::session::keeping::{EVERYTHING, FromKeeper};
use crate::session::protocol::Reason;
use crate::statistics::KeepingState;
use crate::sys::epoll::Poller;
use crate::trace;

/// Connects to the keeper that was asked for. Where there must be one, there is one now.
pub(super) fn begin(launch: &Launch, poller: &Poller) -> Result<Option<Keeping>> {
    let Some(mut keeping) = Keeping::of(&launch.options, launch.address.clone())? else { return Ok(None) };
    match keeping.connect(poller, KEY_KEEPER) {
        Err(error) if !keeping.allows_unkept => return Err(error),
        Err(error) => {
            trace::keeper_missing(&keeping.place().path(), &error);
            keeping.await_keeper(poller, KEY_KEEPER_WATCH);
            keeping.rest();
        }
        Ok(()) => {}
    }
    Ok(Some(keeping))
}

impl ControlThread {
    /// Has what was prepared for a newcomer kept; it is welcomed when that is known.
    pub(super) fn keep(&mut self, id: u64, mut handshake: Handshake) {
        let (Some(keeping), Some(offer)) = (&mut self.keeping, &mut handshake.offer) else {
            return self.welcome(id, handshake);
        };
        offer.keeping = KeepingState::Unkept;
        let asked = match (obstacle(handshake.trust, offer.agreement, offer.pidfd.as_ref()), &offer.pidfd) {
            (None, Some(pidfd)) => {
                offer.kept = Some(keeping.session(id));
                let (sender, memory) = (handshake.peer.pid, &*offer.memory);
                let (geometry, agreement) = (offer.segment.geometry(), offer.agreement);
                let registered = Registered { number: id, sender, memory, pidfd, geometry, agreement };
                keeping.ask(&registered).map_err(|why| (Reason::Later, why))
            }
            (why, _) => Err((Reason::Refused, why.unwrap_or_default())),
        };
        match asked {
            Ok(()) if is_waited_for() => self.handshakes.insert(id, handshake),
            Ok(()) => self.welcome(id, handshake),
            Err((reason, why)) => self.go_on_unkept(id, handshake, reason, &why),
        }
    }

    /// A newcomer's messages will not be kept: whether it is welcomed is the receiver's choice.
    fn go_on_unkept(&mut self, id: u64, handshake: Handshake, reason: Reason, why: &str) {
        if self.keeping.as_ref().is_some_and(|keeping| keeping.allows_unkept) {
            trace::unkept(id, handshake.peer.pid, why);
            return self.welcome(id, handshake);
        }
        let why = format!("the receiver lets in only senders whose messages are kept, and these are not: {why}");
        self.turn_away(id, handshake, reason, &why);
    }

    /// The keeper has said something, or is gone.
    pub(super) fn hear_keeper(&mut self) {
        loop {
            let Some(keeping) = &mut self.keeping else { return };
            match keeping.hear() {
                Ok(None) => break,
                Ok(Some(FromKeeper::Kept(number))) => self.is_kept(number, KeepingState::Kept, ""),
                Ok(Some(FromKeeper::Unkept(EVERYTHING, why))) => return self.lose_keeper(&why, true),
                Ok(Some(FromKeeper::Unkept(number, why))) => self.is_kept(number, KeepingState::Unkept, &why),
                Ok(Some(FromKeeper::Counts(_))) => {} // nobody has asked
                Err(why) => return self.lose_keeper(&why, false),
            }
        }
        self.register_enlisted();
    }

    /// What the keeper has answered.
    fn is_kept(&mut self, number: u64, keeping: KeepingState, why: &str) {
        if let Some(live) = self.sessions.get(&number) {
            if keeping == KeepingState::Unkept {
                trace::unkept(number, live.session.peer.pid, why);
            }
            return live.session.record.note_keeping(keeping);
        }
        let Some(mut handshake) = self.handshakes.remove(number) else { return };
        let Some(offer) = &mut handshake.offer else { return self.handshakes.insert(number, handshake) };
        offer.keeping = keeping;
        match (offer.is_welcomed, keeping) {
            (true, _) => self.handshakes.insert(number, handshake),
            (false, KeepingState::Kept) => self.welcome(number, handshake),
            (false, _) => self.go_on_unkept(number, handshake, Reason::Later, why),
        }
    }

    /// The connection to the keeper is over: what it had is not kept from here on, and a keeper that comes is told of
    /// it. One that `is_there`, and does not keep anything or does not answer, is left alone for a while.
    #[cold]
    fn lose_keeper(&mut self, why: &str, is_there: bool) {
        let Some(keeping) = &mut self.keeping else { return };
        keeping.unlink(&self.poller);
        trace::keeper_lost(&keeping.place().path(), why);
        if is_there {
            keeping.rest();
        }
        for live in self.sessions.values() {
            live.session.record.note_keeping(KeepingState::Unkept);
        }
        for id in self.handshakes.waiting_for_keeper() {
            if let Some(handshake) = self.handshakes.remove(id) {
                self.go_on_unkept(id, handshake, Reason::Later, why);
            }
        }
        if !is_there {
            self.look_for_keeper();
        }
    }

    /// An answer may be late, or it is time to look whether there is a keeper.
    pub(super) fn look_after_keeper(&mut self, now: Instant) {
        let Some(keeping) = &self.keeping else { return };
        if keeping.is_late(now) {
            return self.lose_keeper("the keeper does not answer: it may be stopped", true);
        }
        if !keeping.is_linked() && keeping.is_to_look(now) {
            self.look_for_keeper();
        }
    }

    /// Looks whether there is a keeper, and has it keep what there is.
    pub(super) fn look_for_keeper(&mut self) {
        let Some(keeping) = &mut self.keeping else { return };
        let _ = keeping.is_to_look(Instant::now()); // what the watch had to say is heard
        if keeping.is_linked() || self.shared.is_shutting_down() {
            return;
        }
        loop {
            match keeping.connect(&self.poller, KEY_KEEPER) {
                Ok(()) => break,
                // Between the look and the watch one may have come.
                Err(_) if keeping.await_keeper(&self.poller, KEY_KEEPER_WATCH) => {}
                Err(error) => {
                    if error.kind() != ErrorKind::NotRunning {
                        trace::keeper_missing(&keeping.place().path(), &error);
                    }
                    return;
                }
            }
        }
        let mut ids: Vec<u64> = self.sessions.values().map(|live| live.session.id).collect();
        ids.sort_unstable();
        keeping.enlist(ids.into_iter());
        self.register_enlisted();
    }

    /// Registers sessions that live at a keeper that came after them.
    fn register_enlisted(&mut self) {
        let Some(keeping) = &mut self.keeping else { return };
        while let Some(id) = keeping.next_enlisted() {
            let Some(live) = self.sessions.get(&id) else { continue };
            let session = &live.session;
            let (Some(_), Some(memory), Some(pidfd)) = (&session.kept, &session.shown, &live.pidfd) else { continue };
            let registered = Registered {
                number: id,
                sender: session.peer.pid,
                memory,
                pidfd,
                geometry: session.segment.geometry(),
                agreement: session.agreement,
            };
            if let Err(why) = keeping.ask(&registered) {
                trace::unkept(id, session.peer.pid, &why);
            }
        }
    }
}
