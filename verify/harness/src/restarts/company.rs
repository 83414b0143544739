//! The clients as the one sees them that has started their processes, and the comparison of what they tell with what
//! was executed.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use wigwag_testing::Process;

use super::super::storm::watch::Holding;
use super::account::{Account, Fate};
use crate::role;

/// Processes in which the clients that follow are.
pub const PROCESSES: u64 = 2;

/// Clients that follow, in their processes.
pub struct Followers {
    clients: u64,
    processes: Vec<Process>,
    before: Vec<Holding>,
}

impl Followers {
    /// Starts them; there is a server. Each process has so many.
    pub fn start(socket: &Path, clients: u64, seed: u64) -> Followers {
        let text = socket.to_str().expect("a path of the test's own");
        let mut processes: Vec<Process> = (0..PROCESSES)
            .map(|process| {
                let numbers = [clients, process * clients, seed].map(|number| number.to_string());
                role::start("restarts_follower", std::iter::once(text.to_owned()).chain(numbers))
            })
            .collect();
        processes.iter_mut().for_each(|process| process.expect("ready"));
        let before = processes.iter().map(|process| Holding::of(process.id())).collect();
        Followers { clients, processes, before }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        PROCESSES * self.clients
    }

    /// They make no more calls: what became of those of each.
    pub fn stop(&self) -> Result<Vec<Account>, String> {
        self.processes.iter().for_each(|process| process.tell("stop"));
        let each = self.processes.iter().flat_map(|process| (0..self.clients).map(move |_| Account::hear(process)));
        each.collect()
    }

    /// Waits until they have what they had in the beginning.
    pub fn are_back(&self) -> Result<(), String> {
        for (process, (before, follower)) in self.before.iter().zip(&self.processes).enumerate() {
            is_back(&format!("process {process} of clients"), before, follower.id())?;
        }
        Ok(())
    }
}

/// The memory of a session grows with what is called in it; how many there are, and their descriptors, do not.
fn is_back(who: &str, before: &Holding, pid: u32) -> Result<(), String> {
    let count = |holding: &Holding| (holding.descriptors(), holding.segments());
    let begin = Instant::now();
    loop {
        let now = count(&Holding::of(pid));
        if now == count(before) {
            return Ok(());
        }
        if begin.elapsed() > Duration::from_secs(5) {
            let then = count(before);
            return Err(format!(
                "{who}: {} descriptors and {} sessions, where {} and {} were",
                now.0, now.1, then.0, then.1
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What servers have executed: how often each request.
pub struct Executed(HashMap<u64, u64>);

impl Executed {
    /// As they wrote it into that file.
    pub fn read(ledger: &Path) -> Result<Executed, String> {
        let bytes = std::fs::read(ledger).map_err(|error| error.to_string())?;
        let mut executed = HashMap::new();
        for name in bytes.chunks_exact(8) {
            *executed.entry(u64::from_ne_bytes(name.try_into().expect("eight bytes"))).or_default() += 1;
        }
        Ok(Executed(executed))
    }

    /// Compares that with what the client of that index was told of its calls.
    pub fn agrees_with(&self, index: u64, account: &Account) -> Result<(), String> {
        let fates: HashMap<u64, Fate> = account.failed.iter().map(|failed| (failed.number, failed.fate)).collect();
        for number in 0..account.end {
            let count = self.0.get(&name(index, number)).copied().unwrap_or(0);
            let wrong = match (count, fates.get(&number)) {
                (2.., _) => format!("was executed {count} times"),
                (0, None) => "was answered, and nobody has executed it".to_owned(),
                (1, Some(fate @ (Fate::TurnedAway | Fate::NotExecuted | Fate::Bereft))) => {
                    format!("was executed, and told as {fate:?}")
                }
                _ => continue,
            };
            return Err(format!("call {number} of client {index} {wrong}"));
        }
        Ok(())
    }
}

/// What the ledger calls a request.
pub fn name(index: u64, number: u64) -> u64 {
    index << 40 | number
}
