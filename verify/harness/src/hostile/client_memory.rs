//! A real client whose server writes into the shared memory whatever it likes; one thread does both.
//!
//! As in `server_memory`, what the client must make of a slot is told beforehand from its words: not there yet, a reply
//! that lies within its slot, the handler's error, or a violation that ends the session.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use wigwag::{Client, ErrorKind, Pending, Reply};
use wigwag_testing::{Ground, IN_BODY, Raw, RawServer, SERVER, word};

use super::dice::{Dice, odd_number};
use super::kept::Kept;
use super::server_memory::{Tally, no_panic};

/// In a head: a reply.
const REPLY: u64 = 2 << 32;
const SLOTS: usize = 3;

/// What the client must make of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    NotThere,
    Reply(usize, bool),
    Error(ErrorKind),
    Violation,
}

/// A call under way.
struct Call {
    slot: usize,
    sequence: u64,
    pending: Pending<'static>,
}

/// A session: the client, and its server's hand in the memory.
struct Session {
    // The order is that of the ends: calls and replies before the client that they borrow.
    calls: Vec<Call>,
    replies: Vec<Reply<'static>>,
    client: Kept,
    raw: Raw,
    /// Where the client has the memory.
    base: usize,
    /// The sequence of each slot's last request.
    sent: [u64; SLOTS],
    /// Whether the client was told of a violation.
    is_over: bool,
}

/// A server by hand, and one client after the other.
pub struct Stage {
    session: Option<Session>,
    sessions: Receiver<Raw>,
    ground: Ground,
    capacity: u64,
    tally: Tally,
}

impl Stage {
    /// Starts the server by hand.
    pub fn new(capacity: u64) -> Stage {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        let (connected, sessions) = channel();
        // It ends when nobody listens to it any more; until then it has the socket, and waits for a client.
        std::thread::spawn(move || while connected.send(server.serve(SLOTS, capacity)).is_ok() {});
        Stage { session: None, sessions, ground, capacity, tally: Tally::default() }
    }

    /// What was done since the last time it was asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Deeds, each followed by something that the client does. The error says what was wrong.
    pub fn play(&mut self, dice: &mut Dice<'_>, steps: usize) -> Result<(), String> {
        self.session = None;
        for _ in 0..steps {
            if dice.is_over() {
                break;
            }
            let session = match &mut self.session {
                Some(session) => session,
                None => {
                    let session = Session::begin(&self.ground, &self.sessions)?;
                    self.session.insert(session)
                }
            };
            self.tally.steps += 1;
            session.harm(dice, self.capacity);
            session.act(dice, self.capacity, &mut self.tally)?;
            if session.is_over && dice.one_in(4) {
                self.session = None;
            }
        }
        self.session = None;
        Ok(())
    }
}

impl Session {
    fn begin(ground: &Ground, sessions: &Receiver<Raw>) -> Result<Session, String> {
        let client = Kept::new(Client::connect(ground.socket()).map_err(|error| format!("a connect: {error}"))?);
        let raw = sessions.recv().expect("the server by hand lives");
        let loan = client.client().loan(0).map_err(|error| format!("the first loan: {error}"))?;
        let base = loan.as_ptr().addr() - raw.payload(0, false);
        drop(loan);
        Ok(Session { calls: vec![], replies: vec![], client, raw, base, sent: [0; SLOTS], is_over: false })
    }

    fn verdict(&self, call: &Call) -> Verdict {
        let turn = self.raw.turn(call.slot).load(Ordering::Relaxed);
        if turn & SERVER != 0 {
            return Verdict::NotThere;
        }
        let head = self.raw.head(call.slot).load(Ordering::Relaxed);
        let (len, high) = (head as u32 as usize, head >> 32);
        let in_body = high & 0x100 != 0;
        let kind = high & !0x300;
        let capacity = self.raw.capacity as usize;
        let room = match (kind, in_body) {
            (2, true) => capacity,
            (2, false) => capacity.min(48),
            (3..=5 | 11 | 128..=255, true) => 1024,
            _ => 48,
        };
        match kind {
            2..=5 | 11 | 128..=255 if len > room || turn >> 8 != call.sequence => Verdict::Violation,
            11 if len < 8 => Verdict::Violation,
            11 => Verdict::Error(self.passed_on(call.slot, in_body)),
            128..=255 => Verdict::Error(ErrorKind::Unanswered),
            2 => Verdict::Reply(len, in_body),
            3 => Verdict::Error(ErrorKind::HandlerFailed),
            4 => Verdict::Error(ErrorKind::HandlerPanicked),
            5 => Verdict::Error(ErrorKind::Unanswered),
            _ => Verdict::Violation,
        }
    }

    /// The error that lies in a slot as one that the server passes on.
    fn passed_on(&self, slot: usize, in_body: bool) -> ErrorKind {
        let start = self.raw.payload(slot, in_body);
        let [number, maybe_executed] = [0, 1].map(|at| self.raw.byte(start + at).load(Ordering::Relaxed));
        let maybe_executed = maybe_executed != 0;
        match number {
            1 => ErrorKind::NotRunning,
            3 => ErrorKind::TimedOut { maybe_executed },
            4 => ErrorKind::ServerClosed { maybe_executed },
            5 => ErrorKind::Refused,
            6 => ErrorKind::Busy,
            7 => ErrorKind::Full,
            8 => ErrorKind::Unanswered,
            _ => ErrorKind::PeerDied { maybe_executed },
        }
    }

    /// One action of the server's.
    fn harm(&mut self, dice: &mut Dice<'_>, capacity: u64) {
        let raw = &self.raw;
        let slot = dice.below(SLOTS);
        match dice.below(128) {
            // A reply by the rules, mostly.
            0..=99 => {
                let in_body = dice.one_in(2);
                let failures = [3, 4, 5, 11, 128, 200].map(|kind| kind << 32);
                let kind = if dice.one_in(2) { REPLY } else { dice.of(&failures) };
                let room = match (kind, in_body) {
                    (REPLY, true) => capacity,
                    (REPLY, false) => capacity.min(48),
                    (_, true) => 1024,
                    _ => 48,
                };
                let len = dice.of(&[0, 1, room / 2, room]);
                let flag = if in_body { IN_BODY } else { 0 };
                raw.head(slot).store(kind | flag | len, Ordering::Relaxed);
                let odd_bits = dice.of(&[0, 0, 2, 4, 0xfe]);
                raw.turn(slot).store(self.sent[slot] << 8 | odd_bits, Ordering::SeqCst);
            }
            100..=103 => raw.waiting().store(odd_number(dice, capacity) as u32, Ordering::Relaxed),
            104..=107 => {
                raw.half(1152 + 4 * dice.below(16)).store(odd_number(dice, capacity) as u32, Ordering::Relaxed)
            }
            108..=111 => raw.word(8 * dice.below(512)).store(dice.word(), Ordering::Relaxed),
            112..=115 => {
                let (start, value) = (raw.payload(slot, dice.one_in(2)), dice.word());
                (0..48).for_each(|at| raw.byte(start + at).store((value >> (at % 8 * 8)) as u8, Ordering::Relaxed));
            }
            _ if !dice.one_in(4) => {}
            116 => raw.turn(slot).store(odd_number(dice, capacity) & !SERVER, Ordering::SeqCst),
            117 => drop(raw.turn(slot).fetch_xor(1 << dice.below(64), Ordering::SeqCst)),
            118 => raw.head(slot).store(odd_number(dice, capacity), Ordering::Relaxed),
            119 => drop(raw.head(slot).fetch_xor(1 << dice.below(64), Ordering::Relaxed)),
            120..=125 => {
                raw.head(slot).store(
                    REPLY | dice.of(&[0, IN_BODY]) | (odd_number(dice, capacity) & 0xffff_ffff),
                    Ordering::Relaxed,
                );
                raw.turn(slot).store(self.sent[slot] << 8, Ordering::SeqCst);
            }
            126 => raw.turn(slot).store((self.sent[slot] + 1) << 8, Ordering::SeqCst),
            _ => {
                let seed = dice.word();
                (0..raw.size.min(32 << 10))
                    .step_by(8)
                    .for_each(|offset| raw.word(offset).store(word(seed, offset as u64), Ordering::Relaxed));
            }
        }
    }

    /// One action of the client's, and what must come of it.
    fn act(&mut self, dice: &mut Dice<'_>, capacity: u64, tally: &mut Tally) -> Result<(), String> {
        match dice.below(8) {
            0..=2 => self.send(dice, capacity),
            3 => {
                let index = dice.below(SLOTS);
                if index < self.replies.len() {
                    drop(self.replies.swap_remove(index));
                }
                Ok(())
            }
            4 if dice.one_in(4) && !self.calls.is_empty() => {
                let call = self.calls.swap_remove(dice.below(self.calls.len()));
                no_panic(|| drop(call)) // abandoned
            }
            _ if !self.calls.is_empty() => self.look(dice, tally),
            _ => Ok(()),
        }
    }

    fn send(&mut self, dice: &mut Dice<'_>, capacity: u64) -> Result<(), String> {
        let len = dice.of(&[0, 1, 48, 49, capacity as usize]).min(capacity as usize);
        let client = self.client.client();
        let loan = match no_panic(|| client.try_loan(len))? {
            Ok(loan) => loan,
            Err(error) => {
                let is_right = match error.kind() {
                    ErrorKind::Full => self.calls.len() + self.replies.len() <= SLOTS,
                    ErrorKind::Violation => self.is_over,
                    _ => false,
                };
                return if is_right { Ok(()) } else { Err(format!("a loan: {error}")) };
            }
        };
        let offset = loan.as_ptr().addr().wrapping_sub(self.base);
        let slot = (0..SLOTS).find(|&slot| self.raw.payload(slot, len > 48) == offset);
        let slot = slot.ok_or_else(|| format!("a loan of {len} bytes lies at offset {offset:#x}"))?;
        if loan.len() != len {
            return Err(format!("a loan of {len} bytes has {}", loan.len()));
        }
        if dice.one_in(8) {
            return no_panic(|| drop(loan));
        }
        let pending = no_panic(|| loan.send())?.map_err(|error| format!("a send: {error}"))?;
        self.sent[slot] += 1;
        let turn = self.raw.turn(slot).load(Ordering::Relaxed);
        if turn != self.sent[slot] << 8 | SERVER {
            return Err(format!("slot {slot} was sent with turn {turn:#x} as request {}", self.sent[slot]));
        }
        self.calls.push(Call { slot, sequence: self.sent[slot], pending });
        Ok(())
    }

    /// The client looks for a reply.
    fn look(&mut self, dice: &mut Dice<'_>, tally: &mut Tally) -> Result<(), String> {
        let index = dice.below(self.calls.len());
        let verdict = self.verdict(&self.calls[index]);
        let call = &mut self.calls[index];
        let outcome = match dice.below(16) {
            0 => no_panic(|| call.pending.wait_timeout(Duration::ZERO))?,
            _ => no_panic(|| call.pending.try_wait())?,
        };
        let slot = call.slot;
        match (verdict, outcome) {
            (Verdict::NotThere, None) => return Ok(()),
            (Verdict::NotThere, Some(Err(error))) if self.is_over && error.kind() == ErrorKind::Violation => {}
            (Verdict::Reply(len, in_body), Some(Ok(reply))) => {
                tally.requests += 1;
                let expected = self.base + self.raw.payload(slot, in_body);
                if reply.len() != len || reply.as_ptr().addr() != expected {
                    return Err(format!("slot {slot}: a reply of {} bytes where {len} were passed", reply.len()));
                }
                let start = self.raw.payload(slot, in_body);
                if (0..len.min(16)).any(|at| reply[at] != self.raw.byte(start + at).load(Ordering::Relaxed)) {
                    return Err(format!("slot {slot}: the reply is another one than was passed"));
                }
                if self.replies.is_empty() {
                    self.replies.push(reply);
                }
            }
            (Verdict::Error(kind), Some(Err(error))) if error.kind() == kind => {
                if error.to_string().len() > 3 * 1024 + 64 {
                    return Err(format!("an error's text of {} bytes", error.to_string().len()));
                }
            }
            (Verdict::Violation, Some(Err(error))) if error.kind() == ErrorKind::Violation => {
                tally.violations += 1;
                self.is_over = true;
            }
            (verdict, outcome) => {
                let outcome = outcome.map(|outcome| outcome.map(|reply| std::mem::ManuallyDrop::new(reply).len()));
                let head = self.raw.head(slot).load(Ordering::Relaxed);
                return Err(format!("slot {slot}, head {head:#x}: {outcome:?} where {verdict:?} was right"));
            }
        }
        drop(self.calls.swap_remove(index));
        Ok(())
    }
}
