//! What every party can do, whatever the history is of: waits, panics, forks, and what a director does to others.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wigwag::{Error, ErrorKind};

use super::plan::{Claim, Face, Fork, Form, History, Home, How, Party, Role, Step};
use super::stage::{PLANNED, Stage, Word};
use super::{broadcast, exchange, queue, semaphore, stream};

/// A party in the process that it lives in.
pub struct Actor {
    /// Where it all takes place.
    pub stage: Arc<Stage>,
    /// What all of them do.
    pub history: Arc<History>,
    /// Its number.
    pub me: usize,
}

/// The longest that a step waits for another's which may wait for it.
const AWAITED_MAX: Duration = Duration::from_millis(30);

impl Actor {
    /// What it is and does.
    pub fn party(&self) -> &Party {
        &self.history.parties[self.me]
    }

    /// Something is not as it must be.
    pub fn complain(&self, what: impl AsRef<str>) {
        let (me, done) = (self.me, self.stage.read(self.me, Word::Progress));
        let step = (done as usize).checked_sub(1).and_then(|index| self.party().steps.get(index));
        self.stage.complain(format!("party {me}, step {done} ({step:?}): {}", what.as_ref()));
    }

    /// It is not stuck.
    pub fn progress(&self) {
        self.stage.of(self.me, Word::Begun).fetch_add(1, Ordering::Relaxed);
    }

    /// Whether another one has begun that step, or never will.
    fn has_begun(&self, other: usize, step: usize) -> bool {
        self.stage.read(other, Word::Progress) > step as u64 || self.stage.read(other, Word::Over) != 0
    }

    /// Begins the step with that number. Those that are the same whatever the history is of are done here.
    pub fn begin(&self, index: usize) -> Option<Step> {
        self.stage.set(self.me, Word::Progress, index as u64 + 1);
        match self.party().steps[index] {
            Step::Pause(us) => std::thread::sleep(Duration::from_micros(us)),
            Step::Await(other, step) => {
                let begin = Instant::now();
                self.stage.wait_until(|| self.has_begun(other, step) || begin.elapsed() > AWAITED_MAX);
            }
            Step::AwaitSurely(other, step) => {
                // Nobody can come any more to a host that shuts down.
                let is_shut_down =
                    || self.party().role == Role::Host && self.stage.read(self.me, Word::ShutDownAt) != 0;
                self.stage.wait_until(|| self.has_begun(other, step) || is_shut_down());
            }
            Step::PanicNow => {
                // Before it is so: the others may see it at once.
                self.stage.set(self.me, Word::LeftAt, self.stage.now());
                planned()
            }
            step => return Some(step),
        }
        None
    }

    /// All steps, in their order.
    pub fn play(&self, mut step: impl FnMut(Step)) {
        for index in 0..self.party().steps.len() {
            if let Some(next) = self.begin(index) {
                step(next);
            }
        }
    }

    /// A host's serving has returned.
    pub fn served(&self, outcome: Result<(), Error>, is_over: &Cell<bool>) {
        match outcome {
            Ok(()) if self.stage.read(self.me, Word::ShutDownAt) == 0 => {
                self.complain("serving ended before a shutdown began");
            }
            Ok(()) => {
                is_over.set(true);
                self.stage.set(self.me, Word::ToldEndAt, self.stage.now());
            }
            Err(error) => self.complain(format!("serving: {error:?}")),
        }
    }

    /// Whether a host is there, or will be.
    fn may_be_served(&self) -> bool {
        let hosts = self.history.hosts();
        self.history.form == Form::Queue || hosts.iter().any(|&host| self.stage.read(host, Word::Over) == 0)
    }

    /// Connects, again and again while there may be somebody to connect to.
    pub fn connect<T>(&self, connect: impl Fn() -> wigwag::Result<T>) -> Option<T> {
        let mut found = None;
        self.stage.wait_until(|| {
            match connect() {
                Ok(connected) => found = Some(connected),
                Err(error) => match error.kind() {
                    ErrorKind::NotRunning
                    | ErrorKind::PeerDied { .. }
                    | ErrorKind::ServerClosed { .. }
                    | ErrorKind::TimedOut { .. } => return !self.may_be_served(),
                    // There is room again when somebody leaves.
                    ErrorKind::Refused if self.history.has_limits() => return !self.may_be_served(),
                    // There is a keeper again, or room there.
                    ErrorKind::Busy if self.history.has_keeper() => return !self.may_be_served(),
                    _ => self.complain(format!("connect: {error:?}")),
                },
            }
            true
        });
        found
    }

    /// All that this party does.
    pub fn act(&self) {
        let played = catch_unwind(AssertUnwindSafe(|| self.play_role()));
        if let Err(panic) = played {
            let text = text_of(&*panic);
            if !text.contains(PLANNED) {
                self.complain(format!("it panicked: {text}"));
            }
            self.stage.unregister(self.me);
        }
    }

    fn play_role(&self) {
        match (self.history.form, self.party().role) {
            (_, Role::Director) => self.direct(),
            (form, Role::Host) => {
                self.await_those_before();
                std::thread::sleep(Duration::from_micros(self.party().delay_us));
                if self.stage.cell(GUESTS_OVER).load(Ordering::SeqCst) == 0 {
                    match form {
                        Form::Exchange => exchange::host(self),
                        Form::Queue => queue::host(self),
                        Form::Stream => stream::host(self),
                        Form::Broadcast => broadcast::host(self),
                        Form::Semaphore => {}
                    }
                }
            }
            (_, Role::Keeper) => queue::keeper(self),
            (Form::Exchange, Role::Guest) => exchange::guest(self),
            (Form::Queue, Role::Guest) => queue::guest(self),
            (Form::Stream, Role::Guest) => stream::guest(self),
            (Form::Semaphore, Role::Guest) => semaphore::guest(self),
            (Form::Broadcast, Role::Guest) => broadcast::guest(self),
        }
    }

    /// A host waits until the name is its to be had.
    fn await_those_before(&self) {
        let is_over = |host: usize| self.stage.read(host, Word::Over) != 0;
        let mut before: Vec<usize> = self.history.hosts().into_iter().filter(|&host| host < self.me).collect();
        match self.party().claim {
            Claim::InTurn => {}
            Claim::Shared => before.retain(|&host| self.history.parties[host].claim != Claim::Shared),
            Claim::Replacing => {
                if let Some(former) = before.pop() {
                    self.stage.wait_until(|| self.stage.read(former, Word::Bound) != 0 || is_over(former));
                }
            }
        }
        for host in before {
            self.stage.wait_until(|| is_over(host));
        }
    }

    /// Notes that this host is about to take the name of the one before it.
    pub fn replaces(&self) {
        if self.party().claim == Claim::Replacing
            && let Some(former) = self.history.hosts().into_iter().rfind(|&host| host < self.me)
        {
            self.stage.set(former, Word::ReplacedAt, self.stage.now());
        }
    }

    fn direct(&self) {
        self.play(|step| {
            let signal = |party: usize, signal: Signal| {
                // It may have begun before this process has noted that it has started it: none is to be missed.
                let is_over = || self.stage.read(party, Word::Over) != 0;
                let is_alone = matches!(self.history.parties[party].home, Home::Process | Home::OtherUser);
                self.stage.wait_until(|| !is_alone || is_over() || self.stage.process(party).is_some());
                if let Some(process) = self.stage.process(party) {
                    if signal == Signal::KILL {
                        self.stage.set(party, Word::Dying, self.stage.now());
                        self.stage.set(party, Word::LeftAt, self.stage.now());
                    }
                    process.signal(signal);
                }
            };
            match step {
                Step::Kill(party) => signal(party, Signal::KILL),
                Step::Stop(party) => signal(party, Signal::STOP),
                Step::Continue(party) => signal(party, Signal::CONT),
                Step::ShutDown(party) => {
                    let begin = Instant::now();
                    let is_there = || self.stage.read(party, Word::Bound) != 0 || self.has_begun(party, usize::MAX - 1);
                    self.stage.wait_until(|| is_there() || begin.elapsed() > AWAITED_MAX);
                    self.stage.shut_down(party);
                }
                _ => {}
            }
        });
    }
}

/// The cell that says that no guest is left.
pub const GUESTS_OVER: usize = 6143;

/// The cell that says that the last receiver of a queue has taken all there was.
pub const COLLECTED: usize = 6142;

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

/// A panic that belongs to the history.
pub fn planned() -> ! {
    panic!("{PLANNED} panic")
}

/// Catches a panic that belongs to the history; another one goes on.
pub fn catch_planned(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run))
        && !text_of(&*panic).contains(PLANNED)
    {
        std::panic::resume_unwind(panic);
    }
}

/// The runtime of a face.
pub fn runtime(face: Face) -> tokio::runtime::Runtime {
    let mut builder = match face {
        Face::TasksOnThreads => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

/// How long a handshake may take: longer than any watchdog waits, as a server may be stopped meanwhile.
pub const TIME_LIMIT: Duration = Duration::from_secs(600);

/// How long a guest waits for its host: as long as it takes, if one comes that stays. Otherwise not at all, as a host
/// that is gone may have no successor.
pub fn patience(party: &Party) -> Duration {
    if party.is_patient { TIME_LIMIT } else { Duration::ZERO }
}

/// Polls a future once and drops it.
pub fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// Waits for a future in one of the ways; `None`: it was not ready, and is dropped.
pub async fn within<T>(how: How, future: impl Future<Output = T>) -> Option<T> {
    match how {
        How::Forever => Some(future.await),
        How::Try | How::PolledOnce => poll_once(future),
        How::For(us) => tokio::time::timeout(Duration::from_micros(us), future).await.ok(),
    }
}

/// Forks; the child does something with what it has inherited, and ends. `call` must be told that it cannot.
pub fn forked<T>(actor: &Actor, fork: Fork, handle: &T, call: impl FnOnce(T) -> Result<(), String>) {
    // SAFETY: the child calls the library, which promises that this is refused, and ends without unwinding into this
    // stack.
    match unsafe { libc::fork() } {
        -1 => {}
        0 => {
            // SAFETY: an alarm ends a child that hangs.
            unsafe { libc::alarm(20) };
            // SAFETY: the child ends before anybody looks at the original again.
            let inherited = std::mem::ManuallyDrop::new(unsafe { std::ptr::read(handle) });
            let done = catch_unwind(AssertUnwindSafe(|| match fork {
                Fork::Call => call(std::mem::ManuallyDrop::into_inner(inherited)),
                Fork::Drop => {
                    drop(std::mem::ManuallyDrop::into_inner(inherited));
                    Ok(())
                }
                Fork::End => Ok(()),
            }));
            let outcome = done.unwrap_or_else(|_| Err("a forked child panicked".to_owned()));
            let code = match outcome {
                Ok(()) => 0,
                Err(why) => {
                    actor.complain(why);
                    1
                }
            };
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `child` is ours, and `status` is a place for an int.
            unsafe { libc::waitpid(child, &mut status, 0) };
            if libc::WIFSIGNALED(status) {
                let signal = libc::WTERMSIG(status);
                actor.complain(format!("a forked child that shall {fork:?} was ended by signal {signal}"));
            }
        }
    }
}
