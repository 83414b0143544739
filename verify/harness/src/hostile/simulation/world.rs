//! The world of one seed: at most one server, some clients, and sessions by hand that break the rules now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use wigwag::{Client, ErrorKind, Request, Server, Wait};
use wigwag_testing::wire::{self, VIOLATION};
use wigwag_testing::{Ground, IN_BODY, REQUEST, Raw, SERVER};

use super::call::{Answer, Calls, State, reply, request};
use super::sim_client::{ActionResult, SimClient};
use crate::hostile::dice::Dice;
use crate::hostile::polling::until;

const CLIENTS_MAX: usize = 4;
const CAPACITY: usize = 600;
const SLOTS: usize = 3;

/// The server, and what the model counts of it.
struct Host {
    server: Server,
    number: u32,
    accepted: u64,
    refused: u64,
    violations: u64,
    /// Told to shut down: nobody is let in any more, and what had been passed has been received.
    is_closing: bool,
    is_drained: bool,
}

/// A session by hand: it calls by the rules until it breaks them.
struct Visitor {
    raw: Raw,
    number: u64,
    /// The sequence of the last request, and its number while it is under way.
    sequence: u64,
    under_way: Option<u64>,
}

/// One seed's world.
pub struct World<'a> {
    // Clients and requests end before the server.
    sim_clients: Vec<SimClient>,
    visitors: Vec<Visitor>,
    held: BTreeMap<u64, Request>,
    host: Option<Host>,
    ground: &'a Ground,
    dice: Dice<'a>,
    model: Calls,
    last_call: u64,
    last_owner: u64,
    /// The owners of calls that the server has taken, so that a serving thread has their sessions for sure.
    settled_owners: BTreeSet<u64>,
    last_server: u32,
    /// What was done, in order.
    pub log: Vec<String>,
}

impl<'a> World<'a> {
    /// Nothing is there yet.
    pub fn new(ground: &'a Ground, dice: Dice<'a>) -> World<'a> {
        World {
            sim_clients: Vec::new(),
            visitors: Vec::new(),
            held: BTreeMap::new(),
            host: None,
            ground,
            dice,
            model: Calls::default(),
            last_call: 0,
            last_owner: 0,
            settled_owners: BTreeSet::new(),
            last_server: 0,
            log: Vec::new(),
        }
    }

    /// Calls that were made.
    pub fn calls_made(&self) -> usize {
        self.model.0.len()
    }

    /// So many actions, and an end in good order at which everything must add up.
    pub fn play(&mut self, actions: usize) -> ActionResult {
        self.bind()?;
        self.connect()?;
        for _ in 0..actions {
            self.action()?;
        }
        self.finish()
    }

    fn action(&mut self) -> ActionResult {
        match self.dice.below(100) {
            0..=3 => self.connect(),
            4..=5 => self.disconnect(),
            6..=21 => self.with_sim_client("loans", |sim_client, dice, model, _| sim_client.loan(dice, model)),
            22..=41 => self.with_sim_client("sends", |sim_client, dice, model, id| sim_client.send(dice, model, id)),
            42..=57 => self.with_sim_client("looks", |sim_client, dice, model, _| sim_client.look(dice, model)),
            58..=62 => self.with_sim_client("gives up", |sim_client, dice, model, _| sim_client.abandon(dice, model)),
            63..=69 => self.with_sim_client("finishes", |sim_client, dice, _, _| sim_client.finish(dice)),
            70..=79 => self.receive(),
            80..=90 => self.answer(),
            91 => self.visit(),
            92..=94 => self.call_by_hand(),
            95 => self.break_rules(),
            96 => self.shut_down(),
            97 => self.stop(),
            // A name that is taken is tried for ten milliseconds: not too often.
            98 if !self.is_open() || self.dice.one_in(16) => self.bind(),
            _ => self.check_counts(),
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }

    fn is_open(&self) -> bool {
        self.host.as_ref().is_some_and(|host| !host.is_closing)
    }

    /// A client does something.
    fn with_sim_client(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut SimClient, &mut Dice<'_>, &mut Calls, u64) -> ActionResult,
    ) -> ActionResult {
        if self.sim_clients.is_empty() {
            return Ok(());
        }
        let index = self.dice.below(self.sim_clients.len());
        self.last_call += 1;
        let (number, id) = (self.sim_clients[index].number, self.last_call);
        self.note(format!("client {number} {what} (call {id})"));
        act(&mut self.sim_clients[index], &mut self.dice, &mut self.model, id)
    }

    fn bind(&mut self) -> ActionResult {
        let wait = self.dice.of(&[Wait::Spin, Wait::Adaptive, Wait::Park]);
        self.note(format!("a server is bound, {wait:?}"));
        let builder = Server::builder().slots(SLOTS).capacity(CAPACITY).wait(wait);
        let outcome = builder.bind(self.ground.socket());
        match (self.is_open(), outcome) {
            (true, Err(error)) if error.kind() == ErrorKind::NameTaken => Ok(()),
            (false, Ok(server)) => {
                self.drop_server();
                self.last_server += 1;
                let number = self.last_server;
                self.host = Some(Host {
                    server,
                    number,
                    accepted: 0,
                    refused: 0,
                    violations: 0,
                    is_closing: false,
                    is_drained: false,
                });
                Ok(())
            }
            (_, outcome) => Err(format!("a bind ended as {outcome:?}")),
        }
    }

    fn connect(&mut self) -> ActionResult {
        if self.sim_clients.len() >= CLIENTS_MAX {
            return Ok(());
        }
        let is_greedy = self.dice.one_in(8);
        let slots = 1 + self.dice.below(SLOTS) + usize::from(is_greedy);
        let capacity = self.dice.of(&[49, 100, CAPACITY]) + usize::from(is_greedy);
        let wait = self.dice.of(&[Wait::Adaptive, Wait::Park, Wait::Spin]);
        self.last_owner += 1;
        let number = self.last_owner;
        self.note(format!("client {number} connects: {slots} slots of {capacity}, {wait:?}"));
        let builder = Client::builder().slots(slots).capacity(capacity).wait(wait);
        let outcome = builder.connect(self.ground.socket());
        let is_modest = slots <= SLOTS && capacity <= CAPACITY;
        let is_open = self.is_open();
        match (outcome, &mut self.host) {
            (Ok(client), Some(host)) if is_open && is_modest => {
                if (client.slots(), client.capacity()) != (slots, capacity) {
                    return Err(format!("a session of {} slots of {}", client.slots(), client.capacity()));
                }
                host.accepted += 1;
                self.sim_clients.push(SimClient::new(client, number, host.number));
                self.wait_for_sessions();
                Ok(())
            }
            (Err(error), Some(host)) if is_open && !is_modest && error.kind() == ErrorKind::Refused => {
                host.refused += 1;
                Ok(())
            }
            (Err(error), _) if !is_open && error.kind() == ErrorKind::NotRunning => Ok(()),
            (outcome, _) => Err(format!("a connect ended as {outcome:?}, with an open server: {is_open}")),
        }
    }

    /// Sessions that the server must have.
    fn sessions(&self) -> u64 {
        let Some(host) = &self.host else { return 0 };
        let sim_clients = self
            .sim_clients
            .iter()
            .filter(|sim_client| sim_client.server == host.number && !sim_client.is_over)
            .count();
        (sim_clients + self.visitors.len()) as u64
    }

    /// The control thread works beside us: its effect is waited for, so that what follows does not depend on it.
    fn wait_for_sessions(&self) {
        let Some(host) = &self.host else { return };
        let sessions = self.sessions();
        until("the server has the sessions it must have", || {
            let stats = host.server.stats();
            (stats.sessions, stats.sessions_accepted) == (sessions, host.accepted)
        });
    }

    fn disconnect(&mut self) -> ActionResult {
        if self.sim_clients.is_empty() {
            return Ok(());
        }
        let mut sim_client = self.sim_clients.swap_remove(self.dice.below(self.sim_clients.len()));
        self.note(format!("client {} leaves", sim_client.number));
        sim_client.let_go(&mut self.model);
        self.model.lose(sim_client.number);
        drop(sim_client);
        self.wait_for_sessions();
        Ok(())
    }

    /// The server takes all there is.
    fn receive(&mut self) -> ActionResult {
        self.note("the server receives");
        let Some(host) = &mut self.host else { return Ok(()) };
        if std::mem::replace(&mut host.is_drained, host.is_closing) {
            return Ok(()); // what is passed from then on may be served or not
        }
        let owners: Vec<u64> = self
            .sim_clients
            .iter()
            .filter(|sim_client| !sim_client.is_over)
            .map(|sim_client| sim_client.number)
            .collect();
        let by_hand: Vec<u64> = self.visitors.iter().map(|visitor| visitor.number).collect();
        let is_here = |owner: u64| owners.contains(&owner) || by_hand.contains(&owner);
        let begin = std::time::Instant::now();
        loop {
            match host.server.try_recv() {
                Ok(Some(request)) => {
                    let owner = received(&mut self.model, &mut self.held, request)?;
                    self.settled_owners.insert(owner);
                }
                // The control thread deals out the sessions that are ready first: what their clients have passed is
                // served, too.
                Ok(None) if host.is_closing && begin.elapsed().as_secs() < 20 => std::thread::yield_now(),
                Ok(None) if host.is_closing => return Err("a server that is to shut down goes on".into()),
                // A new session is counted an instant before a serving thread has it. All others are found at once.
                Ok(None)
                    if self
                        .model
                        .untaken(|owner| is_here(owner) && !self.settled_owners.contains(&owner))
                        .is_some()
                        && begin.elapsed().as_secs() < 20 =>
                {
                    std::thread::yield_now()
                }
                Ok(None) => break,
                Err(error)
                    if host.is_closing && error.kind() == (ErrorKind::ServerClosed { maybe_executed: false }) =>
                {
                    break;
                }
                Err(error) => return Err(format!("the server cannot receive: {error}")),
            }
        }
        match self.model.untaken(is_here) {
            Some(id) => Err(format!("call {id} was passed, and the server did not find it")),
            None => Ok(()),
        }
    }

    /// The server answers one of the requests that it has.
    fn answer(&mut self) -> ActionResult {
        let ids: Vec<u64> = self.held.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = self.dice.of(&ids);
        let held = self.held.remove(&id).expect("it was listed");
        let way = self.dice.below(8);
        self.note(format!("call {id} is answered, way {way}"));
        let call = &self.model.0[&id];
        // Whose session is over is gone, too, as soon as the control thread knows.
        let is_over = self
            .sim_clients
            .iter()
            .find(|sim_client| sim_client.number == call.owner)
            .is_none_or(|sim_client| sim_client.is_over);
        let is_told = held.is_abandoned();
        if is_told != call.is_abandoned && !(is_told && is_over) {
            return Err(format!("call {id} is abandoned, or is not, and the server is told otherwise"));
        }
        let capacity = held.capacity();
        let len = self.dice.of(&[0, 8, 48, 49, capacity]);
        let answer = answer_one(held, id, way, len)?;
        self.model.moves(id, State::Answered(answer));
        Ok(())
    }

    /// A session by hand begins.
    fn visit(&mut self) -> ActionResult {
        if !self.is_open() || self.visitors.len() >= 2 {
            return Ok(());
        }
        self.last_owner += 1;
        let number = self.last_owner;
        self.note(format!("visitor {number} connects"));
        let raw = Raw::connect(&self.ground.socket());
        self.visitors.push(Visitor { raw, number, sequence: 0, under_way: None });
        if let Some(host) = &mut self.host {
            host.accepted += 1;
        }
        self.wait_for_sessions();
        Ok(())
    }

    /// A session by hand makes a call by the rules, or looks at what came of its last one.
    fn call_by_hand(&mut self) -> ActionResult {
        if self.visitors.is_empty() {
            return Ok(());
        }
        let index = self.dice.below(self.visitors.len());
        self.last_call += 1;
        let id = self.last_call;
        let visitor = &mut self.visitors[index];
        self.log.push(format!("visitor {} calls or looks (call {id})", visitor.number));
        if let Some(id) = visitor.under_way {
            let is_back = visitor.raw.turn(0).load(std::sync::atomic::Ordering::Acquire) & SERVER == 0;
            let State::Answered(answer) = self.model.state(id) else {
                return if is_back { Err(format!("call {id} came back unanswered")) } else { Ok(()) };
            };
            visitor.under_way = None;
            return check_by_hand(&visitor.raw, id, answer);
        }
        let len = self.dice.of(&[8, 48, 49, CAPACITY]);
        visitor.sequence += 1;
        visitor.under_way = Some(id);
        visitor.raw.write(0, len > 48, &request(id, len));
        self.model.sent(id, visitor.number, len, false);
        let flag = if len > 48 { IN_BODY } else { 0 };
        visitor.raw.pass(0, visitor.sequence << 8 | SERVER, REQUEST | flag | len as u64);
        Ok(())
    }

    /// A session by hand breaks the rules: that ends it, with a reason, and nothing else.
    fn break_rules(&mut self) -> ActionResult {
        if self.visitors.is_empty() || !self.is_open() {
            return Ok(());
        }
        self.receive()?; // so that it does not matter what of its own the server finds first
        let visitor = self.visitors.swap_remove(self.dice.below(self.visitors.len()));
        let way = self.dice.below(4);
        self.note(format!("visitor {} breaks the rules, way {way}", visitor.number));
        let raw = &visitor.raw;
        raw.depth().store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
        match way {
            0 => raw.pass(1, 1 << 8 | SERVER, REQUEST | IN_BODY | (CAPACITY as u64 + 1)),
            1 => raw.pass(2, 7 << 8 | SERVER, REQUEST),
            2 => raw.pass(0, (visitor.sequence + 2) << 8 | SERVER, REQUEST | 8),
            _ => wire::send(&raw.socket, b"hello again", &[]).map_err(|error| error.to_string())?,
        }
        self.model.lose(visitor.number);
        self.receive()?;
        let (reason, why) = raw.end();
        if reason != VIOLATION {
            return Err(format!("a violation ended with reason {reason}: {why}"));
        }
        if let Some(host) = &mut self.host {
            host.violations += 1;
        }
        self.wait_for_sessions();
        Ok(())
    }

    /// The server is told to shut down: nobody is let in any more, what was passed is still served.
    fn shut_down(&mut self) -> ActionResult {
        self.note("the server is told to shut down");
        let Some(host) = &mut self.host else { return Ok(()) };
        host.server.shutdown_handle().shutdown();
        host.is_closing = true;
        // The effect of the control thread.
        until("the name is free", || !self.ground.socket().exists());
        self.receive()
    }

    /// The server is dropped.
    fn stop(&mut self) -> ActionResult {
        self.note("the server is dropped");
        self.drop_server();
        Ok(())
    }

    fn drop_server(&mut self) {
        let Some(host) = self.host.take() else { return };
        for sim_client in self.sim_clients.iter_mut().filter(|sim_client| sim_client.server == host.number) {
            sim_client.is_over = true;
            self.model.lose(sim_client.number);
        }
        for visitor in self.visitors.drain(..) {
            self.model.lose(visitor.number);
        }
    }

    fn check_counts(&mut self) -> ActionResult {
        self.note("the counts are compared");
        let Some(host) = &self.host else { return Ok(()) };
        let expected = (self.sessions(), host.accepted, host.refused, host.violations);
        let counted = || {
            let stats = host.server.stats();
            (stats.sessions, stats.sessions_accepted, stats.sessions_refused, stats.violations)
        };
        // A refusal is counted after it is sent.
        let begin = Instant::now();
        while counted() != expected {
            if begin.elapsed() > Duration::from_secs(2) {
                return Err(format!("the server counts {:?}, not {expected:?}", counted()));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Everything comes to its end, and must add up.
    fn finish(&mut self) -> ActionResult {
        self.note("the end");
        self.receive()?;
        while !self.held.is_empty() {
            self.answer()?;
        }
        if !self.is_open() {
            self.drop_server(); // what was passed to a server that shuts down may never be received
        }
        for index in 0..self.sim_clients.len() {
            while self.sim_clients[index].has_calls() && !self.sim_clients[index].is_over {
                self.sim_clients[index].look(&mut self.dice, &mut self.model)?;
            }
            let sim_client = &mut self.sim_clients[index];
            sim_client.let_go(&mut self.model);
            if !sim_client.is_over {
                sim_client.check_slots(&self.model)?;
            }
        }
        self.check_counts()?;
        while !self.sim_clients.is_empty() {
            self.disconnect()?;
        }
        self.stop()
    }
}

/// Notes a request that came: one that was passed, not received before, with every byte as it was sent. Returns the
/// owner of its call.
fn received(model: &mut Calls, held: &mut BTreeMap<u64, Request>, got: Request) -> Result<u64, String> {
    let Some(id) = got.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(format!("a request of {} bytes, and nobody sent one so short", got.len()));
    };
    let Some(call) = model.0.get(&id) else { return Err(format!("a request {id} that nobody sent")) };
    if call.state != State::Sent {
        return Err(format!("call {id} was received, and it is {:?} already", call.state));
    }
    if got[..] != request(id, call.len) {
        return Err(format!("call {id} was received with other bytes than were sent"));
    }
    if got.deadline().is_some() != call.has_deadline || got.is_abandoned() != call.is_abandoned {
        return Err(format!("call {id}: {call:?}, and its request has deadline {:?}", got.deadline()));
    }
    let owner = call.owner;
    model.moves(id, State::Held);
    held.insert(id, got);
    Ok(owner)
}

fn answer_one(mut held: Request, id: u64, way: usize, len: usize) -> Result<Answer, String> {
    let bytes = reply(id, len);
    match way {
        0 => {
            held.fail(format_args!("the error of call {id}"));
            return Ok(Answer::Failed(format!("the error of call {id}")));
        }
        1 => {
            drop(held);
            return Ok(Answer::Unanswered);
        }
        2 => {
            // The bytes as they are, changed in place; and one that is too long changes nothing.
            let (before, capacity) = (held.to_vec(), held.capacity());
            if held.resize(capacity + 1).is_ok() || held[..] != before[..] {
                return Err(format!("call {id} took a reply beyond the capacity"));
            }
            held.iter_mut().for_each(|byte| *byte = !*byte);
            held.reply();
            return Ok(Answer::Reply(before.into_iter().map(|byte| !byte).collect()));
        }
        3 => {
            held.set_reply(&bytes).map_err(|error| error.to_string())?;
            std::thread::spawn(move || held.reply()).join().map_err(|_| "a reply on another thread panicked")?;
        }
        4 => {
            held.resize(len).map_err(|error| error.to_string())?;
            held.copy_from_slice(&bytes);
            held.reply();
        }
        _ => {
            held.set_reply(&bytes).map_err(|error| error.to_string())?;
            held.reply();
        }
    }
    Ok(Answer::Reply(bytes))
}

/// What a session by hand finds in its slot.
fn check_by_hand(raw: &Raw, id: u64, answer: &Answer) -> ActionResult {
    let head = raw.head(0).load(std::sync::atomic::Ordering::Relaxed);
    let bytes = raw.read(0, head & IN_BODY != 0, head as u32 as usize);
    let is_right = match answer {
        Answer::Reply(expected) => head >> 32 & 0xff == 2 && bytes == *expected,
        Answer::Failed(text) => head >> 32 & 0xff == 3 && bytes == text.as_bytes(),
        Answer::Unanswered => head >> 32 & 0xff == 5 && bytes.is_empty(),
    };
    if is_right { Ok(()) } else { Err(format!("call {id} came back with head {head:#x}, and was answered {answer:?}")) }
}
