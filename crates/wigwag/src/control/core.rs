//! What the steward and the serving threads share: letters one way, commands the other, and counters.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ledger::Ledger;
use super::policy::Limits;
use super::protocol::Reason;
use super::steward::Orders;
use crate::attention::Attention;
use crate::error::{Error, Result};
use crate::layout;
use crate::session::Session;
use crate::statistics::{Head, LISTED, Shape, Statistics, THREADS_MAX, ThreadEntry, Word};
use crate::sys::bell::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::{clock, process};
use crate::wait::Wait;

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
    /// What is counted, where observers can see it.
    pub statistics: Arc<Statistics>,
    /// Whether calls are counted.
    pub is_counting: bool,
    /// What the clients cost.
    pub ledger: Arc<Ledger>,
    /// A child inherits the locks as they were, held perhaps by a thread that it does not have: it must touch none.
    fork: ForkGuard,
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
    /// What the serving thread says of itself: written by it alone.
    pub record: ThreadEntry,
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
    /// Its head as it was checked.
    pub head: layout::Head,
}

impl Port {
    fn new(record: ThreadEntry) -> Result<Arc<Port>> {
        Ok(Arc::new(Port {
            letters: Mutex::default(),
            attention: Attention::quiet(),
            bell: Bell::new().map_err(|error| Error::io("create a doorbell", error))?,
            record,
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
    /// A core with one port, for a server with these orders. From here on observers find its statistics.
    pub fn new(orders: &Orders) -> Result<Arc<Core>> {
        let statistics = statistics_of(orders)?;
        orders.claim.announce(statistics.memory())?;
        Ok(Arc::new(Core {
            ports: Mutex::new(vec![Port::new(statistics.thread(0))?]),
            shutdown: AtomicBool::new(false),
            is_complete: AtomicBool::new(false),
            commands: Mutex::default(),
            bell: Bell::new().map_err(|error| Error::io("create a doorbell", error))?,
            statistics,
            is_counting: orders.is_counting,
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
            ports.push(Port::new(self.statistics.thread(ports.len()))?);
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

/// Makes the statistics of a server and writes into them what never changes.
fn statistics_of(orders: &Orders) -> Result<Arc<Statistics>> {
    let (device, inode) = orders.claim.lock_identity()?;
    Statistics::new(Shape::new(THREADS_MAX, orders.limits.sessions), |head| {
        head.lock_device.set(device);
        head.lock_inode.set(inode);
        head.pid.set(process::own_number().unwrap_or(0).into());
        head.uid.set(rustix::process::geteuid().as_raw().into());
        head.began_ns.set(clock::now_ns());
        head.form.set(orders.contract.form as u64);
        head.wait.set(match orders.wait {
            Wait::Adaptive => 0,
            Wait::Spin => 1,
            Wait::Park => 2,
        });
        head.contract_version.set(orders.contract.version.into());
        head.contract_size.set(orders.contract.size.into());
        head.contract_align.set(orders.contract.align.into());
        write_text(&head.contract_len, &head.contract, orders.contract.name.as_bytes());
        write_text(&head.path_len, &head.path, orders.claim.place().path().as_os_str().as_bytes());
        describe_limits(head, orders);
    })
}

fn describe_limits(head: &Head, orders: &Orders) {
    let Limits {
        sessions,
        sessions_per_user,
        sessions_per_stranger,
        slots,
        capacity,
        bytes_per_session,
        bytes_total,
        handshakes,
        handshake_timeout,
    } = orders.limits;
    head.limits.sessions.set(sessions as u64);
    head.limits.sessions_per_user.set(sessions_per_user as u64);
    head.limits.sessions_per_stranger.set(sessions_per_stranger as u64);
    head.limits.slots.set(slots as u64);
    head.limits.capacity.set(capacity as u64);
    head.limits.bytes_per_session.set(bytes_per_session as u64);
    head.limits.bytes_total.set(bytes_total as u64);
    head.limits.handshakes.set(handshakes as u64);
    head.limits.handshake_timeout_ns.set(u64::try_from(handshake_timeout.as_nanos()).unwrap_or(u64::MAX));
    head.everyone.set(orders.policy.everyone.into());
    let list = |len: &Word, words: &[Word; LISTED], ids: &[u32]| {
        len.set(ids.len() as u64);
        words.iter().zip(ids).for_each(|(word, id)| word.set((*id).into()));
    };
    list(&head.users_len, &head.users, &orders.policy.users);
    list(&head.groups_len, &head.groups, &orders.policy.groups);
}

/// Writes a text as words; of one that is too long its beginning.
fn write_text(len: &Word, words: &[Word], text: &[u8]) {
    let text = &text[..text.len().min(words.len() * 8)];
    len.set(text.len() as u64);
    for (word, chunk) in words.iter().zip(text.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.set(u64::from_ne_bytes(bytes));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock, and a list of letters is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
