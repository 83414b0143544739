//! Memory: how much there is, and what limits it.

use wigwag_bench::machine::kibibytes;

use super::finding::{Report, Section::Memory};
use super::kernel_files::KernelFiles;

/// Less than this is little: a few sessions of the default size, used in full.
const LITTLE: u64 = 64 << 20;
/// Limits above this mean that there is none (the first version writes a number near 2^63).
const NO_LIMIT: u64 = 1 << 60;

/// Looks at the memory that a process started from here may have.
pub fn examine(files: &KernelFiles, report: &mut Report) {
    machine(files, report);
    group(files, report);
    huge_pages(files, report);
}

fn machine(files: &KernelFiles, report: &mut Report) {
    let told = files.text("/proc/meminfo").unwrap_or_default();
    let (Some(total), Some(available)) = (kibibytes(&told, "MemTotal"), kibibytes(&told, "MemAvailable")) else {
        return;
    };
    let fact =
        format!("{} of {} are available; a session takes memory as it is written to", size(available), size(total));
    match available < LITTLE {
        true => report.wrong(
            Memory,
            "memory-available",
            fact,
            "end what needs much of it, or ask for smaller sessions (slots, capacity)",
        ),
        false => report.ok(Memory, "memory-available", fact),
    }
}

/// The group with the least left: (left, limit).
fn least_left(files: &KernelFiles) -> Option<(u64, u64)> {
    let groups = files.control_groups("memory");
    let limits = groups.iter().flat_map(|group| {
        let used =
            files.number(group.join("memory.current")).or_else(|| files.number(group.join("memory.usage_in_bytes")));
        let limits = ["memory.max", "memory.high", "memory.limit_in_bytes"].map(|name| files.number(group.join(name)));
        limits.into_iter().flatten().filter(|limit| *limit < NO_LIMIT).filter_map(move |limit| Some((used?, limit)))
    });
    limits.map(|(used, limit)| (limit.saturating_sub(used), limit)).min()
}

fn group(files: &KernelFiles, report: &mut Report) {
    let Some((left, limit)) = least_left(files) else {
        report.ok(Memory, "memory-group", "no control group limits it");
        return;
    };
    let fact = format!(
        "a control group limits it to {}, of which {} are left; a page of shared memory counts towards the group that \
         touched it first",
        size(limit),
        size(left)
    );
    match left < LITTLE {
        true => report.note(
            Memory,
            "memory-group",
            fact + "; whoever goes beyond it is slowed down or killed",
            "allow more (MemoryMax= in a unit of systemd, --memory of a container), or ask for smaller sessions \
             (slots, capacity)",
        ),
        false => report.ok(Memory, "memory-group", fact),
    }
}

fn huge_pages(files: &KernelFiles, report: &mut Report) {
    let told = files.text("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let chosen = told.split(['[', ']']).nth(1).unwrap_or_default();
    if ["always", "force"].contains(&chosen) {
        report.note(
            Memory,
            "memory-huge-pages",
            format!("shared memory is taken in huge pages ({chosen}): a session that writes one byte may take 2 MiB"),
            "echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled, if there are many sessions",
        );
    }
}

/// Bytes in the unit that suits them.
fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 10 << 30 => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 1 << 30 => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::kernel_files::tests::planted;
    use super::*;

    fn told(files: &[(&str, &str)]) -> (Vec<(&'static str, Level)>, String) {
        let (_root, files) = planted(files);
        let mut report = Report::default();
        examine(&files, &mut report);
        (report.levels(), report.text())
    }

    #[test]
    fn little_memory_is_wrong() {
        let (levels, text) = told(&[("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 10240 kB")]);
        assert_eq!(levels[0], ("memory-available", Level::Wrong));
        assert!(text.contains("10 MiB of 1.0 GiB"), "{text}");
        let (levels, _) = told(&[("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 1024000 kB")]);
        assert_eq!(levels[0].1, Level::Ok);
    }

    #[test]
    fn the_tightest_group_counts() {
        let mounts = "1 1 0:1 / /g rw - cgroup2 none rw\n2 1 0:2 / /m rw - cgroup none rw,memory";
        let common = [("/proc/self/mountinfo", mounts), ("/proc/self/cgroup", "4:memory:/\n0::/a/b")];
        let with = |more: &[(&'static str, &'static str)]| told(&[&common, more].concat());
        assert_eq!(
            with(&[("/g/a/b/memory.max", "max"), ("/g/a/b/memory.current", "5")]).0,
            [("memory-group", Level::Ok)]
        );
        let inner = [("/g/a/b/memory.max", "1073741824"), ("/g/a/b/memory.current", "1048576")];
        let (levels, text) = with(&inner);
        assert!(
            levels == [("memory-group", Level::Ok)] && text.contains("1.0 GiB") && text.contains("1023 MiB"),
            "{text}"
        );
        let outer = [("/g/a/memory.high", "104857600"), ("/g/a/memory.current", "94371840")];
        let (levels, text) = with(&[&inner[..], &outer].concat());
        assert!(levels == [("memory-group", Level::Note)] && text.contains("100 MiB, of which 10 MiB"), "{text}");
        let first = [("/m/memory.limit_in_bytes", "20971520"), ("/m/memory.usage_in_bytes", "20000000")];
        assert_eq!(with(&first).0, [("memory-group", Level::Note)]);
    }

    #[test]
    fn huge_pages_of_shared_memory_are_told() {
        let choice = |text| told(&[("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text)]).0.len();
        assert_eq!((choice("[always] never"), choice("always [never]"), choice("always [advise] never")), (2, 1, 1));
    }
}
