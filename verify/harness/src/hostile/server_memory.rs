//! A real server and one session whose memory is written by someone who means harm; one thread does both.
//!
//! After every action the server takes one step. What it must make of the memory is predicted from the words alone and
//! from docs/layout.md: nothing, a request that lies within its slot, or the end of that session and of no other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wigwag::{Client, Request, Server, Wait};
use wigwag_testing::wire::{self, VIOLATION};
use wigwag_testing::{Ground, HAS_DEADLINE, IN_BODY, REQUEST, Raw, SERVER, word};

use super::dice::{Dice, odd_number};
use super::polling::until;

/// What was done and seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Steps of the server.
    pub steps: u64,
    /// Requests that it gave out.
    pub requests: u64,
    /// Sessions that it ended as violations.
    pub violations: u64,
}

impl Tally {
    /// Adds another one's numbers.
    pub fn add(&mut self, other: Tally) {
        self.steps += other.steps;
        self.requests += other.requests;
        self.violations += other.violations;
    }
}

/// How many slots, how large, how the server waits.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Slots of a session.
    pub slots: usize,
    /// Capacity in bytes.
    pub capacity: usize,
    /// A server that spins looks at its memory at every step without a system call.
    pub wait: Wait,
}

/// Every shape that is tried.
pub const SHAPES: &[Shape] = &[
    Shape { slots: 4, capacity: 5000, wait: Wait::Spin },
    Shape { slots: 1, capacity: 40, wait: Wait::Spin },
    Shape { slots: 7, capacity: 4096, wait: Wait::Spin },
    Shape { slots: 3, capacity: 9000, wait: Wait::Adaptive },
    Shape { slots: 64, capacity: 100, wait: Wait::Spin },
    Shape { slots: 2, capacity: 1 << 20, wait: Wait::Spin },
    Shape { slots: 2, capacity: 0, wait: Wait::Park },
];

/// What the server must make of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Request,
    Violation,
}

/// What the server knows of a slot, kept here a second time.
#[derive(Clone, Copy, Default)]
struct Known {
    taken: u64,
    answered: u64,
}

const SEQUENCES: u64 = u64::MAX >> 8;
/// Most requests held at a time.
const HELD_MAX: usize = 4;
/// How a request of the honest client begins; no hostile word is this one.
const HONEST: [u8; 16] = *b"honestly, I am..";

/// The server, its hostile session, and an honest client.
pub struct Stage {
    // The order is that of the ends: requests and clients before their server, the server before its directory.
    held: Vec<(usize, u64, Request)>,
    honest: Client,
    raw: Raw,
    server: Server,
    ground: Ground,
    shape: Shape,
    known: Vec<Known>,
    /// Where the server has the session's memory.
    base: usize,
    /// Sessions that ended as violations, by the server's count.
    ended: u64,
    /// Sessions ever begun.
    begun: u64,
    honest_calls: u64,
    tally: Tally,
}

impl Stage {
    /// Starts a server.
    pub fn new(shape: Shape) -> Stage {
        let ground = Ground::new();
        let builder = Server::builder().slots(shape.slots).capacity(shape.capacity.max(64)).wait(shape.wait);
        let mut server = builder.bind(ground.socket()).expect("a server");
        let connect = || Client::builder().slots(1).capacity(64).connect(ground.socket());
        let honest = std::thread::scope(|scope| scope.spawn(connect).join().expect("a connect")).expect("a client");
        until("the honest client is in", || server.stats().sessions == 1);
        let _ = server.try_recv();
        let raw = connect_with(&ground, shape);
        let known = vec![Known::default(); shape.slots];
        let tally = Tally::default();
        let mut stage = Stage {
            held: Vec::new(),
            honest,
            raw,
            server,
            ground,
            shape,
            known,
            base: 0,
            ended: 0,
            begun: 1,
            honest_calls: 0,
            tally,
        };
        stage.begin().expect("a new session works");
        stage
    }

    /// What was done since the last time it was asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Deeds and steps, up to so many, or until the choices are used up; then the honest client is asked. The error
    /// says what was wrong; the stage is of no use then.
    pub fn play(&mut self, dice: &mut Dice<'_>, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            if dice.is_over() {
                break;
            }
            self.harm(dice);
            self.step(dice)?;
            if self.tally.steps.is_multiple_of(1024) {
                self.check_alive()?;
            }
        }
        self.check_alive()?;
        self.call_honestly()
    }

    /// A new hostile session, so that nothing of the one before matters.
    pub fn begin_anew(&mut self, dice: &mut Dice<'_>) -> Result<(), String> {
        self.renew(dice)
    }

    /// As [`Stage::play`], but somebody else writes at the same time, so that only bounds can be checked.
    pub fn race(&mut self, dice: &mut Dice<'_>, sessions: usize, limit: Duration) -> Result<(), String> {
        let begin = Instant::now();
        for _ in 0..sessions {
            if begin.elapsed() > limit {
                break;
            }
            let (is_on, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
            let raw = &self.raw;
            let hostile = odd_number(dice, raw.capacity) | IN_BODY | dice.of(&[REQUEST, 2 << 32]);
            let outcome = std::thread::scope(|scope| {
                scope.spawn(|| scribble(raw, hostile, &is_on, &is_over));
                until("the other writer writes", || is_on.load(Ordering::Relaxed));
                let outcome = race_on(&mut self.server, raw, self.shape, self.base, &mut self.tally);
                is_over.store(true, Ordering::Relaxed);
                outcome
            });
            outcome?;
            self.renew(dice)?;
            self.call_honestly()?;
        }
        Ok(())
    }

    fn turn(&self, slot: usize) -> u64 {
        self.raw.turn(slot).load(Ordering::Relaxed)
    }

    fn verdict(&self, slot: usize) -> Verdict {
        let (turn, known) = (self.turn(slot), self.known[slot]);
        let next = (known.taken + 1) & SEQUENCES;
        if turn & !6 == next << 8 | SERVER {
            let (len, high) = parts_of(self.raw.head(slot).load(Ordering::Relaxed));
            let room = if high & 0x100 != 0 { self.shape.capacity } else { self.shape.capacity.min(48) };
            let is_legal = high & !0x300 == 1 && len <= room && known.answered == known.taken;
            return if is_legal { Verdict::Request } else { Verdict::Violation };
        }
        let is_wrong = turn & SERVER != 0 && turn >> 8 != known.taken;
        if is_wrong { Verdict::Violation } else { Verdict::Nothing }
    }

    /// One action.
    fn harm(&mut self, dice: &mut Dice<'_>) {
        let slot = dice.below(self.shape.slots);
        let (capacity, is_mine) = (self.raw.capacity, self.turn(slot) & SERVER == 0);
        match dice.below(256) {
            0..=139 if is_mine => self.pass(dice, slot, 0),
            0..=159 => drop(self.raw.depth().swap(dice.below(self.shape.slots + 2) as u32, Ordering::Relaxed)),
            160..=179 => {
                let offset = 1024 + 4 * dice.below(48);
                self.raw.half(offset).store(odd_number(dice, capacity) as u32, Ordering::Relaxed);
            }
            180..=189 => self.raw.deadline(slot).store(odd_number(dice, capacity), Ordering::Relaxed),
            190..=199 => self.raw.word(8 * dice.below(128)).store(dice.word(), Ordering::Relaxed),
            200..=214 if is_mine => self.raw.head(slot).store(odd_number(dice, capacity), Ordering::Relaxed),
            215..=234 => {
                let (start, bytes) = (self.raw.payload(slot, dice.one_in(2)), dice.word().to_ne_bytes());
                let room = self.raw.size - start - 8;
                let at = (start + dice.below(64)).min(start + room);
                bytes.iter().enumerate().for_each(|(i, byte)| self.raw.byte(at + i).store(*byte, Ordering::Relaxed));
            }
            235..=244 => drop(self.raw.turn(slot).fetch_or(dice.of(&[2, 4, 6]), Ordering::SeqCst)),
            245..=251 => self.raw.depth().store(odd_number(dice, capacity) as u32, Ordering::Relaxed),
            _ if dice.one_in(4) => self.break_rules(dice, slot),
            _ => {}
        }
    }

    /// One action that is likely to end the session.
    fn break_rules(&mut self, dice: &mut Dice<'_>, slot: usize) {
        let known = self.known[slot];
        let raw = &self.raw;
        raw.depth().store(dice.of(&[raw.slots as u32, u32::MAX, 1]), Ordering::Relaxed);
        match dice.below(8) {
            0 => raw.turn(slot).store(odd_number(dice, raw.capacity), Ordering::SeqCst),
            1 => drop(raw.turn(slot).fetch_xor(1 << dice.below(64), Ordering::SeqCst)),
            2 | 3 => self.pass(dice, slot, 1),
            4 => self.pass(dice, slot, 2),
            5 => {
                let sequence = known.taken.wrapping_add(dice.of(&[0, 1, 2, u64::MAX, 1 << 31, 1 << 55]));
                raw.turn(slot).store(sequence << 8 | SERVER | dice.of(&[0, 2, 4, 8, 0x80]), Ordering::SeqCst);
            }
            6 => {
                // Everything but the first page's rest: each word at random, or each the same.
                let same = dice.one_in(2).then(|| odd_number(dice, raw.capacity));
                let seed = dice.word();
                for offset in (1024..raw.size.min(64 << 10)).step_by(8) {
                    let value = same.unwrap_or_else(|| word(seed, offset as u64));
                    raw.word(offset).store(value, Ordering::Relaxed);
                }
            }
            _ => (0..dice.below(64)).for_each(|_| {
                let bytes = dice.below(raw.size.min(64 << 10));
                raw.byte(bytes).store(dice.word() as u8, Ordering::Relaxed);
            }),
        }
    }

    /// Passes a slot: by the rules (0), with a hostile head (1), with one bit of the head or the turn turned over (2).
    fn pass(&self, dice: &mut Dice<'_>, slot: usize, harm: u32) {
        let raw = &self.raw;
        let in_body = dice.one_in(2);
        let room = if in_body { raw.capacity } else { raw.capacity.min(48) };
        let len = dice.of(&[0, 1, 16, room / 2, room.saturating_sub(1), room]).min(room);
        let flags = if in_body { IN_BODY } else { 0 } | dice.of(&[0, 0, HAS_DEADLINE]);
        let mut head = REQUEST | flags | len;
        let mut turn = ((self.known[slot].taken + 1) & SEQUENCES) << 8 | SERVER | dice.of(&[0, 0, 0, 2, 4, 6]);
        match harm {
            1 if dice.one_in(4) => head = odd_number(dice, raw.capacity),
            1 => head = REQUEST | dice.of(&[0, IN_BODY]) | (odd_number(dice, raw.capacity) & 0xffff_ffff),
            2 if dice.one_in(2) => head ^= 1 << dice.below(64),
            2 => turn ^= 1 << dice.below(64),
            _ => {}
        }
        let start = raw.payload(slot, in_body);
        (start..start + (len as usize).min(16))
            .for_each(|at| raw.byte(at).store((turn >> 8) as u8 ^ at as u8, Ordering::Relaxed));
        raw.depth().fetch_max(slot as u32 + 1, Ordering::Relaxed);
        raw.head(slot).store(head, Ordering::Relaxed);
        raw.turn(slot).store(turn, Ordering::SeqCst);
    }

    /// One step of the server, and what must come of it.
    fn step(&mut self, dice: &mut Dice<'_>) -> Result<(), String> {
        let depth = (self.raw.depth().load(Ordering::Relaxed) as usize).min(self.shape.slots);
        let (mut requests, mut violations) = (0u64, 0u64);
        for slot in 0..depth {
            match self.verdict(slot) {
                Verdict::Nothing => {}
                Verdict::Request => requests |= 1 << slot,
                Verdict::Violation => violations |= 1 << slot,
            }
        }
        if self.shape.wait != Wait::Spin {
            self.raw.ring();
        }
        self.tally.steps += 1;
        match receive(&mut self.server)? {
            Some(request) => {
                self.tally.requests += 1;
                let slot = self.check_request(&request, requests)?;
                self.known[slot].taken = (self.known[slot].taken + 1) & SEQUENCES;
                self.handle(dice, slot, request)
            }
            None if violations != 0 => self.violated(dice),
            None if requests != 0 => Err(format!("no request was found where slots {requests:#b} had one")),
            None => Ok(()),
        }
    }

    /// The request is one that was passed, and lies where it must.
    fn check_request(&self, request: &Request, legal: u64) -> Result<usize, String> {
        let (slot, in_body) = place_of(request, self.base, &self.raw)?;
        let (len, high) = parts_of(self.raw.head(slot).load(Ordering::Relaxed));
        if legal & 1 << slot == 0 {
            return Err(format!(
                "slot {slot} was given out as a request of {} bytes with head {len} {high:#x} and turn {:#x} after \
                 request {}, which is a violation",
                request.len(),
                self.turn(slot),
                self.known[slot].taken
            ));
        }
        if request.len() != len || in_body != (high & 0x100 != 0) {
            return Err(format!("slot {slot}: the handler sees {} bytes where {len} were passed", request.len()));
        }
        let ends = (0..len.min(8)).chain(len.saturating_sub(8)..len);
        let start = self.raw.payload(slot, in_body);
        for at in ends {
            if request[at] != self.raw.byte(start + at).load(Ordering::Relaxed) {
                return Err(format!("slot {slot}: byte {at} is another one than was passed"));
            }
        }
        let _ = request.deadline(); // any number is one
        Ok(slot)
    }

    fn handle(&mut self, dice: &mut Dice<'_>, slot: usize, request: Request) -> Result<(), String> {
        let sequence = self.known[slot].taken;
        if self.held.len() < HELD_MAX && dice.one_in(16) {
            self.held.push((slot, sequence, request));
            return Ok(());
        }
        self.answer(dice, slot, sequence, request)?;
        if !self.held.is_empty() && dice.one_in(8) {
            let (slot, sequence, request) = self.held.swap_remove(dice.below(self.held.len()));
            self.answer(dice, slot, sequence, request)?;
        }
        Ok(())
    }

    /// Answers in one of the ways there are; what the client has done to the turn meanwhile is noticed then.
    fn answer(&mut self, dice: &mut Dice<'_>, slot: usize, sequence: u64, request: Request) -> Result<(), String> {
        let turn = self.turn(slot);
        let is_violation = turn & SERVER == 0 || turn >> 8 != sequence;
        let capacity = self.shape.capacity;
        let (kind, len) = no_panic(|| answer_somehow(dice, request, capacity))?;
        self.known[slot].answered = sequence;
        let (turn, head) = (self.turn(slot), parts_of(self.raw.head(slot).load(Ordering::Relaxed)));
        if turn != sequence << 8 || head.1 & 0xff != kind || len.is_some_and(|len| len != head.0) {
            return Err(format!(
                "slot {slot} came back with turn {turn:#x} and head {head:x?} after request {sequence}"
            ));
        }
        if is_violation { self.violated(dice) } else { Ok(()) }
    }

    /// The session must have ended as a violation, and the honest client's not.
    fn violated(&mut self, dice: &mut Dice<'_>) -> Result<(), String> {
        self.tally.violations += 1;
        let end = no_panic(|| wire::receive_end(&self.raw.socket))?;
        if !matches!(end, Some((VIOLATION, _))) {
            return Err(format!("a session that broke the rules ended as {end:?}"));
        }
        if self.server.stats().violations != self.ended + 1 {
            return Err("a violation was not counted, or counted for more than one session".into());
        }
        self.renew(dice)?;
        if self.tally.violations.is_multiple_of(16) { self.call_honestly() } else { Ok(()) }
    }

    /// A new session in place of the one that is over or not wanted any more.
    fn renew(&mut self, dice: &mut Dice<'_>) -> Result<(), String> {
        self.raw = connect_with(&self.ground, self.shape);
        // Requests of a session that is gone can be answered and dropped all the same.
        for (_, _, request) in std::mem::take(&mut self.held) {
            no_panic(|| answer_somehow(dice, request, self.shape.capacity))?;
        }
        self.begin()
    }

    /// The first call of a session tells where the server has its memory.
    fn begin(&mut self) -> Result<(), String> {
        self.begun += 1;
        // In this order: a session is among the living before it is counted as accepted. What the answers to requests
        // of the one before brought to light is then counted, too.
        until("the session is accepted", || self.server.stats().sessions_accepted == self.begun);
        until("the session is the only one but the honest client's", || self.server.stats().sessions == 2);
        self.ended = self.server.stats().violations;
        self.known.fill(Known::default());
        self.raw.pass(0, 1 << 8 | SERVER, REQUEST);
        let request = receive_soon(&mut self.server)?;
        self.base = request.as_ptr().addr() - self.raw.payload(0, false);
        if !self.base.is_multiple_of(4096) {
            return Err(format!("an inline payload lies at {:p}", request.as_ptr()));
        }
        request.reply();
        self.known[0] = Known { taken: 1, answered: 1 };
        Ok(())
    }

    /// The session has not been ended, nor any other that did nothing wrong.
    fn check_alive(&self) -> Result<(), String> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut socket = [PollFd::new(&self.raw.socket, PollFlags::IN | PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut socket, Some(&now)) {
            Ok(0) => Ok(()),
            _ => Err(format!("a session was ended for no reason: {:?}", wire::receive_end(&self.raw.socket))),
        }
    }

    /// The honest client's call succeeds, whatever lies in the other session's memory.
    fn call_honestly(&mut self) -> Result<(), String> {
        let trouble = |what: &str, error: wigwag::Error| format!("the honest client: {what}: {error}");
        self.honest_calls += 1;
        let mut loan = self.honest.loan(24).map_err(|error| trouble("loan", error))?;
        loan[..16].copy_from_slice(&HONEST);
        loan[16..].copy_from_slice(&self.honest_calls.to_le_bytes());
        // What the hostile session has passed is done with first: it may be found first.
        self.raw.depth().store(0, Ordering::Relaxed);
        let pending = loan.send().map_err(|error| trouble("send", error))?;
        let mut request = receive_soon(&mut self.server)?;
        if !request.starts_with(&HONEST) || request.len() != 24 {
            return Err("the honest client's request is not the one it sent".into());
        }
        request.reverse();
        request.reply();
        let reply = pending.wait().map_err(|error| trouble("wait", error))?;
        let mut expected = [HONEST.as_slice(), &self.honest_calls.to_le_bytes()].concat();
        expected.reverse();
        if reply[..] == expected[..] { Ok(()) } else { Err("the honest client's reply is wrong".into()) }
    }
}

fn connect_with(ground: &Ground, shape: Shape) -> Raw {
    Raw::connect_with(&ground.socket(), u32::MAX, shape.capacity as u32)
}

/// Length and the rest of a head.
fn parts_of(head: u64) -> (usize, u64) {
    (head as u32 as usize, head >> 32)
}

/// The slot of a request, and whether it lies in the body, from its address.
fn place_of(request: &Request, base: usize, raw: &Raw) -> Result<(usize, bool), String> {
    let offset = request.as_ptr().addr().wrapping_sub(base);
    let slots = (0..raw.slots).flat_map(|slot| [(slot, false), (slot, true)]);
    let mut places = slots.filter(|&(slot, in_body)| raw.payload(slot, in_body) == offset);
    places.next().ok_or_else(|| format!("a request lies at offset {offset:#x}, where no payload begins"))
}

fn answer_somehow(dice: &mut Dice<'_>, mut request: Request, capacity: usize) -> (u64, Option<usize>) {
    match dice.below(16) {
        0 => {
            request.fail("on purpose");
            (3, Some(10))
        }
        1 => (5, Some(0)), // dropped
        2 => {
            let len = dice.below(capacity + 2);
            assert_eq!(request.resize(len).is_ok(), len <= capacity, "a reply of {len} bytes");
            let len = request.len();
            request.reply();
            (2, Some(len))
        }
        3 => {
            let bytes = [7; 64];
            let len = dice.below(65).min(capacity);
            request.set_reply(&bytes[..len]).expect("within the capacity");
            request.reply();
            (2, Some(len))
        }
        4 => {
            let _ = request.is_abandoned();
            request.reply();
            (2, None)
        }
        _ => {
            let len = request.len();
            if let (Some(first), true) = (request.first().copied(), len > 0) {
                request[0] = !first;
                request[len - 1] ^= 1;
            }
            request.reply();
            (2, Some(len))
        }
    }
}

/// Whatever a peer does, the library does not panic.
pub(super) fn no_panic<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("panicked: {}", text.unwrap_or("(no text)"))
    })
}

fn receive(server: &mut Server) -> Result<Option<Request>, String> {
    no_panic(|| server.try_recv())?.map_err(|error| format!("the server stopped serving: {error}"))
}

fn receive_soon(server: &mut Server) -> Result<Request, String> {
    let mut received = Ok(None);
    until("a request that must come", || {
        received = receive(server);
        !matches!(received, Ok(None))
    });
    received.map(|request| request.expect("it is there"))
}

/// Writes a hostile head again and again, and the right one in between.
fn scribble(raw: &Raw, hostile: u64, is_on: &AtomicBool, is_over: &AtomicBool) {
    let legal = REQUEST | 8;
    while !is_over.load(Ordering::Relaxed) {
        // Wrong for so short a time that the server rarely sees it at its first look. Some of the times are longer
        // than a store: a processor may join two stores that follow each other, so that nobody ever sees the first.
        for pause in 0..64 {
            raw.head(0).store(hostile, Ordering::Relaxed);
            let held = if pause % 16 == 15 { pause / 2 } else { 0 };
            (0..held).for_each(|_| std::hint::spin_loop());
            raw.head(0).store(legal, Ordering::Relaxed);
            (0..pause).for_each(|_| std::hint::spin_loop());
        }
        is_on.store(true, Ordering::Relaxed);
    }
}

/// Legal turns while the head changes, until the session is over or for long enough.
fn race_on(server: &mut Server, raw: &Raw, shape: Shape, base: usize, tally: &mut Tally) -> Result<(), String> {
    for sequence in 2..2000 {
        raw.head(0).store(REQUEST | 8, Ordering::Relaxed);
        raw.turn(0).store(sequence << 8 | SERVER, Ordering::SeqCst);
        raw.depth().store(1, Ordering::Relaxed);
        tally.steps += 1;
        let Some(request) = receive(server)? else {
            tally.violations += 1;
            return Ok(());
        };
        tally.requests += 1;
        let (_, in_body) = place_of(&request, base, raw)?;
        let room = if in_body { shape.capacity } else { shape.capacity.min(48) };
        if request.len() > room {
            let len = request.len();
            std::mem::forget(request); // its bytes are nobody's
            return Err(format!(
                "a request of {len} bytes where {room} are the most: its head changed after it was checked"
            ));
        }
        request.reply();
    }
    Ok(())
}
