//! A memory cgroup of a goal's own (cgroups(7), version 1): made for one process, gone when it is dropped.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

const ROOT: &str = "/sys/fs/cgroup/memory";

/// The cgroup.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one that may hold so many bytes, swap included. An error says why this machine does not let us.
    pub fn new(limit: usize) -> anyhow::Result<Cgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(ROOT).join(format!("wigwag-proof-{}-{number}", std::process::id()));
        anyhow::ensure!(PathBuf::from(ROOT).join("tasks").exists(), "there is no memory cgroup of version 1 at {ROOT}");
        std::fs::create_dir(&path).with_context(|| format!("cannot make a cgroup at {ROOT}"))?;
        let cgroup = Cgroup(path);
        cgroup.write("memory.limit_in_bytes", &limit.to_string())?;
        // Absent where swap is not accounted.
        let _ = cgroup.write("memory.memsw.limit_in_bytes", &limit.to_string());
        Ok(cgroup)
    }

    /// Moves a process into it. What it touched before stays charged elsewhere.
    pub fn take(&self, pid: u32) -> anyhow::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Bytes charged now.
    pub fn usage(&self) -> anyhow::Result<usize> {
        self.read("memory.usage_in_bytes")
    }

    /// The most bytes that were ever charged at a time.
    pub fn peak(&self) -> anyhow::Result<usize> {
        self.read("memory.max_usage_in_bytes")
    }

    fn read(&self, file: &str) -> anyhow::Result<usize> {
        let path = self.0.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.trim().parse()?)
    }

    fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let path = self.0.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its process has been waited for, but the kernel may not have taken it out yet.
        let begin = Instant::now();
        while std::fs::remove_dir(&self.0).is_err() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
