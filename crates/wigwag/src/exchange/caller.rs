//! The client's core: what can be done with the slots of a session now, how to be told when more can be, and what came.
//!
//! Nothing here waits: no step sleeps or spins, reads a clock to wait by, or knows a runtime. The two clients are ways
//! to wait on it: a thread waits in [`Client`](crate::exchange::client), a task in `tokio::Client`. The steps:
//!
//! ```text
//! try_loan  -> OwnedLoan       None: all slots are out      arm_abandoned, and wait for a ring
//! (write into it)
//! send                         the slot is the server's
//! try_reply -> OwnedLoan       None: it has not come back   arm, and wait for a ring
//! release                      or: send again, abandon
//! ```
//!
//! Rings come by the [`descriptors`](Caller::descriptors); [`look`](Caller::look) takes in what else they tell. Who
//! asks for a ring first asks, then looks once more, then waits: what came before shows in the turn, what comes after
//! rings.
//!
//! The blocking client ([`crate::exchange::loan`]) takes the same steps one level lower, with the slot's line and the
//! request's sequence at hand, because between filling and passing each instruction counts.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result, reassembled};
use crate::escape;
use crate::exchange::error_reply;
use crate::exchange::free_slots::FreeSlots;
use crate::exchange::owned_loan::{self, OwnedLoan};
use crate::faults::{self, Fault};
use crate::memory::head::{Head, Kind};
use crate::memory::layout::INLINE_CAPACITY;
use crate::memory::segment::Line;
use crate::memory::slot::{self, Turn};
use crate::session::close_reason::CloseReason;
use crate::session::connect::Established;
use crate::session::connection::{Connection, count};
use crate::session::protocol::Reason;
use crate::stats::ClientStats;
use crate::sync::Ordering;
use crate::sys::clock;
use crate::wait::policy::Wait;

/// Of a slot's last sequence, beyond its 56 bits: descriptors have travelled with that request. So no reply has it,
/// each takes the longer way, and the usual way has nothing to look at.
const CARRIES: u64 = 1 << 63;

/// One session of a client, with the private knowledge of its slots. Dropping it ends the session.
pub struct Caller {
    pub connection: Connection,
    free: FreeSlots,
    counters: Counters,
    /// How many refer to it and may have no slot of it.
    holds: Cell<usize>,
}

/// Keeps a former session of a client that outlives its servers, for who refers to it and may have no slot of it.
pub struct Hold<'c>(&'c Caller);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.holds.set(self.0.holds.get() - 1);
    }
}

/// Each is changed by this client alone.
#[derive(Default)]
struct Counters {
    calls: Cell<u64>,
    abandoned: Cell<u64>,
}

impl Caller {
    /// The session of an attachment. `wait`: how its replies will be waited for.
    pub fn new(established: Established, wait: Wait) -> Caller {
        let slots = established.segment.geometry().slots;
        let caller = Caller {
            connection: Connection::new(established, wait),
            free: FreeSlots::new(slots),
            counters: Counters::default(),
            holds: Cell::new(0),
        };
        caller.publish_depth();
        caller
    }

    /// The largest payload in bytes.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.connection.geometry().capacity
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.connection.geometry().slots
    }

    /// The line of a slot.
    #[inline(always)]
    pub fn line(&self, slot: usize) -> &Line {
        self.connection.segment().line(slot)
    }

    /// What has happened so far.
    pub fn stats(&self) -> ClientStats {
        let (spins_paid, spins_in_vain) = self.connection.spins();
        let in_flight = if self.connection.is_forked() { 0 } else { self.connection.in_flight() as u64 };
        ClientStats {
            spins_paid,
            spins_in_vain,
            in_flight,
            calls: self.counters.calls.get(),
            doorbells_rung: self.connection.doorbells_rung(),
            sleeps: self.connection.sleeps(),
            abandoned: self.counters.abandoned.get(),
            reconnects: 0,
            moved: 0,
        }
    }

    /// How many slots are in loans, calls and replies.
    pub fn slots_held(&self) -> usize {
        self.free.held()
    }

    /// It is not freed while that lives.
    pub fn hold(&self) -> Hold<'_> {
        self.holds.set(self.holds.get() + 1);
        Hold(self)
    }

    /// Whether anybody may refer to it: by a slot, or by a hold.
    pub fn is_held(&self) -> bool {
        self.slots_held() > 0 || self.holds.get() > 0
    }

    /// Whether a payload of that length has room in a slot, whatever has become of the session.
    #[inline(always)]
    pub fn check_length(&self, len: usize) -> Result<()> {
        if len > self.capacity() {
            return Err(Error::capacity(len, self.capacity()));
        }
        if self.connection.is_forked() {
            return Err(Error::forked());
        }
        Ok(())
    }

    /// Whether a payload of that length is possible, while the session is; takes back what came back by itself.
    #[inline(always)]
    pub fn check_loan(&self, len: usize) -> Result<()> {
        self.check_length(len)?;
        if self.connection.is_over() {
            self.connection.check_alive(false)?;
        }
        if self.free.has_abandoned() {
            self.reclaim();
        }
        Ok(())
    }

    /// A free slot, if there is one: to be [lent](Caller::lend) or [released](Caller::release).
    #[inline(always)]
    pub fn take_slot(&self) -> Option<usize> {
        self.free.take()
    }

    /// A slot that was taken, for a payload that was checked.
    #[inline(always)]
    pub fn lend(&self, slot: usize, len: usize) -> OwnedLoan {
        if self.free.deepen(slot) {
            self.publish_depth();
        }
        OwnedLoan::new(self.connection.segment(), slot, self.line(slot), len)
    }

    /// Whether slots may come back by themselves, because the calls in them were given up.
    pub fn has_abandoned(&self) -> bool {
        self.free.has_abandoned()
    }

    /// Asks to be rung for each slot whose call was given up. `true`: one of them has come back meanwhile, and nothing
    /// will ring for that one.
    pub fn arm_abandoned(&self) -> bool {
        let mut came = false;
        self.free.for_each_abandoned(|slot| came |= !self.connection.ask_for_wake(slot).is_server());
        came
    }

    /// Takes back the slots of abandoned calls that the server is done with.
    #[cold]
    pub fn reclaim(&self) {
        let is_done = |slot| {
            let is_done = self.connection.is_ready(self.line(slot));
            if is_done {
                self.let_go_of_reply(slot);
            }
            is_done
        };
        if self.free.reclaim(is_done) {
            self.publish_depth();
        }
    }

    /// Why there is no slot.
    #[cold]
    pub fn full(&self) -> Error {
        Error::new(
            ErrorKind::Full,
            format!(
                "all {} slots of this client are out, in loans, replies not dropped yet, or calls in flight; drop or \
                 wait for one, or \
                 connect with more (ClientBuilder::slots)",
                self.slots()
            ),
        )
    }

    /// The sequence of the next request in a slot.
    #[inline(always)]
    pub fn next_sequence(&self, slot: usize) -> u64 {
        slot::next_sequence(self.connection.sequences[slot].get())
    }

    /// The sequence of the last request in a slot, for [`accept`](Caller::accept).
    #[inline(always)]
    pub fn last_sequence(&self, slot: usize) -> u64 {
        self.connection.sequences[slot].get()
    }

    /// Whether a pass needs [`Caller::check_before_pass`] before it. If not, no descriptor is attached.
    #[inline(always)]
    pub fn must_check_before_pass(&self) -> bool {
        self.connection.is_forked() || self.connection.must_look_before_pass()
    }

    /// Before a pass that [needs it](Caller::must_check_before_pass): an error if the memory is not there, or the
    /// server is known to be gone. What is attached to the slot is sent: how many descriptors that were, for the pass,
    /// which comes next.
    #[cold]
    pub fn check_before_pass(&self, slot: usize, sequence: u64) -> Result<u32> {
        if self.connection.is_forked() {
            return Err(Error::forked());
        }
        self.connection.look_before_pass()?;
        self.connection.send_descriptors(slot, sequence)
    }

    /// Passes a slot to the server as request `sequence`, the slot's next, and rings if it sleeps. `deadline` is for
    /// the server to see; `descriptors` were sent just before. Returns the sequence for [`accept`](Caller::accept).
    #[inline(always)]
    pub fn pass(
        &self,
        slot: usize,
        line: &Line,
        sequence: u64,
        len: usize,
        deadline: Option<Instant>,
        descriptors: u32,
    ) -> u64 {
        let marked = self.pass_uncounted(slot, line, sequence, len, deadline, descriptors);
        self.count_call(); // after the pass, when there is time
        marked
    }

    /// One more call was passed.
    #[inline(always)]
    pub fn count_call(&self) {
        count(&self.counters.calls);
    }

    /// As [`Caller::pass`], of a call that was counted when it was passed for the first time.
    #[inline(always)]
    pub fn pass_uncounted(
        &self,
        slot: usize,
        line: &Line,
        sequence: u64,
        len: usize,
        deadline: Option<Instant>,
        descriptors: u32,
    ) -> u64 {
        let segment = self.connection.segment();
        let deadline = deadline.filter(|_| self.connection.has_same_clock());
        if let Some(at) = deadline {
            segment.deadline(slot).store(clock::instant_to_ns(at), Ordering::Relaxed); // published by the turn
        }
        let head = Head {
            len: len as u32,
            kind: Kind::Request,
            in_body: len > INLINE_CAPACITY,
            has_deadline: deadline.is_some(),
            descriptors,
        };
        self.connection.pass_turn(line, head, sequence);
        let marked = sequence | (u64::from(descriptors != 0) * CARRIES);
        self.connection.sequences[slot].set(marked); // noted after the pass, when there is time
        marked
    }

    /// Checks the reply to request `sequence` in a slot that came back with `turn`, and opens it. On an error the slot
    /// is free again. The way without descriptors meets the other only with a finished loan, so that what was read of
    /// the head stays in registers.
    #[inline(always)]
    pub fn accept(&self, slot: usize, line: &Line, sequence: u64, turn: Turn) -> Result<OwnedLoan> {
        // Relaxed: acquired with the turn. Read once; only the local is looked at.
        let word = line.head.load(Ordering::Relaxed);
        let mut head = Head::of_kind(word, Kind::Reply, self.capacity());
        if turn.sequence() != sequence {
            head = None;
        }
        if faults::is(Fault::UncheckedReply) {
            head = Head::parse(word).filter(|head| head.kind == Kind::Reply);
        }
        let Some(head) = head else { return reassembled(self.accept_otherwise(slot, line, turn, word)) };
        let again = faults::is(Fault::ReplyDoubleFetch).then(|| {
            faults::widen_window();
            line.head.load(Ordering::Relaxed)
        });
        let head = again.and_then(Head::parse).unwrap_or(head);
        Ok(OwnedLoan::with_reply(self.connection.segment(), slot, line, head))
    }

    /// As [`Caller::accept`], where the request or the reply has descriptors; or it is no reply.
    #[cold]
    fn accept_otherwise(&self, slot: usize, line: &Line, turn: Turn, word: u64) -> Result<OwnedLoan> {
        self.settle(slot);
        let sequence = self.last_sequence(slot);
        let head = Head::parse(word).filter(|head| head.kind == Kind::Reply && head.fits(self.capacity()));
        let Some(head) = head.filter(|_| turn.sequence() == sequence) else {
            return Err(self.not_a_reply(slot, turn, word));
        };
        let accepted = || OwnedLoan::with_reply(self.connection.segment(), slot, line, head);
        if head.descriptors == 0 {
            return Ok(accepted());
        }
        let error = match self.connection.find_descriptors(slot, sequence, head.descriptors) {
            Ok(None) => {
                let mut reply = accepted();
                reply.mark();
                return Ok(reply);
            }
            Ok(Some(loss)) => Error::new(
                ErrorKind::Full,
                format!(
                    "this process {loss}, so that not all {} of the reply arrived; the request was executed",
                    head.descriptors
                ),
            ),
            Err(why) => self.violation(why),
        };
        self.release(slot);
        Err(error)
    }

    /// A slot is back: what travelled with its request is the server's now, and the duplicates are closed.
    fn settle(&self, slot: usize) {
        let sequence = &self.connection.sequences[slot];
        if sequence.get() & CARRIES != 0 {
            sequence.set(sequence.get() & !CARRIES);
            self.connection.settle_descriptors(slot);
        }
    }

    #[cold]
    fn violation(&self, why: String) -> Error {
        self.connection.end(CloseReason::Farewell(Reason::Violation, why.clone()));
        Error::new(ErrorKind::Violation, format!("the server broke the protocol: {why}"))
    }

    #[cold]
    fn not_a_reply(&self, slot: usize, turn: Turn, word: u64) -> Error {
        let segment = self.connection.segment();
        let error = match Head::parse(word) {
            Some(head)
                if head.kind.is_failure(self.connection.protocol().layout_version())
                    && head.fits(self.capacity())
                    && head.descriptors == 0
                    && turn.sequence() == self.connection.sequences[slot].get() =>
            {
                let mut bytes = vec![0; head.len as usize];
                segment.copy_out(slot, head.in_body, &mut bytes);
                let text = String::from_utf8_lossy(&bytes);
                match head.kind {
                    Kind::Failed => Some(Error::new(ErrorKind::HandlerFailed, escape::without_controls(&text))),
                    Kind::Panicked => {
                        let text = escape::without_controls(&text);
                        Some(Error::new(ErrorKind::HandlerPanicked, format!("{}{text}", error_reply::PANICKED)))
                    }
                    Kind::Errored => error_reply::decode(&bytes),
                    Kind::Foreign => Some(Error::new(
                        ErrorKind::Unanswered,
                        format!(
                            "the server answered in a way that this version does not know: {}",
                            escape::without_controls(&text)
                        ),
                    )),
                    _ => Some(Error::new(ErrorKind::Unanswered, "the server dropped the request without an answer")),
                }
            }
            _ => None,
        };
        let error = error.map(Error::answered);
        let error =
            error.unwrap_or_else(|| self.violation(format!("slot {slot} came back with {turn:?} and head {word:#x}")));
        self.release(slot);
        error
    }

    /// A slot comes back unsent, or its reply is done with: its number [with its mark](OwnedLoan::marked_slot).
    #[inline(always)]
    pub fn release(&self, marked_slot: usize) {
        if self.free.give_back(marked_slot) {
            self.after_release(marked_slot);
        }
    }

    /// The depth became smaller, or the slot has descriptors and was not given back.
    #[cold]
    fn after_release(&self, marked_slot: usize) {
        let slot = owned_loan::unmarked(marked_slot);
        if slot == marked_slot {
            return self.publish_depth();
        }
        self.drop_descriptors(slot);
        if self.free.give_back(slot) {
            self.publish_depth();
        }
    }

    /// Whether descriptors have travelled with the request in a slot.
    pub fn carries_descriptors(&self, slot: usize) -> bool {
        self.last_sequence(slot) & CARRIES != 0
    }

    /// The call in a slot goes on elsewhere: the slot is nobody's any more, in a session that is over.
    #[cold]
    pub fn leave(&self, slot: usize) {
        self.free.abandon(slot);
    }

    /// Attaches a duplicate of a descriptor to a loan, to be sent when it is passed.
    #[cold]
    pub fn attach(&self, loan: &mut OwnedLoan, descriptor: BorrowedFd<'_>) -> Result<()> {
        self.connection.attach(loan.slot(), descriptor)?;
        loan.mark();
        Ok(())
    }

    /// The descriptors that came with the reply in a slot, once.
    #[cold]
    pub fn take_descriptors(&self, slot: usize) -> Vec<OwnedFd> {
        self.connection.take_descriptors(slot).map_or_else(Vec::new, |mut descriptors| descriptors.take())
    }

    /// Nobody wants any more what is attached to a slot, or came with its reply.
    #[cold]
    pub fn drop_descriptors(&self, slot: usize) {
        if !self.connection.is_forked() {
            self.connection.settle_descriptors(slot);
            drop(self.connection.take_descriptors(slot));
        }
    }

    /// What lies in a slot as the payload of its last request; nothing, in a forked child or if there is no memory for
    /// it. The server may be writing there, so each byte is read once and none is believed.
    #[cold]
    pub fn copy_payload(&self, slot: usize, len: usize) -> Option<Vec<u8>> {
        if self.connection.is_forked() {
            return None;
        }
        let mut payload = Vec::new();
        payload.try_reserve_exact(len).ok()?;
        payload.resize(len, 0);
        self.connection.segment().copy_out(slot, len > INLINE_CAPACITY, &mut payload);
        Some(payload)
    }

    /// Nobody wants the reply of a slot any more: the slot comes back when the server is done with it.
    pub fn abandon(&self, slot: usize) {
        if self.connection.is_forked() {
            return;
        }
        count(&self.counters.abandoned);
        if self.carries_descriptors(slot) {
            self.connection.give_up_descriptors(slot);
        }
        if slot::abandon(&self.line(slot).turn).is_server() {
            self.connection.ring_for_abandonment();
            if !faults::is(Fault::ForgottenSlot) {
                self.free.abandon(slot);
            }
        } else {
            self.let_go_of_reply(slot);
            self.release(slot);
        }
    }

    /// The reply in a slot that is back will not be accepted: what has travelled with it is closed.
    #[cold]
    fn let_go_of_reply(&self, slot: usize) {
        self.settle(slot);
        if !self.connection.has_descriptors() {
            return;
        }
        let line = self.line(slot);
        let sequence = self.last_sequence(slot);
        // Relaxed: acquired with the turn.
        let head = Head::parse(line.head.load(Ordering::Relaxed));
        if let Some(Head { descriptors: count @ 1.., .. }) = head {
            match self.connection.find_descriptors(slot, sequence, count) {
                Ok(_) => drop(self.connection.take_descriptors(slot)),
                Err(why) => drop(self.violation(why)),
            }
        }
    }

    /// Tells the server how many slot lines to look at.
    ///
    /// Relaxed: a larger depth is ordered before the pass of the slot by that pass's SeqCst swap, and so before the
    /// look of a server that was woken by it or that looks a last time.
    #[cold]
    fn publish_depth(&self) {
        if self.connection.is_forked() {
            return; // the memory is not there
        }
        self.connection.segment().client_line().depth.store(self.free.depth() as u32, Ordering::Relaxed);
    }
}

/// The steps of those who hold slots without a borrow, and wait for descriptors.
impl Caller {
    /// What to wait for: the bell, which is rung for each slot that was [armed](Caller::arm), and what tells of
    /// everything else, as [`Connection::descriptors`] has them. From then on the bell wakes no blocking call.
    pub fn descriptors(&self) -> Result<(Option<OwnedFd>, OwnedFd)> {
        self.connection.descriptors()
    }

    /// Takes in what the descriptors told, if the second had something to tell, and the slots of abandoned calls that
    /// came back.
    pub fn look(&self, has_events: bool) {
        if has_events && let Err(error) = self.connection.look() {
            self.connection.end(CloseReason::Farewell(Reason::Shutdown, error.to_string()));
        }
        self.reclaim();
    }

    #[cfg(any(feature = "tokio", test))]
    /// How many slots are out: in loans, calls and replies, and those given up while the server has them.
    pub fn slots_out(&self) -> usize {
        self.free.out()
    }

    /// A slot for a payload of `len` bytes, or `None`: all are out.
    pub fn try_loan(&self, len: usize) -> Result<Option<OwnedLoan>> {
        self.check_loan(len)?;
        Ok(self.take_slot().map(|slot| self.lend(slot, len)))
    }

    /// Passes a slot to the server, best after [`OwnedLoan::written`]. On an error it is still the client's.
    pub fn send(&self, loan: &OwnedLoan, deadline: Option<Instant>) -> Result<()> {
        self.send_again(loan, deadline)?;
        self.count_call();
        Ok(())
    }

    /// The same for a call that was counted when it was passed for the first time.
    pub fn send_again(&self, loan: &OwnedLoan, deadline: Option<Instant>) -> Result<()> {
        let slot = loan.slot();
        let sequence = self.next_sequence(slot);
        let descriptors = if self.must_check_before_pass() { self.check_before_pass(slot, sequence)? } else { 0 };
        self.pass_uncounted(slot, self.line(slot), sequence, loan.len(), deadline, descriptors);
        Ok(())
    }

    /// The reply of a slot that was passed, once it has come back. With an error the slot is free again.
    pub fn try_reply(&self, slot: usize) -> Option<Result<OwnedLoan>> {
        let line = self.line(slot);
        let turn = slot::load(&line.turn);
        if turn.is_server() {
            return None;
        }
        self.connection.came_to_a_task();
        Some(self.accept(slot, line, self.last_sequence(slot), turn))
    }

    /// Asks to be rung when a slot that was passed comes back. `false`: it has come back meanwhile, and nothing will
    /// ring. With an error it never will; the slot is still the server's, to be [given up](Caller::abandon).
    pub fn arm(&self, slot: usize) -> Result<bool> {
        // The end is looked at before the turn: a reply that was passed before the end counts.
        let is_over = self.connection.check_alive_with(self.line(slot));
        if self.connection.ask_for_wake(slot).is_server() { is_over.map(|()| true) } else { Ok(false) }
    }

    /// As [`Caller::abandon`], and the bell is rung when the server is done with the slot: whoever waits for a slot
    /// hears of it, whenever that is.
    pub fn abandon_armed(&self, slot: usize) {
        self.abandon(slot);
        if !self.connection.is_forked() && !self.connection.ask_for_wake(slot).is_server() {
            self.reclaim();
        }
    }

    /// The same slot for a payload of another length; the bytes stay, up to the shorter one.
    pub fn resize(&self, loan: &mut OwnedLoan, len: usize) -> Result<()> {
        // Of a session that is over, too: what is written then goes on at a successor, or the call says why it cannot.
        self.check_length(len)?;
        loan.resize(self.connection.segment(), self.line(loan.slot()), len);
        Ok(())
    }
}

#[cfg(all(test, not(loom), not(wigwag_faults)))]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use wigwag_testing::{Ground, LIMIT};

    use super::*;
    use crate::exchange::passed_slot::PassedSlot;
    use crate::session::connect;
    use crate::{Client, Server};

    /// A face of its own: it sleeps in `poll`, as an event loop in any language would.
    struct Face {
        caller: Caller,
        bell: OwnedFd,
        events: OwnedFd,
    }

    impl Face {
        fn connect(ground: &Ground, slots: usize) -> Face {
            let options = Client::builder().slots(slots);
            let established =
                connect::attach(ground.socket().as_os_str(), &options.checked_options().unwrap()).unwrap();
            let caller = options.caller(established);
            let (bell, events) = caller.descriptors().unwrap();
            Face { caller, bell: bell.expect("the server is of this user"), events }
        }

        fn loan(&self, bytes: &[u8]) -> OwnedLoan {
            let mut loan = self.caller.try_loan(bytes.len()).unwrap().expect("there is a slot");
            loan.copy_from_slice(bytes);
            loan
        }

        fn send(&self, bytes: &[u8]) -> usize {
            let loan = self.loan(bytes);
            self.caller.send(&loan, None).unwrap();
            loan.slot()
        }

        /// Sleeps until something rings, and looks.
        fn wait(&self) {
            let limit = Timespec::try_from(LIMIT).unwrap();
            let mut rung = [PollFd::new(&self.bell, PollFlags::IN), PollFd::new(&self.events, PollFlags::IN)];
            assert_ne!(poll(&mut rung, Some(&limit)), Ok(0), "nothing rang");
            let [has_rung, has_events] = rung.map(|fd| !fd.revents().is_empty());
            if has_rung {
                rustix::io::read(&self.bell, &mut [0; 8]).unwrap();
            }
            self.caller.look(has_events);
        }

        fn reply(&self, slot: usize) -> Result<OwnedLoan> {
            loop {
                if let Some(reply) = self.caller.try_reply(slot) {
                    return reply;
                }
                if self.caller.arm(slot).inspect_err(|_| self.caller.abandon(slot))? {
                    self.wait();
                }
            }
        }
    }

    #[test]
    fn whole_calls_are_made_without_a_borrow() {
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let stop = server.shutdown_handle();
        let thread = std::thread::spawn(move || server.serve(|request| request.reverse()));
        let face = Face::connect(&ground, 2);
        for len in [0, 3, INLINE_CAPACITY, INLINE_CAPACITY + 1, 5000] {
            let bytes: Vec<u8> = (0..len).map(|index| index as u8).collect();
            let loan = face.loan(&bytes);
            let (slot, passed) = (loan.slot(), PassedSlot::new(face.caller.line(loan.slot())));
            loan.written();
            face.caller.send(&loan, None).unwrap();
            let mut reply = face.reply(slot).unwrap();
            assert!(passed.is_back());
            assert!(reply.iter().eq(bytes.iter().rev()), "{len} bytes");
            // The reply is the next request, in the same slot.
            face.caller.resize(&mut reply, len.min(2)).unwrap();
            face.caller.send(&reply, None).unwrap();
            let again = face.reply(slot).unwrap();
            assert!(again.iter().rev().eq(bytes.iter().rev().take(2)), "{len} bytes");
            face.caller.release(again.slot());
            assert_eq!(face.caller.slots_out(), 0);
        }
        assert_eq!((face.caller.stats().calls, face.caller.stats().in_flight, face.caller.stats().sleeps), (10, 0, 0));
        stop.shutdown();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn while_all_slots_are_out_there_is_none() {
        let ground = Ground::new();
        let _server = Server::bind(ground.socket()).unwrap();
        let face = Face::connect(&ground, 2);
        let (first, second) = (face.loan(b"1"), face.loan(b"2"));
        assert_ne!(first.slot(), second.slot());
        assert!(face.caller.try_loan(1).unwrap().is_none());
        assert_eq!(face.caller.full().kind(), ErrorKind::Full);
        let (len, capacity) = (face.caller.capacity() + 1, face.caller.capacity());
        assert_eq!(face.caller.try_loan(len).unwrap_err().kind(), ErrorKind::CapacityExceeded { len, capacity });
        face.caller.release(first.slot());
        assert_eq!(face.loan(b"3").slot(), first.slot());
    }

    #[test]
    fn an_abandoned_slot_comes_back_with_a_ring() {
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let face = Face::connect(&ground, 1);
        let slot = face.send(b"left");
        face.caller.abandon_armed(slot);
        assert!(face.caller.try_loan(1).unwrap().is_none() && face.caller.has_abandoned());
        assert!(!face.caller.arm_abandoned(), "the server has it");
        let request = server.recv().unwrap();
        assert!(request.is_abandoned());
        drop(request);
        while face.caller.slots_out() > 0 {
            face.wait();
        }
        assert_eq!(face.loan(b"next").slot(), slot);
        assert_eq!(face.caller.stats().abandoned, 1);
    }

    #[test]
    fn a_reply_that_had_come_is_given_up_at_once() {
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let face = Face::connect(&ground, 1);
        let slot = face.send(b"?");
        server.recv().unwrap().reply();
        assert!(!face.caller.arm(slot).unwrap(), "it has come back");
        face.caller.abandon_armed(slot);
        assert_eq!(face.caller.slots_out(), 0);
    }

    #[test]
    fn what_the_handler_refuses_leaves_the_slot_free() {
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let face = Face::connect(&ground, 1);
        let slot = face.send(b"?");
        server.recv().unwrap().fail("no");
        assert_eq!(face.reply(slot).unwrap_err().kind(), ErrorKind::HandlerFailed);
        assert_eq!(face.caller.slots_out(), 0);
    }

    #[test]
    fn the_end_of_the_server_rings_and_a_reply_from_before_counts() {
        let ground = Ground::new();
        let mut server = Server::bind(ground.socket()).unwrap();
        let face = Face::connect(&ground, 3);
        let (answered, lost) = (face.send(b"first"), face.send(b"second"));
        server.recv().unwrap().reply();
        let loan = face.loan(b"not sent");
        drop(server);
        let not_executed = ErrorKind::ServerClosed { maybe_executed: false };
        assert_eq!(face.reply(lost).unwrap_err().kind(), not_executed);
        assert_eq!(face.caller.copy_payload(lost, 6).unwrap(), b"second");
        assert_eq!(face.reply(answered).unwrap()[..], *b"first");
        assert_eq!(face.caller.send(&loan, None).unwrap_err().kind(), not_executed);
        assert_eq!(face.caller.try_loan(1).unwrap_err().kind(), not_executed);
    }
}
