//! What the clients cost the server just now: counted from the offer until the memory is really gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::policy::Usage;

/// The accounts of one server.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Accounts>);

#[derive(Debug, Default)]
struct Accounts {
    sessions: usize,
    bytes: usize,
    sessions_of_user: HashMap<u32, usize>,
}

/// What one session is charged; dropping it gives it back.
#[derive(Debug)]
pub struct Entry {
    ledger: Arc<Ledger>,
    uid: u32,
    bytes: usize,
}

impl Ledger {
    /// What is in use, as a client of `uid` meets it.
    pub fn usage(&self, uid: u32) -> Usage {
        let accounts = self.lock();
        Usage {
            sessions: accounts.sessions,
            sessions_of_user: accounts.sessions_of_user.get(&uid).copied().unwrap_or(0),
            bytes: accounts.bytes,
        }
    }

    /// Charges one session.
    pub fn charge(self: &Arc<Ledger>, uid: u32, bytes: usize) -> Entry {
        let mut accounts = self.lock();
        accounts.sessions += 1;
        accounts.bytes += bytes;
        *accounts.sessions_of_user.entry(uid).or_default() += 1;
        Entry { ledger: Arc::clone(self), uid, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut accounts = self.ledger.lock();
        accounts.sessions -= 1;
        accounts.bytes -= self.bytes;
        if let Some(count) = accounts.sessions_of_user.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                accounts.sessions_of_user.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back() {
        let ledger = Arc::new(Ledger::default());
        let first = ledger.charge(7, 100);
        let second = ledger.charge(8, 10);
        let usage = ledger.usage(7);
        assert_eq!((usage.sessions, usage.sessions_of_user, usage.bytes), (2, 1, 110));
        drop(first);
        let usage = ledger.usage(7);
        assert_eq!((usage.sessions, usage.sessions_of_user, usage.bytes), (1, 0, 10));
        drop(second);
        assert_eq!(ledger.usage(8).bytes, 0);
        assert!(ledger.lock().sessions_of_user.is_empty());
    }
}
