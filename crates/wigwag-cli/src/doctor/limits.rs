//! Limits of this process and of the system on descriptors, files and mappings.

use nix::sys::resource::{RLIM_INFINITY, Resource};

use super::finding::{Report, Section::Limits};
use super::kernel_files::KernelFiles;
use crate::output::count;

/// Descriptors of a server, without its sessions, and of each of these (docs/failures.md, "Limits").
const SERVER_DESCRIPTORS: u64 = 16;
const SESSION_DESCRIPTORS: u64 = 4;
/// Sessions that a server allows unless told otherwise.
const SESSIONS: u64 = 4096;
/// What Linux has given a process for decades. Below it something has lowered the limit.
const USUAL_DESCRIPTORS: u64 = 1024;
/// A session of the default size: 16 slots of 1 MiB, and the first pages.
const SEGMENT: u64 = 17 << 20;

/// Looks at the limits of a process that is started from here.
pub fn examine(files: &KernelFiles, report: &mut Report) {
    descriptors(report);
    sizes(report);
    system(files, report);
}

fn descriptors(report: &mut Report) {
    let (soft, most) = limits_of(Resource::RLIMIT_NOFILE);
    let Some(soft) = soft else {
        report.ok(Limits, "limit-descriptors", "a process may have any number of descriptors");
        return;
    };
    let sessions = soft.saturating_sub(SERVER_DESCRIPTORS) / SESSION_DESCRIPTORS;
    let room = match sessions >= SESSIONS {
        true => format!("the {} sessions that it allows by default", count(SESSIONS)),
        false => format!("about {} sessions", count(sessions)),
    };
    let fact = format!("a process may have {} descriptors (ulimit -n): a server has room for {room}", count(soft));
    let hard = most.map_or("unlimited".to_owned(), |hard| hard.to_string());
    let cure = format!("ulimit -n {hard} before the server starts (LimitNOFILE= in a unit of systemd)");
    match soft {
        soft if sessions < 8 => report.wrong(Limits, "limit-descriptors", fact, raised(soft, most, cure)),
        soft if soft < USUAL_DESCRIPTORS => {
            report.note(Limits, "limit-descriptors", fact, raised(soft, most, cure));
        }
        _ => report.ok(Limits, "limit-descriptors", fact),
    }
}

/// What is allowed now, and what could be; `None`: anything, or a sandbox does not tell.
fn limits_of(resource: Resource) -> (Option<u64>, Option<u64>) {
    let (soft, hard) = nix::sys::resource::getrlimit(resource).unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
    let finite = |limit: u64| (limit != RLIM_INFINITY).then_some(limit);
    (finite(soft), finite(hard))
}

/// The cure, or who can cure it where the process itself cannot.
fn raised(soft: u64, hard: Option<u64>, cure: String) -> String {
    match hard {
        Some(hard) if hard <= soft => {
            "only root can raise it: /etc/security/limits.conf, or LimitNOFILE= in a unit of systemd".to_owned()
        }
        _ => cure,
    }
}

fn sizes(report: &mut Report) {
    let limits = [
        (Resource::RLIMIT_FSIZE, "limit-file-size", "a file may have", "ulimit -f unlimited"),
        (Resource::RLIMIT_AS, "limit-address-space", "a process may have an address space of", "ulimit -v unlimited"),
    ];
    let mut is_limited = false;
    for (resource, check, what, cure) in limits {
        let Some(bytes) = limits_of(resource).0 else { continue };
        is_limited = true;
        let fact = format!("{what} {} bytes: a session's memory counts towards it", count(bytes));
        match bytes < SEGMENT {
            true => report.wrong(Limits, check, fact + ", and one of the default size has 17 MiB", cure),
            false => report.note(Limits, check, fact, cure),
        }
    }
    if !is_limited {
        report.ok(Limits, "limit-sizes", "files and the address space may have any size");
    }
}

fn system(files: &KernelFiles, report: &mut Report) {
    let used = files.number("/proc/sys/fs/file-nr").zip(files.number("/proc/sys/fs/file-max"));
    if let Some((used, most)) = used.filter(|(used, most)| *used > most / 10 * 9) {
        report.wrong(
            Limits,
            "limit-system-files",
            format!("the system has {} of the {} open files that it may have", count(used), count(most)),
            format!("sysctl fs.file-max={}", most.saturating_mul(2)),
        );
    }
    let low = [
        (
            "/proc/sys/vm/max_map_count",
            16_384,
            "vm.max_map_count",
            "mappings of a process",
            "each session needs up to three",
        ),
        (
            "/proc/sys/fs/epoll/max_user_watches",
            32_768,
            "fs.epoll.max_user_watches",
            "watched descriptors of a user",
            "each session needs about six",
        ),
        (
            "/proc/sys/net/core/somaxconn",
            128,
            "net.core.somaxconn",
            "clients that can wait to be let in",
            "more at once try again until their time is over",
        ),
    ];
    let mut is_low = false;
    for (path, least, name, what, why) in low {
        let Some(value) = files.number(path).filter(|value| *value < least) else { continue };
        is_low = true;
        let fact = format!("{name} allows {} {what}: {why}", count(value));
        report.note(Limits, "limit-system", fact, format!("sysctl {name}={least}"));
    }
    if !is_low && used.is_some() {
        report.ok(Limits, "limit-system", "the system's own limits on files, mappings and connects are far away");
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::kernel_files::tests::planted;
    use super::*;

    #[test]
    fn a_system_near_its_limits_is_told() {
        let files = [
            ("/proc/sys/fs/file-nr", "950 0 1000"),
            ("/proc/sys/fs/file-max", "1000"),
            ("/proc/sys/net/core/somaxconn", "16"),
        ];
        let (_root, files) = planted(&files);
        let mut report = Report::default();
        system(&files, &mut report);
        assert_eq!(report.levels(), [("limit-system-files", Level::Wrong), ("limit-system", Level::Note)]);
        assert!(report.text().contains("sysctl net.core.somaxconn=128"), "{}", report.text());
        let (_root, files) = planted(&[("/proc/sys/fs/file-nr", "9 0 1000"), ("/proc/sys/fs/file-max", "1000")]);
        let mut report = Report::default();
        system(&files, &mut report);
        assert_eq!(report.levels(), [("limit-system", Level::Ok)]);
    }
}
