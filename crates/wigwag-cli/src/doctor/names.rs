//! The names in the runtime directory, and what became of who made them.

use std::time::Duration;

use wigwag::runtime::{Entry, Kind, RuntimeDirectory, State};

use super::directory::file;
use super::finding::{Report, Section::Names};
use crate::output::shell_word;

/// A server that starts or ends is unreachable for an instant: who still is after this is looked at again.
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
}

fn tell(directory: &RuntimeDirectory, entry: &Entry, report: &mut Report) {
    let name = shown(entry);
    let path = |ending| file(directory, entry.name(), ending);
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
            format!("restart that server: fuser {} shows it", path(".lock")),
        ),
        State::Unguarded => report.note(
            Names,
            "name-unguarded",
            format!("somebody listens on {name} and nobody holds its lock: its lock file was removed, or it is no server of ours"),
            format!("restart that server, if it is one: ss -xlp | grep {}", path(".sock")),
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
            let endings = if entry.kind() == Kind::Semaphore { ".semaphore" } else { ".sock" };
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
        Kind::Service => format!("the name {}", shell_word(entry.name())),
        Kind::Semaphore => format!("the semaphore {}", shell_word(entry.name())),
    }
}
