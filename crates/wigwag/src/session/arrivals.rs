//! Descriptors that have come from a peer, until they are taken or closed.
//!
//! They take room in this process, which all its sessions share, and may take as long to close as the peer chose.
//! [`Arrivals`] bounds both, and has a background job close what nobody takes.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::session::background::Background;
use crate::session::process_count::{ProcessCount, share_of_process};
use crate::sync;

/// Most descriptors of one session that wait to be closed, but no more than half of what all sessions may have: from
/// there on what comes is not kept, and a server attaches nothing. With half as many more the session is over if one
/// close takes longer than [`CLOSE_PATIENCE`]: the thread that closes gives way to all others, so many may wait.
const CLOSING_MAX: usize = 1024;
/// How long a close may take that others wait for.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// A session is over in any case when more wait than all sessions together may have, or than these.
const CLOSING_FLOOD: usize = 256;

/// What has come from peers and is in this library's hands, or waits to be closed.
static ARRIVED: ProcessCount = ProcessCount::new();

/// What one session's peer has sent and is in this library's hands: in the inbox, in requests whose handler has not
/// taken it, or on its way to be closed. One background job at a time closes it, so a session whose descriptors take
/// long to close holds up one thread.
#[derive(Debug)]
pub struct Arrivals {
    user: u32,
    /// Most that lie in the inbox and in requests.
    most: usize,
    background: Arc<Background>,
    /// Held for no close and no wait.
    state: Mutex<Arrived>,
}

#[derive(Debug, Default)]
struct Arrived {
    in_hand: usize,
    /// Those that wait for their close to end.
    closing: usize,
    /// Of these, those that wait for it to begin.
    waiting: Vec<OwnedFd>,
    has_job: bool,
    /// When the close that is under way began.
    closes_since: Option<Instant>,
    /// Whether the session is over for that: what it has left here counts no more against others.
    is_given_up: bool,
}

/// Why descriptors that were sent did not arrive. It reads on from the one who has lost them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The kernel has dropped some, because this process may have no more.
    Cut,
    /// So many of this session are in hand.
    Session(usize),
    /// So many of this session wait to be closed.
    Closing(usize),
    /// All sessions of this process have so many.
    Process(usize),
}

impl fmt::Display for Loss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Cut => write!(out, "has as many descriptors as it may have (`ulimit -n`)"),
            Loss::Session(most) => write!(out, "has of this session {most} descriptors that no handler has taken yet"),
            Loss::Closing(most) => write!(out, "is closing {most} descriptors of this session, which takes long"),
            Loss::Process(most) => {
                write!(out, "has {most} descriptors that came and were not taken, a quarter of its `ulimit -n`")
            }
        }
    }
}

impl Arrivals {
    /// Of a session with a process of that user; none so far.
    pub fn new(user: u32, most: usize, background: &Arc<Background>) -> Arc<Arrivals> {
        Arc::new(Arrivals { user, most, background: Arc::clone(background), state: Mutex::default() })
    }

    fn closing_max() -> usize {
        CLOSING_MAX.min(share_of_process() / 2)
    }

    /// Some have come and are in hand; unless they are too many.
    pub fn admit(&self, count: usize) -> std::result::Result<(), Loss> {
        let mut state = sync::lock(&self.state);
        if state.in_hand + count > self.most {
            return Err(Loss::Session(self.most));
        }
        self.check_closing(&state)?;
        let share = share_of_process();
        if !ARRIVED.add(count, share) {
            return Err(Loss::Process(share));
        }
        state.in_hand += count;
        Ok(())
    }

    fn check_closing(&self, state: &Arrived) -> std::result::Result<(), Loss> {
        match state.closing {
            0 => Ok(()), // as nearly always: the limit is not asked for
            closing if closing > Arrivals::closing_max() => Err(Loss::Closing(closing)),
            _ => Ok(()),
        }
    }

    /// How the peer has gone on to send what takes long to close, if it has.
    pub fn fault(&self) -> Option<String> {
        let mut state = sync::lock(&self.state);
        let closing = state.closing;
        if closing == 0 {
            return None; // as nearly always: the limit is not asked for
        }
        let most = Arrivals::closing_max();
        if closing <= most + most / 2 {
            return None;
        }
        let is_held_up = state.closes_since.is_some_and(|since| since.elapsed() > CLOSE_PATIENCE);
        if !is_held_up && closing <= share_of_process().max(CLOSING_FLOOD) {
            return None;
        }
        if !std::mem::replace(&mut state.is_given_up, true) {
            ARRIVED.sub(closing);
        }
        Some(format!("{closing} descriptors that it sent wait to be closed, which takes long"))
    }

    /// Whoever asked for them has them.
    fn let_go(&self, counted: usize) {
        if counted > 0 && !self.background.is_forked() {
            sync::lock(&self.state).in_hand -= counted;
            ARRIVED.sub(counted);
        }
    }

    /// Has some closed, of which so many are counted as in hand. In a forked child they are closed here and now.
    pub fn close(self: &Arc<Arrivals>, descriptors: Vec<OwnedFd>, counted: usize) {
        if descriptors.is_empty() && counted == 0 || self.background.is_forked() {
            return;
        }
        let has_job = {
            let mut state = sync::lock(&self.state);
            state.in_hand -= counted;
            ARRIVED.sub(counted);
            if !state.is_given_up {
                ARRIVED.add(descriptors.len(), usize::MAX);
            }
            state.closing += descriptors.len();
            state.waiting.extend(descriptors);
            state.waiting.is_empty() || std::mem::replace(&mut state.has_job, true)
        };
        if !has_job {
            self.make_job();
        }
    }

    fn make_job(self: &Arc<Arrivals>) {
        let arrivals = Arc::clone(self);
        self.background.run(self.user, move || arrivals.close_some());
    }

    /// Others have their turn between two such jobs.
    fn close_some(self: &Arc<Arrivals>) {
        let batch = std::mem::take(&mut sync::lock(&self.state).waiting); // the lock is let go of here
        for descriptor in batch {
            sync::lock(&self.state).closes_since = Some(Instant::now());
            drop(descriptor);
            let mut state = sync::lock(&self.state);
            state.closing -= 1;
            state.closes_since = None;
            if !state.is_given_up {
                ARRIVED.sub(1);
            }
        }
        let has_more = {
            let mut state = sync::lock(&self.state);
            state.has_job = !state.waiting.is_empty();
            state.has_job
        };
        if has_more {
            self.make_job();
        }
    }
}

/// Descriptors that a peer has sent, or that go to it. Those that nobody takes are closed by background job.
#[derive(Debug)]
pub struct PeerDescriptors {
    descriptors: Vec<OwnedFd>,
    /// How many of them are counted as in hand: those that have come.
    counted: usize,
    arrivals: Arc<Arrivals>,
}

impl PeerDescriptors {
    /// None so far.
    pub fn none(arrivals: &Arc<Arrivals>) -> PeerDescriptors {
        PeerDescriptors { descriptors: Vec::new(), counted: 0, arrivals: Arc::clone(arrivals) }
    }

    /// Those that have just come and were [admitted](Arrivals::admit).
    pub fn admitted(descriptors: Vec<OwnedFd>, arrivals: &Arc<Arrivals>) -> PeerDescriptors {
        PeerDescriptors { counted: descriptors.len(), descriptors, arrivals: Arc::clone(arrivals) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// One more, of this process.
    pub fn push(&mut self, descriptor: OwnedFd) {
        self.descriptors.push(descriptor);
    }

    /// Whether one more may be closed here, some time.
    ///
    /// # Errors
    /// [`Full`](ErrorKind::Full).
    pub fn check_closing(&self) -> Result<()> {
        let checked = self.arrivals.check_closing(&sync::lock(&self.arrivals.state));
        checked.map_err(|loss| Error::new(ErrorKind::Full, format!("this process {loss}: attach one later")))
    }

    /// A duplicate of each, for who asked for them: what has come stays here, to be handed out again.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io): this process has as many as it may have.
    pub fn duplicates(&self) -> Result<Vec<OwnedFd>> {
        let duplicates = self.descriptors.iter().map(OwnedFd::try_clone);
        duplicates
            .collect::<std::io::Result<_>>()
            .map_err(|error| Error::io("duplicate the descriptors that came", error))
    }

    /// To be sent on.
    pub fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd).collect()
    }

    /// All of them, for who asked for them.
    pub fn take(&mut self) -> Vec<OwnedFd> {
        self.arrivals.let_go(std::mem::take(&mut self.counted));
        std::mem::take(&mut self.descriptors)
    }
}

impl Drop for PeerDescriptors {
    fn drop(&mut self) {
        self.arrivals.close(std::mem::take(&mut self.descriptors), self.counted);
    }
}
