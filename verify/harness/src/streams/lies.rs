//! A real end of a stream, and a ring whose words and bytes somebody writes who means harm; one thread does both.
//!
//! What a read must make of the words is told beforehand, from docs/layout.md and what this end has seen: bytes that
//! lie there, nothing yet, the end, or the end of the session as a violation. Of a write less is foretold, because it
//! looks at its reader's word only now and then; but what it hands over lies in the ring, and a word that is impossible
//! ends it once it looks.

use std::io::{BufRead as _, ErrorKind as Io, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use anyhow::bail;
use wigwag::{Stream, StreamListener, Wait};
use wigwag_testing::wire::VIOLATION;
use wigwag_testing::{Ground, Raw};

use crate::hostile::dice::{Dice, odd_number};
use crate::scale::Trial;

const RING: u64 = 4096;
const COUNT: u64 = u64::MAX >> 1;
/// Words of docs/layout.md: what the hostile side has written and read, what this side has.
const PRODUCED: usize = 4096;
const CONSUMED_BY_US: usize = 4224;
const PRODUCED_BY_US: usize = 4352;
const CONSUMED: usize = 4480;
/// Where the rings lie.
const THERE: usize = 8192;
const BACK: usize = THERE + RING as usize;

/// Plays for so many steps; the figure.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    let steps = trial.pick(30_000, 1_000_000, 100_000_000);
    let ground = Ground::new();
    let listener = StreamListener::builder().ring_bytes(RING as usize).wait(Wait::Park).bind(ground.socket())?;
    let mut dice = Dice::seeded(trial.seed);
    let (mut done, mut sessions, mut violations, mut ends, mut bytes) = (0u64, 0u64, 0u64, 0u64, 0u64);
    while done < steps && findings.is_empty() {
        let mut session = Session::new(&ground, &listener)?;
        sessions += 1;
        let played = catch_unwind(AssertUnwindSafe(|| session.play(&mut dice, steps - done)));
        match played {
            Ok(Ok(Fate::Violation)) => violations += 1,
            Ok(Ok(Fate::End)) => ends += 1,
            Ok(Ok(Fate::Enough)) => {}
            Ok(Err(what)) => findings.push(format!("a ring of lies: {what:#}")),
            Err(_) => findings.push(format!("a ring of lies: a panic after {} steps of a session", session.steps)),
        }
        done += session.steps;
        bytes += session.read;
    }
    Ok(format!(
        "{done} steps of {sessions} ends with lies in their rings: {violations} violations, {ends} good ends, {bytes} \
         bytes"
    ))
}

/// How a session ended.
enum Fate {
    /// As a violation, and the peer was told.
    Violation,
    /// The other side closed.
    End,
    /// It goes on.
    Enough,
}

/// What a read must come to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Bytes(u64),
    Nothing,
    End,
    Violation,
}

struct Session {
    stream: Stream,
    raw: Raw,
    /// Bytes read, and bytes known to be there: counts.
    consumed: u64,
    produced: u64,
    is_at_end: bool,
    /// Bytes written.
    written: u64,
    steps: u64,
    read: u64,
    has_lied_to_writer: bool,
}

fn distance(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & COUNT
}

impl Session {
    fn new(ground: &Ground, listener: &StreamListener) -> anyhow::Result<Session> {
        let raw = Raw::connect_stream(&ground.socket());
        let stream = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(Session {
            stream,
            raw,
            consumed: 0,
            produced: 0,
            is_at_end: false,
            written: 0,
            steps: 0,
            read: 0,
            has_lied_to_writer: false,
        })
    }

    fn play(&mut self, dice: &mut Dice<'_>, most: u64) -> anyhow::Result<Fate> {
        // Some sessions are honest for long, so that the lies come in the middle of something.
        let honesty = dice.of(&[1, 4, 30, 300]);
        for _ in 0..most.min(2000) {
            self.steps += 1;
            self.action(dice, honesty);
            let fate = match dice.below(4) {
                0 => self.read(dice)?,
                1 => self.borrow(dice)?,
                2 => self.write(dice)?,
                _ => self.lend(dice)?,
            };
            if let Some(fate) = fate {
                if matches!(fate, Fate::Violation) {
                    self.is_told()?;
                }
                return Ok(fate);
            }
        }
        Ok(Fate::Enough)
    }

    /// Something is done to the memory.
    fn action(&mut self, dice: &mut Dice<'_>, honesty: usize) {
        let raw = &self.raw;
        if !dice.one_in(honesty) || honesty > 1 && dice.one_in(2) {
            // As an honest peer would: some bytes there, some room back.
            let word = raw.word(PRODUCED).load(Ordering::Relaxed);
            let count = word >> 1;
            let room = RING.saturating_sub(distance(self.consumed, count));
            let len = (dice.below(600) as u64).min(room);
            for index in 0..len {
                raw.byte(THERE + ((count + index) % RING) as usize).store(dice.below(256) as u8, Ordering::Relaxed);
            }
            raw.word(PRODUCED).fetch_add(len << 1, Ordering::SeqCst);
            if !self.has_lied_to_writer {
                raw.word(CONSUMED).store(self.written << 1, Ordering::SeqCst);
            }
            return;
        }
        let near = |dice: &mut Dice<'_>, count: u64| {
            let far = dice.of(&[0, 1, 2, RING - 1, RING, RING + 1, 2 * RING]);
            let count = if dice.one_in(2) { count.wrapping_add(far) } else { count.wrapping_sub(far) };
            count << 1 | u64::from(dice.one_in(4))
        };
        match dice.below(8) {
            0 => raw.word(PRODUCED).store(odd_number(dice, RING), Ordering::SeqCst),
            1 | 2 => raw.word(PRODUCED).store(near(dice, self.produced), Ordering::SeqCst),
            3 | 4 => {
                self.has_lied_to_writer = true;
                let word = if dice.one_in(2) { odd_number(dice, RING) } else { near(dice, self.written) };
                raw.word(CONSUMED).store(word, Ordering::SeqCst);
            }
            5 => raw.word(dice.of(&[CONSUMED_BY_US, PRODUCED_BY_US])).store(odd_number(dice, RING), Ordering::SeqCst),
            6 => {
                raw.word(dice.of(&[1024, 1032, 1040, 1152, 1160, 1168])).store(odd_number(dice, RING), Ordering::SeqCst)
            }
            _ => raw.byte(THERE + dice.below(2 * RING as usize)).store(dice.below(256) as u8, Ordering::Relaxed),
        }
    }

    /// What a read must make of the words. It looks only when it knows of nothing.
    fn verdict(&mut self) -> Verdict {
        if distance(self.consumed, self.produced) == 0 && !self.is_at_end {
            let word = self.raw.word(PRODUCED).load(Ordering::SeqCst);
            if distance(self.produced, word >> 1) > RING {
                return Verdict::Violation;
            }
            self.produced = word >> 1;
            self.is_at_end = word & 1 != 0 && self.produced == self.consumed;
        }
        match distance(self.consumed, self.produced) {
            0 if self.is_at_end => Verdict::End,
            0 => Verdict::Nothing,
            available => Verdict::Bytes(available),
        }
    }

    /// What lies in the ring from where the next byte is read.
    fn there(&self, len: usize) -> Vec<u8> {
        let at = |index: usize| THERE + ((self.consumed + index as u64) % RING) as usize;
        (0..len).map(|index| self.raw.byte(at(index)).load(Ordering::Relaxed)).collect()
    }

    fn read(&mut self, dice: &mut Dice<'_>) -> anyhow::Result<Option<Fate>> {
        let verdict = self.verdict();
        let mut into = vec![0; 1 + dice.below(6000)];
        match (self.stream.read(&mut into), &verdict) {
            (Ok(0), Verdict::End) => return Ok(Some(Fate::End)),
            (Ok(count), &Verdict::Bytes(available)) if count as u64 == available.min(into.len() as u64) => {
                if into[..count] != self.there(count)[..] {
                    bail!("{count} bytes were read that do not lie there");
                }
                self.took(count);
            }
            (Err(error), Verdict::Nothing) if error.kind() == Io::WouldBlock => {}
            (Err(error), Verdict::Violation) if error.kind() == Io::InvalidData => return Ok(Some(Fate::Violation)),
            (came, _) => bail!("a read of {} came to {came:?} where {verdict:?} was right", into.len()),
        }
        Ok(None)
    }

    fn took(&mut self, count: usize) {
        self.consumed = self.consumed.wrapping_add(count as u64) & COUNT;
        self.read += count as u64;
    }

    fn borrow(&mut self, dice: &mut Dice<'_>) -> anyhow::Result<Option<Fate>> {
        let verdict = self.verdict();
        let (came, lent) = match self.stream.fill_buf() {
            // No more of it is touched than there can be.
            Ok(bytes) => (Ok(bytes.len() as u64), bytes[..bytes.len().min(RING as usize)].to_vec()),
            Err(error) => (Err(error), Vec::new()),
        };
        match (came, &verdict) {
            (Ok(0), Verdict::End) => return Ok(Some(Fate::End)),
            (Ok(count), &Verdict::Bytes(available)) if count == available => {
                if lent != self.there(lent.len()) {
                    bail!("{count} bytes are lent that do not lie there");
                }
                let count = dice.below(lent.len() + 1);
                self.stream.consume(count);
                self.took(count);
            }
            (Err(error), Verdict::Nothing) if error.kind() == Io::WouldBlock => {}
            (Err(error), Verdict::Violation) if error.kind() == Io::InvalidData => return Ok(Some(Fate::Violation)),
            (came, _) => bail!("bytes lent came to {came:?} where {verdict:?} was right"),
        }
        Ok(None)
    }

    fn write(&mut self, dice: &mut Dice<'_>) -> anyhow::Result<Option<Fate>> {
        let bytes: Vec<u8> = (0..1 + dice.below(6000)).map(|_| dice.below(256) as u8).collect();
        match self.stream.write(&bytes) {
            Ok(count) if count as u64 <= RING && count <= bytes.len() => self.gave(&bytes[..count]),
            came => self.refused(came.map(|count| count as u64)),
        }
    }

    fn lend(&mut self, dice: &mut Dice<'_>) -> anyhow::Result<Option<Fate>> {
        match self.stream.write_buf() {
            Ok(room) if room.len() as u64 <= RING => {
                let count = dice.below(room.len() + 1);
                let bytes: Vec<u8> = (0..count).map(|_| dice.below(256) as u8).collect();
                room[..count].copy_from_slice(&bytes);
                self.stream.commit(count);
                self.gave(&bytes)
            }
            came => {
                let came = came.map(|room| room.len() as u64);
                self.refused(came)
            }
        }
    }

    /// What was handed over lies in the ring.
    fn gave(&mut self, bytes: &[u8]) -> anyhow::Result<Option<Fate>> {
        for (index, byte) in bytes.iter().enumerate() {
            let at = BACK + ((self.written + index as u64) % RING) as usize;
            if self.raw.byte(at).load(Ordering::Relaxed) != *byte {
                bail!("byte {} that was written does not lie in the ring", self.written + index as u64);
            }
        }
        self.written += bytes.len() as u64;
        Ok(None)
    }

    fn refused(&mut self, came: std::io::Result<u64>) -> anyhow::Result<Option<Fate>> {
        match came {
            Err(error) if error.kind() == Io::WouldBlock => Ok(None),
            // The word says that nobody reads any more.
            Err(error) if error.kind() == Io::BrokenPipe && self.has_lied_to_writer => Ok(None),
            Err(error) if error.kind() == Io::InvalidData && self.has_lied_to_writer => Ok(Some(Fate::Violation)),
            came => bail!("a write came to {came:?}"),
        }
    }

    /// The hostile side was told why it is over, and everything else fails from now on.
    fn is_told(&mut self) -> anyhow::Result<()> {
        let (reason, said) = self.raw.end();
        if reason != VIOLATION || !said.contains("a ring's counter is") {
            bail!("the hostile side was told {reason}: {said}");
        }
        if self.stream.write(&[0; 8]).is_ok() {
            bail!("a stream that is over takes bytes");
        }
        Ok(())
    }
}
