//! The model of an exchange: a reply is a function of its request, and each call has one outcome.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wigwag::{Error, ErrorKind, Request};
use wigwag_testing::{fill, word};

use super::cargo::{self, Cargo, Journey, cargo};
use super::far_errors::{self, FAR};
use crate::history::act::{Actor, GUESTS_OVER, planned};
use crate::history::dialect::{Dialect, Parcel};
use crate::history::plan::{Fate, HANDLER_ACTIONS, HandlerAction, History, Role, Step};
use crate::history::stage::{Stage, Word};

/// Bytes of a request's head: action, party, number, and a pattern.
pub const HEAD: usize = 8;
/// Calls that one party can make.
const CALLS_MAX: u64 = 240;
/// A call's cell: how often it was executed, and what was said of it.
const EXECUTED: u64 = 0xffff;
const NOT_EXECUTED: u64 = 1 << 16;
const WAS_EXECUTED: u64 = 1 << 17;
const CUT_OFF: u64 = 1 << 18;
const PASSED_ON: u64 = 1 << 40;

pub(super) fn cell(stage: &Stage, party: usize, number: u64) -> &AtomicU64 {
    stage.cell(party * 256 + number as usize)
}

pub(super) fn seed(party: usize, number: u64) -> u64 {
    (party as u64) << 32 | number
}

/// Writes a request.
fn write(bytes: &mut [u8], party: usize, number: u64, action: HandlerAction) {
    fill(bytes, seed(party, number));
    if bytes.len() >= HEAD {
        bytes[0] = action as u8;
        bytes[1] = party as u8;
        bytes[2..4].copy_from_slice(&(number as u16).to_le_bytes());
    }
}

/// The reply's bytes that a request must have; `None` if it must have none.
fn expected(history: &History, len: usize, party: usize, number: u64, action: HandlerAction) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    write(&mut bytes, party, number, action);
    match action {
        _ if len < HEAD => bytes.iter_mut().for_each(|byte| *byte = !*byte),
        HandlerAction::Invert | HandlerAction::InvertLater | HandlerAction::InvertSteadily => {
            bytes[HEAD..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        HandlerAction::Resize => {
            bytes = vec![0; resized(history, len, party, number)];
            fill(&mut bytes, !seed(party, number));
        }
        HandlerAction::Fail | HandlerAction::FailAs | HandlerAction::Panic | HandlerAction::PanicLater => return None,
    }
    Some(bytes)
}

/// How long the reply is that has a length of its own. A typed one keeps that of its request.
fn resized(history: &History, len: usize, party: usize, number: u64) -> usize {
    let most = history.parties[party].capacity;
    match history.dialect {
        Dialect::Typed(_) => len,
        Dialect::Bytes => (word(seed(party, number), 7) as usize % 5000).min(most),
        Dialect::Named | Dialect::Positional => (word(seed(party, number), 7) as usize % 5000).min(most / 2),
    }
}

/// What a handler answers with, or the text of its error.
pub fn decide(actor: &Actor, sent: &[u8]) -> Result<Vec<u8>, String> {
    let Actor { stage, history, me } = actor;
    if stage.read(*me, Word::ToldEndAt) != 0 {
        stage.complain(format!("a request was executed after server {me} had been told that this is the end"));
    }
    if sent.len() < HEAD {
        hold_up(stage);
        return Ok(sent.iter().map(|byte| !byte).collect());
    }
    let (action, party) = (sent[0], sent[1] as usize);
    let number = u64::from(u16::from_le_bytes([sent[2], sent[3]]));
    let is_known = party < history.parties.len() && number < CALLS_MAX;
    let Some(&action) = HANDLER_ACTIONS.get(action as usize).filter(|_| is_known) else {
        stage.complain(format!("a handler got {:?}, which nobody sent", &sent[..HEAD]));
        return Ok(sent.to_vec());
    };
    let before = cell(stage, party, number).fetch_add(1, Ordering::SeqCst);
    if before & EXECUTED > 0 {
        stage.complain(format!("request {number} of client {party} was executed twice"));
    }
    if before & NOT_EXECUTED != 0 {
        stage.complain(format!("request {number} of client {party} was executed after its error said that it was not"));
    }
    let mut right = vec![0; sent.len()];
    write(&mut right, party, number, action);
    if sent != right {
        stage.complain(format!("request {number} of client {party} came with other bytes than were sent"));
    }
    match action {
        HandlerAction::InvertLater => std::thread::sleep(Duration::from_micros(word(number, 3) % 400)),
        HandlerAction::InvertSteadily => work(steadily(history, party)),
        _ => {}
    }
    match expected(history, sent.len(), party, number, action) {
        Some(reply) => Ok(reply),
        None if matches!(action, HandlerAction::Fail | HandlerAction::FailAs) => Err(failure(party, number)),
        None => Err(PANIC.to_owned()),
    }
}

/// How long a handler takes that always takes as long for the same client.
fn steadily(history: &History, party: usize) -> Duration {
    Duration::from_micros([200, 500, 900][word(history.seed, party as u64) as usize % 3])
}

/// Works for so long, awake: a sleep would not be steady.
fn work(duration: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// Not 0: the next handler of a short request stays where it is until it is 0 again.
pub const HELD_UP: usize = GUESTS_OVER - 1;
/// A handler shall be held up.
pub const HOLD: u64 = 1;
/// One is.
pub const HELD: u64 = 2;

fn hold_up(stage: &Stage) {
    let cell = stage.cell(HELD_UP);
    if cell.compare_exchange(HOLD, HELD, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        stage.wait_until(|| cell.load(Ordering::SeqCst) != HELD);
    }
}

/// What `decide` says where the handler shall panic.
pub const PANIC: &str = "panic";

/// An outcome for the library; a panic where one is meant to be.
pub fn or_panic<T>(outcome: Result<T, String>) -> Result<T, String> {
    match outcome {
        Err(why) if why == PANIC => planned(),
        outcome => outcome,
    }
}

fn failure(party: usize, number: u64) -> String {
    format!("planned failure of request {number} of client {party}")
}

/// Does with a request what it asks for, short of answering it.
pub fn execute(actor: &Actor, request: &mut Request) -> Result<(), String> {
    if actor.history.dialect.is_encoded() {
        let parcel: Parcel = request.decode().map_err(|error| format!("unplanned: {error}"))?;
        let reply = decide(actor, &parcel.into_bytes())?;
        return request.set_reply_with(&Parcel::of(&reply)).map_err(|error| error.to_string());
    }
    cargo::exchange(actor, request);
    let reply = decide(actor, request)?;
    if reply.len() != request.len() {
        request.resize(reply.len()).map_err(|error| format!("unplanned: {error}"))?;
    }
    request.copy_from_slice(&reply);
    Ok(())
}

/// Answers a request with what its handler failed with: with the error of somebody else, if it asks for that.
pub fn fail(actor: &Actor, request: Request, why: &str) {
    let asks_for = |action: HandlerAction| request.first() == Some(&(action as u8)) && request.len() >= HEAD;
    if actor.history.dialect.is_encoded() || !asks_for(HandlerAction::FailAs) || why.starts_with("unplanned") {
        return request.fail(why);
    }
    let (party, number) = (request[1] as usize, u64::from(u16::from_le_bytes([request[2], request[3]])));
    cell(&actor.stage, party, number).fetch_or(PASSED_ON, Ordering::SeqCst);
    request.fail_as(far_errors::passed_on(party, number));
}

/// A call that a client has made.
#[derive(Clone, Copy)]
pub struct Call {
    number: u64,
    /// What travels with it.
    pub cargo: Cargo,
    /// The request's bytes.
    pub len: usize,
    action: HandlerAction,
    /// When it had surely been passed.
    pub passed_at: u64,
}

/// What all faces of a client have.
pub struct Asker<'a> {
    /// The client.
    pub actor: &'a Actor,
    next: u64,
    /// What its session grants.
    pub capacity: usize,
}

impl<'a> Asker<'a> {
    /// One that has asked nothing yet.
    pub fn new(actor: &'a Actor) -> Asker<'a> {
        Asker { actor, next: 0, capacity: 0 }
    }

    /// A call of its own number, and the request's bytes; none is left, or the request would not fit.
    pub fn call(&mut self, len: usize, action: HandlerAction) -> Option<(Call, Vec<u8>)> {
        let number = self.next;
        self.next += 1;
        self.with_number(number, len, action)
    }

    /// A call that is too short to say whose it is, and needs no number.
    pub fn anonymous(&self, len: usize) -> Option<(Call, Vec<u8>)> {
        self.with_number(self.next, len.min(HEAD - 1), HandlerAction::Invert)
    }

    fn with_number(&self, number: u64, len: usize, action: HandlerAction) -> Option<(Call, Vec<u8>)> {
        if number >= CALLS_MAX {
            return None;
        }
        let action = if len < HEAD { HandlerAction::Invert } else { action };
        let mut bytes = vec![0; len];
        write(&mut bytes, self.actor.me, number, action);
        let cargo = cargo(&self.actor.history, self.actor.me, number, len);
        Some((Call { number, cargo, len, action, passed_at: 0 }, bytes))
    }

    /// Attaches what travels with a call.
    pub fn load(&self, call: Call, attach: impl FnMut(&File) -> wigwag::Result<()>) {
        cargo::load(self.actor, call.cargo, call.number, attach);
    }

    /// Checks what came with the reply of a call, and was taken.
    pub fn judge_cargo(&self, call: Call, came: &[OwnedFd]) {
        cargo::check(self.actor, Journey::Back, (self.actor.me, call.number), came);
    }

    /// Checks what came of a call; whether its session is over.
    pub fn judge(&self, call: Call, outcome: Result<&[u8], &Error>) -> bool {
        match outcome {
            Ok(bytes) => self.judge_reply(call, bytes),
            Err(error) => self.judge_error(call, error),
        }
        outcome.is_err_and(is_over)
    }

    fn said(&self, call: Call, bits: u64) {
        if call.len >= HEAD {
            cell(&self.actor.stage, self.actor.me, call.number).fetch_or(bits, Ordering::SeqCst);
        }
    }

    fn complain(&self, call: Call, what: impl AsRef<str>) {
        self.actor.complain(format!("call {} ({:?}): {}", call.number, call.action, what.as_ref()));
    }

    fn judge_reply(&self, call: Call, bytes: &[u8]) {
        self.said(call, WAS_EXECUTED);
        let history = &self.actor.history;
        match expected(history, call.len, self.actor.me, call.number, call.action) {
            Some(expected) if expected == bytes => {}
            Some(expected) => self.complain(
                call,
                format!(
                    "the reply is wrong: {} bytes {:?} instead of {} bytes {:?}",
                    bytes.len(),
                    &bytes[..bytes.len().min(16)],
                    expected.len(),
                    &expected[..expected.len().min(16)]
                ),
            ),
            None if takes_itself(history) => {}
            None => self.complain(call, "it was answered well, and must not be"),
        }
    }

    fn judge_error(&self, call: Call, error: &Error) {
        let (stage, history) = (&self.actor.stage, &self.actor.history);
        if is_passed_on(error) {
            return self.judge_passed_on(call, error);
        }
        if let ErrorKind::TimedOut { maybe_executed: false }
        | ErrorKind::ServerClosed { maybe_executed: false }
        | ErrorKind::PeerDied { maybe_executed: false } = error.kind()
        {
            self.said(call, NOT_EXECUTED);
        }
        match error.kind() {
            ErrorKind::HandlerFailed => self.judge_failure(call, error),
            ErrorKind::HandlerPanicked => {
                self.said(call, WAS_EXECUTED);
                if !matches!(call.action, HandlerAction::Panic | HandlerAction::PanicLater)
                    && !has_fate(history, Fate::Panicked)
                {
                    self.complain(call, format!("{error:?}"));
                }
            }
            ErrorKind::Unanswered if takes_itself(history) => self.said(call, WAS_EXECUTED),
            ErrorKind::Full => match cargo::told_full(self.actor, call.number, error) {
                Some(true) => self.said(call, WAS_EXECUTED),
                Some(false) => self.said(call, NOT_EXECUTED),
                None if call.passed_at == 0 => self.said(call, NOT_EXECUTED),
                None => self.complain(call, format!("{error:?}")),
            },
            ErrorKind::CapacityExceeded { len, .. } if len > self.capacity => self.said(call, NOT_EXECUTED),
            ErrorKind::TimedOut { .. } => {}
            ErrorKind::ServerClosed { .. } => {
                if let [host] = history.hosts()[..]
                    && call.passed_at != 0
                {
                    let begun = stage.read(host, Word::ShutDownAt);
                    if begun != 0 && call.passed_at < begun {
                        self.said(call, CUT_OFF);
                    }
                }
            }
            ErrorKind::PeerDied { .. } => {
                if !history.hosts().iter().any(|&host| stage.read(host, Word::Dying) != 0) {
                    self.complain(call, format!("nobody was killed: {error:?}"));
                }
            }
            _ => self.complain(call, format!("{error:?}")),
        }
    }

    /// The error of somebody else, which the server has passed on.
    fn judge_passed_on(&self, call: Call, error: &Error) {
        self.said(call, WAS_EXECUTED);
        let (stage, me) = (&self.actor.stage, self.actor.me);
        let is_passed_on = cell(stage, me, call.number).load(Ordering::SeqCst) & PASSED_ON != 0;
        let expected = far_errors::expected(me, call.number);
        if !is_passed_on || error.kind() != expected {
            self.complain(call, format!("{expected:?} was passed on ({is_passed_on}), and came as {error:?}"));
        }
    }

    /// A handler's error, or one of the face that the server has.
    fn judge_failure(&self, call: Call, error: &Error) {
        let (text, history, me) = (error.to_string(), &self.actor.history, self.actor.me);
        if history.dialect.block().is_some_and(|len| len != call.len) && text.contains("is not a Block") {
            return self.said(call, NOT_EXECUTED);
        }
        self.said(call, WAS_EXECUTED);
        let was_passed_on = cell(&self.actor.stage, me, call.number).load(Ordering::SeqCst) & PASSED_ON != 0;
        let is_planned = matches!(call.action, HandlerAction::Fail | HandlerAction::FailAs)
            && text == failure(me, call.number)
            && !was_passed_on;
        let is_too_long = history.dialect.is_encoded()
            && text.contains("capacity")
            && expected(history, call.len, me, call.number, call.action)
                .is_some_and(|reply| history.dialect.may_exceed(reply.len(), self.capacity));
        if !is_planned && !is_too_long && text != "planned: given back" {
            self.complain(call, format!("{error:?}"));
        }
    }
}

/// Whether an error is that of a call which somebody else has answered.
fn is_passed_on(error: &Error) -> bool {
    error.to_string().starts_with(FAR)
}

/// Whether an error means that this session is over.
pub fn is_over(error: &Error) -> bool {
    let is_end =
        matches!(error.kind(), ErrorKind::ServerClosed { .. } | ErrorKind::PeerDied { .. } | ErrorKind::Violation);
    is_end && !is_passed_on(error)
}

fn has_fate(history: &History, wanted: Fate) -> bool {
    history.steps().any(
        |step| matches!(step, Step::Take(_, fate) | Step::TakeBatch(_, _, fate) | Step::Drain(fate) if *fate == wanted),
    )
}

/// Whether a server takes requests itself: then one may be answered otherwise than it asks for, or not at all.
fn takes_itself(history: &History) -> bool {
    history
        .steps()
        .any(|step| matches!(step, Step::Take(..) | Step::TakeBatch(..) | Step::Drain(_) | Step::ServeFor(_)))
}

/// What must hold in the end.
pub fn judge(stage: &Stage, history: &History) {
    let hosts = history.hosts();
    for (party, _) in history.parties.iter().enumerate().filter(|(_, party)| party.role == Role::Guest) {
        for number in 0..CALLS_MAX {
            let word = cell(stage, party, number).load(Ordering::SeqCst);
            let executed = word & EXECUTED;
            if word & WAS_EXECUTED != 0 && executed != 1 {
                stage.complain(format!(
                    "request {number} of client {party} was answered, and executed {executed} times"
                ));
            }
            if word & NOT_EXECUTED != 0 && executed != 0 {
                stage.complain(format!("request {number} of client {party} was executed, and its error says not"));
            }
            if let [host] = hosts[..]
                && word & CUT_OFF != 0
                && stage.read(host, Word::ToldEndAt) != 0
            {
                stage.complain(format!(
                    "request {number} of client {party} was passed before the shutdown began, and cut off by it"
                ));
            }
        }
    }
}
