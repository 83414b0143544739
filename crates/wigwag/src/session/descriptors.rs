//! File descriptors that travel with requests and replies, and with messages, which are requests of another form.
//!
//! The memory of a session can hold none, so they come over its socket: one message names slot and sequence, and the
//! kernel hands the descriptors over with it (SCM_RIGHTS, unix(7)). It is sent before the turn is passed, so whoever
//! sees the turn, and in the head how many travel, finds the message in the socket or in the [`Inbox`], where another
//! thread has put it meanwhile.
//!
//! ```text
//! sends                                            receives
//! UnderWay::reserve, for each                      sees the number in the head
//! UnderWay::send: the message            ---->     Inbox: drained, and taken out of
//! passes the turn
//! ```
//!
//! What is under way counts against all processes of the sender's user, and nobody can call it back: [`UnderWay`]
//! bounds it. What has come takes room in this process until it is taken or closed, and may take as long to close as
//! the peer chose: [`Arrivals`] bounds both, and has a background job close what nobody takes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::session::arrivals::{Arrivals, Loss, PeerDescriptors};
use crate::session::background::{Background, PeerSocket};
use crate::session::process_count::{ProcessCount, share_of_process};
use crate::session::protocol::DescriptorMessage;
use crate::sync;
use crate::sys::fork::ForkGuard;
use crate::sys::per_process::PerProcess;
use crate::sys::socket::{self, DESCRIPTORS_MAX, MESSAGE_MAX, Received};

/// Most descriptors that one session has under way, in one direction.
pub const PER_SESSION: usize = 64;

/// What came with one message, to be taken by whoever sees the turn.
#[derive(Debug)]
pub struct Parcel {
    slot: usize,
    sequence: u64,
    /// How many were sent.
    count: usize,
    loss: Option<Loss>,
    /// Those that came and were kept.
    descriptors: PeerDescriptors,
}

/// What was found for a turn that names a number of descriptors.
#[derive(Debug)]
pub enum Found {
    /// All of them.
    Whole(PeerDescriptors),
    /// Some were lost.
    Lost(Loss),
    /// Another number than the head says.
    Miscounted(usize),
    /// No message came with them.
    Nothing,
}

/// What a look at a socket came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Nothing more is there now.
    Open,
    /// The peer is gone.
    Gone,
    /// It sent what no session allows.
    Refused(String),
    /// The kernel cannot say what is there.
    Failed(String),
}

impl Drained {
    /// The kernel has nothing to give. Only [an end](socket::is_end) is one: else the peer lives, and is told.
    fn without_message(error: Errno) -> Drained {
        match error {
            Errno::AGAIN => Drained::Open,
            error if socket::is_end(error) => Drained::Gone,
            error => Drained::Failed(format!("cannot read what was sent to it: {error}")),
        }
    }
}

/// What has come over one session's socket and belongs to turns that nobody has looked at yet. The lock is held for no
/// close and no wait.
#[derive(Debug)]
pub struct Inbox {
    parcels: Mutex<Vec<Parcel>>,
    slots: usize,
    /// So many descriptors may lie here.
    most: usize,
    arrivals: Arc<Arrivals>,
}

impl Inbox {
    /// Of a session with so many slots; at most `most` descriptors lie here.
    pub fn new(slots: usize, most: usize, arrivals: Arc<Arrivals>) -> Inbox {
        Inbox { parcels: Mutex::default(), slots, most, arrivals }
    }

    /// For what is made by others and closed as all here.
    pub fn arrivals(&self) -> &Arc<Arrivals> {
        &self.arrivals
    }

    /// Takes in what the socket has, without waiting. `due`: as for [`fault`](Inbox::fault).
    pub fn drain(&self, socket: &PeerSocket, due: impl Fn(usize) -> Option<u64>) -> Drained {
        let mut refused = Vec::new(); // is closed after the lock
        let mut parcels = sync::lock(&self.parcels);
        let outcome = loop {
            let mut buffer = [0u8; MESSAGE_MAX];
            let received = match socket.receive_with_descriptors(&mut buffer) {
                Ok(received) if received.len == 0 && received.fds.is_empty() => break Drained::Gone,
                Ok(received) => received,
                Err(error) => break Drained::without_message(error),
            };
            let bytes = &buffer[..received.len];
            let outcome = self.deliver_into(&mut parcels, bytes, received, &mut refused);
            if let Err(why) = outcome {
                break Drained::Refused(why);
            }
        };
        let fault = self.fault_among(&parcels, due);
        drop(parcels);
        self.arrivals.close(refused, 0);
        match fault.or_else(|| self.arrivals.fault()) {
            Some(fault) if outcome == Drained::Open => Drained::Refused(fault),
            _ => outcome,
        }
    }

    /// How the peer has broken the protocol by what lies here, or what it sent before. `due`: the sequence of the
    /// slot's request that descriptors may belong to. What belongs to no such request will never be asked for.
    pub fn fault(&self, due: impl Fn(usize) -> Option<u64>) -> Option<String> {
        self.fault_among(&sync::lock(&self.parcels), due).or_else(|| self.arrivals.fault())
    }

    fn fault_among(&self, parcels: &[Parcel], due: impl Fn(usize) -> Option<u64>) -> Option<String> {
        let stray = parcels.iter().find(|parcel| due(parcel.slot) != Some(parcel.sequence))?;
        let sent = format!("it sent descriptors for request {} of slot {}", stray.sequence, stray.slot);
        Some(match due(stray.slot) {
            Some(due) => format!("{sent}, where request {due} is due"),
            None => format!("{sent}, where none is due"),
        })
    }

    /// Takes in one message that was read with all that came with it.
    pub fn deliver(&self, bytes: &[u8], received: Received) -> std::result::Result<(), String> {
        let mut refused = Vec::new();
        let outcome = self.deliver_into(&mut sync::lock(&self.parcels), bytes, received, &mut refused);
        self.arrivals.close(refused, 0);
        outcome
    }

    fn deliver_into(
        &self,
        parcels: &mut Vec<Parcel>,
        bytes: &[u8],
        received: Received,
        refused: &mut Vec<OwnedFd>,
    ) -> std::result::Result<(), String> {
        let Received { fds, truncated, .. } = received;
        match self.check(parcels, bytes, fds.len(), truncated) {
            Ok(message) => {
                let (descriptors, loss) = match self.arrivals.admit(fds.len()) {
                    Ok(()) => (PeerDescriptors::admitted(fds, &self.arrivals), truncated.then_some(Loss::Cut)),
                    Err(loss) => {
                        refused.extend(fds);
                        (PeerDescriptors::none(&self.arrivals), Some(loss))
                    }
                };
                let (slot, count) = (message.slot.into(), message.count.into());
                parcels.push(Parcel { slot, sequence: message.sequence, count, loss, descriptors });
                Ok(())
            }
            Err(why) => {
                refused.extend(fds);
                Err(why)
            }
        }
    }

    /// Whether a message with so many descriptors may lie beside those that do.
    fn check(
        &self,
        parcels: &[Parcel],
        bytes: &[u8],
        came: usize,
        is_cut: bool,
    ) -> std::result::Result<DescriptorMessage, String> {
        if !DescriptorMessage::is_meant(bytes) {
            return Err(match came {
                0 => "it sent a message after the handshake".into(),
                _ => "it sent descriptors with a message that takes none".into(),
            });
        }
        let message = DescriptorMessage::decode(bytes).ok_or("a message with descriptors has not its 12 bytes")?;
        let (count, slot) = (usize::from(message.count), usize::from(message.slot));
        // Of those that were cut off nobody knows how many they were.
        let is_as_said = came == count || is_cut && came < count;
        if !(1..=DESCRIPTORS_MAX).contains(&count) || !is_as_said {
            return Err(format!(
                "it sent {came} descriptors and said {count}, where 1 to {DESCRIPTORS_MAX} travel with a call"
            ));
        }
        if slot >= self.slots {
            return Err(format!("it sent descriptors for slot {slot} of {}", self.slots));
        }
        if parcels.iter().any(|parcel| parcel.slot == slot) {
            return Err(format!("it sent descriptors for slot {slot} while others for it lie unread"));
        }
        let unread: usize = parcels.iter().map(|parcel| parcel.count).sum();
        if unread + count > self.most {
            return Err(format!("it sent {count} descriptors beside {unread}, where {} may be under way", self.most));
        }
        Ok(message)
    }

    /// Takes out what came for a request or a reply whose head says `count`.
    pub fn take(&self, slot: usize, sequence: u64, count: usize) -> Found {
        let parcel = {
            let mut parcels = sync::lock(&self.parcels);
            let is_swapped = |parcel: &Parcel| faults::is(Fault::SwappedDescriptors) && parcel.count == count;
            let is_it = |parcel: &Parcel| (parcel.slot == slot && parcel.sequence == sequence) || is_swapped(parcel);
            parcels.iter().position(is_it).map(|index| parcels.swap_remove(index))
        };
        match parcel {
            None => Found::Nothing,
            Some(parcel) if parcel.count != count => Found::Miscounted(parcel.count),
            Some(Parcel { loss: Some(loss), .. }) => Found::Lost(loss),
            Some(parcel) => Found::Whole(parcel.descriptors),
        }
    }

    /// Whether nothing lies here.
    pub fn is_empty(&self) -> bool {
        sync::lock(&self.parcels).is_empty()
    }

    /// Closes all that lies here: nobody will ask for it.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *sync::lock(&self.parcels));
        drop(all); // after the lock
    }
}

/// The descriptors of a caller, by the slots that they travel with.
#[derive(Debug)]
pub struct CallerDescriptors {
    pub inbox: Inbox,
    under_way: Arc<UnderWay>,
    attached: RefCell<Vec<Attached>>,
    /// Those of replies that have been accepted and not been let go of.
    arrived: RefCell<Vec<(usize, PeerDescriptors)>>,
    /// Whether the caller's own duplicates are closed by background job, too: tasks wait for each other.
    is_shared: Cell<bool>,
}

/// What a caller has attached to a slot.
#[derive(Debug)]
struct Attached {
    slot: usize,
    /// The caller's own duplicates, kept until the reply: so the server's are not the last ones, and closing these
    /// there costs little. And they are there for a receiver's successor.
    descriptors: Vec<OwnedFd>,
    /// How many were sent, and count until the slot is back.
    sent: usize,
    /// The request or the message that they go with, once it is passed.
    sequence: Option<u64>,
}

impl Attached {
    fn is_of(&self, slot: usize, sequence: u64) -> bool {
        self.slot == slot && self.sequence == Some(sequence)
    }
}

impl CallerDescriptors {
    /// Of a session with so many slots.
    pub fn new(socket: &Arc<PeerSocket>, slots: usize, server: u32, background: &Arc<Background>) -> CallerDescriptors {
        // A server may answer all calls at once, and their callers look at one after the other.
        let arrivals = Arrivals::new(server, slots * DESCRIPTORS_MAX, background);
        CallerDescriptors {
            inbox: Inbox::new(slots, slots * DESCRIPTORS_MAX, arrivals),
            under_way: UnderWay::new(socket, CountsUntil::Answered),
            attached: RefCell::default(),
            arrived: RefCell::default(),
            is_shared: Cell::new(false),
        }
    }

    /// From now on tasks have it.
    pub fn be_shared(&self) {
        self.is_shared.set(true);
    }

    /// Closes the caller's own duplicates.
    fn close(&self, duplicates: Vec<OwnedFd>) {
        if self.is_shared.get() {
            self.inbox.arrivals.close(duplicates, 0);
        }
    }

    /// Attaches a duplicate to what will be sent in a slot.
    pub fn attach(&self, slot: usize, descriptor: BorrowedFd<'_>) -> Result<()> {
        let mut attached = self.attached.borrow_mut();
        let index = attached.iter().position(|attached| attached.slot == slot);
        if index.is_some_and(|index| attached[index].descriptors.len() >= DESCRIPTORS_MAX) {
            return Err(too_many());
        }
        let duplicate = duplicate(descriptor)?;
        self.under_way.reserve()?;
        match index {
            Some(index) => attached[index].descriptors.push(duplicate),
            None => attached.push(Attached { slot, descriptors: vec![duplicate], sent: 0, sequence: None }),
        }
        Ok(())
    }

    /// Whether something is attached that was not sent.
    pub fn has_unsent(&self) -> bool {
        self.attached.borrow().iter().any(|attached| attached.sent == 0)
    }

    /// Sends what is attached to a slot, directly before its turn is passed. How many there are.
    pub fn send(&self, slot: usize, sequence: u64) -> Result<u32> {
        let mut attached = self.attached.borrow_mut();
        let Some(attached) = attached.iter_mut().find(|attached| attached.slot == slot) else { return Ok(0) };
        let descriptors: Vec<BorrowedFd<'_>> = attached.descriptors.iter().map(AsFd::as_fd).collect();
        self.under_way.send(slot, sequence, &descriptors)?;
        attached.sent = descriptors.len();
        attached.sequence = Some(sequence);
        Ok(attached.sent as u32)
    }

    /// In the place of [`CallerDescriptors::send`], when the peer is gone: they stay with what is passed, to be sent in
    /// another session. How many there are.
    pub fn keep(&self, slot: usize, sequence: u64) -> u32 {
        let mut attached = self.attached.borrow_mut();
        let Some(attached) = attached.iter_mut().find(|attached| attached.slot == slot) else { return 0 };
        attached.sequence = Some(sequence);
        attached.descriptors.len() as u32
    }

    /// The session is over, and its socket is hung up: what was not sent makes room for another session.
    pub fn make_room(&self) {
        self.under_way.end();
    }

    /// How many go with what was passed in a slot.
    pub fn count(&self, slot: usize, sequence: u64) -> usize {
        let attached = self.attached.borrow();
        attached.iter().find(|attached| attached.is_of(slot, sequence)).map_or(0, |of| of.descriptors.len())
    }

    /// Sends here, for what will be passed, what goes with `before` (slot and sequence) in another session, where they
    /// stay until they are [taken over](CallerDescriptors::take_over). On an error this session is to be ended: its
    /// room is given back by that.
    pub fn send_again(
        &self,
        other: &CallerDescriptors,
        before: (usize, u64),
        slot: usize,
        sequence: u64,
    ) -> Result<()> {
        let attached = other.attached.borrow();
        let Some(attached) = attached.iter().find(|attached| attached.is_of(before.0, before.1)) else { return Ok(()) };
        attached.descriptors.iter().try_for_each(|_| self.under_way.reserve())?;
        let descriptors: Vec<BorrowedFd<'_>> = attached.descriptors.iter().map(AsFd::as_fd).collect();
        self.under_way.send(slot, sequence, &descriptors)
    }

    /// Has from now on what [was sent](CallerDescriptors::send_again) here for another session.
    pub fn take_over(&self, other: &CallerDescriptors, before: (usize, u64), slot: usize, sequence: u64) {
        let mut theirs = other.attached.borrow_mut();
        let Some(index) = theirs.iter().position(|attached| attached.is_of(before.0, before.1)) else { return };
        let descriptors = theirs.swap_remove(index).descriptors;
        let sent = descriptors.len();
        self.attached.borrow_mut().push(Attached { slot, descriptors, sent, sequence: Some(sequence) });
    }

    /// Settles all that were passed and are done with, by slot and sequence: a sender's, which looks at its slots now
    /// and then only.
    pub fn settle_all(&self, is_done: impl Fn(usize, u64) -> bool) {
        let done: Vec<usize> = {
            let attached = self.attached.borrow();
            let is_done = |of: &&Attached| of.sequence.is_some_and(|sequence| is_done(of.slot, sequence));
            attached.iter().filter(is_done).map(|attached| attached.slot).collect()
        };
        done.into_iter().for_each(|slot| self.settle(slot));
    }

    /// The call in a slot is given up: closes what it carried here. What was sent counts until the slot is back.
    pub fn give_up(&self, slot: usize) {
        let closed: Vec<OwnedFd> = {
            let mut attached = self.attached.borrow_mut();
            let given_up = attached.iter_mut().filter(|attached| attached.slot == slot);
            given_up.flat_map(|attached| std::mem::take(&mut attached.descriptors)).collect()
        };
        if faults::is(Fault::KeptDuplicates) {
            return closed.into_iter().for_each(std::mem::forget);
        }
        self.close(closed);
    }

    /// A slot is back, or was not sent: nothing is attached to it any more.
    pub fn settle(&self, slot: usize) {
        let settled = {
            let mut attached = self.attached.borrow_mut();
            let index = attached.iter().position(|attached| attached.slot == slot);
            index.map(|index| attached.swap_remove(index))
        };
        match settled {
            Some(Attached { sent: 0, descriptors, .. }) => {
                self.under_way.give_back(descriptors.len());
                self.close(descriptors);
            }
            Some(Attached { sent, descriptors, .. }) => {
                self.under_way.settle(sent);
                self.close(descriptors);
            }
            None => {}
        }
    }

    /// The descriptors of a reply, for whoever holds the slot.
    pub fn arrive(&self, slot: usize, descriptors: PeerDescriptors) {
        self.arrived.borrow_mut().push((slot, descriptors));
    }

    /// Those of the reply that lies in a slot: to be taken, or to be closed by being dropped.
    pub fn take_arrived(&self, slot: usize) -> Option<PeerDescriptors> {
        let mut arrived = self.arrived.borrow_mut();
        let index = arrived.iter().position(|(of, _)| *of == slot)?;
        Some(arrived.swap_remove(index).1)
    }

    /// The session is over, and its socket is hung up.
    pub fn end(&self) {
        self.under_way.end();
        let attached = std::mem::take(&mut *self.attached.borrow_mut());
        self.close(attached.into_iter().flat_map(|attached| attached.descriptors).collect());
    }
}

/// Another descriptor of the same thing.
pub fn duplicate(descriptor: BorrowedFd<'_>) -> Result<OwnedFd> {
    descriptor.try_clone_to_owned().map_err(|error| Error::io("duplicate a descriptor that is attached", error))
}

/// When what was sent counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountsUntil {
    /// It has been answered: the caller knows.
    Answered,
    /// The peer has read it: the kernel knows.
    Read,
}

/// The descriptors that one side of a session has under way, and the socket that they go through.
///
/// They are counted from the moment in which they are attached. A session that is over leaves what its peer has not
/// read under way, and is counted until that is read or the peer is gone.
#[derive(Debug)]
pub struct UnderWay {
    socket: Arc<PeerSocket>,
    until: CountsUntil,
    counts: Mutex<Counts>,
    /// A child may have inherited the lock as another thread held it.
    fork: ForkGuard,
}

#[derive(Debug, Default)]
struct Counts {
    /// Attached, and not sent.
    held: usize,
    sent: usize,
    /// How many went with each message that may be unread, the oldest first, if the kernel knows when they count no
    /// more.
    unread: VecDeque<usize>,
    /// Whether it is in [`LISTED`].
    is_listed: bool,
    /// Whether nothing is sent any more.
    is_over: bool,
}

/// What all sessions of this process have attached and under way.
static TOTAL: ProcessCount = ProcessCount::new();
/// Those that have sent some. It is locked for some system calls at most.
static LISTED: PerProcess<Mutex<Listed>> = PerProcess::new(Mutex::default);

#[derive(Debug, Default)]
struct Listed {
    sessions: Vec<Arc<UnderWay>>,
    /// A thread looks after those that are over.
    is_looked_after: bool,
}

/// The first and the longest pause between two looks at sessions that are over.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

impl UnderWay {
    /// None so far.
    pub fn new(socket: &Arc<PeerSocket>, until: CountsUntil) -> Arc<UnderWay> {
        Arc::new(UnderWay { socket: Arc::clone(socket), until, counts: Mutex::default(), fork: ForkGuard::new() })
    }

    /// Room for one more, which is to be sent or [given back](UnderWay::give_back).
    ///
    /// # Errors
    /// [`Full`](ErrorKind::Full).
    pub fn reserve(&self) -> Result<()> {
        let mut counts = sync::lock(&self.counts);
        if counts.held + counts.sent >= PER_SESSION {
            self.look(&mut counts);
        }
        let (held, sent) = (counts.held, counts.sent);
        if held + sent >= PER_SESSION {
            return Err(self.full(format!(
                "{sent} descriptors of this session are under way and {held} attached, {PER_SESSION} are the most"
            )));
        }
        let most = share_of_process();
        if !TOTAL.add(1, most) {
            look_at_all();
            if !TOTAL.add(1, most) {
                return Err(self.full(format!(
                    "{most} descriptors of this process are attached or under way, a quarter of its `ulimit -n` is \
                     the most"
                )));
            }
        }
        counts.held += 1;
        Ok(())
    }

    fn full(&self, what: String) -> Error {
        let cure = match self.until {
            CountsUntil::Answered => "wait until calls or messages that carry some are answered or acknowledged",
            CountsUntil::Read => "the client has to take the replies that it has",
        };
        Error::new(ErrorKind::Full, format!("{what}: {cure}"))
    }

    /// Those that were attached and will not be sent.
    pub fn give_back(&self, count: usize) {
        if self.fork.is_forked() {
            return;
        }
        let mut counts = sync::lock(&self.counts);
        let left = count.min(counts.held); // none, once the session is over
        counts.held -= left;
        TOTAL.sub(left);
    }

    /// Those that were sent have been answered.
    pub fn settle(&self, count: usize) {
        if self.fork.is_forked() {
            return;
        }
        let mut counts = sync::lock(&self.counts);
        let left = count.min(counts.sent);
        counts.sent -= left;
        TOTAL.sub(left);
    }

    /// Sends what was attached, which has room; it never waits. The turn is passed after this. On an error nothing was
    /// sent, and the room is still reserved.
    pub fn send(self: &Arc<UnderWay>, slot: usize, sequence: u64, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let count = descriptors.len();
        let message = DescriptorMessage { count: count as u8, slot: slot as u16, sequence }; // at most 16, and 4096
        let bytes = message.encode();
        let mut counts = sync::lock(&self.counts);
        if counts.is_over {
            return Err(not_sent(count, Errno::NOTCONN));
        }
        socket::send(&*self.socket, &bytes, descriptors).map_err(|error| not_sent(count, error))?;
        counts.held -= count.min(counts.held);
        counts.sent += count;
        if self.until == CountsUntil::Read {
            counts.unread.push_back(count);
        }
        if !counts.is_listed {
            list(&mut counts, self);
        }
        Ok(())
    }

    /// What the peer has read counts no more, if that is what is counted.
    fn look(&self, counts: &mut Counts) {
        if counts.sent == 0 || (self.until == CountsUntil::Answered && !counts.is_over) {
            return;
        }
        let unread = socket::messages_unread_by_peer(&*self.socket, DescriptorMessage::LEN);
        let of_read = match self.until {
            CountsUntil::Answered if unread > 0 => 0,
            CountsUntil::Answered => counts.sent,
            CountsUntil::Read => counts.unread.drain(..counts.unread.len().saturating_sub(unread)).sum(),
        };
        counts.sent -= of_read;
        TOTAL.sub(of_read);
    }

    /// The session is over, and the socket is hung up.
    pub fn end(self: &Arc<UnderWay>) {
        {
            let mut counts = sync::lock(&self.counts);
            counts.is_over = true;
            TOTAL.sub(std::mem::take(&mut counts.held));
        }
        look_at_all();
        look_after_those_over();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.fork.is_forked() {
            let counts = sync::get_mut(&mut self.counts);
            TOTAL.sub(counts.held + counts.sent);
        }
    }
}

/// Looks at all sessions that have sent some: those that have none under way any more are let go of.
fn look_at_all() {
    let mut done = Vec::new(); // is let go of after the lock
    let mut listed = sync::lock(LISTED.get());
    for under_way in std::mem::take(&mut listed.sessions) {
        let is_done = under_way.counts.try_lock().is_ok_and(|mut counts| {
            under_way.look(&mut counts);
            counts.is_listed = counts.sent > 0;
            !counts.is_listed
        });
        if is_done { done.push(under_way) } else { listed.sessions.push(under_way) }
    }
}

/// Whether sessions that are over have some under way.
fn are_some_over(listed: &Listed) -> bool {
    listed.sessions.iter().any(|session| session.counts.try_lock().is_ok_and(|counts| counts.is_over))
}

/// What a session that is over has under way is read, or gone with its peer, within a moment, but for a peer that is
/// stopped. A thread, which exists for no longer than that, looks when it is.
fn look_after_those_over() {
    let mut listed = sync::lock(LISTED.get());
    if listed.is_looked_after || !are_some_over(&listed) {
        return;
    }
    let thread = std::thread::Builder::new().name("wigwag-background".into()).spawn(|| {
        let mut pause = PAUSES.0;
        loop {
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
            look_at_all();
            let mut listed = sync::lock(LISTED.get());
            if !are_some_over(&listed) {
                listed.is_looked_after = false;
                return;
            }
        }
    });
    listed.is_looked_after = thread.is_ok(); // else whoever ends next tries again
}

/// Lists one, whose counts the caller has.
fn list(counts: &mut Counts, one: &Arc<UnderWay>) {
    look_at_all();
    sync::lock(LISTED.get()).sessions.push(Arc::clone(one));
    counts.is_listed = true;
}

#[cold]
fn not_sent(count: usize, error: Errno) -> Error {
    let told = |why: &str| Error::new(ErrorKind::Full, format!("{count} descriptors could not be sent: {why}"));
    match error {
        Errno::AGAIN | Errno::NOBUFS => told("the other side has not read what was sent to it before"),
        Errno::TOOMANYREFS => told(
            "all processes of this user together have as many under way as one of them may have open: raise `ulimit \
             -n`, or have those read that are under way",
        ),
        error => Error::io(format_args!("send {count} descriptors"), error),
    }
}

/// A session in which no descriptors travel.
#[cold]
pub fn not_agreed() -> Error {
    Error::new(
        ErrorKind::NotAgreed,
        "descriptors do not travel in this session: both sides have to ask for them before they connect \
         (ClientBuilder::descriptors, ServerBuilder::descriptors; of a queue SenderBuilder::descriptors, \
         ReceiverBuilder::descriptors), both have to be of one user, and both have to speak protocol 2",
    )
}

/// A call, a reply or a message that has as many as may travel with it.
#[cold]
pub fn too_many() -> Error {
    Error::new(
        ErrorKind::Full,
        format!(
            "{DESCRIPTORS_MAX} descriptors are attached already, the most that travel at a time: send the others with \
             another call or message"
        ),
    )
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_instead_of_a_message_is_an_end_only_where_the_peer_is_gone() {
        assert_eq!(Drained::without_message(Errno::AGAIN), Drained::Open);
        for gone in [Errno::CONNRESET, Errno::PIPE, Errno::NOTCONN] {
            assert_eq!(Drained::without_message(gone), Drained::Gone);
        }
        for error in [Errno::NOBUFS, Errno::NOMEM, Errno::INTR, Errno::MFILE, Errno::TOOMANYREFS, Errno::PERM] {
            let Drained::Failed(why) = Drained::without_message(error) else { panic!("{error} is told") };
            assert!(why.contains(&error.to_string()), "{why}");
        }
    }
}
