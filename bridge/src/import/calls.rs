//! Calls of this machine's programs: each is put once, and answered once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use wigwag::tokio::Server;
use wigwag::{ErrorKind, Request};

use crate::export::{kind_may_be_executed, lock};
use crate::fault::Fault;
use crate::import::Import;
use crate::import::link::Link;
use crate::outlet::pieces;
use crate::status::{add, count};
use crate::wire::{Message, WHOLE_MAX};

/// After so long without an answer the exporter is asked whether it has the call, and then again.
const ASK: Duration = Duration::from_secs(5);

/// The calls of one link.
#[derive(Default)]
pub struct Calls {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_lost: bool,
    last: u64,
    under_way: HashMap<u64, Call>,
}

struct Call {
    stage: Stage,
    asked: Instant,
    /// Comes back to the link with the answer.
    _credit: OwnedSemaphorePermit,
    /// So does this, of one that has a batch of zenoh's queue to itself.
    _alone: Option<OwnedSemaphorePermit>,
}

enum Stage {
    /// Its pieces are being put, by a task that has the request. `fault`: an answer that came before the end.
    Putting { fault: Option<Fault> },
    /// It waits for its answer.
    Waiting(Request),
    /// The pieces of its reply come.
    Taking { request: Request, taken: usize, last: Instant },
    /// Its caller has given it up, and the exporter was told. The credit waits for the answer.
    GivenUp,
}

/// A rule of the protocol that a message breaks.
type Broken = &'static str;

/// Serves the local name until it is shut down.
pub async fn serve(import: Arc<Import>, mut server: Server) {
    let mut current = import.current.subscribe();
    while let Ok(request) = server.recv().await {
        let mut request = Some(request);
        while let Some(waiting) = request.take() {
            let link = current.borrow_and_update().clone();
            let Some(link) = link else {
                let why = lock(&import.state).sentence.clone();
                answer(&import, waiting, &Fault::new(ErrorKind::NotRunning, format!("nothing was sent: {why}")));
                continue;
            };
            // What has no credit stays where it is, and all that comes behind it in its callers' slots.
            let credit = match Arc::clone(&link.credits).try_acquire_owned() {
                Ok(credit) => Some(credit),
                Err(_) => tokio::select! {
                    credit = Arc::clone(&link.credits).acquire_owned() => credit.ok(),
                    _ = current.changed() => None,
                },
            };
            request = match credit {
                Some(credit) => put(&import, &link, waiting, credit),
                None => Some(waiting),
            };
        }
    }
    // The requests lie in the server's sessions: it stays until they are answered.
    while import.under_way() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Puts a request, if anybody waits for it and the link is there. It comes back if it is not.
fn put(import: &Arc<Import>, link: &Arc<Link>, request: Request, credit: OwnedSemaphorePermit) -> Option<Request> {
    if request.is_abandoned() {
        count(&import.counters.given_up);
        return None;
    }
    let left_us = match left_us(link, &request) {
        Ok(left_us) => left_us,
        Err(fault) => {
            answer(import, request, &fault);
            return None;
        }
    };
    add(&import.counters.bytes_out, request.len());
    let (message, is_alone) = {
        let mut state = lock(&link.calls.state);
        if state.is_lost || link.is_closed() {
            return Some(request);
        }
        let number = state.next();
        if request.len() > WHOLE_MAX {
            state.insert(number, Stage::Putting { fault: None }, credit, None);
            tokio::spawn(put_pieces(Arc::clone(import), Arc::clone(link), request, number, left_us));
            return None;
        }
        let message = Message::Whole { link: link.id, number, left_us, payload: &request }.encode();
        let alone = link.share.alone();
        let is_alone = alone.is_some();
        state.insert(number, Stage::Waiting(request), credit, alone);
        (message, is_alone)
    };
    // From here on it counts as sent: the answer may come before this returns.
    link.outlet.call_bytes(message, is_alone);
    count(&import.counters.sent);
    None
}

/// Microseconds that the caller waits when the request arrives, 0 for ever.
fn left_us(link: &Link, request: &Request) -> Result<u64, Fault> {
    let Some(deadline) = request.deadline() else { return Ok(0) };
    let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(link.way());
    match left.as_micros() {
        0 => {
            let kind = ErrorKind::TimedOut { maybe_executed: false };
            Err(Fault::new(kind, "the time allowed was over before the request could be sent to the other machine"))
        }
        left => Ok(u64::try_from(left).unwrap_or(u64::MAX)),
    }
}

/// Puts a large request, as the far bridge takes its pieces.
async fn put_pieces(import: Arc<Import>, link: Arc<Link>, request: Request, number: u64, left_us: u64) {
    let lost = || Fault::new(ErrorKind::NotRunning, "nothing was sent: the link to the exporting bridge was lost");
    let since = Instant::now();
    let mut has_begun = false;
    let len = request.len();
    let mut request = Some(request);
    for at in pieces(len) {
        let has_room = link.share.take(at.len()).await;
        let Some(held) = &request else { return };
        if held.is_abandoned() {
            return link.calls.give_up(&link, number, has_begun);
        }
        let piece = &held[at.clone()];
        // The time that the first piece waited for room is spent.
        let left_us = match left_us {
            0 => 0,
            left => left.saturating_sub(since.elapsed().as_micros() as u64).max(1),
        };
        let message = match at.start {
            0 => Message::Start { link: link.id, number, left_us, len: len as u32, piece },
            _ => Message::Part { link: link.id, number, offset: at.start as u32, piece },
        };
        let message = message.encode();
        let fault = {
            let mut state = lock(&link.calls.state);
            match state.under_way.get_mut(&number) {
                Some(Call { stage: Stage::Putting { fault: early @ Some(_) }, .. }) => early.take(),
                Some(call) if has_room => {
                    call.asked = Instant::now();
                    // The answer may come as soon as the last piece is put.
                    if at.end == len {
                        request.take().into_iter().for_each(|request| call.stage = Stage::Waiting(request));
                    }
                    None
                }
                _ if has_begun => Some(maybe("the link was lost while the request was sent")),
                _ => Some(lost()),
            }
        };
        if let Some(fault) = fault {
            lock(&link.calls.state).under_way.remove(&number);
            request.into_iter().for_each(|request| answer(&import, request, &fault));
            return;
        }
        if !std::mem::replace(&mut has_begun, true) {
            count(&import.counters.sent);
        }
        link.outlet.bulk_bytes(message);
    }
}

/// What is told of a call whose fate is not known.
fn maybe(why: &str) -> Fault {
    Fault::new(ErrorKind::PeerDied { maybe_executed: true }, format!("it may have been executed: {why}"))
}

/// Tells a caller that there is no reply.
fn answer(import: &Import, request: Request, fault: &Fault) {
    count(match fault.kind {
        ErrorKind::HandlerFailed | ErrorKind::HandlerPanicked => &import.counters.failed,
        kind if kind_may_be_executed(kind) => &import.counters.maybe_executed,
        _ => &import.counters.not_executed,
    });
    request.fail_as(&fault.to_error());
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn insert(&mut self, number: u64, stage: Stage, credit: OwnedSemaphorePermit, alone: Option<OwnedSemaphorePermit>) {
        self.under_way.insert(number, Call { stage, asked: Instant::now(), _credit: credit, _alone: alone });
    }
}

impl Calls {
    /// How many are under way.
    pub fn under_way(&self) -> usize {
        lock(&self.state).under_way.len()
    }

    /// Whether the link is lost.
    pub fn are_lost(&self) -> bool {
        lock(&self.state).is_lost
    }

    /// A reply as a whole.
    pub fn reply(&self, link: &Link, number: u64, payload: &[u8]) -> Result<(), Broken> {
        let call = self.take(link, number)?;
        let (Some(Call { stage: Stage::Waiting(mut request), .. }), Some(import)) = (call, link.import()) else {
            return Ok(());
        };
        match request.set_reply(payload) {
            Ok(()) => replied(&import, request),
            Err(error) => too_large(&import, request, payload.len(), &error),
        }
        Ok(())
    }

    /// Takes a call that waits out, to be answered. `None`: it is over.
    fn take(&self, link: &Link, number: u64) -> Result<Option<Call>, Broken> {
        let mut state = lock(&self.state);
        match state.under_way.get(&number).map(|call| &call.stage) {
            Some(Stage::Waiting(_)) => Ok(state.under_way.remove(&number)),
            Some(Stage::GivenUp) => {
                state.under_way.remove(&number);
                Ok(None)
            }
            Some(Stage::Putting { .. }) => Err("a reply to a request that was not sent to its end"),
            Some(Stage::Taking { .. }) => Err("a second reply to a request"),
            None => {
                if let Some(import) = link.import() {
                    count(&import.counters.late);
                }
                Ok(None)
            }
        }
    }

    /// The beginning of a reply that comes in pieces: straight into the caller's memory.
    pub fn start(&self, link: &Link, number: u64, len: usize, piece: &[u8]) -> Result<(), Broken> {
        grant(link, piece.len());
        if piece.is_empty() || piece.len() > len {
            return Err("a reply's first piece is not of its length");
        }
        let Some(import) = link.import() else { return Ok(()) };
        // Of what was given up the pieces still come: the credit is back with the first of them.
        let Some(mut call) = self.take(link, number)? else { return Ok(()) };
        let Stage::Waiting(mut request) = call.stage else { return Ok(()) };
        if let Err(error) = request.resize(len) {
            too_large(&import, request, len, &error);
            return Ok(());
        }
        request[..piece.len()].copy_from_slice(piece);
        if piece.len() == len {
            replied(&import, request);
            return Ok(());
        }
        call.stage = Stage::Taking { request, taken: piece.len(), last: Instant::now() };
        lock(&self.state).under_way.insert(number, call);
        Ok(())
    }

    /// The next piece of a reply.
    pub fn part(&self, link: &Link, number: u64, offset: usize, piece: &[u8]) -> Result<(), Broken> {
        grant(link, piece.len());
        let mut state = lock(&self.state);
        let Some(Stage::Taking { request, taken, last }) = state.under_way.get_mut(&number).map(|call| &mut call.stage)
        else {
            return Ok(()); // of a call that is over
        };
        if offset != *taken || piece.is_empty() || piece.len() > request.len() - offset {
            return Err("a piece of a reply does not continue the one before");
        }
        request[offset..offset + piece.len()].copy_from_slice(piece);
        *taken += piece.len();
        *last = Instant::now();
        if *taken < request.len() {
            return Ok(());
        }
        let call = state.under_way.remove(&number);
        drop(state);
        if let (Some(Call { stage: Stage::Taking { request, .. }, .. }), Some(import)) = (call, link.import()) {
            replied(&import, request);
        }
        Ok(())
    }

    /// The exporter's answer that there is no reply.
    pub fn failed(&self, link: &Link, number: u64, fault: Fault) {
        let Some(import) = link.import() else { return };
        let mut state = lock(&self.state);
        match state.under_way.get_mut(&number).map(|call| &mut call.stage) {
            None => return count(&import.counters.late),
            Some(Stage::Putting { fault: early }) => {
                early.get_or_insert(fault);
                return;
            }
            Some(_) => {}
        }
        let call = state.under_way.remove(&number);
        drop(state);
        if let Some(Call { stage: Stage::Waiting(request) | Stage::Taking { request, .. }, .. }) = call {
            answer(&import, request, &fault);
        }
    }

    /// A caller gave up while its request was put.
    fn give_up(&self, link: &Link, number: u64, has_begun: bool) {
        let mut state = lock(&self.state);
        let Some(import) = link.import() else { return };
        count(&import.counters.given_up);
        let Some(call) = state.under_way.get_mut(&number) else { return };
        if !has_begun || matches!(call.stage, Stage::Putting { fault: Some(_) }) {
            state.under_way.remove(&number);
            return;
        }
        call.stage = Stage::GivenUp;
        drop(state);
        link.outlet.bulk(&Message::Cancel { link: link.id, number });
    }

    /// Tells the exporter of calls that nobody waits for, and asks for those that take long.
    pub fn look_after(&self, link: &Arc<Link>, limit: Duration) {
        let (mut cancelled, mut asked, mut has_stalled) = (Vec::new(), Vec::new(), false);
        {
            let mut state = lock(&self.state);
            for (number, call) in &mut state.under_way {
                match &call.stage {
                    Stage::Waiting(request) | Stage::Taking { request, .. } if request.is_abandoned() => {
                        cancelled.push((*number, std::mem::replace(&mut call.stage, Stage::GivenUp)));
                    }
                    Stage::Taking { last, .. } => has_stalled |= last.elapsed() > limit,
                    Stage::Waiting(_) | Stage::GivenUp if call.asked.elapsed() > ASK => {
                        call.asked = Instant::now();
                        asked.push(*number);
                    }
                    _ => {}
                }
            }
        }
        if let (false, Some(import)) = (cancelled.is_empty(), link.import()) {
            add(&import.counters.given_up, cancelled.len());
        }
        for (number, _) in &cancelled {
            link.outlet.data(&Message::Cancel { link: link.id, number: *number });
        }
        for number in asked {
            link.outlet.data(&Message::Ask { link: link.id, number });
        }
        if has_stalled {
            link.violated("the pieces of a reply stopped coming");
        }
    }

    /// Ends all of them: each of them may have been executed. `false`: they were ended before.
    pub fn lose(&self, link: &Link, why: &str) -> bool {
        let calls = {
            let mut state = lock(&self.state);
            if std::mem::replace(&mut state.is_lost, true) {
                return false;
            }
            std::mem::take(&mut state.under_way)
        };
        let Some(import) = link.import() else { return true };
        for call in calls.into_values() {
            // Those that are being put find out, and know whether anything was.
            if let Stage::Waiting(request) | Stage::Taking { request, .. } = call.stage {
                answer(&import, request, &maybe(why));
            }
        }
        true
    }
}

fn replied(import: &Import, request: Request) {
    count(&import.counters.answered);
    add(&import.counters.bytes_in, request.len());
    request.reply();
}

/// The request was executed, and the caller's memory has no room for the reply.
fn too_large(import: &Import, request: Request, len: usize, error: &wigwag::Error) {
    let text = format!("the request was executed, but its reply of {len} bytes does not fit: {error}");
    answer(import, request, &Fault::new(ErrorKind::HandlerFailed, text));
}

fn grant(link: &Link, bytes: usize) {
    link.outlet.control(&Message::Grant { link: link.id, bytes: bytes as u32 });
}
