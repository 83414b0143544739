//! What the steward and the serving threads share: letters one way, commands the other, and counters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ledger::Ledger;
use super::protocol::Reason;
use crate::attention::Attention;
use crate::error::{Error, Result};
use crate::layout::Head;
use crate::session::Session;
use crate::sys::bell::Bell;
use crate::sys::fork::ForkGuard;

/// What the serving threads and the steward share.
#[derive(Debug)]
pub struct Core {
    /// The serving threads' letter boxes.
    ports: Mutex<Vec<Arc<Port>>>,
    /// Set once, by whoever wants the end: the steward makes no new session from then on.
    shutdown: AtomicBool,
    /// Set once, by the steward: there will be no new session, so the serving threads finish what they have.
    is_complete: AtomicBool,
    commands: Mutex<Vec<Command>>,
    /// Wakes the steward.
    pub bell: Bell,
    /// Counted by the steward, but for what says otherwise.
    pub counts: Arc<Counts>,
    /// What the clients cost.
    pub ledger: Arc<Ledger>,
    /// A child inherits the locks as they were, held perhaps by a thread that it does not have: it must touch none.
    fork: ForkGuard,
}

/// What is counted of all sessions together.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sessions alive.
    pub sessions: AtomicU64,
    /// Sessions ever granted.
    pub accepted: AtomicU64,
    /// Handshakes refused or failed.
    pub refused: AtomicU64,
    /// Sessions ended because the peer broke the protocol.
    pub violations: AtomicU64,
    /// Messages acknowledged: counted by whoever has them.
    pub acknowledged: AtomicU64,
    /// Messages given back unacknowledged: counted by whoever had them.
    pub returned: AtomicU64,
}

/// What a serving thread asks of the steward.
#[derive(Debug)]
pub enum Command {
    /// A session must end.
    EndSession {
        /// The session.
        id: u64,
        /// For programs.
        reason: Reason,
        /// For people.
        why: String,
    },
    /// A session that is over: let go of its memory, which may take long.
    Bury(Arc<Session>),
    /// Say farewell to everybody; the steward's thread ends after that.
    EndAll,
}

/// The letter box of one serving thread.
#[derive(Debug)]
pub struct Port {
    letters: Mutex<Vec<Letter>>,
    /// Set when there is a letter, or the server shuts down; looked at between any two requests.
    pub attention: Attention,
    /// Rung when `attention` calls, for a thread that sleeps.
    pub bell: Bell,
    /// Requests answered: written by the serving thread alone.
    pub calls: AtomicU64,
    /// Doorbells rung: written by the serving thread alone.
    pub rings: AtomicU64,
    /// Times the serving thread slept: written by it alone.
    pub sleeps: AtomicU64,
}

/// News for a serving thread.
#[derive(Debug)]
pub enum Letter {
    /// A new session to serve.
    Adopt(Arc<Session>),
    /// A session is over.
    Forget(u64),
    /// A sender is gone: what it committed is still to be received.
    Orphan(u64),
    /// A message was given back: it is to be delivered again.
    Again(Again),
}

/// A message that a receiver had, did not acknowledge, and gave back. It lies where it lay.
#[derive(Debug)]
pub struct Again {
    /// Where it came from.
    pub session: Arc<Session>,
    /// Where in its memory it lies.
    pub slot: usize,
    /// The sequence of its turn.
    pub sequence: u64,
    /// Its head as it was checked.
    pub head: Head,
}

impl Port {
    fn new() -> Result<Arc<Port>> {
        Ok(Arc::new(Port {
            letters: Mutex::default(),
            attention: Attention::quiet(),
            bell: Bell::new().map_err(|error| Error::io("create a doorbell", error))?,
            calls: AtomicU64::new(0),
            rings: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
        }))
    }

    fn post(&self, letter: Letter) {
        lock(&self.letters).push(letter);
        self.call_attention();
    }

    /// Makes the thread look.
    pub fn call_attention(&self) {
        self.attention.call();
        self.bell.ring();
    }

    /// Takes all letters.
    pub fn take_letters(&self) -> Vec<Letter> {
        self.attention.answer();
        std::mem::take(&mut *lock(&self.letters))
    }

    /// Takes back the letter that a session is to be adopted, if it has not been read.
    fn cancel(&self, id: u64) -> Option<Letter> {
        let mut letters = lock(&self.letters);
        let unread = letters.iter().position(|letter| matches!(letter, Letter::Adopt(session) if session.id == id))?;
        Some(letters.remove(unread))
    }
}

impl Core {
    /// A core with one port.
    pub fn new() -> Result<Arc<Core>> {
        Ok(Arc::new(Core {
            ports: Mutex::new(vec![Port::new()?]),
            shutdown: AtomicBool::new(false),
            is_complete: AtomicBool::new(false),
            commands: Mutex::default(),
            bell: Bell::new().map_err(|error| Error::io("create a doorbell", error))?,
            counts: Arc::default(),
            ledger: Arc::default(),
            fork: ForkGuard::new(),
        }))
    }

    /// The ports there are.
    pub fn ports(&self) -> Vec<Arc<Port>> {
        lock(&self.ports).clone()
    }

    /// New ports for `count` serving threads in all; nobody is dealt to them before [`Core::open`].
    pub fn prepare(&self, count: usize) -> Result<Vec<Arc<Port>>> {
        let mut ports = self.ports();
        while ports.len() < count {
            ports.push(Port::new()?);
        }
        Ok(ports)
    }

    /// Publishes the ports, and deals out the sessions that nobody has taken yet.
    pub fn open(&self, ports: Vec<Arc<Port>>) {
        let mut current = lock(&self.ports);
        *current = ports;
        let waiting = std::mem::take(&mut *lock(&current[0].letters));
        for (number, letter) in waiting.into_iter().enumerate() {
            let index = match &letter {
                Letter::Adopt(session) => {
                    let index = number % current.len();
                    session.port.store(index as u64, Ordering::Relaxed); // under the lock of the ports
                    index
                }
                _ => 0,
            };
            current[index].post(letter);
        }
        if self.is_complete() {
            current.iter().for_each(|port| port.call_attention()); // the new ones have not been told
        }
    }

    /// Gives a session to the serving thread whose turn it is.
    pub fn deal(&self, session: &Arc<Session>) {
        let ports = lock(&self.ports);
        let index = session.id as usize % ports.len();
        session.port.store(index as u64, Ordering::Relaxed); // under the lock of the ports
        ports[index].post(Letter::Adopt(Arc::clone(session)));
    }

    /// Tells the serving thread of a session that it is over; a letter it has not read is taken back instead, so that
    /// clients who come and go while a handler runs leave nothing behind.
    pub fn forget(&self, session: &Session) {
        let unread = {
            let ports = lock(&self.ports);
            let port = &ports[session.port.load(Ordering::Relaxed) as usize];
            let unread = port.cancel(session.id);
            if unread.is_none() {
                port.post(Letter::Forget(session.id));
            }
            unread
        };
        drop(unread); // may be the last owner of the memory: not under the lock
    }

    /// Tells the serving thread of a session that its sender is gone.
    pub fn orphan(&self, session: &Session) {
        self.post(session, Letter::Orphan(session.id));
    }

    /// Hands a message to the serving thread of its session once more.
    pub fn deliver_again(&self, again: Again) {
        let session = Arc::clone(&again.session);
        self.post(&session, Letter::Again(again));
    }

    fn post(&self, session: &Session, letter: Letter) {
        let ports = lock(&self.ports);
        ports[session.port.load(Ordering::Relaxed) as usize].post(letter); // under the lock of the ports
    }

    /// Throws away what nobody will read any more.
    pub fn clear(&self) {
        let letters: Vec<Letter> = self.ports().iter().flat_map(|port| port.take_letters()).collect();
        let commands = self.take_commands();
        drop((letters, commands)); // not under a lock
    }

    /// Asks the steward for something.
    pub fn command(&self, command: Command) {
        lock(&self.commands).push(command);
        self.bell.ring();
    }

    /// Takes all commands: the steward.
    pub fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *lock(&self.commands))
    }

    /// Begins the end; safe from any thread, any number of times. In a forked child it does nothing: the server is the
    /// parent's.
    pub fn shut_down(&self) {
        if self.fork.is_forked() {
            return;
        }
        // Release, partner: `is_shutting_down`.
        self.shutdown.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// All sessions that will ever be have been dealt out: the steward, once it makes no more.
    pub fn complete(&self) {
        // Release, partner: `is_complete`.
        self.is_complete.store(true, Ordering::Release);
        for port in self.ports() {
            port.call_attention();
        }
    }

    /// Whether no session will come any more, so that what there is can be finished.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Whether the end has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.load(Ordering::Acquire)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock, and a list of letters is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
