//! What the processes of R1 write down together: what became of each call, how long clients went without an answer, and
//! who has seen which server. It is memory that all of them have mapped, so that nothing of it ends with a server.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::others::map;
use wigwag_bench::memory::{LINE, Memory};

/// What a client's time is measured from.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// From its answer before, so that its own pause is in it.
    Answer,
    /// From when it called.
    Call,
}

const SINCE: usize = 2;

/// Words that all processes have in common; each in a line of its own.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// Processes of clients that are connected.
    Ready,
    /// Processes of clients that have ended in order.
    Over,
    /// Not 0: clients are to make no more calls.
    Stop,
    /// Servers that have had the name: the last of them is the one before this number.
    Serving,
    /// Odd while a server is replaced, even in the rest behind it.
    Phase,
    /// Calls that went on at a successor.
    Moved,
}

const WORDS: usize = 6;

/// A call's word: how often handlers saw it, in the lower half, and above it what its client says.
const TIMES: u32 = 0xFFFF;
const MADE: u32 = 1 << 16;
const ANSWERED: u32 = 1 << 17;
const MAYBE: u32 = 1 << 18;

/// What a client says of a call that it has made. A call of which it says nothing was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered,
    MaybeExecuted,
}

/// How many of each there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that were made.
    pub made: u64,
    /// Calls that have no answer, or have one and were not executed.
    pub lost: u64,
    /// Calls that were executed more than once, and executions of calls that nobody has made.
    pub too_often: u64,
    /// Calls of which their clients were told that they may have been executed.
    pub maybe: u64,
}

pub struct Ledger {
    memory: Memory,
    clients: usize,
    phases: usize,
    /// Calls of each client for which there is room.
    room: usize,
}

impl Ledger {
    /// Opens the one of this directory, or makes it. All processes say the same numbers.
    pub fn open(directory: &Path, clients: usize, phases: usize, room: usize) -> anyhow::Result<Ledger> {
        let size = Ledger::tally_at(clients, phases) + clients * room * size_of::<AtomicU32>();
        Ok(Ledger { memory: map(&directory.join("ledger"), size)?, clients, phases, room })
    }

    /// Calls of each client for which there is room.
    pub fn room(&self) -> usize {
        self.room
    }

    pub fn word(&self, word: Word) -> &'static AtomicU64 {
        self.memory.word(word as usize * LINE)
    }

    /// Servers that this client has had an answer of, in the way of [`Word::Serving`].
    pub fn followed(&self, client: usize) -> &'static AtomicU64 {
        self.memory.word((WORDS + client) * LINE)
    }

    /// The longest time in nanoseconds until a client's answer in this phase.
    fn longest_ns(&self, since: Since, phase: usize) -> &'static AtomicU64 {
        let index = since as usize * self.phases + phase;
        self.memory.word((WORDS + self.clients) * LINE + index * size_of::<AtomicU64>())
    }

    fn tally_at(clients: usize, phases: usize) -> usize {
        ((WORDS + clients) * LINE + SINCE * phases * size_of::<AtomicU64>()).next_multiple_of(LINE)
    }

    /// The word of a call, if there is such a call: a server does not believe what it is told.
    fn call(&self, client: usize, number: usize) -> Option<&'static AtomicU32> {
        let exists = client < self.clients && number < self.room;
        let index = client.wrapping_mul(self.room).wrapping_add(number);
        let word = || {
            let at = Ledger::tally_at(self.clients, self.phases) + index * size_of::<AtomicU32>();
            self.memory.word32(at)
        };
        exists.then(word)
    }

    /// A client is about to make this call.
    pub fn make(&self, client: usize, number: usize) {
        self.set(client, number, MADE);
    }

    /// A client was told what became of it.
    pub fn end(&self, client: usize, number: usize, fate: Fate) {
        self.set(client, number, if fate == Fate::Answered { ANSWERED } else { MAYBE });
    }

    fn set(&self, client: usize, number: usize, bit: u32) {
        if let Some(word) = self.call(client, number) {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// A handler sees this call. Gives whether there is such a call.
    pub fn execute(&self, client: usize, number: usize) -> bool {
        self.call(client, number).map(|word| word.fetch_add(1, Ordering::SeqCst)).is_some()
    }

    /// A client had one answer in the first of these phases and its next one in the second, after such a time. A time
    /// that lies in a restart and in a rest is one of the restart.
    pub fn wait(&self, phases: [usize; 2], since: Since, time: Duration) {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let [before, after] = phases;
        for phase in phases {
            if phase < self.phases && (before == after || is_restart(phase)) {
                self.longest_ns(since, phase).fetch_max(time_ns, Ordering::SeqCst);
            }
        }
    }

    /// The longest time in milliseconds for each of the first phases in which somebody had an answer: of the restarts,
    /// or of the rests.
    pub fn longest_ms(&self, since: Since, phases: usize, restarts: bool) -> Vec<f64> {
        let of = (0..phases.min(self.phases)).filter(|&phase| is_restart(phase) == restarts);
        let times = of.map(|phase| self.longest_ns(since, phase).load(Ordering::SeqCst));
        times.filter(|&time_ns| time_ns > 0).map(|time_ns| time_ns as f64 / 1e6).collect()
    }

    /// Counts all calls.
    pub fn count(&self) -> Tally {
        let calls = (0..self.clients).flat_map(|client| (0..self.room).map(move |number| (client, number)));
        let words = calls.filter_map(|(client, number)| self.call(client, number));
        let mut tally = Tally::default();
        for word in words.map(|word| word.load(Ordering::SeqCst)) {
            let times = word & TIMES;
            let [made, answered, maybe] = [MADE, ANSWERED, MAYBE].map(|bit| word & bit != 0);
            tally.made += u64::from(made);
            tally.lost += u64::from(made && !maybe && !(answered && times > 0));
            tally.too_often += u64::from(times > u32::from(made));
            tally.maybe += u64::from(maybe);
        }
        tally
    }
}

/// Whether a server is replaced in this phase.
fn is_restart(phase: usize) -> bool {
    !phase.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(directory: &tempfile::TempDir) -> Ledger {
        Ledger::open(directory.path(), 3, 5, 10).unwrap()
    }

    /// A call as it should be.
    fn call(ledger: &Ledger, client: usize, number: usize) {
        ledger.make(client, number);
        assert!(ledger.execute(client, number));
        ledger.end(client, number, Fate::Answered);
    }

    #[test]
    fn each_call_that_is_not_as_it_should_be_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = ledger(&directory);
        (0..3).for_each(|client| (0..4).for_each(|number| call(&ledger, client, number)));
        let well = Tally { made: 12, ..Tally::default() };
        assert_eq!(ledger.count(), well);
        // No answer; executed or not, that is a loss.
        ledger.make(0, 4);
        ledger.make(1, 4);
        ledger.execute(1, 4);
        assert_eq!(ledger.count(), Tally { made: 14, lost: 2, ..well });
        // An answer of nobody.
        ledger.make(2, 4);
        ledger.end(2, 4, Fate::Answered);
        assert_eq!(ledger.count(), Tally { made: 15, lost: 3, ..well });
        // Once more than it was called, by a process that has mapped the same ledger.
        assert!(self::ledger(&directory).execute(2, 0));
        ledger.execute(2, 9);
        assert_eq!(ledger.count(), Tally { made: 15, lost: 3, too_often: 2, maybe: 0 });
        ledger.make(0, 5);
        ledger.end(0, 5, Fate::MaybeExecuted);
        assert_eq!(ledger.count(), Tally { made: 16, lost: 3, too_often: 2, maybe: 1 });
    }

    #[test]
    fn what_is_not_a_call_is_not_executed() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = ledger(&directory);
        for (client, number) in [(3, 0), (0, 10), (usize::MAX, 1), (1, usize::MAX)] {
            assert!(!ledger.execute(client, number));
        }
        assert_eq!(ledger.count(), Tally::default());
    }

    #[test]
    fn a_wait_belongs_to_the_restart_that_it_touches() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = ledger(&directory);
        for (phases, time_ms) in [([0, 0], 2), ([0, 1], 9), ([1, 1], 4), ([1, 2], 7), ([2, 2], 3), ([2, 3], 5)] {
            ledger.wait(phases, Since::Answer, Duration::from_millis(time_ms));
        }
        ledger.wait([3, 5], Since::Answer, Duration::from_millis(6)); // there is no phase 5
        ledger.wait([0, 1], Since::Call, Duration::from_millis(8));
        assert_eq!(ledger.longest_ms(Since::Answer, 5, true), [9.0, 6.0]);
        assert_eq!(ledger.longest_ms(Since::Answer, 5, false), [2.0, 3.0]);
        assert_eq!(ledger.longest_ms(Since::Answer, 3, true), [9.0]);
        assert_eq!(ledger.longest_ms(Since::Call, 5, true), [8.0]);
    }
}
