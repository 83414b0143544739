//! What is true of a server at one moment.

use std::time::Duration;

use crate::form::Form;
use crate::memory::layout::Geometry;
use crate::observe::{Backlog, Counts, Rings, Subscription};
use crate::session::peer::Peer;
use crate::statistics::{
    KeepingState, SESSION_ARMED, SESSION_LOOKED_AT, SESSION_POLLED, SessionRecord, SlotId, Statistics, THREAD_ASLEEP,
    THREAD_AWAKE, Tables,
};
use crate::stats::ServerStats;
use crate::sys::{clock, process};

/// A server at one moment.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let mut server = wigwag::Server::bind(name)?; let stop = server.shutdown_handle();
/// # let thread = std::thread::spawn(move || server.serve(|_| ()));
/// # let client = wigwag::Client::connect(name)?; client.call(b"hello")?;
/// let snapshot = wigwag::observe::Observer::open(name)?.snapshot()?;
/// assert_eq!((snapshot.sessions_accepted, snapshot.sessions.len()), (1, 1));
/// println!("{} bytes were sent here", snapshot.counts.bytes_in);
/// if let Some((thread, at_most)) = snapshot.longest_now() {
///     println!("thread {} has been in one call for {at_most:?}", thread.index);
/// }
/// # stop.shutdown(); thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whether the process runs.
    pub state: ProcessState,
    /// Sessions ever granted.
    pub sessions_accepted: u64,
    /// Handshakes refused or failed.
    pub sessions_refused: u64,
    /// Sessions ended because the client broke the protocol.
    pub violations: u64,
    /// The most sessions there ever were at a time.
    pub sessions_max: u64,
    /// Handshakes under way.
    pub handshakes: u64,
    /// Of a broadcast: messages published.
    pub published: u64,
    /// Of a broadcast: subscribers that were cut off, because the publisher's patience was over.
    pub cut_off: u64,
    /// All sessions together, those included that are over.
    pub counts: Counts,
    /// The serving threads. None if the server does not serve, and for streams, which are served by their acceptors.
    pub threads: Vec<Thread>,
    /// The sessions that live.
    pub sessions: Vec<Session>,
    /// Requests that somebody has taken to answer later; of very many at a time not all are listed.
    pub kept: Vec<Kept>,
    /// Whether all that belongs together was read together. `false` if the server was stopped or killed, or very busy,
    /// just while it ended a session: then that one may be counted twice, or not at all.
    pub is_whole: bool,
}

/// Whether a process runs.
///
/// ```
/// use wigwag::observe::ProcessState;
/// assert_ne!(ProcessState::Stopped, ProcessState::Running);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessState {
    /// It does, or sleeps.
    Running,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// Its control group is frozen.
    Frozen,
    /// It has ended.
    Gone,
}

/// A serving thread.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let mut server = wigwag::Server::bind(name)?;
/// server.try_recv()?;
/// let snapshot = wigwag::observe::Observer::open(name)?.snapshot()?;
/// assert_eq!(snapshot.threads[0].state, wigwag::observe::ThreadState::Awake);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thread {
    /// Its number, from 0.
    pub index: usize,
    /// What it does.
    pub state: ThreadState,
    /// Times it slept.
    pub sleeps: u64,
    /// How long it takes from a ring until this thread runs, as it has learned from its last wake-ups: what it spins
    /// for a quick client follows from that. `None` before the first ring of a client of the same user.
    pub wake_latency: Option<Duration>,
}

/// What a serving thread does.
///
/// ```
/// use wigwag::observe::ThreadState;
/// fn is_stuck(state: &ThreadState) -> bool {
///     matches!(state, ThreadState::Serving { at_most, .. } if at_most.as_secs() > 10)
/// }
/// assert!(!is_stuck(&ThreadState::Asleep));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ThreadState {
    /// It looks for requests, or was about to when it was looked at.
    Awake,
    /// It sleeps until a doorbell rings.
    Asleep,
    /// It is in a handler.
    Serving {
        /// Whose request it is: the number of the session, if that is listed.
        session: Option<u64>,
        /// The slot it lies in.
        slot: u32,
        /// The request came so long ago, or a little later: up to some ten microseconds.
        at_most: Duration,
    },
}

/// A session that lives.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// # let mut server = wigwag::Server::bind(name)?;
/// let client = wigwag::Client::builder().slots(2).connect(name)?;
/// # let pending = client.loan(5)?.send()?; let request = server.recv()?;
/// let session = wigwag::observe::Observer::open(name)?.snapshot()?.sessions.remove(0);
/// assert_eq!((session.slots, session.peer.pid), (2, std::process::id() as i32));
/// assert_eq!(session.polling, wigwag::observe::Polling::Awake);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Session {
    /// Its number, never used twice in a server's life.
    pub id: u64,
    /// Who has it.
    pub peer: Peer,
    /// Whether the server trusts it with the memory itself, as one of its own user.
    pub is_trusted: bool,
    /// How long ago it was made.
    pub age: Duration,
    /// Its slots.
    pub slots: u64,
    /// Bytes of a payload; of a stream those of a ring.
    pub capacity: u64,
    /// Bytes of its segment: address space; memory is used as it is written.
    pub segment_bytes: u64,
    /// How the server waits for its next request.
    pub polling: Polling,
    /// Requests that a thread serves now, or that were taken to be answered later; messages received and not
    /// acknowledged. What the client has passed and nobody has taken is not among them: see
    /// [`backlog`](Session::backlog).
    pub in_flight: u64,
    /// The work that waits in it, by its own memory; so it is true also of a server that is stopped. `None` for a
    /// stream, and if the memory [is hidden](Session::is_hidden).
    pub backlog: Option<Backlog>,
    /// A stream's two directions. `None` if the memory [is hidden](Session::is_hidden).
    pub rings: Option<Rings>,
    /// What a subscriber says of itself. `None` of other forms, and if the memory [is hidden](Session::is_hidden).
    pub subscription: Option<Subscription>,
    /// The protocol version of the session; 0: the server is of a version that does not say.
    pub protocol: u16,
    /// Whether the two sides' clocks show the same. Where they do not, because one is in another time namespace, no
    /// deadline is passed, and nobody knows since when the client waits.
    pub has_same_clock: bool,
    /// Of a queue whose receiver has a [keeper](crate::ReceiverBuilder::kept_by): whether what lies in the session
    /// outlives both sides. `None`: the receiver has asked for none.
    pub is_kept: Option<bool>,
    /// Whether its memory cannot be looked at: the client is gone, or does not let this user look at it (a process that
    /// is not dumpable, or was another user's before it connected).
    pub is_hidden: bool,
    /// Slots that the client used lately, as it said itself, and the most it ever used.
    pub slots_in_use: u64,
    /// The most it ever used.
    pub slots_in_use_max: u64,
    /// What has happened in it.
    pub counts: Counts,
    pub(super) began_ns: u64,
    /// By which its memory is known.
    pub(super) memory_inode: u64,
}

/// How a server waits for the next request of a session.
///
/// ```
/// assert_ne!(wigwag::observe::Polling::Armed, wigwag::observe::Polling::Hot);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Polling {
    /// No thread has taken it yet: the server does not serve, or its handlers are long.
    NotYet,
    /// Its doorbell is armed, and it costs nothing until it rings.
    Armed,
    /// It rang, and is looked at.
    Awake,
    /// It is looked at all the time: the server spins.
    Hot,
}

/// A request that somebody has taken to answer later.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("s").path;
/// let mut server = wigwag::Server::bind(name)?;
/// let client = wigwag::Client::connect(name)?;
/// let pending = client.loan(5)?.send()?;
/// let request = server.recv()?;
/// let snapshot = wigwag::observe::Observer::open(name)?.snapshot()?;
/// assert_eq!(snapshot.kept[0].session, Some(snapshot.sessions[0].id));
/// assert_eq!(snapshot.sessions[0].in_flight, 1);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The session, if it is listed.
    pub session: Option<u64>,
    /// The slot.
    pub slot: u32,
    /// It came so long ago, or a little later.
    pub at_most: Duration,
}

impl Snapshot {
    /// Everything but what lies in the sessions' own memory.
    pub(super) fn read(tables: &Tables<'_>, state: ProcessState, now_ns: impl Fn() -> u64) -> Snapshot {
        // Read before all that it is compared with, so that ages are not negative.
        let ((now_ns, sessions, counts), is_whole) = tables.ended.generation.read(|| {
            let sessions = sessions(tables);
            let mut counts = Counts::read(&tables.ended.counters);
            sessions.iter().for_each(|(_, session)| counts.add(&session.counts));
            (now_ns(), sessions, counts)
        });
        let ago = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
        let id_of = |place: SlotId| {
            let found = sessions.binary_search_by_key(&(place.record as usize), |(record, _)| *record); // in order
            found.ok().map(|found| sessions[found].1.id)
        };
        let mut threads = Vec::new();
        for (index, record) in tables.threads.iter().enumerate() {
            let clock_ns = record.clock_ns.value();
            let state = match (record.state.value(), SlotId::parse(record.serving.value())) {
                (THREAD_AWAKE | THREAD_ASLEEP, Some(place)) => {
                    ThreadState::Serving { session: id_of(place), slot: place.slot, at_most: ago(clock_ns) }
                }
                (THREAD_AWAKE, None) => ThreadState::Awake,
                (THREAD_ASLEEP, None) => ThreadState::Asleep,
                _ => continue,
            };
            let latency_ns = record.wake_latency_ns.value();
            let wake_latency = (latency_ns != 0).then(|| Duration::from_nanos(latency_ns));
            threads.push(Thread { index, state, sleeps: record.sleeps.value(), wake_latency });
        }
        let kept = tables.kept.iter().filter_map(|record| {
            let since_ns = record.since_ns.value();
            let place = SlotId::parse(record.place.value())?;
            Some(Kept { session: id_of(place), slot: place.slot, at_most: ago(since_ns) })
        });
        let kept = kept.collect();
        let mut sessions: Vec<Session> = sessions.into_iter().map(|(_, session)| session).collect();
        for session in &mut sessions {
            session.age = ago(session.began_ns);
            let id = Some(session.id);
            let is_here =
                |thread: &&Thread| matches!(thread.state, ThreadState::Serving { session, .. } if session == id);
            session.in_flight = session.counts.kept.saturating_add(threads.iter().filter(is_here).count() as u64);
        }
        sessions.sort_by_key(|session| session.id);
        Snapshot {
            state,
            sessions_accepted: tables.control.accepted.value(),
            sessions_refused: tables.control.refused.value(),
            violations: tables.control.violations.value(),
            sessions_max: tables.control.records_max.value(),
            handshakes: tables.control.handshakes.value(),
            published: tables.threads.first().map_or(0, |record| record.published.value()),
            cut_off: tables.threads.first().map_or(0, |record| record.cut_off.value()),
            counts,
            threads,
            sessions,
            kept,
            is_whole,
        }
    }

    /// The thread that has been in one call for the longest time, and for how long.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert!(wigwag::observe::Observer::open(name)?.snapshot()?.longest_now().is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn longest_now(&self) -> Option<(&Thread, Duration)> {
        let serving = self.threads.iter().filter_map(|thread| match thread.state {
            ThreadState::Serving { at_most, .. } => Some((thread, at_most)),
            _ => None,
        });
        serving.max_by_key(|(_, at_most)| *at_most)
    }
}

impl Snapshot {
    /// Work that waits, in all sessions that are not hidden: calls that were passed and not begun, messages that were
    /// committed and not received.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send_batch(["one", "two", "three"])?;
    /// let message = receiver.recv()?;
    /// let snapshot = wigwag::observe::Observer::open(name)?.snapshot()?;
    /// assert_eq!((snapshot.waiting(), snapshot.in_flight()), (2, 1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn waiting(&self) -> u64 {
        self.backlogs().fold(0, |sum, backlog| sum.saturating_add(backlog.waiting))
    }

    /// Work that was begun and is not done: calls in handlers and calls kept to be answered later, messages received
    /// and not acknowledged.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::observe::Observer::open(name)?.snapshot()?.in_flight(), 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn in_flight(&self) -> u64 {
        self.sessions.iter().fold(0, |sum, session| sum.saturating_add(session.in_flight))
    }

    /// How long the work has waited that has waited longest, as far as that is known: see [`Backlog::oldest_waiting`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// let observer = wigwag::observe::Observer::open(name)?;
    /// # while observer.snapshot()?.sessions.is_empty() {} // the session is listed a moment after the connect
    /// assert_eq!(observer.snapshot()?.oldest_waiting(), None);
    /// sender.send(b"hello")?;
    /// assert!(observer.snapshot()?.oldest_waiting().is_some());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn oldest_waiting(&self) -> Option<Duration> {
        self.backlogs().filter_map(|backlog| backlog.oldest_waiting).max()
    }

    /// The same of the work that was begun and is not done: see [`Backlog::oldest_in_flight`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// sender.send(b"hello")?;
    /// let message = receiver.recv()?;
    /// assert!(wigwag::observe::Observer::open(name)?.snapshot()?.oldest_in_flight().is_some());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn oldest_in_flight(&self) -> Option<Duration> {
        let threads = self.threads.iter().filter_map(|thread| match thread.state {
            ThreadState::Serving { at_most, .. } => Some(at_most),
            _ => None,
        });
        let begun = threads.chain(self.kept.iter().map(|kept| kept.at_most));
        begun.chain(self.backlogs().filter_map(|backlog| backlog.oldest_in_flight)).max()
    }

    /// Sessions whose client waits for this server: see [`Session::is_blocked`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::observe::Observer::open(name)?.snapshot()?.blocked(), 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn blocked(&self) -> usize {
        self.sessions.iter().filter(|session| session.is_blocked()).count()
    }

    /// Sessions whose memory cannot be looked at: what waits there is in none of the numbers.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// let server = wigwag::Server::bind(name)?;
    /// assert_eq!(wigwag::observe::Observer::open(name)?.snapshot()?.hidden(), 0);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn hidden(&self) -> usize {
        self.sessions.iter().filter(|session| session.is_hidden).count()
    }

    fn backlogs(&self) -> impl Iterator<Item = &Backlog> {
        self.sessions.iter().filter_map(|session| session.backlog.as_ref())
    }
}

impl Session {
    /// Whether the client waits for this server: asleep for a reply; for room in a full queue; or for room in a stream.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::builder().slots(1).connect(name)?;
    /// sender.send(b"one")?;
    /// sender.send_timeout(b"two", std::time::Duration::from_millis(1)).unwrap_err();
    /// let session = wigwag::observe::Observer::open(name)?.snapshot()?.sessions.remove(0);
    /// assert!(session.is_blocked());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn is_blocked(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.is_blocked)
            || self.rings.as_ref().is_some_and(|rings| rings.incoming.is_writer_waiting)
    }

    /// The name of the peer's program, as `/proc` has it now. `None` if that process is gone, or not to be seen, or the
    /// number is by now another's.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("s").path;
    /// # let mut server = wigwag::Server::bind(name)?;
    /// let client = wigwag::Client::connect(name)?;
    /// # let pending = client.loan(5)?.send()?; let request = server.recv()?;
    /// let session = wigwag::observe::Observer::open(name)?.snapshot()?.sessions.remove(0);
    /// assert!(session.program().is_some());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn program(&self) -> Option<String> {
        let status = process::status_of(u32::try_from(self.peer.pid).ok()?)?;
        // One that started after the session was made is another one, which has the number by now.
        (status.started_ns <= clock::since_boot_ns(self.began_ns)).then_some(status.name)
    }
}

/// The sessions that live, each with the number of its record. What its age is, and what is in flight, follows.
fn sessions(tables: &Tables<'_>) -> Vec<(usize, Session)> {
    let depth = usize::try_from(tables.control.depth.value()).unwrap_or(usize::MAX);
    let form = u8::try_from(tables.head.form.value()).ok().and_then(Form::from_number);
    let records = tables.sessions.iter().take(depth).enumerate();
    records.filter_map(|(index, record)| Some((index, session(record, form)?))).collect()
}

fn session(record: &SessionRecord, form: Option<Form>) -> Option<Session> {
    let identity = &record.identity;
    let (session, is_whole) = identity.generation.read(|| {
        let id = identity.id.value().checked_sub(1)?;
        let (user, process) = (identity.user.value(), identity.process.value());
        let (slots, capacity) = (identity.slots.value(), identity.capacity.value());
        let pace = &record.counters.pace;
        Some(Session {
            id,
            peer: Peer { uid: (user >> 32) as u32, gid: user as u32, pid: process as u32 as i32 },
            is_trusted: process >> 32 != 0,
            age: Duration::ZERO,
            slots,
            capacity,
            segment_bytes: segment_bytes(form, slots, capacity),
            polling: match pace.state.value() {
                SESSION_ARMED => Polling::Armed,
                SESSION_LOOKED_AT => Polling::Awake,
                SESSION_POLLED => Polling::Hot,
                _ => Polling::NotYet,
            },
            in_flight: 0,
            backlog: None,
            rings: None,
            subscription: None,
            protocol: pace.agreed.value() as u16,
            has_same_clock: pace.agreed.value() >> 16 & 1 == 0,
            is_kept: match KeepingState::of_word(pace.agreed.value()) {
                KeepingState::NotWanted => None,
                keeping => Some(keeping == KeepingState::Kept),
            },
            is_hidden: false,
            slots_in_use: pace.depth.value(),
            slots_in_use_max: pace.depth_max.value(),
            counts: Counts::read(&record.counters),
            began_ns: identity.began_ns.value(),
            memory_inode: identity.memory_inode.value(),
        })
    });
    session.filter(|_| is_whole)
}

fn segment_bytes(form: Option<Form>, slots: u64, capacity: u64) -> u64 {
    let geometry = usize::try_from(slots).ok().zip(usize::try_from(capacity).ok());
    let of_form = |(slots, capacity)| Geometry::of_form(form.unwrap_or_default(), slots, capacity);
    let geometry = geometry.and_then(of_form);
    geometry.map_or(0, |geometry| geometry.segment_size as u64)
}

/// What a service sees of itself. Where a thread of its own was stopped while it counted the end of a session, an
/// observer has to take the numbers as they are, with that session counted twice or not at all; the service waits for
/// the thread.
fn own(statistics: &Statistics) -> Snapshot {
    let snapshot = Snapshot::read(&statistics.tables(), ProcessState::Running, clock::now_ns);
    match snapshot.is_whole {
        true => snapshot,
        false => statistics.settled(|tables| Snapshot::read(tables, ProcessState::Running, clock::now_ns)),
    }
}

/// What was counted in all sessions, for their service itself.
pub fn counts_of(statistics: &Statistics) -> Counts {
    own(statistics).counts
}

/// What a server counted, for itself.
pub fn server_stats(statistics: &Statistics) -> ServerStats {
    let snapshot = own(statistics);
    let tables = statistics.tables();
    ServerStats {
        sessions: tables.control.sessions.value(),
        sessions_accepted: snapshot.sessions_accepted,
        sessions_refused: snapshot.sessions_refused,
        violations: snapshot.violations,
        calls: snapshot.counts.calls,
        bytes_in: snapshot.counts.bytes_in,
        bytes_out: snapshot.counts.bytes_out,
        failed: snapshot.counts.failed,
        doorbells_rung: snapshot.counts.doorbells_rung,
        sleeps: tables.threads.iter().map(|record| record.sleeps.value()).sum(), // also of those that are gone
    }
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use super::*;
    use crate::statistics::{Newcomer, Shape};

    /// A session that began then.
    pub fn session(began_ns: u64) -> Session {
        let record = SessionRecord::default();
        record.identity.id.set(1);
        record.identity.began_ns.set(began_ns);
        super::session(&record, Some(Form::Exchange)).unwrap()
    }
    #[test]
    fn a_service_counts_a_session_once_whose_end_is_being_counted() {
        let statistics = Statistics::new(Shape::new(1, 1), |_| {}).unwrap();
        let who = Newcomer {
            id: 1,
            uid: 0,
            gid: 0,
            pid: 0,
            is_trusted: true,
            slots: 1,
            capacity: 1,
            memory_inode: 0,
            now_ns: 0,
            protocol: 2,
            has_same_clock: true,
            keeping: KeepingState::NotWanted,
        };
        let session = statistics.begin_session(&who);
        session.counters().served.calls.set(20);
        let (is_between, begin) = std::sync::mpsc::channel();
        let (was_observed, goes_on) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            // A thread that is kept from its processor between the two steps of counting a session's end.
            let (statistics, session) = (&statistics, &session);
            scope.spawn(move || {
                statistics.settled(|tables| {
                    tables.ended.generation.change(|| {
                        tables.ended.counters.absorb(session.counters());
                        is_between.send(()).unwrap();
                        goes_on.recv().unwrap();
                        std::thread::sleep(Duration::from_millis(20));
                        session.counters().clear();
                    });
                });
            });
            begin.recv().unwrap();
            let observed = Snapshot::read(&statistics.tables(), ProcessState::Running, clock::now_ns);
            assert_eq!((observed.is_whole, observed.counts.calls), (false, 40), "as an observer has to take it");
            was_observed.send(()).unwrap();
            assert_eq!(server_stats(statistics).calls, 20);
            assert_eq!(counts_of(statistics).calls, 20);
        });
    }
}
