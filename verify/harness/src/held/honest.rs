//! Clients that want to work: one that calls, one that connects. How long each takes is noted by what goes on
//! meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wigwag::Client;

use crate::crowd::storm::call;

/// What goes on meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody does anything, and the client that connects is gone.
    Rest,
    /// Nobody else is there.
    Alone,
    /// Somebody attacks.
    Beside,
    /// There is no more to come.
    Over,
}

/// How often each client does something. Both sleep in between, as the attackers do: a processor is no part of the
/// contest.
const CALL_PAUSE: Duration = Duration::from_micros(300);
const CONNECT_PAUSE: Duration = Duration::from_millis(3);
/// Findings that are told.
const TOLD: usize = 5;

/// Times of one kind, in microseconds: alone and beside an attack.
pub type Times = [Vec<u32>; 2];

/// The clients.
pub struct Honest {
    phase: AtomicU8,
    /// What each of the two last saw.
    seen: [AtomicU8; 2],
    /// Of calls, and of connects.
    times: [Mutex<Times>; 2],
    findings: Mutex<Vec<String>>,
}

impl Honest {
    /// At rest.
    pub fn new() -> Honest {
        let rest = || AtomicU8::new(Phase::Rest as u8);
        Honest { phase: rest(), seen: [rest(), rest()], times: Default::default(), findings: Mutex::default() }
    }

    /// From now on this goes on. Returns once both clients know.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
        while self.seen.iter().any(|seen| seen.load(Ordering::SeqCst) != phase as u8) {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// What was measured since this was last asked: calls, and connects.
    pub fn take_times(&self) -> [Times; 2] {
        self.times.each_ref().map(|times| std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What went wrong.
    pub fn take_findings(&self) -> Vec<String> {
        std::mem::take(&mut *self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls, all the time.
    pub fn keep_calling(&self, client: Client) {
        let mut number = 0;
        self.repeat(0, CALL_PAUSE, || {
            number += 1;
            let begin = Instant::now();
            call(&client, number).map_err(|error| format!("a call failed: {error}"))?;
            Ok(begin.elapsed())
        });
    }

    /// Connects, calls and leaves, all the time.
    pub fn keep_connecting(&self, socket: &Path) {
        let mut number = 0;
        self.repeat(1, CONNECT_PAUSE, || {
            number += 1;
            let begin = Instant::now();
            let client =
                Client::connect(socket).map_err(|error| format!("an honest client could not connect: {error}"))?;
            let taken = begin.elapsed();
            call(&client, number).map_err(|error| format!("a newcomer's call failed: {error}"))?;
            Ok(taken)
        });
    }

    fn repeat(&self, which: usize, pause: Duration, mut once: impl FnMut() -> Result<Duration, String>) {
        loop {
            let phase = self.phase.load(Ordering::SeqCst);
            self.seen[which].store(phase, Ordering::SeqCst);
            let index = match phase {
                phase if phase == Phase::Over as u8 => return,
                phase if phase == Phase::Alone as u8 => 0,
                phase if phase == Phase::Beside as u8 => 1,
                _ => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
            };
            match once() {
                Ok(taken) => {
                    let mut times = self.times[which].lock().unwrap_or_else(PoisonError::into_inner);
                    times[index].push(taken.as_micros() as u32);
                }
                Err(what) => {
                    let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
                    if findings.len() < TOLD {
                        findings.push(what);
                    }
                }
            }
            std::thread::sleep(pause);
        }
    }
}
