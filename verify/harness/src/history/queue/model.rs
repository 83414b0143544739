//! The model of a queue: what is known of each message, and what senders and receivers must be told.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wigwag::{Batch, Delivery, Error, ErrorKind};
use wigwag_testing::fill;

use crate::history::act::{Actor, catch_planned, planned};
use crate::history::dialect::Parcel;
use crate::history::plan::{Fate, History, Step};
use crate::history::stage::{Stage, Word};

/// Messages that one sender can send.
const MESSAGES_MAX: u64 = 64;

/// What is known of a message.
#[derive(Clone, Copy)]
enum Fact {
    /// How its sending stands.
    State,
    /// When it had surely been sent.
    SentAt,
    /// How often somebody had it.
    Received,
    /// How often it was acknowledged, or was about to be.
    Released,
}

const BEGUN: u64 = 1;
const SENT: u64 = 2;
const REFUSED: u64 = 3;

/// Where the facts of messages end; then: messages without bytes that were sent, received, released.
const FACTS_END: usize = 16 * MESSAGES_MAX as usize * 4;
/// How many messages without bytes were sent.
pub const NAMELESS_SENT: usize = FACTS_END;
const NAMELESS_RECEIVED: usize = FACTS_END + 1;
/// The last message of each sender that came without a mark, plus one.
const LAST: usize = FACTS_END + 16;

fn fact(stage: &Stage, party: usize, number: u64, fact: Fact) -> &AtomicU64 {
    stage.cell((party * MESSAGES_MAX as usize + number as usize) * 4 + fact as usize)
}

fn write(bytes: &mut [u8], party: usize, number: u64) {
    fill(bytes, (party as u64) << 32 | number);
    match bytes {
        [] => {}
        [only] => *only = (party as u8) << 5 | number as u8 & 31,
        [first, second, ..] => (*first, *second) = (party as u8, number as u8),
    }
}

/// Whose message it is.
fn read(bytes: &[u8]) -> Option<(usize, u64)> {
    match bytes {
        [] => None,
        [only] => Some((usize::from(only >> 5), u64::from(only & 31))),
        [first, second, ..] => Some((usize::from(*first), u64::from(*second))),
    }
}

/// What a receiver has and knows.
pub struct Hands<'a> {
    actor: &'a Actor,
    is_over: Cell<bool>,
    /// Several threads take: what one sees first may be what another was handed later.
    is_shared: bool,
    /// Messages that were given back, and must come before any other.
    given_back: Cell<usize>,
    /// Of each sender, where its sessions are: the last unmarked message of each, by which they are told apart.
    sessions: RefCell<BTreeMap<usize, Vec<u64>>>,
}

impl<'a> Hands<'a> {
    /// Empty ones; `is_shared`: of one of several threads that take.
    pub fn new(actor: &'a Actor, is_shared: bool) -> Hands<'a> {
        let (is_over, given_back, sessions) = Default::default();
        Hands { actor, is_over, is_shared, given_back, sessions }
    }

    /// Whether the end was told.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// The end was told to others.
    pub fn end(&self) {
        self.is_over.set(true);
    }

    /// The bytes that the sender meant; none, which nobody sent, if they cannot be made out.
    fn bytes_of<'d>(&self, delivery: &'d Delivery) -> Cow<'d, [u8]> {
        if !self.actor.history.dialect.is_encoded() {
            return Cow::Borrowed(delivery);
        }
        match delivery.decode::<Parcel>() {
            Ok(parcel) => Cow::Owned(parcel.into_bytes()),
            Err(error) => {
                self.actor.complain(format!("a message cannot be decoded: {error:?}"));
                Cow::Borrowed(&[])
            }
        }
    }

    /// Looks at a message that has come.
    pub fn look(&self, delivery: &Delivery) {
        let (stage, history) = (&self.actor.stage, &self.actor.history);
        if self.is_over.get() {
            return self.actor.complain("a message was handed out after the end had been told");
        }
        let is_marked = delivery.is_redelivered();
        let back = self.given_back.get();
        if back > 0 && !self.is_shared {
            self.given_back.set(back - 1);
            if !is_marked {
                self.actor.complain("a message that nobody has had came before one that was given back");
            }
        }
        let bytes = self.bytes_of(delivery);
        let Some((party, number)) = read(&bytes) else {
            stage.cell(NAMELESS_RECEIVED).fetch_add(1, Ordering::SeqCst);
            return;
        };
        let is_known = party < history.parties.len() && number < MESSAGES_MAX;
        let state = if is_known { fact(stage, party, number, Fact::State).load(Ordering::SeqCst) } else { 0 };
        let mut sent = vec![0; bytes.len()];
        write(&mut sent, party, number);
        if state == 0 || sent != bytes[..] {
            let first = &bytes[..bytes.len().min(16)];
            self.actor.complain(format!("{} bytes came that nobody sent: {first:?}", bytes.len()));
            return;
        }
        if state == REFUSED {
            self.actor.complain(format!("message {number} of sender {party} came, and its sending had failed"));
        }
        let before = fact(stage, party, number, Fact::Received).fetch_add(1, Ordering::SeqCst);
        if before > 0 && !is_marked {
            self.actor.complain(format!("message {number} of sender {party} comes again without a mark"));
        }
        if before == 0 && is_marked && !may_be_marked_unseen(history) {
            self.actor.complain(format!("message {number} of sender {party} is marked, and nobody has had it"));
        }
        if is_marked || self.is_shared {
            return;
        }
        if history.has_company() {
            self.check_order(party, number);
        } else if !history.steps().any(|step| matches!(step, Step::Serve(_))) {
            let last = stage.cell(LAST + party).fetch_max(number + 1, Ordering::SeqCst);
            if last > number {
                let after = last - 1;
                self.actor.complain(format!("message {number} of sender {party} comes after its message {after}"));
            }
        }
    }

    /// A receiver that is not alone has the messages of a sender in the order of each session: its own, and one more
    /// for each receiver that has ended, whose messages go on in a session of their own.
    fn check_order(&self, party: usize, number: u64) {
        let (stage, me) = (&self.actor.stage, self.actor.me);
        let mut all = self.sessions.borrow_mut();
        let sessions = all.entry(party).or_default();
        match sessions.iter_mut().filter(|last| **last < number).max() {
            Some(last) => *last = number,
            None => sessions.push(number),
        }
        let has_ended = |host: &usize| {
            let words = [Word::Over, Word::Dying, Word::LeftAt, Word::ShutDownAt, Word::ReplacedAt];
            words.into_iter().any(|word| stage.read(*host, word) != 0)
        };
        let is_other = |host: &usize| *host != me || stage.read(*host, Word::Over) != 0;
        let ended = self.actor.history.hosts().into_iter().filter(is_other).filter(has_ended).count();
        if sessions.len() > 1 + ended {
            let several = sessions.len();
            self.actor.complain(format!(
                "message {number} of sender {party} is the first of session {several}, and {ended} other receivers \
                 have ended"
            ));
        }
    }

    /// It is acknowledged now.
    pub fn release(&self, delivery: &Delivery) {
        if let Some((party, number)) =
            read(&self.bytes_of(delivery)).filter(|&(party, number)| party < 16 && number < MESSAGES_MAX)
        {
            fact(&self.actor.stage, party, number, Fact::Released).fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Does with a message what is planned for it.
    pub fn dispose(&self, delivery: Delivery, fate: Fate, held: &mut Vec<Delivery>) {
        match fate {
            Fate::Done => {
                self.release(&delivery);
                delivery.ack();
            }
            Fate::Dropped => {
                self.release(&delivery);
                drop(delivery);
            }
            Fate::Back => {
                delivery.nack();
                self.given_back.set(self.given_back.get() + 1);
            }
            Fate::Panicked => {
                catch_planned(move || {
                    let _held = delivery;
                    planned()
                });
                self.given_back.set(self.given_back.get() + 1);
            }
            Fate::Held => held.push(delivery),
            Fate::Elsewhere => {
                self.release(&delivery);
                let _ = std::thread::spawn(move || delivery.ack()).join();
            }
        }
    }

    /// The same with several at once.
    pub fn dispose_batch(&self, batch: Batch, fate: Fate, held: &mut Vec<Delivery>) {
        if batch.is_empty() {
            self.actor.complain("a batch of no messages came");
        }
        batch.iter().for_each(|delivery| self.look(delivery));
        match fate {
            Fate::Back => {
                self.given_back.set(self.given_back.get() + batch.len());
                batch.nack();
            }
            Fate::Done | Fate::Dropped => {
                batch.iter().for_each(|delivery| self.release(delivery));
                batch.ack();
            }
            fate => batch.into_iter().for_each(|delivery| self.dispose(delivery, fate, held)),
        }
    }

    /// An error came, which can only be the end.
    pub fn told(&self, error: &Error) {
        let (stage, me) = (&self.actor.stage, self.actor.me);
        if !matches!(error.kind(), ErrorKind::ServerClosed { .. }) {
            return self.actor.complain(format!("receiving: {error:?}"));
        }
        let shut_down_at = stage.read(me, Word::ShutDownAt);
        if shut_down_at == 0 && stage.read(me, Word::ReplacedAt) == 0 {
            self.actor.complain("the end was told before the shutdown began");
        }
        if !self.is_over.replace(true) {
            stage.set(me, Word::ToldEndAt, stage.now());
            self.check_drained(shut_down_at);
        }
    }

    /// Nothing came, or no end.
    pub fn found_nothing(&self) {
        if self.is_over.get() {
            self.actor.complain("nothing was told after the end had been told");
        } else if self.given_back.replace(0) > 0 {
            self.actor.complain("nothing came, and a message had been given back");
        }
    }

    /// What was sent before the shutdown began has been received by now, and what was given back received again.
    fn check_drained(&self, shut_down_at: u64) {
        let (stage, history) = (&self.actor.stage, &self.actor.history);
        if self.is_shared {
            return;
        }
        if self.given_back.get() > 0 {
            let back = self.given_back.get();
            self.actor
                .complain(format!("the end was told while {back} messages that were given back had not come again"));
        }
        // Others have no part of what was sent before they came, or share it.
        if history.hosts().first() != Some(&self.actor.me) || history.has_company() {
            return;
        }
        for (party, _) in history.guests() {
            for number in 0..MESSAGES_MAX {
                let sent_at = fact(stage, party, number, Fact::SentAt).load(Ordering::SeqCst);
                let received = fact(stage, party, number, Fact::Received).load(Ordering::SeqCst);
                if sent_at != 0 && sent_at < shut_down_at && received == 0 {
                    self.actor.complain(format!(
                        "message {number} of sender {party} was sent before the shutdown began, and the end was told \
                         before it came"
                    ));
                }
            }
        }
    }
}

/// Whether a message may be marked although nobody knows of having had it: the receiver that had it was killed.
fn may_be_marked_unseen(history: &History) -> bool {
    history.steps().any(|step| matches!(step, Step::Kill(_)))
}

/// What all faces of a sender have.
pub struct MessageLog<'a> {
    /// The sender.
    pub actor: &'a Actor,
    next: u64,
    /// From which message on this session's are: those of a former one were acknowledged, or given up.
    first: u64,
    most: u64,
    /// What a message can have.
    capacity: usize,
}

impl<'a> MessageLog<'a> {
    /// One that has sent nothing yet, in a session of that capacity.
    pub fn new(actor: &'a Actor, capacity: usize) -> MessageLog<'a> {
        // One byte has room for 32 of 8 senders.
        let is_short = capacity == 1 || actor.party().steps.iter().any(is_of_one_byte);
        let most = if is_short { 32 } else { MESSAGES_MAX };
        MessageLog { actor, next: 0, first: 0, most, capacity }
    }

    /// What is sent from now on goes in another session.
    pub fn begin_session(&mut self) {
        self.first = self.next;
    }

    /// It was not sent, and never will be.
    pub fn gave_up(&self, len: usize, number: u64) {
        if len > 0 {
            fact(&self.actor.stage, self.actor.me, number, Fact::State).store(REFUSED, Ordering::SeqCst);
        }
    }

    /// The number of a message of its own.
    pub fn begin(&mut self, len: usize) -> Option<u64> {
        let number = self.next;
        if number >= self.most {
            return None;
        }
        self.next += 1;
        if len > 0 {
            fact(&self.actor.stage, self.actor.me, number, Fact::State).store(BEGUN, Ordering::SeqCst);
        }
        Some(number)
    }

    /// A message's bytes.
    pub fn message(&self, len: usize, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        write(&mut bytes, self.actor.me, number);
        bytes
    }

    /// What came of sending it.
    pub fn sent(&self, len: usize, number: u64, outcome: Result<(), &Error>) {
        let (stage, me) = (&self.actor.stage, self.actor.me);
        match outcome {
            Ok(()) if len == 0 => drop(stage.cell(NAMELESS_SENT).fetch_add(1, Ordering::SeqCst)),
            Ok(()) => {
                fact(stage, me, number, Fact::SentAt).store(stage.now(), Ordering::SeqCst);
                fact(stage, me, number, Fact::State).store(SENT, Ordering::SeqCst);
            }
            Err(error) => {
                self.gave_up(len, number);
                match error.kind() {
                    ErrorKind::Full
                    | ErrorKind::TimedOut { maybe_executed: false }
                    | ErrorKind::NotRunning
                    | ErrorKind::Refused => {}
                    ErrorKind::CapacityExceeded { len, .. } if len > self.capacity => {}
                    ErrorKind::Violation if has_liar(&self.actor.history) => {}
                    ErrorKind::Busy if self.actor.history.has_keeper() => {}
                    _ => self.actor.complain(format!("sending message {number} of {len} bytes: {error:?}")),
                }
            }
        }
    }

    /// Whether all that was sent is in somebody's hands, or was. Of messages without bytes that is not known.
    pub fn is_received(&self) -> bool {
        let is = |number, wanted| fact(&self.actor.stage, self.actor.me, number, wanted).load(Ordering::SeqCst);
        (0..self.next).all(|number| is(number, Fact::State) != SENT || is(number, Fact::Received) > 0)
    }

    /// Its drop has waited so long, and no longer than it may: so everything has been acknowledged.
    pub fn left(&self, waited: Duration) {
        for number in 0..self.next {
            let is = |wanted| fact(&self.actor.stage, self.actor.me, number, wanted).load(Ordering::SeqCst);
            if is(Fact::State) == SENT && is(Fact::Released) == 0 {
                let received = is(Fact::Received);
                self.actor.complain(format!(
                    "the drop has waited {waited:?} only, and nobody has acknowledged message {number} (received \
                     {received} times)"
                ));
            }
        }
    }

    /// Everything of this session has been acknowledged.
    pub fn flushed(&self) {
        for number in self.first..self.next {
            let stage = &self.actor.stage;
            let is = |wanted| fact(stage, self.actor.me, number, wanted).load(Ordering::SeqCst);
            if is(Fact::State) == SENT && is(Fact::Released) == 0 {
                self.actor.complain(format!(
                    "a flush says that message {number} is acknowledged, and nobody has acknowledged it (received {} \
                     times)",
                    is(Fact::Received)
                ));
            }
        }
    }

    /// A flush came to an error.
    pub fn flush_failed(&self, error: &Error) {
        if error.kind() == ErrorKind::Violation && has_liar(&self.actor.history) {
            return;
        }
        if error.kind() == ErrorKind::Busy && self.actor.history.has_keeper() {
            return;
        }
        if !matches!(error.kind(), ErrorKind::TimedOut { .. } | ErrorKind::NotRunning | ErrorKind::Refused) {
            self.actor.complain(format!("flush: {error:?}"));
        }
    }
}

/// Whether a session could not be had because there is no receiver, or none that wants one more.
pub fn is_nobody_there(error: &Error, history: &History) -> bool {
    match error.kind() {
        ErrorKind::NotRunning | ErrorKind::ServerClosed { .. } | ErrorKind::PeerDied { .. } => true,
        ErrorKind::Refused => history.has_limits(),
        ErrorKind::Violation => has_liar(history),
        ErrorKind::Busy => history.has_keeper(),
        _ => false,
    }
}

/// Whether somebody lies about what is granted: then a sender may end as violated, and never be rid of what it has.
fn has_liar(history: &History) -> bool {
    history.steps().any(|step| matches!(step, Step::Lie(..)))
}

fn is_of_one_byte(step: &Step) -> bool {
    matches!(step, Step::Send(1, _) | Step::SendBatch(_, 1) | Step::MessageLoan(1, _))
}

/// What must hold in the end.
pub fn judge(stage: &Stage, history: &History) {
    let mut have_all_ended_well = true;
    for (party, of) in history.guests() {
        let has_ended_well = stage.read(party, Word::EndedWell) != 0;
        have_all_ended_well &= has_ended_well;
        for number in 0..MESSAGES_MAX {
            let is = |wanted| fact(stage, party, number, wanted).load(Ordering::SeqCst);
            if is(Fact::State) == REFUSED && is(Fact::Received) > 0 {
                stage.complain(format!("message {number} of sender {party} came, and its sending had failed"));
            }
            if is(Fact::State) == SENT && is(Fact::Received) == 0 && (has_ended_well || history.keeps_all_of(of)) {
                stage.complain(format!("message {number} of sender {party} was sent, and never came"));
            }
        }
    }
    let is = |cell: usize| stage.cell(cell).load(Ordering::SeqCst);
    if have_all_ended_well && is(NAMELESS_RECEIVED) < is(NAMELESS_SENT) {
        stage.complain(format!(
            "{} messages without bytes were sent, and {} came",
            is(NAMELESS_SENT),
            is(NAMELESS_RECEIVED)
        ));
    }
}
