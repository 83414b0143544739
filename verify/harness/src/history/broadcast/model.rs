//! The model of a broadcast: what is known of each message, and what a subscriber must be told.
//!
//! A message is a function of its publisher and its number, but for its length, which the publisher writes down before
//! it publishes. A subscriber is told of no party, so it keeps a list of those that may be its publisher.

use std::sync::atomic::Ordering;

use wigwag::{Error, ErrorKind, SubscriberState, SubscriberStats};
use wigwag_testing::fill;

use crate::history::act::Actor;
use crate::history::plan::{Home, StartAt};
use crate::history::stage::{Stage, Word};

/// Messages that one publisher can publish.
pub const MESSAGES_MAX: u64 = 1200;
/// Publishers that a history has at most, by the cells that there are.
pub const PUBLISHERS_MAX: usize = 5;

/// No subscriber takes so long: a publisher that waits for that time waits as long as it takes.
pub const PATIENT_US: u64 = 60_000_000;

/// Which of the publishers a host is.
fn place_of(actor: &Actor, host: usize) -> usize {
    actor.history.hosts().iter().position(|&it| it == host).expect("one of the hosts")
}

/// Writes down that a publisher may publish a message of that length from now on.
pub fn note(actor: &Actor, number: u64, len: usize) {
    let cell = place_of(actor, actor.me) * MESSAGES_MAX as usize + number as usize - 1;
    actor.stage.cell(cell).store(len as u64 + 1, Ordering::SeqCst);
    actor.stage.set(actor.me, Word::MayHaveWritten, number);
}

/// The message with that number.
pub fn message(host: usize, number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, (host as u64) << 32 | number);
    if let Some(first) = bytes.first_mut() {
        *first = host as u8;
    }
    bytes
}

/// Whether these bytes are what a publisher has published under that number.
fn is_of(actor: &Actor, host: usize, number: u64, bytes: &[u8]) -> bool {
    let may_have = actor.stage.read(host, Word::MayHaveWritten);
    if number == 0 || number > may_have || number > MESSAGES_MAX {
        return false;
    }
    let cell = place_of(actor, host) * MESSAGES_MAX as usize + number as usize - 1;
    let len = actor.stage.cell(cell).load(Ordering::SeqCst).checked_sub(1);
    len == Some(bytes.len() as u64) && message(host, number, bytes.len()) == bytes
}

/// Whether a publisher has begun to end in whatever way.
fn is_ending(stage: &Stage, host: usize) -> bool {
    let words = [Word::ShutDownAt, Word::ReplacedAt, Word::LeftAt, Word::Dying, Word::Over];
    words.into_iter().any(|word| stage.read(host, word) != 0)
}

/// What came with a message.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    /// Its number.
    pub number: u64,
    /// How many were lost before.
    pub lost_before: u64,
    /// Whether it is the first one of another publisher.
    pub is_of_new_publisher: bool,
}

/// What a subscriber knows of one session, or of one after the other if it follows.
pub struct Account<'a> {
    actor: &'a Actor,
    /// Those who may be its publisher.
    candidates: Vec<usize>,
    /// How many each publisher had surely published before the session began, and may have by then.
    known: Vec<(usize, u64, u64)>,
    /// The last message of this publisher.
    last: Option<u64>,
    /// How many were told as lost with a message, of all publishers.
    told: u64,
    came: u64,
    is_over: bool,
    /// It has lost what a publisher waits for with: it was too slow, and must be told so.
    is_cut_off: bool,
    /// Of a party's first session.
    is_first: bool,
}

/// Notes which subscribers are counted by their publisher when a message is the newest: those that have said where they
/// read, each the only one of its process.
pub fn note_counted(actor: &Actor, subscribers: &[SubscriberState], newest: u64) {
    let Actor { stage, history, .. } = actor;
    for (guest, _) in history.guests().filter(|(_, party)| party.home == Home::Process) {
        let pid = stage.read(guest, Word::Process);
        let is_counted = |it: &SubscriberState| it.received > 0 && it.peer.pid as u64 == pid;
        if stage.read(guest, Word::CountedAt) == 0 && subscribers.iter().any(is_counted) {
            stage.set(guest, Word::CountedAt, newest);
        }
    }
}

impl<'a> Account<'a> {
    /// How many each publisher has surely published by now: to be asked before the session begins.
    pub fn before(actor: &Actor) -> Vec<u64> {
        actor.history.hosts().into_iter().map(|host| actor.stage.read(host, Word::Written)).collect()
    }

    /// Of a session that has just begun.
    pub fn new(actor: &'a Actor, before: Vec<u64>, is_first: bool) -> Account<'a> {
        let candidates = actor.history.hosts();
        let known = candidates.iter().zip(before);
        let known = known.map(|(&host, least)| (host, least, actor.stage.read(host, Word::MayHaveWritten)));
        let known = known.collect();
        let (last, told, came, is_over, is_cut_off) = Default::default();
        Account { known, candidates, actor, last, told, came, is_over, is_cut_off, is_first }
    }

    /// Whether the end was told.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn follows(&self) -> bool {
        self.actor.party().airing.follows_us > 0
    }

    /// The publisher, where only one may be.
    fn publisher(&self) -> Option<usize> {
        if let [only] = self.candidates[..] { Some(only) } else { None }
    }

    /// A message came. `stats` are those right after it.
    pub fn add(&mut self, came: Came, bytes: &[u8], stats: SubscriberStats) {
        let Came { number, lost_before, is_of_new_publisher } = came;
        // One who follows may look for another publisher again.
        if std::mem::replace(&mut self.is_over, false) && !self.follows() {
            self.actor.complain(format!("message {number} came after the end had been told"));
        }
        if is_of_new_publisher {
            if !self.follows() {
                self.actor.complain(format!("message {number} is of another publisher, and none is followed"));
            }
            // What was lost at the end of the former one has no message to be told with.
            let lost_of_former = stats.lost.wrapping_sub(lost_before);
            self.check_end(lost_of_former, false);
            self.told = lost_of_former;
            let first = self.candidates.first().copied();
            self.candidates = self.actor.history.hosts();
            // One comes after the other.
            self.candidates.retain(|&host| first.is_none_or(|first| host > first));
            (self.last, self.is_cut_off) = (None, false);
        }
        let before = self.candidates.clone();
        self.candidates.retain(|&host| is_of(self.actor, host, number, bytes));
        if self.candidates.is_empty() {
            let (len, begin) = (bytes.len(), &bytes[..bytes.len().min(16)]);
            self.actor.complain(format!("message {number}, {len} bytes, is not what was published: {begin:?}"));
            self.candidates = before;
        }
        self.check_number(came);
        let has_begun = self.last.is_some();
        if has_begun && lost_before > 0 && self.publisher().is_some_and(|host| self.waits_for_me(host, number - 1)) {
            self.is_cut_off = true;
            self.check_patience(&format!("message {number} came with {lost_before} lost before it"));
        }
        self.told += lost_before;
        self.came += 1;
        self.last = Some(number);
        if stats.lost != self.told || stats.received != self.came {
            let Account { came, told, .. } = *self;
            self.actor.complain(format!("{came} messages came and {told} were told as lost, where {stats:?} counts"));
        }
    }

    /// Who was too slow was so for longer than its publisher is patient.
    fn check_patience(&self, what: &str) {
        let patience_us = |host: usize| self.actor.history.parties[host].airing.patience_us;
        let never = |us: u64| us == 0 || us >= PATIENT_US;
        if let Some(us) = self.publisher().and_then(patience_us).filter(|us| never(*us)) {
            self.actor.complain(format!("{what}, of a publisher that cuts nobody off, with a patience of {us} us"));
        }
    }

    /// The numbers follow each other, but for those that are told as lost.
    fn check_number(&self, came: Came) {
        let Came { number, lost_before, is_of_new_publisher } = came;
        let first = number.wrapping_sub(lost_before);
        let said = || format!("message {number} came with {lost_before} lost before it");
        match self.last {
            Some(last) if first != last + 1 => {
                self.actor.complain(format!("{}, where {} was next", said(), last + 1));
            }
            None if is_of_new_publisher && first != 1 => {
                self.actor.complain(format!("{}, as the first one of its publisher", said()));
            }
            None if !is_of_new_publisher => {
                let publisher = self.publisher();
                if let Some(&(host, least, most)) = self.known.iter().find(|(host, ..)| Some(*host) == publisher) {
                    let (least, most) = (self.begins_at(host, least).0, self.begins_at(host, most).1);
                    if !(least..=most).contains(&first) {
                        self.actor.complain(format!(
                            "{}, as the first of this subscriber, which began with one of {least} to {most}",
                            said()
                        ));
                    }
                }
            }
            _ => {}
        }
    }

    /// The message that a subscriber begins with when that many were published: the first and the last that it can be.
    fn begins_at(&self, host: usize, newest: u64) -> (u64, u64) {
        let host = &self.actor.history.parties[host];
        let first = match self.actor.party().airing.start {
            StartAt::Next => newest + 1,
            StartAt::Last => newest.max(1),
            StartAt::Oldest => newest.saturating_sub(host.slots as u64) + 1,
        };
        // What is not retained may be gone; the newest ones that are stay.
        let last = host.airing.retain.map_or(first, |retain| first.max((newest + 1).saturating_sub(retain as u64)));
        (first, last)
    }

    /// Whether that publisher replaces none of this subscriber's messages from that one on while its patience lasts: it
    /// has counted this one, which can be told where it is the only one of its process. A publisher that is killed may
    /// have been about to replace one that was read.
    fn waits_for_me(&self, host: usize, lost: u64) -> bool {
        let counted_at = self.actor.stage.read(self.actor.me, Word::CountedAt);
        self.actor.history.parties[host].airing.patience_us.is_some()
            && self.actor.history.hosts().len() == 1
            && self.is_first
            && counted_at != 0
            && lost > counted_at
            && self.actor.stage.read(host, Word::Dying) == 0
    }

    /// A publisher has ended, and its messages are read out: all that it had published came, or are lost and counted.
    fn check_end(&self, lost: u64, is_in_order: bool) {
        let (Some(host), Some(last)) = (self.publisher(), self.last) else { return };
        let known = last.wrapping_add(lost.wrapping_sub(self.told));
        let is = |word| self.actor.stage.read(host, word);
        if is(Word::ReplacedAt) != 0 {
            return; // it may publish while it is told
        }
        let (least, most) = (is(Word::Written), is(Word::MayHaveWritten));
        let least = if is_ending(&self.actor.stage, host) { least } else { 0 };
        let most = if is_in_order { least } else { most };
        if !(least..=most).contains(&known) {
            self.actor.complain(format!(
                "the publisher, party {host}, has published {least} to {most} messages, and {known} came or were \
                 counted as lost (the last that came is {last})"
            ));
        }
    }

    /// An error came in the place of a message. Whether it can be asked for more.
    pub fn told(&mut self, error: &Error, stats: SubscriberStats, held: usize) {
        let stage = &self.actor.stage;
        let hosts = || self.actor.history.hosts().into_iter().filter(|host| self.candidates.contains(host));
        match error.kind() {
            ErrorKind::TimedOut { .. } => return,
            ErrorKind::Full if held > 0 && held >= stats.may_hold => return,
            ErrorKind::Ended => {
                if self.is_cut_off {
                    self.actor.complain("it has lost messages that its publisher waits for, and was not cut off");
                }
                if !hosts().any(|host| is_ending(stage, host)) {
                    self.actor.complain("the end was told before the publisher has ended");
                }
                let is_ended = |host| stage.read(host, Word::Dying) == 0;
                self.check_end(stats.lost, self.publisher().is_some_and(is_ended));
            }
            ErrorKind::PeerDied { .. } => {
                if !hosts().any(|host| stage.read(host, Word::Dying) != 0) {
                    self.actor.complain(format!("the publisher lives: {error:?}"));
                }
                self.check_end(stats.lost, false);
            }
            ErrorKind::Refused => {
                let waits = |host: usize| self.actor.history.parties[host].airing.patience_us.is_some();
                if !hosts().any(waits) {
                    self.actor.complain(format!("cut off by a publisher that never waits: {error:?}"));
                }
                self.check_patience("it was cut off");
            }
            // Nobody has followed in time.
            ErrorKind::NotRunning | ErrorKind::ServerClosed { .. } if self.follows() => {}
            _ => self.actor.complain(format!("receiving: {error:?}")),
        }
        self.is_over = true;
    }
}
