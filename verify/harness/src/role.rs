//! The processes that the goals start: this very program, playing a role.

use std::ffi::OsString;
use std::process::Command;

use wigwag_testing::{Link, Process, ordered_role};

use crate::{
    audit, broadcasts, crowd, held, history, hostile, model, queues, restarts, step, storm, streams, surroundings,
};

/// What a process in a role does: it talks with the process that started it, and has the arguments it was given.
pub type Play = fn(&Link, &[&str]);

/// Starts this program once more, in a role.
pub fn start<A: Into<OsString>>(role: &str, arguments: impl IntoIterator<Item = A>) -> Process {
    start_with(role, arguments, |_| {})
}

/// As [`start`], with a hand in how the process is started.
pub fn start_with<A: Into<OsString>>(
    role: &str,
    arguments: impl IntoIterator<Item = A>,
    prepare: impl FnOnce(&mut Command),
) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    prepare(&mut command);
    Process::run(command, role, arguments)
}

/// Plays the role that this process was started for, if it was.
pub fn play() -> bool {
    let Some(name) = ordered_role() else { return false };
    let parts = [
        storm::ROLES,
        step::ROLES,
        hostile::ROLES,
        crowd::ROLES,
        model::ROLES,
        audit::ROLES,
        streams::ROLES,
        queues::ROLES,
        history::ROLES,
        surroundings::ROLES,
        held::ROLES,
        restarts::ROLES,
        broadcasts::ROLES,
    ];
    match parts.into_iter().flatten().find(|(role, _)| *role == name) {
        Some((name, play)) => wigwag_testing::role(name, play),
        None => panic!("there is no role `{name}`"),
    }
    true
}
