//! The subscriber's core, which never waits: where it reads, what it finds there, and what it has lost.
//!
//! Every word of the board may be a lie at a publisher of another user: each is read once, checked, and what is read is
//! bounded. At one of the same user it is what [`crate::memory::entry`] says.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::broadcast::message::{Bytes, EntryWords, Message};
use crate::broadcast::reception::{Hold, Reception, violation};
use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::memory::board::SEQUENCE_MAX;
use crate::memory::bounce_buffer::BounceBuffer;
use crate::memory::doorbell::Waiting;
use crate::memory::entry::{self, Entry, Place};
use crate::memory::hint;
use crate::memory::layout::INLINE_CAPACITY;
use crate::session::close_reason::{CloseReason, KEY_SOCKET, Sender, SocketEvents};
use crate::session::connect::KEY_BELL;
use crate::session::protocol::Reason;
use crate::sync::Ordering;
use crate::sys::cpu;
use crate::sys::epoll::Events;
use crate::sys::memory;

/// Which message a subscriber begins with.
///
/// ```
/// let builder = wigwag::Subscriber::builder().start(wigwag::Start::Last);
/// assert_eq!(wigwag::Start::default(), wigwag::Start::Next);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first one that is published from now on.
    #[default]
    Next,
    /// The oldest one that is kept.
    Oldest,
    /// The newest one that is there, and what is published from now on.
    Last,
}

/// How often one call begins anew because it was lapped.
const TRIES: usize = 64;
/// Laps in a row after which it goes on with the newest message, and not with the oldest that is kept.
const LAPS_TO_SKIP: u32 = 2;

/// The core.
pub struct Input {
    reception: Arc<Reception>,
    /// The message that is taken next, and its entry.
    next: u64,
    index: usize,
    /// How many were lost since the last one that was taken.
    lost: u64,
    received: u64,
    lost_in_all: u64,
    laps: u32,
    is_lossless: bool,
    /// Where a lossless publisher was told last that this subscriber reads.
    told: u64,
    /// Whether the next message is the first one of another publisher than before.
    is_new_publisher: bool,
    /// Why the session is over, and the last message that belongs to it.
    ended: Option<(CloseReason, u64)>,
}

/// What is to become of a message's bytes.
pub enum Wants<'b> {
    /// Held where they are, if they can be.
    InPlace,
    /// Copied there.
    Copy(&'b mut Vec<u8>),
}

impl Input {
    /// Begins to read.
    pub fn new(reception: Reception, start: Start, is_new_publisher: bool) -> Input {
        let history = reception.geometry().entries as u64 - 1;
        let newest = reception.newest();
        let next = match start {
            Start::Next => reception.newest_at_first + 1,
            Start::Last => newest.max(1),
            Start::Oldest => newest.saturating_sub(history) + 1,
        };
        // Those that a new publisher let go of before are told; to begin late is no loss.
        let lost = if is_new_publisher { next - 1 } else { 0 };
        let mut input = Input::at(reception, next, lost, is_new_publisher);
        if !is_new_publisher && start != Start::Next {
            input.pass_absent();
            input.tell_cursor();
        }
        input
    }

    /// The same publisher by another session: it goes on where the former one was.
    pub fn resumed(reception: Reception, before: &Input) -> Input {
        Input::at(reception, before.next, before.lost, before.is_new_publisher)
    }

    fn at(reception: Reception, next: u64, lost: u64, is_new_publisher: bool) -> Input {
        let index = reception.geometry().entry_of(next);
        let input = Input {
            next,
            index,
            lost,
            received: 0,
            lost_in_all: lost,
            laps: 0,
            is_lossless: reception.is_lossless(),
            told: next,
            is_new_publisher,
            ended: None,
            reception: Arc::new(reception),
        };
        let line = input.reception.segment.subscriber_line();
        line.lost.store(lost, Ordering::Relaxed); // for people
        line.cursor.store(next, Ordering::Release); // partner: `Laggards::cursor`
        input
    }

    /// What the messages keep.
    #[inline(always)]
    pub fn reception(&self) -> &Arc<Reception> {
        &self.reception
    }

    /// The number of the message that is taken next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many were taken, and how many lost, of this publisher.
    pub fn counts(&self) -> (u64, u64) {
        (self.received, self.lost_in_all)
    }

    /// Whether the session is over, and nothing is left to be read.
    #[inline(always)]
    pub fn is_drained(&self) -> bool {
        self.ended.as_ref().is_some_and(|(_, last)| self.next > *last)
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<&CloseReason> {
        self.ended.as_ref().map(|(reason, _)| reason)
    }

    /// Whether there is something to be taken, lost messages included.
    #[inline(always)]
    pub fn is_there(&self) -> bool {
        let sequence = entry::look(self.reception.board.entry(self.index));
        sequence >= self.next || sequence == 0 && (self.look_behind() > self.next || self.was_published())
    }

    /// Whether the next message is there and so many behind it, or about.
    pub fn are_there(&self, count: u64) -> bool {
        let board = &self.reception.board;
        let last = self.next + count - 1;
        entry::look(board.entry(board.geometry().entry_of(last))) >= last
    }

    /// What lies in the entry behind that of the next message. While the publisher replaces an entry, only that one
    /// tells whether it has come round.
    #[cold]
    fn look_behind(&self) -> u64 {
        let behind = if self.index + 1 == self.reception.geometry().entries { 0 } else { self.index + 1 };
        entry::look(self.reception.board.entry(behind))
    }

    /// Whether the next message is there, or has been: an entry with the sequence 0 has none any more then.
    #[cold]
    fn was_published(&self) -> bool {
        (self.next..=SEQUENCE_MAX).contains(&self.reception.board.publisher_line().published())
    }

    /// Takes the next message, if it is there.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked); [`Full`](ErrorKind::Full), and the message stays; what a publisher of another
    /// user does wrong.
    #[inline]
    pub fn take(&mut self, wants: &mut Wants<'_>) -> Result<Option<Message>> {
        if self.reception.is_forked() {
            return Err(Error::forked());
        }
        for _ in 0..TRIES {
            if self.is_drained() {
                return Ok(None);
            }
            let entry = self.reception.board.entry(self.index);
            let sequence = entry::look(entry);
            if sequence != self.next {
                if self.pass_over(sequence)? {
                    continue;
                }
                self.tell_rest();
                return Ok(None);
            }
            let is_checked = !faults::is(Fault::UncheckedEntry);
            if !is_checked {
                faults::widen_window();
            }
            let place = Place::unpack(entry::head(entry));
            let mut words = EntryWords::default();
            if place.body == 0 {
                entry::inline(entry, (place.len as usize).div_ceil(8), &mut words.0);
            }
            if is_checked && !entry::is_still(entry, self.next) {
                self.lapped(0);
                continue;
            }
            if place == Place::VOID {
                self.lose_absent();
                continue;
            }
            self.check(place)?;
            let bytes = match (place.body, &mut *wants) {
                (0, Wants::InPlace) => Some(Bytes::Inline { words, len: place.len as usize }),
                (0, Wants::Copy(into)) => {
                    into.clear();
                    into.extend_from_slice(&words.as_bytes()[..place.len as usize]);
                    Some(Bytes::Inline { words: EntryWords::default(), len: 0 })
                }
                (_, Wants::InPlace) => self.hold_or_copy(entry, place)?,
                (_, Wants::Copy(into)) => {
                    let is_whole = self.copy(entry, place, into)?;
                    is_whole.then(|| Bytes::Inline { words: EntryWords::default(), len: 0 })
                }
            };
            match bytes {
                Some(bytes) => return Ok(Some(self.taken(bytes))),
                None => self.lapped(0),
            }
        }
        Ok(None)
    }

    /// The publisher never had some messages, or has let go of them: they count as lost.
    #[cold]
    fn lose_absent(&mut self) {
        let passed = self.pass_absent();
        self.lost += passed;
        self.lost_in_all += passed;
        self.reception.segment.subscriber_line().lost.store(self.lost_in_all, Ordering::Relaxed); // for people
        if !self.is_lossless {
            self.tell_cursor();
        }
    }

    /// Passes over numbers that are no messages, and over messages that were released: no more than a ring has. How
    /// many.
    #[cold]
    fn pass_absent(&mut self) -> u64 {
        let (board, entries) = (&self.reception.board, self.reception.geometry().entries);
        let first = self.next;
        for _ in 0..entries {
            let entry = board.entry(self.index);
            let sequence = entry::look(entry);
            let is_void = sequence == self.next && Place::unpack(entry::head(entry)) == Place::VOID;
            let is_absent = match sequence {
                // Looked at once more: it was perhaps not published yet at the first look.
                0 => self.was_published() && entry::look(entry) == 0,
                _ => is_void && entry::is_still(entry, self.next),
            };
            if !is_absent || self.is_drained() {
                break;
            }
            self.next += 1;
            self.index = if self.index + 1 == entries { 0 } else { self.index + 1 };
        }
        self.next - first
    }

    /// Whether a message can lie so.
    #[inline(always)]
    fn check(&self, place: Place) -> Result<()> {
        let geometry = self.reception.geometry();
        let is_possible = match place.body {
            0 => place.len as usize <= INLINE_CAPACITY.min(geometry.capacity),
            body => body as usize <= geometry.bodies && place.len as usize <= geometry.capacity,
        };
        if is_possible { Ok(()) } else { Err(self.impossible(&format!("message {} lies at {place:?}", self.next))) }
    }

    #[cold]
    fn impossible(&self, what: &str) -> Error {
        violation(&format!("{what}, of {:?}", self.reception.geometry()))
    }

    /// The entry has another message. Whether it is worth to look again: the next one was lost, or is there after all.
    #[cold]
    fn pass_over(&mut self, sequence: u64) -> Result<bool> {
        if sequence == 0 {
            // It is being written: for the first time, or in the place of the next one.
            let behind = self.look_behind();
            if behind <= self.next {
                if !self.was_published() {
                    return Ok(false);
                }
                let history = self.reception.geometry().entries as u64 - 1;
                // The ring has one message more than the history: the one that the next would replace.
                match self.reception.newest().saturating_sub(history) > self.next {
                    true => self.lapped(0),
                    false => self.lose_absent(), // or it is there after all
                }
                return Ok(true);
            }
            self.check_number(behind, self.next + 1)?;
            let again = entry::look(self.reception.board.entry(self.index));
            if again != self.next {
                self.lapped(behind);
            }
            return Ok(true);
        }
        if sequence < self.next {
            return Ok(false);
        }
        self.check_number(sequence, self.next)?;
        self.lapped(sequence);
        Ok(true)
    }

    /// Whether a message can lie in the entry of an earlier one.
    fn check_number(&self, sequence: u64, earlier: u64) -> Result<()> {
        let entries = self.reception.geometry().entries as u64;
        if sequence > SEQUENCE_MAX || !(sequence - earlier).is_multiple_of(entries) {
            return Err(self.impossible(&format!("message {sequence} lies in the entry of {earlier}")));
        }
        Ok(())
    }

    /// The next message was replaced: goes on with the oldest that is kept, or with the newest if that happens again
    /// and again. `seen`: a later message that was seen in the ring, or 0. Whatever a liar says of its newest one, the
    /// reader goes on behind that, so that a ring which stays as it is leads on as often as it has entries, no more.
    #[cold]
    fn lapped(&mut self, seen: u64) {
        let history = self.reception.geometry().entries as u64 - 1;
        let newest = self.reception.newest().max(seen);
        self.laps += 1;
        let resume = if self.laps > LAPS_TO_SKIP { newest } else { newest.saturating_sub(history) + 1 };
        let resume = resume.max(self.next + 1); // a liar's words lead nowhere else
        // What was published after the session's end belongs to nobody here.
        let resume = self.ended.as_ref().map_or(resume, |(_, last)| resume.min(last + 1));
        self.lost += resume - self.next - u64::from(faults::is(Fault::ShortLoss));
        self.lost_in_all += resume - self.next;
        self.next = resume;
        self.index = self.reception.geometry().entry_of(resume);
        self.reception.segment.subscriber_line().lost.store(self.lost_in_all, Ordering::Relaxed); // for people
        self.tell_cursor();
    }

    /// Holds a message's body, or copies it. `None`: lapped.
    fn hold_or_copy(&self, entry: &Entry, place: Place) -> Result<Option<Bytes>> {
        let (body, len) = (place.body - 1, place.len as usize);
        match self.reception.hold(entry, self.next, place.body)? {
            Hold::Taken(hold) => Ok(Some(Bytes::Held { reception: Arc::clone(&self.reception), hold, body, len })),
            Hold::Lapped => Ok(None),
            Hold::NotListed => {
                let mut copy = BounceBuffer::new();
                if !copy.resize(len) {
                    return Err(no_memory(len));
                }
                self.read(body, copy.bytes_mut())?;
                Ok(entry::is_still(entry, self.next).then_some(Bytes::Copied(copy)))
            }
        }
    }

    /// Copies a message's body. `false`: lapped.
    fn copy(&self, entry: &Entry, place: Place, into: &mut Vec<u8>) -> Result<bool> {
        let len = place.len as usize;
        into.clear();
        into.try_reserve(len).map_err(|_| no_memory(len))?;
        into.resize(len, 0);
        self.read(place.body - 1, into)?;
        Ok(entry::is_still(entry, self.next))
    }

    /// Reads a body that may be written to meanwhile: of another user's publisher by a system call, which makes no page
    /// of the pool real.
    fn read(&self, body: u32, into: &mut [u8]) -> Result<()> {
        if self.reception.board.has_bodies() {
            self.reception.board.copy_out(body as usize, into);
            return Ok(());
        }
        let (offset, memory): (usize, &OwnedFd) =
            (self.reception.geometry().body_offset(body as usize), &self.reception.memory);
        match memory::read_exact(memory, offset as u64, into) {
            true => Ok(()),
            false => Err(self.impossible("its memory cannot be read")),
        }
    }

    #[inline(always)]
    fn taken(&mut self, bytes: Bytes) -> Message {
        let (lost, is_new) = (std::mem::take(&mut self.lost), std::mem::take(&mut self.is_new_publisher));
        let message = Message::new(self.next, lost, is_new, bytes);
        self.laps = 0;
        self.received += 1;
        self.next += 1;
        self.index = if self.index + 1 == self.reception.geometry().entries { 0 } else { self.index + 1 };
        self.reception.segment.subscriber_line().received.store(self.received, Ordering::Relaxed); // for people
        if !self.is_lossless || self.next - self.told >= self.batch() {
            self.tell_cursor();
        }
        message
    }

    /// How many messages a lossless publisher is told of at a time: an eighth of what it keeps. To tell is an exchange
    /// on a line that the publisher reads, which costs nothing beside a large message: each of those is told of, so
    /// that its memory can be used again while it is in the cache.
    #[inline(always)]
    fn batch(&self) -> u64 {
        const LARGE: usize = 64 << 10;
        let geometry = self.reception.geometry();
        if geometry.body_stride >= LARGE { 1 } else { (geometry.entries as u64 / 8).max(1) }
    }

    /// Nothing is to be read: a lossless publisher is told of everything that was, in case it waits.
    #[inline(always)]
    fn tell_rest(&mut self) {
        if self.is_lossless && self.told != self.next {
            self.tell_cursor();
        }
    }

    /// Says where this subscriber reads: a lossless publisher may wait for that.
    #[inline(always)]
    fn tell_cursor(&mut self) {
        let line = self.reception.segment.subscriber_line();
        if !self.is_lossless {
            line.cursor.store(self.next, Ordering::Relaxed); // for people
            return;
        }
        self.told = self.next;
        // Releases what was read; first half of Dekker's pattern with `Laggards::announce`.
        line.cursor.swap(self.next, Ordering::SeqCst);
        if Waiting(&self.reception.segment.server_line().waiting).claim() {
            self.reception.server_bell.ring();
        }
    }

    /// Says that it is about to sleep. `false`: something came meanwhile.
    pub fn announce(&self) -> bool {
        let line = self.reception.segment.subscriber_line();
        line.processor.store(cpu::current(), Ordering::Relaxed); // a hint
        Waiting(&line.waiting).announce();
        if let Some(hints) = &self.reception.hints {
            hint::raise(hints.line(), self.reception.group);
        }
        if self.is_there() || self.ended.is_some() {
            self.withdraw();
            return false;
        }
        if self.reception.hints.is_none() {
            self.reception.server_bell.ring(); // the publisher's waker thread looks once more
        }
        true
    }

    /// It does not sleep any more.
    pub fn withdraw(&self) {
        Waiting(&self.reception.segment.subscriber_line().waiting).withdraw();
    }

    /// Looks what has come: a ring, or the end.
    pub fn look(&mut self, events: &mut Events) -> Result<()> {
        self.reception.poller.poll(events)?;
        self.take_in(events);
        Ok(())
    }

    /// Takes in what woke it.
    pub fn take_in(&mut self, events: &Events) {
        for ready in events.iter() {
            match ready.key {
                KEY_BELL => {}
                KEY_SOCKET => {
                    let publisher = Sender { protocol: self.reception.agreement.protocol, is_server: true };
                    let (socket, poller) = (&self.reception.socket, &self.reception.poller);
                    if let Some(how) = SocketEvents::read(socket, poller, publisher, None).ended {
                        self.end(how);
                    }
                }
                _ => self.end(CloseReason::Died),
            }
        }
    }

    /// It is over: what is there now can still be read.
    fn end(&mut self, how: CloseReason) {
        if how.tops(self.ended()) {
            let last = self.ended.take().map_or_else(|| self.reception.newest(), |(_, last)| last);
            self.ended = Some((how, last));
        }
    }

    /// The error of a session that is over.
    #[cold]
    pub fn fate(&self) -> Error {
        let pid = self.reception.peer.pid;
        match self.ended() {
            Some(CloseReason::Farewell(Reason::Shutdown | Reason::Moved, _)) => Error::new(
                ErrorKind::Ended,
                format!("the publisher, process {pid}, has ended the broadcast; everything up to it was read"),
            ),
            Some(CloseReason::Farewell(Reason::Violation, why)) => {
                Error::new(ErrorKind::Violation, format!("the session ended for a breach of the protocol: {why}"))
            }
            Some(CloseReason::Farewell(_, why)) => Error::new(ErrorKind::Refused, why.clone()),
            Some(CloseReason::Died) | None => Error::new(
                ErrorKind::PeerDied { maybe_executed: false },
                format!(
                    "the publisher's process {pid} is gone without a farewell; everything that it had published up to \
                     message {} was read, or told as lost",
                    self.next - 1
                ),
            ),
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if !self.reception.is_forked() {
            // Messages may keep the session; nobody waits for it any more.
            self.next = 0;
            self.tell_cursor();
        }
    }
}

#[cold]
fn no_memory(len: usize) -> Error {
    Error::new(ErrorKind::Io, format!("there is no memory for a copy of a message of {len} bytes"))
}
