//! What a client does until it is killed: a little of everything, over and over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag::{Client, ErrorKind, Loan, Pending, Wait};
use wigwag_testing::{Link, Raw};

use super::dice::Dice;
use super::family::Holders;
use super::ledger::Ledger;
use super::parcel;
use super::scoreboard::STEADY_MAX;
use super::steady::any_len;
use super::world::World;

/// How far a victim was when it died.
pub const STAGES: [&str; 4] = ["before it connected", "in the handshake", "connected", "in a call"];
const CONNECTS: u64 = 1;
const CONNECTED: u64 = 2;
const CALLS: u64 = 3;

/// The role, for victims that are programs of their own: `row`, `place`, `seed`.
pub fn play(_: &Link, arguments: &[&str]) {
    let (world, rest) = World::open(arguments);
    let numbers: Vec<u64> = rest.iter().map(|number| number.parse().expect("a number")).collect();
    let [row, place, seed] = numbers[..] else { panic!("{arguments:?}") };
    live(&world, row, place as usize, seed);
}

/// A victim's life. It ends by itself only if something is wrong.
pub fn live(world: &World, row: u64, place: usize, seed: u64) {
    let mut victim = Victim { world, row, place, nonce: 0, dice: Dice::new(seed) };
    loop {
        if let Err(what) = victim.visit() {
            return world.complain(format!("victim {row}: {what}"));
        }
    }
}

struct Victim<'w> {
    world: &'w World,
    row: u64,
    place: usize,
    nonce: u64,
    dice: Dice,
}

impl Victim<'_> {
    fn stage(&self, stage: u64) {
        self.world.board.stage(self.place).store(stage, Ordering::Release);
    }

    /// Connects, does a few things, and disconnects.
    fn visit(&mut self) -> Result<(), String> {
        let wait = match self.dice.below(16) {
            0 => Wait::Spin,
            1..8 => Wait::Park,
            _ => Wait::Adaptive,
        };
        self.stage(CONNECTS);
        let client = Client::builder().wait(wait).connect(self.world.socket());
        let client = client.map_err(|error| format!("could not connect: {error:?}"))?;
        self.stage(CONNECTED);
        for _ in 0..self.dice.below(30) {
            self.act(&client)?;
        }
        Ok(())
    }

    fn act(&mut self, client: &Client) -> Result<(), String> {
        if !Ledger(&self.world.board).has(self.row, self.nonce + 16) {
            std::thread::sleep(Duration::from_millis(1)); // it has lived long
            return Ok(());
        }
        match self.dice.below(14) {
            0..4 => self.call(client, None),
            4 => self.pipeline(client),
            5 => {
                let mut half = client.loan(any_len(&mut self.dice)).map_err(|error| format!("{error:?}"))?;
                let middle = half.len() / 2;
                half[..middle].fill(0xee);
                self.call(client, None)
            }
            6 => {
                let soon = self.dice.up_to_us(60);
                self.call(client, Some(soon))
            }
            7 => {
                std::thread::sleep(self.dice.up_to_us(300));
                Ok(())
            }
            8 if self.dice.once_in(8) => {
                Holders::raise(self.dice.below(4000) as u32);
                Ok(())
            }
            9 => self.again(client),
            _ => {
                let len = parcel::SHORTEST + self.dice.below(25) as usize;
                self.call_of(client, len, None)
            }
        }
    }

    fn call(&mut self, client: &Client, timeout: Option<Duration>) -> Result<(), String> {
        let len = any_len(&mut self.dice);
        self.call_of(client, len, timeout)
    }

    /// One call, with or without patience.
    fn call_of(&mut self, client: &Client, len: usize, timeout: Option<Duration>) -> Result<(), String> {
        let Some((loan, nonce)) = self.fill(client, len)? else { return Ok(()) };
        self.stage(CALLS);
        let reply = match timeout {
            Some(timeout) => loan.call_timeout(timeout),
            None => loan.call(),
        };
        match reply {
            Ok(reply) => self.check(&reply, len, nonce, client)?,
            Err(error) if timeout.is_some() && matches!(error.kind(), ErrorKind::TimedOut { .. }) => {}
            Err(error) => return Err(format!("request {nonce}: {error:?}")),
        }
        self.stage(CONNECTED);
        Ok(())
    }

    /// A call with the memory of the reply before it.
    fn again(&mut self, client: &Client) -> Result<(), String> {
        let len = any_len(&mut self.dice);
        let Some((loan, nonce)) = self.fill(client, len)? else { return Ok(()) };
        let reply = loan.call().map_err(|error| format!("request {nonce}: {error:?}"))?;
        self.check(&reply, len, nonce, client)?;
        let (next, len) = (self.next(), any_len(&mut self.dice));
        let mut loan = reply.into_loan(len).map_err(|error| format!("{error:?}"))?;
        parcel::write(&mut loan, self.row + STEADY_MAX as u64, next);
        let reply = loan.call().map_err(|error| format!("request {next}: {error:?}"))?;
        self.check(&reply, len, next, client)
    }

    /// Several at a time; some are waited for, some given up.
    fn pipeline(&mut self, client: &Client) -> Result<(), String> {
        let mut sent: Vec<(Pending<'_>, u64, usize)> = Vec::new();
        for _ in 0..2 + self.dice.below(3) {
            let len = any_len(&mut self.dice);
            let Some((loan, nonce)) = self.fill(client, len)? else { continue };
            sent.push((loan.send().map_err(|error| format!("request {nonce}: {error:?}"))?, nonce, len));
        }
        self.stage(CALLS);
        for (mut pending, nonce, len) in sent {
            let reply = match self.dice.below(4) {
                0 => None,
                1 => pending.try_wait(),
                2 => pending.wait_timeout(self.dice.up_to_us(100)),
                _ => Some(pending.wait()),
            };
            match reply {
                Some(Ok(reply)) => self.check(&reply, len, nonce, client)?,
                Some(Err(error)) => return Err(format!("request {nonce}: {error:?}")),
                None => {} // given up
            }
        }
        self.stage(CONNECTED);
        Ok(())
    }

    fn next(&mut self) -> u64 {
        self.nonce += 1;
        self.nonce - 1
    }

    /// Fills a loan as the next request. `None`: all slots are with the server.
    fn fill<'c>(&mut self, client: &'c Client, len: usize) -> Result<Option<(Loan<'c>, u64)>, String> {
        let tries_only = self.dice.once_in(4);
        let loan = if tries_only { client.try_loan(len) } else { client.loan(len) };
        let mut loan = match loan {
            Ok(loan) => loan,
            // All others are with the server, and come back: a client that waits for one gets one.
            Err(error) if tries_only && error.kind() == ErrorKind::Full => return Ok(None),
            Err(error) => return Err(format!("no loan: {error:?}")),
        };
        let nonce = self.next();
        parcel::write(&mut loan, self.row + STEADY_MAX as u64, nonce);
        Ok(Some((loan, nonce)))
    }

    fn check(&self, reply: &[u8], len: usize, nonce: u64, client: &Client) -> Result<(), String> {
        parcel::check_reply(reply, len, self.row + STEADY_MAX as u64, nonce, client.capacity())?;
        if !Ledger(&self.world.board).acknowledge(self.row, nonce) {
            return Err(format!("request {nonce} was answered twice"));
        }
        Ok(())
    }
}

/// An attacker's life: a session by hand, and whatever comes to mind into every word of it.
pub fn attack(world: &World, seed: u64) {
    let mut dice = Dice::new(seed);
    std::panic::set_hook(Box::new(|_| {})); // the server may hang up on it at any moment
    loop {
        let visit = std::panic::AssertUnwindSafe(|| scribble(&Raw::connect(&world.socket()), &mut dice));
        if std::panic::catch_unwind(visit).is_err() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn scribble(raw: &Raw, dice: &mut Dice) {
    const HOSTILE: [u64; 10] = [0, 1, 2, 0xff, SHORT, 1 << 31, u32::MAX as u64, 1 << 32 | 1 << 40, 1 << 63, u64::MAX];
    const SHORT: u64 = 1 << 8 | wigwag_testing::SERVER;
    for _ in 0..dice.below(400) {
        let control = 1024 / 8 + dice.below((4096 + raw.slots as u64 * 72 - 1024) / 8);
        let value = if dice.once_in(4) { dice.any() } else { HOSTILE[dice.below(HOSTILE.len() as u64) as usize] };
        raw.word(control as usize * 8).store(value, Ordering::SeqCst);
        match dice.below(8) {
            0 => raw.ring(),
            1 => raw.pass(dice.below(raw.slots as u64) as usize, SHORT, wigwag_testing::REQUEST | dice.below(300_000)),
            2 => std::thread::sleep(dice.up_to_us(100)),
            _ => {}
        }
    }
    if dice.once_in(2) {
        let junk: Vec<u8> = (0..1 + dice.below(64)).map(|_| dice.any() as u8).collect();
        let _ = wigwag_testing::wire::send(&raw.socket, &junk, &[]);
    }
}
