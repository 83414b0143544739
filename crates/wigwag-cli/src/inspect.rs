//! `wigwag inspect`: everything that is to be seen of one name.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use wigwag::ErrorKind;
use wigwag::observe::{Observer, PermitSnapshot};

use crate::output::{self, count, duration};
use crate::sight::{CountSight, PolicySight, ServiceSight, SessionSight, ThreadSight, printable};
use crate::table::Table;

const EXAMPLES: &str = "\
Examples:
  wigwag inspect invert             # who is served, who waits, what hangs
  wigwag inspect invert --json      # the same for programs
  wigwag inspect ./here.sock        # a path instead of a name
  wigwag inspect backup             # a semaphore: who holds its permits

The server is not asked: this works while its handlers hang and while it is stopped, and it disturbs nobody.

A call has been running for `at most` the time shown: the server does not read the clock for each call. Polling: waiting \
(its doorbell is armed, and it costs nothing), awake, spinning (it is looked at all the time), not yet (no thread has taken \
it). Time in handlers, the longest call and the durations are estimates from the calls that were timed: while calls are short \
one in 127, each of those above 5 us.";

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
struct SemaphoreSight {
    kind: &'static str,
    path: String,
    permits: usize,
    free: usize,
    holders: Vec<HolderSight>,
    waiting: Vec<WaitingSight>,
}

#[derive(Debug, Serialize)]
struct HolderSight {
    permit: usize,
    pid: Option<u32>,
    program: Option<String>,
    is_alive: bool,
}

#[derive(Debug, Serialize)]
struct WaitingSight {
    needs: u32,
    is_alive: bool,
}

/// Looks, and prints. A name that is no server's may be a semaphore's.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let error = match Observer::open(&args.name) {
        Ok(observer) => {
            let sight = ServiceSight::of(&observer)?;
            if args.json {
                output::json(&sight)?
            } else {
                print_service(&sight)?
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => error,
    };
    let may_be_semaphore = matches!(error.kind(), ErrorKind::NotRunning | ErrorKind::Io);
    match PermitSnapshot::of(&args.name) {
        Ok(permits) if may_be_semaphore => {
            let sight = semaphore(&permits);
            if args.json {
                output::json(&sight)?
            } else {
                print_semaphore(&sight)?
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(error.into()),
    }
}

fn semaphore(permits: &PermitSnapshot) -> SemaphoreSight {
    let holders = permits.held().map(|(permit, holder)| HolderSight {
        permit,
        pid: holder.pid,
        program: holder.program().as_deref().map(printable),
        is_alive: holder.is_alive,
    });
    let waiting = permits.waiting.iter().map(|one| WaitingSight { needs: one.needs, is_alive: one.is_alive });
    SemaphoreSight {
        kind: "semaphore",
        path: permits.path.display().to_string(),
        permits: permits.permits.len(),
        free: permits.free(),
        holders: holders.collect(),
        waiting: waiting.collect(),
    }
}

fn print_semaphore(sight: &SemaphoreSight) -> anyhow::Result<()> {
    let mut text = format!(
        "semaphore  {}\npermits    {}, {} free, {} waiting\n\n",
        printable(&sight.path),
        sight.permits,
        sight.free,
        sight.waiting.len()
    );
    for waiting in sight.waiting.iter().filter(|waiting| waiting.needs > 1) {
        let _ = writeln!(text, "somebody waits for {} permits at once", waiting.needs);
    }
    output::bytes(text.as_bytes())?;
    let mut table = Table::new(["permit", "process", "holder"]);
    for holder in &sight.holders {
        table.push([
            holder.permit.to_string(),
            process(holder.pid, holder.program.as_deref()),
            if holder.is_alive { "alive" } else { "dead: the next one to acquire is told" }.to_owned(),
        ]);
    }
    table.print()
}

fn print_service(sight: &ServiceSight) -> anyhow::Result<()> {
    output::bytes(head(sight).as_bytes())?;
    threads(&sight.threads).map_or(Ok(()), |table| spaced(&table))?;
    sessions(&sight.sessions).map_or(Ok(()), |table| spaced(&table))?;
    if !sight.kept.is_empty() {
        let mut table = Table::new(["kept to be answered later: session", "slot", "for at most"]);
        for kept in &sight.kept {
            table.push([or_dash(kept.session), kept.slot.to_string(), duration(kept.kept_for_s * 1e9)]);
        }
        spaced(&table)?;
    }
    if !sight.is_whole {
        output::line("\nThe server was ending a session just then: that one may be counted twice, or not at all.")?;
    }
    Ok(())
}

fn spaced(table: &Table) -> anyhow::Result<()> {
    output::line("")?;
    table.print()
}

fn head(sight: &ServiceSight) -> String {
    let ServiceSight { process: server, limits, counts, .. } = sight;
    let rows = [
        (sight.form.as_str(), format!("{} serves {}", printable(&sight.path), sight.contract)),
        (
            "process",
            format!(
                "{}, {}, for {}",
                process(Some(server.pid), server.program.as_deref()),
                server.state,
                duration(sight.age_s * 1e9)
            ),
        ),
        ("waits", sight.wait.to_owned()),
        ("lets in", policy(&sight.policy)),
        (
            "limits",
            format!(
                "{} sessions ({} of one user, {} of one other user), {} slots of {} bytes, {} bytes a session, {} in all",
                count(limits.sessions),
                count(limits.sessions_per_user),
                count(limits.sessions_per_stranger),
                count(limits.slots),
                count(limits.capacity_bytes),
                count(limits.session_bytes),
                count(limits.total_bytes),
            ),
        ),
        (
            "sessions",
            format!(
                "{} now, {} at most, {} ever, {} refused, {} ended for a violation, {} shaking hands",
                sight.sessions.len(),
                count(sight.sessions_max),
                count(sight.sessions_accepted),
                count(sight.sessions_refused),
                count(sight.violations),
                sight.handshakes,
            ),
        ),
        (
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
        ("durations", durations(counts)),
        (
            "doorbells",
            format!(
                "{} rung, {} saved, {} heard",
                count(counts.doorbells_rung),
                count(counts.doorbells_saved),
                count(counts.doorbells_heard)
            ),
        ),
        (
            "polling",
            format!(
                "{} found by it, {} times begun, {} times in vain",
                count(counts.found_by_polling),
                count(counts.heated),
                count(counts.cooled)
            ),
        ),
    ];
    rows.iter().map(|(what, text)| format!("{what:<10} {text}\n")).collect()
}

fn durations(counts: &CountSight) -> String {
    let (Some(p50), Some(p99)) = (counts.p50_ns, counts.p99_ns) else { return "none yet".to_owned() };
    format!(
        "half below {}, 99 % below {}, longest timed {}",
        duration(p50 as f64),
        duration(p99 as f64),
        duration(counts.longest_ns as f64)
    )
}

fn policy(policy: &PolicySight) -> String {
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

fn threads(threads: &[ThreadSight]) -> Option<Table> {
    if threads.is_empty() {
        return None;
    }
    let mut table = Table::new(["thread", "does", "session", "slot", "for at most", "sleeps"]);
    for thread in threads {
        table.push([
            thread.index.to_string(),
            thread.state.to_owned(),
            or_dash(thread.session),
            or_dash(thread.slot),
            or_dash(thread.serving_for_s.map(|seconds| duration(seconds * 1e9))),
            count(thread.sleeps),
        ]);
    }
    Some(table)
}

fn sessions(sessions: &[SessionSight]) -> Option<Table> {
    if sessions.is_empty() {
        return None;
    }
    let mut table = Table::new([
        "session",
        "user",
        "process",
        "age",
        "polling",
        "in flight",
        "slots used",
        "calls",
        "failed",
        "bytes in",
        "bytes out",
    ]);
    for session in sessions {
        table.push([
            session.id.to_string(),
            session.uid.to_string(),
            process(u32::try_from(session.pid).ok(), session.program.as_deref()),
            duration(session.age_s * 1e9),
            session.polling.to_owned(),
            session.in_flight.to_string(),
            format!("{} of {}", session.slots_in_use_max, session.slots),
            count(session.counts.calls),
            count(session.counts.failed),
            count(session.counts.bytes_in),
            count(session.counts.bytes_out),
        ]);
    }
    Some(table)
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
