//! The servers behind the names: whether somebody waits for one that does not come to it.

use std::ffi::OsStr;
use std::time::Duration;

use wigwag::observe::{Observer, ProcessState, Service, Snapshot};
use wigwag::runtime::{Entry, Kind, RuntimeDirectory, State};
use wigwag::{ErrorKind, Form, Keeper};

use super::finding::{Report, Section::Servers};
use crate::output::{count, duration, shell_word};

/// A call that runs for so long while others wait, and messages that nobody has received for so long, are told.
const LONG: Duration = Duration::from_secs(5);

/// How long a keeper may take to say what it has.
const KEEPER_LIMIT: Duration = Duration::from_secs(1);

/// Looks at each server that can be looked at.
pub fn examine(directory: &RuntimeDirectory, report: &mut Report) {
    let Ok(entries) = directory.entries() else { return }; // said with the directory
    examine_keepers(&entries, report);
    let lives =
        |entry: &&Entry| entry.kind() == Kind::Service && !matches!(entry.state(), State::Dead | State::Foreign);
    for entry in entries.iter().filter(lives) {
        match Observer::open(entry.name()).and_then(|observer| Ok((observer.service().clone(), observer.snapshot()?))) {
            Ok((service, snapshot)) => tell(entry.name(), &service, &snapshot, report),
            Err(error) if error.kind() == ErrorKind::NotRunning => {} // it ended just now
            Err(error) => report.note(
                Servers,
                "server-hidden",
                format!(
                    "{} is alive and cannot be looked at, so what waits for it is not known: {error}",
                    shell_word(entry.name())
                ),
                "look as its own user and in its own PID namespace",
            ),
        }
    }
}

/// Looks at each keeper of messages.
fn examine_keepers(entries: &[Entry], report: &mut Report) {
    let lives = |entry: &&Entry| entry.kind() == Kind::Keeper && entry.state() == State::Alive;
    for entry in entries.iter().filter(lives) {
        let name = shell_word(entry.name());
        match Keeper::stats_of(entry.name(), KEEPER_LIMIT) {
            Ok(stats) if stats.left > 0 => report.note(
                Servers,
                "keeper-waits",
                format!("the keeper {name} has {} whose senders and receivers are gone", plural(stats.left, "message")),
                "start a receiver of their queue (what the keeper prints says which): it gets them",
            ),
            Ok(stats) => report.ok(
                Servers,
                "keeper",
                format!("the keeper {name} keeps {}, {} bytes", plural(stats.sessions, "session"), count(stats.bytes)),
            ),
            Err(error) if error.kind() == ErrorKind::NotRunning => {} // it ended just now
            Err(error) => report.wrong(
                Servers,
                "keeper-silent",
                format!("the keeper {name} does not say what it has: {error}"),
                "continue it if it is stopped (kill -CONT), or start it anew",
            ),
        }
    }
}

fn tell(name: &OsStr, service: &Service, snapshot: &Snapshot, report: &mut Report) {
    let (shown, pid) = (shell_word(name), service.pid);
    let who = format!(
        "{shown} ({}, process {pid})",
        service.program.as_deref().map_or("?".to_owned(), crate::service_view::printable)
    );
    let waits = waits(service.form, snapshot);
    let nobody = "nobody who has a session waits for it, and who connects waits in vain";
    let halted = waits.as_deref().unwrap_or(nobody);
    let go_on = format!("kill -CONT {pid} lets it go on, unless a debugger holds it: then continue it there");
    let stopped = format!("{who} is stopped by a signal or a debugger: {halted}");
    match (snapshot.state, &waits) {
        (ProcessState::Gone, _) => {}
        (ProcessState::Stopped, Some(_)) => report.wrong(Servers, "server-stopped", stopped, go_on),
        (ProcessState::Stopped, None) => report.note(Servers, "server-stopped", stopped, go_on),
        (ProcessState::Frozen, _) => report.wrong(
            Servers,
            "server-frozen",
            format!("the control group of {who} is frozen: {halted}"),
            format!(
                "thaw the control group that /proc/{pid}/cgroup names: write 0 to its cgroup.freeze, or THAWED to its \
                 freezer.state"
            ),
        ),
        (_, waits) if unkept(snapshot) > 0 => report.note(
            Servers,
            "queue-unkept",
            format!(
                "what {} of {who} send is not kept, and lost if both sides die{}",
                plural(unkept(snapshot), "sender"),
                waits.as_ref().map_or_else(String::new, |waits| format!("; {waits}"))
            ),
            "start its keeper (wigwag queue keep), or raise its limits; other users and descriptors are not kept",
        ),
        (_, Some(waits)) => running(&shown, &who, waits, snapshot, pid, report),
        (_, None) => report.ok(Servers, "server", format!("{shown}: {}", quiet(snapshot))),
    }
}

/// Of one that runs, and for which somebody waits.
fn running(shown: &str, who: &str, waits: &str, snapshot: &Snapshot, pid: u32, report: &mut Report) {
    let look = format!("wigwag inspect {shown} shows its threads and who waits");
    match (snapshot.longest_now(), snapshot.oldest_waiting()) {
        (Some((thread, at_most)), _) if at_most >= LONG => report.wrong(
            Servers,
            "server-hangs",
            format!(
                "thread {} of {who} has been in one call for {}, and {waits}: its handler hangs, or works for long",
                thread.index,
                duration(at_most.as_secs_f64() * 1e9)
            ),
            format!("{look}; where it is: gdb -p {pid} -batch -ex 'thread apply all backtrace'"),
        ),
        (_, Some(oldest)) if oldest >= LONG => report.note(
            Servers,
            "server-behind",
            format!("{who} runs, and {waits}: it does not receive, or is slower than what comes"),
            look,
        ),
        _ => report.ok(Servers, "server", format!("{shown}: {waits}")),
    }
}

/// Sessions that are to be kept, and are not.
fn unkept(snapshot: &Snapshot) -> u64 {
    snapshot.sessions.iter().filter(|session| session.is_kept == Some(false)).count() as u64
}

fn quiet(snapshot: &Snapshot) -> String {
    match snapshot.hidden() {
        0 => "nobody waits for it".to_owned(),
        hidden => format!("nobody is seen to wait for it; {} sessions are hidden", count(hidden as u64)),
    }
}

/// The waiters and the waiting work, as the rest of a sentence; `None`: there are none.
fn waits(form: Form, snapshot: &Snapshot) -> Option<String> {
    let (blocked, waiting) = (snapshot.blocked(), snapshot.waiting());
    let oldest = snapshot
        .oldest_waiting()
        .map_or_else(String::new, |age| format!(", the oldest for {}", duration(age.as_secs_f64() * 1e9)));
    let (client, thing) = match form {
        Form::Queue => ("sender", "message"),
        Form::Stream => ("writer", "call"),
        Form::Broadcast => ("subscriber", "message"),
        _ => ("client", "call"),
    };
    let some = |number: u64, what: &str| match number {
        1 => format!("1 {what} waits"),
        more => format!("{} {what}s wait", count(more)),
    };
    match (blocked as u64, waiting) {
        (0, 0) => None,
        (0, waiting) => Some(format!("{}{oldest}", some(waiting, thing))),
        (blocked, 0) => Some(some(blocked, client)),
        (blocked, waiting) => Some(format!("{} with {}{oldest}", some(blocked, client), plural(waiting, thing))),
    }
}

fn plural(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}
