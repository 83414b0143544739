//! Control messages of someone who means harm: mutated, cut off, too long, out of order, with descriptors nobody asked
//! for.
//!
//! To a server: what it must answer is told beforehand, from the bytes and docs/layout.md. To a client: a welcome in
//! which anything is wrong must not be taken for one.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use rustix::fs::SealFlags;
use wigwag::{Client, Error, ErrorKind, Server};
use wigwag_testing::wire::{self, HELLO_CLOCK, LATER, READY, VERSION, VIOLATION, hello, hello_of_version_1};
use wigwag_testing::{Ground, Offer, RawServer, Snapshot};

use super::dice::{Dice, odd_number};
use super::polling::until;
use super::server_memory::no_panic;

/// What the server states.
const SLOTS: u32 = 4;
const CAPACITY: u32 = 5000;

/// How many forms a session can have: exchange, queue, stream.
const FORMS: u8 = 3;
/// How many ways there are for values to become bytes: MessagePack with names, postcard.
const ENCODINGS: u8 = 2;

/// A server whose clients greet it in odd ways.
pub struct ToServer {
    server: Server,
    ground: Ground,
    before: Held,
}

/// How a handshake must go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// A refusal or a farewell with this reason.
    End(u8),
    /// The end, with or without a reason.
    Gone,
    Welcome,
}

impl ToServer {
    /// Starts the server.
    pub fn start() -> ToServer {
        let ground = Ground::new();
        let builder = Server::builder().slots(SLOTS as usize).capacity(CAPACITY as usize);
        let mut server = builder.bind(ground.socket()).expect("a server");
        let _ = server.try_recv();
        ToServer { server, ground, before: held() }
    }

    /// One connection. The error says what was wrong.
    pub fn play(&mut self, dice: &mut Dice<'_>) -> Result<(), String> {
        let socket = wire::connect_to(&self.ground.socket());
        let greeting = if dice.one_in(8) { READY.to_vec() } else { mutated_hello(dice) };
        let mut answer = answer_to(&greeting);
        if !send(dice, &socket, &greeting, &mut answer)? {
            return Ok(()); // the kernel refused it
        }
        expect(&socket, &greeting, answer)?;
        if answer != Answer::Welcome || dice.one_in(4) {
            return Ok(());
        }
        let second = match dice.below(4) {
            0 => mutated_hello(dice),
            1 => mutated(dice, READY.to_vec(), 2),
            _ => READY.to_vec(),
        };
        if second != READY {
            let mut answer = if second.is_empty() { Answer::Gone } else { Answer::End(VIOLATION) };
            return match send(dice, &socket, &second, &mut answer)? {
                true => expect(&socket, &second, answer),
                false => Ok(()),
            };
        }
        wire::send(&socket, READY, &[]).map_err(|error| format!("READY could not be sent: {error}"))?;
        if dice.one_in(2) {
            let third = mutated(dice, READY.to_vec(), 6);
            let mut answer = if third.is_empty() { Answer::Gone } else { Answer::End(VIOLATION) };
            if send(dice, &socket, &third, &mut answer)? {
                expect(&socket, &third, answer)?;
            }
        }
        Ok(())
    }

    /// Lets the server settle: clients that have left have left nothing behind.
    pub fn check(&mut self) -> Result<(), String> {
        until("every session ends", || {
            let _ = self.server.try_recv();
            self.server.stats().sessions == 0
        });
        let _ = self.server.try_recv();
        no_panic(|| until("the server holds what it held", || held() == self.before))
            .map_err(|why| format!("{why}: it held {:?} and now holds {:?}", self.before, held()))?;
        let client = std::thread::scope(|scope| {
            scope.spawn(|| Client::connect(self.ground.socket()).map(drop)).join().expect("no panic")
        });
        client.map_err(|error| format!("an honest client afterwards: {error}"))
    }
}

/// Descriptors by kind, and mappings of segments.
type Held = (BTreeMap<String, usize>, usize);

/// What this process holds.
fn held() -> Held {
    let now = Snapshot::of(std::process::id());
    (now.descriptors, now.segments)
}

/// What a server must make of a first message.
fn answer_to(bytes: &[u8]) -> Answer {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    match bytes {
        [] => Answer::Gone,
        [1, b'W', b'W', b'H', b'I', ..] if (13..=4096).contains(&bytes.len()) => {
            let (low, high) = (u16::from_le_bytes([bytes[5], bytes[6]]), u16::from_le_bytes([bytes[7], bytes[8]]));
            // Where the name begins: in the form of the lowest version.
            let name_at = match (low, high) {
                (0 | 1, 1..) => 34,
                (2, 2..) => 70,
                _ => return Answer::End(3), // what follows has another version's meaning
            };
            if bytes.len() < name_at || bytes[31] >= FORMS || bytes[32] >= ENCODINGS {
                return Answer::End(VIOLATION);
            }
            let (len, rest) = (usize::from(bytes[33]), &bytes[name_at..]);
            let is_whole = rest.len() == len || rest.len() > len && low == 2;
            if !(1..=128).contains(&len) || !is_whole || std::str::from_utf8(&rest[..len]).is_err() {
                return Answer::End(VIOLATION);
            }
            let (name, layout) = (&rest[..len], number(9));
            let is_understood = match name_at {
                34 => layout == 1,
                _ => number(34) <= 2 && layout >= 2 && bytes[46..54] == [0; 8],
            };
            if !is_understood {
                return Answer::End(3);
            }
            if name != b"bytes" || bytes[21..33] != [0; 12] {
                return Answer::End(2);
            }
            let (slots, capacity) = (number(13), number(17));
            let is_granted =
                (slots == u32::MAX || (1..=SLOTS).contains(&slots)) && (capacity == u32::MAX || capacity <= CAPACITY);
            if is_granted { Answer::Welcome } else { Answer::End(1) }
        }
        _ => Answer::End(VIOLATION),
    }
}

fn mutated_hello(dice: &mut Dice<'_>) -> Vec<u8> {
    let greeting = if dice.one_in(4) { hello_of_version_1() } else { hello() };
    mutated(dice, greeting, 5)
}

/// Sends it, now and then with descriptors. `false` when the kernel does not let that through.
fn send(dice: &mut Dice<'_>, socket: &OwnedFd, bytes: &[u8], answer: &mut Answer) -> Result<bool, String> {
    let count = if dice.one_in(4) { dice.of(&[1, 2, 4, 5, 64]) } else { 0 };
    let descriptors: Vec<BorrowedFd<'_>> = vec![socket.as_fd(); count];
    match wire::send(socket, bytes, &descriptors) {
        Ok(()) if count > 4 && *answer != Answer::Gone => *answer = Answer::End(VIOLATION),
        Ok(()) => {}
        Err(_) if count > 0 || bytes.is_empty() => return Ok(false),
        Err(error) => return Err(format!("a message of {} bytes could not be sent: {error}", bytes.len())),
    }
    Ok(true)
}

fn expect(socket: &OwnedFd, bytes: &[u8], answer: Answer) -> Result<(), String> {
    let received = no_panic(|| wire::receive(socket))?;
    let end = received.as_ref().and_then(|message| message.end());
    let is_right = match answer {
        Answer::Gone => received.as_ref().is_none_or(|message| message.bytes[0] != 3),
        Answer::End(reason) => end.as_ref().is_some_and(|end| end.0 == reason),
        Answer::Welcome => received.as_ref().is_some_and(|message| message.bytes[0] == 3),
    };
    if is_right {
        return Ok(());
    }
    let received = received.map(|message| message.bytes);
    Err(format!("the message {bytes:x?} was answered with {received:x?}, {end:?}, where {answer:?} was right"))
}

/// A message with some harm done to it; `kinds` says how bad it may get.
fn mutated(dice: &mut Dice<'_>, mut bytes: Vec<u8>, kinds: usize) -> Vec<u8> {
    match dice.below(kinds + 1) {
        0 => {}
        1 => {
            let bit = dice.below(8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        2 => bytes.extend((0..dice.of(&[1, 2, 100, 4095, 4096, 8000])).map(|index| index as u8)),
        3 => bytes.truncate(dice.below(bytes.len() + 1)),
        4 if bytes.len() >= 21 => {
            let at = dice.of(&[5, 9, 13, 13, 17, 17, 21, 25, 29]);
            let number = dice.of(&[0, 1, SLOTS, SLOTS + 1, CAPACITY, CAPACITY + 1, 1 << 31, u32::MAX - 1]);
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        5 if bytes.len() > 33 => {
            let len = dice.of(&[0, 1, 4, 6, 128, 129, 255]);
            bytes[33] = len;
            if dice.one_in(2) {
                bytes.truncate(34);
                let letters = dice.of(&[b'x', 0, 0xff]);
                bytes.extend(vec![letters; usize::from(len)]);
            }
        }
        _ => {
            let (len, kind) = (dice.below(200), dice.below(9) as u8);
            bytes = (0..len).map(|_| dice.word() as u8).collect();
            bytes.first_mut().into_iter().for_each(|first| *first = kind);
        }
    }
    bytes
}

/// A server by hand that welcomes in odd ways, and a thread that connects to it.
pub struct ToClient {
    server: RawServer,
    begin: Sender<()>,
    outcomes: Receiver<Result<(), Error>>,
    _ground: Ground,
}

/// What a client must make of a welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Session,
    Error,
    Violation,
    /// The server hung up without a word: it comes again, once.
    OnceMore,
    /// There is no place just now: it comes again until there is, or its time is over.
    Again,
    /// The server does not speak version 2: it comes again, in the form of version 1.
    Older,
}

impl ToClient {
    /// Starts the server and the thread.
    pub fn start() -> ToClient {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        let (begin, orders) = channel::<()>();
        let (done, outcomes) = channel();
        let path = ground.socket();
        std::thread::spawn(move || {
            for () in orders {
                let outcome = no_panic(|| try_out(&path));
                let told = match outcome {
                    Ok(outcome) => done.send(outcome),
                    Err(panic) => {
                        eprintln!("{panic}");
                        return; // the other end hears that nobody is there any more
                    }
                };
                if told.is_err() {
                    return;
                }
            }
        });
        ToClient { server, begin, outcomes, _ground: ground }
    }

    /// One client, and its welcomes until one of them is its last. The error says what was wrong.
    pub fn play(&mut self, dice: &mut Dice<'_>) -> Result<(), String> {
        self.begin.send(()).map_err(|_| "the client panicked")?;
        let (mut has_been_lost, mut is_older) = (false, false);
        let expected = loop {
            let socket = self.accept()?;
            let mut greeting = wire::receive(&socket).ok_or("the client does not greet")?.bytes;
            if !is_older {
                greeting.get_mut(HELLO_CLOCK).ok_or("the client's greeting is short")?.fill(0);
            }
            if greeting != if is_older { hello_of_version_1() } else { hello() } {
                return Err("the client's greeting is odd".into());
            }
            match welcome(dice, socket, is_older)? {
                Outcome::Again => {}
                Outcome::Older if !is_older => is_older = true,
                Outcome::Older => break Outcome::Error,
                Outcome::OnceMore if !has_been_lost => has_been_lost = true,
                Outcome::OnceMore => break Outcome::Error,
                expected => break expected,
            }
        };
        let outcome = self.outcomes.recv().map_err(|_| "the client panicked")?;
        let is_right = match (expected, &outcome) {
            (Outcome::Session, Ok(())) => true,
            (Outcome::Error, Err(_)) => true,
            (Outcome::Violation, Err(error)) => error.kind() == ErrorKind::Violation,
            _ => false,
        };
        if is_right { Ok(()) } else { Err(format!("a welcome that is a {expected:?} was taken as {outcome:?}")) }
    }

    /// The client's connection; an error if it does not come, although it must come again.
    fn accept(&self) -> Result<OwnedFd, String> {
        let mut outcome = Err(TryRecvError::Empty);
        until("a client connects, or is told what came of it", || {
            outcome = self.outcomes.try_recv();
            !matches!(outcome, Err(TryRecvError::Empty)) || self.server.is_asked()
        });
        match outcome {
            Err(TryRecvError::Empty) => Ok(self.server.accept()),
            Err(TryRecvError::Disconnected) => Err("the client panicked".into()),
            Ok(outcome) => Err(format!("a client that must come again took its welcome as {outcome:?}")),
        }
    }
}

/// What the client's thread does: it connects, and if it is let in, makes a call that nobody answers.
fn try_out(path: &std::path::Path) -> Result<(), Error> {
    let client = Client::builder().timeout(Duration::from_secs(20)).connect(path)?;
    let mut loan = client.loan(100)?;
    loan.fill(1);
    match loan.call_timeout(Duration::from_micros(100)) {
        Ok(reply) => assert!(reply.len() <= client.capacity()),
        Err(error) => drop(error.to_string()),
    }
    let _ = client.call_timeout(&[1; 10], Duration::from_micros(100)).map(drop);
    Ok(())
}

fn welcome(dice: &mut Dice<'_>, socket: OwnedFd, is_older: bool) -> Result<Outcome, String> {
    let mut offer = Offer::new(SLOTS as usize, CAPACITY.into());
    if is_older {
        offer = offer.of_version_1();
    }
    let mut outcome = Outcome::Violation;
    match dice.below(10) {
        0 => outcome = Outcome::Session,
        1 => {
            let bit = dice.below(8 * offer.welcome.len());
            offer.welcome[bit / 8] ^= 1 << (bit % 8);
            if (24..28).contains(&(bit / 8)) {
                outcome = Outcome::Session; // flags: another clock, or what a later version says
            }
        }
        2 => {
            offer.welcome.extend(vec![0; dice.of(&[1, 7, 4096, 8000])]);
            if !is_older && offer.welcome.len() <= 4096 {
                outcome = Outcome::Session;
            }
        }
        3 => offer.welcome.truncate(1 + dice.below(offer.welcome.len() - 1)),
        4 => {
            let (kind, reason) = (dice.of(&[0, 1, 2, 4, 5, 6, 7, 255]), dice.below(8) as u8);
            offer.welcome =
                [kind, reason].into_iter().chain((0..dice.below(3000)).map(|_| dice.word() as u8)).collect();
            outcome = match (kind, reason) {
                (4 | 5, LATER) => Outcome::Again,
                (4, VERSION) => Outcome::Older,
                _ => Outcome::Error,
            };
        }
        5 => offer.flip(dice.below(64) as u64, 1 << dice.below(8)),
        6 => offer.seals = dice.of(&[SealFlags::empty(), SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL]),
        7 => spoil(dice, &mut offer),
        8 => {
            let at = dice.of(&[4, 8, 12]);
            let number = odd_number(dice, CAPACITY.into()) as u32;
            let is_same = offer.welcome[at..at + 4] == number.to_le_bytes();
            offer.welcome[at..at + 4].copy_from_slice(&number.to_le_bytes());
            outcome = if is_same { Outcome::Session } else { Outcome::Violation };
        }
        _ if dice.one_in(2) => return Ok(Outcome::OnceMore), // hangs up
        _ => return after_ready(dice, offer, socket),
    }
    // What comes of the sending shows at the client. The socket stays open until the client has made up its mind.
    let Ok(raw) = offer.send(socket) else { return Ok(outcome) };
    if outcome == Outcome::Session {
        let _ = wire::receive(&raw.socket);
    } else {
        let _ = no_panic(|| wire::receive_end(&raw.socket));
    }
    Ok(outcome)
}

/// Descriptors that are not what they must be.
fn spoil(dice: &mut Dice<'_>, offer: &mut Offer) {
    let other = |slots, capacity| Offer::new(slots, capacity).descriptors.swap_remove(0);
    match dice.below(7) {
        0 => drop(offer.descriptors.pop()),
        1 => offer.descriptors.truncate(1),
        2 => offer.descriptors.clear(),
        3 => offer.descriptors.push(other(1, 1)),
        4 => offer.descriptors.swap(0, 1),
        5 => offer.descriptors[0] = other(SLOTS as usize, u64::from(CAPACITY) * 2),
        _ => {
            let path = dice.of(&["/dev/null", "/", "/proc/self/stat", "/dev/zero"]);
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            offer.descriptors[0] = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).expect("it is there");
        }
    }
}

/// A session that begins well, and then its server talks.
fn after_ready(dice: &mut Dice<'_>, offer: Offer, socket: OwnedFd) -> Result<Outcome, String> {
    let raw = offer.send(socket).map_err(|error| format!("a welcome could not be sent: {error}"))?;
    let _ = wire::receive(&raw.socket);
    for _ in 0..dice.below(100) {
        let kind = dice.of(&[6, 6, 6, 5, 4, 3, 0, 255]);
        let bytes: Vec<u8> =
            [kind].into_iter().chain((0..dice.of(&[0, 0, 1, 30])).map(|_| dice.word() as u8)).collect();
        if wire::send(&raw.socket, &bytes, &[]).is_err() {
            break;
        }
    }
    Ok(Outcome::Session)
}
