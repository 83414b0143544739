//! What a process has used up: processor time and context switches, read from outside without disturbing it.

use std::ops::Sub;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::clock::SECOND;

/// The consumption of one process, all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in nanoseconds, user and system.
    pub cpu: u64,
    /// Context switches, voluntary and not.
    pub switches: u64,
}

impl Usage {
    /// What a process has used since it started. The processor time comes from the process's own clock: exact for
    /// this process and for one that sleeps; of one that runs on another processor the kernel knows the last tick,
    /// up to some milliseconds ago. Over the time of a phase the two borders' errors are small and go both ways.
    pub fn of(process: i32) -> anyhow::Result<Usage> {
        let clock = clock_getcpuclockid(Pid::from_raw(process)).context("the process has no clock")?;
        let time = ClockId::now(clock).context("the clock of the process cannot be read")?;
        let own = u32::try_from(process) == Ok(std::process::id());
        let switches = if own { own_switches()? } else { switches(process)? };
        Ok(Usage { cpu: time.tv_sec() as u64 * SECOND + time.tv_nsec() as u64, switches })
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, earlier: Usage) -> Usage {
        Usage { cpu: self.cpu.saturating_sub(earlier.cpu), switches: self.switches.saturating_sub(earlier.switches) }
    }
}

/// The context switches of this process, threads that have ended included.
fn own_switches() -> anyhow::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("this process cannot be looked at")?;
    let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
    Ok(u64::try_from(switches)?)
}

/// The context switches of all living threads of another process. A server's threads live as long as it does.
fn switches(process: i32) -> anyhow::Result<u64> {
    let mut total = 0;
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).context("the process is gone")?;
    for thread in threads {
        // A thread may end between the listing and the reading.
        let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) else { continue };
        let counts = status.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.ends_with("voluntary_ctxt_switches").then(|| value.trim().parse::<u64>().ok())?
        });
        total += counts.sum::<u64>();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_a_switch_and_hardly_any_time() {
        let process = std::process::id() as i32;
        let before = Usage::of(process).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
        let used = Usage::of(process).unwrap() - before;
        assert!(used.switches >= 1);
        assert!(used.cpu > 0);
    }

    #[test]
    fn another_process_is_seen_as_well() {
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = i32::try_from(other.id()).unwrap();
        let mut seen = Usage::of(process).unwrap();
        while seen.switches == 0 {
            std::thread::yield_now();
            seen = Usage::of(process).unwrap();
        }
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(Usage::of(process).is_err());
    }
}
