//! How a task's calls go on at their server's successor. What may be passed once more, [`crate::exchange::carrying`]
//! says.
//!
//! Sessions are shared, so a former one goes with the last loan, call or reply that lies in it. Of the tasks whose
//! server has ended, one looks for the next, and the others wait for what it finds.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as TurnInLine;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::caller::Caller;
use crate::exchange::carrying::{ENDING_TIME, Fate, is_end, too_small};
use crate::exchange::tokio::session::Session;
use crate::options::ConnectOptions;
use crate::session::connect::ClientHandshake;
use crate::session::connect_async::shake_hands;
use crate::stats::ClientStats;
use crate::sync;
use crate::sys::async_fd::watch;
use crate::sys::clock;
use crate::sys::epoll::{Interest, Poller};
use crate::sys::fork::ForkGuard;
use crate::sys::process;
use crate::sys::timerfd::Timer;
use crate::wait::readiness::poll_ring;

/// The sessions of a client that outlives its servers, one after the other.
pub struct Succession {
    state: Mutex<State>,
    name: OsString,
    options: ConnectOptions,
    /// Whoever looks for a server has it.
    search: TurnInLine<()>,
    fork: ForkGuard,
}

struct State {
    current: Arc<Session>,
    /// What was counted in the former ones, and of all.
    counted: ClientStats,
    /// How many searches have found nothing, and why the last one did.
    failures: u64,
    why: String,
}

/// The sessions of a client: one that ends with its server, or the newest of those that the client has had.
#[derive(Clone)]
pub enum Sessions {
    One(Arc<Session>),
    Outliving(Arc<Succession>),
}

impl Sessions {
    /// Of a client that has just connected.
    pub fn new(first: Arc<Session>, name: &OsStr, options: &ConnectOptions) -> Sessions {
        if !options.restarts.are_outlived() {
            return Sessions::One(first);
        }
        Sessions::Outliving(Arc::new(Succession {
            state: Mutex::new(State {
                current: first,
                counted: ClientStats::default(),
                failures: 0,
                why: String::new(),
            }),
            name: name.to_owned(),
            options: options.clone(),
            search: TurnInLine::new(()),
            fork: ForkGuard::new(),
        }))
    }

    /// The session that new calls go to.
    pub fn current(&self) -> Result<Arc<Session>> {
        match self {
            Sessions::One(session) => Ok(Arc::clone(session)),
            Sessions::Outliving(succession) => succession.current(),
        }
    }

    /// If the client outlives its servers.
    pub fn succession(&self) -> Option<&Arc<Succession>> {
        match self {
            Sessions::One(_) => None,
            Sessions::Outliving(succession) => Some(succession),
        }
    }

    /// Whether this is a forked child, where no lock is taken.
    pub fn is_forked(&self) -> bool {
        match self {
            Sessions::One(session) => session.is_forked(),
            Sessions::Outliving(succession) => succession.fork.is_forked(),
        }
    }

    /// What has happened in all of them.
    pub fn stats(&self) -> ClientStats {
        match self {
            Sessions::One(session) => session.with_caller(Caller::stats),
            Sessions::Outliving(succession) => succession.stats(),
        }
    }
}

/// Where a call that was passed on lies.
pub struct Moved {
    pub session: Arc<Session>,
    pub slot: usize,
}

/// A call that is being passed on: a future that can be asked by one task at a time.
pub struct Moving(Mutex<Pin<Box<dyn Future<Output = Result<Moved>> + Send>>>);

impl Moving {
    /// The steps of a move.
    pub fn new(steps: impl Future<Output = Result<Moved>> + Send + 'static) -> Moving {
        Moving(Mutex::new(Box::pin(steps)))
    }

    /// Goes on.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Moved>> {
        sync::get_mut(&mut self.0).as_mut().poll(context)
    }
}

impl Succession {
    /// Whether calls that were passed go on at a successor.
    pub fn passes_again(&self) -> bool {
        self.options.restarts.are_followed()
    }

    /// The session that new calls go to.
    fn current(&self) -> Result<Arc<Session>> {
        self.check_fork()?;
        Ok(Arc::clone(&self.lock().current))
    }

    fn stats(&self) -> ClientStats {
        let Ok(current) = self.current() else { return ClientStats::default() };
        let now = current.with_caller(Caller::stats);
        ClientStats { in_flight: now.in_flight, ..self.lock().counted.and(now) }
    }

    /// A session with a server that lives as far as is known: the current one, or one that is made now. Dropping the
    /// future ends its search; another task that waits begins one.
    ///
    /// # Errors
    /// Why no session was made within the time for that, or never will be.
    pub async fn successor(&self) -> Result<Arc<Session>> {
        self.check_fork()?;
        let failures = self.lock().failures;
        let _turn = self.search.lock().await;
        let current = self.current()?;
        match current.with_caller(|caller| caller.connection.check_alive(false)) {
            Ok(()) => return Ok(current),
            Err(error) if error.kind() == ErrorKind::Violation => return Err(error),
            Err(_) => {}
        }
        {
            let state = self.lock();
            if state.failures != failures {
                // Somebody has looked for as long as this task would, and while it waited.
                return Err(Error::new(ErrorKind::NotRunning, state.why.clone()));
            }
        }
        match self.search().await {
            Ok(session) => {
                let mut state = self.lock();
                let former = std::mem::replace(&mut state.current, Arc::clone(&session));
                state.counted.reconnects += 1;
                drop(state);
                let counted = former.with_caller(Caller::stats);
                let mut state = self.lock();
                state.counted = state.counted.and(counted);
                Ok(session)
            }
            Err(error) => {
                let mut state = self.lock();
                state.failures += 1;
                state.why = error.to_string();
                Err(error)
            }
        }
    }

    async fn search(&self) -> Result<Arc<Session>> {
        let established = shake_hands(ClientHandshake::for_successor(&self.name, &self.options)?).await?;
        Session::new(Caller::new(established, self.options.wait))
    }

    /// Passes a call on that was passed to a server which has ended, with this error; an error if it cannot be, by
    /// which it is still to be given up.
    pub async fn follow(self: Arc<Self>, old: Arc<Session>, slot: usize, len: usize, error: Error) -> Result<Moved> {
        self.check_fork()?;
        let mut fate = old.with_caller(|caller| caller.fate(slot));
        if fate == Fate::Undecided && self.has_process_ended(&old).await? {
            fate = old.with_caller(|caller| caller.fate(slot));
        }
        match fate {
            Fate::Answered => return Ok(Moved { session: old, slot }),
            Fate::NotBegun => {}
            Fate::Over => return Err(error),
            Fate::Undecided => {
                let fate = "its process has not ended since, so that the request may be executed still";
                return Err(old.with_caller(|caller| caller.connection.end_told(true, fate)));
            }
        }
        let told = old.with_caller(|caller| caller.told_deadline(slot));
        let write = |bytes: &mut [u8]| old.with_caller(|caller| caller.copy_call(slot, bytes));
        let unsent = |why: &str| old.with_caller(|caller| caller.not_moved(why));
        let moved = self.pass_on(len, told, write, unsent, false).await?;
        self.lock().counted.moved += 1;
        old.with_caller(|caller| caller.leave(slot));
        Ok(moved)
    }

    /// Passes a payload of `len` bytes, which `write` writes, to the server that there is now. `unsent` is the error if
    /// that is impossible, for a reason. Nothing is awaited once it is passed.
    pub async fn pass_on(
        &self,
        len: usize,
        told: Option<Instant>,
        write: impl Fn(&mut [u8]),
        unsent: impl Fn(&str) -> Error,
        is_counted: bool,
    ) -> Result<Moved> {
        loop {
            let session = match self.successor().await {
                Ok(session) => session,
                Err(why) if matches!(why.kind(), ErrorKind::Violation | ErrorKind::Forked) => return Err(why),
                Err(why) => return Err(unsent(&why.to_string())),
            };
            let capacity = session.with_caller(Caller::capacity);
            if len > capacity {
                return Err(too_small(len, capacity));
            }
            let mut loan = match session.take_slot(len).await {
                Ok(loan) => loan,
                Err(why) if is_end(&why) => continue, // this one has ended, too
                Err(why) => return Err(why),
            };
            write(&mut loan);
            let slot = loan.slot();
            match session.send(&loan, told, is_counted) {
                Ok(()) => return Ok(Moved { session, slot }),
                Err(why) => {
                    session.release(slot);
                    if !is_end(&why) {
                        return Err(why);
                    }
                }
            }
        }
    }

    /// Whether the process of a server that has hung up has ended; the socket goes moments before.
    async fn has_process_ended(&self, session: &Session) -> Result<bool> {
        let time = self.options.restarts.time().0.min(ENDING_TIME);
        let copied = session.with_caller(|caller| caller.connection.server_process().map(|pidfd| pidfd.try_clone()));
        match copied {
            Some(Ok(pidfd)) => ended(pidfd, time).await,
            Some(Err(error)) => Err(Error::io("copy a descriptor for the reactor", error)),
            None => Ok(false),
        }
    }

    fn check_fork(&self) -> Result<()> {
        if self.fork.is_forked() { Err(Error::forked()) } else { Ok(()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        sync::lock(&self.state)
    }
}

/// Whether a process ends within a time.
async fn ended(pidfd: std::os::fd::OwnedFd, time: Duration) -> Result<bool> {
    const KEY_PIDFD: u64 = 0;
    const KEY_TIMER: u64 = 1;
    let latest = clock::deadline_after(time);
    let (poller, timer) = (Poller::new()?, Timer::new()?);
    poller.add(&pidfd, KEY_PIDFD, Interest::Readable)?;
    poller.add(&timer, KEY_TIMER, Interest::Readable)?;
    timer.set(latest);
    let copied = poller.as_fd().try_clone_to_owned();
    let watched = watch(copied.map_err(|error| Error::io("copy a descriptor for the reactor", error))?)?;
    std::future::poll_fn(|context| {
        loop {
            let now = Instant::now();
            if process::has_ended(&pidfd, Some(now)) {
                return Poll::Ready(Ok(true));
            }
            if latest.is_some_and(|latest| latest <= now) {
                return Poll::Ready(Ok(false));
            }
            if let Err(error) = ready!(poll_ring(&watched, context)) {
                return Poll::Ready(Err(Error::io("wait for the end of the server's process", error)));
            }
        }
    })
    .await
}
