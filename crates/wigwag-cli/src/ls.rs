//! `wigwag ls`: the names of this user, and what is behind them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use wigwag::Keeper;
use wigwag::observe::{Observer, PermitSnapshot, Snapshot};
use wigwag::runtime::{Entry, Kind, RuntimeDirectory, State, escaped};

use crate::bridges;
use crate::output::{self, duration};
use crate::service_view::{self, printable};
use crate::table::Table;

const EXAMPLES: &str = "\
Examples:
  wigwag ls                   # names, alive or dead, sessions, rate
  wigwag ls --json            # the same for programs
  wigwag ls --over 1          # the rate of a whole second
  watch wigwag ls             # again and again

Nobody is asked for anything: what is shown lies in memory that each server keeps up to date, so it is there also \
    while \
a server is stopped or hangs, and looking disturbs nobody. Servers at paths of their own are not listed: `wigwag \
    inspect \
./path`. A dead name is removed by the next server that takes any name.

A keeper of messages and a bridge to other machines are asked, and not waited for if they do not answer; what a \
    bridge tells of its links stands below the table. Waiting are calls that nobody has begun, \
    messages of the dead that a keeper has, messages that nobody has received, and who waits for a semaphore's \
    permits; oldest \
is how long the oldest of them has waited (a call: at least). A queue whose receiver does not run has no server to be \
    shown: its \
senders keep their messages, and are not seen.

States: running; stopped (by a signal or a debugger); frozen (its control group is); hidden (alive, and not to be \
    looked at from here); dead (its process was \
killed and left the name); unreachable, unguarded (its socket, its lock file was removed); foreign (not of ours); owed \
    (a \
semaphore whose last holders died).";

/// List the servers, listeners, queues, semaphores and keepers of this user
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// JSON: an object with the directory and a list of names
    #[arg(long)]
    pub json: bool,
    /// Seconds over which the rate is counted, such as 1 or 0.1
    #[arg(long, value_name = "S", default_value = "0.05", value_parser = crate::lock::seconds)]
    pub over: Duration,
}

/// How long a keeper may take to say what it has.
const KEEPER_LIMIT: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize)]
struct Listing {
    directory: String,
    names: Vec<Listed>,
}

#[derive(Debug, Default, Serialize)]
struct Listed {
    name: String,
    kind: &'static str,
    state: &'static str,
    form: Option<String>,
    pid: Option<u32>,
    program: Option<String>,
    sessions: Option<usize>,
    calls: Option<u64>,
    calls_per_second: Option<f64>,
    /// How long the longest of the calls that run now has been running.
    longest_now_s: Option<f64>,
    permits: Option<usize>,
    permits_held: Option<usize>,
    /// Calls that nobody has begun, messages that nobody has received; of a semaphore, who waits for permits.
    waiting: Option<u64>,
    /// How long the oldest of them has waited, if that is known.
    oldest_waiting_s: Option<f64>,
    /// Calls begun and not answered, messages received and not acknowledged.
    in_flight: Option<u64>,
    /// Clients that wait for the server, senders that wait for room.
    blocked: Option<usize>,
    /// Sessions whose memory cannot be looked at: what waits there is not counted.
    hidden_sessions: Option<usize>,
    /// Of a keeper: the memory of its sessions.
    kept_bytes: Option<u64>,
    /// Why nothing more is known.
    why: Option<String>,
}

/// One look and, a little later, another one.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let directory = RuntimeDirectory::find();
    let entries = directory.entries()?;
    let found: Vec<(Entry, Option<wigwag::Result<Observer>>)> = entries
        .into_iter()
        .map(|entry| {
            let is_service =
                entry.kind() == Kind::Service && matches!(entry.state(), State::Alive | State::Unreachable);
            let observer = is_service.then(|| Observer::open(entry.name()));
            (entry, observer)
        })
        .collect();
    let begin = Instant::now();
    let look = |observer: &Option<wigwag::Result<Observer>>| -> Option<(Snapshot, Instant)> {
        let snapshot = observer.as_ref()?.as_ref().ok()?.snapshot().ok()?;
        Some((snapshot, Instant::now()))
    };
    let before: Vec<_> = found.iter().map(|(_, observer)| look(observer)).collect();
    if before.iter().any(Option::is_some) {
        std::thread::sleep(args.over.saturating_sub(begin.elapsed()));
    }
    let names =
        found.iter().zip(before).map(|((entry, observer), before)| listed(entry, observer, before, look(observer)));
    let listing = Listing { directory: escaped(directory.path()), names: names.collect() };
    if args.json {
        output::json(&listing)?;
    } else {
        print(&listing)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(
    entry: &Entry,
    observer: &Option<wigwag::Result<Observer>>,
    before: Option<(Snapshot, Instant)>,
    after: Option<(Snapshot, Instant)>,
) -> Listed {
    let listed = Listed {
        name: escaped(entry.name()),
        kind: match entry.kind() {
            Kind::Service => "service",
            Kind::Semaphore => "semaphore",
            Kind::Keeper => "keeper",
        },
        state: service_view::state_word(entry.state()),
        ..Listed::default()
    };
    if entry.kind() == Kind::Semaphore {
        return match PermitSnapshot::of(entry.name()) {
            Ok(permits) => Listed {
                permits: Some(permits.permits.len()),
                permits_held: Some(permits.held().count()),
                waiting: Some(permits.waiting.len() as u64),
                ..listed
            },
            Err(error) => Listed { why: Some(error.to_string()), ..listed },
        };
    }
    if entry.kind() == Kind::Keeper {
        return kept(entry, listed);
    }
    match (observer, before, after) {
        (Some(Ok(observer)), Some((before, since)), Some((after, now))) => {
            let service = observer.service();
            let done = |snapshot| service_view::done(service.form, snapshot);
            let calls = done(&after).saturating_sub(done(&before));
            let seconds = now.duration_since(since).as_secs_f64();
            Listed {
                state: service_view::process_state(after.state),
                form: Some(service.form.to_string()),
                pid: Some(service.pid),
                program: service.program.as_deref().map(printable),
                sessions: Some(after.sessions.len()),
                calls: Some(done(&after)),
                calls_per_second: (seconds > 0.0).then_some(calls as f64 / seconds),
                longest_now_s: service_view::longest_now_s(&after),
                // Of a broadcast: of the subscriber that is farthest behind.
                waiting: Some(after.waiting().max(service_view::most_lag(&after))),
                oldest_waiting_s: service_view::oldest_waiting_s(&after),
                in_flight: Some(after.in_flight()),
                blocked: Some(after.blocked()),
                hidden_sessions: Some(after.hidden()),
                ..listed
            }
        }
        (Some(Err(error)), ..) => Listed { state: "hidden", why: Some(error.to_string()), ..listed },
        _ => listed,
    }
}

/// A keeper is the one that is asked: it answers at once, unless it is stopped.
fn kept(entry: &Entry, listed: Listed) -> Listed {
    if entry.state() != State::Alive {
        return listed;
    }
    match Keeper::stats_of(entry.name(), KEEPER_LIMIT) {
        Ok(stats) => Listed {
            sessions: Some(stats.sessions as usize),
            kept_bytes: Some(stats.bytes),
            waiting: Some(stats.left),
            ..listed
        },
        Err(error) => Listed { why: Some(error.to_string()), ..listed },
    }
}

fn print(listing: &Listing) -> anyhow::Result<()> {
    if listing.names.is_empty() {
        return output::line(&format!("There are no names in {}.", listing.directory));
    }
    let mut table = Table::new([
        "name",
        "form",
        "state",
        "sessions",
        "calls",
        "calls/s",
        "waiting",
        "oldest",
        "longest now",
        "process",
    ]);
    for name in &listing.names {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let process = name.pid.map(|pid| format!("{} ({pid})", name.program.as_deref().unwrap_or("?")));
        let sessions = match (name.permits, name.permits_held) {
            (Some(permits), Some(held)) => Some(format!("{held}/{permits} held")),
            _ if name.kind == "keeper" => name.sessions.map(|sessions| format!("{sessions} kept")),
            _ => name.sessions.map(|sessions| sessions.to_string()),
        };
        table.push([
            name.name.clone(),
            name.form.clone().unwrap_or_else(|| name.kind.to_owned()),
            name.state.to_owned(),
            or_dash(sessions),
            or_dash(name.calls.map(output::count)),
            or_dash(name.calls_per_second.map(|rate| output::count(rate.round() as u64))),
            or_dash(name.waiting.map(output::count)),
            or_dash(name.oldest_waiting_s.map(|seconds| duration(seconds * 1e9))),
            or_dash(name.longest_now_s.map(|seconds| duration(seconds * 1e9))),
            or_dash(process),
        ]);
    }
    table.print()?;
    for lines in bridges::names().iter().filter_map(|bridge| bridges::ask(bridge, "lines")) {
        output::bytes(format!("\n{lines}").as_bytes())?;
    }
    for name in listing.names.iter().filter_map(|name| name.why.as_ref()) {
        output::complain(&format!("wigwag: {name}."));
    }
    Ok(())
}
