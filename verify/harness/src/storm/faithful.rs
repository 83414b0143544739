//! A client that comes back to each next server, checks every byte, and believes what errors say.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag::{Client, Error, ErrorKind, Wait};
use wigwag_testing::Link;

use super::dice::Dice;
use super::ledger::Ledger;
use super::parcel;
use super::scoreboard::{Note, Phase, STEADY_MAX, Single, now_ns};
use super::steady::any_len;
use super::watch::{Queueing, comes_true};
use super::world::World;

/// The role: `index`, `seed`.
pub fn play(parent: &Link, arguments: &[&str]) {
    let (world, rest) = World::open(arguments);
    let [index, seed] = rest else { panic!("{arguments:?}") };
    let (index, seed): (usize, u64) = (index.parse().expect("an index"), seed.parse().expect("a seed"));
    parent.tell("ready");
    let (dice, queueing) = (Dice::new(seed + index as u64), Queueing::of_this_thread());
    let mut client = Faithful { world: &world, index, dice, queueing, nonce: Cell::new(0), life: 0 };
    loop {
        match world.board.phase() {
            Phase::End => break,
            Phase::Pause => {
                client.nonce.set(0); // the ledger is settled meanwhile
                world.board.faithful(index).is_paused.store(1, Ordering::Release);
                std::thread::sleep(Duration::from_micros(500));
            }
            Phase::Run => {
                world.board.faithful(index).is_paused.store(0, Ordering::Release);
                if let Err(what) = client.visit() {
                    world.complain(format!("faithful client {index}: {what}"));
                    break;
                }
            }
        }
    }
    world.board.faithful(index).is_paused.store(1, Ordering::Release);
    let _ = parent.hear();
}

struct Faithful<'w> {
    world: &'w World,
    index: usize,
    dice: Dice,
    queueing: Queueing,
    nonce: Cell<u64>,
    /// The server's life that greeted it.
    life: u64,
}

impl Faithful<'_> {
    /// One session, until its server dies or a pause begins.
    fn visit(&mut self) -> Result<(), String> {
        let wait = [Wait::Adaptive, Wait::Park, Wait::Adaptive, Wait::Spin][self.index % 4];
        let client = match Client::builder().wait(wait).connect(self.world.socket()) {
            Ok(client) => client,
            Err(error) if is_of_an_end(error.kind()) => {
                std::thread::sleep(Duration::from_millis(1));
                return Ok(());
            }
            Err(error) => return Err(format!("could not connect: {error:?}")),
        };
        match self.greet(&client) {
            Ok(life) => self.life = life,
            Err(error) if is_of_an_end(error.kind()) => return Ok(()),
            Err(error) => return Err(format!("was not greeted: {error:?}")),
        }
        let words = self.world.board.faithful(self.index);
        words.greeted_at.store(now_ns(), Ordering::Release);
        words.life.store(self.life, Ordering::Release);
        while self.world.board.phase() == Phase::Run {
            let goes_on = if self.dice.once_in(8) { self.pipeline(&client)? } else { self.call(&client)? };
            if !goes_on {
                return Ok(());
            }
            let think_us = self.world.board.single(Single::ThinkUs).load(Ordering::Relaxed);
            if think_us > 0 || self.nonce.get().is_multiple_of(8) {
                std::thread::sleep(self.dice.up_to_us(think_us.max(300)));
            }
        }
        Ok(())
    }

    fn greet(&self, client: &Client) -> wigwag::Result<u64> {
        let mut loan = client.loan(parcel::SHORTEST)?;
        parcel::write(&mut loan, parcel::GREETING, 0);
        let reply = loan.call()?;
        Ok(u64::from_le_bytes(reply[..8].try_into().expect("eight bytes")))
    }

    /// One call. `false`: its server is gone.
    fn call(&mut self, client: &Client) -> Result<bool, String> {
        let Some(nonce) = self.next() else { return Ok(true) };
        let (len, row) = (any_len(&mut self.dice), self.row());
        let begin = Begin::now(&self.queueing);
        let mut loan = match client.loan(len) {
            Ok(loan) => loan,
            Err(error) => return self.failed(nonce, begin, &error).map(|()| false),
        };
        parcel::write(&mut loan, row, nonce);
        match loan.call() {
            Ok(reply) => self.acknowledge(&reply, len, nonce, client).map(|()| true),
            Err(error) => self.failed(nonce, begin, &error).map(|()| false),
        }
    }

    /// Some calls at a time: each of them ends.
    fn pipeline(&mut self, client: &Client) -> Result<bool, String> {
        let (mut sent, mut goes_on, begin) = (Vec::new(), true, Begin::now(&self.queueing));
        for _ in 0..3 {
            let Some(nonce) = self.next() else { break };
            let len = any_len(&mut self.dice);
            let pending = client.loan(len).and_then(|mut loan| {
                parcel::write(&mut loan, self.row(), nonce);
                loan.send()
            });
            match pending {
                Ok(pending) => sent.push((pending, nonce, len)),
                Err(error) => {
                    self.failed(nonce, begin, &error)?;
                    goes_on = false;
                }
            }
        }
        for (pending, nonce, len) in sent {
            match pending.wait() {
                Ok(reply) => self.acknowledge(&reply, len, nonce, client)?,
                Err(error) => {
                    self.failed(nonce, begin, &error)?;
                    goes_on = false;
                }
            }
        }
        Ok(goes_on)
    }

    fn row(&self) -> u64 {
        (STEADY_MAX + self.index) as u64
    }

    /// The next request's number: none is ever used again. `None`: the ledger is full.
    fn next(&self) -> Option<u64> {
        let nonce = self.nonce.get();
        if !Ledger(&self.world.board).has(self.index as u64, nonce) {
            std::thread::sleep(Duration::from_millis(1));
            return None;
        }
        self.nonce.set(nonce + 1);
        Some(nonce)
    }

    fn acknowledge(&self, reply: &[u8], len: usize, nonce: u64, client: &Client) -> Result<(), String> {
        parcel::check_reply(reply, len, self.row(), nonce, client.capacity())?;
        Ledger(&self.world.board).acknowledge(self.index as u64, nonce);
        self.world.board.faithful(self.index).acked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A call has failed: it must be because of its server's end, and what the error says must be so.
    fn failed(&self, nonce: u64, begin: Begin, error: &Error) -> Result<(), String> {
        let now = now_ns();
        let life = self.world.board.life(self.life);
        let killed_at = life.killed_at.load(Ordering::Acquire);
        let maybe_executed = match error.kind() {
            ErrorKind::PeerDied { maybe_executed } if killed_at != 0 => {
                // Asleep, or about to be: from whichever was later, the kill or the call.
                let told_ns = now.saturating_sub(killed_at.max(begin.at));
                self.world.board.note(Note::Told, told_ns);
                let ours_ns = if told_ns < LONG_NS { told_ns } else { self.without_the_machines(now, &begin) };
                self.world.board.note(Note::ToldOurs, ours_ns);
                maybe_executed
            }
            ErrorKind::ServerClosed { maybe_executed } if life.drains.load(Ordering::Acquire) != 0 => maybe_executed,
            _ => return Err(format!("request {nonce} in life {}: {error:?}", self.life)),
        };
        if !maybe_executed && Ledger(&self.world.board).is_executed(self.index as u64, nonce) {
            return Err(format!("request {nonce} in life {} was executed: {error:?}", self.life));
        }
        Ok(())
    }
}

impl Faithful<'_> {
    /// From the moment when the server was gone, for its death has to wait for a processor, too; and without the time
    /// for which this very thread could have run and had none.
    fn without_the_machines(&self, now: u64, begin: &Begin) -> u64 {
        let queued_ns = self.queueing.ns() - begin.queued_ns;
        let gone_at = self.world.board.life(self.life).gone_at;
        comes_true(Duration::from_secs(2), || gone_at.load(Ordering::Acquire) != 0);
        let from = gone_at.load(Ordering::Acquire).max(begin.at);
        now.saturating_sub(from).saturating_sub(queued_ns)
    }
}

/// When a call began.
#[derive(Clone, Copy)]
struct Begin {
    at: u64,
    queued_ns: u64,
}

impl Begin {
    fn now(queueing: &Queueing) -> Begin {
        Begin { at: now_ns(), queued_ns: queueing.ns() }
    }
}

/// What takes longer is looked at more closely: was it us, or was the machine busy?
const LONG_NS: u64 = 100_000_000;

/// What a connect may say while servers come and go.
fn is_of_an_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotRunning | ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. })
}
