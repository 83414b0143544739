//! What a process holds, and that it holds no more in the end.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wigwag_testing::Snapshot;

/// What a process held at one moment.
#[derive(Clone, Debug)]
pub struct Holding {
    snapshot: Snapshot,
    /// All its mappings.
    pub maps: u64,
    /// KiB of sessions' memory that it has touched.
    pub shmem_kib: u64,
    /// KiB of its own memory: heap and stacks.
    pub own_kib: u64,
    /// KiB of all that it has in memory.
    pub rss_kib: u64,
}

impl Holding {
    /// Looks at a process. The kernel walks its page tables for that: the numbers are exact.
    pub fn of(pid: u32) -> Holding {
        let mut holding = Holding { snapshot: Snapshot::of(pid), maps: 0, shmem_kib: 0, own_kib: 0, rss_kib: 0 };
        let smaps = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/smaps"))).expect("the process is there");
        let mut is_of_session = false;
        for line in smaps.lines() {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            let kib = || rest.trim_start().trim_end_matches(" kB").parse().unwrap_or(0);
            match key {
                "Rss:" => {
                    holding.rss_kib += kib();
                    holding.shmem_kib += if is_of_session { kib() } else { 0 };
                }
                "Anonymous:" => holding.own_kib += kib(),
                _ if !key.ends_with(':') => {
                    holding.maps += 1;
                    is_of_session = line.contains("memfd:wigwag");
                }
                _ => {}
            }
        }
        holding
    }

    /// Looks at a process once it holds that many sessions' memory, and the same of everything for a while.
    pub fn when_settled(pid: u32, segments: usize) -> Holding {
        Snapshot::when_settled(pid, segments);
        Holding::of(pid)
    }

    /// Descriptors of all kinds.
    pub fn descriptors(&self) -> u64 {
        self.snapshot.descriptors.values().sum::<usize>() as u64
    }

    /// Sessions' memory, mapped.
    pub fn segments(&self) -> usize {
        self.snapshot.segments
    }

    /// What there is more of, or less, than there was before.
    pub fn difference(&self, before: &Holding) -> Option<String> {
        let (now, then) = (&self.snapshot, &before.snapshot);
        let mut parts = Vec::new();
        for (what, now, then) in
            [("descriptors", &now.descriptors, &then.descriptors), ("threads", &now.threads, &then.threads)]
        {
            let kinds: std::collections::BTreeSet<_> = now.keys().chain(then.keys()).collect();
            for kind in kinds {
                let count = |of: &std::collections::BTreeMap<String, usize>| of.get(kind).copied().unwrap_or(0);
                if count(now) != count(then) {
                    parts.push(format!("{what} {kind}: {} where {} were", count(now), count(then)));
                }
            }
        }
        if now.segments != then.segments {
            parts.push(format!("segments: {} where {} were", now.segments, then.segments));
        }
        if self.shmem_kib > before.shmem_kib {
            parts.push(format!("shared memory: {} KiB where {} were", self.shmem_kib, before.shmem_kib));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Waits until a process holds what it held then.
    pub fn is_back(&self, who: &str, pid: u32, within: Duration) -> Result<Duration, String> {
        let begin = Instant::now();
        loop {
            match Holding::of(pid).difference(self) {
                None => return Ok(begin.elapsed()),
                Some(difference) if begin.elapsed() > within => {
                    return Err(format!("{who} has leaked, {within:?} after all was quiet: {difference}"));
                }
                Some(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// How long a thread has waited for a processor while it could have run, as the kernel counts it.
pub struct Queueing(Option<fs::File>);

impl Queueing {
    /// Of the calling thread. Where the kernel does not count, it is always none.
    pub fn of_this_thread() -> Queueing {
        Queueing(fs::File::open("/proc/thread-self/schedstat").ok())
    }

    /// In nanoseconds, since the thread began.
    pub fn ns(&self) -> u64 {
        use std::os::unix::fs::FileExt as _;
        let mut text = [0; 80];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
        text.split(' ').nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0)
    }
}

/// Waits until something is so; `false` when it never is.
pub fn comes_true(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}
