//! What must not be called in the library, and what must not be left behind anywhere.

use crate::source::{self, report};

/// Not in the library, outside of its tests: what, and what instead.
const BANNED_IN_THE_LIBRARY: &[(&str, &str)] = &[
    ("SystemTime", "deadlines are CLOCK_MONOTONIC: use std::time::Instant or sys::clock"),
    ("ClockId::Realtime", "deadlines are CLOCK_MONOTONIC: use sys::clock"),
    ("CLOCK_REALTIME", "deadlines are CLOCK_MONOTONIC: use sys::clock"),
    (".unwrap()", "return an error, or say with `expect` why it cannot happen"),
    ("println!", "a library does not print: return it, or put it into the error's sentence"),
    ("eprintln!", "a library does not print: return it, or put it into the error's sentence"),
    ("print!", "a library does not print"),
    ("dbg!", "take it out"),
    ("process::id()", "a PID is no identity, it is reused: a session is its socket, a process its pidfd"),
    ("getpid", "a PID is no identity, it is reused: a session is its socket, a process its pidfd"),
    ("transmute", "use zerocopy, or parse the number"),
    ("static mut", "use an atomic or a OnceLock"),
];

/// Not in any Rust file: written in two parts, so that this file does not have them.
const UNFINISHED: &[(&str, &str)] = &[("todo", "!("), ("unimplemented", "!("), ("FIX", "ME"), ("XX", "X")];

/// Not in any file: paths of somebody's machine.
const MACHINE_PATHS: &[(&str, &str)] = &[("/wo", "rk/"), ("/ro", "ot/"), ("/tmp/", "target"), ("/fa", "rm/")];

/// Each is allowed in one file: the clock's reads the wall's to notice that its own is another, and the processes' asks
/// whether a peer that lives is this process, for which a number is enough.
const ALLOWED_IN: &[(&str, &str)] = &[("ClockId::Realtime", "/sys/clock.rs"), ("getpid", "/sys/process.rs")];

#[test]
fn the_library_calls_nothing_banned() {
    let mut found = Vec::new();
    for source in source::sources("crates/wigwag/src/") {
        for (what, cure) in BANNED_IN_THE_LIBRARY {
            for (at, _) in source.product.match_indices(what) {
                let is_whole = what.starts_with('.')
                    || !source.product[..at].chars().next_back().is_some_and(source::is_of_a_name);
                let is_allowed = ALLOWED_IN.iter().any(|(it, file)| it == what && source.path.ends_with(file));
                if is_whole && !is_allowed {
                    found.push(format!("{}: `{what}`: {cure}", source.place(at)));
                }
            }
        }
    }
    report("Banned calls in the library.", found);
}

#[test]
fn only_sys_makes_system_calls_that_are_not_plain() {
    // `libc::` elsewhere would be a system call behind no safe function; its constants in errors are numbers.
    let mut found = Vec::new();
    for source in source::sources("crates/wigwag/src/") {
        if source.path.contains("/sys/") {
            continue;
        }
        for at in source::words(&source.product, "libc") {
            let name: String = source.product[at..].chars().skip(6).take_while(|&c| source::is_of_a_name(c)).collect();
            if name.chars().any(|character| character.is_ascii_lowercase()) {
                found.push(format!("{}: `libc::{name}` belongs into crates/wigwag/src/sys", source.place(at)));
            }
        }
    }
    report("The library's raw system calls are in sys.", found);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut found = Vec::new();
    for source in source::sources("") {
        for (first, second) in UNFINISHED {
            let what = format!("{first}{second}");
            for (at, _) in source.text.match_indices(&what) {
                found.push(format!("{}: `{what}`: finish it, or say what is missing as a limit", source.place(at)));
            }
        }
        for (at, _) in source.code.match_indices(concat!("#[", "ignore]")) {
            found.push(format!("{}: a test that is left out says why, as in `ignore = \"reason\"`", source.place(at)));
        }
    }
    report("Nothing is left unfinished.", found);
}

#[test]
fn no_path_of_one_machine_is_in_the_tree() {
    let mut found = Vec::new();
    for file in source::files() {
        let Some(text) = source::read(&file) else { continue };
        for (first, second) in MACHINE_PATHS {
            let what = format!("{first}{second}");
            for (at, _) in text.match_indices(&what) {
                // A part of a longer path, such as an address on the web, is somebody else's.
                if text[..at].chars().next_back().is_some_and(source::is_of_a_name) {
                    continue;
                }
                let line = 1 + text[..at].matches('\n').count();
                found.push(format!("{file}:{line}: `{what}`: use a relative path, or $HOME, $TMPDIR"));
            }
        }
    }
    report("No path of one machine is in the tree.", found);
}
