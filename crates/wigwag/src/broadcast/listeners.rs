//! The publisher's own list of its subscribers: who is woken, whose holds count, and who is waited for.

use std::sync::Arc;

use crate::memory::doorbell::Waiting;
use crate::memory::hint::{GROUPS, Groups};
use crate::memory::hold;
use crate::service::audience::Audience;
use crate::service::session::Session;
use crate::session::background::bury;
use crate::session::peer::Trust;
use crate::sync::{Ordering, fence};
use crate::sys::socket;

/// The list, as it was when somebody came or went last.
#[derive(Default)]
pub struct Listeners {
    version: u64,
    /// Those of the publisher's user, by group.
    own: Vec<Arc<Session>>,
    /// Where each group begins among them, and where the last one ends.
    begins: Vec<u32>,
    /// How many are of other users.
    others: usize,
    /// Sessions that are over, whose holds count still.
    lingering: Vec<Arc<Session>>,
    /// How many messages all may hold at a time.
    may_hold: usize,
    /// How many of them may hold any.
    holders: usize,
    /// Where the next sweep goes on.
    swept: usize,
}

/// How many words are looked at in one sweep, which a publish pays for.
const SWEPT_AT_A_TIME: usize = 64;

impl Listeners {
    /// Nobody.
    pub fn new() -> Listeners {
        Listeners { begins: vec![0; GROUPS + 1], ..Listeners::default() }
    }

    /// Which list of the audience's it is made from.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Somebody came or went. Whoever is new may hold messages from here on.
    #[cold]
    pub fn follow(&mut self, audience: &Audience) {
        let (version, members) = audience.list();
        let (mut own, others): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|session| session.trust == Trust::SameUser);
        own.sort_by_key(|session| (group_of(session), session.id));
        for session in &own {
            // Release: only who is in this list is told that its holds count. Partner: `Reception::is_listed`.
            session.segment.listed().store(1, Ordering::Release);
        }
        let before = std::mem::replace(&mut self.own, own);
        let is_gone = |session: &Arc<Session>| {
            self.own.binary_search_by_key(&(group_of(session), session.id), |it| (group_of(it), it.id)).is_err()
        };
        let gone: Vec<Arc<Session>> = before.into_iter().filter(is_gone).collect();
        for session in &gone {
            // A subscriber that asks for a body after this finds the word; one that asked before is found below.
            session.segment.listed().swap(0, Ordering::SeqCst);
        }
        self.lingering.extend(gone);
        self.version = version;
        self.others = others.len();
        self.index();
        self.let_go();
    }

    /// The list of somebody who only rings.
    pub fn replace_own(&mut self, members: &[Arc<Session>]) {
        self.own = members.iter().filter(|session| session.trust == Trust::SameUser).cloned().collect();
        self.own.sort_by_key(|session| group_of(session));
        self.index();
    }

    fn index(&mut self) {
        self.begins.clear();
        self.begins.extend((0..=GROUPS).map(|group| self.own.partition_point(|it| group_of(it) < group) as u32));
    }

    /// Sessions that are over are forgotten once they hold nothing, or their processes are no more.
    fn let_go(&mut self) {
        fence(Ordering::SeqCst); // after `listed` was cleared; partner: the fence in `hold::ask`
        let (kept, gone) = std::mem::take(&mut self.lingering).into_iter().partition(|session| {
            holds_of(session).any(|word| word != 0)
                && !socket::has_gone(&socket::peer_pidfd(&*session.socket, &session.peer))
        });
        self.lingering = kept;
        if !Vec::is_empty(&gone) {
            bury(usize::MAX, gone); // not here: a thousand mappings are not unmapped in the time of one message
        }
        let granted = |session: &Arc<Session>| session.seat.as_ref().map_or(0, |seat| seat.holds as usize);
        let all = || self.own.iter().chain(&self.lingering).map(granted);
        (self.may_hold, self.holders) = (all().sum(), all().filter(|holds| *holds > 0).count());
    }

    /// How many messages all may hold at a time.
    #[inline(always)]
    pub fn may_hold(&self) -> usize {
        self.may_hold
    }

    /// How many of them may hold any.
    #[inline(always)]
    pub fn holders(&self) -> usize {
        self.holders
    }

    /// What all hold words say, after [`hold::begin_scan`].
    pub fn held(&mut self) -> impl Iterator<Item = u64> + '_ {
        if !self.lingering.is_empty() {
            self.let_go();
        }
        self.own.iter().chain(&self.lingering).flat_map(holds_of)
    }

    /// Those of the publisher's user.
    #[inline(always)]
    pub fn own(&self) -> &[Arc<Session>] {
        &self.own
    }

    /// Whether there are some of other users.
    #[inline(always)]
    pub fn has_others(&self) -> bool {
        self.others > 0
    }

    /// Rings those of these groups that sleep. How many.
    pub fn ring(&self, groups: &Groups) -> u64 {
        let range = |group: usize| self.begins[group] as usize..self.begins[group + 1] as usize;
        groups.iter().flat_map(|group| &self.own[range(group)]).map(ring_if_asleep).sum()
    }

    /// Rings those that sleep although no hint says so, some at a time: a liar may have taken the hint away.
    pub fn sweep(&mut self) -> u64 {
        let len = self.own.len();
        let begin = if self.swept < len { self.swept } else { 0 };
        let end = len.min(begin + SWEPT_AT_A_TIME);
        self.swept = end;
        self.own[begin..end].iter().filter(|session| waiting_of(session).is_announced()).map(ring_if_asleep).sum()
    }
}

fn group_of(session: &Session) -> usize {
    session.seat.as_ref().map_or(0, |seat| seat.group as usize % GROUPS)
}

fn waiting_of(session: &Session) -> Waiting<'_> {
    Waiting(&session.segment.subscriber_line().waiting)
}

/// Rings a subscriber that sleeps. How many were rung.
pub fn ring_if_asleep(session: &Arc<Session>) -> u64 {
    let must_ring = waiting_of(session).claim();
    if must_ring {
        session.ring_client();
    }
    u64::from(must_ring)
}

/// What the hold words of a session say, of those that it was granted.
fn holds_of(session: &Arc<Session>) -> impl Iterator<Item = u64> + '_ {
    let granted = session.seat.as_ref().map_or(0, |seat| seat.holds as usize);
    (0..granted).map(|index| hold::held(session.segment.hold(index)))
}
