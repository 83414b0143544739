//! What observers see of servers, in the words that `wigwag ls` and `wigwag inspect` print and in the JSON that they
//! write.
//!
//! Names of fields are whole words with their units last. Times are as long ago as they say at most.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use wigwag::observe::{
    Counts, Kept, Limits, Observer, PermitSnapshot, Policy, Polling, ProcessState, Ring, Session, Snapshot, Thread,
    ThreadState,
};
use wigwag::runtime::{State, escaped};
use wigwag::{Contract, Wait};

/// All that is to be seen of a service.
#[derive(Debug, Serialize)]
pub struct ServiceView {
    pub kind: &'static str,
    pub path: String,
    /// Whether the path leads to it; otherwise no client can reach it.
    pub has_name: bool,
    pub form: String,
    pub contract: String,
    pub process: ProcessView,
    pub age_s: f64,
    pub wait: &'static str,
    pub policy: PolicyView,
    pub limits: LimitView,
    pub sessions_accepted: u64,
    pub sessions_refused: u64,
    pub sessions_max: u64,
    pub handshakes: u64,
    pub violations: u64,
    /// Of a broadcast.
    pub published: u64,
    pub cut_off: u64,
    pub backlog: BacklogView,
    pub counts: CountView,
    pub threads: Vec<ThreadView>,
    pub sessions: Vec<SessionView>,
    pub kept: Vec<KeptView>,
    /// Whether all of it is of one moment.
    pub is_whole: bool,
}

/// The work that waits, in all sessions that are not hidden.
#[derive(Debug, Serialize)]
pub struct BacklogView {
    pub waiting: u64,
    pub oldest_waiting_s: Option<f64>,
    pub in_flight: u64,
    pub oldest_in_flight_s: Option<f64>,
    /// Sessions whose client waits for the server.
    pub blocked: usize,
    pub unread_bytes: u64,
    /// Sessions whose memory cannot be looked at.
    pub hidden: usize,
}

#[derive(Debug, Serialize)]
pub struct ProcessView {
    pub pid: u32,
    pub program: Option<String>,
    pub state: &'static str,
}

#[derive(Debug, Serialize)]
pub struct PolicyView {
    pub same_user: bool,
    pub everyone: bool,
    pub users: Vec<u32>,
    pub groups: Vec<u32>,
    pub not_listed: u64,
}

#[derive(Debug, Serialize)]
pub struct LimitView {
    pub sessions: u64,
    pub sessions_per_user: u64,
    pub sessions_per_other_user: u64,
    pub slots: u64,
    pub capacity_bytes: u64,
    pub session_bytes: u64,
    pub total_bytes: u64,
    pub handshakes: u64,
    pub handshake_timeout_ms: u64,
}

#[derive(Debug, Serialize)]
pub struct CountView {
    pub calls: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub failed: u64,
    pub kept: u64,
    pub returned: u64,
    pub doorbells_rung: u64,
    pub doorbells_saved: u64,
    pub doorbells_heard: u64,
    pub found_by_polling: u64,
    pub heated: u64,
    pub cooled: u64,
    pub busy_s: f64,
    pub longest_ns: u64,
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Ranges that have something in them.
    pub durations: Vec<RangeView>,
}

#[derive(Debug, Serialize)]
pub struct RangeView {
    pub below_ns: u64,
    pub calls: u64,
}

#[derive(Debug, Serialize)]
pub struct ThreadView {
    pub index: usize,
    pub state: &'static str,
    pub sleeps: u64,
    /// Learned; `None` at first.
    pub wake_latency_us: Option<f64>,
    pub session: Option<u64>,
    pub slot: Option<u32>,
    pub serving_for_s: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct SessionView {
    pub id: u64,
    pub uid: u32,
    pub gid: u32,
    pub pid: i32,
    pub program: Option<String>,
    pub is_trusted: bool,
    /// 0: the server does not say.
    pub protocol: u16,
    pub has_same_clock: bool,
    /// Of a queue; `None`: its receiver has asked for no keeper.
    pub is_kept: Option<bool>,
    pub age_s: f64,
    pub slots: u64,
    pub capacity_bytes: u64,
    pub segment_bytes: u64,
    pub polling: &'static str,
    /// `None`: a stream's, or its memory is hidden.
    pub waiting: Option<u64>,
    pub oldest_waiting_s: Option<f64>,
    pub abandoned: Option<u64>,
    pub in_flight: u64,
    pub oldest_in_flight_s: Option<f64>,
    pub is_full: Option<bool>,
    pub is_blocked: bool,
    pub blocked_for_s: Option<f64>,
    pub is_hidden: bool,
    pub rings: Option<RingsView>,
    pub subscription: Option<SubscriptionView>,
    pub slots_in_use: u64,
    pub slots_in_use_max: u64,
    pub counts: CountView,
}

#[derive(Debug, Serialize)]
pub struct RingsView {
    pub incoming: RingView,
    pub outgoing: RingView,
}

#[derive(Debug, Serialize)]
pub struct SubscriptionView {
    pub lag: u64,
    pub received: u64,
    pub lost: u64,
    pub holds: u64,
    pub is_asleep: bool,
}

#[derive(Debug, Serialize)]
pub struct RingView {
    pub size_bytes: u64,
    pub written_bytes: u64,
    pub unread_bytes: u64,
    pub reader_waits: bool,
    pub writer_waits: bool,
    pub is_ended: bool,
}

#[derive(Debug, Serialize)]
pub struct KeptView {
    pub session: Option<u64>,
    pub slot: u32,
    pub kept_for_s: f64,
}

impl ServiceView {
    /// Looks once.
    pub fn of(observer: &Observer) -> wigwag::Result<ServiceView> {
        let snapshot = observer.snapshot()?;
        let service = observer.service();
        Ok(ServiceView {
            kind: "service",
            path: escaped(&service.path),
            has_name: observer.has_name(),
            form: service.form.to_string(),
            contract: contract(&service.contract),
            process: ProcessView {
                pid: service.pid,
                program: service.program.as_deref().map(printable),
                state: process_state(snapshot.state),
            },
            age_s: service.age().as_secs_f64(),
            wait: wait(service.wait),
            policy: policy(&service.policy),
            limits: limits(&service.limits),
            sessions_accepted: snapshot.sessions_accepted,
            sessions_refused: snapshot.sessions_refused,
            sessions_max: snapshot.sessions_max,
            handshakes: snapshot.handshakes,
            violations: snapshot.violations,
            published: snapshot.published,
            cut_off: snapshot.cut_off,
            backlog: backlog(&snapshot),
            counts: counts(&snapshot.counts),
            threads: snapshot.threads.iter().map(thread).collect(),
            sessions: snapshot.sessions.iter().map(session).collect(),
            kept: snapshot.kept.iter().map(kept).collect(),
            is_whole: snapshot.is_whole,
        })
    }
}

/// The word for a process's state.
pub fn process_state(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Running => "running",
        ProcessState::Stopped => "stopped",
        ProcessState::Frozen => "frozen",
        ProcessState::Gone => "gone",
        _ => "unknown",
    }
}

/// How long the call has been running that runs longest, in seconds.
pub fn longest_now_s(snapshot: &Snapshot) -> Option<f64> {
    snapshot.longest_now().map(|(_, at_most)| at_most.as_secs_f64())
}

/// How long the oldest of the work that waits has waited, in seconds.
pub fn oldest_waiting_s(snapshot: &Snapshot) -> Option<f64> {
    snapshot.oldest_waiting().map(|age| age.as_secs_f64())
}

/// Bytes that were written to streams and not read, either way.
pub fn unread_bytes(snapshot: &Snapshot) -> u64 {
    let rings = snapshot.sessions.iter().filter_map(|session| session.rings.as_ref());
    rings.flat_map(|rings| [rings.incoming.unread, rings.outgoing.unread]).fold(0, u64::saturating_add)
}

/// How far the subscriber is behind that is farthest, in messages; 0 where there are none.
pub fn most_lag(snapshot: &Snapshot) -> u64 {
    let lags = snapshot.sessions.iter().filter_map(|session| Some(session.subscription.as_ref()?.lag));
    lags.max().unwrap_or(0)
}

/// Messages that the subscribers of now have lost.
pub fn lost(snapshot: &Snapshot) -> u64 {
    let lost = snapshot.sessions.iter().filter_map(|session| Some(session.subscription.as_ref()?.lost));
    lost.fold(0, u64::saturating_add)
}

/// How a name stands, in a word.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Alive => "alive",
        State::Unreachable => "unreachable",
        State::Unguarded => "unguarded",
        State::Dead => "dead",
        State::Owed { .. } => "owed",
        State::Foreign => "foreign",
        _ => "unknown",
    }
}

/// A text of another process, without what steers a terminal.
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

fn contract(contract: &Contract) -> String {
    printable(&contract.to_string())
}

fn wait(wait: Wait) -> &'static str {
    match wait {
        Wait::Adaptive => "adaptive",
        Wait::Spin => "spin",
        Wait::Park => "park",
        _ => "unknown",
    }
}

fn policy(policy: &Policy) -> PolicyView {
    PolicyView {
        same_user: true,
        everyone: policy.everyone,
        users: policy.users.clone(),
        groups: policy.groups.clone(),
        not_listed: policy.more,
    }
}

fn limits(limits: &Limits) -> LimitView {
    LimitView {
        sessions: limits.sessions,
        sessions_per_user: limits.sessions_per_user,
        sessions_per_other_user: limits.sessions_per_other_user,
        slots: limits.slots,
        capacity_bytes: limits.capacity,
        session_bytes: limits.bytes_per_session,
        total_bytes: limits.bytes_total,
        handshakes: limits.handshakes,
        handshake_timeout_ms: u64::try_from(limits.handshake_timeout.as_millis()).unwrap_or(u64::MAX),
    }
}

fn backlog(snapshot: &Snapshot) -> BacklogView {
    BacklogView {
        waiting: snapshot.waiting(),
        oldest_waiting_s: oldest_waiting_s(snapshot),
        in_flight: snapshot.in_flight(),
        oldest_in_flight_s: snapshot.oldest_in_flight().map(|age| age.as_secs_f64()),
        blocked: snapshot.blocked(),
        unread_bytes: unread_bytes(snapshot),
        hidden: snapshot.hidden(),
    }
}

fn ring(ring: &Ring) -> RingView {
    RingView {
        size_bytes: ring.size,
        written_bytes: ring.written,
        unread_bytes: ring.unread,
        reader_waits: ring.is_reader_waiting,
        writer_waits: ring.is_writer_waiting,
        is_ended: ring.is_ended,
    }
}

fn counts(counts: &Counts) -> CountView {
    let quantile = |share| counts.durations.quantile(share).map(nanoseconds);
    let ranges = counts.durations.ranges().filter(|(_, calls)| *calls > 0);
    CountView {
        calls: counts.calls,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        failed: counts.failed,
        kept: counts.kept,
        returned: counts.returned,
        doorbells_rung: counts.doorbells_rung,
        doorbells_saved: counts.doorbells_saved(),
        doorbells_heard: counts.doorbells_heard,
        found_by_polling: counts.found_by_polling(),
        heated: counts.heated,
        cooled: counts.cooled,
        busy_s: counts.busy.as_secs_f64(),
        longest_ns: nanoseconds(counts.longest),
        p50_ns: quantile(0.5),
        p99_ns: quantile(0.99),
        durations: ranges.map(|(below, calls)| RangeView { below_ns: nanoseconds(below), calls }).collect(),
    }
}

fn thread(thread: &Thread) -> ThreadView {
    let view = ThreadView {
        index: thread.index,
        state: "unknown",
        sleeps: thread.sleeps,
        wake_latency_us: thread.wake_latency.map(|latency| latency.as_secs_f64() * 1e6),
        session: None,
        slot: None,
        serving_for_s: None,
    };
    match thread.state {
        ThreadState::Awake => ThreadView { state: "awake", ..view },
        ThreadState::Asleep => ThreadView { state: "asleep", ..view },
        ThreadState::Serving { session, slot, at_most } => ThreadView {
            state: "serving",
            session,
            slot: Some(slot),
            serving_for_s: Some(at_most.as_secs_f64()),
            ..view
        },
        _ => view,
    }
}

fn session(session: &Session) -> SessionView {
    let backlog = session.backlog.as_ref();
    let seconds = |age: Option<Duration>| age.map(|age| age.as_secs_f64());
    SessionView {
        id: session.id,
        uid: session.peer.uid,
        gid: session.peer.gid,
        pid: session.peer.pid,
        program: session.program().as_deref().map(printable),
        is_trusted: session.is_trusted,
        protocol: session.protocol,
        has_same_clock: session.has_same_clock,
        is_kept: session.is_kept,
        age_s: session.age.as_secs_f64(),
        slots: session.slots,
        capacity_bytes: session.capacity,
        segment_bytes: session.segment_bytes,
        polling: match session.polling {
            Polling::NotYet => "not yet",
            Polling::Armed => "waiting",
            Polling::Awake => "awake",
            Polling::Hot => "spinning",
            _ => "unknown",
        },
        waiting: backlog.map(|backlog| backlog.waiting),
        oldest_waiting_s: seconds(backlog.and_then(|backlog| backlog.oldest_waiting)),
        abandoned: backlog.map(|backlog| backlog.abandoned),
        in_flight: session.in_flight,
        oldest_in_flight_s: seconds(backlog.and_then(|backlog| backlog.oldest_in_flight)),
        is_full: backlog.map(|backlog| backlog.is_full),
        is_blocked: session.is_blocked(),
        blocked_for_s: seconds(backlog.and_then(|backlog| backlog.blocked_for)),
        is_hidden: session.is_hidden,
        rings: session
            .rings
            .as_ref()
            .map(|rings| RingsView { incoming: ring(&rings.incoming), outgoing: ring(&rings.outgoing) }),
        subscription: session.subscription.as_ref().map(|it| SubscriptionView {
            lag: it.lag,
            received: it.received,
            lost: it.lost,
            holds: it.holds,
            is_asleep: it.is_asleep,
        }),
        slots_in_use: session.slots_in_use,
        slots_in_use_max: session.slots_in_use_max,
        counts: counts(&session.counts),
    }
}

fn kept(kept: &Kept) -> KeptView {
    KeptView { session: kept.session, slot: kept.slot, kept_for_s: kept.at_most.as_secs_f64() }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A process that holds permits of a semaphore.
#[derive(Debug, PartialEq, Eq)]
pub struct PermitHolder {
    pub pid: Option<u32>,
    pub program: Option<String>,
    pub is_alive: bool,
    pub permits: usize,
}

/// The holders with their counts, the most first. A number alone does not identify a process, so living and dead ones
/// are kept apart.
pub fn holders(seen: &PermitSnapshot) -> Vec<PermitHolder> {
    let mut sums: BTreeMap<(Option<u32>, bool), PermitHolder> = BTreeMap::new();
    for (_, holder) in seen.held() {
        let sum = sums.entry((holder.pid, holder.is_alive)).or_insert_with(|| PermitHolder {
            pid: holder.pid,
            program: holder.program(),
            is_alive: holder.is_alive,
            permits: 0,
        });
        sum.permits += 1;
    }
    let mut holders: Vec<PermitHolder> = sums.into_values().collect();
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.permits));
    holders
}
