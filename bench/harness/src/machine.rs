//! What a run was made on, as far as the kernel tells: figures mean nothing without it.

use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Serialize};

/// A machine, in words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// How the first two of them are related.
    pub kinship: String,
    /// The kernel.
    pub kernel: String,
    /// The governor of the clock rate.
    pub governor: String,
    /// Whether it is a virtual machine, and whose.
    pub virtual_machine: String,
    /// Bytes of memory.
    pub memory: u64,
    /// What ran on it in the minute before.
    pub load: String,
    /// The day.
    pub day: String,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Machine {
        let cpuinfo = read("/proc/cpuinfo");
        let kernel = rustix::system::uname();
        let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        Machine {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: (0..CpuSet::MAX_CPU).filter(|index| allowed.is_set(*index)).count(),
            kinship: kinship(),
            kernel: format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy()),
            governor: known(read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
                .unwrap_or("not visible".into()),
            virtual_machine: virtual_machine(&cpuinfo),
            memory: kibibytes(&read("/proc/meminfo"), "MemTotal").unwrap_or(0),
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or("unknown").to_owned(),
            day: today(),
        }
    }
}

fn read(path: impl AsRef<Path>) -> String {
    // What a kernel does not say is left out.
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn known(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn field(text: &str, name: &str) -> Option<String> {
    let (_, value) = text.lines().find(|line| line.starts_with(name))?.split_once(':')?;
    known(value.trim().to_owned())
}

/// A field of `/proc/meminfo` and its like, in bytes.
pub fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = field(text, name)?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn kinship() -> String {
    let siblings = read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list");
    match siblings.as_str() {
        "" => "not visible".to_owned(),
        "0" => "processor 0 is a core of its own, says the kernel".to_owned(),
        shared => format!("processors {shared} are threads of one core, says the kernel"),
    }
}

fn virtual_machine(cpuinfo: &str) -> String {
    let flagged =
        field(cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let product = [read("/sys/class/dmi/id/sys_vendor"), read("/sys/class/dmi/id/product_name")].join(" ");
    match (flagged, known(product.trim().to_owned())) {
        (true, Some(product)) => format!("yes ({product})"),
        (true, None) => "yes".to_owned(),
        (false, _) => "no sign of it".to_owned(),
    }
}

/// Today's date in UTC.
fn today() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |past| past.as_secs());
    let seconds = seconds as libc::time_t;
    // SAFETY: both point to values that live through the call, which fills the second; all zeros are a valid `tm`.
    let date = unsafe {
        let mut date: libc::tm = std::mem::zeroed();
        libc::gmtime_r(&seconds, &mut date);
        date
    };
    format!("{:04}-{:02}-{:02}", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_says_what_it_is() {
        let machine = Machine::here();
        assert!(machine.processors > 0 && machine.memory > 1 << 20, "{machine:?}");
        assert!(machine.kernel.starts_with("Linux "), "{machine:?}");
        assert_eq!(machine.day.len(), 10, "{machine:?}");
    }

    #[test]
    fn fields_of_proc_are_read() {
        assert_eq!(kibibytes("Rss:  12 kB\nPss:     3 kB\n", "Pss"), Some(3072));
        assert_eq!(kibibytes("Rss: 12 kB", "Pss"), None);
    }
}
