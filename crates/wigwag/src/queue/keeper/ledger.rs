//! What the threads of a keeper share: what it has counted, whom it tells, and whether it is to end.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::session::keeping::KeeperCounts;
use crate::sync;

/// What a keeper does, told as it does it.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("jobs").path;
/// let keeper = wigwag::Keeper::builder()
///     .on_event(|event| eprintln!("{event}"))
///     .start(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeeperEvent {
    /// A receiver has a new sender, whose messages are kept from now on.
    Kept {
        /// The queue's socket.
        queue: PathBuf,
        /// The sender's process, for people.
        sender: i32,
        /// The session's memory in bytes.
        bytes: u64,
    },
    /// What a sender sends is not kept.
    Refused {
        /// The queue's socket.
        queue: PathBuf,
        /// The sender's process, for people.
        sender: i32,
        /// Why.
        why: String,
    },
    /// A session's memory was let go: nothing was left in it that its sender would not hand on itself.
    Released {
        /// The queue's socket.
        queue: PathBuf,
        /// The sender's process, for people.
        sender: i32,
    },
    /// A sender and its receiver are gone, and have left messages, which go to whoever has the queue's name next.
    Left {
        /// The queue's socket.
        queue: PathBuf,
        /// The sender's process, for people.
        sender: i32,
        /// Messages that were not acknowledged.
        messages: u64,
        /// Slots that were passed, and what lies there is no message.
        unreadable: u64,
    },
    /// What is left cannot be handed on for now, and is tried again.
    Delayed {
        /// The queue's socket.
        queue: PathBuf,
        /// Why.
        why: String,
    },
    /// What was left by a sender is acknowledged.
    HandedOn {
        /// The queue's socket.
        queue: PathBuf,
        /// Messages.
        messages: u64,
        /// Of these, those that were marked as redelivered.
        redelivered: u64,
    },
    /// The keeper's name was taken away, and it cannot have it again: no receiver can reach it any more.
    NameLost {
        /// Why.
        why: String,
    },
}

impl fmt::Display for KeeperEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeeperEvent::Kept { queue, sender, bytes } => {
                write!(out, "{}: keeps the messages of process {sender} ({bytes} bytes)", queue.display())
            }
            KeeperEvent::Refused { queue, sender, why } => {
                write!(out, "{}: the messages of process {sender} are not kept: {why}", queue.display())
            }
            KeeperEvent::Released { queue, sender } => {
                write!(out, "{}: nothing of process {sender} is left", queue.display())
            }
            KeeperEvent::Left { queue, sender, messages, unreadable } => {
                write!(out, "{}: process {sender} and its receiver have left {messages} messages", queue.display())?;
                match unreadable {
                    0 => Ok(()),
                    count => write!(out, ", and {count} that cannot be read"),
                }
            }
            KeeperEvent::Delayed { queue, why } => {
                write!(out, "{}: what is left cannot be handed on yet: {why}", queue.display())
            }
            KeeperEvent::HandedOn { queue, messages, redelivered } => write!(
                out,
                "{}: {messages} messages were handed on and acknowledged, {redelivered} of them marked as redelivered",
                queue.display()
            ),
            KeeperEvent::NameLost { why } => write!(out, "the keeper's name is lost: {why}"),
        }
    }
}

/// Who is told.
pub type Listener = Arc<dyn Fn(&KeeperEvent) + Send + Sync>;

/// What is shared.
pub struct Ledger {
    counts: Mutex<KeeperCounts>,
    listener: Option<Listener>,
    is_over: Mutex<bool>,
    ended: Condvar,
}

impl Ledger {
    /// Nothing has happened.
    pub fn new(sessions_max: u64, bytes_max: u64, listener: Option<Listener>) -> Arc<Ledger> {
        let counts = KeeperCounts { sessions_max, bytes_max, ..KeeperCounts::default() };
        Arc::new(Ledger { counts: Mutex::new(counts), listener, is_over: Mutex::new(false), ended: Condvar::new() })
    }

    /// What was counted.
    pub fn counts(&self) -> KeeperCounts {
        *sync::lock(&self.counts)
    }

    /// Counts something.
    pub fn count(&self, change: impl FnOnce(&mut KeeperCounts)) {
        change(&mut sync::lock(&self.counts));
    }

    /// Tells something; no lock is held meanwhile.
    pub fn tell(&self, event: &KeeperEvent) {
        self.listener.iter().for_each(|listener| listener(event));
    }

    /// The keeper ends: nobody waits any more.
    pub fn end(&self) {
        *sync::lock(&self.is_over) = true;
        self.ended.notify_all();
    }

    /// Whether it does.
    pub fn is_over(&self) -> bool {
        *sync::lock(&self.is_over)
    }

    /// Does nothing for so long, or until the end.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut is_over = sync::lock(&self.is_over);
        while !*is_over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            is_over = self.ended.wait_timeout(is_over, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Charges for a session.
    ///
    /// # Errors
    /// Which limit it would exceed.
    pub fn charge(self: &Arc<Ledger>, bytes: u64) -> std::result::Result<Charge, String> {
        let mut counts = sync::lock(&self.counts);
        let (sessions_max, bytes_max) = (counts.sessions_max, counts.bytes_max);
        if counts.sessions >= sessions_max {
            return Err(format!(
                "the keeper has {sessions_max} sessions, as many as it may (KeeperBuilder::max_sessions, `ulimit -n`)"
            ));
        }
        if bytes > bytes_max.saturating_sub(counts.bytes) {
            let has = counts.bytes;
            return Err(format!(
                "a session of {bytes} bytes does not fit: the keeper has {has} of {bytes_max} \
                 (KeeperBuilder::max_bytes)"
            ));
        }
        counts.sessions += 1;
        counts.bytes += bytes;
        counts.kept += 1;
        drop(counts);
        Ok(Charge { bytes, ledger: Arc::clone(self) })
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Ledger").field(&self.counts()).finish()
    }
}

/// What a session costs, given back when the last owner lets go.
#[derive(Debug)]
pub struct Charge {
    bytes: u64,
    ledger: Arc<Ledger>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.count(|counts| {
            counts.sessions -= 1;
            counts.bytes -= self.bytes;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_and_what_is_let_go_makes_room() {
        let ledger = Ledger::new(2, 100, None);
        let first = ledger.charge(60).unwrap();
        assert!(ledger.charge(41).unwrap_err().contains("60 of 100"));
        let second = ledger.charge(40).unwrap();
        assert!(ledger.charge(0).unwrap_err().contains("2 sessions"));
        drop(first);
        assert_eq!((ledger.counts().sessions, ledger.counts().bytes, ledger.counts().kept), (1, 40, 2));
        drop((second, ledger.charge(60).unwrap()));
        assert_eq!((ledger.counts().sessions, ledger.counts().bytes), (0, 0));
    }

    #[test]
    fn a_pause_ends_with_the_keeper() {
        let ledger = Ledger::new(0, 0, None);
        ledger.pause(Duration::from_millis(1));
        let ending = Arc::clone(&ledger);
        std::thread::spawn(move || ending.end());
        ledger.pause(Duration::from_secs(3600));
        assert!(ledger.is_over());
    }
}
