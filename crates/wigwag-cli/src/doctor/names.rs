//! The names in the runtime directory, and the state of their makers.

use std::time::Duration;

use wigwag::observe::{LostSemaphore, Observer, ProcessState};
use wigwag::runtime::{Entry, Kind, RuntimeDirectory, State, escaped};

use super::directory::file;
use super::finding::{Report, Section::Names};
use crate::output::shell_word;

/// A server that starts or ends, or takes a removed name again, is unreachable for an instant: a server that still is
/// after this is looked at again.
const INSTANT: Duration = Duration::from_millis(100);

/// Looks at the names; with `fix`, removes the dead ones first.
pub fn examine(directory: &RuntimeDirectory, fix: bool, report: &mut Report) {
    let Ok(mut entries) = directory.entries() else { return }; // said with the directory
    if fix {
        for entry in entries.iter().filter(|entry| entry.state() == State::Dead) {
            if directory.remove_dead(entry).unwrap_or(false) {
                report.ok(Names, "name-removed", format!("{} is removed: its process is gone", shown(entry)));
            }
        }
        entries = directory.entries().unwrap_or_default();
    }
    if entries.iter().any(|entry| entry.state() == State::Unreachable) {
        std::thread::sleep(INSTANT);
        entries = directory.entries().unwrap_or_default();
    }
    let alive = entries.iter().filter(|entry| entry.state() == State::Alive).count();
    let are = if alive == 1 { "1 name is" } else { &format!("{alive} names are") };
    report.ok(Names, "names-alive", format!("{are} in use"));
    for entry in &entries {
        tell(directory, entry, report);
    }
    lost(directory, report);
    lost_semaphores(directory, report);
}

/// Semaphores that somebody has open, and whose names lead elsewhere or nowhere.
fn lost_semaphores(directory: &RuntimeDirectory, report: &mut Report) {
    for lost in LostSemaphore::all() {
        let path = shell_word(lost.path.as_os_str());
        let processes: Vec<String> = lost.processes.iter().map(u32::to_string).collect();
        let (who, numbers) = match &processes[..] {
            [one] => (format!("process {one} has"), one.clone()),
            all => (format!("processes {} have", all.join(", ")), all.join(" ")),
        };
        let fact = format!(
            "{who} the semaphore {path} open, and that path does not lead to it: its file was removed, replaced or \
             moved, so that who \
             opens the name now does not see what is held there"
        );
        let cure = format!(
            "let it be closed and opened again: restart what is not told by its next acquisition, kill {numbers}"
        );
        match lost.path.parent() == Some(directory.path()) {
            true => report.wrong(Names, "semaphore-lost", fact, cure),
            false => report.note(Names, "semaphore-lost-elsewhere", fact, cure),
        }
    }
}

/// Servers that are there and have no name, or not as whom they are now: found by their processes.
fn lost(directory: &RuntimeDirectory, report: &mut Report) {
    let mut all = Observer::all();
    if all.iter().any(|observer| !observer.has_name()) {
        std::thread::sleep(INSTANT); // one that starts, ends, or takes its name again is not lost
        all = Observer::all();
    }
    let is_lost = |observer: &Observer| {
        let state = observer.snapshot().map(|seen| seen.state);
        !observer.has_name() && !matches!(state, Ok(ProcessState::Gone) | Err(_))
    };
    for observer in all {
        let service = observer.service();
        let (path, process) = (shell_word(service.path.as_os_str()), program(&observer));
        if let Some(user) = observer.former_user() {
            report.note(
                Names,
                "name-privileges",
                format!(
                    "{process} took {path} as user {user} and acts as another user now: it cannot remove the name when \
                     it ends, \
                     and its next start as that user will fail"
                ),
                "let it give up its privileges before it takes the name, in a directory of the user that it acts as",
            );
        }
        if !is_lost(&observer) {
            continue;
        }
        let fact = format!(
            "{process} serves {path}, and that path does not lead to it: the name was removed or taken by another \
             server, or is \
             in another mount namespace"
        );
        let cure = format!("restart that server, if it should be reached: kill {}", service.pid);
        // Those of other directories may be so on purpose.
        match service.path.parent() == Some(directory.path()) {
            true => report.wrong(Names, "name-lost", fact, cure),
            false => report.note(Names, "name-lost-elsewhere", fact, cure),
        }
    }
}

fn program(observer: &Observer) -> String {
    let service = observer.service();
    let program = service.program.as_deref().unwrap_or("a program").replace(char::is_control, " ");
    format!("{program} (process {})", service.pid)
}

fn tell(directory: &RuntimeDirectory, entry: &Entry, report: &mut Report) {
    let name = shown(entry);
    let path = |ending| file(directory, entry.name(), ending);
    let (socket, lock) = match entry.kind() {
        Kind::Keeper => (".keeper", ".keeper-lock"),
        _ => (".sock", ".lock"),
    };
    match entry.state() {
        State::Alive => {}
        State::Dead => report.note(
            Names,
            "name-dead",
            format!("{name} is stale: its process is gone"),
            "wigwag doctor --fix removes it; so does the next server that starts",
        ),
        State::Unreachable => report.wrong(
            Names,
            "name-unreachable",
            format!("{name} is held by a server that lives, but its socket was removed: nobody can connect"),
            format!(
                "a server takes its name again unless it is stopped or hangs: fuser {} shows it; continue it, or \
                 restart it",
                path(lock)
            ),
        ),
        State::Unguarded => report.note(
            Names,
            "name-unguarded",
            format!(
                "somebody listens on {name} and nobody holds its lock: its lock file was removed, or it is no \
                server of ours"
            ),
            format!("restart that server, if it is one: ss -xlp | grep {}", path(socket)),
        ),
        State::Owed { permits } => report.note(
            Names,
            "name-owed",
            format!("{name}: {permits} permits' last holders died, and nobody has acquired one since"),
            format!(
                "look after what it protects, then wigwag lock {} -- true, with the same --permits; or rm {}",
                shell_word(entry.name()),
                path(".semaphore")
            ),
        ),
        // Foreign, and what a later version of the library tells apart.
        _ => {
            let endings = match entry.kind() {
                Kind::Service => ".sock",
                Kind::Semaphore => ".semaphore",
                Kind::Keeper => ".keeper",
            };
            report.note(
                Names,
                "name-foreign",
                format!("{name} cannot be used: what stands there is of another kind or of another user"),
                format!("look what it is (ls -l {}), and remove it if nobody needs it", path(endings)),
            );
        }
    }
}

fn shown(entry: &Entry) -> String {
    match entry.kind() {
        Kind::Service => format!("the name {}", escaped(entry.name())),
        Kind::Semaphore => format!("the semaphore {}", escaped(entry.name())),
        Kind::Keeper => format!("the keeper {}", escaped(entry.name())),
    }
}
