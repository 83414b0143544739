//! Processors: which may be used, and what makes waiting on them slow or unsteady.

use rustix::thread::{CpuSet, sched_getaffinity};
use wigwag_bench::machine::Machine;

use super::finding::{Report, Section::Processors};
use super::kernel_files::{KernelFiles, as_list};

/// Leaving a sleep state may take this long before it is worth a word: a wake-up across processors takes about as long.
const SLEEP_LATENCY_US: u64 = 100;
/// The share of its time that a virtual machine may lose to others before it is worth a word: one in so many.
const STOLEN_SHARE: u64 = 100;

/// Looks at the processors that a process started from here may use.
pub fn examine(files: &KernelFiles, report: &mut Report) {
    let allowed = allowed();
    affinity(files, &allowed, report);
    quota(files, report);
    isolation(files, &allowed, report);
    clock_rate(files, &allowed, report);
    sleep_states(files, &allowed, report);
    virtual_machine(files, &Machine::here().virtual_machine, report);
}

fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|&processor| set.is_set(processor)).collect()
}

fn affinity(files: &KernelFiles, allowed: &[usize], report: &mut Report) {
    let online = files.processors("/sys/devices/system/cpu/online").unwrap_or_else(|| allowed.to_vec());
    let list = as_list(allowed);
    if let [only] = allowed {
        let cure = match online.len() {
            0 | 1 => "use a machine with two processors or more for calls below a microsecond".to_owned(),
            _ => format!(
                "allow more of {}: taskset -c {0} COMMAND, AllowedCPUs= in a unit of systemd, --cpuset-cpus of a \
                 container",
                as_list(&online)
            ),
        };
        report.note(
            Processors,
            "processors-allowed",
            format!(
                "only processor {only} may be used: client and server take turns on it, so nobody spins, and each call \
                 costs two \
                 switches, some microseconds instead of a tenth of one"
            ),
            cure,
        );
        return;
    }
    let of = match allowed.len() < online.len() {
        true => format!(" of {}, by an affinity or a cpuset, which is respected", as_list(&online)),
        false => String::new(),
    };
    report.ok(Processors, "processors-allowed", format!("processors {list}{of} may be used"));
}

/// Processor time that a control group allows, in thousandths of a processor, and the period in microseconds.
fn allowance(files: &KernelFiles) -> Option<(u64, u64)> {
    let groups = files.control_groups("cpu");
    let second = groups.iter().filter_map(|group| {
        let text = files.text(group.join("cpu.max"))?;
        let (quota, period) = text.split_once(' ')?;
        Some((quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?))
    });
    let first = groups.iter().filter_map(|group| {
        Some((files.number(group.join("cpu.cfs_quota_us"))?, files.number(group.join("cpu.cfs_period_us"))?))
    });
    let allowances = second.chain(first).filter(|(_, period)| *period > 0);
    allowances.map(|(quota, period)| (quota.saturating_mul(1000) / period, period)).min()
}

fn quota(files: &KernelFiles, report: &mut Report) {
    let Some((thousandths, period_us)) = allowance(files) else { return };
    report.note(
        Processors,
        "processors-quota",
        format!(
            "a control group allows {}.{:02} processors in each {} ms: a thread that spins uses it up, and then all \
             threads of the \
             group stand still for up to that long",
            thousandths / 1000,
            thousandths % 1000 / 10,
            period_us.div_ceil(1000)
        ),
        "allow more (CPUQuota= in a unit of systemd, --cpus of a container), or wait with Wait::Park, which never \
         spins",
    );
}

fn isolation(files: &KernelFiles, allowed: &[usize], report: &mut Report) {
    let isolated = files.processors("/sys/devices/system/cpu/isolated").unwrap_or_default();
    let quiet = files.processors("/sys/devices/system/cpu/nohz_full").unwrap_or_default();
    let used: Vec<usize> = allowed.iter().copied().filter(|processor| isolated.contains(processor)).collect();
    if isolated.is_empty() {
        report.ok(
            Processors,
            "processors-isolation",
            "no processor is isolated (isolcpus=, nohz_full=): others run there too, which only the steadiest \
             latencies mind",
        );
    } else if used.len() > 1 {
        report.note(
            Processors,
            "processors-isolation",
            format!(
                "of the processors that may be used, {} are isolated: the kernel does not move threads between them, \
                 so that all may \
                 end up on one",
                as_list(&used)
            ),
            "pin each thread that serves or calls to one of them (taskset, sched_setaffinity)",
        );
    } else {
        let ticks = if quiet.is_empty() { "no processor is" } else { &format!("{} are", as_list(&quiet)) };
        report.ok(
            Processors,
            "processors-isolation",
            format!("processors {} are isolated, {ticks} without ticks (nohz_full)", as_list(&isolated)),
        );
    }
}

fn clock_rate(files: &KernelFiles, allowed: &[usize], report: &mut Report) {
    let governor = |processor: &usize| {
        Some((*processor, files.text(format!("/sys/devices/system/cpu/cpu{processor}/cpufreq/scaling_governor"))?))
    };
    let all: Vec<(usize, String)> = allowed.iter().filter_map(governor).collect();
    let slow: Vec<usize> =
        all.iter().filter(|(_, name)| name != "performance").map(|(processor, _)| *processor).collect();
    if all.is_empty() {
        report.ok(Processors, "processors-governor", "who decides about the clock rate is not visible here");
    } else if slow.is_empty() {
        report.ok(Processors, "processors-governor", "the clock rate is kept high (governor performance)");
    } else {
        let mut names: Vec<&str> =
            all.iter().map(|(_, name)| name.as_str()).filter(|name| *name != "performance").collect();
        names.sort_unstable();
        names.dedup();
        report.note(
            Processors,
            "processors-governor",
            format!(
                "the clock rate of processors {} is lowered when they are idle (governor {})",
                as_list(&slow),
                names.join(", ")
            ),
            "for steady latencies: cpupower frequency-set -g performance",
        );
    }
}

fn sleep_states(files: &KernelFiles, allowed: &[usize], report: &mut Report) {
    let Some(processor) = allowed.first() else { return };
    let states = (0..16).map(|state| format!("/sys/devices/system/cpu/cpu{processor}/cpuidle/state{state}"));
    let used = states.filter(|state| files.number(format!("{state}/disable")).unwrap_or(0) == 0);
    let deepest = used.filter_map(|state| files.number(format!("{state}/latency"))).max().unwrap_or(0);
    if deepest > SLEEP_LATENCY_US {
        report.note(
            Processors,
            "processors-sleep",
            format!("an idle processor needs up to {deepest} us to wake up from its deepest state"),
            format!("where sleepers must wake quickly: cpupower idle-set -D {}", SLEEP_LATENCY_US / 2),
        );
    }
}

fn virtual_machine(files: &KernelFiles, whose: &str, report: &mut Report) {
    if !whose.starts_with("yes") {
        report.ok(Processors, "processors-virtual", "this is no virtual machine, as far as can be seen");
        return;
    }
    // user nice system idle iowait irq softirq steal (proc(5), /proc/stat)
    let line = files.text("/proc/stat").unwrap_or_default();
    let times: Vec<u64> = line
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|time| time.parse().ok())
        .collect();
    let (busy, stolen) = (times.iter().sum::<u64>(), times.get(7).copied().unwrap_or(0));
    // Idle time cannot be stolen.
    let wanted = busy.saturating_sub(times.get(3).copied().unwrap_or(0)).max(1);
    let share = stolen * 1000 / wanted;
    let fact = format!(
        "this is a virtual machine: waking a sleeper on another processor may take tens of microseconds; {}.{} % of \
         the time it wanted \
         to run, others ran",
        share / 10,
        share % 10
    );
    match stolen.saturating_mul(STOLEN_SHARE) > wanted {
        true => report.note(
            Processors,
            "processors-virtual",
            fact,
            "give its processors to it alone on the host (pinning, no overcommitment); a spinning peer may be not \
             running",
        ),
        false => report.ok(Processors, "processors-virtual", fact),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::kernel_files::tests::planted;
    use super::*;

    /// What one part says of these files.
    fn told(files: &[(&str, &str)], part: impl FnOnce(&KernelFiles, &mut Report)) -> (Vec<Level>, String) {
        let (_root, files) = planted(files);
        let mut report = Report::default();
        part(&files, &mut report);
        (report.findings.iter().map(|finding| finding.level).collect(), report.text())
    }

    #[test]
    fn one_processor_is_told_with_what_it_costs() {
        let online = [("/sys/devices/system/cpu/online", "0-3")];
        let (levels, text) = told(&online, |files, report| affinity(files, &[2], report));
        assert_eq!(levels, [Level::Note]);
        assert!(text.contains("only processor 2") && text.contains("taskset -c 0-3"), "{text}");
        let (levels, text) = told(&online, |files, report| affinity(files, &[2, 3], report));
        assert_eq!(levels, [Level::Ok]);
        assert!(text.contains("2-3 of 0-3"), "{text}");
    }

    #[test]
    fn a_quota_is_told_whichever_version_has_it() {
        let mounts = "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 none rw\n2 1 0:2 / /cpu rw - cgroup none rw,cpu";
        let group = ("/proc/self/cgroup", "1:cpu:/\n0::/a/b");
        let common = [("/proc/self/mountinfo", mounts), group];
        let with = |more: &[(&'static str, &'static str)]| told(&[&common, more].concat(), quota);
        assert_eq!(with(&[("/sys/fs/cgroup/a/b/cpu.max", "max 100000"), ("/cpu/cpu.cfs_quota_us", "-1")]).0, []);
        let (levels, text) =
            with(&[("/sys/fs/cgroup/a/b/cpu.max", "max 100000"), ("/sys/fs/cgroup/a/cpu.max", "150000 100000")]);
        assert_eq!(levels, [Level::Note]);
        assert!(text.contains("1.50 processors in each 100 ms"), "{text}");
        let (_, text) = with(&[("/cpu/cpu.cfs_quota_us", "5000"), ("/cpu/cpu.cfs_period_us", "10000")]);
        assert!(text.contains("0.50 processors in each 10 ms"), "{text}");
    }

    #[test]
    fn isolated_processors_want_pinning() {
        let isolated = [("/sys/devices/system/cpu/isolated", "2-3"), ("/sys/devices/system/cpu/nohz_full", "2-3")];
        assert_eq!(told(&isolated, |files, report| isolation(files, &[0, 1], report)).0, [Level::Ok]);
        let (levels, text) = told(&isolated, |files, report| isolation(files, &[0, 1, 2, 3], report));
        assert!(levels == [Level::Note] && text.contains("2-3 are isolated"), "{text}");
        assert_eq!(told(&[], |files, report| isolation(files, &[0, 1], report)).0, [Level::Ok]);
    }

    #[test]
    fn clock_rates_and_sleep_states_are_looked_at() {
        let governor = |name: &'static str| [("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", name)];
        let levels = |name| told(&governor(name), |files, report| clock_rate(files, &[0, 1], report)).0;
        assert_eq!((levels("performance"), levels("powersave")), (vec![Level::Ok], vec![Level::Note]));
        let states = [
            ("/sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "2"),
            ("/sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "890"),
        ];
        let (levels, text) = told(&states, |files, report| sleep_states(files, &[0], report));
        assert!(levels == [Level::Note] && text.contains("890 us"), "{text}");
        let disabled = [&states[..], &[("/sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "1")]].concat();
        assert_eq!(told(&disabled, |files, report| sleep_states(files, &[0], report)).0, []);
    }

    #[test]
    fn stolen_time_is_told() {
        let stat = [("/proc/stat", "cpu  100 0 100 9000 0 0 0 50 0 0\ncpu0 1")];
        let (levels, text) = told(&stat, |files, report| virtual_machine(files, "yes (of somebody)", report));
        assert!(levels == [Level::Note] && text.contains("20.0 %"), "{text}");
        let stat = [("/proc/stat", "cpu  1000 0 1000 9000 0 0 0 2 0 0")];
        assert_eq!(told(&stat, |files, report| virtual_machine(files, "yes", report)).0, [Level::Ok]);
        assert_eq!(told(&[], |files, report| virtual_machine(files, "no sign of it", report)).0, [Level::Ok]);
    }
}
