//! `wigwag inspect`: everything that is to be seen of one name.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use wigwag::ErrorKind;
use wigwag::observe::{LostSemaphore, Observer, PermitSnapshot};
use wigwag::runtime::escaped;

use crate::bridges;
use crate::output::{self, count, duration};
use crate::service_view::{
    BoardView, CountView, LimitView, PolicyView, RingView, ServiceView, SessionView, SubscriptionView, ThreadView,
    printable,
};
use crate::table::Table;

const EXAMPLES: &str = "\
Examples:
  wigwag inspect invert             # who is served, who waits, what hangs
  wigwag inspect jobs               # a queue: how much waits, since when it
  wigwag inspect invert --json      # the same for programs
  wigwag inspect ./here.sock        # a path instead of a name
  wigwag inspect backup             # a semaphore: who holds its permits

The server is not asked: this works while its handlers hang and while it is stopped, and it disturbs nobody. Bridges \
to other machines are asked whether they carry the name, and left out if they do not answer.

Waiting are calls that were passed and that nobody has begun, messages that were committed and not received; in \
flight are calls that were begun and not answered, messages received and not acknowledged. A message is as old as \
its commit, to some milliseconds. A call has waited for the time shown at least: it counts from when its caller fell \
asleep over it, and a caller that spins does not tell. Client: what it waits for; hidden if its memory cannot be \
looked at, so that what waits there is in none of the sums.

A call has been running for `at most` the time shown: the server does not read the clock for each call. Polling: \
waiting (its doorbell is armed, and it costs nothing), awake, spinning (it is looked at all the time), not yet (no \
thread has taken it). Time in handlers, the longest call and the durations are estimates from the calls that were \
timed: while calls are short one in 127, each of those above 5 us.";

/// Show everything that is to be seen of a server, a listener or a semaphore
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The name, or a path (starting with / ./ ../)
    pub name: OsString,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct SemaphoreView {
    kind: &'static str,
    path: String,
    permits: usize,
    free: usize,
    holders: Vec<HolderView>,
    waiting: Vec<WaitingView>,
    /// Processes that have the file open which had this name before: what they hold is not seen here.
    lost_to: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct HolderView {
    permit: usize,
    pid: Option<u32>,
    program: Option<String>,
    is_alive: bool,
}

#[derive(Debug, Serialize)]
struct WaitingView {
    needs: u32,
    is_alive: bool,
}

/// Looks, and prints. A name that is no server's may be a semaphore's.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let error = match Observer::open(&args.name) {
        Ok(observer) => {
            let view = ServiceView::of(&observer)?;
            if args.json {
                output::json(&view)?
            } else {
                print_service(&view)?;
                print_bridges(&args.name)?
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => error,
    };
    let sharing = if error.kind() == ErrorKind::NotRunning { Observer::sharing(&args.name)? } else { Vec::new() };
    if !sharing.is_empty() {
        let views: Vec<ServiceView> = sharing.iter().map(ServiceView::of).collect::<wigwag::Result<_>>()?;
        if args.json {
            output::json(&views)?
        } else {
            views.iter().try_for_each(print_service)?
        }
        return Ok(ExitCode::SUCCESS);
    }
    let may_be_semaphore = matches!(error.kind(), ErrorKind::NotRunning | ErrorKind::Io);
    let lost = if may_be_semaphore { LostSemaphore::of(&args.name).ok().flatten() } else { None };
    match PermitSnapshot::of(&args.name).ok().filter(|_| may_be_semaphore) {
        // Of one whose name leads nowhere it is seen at least that somebody has it.
        seen if seen.is_some() || lost.is_some() => {
            let view = semaphore(seen.as_ref(), lost.as_ref());
            if args.json {
                output::json(&view)?
            } else {
                print_semaphore(&view)?
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(error.into()),
    }
}

fn semaphore(permits: Option<&PermitSnapshot>, lost: Option<&LostSemaphore>) -> SemaphoreView {
    let holders = permits.iter().flat_map(|permits| permits.held()).map(|(permit, holder)| HolderView {
        permit,
        pid: holder.pid,
        program: holder.program().as_deref().map(printable),
        is_alive: holder.is_alive,
    });
    let waiting = permits.iter().flat_map(|permits| &permits.waiting);
    let path = permits.map(|permits| &permits.path).or(lost.map(|lost| &lost.path));
    SemaphoreView {
        kind: "semaphore",
        path: path.map(escaped).unwrap_or_default(),
        permits: permits.map_or(0, |permits| permits.permits.len()),
        free: permits.map_or(0, PermitSnapshot::free),
        holders: holders.collect(),
        waiting: waiting.map(|one| WaitingView { needs: one.needs, is_alive: one.is_alive }).collect(),
        lost_to: lost.map(|lost| lost.processes.clone()).unwrap_or_default(),
    }
}

fn print_semaphore(view: &SemaphoreView) -> anyhow::Result<()> {
    let mut text = format!(
        "semaphore  {}\npermits    {}, {} free, {} waiting\n\n",
        view.path,
        view.permits,
        view.free,
        view.waiting.len()
    );
    if !view.lost_to.is_empty() {
        let processes: Vec<String> = view.lost_to.iter().map(u32::to_string).collect();
        let _ = writeln!(
            text,
            "LOST       its file was removed, replaced or moved while {} had it open: what is held there is not seen \
             here (wigwag doctor)\n",
            processes.join(", ")
        );
    }
    for waiting in view.waiting.iter().filter(|waiting| waiting.needs > 1) {
        let _ = writeln!(text, "somebody waits for {} permits at once", waiting.needs);
    }
    output::bytes(text.as_bytes())?;
    let mut table = Table::new(["permit", "process", "holder"]);
    for holder in &view.holders {
        table.push([
            holder.permit.to_string(),
            process(holder.pid, holder.program.as_deref()),
            if holder.is_alive { "alive" } else { "dead: the next one to acquire is told" }.to_owned(),
        ]);
    }
    table.print()
}

fn print_service(view: &ServiceView) -> anyhow::Result<()> {
    output::bytes(head(view).as_bytes())?;
    threads(&view.threads).map_or(Ok(()), |table| spaced(&table))?;
    sessions(view).map_or(Ok(()), |table| spaced(&table))?;
    if !view.kept.is_empty() {
        let mut table = Table::new(["kept to be answered later: session", "slot", "for at most"]);
        for kept in &view.kept {
            table.push([or_dash(kept.session), kept.slot.to_string(), duration(kept.kept_for_s * 1e9)]);
        }
        spaced(&table)?;
    }
    if !view.is_whole {
        output::line("\nThe server was ending a session just then: that one may be counted twice, or not at all.")?;
    }
    Ok(())
}

/// What bridges tell of the name, if any of them carries it.
fn print_bridges(name: &OsStr) -> anyhow::Result<()> {
    match bridges::lines_of(name) {
        lines if lines.is_empty() => Ok(()),
        lines => output::bytes(format!("\n{lines}").as_bytes()),
    }
}

fn spaced(table: &Table) -> anyhow::Result<()> {
    output::line("")?;
    table.print()
}

/// What the rows about the work are called, and what they say, depends on the form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Calls,
    Messages,
    Rings,
    Broadcast,
}

impl Shape {
    fn of(view: &ServiceView) -> Shape {
        match view.form.as_str() {
            "stream" => Shape::Rings,
            "queue" => Shape::Messages,
            "broadcast" => Shape::Broadcast,
            _ => Shape::Calls,
        }
    }
}

fn head(view: &ServiceView) -> String {
    let ServiceView { process: server, limits, counts, .. } = view;
    let shape = Shape::of(view);
    let mut rows = vec![
        (
            view.form.as_str(),
            format!(
                "{} {} {}{}",
                view.path,
                if shape == Shape::Broadcast { "publishes" } else { "serves" },
                view.contract,
                if view.has_name { "" } else { "; that path does not lead to it: clients cannot reach it" }
            ),
        ),
        (
            "process",
            format!(
                "{}, {}, for {}",
                process(Some(server.pid), server.program.as_deref()),
                server.state,
                duration(view.age_s * 1e9)
            ),
        ),
        ("waits", view.wait.to_owned()),
        ("lets in", policy(&view.policy)),
        ("limits", limits_of(limits, shape)),
        (
            "sessions",
            format!(
                "{} now, {} at most, {} ever, {} refused, {} ended for a violation, {} shaking hands",
                view.sessions.len(),
                count(view.sessions_max),
                count(view.sessions_accepted),
                count(view.sessions_refused),
                count(view.violations),
                view.handshakes,
            ),
        ),
    ];
    if let Some(board) = &view.board {
        rows.push(("keeps", kept(board)));
    }
    rows.push(("waiting", waiting(view, shape)));
    rows.push(match shape {
        Shape::Broadcast => published(view),
        _ => work_done(shape, counts),
    });
    if shape == Shape::Calls {
        rows.push(("durations", durations(counts)));
    }
    // A publisher answers nobody: what follows is of replies.
    if shape == Shape::Broadcast {
        return lines(&rows);
    }
    rows.push((
        "doorbells",
        format!(
            "{} rung, {} saved, {} heard",
            count(counts.doorbells_rung),
            count(counts.doorbells_saved),
            count(counts.doorbells_heard)
        ),
    ));
    rows.push((
        "polling",
        format!(
            "{} found by it, {} times begun, {} times in vain",
            count(counts.found_by_polling),
            count(counts.heated),
            count(counts.cooled)
        ),
    ));
    lines(&rows)
}

fn lines(rows: &[(&str, String)]) -> String {
    rows.iter().map(|(what, text)| format!("{what:<10} {text}\n")).collect()
}

/// What a publisher has for its subscribers.
fn kept(board: &BoardView) -> String {
    format!(
        "the last {} messages, of at most {} bytes, in {} bytes of memory; {}",
        count(board.history),
        count(board.capacity_bytes),
        count(board.bytes),
        if board.is_lossless {
            "the publisher waits for subscribers that have not read them"
        } else {
            "the publisher waits for nobody"
        }
    )
}

/// What a server grants, in the words of the form.
fn limits_of(limits: &LimitView, shape: Shape) -> String {
    let (slots, capacity) = (count(limits.slots), count(limits.capacity_bytes));
    format!(
        "{} sessions ({} of one user, {} of one other user), {}, {} bytes a session, {} in all",
        count(limits.sessions),
        count(limits.sessions_per_user),
        count(limits.sessions_per_other_user),
        match shape {
            Shape::Rings => format!("rings of {capacity} bytes"),
            Shape::Broadcast => format!("{slots} held by each, messages of {capacity} bytes"),
            _ => format!("{slots} slots of {capacity} bytes"),
        },
        count(limits.session_bytes),
        count(limits.total_bytes),
    )
}

/// What was done so far, in the words of the form.
fn work_done(shape: Shape, counts: &CountView) -> (&'static str, String) {
    match shape {
        Shape::Calls => (
            "calls",
            format!(
                "{}, {} failed, {} bytes in, {} bytes out, {} in handlers",
                count(counts.calls),
                count(counts.failed),
                count(counts.bytes_in),
                count(counts.bytes_out),
                duration(counts.busy_s * 1e9),
            ),
        ),
        Shape::Messages => (
            "messages",
            format!(
                "{} acknowledged, {} given back, {} bytes received",
                count(counts.calls),
                count(counts.returned),
                count(counts.bytes_in),
            ),
        ),
        Shape::Rings | Shape::Broadcast => (
            "bytes",
            format!(
                "{} in, {} out, by {} reads and writes",
                count(counts.bytes_in),
                count(counts.bytes_out),
                count(counts.calls),
            ),
        ),
    }
}

/// What a publisher has done so far.
fn published(view: &ServiceView) -> (&'static str, String) {
    let lost = view.sessions.iter().filter_map(|session| Some(session.subscription.as_ref()?.lost));
    let (published, lost) = (count(view.published), count(lost.fold(0, u64::saturating_add)));
    let cut_off = count(view.cut_off);
    ("messages", format!("{published} published; {lost} lost by those who listen, {cut_off} subscribers cut off"))
}

/// The work that waits, in all sessions, and who waits for it to be done.
fn waiting(view: &ServiceView, shape: Shape) -> String {
    let backlog = &view.backlog;
    let oldest =
        |age_s: Option<f64>| age_s.map_or_else(String::new, |s| format!(", the oldest for {}", duration(s * 1e9)));
    let mut text = match shape {
        Shape::Rings => format!("{} bytes unread", count(backlog.unread_bytes)),
        Shape::Broadcast if view.sessions.is_empty() => "nobody listens".to_owned(),
        Shape::Broadcast => {
            let lags = view.sessions.iter().filter_map(|session| Some(session.subscription.as_ref()?.lag));
            let lag = lags.max().unwrap_or(0);
            let kept = view.board.as_ref().filter(|board| !board.is_lossless).map_or(u64::MAX, |board| board.history);
            let gone = match lag.saturating_sub(kept) {
                0 => String::new(),
                gone => format!(", {} of which are kept no more", count(gone)),
            };
            format!("the slowest subscriber is {} messages behind{gone}", count(lag))
        }
        _ => format!(
            "{}{}; {} in flight{}",
            count(backlog.waiting),
            oldest(backlog.oldest_waiting_s),
            count(backlog.in_flight),
            oldest(backlog.oldest_in_flight_s),
        ),
    };
    let (who, what) = match shape {
        Shape::Calls => ("client", "a reply"),
        Shape::Messages => ("sender", "room"),
        Shape::Rings => ("writer", "room"),
        Shape::Broadcast => ("subscriber", "a message"),
    };
    match backlog.blocked {
        0 => {}
        1 => text += &format!("; 1 {who} waits for {what}"),
        more => text += &format!("; {} {who}s wait for {what}", count(more as u64)),
    }
    match backlog.hidden {
        0 => {}
        1 => text += "; 1 session is hidden",
        more => text += &format!("; {} sessions are hidden", count(more as u64)),
    }
    let wanted = view.sessions.iter().filter_map(|session| session.is_kept);
    match (wanted.clone().count(), wanted.filter(|is_kept| !is_kept).count()) {
        (0, _) => {}
        (kept, 0) => text += &format!("; kept by a keeper: {}", count(kept as u64)),
        (all, unkept) => {
            let _ = write!(
                text,
                "; kept by a keeper: {} of {}, and what the others send is lost if both sides die",
                count((all - unkept) as u64),
                count(all as u64)
            );
        }
    }
    let elsewhere = view.sessions.iter().filter(|session| !session.has_same_clock).count();
    if elsewhere > 0 {
        let _ = write!(
            text,
            "; sessions of another time namespace: {}, without deadlines, and nobody knows since when they wait",
            count(elsewhere as u64)
        );
    }
    text
}

fn durations(counts: &CountView) -> String {
    let (Some(p50), Some(p99)) = (counts.p50_ns, counts.p99_ns) else { return "none yet".to_owned() };
    format!(
        "half below {}, 99 % below {}, longest timed {}",
        duration(p50 as f64),
        duration(p99 as f64),
        duration(counts.longest_ns as f64)
    )
}

fn policy(policy: &PolicyView) -> String {
    if policy.everyone {
        return "everyone".to_owned();
    }
    let mut text = "its own user".to_owned();
    let list = |what: &str, ids: &[u32]| match ids {
        [] => String::new(),
        ids => format!(", {what} {}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")),
    };
    text += &list("the users", &policy.users);
    text += &list("the groups", &policy.groups);
    if policy.not_listed > 0 {
        let _ = write!(text, ", {} more", policy.not_listed);
    }
    text
}

fn threads(threads: &[ThreadView]) -> Option<Table> {
    if threads.is_empty() {
        return None;
    }
    let mut table = Table::new(["thread", "does", "session", "slot", "for at most", "sleeps", "wakes in"]);
    for thread in threads {
        table.push([
            thread.index.to_string(),
            thread.state.to_owned(),
            or_dash(thread.session),
            or_dash(thread.slot),
            or_dash(thread.serving_for_s.map(|seconds| duration(seconds * 1e9))),
            count(thread.sleeps),
            or_dash(thread.wake_latency_us.map(|us| duration(us * 1e3))),
        ]);
    }
    Some(table)
}

fn sessions(view: &ServiceView) -> Option<Table> {
    match Shape::of(view) {
        _ if view.sessions.is_empty() => None,
        Shape::Rings => Some(streams(&view.sessions)),
        Shape::Broadcast => Some(subscribers(&view.sessions)),
        shape => Some(exchanges(&view.sessions, shape)),
    }
}

fn exchanges(sessions: &[SessionView], shape: Shape) -> Table {
    let calls = if shape == Shape::Messages { "acknowledged" } else { "calls" };
    let failed = if shape == Shape::Messages { "given back" } else { "failed" };
    let mut table = Table::new([
        "session",
        "user",
        "process",
        "age",
        "polling",
        "waiting",
        "oldest",
        "in flight",
        "client",
        "slots used",
        calls,
        failed,
        "bytes in",
        "bytes out",
    ]);
    for session in sessions {
        // What is there now counts as well: the server notes the most only once it has served it.
        let used = session.slots_in_use_max.max(session.waiting.unwrap_or(0).saturating_add(session.in_flight));
        table.push([
            session.id.to_string(),
            session.uid.to_string(),
            process(u32::try_from(session.pid).ok(), session.program.as_deref()),
            duration(session.age_s * 1e9),
            session.polling.to_owned(),
            or_dash(session.waiting.map(count)),
            or_dash(session.oldest_waiting_s.map(|seconds| duration(seconds * 1e9))),
            session.in_flight.to_string(),
            client(session, shape),
            format!("{used} of {}", session.slots),
            count(session.counts.calls),
            count(if shape == Shape::Messages { session.counts.returned } else { session.counts.failed }),
            count(session.counts.bytes_in),
            count(session.counts.bytes_out),
        ]);
    }
    table
}

/// What the client does, as far as that concerns the server.
fn client(session: &SessionView, shape: Shape) -> String {
    let what = if shape == Shape::Messages { " for room" } else { "" };
    match (session.is_hidden, session.is_blocked, session.blocked_for_s) {
        (true, ..) => "hidden".to_owned(),
        (_, false, _) => "-".to_owned(),
        (_, true, None) => format!("waits{what}"),
        (_, true, Some(seconds)) => format!("waits{what} {}", duration(seconds * 1e9)),
    }
}

fn subscribers(sessions: &[SessionView]) -> Table {
    let mut table = Table::new(["session", "user", "process", "age", "lag", "received", "lost", "holds", "subscriber"]);
    for session in sessions {
        let of = |figure: fn(&SubscriptionView) -> u64| or_dash(session.subscription.as_ref().map(figure).map(count));
        let does = match &session.subscription {
            None => "hidden",
            Some(it) if it.is_stopped => "stopped",
            Some(it) if it.outlived_holds > 0 => "holds what is kept no more",
            Some(it) if it.is_asleep => "asleep",
            Some(_) => "awake",
        };
        table.push([
            session.id.to_string(),
            session.uid.to_string(),
            process(u32::try_from(session.pid).ok(), session.program.as_deref()),
            duration(session.age_s * 1e9),
            of(|it| it.lag),
            of(|it| it.received),
            of(|it| it.lost),
            of(|it| it.holds),
            does.to_owned(),
        ]);
    }
    table
}

fn streams(sessions: &[SessionView]) -> Table {
    let mut table = Table::new([
        "session",
        "user",
        "process",
        "age",
        "ring bytes",
        "bytes in",
        "unread",
        "waits",
        "bytes out",
        "unread",
        "waits",
    ]);
    for session in sessions {
        let direction = |ring: Option<&RingView>| {
            let waits = match ring {
                None => "hidden",
                Some(ring) if ring.writer_waits => "writer",
                Some(ring) if ring.reader_waits => "reader",
                Some(ring) if ring.is_ended => "ended",
                Some(_) => "-",
            };
            (
                or_dash(ring.map(|ring| count(ring.written_bytes))),
                or_dash(ring.map(|ring| count(ring.unread_bytes))),
                waits.to_owned(),
            )
        };
        let incoming = direction(session.rings.as_ref().map(|rings| &rings.incoming));
        let outgoing = direction(session.rings.as_ref().map(|rings| &rings.outgoing));
        table.push([
            session.id.to_string(),
            session.uid.to_string(),
            process(u32::try_from(session.pid).ok(), session.program.as_deref()),
            duration(session.age_s * 1e9),
            count(session.capacity_bytes),
            incoming.0,
            incoming.1,
            incoming.2,
            outgoing.0,
            outgoing.1,
            outgoing.2,
        ]);
    }
    table
}

fn process(pid: Option<u32>, program: Option<&str>) -> String {
    match (pid, program) {
        (Some(pid), Some(program)) => format!("{program} ({pid})"),
        (Some(pid), None) => format!("gone or not to be seen ({pid})"),
        (None, _) => "not known".to_owned(),
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
