//! The publisher's core, which never waits: bodies, entries, and who is to be woken.
//!
//! What a kill of this process does at any instruction: the message under way is not there, or it is there as a whole;
//! of those before it at most the oldest is lost, which would have been lost with this one anyway. What a subscriber
//! does, dead, stopped or lying: it keeps as many bodies as it was granted, and costs a ring.

use std::sync::Arc;
use std::time::Duration;

use crate::broadcast::laggards::Laggards;
use crate::broadcast::listeners::Listeners;
use crate::broadcast::pool::{self, Pool};
use crate::broadcast::waker::Waker;
use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::memory::board::{Board, Hints};
use crate::memory::entry::{self, INLINE_WORDS, Place};
use crate::memory::{hint, hold};
use crate::service::audience::Audience;
use crate::service::shared::{Mailbox, ServiceShared};
use crate::sync::{Ordering, fence_after_swap};
use crate::sys::fork::ForkGuard;
use crate::sys::{clock, cpu};

/// Groups of sleepers that a publisher rings itself.
const RUNG_HERE: u32 = 4;

/// The core.
pub struct Output {
    board: Arc<Board>,
    hints: Hints,
    pool: Pool,
    /// The number of the next message, and its entry.
    next: u64,
    index: usize,
    audience: Arc<Audience>,
    listeners: Listeners,
    /// There if the publisher is lossless.
    laggards: Option<Laggards>,
    /// There if messages that all subscribers have taken are let go of.
    releases: Option<Releases>,
    waker: Waker,
    shared: Arc<ServiceShared>,
    /// What observers see.
    record: Arc<Mailbox>,
    fork: ForkGuard,
    /// Which of other users' subscribers the thread that wakes them was started for.
    others_version: u64,
    /// The tick at which no thread was to be had for that.
    tried_at: i64,
    /// The tick of the kernel's clock at which was swept last.
    swept: i64,
    counts: Tally,
}

/// How messages are let go of that all subscribers have taken.
struct Releases {
    /// How many of the newest ones stay.
    retained: u64,
    /// So many messages share a look at where all subscribers read.
    batch: u64,
    /// The number of the message before which is looked next.
    next_look: u64,
    /// Messages below this number are released, or replaced.
    done: u64,
}

impl Releases {
    fn new(retained: usize, body_stride: usize) -> Releases {
        /// Less than that lies in the cache anyway. What readers have just read costs more to write to: with 64 KiB
        /// and a batch of 256 KiB a reader got half as many messages.
        const BATCH_BYTES: usize = 2 << 20;
        let batch = (BATCH_BYTES / body_stride.max(1)).max(1) as u64;
        Releases { retained: retained as u64, batch, next_look: 1, done: 1 }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Rings of subscribers that this thread made.
    pub rung: u64,
    /// Times that the waker thread was given sleepers to wake.
    pub handed_over: u64,
    /// Looks at all holds.
    pub scans: u64,
    /// Subscribers that were cut off.
    pub cut_off: u64,
}

impl Output {
    /// Nothing is published yet.
    pub fn new(
        board: Board,
        hints: Hints,
        audience: Arc<Audience>,
        shared: Arc<ServiceShared>,
        patience: Option<Duration>,
        retained: Option<usize>,
    ) -> Result<Output> {
        let (geometry, board) = (*board.geometry(), Arc::new(board));
        let line = board.publisher_line();
        line.only_processor.store(cpu::only_processor(), Ordering::Relaxed); // a hint
        line.is_lossless.store(u32::from(patience.is_some()), Ordering::Relaxed); // before anybody has the memory
        Ok(Output {
            waker: Waker::new(&audience, &board)?,
            pool: Pool::new(geometry.bodies, geometry.entries),
            next: 1,
            index: geometry.entry_of(1),
            laggards: patience.map(|patience| Laggards::new(patience, geometry.entries)),
            releases: retained.map(|retained| Releases::new(retained, geometry.body_stride)),
            board,
            hints,
            audience,
            listeners: Listeners::new(),
            record: Arc::clone(&shared.mailboxes()[0]),
            shared,
            fork: ForkGuard::new(),
            others_version: 0,
            tried_at: i64::MIN,
            swept: clock::tick(),
            counts: Tally::default(),
        })
    }

    /// The memory.
    #[inline(always)]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The memory, for a draft that may outlive this.
    pub fn shared_board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// The number of the next message.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Who listens.
    pub fn audience(&self) -> &Arc<Audience> {
        &self.audience
    }

    /// What was counted.
    pub fn counts(&self) -> Tally {
        self.counts
    }

    /// Errors if nothing can be published here: a message that is too long, a forked child, a publisher that is over.
    #[inline(always)]
    pub fn check(&self, len: usize) -> Result<()> {
        if self.fork.is_forked() {
            return Err(Error::forked());
        }
        if len > self.board.geometry().capacity {
            return Err(self.too_long(len));
        }
        if self.shared.is_shutting_down() {
            return Err(over());
        }
        Ok(())
    }

    #[cold]
    fn too_long(&self, len: usize) -> Error {
        let capacity = self.board.geometry().capacity;
        Error::new(
            ErrorKind::CapacityExceeded { len, capacity },
            format!(
                "a message of {len} bytes does not fit: the publisher's capacity is {capacity} bytes \
                 (PublisherBuilder::capacity)"
            ),
        )
    }

    /// Whether the next message has room: always, but for a lossless publisher.
    #[inline(always)]
    pub fn has_room(&mut self) -> bool {
        self.notice();
        match &mut self.laggards {
            None => true,
            Some(laggards) => laggards.has_room(self.listeners.own(), self.next),
        }
    }

    /// Says who keeps the next message waiting. `false`: nobody any more.
    pub fn announce(&mut self) -> bool {
        self.notice();
        match &mut self.laggards {
            None => false,
            Some(laggards) => laggards.announce(self.listeners.own(), self.next),
        }
    }

    /// Whether a lossless publisher never waits.
    pub fn has_no_patience(&self) -> bool {
        self.laggards.as_ref().is_some_and(|laggards| laggards.patience().is_zero())
    }

    /// How long may be waited before the first subscriber is cut off.
    pub fn patience_left(&self) -> Duration {
        let left = |laggards: &Laggards| laggards.left(self.listeners.own(), self.next);
        self.laggards.as_ref().map_or(Duration::MAX, left)
    }

    /// The publisher has waited.
    pub fn charge(&mut self, waited: Duration) {
        if let Some(laggards) = &mut self.laggards {
            self.counts.cut_off += laggards.charge(self.listeners.own(), self.next, waited);
            self.record.record.cut_off.set(self.counts.cut_off);
        }
    }

    /// A body for a loan.
    #[inline(always)]
    pub fn take_body(&mut self) -> Result<u32> {
        if self.releases.as_ref().is_some_and(|releases| self.next >= releases.next_look) {
            self.release_taken();
        }
        let stride = self.board.geometry().body_stride;
        if self.pool.wants_scan(pool::rest(stride, self.listeners.holders(), self.listeners.may_hold())) {
            self.scan();
        }
        self.pool.take().ok_or_else(no_body)
    }

    /// Lets go of the messages with bodies that everybody here has taken, but for the newest ones that are retained.
    fn release_taken(&mut self) {
        // In this order: who is no more about to join is in the list.
        let is_awaiting = self.audience.is_awaiting();
        self.notice();
        let (Some(laggards), Some(releases)) = (&self.laggards, &mut self.releases) else { return };
        if is_awaiting || self.audience.has_others() {
            return; // they do not say where they read, or not yet
        }
        releases.next_look = self.next + releases.batch;
        let taken = match faults::is(Fault::ReleasedUnread) {
            true => self.next,
            false => laggards.taken(self.listeners.own(), self.next),
        };
        let geometry = self.board.geometry();
        let oldest = self.next.saturating_sub(geometry.entries as u64);
        for sequence in releases.done.max(oldest)..taken.min(self.next.saturating_sub(releases.retained)) {
            let index = geometry.entry_of(sequence);
            if self.pool.release(index) {
                entry::release(self.board.entry(index));
            }
            releases.done = sequence + 1;
        }
    }

    /// Looks which retired bodies nobody holds.
    #[cold]
    fn scan(&mut self) {
        self.counts.scans += 1;
        self.notice();
        hold::begin_scan(); // the entries let go of them before this, each by its exchange
        self.pool.reclaim(self.listeners.held());
    }

    /// A loan was dropped.
    pub fn give_back(&mut self, body: u32) {
        self.pool.give_back(body);
    }

    /// Publishes a message that lies in a body.
    #[inline(always)]
    pub fn publish_body(&mut self, body: u32, len: usize) -> u64 {
        self.publish(Place { len: len as u32, body: body + 1 }, &[])
    }

    /// Publishes a message that is short enough to lie in its entry.
    #[inline(always)]
    pub fn publish_inline(&mut self, words: &[u64; INLINE_WORDS], len: usize) -> u64 {
        debug_assert!(len <= size_of_val(words));
        self.publish(Place { len: len as u32, body: 0 }, &words[..len.div_ceil(8)])
    }

    /// Publishes these bytes, which are few enough to lie in an entry.
    #[inline(always)]
    pub fn publish_short(&mut self, message: &[u8]) -> u64 {
        let (whole, rest) = message.as_chunks::<8>();
        let mut words = [0; INLINE_WORDS];
        for (word, bytes) in words.iter_mut().zip(whole) {
            *word = u64::from_ne_bytes(*bytes);
        }
        if !rest.is_empty() {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            words[whole.len()] = u64::from_ne_bytes(bytes);
        }
        self.publish_inline(&words, message.len())
    }

    /// Publishes so many numbers as lost. Of those that would be replaced again at once nothing is written.
    #[cold]
    pub fn skip(&mut self, count: u64) {
        let written = count.min(self.board.geometry().entries as u64);
        self.next += count - written;
        self.index = self.board.geometry().entry_of(self.next);
        for _ in 0..written {
            self.publish(Place::VOID, &[]);
        }
    }

    /// Whether the publisher waits for its subscribers.
    pub fn is_lossless(&self) -> bool {
        self.laggards.is_some()
    }

    #[inline(always)]
    fn publish(&mut self, place: Place, inline: &[u64]) -> u64 {
        let sequence = self.next;
        if faults::is(Fault::EarlySequence) {
            entry::publish(self.board.entry(self.index), sequence, place.pack(), &[]);
            faults::widen_window();
        }
        entry::publish(self.board.entry(self.index), sequence, place.pack(), inline);
        self.board.publisher_line().set_published(sequence);
        self.record.record.published.set(sequence);
        self.pool.place(self.index, if place == Place::VOID { 0 } else { place.body });
        self.next += 1;
        self.index = if self.index + 1 == self.board.geometry().entries { 0 } else { self.index + 1 };
        // Whoever came before the exchange and is not in the list was not rung for by the control thread either.
        fence_after_swap(); // partner: the fence in `Audience::join`
        self.notice();
        if !self.listeners.own().is_empty() {
            self.wake_own();
        }
        if self.audience.has_others() {
            self.wake_others();
        }
        sequence
    }

    #[inline(always)]
    fn wake_own(&mut self) {
        if hint::is_raised(self.hints.line()) {
            self.wake_groups();
        }
        let tick = clock::tick();
        if tick != self.swept {
            self.swept = tick;
            self.counts.rung += self.listeners.sweep();
        }
    }

    /// Some are of other users: the thread that wakes them is started when somebody has come since the last attempt.
    fn wake_others(&mut self) {
        let version = self.audience.others_version();
        if version != self.others_version {
            self.start_waker(version);
        }
        self.waker.published();
    }

    /// Where no thread is to be had, it is tried again with a message after the next tick of the kernel's clock.
    #[cold]
    fn start_waker(&mut self, version: u64) {
        let tick = clock::tick();
        if tick == self.tried_at {
            return;
        }
        match self.waker.start() {
            Ok(()) => self.others_version = version, // it looks at them when it begins
            Err(_) => self.tried_at = tick,
        }
    }

    #[cold]
    fn wake_groups(&mut self) {
        let groups = hint::take(self.hints.line());
        self.notice(); // after that: somebody may have come and gone to sleep since the last look at the list
        if groups.count() > RUNG_HERE && self.waker.start().is_ok() {
            self.counts.handed_over += 1;
            self.waker.hand_over(&groups);
        } else {
            self.counts.rung += self.listeners.ring(&groups);
        }
    }

    /// Takes in who came or went.
    #[inline(always)]
    pub fn notice(&mut self) {
        if self.audience.version() != self.listeners.version() {
            self.follow();
        }
    }

    #[cold]
    fn follow(&mut self) {
        self.listeners.follow(&self.audience);
        self.board.publisher_line().only_processor.store(cpu::only_processor(), Ordering::Relaxed); // a hint
        if let Some(laggards) = &mut self.laggards {
            laggards.follow(self.listeners.own());
        }
    }

    /// Whether this is a child that inherited the publisher.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.fork.is_forked() {
            self.waker.forget_thread();
        }
    }
}

#[cold]
fn over() -> Error {
    Error::new(
        ErrorKind::ServerClosed { maybe_executed: false },
        "the publisher is over: it was closed, or another one has taken its name",
    )
}

#[cold]
fn no_body() -> Error {
    Error::new(ErrorKind::Full, "all bodies of the publisher's pool are in use, which its size should rule out")
}
