//! How the calls of a client that never waits go on at their server's successor. What may be passed once more,
//! [`crate::exchange::carrying`] says.
//!
//! No step here waits: each goes on as far as it can, and what the next one waits for is told to a [`Readiness`]. One
//! search serves all who wait. Whoever takes a step takes it for all, and rings for the others when it led on.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::caller::Caller;
use crate::exchange::carrying::ENDING_TIME;
use crate::exchange::owned_loan::OwnedLoan;
use crate::exchange::polled::session::Session;
use crate::options::ConnectOptions;
use crate::session::connect::{ClientHandshake, Progress};
use crate::stats::ClientStats;
use crate::sync;
use crate::sys::clock;
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::timerfd::Timer;
use crate::wait::edge_readiness::{Readiness, ToldForNow};

/// The sessions of a client: one that ends with its server, or the newest of those that the client has had.
#[derive(Clone)]
pub enum Sessions {
    One(Arc<Session>),
    Outliving(Arc<Succession>),
}

impl Sessions {
    /// Of a client that has just connected.
    pub fn new(first: Arc<Session>, name: &OsStr, options: &ConnectOptions) -> Result<Sessions> {
        if !options.restarts.are_outlived() {
            return Ok(Sessions::One(first));
        }
        Ok(Sessions::Outliving(Arc::new(Succession {
            state: Mutex::new(State {
                current: first,
                counted: ClientStats::default(),
                generation: 0,
                search: None,
                endings: Vec::new(),
                failures: 0,
                why: String::new(),
                is_closed: false,
            }),
            name: name.to_owned(),
            options: options.clone(),
            changed: Bell::new()?,
            fork: ForkGuard::new(),
        })))
    }

    /// The session that new calls go to.
    pub fn current(&self) -> Result<Arc<Session>> {
        match self {
            Sessions::One(session) => session.check_fork().map(|()| Arc::clone(session)),
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

    /// What has happened in all of them; nothing, in a forked child.
    pub fn stats(&self) -> ClientStats {
        let Ok(current) = self.current() else { return ClientStats::default() };
        let now = current.lock().caller.stats();
        match self {
            Sessions::One(_) => now,
            Sessions::Outliving(it) => ClientStats { in_flight: now.in_flight, ..it.lock().counted.and(now) },
        }
    }
}

/// What a waiter knows of its client's search for the server's successor: all who wait share what it finds, and what
/// it does not find.
///
/// One belongs to one wait: begin the next wait with a new one.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let server = wigwag::Server::bind(name)?;
/// let client = wigwag::polled::Client::from_blocking(wigwag::Client::connect(name)?)?;
/// let mut search = wigwag::polled::Search::default();
/// assert!(client.try_loan_while(8, &mut search)?.is_some());
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Search {
    /// How many searches had failed when this wait began. `None`: it waits for no server.
    since: Option<u64>,
}

/// The sessions of a client that outlives its servers, one after the other.
pub struct Succession {
    state: Mutex<State>,
    name: OsString,
    options: ConnectOptions,
    /// Rung within this process when something else is to be waited for than before.
    changed: Bell,
    fork: ForkGuard,
}

struct State {
    current: Arc<Session>,
    /// What was counted in the former ones, and of all.
    counted: ClientStats,
    /// Grows whenever something else is to be waited for than before.
    generation: u64,
    search: Option<UnderWay>,
    /// Servers that have hung up, and whose processes may not have ended yet.
    endings: Vec<Arc<Ending>>,
    /// How many searches have found nothing, and why the last one did.
    failures: u64,
    why: String,
    is_closed: bool,
}

/// A search for a server.
struct UnderWay {
    handshake: ClientHandshake,
    /// Becomes readable when the next step is due.
    told: Arc<OwnedFd>,
}

impl UnderWay {
    fn begin(name: &OsStr, options: &ConnectOptions) -> Result<UnderWay> {
        let mut handshake = ClientHandshake::for_successor(name, options)?;
        let told = Arc::new(handshake.descriptor()?);
        Ok(UnderWay { handshake, told })
    }
}

/// The wait for the end of a process, where it matters.
pub struct Ending {
    session: Weak<Session>,
    process: Arc<OwnedFd>,
    timer: Arc<Timer>,
    latest: Option<Instant>,
}

impl Ending {
    /// Whether it was waited for long enough.
    fn is_over(&self) -> bool {
        self.latest.is_some_and(|at| at <= Instant::now())
    }
}

impl Succession {
    /// Whether calls that were passed go on at a successor.
    pub fn passes_again(&self) -> bool {
        self.options.restarts.are_followed()
    }

    /// Whether the program has closed the client.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// A call goes on at a successor.
    pub fn count_moved(&self) {
        self.lock().counted.moved += 1;
    }

    /// Only after a look at the fork: in a child another thread of the parent may have held the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }

    fn check_fork(&self) -> Result<()> {
        if self.fork.is_forked() { Err(Error::forked()) } else { Ok(()) }
    }

    fn current(&self) -> Result<Arc<Session>> {
        self.check_fork()?;
        Ok(Arc::clone(&self.lock().current))
    }

    /// A slot of the server that there is now, and its session. `None`: it has to be waited for, or for a server.
    pub fn try_loan(&self, len: usize, search: &mut Search) -> Result<Option<(Arc<Session>, OwnedLoan)>> {
        let mut session = self.current()?;
        // What has become of the server is told to nobody while nobody waits.
        session.lock().caller.look(true);
        loop {
            match session.try_loan(len) {
                Ok(found) => return Ok(found.map(|loan| (session, loan))),
                // One that is too long for the server that has ended may be none for its successor.
                Err(_) if session.is_over() => {}
                Err(error) => return Err(error),
            }
            session = match self.successor(search) {
                Ok(Some(successor)) => successor,
                Ok(None) => return Ok(None),
                Err(why) if self.is_final(&why) => return Err(why),
                Err(why) => return Err(session.lock().caller.not_replaced(&why.to_string())),
            };
        }
    }

    /// Whether an error of [`successor`](Succession::successor) says all that there is to say.
    pub fn is_final(&self, why: &Error) -> bool {
        matches!(why.kind(), ErrorKind::Violation | ErrorKind::Forked) || self.is_closed()
    }

    /// The session with a server that lives as far as is known: the current one, or one that is made by this step.
    /// `None`: the search goes on; [`watch`](Succession::watch) says what is to be waited for.
    ///
    /// # Errors
    /// Why no session was made within the time for that, or never will be.
    pub fn successor(&self, search: &mut Search) -> Result<Option<Arc<Session>>> {
        self.check_fork()?;
        let mut state = self.lock();
        if state.is_closed {
            return Err(closed(false));
        }
        let ended = state.current.lock().caller.connection.check_alive(false);
        match ended {
            Ok(()) => {
                search.since = None;
                return Ok(Some(Arc::clone(&state.current)));
            }
            Err(error) if error.kind() == ErrorKind::Violation => return Err(error),
            Err(_) => {}
        }
        let is_new = search.since.is_none();
        if *search.since.get_or_insert(state.failures) != state.failures {
            // Somebody has looked for as long as this waiter would, and while it waited.
            return Err(Error::new(ErrorKind::NotRunning, state.why.clone()));
        }
        let mut under_way = match state.search.take() {
            Some(under_way) if !(is_new && under_way.handshake.is_stale()) => under_way,
            _ => {
                self.change(&mut state);
                UnderWay::begin(&self.name, &self.options)?
            }
        };
        let session = match under_way.handshake.step_and_tell() {
            Ok(Progress::Wait(_)) => {
                state.search = Some(under_way);
                return Ok(None);
            }
            Ok(Progress::Attached(established)) => Session::new(Caller::new(*established, self.options.wait)),
            Err(error) => Err(error),
        };
        self.change(&mut state);
        let session = session.inspect_err(|error| {
            state.failures += 1;
            state.why = error.to_string();
        })?;
        search.since = None;
        let former = std::mem::replace(&mut state.current, Arc::clone(&session));
        let counted = state.counted.and(former.lock().caller.stats());
        state.counted = ClientStats { reconnects: counted.reconnects + 1, ..counted };
        state.endings.retain(|ending| !ending.is_over());
        drop(state);
        drop(former); // it may be the last, and a mapping takes its time to go
        Ok(Some(session))
    }

    /// Something else is to be waited for: whoever waits looks again.
    fn change(&self, state: &mut State) {
        state.generation += 1;
        self.changed.ring();
    }

    /// Waits for the end of the process of a server that has hung up, which goes moments after its socket. `None`: the
    /// kernel has not told which process it is.
    pub fn begin_ending(&self, session: &Arc<Session>) -> Result<Option<Arc<Ending>>> {
        let is_of_it = |ending: &&Arc<Ending>| std::ptr::eq(ending.session.as_ptr(), Arc::as_ptr(session));
        if let Some(ending) = self.lock().endings.iter().find(is_of_it) {
            return Ok(Some(Arc::clone(ending)));
        }
        let copied = match session.lock().caller.connection.server_process() {
            Some(pidfd) => pidfd.try_clone(),
            None => return Ok(None),
        };
        let process = copied.map_err(|error| Error::io("copy a descriptor for the reactor", error))?;
        let timer = Timer::new()?;
        let latest = clock::deadline_after(self.options.restarts.time().0.min(ENDING_TIME));
        timer.set(latest);
        let (session, process, timer) = (Arc::downgrade(session), Arc::new(process), Arc::new(timer));
        let ending = Arc::new(Ending { session, process, timer, latest });
        let mut state = self.lock();
        state.endings.push(Arc::clone(&ending));
        self.change(&mut state);
        Ok(Some(ending))
    }

    /// Nobody waits for that any more.
    pub fn forget_ending(&self, ending: &Arc<Ending>) {
        let mut state = self.lock();
        state.endings.retain(|other| !Arc::ptr_eq(other, ending));
        self.change(&mut state);
    }

    /// What a waiter of this client waits for, besides its session.
    pub fn bell(&self) -> impl AsFd + '_ {
        self.changed.as_fd()
    }

    /// Has a waiter's descriptor tell of all that there is to be waited for now.
    pub fn watch(&self, readiness: &mut Readiness) -> Result<()> {
        self.check_fork()?;
        let state = self.lock();
        if readiness.generation() == state.generation {
            return Ok(());
        }
        let mut told: Vec<ToldForNow> = Vec::new();
        told.extend(state.search.iter().map(|search| Arc::clone(&search.told) as ToldForNow));
        for ending in &state.endings {
            told.push(Arc::clone(&ending.process) as ToldForNow);
            told.push(Arc::clone(&ending.timer) as ToldForNow);
        }
        let (session, generation) = (Arc::clone(&state.current), state.generation);
        drop(state);
        let (life, rings) = session.descriptors();
        readiness.watch_for_now(generation, told)?;
        readiness.watch(life, &rings)
    }

    /// Ends the current session and the search: the client has no successor any more.
    pub fn close(&self) {
        if self.fork.is_forked() {
            return;
        }
        let mut state = self.lock();
        state.is_closed = true;
        let search = state.search.take();
        let current = Arc::clone(&state.current);
        self.change(&mut state);
        drop(state);
        drop(search);
        current.close();
    }
}

/// The program has closed the client.
#[cold]
pub fn closed(maybe_executed: bool) -> Error {
    let fate = if maybe_executed { "the request may have been executed" } else { "the request was not executed" };
    Error::new(ErrorKind::ServerClosed { maybe_executed }, format!("the client has been closed; {fate}"))
}

/// A call whose server has ended.
pub struct Stranded {
    pub state: Strand,
    /// What it knows of the search for the next server.
    pub search: Search,
}

/// What is known of it.
pub enum Strand {
    /// It was never passed: the loan is its own still.
    Unpassed(OwnedLoan, Option<Instant>),
    /// Whether somebody has begun it will be known once the server's process has ended. It ended with that error.
    Undecided(Error, Option<Arc<Ending>>),
    /// Nobody has begun it, and nobody will; what its server was told of its deadline.
    NotBegun(Option<Instant>),
}

impl Stranded {
    /// One that has not looked for a server yet.
    pub fn new(state: Strand) -> Box<Stranded> {
        Box::new(Stranded { state, search: Search::default() })
    }
}

/// Whether the wait for the end of a process has taken too long, or nobody can wait for it.
pub fn is_given_up(ending: Option<&Arc<Ending>>) -> bool {
    ending.is_none_or(|ending| ending.is_over())
}

#[cfg(all(test, not(wigwag_faults)))]
mod tests {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use wigwag_testing::{Ground, LIMIT};

    use crate::error::{ErrorKind, Result};
    use crate::polled::{Client, Loan, Pending, Readiness, Search};
    use crate::{Client as Blocking, Server};

    fn client(ground: &Ground, follows: Duration) -> Client {
        let blocking = Blocking::builder().slots(1).follow_restarts(follows).connect(ground.socket()).unwrap();
        Client::from_blocking(blocking).unwrap()
    }

    fn sleep(fd: BorrowedFd<'_>) {
        let limit = Timespec::try_from(LIMIT).unwrap();
        assert_ne!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)), Ok(0), "nothing rang");
    }

    /// As an event loop would: it sleeps on the one descriptor that it has.
    fn reply(client: &Client, readiness: &mut Readiness, pending: &mut Pending) -> Result<Loan> {
        loop {
            if let Some(reply) = pending.try_reply()? {
                return Ok(reply);
            }
            if pending.arm()? {
                client.watch(readiness)?;
                sleep(readiness.as_fd());
                client.listen(readiness)?;
            }
        }
    }

    fn loan(client: &Client, readiness: &mut Readiness) -> Result<Loan> {
        let mut search = Search::default();
        loop {
            if let Some(loan) = client.try_loan_while(1, &mut search)? {
                return Ok(loan);
            }
            client.watch(readiness)?;
            sleep(readiness.as_fd());
            client.listen(readiness)?;
        }
    }

    #[test]
    fn all_who_wait_are_woken_by_what_one_of_them_finds() {
        let ground = Ground::new();
        let first = Server::bind(ground.socket()).unwrap();
        let client = client(&ground, LIMIT);
        let mut held = client.try_loan(2).unwrap().unwrap();
        held.copy_from_slice(b"go");
        let mut pending = held.send(None).unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let client = client.clone();
                std::thread::spawn(move || drop(loan(&client, &mut client.readiness().unwrap()).unwrap()))
            })
            .collect();
        let mut readiness = client.readiness().unwrap();
        drop(first);
        let serving = {
            let mut second = Server::bind(ground.socket()).unwrap();
            let stop = second.shutdown_handle();
            (stop, std::thread::spawn(move || second.serve(|request| request.make_ascii_uppercase())))
        };
        assert_eq!(reply(&client, &mut readiness, &mut pending).unwrap()[..], *b"GO");
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        let stats = client.stats();
        assert_eq!((stats.calls, stats.moved, stats.reconnects, stats.in_flight), (1, 1, 1, 0));
        serving.0.shutdown();
        serving.1.join().unwrap().unwrap();
    }

    #[test]
    fn a_search_that_fails_fails_for_all_who_waited_for_it() {
        let ground = Ground::new();
        let server = Server::bind(ground.socket()).unwrap();
        let client = client(&ground, Duration::from_millis(50));
        let mut readiness = client.readiness().unwrap();
        drop(server);
        let (mut one, mut other) = (Search::default(), Search::default());
        assert!(client.try_loan_while(1, &mut one).unwrap().is_none());
        assert!(client.try_loan_while(1, &mut other).unwrap().is_none());
        let closed = ErrorKind::ServerClosed { maybe_executed: false };
        let failed = loop {
            match client.try_loan_while(1, &mut one) {
                Ok(found) => assert!(found.is_none()),
                Err(error) => break error,
            }
            client.watch(&mut readiness).unwrap();
            sleep(readiness.as_fd());
            client.listen(&mut readiness).unwrap();
        };
        assert_eq!(failed.kind(), closed);
        assert_eq!(client.try_loan_while(1, &mut other).unwrap_err().kind(), closed, "it has waited as long");
        assert!(client.try_loan(1).unwrap().is_none(), "who comes later looks anew");
    }

    #[test]
    fn a_call_that_is_given_up_on_its_way_is_passed_to_nobody() {
        let ground = Ground::new();
        let first = Server::bind(ground.socket()).unwrap();
        let client = client(&ground, LIMIT);
        let mut readiness = client.readiness().unwrap();
        let mut pending = client.try_loan(1).unwrap().unwrap().send(None).unwrap();
        assert!(pending.may_be_executed());
        drop(first);
        while pending.may_be_executed() {
            assert!(pending.arm().unwrap());
            if pending.may_be_executed() {
                sleep(readiness.as_fd());
                client.listen(&mut readiness).unwrap();
            }
        }
        drop(pending);
        let mut second = Server::bind(ground.socket()).unwrap();
        let unsent = loan(&client, &mut readiness).unwrap();
        assert!(second.try_recv().unwrap().is_none());
        drop(second);
        let mut pending = unsent.send(None).unwrap();
        assert!(pending.try_reply().unwrap().is_none());
        client.close();
        // Whether it was passed before the server's end was known, and so may have been executed, nobody can say here.
        let error = reply(&client, &mut readiness, &mut pending).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ServerClosed { .. }), "{error:?}");
    }
}
