//! Calls of one link, handed to the local server.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use wigwag::ErrorKind;
use wigwag::tokio::{Client, Loan, Reply};

use crate::export::{Export, Link, Work, lock};
use crate::fault::Fault;
use crate::outlet::pieces;
use crate::seen::{Seen, Verdict};
use crate::status::{add, count};
use crate::window::Unanswered;
use crate::wire::{Message, WHOLE_MAX};

/// The calls of one link.
pub struct Calls {
    /// A session for each of the server's threads, so that one which is busy holds up no call that another could serve.
    sessions: Vec<Session>,
    most: usize,
    capacity: usize,
    state: Mutex<State>,
}

/// One session with the local server.
struct Session {
    client: Client,
    /// Calls that were given to it and are not over.
    busy: Arc<AtomicUsize>,
}

/// One call of a session, from the choice until it is over.
struct Place {
    client: Client,
    busy: Arc<AtomicUsize>,
    unanswered: Unanswered,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct State {
    seen: Seen,
    under_way: HashMap<u64, Stage>,
}

enum Stage {
    /// Its payload comes in pieces.
    Taking { into: Room, taken: usize, deadline: Option<Instant>, last: Instant },
    /// It is with the server, or waits for a slot there.
    Running(Arc<Awaited>),
    /// Its reply goes out in pieces.
    Sending(AbortHandle),
}

impl Stage {
    /// Nobody waits for it any more; the server sees that the call is given up.
    fn give_up(self) {
        match self {
            Stage::Taking { .. } => {}
            Stage::Running(awaited) => drop(lock(&awaited.call).take()),
            Stage::Sending(task) => task.abort(),
        }
    }
}

/// What a call is while the local server has it.
type Outcome = Pin<Box<dyn Future<Output = wigwag::Result<Reply>> + Send>>;

/// A call that the local server has. No task waits for it, because a task that is made on zenoh's thread has to wake a
/// thread of the runtime only to find that there is no reply yet. The reply's own wake-up makes the task, on the thread
/// that it has woken.
struct Awaited {
    link: Weak<Link>,
    number: u64,
    runtime: Handle,
    /// Nothing: it is over, or given up.
    call: Mutex<Option<(Outcome, Place)>>,
}

impl Awaited {
    /// Looks once whether the call is over, and asks to be woken when it is.
    fn poll(self: &Arc<Self>) -> Option<(wigwag::Result<Reply>, Place)> {
        let waker = Waker::from(Arc::clone(self));
        let mut call = lock(&self.call);
        let (outcome, _) = call.as_mut()?;
        // Its timer is this runtime's, wherever it is polled first.
        let _entered = self.runtime.enter();
        let Poll::Ready(outcome) = outcome.as_mut().poll(&mut Context::from_waker(&waker)) else { return None };
        let (_, place) = call.take()?;
        Some((outcome, place))
    }
}

impl Wake for Awaited {
    /// In the turn of a reactor or of a timer, perhaps within [`poll`](Awaited::poll): so nothing is done here.
    fn wake(self: Arc<Self>) {
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            if let (Some((outcome, place)), Some(link)) = (self.poll(), self.link.upgrade()) {
                finish(&link, self.number, outcome, place);
            }
        });
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.give_up(); // a call that waits keeps its session, which keeps what it is to wake
    }
}

/// Where pieces are put.
enum Room {
    /// The server's memory.
    Loan(Loan, Place),
    /// Memory of this process, while there is none of the server's. It grows with what has come.
    Copy(Vec<u8>, usize, Place),
}

impl Room {
    /// Straight in the server's memory, if there is room just now.
    fn new(place: Place, len: usize) -> Room {
        match place.client.try_loan(len) {
            Ok(loan) => Room::Loan(loan, place),
            Err(_) => Room::Copy(Vec::new(), len, place),
        }
    }

    fn len(&self) -> usize {
        match self {
            Room::Loan(loan, _) => loan.len(),
            Room::Copy(_, len, _) => *len,
        }
    }

    fn put(&mut self, at: usize, piece: &[u8]) {
        match self {
            Room::Loan(loan, _) => loan[at..at + piece.len()].copy_from_slice(piece),
            Room::Copy(copy, ..) => copy.extend_from_slice(piece),
        }
    }
}

/// A rule of the protocol that a message breaks.
type Broken = &'static str;

impl Calls {
    /// With sessions of the local server.
    pub fn new(clients: Vec<Client>, most: usize, capacity: usize) -> Calls {
        let sessions = clients.into_iter().map(|client| Session { client, busy: Arc::default() }).collect();
        Calls { sessions, most, capacity, state: Mutex::default() }
    }

    /// The session that has the fewest calls.
    fn place(&self, link: &Link) -> Option<Place> {
        let session = self.sessions.iter().min_by_key(|session| session.busy.load(Ordering::Relaxed))?;
        session.busy.fetch_add(1, Ordering::Relaxed);
        let (client, busy) = (session.client.clone(), Arc::clone(&session.busy));
        Some(Place { client, busy, unanswered: link.share.unanswered() })
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        lock(&self.state).under_way.len()
    }

    /// A request as a whole.
    pub fn whole(&self, link: &Arc<Link>, number: u64, left_us: u64, payload: &[u8]) -> Result<(), Broken> {
        let mut state = lock(&self.state);
        if !self.admit(link, &mut state, number, payload.len())? {
            return Ok(());
        }
        let Some(place) = self.place(link) else { return Ok(()) };
        let (mut room, deadline) = (Room::new(place, payload.len()), deadline(left_us));
        room.put(0, payload);
        self.run(link, &mut state, number, room, deadline);
        Ok(())
    }

    /// The beginning of a request that comes in pieces.
    pub fn start(&self, link: &Arc<Link>, number: u64, left_us: u64, len: usize, piece: &[u8]) -> Result<(), Broken> {
        // Also of those that are dropped: the importer's window is to have its room back.
        grant(link, piece.len());
        let mut state = lock(&self.state);
        if piece.is_empty() || piece.len() > len {
            return Err("its first piece is not of its length");
        }
        if !self.admit(link, &mut state, number, len)? {
            return Ok(());
        }
        let Some(place) = self.place(link) else { return Ok(()) };
        let mut into = Room::new(place, len);
        into.put(0, piece);
        let (taken, deadline) = (piece.len(), deadline(left_us));
        if taken == len {
            self.run(link, &mut state, number, into, deadline);
        } else {
            let stage = Stage::Taking { into, taken, deadline, last: Instant::now() };
            state.under_way.insert(number, stage);
        }
        Ok(())
    }

    /// The next piece.
    pub fn part(&self, link: &Arc<Link>, number: u64, offset: usize, piece: &[u8]) -> Result<(), Broken> {
        grant(link, piece.len());
        let mut state = lock(&self.state);
        // Of a call that was refused, cancelled or is a duplicate, pieces still come.
        let Some(Stage::Taking { into, taken, last, .. }) = state.under_way.get_mut(&number) else { return Ok(()) };
        if offset != *taken || piece.is_empty() || piece.len() > into.len() - offset {
            return Err("a piece does not continue the one before");
        }
        into.put(offset, piece);
        *taken += piece.len();
        *last = Instant::now();
        if *taken == into.len()
            && let Some(Stage::Taking { into, deadline, .. }) = state.under_way.remove(&number)
        {
            self.run(link, &mut state, number, into, deadline);
        }
        Ok(())
    }

    /// Nobody waits for it any more.
    pub fn cancel(&self, link: &Arc<Link>, number: u64) {
        if let Some(stage) = lock(&self.state).under_way.remove(&number) {
            stage.give_up();
            if let Some(export) = link.export.upgrade() {
                count(&export.counters.given_up);
            }
        }
        let fault = Fault::new(ErrorKind::TimedOut { maybe_executed: true }, "the call was given up");
        link.outlet.data(&Message::Failed { link: link.id, number, fault });
    }

    /// The importer has waited long for it. What is not here was answered, or never came: the importer cannot know.
    pub fn ask(&self, link: &Arc<Link>, number: u64) {
        if lock(&self.state).under_way.contains_key(&number) {
            return;
        }
        let text = "the exporter does not have the call any more: it or its answer was lost on the way";
        let fault = Fault::new(ErrorKind::PeerDied { maybe_executed: true }, text);
        // Behind the pieces of an answer that is under way.
        link.outlet.bulk(&Message::Failed { link: link.id, number, fault });
    }

    /// Gives all of them up.
    pub fn give_up(&self) {
        let under_way = std::mem::take(&mut lock(&self.state).under_way);
        under_way.into_values().for_each(Stage::give_up);
    }

    /// Whether the pieces of a payload stopped coming.
    pub fn has_stalled(&self, limit: Duration) -> bool {
        let is_late = |stage: &Stage| matches!(stage, Stage::Taking { last, .. } if last.elapsed() > limit);
        lock(&self.state).under_way.values().any(is_late)
    }

    /// Whether a request is to be executed. It is noted before anything else, so that no copy of it ever is, whatever
    /// becomes of this one.
    fn admit(&self, link: &Link, state: &mut State, number: u64, len: usize) -> Result<bool, Broken> {
        if len > self.capacity {
            return Err("its payload is larger than was agreed on");
        }
        let Some(export) = link.export.upgrade() else { return Ok(false) };
        match state.seen.admit(number) {
            Verdict::Fresh => {}
            Verdict::Duplicate => {
                count(&export.counters.duplicates);
                return Ok(false); // the first one's answer is the answer
            }
            Verdict::TooOld => {
                // It may have been executed before: nobody remembers.
                count(&export.counters.duplicates);
                let text = "the request came too late for the exporter to know whether it was there before";
                let fault = Fault::new(ErrorKind::PeerDied { maybe_executed: true }, text);
                link.outlet.data(&Message::Failed { link: link.id, number, fault });
                return Ok(false);
            }
        }
        let refused = if export.is_draining.load(Ordering::Acquire) {
            let kind = ErrorKind::ServerClosed { maybe_executed: false };
            Some(Fault::new(kind, "the exporting bridge is about to end; the request was not executed"))
        } else if state.under_way.len() >= 2 * self.most {
            // An importer has its credit back with the answer, a moment before the call is out of the books here.
            let text = format!("{} calls of this link are under way, which is all it has", 2 * self.most);
            Some(Fault::new(ErrorKind::Full, text))
        } else {
            None
        };
        if let Some(fault) = refused {
            count(&export.counters.not_executed);
            link.outlet.data(&Message::Failed { link: link.id, number, fault });
            return Ok(false);
        }
        add(&export.counters.bytes_in, len);
        Ok(true)
    }

    /// Hands a request to the server.
    fn run(&self, link: &Arc<Link>, state: &mut State, number: u64, room: Room, deadline: Option<Instant>) {
        let Some(export) = link.export.upgrade() else { return };
        count(&export.counters.sent);
        let (outcome, place): (Outcome, Place) = match room {
            Room::Loan(loan, place) => match deadline {
                None => (Box::pin(loan.call()), place),
                Some(at) => (Box::pin(loan.call_deadline(at)), place),
            },
            Room::Copy(copy, _, place) => {
                let client = place.client.clone();
                (Box::pin(async move { call(&client, &copy, deadline).await }), place)
            }
        };
        let awaited = Arc::new(Awaited {
            link: Arc::downgrade(link),
            number,
            runtime: export.engine.runtime.clone(),
            call: Mutex::new(Some((outcome, place))),
        });
        // Passed here and now. A server that is awake has answered before anybody else would have begun to wait.
        match awaited.poll() {
            None => {
                // Whoever is woken meanwhile removes it under the same lock, so it is there before.
                state.under_way.insert(number, Stage::Running(awaited));
            }
            Some((outcome, place)) => {
                if let Some((reply, place)) = answer_at_once(&export, link, number, outcome, place) {
                    state.under_way.insert(number, send_pieces(&export, link, number, reply, place));
                }
            }
        }
    }
}

/// Sends what a call ended with, and is done with it.
fn finish(link: &Arc<Link>, number: u64, outcome: wigwag::Result<Reply>, place: Place) {
    let (Work::Calls(calls), Some(export)) = (&link.work, link.export.upgrade()) else { return };
    let large = answer_at_once(&export, link, number, outcome, place);
    // Only now: who asks for it meanwhile is told that it is here.
    let mut state = lock(&calls.state);
    match large {
        None => drop(state.under_way.remove(&number)),
        Some((reply, place)) => {
            if let Some(stage) = state.under_way.get_mut(&number) {
                *stage = send_pieces(&export, link, number, reply, place);
            }
        }
    }
}

/// A call whose payload lies elsewhere: it waits for a slot, and for the server's successor if need be.
async fn call(client: &Client, payload: &[u8], deadline: Option<Instant>) -> wigwag::Result<Reply> {
    match deadline {
        None => client.call(payload).await,
        Some(at) => client.call_timeout(payload, at.saturating_duration_since(Instant::now())).await,
    }
}

/// Sends what a call ended with, on a thread that must not wait. What comes in pieces is given back.
fn answer_at_once(
    export: &Export,
    link: &Link,
    number: u64,
    outcome: wigwag::Result<Reply>,
    place: Place,
) -> Option<(Reply, Place)> {
    match outcome {
        Ok(reply) if reply.len() > WHOLE_MAX => return Some((reply, place)),
        Ok(reply) => {
            count(&export.counters.answered);
            add(&export.counters.bytes_out, reply.len());
            let message = Message::Whole { link: link.id, number, left_us: 0, payload: &reply };
            link.outlet.call_bytes(message.encode(), place.unanswered.is_alone());
        }
        Err(error) => fail(export, link, number, &error, &place),
    }
    None
}

/// Makes a task that sends a reply in pieces, as the importer takes them, and is done with its call. The caller holds
/// the lock under which the task removes it.
fn send_pieces(export: &Export, link: &Arc<Link>, number: u64, reply: Reply, place: Place) -> Stage {
    count(&export.counters.answered);
    add(&export.counters.bytes_out, reply.len());
    let link = Arc::clone(link);
    let task = export.engine.runtime.spawn(async move {
        for at in pieces(reply.len()) {
            if !link.share.take(at.len()).await || link.is_over() {
                break;
            }
            let piece = &reply[at.clone()];
            link.outlet.bulk(&match at.start {
                0 => Message::Start { link: link.id, number, left_us: 0, len: reply.len() as u32, piece },
                _ => Message::Part { link: link.id, number, offset: at.start as u32, piece },
            });
        }
        drop((reply, place));
        if let Work::Calls(calls) = &link.work {
            lock(&calls.state).under_way.remove(&number);
        }
    });
    Stage::Sending(task.abort_handle())
}

/// Sends an error that a call ended with.
fn fail(export: &Export, link: &Link, number: u64, error: &wigwag::Error, place: &Place) {
    let fault = Fault::of(error);
    if !matches!(fault.kind, ErrorKind::HandlerFailed | ErrorKind::HandlerPanicked) {
        link.is_doubtful.store(true, Ordering::Release);
    }
    count(match fault.kind {
        ErrorKind::HandlerFailed | ErrorKind::HandlerPanicked => &export.counters.failed,
        kind if kind_may_be_executed(kind) => &export.counters.maybe_executed,
        _ => &export.counters.not_executed,
    });
    let message = Message::Failed { link: link.id, number, fault };
    link.outlet.call_bytes(message.encode(), place.unanswered.is_alone());
}

/// Whether a call that ended so may have been executed.
pub fn kind_may_be_executed(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::PeerDied { maybe_executed }
        | ErrorKind::TimedOut { maybe_executed }
        | ErrorKind::ServerClosed { maybe_executed } => maybe_executed,
        ErrorKind::NotRunning | ErrorKind::Refused | ErrorKind::Busy | ErrorKind::Full => false,
        _ => true,
    }
}

pub(super) fn grant(link: &Link, bytes: usize) {
    link.outlet.control(&Message::Grant { link: link.id, bytes: bytes as u32 });
}

fn deadline(left_us: u64) -> Option<Instant> {
    (left_us > 0).then(|| Instant::now().checked_add(Duration::from_micros(left_us))).flatten()
}
