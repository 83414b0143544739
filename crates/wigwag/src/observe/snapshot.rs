//! What is true of a server at one moment.

use std::time::Duration;

use super::Counts;
use crate::layout::Geometry;
use crate::request::Peer;
use crate::statistics::{
    Place, SESSION_ARMED, SESSION_LOOKED_AT, SESSION_POLLED, SessionRecord, THREAD_ASLEEP, THREAD_AWAKE, Tables,
};
use crate::stats::ServerStats;
use crate::sys::{clock, process};

/// A server at one moment.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
    /// All sessions together, those included that are over.
    pub counts: Counts,
    /// The serving threads. None if the server does not serve, and for streams, which are served by whoever accepts them.
    pub threads: Vec<Thread>,
    /// The sessions that live.
    pub sessions: Vec<Session>,
    /// Requests that somebody has taken to answer later; of very many at a time not all are listed.
    pub kept: Vec<Kept>,
    /// Whether all that belongs together was read together. `false` if the server was stopped or killed, or very busy, just while it
    /// ended a session: then that one may be counted twice, or not at all.
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
    /// It has ended.
    Gone,
}

/// A serving thread.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
    /// Requests that a thread serves now, or that were taken to be answered later. What the client has passed and nobody has taken
    /// is not among them.
    pub in_flight: u64,
    /// Slots that the client used lately, as it said itself, and the most it ever used.
    pub slots_in_use: u64,
    /// The most it ever used.
    pub slots_in_use_max: u64,
    /// What has happened in it.
    pub counts: Counts,
    began_ns: u64,
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
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
    pub(super) fn read(tables: &Tables<'_>, state: ProcessState) -> Snapshot {
        // Read before all that it is compared with, so that ages are not negative.
        let ((now_ns, sessions, counts), is_whole) = tables.ended.generation.read(|| {
            let sessions = sessions(tables);
            let mut counts = Counts::read(&tables.ended.counters);
            sessions.iter().for_each(|(_, session)| counts.add(&session.counts));
            (clock::now_ns(), sessions, counts)
        });
        let ago = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
        let id_of = |place: Place| {
            let found = sessions.binary_search_by_key(&(place.record as usize), |(record, _)| *record); // in order
            found.ok().map(|found| sessions[found].1.id)
        };
        let mut threads = Vec::new();
        for (index, record) in tables.threads.iter().enumerate() {
            let clock_ns = record.clock_ns.value();
            let state = match (record.state.value(), Place::parse(record.serving.value())) {
                (THREAD_AWAKE | THREAD_ASLEEP, Some(place)) => {
                    ThreadState::Serving { session: id_of(place), slot: place.slot, at_most: ago(clock_ns) }
                }
                (THREAD_AWAKE, None) => ThreadState::Awake,
                (THREAD_ASLEEP, None) => ThreadState::Asleep,
                _ => continue,
            };
            threads.push(Thread { index, state, sleeps: record.sleeps.value() });
        }
        let kept = tables.kept.iter().filter_map(|record| {
            let since_ns = record.since_ns.value();
            let place = Place::parse(record.place.value())?;
            Some(Kept { session: id_of(place), slot: place.slot, at_most: ago(since_ns) })
        });
        let kept = kept.collect();
        let mut sessions: Vec<Session> = sessions.into_iter().map(|(_, session)| session).collect();
        for session in &mut sessions {
            session.age = ago(session.began_ns);
            let is_here = |thread: &&Thread| matches!(thread.state, ThreadState::Serving { session: Some(id), .. } if id == session.id);
            session.in_flight = session.counts.kept.saturating_add(threads.iter().filter(is_here).count() as u64);
        }
        sessions.sort_by_key(|session| session.id);
        Snapshot {
            state,
            sessions_accepted: tables.steward.accepted.value(),
            sessions_refused: tables.steward.refused.value(),
            violations: tables.steward.violations.value(),
            sessions_max: tables.steward.records_max.value(),
            handshakes: tables.steward.handshakes.value(),
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
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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

impl Session {
    /// The name of the peer's program, as `/proc` has it now. `None` if that process is gone, or not to be seen, or the number is
    /// by now another's.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("s"); let name = &name;
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
    let depth = usize::try_from(tables.steward.depth.value()).unwrap_or(usize::MAX);
    let records = tables.sessions.iter().take(depth).enumerate();
    records.filter_map(|(index, record)| Some((index, session(record)?))).collect()
}

fn session(record: &SessionRecord) -> Option<Session> {
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
            segment_bytes: segment_bytes(slots, capacity),
            polling: match pace.state.value() {
                SESSION_ARMED => Polling::Armed,
                SESSION_LOOKED_AT => Polling::Awake,
                SESSION_POLLED => Polling::Hot,
                _ => Polling::NotYet,
            },
            in_flight: 0,
            slots_in_use: pace.depth.value(),
            slots_in_use_max: pace.depth_max.value(),
            counts: Counts::read(&record.counters),
            began_ns: identity.began_ns.value(),
        })
    });
    session.filter(|_| is_whole)
}

fn segment_bytes(slots: u64, capacity: u64) -> u64 {
    let geometry = usize::try_from(slots).ok().zip(usize::try_from(capacity).ok());
    let geometry = geometry.and_then(|(slots, capacity)| Geometry::new(slots, capacity));
    geometry.map_or(0, |geometry| geometry.segment_size as u64)
}

/// What was counted in all sessions, for their host itself.
pub fn counts_of(tables: &Tables<'_>) -> Counts {
    Snapshot::read(tables, ProcessState::Running).counts
}

/// What a server counted, for itself.
pub fn server_stats(tables: &Tables<'_>) -> ServerStats {
    let snapshot = Snapshot::read(tables, ProcessState::Running);
    ServerStats {
        sessions: tables.steward.sessions.value(),
        sessions_accepted: snapshot.sessions_accepted,
        sessions_refused: snapshot.sessions_refused,
        violations: snapshot.violations,
        calls: snapshot.counts.calls,
        bytes_in: snapshot.counts.bytes_in,
        bytes_out: snapshot.counts.bytes_out,
        failed: snapshot.counts.failed,
        doorbells_rung: snapshot.counts.doorbells_rung,
        sleeps: snapshot.threads.iter().fold(0, |sum, thread| sum + thread.sleeps),
    }
}
