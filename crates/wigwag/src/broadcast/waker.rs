//! The thread that rings where a publisher would have to ring too often: more than a few sleepers at once, and all
//! subscribers of other users.
//!
//! Waking a process takes microseconds. The publisher hands over the bits that it took from the hint line, unseen, and
//! rings this thread if that sleeps: so a message costs it one ring, however many sleep.
//!
//! Other users have no hint line, which they could spoil for all. One that goes to sleep rings a bell of its own, which
//! this thread has in its epoll; as long as one of them sleeps, the thread is *armed*, and the publisher rings it with
//! the next message. A subscriber that rings without need costs this thread time, and the publisher at most one ring
//! for each pause of this thread.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broadcast::listeners::{Listeners, ring_if_asleep};
use crate::error::{Error, Result};
use crate::memory::board::Board;
use crate::memory::doorbell::Waiting;
use crate::memory::entry;
use crate::memory::hint::Groups;
use crate::service::audience::Audience;
use crate::service::session::Session;
use crate::session::peer::Trust;
use crate::sync::{self, AtomicU32, Ordering};
use crate::sys::epoll::{Events, Interest, Poller};
use crate::sys::eventfd::Bell;

/// How long the thread rests after a round for other users.
const PAUSE: Duration = Duration::from_micros(50);
/// The thread's own bell in its epoll; the others have the numbers of their sessions, which count from 1.
const KEY_OWN: u64 = 0;

/// What the publisher has of the thread. It is started when there is work for it, and ends with this.
pub struct Waker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    bell: Bell,
    poller: Poller,
    audience: Arc<Audience>,
    board: Arc<Board>,
    /// The groups that are to be looked through.
    groups: Mutex<Groups>,
    /// The thread sleeps, or is about to.
    waiting: AtomicU32,
    /// Somebody of another user sleeps: the next message rings this thread.
    armed: AtomicU32,
    is_over: AtomicBool,
}

impl Waker {
    /// The thread is not started yet.
    pub fn new(audience: &Arc<Audience>, board: &Arc<Board>) -> Result<Waker> {
        let (bell, poller) = (Bell::new()?, Poller::new()?);
        poller.add(&bell, KEY_OWN, Interest::Bell)?;
        let shared = Arc::new(Shared {
            bell,
            poller,
            audience: Arc::clone(audience),
            board: Arc::clone(board),
            groups: Mutex::default(),
            waiting: AtomicU32::new(0),
            armed: AtomicU32::new(0),
            is_over: AtomicBool::new(false),
        });
        Ok(Waker { shared, thread: None })
    }

    /// Starts the thread, if it does not run.
    #[cold]
    pub fn start(&mut self) -> Result<()> {
        if self.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("wigwag-waker".into()).spawn(move || run(&shared));
            self.thread = Some(thread.map_err(|error| Error::io("start the thread that wakes subscribers", error))?);
        }
        Ok(())
    }

    /// Has the groups looked through.
    #[cold]
    pub fn hand_over(&self, groups: &Groups) {
        sync::lock(&self.shared.groups).add(groups);
        self.ring();
    }

    /// Directly after a message was published, if there are subscribers of other users.
    #[inline]
    pub fn published(&self) {
        if Waiting(&self.shared.armed).claim() {
            self.shared.bell.ring();
        }
    }

    /// Somebody of another user came or went.
    #[cold]
    pub fn look(&self) {
        self.shared.bell.ring();
    }

    fn ring(&self) {
        // The lock was released after the groups were put in; the claim's own exchange orders nothing more.
        if self.shared.waiting.swap(0, Ordering::SeqCst) != 0 {
            self.shared.bell.ring();
        }
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.is_over.store(true, Ordering::Relaxed); // the bell's system call orders it
            self.shared.bell.ring();
            let _ = thread.join();
        }
    }
}

impl Waker {
    /// In a forked child there is no such thread to wait for.
    pub fn forget_thread(&mut self) {
        std::mem::forget(self.thread.take());
    }
}

fn run(shared: &Shared) {
    let (mut listeners, mut others) = (Listeners::new(), Vec::new());
    let mut events = Events::with_capacity(16);
    let mut version = 0;
    loop {
        Waiting(&shared.waiting).announce();
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        // The groups before the list: whoever is meant has come before.
        let groups = std::mem::take(&mut *sync::lock(&shared.groups));
        if shared.audience.version() != version {
            let (now, members) = shared.audience.list();
            version = now;
            listeners.replace_own(&members);
            watch(shared, &mut others, members);
        }
        if groups.count() > 0 {
            Waiting(&shared.waiting).withdraw();
            listeners.ring(&groups);
            continue;
        }
        let has_rung = ring_others(shared, &others);
        if has_rung {
            Waiting(&shared.waiting).withdraw();
            std::thread::sleep(PAUSE);
            continue;
        }
        if shared.poller.wait(&mut events, None).is_err() {
            return; // cannot happen with a valid epoll; never spin on it
        }
        if events.iter().any(|ready| ready.key != KEY_OWN) {
            std::thread::sleep(PAUSE); // whoever rings all the time
        }
    }
}

/// Keeps the bells of other users' subscribers in the epoll.
fn watch(shared: &Shared, others: &mut Vec<Arc<Session>>, members: Vec<Arc<Session>>) {
    let now: Vec<Arc<Session>> = members.into_iter().filter(|session| session.trust == Trust::OtherUser).collect();
    for gone in others.iter().filter(|before| !now.iter().any(|session| session.id == before.id)) {
        shared.poller.remove(&gone.server_bell);
    }
    for new in now.iter().filter(|session| !others.iter().any(|before| before.id == session.id)) {
        // Without a place in the epoll it is woken later: by whatever wakes this thread next.
        let _ = shared.poller.add(&new.server_bell, new.id, Interest::Bell);
    }
    *others = now;
}

/// Rings those of other users that sleep and have something to read. Whether there was one; if others sleep on, the
/// thread is armed.
fn ring_others(shared: &Shared, others: &[Arc<Session>]) -> bool {
    let is_asleep = |session: &&Arc<Session>| Waiting(&session.segment.subscriber_line().waiting).is_announced();
    if !others.iter().any(|session| is_asleep(&session)) {
        return false;
    }
    Waiting(&shared.armed).announce(); // before the look at the entries; partner: `published`
    let has_something = |session: &&Arc<Session>| {
        // Any number: it belongs to another user.
        let cursor = session.segment.subscriber_line().cursor.load(Ordering::Relaxed);
        entry::look(shared.board.entry(shared.board.geometry().entry_of(cursor))) >= cursor
    };
    let rung: u64 = others.iter().filter(is_asleep).filter(has_something).map(ring_if_asleep).sum();
    rung > 0
}
