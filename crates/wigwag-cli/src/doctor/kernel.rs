//! What the kernel, or a sandbox around this process, grants; and what happens without it.

use wigwag::runtime::features;

use super::finding::{Report, Section::Kernel};
use super::kernel_files::KernelFiles;

/// Tries each feature that the library uses.
pub fn examine(files: &KernelFiles, report: &mut Report) {
    let features = features();
    let there = features.iter().filter(|feature| feature.missing.is_none()).count();
    let release = files.text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "of an unknown version".into());
    report.ok(
        Kernel,
        "kernel-features",
        format!("Linux {release} has {there} of the {} features used", features.len()),
    );
    for feature in &features {
        let Some(missing) = &feature.missing else { continue };
        let fact =
            format!("without {} ({}): {}. The kernel says: {missing}", feature.name, feature.purpose, feature.without);
        let cure = format!("use Linux {} or later; if it is, let the sandbox (seccomp) allow it", feature.since);
        match feature.is_needed {
            true => report.wrong(Kernel, "kernel-feature", fact, cure),
            false => report.note(Kernel, "kernel-feature", fact, cure),
        }
    }
    let policy = match files.number("/proc/sys/vm/memfd_noexec") {
        Some(0) => "lets programs make executable memory; Wigwag's is sealed against it all the same",
        Some(1) => "makes memory not executable unless a program asks for it; Wigwag's never is",
        Some(_) => "forbids executable memory; Wigwag's never is",
        None => return,
    };
    report.ok(Kernel, "kernel-memfd-policy", format!("vm.memfd_noexec {policy}"));
}
