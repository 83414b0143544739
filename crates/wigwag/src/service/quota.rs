//! What the clients cost the server just now: counted from the offer until the memory is really gone, and what waking
//! them takes.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::faults::{self, Fault};
use crate::service::admission::Usage;
use crate::sync;
use crate::sys::eventfd::Bell;
use crate::sys::{clock, memory};

/// The accounts of one server.
#[derive(Debug, Default)]
pub struct Quota {
    accounts: Mutex<Accounts>,
    /// Wakes who [looks after](Quota::look_after_kept) what is kept.
    bell: Option<Arc<Bell>>,
}

#[derive(Debug, Default)]
struct Accounts {
    sessions: usize,
    bytes: usize,
    sessions_of_user: HashMap<u32, usize>,
    wakes_of_user: HashMap<u32, Arc<WakeCost>>,
    /// Of sessions that are over, whose clients have not let go of the memory.
    kept: Vec<QuotaGrant>,
    is_closed: bool,
}

/// What one session is charged; dropping it gives it back, once nobody else has the memory any more.
#[derive(Debug)]
pub struct QuotaGrant {
    quota: Arc<Quota>,
    uid: u32,
    bytes: usize,
    wakes: Arc<WakeCost>,
    /// Of a client of another user: the server's own opening of the memory. The client has another, so the kernel tells
    /// whether that is open, mapped or under way still.
    memory: Option<Arc<OwnedFd>>,
}

impl Quota {
    /// Counts memory that lives as long as the server.
    pub fn reserve(&self, bytes: usize) {
        self.lock().bytes += bytes;
    }

    /// No sessions. The bell is rung when memory is kept by a client whose session is over.
    pub fn new(bell: Arc<Bell>) -> Quota {
        Quota { bell: Some(bell), ..Quota::default() }
    }

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
    pub fn charge(self: &Arc<Quota>, uid: u32, bytes: usize) -> QuotaGrant {
        let mut accounts = self.lock();
        accounts.sessions += 1;
        accounts.bytes += bytes;
        *accounts.sessions_of_user.entry(uid).or_default() += 1;
        let wakes = Arc::clone(accounts.wakes_of_user.entry(uid).or_default());
        QuotaGrant { quota: Arc::clone(self), uid, bytes, wakes, memory: None }
    }

    /// What waking a user's processes costs.
    pub fn wakes(&self, uid: u32) -> Arc<WakeCost> {
        let mut accounts = self.lock();
        // Users come and go: those of whom there is nothing to remember are forgotten.
        if accounts.wakes_of_user.len() >= 1024 {
            accounts.wakes_of_user.retain(|_, wakes| Arc::strong_count(wakes) > 1 || wakes.is_remarkable());
        }
        Arc::clone(accounts.wakes_of_user.entry(uid).or_default())
    }

    /// Gives back what was charged for memory that nobody else has by now, and that memory, whose end may take a while.
    pub fn look_after_kept(&self) -> Vec<Arc<OwnedFd>> {
        let all = std::mem::take(&mut self.lock().kept);
        let is_kept =
            |entry: &QuotaGrant| entry.memory.as_ref().is_some_and(|memory| memory::is_open_elsewhere(&**memory));
        let (kept, gone): (Vec<QuotaGrant>, Vec<QuotaGrant>) = all.into_iter().partition(is_kept);
        self.lock().kept.extend(kept);
        gone.into_iter().filter_map(|mut entry| entry.memory.take()).collect()
    }

    /// Whether clients keep memory of sessions that are over.
    pub fn has_kept(&self) -> bool {
        !self.lock().kept.is_empty()
    }

    /// The server ends: what clients keep is charged to nobody.
    pub fn close(&self) {
        let kept = {
            let mut accounts = self.lock();
            accounts.is_closed = true;
            std::mem::take(&mut accounts.kept)
        };
        kept.into_iter().for_each(|mut entry| drop(entry.memory.take()));
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        // Nothing panics while it is held.
        sync::lock(&self.accounts)
    }
}

impl QuotaGrant {
    /// From now on the charge lasts for as long as somebody else has the memory open.
    pub fn lasts_for(&mut self, memory: Arc<OwnedFd>) {
        self.memory = Some(memory);
    }

    /// What waking this session's user costs.
    pub fn wakes(&self) -> &Arc<WakeCost> {
        &self.wakes
    }
}

impl Drop for QuotaGrant {
    fn drop(&mut self) {
        let is_kept =
            |memory: &Arc<OwnedFd>| !faults::is(Fault::ForgottenMemory) && memory::is_open_elsewhere(&**memory);
        if let Some(memory) = self.memory.take().filter(is_kept) {
            let (quota, wakes) = (Arc::clone(&self.quota), Arc::clone(&self.wakes));
            let entry = QuotaGrant { quota, uid: self.uid, bytes: self.bytes, wakes, memory: Some(memory) };
            let refused = {
                let mut accounts = self.quota.lock();
                match accounts.is_closed {
                    true => Some(entry),
                    false => {
                        accounts.kept.push(entry);
                        None
                    }
                }
            };
            match refused {
                Some(mut entry) => drop(entry.memory.take()),
                None => self.quota.bell.iter().for_each(|bell| bell.ring()),
            }
            return; // it is that entry's from here on
        }
        let mut accounts = self.quota.lock();
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

/// What waking the processes of one other user has cost. Sending a message wakes its waiters in the sender's time: a
/// socket that is in a hundred thousand epolls makes that as long as its owner likes.
#[derive(Debug, Default)]
pub struct WakeCost {
    /// One wake took long. It may have been another program's turn: the next is measured in this thread's own time.
    is_suspect: AtomicBool,
    /// Until then they are woken by background job; 0: never was slow.
    slow_until_ns: AtomicU64,
}

/// More than a hundred times what a wake takes.
const WAKE_MAX_NS: u64 = 500_000;
/// How long that is remembered.
const SLOW_FOR: Duration = Duration::from_secs(60);

impl WakeCost {
    /// Whether they are to be woken by nobody who has something else to do.
    #[inline]
    pub fn is_slow(&self) -> bool {
        // Relaxed: it decides who wakes, and nothing hangs on it.
        let until = self.slow_until_ns.load(Ordering::Relaxed);
        until != 0 && clock::now_ns() < until
    }

    /// Wakes a peer and measures that. Returns whether it took too long, for sure.
    pub fn wake(&self, wake: impl FnOnce()) -> bool {
        // Relaxed: as above.
        let is_suspect = self.is_suspect.load(Ordering::Relaxed);
        let clock = || if is_suspect { clock::thread_ns() } else { clock::now_ns() };
        let begin = clock();
        wake();
        let is_slow = clock().saturating_sub(begin) > WAKE_MAX_NS && !faults::is(Fault::PatientWake);
        if is_slow != is_suspect {
            self.is_suspect.store(is_slow, Ordering::Relaxed);
        }
        if is_slow && is_suspect {
            self.slow_until_ns.store(clock::now_ns() + SLOW_FOR.as_nanos() as u64, Ordering::Relaxed);
        }
        is_slow && is_suspect
    }

    fn is_remarkable(&self) -> bool {
        self.is_slow() || self.is_suspect.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back() {
        let quota = Arc::new(Quota::default());
        let first = quota.charge(7, 100);
        let second = quota.charge(8, 10);
        let usage = quota.usage(7);
        assert_eq!((usage.sessions, usage.sessions_of_user, usage.bytes), (2, 1, 110));
        drop(first);
        let usage = quota.usage(7);
        assert_eq!((usage.sessions, usage.sessions_of_user, usage.bytes), (1, 0, 10));
        drop(second);
        assert_eq!(quota.usage(8).bytes, 0);
        assert!(quota.lock().sessions_of_user.is_empty());
    }

    #[test]
    fn s3_memory_that_somebody_else_has_is_charged_until_it_is_gone() {
        let quota = Arc::new(Quota::default());
        let made = memory::create_sealed("charged", 8192).unwrap();
        let (ours, theirs) = memory::open_twice(&made).unwrap();
        drop(made);
        let mut entry = quota.charge(7, 100);
        entry.lasts_for(Arc::new(ours));
        let mapped = memory::Mapping::new(&theirs, 8192, 0).unwrap();
        drop(entry);
        assert!(quota.look_after_kept().is_empty());
        assert_eq!(quota.usage(7).bytes, 100);
        drop(theirs);
        assert!(quota.look_after_kept().is_empty() && quota.has_kept(), "it is mapped");
        drop(mapped);
        assert_eq!(quota.look_after_kept().len(), 1);
        assert_eq!((quota.usage(7).bytes, quota.usage(7).sessions), (0, 0));
    }

    #[test]
    fn s4_who_takes_long_to_wake_twice_in_our_own_time_is_slow() {
        let busy = || {
            let begin = clock::thread_ns();
            while clock::thread_ns() - begin <= 2 * WAKE_MAX_NS {}
        };
        let wakes = WakeCost::default();
        assert!(!wakes.wake(busy) && !wakes.is_slow(), "it may have been another program's turn");
        assert!(!wakes.wake(|| ()) && !wakes.wake(busy), "it was");
        assert!(wakes.wake(busy) && wakes.is_slow());
    }
}
